"""Whether the columns that a database has are what the Table declares them as, as far as statements depend on it.

Law of this file: as in `ticketrouter.sqlalchemy.filling`. What would be compared, cut off or moved in silence is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo

from attrs import frozen
from sqlalchemy import CHAR, Column, Dialect, Enum, String
from sqlalchemy.dialects.postgresql import CITEXT

from ticketrouter.sqlalchemy.columns import KEY, MappingError, full_name
from ticketrouter.sqlalchemy.facts import ColumnFacts
from ticketrouter.sqlalchemy.filling import facts_of
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.types import UtcDateTime, bare, is_time
from ticketrouter.wording import Wording, listed, passing

_IDS = frozenset({"id", *KEY})


@frozen
class Misdeclared:
    """A column that is not what it is declared as.

    Args:
        column: its name.
        told: what is wrong.
        advice: what to do about it.
        is_sure: whether it is wrong in any case; else it depends on who else writes the column.
    """

    column: str
    told: str
    advice: str
    is_sure: bool = True


def check_types(mapping: TicketMapping, facts: Mapping[str, ColumnFacts], dialect: Dialect) -> None:
    """Raise where columns of fields are surely not what they are declared as."""
    found = (each for each in misdeclared(mapping, facts, dialect) if each.is_sure)
    if told := listed((Wording(each.told, ": ", each.advice) for each in found), "; "):
        raise MappingError(told)


def misdeclared(
    mapping: TicketMapping, facts: Mapping[str, ColumnFacts], dialect: Dialect
) -> Iterator[Misdeclared]:
    """Give the columns of fields that are not what they are declared as."""
    for field, column in mapping.columns.items():
        found = facts_of(facts, column)
        if found is None:
            continue
        name = f"{full_name(column)} ({field})"
        if found.unfit:
            yield Misdeclared(column.name, f"{name} {found.unfit[0]}", found.unfit[1])
        if (wrong := _as_text(field, column, found, dialect)) is not None:
            told, advice = wrong
            yield Misdeclared(column.name, f"{name} {told}", advice)
        if found.clock and is_time(column.type, dialect):
            yield from _as_time(mapping, column, name, found)


def _as_text(
    field: str, column: Column[object], found: ColumnFacts, dialect: Dialect
) -> tuple[str, str] | None:
    """Say what is wrong with a text; None: nothing."""
    declared = bare(column.type, dialect)
    if not isinstance(declared, String) or isinstance(declared, Enum):
        return None
    of = "" if declared is column.type else ", of the type that its TypeDecorator is over"
    if found.pads and not isinstance(declared, CHAR):
        told = "is a CHAR in the database, which gives a shorter text back with blanks behind it"
        return told, f"declare it so in the Table, as CHAR(length){of}, or make it VARCHAR"
    if found.folds and field in _IDS and not isinstance(declared, CITEXT):
        told = f"is a citext in the database, which compares without case, and beside a {declared!r} with it"
        return told, f"declare it so in the Table, as CITEXT() of sqlalchemy.dialects.postgresql{of}"
    return None


def _as_time(
    mapping: TicketMapping, column: Column[object], name: str, found: ColumnFacts
) -> Iterator[Misdeclared]:
    """Give a time that comes in the zone of the session where that is not the mapping's."""
    zone = UTC if isinstance(column.type, UtcDateTime) else mapping.timezone
    if all(_called(moment, zone) == here for moment, here in found.clock):
        return
    made = [each for each in (column.default, column.onupdate) if each is not None]
    by_clock = found.by_clock or any(getattr(each, "is_clause_element", False) for each in made)
    yield Misdeclared(
        column.name,
        f"{name} is a {found.type.upper()}, which the database takes and gives in the time zone of the session, "
        f"{found.session_zone}, and the mapping reads it in {zone}"
        + ("; the database's own clock fills it, so the two would lie hours apart" if by_clock else ""),
        Wording(
            "pass ",
            passing("timezone", "ZoneInfo(...)"),
            " with the zone of the session, or begin each connection with SET time_zone = '+00:00'; where the desk "
            "itself writes it in another zone, a TypeDecorator of the column says so",
        ),
        is_sure=by_clock,
    )


def _called(moment: datetime, zone: tzinfo) -> datetime:
    """Return what a moment of UTC is called in a zone."""
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
