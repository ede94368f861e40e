"""The checks of an audit that ask the catalogue: unique rule, indexes, companion tables, transactions, ids.

Law of this file: a check takes a View and says what it sees; no row of the host is read but the highest id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen
from sqlalchemy import BigInteger, Integer, SmallInteger, func, inspect, select, text
from sqlalchemy.dialects import mysql

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import Index, table_name
from ticketrouter.sqlalchemy.findings import Check, Level, Observation, View, plain
from ticketrouter.sqlalchemy.mapping import KEY, MappingError, TicketMapping
from ticketrouter.sqlalchemy.rules import STRICTNESS, Detected, judge

_BUILD = "`ticketrouter schema` prints the index on active tickets"


# --- the unique rule -----------------------------------------------------------------------------------------


@frozen
class Judged:
    """A unique index, and what it does.

    Args:
        index: the index.
        rule: the rule that it enforces; NONE: none.
        problem: why it contradicts the StatusScheme; empty: it does not.
        vacuous: whether it forbids nothing, because the ticket's own id is in it.
        refuses_closing: whether a ticket cannot be closed while another closed one of its key is there.
    """

    index: Index
    rule: UniqueRule
    problem: str = ""
    vacuous: bool = False
    refuses_closing: bool = False

    @property
    def in_the_way(self) -> bool:
        """Whether the rule on active tickets is of no use beside it, or it is of none beside the rule."""
        other = self.rule in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}
        return bool(other or self.problem or self.vacuous or self.refuses_closing)


def judged_indexes(connection: Any, mapping: TicketMapping, found: tuple[Index, ...]) -> list[Judged]:
    """Judge each unique index that is about contacts; the primary key is not among them."""
    return [
        _judged(connection, mapping, index)
        for index in found
        if index.unique and index.valid and not index.primary and _about_contacts(mapping, index)
    ]


def _judged(connection: Any, mapping: TicketMapping, index: Index) -> Judged:
    fields = _fields(mapping, index)
    if "id" in fields:
        return Judged(index, UniqueRule.NONE, vacuous=True)
    try:
        detected = judge(connection, mapping, index)
    except MappingError as error:
        return Judged(index, UniqueRule.NONE, problem=str(error))
    rule = UniqueRule.NONE if detected is None else detected.rule
    # Another column, as a uuid, would tell two closed tickets apart.
    of_the_ticket = {*KEY, "status", "is_group", "user_id", "queue_id"}
    closing = detected is None and "status" in fields and None not in fields and fields <= of_the_ticket
    return Judged(index, rule, refuses_closing=closing and index.predicate is None)


def _about_contacts(mapping: TicketMapping, index: Index) -> bool:
    column = mapping.columns["contact_id"].name
    return any(column in expression for expression in index.expressions())


def _fields(mapping: TicketMapping, index: Index) -> set[str | None]:
    """Tell the fields of an index's columns; None stands for what is no column of a field."""
    names = {column.name: field for field, column in mapping.columns.items()}
    return {names.get(_bare(part)) for part in index.parts}


def _bare(part: str) -> str:
    return part.strip('"`')


def unique_rule(view: View) -> tuple[UniqueRule | None, list[Observation]]:
    """Tell the strictest rule, and what there is to say of each unique index.

    Returns:
        The rule, None where an index contradicts the StatusScheme; and the observations.
    """
    found = judged_indexes(view.connection, view.mapping, view.indexes)
    seen = [_of_rule(view, judged) for judged in found if judged.rule is not UniqueRule.NONE]
    rule = max((judged.rule for judged in found), key=STRICTNESS.index, default=UniqueRule.NONE)
    problems = [judged for judged in found if judged.problem]
    seen += [
        Observation(
            Check.UNIQUE_RULE, Level.FINDING, judged.problem, _contradiction(), 1, (_told(judged.index),)
        )
        for judged in problems
    ]
    if not seen:
        seen.append(
            Observation(
                Check.UNIQUE_RULE,
                Level.FINDING,
                "nothing in the database forbids a second active ticket of a contact on one connection",
                f"{_BUILD}; until it is there the library has to lock instead",
            )
        )
    seen += _nullable(view)
    seen += [
        _of_other(view, judged) for judged in found if judged.rule is UniqueRule.NONE and not judged.problem
    ]
    seen += [
        Observation(
            Check.UNIQUE_INDEXES,
            Level.FINDING,
            f"the index {index.name} is invalid: building it was broken off, as by a duplicate",
            f"DROP INDEX {index.sql}, close the duplicates (`ticketrouter repair`), and build it again",
            1,
            (_told(index),),
        )
        for index in view.indexes
        if not index.valid
    ]
    return (None if problems and rule is UniqueRule.NONE else rule), seen


def _contradiction() -> str:
    return (
        "name the active words that the desk really has, or build the index anew from the words of the scheme"
    )


