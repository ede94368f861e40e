"""The table of error codes: each row that a server here can be brought to is provoked, by every driver.

Law of this file: nothing stays of what a test did to a server. A "yes" is proved by running the unit of work again once the cause is gone by itself; a "no" by running it again and
getting the same error.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncmy.errors
import asyncpg
import psycopg
import pymysql
import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, event, text
from sqlalchemy.dialects.postgresql import asyncpg as adapter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from tests.support import servers
from tests.support.backends import SQL_BACKENDS, Backend, Databases, SqlStore, cannot_be_had
from tests.support.waiting import until_somebody_waits
from ticketrouter import ContentionError, InboundMessage, RepositoryError, TicketRouter, TicketRouterError
from ticketrouter.sqlalchemy import MappingError, TicketMapping, is_retryable
from ticketrouter.sqlalchemy.dialects.mariadb.errors import CODES as MARIADB_AND_MYSQL
from ticketrouter.sqlalchemy.dialects.postgresql.errors import CODES as POSTGRESQL
from ticketrouter.sqlalchemy.dialects.postgresql.errors import STALE_PLAN
from ticketrouter.sqlalchemy.dialects.sqlite.errors import CODES as SQLITE
from ticketrouter.sqlalchemy.error_codes import CLASSES, ErrorCodes, Fault, Row
from ticketrouter.sqlalchemy.faults import SERVERS, row_of, translate
from ticketrouter.testing.store import blocking

CONTACT = 5511987654321
MESSAGE = InboundMessage(1, CONTACT, 10)


# --- every row, as each driver tells it ----------------------------------------------------------------------


def _wrapped(error: BaseException, dbapi: Any, *, is_gone: bool = False) -> DBAPIError:
    return DBAPIError.instance(  # type: ignore[return-value]
        "UPDATE t", {"contact_id": CONTACT}, error, dbapi.Error, connection_invalidated=is_gone
    )


def _by_psycopg(row: Row) -> DBAPIError:
    code, _, routine = str(row.code).ljust(5, "0").partition(" ")
    try:
        kind = psycopg.errors.lookup(code)
    except KeyError:
        kind = type("Unknown", (psycopg.OperationalError,), {"sqlstate": code})

    class Told(kind):  # type: ignore[misc, valid-type]
        @property
        def diag(self) -> Any:
            return type("Diagnostic", (), {"source_function": routine or None})

    Told.__module__ = "psycopg.errors"
    return _wrapped(Told("as the server says it"), psycopg)


def _by_asyncpg(row: Row) -> DBAPIError:
    code, _, routine = str(row.code).ljust(5, "0").partition(" ")
    fields = {"C": code, "M": "as the server says it", "R": routine or "aFunction"}
    error = asyncpg.exceptions.PostgresError.new(fields)
    dbapi: Any = adapter.AsyncAdapt_asyncpg_dbapi(asyncpg)  # type: ignore[no-untyped-call]
    connection: Any = adapter.AsyncAdapt_asyncpg_connection
    try:
        if hasattr(connection, "_handle_exception_no_connection"):
            connection._handle_exception_no_connection(dbapi, error)
        # SQLAlchemy 2.0 asks a connection.
        is_open = SimpleNamespace(is_closed=lambda: False)
        connection._handle_exception(SimpleNamespace(dbapi=dbapi, _connection=is_open), error)
    except BaseException as told:  # noqa: BLE001 - it is what is looked at
        return _wrapped(told, dbapi)
    raise AssertionError("nothing was raised")


def _by_pymysql(row: Row) -> DBAPIError:
    assert isinstance(row.code, int)
    kind = pymysql.err.error_map.get(row.code, pymysql.err.OperationalError)
    return _wrapped(kind(row.code, "as the server says it"), pymysql)


def _by_asyncmy(row: Row) -> DBAPIError:
    return _wrapped(asyncmy.errors.OperationalError(row.code, "as the server says it"), asyncmy.errors)


def _by_sqlite(row: Row) -> DBAPIError:
    error = sqlite3.OperationalError("as the driver says it")
    assert isinstance(row.code, int)
    error.sqlite_errorcode = row.code
    return _wrapped(error, sqlite3)


TELLERS: dict[str, tuple[ErrorCodes, Callable[[Row], DBAPIError]]] = {
    "psycopg": (POSTGRESQL, _by_psycopg),
    "asyncpg": (POSTGRESQL, _by_asyncpg),
    "pymysql": (MARIADB_AND_MYSQL, _by_pymysql),
    "asyncmy": (MARIADB_AND_MYSQL, _by_asyncmy),
    "sqlite": (SQLITE, _by_sqlite),
}
EXPECTED = {
    Fault.RESTART: (ContentionError, True),
    Fault.LOST: (RepositoryError, True),
    Fault.UNAVAILABLE: (RepositoryError, True),
    Fault.AFTERMATH: (RepositoryError, False),
    Fault.TAKEN: (RepositoryError, False),
    Fault.OTHER: (RepositoryError, False),
}


@pytest.mark.parametrize(
    ("driver", "row"),
    [
        pytest.param(driver, row, id=f"{driver}-{row.code}")
        for driver, (codes, _) in TELLERS.items()
        for row in codes.rows
    ],
)
def test_each_row_is_found_and_says_the_same_by_every_way(driver: str, row: Row) -> None:
    """Wrapped or as the driver raised it, by `is_retryable` or by our own error: one table answers."""
    error = TELLERS[driver][1](row)
    ours = translate(error)

    assert row is row_of(error)
    assert EXPECTED[row.fault] == (type(ours), ours.retryable)
    assert row.fault.is_retryable is is_retryable(error) is is_retryable(ours)
    assert row.fault.is_retryable is is_retryable(error.orig)  # type: ignore[arg-type]
    assert str(CONTACT) not in str(ours) + repr(ours)


@pytest.mark.parametrize("driver", TELLERS)
def test_a_code_that_has_no_row_has_an_answer(driver: str) -> None:
    """It is of its class; where that has none either, it is not retryable."""
    codes, teller = TELLERS[driver]
    unknown = {POSTGRESQL.server: "ZZ123", SQLITE.server: 250}.get(codes.server, 9999)
    assert isinstance(unknown, str | int)
    error = teller(Row(unknown, "", Fault.OTHER, codes.rest.left, ""))

    assert codes.rest is row_of(error)
    assert not is_retryable(error)
    assert RepositoryError is type(translate(error))


@pytest.mark.parametrize(
    ("driver", "code", "of_class"),
    [
        ("psycopg", "08006", "08"),
        ("psycopg", "22P02", "22"),
        ("psycopg", "42P07", "42"),
        ("sqlite", 3850, 10),
        ("sqlite", 1294, 14),
        ("sqlite", 518, 6),
    ],
)
def test_a_code_without_a_row_is_of_its_class(driver: str, code: str | int, of_class: str | int) -> None:
    """The first two letters of an SQLSTATE, the last byte of a result code of SQLite."""
    codes, teller = TELLERS[driver]

    assert of_class == row_of(teller(Row(code, "", Fault.OTHER, codes.rest.left, ""))).code


def test_no_code_stands_twice_and_each_says_why() -> None:
    """A code with two rows would have two answers."""
    for codes in SERVERS:
        assert len(codes.rows) == len({row.code for row in codes.rows}), codes.server
        assert [] == [row for row in codes.rows if not (row.name and row.why)]


def test_a_connection_that_is_gone_is_lost_whatever_the_code_says() -> None:
    """Unless the code says that it will be refused again."""
    gone = Row("26000", "", Fault.OTHER, POSTGRESQL.rest.left, "")
    dropped = psycopg.errors.DatabaseDropped("no such database any more")

    assert is_retryable(_wrapped(_by_psycopg(gone).orig, psycopg, is_gone=True))  # type: ignore[arg-type]
    assert not is_retryable(_wrapped(dropped, psycopg, is_gone=True))


WITHOUT_CODE = [
    pytest.param(ConnectionRefusedError(111, "refused"), True, id="refused"),
    pytest.param(TimeoutError(), True, id="a timeout"),
    pytest.param(socket.gaierror(-3, "try again"), True, id="no address"),
    pytest.param(
        OSError("Multiple exceptions: [Errno 111] ..., [Errno 111] ..."), True, id="of two addresses"
    ),
    pytest.param(OSError(113, "no route to host"), True, id="no route"),
    pytest.param(OSError(28, "no space left"), False, id="a full disk of the host"),
    pytest.param(PermissionError(13, "permission denied"), False, id="no permission"),
    pytest.param(asyncpg.TargetServerAttributeNotMatched("none is read-write"), True, id="no primary"),
    pytest.param(asyncpg.InterfaceError("connection is closed"), True, id="asyncpg closed"),
    pytest.param(asyncpg.exceptions._base.DataError("invalid input"), False, id="asyncpg value"),
    pytest.param(psycopg.OperationalError("the connection is closed"), True, id="psycopg closed"),
    pytest.param(psycopg.DataError("NUL"), False, id="psycopg value"),
    pytest.param(sqlite3.OperationalError("Could not decode to UTF-8"), False, id="sqlite text"),
    pytest.param(pymysql.err.InternalError("Packet sequence number wrong"), True, id="pymysql out of step"),
    pytest.param(KeyError(1213), False, id="a number of the host's"),
    pytest.param(ValueError("40001"), False, id="any other"),
]


@pytest.mark.parametrize(("error", "expected"), WITHOUT_CODE)
def test_an_error_without_a_code_is_known_by_its_class(error: BaseException, expected: bool) -> None:
    """And one of the host's own is not taken for a server's, whatever its arguments are."""
    assert expected is is_retryable(error)


# --- what each server here can be brought to ---------------------------------------------------------------------


@contextmanager
def plain(url: URL, **options: Any) -> Iterator[Engine]:
    """Make an engine, and leave no connection of it."""
    engine = create_engine(url, poolclass=NullPool, **options)
    yield engine
    engine.dispose()


class Desk:
    """A host's unit of work by one driver, and what else goes on in its database.

    Args:
        store: the driver's side.
        admin: a plain connection beside it, in AUTOCOMMIT.
    """

    def __init__(self, store: SqlStore, admin: Any) -> None:
        self.store = store
        self._admin = admin

    def admin(self, *statements: str) -> None:
        for statement in statements:
            self._admin.execute(text(statement))

    def ask(self, statement: str) -> Any:
        return self._admin.execute(text(statement)).scalar_one()

    def invalidate_admin(self) -> None:
        self._admin.invalidate()

    def begin(self, **options: Any) -> AbstractContextManager[Any]:
        return self.store.connection(**options)

    def sql(self, host: Any, *statements: str) -> Any:
        """Send the host's own statements; return the first value of the last one."""
        found = None
        for statement in statements:
            found = host.execute(text(statement))
            found = self.store.run(found) if self.store.backend.is_async else found
        return found.scalar() if found is not None and found.returns_rows else None

    def route(self, host: Any) -> None:
        TicketRouter(self.store.repository(host)).resolve(MESSAGE)

    def once(self, *before: str) -> None:
        """Do a unit of work: the host's own statements, then a message."""
        with self.begin() as host:
            self.sql(host, *before)
            self.route(host)

    @contextmanager
    def row_held(self) -> Iterator[Any]:
        """Another transaction has the ticket's row."""
        with plain(self.store.engine.url) as engine, engine.connect() as connection:
            transaction = connection.begin()
            connection.execute(text("UPDATE ticketrouter_tickets SET queue_id = NULL"))
            yield connection
            transaction.rollback()

    @contextmanager
    def meanwhile(self, act: Callable[[], None]) -> Iterator[None]:
        """Do something in a thread as soon as somebody waits for a lock."""

        def wait() -> None:
            try:
                until_somebody_waits(self.store.engine)
            finally:
                act()

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            yield
        finally:
            thread.join(30)


