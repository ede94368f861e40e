"""The one statement by which a message joins on PostgreSQL, and its twin for many.

Law of this file: as in `ticketrouter.sqlalchemy.joins`. A message id is recorded, and a contact is claimed, by the same
statement; and what has to be looked for where there is no ticket is looked for in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    Integer,
    Select,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql

from ticketrouter.choices import Scope
from ticketrouter.decisions import Join, Lookup, Snapshot, trusted_snapshot
from ticketrouter.model import Ticket, UniqueRule, newest_first
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.dialects.postgresql.statements import Arrays, PostgreSQLClaims
from ticketrouter.sqlalchemy.facts import ElsewhereError
from ticketrouter.sqlalchemy.joins import Joining, Joins, SwallowedError
from ticketrouter.sqlalchemy.looks import Looks, found_here
from ticketrouter.sqlalchemy.many import Many
from ticketrouter.sqlalchemy.many_by_rows import is_row
from ticketrouter.sqlalchemy.message_ids import RECORDED
from ticketrouter.sqlalchemy.on_message import Columns, sent_cells, sent_constants, sent_types
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent, more, with_values
from ticketrouter.sqlalchemy.reading import RowReader
from ticketrouter.sqlalchemy.types import IdText, decode_id


class PostgreSQLJoins(Joins):
    """The statement by which a message joins.

    Its rows are those of `Looks.load`, where a row of the role "hit", if there is one, stands for the ticket on the key.

    Args:
        parts: what it is made of.
        looks: the looks at tickets.
        claims: what keeps others from a contact.
    """

    def __init__(self, parts: Parts, looks: Looks, claims: PostgreSQLClaims) -> None:
        super().__init__(parts)
        self._looks = looks
        self._claims = claims
        values, fields = parts.values, parts.values.fields
        self._told = tuple(field for field in KEY[:2] if field in values.exact and field in fields)
        self._brief_fields = tuple(
            field for field in fields if field not in self._told and field != "closed_at"
        )
        self._brief = RowReader(parts.mapping, values.codecs, self._brief_fields, self._told).ticket
        self._brief_width = 1 + len(self._brief_fields)
        self._built: dict[tuple[Scope, bool, bool, int | None, bool, bool, bool], Executable] = {}

    def join(self, lookup: Lookup, join: Join, columns: Columns, *, claims: bool) -> Sent | None:
        """See `Joins.join`."""
        ref = join.message_ref
        wakes, writes = self._wakes(join), self._writes(join)
        variant = lookup.scope, lookup.closed, ref is not None, more(join.unread), claims, wakes, writes
        statement = self._built.get(variant)
        if statement is None:
            statement = self._built[variant] = self._build(*variant)
        values = self._sent(lookup, join, columns, variant[3])
        if claims:
            values |= self._claims.values(lookup.company_id, lookup.contact_id)
        if ref is not None:
            values["b_routed_at"] = join.at
        return statement, values

    def joined(self, lookup: Lookup, rows: Sequence[Sequence[Any]]) -> Snapshot | None:
        """See `Joins.joined`."""
        read, told = self._values.ticket, ()
        if rows and len(rows[0]) == self._brief_width:
            read, told = self._brief, tuple([getattr(lookup, field) for field in self._told])
        if len(rows) == 1 and rows[0][0] == "hit":  # nearly every message
            return self._met(read(rows[0][1:], told))
        if any(row[0] == "swallowed" for row in rows):
            raise SwallowedError
        tickets = [(found_here(row[0]), read(row[1:], told)) for row in rows]
        hit = next((ticket for role, ticket in tickets if role == "hit"), None)
        if hit is not None:
            return self._met(hit, (ticket for role, ticket in tickets if role != "hit"))
        # Who must claim first has seen nothing that counts.
        return None if self._rule is UniqueRule.NONE else self._looks.told(tickets)

    def _build(
        self,
        scope: Scope,
        with_closed: bool,
        with_message: bool,
        more: int | None,
        claims: bool,
        wakes: bool,
        writes: bool,
    ) -> Executable:
        parts, mapping = self._parts, self._parts.mapping
        on_key = self._on_key(wakes=wakes)
        recorded = self._recording(on_key).cte("ticketrouter_recorded") if with_message else None
        met = (
            [*on_key, parts.is_here]
            if recorded is None
            else [parts.is_("company_id"), self._is_id(select(recorded.c.ticket_id))]
        )
        hit = self._update(*met, more=more, writes=writes).cte("ticketrouter_hit")
        missed = not_(exists(select(ONE).select_from(hit)))
        elsewhere = self._is_elsewhere(mapping.table)
        further = self._missing(scope, missed, with_closed=with_closed, with_message=with_message)
        # Where it finds nothing but active tickets of the contact, what is known of those is left out.
        fields = parts.values.fields if further else self._brief_fields
        columns = [parts.cell(field) for field in fields]
        hits = dict(zip(parts.values.fields, hit.c, strict=False))
        active = select(*parts.found("active", columns))
        looks = [
            select(*parts.found("hit", [hits[field] for field in fields])),
            active.where(*parts.active_of_contact(), or_(elsewhere, missed)),
            *further,
            *parts.told_elsewhere(len(columns)),
        ]
        if recorded is not None:
            lost = exists(select(ONE).select_from(recorded))
            looks.append(select(*parts.found("swallowed", [null()] * len(columns))).where(missed, lost))
        looked = union_all(*looks)
        return looked.add_cte(self._claims.anchored(missed)) if claims else looked

    def _missing(
        self, scope: Scope, missed: ColumnElement[bool], *, with_closed: bool, with_message: bool
    ) -> list[Select[Any]]:
        """Return the looks for what else counts where the message has met no ticket."""
        if self._parts.rule is UniqueRule.NONE:
            return []  # there it is looked for when others are kept away
        routed = [self._looks.routed().where(missed)] if with_message else []
        return [*self._looks.of_key(scope, with_closed, missed), *routed]

    def _recording(self, on_key: Sequence[ColumnElement[bool]]) -> Any:
        """Return the `INSERT` of a message id with the ticket that is active on its key, which it locks before."""
        parts, columns = self._parts, self._parts.mapping.columns
        company, connection = parts.of_message("company_id", "connection_id")
        message, at = parts.of_message("message_id", "routed_at")
        found = (
            select(
                columns["id"], columns.get("company_id", company), columns.get("connection_id", connection)
            )
            .where(*on_key, parts.of_desk(), parts.is_here)
            .with_for_update(key_share=True)
            .cte("ticketrouter_found")
        )
        row = select(*list(found.c)[1:], message, found.c[columns["id"].key], at)
        table = parts.mapping.message_ids
        statement = postgresql.insert(table).from_select(RECORDED, row, include_defaults=False)
        return statement.on_conflict_do_nothing(index_elements=list(table.primary_key)).returning(
            table.c.ticket_id
        )


class PostgreSQLJoinsOfMany:
    """The statement by which many messages join: see `JoinsOfMany`.

    A row of it is the number of a key, whether it is the ticket on that key, and the cells of a ticket as it was before.

    Args:
        parts: what it is made of.
        many: the other statements about many, as which it reads a ticket.
    """

    def __init__(self, parts: Parts, many: Many) -> None:
        self._parts = parts
        self._read_as = many.read_as
        self._values = parts.values
        self._mapping = parts.mapping
        fields, columns = parts.values.fields, parts.mapping.columns
        types = {field: columns[field].type for field in KEY if field in columns}
        self._times = ("updated_at",) if parts.values.timed else ()
        times = {field: columns[field].type for field in self._times}
        counts = {"unread_set": Integer(), "unread_add": Integer()} if parts.values.counts else {}
        self._wakes = bool(parts.mapping.statuses.wakes)
        wakes = {"wakes": Integer()} if self._wakes else {}
        self._further = sent_types(parts.mapping.on_message, many.in_a_row)
        self._counts = tuple(counts)
        self._rows = Arrays({**types, **times, **counts, **wakes, **self._further}, numbered="place")
        self._exact = parts.values.exact
        self._untold = [
            (place, KEY.index(field))
            for place, field in enumerate(fields)
            if field in KEY and field in self._exact - {"connection_id"}
        ]
        self._undecoded = [
            place
            for place, field in enumerate(fields)
            if isinstance(columns[field].type, IdText) and field not in {"company_id", "contact_id"}
        ]
        self._place_of_count = fields.index("unread_messages") if parts.values.counts else None
        self._place_of_time = fields.index("updated_at") if parts.values.timed else None
        # None: it comes back with the row, or the table has only one.
        told = "connection_id" in fields and "connection_id" in self._exact
        self._place_of_connection = fields.index("connection_id") if told else None
        self._statement: Executable | None = None

    def join(self, joining: Sequence[Joining], columns: Columns) -> Sent:
        """See `JoinsOfMany.join`."""
        statement = self._statement
        if statement is None:
            statement = self._statement = self._build()
        codecs = self._values.codecs
        cells = {
            field: [encode(each.key[place]) for each in joining]
            for place, field in enumerate(KEY)
            if field in codecs
            for encode in (codecs[field].encode,)
        }
        for field in self._times:
            cells[field] = [codecs[field].encode(each.joins[-1].at) for each in joining]
        if self._counts:
            unread = [each.unread for each in joining]
            cells["unread_set"] = [each.set_to for each in unread]
            cells["unread_add"] = [each.add for each in unread]
        if self._wakes:
            cells["wakes"] = [int(each.wakes) for each in joining]
        encode = self._values.encode
        if columns:
            cells |= sent_cells(columns, [columns.values(each.messages, encode) for each in joining])
        return statement, self._rows.bound(cells) | sent_constants(columns, encode)

    def joined(self, joining: Sequence[Joining], rows: Iterable[Sequence[Any]]) -> dict[int, Snapshot] | None:
        """See `JoinsOfMany.joined`."""
        changed = 0
        met: list[list[Ticket] | None] = [None] * len(joining)
        elsewhere: dict[int, list[Ticket]] = {}
        untold, undecoded = self._untold, self._undecoded
        for number, is_on_key, *cells in rows:
            if number <= 0:
                if is_on_key:  # no key has such a number
                    raise ElsewhereError
                changed = -number
                continue
            here = joining[number - 1]
            for at, of_key in untold:
                cells[at] = here.key[of_key]
            for at in undecoded:
                if (text := cells[at]) is not None:
                    cells[at] = decode_id(text)
            if is_on_key:
                met[number - 1] = self._as_left(here, cells)
            else:
                elsewhere.setdefault(number - 1, []).append(self._values.ticket(cells))
        if changed != len(met) - met.count(None):
            return None
        found: dict[int, Snapshot] = {}
        for number, (here, tickets) in enumerate(zip(joining, met, strict=True)):
            others = tuple(newest_first(elsewhere[number])) if number in elsewhere else ()
            found |= self._told_of(here, tickets, others)
        return found

    def _told_of(
        self, here: Joining, tickets: Sequence[Ticket] | None, others: tuple[Ticket, ...]
    ) -> dict[int, Snapshot]:
        rule = self._parts.rule
        if tickets is not None:
            return {
                place: trusted_snapshot(others, unique_rule=rule, joined=ticket)
                for place, ticket in zip(here.places, tickets, strict=True)
            }
        may_sleep = self._wakes and here.wakes
        if here.closed or may_sleep or rule is not UniqueRule.ACTIVE_PER_CONNECTION:
            return {}  # more counts than was looked for
        counts, as_kept = bool(self._counts), self._parts.times.as_kept
        seen = trusted_snapshot(others, unique_rule=rule, counts=counts, as_kept=as_kept)
        return dict.fromkeys(here.places, seen)

    def _as_left(self, joining: Joining, cells: list[Any]) -> list[Ticket]:
        """Return the ticket as each message leaves it, from the cells that it had before."""
        count, changed = self._place_of_count, self._place_of_time
        if self._place_of_connection is not None:
            cells[self._place_of_connection] = joining.key[2]
        ticket, time = self._values.ticket, self._parts.times.cell
        tickets: list[Ticket] = []
        unread = 0 if count is None else cells[count] or 0
        for join in joining.joins:
            if count is not None:
                cells[count] = unread = join.unread.after(unread)
            if changed is not None:
                cells[changed] = time(join.at)
            tickets.append(ticket(cells))
        return tickets

    def _build(self) -> Any:
        parts, columns, table = self._parts, self._mapping.columns, self._mapping.table
        fields = self._values.fields
        sent = select(*self._rows.table.c).cte("ticketrouter_sent").c
        key = [field for field in KEY if field in columns]
        told = [*self._counts, *self._times, *(["wakes"] if self._wakes else []), *self._further]
        changes = [sent[name].label(f"new_{name}") for name in told]
        kept = [columns[field].label(field) for field in fields]
        active = parts.is_active(), parts.of_desk()
        locked = (
            select(sent.place, *changes, *kept)
            .where(*(parts.same(field, columns[field], sent[field]) for field in key), *active, parts.is_here)
            .order_by(*(columns[field] for field in key))
            .with_for_update(key_share=True, of=table)
            .cte("ticketrouter_locked")
        )
        had = self._chosen(locked).c
        changed = self._changed(had)
        elsewhere: list[Any] = []
        if "connection_id" in columns:
            contact = [
                parts.same(field, columns[field], sent[field]) for field in key if field != "connection_id"
            ]
            there = parts.same("connection_id", columns["connection_id"], sent.connection_id)
            others = select(sent.place, false(), *self._told(columns, among=set()))
            elsewhere = [others.where(*contact, *active, not_(there))]
        # What is known of the ticket on its key need not come back.
        known = {"updated_at"} | ({"connection_id"} & self._exact)
        met = select(had.place, true(), *self._told(had, among=known))
        nothing = [null() for _ in fields]
        many = select(cast(-func.count(), Integer), false(), *nothing).select_from(changed)
        moved = select(literal(0), true(), *nothing).where(not_(parts.is_here))
        return union_all(*elsewhere, met, many, moved)

    def _chosen(self, locked: Any) -> CTE:
        """Return the rows that are changed, of a key one, whatever the index promises: the most recently active one.

        None, where one of its messages would wake it: that is told, and so not done here.
        """
        newest = self._parts.newest_first({field: locked.c[field] for field in self._values.fields})
        rank = func.row_number().over(partition_by=locked.c.place, order_by=newest)
        ranked = select(*locked.c, rank.label("rank")).cte("ticketrouter_ranked")
        chosen = select(*ranked.c).where(ranked.c.rank == literal_column("1"))
        if self._wakes:
            sleeps = self._values.words.has(self._mapping.statuses.wakes.keys(), ranked.c["status"])
            chosen = chosen.where(not_(and_(ranked.c["new_wakes"] == literal_column("1"), sleeps)))
        return chosen.cte("ticketrouter_chosen")

    def _changed(self, had: Any) -> Any:
        """Return the `UPDATE` of the tickets that were chosen."""
        columns = self._mapping.columns
        changes = {columns[field].key: had[f"new_{field}"] for field in self._times}
        if self._counts:
            more = func.coalesce(columns["unread_messages"], 0) + had.new_unread_add
            changes[columns["unread_messages"].key] = func.coalesce(had.new_unread_set, more)
        further = self._mapping.on_message.changes(lambda name: had[f"new_{name}"])
        changing = update(self._mapping.table).where(is_row(self._mapping, had), self._parts.of_desk())
        written = with_values(changing, changes, further, idle=self._mapping.told_by)
        return written.returning(columns["id"]).cte("ticketrouter_changed")

    def _told(self, columns: Any, *, among: set[str]) -> list[ColumnElement[Any]]:
        """Return the cells of a ticket, with nothing for those that are known."""
        known = {"closed_at"} | ({"company_id", "contact_id"} & self._exact)
        return [
            null().label(field)
            if field in known
            else type_coerce(null() if field in among else columns[field], self._read_as(field)).label(field)
            for field in self._values.fields
        ]


def joins_of_many(parts: Parts, many: Many) -> PostgreSQLJoinsOfMany | None:
    """Return the statement by which many messages join; None: this table, or this rule, needs another way."""
    one_is_active = parts.rule in {UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION}
    return PostgreSQLJoinsOfMany(parts, many) if one_is_active else None
