"""How a row of the tickets table becomes a Ticket.

Law of this file: a row is what it is: whatever it may hold is read, and nothing of it is checked again. What can be
known of a row's shape is found out once, because every message reads one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from ticketrouter.model import Ticket, trusted_ticket
from ticketrouter.sqlalchemy.codecs import EPOCH, SAME, Codec
from ticketrouter.sqlalchemy.columns import FIELDS
from ticketrouter.sqlalchemy.mapping import TicketMapping

ORPHAN = "(deleted)"
"""What stands for the connection of a row in the way that has none any more."""

_ABSENT = {"is_group": False, "unread_messages": 0}
"""What is read where the table has no such column, and it is not None."""


class RowReader:
    """Reads rows whose values stand in the order of some fields.

    Args:
        mapping: where the tickets are.
        codecs: how each field that has a column is read, and the status in any case.
        fields: the fields of a row, in order.
        told: the fields that are told beside the row, in order.
    """

    def __init__(
        self,
        mapping: TicketMapping,
        codecs: Mapping[str, Codec],
        fields: Sequence[str],
        told: Sequence[str] = (),
    ) -> None:
        absent = [field for field in FIELDS if field not in (*fields, *told)]
        places = {field: place for place, field in enumerate((*fields, *told, *absent))}
        self._decoders = [
            (places[field], codecs[field].decode)
            for field in fields
            if codecs[field].decode is not SAME.decode
        ]
        known = _ABSENT | {
            "company_id": mapping.only_company,
            "connection_id": mapping.only_connection,
        }
        self._absent = tuple(known.get(field) for field in absent)
        self._in_order = itemgetter(*(places[field] for field in FIELDS))
        self._active = mapping.statuses.active
        self._has_word = "status" in (*fields, *told)
        self._place_of_closing, self._word = places["closed_at"], codecs["status"].decode

    def ticket(self, row: Sequence[Any], told: Sequence[Any] = ()) -> Ticket:
        """Return the ticket of a row."""
        values = [*row, *told, *self._absent]
        word = None if self._has_word else self._word(values[self._place_of_closing])
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        (
            id_,
            company,
            contact,
            connection,
            status,
            group,
            count,
            user,
            queue,
            created_at,
            updated_at,
            closed_at,
        ) = self._in_order(values)
        # Some hosts leave the last change empty until there is one.
        updated_at = updated_at or created_at or EPOCH
        status = status if word is None else word
        closed_at = None if status in self._active else _utc(closed_at or updated_at)
        return trusted_ticket(
            id_,
            company,
            contact,
            ORPHAN if connection is None else connection,
            status,
            group,
            count,
            user,
            queue,
            _utc(created_at or updated_at),
            _utc(updated_at),
            closed_at,
        )


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