def _of_rule(view: View, judged: Judged) -> Observation:
    name = f"{judged.index.name}{_lie(view.mapping, judged.index)}"
    match judged.rule:
        case UniqueRule.ACTIVE_PER_CONNECTION:
            level, told, advice = Level.OK, "allows one active ticket per contact and connection", ""
        case UniqueRule.ONE_PER_CONNECTION:
            level = Level.FINDING
            told = (
                "allows one ticket for ever per contact and connection: once it is closed, the next message can "
                "only reopen it"
            )
            advice = f"{_BUILD}, and how to drop this one"
        case _:
            level = Level.FINDING
            told = "allows one ticket for ever per contact: a message on a second connection has no place"
            advice = f"{_BUILD}, and how to drop this one"
    return Observation(Check.UNIQUE_RULE, level, f"{name} {told}", advice, 1, (_told(judged.index),))


def _of_other(view: View, judged: Judged) -> Observation:
    index = judged.index
    lie = _lie(view.mapping, index)
    if judged.vacuous:
        level, told = Level.NOTE, f"has {view.name('id')} in it, so it forbids nothing"
        advice = "drop it: whoever reads its name believes in a rule that is not there"
    elif judged.refuses_closing:
        level = Level.FINDING
        told = (
            "has the status in it: a ticket cannot be closed where a closed one of its key is there already"
        )
        advice = f"drop it before `ticketrouter repair`; {_BUILD}"
    else:
        level, told = Level.NOTE, "does not say how many active tickets a contact may have on a connection"
        advice = "drop it if nothing else needs it" if lie else ""
    return Observation(Check.UNIQUE_INDEXES, level, f"{index.name}{lie} {told}", advice, 1, (_told(index),))


def _lie(mapping: TicketMapping, index: Index) -> str:
    """Say what a name speaks of, where that is not what the index is over."""
    spoken = index.name.lower().replace("_", "")
    columns = {field: mapping.columns[field].name for field in ("id", *KEY) if field in mapping.columns}
    named = [c for field, c in columns.items() if field != "id" and c.lower().replace("_", "") in spoken]
    over = {_bare(part) for part in index.parts}
    if not named or {c for c in columns.values() if c in over} == set(named):
        return ""
    return f" (its name speaks of {', '.join(named)}, and it is over {', '.join(map(_bare, index.parts))})"


def _told(index: Index) -> dict[str, Any]:
    return {"index": index.name, "columns": [_bare(part) for part in index.parts], "where": index.predicate}


def _nullable(view: View) -> Iterator[Observation]:
    found = {
        column["name"]: column["nullable"]
        for column in inspect(view.connection).get_columns(view.table.name, schema=view.schema)
    }
    nullable = [column.name for column in view.key if found.get(column.name, False)]
    if nullable:
        yield Observation(
            Check.UNIQUE_RULE,
            Level.NOTE,
            f"{', '.join(nullable)} may be NULL: no unique rule sees such a row, and it is used for no message",
            "see orphans",
            len(nullable),
        )


# --- the indexes that find tickets ---------------------------------------------------------------------------


def lookup_indexes(view: View) -> Iterator[Observation]:
    """Tell whether a message's tickets can be found without reading the whole table."""
    by_contact = [index for index in view.indexes if index.valid and is_by_contact(view.mapping, index)]
    whole = [index for index in by_contact if index.predicate is None]
    active = whole or [index for index in by_contact if _has_all_active(view, index)]
    if whole:
        names = ", ".join(index.name for index in whole)
        yield Observation(Check.LOOKUP_INDEXES, Level.OK, f"tickets are found by their contact ({names})")
        return
    if not active:
        yield Observation(
            Check.LOOKUP_INDEXES,
            Level.FINDING,
            "no index begins with the contact: each message reads the whole table to find its active tickets",
            "`ticketrouter schema` prints it",
        )
    yield Observation(
        Check.LOOKUP_INDEXES,
        Level.FINDING,
        "no index finds a contact's closed tickets: each message that may reopen one reads the whole table",
        "`ticketrouter schema` prints it",
    )


def is_by_contact(mapping: TicketMapping, index: Index) -> bool:
    """Tell whether an index begins with the contact, or with company and contact."""
    contact, leading = mapping.columns["contact_id"].name, [_bare(part) for part in index.parts]
    company = mapping.columns["company_id"].name if "company_id" in mapping.columns else contact
    return leading[:1] == [contact] or leading[:2] == [company, contact]


def _has_all_active(view: View, index: Index) -> bool:
    try:
        judged: Detected | None = judge(view.connection, view.mapping, index)
    except MappingError:
        return False
    return judged is not None and (judged.words is None or judged.words >= view.mapping.statuses.active)


# --- what else the schema has --------------------------------------------------------------------------------


