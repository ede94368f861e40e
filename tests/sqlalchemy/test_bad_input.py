"""What goes wrong from outside: bad values, bad schemas, bad luck. Every error is ours, typed, and tells no person.

The table FAULTS is measured, not wished: it says what each database leaves of the host's transaction.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from attrs import evolve, frozen
from sqlalchemy import Connection, create_engine, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tests.sqlalchemy.conftest import Place
from tests.support.backends import ONE_PER_DATABASE, SQL_BACKENDS, Backend
from tests.support.waiting import until_somebody_waits
from tests.support.whaticket import DATABASES
from ticketrouter import (
    ConflictError,
    ContentionError,
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Reason,
    RepositoryError,
    Ticket,
    TicketKey,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.decisions import Reuse, Unread
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.testing import Store

CANARY = 5511987654321
"""A telephone number: personal data, which no text of an error may hold."""
MESSAGE = InboundMessage(1, CANARY, 10)

every_database = pytest.mark.parametrize("database", DATABASES)


@pytest.fixture
def mapping(place: Place) -> TicketMapping:
    """Our own tables."""
    mapping = TicketMapping.own()
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
    return mapping


def router(connection: Any, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(connection, mapping))


def assert_tells_nobody(error: BaseException) -> None:
    """No text of ours tells the contact; those of the cause are the database's (see docs/reference/errors.md)."""
    alone = "".join(traceback.format_exception(error, chain=False))
    assert str(CANARY) not in str(error) + repr(error) + alone


# --- values -------------------------------------------------------------------------------------------------

BAD_IDS = [
    pytest.param(2**63, id="over 64 bits"),
    pytest.param(-(2**63) - 1, id="under 64 bits"),
    pytest.param("a\0b", id="NUL"),
    pytest.param("a\ud800", id="a lone surrogate"),
    pytest.param("", id="empty"),
    pytest.param("x" * 251, id="too long"),
    pytest.param(True, id="a bool"),
    pytest.param(1.0, id="a float"),
    pytest.param(b"1", id="bytes"),
    pytest.param(None, id="None"),
]
BACKENDS = (Backend("memory", "memory", ""), *ONE_PER_DATABASE)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
@pytest.mark.parametrize("bad", BAD_IDS)
def test_a_bad_id_is_refused_the_same_everywhere(store: Store, bad: Any) -> None:
    """No operation of the router lets a bad id through to any back end, and each names field and value."""
    with store.transaction() as repository:
        router = TicketRouter(repository)
        made = router.resolve(InboundMessage(1, "c", 10)).ticket
        attempts: dict[str, Callable[[], object]] = {
            "company_id": lambda: router.close(bad, made.id),
            "ticket_id": lambda: router.close(1, bad),
            "user_id": lambda: router.accept(1, made.id, bad),
            "connection_id": lambda: router.transfer(1, made.id, bad),
            "contact_id": lambda: router.active_tickets(1, bad),
        }
        for name, attempt in attempts.items():
            with pytest.raises(InvalidMessageError) as error:
                attempt()

            assert name == error.value.field
            assert (type(bad), bad) == (type(error.value.value), error.value.value)
            assert not error.value.retryable
        for name in ("company_id", "contact_id", "connection_id"):
            with pytest.raises(InvalidMessageError) as error:
                InboundMessage(**({"company_id": 1, "contact_id": 1, "connection_id": 1} | {name: bad}))

            assert name == error.value.field

    assert [made] == store.tickets()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_a_clock_without_a_zone_is_refused_the_same_everywhere(store: Store) -> None:
    """A naive time is refused before anything is written, whether of the message or of the clock."""
    naive = datetime.fromisoformat("2026-11-23T12:00:00")
    with store.transaction() as repository:
        with pytest.raises(InvalidMessageError, match="clock must be a datetime with a time zone"):
            TicketRouter(repository, clock=lambda: naive).resolve(MESSAGE)
        with pytest.raises(InvalidMessageError, match="sent_at must be a datetime with a time zone"):
            InboundMessage(1, 1, 1, sent_at=naive)

    assert [] == store.tickets()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
