"""The format `whatsapp-cloud`: the bodies that Meta's Cloud API posts to a webhook.

Law of this file: pure functions from a text to items. No input raises. A body is taken whole or not at all:
where something in it is wrong, that is its only item.

| in the body | here |
|---|---|
| `entry[].id`, the WhatsApp Business Account | company, unless one is given |
| `metadata.phone_number_id` | connection |
| `wa_id`, else `user_id`, of the contact in question | contact |
| `group_id` of the message | group |
| reactions, edits, deletions, system messages | `NOTICE` |
| `message_echoes`: sent from the company's own phone | `ECHO` |
| every other type of message, also an unknown one | `MESSAGE` |
| statuses, errors, and the other fields of the webhook | skipped, counted by name |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeVar

from attrs import evolve, frozen

from ticketrouter.checks import Id
from ticketrouter.cli.items import OTHER_FORMAT, Bad, Item, Message, Skipped
from ticketrouter.cli.json_text import WHOLE, Json, loads
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage, MessageKind

_OBJECT = "whatsapp_business_account"
_FIELDS = frozenset({"messages", "smb_message_echoes", "message_echoes"})
_NOTICES = frozenset({"reaction", "edit", "revoke", "system"})
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)

_T = TypeVar("_T")


def parse(text: str, company_id: Id | None = None) -> tuple[Item, ...]:
    """Read one body, a list of bodies, or an object whose values are bodies.

    Args:
        text: one value of JSON.
        company_id: the company of every message; None: the WhatsApp Business Account of each.

    Returns:
        The items of all bodies, in their order.
    """
    try:
        bodies = _bodies(_Node(loads(text), ""))
    except InvalidMessageError as error:
        return (Bad.refused(error),)
    return tuple(item for body in bodies for item in _whole(body, company_id))


def _whole(body: _Node, company_id: Id | None) -> tuple[Item, ...]:
    try:
        items = tuple(_items(body, company_id))
    except InvalidMessageError as error:
        absent = error.value is None and error.field != WHOLE
        bad = Bad.missing(error.field) if absent else Bad.refused(error)
        return (evolve(bad, hint=OTHER_FORMAT) if _is_jsonl(body.value) else bad,)
    return items or (Skipped("bodies without content"),)


def _is_jsonl(value: Json) -> bool:
    return isinstance(value, dict) and "contact_id" in value and "entry" not in value


@frozen
class _Node:
    """A value of JSON that knows where in its line it stands."""

    value: Json
    path: str

    def members(self) -> dict[str, Json]:
        if not isinstance(self.value, dict):
            raise InvalidMessageError(self.path or WHOLE, self.value, "a JSON object")
        return self.value

    def child(self, name: str) -> _Node:
        return _Node(self.members().get(name), f"{self.path}.{name}" if self.path else name)

    def each(self) -> list[_Node]:
        match self.value:
            case None:
                return []
            case list():
                return [_Node(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]
            case _:
                raise InvalidMessageError(self.path, self.value, "a JSON array")

    def text(self) -> str | None:
        """Return the text; an empty one says no more than none."""
        if self.value is None or isinstance(self.value, str):
            return self.value or None
        raise InvalidMessageError(self.path, self.value, "a text")

    def required(self, found: _T | None) -> _T:
        """Return what was found here; None is refused."""
        if found is None:
            raise InvalidMessageError(self.path, None, "given")
        return found


def _bodies(whole: _Node) -> list[_Node]:
    match whole.value:
        case list():
            return whole.each()
        case dict() as members if members and all(
            isinstance(v, dict) and "entry" in v for v in members.values()
        ):
            return [whole.child(name) for name in members]
        case _:
            return [whole]


@frozen
class _Mailbox:
    """Where the messages of one change have arrived; looked up only where there is a message."""

    entry: _Node
    value: _Node
    company: Id | None

    def company_id(self) -> Id:
        if self.company is not None:
            return self.company
        account = self.entry.child("id")
        return account.required(account.text())

    def connection_id(self) -> str:
        number = self.value.child("metadata").child("phone_number_id")
        return number.required(number.text())

    def contacts(self) -> list[_Node]:
        return self.value.child("contacts").each()


def _items(body: _Node, company_id: Id | None) -> Iterator[Item]:
    if (kind := body.child("object").text()) not in {_OBJECT, None}:
        yield Skipped(f"object {kind}")
        return
    entries = body.child("entry")
    entries.required(entries.value)
    for entry in entries.each():
        for change in entry.child("changes").each():
            field = change.child("field")
            name = field.required(field.text())
            if name in _FIELDS:
                yield from _change(_Mailbox(entry, change.child("value"), company_id), name)
            else:
                yield Skipped(f"field {name}")


def _change(mailbox: _Mailbox, field: str) -> Iterator[Item]:
    value = mailbox.value
    messages, echoes = value.child("messages").each(), value.child("message_echoes").each()
    statuses = value.child("statuses").each()
    for message in messages:
        yield Message(_inbound(message, mailbox))
    for echo in echoes:
        yield Message(_echo(echo, mailbox))
    if statuses:
        yield Skipped("statuses", len(statuses))
    if not (messages or echoes or statuses):
        yield Skipped("errors" if value.child("errors").each() else f"field {field} without messages")


def _inbound(message: _Node, mailbox: _Mailbox) -> InboundMessage:
    phone, user, contacts = (
        message.child("from").text(),
        message.child("from_user_id").text(),
        mailbox.contacts(),
    )
    # The phone number that a message comes from need not be the wa_id: the only contact is the sender's.
    contact_id = _known(contacts, phone, user) or _only(contacts) or phone or user
    notice = message.child("type").text() in _NOTICES
    kind = MessageKind.NOTICE if notice else MessageKind.MESSAGE
    return _message(message, mailbox, message.child("from").required(contact_id), kind)


def _echo(echo: _Node, mailbox: _Mailbox) -> InboundMessage:
    phone, user, contacts = echo.child("to").text(), echo.child("to_user_id").text(), mailbox.contacts()
    contact_id = _known(contacts, phone, user) or phone or user or _only(contacts)
    return _message(echo, mailbox, echo.child("to").required(contact_id), MessageKind.ECHO)


def _message(node: _Node, mailbox: _Mailbox, contact_id: str, kind: MessageKind) -> InboundMessage:
    name = node.child("id")
    message_id, group_id = name.required(name.text()), node.child("group_id").text()
    company_id, connection_id = mailbox.company_id(), mailbox.connection_id()
    sent_at = _time(node.child("timestamp"))
    try:
        return InboundMessage(
            company_id,
            contact_id,
            connection_id,
            group_id=group_id,
            message_id=message_id,
            sent_at=sent_at,
            kind=kind,
        )
    except InvalidMessageError as error:
        raise InvalidMessageError(f"{node.path}: {error.field}", error.value, error.expected) from None


def _known(contacts: list[_Node], phone: str | None, user: str | None) -> str | None:
    for contact in contacts:
        wa_id, user_id = contact.child("wa_id").text(), contact.child("user_id").text()
        if (wa_id is not None and wa_id == phone) or (user_id is not None and user_id == user):
            return wa_id or user_id
    return None


def _only(contacts: list[_Node]) -> str | None:
    if len(contacts) != 1:
        return None
    return contacts[0].child("wa_id").text() or contacts[0].child("user_id").text()


def _time(timestamp: _Node) -> datetime | None:
    text = timestamp.text()
    if text is None:
        return None
    try:
        if _SECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
    except (OverflowError, ValueError, OSError):
        pass
    raise InvalidMessageError(timestamp.path, text, "a time in seconds since 1970")
