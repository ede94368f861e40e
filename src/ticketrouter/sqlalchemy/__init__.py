"""The SQLAlchemy adapter: tickets in a host's database, inside the host's transaction.

It needs the extra `sqlalchemy` (or `asyncio`) and the driver of the database.
"""

try:
    __import__("sqlalchemy")
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        'ticketrouter.sqlalchemy needs the extra "sqlalchemy": pip install "ticketrouter[sqlalchemy]"',
        name=_missing.name,
    ) from _missing

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects.sqlite.transactions import configure_sqlite
from ticketrouter.sqlalchemy.faults import is_retryable
from ticketrouter.sqlalchemy.mapping import DEFAULT_MAPPING, TicketMapping, metadata
from ticketrouter.sqlalchemy.on_message import KEEP
from ticketrouter.sqlalchemy.repository import AsyncSQLAlchemyTicketRepository, SQLAlchemyTicketRepository
from ticketrouter.sqlalchemy.rules import detect_unique_rule

__all__ = [
    "DEFAULT_MAPPING",
    "KEEP",
    "AsyncSQLAlchemyTicketRepository",
    "MappingError",
    "SQLAlchemyTicketRepository",
    "TicketMapping",
    "configure_sqlite",
    "detect_unique_rule",
    "is_retryable",
    "metadata",
]
