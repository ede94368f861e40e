"""A server that is not there, or never answers, by every driver: what connecting raises within our call is ours.

A Session connects at its first statement, and a Connection again after it was lost: then our call is where the driver
fails, and asyncpg's errors are not wrapped by SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, StaticPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.support.backends import SQL_BACKENDS, Backend, SqlStore
from ticketrouter import AsyncTicketRouter, InboundMessage, RepositoryError, TicketRouter
from ticketrouter.sqlalchemy import (
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    is_retryable,
)

MAPPING = TicketMapping.own()
MESSAGE = InboundMessage(1, 2, 3)
ON_SERVERS = [backend for backend in SQL_BACKENDS if backend.database != "sqlite"]
on_servers = pytest.mark.parametrize("backend", ON_SERVERS, ids=lambda backend: backend.name)
PATIENCE: dict[str, dict[str, Any]] = {
    "psycopg": {"connect_timeout": 2},  # libpq takes no less
    "asyncpg": {"timeout": 1},
    "pymysql": {"connect_timeout": 1, "read_timeout": 1},
    "asyncmy": {"connect_timeout": 1, "read_timeout": 1},
}


@pytest.fixture(params=["refuses", "is silent"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where nobody listens, or somebody who never says a word."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            held.listen()
        yield held.getsockname()[1]


class Base(DeclarativeBase):
    pass


class Note(Base):
    """An object of the host's."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def patience(backend: Backend) -> dict[str, Any]:
    return PATIENCE[backend.driver.partition("+")[2]]


def told_by(url: URL, backend: Backend, *, pending: bool = False, **connect_args: Any) -> BaseException:
    """Let a Session of the host's connect within our call, and return what comes out of it."""
    if not backend.is_async:
        engine = create_engine(url, connect_args=connect_args)
        if backend.database == "sqlite":
            configure_sqlite(engine)
        with Session(engine) as session:
            if pending:
                session.add(Note())
            return _error_of(
                lambda: TicketRouter(SQLAlchemyTicketRepository(session, MAPPING)).resolve(MESSAGE)
            )

    async def host() -> BaseException:
        engine = create_async_engine(url, connect_args=connect_args)
        if backend.database == "sqlite":
            configure_sqlite(engine)
        async with AsyncSession(engine) as session:
            if pending:
                session.add(Note())
            router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(session, MAPPING))
            try:
                await router.resolve(MESSAGE)
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                await asyncio.sleep(0.1)  # aiosqlite's thread has a last word for the loop
                return error
        raise AssertionError("somebody is there")

    return asyncio.run(host())


def _error_of(work: Any) -> BaseException:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return error
    raise AssertionError("somebody is there")


@on_servers
def test_a_session_that_connects_within_our_call(backend: Backend, port: int) -> None:
    """It may be run again: the server may be there by then."""
    url = URL.create(backend.driver, "nobody", host="127.0.0.1", port=port, database="none")
    error = told_by(url, backend, **patience(backend))

    assert isinstance(error, RepositoryError)
    assert error.retryable
    assert is_retryable(error)


@on_servers
def test_a_session_with_objects_that_are_not_flushed_yet(backend: Backend) -> None:
    """Their flush would be the first to connect: it is not the objects that are wrong."""
    url = URL.create(backend.driver, "nobody", host="127.0.0.1", port=1, database="none")
    error = told_by(url, backend, pending=True)

    assert isinstance(error, RepositoryError)
    assert error.retryable


@pytest.mark.parametrize(
    "backend", [b for b in SQL_BACKENDS if b.database == "sqlite"], ids=lambda backend: backend.name
)
def test_a_file_whose_folder_is_not_there(backend: Backend, tmp_path: Path) -> None:
    """Nobody will make it meanwhile."""
    url = URL.create(backend.driver, database=str(tmp_path / "absent" / "file.sqlite3"))
    error = told_by(url, backend)

    assert isinstance(error, RepositoryError)
    assert "code 14" in str(error)
    assert not error.retryable


@on_servers
def test_a_database_that_is_not_there(store: SqlStore, backend: Backend) -> None:
    """It will not be there the next time either; psycopg does not tell why it could not connect."""
    error = told_by(store.url.set(drivername=backend.driver, database="no_such_database"), backend)

    assert isinstance(error, RepositoryError)
    assert (backend.driver == "postgresql+psycopg") is error.retryable


@on_servers
def test_a_connection_that_connects_again_within_our_call(store: SqlStore, backend: Backend) -> None:
    """As after it was lost, where the server has not come back yet."""

    def mislead(_dialect: object, _record: object, _args: object, kwargs: dict[str, Any]) -> None:
        for name in ("unix_socket", "host"):
            kwargs.pop(name, None)
        kwargs.update(host="127.0.0.1", port=1)

    # With a pool of its own, in which no other connection waits.
    store = SqlStore(store.backend, store.url, store.mapping)
    engine = store.sync_engine or store.async_engine.sync_engine  # type: ignore[union-attr]
    with store.connection() as connection:
        router = TicketRouter(store.repository(connection))
        router.resolve(MESSAGE)
        for done in (connection.invalidate(), connection.rollback()):
            if backend.is_async:
                store.run(done)
        event.listen(engine, "do_connect", mislead)
        with pytest.raises(RepositoryError) as caught:
            router.resolve(MESSAGE)
        event.remove(engine, "do_connect", mislead)
    store.dispose()

    assert caught.value.retryable


@pytest.mark.parametrize(
    "backend", [b for b in ON_SERVERS if b.name == "asyncpg"], ids=lambda backend: backend.name
)
def test_a_wait_that_asyncpg_has_given_up(store: SqlStore) -> None:
    """As `command_timeout` has it, in the middle of a transaction."""
    waiting = SqlStore(store.backend, store.url, store.mapping, connect_args={"command_timeout": 0.5})
    with store.transaction() as repository:
        TicketRouter(repository).resolve(MESSAGE)
    with store.transaction() as repository:
        TicketRouter(repository).resolve(MESSAGE)
        with waiting.connection() as connection:
            with pytest.raises(RepositoryError, match="TimeoutError") as caught:
                TicketRouter(waiting.repository(connection)).resolve(MESSAGE)
            waiting.run(connection.rollback())
    waiting.dispose()

    assert caught.value.retryable


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "theirs"), TimeoutError("theirs")], ids=repr)
def test_what_a_callback_of_the_host_raises_is_its_own(error: OSError) -> None:
    """Another server that it asks is not the database."""

    def ask(_: object) -> dict[str, object]:
        raise error

    mapping = TicketMapping(TicketMapping.own().table, on_create=ask)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    configure_sqlite(engine)
    mapping.table.metadata.create_all(engine)
    with engine.connect() as connection, pytest.raises(type(error), match="theirs") as caught:
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(MESSAGE)

    assert error is caught.value
