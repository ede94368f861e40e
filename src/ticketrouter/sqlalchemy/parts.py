"""What the statements about tickets are made of: values as their columns take them, and conditions.

Law of this file: every statement about tickets carries the company (R9), but for the look at what an index without it
has refused; status words stand in it as literals, because no
database matches a bound list with a partial index; values are bound, each as its column takes it. What differs by
database is a small method, whose base is what most do. Nothing is sent from here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Integer,
    Select,
    String,
    Table,
    Update,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup, MessageRef, Unread
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage, Ticket, TicketKey, UniqueRule, altered
from ticketrouter.sqlalchemy.codecs import NO_WORD, Codec, Passage, keeps_to_the_letter, kept_time
from ticketrouter.sqlalchemy.columns import FIELDS, KEY, TIMES
from ticketrouter.sqlalchemy.facts import ELSEWHERE, ByIndex, Detected, Index
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.on_message import KEEP, Columns, How, encoder
from ticketrouter.sqlalchemy.reading import RowReader
from ticketrouter.sqlalchemy.row_condition import RowCondition, adapted
from ticketrouter.sqlalchemy.storage import MICROSECONDS, Storage, storage_of
from ticketrouter.sqlalchemy.stored_status import StoredStatus
from ticketrouter.sqlalchemy.stored_words import WordType
from ticketrouter.sqlalchemy.types import IdText, bare, encode_id, is_time

Sent: TypeAlias = tuple[Executable, dict[str, Any]]
"""A statement and the values that it is sent with."""
NOT_TAKEN: ColumnElement[Any] = literal_column("0").label("ticketrouter_taken")
"""What the row of an `INSERT` ends in that nothing stood against."""
ONE: ColumnElement[Any] = literal_column("1")


class Values:
    """What statements are sent with.

    Args:
        mapping: where the tickets are.
        dialect: SQLAlchemy's, of the database.
        stripped: the fields whose columns keep no blanks at the end of a text.
    """

    def __init__(
        self, mapping: TicketMapping, dialect: Dialect, stripped: Collection[str] = frozenset()
    ) -> None:
        self.mapping = mapping
        self.dialect: Dialect = dialect
        self.words: StoredStatus = mapping.words(dialect)
        """How a row tells its status."""
        self.codecs: Mapping[str, Codec] = mapping.codecs(dialect, stripped)
        """How each field that has a column is written and read."""
        self.fields: tuple[str, ...] = tuple(field for field in FIELDS if field in mapping.columns)
        """The fields that have a column, in the order of `Parts.columns`."""
        self._place_of_id = self.fields.index("id")
        self.told_by_word: bool = "status" in mapping.columns
        """Whether there is a column of the status itself."""
        self.ticket: Callable[..., Ticket] = RowReader(mapping, self.codecs, self.fields).ticket
        """Reads the ticket of a row, whose values stand in the order of the fields."""
        # Where what is equal is the same, a key that was found need not be read.
        self.exact: frozenset[str] = frozenset(
            field
            for field in KEY
            if field not in mapping.columns or self._is_exact(mapping.columns[field].type)
        )
        """The fields of a key whose columns hold nothing that is equal and yet another value."""
        self.counts: bool = "unread_messages" in mapping.columns
        """Whether the table has a count of unread messages."""
        self.timed: bool = "updated_at" in mapping.columns
        """Whether the table has a time of the last change."""
        self.encode: Callable[[Column[Any], Any], Any] = encoder(dialect, mapping.epoch, mapping.timezone)
        """Writes what is given for a further column."""
        company = self.codecs.get("company_id")
        self._encode_company = None if company is None else company.encode
        self._encode_id = self.codecs["id"].encode
        self._encode_contact = self.codecs["contact_id"].encode
        here = self.codecs.get("connection_id")
        self._encode_connection = self._the_only_connection if here is None else here.encode
        self._has_connection = here is not None

    def _the_only_connection(self, connection_id: Id) -> Id:
        """Return the connection of every row, where the table has no column for it; it is sent to companion tables only."""
        only = self.mapping.only_connection
        if only is None or connection_id != only:
            raise InvalidMessageError("connection_id", connection_id, f"{only!r}, the only one of this table")
        return only

    def has_no_id(self, row: Sequence[Any]) -> bool:
        """Tell whether the row of a ticket has none, as that of a new one whose key nobody has filled."""
        return row[self._place_of_id] is None

    def bare(self, type_: TypeEngine[Any]) -> TypeEngine[Any]:
        """Return what the database has of a type."""
        return bare(type_, self.dialect)

    def _is_exact(self, type_: TypeEngine[Any]) -> bool:
        """Tell whether equal values of a type are the same value: a text's collation may say otherwise."""
        there = self.bare(type_)
        return isinstance(there, IdText | Integer) or (isinstance(there, Uuid) and there.as_uuid)

    def bound(self, **values: Any) -> dict[str, Any]:
        """Return values as `Parts.bind` has them bound; what has no column is left out."""
        return {
            f"b_{field}": self.codecs[field].encode(value)
            for field, value in values.items()
            if field in self.mapping.columns
        }

    def of_contact(self, company_id: Id, contact_id: Id) -> dict[str, Any]:
        """Return what says which contact."""
        # Every message comes by here: by name, without a loop.
        values = {"b_contact_id": self._encode_contact(contact_id)}
        if self._encode_company is not None:
            values["b_company_id"] = self._encode_company(company_id)
        return values

    def on(self, key: TicketKey) -> dict[str, Any]:
        """Return what says on which key."""
        values = self.of_contact(key.company_id, key.contact_id)
        return self._with_connection(values, key.connection_id)

    def _with_connection(self, values: dict[str, Any], connection_id: Id) -> dict[str, Any]:
        encoded = self._encode_connection(connection_id)
        if self._has_connection:
            values["b_connection_id"] = encoded
        return values

    def seen(self, ticket: Ticket) -> dict[str, Any]:
        """Return what says which ticket, and on which key it was seen."""
        values = self.of_contact(ticket.company_id, ticket.contact_id)
        self._with_connection(values, ticket.connection_id)
        values["b_id"] = self._encode_id(ticket.id)
        return values

    def of_lookup(self, lookup: Lookup, *, message: bool = True) -> dict[str, Any]:
        """Return what says what is looked for, and whether its message id is a part of that."""
        values = self.of_contact(lookup.company_id, lookup.contact_id)
        if lookup.connection_id is not None:
            self._with_connection(values, lookup.connection_id)
            if message and lookup.message_id is not None:
                values["b_connection_id"] = self._encode_connection(lookup.connection_id)
                values["b_company_id"] = self.company(lookup.company_id)
                values["b_message_id"] = self._message(lookup.message_id)
        return values

    def seen_status(self, ticket: Ticket) -> dict[str, Any]:
        """Return what says which status a ticket was seen with."""
        if not self.told_by_word:
            return {}
        # What is no word is stored as none.
        word = None if ticket.status == NO_WORD else self.encoded("status", ticket.status)
        return {"b_seen_status": word}

    def unread(self, unread: Unread) -> dict[str, Any]:
        """Return what becomes of the count."""
        return {"b_unread_set": unread.set_to, "b_unread_add": unread.add} if self.counts else {}

    def of_message(self, columns: Columns, message: InboundMessage, at: datetime) -> dict[str, Any]:
        """Return what `Columns.changes` is sent with."""
        sent: dict[str, Any] = {}
        for number, value in columns.values(((message, at),), self.encode).items():
            sent[f"b_new_{number}"] = None if value is KEEP else value
            if columns.written[number].how is How.FUNCTION:
                sent[f"b_keep_{number}"] = int(value is KEEP)
        return sent

    def company(self, company_id: Id) -> Any:
        """Return a company as its column takes it; the companion tables have one even where the tickets have none."""
        return company_id if self._encode_company is None else self._encode_company(company_id)

    def encoded(self, field: str, value: Any) -> Any:
        """Return a value as the column of its field takes it."""
        match field:
            case "company_id":
                return self.company(value)
            case "connection_id":
                return self._encode_connection(value)
            case _:
                return self.codecs[field].encode(value)

    def ref(self, ref: MessageRef) -> dict[str, Any]:
        """Return the primary key of a recorded message id."""
        return {
            "company_id": self.company(ref.key.company_id),
            "connection_id": self._encode_connection(ref.key.connection_id),
            "message_id": self._message(ref.message_id),
        }

    def of_ref(self, ref: MessageRef) -> dict[str, Any]:
        """Return what says which recorded message id."""
        return {f"b_{name}": value for name, value in self.ref(ref).items()}

    def digest(self, message_id: Id) -> bytes:
        """Return what the record has of a message id."""
        return sha256(encode_id(self._message(message_id)).encode()).digest()

    def _message(self, message_id: Id) -> str:
        """Return what is digested: several tickets tables may share the companion table."""
        return f"{self.mapping.table.name}\0{encode_id(message_id)}"


