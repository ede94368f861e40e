"""What the result codes of SQLite mean: a primary one also stands for its extensions.

Law of this file: data, one row a code, and at which places of a text a name stands, where no value can stand.
"""

from __future__ import annotations

import re
from typing import Any

from ticketrouter.sqlalchemy.error_codes import Code, ErrorCodes, Errors, Fault, Left, Named, Row, rows_of

CODES = ErrorCodes(
    "SQLite",
    (
        *rows_of(
            Fault.TAKEN,
            Left.GOES_ON,
            (1555, "SQLITE_CONSTRAINT_PRIMARYKEY", "as 2067, of the primary key"),
            (
                2067,
                "SQLITE_CONSTRAINT_UNIQUE",
                "the row is there already; where a race explains it, we look again",
            ),
            (2579, "SQLITE_CONSTRAINT_ROWID", "as 2067, of the row's number"),
        ),
        *rows_of(
            Fault.RESTART,
            Left.MAYBE_ROLLED_BACK,
            (5, "SQLITE_BUSY", "another connection writes, and is done in the end; at COMMIT it still reads"),
            (
                261,
                "SQLITE_BUSY_RECOVERY",
                "another process repairs what a crash left, and is done in the end",
            ),
            (
                517,
                "SQLITE_BUSY_SNAPSHOT",
                "the transaction began with a read, and another one has written since",
            ),
            (773, "SQLITE_BUSY_TIMEOUT", "another connection holds a lock for too long"),
            (
                6,
                "SQLITE_LOCKED",
                "another statement of the same connection, or of one with its cache, is not done",
            ),
            (262, "SQLITE_LOCKED_SHAREDCACHE", "another connection with the same cache writes"),
            (15, "SQLITE_PROTOCOL", "too many began at once in WAL mode"),
            (17, "SQLITE_SCHEMA", "a migration changed a table under the statement, again and again"),
        ),
        *rows_of(
            Fault.OTHER,
            Left.MAYBE_ROLLED_BACK,
            (7, "SQLITE_NOMEM", "your own process has no memory left"),
            (9, "SQLITE_INTERRUPT", "your own process stopped the statement"),
            (10, "SQLITE_IOERR", "the disk is broken or away"),
            (13, "SQLITE_FULL", "somebody must make room"),
        ),
        *rows_of(
            Fault.OTHER,
            Left.GOES_ON,
            (1, "SQLITE_ERROR", "the statement, or a table that is not what the mapping says"),
            (2, "SQLITE_INTERNAL", "SQLite is broken"),
            (3, "SQLITE_PERM", "the file's permissions"),
            (4, "SQLITE_ABORT", "your own code rolled back meanwhile"),
            (8, "SQLITE_READONLY", "the file, or its folder, cannot be written"),
            (
                1032,
                "SQLITE_READONLY_DBMOVED",
                "the file was moved or deleted: open it anew by `engine.dispose()`",
            ),
            (11, "SQLITE_CORRUPT", "the file is damaged"),
            (14, "SQLITE_CANTOPEN", "the file, its folder, or the number of open files"),
            (18, "SQLITE_TOOBIG", "the same value is refused again"),
            (19, "SQLITE_CONSTRAINT", "the same row is refused again"),
            (275, "SQLITE_CONSTRAINT_CHECK", "the constraint refuses what the row says"),
            (787, "SQLITE_CONSTRAINT_FOREIGNKEY", "what the row points at is missing; at COMMIT if deferred"),
            (1299, "SQLITE_CONSTRAINT_NOTNULL", "give the column a value by `on_create`, or a default"),
            (1811, "SQLITE_CONSTRAINT_TRIGGER", "a trigger of yours refuses the row"),
            (20, "SQLITE_MISMATCH", "the same value is refused again"),
            (21, "SQLITE_MISUSE", "the connection was used in a way that SQLite forbids"),
            (22, "SQLITE_NOLFS", "the file is larger than the system can hold"),
            (23, "SQLITE_AUTH", "an authorizer of yours refuses it"),
            (25, "SQLITE_RANGE", "the same statement is refused again"),
            (26, "SQLITE_NOTADB", "the file is no database"),
        ),
    ),
    Row("other", "any other", Fault.OTHER, Left.MAYBE_ROLLED_BACK, "nothing is known of it"),
)


def _find(error: BaseException, code: Code) -> Row | None:
    return (
        CODES.row(code, code & 0xFF) if isinstance(code, int) and hasattr(error, "sqlite_errorcode") else None
    )


# --- the names in a text --------------------------------------------------------------------------------------

_COLUMNS = re.compile(r"\A(?:UNIQUE|NOT NULL) constraint failed: (.+)\Z", re.DOTALL)
_CHECK = re.compile(r"\ACHECK constraint failed: (\w+)\Z")
_CONSTRAINT = 19


def _names(error: Any) -> Named:
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) != _CONSTRAINT:
        return []
    arguments = getattr(error, "args", ())
    return _in_text(str(arguments[0]) if arguments else "")


def _in_text(text: str) -> Named:
    if check := _CHECK.search(text):
        return [("constraint", check[1])]
    columns = _COLUMNS.search(text)
    if columns is None:
        return []
    names = columns[1].split(", ")
    return [("column", name) for name in names if not name.startswith("index ")] or [
        ("constraint", name.removeprefix("index ").strip("'")) for name in names
    ]


_REFUSED_BY_COLUMNS = re.compile(r"UNIQUE constraint failed: (?!index )(.+)$")
_REFUSED_BY_INDEX = re.compile(r"UNIQUE constraint failed: index '(.+)'$")


def _index_in(error: Any) -> str | frozenset[str] | None:
    text = str(error)
    if found := _REFUSED_BY_INDEX.search(text):
        return found[1]
    if found := _REFUSED_BY_COLUMNS.search(text):
        return frozenset(each.rpartition(".")[2] for each in found[1].split(", "))
    return None


# Any error of the statement itself may tell of a schema that has changed.
ERRORS = Errors(
    CODES,
    _find,
    _names,
    _index_in,
    frozenset({"aiosqlite", "sqlite3"}),
    changed=frozenset({1}),
    unharmed=frozenset({1}),
)
