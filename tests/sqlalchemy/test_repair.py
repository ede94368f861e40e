"""The plan closes what is too much and nothing else, whenever it is run."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tests.sqlalchemy.conftest import Place
from tests.sqlalchemy.test_audit import NARROW, RIGHT
from tests.support import desk, whaticket
from ticketrouter.sqlalchemy import MappingError, TicketMapping
from ticketrouter.sqlalchemy.health.repair import Closing, plan_repair

ACTIVE = {"open", "pending"}
Row = dict[str, Any]


def opened(place: Place, *statements: str, size: desk.Size | None = None) -> TicketMapping:
    with place.begin() as connection:
        desk.build(connection, size or desk.Size(tickets=200, duplicates=4))
        for statement in statements:
            desk.run(connection, statement)
        return TicketMapping.whaticket(whaticket.reflected(connection))


def planned(place: Place, mapping: TicketMapping, **options: Any) -> list[Closing]:
    with place.engine.connect() as connection:
        return list(plan_repair(connection, mapping, **options))


def carry_out(place: Place, plan: list[Closing]) -> None:
    for closing in plan:
        with place.begin() as connection:
            connection.exec_driver_sql(closing.statement)


def rows(place: Place) -> dict[int, Row]:
    return {int(str(row["id"])): row for row in place.rows()}


def keepers(before: dict[int, Row]) -> set[int]:
    """Work out by hand which active tickets may stay: the last of each key, and every orphan."""
    keys: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    stay = set()
    for row in before.values():
        key = (row["companyId"], row["contactId"], row["whatsappId"])
        if row["status"] not in ACTIVE:
            continue
        if None in key:
            stay.add(row["id"])
        else:
            keys[key].append(row)
    return stay | {max(same, key=lambda row: (row["updatedAt"], row["id"]))["id"] for same in keys.values()}


MORE = (
    # three of a key, two of them changed at the same moment; an orphan beside another
    'UPDATE "Tickets" SET status = \'open\' WHERE "contactId" IN (5, 10, 21)',
    'UPDATE "Tickets" SET "updatedAt" = \'2026-02-02 00:00:00\' WHERE "contactId" = 10',
    'UPDATE "Tickets" SET "whatsappId" = NULL WHERE "contactId" = 12',
    'UPDATE "Tickets" SET status = \'open\' WHERE "contactId" = 12',
)


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_each_key_keeps_its_most_recently_active_ticket(place: Place, batch: int) -> None:
    """Ties go to the highest id; closed tickets and orphans are left alone; nothing else of a row changes."""
    mapping = opened(place, *MORE)
    before = rows(place)

    plan = planned(place, mapping, batch=batch)
    carry_out(place, plan)

    after = rows(place)
    assert keepers(before) == {id_ for id_, row in after.items() if row["status"] in ACTIVE}
    changed = [id_ for id_ in before if before[id_] != after[id_]]
    assert changed == sorted(id_ for closing in plan for id_ in closing.ticket_ids)
    assert all(after[id_] == before[id_] | {"status": "closed"} for id_ in changed)
    assert all(len(closing.ticket_ids) <= batch for closing in plan)
    assert planned(place, mapping) == []


def test_to_run_it_twice_changes_nothing_more(place: Place) -> None:
    """Each statement says again why it closes a ticket."""
    mapping = opened(place, *MORE)
    plan = planned(place, mapping)
    carry_out(place, plan)
    once = rows(place)

    carry_out(place, plan)

    assert once == rows(place)


def test_a_plan_that_is_run_late_does_not_close_the_last_active_ticket(place: Place) -> None:
    """Meanwhile the desk has closed what would have stayed, and a message has bumped what would have gone."""
    mapping = opened(place)
    plan = planned(place, mapping)
    first, second = plan[0].ticket_ids[:2]
    before = rows(place)

    def rival(of: int) -> int:
        key = [before[of][name] for name in ("contactId", "whatsappId")]
        return next(
            id_
            for id_, row in before.items()
            if id_ != of and row["status"] in ACTIVE and [row["contactId"], row["whatsappId"]] == key
        )

    with place.begin() as connection:
        desk.run(connection, f"UPDATE \"Tickets\" SET status = 'closed' WHERE id = {rival(first)}")
        desk.run(
            connection, f'UPDATE "Tickets" SET "updatedAt" = \'2027-01-01 00:00:00\' WHERE id = {second}'
        )

    carry_out(place, plan)

    after = rows(place)
    assert after[first]["status"] in ACTIVE
    assert after[second]["status"] in ACTIVE
    assert after[rival(second)]["status"] in ACTIVE  # it is not in the plan: the next one has it
    assert planned(place, mapping)[0].ticket_ids == (rival(second),)


def test_orphans_are_closed_only_when_asked_for(place: Place) -> None:
    """Those that have their connection again by then stay."""
    mapping = opened(place, *MORE)
    plan = planned(place, mapping, orphans=True)
    (orphans,) = (closing for closing in plan if closing.what == "orphans")
    given_back = orphans.ticket_ids[0]
    with place.begin() as connection:
        desk.run(connection, f'UPDATE "Tickets" SET "whatsappId" = 1 WHERE id = {given_back}')

    carry_out(place, plan)

    after = rows(place)
    assert after[given_back]["status"] in ACTIVE
    assert {after[id_]["status"] for id_ in orphans.ticket_ids[1:]} == {"closed"}


def test_the_time_of_closing_is_that_of_the_last_change(place: Place) -> None:
    """Where the host keeps it; counted from 1970 it is the time of the plan."""
    with place.begin() as connection:
        table = whaticket.build(connection, whaticket.LAYOUTS[4], whaticket.NONE)
        for _ in range(2):
            whaticket.insert(connection, tenantId=1)
        mapping = TicketMapping.whaticket(table)

    carry_out(place, planned(place, mapping))

    closed = [row for row in place.rows() if row["status"] == "closed"]
    assert [row["id"] for row in closed] == [1]
    assert int(str(closed[0]["closedAt"])) > 1_700_000_000_000


@pytest.mark.parametrize("database", ["postgresql", "mariadb", "sqlite"])
def test_an_index_that_forbids_closing_is_named_first(place: Place) -> None:
    """With the status in the unique index a second ticket of a key cannot be closed."""
    with place.begin() as connection:
        desk.build(connection, desk.Size(tickets=200, duplicates=0), desk.WITH_STATUS)
        mapping = TicketMapping.whaticket(whaticket.reflected(connection))

    with pytest.raises(MappingError, match="does not let a second ticket of a key be closed"):
        planned(place, mapping)


@pytest.mark.parametrize("database", ["postgresql", "mariadb", "sqlite"])
def test_what_are_no_duplicates_by_the_hosts_own_index_are_not_closed(place: Place) -> None:
    """Of a deleted row and a live one the live one could be closed; with an index that is the rule none is left."""
    mapping = opened(place, *NARROW[place.database], size=desk.Size(tickets=200, duplicates=0))
    with place.begin() as connection:
        one = {"companyId": 1, "contactId": 5, "whatsappId": 1, "isGroup": False}
        deleted = (whaticket.insert(connection, **one) for _ in range(2))
        for ticket in deleted:
            desk.run(connection, f'UPDATE "Tickets" SET "deletedAt" = \'2026-01-01\' WHERE id = {ticket}')

    with pytest.raises(MappingError, match=r"one_live lets a key .* told apart by deletedAt: .* may be none"):
        planned(place, mapping)

    with place.begin() as connection:
        desk.run(connection, 'UPDATE "Tickets" SET status = \'closed\' WHERE "deletedAt" IS NOT NULL')
        desk.run(connection, RIGHT[place.database])
    assert planned(place, mapping) == []


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("batch", [0, -1, 1_001])
def test_a_batch_is_bounded(place: Place, batch: int) -> None:
    """Not none, and not so many that a statement locks the desk."""
    with pytest.raises(ValueError, match="a batch has from 1 to 1,000"):
        planned(place, opened(place), batch=batch)


@pytest.mark.parametrize("database", ["sqlite"])
def test_it_needs_a_connection(place: Place) -> None:
    """An engine is refused in words."""
    with pytest.raises(MappingError, match="a Connection is needed"):
        plan_repair(place.engine, opened(place))  # type: ignore[arg-type]


@pytest.mark.parametrize("database", ["mariadb"])
@pytest.mark.parametrize("known", [False, True])
def test_a_statement_locks_little_more_than_what_it_closes(place: Place, known: bool) -> None:
    """By other indexes the server would lock all tickets of the connections, or of the contacts where it knows more."""
    mapping = opened(place, size=desk.Size(tickets=2000, duplicates=20))
    (closing,) = planned(place, mapping)

    with place.engine.connect() as connection:
        # The server gathers statistics by itself some time after so many rows.
        connection.exec_driver_sql("ALTER TABLE `Tickets` STATS_AUTO_RECALC=0")
        if known:
            connection.exec_driver_sql("ANALYZE TABLE `Tickets`")
        connection.exec_driver_sql(closing.statement)
        locked = connection.exec_driver_sql(
            "SELECT trx_rows_locked FROM information_schema.innodb_trx "
            "WHERE trx_mysql_thread_id = CONNECTION_ID()"
        ).scalar_one()
        connection.rollback()

    assert locked <= 2 * len(closing.ticket_ids)
