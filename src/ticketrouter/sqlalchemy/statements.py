"""The statements: every SQL that a repository sends for tickets, built once for a mapping and then kept.

Law of this file: every statement carries the company (R9); status words stand in it as literals, because no
database matches a bound list with a partial index; values are bound, each as its column takes it; nothing is
sent from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from secrets import randbits
from typing import Any, TypeAlias, assert_never

from attrs import evolve
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Delete,
    Integer,
    Select,
    String,
    Table,
    Uuid,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    not_,
    null,
    or_,
    select,
    text,
    true,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.lifecycle import Accept, Close, Transfer
from ticketrouter.model import Ticket, TicketKey, UniqueRule, bumped, newest_first
from ticketrouter.policy import (
    Create,
    Lookup,
    MessageRef,
    Reopen,
    Reuse,
    Snapshot,
    Touch,
    Touched,
    Unread,
    trusted_touched,
)
from ticketrouter.sqlalchemy.claims import ClaimStatements, Guard
from ticketrouter.sqlalchemy.codecs import Codec
from ticketrouter.sqlalchemy.mapping import FIELDS, KEY, TicketMapping
from ticketrouter.sqlalchemy.reading import RowReader
from ticketrouter.sqlalchemy.rules import Detected
from ticketrouter.sqlalchemy.schema import quoted
from ticketrouter.sqlalchemy.types import IdText, JsonRow, JsonRows, UtcDateTime, encode_id

Sent: TypeAlias = tuple[Executable, dict[str, Any]]
"""A statement and the values that it is sent with."""

_TOKEN = bindparam("b_token", type_=BigInteger)
ASK_VARIABLE = select(text("@ticketrouter := COALESCE(@ticketrouter, 0)"))
"""A statement that begins before the variable exists reads NULL to its end: it is asked for again, and made."""
_NOT_TAKEN: ColumnElement[Any] = literal_column("0").label("ticketrouter_taken")
_SET_BACK: ColumnElement[Any] = literal_column("(@ticketrouter := 0)").label("set_back")
"""What a row of several ends in on MariaDB, so that the next one does not find the variable as this one has set it."""
_RECORDED = ["company_id", "connection_id", "message_id", "ticket_id", "routed_at"]
"""The columns of the record of message ids."""
_MICROSECONDS = 6


class Statements:
    """The statements for one mapping, one database and one unique rule.

    Args:
        mapping: where the tickets are.
        dialect_name: the database.
        detected: the unique rule, and the index behind it.
    """

    def __init__(self, mapping: TicketMapping, dialect_name: str, detected: Detected) -> None:
        self.mapping = mapping
        self.rule: UniqueRule = detected.rule
        self.dialect_name = dialect_name
        self._is_postgresql = dialect_name == "postgresql"
        self._detected = detected
        self._codecs = mapping.codecs(dialect_name)
        self._fields = tuple(field for field in FIELDS if field in mapping.columns)
        self._rows = RowReader(mapping, self._codecs, self._fields)
        # Where what is equal is the same, a key that was found need not be read.
        self.exact: frozenset[str] = frozenset(
            field for field in KEY if field not in mapping.columns or _is_exact(mapping.columns[field].type)
        )
        """The fields of a key whose columns hold nothing that is equal and yet another value."""
        self._told = tuple(field for field in KEY[:2] if field in self.exact and field in self._fields)
        self._brief_fields = tuple(
            field for field in self._fields if field not in self._told and field != "closed_at"
        )
        self._brief = RowReader(mapping, self._codecs, self._brief_fields, self._told)
        self._brief_width = 1 + len(self._brief_fields)
        company = self._codecs.get("company_id")
        self._row_type = JsonRow((String(), *(column.type for column in self.columns)))
        self._encode_company = None if company is None else company.encode
        self._encode_id = self._codecs["id"].encode
        self._encode_contact = self._codecs["contact_id"].encode
        self._encode_connection = self._codecs["connection_id"].encode
        self._encode_time = self._codecs["updated_at"].encode
        self.claims: ClaimStatements = ClaimStatements(mapping, dialect_name, self._codecs)
        """The statements that keep others from a contact."""
        self._loads: dict[tuple[bool, Scope, bool, bool, bool], Executable] = {}
        self._locking: dict[Scope, list[Executable]] = {}
        self._touches: dict[tuple[Scope, bool, bool, int | None, Guard | None], Executable] = {}
        self._get = self._build_get()
        self._get_current = self._get.with_for_update()
        self.create_statement: Executable = self._build_create()
        """The `INSERT` of a new ticket, or of many."""
        self._creates_recorded: dict[tuple[str, ...], Executable | None] = {}
        self._stranger = self._build_stranger()
        self._reuse = self._build_reuse()
        changed_at = mapping.columns["updated_at"].type
        self._digits = _digits(changed_at)
        self.can_reuse_as_seen: bool = not self.returns_updates and (
            isinstance(changed_at, Integer) or self._digits is not None
        )
        """Whether there is a statement of `reuse_as_seen`."""
        self._reuses_as_seen: dict[int | None, Executable] = {}
        self._reopen = self._build_reopen()
        self._accept = self._build_accept()
        self._close = self._build_close()
        self._transfer = self._build_transfer()
        self._record = self._build_record()
        self._discard = delete(mapping.table).where(self._is("company_id"), self._is("id"))
        self._forget = self._build_forget()
        self._forget_vain = self._build_forget_vain()
        self._forget_before = self._build_forget_before()

    @property
    def detected(self) -> Detected:
        """The unique rule, and the index behind it."""
        return self._detected

    @property
    def codecs(self) -> Mapping[str, Codec]:
        """How each field that has a column is written and read."""
        return self._codecs

    # --- reading ---------------------------------------------------------------------------------------------

    def load(self, lookup: Lookup, *, versioned: bool = False) -> Sent:
        """Return the one `SELECT` that finds everything for a Snapshot.

        Args:
            lookup: what is asked for.
            versioned: whether the version of the contact's anchor is, too; on MariaDB only.
        """
        with_key, with_message = lookup.connection_id is not None, lookup.message_id is not None
        variant = (with_key, lookup.scope, lookup.closed, with_key and with_message, versioned)
        statement = self._loads.get(variant)
        if statement is None:
            statement = self._loads[variant] = self._build_load(*variant)
        values = self._load_values(lookup)
        if versioned:
            values |= self.claims.values(Guard.ANCHOR, lookup.company_id, lookup.contact_id)
        return statement, values

    def _load_values(self, lookup: Lookup) -> dict[str, Any]:
        values = self._of_contact(lookup.company_id, lookup.contact_id)
        if lookup.connection_id is not None:
            values["b_connection_id"] = self._encode_connection(lookup.connection_id)
            if lookup.message_id is not None:
                values["b_company_id"] = self._company(lookup.company_id)
                values["b_message_id"] = self._message(lookup.message_id)
        return values

    def current(self, lookup: Lookup) -> list[Sent]:
        """Return the `SELECT`s that find, and lock, what is committed now.

        On MariaDB a plain one in an old transaction sees what was there when that transaction began.
        """
        _, values = self.load(lookup)
        if lookup.scope not in self._locking:
            self._locking[lookup.scope] = self._build_locking(lookup.scope)
        *on_key, routed = self._locking[lookup.scope]
        key_only = {name: value for name, value in values.items() if name != "b_message_id"}
        found: list[Sent] = [(statement, key_only) for statement in on_key]
        return found if lookup.message_id is None else [*found, (routed, values)]

    def get_current(self, company_id: Id, ticket_id: Id) -> Sent:
        """Return the `SELECT` of one ticket as it is now, locked; only for one that is known to be there."""
        return self._get_current, self._bound(company_id=company_id, id=ticket_id)

    @staticmethod
    def corrected(old: Snapshot, current: Snapshot, lookup: Lookup) -> Snapshot:
        """Return a Snapshot in which what `current` found replaces what was there when it was taken."""
        elsewhere = (
            ticket
            for ticket in old.active
            if lookup.scope is Scope.CONNECTION and ticket.connection_id != lookup.connection_id
        )
        return evolve(
            old,
            active=(*current.active, *elsewhere),
            latest_closed=current.latest_closed,
            occupant=current.occupant,
            routed=current.routed or old.routed,
        )

    def snapshot(self, rows: Iterable[Sequence[Any]]) -> Snapshot:
        """Return what the rows of `load` say."""
        cells = (row[0] for row in rows) if self._rows_are_json else rows
        return self._snapshot([(role, self.ticket(values)) for role, *values in cells])

    def versioned(self, rows: Iterable[Sequence[Any]]) -> tuple[Snapshot, int | None]:
        """Return what the rows of a versioned `load` say, and the version; None: there is no anchor yet."""
        cells = [row[0] for row in rows]
        versions = {cell[0]: self.claims.version_in(cell[0]) for cell in cells}
        tickets = [(role, self.ticket(values)) for role, *values in cells if versions[role] is None]
        return self._snapshot(tickets), next((each for each in versions.values() if each is not None), None)

    def _snapshot(self, tickets: Sequence[tuple[str, Ticket]]) -> Snapshot:
        single = dict(tickets)
        return Snapshot(
            active=[ticket for role, ticket in tickets if role == "active"],
            latest_closed=single.get("closed"),
            occupant=single.get("occupant"),
            routed=single.get("routed"),
            unique_rule=self.rule,
        )

    def get(self, company_id: Id, ticket_id: Id) -> Sent:
        """Return the `SELECT` of one ticket by its id."""
        return self._get, self._bound(company_id=company_id, id=ticket_id)

    def ticket(self, values: Sequence[Any]) -> Ticket:
        """Return the ticket of a row, whose values stand in the order of `columns`."""
        return self._rows.ticket(values)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that have a column, in the order of `columns`."""
        return self._fields

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """The columns of a ticket, in the order that `ticket` takes their values."""
        return [self.mapping.columns[field] for field in self._fields]

    # --- writing ---------------------------------------------------------------------------------------------

    def create(self, decision: Create) -> Sent:
        """Return the `INSERT` that gives no row where the unique rule stands against it."""
        return self.create_statement, self._new_row(
            decision, decision.unread_messages, decision.at
        ) | self._token()

    def create_recorded(self, decision: Create, ref: MessageRef) -> Sent | None:
        """Return the statement of PostgreSQL that does the same and records a message id with the new ticket.

        Its row has, before the mark that `create` ends in, whether the id was recorded. None: this database has no
        such statement, or SQLAlchemy itself fills a column: a default may ask for the values of its row, which it finds
        only in an `INSERT` that stands alone.
        """
        if not self._is_postgresql:
            return None
        row = self._new_row(decision, decision.unread_messages, decision.at)
        names = tuple(row)
        if names not in self._creates_recorded:
            self._creates_recorded[names] = self._build_create_recorded(names)
        statement = self._creates_recorded[names]
        if statement is None:
            return None
        cells = {f"n_{place}": value for place, value in enumerate(row.values())}
        recorded = {f"b_{name}": value for name, value in self._ref(ref).items()}
        return statement, cells | recorded | {"b_routed_at": decision.at}

    def create_joint(self, joint: Joint, first: Create) -> dict[str, Any]:
        """Return what `create_statement` is sent with for a ticket that several messages join at once."""
        return self._new_row(first, joint.last_count(first.unread_messages), joint.at)

    def _new_row(self, decision: Create, count: int, updated_at: datetime) -> dict[str, Any]:
        key, statuses = decision.key, self.mapping.statuses
        values = {
            "company_id": key.company_id,
            "contact_id": key.contact_id,
            "connection_id": key.connection_id,
            "status": statuses.of_new(is_group=decision.is_group, accepted=decision.accepted),
            "is_group": decision.is_group,
            "unread_messages": count,
            "user_id": decision.user_id,
            "queue_id": decision.queue_id,
            "created_at": decision.at,
            "updated_at": updated_at,
        }
        row = {
            self.mapping.columns[field].key: self._codecs[field].encode(value)
            for field, value in values.items()
            if field in self.mapping.columns
        }
        return row | self.mapping.further_values(decision)

    @property
    def counts(self) -> bool:
        """Whether the table has a count of unread messages."""
        return "unread_messages" in self.mapping.columns

    def stranger(self, key: TicketKey) -> Sent | None:
        """Return the `SELECT` of a row that has the key by the index's words and not by the scheme's, if any can."""
        if self._stranger is None:
            return None
        values = self._bound(
            company_id=key.company_id, contact_id=key.contact_id, connection_id=key.connection_id
        )
        return self._stranger, values

    def reuse(self, decision: Reuse) -> Sent:
        """Return the `UPDATE` that lets a message join a ticket while it is active on its key."""
        return self._reuse, self._seen(decision.ticket) | self._unread(decision.unread) | self._at(
            decision.at
        )

    def touch(self, touch: Touch, guard: Guard | None = None) -> Sent | None:
        """Return the one statement that lets a message join the ticket that is active on its key, if there is one.

        Its rows are those of `load`, where a row of the role "hit", if there is one, stands for the ticket on the
        key. None: this database has no such statement, or none that is better than `load` and `commit`.

        Args:
            touch: what the message does.
            guard: what the statement keeps others from the contact with where there is no such ticket.
        """
        ref = touch.message_ref
        if self.reads_may_be_old or (ref is not None and not self._is_postgresql):
            return None
        lookup = touch.lookup
        variant = (
            (lookup.scope, lookup.closed, ref is not None, _more(touch.unread), guard)
            if self._is_postgresql
            else (Scope.CONNECTION, False, False, _more(touch.unread), None)
        )
        statement = self._touches.get(variant)
        if statement is None:
            statement = self._touches[variant] = self._build_touch(*variant)
        values = self._load_values(lookup)
        values["b_updated_at"] = self._encode_time(touch.at)
        if variant[3] is None and self.counts:
            values["b_unread_set"] = touch.unread.set_to
        if variant[4] is not None:
            values |= self.claims.values(variant[4], lookup.company_id, lookup.contact_id)
        if ref is not None:
            values["b_routed_at"] = touch.at
        return statement, values

    def touched(self, touch: Touch, rows: Sequence[Sequence[Any]]) -> Touched | Snapshot | None:
        """Return what the rows of `touch` say."""
        if not self._is_postgresql:
            return _met(self.ticket(rows[0][:-1]), map(self.ticket, rows[0][-1])) if rows else None
        reader, told = self._rows, ()
        if rows and len(rows[0]) == self._brief_width:
            key = touch.key
            reader, told = self._brief, tuple([getattr(key, field) for field in self._told])
        if len(rows) == 1 and rows[0][0] == "hit":  # nearly every message
            return trusted_touched(reader.ticket(rows[0][1:], told), ())
        tickets = [(row[0], reader.ticket(row[1:], told)) for row in rows]
        hit = next((ticket for role, ticket in tickets if role == "hit"), None)
        if hit is not None:
            return _met(hit, (ticket for role, ticket in tickets if role != "hit"))
        # Who must claim first has seen nothing that counts.
        return None if self.rule is UniqueRule.NONE else self._snapshot(tickets)

    def reuse_as_seen(self, decision: Reuse) -> Sent | None:
        """Return the `UPDATE` of `reuse` for MariaDB, which gives no row back: only where all else is as seen.

        It gives the new count as the last inserted id. None: this database, or this table, needs another way.
        """
        if not self.can_reuse_as_seen:
            return None
        more = _more(decision.unread)
        statement = self._reuses_as_seen.get(more)
        if statement is None:
            statement = self._reuses_as_seen[more] = self._build_reuse_as_seen(more)
        ticket, at = decision.ticket, self._kept(decision.at)
        values = self._seen(ticket) | self._bound(
            status=ticket.status, user_id=ticket.user_id, queue_id=ticket.queue_id, updated_at=at
        )
        if more is None and self.counts:
            values["b_unread_set"] = decision.unread.set_to
        return statement, values

    def reused_as_seen(self, decision: Reuse, count: int) -> Ticket:
        """Return the ticket that `reuse_as_seen` has changed."""
        at = self._kept(decision.at)
        if "unread_messages" not in self.mapping.columns:
            return evolve(decision.ticket, updated_at=at)
        signed = count - 2**64 if count >= 2**63 else count
        return bumped(decision.ticket, max(signed, 0), at)

    def _kept(self, at: datetime) -> datetime:
        """Return the time that the column gives back when it is given that."""
        if self._digits == _MICROSECONDS:
            return at
        if self._digits is not None:
            return at.replace(microsecond=at.microsecond - at.microsecond % 10 ** (6 - self._digits))
        codec = self._codecs["updated_at"]
        kept: datetime = codec.decode(codec.encode(at))
        return kept

    def reopen(self, decision: Reopen) -> Sent:
        """Return the `UPDATE` that makes a ticket active while it is closed on its key."""
        status = self.mapping.statuses.of_reopened(accepted=decision.accepted)
        values = self._bound(status=status, user_id=decision.user_id, queue_id=decision.queue_id)
        return self._reopen, self._seen(decision.ticket) | self._unread(decision.unread) | values | self._at(
            decision.at
        )

    def accept(self, decision: Accept) -> Sent:
        """Return the `UPDATE` that gives a ticket to an agent while status and agent are as seen."""
        values = self._bound(status=self.mapping.statuses.accepted, user_id=decision.user_id)
        seen = self._seen(decision.ticket) | {"b_seen_status": decision.ticket.status}
        if "user_id" in self.mapping.columns:
            seen["b_seen_user_id"] = self._codecs["user_id"].encode(decision.ticket.user_id)
        return self._accept, seen | values | self._at(decision.at)

    def close(self, decision: Close) -> Sent:
        """Return the `UPDATE` that closes a ticket while it is active."""
        values = self._bound(
            company_id=decision.ticket.company_id,
            id=decision.ticket.id,
            status=self.mapping.statuses.closed,
            closed_at=decision.at,
        )
        return self._close, values | self._at(decision.at)

    def transfer(self, decision: Transfer) -> Sent:
        """Return the `UPDATE` that moves a ticket while it is active on its key."""
        to = {"b_to_connection_id": self._codecs["connection_id"].encode(decision.connection_id)}
        return self._transfer, self._seen(decision.ticket) | to | self._at(decision.at)

    def discard(self, ticket: Ticket) -> Sent:
        """Return the `DELETE` of a ticket that this very transaction has created, and nobody has seen."""
        return self._discard, self._bound(company_id=ticket.company_id, id=ticket.id)

    # --- the record of message ids ---------------------------------------------------------------------------

    def record(self, ref: MessageRef, ticket: Ticket, at: datetime) -> Sent:
        """Return the `INSERT` of a message id that does nothing where it is recorded already."""
        return self._record, self._ref(ref) | {
            "ticket_id": self._codecs["id"].encode(ticket.id),
            "routed_at": at,
        } | self._token()

    def forget(self, ref: MessageRef) -> Sent:
        """Return the `DELETE` of a message id that this very transaction has recorded."""
        return self._forget, {f"b_{name}": value for name, value in self._ref(ref).items()}

    def forget_vain(self, ref: MessageRef) -> Sent:
        """Return the `DELETE` of a message id whose ticket the host has deleted since."""
        return self._forget_vain, {f"b_{name}": value for name, value in self._ref(ref).items()}

    def _token(self) -> dict[str, Any]:
        """Return what no other statement of this connection has set the variable to."""
        return {} if self.returns_updates else {"b_token": randbits(62) + 1}

    def forget_before(self, before: datetime) -> Sent:
        """Return the `DELETE` of every message id that was recorded before a time, of whatever company."""
        return self._forget_before, {"b_before": before}

    def _message(self, message_id: Id) -> str:
        """Return what is digested: several tickets tables may share the companion table."""
        return f"{self.mapping.table.name}\0{encode_id(message_id)}"

    def _company(self, company_id: Id) -> Any:
        codec = self._codecs.get("company_id")
        return company_id if codec is None else codec.encode(company_id)

    def _ref(self, ref: MessageRef) -> dict[str, Any]:
        return {
            "company_id": self._company(ref.key.company_id),
            "connection_id": self._codecs["connection_id"].encode(ref.key.connection_id),
            "message_id": self._message(ref.message_id),
        }

    # --- what the statements about many tickets are made of ----------------------------------------------------

    def encoded(self, field: str, value: Any) -> Any:
        """Return a value as the column of its field takes it."""
        return self._company(value) if field == "company_id" else self._codecs[field].encode(value)

    def recorded(self, ref: MessageRef) -> dict[str, Any]:
        """Return the primary key of a recorded message id."""
        return self._ref(ref)

    def digest(self, message_id: Id) -> bytes:
        """Return what the record has of a message id."""
        return sha256(encode_id(self._message(message_id)).encode()).digest()

    def is_active(self, table: Any = None) -> ColumnElement[bool]:
        """Return the condition of an active ticket, in the tickets table or an alias of it."""
        return self._active(table)

    def no_orphan(self) -> ColumnElement[bool]:
        """Return the condition of a row that has its whole key."""
        return self._no_orphan()

    def latest_closing(self) -> list[ColumnElement[Any]]:
        """Return the order in which the ticket that was closed last comes first."""
        return self._latest_closing()

    def occupying_words(self) -> ColumnElement[bool] | None:
        """Return which rows of a contact a unique rule may put in the way; None: it puts none."""
        occupying = self._occupying()
        return None if occupying is None else occupying[-1]

    def create_on_mariadb(self) -> Any:
        """Return the `INSERT` of many new tickets there: a row ends in whether it is one in the way, and an idle cell."""
        status = self.mapping.columns["status"]
        return self._insert_unless_taken(
            self.mapping.table, self._conflict(), status, self.columns, _SET_BACK
        )

    def record_on_mariadb(self) -> Any:
        """Return the `INSERT` of many message ids there: their places, and at the end the same."""
        messages = self.mapping.message_ids.c
        place: list[ColumnElement[Any]] = [messages.company_id, messages.connection_id, messages.message_id]
        return self._insert_unless_taken(self.mapping.message_ids, {}, messages.ticket_id, place, _SET_BACK)

    def token(self) -> dict[str, Any]:
        """Return what an `INSERT` of MariaDB is sent with besides its rows."""
        return self._token()

    def insert_unless_recorded(self) -> Any:
        """Return the beginning of an `INSERT` into the record that leaves alone what is there."""
        messages = self.mapping.message_ids
        dialect: Any = postgresql if self.dialect_name == "postgresql" else sqlite
        return dialect.insert(messages).on_conflict_do_nothing(index_elements=list(messages.primary_key))

    # --- values ----------------------------------------------------------------------------------------------

    def _bound(self, **values: Any) -> dict[str, Any]:
        return {
            f"b_{field}": self._codecs[field].encode(value)
            for field, value in values.items()
            if field in self.mapping.columns
        }

    def _seen(self, ticket: Ticket) -> dict[str, Any]:
        values = self._of_contact(ticket.company_id, ticket.contact_id)
        values["b_connection_id"] = self._encode_connection(ticket.connection_id)
        values["b_id"] = self._encode_id(ticket.id)
        return values

    def _of_contact(self, company_id: Id, contact_id: Id) -> dict[str, Any]:
        # Every message comes by here: by name, without a loop.
        values = {"b_contact_id": self._encode_contact(contact_id)}
        if self._encode_company is not None:
            values["b_company_id"] = self._encode_company(company_id)
        return values

    def _at(self, at: datetime) -> dict[str, Any]:
        return self._bound(updated_at=at)

    def _unread(self, unread: Unread) -> dict[str, Any]:
        if "unread_messages" not in self.mapping.columns:
            return {}
        return {"b_unread_set": unread.set_to, "b_unread_add": unread.add}

    # --- conditions ------------------------------------------------------------------------------------------

    def _bind(self, field: str, name: str | None = None) -> ColumnElement[Any]:
        return bindparam(name or f"b_{field}", type_=self.mapping.columns[field].type)

    def _is(self, field: str, table: Any = None) -> ColumnElement[bool]:
        """Compare a column with its value; a table of one company has no column for that."""
        if field not in self.mapping.columns:
            return true()
        column = self.mapping.columns[field]
        return (column if table is None else table.c[column.key]) == self._bind(field)

    def _active(self, table: Any = None) -> ColumnElement[bool]:
        return self._has_status(self.mapping.statuses.active, table)

    def _has_status(self, words: Iterable[str], table: Any = None) -> ColumnElement[bool]:
        column = self.mapping.columns["status"]
        found: ColumnElement[Any] = column if table is None else table.c[column.key]
        return found.in_([literal_column(quoted(word)) for word in sorted(words)])

    def _no_orphan(self, table: Any = None) -> ColumnElement[bool]:
        if not self.mapping.nullable_keys:
            return true()
        columns = [self.mapping.columns[field] for field in KEY[1:]]
        return and_(*((each if table is None else table.c[each.key]).is_not(None) for each in columns))

    def _as_seen(self) -> list[ColumnElement[bool]]:
        return [self._is(field) for field in ("id", *KEY)]

    def _key_is_free(self, connection: ColumnElement[Any]) -> ColumnElement[bool]:
        """Where no unique rule says so, the statement itself must."""
        if self.rule is not UniqueRule.NONE:
            return true()
        other = self.mapping.table.alias("other")
        columns = self.mapping.columns
        return not_(
            exists(
                select(other.c[columns["id"].key]).where(
                    self._is("company_id", other),
                    self._is("contact_id", other),
                    other.c[columns["connection_id"].key] == connection,
                    other.c[columns["id"].key] != self._bind("id"),
                    self._active(other),
                )
            )
        )

    # --- the building, once ----------------------------------------------------------------------------------

    def _build_load(
        self, with_key: bool, scope: Scope, with_closed: bool, with_message: bool, versioned: bool
    ) -> Executable:
        parts = [self._role("active", *self._active_of_contact())]
        if with_key:
            parts += self._load_of_key(scope, with_closed)
        if with_message:
            parts.append(self._routed())
        if versioned:
            role, here = self.claims.version()
            parts.append(select(*self._cells(role, [null()] * len(self.columns))).where(*here))
        return parts[0] if len(parts) == 1 else union_all(*parts)

    def _active_of_contact(self, table: Any = None) -> list[ColumnElement[bool]]:
        contact = (self._is("company_id", table), self._is("contact_id", table))
        return [*contact, self._active(table), self._no_orphan(table)]

    def _load_of_key(self, scope: Scope, with_closed: bool, *where: ColumnElement[bool]) -> list[Select[Any]]:
        """Return the parts of `load` about rows that are not active, or that a unique rule has in the way."""
        contact = (self._is("company_id"), self._is("contact_id"), *where)
        parts: list[Select[Any]] = []
        if with_closed:
            here = true() if scope is Scope.CONTACT else self._is("connection_id")
            closed = select(*self.columns).where(*contact, here, not_(self._active()), self._no_orphan())
            parts.append(self._first("closed", closed.order_by(*self._latest_closing())))
        if (occupying := self._occupying()) is not None:
            parts.append(self._first("occupant", select(*self.columns).where(*contact, *occupying)))
        return parts

    # --- touch: an `UPDATE` that need not have seen its row -----------------------------------------------------

    def _build_touch(
        self, scope: Scope, with_closed: bool, with_message: bool, more: int | None, guard: Guard | None
    ) -> Executable:
        if self.dialect_name == "sqlite":
            return self._build_touch_of_sqlite(more)
        if with_message:
            recorded = self._build_record_on_key().cte("ticketrouter_recorded")
            hit = self._touch(
                self._is("company_id"), self._is_id(select(recorded.c.ticket_id)), more=more
            ).cte("ticketrouter_hit")
        else:
            hit = self._touch(*self._on_key(), more=more).cte("ticketrouter_hit")
        missed = not_(exists(select(literal_column("1")).select_from(hit)))
        elsewhere = self.mapping.columns["connection_id"] != self._bind("connection_id")
        further: list[Select[Any]] = []
        if self.rule is not UniqueRule.NONE:  # there it is looked for when others are kept away
            further += self._load_of_key(scope, with_closed, missed)
            if with_message:
                further.append(self._routed().where(missed))
        # Where it finds nothing but active tickets of the contact, what is known of those is left out.
        fields = self._fields if further else self._brief_fields
        columns = [self.mapping.columns[field] for field in fields]
        parts = [
            select(*self._found("hit", [hit.c[column.key] for column in columns])),
            select(*self._found("active", columns)).where(*self._active_of_contact(), or_(elsewhere, missed)),
            *further,
        ]
        match guard:
            case None:
                return union_all(*parts)
            case Guard.ANCHOR:
                return union_all(*parts).add_cte(self.claims.anchored(missed))
            case Guard.LOCK:
                return union_all(*parts, self.claims.locked(missed, len(columns) + 1))
            case _:
                assert_never(guard)

    def _build_touch_of_sqlite(self, more: int | None) -> Executable:
        """Return the `UPDATE` whose row ends in the contact's other active tickets, as JSON.

        SQLite takes no `UPDATE` into another statement, and lets no row of another table beside the changed one.
        """
        other = self.mapping.table.alias("other")
        cells = [other.c[self.mapping.columns[field].key] for field in self._fields]
        elsewhere = other.c[self.mapping.columns["connection_id"].key] != self._bind("connection_id")
        rows = JsonRows(tuple(column.type for column in self.columns))
        others = select(func.json_group_array(func.json_array(*cells))).where(
            *self._active_of_contact(other), elsewhere
        )
        # Every cell as the column has it: JSON must not begin with the reading of it.
        column = type_coerce(others.scalar_subquery(), rows).label("others")
        statement: Executable = self._touch(*self._on_key(), more=more).returning(column)
        return statement

    def _touch(self, *where: ColumnElement[bool], more: int | None) -> Any:
        return self._update(*where, unread_messages=self._count_of(more), updated_at=self._bind("updated_at"))

    def _count_of(self, more: int | None) -> ColumnElement[Any] | None:
        """Return the new count: so many more, or None: what is set. No parameter is sent that says nothing."""
        count = self.mapping.columns.get("unread_messages")
        if count is None:
            return None
        if more is None:
            return bindparam("b_unread_set", type_=Integer)
        return func.coalesce(count, literal_column("0")) + literal_column(str(int(more)))

    def _on_key(self) -> list[ColumnElement[bool]]:
        """Return which row is the active ticket of the key."""
        here = [*(self._is(field) for field in KEY), self._active()]
        if self.rule in {UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION}:
            return here
        # Where several may be active on one key, it is the most recently active one.
        twin = self.mapping.table.alias("twin")
        columns = {field: twin.c[column.key] for field, column in self.mapping.columns.items()}
        times = [columns[field] for field in ("updated_at", "created_at") if field in columns]
        alike = len({isinstance(column.type, Integer) for column in times}) == 1
        time = func.coalesce(*times) if alike and len(times) > 1 else columns["updated_at"]
        number: ColumnElement[Any] = columns["id"]
        if isinstance(number.type, String) and self.dialect_name == "postgresql":
            number = number.collate("C")  # by code points, as Python sorts
        newest = select(columns["id"]).where(*(self._is(field, twin) for field in KEY), self._active(twin))
        return [*here, self._is_id(newest.order_by(time.desc().nulls_last(), number.desc()).limit(1))]

    def _is_id(self, chosen: Select[Any]) -> ColumnElement[bool]:
        return self.mapping.columns["id"] == chosen.scalar_subquery()

    def _build_record_on_key(self) -> Any:
        """Return the `INSERT` of a message id with the ticket that is active on its key, which it locks before."""
        columns, messages = self.mapping.columns, self.mapping.message_ids.c
        company = bindparam("b_company_id", type_=messages.company_id.type)
        key = [columns.get("company_id", company), columns["connection_id"]]
        sent = [bindparam(f"b_{name}", type_=messages[name].type) for name in ("message_id", "routed_at")]
        found = (
            select(columns["id"], *key)
            .where(*self._on_key())
            .with_for_update(key_share=True)
            .cte("ticketrouter_found")
        )
        row = select(*list(found.c)[1:], sent[0], found.c[columns["id"].key], sent[1])
        table = self.mapping.message_ids
        statement = postgresql.insert(table).from_select(_RECORDED, row, include_defaults=False)
        return statement.on_conflict_do_nothing(index_elements=list(table.primary_key)).returning(
            messages.ticket_id
        )

    def _build_locking(self, scope: Scope) -> list[Executable]:
        here = true() if scope is Scope.CONTACT else self._is("connection_id")
        contact = (self._is("company_id"), self._is("contact_id"))
        active = self._role("active", *contact, here, self._active(), self._no_orphan())
        closed = self._role("closed", *contact, here, not_(self._active()), self._no_orphan())
        parts = [active, closed.order_by(*self._latest_closing()).limit(1)]
        if (occupying := self._occupying()) is not None:
            parts.append(self._role("occupant", *contact, *occupying).limit(1))
        return [part.with_for_update() for part in (*parts, self._routed())]

    def _occupying(self) -> list[ColumnElement[bool]] | None:
        """Return which rows of a contact leave no room for a new one; None: none do."""
        if self.rule not in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}:
            return None
        here = true() if self.rule is UniqueRule.ONE_PER_CONTACT else self._is("connection_id")
        words = self._detected.words
        return [here, true() if words is None else self._has_status(words)]

    def _role(self, role: str, *where: ColumnElement[bool]) -> Select[Any]:
        return select(*self._found(role, self.columns)).where(*where)

    def _first(self, role: str, of: Select[Any]) -> Select[Any]:
        rows = of.limit(1).subquery(role)
        return select(*self._found(role, rows.c))

    def _found(self, role: str, columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Return what a row of `load` is made of: its role and its columns, on MariaDB as one JSON array.

        The drivers of MariaDB spend on each column of a result more than on its values.
        """
        return self._cells(literal_column(f"'{role}'", String), columns)

    def _cells(
        self, role: ColumnElement[Any], columns: Iterable[ColumnElement[Any]]
    ) -> list[ColumnElement[Any]]:
        cells = [role.label("role"), *columns]
        if not self._rows_are_json:
            return cells
        return [type_coerce(func.json_array(*cells), self._row_type).label("found")]

    @property
    def _rows_are_json(self) -> bool:
        return self.dialect_name in {"mysql", "mariadb"}

    def _latest_closing(self) -> list[ColumnElement[Any]]:
        columns = self.mapping.columns
        closed_at, updated_at = columns.get("closed_at"), columns["updated_at"]
        newest_id = columns["id"].desc()
        times = [
            column for column in (closed_at, updated_at, columns.get("created_at")) if column is not None
        ]
        if len(times) > 1 and len({isinstance(column.type, Integer) for column in times}) == 1:
            return [func.coalesce(*times).desc(), newest_id]
        # One counts seconds and the other does not, so they cannot stand in for each other.
        return [*(order for column in times for order in (column.is_(None), column.desc())), newest_id]

    def _routed(self) -> Select[Any]:
        messages = self.mapping.message_ids
        return self._role(
            "routed",
            self._is("company_id"),
            self.mapping.columns["id"] == messages.c.ticket_id,
            self._no_orphan(),
            *self._is_message(),
        )

    def _is_message(self) -> list[ColumnElement[bool]]:
        columns = self.mapping.message_ids.c
        return [
            columns[name] == bindparam(f"b_{name}", type_=columns[name].type)
            for name in ("company_id", "connection_id", "message_id")
        ]

    def _build_get(self) -> Select[Any]:
        return select(*self.columns).where(self._is("company_id"), self._is("id"), self._no_orphan())

    def _build_create(self) -> Executable:
        table = self.mapping.table
        if self.rule is UniqueRule.NONE:
            plain: Executable = insert(table).returning(*self.columns, _NOT_TAKEN)
            return plain
        status = self.mapping.columns["status"]
        unless: Executable = self._insert_unless_taken(table, self._conflict(), status, self.columns)
        return unless

    def _build_create_recorded(self, names: tuple[str, ...]) -> Executable | None:
        table, messages = self.mapping.table, self.mapping.message_ids
        if any(column.default is not None for column in table.columns if column.key not in names):
            return None
        insert_new: Any = self.create_statement
        cells = {
            name: bindparam(f"n_{place}", type_=table.columns[name].type) for place, name in enumerate(names)
        }
        made = insert_new.values(cells).cte("ticketrouter_made")
        *ticket, taken = made.c
        company, connection, message, at = (
            bindparam(f"b_{name}", type_=messages.c[name].type)
            for name in ("company_id", "connection_id", "message_id", "routed_at")
        )
        row = select(company, connection, message, made.c[self.mapping.columns["id"].key], at)
        recorded = (
            postgresql.insert(messages)
            .from_select(_RECORDED, row, include_defaults=False)
            .on_conflict_do_nothing(index_elements=list(messages.primary_key))
            .returning(messages.c.ticket_id)
            .cte("ticketrouter_recorded")
        )
        is_recorded = exists(select(recorded.c.ticket_id)).label("is_recorded")
        return select(*ticket, is_recorded, taken)

    def _build_stranger(self) -> Executable | None:
        index = self._detected.index
        if self.rule is not UniqueRule.ACTIVE_PER_CONNECTION or index is None:
            return None
        counted = [f"({expression}) IS NOT NULL" for _, expression in index.generated]
        if index.predicate is not None:
            counted.append(f"({index.predicate})")
        about: list[ColumnElement[bool]] = [literal_column(sql, Boolean) for sql in counted]
        here = [self._is(field) for field in KEY]
        return select(*self.columns).where(*here, not_(self._active()), *about).limit(1)

    def _insert_unless_taken(
        self,
        table: Table,
        conflict: dict[str, Any],
        column: ColumnElement[Any],
        returned: list[ColumnElement[Any]],
        *after: ColumnElement[Any],
    ) -> Any:
        """Return the `INSERT` that changes nothing where a unique rule stands against it, and says so.

        PostgreSQL and SQLite then give no row. MariaDB gives the row in the way, locked, and with each row a
        variable which only the branch for duplicates sets to the token (see `ASK_VARIABLE`). `IGNORE` would also
        cut values short, and catching the error would leave a shared lock, at which two losers deadlock.
        """
        match self.dialect_name:
            case "postgresql":
                statement = postgresql.insert(table).on_conflict_do_nothing(**conflict)
                return statement.returning(*returned, _NOT_TAKEN)
            case "sqlite":
                on_sqlite = sqlite.insert(table).on_conflict_do_nothing(**conflict)
                return on_sqlite.returning(*returned, _NOT_TAKEN)
            case _:
                name = "`" + column.name.replace("`", "``").replace(":", r"\:") + "`"
                same = text(f"IF((@ticketrouter := :b_token) > 0, {name}, {name})").bindparams(_TOKEN)
                on_mariadb = mysql.insert(table).on_duplicate_key_update({column.name: same})
                taken: ColumnElement[Any] = literal_column("@ticketrouter").label("taken")
                return on_mariadb.returning(*returned, taken, *after)

    def _conflict(self) -> dict[str, Any]:
        """Name the index: a conflict with any other one is an error, not a ticket of somebody else."""
        index = self._detected.index
        if index is not None:
            predicate = None if index.predicate is None else literal_column(index.predicate, Boolean)
            parts: list[ColumnElement[Any]] = [literal_column(part) for part in index.parts]
            return {"index_elements": parts, "index_where": predicate}
        key = [self.mapping.columns[field] for field in KEY if field in self.mapping.columns]
        match self.rule:
            case UniqueRule.ACTIVE_PER_CONNECTION:
                return {"index_elements": key, "index_where": self._active()}
            case UniqueRule.ONE_PER_CONTACT:
                return {"index_elements": key[:-1]}
            case _:
                return {"index_elements": key}

    def _update(self, *where: ColumnElement[bool], **values: Any) -> Executable:
        changes = {
            self.mapping.columns[field].key: value
            for field, value in values.items()
            if field in self.mapping.columns
        }
        statement = update(self.mapping.table).where(*where).values(changes)
        return statement.returning(*self.columns) if self.returns_updates else statement

    @property
    def returns_updates(self) -> bool:
        """Whether this database answers an `UPDATE` with the rows that it has changed."""
        return self.dialect_name in {"postgresql", "sqlite"}

    @property
    def reads_may_be_old(self) -> bool:
        """Whether a transaction may go on reading what others have changed, and then write over it."""
        return self.dialect_name in {"mysql", "mariadb"}

    def _new_count(self) -> ColumnElement[Any] | None:
        count = self.mapping.columns.get("unread_messages")
        if count is None:
            return None
        more = func.coalesce(count, literal_column("0")) + bindparam("b_unread_add", type_=Integer)
        return func.coalesce(bindparam("b_unread_set", type_=Integer), more)

    def _build_reuse(self) -> Any:
        return self._update(
            *self._as_seen(),
            self._active(),
            unread_messages=self._new_count(),
            updated_at=self._bind("updated_at"),
        )

    def _build_reuse_as_seen(self, more: int | None) -> Executable:
        columns = self.mapping.columns
        count = self._count_of(more)
        same = [
            columns[field].is_not_distinct_from(self._bind(field))
            for field in ("status", "user_id", "queue_id")
            if field in columns
        ]
        return self._update(
            *self._as_seen(),
            self._active(),
            *same,
            unread_messages=None if count is None else func.last_insert_id(count),
            updated_at=self._bind("updated_at"),
        )

    def _build_reopen(self) -> Executable:
        here = self.mapping.columns["connection_id"]
        return self._update(
            *self._as_seen(),
            not_(self._active()),
            self._key_is_free(here),
            status=self._bind("status"),
            user_id=self._optional_bind("user_id"),
            queue_id=self._optional_bind("queue_id"),
            unread_messages=self._new_count(),
            updated_at=self._bind("updated_at"),
            closed_at=null(),
        )

    def _build_accept(self) -> Executable:
        seen = [self.mapping.columns["status"] == self._bind("status", "b_seen_status")]
        if (user := self.mapping.columns.get("user_id")) is not None:
            seen.append(user.is_not_distinct_from(self._bind("user_id", "b_seen_user_id")))
        return self._update(
            *self._as_seen(),
            self._active(),
            *seen,
            status=self._bind("status"),
            user_id=self._optional_bind("user_id"),
            updated_at=self._bind("updated_at"),
        )

    def _build_close(self) -> Executable:
        return self._update(
            self._is("company_id"),
            self._is("id"),
            self._active(),
            status=self._bind("status"),
            updated_at=self._bind("updated_at"),
            closed_at=self._optional_bind("closed_at"),
        )

    def _build_transfer(self) -> Executable:
        to = self._bind("connection_id", "b_to_connection_id")
        return self._update(
            *self._as_seen(),
            self._active(),
            self._key_is_free(to),
            connection_id=to,
            updated_at=self._bind("updated_at"),
        )

    def _optional_bind(self, field: str) -> ColumnElement[Any] | None:
        return self._bind(field) if field in self.mapping.columns else None

    def _build_record(self) -> Any:
        messages = self.mapping.message_ids
        conflict = {"index_elements": list(messages.primary_key)}
        return self._insert_unless_taken(messages, conflict, messages.c.ticket_id, [messages.c.ticket_id])

    def _build_forget_vain(self) -> Delete:
        ticket, recorded = self.mapping.columns["id"], self.mapping.message_ids.c.ticket_id
        there = (self._is("company_id"), ticket == recorded, self._no_orphan())
        return self._build_forget().where(not_(exists(select(ticket).where(*there))))

    def _build_forget_before(self) -> Delete:
        routed_at = self.mapping.message_ids.c.routed_at
        return delete(self.mapping.message_ids).where(routed_at < bindparam("b_before", type_=routed_at.type))

    def _build_forget(self) -> Delete:
        return delete(self.mapping.message_ids).where(*self._is_message())


def _digits(type_: TypeEngine[Any]) -> int | None:
    """Return how many digits of a second a column of MariaDB keeps; None: its type does not say."""
    match type_:
        case UtcDateTime():
            return _MICROSECONDS
        case mysql.DATETIME() | mysql.TIMESTAMP():
            return type_.fsp or 0
        case _:
            return None


def _more(unread: Unread) -> int | None:
    """Return how many more a count becomes; None: it is set."""
    return unread.add if unread.set_to is None else None


def _met(hit: Ticket, others: Iterable[Ticket]) -> Touched:
    return Touched(hit, tuple(newest_first(others)))


def _is_exact(type_: TypeEngine[Any]) -> bool:
    """Tell whether equal values of a type are the same value: a text's collation may say otherwise."""
    return isinstance(type_, IdText | Integer) or (isinstance(type_, Uuid) and type_.as_uuid)
