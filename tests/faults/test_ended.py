"""A host that swallows an error, by which the server has ended its transaction, and goes on all the same.

What it did before is gone, and what it does now would be of another transaction: nothing of ours is sent there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import pymysql
import pytest
from attrs import evolve
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError

from tests.faults.conftest import Place
from tests.support.backends import SQL_BACKENDS, Backend, SqlStore
from tests.support.faults.work import KEY, MAPPING, WORKS, message, prepare
from tests.support.waiting import until_somebody_waits
from ticketrouter import (
    ContentionError,
    InboundMessage,
    RepositoryError,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, whole

REFUSED = r"roll back and run the whole transaction again .an earlier error has ended it"
EARLIER, LATER, LATEST = (message(name, contact_id=name) for name in ("earlier", "later", "latest"))
right_rule = pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION])
on_mariadb = pytest.mark.parametrize("database", ["mariadb"])


def router_over(host: Any) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, MAPPING))


def contacts(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return sorted(connection.execute(select(MAPPING.columns["contact_id"])).scalars())


@pytest.fixture
def engine(place: Place) -> Iterator[Engine]:
    """A host's engine over empty tables."""
    prepare(place.engine, WORKS[0])
    engine = place.new_engine()
    yield engine
    engine.dispose()


class Failing:
    """Has the next statement about tickets fail as the server does by a code.

    Args:
        code: what the driver tells.
        ends: whether the server ends the transaction by it.
    """

    def __init__(self, code: int, *, ends: bool) -> None:
        self.code, self.ends = code, ends
        self.sent: list[str] = []

    def __call__(self, cursor: Any, statement: str, *_: object) -> None:
        self.sent.append(statement)
        if len(self.sent) == 1:
            if self.ends:
                cursor.connection.rollback()
            raise pymysql.err.OperationalError(self.code, "as the server says it")

    @contextmanager
    def of(self, engine: Engine) -> Iterator[Failing]:
        event.listen(engine, "do_execute", self)
        try:
            yield self
        finally:
            event.remove(engine, "do_execute", self)


ENDING = [1213, 1020, 1180, 1206, 1305, 1047, 1205]


@on_mariadb
@right_rule
@pytest.mark.parametrize("code", ENDING)
def test_nothing_is_sent_after_the_end_of_a_transaction(engine: Engine, code: int) -> None:
    """By whatever code it was ended; 1205 ends it where the server was told so."""
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        with Failing(code, ends=True).of(engine) as failing:
            with suppress(TicketRouterError):
                router.resolve(LATER)
            sent = len(failing.sent)
            with pytest.raises(ContentionError, match=REFUSED):
                router.resolve(LATEST)
            with pytest.raises(ContentionError, match=REFUSED):
                router.find_active(EARLIER.key)
            assert sent == len(failing.sent)
        connection.commit()
        assert [] == contacts(engine)
        router.resolve(LATEST)
        connection.commit()

    assert ["latest"] == contacts(engine)


@on_mariadb
@right_rule
@pytest.mark.parametrize("code", ENDING)
def test_a_transaction_that_lives_goes_on(engine: Engine, code: int) -> None:
    """The server is asked: a code alone says nothing."""
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        with Failing(code, ends=False).of(engine), pytest.raises(TicketRouterError):
            router.resolve(LATER)
        router.resolve(LATEST)
        connection.commit()

    assert ["earlier", "latest"] == contacts(engine)


@on_mariadb
@right_rule
@pytest.mark.parametrize("code", [1142, 1264, 1213])
def test_what_was_not_begun_is_not_ended(engine: Engine, code: int) -> None:
    """The first statement of a transaction is refused, and MariaDB says that there is none."""
    with engine.connect() as connection:
        router = router_over(connection)
        with Failing(code, ends=False).of(engine), suppress(TicketRouterError):
            router.find_active(EARLIER.key)
        if code == 1213:
            with pytest.raises(ContentionError, match=REFUSED):
                router.resolve(LATEST)
            return
        router.resolve(LATEST)
        connection.commit()

    assert ["latest"] == contacts(engine)


