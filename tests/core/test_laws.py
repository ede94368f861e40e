"""The laws of routing, as properties: each test is named by its law and states it.

`ticketrouter.testing.strategies` draws the situations; nothing here repeats the rules, which `test_decide.py` has as a table
and `test_machine.py` as an independent model.
"""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from datetime import UTC
from typing import Any, assert_never

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.support.samples import NOW, a_message, a_ticket
from tests.support.words import SLEEPERS, WORDS
from ticketrouter import (
    BlockedBySchemaError,
    Effect,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
    decide,
)
from ticketrouter.decisions import (
    Create,
    Duplicate,
    Ignore,
    Join,
    Joined,
    Lookup,
    ReopenTicket,
    Reuse,
    Snapshot,
    applied,
)
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.testing import strategies as these


class Desk:
    """A router on a memory of its own, with a clock that stands still unless it is told to wait."""

    def __init__(
        self,
        policy: Policy,
        unique_rule: UniqueRule,
        tickets: list[Ticket] | None = None,
        statuses: StatusScheme = these.STATUSES,
    ) -> None:
        self.now = these.NOW
        self.repository = InMemoryTicketRepository(tickets or (), unique_rule=unique_rule, statuses=statuses)
        self.router = TicketRouter(self.repository, policy, clock=lambda: self.now)

    def play(self, log: list[these.Operation]) -> list[Any]:
        """Carry out a log and return what came of each operation, errors as values."""
        return [self._outcome(operation) for operation in log]

    def of_company(self, company_id: object) -> list[Ticket]:
        return [ticket for ticket in self.repository.tickets if ticket.company_id == company_id]

    def _outcome(self, operation: these.Operation) -> Any:
        if isinstance(operation, these.Wait):
            self.now += operation.span
            return None
        try:
            return self._perform(operation)
        except TicketRouterError as error:
            return type(error), getattr(error, "ticket", None)

    def _perform(self, operation: these.Act) -> Any:
        match operation:
            case these.Receive():
                return self.router.resolve(operation.message)
            case these.Open():
                return self.router.open(operation.key, user_id=operation.user_id)
            case these.Accept(company_id=company_id):
                return self.router.accept(company_id, self._nth(operation), operation.user_id)
            case these.Close(company_id=company_id):
                return self.router.close(company_id, self._nth(operation))
            case these.ReopenTicket(company_id=company_id):
                return self.router.reopen(company_id, self._nth(operation))
            case these.Transfer(company_id=company_id):
                return self.router.transfer(company_id, self._nth(operation), operation.connection_id)
            case _:
                assert_never(operation)

    def _nth(self, operation: Any) -> Any:
        found = [ticket for ticket in self.of_company(operation.company_id) if isinstance(ticket.id, int)]
        return found[operation.nth % len(found)].id if found else 1


def _answer(situation: these.Situation, *, statuses: StatusScheme = these.STATUSES, **changes: Any) -> Any:
    told = attrs.evolve(situation, **changes)
    try:
        return decide(told.message, told.snapshot, told.policy, told.now, statuses)
    except BlockedBySchemaError as error:
        return error.ticket, error.unique_rule


def _in_window(answer: Any) -> bool:
    return getattr(answer, "reason", None) is Reason.WITHIN_REOPEN_WINDOW


def _received(messages: list[InboundMessage]) -> list[these.Operation]:
    return [these.Receive(message) for message in messages]


WAKING = attrs.evolve(these.STATUSES, wakes={"pending": "open"})


# --- of decide() ----------------------------------------------------------------------------------------------


@given(these.situations())
def test_every_input_has_exactly_one_answer(situation):
    """Whatever was found, the answer is one decision or one BlockedBySchemaError, and the same each time."""
    answer = _answer(situation)

    assert isinstance(answer, Create | Reuse | ReopenTicket | Ignore | Duplicate | tuple)
    assert answer == _answer(situation)


@given(these.situations(), these.any_messages, st.sampled_from(UniqueRule))
def test_every_input_has_an_answer_even_where_the_repository_is_not_lawful(situation, message, unique_rule):
    """No mixture of valid values makes the policy fail in any other way."""
    snapshot = attrs.evolve(situation.snapshot, unique_rule=unique_rule)

    answer = _answer(situation, message=message, snapshot=snapshot)

    assert isinstance(answer, Create | Reuse | ReopenTicket | Ignore | Duplicate | tuple)