@contextmanager
def desk_of(
    backend: Backend, url: URL, mapping: TicketMapping | None = None, **options: Any
) -> Iterator[Desk]:
    """Open a desk with our own tables, and a ticket of the contact."""
    store = SqlStore(backend, url, mapping or TicketMapping.own(), **options)
    try:
        store.mapping.metadata.create_all(store.engine)
        with ExitStack() as stack:
            admin = None
            if backend.database != "sqlite":
                plain = store.engine.execution_options(isolation_level="AUTOCOMMIT")
                admin = stack.enter_context(plain.connect())
            yield Desk(store, admin)
    finally:
        store.dispose()


GONE: tuple[str | int, ...] = (
    "sqlalchemy invalidated",
    "psycopg.OperationalError",
    "asyncpg.exceptions._base.InterfaceError",
    "08",
)
"""How drivers tell that a connection is gone where the server's last words did not come through."""
NOT_TOLD = "psycopg.OperationalError"
"""psycopg does not tell why it could not connect."""
RAN: set[str] = set()
"""Which tests of this file have run in this process."""
PROVOKED: set[str | int] = set()
"""The codes that a test has met here."""


def met(error: BaseException, *codes: str | int) -> Row:
    """Check that an error is of one of these rows, and that all that answers for it says what that row says."""
    told = error.__cause__ if isinstance(error, TicketRouterError) else error
    assert told is not None, repr(error)
    row = row_of(told)
    assert row.code in codes, f"{row.code}: {told!r}"
    assert row.fault.is_retryable is is_retryable(error), repr(error)
    if isinstance(error, TicketRouterError):
        assert EXPECTED[row.fault] == (type(error), error.retryable)
    assert str(CONTACT) not in (str(error) + repr(error) if isinstance(error, TicketRouterError) else "")
    PROVOKED.add(row.code)
    return row


