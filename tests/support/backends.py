"""The back ends that the same tests run on: memory, and every database with every driver.

Law of this file: a test sees a Store of `ticketrouter.testing`, whichever back end is behind it; the ways around the
repository (`insert`, `tickets`, `overwrite`) use none of the library's statements.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest
from attrs import evolve, frozen
from sqlalchemy import URL, Engine, create_engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support import servers
from tests.support.memory_store import MemoryStore
from ticketrouter import Ticket, TicketRepository
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    is_retryable,
)
from ticketrouter.testing import Blocking, EventLoop, Store
from ticketrouter.testing.store import blocking


@frozen
class Backend:
    """A database and the driver that reaches it; memory has neither."""

    name: str
    database: str
    driver: str
    is_async: bool = False


BACKENDS = (
    Backend("memory", "memory", ""),
    Backend("memory-async", "memory", "", is_async=True),
    Backend("sqlite", "sqlite", "sqlite+pysqlite"),
    Backend("aiosqlite", "sqlite", "sqlite+aiosqlite", is_async=True),
    Backend("psycopg", "postgresql", "postgresql+psycopg"),
    Backend("psycopg-async", "postgresql", "postgresql+psycopg", is_async=True),
    Backend("asyncpg", "postgresql", "postgresql+asyncpg", is_async=True),
    Backend("pymysql", "mariadb", "mariadb+pymysql"),
    Backend("asyncmy", "mariadb", "mariadb+asyncmy", is_async=True),
)
SQL_BACKENDS = tuple(backend for backend in BACKENDS if backend.database != "memory")
ONE_PER_DATABASE = tuple(b for b in BACKENDS if b.name in {"sqlite", "psycopg", "pymysql"})


def tries(backend: Backend, *, in_memory: int, on_a_database: int) -> int:
    """How many random examples tell something new: a second driver of a database reaches the same rows by the same SQL."""
    if backend.database == "memory":
        return in_memory
    return on_a_database if backend in ONE_PER_DATABASE else on_a_database // 3


class SqlStore(Store):
    """A database of this test process, reached by the driver under test; `engine` is a plain one beside it."""

    concurrent = True

    def __init__(
        self,
        backend: Backend,
        url: URL,
        mapping: TicketMapping = DEFAULT_MAPPING,
        **options: Any,
    ) -> None:
        self.backend = backend
        self.mapping = mapping
        self.url = url
        self.engine = _engine(url)
        driven = url.set(drivername=backend.driver)
        self.loop = EventLoop() if backend.is_async else None
        self.async_engine: AsyncEngine | None = None
        self.sync_engine: Engine | None = None
        if backend.is_async:
            self.async_engine = create_async_engine(driven, **options)
            if backend.database == "sqlite":
                configure_sqlite(self.async_engine)
        else:
            self.sync_engine = _engine(driven, **options)

    @contextmanager
    def transaction(self, **options: Any) -> Iterator[TicketRepository]:
        with self.connection(**options) as connection:
            yield self.repository(connection)

    @contextmanager
    def connection(self, **options: Any) -> Iterator[Any]:
        """Yield the host's connection, in a transaction, of the driver under test."""
        if self.sync_engine is not None:
            with self.sync_engine.execution_options(**options).begin() as connection:
                yield connection
            return
        assert self.async_engine is not None
        with blocking(self.async_engine.execution_options(**options).begin(), self.run) as connection:
            yield connection

    def repository(self, host: Any) -> TicketRepository:
        """Return the repository under test over a host's connection or session."""
        if self.backend.is_async:
            repository = AsyncSQLAlchemyTicketRepository(host, self.mapping)
            return Blocking(repository, self.run)
        return SQLAlchemyTicketRepository(host, self.mapping)

    def run(self, coroutine: Any) -> Any:
        assert self.loop is not None
        return self.loop.run(coroutine)

    @property
    def overlapping(self) -> bool:  # type: ignore[override]
        """A transaction of SQLite begins with the write lock."""
        return self.backend.database != "sqlite"

    def is_retryable(self, error: Exception) -> bool:
        return is_retryable(error)

    def tickets(self) -> list[Ticket]:
        fields = [column.label(field) for field, column in self.mapping.columns.items()]
        with self.engine.begin() as connection:
            rows = connection.execute(select(*fields).order_by("id")).mappings().all()
        return [Ticket(**row) for row in rows]

    def insert(self, ticket: Ticket) -> Ticket:
        values = {
            column.key: getattr(ticket, field)
            for field, column in self.mapping.columns.items()
            if field != "id"
        }
        with self.engine.begin() as connection:
            inserted = connection.execute(self.mapping.table.insert().values(values))
            return evolve(ticket, id=inserted.inserted_primary_key[0])  # type: ignore[index]

    def overwrite(self, ticket: Ticket) -> None:
        values = {column.key: getattr(ticket, field) for field, column in self.mapping.columns.items()}
        with self.engine.begin() as connection:
            its_row = self.mapping.columns["id"] == ticket.id
            connection.execute(self.mapping.table.update().where(its_row).values(values))

    def empty(self) -> None:
        """Delete every row: far quicker than to make the tables anew."""
        with self.engine.begin() as connection:
            for table in self.mapping.metadata.sorted_tables:
                connection.execute(table.delete())

    def assert_no_leak(self) -> None:
        """Every connection has been given back."""
        for engine in (self.engine, self.sync_engine, self.async_engine):
            if engine is not None:
                # A pool that keeps nothing has nothing to count.
                assert getattr(engine.pool, "checkedout", int)() == 0

    def dispose(self) -> None:
        if self.async_engine is not None:
            self.run(self.async_engine.dispose())
        if self.sync_engine is not None:
            self.sync_engine.dispose()
        if self.loop is not None:
            self.loop.close()
        self.engine.dispose()