@given(
    these.situations(
        policies=these.one_connection_each,
        unique_rules=these.unique_rules.filter(lambda rule: rule is not UniqueRule.ONE_PER_CONTACT),
        routed=st.just(False),
    ),
    st.lists(these.tickets(keys=st.just(TicketKey(1, 1, "elsewhere")), active=st.just(True)), max_size=3),
)
def test_other_connections_never_influence_the_decision(situation, intruders):
    """Under Scope.CONNECTION what is open on other connections changes the report and nothing else."""
    here = situation.message.connection_id
    own = tuple(ticket for ticket in situation.snapshot.active if ticket.connection_id == here)
    alone = attrs.evolve(situation.snapshot, active=own)
    crowded = attrs.evolve(situation.snapshot, active=(*intruders, *situation.snapshot.active))

    expected = _answer(situation, snapshot=alone)
    actual = _answer(situation, snapshot=crowded)

    if isinstance(actual, tuple):  # a row in the way is of an unknown word
        assert expected == actual
        return
    assert expected == attrs.evolve(actual, other_active=())
    assert Counter(actual.other_active) == Counter(crowded.active) - Counter(own)


@given(these.situations(policies=these.one_connection_each, routed=st.just(False)), these.tickets())
def test_a_closed_ticket_of_another_connection_is_never_reopened(situation, last):
    """Under Scope.CONNECTION the last closed ticket counts only where it is on the message's connection."""
    elsewhere = attrs.evolve(last, connection_id="elsewhere")
    with_it = attrs.evolve(situation.snapshot, latest_closed=elsewhere)
    without = attrs.evolve(situation.snapshot, latest_closed=None)

    assert _answer(situation, snapshot=without) == _answer(situation, snapshot=with_it)


@given(these.situations())
def test_no_message_reopens_a_ticket_of_an_unknown_word(situation):
    """Whatever was chosen and whatever stands in the way: what is reopened has a word that may be."""
    answer = _answer(situation)

    assert not isinstance(answer, ReopenTicket) or answer.ticket.status == "closed"


@given(these.situations(unique_rules=st.just(UniqueRule.ACTIVE_PER_CONNECTION), routed=st.just(False)))
def test_where_nothing_is_in_the_way_a_ticket_of_an_unknown_word_is_as_none(situation):
    """The report of it is no cause, and to find it as the last closed one, as a store may, is to find none."""
    snapshot = situation.snapshot
    without = attrs.evolve(snapshot, latest_closed=None, unknown=None)
    lawless = attrs.evolve(snapshot, latest_closed=snapshot.unknown, unknown=None)

    assert _answer(situation) == _answer(situation, snapshot=attrs.evolve(snapshot, unknown=None))
    assert _answer(situation, snapshot=without) == _answer(situation, snapshot=lawless)


@given(these.situations())
def test_words_that_wake_change_nothing_but_the_status(situation):
    """The same is decided under a scheme that wakes, for the same ticket; a closed one is as it ever was."""
    plain, waking = _answer(situation), _answer(situation, statuses=WAKING)
    if isinstance(waking, Reuse):
        opens = situation.policy.of(situation.message).effect(situation.message) is Effect.OPEN
        joined = applied(plain, plain.ticket, WAKING)
        woken = "open" if opens and joined.status == "pending" else joined.status
        assert opens is waking.wakes
        assert applied(waking, waking.ticket, WAKING) == attrs.evolve(joined, status=woken)
        waking = attrs.evolve(waking, wakes=False)

    assert plain == waking


@given(these.situations(), these.tickets())
def test_what_has_joined_is_what_rule_two_decides(situation, ticket):
    """The ticket that the Reuse would leave, by the same time and count; the others and the reason are told alike."""
    message, policy, now = situation.message, situation.policy, NOW
    key = message.key
    here = attrs.evolve(ticket, contact_id=key.contact_id, connection_id=key.connection_id)
    others = Snapshot(situation.snapshot.active).active_elsewhere(key.connection_id)
    join = Lookup.of(message, policy, now).join
    reuse = decide(message, Snapshot((here, *others)), policy, now, WAKING)
    assert isinstance(reuse, Reuse)
    joined = applied(reuse, here, StatusScheme())
    found = decide(message, Snapshot(others, joined=joined), policy, now)

    assert Join(reuse.at, reuse.unread, reuse.message_ref, reuse.wakes) == join
    assert Joined(joined, reuse.reason, reuse.other_active) == found
    assert reuse.outcome is found.outcome


