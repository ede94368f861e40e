"""What is known of a database is known of the place in use, and no longer than it is so."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.pool import NullPool

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from tests.support.races import Cell, racetrack, set_rule
from ticketrouter import InboundMessage, Outcome, RepositoryError, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.sqlalchemy import known as knowledge

HERE = InboundMessage(1, 5, 10)
WITH_ID = InboundMessage(1, 5, 10, message_id="m")
SERVERS = ("postgresql", "mariadb")


def router(connection: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(connection, mapping))


def a_cell(database: str, rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION) -> Cell:
    isolation = "SERIALIZABLE" if database == "sqlite" else "READ COMMITTED"
    return Cell(database, isolation, rule, old_snapshot=False)


@contextmanager
def two_places(
    databases: Databases, database: str
) -> Iterator[tuple[Engine, TicketMapping, tuple[str, str]]]:
    """Yield an engine of one connection, and two schemas: the first has nothing but tickets, and no rule."""
    url, mapping = databases.new(database), TicketMapping.own()
    names = f"{url.database}_a", f"{url.database}_b"
    engine = create_engine(url, pool_size=1, max_overflow=0)
    with engine.begin() as connection:
        for name in names:
            connection.execute(text(f"CREATE {'SCHEMA' if database == 'postgresql' else 'DATABASE'} {name}"))
            lead(connection, name)
            if name.endswith("_a"):
                mapping.table.create(connection)
                set_rule(connection, mapping, UniqueRule.NONE)
            else:
                mapping.metadata.create_all(connection, checkfirst=False)
    try:
        yield engine, mapping, names
    finally:
        with engine.begin() as connection:
            for name in names:
                kind = "SCHEMA" if database == "postgresql" else "DATABASE"
                connection.execute(text(f"DROP {kind} {name}{' CASCADE' if kind == 'SCHEMA' else ''}"))
        engine.dispose()
        databases.drop(url)


def lead(connection: Connection, name: str) -> None:
    """Lead a connection to a schema, as a host with one for each tenant does."""
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql(f"SET LOCAL search_path = {name}" if postgresql else f"USE {name}")


@pytest.mark.parametrize("database", SERVERS)
def test_each_place_has_its_own_rule(databases: Databases, database: str) -> None:
    """One connection is led from one to the other: what holds in one is not believed in the other."""
    told: list[Any] = []
    with two_places(databases, database) as (engine, mapping, (without, with_rule)):
        for name in (with_rule, without, with_rule, without):
            with engine.begin() as connection:
                lead(connection, name)
                try:
                    told.append(router(connection, mapping).resolve(HERE).outcome)
                except MappingError as error:
                    told.append(str(error).partition(":")[0])

    refused = "ticketrouter_tickets has no unique rule on active tickets"
    assert [Outcome.CREATED, refused, Outcome.REUSED, refused] == told


@pytest.mark.parametrize("database", SERVERS)
@pytest.mark.parametrize(
    "act",
    [
        "open",
        "find_active",
        "resolve_many",
        "on two connections",
        "transfer",
        "merge_contacts",
        "get",
        "get a namesake",
    ],
)
def test_every_operation_asks_where_it_is(databases: Databases, database: str, act: str) -> None:
    """A connection that has last been in a place with a rule claims, and so is refused, in one without."""
    with two_places(databases, database) as (engine, mapping, (without, with_rule)):
        with engine.begin() as connection:
            lead(connection, with_rule)
            ticket = router(connection, mapping).resolve(HERE).ticket
        with engine.begin() as connection:
            lead(connection, with_rule)
            router(connection, mapping).find_active(HERE.key)
            lead(connection, without)
            desk = router(connection, mapping)
            namesake = {column.key: getattr(ticket, name) for name, column in mapping.columns.items()}
            match act:
                case "open":
                    with pytest.raises(MappingError, match="has no unique rule"):
                        desk.open(HERE.key)
                case "find_active":
                    assert desk.find_active(HERE.key) is None
                case "resolve_many":
                    with pytest.raises(MappingError, match="has no unique rule"):
                        desk.resolve_many([HERE, InboundMessage(1, 6, 10)])
                case "on two connections":  # such messages are looked for before any is written
                    with pytest.raises(MappingError, match="has no unique rule"):
                        desk.resolve_many([HERE, InboundMessage(1, 5, 11)])
                case "merge_contacts":
                    with pytest.raises(MappingError, match="has no unique rule"):
                        desk.merge_contacts(1, 5, 6)
                case "transfer":
                    connection.execute(mapping.table.insert().values(namesake))
                    with pytest.raises(MappingError, match="has no unique rule"):
                        desk.transfer(1, ticket.id, 13)
                case "get a namesake":
                    connection.execute(mapping.table.insert().values(namesake))
                    assert ticket == SQLAlchemyTicketRepository(connection, mapping).get(1, ticket.id)
                case _:
                    assert SQLAlchemyTicketRepository(connection, mapping).get(1, ticket.id) is None
            plan = knowledge.known(connection, mapping)

    assert UniqueRule.NONE is plan.statements.rule


TABLE = "ticketrouter_tickets"
RULE = f"uq_{TABLE}_active"
DROP = f"ALTER TABLE {TABLE} DROP INDEX {RULE}"
OPEN_ALONE = (
    f"CREATE UNIQUE INDEX {RULE} ON {TABLE} (company_id, contact_id, connection_id) WHERE status = 'open'"
)
BY_ACTIVE = "(company_id, contact_id, active, connection_id)"
OPEN_COUNTS = "active SMALLINT GENERATED ALWAYS AS (CASE WHEN status = 'open' THEN 1 END) VIRTUAL"
CHANGES = {
    "postgresql": [
        f"DROP INDEX {RULE}",
        f"DROP INDEX {RULE}; {OPEN_ALONE}",
        f"ALTER TABLE {TABLE} ALTER COLUMN connection_id DROP NOT NULL",
        f"ALTER TABLE {TABLE} ALTER COLUMN status TYPE varchar(200)",
        f'ALTER TABLE {TABLE} ALTER COLUMN status TYPE varchar COLLATE "C"',
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
        "DROP TABLE ticketrouter_message_ids",
        "DROP TABLE ticketrouter_tickets_anchors",
    ],
    "mariadb": [
        f"{DROP}, ADD UNIQUE INDEX {RULE} (company_id, contact_id, active)",
        f"{DROP}, ADD INDEX {RULE} {BY_ACTIVE}",
        f"{DROP}, DROP COLUMN active, ADD {OPEN_COUNTS}, ADD UNIQUE INDEX {RULE} {BY_ACTIVE}",
        f"ALTER TABLE {TABLE} MODIFY status varchar(255) COLLATE utf8mb4_bin NOT NULL",
        f"ALTER TABLE {TABLE} MODIFY user_id varchar(50) DEFAULT ''",
        "DROP TABLE ticketrouter_message_ids",
        "DROP TABLE ticketrouter_tickets_anchors",
    ],
    "sqlite": [
        f"DROP INDEX {RULE}",
        f"DROP INDEX {RULE}; {OPEN_ALONE}",
        "DROP TABLE ticketrouter_message_ids",
        "DROP TABLE ticketrouter_tickets_anchors",
    ],
}
"""What a host may do to our own tables, of which the statements or the unique rule depend on something."""


@pytest.mark.parametrize(
    ("database", "change"), [(database, each) for database, changes in CHANGES.items() for each in changes]
)
def test_a_new_connection_notices_what_has_become_of_the_table(
    databases: Databases, database: str, change: str
) -> None:
    """Nothing is believed of it that an earlier connection was told."""
    with racetrack(databases, a_cell(database)) as (engine, mapping):
        with engine.begin() as connection:
            before = knowledge.known(connection, mapping)
        with engine.begin() as connection:
            for statement in change.split("; "):
                connection.exec_driver_sql(statement)
        engine.pool.dispose()
        with engine.begin() as connection:
            after = knowledge.known(connection, mapping)

    assert before is not after


def test_a_translated_schema_is_a_place(databases: Databases) -> None:
    """A schema_translate_map is known before anything is sent."""
    told: list[Any] = []
    with two_places(databases, "postgresql") as (engine, mapping, (without, with_rule)):
        for name in (with_rule, without, with_rule):
            with engine.execution_options(schema_translate_map={None: name}).begin() as connection:
                try:
                    told.append(router(connection, mapping).resolve(WITH_ID).outcome)
                except MappingError as error:
                    told.append(str(error).partition(" ")[0])

    assert [Outcome.CREATED, "ticketrouter_message_ids", Outcome.DUPLICATE] == told


@pytest.mark.parametrize("many", [False, True])
def test_mariadb_notices_that_the_rule_has_gone(databases: Databases, *, many: bool) -> None:
    """The look names the index, so that the very message is guarded by the anchor; every connection asks again."""
    messages = [HERE, InboundMessage(1, 6, 10)]
    with (
        racetrack(databases, a_cell("mariadb")) as (engine, mapping),
        engine.connect() as first,
        engine.connect() as second,
    ):
        for connection in (first, second):
            router(connection, mapping).resolve(InboundMessage(1, 99, 10))
            connection.commit()
        set_rule(first, mapping, UniqueRule.NONE)
        first.commit()
        for connection in (first, second):
            desk = router(connection, mapping)
            found = desk.resolve_many(messages) if many else [desk.resolve(HERE)]
            connection.commit()
        anchors = second.execute(mapping.anchors.select()).all()
        second.rollback()

    assert {Outcome.REUSED} == {each.outcome for each in found}
    assert (2 if many else 1) == len(anchors)


UNIQUE = "ticketrouter_tickets ALTER INDEX uq_ticketrouter_tickets_active"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("guarded", [True, False])
def test_mariadb_notices_an_index_that_is_ignored(databases: Databases, *, guarded: bool, many: bool) -> None:
    """Whoever has an index IGNORED may drop it unnoticed the next moment, so it is no rule any more."""
    messages = [HERE, InboundMessage(1, 6, 10)]
    with racetrack(databases, a_cell("mariadb")) as (engine, mapping), engine.connect() as connection:
        desk = router(connection, mapping)
        desk.resolve(InboundMessage(1, 99, 10))
        connection.commit()
        with engine.begin() as other:
            other.execute(text(f"ALTER TABLE {UNIQUE} IGNORED"))
            if not guarded:
                mapping.anchors.drop(other)
        if not guarded:
            with pytest.raises(MappingError, match="has no unique rule on active tickets"):
                desk.resolve_many(messages) if many else desk.resolve(HERE)
            return
        for _ in range(2):
            found = desk.resolve_many(messages) if many else [desk.resolve(HERE)]
            connection.commit()
        anchors = connection.execute(mapping.anchors.select()).all()
        connection.commit()
        connection.invalidate()
        with engine.begin() as other:
            other.execute(text(f"ALTER TABLE {UNIQUE} NOT IGNORED"))
        desk.resolve(HERE)
        plan = knowledge.known(connection, mapping)

    assert {Outcome.REUSED} == {each.outcome for each in found}
    assert (2 if many else 1) == len(anchors)
    assert UniqueRule.ACTIVE_PER_CONNECTION is plan.statements.rule


@pytest.mark.parametrize("act", ["merge_contacts", "move_connection", "resolve"])
def test_mariadb_locks_without_an_index_that_is_ignored(databases: Databases, act: str) -> None:
    """What names it is sent once more, by what is left."""
    with racetrack(databases, a_cell("mariadb", UniqueRule.NONE)) as (engine, mapping):
        with engine.begin() as connection:
            connection.execute(text("CREATE INDEX of_contacts ON ticketrouter_tickets (contact_id)"))
            connection.execute(text("CREATE INDEX of_connections ON ticketrouter_tickets (connection_id)"))
        with engine.begin() as connection:
            router(connection, mapping).resolve(HERE)
            ways = knowledge.known(connection, mapping).statements.parts.detected.ways
            indexes = inspect(connection).get_indexes(mapping.table.name)
        with engine.begin() as connection:
            for index in indexes:
                connection.execute(
                    text(f"ALTER TABLE ticketrouter_tickets ALTER INDEX {index['name']} IGNORED")
                )
        with engine.connect() as connection:
            desk = router(connection, mapping)
            match act:
                case "merge_contacts":
                    desk.merge_contacts(1, 5, 6)
                case "move_connection":
                    desk.move_connection(1, 10, 11)
                case _:
                    # The write of a new ticket names it, too, and is not sent again.
                    with pytest.raises(RepositoryError, match="1176") as caught:
                        desk.resolve(InboundMessage(1, 7, 10))
                    assert caught.value.retryable
                    connection.rollback()
                    assert Outcome.CREATED is desk.resolve(InboundMessage(1, 7, 10)).outcome
            left = knowledge.known(connection, mapping).statements.parts.detected.ways
            connection.commit()

    assert None not in (ways.contact, ways.connection)
    assert (None, None) == (left.contact, left.connection)


@pytest.mark.parametrize("gone", ["index", "column", "column of another index by that name"])
def test_mariadb_looks_without_an_index_that_has_another_place_now(databases: Databases, gone: str) -> None:
    """Whatever has become of it, the look is sent once more by what is there."""
    with racetrack(databases, a_cell("mariadb")) as (engine, mapping):
        with engine.begin() as connection:
            first = router(connection, mapping).resolve(HERE).ticket
        with engine.begin() as connection:
            name = "uq_ticketrouter_tickets_active"
            changes = [f"DROP INDEX {name}"]
            if gone != "index":
                changes.append("DROP COLUMN active")
            if "another" in gone:
                changes.append(f"ADD INDEX {name} (company_id, contact_id)")
            connection.execute(text(f"ALTER TABLE ticketrouter_tickets {', '.join(changes)}"))
        with engine.begin() as connection:
            found = router(connection, mapping).resolve(HERE)

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)


def test_postgresql_says_that_the_rule_has_gone(databases: Databases) -> None:
    """The error is retryable, and the next try, by whatever connection of the engine, is right."""
    with (
        racetrack(databases, a_cell("postgresql")) as (engine, mapping),
        engine.connect() as first,
        engine.connect() as second,
    ):
        for connection in (first, second):
            router(connection, mapping).resolve(InboundMessage(1, 99, 10))
            connection.commit()
        set_rule(first, mapping, UniqueRule.NONE)
        first.commit()
        with pytest.raises(RepositoryError, match="42P10") as error:
            router(first, mapping).resolve(HERE)
        first.rollback()
        found = [router(connection, mapping).resolve(HERE).outcome for connection in (second, second)]
        anchors = second.execute(mapping.anchors.select()).all()
        second.rollback()

    assert error.value.retryable
    assert [Outcome.CREATED, Outcome.REUSED] == found
    assert 1 == len(anchors)


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_mapping_for_each_unit_of_work_is_known_already(databases: Databases, backend: Backend) -> None:
    """It says the same, so it costs no statement and keeps nothing; its own callback is asked."""
    sent: list[str] = []
    with racetrack(databases, a_cell(backend.database)) as (engine, mapping):
        with engine.begin() as connection:
            router(connection, mapping).resolve(HERE)
            router(connection, mapping).resolve(HERE)
        event.listen(engine, "before_cursor_execute", lambda *about: sent.append(about[2]))
        counts = []
        for _ in range(20):
            sent.clear()
            with engine.begin() as connection:
                router(connection, TicketMapping.own()).resolve(HERE)
            counts.append(len(sent))
        kept = knowledge._engines[engine.dialect]
        gc.collect()

    assert 1 == len(set(counts)), sent
    assert (1, 1) == (len(kept.plans), len(kept.statements))


def test_mappings_that_say_something_else_are_others() -> None:
    """Every word counts, but for a callback."""
    table = TicketMapping.own().table
    usual = TicketMapping(table)

    assert usual.said == TicketMapping(table, on_create=lambda create: {}).said
    assert usual.said == TicketMapping(table.to_metadata(TicketMapping.own(prefix="x_").metadata)).said
    others = [
        TicketMapping(table, user_id=None),
        TicketMapping(table, user_id="queue_id", queue_id="user_id"),
        TicketMapping(table, remember_messages=False),
        TicketMapping(table, prefix="desk_"),
        TicketMapping(table, nullable_keys=True),
        TicketMapping.own(schema="x"),
    ]
    assert len({usual.said, *(each.said for each in others)}) == len(others) + 1


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_new_connection_costs_one_statement(databases: Databases, backend: Backend) -> None:
    """Where nothing is pooled, each unit of work asks once, and nothing is detected again."""
    sent: list[str] = []
    with racetrack(databases, a_cell(backend.database)) as (pooled, mapping):
        engine = create_engine(pooled.url, poolclass=NullPool)
        if backend.database == "sqlite":
            configure_sqlite(engine)
        kept = create_engine(pooled.url) if backend.database != "sqlite" else pooled
        counts = []
        for used in (engine, engine, engine, kept, kept, kept):
            sent.clear()
            with used.connect() as connection:
                event.listen(connection, "before_cursor_execute", lambda *about: sent.append(about[2]))
                router(connection, mapping).resolve(HERE)
                connection.commit()
            counts.append(len(sent))
        engine.dispose()
        kept.dispose()

    assert counts[2] == counts[1] == counts[-1] + 1


def test_what_is_kept_is_bounded(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes, and is found out again when it comes back."""
    monkeypatch.setattr(knowledge, "MOST_PLANS", 2)
    monkeypatch.setattr(knowledge, "MOST_STATEMENTS", 2)
    monkeypatch.setattr(knowledge, "MOST_BELIEFS", 2)
    engine = create_engine(databases.new("sqlite"))
    configure_sqlite(engine)
    mappings = [TicketMapping.own(prefix=f"p{n}_") for n in range(4)]
    found = []
    for mapping in mappings:
        mapping.metadata.create_all(engine)
    for mapping in (*mappings, *mappings):
        with engine.begin() as connection:
            found.append(router(connection, mapping).resolve(HERE).outcome)
            beliefs = connection.info["ticketrouter.known"]
    kept = knowledge._engines[engine.dialect]
    engine.dispose()

    assert [Outcome.CREATED] * 4 + [Outcome.REUSED] * 4 == found
    assert (2, 2) == (len(kept.plans), len(kept.statements))
    assert len(beliefs) <= 2


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_table_that_was_missing_is_found_once_it_is_there(databases: Databases, backend: Backend) -> None:
    """By the very connection that has been told that it was not."""
    with racetrack(databases, a_cell(backend.database)) as (engine, mapping), engine.connect() as connection:
        mapping.message_ids.drop(engine)
        with pytest.raises(MappingError, match="ticketrouter_message_ids is missing"):
            router(connection, mapping).resolve(WITH_ID)
        connection.rollback()
        mapping.message_ids.create(engine)
        found = [router(connection, mapping).resolve(WITH_ID).outcome for _ in range(2)]
        connection.rollback()

    assert [Outcome.CREATED, Outcome.DUPLICATE] == found


def test_what_was_asked_before_something_was_forgotten_is_asked_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread is told that the tables are not what they were, while this one is asking what they are."""
    asked, ask = [], knowledge.asked

    def counted(connection: Connection, mapping: TicketMapping) -> knowledge.Known:
        asked.append(mapping)
        return ask(connection, mapping)

    def meanwhile(connection: Connection, *_: object) -> None:
        if len(asked) == 1:
            knowledge.forget(connection)

    with racetrack(databases, a_cell("sqlite")) as (engine, mapping), engine.begin() as connection:
        monkeypatch.setattr(knowledge, "asked", counted)
        event.listen(engine, "before_cursor_execute", meanwhile)
        for _ in range(3):
            knowledge.known(connection, mapping)

    assert 2 == len(asked)


def test_our_own_index_finds_the_tickets_of_a_contact(databases: Databases) -> None:
    """On MariaDB the generated column stands before the connection: the look need not walk what is closed."""
    with racetrack(databases, a_cell("mariadb")) as (engine, mapping):
        (unique,) = [
            each
            for each in inspect(engine).get_indexes(mapping.table.name)
            if each["name"] == "uq_ticketrouter_tickets_active"
        ]

    assert ["company_id", "contact_id", "active", "connection_id"] == unique["column_names"]
