"""Tickets kept in memory: for unit tests, for what-if runs, and as the plainest example of a repository.

Law of this file: it obeys every clause of `ticketrouter.repository` that memory can obey. There is no host
transaction here, so each call is a unit of its own, and R6 has no meaning.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, assert_never

from attrs import evolve

from ticketrouter import checks
from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import (
    Accept,
    Alteration,
    Close,
    Create,
    Join,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Snapshot,
    Transfer,
    Write,
    applied,
    created,
    trusted_snapshot,
)
from ticketrouter.errors import ConflictError, InvalidMessageError
from ticketrouter.log import tell_unknown
from ticketrouter.model import (
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    altered,
    bumped,
    elsewhere,
    id_order,
    newest,
    trusted_key,
)
from ticketrouter.moves import KeyPart, Move, MovePlan, Survey

__all__ = ["AsyncInMemoryTicketRepository", "InMemoryTicketRepository"]

_Contact: TypeAlias = tuple[Id, Id]

_MAY_BLOCK = {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}
_WHERE = "memory"
"""What stands for the name of the table where an unknown status is told."""


class InMemoryTicketRepository:
    """Keeps tickets in memory; any number of threads may use it.

    Args:
        tickets: what it begins with.
        unique_rule: what it enforces, as a host's schema would.
        statuses: the host's words.
        next_id: the id of the first new ticket; ids that are taken are passed over.

    Raises:
        InvalidMessageError: if an argument is of another kind, or if two of the tickets have the same id, or break the
            unique rule.
    """

    def __init__(
        self,
        tickets: Iterable[Ticket] = (),
        *,
        unique_rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        next_id: int = 1,
    ) -> None:
        self._statuses = _checked(statuses)
        self._unique_rule = checks.as_member("unique_rule", UniqueRule, unique_rule)
        checks.check_count("next_id", next_id, highest=2**63 - 1)
        self._next_id = next_id
        self._lock = threading.RLock()
        self._tickets: dict[Id, Ticket] = {}
        # By contact and by whether they are active: closed tickets grow many, and few messages ask for them.
        # Of the active ones there are many contacts with one each, whose index must be small.
        self._active_of: dict[_Contact, tuple[Id, ...]] = {}
        self._closed_of: dict[_Contact, dict[Id, None]] = {}
        self._routed: dict[tuple[Id, Id, Id], tuple[Id, datetime]] = {}
        for ticket in _all_tickets(tickets):
            self._refuse_unlawful(ticket)
            self._put(self._consistent(ticket))

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._statuses

    @property
    def tickets(self) -> list[Ticket]:
        """Every ticket of every company, by id."""
        with self._lock:
            return sorted(self._tickets.values(), key=lambda ticket: id_order(ticket.id))

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `TicketRepository.load`."""
        with self._lock:
            active = self._those(self._active_of, (lookup.company_id, lookup.contact_id))
            connection_id, rule = lookup.connection_id, self._unique_rule
            if connection_id is None:
                return Snapshot(active, unique_rule=rule)
            routed = None if lookup.message_id is None else self._routed_to(lookup)
            if lookup.join is not None and routed is None:
                ticket, others = _parted(active, connection_id)
                if ticket is not None and not (lookup.join.wakes and ticket.status in self._statuses.wakes):
                    joined = self._join(ticket, lookup.join)
                    return trusted_snapshot(others, None, None, None, rule, True, None, joined)
            key = trusted_key(lookup.company_id, lookup.contact_id, connection_id)
            closed = self._latest_closed(lookup) if lookup.closed else None
            unknown = self._passed_over(lookup, closed) if lookup.closed else None
            occupant = self._occupant(key)
            for ticket in (unknown, occupant):
                if ticket is not None and ticket.status not in self._statuses.known:
                    tell_unknown(ticket.status, _WHERE)
            return trusted_snapshot(tuple(active), closed, occupant, routed, rule, unknown=unknown)

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company: see `TicketRepository.get`."""
        del current  # it always is
        with self._lock:
            ticket = self._tickets.get(ticket_id)
            return ticket if ticket is not None and ticket.company_id == company_id else None

    def commit(self, decision: Write) -> Ticket:
        """Carry out one decision at once: see `TicketRepository.commit`."""
        with self._lock:
            match decision:
                case Create():
                    return self._recorded(decision.message_ref, lambda: self._create(decision))
                case Reuse():
                    return self._recorded(decision.message_ref, lambda: self._reuse(decision))
                case ReopenTicket():
                    return self._recorded(decision.message_ref, lambda: self._reopen(decision))
                case Accept():
                    return self._accept(decision)
                case Close():
                    return self._close(decision)
                case Transfer():
                    return self._transfer(decision)
                case _:
                    assert_never(decision)

    def survey_move(self, move: Move, *, claim: bool = False) -> Survey:  # noqa: ARG002 - nobody else writes here
        """Find what must be known to plan a move: see `MovesTickets.survey_move`."""
        with self._lock:
            moved = self._moved(move)
            rows = [ticket for ticket in self._tickets.values() if self._is_active(ticket)]
            sharing = Counter(move.after(ticket.key) for ticket in rows)
            return Survey(
                ticket_ids=sorted((ticket.id for ticket in moved), key=id_order),
                rivals=[ticket for ticket in rows if sharing[move.after(ticket.key)] > 1],
                occupant=self._occupant_of_move(move, moved),
                unique_rule=self._unique_rule,
            )

    def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan at once: see `MovesTickets.commit_move`."""
        move = plan.move
        with self._lock:
            moved = self._moved(move)
            closed = [self._still(closing.ticket, active=True) for closing in plan.closes]
            self._refuse_other_plan(plan, moved)
            for closing, ticket in zip(plan.closes, closed, strict=True):
                self._close(Close(ticket, plan.at))
                if closing.kept is not None:
                    self._take_up(closing.kept.id, ticket.unread_messages)
            for ticket in self._moved(move):
                key = move.after(ticket.key)
                self._take_from_its_contact(ticket)
                self._put(altered(ticket, contact_id=key.contact_id, connection_id=key.connection_id))
            if move.part is KeyPart.CONNECTION:
                for (company_id, connection_id, message_id), to in tuple(self._routed.items()):
                    if (company_id, connection_id) == (move.company_id, move.source_id):
                        self._routed.setdefault((company_id, move.target_id, message_id), to)

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages: see `Batches.load_many`."""
        with self._lock:
            if self._unique_rule in _MAY_BLOCK:
                # What comes after a message that is refused is not to have joined.
                return [self.load(evolve(lookup, join=None)) for lookup in lookups]
            left: set[tuple[Id, Id, Id | None]] = set()
            return [self._load_after(left, lookup) for lookup in lookups]

    def _load_after(self, left: set[tuple[Id, Id, Id | None]], lookup: Lookup) -> Snapshot:
        """Find the same for one of several; where a message was left, those after it on its key are left too."""
        key = lookup.company_id, lookup.contact_id, lookup.connection_id
        found = self.load(evolve(lookup, join=None) if key in left else lookup)
        if found.joined is None:
            left.add(key)
        return found

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions: see `Batches.commit_many`."""
        with self._lock:
            return [self._joined(joint) for joint in joints]

    def forget_messages(self, before: datetime) -> int:
        """Forget the message ids that were recorded before a time: see `ForgetsMessages.forget_messages`."""
        moment = checks.as_utc("before", before)
        with self._lock:
            kept = {place: to for place, to in self._routed.items() if to[1] >= moment}
            forgotten = len(self._routed) - len(kept)
            self._routed = kept
            return forgotten

    # --- the writes, each under the lock and all or nothing --------------------------------------------------

    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        ticket = bumped(ticket, join.unread.after(ticket.unread_messages), join.at)
        self._tickets[ticket.id] = ticket
        if join.message_ref is not None:
            self._routed[_place(join.message_ref)] = ticket.id, join.at
        return ticket

    def _create(self, decision: Create) -> Ticket:
        self._refuse_taken(decision.key)
        return self._put(created(decision, self._new_id(), self._statuses))

    def _reuse(self, decision: Reuse) -> Ticket:
        ticket = self._still(decision.ticket, active=True)
        if decision.wakes and not self._statuses.wakes_alike(decision.ticket.status, ticket.status):
            raise ConflictError("the ticket was changed meanwhile")
        return self._alter(decision, ticket)

    def _reopen(self, decision: ReopenTicket) -> Ticket:
        ticket = self._still(decision.ticket, active=False)
        if ticket.status in self._statuses.final and ticket.status != decision.ticket.status:
            raise ConflictError("the ticket has become a final one meanwhile")
        self._refuse_taken(ticket.key, besides=ticket)
        return self._alter(decision, ticket)

    def _accept(self, decision: Accept) -> Ticket:
        ticket = self._still(decision.ticket, active=True)
        if (ticket.status, ticket.user_id) != (decision.ticket.status, decision.ticket.user_id):
            raise ConflictError("the ticket was changed meanwhile")
        return self._alter(decision, ticket)

    def _close(self, decision: Close) -> Ticket:
        ticket, seen = self._still(decision.ticket, active=True), decision.ticket
        if decision.as_seen and ticket.has_changed_since(seen):
            raise ConflictError("the ticket was changed meanwhile")
        return self._alter(decision, ticket)

    def _transfer(self, decision: Transfer) -> Ticket:
        ticket = self._still(decision.ticket, active=True)
        self._refuse_taken(evolve(ticket.key, connection_id=decision.connection_id), besides=ticket)
        return self._alter(decision, ticket)

    def _alter(self, decision: Alteration, ticket: Ticket) -> Ticket:
        return self._put(applied(decision, ticket, self._statuses))

    def _joined(self, joint: Joint) -> Ticket | None:
        places = [_place(ref) for ref in joint.message_refs]
        if any(place in self._routed for place in places):
            return None
        now = None if isinstance(joint.first, Create) else self._tickets.get(joint.first.ticket.id)
        if now is not None and not joint.is_as_seen(now.status, self._statuses):
            return None
        try:
            first = self.commit(evolve(joint.first, message_ref=None))
        except ConflictError:
            return None
        last = bumped(first, joint.last_count(first.unread_messages), joint.at)
        self._put(
            altered(last, status=joint.last_status(last.status, self._statuses)) if joint.wakes else last
        )
        self._routed.update((place, (first.id, joint.at)) for place in places)
        return first

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        if ref is None:
            return write()
        place = _place(ref)
        if place in self._routed:
            raise ConflictError("the message was routed meanwhile")
        ticket = write()
        self._routed[place] = ticket.id, ticket.updated_at
        return ticket

    # --- moves ------------------------------------------------------------------------------------------------

    def _moved(self, move: Move) -> list[Ticket]:
        return [ticket for ticket in self._tickets.values() if move.concerns(ticket.key)]

    def _take_up(self, ticket_id: Id, count: int) -> None:
        kept = self._tickets[ticket_id]
        self._put(altered(kept, unread_messages=kept.unread_messages + count))

    def _occupant_of_move(self, move: Move, moved: Iterable[Ticket]) -> Ticket | None:
        rows = (self._occupant(move.after(ticket.key)) for ticket in moved)
        return next((row for row in rows if row is not None and not move.concerns(row.key)), None)

    def _refuse_other_plan(self, plan: MovePlan, moved: list[Ticket]) -> None:
        closed = {closing.ticket.id for closing in plan.closes}
        staying = [
            ticket for ticket in self._tickets.values() if self._is_active(ticket) and ticket.id not in closed
        ]
        keys = Counter(plan.move.after(ticket.key) for ticket in staying)
        taken = any(
            keys[plan.move.after(ticket.key)] > 1 for ticket in staying if plan.move.concerns(ticket.key)
        )
        # Which of them is the most recently active one may have changed too.
        seen = (ticket for each in plan.closes for ticket in (each.ticket, each.kept) if ticket is not None)
        stale = any(self._tickets.get(ticket.id) != ticket for ticket in seen)
        if taken or stale or {ticket.id for ticket in moved} != set(plan.repoints):
            raise ConflictError("the tickets were changed meanwhile")

    # --- what the writes and the look-ups stand on -----------------------------------------------------------

    def _put(self, ticket: Ticket) -> Ticket:
        contact = ticket.company_id, ticket.contact_id
        if self._is_active(ticket):
            if ticket.id not in self._active_of.get(contact, ()):
                self._active_of[contact] = (*self._active_of.get(contact, ()), ticket.id)
            self._closed_of.get(contact, {}).pop(ticket.id, None)
        else:
            self._leave_active(contact, ticket.id)
            self._closed_of.setdefault(contact, {})[ticket.id] = None
        self._tickets[ticket.id] = ticket
        return ticket

    def _take_from_its_contact(self, ticket: Ticket) -> None:
        contact = ticket.company_id, ticket.contact_id
        self._leave_active(contact, ticket.id)
        self._closed_of.get(contact, {}).pop(ticket.id, None)

    def _leave_active(self, contact: _Contact, ticket_id: Id) -> None:
        left = tuple(each for each in self._active_of.pop(contact, ()) if each != ticket_id)
        if left:
            self._active_of[contact] = left

    def _new_id(self) -> int:
        while self._next_id in self._tickets:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _consistent(self, ticket: Ticket) -> Ticket:
        # An active ticket has no time of closing, and a closed one has one, as in a column we keep ourselves.
        if self._is_active(ticket):
            return altered(ticket, closed_at=None)
        return altered(ticket, closed_at=ticket.closed_at or ticket.updated_at)

    def _is_active(self, ticket: Ticket) -> bool:
        return self._statuses.is_active(ticket.status)

    def _those(self, index: Mapping[_Contact, Iterable[Id]], contact: _Contact) -> list[Ticket]:
        return list(map(self._tickets.__getitem__, index.get(contact, ())))

    def _active_on(self, key: TicketKey) -> Ticket | None:
        active = self._those(self._active_of, (key.company_id, key.contact_id))
        return next((ticket for ticket in active if ticket.connection_id == key.connection_id), None)

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        known = [each for each in self._closed(lookup) if self._statuses.is_reopenable(each.status)]
        return max(known, key=_closing, default=None)

    def _passed_over(self, lookup: Lookup, found: Ticket | None) -> Ticket | None:
        """Return the ticket of an unknown word that was closed after the one which was found, if that is the last."""
        counted = [each for each in self._closed(lookup) if each.status not in self._statuses.final]
        last = max(counted, key=_closing, default=None)
        return None if last is found or last is None or last.status in self._statuses.known else last

    def _closed(self, lookup: Lookup) -> list[Ticket]:
        closed = self._those(self._closed_of, (lookup.company_id, lookup.contact_id))
        if lookup.scope is Scope.CONNECTION:
            closed = [ticket for ticket in closed if ticket.connection_id == lookup.connection_id]
        return closed

    def _still(self, seen: Ticket, *, active: bool) -> Ticket:
        ticket = self._tickets.get(seen.id)
        if ticket is None or ticket.key != seen.key or self._is_active(ticket) is not active:
            raise ConflictError("the ticket was changed meanwhile")
        return ticket

    def _occupant(self, key: TicketKey) -> Ticket | None:
        """Return the row beside which the unique rule allows no new one."""
        contact = key.company_id, key.contact_id
        match self._unique_rule:
            case UniqueRule.NONE | UniqueRule.ACTIVE_PER_CONNECTION:
                return None
            case UniqueRule.ONE_PER_CONNECTION:
                rows = (*self._those(self._active_of, contact), *self._those(self._closed_of, contact))
                return next((ticket for ticket in rows if ticket.connection_id == key.connection_id), None)
            case UniqueRule.ONE_PER_CONTACT:
                rows = (*self._those(self._active_of, contact), *self._those(self._closed_of, contact))
                return next(iter(rows), None)
            case _:
                assert_never(self._unique_rule)

    def _refuse_taken(self, key: TicketKey, besides: Ticket | None = None) -> None:
        """Raise where an active row on this key would be a second one, or break the unique rule."""
        for row in (self._active_on(key), self._occupant(key)):
            if row is not None and (besides is None or row.id != besides.id):
                raise ConflictError("the key was taken meanwhile")

    def _refuse_unlawful(self, ticket: Ticket) -> None:
        """Raise where the unique rule, had it been there from the start, had never let this row in."""
        if ticket.id in self._tickets:
            raise InvalidMessageError("tickets", ticket.id, "tickets of different ids")
        row = self._occupant(ticket.key)
        if self._unique_rule is UniqueRule.ACTIVE_PER_CONNECTION and self._is_active(ticket):
            row = self._active_on(ticket.key)
        if row is not None:
            raise InvalidMessageError("tickets", ticket.id, f"tickets as the rule {self._unique_rule} allows")

    def _routed_to(self, lookup: Lookup) -> Ticket | None:
        place: Any = lookup.company_id, lookup.connection_id, lookup.message_id
        return self._tickets.get(self._routed[place][0]) if place in self._routed else None


