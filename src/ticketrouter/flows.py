"""Every operation of the routers, once: what it asks a store, one question after another, and what it makes of it.

Law of this file: nothing is asked here. An operation is a generator that yields its questions and is sent the answers;
`drive` puts them to a store whose answers are there at once, `adrive` to one whose answers are awaited. Of what a store
raises, the operation is told of lost races alone: all else goes straight to the caller. No rule
stands here, but for the answer to a message that has joined its ticket, which is what rule 2 would say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import methodcaller
from typing import Any, TypeAlias, TypeVar

from attrs import evolve

from ticketrouter import checks
from ticketrouter.batch import Arrival, BatchPlan, Joint, checked_batch, in_question, lookups_of, plan
from ticketrouter.checks import Id
from ticketrouter.choices import Policy
from ticketrouter.decisions import (
    Create,
    Decision,
    Duplicate,
    Ignore,
    Joined,
    Keep,
    Lookup,
    ReopenTicket,
    Reuse,
    Snapshot,
    Write,
)
from ticketrouter.errors import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    RepositoryError,
    TicketNotFoundError,
    TicketRouterError,
)
from ticketrouter.explain import Explanation, explain, refused
from ticketrouter.lifecycle import accept_ticket, close_ticket, open_ticket, reopen_ticket, transfer_ticket
from ticketrouter.log import log_answer, log_move, logger
from ticketrouter.model import (
    Change,
    InboundMessage,
    Outcome,
    Reason,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    altered,
    newest_first,
    trusted_resolution,
)
from ticketrouter.moves import Move, MovePlan, OnCollision, Survey, as_on_collision, plan_move
from ticketrouter.policy import decide
from ticketrouter.repository import AsyncTicketRepository, TicketRepository

__all__ = ["Clock", "PolicyChoice", "utc_now"]

PolicyChoice: TypeAlias = Policy | Callable[[InboundMessage], Policy]
"""One Policy for every message, or a function that has one for each; what the desk asks for needs none."""
Clock: TypeAlias = Callable[[], datetime]
"""What tells the present, with a time zone."""
MAX_ATTEMPTS = 1000
"""The most lost races in a row that a router may be told to bear: each holds the host's transaction open."""

_T = TypeVar("_T")
_Seen = TypeVar("_Seen")
_Answer = TypeVar("_Answer", bound=Decision | Write | Keep)

Question: TypeAlias = Callable[[Any], Any]
"""What is asked of a store: it calls one of its methods, and leaves no line of its own in a traceback."""
Flow: TypeAlias = Generator[Question, Any, _T]
"""An operation: it yields its questions, is sent each answer, and returns what the operation does."""

_WORTH_IT = 2
# To join them to a union anew for each message would cost more than the question.
_REFUSALS = (ActiveTicketExistsError, BlockedBySchemaError, ConflictError)
_WRITES_NOTHING = (Joined, Ignore, Duplicate, Keep)
# Python 3.11 looks a member of an enumeration up by a call.
_REUSED, _HERE = Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION


def utc_now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


# --- who asks ------------------------------------------------------------------------------------------------


def drive(flow: Flow[_T], store: TicketRepository) -> _T:
    """Run an operation over a store whose answers are there at once."""
    resume: Callable[[Any], Question] = flow.send
    given: Any = None
    while True:
        try:
            ask = resume(given)
        except StopIteration as end:
            answer: _T = end.value
            return answer
        try:
            resume, given = flow.send, ask(store)
        except ConflictError as error:
            resume, given = flow.throw, error


async def adrive(flow: Flow[_T], store: AsyncTicketRepository) -> _T:
    """Run an operation over a store whose answers are awaited."""
    resume: Callable[[Any], Question] = flow.send
    given: Any = None
    while True:
        try:
            ask = resume(given)
        except StopIteration as end:
            answer: _T = end.value
            return answer
        try:
            resume, given = flow.send, await ask(store)
        except ConflictError as error:
            resume, given = flow.throw, error


def _load(lookup: Lookup) -> Question:
    return methodcaller("load", lookup)


def _get(company_id: Id, ticket_id: Id, *, current: bool) -> Question:
    return methodcaller("get", company_id, ticket_id, current=current)


def _commit(decision: Write) -> Question:
    return methodcaller("commit", decision)


def _refusal(decision: Write) -> Question:
    return methodcaller("refusal", decision)


def _load_many(lookups: Sequence[Lookup]) -> Question:
    return methodcaller("load_many", lookups)


def _commit_many(joints: Sequence[Joint]) -> Question:
    return methodcaller("commit_many", joints)