@contextmanager
def counted(store: SqlStore) -> Iterator[list[str]]:
    """Collect what is sent over the engine under test."""
    engine = store.sync_engine if store.async_engine is None else store.async_engine.sync_engine
    with sent_over(engine) as sent:
        yield sent


@contextmanager
def sent_over(engine: Any) -> Iterator[list[str]]:
    """Collect what is sent over an engine."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def _engine(url: URL, **options: Any) -> Engine:
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    return engine


# --- the databases of this test process ----------------------------------------------------------------------


class Databases:
    """Starts each server when it is first asked for, and makes new databases in it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._open = ExitStack()
        self._servers: dict[str, URL | str] = {}

    def new(self, database: str) -> URL:
        """Make an empty database, or skip the test where there is no such server."""
        name = f"tr_{uuid4().hex[:12]}"
        if database == "sqlite":
            return URL.create("sqlite+pysqlite", database=str(self._place / f"{name}.sqlite3"))
        url = self._server(database)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.set(database=name)

    def drop(self, url: URL) -> None:
        """Drop a database that `new` has made."""
        database = url.get_backend_name()
        if database == "sqlite":
            return
        engine = create_engine(self._server(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {url.database}"))
        engine.dispose()

    def close(self) -> None:
        self._open.close()

    def _server(self, database: str) -> URL:
        if database not in self._servers:
            start = {"postgresql": servers.postgresql, "mariadb": servers.mariadb, "mysql": servers.mysql}[
                database
            ]
            try:
                self._servers[database] = self._open.enter_context(start())
            except servers.UnavailableError as reason:
                self._servers[database] = str(reason)
        found = self._servers[database]
        if isinstance(found, str):
            cannot_be_had(database, found)
        return found


def cannot_be_had(what: str, reason: object) -> NoReturn:
    """Skip the test, or fail it where this machine is said to have such a server."""
    if what in os.environ.get("TICKETROUTER_REQUIRE_DBS", "").split(","):
        pytest.fail(f"{what} is required and cannot be had: {reason}")
    pytest.skip(f"{what} cannot be had: {reason}")


def open_store(databases: Databases, backend: Backend) -> MemoryStore | SqlStore:
    """Open a back end with our own schema."""
    if backend.database == "memory":
        return MemoryStore(is_async=backend.is_async)
    store = SqlStore(backend, databases.new(backend.database))
    store.mapping.metadata.create_all(store.engine)
    return store
