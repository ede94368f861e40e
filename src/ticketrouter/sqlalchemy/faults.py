"""What the databases' errors mean: driver errors in, ours out.

Law of this file: an error is known by its code, never by its text; our text holds the code and no data.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    UnboundExecutionError,
)

from ticketrouter.errors import ContentionError, RepositoryError, TicketRouterError


class Fault(Enum):
    """What an error means to us."""

    TAKEN = auto()
    """A unique rule refused the row."""
    RESTART = auto()
    """Only a restart of the whole transaction can cure it."""
    LOST = auto()
    """The connection is gone, and with it the transaction."""
    OTHER = auto()
    """Anything else."""


_POSTGRESQL = {
    "23505": Fault.TAKEN,
    "40001": Fault.RESTART,
    "40P01": Fault.RESTART,
    "55P03": Fault.RESTART,
    "57P01": Fault.LOST,
    "57P02": Fault.LOST,
    "57P03": Fault.LOST,
}
_MYSQL = {
    1062: Fault.TAKEN,
    1020: Fault.RESTART,
    1205: Fault.RESTART,
    1213: Fault.RESTART,
    # Galera: the node is not, or no longer, part of a quorum.
    1047: Fault.LOST,
    1180: Fault.LOST,
    # Shut down, killed.
    1053: Fault.LOST,
    1927: Fault.LOST,
    # There was no server to connect to.
    2002: Fault.LOST,
    2003: Fault.LOST,
    2006: Fault.LOST,
    2013: Fault.LOST,
}
_NO_SAVEPOINT = 1305
_SQLITE = {
    # SQLITE_CONSTRAINT_UNIQUE and SQLITE_CONSTRAINT_PRIMARYKEY
    2067: Fault.TAKEN,
    1555: Fault.TAKEN,
}
_SQLITE_PRIMARY = {5: Fault.RESTART, 6: Fault.RESTART}
"""SQLITE_BUSY and SQLITE_LOCKED, whatever the extension."""


def code_of(error: DBAPIError) -> str | int | None:
    """Return the code of a driver's error: an SQLSTATE, or a number of SQLite or MariaDB; None: it has none."""
    driver_error: Any = error.orig
    # First of all the number: the drivers of MariaDB may give an SQLSTATE too, which says less.
    first = next(iter(getattr(driver_error, "args", ())), None)
    numbers = (getattr(driver_error, "sqlite_errorcode", None), first)
    for number in numbers:
        if isinstance(number, int):
            return number
    state: str | None = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    return state


def fault_of(error: DBAPIError) -> Fault:
    """Tell what a driver's error means."""
    if error.connection_invalidated:
        return Fault.LOST
    match code_of(error):
        case str() as state:
            return Fault.LOST if state.startswith("08") else _POSTGRESQL.get(state, Fault.OTHER)
        case int() as number if hasattr(error.orig, "sqlite_errorcode"):
            return _SQLITE.get(number) or _SQLITE_PRIMARY.get(number & 0xFF, Fault.OTHER)
        case int() as number:
            return _MYSQL.get(number, Fault.OTHER)
        case None:
            # No server has said this but the driver: that there is none, or that the connection is closed.
            return Fault.LOST if isinstance(error, InterfaceError | OperationalError) else Fault.OTHER


def translate(error: SQLAlchemyError) -> TicketRouterError:
    """Return our error for one of SQLAlchemy's."""
    if not isinstance(error, DBAPIError):
        if isinstance(error, UnboundExecutionError):
            return RepositoryError("the session is bound to no engine")
        return RepositoryError(f"the statement could not be sent ({type(error).__name__})")
    code = code_of(error)
    named = f"code {code}" if code is not None else type(error.orig).__name__
    match fault_of(error):
        case Fault.RESTART:
            return ContentionError(f"roll back and run the whole transaction again ({named})")
        case Fault.LOST:
            return RepositoryError(f"the connection to the database is lost ({named})", retryable=True)
        case Fault.TAKEN | Fault.OTHER:
            return RepositoryError(f"the database refused a statement ({named})")


def is_retryable(error: BaseException) -> bool:
    """Tell whether the host may run its whole unit of work again, after a rollback.

    A host needs it for what its own statements raise, above all `COMMIT`, at which SERIALIZABLE transactions and
    Galera may still fail, and for a server that is not there while it starts again.

    Args:
        error: an error of ticketrouter, of SQLAlchemy, or any other.

    Returns:
        `error.retryable` for an error of ours; for one of SQLAlchemy what ours would say; True for what asyncpg
        raises where nobody listens, a `ConnectionError`, or a `FileNotFoundError` of a socket; else False.
    """
    seen: BaseException | None = error
    while seen is not None:
        told = translate(seen) if isinstance(seen, SQLAlchemyError) else seen
        if _nobody_listens(told) or (isinstance(told, TicketRouterError) and told.retryable):
            return True
        # A savepoint that went with its transaction fails too, and hides why: MariaDB after a deadlock.
        seen = seen.__context__ if isinstance(seen, SQLAlchemyError) else None
    return False


def _nobody_listens(error: BaseException) -> bool:
    # Whoever misses a file names it; a socket that is gone is not named.
    missing = isinstance(error, FileNotFoundError) and error.filename is None
    return missing or isinstance(error, ConnectionError)


class _Translated:
    """What `translated` returns: a class, because a generator would take as long as the look-up of a plan."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            raise translate(_first(error)) from error


_TRANSLATED = _Translated()


def translated() -> AbstractContextManager[None]:
    """Let errors of SQLAlchemy out as ours, with the cause kept."""
    return _TRANSLATED


def _first(error: SQLAlchemyError) -> SQLAlchemyError:
    """Return the error that the transaction was lost by: on MariaDB our savepoint goes with it, which fails too."""
    if not isinstance(error, DBAPIError) or code_of(error) != _NO_SAVEPOINT:
        return error
    before = error.__context__
    while before is not None:
        if isinstance(before, DBAPIError) and fault_of(before) in {Fault.RESTART, Fault.LOST}:
            return before
        before = before.__context__
    return error
