"""Many messages at once over memory: the plan, its placeholders, and what becomes of a lost race."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count, repeat
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from tests.support.routers import Watched
from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
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
from ticketrouter.batch import MOST, Arrival, BatchPlan, Joint, lookups_of, plan
from ticketrouter.checks import Id
from ticketrouter.decisions import Create, Duplicate, Join, Lookup, MessageRef, Reuse, Unread
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.model import key_order


class LosesFirst(InMemoryTicketRepository):
    """Loses the race of the first thing that a batch is to write, to somebody who opens a ticket there."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        TicketRouter(self, clock=lambda: NOW).resolve(a_message())
        return super().commit_many(joints)


class GoesOneByOne(InMemoryTicketRepository):
    """Takes no batch, for a reason of its own."""

    def load_many(self, lookups: Sequence[Lookup]) -> None:
        del lookups


class Noting(InMemoryTicketRepository):
    """Notes which keys were asked for, and of which of them a message might join."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[tuple[Id, bool]] = []

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        self.asked += [(each.contact_id, each.join is not None) for each in lookups]
        return super().load_many(lookups)


class JoinsNone(Noting):
    """Lets nobody join while it looks."""

    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, join=None))


def router(repository: InMemoryTicketRepository, policy: Policy = Policy()) -> TicketRouter:  # noqa: B008
    return TicketRouter(repository, policy, clock=lambda: NOW)


def planned_of(
    *messages: InboundMessage,
    snapshot: Snapshot = Snapshot(),  # noqa: B008
    policy: Policy = Policy(),  # noqa: B008
) -> BatchPlan:
    return plan(asked(messages, policy), [snapshot] * len(messages), StatusScheme())


def asked(messages: Sequence[InboundMessage], policy: Policy = Policy()) -> list[Arrival]:  # noqa: B008
    return [(message, policy, NOW) for message in messages]


def test_what_several_messages_do_to_a_new_ticket_is_one_joint():
    """It is created once; the others only count."""
    planned = planned_of(a_message(message_id="a"), a_message(message_id="b"))

    (joint,) = planned.joints
    assert isinstance(joint.first, Create)
    assert (KEY, (Unread(None, 1),), ["a", "b"]) == (
        joint.key, joint.later, [ref.message_id for ref in joint.message_refs]
    )  # fmt: skip
    assert (1, 2) == (joint.first_count(7), joint.last_count(1))


def test_a_ticket_of_several_messages_is_created_for_the_first():
    """What a host's callbacks are told of a new ticket is the message that has opened it."""
    first, second = a_message(message_id="a"), a_message(message_id="b")
    (joint,) = planned_of(first, second).joints

    assert isinstance(joint.first, Create)
    assert joint.first.message is first
    assert [(first, NOW), (second, NOW)] == list(joint.messages)
    assert joint == evolve(joint, messages=())


def test_what_several_messages_do_to_a_known_ticket_is_one_joint():
    """The count is followed from the one that the row turns out to have."""
    snapshot = Snapshot(active=[a_ticket()])
    planned = planned_of(a_message(), a_message(unread_messages=5), a_message(), snapshot=snapshot)

    (joint,) = planned.joints
    assert isinstance(joint.first, Reuse)
    assert (KEY, 8, 6) == (joint.key, joint.first_count(7), joint.last_count(8))


def test_a_ticket_still_to_be_created_goes_by_a_placeholder():
    """Later decisions know it, as the newest of all."""
    planned = planned_of(a_message(), a_message(connection_id=200), a_message(connection_id=300))

    assert [(), (0,), (1, 0)] == [each.other_active for each in planned.planned]
    assert all(isinstance(ticket.id, UUID) for ticket in planned.planned[2].decision.other_active)


def test_what_writes_nothing_knows_the_placeholders_too():
    """An echo that is ignored, and a redelivery, tell what the batch has opened elsewhere."""
    first, other = a_message(message_id="a"), a_message(connection_id=200)
    echo = a_message(connection_id=300, kind=MessageKind.ECHO)
    planned = planned_of(first, other, echo, first)
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
    (planned,) = planned_of(a_message(message_id="m"), snapshot=snapshot).planned

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
        *asked([a_message()], Policy(reopen=Reopen.always())),
        *asked([a_message(connection_id=300)], Policy(scope=Scope.CONTACT)),
    ]
    planned = plan(batch, [seen, seen], StatusScheme())

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
    planned = planned_of(a_message(message_id="m"), a_message(message_id="m"), snapshot=unremembered)

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


# --- what others do between the look and the write ---------------------------------------------------------------

