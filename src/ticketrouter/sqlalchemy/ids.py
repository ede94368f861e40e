"""Which index keeps two rows of a tickets table from having one id.

Law of this file: statements name rows by their id alone, so the id alone must be unique. An index over more columns,
over some of the rows, or one that compares otherwise than the column does, proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.facts import Index
from ticketrouter.sqlalchemy.mapping import TicketMapping


def index_of_ids(mapping: TicketMapping, found: Iterable[Index]) -> Index | None:
    """Return the index that proves the id unique, the primary key's before others; None: nothing does."""
    of_ids = (index for index in _about_ids(mapping, found) if not _why_not(index))
    return min(of_ids, key=lambda index: (not index.primary, index.name), default=None)


def proved_index_of_ids(mapping: TicketMapping, found: Iterable[Index]) -> Index:
    """Return the index that proves the id unique.

    Raises:
        MappingError: if nothing does.
    """
    found = tuple(found)
    index = index_of_ids(mapping, found)
    if index is None:
        raise MappingError(f"{what_is_not_proved(mapping, found)}: {what_proves_it(mapping)}")
    return index


def what_is_not_proved(mapping: TicketMapping, found: Iterable[Index]) -> str:
    """Say that two rows may have one id, and what each unique index of ids lacks."""
    column, table = mapping.columns["id"].name, mapping.table.fullname
    told = f"nothing keeps two rows of {table} from having one {column}, by which tickets are changed"
    lacking = "; ".join(f"{index.name} does not: {_why_not(index)}" for index in _about_ids(mapping, found))
    return f"{told} ({lacking})" if lacking else told


def what_proves_it(mapping: TicketMapping) -> str:
    """Say what to do about it."""
    column = mapping.columns["id"].name
    return f"make {column} the primary key, or add a unique index on {column} alone; a view has none: map its table"


def _about_ids(mapping: TicketMapping, found: Iterable[Index]) -> Iterator[Index]:
    column = mapping.columns["id"].name
    return (index for index in found if index.unique and column in index.columns)


def _why_not(index: Index) -> str:
    """Say why an index with the id in it does not prove it unique; empty: it does."""
    if len(index.columns) > 1:
        return f"it is over {', '.join(index.parts)} together"
    if index.predicate is not None:
        return "it is about some of the rows"
    if not index.valid:
        return "it is invalid, as building it was broken off"
    if index.deferrable:
        return "it is deferrable"
    return index.unfit