def _all_tickets(tickets: object) -> list[Ticket]:
    if not isinstance(tickets, Iterable):
        raise InvalidMessageError("tickets", type(tickets), "an iterable of tickets")
    return [_as_ticket(each) for each in tickets]


def _as_ticket(ticket: object) -> Ticket:
    if not isinstance(ticket, Ticket):
        raise InvalidMessageError("tickets", type(ticket), "tickets")
    return ticket


def _checked(statuses: StatusScheme) -> StatusScheme:
    if not isinstance(statuses, StatusScheme):
        raise InvalidMessageError("statuses", statuses, "a StatusScheme")
    return statuses


def _parted(active: list[Ticket], connection_id: Id) -> tuple[Ticket | None, tuple[Ticket, ...]]:
    """Return the newest ticket on a connection, and those on others."""
    if len(active) == 1 and active[0].connection_id == connection_id:  # nearly always
        return active[0], ()
    here = [ticket for ticket in active if ticket.connection_id == connection_id]
    return newest(here), elsewhere(active, connection_id)


def _place(ref: MessageRef) -> tuple[Id, Id, Id]:
    return ref.key.company_id, ref.key.connection_id, ref.message_id


def _closing(ticket: Ticket) -> tuple[datetime, int, Id]:
    return (ticket.closed_at or ticket.updated_at, *id_order(ticket.id))


