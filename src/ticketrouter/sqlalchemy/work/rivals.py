"""A key that somebody else has taken meanwhile: what such a refusal leaves of the host's transaction.

Law of this file: whether a refusal is a lost race is for `Refusals` to say; whether it can be asked stands here.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from ticketrouter.errors import ContentionError
from ticketrouter.sqlalchemy.error_codes import Fault
from ticketrouter.sqlalchemy.faults import fault_of
from ticketrouter.sqlalchemy.known import is_of_a_new_index
from ticketrouter.sqlalchemy.transactions import is_autocommit, transactions_of
from ticketrouter.sqlalchemy.work.here import Here


@contextmanager
def undoable(here: Here) -> Generator[None]:
    """Keep the host's transaction of use if a statement is refused, where such a one would end it."""
    if is_autocommit(here.connection) or not transactions_of(here.connection).needs_savepoints:
        yield
        return
    with here.whole.undone_if_it_raises(), here.connection.begin_nested():
        yield


def is_taken(here: Here, error: IntegrityError) -> bool:
    """Tell whether a unique index has refused a row that was there when the database was asked."""
    return fault_of(error) is Fault.TAKEN and not is_of_a_new_index(
        here.connection, here.mapping, here.plan, error
    )


def restart_in_one_snapshot(here: Here, error: BaseException) -> None:
    """Raise where who took a key is newer than all that this transaction can see."""
    if transactions_of(here.connection).sees_one_snapshot(here.connection):
        raise ContentionError(
            "roll back and run the whole transaction again (the key was taken meanwhile)"
        ) from error
