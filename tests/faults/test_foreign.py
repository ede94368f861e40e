"""Whatever is raised between our statements, a host that commits all the same never keeps half of a write.

Each test lets something that is not the database's happen at every boundary of a statement, before it and after it, one
by one until there is none left; the host catches it and commits. Then each ticket counts as many messages as ids are
recorded with it.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, func, select, text
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.faults.conftest import Place
from tests.support.faults.work import KEY, LONG_AGO, MAPPING, engine_for, left_in, ticket, warm_up
from ticketrouter import (
    AsyncTicketRouter,
    ContentionError,
    InboundMessage,
    Policy,
    Reopen,
    RepositoryError,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import (
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    configure_sqlite,
)

RIGHT, NONE = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
POLICY = Policy(reopen=Reopen.always())
_ENDLESS = 200


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    """Spare the collector what other tests hold: it is called at every boundary."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def message(contact_id: str, message_id: str, connection_id: str = "10") -> InboundMessage:
    return InboundMessage(KEY.company_id, contact_id, connection_id, message_id=message_id)


JOINS, REOPENS, CREATES = message("active", "j"), message("closed", "r"), message("new", "c")
Works = dict[str, Callable[[TicketRouter], object]]
WORKS: Works = {
    "joins": lambda router: router.resolve(JOINS),
    "reopens": lambda router: router.resolve(REOPENS),
    "creates": lambda router: router.resolve(CREATES),
    "redelivery": lambda router: (router.resolve(CREATES), router.resolve(CREATES)),
    "batch": lambda router: router.resolve_many(
        [JOINS, REOPENS, CREATES, message("active", "j2"), CREATES, message("closed", "r2", "13")]
    ),
}
MOVES: Works = {
    "merge": lambda router: router.merge_contacts(KEY.company_id, "active", "other"),
    "move": lambda router: router.move_connection(KEY.company_id, "10", "13"),
}


def prepare(engine: Engine) -> None:
    """Empty the tables, and put an active ticket, a closed one, and rivals of a move there."""
    tickets = [
        ticket("open", contact_id="active"),
        ticket("closed", contact_id="closed"),
        ticket("open", contact_id="other"),
        ticket("open", contact_id="active", connection_id="13"),
    ]
    with engine.begin() as connection:
        for table in MAPPING.metadata.sorted_tables:
            connection.execute(table.delete())
        for each in tickets:
            columns = MAPPING.columns.items()
            values = {column.key: getattr(each, name) for name, column in columns if name != "id"}
            connection.execute(MAPPING.table.insert().values(values))


def assert_whole(engine: Engine) -> None:
    """Hold the count of each ticket against the message ids that lead to it."""
    ids, columns = MAPPING.message_ids.c, MAPPING.columns
    recorded = (
        select(func.count()).where(ids.ticket_id == columns["id"]).correlate(MAPPING.table).scalar_subquery()
    )
    with engine.begin() as connection:
        rows = connection.execute(select(columns["unread_messages"], recorded)).all()
        total = connection.execute(select(func.count()).select_from(MAPPING.message_ids)).scalar_one()
    assert all(count == ids_of for count, ids_of in rows), rows
    assert sum(ids_of for _, ids_of in rows) == total


class Raising:
    """Raises at one boundary, or at every one from that on.

    Args:
        at: the boundary, from 0: two for each statement.
        kind: what is raised; None: the database's error about a statement of the listener's own.
        persistently: whether it goes on.
    """

    def __init__(self, at: int, kind: type[BaseException] | None, *, persistently: bool) -> None:
        self.at, self.kind, self.persistently = at, kind, persistently
        self.passed, self.busy = 0, False

    def __call__(self, connection: Connection, *_: object) -> None:
        if self.busy:
            return
        self.passed += 1
        if self.passed == self.at + 1 or (self.persistently and self.passed > self.at):
            if self.kind is not None:
                raise self.kind
            self.busy = True
            try:
                connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
            finally:
                self.busy = False

    @contextmanager
    def of(self, engine: Engine) -> Iterator[None]:
        names = ("before_cursor_execute", "after_cursor_execute")
        for name in names:
            event.listen(engine, name, self)
        try:
            yield
        finally:
            for name in names:
                event.remove(engine, name, self)


class Refused(Exception):  # noqa: N818 - a kind of what happens
    """Stands for what no listener raises: the database refuses our own statement."""


