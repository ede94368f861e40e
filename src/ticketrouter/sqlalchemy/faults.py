"""What the databases' errors mean: driver errors in, ours out.

Law of this file: an error is known by its code, or by its class where it has none, never by its text; what each
means stands in the room of its database, or in `error_codes`, and nowhere else. Our text holds the code and no data.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any, assert_never

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, UnboundExecutionError

from ticketrouter.errors import ContentionError, RepositoryError, TicketRouterError
from ticketrouter.sqlalchemy.dialects import DATABASES
from ticketrouter.sqlalchemy.error_codes import (
    CLASSES,
    Fault,
    Named,
    Row,
    code_of,
    is_a_drivers,
    row_in,
)

DATABASE_ERRORS = tuple(each.errors for each in DATABASES)
"""What the errors of each database mean."""
SERVERS = (*(each.codes for each in DATABASE_ERRORS), CLASSES)
"""The tables of codes, in the order of the page."""
_LONGEST_NAME = 128
_OF_PYTHON = sys.stdlib_module_names | {"uvloop"}
"""What a driver waits with: what is raised there is raised on its behalf."""


def row_of(error: BaseException) -> Row:
    """Return what an error means: one of SQLAlchemy's, of a driver's, or any other."""
    return row_in(error, DATABASE_ERRORS)


def names_in(error: Any) -> Named:
    """Return which constraint and which column a driver's error names."""
    found = next((named for each in DATABASE_ERRORS if (named := each.names(error))), [])
    return [(what, name) for what, name in found if _is_a_name(name)]


def _is_a_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _LONGEST_NAME and name.isprintable()


def fault_of(error: BaseException) -> Fault:
    """Tell what an error means to us."""
    return row_of(error).fault


def translate(error: Exception) -> TicketRouterError:
    """Return our error for one of SQLAlchemy's, or one of a driver's that it has not wrapped."""
    fault, named = fault_of(error), _named(error)
    match fault:
        case Fault.RESTART:
            return ContentionError(f"roll back and run the whole transaction again ({named})")
        case Fault.LOST:
            return RepositoryError(f"the connection to the database is lost ({named})", retryable=True)
        case Fault.UNAVAILABLE:
            return RepositoryError(
                f"the database cannot do it now: roll back, wait, and run the whole transaction again ({named})",
                retryable=True,
            )
        case Fault.AFTERMATH:
            return RepositoryError(f"an earlier error has ended the transaction: roll back ({named})")
        case Fault.TAKEN | Fault.OTHER:
            return _refused(error, named)
        case _:
            assert_never(fault)


def _named(error: Exception) -> str:
    """Name an error by its code; one without by its class, as the driver has it."""
    is_coded = isinstance(error, DBAPIError) or is_a_drivers(error, DATABASE_ERRORS)
    code = code_of(error) if is_coded else None
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    return f"code {code}" if code is not None else type(driver_error).__name__


def _refused(error: Exception, named: str) -> RepositoryError:
    if isinstance(error, UnboundExecutionError):
        return RepositoryError("the session is bound to no engine")
    if not isinstance(error, SQLAlchemyError):
        return RepositoryError(f"the database or its driver refused ({named})")
    if not isinstance(error, DBAPIError):
        return RepositoryError(f"the statement could not be sent ({named})")
    where = "".join(f", {what} {name}" for what, name in names_in(error.orig))
    return RepositoryError(f"the database refused a statement ({named}{where})")


def is_retryable(error: BaseException) -> bool:
    """Tell whether the host may run its whole unit of work again, after a rollback and a wait.

    A host needs it for what its own statements raise, above all `COMMIT`, at which SERIALIZABLE transactions and
    Galera may still fail, and for a server that is not there while it starts again.

    Args:
        error: an error of ticketrouter, of SQLAlchemy, of a driver, or any other.

    Returns:
        `error.retryable` for an error of ours; for one of SQLAlchemy or a driver what the table of error codes
        says; True for what asyncpg raises where nobody listens, or too late: a `ConnectionError`, a
        `TimeoutError`, another error of a network; else False.
    """
    if isinstance(error, TicketRouterError):
        return error.retryable
    return fault_of(error).is_retryable or _cause_of_aftermath(error) is not None


def _cause_of_aftermath(error: BaseException) -> BaseException | None:
    """Return the error that the transaction was lost by, where what came after it fails too and hides it.

    On MariaDB our savepoint goes with the transaction, so that it cannot be released.
    """
    if fault_of(error) is not Fault.AFTERMATH:
        return None
    before = error.__context__
    while before is not None:
        is_ours = isinstance(before, TicketRouterError) and before.retryable
        if is_ours or fault_of(before).is_retryable:
            return before
        before = before.__context__
    return None


class _Translated:
    """What `translated` returns: a class, because a generator would take as long as the look-up of a plan."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            first = _cause_of_aftermath(error)
            raise translate(first if isinstance(first, SQLAlchemyError) else error) from error
        if isinstance(error, Exception) and _has_come_from_a_driver(error):
            raise translate(error) from error


def _has_come_from_a_driver(error: Exception) -> bool:
    """Tell whether a driver has raised an error that SQLAlchemy has let out as it is, as asyncpg does where it connects.

    What a host's callback, listener or signal handler raises is the host's own, whatever it is.
    """
    last, trace = "", error.__traceback__
    while trace is not None:
        package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        last = last if package in _OF_PYTHON else package
        trace = trace.tb_next
    return any(last in each.drivers for each in DATABASE_ERRORS)


_TRANSLATED = _Translated()


def translated() -> AbstractContextManager[None]:
    """Let errors of SQLAlchemy and of drivers out as ours, with the cause kept."""
    return _TRANSLATED
