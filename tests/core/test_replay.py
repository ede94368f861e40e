"""`ticketrouter.replay`: small logs counted by hand, and laws against routing one by one."""

from __future__ import annotations

import logging
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketrouter import (
    Effect,
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    TicketRouter,
)
from ticketrouter import replay as module
from ticketrouter.errors import InvalidMessageError
from ticketrouter.flows import PolicyChoice
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.replay import Answer, Peak, Replay, Totals, UnorderedLogError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

NEVER = Policy()
TWO_HOURS = Policy(reopen=Reopen.within(2 * HOUR))
ONE_EACH = Policy(scope=Scope.CONTACT)
ALWAYS_IN_GROUPS = Policy(groups=Policy(reopen=Reopen.always()))
POLICIES: dict[str, PolicyChoice] = {
    "never": NEVER,
    "two hours": TWO_HOURS,
    "one each": ONE_EACH,
    "one each, two hours": Policy(scope=Scope.CONTACT, reopen=Reopen.within(2 * HOUR)),
    "always in groups": ALWAYS_IN_GROUPS,
    "always": Policy(reopen=Reopen.always()),
    "by message": lambda message: TWO_HOURS if message.connection_id == 10 else NEVER,
}


def _kept_bytes(days: int) -> int:
    """How many bytes a replay keeps after so many days, of 100 messages with ids each, from as many contacts."""
    before, _ = tracemalloc.get_traced_memory()
    replay = Replay({"never": NEVER, "two hours": TWO_HOURS}, close_after=HOUR, remember=48 * HOUR)
    for number in range(100 * days):
        replay.route(message(number * 24 / 100, contact_id=number % 100, message_id=f"wamid.{number}"))
    after, _ = tracemalloc.get_traced_memory()
    return after - before


def time_of(message: InboundMessage) -> datetime:
    assert message.sent_at is not None
    return message.sent_at


def message(hours: float, connection_id: int = 10, **others: Any) -> InboundMessage:
    fields: dict[str, Any] = {"company_id": 1, "contact_id": "ana"} | others
    return InboundMessage(connection_id=connection_id, sent_at=NOON + hours * HOUR, **fields)


def played(replay: Replay, *messages: InboundMessage) -> list[tuple[tuple[str, Any], ...]]:
    """Outcome and ticket of each policy, for each message."""
    return [
        tuple((each.outcome.value, each.ticket_id) for each in replay.route(one).answers) for one in messages
    ]


