"""The values: what each refuses, what it makes of what it takes, and that nothing changes it afterwards."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import IntEnum
from itertools import permutations
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest

from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_name, a_ticket
from ticketrouter import (
    Effect,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    NoTicketError,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Resolution,
    Snapshot,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    presets,
)
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Duplicate,
    Ignore,
    Join,
    Joined,
    Keep,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Transfer,
    Unread,
)
from ticketrouter.model import id_order, newest_first


class _Company(IntEnum):
    ACME = 1


class _Nowhere(tzinfo):
    def utcoffset(self, dt):
        return None

    tzname = dst = utcoffset


UUID_ID = UUID(int=1)
AN_ID = "an int of at most 64 bits, a str or a UUID"

VALID_IDS = {
    "zero": 0,
    "negative": -1,
    "lowest int": -(2**63),
    "highest int": 2**63 - 1,
    "int enum": _Company.ACME,
    "one character": "x",
    "250 characters": "x" * 250,
    "blank": " ",
    "not printable": "\n",
    "emoji": "\U0001f600",
    "around the surrogates": "\ud7ff\ue000",
    "uuid": UUID_ID,
}
INVALID_IDS = {
    "true": (True, f"{AN_ID}, never a bool"),
    "false": (False, f"{AN_ID}, never a bool"),
    "too high": (2**63, AN_ID),
    "too low": (-(2**63) - 1, AN_ID),
    "float": (1.0, AN_ID),
    "bytes": (b"1", AN_ID),
    "list": ([1], AN_ID),
    "empty": ("", "a text of 1 to {longest} characters"),
    "nul": ("a\0b", "a text without NUL, which PostgreSQL cannot store"),
    "first surrogate": ("a\ud800", "a text without lone surrogates, which are no Unicode"),
    "last surrogate": ("a\udfff", "a text without lone surrogates, which are no Unicode"),
}
NONE_IS_NO_ID = {"none": (None, AN_ID)}

# The class, the field, the longest text, whether None will do.
ID_FIELDS = [
    (TicketKey, "company_id", 250, False),
    (TicketKey, "contact_id", 250, False),
    (TicketKey, "connection_id", 250, False),
    (InboundMessage, "company_id", 250, False),
    (InboundMessage, "contact_id", 250, False),
    (InboundMessage, "connection_id", 250, False),
    (InboundMessage, "group_id", 250, True),
    (InboundMessage, "message_id", 1000, True),
    (Ticket, "id", 250, False),
    (Ticket, "company_id", 250, False),
    (Ticket, "contact_id", 250, False),
    (Ticket, "connection_id", 250, False),
    (Ticket, "user_id", 250, True),
    (Ticket, "queue_id", 250, True),
    (Lookup, "company_id", 250, False),
    (Lookup, "contact_id", 250, False),
    (Lookup, "connection_id", 250, True),
    (MessageRef, "message_id", 1000, False),
    (Create, "user_id", 250, True),
    (Create, "queue_id", 250, True),
    (ReopenTicket, "user_id", 250, True),
    (ReopenTicket, "queue_id", 250, True),
    (Accept, "user_id", 250, False),
    (Transfer, "connection_id", 250, False),
]

SAMPLES: dict[type, Any] = {
    type(value): value
    for value in (
        KEY,
        a_message(group_id=9, message_id="m", sent_at=NOW, unread_messages=2, kind="echo"),
        a_closed_ticket(),
        StatusScheme(initial_group="open", also_closed={"solved"}),
        Resolution(Outcome.CREATED, Reason.NO_ACTIVE_TICKET, (a_ticket(),), a_ticket(8)),
        Reopen.within(HOUR, keep_user=True),
        Policy(reopen=Reopen.always(), groups=Policy(effects={MessageKind.ECHO: Effect.OPEN})),
        MessageRef(KEY, "m"),
        Lookup(1, 2, 3, message_id="m"),
        Snapshot((a_ticket(),), a_closed_ticket(8), a_ticket(), a_ticket(), UniqueRule.NONE),
        Unread(3, 1),
        Create(KEY, NOW, Reason.REQUESTED),
        Reuse(a_ticket(), NOW, Reason.ACTIVE_ON_CONNECTION),
        ReopenTicket(a_closed_ticket(), NOW, Reason.REQUESTED),
        Ignore(Reason.KIND_DOES_NOT_OPEN),
        Duplicate(a_ticket(), Reason.ALREADY_ROUTED),
        Join(NOW, Unread(3, 1), MessageRef(KEY, "m")),
        Joined(a_ticket(), Reason.ACTIVE_ON_CONNECTION),
        Keep(a_ticket()),
        Accept(a_ticket(), 5, NOW),
        Close(a_ticket(), NOW),
        Transfer(a_ticket(), 200, NOW),
        presets.ALL["multi100"],
    )
}
each_sample = pytest.mark.parametrize("value", SAMPLES.values(), ids=[kind.__name__ for kind in SAMPLES])
each_id_field = pytest.mark.parametrize(
    ("kind", "name", "longest", "optional"),
    ID_FIELDS,
    ids=[f"{kind.__name__}.{name}" for kind, name, *_ in ID_FIELDS],
)


def _remade(kind: Any, **changes: Any) -> Any:
    return attrs.evolve(SAMPLES[kind], **changes)


# --- ids ------------------------------------------------------------------------------------------------------


@each_id_field
@pytest.mark.parametrize("value", VALID_IDS.values(), ids=VALID_IDS)
def test_an_id_is_taken_as_it_is(kind, name, longest, optional, value):
    """Numbers of 64 bits, texts and UUIDs are ids."""
    assert getattr(_remade(kind, **{name: value}), name) is value


@each_id_field
@pytest.mark.parametrize("case", [*INVALID_IDS, *NONE_IS_NO_ID])
def test_what_is_no_id_is_refused_by_field_and_value(kind, name, longest, optional, case):
    """Whoever gives a bool, a float or an empty text learns which field it was."""
    if case == "none" and optional:
        assert getattr(_remade(kind, **{name: None}), name) is None
        return
    value, expected = (INVALID_IDS | NONE_IS_NO_ID)[case]

    with pytest.raises(InvalidMessageError) as caught:
        _remade(kind, **{name: value})

    assert (name, value, expected.format(longest=longest)) == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


@each_id_field
def test_an_id_has_a_longest_length(kind, name, longest, optional):
    """A text id of the longest length is taken, one character more is refused."""
    longest_text = "ü" * longest

    assert getattr(_remade(kind, **{name: longest_text}), name) == longest_text
    with pytest.raises(InvalidMessageError, match=f"{name} must be a text of 1 to {longest} characters"):
        _remade(kind, **{name: longest_text + "ü"})


def test_ids_of_different_types_are_different_ids():
    """The number 1 and the text "1" name two rows."""
    keys = {TicketKey(1, 1, 1), TicketKey("1", 1, 1), TicketKey(1, UUID_ID, 1), TicketKey(1, "1", 1)}

    assert len(keys) == 4


# --- messages -------------------------------------------------------------------------------------------------


def test_a_direct_message_has_the_key_of_its_sender():
    """Outside a group the contact of the key is whoever wrote."""
    message = InboundMessage(1, 10, 100)

    assert TicketKey(1, 10, 100) == message.key
    assert message.is_group is False


@pytest.mark.parametrize("group_id", [9, 0, "9"], ids=["9", "0", "text"])
def test_a_group_message_has_the_key_of_its_group(group_id):
    """In a group the contact of the key is the group, the participant has no part in it."""
    message = InboundMessage(1, 10, 100, group_id=group_id)

    assert TicketKey(1, group_id, 100) == message.key
    assert message.is_group is True


def test_a_message_needs_no_more_than_three_ids():
    """Everything else has a default: a message of the contact, of now, without an id."""
    expected = InboundMessage(
        company_id=1,
        contact_id=10,
        connection_id=100,
        group_id=None,
        message_id=None,
        sent_at=None,
        unread_messages=None,
        kind=MessageKind.MESSAGE,
    )

    assert expected == InboundMessage(1, 10, 100)


def test_what_is_optional_in_a_message_is_given_by_name():
    """A fourth positional argument would be anybody's guess."""
    with pytest.raises(TypeError):
        InboundMessage(1, 10, 100, 9)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", MessageKind)
