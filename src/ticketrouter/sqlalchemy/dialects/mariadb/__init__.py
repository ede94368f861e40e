"""The room of MariaDB, under either name that SQLAlchemy has for it.

MariaDB has no partial index, locks every row that it reads, and its plain reads may be old, or dirty.

Law of this file: the record of the database, and what is too short for a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import DDL, ColumnElement, Connection, Dialect, LargeBinary, Table, cast, func, literal_column
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.base import MySQLDialect

from ticketrouter.sqlalchemy.dialects.base import CommandLine, Database, Level, Remark, Transactions, at_level
from ticketrouter.sqlalchemy.dialects.mariadb.catalogue import CATALOGUE, told_of_the_table
from ticketrouter.sqlalchemy.dialects.mariadb.errors import ERRORS
from ticketrouter.sqlalchemy.dialects.mariadb.many import MariaDBMany
from ticketrouter.sqlalchemy.dialects.mariadb.old_reads import MariaDBOldReads
from ticketrouter.sqlalchemy.dialects.mariadb.plans import NAMES, MariaDBSteps
from ticketrouter.sqlalchemy.dialects.mariadb.statements import (
    MariaDBClaims,
    MariaDBLooks,
    MariaDBMoves,
    MariaDBParts,
    MariaDBWrites,
)
from ticketrouter.sqlalchemy.facts import ByIndex, Detected
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.schema import ACTIVE, altered, generated_from, unique_name
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.storage import Storage, storage_of


def _stranger(dialect: Dialect) -> str | None:
    """Name MySQL, which is spoken to by the same dialect: the server has said which of the two it is."""
    said: Any = dialect
    if said.is_mariadb:
        return None
    version = ".".join(str(part) for part in said.server_version_info or ())
    return f"MySQL {version}".rstrip()


def _to_the_letter(word: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.convert(word.op("USING")(literal_column("utf8mb4"))), LargeBinary)


def _generated_column(table: Table, active: str) -> Iterable[DDL]:
    """Add what stands for a partial index: closed rows get a NULL there, which a unique index does not compare.

    The column stands before the connection, so that the active tickets of a contact are beside each other.
    """
    if ACTIVE in table.c:
        return ()
    index = "`" + unique_name(table).replace("`", "``") + "`"
    column = (
        f"ADD COLUMN {ACTIVE} SMALLINT AS ({generated_from(active)}) VIRTUAL, "
        f"ADD UNIQUE INDEX {index} (company_id, contact_id, {ACTIVE}, connection_id)"
    )
    return (altered(table, column, quote="`"),)


def _lives(connection: Connection) -> bool:
    # Past the host's listeners, which might send something that begins another one.
    proxied: Any = connection.connection
    cursor = proxied.cursor()
    cursor.execute("SELECT @@in_transaction")
    (lives,) = cursor.fetchone()
    cursor.close()
    return bool(lives)


_of_connections = at_level({"READ COMMITTED", "REPEATABLE READ"})


def _remarks(connection: Connection, mapping: TicketMapping) -> Iterator[Remark]:
    yield from _of_connections(connection, mapping)
    engine = told_of_the_table(connection, mapping, "engine")
    if str(engine).lower() != "innodb":
        yield Remark(
            Level.FINDING,
            f"the table's engine is {engine}, which has no transactions",
            f"ALTER TABLE {NAMES.identifier(mapping.table.name)} ENGINE=InnoDB",
        )


def _statements(
    mapping: TicketMapping, dialect: Dialect, detected: Detected, by: ByIndex | None = None
) -> Statements:
    parts = MariaDBParts(mapping, dialect, detected, by)
    writes, looks, claims = MariaDBWrites(parts), MariaDBLooks(parts), MariaDBClaims(parts)
    many = MariaDBMany(parts, writes)
    old_reads = MariaDBOldReads(parts, looks, claims, many)
    return Statements(parts, writes, many, looks, claims=claims, moves=MariaDBMoves, old_reads=old_reads)


MARIADB = Database(
    name="mariadb",
    title="MariaDB",
    backends=("mariadb", "mysql"),
    storage=Storage(
        url=NAMES.url,
        ids=mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_nopad_bin"),
        times=mysql.DATETIME(fsp=6),
        digests=mysql.BINARY(32),
        json_has_texts=True,
        to_the_letter=_to_the_letter,
        has_partial_indexes=False,
        after_create=_generated_column,
    ),
    catalogue=CATALOGUE,
    transactions=Transactions(_lives, _remarks, plain_reads_may_be_dirty=True),
    errors=ERRORS,
    names=NAMES,
    steps=MariaDBSteps,
    statements=_statements,
    command_line=CommandLine(
        driver=NAMES.url,
        without_driver='mariadb+pymysql://... and pip install "ticketrouter[pymysql]"',
        begin_reading="START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    stranger=_stranger,
)


@storage_of.register
def _(_dialect: MySQLDialect) -> Storage:
    return MARIADB.storage
