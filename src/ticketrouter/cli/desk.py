"""The tables that the options describe: a known desk's, a host's by its columns and words, or our own.

Law of this file: it knows which table each preset's desk has, and how to say what is wrong with a database that
has no such table. The options themselves stand in `desk_options`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, timedelta, tzinfo
from typing import Any

from attrs import Factory, evolve, fields, frozen
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    FetchedValue,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
)
from sqlalchemy.exc import SAWarning

from ticketrouter import presets
from ticketrouter.checks import Id
from ticketrouter.cli.engine import named
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.known_tables import KNOWN
from ticketrouter.cli.rows import check_marks, condition, of_new_row, stand_ins, uuid_maker, value_of
from ticketrouter.cli.wording import in_options
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, TicketMapping
from ticketrouter.sqlalchemy.catalogue import columns as columns_of
from ticketrouter.sqlalchemy.columns import (
    FIELDS,
    MAY_BE_ABSENT,
    check_columns,
    fills_itself,
    must_be_given,
)
from ticketrouter.sqlalchemy.filling import needed
from ticketrouter.sqlalchemy.further import MadeRow, OnCreate, Unsaid, names_of
from ticketrouter.sqlalchemy.health.ddl import own_schema, schema_steps
from ticketrouter.sqlalchemy.steps import Step
from ticketrouter.sqlalchemy.types import undomained

WHATICKET = "whaticket"
"""The whole line, with its usual words."""
_LINE = frozenset({WHATICKET, "whaticket-community", "whaticket-saas", "ticketz", "multi100", "press-ticket"})
_WITHOUT_COMPANY = frozenset({"whaticket-community", "press-ticket"})
_LINES_TABLE = "Tickets"
_LINES_COLUMNS = {
    "company_id": ("companyId", "tenantId"),
    "contact_id": ("contactId",),
    "connection_id": ("whatsappId",),
    "is_group": ("isGroup",),
    "unread_messages": ("unreadMessages",),
    "user_id": ("userId",),
    "queue_id": ("queueId",),
    "created_at": ("createdAt",),
    "updated_at": ("updatedAt",),
    "closed_at": ("closedAt",),
}
"""What the line calls the columns, in whatever case."""
_MAY_BE_MISSING = MAY_BE_ABSENT - {"updated_at"}
"""The fields that a table without a column of that name has none for; which ticket is the newest is nobody's guess."""
_OPTIONS = {"also_closed": "--also-closed", "final": "--final", "wakes": "--wakes"}
"""By which option a field of the scheme is said, where it is not the active words that are amiss."""
_OUR_TABLE = DEFAULT_MAPPING.table.name
_FIRST_COMPANY = 1
"""The company of every row of the line's, where there is no column for it and nobody says which it is."""


@frozen
class Words:
    """What the options say of the words of the statuses.

    Args:
        preset: whose words they are.
        active: active words besides.
        also_closed: words besides of closed tickets that a message may reopen.
        final: words besides of closed tickets that no message reopens.
        wakes: which active word a message wakes to which, besides.
    """

    preset: str = "default"
    active: tuple[str, ...] = ()
    also_closed: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    wakes: Mapping[str, str] = Factory(dict)

    @property
    def scheme(self) -> StatusScheme:
        """All of them.

        Raises:
            FatalError: if a word cannot be what it is to be.
        """
        scheme = StatusScheme() if self.preset == WHATICKET else presets.ALL[self.preset].statuses
        _check_agree("--wakes", self.preset, scheme.wakes, self.wakes)
        try:
            return evolve(
                scheme,
                active=scheme.active | set(self.active),
                also_closed=scheme.also_closed | set(self.also_closed),
                final=scheme.final | set(self.final),
                wakes={**scheme.wakes, **self.wakes},
            )
        except InvalidMessageError as error:
            raise FatalError(f"{_OPTIONS.get(error.field, '--active')}: {error}") from None


@frozen
class Stored:
    """What the options say of what a host's table stores; texts are read as their columns have it.

    Args:
        columns: by field, the column, where it is not called as usual; None: the table has none.
        status_values: what stands for each word of the statuses; empty: the words do.
        absent: by field, what stands for none.
        on_create: by column, what a new row has.
        where: by column, what the rows of the desk have; empty: NULL.
        uuid: the columns in which a new row has a random UUID.
        only_company: the company of every row; None: there is a column, or the table is the line's.
        only_connection: the connection of every row; None: there is a column.
        timezone: of times that keep no zone.
        epoch: what one of a time of whole numbers is.
    """

    columns: Mapping[str, str | None] = Factory(dict)
    status_values: Mapping[str, str] = Factory(dict)
    absent: Mapping[str, str] = Factory(dict)
    on_create: Mapping[str, str] = Factory(dict)
    where: Mapping[str, str] = Factory(dict)
    uuid: tuple[str, ...] = ()
    only_company: Id | None = None
    only_connection: Id | None = None
    timezone: tzinfo | None = None
    epoch: timedelta | None = None


