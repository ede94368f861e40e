"""What is no unique rule though it looks like one, database by database, and what looking for it does to a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, event, select

from tests.sqlalchemy.conftest import Place
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping, detect_unique_rule
from ticketrouter.sqlalchemy.catalogue import indexes
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.rules import Judged, detect, judged_indexes

ACTIVE, NONE = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
OPEN = "status IN ('open', 'pending')"
KEY = "company_id, contact_id, connection_id"
ABSENT: dict[str, Any] = dict.fromkeys(
    ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")
)
MAPPING = TicketMapping(
    Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "connection_id", "updated_at")),
        Column("contact_id", String(30), nullable=False),
        Column("status", String(20), nullable=False),
    ),
    **ABSENT,
)


def make(connection: Connection, *statements: str, contact: str = "VARCHAR(30)", more: str = "") -> None:
    connection.exec_driver_sql(
        "CREATE TABLE desk (id INTEGER PRIMARY KEY, company_id INTEGER NOT NULL, "
        f"contact_id {contact} NOT NULL, connection_id INTEGER NOT NULL, status VARCHAR(20) NOT NULL, "
        f"updated_at INTEGER NOT NULL, subject VARCHAR(20), deleted_at DATE{more})"
    )
    for statement in statements:
        connection.exec_driver_sql(statement)


def judged(connection: Connection, mapping: TicketMapping = MAPPING) -> list[Judged]:
    return judged_indexes(connection, mapping, indexes(connection, mapping))


@frozen
class Case:
    """A table, what is found of it, and a word of why."""

    name: str
    statements: tuple[str, ...]
    rule: UniqueRule = NONE
    why: str = ""
    contact: str = "VARCHAR(30)"
    more: str = ""


def over(parts: str = KEY, where: str = OPEN, name: str = "u") -> str:
    return f"CREATE UNIQUE INDEX {name} ON desk ({parts})" + (f" WHERE {where}" if where else "")


ON_POSTGRESQL = (
    Case("right", (over(),), ACTIVE),
    Case("whole key", (over(where=f"{OPEN} AND contact_id IS NOT NULL"),), ACTIVE),
    Case("without the company", (over("connection_id, contact_id"),), ACTIVE),
    Case("of a contact", (over("contact_id"),), UniqueRule.ONE_PER_CONTACT),
    Case("deleted", (over(where=f"{OPEN} AND deleted_at IS NULL"),), why="depends on deleted_at"),
    Case("of a text", (over(f"{KEY}, COALESCE(subject, '')"),), why="depends on subject"),
    Case("the whole row", (over(f"{KEY}, (desk IS NULL)"),), why="depends on the whole row"),
    Case("plain", (over(f"{KEY}, subject"),), why="apart by subject"),
    Case("one key", (over(where=f"{OPEN} AND connection_id > 5"),), why="does not prove"),
    Case("one word", (over(where="status = 'open'"),), why="leaves out the active tickets that are pending"),
    Case(
        "of case",
        (over(where="lower(status) = 'open'"),),
        why="leaves out the active tickets that are pending",
    ),
    Case(
        "NULLS NOT DISTINCT",
        (f"CREATE UNIQUE INDEX u ON desk ({KEY}, (CASE WHEN {OPEN} THEN 1 END)) NULLS NOT DISTINCT",),
        why="limits closed tickets",
    ),
    Case("pattern", (over(KEY.replace("contact_id", "contact_id text_pattern_ops")),), why="operator class"),
    Case("inherited", (over(), "CREATE TABLE child () INHERITS (desk)"), why="other tables inherit"),
    Case(
        "own function",
        (
            "CREATE FUNCTION one(text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
            over(f"{KEY}, one(status)", ""),
        ),
        why="not one that compares",
    ),
    Case("hash", ("CREATE INDEX u ON desk USING hash (contact_id)",)),
    Case(
        "generated",
        (
            f"ALTER TABLE desk ADD a INT GENERATED ALWAYS AS (CASE WHEN {OPEN} THEN 1 END) STORED",
            over(f"a, {KEY}", ""),
        ),
        ACTIVE,
    ),
    Case(
        "generated of more",
        (
            "ALTER TABLE desk ADD a INT GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN 1 END) STORED",
            over(f"a, {KEY}", ""),
        ),
        why="depends on deleted_at",
    ),
    Case("cannot be computed", (over(f"{KEY}, CAST(status AS int)", ""),), why="cannot be computed"),
)


def generated(expression: str, parts: str = f"{KEY}, a", type_: str = "TINYINT") -> tuple[str, ...]:
    return (
        f"ALTER TABLE desk ADD COLUMN a {type_} GENERATED ALWAYS AS ({expression})",
        f"CREATE UNIQUE INDEX u ON desk ({parts})",
    )


ON_MARIADB = (
    Case("right", generated(f"IF({OPEN}, 1, NULL)"), ACTIVE),
    Case("case", generated("CASE status WHEN 'open' THEN 1 WHEN 'pending' THEN 1 END"), ACTIVE),
    Case("whole key", generated(f"IF({OPEN} AND contact_id IS NOT NULL, 1, NULL)"), ACTIVE),
    Case("deleted", generated(f"IF({OPEN} AND deleted_at IS NULL, 1, NULL)"), why="depends on deleted_at"),
    Case("two values", generated("CASE status WHEN 'open' THEN 1 WHEN 'pending' THEN 2 END"), why="apart"),
    Case("closed too", generated(f"{OPEN}"), why="limits closed tickets"),
    Case("a function", generated("NULLIF(status <> 'closed', 0)"), why="not one that compares"),
    Case(
        "binary", generated("IF(status COLLATE utf8mb4_bin IN ('open', 'pending'), 1, NULL)"), why="not one"
    ),
    Case("a number", generated("IF(status = 0, 1, NULL)"), why="not one that compares"),
    Case("a date", generated(f"IF({OPEN}, '2026', NULL)", type_="DATE"), why="a is a date"),
    Case(
        "first letters",
        (f"CREATE UNIQUE INDEX u ON desk ({KEY.replace('contact_id', 'contact_id(3)')})",),
        why="first",
    ),
    Case(
        "ignored",
        (*generated(f"IF({OPEN}, 1, NULL)"), "ALTER TABLE desk ALTER INDEX u IGNORED"),
        why="IGNORED",
    ),
    Case("hash", (f"CREATE UNIQUE INDEX u ON desk ({KEY})",), why="HASH", contact="VARCHAR(3000)"),
    Case(
        "versions",
        (f"CREATE UNIQUE INDEX u ON desk ({KEY})", "ALTER TABLE desk ADD SYSTEM VERSIONING"),
        UniqueRule.ONE_PER_CONNECTION,
    ),
    Case(
        "overlaps",
        (f"ALTER TABLE desk ADD UNIQUE u ({KEY}, p WITHOUT OVERLAPS)",),
        why="apart by",
        more=", since DATE NOT NULL, until DATE NOT NULL, PERIOD FOR p (since, until)",
    ),
)
ON_SQLITE = (
    Case("right", (over(),), ACTIVE),
    Case("commented", (over(where="status /* ' */ IN ('open', -- '\n 'pending')"),), ACTIVE),
    Case(
        "hidden", (over(where=f"{OPEN} /* ' */ AND deleted_at IS NULL /* ' */"),), why="depends on deleted_at"
    ),
    Case("in brackets", (over(where=f"{OPEN} AND [deleted_at] IS NULL"),), why="depends on deleted_at"),
    Case("row", (over(where=f"{OPEN} AND rowid > 5"),), why="not one that compares"),
    Case("pattern", (over(where="status LIKE 'open' OR status = 'pending'"),), why="not one that compares"),
    Case(
        "finer",
        (over(KEY.replace("contact_id", "contact_id COLLATE BINARY")),),
        why="NOCASE",
        contact="TEXT COLLATE NOCASE",
    ),
    Case("as fine", (over(KEY.replace("contact_id", "contact_id COLLATE NOCASE")),), ACTIVE),
    Case(
        "generated",
        (
            f"ALTER TABLE desk ADD a INT AS (CASE WHEN {OPEN} THEN 1 END)",
            over(f"a, {KEY}", ""),
        ),
        ACTIVE,
    ),
    Case("expression", (over(f"{KEY}, (CASE WHEN {OPEN} THEN 1 END)", ""),), ACTIVE),
    Case("in order", (over("company_id DESC, contact_id ASC, connection_id"),), ACTIVE),
    Case("unknown name", (over(where=f"{OPEN} AND 1"),), ACTIVE),
)
CASES = {"postgresql": ON_POSTGRESQL, "mariadb": ON_MARIADB, "sqlite": ON_SQLITE}


@pytest.mark.parametrize(
    ("database", "case"),
    [pytest.param(d, each, id=f"{d}-{each.name}") for d, cases in CASES.items() for each in cases],
)
def test_an_index_is_what_is_proved_of_it(place: Place, case: Case) -> None:
    """The rule, and where it is none, why."""
    with place.begin() as connection:
        make(connection, *case.statements, contact=case.contact, more=case.more)
    with place.begin() as connection:
        found = detect_unique_rule(connection, MAPPING)
        reasons = [each.why for each in judged(connection)]
        clean(connection)

    assert case.rule is found
    assert any(case.why in each for each in reasons) or not case.why


def clean(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP TABLE desk CASCADE")
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS one")
        connection.exec_driver_sql("DROP TABLE IF EXISTS child")


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("where", [OPEN, "status = 'open'", f"{OPEN} AND connection_id > 5"])
def test_a_refused_proof_does_not_end_the_hosts_transaction(place: Place, where: str) -> None:
    """What the host has written stays, before and after, and no savepoint is left."""
    with place.begin() as connection:
        make(connection, over(where=where), over(f"{KEY}, CAST(status AS int)", "", "v"))
        detect_unique_rule(connection, MAPPING)
        connection.exec_driver_sql("INSERT INTO desk VALUES (1, 1, 'a', 1, '7', 0)")
    with place.begin() as connection:
        assert 1 == connection.exec_driver_sql("SELECT count(*) FROM desk").scalar()


HOSTS: dict[str, Callable[[Any], Any]] = {
    "read only": lambda engine: engine.execution_options(postgresql_readonly=True),
    "autocommit": lambda engine: engine.execution_options(isolation_level="AUTOCOMMIT"),
}


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("how", HOSTS)
def test_it_is_found_where_nothing_can_be_written(place: Place, how: str) -> None:
    """The proof inserts nothing, and needs no transaction."""
    with place.begin() as connection:
        make(connection, over(), over("contact_id", f"{OPEN} AND connection_id > 5", "v"))
    with HOSTS[how](place.engine).connect() as connection:
        assert ACTIVE is detect_unique_rule(connection, MAPPING)


@pytest.mark.parametrize("database", ["postgresql"])
def test_who_may_only_read_finds_it_by_the_words_alone(place: Place) -> None:
    """An audit runs under a role that may not insert: what is about the status alone is computed of every word."""
    with place.begin() as connection:
        make(connection, over(), over("connection_id, contact_id", f"{OPEN} AND contact_id IS NOT NULL", "v"))
        connection.exec_driver_sql("CREATE ROLE reader; GRANT SELECT ON desk TO reader")
        connection.exec_driver_sql("SET LOCAL ROLE reader")
        found = {each.index.name: each.rule for each in judged(connection)}
        connection.exec_driver_sql("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")

    assert {"u": ACTIVE, "v": NONE} == found


def test_of_a_full_rule_the_words_that_it_is_about_are_told(place: Place) -> None:
    """Where other words decide, not every row is in the way; where no word does, every row is."""
    if place.database == "mariadb":
        statements = generated("IF(status <> 'archived', 1, NULL)")
    else:
        statements = (over(where="status <> 'archived'"),)
    with place.begin() as connection:
        make(connection, *statements)
        some = detect(connection, MAPPING)
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX v ON desk ({KEY})")
        every = detect(connection, MAPPING)

    assert (UniqueRule.ONE_PER_CONNECTION, frozenset({"open", "pending", "closed"})) == (
        some.rule,
        some.words,
    )
    assert (UniqueRule.ONE_PER_CONNECTION, None) == (every.rule, every.words)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_a_closed_row_is_not_in_the_way_of_an_index_over_an_expression(place: Place) -> None:
    """Where the expression is NULL the index compares nothing, as where a generated column is."""
    with place.begin() as connection:
        make(connection, over(f"{KEY}, (CASE WHEN {OPEN} THEN 1 END)", ""))
        database = database_of(connection.dialect)
        statements = database.statements(MAPPING, connection.dialect, detect(connection, MAPPING), None)
        for n, status in enumerate(("closed", "open")):
            values = {"id": n, "company_id": 1, "contact_id": "a", "connection_id": 1, "updated_at": 0}
            connection.execute(MAPPING.table.insert().values(status=status, **values))
        held = select(MAPPING.table.c.status).where(*statements.parts.held_by_an_index)

        assert ["open"] == connection.execute(held).scalars().all()


@pytest.mark.parametrize("indexed", [1, 4])
def test_to_look_for_it_takes_few_statements(place: Place, indexed: int) -> None:
    """At most three for any number of indexes, and where some have conditions one more; on PostgreSQL four for each such."""
    with place.begin() as connection:
        if place.database == "mariadb":
            make(connection, *generated(f"IF({OPEN}, 1, NULL)"))
        else:
            make(connection, over())
        for n in range(1, indexed):
            connection.exec_driver_sql(f"CREATE UNIQUE INDEX v{n} ON desk (updated_at, id)")
    sent: list[str] = []
    with place.begin() as connection:
        event.listen(connection, "before_cursor_execute", lambda *args: sent.append(args[2]))
        detect_unique_rule(connection, MAPPING)

    assert len(sent) <= (6 if place.database == "postgresql" else 4)
    assert not [sql for sql in sent if sql.startswith(("INSERT", "UPDATE", "DELETE", "CREATE"))]


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_status_with_an_apostrophe_is_a_word_like_any_other(place: Place) -> None:
    """What is quoted in the index is unquoted once."""
    scheme = StatusScheme(active=frozenset({"it's", "open", "pending"}))
    mapping = TicketMapping(
        MAPPING.table,
        statuses=scheme,
        **ABSENT,
    )
    with place.begin() as connection:
        make(connection, over(where="status IN ('open', 'pending', 'it''s')"))
        found = detect(connection, mapping)

    assert (ACTIVE, scheme.active) == (found.rule, found.words)
