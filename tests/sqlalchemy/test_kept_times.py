"""What a column keeps of the time of the last change is asked of the database, not of the type that a host has declared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.types import TypeEngine

from tests.support.backends import Databases
from ticketrouter import InboundMessage, Policy, Reopen, Scope, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.testing import FakeClock
from ticketrouter.testing.samples import NOW

IDS = {
    "postgresql": "SERIAL PRIMARY KEY",
    "mariadb": "INT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
}
ACTIVE = "status IN ('open', 'pending')"
PARTIAL = f"CREATE UNIQUE INDEX one ON desk (company_id, contact_id, connection_id) WHERE {ACTIVE}"
RULES = {
    "postgresql": PARTIAL,
    "mariadb": "CREATE UNIQUE INDEX one ON desk (company_id, contact_id, connection_id, active)",
    "sqlite": PARTIAL,
}


class OurTime(TypeDecorator[datetime]):
    """A time of the host's own."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


SAID = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
CUT = DateTime().with_variant(sqlite.DATETIME(truncate_microseconds=True), "sqlite")  # type: ignore[no-untyped-call]
KEPT = [
    *(("postgresql", kept) for kept in ("TIMESTAMP", "TIMESTAMP(0)", "TIMESTAMP(3)", "TIMESTAMP(6)")),
    *(("mariadb", kept) for kept in ("DATETIME", "DATETIME(3)", "DATETIME(6)", "TIMESTAMP(6)")),
    ("sqlite", "DATETIME"),
]
DRAWN: list[tuple[str, str, TypeEngine[Any]]] = [
    *((database, kept, declared) for database, kept in KEPT for declared in (DateTime(), SAID, OurTime())),
    *((database, "BIGINT", Integer()) for database in RULES),
    ("sqlite", "DATETIME", CUT),
    ("postgresql", "of_ours", DateTime()),
]
KNOWN = [each for each in DRAWN if each[0] == "postgresql"]


class Desk:
    """A table whose times are kept so."""

    def __init__(self, url: Any, database: str, kept: str, declared: TypeEngine[Any], **options: Any) -> None:
        self.table = Table(
            "desk",
            MetaData(),
            Column("id", Integer, primary_key=True),
            *(
                Column(name, Integer, nullable=False)
                for name in ("company_id", "contact_id", "connection_id")
            ),
            Column("status", String(20), nullable=False),
            Column("unread_messages", Integer, nullable=False),
            Column("created_at", declared, nullable=False),
            Column("updated_at", declared, nullable=False),
        )
        absent: dict[str, Any] = dict.fromkeys(("is_group", "user_id", "queue_id", "closed_at"))
        self.mapping = TicketMapping(self.table, **absent)
        self.clock = FakeClock(NOW.replace(microsecond=987_654))
        self.engine: Engine = create_engine(url, **options)
        if database == "sqlite":
            configure_sqlite(self.engine)
        keys = ", ".join(f"{name} INT NOT NULL" for name in ("company_id", "contact_id", "connection_id"))
        active = f", active INT AS (IF({ACTIVE}, 1, NULL)) VIRTUAL" if database == "mariadb" else ""
        with self.engine.begin() as connection:
            if kept == "of_ours":
                connection.execute(text("CREATE DOMAIN of_ours AS TIMESTAMP(1)"))
            connection.execute(
                text(
                    f"CREATE TABLE desk (id {IDS[database]}, {keys}, status VARCHAR(20) NOT NULL, "
                    f"unread_messages INT NOT NULL, created_at {kept} NOT NULL, updated_at {kept} NOT NULL{active})"
                )
            )
            connection.execute(text(RULES[database]))

    @contextmanager
    def router(self, policy: Policy) -> Iterator[tuple[TicketRouter, SQLAlchemyTicketRepository]]:
        self.clock.advance(timedelta(minutes=1))
        with self.engine.begin() as connection:
            repository = SQLAlchemyTicketRepository(connection, self.mapping)
            yield TicketRouter(repository, policy, clock=self.clock), repository

    def act(self, policy: Policy, *messages: InboundMessage) -> None:
        """Route messages, and hold the last answer of each ticket, and the time of each answer, against the rows."""
        with self.router(policy) as (router, repository):
            answers = [each.ticket for each in router.resolve_many(messages)]
            found = {each.id: each for each in answers}
            rows = {number: repository.get(1, number) for number in found}
        assert rows == found
        assert [each.updated_at for each in answers] == [found[each.id].updated_at for each in answers]

    def close(self, contact: int) -> None:
        with self.router(Policy()) as (router, _):
            for ticket in router.active_tickets(1, contact):
                router.close(1, ticket.id)


