"""What fills the columns of a host's table that no field of a ticket fills.

Law of this file: values by column, as the host gives them; whether there is such a column, the mapping says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from uuid import uuid4

from attrs import frozen
from sqlalchemy import ClauseElement, Column, Dialect, Uuid

from ticketrouter.checks import Id, check_id
from ticketrouter.decisions import Create
from ticketrouter.errors import InvalidMessageError, kind_of
from ticketrouter.sqlalchemy.columns import MappingError, full_name, must_be_given
from ticketrouter.wording import Code

OnCreate: TypeAlias = Mapping[str, Any] | Callable[[Create], Mapping[str, Any]]
"""Values, by column name, for the columns of a host that no field of a ticket fills."""


@frozen
class MadeRow:
    """Makes the values of some columns anew for each row, and then takes what the host says."""

    makers: Mapping[str, Callable[[], Any]]
    further: OnCreate | None

    @classmethod
    def of_the_whaticket_line(cls, columns: Mapping[str, Column[Any]], further: OnCreate | None) -> MadeRow:
        """Return what fills the columns that some forks have made NOT NULL, by their names in lower case."""
        makers: dict[str, Callable[[Column[Any]], Callable[[], Any]]]
        makers = {"uuid": _uuid_maker, "lastmessage": lambda _: str}
        needed = (columns[name] for name in makers if name in columns)
        return cls({c.name: makers[c.name.lower()](c) for c in needed if must_be_given(c)}, further)

    def __call__(self, _: Create) -> Mapping[str, Any]:
        """Return the values that are made."""
        return {name: make() for name, make in self.makers.items()}


def _uuid_maker(column: Column[Any]) -> Callable[[], Any]:
    return uuid4 if isinstance(column.type, Uuid) and column.type.as_uuid else lambda: str(uuid4())


def names_of(on_create: OnCreate | None) -> list[Any] | None:
    """List the columns that are filled besides a ticket's; None: that is known only when a row is made."""
    match on_create:
        case None:
            return []
        case Mapping():
            return list(on_create)
        case MadeRow() as row:
            names = names_of(row.further)
            return None if names is None else [*row.makers, *names]
        case _:
            return None


def values_of(on_create: OnCreate | None, decision: Create) -> list[tuple[Any, Any]]:
    """Return the values of a new row, each after what names its column."""
    match on_create:
        case None:
            return []
        case Mapping() as values:
            return list(values.items())
        case MadeRow() as row:
            return [*row(decision).items(), *values_of(row.further, decision)]
        case make:
            values = make(decision)
            if not isinstance(values, Mapping):
                raise MappingError(
                    Code("on_create", "on_create"),
                    f" must return a mapping of columns to values, {{}} for none, not {kind_of(values)}",
                )
            return list(values.items())


class Unsaid:
    """Stands for a function that makes keys, for who makes no row: who makes them is not said."""

    def __call__(self) -> Id:
        """Make no key."""
        raise AssertionError


def id_of(new_id: Callable[[], Id]) -> Id:
    """Return the key that a host's function makes.

    Raises:
        MappingError: if it is none.
    """
    made = new_id()
    try:
        check_id("new_id", made)
    except InvalidMessageError as error:
        told = f" must return the key of a new row, {error.expected}, not {kind_of(made)}"
        raise MappingError(Code("new_id", "new_id"), told) from None
    return made


def check_fits(argument: str, column: Column[Any], value: Any, dialect: Dialect) -> None:
    """Refuse a value of a host's that its column cannot take, before it is sent.

    Args:
        argument: what gave it, as a mapping calls that.
        column: the column.
        value: the value; an expression is the database's to compute.
        dialect: that of the database.

    Raises:
        MappingError: if the column's type refuses it.
    """
    if value is None or isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
        return
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    try:
        if process is not None:
            process(value)
    except Exception as error:
        raise MappingError(
            Code(argument, argument),
            f" gives {kind_of(value)} for {full_name(column)}, which is of type {column.type!r} and cannot hold it: give "
            "what the column takes",
        ) from error
