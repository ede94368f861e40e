"""The two routers: what each method does, what it asks of the repository, and what it does about lost races."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import attrs
import pytest

from tests.support.routers import ROUTERS, Awaitable, Watched, lose
from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_name, a_ticket
from ticketrouter import (
    ActiveTicketExistsError,
    AsyncTicketRepository,
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InboundMessage,
    InvalidMessageError,
    NoTicketError,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Resolution,
    Scope,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRepository,
    TicketRouter,
    UniqueRule,
    flows,
)
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Join,
    Keep,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Transfer,
    Unread,
)

ELSEWHERE = TicketKey(1, 10, 200)
NEW = Ticket(1, 1, 10, 100, "pending", False, 0, None, None, NOW, NOW)
"""What the first ticket on KEY is before anybody has done anything to it."""


@pytest.fixture(params=ROUTERS)
def route(request):
    """Return what makes a router, sync or async, whose clock stands still."""
    return partial(ROUTERS[request.param], clock=lambda: NOW)


# --- messages -------------------------------------------------------------------------------------------------


def test_a_message_on_a_fresh_key_creates_a_ticket(route):
    """One look, one write; the ticket is pending, unread, and nobody's."""
    repository = Watched()

    actual = route(repository).resolve(a_message())

    ticket = attrs.evolve(NEW, unread_messages=1)
    assert Resolution(Outcome.CREATED, Reason.NO_ACTIVE_TICKET, (), ticket) == actual
    assert repository.tickets == [ticket]
    assert repository.calls == ["load", "commit"]


def test_a_message_joins_the_active_ticket_and_reports_the_others(route):
    """Count and time are touched, nothing else; what is open elsewhere is reported, newest first."""
    older, newer = a_ticket(8, connection_id=200), a_ticket(9, connection_id=300, updated_at=NOW)
    repository = Watched([a_ticket(), older, newer])

    actual = route(repository).resolve(a_message())

    ticket = a_ticket(unread_messages=4, updated_at=NOW)
    assert Resolution(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, (newer, older), ticket) == actual
    assert repository.tickets == [ticket, older, newer]
    assert repository.calls == ["load", "commit"]


def test_a_message_reopens_the_last_closed_ticket_within_the_window(route):
    """It returns to its queue, pending, with one more unread."""
    repository = Watched([a_closed_ticket()])

    actual = route(repository, Policy(reopen=Reopen.within(2 * HOUR))).resolve(a_message())

    ticket = a_ticket(status="pending", user_id=None, unread_messages=4, updated_at=NOW)
    assert Resolution(Outcome.REOPENED, Reason.WITHIN_REOPEN_WINDOW, (), ticket) == actual
    assert repository.tickets == [ticket]


def test_an_ignored_message_writes_nothing(route):
    """A notice on a fresh key has no ticket."""
    repository = Watched()

    actual = route(repository).resolve(a_message(kind="notice", message_id="m"))

    assert Resolution(Outcome.IGNORED, Reason.KIND_DOES_NOT_OPEN) == actual
    assert repository.calls == ["load"]
    with pytest.raises(NoTicketError):
        _ = actual.ticket


def test_a_message_that_was_routed_before_writes_nothing(route):
    """A redelivery gets the first ticket again, as it is by now."""
    repository = Watched()
    routes = route(repository)
    routes.resolve(a_message(message_id="m"))
    closed = routes.close(1, 1)
    repository.calls.clear()

    actual = routes.resolve(a_message(message_id="m"))

    assert Resolution(Outcome.DUPLICATE, Reason.ALREADY_ROUTED, (), closed) == actual
    assert repository.calls == ["load"]
    assert repository.tickets == [closed]


def test_a_message_id_may_be_longer_than_other_ids(route):
    """What a mail server calls a message id finds its ticket again."""
    routes = route(Watched())
    long_id = "x" * 1000

    outcomes = [routes.resolve(a_message(message_id=long_id)).outcome for _ in range(2)]

    assert outcomes == [Outcome.CREATED, Outcome.DUPLICATE]


def test_a_blocked_message_writes_nothing(route):
    """The error comes before any write, and carries the row."""
    row = a_ticket(connection_id=200)
    repository = Watched([row], unique_rule=UniqueRule.ONE_PER_CONTACT)

    with pytest.raises(BlockedBySchemaError) as caught:
        route(repository).resolve(a_message(message_id="m"))

    assert (row, UniqueRule.ONE_PER_CONTACT) == (caught.value.ticket, caught.value.unique_rule)
    assert (repository.calls, repository.tickets) == (["load"], [row])


def test_the_repository_is_asked_by_the_scope_of_the_message(route):
    """A group message is looked up by the scope of groups, under the group's key, with its id."""
    repository = Watched()

    route(repository, Policy(groups=Policy(Scope.CONTACT))).resolve(a_message(group_id=9, message_id="m"))

    join = Join(NOW, Unread(add=1), MessageRef(TicketKey(1, 9, 100), "m"), wakes=True)
    assert repository.lookups == [Lookup(1, 9, 100, Scope.CONTACT, "m", closed=False, claim=True, join=join)]
    assert [(ticket.contact_id, ticket.is_group) for ticket in repository.tickets] == [(9, True)]


