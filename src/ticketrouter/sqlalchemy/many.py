"""The statements about many tickets at once, for `load_many` and `commit_many`.

Law of this file: as in `ticketrouter.sqlalchemy.statements`; and rows are asked for by company, each with a list of
what is sought, so that every statement carries the company and finds its rows by index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    FromClause,
    any_,
    bindparam,
    case,
    column,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    update,
    values,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.model import Ticket, UniqueRule, id_order, key_order
from ticketrouter.policy import Lookup, MessageRef, Snapshot
from ticketrouter.sqlalchemy.mapping import KEY
from ticketrouter.sqlalchemy.statements import Sent, Statements

_AT_ONCE = 500
"""How many rows one `UPDATE` of MariaDB changes: it looks for each among all of them."""
_BY_PRIMARY_KEY = "FORCE INDEX (PRIMARY)"

_Contact: TypeAlias = tuple[Id, Id]
_Place: TypeAlias = tuple[Any, Any, bytes]


class ManyStatements:
    """The statements about many rows, for one mapping, one database and one unique rule.

    Args:
        statements: the statements about one.
    """

    def __init__(self, statements: Statements) -> None:
        self._of_one = statements
        self._mapping = statements.mapping
        self._is_postgresql = statements.dialect_name == "postgresql"
        self._is_mariadb = statements.reads_may_be_old

    @property
    def creates(self) -> bool:
        """Whether many tickets are created, and many message ids recorded, in one statement."""
        return not self._is_mariadb

    # --- reading ---------------------------------------------------------------------------------------------

    def active(self, contacts: Iterable[_Contact]) -> Sent:
        """Return the `SELECT` of what the contacts have active."""
        one = self._of_one
        return select(*one.columns).where(self._of(contacts), one.is_active(), one.no_orphan()), {}

    def closed(self, contacts: Iterable[_Contact]) -> Sent:
        """Return the `SELECT` of what each contact has closed last on each connection."""
        one, columns = self._of_one, self._mapping.columns
        key = [columns[field] for field in KEY if field in columns]
        place = func.row_number().over(partition_by=key, order_by=one.latest_closing()).label("place")
        rows = (
            select(*one.columns, place)
            .where(self._of(contacts), not_(one.is_active()), one.no_orphan())
            .subquery("closed")
        )
        *found, place_of = rows.c
        return select(*found).where(place_of == 1), {}

    def occupying(self, contacts: Iterable[_Contact]) -> Sent | None:
        """Return the `SELECT` of the rows that a unique rule may put in the way; None: it puts none."""
        words = self._of_one.occupying_words()
        return None if words is None else (select(*self._of_one.columns).where(self._of(contacts), words), {})

    def routed(self, refs: Iterable[MessageRef]) -> Sent:
        """Return the `SELECT` of the tickets that message ids were given, each after its place in the record."""
        one, messages, columns = self._of_one, self._mapping.message_ids.c, self._mapping.columns
        groups: dict[tuple[Any, Any], list[Any]] = {}
        for ref in refs:
            company, connection, text = one.recorded(ref).values()
            groups.setdefault((company, connection), []).append(text)
        places = [
            (messages.company_id == company)
            & (messages.connection_id == connection)
            & self._among(messages.message_id, texts)
            for (company, connection), texts in groups.items()
        ]
        companies = [self._is_company(company) for company in {company for company, _ in groups}]
        statement = select(
            messages.company_id, messages.connection_id, messages.message_id, *one.columns
        ).where(or_(*places), or_(*companies), columns["id"] == messages.ticket_id, one.no_orphan())
        return statement, {}

    def snapshots(
        self,
        lookups: Sequence[Lookup],
        active: Iterable[Ticket],
        closed: Iterable[Ticket],
        occupying: Iterable[Ticket],
        routed: dict[_Place, Ticket],
        *,
        remembers: bool,
    ) -> list[Snapshot]:
        """Return for each lookup the Snapshot that what was found amounts to."""
        actives, closeds, rows = (_by_contact(found) for found in (active, closed, occupying))

        def of(lookup: Lookup) -> Snapshot:
            contact = lookup.company_id, lookup.contact_id
            here = [each for each in closeds.get(contact, ()) if _in_scope(each, lookup)]
            in_the_way = [each for each in rows.get(contact, ()) if self._is_in_the_way(each, lookup)]
            return Snapshot(
                active=actives.get(contact, ()),
                latest_closed=max(here, key=_closing, default=None) if lookup.closed else None,
                occupant=in_the_way[0] if in_the_way else None,
                routed=routed.get(self.place(lookup)) if routed else None,
                unique_rule=self._of_one.rule,
                remembers=remembers,
            )

        return [of(lookup) for lookup in lookups]

    def place(self, lookup: Lookup) -> _Place:
        """Return under what the message id of a lookup is found among those of `routed`."""
        if lookup.message_id is None or lookup.connection_id is None:
            return (None, None, b"")
        return (lookup.company_id, lookup.connection_id, self._of_one.digest(lookup.message_id))

    def _is_in_the_way(self, row: Ticket, lookup: Lookup) -> bool:
        return self._of_one.rule is UniqueRule.ONE_PER_CONTACT or row.connection_id == lookup.connection_id

    # --- writing ---------------------------------------------------------------------------------------------

    def locked(self, tickets: Sequence[Ticket]) -> Sent:
        """Return the `SELECT` of tickets as they are now, locked in the order of their keys where that can be said."""
        one, columns = self._of_one, self._mapping.columns
        ids = [one.encoded("id", ticket.id) for ticket in tickets]
        statement = select(*one.columns).where(
            self._companies(tickets), self._among(columns["id"], ids), one.is_active()
        )
        if self._is_mariadb:
            # By the primary key alone: any other way would lock rows, and gaps, that others insert into.
            return statement.with_hint(self._mapping.table, _BY_PRIMARY_KEY).with_for_update(), {}
        order = [columns[field] for field in KEY if field in columns]
        return statement.order_by(*order).with_for_update(key_share=True), {}

    def bumped(
        self, tickets: Sequence[Ticket], counts: Sequence[int], times: Sequence[datetime]
    ) -> Iterator[Sent]:
        """Give the `UPDATE`s of count and time of tickets that are locked."""
        rows = list(zip(tickets, counts, times, strict=True))
        if not self._is_mariadb:
            yield self._bumped(rows)
            return
        for begin in range(0, len(rows), _AT_ONCE):
            yield self._bumped_by_id(rows[begin : begin + _AT_ONCE])

    def _bumped(self, rows: Sequence[tuple[Ticket, int, datetime]]) -> Sent:
        one, columns = self._of_one, self._mapping.columns
        cells = {
            "id": [one.encoded("id", ticket.id) for ticket, _, _ in rows],
            "unread_messages": [count for _, count, _ in rows],
            "updated_at": [one.encoded("updated_at", at) for _, _, at in rows],
        }
        sent, bound = self._rows({field: columns[field].type for field in cells}, cells)
        changes = {columns[field].key: sent.c[field] for field in ("unread_messages", "updated_at")}
        here = (columns["id"] == sent.c["id"], self._companies(ticket for ticket, _, _ in rows))
        return update(self._mapping.table).where(*here).values(changes), bound

    def _bumped_by_id(self, rows: Sequence[tuple[Ticket, int, datetime]]) -> Sent:
        """Return the same for MariaDB, which would join other rows to be sent by reading, and locking, the whole table."""
        one, columns = self._of_one, self._mapping.columns
        ids = [one.encoded("id", ticket.id) for ticket, _, _ in rows]
        counts = {each: count for each, (_, count, _) in zip(ids, rows, strict=True)}
        times = {
            each: literal(one.encoded("updated_at", at), columns["updated_at"].type)
            for each, (_, _, at) in zip(ids, rows, strict=True)
        }
        changes = {
            columns["unread_messages"].key: case(counts, value=columns["id"]),
            columns["updated_at"].key: case(times, value=columns["id"]),
        }
        statement = (
            update(self._mapping.table)
            .where(columns["id"].in_(ids), self._companies(ticket for ticket, _, _ in rows))
            .values(changes)
            .with_hint(_BY_PRIMARY_KEY)
        )
        return statement, {}

    def recorded(self, refs: Sequence[tuple[MessageRef, Ticket, datetime]]) -> Sent:
        """Return the `INSERT` of message ids, which gives the place of each that was not recorded before."""
        one, messages = self._of_one, self._mapping.message_ids
        rows = [(*one.recorded(ref).values(), one.encoded("id", ticket.id), at) for ref, ticket, at in refs]
        names = ["company_id", "connection_id", "message_id", "ticket_id", "routed_at"]
        types = {name: messages.c[name].type for name in names}
        cells = {name: [row[place] for row in rows] for place, name in enumerate(names)}
        sent, bound = self._rows(types, cells)
        statement = one.insert_unless_recorded().from_select(
            names, select(*sent.c).where(true()), include_defaults=False
        )
        key = [messages.c.company_id, messages.c.connection_id, messages.c.message_id]
        return statement.returning(*key), bound

    # --- the parts of them -----------------------------------------------------------------------------------

    def _of(self, contacts: Iterable[_Contact]) -> ColumnElement[bool]:
        one = self._of_one
        groups: dict[Any, list[Any]] = {}
        for company, contact in contacts:
            groups.setdefault(one.encoded("company_id", company), []).append(
                one.encoded("contact_id", contact)
            )
        contact_id = self._mapping.columns["contact_id"]
        return or_(
            *(
                self._is_company(company) & self._among(contact_id, sorted(found, key=id_order))
                for company, found in groups.items()
            )
        )

    def _companies(self, tickets: Iterable[Ticket]) -> ColumnElement[bool]:
        companies = {self._of_one.encoded("company_id", ticket.company_id) for ticket in tickets}
        return or_(*(self._is_company(company) for company in companies))

    def _is_company(self, company: Any) -> ColumnElement[bool]:
        company_id = self._mapping.columns.get("company_id")
        return true() if company_id is None else company_id == company

    def _among(self, of: ColumnElement[Any], sought: Sequence[Any]) -> ColumnElement[bool]:
        if self._is_postgresql:
            return of == any_(bindparam(None, list(sought), type_=postgresql.ARRAY(of.type)))
        return of.in_(sought)

    def _rows(
        self, types: dict[str, TypeEngine[Any]], cells: dict[str, list[Any]]
    ) -> tuple[FromClause, dict[str, Any]]:
        columns = [column(name, type_) for name, type_ in types.items()]
        if self._is_postgresql:
            arrays = [bindparam(f"r_{name}", type_=postgresql.ARRAY(type_)) for name, type_ in types.items()]
            rows = func.unnest(*arrays).table_valued(*columns, name="sent").render_derived()
            return rows, {f"r_{name}": cells[name] for name in types}
        table = values(*columns, name="sent").data(list(zip(*cells.values(), strict=True)))
        return table.cte("sent"), {}


def in_key_order(joints: Sequence[Joint], kind: type[Any]) -> list[int]:
    """Return the places of the Joints that begin so, in the order that every transaction keeps."""
    found = [place for place, joint in enumerate(joints) if isinstance(joint.first, kind)]
    return sorted(found, key=lambda place: key_order(joints[place].key))


def _by_contact(tickets: Iterable[Ticket]) -> dict[_Contact, list[Ticket]]:
    found: dict[_Contact, list[Ticket]] = {}
    for ticket in tickets:
        found.setdefault((ticket.company_id, ticket.contact_id), []).append(ticket)
    return found


def _in_scope(ticket: Ticket, lookup: Lookup) -> bool:
    return lookup.scope is Scope.CONTACT or ticket.connection_id == lookup.connection_id


def _closing(ticket: Ticket) -> tuple[Any, ...]:
    return (ticket.closed_at or ticket.updated_at, *id_order(ticket.id))
