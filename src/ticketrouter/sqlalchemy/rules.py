"""Which unique rule a tickets table has, found by what it enforces, never by its name.

Law of this file: an index is what its columns, expressions and predicate do to made-up rows, and the database
itself is asked what they do. Nothing is written, and no row of the host is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from sqlalchemy import Connection, Enum, Integer, Uuid, bindparam, text

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import Index, indexes, quoted, table_name
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.mapping import KEY, MappingError, TicketMapping

_Value: TypeAlias = int | str | None


@frozen
class Detected:
    """The unique rule of a tickets table, and the index that enforces it.

    Args:
        rule: the rule.
        index: the index; None under UniqueRule.NONE.
        words: the statuses that it is about; None: all.
    """

    rule: UniqueRule
    index: Index | None = None
    words: frozenset[str] | None = None


def detect_unique_rule(connection: Connection, mapping: TicketMapping) -> UniqueRule:
    """Find which unique rule the tickets table enforces.

    Args:
        connection: a connection to the database.
        mapping: where the tickets are.

    Returns:
        The strictest rule that a unique index or constraint enforces; NONE if there is none.

    Raises:
        MappingError: if it is no Connection, if the table is not there, if an index is about other statuses than the scheme's, or if a
            constraint that matters is deferrable.

    Statements:
        One or two look-ups in the catalogue, and one `SELECT` without a table for each unique index.
    """
    if not isinstance(connection, Connection):
        raise MappingError(
            f"a Connection is needed, not {type(connection).__name__}: with engine.connect() as connection: ..."
        )
    with translated():
        return detect(connection, mapping).rule


def detect(connection: Connection, mapping: TicketMapping) -> Detected:
    """Find the unique rule and the index behind it: see `detect_unique_rule`."""
    found = [
        judged
        for index in indexes(connection, mapping)
        # An invalid one may have duplicates in it.
        if index.unique and index.valid and (judged := judge(connection, mapping, index)) is not None
    ]
    return max(found, key=lambda judged: STRICTNESS.index(judged.rule), default=Detected(UniqueRule.NONE))


STRICTNESS = (
    UniqueRule.NONE,
    UniqueRule.ACTIVE_PER_CONNECTION,
    UniqueRule.ONE_PER_CONNECTION,
    UniqueRule.ONE_PER_CONTACT,
)


# --- what an index does to made-up rows ----------------------------------------------------------------------

_MOVING = ("user_id", "queue_id")
"""The fields that change while a ticket is active."""


@frozen
class _Probe:
    """A made-up row: the values of some fields, and a status."""

    values: dict[str, _Value]
    status: str


@frozen
class _Seen:
    """What became of a probe: the value of each part of the index, and whether its predicate took the row."""

    parts: tuple[Any, ...]
    taken: bool

    @property
    def counts(self) -> bool:
        """Whether a second such row is refused: a unique index does not compare NULLs."""
        return self.taken and None not in self.parts


def judge(connection: Connection, mapping: TicketMapping, index: Index) -> Detected | None:
    """Tell the rule that one unique index enforces; None: it does not say how many tickets a key may have.

    Raises:
        MappingError: as `detect_unique_rule` does.
    """
    words = _known_words(mapping, index)
    fields = [field for field in KEY if field in mapping.columns]
    base = {field: _value(mapping, field, 0) for field in fields} | _group(mapping, of=False)
    first = min(mapping.statuses.active)
    changes = [
        *({field: _value(mapping, field, 1)} for field in fields),
        *({field: _value(mapping, field, 1)} for field in _MOVING if field in mapping.columns),
        _group(mapping, of=True),
    ]
    probes = [
        *(_Probe(base | _closing(mapping, word), word) for word in words),
        *(_Probe(base | change, first) for change in changes),
    ]
    seen = _ask(connection, mapping, index, probes)
    of_word, of_change = dict(zip(words, seen, strict=False)), seen[len(words) :]
    usual = of_word[first]
    covered = frozenset(word for word, row in of_word.items() if row.counts)
    if not covered or len({of_word[word].parts for word in covered}) > 1:
        return None  # it leaves every row alone, or tells statuses apart: it says nothing of a second ticket
    if any(row.counts is not usual.counts for row in of_change):
        return None  # some tickets are not in it
    if any(row.parts != usual.parts for row in of_change[len(fields) : -1]):
        return None  # a second ticket may be in it, under another agent or queue
    telling = {field for field, row in zip(fields, of_change, strict=False) if row.parts != usual.parts}
    return _rule(mapping, index, covered, frozenset(words), telling)


def _rule(
    mapping: TicketMapping,
    index: Index,
    covered: frozenset[str],
    known: frozenset[str],
    telling: set[str],
) -> Detected | None:
    active = mapping.statuses.active
    if "contact_id" not in telling or not covered & active:
        return None
    if index.deferrable:
        raise MappingError(
            f"the unique constraint {index.name} is deferrable, so no insert can ask whether a key is taken: make "
            "it anew without DEFERRABLE"
        )
    if "connection_id" not in telling:
        return Detected(UniqueRule.ONE_PER_CONTACT, index, None if covered == known else covered)
    if covered == known:
        return Detected(UniqueRule.ONE_PER_CONNECTION, index)
    if covered != active:
        raise MappingError(
            f"the unique index {index.name} is about the statuses {sorted(covered)}, and the StatusScheme says "
            f"that {sorted(active)} are active: pass statuses=StatusScheme(active=...) with the words of the "
            "index, or build the index anew with the words of the scheme"
        )
    return Detected(UniqueRule.ACTIVE_PER_CONNECTION, index, covered)


def _known_words(mapping: TicketMapping, index: Index) -> list[str]:
    """List the status words there are: the scheme's, the column's own, and those that the index speaks of."""
    column = mapping.columns["status"]
    words = set(mapping.statuses.active) | {mapping.statuses.closed}
    if isinstance(column.type, Enum):
        return sorted(words | set(column.type.enums))
    for sql in (index.predicate or "", *index.expressions()):
        words |= {word.replace("''", "'") for word in re.findall(r"'((?:[^'\\]|'')+)'", sql)}
    return sorted(words)


def _value(mapping: TicketMapping, field: str, which: int) -> _Value:
    match mapping.columns[field].type:
        case Integer():
            return which + 1
        case Uuid():
            return str(UUID(int=which + 1))
        case _:
            return "ab"[which]


def _closing(mapping: TicketMapping, word: str) -> dict[str, _Value]:
    """Whether a ticket has a time of closing follows from its status: a made-up row says it, as every real one does."""
    if "closed_at" not in mapping.columns or mapping.statuses.is_active(word):
        return {}
    counted = isinstance(mapping.columns["closed_at"].type, Integer)
    return {"closed_at": 1 if counted else "2026-01-01 00:00:00"}


def _group(mapping: TicketMapping, *, of: bool) -> dict[str, _Value]:
    """Whether a chat is a group follows from its contact: a made-up row says it, as every real one does."""
    if "is_group" not in mapping.columns:
        return {}
    return {"is_group": int(of) if isinstance(mapping.columns["is_group"].type, Integer) else of}


def _ask(connection: Connection, mapping: TicketMapping, index: Index, probes: list[_Probe]) -> list[_Seen]:
    rows = (
        _populated_rows(connection, mapping, probes)
        if connection.dialect.name == "postgresql"
        else _literal_rows(connection, mapping, probes)
    )
    parts = ", ".join(f"({_escaped(part)}) AS ticketrouter_{n}" for n, part in enumerate(index.expressions()))
    taken = "1=1" if index.predicate is None else _escaped(index.predicate)
    query = (
        f"SELECT CASE WHEN {taken} THEN 1 ELSE 0 END AS ticketrouter_taken, {parts} "  # noqa: S608 - the catalogue's own
        f"FROM {rows} ORDER BY ticketrouter_n"
    )
    values = {f"p{n}_{field}": value for n, probe in enumerate(probes) for field, value in _cells(probe)}
    if connection.dialect.name == "postgresql":
        values = {f"p{n}": json.dumps(dict(_named_cells(mapping, probe))) for n, probe in enumerate(probes)}
    statement = text(query).bindparams(*(bindparam(name, value) for name, value in values.items()))
    return [_Seen(tuple(row[1:]), bool(row[0])) for row in connection.execute(statement)]


def _cells(probe: _Probe) -> Iterator[tuple[str, _Value]]:
    yield from probe.values.items()
    yield "status", probe.status


def _named_cells(mapping: TicketMapping, probe: _Probe) -> Iterator[tuple[str, _Value]]:
    for field, value in _cells(probe):
        yield mapping.columns[field].name, value


def _populated_rows(connection: Connection, mapping: TicketMapping, probes: list[_Probe]) -> str:
    """Let PostgreSQL make rows of the table's own type; columns that are not named are NULL."""
    table = _escaped(table_name(connection, mapping))
    values = ", ".join(f"({n}, CAST(:p{n} AS jsonb))" for n in range(len(probes)))
    return (
        f"(VALUES {values}) AS ticketrouter_rows(ticketrouter_n, ticketrouter_row) CROSS JOIN LATERAL "
        f"jsonb_populate_record(CAST(NULL AS {table}), ticketrouter_row) AS ticketrouter_ticket"
    )


def _literal_rows(connection: Connection, mapping: TicketMapping, probes: list[_Probe]) -> str:
    names = {column.name: field for field, column in mapping.columns.items()}

    def row(n: int, probe: _Probe) -> str:
        given = dict(_cells(probe))
        cells = (
            f"{f':p{n}_{field}' if (field := names.get(column.name)) in given else 'NULL'} "
            f"AS {_escaped(quoted(connection, column.name))}"
            for column in mapping.table.columns
        )
        return f"SELECT {n} AS ticketrouter_n, {', '.join(cells)}"

    return f"({' UNION ALL '.join(row(n, probe) for n, probe in enumerate(probes))}) AS ticketrouter_ticket"


def _escaped(sql: str) -> str:
    return sql.replace(":", r"\:")
