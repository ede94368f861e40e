"""What the desk does, as pure functions: whole answers, for each thing that can have been seen."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_ticket
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    Reason,
    Snapshot,
    StatusScheme,
    UniqueRule,
)
from ticketrouter.decisions import Accept, Close, Create, Keep, ReopenTicket, Transfer, Unread
from ticketrouter.lifecycle import accept_ticket, close_ticket, open_ticket, reopen_ticket, transfer_ticket

STATUSES = StatusScheme()
STRANGE = a_closed_ticket(status="waiting_vendor")
OLDER = a_ticket(8, connection_id=200)
NEWER = a_ticket(9, connection_id=300, updated_at=NOW)
CLOSED = a_closed_ticket()
PER_CONNECTION, PER_CONTACT = UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT


def _open(snapshot: Snapshot, **wishes: Any) -> Create | ReopenTicket:
    fields: dict[str, Any] = {"key": KEY, "is_group": False, "user_id": None, "queue_id": None}
    fields["statuses"] = STATUSES
    return open_ticket(snapshot, NOW, **(fields | wishes))


@pytest.mark.parametrize(
    ("wishes", "accepted"),
    [
        ({"is_group": False, "user_id": None, "queue_id": None}, False),
        ({"is_group": True, "user_id": None, "queue_id": 6}, False),
        ({"is_group": False, "user_id": 5, "queue_id": None}, True),
        ({"is_group": True, "user_id": 0, "queue_id": 0}, True),
    ],
    ids=["plain", "group", "agent", "agent zero"],
)
def test_opening_a_free_key_creates(wishes, accepted):
    """Nothing is unread, there is no message, and what is open elsewhere is reported, newest first."""
    expected = Create(
        key=KEY,
        at=NOW,
        reason=Reason.REQUESTED,
        unread_messages=0,
        accepted=accepted,
        message_ref=None,
        other_active=(NEWER, OLDER),
        **wishes,
    )

    opened = _open(Snapshot((OLDER, NEWER), latest_closed=CLOSED), **wishes)

    assert expected == opened
    assert isinstance(opened, Create)
    assert opened.message is None


@pytest.mark.parametrize(
    ("wishes", "accepted"),
    [({"user_id": None, "queue_id": 6}, False), ({"user_id": 8, "queue_id": None}, True)],
    ids=["plain", "agent"],
)
def test_opening_the_only_row_reopens_it(wishes, accepted):
    """As if it were new, but for its count; what is open elsewhere is reported."""
    expected = ReopenTicket(
        ticket=CLOSED,
        at=NOW,
        reason=Reason.ONLY_TICKET_ALLOWED,
        accepted=accepted,
        unread=Unread(None, 0),
        message_ref=None,
        other_active=(NEWER, OLDER),
        **wishes,
    )
    snapshot = Snapshot((OLDER, NEWER), occupant=CLOSED, unique_rule=PER_CONNECTION)

    assert expected == _open(snapshot, **wishes)


def test_opening_beside_the_row_of_another_connection_is_blocked():
    """The row and the rule are named."""
    with pytest.raises(BlockedBySchemaError) as caught:
        _open(Snapshot(occupant=OLDER, unique_rule=PER_CONTACT))

    assert (caught.value.ticket, caught.value.unique_rule) == (OLDER, PER_CONTACT)


@pytest.mark.parametrize("row", [None, CLOSED])
def test_opening_beside_what_no_look_up_finds_is_blocked(row):
    """The row is named where it is the company's to see."""
    with pytest.raises(BlockedBySchemaError) as caught:
        _open(Snapshot(occupant=row, blocked=True))

    assert row == caught.value.ticket


@pytest.mark.parametrize("rule", UniqueRule)
def test_opening_beside_an_active_ticket_is_refused_whatever_the_rule(rule):
    """The newest of them is named, should there be several."""
    newest = a_ticket(6, updated_at=NOW)
    snapshot = Snapshot((OLDER, a_ticket(), newest), occupant=a_ticket(), unique_rule=rule)

    with pytest.raises(ActiveTicketExistsError) as caught:
        _open(snapshot)

    assert newest == caught.value.ticket


WAITING = a_ticket(status="pending", user_id=None)