@pytest.mark.parametrize("count", [-1, True, 1.0, "1", 10**9 + 1])
def test_a_bad_count_is_refused_the_same_everywhere(store: Store, count: Any) -> None:
    """A count of unread messages is a whole number that 32 bits hold, with room to count on."""
    with pytest.raises(InvalidMessageError, match="unread_messages must be"):
        InboundMessage(1, 1, 1, unread_messages=count)
    with store.transaction() as repository:
        highest = TicketRouter(repository).resolve(InboundMessage(1, 1, 1, unread_messages=10**9)).ticket
        more = TicketRouter(repository).resolve(InboundMessage(1, 1, 1)).ticket

    assert (10**9, 10**9 + 1) == (highest.unread_messages, more.unread_messages)


NASTY = [
    "'; DROP TABLE ticketrouter_tickets; --",
    "%s",
    ":x",
    "a\\",
    "\N{ZERO WIDTH SPACE}",
    "\n",
    " ",
    "\U0001f600",
]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
@pytest.mark.parametrize("nasty", NASTY)
def test_a_nasty_id_is_only_an_id(store: Store, nasty: str) -> None:
    """What would be code, a place-holder or nothing at all in a careless statement is kept as it is."""
    with store.transaction() as repository:
        router = TicketRouter(repository)
        made = router.resolve(InboundMessage(nasty, nasty, nasty, message_id=nasty)).ticket
        again = router.resolve(InboundMessage(nasty, nasty, nasty, message_id=nasty))

    assert TicketKey(nasty, nasty, nasty) == made.key
    assert Outcome.DUPLICATE is again.outcome
    assert [made] == store.tickets()


# --- schemas ------------------------------------------------------------------------------------------------


@every_database
def test_a_table_that_is_not_there_is_told(place: Place) -> None:
    """The first message tells which table to create, and the host's transaction goes on."""
    mapping = TicketMapping.own(prefix="none_")
    with place.begin() as connection:
        with pytest.raises(
            MappingError, match=r"no table none_tickets: create it .*metadata\.create_all"
        ) as error:
            router(connection, mapping).resolve(MESSAGE)

        assert 1 == connection.execute(select(1)).scalar_one()
    assert not error.value.retryable
    with place.begin() as connection:
        mapping.metadata.create_all(connection)

        assert Outcome.CREATED is router(connection, mapping).resolve(MESSAGE).outcome


@every_database
@pytest.mark.parametrize("what", ["tickets", "message_ids"])
def test_a_table_that_is_dropped_later_is_told(place: Place, mapping: TicketMapping, what: str) -> None:
    """A table that goes while a connection is in use is an error of ours.

    The driver's is its cause; on SQLite, where the transaction goes on, we look again and name the table.
    """
    again = place.database == "sqlite"
    kind, words = (
        (MappingError, f"ticketrouter_{what}") if again else (RepositoryError, "the database refused")
    )
    with place.engine.connect() as connection:
        router(connection, mapping).resolve(MESSAGE)
        connection.commit()
        connection.execute(text(f"DROP TABLE ticketrouter_{what}"))
        connection.commit()
        with pytest.raises(kind, match=words) as error:
            router(connection, mapping).resolve(evolve(MESSAGE, message_id="m"))

    assert not error.value.retryable
    assert again or isinstance(error.value.__cause__, SQLAlchemyError)
    assert_tells_nobody(error.value)


@every_database
@pytest.mark.parametrize("what", ["tickets", "message_ids"])
def test_a_table_that_is_dropped_is_named_to_the_next_connection(
    place: Place, mapping: TicketMapping, what: str
) -> None:
    """Each connection asks anew: the error names the table to create, and made again it is used."""
    again = evolve(MESSAGE, message_id="m")
    with place.begin() as connection:
        router(connection, mapping).resolve(MESSAGE)
    with place.begin() as connection:
        connection.execute(text(f"DROP TABLE ticketrouter_{what}"))
    with place.begin() as connection:
        with pytest.raises(MappingError, match=f"ticketrouter_{what}.*: create it") as error:
            router(connection, mapping).resolve(again)

        assert 1 == connection.execute(select(1)).scalar_one()
    assert not error.value.retryable
    assert_tells_nobody(error.value)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        outcomes = [router(connection, mapping).resolve(again).outcome for _ in range(2)]

    first = Outcome.CREATED if what == "tickets" else Outcome.REUSED
    assert [first, Outcome.DUPLICATE] == outcomes


