"""The in-memory repository, clause by clause, under every unique rule and with words of its own.

R6 has no meaning here: there is no host transaction.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
import pytest

from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
from ticketrouter import (
    AsyncTicketRepository,
    AsyncTicketRouter,
    ConflictError,
    ContentionError,
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Reason,
    Scope,
    Snapshot,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketRepository,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.batch import Joint
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Transfer,
    Unread,
    Write,
)
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository

WORDS = StatusScheme(
    {"new", "group", "back", "mine", "open"},
    initial="new",
    initial_group="group",
    reopened="back",
    accepted="mine",
    closed="done",
)
SCHEMES = {"default words": StatusScheme(), "own words": WORDS}
MANY_ROWS = [UniqueRule.NONE, UniqueRule.ACTIVE_PER_CONNECTION]
ONE_ROW = [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT]
REF = MessageRef(KEY, "m")
HERE = Lookup.at(KEY)

each_rule = pytest.mark.parametrize("rule", UniqueRule)


@pytest.fixture(params=SCHEMES.values(), ids=list(SCHEMES))
def statuses(request):
    """Return the host's words."""
    return request.param


def _active(statuses: StatusScheme, ticket_id: Any = 7, **changes: Any) -> Ticket:
    return a_ticket(ticket_id, **({"status": statuses.accepted} | changes))


def _closed(statuses: StatusScheme, ticket_id: Any = 7, **changes: Any) -> Ticket:
    return a_closed_ticket(ticket_id, **({"status": statuses.closed} | changes))


def _create(**changes: Any) -> Create:
    fields: dict[str, Any] = {"key": KEY, "at": NOW, "reason": Reason.NO_ACTIVE_TICKET}
    return Create(**(fields | changes))


def _reuse(ticket: Ticket, **changes: Any) -> Reuse:
    fields: dict[str, Any] = {"at": NOW, "reason": Reason.ACTIVE_ON_CONNECTION}
    return Reuse(ticket, **(fields | changes))


def _reopen(ticket: Ticket, **changes: Any) -> ReopenTicket:
    fields: dict[str, Any] = {"at": NOW, "reason": Reason.WITHIN_REOPEN_WINDOW}
    return ReopenTicket(ticket, **(fields | changes))


def _refused(repository: InMemoryTicketRepository, decision: Any) -> ConflictError:
    """Have a decision refused, see that nothing was written, and return the error."""
    before = repository.tickets

    with pytest.raises(ConflictError) as caught:
        repository.commit(decision)

    assert before == repository.tickets
    return caught.value


# --- R1: what load finds --------------------------------------------------------------------------------------


@each_rule
def test_r1_load_finds_every_active_ticket_of_the_contact(rule, statuses):
    """On all connections of that company and contact; no closed one, nobody else's."""
    here = _active(statuses, 1)
    elsewhere = [_active(statuses, n, connection_id=n) for n in (2, 3)] if rule not in ONE_ROW[1:] else []
    others = [
        _active(statuses, 11, company_id=2),
        _active(statuses, 12, contact_id=11),
        _closed(statuses, 13, contact_id=12),
    ]
    repository = InMemoryTicketRepository([*elsewhere, *others, here], unique_rule=rule, statuses=statuses)

    snapshot = repository.load(HERE)

    assert Counter([here, *elsewhere]) == Counter(snapshot.active)
    assert (None, None, rule) == (snapshot.latest_closed, snapshot.routed, snapshot.unique_rule)


@each_rule
def test_r1_an_unknown_contact_is_an_empty_snapshot(rule):
    """Nothing is found, and the rule is told all the same."""
    repository = InMemoryTicketRepository(unique_rule=rule)

    assert Snapshot(unique_rule=rule) == repository.load(HERE)
    assert Snapshot(unique_rule=rule) == repository.load(Lookup(1, 10))


@pytest.mark.parametrize("rule", MANY_ROWS)
def test_r1_load_finds_the_last_closed_ticket_in_scope(rule, statuses):
    """By the time of closing, ties to the highest id; on this connection, or on any."""
    older = _closed(statuses, 9, closed_at=NOW - 3 * HOUR, updated_at=NOW)
    twins = [_closed(statuses, n) for n in (5, 6, 4)]
    elsewhere = _closed(statuses, 1, connection_id=200, closed_at=NOW - HOUR)
    stranger = _closed(statuses, 2, contact_id=11, closed_at=NOW)
    repository = InMemoryTicketRepository(
        [older, *twins, elsewhere, stranger], unique_rule=rule, statuses=statuses
    )

    by_connection = repository.load(HERE)
    by_contact = repository.load(attrs.evolve(HERE, scope=Scope.CONTACT))

    assert Snapshot(latest_closed=twins[1], unique_rule=rule) == by_connection
    assert Snapshot(latest_closed=elsewhere, unique_rule=rule) == by_contact


