"""Hosts whose tables, drivers and transactions are not as one would have made them: seen by a hostile reader."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import OperationalError

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from tests.support.races import Cell, racetrack
from ticketrouter import (
    ActiveTicketExistsError,
    ConflictError,
    ContentionError,
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
    is_retryable,
)

MESSAGE = InboundMessage(1, "a", 10)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)


class Status(enum.Enum):
    OPEN = "o"
    PENDING = "p"
    CLOSED = "c"


def a_table(**columns: Any) -> Table:
    usual: dict[str, Any] = {
        "id": Column("id", Integer, primary_key=True),
        "company_id": Column("company_id", Integer, nullable=False),
        "contact_id": Column("contact_id", String(50), nullable=False),
        "connection_id": Column("connection_id", Integer, nullable=False),
        "status": Column("status", String(20), nullable=False),
        "created_at": Column("created_at", DateTime, nullable=False),
        "updated_at": Column("updated_at", DateTime, nullable=False),
        "closed_at": Column("closed_at", DateTime),
    }
    return Table("desk", MetaData(), *(usual | columns).values())


def a_mapping(table: Table, **options: Any) -> TicketMapping:
    absent: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "user_id", "queue_id"))
    return TicketMapping(table, **(absent | options))


@contextmanager
def made(databases: Databases, backend: Backend, mapping: TicketMapping, **options: Any) -> Iterator[Engine]:
    url = databases.new(backend.database)
    engine = create_engine(url, **options)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    mapping.table.metadata.create_all(engine)
    mapping.metadata.create_all(engine)
    try:
        yield engine
    finally:
        engine.dispose()
        databases.drop(url)


def router(connection: Any, mapping: TicketMapping, policy: Policy | None = None) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(connection, mapping), policy or Policy())


@every_database
def test_a_status_of_members_is_read_by_its_words(databases: Databases, backend: Backend) -> None:
    """A column of a Python enum gives members; what they are stored as are the words of the scheme."""
    words = Enum(
        Status, values_callable=lambda of: [{"o": "open", "p": "pending", "c": "closed"}[m.value] for m in of]
    )
    mapping = a_mapping(a_table(status=Column("status", words, nullable=False)))
    with made(databases, backend, mapping) as engine:
        with engine.begin() as connection:
            ticket = router(connection, mapping).resolve(MESSAGE).ticket
            closed = router(connection, mapping).close(1, ticket.id)
        with engine.connect() as connection:
            stored = connection.execute(text("SELECT status FROM desk")).scalar_one()

    assert ("pending", "closed", "closed") == (ticket.status, closed.status, stored)


@every_database
def test_an_index_on_what_has_no_time_of_closing_is_not_the_rule(
    databases: Databases, backend: Backend
) -> None:
    """The host may give an active ticket a time of closing, and then a second one has room beside it."""
    key = "company_id, contact_id, connection_id"
    mapping = a_mapping(a_table())
    with made(databases, backend, mapping) as engine:
        with engine.begin() as connection:
            if backend.database == "mariadb":
                connection.execute(
                    text("ALTER TABLE desk ADD a INT AS (IF(closed_at IS NULL, 1, NULL)) VIRTUAL")
                )
                connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({key}, a)"))
            else:
                connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({key}) WHERE closed_at IS NULL"))
        with engine.begin() as connection:
            rule = detect_unique_rule(connection, mapping)
            first = router(connection, mapping).resolve(MESSAGE).ticket
            router(connection, mapping).close(1, first.id)
            second = router(connection, mapping).resolve(MESSAGE)

    assert (UniqueRule.NONE, Outcome.CREATED) == (rule, second.outcome)


@every_database
def test_a_row_that_was_never_changed_is_as_old_as_it_is(databases: Databases, backend: Backend) -> None:
    """An empty time of the last change is read as the time of creation."""
    mapping = a_mapping(a_table(updated_at=Column("updated_at", DateTime)))
    row = {"company_id": 1, "contact_id": "a", "connection_id": 10, "status": "open"}
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        connection.execute(mapping.table.insert().values(created_at=NOON.replace(tzinfo=None), **row))
        (ticket,) = router(connection, mapping).active_tickets(1, "a")
        joined = router(connection, mapping).resolve(MESSAGE)

    assert (NOON, Outcome.REUSED) == (ticket.updated_at, joined.outcome)


@every_database
def test_a_time_that_is_none_is_read_as_missing(databases: Databases, backend: Backend) -> None:
    """A number that no time can be is no reason to stop: the last change stands for it."""
    mapping = a_mapping(a_table(closed_at=Column("closed_at", BigInteger)))
    row = {"company_id": 1, "contact_id": "a", "connection_id": 10, "status": "closed", "closed_at": 2**60}
    times = dict.fromkeys(("created_at", "updated_at"), NOON.replace(tzinfo=None))
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        connection.execute(mapping.table.insert().values(**row, **times))
        found = router(connection, mapping).explain(MESSAGE)

    assert found.facts.latest_closed is not None
    assert NOON == found.facts.latest_closed.closed_at


@every_database
def test_an_id_is_told_as_the_row_has_it(databases: Databases, backend: Backend) -> None:
    """A UUID that the host has as a text is found in any case of its letters, on PostgreSQL: the row's counts."""
    as_it_is, as_it_comes = "0a1b2c3d-0000-4000-8000-0000000000ff", "0A1B2C3D-0000-4000-8000-0000000000FF"
    mapping = a_mapping(a_table(contact_id=Column("contact_id", Uuid(as_uuid=False), nullable=False)))
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        ask = router(connection, mapping)
        first = ask.resolve(InboundMessage(1, as_it_is, 10)).ticket
        if backend.database != "postgresql":
            return
        alone = ask.resolve(InboundMessage(1, as_it_comes, 10))
        pair = ask.resolve_many([InboundMessage(1, as_it_comes, 10), InboundMessage(1, as_it_comes, 10)])

    assert as_it_is == first.contact_id
    found = [alone, *pair]
    assert [(Outcome.REUSED, first.id, as_it_is)] * 3 == [
        (each.outcome, each.ticket.id, each.ticket.contact_id) for each in found
    ]