FIRST, AGAIN = a_message(message_id="first"), a_message(message_id="again")
Rivals = Callable[[InMemoryTicketRepository], object]


class Between(InMemoryTicketRepository):
    """Lets others act once, after a batch has looked and before it writes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rivals: list[Rivals] = []

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        rivals, self.rivals = self.rivals, []
        for act in rivals:
            act(self)
        return super().commit_many(joints)

    def ticket_of(self, message: InboundMessage) -> Ticket | None:
        """Return the ticket that a message id is recorded with."""
        key = message.key
        lookup = Lookup(key.company_id, key.contact_id, key.connection_id, message_id=message.message_id)
        return self.load(lookup).routed


def _close_all(memory: InMemoryTicketRepository) -> None:
    for ticket in memory.tickets:
        router(memory).close(ticket.company_id, ticket.id)


def _merge(memory: InMemoryTicketRepository) -> None:
    router(memory).merge_contacts(1, 10, 12)


def _reroute(message: InboundMessage) -> Rivals:
    return lambda memory: router(memory).resolve(evolve(message, contact_id=11))


RIVALS: dict[str, list[Rivals]] = {
    "closed": [_close_all],
    "merged": [_merge],
    "recorded": [_reroute(FIRST)],
    "closed and recorded": [_close_all, _reroute(FIRST)],
}


@pytest.mark.parametrize("kind", [MessageKind.MESSAGE, MessageKind.ECHO])
@pytest.mark.parametrize("rivals", RIVALS.values(), ids=RIVALS)
def test_a_redelivery_in_a_batch_gets_the_ticket_that_its_message_is_in(
    rivals: list[Rivals], kind: MessageKind
):
    """Whatever becomes of that ticket meanwhile, and of the message of the batch that was to join it."""
    memory = Between([a_ticket()])
    router(memory).resolve(AGAIN)
    memory.rivals = list(rivals)
    batch = [evolve(FIRST, kind=kind), AGAIN, evolve(FIRST, kind=kind)]
    _, known, _ = found = router(memory).resolve_many(batch)

    assert Outcome.DUPLICATE is known.outcome
    assert 7 == known.ticket.id
    for message, each in zip(batch, found, strict=True):
        told = None if each.outcome is Outcome.IGNORED else each.ticket.id
        recorded = memory.ticket_of(message)
        assert (None if recorded is None else recorded.id) == told


CONTACTS, CONNECTIONS = st.sampled_from([1, 1, 1, 2]), st.sampled_from([100, 100, 200])
SMALL = st.builds(
    InboundMessage,
    st.just(1),
    CONTACTS,
    CONNECTIONS,
    message_id=st.none() | st.sampled_from("ab"),
    kind=st.sampled_from([MessageKind.MESSAGE, MessageKind.MESSAGE, MessageKind.ECHO]),
)


def _resolving(message: InboundMessage) -> Rivals:
    return lambda memory: router(memory).resolve(message)


def _merging(contacts: list[int]) -> Rivals:
    return lambda memory: router(memory).merge_contacts(1, *contacts)


ACTS: st.SearchStrategy[Rivals] = st.one_of(
    st.just(_close_all),
    st.just(_close_all),
    st.builds(_resolving, SMALL),
    st.builds(_merging, st.lists(CONTACTS, min_size=2, max_size=2, unique=True)),
)


@settings(max_examples=200)
@drawn(
    before=st.lists(SMALL, min_size=1, max_size=3),
    batch=st.lists(SMALL, min_size=2, max_size=8),
    acts=st.lists(ACTS, min_size=1, max_size=2),
    policy=st.builds(
        Policy,
        scope=st.sampled_from(Scope),
        reopen=st.sampled_from([Reopen.never(), Reopen.never(), Reopen.always()]),
    ),
)
def test_every_answer_of_a_batch_is_the_ticket_that_is_recorded(
    before: list[InboundMessage], batch: list[InboundMessage], acts: list[Rivals], policy: Policy
):
    """Whatever others do in between; and what is open elsewhere is the contact's own, and named once."""
    memory = Between()
    for message in before:
        router(memory, policy).resolve(message)
    memory.rivals = acts
    found = router(memory, policy).resolve_many(batch)

    for message, each in zip(batch, found, strict=True):
        if each.outcome is not Outcome.IGNORED and message.message_id is not None:
            recorded = memory.ticket_of(message)
            assert recorded is not None
            assert each.ticket.id == recorded.id
        others = each.other_active
        assert len({other.id for other in others}) == len(others)
        assert all(other.contact_id == message.contact_id for other in others)