@every_database
def test_without_the_companion_of_message_ids_nothing_is_written(place: Place) -> None:
    """Where the table of message ids was never made, the error gives the statement that makes it."""
    mapping = TicketMapping.own()
    with place.begin() as connection:
        mapping.table.create(connection)
        with pytest.raises(MappingError, match="remember_messages=False") as error:
            router(connection, mapping).resolve(evolve(MESSAGE, message_id="m"))

        assert [] == connection.execute(select(mapping.table.c.id)).all()
        for statement in str(error.value).partition("\n")[2].rstrip().rstrip(";").split(";\n"):
            connection.execute(text(statement))
    with place.begin() as connection:
        first, again = (
            router(connection, mapping).resolve(evolve(MESSAGE, message_id="m")) for _ in range(2)
        )

    assert (Outcome.CREATED, Outcome.DUPLICATE) == (first.outcome, again.outcome)


@every_database
def test_where_no_message_is_remembered_a_host_dedupes_itself(place: Place) -> None:
    """By remember_messages=False no table of message ids is made, and a redelivery is a message like any other."""
    mapping = TicketMapping.own(remember_messages=False)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        first, again = (
            router(connection, mapping).resolve(evolve(MESSAGE, message_id="m")) for _ in range(2)
        )

        assert not inspect(connection).has_table("ticketrouter_message_ids")
    assert (Outcome.CREATED, Outcome.REUSED) == (first.outcome, again.outcome)


# --- bad luck -----------------------------------------------------------------------------------------------


class Left(Enum):
    """What is left of the host's transaction after an error."""

    GOES_ON = "it goes on, with all that the host wrote before"
    MUST_ROLL_BACK = "every further statement fails until the host rolls back"
    LOST_SILENTLY = "it was rolled back, and the connection goes on in a new one"
    NO_CONNECTION = "the connection is gone; after a rollback a new one is used"


@frozen
class Fault:
    """Something that goes wrong while a ticket is reused.

    Args:
        name: what it is called in a test's id.
        database: where.
        provoke: given the place, the mapping, the ticket and the host's connection, make it go wrong; what it
            yields to has the library's call as its body.
        error: the class of what comes out.
        code: what its text names, as a pattern.
        left: what is left of the transaction.
    """

    name: str
    database: str
    provoke: Callable[..., Any]
    error: type[TicketRouterError]
    code: str
    left: Left
    isolation: str | None = None


@contextmanager
def held(place: Place, mapping: TicketMapping, ticket: Ticket) -> Iterator[Connection]:
    """Another transaction has the ticket's row and does not let go."""
    with place.engine.connect() as other, other.begin() as transaction:
        change = mapping.table.update().where(mapping.table.c.id == ticket.id).values(queue_id=1)
        other.execute(change)
        yield other
        transaction.rollback()


@contextmanager
def waiting_for_a_lock(
    place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection
) -> Iterator[None]:
    settings = {
        "postgresql": "SET LOCAL lock_timeout = '20ms'",
        "mariadb": "SET SESSION innodb_lock_wait_timeout = 0",
    }
    host.execute(text(settings[place.database]))
    with held(place, mapping, ticket):
        yield


@contextmanager
def slow(place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection) -> Iterator[None]:
    settings = {
        "postgresql": "SET LOCAL statement_timeout = '20ms'",
        "mariadb": "SET SESSION max_statement_time = 0.02",
    }
    host.execute(text(settings[place.database]))
    with held(place, mapping, ticket):
        yield


@contextmanager
def deadlocked(place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection) -> Iterator[None]:
    """Another transaction has the ticket, and waits for what the host has."""
    with place.engine.connect() as other, other.begin() as transaction:
        if place.database == "postgresql":
            # Who looks first is the victim: that is to be the host.
            other.execute(text("SET LOCAL deadlock_timeout = '1h'"))
            host.execute(text("SET LOCAL deadlock_timeout = '1ms'"))
        else:
            # The victim is who has written less.
            other.execute(text("INSERT INTO weights (id) SELECT seq FROM seq_1_to_100"))
        other.execute(mapping.table.update().where(mapping.table.c.id == ticket.id).values(queue_id=1))
        wait = text("UPDATE work SET done = 2 WHERE id = 1")
        thread = threading.Thread(target=other.execute, args=[wait])
        thread.start()
        until_somebody_waits(place.engine)
        yield
        host.rollback()
        thread.join(30)
        transaction.rollback()


@contextmanager
def overtaken(place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection) -> Iterator[None]:
    """The host's snapshot is taken, then somebody else changes the ticket."""
    if place.database == "mariadb":
        host.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
    host.execute(select(mapping.table)).all()
    with place.begin() as other:
        other.execute(mapping.table.update().where(mapping.table.c.id == ticket.id).values(queue_id=1))
    yield


