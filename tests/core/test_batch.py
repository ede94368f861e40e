"""Many messages at once over memory: the plan, its placeholders, and what becomes of a lost race."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from tests.core.drivers import Watched
from tests.core.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
from tests.memory_store import AsyncTouchesManyInMemory, TouchesManyInMemory
from ticketrouter import (
    AsyncTicketRouter,
    BlockedBySchemaError,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    Snapshot,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.batch import MOST, Given, Joined, Joint, Run, plan, runs_of
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.model import key_order
from ticketrouter.policy import Create, Duplicate, Lookup, Reuse, Unread, touching


class LosesFirst(InMemoryTicketRepository):
    """Loses the race of the first thing that a batch is to write, to somebody who opens a ticket there."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        TicketRouter(self, clock=lambda: NOW).resolve(a_message())
        return super().commit_many(joints)


class GoesOneByOne(InMemoryTicketRepository):
    """Takes no batch, for a reason of its own."""

    def load_many(self, lookups: Sequence[Lookup]) -> None:
        del lookups


class TouchesMany(TouchesManyInMemory):
    """Notes which runs it was asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.runs: list[Sequence[Run]] = []

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        self.runs.append(runs)
        return super().touch_many(runs)


class TouchesNone(TouchesMany):
    """Has its batches go another way, for a reason of its own."""

    def touch_many(self, runs: Sequence[Run]) -> None:
        self.runs.append(runs)


def router(repository: InMemoryTicketRepository, policy: Policy = Policy()) -> TicketRouter:  # noqa: B008
    return TicketRouter(repository, policy, clock=lambda: NOW)


def given(*messages: object, snapshot: Snapshot = Snapshot(), policy: Policy = Policy()) -> list[Given]:  # noqa: B008
    return [Given(message, snapshot, policy, NOW) for message in messages]  # type: ignore[arg-type]


def test_what_several_messages_do_to_a_new_ticket_is_one_joint():
    """It is created once; the others only count."""
    planned = plan(given(a_message(message_id="a"), a_message(message_id="b")), StatusScheme())

    (joint,) = planned.joints
    assert isinstance(joint.first, Create)
    assert (KEY, (Unread(None, 1),), ["a", "b"]) == (
        joint.key, joint.later, [ref.message_id for ref in joint.message_refs]
    )  # fmt: skip
    assert (1, 2) == (joint.first_count(7), joint.last_count(1))


def test_what_several_messages_do_to_a_known_ticket_is_one_joint():
    """The count is followed from the one that the row turns out to have."""
    snapshot = Snapshot(active=[a_ticket()])
    planned = plan(
        given(a_message(), a_message(unread_messages=5), a_message(), snapshot=snapshot), StatusScheme()
    )

    (joint,) = planned.joints
    assert isinstance(joint.first, Reuse)
    assert (KEY, 8, 6) == (joint.key, joint.first_count(7), joint.last_count(8))


def test_a_ticket_still_to_be_created_goes_by_a_placeholder():
    """Later decisions know it, as the newest of all."""
    planned = plan(
        given(a_message(), a_message(connection_id=200), a_message(connection_id=300)), StatusScheme()
    )

    assert [(), (0,), (1, 0)] == [each.other_active for each in planned.planned]
    assert all(isinstance(ticket.id, UUID) for ticket in planned.planned[2].decision.other_active)


def test_what_writes_nothing_knows_the_placeholders_too():
    """An echo that is ignored, and a redelivery, tell what the batch has opened elsewhere."""
    first, other = a_message(message_id="a"), a_message(connection_id=200)
    echo = a_message(connection_id=300, kind=MessageKind.ECHO)
    planned = plan(given(first, other, echo, first), StatusScheme())
    made = a_ticket(), a_ticket(8, connection_id=200)
    (ignored, _), (duplicate, ticket) = planned.carried_out(made, {})[2:]

    assert [None, 0] == [each.ticket for each in planned.planned[2:]]
    assert [(1, 0), (1,)] == [each.other_active for each in planned.planned[2:]]
    assert (made[::-1], made[1:]) == (ignored.other_active, duplicate.other_active)
    assert isinstance(duplicate, Duplicate)
    assert made[0] == ticket == duplicate.ticket


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (Snapshot(occupant=a_closed_ticket(), unique_rule=UniqueRule.ONE_PER_CONNECTION), Outcome.REOPENED),
        (Snapshot(routed=a_closed_ticket()), Outcome.DUPLICATE),
    ],
    ids=["occupant", "routed"],
)
def test_closed_tickets_that_were_found_count_in_a_batch(snapshot: Snapshot, expected: Outcome):
    """The only row of a key, and the ticket of a redelivery, are not among the active ones."""
    (planned,) = plan(given(a_message(message_id="m"), snapshot=snapshot), StatusScheme()).planned

    assert expected is planned.decision.outcome


@pytest.mark.parametrize(
    "here", [a_ticket(updated_at=NOW - 2 * HOUR), a_closed_ticket()], ids=["open", "closed"]
)
def test_whom_the_batch_has_just_written_to_is_the_most_recently_active(here: Ticket):
    """Under Scope.CONTACT the next message joins the ticket that the last one has joined or reopened."""
    elsewhere = a_ticket(8, connection_id=200)
    closed = None if here.closed_at is None else here
    seen = Snapshot(active=[elsewhere] if closed else [here, elsewhere], latest_closed=closed)
    batch = [
        *given(a_message(), snapshot=seen, policy=Policy(reopen=Reopen.always())),
        *given(a_message(connection_id=300), snapshot=seen, policy=Policy(scope=Scope.CONTACT)),
    ]
    planned = plan(batch, StatusScheme())

    assert [0, 0] == [each.joint for each in planned.planned]
    assert here == planned.joints[0].first.ticket  # type: ignore[union-attr]


def test_a_lost_race_is_run_again_for_its_messages_only():
    """They join the winner's ticket; what names their ticket names that one."""
    repository = LosesFirst()
    first, other, second = router(repository).resolve_many(
        [a_message(), a_message(connection_id=200), a_message()]
    )

    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [
        each.outcome for each in (first, other, second)
    ]
    assert [2, 1, 3] == [each.ticket.unread_messages for each in (first, other, second)]
    assert (first.ticket,) == other.other_active
    assert (other.ticket,) == second.other_active
    assert [1, 2] == [ticket.id for ticket in repository.tickets]