NO_TABLE: set[str | int] = {"42P01", 1146}
NO_COLUMN: set[str | int] = {"42703", 1054, 1}


def met_first(error: BaseException, code: str | int) -> None:
    """Check the same of a table whose column may have gone: where the transaction lives it is looked for, and named."""
    if code not in NO_COLUMN or not isinstance(error, MappingError):
        met(error, code)
        return
    _names_the_column(error)
    assert error.__context__ is not None
    assert row_of(error.__context__).code == code
    PROVOKED.add(code)


def _names_the_column(error: BaseException) -> None:
    assert isinstance(error, MappingError)
    assert str(error).startswith("the database has no column ticketrouter_tickets.queue_id")
    assert not error.retryable


def met_again(error: BaseException, code: str | int) -> None:
    """Check what the next unit of work is told: a table that is not there is asked for, and missed by its name."""
    if code in NO_COLUMN:
        _names_the_column(error)
        return
    if code not in NO_TABLE:
        met(error, code)
        return
    assert isinstance(error, MappingError)
    assert str(error).startswith("there is no table ticketrouter_tickets")
    assert not error.retryable


def caught(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return error
    raise AssertionError("nothing was raised")


def by_every_driver(database: str, *but: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "backend",
        [b for b in SQL_BACKENDS if b.database == database and b.name not in but],
        ids=lambda backend: backend.name,
    )


@pytest.fixture
def url(backend: Backend, databases: Databases) -> Iterator[URL]:
    url = databases.new(backend.database)
    yield url
    databases.drop(url)


@pytest.fixture
def desk(backend: Backend, url: URL) -> Iterator[Desk]:
    with desk_of(backend, url) as desk:
        desk.once()
        yield desk


# --- PostgreSQL -----------------------------------------------------------------------------------------------

PATIENT = (
    ("55P03", "SET LOCAL lock_timeout = '20ms'"),
    ("57014", "SET LOCAL statement_timeout = '50ms'"),
)


@by_every_driver("postgresql")
@pytest.mark.parametrize(("code", "setting"), PATIENT)
def test_who_waits_too_long_may_run_again(desk: Desk, code: str, setting: str) -> None:
    with desk.row_held():
        met(caught(lambda: desk.once(setting)), code)
    desk.once(setting)


@by_every_driver("postgresql")
def test_a_cancelled_statement_may_run_again(desk: Desk) -> None:
    def work() -> None:
        with desk.begin() as host:
            number = desk.sql(host, "SELECT pg_backend_pid()")
            with desk.meanwhile(lambda: desk.admin(f"SELECT pg_cancel_backend({number})")):
                desk.route(host)

    with desk.row_held():
        met(caught(work), "57014")
    desk.once()


@by_every_driver("postgresql")
def test_a_stale_plan_may_run_again(desk: Desk) -> None:
    """A migration between two units of work on one pooled connection."""
    for _ in range(8):  # until the driver has prepared its statements
        with desk.begin() as host:
            TicketRouter(desk.store.repository(host)).find_active(MESSAGE.key)
    desk.admin("ALTER TABLE ticketrouter_tickets ALTER COLUMN status TYPE text")
    with desk.begin() as host:
        found = caught(lambda: TicketRouter(desk.store.repository(host)).find_active(MESSAGE.key))
        row = met(found, f"0A000 {STALE_PLAN}")
        assert row.left == "refuses everything until you roll back"
        rolled_back = host.rollback()
        if desk.store.backend.is_async:
            desk.store.run(rolled_back)
    desk.once()


@by_every_driver("postgresql")
def test_a_role_without_a_free_connection_may_run_again(desk: Desk, backend: Backend, url: URL) -> None:
    desk.admin("DROP ROLE IF EXISTS lone", "CREATE ROLE lone LOGIN SUPERUSER CONNECTION LIMIT 1")
    desk.admin("ALTER ROLE lone NOSUPERUSER", "GRANT ALL ON ALL TABLES IN SCHEMA public TO lone")
    desk.admin("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO lone")
    with desk_of(backend, url):
        as_lone = SqlStore(backend, url.set(username="lone"))
        crowd = SqlStore(backend, url.set(username="lone"))
        try:
            lone = Desk(as_lone, None)
            with crowd.connection():
                met(caught(lone.once), "53300", NOT_TOLD)
            if crowd.sync_engine is not None:
                crowd.sync_engine.dispose()
            if crowd.async_engine is not None:
                crowd.run(crowd.async_engine.dispose())
            # The server counts a connection for a while after it has stopped listing it.
            again(lone.once)
        finally:
            as_lone.dispose()
            crowd.dispose()
    desk.admin("DROP OWNED BY lone", "DROP ROLE lone")


@by_every_driver("postgresql")
def test_a_write_skew_at_commit_may_run_again(desk: Desk) -> None:
    """SERIALIZABLE: it is the host's COMMIT that fails."""
    desk.admin(
        "CREATE TABLE duty (id int PRIMARY KEY, yes boolean)", "INSERT INTO duty VALUES (1, true), (2, true)"
    )
    count = "SELECT count(*) FROM duty WHERE yes"

    def work() -> None:
        with desk.begin(isolation_level="SERIALIZABLE") as host:
            desk.sql(host, count, "UPDATE duty SET yes = false WHERE id = 1")
            desk.route(host)
            plain = desk.store.engine.execution_options(isolation_level="SERIALIZABLE")
            with plain.begin() as other:
                other.execute(text(count))
                other.execute(text("UPDATE duty SET yes = false WHERE id = 2"))

    met(caught(work), "40001")
    desk.once()


@by_every_driver("postgresql")
def test_a_deadlock_at_commit_may_run_again(desk: Desk) -> None:
    """A deferred trigger of the host's waits for who waits for us."""
    desk.admin(
        "CREATE TABLE work (id int PRIMARY KEY, done int)",
        "INSERT INTO work VALUES (1, 0), (2, 0)",
        "CREATE TABLE late (id int)",
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN UPDATE work SET done = 1 WHERE id = 1; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION late()",
    )
    other = create_engine(desk.store.engine.url, poolclass=NullPool)
    rival = other.connect()
    rival.execute(text("SET deadlock_timeout = '1h'"))
    rival.execute(text("UPDATE work SET done = 2 WHERE id = 1"))
    waiting = threading.Thread(
        target=caught_or_none, args=[lambda: rival.execute(text("UPDATE work SET done = 2 WHERE id = 2"))]
    )

    def work() -> None:
        with desk.begin() as host:
            desk.sql(host, "SET LOCAL deadlock_timeout = '1ms'", "UPDATE work SET done = 1 WHERE id = 2")
            desk.route(host)
            desk.sql(host, "INSERT INTO late VALUES (1)")
            with desk.meanwhile(lambda: None):
                waiting.start()

    met(caught(work), "40P01")
    waiting.join(30)
    rival.rollback()
    rival.close()
    other.dispose()
    desk.once()


def caught_or_none(act: Callable[[], object]) -> None:
    with suppress(DBAPIError):
        act()


@by_every_driver("postgresql")
def test_who_is_idle_too_long_may_run_again(desk: Desk) -> None:
    def work() -> None:
        with desk.begin() as host:
            number = desk.sql(
                host, "SET idle_in_transaction_session_timeout = '10ms'", "SELECT pg_backend_pid()"
            )
            until_gone(desk, number)
            desk.route(host)

    met(caught(work), "25P03", *GONE)
    desk.once()


def until_gone(desk: Desk, number: int) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if not desk.ask(f"SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {number}"):
            return
        pause.wait(0.01)
    raise AssertionError("it is still there")


@by_every_driver("postgresql")
def test_a_read_only_transaction_is_refused_again(desk: Desk) -> None:
    for _ in range(2):
        met(caught(lambda: desk.once("SET TRANSACTION READ ONLY")), "25006")


@by_every_driver("postgresql")
def test_a_swallowed_error_says_what_to_do_itself(desk: Desk) -> None:
    def work() -> None:
        with desk.begin() as host:
            met(caught(lambda: desk.sql(host, "SELECT 1 / 0")), "22")
            desk.route(host)

    for _ in range(2):
        met(caught(work), "25P02")


@by_every_driver("postgresql")
def test_prepared_statements_that_a_pooler_forgets(desk: Desk) -> None:
    """As behind a pooler that gives the connection to somebody else between two units of work."""
    for _ in range(8):
        with desk.begin() as host:
            TicketRouter(desk.store.repository(host)).find_active(MESSAGE.key)

    def work() -> None:
        with desk.begin() as host:
            desk.sql(host, "DEALLOCATE ALL")
            TicketRouter(desk.store.repository(host)).find_active(MESSAGE.key)

    found = caught(work) if desk.store.backend.name == "asyncpg" else None
    if found is not None:
        met(found, "26000")


CONSTRAINTS_OF_POSTGRESQL = (
    ("23514", "ALTER TABLE ticketrouter_tickets ADD CONSTRAINT few CHECK (unread_messages < 2)"),
    (
        "23503",
        (
            "CREATE TABLE person (id varchar(255) PRIMARY KEY) ;; ALTER TABLE ticketrouter_tickets ADD CONSTRAINT known "
            "FOREIGN KEY (contact_id) REFERENCES person (id) NOT VALID"
        ),
    ),
    ("42501", "DROP ROLE IF EXISTS reading ;; CREATE ROLE reading"),
    (
        "P0",
        (
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END' ;; "
            "CREATE TRIGGER no BEFORE INSERT OR UPDATE ON ticketrouter_tickets FOR EACH ROW EXECUTE FUNCTION no()"
        ),
    ),
    ("42703", "ALTER TABLE ticketrouter_tickets RENAME COLUMN queue_id TO team_id"),
    ("42P01", "ALTER TABLE ticketrouter_tickets RENAME TO tickets_of_old"),
)


@by_every_driver("postgresql", "psycopg-async")
@pytest.mark.parametrize(
    ("code", "change"), CONSTRAINTS_OF_POSTGRESQL, ids=lambda each: str(each)[:6].strip()
)
def test_what_a_table_refuses_it_refuses_again(
    desk: Desk, backend: Backend, url: URL, code: str, change: str
) -> None:
    desk.admin(*change.split(" ;; "))
    restricted = "SELECT 1"
    if code == "42501":
        desk.admin("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading")
        restricted = "SET LOCAL ROLE reading"

    def work() -> None:
        with desk.begin() as host:
            desk.sql(host, restricted)
            router = TicketRouter(desk.store.repository(host))
            router.resolve(MESSAGE)
            router.resolve(InboundMessage(1, CONTACT + 1, 10))

    met_first(caught(work), code)
    met_again(caught(work), code)
    if code == "42501":
        desk.admin("DROP OWNED BY reading", "DROP ROLE reading")


def _errors_of_a_greeting(code: str) -> bytes:
    fields = b"SFATAL\0VFATAL\0" + b"C" + code.encode() + b"\0Mas the server says it\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@contextmanager
def refusing(greeting: bytes, *, waits: bool) -> Iterator[int]:
    """Listen on a port, and refuse whoever comes with this."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    if waits:
                        asked = client.recv(8)
                        if asked[4:] == (80877103).to_bytes(4, "big"):  # for TLS
                            client.sendall(b"N")
                            client.recv(1000)
                    client.sendall(greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@by_every_driver("postgresql")
@pytest.mark.parametrize(("code", "expected"), [("57P03", True), ("53300", True), ("28P01", False)])
def test_a_server_that_refuses_the_connection(backend: Backend, code: str, expected: bool) -> None:
    """One driver, asyncpg, tells the code; psycopg does not, and then the answer is yes."""
    with refusing(_errors_of_a_greeting(code), waits=True) as port:
        url = URL.create("postgresql+psycopg", "nobody", host="127.0.0.1", port=port, database="none")
        store = SqlStore(backend, url)
        error = caught(lambda: Desk(store, None).once())
        store.dispose()
    if backend.name == "asyncpg":
        met(error, code, code[:2])
        assert expected is is_retryable(error)
    else:
        met(error, NOT_TOLD)


@pytest.fixture(scope="module")
def small_postgresql() -> Iterator[URL]:
    """A server of its own, with little room for locks."""
    if os.environ.get("TICKETROUTER_TEST_POSTGRESQL_URL"):
        pytest.skip("only a server that is started here may be brought down")
    try:
        settings = {"max_locks_per_transaction": "10", "max_connections": "20"}
        with servers.postgresql(settings=settings) as url:
            yield url
    except servers.UnavailableError as reason:
        cannot_be_had("postgresql", reason)


@by_every_driver("postgresql")
def test_a_server_without_room_for_locks_may_run_again(backend: Backend, small_postgresql: URL) -> None:
    with desk_of(backend, small_postgresql) as desk:
        desk.once()
        with plain(small_postgresql, isolation_level="AUTOCOMMIT") as greedy, greedy.connect() as other:
            number = 0
            while number < 100_000:
                try:
                    other.execute(text(f"SELECT pg_advisory_lock({number})"))
                except DBAPIError:
                    break
                number += 1
            met(caught(desk.once), "53200")
            other.execute(text("SELECT pg_advisory_unlock_all()"))
        desk.once()


@by_every_driver("postgresql")
def test_a_crash_of_the_server_may_run_again(backend: Backend, small_postgresql: URL) -> None:
    """Killing one process of the server ends all connections, and for a moment it takes none."""
    with desk_of(backend, small_postgresql) as desk:
        desk.once()
        desk.admin(
            "CHECKPOINT"
        )  # this server is told not to wait for the disk: what a crash takes may be a table
        victim = create_engine(small_postgresql, poolclass=NullPool).connect()
        number = victim.execute(text("SELECT pg_backend_pid()")).scalar_one()

        def work() -> None:
            with desk.begin() as host:
                mine = desk.sql(host, "SELECT pg_backend_pid()")
                os.kill(number, signal.SIGKILL)
                pause = threading.Event()
                for _ in range(3000):
                    if not Path(f"/proc/{mine}").exists():
                        break
                    pause.wait(0.01)
                desk.route(host)

        met(caught(work), "57P02", *GONE)
        victim.invalidate()
        victim.close()
        desk.invalidate_admin()
        again(desk.once)


@pytest.mark.broker
@by_every_driver("postgresql")
def test_what_pgbouncer_says_may_run_again(backend: Backend, databases: Databases) -> None:
    """Who waits for one of its connections for too long is sent away, as 08P01."""
    direct = databases.new("postgresql")
    try:
        with servers.pgbouncer(direct, servers=1, settings={"query_wait_timeout": "1"}) as url:
            off: dict[str, Any] = {"prepare_threshold": None}
            if backend.name == "asyncpg":
                off = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
            with plain(direct) as engine:
                TicketMapping.own().metadata.create_all(engine)
            store = SqlStore(backend, url, TicketMapping.own(), connect_args=off)
            desk = Desk(store, None)
            desk.once()
            unprepared = {"prepare_threshold": None}
            with plain(url, connect_args=unprepared) as engine, engine.begin() as other:
                other.execute(text("SELECT 1"))
                met(caught(desk.once), "08P01", *GONE)
            desk.once()
            store.dispose()
    except servers.UnavailableError as reason:
        cannot_be_had("pgbouncer", reason)
    databases.drop(direct)


# --- MariaDB ----------------------------------------------------------------------------------------------------


@by_every_driver("mariadb")
def test_who_waits_too_long_on_mariadb_may_run_again(desk: Desk) -> None:
    for code, setting in (
        (1205, "SET SESSION innodb_lock_wait_timeout = 0"),
        (1969, "SET SESSION max_statement_time = 0.05"),
    ):
        with desk.row_held():
            met(caught(lambda: desk.once(setting)), code)  # noqa: B023 - it is called at once
        desk.once("SET SESSION innodb_lock_wait_timeout = 50", "SET SESSION max_statement_time = 0")


@by_every_driver("mariadb")
def test_an_interrupted_statement_may_run_again(desk: Desk) -> None:
    def work() -> None:
        with desk.begin() as host:
            number = desk.sql(host, "SELECT CONNECTION_ID()")
            with desk.meanwhile(lambda: desk.admin(f"KILL QUERY {number}")):
                desk.route(host)

    with desk.row_held():
        met(caught(work), 1317)
    desk.once()


@by_every_driver("mariadb")
def test_a_changed_definition_may_run_again(desk: Desk) -> None:
    """A migration between BEGIN, which takes the snapshot, and the first look."""

    def work() -> None:
        with desk.begin() as host:
            desk.sql(host, "COMMIT", "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            desk.admin("ALTER TABLE ticketrouter_tickets ADD COLUMN note INT, FORCE, ALGORITHM=COPY")
            desk.route(host)

    met(caught(work), 1412)
    desk.once()


@by_every_driver("mariadb")
def test_a_deadlock_on_mariadb_may_run_again(desk: Desk) -> None:
    desk.admin(
        "CREATE TABLE work (id INT PRIMARY KEY, done INT)",
        "CREATE TABLE weights (id INT PRIMARY KEY)",
        "INSERT INTO work VALUES (1, 0)",
    )

    def work() -> None:
        with desk.begin() as host, desk.row_held() as other:
            desk.sql(host, "UPDATE work SET done = 1 WHERE id = 1")
            # The victim is who has written less.
            other.execute(text("INSERT INTO weights (id) SELECT seq FROM seq_1_to_100"))
            wait = text("UPDATE work SET done = 2 WHERE id = 1")
            waiting = threading.Thread(target=caught_or_none, args=[lambda: other.execute(wait)])
            with desk.meanwhile(lambda: None):
                waiting.start()
            try:
                desk.route(host)
            finally:
                waiting.join(30)

    met(caught(work), 1213)
    desk.once()


@by_every_driver("mariadb")
def test_a_closed_connection_may_run_again(desk: Desk, backend: Backend) -> None:
    """Something has closed the driver's connection under the host's."""

    def work() -> None:
        with desk.begin() as host:
            raw = host.get_raw_connection() if backend.is_async else host.connection
            raw = desk.store.run(raw) if backend.is_async else raw
            driver = raw.driver_connection
            driver.close() if backend.is_async else driver._force_close()
            desk.route(host)

    error = caught(work)
    met(error, 0, 2006, 2013, "sqlalchemy invalidated")
    desk.once()


@by_every_driver("mariadb")
def test_a_read_only_transaction_on_mariadb_is_refused_again(desk: Desk) -> None:
    for _ in range(2):
        met(caught(lambda: desk.once("COMMIT", "START TRANSACTION READ ONLY")), 1792)


CONSTRAINTS_OF_MARIADB = (
    (4025, "ALTER TABLE ticketrouter_tickets ADD CONSTRAINT few CHECK (unread_messages < 2)"),
    (
        1644,
        (
            "CREATE TRIGGER no BEFORE UPDATE ON ticketrouter_tickets FOR EACH ROW SIGNAL SQLSTATE '45000' "
            "SET MESSAGE_TEXT = 'no'"
        ),
    ),
    (1054, "ALTER TABLE ticketrouter_tickets RENAME COLUMN queue_id TO team_id"),
    (1146, "RENAME TABLE ticketrouter_tickets TO tickets_of_old"),
    (
        1442,
        (
            "CREATE TRIGGER self BEFORE UPDATE ON ticketrouter_tickets FOR EACH ROW "
            "UPDATE ticketrouter_tickets SET queue_id = NULL"
        ),
    ),
)


@by_every_driver("mariadb")
@pytest.mark.parametrize(("code", "change"), CONSTRAINTS_OF_MARIADB, ids=lambda each: str(each)[:5].strip())
def test_what_a_table_of_mariadb_refuses_it_refuses_again(desk: Desk, code: int, change: str) -> None:
    desk.admin(change)
    met_first(caught(desk.once), code)
    met_again(caught(desk.once), code)


@pytest.fixture(scope="module")
def small_mariadb() -> Iterator[URL]:
    """A server of its own, with few connections, and a user without privileges of an administrator."""
    if os.environ.get("TICKETROUTER_TEST_MARIADB_URL"):
        pytest.skip("only a server that is started here may be brought down")
    try:
        with servers.mariadb(settings={"max-connections": "10", "max-user-connections": "100"}) as url:
            with plain(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
                for statement in (
                    "CREATE DATABASE desk",
                    "CREATE USER clerk",
                    "GRANT ALL ON desk.* TO clerk",
                ):
                    connection.execute(text(statement))
            yield url.set(database="desk")
    except servers.UnavailableError as reason:
        cannot_be_had("mariadb", reason)


@contextmanager
def clerks_desk(backend: Backend, url: URL, **options: Any) -> Iterator[tuple[Desk, Desk]]:
    """Open the desk of the clerk, and that of an administrator."""
    with desk_of(backend, url) as admins:
        store = SqlStore(backend, url.set(username="clerk"), TicketMapping.own(), **options)
        try:
            desk = Desk(store, admins._admin)
            desk.once()
            yield desk, admins
        finally:
            store.dispose()


LIMITS = (
    (1040, None, "10"),
    (1203, "SET GLOBAL max_user_connections = 1", "1"),
    (1226, "GRANT USAGE ON desk.* TO clerk WITH MAX_USER_CONNECTIONS 1", "1"),
)


@by_every_driver("mariadb")
@pytest.mark.parametrize(("code", "limit", "crowd"), LIMITS, ids=["server", "users", "user"])
def test_a_server_without_a_free_connection_may_run_again(
    backend: Backend, small_mariadb: URL, code: int, limit: str | None, crowd: str
) -> None:
    with clerks_desk(backend, small_mariadb, poolclass=NullPool) as (desk, _):
        if limit is not None:
            desk.admin(limit)
        with ExitStack() as others:
            engine = others.enter_context(plain(small_mariadb.set(username="clerk")))
            for _ in range(int(crowd)):
                with suppress(DBAPIError):
                    others.enter_context(engine.connect())
            met(caught(desk.once), code)
        again(desk.once)
        desk.admin(
            "SET GLOBAL max_user_connections = 100",
            "GRANT USAGE ON desk.* TO clerk WITH MAX_USER_CONNECTIONS 0",
        )


def again(act: Callable[[], None]) -> None:
    """Run again as a host does: with waits, as long as the error says so."""
    pause = threading.Event()
    for _ in range(1000):
        try:
            return act()
        except Exception as error:
            if not is_retryable(error):
                raise
        pause.wait(0.02)
    raise AssertionError("it never succeeded")


@by_every_driver("mariadb")
@pytest.mark.parametrize("when", ["before", "at COMMIT"])
def test_a_failover_may_run_again(backend: Backend, small_mariadb: URL, when: str) -> None:
    """The old primary is made read-only while the others elect a new one."""
    read_only = "SET GLOBAL read_only = ON"
    with clerks_desk(backend, small_mariadb) as (desk, _):

        def work() -> None:
            with desk.begin() as host:
                if when == "before":
                    desk.admin(read_only)
                desk.route(host)
                desk.admin(read_only)

        met(caught(work), 1290)
        desk.admin("SET GLOBAL read_only = OFF")
        desk.once()


@by_every_driver("mariadb")
def test_a_reader_is_left_where_the_host_says_so(backend: Backend, small_mariadb: URL) -> None:
    """As docs/how-to/retry.md has it: the next run makes a new connection."""
    with clerks_desk(backend, small_mariadb) as (desk, _):
        engine: Any = desk.store.sync_engine or desk.store.async_engine
        event.listen(getattr(engine, "sync_engine", engine), "handle_error", leave_readers)
        asked = "SELECT CONNECTION_ID()"
        numbers = []
        desk.admin("SET GLOBAL read_only = ON")

        def work() -> None:
            with desk.begin() as host:
                numbers.append(desk.sql(host, asked))
                desk.route(host)

        met(caught(work), "sqlalchemy invalidated")
        desk.admin("SET GLOBAL read_only = OFF")
        work()

    assert numbers[0] != numbers[1]


def leave_readers(context: Any) -> None:
    error = context.original_exception
    if getattr(error, "sqlstate", None) == "25006" or error.args[:1] in {(1290,), (1836,)}:
        context.is_disconnect = True


# --- SQLite -------------------------------------------------------------------------------------------------------


def _impatient(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA busy_timeout = 0")


@contextmanager
def file_of(backend: Backend, tmp_path: Path) -> Iterator[Desk]:
    """Open a desk over a file; a busy one is told at once."""
    url = URL.create("sqlite+pysqlite", database=str(tmp_path / "desk.sqlite3"))
    store = SqlStore(backend, url, TicketMapping.own())
    engine = store.sync_engine or store.async_engine
    event.listen(getattr(engine, "sync_engine", engine), "connect", _impatient)
    try:
        store.mapping.metadata.create_all(store.engine)
        Desk(store, None).once()
        yield Desk(store, None)
    finally:
        store.dispose()


@by_every_driver("sqlite")
def test_a_busy_file_may_run_again(backend: Backend, tmp_path: Path) -> None:
    with file_of(backend, tmp_path) as desk:
        with desk.store.engine.begin():
            met(caught(desk.once), 5)
        desk.once()


@contextmanager
def hosts_own(tmp_path: Path, mode: str) -> Iterator[tuple[Engine, sqlite3.Connection]]:
    """A file of the host's, as the driver opens it, and another connection to it."""
    path = str(tmp_path / "work.sqlite3")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute("CREATE TABLE work (id INTEGER PRIMARY KEY)")
    url = URL.create("sqlite", database=path)
    with plain(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 0}) as engine:
        yield engine, other
    other.close()


