"""What is written into a host's further columns with every message that creates, reopens or joins a ticket.

Law of this file: columns and values; which columns there are is known when the mapping is made, what is written into
them when a message comes. A host's function does no I/O, and may be called again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from enum import Enum, auto
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

from attrs import frozen
from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    Dialect,
    Integer,
    Table,
    bindparam,
    case,
    literal_column,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from ticketrouter.model import InboundMessage
from ticketrouter.sqlalchemy import codecs
from ticketrouter.sqlalchemy.columns import MappingError, column_of, full_name, is_generated
from ticketrouter.sqlalchemy.further import check_fits
from ticketrouter.sqlalchemy.row_condition import UnfitConditionError, on_columns

OnMessage: TypeAlias = Mapping[Any, Any]
"""By column: a constant, an SQL expression over the row, or a function of the message and the time."""


class Keep(Enum):
    """What a function of `on_message` answers for a message that leaves its column as it is."""

    KEEP = auto()


KEEP: Final = Keep.KEEP
"""Leave the column as it is; in a new row: as the column's own default, or `on_create`, has it."""


class How(Enum):
    """What is given for a column."""

    CONSTANT = auto()
    EXPRESSION = auto()
    FUNCTION = auto()


@frozen(eq=False)
class Written:
    """A column that is written with every message.

    Args:
        column: the column.
        how: what is given for it.
        value: that.
    """

    column: Column[Any]
    how: How
    value: Any

    @property
    def reads(self) -> set[Any]:
        """Return the columns that are read for it."""
        return set(visitors.iterate(self.value)) if self.how is How.EXPRESSION else set()

    @property
    def said(self) -> Hashable:
        """What a statement depends on: not what is sent with it."""
        if self.how is not How.EXPRESSION:
            return self.column.name, self.how
        try:
            text = str(self.value.compile(compile_kwargs={"literal_binds": True}))
        except SQLAlchemyError:
            return self.column.name, self.value  # another expression is another one
        return self.column.name, text

    def of(self, message: InboundMessage, at: datetime) -> Any:
        """Return what a message writes, or KEEP."""
        return self.value(message, at) if self.how is How.FUNCTION else self.value


@frozen(eq=False)
class Columns:
    """The columns that are written with every message; none where a host gives none."""

    written: tuple[Written, ...] = ()

    @classmethod
    def of(cls, table: Table, given: OnMessage, fields: Iterable[Column[Any]]) -> Columns:
        """Check what a host gives.

        Raises:
            MappingError: if a column is not there, generated, or one that a field of the ticket fills; or if an
                expression is not one over the row.
        """
        taken = set(fields)
        return cls(_in_order([_written(table, name, value, taken) for name, value in given.items()]))

    def __bool__(self) -> bool:
        return bool(self.written)

    def of_how(self, *how: How) -> Iterator[tuple[int, Written]]:
        """Give those of some kind, each after its number."""
        return ((number, each) for number, each in enumerate(self.written) if each.how in how)

    def values(
        self, messages: Iterable[tuple[InboundMessage, datetime]], encode: Callable[[Column[Any], Any], Any]
    ) -> dict[int, Any]:
        """Return what is to be sent, by the number of the column: of several messages the last that does not KEEP.

        Args:
            messages: the messages, each with when it came; none of them: nothing is written.
            encode: makes of a value what the column takes.
        """
        found: dict[int, Any] = {}
        for number, each in self.of_how(How.CONSTANT, How.FUNCTION):
            answers = (each.of(message, at) for message, at in messages)
            value: Any = KEEP
            for answer in answers:
                value = value if answer is KEEP else answer
            found[number] = KEEP if value is KEEP else encode(each.column, value)
        return found

    def changes(
        self, told: Callable[[str], Any] | None = None, once: ColumnElement[bool] | None = None
    ) -> dict[str, Any]:
        """Return what an `UPDATE` writes into further columns with a message, by their keys.

        Args:
            told: gives what is sent by a name, where it is not bound: see `Values.of_message`.
            once: of which rows it is true that nothing was written with this message before; None: of all.
        """
        changes: dict[str, Any] = {}
        for number, each in enumerate(self.written):
            column = each.column
            sent = partial(_bound, type_=column.type) if told is None else told
            match each.how:
                case How.EXPRESSION:
                    changes[column.key] = (
                        each.value if once is None else case((once, each.value), else_=column)
                    )
                case How.CONSTANT:
                    constant = bindparam(f"b_new_{number}", type_=column.type)
                    changes[column.key] = constant if once is None else case((once, constant), else_=column)
                case How.FUNCTION:
                    is_kept = (_bound if told is None else told)(f"keep_{number}") == literal_column("1")
                    changes[column.key] = case((is_kept, column), else_=sent(f"new_{number}"))
                case _:
                    assert_never(each.how)
        return changes


