"""What SQLite says of a tickets table: by its PRAGMAs, and by the text of the table itself.

Law of this file: it reads what is there, and judges nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from attrs import evolve
from sqlalchemy import Connection, inspect, text

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.conditions import Condition, Token, columns_in, plain, tokens
from ticketrouter.sqlalchemy.dialects.base import Catalogue
from ticketrouter.sqlalchemy.dialects.sqlite.plans import NAMES
from ticketrouter.sqlalchemy.facts import (
    ColumnFacts,
    Index,
    Kept,
    Place,
    companion_names,
    escaped,
    no_table,
    quoted,
    schema_of,
    table_name,
)
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.proofs import Reading

# --- indexes -------------------------------------------------------------------------------------------------


def _place_of(connection: Connection, mapping: TicketMapping) -> tuple[dict[str, Any], str]:
    """Return what the PRAGMAs are asked with, and what stands before the names of a schema, in a text."""
    schema = schema_of(connection, mapping)
    prefix = "" if schema is None else f"{quoted(connection, schema)}."
    return {"table": mapping.table.name, "schema": schema}, escaped(prefix)


def _columns_there(connection: Connection, mapping: TicketMapping) -> tuple[Sequence[Any], str]:
    """Return what the PRAGMAs say of the columns, and the text of the table; empty: it is in another database."""
    place, in_text = _place_of(connection, mapping)
    there = connection.execute(
        text(
            'SELECT name, type, pk, "notnull", dflt_value, hidden, (SELECT COUNT(*) '  # noqa: S608
            "FROM pragma_index_list(:table, :schema) WHERE origin = 'pk') AS listed, "
            f"(SELECT sql FROM {in_text}sqlite_master WHERE type = 'table' AND lower(name) = lower(:table)) AS created "
            "FROM pragma_table_xinfo(:table, :schema)"
        ),
        place,
    ).all()
    if not there:
        raise no_table(mapping)
    return there, there[0].created or ""


def _row_number(there: Sequence[Any], created: str) -> str | None:
    """Return the column by whose number the table keeps its rows, which no PRAGMA lists as an index; None: there is none."""
    keys = [column.name for column in there if column.pk]
    is_listed = bool(there[0].listed)
    return keys[0] if len(keys) == 1 and created and not is_listed and not _is_virtual(created) else None


def _columns(connection: Connection, mapping: TicketMapping) -> Mapping[str, ColumnFacts]:
    return _told(connection, mapping, *_columns_there(connection, mapping))


def _told(
    connection: Connection, mapping: TicketMapping, there: Sequence[Any], created: str
) -> Mapping[str, ColumnFacts]:
    number, status = _row_number(there, created), mapping.told_by.name
    found = {column.name: _column_facts(column, created, is_number=column.name == number) for column in there}
    if status in found:
        demands = (
            *_of_type(connection, found[status]),
            *_checks(connection, found[status], created, tuple(found)),
            *_targets(connection, mapping),
        )
        found[status] = evolve(found[status], demands=demands)
    return MappingProxyType(found)


def _affinity(type_: str) -> str:
    """Return what becomes of values in a column of a type; empty: nothing."""
    found = next((affinity for kind, affinity in _AFFINITIES if kind in type_), "NUMERIC")
    return found if type_ else ""


_AFFINITIES = (
    ("INT", "INTEGER"),
    ("CHAR", "TEXT"),
    ("CLOB", "TEXT"),
    ("TEXT", "TEXT"),
    ("BLOB", ""),
    ("REAL", "REAL"),
    ("FLOA", "REAL"),
    ("DOUB", "REAL"),
)


def _of_type(connection: Connection, status: ColumnFacts) -> Iterator[tuple[str, str]]:
    """Give what must be true of a value that a column's type makes nothing else of."""
    name = quoted(connection, status.name)
    match _affinity(status.type):
        case "":
            return
        case "TEXT":
            yield f"it is a {status.type}, which makes texts of numbers", f"typeof({name}) = 'text'"
        case _:
            # A text is more than every number, unless it is compared as one.
            is_kept = f"typeof({name}) <> 'text' OR CAST(9e999 AS REAL) < {name}"
            yield f"it is a {status.type}, which makes numbers of such texts", is_kept


