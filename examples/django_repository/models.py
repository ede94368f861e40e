"""The tables: tickets, and which message was given to which of them.

Law of this file: what must hold under any concurrency is a constraint here, not a line of code elsewhere.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models

from ticketrouter import StatusScheme

STATUSES = StatusScheme()
ACTIVE = sorted(STATUSES.active)


class IdField(models.CharField):
    """An id of any type in a text column, which remembers what it was: `1` and `"1"` are two ids.

    A project whose ids are all of one type, foreign keys for example, has its own fields instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set the length once for all."""
        super().__init__(*args, **{"max_length": 1100} | kwargs)

    def get_prep_value(self, value: Any) -> str | None:
        """Write the type before the id."""
        return None if value is None else f"{type(value).__name__}:{value}"

    def from_db_value(self, value: str | None, *_: object) -> int | str | UUID | None:
        """Read what was written."""
        if value is None:
            return None
        kind, _colon, text = value.partition(":")
        match kind:
            case "int":
                return int(text)
            case "UUID":
                return UUID(text)
            case _:
                return text


class TicketRow(models.Model):
    """A ticket."""

    id = models.BigAutoField(primary_key=True)
    company_id = IdField()
    contact_id = IdField()
    connection_id = IdField()
    status = models.CharField(max_length=64)
    is_group = models.BooleanField(default=False)
    unread_messages = models.IntegerField(default=0)
    user_id = IdField(null=True)
    queue_id = IdField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        """The right unique rule: one active ticket for each key."""

        constraints = (
            models.UniqueConstraint(
                fields=["company_id", "contact_id", "connection_id"],
                condition=models.Q(status__in=ACTIVE),
                name="one_active_ticket",
            ),
        )

    def __str__(self) -> str:
        """Show ids only."""
        return f"ticket {self.id} on connection {self.connection_id}"


class RoutedMessage(models.Model):
    """A message id, and the ticket that it was given."""

    company_id = IdField()
    connection_id = IdField()
    message_id = IdField()
    ticket = models.ForeignKey(TicketRow, on_delete=models.CASCADE)
    contact_id = IdField()
    at = models.DateTimeField(db_index=True)

    class Meta:
        """A message id is recorded once within a company and a connection."""

        constraints = (
            models.UniqueConstraint(
                fields=["company_id", "connection_id", "message_id"], name="one_ticket_per_message"
            ),
        )

    def __str__(self) -> str:
        """Show ids only."""
        return f"message {self.message_id} of ticket {self.ticket_id}"
