"""Plain values that the tests of the core are written with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from ticketrouter import InboundMessage, Ticket, TicketKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)

KEY = TicketKey(1, 10, 100)
"""Company 1, contact 10, connection 100: the key of every sample that does not say otherwise."""


def a_ticket(ticket_id: Any = 7, **changes: Any) -> Ticket:
    """Return an active ticket on KEY, taken by an agent."""
    fields: dict[str, Any] = {
        "id": ticket_id,
        "company_id": KEY.company_id,
        "contact_id": KEY.contact_id,
        "connection_id": KEY.connection_id,
        "status": "open",
        "is_group": False,
        "unread_messages": 3,
        "user_id": 5,
        "queue_id": 6,
        "created_at": LONG_AGO,
        "updated_at": NOW - HOUR,
        "closed_at": None,
    }
    return Ticket(**(fields | changes))


def a_closed_ticket(ticket_id: Any = 7, **changes: Any) -> Ticket:
    """Return a ticket on KEY that was closed two hours ago."""
    closed = {"status": "closed", "updated_at": NOW - HOUR, "closed_at": NOW - 2 * HOUR}
    return a_ticket(ticket_id, **(closed | changes))


def a_message(**changes: Any) -> InboundMessage:
    """Return a message on KEY."""
    fields: dict[str, Any] = {
        "company_id": KEY.company_id,
        "contact_id": KEY.contact_id,
        "connection_id": KEY.connection_id,
    }
    return InboundMessage(**(fields | changes))


def a_name(value: object) -> str:
    """Return a name for a case: what of the value can stand in a test's id."""
    return re.sub(r"\W+", "-", str(value))[:20] or "nothing"
