"""What the adapter asks a database's catalogue, whichever database it is.

Law of this file: the question and the room that answers it; nothing is known of a database here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from ticketrouter.checks import printable
from ticketrouter.sqlalchemy.columns import MappingError
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
        MappingError: if the table is not there, the database is none that we know, or SQLAlchemy cannot send a name.
    """
    catalogue = catalogue_of(connection)
    _check_names(connection, mapping)
    return catalogue.indexes(connection, mapping)


def columns(connection: Connection, mapping: TicketMapping) -> Mapping[str, ColumnFacts]:
    """Tell of the columns of the tickets table, by name.

    Raises:
        MappingError: if the table is not there, the database is none that we know, or SQLAlchemy cannot send a name.
    """
    catalogue = catalogue_of(connection)
    _check_names(connection, mapping)
    return catalogue.columns(connection, mapping)


def reaches(connection: Connection, mapping: TicketMapping, found: Sequence[Index]) -> list[Reach]:
    """Tell which rows each of these indexes has, which have expressions or a predicate.

    Statements:
        On PostgreSQL a `SELECT` without a table and, where there is a predicate, an `EXPLAIN` for each index, in a
        savepoint; elsewhere one `SELECT` for all.
    """
    return catalogue_of(connection).reaches(connection, mapping, found) if found else []


_DOUBLES_PER_CENTS = frozenset({"format", "pyformat"})
"""The ways of parameters with which SQLAlchemy keeps a per cent sign in a name from being one's beginning."""
_BEGINS_A_PARAMETER = re.compile(r"%\((?![^)]+\)s)")


def _check_names(connection: Connection, mapping: TicketMapping) -> None:
    """Refuse a name in which SQLAlchemy would see the beginning of a parameter that ends behind it."""
    if connection.dialect.paramstyle in _DOUBLES_PER_CENTS:
        return
    tables = mapping.table, mapping.message_ids, mapping.anchors
    of_tables = (name for table in tables for name in (table.schema, table.name))
    for name in (*of_tables, *(column.name for column in mapping.table.columns)):
        if name is not None and _BEGINS_A_PARAMETER.search(name):
            raise MappingError(
                f"the name {printable(name)} has a '%(' in it, which SQLAlchemy takes for the beginning of a parameter "
                "where the driver's are not formatted: rename it first"
            )