@each_rule
def test_r1_load_finds_the_row_in_the_way(rule, statuses):
    """One row per key, or one per contact: active or closed, it is in the way; else there is none."""
    closed = _closed(statuses)
    active = _active(statuses, 8, contact_id=11)
    repository = InMemoryTicketRepository([closed, active], unique_rule=rule, statuses=statuses)
    one_row = rule in ONE_ROW

    found = [
        repository.load(Lookup(1, contact_id, connection_id)).occupant
        for contact_id, connection_id in [(10, 100), (11, 100), (10, 200), (12, 100)]
    ]

    per_contact = rule is UniqueRule.ONE_PER_CONTACT
    assert [
        closed if one_row else None,
        active if one_row else None,
        closed if per_contact else None,
        None,
    ] == found


@each_rule
def test_r1_without_a_connection_only_the_active_tickets_are_asked_for(rule, statuses):
    """No closed ticket, no row in the way, no message id."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)
    repository.commit(_reuse(_active(statuses), message_ref=REF))

    snapshot = repository.load(Lookup(1, 10, message_id="m"))

    assert Snapshot(repository.tickets, unique_rule=rule) == snapshot


# --- R2: Create -----------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize(
    ("wishes", "word"),
    [
        ({}, "initial"),
        ({"is_group": True}, "initial_group"),
        ({"user_id": 5, "queue_id": 6, "accepted": True}, "accepted"),
        ({"user_id": 5, "is_group": True, "accepted": True, "unread_messages": 4}, "accepted"),
    ],
    ids=["message", "group", "agent", "agent in a group"],
)
def test_r2_a_ticket_is_created_on_a_free_key(rule, statuses, wishes, word):
    """It has what the decision says, and the host's word for its beginning."""
    repository = InMemoryTicketRepository(unique_rule=rule, statuses=statuses)

    actual = repository.commit(_create(**wishes))

    expected = Ticket(
        id=1,
        company_id=1,
        contact_id=10,
        connection_id=100,
        status=getattr(statuses, word) or statuses.initial,
        is_group=wishes.get("is_group", False),
        unread_messages=wishes.get("unread_messages", 0),
        user_id=wishes.get("user_id"),
        queue_id=wishes.get("queue_id"),
        created_at=NOW,
        updated_at=NOW,
        closed_at=None,
    )
    assert expected == actual
    assert repository.tickets == [expected]


@each_rule
def test_r2_a_second_active_ticket_is_not_created(rule, statuses):
    """The key has one active ticket at most, under every rule."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)

    error = _refused(repository, _create())

    assert str(error) == "the key was taken meanwhile"


@each_rule
def test_r2_a_ticket_is_created_beside_a_closed_one_where_the_rule_has_room(rule, statuses):
    """The right rule leaves room beside closed rows, the older ones do not."""
    repository = InMemoryTicketRepository([_closed(statuses)], unique_rule=rule, statuses=statuses)

    if rule in ONE_ROW:
        _refused(repository, _create())
    else:
        assert repository.commit(_create()).id == 1


@each_rule
def test_r2_a_ticket_is_created_on_a_second_connection_where_the_rule_has_room(rule, statuses):
    """Only one row per contact shuts the second connection out."""
    repository = InMemoryTicketRepository(
        [_active(statuses, connection_id=200)], unique_rule=rule, statuses=statuses
    )

    if rule is UniqueRule.ONE_PER_CONTACT:
        _refused(repository, _create())
    else:
        assert repository.commit(_create()).key == KEY


@each_rule
def test_r2_another_contact_or_company_is_never_in_the_way(rule, statuses):
    """The rule is about one contact of one company."""
    others = [_active(statuses, 7, contact_id=11), _active(statuses, 8, company_id=2)]
    repository = InMemoryTicketRepository(others, unique_rule=rule, statuses=statuses)

    assert repository.commit(_create()).key == KEY


# --- R3: Reuse ------------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize(
    ("unread", "count"),
    [(Unread(), 9), (Unread(add=1), 10), (Unread(0), 0), (Unread(2, 1), 2)],
    ids=["as it is", "one more", "none", "two"],
)
def test_r3_reuse_touches_count_and_time_only(rule, statuses, unread, count):
    """The count goes on from the row's own; status, agent and queue are the row's too."""
    row = _active(statuses, unread_messages=9, status=statuses.initial, user_id=8)
    repository = InMemoryTicketRepository([row], unique_rule=rule, statuses=statuses)

    actual = repository.commit(_reuse(_active(statuses), unread=unread))

    assert attrs.evolve(row, unread_messages=count, updated_at=NOW) == actual
    assert repository.tickets == [actual]


GONE = {
    "closed": lambda statuses: [_closed(statuses)],
    "on another connection": lambda statuses: [_active(statuses, connection_id=200)],
    "another contact's": lambda statuses: [_active(statuses, contact_id=11)],
    "another company's": lambda statuses: [_active(statuses, company_id=2)],
    "not there": lambda statuses: [],
}


@each_rule
@pytest.mark.parametrize("rows", GONE.values(), ids=GONE)
@pytest.mark.parametrize(
    "decision",
    [
        lambda ticket: _reuse(ticket, message_ref=REF),
        lambda ticket: Accept(ticket, 5, NOW),
        lambda ticket: Close(ticket, NOW),
        lambda ticket: Transfer(ticket, 300, NOW),
    ],
    ids=["Reuse", "Accept", "Close", "Transfer"],
)
def test_r3_what_is_no_longer_active_on_its_key_is_not_touched(rule, statuses, rows, decision):
    """Closed, transferred, gone or somebody else's: the writer has to look again."""
    repository = InMemoryTicketRepository(rows(statuses), unique_rule=rule, statuses=statuses)

    error = _refused(repository, decision(_active(statuses)))

    assert str(error) == "the ticket was changed meanwhile"