def test_many_messages_are_resolved_in_their_order(route):
    """Each message sees what the ones before it have done."""
    messages = [a_message(), a_message(connection_id=200), a_message(), a_message(contact_id=11, kind="echo")]

    actual = route(Watched()).resolve_many(iter(messages))

    first = attrs.evolve(NEW, unread_messages=1)
    second = attrs.evolve(NEW, id=2, connection_id=200, unread_messages=1)
    assert actual == [
        Resolution(Outcome.CREATED, Reason.NO_ACTIVE_TICKET, (), first),
        Resolution(Outcome.CREATED, Reason.NO_ACTIVE_TICKET, (first,), second),
        Resolution(
            Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, (second,), attrs.evolve(first, unread_messages=2)
        ),
        Resolution(Outcome.IGNORED, Reason.KIND_DOES_NOT_OPEN),
    ]


def test_no_messages_have_no_resolutions(route):
    """An empty batch asks the repository nothing."""
    repository = Watched()

    assert route(repository).resolve_many([]) == []
    assert repository.calls == []


def test_a_batch_ends_at_the_first_message_that_fails(route):
    """What came before it is written, what comes after it is not looked at."""
    repository = Watched(unique_rule=UniqueRule.ONE_PER_CONTACT)
    messages = [a_message(), a_message(connection_id=200), a_message(contact_id=11)]

    with pytest.raises(BlockedBySchemaError):
        route(repository).resolve_many(messages)

    assert [ticket.key for ticket in repository.tickets] == [KEY]


# --- looking --------------------------------------------------------------------------------------------------


def test_the_active_ticket_of_a_key_is_found(route):
    """One look, on this connection only, without a claim to write."""
    repository = Watched([a_ticket(), a_ticket(8, connection_id=200), a_closed_ticket(9, connection_id=300)])

    found = [route(repository).find_active(attrs.evolve(KEY, connection_id=n)) for n in (100, 200, 300, 400)]

    assert [a_ticket(), a_ticket(8, connection_id=200), None, None] == found
    assert repository.calls == ["load"] * 4
    assert repository.lookups[0] == Lookup(1, 10, 100)


def test_the_active_tickets_of_a_contact_are_listed_newest_first(route):
    """Every connection of this contact of this company, no closed ticket."""
    older, newer = a_ticket(8, connection_id=200), a_ticket(9, connection_id=300, updated_at=NOW)
    repository = Watched(
        [older, newer, a_closed_ticket(10), a_ticket(11, company_id=2), a_ticket(12, contact_id=11)]
    )

    assert [newer, older] == route(repository).active_tickets(1, 10)
    assert route(repository).active_tickets(3, 10) == []
    assert repository.lookups[0] == Lookup(1, 10)


# --- opening --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "changes"),
    [
        ({}, {}),
        ({"queue_id": 6}, {"queue_id": 6}),
        ({"user_id": 5}, {"user_id": 5, "status": "open"}),
        ({"user_id": 0, "queue_id": 0}, {"user_id": 0, "queue_id": 0, "status": "open"}),
        ({"is_group": True}, {"is_group": True}),
    ],
    ids=["plain", "in a queue", "by an agent", "by agent zero", "for a group"],
)
def test_the_desk_opens_a_ticket(route, wishes, changes):
    """It is pending, or accepted at once when an agent begins; nothing is unread."""
    repository = Watched()

    actual = route(repository).open(KEY, **wishes)

    assert attrs.evolve(NEW, **changes) == actual
    assert repository.tickets == [actual]
    assert repository.calls == ["load", "commit"]
    assert repository.lookups == [Lookup(1, 10, 100, claim=True)]


@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
@pytest.mark.parametrize(
    ("wishes", "changes"),
    [
        ({}, {"status": "pending", "user_id": None, "queue_id": None}),
        ({"user_id": 8, "queue_id": 9}, {"status": "open", "user_id": 8, "queue_id": 9}),
    ],
    ids=["plain", "by an agent"],
)
def test_the_desk_reopens_the_only_row_the_schema_allows(route, rule, wishes, changes):
    """Where one row is all there may be, opening reopens it as if it were new; its count stays."""
    repository = Watched([a_closed_ticket()], unique_rule=rule)

    actual = route(repository).open(KEY, **wishes)

    assert attrs.evolve(a_closed_ticket(), updated_at=NOW, closed_at=None, **changes) == actual
    assert repository.tickets == [actual]


@pytest.mark.parametrize("method", ["open", "ensure_can_open"])
def test_a_second_ticket_is_not_opened_on_a_key(route, method):
    """The error has the ticket in the way; nothing is written."""
    repository = Watched([a_ticket()])

    with pytest.raises(ActiveTicketExistsError) as caught:
        getattr(route(repository), method)(KEY)

    assert a_ticket() == caught.value.ticket
    assert (repository.calls, repository.tickets) == (["load"], [a_ticket()])