@frozen
class Desk:
    """What the options say of a table.

    Args:
        preset: the desk that the table is from.
        words: its words.
        table: the name of the tickets table, with or without its schema; None: the desk's usual one.
        stored: what else is said of the table.
        with_deleted: whether rows that seem to be deleted count like others.
        remember_messages: whether message ids are recorded.
    """

    preset: str = "default"
    words: Words = Words()
    table: str | None = None
    stored: Stored = Stored()
    with_deleted: bool = False
    remember_messages: bool = True

    @property
    def are_made_here(self) -> TicketMapping | None:
        """Our own tables; None: the options describe others.

        Raises:
            FatalError: if a word cannot be what it is to be.
        """
        return self._own() if self._is_ours else None

    @property
    def _is_ours(self) -> bool:
        known = self._is_of_the_line or self.preset in KNOWN
        return not known and self.table is None and self.stored == Stored()

    @property
    def _is_of_the_line(self) -> bool:
        return self.preset in _LINE

    def steps(self, dialect: str, drop: Sequence[str]) -> tuple[Step, ...]:
        """Return the whole schema of the desk's usual table, without looking at a database.

        Raises:
            FatalError: if options name another table than the usual one.
            MappingError: if there are no such statements.
        """
        if self.stored != Stored() or (self.table is not None and not self._is_of_the_line):
            raise FatalError(
                f"{self._of_a_table} needs --database: the types of a table of your own are not known here"
            )
        if self._is_of_the_line:
            return schema_steps(self._usual_of_the_line(), dialect, drop=drop)
        if drop:
            raise FatalError("--drop is for a table that is there: ours is made with the right rule")
        return own_schema(self._own(), dialect)

    @property
    def _of_a_table(self) -> str:
        """Return the first option that is about a table of somebody's own."""
        given = (
            f"--{each.name.replace('_', '-')}" for each in fields(Stored) if getattr(self.stored, each.name)
        )
        return next((name.removesuffix("s") for name in given), "--table")

    def looked_at(self, connection: Connection) -> TicketMapping:
        """Map the table that is there, for somebody who makes no row.

        Raises:
            FatalError: if it is not there, or has not what an option says.
            MappingError: if it lacks a column.
        """
        return self._mapping(connection, makes_rows=False)

    def written(self, connection: Connection) -> TicketMapping:
        """Map the table that is there.

        Raises:
            FatalError: if it is not there, or has not what an option says.
            MappingError: if it lacks a column, or a new row would.
        """
        return self._mapping(connection, makes_rows=True)

    def _mapping(self, connection: Connection, *, makes_rows: bool) -> TicketMapping:
        schema, name = self._name_in(connection)
        if not inspect(connection).has_table(name, schema=schema):
            raise FatalError(f"{named(connection.engine.url)}: {self._absent(connection, schema, name)}")
        if name == _OUR_TABLE and self.table is None and self.stored == Stored():
            return self._own()
        with warnings.catch_warnings():
            # What SQLAlchemy cannot read of an index is asked of the catalogue, and not of SQLAlchemy.
            warnings.simplefilter("ignore", SAWarning)
            table = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
            for column in table.columns:
                column.type = undomained(column.type)
        looked_at = self._of(table, makes_rows=False)
        if not makes_rows:
            return looked_at
        self._check_new_row(table, _seen(connection, table, looked_at))
        return self._of(table, makes_rows=True)

    def _of(self, table: Table, *, makes_rows: bool) -> TicketMapping:
        """Map a table by its columns; whoever makes no row need not know what fills one."""
        stored = self._stored(table)
        named_ = self._columns(table, stored)
        absent = {
            field: value_of(f"--absent {field}={text}", table, named_[field], text)
            for field, text in stored.absent.items()
        }
        values = {
            word: value_of(f"--status-value {word}={text}", table, named_["status"], text)
            for word, text in stored.status_values.items()
        }
        where = condition(table, stored.where)
        of_a_new_row = self._of_a_new_row(table, stored, named_)
        check_marks(table, [*stored.where, *named_.values()], stored.where if self.with_deleted else None)
        usual = timedelta(milliseconds=1) if self._is_of_the_line else timedelta(seconds=1)
        return TicketMapping(
            table,
            **named_,  # type: ignore[arg-type]
            **of_a_new_row if makes_rows else _of_no_new_row(of_a_new_row["new_id"]),
            statuses=self.words.scheme,
            status_values=values or None,
            where=where,
            absent=absent if makes_rows else stand_ins(table, named_) | absent,
            nullable_keys=True,
            only_company=self._company(stored, named_),
            only_connection=stored.only_connection,
            epoch=usual if stored.epoch is None else stored.epoch,
            timezone=UTC if stored.timezone is None else stored.timezone,
            remember_messages=self.remember_messages,
        )

    def _company(self, stored: Stored, columns: Mapping[str, str | None]) -> Id | None:
        is_first = stored.only_company is None and columns["company_id"] is None and self._is_of_the_line
        return _FIRST_COMPANY if is_first else stored.only_company

    def _of_a_new_row(
        self, table: Table, stored: Stored, columns: Mapping[str, str | None]
    ) -> dict[str, Any]:
        """Return what fills a new row, and makes its key, as arguments of a mapping."""
        values = of_new_row(table, stored.where, columns.values()) | {
            name: value_of(f"--on-create {name}={text}", table, name, text)
            for name, text in stored.on_create.items()
        }
        made = {name: uuid_maker(table, name) for name in stored.uuid}
        new_id = made.pop(str(columns["id"]), None)
        on_create: OnCreate = MadeRow(made, values)
        if self._is_of_the_line:
            by_lower_case = {each.name.lower(): each for each in table.columns}
            on_create = MadeRow.of_the_whaticket_line(by_lower_case, on_create)
        return {"on_create": on_create, "new_id": new_id}

    def _check_new_row(self, table: Table, needs: Collection[str]) -> None:
        """Refuse a table where a new row would leave columns empty, and say all options at once that fill them.

        Args:
            table: the table.
            needs: the columns that nobody else fills.

        Raises:
            FatalError: if there are such columns.
        """
        stored, known = self._stored(table), KNOWN.get(self.preset)
        of_the_desk = {} if known is None or known.name != table.name else dict(known.new_row)
        columns = self._columns(table, stored)
        filled = {*(names_of(self._of_a_new_row(table, stored, columns)["on_create"]) or ()), *stored.uuid}
        if empty := sorted(set(needs) - filled):
            usual = {str(columns["id"]): f"--uuid {columns['id']}"} | of_the_desk
            say = (usual.get(name, f"--on-create {name}=VALUE") for name in empty)
            raise FatalError(
                f"nobody fills {', '.join(empty)} of a new row of {table.fullname}, which may not be NULL and "
                f"{'have' if len(empty) > 1 else 'has'} no default: say {' '.join(say)}"
            )

    def _stored(self, table: Table) -> Stored:
        """Return what the table stores: as the options say, and as is known of the preset's desk.

        Raises:
            FatalError: if the options contradict it, or cannot say it.
        """
        known, said = KNOWN.get(self.preset), self.stored
        if known is None or known.name != table.name:
            return said
        for name, (why, example) in known.asks.items():
            if name not in said.where:
                raise FatalError(f"--preset {self.preset}: {why}: say which, as --where {name}={example}")
        _check_agree("--status-value", self.preset, known.status_values, said.status_values)
        _check_agree("--absent", self.preset, known.absent, said.absent)
        _check_agree("--where", self.preset, known.where, said.where)
        columns = {**known.columns, **said.columns}
        return evolve(
            said,
            columns=columns,
            status_values={**known.status_values, **said.status_values},
            # An agent for whom there is no column any more needs nobody that stands for none.
            absent={
                field: text
                for field, text in {**known.absent, **said.absent}.items()
                if columns.get(field, field) is not None or field in said.absent
            },
            where={**known.where, **said.where},
            uuid=tuple(dict.fromkeys((*known.uuid, *said.uuid))),
            only_company=_FIRST_COMPANY
            if said.only_company is None and not known.has_company and not said.columns.get("company_id")
            else said.only_company,
        )

    def _columns(self, table: Table, stored: Stored) -> dict[str, str | None]:
        """Return the column of each field: as the options say, else as it is usual; None where there is none.

        Raises:
            FatalError: if nobody says whether there is a time of the last change.
            MappingError: if a column is not there.
        """
        usual: dict[str, str] = dict(zip(FIELDS, FIELDS, strict=True))
        if self._is_of_the_line:
            by_lower_case = {column.name.lower(): column.name for column in table.columns}
            for field, names in _LINES_COLUMNS.items():
                found = (by_lower_case.get(name.lower()) for name in names)
                usual[field] = next((name for name in found if name is not None), names[0])
        may_be_absent = set(_MAY_BE_MISSING)
        if self._is_of_the_line or stored.only_company is not None:
            may_be_absent.add("company_id")
        if stored.only_connection is not None:
            may_be_absent.add("connection_id")
        there = {column.name for column in table.columns}
        known = {
            field: None if field in may_be_absent and name not in there else name
            for field, name in usual.items()
        }
        said = {**known, **stored.columns}
        is_said = self._is_of_the_line or "updated_at" in stored.columns
        if not is_said and "updated_at" not in table.columns:
            raise FatalError(
                f"{table.fullname} has no column updated_at: say --column updated_at=NAME with the time of the last change "
                "or message, by which the newest of several tickets is told, or --column updated_at= if there is none"
            )
        check_columns(table, {field: name for field, name in said.items() if name is not None})
        return said

    def _usual_of_the_line(self) -> TicketMapping:
        columns: list[Column[Any]] = [
            Column("id", Integer, primary_key=True),
            Column("status", String(255), nullable=False),
            *(Column(name, Integer) for name in ("contactId", "userId", "whatsappId", "queueId")),
            Column("isGroup", Boolean, nullable=False, server_default="0"),
            Column("unreadMessages", Integer),
            *(Column(name, DateTime(timezone=True), nullable=False) for name in ("createdAt", "updatedAt")),
            *([] if self.preset in _WITHOUT_COMPANY else [Column("companyId", Integer)]),
        ]
        schema, name = self._name()
        return TicketMapping.whaticket(
            Table(name, MetaData(), *columns, schema=schema),
            statuses=self.words.scheme,
            remember_messages=self.remember_messages,
        )

    def told(self, text: str) -> str:
        """Return what the library says in words of the options."""
        return in_options(text)

    def blamed(self, error: BaseException) -> None:
        """Say nothing: no code of the host's is called."""

    def _own(self) -> TicketMapping:
        scheme = self.words.scheme
        if scheme == DEFAULT_MAPPING.statuses and self.remember_messages:
            return DEFAULT_MAPPING
        return TicketMapping.own(statuses=scheme, remember_messages=self.remember_messages)

    def _name_in(self, connection: Connection) -> tuple[str | None, str]:
        """Return the name of the table: a known desk's own, or ours where only that is there.

        Raises:
            FatalError: if both are there, and nobody says which it is.
        """
        known = KNOWN.get(self.preset)
        if known is None or self.table is not None:
            return self._name()
        there = [each for each in (known.name, _OUR_TABLE) if inspect(connection).has_table(each)]
        if len(there) > 1:
            raise FatalError(
                f"{named(connection.engine.url)}: there are {' and '.join(there)}: say which with --table"
            )
        return None, there[0] if there else known.name

    def _name(self) -> tuple[str | None, str]:
        usual = _LINES_TABLE if self._is_of_the_line else _OUR_TABLE
        schema, _, name = (self.table or usual).rpartition(".")
        return schema or None, name

    def _absent(self, connection: Connection, schema: str | None, name: str) -> str:
        others = inspect(connection).has_table(_LINES_TABLE) and not self._is_of_the_line
        hint = f"; there is {_LINES_TABLE}: say --preset {WHATICKET}" if others else "; name it: --table NAME"
        return f"there is no table {name if schema is None else f'{schema}.{name}'}{hint}"