@pytest.mark.parametrize(("seen", "now"), [("snoozed", "open"), ("open", "snoozed"), ("snoozed", "late")])
def test_r3_a_ticket_is_woken_only_from_the_word_that_was_seen(seen, now):
    """Who was slower wakes nothing, and leaves nothing asleep: alone, and as one of several messages."""
    words = StatusScheme({"open", "pending", "snoozed", "late"}, wakes={"snoozed": "open", "late": "pending"})
    row = a_ticket(status=now)
    repository = InMemoryTicketRepository([row], statuses=words)
    echo = _reuse(a_ticket(status=seen), unread=Unread())

    error = _refused(repository, _reuse(a_ticket(status=seen), wakes=True))
    lost = repository.commit_many([Joint(echo, NOW, (Unread(add=1),), wakes=True)])

    assert (str(error), lost) == ("the ticket was changed meanwhile", [None])
    assert [row] == repository.tickets


def test_r3_a_later_message_wakes_what_an_echo_has_joined():
    """The ticket is told as its first message leaves it, and is left as the last one does."""
    words = StatusScheme({"open", "pending", "snoozed"}, wakes={"snoozed": "open"})
    repository = InMemoryTicketRepository([a_ticket(status="snoozed")], statuses=words)
    echo = _reuse(a_ticket(status="snoozed"), unread=Unread())

    [first] = repository.commit_many([Joint(echo, NOW, (Unread(add=1),), wakes=True)])

    assert first is not None
    assert [
        attrs.evolve(first, status="open", unread_messages=first.unread_messages + 1)
    ] == repository.tickets


# --- R4: ReopenTicket -----------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("accepted", [False, True], ids=["by a message", "by an agent"])
def test_r4_a_closed_ticket_is_reopened_on_its_own_key(rule, statuses, accepted):
    """Agent and queue are what the decision says, the count goes on from the row's own."""
    row = _closed(statuses, unread_messages=9)
    repository = InMemoryTicketRepository([row], unique_rule=rule, statuses=statuses)

    actual = repository.commit(
        _reopen(_closed(statuses), user_id=8, queue_id=None, accepted=accepted, unread=Unread(add=1))
    )

    word = statuses.accepted if accepted else statuses.reopened
    changes: dict[str, Any] = {
        "user_id": 8,
        "queue_id": None,
        "unread_messages": 10,
        "updated_at": NOW,
        "closed_at": None,
    }
    assert attrs.evolve(row, status=word, **changes) == actual
    assert repository.tickets == [actual]


@each_rule
def test_r4_what_has_become_final_is_not_reopened(rule):
    """But by who has seen that it is."""
    row = a_closed_ticket(7, status="spam")
    repository = InMemoryTicketRepository([row], unique_rule=rule, statuses=StatusScheme(final={"spam"}))

    error = _refused(repository, _reopen(a_closed_ticket(7)))
    reopened = repository.commit(_reopen(row))

    assert str(error) == "the ticket has become a final one meanwhile"
    assert (7, "pending") == (reopened.id, reopened.status)