def test_a_batch_beyond_the_cap_is_refused_before_anything_is_read():
    """Whether or not the repository takes batches."""
    repository = Watched()

    with pytest.raises(InvalidMessageError, match=f"at most {MOST} messages at once") as caught:
        router(repository).resolve_many([a_message()] * (MOST + 1))

    assert ("messages", MOST + 1) == (caught.value.field, caught.value.value)
    assert [] == repository.calls
    assert MOST == len(router(GoesOneByOne()).resolve_many([a_message()] * MOST))


def test_no_more_is_taken_of_a_batch_than_tells_that_it_is_too_long():
    """Though it never ends."""
    repository, taken = Watched(), count()

    with pytest.raises(InvalidMessageError, match=f"at most {MOST} messages at once"):
        router(repository).resolve_many(a_message() for _ in taken)
    with pytest.raises(InvalidMessageError, match=f"at most {MOST} messages at once"):
        asyncio.run(awaited(InMemoryTicketRepository()).resolve_many(repeat(a_message())))

    assert MOST + 1 == next(taken)
    assert [] == repository.calls


@pytest.mark.parametrize("given", [None, 7, a_message(contact_id="5511999999999"), object()], ids=type)
def test_what_is_no_batch_is_refused(given: Any):
    """By its kind alone: a message names its contact."""
    refused = f"an iterable of InboundMessage, not '{type(given).__name__}'"

    with pytest.raises(InvalidMessageError, match=refused):
        router(Watched()).resolve_many(given)
    with pytest.raises(InvalidMessageError, match=refused):
        asyncio.run(awaited(InMemoryTicketRepository()).resolve_many(given))


@pytest.mark.parametrize("given", ["ab", [None], {7: a_message()}, [a_message(), "m"]], ids=str)
def test_a_batch_of_anything_but_messages_is_refused(given: Any):
    """Nothing of it is read or written."""
    repository = Watched()

    with pytest.raises(InvalidMessageError, match="message must be of type InboundMessage"):
        router(repository).resolve_many(given)
    assert [] == repository.calls


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


# --- messages that may join their tickets while they are looked for ----------------------------------------------

