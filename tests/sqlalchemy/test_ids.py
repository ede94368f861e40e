"""That an id is one row's is checked, and not believed: before anything is written, and by an audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    select,
    text,
)
from sqlalchemy.pool import NullPool

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import InboundMessage, TicketKey, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.audit import Level, audit
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.health.findings import Check
from ticketrouter.sqlalchemy.health.repair import plan_repair

MESSAGE = InboundMessage(1, 50, 10)
EVERYWHERE = ("sqlite", "psycopg", "pymysql")
DESK = (
    "CREATE TABLE desk (id {id}, company_id INTEGER NOT NULL, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
    "status VARCHAR(20) NOT NULL, unread INTEGER, updated_at INTEGER NOT NULL, deleted_at INTEGER{more}){after}"
)
PLAIN = "INTEGER NOT NULL"
VIEW = (
    DESK.format(id="INTEGER PRIMARY KEY", more="", after="").replace("desk", "kept", 1),
    "CREATE VIEW desk AS SELECT * FROM kept",
)


def made(id_: str = PLAIN, more: str = "", after: str = "", *then: str) -> tuple[str, ...]:
    return (DESK.format(id=id_, more=f", {more}" if more else "", after=after), *then)


PROVED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "primary key": (EVERYWHERE, made("INTEGER PRIMARY KEY")),
    "primary key by itself": (EVERYWHERE, made(PLAIN, "PRIMARY KEY (id)")),
    "unique": (EVERYWHERE, made(PLAIN, "UNIQUE (id)")),
    "unique index of any name": (EVERYWHERE, made(PLAIN, "", "", "CREATE UNIQUE INDEX {odd} ON desk (id)")),
    "unique index": (EVERYWHERE, made(PLAIN, "", "", "CREATE UNIQUE INDEX i ON desk (id)")),
    "beside another primary key": (EVERYWHERE, made(PLAIN, "n {serial} PRIMARY KEY, UNIQUE (id)")),
    "beside a key of several": (EVERYWHERE, made(PLAIN, "PRIMARY KEY (id, updated_at), UNIQUE (id)")),
    "without rowid": (("sqlite",), made("INTEGER PRIMARY KEY", "", " WITHOUT ROWID")),
    "an INT": (("sqlite",), made("INT PRIMARY KEY")),
    "downwards": (("sqlite",), made("INTEGER PRIMARY KEY DESC")),
    "partitioned by id": (
        ("psycopg", "pymysql"),
        made("INTEGER PRIMARY KEY", "", " PARTITION BY {kind} (id){parts}", "{part}"),
    ),
}
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "nothing": (EVERYWHERE, made(), ""),
    "an index that is not unique": (EVERYWHERE, made(PLAIN, "", "", "CREATE INDEX i ON desk (id)"), ""),
    "with the time": (EVERYWHERE, made(PLAIN, "PRIMARY KEY (id, updated_at)"), "together"),
    "with the company": (EVERYWHERE, made(PLAIN, "PRIMARY KEY (company_id, id)"), "together"),
    "with both": (EVERYWHERE, made(PLAIN, "UNIQUE (updated_at, company_id, id)"), "together"),
    "of another column": (EVERYWHERE, made(PLAIN, "n INTEGER DEFAULT 7 PRIMARY KEY"), ""),
    "without rowid, with the time": (
        ("sqlite",),
        made(PLAIN, "PRIMARY KEY (id, updated_at)", " WITHOUT ROWID"),
        "together",
    ),
    "partial": (
        ("sqlite", "psycopg"),
        made(PLAIN, "", "", "CREATE UNIQUE INDEX i ON desk (id) WHERE deleted_at IS NULL"),
        "some of the rows",
    ),
    "an expression": (
        ("sqlite", "psycopg"),
        made(PLAIN, "", "", "CREATE UNIQUE INDEX i ON desk (abs(id))"),
        "",
    ),
    "deferrable": (("psycopg",), made("INTEGER PRIMARY KEY DEFERRABLE INITIALLY DEFERRED"), "deferrable"),
    "inherited": (
        ("psycopg",),
        made("INTEGER PRIMARY KEY", "", "", "CREATE TABLE child () INHERITS (desk)"),
        "inherit",
    ),
    "partitioned by time": (
        ("psycopg", "pymysql"),
        made(PLAIN, "PRIMARY KEY (id, updated_at)", " PARTITION BY {kind} (updated_at){parts}", "{part}"),
        "together",
    ),
    "of the parts alone": (
        ("psycopg",),
        made(PLAIN, "", " PARTITION BY HASH (id)", "{part}", "CREATE UNIQUE INDEX i ON ONLY desk (id)"),
        "invalid",
    ),
    "a view": (EVERYWHERE, VIEW, ""),
    "a virtual table": (
        ("sqlite",),
        (
            "CREATE VIRTUAL TABLE desk USING fts5(id, company_id, contact_id, connection_id, status, unread, updated_at)",
        ),
        "",
    ),
}
FILLED = {
    "sqlite": {"serial": "INTEGER", "odd": '"50% ids"'},
    "psycopg": {"kind": "HASH", "parts": "", "serial": "SERIAL", "odd": '"50% ids"'},
    "pymysql": {
        "kind": "HASH",
        "parts": " PARTITIONS 2",
        "serial": "INTEGER AUTO_INCREMENT",
        "odd": "`50% ids`",
    },
}
PART = "CREATE TABLE part PARTITION OF desk FOR VALUES WITH (MODULUS 1, REMAINDER 0)"


def mapping() -> TicketMapping:
    table = Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True, default=count(1000).__next__),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread", Integer),
        Column("updated_at", Integer, nullable=False),
    )
    without = dict.fromkeys(("is_group", "user_id", "queue_id", "created_at", "closed_at"))
    return TicketMapping(table, unread_messages="unread", **without)  # type: ignore[arg-type]


@contextmanager
def host(databases: Databases, backend: Backend, statements: tuple[str, ...]) -> Iterator[Engine]:
    url = databases.new(backend.database)
    engine = create_engine(url, poolclass=NullPool)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    with engine.begin() as connection:
        for statement in statements:
            filled = statement
            for name, value in FILLED[backend.name].items():
                filled = filled.replace(f"{{{name}}}", value)
            if filled != "{part}" or backend.database == "postgresql":
                connection.execute(text(filled.replace("{part}", PART)))
        mapping().metadata.create_all(connection)
    try:
        yield engine
    finally:
        engine.dispose()
        databases.drop(url)


def everything(connection: Connection) -> list[Any]:
    ours = mapping()
    tables = (ours.table, *ours.metadata.sorted_tables)
    return [[tuple(row) for row in connection.execute(select(table))] for table in tables]


def of(cases: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("backend", "name"),
        [
            pytest.param(backend, name, id=f"{backend.name}-{name}")
            for name, case in cases.items()
            for backend in ONE_PER_DATABASE
            if backend.name in case[0]
        ],
    )


@of(PROVED)
def test_a_table_is_taken_whose_ids_are_proved_unique(
    databases: Databases, backend: Backend, name: str
) -> None:
    """Also a batch, which MariaDB is told to find by the index of the ids, whatever that is called."""
    with host(databases, backend, PROVED[name][1]) as engine, engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping()))
        ticket = router.resolve(MESSAGE).ticket
        other = router.open(TicketKey(1, 51, 10))
        many = router.resolve_many([MESSAGE, InboundMessage(1, 51, 10)] * 5)
        seen = [s for s in audit(connection, mapping()).observations if s.check is Check.IDS]

    assert {ticket.id, other.id} == {each.ticket.id for each in many}
    assert [] == [each for each in seen if each.level is Level.FINDING]


@of(REFUSED)
def test_a_table_is_refused_whose_ids_are_not(databases: Databases, backend: Backend, name: str) -> None:
    """Each time, before anything is written; its unique rule can be asked for, and the audit says what is wrong."""
    _, statements, why = REFUSED[name]
    with host(databases, backend, statements) as engine, engine.begin() as connection:
        before = everything(connection)
        repository = SQLAlchemyTicketRepository(connection, mapping())
        router = TicketRouter(repository)
        acts = (
            lambda: router.resolve(MESSAGE),
            lambda: router.resolve_many([MESSAGE] * 5),
            lambda: router.find_active(TicketKey(1, 50, 10)),
            lambda: router.close(1, 1),
            lambda: router.merge_contacts(1, 50, 60),
            lambda: [*plan_repair(connection, mapping())],
        )
        for act in acts:
            with pytest.raises(MappingError, match="add a unique index on id alone") as error:
                act()
            assert why in str(error.value)
        assert UniqueRule.NONE is detect_unique_rule(connection, mapping())
        (finding,) = [each for each in audit(connection, mapping()).findings if each.check is Check.IDS]
        missing_steps(connection, mapping())

        assert before == everything(connection)
    assert why in finding.text
    assert "add a unique index on id alone" in finding.advice
