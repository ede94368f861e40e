"""The format `whatsapp-cloud`: webhook bodies of Meta's Cloud API. All bodies here are made up."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import BODIES, JSON
from ticketrouter import InboundMessage, MessageKind
from ticketrouter.cli import whatsapp_cloud
from ticketrouter.cli.items import Bad, Item, Message, Skipped

ANA = {"profile": {"name": "Ana"}, "wa_id": "5511900000001", "user_id": "BR.1"}
BIA = {"profile": {"name": "Bia"}, "wa_id": "5511900000002", "user_id": "BR.2"}


def change(field: str = "messages", **value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "551130000000", "phone_number_id": "777"}
    return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata} | value}


def body(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": "WABA", "changes": list(changes)}]}


def inbound(**others: Any) -> dict[str, Any]:
    return {"from": ANA["wa_id"], "id": "wamid.1", "timestamp": "1763890200", "type": "text"} | others


def parse(value: Any, company_id: str | None = None) -> tuple[Item, ...]:
    return whatsapp_cloud.parse(json.dumps(value), company_id)


def only_message(value: Any, company_id: str | None = None) -> InboundMessage:
    (item,) = parse(value, company_id)
    assert isinstance(item, Message), item
    return item.message


def test_a_message_is_taken_apart():
    """Company, contact, connection, id and time stand where the module's table says."""
    expected = InboundMessage(
        "WABA",
        "5511900000001",
        "777",
        message_id="wamid.1",
        sent_at=datetime(2025, 11, 23, 9, 30, tzinfo=UTC),
        kind=MessageKind.MESSAGE,
    )
    assert expected == only_message(body(change(contacts=[ANA], messages=[inbound()])))


def test_the_company_may_be_given():
    """A given company stands in for the account's id, which then need not be there."""
    anonymous = body(change(contacts=[ANA], messages=[inbound()]))
    del anonymous["entry"][0]["id"]

    assert only_message(anonymous, "shop").company_id == "shop"


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        *(
            (each, MessageKind.MESSAGE)
            for each in ("text", "image", "audio", "sticker", "document", "location")
        ),
        *(
            (each, MessageKind.MESSAGE)
            for each in ("button", "interactive", "order", "contacts", "unsupported")
        ),
        *((each, MessageKind.MESSAGE) for each in ("hologram", None)),
        *((each, MessageKind.NOTICE) for each in ("reaction", "edit", "revoke", "system")),
    ],
)
def test_the_type_tells_the_kind(type_, kind):
    """Reactions, edits, deletions and system messages are notices; all else, known or not, is a message."""
    errors = [{"code": 131051}] if type_ == "unsupported" else []

    found = only_message(body(change(contacts=[ANA], messages=[inbound(type=type_, errors=errors)])))

    assert kind == found.kind


@pytest.mark.parametrize(
    ("contacts", "sender", "expected"),
    [
        ([ANA, BIA], {"from": "5511900000002"}, "5511900000002"),
        ([ANA, BIA], {"from": None, "from_user_id": "BR.2"}, "5511900000002"),
        ([ANA, {"user_id": "BR.9"}], {"from": None, "from_user_id": "BR.9"}, "BR.9"),
        ([ANA], {"from": "5511900000099"}, "5511900000001"),
        ([{"user_id": "BR.9"}], {"from": None}, "BR.9"),
        ([ANA, BIA], {"from": "5511900000099"}, "5511900000099"),
        ([], {"from": "5511900000099"}, "5511900000099"),
        ([], {"from": None, "from_user_id": "BR.9"}, "BR.9"),
    ],
)
def test_whose_message_it_is(contacts, sender, expected):
    """The contact that matches, else the only one, else whom the message names; wa_id before user_id."""
    assert expected == only_message(body(change(contacts=contacts, messages=[inbound(**sender)]))).contact_id


def test_a_group_is_kept_apart_from_who_wrote():
    """In a group chat the group is the contact of the key, the sender stays the participant."""
    found = only_message(body(change(contacts=[ANA], messages=[inbound(group_id="G1")])))

    assert (found.group_id, found.contact_id, found.key.contact_id) == ("G1", "5511900000001", "G1")


@pytest.mark.parametrize("type_", ["text", "edit", "revoke"])
@pytest.mark.parametrize(
    ("contacts", "to", "expected"),
    [
        ([], {"to": "5511900000001", "to_user_id": "BR.1"}, "5511900000001"),
        ([], {"to_user_id": "BR.1"}, "BR.1"),
        ([ANA], {"to": "5511900000099"}, "5511900000099"),
        ([ANA], {"to": "5511900000099", "to_user_id": "BR.1"}, "5511900000001"),
        ([ANA], {}, "5511900000001"),
    ],
)
def test_what_the_company_writes_is_an_echo(type_, contacts, to, expected):
    """An echo is of whom it was written to, whatever its type."""
    echo = {"from": "551130000000", "id": "wamid.2", "timestamp": "1763890200", "type": type_} | to

    found = only_message(body(change("smb_message_echoes", contacts=contacts, message_echoes=[echo])))

    assert (MessageKind.ECHO, expected, "777") == (found.kind, found.contact_id, found.connection_id)