@given(these.situations(), these.tickets(), these.tickets())
def test_a_recorded_id_never_joins(situation, before, ticket):
    """Rule 1 comes before the ticket that a message is said to have joined."""
    routed = attrs.evolve(situation.snapshot, routed=before)
    joined = attrs.evolve(routed, joined=ticket)

    assert _answer(situation, snapshot=routed) == _answer(situation, snapshot=joined)


@given(these.situations(), st.randoms(use_true_random=False))
def test_the_order_of_the_snapshot_is_irrelevant(situation, random):
    """A repository may list active tickets in any order."""
    active = list(situation.snapshot.active)
    random.shuffle(active)
    shuffled = attrs.evolve(situation.snapshot, active=active)

    assert _answer(situation) == _answer(situation, snapshot=shuffled)


@given(these.situations(), st.sampled_from([1, 2, "somebody", 77]))
def test_participants_never_influence_the_key_of_a_group(situation, participant):
    """Whoever writes in a group chat, the decision is the same."""
    message = attrs.evolve(situation.message, group_id=9)
    another = attrs.evolve(message, contact_id=participant)

    assert message.key == another.key
    assert _answer(situation, message=message) == _answer(situation, message=another)


@given(these.situations())
def test_a_kind_that_attaches_never_creates_or_reopens(situation):
    """Reactions, ratings, receipts and farewells open nothing, under any schema."""
    attaches = Policy(
        situation.policy.scope, Reopen.always(), None, dict.fromkeys(MessageKind, Effect.ATTACH)
    )

    answer = _answer(situation, policy=attaches)

    assert isinstance(answer, Reuse | Ignore | Duplicate)


@given(these.situations(), these.spans, these.spans)
def test_a_longer_window_reopens_all_that_a_shorter_one_does(situation, one, another):
    """Whatever is reopened by its window is reopened by any longer one."""
    shorter, longer = sorted([one, another])
    policy = attrs.evolve(situation.policy, groups=None, reopen=Reopen.within(shorter))
    first = _answer(situation, policy=policy)

    second = _answer(situation, policy=attrs.evolve(policy, reopen=Reopen.within(longer)))

    reopened_anew = _in_window(second) and not _in_window(first)
    assert first == second or reopened_anew


@given(these.situations(), these.spans)
def test_a_message_is_never_later_than_now(situation, span):
    """A sender whose clock runs ahead gets what a message of this moment gets."""
    ahead = attrs.evolve(situation.message, sent_at=situation.now + span)
    prompt = attrs.evolve(situation.message, sent_at=None)

    assert _answer(situation, message=prompt) == _answer(situation, message=ahead)


@given(these.situations())
def test_a_decision_is_about_the_company_and_contact_of_the_message(situation):
    """Every ticket in an answer is of the key's company and contact."""
    key = situation.message.key

    answer = _answer(situation)
    named = [answer[0]] if isinstance(answer, tuple) else list(answer.other_active)
    if not isinstance(answer, tuple | Ignore):
        named.append(answer if isinstance(answer, Create) else answer.ticket)

    keys = {ticket.key for ticket in named}
    assert {(key.company_id, key.contact_id)} >= {(each.company_id, each.contact_id) for each in keys}


# --- of the router on a repository ----------------------------------------------------------------------------

strangers = st.lists(
    st.one_of(
        these.tickets(
            ids=these.texts(3),
            keys=st.builds(TicketKey, these.companies, these.contacts, st.just("elsewhere")),
            active=st.just(False),
        ),
        these.tickets(
            ids=these.texts(3),
            keys=st.builds(TicketKey, these.companies, st.just("stranger"), these.connections),
            active=st.just(False),
        ),
    ),
    max_size=5,
    unique_by=lambda ticket: ticket.id,
)


@given(
    these.logs,
    these.one_connection_each,
    st.sampled_from([UniqueRule.NONE, UniqueRule.ACTIVE_PER_CONNECTION]),
    strangers,
)
def test_closed_tickets_of_other_keys_change_nothing(log, policy, unique_rule, strangers):
    """Whatever lies closed on other connections and contacts, a log comes out the same."""
    alone, crowded = Desk(policy, unique_rule), Desk(policy, unique_rule, strangers)

    assert alone.play(log) == crowded.play(log)
    assert {*alone.repository.tickets, *strangers} == set(crowded.repository.tickets)


