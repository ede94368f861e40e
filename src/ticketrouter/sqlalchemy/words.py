"""Status words in a column, whose collation may take two of them for one.

Law of this file: to the scheme words are equal to the letter, to the database as the column's collation has it. What
the database takes for active is active, because its unique rule does so too; what is closed may be reopened only if
its word is, to the letter, one that the scheme has. Where all words are the scheme's, nothing here is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from attrs import evolve
from sqlalchemy import ColumnElement, String, case, literal_column

from ticketrouter.decisions import Snapshot
from ticketrouter.model import Ticket
from ticketrouter.moves import Survey
from ticketrouter.sqlalchemy.schema import quoted
from ticketrouter.sqlalchemy.stored_status import StoredStatus

_T = TypeVar("_T")


def taken_for(status: ColumnElement[Any], words: Iterable[str], stored: StoredStatus) -> ColumnElement[Any]:
    """Return which of some words the database takes a status for; NULL: none of them."""
    found = (
        (status == literal_column(stored.literal(word)), literal_column(quoted(word), String))
        for word in sorted(words)
    )
    return case(*found, else_=None)


def tickets_of(answer: object) -> Iterator[Ticket]:
    """Give the tickets of an answer that may be active: all but those that the database has said are closed."""
    match answer:
        case Ticket():
            yield answer
        case Snapshot():
            yield from answer.active
            single = (answer.joined, answer.occupant, answer.routed)
            yield from (ticket for ticket in single if ticket is not None)
        case Survey():
            yield from answer.rivals
            if answer.occupant is not None:
                yield answer.occupant
        case list():
            for each in answer:
                yield from tickets_of(each)
        case _:
            pass


def replaced(answer: _T, of: Callable[[Ticket], Ticket]) -> _T:
    """Return an answer with others in place of its tickets, those of `tickets_of`."""
    found: Any = answer

    def optional(ticket: Ticket | None) -> Ticket | None:
        return None if ticket is None else of(ticket)

    match found:
        case Ticket():
            found = of(found)
        case Snapshot():
            found = evolve(
                found,
                active=map(of, found.active),
                joined=optional(found.joined),
                occupant=optional(found.occupant),
                routed=optional(found.routed),
            )
        case Survey():
            found = evolve(found, rivals=map(of, found.rivals), occupant=optional(found.occupant))
        case list():
            found = [replaced(each, of) for each in found]
        case _:
            pass
    return found  # type: ignore[no-any-return]
