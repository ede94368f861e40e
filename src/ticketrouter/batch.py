"""Many messages at once: `decide` asked about each in turn, over snapshots that change as it answers.

Law of this file: as in `ticketrouter.policy`, values and pure functions, and no rule of its own. What several
messages do to one ticket becomes one Joint, the only thing that is written; a ticket that is still to be created
goes by a placeholder until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias, assert_never
from uuid import UUID

from attrs import define, evolve, frozen

from ticketrouter.checks import Id
from ticketrouter.choices import Policy, Scope
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import (
    InboundMessage,
    MessageKind,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    bumped,
    key_order,
    newest_first,
)
from ticketrouter.policy import (
    Create,
    Decision,
    Duplicate,
    Ignore,
    MessageRef,
    Reopen,
    Reuse,
    Snapshot,
    Unread,
    counting,
    decide,
    trusted_snapshot,
)
from ticketrouter.unchecked import unchecked

MOST = 10_000
"""The most messages that `resolve_many` takes: a batch is one transaction, whose locks others wait for."""

_PLACEHOLDERS = 0x6B1D5F0C93A84E27A5E0_0000_0000_0000
"""What the ids of tickets still to be created begin with: no id of a host's, and the highest where ids tell."""

Asked: TypeAlias = tuple[InboundMessage, Policy, datetime]
"""A message, what the host has chosen for it, and when it came."""
_Contact: TypeAlias = tuple[Id, Id]
_Place: TypeAlias = tuple[Id, Id, Id]
_Ticket: TypeAlias = Ticket | int
"""A ticket as it was found, or as the message at that place leaves it."""


@frozen
class Given:
    """One message of a batch, and all that `decide` is told of it."""

    message: InboundMessage
    snapshot: Snapshot
    policy: Policy
    now: datetime


@frozen
class Joint:
    """What several messages of a batch, one after another, do to one ticket.

    Args:
        first: what was decided for the first of them.
        at: when the last of them came.
        later: what becomes of the count with each of the others.
        message_refs: the message ids to be recorded with the ticket.
    """

    first: Create | Reopen | Reuse
    at: datetime
    later: tuple[Unread, ...] = ()
    message_refs: tuple[MessageRef, ...] = ()

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


@frozen
class Planned:
    """What is to become of one message of a batch.

    Args:
        decision: the decision, in which tickets of this batch may be placeholders.
        ticket: the ticket that it joins, where it writes nothing itself; None: it is ignored, or writes.
        other_active: what the contact has active on other connections.
        joint: which Joint it is part of; None: it writes nothing.
        step: how many messages of that Joint come before it.
    """

    decision: Decision
    at: datetime
    ticket: _Ticket | None = None
    other_active: tuple[_Ticket, ...] = ()
    joint: int | None = None
    step: int = 0


@frozen
class Plan:
    """What is to become of a batch: an answer for each message, and what is to be written."""

    planned: tuple[Planned, ...]
    joints: tuple[Joint, ...]

    def lost(self, written: Sequence[Ticket | None]) -> list[int]:
        """Return the places of the messages whose Joint has lost a race, by key."""
        lost = [
            (key_order(self.joints[planned.joint].key), place)
            for place, planned in enumerate(self.planned)
            if planned.joint is not None and written[planned.joint] is None
        ]
        return [place for _, place in sorted(lost)]

    def carried_out(
        self, written: Sequence[Ticket | None], instead: Mapping[int, Ticket | None]
    ) -> list[tuple[Decision, Ticket | None]]:
        """Return each message's decision and ticket, with the tickets as they are.

        Args:
            written: for each Joint its ticket, as its first message left it; None: it has lost a race.
            instead: the tickets of the messages of those that have, by place.
        """
        tickets: list[Ticket | None] = []
        answers: list[tuple[Decision, Ticket | None]] = []
        states = {number: ticket for number, ticket in enumerate(written) if ticket is not None}

        def real(ticket: _Ticket) -> Ticket | None:
            return tickets[ticket] if isinstance(ticket, int) else ticket

        for place, planned in enumerate(self.planned):
            decision = planned.decision
            if place in instead:
                ticket = instead[place]
            elif planned.joint is None:
                ticket = None if planned.ticket is None else real(planned.ticket)
            else:
                ticket = states[planned.joint] = self._after(
                    planned, self.joints[planned.joint], states[planned.joint]
                )
            if isinstance(decision, Duplicate) and ticket is not None:
                decision = evolve(decision, ticket=ticket)
            if planned.other_active:
                others = [found for each in planned.other_active if (found := real(each)) is not None]
                decision = evolve(decision, other_active=tuple(newest_first(others)))
            tickets.append(ticket)
            answers.append((decision, ticket))
        return answers

    @staticmethod
    def _after(planned: Planned, joint: Joint, before: Ticket) -> Ticket:
        """Return a ticket as a message leaves it, from how the one before it did; the first finds it written."""
        if planned.step == 0:
            return before
        count = joint.later[planned.step - 1].after(before.unread_messages)
        return bumped(before, count, planned.at)