@pytest.mark.parametrize(
    ("ticket", "expected"),
    [
        (WAITING, Accept(WAITING, 5, NOW)),
        (a_ticket(status="pending"), Accept(a_ticket(status="pending"), 5, NOW)),
        (a_ticket(user_id=None), Accept(a_ticket(user_id=None), 5, NOW)),
        (a_ticket(), Keep(a_ticket())),
    ],
    ids=["waiting", "waiting for this agent", "open, nobody's", "this agent's"],
)
def test_accepting(ticket, expected):
    """What waits is accepted; what the agent has stays as it is."""
    assert expected == accept_ticket(ticket, NOW, user_id=5, statuses=STATUSES)


@pytest.mark.parametrize("ticket", [a_ticket(user_id=6), a_ticket(user_id="5"), CLOSED])
def test_accepting_what_another_has_or_what_is_closed(ticket):
    """The error has the ticket as it was seen."""
    with pytest.raises(ConflictError) as caught:
        accept_ticket(ticket, NOW, user_id=5, statuses=STATUSES)

    assert ticket == caught.value.ticket


@pytest.mark.parametrize(
    ("ticket", "expected"),
    [(a_ticket(), Close(a_ticket(), NOW)), (CLOSED, Keep(CLOSED))],
    ids=["active", "closed"],
)
def test_closing(ticket, expected):
    """What is active is closed; what is closed stays as it is."""
    assert expected == close_ticket(ticket, NOW, statuses=STATUSES)


def test_reopening_a_closed_ticket():
    """Into its queue, without an agent or a message; what is open elsewhere is reported."""
    expected = ReopenTicket(
        ticket=CLOSED,
        at=NOW,
        reason=Reason.REQUESTED,
        user_id=None,
        queue_id=6,
        accepted=False,
        unread=Unread(None, 0),
        message_ref=None,
        other_active=(NEWER, OLDER),
    )

    assert expected == reopen_ticket(CLOSED, Snapshot((OLDER, NEWER)), NOW, statuses=STATUSES)


def test_reopening_an_active_ticket():
    """It stays as it is, though it is the one that holds the key."""
    seen = Snapshot((a_ticket(),))

    assert Keep(a_ticket()) == reopen_ticket(a_ticket(), seen, NOW, statuses=STATUSES)


@pytest.mark.parametrize("word", ["open", "pending"])
def test_closing_what_is_as_it_was_seen(word):
    """The write then demands what was found, as the ticket may change before it."""
    ticket = a_ticket(status=word)
    seen = evolve(ticket, unread_messages=9, user_id=8, queue_id=8)

    assert Close(ticket, NOW, as_seen=True) == close_ticket(ticket, NOW, seen=seen, statuses=STATUSES)


@pytest.mark.parametrize(
    "changed",
    [{"updated_at": NOW}, {"updated_at": NOW - HOUR * 9}, {"status": "pending"}],
    ids=["touched since", "seen elsewhere, and newer", "another status"],
)
def test_closing_what_has_changed_since_it_was_seen(changed):
    """The refusal names the ticket as it is now: the caller looks at that, and decides anew."""
    ticket = evolve(a_ticket(), **changed)

    with pytest.raises(ConflictError, match=r"^ticket 7 was changed since it was seen: look again") as caught:
        close_ticket(ticket, NOW, seen=a_ticket(), statuses=STATUSES)

    assert (ticket, False) == (caught.value.ticket, caught.value.retryable)


@pytest.mark.parametrize("seen", [CLOSED, a_ticket(), None], ids=["closed", "active", "unseen"])
def test_closing_what_is_closed_already(seen):
    """The wish has come true, by whomever, and whatever was seen of it."""
    assert Keep(CLOSED) == close_ticket(CLOSED, NOW, seen=seen, statuses=STATUSES)


def test_reopening_an_active_ticket_that_was_closed_between_two_looks():
    """It was active when it was looked at: that is answered, as if nobody had come between."""
    assert Keep(a_ticket()) == reopen_ticket(a_ticket(), Snapshot(), NOW, statuses=STATUSES)


def test_reopening_what_was_reopened_between_two_looks():
    """The ticket itself holds the key by now, so the wish has come true."""
    active = a_ticket(updated_at=NOW)

    assert Keep(active) == reopen_ticket(CLOSED, Snapshot((active,)), NOW, statuses=STATUSES)


