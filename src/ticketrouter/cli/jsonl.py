"""The format `jsonl`: one message a line, the fields of InboundMessage by name.

Law of this file: pure functions from a text to items. No input raises.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import NOTHING, fields

from ticketrouter.checks import as_utc
from ticketrouter.cli.items import OTHER_FORMAT, Bad, Item, Message, shown
from ticketrouter.cli.json_text import WHOLE, Json, loads
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage

_FIELDS = {
    each.name: each.default is NOTHING for each in fields(InboundMessage) if each.name != "data"
}  # a host's own, in its own process
"""Each field of a message that a line may have, and whether it must."""
_REQUIRED = frozenset(name for name, required in _FIELDS.items() if required)

_WEBHOOK = frozenset({"object", "entry"})
"""What a body of `whatsapp-cloud` has."""


def parse(text: str) -> tuple[Item, ...]:
    """Read one line.

    Args:
        text: the line.

    Returns:
        One item: the message, or what is wrong with the line.
    """
    try:
        return (_item(loads(text)),)
    except InvalidMessageError as error:
        return (Bad.refused(error),)


def _item(value: Json) -> Message | Bad:
    if not isinstance(value, dict):
        raise InvalidMessageError(WHOLE, value, "a JSON object")
    if not _REQUIRED <= value.keys() <= _FIELDS.keys():
        return _misnamed(value)
    given: dict[str, Any] = value
    if "sent_at" in value:
        given["sent_at"] = _time(value["sent_at"])
    return Message(InboundMessage(**given))


def _misnamed(value: dict[str, Json]) -> Bad:
    for name, given in value.items():
        if name not in _FIELDS:
            problem = f"is no field of a message ({', '.join(_FIELDS)}): {shown(given)}"
            return Bad(name, given, problem, OTHER_FORMAT if value.keys() >= _WEBHOOK else "")
    return Bad.missing(next(name for name in _FIELDS if name in _REQUIRED and name not in value))


def _time(value: Json) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return as_utc("sent_at", datetime.fromisoformat(value))
    except ValueError:
        pass  # the value is shown as it was written
    raise InvalidMessageError(
        "sent_at", value, "a time in ISO 8601 with a time zone, as 2026-11-23T09:30:00Z is"
    )
