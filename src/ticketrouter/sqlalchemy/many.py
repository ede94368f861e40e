"""The statements about many tickets at once, for `load_many` and `commit_many`.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. How a database is told of which rows, and what it answers, stands
in `many_by_rows`, for those that are sent rows, or in its room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Select,
    String,
    exists,
    func,
    not_,
    null,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import Lookup, MessageRef, ReopenTicket, Snapshot, trusted_snapshot
from ticketrouter.model import InboundMessage, Ticket, UniqueRule, id_order, key_order
from ticketrouter.sqlalchemy.claims import Contact, contact_order
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.on_message import Columns, How, sent_cells, sent_constants, sent_types
from ticketrouter.sqlalchemy.parts import Parts, Sent
from ticketrouter.sqlalchemy.types import IdText, decode_id
from ticketrouter.sqlalchemy.writes import Writes

_T = TypeVar("_T")
Messages: TypeAlias = Sequence[tuple[InboundMessage, datetime]]
"""Messages, each with when it came."""
Recorded: TypeAlias = tuple[Any, Any, bytes]
"""The place of a message id in the record."""


class Many(ABC):
    """The statements about many rows.

    Args:
        parts: what they are made of.
        writes: the writes of one ticket.
    """

    at_most: int | None = None
    """How many rows one `UPDATE` changes; None: as many as there are."""

    def __init__(self, parts: Parts, writes: Writes) -> None:
        self._parts = parts
        self._mapping = parts.mapping
        self._values = parts.values
        self._insert = {False: writes.insert, True: writes.insert_of_message}
        self._ticket = parts.values.ticket
        # What `tickets` reads: ids of any type as the texts that they are kept as.
        self.cells: list[ColumnElement[Any]] = [
            type_coerce(self._mapping.columns[field], self.read_as(field)).label(field)
            for field in self._values.fields
        ]
        self._encoded_at = [
            place
            for place, field in enumerate(self._values.fields)
            if isinstance(self._mapping.columns[field].type, IdText)
        ]
        self._built: dict[str, Any] = {}

    def read_as(self, field: str) -> TypeEngine[Any]:
        """Return the type that the database itself knows, as there are many rows, and what they leave empty is no work."""
        type_ = self._parts.cell(field).type
        return String() if isinstance(type_, IdText) else type_

    # --- reading ---------------------------------------------------------------------------------------------

    def active(self, contacts: Iterable[Contact]) -> Sent:
        """Return the `SELECT` of what the contacts have active."""
        parts = self._parts

        def active(here: ColumnElement[bool]) -> Any:
            look = select(*self.cells).where(here, parts.is_active(), parts.in_rule(), parts.is_ticket())
            return union_all(parts.by_rule(look), *parts.elsewhere([null() for _ in self.cells]))

        return self.of_contacts(contacts, "active", active)

    def closed(self, contacts: Iterable[Contact], *, known: bool = False) -> Sent:
        """Return the `SELECT` of what each contact has closed last on each connection.

        Args:
            contacts: the contacts.
            known: whether only words count that the scheme knows.
        """
        parts, columns = self._parts, self._mapping.columns
        key = [parts.to_the_letter(field, columns[field]) for field in KEY if field in columns]
        place = func.row_number().over(partition_by=key, order_by=parts.latest_closing()).label("place")

        def latest(here: ColumnElement[bool]) -> Any:
            counted = parts.is_reopenable() if known else parts.may_be_reopened()
            closed = select(*self.cells, place).where(here, counted, parts.is_ticket())
            *found, place_of = closed.subquery("closed").c
            return select(*found).where(place_of == 1)

        return self.of_contacts(contacts, "known_closed" if known else "closed", latest)

    def occupying(self, contacts: Iterable[Contact]) -> Sent | None:
        """Return the `SELECT` of the rows that a unique rule may put in the way; None: it puts none."""
        occupying = self._parts.occupying()
        if occupying is None:
            return None
        return self.of_contacts(
            contacts, "occupying", lambda here: select(*self.cells).where(here, occupying[-1])
        )

    def of_contacts(
        self, contacts: Iterable[Contact], name: str, build: Callable[[ColumnElement[bool]], Any]
    ) -> Sent:
        """Return a statement about contacts; what it is like, `build` says from the condition which those are."""
        encoded = self._values.encoded
        pairs = [
            (encoded("company_id", company), encoded("contact_id", contact))
            for company, contact in sorted(contacts, key=contact_order)
        ]
        return self._of_pairs(pairs, name, build)

    @abstractmethod
    def _of_pairs(
        self, pairs: Sequence[tuple[Any, Any]], name: str, build: Callable[[ColumnElement[bool]], Any]
    ) -> Sent:
        """Return the same, of the pairs that such columns hold."""

    @abstractmethod
    def routed(self, refs: Iterable[MessageRef]) -> Sent:
        """Return the `SELECT` of the tickets that message ids were given, each after its place in the record."""

    def _routed_to(self, places: ColumnElement[bool]) -> Select[Any]:
        """Return the `SELECT` of `routed`, for such places in the record."""
        messages, columns = self._mapping.message_ids.c, self._mapping.columns
        place = (messages.company_id, messages.connection_id, messages.message_id)
        same = self._is_company(messages.company_id)
        return select(*place, *self.cells).where(
            places, same, columns["id"] == messages.ticket_id, self._parts.is_ticket()
        )

    def has_no_beginning(self, cells: Sequence[Any]) -> bool:
        """Tell whether a ticket's column for its creation holds no time: what stands for that changes with each message."""
        if "created_at" not in self._values.fields:
            return False
        decode = self._values.codecs["created_at"].decode
        return decode(cells[self._values.fields.index("created_at")]) is None

    def tickets(self, rows: Iterable[Sequence[Any]]) -> list[Ticket]:
        """Return the tickets of rows, the last cells of which are those of a ticket."""
        known: dict[str | None, Id | None] = {None: None}
        tickets: list[Ticket] = []
        for row in rows:
            cells = [*row]
            for at in self._encoded_at:
                text = cells[at]
                if text not in known:
                    known[text] = decode_id(text)
                cells[at] = known[text]
            tickets.append(self._ticket(cells))
        return tickets

    def snapshots(
        self,
        lookups: Sequence[Lookup],
        active: Iterable[Ticket],
        closed: Iterable[Ticket],
        known: Iterable[Ticket],
        occupying: Iterable[Ticket],
        routed: dict[Recorded, Ticket],
        *,
        remembers: bool,
    ) -> list[Snapshot]:
        """Return for each lookup the Snapshot that what was found amounts to.

        Args:
            lookups: what was asked for.
            active: what their contacts have active.
            closed: what each contact has closed last on each connection.
            known: the same of those whose words the scheme knows.
            occupying: the rows that a unique rule may put in the way.
            routed: the tickets that message ids were given, by their places in the record.
            remembers: whether message ids are recorded.
        """
        actives, closeds, knowns, rows = map(_by_contact, (active, closed, known, occupying))
        statuses = self._mapping.statuses

        def last(found: dict[Contact, list[Ticket]], lookup: Lookup) -> Ticket | None:
            here = found.get((lookup.company_id, lookup.contact_id), ()) if lookup.closed else ()
            return max((each for each in here if _in_scope(each, lookup)), key=_closing, default=None)

        def of(lookup: Lookup) -> Snapshot:
            contact = lookup.company_id, lookup.contact_id
            latest = last(closeds, lookup)
            is_known = latest is None or statuses.is_reopenable(latest.status)
            in_the_way = [each for each in rows.get(contact, ()) if self._is_in_the_way(each, lookup)]
            return trusted_snapshot(
                active=tuple(actives.get(contact, ())),
                latest_closed=latest if is_known else last(knowns, lookup),
                occupant=in_the_way[0] if in_the_way else None,
                routed=routed.get(self.place(lookup)) if routed else None,
                unique_rule=self._parts.rule,
                remembers=remembers,
                unknown=None if is_known else latest,
                counts=self._values.counts,
                as_kept=self._parts.times.as_kept,
            )

        return [of(lookup) for lookup in lookups]

    def place(self, lookup: Lookup) -> Recorded:
        """Return under what the message id of a lookup is found among those of `routed`."""
        if lookup.message_id is None or lookup.connection_id is None:
            return (None, None, b"")
        return (lookup.company_id, lookup.connection_id, self._values.digest(lookup.message_id))

    def _is_in_the_way(self, row: Ticket, lookup: Lookup) -> bool:
        return self._parts.rule is UniqueRule.ONE_PER_CONTACT or row.connection_id == lookup.connection_id

    # --- writing ---------------------------------------------------------------------------------------------

    @abstractmethod
    def created(self, rows: list[dict[str, Any]], *, of_message: bool) -> tuple[Executable, Any]:
        """Return the `INSERT` of new tickets, which gives those that nothing stood against, and what it is sent with.

        Args:
            rows: the rows.
            of_message: whether messages begin them.
        """

    @abstractmethod
    def recorded(self, refs: Sequence[tuple[MessageRef, Ticket, datetime]]) -> tuple[Executable, Any]:
        """Return the `INSERT` of message ids, which gives the place of each that was not recorded before."""

    def made(self, rows: Iterable[Sequence[Any]], values: Any) -> list[Sequence[Any]]:  # noqa: ARG002
        """Return the rows of an `INSERT` of many that nothing stood against.

        Args:
            rows: what came back.
            values: what it was sent with.
        """
        return list(rows)

    @abstractmethod
    def locked(self, tickets: Sequence[Ticket]) -> Sent:
        """Return the `SELECT` of tickets as they are now, locked in the order of their keys where that can be said.

        A row is whether the ticket is active, and its cells.
        """

    def at_once(self, rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
        """Give the rows in as many parts as there must be statements to change them."""
        most = self.at_most or max(len(rows), 1)
        for begin in range(0, len(rows), most):
            yield rows[begin : begin + most]

    def bumped(
        self, tickets: Sequence[Ticket], columns: Columns, messages: Sequence[Messages], *, wakes: bool
    ) -> Iterator[Sent]:
        """Give the `UPDATE`s of count and time of tickets that are locked.

        Args:
            tickets: the tickets, as they are to be left.
            columns: what is written into further columns.
            messages: by which messages of each; by none where that is done already.
            wakes: whether the status of one of them is to be another than it is.
        """
        for pairs in self.at_once(list(zip(tickets, messages, strict=True))):
            rows = [ticket for ticket, _ in pairs]
            cells = self._cells_of("unread_messages", [each.unread_messages for each in rows])
            cells |= self._cells_of("updated_at", [each.updated_at for each in rows])
            if wakes:
                cells |= self._cells_of("status", [each.status for each in rows])
            yield self._bump(rows, cells, *self._written(columns, [each for _, each in pairs]))

    def _written(
        self, columns: Columns, messages: Sequence[Messages]
    ) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Return what is sent for each ticket by its messages, and what is sent for all."""
        if not columns:
            return {}, {}
        encode = self._values.encode
        cells = sent_cells(columns, [columns.values(each, encode) if each else {} for each in messages])
        return cells | {"once": [int(bool(each)) for each in messages]}, sent_constants(columns, encode)

    @property
    def takes_further(self) -> bool:
        """Whether what functions of `on_message` answer can be sent for many tickets at once."""
        functions = self._mapping.on_message.of_how(How.FUNCTION)
        return all(self._goes_in_a_row(each.column.type) for _, each in functions)

    def _goes_in_a_row(self, type_: TypeEngine[Any]) -> bool:  # noqa: ARG002
        """Tell whether values of a host's type can be sent for many tickets at once."""
        return True

    def in_a_row(self, type_: TypeEngine[Any]) -> TypeEngine[Any]:
        """Return as what a value of a host's type is sent for one of many tickets."""
        return type_

    def _further_types(self) -> dict[str, TypeEngine[Any]]:
        columns = self._mapping.on_message
        return {**sent_types(columns, self.in_a_row), "once": Integer()} if columns else {}

    @abstractmethod
    def _bump(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        """Return the `UPDATE` that gives tickets such cells, and by their messages further ones."""

    def reopened(
        self,
        decisions: Sequence[ReopenTicket],
        tickets: Sequence[Ticket],
        columns: Columns,
        messages: Sequence[Messages],
    ) -> Sent:
        """Return the `UPDATE` that makes tickets active which are locked, and gives their rows where it can."""
        statuses = self._mapping.statuses
        counts = [
            decision.unread.after(ticket.unread_messages)
            for decision, ticket in zip(decisions, tickets, strict=True)
        ]
        return self._reopen(
            tickets,
            {
                **self._cells_of(
                    "status", [statuses.of_reopened(accepted=each.accepted) for each in decisions]
                ),
                **self._cells_of("user_id", [each.user_id for each in decisions]),
                **self._cells_of("queue_id", [each.queue_id for each in decisions]),
                **self._cells_of("unread_messages", counts),
                **self._cells_of("updated_at", [each.at for each in decisions]),
            },
            *self._written(columns, messages),
        )

    @abstractmethod
    def _reopen(
        self,
        tickets: Sequence[Ticket],
        cells: dict[str, list[Any]],
        further: dict[str, list[Any]],
        constants: dict[str, Any],
    ) -> Sent:
        """Return the same, that gives them such cells."""

    # --- the parts of them -----------------------------------------------------------------------------------

    def _cells_of(self, field: str, values: Iterable[Any]) -> dict[str, list[Any]]:
        """Return the cells of a field, as its column takes them; a table without the column gets none."""
        if field not in self._mapping.columns:
            return {}
        return {field: [self._values.encoded(field, value) for value in values]}

    def _key_is_free(
        self, of_company: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    ) -> ColumnElement[bool]:
        """Where no unique rule says so, the statement itself must: for each row, among those of the companies."""
        if self._parts.rule is not UniqueRule.NONE:
            return true()
        columns, other = self._mapping.columns, self._mapping.table.alias("other")
        there = {field: other.c[column.key] for field, column in columns.items()}
        here = [of_company(there["company_id"])] if "company_id" in there else []
        here += [self._parts.same(field, there[field], columns[field]) for field in KEY if field in there]
        rival = select(there["id"]).where(*here, there["id"] != columns["id"], *self._is_rival(other))
        return not_(exists(self._parts.as_committed(rival, other)))

    def _is_rival(self, table: Any) -> list[ColumnElement[bool]]:
        return [self._parts.is_active(table), self._parts.of_desk(table)]

    def _is_company(self, company: Any, column: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
        """Compare the company's column, or another, with a company; a table of one has no column for that."""
        company_id = self._mapping.columns.get("company_id") if column is None else column
        return true() if company_id is None else company_id == company


def in_key_order(joints: Sequence[Joint], kind: type[Any]) -> list[int]:
    """Return the places of the Joints that begin so, in the order that every transaction keeps."""
    found = [place for place, joint in enumerate(joints) if isinstance(joint.first, kind)]
    return sorted(found, key=lambda place: key_order(joints[place].key))


def _by_contact(tickets: Iterable[Ticket]) -> dict[Contact, list[Ticket]]:
    found: dict[Contact, list[Ticket]] = {}
    for ticket in tickets:
        found.setdefault((ticket.company_id, ticket.contact_id), []).append(ticket)
    return found


def _in_scope(ticket: Ticket, lookup: Lookup) -> bool:
    return lookup.scope is Scope.CONTACT or ticket.connection_id == lookup.connection_id


def _closing(ticket: Ticket) -> tuple[Any, ...]:
    return (ticket.closed_at or ticket.updated_at, *id_order(ticket.id))