def test_a_kind_may_be_given_as_its_word(kind):
    """The word of a kind becomes the kind."""
    assert a_message(kind=kind.value).kind is kind


@pytest.mark.parametrize("value", ["sticker", "MESSAGE", "", None, 1, []], ids=a_name)
def test_an_unknown_kind_is_refused(value):
    """What is no kind is refused, and the kinds are listed."""
    with pytest.raises(InvalidMessageError) as caught:
        a_message(kind=value)

    assert ("kind", value, "one of message, echo, notice") == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


@pytest.mark.parametrize("value", [0, 1, 1_000_000_000], ids=str)
def test_a_message_may_set_the_unread_count(value):
    """Zero to a thousand million is a count."""
    assert a_message(unread_messages=value).unread_messages == value


@pytest.mark.parametrize("value", [-1, 1_000_000_001, True, 1.0, "1"], ids=a_name)
def test_what_is_no_count_is_refused(value):
    """A negative, huge, fractional or textual count is refused."""
    with pytest.raises(InvalidMessageError) as caught:
        a_message(unread_messages=value)

    assert ("unread_messages", value, "a whole number from 0 to 1000000000") == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


# --- times ----------------------------------------------------------------------------------------------------

TIME_FIELDS = [
    (InboundMessage, "sent_at"),
    (Ticket, "created_at"),
    (Ticket, "updated_at"),
    (Ticket, "closed_at"),
]
each_time_field = pytest.mark.parametrize(
    ("kind", "name"), TIME_FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in TIME_FIELDS]
)


