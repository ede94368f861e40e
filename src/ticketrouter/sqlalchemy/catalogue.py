"""What the adapter asks a database's catalogue, whichever database it is.

Law of this file: the question and the room that answers it; nothing is known of a database here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.dialects.base import Catalogue
from ticketrouter.sqlalchemy.facts import ColumnFacts, Index, Reach
from ticketrouter.sqlalchemy.mapping import TicketMapping


def catalogue_of(connection: Connection) -> Catalogue:
    """Return the catalogue of the database that a connection speaks to.

    Raises:
        MappingError: if it is none that we know.
    """
    return database_of(connection.dialect).catalogue


def indexes(connection: Connection, mapping: TicketMapping) -> Iterable[Index]:
    """List the indexes of the tickets table, unique or not.

    Raises:
        MappingError: if the table is not there, or the database is none that we know.
    """
    return catalogue_of(connection).indexes(connection, mapping)


def columns(connection: Connection, mapping: TicketMapping) -> Mapping[str, ColumnFacts]:
    """Tell of the columns of the tickets table, by name.

    Raises:
        MappingError: if the table is not there, or the database is none that we know.
    """
    return catalogue_of(connection).columns(connection, mapping)


def reaches(connection: Connection, mapping: TicketMapping, found: Sequence[Index]) -> list[Reach]:
    """Tell which rows each of these indexes has, which have expressions or a predicate.

    Statements:
        On PostgreSQL a `SELECT` without a table and, where there is a predicate, an `EXPLAIN` for each index, in a
        savepoint; elsewhere one `SELECT` for all.
    """
    return catalogue_of(connection).reaches(connection, mapping, found) if found else []