class Refusing:
    """Has the database refuse a statement, or every one from that on.

    Args:
        at: the statement, from 0.
        persistently: whether it goes on.
    """

    def __init__(self, at: int, *, persistently: bool) -> None:
        self.at, self.persistently, self.passed = at, persistently, 0

    def __call__(
        self, _: Connection, __: Any, statement: str, parameters: Any, ___: object, many: bool
    ) -> tuple[str, Any]:
        self.passed += 1
        if self.passed == self.at + 1 or (self.persistently and self.passed > self.at):
            return "DELETE FROM no_such_table", [()] if many else ()
        return statement, parameters

    @contextmanager
    def of(self, engine: Engine) -> Iterator[None]:
        event.listen(engine, "before_cursor_execute", self, retval=True)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", self)


def happening(at: int, kind: type[BaseException] | None, *, persistently: bool) -> Raising | Refusing:
    """Return what happens at a boundary."""
    if kind is Refused:
        return Refusing(at, persistently=persistently)
    return Raising(at, kind, persistently=persistently)


def as_a_bad_host(connection: Connection, work: Callable[[TicketRouter], object]) -> None:
    """Do a unit of work, and commit whatever comes of it."""
    interrupted = False
    try:
        work(TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING), POLICY))
    except BaseException as error:  # noqa: BLE001 - whatever comes of it
        interrupted = not isinstance(error, Exception)
    # Where SQLAlchemy has closed a connection after an interrupt, sqlite3 keeps its lock until the cursor is gone.
    if interrupted and connection.dialect.name == "sqlite":
        gc.collect()
    try:
        connection.commit()
    except (PendingRollbackError, SQLAlchemyError):
        connection.rollback()


def at_every_boundary(
    looker: Engine,
    engine: Engine,
    kind: type[BaseException] | None,
    run: Callable[[], object],
    check: Callable[[Engine], None],
) -> int:
    """Raise at each boundary of what `run` does, once and persistently; return how many there are."""
    for boundary in range(_ENDLESS):
        for persistently in (False, True):
            prepare(looker)
            raising = happening(boundary, kind, persistently=persistently)
            with raising.of(engine):
                run()
            check(looker)
            if raising.passed <= boundary:
                return boundary
    raise AssertionError("no unit of work has so many boundaries")


KINDS = [RuntimeError, KeyboardInterrupt, None, Refused]
every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=["exception", "interrupt", "its own statement", "ours is refused"]
)
every_write = pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param(name, rule, id=f"{name}-{rule}")
        for name in WORKS
        for rule in (RIGHT, NONE)
        # Without a unique rule the anchor is written first, for all but a message that joins.
        if rule is RIGHT or name in {"reopens", "creates", "batch"}
    ],
)


@every_kind
@every_write
def test_half_of_a_write_is_never_committed(
    place: Place, name: str, kind: type[BaseException] | None
) -> None:
    """A message is counted, and its id recorded, or neither."""
    engine = place.new_engine()

    def run() -> None:
        with engine.connect() as connection:
            as_a_bad_host(connection, WORKS[name])

    found = at_every_boundary(place.engine, engine, kind, run, assert_whole)
    engine.dispose()
    print(f"\n{found} boundaries")
    assert found >= 2


@every_kind
@pytest.mark.parametrize("rule", [RIGHT])
@pytest.mark.parametrize("name", MOVES)
def test_half_of_a_move_is_never_committed(place: Place, name: str, kind: type[BaseException] | None) -> None:
    """All tickets are moved, or none."""
    engine = place.new_engine()
    prepare(place.engine)
    before = left_in(place.engine)
    with engine.begin() as connection:
        MOVES[name](TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING)))
    after = left_in(place.engine)

    def run() -> None:
        with engine.connect() as connection:
            as_a_bad_host(connection, MOVES[name])

    def check(looker: Engine) -> None:
        assert left_in(looker) in {before, after}

    assert before != after
    assert at_every_boundary(place.engine, engine, kind, run, check) >= 6
    engine.dispose()