def with_words() -> TicketMapping:
    words = Enum(Status, values_callable=lambda _: ["open", "pending", "closed"])
    return a_mapping(a_table(status=Column("status", words, nullable=False), **_count()), **COUNTED)


def with_texts() -> TicketMapping:
    table = a_table(
        id=Column("id", Uuid(as_uuid=False), primary_key=True, default=lambda: str(uuid4())),
        contact_id=Column("contact_id", Uuid(as_uuid=False), nullable=False),
        user_id=Column("user_id", Uuid(as_uuid=False)),
        queue_id=Column("queue_id", String(40)),
        **_count(),
    )
    return a_mapping(table, **COUNTED, user_id="user_id", queue_id="queue_id")


def with_milliseconds() -> TicketMapping:
    times = {name: Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")}
    agent = Column("agent", Uuid)
    table = a_table(**times, closed_at=Column("closed_at", DateTime), user_id=agent, **_count())
    return a_mapping(table, **COUNTED, closed_at=None, user_id="agent", epoch=timedelta(milliseconds=1))


def with_seconds() -> TicketMapping:
    seconds = DateTime().with_variant(mysql.DATETIME(), "mariadb", "mysql")
    rounded = seconds.with_variant(postgresql.TIMESTAMP(precision=2), "postgresql")
    columns = {name: Column(name, Integer) for name in ("user_id", "queue_id")}
    table = a_table(updated_at=Column("updated_at", rounded, nullable=False), **columns, **_count())
    return a_mapping(table, **COUNTED, user_id="user_id", queue_id="queue_id")


def with_times_that_do_not_tell() -> TicketMapping:
    return a_mapping(a_table(**_count()), **COUNTED)


def _count() -> dict[str, Column[Any]]:
    return {"unread_messages": Column("unread", Integer)}


COUNTED: dict[str, Any] = {"unread_messages": "unread"}
ODD_HOSTS = (with_words, with_texts, with_milliseconds, with_seconds, with_times_that_do_not_tell)


@every_database
@pytest.mark.parametrize("host", ODD_HOSTS, ids=lambda host: host.__name__)
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
def test_a_batch_reopens_as_one_by_one(
    databases: Databases, backend: Backend, host: Callable[[], TicketMapping], keep: bool
) -> None:
    """Whatever the columns are: each ticket is told as its row is, and the rows are the same."""
    mapping, policy = host(), Policy(reopen=Reopen.always(keep_user=keep, keep_queue=keep))
    found: list[list[Resolution]] = []
    rows: list[list[Any]] = []
    with made(databases, backend, mapping) as engine:
        with engine.begin() as connection:
            _add_the_rule(connection)
            contacts = [_insert_closed(connection, mapping, number) for number in range(9)]
        batch = [InboundMessage(1, each, 10, message_id=each) for each in contacts]
        batch += [InboundMessage(1, each, 10) for each in contacts[:4]]
        for at_once in (False, True):
            with engine.connect() as connection:
                repository = SQLAlchemyTicketRepository(connection, mapping)
                asked = TicketRouter(repository, policy, clock=ticking())
                found.append(
                    asked.resolve_many(batch) if at_once else [asked.resolve(each) for each in batch]
                )
                rows.append([*connection.execute(mapping.table.select().order_by(mapping.columns["id"]))])
                connection.rollback()
    one_by_one, together = found

    assert [Outcome.REOPENED] * 9 + [Outcome.REUSED] * 4 == [each.outcome for each in together]
    assert [each.ticket for each in one_by_one[:9]] == [each.ticket for each in together[:9]]
    assert [each.change for each in one_by_one] == [each.change for each in together]
    assert rows[0] == rows[1]


def _add_the_rule(connection: Connection) -> None:
    key, active = "company_id, contact_id, connection_id", "status IN ('open', 'pending')"
    if connection.dialect.name in {"mysql", "mariadb"}:
        connection.execute(text(f"ALTER TABLE desk ADD a INT AS (IF({active}, 1, NULL)) VIRTUAL"))
        connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({key}, a)"))
    else:
        connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({key}) WHERE {active}"))


def ticking() -> Callable[[], datetime]:
    """Return a clock of which each look is a second later, and none a time that every column can hold."""
    times = itertools.count()
    return lambda: NOON + timedelta(hours=1, seconds=next(times), microseconds=987654)


def _insert_closed(connection: Connection, mapping: TicketMapping, number: int) -> Any:
    """Insert a closed ticket, and return its contact."""
    is_text = isinstance(mapping.columns["id"].type, Uuid)
    ticket: dict[str, Any] = {
        "id": str(UUID(int=number)) if is_text else number + 1,
        "company_id": 1,
        "contact_id": str(UUID(int=100 + number)) if is_text else f"c{number}",
        "connection_id": 10,
        "status": "closed",
        "unread_messages": number or None,
        "created_at": NOON,
        "updated_at": NOON,
        "closed_at": NOON,
    }
    for field in {"user_id", "queue_id"} & mapping.columns.keys():
        type_ = mapping.columns[field].type
        as_uuid, of_text = isinstance(type_, Uuid) and type_.as_uuid, isinstance(type_, Uuid | String)
        other = UUID(int=number) if as_uuid else str(UUID(int=number)) if of_text else number
        ticket[field] = other if number % 3 else None
    codecs = mapping.codecs(connection.dialect)
    row = {
        column.key: codecs[field].encode(ticket[field])
        for field, column in mapping.columns.items()
        if ticket[field] is not None
    }
    connection.execute(mapping.table.insert().values(row))
    return ticket["contact_id"]


def test_a_member_of_an_int_enum_is_an_id_like_any_other() -> None:
    """An id of a subclass of int is written at once, or refused at once."""
    kind = enum.IntEnum("kind", {"SMALL": 1, "LARGE": 2**40})
    encode = a_mapping(a_table()).codecs(postgresql.dialect())["company_id"].encode  # type: ignore[no-untyped-call]

    assert (1, int) == (encode(kind(1)), type(encode(kind(1))))
    with pytest.raises(InvalidMessageError, match="an int of 32 bits"):
        encode(kind(2**40))


@pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database != "sqlite"], ids=lambda b: b.name
)
def test_autocommit_of_the_driver_is_noticed(databases: Databases, backend: Backend) -> None:
    """Where the driver commits each statement, nothing keeps others away, and that is said."""
    mapping = a_mapping(a_table())
    with (
        made(databases, backend, mapping, connect_args={"autocommit": True}) as engine,
        engine.begin() as connection,
        pytest.raises(MappingError, match="without AUTOCOMMIT"),
    ):
        router(connection, mapping).resolve(MESSAGE)


