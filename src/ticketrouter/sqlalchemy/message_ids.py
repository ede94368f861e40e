"""The record of message ids: which ticket each was given.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. Who is second with an id is told so, and gets no error.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Delete,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    literal_column,
    not_,
    select,
    true,
)

from ticketrouter.decisions import MessageRef
from ticketrouter.model import Ticket
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent

RECORDED = ["company_id", "connection_id", "message_id", "ticket_id", "routed_at"]
"""The columns of the record."""


class MessageIds:
    """The statements about the record of message ids.

    Args:
        parts: what they are made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._values = parts.values
        self._table = parts.mapping.message_ids
        self._record = self._build_record()
        self._forget = delete(self._table).where(*parts.is_message())
        self._forget_vain = self._build_forget_vain()
        self._forget_before = self._build_forget_before()
        self._merged: Select[Any] | None = None

    def record(self, ref: MessageRef, ticket: Ticket, at: datetime) -> Sent:
        """Return the `INSERT` of a message id that does nothing where it is recorded already."""
        row = self._values.ref(ref) | {"ticket_id": self._values.encoded("id", ticket.id), "routed_at": at}
        return self._record, row | self._parts.token()

    def merged(self, ref: MessageRef) -> Sent | None:
        """Return the `SELECT` of a recorded id that the database takes for another's; None: it tells all apart.

        Its row is, for each of `Parts.merged_places`, whether it is spelled otherwise there.
        """
        parts = self._parts
        if not parts.merged_places:
            return None
        found = self._merged
        if found is None:
            spelled = and_(true(), *parts.is_message())
            others = (case((not_(each), ONE), else_=literal_column("0")) for each in parts.spelled_places())
            found = self._merged = select(*others).where(*parts.is_message_to_the_database(), not_(spelled))
        return found, self._values.of_ref(ref)

    def forget(self, ref: MessageRef) -> Sent:
        """Return the `DELETE` of a message id that this very transaction has recorded."""
        return self._forget, self._values.of_ref(ref)

    def forget_vain(self, ref: MessageRef) -> Sent:
        """Return the `DELETE` of a message id whose ticket the host has deleted since."""
        return self._forget_vain, self._values.of_ref(ref)

    def forget_before(self, before: datetime) -> Sent:
        """Return the `DELETE` of every message id that was recorded before a time, of whatever company."""
        return self._forget_before, {"b_before": before}

    def _build_record(self) -> Any:
        conflict, ticket = {"index_elements": list(self._table.primary_key)}, self._table.c.ticket_id
        return self._parts.insert_unless_taken(self._table, conflict, ticket, [ticket])

    def _build_forget_vain(self) -> Delete:
        parts = self._parts
        ticket = parts.mapping.columns["id"]
        there = (parts.is_("company_id"), ticket == self._table.c.ticket_id, parts.is_ticket())
        return self._forget.where(not_(exists(select(ticket).where(*there))))

    def _build_forget_before(self) -> Delete:
        routed_at = self._table.c.routed_at
        return delete(self._table).where(routed_at < bindparam("b_before", type_=routed_at.type))
