"""Under every isolation and every unique rule, a race leaves one ticket per key and loses no message."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve
from sqlalchemy.exc import DBAPIError

from tests.support.backends import Databases
from tests.support.races import CELLS, WORKERS, Cell, fall_asleep, race, racetrack
from tests.support.words import WORDS
from ticketrouter import ContentionError, InboundMessage, Outcome, Resolution, TicketRouter, UniqueRule
from ticketrouter.decisions import Lookup
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, is_retryable
from ticketrouter.sqlalchemy.dialects.mariadb.statements import MariaDBWrites
from ticketrouter.testing.concurrency import behind

KEYS = 12


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_race_leaves_one_ticket_per_key_and_counts_every_message(databases: Databases, cell: Cell) -> None:
    """Eight workers at once on fresh keys: one ticket each, unread 8, and a restart only where it is needed."""
    found = race(databases, cell, KEYS)

    assert Counter(dict.fromkeys(range(KEYS), 1)) == found.tickets
    assert Counter(dict.fromkeys(range(KEYS), WORKERS)) == found.unread
    if cell.database != "postgresql" or cell.isolation == "READ COMMITTED":
        assert found.restarts == 0


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_race_to_a_sleeping_ticket_wakes_it_once(databases: Databases, cell: Cell) -> None:
    """Of eight messages at once exactly one tells the change, whatever the others saw; each is counted."""
    found = race(databases, cell, KEYS, asleep=True)

    assert Counter(dict.fromkeys(range(KEYS), 1)) == found.tickets == found.woken
    assert Counter(dict.fromkeys(range(KEYS), WORKERS)) == found.unread


@pytest.mark.parametrize(
    ("before", "after", "outcome", "change"),
    [
        ("open", "snoozed", Outcome.REUSED, ("snoozed", "open")),
        ("snoozed", "open", Outcome.REUSED, ("open", "open")),
        ("snoozed", "pending", Outcome.REUSED, ("pending", "pending")),
        ("snoozed", "spam", Outcome.CREATED, (None, "pending")),
    ],
)
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize(
    "cell",
    [each for each in CELLS if each.rule is not UniqueRule.ONE_PER_CONNECTION and not each.old_snapshot],
    ids=str,
)
def test_a_message_goes_by_what_the_desks_own_code_commits(
    databases: Databases,
    cell: Cell,
    together: bool,
    before: str,
    after: str,
    outcome: Outcome,
    change: tuple[str | None, str],
) -> None:
    """It waits for an `UPDATE` of the status that is not committed yet, of which nobody has told the library."""
    message, beside = InboundMessage(1, 0, 10), InboundMessage(1, 1, 10)
    with racetrack(databases, cell, WORDS) as (engine, mapping):
        fall_asleep(engine, mapping, 1)

        def send() -> Resolution:
            with engine.begin() as connection:
                router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
                return router.resolve_many([message, beside])[0] if together else router.resolve(message)

        def send_until_done() -> Resolution:
            while True:
                try:
                    return send()
                except (ContentionError, DBAPIError) as error:
                    if not is_retryable(error):
                        raise

        with engine.begin() as desk:
            desk.execute(mapping.table.update().values(status=before))
        running = behind(send_until_done)
        with engine.begin() as desk:
            desk.execute(mapping.table.update().values(status=after))
            running.begin()
        found = running.result()

    assert found.change is not None
    assert (outcome, change) == (found.outcome, (found.change.old_status, found.change.new_status))


@pytest.mark.parametrize("rule", [each for each in UniqueRule if each is not UniqueRule.NONE], ids=str)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_rule_that_came_late_costs_no_restart(
    databases: Databases, isolation: str, rule: UniqueRule
) -> None:
    """On MariaDB, where the loser's look must not meet the half of a new row that waits for the loser."""
    found = race(databases, Cell("mariadb", isolation, rule, old_snapshot=True, late=True), KEYS)

    assert (KEYS, KEYS * WORKERS, 0) == (found.tickets.total(), found.unread.total(), found.restarts)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_the_race_is_lost_where_nothing_keeps_the_others_away(
    databases: Databases, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without unique rule, the claim that stands in for it, and the second look of a new row: duplicates."""
    honest = Lookup.of
    monkeypatch.setattr(MariaDBWrites, "sees_rivals", False)
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
