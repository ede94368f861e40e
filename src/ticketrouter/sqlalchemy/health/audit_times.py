"""The check of an audit that looks at times: whether what is stored can be the time of a ticket.

Law of this file: as that of `audit_rows`. A time that is far off is most often read by another unit, or in another
zone, than it was written in; then windows of reopening and the order of tickets are wrong, and nothing else tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, DateTime, Integer, bindparam, func, or_, select
from sqlalchemy.exc import DataError

from ticketrouter.sqlalchemy.columns import TIMES
from ticketrouter.sqlalchemy.dialects.base import Level
from ticketrouter.sqlalchemy.health.findings import Check, Observation, View, counted, said
from ticketrouter.sqlalchemy.types import UtcDateTime
from ticketrouter.wording import Wording, passing

_FIRST = datetime(1990, 1, 1, tzinfo=UTC)
"""No desk has a ticket that is older."""
_AHEAD = timedelta(days=1)
"""How far a clock, or a zone, may be ahead."""
_UNITS = {
    "seconds": timedelta(seconds=1),
    "milliseconds": timedelta(milliseconds=1),
    "microseconds": timedelta(microseconds=1),
}


def times(view: View) -> Iterator[Observation]:
    """Count the rows that were made or changed when no ticket can have been."""
    fields = [field for field in TIMES if field in view.mapping.columns and _can_be_compared(view, field)]
    if not fields:
        return
    asked = [ask for field in fields for ask in _asked(view, field)]
    found = view.connection.execute(select(*asked).select_from(view.table).where(*view.of_desk)).one()
    seen = [
        _observed(view, field, *found[place : place + 2])
        for place, field in zip(range(0, len(asked), 2), fields, strict=True)
        if found[place + 1]
    ]
    yield from seen or [
        Observation(Check.TIMES, Level.OK, "every ticket was made and changed at a time that can be")
    ]


def _can_be_compared(view: View, field: str) -> bool:
    return isinstance(view.bare(field), Integer | DateTime | UtcDateTime)


def _asked(view: View, field: str) -> list[Any]:
    """Return what is asked: how many rows have the time, and how many cannot have had it."""
    column = view.column(field)
    encode = view.mapping.codecs(view.connection.dialect)[field].encode
    low, high = (_sent(column, encode(at)) for at in (_FIRST, datetime.now(UTC) + _AHEAD))
    return [
        func.count(column),
        counted(or_(column < low, column > high)),
    ]


def _first_and_last(view: View, field: str) -> tuple[Any, Any] | None:
    """Return the first time and the last, as stored; None: the driver cannot read one of them."""
    column = view.column(field)
    ends = func.min(column, type_=column.type), func.max(column, type_=column.type)
    try:
        first, last = view.connection.execute(
            select(*ends).select_from(view.table).where(*view.of_desk)
        ).one()
    except (ValueError, OverflowError, DataError):
        return None  # as `infinity` of PostgreSQL, or a text that is no time on SQLite
    return first, last


def _sent(column: Column[Any], value: Any) -> Any:
    return bindparam(None, value, column.type, unique=True)


def _observed(view: View, field: str, every: int, wrong: int) -> Observation:
    column, ends = view.column(field), _first_and_last(view, field)
    decode = view.mapping.codecs(view.connection.dialect)[field].decode
    when = " to ".join(_shown(decode(each)) for each in dict.fromkeys(ends or (None,)))
    last = None if ends is None else ends[1]
    # Of most rows it is how they are read; a few may be what somebody has written once.
    level = Level.FINDING if 2 * wrong > every else Level.NOTE
    return Observation(
        Check.TIMES,
        level,
        f"{said(int(wrong), 'row')} of {int(every):,} cannot have had {column.name} ({field}) as it is read, before 1990 or "
        f"after tomorrow: {when}",
        _advice(view, field, last if isinstance(last, int) else None),
        int(wrong),
    )


def _shown(at: Any) -> str:
    return at.isoformat(timespec="seconds") if isinstance(at, datetime) else "no time at all"


def _advice(view: View, field: str, last: int | None) -> Wording:
    """Say by which unit, or in which zone, the times may have been meant."""
    if not isinstance(view.bare(field), Integer):
        return Wording(
            "find out what writes them; of times that keep no zone ",
            passing("timezone", "ZoneInfo(...)"),
            " says which it is",
        )
    now = datetime.now(UTC)
    fitting = [
        name
        for name, unit in _UNITS.items()
        if last is not None and _FIRST <= _read(last, unit) <= now + _AHEAD
    ]
    told = f" (they look like {fitting[0]})" if fitting else ""
    return Wording("say what they count, with ", passing("epoch", "timedelta(...)"), told)


def _read(number: int, unit: timedelta) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + number * unit
    except ArithmeticError:
        return datetime.max.replace(tzinfo=UTC)
