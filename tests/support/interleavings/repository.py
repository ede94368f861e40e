"""A repository over the model of a database, statement by statement as the SQLAlchemy adapter sends them.

Law of this file: one method of the model's transaction for one SQL statement, in the adapter's order. `Care` says
what a repository may leave out; each of them is left out in a test that must then find a broken schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, assert_never

from attrs import evolve, frozen

from tests.support.interleavings.database import Level, Place, Row, Rows, TakenError, Transaction
from ticketrouter import ConflictError, Reason, StatusScheme, Ticket, TicketKey, UniqueRule
from ticketrouter.checks import Id
from ticketrouter.decisions import (
    Accept,
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
)
from ticketrouter.model import newest_first
from ticketrouter.moves import KeyPart, Move, MovePlan, Survey

STATUSES = StatusScheme()


@frozen
class Care:
    """What a repository takes care of."""

    unique: bool = True
    """The database enforces the unique rule."""
    condition: bool = True
    """A write is carried out only while what was seen is still true."""
    claim: bool = True
    """Without a unique rule, others are kept away from the contact first."""
    advisory: bool = False
    """That is done by an advisory lock, which the adapter does not: it is younger than an old snapshot."""
    current: bool = True
    """Where plain reads may be old, the look after a wait or a lost race is a locking one."""
    message_ids: bool = True
    """A message id is recorded at most once."""


def unique_value(rule: UniqueRule, care: Care) -> Any:
    """Return what unique value a ticket takes under a rule."""

    def value(place: Place, row: Any) -> Any:
        if place[0] != "tickets" or not care.unique:
            return None
        match rule:
            case UniqueRule.NONE:
                return None
            case UniqueRule.ACTIVE_PER_CONNECTION:
                return row.key if _is_active(row) else None
            case UniqueRule.ONE_PER_CONNECTION:
                return row.key
            case UniqueRule.ONE_PER_CONTACT:
                return row.company_id, row.contact_id
            case _:
                assert_never(rule)

    return value


class ModelRepository:
    """The asynchronous port over one transaction of the model."""

    def __init__(self, transaction: Transaction, rule: UniqueRule, care: Care) -> None:
        self._transaction = transaction
        self._rule = rule
        self._care = care
        level = transaction.database.level
        self._may_be_old = level.is_mariadb and care.current
        self._overtaken = False

    @property
    def statuses(self) -> StatusScheme:
        return STATUSES

    async def load(self, lookup: Lookup) -> Snapshot:
        join, lookup = lookup.join, evolve(lookup, join=None)
        found = None if join is None else await self._join(lookup, join)
        return await self._load(lookup) if found is None else found

    async def _load(self, lookup: Lookup) -> Snapshot:
        level = self._transaction.database.level
        if self._claims(lookup) and level.is_mariadb:
            return await self._claimed_since(lookup, *await self._look(lookup))
        if self._claims(lookup) and level is not Level.SQLITE_IMMEDIATE:
            await self._claim(lookup.company_id, lookup.contact_id)
        found: Snapshot = await self._transaction.read(lambda rows: self._snapshot(rows, lookup))
        if not self._may_be_old or not lookup.overtaken:
            return found
        return await self._as_it_is_now(lookup)

    def _claims(self, lookup: Lookup) -> bool:
        return lookup.claim and self._rule is UniqueRule.NONE and self._care.claim

    async def _claim(self, company_id: Id, contact_id: Id) -> int:
        if self._care.advisory:
            await self._transaction.lock((company_id, contact_id))
            return 0
        anchor = "anchors", (company_id, contact_id)
        version: int = await self._transaction.upsert(anchor, lambda count: (count or 0) + 1)
        return version

    async def _look(self, lookup: Lookup) -> tuple[Snapshot, int]:
        anchor = "anchors", (lookup.company_id, lookup.contact_id)

        def query(rows: Rows) -> tuple[Snapshot, int]:
            return self._snapshot(rows, lookup), rows[anchor].value if anchor in rows else 0

        found: tuple[Snapshot, int] = await self._transaction.read(query)
        return found

    async def _claimed_since(self, lookup: Lookup, seen: Snapshot, version: int) -> Snapshot:
        now = await self._claim(lookup.company_id, lookup.contact_id)
        self._overtaken |= now != version + 1
        must_look_again = self._may_be_old and (lookup.overtaken or self._overtaken)
        return await self._as_it_is_now(lookup) if must_look_again else seen

    async def _as_it_is_now(self, lookup: Lookup) -> Snapshot:
        current: Snapshot = await self._transaction.read_locking(
            lambda rows: self._snapshot(rows, lookup), lambda place, value: _is_about(lookup, place, value)
        )
        return current

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        ticket: Ticket | None = await self._transaction.read(lambda rows: _one(rows, company_id, ticket_id))
        if not current or ticket is None or not self._may_be_old:
            return ticket
        now: Ticket | None = await self._transaction.read_locking(
            lambda rows: _one(rows, company_id, ticket_id),
            lambda place, _: place == ("tickets", ticket_id),
        )
        return now

    async def _join(self, lookup: Lookup, join: Join) -> Snapshot | None:
        if self._transaction.database.level.is_mariadb:
            return await self._join_as_seen(lookup, join)
        ref = join.message_ref
        if ref is not None and not self._transaction.database.level.is_postgresql:
            return None
        record = None if ref is None else (self._message(ref), lambda ticket: ticket.id)
        changed, seen = await self._transaction.join(
            lambda rows: _on_key(rows, lookup),
            lambda now: evolve(
                now, unread_messages=join.unread.after(now.unread_messages), updated_at=join.at
            ),
            record,
            lambda rows: self._snapshot(rows, lookup),
        )
        if changed is not None:
            return Snapshot(seen.active_elsewhere(changed.connection_id), joined=changed)
        if self._rule is not UniqueRule.NONE:
            return seen if self._transaction.database.level.is_postgresql else None
        if not self._claims(lookup):
            return None
        if self._transaction.database.level.is_postgresql:
            # The same statement does it: to let others in between is to look at more schedules, not at fewer.
            await self._claim(lookup.company_id, lookup.contact_id)
        return await self._load(evolve(lookup, claim=False))

    async def _join_as_seen(self, lookup: Lookup, join: Join) -> Snapshot | None:
        if join.message_ref is not None or lookup.connection_id is None:
            return None
        version = 0
        if self._claims(lookup):
            seen, version = await self._look(lookup)
        else:
            seen = await self._load(evolve(lookup, claim=False))
        ticket = seen.active_on(lookup.connection_id)
        if ticket is None and self._claims(lookup):
            return await self._claimed_since(lookup, seen, version)
        if ticket is None:
            return None if self._rule is UniqueRule.NONE else seen
        reuse = Reuse(ticket, join.at, Reason.ACTIVE_ON_CONNECTION, join.unread)
        try:
            joined = await self._changed(reuse)
        except ConflictError:
            return None
        return Snapshot(seen.active_elsewhere(ticket.connection_id), joined=joined)

    async def commit(self, decision: Write) -> Ticket:
        match decision:
            case Create():
                return await self._create(decision)
            case Reuse():
                return await self._recording(decision.message_ref, decision)
            case ReopenTicket():
                return await self._recording(decision.message_ref, decision)
            case Accept() | Close() | Transfer():
                return await self._changed(decision)
            case _:
                assert_never(decision)

    # --- moves -----------------------------------------------------------------------------------------------

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Claim, where no unique rule stands guard, then lock the source's rows, then those that may collide."""
        assert claim, "only what is carried out is explored"
        claims = self._rule is UniqueRule.NONE and self._care.claim
        claimed = await self._claim_move(move) if claims else set[Id]()
        source = await self._transaction.lock_rows(lambda place, value: _is_moved(move, place, value))
        if claims and move.part is KeyPart.CONNECTION:
            await self._claim_late(move, claimed)
        both = await self._transaction.lock_rows(lambda place, value: _is_beside(move, place, value))
        rivals = [ticket for ticket in _active(both) if _shares(move, ticket, _active(both))]
        return Survey([ticket.id for ticket in _tickets(source)], rivals, None, self._rule)

    async def commit_move(self, plan: MovePlan) -> None:
        savepoint = self._transaction.savepoint()
        try:
            await self._carry_out(plan)
        except (ConflictError, TakenError):
            self._transaction.back_to(savepoint)
            raise ConflictError("the tickets were changed meanwhile") from None

    async def _carry_out(self, plan: MovePlan) -> None:
        move, kept = plan.move, {each.ticket.id: each.kept for each in plan.closes}
        if kept:
            await self._close_and_count(plan, kept)
        moved = await self._transaction.update_all(
            lambda place, value: _is_moved(move, place, value),
            lambda now: _with_key(now, move.after(now.key)),
        )
        if self._care.condition and moved != len(plan.repoints):
            raise ConflictError("the tickets were changed meanwhile")
        if move.part is KeyPart.CONNECTION:
            await self._copy_message_ids(move)

    async def _close_and_count(self, plan: MovePlan, kept: dict[Id, Ticket | None]) -> None:
        """Close tickets, and add what each has then to the count of the one that is kept for it."""
        unread: Counter[Id] = Counter()

        def close(now: Ticket) -> Ticket:
            if (keeper := kept[now.id]) is not None:
                unread[keeper.id] += now.unread_messages
            return _after(Close(now, plan.at), now)

        closed = await self._transaction.update_all(
            lambda place, value: (
                _is_beside(plan.move, place, value) and value.id in kept and _is_active(value)
            ),
            close,
        )
        if self._care.condition and closed != len(kept):
            raise ConflictError("the tickets were changed meanwhile")
        counting = +unread
        if not counting:
            return
        counted = await self._transaction.update_all(
            lambda place, value: (
                _is_beside(plan.move, place, value) and value.id in counting and _is_active(value)
            ),
            lambda now: evolve(now, unread_messages=now.unread_messages + counting[now.id]),
        )
        if self._care.condition and counted != len(counting):
            raise ConflictError("the tickets were changed meanwhile")

    async def _copy_message_ids(self, move: Move) -> None:
        known = await self._message_ids()
        for place, row in sorted(known.items(), key=str):
            name: Any = place[1]
            there: Place = "messages", (move.company_id, move.target_id, *name[2:])
            if name[:2] != (move.company_id, move.source_id) or there in known:
                continue
            if await self._transaction.insert(there, row.value) is not None:
                raise ConflictError("a message id was recorded meanwhile")

    async def _message_ids(self) -> Rows:
        def query(rows: Rows) -> tuple[tuple[Place, Row], ...]:
            return tuple(found for found in rows.items() if found[0][0] == "messages")

        level = self._transaction.database.level
        if level.is_mariadb and level.keeps_snapshot:
            # There an `INSERT … SELECT` reads as a locking read does.
            return dict(await self._transaction.read_locking(query, lambda place, _: place[0] == "messages"))
        return dict(await self._transaction.read(query))

    async def _claim_move(self, move: Move) -> set[Id]:
        if move.part is KeyPart.CONTACT:
            contacts = {move.source_id, move.target_id}
        else:
            contacts = set(
                await self._transaction.read(
                    lambda rows: frozenset(
                        each.contact_id for each in _active(rows) if move.concerns(each.key)
                    )
                )
            )
        await self._claim_all(move, contacts)
        return contacts

    async def _claim_late(self, move: Move, claimed: set[Id]) -> None:
        """Claim who came after that look, or after an old snapshot: with the source's rows locked nobody follows."""
        locked = await self._transaction.lock_rows(
            lambda place, value: _is_moved(move, place, value) and _is_active(value)
        )
        await self._claim_all(move, {ticket.contact_id for ticket in _tickets(locked)} - claimed)

    async def _claim_all(self, move: Move, contacts: set[Id]) -> None:
        for contact_id in sorted(contacts, key=str):
            await self._claim(move.company_id, contact_id)

    # --- the writes ------------------------------------------------------------------------------------------

    async def _create(self, decision: Create) -> Ticket:
        ticket = Ticket(
            id=self._transaction.database.new_id(),
            company_id=decision.key.company_id,
            contact_id=decision.key.contact_id,
            connection_id=decision.key.connection_id,
            status=STATUSES.of_new(is_group=decision.is_group, accepted=decision.accepted),
            is_group=decision.is_group,
            unread_messages=decision.unread_messages,
            user_id=decision.user_id,
            queue_id=decision.queue_id,
            created_at=decision.at,
            updated_at=decision.at,
        )
        place = "tickets", ticket.id
        if await self._transaction.insert(place, ticket) is not None:
            raise ConflictError("the key was taken meanwhile")
        if not await self._record(decision.message_ref, ticket):
            await self._transaction.delete(place)
            raise ConflictError("the message was routed meanwhile")
        return ticket

    async def _recording(self, ref: MessageRef | None, decision: Reuse | ReopenTicket) -> Ticket:
        if not await self._record(ref, decision.ticket):
            raise ConflictError("the message was routed meanwhile")
        try:
            return await self._changed(decision)
        except ConflictError:
            if ref is not None:
                await self._transaction.delete(self._message(ref))
            raise

    async def _record(self, ref: MessageRef | None, ticket: Ticket) -> bool:
        if ref is None:
            return True
        return await self._transaction.insert(self._message(ref), ticket.id) is None

    def _message(self, ref: MessageRef) -> Place:
        name: tuple[Any, ...] = (ref.key.company_id, ref.key.connection_id, ref.message_id)
        # Without care every delivery has a row of its own.
        return "messages", name if self._care.message_ids else (*name, self._transaction.task)

    async def _changed(self, decision: Reuse | ReopenTicket | Accept | Close | Transfer) -> Ticket:
        place = "tickets", decision.ticket.id
        try:
            changed: Ticket | None = await self._transaction.update(
                place,
                lambda now, rows: not self._care.condition or self._is_as_seen(decision, now, rows),
                lambda now: _after(decision, now),
            )
        except TakenError:
            raise ConflictError("the key was taken meanwhile") from None
        if changed is None:
            raise ConflictError("the ticket was changed meanwhile")
        return changed

    def _is_as_seen(
        self, decision: Reuse | ReopenTicket | Accept | Close | Transfer, now: Ticket, rows: Rows
    ) -> bool:
        seen = decision.ticket
        match decision:
            case Close():
                same = (now.status, now.updated_at) == (seen.status, seen.updated_at)
                return _is_active(now) and (same or not decision.as_seen)
            case Accept():
                return (now.key, now.status, now.user_id) == (seen.key, seen.status, seen.user_id)
            case Reuse():
                return now.key == seen.key and _is_active(now)
            case ReopenTicket():
                return now.key == seen.key and not _is_active(now) and self._is_free(seen.key, seen, rows)
            case Transfer():
                key = evolve(seen.key, connection_id=decision.connection_id)
                return now.key == seen.key and _is_active(now) and self._is_free(key, seen, rows)
            case _:
                assert_never(decision)

    def _is_free(self, key: TicketKey, besides: Ticket, rows: Rows) -> bool:
        """Say it in the statement, where no unique rule says it."""
        if self._rule is not UniqueRule.NONE:
            return True
        return all(ticket.id == besides.id or ticket.key != key for ticket in _active(rows))

    # --- the reads -------------------------------------------------------------------------------------------

    def _snapshot(self, rows: Rows, lookup: Lookup) -> Snapshot:
        mine = [ticket for ticket in _tickets(rows) if _is_of(lookup, ticket)]
        here = [ticket for ticket in mine if ticket.connection_id == lookup.connection_id]
        closed = [ticket for ticket in here if STATUSES.is_reopenable(ticket.status)]
        return Snapshot(
            active=[ticket for ticket in mine if _is_active(ticket)],
            latest_closed=max(closed, key=lambda ticket: (ticket.closed_at, ticket.id), default=None)
            if lookup.closed
            else None,
            occupant=self._occupant(mine, here),
            routed=self._routed(rows, lookup),
            unique_rule=self._rule,
        )

    def _occupant(self, mine: list[Ticket], here: list[Ticket]) -> Ticket | None:
        match self._rule:
            case UniqueRule.NONE | UniqueRule.ACTIVE_PER_CONNECTION:
                return None
            case UniqueRule.ONE_PER_CONNECTION:
                return next(iter(here), None)
            case UniqueRule.ONE_PER_CONTACT:
                return next(iter(mine), None)
            case _:
                assert_never(self._rule)

    def _routed(self, rows: Rows, lookup: Lookup) -> Ticket | None:
        name = (lookup.company_id, lookup.connection_id, lookup.message_id)
        row = rows.get(("messages", name))
        return None if row is None else _one(rows, lookup.company_id, row.value)