def _survey_move(move: Move, *, claim: bool) -> Question:
    return methodcaller("survey_move", move, claim=claim)


def _commit_move(plan: MovePlan) -> Question:
    return methodcaller("commit_move", plan)


# --- what is asked -------------------------------------------------------------------------------------------


class Operations:
    """What a router does, over one store: see the methods of `TicketRouter`, which have the same names.

    Args:
        store: where the tickets are; it is asked for its words, and for its abilities, and for nothing else.
        policy: what the host has chosen, or a function from a message to that.
        clock: what tells the present.
        attempts: how many lost races in a row an operation answers with a fresh look.

    Raises:
        InvalidMessageError: if the policy or the clock is none, or `attempts` is no whole number from 1 to 1000.
    """

    def __init__(
        self,
        store: TicketRepository | AsyncTicketRepository,
        policy: PolicyChoice,
        clock: Clock,
        attempts: int,
    ) -> None:
        self._store = store
        # What `isinstance` would say of `Batches` and `MovesTickets`, ten times as fast.
        self._takes_batches = _has(store, "load_many", "commit_many")
        self._moves = _has(store, "survey_move", "commit_move")
        self._tells_refusals = _has(store, "refusal")
        self._policy = _checked_policy(policy)
        self._clock = _checked_clock(clock)
        self._attempts = _checked_attempts(attempts)

    def resolve(self, message: InboundMessage) -> Flow[Resolution]:
        """Find the ticket of a message."""
        _check(message, InboundMessage, "message")
        return self._resolve(message, self._policy_for(message), self._now())

    def resolve_many(self, messages: Iterable[InboundMessage]) -> Flow[list[Resolution]]:
        """Find the tickets of several messages."""
        batch = checked_batch(messages)
        policies = self._policies_for(batch)
        if not self._takes_batches or len(batch) < _WORTH_IT:
            return (yield from self._one_by_one(self._arriving(batch, policies)))
        arrivals = list(self._arriving(batch, policies))
        seen: list[Snapshot] | None = yield _load_many(lookups_of(arrivals))
        if seen is None:
            return (yield from self._one_by_one(arrivals))
        places = in_question(arrivals, seen)
        others = yield from self._resolve_left(
            [arrivals[each] for each in places], [seen[each] for each in places]
        )
        answers = dict(zip(places, others, strict=True))
        return [
            answers[place] if place in answers or ticket is None else _joined(ticket, each)
            for place, each in enumerate(seen)
            for ticket in (each.joined,)
        ]

    def explain(self, message: InboundMessage) -> Flow[Explanation]:
        """Say what would become of a message now."""
        _check(message, InboundMessage, "message")
        policy = self._policy_for(message)
        snapshot: Snapshot = yield _load(
            evolve(Lookup.of(message, policy), closed=True, claim=False, foresees=True)
        )
        now, statuses = self._now(), self._store.statuses
        found = explain(message, snapshot, policy, now, statuses)
        try:
            # What no look-up finds is met by the write, and a message id is recorded before a ticket is reopened.
            decision = decide(message, evolve(snapshot, blocked=False), policy, now, statuses)
        except BlockedBySchemaError:
            return found
        return refused(found, decision, (yield from self._refused(decision)))

    def find_active(self, key: TicketKey) -> Flow[Ticket | None]:
        """Find the active ticket of a key."""
        _check(key, TicketKey, "key")
        snapshot: Snapshot = yield _load(Lookup.at(key))
        return snapshot.active_on(key.connection_id)

    def active_tickets(self, company_id: Id, contact_id: Id) -> Flow[list[Ticket]]:
        """List what a contact has active."""
        snapshot: Snapshot = yield _load(Lookup(company_id, contact_id))
        return newest_first(snapshot.active)

    def ensure_can_open(self, key: TicketKey) -> Flow[None]:
        """Raise what `open` would raise now."""
        _check(key, TicketKey, "key")
        snapshot: Snapshot = yield _load(Lookup.at(key, foresees=True))
        refusal = yield from self._refused(self._opening(key)(snapshot, self._now()))
        if refusal is not None:
            raise refusal

    # --- the desk --------------------------------------------------------------------------------------------

    def open(
        self, key: TicketKey, *, is_group: bool, user_id: Id | None, queue_id: Id | None
    ) -> Flow[Ticket]:
        """Open a ticket from the desk's side."""
        _check(key, TicketKey, "key")
        _check(is_group, bool, "is_group")
        choose = self._opening(key, is_group=is_group, user_id=user_id, queue_id=queue_id)
        return self._asked_for(partial(_seen, Lookup.at(key, claim=True)), choose)

    def accept(self, company_id: Id, ticket_id: Id, user_id: Id) -> Flow[Ticket]:
        """Give a ticket to an agent."""
        checks.check_id("user_id", user_id)
        choose = partial(accept_ticket, user_id=user_id, statuses=self._store.statuses)
        return self._asked_for(_named(company_id, ticket_id), choose)

    def close(self, company_id: Id, ticket_id: Id, *, seen: Ticket | None) -> Flow[Ticket]:
        """Close a ticket."""
        look = _named(company_id, ticket_id)
        _check_seen(seen, company_id, ticket_id)
        choose = partial(close_ticket, seen=seen, statuses=self._store.statuses)
        return self._asked_for(look, choose)

    def reopen(self, company_id: Id, ticket_id: Id) -> Flow[Ticket]:
        """Reopen a ticket into its queue."""
        choose = partial(reopen_ticket, statuses=self._store.statuses)
        look = partial(_with_its_contact, _named(company_id, ticket_id), None)
        return self._asked_for(look, lambda seen, now: choose(*seen, now))

    def transfer(self, company_id: Id, ticket_id: Id, connection_id: Id) -> Flow[Ticket]:
        """Move an active ticket to another connection."""
        checks.check_id("connection_id", connection_id)
        choose = partial(transfer_ticket, connection_id=connection_id, statuses=self._store.statuses)
        look = partial(_with_its_contact, _named(company_id, ticket_id), connection_id)
        return self._asked_for(look, lambda seen, now: choose(*seen, now))

    # --- moves -----------------------------------------------------------------------------------------------

    def plan(self, move: Move, on_collision: OnCollision) -> Flow[MovePlan]:
        """Say what a move would do now."""
        on_collision = as_on_collision(on_collision)
        self._check_moves()
        survey: Survey = yield _survey_move(move, claim=False)
        return plan_move(move, survey, on_collision, self._now(), self._store.statuses)

    def move(self, move: Move, on_collision: OnCollision) -> Flow[MovePlan]:
        """Give all tickets of one contact, or on one connection, to another one."""
        on_collision = as_on_collision(on_collision)
        self._check_moves()
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            survey: Survey = yield _survey_move(move, claim=True)
            planned = plan_move(move, survey, on_collision, self._now(), self._store.statuses)
            try:
                yield _commit_move(planned)
            except ConflictError as error:
                lost = error
            else:
                log_move(planned)
                return planned
        raise self._gave_up() from lost

    # --- what they consist of --------------------------------------------------------------------------------

    def _resolve(self, message: InboundMessage, policy: Policy, now: datetime) -> Flow[Resolution]:
        lookup = Lookup.of(message, policy, now)
        seen: Snapshot = yield _load(lookup)
        if seen.joined is not None and seen.routed is None:
            return _joined(seen.joined, seen)  # what `decide` would say of nearly every message
        return (yield from self._decided(message, policy, now, lookup, seen))

    def _decided(
        self, message: InboundMessage, policy: Policy, now: datetime, lookup: Lookup, seen: Snapshot
    ) -> Flow[Resolution]:
        def look(*, overtaken: bool) -> Flow[Snapshot]:
            return (yield from _seen(lookup, overtaken=True)) if overtaken else seen

        choose = partial(_decide, message=message, policy=policy, statuses=self._store.statuses)
        return _resolution(*(yield from self._settled(look, choose, now)), self._store.statuses)

    def _one_by_one(self, arrivals: Iterable[Arrival]) -> Flow[list[Resolution]]:
        found: list[Resolution] = []
        for arrival in arrivals:
            found.append((yield from self._resolve(*arrival)))  # noqa: PERF401 - no comprehension yields
        return found

    def _resolve_left(self, arrivals: Sequence[Arrival], seen: Sequence[Snapshot]) -> Flow[list[Resolution]]:
        """Find the tickets of those messages of a batch that have joined none at once, and of others on their keys."""
        if not arrivals:
            return []
        if len(arrivals) < _WORTH_IT:
            [arrival], [found] = arrivals, seen
            return [(yield from self._decided(*arrival, Lookup.of(*arrival), found))]
        planned = _planned(arrivals, seen, self._store.statuses)
        if planned is None:
            left = [each for each, found in zip(arrivals, seen, strict=True) if found.joined is None]
            others = iter((yield from self._one_by_one(left)))
            return [next(others) if each.joined is None else _joined(each.joined, each) for each in seen]
        written: list[Ticket | None] = yield _commit_many(planned.joints)
        lost = planned.lost(written)
        again = yield from self._one_by_one([arrivals[place] for place in lost])
        return _resolutions(planned, written, dict(zip(lost, again, strict=True)), self._store.statuses)

    def _asked_for(
        self, look: Callable[..., Flow[_Seen]], choose: Callable[[_Seen, datetime], Write | Keep]
    ) -> Flow[Ticket]:
        return _with_change(*(yield from self._settled(look, choose)))

    def _settled(
        self,
        look: Callable[..., Flow[_Seen]],
        choose: Callable[[_Seen, datetime], _Answer],
        now: datetime | None = None,
    ) -> Flow[tuple[_Answer, Ticket | None]]:
        """Look, let a pure function choose, and have its answer carried out; again after a lost race."""
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            at, now = now or self._now(), None
            answer = yield from self._chosen(look, choose, at, overtaken=lost is not None)
            if isinstance(answer, _WRITES_NOTHING):
                return _told(answer, None if isinstance(answer, Ignore) else answer.ticket)
            try:
                ticket: Ticket = yield _commit(answer)
            except ConflictError as error:
                lost = error
            else:
                return _told(answer, ticket)
        raise self._gave_up() from lost

    def _chosen(
        self,
        look: Callable[..., Flow[_Seen]],
        choose: Callable[[_Seen, datetime], _Answer],
        at: datetime,
        *,
        overtaken: bool,
    ) -> Flow[_Answer]:
        """Look, and let a pure function choose: a refusal, and what stays as it is, rest on no dirty read."""
        seen = yield from look(overtaken=overtaken)
        is_certain = overtaken or not getattr(self._store, "reads_may_be_dirty", False)
        try:
            answer = choose(seen, at)
        except _REFUSALS:
            if is_certain:
                raise
        else:
            if is_certain or not isinstance(answer, Keep):
                return answer
        return choose((yield from look(overtaken=True)), at)

    def _refused(self, decision: Decision) -> Flow[TicketRouterError | None]:
        """Ask the store what it would refuse by itself of what would be written."""
        if not self._tells_refusals or isinstance(decision, _WRITES_NOTHING):
            return None
        refusal: TicketRouterError | None = yield _refusal(decision)
        return refusal

    def _opening(
        self,
        key: TicketKey,
        *,
        is_group: bool = False,
        user_id: Id | None = None,
        queue_id: Id | None = None,
    ) -> Callable[[Snapshot, datetime], Create | ReopenTicket]:
        statuses = self._store.statuses
        return partial(
            open_ticket, key=key, is_group=is_group, user_id=user_id, queue_id=queue_id, statuses=statuses
        )

    def _arriving(self, batch: Iterable[InboundMessage], policies: Iterable[Policy]) -> Iterator[Arrival]:
        return ((message, policy, self._now()) for message, policy in zip(batch, policies, strict=True))

    def _policies_for(self, batch: Sequence[InboundMessage]) -> list[Policy]:
        if isinstance(self._policy, Policy):
            return [self._policy] * len(batch)
        return [self._policy_for(message) for message in batch]

    def _policy_for(self, message: InboundMessage) -> Policy:
        if isinstance(self._policy, Policy):
            return self._policy
        chosen = self._policy(message)
        _check(chosen, Policy, "policy")
        return chosen

    def _now(self) -> datetime:
        return checks.as_utc("clock", self._clock())

    def _check_moves(self) -> None:
        if not self._moves:
            raise RepositoryError(
                "this repository cannot move tickets: it has no survey_move and commit_move"
            )

    def _gave_up(self) -> ContentionError:
        return ContentionError(f"gave up after {self._attempts} lost races in a row")