SIMPLE = (
    a_message(contact_id=11),
    a_message(),
    a_message(group_id=12),
    a_message(unread_messages=7),
    a_message(kind=MessageKind.ECHO),
    a_message(),
    a_message(contact_id=13, kind=MessageKind.NOTICE),
)
WITH_IDS = (
    a_message(message_id="a"),
    a_message(),
    a_message(message_id="a"),
    a_message(contact_id=11, message_id="b"),
    a_message(group_id=12, message_id="c"),
    a_message(contact_id=11, message_id="b"),
    a_message(contact_id=11, connection_id=100, message_id="d"),
)
TANGLED = {
    "an id of two contacts": (*WITH_IDS, a_message(contact_id=14, message_id="a")),
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


@pytest.mark.parametrize("memory", [Noting, JoinsNone])
@pytest.mark.parametrize("batch", [SIMPLE, WITH_IDS], ids=["simple", "with ids"])
@pytest.mark.parametrize("reopen", [Reopen.never(), Reopen.always()], ids=["never", "always"])
def test_messages_join_many_tickets_as_they_would_one_by_one(
    memory: type[Noting], batch: Sequence[InboundMessage], reopen: Reopen
):
    """The same answers and tables, whether the repository lets them join while it looks, or not; all are asked for once."""
    policy, tickets = Policy(reopen=reopen), [*known(), a_closed_ticket(id=4, contact_id=11)]
    alone, together = InMemoryTicketRepository(tickets), memory(tickets)
    expected = [router(alone, policy).resolve(message) for message in batch]

    assert expected == router(together, policy).resolve_many(batch)
    assert alone.tickets == together.tickets
    assert [(message.key.contact_id, True) for message in batch] == together.asked


def test_a_redelivery_is_told_its_ticket_as_the_message_before_it_has_left_it():
    """Before and after another message of its key has joined while all were looked for."""
    alone, together = InMemoryTicketRepository(known()), Noting(known())
    batch = [a_message(message_id="a"), a_message(message_id="b"), a_message(message_id="a")]
    for repository in (alone, together):
        router(repository).resolve(batch[0])
    found = router(together).resolve_many(batch)

    assert [router(alone).resolve(message) for message in batch] == found
    assert [4, 5, 5] == [each.ticket.unread_messages for each in found]


def test_a_redelivery_of_another_contact_is_told_the_ticket_as_it_was_then():
    """Though somebody joins it afterwards, and another redelivery makes that a matter of the plan."""
    batch = [a_message(contact_id=10), a_message(contact_id=11, connection_id=300, message_id="a"), a_message(group_id=12),
             a_message(group_id=12, message_id="a")]  # fmt: skip
    found = []
    for together in (False, True):
        repository = InMemoryTicketRepository(known())
        desk = router(repository)
        desk.resolve(a_message(group_id=12, connection_id=300, message_id="a"))
        desk.close(1, 3)
        desk.move_connection(1, 300, 100)
        found.append(desk.resolve_many(batch) if together else [desk.resolve(message) for message in batch])

    assert found[0] == found[1]
    assert [Outcome.REUSED, Outcome.DUPLICATE] * 2 == [each.outcome for each in found[0]]
    assert [1, 2] == [each.ticket.unread_messages for each in found[0][1:3]]


def test_who_is_left_after_others_of_its_key_have_joined_goes_on_from_there():
    """A store may let some of a key's messages join, and leave those after them."""

    class JoinsOne(InMemoryTicketRepository):
        def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
            first, *others = lookups
            return [self.load(first), *(self.load(evolve(each, join=None)) for each in others)]

    batch = [a_message(unread_messages=7), a_message(message_id="a"), a_message(), a_message(message_id="a")]
    alone, together = InMemoryTicketRepository(known()), JoinsOne(known())

    assert [router(alone).resolve(message) for message in batch] == router(together).resolve_many(batch)
    assert alone.tickets == together.tickets


def test_a_batch_of_known_tickets_is_one_look():
    """Nothing else is written."""

    class Only(InMemoryTicketRepository):
        def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
            pytest.fail("it was not needed")

    found = router(Only(known())).resolve_many([a_message(), a_message(group_id=12), a_message()])

    assert [4, 4, 5] == [each.ticket.unread_messages for each in found]
    assert [(2,), (), (2,)] == [tuple(other.id for other in each.other_active) for each in found]


def test_the_only_one_of_a_batch_without_a_ticket_is_written_alone():
    """It is looked for with the others, and then it goes as a message goes that comes alone."""

    class Only(Noting):
        def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
            pytest.fail("it was not needed")

        def load(self, lookup: Lookup) -> Snapshot:
            assert not lookup.overtaken
            return super().load(lookup)

    batch = [a_message(), a_message(contact_id=11), a_message(group_id=12)]
    repository = Only(known())
    found = router(repository).resolve_many(batch)

    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in found]
    assert [message.key for message in batch] == [each.ticket.key for each in found]
    assert 3 == len(repository.asked)


@pytest.mark.parametrize("why", TANGLED)
def test_messages_that_depend_on_each_other_join_nothing_yet(why: str):
    """By a message id of two contacts, by a contact's other connection, or by a policy that goes by contact."""
    policy = Policy(scope=Scope.CONTACT if why == "by contact" else Scope.CONNECTION)
    alone, together = InMemoryTicketRepository(known()), Noting(known())
    expected = [router(alone, policy).resolve(message) for message in TANGLED[why]]

    assert {None} == {lookup.join for lookup in lookups_of(asked(TANGLED[why], policy))}
    assert expected == router(together, policy).resolve_many(TANGLED[why])
    assert [(message.key.contact_id, False) for message in TANGLED[why]] == together.asked


def test_a_blocked_batch_keeps_who_has_joined():
    """They are not routed again, and the others go one by one up to the one that fails."""

    class JoinsAtOnce(InMemoryTicketRepository):
        def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
            return [self.load(lookup) for lookup in lookups]

    tickets = [a_ticket(), a_ticket(id=2, contact_id=11, connection_id=200)]
    repository = JoinsAtOnce(tickets, unique_rule=UniqueRule.ONE_PER_CONTACT)

    with pytest.raises(BlockedBySchemaError):
        router(repository).resolve_many([a_message(contact_id=12), a_message(contact_id=11), a_message()])
    assert [(1, 1), (2, 3), (7, 4)] == [(each.id, each.unread_messages) for each in repository.tickets]