@on_mariadb
@right_rule
def test_autocommit_has_no_transaction_to_end(engine: Engine) -> None:
    """Each statement stands by itself, and so does its error."""
    unremembered = InboundMessage(KEY.company_id, "later", "10")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        router = router_over(connection)
        with Failing(1213, ends=True).of(engine), pytest.raises(ContentionError, match="1213"):
            router.resolve(unremembered)
        router.resolve(unremembered)

    assert ["later"] == contacts(engine)


@on_mariadb
@right_rule
def test_a_savepoint_of_the_host_does_not_keep_it_alive(engine: Engine) -> None:
    """It goes with the transaction, so that the host cannot even roll back to it."""
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        with (
            pytest.raises(DBAPIError, match="1305"),
            connection.begin_nested(),
            Failing(1213, ends=True).of(engine),
        ):
            router.resolve(LATER)
        with pytest.raises(ContentionError, match=REFUSED):
            router.resolve(LATEST)
        connection.commit()

    assert [] == contacts(engine)


@on_mariadb
@right_rule
def test_a_host_that_goes_on_after_a_deadlock(engine: Engine, place: Place) -> None:
    """A real one: whoever has written more lives."""
    joined = prepare(place.engine, WORKS[1])
    with place.engine.connect() as rival, engine.connect() as connection:
        rival.execute(_update(joined))
        for number in range(50):
            router_over(rival).resolve(message(f"r{number}", contact_id=f"r{number}"))
        router = router_over(connection)
        mine = router.resolve(EARLIER).ticket.id
        waiting = Thread(target=lambda: rival.execute(_update(mine)))
        waiting.start()
        until_somebody_waits(place.engine)
        with pytest.raises(ContentionError, match="1213"):
            router.resolve(message("joins"))
        waiting.join()
        rival.rollback()
        with pytest.raises(ContentionError, match=REFUSED):
            router.resolve(LATEST)
        connection.commit()

    assert [KEY.contact_id] == contacts(engine)


def _update(ticket_id: Any) -> Any:
    values = {MAPPING.columns["is_group"].key: True}
    return MAPPING.table.update().where(MAPPING.columns["id"] == ticket_id).values(values)


@pytest.mark.parametrize("database", ["sqlite"])
@right_rule
def test_a_trigger_that_ends_the_transaction(engine: Engine) -> None:
    """SQLite would take what comes after it, each statement by itself."""
    name = MAPPING.table.name
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TRIGGER no_later BEFORE INSERT ON {name} WHEN NEW.contact_id = 'later' "
                "BEGIN SELECT RAISE(ROLLBACK, 'not that one'); END"
            )
        )
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        with pytest.raises(RepositoryError, match="1811"):
            router.resolve(LATER)
        with pytest.raises(ContentionError, match=REFUSED):
            router.resolve(InboundMessage(KEY.company_id, "latest", "10"))
        connection.commit()
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER no_later"))

    assert [] == contacts(engine)


@pytest.mark.parametrize("database", ["sqlite"])
@right_rule
def test_a_trigger_that_refuses_a_row_ends_nothing(engine: Engine) -> None:
    name = MAPPING.table.name
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TRIGGER no_later BEFORE INSERT ON {name} WHEN NEW.contact_id = 'later' "
                "BEGIN SELECT RAISE(ABORT, 'not that one'); END"
            )
        )
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        with pytest.raises(RepositoryError, match="1811"):
            router.resolve(LATER)
        router.resolve(LATEST)
        connection.execute(text("DROP TRIGGER no_later"))
        connection.commit()

    assert ["earlier", "latest"] == contacts(engine)


