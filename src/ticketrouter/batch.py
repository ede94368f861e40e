"""Many messages at once: `decide` asked about each in turn, over snapshots that change as it answers.

Law of this file: as in `ticketrouter.policy`, values and pure functions, and no rule of its own. What several
messages do to one ticket becomes one Joint, the only thing that is written; a ticket that is still to be created
goes by a placeholder until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeAlias, assert_never
from uuid import UUID

from attrs import define, evolve, field, frozen

from ticketrouter.checks import Id
from ticketrouter.choices import Policy, Scope
from ticketrouter.decisions import (
    AsKept,
    Create,
    Decision,
    Duplicate,
    Ignore,
    Joined,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Snapshot,
    Unread,
    applied,
    as_written,
    created,
    trusted_snapshot,
)
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import (
    InboundMessage,
    Outcome,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    altered,
    bumped,
    key_order,
    newest_first,
)
from ticketrouter.policy import decide

__all__ = ["MOST", "Joint"]

MOST = 10_000
"""The most messages that `resolve_many` takes: a batch is one transaction, whose locks others wait for."""

_PLACEHOLDERS = 0x6B1D5F0C93A84E27A5E0_0000_0000_0000
"""What the ids of tickets still to be created begin with: no id of a host's, and the highest where ids tell."""

_WRITTEN = {Outcome.CREATED, Outcome.REOPENED, Outcome.REUSED}
"""What leaves a ticket active, with the message in it."""

Arrival: TypeAlias = tuple[InboundMessage, Policy, datetime]
"""A message, what the host has chosen for it, and when it came."""
_Contact: TypeAlias = tuple[Id, Id]
_Place: TypeAlias = tuple[Id, Id, Id]
_Ticket: TypeAlias = Ticket | int
"""A ticket as it was found, or as the message at that place leaves it."""


@frozen
class Joint:
    """What several messages of a batch, one after another, do to one ticket.

    Args:
        first: what was decided for the first of them.
        at: when the last of them came.
        later: what becomes of the count with each of the others.
        message_refs: the message ids to be recorded with the ticket.
        wakes: whether one of the others wakes the ticket, which must then be as it was seen, as for `Reuse`.
        messages: the messages themselves, each with when it came, for a host's callbacks.
    """

    first: Create | ReopenTicket | Reuse
    at: datetime
    later: tuple[Unread, ...] = ()
    message_refs: tuple[MessageRef, ...] = ()
    wakes: bool = False
    messages: tuple[tuple[InboundMessage, datetime], ...] = field(default=(), eq=False, repr=False)

    @property
    def key(self) -> TicketKey:
        """The key of the ticket."""
        return self.first.key if isinstance(self.first, Create) else self.first.ticket.key

    def first_count(self, before: int) -> int:
        """Return the count after the first message, from the count before it."""
        if isinstance(self.first, Create):
            return self.first.unread_messages
        return self.first.unread.after(before)

    def last_count(self, count: int) -> int:
        """Return the count after the last message, from the count after the first."""
        for unread in self.later:
            count = unread.after(count)
        return count

    def last_status(self, status: str, statuses: StatusScheme) -> str:
        """Return the word after the last message, from the word after the first.

        Args:
            status: the word after the first.
            statuses: the host's words.
        """
        return statuses.woken(status) if self.wakes else status

    def is_as_seen(self, status: str, statuses: StatusScheme) -> bool:
        """Tell whether these messages wake a ticket of this status as they would have woken it when it was seen.

        Args:
            status: the word of a known ticket as it is now.
            statuses: the host's words.
        """
        if isinstance(self.first, Reuse) and (self.first.wakes or self.wakes):
            return statuses.wakes_alike(self.first.ticket.status, status)
        return True


