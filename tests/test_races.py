"""Under every isolation and every unique rule, a race leaves one ticket per key and loses no message."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve

from tests.backends import Databases
from tests.races import CELLS, WORKERS, Cell, race, racetrack
from ticketrouter import InboundMessage, Outcome, TicketRouter, UniqueRule
from ticketrouter.policy import Lookup
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository

KEYS = 12


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_race_leaves_one_ticket_per_key_and_counts_every_message(databases: Databases, cell: Cell) -> None:
    """Eight workers at once on fresh keys: one ticket each, unread 8, and a restart only where it is needed."""
    found = race(databases, cell, KEYS)

    assert Counter(dict.fromkeys(range(KEYS), 1)) == found.tickets
    assert Counter(dict.fromkeys(range(KEYS), WORKERS)) == found.unread
    if cell.database != "postgresql" or cell.isolation == "READ COMMITTED":
        assert found.restarts == 0


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_the_race_is_lost_where_nothing_keeps_the_others_away(
    databases: Databases, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without unique rule and without the claim that stands in for it, the same race makes duplicates."""
    honest = Lookup.of
    monkeypatch.setattr(Lookup, "of", lambda *about: evolve(honest(*about), claim=False))

    found = race(databases, Cell(database, "READ COMMITTED", UniqueRule.NONE, old_snapshot=True), KEYS)

    assert found.tickets.total() > KEYS


def test_the_first_statement_of_a_connection_may_be_a_lost_race(databases: Databases) -> None:
    """MariaDB tells a taken key also where the variable that says so has never been set before."""
    cell = Cell("mariadb", "REPEATABLE READ", UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=True)
    message = InboundMessage(1, "c", 10)
    with racetrack(databases, cell) as (engine, mapping), engine.connect() as late:
        router = TicketRouter(SQLAlchemyTicketRepository(late, mapping))
        assert router.active_tickets(1, "c") == []
        with engine.begin() as early:
            first = TicketRouter(SQLAlchemyTicketRepository(early, mapping)).resolve(message)
        second = router.resolve(message)
        late.commit()

    assert (Outcome.CREATED, 1) == (first.outcome, first.ticket.unread_messages)
    assert (Outcome.REUSED, 2) == (second.outcome, second.ticket.unread_messages)


def test_what_a_second_look_has_found_can_be_closed(databases: Databases) -> None:
    """On MariaDB a duplicate's ticket may be newer than the transaction's snapshot: it is there all the same."""
    cell = Cell("mariadb", "REPEATABLE READ", UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=True)
    message = InboundMessage(1, "c", 10, message_id="m")
    with racetrack(databases, cell) as (engine, mapping), engine.connect() as late:
        router = TicketRouter(SQLAlchemyTicketRepository(late, mapping))
        assert router.active_tickets(1, "c") == []
        with engine.begin() as early:
            TicketRouter(SQLAlchemyTicketRepository(early, mapping)).resolve(message)
        again = router.resolve(message)
        closed = router.close(1, again.ticket.id)
        late.commit()

    assert Outcome.DUPLICATE is again.outcome
    assert ("closed", 1) == (closed.status, closed.unread_messages)
