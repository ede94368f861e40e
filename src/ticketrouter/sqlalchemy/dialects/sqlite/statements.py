"""What only SQLite is sent: an `UPDATE` whose row ends in the contact's other tickets.

Law of this file: as in `ticketrouter.sqlalchemy.parts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    REAL,
    ColumnElement,
    DateTime,
    Dialect,
    Executable,
    FromClause,
    LargeBinary,
    Table,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.types import NullType, TypeEngine

from ticketrouter.decisions import Join, Lookup, Snapshot
from ticketrouter.sqlalchemy.codecs import Passage
from ticketrouter.sqlalchemy.facts import ByIndex, Detected
from ticketrouter.sqlalchemy.joins import Joins
from ticketrouter.sqlalchemy.many_by_rows import ManyByRows, SentRows
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.on_message import Columns
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent, more
from ticketrouter.sqlalchemy.row_condition import RowCondition, adapted
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.types import (
    InARow,
    JsonRows,
    MessageDigest,
    UtcDateTime,
    digest_of,
    in_json,
    is_bytes,
)
from ticketrouter.sqlalchemy.writes import Writes

_DIGEST = 32
_DIALECT: Dialect = SQLiteDialect_pysqlite()
"""As all drivers of SQLite write values."""


class SQLiteParts(Parts):
    """The parts of statements for SQLite."""

    def insert(self, table: Table) -> Any:
        """See `Parts.insert`."""
        return sqlite.insert(table)

    def _is_met(self, condition: RowCondition, *, new: bool) -> ColumnElement[bool]:  # noqa: ARG002
        """See `Parts._is_met`: what stands behind RETURNING takes any column for one that is never NULL if the first is.

        So the row is looked for, which is there by then (SQLite 3.40; `x IS NULL` was 0 of a NULL).
        """
        table, column = self.mapping.table, self.mapping.columns["id"]
        written, quote = table.alias("written"), sqlite.dialect(paramstyle="qmark").identifier_preparer.quote
        its_id: ColumnElement[Any] = literal_column(f"{quote(table.name)}.{quote(column.name)}", column.type)
        there = select(ONE).select_from(written)
        meets = adapted(condition.written(plain_dialect(self._storage.url)), written)
        return exists(there.where(written.c[column.key] == its_id, meets))


class SQLiteWrites(Writes):
    """The writes of one ticket of SQLite."""

    def _is_time(self, column: ColumnElement[Any], time: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `Writes._is_time`: a time is a text, and others need not write the same one as SQLAlchemy does.

        `CURRENT_TIMESTAMP` has no fraction of a second, ORMs write a `T` or a zone. SQLite itself compares milliseconds.
        """
        equal = super()._is_time(column, time)
        if not isinstance(self._values.bare(column.type), DateTime | UtcDateTime):
            return equal
        same = func.julianday(column) == func.julianday(time)
        return or_(equal, and_(same, _below_milliseconds(column) == _below_milliseconds(time)))


def _below_milliseconds(time: ColumnElement[Any]) -> ColumnElement[Any]:
    digits = cast(literal_column("'0.'").concat(func.substr(time, 24, 3)), REAL)
    return case((func.substr(time, 20, 1) == ".", digits), else_=literal_column("0.0"))


