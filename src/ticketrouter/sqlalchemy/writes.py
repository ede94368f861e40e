"""The writes of one ticket: what a decision is carried out by.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. A write demands in its conditions what was seen, and says what
it leaves: who was slower meets no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    not_,
    or_,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.batch import Joint
from ticketrouter.decisions import Accept, Close, Create, MessageRef, ReopenTicket, Reuse, Transfer
from ticketrouter.model import InboundMessage, Ticket, UniqueRule
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.on_message import KEEP, Columns, How
from ticketrouter.sqlalchemy.parts import NOT_TAKEN, Parts, Sent
from ticketrouter.sqlalchemy.row_condition import of_nothing
from ticketrouter.wording import passing

JOINED = ("unread_messages", "updated_at")
"""The fields that a message writes when it joins a ticket."""
WOKEN = ("status", *JOINED)
"""The same of one that wakes it."""
REOPENED = ("status", "user_id", "queue_id", "closed_at", *JOINED)
"""The fields that it writes when it reopens one."""
FILLED_BY_HOSTS = ("id", "user_id", "queue_id")
"""The fields that a host's `new_id` and `on_create` may fill in a new row."""


class Writes:
    """The writes of one ticket.

    Args:
        parts: what they are made of.
    """

    can_reuse_as_seen: bool = False
    """Whether there is a statement of `reuse_as_seen`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._mapping = parts.mapping
        self._values = parts.values
        self.insert: Any = self._build_create()
        """The `INSERT` of a new ticket, or of many."""
        self.insert_of_message: Any = self.with_expressions(self.insert)
        """The same, of tickets that messages begin."""
        self._reuses = {False: self._build_reuses({})}
        self._reopens = {False: self._build_reopen({})}
        if self._mapping.on_message:
            further = parts.mapping.on_message.changes()
            self._reuses[True] = self._build_reuses(further)
            self._reopens[True] = self._build_reopen(further)
        self._accept = self._build_accept()
        self._close = self._build_close()
        self._close_as_seen: Any = None
        if self._values.timed and (self._values.counts or parts.times.are_told_apart):
            self._close_as_seen = self._build_close(*self._unchanged())
        self._transfer: Any = self._build_transfer() if "connection_id" in self._mapping.columns else None
        self._discard = delete(self._mapping.table).where(*parts.all_are("company_id", "id"))

    @property
    def sees_rivals(self) -> bool:
        """Whether a new row, unless of many, comes back with whether another is active on its key, and then has to go."""
        return False

    # --- a new ticket ------------------------------------------------------------------------------------------

    def create(self, decision: Create, further: Mapping[str, Any]) -> Sent:
        """Return the `INSERT` that gives no row, or another's, where the unique rule stands against it."""
        row = self._new_row(decision, further, decision.unread_messages, decision.at)
        return self.insert_for(decision), row | self._parts.token()

    def insert_for(self, decision: Create) -> Any:
        """Return the `INSERT` of a new ticket."""
        return self.insert if decision.message is None else self.insert_of_message

    def with_expressions(self, inserting: Any) -> Any:
        """Let an `INSERT` write what `on_message` has as an expression."""
        written = self._mapping.on_message.of_how(How.EXPRESSION)
        table, nothing = self._mapping.table, self._nothing
        expressions = {each.column.key: of_nothing(table, each.value, nothing) for _, each in written}
        return inserting.values(expressions) if expressions else inserting

    def _nothing(self, type_: TypeEngine[Any]) -> ColumnElement[Any]:
        """Return a NULL of a type, in an expression that may be about nothing else."""
        return literal_column("NULL", type_)

    def of_new_row(
        self, columns: Columns, messages: Iterable[tuple[InboundMessage, datetime]]
    ) -> dict[str, Any]:
        """Return what messages write into further columns of a new row, by key; what they leave is not among it."""
        values = columns.values(messages, self._values.encode) if columns else {}
        return {
            columns.written[number].column.key: value for number, value in values.items() if value is not KEEP
        }

    def create_recorded(
        self,
        decision: Create,  # noqa: ARG002
        further: Mapping[str, Any],  # noqa: ARG002
        ref: MessageRef,  # noqa: ARG002
    ) -> Sent | None:
        """Return the one statement that does the same and records a message id with the new ticket.

        Its row has, before the mark that `create` ends in, whether the id was recorded. None: there is none.
        """
        return None

    def create_joint(self, joint: Joint, first: Create, further: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `insert` is sent with for a ticket that several messages join at once."""
        status = joint.last_status(self._first_word(first), self._mapping.statuses)
        return self._new_row(first, further, joint.last_count(first.unread_messages), joint.at, status)

    def create_plainly(self, decision: Create, further: Mapping[str, Any]) -> Sent:
        """Return the `INSERT` of `create` that no unique rule stands against in silence."""
        row = self._new_row(decision, further, decision.unread_messages, decision.at)
        told = [*self._parts.columns, *self._parts.met_by_new]
        plain = insert(self._mapping.table).returning(*told)
        return (plain if decision.message is None else self.with_expressions(plain)), row

    def _new_row(
        self,
        decision: Create,
        further: Mapping[str, Any],
        count: int,
        updated_at: datetime,
        status: str | None = None,
    ) -> dict[str, Any]:
        """Return the values of a new row; its status is the one that it begins with, unless another is given."""
        key = decision.key
        values = {
            "company_id": key.company_id,
            "contact_id": key.contact_id,
            "connection_id": key.connection_id,
            "status": status or self._first_word(decision),
            "is_group": decision.is_group,
            "unread_messages": count,
            "user_id": decision.user_id,
            "queue_id": decision.queue_id,
            "created_at": decision.at,
            "updated_at": updated_at,
        }
        if "closed_at" in self._mapping.absent or not self._values.told_by_word:
            values["closed_at"] = None
        row = {
            self._mapping.columns[field].key: self._values.encoded(field, value)
            for field, value in values.items()
            if field in self._mapping.columns
        }
        row |= dict(further)
        # Made by a host's function, and so like any id of the host's.
        for field in FILLED_BY_HOSTS:
            column = self._mapping.columns.get(field)
            if column is not None and column.key in further:
                row[column.key] = self._values.encoded(field, further[column.key])
        return row

    def _first_word(self, decision: Create) -> str:
        """Return the word of a new ticket."""
        return self._mapping.statuses.of_new(is_group=decision.is_group, accepted=decision.accepted)

    def _rivals(self) -> list[ColumnElement[Any]]:
        """Return the cell of a new row that tells whether it has a rival, where it `sees_rivals`."""
        return []

    @property
    def width(self) -> int:
        """How many cells a new row has of its own: a ticket's, and whether it exists for the desk."""
        return len(self._parts.columns) + len(self._parts.met_by_new)

    def is_met(self, row: Sequence[Any], *, new: bool) -> bool:
        """Tell whether a row that was made, or changed, exists for the desk, or can come to do so."""
        told = self._parts.met_by_new if new else self._parts.met
        return not told or bool(row[len(self._parts.columns)])

    def discard(self, ticket: Ticket) -> Sent:
        """Return the `DELETE` of a ticket that this very transaction has created, and nobody has seen."""
        return self._discard, self._values.bound(company_id=ticket.company_id, id=ticket.id)

    def _build_create(self) -> Any:
        parts, table = self._parts, self._mapping.table
        if parts.rule is UniqueRule.NONE:
            told = [*parts.returned, *parts.met_by_new, *self._rivals()]
            return insert(table).returning(*told, NOT_TAKEN)
        told = [*parts.returned, *parts.met_by_new]
        return parts.insert_unless_taken(table, parts.conflict(), self._mapping.told_by, told)

    # --- a message joins a ticket, or reopens it ---------------------------------------------------------------

    def of_message(self, decision: Create | Reuse | ReopenTicket, columns: Columns) -> dict[str, Any] | None:
        """Return what a message writes into further columns; None: it is no message, or there are none.

        Args:
            decision: what was decided on it.
            columns: the host's own, whose functions are asked.
        """
        if not columns or decision.message is None:
            return None
        return self._values.of_message(columns, decision.message, decision.at)

    def reuse(self, decision: Reuse, columns: Columns) -> Sent:
        """Return the `UPDATE` that lets a message join a ticket while it is active on its key, and may wake it."""
        seen, unread = self._values.seen(decision.ticket), self._values.unread(decision.unread)
        written = self.of_message(decision, columns)
        reuse, awake, wake = self._reuses[written is not None]
        values = seen | unread | self._at(decision.at) | (written or {})
        if not decision.wakes or not self._mapping.statuses.wakes:
            return reuse, values
        woken = decision.woken(self._mapping.statuses)
        if woken is None:
            return awake, values
        values |= self._values.seen_status(decision.ticket)
        return wake, values | self._values.bound(status=woken)

    def reuse_as_seen(
        self,
        decision: Reuse,  # noqa: ARG002
        columns: Columns,  # noqa: ARG002
    ) -> tuple[Sent, Callable[[int], Ticket]] | None:
        """Return an `UPDATE` of `reuse` that needs no row back, because it changes a ticket only if all else is as seen.

        Beside it stands what makes of the last inserted id, which is the new count, the ticket as it is then. None:
        this database, or this table, needs another way.
        """
        return None

    def reopen(self, decision: ReopenTicket, columns: Columns) -> Sent:
        """Return the `UPDATE` that makes a ticket active while it is closed on its key."""
        status = self._mapping.statuses.of_reopened(accepted=decision.accepted)
        values = self._values.bound(status=status, user_id=decision.user_id, queue_id=decision.queue_id)
        seen, unread = self._values.seen(decision.ticket), self._values.unread(decision.unread)
        if self._mapping.statuses.final:
            seen |= self._values.seen_status(decision.ticket)
        values |= seen | unread | self._at(decision.at)
        written = self.of_message(decision, columns)
        return self._reopens[written is not None], values | (written or {})

    def _at(self, at: datetime) -> dict[str, Any]:
        return self._values.bound(updated_at=at)

    def _build_reuse(self, further: Mapping[str, Any], *where: ColumnElement[bool], **changes: Any) -> Any:
        parts = self._parts
        return self._changing(
            further,
            *parts.as_seen(),
            parts.is_active(),
            *where,
            unread_messages=self._new_count(),
            updated_at=self._optional("updated_at"),
            **changes,
        )

    def _build_reuses(self, further: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return the `UPDATE`s of messages that join.

        First of one that wakes nothing; then of those that wake: of a ticket that is awake, and must be so still, and of
        one that is not.
        """
        reuse = self._build_reuse(further)
        if not self._mapping.statuses.wakes:
            return reuse, None, None
        parts = self._parts
        return (
            reuse,
            self._build_reuse(further, not_(parts.sleeps())),
            self._build_reuse(further, *parts.is_status_as_seen(), status=parts.bind("status")),
        )

    def _build_reopen(self, further: Mapping[str, Any]) -> Any:
        parts = self._parts
        return self._changing(
            further,
            *parts.as_seen(),
            parts.is_closed(),
            parts.not_final_since(),
            parts.key_is_free(self._mapping.columns.get("connection_id")),
            status=self._optional("status"),
            user_id=self._optional("user_id"),
            queue_id=self._optional("queue_id"),
            unread_messages=self._new_count(),
            updated_at=self._optional("updated_at"),
            closed_at=parts.none("closed_at"),
        )

    def _new_count(self) -> ColumnElement[Any] | None:
        """Return the new count, whatever becomes of it."""
        count = self._mapping.columns.get("unread_messages")
        if count is None:
            return None
        more = func.coalesce(count, literal_column("0")) + bindparam("b_unread_add", type_=Integer)
        return func.coalesce(bindparam("b_unread_set", type_=Integer), more)

    def _optional(self, field: str) -> ColumnElement[Any] | None:
        return self._parts.bind(field) if field in self._mapping.columns else None

    def _changing(self, further: Mapping[str, Any] | None, *where: ColumnElement[bool], **values: Any) -> Any:
        """Return the `UPDATE` of one ticket; its row, where there is one, ends in whether it exists for the desk."""
        changing = self._parts.update(*where, further=further, **values)
        met = self._parts.met if self._parts.returns_updates else []
        return changing.returning(*met) if met else changing

    # --- the desk ----------------------------------------------------------------------------------------------

    def accept(self, decision: Accept) -> Sent:
        """Return the `UPDATE` that gives a ticket to an agent while status and agent are as seen."""
        values = self._values.bound(status=self._mapping.statuses.accepted, user_id=decision.user_id)
        seen = self._values.seen(decision.ticket) | self._values.seen_status(decision.ticket)
        if "user_id" in self._mapping.columns:
            seen["b_seen_user_id"] = self._values.encoded("user_id", decision.ticket.user_id)
        return self._accept, seen | values | self._at(decision.at)

    def close(self, decision: Close) -> Sent:
        """Return the `UPDATE` that closes a ticket while it is active, and as it was seen where that is demanded.

        Raises:
            MappingError: if that is demanded, and the table has nothing that tells it: a count is set back by whoever
                reads, and so may be the same again though a message has come.
        """
        values = self._values.bound(
            company_id=decision.ticket.company_id,
            id=decision.ticket.id,
            status=self._mapping.statuses.closed,
            closed_at=decision.at,
        )
        values |= self._at(decision.at)
        if not decision.as_seen:
            return self._close, values
        if self._close_as_seen is None:
            raise self._untold()
        changed_at = self._values.encoded("updated_at", decision.ticket.updated_at)
        seen = self._values.seen_status(decision.ticket) | {"b_seen_updated_at": changed_at}
        if self._values.counts:
            seen["b_seen_unread"] = self._values.encoded("unread_messages", decision.ticket.unread_messages)
        return self._close_as_seen, values | seen

    def _untold(self) -> MappingError:
        what, advice = "has no column for updated_at", "a time that each message moves"
        if self._values.timed:
            what = f"keeps no milliseconds in {self._mapping.columns['updated_at'].name}, and has no count"
            advice = "a time of milliseconds or less, or unread_messages with a count"
        return MappingError(
            f"{self._mapping.table.fullname} {what}, so nobody can tell whether a message has joined a ticket since it "
            "was seen, and closing it might lose that: pass ",
            passing("updated_at", "..."),
            f" with {advice}, or close the ticket without seen=",
        )

    def transfer(self, decision: Transfer) -> Sent:
        """Return the `UPDATE` that moves a ticket while it is active on its key."""
        # Where there is only one connection, this refuses every other one.
        to = {"b_to_connection_id": self._values.encoded("connection_id", decision.connection_id)}
        return self._transfer, self._values.seen(decision.ticket) | to | self._at(decision.at)

    def _build_accept(self) -> Any:
        parts = self._parts
        seen = parts.is_status_as_seen()
        if (user := self._mapping.columns.get("user_id")) is not None:
            seen.append(user.is_not_distinct_from(parts.bind("user_id", "b_seen_user_id")))
        return self._changing(
            None,
            *parts.as_seen(),
            parts.is_active(),
            *seen,
            status=self._optional("status"),
            user_id=self._optional("user_id"),
            updated_at=self._optional("updated_at"),
        )

    def _unchanged(self) -> list[ColumnElement[bool]]:
        """Return the condition that nobody has changed a ticket since it was seen; one without a time never was."""
        parts, changed_at = self._parts, self._mapping.columns["updated_at"]
        is_as_seen = self._is_time(changed_at, parts.bind("updated_at", "b_seen_updated_at"))
        unchanged = [*parts.is_status_as_seen(), or_(is_as_seen, self._has_no_time(changed_at))]
        count = self._mapping.columns.get("unread_messages")
        if count is None:
            return unchanged
        # Two messages may come at one time, as far as the column keeps it.
        seen = parts.bind("unread_messages", "b_seen_unread")
        return [*unchanged, func.coalesce(count, literal_column("0")) <= seen]

    def _is_time(self, column: ColumnElement[Any], time: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare a column with a time that was read from it."""
        same: ColumnElement[bool] = column == time
        return same

    def _has_no_time(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a column of time holds none."""
        return column.is_(None)

    def _build_close(self, *as_seen: ColumnElement[bool]) -> Any:
        parts = self._parts
        return self._changing(
            None,
            *parts.all_are("company_id", "id"),
            parts.is_active(),
            *as_seen,
            status=self._optional("status"),
            updated_at=self._optional("updated_at"),
            closed_at=self._optional("closed_at"),
        )

    def _build_transfer(self) -> Any:
        parts = self._parts
        to = parts.bind("connection_id", "b_to_connection_id")
        return self._changing(
            None,
            *parts.as_seen(),
            parts.is_active(),
            parts.key_is_free(to),
            connection_id=to,
            updated_at=self._optional("updated_at"),
        )
