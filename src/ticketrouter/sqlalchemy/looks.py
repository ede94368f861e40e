"""The looks at tickets: what is asked before it is decided, and how the rows are read.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. Each statement is built once, when it is asked for first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Executable, Select, and_, case, not_, or_, select, true, union_all

from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import Lookup, Snapshot
from ticketrouter.model import Ticket, TicketKey
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.facts import ELSEWHERE, ElsewhereError
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent
from ticketrouter.sqlalchemy.words import taken_for

Variant: TypeAlias = tuple[bool, Scope, bool, bool]
"""Whether a look is about a key, its scope, and whether closed tickets and a message id are a part of it."""


class Looks:
    """The looks at tickets.

    Args:
        parts: what they are made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._values = parts.values
        self._of_lookup = parts.values.of_lookup
        self._rule = parts.rule
        self._ticket = parts.values.ticket
        self._loads: dict[Variant, Executable] = {}
        self._built: dict[Hashable, Executable] = {}
        self.of_one: Select[Any] = select(*parts.columns).where(
            *parts.all_are("company_id", "id"), parts.is_ticket(), parts.is_here
        )
        """The `SELECT` of `get`."""

    # --- everything for a decision -----------------------------------------------------------------------------

    def load(self, lookup: Lookup) -> Sent:
        """Return the one `SELECT` that finds everything for a Snapshot."""
        variant = variant_of(lookup)
        statement = self._loads.get(variant)
        if statement is None:
            statement = self._loads[variant] = self.built(*variant)
        return statement, self._of_lookup(lookup)

    def built(
        self, with_key: bool, scope: Scope, with_closed: bool, with_message: bool, *more: Select[Any]
    ) -> Executable:
        """Return the `SELECT` of `load`, and of more that has a role."""
        parts = self._parts
        looks = [parts.by_rule(parts.role("active", *parts.active_of_contact()))]
        if with_key:
            looks += self.of_key(scope, with_closed)
        if with_message:
            looks.append(self.routed())
        looks += [*more, *parts.told_elsewhere(len(parts.columns))]
        return looks[0] if len(looks) == 1 else union_all(*looks)

    def of_key(self, scope: Scope, with_closed: bool, *where: ColumnElement[bool]) -> list[Select[Any]]:
        """Return the parts about rows that are not active, or that a unique rule has in the way."""
        parts = self._parts
        contact = (*parts.of_contact(), *where)
        looks: list[Select[Any]] = []
        if with_closed:
            here = true() if scope is Scope.CONTACT else parts.is_("connection_id")
            closed = select(*parts.columns).where(*contact, here, parts.may_be_reopened(), parts.is_ticket())
            looks.append(parts.first("closed", closed.order_by(*parts.latest_closing())))
        if (occupying := parts.occupying()) is not None:
            looks.append(parts.first("occupant", select(*parts.columns).where(*contact, *occupying)))
        return looks

    def routed(self) -> Select[Any]:
        """Return the part about the ticket that a message id was given."""
        parts = self._parts
        return parts.role(
            "routed",
            parts.is_("company_id"),
            parts.mapping.columns["id"] == parts.mapping.message_ids.c.ticket_id,
            parts.is_ticket(),
            *parts.is_message(),
        )

    def snapshot(self, rows: Iterable[Sequence[Any]]) -> Snapshot:
        """Return what the rows of `load` say."""
        ticket = self._ticket
        return self.told([(found_here(role), ticket(values)) for role, *values in self._parts.cells_in(rows)])

    def told(self, tickets: Sequence[tuple[str, Ticket]]) -> Snapshot:
        """Return what tickets with their roles say."""
        single = dict(tickets)
        return Snapshot(
            active=[ticket for role, ticket in tickets if role == "active"],
            latest_closed=single.get("closed"),
            occupant=single.get("occupant"),
            routed=single.get("routed"),
            unique_rule=self._rule,
            counts=self._parts.values.counts,
            as_kept=self._parts.times.as_kept,
        )

    def known_closed(self, lookup: Lookup) -> Sent:
        """Return the `SELECT` of the ticket that was closed last by a word which the scheme knows."""
        statement = self._once(lookup.scope, lambda: self.last_known(lookup.scope))
        return statement, self._of_lookup(lookup, message=False)

    def last_known(self, scope: Scope) -> Select[Any]:
        """Return the `SELECT` of `known_closed`."""
        parts = self._parts
        here = true() if scope is Scope.CONTACT else parts.is_("connection_id")
        closed = parts.role(
            "closed", *parts.of_contact(), here, parts.is_reopenable(), parts.is_ticket_locked()
        )
        return closed.order_by(*parts.latest_closing()).limit(1)

    # --- one ticket --------------------------------------------------------------------------------------------

    def get(self, company_id: Id, ticket_id: Id) -> Sent:
        """Return the `SELECT` of one ticket by its id."""
        return self.of_one, self._values.bound(company_id=company_id, id=ticket_id)

    def held(self, ticket: Ticket) -> Sent:
        """Return the `SELECT` that locks a ticket by its id, wherever it is now."""
        parts = self._parts

        def built() -> Executable:
            return select(ONE).where(*parts.all_are("company_id", "id")).with_for_update()

        return self._once("held", built), self._values.bound(company_id=ticket.company_id, id=ticket.id)

    def taken_for(self, ticket: Ticket) -> Sent:
        """Return the `SELECT` of a ticket's status, and of the active word that the database takes it for, if any."""
        parts = self._parts
        status = parts.mapping.told_by

        def built() -> Executable:
            word = taken_for(status, parts.mapping.statuses.active, parts.values.words)
            return select(parts.cell("status"), word).where(*parts.all_are("company_id", "id"))

        return self._once("taken for", built), self._values.bound(company_id=ticket.company_id, id=ticket.id)

    def stands(self, ticket_id: Id, key: TicketKey, *, active: bool) -> Sent:
        """Return the `SELECT` of a row of one column if a ticket is on a key, and active there or not."""
        parts = self._parts

        def built() -> Executable:
            return select(ONE).where(
                *parts.as_seen(), parts.is_active() if active else not_(parts.is_active())
            )

        return self._once(("stands", active), built), self._values.on(key) | self._values.bound(id=ticket_id)

    def still(self, sent: Sent, *, lock: bool = False) -> Sent:
        """Return the `SELECT` of a row of one column if the row that an `UPDATE` is about still is as it demands.

        Args:
            sent: the `UPDATE`.
            lock: whether it sees what the `UPDATE` has seen, where a plain read may be older.
        """
        changing: Any = sent[0]

        def built() -> Executable:
            met = select(ONE).select_from(self._parts.mapping.table).where(changing.whereclause)
            return met.with_for_update() if lock else met

        return self._once((changing, lock), built), sent[1]

    # --- what is in the way ------------------------------------------------------------------------------------

    def in_the_way(self, key: TicketKey, besides: Ticket | None = None, *, lock: bool = True) -> Sent:
        """Return the `SELECT` of the rows beside which there is no room for an active ticket on a key.

        It asks as the index does, by its own columns and its own condition, whosever the rows are. A row is whether
        it is the company's to see, whether a look-up of the key would find it, whether it is active on the key, for
        each field of `Parts.merged` whether it has another id there, and its cells: nothing else of a row that is not
        ours is read.

        Args:
            key: the key.
            besides: the ticket that is to have the key, where there is one already.
            lock: whether it sees what has refused a write, where that may be newer than what a plain read sees.
        """
        variant = besides is not None, lock
        statement = self._once(("in the way", *variant), lambda: self._build_in_the_way(*variant))
        values = self._values.on(key)
        return statement, values if besides is None else values | self._values.bound(id=besides.id)

    def _build_in_the_way(self, besides: bool, lock: bool) -> Executable:
        parts = self._parts
        ours = and_(true(), parts.is_("company_id"), parts.is_ticket())
        occupying, active = parts.occupying(), parts.is_active()
        contact = parts.spelled("contact_id")
        found = and_(active, *contact, *parts.spelled("connection_id"))
        if occupying is not None:
            found = or_(found, and_(*occupying, *contact))
        flags = (ours, and_(ours, found), and_(ours, active, parts.is_("connection_id"), *contact))
        others = [not_(and_(*parts.spelled(field))) for field in parts.merged]
        cells = [
            *(case((flag, 1), else_=0) for flag in (*flags, *others)),
            *(case((ours, cell)) for cell in parts.columns),
        ]
        not_itself = [parts.mapping.columns["id"] != parts.bind("id")] if besides else []
        rows = select(*(cell.label(f"c_{place}") for place, cell in enumerate(cells)))
        return self._of_what_refused(rows.where(*self._held_by_the_index(), *not_itself), lock=lock)

    def _of_what_refused(self, rows: Select[Any], *, lock: bool) -> Select[Any]:  # noqa: ARG002
        """Let a look go by the index that refuses; and see, with a lock, what a plain one would not see yet."""
        return rows

    def _held_by_the_index(self) -> list[ColumnElement[bool]]:
        """Return which rows the index compares with an active one on the key; without an index, those on it."""
        parts = self._parts
        if parts.detected.index is None:
            return [*parts.all_are(*KEY), parts.is_active(), parts.of_desk()]
        compared = [parts.alike(parts.mapping.columns[field], parts.bind(field)) for field in parts.compared]
        return [*compared, *parts.held_by_an_index, parts.in_rule()]

    def _once(self, name: Hashable, build: Callable[[], Executable]) -> Executable:
        statement = self._built.get(name)
        if statement is None:
            statement = self._built[name] = build()
        return statement


def variant_of(lookup: Lookup) -> Variant:
    """Return which of the looks of `load` a lookup asks for."""
    with_key, with_message = lookup.connection_id is not None, lookup.message_id is not None
    return with_key, lookup.scope, lookup.closed, with_key and with_message


def found_here(role: str) -> str:
    """Return the role of a row.

    Raises:
        ElsewhereError: if it tells that the connection is not where it was.
    """
    if role == ELSEWHERE:
        raise ElsewhereError
    return role