# --- looks ---------------------------------------------------------------------------------------------------


def _seen(lookup: Lookup, *, overtaken: bool) -> Flow[Snapshot]:
    snapshot: Snapshot = yield _load(lookup.again() if overtaken else lookup)
    return snapshot


def _named(company_id: Id, ticket_id: Id) -> Callable[..., Flow[Ticket]]:
    """Return the look for the ticket that a caller names."""
    checks.check_id("company_id", company_id)
    checks.check_id("ticket_id", ticket_id)

    def look(*, overtaken: bool) -> Flow[Ticket]:
        ticket: Ticket | None = yield _get(company_id, ticket_id, current=overtaken)
        if ticket is None:
            raise TicketNotFoundError(f"the company has no ticket {ticket_id!r}")
        return ticket

    return look


def _with_its_contact(
    look: Callable[..., Flow[Ticket]], connection_id: Id | None, *, overtaken: bool
) -> Flow[tuple[Ticket, Snapshot]]:
    """Look for a ticket, and for its contact on a connection; None: on its own."""
    ticket = yield from look(overtaken=overtaken)
    here = ticket.connection_id if connection_id is None else connection_id
    lookup = Lookup(ticket.company_id, ticket.contact_id, here, claim=True)
    return ticket, (yield from _seen(lookup, overtaken=overtaken))