@each_rule
@pytest.mark.parametrize(
    "rows",
    [
        lambda statuses: [_active(statuses)],
        lambda statuses: [_closed(statuses, connection_id=200)],
        lambda statuses: [_closed(statuses, company_id=2)],
        lambda statuses: [],
    ],
    ids=["active", "on another connection", "another company's", "not there"],
)
def test_r4_what_is_no_longer_closed_on_its_key_is_not_reopened(rule, statuses, rows):
    """A ticket that is active by now stays its agent's."""
    repository = InMemoryTicketRepository(rows(statuses), unique_rule=rule, statuses=statuses)

    error = _refused(repository, _reopen(_closed(statuses), message_ref=REF))

    assert str(error) == "the ticket was changed meanwhile"


@pytest.mark.parametrize("rule", MANY_ROWS)
def test_r4_a_ticket_is_not_reopened_beside_an_active_one(rule, statuses):
    """The key must be free."""
    repository = InMemoryTicketRepository(
        [_closed(statuses), _active(statuses, 8)], unique_rule=rule, statuses=statuses
    )

    error = _refused(repository, _reopen(_closed(statuses)))

    assert str(error) == "the key was taken meanwhile"


@pytest.mark.parametrize("rule", [*MANY_ROWS, UniqueRule.ONE_PER_CONNECTION])
def test_r4_other_keys_are_no_hindrance_to_reopening(rule, statuses):
    """What is active elsewhere, or closed here, does not matter."""
    others = [_active(statuses, 8, connection_id=200), _active(statuses, 9, contact_id=11)]
    repository = InMemoryTicketRepository([_closed(statuses), *others], unique_rule=rule, statuses=statuses)

    assert repository.commit(_reopen(_closed(statuses))).status == statuses.reopened


# --- R5: after a conflict -------------------------------------------------------------------------------------