def _check_agree(option: str, preset: str, known: Mapping[str, str], said: Mapping[str, str]) -> None:
    """Refuse an option that says otherwise than the preset does.

    Raises:
        FatalError: if it does.
    """
    for name, value in said.items():
        if known.get(name, value) != value:
            raise FatalError(
                f"{option} {name}={value} and --preset {preset} exclude each other: there it is {name}={known[name]}"
            )


def _seen(connection: Connection, table: Table, mapping: TicketMapping) -> Collection[str]:
    """See what fills the columns of a new row that reflection does not tell of, as triggers do.

    Returns:
        The columns that nobody fills.
    """
    facts, number = columns_of(connection, mapping), mapping.columns["id"]
    for column in table.columns:
        is_open = not fills_itself(column) if column is number else must_be_given(column)
        if is_open and column.name in facts and facts[column.name].filled:
            column.server_default = FetchedValue()
    return needed(mapping, facts) | (frozenset() if fills_itself(number) else {number.name})


def _nothing(_: object) -> dict[str, Any]:
    """Fill no further column: nothing is created here."""
    return {}


def _of_no_new_row(new_id: Callable[[], Id] | None) -> dict[str, Any]:
    """Return what fills a new row, where none is made; of the key it is known whether somebody has said that."""
    return {"on_create": _nothing, "new_id": Unsaid() if new_id is None else new_id}
