"""What a host gets wrong about its table or its database is told by an error of ours, which names no value."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    FetchedValue,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)
from sqlalchemy.orm import Session

from tests.sqlalchemy.conftest import Place
from tests.support.backends import SQL_BACKENDS, Backend, Databases, SqlStore
from tests.support.whaticket import DATABASES
from ticketrouter import InboundMessage, Outcome, RepositoryError, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.faults import names_in
from ticketrouter.sqlalchemy.health.repair import plan_repair

CANARY = "5511987654321"
MESSAGE = InboundMessage(1, CANARY, 10)


# --- columns that nobody can write ------------------------------------------------------------------------------


def _copied(**changed: Column[Any]) -> Table:
    own = TicketMapping.own().table
    columns = [
        changed[column.name]
        if column.name in changed
        else Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in own.columns
    ]
    more = [column for name, column in changed.items() if name not in own.columns]
    return Table("tickets", MetaData(), *columns, *more)


FIELDS = ("company_id", "connection_id", "status", "is_group", "unread_messages", "user_id", "updated_at")


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_on_a_generated_column_is_refused(field: str) -> None:
    type_ = TicketMapping.own().table.columns[field].type
    generated = Column(field, type_, Computed("1"), nullable=False)
    with pytest.raises(MappingError, match=rf"tickets\.{field} \({field}\) is a generated column"):
        TicketMapping(_copied(**{field: generated}))


def test_a_field_on_an_identity_that_is_always_made_is_refused() -> None:
    number = Column("unread_messages", Integer, Identity(always=True), nullable=False)
    with pytest.raises(MappingError, match="or pass unread_messages=None"):
        TicketMapping(_copied(unread_messages=number))


def test_a_generated_column_in_on_create_is_refused() -> None:
    table = _copied(slug=Column("slug", String(20), Computed("'x'")))
    with pytest.raises(MappingError, match=r"on_create has tickets\.slug, a generated column"):
        TicketMapping(table, on_create={"slug": "y"})

    TicketMapping(table)


_NUMBER = {
    "sqlite": "id INTEGER PRIMARY KEY",
    "postgresql": "id SERIAL PRIMARY KEY",
    "mariadb": "id INTEGER AUTO_INCREMENT PRIMARY KEY",
}


@pytest.mark.parametrize("database", DATABASES)
def test_a_generated_column_is_seen_where_the_table_is_reflected(place: Place) -> None:
    """As a desk has it whose group chats are known by their id."""
    with place.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE chats ({_NUMBER[place.database]}, company_id INTEGER NOT NULL, contact_id INTEGER NOT NULL,"
                " connection_id INTEGER NOT NULL, status VARCHAR(20) NOT NULL, updated_at TIMESTAMP NOT NULL,"
                " is_group SMALLINT GENERATED ALWAYS AS (contact_id % 2) STORED)"
            )
        )
        table = Table("chats", MetaData(), autoload_with=connection)
        connection.execute(text("DROP TABLE chats"))
    absent: dict[str, Any] = dict.fromkeys(
        ("unread_messages", "user_id", "queue_id", "created_at", "closed_at")
    )
    with pytest.raises(MappingError, match=r"chats\.is_group \(is_group\) is a generated column"):
        TicketMapping(table, **absent)

    TicketMapping(table, **absent, is_group=None)


# --- several mappings over one MetaData ---------------------------------------------------------------------------


@pytest.mark.parametrize("database", DATABASES)
def test_two_mappings_of_one_table_share_its_companions(place: Place) -> None:
    metadata = MetaData()
    one = TicketMapping.own(metadata=metadata)
    two = TicketMapping(one.table, metadata=metadata)
    with place.begin() as connection:
        metadata.create_all(connection)
        message = InboundMessage(1, CANARY, 10, message_id="m")
        found = [
            TicketRouter(SQLAlchemyTicketRepository(connection, each)).resolve(message).outcome
            for each in (one, two, one)
        ]

    assert (one.message_ids, one.anchors) == (two.message_ids, two.anchors)
    assert [Outcome.CREATED, Outcome.DUPLICATE, Outcome.DUPLICATE] == found


def test_a_companion_is_as_it_would_be_alone() -> None:
    """Its index, its schema and the MetaData's naming convention are not lost on the way."""
    metadata = MetaData(schema="desk", naming_convention={"ix": "index_of_%(column_0_name)s"})
    shared = TicketMapping.own(metadata=metadata).message_ids

    assert metadata is shared.metadata
    assert ("desk", {"index_of_routed_at"}) == (shared.schema, {index.name for index in shared.indexes})


def test_our_own_table_is_made_once() -> None:
    metadata = MetaData()
    TicketMapping.own(metadata=metadata)
    with pytest.raises(MappingError, match="has a table ticketrouter_tickets already: keep the mapping"):
        TicketMapping.own(metadata=metadata)

    TicketMapping.own(metadata=metadata, prefix="other_")