def statements(engine: Engine, *sent: str, between: Callable[[], object]) -> None:
    """Send the host's own statements, and do something else before the last one."""
    with engine.connect() as host:
        for number, statement in enumerate(sent):
            if number == len(sent) - 1:
                between()
            host.exec_driver_sql(statement)


def test_a_commit_beside_a_reader_may_run_again(tmp_path: Path) -> None:
    """In the rollback journal's mode who reads keeps others from committing."""
    with hosts_own(tmp_path, "DELETE") as (engine, reader):

        def read() -> None:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM work").fetchall()

        work = "BEGIN IMMEDIATE", "INSERT INTO work VALUES (1)", "COMMIT"
        met(caught(lambda: statements(engine, *work, between=read)), 5)
        reader.execute("COMMIT")
        statements(engine, *work, between=lambda: None)


def test_a_snapshot_that_another_has_written_since_may_run_again(tmp_path: Path) -> None:
    """A transaction of the host's that began with a read."""
    with hosts_own(tmp_path, "WAL") as (engine, other):
        work = "BEGIN", "SELECT * FROM work", "INSERT INTO work VALUES (2)"
        write = "INSERT INTO work VALUES (1)"
        met(caught(lambda: statements(engine, *work, between=lambda: other.execute(write))), 517)
        statements(engine, *work, between=lambda: None)


