"""A call: the host's transaction, and what is known of the database it is on.

Law of this file: the transaction is the host's. Its pending objects are flushed first; nothing is committed,
rolled back, closed, retried or created. An error of the driver comes out as ours, with its cause. Only where the tables
are not what they were known to be, a look is sent once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from ticketrouter.errors import RepositoryError
from ticketrouter.sqlalchemy.error_codes import code_of
from ticketrouter.sqlalchemy.facts import ElsewhereError
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.known import (
    Known,
    asked,
    forget,
    is_of_a_new_index,
    known,
    tells_of_the_schema,
    was_the_rule,
    went_unharmed,
)
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.transactions import transactions_of
from ticketrouter.sqlalchemy.whole import Whole, note_end, refuse_ended
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.sqlalchemy.work.known_words import in_known_words

_T = TypeVar("_T")


def called(
    host: Session | scoped_session[Any] | Connection,
    mapping: TicketMapping,
    work: Callable[[Here], _T],
    *,
    writes: bool = True,
    once: bool = False,
) -> _T:
    """Do the work of one call in a host's transaction.

    Args:
        host: what the transaction is on.
        mapping: where the tickets are.
        work: what is done.
        writes: whether it may be followed by a write, for which others must be kept away from the beginning.
        once: whether it must not be sent again.
    """
    connection = _connection(host, mapping)
    with translated():
        transactions = transactions_of(connection)
        refuse_ended(connection)
        if writes:
            transactions.check_write_lock(connection)
        try:
            return _worked(connection, mapping, work, once=once)
        except SQLAlchemyError as error:
            note_end(connection, error)
            raise


def _connection(host: Session | scoped_session[Any] | Connection, mapping: TicketMapping) -> Connection:
    if isinstance(host, Connection):
        return host
    with translated():
        connection = host.connection(bind_arguments={"clause": mapping.table})
    # Flushed out of `translated`, so that what the host's own objects break is the host's own error.
    host.flush()
    return connection


def _worked(connection: Connection, mapping: TicketMapping, work: Callable[[Here], _T], *, once: bool) -> _T:
    """Do some work by what is known of the database; a look at what is not so any more is sent once more."""

    def by(plan: Known) -> _T:
        here = Here(connection, plan, mapping, Whole(connection))
        return in_known_words(here, work(here))

    plan = known(connection, mapping)
    try:
        return by(plan)
    except ElsewhereError:
        now = asked(connection, mapping)
    except DBAPIError as error:
        if is_of_a_new_index(connection, mapping, plan, error):
            forget(connection)
            raise _other_tables(f"code {code_of(error)}") from error
        if not tells_of_the_schema(error):
            raise
        forget(connection)
        goes_on = went_unharmed(error)
        now = asked(connection, mapping) if goes_on else plan
        if once or now is plan:
            if was_the_rule(error) or now is not plan:
                raise _other_tables(f"code {code_of(error)}") from error
            raise
    try:
        return by(now)
    except ElsewhereError as error:
        raise _other_tables("another schema") from error


def _other_tables(why: str) -> RepositoryError:
    return RepositoryError(
        f"the tables are not what they were ({why}): roll back and run the whole transaction again",
        retryable=True,
    )