def _bound(name: str, type_: Any = Integer) -> ColumnElement[Any]:
    return bindparam(f"b_{name}", type_=type_)


# --- of many tickets -----------------------------------------------------------------------------------------


def sent_types(
    columns: Columns, in_a_row: Callable[[TypeEngine[Any]], TypeEngine[Any]]
) -> dict[str, TypeEngine[Any]]:
    """Return the types of what is sent for each ticket, by name.

    Args:
        columns: the columns.
        in_a_row: as what a value of a column's type is sent among those of many rows.
    """
    types: dict[str, TypeEngine[Any]] = {}
    for number, each in columns.of_how(How.FUNCTION):
        types |= {f"new_{number}": in_a_row(each.column.type), f"keep_{number}": Integer()}
    return types


def sent_cells(columns: Columns, values: Sequence[Mapping[int, Any]]) -> dict[str, list[Any]]:
    """Return what is sent for each ticket, by name; what is not among its values is kept."""
    cells: dict[str, list[Any]] = {}
    for number, _ in columns.of_how(How.FUNCTION):
        found = [each.get(number, KEEP) for each in values]
        cells[f"new_{number}"] = [None if value is KEEP else value for value in found]
        cells[f"keep_{number}"] = [int(value is KEEP) for value in found]
    return cells


def sent_constants(columns: Columns, encode: Callable[[Column[Any], Any], Any]) -> dict[str, Any]:
    """Return what is sent for all of them."""
    return {
        f"b_new_{number}": encode(each.column, each.value) for number, each in columns.of_how(How.CONSTANT)
    }


def encoder(dialect: Dialect, epoch: timedelta, timezone: tzinfo) -> Callable[[Column[Any], Any], Any]:
    """Return what writes a time with a zone as the times of a ticket are written there, and all else as it is."""

    def encode(column: Column[Any], value: Any) -> Any:
        if not isinstance(value, datetime) or value.tzinfo is None:
            check_fits("on_message", column, value, dialect)
            return value
        codec = codecs.time_codec(column.type, dialect, epoch=epoch, timezone=timezone)
        return value if codec is None else codec.encode(value)

    return encode


def _in_order(given: list[Written]) -> tuple[Written, ...]:
    """Return what is written such that each column is read before it is written: MariaDB writes one after the other."""
    left, found = list(given), list[Written]()
    while left:
        ready = [
            each
            for each in left
            if not any(each.column in other.reads for other in left if other is not each)
        ]
        if not ready:
            names = ", ".join(full_name(each.column) for each in left)
            raise MappingError(
                f"on_message has {names}, each by an expression over another one of them, and no database writes both "
                "by what they were: take what is read from another column"
            )
        left = [each for each in left if each not in ready]
        found += ready
    return tuple(found)


def _written(table: Table, name: Any, value: Any, taken: set[Column[Any]]) -> Written:
    column = column_of(table, "on_message", name)
    if column in taken:
        raise MappingError(
            f"on_message has {full_name(column)}, which a field of the ticket fills: leave it out"
        )
    if is_generated(column):
        raise MappingError(
            f"on_message has {full_name(column)}, a generated column, which nobody can write: leave it out"
        )
    if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
        try:
            clause = on_columns(table, value)
        except UnfitConditionError as error:
            raise MappingError(f"on_message: {full_name(column)} {error}") from None
        return Written(column, How.EXPRESSION, clause)
    return Written(column, How.FUNCTION if callable(value) else How.CONSTANT, value)