@pytest.mark.parametrize("method", ["open", "ensure_can_open"])
@pytest.mark.parametrize(
    "row", [a_ticket(connection_id=200), a_closed_ticket(connection_id=200)], ids=["active", "closed"]
)
def test_a_row_on_another_connection_blocks_opening(route, method, row):
    """Under a rule of one row per contact the second connection is shut out."""
    repository = Watched([row], unique_rule=UniqueRule.ONE_PER_CONTACT)

    with pytest.raises(BlockedBySchemaError) as caught:
        getattr(route(repository), method)(KEY)

    assert (row, UniqueRule.ONE_PER_CONTACT) == (caught.value.ticket, caught.value.unique_rule)
    assert (repository.calls, repository.tickets) == (["load"], [row])


@pytest.mark.parametrize("rule", UniqueRule)
def test_a_ticket_of_another_connection_is_no_hindrance(route, rule):
    """Only the key counts, unless the schema says otherwise."""
    there = 200 if rule is not UniqueRule.ONE_PER_CONTACT else 100
    repository = Watched([a_closed_ticket(connection_id=there)], unique_rule=rule)

    assert route(repository).ensure_can_open(KEY) is None
    assert repository.calls == ["load"]
    assert repository.lookups == [Lookup(1, 10, 100, foresees=True)]


# --- accepting, closing, reopening, transferring --------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        a_ticket(status="pending", user_id=None),
        a_ticket(status="pending", user_id=4),
        a_ticket(status="open", user_id=None),
    ],
    ids=["pending", "pending, kept for another agent", "open, nobody's"],
)
def test_an_agent_accepts_a_waiting_ticket(route, before):
    """It is open and the agent's; its queue and count stay."""
    repository = Watched([before])

    actual = route(repository).accept(1, 7, 5)

    assert attrs.evolve(before, status="open", user_id=5, updated_at=NOW) == actual
    assert repository.tickets == [actual]
    assert repository.calls == ["get", "commit"]


def test_accepting_twice_is_harmless(route):
    """The agent who has it already changes nothing, not even its time."""
    repository = Watched([a_ticket()])

    assert a_ticket() == route(repository).accept(1, 7, 5)
    assert repository.calls == ["get"]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (a_ticket(), "ticket 7 is already accepted by user 5"),
        (a_closed_ticket(), "ticket 7 is closed: reopen it before it is accepted"),
    ],
    ids=["another agent's", "closed"],
)
def test_what_cannot_be_accepted_is_shown(route, before, words):
    """Whoever comes too late sees the ticket as it is, and need not try again."""
    repository = Watched([before])

    with pytest.raises(ConflictError) as caught:
        route(repository).accept(1, 7, 6)

    assert (words, before, False) == (str(caught.value), caught.value.ticket, caught.value.retryable)
    assert (repository.calls, repository.tickets) == (["get"], [before])


def test_a_ticket_is_closed(route):
    """It has the word and the time of closing; agent, queue and count stay."""
    repository = Watched([a_ticket()])

    actual = route(repository).close(1, 7)

    assert a_ticket(status="closed", updated_at=NOW, closed_at=NOW) == actual
    assert repository.tickets == [actual]
    assert repository.calls == ["get", "commit"]


def test_a_ticket_is_closed_as_it_was_seen(route):
    """The store is told to demand that, as the ticket may change after the look."""
    repository = Watched([a_ticket()])

    actual = route(repository).close(1, 7, seen=a_ticket(unread_messages=9))

    assert a_ticket(status="closed", updated_at=NOW, closed_at=NOW) == actual
    assert repository.calls == ["get", "commit"]


def test_a_ticket_that_a_message_has_joined_since_stays_open(route):
    """The refusal shows the ticket as it is, and nothing is written."""
    repository = Watched([a_ticket()])

    with pytest.raises(ConflictError) as caught:
        route(repository).close(1, 7, seen=a_ticket(updated_at=NOW - 9 * HOUR))

    assert (a_ticket(), False) == (caught.value.ticket, caught.value.retryable)
    assert (repository.calls, repository.tickets) == (["get"], [a_ticket()])


def test_a_ticket_that_a_message_joins_after_the_look_stays_open(route):
    """The write is refused, and the fresh look tells why."""
    repository = Watched([a_ticket()])
    repository.rivals.append(repository.by_rival(Reuse(a_ticket(), NOW, Reason.ACTIVE_ON_CONNECTION)))

    with pytest.raises(ConflictError) as caught:
        route(repository).close(1, 7, seen=a_ticket())

    assert a_ticket(updated_at=NOW) == caught.value.ticket
    assert repository.tickets == [caught.value.ticket]


