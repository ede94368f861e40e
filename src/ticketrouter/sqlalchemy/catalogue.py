"""What the databases' catalogues say of the indexes of a tickets table.

Law of this file: it reads catalogues, and judges nothing. Three databases go in, one value comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from attrs import frozen
from sqlalchemy import Connection, text

from ticketrouter.sqlalchemy.mapping import MappingError, TicketMapping


@frozen
class Index:
    """An index as its database describes it.

    Args:
        name: its name, for messages.
        parts: what it is over: columns and expressions, as SQL.
        predicate: which rows it is about, as SQL; None: all.
        generated: the generated columns among its parts, with their expressions.
        deferrable: whether it may look at a row only when the transaction ends.
        unique: whether it refuses a second equal row.
        valid: whether it is complete; where building it was broken off, PostgreSQL keeps an invalid one.
        primary: whether it is the primary key's.
        constraint: whether it belongs to a constraint, and can only be dropped with that.
        sql: its name, or its constraint's, as SQL.
    """

    name: str
    parts: tuple[str, ...]
    predicate: str | None
    generated: tuple[tuple[str, str], ...] = ()
    deferrable: bool = False
    unique: bool = True
    valid: bool = True
    primary: bool = False
    constraint: bool = False
    sql: str = ""

    def expressions(self) -> tuple[str, ...]:
        """Return what the parts are computed from."""
        return tuple(dict(self.generated).get(part, part) for part in self.parts)


def indexes(connection: Connection, mapping: TicketMapping) -> Iterable[Index]:
    """List the indexes of the tickets table, unique or not; on MariaDB only those over whole columns.

    Raises:
        MappingError: if the table is not there, or the database is none that we know.
    """
    match connection.dialect.name:
        case "postgresql":
            return _of_postgresql(connection, mapping)
        case "mysql" | "mariadb":
            return _of_mariadb(connection, mapping)
        case "sqlite":
            return _of_sqlite(connection, mapping)
        case name:
            raise MappingError(
                f"{name} is not among the databases that ticketrouter knows (PostgreSQL, MariaDB, SQLite)"
            )


def schema_of(connection: Connection, mapping: TicketMapping) -> str | None:
    """Return the database schema that the table is in, as this connection translates it."""
    schema = mapping.table.schema
    translated_to = connection.get_execution_options().get("schema_translate_map")
    return translated_to.get(schema, schema) if translated_to else schema


def table_name(connection: Connection, mapping: TicketMapping) -> str:
    """Return the name of the table, as SQL."""
    schema = schema_of(connection, mapping)
    name = quoted(connection, mapping.table.name)
    return name if schema is None else f"{quoted(connection, schema)}.{name}"


def quoted(connection: Connection, name: str) -> str:
    """Quote a name as the database reads it; SQLAlchemy's own `quote` doubles per cent signs for some drivers."""
    preparer = connection.dialect.identifier_preparer
    if "%" not in name:
        return preparer.quote(name)
    inner = name.replace(preparer.escape_quote, preparer.escape_to_quote)
    return f"{preparer.initial_quote}{inner}{preparer.final_quote}"


def _missing(mapping: TicketMapping) -> MappingError:
    return MappingError(
        f"there is no table {mapping.table.fullname}: create it (for our own tables: "
        "metadata.create_all(engine), or a migration) before the first message"
    )


