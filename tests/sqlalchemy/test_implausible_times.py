"""A wrong unit of time is told: nothing else would, as a time that is far off is a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
)

from tests.support.backends import Databases
from ticketrouter.sqlalchemy import MappingError, TicketMapping, configure_sqlite
from ticketrouter.sqlalchemy.health.audit import Check, Level, audit

NOW = datetime.now(UTC)
SECOND, MILLISECOND, MICROSECOND = timedelta(seconds=1), timedelta(milliseconds=1), timedelta(microseconds=1)
NAMES = {SECOND: "seconds", MILLISECOND: "milliseconds", MICROSECOND: "microseconds"}
WITHOUT: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "user_id", "queue_id", "closed_at"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Engine]:
    url = databases.new(request.param)
    engine = create_engine(url)
    if request.param == "sqlite":
        configure_sqlite(engine)
    yield engine
    engine.dispose()
    databases.drop(url)


def filled(engine: Engine, type_: Any, *times: Any) -> Table:
    """Make a table with a row of each time."""
    metadata = MetaData()
    names = ("company_id", "contact_id", "connection_id")
    rooms = Table(
        "rooms",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in names),
        Column("status", String(9), nullable=False),
        Column("created_at", type_),
        Column("updated_at", type_, nullable=False),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number, at in enumerate(times, start=1):
            row = dict.fromkeys(names, number) | {"status": "closed", "updated_at": at, "created_at": None}
            connection.execute(insert(rooms).values(row))
    return rooms


def seen(engine: Engine, table: Table, **arguments: Any) -> list[Any]:
    with engine.connect() as connection:
        found = audit(connection, TicketMapping(table, **WITHOUT, **arguments))
    return [each for each in found.observations if each.check is Check.TIMES]


@pytest.mark.parametrize("written", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("read", NAMES, ids=NAMES.get)
def test_times_that_are_read_by_another_unit_are_a_finding(
    engine: Engine, written: timedelta, read: timedelta
) -> None:
    """It says by which they were written; by the right one all is well."""
    times = [
        (NOW - age - datetime(1970, 1, 1, tzinfo=UTC)) // written for age in (timedelta(1), timedelta(300))
    ]
    table = filled(engine, BigInteger(), *times)

    changed, *others = seen(engine, table, epoch=read)

    assert others == []
    if written == read:
        assert changed.level is Level.OK
        return
    assert (changed.level, changed.count) == (Level.FINDING, 2)
    assert "2 rows of 2 cannot have had updated_at (updated_at) as it is read" in changed.text
    assert f"epoch=timedelta(...) (they look like {NAMES[written]})" in changed.advice


@pytest.mark.parametrize("days", [-20_000, 3])
def test_a_time_that_no_ticket_has_is_told(engine: Engine, days: int) -> None:
    """One among many is a note; most of them are a finding."""
    right = NOW.replace(tzinfo=None)
    at = right + timedelta(days=days)
    few = seen(engine, filled(engine, DateTime(), at, right, right))
    most = seen(engine, filled(engine, DateTime(), at, at, right))
    none = seen(engine, filled(engine, DateTime()))

    assert [(each.level, each.count) for each in (*few, *most)] == [(Level.NOTE, 1), (Level.FINDING, 2)]
    assert "timezone=ZoneInfo(...)" in few[0].advice
    assert [each.level for each in none] == [Level.OK]


def test_local_times_are_looked_at_as_such(engine: Engine) -> None:
    """The present is the zone's."""
    zone = ZoneInfo("Pacific/Kiritimati")
    table = filled(engine, DateTime(), (NOW + timedelta(hours=20)).astimezone(zone).replace(tzinfo=None))

    assert [each.level for each in seen(engine, table, timezone=zone)] == [Level.OK]
    assert [each.level for each in seen(engine, table)] == [Level.FINDING]


@pytest.mark.parametrize("epoch", [timedelta(0), timedelta(seconds=-1)])
def test_a_unit_of_nothing_is_refused(epoch: timedelta) -> None:
    """It would divide by zero, or run backwards."""
    with pytest.raises(MappingError, match="epoch must be a timedelta of more than zero"):
        TicketMapping(Table("rooms", MetaData(), Column("id", Integer, primary_key=True)), epoch=epoch)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_what_no_driver_can_read_is_told_all_the_same(engine: Engine) -> None:
    """The audit is there, and says that there is something."""
    rooms = filled(engine, DateTime(), NOW.replace(tzinfo=None))
    unreadable = "yesterday" if engine.dialect.name == "sqlite" else "infinity"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE rooms SET updated_at = '{unreadable}'")
    [found] = seen(engine, rooms)

    assert Level.FINDING == found.level
    assert "no time at all" in found.text