@given(
    these.logs,
    these.any_policies,
    these.unique_rules,
    these.messages(with_ids=st.none()),
    st.none() | these.users,
)
def test_reuse_never_changes_status_user_or_queue(log, policy, unique_rule, message, user_id):
    """A message that joins a ticket touches its count and its time, and no other ticket."""
    desk = Desk(policy, unique_rule)
    desk.play([*log, these.Open(message.key, user_id)])
    rows = {ticket.id: ticket for ticket in desk.repository.tickets}

    (resolution,) = desk.play([these.Receive(message)])

    assume(isinstance(resolution, Resolution) and resolution.outcome is Outcome.REUSED)
    seen, ticket = rows[resolution.ticket.id], resolution.ticket
    expected = attrs.evolve(seen, unread_messages=ticket.unread_messages, updated_at=desk.now)
    assert expected == ticket
    assert rows | {ticket.id: ticket} == {each.id: each for each in desk.repository.tickets}


@given(these.logs, these.any_policies, these.unique_rules)
def test_at_most_one_ticket_of_a_key_is_active(log, policy, unique_rule):
    """After any sequence of operations a key has one active ticket or none."""
    desk = Desk(policy, unique_rule)

    desk.play(log)

    active = [ticket.key for ticket in desk.repository.tickets if ticket.status in {"open", "pending"}]
    assert sorted(set(active), key=repr) == sorted(active, key=repr)


@given(these.logs, these.any_policies, these.unique_rules)
def test_a_ticket_has_a_time_of_closing_exactly_while_it_is_closed(log, policy, unique_rule):
    """`closed_at` and the status never disagree."""
    desk = Desk(policy, unique_rule)

    desk.play(log)

    assert [ticket.status == "closed" for ticket in desk.repository.tickets] == [
        ticket.closed_at is not None for ticket in desk.repository.tickets
    ]


schemes = st.sampled_from([these.STATUSES, WORDS, SLEEPERS])


@given(st.lists(these.messages(), max_size=12), these.any_policies, these.unique_rules, schemes)
def test_many_messages_come_out_as_one_by_one(messages, policy, unique_rule, statuses):
    """resolve_many is resolve for each, in order, up to the first that fails; the changes are the same, too."""
    one_by_one, at_once = (Desk(policy, unique_rule, statuses=statuses) for _ in range(2))
    expected = one_by_one.play(_received(messages))
    failed = next((n for n, each in enumerate(expected) if isinstance(each, tuple)), len(messages))

    actual = at_once.router.resolve_many(iter(messages[:failed]))

    assert expected[:failed] == actual
    assert [each.change for each in expected[:failed]] == [each.change for each in actual]


between = st.lists(these.closings | st.builds(these.Wait, these.spans), max_size=5)


@given(
    st.lists(these.messages(with_ids=these.message_ids), max_size=12),
    these.any_policies,
    these.unique_rules,
    between,
)
@example(  # the notice, ignored at first, joins the second time what came after it
    messages=[a_message(message_id="a", kind="notice"), a_message(message_id="b")],
    policy=Policy(),
    unique_rule=UniqueRule.NONE,
    between=[],
)
def test_replaying_a_log_creates_and_reopens_nothing(messages, policy, unique_rule, between):
    """On a second delivery whatever had a ticket gets it again, and no ticket is opened."""
    desk = Desk(policy, unique_rule)
    first = desk.play(_received(messages))
    desk.play(between)
    rows = [(ticket.id, ticket.status) for ticket in desk.repository.tickets]

    second = desk.play(_received(messages))

    had_one = [isinstance(each, Resolution) and each.outcome is not Outcome.IGNORED for each in first]
    expected = [(Outcome.DUPLICATE, each.ticket.id) for each, had in zip(first, had_one, strict=True) if had]
    actual = [(each.outcome, each.ticket.id) for each, had in zip(second, had_one, strict=True) if had]
    assert expected == actual
    assert rows == [(ticket.id, ticket.status) for ticket in desk.repository.tickets]


