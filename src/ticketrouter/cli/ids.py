"""From the ids of a stream to those of a table: JSON has numbers and texts, and a column may have UUIDs.

Law of this file: an id becomes another one only where its column takes no text, and the text is a UUID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from attrs import evolve
from sqlalchemy import Dialect

from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.codecs import Codec

_FIELDS = {
    "company_id": "company_id",
    "contact_id": "contact_id",
    "group_id": "contact_id",
    "connection_id": "connection_id",
}
"""By a field of a message, that of a ticket: in a group chat the contact is the group."""
_SAMPLE = UUID(int=1)


def with_ids_of(mapping: TicketMapping, dialect: Dialect) -> Callable[[InboundMessage], InboundMessage]:
    """Return what gives a message the ids that a table takes."""
    by_field = mapping.codecs(dialect)
    uuids = [
        field
        for field, of_ticket in _FIELDS.items()
        if of_ticket in by_field and _takes_uuids(by_field[of_ticket])
    ]

    def with_ids(message: InboundMessage) -> InboundMessage:
        return evolve(message, **{field: _as_uuid(getattr(message, field)) for field in uuids})

    return with_ids if uuids else lambda message: message


def _takes_uuids(codec: Codec) -> bool:
    return _takes(codec, _SAMPLE) and not _takes(codec, str(_SAMPLE))


def _takes(codec: Codec, value: Any) -> bool:
    try:
        codec.encode(value)
    except InvalidMessageError:
        return False
    return True


def _as_uuid(value: Any) -> Any:
    try:
        return UUID(value) if isinstance(value, str) else value
    except ValueError:
        return value  # it is refused as it is