@contextmanager
def cut(place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection) -> Iterator[None]:
    questions = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
    }
    mine, kill = questions[place.database]
    number = host.execute(text(mine)).scalar_one()
    with place.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.execute(text(kill.format(number)))
    yield


@contextmanager
def forbidden(place: Place, mapping: TicketMapping, ticket: Ticket, host: Connection) -> Iterator[None]:
    """The host's role may read the tickets and no more."""
    with place.begin() as other:
        other.execute(text("DROP ROLE IF EXISTS reader"))
        other.execute(text("CREATE ROLE reader"))
        other.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    host.execute(text("SET LOCAL ROLE reader"))
    yield
    host.rollback()
    with place.begin() as other:
        other.execute(text("DROP OWNED BY reader"))
        other.execute(text("DROP ROLE reader"))


FAULTS = (
    Fault("lock timeout", "postgresql", waiting_for_a_lock, ContentionError, "55P03", Left.MUST_ROLL_BACK),
    Fault("lock timeout", "mariadb", waiting_for_a_lock, ContentionError, "1205", Left.GOES_ON),
    Fault("statement timeout", "postgresql", slow, RepositoryError, "57014", Left.MUST_ROLL_BACK),
    Fault("statement timeout", "mariadb", slow, RepositoryError, "1969", Left.GOES_ON),
    Fault("deadlock", "postgresql", deadlocked, ContentionError, "40P01", Left.MUST_ROLL_BACK),
    Fault("deadlock", "mariadb", deadlocked, ContentionError, "1213", Left.LOST_SILENTLY),
    Fault(
        "serialization failure",
        "postgresql",
        overtaken,
        ContentionError,
        "40001",
        Left.MUST_ROLL_BACK,
        "REPEATABLE READ",
    ),
    Fault("record has changed", "mariadb", overtaken, ContentionError, "1020", Left.LOST_SILENTLY),
    Fault("no privilege", "postgresql", forbidden, RepositoryError, "42501", Left.MUST_ROLL_BACK),
    Fault("connection cut", "postgresql", cut, RepositoryError, "57P01", Left.NO_CONNECTION),
    Fault("connection cut", "mariadb", cut, RepositoryError, "2006|2013", Left.NO_CONNECTION),
)
RETRYABLE = {
    "lock timeout",
    "statement timeout",
    "deadlock",
    "serialization failure",
    "record has changed",
    "connection cut",
}


@pytest.mark.parametrize(
    ("database", "fault"), [pytest.param(f.database, f, id=f"{f.database}-{f.name}") for f in FAULTS]
)
def test_a_fault_is_ours_and_leaves_what_the_database_leaves(
    place: Place, mapping: TicketMapping, fault: Fault
) -> None:
    """Each fault has its class, its code, its retryable and its cause, and names no person."""
    ticket = prepared(place, mapping)
    options = {} if fault.isolation is None else {"isolation_level": fault.isolation}
    left = []
    with place.engine.connect().execution_options(**options) as host:
        host.execute(text("UPDATE work SET done = 1 WHERE id = 1"))
        repository = SQLAlchemyTicketRepository(host, mapping)
        repository.get(1, ticket.id)
        with fault.provoke(place, mapping, ticket, host):
            with pytest.raises(TicketRouterError) as error:
                repository.commit(
                    Reuse(ticket, datetime.now(UTC), Reason.ACTIVE_ON_CONNECTION, Unread(add=1))
                )
            left.append(what_is_left(host))
        host.rollback()
        # Whatever it was, after a rollback the host's connection is good again.
        again = router(host, mapping).resolve(MESSAGE)

    assert fault.error is type(error.value)
    assert re.search(rf"\(code ({fault.code})\)", str(error.value))
    assert (fault.name in RETRYABLE) is error.value.retryable
    assert isinstance(error.value.__cause__, DBAPIError)
    assert_tells_nobody(error.value)
    assert [fault.left] == left
    assert Outcome.REUSED is again.outcome


def prepared(place: Place, mapping: TicketMapping) -> Ticket:
    """A ticket, and a row of the host's own work."""
    with place.begin() as connection:
        connection.execute(text("CREATE TABLE work (id INTEGER PRIMARY KEY, done INTEGER)"))
        connection.execute(text("CREATE TABLE weights (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO work VALUES (1, 0)"))
        return router(connection, mapping).resolve(MESSAGE).ticket


