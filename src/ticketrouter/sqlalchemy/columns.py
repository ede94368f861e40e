"""The columns of a host's table: which a field stands in, what nobody can write, what must be given.

Law of this file: it knows columns, and nothing of what a mapping says of them; every complaint says what to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ClauseElement, Column, Label, Table
from sqlalchemy.sql.expression import ColumnClause
from sqlalchemy.types import TypeEngine

from ticketrouter.errors import TicketRouterError, shown
from ticketrouter.wording import Code, Wording, listed, passing

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
TIMES = ("updated_at", "created_at")
"""The times by which tickets are in order, of which a table has one at least: the first that it has is its last change."""
MAY_BE_ABSENT = frozenset({"is_group", "unread_messages", "user_id", "queue_id", "closed_at", *TIMES})


class MappingError(TicketRouterError):
    """The tickets table is not what the mapping says, or cannot do what is asked; the text says what to change.

    Args:
        parts: the text, with the code that it speaks of as values.
    """

    def __init__(self, *parts: str | Code) -> None:
        super().__init__(Wording(*parts))


class Said:
    """What a mapping says, as a value whose hash is computed once."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: tuple[Any, ...]) -> None:
        self._value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Said) and self._value == other._value)


def table_of(table: Table | type[Any]) -> Table:
    """Return the table that was given, or that a class is mapped to."""
    found = getattr(table, "__table__", table)
    if not isinstance(found, Table):
        raise MappingError(f"a Table or a mapped class is needed, not {type(table).__name__}")
    return found


def _find(table: Table, given: Any) -> Column[Any] | None:
    name = _asked(given)
    if not isinstance(name, str):
        return None
    return next((column for column in table.columns if name in {column.key, column.name}), None)


def _asked(given: Any) -> Any:
    element = _element(given)
    return getattr(element, "name", element)


def _element(given: Any) -> Any:
    element = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    return element.element if isinstance(element, Label) else element


def _stranger(table: Table, given: Any) -> str | None:
    """Name what was given where it is a column of another table, or none at all; None: it may be one of this."""
    element = _element(given)
    if not isinstance(element, ClauseElement):
        return None
    if not isinstance(element, ColumnClause):
        return shown(str(element))
    owner = element.table
    owner = getattr(owner, "element", owner)  # of an alias
    # A copy of the table in another schema, as each tenant may have one, has the same columns.
    if owner is None or getattr(owner, "name", None) == table.name:
        return None
    return f"{getattr(owner, 'fullname', owner)}.{element.name}"


def column_of(table: Table, field: str, given: Any) -> Column[Any]:
    """Return the column that was given, by its name, or itself."""
    if (stranger := _stranger(table, given)) is not None:
        raise _no_own(table, {field: stranger})
    column = _find(table, given)
    if column is None:
        raise MappingError(
            f"{table.fullname} has no column {shown(_asked(given))} for ",
            field if field in FIELDS else Code(field, field),
            f"; it has {_column_names(table)}",
        )
    return column


def check_columns(table: Table, named: Mapping[str, Any]) -> None:
    """Raise with every field at once whose column is not there, or is not its own."""
    strangers = {field: _stranger(table, given) for field, given in named.items()}
    if others := {field: each for field, each in strangers.items() if each is not None}:
        raise _no_own(table, others)
    _check_shared(table, named)
    missing = [field for field, given in named.items() if _find(table, given) is None]
    if not missing:
        return
    wanted = ", ".join(f"{shown(_asked(named[field]))} for {field}" for field in missing)
    needed = _times_needed(set(missing), named)
    absent = [passing(field, "None") for field in missing if field in MAY_BE_ABSENT - needed]
    advice = (", or pass ", listed(absent), " where the table has none") if absent else ()
    raise MappingError(
        f"{table.fullname} has no column {wanted}; it has {_column_names(table)}: name the columns, as in ",
        passing(missing[0], '"..."'),
        *advice,
    )


def _no_own(table: Table, strangers: Mapping[str, str]) -> MappingError:
    """Return the error that what was given for fields is no column of the table."""
    wanted = ", ".join(f"{each} for {field}" for field, each in strangers.items())
    its = _column_names(table)
    return MappingError(
        f"{wanted}: that is no column of {table.fullname}, whose rows are the tickets; it has {its}: name one of these"
    )


def _check_shared(table: Table, named: Mapping[str, Any]) -> None:
    """Raise where two fields stand in one column: what is written for one of them would be read for the other."""
    fields: dict[str, list[str]] = {}
    for field, given in named.items():
        if (column := _find(table, given)) is not None:
            fields.setdefault(full_name(column), []).append(field)
    shared = [
        f"{column} is given for {' and '.join(each)}" for column, each in fields.items() if len(each) > 1
    ]
    if shared:
        several = [field for each in fields.values() if len(each) > 1 for field in each]
        absent = [passing(field, "None") for field in several if field in MAY_BE_ABSENT]
        advice = (", or pass ", listed(absent), " where the table has none") if absent else ()
        raise MappingError(
            f"{'; '.join(shared)}: what is written for one would be read for the other; name a column for each",
            *advice,
        )


def _times_needed(missing: set[str], named: Mapping[str, Any]) -> set[str]:
    """Return which times cannot be left out where they are missing, because one of them has to stay."""
    if any(field in named and field not in missing for field in TIMES):
        return set()
    return {"updated_at"} if missing.issuperset(TIMES) else set(TIMES)


def _column_names(table: Table) -> str:
    return ", ".join(column.name for column in table.columns)


def full_name(column: Column[Any]) -> str:
    """Name a column with its table, for messages."""
    return f"{column.table.fullname}.{column.name}"


def column_said(column: Column[Any]) -> tuple[Any, ...]:
    """Return what a statement depends on of a column; a default of the host's is the same only if it is the same object."""
    return (
        column.name,
        column.key,
        _type_said(column.type),
        column.nullable,
        column.primary_key,
        column.default,
        column.onupdate,
        type(column.server_default),
        column.computed is not None,
    )


def _type_said(type_: TypeEngine[Any]) -> Any:
    """Return the value of a type that we know the parameters of; of any other, the type itself."""
    if type(type_).__module__.partition(".")[0] not in {"sqlalchemy", "ticketrouter"}:
        return type_
    variants: Mapping[str, TypeEngine[Any]] = getattr(type_, "_variant_mapping", {})
    by_dialect = tuple((name, _type_said(variants[name])) for name in sorted(variants))
    return type(type_), repr(type_), getattr(type_, "enum_class", None), by_dialect


def follows(column: Column[Any]) -> bool:
    """Tell whether a column may become another value with any `UPDATE` of its row."""
    return any(each is not None for each in (column.computed, column.onupdate, column.server_onupdate))


def is_generated(column: Column[Any]) -> bool:
    """Tell whether the database alone fills a column."""
    return column.computed is not None or (column.identity is not None and bool(column.identity.always))


def fills_itself(column: Column[Any]) -> bool:
    """Tell whether a key comes from the database or from the Column, as far as its Table shows that."""
    return (
        column.default is not None
        or column.server_default is not None
        or column.computed is not None
        or column.identity is not None
        or column.autoincrement is True
        or column.table.autoincrement_column is column
    )


def must_be_given(column: Column[Any]) -> bool:
    """Tell whether a new row needs a value for a column, because nobody else fills it."""
    return not (
        column.nullable
        or column.default is not None
        or column.server_default is not None
        or column.computed is not None
        or column.identity is not None
        or (column.primary_key and column.autoincrement)
    )
