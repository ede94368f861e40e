"""What a policy, or a desk, wants of a ticket and its table has no column for is refused, and not lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, String, Table, func, select

from tests.sqlalchemy.conftest import Place
from ticketrouter import InboundMessage, Outcome, Policy, Reopen, TicketKey, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.columns import FIELDS

HELLO = InboundMessage(1, 5, 2, message_id="a")
IN_A_GROUP = InboundMessage(1, 5, 2, group_id=9)
KEY = TicketKey(1, 7, 2)


@contextmanager
def desk(
    place: Place, queue: str | None, agent: str | None = None
) -> Iterator[tuple[Connection, TicketMapping]]:
    table = Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("department", Integer),
        Column("owner", Integer),
        Column("updated_at", DateTime, nullable=False),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "created_at", "closed_at"))
    mapping = TicketMapping(table, queue_id=queue, user_id=agent, **none, metadata=table.metadata)
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        mapping.metadata.create_all(host)
    connection = place.engine.connect()
    try:
        yield connection, mapping
    finally:
        connection.close()
        with place.begin() as host:
            mapping.metadata.drop_all(host)


Act = Callable[[Connection, TicketMapping], object]


def by(policy: Policy, *messages: InboundMessage) -> Act:
    def act(host: Connection, mapping: TicketMapping) -> object:
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), policy)
        return router.resolve(*messages) if len(messages) == 1 else router.resolve_many(messages)

    return act


def opened(host: Connection, mapping: TicketMapping) -> object:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping)).open(KEY, queue_id=4)


ACTS: dict[str, Act] = {
    "a new ticket": by(Policy(queue_id=4), HELLO),
    "new tickets of a batch": by(Policy(queue_id=4), HELLO, InboundMessage(1, 6, 2)),
    "a group's": by(Policy(groups=Policy(queue_id=4)), IN_A_GROUP),
    "the desk's own": opened,
}


@pytest.mark.parametrize("act", ACTS)
def test_a_queue_that_no_row_keeps_is_refused(place: Place, act: str) -> None:
    """The text says what to pass, and nothing is written; where there is a column it is filled."""
    with desk(place, None) as (host, mapping):
        with pytest.raises(
            MappingError, match=r"desk has no column for the queue.*in 4: name the column.*queue_id="
        ):
            ACTS[act](host, mapping)
        host.commit()
        tables = (mapping.table, mapping.message_ids)
        written = [host.execute(select(func.count()).select_from(each)).scalar_one() for each in tables]
    with desk(place, "department") as (host, mapping):
        ACTS[act](host, mapping)
        stored = host.execute(select(mapping.table.c.department).distinct()).scalars().all()

    assert [0, 0] == written
    assert [4] == stored


@pytest.mark.parametrize("many", [False, True])
def test_a_reopened_ticket_that_loses_its_queue_is_refused_too(place: Place, many: bool) -> None:
    """It would begin in the policy's; one that keeps its queue, as one that is joined, wants none."""
    further = [InboundMessage(1, 6, 2)] if many else []
    gone = Policy(reopen=Reopen.within(timedelta(hours=1), keep_queue=False), queue_id=4)
    kept = Policy(reopen=Reopen.within(timedelta(hours=1)), queue_id=4)
    with desk(place, None) as (host, mapping):
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping))
        made = [router.resolve(each).ticket for each in (HELLO, *further)]
        for each in made:
            router.close(1, each.id)
        host.commit()
        with pytest.raises(MappingError, match="has no column for the queue"):
            by(gone, InboundMessage(1, 5, 2), *further)(host, mapping)
        host.rollback()
        again: Any = by(kept, InboundMessage(1, 5, 2), *further)(host, mapping)
        joined: Any = by(gone, InboundMessage(1, 5, 2), *further)(host, mapping)

    outcomes = [[each.outcome for each in (found if many else [found])] for found in (again, joined)]
    assert [[Outcome.REOPENED] * len(made), [Outcome.REUSED] * len(made)] == outcomes


@pytest.mark.parametrize("many", [False, True])
def test_a_function_of_the_host_may_keep_a_queue_in_its_own_way(place: Place, many: bool) -> None:
    """What it makes of the decision is its own."""
    with desk(place, None) as (host, plain):
        none: dict[str, Any] = dict.fromkeys(set(FIELDS) - set(plain.columns))
        mapping = TicketMapping(
            plain.table,
            **none,
            on_create=lambda decision: {"department": decision.queue_id},
            metadata=plain.metadata,
        )
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), Policy(queue_id=4))
        router.resolve_many([HELLO, *([InboundMessage(1, 6, 2)] if many else [])])

        assert [4] == host.execute(select(mapping.table.c.department).distinct()).scalars().all()


TO_AN_AGENT: dict[str, Callable[[TicketRouter], object]] = {
    "a new one": lambda router: router.open(KEY, user_id=8),
    "one that is there": lambda router: router.accept(1, router.find_active(HELLO.key).id, 8),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("act", TO_AN_AGENT)
def test_an_agent_whom_no_row_keeps_is_refused(place: Place, act: str) -> None:
    """A ticket that the desk opens for somebody, or gives to somebody, would be nobody's; it stays as it was."""
    with desk(place, None) as (host, mapping):
        repository = SQLAlchemyTicketRepository(host, mapping)
        router = TicketRouter(repository)
        made = router.resolve(HELLO).ticket
        with pytest.raises(
            MappingError, match=r"desk has no column for the agent.*given to 8: name the column.*user_id="
        ) as told:
            TO_AN_AGENT[act](router)
        left, opened = repository.get(1, made.id), router.open(KEY)
    with desk(place, None, "owner") as (host, mapping):
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping))
        router.resolve(HELLO)
        TO_AN_AGENT[act](router)
        stored = host.execute(select(mapping.table.c.owner).order_by(mapping.table.c.owner.desc())).scalars()

        assert 8 in stored.all()
    by_itself = "set the status 'open' by an UPDATE of your own" in str(told.value)
    assert (act == "one that is there") is by_itself
    assert made == left
    assert opened.user_id is None
