"""The statements about many tickets at once, for databases that are sent what is sought as rows.

Law of this file: each statement is built once, and its text is the same for any number of rows; one that holds its rows as
text would be built, compiled and prepared anew for every batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from sqlalchemy import (
    ColumnElement,
    Enum,
    Executable,
    FromClause,
    String,
    Text,
    and_,
    cast,
    not_,
    select,
    true,
    update,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.decisions import MessageRef
from ticketrouter.model import Ticket
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.many import Many
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.message_ids import RECORDED
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent, with_values
from ticketrouter.sqlalchemy.types import InARow, goes_in_a_row
from ticketrouter.sqlalchemy.writes import Writes


class SentRows(ABC):
    """A table of the rows that a statement is sent with.

    Args:
        types: the type of each column, by name.
    """

    def __init__(self, types: Mapping[str, TypeEngine[Any]]) -> None:
        self._types = types
        self.table: FromClause = self._table()
        """The rows, in the order in which they were given."""

    @abstractmethod
    def bound(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Return the values that the statement is sent with, from the cells of each column."""

    @abstractmethod
    def _table(self) -> FromClause: ...


class ManyByRows(Many):
    """The statements about many rows, which are sent rows.

    Args:
        parts: what they are made of.
        writes: the writes of one ticket.
    """

    rows: ClassVar[type[SentRows]]
    """How rows are sent."""

    def __init__(self, parts: Parts, writes: Writes) -> None:
        super().__init__(parts, writes)
        key, changes = ("company_id", "id"), ("unread_messages", "updated_at")
        self._contacts = self._rows_of("company_id", "contact_id")
        self._known = self._rows_of(*key)
        further = self._further_types()
        with_status = self._type_of_status() | further
        self._counts = self._rows_of(*key, *changes, further=further)
        self._wakings = self._rows_of(*key, *changes, further=with_status)
        self._reopenings = self._rows_of(*key, "user_id", "queue_id", *changes, further=with_status)
        self._refs = self._rows_of_refs(*RECORDED[:3])
        self._records = self._rows_of_refs(*RECORDED)

    def _goes_in_a_row(self, type_: TypeEngine[Any]) -> bool:
        return goes_in_a_row(type_, self._values.dialect)

    def in_a_row(self, type_: TypeEngine[Any]) -> TypeEngine[Any]:
        """See `Many.in_a_row`: as a text, which a column has no other length for than it has."""
        return InARow(type_, Text())

    def _type_of_status(self) -> dict[str, TypeEngine[Any]]:
        """Return how the status of a row is sent; where there is no such column, it is not."""
        if not self._values.told_by_word:
            return {}
        # As a text, which a column takes that stores the words as they are.
        return {"status": String() if self._values.words.are_plain else self._mapping.columns["status"].type}

    def _of_pairs(
        self, pairs: Sequence[tuple[Any, Any]], name: str, build: Callable[[ColumnElement[bool]], Any]
    ) -> Sent:
        if name not in self._built:
            self._built[name] = build(self._is_sent(self._contacts))
        companies, ids = ([pair[place] for pair in pairs] for place in (0, 1))
        return self._built[name], self._contacts.bound({"company_id": companies, "contact_id": ids})

    def routed(self, refs: Iterable[MessageRef]) -> Sent:
        """See `Many.routed`."""
        if "routed" not in self._built:
            messages = self._mapping.message_ids.c
            place = (messages[name] == sent for name, sent in self._refs.table.c.items())
            self._built["routed"] = self._routed_to(and_(*place))
        return self._built["routed"], self._refs.bound(_columns([self._values.ref(ref) for ref in refs]))

    def created(self, rows: list[dict[str, Any]], *, of_message: bool) -> tuple[Executable, Any]:
        """See `Many.created`."""
        table = self._mapping.table
        given = {column.key for column in self._mapping.columns.values()}
        # What SQLAlchemy itself fills, or writes in a way of its own, is left to it.
        insert = self._insert[of_message]
        if (
            insert is not self._insert[False]
            or not given.issuperset(rows[0])
            or any(isinstance(self._values.bare(table.columns[name].type), Enum) for name in rows[0])
            or any(each.default is not None for each in table.columns if each.key not in rows[0])
        ):
            return insert, rows
        if "created" not in self._built:
            sent = self.rows({name: table.columns[name].type for name in rows[0]})
            chosen = select(*sent.table.c).where(true())
            self._built["created"] = (
                sent,
                insert.from_select([*rows[0]], chosen, include_defaults=False),
            )
        sent, statement = self._built["created"]
        return statement, sent.bound(_columns(rows))

    def recorded(self, refs: Sequence[tuple[MessageRef, Ticket, datetime]]) -> tuple[Executable, Any]:
        """See `Many.recorded`."""
        messages, sent = self._mapping.message_ids, self._records.table.c
        rows = [
            self._values.ref(ref) | {"ticket_id": self._values.encoded("id", ticket.id), "routed_at": at}
            for ref, ticket, at in refs
        ]
        if "recorded" not in self._built:
            key = list(messages.primary_key)
            statement = self._parts.insert(messages).on_conflict_do_nothing(index_elements=key)
            statement = statement.from_select(
                list(sent.keys()), select(*sent).where(true()), include_defaults=False
            )
            place = (messages.c.company_id, messages.c.connection_id, messages.c.message_id)
            self._built["recorded"] = statement.returning(*place)
        return self._built["recorded"], self._records.bound(_columns(rows))

    def locked(self, tickets: Sequence[Ticket]) -> Sent:
        """See `Many.locked`."""
        columns = self._mapping.columns
        if "locked" not in self._built:
            key = [columns[field] for field in KEY if field in columns]
            is_active = self._parts.is_active().label("active")
            known = select(is_active, *self.cells).where(self._is_sent(self._known), self._parts.of_desk())
            self._built["locked"] = known.order_by(*key).with_for_update(
                key_share=True, of=self._mapping.table
            )
        return self._built["locked"], self._known.bound(self._encoded(tickets))

    def _bump(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        name, rows = ("woken", self._wakings) if "status" in cells else ("bumped", self._counts)
        if name not in self._built:
            self._built[name] = self._build_bumped(rows)
        return self._built[name], rows.bound(self._encoded(tickets) | cells | further) | constants

    def _build_bumped(self, rows: SentRows) -> Any:
        columns, sent = self._mapping.columns, rows.table.c
        changes: dict[str, ColumnElement[Any]] = {
            columns[field].key: sent[field] for field in ("unread_messages", "updated_at") if field in sent
        }
        if "status" in sent:
            changes[columns["status"].key] = self._status(sent)
        changes |= self._by_messages(sent)
        here = self._is_sent(rows), self._parts.of_desk()
        return self._counted(
            with_values(update(self._mapping.table).where(*here), changes, {}, idle=self._mapping.told_by)
        )

    def _status(self, sent: Any) -> ColumnElement[Any]:
        """Return the status of a row that is sent, as its column takes it."""
        status: ColumnElement[Any] = sent["status"]
        return cast(status, self._mapping.columns["status"].type) if self._values.words.are_plain else status

    def _counted(self, statement: Any) -> Any:
        """Let an `UPDATE` tell how many rows it has changed."""
        return statement

    def _by_messages(self, sent: Any) -> dict[str, ColumnElement[Any]]:
        """Return what is written into further columns."""
        if not self._mapping.on_message:
            return {}
        return self._parts.mapping.on_message.changes(lambda name: sent[name], sent["once"] == ONE)

    def _reopen(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        if "reopened" not in self._built:
            self._built["reopened"] = self._build_reopened()
        return self._built["reopened"], self._reopenings.bound(
            self._encoded(tickets) | cells | further
        ) | constants

    def _build_reopened(self) -> Any:
        columns, sent = self._mapping.columns, self._reopenings.table.c
        changes: dict[str, ColumnElement[Any]] = {
            columns[field].key: sent[field]
            for field in ("user_id", "queue_id", "unread_messages", "updated_at")
            if field in columns
        }
        if "status" in sent:
            changes[columns["status"].key] = self._status(sent)
        changes |= self._by_messages(sent)
        if "closed_at" in columns:
            changes[columns["closed_at"].key] = self._parts.none("closed_at")
        # The lock keeps others away, but on SQLite only where the host's transaction has begun with one.
        closed = not_(self._parts.is_active())
        free = self._key_is_free(lambda company: company == sent["company_id"])
        return (
            update(self._mapping.table)
            .where(self._is_sent(self._reopenings), closed, free, self._parts.of_desk())
            .values(changes)
            .returning(*self.cells)
        )

    # --- the parts of them -----------------------------------------------------------------------------------

    def _rows_of(
        self, *fields: str, further: Mapping[str, TypeEngine[Any]] = MappingProxyType({})
    ) -> SentRows:
        columns = self._mapping.columns
        return self.rows({field: columns[field].type for field in fields if field in columns} | {**further})

    def _rows_of_refs(self, *names: str) -> SentRows:
        columns = self._mapping.message_ids.c
        return self.rows({name: columns[name].type for name in names})

    def _encoded(self, tickets: Iterable[Ticket]) -> dict[str, list[Any]]:
        encoded = self._values.encoded
        pairs = [(encoded("company_id", each.company_id), encoded("id", each.id)) for each in tickets]
        return {"company_id": [company for company, _ in pairs], "id": [number for _, number in pairs]}

    def _is_sent(self, rows: SentRows) -> ColumnElement[bool]:
        """Return the condition that joins tickets to the rows: by what the rows have of a contact, or of an id."""
        columns, sent = self._mapping.columns, rows.table.c
        if "id" not in sent:
            return and_(*(columns[field] == sent[field] for field in KEY[:2] if field in sent))
        return is_row(self._mapping, sent)


def is_row(mapping: TicketMapping, of: Any) -> ColumnElement[bool]:
    """Return the condition that joins a ticket to a row that has its id."""
    columns = mapping.columns
    company = columns["company_id"].is_not_distinct_from(of["company_id"]) if "company_id" in of else true()
    # Said so, the company is no way to the row: to PostgreSQL, an index that begins with it is as good as the
    # primary key while a table is young and not yet analysed.
    return and_(columns["id"] == of["id"], company)


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