class SQLiteJoins(Joins):
    """The `UPDATE` by which a message joins, whose row ends in the contact's other active tickets, as JSON.

    SQLite takes no `UPDATE` into another statement, and lets no row of another table beside the changed one.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._built: dict[tuple[int | None, bool, bool], Executable] = {}

    def join(self, lookup: Lookup, join: Join, columns: Columns, *, claims: bool) -> Sent | None:  # noqa: ARG002
        """See `Joins.join`: a message with an id may be a redelivery; and the `UPDATE` itself keeps others away."""
        if join.message_ref is not None:
            return None
        variant = more(join.unread), self._wakes(join), self._writes(join)
        statement = self._built.get(variant)
        if statement is None:
            statement = self._built[variant] = self._build(*variant)
        return statement, self._sent(lookup, join, columns, variant[0])

    def joined(self, lookup: Lookup, rows: Sequence[Sequence[Any]]) -> Snapshot | None:  # noqa: ARG002
        """See `Joins.joined`."""
        ticket = self._values.ticket
        return self._met(ticket(rows[0][:-1]), map(ticket, rows[0][-1])) if rows else None

    def _build(self, more: int | None, wakes: bool, writes: bool) -> Executable:
        parts, columns = self._parts, self._parts.mapping.columns
        other = parts.mapping.table.alias("other")
        dialect = self._values.dialect
        cells = [in_json(other.c[columns[field].key], dialect) for field in self._values.fields]
        rows = JsonRows(tuple(column.type for column in parts.columns))
        others = select(func.json_group_array(func.json_array(*cells))).where(
            *parts.active_of_contact(other), self._is_elsewhere(other)
        )
        # Every cell as the column has it: JSON must not begin with the reading of it.
        column = type_coerce(others.scalar_subquery(), rows).label("others")
        joining = self._update(*self._on_key(wakes=wakes), more=more, writes=writes)
        statement: Executable = joining.returning(column)
        return statement


class Json(SentRows):
    """One JSON array of all rows, and for each column of bytes, as JSON has none, all of them in one value.

    Where they are not all of one length, as digests are, a cell is where its bytes begin, and how many they are.
    """

    def bound(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """See `SentRows.bound`."""
        sent = {
            f"r_{name}": b"".join(map(digest_of, cells[name]))
            for name in self._types
            if self._is_digest(name)
        }
        columns: list[Sequence[Any]] = []
        for name in self._types:
            if name in self._bytes:
                stored = [None if cell is None else self._bytes[name].stored(cell) for cell in cells[name]]
                sent[f"r_{name}"] = b"".join(each or b"" for each in stored)
                columns.append(_places(stored))
            elif not self._is_digest(name):
                columns.append(cells[name])
        return {"r_rows": list(zip(*columns, strict=True))} | sent

    def _table(self) -> FromClause:
        known = {name: type_ for name, type_ in self._types.items() if not self._is_digest(name)}
        self._bytes = {
            name: Passage(type_, _DIALECT) for name, type_ in known.items() if is_bytes(type_, _DIALECT)
        }
        types = (NullType() if name in self._bytes else type_ for name, type_ in known.items())
        rows = func.json_each(bindparam("r_rows", type_=JsonRows(tuple(types)))).table_valued(
            "key", "value", name="ticketrouter_row"
        )
        cells: dict[str, ColumnElement[Any]] = {
            name: self._some_bytes(name, place, rows.c.value)
            if name in self._bytes
            else type_coerce(_cell(rows.c.value, f"$[{place}]", type_), type_)
            for place, (name, type_) in enumerate(known.items())
        }
        for name in self._types:
            if self._is_digest(name):
                every = bindparam(f"r_{name}", type_=LargeBinary)
                cells[name] = type_coerce(func.substr(every, rows.c.key * _DIGEST + 1, _DIGEST), LargeBinary)
        return (
            select(*(cells[name].label(name) for name in self._types))
            .select_from(rows)
            .cte("ticketrouter_sent")
        )

    @staticmethod
    def _some_bytes(name: str, place: int, row: ColumnElement[Any]) -> ColumnElement[Any]:
        every = bindparam(f"r_{name}", type_=LargeBinary)
        begin, length = (func.json_extract(row, f"$[{place}][{part}]") for part in (0, 1))
        return type_coerce(func.substr(every, begin, length), LargeBinary)

    def _is_digest(self, name: str) -> bool:
        return isinstance(self._types[name], MessageDigest)


def _cell(row: ColumnElement[Any], path: str, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """Return a cell of a row; a text of a host's with a NUL comes as a list of its parts: see `InARow`."""
    cell: ColumnElement[Any] = func.json_extract(row, path)
    if not isinstance(type_, InARow):
        return cell
    parts = func.json_each(row, path).table_valued("value", name="ticketrouter_part")
    whole = select(func.group_concat(parts.c.value, func.char(0))).scalar_subquery()
    return case((func.json_type(row, path) == "array", whole), else_=cell)


def _places(stored: Iterable[bytes | None]) -> list[tuple[int, int] | None]:
    """Return where each value begins among all of them, from 1 on, and its length."""
    places: list[tuple[int, int] | None] = []
    begin = 1
    for each in stored:
        places.append(None if each is None else (begin, len(each)))
        begin += len(each or b"")
    return places


class SQLiteMany(ManyByRows):
    """The statements about many rows of SQLite."""

    rows: ClassVar[type[SentRows]] = Json

    def _counted(self, statement: Any) -> Any:
        """The driver counts no rows of a statement that begins with WITH."""
        return statement.returning(self._mapping.columns["id"])


def statements(
    mapping: TicketMapping, dialect: Dialect, detected: Detected, by: ByIndex | None = None
) -> Statements:
    """Return the statements for SQLite: see `Database.statements`."""
    parts = SQLiteParts(mapping, dialect, detected, by)
    writes = SQLiteWrites(parts)
    return Statements(parts, writes, SQLiteMany(parts, writes), joins=SQLiteJoins(parts))
