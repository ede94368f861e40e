"""TicketMapping: where, in a table, each field of a ticket stands, and how it is written there.

Law of this file: a mapping is checked when it is made, and every complaint says what to change. It knows
columns and values, but sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from attrs import frozen
from sqlalchemy import BigInteger, Column, Enum, MetaData, String, Table, Uuid
from sqlalchemy.types import TypeEngine

from ticketrouter.checks import MAX_STATUS_LENGTH, Id, check_id
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import StatusScheme
from ticketrouter.policy import Create
from ticketrouter.sqlalchemy import codecs
from ticketrouter.sqlalchemy import schema as tables
from ticketrouter.sqlalchemy.codecs import Codec

OnCreate: TypeAlias = Mapping[str, Any] | Callable[[Create], Mapping[str, Any]]
"""Values, by column name, for the columns of a host that no field of a ticket fills."""

FIELDS = (
    "id",
    "company_id",
    "contact_id",
    "connection_id",
    "status",
    "is_group",
    "unread_messages",
    "user_id",
    "queue_id",
    "created_at",
    "updated_at",
    "closed_at",
)
KEY = ("company_id", "contact_id", "connection_id")
MAY_BE_ABSENT = frozenset({"is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at"})


class MappingError(TicketRouterError):
    """The tickets table is not what the mapping says, or cannot do what is asked; the text says what to change."""


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
        status: the status word.
        is_group: whether the contact is a group chat; a missing one reads as False.
        unread_messages: the count of unread messages; a missing one reads as 0.
        user_id: the agent; a missing one reads as None.
        queue_id: the queue; a missing one reads as None.
        created_at: the time of creation; a missing one reads as `updated_at`.
        updated_at: the time of the last change.
        closed_at: the time of closing; where it is missing or empty, a closed ticket's is `updated_at`.
        statuses: the host's words.
        on_create: values for further columns of a new row, or a function that makes them.
        only_company: the tenant of every row, where the table has no column for it.
        nullable_keys: whether contact, connection or company may be NULL; such a row is an orphan, which is
            never used.
        epoch: what one unit of a time column of whole numbers is.
        metadata: where the companion tables are defined, such as the host's own; None: a new one.
        prefix: what the companion tables' names begin with.

    Raises:
        MappingError: if a column is missing, of a type that cannot hold its field, or NULL where it must not
            be; if a status word is not among those of an enumerated column; if a column without default would
            be left empty.
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
        on_create: OnCreate | None = None,
        only_company: Id | None = None,
        nullable_keys: bool = False,
        epoch: timedelta = timedelta(seconds=1),
        metadata: MetaData | None = None,
        prefix: str = tables.DEFAULT_PREFIX,
    ) -> None:
        self.table: Table = _table(table)
        self.statuses = statuses
        self.only_company = only_company
        self.nullable_keys = nullable_keys
        self.epoch = epoch
        self._on_create = on_create
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
        _check_columns(self.table, named)
        self.columns: dict[str, Column[Any]] = {
            field: _column(self.table, field, name) for field, name in named.items()
        }
        """The columns, by field; a field that the table lacks is not among them."""
        self._check()
        self.metadata: MetaData = MetaData(schema=self.table.schema) if metadata is None else metadata
        """Where the companion tables are defined."""
        types = self._companion_types()
        self.message_ids: Table = tables.message_ids_table(self.metadata, prefix, self.table.schema, types)
        """The companion table of message ids."""
        self.anchors: Table = tables.anchors_table(self.metadata, prefix, self.table.schema, types)
        """The companion table that is written before a ticket is made, where the tickets have no unique rule."""

    @classmethod
    def own(
        cls,
        *,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        metadata: MetaData | None = None,
        prefix: str = tables.DEFAULT_PREFIX,
        schema: str | None = None,
        mariadb: bool = False,
    ) -> TicketMapping:
        """Map tables of our own, for a host that has none.

        Args:
            statuses: the words of the tickets.
            metadata: where the tables are defined; None: a new one.
            prefix: what their names begin with.
            schema: the database schema, if not the default one.
            mariadb: whether Alembic is to see the generated column that MariaDB needs; `create_all` adds it
                there by itself.

        Returns:
            The mapping; `mapping.metadata.create_all(engine)` makes its tables.
        """
        metadata = MetaData() if metadata is None else metadata
        table = tables.own_tickets(metadata, prefix, schema, statuses, generated=mariadb)
        return cls(table, statuses=statuses, metadata=metadata, prefix=prefix)

    @classmethod
    def whaticket(
        cls,
        table: Table | type[Any],
        *,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        on_create: OnCreate | None = None,
        only_company: Id = 1,
        metadata: MetaData | None = None,
    ) -> TicketMapping:
        """Map the "Tickets" table of the Whaticket line, with or without "companyId".

        Args:
            table: the table, reflected or mapped.
            statuses: the fork's words, where it has others than the line's own.
            on_create: values for further columns of a new row, beyond those that the line's forks have.
            only_company: the tenant of every row, where there is no column for it.
            metadata: where the companion tables are defined; None: a new one.

        Returns:
            The mapping. Rows whose contact or connection has been deleted are orphans, never used.

        Raises:
            MappingError: as the class does.
        """
        found = _table(table)
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
            on_create=_WhaticketRow.of(by_lower_case, on_create),
            only_company=only_company if company is None else None,
            nullable_keys=True,
            epoch=timedelta(milliseconds=1),
            metadata=metadata,
        )

    def codecs(self, dialect_name: str) -> dict[str, Codec]:
        """Return how each field that has a column is written and read on this database."""
        return {field: self._codec(field, column, dialect_name) for field, column in self.columns.items()}

    def further_values(self, decision: Create) -> dict[str, Any]:
        """Return the values of the host's further columns, by column key, for a new row.

        Raises:
            MappingError: if one of them is a column that a field of the ticket fills, or is not there.
        """
        values = _values(self._on_create, decision)
        return {self._further_column(name).key: value for name, value in values}

    def _further_column(self, name: Any) -> Column[Any]:
        column = _column(self.table, "on_create", name)
        if column in self.columns.values():
            raise MappingError(
                f"on_create has {_name(column)}, which a field of the ticket fills: leave it out"
            )
        return column

    # --- the checks ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._check_presence()
        for field, column in self.columns.items():
            self._codec(field, column, "sqlite")
            if field in KEY and column.nullable and not self.nullable_keys:
                raise MappingError(
                    f"{_name(column)} ({field}) may be NULL, and a unique rule does not see NULLs: make it NOT "
                    "NULL, or pass nullable_keys=True to have such rows left alone as orphans"
                )
        self._check_words(self.columns["status"])
        self._check_unfilled()

    def _check_presence(self) -> None:
        for field in FIELDS:
            if field in self.columns or field in MAY_BE_ABSENT:
                continue
            if field != "company_id":
                raise MappingError(f"{self.table.fullname} needs a column for {field}: name it")
            if self.only_company is None:
                raise MappingError(
                    f"{self.table.fullname} has no column for company_id: name it, or pass only_company=... for "
                    "a table of a single company"
                )
            check_id("only_company", self.only_company)
        if "company_id" in self.columns and self.only_company is not None:
            raise MappingError("only_company is for a table without a company column: leave one of them out")

    def _check_words(self, status: Column[Any]) -> None:
        words = self.statuses
        used = words.active | {words.initial, words.reopened, words.accepted, words.closed}
        unwritable = {word for word in used if "\\" in word}
        if unwritable:
            raise MappingError(f"a status word cannot have a backslash: {sorted(unwritable)}")
        longest = getattr(status.type, "length", None) or MAX_STATUS_LENGTH
        too_long = sorted(word for word in used if len(word) > longest)
        if too_long and not isinstance(status.type, Enum):
            raise MappingError(
                f"{_name(status)} takes words of at most {longest} characters, and the StatusScheme has {too_long}: "
                "widen the column, or pass statuses=StatusScheme(...) with the host's own words"
            )
        known = set(status.type.enums) if isinstance(status.type, Enum) else None
        if known is not None and not used <= known:
            raise MappingError(
                f"{_name(status)} takes only {sorted(known)}, and the StatusScheme has {sorted(used - known)} "
                "besides: pass statuses=StatusScheme(...) with the host's own words"
            )

    def _check_unfilled(self) -> None:
        names = _names(self._on_create)
        if names is None:
            return  # a function is asked when a row is made
        filled = {column.key for column in self.columns.values()}
        filled |= {self._further_column(name).key for name in names}
        empty = [_name(c) for c in self.table.columns if _must_be_given(c) and c.key not in filled]
        if empty:
            raise MappingError(
                f"a new row would leave {', '.join(empty)} empty, which may not be NULL and has no default: pass "
                "on_create={...} with a value"
            )

    def _codec(self, field: str, column: Column[Any], dialect_name: str) -> Codec:
        wide, zoned = dialect_name == "sqlite", dialect_name == "postgresql"
        codec: Codec | None
        match field:
            case "status":
                codec = codecs.status_codec(column.type)
            case "is_group":
                codec = codecs.flag_codec(column.type)
            case "unread_messages":
                codec = codecs.count_codec(column.type)
            case "created_at" | "updated_at" | "closed_at":
                codec = codecs.time_codec(column.type, zoned=zoned, epoch=self.epoch)
            case _:
                codec = codecs.id_codec(field, column.type, wide=wide)
        if codec is None:
            raise MappingError(f"{_name(column)} ({field}) is of type {column.type!r}, which cannot hold it")
        return codec

    def _companion_types(self) -> dict[str, TypeEngine[Any]]:
        types = {field: self.columns[field].type for field in KEY if field in self.columns}
        types.setdefault("company_id", _type_of(self.only_company))
        return types | {"ticket_id": self.columns["id"].type}


def _table(table: Table | type[Any]) -> Table:
    found = getattr(table, "__table__", table)
    if not isinstance(found, Table):
        raise MappingError(f"a Table or a mapped class is needed, not {type(table).__name__}")
    return found


def _find(table: Table, given: Any) -> Column[Any] | None:
    name = _asked(given)
    return next((column for column in table.columns if name in {column.key, column.name}), None)


def _asked(given: Any) -> Any:
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    return getattr(element, "name", element)


def _column(table: Table, field: str, given: Any) -> Column[Any]:
    column = _find(table, given)
    if column is None:
        raise MappingError(
            f"{table.fullname} has no column {_asked(given)!r} for {field}; it has {_column_names(table)}"
        )
    return column


def _check_columns(table: Table, named: Mapping[str, Any]) -> None:
    """Raise with every field at once whose column is not there."""
    missing = [field for field, given in named.items() if _find(table, given) is None]
    if not missing:
        return
    wanted = ", ".join(f"{_asked(named[field])!r} for {field}" for field in missing)
    absent = [f"{field}=None" for field in missing if field in MAY_BE_ABSENT]
    advice = f", or pass {', '.join(absent)} where the table has none" if absent else ""
    raise MappingError(
        f"{table.fullname} has no column {wanted}; it has {_column_names(table)}: name the columns, as in "
        f'{missing[0]}="..."{advice}'
    )


def _column_names(table: Table) -> str:
    return ", ".join(column.name for column in table.columns)


def _name(column: Column[Any]) -> str:
    return f"{column.table.fullname}.{column.name}"


@frozen
class _WhaticketRow:
    """Fills what some forks have made NOT NULL without a default, and then what the host says."""

    makers: Mapping[str, Callable[[], Any]]
    further: OnCreate | None

    @classmethod
    def of(cls, columns: Mapping[str, Column[Any]], further: OnCreate | None) -> _WhaticketRow:
        makers: dict[str, Callable[[Column[Any]], Callable[[], Any]]]
        makers = {"uuid": _uuid_maker, "lastmessage": lambda _: str}
        needed = (columns[name] for name in makers if name in columns)
        return cls({c.name: makers[c.name.lower()](c) for c in needed if _must_be_given(c)}, further)

    def __call__(self, _: Create) -> Mapping[str, Any]:
        return {name: make() for name, make in self.makers.items()}


def _uuid_maker(column: Column[Any]) -> Callable[[], Any]:
    return uuid4 if isinstance(column.type, Uuid) and column.type.as_uuid else lambda: str(uuid4())


def _names(on_create: OnCreate | None) -> list[Any] | None:
    """List the columns that are filled besides a ticket's; None: that is known only when a row is made."""
    match on_create:
        case None:
            return []
        case Mapping():
            return list(on_create)
        case _WhaticketRow() as row:
            names = _names(row.further)
            return None if names is None else [*row.makers, *names]
        case _:
            return None


def _values(on_create: OnCreate | None, decision: Create) -> list[tuple[Any, Any]]:
    match on_create:
        case None:
            return []
        case Mapping() as values:
            return list(values.items())
        case _WhaticketRow() as row:
            return [*row(decision).items(), *_values(row.further, decision)]
        case make:
            return list(make(decision).items())


def _must_be_given(column: Column[Any]) -> bool:
    return not (
        column.nullable
        or column.default is not None
        or column.server_default is not None
        or column.computed is not None
        or column.identity is not None
        or (column.primary_key and column.autoincrement)
    )


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