def test_a_batch_that_was_blocked_when_it_was_looked_for_ends_well_where_it_is_no_longer():
    """Who has joined is told in its place, between those that went one by one."""

    class Blocked(InMemoryTicketRepository):
        def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
            rule, row = UniqueRule.ONE_PER_CONTACT, a_closed_ticket(id=9, contact_id=11, connection_id=200)
            return [self._in_the_way(self.load(each), each, rule, row) for each in lookups]

        def _in_the_way(self, found: Snapshot, lookup: Lookup, rule: UniqueRule, row: Ticket) -> Snapshot:
            return evolve(found, unique_rule=rule, occupant=row if lookup.contact_id == 11 else None)

    batch = [
        a_message(message_id="a"),
        a_message(message_id="b"),
        a_message(message_id="a"),
        a_message(contact_id=11),
    ]
    alone, together = InMemoryTicketRepository(known()), Blocked(known())
    for repository in (alone, together):
        router(repository).resolve(batch[0])

    expected, found = (
        [router(alone).resolve(message) for message in batch],
        router(together).resolve_many(batch),
    )
    assert [(each.outcome, each.ticket.key) for each in expected] == [
        (each.outcome, each.ticket.key) for each in found
    ]
    assert alone.tickets == together.tickets


def test_who_comes_after_a_blocked_message_has_not_joined():
    """In memory a batch ends where one by one it would have ended."""
    tickets = [a_ticket(), a_ticket(id=2, contact_id=11, connection_id=200)]
    repository = InMemoryTicketRepository(tickets, unique_rule=UniqueRule.ONE_PER_CONTACT)

    with pytest.raises(BlockedBySchemaError):
        router(repository).resolve_many([a_message(contact_id=12), a_message(contact_id=11), a_message()])
    assert [(1, 1), (2, 3), (7, 3)] == [(each.id, each.unread_messages) for each in repository.tickets]


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("first", [Unread(), Unread(add=1), Unread(7), Unread(7, add=1)], ids=str)
@pytest.mark.parametrize("later", [Unread(), Unread(add=2), Unread(0), Unread(9, add=1)], ids=str)
def test_what_two_messages_do_to_a_count_is_one_change(count: int, first: Unread, later: Unread):
    """What was set last, and what was added since; else what was added in all."""
    assert later.after(first.after(count)) == first.then(later).after(count)


def test_each_message_is_told_what_it_does():
    """A count that one message sets is not set by the next, and a redelivery is known by its id."""
    joins = [
        each.join for each in lookups_of(asked([a_message(unread_messages=7), a_message(message_id="m")]))
    ]

    assert [
        Join(NOW, Unread(7, add=1), wakes=True),
        Join(NOW, Unread(add=1), MessageRef(KEY, "m"), wakes=True),
    ] == joins


def test_the_choices_of_each_key_count_for_its_messages():
    """A policy for each, and group chats by their own."""
    by_contact = Policy(scope=Scope.CONTACT)
    by_group = Policy(groups=by_contact)

    def joins(arrivals: Sequence[Arrival]) -> bool:
        return all(each.join for each in lookups_of(arrivals))

    assert joins(asked([a_message(), a_message(contact_id=11)], by_group))
    assert not joins(asked([a_message(), a_message(group_id=11)], by_group))
    assert not joins([*asked([a_message()]), *asked([a_message(contact_id=11)], by_contact)])


@pytest.mark.parametrize(("reopen", "closed"), [(Reopen.never(), False), (Reopen.always(), True)])
def test_closed_tickets_count_where_the_policy_reopens(reopen: Reopen, closed: bool):
    """Elsewhere nobody has to look for them."""
    lookups = lookups_of(asked([a_message(), a_message(contact_id=11)], Policy(reopen=reopen)))

    assert [closed, closed] == [each.closed for each in lookups]


def test_who_has_joined_is_told(caplog: pytest.LogCaptureFixture):
    """A line for each message, as for one by one."""
    batch = [a_message(), a_message(contact_id=11), a_message()]
    with caplog.at_level(logging.DEBUG, logger="ticketrouter"):
        router(InMemoryTicketRepository(known())).resolve_many(batch)
        together = [record.getMessage() for record in caplog.records]
        caplog.clear()
        one = router(InMemoryTicketRepository(known()))
        for message in batch:
            one.resolve(message)

    assert sorted(record.getMessage() for record in caplog.records) == sorted(together)


@pytest.mark.parametrize("batch", [SIMPLE, WITH_IDS, *TANGLED.values()], ids=["simple", "with ids", *TANGLED])
def test_the_asynchronous_router_lets_them_join_alike(batch: Sequence[InboundMessage]):
    """The same answers, and the same tables."""
    one, face = InMemoryTicketRepository(known()), AsyncInMemoryTicketRepository(known())
    found = asyncio.run(AsyncTicketRouter(face, clock=lambda: NOW).resolve_many(batch))

    assert router(one).resolve_many(batch) == found
    assert one.tickets == face.tickets