@frozen
class Planned:
    """What is to become of one message of a batch.

    Args:
        decision: the decision, in which tickets of this batch may be placeholders.
        ticket: the ticket that it joins, where it writes nothing itself; None: it is ignored, or writes.
        other_active: what the contact has active on other connections.
        joint: which Joint it is part of; None: it writes nothing.
        step: how many messages of that Joint come before it.
        as_kept: what the store gives back of the ticket with it.
    """

    decision: Decision
    at: datetime
    ticket: _Ticket | None = None
    other_active: tuple[_Ticket, ...] = ()
    joint: int | None = None
    step: int = 0
    as_kept: AsKept = field(default=as_written, eq=False, repr=False)


@frozen
class BatchPlan:
    """What is to become of a batch: an answer for each message, and what is to be written."""

    planned: tuple[Planned, ...]
    joints: tuple[Joint, ...]
    statuses: StatusScheme

    def lost(self, written: Sequence[Ticket | None]) -> list[int]:
        """Return the places of the messages that must be looked at again, in the order in which.

        They are those whose Joint has lost a race, by key, and then the redeliveries that were to be answered with
        its ticket: where those belong, nobody knows before.
        """
        lost = {number for number, ticket in enumerate(written) if ticket is None}
        writers = [
            (key_order(self.joints[planned.joint].key), place)
            for place, planned in enumerate(self.planned)
            if planned.joint in lost and planned.joint is not None
        ]
        redelivered = [
            place
            for place, planned in enumerate(self.planned)
            if isinstance(planned.ticket, int) and self.planned[planned.ticket].joint in lost
        ]
        return [place for _, place in sorted(writers)] + redelivered

    def carried_out(
        self, written: Sequence[Ticket | None], instead: Mapping[int, Resolution]
    ) -> list[tuple[Decision, Ticket | None]]:
        """Return each message's decision and ticket, with the tickets as they are.

        Args:
            written: for each Joint its ticket, as its first message left it; None: it has lost a race.
            instead: what became of those that were looked at again, by place.
        """
        tickets: dict[int, Ticket] = {}
        answers: list[tuple[Decision, Ticket | None]] = []
        states = {number: ticket for number, ticket in enumerate(written) if ticket is not None}

        def real(ticket: _Ticket) -> Ticket | None:
            return tickets.get(ticket) if isinstance(ticket, int) else ticket

        for place, planned in enumerate(self.planned):
            decision, ticket = planned.decision, None
            if place in instead:
                if instead[place].outcome in _WRITTEN:
                    tickets[place] = instead[place].ticket
            elif planned.joint is not None:
                ticket = tickets[place] = states[planned.joint] = self._after(
                    planned, self.joints[planned.joint], states[planned.joint]
                )
            elif planned.ticket is not None:
                ticket = real(planned.ticket)
            if isinstance(decision, Duplicate) and ticket is not None:
                decision = evolve(decision, ticket=ticket)
            if planned.other_active:
                decision = evolve(decision, other_active=_elsewhere(planned, map(real, planned.other_active)))
            answers.append((decision, ticket))
        return answers

    def _after(self, planned: Planned, joint: Joint, before: Ticket) -> Ticket:
        """Return a ticket as a message leaves it, from how the one before it did; the first finds it written."""
        if planned.step == 0:
            return before
        count = joint.later[planned.step - 1].after(before.unread_messages)
        after = planned.as_kept(bumped(before, count, planned.at))
        return altered(after, status=self.statuses.woken(after.status)) if _wakes(planned.decision) else after


def lookups_of(arrivals: Sequence[Arrival]) -> list[Lookup]:
    """Return what must be known of each message of a batch, which may join its ticket at once if it waits for no other.

    It waits for none where each depends only on those before it that have its key: then a store may let them join,
    whatever becomes of the others.
    """
    joining = _keep_apart(arrivals)
    return [Lookup.of(message, policy, now if joining else None) for message, policy, now in arrivals]


def in_question(arrivals: Sequence[Arrival], seen: Sequence[Snapshot]) -> list[int]:
    """Return the places of those messages that have not joined their tickets, and of all others on their keys."""
    keys = {arrival[0].key for arrival, each in zip(arrivals, seen, strict=True) if each.joined is None}
    return [place for place, arrival in enumerate(arrivals) if arrival[0].key in keys] if keys else []


