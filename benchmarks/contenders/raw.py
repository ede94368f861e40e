"""The drivers by themselves: the floor.

Law of this file: one connection, kept; one statement for a message, prepared where the driver prepares; no pool,
no value made of the row that comes back. Beside the statement that one would write by hand, ours' own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
import psycopg
import pymysql
from sqlalchemy import URL

from benchmarks.cells import Arrival, Cell, Shape
from benchmarks.contenders import Send
from benchmarks.contenders.recording import ON_SQLITE, Finder, acquaintance, record
from benchmarks.stands import ACTIVE, KEY, TICKETS, WAITING, engine_of

Values: TypeAlias = Callable[[Arrival], tuple[Any, ...]]

_COLUMNS = f"{KEY}, status, is_group, unread_messages, created_at, updated_at"
_ALL = f"id, {KEY}, status, is_group, unread_messages, user_id, queue_id, created_at, updated_at, closed_at"
_UPSERT = {
    "postgresql": f"INSERT INTO {TICKETS} ({_COLUMNS}) VALUES (%s, %s, %s, 'pending', FALSE, 1, %s, %s) "
    f"ON CONFLICT ({KEY}) WHERE {ACTIVE} DO UPDATE SET unread_messages = {TICKETS}.unread_messages + 1, "
    f"updated_at = excluded.updated_at RETURNING {_ALL}",
    "mariadb": f"INSERT INTO {TICKETS} ({_COLUMNS}) VALUES (%s, %s, %s, 'pending', FALSE, 1, %s, %s) "
    "ON DUPLICATE KEY UPDATE unread_messages = unread_messages + 1, updated_at = VALUES(updated_at) "
    f"RETURNING {_ALL}",
    "sqlite": f"INSERT INTO {TICKETS} ({_COLUMNS}) VALUES (?, ?, ?, 'pending', FALSE, 1, ?, ?) "
    f"ON CONFLICT ({KEY}) WHERE {ACTIVE} DO UPDATE SET unread_messages = unread_messages + 1, "
    f"updated_at = excluded.updated_at RETURNING {_ALL}",
}
"""One statement for a message. None of them looks for what the contact has open on other connections."""


def _values(database: str) -> Values:
    """Return what makes the values of the statement above, as the driver takes times."""

    def values(arrival: Arrival) -> tuple[Any, ...]:
        now: Any = datetime.now(UTC)
        if database == "mariadb":
            now = now.replace(tzinfo=None)
        elif database == "sqlite":
            now = now.strftime(ON_SQLITE)
        return str(arrival.company), str(arrival.contact), str(arrival.connection), now, now

    return values


@contextmanager
def _connected(cell: Cell, url: URL) -> Iterator[Any]:
    autocommit = cell.shape is Shape.AUTOCOMMIT
    connection: Any
    match url.get_backend_name():
        case "postgresql":
            connection = psycopg.connect(
                host=url.query["host"], user=url.username, dbname=url.database, autocommit=autocommit
            )
        case "mariadb":
            connection = pymysql.connect(
                unix_socket=url.query["unix_socket"],
                user=url.username,
                database=url.database,
                charset="utf8mb4",
                autocommit=autocommit,
            )
        case _:
            connection = sqlite3.connect(url.database, isolation_level=None, timeout=WAITING)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
    yield connection
    connection.close()


def _in_shape(cell: Cell, connection: Any, work: Callable[[Any], Any]) -> Send:
    """Put a transaction around the work, where the shape has one."""
    if cell.shape is Shape.AUTOCOMMIT:
        return work
    begins = cell.stand.database == "sqlite"
    execute = connection.execute if begins else None

    def send(arrival: Any) -> Any:
        if execute is not None:
            execute("BEGIN IMMEDIATE")
        done = work(arrival)
        connection.commit()
        return done

    return send


@contextmanager
def hand_written(cell: Cell, url: URL) -> Iterator[Send]:
    """Route by the one statement; a batch by the driver's own way of sending it many times."""
    database = cell.stand.database
    sql, values = _UPSERT[database], _values(database)
    with _connected(cell, url) as connection:
        cursor = connection.cursor()

        def alone(arrival: Arrival) -> Any:
            cursor.execute(sql, values(arrival))
            return cursor.fetchone()

        def many(arrivals: list[Arrival]) -> Any:
            # No driver gives the rows back; sorted, or two batches would deadlock.
            of_many = sql.partition(" RETURNING ")[0]
            cursor.executemany(of_many, sorted(map(values, arrivals)))

        yield _in_shape(cell, connection, alone if cell.batch is None else many)


@contextmanager
def our_statements(cell: Cell, url: URL) -> Iterator[Send]:
    """Route by what ours sends, through the driver alone: what no layer above it can beat."""
    with engine_of(url) as engine, engine.connect() as connection:
        seen = record(connection, cell)
    with _connected(cell, url) as connection:
        cursor = connection.cursor()

        def ask(sql: str, given: Any) -> Any:
            cursor.execute(sql, given)
            return cursor.fetchall() if cursor.description else None

        first = seen.hit[0]
        finder = Finder.of(ask(first.sql, first.fill_given(acquaintance(cell), datetime.now(UTC), None)))
        connection.rollback()

        def send(arrival: Arrival) -> Any:
            now = datetime.now(UTC)
            rows = ask(first.sql, first.fill_given(arrival, now, None))
            ticket_id = finder(rows, arrival)
            if ticket_id is None:
                return ask(seen.create.sql, seen.create.fill_given(arrival, now, None))
            for step in seen.hit[1:]:
                ask(step.sql, step.fill_given(arrival, now, ticket_id))
            return rows

        yield _in_shape(cell, connection, send)


@asynccontextmanager
async def hand_written_async(cell: Cell, url: URL) -> AsyncIterator[Send]:
    """Route by the one statement over asyncpg."""
    sql = _UPSERT["postgresql"]
    for number in range(1, 6):
        sql = sql.replace("%s", f"${number}", 1)
    values = _values("postgresql")
    connection = await asyncpg.connect(host=url.query["host"], user=url.username, database=url.database)

    async def alone(arrival: Arrival) -> Any:
        return await connection.fetchrow(sql, *values(arrival))

    async def in_transaction(arrival: Arrival) -> Any:
        async with connection.transaction():
            return await connection.fetchrow(sql, *values(arrival))

    yield alone if cell.shape is Shape.AUTOCOMMIT else in_transaction
    await connection.close()
