"""What MariaDB's catalogue says of a tickets table, and by which indexes statements go there.

Law of this file: it reads the catalogue, and judges nothing but which index is the best way. MariaDB locks every row that
a statement reads, and where one contact has many rows it reads the whole table: so each locking statement names an index
that begins with what it asks for, where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any

from attrs import evolve
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError

from ticketrouter.sqlalchemy.columns import KEY, MappingError
from ticketrouter.sqlalchemy.conditions import Condition, columns_in, tokens
from ticketrouter.sqlalchemy.dialects.base import Catalogue
from ticketrouter.sqlalchemy.dialects.mariadb.errors import ERRORS
from ticketrouter.sqlalchemy.dialects.mariadb.plans import NAMES
from ticketrouter.sqlalchemy.error_codes import row_in
from ticketrouter.sqlalchemy.facts import (
    ByIndex,
    ColumnFacts,
    Index,
    Kept,
    Place,
    Ways,
    companion_names,
    escaped,
    no_table,
    quoted,
    schema_of,
    table_name,
)
from ticketrouter.sqlalchemy.filling import is_set_by
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.proofs import Reading, asked_of_the_desk
from ticketrouter.sqlalchemy.schema import quoted as literal

PRIMARY = "PRIMARY"
"""What MariaDB calls every primary key."""


# --- indexes -------------------------------------------------------------------------------------------------


_IN_SCHEMA = "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name"
_MOMENTS = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
"""In winter and in summer, whichever comes first: a zone that agrees with another one in both is the same to us."""
_COLUMNS = (
    "SELECT column_name, generation_expression, data_type, collation_name, is_nullable, column_default, extra, "  # noqa: S608
    # What is not cut off is rounded, by whichever session writes.
    "column_type, character_maximum_length, "
    "IF(datetime_precision < 6 AND FIND_IN_SET('TIME_ROUND_FRACTIONAL', @@sql_mode), NULL, datetime_precision), "
    f"{', '.join(f'FROM_UNIXTIME({int(moment.timestamp())})' for moment in _MOMENTS)}, "
    "datetime_precision < 3, IF(@@time_zone = 'SYSTEM', @@system_time_zone, @@time_zone) "
    f"FROM information_schema.columns {_IN_SCHEMA} = :table ORDER BY ordinal_position"
)
_TRIGGERS = (
    "FROM information_schema.triggers WHERE event_object_schema = COALESCE(:schema, DATABASE()) "
    "AND event_object_table = :table AND event_manipulation = 'INSERT' AND action_timing = 'BEFORE'"
)
_CHECKS = (
    "FROM information_schema.check_constraints "
    "WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :table AND @@check_constraint_checks"
)
_OTHERS = (
    f"SELECT 'trigger' AS kind, trigger_name AS name, action_statement AS text, '' AS target {_TRIGGERS} UNION ALL "  # noqa: S608
    f"SELECT 'check', constraint_name, check_clause, '' {_CHECKS} UNION ALL "
    "SELECT 'key', constraint_name, CONCAT('`', REPLACE(MIN(referenced_table_schema), '`', '``'), '`.`', "
    "REPLACE(MIN(referenced_table_name), '`', '``'), '`'), "
    "CONCAT('`', REPLACE(MIN(referenced_column_name), '`', '``'), '`') FROM information_schema.key_column_usage "
    f"{_IN_SCHEMA} = :table AND referenced_column_name IS NOT NULL AND @@foreign_key_checks GROUP BY constraint_name "
    "HAVING COUNT(*) = 1 AND MIN(column_name) = :status"
)
_INDEXES = (
    "SELECT index_name, column_name, sub_part, non_unique, index_type, ignored "  # noqa: S608
    f"FROM information_schema.statistics {_IN_SCHEMA} = :table ORDER BY index_name, seq_in_index"
)


def _place_of(connection: Connection, mapping: TicketMapping) -> dict[str, Any]:
    return {"schema": schema_of(connection, mapping), "table": mapping.table.name}


def _columns(connection: Connection, mapping: TicketMapping) -> Mapping[str, ColumnFacts]:
    place = _place_of(connection, mapping)
    columns = connection.execute(text(_COLUMNS), place).all()
    if not columns:
        raise no_table(mapping)
    status = mapping.told_by.name
    others = connection.execute(text(_OTHERS), place | {"status": status}).all()
    # A role without the right TRIGGER is not told the text.
    triggers = ";".join(each.text or "" for each in others if each.kind == "trigger")
    found = {column.column_name: _facts(column, triggers) for column in columns}
    if status in found:
        demands = (
            *_of_type(connection, found[status]),
            *_demands(others, status, tuple(found)),
        )
        found[status] = evolve(found[status], demands=demands)
    return MappingProxyType(found)


_UNFIT: Mapping[str, tuple[str, str]] = {
    "bit": (
        "is a BIT in the database, which drivers give as bytes",
        "make it a TINYINT(1), which keeps the same 0 and 1: ALTER TABLE ... MODIFY",
    )
}


def _facts(column: Any, triggers: str) -> ColumnFacts:
    name, expression, type_, collation, is_nullable, default, extra, whole, longest, *_ = column
    nullable = is_nullable == "YES"
    bits = _NUMBERS.get(type_)
    return ColumnFacts(
        name,
        type_,
        collation,
        merges=collation is not None and not collation.endswith("_nopad_bin"),
        strips=type_ == "char",
        unfit=_UNFIT.get(type_, ()),
        words=tuple(each.replace("''", "'") for each in re.findall(r"'((?:[^']|'')*)'", whole))
        if type_ in {"enum", "set"}
        else (),
        generated=expression or None,
        nullable=nullable,
        # A column that may be NULL has that for its default, where it has no other.
        # An enumeration that must not be NULL has its first word.
        filled=(default is not None and not (nullable and default == "NULL"))
        or type_ == "enum"
        or bool(expression)
        or "auto_increment" in extra
        or is_set_by(triggers, name),
        **_of_time(column),
        longest=None if longest is None else int(longest),
        numbers=None if bits is None else _range(bits, unsigned="unsigned" in whole),
    )


def _of_time(column: Any) -> dict[str, Any]:
    """Return what a column keeps of a time, and in whose zone."""
    *_, digits, winter, summer, coarse, zone = column
    here = zip((moment.replace(tzinfo=None) for moment in _MOMENTS), (winter, summer), strict=True)
    return {
        "digits": digits,
        "coarse": bool(coarse),
        "clock": tuple(here) if column.data_type == "timestamp" else (),
        "session_zone": zone,
        "by_clock": "current_timestamp" in f"{column.column_default} {column.extra}".lower(),
    }


def _range(bits: int, *, unsigned: bool) -> tuple[int, int]:
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _of_type(connection: Connection, status: ColumnFacts) -> Iterator[tuple[str, str]]:
    """Give what a text must meet to come back as it is: others are changed in silence, or taken for none."""
    if status.type == _UUID:
        yield "it is a uuid, which takes only some for one", f"{quoted(connection, status.name)} IS NOT NULL"
    if status.type == "char":
        blanks = f"{quoted(connection, status.name)} NOT LIKE '% '"
        yield "it is a char, which keeps no blanks at the end", blanks


def _demands(others: Sequence[Any], status: str, columns: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give what a status must meet by itself: constraints that speak of no other column, and rows of other tables."""
    for kind, name, sql, target in others:
        if kind == "check" and columns_in(tokens(sql, backslashes=True), columns) == (status,):
            yield f"the constraint {name} refuses it", sql
        if kind == "key":
            there = f"SELECT 1 FROM {sql} AS ticketrouter_target WHERE ticketrouter_target.{target} = ticketrouter_word"  # noqa: S608
            yield f"{sql} has no such row, which the foreign key {name} wants", f"EXISTS ({there})"