class TestByHand:
    def test_two_policies_over_an_idle_ticket(self):
        """A ticket idle for three hours is closed; an hour later one policy reopens it, the other creates one."""
        replay = Replay({"never": NEVER, "two hours": TWO_HOURS}, close_after=3 * HOUR)

        assert played(replay, message(0), message(1), message(5), message(6)) == [
            (("created", 1), ("created", 1)),
            (("reused", 1), ("reused", 1)),
            (("created", 2), ("reopened", 1)),
            (("reused", 2), ("reused", 1)),
        ]
        assert replay.policies == ("never", "two hours")

    def test_a_step_tells_what_was_closed_and_when(self):
        """Each ticket at the end of its idle time, in the order of those times, though messages came later."""
        replay = Replay({"never": NEVER}, close_after=3 * HOUR)
        for each in (message(0), message(1, 13), message(2)):
            assert replay.route(each).closed == ((),)

        (closed,) = replay.route(message(9, contact_id="bia")).closed

        assert [(each.connection_id, each.closed_at) for each in closed] == [
            (13, NOON + 4 * HOUR),
            (10, NOON + 5 * HOUR),
        ]

    def test_the_idle_time_has_an_inclusive_edge(self):
        """A message exactly at the end of the idle time comes too late; a moment before, it joins."""
        for hours, outcome in ((3, "created"), (3 - 1e-6, "reused")):
            replay = Replay({"never": NEVER}, close_after=3 * HOUR)

            assert played(replay, message(0), message(hours))[1][0][0] == outcome

    def test_nothing_is_closed_without_an_idle_time(self):
        """Without `close_after` a ticket is reused after any time."""
        replay = Replay({"never": NEVER})

        assert played(replay, message(0), message(1e5))[1] == (("reused", 1),)

    def test_a_step_differs_where_outcome_or_reason_does(self):
        """The same outcome for another reason is a difference; another ticket is not."""
        replay = Replay({"never": NEVER, "one each": ONE_EACH})

        steps = [replay.route(each) for each in (message(0), message(1, 13), message(2, 13), message(3, 14))]

        assert [step.differs for step in steps] == [False, True, True, True]
        assert steps[2].answers == (
            Answer(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, 2, 13),
            Answer(Outcome.REUSED, Reason.ACTIVE_FOR_CONTACT, 1, 10),
        )

    def test_totals(self):
        """Outcomes, closings, the longest queues and the contacts on several connections, each at its first time."""
        replay = Replay({"never": NEVER, "one each": ONE_EACH}, close_after=24 * HOUR)
        log = [
            message(0, message_id="a"),
            message(1, 13, message_id="b"),
            message(1, 13, message_id="b"),
            message(2, 10, contact_id="bia", kind=MessageKind.ECHO),
            message(3, 10, contact_id="bia"),
            message(4, 20, company_id=2),
            message(30, 10, contact_id="eve"),
        ]

        played(replay, *log)

        counts = {"created": 5, "reused": 0, "reopened": 0, "duplicate": 1, "ignored": 1}
        fewer = counts | {"created": 4, "reused": 1}
        assert replay.totals == {
            "never": Totals(
                outcomes={Outcome(name): count for name, count in counts.items()},
                closed=4,
                active=1,
                longest=Peak(4, NOON + 4 * HOUR),
                longest_on={
                    (1, 10): Peak(2, NOON + 3 * HOUR),
                    (1, 13): Peak(1, NOON + 1 * HOUR),
                    (2, 20): Peak(1, NOON + 4 * HOUR),
                },
                on_several=Peak(1, NOON + HOUR),
                ever_on_several=1,
            ),
            "one each": Totals(
                outcomes={Outcome(name): count for name, count in fewer.items()},
                closed=3,
                active=1,
                longest=Peak(3, NOON + 4 * HOUR),
                longest_on={(1, 10): Peak(2, NOON + 3 * HOUR), (2, 20): Peak(1, NOON + 4 * HOUR)},
                on_several=Peak(),
                ever_on_several=0,
            ),
        }

    def test_an_id_that_a_policy_ignored_is_new_to_it(self):
        """An ignored message leaves no trace: where it comes again, only the policy that took it knows it."""
        echoes = Policy(effects={MessageKind.ECHO: Effect.OPEN})
        replay = Replay({"never": NEVER, "echoes": echoes})
        echo = message(0, message_id="e", kind=MessageKind.ECHO)

        assert played(replay, echo, message(1), echo, echo) == [
            (("ignored", None), ("created", 1)),
            (("created", 1), ("reused", 1)),
            (("reused", 1), ("duplicate", 1)),
            (("duplicate", 1), ("duplicate", 1)),
        ]

    def test_an_id_is_known_again_after_its_ticket_was_dropped(self, monkeypatch):
        """A redelivery is harmless however long ago its ticket was closed; the id of two contacts is told."""
        monkeypatch.setattr(module, "_FEWEST_DROPPED", 1)
        replay = Replay({"never": NEVER}, close_after=HOUR)
        first = message(0, message_id="m")
        played(replay, first, message(5, contact_id="bia"), message(9, contact_id="eve"))

        assert replay.kept == {"never": 1}
        assert replay.route(first).answers == (Answer(Outcome.DUPLICATE, Reason.ALREADY_ROUTED, 1, None),)
        other = message(9, message_id="m", contact_id="bia")
        assert [replay.route(each).answers[0].reason for each in (other, other, first)] == [
            Reason.ROUTED_FOR_ANOTHER_CONTACT,
            Reason.ROUTED_FOR_ANOTHER_CONTACT,
            Reason.ALREADY_ROUTED,
        ]

    def test_only_what_may_be_reopened_is_kept(self, monkeypatch):
        """Of the closed tickets of a key the last one, for as long as the policy may reopen it; never: none."""
        monkeypatch.setattr(module, "_FEWEST_DROPPED", 1)
        replay = Replay(POLICIES, close_after=HOUR)
        for hours in (0, 4, 8):
            for connection_id in (10, 13, 14):
                replay.route(message(hours, connection_id))
        played(replay, message(8.5, contact_id="eve"), message(9.2, contact_id="bia"))

        assert replay.kept == {
            "never": 2,
            "two hours": 5,
            "one each": 2,
            "one each, two hours": 3,
            "always in groups": 2,
            "always": 5,
            "by message": 5,
        }

    def test_memory_does_not_grow_with_the_log(self, monkeypatch, caplog):
        """What is kept is what is active, may be reopened or is remembered: of a log twice as long no more."""
        caplog.set_level(logging.WARNING, logger="ticketrouter")  # or the lines of the log are kept as well
        monkeypatch.setattr(module, "_FEWEST_DROPPED", 100)
        tracemalloc.start()
        try:
            once, twice = (_kept_bytes(days) for days in (10, 20))
        finally:
            tracemalloc.stop()

        assert twice < 1.1 * once

    def test_a_contact_is_on_several_connections_from_the_second_to_the_last_but_one(self):
        """A third connection makes no second contact; only those are counted who have two at the same time."""
        replay = Replay({"never": NEVER}, close_after=3 * HOUR)
        played(replay, message(0), message(1, 13), message(2, 14), message(2, contact_id="bia"))
        played(replay, message(5.5, 13, contact_id="bia"), message(5.5, contact_id="bia"))

        totals = replay.totals["never"]
        assert (totals.on_several, totals.ever_on_several) == (Peak(1, NOON + HOUR), 2)

    def test_ids_are_forgotten_in_time(self):
        """An id is known for at least as long as is remembered, and not for ever."""
        replay = Replay({"never": NEVER}, remember=10 * HOUR)
        played(replay, message(0, message_id="a"))

        assert played(replay, message(10, message_id="a")) == [(("duplicate", 1),)]
        played(replay, *(message(hours, message_id=f"b{hours}") for hours in (11, 22, 33)))
        assert played(replay, message(34, message_id="a")) == [(("reused", 1),)]