@each_rule
def test_r5_a_conflict_leaves_no_message_id_behind(rule, statuses):
    """The same message can be routed after the race it has lost."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)

    _refused(repository, _create(message_ref=REF))
    _refused(repository, _reopen(_active(statuses), message_ref=REF))

    assert repository.load(attrs.evolve(HERE, message_id="m")).routed is None
    assert repository.commit(_reuse(_active(statuses), message_ref=REF)).id == 7


@each_rule
@pytest.mark.parametrize("changed", [{"updated_at": NOW}, {"status": None}], ids=["the time", "the status"])
def test_what_is_not_as_it_was_seen_is_closed_only_where_that_does_not_matter(rule, statuses, changed):
    """Either of them alone tells that somebody has changed the ticket."""
    other = min(statuses.active - {statuses.accepted})
    row = attrs.evolve(_active(statuses), **{name: value or other for name, value in changed.items()})
    repository = InMemoryTicketRepository([row], unique_rule=rule, statuses=statuses)

    error = _refused(repository, Close(_active(statuses), NOW, as_seen=True))

    assert str(error) == "the ticket was changed meanwhile"
    assert statuses.closed == repository.commit(Close(_active(statuses), NOW)).status


@each_rule
def test_r5_a_conflict_uses_up_no_id(rule):
    """The next ticket has the next id."""
    repository = InMemoryTicketRepository([a_ticket()], unique_rule=rule)

    _refused(repository, _create())

    assert repository.commit(_create(key=TicketKey(1, 11, 100))).id == 1


# --- R7: values are snapshots ---------------------------------------------------------------------------------


@each_rule
def test_r7_no_later_write_shows_in_what_was_read(rule):
    """A snapshot, a list and a ticket stay as they were."""
    repository = InMemoryTicketRepository([a_ticket()], unique_rule=rule)
    snapshot, ticket, tickets = repository.load(HERE), repository.get(1, 7), repository.tickets

    repository.commit(Close(a_ticket(), NOW))
    repository.commit(_create(key=TicketKey(1, 11, 100)))

    assert ((a_ticket(),), a_ticket(), [a_ticket()]) == (snapshot.active, ticket, tickets)


def test_r7_the_callers_list_is_no_part_of_the_repository():
    """What the caller does to a list changes no row."""
    given = [a_ticket()]
    repository = InMemoryTicketRepository(given)

    given.clear()
    repository.tickets.clear()

    assert repository.tickets == [a_ticket()]


# --- R8: message ids ------------------------------------------------------------------------------------------

WRITES: dict[str, tuple[Callable[[StatusScheme], list[Ticket]], Callable[[StatusScheme], Write]]] = {
    "Create": (lambda statuses: [], lambda statuses: _create(message_ref=REF)),
    "Reuse": (
        lambda statuses: [_active(statuses, 1)],
        lambda statuses: _reuse(_active(statuses, 1), message_ref=REF),
    ),
    "ReopenTicket": (
        lambda statuses: [_closed(statuses, 1)],
        lambda statuses: _reopen(_closed(statuses, 1), message_ref=REF),
    ),
}


@each_rule
@pytest.mark.parametrize(("rows", "decision"), WRITES.values(), ids=WRITES)
def test_r8_a_message_id_is_recorded_with_its_ticket(rule, statuses, rows, decision):
    """The ticket is found by it, as it is by now."""
    repository = InMemoryTicketRepository(rows(statuses), unique_rule=rule, statuses=statuses)
    ticket = repository.commit(decision(statuses))
    closed = repository.commit(Close(ticket, NOW + HOUR))

    assert closed == repository.load(attrs.evolve(HERE, message_id="m")).routed
    assert closed.status == statuses.closed


@each_rule
@pytest.mark.parametrize("first", WRITES)
@pytest.mark.parametrize("second", WRITES)
def test_r8_a_message_id_is_recorded_once(rule, first, second):
    """Whatever the second delivery would have done, it has lost the race."""
    statuses = StatusScheme()
    rows, decision = WRITES[first]
    _, again = WRITES[second]
    repository = InMemoryTicketRepository(rows(statuses), unique_rule=rule)
    ticket = repository.commit(decision(statuses))
    if second != "Reuse":
        repository.commit(Close(ticket, NOW))

    error = _refused(repository, again(statuses))

    assert str(error) == "the message was routed meanwhile"


@pytest.mark.parametrize(
    ("ref", "same"),
    [
        (MessageRef(KEY, "m"), True),
        (MessageRef(TicketKey(1, 11, 100), "m"), True),
        (MessageRef(TicketKey(1, 10, 200), "m"), False),
        (MessageRef(TicketKey(2, 10, 100), "m"), False),
        (MessageRef(KEY, "M"), False),
        (MessageRef(KEY, "m "), False),
    ],
    ids=["same", "other contact", "other connection", "other company", "other case", "other blank"],
)
def test_r8_a_message_id_counts_within_company_and_connection(ref, same):
    """Two channels may use the same id; one channel uses it once, to the letter."""
    repository = InMemoryTicketRepository()
    repository.commit(_create(message_ref=REF))
    decision = _create(key=TicketKey(1, 99, 100), message_ref=ref)

    if same:
        _refused(repository, decision)
    else:
        assert repository.commit(decision).id == 2


def test_r8_a_message_without_an_id_is_never_a_redelivery():
    """What has no id cannot be known again."""
    repository = InMemoryTicketRepository([a_ticket()])

    counts = [repository.commit(_reuse(a_ticket(), unread=Unread(add=1))).unread_messages for _ in range(2)]

    assert counts == [4, 5]
    assert repository.load(HERE).routed is None


def test_r8_an_unknown_message_id_has_no_ticket():
    """The same id on another connection, or of another company, is another message."""
    repository = InMemoryTicketRepository()
    ticket = repository.commit(_create(message_ref=REF))

    found = [
        repository.load(Lookup(company_id, 10, connection_id, message_id=message_id)).routed
        for company_id, connection_id, message_id in [
            (1, 100, "m"),
            (1, 100, "n"),
            (1, 200, "m"),
            (2, 100, "m"),
        ]
    ]

    assert [ticket, None, None, None] == found


# --- R9: companies --------------------------------------------------------------------------------------------


@each_rule
def test_r9_another_companys_ticket_is_as_one_that_does_not_exist(rule, statuses):
    """Neither its id nor its key leads to it."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)

    assert repository.get(2, 7) is None
    assert repository.get(1, 8) is None
    assert repository.get(1, "7") is None
    assert _active(statuses) == repository.get(1, 7)
    assert Snapshot(unique_rule=rule) == repository.load(Lookup(2, 10, 100))


# --- R10: the loser of a race ---------------------------------------------------------------------------------


@each_rule
def test_r10_the_loser_of_a_race_takes_the_winners_row_as_it_is(rule, statuses):
    """An accepted ticket is not thrown back to pending by a message that came second."""
    repository = InMemoryTicketRepository(unique_rule=rule, statuses=statuses)
    seen = repository.load(HERE)
    winner = repository.commit(_create(user_id=5, queue_id=6, accepted=True))
    assert seen.active == ()

    _refused(repository, _create())
    resolution = TicketRouter(repository, clock=lambda: NOW).resolve(a_message())

    assert (Outcome.REUSED, attrs.evolve(winner, unread_messages=1)) == (
        resolution.outcome,
        resolution.ticket,
    )


# --- R11: what a lost race is ---------------------------------------------------------------------------------


def test_r11_a_lost_race_is_a_conflict_that_a_fresh_look_cures():
    """Memory has no deadlocks: it raises no ContentionError, and says that trying again may do."""
    error = _refused(InMemoryTicketRepository([a_ticket()]), _create())

    assert error.retryable is True
    assert not isinstance(error, ContentionError)


# --- the writes of the desk -----------------------------------------------------------------------------------


