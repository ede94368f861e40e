"""Identifiers and words reach SQL only through SQLAlchemy's quoting, or as what the database's catalogue says.

Law of this file: hostile names on every database, and a look at the sources for SQL that is put together by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Index, Integer, MetaData, String, Table, inspect, text

import ticketrouter
from tests.sqlalchemy.conftest import Place
from tests.support.whaticket import DATABASES
from ticketrouter import InboundMessage, Outcome, Policy, Reopen, StatusScheme, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
)

EVIL = "x\"; DROP TABLE 't`s:y %s %(z)s -- ]["
WORDS = StatusScheme(
    active=frozenset({"o'); DROP TABLE victim; --", "p:x %s%%", 'a`"'}),
    initial="p:x %s%%",
    reopened="p:x %s%%",
    accepted="o'); DROP TABLE victim; --",
    closed="c' OR '1'='1",
)
every_database = pytest.mark.parametrize("database", DATABASES)


@contextmanager
def victim(place: Place, *tables: MetaData) -> Iterator[None]:
    """A table that an injected statement would drop; afterwards all of them go."""
    with place.begin() as connection:
        connection.execute(text("CREATE TABLE victim (id INTEGER)"))
    try:
        yield
        with place.begin() as connection:
            assert inspect(connection).has_table("victim")
    finally:
        with place.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS victim"))
            for metadata in tables:
                metadata.drop_all(connection)


def add_rule(place: Place, table: Table, columns: list[Column[Any]]) -> None:
    """Add the right unique rule, under names that are as bad as the rest."""
    *key, status = columns
    words = ", ".join(f"'{word.replace(chr(39), 2 * chr(39))}'" for word in sorted(WORDS.active))
    with place.begin() as connection:
        quote = connection.dialect.identifier_preparer.quote
        if place.database != "mariadb":
            active = status.in_(sorted(WORDS.active))
            index = Index(f"uq{EVIL}", *key, unique=True, postgresql_where=active, sqlite_where=active)
            index.create(connection)
            return
        flag, doubled = quote(f"active{EVIL}"), words.replace("%", "%%")
        connection.exec_driver_sql(
            f"ALTER TABLE {quote(table.name)} ADD COLUMN {flag} SMALLINT AS "
            f"(IF({quote(status.name)} IN ({doubled}), 1, NULL)) VIRTUAL, ADD UNIQUE INDEX {quote('uq' + EVIL)} "
            f"({', '.join(quote(column.name) for column in key)}, {flag})"
        )


def live(place: Place, mapping: TicketMapping) -> list[Outcome]:
    """Let a ticket live through a message of each outcome and every act of the desk."""
    with place.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping), Policy(reopen=Reopen.always()))
        message = InboundMessage("1", "c", "10", message_id="m")
        made = router.resolve(message)
        outcomes = [made.outcome, router.resolve(message).outcome]
        outcomes.append(router.resolve(InboundMessage("1", "c", "10")).outcome)
        if "user_id" in mapping.columns:
            router.accept("1", made.ticket.id, "u")
        router.transfer("1", made.ticket.id, "11")
        router.close("1", made.ticket.id)
        outcomes.append(router.resolve(InboundMessage("1", "c", "11")).outcome)
        router.close("1", made.ticket.id)
        batch = router.resolve_many([InboundMessage("1", contact, "11") for contact in ("c", "d", "c")])
        assert [Outcome.REOPENED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
    return outcomes


EVERY_OUTCOME = [Outcome.CREATED, Outcome.DUPLICATE, Outcome.REUSED, Outcome.REOPENED]


@every_database
def test_our_own_tables_bear_any_prefix_and_words(place: Place) -> None:
    """Prefix and status words of our own schema are names and texts, whatever stands in them."""
    # SQLAlchemy's own DDL doubles the per cent signs of a table's name, so that it finds no such table.
    mapping = TicketMapping.own(prefix=EVIL, statuses=WORDS)
    with victim(place, mapping.metadata):
        with place.begin() as connection:
            mapping.metadata.create_all(connection)

            assert UniqueRule.ACTIVE_PER_CONNECTION is detect_unique_rule(connection, mapping)
        assert EVERY_OUTCOME == live(place, mapping)


@every_database
@pytest.mark.parametrize("ruled", [True, False], ids=["unique rule", "no rule"])
def test_a_table_of_the_host_bears_any_names(place: Place, ruled: bool) -> None:
    """Table, column and index names of a host are names, whatever stands in them."""
    fields = ("company_id", "contact_id", "connection_id", "status", "updated_at")
    # MariaDB takes names of at most 64 characters that do not end in a space.
    names: dict[str, Any] = {field: f"{field[:8]}{field[-4:]}{EVIL}" for field in fields}
    metadata = MetaData()
    table = Table(
        f"desk{EVIL}",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(names[field], String(50), nullable=False) for field in fields[:4]),
        Column(names["updated_at"], DateTime, nullable=False),
    )
    absent: dict[str, Any] = dict.fromkeys(
        ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")
    )
    mapping = TicketMapping(table, **names, **absent, statuses=WORDS, prefix=f"ours{EVIL}")
    with victim(place, mapping.metadata, metadata):
        with place.begin() as connection:
            metadata.create_all(connection)
            mapping.metadata.create_all(connection)
        if ruled:
            add_rule(place, table, [table.c[name] for name in list(names.values())[:4]])
        expected = UniqueRule.ACTIVE_PER_CONNECTION if ruled else UniqueRule.NONE
        with place.begin() as connection:
            assert expected is detect_unique_rule(connection, mapping)
        assert EVERY_OUTCOME == live(place, mapping)


@every_database
def test_a_name_that_sqlalchemy_takes_for_a_parameter_is_refused(place: Place) -> None:
    """Where parameters are "?", it would look for the end of %( behind the name; elsewhere it doubles the sign."""
    mapping = TicketMapping.own(prefix="ours%(", statuses=WORDS)
    with victim(place, mapping.metadata):
        with place.begin() as connection:
            mapping.metadata.create_all(connection)
        if place.database != "sqlite":
            assert EVERY_OUTCOME == live(place, mapping)
            return
        with place.begin() as connection:
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            with pytest.raises(MappingError, match=re.escape("ours%(tickets has a '%(' in it")):
                router.resolve(InboundMessage(1, 2, 3))
            with pytest.raises(MappingError, match="rename it first"):
                detect_unique_rule(connection, mapping)


# --- SQL that is put together by hand ---------------------------------------------------------------------------


SOURCES = Path(ticketrouter.__file__).parent
RAW = {"text", "literal_column", "DDL", "exec_driver_sql", "raw_connection"}
"""What takes SQL as a string; whatever else SQLAlchemy sends it has quoted and bound itself."""
REVIEWED = {
    "schema.own_tickets": "status words as literals, which the mapping has checked",
    "schema.altered": "a change that a room says: the quoted name of an index, and status words as literals, or constants",
    "parts.Parts.found": "a role, which is a word of the module",
    "parts.Parts.count_of": "a whole number, made one there",
    "parts.Parts.held_by_an_index": "expressions and predicate of an index, as the catalogue has them",
    "parts.Parts.conflict": "expressions and predicate of an index, as the catalogue has them",
    "parts.Parts.in_rule": "the quoted name of a generated column, and what it is in active rows as a literal",
    "health.repair._last_change": "one of two constants of the module, by the type of the column",
    "proofs.Reading._equal": "quoted names, and as literals status words and what an index compares them with",
    "stored_words.StoredWords.literals": "what the status column stores for a word, as a literal: the mapping's own",
    "words.taken_for": "the same, and a word of the scheme as a literal",
    "closing_time.ClosingTime._is_empty": "what stands for no time, as a literal: the mapping's own",
    "moves.Moves.take_up": "a whole number, made one there",
    "row_condition.RowCondition.written.constant": "a constant of the host's own condition, as SQLAlchemy writes it",
    "row_condition.RowCondition._named.named": "the quoted name of a column",
    "row_condition.RowCondition.of_new_row": "the host's own condition, as SQLAlchemy writes it",
    "row_condition._text_on_columns": "the host's own text, but for the names of columns in it",
    "dialects.postgresql.proofs._values": "expressions and predicate of an index, as the catalogue has them; made-up "
    "values are bound",
    "dialects.postgresql.proofs._is_arbiter": "quoted names, parts of an index as the catalogue has them, and status "
    "words as literals",
    "fit_words._Asked._query": "quoted names, the status words as literals, and conditions as the catalogue has them",
    "dialects.postgresql.catalogue._asked": "a constant of the module; the name is bound",
    "dialects.postgresql.catalogue._indexes": "one of two constants of the module",
    "dialects.postgresql.catalogue._kept": "a constant of the module; the names are bound",
    "dialects.postgresql.catalogue._place": "a constant of the module; the names are bound",
    "dialects.mariadb.statements.MariaDBParts.insert_unless_taken": "the quoted name of a column of the mapping",
    "dialects.mariadb.statements.MariaDBWrites._rivals": "the quoted names of the table and its id, per cent signs not "
    "doubled yet",
    "dialects.mariadb.catalogue._columns": "constants of the module; the names are bound",
    "dialects.mariadb.catalogue._indexes": "a condition of the module's own; the names are bound",
    "dialects.mariadb.catalogue._place": "a constant of the module; the names are bound",
    "dialects.mariadb.catalogue._values_of_active": "the catalogue's own expression, the quoted name of the status, and status "
    "words as literals",
    "dialects.mariadb.catalogue.told_of_the_table": "one of two constants of the room; the names are bound",
    "dialects.sqlite.catalogue._indexes": "quoted names, as PRAGMA takes no bound ones",
    "dialects.sqlite.catalogue._place": "the quoted name of a schema; the other names are bound",
    "dialects.sqlite.catalogue._columns_there": "the quoted name of a schema; the table's is bound",
    "dialects.sqlite.statements.SQLiteParts._is_met": "the quoted names of the table and its id",
    "dialects.sqlite.catalogue._refuse_own_conflict_clause": "the quoted name of a schema; the table's is bound",
}
"""Where a string of SQL is no constant, and what goes into it. Nothing of a message, ever."""


def harmless(sql: ast.expr) -> bool:
    """Tell whether it is a constant, or a status word as `schema.quoted` writes it."""
    called = sql.func if isinstance(sql, ast.Call) else None
    return isinstance(sql, ast.Constant) or getattr(called, "id", None) == "quoted"


def handmade(module: Path, root: Path) -> Iterator[str]:
    """List the functions that give SQLAlchemy a string of SQL that is no constant."""

    def walk(node: ast.AST, place: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from walk(child, f"{place}.{child.name}")
                continue
            if isinstance(child, ast.Call):
                name = getattr(child.func, "attr", getattr(child.func, "id", None))
                if name in RAW and not (child.args and harmless(child.args[0])):
                    yield place
            yield from walk(child, place)

    name = ".".join(module.relative_to(root).with_suffix("").parts)
    yield from walk(ast.parse(module.read_text(encoding="utf-8")), name)


def test_sql_is_put_together_by_hand_only_where_it_was_reviewed() -> None:
    """A new string of SQL in the adapter that is no constant must be looked at, and say what goes into it."""
    root = SOURCES / "sqlalchemy"
    found = {place for module in root.rglob("*.py") for place in handmade(module, root)}

    assert set(REVIEWED) == found


def test_the_look_at_the_sources_finds_a_careless_statement(tmp_path: Path) -> None:
    """A statement with a message's id formatted into it is found, in a function, a method or a nested one."""
    module = tmp_path / "careless.py"
    module.write_text(
        "class C:\n    def m(self, i):\n        def n():\n            return text(f'SELECT {i}')\n"
        "def f(c, i):\n    c.exec_driver_sql('SELECT %s' % i)\n    c.execute(text('SELECT 1'))\n",
        encoding="utf-8",
    )

    assert {"careless.C.m.n", "careless.f"} == set(handmade(module, tmp_path))
