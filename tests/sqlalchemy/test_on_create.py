"""Who fills the agent and the queue of a new row: the desk, `on_create`, the policy, in this order."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases, SqlStore
from ticketrouter import InboundMessage, Policy, TicketKey, TicketRouter
from ticketrouter.sqlalchemy import TicketMapping

every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)


def mapping(on_create: Any) -> TicketMapping:
    """Map a table whose agent and queue `on_create` fills."""
    table = Table(
        "talks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        *(Column(name, Integer) for name in ("agent", "queue")),
        Column("source", String(20)),
        Column("updated_at", DateTime, nullable=False),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "created_at", "closed_at"))
    return TicketMapping(
        table, user_id="agent", queue_id="queue", **none, on_create=on_create, metadata=table.metadata
    )


GIVEN: dict[str, Any] = {"agent": 1, "queue": 2, "source": "x"}


@every_database
@pytest.mark.parametrize("on_create", [GIVEN, lambda _: GIVEN], ids=["dict", "function"])
def test_what_the_desk_says_wins(databases: Databases, backend: Backend, on_create: Any) -> None:
    """What `open` leaves out is filled by on_create, as is a message's ticket, alone and in a batch, whatever its policy."""
    store = SqlStore(backend, databases.new(backend.database), mapping(on_create))
    store.mapping.metadata.create_all(store.engine)
    said: list[dict[str, Any]] = [{}, {"queue_id": 8}, {"user_id": 9}, {"user_id": 9, "queue_id": 8}]
    with store.transaction() as repository:
        router = TicketRouter(repository, Policy(queue_id=5))
        opened = [router.open(TicketKey(1, number, 10), **given) for number, given in enumerate(said)]
        read = [repository.get(1, each.id) for each in opened]
        alone = router.resolve(InboundMessage(1, 77, 10)).ticket
        many = [
            each.ticket
            for each in router.resolve_many([InboundMessage(1, 78, 10), InboundMessage(1, 79, 10)])
        ]
    with store.engine.begin() as connection:
        sources = {row.source for row in connection.execute(store.mapping.table.select())}
    store.dispose()
    databases.drop(store.url)

    assert [(1, 2), (1, 8), (9, 2), (9, 8)] == [(each.user_id, each.queue_id) for each in opened]
    assert opened == read
    assert {(1, 2)} == {(each.user_id, each.queue_id) for each in (alone, *many)}
    assert {"x"} == sources
