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

_FIELDS = {each.name: each.default is NOTHING for each in fields(InboundMessage)}
"""Each field of a message, and whether it must be given."""

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
    for name in value:
        if name not in _FIELDS:
            problem = f"is no field of a message ({', '.join(_FIELDS)}): {shown(value[name])}"
            return Bad(name, value[name], problem, OTHER_FORMAT if value.keys() >= _WEBHOOK else "")
    for name, required in _FIELDS.items():
        if required and name not in value:
            return Bad.missing(name)
    given: dict[str, Any] = value | ({"sent_at": _time(value["sent_at"])} if "sent_at" in value else {})
    return Message(InboundMessage(**given))


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
