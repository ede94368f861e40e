"""The plan that closes duplicates: statements for the host to read, and to run when it likes.

Law of this file: it reads, and writes statements that it never sends. Each says again in its conditions why it
may close what it closes, so that a plan that is run late closes nothing that has become right meanwhile. Names, ids
and words come into a statement by `names` alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, Integer, func, literal_column, or_, select

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import catalogue_of, indexes
from ticketrouter.sqlalchemy.codecs import EPOCH
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.filling import check_there
from ticketrouter.sqlalchemy.health.findings import View
from ticketrouter.sqlalchemy.ids import proved_index_of_ids
from ticketrouter.sqlalchemy.mapping import TicketMapping, check_place
from ticketrouter.sqlalchemy.names import Names, plain_dialect
from ticketrouter.sqlalchemy.rules import Judged, judged_indexes
from ticketrouter.sqlalchemy.stored_words import StoredWords
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.sqlalchemy.types import bare

__all__ = ["BATCH", "Closing", "Plan", "plan_repair"]

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
        MappingError: if it is no Connection, or one in AUTOCOMMIT, if the table is not there, if nothing keeps two rows from
            having one id, or if a unique index does not let a second ticket of a key be closed.
        ValueError: if the batch is less than one or more than 1,000.
        RepositoryError: if the database refuses the query.

    Statements:
        Look-ups in the catalogue, and one `SELECT` of the tickets too many (with orphans two), whose rows are fetched
        as they are needed.
    """
    check_place(connection, mapping)
    if not 1 <= batch <= LONGEST_BATCH:
        raise ValueError(f"a batch has from 1 to {LONGEST_BATCH:,} tickets, not {batch}")
    with translated():
        if is_autocommit(connection):
            raise MappingError("a plan is read in one transaction: use a connection without AUTOCOMMIT")
        found = tuple(indexes(connection, mapping))
        if found:
            check_there(mapping, found[0].table, by_case=catalogue_of(connection).tells_cases)
        proved_index_of_ids(mapping, found)
        judged = tuple(judged_indexes(connection, mapping, found))
        _check_that_closing_is_allowed(judged)
    view = View(connection, mapping, found, judged, 0)
    return _closings(view, batch, orphans=orphans)


