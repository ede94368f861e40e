"""Which rows of a table are the desk's, and what a new one has, as the options say it.

Law of this file: columns and typed texts in, conditions and values out; it asks no database. A row that may be deleted
is nobody's to guess about: whoever has such a table says what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Boolean, Column, ColumnElement, DateTime, Integer, String, Table, Uuid, and_

from ticketrouter.checks import Id
from ticketrouter.cli.fatal import FatalError

_MARKS = frozenset(
    f"{before}{stem}{after}"
    for stem in ("deleted", "softdeleted", "removed", "archived", "trashed", "discarded")
    for before, after in (("", ""), ("is", ""), ("", "at"), ("", "on"), ("", "time"))
) | {"deletetime", "deletiontime"}
"""What columns are called that tell which rows are deleted, in lower case and without what joins the words."""
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_LENGTH_OF_UUID = len(str(UUID(int=0)))


def value_of(option: str, table: Table, name: str | None, text: str) -> Any:
    """Return a value that was typed as a column takes it.

    Raises:
        FatalError: if there is no such column, or it has no such values.
    """
    column = _column(option, table, name)
    try:
        match column.type:
            case Boolean():
                return _TRUTHS[text.lower()]
            case Integer():
                return int(text)
            case DateTime():
                return datetime.fromisoformat(text)
            case Uuid(as_uuid=True):
                return UUID(text)
            case _:
                return text
    except (ValueError, KeyError):
        raise FatalError(
            f"{option}: {table.fullname}.{column.name} is of type {column.type}, which has no {text!r}"
        ) from None


def _column(option: str, table: Table, name: str | None) -> Column[Any]:
    column = None if name is None else table.columns.get(name)
    if column is None:
        which = "for it" if name is None else repr(name)
        raise FatalError(f"{option}: {table.fullname} has no column {which}")
    return column


def condition(table: Table, where: Mapping[str, str]) -> ColumnElement[bool] | None:
    """Return what the rows of the desk meet: each of these columns has its value, or NULL where that is empty.

    Raises:
        FatalError: if there is no such column, or it has no such values.
    """
    met = [_met(table, name, text) for name, text in where.items()]
    return and_(*met) if met else None


def _met(table: Table, name: str, text: str) -> ColumnElement[bool]:
    option = f"--where {name}={text}"
    column = _column(option, table, name)
    if text == "":
        return column.is_(None)
    value = value_of(option, table, name, text)
    same: ColumnElement[bool] = column == value
    # Of a flag that is NULL nobody has said that it is set.
    return column.is_(None) | same if value is False and column.nullable else same


def check_marks(table: Table, said: Collection[str | None], left_out: Collection[str] | None) -> None:
    """Refuse a table that seems to tell which rows are deleted, where nobody says whether these count, or both.

    Args:
        table: the table.
        said: the columns that something is said of.
        left_out: the columns of `--where`, where `--with-deleted` says that deleted rows count; None: it does not.

    Raises:
        FatalError: if there is such a column.
    """
    marks = [c for c in table.columns if c.name.lower().replace("_", "").replace("-", "") in _MARKS]
    if left_out is not None:
        for column in marks:
            if column.name in left_out:
                raise FatalError(
                    f"--with-deleted and --where {column.name}=... exclude each other: by the one deleted rows count, by the "
                    "other they are not the desk's"
                )
        return
    for column in marks:
        if column.name in said:
            continue
        raise FatalError(
            f"{table.fullname}.{column.name} looks as if it told which rows are deleted, and a deleted ticket would count "
            f"like a living one: say --where {column.name}={_living(column)} if {_who(column)} are not the desk's, or "
            "--with-deleted if they are"
        )


def _living(column: Column[Any]) -> str:
    """Return what such a column has in a row that is not deleted, as far as its type tells."""
    match column.type:
        case Boolean():
            return "false"
        case _ if column.nullable:
            return ""
        case Integer():
            return "0"
        case _:
            return "VALUE"


def _who(column: Column[Any]) -> str:
    living = _living(column)
    return "rows that have something there" if living == "" else f"rows with another value than {living}"


def of_new_row(table: Table, where: Mapping[str, str], by_fields: Iterable[Any]) -> dict[str, Any]:
    """Return what a new row must have so that it is the desk's, beside what its fields and the database fill."""
    taken = set(by_fields)
    return {
        name: value_of(f"--where {name}={text}", table, name, text)
        for name, text in where.items()
        if text != "" and name not in taken and table.columns[name].computed is None
    }


def uuid_maker(table: Table, name: str) -> Callable[[], Id]:
    """Return what makes a random UUID as a column takes it.

    Raises:
        FatalError: if there is no such column, or it takes none.
    """
    option = f"--uuid {name}"
    column = _column(option, table, name)
    match column.type:
        case Uuid(as_uuid=True):
            return uuid4
        case Uuid():
            return lambda: str(uuid4())
        case String(length=length) if length is None or length >= _LENGTH_OF_UUID:
            return lambda: str(uuid4())
        case _:
            raise FatalError(
                f"{option}: {table.fullname}.{name} is of type {column.type}, which has no room for a UUID; a mapping of "
                "your own, by --mapping, makes other values (new_id, on_create)"
            )


def stand_ins(table: Table, columns: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what may stand for none in columns that are never NULL, where it is only read."""
    found: dict[str, Any] = {}
    for field in ("user_id", "queue_id", "closed_at"):
        column = table.columns.get(columns[field] or "")
        if column is None or column.nullable:
            continue
        match column.type:
            case Integer():
                found[field] = 0
            case DateTime():
                found[field] = datetime(1970, 1, 1, tzinfo=UTC)
            case Uuid(as_uuid=True):
                found[field] = UUID(int=0)
            case _:
                found[field] = ""
    return found
