"""How a database keeps the columns of our own tables, and tells words apart.

Law of this file: it knows no database. Each room of `dialects` says it of its own, by the class of SQLAlchemy's dialect,
so that whatever stands below the rooms can ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import singledispatch
from typing import Any

from attrs import field, frozen
from sqlalchemy import DDL, ColumnElement, DateTime, Dialect, LargeBinary, String, Table
from sqlalchemy.types import TypeEngine


def _as_it_is(word: ColumnElement[Any]) -> ColumnElement[Any]:
    return word


def _nothing(_table: Table, _active: str) -> Iterable[DDL]:
    return ()


@frozen(eq=False)
class Storage:
    """How one database keeps values; the defaults are what most databases do.

    Args:
        url: what SQLAlchemy calls the database, with a driver.
        ids: the type of ids, whose collation tells cases, accents and trailing spaces apart.
        times: the type of times, to the microsecond and, where there are zones, with one.
        digests: the type of 32 bytes that a primary key takes.
        is_wide: whether it keeps 64 bits in every integer column.
        keeps_zones: whether it has times with a zone.
        pads_chars: whether a CHAR gives a shorter text back with blanks behind it.
        rounds_times: whether a time of more digits than its column keeps becomes the nearest; else it is cut off.
        json_has_texts: whether its drivers read a time as one, where it stands alone, and in JSON as a text.
        to_the_letter: what makes of a word of the status column one such that no two are equal.
        bytes_literal: how bytes stand in a statement.
        has_partial_indexes: whether an index can be about some of the rows.
        after_create: what our tickets table is altered by, after it was made, where these statuses are active.
    """

    url: str = "sqlite+pysqlite"
    ids: TypeEngine[str] = field(factory=lambda: String(255))
    times: TypeEngine[datetime] = field(factory=DateTime)
    digests: TypeEngine[bytes] = field(factory=lambda: LargeBinary(32))
    is_wide: bool = False
    keeps_zones: bool = False
    pads_chars: bool = False
    rounds_times: bool = False
    json_has_texts: bool = False
    to_the_letter: Callable[[ColumnElement[Any]], ColumnElement[Any]] = _as_it_is
    bytes_literal: Callable[[bytes], str] = lambda value: f"x'{value.hex()}'"
    has_partial_indexes: bool = True
    after_create: Callable[[Table, str], Iterable[DDL]] = _nothing


MICROSECONDS = 6
"""How many digits of a second a time has here."""
_USUAL = Storage()


@singledispatch
def storage_of(_dialect: Dialect) -> Storage:
    """Return how the database of one of SQLAlchemy's dialects keeps values."""
    return _USUAL
