"""Companion tables that are another desk's: told before anything is written, and by an audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import BigInteger, Column, Engine, Integer, String, Uuid, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from tests.sqlalchemy.conftest import Place
from tests.sqlalchemy.test_odd_hosts import a_mapping, a_table, every_database, made
from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import InboundMessage, Outcome, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.health.audit import Check, audit

MESSAGE = InboundMessage(1, "a", 10, message_id="m")


def numbered(**options: Any) -> TicketMapping:
    """The desk that was there first."""
    return a_mapping(a_table(), **options)


def with_uuids(**options: Any) -> TicketMapping:
    table = a_table(id=Column("id", Uuid, primary_key=True, default=uuid4))
    table.name = "other_desk"
    return a_mapping(table, **options)


def with_texts(**options: Any) -> TicketMapping:
    return a_mapping(a_table(connection_id=Column("connection_id", String(30), nullable=False)), **options)


def with_long_ids(**options: Any) -> TicketMapping:
    return a_mapping(a_table(id=Column("id", BigInteger, primary_key=True)), **options)


def of_a_company_by_name(**options: Any) -> TicketMapping:
    return a_mapping(a_table(), company_id=None, only_company="ours", on_create={"company_id": 1}, **options)


@contextmanager
def two_desks(databases: Databases, backend: Backend, make: Callable[..., TicketMapping]) -> Iterator[Engine]:
    """A database with the companions of one desk, and the tickets of another one."""
    url = databases.new(backend.database)
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    numbered().metadata.create_all(engine)
    make().table.metadata.create_all(engine)
    try:
        yield engine
    finally:
        engine.dispose()
        databases.drop(url)


def resolved(engine: Engine, mapping: TicketMapping, message: InboundMessage = MESSAGE) -> Outcome:
    with engine.begin() as connection:
        return TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message).outcome


DESKS: dict[str, tuple[Callable[..., TicketMapping], InboundMessage, str, str]] = {
    "ids of another kind": (with_uuids, MESSAGE, "ticket_id", "id"),
    "connections of another kind": (
        with_texts,
        InboundMessage(1, "a", "10", message_id="m"),
        "connection_id",
        "connection_id",
    ),
}


@every_database
@pytest.mark.parametrize("name", DESKS)
def test_a_companion_of_other_ids_is_told_before_anything_is_written(
    databases: Databases, backend: Backend, name: str
) -> None:
    """Table, column, both types and what to pass; an audit finds it; with a prefix of its own the desk works."""
    make, message, column, field = DESKS[name]
    with two_desks(databases, backend, make) as engine:
        mapping = make()
        with pytest.raises(
            MappingError,
            match=rf"ticketrouter_message_ids\.{column} is of the type .*\({field}\) of the type",
        ) as told:
            resolved(engine, mapping)
        with engine.connect() as connection:
            rows = connection.execute(text(f"SELECT COUNT(*) FROM {mapping.table.name}")).scalar_one()
            found = [
                each for each in audit(connection, mapping).findings if each.check is Check.COMPANION_TABLES
            ]
        apart = make(prefix="other_")
        apart.metadata.create_all(engine)
        cured = resolved(engine, apart, message)

    assert 'prefix="..."' in str(told.value)
    assert 0 == rows
    assert [str(told.value)] == [
        f"{each.text}: {each.advice}" for each in found if "message_ids" in each.text
    ]
    assert Outcome.CREATED is cured


@pytest.mark.parametrize(
    "backend", [each for each in ONE_PER_DATABASE if each.database != "sqlite"], ids=lambda b: b.name
)
def test_a_companion_without_room_for_each_id_is_told(databases: Databases, backend: Backend) -> None:
    """SQLite keeps 64 bits in every column; elsewhere an id of 2**31 would be refused when it has come."""
    with (
        two_desks(databases, backend, with_long_ids) as engine,
        pytest.raises(
            MappingError, match=r"message_ids\.ticket_id is of the type int.* and has no room for each id"
        ),
    ):
        resolved(engine, with_long_ids())


@every_database
def test_a_company_that_a_companion_cannot_hold_is_told(databases: Databases, backend: Backend) -> None:
    """The tickets have no column for it, but the message ids do."""
    with (
        two_desks(databases, backend, of_a_company_by_name) as engine,
        pytest.raises(MappingError, match=r"company_id is of the type (?i:int).*, which cannot hold 'ours'"),
    ):
        resolved(engine, of_a_company_by_name(), InboundMessage("ours", "a", 10))


@every_database
def test_a_table_of_the_name_of_a_companion_is_told(databases: Databases, backend: Backend) -> None:
    """Somebody else's table of that name lacks what a companion has."""
    with two_desks(databases, backend, numbered) as engine:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE ticketrouter_message_ids RENAME COLUMN ticket_id TO number"))
        with pytest.raises(MappingError, match="has no column ticket_id, and is no companion of the tickets"):
            resolved(engine, numbered())
        ignored = resolved(engine, numbered(remember_messages=False))

    assert Outcome.CREATED is ignored


