"""Why a message would get the ticket it would get, and what would change that.

Law of this file: pure, and no rule of its own. Every alternative is `decide` itself, asked again about facts or
a policy that differ in one thing, or the words of the statuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from attrs import evolve, frozen

from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.decisions import Create, Decision, Ignore, Reuse, Snapshot
from ticketrouter.errors import BlockedBySchemaError, TicketRouterError
from ticketrouter.model import InboundMessage, Outcome, Reason, StatusScheme, Ticket, UniqueRule
from ticketrouter.policy import decide

__all__ = ["Alternative", "Answer", "Explanation", "explain"]


@frozen
class Answer:
    """What would become of a message.

    Args:
        outcome: what would become of it; None: it would be refused, with `refusal`, or else with BlockedBySchemaError.
        reason: the rule that decides; None where it would be refused.
        ticket: the ticket it would join or reopen, or that stands in the way; None: a new one, or none.
        wakes_to: the status that the ticket would get, where the message would wake it; None: it would not.
        refusal: the error that the repository would raise before it writes anything, as for a message of a company that
            the table is not of; None: it would not.
        merged: the columns by whose collation the database takes the ids of the row in the way for those of the message.
    """

    outcome: Outcome | None
    reason: Reason | None
    ticket: Ticket | None
    wakes_to: str | None = None
    refusal: TicketRouterError | None = None
    merged: tuple[str, ...] = ()

    def __str__(self) -> str:
        woken = "" if self.wakes_to is None else f", which wakes to {self.wakes_to!r}"
        named = "" if self.ticket is None else f" (ticket {self.ticket.id}{woken})"
        if self.refusal is not None:
            return f"refused: {self.refusal}"
        if self.outcome is None:
            by = f"the collation of {', '.join(self.merged)}" if self.merged else "the unique rule"
            return f"refused by {by}{named}"
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


def refused(found: Explanation, decision: Decision, refusal: TicketRouterError | None) -> Explanation:
    """Return an explanation whose answer the repository would refuse; None: it would not.

    Args:
        found: the explanation.
        decision: what would be carried out, where a row that no look-up finds is met by the write only.
        refusal: what the repository says of it.
    """
    if refusal is None:
        return found
    if isinstance(refusal, BlockedBySchemaError):
        if found.answer.outcome is None and isinstance(decision, Create):
            return found  # its row is written before its message id
        answer = Answer(None, None, refusal.ticket, merged=refusal.merged)
        apart = Alternative(f"a collation of {', '.join(refusal.merged)} that tells ids apart", found.answer)
        return evolve(found, answer=answer, alternatives=(apart,))
    answer = Answer(None, None, found.answer.ticket, refusal=refusal)
    return evolve(found, answer=answer, alternatives=())


@frozen
class _Case:
    """All that `decide` is told, but the time."""

    message: InboundMessage
    snapshot: Snapshot
    policy: Policy
    statuses: StatusScheme


def explain(
    message: InboundMessage,
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
) -> Explanation:
    """Explain a decision without taking it.

    Args:
        message: the message.
        snapshot: what is known of its contact.
        policy: what the host has chosen.
        now: the present, with a time zone.
        statuses: the host's words.

    Returns:
        The answer of `decide`, and every single change that would lead to another one.

    Raises:
        InvalidMessageError: if `now` has no time zone.
    """
    case = _Case(message, snapshot, policy.of(message), statuses)
    answer = _answer(case, now)
    others = (Alternative(change, _answer(other, now)) for change, other in _variations(case))
    return Explanation(answer, snapshot, case.policy, tuple(each for each in others if each.answer != answer))


def _answer(case: _Case, now: datetime) -> Answer:
    try:
        decision = decide(case.message, case.snapshot, case.policy, now, case.statuses)
    except BlockedBySchemaError as error:
        return Answer(None, None, error.ticket, merged=error.merged)
    ticket = None if isinstance(decision, Create | Ignore) else decision.ticket
    woken = decision.woken(case.statuses) if isinstance(decision, Reuse) else None
    return Answer(decision.outcome, decision.reason, ticket, woken)


def _variations(case: _Case) -> Iterator[tuple[str, _Case]]:
    message, snapshot, policy = case.message, case.snapshot, case.policy
    if snapshot.routed is not None:
        yield "a message id that is new here", _seeing(case, routed=None)
    for ticket in snapshot.active:
        rest = tuple(each for each in snapshot.active if each.id != ticket.id)
        yield f"ticket {ticket.id} not being active", _seeing(case, active=rest)
    if policy.effect(message) is Effect.ATTACH:
        opening = evolve(policy, effects={**policy.effects, message.kind: Effect.OPEN})
        yield f"a policy by which kind {message.kind} opens", evolve(case, policy=opening)
    yield from _by_policy(case)
    if snapshot.merged:
        apart = _seeing(case, occupant=None, blocked=False, merged=())
        yield f"a collation of {', '.join(snapshot.merged)} that tells ids apart", apart
    elif snapshot.blocked or snapshot.unique_rule in {
        UniqueRule.ONE_PER_CONNECTION,
        UniqueRule.ONE_PER_CONTACT,
    }:
        rule = UniqueRule.ACTIVE_PER_CONNECTION
        right = _seeing(case, unique_rule=rule, occupant=None, blocked=False)
        yield "a unique rule on active tickets per connection", right
    yield from _by_words(case)


def _by_policy(case: _Case) -> Iterator[tuple[str, _Case]]:
    policy = case.policy
    other = Scope.CONNECTION if policy.scope is Scope.CONTACT else Scope.CONTACT
    yield f"a policy with scope {other}", evolve(case, policy=evolve(policy, scope=other))
    for name, other_window in (("never", Reopen.never()), ("always", Reopen.always())):
        reopen = evolve(policy.reopen, window=other_window.window)
        yield f"a policy that {name} reopens", evolve(case, policy=evolve(policy, reopen=reopen))


def _by_words(case: _Case) -> Iterator[tuple[str, _Case]]:
    """Give what would be if the scheme had other ideas of the words of the tickets that no message reopens."""
    snapshot, statuses = case.snapshot, case.statuses
    found = {ticket.id: ticket for ticket in (snapshot.unknown, snapshot.in_the_way()) if ticket is not None}
    for ticket in found.values():
        word = ticket.status
        if word in statuses.final:
            closed = evolve(
                statuses, final=statuses.final - {word}, also_closed=statuses.also_closed | {word}
            )
            yield (
                f"a scheme in which {word!r} is not final (ticket {ticket.id})",
                evolve(case, statuses=closed),
            )
        if word in statuses.known:
            continue
        active = _seeing(case, active=(*snapshot.active, ticket))
        yield f"a scheme whose active words have {word!r} (ticket {ticket.id})", active
        last = snapshot.latest_closed if snapshot.unknown is None else snapshot.unknown
        closed = evolve(statuses, also_closed=statuses.also_closed | {word})
        yield (
            f"a scheme whose closed words have {word!r} (ticket {ticket.id})",
            evolve(_seeing(case, latest_closed=last), statuses=closed),
        )


def _seeing(case: _Case, **facts: Any) -> _Case:
    return evolve(case, snapshot=evolve(case.snapshot, **facts))