def test_each_message_of_a_batch_is_told_once(caplog: pytest.LogCaptureFixture):
    """Those that had to be run again too."""
    with caplog.at_level(logging.DEBUG, logger="ticketrouter"):
        router(LosesFirst()).resolve_many([a_message(), a_message(connection_id=200), a_message()])

    rivals = 1
    assert rivals + 3 == len(caplog.records)


def test_a_message_id_that_was_recorded_meanwhile_loses_the_race():
    """Nothing of its Joint is written; run again, it is a redelivery."""

    class Rival(InMemoryTicketRepository):
        def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
            router(self).resolve(a_message(message_id="m", contact_id=11))
            return super().commit_many(joints)

    repository = Rival()
    found = router(repository).resolve_many([a_message(), a_message(message_id="m")])

    assert [Outcome.CREATED, Outcome.DUPLICATE] == [each.outcome for each in found]
    assert Reason.ROUTED_FOR_ANOTHER_CONTACT is found[1].reason
    assert {1: 11, 2: 10} == {ticket.id: ticket.contact_id for ticket in repository.tickets}


def test_a_blocked_message_ends_a_batch_where_it_stands():
    """What came before it is written, and the error names the ticket as it is there."""
    repository = InMemoryTicketRepository(unique_rule=UniqueRule.ONE_PER_CONTACT)

    with pytest.raises(BlockedBySchemaError) as caught:
        router(repository).resolve_many([a_message(), a_message(connection_id=200), a_message(contact_id=11)])

    assert repository.tickets == [caught.value.ticket]


def test_a_repository_may_have_its_batches_go_one_by_one():
    """They end alike."""
    batch = [a_message(), a_message()]

    assert router(InMemoryTicketRepository()).resolve_many(batch) == router(GoesOneByOne()).resolve_many(
        batch
    )


def test_a_reopened_ticket_is_active_for_the_messages_after_it():
    """The second message joins it, and tells what its first has changed."""
    repository = InMemoryTicketRepository([a_closed_ticket(closed_at=NOW - HOUR)])
    first, second = router(repository, Policy(reopen=Reopen.always())).resolve_many(
        [a_message(), a_message()]
    )

    assert (Outcome.REOPENED, Outcome.REUSED) == (first.outcome, second.outcome)
    assert first.change is not None
    assert ("closed", "pending") == (first.change.old_status, first.change.new_status)
    assert [evolve(first.ticket, unread_messages=5)] == [second.ticket] == repository.tickets


def test_a_message_id_is_not_known_where_none_is_remembered():
    """A host that dedupes by itself gets each message routed."""
    unremembered = Snapshot(active=[a_ticket()], remembers=False)
    planned = plan(
        given(a_message(message_id="m"), a_message(message_id="m"), snapshot=unremembered), StatusScheme()
    )

    assert [Outcome.REUSED, Outcome.REUSED] == [each.decision.outcome for each in planned.planned]