def _indexes(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    facts = _columns(connection, mapping)
    generated = {quoted(connection, each.name): each.generated for each in facts.values() if each.generated}
    rows = connection.execute(text(_INDEXES), _place_of(connection, mapping)).all()
    for index, grouped in groupby(rows, key=lambda row: row.index_name):
        parts = list(grouped)
        names = tuple(quoted(connection, part.column_name) for part in parts)
        yield Index(
            index,
            names,
            None,
            tuple((name, generated[name]) for name in names if name in generated),
            unique=not parts[0].non_unique,
            primary=index == PRIMARY,
            sql=quoted(connection, index),
            path=(index,),
            definition=", ".join(names),
            columns=tuple(part.column_name for part in parts),
            unfit=_unfit(parts),
            table=facts,
        )


def _unfit(parts: Sequence[Any]) -> str:
    if any(part.sub_part is not None for part in parts):
        return "it is over the first characters of a column, and not over the whole value"
    if parts[0].index_type != "BTREE":
        return (
            f"it is of the kind {parts[0].index_type}, in which two transactions may miss each other's rows"
        )
    if parts[0].ignored == "YES":
        return "it is IGNORED, so that no statement can ask by it"
    return ""


# --- which rows an index has ---------------------------------------------------------------------------------

_KEEPS_CONSTANTS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "char", "varchar"})
"""The types of which no constant becomes NULL."""