def test_a_closed_ticket_stays_as_it_is_whatever_was_seen_of_it(route):
    """It is closed, which is all that was wanted."""
    repository = Watched([a_closed_ticket()])

    assert a_closed_ticket() == route(repository).close(1, 7, seen=a_ticket(updated_at=NOW - 9 * HOUR))


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (a_ticket(8), "seen must be ticket 7 of company 1, not 'ticket 8 of company 1'"),
        (a_ticket("7"), "seen must be ticket 7 of company 1, not \"ticket '7' of company 1\""),
        (a_ticket(company_id=2), "seen must be ticket 7 of company 1, not 'ticket 7 of company 2'"),
        (7, "seen must be of type Ticket, not 7"),
    ],
    ids=["another", "of another type", "another company's", "no ticket"],
)
def test_what_was_seen_of_another_ticket_says_nothing_of_this_one(route, seen, told):
    """It is refused before anything is asked."""
    repository = Watched([a_ticket()])

    with pytest.raises(InvalidMessageError) as caught:
        route(repository).close(1, 7, seen=seen)

    assert told == str(caught.value)
    assert repository.calls == []


def test_closing_twice_is_harmless(route):
    """The time of the first closing stays."""
    repository = Watched([a_closed_ticket()])

    assert a_closed_ticket() == route(repository).close(1, 7)
    assert repository.calls == ["get"]


def test_a_ticket_is_reopened_into_its_queue(route):
    """It is pending and nobody's; its queue and count stay."""
    repository = Watched([a_closed_ticket(), a_ticket(8, connection_id=200)])

    actual = route(repository).reopen(1, 7)

    assert a_ticket(status="pending", user_id=None, updated_at=NOW) == actual
    assert actual in repository.tickets
    assert repository.calls == ["get", "load", "commit"]
    assert repository.lookups == [Lookup(1, 10, 100, claim=True)]


def test_reopening_an_active_ticket_is_harmless(route):
    """It stays its agent's."""
    repository = Watched([a_ticket()])

    assert a_ticket() == route(repository).reopen(1, 7)
    assert "commit" not in repository.calls


def test_a_ticket_is_not_reopened_beside_an_active_one(route):
    """The key has one active ticket at most."""
    repository = Watched([a_closed_ticket(), a_ticket(8)])

    with pytest.raises(ActiveTicketExistsError) as caught:
        route(repository).reopen(1, 7)

    assert a_ticket(8) == caught.value.ticket
    assert repository.tickets == [a_closed_ticket(), a_ticket(8)]


@pytest.mark.parametrize("rule", UniqueRule)
def test_a_ticket_is_transferred(route, rule):
    """It changes its connection and its time, nothing else, under every rule."""
    repository = Watched([a_ticket()], unique_rule=rule)

    actual = route(repository).transfer(1, 7, 200)

    assert a_ticket(connection_id=200, updated_at=NOW) == actual
    assert repository.tickets == [actual]
    assert repository.calls == ["get", "load", "commit"]
    assert repository.lookups == [Lookup(1, 10, 200, claim=True)]


def test_transferring_to_where_it_is_is_harmless(route):
    """It stays as it is."""
    repository = Watched([a_ticket()])

    assert a_ticket() == route(repository).transfer(1, 7, 100)
    assert "commit" not in repository.calls


def test_a_closed_ticket_is_not_transferred(route):
    """It is shown as it is."""
    repository = Watched([a_closed_ticket()])

    with pytest.raises(ConflictError) as caught:
        route(repository).transfer(1, 7, 200)

    assert str(caught.value) == "ticket 7 is closed: only an active ticket is transferred"
    assert (a_closed_ticket(), False) == (caught.value.ticket, caught.value.retryable)
    assert repository.tickets == [a_closed_ticket()]


def test_a_ticket_is_not_transferred_onto_an_active_one(route):
    """The key on the other connection has one active ticket at most."""
    there = a_ticket(8, connection_id=200)
    repository = Watched([a_ticket(), there])

    with pytest.raises(ActiveTicketExistsError) as caught:
        route(repository).transfer(1, 7, 200)

    assert there == caught.value.ticket
    assert repository.tickets == [a_ticket(), there]


def test_a_ticket_is_not_transferred_onto_the_only_row_allowed(route):
    """Under one row per key a closed row there is in the way."""
    there = a_closed_ticket(8, connection_id=200)
    repository = Watched([a_ticket(), there], unique_rule=UniqueRule.ONE_PER_CONNECTION)

    with pytest.raises(BlockedBySchemaError) as caught:
        route(repository).transfer(1, 7, 200)

    assert (there, UniqueRule.ONE_PER_CONNECTION) == (caught.value.ticket, caught.value.unique_rule)
    assert repository.tickets == [a_ticket(), there]


def test_a_closed_ticket_there_is_no_hindrance_to_a_transfer(route):
    """Under the right rule only active tickets are in the way."""
    repository = Watched([a_ticket(), a_closed_ticket(8, connection_id=200)])

    assert a_ticket(connection_id=200, updated_at=NOW) == route(repository).transfer(1, 7, 200)