@every_database
def test_two_tables_do_not_share_their_message_ids(databases: Databases, backend: Backend) -> None:
    """The same message id in two tickets tables of one database are two messages."""
    one = a_mapping(a_table())
    other = a_mapping(
        Table(
            "desk2",
            MetaData(),
            *(
                Column(c.name, c.type, nullable=c.nullable, primary_key=c.primary_key)
                for c in one.table.columns
            ),
        )
    )
    message = InboundMessage(1, "a", 10, message_id="m")
    with made(databases, backend, one) as engine:
        other.table.metadata.create_all(engine)
        other.anchors.create(engine)
        with engine.begin() as connection:
            outcomes = [router(connection, mapping).resolve(message).outcome for mapping in (one, other, one)]

    assert [Outcome.CREATED, Outcome.CREATED, Outcome.DUPLICATE] == outcomes


def test_what_hides_a_deadlock_is_retryable_too() -> None:
    """A savepoint that went with its transaction fails in its turn: the deadlock behind it still counts."""
    hidden = OperationalError("RELEASE SAVEPOINT", {}, Exception(1305, "SAVEPOINT does not exist"))
    hidden.__context__ = ContentionError("a deadlock")

    assert is_retryable(hidden)
    assert not is_retryable(OperationalError("RELEASE SAVEPOINT", {}, Exception(1305, "does not exist")))


