"""What a host's transaction is on its connection, whichever database it is.

Law of this file: the question and the room that answers it; nothing is known of a database here.
"""

from __future__ import annotations

from sqlalchemy import Connection

from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.dialects.base import Transactions


def transactions_of(connection: Connection) -> Transactions:
    """Return what transactions are on the database that a connection speaks to.

    Raises:
        MappingError: if it is none that we know.
    """
    return database_of(connection.dialect).transactions


def is_autocommit(connection: Connection) -> bool:
    """Tell whether each statement of this connection is a transaction of its own."""
    return transactions_of(connection).is_autocommit(connection)