def _after(decision: Reuse | ReopenTicket | Accept | Close | Transfer, now: Ticket) -> Ticket:
    """Return the row that the `UPDATE` of a decision leaves."""
    match decision:
        case Reuse():
            unread = decision.unread.after(now.unread_messages)
            return evolve(now, unread_messages=unread, updated_at=decision.at)
        case ReopenTicket():
            return evolve(
                now,
                status=STATUSES.of_reopened(accepted=decision.accepted),
                user_id=decision.user_id,
                queue_id=decision.queue_id,
                unread_messages=decision.unread.after(now.unread_messages),
                updated_at=decision.at,
                closed_at=None,
            )
        case Accept():
            return evolve(now, status=STATUSES.accepted, user_id=decision.user_id, updated_at=decision.at)
        case Close():
            return evolve(now, status=STATUSES.closed, updated_at=decision.at, closed_at=decision.at)
        case Transfer():
            return evolve(now, connection_id=decision.connection_id, updated_at=decision.at)
        case _:
            assert_never(decision)


def _is_active(ticket: Ticket) -> bool:
    return STATUSES.is_active(ticket.status)


def _tickets(rows: Rows) -> list[Ticket]:
    found: Iterable[Ticket] = (row.value for (table, _), row in rows.items() if table == "tickets")
    return sorted(found, key=lambda ticket: str(ticket.id))