def test_a_file_that_was_moved_away_is_refused_again(tmp_path: Path) -> None:
    """What would be written is in no file that anybody opens."""
    with hosts_own(tmp_path, "DELETE") as (engine, _), engine.connect() as host:
        host.exec_driver_sql("SELECT * FROM work").all()
        (tmp_path / "work.sqlite3").rename(tmp_path / "elsewhere.sqlite3")
        for _ in range(2):
            met(caught(lambda: host.exec_driver_sql("INSERT INTO work VALUES (1)")), 1032)


def test_a_shared_cache_that_another_writes_may_run_again() -> None:
    name = "file:shared?mode=memory&cache=shared"
    writer = sqlite3.connect(name, uri=True, isolation_level=None)
    writer.execute("CREATE TABLE work (id INTEGER PRIMARY KEY)")
    with plain(URL.create("sqlite", database=name, query={"uri": "true"})) as engine:

        def work() -> None:
            with engine.connect() as host:
                host.exec_driver_sql("SELECT * FROM work").all()

        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO work VALUES (1)")
        met(caught(work), 262)
        writer.execute("COMMIT")
        work()
    writer.close()


def test_a_table_that_is_read_in_the_same_connection_may_run_again() -> None:
    with plain(URL.create("sqlite")) as engine, engine.connect() as host:
        host.exec_driver_sql("CREATE TABLE work (id INTEGER PRIMARY KEY)")
        host.exec_driver_sql("INSERT INTO work VALUES (1), (2)")
        raw = host.connection.driver_connection
        assert raw is not None
        reading = raw.execute("SELECT * FROM work")
        reading.fetchone()
        met(caught(lambda: host.exec_driver_sql("DROP TABLE work")), 6)
        reading.close()
        host.exec_driver_sql("DROP TABLE work")


