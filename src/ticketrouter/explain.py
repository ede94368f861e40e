"""Why a message would get the ticket it would get, and what would change that.

Law of this file: pure, and no rule of its own. Every alternative is `decide` itself, asked again about facts or
a policy that differ in one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from attrs import evolve, frozen

from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.errors import BlockedBySchemaError
from ticketrouter.model import InboundMessage, Outcome, Reason, Ticket, UniqueRule
from ticketrouter.policy import Create, Ignore, Snapshot, decide


@frozen
class Answer:
    """What would become of a message.

    Args:
        outcome: what would become of it; None: it would be refused, with BlockedBySchemaError.
        reason: the rule that decides; None where it would be refused.
        ticket: the ticket it would join or reopen, or that stands in the way; None: a new one, or none.
    """

    outcome: Outcome | None
    reason: Reason | None
    ticket: Ticket | None

    def __str__(self) -> str:
        named = "" if self.ticket is None else f" (ticket {self.ticket.id})"
        if self.outcome is None:
            return f"refused by the unique rule{named}"
        return f"{self.outcome}, {self.reason}{named}"


@frozen
class Alternative:
    """One thing that would change the answer, and the answer it would change to."""

    change: str
    answer: Answer


@frozen
class Explanation:
    """The answer that a message would get now, the facts it rests on, and what would change it.

    Args:
        answer: the answer.
        facts: what was found of the contact.
        policy: the Policy that holds for this message.
        alternatives: single things that would change the answer, as far as these facts tell.
    """

    answer: Answer
    facts: Snapshot
    policy: Policy
    alternatives: tuple[Alternative, ...]


def explain(message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime) -> Explanation:
    """Explain a decision without taking it.

    Args:
        message: the message.
        snapshot: what is known of its contact.
        policy: what the host has chosen.
        now: the present, with a time zone.

    Returns:
        The answer of `decide`, and every single change that would lead to another one.

    Raises:
        InvalidMessageError: if `now` has no time zone.
    """
    policy = policy.of(message)
    answer = _answer(message, snapshot, policy, now)
    others = (
        Alternative(change, _answer(other_message, other_snapshot, other_policy, now))
        for change, other_message, other_snapshot, other_policy in _variations(message, snapshot, policy)
    )
    return Explanation(answer, snapshot, policy, tuple(other for other in others if other.answer != answer))


def _answer(message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime) -> Answer:
    try:
        decision = decide(message, snapshot, policy, now)
    except BlockedBySchemaError as error:
        return Answer(None, None, error.ticket)
    ticket = None if isinstance(decision, Create | Ignore) else decision.ticket
    return Answer(decision.outcome, decision.reason, ticket)


def _variations(
    message: InboundMessage, snapshot: Snapshot, policy: Policy
) -> Iterator[tuple[str, InboundMessage, Snapshot, Policy]]:
    if snapshot.routed is not None:
        yield "a message id that is new here", message, evolve(snapshot, routed=None), policy
    for ticket in snapshot.active:
        rest = tuple(each for each in snapshot.active if each.id != ticket.id)
        yield f"ticket {ticket.id} not being active", message, evolve(snapshot, active=rest), policy
    if policy.effect(message) is Effect.ATTACH:
        opening = evolve(policy, effects={**policy.effects, message.kind: Effect.OPEN})
        yield f"a policy by which kind {message.kind} opens", message, snapshot, opening
    yield from _by_policy(message, snapshot, policy)
    if snapshot.unique_rule in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}:
        right = evolve(snapshot, unique_rule=UniqueRule.ACTIVE_PER_CONNECTION, occupant=None)
        yield "a unique rule on active tickets per connection", message, right, policy


def _by_policy(
    message: InboundMessage, snapshot: Snapshot, policy: Policy
) -> Iterator[tuple[str, InboundMessage, Snapshot, Policy]]:
    other = Scope.CONNECTION if policy.scope is Scope.CONTACT else Scope.CONTACT
    yield f"a policy with scope {other}", message, snapshot, evolve(policy, scope=other)
    keep = {"keep_user": policy.reopen.keep_user, "keep_queue": policy.reopen.keep_queue}
    for name, reopen in (("never", Reopen.never(**keep)), ("always", Reopen.always(**keep))):
        yield f"a policy that {name} reopens", message, snapshot, evolve(policy, reopen=reopen)