@frozen(weakref_slot=False)
class Run:
    """Messages of a batch on one key, one after another, which all join its active ticket if there is one.

    None of them has an id, and the contact writes on no other connection in this batch.

    Args:
        key: the key.
        places: where they stand in the batch.
        steps: what becomes of the count with each.
        times: when each came.
        closed: whether a closed ticket counts where there is no active one.
    """

    key: tuple[Id, Id, Id]
    places: list[int]
    steps: list[Unread]
    times: list[datetime]
    closed: bool = True

    @property
    def unread(self) -> Unread:
        """What becomes of the count with all of them."""
        if len(self.steps) == 1:
            return self.steps[0]
        set_to, add = None, 0
        for step in self.steps:
            set_to, add = (step.set_to, 0) if step.set_to is not None else (set_to, add + step.add)
        return Unread(None, add) if set_to is None else Unread(set_to + add)


trusted_run: type[Run] = unchecked(Run)


@frozen(weakref_slot=False)
class Joined:
    """What became of a Run that met its ticket.

    Args:
        tickets: the ticket as each message left it.
        other_active: what the contact has active on other connections, newest first.
    """

    tickets: Sequence[Ticket]
    other_active: tuple[Ticket, ...] = ()


trusted_joined: type[Joined] = unchecked(Joined)


def runs_of(asked: Sequence[Asked]) -> list[Run] | None:
    """Return the Runs that a batch consists of; None: some of its messages depend on each other in other ways."""
    runs: dict[_Contact, Run] = {}
    counted: dict[tuple[int, MessageKind, bool], tuple[Unread, bool]] = {}
    for place, (message, policy, now) in enumerate(asked):
        if message.message_id is not None:
            return None
        connection_id, group_id = message.connection_id, message.group_id
        kind = id(policy), message.kind, group_id is None
        known = counted.get(kind)
        if known is None:
            chosen = policy.of(message)
            if chosen.scope is not Scope.CONNECTION:
                return None
            unread = counting(evolve(message, unread_messages=None), policy)
            known = counted[kind] = unread, chosen.reopen.window is not None
        unread = known[0] if message.unread_messages is None else counting(message, policy)
        contact = message.company_id, message.contact_id if group_id is None else group_id
        run = runs.get(contact)
        if run is None:
            runs[contact] = trusted_run((*contact, connection_id), [place], [unread], [now], known[1])
        elif run.key[2] != connection_id:
            return None
        else:
            run.places.append(place)
            run.steps.append(unread)
            run.times.append(now)
    return list(runs.values())


def checked_batch(messages: Sequence[InboundMessage]) -> Sequence[InboundMessage]:
    """Return the messages of a batch.

    Raises:
        InvalidMessageError: if there are more than `MOST`.
    """
    if len(messages) > MOST:
        raise InvalidMessageError("messages", len(messages), f"at most {MOST} messages at once")
    return messages


def plan(batch: Sequence[Given], statuses: StatusScheme) -> Plan:
    """Decide on every message of a batch, each as if those before it had been written.

    Args:
        batch: the messages, with a Snapshot each; all of them were taken before the first is written.
        statuses: the host's words.

    Raises:
        BlockedBySchemaError: as `decide`; nothing has been written.
    """
    folding = _Folding(statuses)
    for given in batch:
        folding.see(given.snapshot)
    for given in batch:
        folding.add(given)
    return Plan(tuple(folding.planned), tuple(growing.joint for growing in folding.growing))


