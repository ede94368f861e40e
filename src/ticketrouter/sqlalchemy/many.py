"""The statements about many tickets at once, for `load_many` and `commit_many`.

Law of this file: as in `ticketrouter.sqlalchemy.statements`. PostgreSQL and SQLite are sent what is sought as rows of
a statement that is built once. MariaDB, which would lock more rows than it is asked for, gets lists, by company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Enum,
    Executable,
    Integer,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.batch import Joined, Joint, Run, trusted_joined
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.model import Ticket, UniqueRule, id_order, key_order, newest_first
from ticketrouter.policy import Lookup, MessageRef, Reopen, Snapshot, trusted_snapshot
from ticketrouter.sqlalchemy.claims import Contact, contact_order
from ticketrouter.sqlalchemy.mapping import KEY
from ticketrouter.sqlalchemy.rows import SentRows
from ticketrouter.sqlalchemy.statements import Sent, Statements
from ticketrouter.sqlalchemy.types import IdText, UtcDateTime, decode_id

_AT_ONCE = 500
"""How many rows one `UPDATE` of MariaDB changes: it looks for each among all of them."""
_BY_PRIMARY_KEY = "FORCE INDEX (PRIMARY)"

_T = TypeVar("_T")
_Place: TypeAlias = tuple[Any, Any, bytes]


class ManyStatements:
    """The statements about many rows, for one mapping, one database and one unique rule.

    Args:
        statements: the statements about one.
    """

    def __init__(self, statements: Statements) -> None:
        self._of_one = statements
        self._mapping = statements.mapping
        self._is_mariadb = statements.reads_may_be_old
        self._contacts = self._rows_of("company_id", "contact_id")
        self._known = self._rows_of("company_id", "id")
        self._counts = self._rows_of("company_id", "id", "unread_messages", "updated_at")
        self._reopenings = self._rows_of(
            "company_id",
            "id",
            "user_id",
            "queue_id",
            "unread_messages",
            "updated_at",
            further={"status": String()},
        )
        self._refs = self._rows_of_refs("company_id", "connection_id", "message_id")
        self._records = self._rows_of_refs(
            "company_id", "connection_id", "message_id", "ticket_id", "routed_at"
        )
        self._runs = self._rows_of(
            *KEY, "updated_at", further={"unread_set": Integer(), "unread_add": Integer()}, numbered="place"
        )
        self._exact = statements.exact
        self._untold = [
            (place, KEY.index(field))
            for place, field in enumerate(statements.fields)
            if field in self._exact - {"connection_id"}
        ]
        # What `tickets` reads: ids of any type as the texts that they are kept as.
        self._cells = [
            type_coerce(self._mapping.columns[field], self._read_as(field)).label(field)
            for field in statements.fields
        ]
        self._encoded_at = [
            place
            for place, field in enumerate(statements.fields)
            if isinstance(self._mapping.columns[field].type, IdText)
        ]
        self._undecoded = [
            place
            for place, field in enumerate(statements.fields)
            if isinstance(self._mapping.columns[field].type, IdText)
            and field not in {"company_id", "contact_id"}
        ]
        self._places = [
            statements.fields.index(field) if field in statements.fields else 0
            for field in ("connection_id", "unread_messages", "updated_at")
        ]
        self._built: dict[str, Any] = {}

    @property
    def asks_first(self) -> bool:
        """Whether `ASK_VARIABLE` must be sent before an `INSERT` of many."""
        return self._is_mariadb

    def made(self, rows: Iterable[Sequence[Any]], values: Any) -> list[Sequence[Any]]:
        """Return the rows of an `INSERT` of many that nothing stood against.

        Args:
            rows: what came back.
            values: what it was sent with.
        """
        if not self._is_mariadb:
            return list(rows)
        token = values[0]["b_token"]
        return [row[:-2] for row in rows if int(row[-2]) != token]

    # --- reading ---------------------------------------------------------------------------------------------

    def active(self, contacts: Iterable[Contact]) -> Sent:
        """Return the `SELECT` of what the contacts have active."""
        one = self._of_one
        return self._of(
            contacts,
            "active",
            lambda here: select(*self._cells).where(here, one.is_active(), one.no_orphan()),
        )

    def closed(self, contacts: Iterable[Contact]) -> Sent:
        """Return the `SELECT` of what each contact has closed last on each connection."""
        one, columns = self._of_one, self._mapping.columns
        key = [columns[field] for field in KEY if field in columns]
        place = func.row_number().over(partition_by=key, order_by=one.latest_closing()).label("place")

        def latest(here: ColumnElement[bool]) -> Any:
            closed = select(*self._cells, place).where(here, not_(one.is_active()), one.no_orphan())
            *found, place_of = closed.subquery("closed").c
            return select(*found).where(place_of == 1)

        return self._of(contacts, "closed", latest)

    def occupying(self, contacts: Iterable[Contact]) -> Sent | None:
        """Return the `SELECT` of the rows that a unique rule may put in the way; None: it puts none."""
        words = self._of_one.occupying_words()
        if words is None:
            return None
        return self._of(contacts, "occupying", lambda here: select(*self._cells).where(here, words))

    def routed(self, refs: Iterable[MessageRef]) -> Sent:
        """Return the `SELECT` of the tickets that message ids were given, each after its place in the record."""
        sought = [self._of_one.recorded(ref) for ref in refs]
        if self._is_mariadb:
            return self._routed_to(self._among_refs(sought)), {}
        if "routed" not in self._built:
            messages = self._mapping.message_ids.c
            place = (messages[name] == sent for name, sent in self._refs.table.c.items())
            self._built["routed"] = self._routed_to(and_(*place))
        return self._built["routed"], self._refs.bound(_columns(sought))

    def _routed_to(self, places: ColumnElement[bool]) -> Select[Any]:
        one, messages, columns = self._of_one, self._mapping.message_ids.c, self._mapping.columns
        place = (messages.company_id, messages.connection_id, messages.message_id)
        same = self._is_company(messages.company_id)
        return select(*place, *self._cells).where(
            places, same, columns["id"] == messages.ticket_id, one.no_orphan()
        )

    def _among_refs(self, sought: Iterable[dict[str, Any]]) -> ColumnElement[bool]:
        messages = self._mapping.message_ids.c
        groups: dict[tuple[Any, Any], list[Any]] = {}
        for ref in sought:
            company, connection, message = ref.values()
            groups.setdefault((company, connection), []).append(message)
        return or_(
            *(
                (messages.company_id == company)
                & (messages.connection_id == connection)
                & messages.message_id.in_(found)
                for (company, connection), found in groups.items()
            )
        )

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
            tickets.append(self._of_one.ticket(cells))
        return tickets

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
            return trusted_snapshot(
                active=tuple(actives.get(contact, ())),
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

    # --- touching --------------------------------------------------------------------------------------------

    @property
    def touches(self) -> bool:
        """Whether one statement lets messages join what is active on their keys."""
        one, times = self._of_one, self._mapping.columns["updated_at"].type
        return (
            one.dialect_name == "postgresql"
            and one.rule in {UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION}
            and getattr(times, "precision", None) is None  # else the database rounds, as nobody here does
        )

    def touch(self, runs: Sequence[Run]) -> Sent:
        """Return the statement that locks the tickets in the order of their keys, changes them, and gives what was there.

        A row is the number of a run, whether it is the ticket on the key, and the cells of a ticket.
        """
        if "touch" not in self._built:
            self._built["touch"] = self._build_touch()
        codecs = self._of_one.codecs
        unread = [run.unread for run in runs]
        cells = {
            field: [encode(run.key[place]) for run in runs]
            for place, field in enumerate(KEY)
            if field in codecs
            for encode in (codecs[field].encode,)
        } | {
            "unread_set": [each.set_to for each in unread],
            "unread_add": [each.add for each in unread],
            "updated_at": [codecs["updated_at"].encode(run.times[-1]) for run in runs],
        }
        return self._built["touch"], self._runs.bound(cells)

    def joined(self, runs: Sequence[Run], rows: Iterable[Sequence[Any]]) -> list[Joined | Snapshot | None]:
        """Return what the rows of `touch` say of each run."""
        met: list[list[Ticket] | None] = [None] * len(runs)
        elsewhere: dict[int, list[Ticket]] = {}
        untold, undecoded = self._untold, self._undecoded
        for number, is_on_key, *cells in rows:
            run = runs[number - 1]
            for at, of_key in untold:
                cells[at] = run.key[of_key]
            for at in undecoded:
                if (text := cells[at]) is not None:
                    cells[at] = decode_id(text)
            if is_on_key:
                met[number - 1] = self._as_left(run, cells)
            else:
                elsewhere.setdefault(number - 1, []).append(self._of_one.ticket(cells))
        others = {place: tuple(newest_first(tickets)) for place, tickets in elsewhere.items()}
        return [
            self._missed(runs[place], others.get(place, ()))
            if tickets is None
            else trusted_joined(tickets, others.get(place, ()))
            for place, tickets in enumerate(met)
        ]

    def _missed(self, run: Run, others: tuple[Ticket, ...]) -> Snapshot | None:
        """Return what is known of a key without an active ticket, if nothing else counts."""
        rule = self._of_one.rule
        if run.closed or rule is not UniqueRule.ACTIVE_PER_CONNECTION:
            return None
        return trusted_snapshot(others, unique_rule=rule)

    def _as_left(self, run: Run, cells: list[Any]) -> list[Ticket]:
        """Return the ticket as each message of a run leaves it, from the cells that it had before."""
        connection, count, changed = self._places
        if "connection_id" in self._exact:
            cells[connection] = run.key[2]
        ticket, encode = self._of_one.ticket, self._of_one.codecs["updated_at"].encode
        tickets: list[Ticket] = []
        unread = cells[count] or 0
        for step, at in zip(run.steps, run.times, strict=True):
            cells[count] = unread = step.after(unread)
            cells[changed] = encode(at)
            tickets.append(ticket(cells))
        return tickets

    def _build_touch(self) -> Any:
        one, columns, table = self._of_one, self._mapping.columns, self._mapping.table
        sent = select(*self._runs.table.c).cte("ticketrouter_sent").c
        key = [columns[field] for field in KEY if field in columns]
        on_key = [columns[field] == sent[field] for field in KEY if field in columns]
        changes = [sent[name].label(f"new_{name}") for name in ("unread_set", "unread_add", "updated_at")]
        kept = [columns[field].label(field) for field in one.fields]
        locked = (
            select(sent.place, *changes, *kept)
            .where(*on_key, one.is_active())
            .order_by(*key)
            .with_for_update(key_share=True, of=table)
            .cte("ticketrouter_locked")
        )
        had = locked.c
        more = func.coalesce(columns["unread_messages"], 0) + had.new_unread_add
        count = func.coalesce(had.new_unread_set, more)
        changed = (
            update(table)
            .where(self._is_row(had))
            .values({columns["unread_messages"].key: count, columns["updated_at"].key: had.new_updated_at})
            .returning(columns["id"])
            .cte("ticketrouter_changed")
        )
        contact = [columns[field] == sent[field] for field in KEY[:2] if field in columns]
        elsewhere = select(sent.place, false(), *self._told(columns, among=set())).where(
            *contact, one.is_active(), columns["connection_id"] != sent.connection_id
        )
        # What the run knows of the ticket on its key need not come back.
        known = {"updated_at"} | ({"connection_id"} & self._exact)
        return union_all(elsewhere, select(had.place, true(), *self._told(had, among=known))).add_cte(changed)

    def _told(self, columns: Any, *, among: set[str]) -> list[ColumnElement[Any]]:
        """Return the cells of a ticket, with nothing for those that are known."""
        known = {"closed_at"} | ({"company_id", "contact_id"} & self._exact)
        return [
            null().label(field)
            if field in known
            else type_coerce(null() if field in among else columns[field], self._read_as(field)).label(field)
            for field in self._of_one.fields
        ]

    def _read_as(self, field: str) -> TypeEngine[Any]:
        """Return the type that the database itself knows, as there are many rows, and what they leave empty is no work."""
        match self._mapping.columns[field].type:
            case IdText():
                return String()
            case UtcDateTime() if self._of_one.dialect_name == "postgresql":
                return DateTime(timezone=True)
            case type_:
                return type_

    # --- writing ---------------------------------------------------------------------------------------------

    def created(self, rows: list[dict[str, Any]]) -> tuple[Executable, Any]:
        """Return the `INSERT` of new tickets, which gives those that nothing stood against, and what it is sent with."""
        one, table = self._of_one, self._mapping.table
        if self._is_mariadb:
            if "created" not in self._built:
                self._built["created"] = one.create_on_mariadb()
            token = one.token()
            return self._built["created"], [row | token for row in rows]
        given = {column.key for column in self._mapping.columns.values()}
        # What SQLAlchemy itself fills, or writes in a way of its own, is left to it.
        if (
            not given.issuperset(rows[0])
            or any(isinstance(table.columns[name].type, Enum) for name in rows[0])
            or any(each.default is not None for each in table.columns if each.key not in rows[0])
        ):
            return one.create_statement, rows
        if "created" not in self._built:
            sent = SentRows(one.dialect_name, {name: table.columns[name].type for name in rows[0]})
            insert: Any = one.create_statement
            chosen = select(*sent.table.c).where(true())
            self._built["created"] = sent, insert.from_select([*rows[0]], chosen, include_defaults=False)
        sent, statement = self._built["created"]
        return statement, sent.bound(_columns(rows))

    def locked(self, tickets: Sequence[Ticket]) -> Sent:
        """Return the `SELECT` of tickets as they are now, locked in the order of their keys where that can be said.

        A row is whether the ticket is active, and its cells.
        """
        one, columns = self._of_one, self._mapping.columns
        is_active = one.is_active().label("active")
        if self._is_mariadb:
            ids = [one.encoded("id", ticket.id) for ticket in tickets]
            found = select(is_active, *self._cells).where(self._companies(tickets), columns["id"].in_(ids))
            # By the primary key alone: any other way would lock rows, and gaps, that others insert into.
            return found.with_hint(self._mapping.table, _BY_PRIMARY_KEY).with_for_update(), {}
        if "locked" not in self._built:
            key = [columns[field] for field in KEY if field in columns]
            known = select(is_active, *self._cells).where(self._is_sent(self._known)).order_by(*key)
            self._built["locked"] = known.with_for_update(key_share=True, of=self._mapping.table)
        return self._built["locked"], self._known.bound(self._encoded(tickets))

    def at_once(self, rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
        """Give the rows in as many parts as there must be statements to change them."""
        most = _AT_ONCE if self._is_mariadb else len(rows)
        for begin in range(0, len(rows), max(most, 1)):
            yield rows[begin : begin + most]

    def bumped(
        self, tickets: Sequence[Ticket], counts: Sequence[int], times: Sequence[datetime]
    ) -> Iterator[Sent]:
        """Give the `UPDATE`s of count and time of tickets that are locked."""
        for rows in self.at_once(list(zip(tickets, counts, times, strict=True))):
            some = [ticket for ticket, _, _ in rows]
            cells = self._cells_of("unread_messages", [count for _, count, _ in rows])
            cells |= self._cells_of("updated_at", [at for _, _, at in rows])
            yield self._changed_by_id(some, cells) if self._is_mariadb else self._bumped(some, cells)

    def _bumped(self, tickets: Sequence[Ticket], cells: dict[str, list[Any]]) -> Sent:
        columns, sent = self._mapping.columns, self._counts.table.c
        if "bumped" not in self._built:
            changes = {columns[field].key: sent[field] for field in ("unread_messages", "updated_at")}
            here = self._is_sent(self._counts)
            self._built["bumped"] = update(self._mapping.table).where(here).values(changes)
        return self._built["bumped"], self._counts.bound(self._encoded(tickets) | cells)

    def reopened(self, decisions: Sequence[Reopen], tickets: Sequence[Ticket]) -> Sent:
        """Return the `UPDATE` that makes tickets active which are locked; but on MariaDB it gives their rows."""
        statuses = self._mapping.statuses
        counts = [
            decision.unread.after(ticket.unread_messages)
            for decision, ticket in zip(decisions, tickets, strict=True)
        ]
        cells = {
            "status": [statuses.of_reopened(accepted=each.accepted) for each in decisions],
            **self._cells_of("user_id", [each.user_id for each in decisions]),
            **self._cells_of("queue_id", [each.queue_id for each in decisions]),
            **self._cells_of("unread_messages", counts),
            **self._cells_of("updated_at", [each.at for each in decisions]),
        }
        if self._is_mariadb:
            free = self._key_is_free(lambda company: self._companies(tickets, company))
            return self._changed_by_id(tickets, cells, free, nulls=("closed_at",))
        if "reopened" not in self._built:
            self._built["reopened"] = self._build_reopened()
        return self._built["reopened"], self._reopenings.bound(self._encoded(tickets) | cells)

    def _build_reopened(self) -> Any:
        columns, sent = self._mapping.columns, self._reopenings.table.c
        changes: dict[str, ColumnElement[Any]] = {
            columns[field].key: sent[field]
            for field in ("user_id", "queue_id", "unread_messages", "updated_at")
            if field in columns
        }
        changes[columns["status"].key] = cast(sent["status"], columns["status"].type)
        if "closed_at" in columns:
            changes[columns["closed_at"].key] = null()
        # The lock keeps others away, but on SQLite only where the host's transaction has begun with one.
        closed = not_(self._of_one.is_active())
        free = self._key_is_free(lambda company: company == sent["company_id"])
        return (
            update(self._mapping.table)
            .where(self._is_sent(self._reopenings), closed, free)
            .values(changes)
            .returning(*self._cells)
        )

    def _key_is_free(
        self, of_company: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    ) -> ColumnElement[bool]:
        """Where no unique rule says so, the statement itself must: for each row, among those of the companies."""
        if self._of_one.rule is not UniqueRule.NONE:
            return true()
        columns, other = self._mapping.columns, self._mapping.table.alias("other")
        there = {field: other.c[column.key] for field, column in columns.items()}
        here = [of_company(there["company_id"])] if "company_id" in there else []
        here += [there[field] == columns[field] for field in KEY if field in there]
        rival = select(there["id"]).where(*here, there["id"] != columns["id"], self._of_one.is_active(other))
        return not_(exists(rival))

    def _changed_by_id(
        self,
        tickets: Sequence[Ticket],
        cells: Mapping[str, Sequence[Any]],
        *where: ColumnElement[bool],
        nulls: Sequence[str] = (),
    ) -> Sent:
        """Return an `UPDATE` for MariaDB, which would join other rows to be sent by reading, and locking, the whole table."""
        one, columns = self._of_one, self._mapping.columns
        ids = [one.encoded("id", ticket.id) for ticket in tickets]
        changes: dict[str, ColumnElement[Any]] = {
            columns[field].key: self._value_by_id(ids, values, columns[field].type)
            for field, values in cells.items()
        }
        changes |= {columns[field].key: null() for field in nulls if field in columns}
        statement = (
            update(self._mapping.table)
            .where(columns["id"].in_(ids), self._companies(tickets), *where)
            .values(changes)
            .with_hint(_BY_PRIMARY_KEY)
        )
        return statement, {}

    def _value_by_id(
        self, ids: Sequence[Any], values: Sequence[Any], type_: TypeEngine[Any]
    ) -> ColumnElement[Any]:
        if len(set(values)) == 1:
            return literal(values[0], type_)
        column = self._mapping.columns["id"]
        # A bare id would be sent as its Python type is, and not as the column keeps it.
        each = {
            literal(key, column.type): literal(value, type_) for key, value in zip(ids, values, strict=True)
        }
        return case(each, value=column)

    def recorded(self, refs: Sequence[tuple[MessageRef, Ticket, datetime]]) -> tuple[Executable, Any]:
        """Return the `INSERT` of message ids, which gives the place of each that was not recorded before."""
        one, messages, sent = self._of_one, self._mapping.message_ids, self._records.table.c
        rows = [
            one.recorded(ref) | {"ticket_id": one.encoded("id", ticket.id), "routed_at": at}
            for ref, ticket, at in refs
        ]
        if self._is_mariadb:
            if "recorded" not in self._built:
                self._built["recorded"] = one.record_on_mariadb()
            token = one.token()
            return self._built["recorded"], [row | token for row in rows]
        if "recorded" not in self._built:
            statement = one.insert_unless_recorded().from_select(
                list(sent.keys()), select(*sent).where(true()), include_defaults=False
            )
            key = [messages.c.company_id, messages.c.connection_id, messages.c.message_id]
            self._built["recorded"] = statement.returning(*key)
        return self._built["recorded"], self._records.bound(_columns(rows))

    # --- the parts of them -----------------------------------------------------------------------------------

    def _rows_of(
        self,
        *fields: str,
        further: Mapping[str, TypeEngine[Any]] = MappingProxyType({}),
        numbered: str | None = None,
    ) -> SentRows:
        columns = self._mapping.columns
        types = {field: columns[field].type for field in fields if field in columns}
        return SentRows(self._of_one.dialect_name, {**types, **further}, numbered=numbered)

    def _rows_of_refs(self, *names: str) -> SentRows:
        columns = self._mapping.message_ids.c
        return SentRows(self._of_one.dialect_name, {name: columns[name].type for name in names})

    def _cells_of(self, field: str, values: Iterable[Any]) -> dict[str, list[Any]]:
        """Return the cells of a field, as its column takes them; a table without the column gets none."""
        if field not in self._mapping.columns:
            return {}
        return {field: [self._of_one.encoded(field, value) for value in values]}

    def _encoded(self, tickets: Iterable[Ticket]) -> dict[str, list[Any]]:
        encoded = self._of_one.encoded
        pairs = [(encoded("company_id", each.company_id), encoded("id", each.id)) for each in tickets]
        return {"company_id": [company for company, _ in pairs], "id": [number for _, number in pairs]}

    def _is_sent(self, rows: SentRows) -> ColumnElement[bool]:
        """Return the condition that joins tickets to the rows: by what the rows have of a contact, or of an id."""
        columns, sent = self._mapping.columns, rows.table.c
        if "id" not in sent:
            return and_(*(columns[field] == sent[field] for field in KEY[:2] if field in sent))
        return self._is_row(sent)

    def _is_row(self, of: Any) -> ColumnElement[bool]:
        """Return the condition that joins a ticket to a row that has its id."""
        columns = self._mapping.columns
        company = (
            columns["company_id"].is_not_distinct_from(of["company_id"]) if "company_id" in of else true()
        )
        # Said so, the company is no way to the row: to PostgreSQL, an index that begins with it is as good as the
        # primary key while a table is young and not yet analysed.
        return and_(columns["id"] == of["id"], company)

    def _of(
        self, contacts: Iterable[Contact], name: str, build: Callable[[ColumnElement[bool]], Any]
    ) -> Sent:
        """Return a statement about contacts; what it is like, `build` says from the condition which those are."""
        encoded = self._of_one.encoded
        pairs = [
            (encoded("company_id", company), encoded("contact_id", contact))
            for company, contact in sorted(contacts, key=contact_order)
        ]
        if self._is_mariadb:
            return build(self._among_contacts(pairs)), {}
        if name not in self._built:
            self._built[name] = build(self._is_sent(self._contacts))
        companies, ids = ([pair[place] for pair in pairs] for place in (0, 1))
        return self._built[name], self._contacts.bound({"company_id": companies, "contact_id": ids})

    def _among_contacts(self, pairs: Iterable[tuple[Any, Any]]) -> ColumnElement[bool]:
        groups: dict[Any, list[Any]] = {}
        for company, contact in pairs:
            groups.setdefault(company, []).append(contact)
        contact_id = self._mapping.columns["contact_id"]
        return or_(*(self._is_company(company) & contact_id.in_(found) for company, found in groups.items()))

    def _companies(
        self, tickets: Iterable[Ticket], column: ColumnElement[Any] | None = None
    ) -> ColumnElement[bool]:
        companies = {self._of_one.encoded("company_id", ticket.company_id) for ticket in tickets}
        return or_(*(self._is_company(company, column) for company in companies))

    def _is_company(self, company: Any, column: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
        company_id = self._mapping.columns.get("company_id") if column is None else column
        return true() if company_id is None else company_id == company


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


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