@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION])
def test_redeliveries_within_a_batch_are_answered_as_one_by_one(rule: UniqueRule):
    """An id that came before, that comes twice in the batch, or with another contact, has its first ticket again."""
    batch = [
        a_message(message_id="before"),
        a_message(message_id="new", contact_id=11),
        a_message(message_id="new", contact_id=11),
        a_message(message_id="new", contact_id=12),
        a_message(message_id="reopens"),
        a_message(message_id="reopens"),
        a_message(message_id="before"),
    ]
    policy = Policy(reopen=Reopen.always(keep_user=True))
    results = []
    for many in (True, False):
        memory = InMemoryTicketRepository([a_ticket()], unique_rule=rule)
        router = TicketRouter(memory, policy, clock=lambda: NOW)
        router.resolve(a_message(message_id="before"))
        router.close(1, 7)
        found = router.resolve_many(batch) if many else [router.resolve(message) for message in batch]
        results.append((found, memory.tickets))

    assert results[0] == results[1]
    duplicates = [each.outcome is Outcome.DUPLICATE for each in results[0][0]]
    assert duplicates == [True, False, True, True, False, True, True]


def test_a_batch_beyond_the_cap_is_refused_before_anything_is_read():
    """Whether or not the repository takes batches."""
    repository = Watched()

    with pytest.raises(InvalidMessageError, match=f"at most {MOST} messages at once") as caught:
        router(repository).resolve_many([a_message()] * (MOST + 1))

    assert ("messages", MOST + 1) == (caught.value.field, caught.value.value)
    assert [] == repository.calls
    assert MOST == len(router(GoesOneByOne()).resolve_many([a_message()] * MOST))


def test_keys_have_an_order_whatever_their_types():
    """Numbers, then texts, then UUIDs, field by field."""
    keys = [TicketKey(1, UUID(int=0), 1), TicketKey(1, "a", 2), TicketKey(1, 2, 3), TicketKey(1, 2, "1")]

    assert [keys[2], keys[3], keys[1], keys[0]] == sorted(keys, key=key_order)


def awaited(repository: InMemoryTicketRepository) -> AsyncTicketRouter:
    """Return the asynchronous router over the asynchronous face of a memory."""
    face = AsyncInMemoryTicketRepository()
    face._sync = repository
    return AsyncTicketRouter(face, clock=lambda: NOW)


@pytest.mark.parametrize("memory", [InMemoryTicketRepository, LosesFirst, GoesOneByOne])
@pytest.mark.parametrize("size", [1, 4])
def test_the_asynchronous_router_routes_a_batch_alike(memory: type[InMemoryTicketRepository], size: int):
    """Few messages or more, with a lost race or none, in a batch or one by one."""
    batch = [a_message(), a_message(connection_id=200), a_message(), a_message(contact_id=11)][:size]
    one, other = memory(), memory()

    assert router(one).resolve_many(batch) == asyncio.run(awaited(other).resolve_many(batch))
    assert one.tickets == other.tickets


def test_the_asynchronous_router_ends_a_blocked_batch_alike():
    """What came before the blocked message is written."""
    repository = InMemoryTicketRepository(unique_rule=UniqueRule.ONE_PER_CONTACT)
    batch = [a_message(), a_message(connection_id=200)]

    with pytest.raises(BlockedBySchemaError):
        asyncio.run(awaited(repository).resolve_many(batch))
    assert [KEY] == [ticket.key for ticket in repository.tickets]


def test_a_touch_is_of_the_key_of_its_message():
    """In a group chat that is the group's."""
    message = a_message(group_id=12)

    assert TicketKey(1, 12, KEY.connection_id) == touching(message, Policy(), NOW).key


# --- messages that join what is active on their keys, without a look before ------------------------------------

SIMPLE = (
    a_message(contact_id=11),
    a_message(),
    a_message(group_id=12),
    a_message(unread_messages=7),
    a_message(kind=MessageKind.ECHO),
    a_message(),
    a_message(contact_id=13, kind=MessageKind.NOTICE),
)
TANGLED = {
    "an id": (*SIMPLE, a_message(contact_id=14, message_id="m")),
    "another connection": (*SIMPLE, a_message(connection_id=200)),
    "by contact": SIMPLE,
}


def known() -> list[Ticket]:
    """Return an active ticket of two contacts, and one on another connection."""
    return [
        a_ticket(unread_messages=3),
        a_ticket(id=2, connection_id=200),
        a_ticket(id=3, contact_id=12, is_group=True),
    ]


def asked(messages: Sequence[InboundMessage], policy: Policy = Policy()) -> list[Any]:  # noqa: B008
    return [(message, policy, NOW) for message in messages]