@every_database
def test_anchors_of_another_type_are_told(databases: Databases, backend: Backend) -> None:
    """They are named after the tickets: only a change of these, or another mapping, makes others of them."""
    with two_desks(databases, backend, numbered) as engine:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE desk_anchors"))
            connection.execute(
                text("CREATE TABLE desk_anchors (company_id INT, contact_id INT, version INT)")
            )
        with pytest.raises(
            MappingError, match=r"desk_anchors\.contact_id is of the type .*: .*drop it"
        ) as told:
            resolved(engine, numbered())
        with engine.connect() as connection:
            found = [
                each.text for each in audit(connection, numbered()).findings if "desk_anchors" in each.text
            ]

    assert 1 == len(found)
    assert str(told.value).startswith(found[0])


def with_text_ids(**options: Any) -> TicketMapping:
    table = a_table(id=Column("id", String(36), primary_key=True, default=lambda: str(uuid4())))
    return a_mapping(table, **options)


def test_a_companion_of_another_collation_is_told(databases: Databases) -> None:
    """MariaDB compares no columns of two collations; ids that it only compares with what is bound may have another."""
    [mariadb] = [each for each in ONE_PER_DATABASE if each.database == "mariadb"]
    with two_desks(databases, mariadb, with_text_ids) as engine:
        mapping = with_text_ids(prefix="other_")
        mapping.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE desk CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
            )
        with pytest.raises(
            MappingError,
            match=r"ticket_id is of the type .* does not compare \w+ with utf8mb4_unicode_ci: it is that of another",
        ):
            resolved(engine, mapping)
        with engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE other_message_ids MODIFY ticket_id VARCHAR(36) COLLATE utf8mb4_unicode_ci")
            )
        cured = resolved(engine, mapping)

    assert Outcome.CREATED is cured


COLLATIONS = (
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_bin",
    "utf8mb4_nopad_bin",
    "utf8mb3_general_ci",
    "latin1_swedish_ci",
    "latin1_german1_ci",
    "latin2_general_ci",
)


@pytest.mark.parametrize("database", ["mariadb"])
def test_it_is_known_which_collations_are_compared(place: Place) -> None:
    """The database is the oracle: what it compares is no reason to refuse a record that somebody has made."""
    names = [f"of_{collation}" for collation in COLLATIONS]
    with place.begin() as connection:
        for name, collation in zip(names, COLLATIONS, strict=True):
            set_ = collation.partition("_")[0]
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
            connection.exec_driver_sql(
                f"CREATE TABLE {name} (id VARCHAR(20) CHARACTER SET {set_} COLLATE {collation})"
            )
    mixes = database_of(place.engine.dialect).catalogue.mixes
    for (one, first), (other, second) in product(zip(names, COLLATIONS, strict=True), repeat=2):
        with place.begin() as connection:
            if other == one:
                continue
            try:
                connection.exec_driver_sql(f"SELECT 1 FROM {one} JOIN {other} ON {one}.id = {other}.id")
                compared = True
            except OperationalError as error:
                assert "Illegal mix of collations" in str(error)  # noqa: PT017
                compared = False

        assert compared == mixes(first, second), (first, second)
    with place.begin() as connection:
        for name in names:
            connection.exec_driver_sql(f"DROP TABLE {name}")


def with_declared(declared: Any) -> TicketMapping:
    return a_mapping(a_table(id=Column("id", declared, primary_key=True, default=lambda: str(uuid4()))))


@pytest.mark.parametrize(
    ("database", "type_", "declared"),
    [
        ("mariadb", "UUID", String(36)),
        ("mariadb", "CHAR(36) CHARACTER SET ascii", String(36)),
        ("mariadb", "CHAR(36) COLLATE utf8mb4_bin", String(36)),
        ("sqlite", "UUID", String(36)),
        ("sqlite", "STRING", String(36)),
    ],
)
def test_a_type_that_is_compared_with_it_is_no_other(place: Place, type_: str, declared: Any) -> None:
    """The record has the type that the Table says, and the tickets another one of the same values."""
    mapping = with_declared(declared)
    ddl = str(CreateTable(mapping.table).compile(place.engine))
    id_ = next(line.strip().rstrip(",") for line in ddl.split("\n") if line.strip().startswith("id "))
    with place.begin() as connection:
        mapping.table.drop(connection, checkfirst=True)
        mapping.metadata.drop_all(connection)
        mapping.metadata.create_all(connection)
        connection.exec_driver_sql(ddl.replace(id_, f"id {type_} NOT NULL"))
    outcomes = []
    for _ in range(2):
        with place.begin() as connection:
            found = TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(MESSAGE)
            outcomes.append(found.outcome)
    with place.begin() as connection:
        mapping.table.drop(connection)
        mapping.metadata.drop_all(connection)

    assert [Outcome.CREATED, Outcome.DUPLICATE] == outcomes


@every_database
def test_a_name_that_is_sent_without_quotes_is_there_as_the_database_folds_it(
    databases: Databases, backend: Backend
) -> None:
    table = a_table(company_id=Column("CompanyId", Integer, nullable=False, quote=False))
    mapping = a_mapping(table, company_id="CompanyId")
    with made(databases, backend, mapping) as engine:
        mapping.metadata.create_all(engine)

        assert Outcome.CREATED is resolved(engine, mapping)