@pytest.mark.parametrize("database", ["postgresql"])
@right_rule
def test_postgresql_itself_refuses_what_comes_after_an_error(engine: Engine) -> None:
    """Until the host rolls back, which it is told to do."""
    with engine.connect() as connection:
        router = router_over(connection)
        router.resolve(EARLIER)
        event.listen(engine, "do_execute", _fails_on_postgresql, once=True)
        with pytest.raises(ContentionError, match="55P03"):
            router.resolve(LATER)
        for _ in range(2):
            with pytest.raises(
                RepositoryError, match="an earlier error has ended the transaction: roll back"
            ):
                router.resolve(LATEST)
        connection.commit()

    assert [] == contacts(engine)


def _fails_on_postgresql(cursor: Any, *_: object) -> None:
    cursor.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$")


# --- connections that are gone, by every driver ---------------------------------------------------------------

_ENDING_CONNECTIONS = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
    "mariadb": ("SELECT connection_id()", "KILL CONNECTION {}"),
}


@pytest.mark.parametrize(
    "backend", [b for b in SQL_BACKENDS if b.database != "sqlite"], ids=lambda backend: backend.name
)
def test_a_host_that_goes_on_after_a_lost_connection(store: SqlStore, backend: Backend) -> None:
    """It is told to run the whole transaction again, and does it in the same block."""
    asking, ending = _ENDING_CONNECTIONS[backend.database]
    with store.connection() as connection:
        router = TicketRouter(store.repository(connection))
        router.resolve(EARLIER)
        found = connection.exec_driver_sql(asking)
        number = (store.run(found) if backend.is_async else found).scalar_one()
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.exec_driver_sql(ending.format(number))
        with pytest.raises(RepositoryError, match="connection to the database is lost"):
            router.resolve(LATER)
        with pytest.raises(ContentionError, match=REFUSED):
            router.resolve(LATEST)
        rolled_back = connection.rollback()
        if backend.is_async:
            store.run(rolled_back)

    assert [] == store.tickets()


@on_mariadb
@right_rule
def test_what_is_noted_goes_with_the_transaction(engine: Engine) -> None:
    """Nothing is kept of a transaction that nobody has any more."""
    gc.collect()
    with engine.connect() as connection:
        with Failing(1213, ends=True).of(engine), suppress(ContentionError):
            router_over(connection).resolve(EARLIER)
        noted = len(whole._ended)
    gc.collect()

    assert (1, 0) == (noted, len(whole._ended))


@on_mariadb
@right_rule
def test_a_connection_that_is_lost_while_the_index_is_looked_at(engine: Engine) -> None:
    """It is no expression that MariaDB cannot compute."""

    def close(cursor: Any, statement: str, *_: object) -> None:
        if "ticketrouter_rows" in statement:
            cursor.connection._force_close()
            raise pymysql.err.OperationalError(2013, "lost")

    fresh = create_engine(engine.url)
    event.listen(fresh, "do_execute", close)
    with fresh.connect() as connection, pytest.raises(RepositoryError, match=r"lost .code 2013") as caught:
        router_over(connection).resolve(EARLIER)
    fresh.dispose()

    assert caught.value.retryable


@on_mariadb
@right_rule
def test_a_connection_that_is_lost_while_a_lost_race_is_taken_back(engine: Engine, place: Place) -> None:
    """The router does not look again in a transaction that is gone: the host runs the whole one again."""
    named = InboundMessage(KEY.company_id, "late", KEY.connection_id, message_id="named")

    def meet(cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO ticketrouter_message_ids") and not rivals:
            with place.engine.begin() as rival:
                rivals.append(router_over(rival).resolve(evolve(named, contact_id="faster")).ticket.id)
        if statement.startswith("DELETE FROM ticketrouter_tickets"):
            cursor.connection._force_close()
            raise pymysql.err.OperationalError(2013, "lost")

    rivals: list[Any] = []
    fresh = create_engine(engine.url)
    event.listen(fresh, "do_execute", meet)
    with fresh.connect() as connection, pytest.raises(ContentionError, match=REFUSED) as caught:
        router_over(connection).resolve(named)
    fresh.dispose()

    assert caught.value.retryable
    assert ["faster"] == contacts(engine)