def _refuse(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_UPDATE else sqlite3.SQLITE_OK


REFUSALS: tuple[tuple[int, Callable[[Any], object]], ...] = (
    (9, lambda raw: raw.set_progress_handler(lambda: 1, 1)),
    (13, lambda raw: raw.execute("PRAGMA max_page_count = 1")),
    (23, lambda raw: raw.set_authorizer(_refuse)),
    (8, lambda raw: raw.execute("PRAGMA query_only = ON")),
)


@pytest.mark.parametrize(("code", "refuse"), REFUSALS, ids=["9", "13", "23", "8"])
@by_every_driver("sqlite", "aiosqlite")
def test_what_sqlite_refuses_it_refuses_again(
    backend: Backend, tmp_path: Path, code: int, refuse: Callable[[Any], object]
) -> None:
    with file_of(backend, tmp_path) as desk:

        def work(*, prepare: bool) -> None:
            with desk.begin() as host:
                if prepare:
                    raw = host.connection.driver_connection
                    raw.execute("PRAGMA cache_size = 0")
                    refuse(raw)
                if code == 13:
                    desk.sql(host, "CREATE TABLE more (id INTEGER PRIMARY KEY)")
                desk.route(host)

        met(caught(lambda: work(prepare=True)), code)
        met(caught(lambda: work(prepare=False)), code)


@by_every_driver("sqlite")
@pytest.mark.parametrize(("code", "place"), [(14, "none/desk.sqlite3"), (26, "garbage.sqlite3")])
def test_a_file_that_is_none(backend: Backend, tmp_path: Path, code: int, place: str) -> None:
    (tmp_path / "garbage.sqlite3").write_bytes(b"this is no database, and never was one" * 100)
    url = URL.create("sqlite+pysqlite", database=str(tmp_path / place))
    store = SqlStore(backend, url, TicketMapping.own())
    for _ in range(2):
        met(caught(lambda: Desk(store, None).once()), code)
    store.dispose()


CONSTRAINTS_OF_SQLITE = (
    (
        1811,
        "CREATE TRIGGER no BEFORE UPDATE ON ticketrouter_tickets BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    (1, "ALTER TABLE ticketrouter_tickets RENAME COLUMN queue_id TO team_id"),
)


@by_every_driver("sqlite")
@pytest.mark.parametrize(("code", "change"), CONSTRAINTS_OF_SQLITE, ids=["trigger", "column"])
def test_what_a_table_of_sqlite_refuses_it_refuses_again(
    backend: Backend, tmp_path: Path, code: int, change: str
) -> None:
    with file_of(backend, tmp_path) as desk:
        with desk.store.engine.begin() as connection:
            connection.execute(text(change))
        met_first(caught(desk.once), code)
        met_again(caught(desk.once), code)


# --- no server said it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", SQL_BACKENDS, ids=lambda backend: backend.name)
def test_a_pool_without_a_free_connection_may_run_again(backend: Backend, databases: Databases) -> None:
    """The host's own pool, at its own limit."""
    url = databases.new(backend.database)
    kind = AsyncAdaptedQueuePool if backend.is_async else QueuePool
    store = SqlStore(
        backend, url, TicketMapping.own(), poolclass=kind, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    store.mapping.metadata.create_all(store.engine)
    desk = Desk(store, None)

    def by_session() -> None:
        if not backend.is_async:
            with Session(store.sync_engine) as session, session.begin():
                desk.route(session)
            return
        with blocking(AsyncSession(store.async_engine), store.run) as asynchronous:
            desk.route(asynchronous)

    with desk.begin():
        met(caught(desk.once), "sqlalchemy.exc.TimeoutError")
        error = caught(by_session)
        assert RepositoryError is type(error)
        met(error, "sqlalchemy.exc.TimeoutError")
    desk.once()
    store.dispose()
    databases.drop(url)


ELSEWHERE = "tests/sqlalchemy/test_bad_input.py, tests/faults"
NO_MYSQL = "there is no MySQL here"
NO_CLUSTER = "tests/faults/test_galera.py, where there is a cluster"
NO_SUCH_DRIVER = "a message of the drivers in C, or one that PyMySQL and asyncmy send in states that no call of ours reaches"
LAST_WORDS = (
    "what a server writes to a client that has gone: one that has not reads the end of the connection"
)
STARVING = "the whole machine would have to starve"
TWO_PHASE = "of two-phase transactions, which a host begins by itself"
NOT_PROVOKED: dict[str | int, str] = {
    **dict.fromkeys(("57P01", 1020, 2002, 2003, 2006, 2013), ELSEWHERE),
    **dict.fromkeys((3015, 3024, 3032, 3100, 3101, 3168, 3169, 3572, 4031), NO_MYSQL),
    **dict.fromkeys((1047, 1180, 1181, 1964), NO_CLUSTER),
    **dict.fromkeys((2000, 2001, 2005, 2012, 2014, 2027, 2045, 2048, 2055), NO_SUCH_DRIVER),
    **dict.fromkeys((1053, 1080, 1152, 1156, 1158, 1159, 1160, 1161, 1184, 1927), LAST_WORDS),
    **dict.fromkeys((1037, 1041, 1135, 1206, 1637), STARVING),
    **dict.fromkeys((1402, 1613, 1614), TWO_PHASE),
    **dict.fromkeys((1461, 1615), "of prepared statements, which no driver here uses"),
    0: "only by PyMySQL, and only where it has closed the connection itself",
    1042: "a resolver of names would have to fail",
    1297: "of an engine that is no InnoDB",
    1689: "only of lock requests of low priority",
    1836: "what MySQL says where MariaDB says 1290",
    "40": "a class, of which each code that PostgreSQL uses has its row",
    "08": "a class, told by asyncpg where the server's last words did not come through",
    "40003": "no driver here says it",
    "72000": "not before minutes, and only up to PostgreSQL 16",
    "25P03": "told by psycopg alone",
    "25P04": "from PostgreSQL 17 on",
    "57P02": "told by psycopg alone, and not always",
    "57P05": "told by psycopg alone",
    261: "another process would have to be stopped in its recovery",
    773: "only where SQLite was built to wait for locks of the system",
    15: "only by a race that SQLite itself calls very rare",
    17: "only where the table changes fifty times in a row",
}
"""The rows that say yes and that no test of this file is sure to meet, and why."""


def yes() -> set[Any]:
    return {
        row.code for codes in SERVERS if codes is not CLASSES for row in codes.rows if row.fault.is_retryable
    }


def test_what_cannot_be_provoked_says_yes() -> None:
    """A reason stands for no row that has gone, or that says no."""
    assert set() == NOT_PROVOKED.keys() - yes()


@pytest.fixture(autouse=True)
def ran(request: pytest.FixtureRequest) -> None:
    """Note which tests have run."""
    RAN.add(request.node.nodeid)


@pytest.fixture(scope="module", autouse=True)
def every_yes_was_provoked_or_cannot_be_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """See at the end of this file, in whatever order, that a row which says yes and was not met is named with the reason."""
    yield
    options = request.config.option
    some = options.keyword or any("::" in each for each in request.config.args)
    all_of_it = {item.nodeid for item in request.session.items if item.path == request.path} <= RAN
    # Those of a broker may have been left out.
    whole = not some and "not broker" not in options.markexpr
    if all_of_it and whole and PROVOKED >= {"40001", 1213, 517}:  # and on all databases
        assert set() == yes() - PROVOKED - NOT_PROVOKED.keys()
