"""The room of PostgreSQL.

PostgreSQL proves conditions itself, tells by a code that the rule has gone, and writes a message, its id and its ticket
in one statement.

Law of this file: the record of the database, and what is too short for a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import DDL, ColumnElement, Connection, DateTime, Dialect, Table, Text, cast
from sqlalchemy.dialects.postgresql.base import PGDialect

from ticketrouter.sqlalchemy.dialects.base import CommandLine, Database, Transactions, at_level, is_autocommit
from ticketrouter.sqlalchemy.dialects.postgresql.catalogue import CATALOGUE
from ticketrouter.sqlalchemy.dialects.postgresql.errors import ERRORS
from ticketrouter.sqlalchemy.dialects.postgresql.joins import PostgreSQLJoins, joins_of_many
from ticketrouter.sqlalchemy.dialects.postgresql.plans import NAMES, PostgreSQLSteps
from ticketrouter.sqlalchemy.dialects.postgresql.statements import (
    PostgreSQLClaims,
    PostgreSQLMany,
    PostgreSQLMoves,
    PostgreSQLParts,
    PostgreSQLWrites,
)
from ticketrouter.sqlalchemy.facts import ByIndex, Detected
from ticketrouter.sqlalchemy.looks import Looks
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.schema import altered
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.storage import Storage, storage_of


def _to_the_letter(word: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(word, Text).collate("C")


def _lives(connection: Connection) -> bool | None:
    """Ask: it goes on where the error has stayed in a savepoint that is gone."""
    # Past the host's listeners, as their own statements would tell nothing of it.
    proxied: Any = connection.connection
    cursor = proxied.cursor()
    try:
        cursor.execute("SELECT 1")
    except connection.dialect.loaded_dbapi.Error:
        return None
    finally:
        cursor.close()
    return True


def _sees_one_snapshot(connection: Connection) -> bool:
    if is_autocommit(connection):
        return False
    return connection.get_isolation_level() in {"REPEATABLE READ", "SERIALIZABLE"}


def _room_on_the_page(table: Table, _active: str) -> Iterable[DDL]:
    """Let PostgreSQL update a ticket in place, without touching an index: none holds unread_messages or updated_at."""
    return (altered(table, "SET (fillfactor = 85)", quote='"'),)


def _statements(
    mapping: TicketMapping, dialect: Dialect, detected: Detected, by: ByIndex | None = None
) -> Statements:
    parts = PostgreSQLParts(mapping, dialect, detected, by)
    writes, looks, claims = PostgreSQLWrites(parts), Looks(parts), PostgreSQLClaims(parts)
    many = PostgreSQLMany(parts, writes)
    return Statements(
        parts,
        writes,
        many,
        looks,
        claims=claims,
        moves=PostgreSQLMoves,
        joins=PostgreSQLJoins(parts, looks, claims),
        joins_of_many=joins_of_many(parts, many),
    )


POSTGRESQL = Database(
    name="postgresql",
    title="PostgreSQL",
    backends=("postgresql",),
    storage=Storage(
        url=NAMES.url,
        times=DateTime(timezone=True),
        keeps_zones=True,
        pads_chars=True,
        rounds_times=True,
        to_the_letter=_to_the_letter,
        bytes_literal=lambda value: rf"CAST('\x{value.hex()}' AS bytea)",
        after_create=_room_on_the_page,
    ),
    catalogue=CATALOGUE,
    transactions=Transactions(
        _lives,
        at_level({"READ COMMITTED"}),
        needs_savepoints=True,
        sees_one_snapshot=_sees_one_snapshot,
    ),
    errors=ERRORS,
    names=NAMES,
    steps=PostgreSQLSteps,
    statements=_statements,
    command_line=CommandLine(
        driver=NAMES.url,
        without_driver='postgresql+psycopg://... and pip install "ticketrouter[psycopg]"',
        begin_reading="SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ),
)


@storage_of.register
def _(_dialect: PGDialect) -> Storage:
    return POSTGRESQL.storage