def _check_that_closing_is_allowed(judged: Sequence[Judged]) -> None:
    ruled = any(each.rule is not UniqueRule.NONE for each in judged)
    for each in judged:
        if each.refuses_closing:
            raise MappingError(
                f"the unique index {each.index.name} does not let a second ticket of a key be closed: drop it "
                "first, as `ticketrouter schema` says"
            )
        if each.is_narrower and not ruled:
            columns = ", ".join(each.by)
            raise MappingError(
                f"the unique index {each.index.name} lets a key have several active tickets, told apart by {columns}: "
                "what would be closed as a duplicate may be none. Close what is too much by hand, or drop the index "
                "first if only the latest ticket of each key is to stay active"
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
    place = func.row_number().over(partition_by=view.exact_key, order_by=latest).label("ticketrouter_place")
    first = func.first_value(ticket, type_=ticket.type)
    keeper = first.over(partition_by=view.exact_key, order_by=latest).label("ticketrouter_keeper")
    # By a name of ours: MariaDB takes leading blanks from the name of a column of a sub-query.
    closes = ticket.label("ticketrouter_id")
    ranked = select(closes, keeper, place).where(view.active, view.complete).subquery()
    closed = ranked.c.ticketrouter_id
    return (
        select(closed, ranked.c.ticketrouter_keeper).where(ranked.c.ticketrouter_place > 1).order_by(closed)
    )


def _last_change(view: View) -> ColumnElement[Any]:
    """Return the time of the last change; some hosts leave it empty until there is one."""
    changed_at = view.mapping.last_change
    return func.coalesce(changed_at, literal_column(_never(view))) if changed_at.nullable else changed_at


def _never(view: View) -> str:
    return "0" if _counts_changes(view) else "'1970-01-01 00:00:00'"


def _counts_changes(view: View) -> bool:
    """Tell whether the time of the last change is a whole number."""
    return isinstance(bare(view.mapping.last_change.type, view.connection.dialect), Integer)


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
        table = self._table
        later = "later" if self.view.table.name.lower() != "later" else "later_one"
        mine, other = self._changed(table), self._changed(later)
        ticket = self._column("id")
        same = " AND ".join(f"{later}.{c} = {table}.{c}" for c in map(self._quote, self._key))
        return (
            f"{self._start(ids)}\n"  # noqa: S608 - names are quoted, ids and words are literals of their types
            f"  AND EXISTS (\n"
            f"    SELECT 1 FROM {table} AS {later}{self._by_id}\n"
            f"    WHERE {later}.{ticket} IN ({', '.join(self._literals(kept))})\n"
            f"      AND {same}\n"
            f"      AND {self._is_active(later)}{self._of_desk(later)}\n"
            f"      AND ({other} > {mine}\n"
            f"        OR ({other} = {mine} AND {later}.{ticket} > {table}.{ticket}))\n"
            f"  )"
        )

    @property
    def _by_id(self) -> str:
        """Keep the database from finding the rows by another index than that of their ids."""
        index = proved_index_of_ids(self.view.mapping, self.view.indexes)
        return self.view.database.catalogue.hint(index)

    def _changed(self, table: str) -> str:
        changed_at = self.view.mapping.last_change
        column = f"{table}.{self._quote(changed_at.name)}"
        return f"COALESCE({column}, {_never(self.view)})" if changed_at.nullable else column

    def close_orphans(self, ids: tuple[Any, ...]) -> str:
        missing = " OR ".join(f"{self._quote(name)} IS NULL" for name in self._key)
        return f"{self._start(ids)}\n  AND ({missing})"

    def _start(self, ids: tuple[Any, ...]) -> str:
        return (
            f"UPDATE {self._table}{self._by_id} SET {', '.join(self._closing())}\n"  # noqa: S608 - as above
            f"WHERE {self._column('id')} IN ({', '.join(self._literals(ids))})\n"
            f"  AND {self._is_active()}{self._of_desk()}"
        )

    def _of_desk(self, of: str | None = None) -> str:
        """Demand that a row, of a table of another name here, exists for the desk."""
        where, table = self.view.mapping.where, self._table if of is None else of
        if where is None:
            return ""
        dialect = plain_dialect(self._names.url)
        return f" AND {where.sql(dialect, lambda name: f'{table}.{self._quote(name)}')}"

    def _closing(self) -> Iterator[str]:
        """Give what is set when a ticket is closed: the word, and the time of the last change, when it was last in use."""
        words = self.view.words
        if isinstance(words, StoredWords):
            closed = words.constant(self.view.mapping.statuses.closed)
            yield f"{self._column('status')} = {self._names.literal(closed)}"
        if self.view.has("closed_at"):
            yield f"{self._column('closed_at')} = {self._time_of_closing()}"

    def _time_of_closing(self) -> str:
        counted = isinstance(self.view.bare("closed_at"), Integer)
        if counted is _counts_changes(self.view):
            # Where it is what closes the ticket, it must be one.
            is_needed = not self.view.has("status")
            return (
                self._changed(self._table) if is_needed else self._quote(self.view.mapping.last_change.name)
            )
        # A count of seconds or milliseconds beside a column of times: now is what can be written down.
        if counted:
            return f"{(datetime.now(UTC) - EPOCH) // self.view.mapping.epoch}"
        zone = self.view.mapping.timezone
        return "CURRENT_TIMESTAMP" if zone is UTC else f"'{datetime.now(zone):%Y-%m-%d %H:%M:%S}'"

    @property
    def _names(self) -> Names:
        return self.view.database.names

    @property
    def _table(self) -> str:
        name, schema = self.view.table.name, self.view.schema
        return self._names.dotted((name,) if schema is None else (schema, name))

    @property
    def _key(self) -> list[str]:
        return [column.name for column in self.view.key]

    def _is_active(self, of: str | None = None) -> str:
        """Demand that a row, of a table of another name here, is active."""
        told_by = self._quote(self.view.mapping.told_by.name)
        told_by = told_by if of is None else f"{of}.{told_by}"
        return self.view.words.sql(self.view.mapping.statuses.active, told_by, self._names.literal)

    def _column(self, field: str) -> str:
        return self._quote(self.view.name(field))

    def _quote(self, name: str) -> str:
        return self._names.identifier(name)

    def _literals(self, ids: tuple[Any, ...]) -> Iterator[str]:
        """Write ids as the column stores them."""
        dialect = self.view.connection.dialect
        stored = self.view.column("id").type.dialect_impl(dialect).bind_processor(dialect)
        for id_ in ids:
            value = id_ if stored is None else stored(id_)
            yield self._names.literal(bytes(value) if isinstance(value, memoryview) else value)
