"""What a log of messages would have become under each of several policies.

Law of this file: time is the log's own. The clock of a replay stands at the latest `sent_at` so far and never
runs back. Every decision is a `TicketRouter`'s; here is only what it cannot know: that time has passed, which
message ids came before, and which closed tickets no message can meet again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from types import MappingProxyType
from typing import TypeAlias

from attrs import define, evolve, frozen

from ticketrouter import checks
from ticketrouter._unchecked import unchecked
from ticketrouter.checks import Id
from ticketrouter.choices import Policy
from ticketrouter.decisions import Create, Lookup, Snapshot, Write
from ticketrouter.errors import InvalidMessageError
from ticketrouter.flows import PolicyChoice
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.model import InboundMessage, Outcome, Reason, StatusScheme, Ticket, TicketKey
from ticketrouter.router import TicketRouter

__all__ = ["Answer", "Connection", "Peak", "Replay", "Step", "Totals", "UnorderedLogError"]

Connection: TypeAlias = tuple[Id, Id]
"""A company, and one of its connections."""

_OPENS = frozenset({Outcome.CREATED, Outcome.REOPENED})
_IGNORED, _DUPLICATE = Outcome.IGNORED, Outcome.DUPLICATE
_FEWEST_DROPPED = 1_000
"""From how many closed tickets on it is worth while to look which can be dropped."""
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class UnorderedLogError(InvalidMessageError):
    """A message of the log is much older than what stood before it: the log is not in the order of time."""


@frozen(weakref_slot=False)
class Answer:
    """What one policy made of a message.

    Args:
        outcome: what became of it.
        reason: the rule that decided.
        ticket_id: its ticket; None: it was ignored.
        connection_id: the connection of that ticket; None: it was ignored, or routed before.
    """

    outcome: Outcome
    reason: Reason
    ticket_id: Id | None
    connection_id: Id | None


_answer = unchecked(Answer)


@frozen(weakref_slot=False)
class Step:
    """One message of the log, and what each policy made of it.

    Args:
        message: the message.
        at: the time of the replay: the latest `sent_at` so far.
        answers: one answer for each policy, in their order.
        closed: for each policy the tickets that were closed since the step before, each at its `closed_at`.
    """

    message: InboundMessage
    at: datetime
    answers: tuple[Answer, ...]
    closed: tuple[tuple[Ticket, ...], ...]

    @property
    def differs(self) -> bool:
        """Whether two policies disagree on what became of the message, or on the reason."""
        first = self.answers[0]
        for each in self.answers:  # a loop, because every message of a long log is asked
            if each.outcome is not first.outcome or each.reason is not first.reason:
                return True
        return False


_step = unchecked(Step)


@frozen
class Peak:
    """The highest that a count has ever been.

    Args:
        count: how high.
        at: when first; None: it never was above zero.
    """

    count: int = 0
    at: datetime | None = None

    def or_higher(self, count: int, at: datetime) -> Peak:
        """Return the higher one of this and a count."""
        return Peak(count, at) if count > self.count else self


@frozen
class Totals:
    """What one policy made of the whole log.

    Args:
        outcomes: how many messages had each outcome, also those that none had.
        closed: how often a ticket was closed because it was idle.
        active: how many tickets are active at the end.
        longest: the most tickets active at once.
        longest_on: the same for each connection that had any.
        on_several: the most contacts that had tickets active on several connections at once.
        ever_on_several: how many contacts had that at any time.
    """

    outcomes: Mapping[Outcome, int]
    closed: int
    active: int
    longest: Peak
    longest_on: Mapping[Connection, Peak]
    on_several: Peak
    ever_on_several: int


class Replay:
    """Route a log of messages under each of several policies, in the time of the log.

    It keeps, for each policy, the active tickets and of each key the ticket closed last, as long as the policy
    may reopen it; of every message the id, as long as `remember` says; and a few counts for each connection and
    each contact that has something active or ever had it on several connections at once.

    Args:
        policies: the policies, by any names.
        close_after: a ticket that no message has joined for so long is closed at the end of that time; None:
            nothing is ever closed.
        late: how much older than the message before it a message may be; the time of the replay stands still
            for it. A redelivery may be of any age.
        remember: for how long at least a message id is known again; None: for ever.

    Raises:
        InvalidMessageError: if there is no policy, or a duration is none.
    """

    def __init__(
        self,
        policies: Mapping[str, PolicyChoice],
        *,
        close_after: timedelta | None = None,
        late: timedelta = timedelta(),
        remember: timedelta | None = None,
    ) -> None:
        if not policies:
            raise InvalidMessageError("policies", policies, "at least one policy")
        if close_after is not None:
            checks.check_duration("close_after", close_after)
        checks.check_duration("late", late)
        self._late = late
        self._at = _BEGINNING
        self._ids = _MessageIds(remember)
        self._lanes = {name: _Lane(policy, close_after) for name, policy in policies.items()}
        self._nothing: _Before = (None,) * len(self._lanes)

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies, in the order of every answer."""
        return tuple(self._lanes)

    @property
    def totals(self) -> dict[str, Totals]:
        """What each policy has made of the log so far."""
        return {name: lane.count.totals() for name, lane in self._lanes.items()}

    @property
    def kept(self) -> dict[str, int]:
        """How many tickets are kept for each policy: the active ones, and closed ones that may be reopened."""
        return {name: len(lane.tickets) for name, lane in self._lanes.items()}

    def route(self, message: InboundMessage) -> Step:
        """Route the next message of the log under every policy.

        Args:
            message: the message.

        Returns:
            What each policy made of it.

        Raises:
            InvalidMessageError: if the message has no `sent_at`; nothing was changed.
            UnorderedLogError: if it is older than what stood before it by more than `late`; nothing was changed.
        """
        place = _place_of(message)
        before = self._ids.find(place)
        self._at = at = self._time(message, redelivered=before is not None)
        # Which ids came before is known here, once for all policies.
        plain = message if place is None else _without_id(message)
        given = before or self._nothing
        closed: list[tuple[Ticket, ...]] = []
        answers: list[Answer] = []
        for lane, routed in zip(self._lanes.values(), given, strict=True):
            closed.append(lane.close_idle(at))
            answers.append(lane.route(plain, at, routed))
        if place is not None:
            self._ids.record(place, at, _given(message.key.contact_id, given, answers))
        return _step(message, at, tuple(answers), tuple(closed))

    def _time(self, message: InboundMessage, *, redelivered: bool) -> datetime:
        sent_at = message.sent_at
        if sent_at is None:
            raise InvalidMessageError("sent_at", None, "given: a replay has no other time")
        if sent_at < self._at and not redelivered and self._at - sent_at > self._late:
            expected = f"at most {self._late} before {self._at.isoformat()}, which stands before it"
            raise UnorderedLogError("sent_at", sent_at.isoformat(), expected)
        return max(sent_at, self._at)