_IN_TURN = (datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2001, 2, 3, 4, 5, 6, 1000, tzinfo=UTC))
"""Two times a millisecond apart."""


class Times:
    """What the column of the last change makes of a time; where there is none, that of the creation stands for it.

    Args:
        values: what statements are sent with.
        digits: how many digits of a second it keeps, where the database says so.
        coarse: whether it is said to keep no milliseconds, whatever becomes of them.
    """

    def __init__(self, values: Values, digits: int | None, *, coarse: bool = False) -> None:
        self._timed = values.timed
        self._begun = "created_at" in values.mapping.columns
        self._codec = values.codecs["updated_at" if values.timed else "created_at"]
        type_ = values.mapping.last_change.type
        # Nearly every table keeps what it is given.
        is_plain = is_time(type_, values.dialect) and values.mapping.timezone is UTC
        known: Callable[[datetime], datetime] | None = _as_it_is
        if not is_plain or digits != MICROSECONDS:
            known = kept_time(type_, self._codec, values.dialect, digits)
        self.are_known: bool = known is not None
        """Whether that is known before a row is read."""
        self._kept = known or _as_it_is
        one, other = (self._stored(type_, values.dialect, each) for each in _IN_TURN)
        self.are_told_apart: bool = not coarse and one != other
        """Whether two messages in turn come at times of which the column keeps another one each."""

    def _stored(self, type_: TypeEngine[Any], dialect: Dialect, at: datetime) -> Any:
        return Passage(type_, dialect).stored(self._codec.encode(self._kept(at)))

    def cell(self, at: datetime) -> Any:
        """Return a time as a row has it, before it is read."""
        return self._codec.encode(self._kept(at))

    def as_kept(self, ticket: Ticket) -> Ticket:
        """Return a ticket that was just written as its row is read: see `Snapshot`."""
        at = self._kept(ticket.updated_at if self._timed else ticket.created_at)
        begun = ticket.created_at if self._begun else at
        if (at, begun) == (ticket.updated_at, ticket.created_at):
            return ticket
        return altered(ticket, created_at=begun, updated_at=at)