BY_ID = {
    "accept": lambda routes, company_id, ticket_id: routes.accept(company_id, ticket_id, 5),
    "close": lambda routes, company_id, ticket_id: routes.close(company_id, ticket_id),
    "reopen": lambda routes, company_id, ticket_id: routes.reopen(company_id, ticket_id),
    "transfer": lambda routes, company_id, ticket_id: routes.transfer(company_id, ticket_id, 200),
}
each_by_id = pytest.mark.parametrize("act", BY_ID.values(), ids=BY_ID)


@each_by_id
@pytest.mark.parametrize(("company_id", "ticket_id"), [(1, 8), (2, 7)], ids=["nobody's", "another company's"])
def test_a_ticket_that_the_company_has_not_is_not_found(route, act, company_id, ticket_id):
    """Another company's ticket is as one that does not exist."""
    repository = Watched([a_ticket(status="pending")])

    with pytest.raises(TicketNotFoundError) as caught:
        act(route(repository), company_id, ticket_id)

    assert str(caught.value) == f"the company has no ticket {ticket_id}"
    assert repository.tickets == [a_ticket(status="pending")]


def test_the_words_are_those_of_the_repository(route):
    """A host with words of its own sees them, and no others, through the whole life of a ticket."""
    statuses = StatusScheme(
        {"new", "group", "back", "mine"},
        initial="new",
        initial_group="group",
        reopened="back",
        accepted="mine",
        closed="done",
    )
    routes = route(Watched(statuses=statuses), Policy(reopen=Reopen.always()))

    words = [
        routes.resolve(a_message()).ticket.status,
        routes.accept(1, 1, 5).status,
        routes.accept(1, 1, 5).status,
        routes.close(1, 1).status,
        routes.close(1, 1).status,
        routes.resolve(a_message()).ticket.status,
        routes.transfer(1, 1, 200).status,
        routes.resolve(a_message(group_id=9)).ticket.status,
        routes.open(KEY, user_id=5).status,
    ]

    assert words == ["new", "mine", "mine", "done", "done", "back", "back", "group", "mine"]


# --- lost races -----------------------------------------------------------------------------------------------


def test_the_loser_of_a_race_joins_the_winners_ticket(route):
    """A second look finds what the rival created, and leaves agent and status to the rival."""
    repository = Watched()
    rival = Create(KEY, NOW - HOUR, Reason.REQUESTED, user_id=8, accepted=True, unread_messages=2)
    repository.rivals = [repository.by_rival(rival)]

    actual = route(repository).resolve(a_message())

    ticket = a_ticket(1, user_id=8, queue_id=None, unread_messages=3, created_at=NOW - HOUR, updated_at=NOW)
    assert Resolution(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, (), ticket) == actual
    assert repository.tickets == [ticket]
    assert repository.calls == ["load", "commit"] * 2


def test_a_ticket_that_is_closed_under_a_message_is_not_touched(route):
    """The message that would have joined it creates another."""
    repository = Watched([a_ticket()])
    repository.rivals = [repository.by_rival(Close(a_ticket(), NOW))]

    actual = route(repository).resolve(a_message())

    closed = a_ticket(status="closed", updated_at=NOW, closed_at=NOW)
    assert (Outcome.CREATED, NEW.key) == (actual.outcome, actual.ticket.key)
    assert repository.tickets == [actual.ticket, closed]


def test_a_redelivery_that_loses_against_its_twin_is_a_duplicate(route):
    """Two workers with the same message: the second changes nothing."""
    repository = Watched()
    message = a_message(message_id="m")
    twin = TicketRouter(repository, clock=lambda: NOW)
    repository.rivals = [lambda: twin.resolve(message)]

    actual = route(repository).resolve(message)

    assert (Outcome.DUPLICATE, 1, 1) == (
        actual.outcome,
        actual.ticket.unread_messages,
        len(repository.tickets),
    )


@pytest.mark.parametrize(
    ("before", "act", "rival", "error"),
    [
        pytest.param(
            a_ticket(status="pending", user_id=None),
            BY_ID["accept"],
            Accept(a_ticket(status="pending", user_id=None), 8, NOW),
            ConflictError,
            id="accept, accepted by another",
        ),
        pytest.param(
            a_ticket(status="pending", user_id=None),
            BY_ID["accept"],
            Close(a_ticket(), NOW),
            ConflictError,
            id="accept, closed",
        ),
        pytest.param(
            a_ticket(), BY_ID["transfer"], Close(a_ticket(), NOW), ConflictError, id="transfer, closed"
        ),
        pytest.param(
            a_ticket(),
            BY_ID["transfer"],
            Create(ELSEWHERE, NOW, Reason.REQUESTED),
            ActiveTicketExistsError,
            id="transfer, taken there",
        ),
        pytest.param(
            a_closed_ticket(),
            BY_ID["reopen"],
            Create(KEY, NOW, Reason.REQUESTED),
            ActiveTicketExistsError,
            id="reopen, taken",
        ),
    ],
)
def test_a_wish_that_a_rival_has_overtaken_is_refused_after_a_fresh_look(route, before, act, rival, error):
    """The error carries the ticket as the rival has left it; the rival's work stands."""
    repository = Watched([before])
    repository.rivals = [repository.by_rival(rival)]

    with pytest.raises(error) as caught:
        act(route(repository), 1, 7)

    assert caught.value.ticket in repository.tickets
    assert caught.value.retryable is False
    assert repository.calls.count("commit") == 1