@pytest.mark.parametrize("kind", [RuntimeError, None], ids=["exception", "its own statement"])
@pytest.mark.parametrize("name", WORKS)
def test_a_database_in_memory_outlives_it(name: str, kind: type[BaseException] | None) -> None:
    """Its connection is not closed, only rolled back; an interrupt has SQLAlchemy itself close it."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    configure_sqlite(engine)
    MAPPING.metadata.create_all(engine)
    warm_up(engine)

    def run() -> None:
        with engine.connect() as connection:
            as_a_bad_host(connection, WORKS[name])

    assert at_every_boundary(engine, engine, kind, run, assert_whole) >= 2
    with engine.begin() as connection:  # they are still there
        assert connection.execute(select(func.count()).select_from(MAPPING.table)).scalar_one() >= 4
    engine.dispose()


DRIVERS = {
    "sqlite": ["sqlite+aiosqlite"],
    "postgresql": ["postgresql+asyncpg", "postgresql+psycopg"],
    "mariadb": ["mariadb+asyncmy"],
}


@pytest.mark.parametrize("kind", [asyncio.CancelledError, Refused], ids=["cancelled", "ours is refused"])
@pytest.mark.parametrize("rule", [RIGHT])
@pytest.mark.parametrize("name", WORKS)
def test_half_of_a_write_is_never_committed_by_asynchronous_drivers(
    place: Place, database: str, name: str, kind: type[BaseException]
) -> None:
    """Where the task is cancelled between two statements, or the database refuses one."""

    async def at_boundaries(driver: str) -> int:
        engine = create_async_engine(place.url.set(drivername=driver))
        if database == "sqlite":
            configure_sqlite(engine)
        async with engine.begin() as connection:
            await connection.run_sync(lambda it: SQLAlchemyTicketRepository(it, MAPPING).get("c1", 0))
        for boundary in range(_ENDLESS):
            for persistently in (False, True):
                prepare(place.engine)
                raising = happening(boundary, kind, persistently=persistently)
                with raising.of(engine.sync_engine):
                    async with engine.connect() as connection:
                        await connection.run_sync(lambda it: as_a_bad_host(it, WORKS[name]))
                assert_whole(place.engine)
                if raising.passed <= boundary:
                    await engine.dispose()
                    return boundary
        raise AssertionError("no unit of work has so many boundaries")

    for driver in DRIVERS[database]:
        assert asyncio.run(at_boundaries(driver)) >= 2


# --- while a statement waits -------------------------------------------------------------------------------------

on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"])
right_rule = pytest.mark.parametrize("rule", [RIGHT])
one_by_one = pytest.mark.parametrize("name", ["joins", "reopens", "batch"])


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Keep the tickets of others locked, as a rival does who has changed them and not committed yet."""
    with engine.connect() as rival:
        rival.execute(MAPPING.table.update().values({MAPPING.columns["is_group"].key: False}))
        rival.execute(
            MAPPING.table.update().values({MAPPING.columns["updated_at"].key: LONG_AGO.replace(year=2027)})
        )
        try:
            yield
        finally:
            rival.rollback()


@on_servers
@right_rule
@one_by_one
def test_a_timeout_by_a_signal_in_the_driver(place: Place, name: str) -> None:
    """As `signal.setitimer` has it: the driver is left in the middle of an answer, and the host commits."""

    def ring(*_: object) -> None:
        raise TimeoutError

    engine = place.new_engine()
    prepare(place.engine)
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        with locked(place.engine):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with engine.connect() as connection:
                as_a_bad_host(connection, WORKS[name])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert_whole(place.engine)
    with engine.connect() as connection:  # no answer is left over for the next one
        as_a_bad_host(connection, WORKS[name])
    engine.dispose()

    assert_whole(place.engine)


@on_servers
@right_rule
@one_by_one
def test_a_task_that_is_cancelled_while_a_statement_waits(place: Place, database: str, name: str) -> None:
    """The host catches it, and commits."""
    messages = {"joins": [JOINS], "reopens": [REOPENS], "batch": [JOINS, REOPENS, CREATES]}[name]

    async def host(connection: AsyncConnection) -> None:
        router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(connection, MAPPING), POLICY)
        with suppress(asyncio.CancelledError):
            await (router.resolve(messages[0]) if len(messages) == 1 else router.resolve_many(messages))
        try:
            await connection.commit()
        except SQLAlchemyError:
            await connection.rollback()

    async def cancelled(driver: str) -> None:
        engine = create_async_engine(place.url.set(drivername=driver))
        async with engine.connect() as connection:
            await connection.run_sync(lambda it: SQLAlchemyTicketRepository(it, MAPPING).get("c1", 0))
            await connection.rollback()
            with locked(place.engine):
                task = asyncio.create_task(host(connection))
                await asyncio.sleep(0.2)
                assert not task.done()
                task.cancel()
                await task
        await engine.dispose()

    for driver in DRIVERS[database]:
        prepare(place.engine)
        asyncio.run(cancelled(driver))
        assert_whole(place.engine)


