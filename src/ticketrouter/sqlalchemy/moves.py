"""The statements of a move: what a survey reads, and what its plan writes.

Law of this file: as in `ticketrouter.sqlalchemy.statements`: the company stands in every statement, status words
are literals, values are bound as their columns take them, nothing is sent from here. Moves are rare, so their
statements are built when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    exists,
    insert,
    literal_column,
    not_,
    null,
    select,
    true,
    update,
)

from ticketrouter.checks import Id
from ticketrouter.model import Ticket, UniqueRule
from ticketrouter.moves import KeyPart, Move
from ticketrouter.sqlalchemy.mapping import KEY
from ticketrouter.sqlalchemy.schema import quoted
from ticketrouter.sqlalchemy.statements import Statements

CLOSED_AT_ONCE = 500
"""How many tickets one statement closes: every database takes that many values."""


class MoveStatements:
    """The statements for one move.

    Args:
        statements: those of its tickets table, which know the mapping and the unique rule.
        move: what is moved where.
    """

    def __init__(self, statements: Statements, move: Move) -> None:
        self._statements = statements
        self._mapping = statements.mapping
        self._codecs = statements.codecs
        self._move = move
        self._table = statements.mapping.table
        other = KeyPart.CONNECTION if move.part is KeyPart.CONTACT else KeyPart.CONTACT
        self._moving, self._staying = move.part.value, other.value

    # --- the survey -------------------------------------------------------------------------------------------

    def ticket_ids(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the ids of all tickets of the source, orphans too: they go with it."""
        number = self._column("id")
        return self._locked(select(number).where(*self._of_source()).order_by(number), lock=lock)

    def contacts(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the contacts that have something active on the source, each as often as it has."""
        contact = self._column("contact_id")
        return self._locked(
            select(contact).where(*self._of_source(), self._active(), contact.is_not(None)), lock=lock
        )

    def rivals(self, *, lock: bool) -> Select[Any]:
        """Return the `SELECT` of the active tickets that would share a key with another one."""
        other = self._table.alias("other")
        sharing: Select[Any] = select(literal_column("1")).where(
            self._company(other),
            self._on_either_side(other),
            self._same(self._staying, other),
            self._active(other),
            self._column("id", other) != self._column("id"),
        )
        # On MariaDB the lock of a statement is not one of its subqueries, which would read an old snapshot.
        sharing = self._locked(sharing, lock=lock and self._statements.reads_may_be_old)
        rows = select(*self._statements.columns).where(
            self._company(), self._on_either_side(), self._active(), self._no_orphan(), exists(sharing)
        )
        return self._locked(rows, lock=lock)

    def occupant(self) -> Select[Any] | None:
        """Return the `SELECT` of a row of the target that leaves no room for one of the source; None: none can."""
        match self._statements.rule, self._move.part:
            case UniqueRule.ONE_PER_CONNECTION, _:
                beside = True
            case UniqueRule.ONE_PER_CONTACT, KeyPart.CONTACT:
                beside = False
            case _:
                return None
        words = self._statements.detected.words
        other = self._table.alias("other")
        in_the_way = [self._company(other), self._is(self._moving, self._move.source_id, other)]
        if beside:
            in_the_way.append(self._same(self._staying, other))
        if words is not None:
            # Of two rows in progress on one connection the plan closes one, which takes it out of the index.
            in_the_way += [self._has_status(words, other), not_(self._same(self._staying, other))]
        blocking = exists(select(literal_column("1")).where(*in_the_way))
        covered = true() if words is None else self._has_status(words)
        target = self._is(self._moving, self._move.target_id)
        return select(*self._statements.columns).where(self._company(), target, covered, blocking).limit(1)

    # --- the writing ------------------------------------------------------------------------------------------

    def close(self, tickets: Sequence[Ticket], at: datetime) -> Executable:
        """Return the `UPDATE` that closes tickets of either side while they are active there."""
        encode = self._codecs["id"].encode
        ids = bindparam(
            "ids", [encode(ticket.id) for ticket in tickets], self._column("id").type, expanding=True
        )
        changes = self._changes(status=self._mapping.statuses.closed, updated_at=at, closed_at=at)
        here = (self._company(), self._column("id").in_(ids), self._on_either_side(), self._active())
        return update(self._table).where(*here).values(changes)

    def repoint(self) -> Executable:
        """Return the `UPDATE` that gives every ticket of the source to the target, and leaves all else alone."""
        column = self._column(self._moving)
        changes = {column.key: self._value(self._moving, self._move.target_id)}
        return update(self._table).where(*self._of_source()).values(changes)

    def copy_message_ids(self) -> Executable:
        """Return the `INSERT` that makes the source's message ids known on the target as well.

        They stay known on the source: several tickets tables may share the companion table.
        """
        messages, there = self._mapping.message_ids, self._mapping.message_ids.alias("there")
        source, target = (
            bindparam(name, self._codecs["connection_id"].encode(value), messages.c.connection_id.type)
            for name, value in (("source", self._move.source_id), ("target", self._move.target_id))
        )
        company = bindparam("company", self._encoded_company(), messages.c.company_id.type)
        known = exists(
            select(literal_column("1")).where(
                there.c.company_id == company,
                there.c.connection_id == target,
                there.c.message_id == messages.c.message_id,
            )
        )
        rows = select(
            messages.c.company_id, target, messages.c.message_id, messages.c.ticket_id, messages.c.routed_at
        ).where(messages.c.company_id == company, messages.c.connection_id == source, not_(known))
        names = ["company_id", "connection_id", "message_id", "ticket_id", "routed_at"]
        return insert(messages).from_select(names, rows)

    # --- conditions -------------------------------------------------------------------------------------------

    def _column(self, field: str, table: Any = None) -> Any:
        column = self._mapping.columns[field]
        return column if table is None else table.c[column.key]

    def _value(self, field: str, value: Any) -> ColumnElement[Any]:
        return bindparam(None, self._codecs[field].encode(value), self._column(field).type, unique=True)

    def _is(self, field: str, value: Id, table: Any = None) -> ColumnElement[bool]:
        equal: ColumnElement[bool] = self._column(field, table) == self._value(field, value)
        return equal

    def _company(self, table: Any = None) -> ColumnElement[bool]:
        if "company_id" not in self._mapping.columns:
            return true()
        return self._is("company_id", self._move.company_id, table)

    def _encoded_company(self) -> Any:
        codec = self._codecs.get("company_id")
        return self._move.company_id if codec is None else codec.encode(self._move.company_id)

    def _of_source(self) -> tuple[ColumnElement[bool], ...]:
        return self._company(), self._is(self._moving, self._move.source_id)

    def _on_either_side(self, table: Any = None) -> ColumnElement[bool]:
        sides = [self._value(self._moving, side) for side in (self._move.source_id, self._move.target_id)]
        either: ColumnElement[bool] = self._column(self._moving, table).in_(sides)
        return either

    def _same(self, field: str, table: Any) -> ColumnElement[bool]:
        same: ColumnElement[bool] = self._column(field, table) == self._column(field)
        return same

    def _active(self, table: Any = None) -> ColumnElement[bool]:
        return self._has_status(self._mapping.statuses.active, table)

    def _has_status(self, words: frozenset[str], table: Any = None) -> ColumnElement[bool]:
        found: ColumnElement[bool] = self._column("status", table).in_(
            [literal_column(quoted(word)) for word in sorted(words)]
        )
        return found

    def _no_orphan(self) -> ColumnElement[bool]:
        if not self._mapping.nullable_keys:
            return true()
        return and_(*(self._column(field).is_not(None) for field in KEY[1:]))

    def _changes(self, **values: Any) -> dict[str, Any]:
        return {
            self._column(field).key: self._value(field, value) if value is not None else null()
            for field, value in values.items()
            if field in self._mapping.columns
        }

    @staticmethod
    def _locked(statement: Select[Any], *, lock: bool) -> Select[Any]:
        return statement.with_for_update() if lock else statement