_NUMBERS: Mapping[str, int] = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
"""Of how many bits they are."""
_UUID = "uuid"
_TEXTS = frozenset({_UUID, "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum"})


def _unclear_type(
    mapping: TicketMapping, index: Index, read: list[Condition], _stored: Collection[Any]
) -> str:
    computed = [
        index.table[c] for c in index.columns if c is not None and index.table[c].generated is not None
    ]
    odd = next((facts for facts in computed if facts.type not in _KEEPS_CONSTANTS), None)
    if odd is not None:
        return f"{odd.name} is a {odd.type}, which may make NULL of a value"
    if "status" not in mapping.columns:
        return ""
    status = index.table[mapping.columns["status"].name]
    constants = [constant for one in read for constant in one.constants]
    if all(status.type in (_NUMBERS if isinstance(each, int) else _TEXTS) for each in constants):
        return ""
    return f"{status.name} is a {status.type}, which may take another value for equal"


def _words(
    connection: Connection, mapping: TicketMapping, facts: Mapping[str, ColumnFacts], words: list[str]
) -> list[str]:
    status = mapping.columns["status"].name
    table, column = (escaped(each) for each in (table_name(connection, mapping), quoted(connection, status)))
    if facts[status].type == _UUID:
        words = [f"CAST({word} AS UUID)" for word in words]
    like = f"SELECT -1 AS ticketrouter_n, {column} AS ticketrouter_word FROM {table} WHERE 1 = 0"  # noqa: S608 - quoted
    return [like, *(f"SELECT {n}, {word}" for n, word in enumerate(words))]


_READING = Reading(NAMES.url, backslashes=True, functions=True, unclear_type=_unclear_type, words=_words)

# --- ways ----------------------------------------------------------------------------------------------------


def _by_index(connection: Connection, mapping: TicketMapping, index: Index | None) -> ByIndex | None:
    """Look by the rule's index: a look that names it fails once it has gone, and so tells that it has.

    Statements:
        One `SELECT` without a table where the rule has a generated column.
    """
    if index is None or len(index.generated) != 1:
        return None
    (column, expression), *_ = index.generated
    names = {
        field: quoted(connection, mapping.columns[field].name) for field in KEY if field in mapping.columns
    }
    if "connection_id" not in names:
        begins: Sequence[str] = index.parts
    elif names["connection_id"] in index.parts:
        begins = index.parts[: index.parts.index(names["connection_id"])]
    else:
        begins = ()
    if names["contact_id"] not in begins:
        return None  # a contact's tickets are not beside each other in it
    values = _values_of_active(connection, mapping, index, expression)
    value = next(iter(values), None)
    if len(values) != 1 or not isinstance(value, int | str) or "\\" in str(value):
        return None  # what a backslash means in a literal depends on the connection
    sql = literal(value) if isinstance(value, str) else str(int(value))
    return ByIndex(column, sql, index.sql)


