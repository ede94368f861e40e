"""The constructors that check nothing make the same values as those that do."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve, field, fields, frozen
from attrs.exceptions import FrozenInstanceError

from ticketrouter._unchecked import unchecked
from ticketrouter.choices import Scope
from ticketrouter.decisions import Create, Join, Lookup, MessageRef, ReopenTicket, Reuse, Snapshot, Unread
from ticketrouter.model import InboundMessage, Outcome, Reason, Resolution, Ticket, TicketKey

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
KEY = TicketKey(1, "contact", 3)
TICKET = Ticket(7, 1, "contact", 3, "open", is_group=True, unread_messages=2, user_id=4, queue_id=5,
                created_at=NOW, updated_at=NOW)  # fmt: skip
REF = MessageRef(KEY, "wamid.1")
VALUES = [
    KEY,
    InboundMessage(1, "participant", 3, group_id="group", sent_at=NOW),
    TICKET,
    REF,
    Lookup(
        1, "contact", 3, Scope.CONTACT, "wamid.1", closed=False, claim=True, overtaken=True, attaches=True
    ),
    Snapshot((TICKET,), routed=TICKET, remembers=False),
    Join(NOW, Unread(4), REF),
    Create(KEY, NOW, Reason.REQUESTED, is_group=True, user_id=4, message_ref=REF),
    Reuse(TICKET, NOW, Reason.ACTIVE_ON_CONNECTION),
    ReopenTicket(TICKET, NOW, Reason.WITHIN_REOPEN_WINDOW, queue_id=5),
    Resolution(Outcome.REOPENED, Reason.WITHIN_REOPEN_WINDOW, (TICKET,), TICKET, TICKET),
]


def _again(value: Any) -> Any:
    given = {each.alias: getattr(value, each.name) for each in fields(type(value))}
    return unchecked(type(value))(**given)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
class TestTheSameValue:
    def test_it_is_of_the_class_itself(self, value):
        """Nobody can tell which of the two constructors was used."""
        made = _again(value)

        assert type(made) is type(value)
        assert made == value
        assert hash(made) == hash(value)
        assert repr(made) == repr(value)

    def test_it_is_frozen(self, value):
        """What could be filled a moment ago can be no more."""
        made = _again(value)

        with pytest.raises(FrozenInstanceError):
            setattr(made, fields(type(value))[0].name, None)

    def test_it_can_be_changed_and_sent_as_any(self, value):
        """`evolve` and pickle find a value like any other."""
        made = _again(value)

        assert evolve(made) == value
        assert pickle.loads(pickle.dumps(made)) == value


def test_it_has_the_same_defaults():
    """An argument left out has the value that the class gives it."""
    assert unchecked(Lookup)(1, 2) == Lookup(1, 2)


def test_it_takes_the_arguments_by_the_names_that_the_class_gives_them():
    """An alias of its own, and one that may be given by name only."""

    @frozen(weakref_slot=False)
    class Odd:
        _first: int = field(alias="given")
        second: int = field(default=2, kw_only=True)

    assert unchecked(Odd)(given=1, second=3) == Odd(given=1, second=3)
    with pytest.raises(TypeError):
        unchecked(Odd)(1, 3)  # type: ignore[call-arg]


def test_it_checks_nothing():
    """That is what it is for: the public constructor refuses the same."""
    assert unchecked(TicketKey)(True, "", "").company_id is True


class TestTheKeyOfAMessage:
    MESSAGE = InboundMessage(1, "participant", 3, group_id="group")

    @pytest.mark.parametrize("copy", [lambda message: pickle.loads(pickle.dumps(message)), evolve])
    def test_a_copy_has_it_too(self, copy):
        """A message that was not made by its own constructor works its key out when it is asked."""
        assert copy(self.MESSAGE).key == TicketKey(1, "group", 3)

    def test_a_changed_message_has_another_one(self):
        """The key is no leftover of the message that it was evolved from."""
        assert evolve(self.MESSAGE, group_id=None).key == TicketKey(1, "participant", 3)