def test_transferring_what_was_transferred_between_two_looks():
    """The ticket itself holds the key there by now, so the wish has come true."""
    there = a_ticket(connection_id=200)

    assert Keep(there) == transfer_ticket(
        a_ticket(), Snapshot((there,)), NOW, connection_id=200, statuses=STATUSES
    )


def test_reopening_beside_an_active_ticket():
    """The one that holds the key is named."""
    active = a_ticket(8, updated_at=NOW - 2 * HOUR)

    with pytest.raises(ActiveTicketExistsError) as caught:
        reopen_ticket(CLOSED, Snapshot((OLDER, active)), NOW, statuses=STATUSES)

    assert active == caught.value.ticket


@pytest.mark.parametrize(
    ("snapshot", "connection_id", "expected"),
    [
        pytest.param(Snapshot((a_ticket(),)), 200, Transfer(a_ticket(), 200, NOW), id="free"),
        pytest.param(
            Snapshot((a_ticket(), NEWER)), 200, Transfer(a_ticket(), 200, NOW), id="taken elsewhere"
        ),
        pytest.param(Snapshot((a_ticket(),)), 100, Keep(a_ticket()), id="there already"),
        pytest.param(
            Snapshot((a_ticket(),), occupant=a_ticket(), unique_rule=PER_CONTACT),
            200,
            Transfer(a_ticket(), 200, NOW),
            id="its own row is no hindrance",
        ),
        pytest.param(
            Snapshot((a_ticket(),), occupant=CLOSED, unique_rule=UniqueRule.NONE),
            200,
            Transfer(a_ticket(), 200, NOW),
            id="no row is ever in the way",
        ),
    ],
)
def test_transferring(snapshot, connection_id, expected):
    """To a free key, or not at all where it is there already."""
    assert expected == transfer_ticket(
        a_ticket(), snapshot, NOW, connection_id=connection_id, statuses=STATUSES
    )


@pytest.mark.parametrize(
    ("ticket", "snapshot", "error", "in_the_way"),
    [
        pytest.param(CLOSED, Snapshot(), ConflictError, CLOSED, id="closed"),
        pytest.param(a_ticket(), Snapshot((a_ticket(), OLDER)), ActiveTicketExistsError, OLDER, id="taken"),
        pytest.param(
            a_ticket(),
            Snapshot((a_ticket(),), occupant=a_closed_ticket(8), unique_rule=PER_CONNECTION),
            BlockedBySchemaError,
            a_closed_ticket(8),
            id="blocked",
        ),
    ],
)
def test_transferring_what_cannot_be(ticket, snapshot, error, in_the_way):
    """The error has the ticket that says why."""
    with pytest.raises(error) as caught:
        transfer_ticket(ticket, snapshot, NOW, connection_id=200, statuses=STATUSES)

    assert in_the_way == caught.value.ticket


@pytest.mark.parametrize("rule", [PER_CONNECTION, PER_CONTACT], ids=str)
def test_opening_leaves_a_row_of_an_unknown_word_alone(rule):
    """Who asks for a new ticket has not named this one: there is no room."""
    with pytest.raises(BlockedBySchemaError) as caught:
        _open(Snapshot(occupant=STRANGE, unique_rule=rule))

    assert caught.value.ticket == STRANGE


def test_the_desk_reopens_a_ticket_of_an_unknown_word():
    """Who names the ticket knows what its word means."""
    expected = ReopenTicket(STRANGE, NOW, Reason.REQUESTED, queue_id=STRANGE.queue_id)

    assert expected == reopen_ticket(STRANGE, Snapshot(), NOW, statuses=STATUSES)


def test_the_words_decide_what_is_active():
    """A status that the host counts as active is active, and `open` is closed where it is not."""
    statuses = StatusScheme({"new", "mine"}, initial="new", reopened="new", accepted="mine")

    assert Keep(a_ticket()) == close_ticket(a_ticket(), NOW, statuses=statuses)
    assert Close(a_ticket(status="new"), NOW) == close_ticket(a_ticket(status="new"), NOW, statuses=statuses)
    assert Keep(a_ticket(status="mine")) == accept_ticket(
        a_ticket(status="mine"), NOW, user_id=5, statuses=statuses
    )