# --- answers -------------------------------------------------------------------------------------------------


def _decide(
    snapshot: Snapshot, now: datetime, *, message: InboundMessage, policy: Policy, statuses: StatusScheme
) -> Decision:
    return decide(message, snapshot, policy, now, statuses)


def _planned(
    arrivals: Sequence[Arrival], seen: Sequence[Snapshot], statuses: StatusScheme
) -> BatchPlan | None:
    try:
        return plan(arrivals, seen, statuses)
    except BlockedBySchemaError:
        return None  # what comes before the message that fails is routed all the same, and it fails with what is there


def _resolutions(
    planned: BatchPlan,
    written: Sequence[Ticket | None],
    again: Mapping[int, Resolution],
    statuses: StatusScheme,
) -> list[Resolution]:
    answers = planned.carried_out(written, again)
    return [
        again[place] if place in again else _resolution(*_told(decision, ticket), statuses)
        for place, (decision, ticket) in enumerate(answers)
    ]


def _joined(ticket: Ticket, seen: Snapshot) -> Resolution:
    others = seen.active_elsewhere(ticket.connection_id) if seen.active else ()
    if logger.isEnabledFor(logging.DEBUG):
        log_answer(Joined(ticket, _HERE, others), ticket)
    return trusted_resolution(_REUSED, _HERE, others, ticket)


