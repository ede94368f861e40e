"""Writes of several statements: wholly there or not at all, whatever ends them, and whatever the host does then.

Law of this file: a statement that the database has refused did nothing, so what came before it is taken back while
the transaction lives. After any other exception nobody knows what is there, and then the transaction can no longer be
committed. Nothing is sent in a transaction that the server has ended.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import TracebackType
from typing import Any, TypeAlias
from weakref import WeakSet

from attrs import define, field
from sqlalchemy import Connection, Executable, RootTransaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from ticketrouter.errors import ContentionError, TicketRouterError
from ticketrouter.sqlalchemy.faults import row_of
from ticketrouter.sqlalchemy.transactions import transactions_of

Undo: TypeAlias = tuple[Executable, dict[str, Any]]
"""A statement that takes another one back, and the values that it is sent with."""


class _After(Enum):
    """What a host's transaction is good for after an error."""

    GOES_ON = auto()
    ROLLBACK_ONLY = auto()
    """It takes nothing but a rollback, be it to a savepoint."""
    ENDED = auto()
    """The server has ended it: what is sent next is not of it."""


@define
class Whole:
    """What there is of a write of several statements.

    Args:
        connection: the host's.
    """

    connection: Connection
    _begun: bool = False
    _undo: list[Undo] = field(factory=list)

    def undone_by(self, undo: Undo) -> None:
        """Note what takes back the statement that was just carried out."""
        self._undo.append(undo)

    def reached(self) -> None:
        """Note that nothing is missing, or that nothing is there: an error of what follows, as of a look, takes nothing back."""
        self._begun = False

    @contextmanager
    def undone_if_it_raises(self) -> Generator[None]:
        """Have what is reached inside, in a savepoint, be gone where that does not end well."""
        begun = self._begun
        try:
            yield
        except BaseException:
            self._begun = begun
            raise

    @contextmanager
    def or_nothing(self) -> Generator[None]:
        """Leave nothing of what is written inside, or make sure that it is never committed, if it does not end well."""
        self._begun = True
        try:
            yield
        except BaseException as error:
            if self._begun:
                self._take_back(error)
            raise
        finally:
            self._begun = False
            self._undo.clear()

    def _take_back(self, error: BaseException) -> None:
        if not _tells_what_is_there(error):
            give_up(self.connection, error)
        elif self._undo:
            with suppress(Exception), giving_up(self.connection):  # the first error is the one to tell
                if _after(self.connection, error) is _After.GOES_ON:
                    for statement, values in reversed(self._undo):
                        self.connection.execute(statement, values)


@contextmanager
def all_or_nothing(connection: Connection) -> Generator[None]:
    """Have what is written inside stand in a savepoint, and leave nothing of it if it does not end well."""
    savepoint = connection.begin_nested()
    try:
        yield
    except BaseException as error:
        if not _tells_what_is_there(error):
            give_up(connection, error)
        else:
            with suppress(Exception), giving_up(connection):
                # Where the server has ended it all, the savepoint has gone too.
                if _after(connection, error) is not _After.ENDED:
                    savepoint.rollback()
        raise
    savepoint.commit()


def give_up(connection: Connection, error: BaseException) -> None:
    """Make the host's transaction one that cannot be committed, as nobody knows what is in it.

    Its connection is closed, which rolls it back. One of SQLite is rolled back and given to its pool instead: a
    database in memory would be gone with it.

    Args:
        connection: the host's; a commit of it raises now, and after a rollback it goes on with a new one.
        error: what has ended the write.
    """
    if connection.closed or connection.invalidated:
        return
    try:
        transactions_of(connection).end(connection)
    finally:
        connection.invalidate(error)


@contextmanager
def giving_up(connection: Connection) -> Generator[None]:
    """Give the transaction up where what is done inside fails, and refuse what of ours comes next in it.

    Whoever takes a lost race back tells that race, after which the router looks again: not in what is gone.
    """
    try:
        yield
    except BaseException as error:
        _note_ended(connection)
        give_up(connection, error)
        raise


def _tells_what_is_there(error: BaseException) -> bool:
    """Tell whether an error is ours, or the database's about a statement of ours: whatever failed has done nothing.

    What a host's listener raises comes through the execution of our statement, and what the listener itself has sent
    through two of them.
    """
    if isinstance(error, TicketRouterError):
        return _executions(error.__traceback__) == 0
    return isinstance(error, StatementError) and _executions(error.__traceback__) == 1


def _executions(trace: TracebackType | None) -> int:
    count = 0
    while trace is not None:
        count += trace.tb_frame.f_code.co_name == "_execute_context"
        trace = trace.tb_next
    return count


def _after(connection: Connection, error: BaseException) -> _After:
    """Tell what an error has left of the transaction: the server is asked, as its settings count too."""
    if not isinstance(error, DBAPIError):
        return _After.GOES_ON
    if error.connection_invalidated or connection.invalidated:
        return _After.ENDED
    lives = transactions_of(connection).lives(connection)
    if lives is None:
        return _After.ROLLBACK_ONLY
    return _After.GOES_ON if lives else _After.ENDED


# --- transactions that the server has ended, while the host believes that they go on ----------------------------

_ended: WeakSet[RootTransaction] = WeakSet()


def refuse_ended(connection: Connection) -> None:
    """Send nothing in a transaction that the server has ended: what came before is gone, and what came now would stay.

    Raises:
        ContentionError: if an earlier operation of ours has met that end.
    """
    if _ended and connection.get_transaction() in _ended:
        raise ContentionError(
            "roll back and run the whole transaction again (an earlier error has ended it, and nothing of it is left)"
        )


def note_end(connection: Connection, error: SQLAlchemyError) -> None:
    """Note the host's transaction where an error has ended it."""
    if _has_ended(connection, error):
        _note_ended(connection)


def _note_ended(connection: Connection) -> None:
    transaction = connection.get_transaction()
    if transaction is not None:
        _ended.add(transaction)


def _has_ended(connection: Connection, error: SQLAlchemyError) -> bool:
    if connection.invalidated:
        return True
    if not isinstance(error, DBAPIError):
        return False
    begun = transactions_of(connection).was_begun(connection, row_of(error))
    try:
        return begun and _after(connection, error) is _After.ENDED
    except Exception:  # noqa: BLE001 - whoever cannot even be asked has none to go on with
        return True