class AsyncInMemoryTicketRepository:
    """The same for asynchronous code; its calls never wait, so no other task comes between.

    Args:
        tickets: what it begins with.
        unique_rule: what it enforces, as a host's schema would.
        statuses: the host's words.
        next_id: the id of the first new ticket; ids that are taken are passed over.

    Raises:
        InvalidMessageError: if an argument is of another kind, or if two of the tickets have the same id, or break the
            unique rule.
    """

    def __init__(
        self,
        tickets: Iterable[Ticket] = (),
        *,
        unique_rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        next_id: int = 1,
    ) -> None:
        self._sync = InMemoryTicketRepository(
            tickets, unique_rule=unique_rule, statuses=statuses, next_id=next_id
        )

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._sync.statuses

    @property
    def tickets(self) -> list[Ticket]:
        """Every ticket of every company, by id."""
        return self._sync.tickets

    async def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `TicketRepository.load`."""
        return self._sync.load(lookup)

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company: see `TicketRepository.get`."""
        return self._sync.get(company_id, ticket_id, current=current)

    async def commit(self, decision: Write) -> Ticket:
        """Carry out one decision at once: see `TicketRepository.commit`."""
        return self._sync.commit(decision)

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move: see `MovesTickets.survey_move`."""
        return self._sync.survey_move(move, claim=claim)

    async def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan at once: see `MovesTickets.commit_move`."""
        self._sync.commit_move(plan)

    async def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages: see `Batches.load_many`."""
        return self._sync.load_many(lookups)

    async def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions: see `Batches.commit_many`."""
        return self._sync.commit_many(joints)

    async def forget_messages(self, before: datetime) -> int:
        """Forget old message ids: see `ForgetsMessages.forget_messages`."""
        return self._sync.forget_messages(before)