@pytest.mark.parametrize("name", ["ticketrouter_message_ids", "tickets_anchors"])
def test_a_companion_of_other_columns_is_refused(name: str) -> None:
    metadata = MetaData()
    Table(name, metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(MappingError, match=f"has a table {name} that is no companion of tickets"):
        TicketMapping(_copied(), metadata=metadata)


# --- a plan outside of a transaction ------------------------------------------------------------------------------


@pytest.mark.parametrize("database", DATABASES)
def test_a_plan_in_autocommit_is_refused(place: Place) -> None:
    mapping = TicketMapping.own()
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
    engine = create_engine(place.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(MappingError, match="without AUTOCOMMIT"):
        plan_repair(connection, mapping)
    engine.dispose()


# --- refusals name the constraint and the column ------------------------------------------------------------------

CHECK = "ALTER TABLE ticketrouter_tickets ADD CONSTRAINT few CHECK (unread_messages < 2)"
FOREIGN = (
    "CREATE TABLE person (id {text} PRIMARY KEY)",
    "ALTER TABLE ticketrouter_tickets ADD CONSTRAINT known FOREIGN KEY (contact_id) REFERENCES person (id)",
)
NEEDED = "ALTER TABLE ticketrouter_tickets ADD COLUMN topic INTEGER NOT NULL"
TEXT = {
    "postgresql": "varchar(255)",
    "mariadb": "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
}
REFUSALS = (
    pytest.param((CHECK,), "constraint few", id="check"),
    pytest.param(FOREIGN, "constraint known", id="foreign key"),
    pytest.param((NEEDED,), "column topic", id="not null"),
)


@pytest.mark.parametrize(
    "backend", [each for each in SQL_BACKENDS if each.database != "sqlite"], ids=lambda backend: backend.name
)
@pytest.mark.parametrize(("changes", "named"), REFUSALS)
def test_a_refusal_names_what_refuses(
    backend: Backend, databases: Databases, changes: tuple[str, ...], named: str
) -> None:
    """By every driver, and never the person whose row it was."""
    url = databases.new(backend.database)
    store = SqlStore(backend, url, TicketMapping.own())
    store.mapping.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        for change in changes:
            connection.execute(text(change.format(text=TEXT[backend.database])))
    if NEEDED in changes:  # something fills it, its host says, and nothing does
        store.mapping.table.append_column(Column("topic", Integer, server_default=FetchedValue()))
    with pytest.raises(RepositoryError) as refused, store.transaction() as repository:
        [TicketRouter(repository).resolve(MESSAGE) for _ in range(2)]
    store.dispose()
    databases.drop(url)

    assert named in str(refused.value)
    assert CANARY not in str(refused.value) + repr(refused.value)


SQLITE_REFUSALS = (
    (
        "CREATE TRIGGER no BEFORE UPDATE ON ticketrouter_tickets BEGIN SELECT RAISE(ABORT, '"
        + CANARY
        + "'); END",
        "",
    ),
    ("CREATE TABLE more (topic INTEGER NOT NULL)", ", column more.topic"),
    ("CREATE TABLE more (topic INTEGER, CONSTRAINT few CHECK (topic < 2))", ", constraint few"),
    ("CREATE TABLE more (topic INTEGER UNIQUE)", ", column more.topic"),
    (
        "CREATE TABLE more (topic TEXT); CREATE UNIQUE INDEX folded ON more (lower(topic))",
        ", constraint folded",
    ),
)


@pytest.mark.parametrize(("made", "named"), SQLITE_REFUSALS)
def test_a_refusal_of_sqlite_names_what_refuses(made: str, named: str) -> None:
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE ticketrouter_tickets (id INTEGER)")
        connection.execute("INSERT INTO ticketrouter_tickets VALUES (1)")
        connection.executescript(made)
        sent = (
            ["INSERT INTO more VALUES (NULL)"] if "NOT NULL" in made else ["INSERT INTO more VALUES (3)"] * 2
        )
        sent = ["UPDATE ticketrouter_tickets SET id = 2"] if "TRIGGER" in made else sent
        with pytest.raises(sqlite3.IntegrityError) as refused:
            [connection.execute(statement) for statement in sent]
    connection.close()

    assert named == "".join(f", {what} {name}" for what, name in names_in(refused.value))


HOSTILE: tuple[tuple[int, str, list[tuple[str, str]]], ...] = (
    (1062, f"Duplicate entry '{CANARY}' for key 'x' y' for key 'uq_active'", [("constraint", "uq_active")]),
    (1062, f"Doppelter Eintrag '{CANARY}' für Schlüssel 'uq_active'", []),
    (1366, f"Incorrect integer value: 'a for column `b`.`c`.`{CANARY}` at row 1' for column `d`.`t`.`n` at row 1",
     [("column", "n")]),
    (1366, f"Incorrect integer value: '{CANARY}' for column 'n' at row 1", [("column", "n")]),
    (1048, "Column 'topic' cannot be null", [("column", "topic")]),
    (1644, f"for key '{CANARY}'", []),
    (1062, f"Duplicate entry 'a' for key '{'k' * 200}'", []),
    (1062, "Duplicate entry 'a' for key 'uq\nactive'", []),
    (3819, "Check constraint 'few' is violated.", [("constraint", "few")]),
)  # fmt: skip


@pytest.mark.parametrize(("code", "told", "expected"), HOSTILE)
def test_a_value_in_a_text_is_not_taken_for_a_name(
    code: int, told: str, expected: list[tuple[str, str]]
) -> None:
    """Not where the value itself reads as such a text does."""
    assert expected == names_in(Exception(code, told))


# --- sessions that lead nowhere ------------------------------------------------------------------------------------


def test_a_session_without_an_engine_and_a_closed_connection_are_told() -> None:
    engine = create_engine("sqlite://")
    closed = engine.connect()
    closed.close()
    for host, told in ((Session(), "bound to no engine"), (closed, "could not be sent")):
        with pytest.raises(RepositoryError, match=told) as refused:
            TicketRouter(SQLAlchemyTicketRepository(host)).resolve(MESSAGE)

        assert not refused.value.retryable
    engine.dispose()
