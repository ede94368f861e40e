"""What ours sends, seen on the wire, so that others can send the very same.

Law of this file: it knows nothing of the library's statements. It lets ours route two probes, notes each
statement with its values, and tells by the values what stands for the contact, the time and the ticket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import randrange
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import Connection, event
from sqlalchemy.sql.base import Executable

from benchmarks.cells import COMPANY, CONNECTION, FIRST_CONTACT, Arrival, Cell
from benchmarks.contenders.ours import message_of
from benchmarks.stands import MAPPING
from ticketrouter import Outcome, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository

MOMENT = datetime(2026, 7, 8, 9, 10, 11, 121314, tzinfo=UTC)
ON_SQLITE = "%Y-%m-%d %H:%M:%S.%f"

Fill: TypeAlias = Callable[[Arrival, datetime, Any], Any]
"""What makes a statement's values, of what has arrived, the time and the id of the ticket."""


@frozen
class Step:
    """One statement: as SQLAlchemy has it, and as the driver was given it."""

    element: Executable
    fill_named: Fill
    sql: str
    fill_given: Fill


@frozen
class Recording:
    """What finds and bumps an active ticket, in order, and the one statement that makes a new one."""

    hit: tuple[Step, ...]
    create: Step


def record(connection: Connection, cell: Cell) -> Recording:
    """Watch ours route a message of somebody who has a ticket, and one of somebody who has none.

    Args:
        connection: a connection of the driver in question, outside a transaction.
        cell: whose stand has tickets.

    Returns:
        What was sent. What the probes wrote is rolled back, unless the connection is in autocommit.
    """
    stranger = Arrival(FIRST_CONTACT - 1 - randrange(10**9), CONNECTION)
    return Recording(
        tuple(_sent(connection, acquaintance(cell), Outcome.REUSED)),
        *_sent(connection, stranger, Outcome.CREATED, only_inserts=True),
    )


def acquaintance(cell: Cell) -> Arrival:
    """Return a message of somebody who has one ticket."""
    return Arrival(FIRST_CONTACT + cell.stand.contacts - 1, CONNECTION)


def _sent(
    connection: Connection, probe: Arrival, expected: Outcome, *, only_inserts: bool = False
) -> list[Step]:
    seen: list[tuple[Any, Any]] = []

    def watch(_conn: object, _cursor: object, _sql: str, given: Any, context: Any, _many: bool) -> None:
        seen.append((context, given))

    repository = SQLAlchemyTicketRepository(connection, MAPPING)
    router = TicketRouter(repository, clock=lambda: MOMENT)
    repository.get(COMPANY, 1)  # whatever is found out once about an engine is asked now
    event.listen(connection, "before_cursor_execute", watch)
    try:
        resolution = router.resolve(message_of(probe))
    finally:
        event.remove(connection, "before_cursor_execute", watch)
        connection.rollback()
    assert resolution.outcome is expected, resolution
    ticket_id = resolution.ticket.id
    return [
        Step(
            context.compiled.statement,
            _filler(context.compiled_parameters[0], probe, ticket_id),
            context.statement,
            _filler(given, probe, ticket_id),
        )
        for context, given in seen
        if context.isinsert or not only_inserts
    ]


def _filler(values: Mapping[str, Any] | Sequence[Any], probe: Arrival, ticket_id: Any) -> Fill:
    """Return what makes such values again, for another arrival, time and ticket."""
    items = list(values.items() if isinstance(values, Mapping) else enumerate(values))
    at = {str(value): place for place, value in enumerate(probe) if value is not None}
    assert str(ticket_id) not in at, "the id of the ticket can be mistaken"
    arrived = [(place, type(value), at[str(value)]) for place, value in items if str(value) in at]
    times = [(place, form) for place, value in items if (form := _as_time(value)) is not None]
    ids = [place for place, value in items if type(value) is int and value == ticket_id]
    template = dict(values) if isinstance(values, Mapping) else list(values)

    def fill(arrival: Arrival, now: datetime, ticket_id: Any) -> Any:
        made: Any = template.copy()
        for place, kind, field in arrived:
            made[place] = str(arrival[field]) if kind is str else arrival[field]
        for place, form in times:
            made[place] = form(now)
        for place in ids:
            made[place] = ticket_id
        return made

    return fill


def _as_time(value: Any) -> Callable[[datetime], Any] | None:
    """Tell in which form the moment was sent, if it is that."""
    forms: tuple[Callable[[datetime], Any], ...] = (
        lambda now: now,
        lambda now: now.replace(tzinfo=None),
        lambda now: now.strftime(ON_SQLITE),
    )
    return next((form for form in forms if form(MOMENT) == value), None)


@frozen
class Finder:
    """Tells, in the rows of the first statement, the id of the ticket on the message's own connection."""

    id_at: int
    connection_at: int | None

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> Finder:
        """Learn it from the rows of an acquaintance, who has one ticket."""
        row = _cells(rows[0])
        words = [str(value) for value in row]
        connection_at = words.index(str(CONNECTION)) if str(CONNECTION) in words else None
        # Of the whole numbers in a row, the id comes first.
        return cls(next(at for at, value in enumerate(row) if type(value) is int), connection_at)

    def __call__(self, rows: Sequence[Sequence[Any]], arrival: Arrival) -> Any:
        """Return the id, or None where there is none on this connection."""
        if not rows or self.connection_at is None:
            return _cells(rows[0])[self.id_at] if rows else None
        here = str(arrival.connection)
        found = (_cells(row) for row in rows)
        return next((row[self.id_at] for row in found if str(row[self.connection_at]) == here), None)


def _cells(row: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a row, which on MariaDB is one JSON array."""
    if len(row) > 1:
        return row
    cells: Sequence[Any] = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return cells