def more(unread: Unread) -> int | None:
    """Return how many more a count becomes; None: it is set."""
    return unread.add if unread.set_to is None else None


class OfStatus(ABC):
    """The conditions about the status of a ticket, whatever tells it; see `StoredStatus`."""

    mapping: TicketMapping
    values: Values
    _storage: Storage

    @abstractmethod
    def bind(self, field: str, name: str | None = None) -> ColumnElement[Any]:
        """Return the value of a field, as it is bound."""

    def is_active(self, table: Any = None) -> ColumnElement[bool]:
        """Return the condition of an active ticket, in the tickets table or an alias of it."""
        return self.has_status(self.mapping.statuses.active, table)

    def has_status(self, words: Collection[str], table: Any = None) -> ColumnElement[bool]:
        """Return the condition of a ticket whose status is one of some words."""
        column = self.mapping.told_by
        return self.values.words.has(words, column if table is None else table.c[column.key])

    def is_closed(self) -> ColumnElement[bool]:
        """Return the condition of a ticket that is not active; one without a status is closed, too."""
        return self.values.words.lacks(self.mapping.statuses.active, self.mapping.told_by)

    def may_be_reopened(self) -> ColumnElement[bool]:
        """Return the condition of a ticket that is neither active nor final, though its word may be an unknown one."""
        statuses = self.mapping.statuses
        return not_(self.has_status(statuses.active | statuses.final))

    def sleeps(self, table: Any = None) -> ColumnElement[bool]:
        """Return the condition of a ticket that a message may wake, in the tickets table or an alias of it."""
        return self.has_status(self.mapping.statuses.wakes.keys(), table)

    def not_final_since(self) -> ColumnElement[bool]:
        """Return the condition of a ticket that has not become a final one since it was seen."""
        final = self.mapping.statuses.final
        if not final:
            return true()
        is_not = self.values.words.lacks(final, self.mapping.told_by)
        return or_(is_not, *self.is_status_as_seen())

    def is_status_as_seen(self) -> list[ColumnElement[bool]]:
        """Return the condition that a ticket's status is what it was; none where there is one active word."""
        if not self.values.told_by_word:
            return []
        return [self.mapping.columns["status"] == self.bind("status", "b_seen_status")]

    def is_reopenable(self) -> ColumnElement[bool]:
        """Return the condition of a closed ticket whose word the scheme knows, to the letter."""
        words, known = self.values.words, self.mapping.statuses.reopenable
        return words.is_exactly(known, self.mapping.told_by, self._storage)