def _of_postgresql(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    name = table_name(connection, mapping)
    table = connection.execute(text("SELECT CAST(to_regclass(:name) AS oid)"), {"name": name}).scalar()
    if table is None:
        raise _missing(mapping)
    generated = connection.execute(
        text(
            "SELECT quote_ident(a.attname), pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a "
            "JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
            "WHERE a.attrelid = :table AND a.attgenerated <> ''"
        ),
        {"table": table},
    ).all()
    found = connection.execute(
        text(
            "SELECT CAST(CAST(i.indexrelid AS regclass) AS text), "
            "ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) AS k), "
            "pg_get_expr(i.indpred, i.indrelid), NOT i.indimmediate, i.indisunique, "
            "i.indisvalid AND i.indisready, i.indisprimary, (SELECT quote_ident(c.conname) FROM pg_constraint c "
            "WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')) "
            "FROM pg_index i WHERE i.indrelid = :table ORDER BY 1"
        ),
        {"table": table},
    ).all()
    for index, parts, predicate, deferrable, unique, valid, primary, constraint in found:
        yield Index(
            index,
            tuple(parts),
            predicate,
            tuple((column, expression) for column, expression in generated if column in parts),
            deferrable=deferrable,
            unique=unique,
            valid=valid,
            primary=primary,
            constraint=constraint is not None,
            sql=constraint or index,
        )


def _of_mariadb(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    place = {"schema": schema_of(connection, mapping), "table": mapping.table.name}
    where = "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
    columns = connection.execute(
        text(f"SELECT column_name, generation_expression FROM information_schema.columns {where}"),  # noqa: S608
        place,
    ).all()
    if not columns:
        raise _missing(mapping)
    generated = {quoted(connection, name): expression for name, expression in columns if expression}
    # A rule over the first characters of a column is not about the whole value.
    rows = connection.execute(
        text(
            "SELECT index_name, column_name, sub_part, non_unique FROM information_schema.statistics "  # noqa: S608
            f"{where} ORDER BY index_name, seq_in_index"
        ),
        place,
    ).all()
    for index, grouped in groupby(rows, key=lambda row: row.index_name):
        parts = list(grouped)
        if any(part.column_name is None or part.sub_part is not None for part in parts):
            continue
        names = tuple(quoted(connection, part.column_name) for part in parts)
        yield Index(
            index,
            names,
            None,
            tuple((name, generated[name]) for name in names if name in generated),
            unique=not parts[0].non_unique,
            primary=index == "PRIMARY",
            sql=quoted(connection, index),
        )


def _of_sqlite(connection: Connection, mapping: TicketMapping) -> Iterator[Index]:
    schema = schema_of(connection, mapping)
    prefix = "" if schema is None else f"{quoted(connection, schema)}."
    in_text = prefix.replace(":", r"\:")
    table = quoted(connection, mapping.table.name)
    if not connection.exec_driver_sql(f"PRAGMA {prefix}table_info({table})").all():
        raise _missing(mapping)
    for _, name, unique, origin, _ in connection.exec_driver_sql(f"PRAGMA {prefix}index_list({table})").all():
        rows = connection.exec_driver_sql(f"PRAGMA {prefix}index_xinfo({quoted(connection, name)})").all()
        sql = connection.execute(
            text(f"SELECT sql FROM {in_text}sqlite_master WHERE type = 'index' AND name = :name"),  # noqa: S608
            {"name": name},
        ).scalar()
        written, predicate = _split_create_index(sql or "")
        parts = tuple(
            written[seqno] if column is None else quoted(connection, column)
            for seqno, _, column, _, _, in_key in rows
            if in_key
        )
        yield Index(
            name,
            parts,
            predicate,
            unique=bool(unique),
            primary=origin == "pk",
            constraint=origin != "c",
            sql=f"{prefix}{quoted(connection, name)}",
        )


def _split_create_index(sql: str) -> tuple[list[str], str | None]:
    """Split `CREATE INDEX ... (a, f(b, c)) WHERE d` into its parts and its predicate."""
    parts, depth, quote, start = [""], 0, "", None
    for place, character in enumerate(sql):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                start = place + 1
                break
        if depth == 1 and character == "," and not quote:
            parts.append("")
        elif depth > 1 or (depth == 1 and character != "("):
            parts[-1] += character
    rest = sql[start:].strip() if start is not None else ""
    predicate = rest[len("WHERE") :].strip() if rest[:5].upper() == "WHERE" else None
    return [part.strip() for part in parts], predicate
