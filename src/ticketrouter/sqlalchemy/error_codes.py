"""What an error can mean to us: whether to run the unit of work again, and what it leaves.

Law of this file: the words in which each room of `dialects` says it of its own codes, and the rows of errors that have no
code of a server. Retryable is only what may well succeed when the same unit of work is run again after a rollback and a
wait, with nobody repairing anything. A code that has no row is of its class; a class that has none is not retryable.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, StrEnum, auto
from typing import Any, TypeAlias

from attrs import field, frozen
from sqlalchemy.exc import DBAPIError


class Fault(Enum):
    """What an error means to us."""

    TAKEN = auto()
    """A unique rule refused the row."""
    RESTART = auto()
    """Somebody else was in the way: only a restart of the whole transaction can cure it."""
    LOST = auto()
    """The connection is gone, and with it the transaction."""
    UNAVAILABLE = auto()
    """The database cannot do it now; after a rollback and a wait it may take the same."""
    AFTERMATH = auto()
    """An earlier error has ended the transaction or the savepoint, and that one says what to do."""
    OTHER = auto()
    """Anything else: the same will be refused again."""

    @property
    def is_retryable(self) -> bool:
        """Whether the same unit of work, run again after a rollback and a wait, may well succeed."""
        return self in _RETRYABLE


_RETRYABLE = frozenset({Fault.RESTART, Fault.LOST, Fault.UNAVAILABLE})


class Left(StrEnum):
    """What an error leaves of the host's transaction."""

    GOES_ON = "goes on without the statement"
    MUST_ROLL_BACK = "refuses everything until you roll back"
    ROLLED_BACK = "already rolled back, and silently in a new one"
    MAYBE_ROLLED_BACK = "may be rolled back already: roll back"
    GONE = "gone with the connection"
    NONE_BEGUN = "none was begun"


@frozen
class Row:
    """What one error code means.

    Args:
        code: an SQLSTATE, or the first two letters of a class of them; a number; the name of a class of Python.
        name: what the server's manual calls it.
        fault: what it means to us.
        left: what it leaves of the host's transaction.
        why: the cause, and why to run again or not, in a few words.
    """

    code: str | int
    name: str
    fault: Fault
    left: Left
    why: str


def rows_of(fault: Fault, left: Left, *rows: tuple[str | int, str, str]) -> tuple[Row, ...]:
    """Return the rows of codes that mean the same and leave the same."""
    return tuple(Row(code, name, fault, left, why) for code, name, why in rows)


@frozen
class ErrorCodes:
    """The rows of one server.

    Args:
        server: its name.
        rows: one a code.
        rest: what a code means that has no row, nor has its class.
    """

    server: str
    rows: tuple[Row, ...]
    rest: Row
    _by_code: Mapping[str | int, Row] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_by_code", {row.code: row for row in self.rows})

    def row(self, *codes: str | int) -> Row:
        """Return the row of the first code that has one, from the most exact to the class."""
        found = (self._by_code.get(code) for code in codes)
        return next((row for row in found if row is not None), self.rest)


Code: TypeAlias = str | int
Named: TypeAlias = list[tuple[str, str]]
"""Pairs of "constraint" or "column" and its name: names of the schema only, never a value."""


@frozen(eq=False)
class Errors:
    """What the errors of one database mean.

    Args:
        codes: the table of its codes.
        find: what gives the row of an error by its code; None: the error is another database's.
        names: what the text of an error, or its driver, names, taken from where no value can stand.
        index_in: gives the name of the index that has refused a row, or its columns; None: it is not said.
        drivers: the packages whose errors are known where SQLAlchemy has not wrapped them.
        rule_gone: the codes that say that the unique rule has gone.
        changed: the further ones that say that the tables are not what they were.
        unharmed: those of both after which, at a look, the transaction goes on.
        refused_by: what names the table and the index that have refused a row; None: the database can still be asked.
    """

    codes: ErrorCodes
    find: Callable[[BaseException, Code], Row | None]
    names: Callable[[Any], Named]
    index_in: Callable[[Any], str | frozenset[str] | None]
    drivers: frozenset[str]
    rule_gone: frozenset[Code] = frozenset()
    changed: frozenset[Code] = frozenset()
    unharmed: frozenset[Code] = frozenset()
    refused_by: Callable[[Any], tuple[str | None, str | None]] | None = None


# --- errors without a code of a server: by the class of Python, or one that it is made from ----------------------