# --- MariaDB reads an old snapshot until the transaction ends -------------------------------------------------

OLD = Cell("mariadb", "REPEATABLE READ", UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=True)


def test_what_was_closed_meanwhile_is_reopened_by_the_policy(databases: Databases) -> None:
    """The fresh look after a lost race sees the ticket closed, and reopens it where the policy says so."""
    with racetrack(databases, OLD) as (engine, mapping):
        with engine.begin() as early:
            ticket = router(early, mapping).resolve(MESSAGE).ticket
        with engine.begin() as late:
            assert router(late, mapping).active_tickets(1, "a") == [ticket]
            with engine.begin() as early:
                router(early, mapping).close(1, ticket.id)
            found = router(late, mapping, Policy(reopen=Reopen.always())).resolve(MESSAGE)

    assert (Outcome.REOPENED, ticket.id) == (found.outcome, found.ticket.id)


def test_a_stale_agent_is_told_and_not_sent_round_in_circles(databases: Databases) -> None:
    """Accepting what another agent has is a conflict, and closing what is closed is harmless, on an old snapshot too."""
    with racetrack(databases, OLD) as (engine, mapping):
        with engine.begin() as early:
            one = router(early, mapping).resolve(MESSAGE).ticket
            two = router(early, mapping).resolve(InboundMessage(1, "b", 10)).ticket
        with engine.begin() as late:
            assert router(late, mapping).active_tickets(1, "a") == [one]
            with engine.begin() as early:
                router(early, mapping).accept(1, one.id, 7)
                closed = router(early, mapping).close(1, two.id)
            with pytest.raises(ConflictError, match="accepted by user 7"):
                router(late, mapping).accept(1, one.id, 8)
            again = router(late, mapping).close(1, two.id)

    assert closed == again


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_cannot_see_the_key_taken_is_told_at_once(databases: Databases, level: str) -> None:
    """On PostgreSQL no further look of such a transaction helps: it is told to begin again after one."""
    cell = Cell("postgresql", level, UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=True)
    looks: list[str] = []
    with racetrack(databases, cell) as (engine, mapping):
        with engine.begin() as early:
            old = router(early, mapping).resolve(MESSAGE).ticket
            router(early, mapping).close(1, old.id)
        with engine.connect() as late:
            assert router(late, mapping).active_tickets(1, "a") == []
            with engine.begin() as early:
                new = router(early, mapping).resolve(MESSAGE).ticket
            event.listen(late, "before_cursor_execute", lambda _c, _cursor, sql, *_: looks.append(sql))
            with pytest.raises(ContentionError, match="run the whole transaction again"):
                router(late, mapping).reopen(1, old.id)
        with engine.begin() as again, pytest.raises(ActiveTicketExistsError) as raised:
            router(again, mapping).reopen(1, old.id)

    assert new.id == raised.value.ticket.id
    assert [1, 1] == [sum(sql.startswith(word) for sql in looks) for word in ("UPDATE", "SAVEPOINT")]


