"""The desk over a database of the Whaticket line: its tables stay as they are.

Law of this file: no web framework is known here. Each function is one unit of work, and tells what is to be sent
to the agents' screens once it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
from attrs import asdict, frozen
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine
from sqlalchemy.engine import URL

from ticketrouter import InboundMessage, Outcome, Resolution, Ticket, TicketRouter, presets
from ticketrouter.sqlalchemy import (
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    is_retryable,
)

T = TypeVar("T")


@frozen
class Event:
    """What an agents' screen is told.

    Args:
        room: who hears it: as in the line's own server, the room of a company.
        action: "create" or "update".
        ticket: the ticket as it is now.
    """

    room: str
    action: str
    ticket: Ticket

    @classmethod
    def of(cls, ticket: Ticket, *, created: bool = False) -> Event:
        """Make the event of a change."""
        return cls(f"company-{ticket.company_id}-ticket", "create" if created else "update", ticket)


class Desk:
    """What a Whaticket desk does with tickets.

    Args:
        url: the database that has the table "Tickets".
        emit: sends an event to the screens; called after the COMMIT only.
    """

    def __init__(self, url: str | URL, emit: Callable[[Event], None]) -> None:
        self.engine: Engine = create_engine(url, pool_pre_ping=True)
        if self.engine.dialect.name == "sqlite":
            configure_sqlite(self.engine)
        self._emit = emit
        self._preset = presets.ALL["whaticket-community"]
        self.mapping = TicketMapping.whaticket(
            Table("Tickets", MetaData(), autoload_with=self.engine), statuses=self._preset.statuses
        )

    def prepare(self) -> None:
        """Create the companion tables, where they are not there yet; "Tickets" is not touched."""
        self.mapping.metadata.create_all(self.engine)

    def receive(self, message: InboundMessage) -> Resolution:
        """Route a message."""
        result = self._in_transaction(lambda router: router.resolve(message))
        if result.outcome not in {Outcome.DUPLICATE, Outcome.IGNORED}:
            self._emit(Event.of(result.ticket, created=result.outcome is Outcome.CREATED))
        return result

    def accept(self, company_id: int, ticket_id: int, user_id: int) -> Ticket:
        """Give a ticket to an agent."""
        return self._told(lambda router: router.accept(company_id, ticket_id, user_id))

    def close(self, company_id: int, ticket_id: int) -> Ticket:
        """Close a ticket."""
        return self._told(lambda router: router.close(company_id, ticket_id))

    def transfer(self, company_id: int, ticket_id: int, connection_id: int) -> Ticket:
        """Move a ticket to another connection."""
        return self._told(lambda router: router.transfer(company_id, ticket_id, connection_id))

    def open_tickets(self, company_id: int, contact_id: int) -> list[Ticket]:
        """List what a contact has open, on every connection."""
        return self._in_transaction(lambda router: router.active_tickets(company_id, contact_id))

    def _told(self, act: Callable[[TicketRouter], Ticket]) -> Ticket:
        ticket = self._in_transaction(act)
        self._emit(Event.of(ticket))
        return ticket

    def _in_transaction(self, work: Callable[[TicketRouter], T]) -> T:
        for attempt in stamina.retry_context(on=is_retryable, attempts=5, timeout=5.0, wait_max=0.5):
            with attempt, self.engine.begin() as connection:
                return work(self._router(connection))
        raise AssertionError("the last attempt returns or raises")

    def _router(self, connection: Connection) -> TicketRouter:
        return TicketRouter(SQLAlchemyTicketRepository(connection, self.mapping), self._preset.policy)


def as_json(ticket: Ticket) -> dict[str, object]:
    """Return a ticket in the names that the line's screens know."""
    names = {"unread_messages": "unreadMessages", "connection_id": "whatsappId", "is_group": "isGroup"}
    names |= {
        "company_id": "companyId",
        "contact_id": "contactId",
        "queue_id": "queueId",
        "user_id": "userId",
    }
    names |= {"created_at": "createdAt", "updated_at": "updatedAt", "closed_at": "closedAt"}
    return {names.get(name, name): value for name, value in asdict(ticket).items()}
