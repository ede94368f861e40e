"""An explanation is the decision itself, and every alternative is a decision too."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve
from hypothesis import given

from tests.support.samples import NOW, a_closed_ticket, a_ticket
from tests.support.words import WORDS
from ticketrouter import (
    AsyncTicketRouter,
    BlockedBySchemaError,
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    Ticket,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
    decide,
)
from ticketrouter.decisions import Close, Create, Lookup, Snapshot, Write
from ticketrouter.explain import Alternative, Answer, Explanation, explain
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.testing import strategies as these

HERE = InboundMessage(1, "c", 10)
THERE = InboundMessage(1, "c", 13)


def told(found: Explanation) -> list[str]:
    return [f"{other.change}: {other.answer}" for other in found.alternatives]


def test_says_what_would_happen_and_what_would_change_it() -> None:
    """A new ticket is explained by the closed one that was not reopened, and the one that is elsewhere."""
    router = TicketRouter(InMemoryTicketRepository())
    closed = router.close(1, router.resolve(HERE).ticket.id)
    elsewhere = router.resolve(THERE).ticket
    found = router.explain(HERE)

    assert Answer(Outcome.CREATED, Reason.NO_ACTIVE_TICKET, None) == found.answer
    assert ((elsewhere,), closed) == (found.facts.active, found.facts.latest_closed)
    assert (
        Alternative(
            "a policy with scope contact", Answer(Outcome.REUSED, Reason.ACTIVE_FOR_CONTACT, elsewhere)
        ),
        Alternative(
            "a policy that always reopens", Answer(Outcome.REOPENED, Reason.WITHIN_REOPEN_WINDOW, closed)
        ),
    ) == found.alternatives


def test_writes_nothing() -> None:
    """After an explanation the tickets are as they were, and the message id is still new."""
    repository = InMemoryTicketRepository()
    router = TicketRouter(repository)
    message = InboundMessage(1, "c", 10, message_id="m")
    router.explain(message)

    assert repository.tickets == []
    assert router.resolve(message).outcome is Outcome.CREATED


def test_a_redelivery_is_explained_by_its_id() -> None:
    """What would change a duplicate is a message id that is new here."""
    router = TicketRouter(InMemoryTicketRepository())
    message = InboundMessage(1, "c", 10, message_id="m")
    router.resolve(message)

    assert ["a message id that is new here: reused, active_on_connection (ticket 1)"] == told(
        router.explain(message)
    )


def test_an_ignored_message_is_explained_by_its_kind() -> None:
    """What would change an ignored echo is a policy by which echoes open."""
    router = TicketRouter(InMemoryTicketRepository())
    echo = InboundMessage(1, "c", 10, kind=MessageKind.ECHO)

    assert ["a policy by which kind echo opens: created, no_active_ticket"] == told(router.explain(echo))


def test_a_refusal_is_explained_by_the_unique_rule() -> None:
    """Where the schema leaves no room, the answer is the refusal, and the right rule would change it."""
    router = TicketRouter(InMemoryTicketRepository(unique_rule=UniqueRule.ONE_PER_CONTACT))
    router.resolve(THERE)
    found = router.explain(HERE)

    assert "refused by the unique rule (ticket 1)" == str(found.answer)
    assert [
        "a policy with scope contact: reused, active_for_contact (ticket 1)",
        "a unique rule on active tickets per connection: created, no_active_ticket",
    ] == told(found)


def test_a_row_that_no_look_up_finds_is_explained() -> None:
    """Nothing of it is told but that the right rule would let the message by."""
    found = explain(HERE, Snapshot(blocked=True), Policy(), NOW)

    assert "refused by the unique rule" == str(found.answer)
    assert ["a unique rule on active tickets per connection: created, no_active_ticket"] == told(found)


def test_the_one_row_of_a_key_is_explained() -> None:
    """Where one row per key is allowed, the right rule would give a new ticket."""
    router = TicketRouter(InMemoryTicketRepository(unique_rule=UniqueRule.ONE_PER_CONNECTION))
    router.close(1, router.resolve(HERE).ticket.id)

    assert "a unique rule on active tickets per connection: created, no_active_ticket" in told(
        router.explain(HERE)
    )


def test_an_active_ticket_is_explained_by_itself() -> None:
    """A message that joins would get a new ticket if that one were not active."""
    router = TicketRouter(InMemoryTicketRepository(), Policy(scope=Scope.CONTACT, reopen=Reopen.always()))
    router.resolve(HERE)

    assert ["ticket 1 not being active: created, no_active_ticket"] == told(router.explain(HERE))


def test_it_says_that_a_ticket_would_wake() -> None:
    """A message that may open a ticket wakes the one that it joins; of an echo it is said that it would if it could."""
    tickets = [a_ticket(7, contact_id="c", connection_id=10, status="snoozed")]
    router = TicketRouter(InMemoryTicketRepository(tickets, statuses=WORDS))
    echo = evolve(HERE, kind="echo")

    assert "reused, active_on_connection (ticket 7, which wakes to 'open')" == str(
        router.explain(HERE).answer
    )
    assert "reused, active_on_connection (ticket 7)" == str(router.explain(echo).answer)
    assert (
        "a policy by which kind echo opens: reused, active_on_connection (ticket 7, which wakes to 'open')"
        in told(router.explain(echo))
    )


def test_it_says_what_would_be_if_a_word_were_not_final() -> None:
    """The only row allowed would be reopened; and where there is room, a final ticket is no fact at all."""
    tickets = [a_closed_ticket(7, contact_id="c", connection_id=10, status="spam")]
    blocked = InMemoryTicketRepository(tickets, unique_rule=UniqueRule.ONE_PER_CONNECTION, statuses=WORDS)
    found = TicketRouter(blocked).explain(HERE)

    assert "refused by the unique rule (ticket 7)" == str(found.answer)
    assert (
        "a scheme in which 'spam' is not final (ticket 7): reopened, only_ticket_allowed (ticket 7)"
        in told(found)
    )
    assert TicketRouter(InMemoryTicketRepository(tickets, statuses=WORDS)).explain(HERE).facts.unknown is None


def test_the_policy_of_groups_is_explained_in_groups() -> None:
    """In a group chat it is the Policy of groups that is told."""
    groups = Policy(reopen=Reopen.always())
    router = TicketRouter(InMemoryTicketRepository(), Policy(groups=groups))
    found = router.explain(InboundMessage(1, "c", 10, group_id="g"))

    assert groups == found.policy


def test_the_asynchronous_router_explains_the_same() -> None:
    """Both routers give the same explanation."""
    sync = TicketRouter(InMemoryTicketRepository(), clock=lambda: NOW)
    other = AsyncTicketRouter(AsyncInMemoryTicketRepository(), clock=lambda: NOW)
    sync.resolve(HERE)
    asyncio.run(other.resolve(HERE))

    assert sync.explain(THERE) == asyncio.run(other.explain(THERE))


@pytest.mark.parametrize("bad", [None, "message", 1])
def test_only_a_message_is_explained(bad: object) -> None:
    """Anything but an InboundMessage is refused."""
    with pytest.raises(ValueError, match="message must be of type InboundMessage"):
        TicketRouter(InMemoryTicketRepository()).explain(bad)  # type: ignore[arg-type]


@given(message=these.messages(), policy=these.policies())
def test_the_answer_is_what_the_router_then_does(message: InboundMessage, policy: Policy) -> None:
    """What is explained is what happens next, and no alternative is the answer itself."""
    repository = InMemoryTicketRepository()
    router = TicketRouter(repository, policy, clock=lambda: NOW)
    router.close(message.company_id, router.open(message.key).id)
    found = router.explain(message)
    done = router.resolve(message)

    assert (done.outcome, done.reason) == (found.answer.outcome, found.answer.reason)
    assert found.answer not in [other.answer for other in found.alternatives]
    assert explain(message, found.facts, policy, NOW).answer == found.answer


class MappingLikeError(TicketRouterError):
    """As an adapter has one."""


class WithoutAgents(InMemoryTicketRepository):
    """It refuses by itself what is for an agent, and says so beforehand."""

    refused = MappingLikeError("no column for the agent")

    def refusal(self, decision: Write) -> TicketRouterError | None:
        return self.refused if isinstance(decision, Create) else None


def test_what_the_repository_would_refuse_is_told() -> None:
    """Whatever the rules say, and nothing else would change it; who asks whether it could open is told by the error."""
    repository = WithoutAgents()
    router = TicketRouter(repository)
    found = router.explain(HERE)
    with pytest.raises(MappingLikeError, match="no column for the agent"):
        router.ensure_can_open(HERE.key)
    repository.commit(Create(HERE.key, NOW, Reason.NO_ACTIVE_TICKET))
    joined = router.explain(HERE)

    assert Answer(None, None, None, refusal=repository.refused) == found.answer
    assert () == found.alternatives
    assert "refused: no column for the agent" == str(found.answer)
    assert Outcome.REUSED == joined.answer.outcome


class TakesIdsForOne(InMemoryTicketRepository):
    """It takes a message id for another one, and, where it is told so, has a row in the way that no look-up finds."""

    is_blocked = False
    refused = BlockedBySchemaError(None, UniqueRule.ACTIVE_PER_CONNECTION, ("ids.connection_id",))

    def load(self, lookup: Lookup) -> Snapshot:
        seen = super().load(lookup)
        return evolve(seen, blocked=True, merged=("desk.contact_id",)) if self.is_blocked else seen

    def refusal(self, decision: Write) -> TicketRouterError | None:
        return self.refused


def test_a_message_id_that_is_taken_for_another_one_is_told() -> None:
    """As what refuses the message, whatever would become of it; a new row is written before its id, and refused before."""
    repository = TakesIdsForOne()
    router = TicketRouter(repository, Policy(reopen=Reopen.always()))
    new = router.explain(HERE)
    repository.is_blocked = True
    blocked = router.explain(HERE)
    ticket = repository.commit(Create(HERE.key, NOW, Reason.NO_ACTIVE_TICKET))
    joined = router.explain(HERE)
    repository.commit(Close(ticket, NOW))
    reopened = router.explain(HERE)
    by_id = Answer(None, None, None, merged=("ids.connection_id",))
    by_row = Answer(None, None, None, merged=("desk.contact_id",))

    assert [by_id, by_row, by_id, by_id] == [each.answer for each in (new, blocked, joined, reopened)]
    assert [Alternative("a collation of ids.connection_id that tells ids apart", by_row)] == [
        *reopened.alternatives
    ]
    assert Outcome.REUSED is joined.alternatives[0].answer.outcome


@pytest.mark.parametrize("occupant", [None, a_ticket()], ids=["a row that is not ours", "a ticket"])
def test_a_collation_that_takes_ids_for_one_is_named(occupant: Ticket | None) -> None:
    """As what refuses the message, and as what would have to change; the error says it in full."""
    snapshot = Snapshot(occupant=occupant, blocked=True, merged=("desk.contact_id",))
    found = explain(HERE, snapshot, Policy(), NOW)
    with pytest.raises(BlockedBySchemaError) as refused:
        decide(HERE, snapshot, Policy(), NOW)
    row = "another row" if occupant is None else f"ticket {occupant.id}"

    assert str(found.answer).startswith("refused by the collation of desk.contact_id")
    assert "a collation of desk.contact_id that tells ids apart: created, no_active_ticket" in told(found)
    assert f"the collation of desk.contact_id takes the id that {row} has there" in str(refused.value)