_message = unchecked(InboundMessage)


def _without_id(message: InboundMessage) -> InboundMessage:
    plain = _message(
        message.company_id,
        message.contact_id,
        message.connection_id,
        group_id=message.group_id,
        sent_at=message.sent_at,
        unread_messages=message.unread_messages,
        kind=message.kind,
        data=message.data,
    )
    object.__setattr__(plain, "key", message.key)
    return plain


_Place: TypeAlias = tuple[Id, Id, Id]
_Routed: TypeAlias = tuple[Id, Id]
"""The ticket that a message id was given under one policy, and its contact."""
_Before: TypeAlias = tuple[_Routed | None, ...]


def _place_of(message: InboundMessage) -> _Place | None:
    if message.message_id is None:
        return None
    return message.company_id, message.connection_id, message.message_id


def _given(contact_id: Id, before: _Before, answers: Sequence[Answer]) -> _Before:
    """Return what an id has been given: the first ticket under each policy, which may differ."""
    given: list[_Routed | None] = []
    last: _Routed | None = None  # one pair for all policies in a row that have the same ticket
    for was, answer in zip(before, answers, strict=True):
        to = answer.ticket_id
        if was is not None or to is None:
            given.append(was)
        else:
            last = last if last is not None and last[0] == to else (to, contact_id)
            given.append(last)
    return tuple(given)