@pytest.mark.parametrize("name", ["sent", "locked", "changed", "closed"])
@every_database
def test_a_table_with_the_name_of_a_part_of_a_batch(
    databases: Databases, backend: Backend, name: str
) -> None:
    """What else the contact has open is read from the table, and not from what a statement calls the same."""
    counting = a_table(unread_messages=Column("unread_messages", Integer))
    mapping = a_mapping(counting.to_metadata(MetaData(), name=name), unread_messages="unread_messages")
    batch = [InboundMessage(1, contact, here) for contact in ("a", "b") for here in (10, 11)]
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        on_key = router(connection, mapping)
        first = on_key.resolve_many(batch)
        again = on_key.resolve_many([batch[0], batch[2]])

    assert [Outcome.REUSED] * 2 == [each.outcome for each in again]
    assert [[first[1].ticket.id], [first[3].ticket.id]] == [
        [each.id for each in found.other_active] for found in again
    ]


MIXED = [
    ("utf8mb4_unicode_nopad_ci", None),
    ("utf8mb4_unicode_ci", "utf8mb4_general_ci"),
    ("latin1_swedish_ci", None),
]


@pytest.mark.parametrize(("of_contact", "of_status"), MIXED)
@pytest.mark.parametrize("ruled", [True, False])
def test_columns_of_two_collations_are_read_together(
    databases: Databases, of_contact: str, of_status: str | None, ruled: bool
) -> None:
    """What a look makes of them has none of its own, which MariaDB takes for no union (1271)."""
    backend = next(each for each in ONE_PER_DATABASE if each.database == "mariadb")
    contact = Column("contact_id", mysql.VARCHAR(50, collation=of_contact), nullable=False)
    status = Column("status", mysql.VARCHAR(50, collation=of_status), nullable=False)
    mapping = a_mapping(a_table(contact_id=contact, status=status, **_count()), **COUNTED)
    with made(databases, backend, mapping) as engine, engine.connect() as connection:
        if ruled:
            _add_the_rule(connection)
        told = router(connection, mapping, Policy(reopen=Reopen.always()))
        first = told.resolve(MESSAGE)
        again = told.resolve_many([InboundMessage(1, "a", 10, message_id="m"), InboundMessage(1, "ö", 10)])
        told.close(1, first.ticket.id)
        reopened = told.resolve(MESSAGE)

    assert [Outcome.CREATED, Outcome.REUSED, Outcome.CREATED, Outcome.REOPENED] == [
        each.outcome for each in (first, *again, reopened)
    ]
    assert ["a", "ö"] == [each.ticket.contact_id for each in again]


