"""A table without a column for the connection: every row is on one, and nobody gets to another."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import (
    InboundMessage,
    InvalidMessageError,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.audit import audit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONLY = 1
_TIME = DateTime(timezone=True)


def table_of(*indexes: Index) -> Table:
    columns = [Column(name, Integer, nullable=False) for name in ("company_id", "contact_id")]
    return Table(
        "threads",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *columns,
        Column("status", String(20), nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", Integer),
        Column("created_at", _TIME, nullable=False),
        Column("updated_at", _TIME, nullable=False),
        Column("closed_at", _TIME),
        *indexes,
    )


def mapped(table: Table, only: Any = ONLY, **said: Any) -> TicketMapping:
    return TicketMapping(
        table, connection_id=None, only_connection=only, is_group=None, queue_id=None, **said
    )


RULES = {
    "one a contact": (
        lambda: Index("uq_threads", "company_id", "contact_id", unique=True),
        UniqueRule.ONE_PER_CONNECTION,
    ),
    "none": (None, UniqueRule.NONE),
    "active": (None, UniqueRule.ACTIVE_PER_CONNECTION),
}


@pytest.fixture(params=ONE_PER_DATABASE, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@contextmanager
def desk(databases: Databases, backend: Backend, rule: str) -> Iterator[tuple[Engine, TicketMapping]]:
    """Make the table, with a unique rule, and its companions."""
    url: URL = databases.new(backend.database)
    index = RULES[rule][0]
    mapping = mapped(table_of(*([index()] if index else [])))
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    mapping.table.metadata.create_all(engine)
    mapping.metadata.create_all(engine)
    if rule == "active":
        with engine.begin() as connection:
            for each in active_index(backend):
                connection.execute(text(each))
    try:
        yield engine, mapping
    finally:
        engine.dispose()
        databases.drop(url)


def active_index(backend: Backend) -> list[str]:
    if backend.database == "mariadb":
        return [
            "ALTER TABLE threads ADD active tinyint AS (IF(status IN ('open', 'pending'), 1, NULL))",
            "CREATE UNIQUE INDEX uq_threads ON threads (company_id, contact_id, active)",
        ]
    where = "WHERE status IN ('open', 'pending')"
    return [f"CREATE UNIQUE INDEX uq_threads ON threads (company_id, contact_id) {where}"]


def router(connection: Connection, mapping: TicketMapping, policy: Policy | None = None) -> TicketRouter:
    repository = SQLAlchemyTicketRepository(connection, mapping)
    return TicketRouter(
        repository, policy or Policy(reopen=Reopen.within(timedelta(hours=1))), clock=lambda: NOW
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_ticket_lives_on_the_only_connection(databases: Databases, backend: Backend, rule: str) -> None:
    """Created, joined, accepted, closed, reopened, found again by its message id, merged into another contact's."""
    with desk(databases, backend, rule) as (engine, mapping), engine.begin() as connection:
        routing = router(connection, mapping)
        first = routing.resolve(InboundMessage(1, 5, ONLY, message_id="a"))
        joined = routing.resolve(InboundMessage(1, 5, ONLY))
        again = routing.resolve(InboundMessage(1, 5, ONLY, message_id="a"))
        routing.accept(1, first.ticket.id, 7)
        closed = routing.close(1, first.ticket.id)
        reopened = routing.resolve(InboundMessage(1, 5, ONLY, message_id="b"))
        routing.resolve(InboundMessage(1, 6, ONLY))

        assert RULES[rule][1] is detect_unique_rule(connection, mapping)
        assert [Outcome.CREATED, Outcome.REUSED, Outcome.DUPLICATE, Outcome.REOPENED] == [
            each.outcome for each in (first, joined, again, reopened)
        ]
        assert {first.ticket.id} == {each.ticket.id for each in (joined, again, reopened)}
        assert TicketKey(1, 5, ONLY) == first.ticket.key == closed.key == reopened.ticket.key
        assert reopened.other_active == ()
        assert reopened.ticket == routing.find_active(TicketKey(1, 5, ONLY))
        assert [reopened.ticket] == list(routing.active_tickets(1, 5))
        assert reopened.ticket == routing.transfer(1, first.ticket.id, ONLY)
        if rule != "one a contact":
            plan = routing.merge_contacts(1, 6, 5, on_collision=OnCollision.KEEP_NEWEST)
            assert 1 == len(plan.closes)
        assert audit(connection, mapping).unique_rule is RULES[rule][1]


@pytest.mark.parametrize("with_ids", [False, True], ids=["without ids", "with ids"])
@pytest.mark.parametrize("rule", RULES)
def test_a_batch_does_as_one_by_one(
    databases: Databases, backend: Backend, rule: str, with_ids: bool
) -> None:
    messages = [
        InboundMessage(1, contact, ONLY, message_id=f"m{number}" if with_ids else None)
        for number, contact in enumerate((1, 2, 1, 3, 2, 1))
    ]
    with desk(databases, backend, rule) as (engine, mapping), engine.begin() as connection:
        routing = router(connection, mapping)
        for _ in range(2):
            found = routing.resolve_many(messages)
            assert 3 == len({each.ticket.id for each in found})
            assert {ONLY} == {each.ticket.connection_id for each in found}
        assert [3 if with_ids else 6, 2 if with_ids else 4, 1 if with_ids else 2] == list(
            connection.scalars(text("SELECT unread_messages FROM threads ORDER BY contact_id"))
        )