@each_rule
def test_accept_gives_the_ticket_to_the_agent(rule, statuses):
    """Status and agent change, and the time."""
    row = _active(statuses, status=statuses.initial, user_id=None)
    repository = InMemoryTicketRepository([row], unique_rule=rule, statuses=statuses)

    actual = repository.commit(Accept(row, 8, NOW))

    assert attrs.evolve(row, status=statuses.accepted, user_id=8, updated_at=NOW) == actual
    assert repository.tickets == [actual]


@pytest.mark.parametrize(
    "row",
    [a_ticket(status="pending", user_id=8), a_ticket(status="open", user_id=None), a_ticket(user_id=9)],
    ids=["another agent", "another status", "both"],
)
def test_accept_is_carried_out_only_on_what_was_seen(row):
    """Nobody takes a ticket away that he has seen waiting."""
    repository = InMemoryTicketRepository([row])

    error = _refused(repository, Accept(a_ticket(status="pending", user_id=None), 5, NOW))

    assert str(error) == "the ticket was changed meanwhile"


def test_accept_does_not_mind_messages_that_came_meanwhile():
    """A new count is no reason to look again."""
    row = a_ticket(status="pending", user_id=None, unread_messages=50, updated_at=NOW)
    repository = InMemoryTicketRepository([row])

    actual = repository.commit(Accept(a_ticket(status="pending", user_id=None), 5, NOW))

    assert a_ticket(unread_messages=50, updated_at=NOW) == actual


@each_rule
def test_close_gives_the_word_and_the_time(rule, statuses):
    """Agent, queue and count stay."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)

    actual = repository.commit(Close(_active(statuses), NOW))

    assert _active(statuses, status=statuses.closed, updated_at=NOW, closed_at=NOW) == actual
    assert repository.tickets == [actual]


@each_rule
def test_transfer_changes_the_connection(rule, statuses):
    """The ticket is found there from then on, and here no more."""
    repository = InMemoryTicketRepository([_active(statuses)], unique_rule=rule, statuses=statuses)

    actual = repository.commit(Transfer(_active(statuses), 200, NOW))

    assert _active(statuses, connection_id=200, updated_at=NOW) == actual
    assert repository.load(Lookup(1, 10, 200)).active_on(200) == actual
    assert repository.load(HERE).active_on(100) is None


@pytest.mark.parametrize(
    ("rule", "there", "lost"),
    [
        (UniqueRule.NONE, "active", True),
        (UniqueRule.ACTIVE_PER_CONNECTION, "active", True),
        (UniqueRule.ONE_PER_CONNECTION, "active", True),
        (UniqueRule.NONE, "closed", False),
        (UniqueRule.ACTIVE_PER_CONNECTION, "closed", False),
        (UniqueRule.ONE_PER_CONNECTION, "closed", True),
    ],
)
def test_transfer_needs_room_on_the_other_connection(rule, there, lost, statuses):
    """An active ticket is always in the way, a closed one where the rule says so."""
    make = {"active": _active, "closed": _closed}[there]
    row = make(statuses, 8, connection_id=200)
    repository = InMemoryTicketRepository([_active(statuses), row], unique_rule=rule, statuses=statuses)
    decision = Transfer(_active(statuses), 200, NOW)

    if lost:
        _refused(repository, decision)
    else:
        assert repository.commit(decision).connection_id == 200


# --- construction ---------------------------------------------------------------------------------------------


def test_a_new_ticket_passes_over_ids_that_are_taken():
    """`next_id` is where it begins; texts and numbers do not meet."""
    rows = [a_ticket(n, contact_id=n) for n in (5, 6, 8)] + [a_ticket("7", contact_id=7)]
    repository = InMemoryTicketRepository(rows, next_id=5)

    created = [repository.commit(_create(key=TicketKey(1, 20, n))).id for n in (1, 2, 3)]

    assert created == [7, 9, 10]


def test_the_first_id_is_one():
    """Unless it is told otherwise."""
    assert InMemoryTicketRepository().commit(_create()).id == 1
    assert InMemoryTicketRepository(next_id=0).commit(_create()).id == 0
    assert InMemoryTicketRepository(next_id=100).commit(_create()).id == 100


def test_tickets_are_listed_by_id():
    """Numbers, then texts; every company's."""
    rows = [a_ticket(n, contact_id=n, company_id=m) for n, m in [("b", 1), (10, 1), ("a", 2), (9, 2)]]
    repository = InMemoryTicketRepository(iter(rows))

    assert [9, 10, "a", "b"] == [ticket.id for ticket in repository.tickets]