@contextmanager
def a_desk(databases: Databases, database: str, *kind: Any, **options: Any) -> Iterator[Desk]:
    url = databases.new(database)
    desk = Desk(url, database, *kind, **options)
    try:
        yield desk
    finally:
        desk.engine.dispose()
        databases.drop(url)


def of(contact: int, message_id: str | None = None, connection: int = 10) -> InboundMessage:
    return InboundMessage(1, contact, connection, message_id=message_id)


@pytest.mark.parametrize(("database", "kept", "declared"), DRAWN, ids=str)
def test_an_answer_has_the_time_that_the_row_has(
    databases: Databases, database: str, kept: str, declared: TypeEngine[Any]
) -> None:
    """Of a message that creates, joins and reopens, and of many together, whatever the type says of digits."""
    with a_desk(databases, database, kept, declared) as desk:
        desk.mapping.metadata.create_all(desk.engine)
        for policy in (Policy(), Policy(reopen=Reopen.always()), Policy(scope=Scope.CONTACT)):
            for messages in ([of(1)], [of(1)], [of(2)], [of(1), of(2), of(3), of(3)]):
                desk.act(policy, *messages)
            desk.act(policy, of(1, f"{policy}"), of(4, f"a{policy}"), of(4, f"b{policy}"), of(2))
            for contact in (1, 3):
                desk.close(contact)
            desk.act(policy, of(1), of(1), of(3), of(2))


@pytest.mark.parametrize(("database", "kept", "declared"), KNOWN, ids=str)
def test_a_batch_for_known_tickets_is_one_statement(
    databases: Databases, database: str, kept: str, declared: TypeEngine[Any]
) -> None:
    """On PostgreSQL, however a time is kept, as what it becomes there is known."""
    sent: list[str] = []
    with a_desk(databases, database, kept, declared) as desk:
        desk.act(Policy(), of(1), of(2))
        with desk.router(Policy()) as (router, _):
            event.listen(desk.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
            router.resolve_many([of(1), of(2), of(1)])

    assert ["WITH"] == [each.split()[0] for each in sent]


def test_what_a_session_of_mariadb_rounds_is_read_again(databases: Databases) -> None:
    """A mode of its sessions says whether digits are cut off; only what is cut off is known beforehand."""
    options = {"init_command": "SET SESSION sql_mode = CONCAT(@@sql_mode, ',TIME_ROUND_FRACTIONAL')"}
    with a_desk(databases, "mariadb", "DATETIME", DateTime(), connect_args=options) as desk:
        for messages in ([of(1)], [of(1)], [of(1), of(2), of(1)], [of(1), of(3), of(3)]):
            desk.act(Policy(), *messages)


@pytest.mark.parametrize("database", RULES)
def test_of_two_tickets_of_one_second_the_same_is_joined_alone_and_in_a_batch(
    databases: Databases, database: str
) -> None:
    """Ties go to the highest id: what the columns do not tell apart, a batch does not either."""
    policy = Policy(scope=Scope.CONTACT)
    joined = []
    for together in (True, False):
        kept = {"mariadb": "DATETIME", "postgresql": "TIMESTAMP(0)", "sqlite": "BIGINT"}[database]
        declared = Integer() if kept == "BIGINT" else DateTime()
        with a_desk(databases, database, kept, declared) as desk:
            desk.clock.now = NOW
            desk.act(Policy(), of(1, connection=20))
            desk.act(Policy(), of(1, connection=10))
            times = iter(NOW + timedelta(hours=1, microseconds=each) for each in (3, 2, 1))
            with desk.engine.begin() as connection:
                repository = SQLAlchemyTicketRepository(connection, desk.mapping)
                router = TicketRouter(repository, policy, clock=lambda: next(times))  # noqa: B023 - used at once
                batch = [of(1, connection=20), of(1, connection=10), of(1, connection=30)]
                found = router.resolve_many(batch) if together else [router.resolve(each) for each in batch]
                joined.append([(each.ticket.id, each.ticket.updated_at) for each in found])

    assert joined[0] == joined[1]
