"""Batches on tables that the database has not analysed yet: it must not take a way that only looks as good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Engine, event

from tests.support.backends import Databases
from tests.support.races import Cell, racetrack
from ticketrouter import InboundMessage, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping

CELL = Cell("postgresql", "READ COMMITTED", UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=False)
LENGTH = 400


def _sent(engine: Engine, mapping: TicketMapping, batch: list[InboundMessage]) -> list[tuple[str, Any]]:
    """Route a batch, and return what was sent for it."""
    sent: list[tuple[str, Any]] = []
    with engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", lambda *about: sent.append(about[2:4]))
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve_many(batch)
    return sent


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


@pytest.mark.parametrize("with_ids", [False, True])
def test_a_batch_reads_no_row_for_each_pair_of_its_messages(databases: Databases, *, with_ids: bool) -> None:
    """Of one company's tickets each is found by its id or its contact, not among all of the company."""
    batch = [InboundMessage(1, contact, 10) for contact in range(LENGTH)]
    with racetrack(databases, CELL) as (engine, mapping):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {mapping.table.name} SET (autovacuum_enabled = off)")
        _sent(engine, mapping, batch)
        sent = _sent(
            engine,
            mapping,
            [evolve(each, message_id=f"{each.contact_id}") if with_ids else each for each in batch],
        )
        in_vain = 0
        with engine.connect() as connection:
            for statement, values in sent:
                if "SAVEPOINT" in statement:
                    continue
                asked = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                found = connection.exec_driver_sql(asked, values).scalar_one()
                plans = found if isinstance(found, list) else json.loads(found)
                for node in _nodes(plans[0]["Plan"]):
                    in_vain += node.get("Rows Removed by Filter", 0) * node["Actual Loops"]

    assert in_vain < 10 * LENGTH
