"""The steps of the schema are taken and undone on real databases: by themselves, and by migrations of Alembic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import inspect

from tests.sqlalchemy.conftest import Place
from tests.support import desk, whaticket
from ticketrouter import UniqueRule
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, MappingError, TicketMapping, detect_unique_rule
from ticketrouter.sqlalchemy.catalogue import indexes
from ticketrouter.sqlalchemy.health.audit import audit
from ticketrouter.sqlalchemy.health.ddl import (
    Step,
    downgrade,
    execute,
    missing_steps,
    own_schema,
    schema_steps,
    script,
    upgrade,
)
from ticketrouter.sqlalchemy.health.repair import plan_repair

CLEAN = desk.Size(tickets=200, duplicates=0)
RULES = {
    "none": None,
    "vacuous": desk.VACUOUS,
    "three-columns": desk.THREE,
    "two-columns": desk.TWO,
    "with-status": desk.WITH_STATUS,
}


def opened(place: Place, rule: str | None, size: desk.Size = CLEAN) -> TicketMapping:
    with place.begin() as connection:
        desk.build(connection, size, rule)
        return TicketMapping.whaticket(whaticket.reflected(connection))


def take(place: Place, steps: Iterable[Step], *, undo: bool = False) -> None:
    """Send the statements of the steps as they are, each by itself."""
    with place.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for step in reversed(list(steps)) if undo else steps:
            for statement in step.down if undo else step.up:
                connection.exec_driver_sql(statement)


def missing(place: Place, mapping: TicketMapping) -> tuple[Step, ...]:
    with place.engine.connect() as connection:
        return missing_steps(connection, mapping)


def rule_of(place: Place, mapping: TicketMapping) -> UniqueRule:
    with place.engine.connect() as connection:
        return detect_unique_rule(connection, mapping)


def schema_of(place: Place, mapping: TicketMapping) -> tuple[Any, ...]:
    """Tell which indexes and tables there are, as a set that two moments can be compared by."""
    with place.engine.connect() as connection:
        found = frozenset((i.name, i.parts, i.predicate, i.unique) for i in indexes(connection, mapping))
        return found, frozenset(inspect(connection).get_table_names())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_missing_steps_lead_to_a_sound_desk_and_back(place: Place, rule: str | None) -> None:
    """After them the audit finds nothing and nothing is missing; undone, the schema is what it was."""
    mapping = opened(place, rule)
    before = schema_of(place, mapping)

    steps = missing(place, mapping)
    take(place, steps)

    with place.engine.connect() as connection:
        assert () == audit(connection, mapping).findings
    assert rule_of(place, mapping) is UniqueRule.ACTIVE_PER_CONNECTION
    assert missing(place, mapping) == ()
    take(place, steps, undo=True)
    assert before == schema_of(place, mapping)


@pytest.mark.parametrize("rule", [desk.THREE, desk.TWO], ids=["three-columns", "two-columns"])
def test_without_a_look_at_the_database_the_old_rule_is_dropped_by_name(place: Place, rule: str) -> None:
    """The steps for a migration that is written elsewhere, for each database."""
    mapping = opened(place, rule)

    take(place, schema_steps(mapping, place.database, drop=[desk.NAME]))

    assert rule_of(place, mapping) is UniqueRule.ACTIVE_PER_CONNECTION


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_a_broken_off_build_has_left_is_dropped_first(place: Place) -> None:
    """After the duplicates are closed the steps begin with the end of the invalid index."""
    mapping = opened(place, None, desk.Size(tickets=200, duplicates=3))
    with pytest.raises(Exception, match="could not create unique index"):
        take(place, missing(place, mapping))
    close_duplicates(place, mapping)

    steps = missing(place, mapping)
    take(place, steps)

    assert "invalid" in steps[0].title
    assert rule_of(place, mapping) is UniqueRule.ACTIVE_PER_CONNECTION


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_constraint_of_sqlite_cannot_be_dropped(place: Place) -> None:
    """It is refused with what can be done, before anything is written."""
    mapping = place.whaticket(whaticket.SAAS, whaticket.THREE)

    with pytest.raises(MappingError, match="batch_alter_table"):
        missing(place, mapping)


def test_statements_need_a_database_that_we_know() -> None:
    """Oracle has none."""
    with pytest.raises(MappingError, match="none for 'oracle'"):
        schema_steps(DEFAULT_MAPPING, "oracle")


def test_our_own_tables_are_made_by_the_printed_statements(place: Place) -> None:
    """They are what metadata.create_all makes, on each database."""
    (step,) = own_schema(DEFAULT_MAPPING, place.database)
    take(place, [step])
    printed = schema_of(place, DEFAULT_MAPPING)
    with place.begin() as connection:
        whaticket.drop_all(connection)
    DEFAULT_MAPPING.metadata.create_all(place.engine)

    assert schema_of(place, DEFAULT_MAPPING) == printed
    take(place, [step], undo=True)
    with place.engine.connect() as connection:
        assert inspect(connection).get_table_names() == []


def test_the_script_says_what_waits_and_how_to_undo(place: Place) -> None:
    """Each step has its locks, its statements and, in comments, the way back."""
    steps = schema_steps(opened(place, None), place.database)

    text = script(steps, place.database)

    for step in steps:
        assert step.locks in text
        assert all(f"{statement};" in text for statement in step.up)
    undo = [line for line in text.splitlines() if line.startswith("--   ") and not line.startswith("--    ")]
    assert any("DROP INDEX" in line for line in undo)


def migrated(place: Place, change: Any, steps: Sequence[Step]) -> None:
    """Run a migration as Alembic does: one transaction, and an autocommit block where it is asked for."""
    with place.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with context.begin_transaction(_per_migration=True):
            change(Operations(context), steps)


@pytest.mark.parametrize("rule", [None, desk.VACUOUS, desk.THREE], ids=["none", "vacuous", "three-columns"])
def test_alembic_goes_up_and_down(place: Place, rule: str | None) -> None:
    """The steps in `upgrade` and `downgrade`, CONCURRENTLY among them; afterwards the schema is what it was."""
    mapping = opened(place, rule)
    before = schema_of(place, mapping)
    steps = missing(place, mapping)

    migrated(place, upgrade, steps)

    assert rule_of(place, mapping) is UniqueRule.ACTIVE_PER_CONNECTION
    migrated(place, downgrade, steps)
    assert before == schema_of(place, mapping)


def test_alembic_repairs_before_it_builds(place: Place) -> None:
    """A migration may close the duplicates itself, statement by statement of the plan."""
    mapping = opened(place, desk.VACUOUS, desk.Size(tickets=200, duplicates=3))
    steps = missing(place, mapping)

    def change(op: Operations, steps: Sequence[Step]) -> None:
        for closing in list(plan_repair(op.get_bind(), mapping)):
            execute(op, closing.statement)
        upgrade(op, steps)

    migrated(place, change, steps)

    with place.engine.connect() as connection:
        assert () == audit(connection, mapping).findings


def close_duplicates(place: Place, mapping: TicketMapping) -> None:
    with place.begin() as connection:
        for closing in list(plan_repair(connection, mapping)):
            connection.exec_driver_sql(closing.statement)
