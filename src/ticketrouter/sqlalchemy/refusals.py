"""What a write is told as that the table has refused: a lost race, a row in the way, or the table itself.

Law of this file: a refusal is a lost race only if somebody is seen who has won it, or if the way is found free when
the same is tried again and undone. Nothing of a row that is not ours is read. What is raised here says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError

from ticketrouter.decisions import Create, MessageRef
from ticketrouter.errors import BlockedBySchemaError, ConflictError
from ticketrouter.model import Ticket, TicketKey
from ticketrouter.sqlalchemy.columns import KEY, MappingError, full_name
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.error_codes import Fault
from ticketrouter.sqlalchemy.faults import fault_of
from ticketrouter.sqlalchemy.moves import Moves
from ticketrouter.sqlalchemy.parts import Sent
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.wording import Code, Wording, passing

ROUNDS = 3
"""How often something is tried before it is believed that the table itself refuses it."""


class LeftOutError(MappingError):
    """A row of the host's that would be left out by what was written of it."""


@frozen
class Refusals:
    """Finds out why a write was refused.

    Args:
        connection: the host's connection.
        statements: the statements about its tickets.
    """

    connection: Connection
    statements: Statements

    def tell(self, key: TicketKey, besides: Ticket | None = None) -> None:
        """Raise for a row beside which an active ticket has no room on a key; return where none is to be seen.

        Args:
            key: the key.
            besides: the ticket that was to have it, where there is one already.

        Raises:
            ConflictError: if a fresh look would find that row, and lead to another decision.
            BlockedBySchemaError: if it would not.
        """
        rows: Sequence[Any] = self._execute(self.statements.looks.in_the_way(key, besides)).all()
        # Who reopens or transfers decides anew only where the key itself is taken.
        if any(row[1] if besides is None else row[2] for row in rows):
            raise ConflictError("the key was taken meanwhile")
        self._block(rows, 3)

    def tell_move(self, sent: Moves) -> None:
        """Raise for a row of the target beside which one of the source has no room; return where none is to be seen.

        Raises:
            ConflictError: if a fresh survey would find that they share a key.
            BlockedBySchemaError: if it would not.
        """
        rows: Sequence[Any] = self.connection.execute(sent.in_the_way()).all()
        # What is blocked stays so, whatever else is planned, or was taken.
        self._block([row for row in rows if not row[1]], 2)
        if rows:
            raise ConflictError("a key was taken meanwhile")

    def foresee_move(self, sent: Moves) -> None:
        """Raise for a row of the target that would refuse one of the source, and that no plan can close.

        Raises:
            BlockedBySchemaError: if there is one.
        """
        rows: Sequence[Any] = self.connection.execute(sent.in_the_way(lock=False)).all()
        self._block([row for row in rows if not row[1]], 2)

    def foreseen(self, key: TicketKey) -> BlockedBySchemaError | None:
        """Return what an active ticket would be refused with on a key by a row that no look-up finds; None: none."""
        rows: Sequence[Any] = self._execute(self.statements.looks.in_the_way(key, lock=False)).all()
        return self._blocked([row for row in rows if not row[1]], 3)

    def _block(self, rows: Sequence[Any], flags: int) -> None:
        blocked = self._blocked(rows, flags)
        if blocked is not None:
            raise blocked

    def _blocked(self, rows: Sequence[Any], flags: int) -> BlockedBySchemaError | None:
        fields, columns = self.statements.parts.merged, self.statements.mapping.columns
        cells = flags + len(fields)
        # A row that is the company's to see says more than one that is not.
        for row in sorted(rows, key=lambda row: not row[0])[:1]:
            ticket = self.statements.values.ticket(row[cells:]) if row[0] else None
            others = [field for field, is_other in zip(fields, row[flags:cells], strict=True) if is_other]
            merged = tuple(full_name(columns[field]) for field in others)
            return BlockedBySchemaError(ticket, self.statements.rule, merged)
        return None

    def tell_record(self, ref: MessageRef) -> None:
        """Raise for a message id that is recorded for what the database takes for its connection; return where it is not.

        Raises:
            BlockedBySchemaError: if it is.
        """
        sought = self.statements.messages.merged(ref)
        taken = None if sought is None else self._execute(sought).first()
        if taken is None:
            return
        columns, places = self.statements.mapping.message_ids.c, self.statements.parts.merged_places
        merged = (full_name(columns[name]) for name, is_other in zip(places, taken, strict=True) if is_other)
        raise BlockedBySchemaError(None, self.statements.rule, tuple(merged))

    def of_new(self, decision: Create, further: Mapping[str, Any]) -> Ticket:
        """Say why a new row was not taken, though no row is to be seen in its way: see `of_attempt`.

        Args:
            decision: what was to be made.
            further: the values of the host's further columns.
        """

        def attempt() -> Ticket | None:
            writes = self.statements.writes
            row = self._execute(writes.create_plainly(decision, further)).one_or_none()
            if row is None:
                return None
            ticket = self.statements.values.ticket(row[: len(self.statements.values.fields)])
            if not writes.is_met(row, new=True):
                self._execute(writes.discard(ticket))
                raise self.of_new_left_out()
            return ticket

        return self.of_attempt(attempt, decision.key)

    def of_new_left_out(self) -> LeftOutError:
        """Return the error for a new row that does not exist for the desk."""
        where, mapping = self.statements.mapping.where, self.statements.mapping
        asked = frozenset() if where is None else where.columns
        of_ticket = {
            column.name for field, column in mapping.columns.items() if field not in {"user_id", "queue_id"}
        }
        advice: list[str | Code] = []
        if others := sorted(asked - of_ticket):
            advice += ["give ", ", ".join(others), " in ", Code("on_create", "on_create"), " what it asks; "]
        if own := sorted(asked & of_ticket):
            told = ", ".join(own)
            advice += [
                f"{told} is what a new ticket itself has, which nothing else can say: have it allow that; "
            ]
        return self.left_out("a new row", Wording(*advice, "the row is not there"))

    def of_attempt(
        self, attempt: Callable[[], Ticket | None], key: TicketKey, besides: Ticket | None = None
    ) -> Ticket:
        """Say why a write was refused, though no row is to be seen in its way, by trying it again and undoing it.

        Args:
            attempt: the write; it gives None where the table leaves it out.
            key: the key that it is about.
            besides: as for `tell`.

        Returns:
            The ticket, in AUTOCOMMIT only, where nothing can be undone.

        Raises:
            ConflictError: if the way is free now: whoever was in it has gone.
            BlockedBySchemaError: as for `tell`.
            MappingError: if it is the table itself.
            IntegrityError: if another unique index of the host's is against it.
        """
        lost: IntegrityError | None = None
        for _ in range(ROUNDS):
            try:
                made = self._undone(attempt)
            except IntegrityError as error:
                if not self.is_of_the_rule(error):
                    raise
                self.tell(key, besides)
                lost = error
                continue
            if made is None:
                raise self.dropped()
            if is_autocommit(self.connection):
                return made
            raise ConflictError("the key was taken meanwhile")
        raise self.hidden() from lost

    def _undone(self, attempt: Callable[[], Ticket | None]) -> Ticket | None:
        if is_autocommit(self.connection):
            return attempt()
        savepoint = self.connection.begin_nested()
        try:
            return attempt()
        finally:
            if savepoint.is_active:
                savepoint.rollback()

    def still_meets(self, sent: Sent) -> bool:
        """Tell whether a row that an `UPDATE` has not changed is, all the same, as it demands."""
        # Such a database counts what is met, and lets no trigger leave a row out; and a plain read may be old.
        if not self.statements.parts.returns_updates:
            return False
        return self._execute(self.statements.looks.still(sent)).first() is not None

    def stands(self, ticket: Ticket, key: TicketKey, *, active: bool) -> bool:
        """Tell whether a ticket that was written is on its key, and active or not, as it was to be."""
        is_active = self.statements.mapping.statuses.is_active(ticket.status)
        if is_active is active and all(getattr(ticket, field) == getattr(key, field) for field in KEY):
            return True
        # Another spelling may be the same to the database.
        return self._execute(self.statements.looks.stands(ticket.id, key, active=active)).first() is not None

    def is_of_the_rule(self, error: DBAPIError) -> bool:
        """Tell whether a unique index has refused a row that may be the one behind the rule."""
        return fault_of(error) is Fault.TAKEN and not self.is_of_another_index(error)

    def is_of_another_index(self, error: DBAPIError) -> bool:
        """Tell whether a unique index that says nothing of active tickets has refused a row."""
        index = self.statements.parts.detected.index
        named = database_of(self.connection.dialect).errors.index_in(error.orig)
        if index is None or named is None:
            return index is None
        if isinstance(named, frozenset):
            return named != {_bare(part) for part in index.parts}
        return named not in {index.name, _bare(index.name)}

    # --- the errors -------------------------------------------------------------------------------------------

    def nameless(self) -> MappingError:
        """Return the error for a new row without an id, by which nobody could change it."""
        column = self.statements.mapping.columns["id"].name
        return MappingError(
            f"a new row of {self._table} has no {column}, as nobody has filled it: pass ",
            passing("new_id", "..."),
            " to the TicketMapping with a function that makes it; the transaction is given up, so that the row does "
            "not stay",
        )

    def dropped(self) -> MappingError:
        """Return the error for a new row that was left out, with nothing in its way."""
        return MappingError(
            f"{self._table} takes no new row on this key, without an error and with no row in the way: a trigger or a "
            "rule of the table leaves it out; have it let our rows through, or raise an error"
        )

    def hidden(self) -> MappingError:
        """Return the error for a unique index that refuses a row for one that cannot be seen."""
        return MappingError(
            f"a unique index of {self._table} refuses the ticket, and no row is to be seen in its way: row level "
            "security hides it, or the index compares otherwise than its columns; let this role see every row of its "
            "company, or make the index anew"
        )

    def swallowed(self) -> MappingError:
        """Return the error for an `UPDATE` that changes nothing, though the row is as it was seen."""
        return MappingError(
            f"{self._table} leaves a ticket as it is, without an error: a trigger, a rule of the table or row level "
            "security swallows the UPDATE; have it let our changes through, or raise an error"
        )

    def altered(self, what: str) -> MappingError:
        """Return the error for a row that is not what was written."""
        return MappingError(
            f"{self._table} has made something else of {what}: a trigger changes its status or its key; have it leave "
            "both alone"
        )

    def left_out(self, what: str, advice: str) -> LeftOutError:
        """Return the error for a row that would not exist for the desk by what was written of it."""
        where = self.statements.mapping.where
        asked = ", ".join(sorted(where.columns)) if where is not None else ""
        return LeftOutError(
            f"{what} of {self._table} does not meet the row condition, `",
            Code("where", "where"),
            f"`, which asks {asked}: ",
            advice,
        )

    @property
    def _table(self) -> str:
        return self.statements.mapping.table.fullname

    def _execute(self, sent: Sent) -> CursorResult[Any]:
        statement, values = sent
        return self.connection.execute(statement, values)


def _bare(sql: str) -> str:
    """Return a name as the database has it, without its schema and without quotation marks."""
    if quoted := re.search(r"""(?:^|\.)(["`])((?:(?!\1).|\1\1)*)\1$""", sql):
        return quoted[2].replace(2 * quoted[1], quoted[1])
    return sql.rpartition(".")[2]
