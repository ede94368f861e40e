"""What Meta posts: whose signature it is, and what it says.

Law of this file: pure functions. No database is known here, nor which ticket a message belongs to.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

from attrs import frozen
from pydantic import BaseModel, Field

from ticketrouter import MessageKind

NOTICES = frozenset({"reaction", "edit", "revoke", "system"})
"""The types of message in which nobody speaks; an unknown type is a message, so that none is lost."""


def is_signed(secret: str, body: bytes, signature: str | None) -> bool:
    """Tell whether the header `X-Hub-Signature-256` is the signature of this body.

    The comparison takes the same time wherever the first difference is, so that nobody finds the signature
    byte by byte.
    """
    expected = "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()
    # As bytes: for texts that are not ASCII, which a stranger may send, compare_digest raises.
    return hmac.compare_digest(expected.encode(), (signature or "").encode())


class Text(BaseModel):
    """The content of a message of type `text`."""

    body: str = ""


class Message(BaseModel):
    """One message; further fields are ignored."""

    id: str = Field(min_length=1)
    type: str = "unknown"
    timestamp: datetime
    sender: str | None = Field(default=None, alias="from")
    sender_user: str | None = Field(default=None, alias="from_user_id")
    receiver: str | None = Field(default=None, alias="to")
    group_id: str | None = None
    text: Text = Text()


class Contact(BaseModel):
    """Who wrote, as WhatsApp knows them."""

    wa_id: str | None = None
    user_id: str | None = None


class Metadata(BaseModel):
    """The company's number that was written to."""

    phone_number_id: str = Field(min_length=1)


class Value(BaseModel):
    """The messages of one number; its `statuses`, receipts of what the company has sent, are not read."""

    metadata: Metadata
    contacts: list[Contact] = []
    messages: list[Message] = []
    message_echoes: list[Message] = []


class Change(BaseModel):
    """One change; its value depends on the field."""

    field: str
    value: dict[str, object]


class Entry(BaseModel):
    """One WhatsApp Business Account."""

    changes: list[Change] = []


class Body(BaseModel):
    """All that one delivery brings."""

    entry: list[Entry]


@frozen
class Arrived:
    """A message that has arrived, in our own words."""

    id: str
    number: str
    contact: str
    group: str | None
    sent_at: datetime
    kind: MessageKind
    text: str


def arrived(body: bytes) -> list[Arrived]:
    """Read a body.

    Returns:
        Its messages, in their order; receipts and other news are left out.

    Raises:
        ValueError: if it is not what Meta posts; nothing of it may be used then.
    """
    return [
        message
        for entry in Body.model_validate_json(body).entry
        for change in entry.changes
        for message in _of(change)
    ]


def _of(change: Change) -> Iterator[Arrived]:
    if change.field not in {"messages", "smb_message_echoes"}:
        return
    value = Value.model_validate(change.value)
    for message in value.messages:
        kind = MessageKind.NOTICE if message.type in NOTICES else MessageKind.MESSAGE
        yield _arrived(message, value, _sender(message, value.contacts), kind)
    for echo in value.message_echoes:
        yield _arrived(echo, value, echo.receiver, MessageKind.ECHO)


def _sender(message: Message, contacts: list[Contact]) -> str | None:
    # The telephone number that a message comes from need not be the contact's id: in Brazil the two often
    # differ by the ninth digit. The only contact of a value is the sender.
    known = [c for c in contacts if message.sender in {c.wa_id, c.user_id}] or contacts
    only = known[0] if len(known) == 1 else Contact()
    return only.wa_id or only.user_id or message.sender or message.sender_user


def _arrived(message: Message, value: Value, contact: str | None, kind: MessageKind) -> Arrived:
    if not contact:
        raise ValueError(f"message {message.id} names no contact")
    return Arrived(
        id=message.id,
        number=value.metadata.phone_number_id,
        contact=contact,
        group=message.group_id,
        sent_at=message.timestamp,
        kind=kind,
        text=message.text.body,
    )