# --- what the database refuses in the middle ----------------------------------------------------------------------


@pytest.mark.parametrize("database", ["mariadb"])
@right_rule
@one_by_one
def test_a_lock_that_is_waited_for_too_long(place: Place, name: str) -> None:
    """MariaDB undoes the statement alone: what was written before it is taken back, and the host goes on."""
    engine = engine_for(place.url, connect_args={"init_command": "SET innodb_lock_wait_timeout = 1"})
    warm_up(engine)
    prepare(place.engine)
    with engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING), POLICY)
        with locked(place.engine), pytest.raises(ContentionError, match="1205"):
            WORKS[name](router)
        router.resolve(message("yet another", "y"))
        connection.commit()
    engine.dispose()

    assert_whole(place.engine)
    assert 1 == _recorded(place.engine)


STAYS_CLOSED = f"""
CREATE FUNCTION stays_closed() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.status := 'closed'; RETURN NEW; END $$;
CREATE TRIGGER stays_closed BEFORE UPDATE ON {MAPPING.table.name} FOR EACH ROW EXECUTE FUNCTION stays_closed()
"""


@pytest.mark.parametrize("database", ["postgresql"])
@right_rule
def test_a_trigger_that_leaves_a_ticket_closed(place: Place) -> None:
    """It was written, and is taken back with the savepoint: so is the message id that was recorded before it."""
    prepare(place.engine)
    with place.engine.begin() as connection:
        connection.exec_driver_sql(STAYS_CLOSED)
    try:
        with place.engine.connect() as connection:
            as_a_bad_host(connection, WORKS["reopens"])
    finally:
        with place.engine.begin() as connection:
            connection.exec_driver_sql("DROP FUNCTION stays_closed CASCADE")

    assert_whole(place.engine)
    assert 0 == _recorded(place.engine)


def _recorded(engine: Engine) -> int:
    with engine.begin() as connection:
        count: int = connection.execute(select(func.count()).select_from(MAPPING.message_ids)).scalar_one()
    return count


@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
@pytest.mark.parametrize("ended", [False, True], ids=["alive", "ended"])
@pytest.mark.parametrize("name", ["joins", "batch"])
@right_rule
def test_nothing_is_sent_in_a_transaction_that_the_server_has_ended(
    place: Place, name: str, ended: bool
) -> None:
    """As after a deadlock: in the new one the clean-up would take another unit's committed message id."""
    prepare(place.engine)
    engine = place.new_engine()
    sent: list[str] = []

    def fail(_: Connection, cursor: Any, statement: str, parameters: Any, *__: object) -> tuple[str, Any]:
        if f"UPDATE {MAPPING.table.name} " in statement:
            sent.clear()
            if ended:
                cursor.execute("ROLLBACK")
            return "SELECT * FROM no_such_table", ()
        if not statement.startswith("SELECT"):
            sent.append(statement.partition(" ")[0])
        return statement, parameters

    with engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING), POLICY)
        event.listen(engine, "before_cursor_execute", fail, retval=True)
        with pytest.raises(RepositoryError, match="refused a statement"):
            WORKS[name](router)
        event.remove(engine, "before_cursor_execute", fail)
        connection.commit()
    engine.dispose()

    assert ([] if ended else ["DELETE" if name == "joins" else "ROLLBACK"]) == sent
    assert_whole(place.engine)
    assert 0 == _recorded(place.engine)


def test_a_statement_of_the_listeners_own_is_no_statement_of_ours() -> None:
    """Both are the database's errors; only of one it is known that our statement did nothing."""
    from ticketrouter.sqlalchemy.whole import _tells_what_is_there

    engine = create_engine("sqlite://")

    def error_of(kind: type[BaseException] | None, statements: Sequence[str]) -> BaseException:
        with engine.connect() as connection, Raising(0, kind, persistently=False).of(engine):
            try:
                for statement in statements:
                    connection.execute(text(statement))
            except BaseException as error:  # noqa: BLE001 - it is what is asked about
                return error
        raise AssertionError("it raises")

    assert not _tells_what_is_there(error_of(None, ["SELECT 1"]))
    assert not _tells_what_is_there(error_of(ContentionError, ["SELECT 1"]))
    assert not _tells_what_is_there(error_of(RuntimeError, ["SELECT 1"]))
    with engine.connect() as connection, pytest.raises(SQLAlchemyError) as refused:
        connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
    assert _tells_what_is_there(refused.value)
    assert _tells_what_is_there(ContentionError("ours"))