class TestTime:
    def test_a_message_without_a_time_is_refused(self):
        """A replay has no clock of its own; nothing was counted."""
        replay = Replay({"never": NEVER})

        with pytest.raises(InvalidMessageError, match="sent_at must be given") as refused:
            replay.route(InboundMessage(1, "ana", 10))

        assert not isinstance(refused.value, UnorderedLogError)
        assert replay.totals["never"].outcomes[Outcome.CREATED] == 0

    def test_a_log_that_is_not_in_order_is_refused(self):
        """A message older than what stood before it; what is late by no more than is allowed waits for nobody."""
        replay = Replay({"never": NEVER}, late=HOUR, close_after=2 * HOUR)
        replay.route(message(5))

        assert replay.route(message(4, 13)).at == NOON + 5 * HOUR
        with pytest.raises(UnorderedLogError, match="sent_at must be at most 1:00:00 before 2026-11-23T17"):
            replay.route(message(4 - 1e-6))
        assert sum(replay.totals["never"].outcomes.values()) == 2

    def test_a_redelivery_may_be_of_any_age(self):
        """It has the time at which it was sent first."""
        replay = Replay({"never": NEVER})
        first = message(0, message_id="m")
        played(replay, first, message(9))

        assert played(replay, first) == [(("duplicate", 1),)]

    @pytest.mark.parametrize(
        ("policies", "options", "field"),
        [
            ({}, {}, "policies"),
            ({"a": NEVER}, {"close_after": -HOUR}, "close_after"),
            ({"a": NEVER}, {"late": "1h"}, "late"),
            ({"a": NEVER}, {"remember": -HOUR}, "remember"),
            ({"a": "default"}, {}, "policy"),
        ],
    )
    def test_bad_arguments_are_named(self, policies, options, field):
        """No policy, a policy that is none, a time that runs backwards."""
        with pytest.raises(InvalidMessageError) as refused:
            Replay(policies, **options)

        assert refused.value.field == field