@define
class _Growing:
    """A Joint to which later messages may still be added."""

    first: Create | Reopen | Reuse
    at: datetime
    later: list[Unread]
    message_refs: list[MessageRef]

    @property
    def joint(self) -> Joint:
        return Joint(self.first, self.at, tuple(self.later), tuple(self.message_refs))


class _Folding:
    """The tickets as they are after the messages so far: it lives as long as one call of `plan`."""

    def __init__(self, statuses: StatusScheme) -> None:
        self._statuses = statuses
        self._tickets: dict[Id, Ticket] = {}
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

    def add(self, given: Given) -> None:
        message, now = given.message, given.now
        decision = decide(message, self._now(given), given.policy, now)
        others = tuple(self._as_it_is(ticket) for ticket in decision.other_active)
        match decision:
            case Ignore():
                self.planned.append(Planned(decision, now, None, others))
            case Duplicate():
                self.planned.append(Planned(decision, now, self._as_it_is(decision.ticket), others))
            case Create() | Reopen() | Reuse():
                self._write(decision, given, others)
            case _:
                assert_never(decision)

    def _now(self, given: Given) -> Snapshot:
        """Return the Snapshot as it would be if the messages so far had been written."""
        message, seen = given.message, given.snapshot
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
            occupant=None if occupant is None else self._tickets.get(occupant.id, occupant),
            routed=None if routed is None else self._tickets.get(routed.id, routed),
            unique_rule=seen.unique_rule,
        )

    def _write(self, decision: Create | Reopen | Reuse, given: Given, others: tuple[_Ticket, ...]) -> None:
        place = len(self.planned)
        ticket = self._written(decision, given)
        refs = [] if decision.message_ref is None else [decision.message_ref]
        number, step = self._joint_of.setdefault(ticket.id, len(self.growing)), 0
        if isinstance(decision, Create) or number == len(self.growing):
            self.growing.append(_Growing(decision, given.now, [], refs))
        else:
            growing = self.growing[number]
            growing.at = given.now
            growing.later.append(decision.unread)
            growing.message_refs += refs
            step = len(growing.later)
        self.planned.append(Planned(decision, given.now, None, others, number, step))
        self._tickets[ticket.id] = ticket
        self._last[ticket.id] = place
        self._active.setdefault((ticket.company_id, ticket.contact_id), {})[ticket.id] = None
        for ref in refs:
            self._routed[ref.key.company_id, ref.key.connection_id, ref.message_id] = ticket.id

    def _written(self, decision: Create | Reopen | Reuse, given: Given) -> Ticket:
        match decision:
            case Create():
                return self._created(decision)
            case Reuse():
                count = decision.unread.after(decision.ticket.unread_messages)
                return bumped(decision.ticket, count, given.now)
            case Reopen():
                return evolve(
                    decision.ticket,
                    status=self._statuses.of_reopened(accepted=decision.accepted),
                    user_id=decision.user_id,
                    queue_id=decision.queue_id,
                    unread_messages=decision.unread.after(decision.ticket.unread_messages),
                    updated_at=given.now,
                    closed_at=None,
                )
            case _:
                assert_never(decision)

    def _created(self, decision: Create) -> Ticket:
        key = decision.key
        ticket = Ticket(
            id=UUID(int=_PLACEHOLDERS + len(self.growing)),
            company_id=key.company_id,
            contact_id=key.contact_id,
            connection_id=key.connection_id,
            status=self._statuses.of_new(is_group=decision.is_group, accepted=decision.accepted),
            is_group=decision.is_group,
            unread_messages=decision.unread_messages,
            user_id=decision.user_id,
            queue_id=decision.queue_id,
            created_at=decision.at,
            updated_at=decision.at,
        )
        self._only[key.company_id, key.contact_id] = ticket.id
        return ticket

    def _as_it_is(self, ticket: Ticket) -> _Ticket:
        return self._last.get(ticket.id, ticket)