@pytest.mark.parametrize("table", ["desk", "ticketrouter_message_ids"])
def test_an_engine_without_transactions_is_refused(databases: Databases, table: str) -> None:
    """After a rollback half of a message would stay: nothing is written, and the error says what to do."""
    [backend] = (each for each in ONE_PER_DATABASE if each.database == "mariadb")
    mapping = a_mapping(a_table())
    message = InboundMessage(1, "a", 10, message_id="m")
    with made(databases, backend, mapping) as engine:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {table} ENGINE=MyISAM"))
        with engine.begin() as connection:
            asked = router(connection, mapping)
            for act in (
                lambda: asked.resolve(message),
                lambda: asked.resolve_many([message, InboundMessage(1, "b", 10)]),
                lambda: asked.explain(message),
            ):
                with pytest.raises(MappingError, match=rf"{table} is of the engine MyISAM, .*ENGINE=InnoDB"):
                    act()
            connection.execute(text(f"ALTER TABLE {table} ENGINE=InnoDB"))
        with engine.begin() as connection:
            created = router(connection, mapping).resolve(message)

    assert "created" == created.outcome


# --- CHAR of PostgreSQL, which fills up with blanks -------------------------------------------------------------

PADDED = pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database == "postgresql"], ids=lambda b: b.name
)


@PADDED
def test_ids_of_the_length_of_their_column_are_kept(databases: Databases, backend: Backend) -> None:
    """As UUIDs are in CHAR(36); a shorter id is refused before anything is written."""
    mapping = a_mapping(a_table(contact_id=Column("contact_id", CHAR(4), nullable=False)))
    whole, short = InboundMessage(1, "ana1", 10, message_id="m"), InboundMessage(1, "ana", 10)
    blank = InboundMessage(1, "ana ", 10)
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        asked = router(connection, mapping)
        outcomes = [asked.resolve(each).outcome for each in (whole, whole, blank, blank)]
        for act in (lambda: asked.resolve(short), lambda: asked.resolve_many([short, short])):
            with pytest.raises(InvalidMessageError, match=r"contact_id .* a str of 4 characters, .*CHAR"):
                act()
        left = [ticket.contact_id for ticket in asked.active_tickets(1, "ana1")]

    assert [Outcome.CREATED, Outcome.DUPLICATE, Outcome.CREATED, Outcome.REUSED] == outcomes
    assert ["ana1"] == left


@PADDED
def test_words_shorter_than_their_column_are_refused(databases: Databases, backend: Backend) -> None:
    """Else a closed ticket would have a word that the scheme does not know."""
    mapping = a_mapping(a_table(status=Column("status", CHAR(10), nullable=False)))
    with (
        made(databases, backend, mapping) as engine,
        engine.begin() as connection,
        pytest.raises(
            MappingError, match=r"desk.status.*a CHAR gives it back as .*: make the column VARCHAR"
        ),
    ):
        router(connection, mapping).resolve(MESSAGE)


@PADDED
def test_a_char_that_the_table_does_not_tell_of_is_refused(databases: Databases, backend: Backend) -> None:
    """Else nobody would know that its values come back with blanks."""
    mapping = a_mapping(a_table())
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        connection.execute(text("ALTER TABLE desk ALTER contact_id TYPE CHAR(50)"))
        with pytest.raises(MappingError, match=r"desk.contact_id .contact_id. is a CHAR in the database"):
            router(connection, mapping).resolve(MESSAGE)


# --- copies of a table, tables that are not used ----------------------------------------------------------------


def test_a_copy_of_a_table_has_its_columns() -> None:
    """As each tenant has one in a schema of its own; a label is of the column that it names."""
    table = a_table()
    copy = table.to_metadata(MetaData(), schema="tenant")
    mapping = a_mapping(copy, status=table.c.status, contact_id=table.c.contact_id.label("who"))

    assert copy.c.status is mapping.columns["status"]
    assert copy.c.contact_id is mapping.columns["contact_id"]


def test_the_engine_of_a_record_that_is_not_kept_does_not_matter(databases: Databases) -> None:
    """What is left over of message ids is not written."""
    [backend] = (each for each in ONE_PER_DATABASE if each.database == "mariadb")
    mapping = a_mapping(a_table(), remember_messages=False)
    with made(databases, backend, a_mapping(a_table())) as engine, engine.begin() as connection:
        connection.execute(text("ALTER TABLE ticketrouter_message_ids ENGINE=Aria"))
        found = router(connection, mapping).resolve(MESSAGE)

    assert Outcome.CREATED is found.outcome