@pytest.mark.parametrize(
    ("before", "act", "rival", "expected"),
    [
        pytest.param(
            a_ticket(status="pending", user_id=None),
            BY_ID["accept"],
            Accept(a_ticket(status="pending", user_id=None), 5, NOW - HOUR),
            a_ticket(updated_at=NOW - HOUR),
            id="accept, by the same agent",
        ),
        pytest.param(
            a_ticket(),
            BY_ID["close"],
            Close(a_ticket(), NOW - HOUR),
            a_ticket(status="closed", updated_at=NOW - HOUR, closed_at=NOW - HOUR),
            id="close, closed",
        ),
        pytest.param(
            a_ticket(),
            BY_ID["close"],
            Transfer(a_ticket(), 200, NOW - HOUR),
            a_ticket(connection_id=200, status="closed", updated_at=NOW, closed_at=NOW),
            id="close, transferred",
        ),
        pytest.param(
            a_ticket(),
            BY_ID["transfer"],
            Transfer(a_ticket(), 200, NOW - HOUR),
            a_ticket(connection_id=200, updated_at=NOW - HOUR),
            id="transfer, transferred",
        ),
        pytest.param(
            a_closed_ticket(),
            BY_ID["reopen"],
            ReopenTicket(
                a_closed_ticket(), NOW - HOUR, Reason.REQUESTED, user_id=8, accepted=True, queue_id=6
            ),
            a_ticket(user_id=8, updated_at=NOW - HOUR),
            id="reopen, reopened",
        ),
    ],
)
def test_a_wish_that_a_rival_has_fulfilled_is_fulfilled(route, before, act, rival, expected):
    """The rival's row is taken as it is; where something is left to do, it is done to it."""
    repository = Watched([before])
    repository.rivals = [repository.by_rival(rival)]

    assert expected == act(route(repository), 1, 7)
    assert repository.tickets == [expected]


def test_a_race_is_run_again_until_it_is_won(route):
    """After a lost race, and only then, the repository is told that what it saw is stale; nothing joins by that look."""
    repository = Watched()
    repository.rivals = [lose, lose, lose]

    actual = route(repository, attempts=4).resolve(a_message())

    assert actual.outcome is Outcome.CREATED
    assert repository.calls == ["load", "commit"] * 4
    assert [lookup.overtaken for lookup in repository.lookups] == [False, True, True, True]
    join = Join(NOW, Unread(add=1), wakes=True)
    assert [lookup.join for lookup in repository.lookups] == [join, None, None, None]
    assert {attrs.evolve(lookup, overtaken=False, join=None) for lookup in repository.lookups} == {
        Lookup(1, 10, 100, closed=False, claim=True)
    }


@pytest.mark.parametrize(
    ("before", "act", "calls", "overtaken"),
    [
        (a_ticket(), BY_ID["close"], ["get", "commit"] * 2, []),
        (a_ticket(user_id=None), BY_ID["accept"], ["get", "commit"] * 2, []),
        (a_closed_ticket(), BY_ID["reopen"], ["get", "load", "commit"] * 2, [False, True]),
        (a_ticket(), BY_ID["transfer"], ["get", "load", "commit"] * 2, [False, True]),
        (a_ticket(contact_id=1), lambda routes, *_: routes.open(KEY), ["load", "commit"] * 2, [False, True]),
    ],
    ids=["close", "accept", "reopen", "transfer", "open"],
)
def test_every_operation_looks_again_after_a_lost_race(route, before, act, calls, overtaken):
    """The same three steps, whatever the operation."""
    repository = Watched([before])
    repository.rivals = [lose]

    act(route(repository), 1, 7)

    assert calls == repository.calls
    assert overtaken == [lookup.overtaken for lookup in repository.lookups]


@pytest.mark.parametrize(("settings", "attempts"), [({}, 8), ({"attempts": 1}, 1), ({"attempts": 3}, 3)])
def test_a_router_gives_up_after_its_last_attempt(route, settings, attempts):
    """Whoever only loses gets a ContentionError whose cause is the last lost race; nothing is written."""
    repository = Watched()
    losses = [ConflictError(f"loss {number}") for number in range(10)]

    def lose_next() -> None:
        raise losses[repository.calls.count("commit") - 1]

    repository.rivals = [lose_next] * 10

    with pytest.raises(ContentionError) as caught:
        route(repository, **settings).resolve(a_message(message_id="m"))

    assert str(caught.value) == f"gave up after {attempts} lost races in a row"
    assert caught.value.__cause__ is losses[attempts - 1]
    assert caught.value.retryable is True
    assert repository.calls == ["load", "commit"] * attempts
    assert repository.tickets == []