def _checks(
    connection: Connection, status: ColumnFacts, created: str, columns: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Give the constraints that speak of the status alone."""
    name, found = quoted(connection, status.name), tokens(created)
    collation = quoted(connection, status.collation or _FINEST)
    affinity = _affinity(status.type)
    value = f"CAST({name} AS {affinity})" if affinity else name
    for place, token in enumerate(found):
        if not token.is_word("CHECK"):
            continue
        inside = _inside(found[place + 1 :])
        if columns_in(inside, columns) == (status.name,):
            sql = plain(created, inside)
            as_kept = f"(SELECT {value} COLLATE {collation} AS {name})"
            yield f"the constraint CHECK ({sql}) refuses it", f"SELECT ({sql}) FROM {as_kept}"  # noqa: S608


def _targets(connection: Connection, mapping: TicketMapping) -> Iterator[tuple[str, str]]:
    """Give the rows of other tables that a status wants, where this connection looks at foreign keys."""
    place, in_text = _place_of(connection, mapping)
    rows = connection.execute(
        text(
            'SELECT "table", MIN("to") FROM pragma_foreign_key_list(:table, :schema) '
            "WHERE (SELECT foreign_keys FROM pragma_foreign_keys) GROUP BY id "
            'HAVING COUNT(*) = 1 AND lower(MIN("from")) = lower(:status) AND MIN("to") IS NOT NULL'
        ),
        place | {"status": mapping.told_by.name},
    )
    for table, target in rows:
        named = f"{in_text}{quoted(connection, table)}".replace(r"\:", ":")
        there = (
            f"SELECT 1 FROM {named} AS ticketrouter_target "  # noqa: S608 - quoted
            f"WHERE ticketrouter_target.{quoted(connection, target)} = ticketrouter_word"
        )
        yield f"{table} has no such row, which a foreign key wants", f"EXISTS ({there})"


def _indexes(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    schema, (place, in_text) = schema_of(connection, mapping), _place_of(connection, mapping)
    there, created = _columns_there(connection, mapping)
    facts = _told(connection, mapping, there, created)
    rows = connection.execute(
        text(
            'SELECT l.seq, l.name, l."unique", l.origin, x.seqno, x.name AS "column", x.coll, m.sql '  # noqa: S608
            "FROM pragma_index_list(:table, :schema) AS l JOIN pragma_index_xinfo(l.name, :schema) AS x "
            f"LEFT JOIN {in_text}sqlite_master AS m ON m.type = 'index' AND m.name = l.name "
            "WHERE x.key ORDER BY l.seq, x.seqno"
        ),
        place,
    ).all()
    if (key := _row_number(there, created)) is not None:
        yield _row_numbers(quoted(connection, key), key, facts)
    for _, grouped in groupby(rows, key=lambda row: row.seq):
        index = _index(connection, schema, list(grouped), facts)
        yield index if created else evolve(index, unfit=_ELSEWHERE)


def _is_virtual(created: str) -> bool:
    return created.upper().startswith("CREATE VIRTUAL")


def _row_numbers(part: str, column: str, facts: Mapping[str, ColumnFacts]) -> Index:
    """Return the primary key that no PRAGMA lists as an index: the number by which the table itself keeps its rows."""
    return Index(
        "PRIMARY KEY", (part,), None, primary=True, constraint=True, columns=(column,), sql=part, table=facts
    )


_ELSEWHERE = "its table is in another database than the main one: say its schema"


def _index(
    connection: Connection, schema: str | None, rows: list[Any], facts: Mapping[str, ColumnFacts]
) -> Index:
    prefix = "" if schema is None else f"{quoted(connection, schema)}."
    name, sql = rows[0].name, rows[0].sql
    written, predicate, definition = _split_create_index(sql or "")
    parts = tuple(
        written[row.seqno] if row.column is None else quoted(connection, row.column) for row in rows
    )
    generated = {quoted(connection, each.name): each.generated for each in facts.values() if each.generated}
    return Index(
        name,
        parts,
        predicate,
        tuple((part, generated[part]) for part in parts if part in generated),
        unique=bool(rows[0].unique),
        primary=rows[0].origin == "pk",
        constraint=rows[0].origin != "c",
        sql=f"{prefix}{quoted(connection, name)}",
        path=(name,) if schema is None else (schema, name),
        definition=definition,
        columns=tuple(row.column for row in rows),
        unfit=_unfit(rows, facts),
        table=facts,
    )


_FINEST = "BINARY"
"""The collation that takes only equal texts for equal, and the usual one of SQLite."""


def _unfit(rows: list[Any], facts: Mapping[str, ColumnFacts]) -> str:
    for row in rows:
        if row.column is None:
            continue
        collation = facts[row.column].collation or _FINEST
        if collation.upper() not in {_FINEST, row.coll.upper()}:
            return (
                f"it compares {row.column} by the collation {row.coll}, and tells texts apart that are equal by the "
                f"column's own, {collation}"
            )
    return ""


def _column_facts(column: Any, created: str, *, is_number: bool) -> ColumnFacts:
    """Read from `CREATE TABLE` what no PRAGMA says of a column: its collation, and what it is computed from.

    A trigger fills none: what it writes neither meets a NOT NULL, nor comes back with the row.
    """
    collation, generated = None, None
    found = _definition(column.name, created)
    for place, token in enumerate(found):
        if token.is_word("COLLATE"):
            collation = found[place + 1].value
        if token.is_word("AS") and found[place + 1].is_mark("("):
            generated = plain(created, _inside(found[place + 1 :]))
    has_default = column.dflt_value is not None and column.dflt_value.upper() != "NULL"
    return ColumnFacts(
        column.name,
        column.type.upper(),
        collation,
        merges=(collation or _FINEST).upper() != _FINEST,
        generated=generated,
        nullable=not column.notnull,
        filled=is_number or has_default or column.hidden in _COMPUTED,
    )


_COMPUTED = (2, 3)
"""What PRAGMA table_xinfo calls a column that is computed when it is read, or when it is written."""


def _definition(column: str, created: str) -> list[Token]:
    parts, _ = _parts(tokens(created))
    return next((part[1:] for part in parts if part and part[0].value.lower() == column.lower()), [])


def _parts(found: list[Token]) -> tuple[list[list[Token]], list[Token]]:
    """Split what stands in the first parentheses at its commas, and return that and what follows."""
    opened = next((place for place, token in enumerate(found) if token.is_mark("(")), len(found))
    inner = _inside(found[opened:])
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in inner:
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0 and token.is_mark(","):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, found[opened + len(inner) + 2 :]


def _inside(found: list[Token]) -> list[Token]:
    """Return the tokens between the parenthesis that comes first and the one that closes it."""
    depth = 0
    for place, token in enumerate(found):
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0:
            return found[1:place]
    return []


def _split_create_index(sql: str) -> tuple[list[str], str | None, str | None]:
    """Split `CREATE INDEX ... (a, f(b, c)) WHERE d` into its parts and its predicate, and what they stand in.

    Comments are left out.
    """
    found = tokens(sql)
    parts, rest = _parts(found)
    predicate = plain(sql, rest[1:]) if rest and rest[0].is_word("WHERE") else None
    unordered = [part[:-1] if part and part[-1].is_word("ASC", "DESC") else part for part in parts]
    opened = next((place for place, token in enumerate(found) if token.is_mark("(")), None)
    definition = None if opened is None else plain(sql, found[opened:])
    return [plain(sql, part) for part in unordered], predicate, definition


_CONFLICT_CLAUSE = re.compile(r"\bON\s+CONFLICT\s+(REPLACE|IGNORE|FAIL|ROLLBACK)\b", re.IGNORECASE)


def _refuse_own_conflict_clause(connection: Connection, mapping: TicketMapping) -> None:
    """Refuse a table whose constraints say ON CONFLICT: a write of one ticket would delete another one.

    Our statements cannot say OR ABORT instead: that would hold in the host's triggers, too.
    """
    schema = schema_of(connection, mapping)
    prefix = "" if schema is None else f"{quoted(connection, schema)}.".replace(":", r"\:")
    sql = connection.execute(
        text(f"SELECT sql FROM {prefix}sqlite_master WHERE type = 'table' AND lower(name) = lower(:name)"),  # noqa: S608
        {"name": mapping.table.name},
    ).scalar()
    found = _CONFLICT_CLAUSE.search(sql or "")
    if found is not None:
        raise MappingError(
            f"a constraint of {mapping.table.fullname} says ON CONFLICT {found[1].upper()}, by which a write of one "
            "ticket may delete another one, or end in silence: make the table anew without that clause"
        )


# --- which rows an index has ---------------------------------------------------------------------------------


def _unclear_type(
    mapping: TicketMapping, index: Index, read: list[Condition], stored: Collection[Any]
) -> str:
    if "status" not in mapping.columns:
        return ""
    status = index.table[mapping.columns["status"].name]
    is_text = any(kind in status.type for kind in ("CHAR", "CLOB", "TEXT"))
    constants = {constant for one in read for constant in one.constants}
    if any(isinstance(each, int) for each in constants):
        return f"{status.name} is a {status.type}, which compares numbers as texts" if is_text else ""
    if is_text:
        return ""
    numbers = sorted(t for t in constants.union(stored) if isinstance(t, str) and _is_number(t))
    return f"{status.name} is a {status.type}, which compares {numbers} as numbers" if numbers else ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _words(
    connection: Connection, mapping: TicketMapping, facts: Mapping[str, ColumnFacts], words: list[str]
) -> list[str]:
    status = facts[mapping.columns["status"].name]
    collation = escaped(quoted(connection, status.collation or _FINEST))
    return [
        f"SELECT {n} AS ticketrouter_n, {word} COLLATE {collation} AS ticketrouter_word"
        for n, word in enumerate(words)
    ]


_READING = Reading(NAMES.url, backslashes=False, functions=False, unclear_type=_unclear_type, words=_words)


_NUMERIC = re.compile("NUM|DEC", re.IGNORECASE)


def _kept(
    connection: Connection, schema: str | None, tables: Sequence[str]
) -> Mapping[str, Mapping[str, Kept]]:
    found: dict[str, dict[str, Kept]] = {}
    asked = text(
        "SELECT t.value, x.name, x.type FROM json_each(:tables) AS t, pragma_table_xinfo(t.value, :schema) AS x"
    )
    for table, column, type_ in connection.execute(
        asked, {"tables": json.dumps(list(tables)), "schema": schema}
    ):
        affinity = _affinity(type_.upper())
        # A type that SQLite does not know, as UUID, keeps texts as they are.
        is_unknown = affinity == "NUMERIC" and not _NUMERIC.search(type_)
        kind = "text" if affinity == "TEXT" else "number" if affinity and not is_unknown else ""
        found.setdefault(table, {})[column] = Kept(type_, kind)
    return found


# --- places --------------------------------------------------------------------------------------------------


def _place(connection: Connection, mapping: TicketMapping) -> Place:
    companions = companion_names(mapping)
    schema = schema_of(connection, mapping)
    prefix = "" if schema is None else f"{quoted(connection, schema)}.".replace(":", r"\:")
    query = (
        f"SELECT type, name, sql FROM {prefix}sqlite_master "  # noqa: S608 - quoted
        "WHERE lower(tbl_name) = lower(:table) OR name IN (:ids, :anchors)"
    )
    ids, anchors = companions
    values = {"table": mapping.table.name, "ids": ids, "anchors": anchors}
    rows = [tuple(row) for row in connection.execute(text(query), values)]
    tables = frozenset(found for kind, found, _ in rows if kind == "table") & frozenset(companions)
    marks = tuple(sorted(rows, key=str))
    return Place(None, table_name(connection, mapping), marks, tables)


def _is_attached(connection: Connection, table: str, schema: str | None) -> bool:
    return inspect(connection).has_table(table, schema=schema)


CATALOGUE = Catalogue(
    _indexes,
    _columns,
    _words,
    _place,
    _READING.reaches,
    _kept,
    check=_refuse_own_conflict_clause,
    has_elsewhere=_is_attached,  # it may be in another file
)