def companion_tables(view: View, rule: UniqueRule | None) -> Iterator[Observation]:
    """Tell whether message ids are remembered, and whether there is something to lock."""
    there = inspect(view.connection)
    mapping = view.mapping
    if there.has_table(mapping.message_ids.name, schema=view.schema):
        yield Observation(
            Check.COMPANION_TABLES, Level.OK, "message ids are remembered: a redelivery is harmless"
        )
    else:
        yield Observation(
            Check.COMPANION_TABLES,
            Level.NOTE,
            f"there is no table {mapping.message_ids.name}: a redelivered message is counted again",
            "`ticketrouter schema` prints it",
        )
    if rule is UniqueRule.NONE and not there.has_table(mapping.anchors.name, schema=view.schema):
        yield Observation(
            Check.COMPANION_TABLES,
            Level.FINDING,
            f"there is no table {mapping.anchors.name}, which is locked where there is no unique rule",
            "build the index on active tickets, which needs no lock, or this table: `ticketrouter schema`",
        )


_USUAL = {
    "postgresql": {"READ COMMITTED"},
    "mysql": {"READ COMMITTED", "REPEATABLE READ"},
    "mariadb": {"READ COMMITTED", "REPEATABLE READ"},
}


def transactions(view: View) -> Iterator[Observation]:
    """Tell at which isolation new connections are, and what the table's engine or the file's mode does."""
    dialect = view.connection.dialect
    if dialect.name == "sqlite":
        mode = view.connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        told = f"the file is in journal mode {mode}"
        if mode == "wal":
            yield Observation(
                Check.TRANSACTIONS, Level.OK, f"{told}: readers and the writer do not wait for each other"
            )
        else:
            yield Observation(
                Check.TRANSACTIONS,
                Level.NOTE,
                f"{told}: readers and the writer wait for each other",
                "call ticketrouter.sqlalchemy.configure_sqlite(engine) in the application",
            )
        return
    level = str(dialect.default_isolation_level)
    usual = level in _USUAL[dialect.name]
    yield Observation(
        Check.TRANSACTIONS,
        Level.OK if usual else Level.NOTE,
        f"new connections are at {level}",
        "" if usual else "the loser of a race gets ContentionError: run the whole unit of work again",
    )
    if dialect.name in {"mysql", "mariadb"}:
        yield from _engine(view)


def _engine(view: View) -> Iterator[Observation]:
    engine = view.connection.execute(
        text(
            "SELECT engine FROM information_schema.tables "
            "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
        ),
        {"schema": view.schema, "table": view.table.name},
    ).scalar()
    if str(engine).lower() != "innodb":
        yield Observation(
            Check.TRANSACTIONS,
            Level.FINDING,
            f"the table's engine is {engine}, which has no transactions",
            f"ALTER TABLE {view.table.name} ENGINE=InnoDB",
        )


_NEARLY_FULL = 0.8


def ids(view: View) -> Iterator[Observation]:
    """Tell how much room is left for ids."""
    column = view.column("id")
    highest = _highest_id(column.type) if view.connection.dialect.name != "sqlite" else None
    if highest is None:
        return
    used = max(
        (
            plain(number)
            for number in (view.connection.execute(select(func.max(column))).scalar(), _sequence(view))
            if number is not None
        ),
        default=0,
    )
    share = used / highest
    told = f"{share:.1%} of the ids that {column.name} has room for are used"
    if share < _NEARLY_FULL:
        yield Observation(Check.IDS, Level.OK, told, count=used)
    else:
        yield Observation(Check.IDS, Level.FINDING, told, f"make {column.name} a BIGINT", used)


def _highest_id(type_: Any) -> int | None:
    if not isinstance(type_, Integer):
        return None
    unsigned = bool(getattr(type_, "unsigned", False))
    match type_:
        case BigInteger():
            bits = 64
        case mysql.MEDIUMINT():
            bits = 24
        case mysql.TINYINT():
            bits = 8
        case SmallInteger():
            bits = 16
        case _:
            bits = 32
    highest: int = 2 ** (bits if unsigned else bits - 1) - 1
    return highest


def _sequence(view: View) -> int | None:
    """Return the last number that was given out: upserts use up more of them than there are rows."""
    if view.connection.dialect.name == "postgresql":
        # Without the right to look at the sequence, asking it would end the transaction.
        asked = text(
            "SELECT CASE WHEN has_sequence_privilege(s, 'SELECT') OR has_sequence_privilege(s, 'USAGE') "
            "THEN pg_sequence_last_value(s) END "
            "FROM (SELECT CAST(pg_get_serial_sequence(:table, :column) AS regclass) AS s) AS ticketrouter_sequence"
        )
        named: dict[str, str | None] = {
            "table": table_name(view.connection, view.mapping),
            "column": view.name("id"),
        }
    else:
        asked = text(
            "SELECT auto_increment - 1 FROM information_schema.tables "
            "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :table"
        )
        named = {"schema": view.schema, "table": view.table.name}
    given = view.connection.execute(asked, named).scalar()
    return None if given is None else int(given)