def what_is_left(host: Connection) -> Left:
    try:
        done = host.execute(text("SELECT done FROM work WHERE id = 1")).scalar_one()
    except SQLAlchemyError:
        return Left.NO_CONNECTION if host.invalidated else Left.MUST_ROLL_BACK
    return Left.GOES_ON if done == 1 else Left.LOST_SILENTLY


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_busy_sqlite_is_contention(place: Place, mapping: TicketMapping) -> None:
    """Where another connection writes, the error is ours and says that all may be run again."""
    with place.begin() as connection:
        router(connection, mapping).resolve(MESSAGE)
    engine = create_engine(place.url, poolclass=NullPool, connect_args={"timeout": 0})
    configure_sqlite(engine, busy_timeout=0)
    complaint = pytest.raises(ContentionError, match=r"\(code 5\)")
    with place.begin(), engine.connect() as host, complaint as error:
        router(host, mapping).resolve(MESSAGE)

    assert error.value.retryable
    assert_tells_nobody(error.value)


@pytest.mark.parametrize("database", ["mariadb"])
def test_a_user_without_the_privilege_is_told(place: Place, mapping: TicketMapping) -> None:
    """On MariaDB too a forbidden statement is an error of ours, after which the transaction goes on."""
    with place.begin() as connection:
        router(connection, mapping).resolve(MESSAGE)
        connection.execute(text("CREATE OR REPLACE USER reader IDENTIFIED BY ''"))
        connection.execute(text(f"GRANT SELECT ON {place.url.database}.* TO reader"))
    engine = create_engine(place.url.set(username="reader"), poolclass=NullPool)
    with engine.connect() as host:
        with pytest.raises(RepositoryError, match=r"\(code 1142\)") as error:
            router(host, mapping).resolve(MESSAGE)

        assert 1 == len(router(host, mapping).active_tickets(1, CANARY))
    assert not error.value.retryable
    assert_tells_nobody(error.value)


@pytest.mark.parametrize(
    ("backend", "database"),
    [pytest.param(b, b.database, id=b.name) for b in SQL_BACKENDS if b.database != "sqlite"],
)
def test_a_lost_connection_is_known_on_every_driver(
    place: Place, mapping: TicketMapping, backend: Backend
) -> None:
    """Whatever the driver raises when its connection is cut, we say that it is lost, and may be run again."""
    with place.begin() as connection:
        router(connection, mapping).resolve(MESSAGE)
    mine, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[place.database]
    with place.store(backend, mapping) as store:

        def route() -> None:
            with store.connection() as host:
                answer = host.execute(text(mine))
                number = (store.run(answer) if backend.is_async else answer).scalar_one()
                with place.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
                    other.execute(text(kill.format(number)))
                TicketRouter(store.repository(host)).resolve(MESSAGE)

        with pytest.raises(RepositoryError, match="the connection to the database is lost") as error:
            route()

        assert error.value.retryable
        assert_tells_nobody(error.value)
        with store.transaction() as repository:
            assert Outcome.REUSED is TicketRouter(repository).resolve(MESSAGE).outcome


@every_database
def test_no_error_of_ours_names_a_person(place: Place, mapping: TicketMapping) -> None:
    """Conflicts, give-ups and refusals name tickets and connections, never the contact."""
    with place.begin() as connection:
        repository = SQLAlchemyTicketRepository(connection, mapping)
        routing = TicketRouter(repository)
        ticket = routing.resolve(MESSAGE).ticket
        attempts: list[Callable[[], object]] = [
            lambda: routing.open(ticket.key),
            lambda: routing.accept(1, routing.close(1, ticket.id).id, 7),
            lambda: repository.commit(Reuse(ticket, ticket.updated_at, Reason.ACTIVE_ON_CONNECTION)),
            lambda: routing.close(2, ticket.id),
            lambda: TicketRouter(_Overtaken(repository)).resolve(MESSAGE),
        ]
        for attempt in attempts:
            with pytest.raises(TicketRouterError) as error:
                attempt()

            assert_tells_nobody(error.value)


class _Overtaken:
    """A repository whose every write has lost."""

    def __init__(self, repository: SQLAlchemyTicketRepository) -> None:
        self.statuses, self.load, self.get = repository.statuses, repository.load, repository.get

    def commit(self, decision: Any) -> Ticket:
        raise ConflictError("the key was taken meanwhile")