def _keep_apart(arrivals: Sequence[Arrival]) -> bool:
    """Tell whether no contact writes on two connections, or has them in common, and none shares an id with another."""
    connections: dict[_Contact, Id] = {}
    contacts: dict[_Place, Id] = {}
    for message, policy, _ in arrivals:
        key, message_id = message.key, message.message_id
        company_id, contact_id, here = key.company_id, key.contact_id, key.connection_id
        if policy.of(message).scope is not Scope.CONNECTION:
            return False
        if connections.setdefault((company_id, contact_id), here) != here:
            return False
        if message_id is None:
            continue
        if contacts.setdefault((company_id, here, message_id), contact_id) != contact_id:
            return False
    return True


def checked_batch(messages: Iterable[InboundMessage]) -> list[InboundMessage]:
    """Return the messages of a batch, of which no more are taken than tell that there are too many.

    Raises:
        InvalidMessageError: if it cannot be iterated over, if one of them is no message, or if there are more than
            `MOST`.
    """
    try:
        each = iter(messages)
    except TypeError:
        kind = type(messages).__name__
        raise InvalidMessageError("messages", kind, "an iterable of InboundMessage") from None
    batch = list(islice(each, MOST + 1))
    if len(batch) > MOST:
        raise InvalidMessageError("messages", len(batch), f"at most {MOST} messages at once")
    for message in batch:
        if not isinstance(message, InboundMessage):
            raise InvalidMessageError("message", message, f"of type {InboundMessage.__name__}")
    return batch


def plan(arrivals: Sequence[Arrival], seen: Sequence[Snapshot], statuses: StatusScheme) -> BatchPlan:
    """Decide on messages of a batch, each as if those before it had been written.

    Args:
        arrivals: the messages.
        seen: a Snapshot for each, taken before the first is written, but for those that have joined on the way.
        statuses: the host's words.

    Raises:
        BlockedBySchemaError: as `decide`; nothing has been written.
    """
    folding = _Folding(statuses)
    for snapshot in seen:
        folding.see(snapshot)
    for arrival, snapshot in zip(arrivals, seen, strict=True):
        folding.add(arrival, snapshot)
    joints = tuple(growing.joint for growing in folding.growing)
    return BatchPlan(tuple(folding.planned), joints, statuses)


def _wakes(decision: Decision) -> bool:
    return isinstance(decision, Reuse) and decision.wakes


def _elsewhere(planned: Planned, found: Iterable[Ticket | None]) -> tuple[Ticket, ...]:
    """Return what is active on other connections: of what was looked at again, what is still on its key."""
    pairs = zip(found, planned.decision.other_active, strict=True)
    others = {ticket.id: ticket for ticket, seen in pairs if ticket is not None and ticket.key == seen.key}
    return tuple(newest_first(others.values()))


@define
class _Growing:
    """A Joint to which later messages may still be added."""

    first: Create | ReopenTicket | Reuse
    at: datetime
    later: list[Unread]
    message_refs: list[MessageRef]
    messages: list[tuple[InboundMessage, datetime]]
    wakes: bool = False

    @property
    def joint(self) -> Joint:
        found = tuple(self.later), tuple(self.message_refs), self.wakes, tuple(self.messages)
        return Joint(self.first, self.at, *found)


