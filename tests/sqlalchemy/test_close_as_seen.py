"""`close(…, seen=)` on any host's columns of time: what was read of a column is equal to what it holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Integer,
    String,
    Table,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import mysql, postgresql

from tests.sqlalchemy.test_odd_hosts import a_mapping, a_table, every_database, made
from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import ConflictError, InboundMessage, Ticket, TicketRouter
from ticketrouter.decisions import Close
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.known import asked

MESSAGE = InboundMessage(1, "a", 10)
NOON = datetime(2026, 11, 23, 12, 0, 0, 987654, tzinfo=UTC)
[SQLITE] = [each for each in ONE_PER_DATABASE if each.database == "sqlite"]
[MARIADB] = [each for each in ONE_PER_DATABASE if each.database == "mariadb"]


def counted(**columns: Any) -> Table:
    """Return a table with a count of unread messages, without which one of whole seconds is refused."""
    return a_table(unread_messages=Column("unread_messages", Integer), **columns)


def mapped(table: Table, **options: Any) -> TicketMapping:
    return a_mapping(table, unread_messages="unread_messages", **options)


def changed_at(type_: Any, **options: Any) -> TicketMapping:
    return mapped(counted(updated_at=Column("updated_at", type_, **options)))


def seconds() -> TicketMapping:
    whole = DateTime().with_variant(mysql.DATETIME(), "mariadb", "mysql")
    return changed_at(whole.with_variant(postgresql.TIMESTAMP(precision=0), "postgresql"), nullable=False)


def milliseconds() -> TicketMapping:
    kept = DateTime().with_variant(mysql.DATETIME(fsp=3), "mariadb", "mysql")
    return changed_at(kept.with_variant(postgresql.TIMESTAMP(precision=3), "postgresql"), nullable=False)


def zoned() -> TicketMapping:
    return changed_at(DateTime(timezone=True).with_variant(mysql.TIMESTAMP(fsp=2), "mariadb", "mysql"))


def untold() -> TicketMapping:
    return changed_at(DateTime(), nullable=False)


def epoch(unit: timedelta) -> TicketMapping:
    times = {name: Column(name, BigInteger, nullable=False) for name in ("created_at", "updated_at")}
    return mapped(counted(**times, closed_at=Column("closed_at", BigInteger)), epoch=unit)


HOSTS: dict[str, Callable[[], TicketMapping]] = {
    "whole seconds": seconds,
    "milliseconds": milliseconds,
    "with a zone": zoned,
    "a type that does not tell": untold,
    "epoch seconds": lambda: epoch(timedelta(seconds=1)),
    "epoch milliseconds": lambda: epoch(timedelta(milliseconds=1)),
    "our own": TicketMapping.own,
}


def router(connection: Connection, mapping: TicketMapping) -> TicketRouter:
    """Return a router of whose clock each look is a second later, and none a time that every column can hold."""
    times = itertools.count()
    repository = SQLAlchemyTicketRepository(connection, mapping)
    return TicketRouter(repository, clock=lambda: NOON + timedelta(seconds=next(times)))


def refused(connection: Connection, mapping: TicketMapping, seen: Ticket) -> bool:
    """Tell whether the `UPDATE` that closes a ticket as seen finds none."""
    try:
        SQLAlchemyTicketRepository(connection, mapping).commit(Close(seen, NOON, as_seen=True))
    except ConflictError:
        return True
    return False


@every_database
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_what_was_read_of_a_column_is_what_it_holds(
    databases: Databases, backend: Backend, host: Callable[[], TicketMapping]
) -> None:
    """Whatever it keeps of a time: of what was created, joined, or found again, the last is closed and no older one."""
    mapping = host()
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        asked = router(connection, mapping)
        created = asked.resolve(MESSAGE).ticket
        joined = asked.resolve(MESSAGE).ticket
        [found] = asked.active_tickets(1, "a")
        with pytest.raises(ConflictError) as told:
            asked.close(1, created.id, seen=created)
        overtaken = refused(connection, mapping, created)
        closed = asked.close(1, joined.id, seen=joined)
        reopened = asked.reopen(1, joined.id)
        again = asked.close(1, joined.id, seen=reopened)

    assert joined == found == told.value.ticket
    assert created.updated_at < joined.updated_at
    assert overtaken
    assert ["closed", "closed"] == [closed.status, again.status]


def insert(connection: Connection, mapping: TicketMapping, **times: object) -> None:
    row = {"company_id": 1, "contact_id": "a", "connection_id": 10, "status": "open"}
    connection.execute(mapping.table.insert().values(**row, **times))


@every_database
@pytest.mark.parametrize("created", ["a time", "a number"])
def test_what_was_never_changed_is_as_it_was_seen(
    databases: Databases, backend: Backend, created: str
) -> None:
    """An empty time of the last change reads as that of creation; once a message has come it is empty no more."""
    made_at = Column("created_at", DateTime if created == "a time" else Integer, nullable=False)
    mapping = mapped(counted(created_at=made_at, updated_at=Column("updated_at", DateTime)))
    before = NOON - timedelta(days=1)
    value = before.replace(tzinfo=None) if created == "a time" else int(before.timestamp())
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        insert(connection, mapping, created_at=value)
        asked = router(connection, mapping)
        [seen] = asked.active_tickets(1, "a")
        asked.resolve(MESSAGE)
        overtaken = refused(connection, mapping, seen)
        connection.execute(mapping.table.update().values(updated_at=None, unread_messages=None))
        closed = asked.close(1, seen.id, seen=seen)

    assert before.replace(microsecond=seen.updated_at.microsecond) == seen.updated_at
    assert overtaken
    assert "closed" == closed.status


@pytest.mark.parametrize("type_", [mysql.DATETIME(), mysql.TIMESTAMP(fsp=6)], ids=["DATETIME", "TIMESTAMP"])
def test_a_zero_date_of_mariadb_is_as_it_was_seen(databases: Databases, type_: object) -> None:
    """A time that is none, as a column that may not be NULL has where nobody gave one, is a missing one."""
    mapping = changed_at(type_, nullable=False)
    with made(databases, MARIADB, mapping) as engine, engine.begin() as connection:
        connection.execute(text("SET sql_mode = ''"))
        insert(connection, mapping, created_at=NOON.replace(tzinfo=None), updated_at="0000-00-00 00:00:00")
        connection.execute(text("SET sql_mode = 'TRADITIONAL'"))
        asked = router(connection, mapping)
        [seen] = asked.active_tickets(1, "a")
        closed = asked.close(1, seen.id, seen=seen)

    assert "closed" == closed.status


@pytest.mark.parametrize(
    ("written", "others"),
    [
        ("2026-11-23 12:00:00", ["2026-11-23 12:00:01", "2026-11-23 12:00:00.001", "2026-11-23 12:00:00.000001"]),
        ("2026-11-23T12:00:00Z", ["2026-11-23T12:00:00-01:00", "2026-11-23T12:00:00.000001Z"]),
        ("2026-11-23T12:00:00.5+00:00", ["2026-11-23 12:00:00.501", "2026-11-23 12:00:00"]),
        ("2026-11-23T17:30:00.123+05:30", ["2026-11-23 12:00:00.124", "2026-11-23 12:00:00.123001"]),
        ("2026-11-23 12:00:00.123456", ["2026-11-23 12:00:00.123457", "2026-11-23 12:00:00.122456"]),
        ("2026-11-23 12:00:00.999999Z", ["2026-11-23 12:00:01", "2026-11-23 12:00:00.999"]),
    ],
)  # fmt: skip
def test_a_time_that_others_have_written_into_sqlite_is_what_was_read(
    databases: Databases, written: str, others: list[str]
) -> None:
    """The same instant is one however it is written, and a microsecond more is another."""
    mapping = changed_at(DateTime(), nullable=False)
    with made(databases, SQLITE, mapping) as engine, engine.begin() as connection:

        def write(time: str) -> None:
            connection.execute(text("UPDATE desk SET updated_at = :at, status = 'open'"), {"at": time})

        insert(
            connection, mapping, created_at=NOON.replace(tzinfo=None), updated_at=NOON.replace(tzinfo=None)
        )
        write(written)
        asked = router(connection, mapping)
        [seen] = asked.active_tickets(1, "a")
        left = []
        for other in others:
            write(other)
            left.append(refused(connection, mapping, seen))
        write(written)
        closed = asked.close(1, seen.id, seen=seen)

    assert [True] * len(others) == left
    assert "closed" == closed.status


@every_database
def test_a_status_is_compared_too(databases: Databases, backend: Backend) -> None:
    """A host that changes the status by itself, and no time, has changed the ticket."""
    mapping = mapped(counted(status=Column("status", String(20), nullable=False)))
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        asked = router(connection, mapping)
        seen = asked.resolve(MESSAGE).ticket
        connection.execute(text("UPDATE desk SET status = 'open'"))
        overtaken = refused(connection, mapping, seen)
        with pytest.raises(ConflictError) as told:
            asked.close(1, seen.id, seen=seen)

    assert overtaken
    assert ("pending", "open") == (seen.status, told.value.ticket and told.value.ticket.status)


@every_database
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_a_message_of_the_same_moment_keeps_it_open(
    databases: Databases, backend: Backend, host: Callable[[], TicketMapping]
) -> None:
    """Where the time tells nothing the count does; what is read meanwhile has not come."""
    mapping = host()
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        asked = TicketRouter(SQLAlchemyTicketRepository(connection, mapping), clock=lambda: NOON)
        seen, joined = asked.resolve(MESSAGE).ticket, asked.resolve(MESSAGE).ticket
        overtaken = refused(connection, mapping, seen)
        with pytest.raises(ConflictError):
            asked.close(1, seen.id, seen=seen)
        connection.execute(mapping.table.update().values(unread_messages=0))
        closed = asked.close(1, seen.id, seen=joined)

    assert seen.updated_at == joined.updated_at
    assert overtaken
    assert "closed" == closed.status


class Cut(TypeDecorator[datetime]):
    """A time of whole seconds, in a column that would keep more."""

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mariadb", "mysql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(microsecond=0, tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


UNCOUNTED: dict[str, Callable[[], TicketMapping]] = {
    "whole seconds": lambda: a_mapping(
        a_table(
            updated_at=Column(
                "updated_at", DateTime().with_variant(postgresql.TIMESTAMP(precision=0), "postgresql")
            )
        )
    ),
    "epoch seconds": lambda: a_mapping(
        a_table(updated_at=Column("updated_at", BigInteger), created_at=Column("created_at", BigInteger))
    ),
    "tenths": lambda: a_mapping(
        a_table(
            updated_at=Column(
                "updated_at",
                DateTime()
                .with_variant(postgresql.TIMESTAMP(precision=1), "postgresql")
                .with_variant(mysql.DATETIME(fsp=1), "mariadb", "mysql"),
            )
        )
    ),
    "a decorator that cuts": lambda: a_mapping(a_table(updated_at=Column("updated_at", Cut))),
}


@every_database
@pytest.mark.parametrize("host", UNCOUNTED.values(), ids=UNCOUNTED)
def test_whole_seconds_without_a_count_are_refused(
    databases: Databases, backend: Backend, host: Callable[[], TicketMapping]
) -> None:
    """Nothing would tell of a message in the same second; without `seen=` the ticket is closed."""
    mapping = host()
    if backend.database == "sqlite" and not isinstance(mapping.columns["updated_at"].type, BigInteger | Cut):
        pytest.skip("SQLite keeps a time as it is written")
    with made(databases, backend, mapping) as engine, engine.begin() as connection:
        asked = router(connection, mapping)
        seen = asked.resolve(MESSAGE).ticket
        with pytest.raises(MappingError, match="keeps no milliseconds in updated_at, and has no count"):
            asked.close(1, seen.id, seen=seen)
        closed = asked.close(1, seen.id)

    assert "closed" == closed.status


def test_what_a_session_rounds_is_not_kept_either(databases: Databases) -> None:
    """MariaDB may be told to round times instead of cutting them off, one session and not the other."""
    mapping = a_mapping(a_table(updated_at=Column("updated_at", mysql.DATETIME())))
    with made(databases, MARIADB, mapping) as engine:
        rounding = create_engine(engine.url)

        @event.listens_for(rounding, "connect")
        def round_times(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("SET sql_mode = CONCAT(@@sql_mode, ',TIME_ROUND_FRACTIONAL')")
            cursor.close()

        told = []
        for each in (rounding, engine):
            with each.begin() as connection:
                seen = router(connection, mapping).resolve(MESSAGE).ticket
                with pytest.raises(MappingError, match="keeps no milliseconds") as refusal:
                    router(connection, mapping).close(1, seen.id, seen=seen)
                told.append(str(refusal.value))
        rounding.dispose()

    assert 1 == len(set(told))


def test_what_a_session_rounds_is_known_of_that_session_alone(databases: Databases) -> None:
    """Two modes on connections of one engine: what one keeps of a time is not believed on the other."""
    mapping = changed_at(mysql.DATETIME(), nullable=False)
    found = []
    with made(databases, MARIADB, mapping) as engine:
        for mode in ("", ",TIME_ROUND_FRACTIONAL", ""):
            with engine.connect() as connection:
                connection.execute(text(f"SET sql_mode = CONCAT(@@global.sql_mode, '{mode}')"))
                found.append(asked(connection, mapping).statements.parts.times.are_known)

    assert [True, False, True] == found