@each_time_field
@pytest.mark.parametrize(
    "zone",
    [UTC, ZoneInfo("UTC"), timezone(timedelta(hours=-3)), ZoneInfo("America/Sao_Paulo")],
    ids=["utc", "zoneinfo utc", "offset", "sao paulo"],
)
def test_a_time_is_kept_in_utc(kind, name, zone):
    """The instant stays, the zone becomes UTC."""
    actual = getattr(_remade(kind, **{name: NOW.astimezone(zone)}), name)

    assert (actual, actual.tzinfo) == (NOW, UTC)


@each_time_field
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(datetime(2026, 1, 1), "a datetime with a time zone", id="naive"),  # noqa: DTZ001
        pytest.param(
            datetime(2026, 1, 1, tzinfo=_Nowhere()), "a datetime with a time zone", id="zone without offset"
        ),
        pytest.param(NOW.date(), "a datetime with a time zone", id="date"),
        pytest.param("2026-01-01T00:00:00Z", "a datetime with a time zone", id="text"),
        pytest.param(0, "a datetime with a time zone", id="number"),
        pytest.param(
            datetime.min.replace(tzinfo=timezone(HOUR)), "a datetime that UTC can express", id="before all"
        ),
        pytest.param(
            datetime.max.replace(tzinfo=timezone(-HOUR)), "a datetime that UTC can express", id="after all"
        ),
    ],
)
def test_what_is_no_instant_is_refused(kind, name, value, expected):
    """A naive time could be any of two dozen instants."""
    with pytest.raises(InvalidMessageError) as caught:
        _remade(kind, **{name: value})

    assert (name, value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


@pytest.mark.parametrize("name", ["created_at", "updated_at"])
def test_a_ticket_has_its_times(name):
    """Every row was created and touched at some time."""
    with pytest.raises(InvalidMessageError, match=f"{name} must be a datetime with a time zone, not None"):
        a_ticket(**{name: None})


@pytest.mark.parametrize(
    ("kind", "name"), [(InboundMessage, "sent_at"), (Ticket, "closed_at")], ids=["sent_at", "closed_at"]
)
def test_a_time_that_is_not_known_is_none(kind, name):
    """A message may not say when it was sent; an active ticket was not closed."""
    assert getattr(_remade(kind, **{name: None}), name) is None


# --- tickets --------------------------------------------------------------------------------------------------


def test_a_ticket_has_the_key_of_its_row():
    """Company, contact and connection are the key."""
    assert TicketKey(1, 10, 200) == a_ticket(connection_id=200).key


def test_a_ticket_was_never_closed_unless_it_says_so():
    """`closed_at` alone may be left out."""
    assert Ticket(7, 1, 10, 100, "open", False, 0, None, None, NOW, NOW).closed_at is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("status", None, "a str"),
        ("status", 1, "a str"),
        ("status", "", "a text of 1 to 255 characters"),
        ("status", "x" * 256, "a text of 1 to 255 characters"),
        ("status", "op\0en", "a text without NUL, which PostgreSQL cannot store"),
        ("status", "open\n", "a text of printable characters"),
        ("is_group", 1, "True or False"),
        ("is_group", None, "True or False"),
        ("unread_messages", -1, "a whole number from 0 to inf"),
        ("unread_messages", None, "a whole number from 0 to inf"),
        ("unread_messages", False, "a whole number from 0 to inf"),
    ],
    ids=a_name,
)
def test_what_no_row_has_is_refused(name, value, expected):
    """A ticket is checked when it is made, whoever makes it."""
    with pytest.raises(InvalidMessageError) as caught:
        a_ticket(**{name: value})

    assert (name, value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


def test_the_count_of_a_row_may_have_grown_past_what_a_message_may_set():
    """Whoever counts on from the highest count does not fail."""
    assert a_ticket(unread_messages=1_000_000_001).unread_messages == 1_000_000_001


@pytest.mark.parametrize(
    "status", ["x" * 255, "pending reminder", "em análise"], ids=["long", "two words", "accent"]
)
def test_a_status_is_any_printable_word(status):
    """The words are the host's."""
    assert a_ticket(status=status).status == status


def test_the_newest_ticket_is_the_last_touched_then_the_one_of_the_highest_id():
    """Times count first; at the same time numbers come below texts, and texts below UUIDs."""
    newest = [
        a_ticket(1, updated_at=NOW),
        a_ticket(UUID(int=2), updated_at=NOW - HOUR),
        a_ticket(UUID(int=1), updated_at=NOW - HOUR),
        a_ticket("b", updated_at=NOW - HOUR),
        a_ticket("10", updated_at=NOW - HOUR),
        a_ticket(10, updated_at=NOW - HOUR),
        a_ticket(9, updated_at=NOW - HOUR),
    ]

    assert newest == newest_first(reversed(newest))
    assert newest == newest_first(newest[3:] + newest[:3])


def test_ids_of_every_type_have_one_order():
    """Numbers, then texts, then UUIDs, each in their own order."""
    ordered: list[Any] = [-1, 2, "10", "9", UUID(int=1), UUID(int=2)]

    assert all(ordered == sorted(each, key=id_order) for each in permutations(ordered))


# --- statuses -------------------------------------------------------------------------------------------------


def test_the_words_of_the_whaticket_line_are_the_default():
    """Open and pending hold the key; a new or reopened ticket is pending, an accepted one open."""
    expected = StatusScheme(
        active=frozenset({"open", "pending"}),
        initial="pending",
        initial_group=None,
        reopened="pending",
        accepted="open",
        closed="closed",
        also_closed=frozenset(),
        final=frozenset(),
        wakes={},
    )

    assert expected == StatusScheme()


@pytest.mark.parametrize(
    "collection", [list, tuple, set, dict.fromkeys, iter], ids=lambda kind: kind.__name__
)
def test_any_collection_of_words_becomes_a_set(collection):
    """The active words are kept as a frozen set."""
    assert StatusScheme(active=collection(["open", "pending"])) == StatusScheme()
    assert StatusScheme(also_closed=collection(["solved"])) == StatusScheme(also_closed=frozenset({"solved"}))


@pytest.mark.parametrize(
    ("active", "value", "expected"),
    [
        pytest.param("open", "open", "a set of words, not one word", id="one word"),
        pytest.param(None, None, "a set of words, not one word", id="none"),
        pytest.param(5, 5, "a set of words, not one word", id="number"),
        pytest.param(frozenset(), frozenset(), "at least one word", id="no word"),
        pytest.param({"open", 5}, 5, "a str", id="a number among them"),
        pytest.param([["open"]], ["open"], "a str", id="a list among them"),
        pytest.param({"open", ""}, "", "a text of 1 to 255 characters", id="an empty word among them"),
        pytest.param({"open", "a\tb"}, "a\tb", "a text of printable characters", id="a tab among them"),
    ],
)
def test_active_words_that_are_none_are_refused(active, value, expected):
    """The set of active words has words and nothing else."""
    with pytest.raises(InvalidMessageError) as caught:
        StatusScheme(active=active, initial="open", reopened="open")

    assert ("active", value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


@pytest.mark.parametrize(
    ("also_closed", "value", "expected"),
    [
        pytest.param("solved", "solved", "a set of words, not one word", id="one word"),
        pytest.param(None, None, "a set of words, not one word", id="none"),
        pytest.param({"solved", 5}, 5, "a str", id="a number among them"),
        pytest.param([""], "", "a text of 1 to 255 characters", id="an empty word among them"),
        pytest.param({"solved", "open"}, "open", "none of the active statuses (open, pending)", id="active"),
    ],
)
def test_further_closed_words_that_are_none_are_refused(also_closed, value, expected):
    """They are words, and none of them is active."""
    with pytest.raises(InvalidMessageError) as caught:
        StatusScheme(also_closed=also_closed)

    assert ("also_closed", value, expected) == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


@pytest.mark.parametrize(
    ("final", "value", "expected"),
    [
        pytest.param("spam", "spam", "a set of words, not one word", id="one word"),
        pytest.param({"spam", 5}, 5, "a str", id="a number among them"),
        *(
            pytest.param(
                {"spam", word}, word, "a word that is not active, closed or also_closed too", id=f"{word} too"
            )
            for word in ("open", "closed", "solved")
        ),
    ],
)
def test_final_words_that_are_none_are_refused(final, value, expected):
    """They are words, and each of them stands on this side alone."""
    with pytest.raises(InvalidMessageError) as caught:
        StatusScheme(also_closed={"solved"}, final=final)

    assert ("final", value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


@pytest.mark.parametrize(
    ("wakes", "value", "expected"),
    [
        pytest.param(None, None, "a mapping of active words to active words", id="none"),
        pytest.param({"snoozed"}, {"snoozed"}, "a mapping of active words to active words", id="a set"),
        pytest.param({"snoozed": 5}, 5, "a str", id="to a number"),
        pytest.param({"": "open"}, "", "a text of 1 to 255 characters", id="from an empty word"),
        *(
            pytest.param(wakes, word, "one of the active statuses (open, pending, snoozed)", id=name)
            for name, wakes, word in (
                ("from a closed word", {"closed": "open"}, "closed"),
                ("to a closed word", {"snoozed": "closed"}, "closed"),
                ("to an unknown word", {"snoozed": "rating"}, "rating"),
            )
        ),
        *(
            pytest.param(wakes, word, "either a word that wakes or one that it wakes to", id=name)
            for name, wakes, word in (
                ("a chain", {"snoozed": "pending", "pending": "open"}, "pending"),
                ("to itself", {"snoozed": "snoozed"}, "snoozed"),
            )
        ),
    ],
)
def test_words_that_wake_are_active_and_make_no_chain(wakes, value, expected):
    """What wakes and what it wakes to are active words, and none is both."""
    with pytest.raises(InvalidMessageError) as caught:
        StatusScheme({"open", "pending", "snoozed"}, wakes=wakes)

    assert ("wakes", value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


def test_a_word_wakes_to_another():
    """Whatever is in the mapping; and a ticket is as it was seen if neither word is one that wakes, or both are the same."""
    given = {"snoozed": "open", "late": "open"}
    statuses = StatusScheme({"open", "pending", "snoozed", "late"}, wakes=given)
    given.clear()
    words = ("open", "pending", "snoozed", "late")

    assert {"snoozed": "open", "late": "open"} == statuses.wakes
    assert ["open", "pending", "open", "open"] == [statuses.woken(word) for word in words]
    assert [True, True, False, False] == [statuses.wakes_alike("open", word) for word in words]
    assert [False, False, True, False] == [statuses.wakes_alike("snoozed", word) for word in words]


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), attrs.evolve],
    ids=["copied", "copied deeply", "pickled", "evolved"],
)
def test_a_scheme_that_wakes_can_be_copied_and_is_a_key(copied):
    """It is frozen, and its hash goes by its words; who may wake tells two of them apart."""
    statuses = StatusScheme({"open", "pending", "snoozed"}, final={"spam"}, wakes={"snoozed": "open"})
    other = attrs.evolve(statuses, wakes={"snoozed": "pending"})

    assert (statuses, hash(statuses)) == (copied(statuses), hash(copied(statuses)))
    assert statuses != other
    assert {statuses: 1, other: 2}[copied(statuses)] == 1
    with pytest.raises(TypeError):
        statuses.wakes["open"] = "pending"  # type: ignore[index]


def test_a_final_word_is_known_and_closed_and_never_reopened():
    """A scheme with final words knows them, and tells them from those that a message may reopen."""
    statuses = StatusScheme(final=["spam", "merged"])

    assert frozenset({"spam", "merged"}) == statuses.final
    assert {"open", "pending", "closed", "spam", "merged"} == statuses.known
    assert {"closed"} == statuses.reopenable
    assert (False, False) == (statuses.is_active("spam"), statuses.is_reopenable("spam"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [("closed", True), ("solved", True), ("open", False), ("rating", False), ("Closed", False), ("", False)],
    ids=a_name,
)
def test_a_message_may_reopen_what_the_scheme_calls_closed(status, expected):
    """The word that closing gives, and the further ones; not an active word, and not one that is unknown."""
    statuses = StatusScheme(also_closed={"solved", "closed"})

    assert expected is statuses.is_reopenable(status)
    assert expected is (status in statuses.reopenable)
    assert (expected or status == "open") is (status in statuses.known)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("initial", "closed", "one of the active statuses (open, pending)"),
        ("initial_group", "group", "one of the active statuses (open, pending)"),
        ("reopened", "closed", "one of the active statuses (open, pending)"),
        ("accepted", "taken", "one of the active statuses (open, pending)"),
        ("closed", "open", "none of the active statuses (open, pending)"),
        ("initial", None, "a str"),
        ("initial_group", 1, "a str"),
        ("reopened", "", "a text of 1 to 255 characters"),
        ("accepted", "x" * 256, "a text of 1 to 255 characters"),
        ("closed", None, "a str"),
        ("closed", "a\0", "a text without NUL, which PostgreSQL cannot store"),
    ],
    ids=a_name,
)
def test_a_word_on_the_wrong_side_is_refused(name, value, expected):
    """New, reopened and accepted tickets are active; closed ones are not."""
    with pytest.raises(InvalidMessageError) as caught:
        StatusScheme(**{name: value})

    assert (name, value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("open", True), ("pending", True), ("closed", False), ("rating", False), ("OPEN", False), ("", False)],
    ids=a_name,
)
def test_whatever_is_not_active_is_closed(status, expected):
    """A status that the scheme does not know is closed."""
    assert expected is StatusScheme().is_active(status)