@pytest.mark.parametrize("other", [2, "1", "x"], ids=repr)
@pytest.mark.parametrize("rule", RULES)
def test_another_connection_is_refused(databases: Databases, backend: Backend, rule: str, other: Any) -> None:
    """By every way to name one, and nothing is written by it."""
    with desk(databases, backend, rule) as (engine, mapping), engine.begin() as connection:
        routing = router(connection, mapping)
        mine = routing.resolve(InboundMessage(1, 5, ONLY)).ticket
        before = connection.execute(mapping.table.select()).all()
        for act in (
            lambda: routing.resolve(InboundMessage(1, 5, other)),
            lambda: routing.resolve(InboundMessage(1, 5, other, message_id="m")),
            lambda: routing.resolve_many([InboundMessage(1, 5, other), InboundMessage(1, 6, other)]),
            lambda: routing.open(TicketKey(1, 8, other)),
            lambda: routing.find_active(TicketKey(1, 5, other)),
            lambda: routing.ensure_can_open(TicketKey(1, 5, other)),
            lambda: routing.explain(InboundMessage(1, 5, other)),
            lambda: routing.transfer(1, mine.id, other),
            lambda: routing.move_connection(1, other, ONLY),
            lambda: routing.move_connection(1, ONLY, other),
        ):
            with pytest.raises(
                InvalidMessageError, match=r"connection_id must be 1, the only one of this table"
            ):
                act()
        assert before == connection.execute(mapping.table.select()).all()


def test_what_comes_before_another_connection_in_a_batch_is_kept(
    databases: Databases, backend: Backend
) -> None:
    with desk(databases, backend, "active") as (engine, mapping), engine.begin() as connection:
        routing = router(connection, mapping)
        with pytest.raises(InvalidMessageError, match="the only one of this table"):
            routing.resolve_many(
                [InboundMessage(1, 5, ONLY), InboundMessage(1, 6, 2), InboundMessage(1, 7, ONLY)]
            )
        assert [5] == list(connection.scalars(text("SELECT contact_id FROM threads")))


def test_the_mapping_says_which_one() -> None:
    with pytest.raises(
        MappingError, match=r"no column for connection_id: name it, or pass only_connection=\.\.\."
    ):
        mapped(table_of(), only=None)
    with pytest.raises(InvalidMessageError, match="only_connection"):
        mapped(table_of(), only="")
    with_column = table_of()
    with_column.append_column(Column("connection_id", Integer, nullable=False))
    with pytest.raises(MappingError, match="only_connection is for a table without a connection column"):
        TicketMapping(with_column, only_connection=1, is_group=None, queue_id=None)


FRONT = UUID(int=7)


@pytest.mark.parametrize("only", ["front", FRONT, 2**40], ids=["text", "uuid", "number"])
def test_its_id_is_of_any_kind_and_no_part_of_another_mapping(
    databases: Databases, backend: Backend, only: Any
) -> None:
    """Two desks of one table, which say two connections, are read and refused each by its own."""
    with desk(databases, backend, "active") as (engine, mapping):
        # The companions of a number are those of every other one.
        prefix = "ticketrouter_" if isinstance(only, int) else "other_"
        other = mapped(mapping.table, only, prefix=prefix)
        other.metadata.create_all(engine)
        with engine.begin() as connection:
            one = router(connection, mapping).resolve(InboundMessage(1, 5, ONLY)).ticket
            routing = router(connection, other)
            seen = routing.resolve(InboundMessage(1, 5, only, message_id="a"))
            again = routing.resolve(InboundMessage(1, 5, only, message_id="a"))
            many = routing.resolve_many([InboundMessage(1, n, only, message_id=f"{n}") for n in (5, 6)])
            with pytest.raises(InvalidMessageError, match="the only one of this table"):
                routing.resolve(InboundMessage(1, 5, ONLY))
            with pytest.raises(InvalidMessageError, match="connection_id must be 1, the only one"):
                router(connection, mapping).resolve(InboundMessage(1, 5, only))

    assert mapping.said != other.said
    assert (ONLY, only) == (one.connection_id, seen.ticket.connection_id)
    assert [Outcome.REUSED, Outcome.DUPLICATE] == [seen.outcome, again.outcome]
    assert [only, only] == [each.ticket.connection_id for each in many]


class Line(enum.IntEnum):
    ONLY = ONLY


def test_a_member_of_an_int_enum_names_it_too(databases: Databases, backend: Backend) -> None:
    """As it does every other id."""
    line = Line.ONLY
    with desk(databases, backend, "none") as (engine, mapping), engine.begin() as connection:
        routing = router(connection, mapping)
        first = routing.resolve(InboundMessage(1, 5, line, message_id="a"))
        again = routing.resolve_many([InboundMessage(1, 5, line, message_id="a"), InboundMessage(1, 5, line)])

    assert [Outcome.CREATED, Outcome.DUPLICATE, Outcome.REUSED] == [each.outcome for each in (first, *again)]
