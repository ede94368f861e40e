"""An explanation is the decision itself, and every alternative is a decision too."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given

from tests.core.samples import NOW
from ticketrouter import (
    AsyncTicketRouter,
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    TicketRouter,
    UniqueRule,
)
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
