"""Columns that are never NULL: what stands in them where there is none; and times in a desk's own zone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import frozen
from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, String, Table, select
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from tests.sqlalchemy.conftest import Place
from ticketrouter import (
    ConflictError,
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reopen,
    TicketRouter,
)
from ticketrouter.decisions import Accept
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import audit
from ticketrouter.sqlalchemy.health.repair import plan_repair

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
WITHIN = Policy(reopen=Reopen.within(timedelta(minutes=60), keep_user=True, keep_queue=True))


@frozen
class Kind:
    """What stands for nobody, no queue and never, and the types of the columns."""

    name: str
    id: Any
    time: Any
    nobody: Any
    never: Any
    stored: Any


KINDS = (
    Kind("numbers", Integer(), BigInteger(), 0, 0, 0),
    Kind("texts", String(20), DateTime(), "nobody", NEVER, datetime(1970, 1, 1)),  # noqa: DTZ001 - as it is stored
    Kind("naive", String(20), DateTime(), "nobody", datetime(1970, 1, 1), datetime(1970, 1, 1)),  # noqa: DTZ001
)


def table_of(metadata: MetaData, id_: Any = None, time: Any = None) -> Table:
    id_, time = id_ or Integer(), time or DateTime()
    return Table(
        "desk",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", id_, nullable=False),
        Column("queue_id", id_, nullable=False),
        Column("created_at", time, nullable=False),
        Column("updated_at", time, nullable=False),
        Column("closed_at", time, nullable=False),
    )


def mapping_of(kind: Kind, metadata: MetaData, **more: Any) -> TicketMapping:
    absent = {"user_id": kind.nobody, "queue_id": kind.nobody, "closed_at": kind.never}
    given: dict[str, Any] = {"is_group": None, "absent": absent, "metadata": metadata} | more
    return TicketMapping(table_of(metadata, kind.id, kind.time), **given)


@contextmanager
def desk(place: Place, mapping: TicketMapping) -> Iterator[Connection]:
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        mapping.metadata.create_all(host)
    try:
        with place.begin() as host:
            yield host
    finally:
        with place.begin() as host:
            mapping.metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping, now: datetime = NOW) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping), WITHIN, clock=lambda: now)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_stands_for_none_is_written_and_read_as_none(place: Place, kind: Kind) -> None:
    """In a new row, in one that is reopened, alone and in a batch, and while an agent takes it."""
    mapping = mapping_of(kind, MetaData())
    agent = 7 if kind.nobody == 0 else "ann"
    row = select(*(mapping.table.c[name] for name in ("user_id", "queue_id", "closed_at")))
    with desk(place, mapping) as host:
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2)).ticket
        stored = [host.execute(row).one()]
        taken = router.accept(1, made.id, agent)
        closed = router.close(1, made.id)
        stored.append(host.execute(row).one())
        again = router.resolve(InboundMessage(1, 5, 2))
        stored.append(host.execute(row).one())
        router.close(1, made.id)
        many = router.resolve_many([InboundMessage(1, each, 2) for each in (5, 6)])
        there = host.execute(row.order_by(mapping.table.c.id)).all()
        router.close(1, made.id)
        later = router_of(host, mapping, NOW + timedelta(hours=2)).resolve(InboundMessage(1, 5, 2))
        moved = router.merge_contacts(1, 6, 5)
        seen, plan = audit(host, mapping), list(plan_repair(host, mapping))

    assert (None, None, None) == (made.user_id, made.queue_id, made.closed_at)
    assert agent == taken.user_id
    assert (NOW, agent, None) == (closed.closed_at, closed.user_id, closed.queue_id)
    assert (Outcome.REOPENED, agent, None) == (again.outcome, again.ticket.user_id, again.ticket.closed_at)
    assert (kind.nobody, kind.nobody, kind.stored) == tuple(stored[0])
    assert (agent, kind.nobody) == tuple(stored[1])[:2]
    assert kind.stored != stored[1].closed_at
    assert (agent, kind.nobody, kind.stored) == tuple(stored[2])
    assert [Outcome.REOPENED, Outcome.CREATED] == [each.outcome for each in many]
    assert [(agent, kind.nobody, kind.stored), (kind.nobody, kind.nobody, kind.stored)] == [
        tuple(each) for each in there
    ]
    assert Outcome.CREATED is later.outcome
    assert 1 == len(moved.closes)
    assert (3, []) == (seen.tickets, plan)


def test_an_agent_who_came_meanwhile_is_seen(place: Place) -> None:
    """Who takes a ticket of nobody is refused where somebody has taken it since."""
    mapping = mapping_of(KINDS[0], MetaData())
    with desk(place, mapping) as host:
        repository = SQLAlchemyTicketRepository(host, mapping)
        made = router_of(host, mapping).resolve(InboundMessage(1, 5, 2)).ticket
        host.execute(mapping.table.update().values(user_id=3))
        with pytest.raises(ConflictError):
            repository.commit(Accept(made, 9, NOW))


def test_what_stands_for_none_is_no_id(place: Place) -> None:
    """Nobody's number is refused as an agent's before anything is written."""
    mapping = mapping_of(KINDS[0], MetaData())
    with desk(place, mapping) as host:
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2)).ticket
        with pytest.raises(InvalidMessageError, match="user_id"):
            router.accept(1, made.id, 0)
        states = host.execute(select(mapping.table.c.status)).scalars().all()

    assert ["pending"] == states


def test_the_last_closed_ticket_is_found_where_another_never_was(place: Place) -> None:
    """A closed row whose time of closing says never counts by its last change."""
    mapping = mapping_of(KINDS[0], MetaData())
    with desk(place, mapping) as host:
        early = {
            "company_id": 1,
            "contact_id": 5,
            "connection_id": 2,
            "status": "closed",
            "unread_messages": 0,
        }
        early |= {"user_id": 0, "queue_id": 0, "created_at": 1}
        at = int(NOW.timestamp())
        host.execute(mapping.table.insert(), {**early, "id": 1, "updated_at": at - 60, "closed_at": at - 60})
        host.execute(mapping.table.insert(), {**early, "id": 2, "updated_at": at - 30, "closed_at": 0})
        found = router_of(host, mapping).resolve(InboundMessage(1, 5, 2))

    assert (Outcome.REOPENED, 2) == (found.outcome, found.ticket.id)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"absent": {"queue_id": 0, "closed_at": NEVER}}, r"user_id\) may not be NULL.*absent=\{\"user_id\""),
        ({"absent": {"user_id": 0, "closed_at": NEVER}}, r"queue_id\) may not be NULL"),
        ({"absent": {"user_id": 0, "queue_id": 0}}, r"closed_at\) may not be NULL"),
        (
            {"absent": {"user_id": "nobody", "queue_id": 0, "closed_at": NEVER}},
            "absent has 'nobody' for user_id",
        ),
        ({"absent": {"user_id": None, "queue_id": 0, "closed_at": NEVER}}, "absent has None for user_id"),
        ({"absent": {"user_id": 0, "queue_id": 0, "closed_at": "never"}}, "absent has 'never' for closed_at"),
        (
            {"absent": {"user_id": 0, "queue_id": 0, "closed_at": NEVER, "created_at": NEVER}},
            "leave created_at out",
        ),
        ({"absent": 0}, "absent must be a mapping"),
        ({"timezone": "UTC"}, "timezone must be a tzinfo"),
    ],
)
def test_what_is_said_wrong_is_told_when_the_mapping_is_made(more: dict[str, Any], said: str) -> None:
    """Which column it is, and what to pass, the text says."""
    metadata = MetaData()
    with pytest.raises(MappingError, match=said):
        TicketMapping(table_of(metadata), is_group=None, **more)


def test_two_mappings_that_say_otherwise_share_nothing() -> None:
    """What is known of a database is kept by the zone and by what stands for none, too."""
    one, same, other = (
        mapping_of(KINDS[0], MetaData(), **more)
        for more in ({}, {}, {"timezone": ZoneInfo("America/Sao_Paulo")})
    )
    nobody = mapping_of(KINDS[0], MetaData(), absent={"user_id": 1, "queue_id": 0, "closed_at": 0})

    assert one.said == same.said
    assert one.said not in {other.said, nobody.said}


# --- the zone of a desk ------------------------------------------------------------------------------------------


def local_desk(**more: Any) -> TicketMapping:
    metadata = MetaData()
    table = Table(
        "desk",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("zoned_at", DateTime(timezone=True)),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "user_id", "queue_id"))
    given = none | {"closed_at": None, "metadata": metadata} | more
    return TicketMapping(table, **given)


def test_local_times_are_written_and_read(place: Place) -> None:
    """A desk in São Paulo has its wall clock in the table; the ticket has UTC, and the window is measured rightly."""
    mapping = local_desk(timezone=ZoneInfo("America/Sao_Paulo"))
    with desk(place, mapping) as host:
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2)).ticket
        joined = router.resolve(InboundMessage(1, 5, 2)).ticket
        stored = host.execute(select(mapping.table.c.updated_at)).scalar_one()
        router.close(1, made.id)
        again = router_of(host, mapping, NOW + timedelta(minutes=59)).resolve(InboundMessage(1, 5, 2))
        router.close(1, made.id)
        late = router_of(host, mapping, NOW + timedelta(minutes=130)).resolve(InboundMessage(1, 5, 2))

    assert datetime(2026, 11, 28, 9) == stored  # noqa: DTZ001 - as it is stored
    assert [NOW, NOW] == [made.updated_at, joined.updated_at]
    assert [Outcome.REOPENED, Outcome.CREATED] == [again.outcome, late.outcome]


def test_of_an_hour_that_is_there_twice_it_is_the_first() -> None:
    """Half past two in the night in which Berlin sets its clocks back is read as summer time."""
    codec = local_desk(timezone=ZoneInfo("Europe/Berlin")).codecs(SQLiteDialect())["updated_at"]
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))

    assert codec.encode(first) == codec.encode(second)
    assert first == codec.decode(codec.encode(second))


def test_a_column_that_keeps_a_zone_needs_none(place: Place) -> None:
    """The zone of the mapping changes nothing where the type has one; on the others there is none."""
    unfilled = {"created_at": NOW, "updated_at": NOW}
    zone = timezone(timedelta(hours=5))
    mapping = local_desk(updated_at="zoned_at", created_at=None, timezone=zone, on_create=unfilled)
    codec = mapping.codecs(place.engine.dialect)["updated_at"]
    read = codec.decode(codec.encode(NOW))

    assert NOW == read
    assert (place.database == "postgresql") is (codec.encode(NOW) == NOW)