def test_what_only_a_restart_can_cure_is_not_tried_again(route):
    """A ContentionError of the repository goes straight to the host."""
    repository = Watched()
    deadlock = ContentionError("deadlock")

    def fail() -> None:
        raise deadlock

    repository.rivals = [fail]

    with pytest.raises(ContentionError) as caught:
        route(repository).resolve(a_message())

    assert caught.value is deadlock
    assert repository.calls == ["load", "commit"]


def test_every_attempt_has_a_time_of_its_own(route):
    """A ticket is created when it is created, not when the race began."""
    repository = Watched()
    repository.rivals = [lose]
    clock = iter([NOW, NOW + HOUR])

    actual = route(repository, clock=lambda: next(clock)).resolve(a_message())

    assert NOW + HOUR == actual.ticket.created_at


# --- what a router is made of ---------------------------------------------------------------------------------


def test_a_policy_may_be_a_function_of_the_message(route):
    """Each message is decided by the policy that the host has for it, by whatever the host knows of it."""
    asked = []

    def choose(message: InboundMessage) -> Policy:
        asked.append(message)
        return Policy(reopen=Reopen.always()) if message.data == "again" else Policy()

    repository = Watched([a_closed_ticket(7), a_closed_ticket(8, contact_id=9, is_group=True)])
    messages = [a_message(), a_message(group_id=9, data="again")]

    resolutions = route(repository, choose).resolve_many(messages)
    explained = route(repository, choose).explain(messages[1])

    assert [Outcome.CREATED, Outcome.REOPENED] == [each.outcome for each in resolutions]
    assert [True] * 3 == [one is two for one, two in zip(asked, [*messages, messages[1]], strict=True)]
    assert Reopen.always() == explained.policy.reopen


def test_what_the_desk_asks_for_asks_no_policy(route):
    """There is no message that it could be asked with."""

    def refuse(message: InboundMessage) -> Policy:
        raise LookupError(message)

    routes = route(Watched([a_ticket()]), refuse)

    routes.ensure_can_open(ELSEWHERE)
    assert [routes.find_active(KEY)] == routes.active_tickets(1, 10)
    routes.accept(1, 7, a_ticket().user_id)
    routes.transfer(1, 7, 200)
    routes.close(1, 7)
    assert 200 == routes.reopen(1, 7).connection_id
    assert KEY == routes.open(KEY).key


def test_a_policy_that_fails_leaves_nothing_written(route):
    """The host's own error comes through, before anything is read."""
    repository = Watched()

    def fail(message: InboundMessage) -> Policy:
        raise LookupError(message.key)

    with pytest.raises(LookupError) as caught:
        route(repository, fail).resolve(a_message())

    assert caught.value.args == (KEY,)
    assert (repository.calls, repository.tickets) == ([], [])


def test_a_function_that_answers_with_no_policy_is_refused(route):
    """A setting that was not found is no policy."""
    repository = Watched()

    with pytest.raises(InvalidMessageError) as caught:
        route(repository, lambda _: None).resolve(a_message())

    assert (caught.value.field, caught.value.value, caught.value.expected) == (
        "policy",
        None,
        "of type Policy",
    )
    assert repository.calls == []


@pytest.mark.parametrize(
    ("settings", "field", "expected"),
    [
        ({"policy": None}, "policy", "a Policy, or a function from an InboundMessage to a Policy"),
        ({"policy": "default"}, "policy", "a Policy, or a function from an InboundMessage to a Policy"),
        ({"attempts": 10**9}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": 1001}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": 0}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": -1}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": True}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": 2.0}, "attempts", "a whole number from 1 to 1000"),
        ({"attempts": None}, "attempts", "a whole number from 1 to 1000"),
    ],
    ids=a_name,
)
def test_a_router_is_not_made_of_nonsense(route, settings, field, expected):
    """A wrong setting is refused when the router is made, not when the first message comes."""
    with pytest.raises(InvalidMessageError) as caught:
        route(Watched(), **settings)

    assert (field, settings[field], expected) == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


@pytest.mark.parametrize(
    "act",
    [
        lambda routes: routes.resolve(a_message()),
        lambda routes: routes.open(KEY),
        lambda routes: routes.ensure_can_open(KEY),
        *(lambda routes, act=act: act(routes, 1, 7) for act in BY_ID.values()),
    ],
    ids=["resolve", "open", "ensure_can_open", *BY_ID],
)
def test_a_naive_clock_is_refused(route, act):
    """A clock without a time zone fails before anything is written."""
    rows = [a_ticket(status="pending", connection_id=300)]
    repository = Watched(rows)
    naive = datetime(2026, 3, 1, 12)  # noqa: DTZ001

    with pytest.raises(InvalidMessageError) as caught:
        act(route(repository, clock=lambda: naive))

    assert (caught.value.field, caught.value.value) == ("clock", naive)
    assert ("commit" in repository.calls, repository.tickets) == (False, rows)


