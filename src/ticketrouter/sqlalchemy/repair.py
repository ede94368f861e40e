"""The plan that closes duplicates: statements for the host to read, and to run when it likes.

Law of this file: it reads, and writes statements that it never sends. Each says again in its conditions why it
may close what it closes, so that a plan that is run late closes nothing that has become right meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Integer, func, literal_column, or_, select

from ticketrouter.sqlalchemy.audit_schema import judged_indexes
from ticketrouter.sqlalchemy.catalogue import indexes, table_name
from ticketrouter.sqlalchemy.codecs import EPOCH
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.findings import View
from ticketrouter.sqlalchemy.mapping import MappingError, TicketMapping
from ticketrouter.sqlalchemy.schema import quoted

BATCH = 500
"""How many tickets a statement closes at most."""
LONGEST_BATCH = 1_000


@frozen
class Closing:
    """A statement that closes some tickets.

    Args:
        what: what they are, for a comment.
        ticket_ids: their ids.
        statement: the statement, without a semicolon.
    """

    what: str
    ticket_ids: tuple[Any, ...]
    statement: str


Plan: TypeAlias = Iterator[Closing]
"""The statements of a plan, in their order; they are made as they are read."""


def plan_repair(
    connection: Connection, mapping: TicketMapping, *, batch: int = BATCH, orphans: bool = False
) -> Plan:
    """Write the statements that leave each key one active ticket: the most recently active, ties to the highest id.

    Args:
        connection: a connection to the database. The plan is read from it as it is iterated: make a list of it
            before anything else is sent.
        mapping: where the tickets are.
        batch: how many tickets a statement closes at most.
        orphans: whether active tickets without contact, connection or company are closed too.

    Returns:
        The statements, each safe to be run late, more than once, or not at all. None of them is sent here.

    Raises:
        MappingError: if it is no Connection, if the table is not there, or if a unique index does not let a second
            ticket of a key be closed.
        ValueError: if the batch is less than one or more than 1,000.
        RepositoryError: if the database refuses the query.

    Statements:
        Look-ups in the catalogue, and one `SELECT` of the tickets too many (with orphans two), whose rows are fetched
        as they are needed.
    """
    if not isinstance(connection, Connection):
        raise MappingError(
            f"a Connection is needed, not {type(connection).__name__}: with engine.connect() as connection: ..."
        )
    if not 1 <= batch <= LONGEST_BATCH:
        raise ValueError(f"a batch has from 1 to {LONGEST_BATCH:,} tickets, not {batch}")
    with translated():
        found = tuple(indexes(connection, mapping))
        _check_that_closing_is_allowed(connection, mapping, found)
    view = View(connection, mapping, found, frozenset(), 0)
    return _closings(view, batch, orphans=orphans)


def _check_that_closing_is_allowed(
    connection: Connection, mapping: TicketMapping, found: tuple[Any, ...]
) -> None:
    for judged in judged_indexes(connection, mapping, found):
        if judged.refuses_closing:
            raise MappingError(
                f"the unique index {judged.index.name} does not let a second ticket of a key be closed: drop it "
                "first, as `ticketrouter schema` says"
            )


def _closings(view: View, batch: int, *, orphans: bool) -> Generator[Closing]:
    writer = _Writer(view)
    with translated():
        for pairs in _batches(view, _too_many(view), batch):
            ids = tuple(ticket for ticket, _ in pairs)
            kept = tuple(dict.fromkeys(keeper for _, keeper in pairs))
            yield Closing("duplicates", ids, writer.close_duplicates(ids, kept))
        if orphans:
            for rows in _batches(view, _orphans(view), batch):
                ids = tuple(ticket for (ticket,) in rows)
                yield Closing("orphans", ids, writer.close_orphans(ids))


def _too_many(view: View) -> Any:
    """Select the tickets of a key that are not its most recently active one, by id, and beside each the one that is."""
    ticket = view.column("id")
    latest = (_last_change(view).desc(), ticket.desc())
    place = func.row_number().over(partition_by=view.key, order_by=latest).label("ticketrouter_place")
    first = func.first_value(ticket, type_=ticket.type)
    keeper = first.over(partition_by=view.key, order_by=latest).label("ticketrouter_keeper")
    ranked = select(ticket, keeper, place).where(view.active, view.complete).subquery()
    closed = ranked.c[ticket.key]
    return (
        select(closed, ranked.c.ticketrouter_keeper).where(ranked.c.ticketrouter_place > 1).order_by(closed)
    )


def _last_change(view: View) -> ColumnElement[Any]:
    """Return the time of the last change; some hosts leave it empty until there is one."""
    updated_at = view.column("updated_at")
    return func.coalesce(updated_at, literal_column(_never(view))) if updated_at.nullable else updated_at


def _never(view: View) -> str:
    return "0" if isinstance(view.column("updated_at").type, Integer) else "'1970-01-01 00:00:00'"


def _orphans(view: View) -> Any:
    missing = or_(*(column.is_(None) for column in view.key))
    return select(view.column("id")).where(view.active, missing).order_by(view.column("id"))


def _batches(view: View, query: Any, size: int) -> Iterator[tuple[Any, ...]]:
    streamed = {"stream_results": True, "max_row_buffer": size}
    with view.connection.execute(query, execution_options=streamed) as result:
        rows = iter(result)
        while batch := tuple(islice(rows, size)):
            yield batch


@frozen
class _Writer:
    """Writes the statements for one table."""

    view: View

    def close_duplicates(self, ids: tuple[Any, ...], kept: tuple[Any, ...]) -> str:
        """Close tickets while the one that stays is still what it was: active, of the same key, and used later."""
        table, status = self._table, self._column("status")
        mine, other = self._changed(table), self._changed("later")
        ticket = self._column("id")
        same = " AND ".join(f"later.{c} = {table}.{c}" for c in map(self._quote, self._key))
        return (
            f"{self._start(ids)}\n"  # noqa: S608 - names are quoted, ids and words are literals of their types
            f"  AND EXISTS (\n"
            f"    SELECT 1 FROM {table} AS later{self._by_primary_key}\n"
            f"    WHERE later.{ticket} IN ({', '.join(self._literals(kept))})\n"
            f"      AND {same}\n"
            f"      AND later.{status} IN ({self._active})\n"
            f"      AND ({other} > {mine}\n"
            f"        OR ({other} = {mine} AND later.{ticket} > {table}.{ticket}))\n"
            f"  )"
        )

    @property
    def _by_primary_key(self) -> str:
        """Keep MariaDB from reading, and locking, more of a contact's or a connection's tickets by another index."""
        return (
            "" if self.view.connection.dialect.name in {"postgresql", "sqlite"} else " FORCE INDEX (PRIMARY)"
        )

    def _changed(self, table: str) -> str:
        column = f"{table}.{self._column('updated_at')}"
        return (
            f"COALESCE({column}, {_never(self.view)})" if self.view.column("updated_at").nullable else column
        )

    def close_orphans(self, ids: tuple[Any, ...]) -> str:
        missing = " OR ".join(f"{self._quote(name)} IS NULL" for name in self._key)
        return f"{self._start(ids)}\n  AND ({missing})"

    def _start(self, ids: tuple[Any, ...]) -> str:
        status = self._column("status")
        closed = quoted(self.view.mapping.statuses.closed)
        return (
            f"UPDATE {self._table}{self._by_primary_key} SET {status} = {closed}{self._closing_time()}\n"  # noqa: S608 - as above
            f"WHERE {self._column('id')} IN ({', '.join(self._literals(ids))})\n"
            f"  AND {status} IN ({self._active})"
        )

    def _closing_time(self) -> str:
        """Set the time of closing to that of the last change: when the ticket was last in use."""
        if not self.view.has("closed_at"):
            return ""
        closed_at, updated_at = self._column("closed_at"), self._column("updated_at")
        counted = isinstance(self.view.column("closed_at").type, Integer)
        if counted is isinstance(self.view.column("updated_at").type, Integer):
            return f", {closed_at} = {updated_at}"
        # A count of seconds or milliseconds beside a column of times: now is what can be written down.
        if counted:
            return f", {closed_at} = {(datetime.now(UTC) - EPOCH) // self.view.mapping.epoch}"
        return f", {closed_at} = CURRENT_TIMESTAMP"

    @property
    def _table(self) -> str:
        return table_name(self.view.connection, self.view.mapping)

    @property
    def _key(self) -> list[str]:
        return [column.name for column in self.view.key]

    @property
    def _active(self) -> str:
        return ", ".join(quoted(word) for word in sorted(self.view.mapping.statuses.active))

    def _column(self, field: str) -> str:
        return self._quote(self.view.name(field))

    def _quote(self, name: str) -> str:
        return self.view.connection.dialect.identifier_preparer.quote(name)

    def _literals(self, ids: tuple[Any, ...]) -> Iterator[str]:
        dialect = self.view.connection.dialect
        write = self.view.column("id").type.dialect_impl(dialect).literal_processor(dialect)
        for id_ in ids:
            yield str(id_) if write is None or isinstance(id_, int) else write(id_)
