"""Our own tables, made by `create_all` and by Alembic: the right unique rule, and nothing left to migrate."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, inspect, select, text
from sqlalchemy.exc import IntegrityError

import ticketrouter
from tests.sqlalchemy.conftest import Place
from tests.support.whaticket import DATABASES
from ticketrouter import InboundMessage, Outcome, StatusScheme, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import (
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
)

every_database = pytest.mark.parametrize("database", DATABASES)


def odd(word: str) -> StatusScheme:
    return StatusScheme(
        active=frozenset({"aberto", word}), initial=word, reopened=word, accepted="aberto", closed="fim"
    )


def own(place: Place, **options: Any) -> TicketMapping:
    """Our own tables as the documentation has them for Alembic."""
    return TicketMapping.own(generated_column=place.database == "mariadb", **options)


def made_by(how: str, connection: Connection, mapping: TicketMapping) -> None:
    if how == "create_all":
        mapping.metadata.create_all(connection)
        return
    context = MigrationContext.configure(connection)
    with Operations.context(context) as op:
        names: dict[str, Any] = {"op": op, "sa": sqlalchemy, "ticketrouter": ticketrouter}
        exec(f"def upgrade():\n    {script(context, mapping)}", names)
        names["upgrade"]()


def script(context: MigrationContext, mapping: TicketMapping) -> str:
    """Return the body of the migration that `alembic revision --autogenerate` writes."""
    found = produce_migrations(context, mapping.metadata)
    assert found.upgrade_ops is not None
    return render_python_code(found.upgrade_ops, migration_context=context)


@every_database
@pytest.mark.parametrize(
    ("how", "statuses"),
    [
        pytest.param("create_all", StatusScheme(), id="create_all-usual"),
        pytest.param("create_all", odd("it's: 100%"), id="create_all-odd"),
        pytest.param("alembic", StatusScheme(), id="alembic-usual"),
        # Alembic doubles a percent sign; the library then says that index and scheme disagree.
        pytest.param("alembic", odd("it's: on hold"), id="alembic-odd"),
    ],
)
def test_our_own_tables_have_the_right_rule(place: Place, how: str, statuses: StatusScheme) -> None:
    """However the tables are made, the database keeps one active ticket per key, in the scheme's own words."""
    mapping = own(place, statuses=statuses)
    with place.begin() as connection:
        made_by(how, connection, mapping)
        rule = detect_unique_rule(connection, mapping)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        first = router.resolve(InboundMessage(1, "c", 10, message_id="m")).ticket
        router.close(1, first.id)
        second = router.resolve(InboundMessage(1, "c", 10))
        ((row),) = connection.execute(
            select(mapping.table).where(mapping.table.c.id == second.ticket.id)
        ).all()
    values = {name: value for name, value in row._mapping.items() if name not in {"id", "active"}}

    assert UniqueRule.ACTIVE_PER_CONNECTION is rule
    assert Outcome.CREATED is second.outcome
    with pytest.raises(IntegrityError), place.begin() as connection:
        connection.execute(mapping.table.insert().values(values))


@every_database
def test_create_all_needs_no_word_about_mariadb(place: Place) -> None:
    """Without Alembic the plain mapping is enough: MariaDB gets its generated column from create_all."""
    mapping = TicketMapping.own()
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        rule = detect_unique_rule(connection, mapping)

    assert UniqueRule.ACTIVE_PER_CONNECTION is rule


@every_database
@pytest.mark.parametrize("how", ["create_all", "alembic"])
def test_alembic_has_nothing_left_to_do(place: Place, how: str) -> None:
    """A second autogenerate, with types and server defaults compared, finds no difference."""
    mapping = own(place)
    with place.begin() as connection:
        made_by(how, connection, mapping)
    with place.begin() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        left = compare_metadata(context, mapping.metadata)

    assert [] == left


@every_database
def test_the_first_migration_reads_as_it_must(place: Place) -> None:
    """The migration that a host commits names the tables, the unique index and its words, and one module of ours."""
    mapping = own(place)
    with place.begin() as connection:
        code = script(MigrationContext.configure(connection), mapping)

    for name in ("ticketrouter_tickets", "ticketrouter_message_ids", "ticketrouter_tickets_anchors"):
        assert f"op.create_table('{name}'" in code
    assert "op.create_index('uq_ticketrouter_tickets_active'" in code
    assert "unique=True" in code
    assert "status IN ('open', 'pending')" in code
    assert "op.drop" not in code
    assert {"ticketrouter.sqlalchemy.types"} == set(re.findall(r"\b(ticketrouter[a-z.]*)\.[A-Z]", code))


@every_database
def test_the_host_has_its_tables_on_the_same_metadata(place: Place) -> None:
    """Our tables join a host's own metadata, so that one Alembic sees both; drop_all takes them all away."""
    metadata = MetaData()
    mapping = own(place, metadata=metadata, prefix="desk_")
    with place.begin() as connection:
        metadata.create_all(connection)
        made = set(inspect(connection).get_table_names())
        metadata.drop_all(connection)
        left = set(inspect(connection).get_table_names())

    assert {"desk_tickets", "desk_message_ids", mapping.anchors.name} == {mapping.table.name} | made
    assert left <= {"sqlite_sequence"}


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("how", ["create_all", "alembic"])
def test_the_tables_may_be_in_a_schema(place: Place, how: str) -> None:
    """In a schema of their own they have the same rule, and Alembic finds nothing left."""
    mapping = TicketMapping.own(schema="desk", prefix="tr_")
    with place.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS desk CASCADE"))
        connection.execute(text("CREATE SCHEMA desk"))
        made_by(how, connection, mapping)
        rule = detect_unique_rule(connection, mapping)
    with place.begin() as connection:
        options = {"include_schemas": True, "compare_type": True, "include_name": _only_desk}
        left = compare_metadata(MigrationContext.configure(connection, opts=options), mapping.metadata)

    assert UniqueRule.ACTIVE_PER_CONNECTION is rule
    assert [] == left


def _only_desk(name: str | None, kind: str, _parents: Any) -> bool:
    return kind != "schema" or name == "desk"


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_hot_row_is_updated_in_place(place: Place) -> None:
    """Messages that join a ticket touch no index: PostgreSQL updates nearly every one in place."""
    mapping = TicketMapping.own()
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        for contact in range(20):
            router.resolve(InboundMessage(1, contact, 10))
    for _ in range(5):
        with place.begin() as connection:
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            for contact in range(20):
                router.resolve(InboundMessage(1, contact, 10))
    with place.begin() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        counts = text(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
            "WHERE relid = to_regclass('ticketrouter_tickets')"
        )
        updates, in_place = connection.execute(counts).one()

    assert 100 == updates
    assert in_place >= 90