def _told(answer: _Answer, ticket: Ticket | None) -> tuple[_Answer, Ticket | None]:
    log_answer(answer, ticket)
    return answer, ticket


def _resolution(decision: Decision, ticket: Ticket | None, statuses: StatusScheme) -> Resolution:
    before = _before(decision, ticket, statuses)
    return trusted_resolution(decision.outcome, decision.reason, decision.other_active, ticket, before)


def _before(decision: Decision, ticket: Ticket | None, statuses: StatusScheme) -> Ticket | None:
    """Return the ticket before a message has changed more of it than count and time; None: it has not."""
    match decision:
        case ReopenTicket(ticket=seen):
            return seen
        case Reuse(ticket=seen) if ticket is not None and decision.woken(statuses) is not None:
            # Nothing but the status was demanded to be as it was seen, and nothing but that has been changed.
            return altered(ticket, status=seen.status)
        case _:
            return None


def _with_change(answer: Write | Keep, ticket: Ticket | None) -> Ticket:
    if ticket is None:
        raise AssertionError("only an ignored message has no ticket")
    match answer:
        case Keep():
            return ticket
        case Create():
            return altered(ticket, change=Change.between(None, ticket))
        case _:
            return altered(ticket, change=Change.between(answer.ticket, ticket))


# --- checks --------------------------------------------------------------------------------------------------


def _has(store: object, *names: str) -> bool:
    return all(callable(getattr(store, name, None)) for name in names)


def _check(value: object, kind: type[object], field: str) -> None:
    if not isinstance(value, kind):
        raise InvalidMessageError(field, value, f"of type {kind.__name__}")


def _check_seen(seen: Ticket | None, company_id: Id, ticket_id: Id) -> None:
    if seen is None:
        return
    _check(seen, Ticket, "seen")
    if (seen.company_id, seen.id) != (company_id, ticket_id):
        whose = f"ticket {seen.id!r} of company {seen.company_id!r}"
        raise InvalidMessageError("seen", whose, f"ticket {ticket_id!r} of company {company_id!r}")


def _checked_policy(policy: PolicyChoice) -> PolicyChoice:
    if not isinstance(policy, Policy) and not callable(policy):
        raise InvalidMessageError(
            "policy", policy, "a Policy, or a function from an InboundMessage to a Policy"
        )
    return policy


def _checked_clock(clock: Clock) -> Clock:
    if not callable(clock):
        raise InvalidMessageError("clock", clock, "a function that gives a datetime with a time zone")
    return clock


def _checked_attempts(attempts: object) -> int:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidMessageError("attempts", attempts, f"a whole number from 1 to {MAX_ATTEMPTS}")
    return attempts
