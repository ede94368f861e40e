"""What a driver raises comes out typed, says rightly whether to run the unit of work again, and tells no data.

At each statement of each unit of work the driver fails as it would by the fault; then the host rolls back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import psycopg
import pymysql
import pytest
from attrs import frozen
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.faults.conftest import Place
from tests.support.backends import SQL_BACKENDS, Backend, SqlStore
from tests.support.faults.boundaries import Boundaries
from tests.support.faults.work import KEY, WORKS, Work, error_of, left_in, message, once, prepare, until_done
from ticketrouter import ContentionError, RepositoryError, TicketRouter, TicketRouterError, UniqueRule
from ticketrouter.sqlalchemy import is_retryable


@frozen
class Failure:
    """How a driver fails, and what must come of it."""

    name: str
    database: str
    error: Callable[[], Exception]
    expected: type[TicketRouterError]
    retryable: bool
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.database}-{self.name}"

    def happen(self, driven: Any) -> None:
        if self.closes:
            getattr(driven, "_force_close", driven.close)()
        raise self.error()


def _sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as the driver says it")
    error.sqlite_errorcode = code
    return error


FAILURES = (
    Failure("deadlock", "postgresql", psycopg.errors.DeadlockDetected, ContentionError, True),
    Failure("serialization", "postgresql", psycopg.errors.SerializationFailure, ContentionError, True),
    Failure("disk full", "postgresql", psycopg.errors.DiskFull, RepositoryError, False),
    Failure(
        "connection lost",
        "postgresql",
        lambda: psycopg.OperationalError("the connection is closed"),
        RepositoryError,
        True,
        closes=True,
    ),
    Failure("deadlock", "mariadb", lambda: pymysql.OperationalError(1213, "deadlock"), ContentionError, True),
    Failure("lock timeout", "mariadb", lambda: pymysql.OperationalError(1205, "wait"), ContentionError, True),
    Failure("table full", "mariadb", lambda: pymysql.OperationalError(1114, "full"), RepositoryError, False),
    Failure(
        "connection lost",
        "mariadb",
        lambda: pymysql.OperationalError(2013, "lost"),
        RepositoryError,
        True,
        closes=True,
    ),
    Failure("busy", "sqlite", lambda: _sqlite(5), ContentionError, True),
    Failure("busy snapshot", "sqlite", lambda: _sqlite(517), ContentionError, True),
    Failure("disk full", "sqlite", lambda: _sqlite(13), RepositoryError, False),
)


@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION], ids=str)
@pytest.mark.parametrize(
    ("failure", "database"), [pytest.param(each, each.database, id=str(each)) for each in FAILURES]
)
def test_a_driver_error_at_every_statement(place: Place, failure: Failure) -> None:
    """It comes out with its type; nothing of the unit of work is left; done again it has the effect of once."""
    engine = place.new_engine()
    total = 0
    for work in WORKS:
        total += _fail_at_every_statement(place, engine, work, failure)
    engine.dispose()
    print(f"\nfailed at {total} statements")

    assert total > 30


def _fail_at_every_statement(place: Place, engine: Engine, work: Work, failure: Failure) -> int:
    ticket_id = prepare(place.engine, work)
    before = left_in(place.engine)
    once(place.engine, work, ticket_id)
    after = left_in(place.engine)
    boundary = 0
    while True:
        ticket_id = prepare(place.engine, work)
        boundaries = Boundaries(boundary, failure.happen)
        with boundaries.of(engine, commits=False):
            error = error_of(engine, work, ticket_id)
        if not boundaries.has_happened:
            assert error is None
            return boundary
        _assert_told(error, failure, f"{work}, statement {boundary}")

        assert before == left_in(place.engine)
        until_done(engine, work, ticket_id)
        assert after == left_in(place.engine)
        boundary += 1


def _assert_told(error: Exception | None, failure: Failure, where: str) -> None:
    if isinstance(error, DBAPIError) and "BEGIN" in str(error.statement):
        assert failure.retryable is is_retryable(error), where  # the host's own statement
        return
    assert failure.expected is type(error), f"{where}: {error!r}"
    assert isinstance(error, TicketRouterError)
    assert failure.retryable is error.retryable, where
    assert failure.retryable is is_retryable(error), where
    for secret in (KEY.contact_id, "m1"):
        assert str(secret) not in str(error)


# --- real ends of connections, by every driver ---------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    [b for b in SQL_BACKENDS if b.database != "sqlite"],
    ids=lambda backend: backend.name,
)
def test_a_connection_that_the_server_has_ended(store: SqlStore, backend: Backend) -> None:
    """By every driver a terminated connection is a retryable error of ours, at a look and at a write."""
    for steps in range(3):
        store.empty()
        with pytest.raises(RepositoryError, match="connection to the database is lost") as caught:
            _route_until_ended(store, steps)

        assert caught.value.retryable
        assert is_retryable(caught.value)
        assert [] == store.tickets()
        with store.transaction() as repository:
            assert "created" == TicketRouter(repository).resolve(message("m1")).outcome


def _route_until_ended(store: SqlStore, steps: int) -> None:
    """Do so many steps in a transaction, end its connection from another one, and go on."""
    asked = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}
    ending = {"postgresql": "SELECT pg_terminate_backend({}, 5000)", "mariadb": "KILL CONNECTION {}"}
    with store.connection() as connection:
        database = store.backend.database
        router = TicketRouter(store.repository(connection))
        for step in range(steps):
            router.resolve(message(f"m{step}"))
        found = connection.exec_driver_sql(asked[database])
        number = (store.run(found) if store.backend.is_async else found).scalar_one()
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            other.exec_driver_sql(ending[database].format(number))
        router.resolve(message("late"))


@pytest.mark.parametrize(
    "backend",
    [b for b in SQL_BACKENDS if b.database != "sqlite"],
    ids=lambda backend: backend.name,
)
def test_a_server_that_is_not_there_is_retryable(backend: Backend) -> None:
    """A unit of work that could not even connect, as while a server restarts, may be run again."""
    # Port 1 is nobody's.
    url = URL.create(backend.driver, "nobody", host="127.0.0.1", port=1, database="none")

    assert is_retryable(_connecting(url, backend))


def test_a_socket_that_is_not_there_is_retryable(tmp_path: Path) -> None:
    """What connecting to it raises is let out by asyncpg as it is."""
    with socket(AF_UNIX) as client, pytest.raises(FileNotFoundError) as missing:
        client.connect(str(tmp_path / ".s.PGSQL.5432"))

    assert is_retryable(missing.value)


def test_a_file_of_the_host_that_is_missing_is_not_retryable(tmp_path: Path) -> None:
    """It will not be there the next time either."""
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "absent").read_text()

    assert not is_retryable(missing.value)


def _connecting(url: URL, backend: Backend) -> Exception:
    try:
        if backend.is_async:
            import asyncio

            async def connect() -> None:
                async with create_async_engine(url).connect():
                    pass

            asyncio.run(connect())
        else:
            with create_engine(url).connect():
                pass
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return error
    raise AssertionError("somebody is there")