@pytest.mark.parametrize(
    ("rule", "second", "allowed"),
    [
        (UniqueRule.NONE, a_ticket(8), True),
        (UniqueRule.ACTIVE_PER_CONNECTION, a_ticket(8), False),
        (UniqueRule.ACTIVE_PER_CONNECTION, a_closed_ticket(8), True),
        (UniqueRule.ACTIVE_PER_CONNECTION, a_ticket(8, connection_id=200), True),
        (UniqueRule.ONE_PER_CONNECTION, a_closed_ticket(8), False),
        (UniqueRule.ONE_PER_CONNECTION, a_ticket(8, connection_id=200), True),
        (UniqueRule.ONE_PER_CONTACT, a_ticket(8, connection_id=200), False),
        (UniqueRule.ONE_PER_CONTACT, a_ticket(8, contact_id=11), True),
        (UniqueRule.ONE_PER_CONTACT, a_ticket(8, company_id=2), True),
    ],
)
@pytest.mark.parametrize("turn", [1, -1], ids=["in order", "reversed"])
def test_tickets_that_the_rule_would_never_have_let_in_are_refused(rule, second, allowed, turn):
    """A repository begins lawful; the rule and the ticket are named."""
    rows = [a_ticket(7), second][::turn]

    if allowed:
        assert InMemoryTicketRepository(rows, unique_rule=rule).tickets == [a_ticket(7), second]
        return
    with pytest.raises(InvalidMessageError) as caught:
        InMemoryTicketRepository(rows, unique_rule=rule)

    assert ("tickets", rows[1].id, f"tickets as the rule {rule} allows") == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


def test_tickets_of_the_same_id_are_refused():
    """Ids are unique over all companies."""
    with pytest.raises(InvalidMessageError) as caught:
        InMemoryTicketRepository([a_ticket(), a_ticket(company_id=2)])

    assert str(caught.value) == "tickets must be tickets of different ids, not 7"


def test_a_unique_rule_may_be_given_as_its_word():
    """The word of a rule becomes the rule."""
    repository = InMemoryTicketRepository(unique_rule="none")  # type: ignore[arg-type]

    assert repository.load(HERE).unique_rule is UniqueRule.NONE


def test_an_unknown_unique_rule_is_refused():
    """What is no rule is refused as every other value is."""
    with pytest.raises(InvalidMessageError, match="unique_rule must be one of none, active_per_connection"):
        InMemoryTicketRepository(unique_rule="strict")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "closed_at"),
    [
        (a_closed_ticket(), NOW - 2 * HOUR),
        (a_closed_ticket(closed_at=None), NOW - HOUR),
        (a_ticket(closed_at=NOW), None),
        (a_ticket(status="rating"), NOW - HOUR),
    ],
    ids=["closed", "closed, nobody knows when", "active", "neither"],
)
def test_the_time_of_closing_agrees_with_the_status(row, closed_at):
    """An active ticket has none; a closed one has its own, or else its last change."""
    assert [attrs.evolve(row, closed_at=closed_at)] == InMemoryTicketRepository([row]).tickets


# --- threads and tasks ----------------------------------------------------------------------------------------