def _values_of_active(
    connection: Connection, mapping: TicketMapping, index: Index, expression: str
) -> set[Any]:
    """Return what the generated column of a rule is in active rows; nothing where that cannot be known."""
    if asked_of_the_desk(mapping):
        (reach,) = _READING.reaches(connection, mapping, [index])
        return {value for word in mapping.statuses.active if word in reach.rows for value in reach.rows[word]}
    status = quoted(connection, mapping.told_by.name)
    words = mapping.words(connection.dialect)
    rows = " UNION ALL ".join(
        f"SELECT {words.literal(word)} AS {status}" for word in sorted(mapping.statuses.active)
    )
    query = f"SELECT ({expression}) FROM ({rows}) AS ticketrouter_rows"  # noqa: S608 - the catalogue's own
    try:
        return {row[0] for row in connection.execute(text(escaped(query)))}
    except DBAPIError as error:
        if row_in(error, [ERRORS]).fault.is_retryable:
            raise
        return set()  # it is about other columns too


def _begins_with(mapping: TicketMapping, index: Index, field: str) -> bool:
    """Tell whether an index begins with a column, or with the company's and that one."""
    column = mapping.columns[field].name
    company = mapping.columns["company_id"].name if "company_id" in mapping.columns else column
    return index.columns[:1] == (column,) or index.columns[:2] == (company, column)


def _ways(mapping: TicketMapping, found: Iterable[Index]) -> Ways:
    # What is unfit is IGNORED, or over a part of a value only.
    fit = [index for index in found if index.valid and not index.unfit]
    by_connection = _best(mapping, fit, "connection_id") if "connection_id" in mapping.columns else None
    return Ways(_best(mapping, fit, "contact_id"), by_connection)


def _named(index: Index) -> str:
    return PRIMARY if index.primary else index.sql


def _best(mapping: TicketMapping, found: Iterable[Index], field: str) -> str | None:
    key = {mapping.columns[each].name for each in KEY if each in mapping.columns}

    def reach(index: Index) -> tuple[bool, int]:
        others = (place for place, column in enumerate(index.columns) if column not in key)
        of_key = next(others, len(index.columns))
        return index.unique and of_key == len(index.columns), of_key

    fit = (index for index in found if _begins_with(mapping, index, field))
    best = max(fit, key=reach, default=None)
    return None if best is None else best.sql


_KEPT = text(
    "SELECT table_name, column_name, column_type, data_type, collation_name, character_maximum_length "
    "FROM information_schema.columns WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name IN :tables"
).bindparams(bindparam("tables", expanding=True))


_KINDS: Mapping[str, str] = {"decimal": "number", _UUID: "text", "binary": "bytes", "varbinary": "bytes"}
"""What is compared alike: a UUID is with a text of one, too."""


def _kept(
    connection: Connection, schema: str | None, tables: Sequence[str]
) -> Mapping[str, Mapping[str, Kept]]:
    found: dict[str, dict[str, Kept]] = {}
    for table, column, told, type_, collation, longest in connection.execute(
        _KEPT, {"schema": schema, "tables": list(tables)}
    ):
        bits = _NUMBERS.get(type_)
        kind = "number" if bits is not None else "text" if collation is not None else _KINDS.get(type_, type_)
        numbers = None if bits is None else _range(bits, unsigned="unsigned" in told)
        room = None if collation is None or longest is None else int(longest)
        found.setdefault(table, {})[column] = Kept(told, kind, numbers, room, collation)
    return found


def _mixes(one: str | None, other: str | None) -> bool:
    """Tell whether columns of two collations are compared: by the one of bytes, or as Unicode, which must be one of both."""
    if one is None or other is None or one == other:
        return True
    character_sets = one.partition("_")[0], other.partition("_")[0]
    if character_sets[0] == character_sets[1]:
        return one.endswith("_bin") != other.endswith("_bin")
    return any(each.startswith(("utf", "ucs")) for each in character_sets)