class _Folding:
    """The tickets as they are after the messages so far: it lives as long as one call of `plan`."""

    def __init__(self, statuses: StatusScheme) -> None:
        self._statuses = statuses
        self._tickets: dict[Id, Ticket] = {}
        self._kept: set[Id] = set()
        self._active: dict[_Contact, dict[Id, None]] = {}
        self._last: dict[Id, int] = {}
        self._joint_of: dict[Id, int] = {}
        self._routed: dict[_Place, Id] = {}
        self._only: dict[_Contact, Id] = {}
        self.planned: list[Planned] = []
        self.growing: list[_Growing] = []

    def see(self, snapshot: Snapshot) -> None:
        for ticket in snapshot.active:
            self._tickets.setdefault(ticket.id, ticket)
            self._active.setdefault((ticket.company_id, ticket.contact_id), {})[ticket.id] = None

    def add(self, arrival: Arrival, seen: Snapshot) -> None:
        message, policy, now = arrival
        decision = decide(message, self._now(message, seen), policy, now, self._statuses)
        others = tuple(self._as_it_is(ticket) for ticket in decision.other_active)
        match decision:
            case Ignore():
                self.planned.append(Planned(decision, now, None, others))
            case Duplicate():
                self.planned.append(Planned(decision, now, self._as_it_is(decision.ticket), others))
            case Joined(ticket=ticket):
                self.planned.append(Planned(decision, now, ticket, others))
                self._keep(ticket)
            case Create() | ReopenTicket() | Reuse():
                self._write(decision, others, seen.as_kept)
            case _:
                assert_never(decision)

    def _now(self, message: InboundMessage, seen: Snapshot) -> Snapshot:
        """Return the Snapshot as it would be if the messages so far had been written."""
        key = message.key
        contact = key.company_id, key.contact_id
        routed, occupant = seen.routed, seen.occupant
        if message.message_id is not None and seen.remembers:
            place = key.company_id, key.connection_id, message.message_id
            routed = self._tickets[self._routed[place]] if place in self._routed else routed
        if seen.unique_rule is UniqueRule.ONE_PER_CONTACT and occupant is None and contact in self._only:
            occupant = self._tickets[self._only[contact]]
        return trusted_snapshot(
            active=tuple([self._tickets[each] for each in self._active.get(contact, ())]),
            latest_closed=seen.latest_closed,
            occupant=self._changed(occupant),
            routed=self._changed(routed),
            unique_rule=seen.unique_rule,
            joined=seen.joined,
            counts=seen.counts,
        )

    def _changed(self, ticket: Ticket | None) -> Ticket | None:
        """Return a ticket as the messages so far have left it; what none of them has changed is as it was seen."""
        return self._tickets[ticket.id] if ticket is not None and ticket.id in self._kept else ticket

    def _keep(self, ticket: Ticket) -> None:
        self._tickets[ticket.id] = ticket
        self._kept.add(ticket.id)
        self._active.setdefault((ticket.company_id, ticket.contact_id), {})[ticket.id] = None

    def _write(
        self, decision: Create | ReopenTicket | Reuse, others: tuple[_Ticket, ...], as_kept: AsKept
    ) -> None:
        place = len(self.planned)
        ticket = as_kept(self._written(decision))
        refs = [] if decision.message_ref is None else [decision.message_ref]
        messages = [] if decision.message is None else [(decision.message, decision.at)]
        number, step = self._joint_of.setdefault(ticket.id, len(self.growing)), 0
        if isinstance(decision, Create) or number == len(self.growing):
            self.growing.append(_Growing(decision, decision.at, [], refs, messages))
        else:
            growing = self.growing[number]
            growing.at = decision.at
            growing.later.append(decision.unread)
            growing.message_refs += refs
            growing.wakes |= _wakes(decision)
            growing.messages += messages
            step = len(growing.later)
        self.planned.append(Planned(decision, decision.at, None, others, number, step, as_kept))
        self._keep(ticket)
        self._last[ticket.id] = place
        for ref in refs:
            self._routed[ref.key.company_id, ref.key.connection_id, ref.message_id] = ticket.id

    def _written(self, decision: Create | ReopenTicket | Reuse) -> Ticket:
        if not isinstance(decision, Create):
            return applied(decision, decision.ticket, self._statuses)
        ticket = created(decision, UUID(int=_PLACEHOLDERS + len(self.growing)), self._statuses)
        self._only[ticket.company_id, ticket.contact_id] = ticket.id
        return ticket

    def _as_it_is(self, ticket: Ticket) -> _Ticket:
        return self._last.get(ticket.id, ticket)
