"""TicketMapping: where, in a table, each field of a ticket stands, and how it is written there.

Law of this file: a mapping is checked when it is made, and every complaint says what to change. It knows
columns and values, but sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Connection, Dialect, Enum, MetaData, String, Table, Uuid
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import TypeEngine

from ticketrouter.checks import MAX_STATUS_LENGTH, Id, check_id, check_status
from ticketrouter.decisions import Create
from ticketrouter.errors import InvalidMessageError, shown
from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy import codecs
from ticketrouter.sqlalchemy import schema as tables
from ticketrouter.sqlalchemy.closing_time import ClosingTime
from ticketrouter.sqlalchemy.codecs import Codec
from ticketrouter.sqlalchemy.columns import (
    FIELDS,
    KEY,
    MAY_BE_ABSENT,
    TIMES,
    MappingError,
    Said,
    check_columns,
    column_of,
    column_said,
    fills_itself,
    follows,
    full_name,
    is_generated,
    must_be_given,
    table_of,
)
from ticketrouter.sqlalchemy.further import MadeRow, OnCreate, id_of, names_of, values_of
from ticketrouter.sqlalchemy.on_message import Columns as OnMessageColumns
from ticketrouter.sqlalchemy.on_message import How, OnMessage
from ticketrouter.sqlalchemy.row_condition import RowCondition, UnfitConditionError
from ticketrouter.sqlalchemy.stored_status import NotStorableError
from ticketrouter.sqlalchemy.stored_words import StoredWords
from ticketrouter.sqlalchemy.types import undomained
from ticketrouter.wording import Code, Wording, passing

_OPTIONAL = frozenset({"user_id", "queue_id", "closed_at"})
"""The fields that a ticket may have nothing of."""
_KINDS_OF_NONE = {"closed_at": "a datetime or a number as the column has times"}
_KIND_OF_ID = "whole numbers, texts or UUIDs"
_KIND_OF_TIME = "times with date and hour (DateTime), or whole numbers (epoch)"
_KINDS = {
    "status": "texts, whole numbers, True and False, UUIDs, or members of an enumeration",
    "is_group": "True and False, or 0 and 1",
    "unread_messages": "whole numbers",
    **dict.fromkeys((*TIMES, "closed_at"), _KIND_OF_TIME),
}
"""What the columns of fields hold that are no ids."""
_AS_THEY_ARE = frozenset({"status", "unread_messages"})
"""The fields whose values stand in statements, or are counted there, as the database has them."""
_ANY: Dialect = DefaultDialect()
"""What a mapping is checked by before its database is known."""
_ON_CREATE = Code("on_create", "on_create")
_STATUS_VALUES = Code("status_values", "status_values")
_SCHEME = Code("scheme", "StatusScheme")
_OWN_WORDS = passing("statuses", "StatusScheme(...)")


class TicketMapping:
    """Where each field of a ticket stands in a host's own table.

    A field is given by the name of its column, or by the column or mapped attribute itself; None says that the
    table has no such column.

    Args:
        table: a Table, or a mapped class.
        id: the primary key: of any integer, text or UUID type.
        company_id: the tenant; None, together with `only_company`, where the table has one tenant.
        contact_id: the person or group chat.
        connection_id: the address of the company.
        status: the status word; None: a ticket is active while `closed_at` is NULL, or what is absent for it, and the
            scheme has one active word and one closed.
        is_group: whether the contact is a group chat; a missing one reads as False.
        unread_messages: the count of unread messages; a missing one reads as 0.
        user_id: the agent; a missing one reads as None.
        queue_id: the queue; a missing one reads as None, and a ticket that is to wait in a queue is refused.
        created_at: the time of creation; a missing one reads as `updated_at`.
        updated_at: the time of the last change; a missing one reads as `created_at`, which there must be then. Nothing
            tells such a table's host whether a message has come since: it closes no ticket as it was seen.
        closed_at: the time of closing; where it is missing or empty, a closed ticket's is `updated_at`.
        statuses: the host's words.
        status_values: how the column stores each word of the scheme, where it does not store the word: a number, True
            or False, a foreign key, a member of an enumeration. None: it stores the words.
        on_create: values for further columns of a new row, or a function of the Create, which knows its message,
            that makes them; it may fill the agent and the queue, too, which win over a policy's queue, but not over what
            the caller of `open` says.
        new_id: a function that makes the primary key of a new row, where neither the database nor the Column does.
        only_company: the tenant of every row, where the table has no column for it.
        only_connection: the connection of every row, where the table has no column for it; a message on another one is
            refused.
        nullable_keys: whether contact, connection or company may be NULL; such a row is an orphan, which is
            never used.
        where: the row condition, an expression of SQLAlchemy over the table's columns, as
            `table.c.deleted_at.is_(None)`: a row that does not meet it does not exist for this desk. What is written
            must meet it. With a sub-query, `text()`, or a function such as `now()`, no index can be the unique
            rule.
        on_message: what is written into further columns with every message that creates, reopens or joins, by
            column: a constant, an SQL expression over the row before the change, or a function of the message and
            the time, which does no I/O, may be called again, and may answer `KEEP`.
        absent: by field, the stored value that stands for None where the column is NOT NULL, as in {"user_id": 0}: of
            agent, queue and time of closing. It is read as None, written for it, and no id of anybody.
        epoch: what one unit of a time column of whole numbers is.
        timezone: of the times of columns that keep no zone, where a desk writes local ones; of an hour that is there
            twice it is the first.
        metadata: where the companion tables are defined, such as the host's own; None: a new one.
        prefix: what the name of the table of message ids begins with, which several tickets tables may share; the
            anchors table is named after the tickets table.
        remember_messages: whether message ids are recorded, so that a redelivery changes nothing; False: they are
            ignored.

    Raises:
        MappingError: if a column is missing, generated, of a type that cannot hold its field, or NULL where it must
            not be; if the MetaData has another table of a companion's name; if a status word is not among those of an enumerated column; if a column without default would
            be left empty; if `where` is no condition on the table's own columns, or has a value that is not given; if
            `on_message` has a column that is not there, generated, or filled by a field.
    """

    def __init__(
        self,
        table: Table | type[Any],
        *,
        id: Any = "id",  # noqa: A002 - it is the field's name
        company_id: Any = "company_id",
        contact_id: Any = "contact_id",
        connection_id: Any = "connection_id",
        status: Any = "status",
        is_group: Any = "is_group",
        unread_messages: Any = "unread_messages",
        user_id: Any = "user_id",
        queue_id: Any = "queue_id",
        created_at: Any = "created_at",
        updated_at: Any = "updated_at",
        closed_at: Any = "closed_at",
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        status_values: Mapping[str, Any] | None = None,
        on_create: OnCreate | None = None,
        new_id: Callable[[], Id] | None = None,
        only_company: Id | None = None,
        only_connection: Id | None = None,
        nullable_keys: bool = False,
        where: Any = None,
        on_message: OnMessage | None = None,
        absent: Mapping[str, Any] | None = None,
        epoch: timedelta = timedelta(seconds=1),
        timezone: tzinfo = UTC,
        metadata: MetaData | None = None,
        prefix: str = tables.DEFAULT_PREFIX,
        remember_messages: bool = True,
    ) -> None:
        self.table: Table = table_of(table)
        check_arguments(
            statuses=statuses,
            status_values=status_values,
            metadata=metadata,
            prefix=prefix,
            epoch=epoch,
            absent=absent,
            timezone=timezone,
            nullable_keys=nullable_keys,
            on_create=on_create,
            new_id=new_id,
            remember_messages=remember_messages,
            on_message=on_message,
        )
        self.statuses = statuses
        if status is None and status_values is not None:
            raise MappingError("status_values is for a status column: leave it out, or name the column")
        self.status_values: dict[str, Any] = {word: word for word in statuses.known}
        """What the column takes for each word."""
        if status_values is not None:
            self.status_values = dict(status_values)
        self.only_company = only_company
        self.only_connection = only_connection
        self.nullable_keys = nullable_keys
        self.epoch = epoch
        self.timezone = timezone
        self.absent: dict[str, Any] = dict(absent or {})
        """By field, the stored value that stands for None."""
        self._on_create = on_create
        self.new_id = new_id
        self._said: Said | None = None
        given = (
            id,
            company_id,
            contact_id,
            connection_id,
            status,
            is_group,
            unread_messages,
            user_id,
            queue_id,
            created_at,
            updated_at,
            closed_at,
        )
        named = {field: name for field, name in zip(FIELDS, given, strict=True) if name is not None}
        check_columns(self.table, named)
        self.columns: dict[str, Column[Any]] = {
            field: column_of(self.table, field, name) for field, name in named.items()
        }
        """The columns, by field; a field that the table lacks is not among them."""
        self.on_message: OnMessageColumns = OnMessageColumns.of(
            self.table, on_message or {}, self.columns.values()
        )
        """What is written with every message."""
        self._check()
        self.further_names: frozenset[str] | None = self._further_names()
        """The columns that `on_create` and `on_message` fill; None: that is known when a row is made."""
        self.where: RowCondition | None = None if where is None else self._row_condition(where)
        """Which rows exist for the desk; None: all."""
        self.metadata: MetaData = MetaData(schema=self.table.schema) if metadata is None else metadata
        """Where the companion tables are defined."""
        self.remember_messages = remember_messages
        """Whether message ids are recorded."""
        types = self._companion_types()
        # What is not used need not be created with the others.
        kept = self.metadata if self.remember_messages else MetaData()
        try:
            message_ids = tables.message_ids_table(kept, prefix, self.table, types)
            anchors = tables.anchors_table(self.metadata, self.table, types)
        except tables.OtherTableError as error:
            raise MappingError(
                f"the MetaData has a table {error} that is no companion of {self.table.fullname}, as its columns are "
                "others: pass another metadata, or, for the table of message ids, another prefix"
            ) from None
        self.message_ids: Table = message_ids
        """The companion table of message ids; mappings over one MetaData share it."""
        self.anchors: Table = anchors
        """The companion table that is written before a ticket is made, where the tickets have no unique rule."""

    @classmethod
    def own(
        cls,
        *,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        metadata: MetaData | None = None,
        prefix: str = tables.DEFAULT_PREFIX,
        schema: str | None = None,
        generated_column: bool = False,
        remember_messages: bool = True,
    ) -> TicketMapping:
        """Map tables of our own, for a host that has none.

        Args:
            statuses: the words of the tickets.
            metadata: where the tables are defined; None: a new one.
            prefix: what their names begin with.
            schema: the database schema, if not the default one.
            generated_column: whether Alembic is to see the generated column that MariaDB needs; `create_all` adds
                it there by itself.
            remember_messages: whether message ids are recorded.

        Returns:
            The mapping; `mapping.metadata.create_all(engine)` makes its tables.

        Raises:
            MappingError: if the MetaData has a table of that name already, or if an argument is of another kind.
        """
        check_arguments(
            statuses=statuses,
            metadata=metadata,
            prefix=prefix,
            schema=schema,
            generated_column=generated_column,
        )
        metadata = MetaData() if metadata is None else metadata
        name = ".".join(part for part in (schema or metadata.schema, f"{prefix}tickets") if part)
        if name in metadata.tables:
            raise MappingError(
                f"the MetaData has a table {name} already: keep the mapping that made it, map that table by "
                "TicketMapping(table, metadata=...), or pass another prefix"
            )
        table = tables.own_tickets(metadata, prefix, schema, statuses, generated=generated_column)
        return cls(
            table,
            statuses=statuses,
            metadata=metadata,
            prefix=prefix,
            remember_messages=remember_messages,
        )

    @classmethod
    def whaticket(
        cls,
        table: Table | type[Any],
        *,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        on_create: OnCreate | None = None,
        only_company: Id = 1,
        timezone: tzinfo = UTC,
        metadata: MetaData | None = None,
        remember_messages: bool = True,
    ) -> TicketMapping:
        """Map the "Tickets" table of the Whaticket line, with or without "companyId".

        Args:
            table: the table, reflected or mapped.
            statuses: the fork's words, where it has others than the line's own.
            on_create: values for further columns of a new row, beyond those that the line's forks have.
            only_company: the tenant of every row, where there is no column for it.
            timezone: of the times, where their columns keep none: some forks write local ones.
            metadata: where the companion tables are defined; None: a new one.
            remember_messages: whether message ids are recorded.

        Returns:
            The mapping. Rows whose contact or connection has been deleted are orphans, never used.

        Raises:
            MappingError: as the class does.
        """
        found = table_of(table)
        by_lower_case = {column.name.lower(): column for column in found.columns}

        def first(*names: str) -> Column[Any] | None:
            return next((by_lower_case[name] for name in names if name in by_lower_case), None)

        company = first("companyid", "tenantid")
        return cls(
            found,
            id="id",
            company_id=company,
            contact_id="contactId",
            connection_id="whatsappId",
            is_group=first("isgroup"),
            unread_messages=first("unreadmessages"),
            user_id=first("userid"),
            queue_id=first("queueid"),
            created_at=first("createdat"),
            updated_at="updatedAt",
            closed_at=first("closedat"),
            statuses=statuses,
            on_create=MadeRow.of_the_whaticket_line(by_lower_case, on_create),
            only_company=only_company if company is None else None,
            nullable_keys=True,
            epoch=timedelta(milliseconds=1),
            timezone=timezone,
            metadata=metadata,
            remember_messages=remember_messages,
        )

    @property
    def said(self) -> Said:
        """What this mapping says, callbacks excepted: two that say the same are equal."""
        if self._said is None:
            self._said = Said(
                (
                    self.table.name,
                    self.table.schema,
                    tuple(map(column_said, self.table.columns)),
                    tuple((field, column.key) for field, column in self.columns.items()),
                    self.statuses,
                    tuple((word, type(value), value) for word, value in self.status_values.items()),
                    (type(self.only_company), self.only_company),
                    (type(self.only_connection), self.only_connection),
                    self.nullable_keys,
                    self.epoch,
                    self.timezone,
                    self.new_id is None,
                    tuple((field, type(value), value) for field, value in self.absent.items()),
                    self.remember_messages,
                    self.message_ids.name,
                    None if self.where is None else self.where.said,
                    tuple(each.said for each in self.on_message.written),
                )
            )
        return self._said

    def codecs(self, dialect: Dialect, stripped: Collection[str] = ()) -> dict[str, Codec]:
        """Return how each field that has a column is written and read on the database of a dialect.

        The status is among them in any case: where it has no column, it is read from the time of closing.

        Args:
            dialect: the dialect.
            stripped: the fields whose columns keep no blanks at the end of a text.
        """
        found = {field: self._codec(field, column, dialect) for field, column in self.columns.items()}
        for field in stripped:
            found[field] = codecs.without_blanks(found[field], field, self.columns[field].type, dialect)
        found.setdefault("status", Codec(codecs.SAME.encode, self.words(dialect).word))
        return found

    @property
    def told_by(self) -> Column[Any]:
        """The column that tells the status of a row: its own, or the time of closing."""
        return self.columns["status" if "status" in self.columns else "closed_at"]

    @property
    def last_change(self) -> Column[Any]:
        """The column of the time of the last change; of the time of creation where the table keeps no other."""
        return next(self.columns[field] for field in TIMES if field in self.columns)

    def words(self, dialect: Dialect) -> StoredWords | ClosingTime:
        """Return how the rows tell their statuses on the database of a dialect.

        Raises:
            MappingError: if a column cannot hold one of them.
        """
        if "status" not in self.columns:
            return self._closing_time(dialect)
        return self._stored_words(dialect)

    def _closing_time(self, dialect: Dialect) -> ClosingTime:
        column = self.told_by
        absent = None
        if "closed_at" in self.absent:
            absent = self._codec("closed_at", column, dialect).encode(None)
        try:
            return ClosingTime(column.type, dialect, self.statuses, absent)
        except NotStorableError as error:
            raise self._no_absent("closed_at", column) from error

    def _stored_words(self, dialect: Dialect) -> StoredWords:
        status = self.columns["status"]
        if not StoredWords.keeps(status.type, dialect):
            raise self._of_a_strange_type("status", status)
        try:
            return StoredWords(status.type, dialect, self.status_values, self.statuses.known)
        except NotStorableError as error:
            raise MappingError(
                f"{full_name(status)} (status) is of type {status.type!r}, which cannot hold it: {error}; pass ",
                passing("status_values", "{...}"),
                f" with what the column stores for each of {', '.join(sorted(self.statuses.known))}",
            ) from error

    def further_values(self, decision: Create) -> dict[str, Any]:
        """Return the values of the host's further columns, by column key, for a new row, and its key where that is made here.

        Raises:
            MappingError: if one of them is a column that a field of the ticket fills, or is not there.
        """
        values = values_of(self._on_create, decision)
        further = {self._further_column(name).key: value for name, value in values}
        for key in self._said_by_the_desk(decision):
            further.pop(key, None)
        return further if self.new_id is None else further | {self.columns["id"].key: id_of(self.new_id)}

    def _said_by_the_desk(self, decision: Create) -> list[str]:
        """List the columns, by key, that the caller of `open` has said a value for, which no default of a mapping replaces."""
        if decision.message is not None:
            return []
        said = {"user_id": decision.user_id, "queue_id": decision.queue_id}
        return [
            self.columns[field].key
            for field, value in said.items()
            if value is not None and field in self.columns
        ]

    def _further_column(self, name: Any) -> Column[Any]:
        column = column_of(self.table, "on_create", name)
        if column in self.columns.values() and column not in self._of_create():
            raise MappingError(
                _ON_CREATE, f" has {full_name(column)}, which a field of the ticket fills: leave it out"
            )
        if is_generated(column):
            raise MappingError(
                _ON_CREATE,
                f" has {full_name(column)}, a generated column, which nobody can write: leave it out",
            )
        return column

    def _further_names(self) -> frozenset[str] | None:
        names = names_of(self._on_create)
        if names is None:
            return None
        columns = (*map(self._further_column, names), *(each.column for each in self.on_message.written))
        return frozenset(column.name for column in columns)

    def check_filled(self, further: Mapping[str, Any], needed: Collection[str], *, of_message: bool) -> None:
        """Raise where a new row would leave a column empty that nobody else fills.

        Args:
            further: the values of its further columns, by key.
            needed: the columns that must be filled, as the database says.
            of_message: whether a message begins it.
        """
        filled = {key for key, value in further.items() if value is not None}
        if of_message:
            filled |= {each.column.key for _, each in self.on_message.of_how(How.EXPRESSION)}
        by_message = {each.column.key for each in self.on_message.written if must_be_given(each.column)}
        empty = [
            full_name(each)
            for each in self.table.columns
            if (each.name in needed or each.key in by_message) and each.key not in filled
        ]
        there = {each.name for each in self.table.columns}
        empty += [f"{self.table.fullname}.{name}" for name in sorted(needed) if name not in there]
        if empty:
            raise MappingError(
                f"a new row would leave {', '.join(empty)} empty, which nobody else fills, as no message begins it, or "
                "the message keeps what is not there yet: pass ",
                passing("on_create", "{...}"),
                " with a value, too",
            )

    def _of_create(self) -> list[Column[Any]]:
        """List the columns of fields that `on_create` may fill: of what the desk itself would have left to nobody."""
        return [self.columns[field] for field in ("user_id", "queue_id") if field in self.columns]

    def may_leave_out(self, fields: Iterable[str], *, met: bool = False) -> bool:
        """Tell whether a ticket may be one that `where` leaves out once these fields of it are written.

        Args:
            fields: the fields.
            met: whether the status, if it is among them, becomes a word that `where` is proved to be true of.
        """
        if self.where is None:
            return False
        written = {
            self.columns[field]
            for field in fields
            if field in self.columns and not (met and field == "status")
        }
        written |= {each.column for each in self.on_message.written}
        asked = [column for column in self.table.columns if column.name in self.where.columns]
        return any(column in written or follows(column) for column in asked)

    # --- the checks ------------------------------------------------------------------------------------------

    def _row_condition(self, where: object) -> RowCondition:
        try:
            return RowCondition.of(self.table, where)
        except UnfitConditionError as error:
            raise MappingError(f"where {error}") from None

    def _check(self) -> None:
        self._check_presence()
        if strange := [field for field in self.absent if field not in self.columns or field not in _OPTIONAL]:
            raise MappingError(
                Code("absent", "absent"),
                f" is for the columns of {', '.join(sorted(_OPTIONAL))} that the table has: leave "
                f"{', '.join(map(str, strange))} out",
            )
        if "status" in self.columns:
            self._check_words(self.columns["status"])
        else:
            self._check_two_words()
        for field, column in self.columns.items():
            self._codec(field, column, _ANY)
            if field != "id" and is_generated(column):
                advice = (", or pass ", passing(field, "None")) if field in MAY_BE_ABSENT else ()
                raise MappingError(
                    f"{full_name(column)} ({field}) is a generated column, which nobody can write: map the column "
                    "that it is made from",
                    *advice,
                )
            if field in _OPTIONAL and not column.nullable and field not in self.absent:
                told, what_to_do = self.told_of_none(field)
                raise MappingError(f"{told}: ", what_to_do)
            if field in KEY and column.nullable and not self.nullable_keys:
                raise MappingError(
                    f"{full_name(column)} ({field}) may be NULL, and a unique rule does not see NULLs: make it NOT "
                    "NULL, or pass ",
                    passing("nullable_keys", "True"),
                    " to have such rows left alone as orphans",
                )
        self._check_unfilled()

    @property
    def may_be_none(self) -> list[str]:
        """The fields with a column that a ticket may have nothing of."""
        return [field for field in self.columns if field in _OPTIONAL]

    def told_of_none(self, field: str) -> tuple[str, str]:
        """Say that a column takes no NULL for what a ticket may have nothing of, and what to do about it."""
        return (
            f"{full_name(self.columns[field])} ({field}) may not be NULL, which is written where there is none",
            Wording(
                "pass ",
                passing("absent", f'{{"{field}": ...}}', field),
                " with the value that stands for that, or ",
                passing(field, "None"),
            ),
        )

    def _check_presence(self) -> None:
        table = self.table.fullname
        only = {"company_id": self.only_company, "connection_id": self.only_connection}
        if not any(field in self.columns for field in TIMES):
            raise MappingError(
                f"{table} needs a column for created_at where it has none for updated_at, as tickets are in order by one "
                "of them: name it; or name a time that each message moves as updated_at"
            )
        for field in FIELDS:
            if field in self.columns or field in MAY_BE_ABSENT:
                continue
            if field == "status" and "closed_at" in self.columns:
                continue  # it is told by that
            if field == "status":
                raise MappingError(
                    f"{table} needs a column for status: name it; or pass ",
                    passing("status", "None"),
                    " with the name of a closed_at that is empty while a ticket is active",
                )
            if field not in only:
                raise MappingError(f"{table} needs a column for {field}: name it")
            name = f"only_{field.removesuffix('_id')}"
            if only[field] is None:
                raise MappingError(
                    f"{table} has no column for {field}: name it, or pass ",
                    passing(name, "..."),
                    f" for a table of a single {field.removesuffix('_id')}",
                )
            check_id(name, only[field])
        for field, value in only.items():
            if field in self.columns and value is not None:
                what = field.removesuffix("_id")
                raise MappingError(
                    Code(f"only_{what}", f"only_{what}"),
                    f" is for a table without a {what} column: leave one of them out",
                )

    def _check_words(self, status: Column[Any]) -> None:
        used = self.statuses.known  # whatever a scheme gives a new ticket is among the active ones
        if missing := sorted(used - self.status_values.keys()):
            raise MappingError(
                _STATUS_VALUES,
                f" says nothing of {missing}: say what {full_name(status)} stores for each word of the ",
                _SCHEME,
                ", as with ",
                passing("status_values", f'{{"{missing[0]}": ...}}', missing[0]),
            )
        for word in self.status_values:
            check_status("status_values", word)
        unwritable = sorted(word for word in self.status_values if "\\" in word)
        if unwritable:
            raise MappingError(f"a status word cannot have a backslash: {unwritable}")
        if isinstance(status.type, String) and all(
            word is value for word, value in self.status_values.items()
        ):
            self._check_plain_words(status)
        words = self._stored_words(_ANY)
        by_constant: dict[Any, str] = {}
        for word in sorted(self.status_values):
            other = by_constant.setdefault(words.constant(word), word)
            if other != word:
                raise MappingError(
                    _STATUS_VALUES,
                    f" has one value for {other} and {word}, {shown(self.status_values[word])}: a row would not tell "
                    "which of the two it is",
                )

    def _check_two_words(self) -> None:
        scheme, closed_at = self.statuses, self.told_by
        if len(scheme.active) > 1 or len(scheme.known) > 2 or scheme.wakes:  # noqa: PLR2004 - open and closed
            raise MappingError(
                f"without a status column, {full_name(closed_at)} tells active tickets from closed ones and no more: pass "
                'statuses=StatusScheme(active={"open"}, initial="open", reopened="open", accepted="open") with one '
                "active word and one closed, and without also_closed, final and wakes"
            )
        if closed_at.nullable and "closed_at" in self.absent:
            raise MappingError(
                f"without a status column, a ticket is active by one value of {full_name(closed_at)}, and it may be NULL "
                'besides absent["closed_at"]: make the column NOT NULL, or leave that out'
            )
        self.words(_ANY)

    def _check_plain_words(self, status: Column[Any]) -> None:
        used = self.statuses.known
        longest = getattr(status.type, "length", None) or MAX_STATUS_LENGTH
        too_long = sorted(word for word in used if len(word) > longest)
        if too_long and not isinstance(status.type, Enum):
            raise MappingError(
                f"{full_name(status)} takes words of at most {longest} characters, and the ",
                _SCHEME,
                f" has {too_long}: widen the column, or pass ",
                _OWN_WORDS,
                " with the host's own words",
            )
        known = set(status.type.enums) if isinstance(status.type, Enum) else None
        if known is not None and not used <= known:
            raise MappingError(
                f"{full_name(status)} takes only {sorted(known)}, and the ",
                _SCHEME,
                f" has {sorted(used - known)} besides: pass ",
                _OWN_WORDS,
                " with the host's own words, or ",
                passing("status_values", "{...}"),
                " with which of these the column stores for each word",
            )

    def _check_unfilled(self) -> None:
        number = self.columns["id"]
        if self.new_id is None and not fills_itself(number):
            raise MappingError(
                f"nobody fills {full_name(number)} (id) of a new row: pass ",
                Code("new_id", "new_id=... with a function that makes it", number.name),
                ", or give the Column a default; where the database or a trigger does it, ",
                Code("server_default", "server_default=FetchedValue()"),
                " says so",
            )
        names = names_of(self._on_create)
        if names is None:
            return  # a function is asked when a row is made
        filled = {column.key for column in self.columns.values()}
        filled |= {self._further_column(name).key for name in names}
        filled |= {each.column.key for each in self.on_message.written}
        empty = [full_name(c) for c in self.table.columns if must_be_given(c) and c.key not in filled]
        if empty:
            raise MappingError(
                f"a new row would leave {', '.join(empty)} empty, which may not be NULL and has no default: pass ",
                passing("on_create", "{...}"),
                " with a value",
            )

    def _codec(self, field: str, column: Column[Any], dialect: Dialect) -> Codec:
        codec: Codec | None
        match field:
            case "status":
                words = self._stored_words(dialect)
                if not words.are_plain:
                    return Codec(words.value, codecs.SAME.decode)
                codec = codecs.status_codec(column.type)
            case "is_group":
                codec = codecs.flag_codec(column.type, dialect)
            case "unread_messages":
                codec = codecs.count_codec(column.type, dialect)
            case "created_at" | "updated_at" | "closed_at":
                codec = codecs.time_codec(column.type, dialect, epoch=self.epoch, timezone=self.timezone)
            case _:
                codec = codecs.id_codec(field, column.type, dialect)
        if codec is None:
            raise self._of_a_strange_type(field, column)
        if field not in self.absent:
            return codec
        return codecs.with_absent(codec, field, self._stored_for_none(codec, field, column))

    def _of_a_strange_type(self, field: str, column: Column[Any]) -> MappingError:
        """Return the error for a column of a type that cannot hold its field."""
        decorated = (
            "" if field in _AS_THEY_ARE else ", or with a TypeDecorator that gives such values back unchanged"
        )
        absent = (", or pass ", passing(field, "None")) if field in MAY_BE_ABSENT else ()
        if (over := undomained(column.type)) is not column.type:
            return MappingError(
                f"{full_name(column)} ({field}) is of type {column.type!r}, by which SQLAlchemy compares nothing: "
                f"declare it in the Table as what the domain is over, {over!r}"
            )
        return MappingError(
            f"{full_name(column)} ({field}) is of type {column.type!r}, which cannot hold it: it takes a column of "
            f"{_KINDS.get(field, _KIND_OF_ID)}. Where the database gives such values for it, declare it so in the "
            f"Table{decorated}; else make it one, or name another column",
            *absent,
        )

    def _stored_for_none(self, codec: Codec, field: str, column: Column[Any]) -> Any:
        """Return what stands for None, as the column takes it."""
        value = self.absent[field]
        is_time = isinstance(value, datetime)
        if field == "closed_at" and (not is_time or value.tzinfo is None):
            stored = value
        else:
            try:
                stored = codec.encode(value)
            except (InvalidMessageError, TypeError) as error:
                raise self._no_absent(field, column) from error
        if stored is None or (field == "closed_at" and codec.decode(stored) is None):
            raise self._no_absent(field, column)
        return stored

    def _no_absent(self, field: str, column: Column[Any]) -> MappingError:
        return MappingError(
            Code("absent", "absent"),
            f" has {shown(self.absent[field])} for {field}, which {full_name(column)} cannot hold: pass the "
            f"value that it has where there is none, {_KINDS_OF_NONE.get(field, 'an id as the column has them')}",
        )

    def _companion_types(self) -> dict[str, TypeEngine[Any]]:
        types = {field: self.columns[field].type for field in KEY if field in self.columns}
        types.setdefault("company_id", _type_of(self.only_company))
        types.setdefault("connection_id", _type_of(self.only_connection))
        return types | {"ticket_id": self.columns["id"].type}


def check_mapping(mapping: object) -> None:
    """Refuse what is no mapping."""
    if not isinstance(mapping, TicketMapping):
        raise MappingError(
            f"a TicketMapping is needed, not {type(mapping).__name__}: TicketMapping(table, ...)"
        )


def check_place(connection: object, mapping: object) -> None:
    """Refuse what is no connection, or no mapping."""
    if not isinstance(connection, Connection):
        raise MappingError(
            f"a Connection is needed, not {type(connection).__name__}: with engine.connect() as connection: ..."
        )
    check_mapping(mapping)


_EXPECTED: Mapping[str, tuple[tuple[type, ...], str]] = {
    "statuses": ((StatusScheme,), "a StatusScheme"),
    "status_values": ((Mapping, type(None)), "a mapping of words to values, or None"),
    "metadata": ((MetaData, type(None)), "a MetaData, or None"),
    "prefix": ((str,), "a str"),
    "schema": ((str, type(None)), "a str, or None"),
    "epoch": ((timedelta,), "a timedelta"),
    "timezone": ((tzinfo,), "a tzinfo, as ZoneInfo gives it"),
    "absent": ((Mapping, type(None)), "a mapping of fields to values, or None"),
    "nullable_keys": ((bool,), "True or False"),
    "generated_column": ((bool,), "True or False"),
    "remember_messages": ((bool,), "True or False"),
    "new_id": ((Callable, type(None)), "a function without arguments, or None"),  # type: ignore[dict-item]
    "on_message": ((Mapping, type(None)), "a mapping of columns to what is written into them, or None"),
    "on_create": ((Mapping, Callable, type(None)), "a mapping of values, a function of the Create, or None"),  # type: ignore[dict-item]
}


def check_arguments(**given: Any) -> None:
    """Refuse an argument of another kind than its name says, and a name that no database has."""
    for name, value in given.items():
        kinds, expected = _EXPECTED[name]
        if not isinstance(value, kinds):
            raise MappingError(f"{name} must be {expected}, not {shown(value)}")
        if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise MappingError(f"{name} must be a text without NUL and lone surrogates, not {shown(value)}")
        if isinstance(value, tzinfo):
            _check_zone(name, value)
        if isinstance(value, timedelta) and value <= timedelta(0):
            raise MappingError(
                Code(name, name),
                f" must be a timedelta of more than zero, as timedelta(seconds=1) or (milliseconds=1), not {shown(value)}",
            )


def _check_zone(name: str, zone: tzinfo) -> None:
    """Refuse a zone of the host's own that gives no times, or that is no value."""
    try:
        local = codecs.EPOCH.astimezone(zone).replace(fold=0)
        local.astimezone(UTC)
        hash((zone, str(zone)))
    except Exception as error:
        raise MappingError(
            Code(name, name),
            f" is a {type(zone).__name__} that gives no times, as it raises {type(error).__name__}: pass one as "
            "ZoneInfo gives it",
        ) from error


def _type_of(company: Id | None) -> TypeEngine[Any]:
    match company:
        case int():
            return BigInteger()
        case UUID():
            return Uuid()
        case _:
            return String(255)


metadata: MetaData = MetaData()
"""Our own schema: the tickets table and its companions."""

DEFAULT_MAPPING = TicketMapping.own(metadata=metadata)
"""Our own tickets table, for hosts that have none; `DEFAULT_MAPPING.table` gives it."""