@pytest.mark.parametrize(
    ("skipped", "expected"),
    [
        (body(change(statuses=[{"id": "wamid.1"}, {"id": "wamid.2"}])), Skipped("statuses", 2)),
        (body(change("account_update", event="x")), Skipped("field account_update")),
        (body({"field": "history"}), Skipped("field history")),
        (body(change(errors=[{"code": 1}])), Skipped("errors")),
        (body(change()), Skipped("field messages without messages")),
        (body(), Skipped("bodies without content")),
        ({"object": "page", "entry": 5}, Skipped("object page")),
    ],
)
def test_what_is_no_message_is_skipped_and_named(skipped, expected):
    """Statuses, other fields and empty bodies are counted by name."""
    assert (expected,) == parse(skipped)


def test_everything_of_a_body_is_found_in_order():
    """All entries, changes and messages of a body count."""
    first, second = inbound(id="wamid.1"), inbound(id="wamid.2")
    whole = body(
        change(messages=[first, second]), change(statuses=[{}]), change(messages=[inbound(id="wamid.3")])
    )
    whole["entry"].append(whole["entry"][0])

    found = [item.message.message_id if isinstance(item, Message) else item for item in parse(whole)]

    once = ["wamid.1", "wamid.2", Skipped("statuses", 1), "wamid.3"]
    assert [*once, *once] == found


def test_bodies_may_come_in_a_list_or_by_name():
    """A list of bodies, and an object whose values are bodies, are read as the bodies in it."""
    one, two = body(change(messages=[inbound(id="a")])), body(change(messages=[inbound(id="b")]))

    apart = parse(one) + parse(two)

    assert apart == parse([one, two]) == parse({"first": one, "second": two})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("messages[0].id", None, "entry[0].changes[0].value.messages[0].id is missing"),
        ("messages[0].id", 5, "entry[0].changes[0].value.messages[0].id must be a text, not 5"),
        ("messages[0].timestamp", "soon", "entry[0].changes[0].value.messages[0].timestamp must be"),
        ("messages[0].timestamp", "9" * 12, "entry[0].changes[0].value.messages[0].timestamp must be"),
        ("messages[0].from", None, "entry[0].changes[0].value.messages[0].from is missing"),
        ("messages[0].id", "a\0b", r"entry[0].changes[0].value.messages[0]: message_id must be"),
        ("metadata", None, "entry[0].changes[0].value.metadata is missing"),
        ("metadata", {}, "entry[0].changes[0].value.metadata.phone_number_id is missing"),
        ("messages", {}, "entry[0].changes[0].value.messages must be a JSON array, not {}"),
        ("contacts", [7], "entry[0].changes[0].value.contacts[0] must be a JSON object, not 7"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(path, value, expected):
    """A body that cannot be read is bad; its field is a path, its value is shown."""
    broken = change(messages=[inbound()])
    target: Any = broken["value"]
    if path.startswith("messages[0]."):
        target, path = target["messages"][0], path.removeprefix("messages[0].")
    target[path] = value

    (item,) = parse(body(broken))

    assert isinstance(item, Bad)
    assert str(item).startswith(expected)


def test_a_line_of_another_format_is_asked_about():
    """A message in jsonl is no body, and the line asks whether this is another --format."""
    (flat,) = parse({"company_id": 1, "contact_id": "ana", "connection_id": 10})
    (body_,) = parse({"contact_id": "ana", "entry": 5})

    assert str(flat) == "entry is missing; is this another --format?"
    assert "--format" not in str(body_)


def test_a_body_is_routed_whole_or_not_at_all():
    """Where one message of a body is wrong, none of it is routed; the next body is."""
    half = body(change(messages=[inbound(id="good"), inbound(id=None)]))

    items = parse([half, body(change(messages=[inbound(id="next")]))])

    assert [Bad, Message] == [type(item) for item in items]


@pytest.mark.parametrize(
    "text", ["", "5", "null", "{}", '{"a": 1}', '{"entry": null}', '[["x"]]', "[" * 100_000]
)
def test_what_is_no_body_is_a_bad_line(text):
    """Anything else is bad, and never a crash."""
    assert [Bad] == [type(item) for item in whatsapp_cloud.parse(text)]


@given(BODIES)
def test_no_json_crashes_the_parser(value):
    """Any value of JSON gives items, in words that stay on one line."""
    for item in parse(value):
        assert not isinstance(item, Bad) or str(item).isprintable()


@given(st.data())
def test_no_damage_to_a_body_crashes_the_parser(data):
    """Whatever value of a sound body is replaced, the rest is read or the line is bad."""
    sound = change(contacts=[ANA], messages=[inbound()], message_echoes=[inbound(to="5511")], statuses=[{}])
    whole: Any = deepcopy(body(sound))
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [whole]
    while todo:
        here = todo.pop()
        for key in here if isinstance(here, dict) else range(len(here)):
            places.append((here, key))
            if isinstance(here[key], dict | list):
                todo.append(here[key])
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(JSON)

    assert parse(whole)