@pytest.mark.parametrize("memory", [TouchesMany, TouchesNone])
@pytest.mark.parametrize("reopen", [Reopen.never(), Reopen.always()], ids=["never", "always"])
def test_messages_join_many_tickets_as_they_would_one_by_one(memory: type[TouchesMany], reopen: Reopen):
    """The same answers and tables, whether the repository touches all at once, or goes another way."""
    policy, tickets = Policy(reopen=reopen), [*known(), a_closed_ticket(id=4, contact_id=11)]
    alone, together = InMemoryTicketRepository(tickets), memory(tickets)
    expected = [router(alone, policy).resolve(message) for message in SIMPLE]

    assert expected == router(together, policy).resolve_many(SIMPLE)
    assert alone.tickets == together.tickets
    assert [[(1, 11, 100), (1, 10, 100), (1, 12, 100), (1, 13, 100)]] == [
        [run.key for run in runs] for runs in together.runs
    ]


def test_a_batch_of_known_tickets_is_one_touch():
    """Nothing is looked for, and nothing else is written."""

    class Only(TouchesMany):
        load_many = commit_many = None  # type: ignore[assignment]

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.load_many = self.commit_many = lambda _: pytest.fail("it was not needed")

    found = router(Only(known())).resolve_many([a_message(), a_message(group_id=12), a_message()])

    assert [4, 4, 5] == [each.ticket.unread_messages for each in found]
    assert [(2,), (), (2,)] == [tuple(other.id for other in each.other_active) for each in found]


@pytest.mark.parametrize("why", TANGLED)
def test_messages_that_depend_on_each_other_are_looked_for(why: str):
    """By a message id, by a contact's other connection, or by a policy that goes by contact."""
    policy = Policy(scope=Scope.CONTACT if why == "by contact" else Scope.CONNECTION)
    alone, together = InMemoryTicketRepository(known()), TouchesMany(known())
    expected = [router(alone, policy).resolve(message) for message in TANGLED[why]]

    assert runs_of(asked(TANGLED[why], policy)) is None
    assert expected == router(together, policy).resolve_many(TANGLED[why])
    assert [] == together.runs


@pytest.mark.parametrize("count", [0, 3])
def test_what_a_run_does_to_a_count_is_one_change(count: int):
    """What was set last, and what was added since; else what was added in all."""
    runs = runs_of(asked(SIMPLE))
    assert runs is not None
    for run in runs:
        after = count
        for step in run.steps:
            after = step.after(after)

        assert after == run.unread.after(count)


def test_a_count_that_one_message_sets_is_not_set_by_the_next():
    """Each message counts by itself, also those of a kind that was there before."""
    runs = runs_of(asked([a_message(unread_messages=7), a_message()]))

    assert [[Unread(7, add=1), Unread(add=1)]] == [run.steps for run in runs or ()]


def test_the_choices_of_each_key_count_for_its_messages():
    """A policy for each, and group chats by their own."""
    by_contact = Policy(scope=Scope.CONTACT)
    by_group = Policy(groups=by_contact)

    assert runs_of(asked([a_message(), a_message(contact_id=11)], by_group)) is not None
    assert runs_of(asked([a_message(), a_message(group_id=11)], by_group)) is None
    assert runs_of([*asked([a_message()]), *asked([a_message(contact_id=11)], by_contact)]) is None


@pytest.mark.parametrize(("reopen", "closed"), [(Reopen.never(), False), (Reopen.always(), True)])
def test_closed_tickets_count_where_the_policy_reopens(reopen: Reopen, closed: bool):
    """Elsewhere nobody has to look for them."""
    runs = runs_of(asked([a_message(), a_message(contact_id=11)], Policy(reopen=reopen)))

    assert [closed, closed] == [run.closed for run in runs or ()]


def test_what_was_touched_is_told(caplog: pytest.LogCaptureFixture):
    """A line for each message, as for one by one."""
    batch = [a_message(), a_message(contact_id=11), a_message()]
    with caplog.at_level(logging.DEBUG, logger="ticketrouter"):
        router(TouchesMany(known())).resolve_many(batch)
        together = [record.getMessage() for record in caplog.records]
        caplog.clear()
        one = router(InMemoryTicketRepository(known()))
        for message in batch:
            one.resolve(message)

    assert sorted(record.getMessage() for record in caplog.records) == sorted(together)


@pytest.mark.parametrize("batch", [SIMPLE, *TANGLED.values()], ids=["simple", *TANGLED])
def test_the_asynchronous_router_touches_alike(batch: Sequence[InboundMessage]):
    """The same answers, and the same tables."""
    one, other = TouchesMany(known()), TouchesMany(known())
    face = AsyncTouchesManyInMemory(other)
    found = asyncio.run(AsyncTicketRouter(face, clock=lambda: NOW).resolve_many(batch))

    assert router(one).resolve_many(batch) == found
    assert one.tickets == other.tickets
    assert one.runs == other.runs
