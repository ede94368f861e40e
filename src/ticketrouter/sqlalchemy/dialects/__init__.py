"""The databases that we know, one room each, and the table of them.

Law of this package: all that only one database does stands in its room, a package of small files: its record in
`__init__`, `catalogue` (what it says of its tables), `errors` (what its codes mean), `plans` (its DDL), `statements` (what
only it is sent), and what else it has of its own. A room knows no other room; what two would share belongs below both. A new database is a new room and a line of the table; nobody outside of
this package asks for the name of one, and no `else` is a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Dialect

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects.base import Database
from ticketrouter.sqlalchemy.dialects.mariadb import MARIADB
from ticketrouter.sqlalchemy.dialects.postgresql import POSTGRESQL
from ticketrouter.sqlalchemy.dialects.sqlite import SQLITE

DATABASES = (
    POSTGRESQL,
    MARIADB,
    SQLITE,
)
"""The table."""

_BY_BACKEND: Mapping[str, Database] = MappingProxyType(
    {backend: each for each in DATABASES for backend in each.backends}
)
KNOWN = ", ".join(each.title for each in DATABASES)
"""Their names, for messages."""


def database_of(dialect: Dialect) -> Database:
    """Return the database that one of SQLAlchemy's dialects speaks to, which has met its server.

    Raises:
        MappingError: if it is none that we know, named as the server is.
    """
    found = _BY_BACKEND.get(dialect.name)
    stranger = dialect.name if found is None else found.stranger(dialect)
    if found is None or stranger is not None:
        raise MappingError(f"{stranger} is not among the databases that ticketrouter knows ({KNOWN})")
    return found


def presumed(dialect: Dialect) -> Database | None:
    """Return the database that a dialect is meant for, whether it has met its server or not; None: we know none."""
    return _BY_BACKEND.get(dialect.name)


def named(backend: str) -> Database | None:
    """Return the database that SQLAlchemy, or a person, calls so; None: we know none."""
    return _BY_BACKEND.get(backend)