# --- places --------------------------------------------------------------------------------------------------

_MARKS = (
    "SELECT 'database', DATABASE() UNION ALL "  # noqa: S608 - constants
    # What a session that has switched them off was told holds for no other.
    "SELECT 'foreign keys', @@foreign_key_checks UNION ALL "
    # What its columns are said to keep, and in which zone, depends on both.
    "SELECT 'session', CONCAT_WS(' ', @@time_zone, FIND_IN_SET('TIME_ROUND_FRACTIONAL', @@sql_mode)) UNION ALL "
    f"SELECT 'table', table_name FROM information_schema.tables {_IN_SCHEMA} IN (:table, :ids, :anchors) UNION ALL "
    "SELECT 'engine', CONCAT_WS(' ', engine, table_name) FROM information_schema.tables "
    f"{_IN_SCHEMA} IN (:table, :ids, :anchors) AND engine <> 'InnoDB' UNION ALL "
    "SELECT 'column', CONCAT_WS(' ', ordinal_position, column_name, column_type, is_nullable, collation_name, extra, "
    "generation_expression, column_default IS NULL) "
    f"FROM information_schema.columns {_IN_SCHEMA} = :table UNION ALL "
    f"SELECT 'trigger', CONCAT_WS(' ', trigger_name, created) {_TRIGGERS} UNION ALL "
    f"SELECT 'check', CONCAT_WS(' ', constraint_name, check_clause) {_CHECKS} UNION ALL "
    "SELECT 'index', CONCAT_WS(' ', index_name, seq_in_index, column_name, sub_part, non_unique, index_type, "
    f"ignored) FROM information_schema.statistics {_IN_SCHEMA} = :table"
)


def _place(connection: Connection, mapping: TicketMapping) -> Place:
    ids, anchors = companions = companion_names(mapping)
    values = {
        "schema": schema_of(connection, mapping),
        "table": mapping.table.name,
        "ids": ids,
        "anchors": anchors,
    }
    rows = [tuple(row) for row in connection.execute(text(_MARKS), values)]
    database = next(told for kind, told in rows if kind == "database")
    tables = frozenset(told for kind, told in rows if kind == "table")
    marks = tuple(row for row in rows if row[0] not in {"database", "table"})
    if not any(kind == "column" for kind, _ in marks):
        raise no_table(mapping)
    spared = set() if mapping.remember_messages else {ids}
    _check_engines((told for kind, told in marks if kind == "engine"), spared)
    return Place(
        database, table_name(connection, mapping), tuple(sorted(marks)), tables & frozenset(companions)
    )


def _check_engines(others: Iterable[str], spared: Collection[str]) -> None:
    """Refuse tables of other engines than InnoDB: an id would stay without its count, and the reverse."""
    for each in sorted(others):
        engine, _, table = each.partition(" ")
        if table in spared:
            continue
        raise MappingError(
            f"{table} is of the engine {engine}, whose rows no rollback takes back: "
            f"ALTER TABLE {NAMES.identifier(table)} ENGINE=InnoDB"
        )


def told_of_the_table(connection: Connection, mapping: TicketMapping, what: str) -> Any:
    """Return what the catalogue says of the table as a whole."""
    asked = (
        f"SELECT {what} FROM information_schema.tables "  # noqa: S608 - constants
        "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
    )
    values = {"schema": schema_of(connection, mapping), "table": mapping.table.name}
    return connection.execute(text(asked), values).scalar()


def _last_number(connection: Connection, mapping: TicketMapping) -> int | None:
    given = told_of_the_table(connection, mapping, "auto_increment - 1")
    return None if given is None else int(given)


CATALOGUE = Catalogue(
    _indexes,
    _columns,
    _words,
    _place,
    _READING.reaches,
    _kept,
    _last_number,
    by_index=_by_index,
    ways=_ways,
    named=_named,
    # It keeps MariaDB from reading, and locking, more of a contact's tickets by another index.
    hint=lambda index: f" FORCE INDEX ({_named(index)})",
    mixes=_mixes,
)