class OfIds(ABC):
    """The conditions about ids: to Python two are one where they are equal, to a database where its collation says so.

    A row is ours only where its key is what was asked for, to the letter; what an index compares is asked as it does.
    """

    mapping: TicketMapping
    values: Values
    detected: Detected
    _storage: Storage

    @abstractmethod
    def bind(self, field: str, name: str | None = None) -> ColumnElement[Any]:
        """Return the value of a field, as it is bound."""

    def is_(self, field: str, table: Any = None) -> ColumnElement[bool]:
        """Compare a column with its value; a table of one company has no column for that."""
        if field not in self.mapping.columns:
            return true()
        column = self.mapping.columns[field]
        return self.same(field, column if table is None else table.c[column.key], self.bind(field))

    def same(self, field: str, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare two values of a field as Python does: a collation may take two of a key for one."""
        equal = self.alike(one, other)
        return and_(equal, self._is_spelled(one, other)) if field in self.detected.merged else equal

    def alike(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare a column with a value as the database's own indexes do."""
        equal: ColumnElement[bool] = column == value
        return equal

    def to_the_letter(self, field: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a value of a field such that no two are equal."""
        return self._storage.to_the_letter(value) if field in self.detected.merged else value

    def spelled(self, *fields: str) -> list[ColumnElement[bool]]:
        """Return what is asked of columns of a key that equal their values to the database, to be those."""
        merged = [field for field in fields if field in self.detected.merged]
        return [self._is_spelled(self.mapping.columns[field], self.bind(field)) for field in merged]

    def _is_spelled(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[bool]:
        to_the_letter = self._storage.to_the_letter
        return to_the_letter(one) == to_the_letter(other)

    def of_message(self, *names: str) -> list[ColumnElement[Any]]:
        """Return values of the record of message ids."""
        columns = self.mapping.message_ids.c
        return [bindparam(f"b_{name}", type_=columns[name].type) for name in names]

    def is_message(self) -> list[ColumnElement[bool]]:
        """Return which row of the record is a message id's."""
        return self._of_places(self.same_place)

    def is_message_to_the_database(self) -> list[ColumnElement[bool]]:
        """Return the same by what the database takes for equal."""
        return self._of_places(self.alike)

    def _of_places(
        self, compare: Callable[[Any, ColumnElement[Any]], ColumnElement[bool]]
    ) -> list[ColumnElement[bool]]:
        names = ("company_id", "connection_id", "message_id")
        columns = self.mapping.message_ids.c
        return [
            compare(columns[name], each) for name, each in zip(names, self.of_message(*names), strict=True)
        ]

    def spelled_places(self) -> list[ColumnElement[bool]]:
        """Return of each of `merged_places` whether it has its value as Python has it."""
        columns, names = self.mapping.message_ids.c, self.merged_places
        return [
            self._is_spelled(columns[name], value)
            for name, value in zip(names, self.of_message(*names), strict=True)
        ]

    def same_place(self, column: Column[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare a column of the record with a value as Python does."""
        equal = self.alike(column, value)
        return and_(equal, self._is_spelled(column, value)) if column.name in self.merged_places else equal

    @property
    def merged_places(self) -> list[str]:
        """The columns of the record that may take texts for equal that are others: nobody has asked for their collations.

        They have the types of the tickets' columns, and where those name no collation the database's usual one.
        """
        columns = self.mapping.message_ids.c
        usual_merges = getattr(self._storage.ids, "collation", None) is not None  # else none is named
        return [
            name
            for name in ("company_id", "connection_id")
            if (usual_merges or name in self.detected.merged)
            and not isinstance(columns[name].type, IdText)
            and keeps_to_the_letter(columns[name].type, self.values.dialect)
        ]

    @property
    def compared(self) -> list[str]:
        """The fields of a key that the index compares: without the company, two companies' rows meet."""
        index = self.detected.index
        return [field for field in KEY if index is None or self._is_about(index, field)]

    @property
    def merged(self) -> list[str]:
        """The fields of those by which rows meet in the index that are others in Python."""
        return [] if self.detected.index is None else [f for f in self.compared if f in self.detected.merged]

    def _is_about(self, index: Index, field: str) -> bool:
        if field not in self.mapping.columns:
            return False
        name = re.escape(self.mapping.columns[field].name)
        return any(re.search(rf"(?<!\w){name}(?!\w)", part) for part in index.expressions())


class Parts(OfStatus, OfIds):
    """The conditions, and the other parts, of statements for one mapping, one database and one unique rule.

    Args:
        mapping: where the tickets are.
        dialect: SQLAlchemy's, of the database.
        detected: the unique rule, and the index behind it.
        by: how active tickets are found by that index, where a look must name it.
    """

    checks_place: ClassVar[bool] = False
    """Whether the same name may be another table in the next transaction of a connection."""
    returns_updates: ClassVar[bool] = True
    """Whether an `UPDATE` is answered with the rows that it has changed."""
    ask_mark: ClassVar[Executable | None] = None
    """What gives the mark of a row that came without one, and is sent before an `INSERT` of many; None: each row has one."""

    def __init__(
        self, mapping: TicketMapping, dialect: Dialect, detected: Detected, by: ByIndex | None = None
    ) -> None:
        self.mapping = mapping
        self.detected = detected
        self.rule: UniqueRule = detected.rule
        self.values: Values = Values(mapping, dialect, detected.stripped)
        self.times: Times = Times(self.values, detected.digits, coarse=detected.coarse)
        self.columns: list[ColumnElement[Any]] = [self.cell(field) for field in self.values.fields]
        """The columns of a ticket, in the order of the fields."""
        self.returned: list[ColumnElement[Any]] = self._returned()
        """What is answered with a row that was written: the same."""
        self._storage = storage_of(dialect)
        self._by = by
        where, plain = mapping.where, plain_dialect(self._storage.url)
        self._where: ColumnElement[bool] | None = None if where is None else where.written(plain)
        self.met: list[ColumnElement[Any]] = [] if where is None else [_told(self._is_met(where, new=False))]
        """The cell of a changed row that tells whether it exists for the desk; none where every row does."""
        begun = None if where is None else where.of_begun(mapping.columns["id"])
        self.met_by_new: list[ColumnElement[Any]] = (
            [] if begun is None else [_told(self._is_met(begun, new=True))]
        )
        """The same of a new row."""

    def _returned(self) -> list[ColumnElement[Any]]:
        return self.columns

    def cell(self, field: str) -> ColumnElement[Any]:
        """Return the column of a field as it is read."""
        column = self.mapping.columns[field]
        if field != "status" or self.values.words.are_plain:
            return column
        return type_coerce(column, WordType(self.values.words)).label(column.key)

    # --- values, as they are bound -----------------------------------------------------------------------------

    def bind(self, field: str, name: str | None = None) -> ColumnElement[Any]:
        """Return the value of a field."""
        return bindparam(name or f"b_{field}", type_=self.mapping.columns[field].type)

    def count_of(self, more: int | None) -> ColumnElement[Any] | None:
        """Return the new count: so many more, or None: what is set. No parameter is sent that says nothing."""
        count = self.mapping.columns.get("unread_messages")
        if count is None:
            return None
        if more is None:
            return bindparam("b_unread_set", type_=Integer)
        return func.coalesce(count, literal_column("0")) + literal_column(str(int(more)))

    def none(self, field: str) -> ColumnElement[Any]:
        """Return what is stored of a field where there is none."""
        if field not in self.mapping.absent:
            return null()
        return bindparam(f"b_no_{field}", self.values.encoded(field, None), self.mapping.columns[field].type)

    # --- which tickets -----------------------------------------------------------------------------------------

    def all_are(self, *fields: str, table: Any = None) -> list[ColumnElement[bool]]:
        """Compare several columns with their values."""
        return [self.is_(field, table) for field in fields]

    def of_contact(self, table: Any = None) -> list[ColumnElement[bool]]:
        """Return which rows are a contact's."""
        return self.all_are(*KEY[:2], table=table)

    def as_seen(self) -> list[ColumnElement[bool]]:
        """Return which row is a ticket, on the key on which it was seen."""
        return self.all_are("id", *KEY)

    def may_leave_out(self, fields: Iterable[str], *words: str) -> bool:
        """Tell whether a ticket may be one that `where` leaves out once these fields of it are written.

        Args:
            fields: the fields.
            words: what its status may become.
        """
        return self.mapping.may_leave_out(fields, met=self.detected.met.issuperset(words))

    def of_desk(self, table: Any = None) -> ColumnElement[bool]:
        """Return the row condition: a row that does not meet it does not exist for us."""
        if self._where is None:
            return true()
        return self._where if table is None else adapted(self._where, table)

    def _is_met(self, condition: RowCondition, *, new: bool) -> ColumnElement[bool]:
        """Return what tells of a row that was just written, and may be a new one, whether it meets a condition."""
        dialect = plain_dialect(self._storage.url)
        return condition.of_new_row(dialect) if new else condition.written(dialect)

    def is_ticket(self, table: Any = None) -> ColumnElement[bool]:
        """Return the condition of a row that exists for the desk, and is no orphan."""
        if not self.mapping.nullable_keys:
            return self.of_desk(table)
        columns = [self.mapping.columns[field] for field in KEY[1:] if field in self.mapping.columns]
        whole = [(each if table is None else table.c[each.key]).is_not(None) for each in columns]
        return and_(*whole, self.of_desk(table))

    def is_ticket_locked(self) -> ColumnElement[bool]:
        """Return the condition of `is_ticket` for what locks."""
        return self.is_ticket()

    def active_of_contact(self, table: Any = None) -> list[ColumnElement[bool]]:
        """Return which rows are a contact's active tickets."""
        return [*self.of_contact(table), self.is_active(table), self.in_rule(table), self.is_ticket(table)]

    # --- what is in the way ------------------------------------------------------------------------------------

    def key_is_free(self, connection: ColumnElement[Any] | None) -> ColumnElement[bool]:
        """Where no unique rule says so, the statement itself must; None: there is only one connection."""
        if self.rule is not UniqueRule.NONE:
            return true()
        other = self.mapping.table.alias("other")
        columns = self.mapping.columns
        rival = select(other.c[columns["id"].key]).where(
            *self.of_contact(other),
            true()
            if connection is None
            else self.same("connection_id", other.c[columns["connection_id"].key], connection),
            other.c[columns["id"].key] != self.bind("id"),
            self.is_active(other),
            self.of_desk(other),
        )
        return not_(exists(self.as_committed(rival, other)))

    def as_committed(self, rival: Select[Any], table: Any) -> Select[Any]:
        """Let a part of a write wait for what others have not committed, where it might be seen, or hidden."""
        return self.by_contact(rival, table)

    def occupying(self) -> list[ColumnElement[bool]] | None:
        """Return which rows of a contact leave no room for a new one; None: none do."""
        if self.rule not in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}:
            return None
        here = true() if self.rule is UniqueRule.ONE_PER_CONTACT else self.is_("connection_id")
        words = self.detected.words
        covered = true() if words is None else self.has_status(words)
        return [here, covered if self._where is None else and_(covered, self._where)]

    @property
    def held_by_an_index(self) -> list[ColumnElement[bool]]:
        """Return which rows the index compares at all, said of the innermost table of a statement."""
        index = self.detected.index
        if index is None:
            return []
        # Where such a column is NULL, the index does not compare the row.
        computed = [part for part, column in zip(index.parts, index.columns, strict=True) if column is None]
        counted = [f"({part}) IS NOT NULL" for part in (*dict(index.generated), *computed)]
        if index.predicate is not None:
            counted.append(f"({index.predicate})")
        return [literal_column(sql, Boolean) for sql in counted]

    # --- by which index ----------------------------------------------------------------------------------------

    def in_rule(self, table: Any = None) -> ColumnElement[bool]:
        """Return the condition by which the rule's own index has active tickets, where the look must name it."""
        if self._by is None:
            return true()
        of = "" if table is None else f"{table.name}."
        return literal_column(of + self._by.column) == literal_column(self._by.value)

    def by_rule(self, look: Select[Any], table: Any = None) -> Select[Any]:
        """Let a look go by the rule's own index, and fail where that has gone."""
        return look if self._by is None else self.hinted(look, self._by.index, table)

    def active_by_index(self, look: Select[Any], table: Any = None) -> Select[Any]:
        """Let a locking look for active tickets, of which it knows the contact, read no others where it can."""
        return self.by_contact(look, table) if self._by is None else self.by_rule(look, table)

    def by_contact(self, look: Select[Any], table: Any = None) -> Select[Any]:
        """Let a locking look read, and so lock, no rows but those of its contact, where there is an index for it."""
        return self.hinted(look, self.detected.ways.contact, table)

    def hinted(self, look: Select[Any], index: str | None, table: Any = None) -> Select[Any]:  # noqa: ARG002
        """Let a look go by an index, where a database has to be told; None: it chooses itself."""
        return look

    # --- where the connection is -------------------------------------------------------------------------------

    @property
    def is_here(self) -> ColumnElement[bool]:
        """Return the condition that the connection is where it was asked, which reads no row."""
        return true()

    def elsewhere(self, cells: Sequence[ColumnElement[Any]]) -> list[Select[Any]]:
        """Return the part of a look that gives a row of such cells where the connection is in another place."""
        return [select(*cells).where(not_(self.is_here))] if self.checks_place else []

    def told_elsewhere(self, width: int) -> list[Select[Any]]:
        """Return the same for a look whose rows have a role, and so many columns."""
        return self.elsewhere(self.found(ELSEWHERE, [null()] * width))

    # --- orders ------------------------------------------------------------------------------------------------

    def newest_first(self, columns: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Return the order in which the most recently active of several tickets comes first."""
        times = [columns[field] for field in TIMES if field in columns]
        alike = self._are_alike(times)
        time = func.coalesce(*times) if alike and len(times) > 1 else times[0]
        number: ColumnElement[Any] = columns["id"]
        if isinstance(self.values.bare(number.type), String):
            number = self.by_code_points(number)
        return [time.desc().nulls_last(), number.desc()]

    def by_code_points(self, word: ColumnElement[Any]) -> ColumnElement[Any]:
        """Let texts be sorted as Python sorts them."""
        return word

    def latest_closing(self) -> list[ColumnElement[Any]]:
        """Return the order in which the ticket that was closed last comes first."""
        columns = self.mapping.columns
        closed_at: ColumnElement[Any] | None = columns.get("closed_at")
        if closed_at is not None and "closed_at" in self.mapping.absent:
            closed_at = func.nullif(closed_at, self.none("closed_at"), type_=closed_at.type)
        newest_id = columns["id"].desc()
        times = [column for column in (closed_at, *map(columns.get, TIMES)) if column is not None]
        if len(times) > 1 and self._are_alike(times):
            return [func.coalesce(*times).desc(), newest_id]
        # One counts seconds and the other does not, so they cannot stand in for each other.
        return [*(order for column in times for order in (column.is_(None), column.desc())), newest_id]

    def _are_alike(self, times: Iterable[ColumnElement[Any]]) -> bool:
        """Tell whether all times are counted, or none is: else they cannot stand in for each other."""
        return len({isinstance(self.values.bare(each.type), Integer) for each in times}) == 1

    # --- rows with a role --------------------------------------------------------------------------------------

    def role(self, role: str, *where: ColumnElement[bool]) -> Select[Any]:
        """Return the look at tickets that have a role."""
        return select(*self.found(role, self.columns)).where(*where)

    def first(self, role: str, of: Select[Any]) -> Select[Any]:
        """Return the look at the first ticket of another look, which has a role."""
        rows = of.limit(1).subquery(role)
        return select(*self.found(role, rows.c))

    def found(self, role: str, columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Return what a row is made of that has a role."""
        return self.cells(literal_column(f"'{role}'", String), columns)

    def cells(
        self, role: ColumnElement[Any], columns: Iterable[ColumnElement[Any]]
    ) -> list[ColumnElement[Any]]:
        """Return what a row is made of: its role and its columns."""
        return [role.label("role"), *columns]

    def cells_in(self, rows: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
        """Return the role and the columns of each row that came."""
        return rows

    # --- writes ------------------------------------------------------------------------------------------------

    def update(
        self, *where: ColumnElement[bool], further: Mapping[str, Any] | None = None, **values: Any
    ) -> Any:
        """Return an `UPDATE`; what has no column is left out.

        Args:
            where: which row it is.
            further: what is written besides, by the keys of the columns.
            values: what is written, by field.
        """
        changes = {
            self.mapping.columns[field].key: value
            for field, value in values.items()
            if field in self.mapping.columns
        }
        changing = update(self.mapping.table).where(*where, self.of_desk())
        statement = with_values(changing, changes, further or {}, idle=self.mapping.told_by)
        return statement.returning(*self.returned) if self.returns_updates else statement

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """Return an `INSERT` that can say what is done about a conflict."""

    def insert_unless_taken(
        self,
        table: Table,
        conflict: dict[str, Any],
        column: ColumnElement[Any],  # noqa: ARG002
        returned: Sequence[ColumnElement[Any]],
    ) -> Any:
        """Return the `INSERT` that changes nothing where a unique rule stands against it, and says so.

        It then gives no row, or the row in the way; a row ends in a mark, and `is_made` tells by it which of the two.

        Args:
            table: the table.
            conflict: which unique index it is about.
            column: one that such a conflict leaves as it is.
            returned: what the new row gives.
        """
        return self.insert(table).on_conflict_do_nothing(**conflict).returning(*returned, NOT_TAKEN)

    def conflict(self) -> dict[str, Any]:
        """Name the index: a conflict with any other one is an error, not a ticket of somebody else."""
        index = self.detected.index
        if index is None:
            return {}  # without a rule nothing stands against a row
        predicate = None if index.predicate is None else literal_column(index.predicate, Boolean)
        parts: list[ColumnElement[Any]] = [literal_column(part) for part in index.parts]
        return {"index_elements": parts, "index_where": predicate}

    def token(self) -> dict[str, Any]:
        """Return what `insert_unless_taken` is sent with besides its row."""
        return {}

    def is_made(self, mark: Any, values: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Tell by the mark of a row, and what was sent, whether it is the new one, and not another in its way."""
        return True


def with_values(
    changing: Update, changes: Mapping[str, Any], further: Mapping[str, Any], *, idle: Column[Any]
) -> Update:
    """Let an `UPDATE` write what is by field, and further columns before that.

    An expression is over the row before the change, and MariaDB writes one after the other. Where nothing is to be
    written, the row is written as it is, and so locked: by a column that stays.
    """
    if not further:
        return changing.values(changes or {idle.key: idle})
    return changing.ordered_values(*further.items(), *changes.items())


def _as_it_is(at: datetime) -> datetime:
    return at


def _told(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return case((condition, ONE), else_=literal_column("0")).label("ticketrouter_met")