CLASSES = ErrorCodes(
    "errors without a code",
    (
        *rows_of(
            Fault.UNAVAILABLE,
            Left.NONE_BEGUN,
            ("sqlalchemy.exc.TimeoutError", "QueuePool limit", "every connection of the pool is in use"),
            (
                "asyncpg.exceptions._base.TargetServerAttributeNotMatched",
                "no server as `target_session_attrs` says",
                "a failover is under way",
            ),
            ("builtins.ConnectionError", "refused, reset, broken pipe", "no server, or no more (asyncpg)"),
            (
                "builtins.TimeoutError",
                "of a socket or a loop",
                "a wait was too long (asyncpg's `command_timeout`)",
            ),
            ("socket.gaierror", "no address of a name", "the name has no address now (asyncpg)"),
            ("network OSError", "an OSError of a network", "no way to the server now (asyncpg)"),
            ("ssl.SSLEOFError", "the end within TLS", "the connection broke while it was made (asyncpg)"),
        ),
        *rows_of(
            Fault.LOST,
            Left.GONE,
            (
                "sqlalchemy invalidated",
                "`connection_invalidated`",
                "SQLAlchemy knows that the connection is gone",
            ),
            (
                "sqlalchemy.exc.OperationalError",
                "a driver's OperationalError",
                "the connection is closed or could not be made; psycopg does not tell why: a wrong password too",
            ),
            ("sqlalchemy.exc.InterfaceError", "a driver's InterfaceError", "the same"),
            ("psycopg.OperationalError", "psycopg's own", "the same"),
            ("psycopg.InterfaceError", "psycopg's own", "the same"),
            ("asyncpg.exceptions._base.InterfaceError", "asyncpg's own", "the same"),
            ("asyncpg.exceptions._base.ProtocolError", "asyncpg's own", "the connection is of no more use"),
            ("pymysql.err.InternalError", "packets out of order", "the connection is of no more use"),
            ("asyncmy.errors.InternalError", "packets out of order", "the connection is of no more use"),
        ),
        *rows_of(
            Fault.UNAVAILABLE,
            Left.MUST_ROLL_BACK,
            (
                "asyncpg.exceptions._base.OutdatedSchemaCacheError",
                "a stale type",
                "a migration changed a type; asyncpg has forgotten it",
            ),
        ),
        *rows_of(
            Fault.AFTERMATH,
            Left.MUST_ROLL_BACK,
            (
                "sqlalchemy.exc.PendingRollbackError",
                "roll back first",
                "an earlier error was swallowed: what that one says counts",
            ),
        ),
        *rows_of(
            Fault.OTHER,
            Left.MUST_ROLL_BACK,
            ("asyncpg.exceptions._base.DataError", "asyncpg's own", "the same value is refused again"),
            ("asyncpg.exceptions._base.ClientConfigurationError", "asyncpg's own", "the settings of asyncpg"),
            (
                "asyncpg.exceptions._base.UnsupportedClientFeatureError",
                "asyncpg's own",
                "asyncpg cannot do it",
            ),
            ("sqlite3.Error", "sqlite3's own", "the module refuses a value, or cannot read one"),
            ("ssl.SSLError", "TLS", "the certificates, or the settings of TLS"),
        ),
    ),
    Row("other", "any other", Fault.OTHER, Left.MUST_ROLL_BACK, "nothing is known of it"),
)


# --- how an error is known -----------------------------------------------------------------------------------

_NO_WAY = frozenset(
    {errno.EADDRNOTAVAIL, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)


def row_in(error: BaseException, databases: Sequence[Errors]) -> Row:
    """Return what an error means on one of some databases: one of SQLAlchemy's, of a driver's, or any other."""
    told = told_by(error)
    coded = [each for each in told if isinstance(error, DBAPIError) or is_a_drivers(each, databases)]
    found = (
        row
        for each in coded
        if (code := _code(each)) is not None
        for database in databases
        if (row := database.find(each, code)) is not None
    )
    row = next(found, None)
    if row is None:
        row = CLASSES.row(*(name for each in [*told, error] for name in _names(each)))
    is_gone = isinstance(error, DBAPIError) and error.connection_invalidated
    if is_gone and row.left not in {Left.GONE, Left.NONE_BEGUN}:
        return CLASSES.row("sqlalchemy invalidated")
    return row


def told_by(error: BaseException) -> list[BaseException]:
    """Return what a driver has raised: SQLAlchemy wraps it, and its adapters of asynchronous drivers once more."""
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    return [each for each in (driver_error, getattr(driver_error, "__cause__", None)) if each is not None]


def is_a_drivers(error: BaseException, databases: Iterable[Errors]) -> bool:
    """Tell whether a class of errors of a driver's own is it."""
    package = type(error).__module__.partition(".")[0]
    return any(package in each.drivers for each in databases)


def code_of(error: BaseException) -> str | int | None:
    """Return the code of an error: an SQLSTATE, or a number of SQLite or MariaDB; None: it has none."""
    return next((code for each in told_by(error) if (code := _code(each)) is not None), None)


def _code(error: BaseException) -> str | int | None:
    # First of all the number: the drivers of MariaDB may give an SQLSTATE too, which says less.
    first = next(iter(error.args), None)
    for number in (getattr(error, "sqlite_errorcode", None), first):
        if isinstance(number, int):
            return number
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state


def _names(error: BaseException) -> Iterator[str]:
    """Name the classes of an error as the table does, the most exact first."""
    if isinstance(error, OSError) and _is_of_a_network(error):
        yield "network OSError"
    for kind in type(error).__mro__:
        yield f"{kind.__module__}.{kind.__qualname__}"


def _is_of_a_network(error: OSError) -> bool:
    if error.errno in _NO_WAY:
        return True
    # Whoever misses a file names it; a socket that is gone is not named. Several addresses make an error without
    # a number.
    nameless = isinstance(error, FileNotFoundError) or (type(error) is OSError and error.errno is None)
    return nameless and error.filename is None
