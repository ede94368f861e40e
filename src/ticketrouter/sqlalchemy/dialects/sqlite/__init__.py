"""The room of SQLite.

SQLite tells most of itself by the text of its tables alone, and keeps others away by the write lock with which a
transaction has to begin.

Law of this file: the record of the database, and what is too short for a file of its own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.ext.compiler import compiles

from ticketrouter.sqlalchemy.dialects.base import CommandLine, Database
from ticketrouter.sqlalchemy.dialects.sqlite.catalogue import CATALOGUE
from ticketrouter.sqlalchemy.dialects.sqlite.errors import ERRORS
from ticketrouter.sqlalchemy.dialects.sqlite.plans import NAMES, SQLiteSteps
from ticketrouter.sqlalchemy.dialects.sqlite.statements import statements
from ticketrouter.sqlalchemy.dialects.sqlite.transactions import TRANSACTIONS, configure_sqlite
from ticketrouter.sqlalchemy.storage import Storage, storage_of
from ticketrouter.sqlalchemy.types import BigId


def _forbid_writing(engine: Engine) -> None:
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA query_only = ON")

    event.listen(engine, "connect", on_connect)


SQLITE = Database(
    name="sqlite",
    title="SQLite",
    backends=("sqlite",),
    storage=Storage(url=NAMES.url, is_wide=True, to_the_letter=lambda word: word.collate("BINARY")),
    catalogue=CATALOGUE,
    transactions=TRANSACTIONS,
    errors=ERRORS,
    names=NAMES,
    steps=SQLiteSteps,
    statements=statements,
    command_line=CommandLine(
        driver="sqlite",
        without_driver=None,
        begin_reading="BEGIN",
        is_file=True,
        prepare=configure_sqlite,
        prepare_reading=_forbid_writing,
    ),
)


@storage_of.register
def _(_dialect: SQLiteDialect) -> Storage:
    return SQLITE.storage


@compiles(BigId, "sqlite")
def _as_the_row_number(*_: object, **__: object) -> str:
    return "INTEGER"  # nothing else is automatic, and it has 64 bits too
