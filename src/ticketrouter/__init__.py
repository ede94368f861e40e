"""Which ticket does this inbound message belong to?

Everything a host needs is importable from here, but for the adapters (`ticketrouter.memory`,
`ticketrouter.sqlalchemy`) and the known desks (`ticketrouter.presets`).
"""

from ticketrouter.checks import Id
from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.decisions import Snapshot
from ticketrouter.errors import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    NoTicketError,
    RepositoryError,
    TicketNotFoundError,
    TicketRouterError,
)
from ticketrouter.model import (
    Change,
    InboundMessage,
    MessageKind,
    Outcome,
    Reason,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
)
from ticketrouter.moves import MovePlan, OnCollision
from ticketrouter.policy import decide
from ticketrouter.repository import AsyncTicketRepository, TicketRepository
from ticketrouter.router import AsyncTicketRouter, TicketRouter

__all__ = [
    "ActiveTicketExistsError",
    "AsyncTicketRepository",
    "AsyncTicketRouter",
    "BlockedBySchemaError",
    "Change",
    "ConflictError",
    "ContentionError",
    "Effect",
    "Id",
    "InboundMessage",
    "InvalidMessageError",
    "MessageKind",
    "MovePlan",
    "NoTicketError",
    "OnCollision",
    "Outcome",
    "Policy",
    "Reason",
    "Reopen",
    "RepositoryError",
    "Resolution",
    "Scope",
    "Snapshot",
    "StatusScheme",
    "Ticket",
    "TicketKey",
    "TicketNotFoundError",
    "TicketRepository",
    "TicketRouter",
    "TicketRouterError",
    "UniqueRule",
    "decide",
]
