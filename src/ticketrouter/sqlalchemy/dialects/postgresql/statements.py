"""What only PostgreSQL is sent: a ticket and its message id in one statement, and texts sorted by code points.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. What lets messages join stands in `joins`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Enum,
    Executable,
    FromClause,
    String,
    Table,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from ticketrouter.decisions import Create, MessageRef
from ticketrouter.sqlalchemy.claims import Claims
from ticketrouter.sqlalchemy.many_by_rows import ManyByRows, SentRows
from ticketrouter.sqlalchemy.message_ids import RECORDED
from ticketrouter.sqlalchemy.moves import Moves
from ticketrouter.sqlalchemy.parts import Parts, Sent
from ticketrouter.sqlalchemy.types import ArrayText, InARow, UtcDateTime
from ticketrouter.sqlalchemy.writes import Writes


class PostgreSQLParts(Parts):
    """The parts of statements for PostgreSQL."""

    checks_place = True  # the search path

    def insert(self, table: Table) -> Any:
        """See `Parts.insert`."""
        return postgresql.insert(table)

    def _returned(self) -> list[ColumnElement[Any]]:
        """See `Parts.returned`: by names of ours, as SQLAlchemy shortens those that are long where it speaks of them."""
        return [cell.label(f"c_{place}") for place, cell in enumerate(self.columns)]

    @property
    def is_here(self) -> ColumnElement[bool]:
        """See `Parts.is_here`: whether the name still stands for the table of that number."""
        name = func.to_regclass(bindparam("b_at_name", type_=String))
        number = cast(cast(name, postgresql.OID), BigInteger)
        return number.is_not_distinct_from(bindparam("b_at", type_=BigInteger))

    def alike(self, column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `Parts.alike`: what a driver sends as a text would have it compared as one."""
        if not isinstance(column.type, postgresql.CITEXT):
            return super().alike(column, value)
        equal: ColumnElement[bool] = column == cast(value, column.type)
        return equal

    def by_code_points(self, word: ColumnElement[Any]) -> ColumnElement[Any]:
        """See `Parts.by_code_points`."""
        return word.collate("C")


class PostgreSQLWrites(Writes):
    """The writes of one ticket of PostgreSQL."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._recording: dict[tuple[tuple[str, ...], bool], Executable | None] = {}

    def _nothing(self, type_: TypeEngine[Any]) -> ColumnElement[Any]:
        """See `Writes._nothing`: a bare one is a text there."""
        return cast(null(), type_)

    def create_recorded(self, decision: Create, further: Mapping[str, Any], ref: MessageRef) -> Sent | None:
        """See `Writes.create_recorded`.

        None: SQLAlchemy itself fills a column. A default may ask for the values of its row, which it finds only in an
        `INSERT` that stands alone.
        """
        row = self._new_row(decision, further, decision.unread_messages, decision.at)
        names, inserting = tuple(row), self.insert_for(decision)
        variant = names, inserting is self.insert
        if variant not in self._recording:
            self._recording[variant] = self._build_create_recorded(inserting, names)
        statement = self._recording[variant]
        if statement is None:
            return None
        cells = {f"n_{place}": value for place, value in enumerate(row.values())}
        return statement, cells | self._values.of_ref(ref) | {"b_routed_at": decision.at}

    def _build_create_recorded(self, inserting: Any, names: tuple[str, ...]) -> Executable | None:
        table, messages = self._mapping.table, self._mapping.message_ids
        if any(column.default is not None for column in table.columns if column.key not in names):
            return None
        cells = {
            name: bindparam(f"n_{place}", type_=table.columns[name].type) for place, name in enumerate(names)
        }
        made = inserting.values(cells).cte("ticketrouter_made")
        *ticket, taken = made.c
        company, connection, message, at = self._parts.of_message(
            "company_id", "connection_id", "message_id", "routed_at"
        )
        row = select(company, connection, message, ticket[self._values.fields.index("id")], at)
        recorded = (
            postgresql.insert(messages)
            .from_select(RECORDED, row, include_defaults=False)
            .on_conflict_do_nothing(index_elements=list(messages.primary_key))
            .returning(messages.c.ticket_id)
            .cte("ticketrouter_recorded")
        )
        is_recorded = exists(select(recorded.c.ticket_id)).label("is_recorded")
        return select(*ticket, is_recorded, taken)


class PostgreSQLClaims(Claims):
    """The claims of PostgreSQL."""

    def anchored(self, when: ColumnElement[bool]) -> CTE:
        """Return the write of the anchor row, where a condition holds, as a part of another statement."""
        row = select(*self.sent(), literal_column("0")).where(when)
        names = ["company_id", "contact_id", "version"]
        write = postgresql.insert(self._anchors).from_select(names, row, include_defaults=False)
        written: CTE = self._written(write).cte("ticketrouter_claimed")
        return written


class Arrays(SentRows):
    """Arrays, one for each column.

    Args:
        types: the type of each column, by name.
        numbered: the name of a column more that counts the rows from 1.
    """

    def __init__(self, types: Mapping[str, TypeEngine[Any]], *, numbered: str | None = None) -> None:
        self._numbered = numbered
        super().__init__(types)

    def bound(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """See `SentRows.bound`."""
        return {f"r_{name}": cells[name] for name in self._types}

    def _table(self) -> FromClause:
        arrays = [
            cast(bindparam(f"r_{name}", type_=ArrayText(type_)), postgresql.ARRAY(type_))
            for name, type_ in self._types.items()
        ]
        columns = [column(name, type_) for name, type_ in self._types.items()]
        return (
            func.unnest(*arrays)
            .table_valued(*columns, with_ordinality=self._numbered)
            .render_derived(name="ticketrouter_sent")
        )


class PostgreSQLMany(ManyByRows):
    """The statements about many rows of PostgreSQL."""

    rows: ClassVar[type[SentRows]] = Arrays

    def in_a_row(self, type_: TypeEngine[Any]) -> TypeEngine[Any]:
        """See `Many.in_a_row`: only a text goes into its column without a cast."""
        there = self._values.bare(type_)
        is_text = isinstance(there, String) and not (isinstance(there, Enum) and there.native_enum)
        return super().in_a_row(type_) if is_text else InARow(type_)

    def read_as(self, field: str) -> TypeEngine[Any]:
        """See `Many.read_as`."""
        if isinstance(self._mapping.columns[field].type, UtcDateTime):
            return DateTime(timezone=True)
        return super().read_as(field)


class PostgreSQLMoves(Moves):
    """The statements of a move of PostgreSQL."""

    locks_may_hide = True  # those that this role may read and not change