def test_a_clock_of_another_zone_is_taken_in_utc(route):
    """The times of a ticket are kept in UTC."""
    zone = timezone(timedelta(hours=-3))

    ticket = route(Watched(), clock=lambda: NOW.astimezone(zone)).open(KEY)

    assert (NOW, UTC) == (ticket.created_at, ticket.created_at.tzinfo)


def test_the_default_clock_tells_the_present():
    """Without a clock of its own a router goes by the time of day, in UTC."""
    before = datetime.now(UTC)

    ticket = ROUTERS["sync"](Watched()).open(KEY)

    assert before <= ticket.created_at <= datetime.now(UTC)
    assert flows.utc_now().utcoffset() == timedelta(0)


def test_the_default_policy_is_the_plain_one(route):
    """Without a policy of its own a router opens a new ticket after closing."""
    repository = Watched([a_closed_ticket(closed_at=NOW)])

    assert route(repository).resolve(a_message()).outcome is Outcome.CREATED


NO_ID = {"bool": True, "empty": "", "float": 1.5}


@pytest.mark.parametrize(
    ("act", "field", "value"),
    [
        *(
            pytest.param(act, field, value, id=f"{name}-{field}-{kind}")
            for kind, value in NO_ID.items()
            for name, field, act in [
                ("accept", "company_id", lambda routes, value: routes.accept(value, 7, 5)),
                ("accept", "ticket_id", lambda routes, value: routes.accept(1, value, 5)),
                ("accept", "user_id", lambda routes, value: routes.accept(1, 7, value)),
                ("close", "company_id", lambda routes, value: routes.close(value, 7)),
                ("close", "ticket_id", lambda routes, value: routes.close(1, value)),
                ("reopen", "company_id", lambda routes, value: routes.reopen(value, 7)),
                ("reopen", "ticket_id", lambda routes, value: routes.reopen(1, value)),
                ("transfer", "company_id", lambda routes, value: routes.transfer(value, 7, 200)),
                ("transfer", "ticket_id", lambda routes, value: routes.transfer(1, value, 200)),
                ("transfer", "connection_id", lambda routes, value: routes.transfer(1, 7, value)),
                ("active_tickets", "company_id", lambda routes, value: routes.active_tickets(value, 10)),
                ("active_tickets", "contact_id", lambda routes, value: routes.active_tickets(1, value)),
            ]
        ),
        pytest.param(lambda routes, value: routes.resolve(value), "message", {}, id="resolve"),
        pytest.param(lambda routes, value: routes.resolve_many([value]), "message", KEY, id="resolve_many"),
        pytest.param(lambda routes, value: routes.find_active(value), "key", (1, 10, 100), id="find_active"),
        pytest.param(lambda routes, value: routes.ensure_can_open(value), "key", None, id="ensure_can_open"),
        pytest.param(lambda routes, value: routes.open(value), "key", a_message(), id="open"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_read(route, act, field, value):
    """The error names the argument; the repository is not asked."""
    repository = Watched([a_ticket()])

    with pytest.raises(InvalidMessageError) as caught:
        act(route(repository), value)

    assert (field, value) == (caught.value.field, caught.value.value)
    assert repository.calls == []


@pytest.mark.parametrize(
    ("field", "value"), [("user_id", True), ("queue_id", ""), ("is_group", 1)], ids=["user", "queue", "group"]
)
def test_a_wrong_wish_is_refused_before_anything_is_written(route, field, value):
    """Agent, queue and kind of a ticket to be opened are checked."""
    repository = Watched()

    with pytest.raises(InvalidMessageError) as caught:
        route(repository).open(KEY, **{field: value})

    assert (field, value) == (caught.value.field, caught.value.value)
    assert repository.tickets == []


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ({}, "resolve", "message must be of type InboundMessage, not this dict"),
        (None, "find_active", "key must be of type TicketKey, not None"),
    ],
    ids=["message", "key"],
)
def test_a_value_of_the_wrong_type_is_named(route, value, kind, words):
    """The error says which type was expected."""
    with pytest.raises(InvalidMessageError) as caught:
        getattr(route(Watched()), kind)(value)

    assert words == str(caught.value)


def test_only_an_ignored_message_has_no_ticket():
    """The routers' last guard: an operation of the desk that ends without a ticket is a bug of ours."""
    with pytest.raises(AssertionError, match=r"^only an ignored message has no ticket$"):
        flows._with_change(Keep(a_ticket()), None)


@pytest.mark.parametrize(
    ("repository", "port"),
    [(Watched(), TicketRepository), (Awaitable(Watched()), AsyncTicketRepository)],
    ids=["sync", "async"],
)
def test_a_repository_needs_no_base_class(repository: Any, port: Any):
    """Whatever has the three methods and the words is a repository."""
    assert isinstance(repository, port)
    assert not isinstance(object(), port)


def test_open_refuses_what_merely_counts_as_true(route):
    """`is_group` is True or False on every path, also where the old row would be reopened."""
    repository = Watched()

    with pytest.raises(InvalidMessageError, match="is_group"):
        route(repository).open(KEY, is_group=1)
    assert repository.tickets == []