MESSAGES = st.builds(
    InboundMessage,
    company_id=st.sampled_from([1, 2]),
    contact_id=st.sampled_from(["ana", "bia"]),
    connection_id=st.sampled_from([10, 13, 14]),
    group_id=st.sampled_from([None, None, "family"]),
    message_id=st.none() | st.integers(0, 8),
    sent_at=st.integers(0, 12).map(lambda quarters: NOON + quarters * HOUR / 4),
    kind=st.sampled_from(MessageKind),
)


@st.composite
def logs(draw: st.DrawFn) -> list[InboundMessage]:
    """Messages in the order of time, some of them long after the last."""
    log, shift = [], timedelta()
    for each in sorted(draw(st.lists(MESSAGES, max_size=25)), key=time_of):
        shift += draw(st.sampled_from([0, 0, 1, 3])) * HOUR
        log.append(
            InboundMessage(
                each.company_id,
                each.contact_id,
                each.connection_id,
                group_id=each.group_id,
                message_id=each.message_id,
                sent_at=time_of(each) + shift,
                kind=each.kind,
            )
        )
    return log


IDLE = st.sampled_from([None, HOUR / 4, HOUR, 3 * HOUR])


# Functions: mutmut runs its tests twice in one process, and Hypothesis would miss the same `self`.


@given(logs(), IDLE)
def test_a_policy_never_differs_from_itself(log, close_after):
    """Under two names it gives the same answers, tickets included."""
    for policy in POLICIES.values():
        replay = Replay({"a": policy, "b": policy}, close_after=close_after)
        for each in log:
            step = replay.route(each)
            assert step.answers[0] == step.answers[1]
            assert not step.differs


@given(logs(), IDLE)
def test_counts_add_up(log, close_after):
    """Every message has one outcome; what was opened is closed or active; no queue is longer than all."""
    replay = Replay(POLICIES, close_after=close_after)
    steps = [replay.route(each) for each in log]

    for number, totals in enumerate(replay.totals.values()):
        count = totals.outcomes
        assert sum(count.values()) == len(log)
        assert count[Outcome.CREATED] + count[Outcome.REOPENED] == totals.closed + totals.active
        assert totals.closed == sum(len(step.closed[number]) for step in steps)
        longest = [peak.count for peak in totals.longest_on.values()]
        assert max(longest, default=0) <= totals.longest.count <= sum(longest)
        assert totals.on_several.count <= totals.ever_on_several


@given(logs(), IDLE, st.sampled_from([1, 1_000]))
def test_it_equals_routing_one_by_one(log, close_after, fewest_dropped):
    """A router over a repository that drops nothing, and a look at every ticket before each message."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEWEST_DROPPED", fewest_dropped)
        replay = Replay(POLICIES, close_after=close_after)
        steps = [replay.route(each) for each in log]

    for number, policy in enumerate(POLICIES.values()):
        expected = one_by_one(log, policy, close_after)
        answers = [step.answers[number] for step in steps]
        assert expected == [(each.outcome, each.reason, each.ticket_id) for each in answers]


def one_by_one(
    log: list[InboundMessage], policy: Any, close_after: timedelta | None
) -> list[tuple[Outcome, Reason, Any]]:
    """The plainest way to say the same."""
    repository = InMemoryTicketRepository()
    now = NOON
    router = TicketRouter(repository, policy, clock=lambda: now)
    found: list[tuple[Outcome, Reason, Any]] = []
    for each in log:
        if close_after is not None:
            active = [ticket for ticket in repository.tickets if ticket.closed_at is None]
            for ticket in sorted(active, key=lambda ticket: (ticket.updated_at, ticket.id)):
                if ticket.updated_at + close_after <= time_of(each):
                    now = ticket.updated_at + close_after
                    router.close(ticket.company_id, ticket.id)
        now = time_of(each)
        answer = router.resolve(each)
        ticket_id = None if answer.outcome is Outcome.IGNORED else answer.ticket.id
        found.append((answer.outcome, answer.reason, ticket_id))
    return found