def _active(rows: Rows) -> list[Ticket]:
    return [ticket for ticket in _tickets(rows) if _is_active(ticket)]


def _is_of(lookup: Lookup, ticket: Ticket) -> bool:
    return (ticket.company_id, ticket.contact_id) == (lookup.company_id, lookup.contact_id)


def _is_moved(move: Move, place: Place, value: Any) -> bool:
    return place[0] == "tickets" and move.concerns(value.key)


def _is_beside(move: Move, place: Place, value: Any) -> bool:
    """Tell whether a row is of the source or of the target."""
    if place[0] != "tickets" or value.company_id != move.company_id:
        return False
    return getattr(value, move.part) in {move.source_id, move.target_id}


def _shares(move: Move, ticket: Ticket, others: list[Ticket]) -> bool:
    key = move.after(ticket.key)
    return any(other.id != ticket.id and move.after(other.key) == key for other in others)


def _with_key(ticket: Ticket, key: TicketKey) -> Ticket:
    return evolve(ticket, contact_id=key.contact_id, connection_id=key.connection_id)


def _is_about(lookup: Lookup, place: Place, value: Any) -> bool:
    if place[0] == "messages":
        return place[1] == (lookup.company_id, lookup.connection_id, lookup.message_id)
    return place[0] == "tickets" and _is_of(lookup, value) and value.connection_id == lookup.connection_id


def _on_key(rows: Rows, lookup: Lookup) -> Place | None:
    """Return the row that is active on a key."""
    found = [
        each for each in _active(rows) if _is_of(lookup, each) and each.connection_id == lookup.connection_id
    ]
    return ("tickets", newest_first(found)[0].id) if found else None


def _one(rows: Rows, company_id: Id, ticket_id: Id) -> Ticket | None:
    row: Row | None = rows.get(("tickets", ticket_id))
    return row.value if row is not None and row.value.company_id == company_id else None


__all__ = ["STATUSES", "Care", "Level", "ModelRepository", "unique_value"]