WORDS = StatusScheme(
    active={"new", "group", "back", "mine"},
    initial="new",
    initial_group="group",
    reopened="back",
    accepted="mine",
    closed="done",
)


@pytest.mark.parametrize(
    ("statuses", "is_group", "accepted", "expected"),
    [
        (WORDS, False, False, "new"),
        (WORDS, True, False, "group"),
        (WORDS, False, True, "mine"),
        (WORDS, True, True, "mine"),
        (attrs.evolve(WORDS, initial_group=None), True, False, "new"),
    ],
    ids=["direct", "group", "accepted", "accepted group", "group without a word of its own"],
)
def test_a_new_ticket_has_the_word_of_its_beginning(statuses, is_group, accepted, expected):
    """An agent's own ticket is accepted at once, a group's may have a word of its own."""
    assert statuses.of_new(is_group=is_group, accepted=accepted) == expected


@pytest.mark.parametrize(
    ("accepted", "expected"), [(False, "back"), (True, "mine")], ids=["message", "agent"]
)
def test_a_reopened_ticket_has_the_word_of_its_return(accepted, expected):
    """What an agent reopens is accepted at once."""
    assert WORDS.of_reopened(accepted=accepted) == expected


# --- resolutions ----------------------------------------------------------------------------------------------


def test_a_resolution_has_the_ticket_of_its_message():
    """The ticket is at hand, and who else is active is a tuple."""
    resolution = Resolution(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, [a_ticket(8)], a_ticket())

    assert a_ticket() == resolution.ticket
    assert (a_ticket(8),) == resolution.other_active


