"""The format `jsonl`: a message, or what is wrong with the line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.program import FIELDS, message
from tests.support.strategies import JSON
from ticketrouter import InboundMessage, MessageKind
from ticketrouter.cli import jsonl
from ticketrouter.cli.items import Bad, Message


def bad(text: str) -> Bad:
    (item,) = jsonl.parse(text)
    assert isinstance(item, Bad)
    return item


def test_every_field_has_its_name():
    """Each field of a message is taken from the field of that name."""
    line = {
        "company_id": 1,
        "contact_id": "ana",
        "connection_id": "sales",
        "group_id": "family",
        "message_id": "m1",
        "sent_at": "2026-11-23T09:30:00-03:00",
        "unread_messages": 4,
        "kind": "echo",
    }

    expected = InboundMessage(
        1,
        "ana",
        "sales",
        group_id="family",
        message_id="m1",
        sent_at=datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
        unread_messages=4,
        kind=MessageKind.ECHO,
    )
    assert jsonl.parse(json.dumps(line)) == (Message(expected),)


def test_three_fields_are_enough():
    """What need not be given has the default of InboundMessage; null is the same where None is allowed."""
    absent = jsonl.parse('{"company_id":1,"contact_id":2,"connection_id":3}')
    null = jsonl.parse(
        '{"company_id":1,"contact_id":2,"connection_id":3,"group_id":null,"message_id":null,"sent_at":null,'
        '"unread_messages":null}'
    )

    assert (Message(InboundMessage(1, 2, 3)),) == absent == null


@pytest.mark.parametrize("name", ["company_id", "contact_id", "connection_id"])
def test_a_missing_field_is_named(name):
    """A required field that is not there is named."""
    line = message()
    del line[name]

    assert f"{name} is missing" == str(bad(json.dumps(line)))


def test_an_unknown_field_is_named():
    """A field that no message has is named, with its value."""
    found = bad(json.dumps(message(colour="red")))

    assert (found.field, found.value) == ("colour", "red")
    assert str(found).startswith("colour is no field of a message")
    assert str(found).endswith("'red'")


def test_a_line_of_another_format_is_asked_about():
    """A webhook body has fields that no message has, and the line asks whether this is another --format."""
    assert str(bad('{"object": "whatsapp_business_account", "entry": []}')).endswith(
        "'whatsapp_business_account'; is this another --format?"
    )
    assert "--format" not in str(bad('{"object": "whatsapp_business_account"}'))


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("company_id", True, "True"),
        ("company_id", None, "None"),
        ("contact_id", "", "''"),
        ("contact_id", 1.5, "1.5"),
        ("contact_id", "a\0b", r"'a\x00b'"),
        ("connection_id", [1], "[1]"),
        ("connection_id", 2**63, "9223372036854775808"),
        ("group_id", {}, "{}"),
        ("message_id", False, "False"),
        ("sent_at", "yesterday", "'yesterday'"),
        ("sent_at", "2026-11-23T09:30:00", "'2026-11-23T09:30:00'"),
        ("sent_at", "0001-01-01T00:00:00+14:00", "'0001-01-01T00:00:00+14:00'"),
        ("sent_at", 1_763_890_000, "1763890000"),
        ("unread_messages", -1, "-1"),
        ("unread_messages", "1", "'1'"),
        ("kind", "shout", "'shout'"),
        ("kind", None, "None"),
        ("kind", ["echo"], "['echo']"),
    ],
)
def test_a_refused_value_is_named(field, value, shown):
    """A value that InboundMessage refuses is named with its field."""
    found = bad(json.dumps(message() | {field: value}))

    assert field == found.field
    assert shown in str(found)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nonsense", "[]", "1", '"text"', "null", "{} {}", '{"company_id": NaN}', '{"company_id": Infinity}',
        '{"company_id": 1, "company_id": 2}', "[" * 100_000, "9" * 5_000, '{"company_id": ' + "9" * 5_000 + "}",
    ],
)  # fmt: skip
def test_what_is_no_object_is_a_bad_line(text):
    """Anything but one object with names given once is bad, and is not shown at length."""
    assert len(str(bad(text))) < 250


def test_a_broken_line_says_where():
    """Text that is no JSON is bad at a column."""
    assert (
        str(bad('{"company_id": }'))
        == "line must be JSON (Expecting value, column 16), not '{\"company_id\": }'"
    )


@given(JSON)
def test_no_json_crashes_the_parser(value):
    """Any value of JSON is a message or a bad line, in words that stay on one line."""
    (item,) = jsonl.parse(json.dumps(value))

    assert isinstance(item, Message) or str(item).isprintable()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON | st.just("m1"))))
def test_no_value_of_a_field_crashes_the_parser(line: dict[str, Any]):
    """Whatever stands in the fields, the line is a message or names one of them."""
    (item,) = jsonl.parse(json.dumps(message() | line))

    assert isinstance(item, Message) or (isinstance(item, Bad) and item.field in {*FIELDS, "line"})


@given(st.text())
def test_no_text_crashes_the_parser(text):
    """Any text is a message or a bad line."""
    (item,) = jsonl.parse(text)

    assert isinstance(item, Message | Bad)