class _MessageIds:
    """Which message ids came before, and what ticket each was given under each policy.

    There are two generations of them: the young become the old ones when they are as old as is remembered, and
    the old ones are forgotten.
    """

    def __init__(self, remember: timedelta | None) -> None:
        if remember is not None:
            checks.check_duration("remember", remember)
        self._remember = remember
        self._since = _BEGINNING
        self._young: dict[_Place, _Before] = {}
        self._old: dict[_Place, _Before] = {}

    def find(self, place: _Place | None) -> _Before | None:
        """Return what the id was given before; None: it has not come before."""
        return None if place is None else self._young.get(place) or self._old.get(place)

    def record(self, place: _Place, at: datetime, given: _Before) -> None:
        """Remember what the id was given."""
        if self._remember is not None and at - self._since > self._remember:
            self._old, self._young, self._since = self._young, {}, at
        self._young[place] = given


@define
class _Clock:
    """A clock that stands where it is set."""

    at: datetime = _BEGINNING

    def __call__(self) -> datetime:
        return self.at


class _Lane:
    """The replay of one policy.

    Args:
        policy: the policy.
        close_after: how long a ticket is idle before it is closed; None: for ever.
    """

    def __init__(self, policy: PolicyChoice, close_after: timedelta | None) -> None:
        self.count = _Count()
        self.tickets = _Tickets(policy)
        self._clock = _Clock()
        self._router = TicketRouter(self.tickets, policy, clock=self._clock)
        self._close_after = close_after
        self._turn = count()
        # Each active ticket once, by the earliest time at which it may have been idle for long enough.
        self._idle: list[tuple[datetime, int, Id, Id]] = []

    def route(self, message: InboundMessage, at: datetime, routed: _Routed | None) -> Answer:
        """Route a message that has no id; `routed` says what the id was given that it had."""
        self._clock.at = at
        self.tickets.routed = routed
        found = self._router.resolve(message)
        outcome = found.outcome
        self.count.outcomes[outcome] += 1
        if outcome is _IGNORED:
            return _answer(outcome, found.reason, None, None)
        ticket = found.ticket
        if outcome in _OPENS:
            self.count.opened(ticket, at)
            if self._close_after is not None:
                self._watch(ticket, self._close_after)
        connection_id = None if outcome is _DUPLICATE else ticket.connection_id
        return _answer(outcome, found.reason, ticket.id, connection_id)

    def close_idle(self, now: datetime) -> tuple[Ticket, ...]:
        """Close what has been idle for long enough, each ticket at the time at which it had been."""
        if not self._idle or self._idle[0][0] > now or self._close_after is None:
            return ()
        closed: list[Ticket] = []
        while self._idle and self._idle[0][0] <= now:
            due, _, company_id, ticket_id = heappop(self._idle)
            ticket = self.tickets.get(company_id, ticket_id)
            assert ticket is not None  # noqa: S101 - an active ticket is never dropped
            if ticket.updated_at + self._close_after > due:
                self._watch(ticket, self._close_after)
                continue
            self._clock.at = due
            closed.append(self._router.close(company_id, ticket_id))
            self.count.closed(closed[-1])
        self.tickets.drop(now, len(closed))
        return tuple(closed)

    def _watch(self, ticket: Ticket, close_after: timedelta) -> None:
        heappush(
            self._idle, (ticket.updated_at + close_after, next(self._turn), ticket.company_id, ticket.id)
        )


