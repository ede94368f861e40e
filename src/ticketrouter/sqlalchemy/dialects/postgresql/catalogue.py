"""What PostgreSQL's catalogue says of a tickets table.

Law of this file: it reads the catalogue, and judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, text

from ticketrouter.sqlalchemy.dialects.base import Catalogue
from ticketrouter.sqlalchemy.dialects.postgresql.proofs import reach
from ticketrouter.sqlalchemy.facts import (
    ColumnFacts,
    Index,
    Kept,
    Place,
    Reach,
    companion_names,
    escaped,
    no_table,
    quoted,
    schema_of,
    table_name,
)
from ticketrouter.sqlalchemy.filling import is_set_by
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.storage import MICROSECONDS

# --- indexes -------------------------------------------------------------------------------------------------

_READS = "SELECT DISTINCT CAST(m[1] AS int) FROM regexp_matches({nodes}, '\\:varattno (-?[0-9]+)', 'g') AS m"
"""The numbers of the columns in a parsed expression: a text in it is written byte by byte, and is no column."""
_OWN_CODE = (
    "EXISTS (SELECT FROM pg_depend p WHERE p.classid = CAST('{owner}' AS regclass) AND p.objid = {oid} "
    "AND p.refclassid IN (CAST('pg_proc' AS regclass), CAST('pg_operator' AS regclass)))"
)
_TRIGGERS = (
    "(SELECT string_agg(f.prosrc, ';') FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid "
    # Of each row, before it is inserted.
    "WHERE g.tgrelid = to_regclass(:name) AND g.tgtype & 7 = 7 AND g.tgenabled IN ('O', 'A'))"
)
_CHECKS = (
    "SELECT ARRAY[CAST(k.conname AS text), pg_get_expr(k.conbin, k.conrelid)] FROM pg_constraint k "
    "WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum] ORDER BY k.conname"
)
_TARGETS = (
    # The server itself looks past row security, and as the owner of the table.
    "SELECT ARRAY[CAST(k.conname AS text), CAST(CAST(r.oid AS regclass) AS text), quote_ident(o.attname)] "
    "FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid "
    "JOIN pg_attribute o ON o.attrelid = k.confrelid AND o.attnum = k.confkey[1] "
    "WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum] "
    "AND NOT r.relrowsecurity ORDER BY k.conname"
)
_COLUMNS = (
    "SELECT a.attname, quote_ident(a.attname) AS quoted, a.attnum, t.typname, "  # noqa: S608
    # asyncpg gives a "char" as bytes.
    "CAST(t.typtype AS text) AS typtype, CAST(t.typcategory AS text) AS typcategory, "
    "COALESCE(c.collisdeterministic, true) AS deterministic, "
    "CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS generated, "
    f"ARRAY({_READS.format(nodes='CAST(d.adbin AS text)')}) AS reads, "
    f"{_OWN_CODE.format(owner='pg_attrdef', oid='d.oid')} AS own_code, "
    "ARRAY(SELECT CAST(e.enumlabel AS text) FROM pg_enum e WHERE e.enumtypid IN (t.oid, t.typbasetype) "
    "ORDER BY e.enumsortorder) AS words, "
    "NOT (a.attnotnull OR t.typnotnull) AS nullable, "
    "a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled, "
    "COALESCE(b.typname, t.typname) AS kept, CASE WHEN b.oid IS NULL THEN a.atttypmod ELSE t.typtypmod END AS typmod, "
    f"{_TRIGGERS} AS triggers, ARRAY({_CHECKS}) AS checks, ARRAY({_TARGETS}) AS targets "
    "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation c ON c.oid = a.attcollation "
    "LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype "
    "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
_INDEXES = (
    "SELECT CAST(CAST(i.indexrelid AS regclass) AS text) AS name, "  # noqa: S608
    "ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) AS k) AS parts, "
    "ARRAY(SELECT CAST(i.indkey[k] AS int) FROM generate_series(0, i.indnkeyatts - 1) AS k) AS numbers, "
    "pg_get_expr(i.indpred, i.indrelid) AS predicate, NOT i.indimmediate AS deferrable, "
    "i.indisunique AS unique, i.indisvalid AND i.indisready AND i.indislive AS valid, i.indisprimary AS primary, "
    "(SELECT quote_ident(c.conname) FROM pg_constraint c "
    "WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')) AS constraint, "
    "am.amname AS method, i.indnullsnotdistinct AS nulls_equal, "
    "(SELECT bool_and(o.opcdefault) FROM unnest(CAST(i.indclass AS oid[])) AS u(oid) "
    "JOIN pg_opclass o ON o.oid = u.oid) AS usual, "
    "(SELECT COALESCE(bool_and(i.indcollation[k] = a.attcollation "
    "OR (x.collisdeterministic AND y.collisdeterministic)), true) "
    "FROM generate_series(0, i.indnkeyatts - 1) AS k "
    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] "
    "LEFT JOIN pg_collation x ON x.oid = i.indcollation[k] LEFT JOIN pg_collation y ON y.oid = a.attcollation "
    ") AS collated, "
    "EXISTS (SELECT FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent "
    "WHERE h.inhparent = i.indrelid AND p.relkind <> 'p') AS inherited, "
    f"ARRAY({_READS.format(nodes='CAST(i.indexprs AS text)')}) AS reads, "
    f"ARRAY({_READS.format(nodes='CAST(i.indpred AS text)')}) AS decided_by, ic.relname AS bare, "
    "CASE WHEN NOT pg_table_is_visible(ic.oid) THEN n.nspname END AS schema, k.conname AS named, "
    "COALESCE(pg_get_constraintdef(k.oid), pg_get_indexdef(ic.oid)) AS definition, "
    f"{_OWN_CODE.format(owner='pg_class', oid='i.indexrelid')} AS own_code "
    "FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam "
    "JOIN pg_namespace n ON n.oid = ic.relnamespace "
    "LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') "
    "WHERE i.indrelid = to_regclass(:name) ORDER BY 1"
)


def _asked(connection: Connection, mapping: TicketMapping) -> Sequence[Any]:
    found = connection.execute(text(_COLUMNS), {"name": table_name(connection, mapping)}).all()
    if not found:
        raise no_table(mapping)
    return found


def _names(columns: Sequence[Any]) -> dict[int, str]:
    return {column.attnum: column.attname for column in columns}


def _told(columns: Sequence[Any]) -> Mapping[str, ColumnFacts]:
    names = _names(columns)
    return MappingProxyType({column.attname: _facts(column, names) for column in columns})


def _columns(connection: Connection, mapping: TicketMapping) -> Mapping[str, ColumnFacts]:
    return _told(_asked(connection, mapping))


def _indexes(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    table = {"name": table_name(connection, mapping)}
    columns = _asked(connection, mapping)
    names, facts = _names(columns), _told(columns)
    generated = {column.quoted: column.generated for column in columns if column.generated is not None}
    for row in connection.execute(text(_INDEXES), table).all():
        yield Index(
            row.name,
            tuple(row.parts),
            row.predicate,
            tuple((part, generated[part]) for part in row.parts if part in generated),
            deferrable=row.deferrable,
            unique=row.unique,
            valid=row.valid,
            primary=row.primary,
            constraint=row.constraint is not None,
            sql=row.constraint or row.name,
            path=(row.named,) if row.named else (row.bare,) if row.schema is None else (row.schema, row.bare),
            definition=row.definition,
            columns=tuple(names.get(number) for number in row.numbers),
            unfit=_unfit(row),
            nulls_equal=row.nulls_equal,
            reads=_named(row.reads, names),
            decided_by=_named(row.decided_by, names),
            bare=row.bare,
            own_code=row.own_code,
            table=facts,
        )


def _facts(column: Any, names: Mapping[int, str]) -> ColumnFacts:
    return ColumnFacts(
        column.attname,
        "enum" if column.typtype == "e" else column.typname if column.typtype == "b" else "",
        deterministic=column.deterministic,
        merges=not column.deterministic or column.kept == "citext",
        pads=column.kept == "bpchar",
        folds=column.kept == "citext",
        words=tuple(column.words),
        category=column.typcategory,
        generated=column.generated,
        reads=() if column.generated is None else _named(column.reads, names),
        own_code=column.own_code,
        nullable=column.nullable,
        filled=column.filled or is_set_by(column.triggers or "", column.attname),
        digits=_digits(column),
        longest=column.typmod - 4 if column.kept in {"varchar", "bpchar"} and column.typmod > 0 else None,
        numbers=_NUMBERS.get(column.kept),
        demands=tuple(_demands(column)),
    )


def _digits(column: Any) -> int | None:
    if column.kept not in {"timestamp", "timestamptz"}:
        return None
    return MICROSECONDS if column.typmod < 0 else int(column.typmod)


_NUMBERS = {f"int{size}": (-(2 ** (size * 8 - 1)), 2 ** (size * 8 - 1) - 1) for size in (2, 4, 8)}


def _demands(column: Any) -> Iterator[tuple[str, str]]:
    """Give what a value of the column must meet by itself: its own constraints, and rows of other tables."""
    yield from ((f"the constraint {name} refuses it", check) for name, check in column.checks)
    for name, table, target in column.targets:
        there = f"SELECT FROM {table} AS ticketrouter_target WHERE ticketrouter_target.{target} = ticketrouter_word"
        yield f"{table} has no such row, which the foreign key {name} wants", f"EXISTS ({there})"


def _words(
    connection: Connection, mapping: TicketMapping, _: Mapping[str, ColumnFacts], words: list[str]
) -> list[str]:
    status = quoted(connection, mapping.columns["status"].name)
    table, column = (escaped(each) for each in (table_name(connection, mapping), status))
    like = f"SELECT -1 AS ticketrouter_n, {column} AS ticketrouter_word FROM {table} WHERE false"  # noqa: S608 - quoted
    return [like, *(f"SELECT {n}, {word}" for n, word in enumerate(words))]


def _named(numbers: Sequence[int], names: Mapping[int, str]) -> tuple[str, ...]:
    """Name columns by their numbers; the whole row, and what the server itself adds to it, have their own words."""
    return tuple(
        names.get(number, "the whole row" if number == 0 else "a system column") for number in numbers
    )


def _unfit(row: Any) -> str:
    if row.method != "btree":
        return f"it is of the kind {row.method}, which may compare otherwise than the columns do"
    if row.inherited:
        return "other tables inherit from this one, and it does not see their rows"
    if not row.usual:
        return "it has an operator class of its own, which may compare otherwise than the columns do"
    if not row.collated:
        return "it has a collation of its own, which tells texts apart that the column takes for equal"
    return ""


_KEPT = (
    "SELECT n.number, a.attname, format_type(a.atttypid, a.atttypmod) AS told, "
    "CASE WHEN b.typcategory IN ('N', 'S') THEN CAST(b.typcategory AS text) ELSE CAST(b.typname AS text) END AS kind, "
    "CAST(b.typname AS text) AS kept, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS typmod "
    "FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS n(name, number) "
    "JOIN pg_attribute a ON a.attrelid = to_regclass(n.name) JOIN pg_type t ON t.oid = a.atttypid "
    "JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END "
    "WHERE a.attnum > 0 AND NOT a.attisdropped"
)
_KINDS: Mapping[str, str] = {"N": "number", "S": "text"}


def _kept(
    connection: Connection, schema: str | None, tables: Sequence[str]
) -> Mapping[str, Mapping[str, Kept]]:
    prefix = "" if schema is None else f"{quoted(connection, schema)}."
    found: dict[str, dict[str, Kept]] = {}
    names = [prefix + quoted(connection, table) for table in tables]
    rows: Sequence[Any] = connection.execute(text(_KEPT), {"names": names}).all()
    for row in rows:
        longest = row.typmod - 4 if row.kept in {"varchar", "bpchar"} and row.typmod > 0 else None
        kept = Kept(row.told, _KINDS.get(row.kind, row.kind), _NUMBERS.get(row.kept), longest)
        found.setdefault(str(tables[row.number - 1]), {})[row.attname] = kept
    return found


# --- places --------------------------------------------------------------------------------------------------

_MARKS = (
    "SELECT CAST(c.oid AS bigint), to_regclass(:ids) IS NOT NULL, to_regclass(:anchors) IS NOT NULL, "
    "concat_ws(' ', CAST(to_regclass(:ids) AS oid), CAST(to_regclass(:anchors) AS oid)), "
    "concat_ws(' ', c.relkind, c.relrowsecurity, c.relforcerowsecurity, (SELECT string_agg(concat_ws(' ', g.oid, "
    "g.tgenabled), ',' ORDER BY g.oid) FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgtype & 7 = 7), "
    "(SELECT string_agg(CAST(k.oid AS text), ',' ORDER BY k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid AND "
    "k.contype IN ('c', 'f'))), "
    "md5((SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated, a.atthasdef, "
    "a.attidentity, "
    "a.attcollation, CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END), ',' ORDER BY a.attnum) "
    "FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)), "
    "md5((SELECT string_agg(concat_ws(' ', i.indexrelid, i.indisunique, i.indisvalid, i.indisready, i.indimmediate, "
    "pg_get_indexdef(i.indexrelid)), ',' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid)) "
    "FROM pg_class c WHERE c.oid = to_regclass(:name)"
)


def _place(connection: Connection, mapping: TicketMapping) -> Place:
    name, companions = table_name(connection, mapping), companion_names(mapping)
    schema = schema_of(connection, mapping)
    prefix = "" if schema is None else f"{quoted(connection, schema)}."
    ids, anchors = (prefix + quoted(connection, each) for each in companions)
    values = {"name": name, "ids": ids, "anchors": anchors}
    row = connection.execute(text(_MARKS), values).one_or_none()
    if row is None:
        raise no_table(mapping)
    number, *there = row[:3]
    tables = frozenset(each for each, found in zip(companions, there, strict=True) if found)
    return Place(number, name, tuple(row[3:]), tables)


def _last_number(connection: Connection, mapping: TicketMapping) -> int | None:
    # Without the right to look at the sequence, asking it would end the transaction.
    asked = text(
        "SELECT CASE WHEN has_sequence_privilege(s, 'SELECT') OR has_sequence_privilege(s, 'USAGE') "
        "THEN pg_sequence_last_value(s) END "
        "FROM (SELECT CAST(pg_get_serial_sequence(:table, :column) AS regclass) AS s) AS ticketrouter_sequence"
    )
    named = {"table": table_name(connection, mapping), "column": mapping.columns["id"].name}
    given = connection.execute(asked, named).scalar()
    return None if given is None else int(given)


def _reaches(connection: Connection, mapping: TicketMapping, found: Sequence[Index]) -> list[Reach]:
    return [reach(connection, mapping, index) for index in found]


CATALOGUE = Catalogue(_indexes, _columns, _words, _place, _reaches, _kept, _last_number, tells_cases=True)
