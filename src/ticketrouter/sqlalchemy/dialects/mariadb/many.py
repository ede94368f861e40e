"""The statements about many tickets at once on MariaDB, which gets lists of ids, by company.

Law of this file: MariaDB would join rows that it is sent by reading, and so locking, the whole table. What locks names
the index of the ids: any other way would lock rows, and gaps, that others insert into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    bindparam,
    case,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.decisions import MessageRef
from ticketrouter.model import Ticket
from ticketrouter.sqlalchemy.dialects.mariadb.statements import MariaDBParts, by_index
from ticketrouter.sqlalchemy.many import Many
from ticketrouter.sqlalchemy.parts import ONE, Sent, with_values
from ticketrouter.sqlalchemy.writes import Writes

_SET_BACK: ColumnElement[Any] = literal_column("(@ticketrouter := 0)").label("set_back")
"""What a row of several ends in, so that the next one does not find the variable as this one has set it."""


def _is_among(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of some values, by a name of ours: SQLAlchemy's has the column's in it."""
    return column.in_(bindparam("among", values, type_=column.type, unique=True, expanding=True))


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | str | bytes | datetime)


class MariaDBMany(Many):
    """The statements about many rows of MariaDB."""

    at_most: int | None = 500  # it looks for each row among all of a statement

    def __init__(self, parts: MariaDBParts, writes: Writes) -> None:
        super().__init__(parts, writes)
        self._unless_taken = parts.insert_unless_taken
        self._with_expressions = writes.with_expressions
        self._of_ids = parts.detected.of_ids

    # --- reading ---------------------------------------------------------------------------------------------

    def _of_pairs(
        self,
        pairs: Sequence[tuple[Any, Any]],
        name: str,  # noqa: ARG002 - there is nothing to be kept
        build: Callable[[ColumnElement[bool]], Any],
    ) -> Sent:
        groups: dict[Any, list[Any]] = {}
        for company, contact in pairs:
            groups.setdefault(company, []).append(contact)
        contact_id = self._mapping.columns["contact_id"]
        among = (
            self._is_company(company) & _is_among(contact_id, found) for company, found in groups.items()
        )
        return build(or_(*among)), {}

    def routed(self, refs: Iterable[MessageRef]) -> Sent:
        """See `Many.routed`."""
        return self._routed_to(self.among(refs)), {}

    def among(self, refs: Iterable[MessageRef]) -> ColumnElement[bool]:
        """Return which rows of the record are of some message ids."""
        messages = self._mapping.message_ids.c
        groups: dict[tuple[Any, Any], list[Any]] = {}
        for ref in refs:
            company, connection, message = self._values.ref(ref).values()
            groups.setdefault((company, connection), []).append(message)
        return or_(
            *(
                (messages.company_id == company)
                & (messages.connection_id == connection)
                & messages.message_id.in_(found)
                for (company, connection), found in groups.items()
            )
        )

    def locked(self, tickets: Sequence[Ticket]) -> Sent:
        """See `Many.locked`."""
        is_active = self._parts.is_active().label("active")
        ids = _is_among(self._mapping.columns["id"], self._ids(tickets))
        found = select(is_active, *self.cells).where(self._companies(tickets), ids, self._parts.of_desk())
        return self._parts.hinted(found, self._of_ids).with_for_update(), {}

    # --- writing ---------------------------------------------------------------------------------------------

    def created(self, rows: list[dict[str, Any]], *, of_message: bool) -> tuple[Executable, Any]:
        """See `Many.created`: a row ends in whether it is one in the way, and an idle cell."""
        name = "begun" if of_message else "created"
        if name not in self._built:
            columns = [*self._parts.columns, *self._parts.met_by_new]
            inserting = self._unless_taken(self._mapping.table, {}, self._mapping.told_by, columns, _SET_BACK)
            self._built[name] = self._with_expressions(inserting) if of_message else inserting
        return self._built[name], self._with_token(rows)

    def recorded(self, refs: Sequence[tuple[MessageRef, Ticket, datetime]]) -> tuple[Executable, Any]:
        """See `Many.recorded`: a row ends as one of `created`."""
        if "recorded" not in self._built:
            table = self._mapping.message_ids
            place = (table.c.company_id, table.c.connection_id, table.c.message_id)
            self._built["recorded"] = self._unless_taken(table, {}, table.c.ticket_id, place, _SET_BACK)
        return self._built["recorded"], self._with_token(
            self._values.ref(ref) | {"ticket_id": self._values.encoded("id", ticket.id), "routed_at": at}
            for ref, ticket, at in refs
        )

    def _with_token(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        token = self._parts.token()
        return [row | token for row in rows]

    def made(self, rows: Iterable[Sequence[Any]], values: Any) -> list[Sequence[Any]]:
        """See `Many.made`."""
        return [row[:-2] for row in rows if self._parts.is_made(row[-2], values[0])]

    def _bump(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        return self._changed(tickets, cells, further, constants)

    def _reopen(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        free = self._key_is_free(lambda company: self._companies(tickets, company))
        return self._changed(tickets, cells, further, constants, free, nulls=("closed_at",))

    def _changed(
        self,
        tickets: Sequence[Ticket],
        cells: Mapping[str, Sequence[Any]],
        further: Mapping[str, Sequence[Any]],
        constants: dict[str, Any],
        *where: ColumnElement[bool],
        nulls: Sequence[str] = (),
    ) -> Sent:
        columns, ids = self._mapping.columns, self._ids(tickets)
        changes: dict[str, ColumnElement[Any]] = {
            columns[field].key: self._value_by_id(ids, values, columns[field].type)
            for field, values in cells.items()
        }
        changes |= {columns[field].key: self._parts.none(field) for field in nulls if field in columns}
        more: dict[str, Any] = {}
        if further:
            types = self._further_types()

            def told(name: str) -> ColumnElement[Any]:
                return self._value_by_id(ids, further[name], types[name])

            more = self._parts.mapping.on_message.changes(told, told("once") == ONE)
        here = (_is_among(columns["id"], ids), self._companies(tickets), self._parts.of_desk(), *where)
        changing = with_values(
            update(self._mapping.table).where(*here), changes, more, idle=self._mapping.told_by
        )
        return by_index(changing, self._of_ids), constants

    def _value_by_id(
        self, ids: Sequence[Any], values: Sequence[Any], type_: TypeEngine[Any]
    ) -> ColumnElement[Any]:
        first = values[0]
        # What is equal need not be the same: [1] and [True] are two texts of JSON.
        if all(
            each is first or (type(each) is type(first) and _is_plain(each) and each == first)
            for each in values
        ):
            return literal(first, type_)
        column = self._mapping.columns["id"]
        # A bare id would be sent as its Python type is, and not as the column keeps it.
        each = {
            literal(key, column.type): literal(value, type_) for key, value in zip(ids, values, strict=True)
        }
        return case(each, value=column)

    def _ids(self, tickets: Iterable[Ticket]) -> list[Any]:
        return [self._values.encoded("id", ticket.id) for ticket in tickets]

    def _companies(
        self, tickets: Iterable[Ticket], column: ColumnElement[Any] | None = None
    ) -> ColumnElement[bool]:
        companies = {self._values.company(ticket.company_id) for ticket in tickets}
        return or_(*(self._is_company(company, column) for company in companies))