def test_an_ignored_message_has_no_ticket():
    """Whoever asks for the ticket all the same is told why there is none."""
    resolution = Resolution(Outcome.IGNORED, Reason.KIND_DOES_NOT_OPEN)

    with pytest.raises(NoTicketError) as caught:
        _ = resolution.ticket

    assert str(caught.value) == "the message has no ticket: it was ignored (kind_does_not_open)"
    assert resolution.other_active == ()


# --- what every value promises --------------------------------------------------------------------------------


@each_sample
def test_a_value_is_frozen(value):
    """Nobody changes a field."""
    for field in attrs.fields(type(value)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)


@each_sample
def test_a_value_has_slots(value):
    """A misspelt field cannot be set, and there is no dictionary to set it in."""
    with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
        value.misspelt = 1

    assert not hasattr(value, "__dict__")


@each_sample
def test_equal_values_are_one_member_of_a_set(value):
    """Values compare and hash by what they hold."""
    again = attrs.evolve(value)

    assert again is not value
    assert {value} == {value, again}


@each_sample
@pytest.mark.parametrize(
    "copied",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_value_survives_copying(value, copied):
    """A value may go to another process and is the same there."""
    actual = copied(value)

    assert value == actual
    assert hash(value) == hash(actual)


def test_a_value_never_aliases_the_callers_objects():
    """What the caller does to a list or a dict afterwards does not show."""
    tickets, effects, words = [a_ticket()], {"echo": "open"}, {"open"}
    snapshot = Snapshot(tickets)
    resolution = Resolution(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, tickets, a_ticket())
    policy = Policy(effects=effects)  # type: ignore[arg-type]
    statuses = StatusScheme(words, initial="open", reopened="open")

    tickets.clear()
    effects["notice"] = "open"
    words.add("pending")

    assert Snapshot((a_ticket(),)) == snapshot
    assert (a_ticket(),) == resolution.other_active
    assert Policy(effects={MessageKind.ECHO: Effect.OPEN}) == policy
    assert StatusScheme({"open"}, initial="open", reopened="open") == statuses


def test_a_snapshot_takes_the_word_of_a_unique_rule():
    """The word of a rule becomes the rule."""
    assert Snapshot(unique_rule="one_per_contact").unique_rule is UniqueRule.ONE_PER_CONTACT


def test_a_snapshot_refuses_an_unknown_unique_rule():
    """What is no rule is refused, and the rules are listed."""
    with pytest.raises(InvalidMessageError) as caught:
        Snapshot(unique_rule="per_moon")

    assert str(caught.value) == (
        "unique_rule must be one of none, active_per_connection, one_per_connection, one_per_contact, "
        "not 'per_moon'"
    )


@pytest.mark.parametrize("value", [0, "no", None], ids=a_name)
def test_whether_a_new_ticket_is_a_groups_is_a_bool(value):
    """`is_group` is True or False, and nothing that merely counts as one of them."""
    with pytest.raises(InvalidMessageError, match="is_group must be True or False"):
        Create(KEY, NOW, Reason.REQUESTED, is_group=value)


def test_the_enums_are_their_words():
    """An enum of ours can be written to a row or to JSON as it is."""
    words = [str(member) for kind in (MessageKind, UniqueRule, Outcome, Reason) for member in kind]

    assert [word.lower() for word in words] == words
    assert len(words) == 21


def test_the_effects_of_a_policy_cannot_be_changed():
    """Not even by reaching into the mapping."""
    assert isinstance(Policy().effects, MappingProxyType)


class TestWhatAHostCarriesInAMessage:
    class Unlike:
        """Nothing can be done with it: it may be an open file, or a row of an ORM."""

        def __eq__(self, other: object) -> bool:
            raise TypeError("compared")

        def __hash__(self) -> int:
            raise TypeError("hashed")

        def __repr__(self) -> str:
            raise TypeError("shown")

    def test_it_is_never_looked_at(self):
        """It is no part of the value: not of its text, of its equality, of its hash."""
        plain, carrying = (InboundMessage(1, 10, 100, data=data) for data in (None, self.Unlike()))

        assert plain == carrying
        assert hash(plain) == hash(carrying)
        assert repr(plain) == repr(carrying)
        assert plain.key == carrying.key

    def test_it_goes_where_the_message_goes(self):
        """A copy, and another process, have it too."""
        data = {"text": "hello"}
        message = InboundMessage(1, 10, 100, data=data)

        assert data is attrs.evolve(message, message_id="m").data
        assert data == pickle.loads(pickle.dumps(message)).data
        assert InboundMessage(1, 10, 100).data is None
