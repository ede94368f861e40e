"""The statements of a move: what a survey reads, and what its plan writes.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. Moves are rare, so their statements are built when they are
asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    true,
    update,
)

from ticketrouter.checks import Id
from ticketrouter.model import Ticket, UniqueRule
from ticketrouter.moves import KeyPart, Move
from ticketrouter.sqlalchemy.parts import ONE, Parts

CLOSED_AT_ONCE = 500
"""How many tickets one statement closes, or adds to: every database takes that many values, twice."""


class Moves:
    """The statements for one move.

    Args:
        parts: what they are made of.
        move: what is moved where.
    """

    locks_may_hide: bool = False
    """Whether a locking read may leave out rows that a plain one shows."""

    def __init__(self, parts: Parts, move: Move) -> None:
        self._parts = parts
        self._mapping = parts.mapping
        self._encoded = parts.values.encoded
        self._move = move
        self._table = parts.mapping.table
        other = KeyPart.CONNECTION if move.part is KeyPart.CONTACT else KeyPart.CONTACT
        self._moving, self._staying = move.part.value, other.value

    # --- the survey -------------------------------------------------------------------------------------------

    def ticket_ids(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the ids of all tickets of the source, orphans too: they go with it."""
        number = self._column("id")
        rows = select(number).where(*self._of_source()).order_by(number)
        return self._locked(self._parts.hinted(rows, self._way), lock=lock)

    def locked(self, ids: Sequence[Id]) -> Select[Any]:
        """Return the `SELECT` that locks tickets by their ids, wherever they are, and gives the ids of those it can."""
        number = self._column("id")
        rows = select(number).where(self._company(), number.in_(self._ids(ids))).order_by(number)
        return self._locked(rows, lock=True)

    def contacts(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the contacts that have something active on the source, each as often as it has."""
        contact = self._column("contact_id")
        rows = select(contact).where(*self._of_source(), self._parts.is_active(), contact.is_not(None))
        return self._locked(self._parts.hinted(rows, self._way), lock=lock)

    def rivals(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the active tickets that would share a key with another one."""
        other = self._table.alias("other")
        sharing: Select[Any] = select(ONE).where(
            self._company(other),
            self._on_either_side(other),
            self._same(self._staying, other),
            self._parts.is_active(other),
            self._parts.in_rule(other),
            self._parts.of_desk(other),
            self._column("id", other) != self._column("id"),
        )
        # Of one contact, whichever part moves.
        sharing = self._parts.active_by_index(sharing, other)
        sharing = self._seen_now(sharing, lock=lock)
        rows = select(*self._parts.columns).where(
            self._company(),
            self._on_either_side(),
            self._parts.is_active(),
            self._parts.is_ticket_locked() if lock else self._parts.is_ticket(),
            exists(sharing),
        )
        if self._move.part is KeyPart.CONTACT:
            rows = self._parts.active_by_index(rows.where(self._parts.in_rule()))
        else:
            rows = self._parts.hinted(rows, self._way)
        return self._locked(rows, lock=lock)

    def occupant(self) -> Select[Any] | None:
        """Return the `SELECT` of a row of the target that leaves no room for one of the source; None: none can."""
        match self._parts.rule, self._move.part:
            case UniqueRule.ONE_PER_CONNECTION, _:
                beside = True
            case UniqueRule.ONE_PER_CONTACT, KeyPart.CONTACT:
                beside = False
            case _:
                return None
        words = self._parts.detected.words
        other = self._table.alias("other")
        in_the_way = [self._company(other), self._is(self._moving, self._move.source_id, other)]
        in_the_way.append(self._parts.of_desk(other))
        if beside:
            in_the_way.append(self._same(self._staying, other))
        if words is not None:
            # Of two rows in progress on one connection the plan closes one, which takes it out of the index.
            in_the_way += [self._parts.has_status(words, other), not_(self._same(self._staying, other))]
        blocking = exists(select(ONE).where(*in_the_way))
        covered = true() if words is None else self._parts.has_status(words)
        target = self._is(self._moving, self._move.target_id)
        return (
            select(*self._parts.columns)
            .where(self._company(), target, covered, blocking, self._parts.of_desk())
            .limit(1)
        )

    def in_the_way(self, *, lock: bool = True) -> Select[Any]:
        """Return the `SELECT` of the rows of the target beside which one of the source has no room, whosever they are.

        A row is whether it is the company's to see, whether it and one of the source are active on what would be one
        key, for each field of `Parts.merged` whether it has another id there, and its cells: nothing else of a row that
        is not ours is read.

        Args:
            lock: whether it sees what has refused a write, where that may be newer than what a plain read sees.
        """
        mine = self._table.alias("mine")
        source = self._is(self._moving, self._move.source_id, mine)
        its = [self._company(mine), source, self._parts.of_desk(mine)]
        indexed = self._parts.held_by_an_index
        compared = {
            field: self._column(field, mine) == self._column(field)
            for field in self._parts.compared
            if field != self._moving
        }
        way = self._parts.detected.ways.contact
        blocked, rival = (
            self._seen_now(self._parts.hinted(select(ONE).where(*its, *more), way, mine), lock=lock)
            for more in (
                (*compared.values(), *indexed),
                (self._same(self._staying, mine), self._parts.is_active(mine)),
            )
        )
        ours = and_(true(), self._company(), self._parts.is_ticket())
        there = self._is(self._moving, self._move.target_id)
        flags = [ours, and_(ours, self._parts.is_active(), there, exists(rival))]
        for field in self._parts.merged:
            spelled = there if field == self._moving else exists(blocked.where(self._same(field, mine)))
            flags.append(not_(spelled))
        cells = [case((flag, 1), else_=0) for flag in flags]
        cells += [case((ours, cell)) for cell in self._parts.columns]
        rows = select(*(cell.label(f"c_{place}") for place, cell in enumerate(cells)))
        target = self._parts.alike(
            self._column(self._moving), self._value(self._moving, self._move.target_id)
        )
        if self._moving in self._parts.detected.merged:
            target = and_(target, not_(self._is(self._moving, self._move.source_id)))  # that moves with it
        rows = self._parts.hinted(rows.where(target, *indexed, exists(blocked)), self._way)
        return self._seen_now(rows, lock=lock)

    # --- the writing ------------------------------------------------------------------------------------------

    def close(self, tickets: Sequence[Ticket], at: datetime) -> Executable:
        """Return the `UPDATE` that closes tickets of either side while they are active there."""
        changes = self._changes(status=self._mapping.statuses.closed, updated_at=at, closed_at=at)
        return self._change([ticket.id for ticket in tickets], changes)

    def counts(self, ids: Sequence[Id]) -> Executable:
        """Return the `SELECT` of the ids of tickets that this transaction has changed, and of their counts."""
        cells = self._column("id"), self._column("unread_messages")
        return select(*cells).where(self._company(), self._column("id").in_(self._ids(ids)))

    def take_up(self, more: Mapping[Id, int]) -> Executable:
        """Return the `UPDATE` that adds to the counts of tickets of either side while they are active there."""
        count = self._column("unread_messages")
        added = case(*((self._is("id", each), literal_column(str(int(by)))) for each, by in more.items()))
        return self._change(list(more), {count.key: func.coalesce(count, literal_column("0")) + added})

    def _change(self, ids: Sequence[Id], changes: dict[str, Any]) -> Executable:
        those = self._column("id").in_(self._ids(ids))
        here = (self._company(), those, self._on_either_side(), self._parts.is_active())
        changing = update(self._table).where(*here, self._parts.of_desk())
        return self._by(changing.values(changes), self._parts.detected.of_ids)

    def repoint(self) -> Executable:
        """Return the `UPDATE` that gives every ticket of the source to the target, and leaves all else alone."""
        column = self._column(self._moving)
        changes = {column.key: self._value(self._moving, self._move.target_id)}
        return self._by(update(self._table).where(*self._of_source()).values(changes), self._way)

    def respell_message_ids(self) -> Executable | None:
        """Return the `UPDATE` of the source's message ids where the database takes the target for it; None: it does not."""
        if "connection_id" not in self._parts.merged_places:
            return None
        messages = self._mapping.message_ids
        company, source, target = self._places()
        same = self._parts.same_place
        those = (same(messages.c.company_id, company), same(messages.c.connection_id, source))
        alike = self._parts.alike(messages.c.connection_id, target)
        of_ours = self._of_our_tickets(messages.c.ticket_id)
        return update(messages).where(*those, alike, *of_ours).values(connection_id=target)

    def _places(self) -> list[ColumnElement[Any]]:
        """Return the company, the source and the target as the record of message ids has them."""
        messages, move = self._mapping.message_ids.c, self._move
        given = {"company": move.company_id, "source": move.source_id, "target": move.target_id}
        fields = ("company_id", "connection_id", "connection_id")
        return [
            bindparam(name, self._encoded(field, value), messages[field].type)
            for (name, value), field in zip(given.items(), fields, strict=True)
        ]

    def copy_message_ids(self) -> Executable:
        """Return the `INSERT` that makes the source's message ids known on the target as well.

        They stay known on the source: several tickets tables may share the companion table.
        """
        messages, there = self._mapping.message_ids, self._mapping.message_ids.alias("there")
        company, source, target = self._places()
        known = exists(
            select(ONE).where(
                there.c.company_id == company,
                there.c.connection_id == target,
                there.c.message_id == messages.c.message_id,
            )
        )
        same = self._parts.same_place
        rows = select(
            messages.c.company_id, target, messages.c.message_id, messages.c.ticket_id, messages.c.routed_at
        ).where(
            same(messages.c.company_id, company),
            same(messages.c.connection_id, source),
            not_(known),
            *self._of_our_tickets(messages.c.ticket_id),
        )
        names = ["company_id", "connection_id", "message_id", "ticket_id", "routed_at"]
        return insert(messages).from_select(names, rows)

    def left_out(self, ids: Sequence[Id]) -> Select[Any]:
        """Return the `SELECT` of how many of some tickets exist for the desk no more."""
        given = self._ids(ids)
        left: ColumnElement[bool] = not_(func.coalesce(self._parts.of_desk(), false()))
        return select(func.count()).where(self._company(), self._column("id").in_(given), left)

    def _of_our_tickets(self, ticket_id: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        if self._mapping.where is None:
            return []
        there = select(ONE).where(self._company(), self._column("id") == ticket_id, self._parts.of_desk())
        return [exists(there)]

    def _ids(self, ids: Sequence[Id]) -> Any:
        values = [self._encoded("id", each) for each in ids]
        return bindparam("ids", values, self._column("id").type, expanding=True)

    # --- by which index ---------------------------------------------------------------------------------------

    @property
    def _way(self) -> str | None:
        """The index that begins with what is moved; None: there is none, or the database locks what it finds."""
        ways = self._parts.detected.ways
        return ways.contact if self._move.part is KeyPart.CONTACT else ways.connection

    def _by(self, changing: Update, index: str | None) -> Update:  # noqa: ARG002
        """Let an `UPDATE` go by an index, where a database has to be told; None: it chooses itself."""
        return changing

    def _seen_now(self, look: Select[Any], *, lock: bool) -> Select[Any]:  # noqa: ARG002
        """Let a look, or a part of one, see what others have committed meanwhile, where it would not."""
        return look

    # --- conditions -------------------------------------------------------------------------------------------

    def _column(self, field: str, table: Any = None) -> Any:
        column = self._mapping.columns[field]
        return column if table is None else table.c[column.key]

    def _value(self, field: str, value: Any) -> ColumnElement[Any]:
        return bindparam(None, self._encoded(field, value), self._column(field).type, unique=True)

    def _is(self, field: str, value: Id, table: Any = None) -> ColumnElement[bool]:
        return self._parts.same(field, self._column(field, table), self._value(field, value))

    def _company(self, table: Any = None) -> ColumnElement[bool]:
        if "company_id" not in self._mapping.columns:
            return true()
        return self._is("company_id", self._move.company_id, table)

    def _of_source(self) -> tuple[ColumnElement[bool], ...]:
        return self._company(), self._is(self._moving, self._move.source_id), self._parts.of_desk()

    def _on_either_side(self, table: Any = None) -> ColumnElement[bool]:
        sides = self._move.source_id, self._move.target_id
        if self._moving in self._parts.detected.merged:
            return or_(*(self._is(self._moving, side, table) for side in sides))
        values = [self._value(self._moving, side) for side in sides]
        either: ColumnElement[bool] = self._column(self._moving, table).in_(values)
        return either

    def _same(self, field: str, table: Any) -> ColumnElement[bool]:
        if field not in self._mapping.columns:
            return true()  # there is only one connection
        return self._parts.same(field, self._column(field, table), self._column(field))

    def _changes(self, **values: Any) -> dict[str, Any]:
        return {
            self._column(field).key: self._value(field, value)
            if value is not None
            else self._parts.none(field)
            for field, value in values.items()
            if field in self._mapping.columns
        }

    @staticmethod
    def _locked(statement: Select[Any], *, lock: bool) -> Select[Any]:
        return statement.with_for_update() if lock else statement