@given(
    st.lists(these.messages(kinds=st.just(MessageKind.MESSAGE), with_ids=these.message_ids), max_size=12),
    st.builds(Policy, these.all_scopes, these.reopens),
    these.unique_rules,
    between,
)
def test_replaying_a_log_of_the_contacts_messages_changes_nothing(messages, policy, unique_rule, between):
    """Where every message opens, a second delivery leaves every ticket exactly as it was."""
    desk = Desk(policy, unique_rule)
    desk.play(_received(messages))
    desk.play([*between, these.Wait(these.HOUR)])
    before = desk.repository.tickets

    desk.play(_received(messages))

    assert before == desk.repository.tickets


@given(these.logs, these.any_policies, these.unique_rules)
def test_no_company_sees_the_ticket_of_another(log, policy, unique_rule):
    """Two companies with equal ids in one table fare as each would alone."""
    together = Desk(policy, unique_rule)
    outcomes = together.play(log)

    for company_id in (1, 2):
        alone = Desk(policy, unique_rule)
        own = [_company_of(operation) in {company_id, None} for operation in log]

        expected = alone.play([operation for operation, mine in zip(log, own, strict=True) if mine])
        actual = [outcome for outcome, mine in zip(outcomes, own, strict=True) if mine]

        names = {t.id: n for n, t in enumerate(together.of_company(company_id), start=1)}
        assert expected == [_renamed(outcome, names) for outcome in actual]
        assert alone.repository.tickets == _renamed(together.of_company(company_id), names)


def _company_of(operation: these.Operation) -> int | None:
    match operation:
        case these.Wait():
            return None
        case these.Receive(message=about) | these.Open(key=about):
            assert isinstance(about.company_id, int)
            return about.company_id
        case _:
            return operation.company_id


def _renamed(outcome: Any, names: dict[Any, int]) -> Any:
    """Return the outcome with the ids of tickets replaced; a ticket of nobody's is a KeyError."""
    match outcome:
        case Ticket():
            return attrs.evolve(outcome, id=names[outcome.id])
        case Resolution(outcome=Outcome.IGNORED):
            return attrs.evolve(outcome, other_active=_renamed(outcome.other_active, names))
        case Resolution():
            return attrs.evolve(
                outcome,
                other_active=_renamed(outcome.other_active, names),
                ticket=_renamed(outcome.ticket, names),
            )
        case tuple() | list():
            return type(outcome)(_renamed(each, names) for each in outcome)
        case _:
            return outcome


# --- of the values --------------------------------------------------------------------------------------------


@given(these.any_messages)
def test_every_valid_message_can_be_made_and_copied(message):
    """What the checks let in is a value like any other."""
    assert message == pickle.loads(pickle.dumps(message)) == copy.deepcopy(message)
    assert message.key.contact_id == (message.group_id if message.is_group else message.contact_id)


@given(these.any_policies)
def test_every_policy_can_be_copied(policy):
    """A policy may go to another process."""
    assert policy == pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == copy.copy(policy)


@given(these.any_instants)
def test_an_instant_stays_the_same_in_utc(instant):
    """Only the zone changes; in the hour that comes twice, too."""
    created_at = a_ticket(created_at=instant).created_at

    assert (instant.timestamp(), UTC) == (created_at.timestamp(), created_at.tzinfo)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.lists(st.integers() | st.text(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
    st.sampled_from([10**5000, "x" * 5000, object(), NOW.date(), NOW]),
)


def _made(kind: Any, changes: dict[str, Any]) -> Any:
    try:
        return kind(**changes)
    except InvalidMessageError as error:
        return error


@pytest.mark.parametrize(
    ("kind", "made_by"),
    [
        pytest.param(InboundMessage, a_message, id="InboundMessage"),
        pytest.param(Ticket, lambda **changes: attrs.evolve(a_ticket(), **changes), id="Ticket"),
        pytest.param(StatusScheme, StatusScheme, id="StatusScheme"),
        pytest.param(Policy, Policy, id="Policy"),
        pytest.param(Reopen, Reopen, id="Reopen"),
    ],
)
@given(data=st.data(), value=anything)
def test_a_value_is_made_or_refused_in_one_way_only(kind, made_by, data, value):
    """Whatever is given for a field, the answer is a value or an InvalidMessageError of one short line."""
    field = data.draw(st.sampled_from(attrs.fields(kind)))

    made = _made(made_by, {field.name: value})

    if isinstance(made, InvalidMessageError):
        assert field.name == made.field or kind is StatusScheme
        assert len(str(made)) < 300
    else:
        assert isinstance(made, kind)