@pytest.fixture
def restless():
    """Switch threads as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@each_rule
@pytest.mark.usefixtures("restless")
def test_many_threads_on_fresh_keys_make_one_ticket_per_key_and_lose_no_message(rule):
    """One CREATED per key, every other message joins it, and the counts are exact."""
    threads, contacts, rounds = 6, range(10), 2
    repository = InMemoryTicketRepository(unique_rule=rule)
    router = TicketRouter(repository, attempts=1000)
    start = threading.Barrier(threads)

    def work(thread: int) -> list[Outcome]:
        start.wait(10)
        messages = [
            a_message(contact_id=contact, message_id=f"{thread}-{turn}-{contact}")
            for turn in range(rounds)
            for contact in contacts
        ]
        return [each.outcome for each in router.resolve_many(messages)]

    with ThreadPoolExecutor(threads) as pool:
        outcomes = Counter(each for done in pool.map(work, range(threads)) for each in done)

    per_key = threads * rounds
    assert outcomes == {Outcome.CREATED: len(contacts), Outcome.REUSED: (per_key - 1) * len(contacts)}
    assert dict.fromkeys(contacts, per_key) == {
        ticket.contact_id: ticket.unread_messages for ticket in repository.tickets
    }
    assert len(repository.tickets) == len(contacts)


@pytest.mark.usefixtures("restless")
def test_many_threads_with_the_same_message_count_it_once():
    """One delivery is routed, every other is a duplicate of it."""
    threads = 8
    repository = InMemoryTicketRepository()
    router = TicketRouter(repository, attempts=1000)
    start = threading.Barrier(threads)

    def work(_: int) -> list[Outcome]:
        start.wait(10)
        return [router.resolve(a_message(contact_id=n, message_id=n)).outcome for n in range(10)]

    with ThreadPoolExecutor(threads) as pool:
        outcomes = Counter(each for done in pool.map(work, range(threads)) for each in done)

    assert outcomes == {Outcome.CREATED: 10, Outcome.DUPLICATE: 10 * (threads - 1)}
    assert [ticket.unread_messages for ticket in repository.tickets] == [1] * 10


def test_many_tasks_on_fresh_keys_make_one_ticket_per_key():
    """The asynchronous repository does what the other one does."""
    repository = AsyncInMemoryTicketRepository()
    router = AsyncTicketRouter(repository)

    async def main() -> list[Any]:
        return await asyncio.gather(*(router.resolve(a_message(contact_id=n % 5)) for n in range(20)))

    outcomes = Counter(each.outcome for each in asyncio.run(main()))

    assert outcomes == {Outcome.CREATED: 5, Outcome.REUSED: 15}
    assert [ticket.unread_messages for ticket in repository.tickets] == [4] * 5


def test_the_asynchronous_repository_answers_as_the_other_one_does():
    """Words, rule, ids, look-ups, writes and refusals are the same."""
    settings: dict[str, Any] = {"unique_rule": UniqueRule.ONE_PER_CONTACT, "statuses": WORDS, "next_id": 40}
    rows = [a_closed_ticket(status="done")]
    one, other = InMemoryTicketRepository(rows, **settings), AsyncInMemoryTicketRepository(rows, **settings)
    create = _create(key=TicketKey(1, 11, 100))

    expected = [one.statuses, one.load(HERE), one.get(1, 7), one.get(2, 7), one.commit(create), one.tickets]

    async def main() -> list[Any]:
        return [
            other.statuses,
            await other.load(HERE),
            await other.get(1, 7),
            await other.get(2, 7),
            await other.commit(create),
            other.tickets,
        ]

    assert expected == asyncio.run(main())
    with pytest.raises(ConflictError):
        asyncio.run(other.commit(create))


def test_the_asynchronous_repository_begins_as_the_other_one_does():
    """Its defaults are the same, and so are its refusals."""
    assert asyncio.run(AsyncInMemoryTicketRepository().commit(_create())).id == 1
    assert asyncio.run(AsyncInMemoryTicketRepository().load(HERE)) == InMemoryTicketRepository().load(HERE)
    with pytest.raises(InvalidMessageError):
        AsyncInMemoryTicketRepository([a_ticket(), a_ticket(8)])


def test_both_are_repositories():
    """They have the methods of the port."""
    assert isinstance(InMemoryTicketRepository(), TicketRepository)
    assert isinstance(AsyncInMemoryTicketRepository(), AsyncTicketRepository)


# --- what is forgotten ----------------------------------------------------------------------------------------


def _later(hours):
    return NOW + hours * HOUR


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_message_ids_recorded_before_a_time_are_forgotten(asynchronous):
    """What is older is forgotten, the edge is kept, and a redelivery of what is forgotten is a new message."""
    shared = AsyncInMemoryTicketRepository()
    repository = shared._sync
    for hours, message_id in enumerate(("old", "edge", "new")):
        router = TicketRouter(repository, clock=partial(_later, hours))
        router.resolve(InboundMessage(1, 10, 100, message_id=message_id))
    before = NOW + HOUR
    forgotten = (
        asyncio.run(shared.forget_messages(before)) if asynchronous else repository.forget_messages(before)
    )
    again = [
        str(TicketRouter(repository).resolve(InboundMessage(1, 10, 100, message_id=message_id)).outcome)
        for message_id in ("old", "edge", "new")
    ]

    assert (1, ["reused", "duplicate", "duplicate"]) == (forgotten, again)


def test_a_time_without_zone_forgets_nothing():
    """A naive time is refused."""
    with pytest.raises(InvalidMessageError, match="before must be a datetime with a time zone"):
        InMemoryTicketRepository().forget_messages(NOW.replace(tzinfo=None))


@pytest.mark.parametrize("bad", ["x", -1, True, 2**63, None], ids=repr)
def test_the_first_id_is_a_number(bad):
    """`next_id` is refused when the repository is made, not when the first ticket is."""
    with pytest.raises(InvalidMessageError, match="next_id"):
        InMemoryTicketRepository(next_id=bad)


def test_the_last_closed_ticket_is_found_only_when_it_is_asked_for():
    """A policy that never reopens does not pay for a search."""
    repository = InMemoryTicketRepository([a_closed_ticket()])
    asked = Lookup.at(KEY)

    assert repository.load(asked).latest_closed == repository.tickets[0]
    assert repository.load(attrs.evolve(asked, closed=False)).latest_closed is None