class _Tickets:
    """The repository of one policy: in memory, and without the tickets that no message can meet again.

    Of the closed tickets of a key only the last closed one may ever be reopened: while it is active again, it is
    what a message meets, and when it is closed again, it is the last one again. An id names a person or a group,
    never both.
    """

    def __init__(self, policy: PolicyChoice) -> None:
        self.routed: _Routed | None = None
        self._windows = {groups: _window(policy, groups=groups) for groups in (False, True)}
        self._inner = InMemoryTicketRepository()
        self._created = 0
        self._closed = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def statuses(self) -> StatusScheme:
        return self._inner.statuses

    def load(self, lookup: Lookup) -> Snapshot:
        if self.routed is None:
            return self._inner.load(lookup)
        found = self._inner.load(evolve(lookup, join=None))
        return evolve(found, routed=_stand_in(lookup, self.routed))

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        return self._inner.get(company_id, ticket_id, current=current)

    def commit(self, decision: Write) -> Ticket:
        ticket = self._inner.commit(decision)
        if isinstance(decision, Create):
            self._created += 1
            self._size += 1
        return ticket

    def drop(self, now: datetime, closed: int) -> None:
        """Drop what can never be met again, once so much was closed that it is worth while to look."""
        self._closed += closed
        if self._closed < max(_FEWEST_DROPPED, self._size // 2):
            return
        kept: list[Ticket] = []
        last: dict[TicketKey, Ticket] = {}
        for ticket in self._inner.tickets:  # by id: of the closed ones of a key the highest was closed last
            if ticket.closed_at is None:
                kept.append(ticket)
            elif (window := self._windows[ticket.is_group]) and now - ticket.closed_at <= window:
                last[ticket.key] = ticket
        kept.extend(last.values())
        self._inner = InMemoryTicketRepository(kept, next_id=self._created + 1)
        self._closed, self._size = 0, len(kept)


def _window(policy: PolicyChoice, *, groups: bool) -> timedelta | None:
    """Return for how long a closed ticket may be reopened; what a function will answer is not known."""
    if not isinstance(policy, Policy):
        return timedelta.max
    return (policy.groups if groups and policy.groups is not None else policy).reopen.window


def _stand_in(lookup: Lookup, routed: _Routed) -> Ticket:
    """Return the ticket of an id that came before: nothing but its ids matters, and it may have been dropped."""
    ticket_id, contact_id = routed
    assert lookup.connection_id is not None  # noqa: S101 - a message has one
    return Ticket(
        id=ticket_id,
        company_id=lookup.company_id,
        contact_id=contact_id,
        connection_id=lookup.connection_id,
        status="closed",
        is_group=False,
        unread_messages=0,
        user_id=None,
        queue_id=None,
        created_at=_BEGINNING,
        updated_at=_BEGINNING,
        closed_at=_BEGINNING,
    )


class _Count:
    """What is counted of one policy."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self._closed = 0
        self._active = 0
        self._longest = Peak()
        self._active_on: Counter[Connection] = Counter()
        self._longest_on: dict[Connection, Peak] = {}
        self._active_of: Counter[tuple[Id, Id]] = Counter()
        self._several: set[tuple[Id, Id]] = set()
        self._ever_several: set[tuple[Id, Id]] = set()
        self._on_several = Peak()

    def opened(self, ticket: Ticket, at: datetime) -> None:
        """Count a ticket that has become active."""
        connection, contact = (
            (ticket.company_id, ticket.connection_id),
            (ticket.company_id, ticket.contact_id),
        )
        self._active += 1
        self._longest = self._longest.or_higher(self._active, at)
        self._active_on[connection] += 1
        self._longest_on[connection] = self._longest_on.get(connection, Peak()).or_higher(
            self._active_on[connection], at
        )
        self._active_of[contact] += 1
        if self._active_of[contact] > 1:
            self._several.add(contact)
            self._ever_several.add(contact)
            self._on_several = self._on_several.or_higher(len(self._several), at)

    def closed(self, ticket: Ticket) -> None:
        """Count a ticket that is no longer active."""
        contact = ticket.company_id, ticket.contact_id
        self._closed += 1
        self._active -= 1
        self._active_on[ticket.company_id, ticket.connection_id] -= 1
        self._active_of[contact] -= 1
        if self._active_of[contact] == 1:
            self._several.remove(contact)
        elif self._active_of[contact] == 0:
            del self._active_of[contact]

    def totals(self) -> Totals:
        return Totals(
            outcomes=MappingProxyType(dict(self.outcomes)),
            closed=self._closed,
            active=self._active,
            longest=self._longest,
            longest_on=MappingProxyType(dict(self._longest_on)),
            on_several=self._on_several,
            ever_on_several=len(self._ever_several),
        )
