"""Tables without a time of creation, or with an empty one: that of the last change stands for it in every answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, update

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases, SqlStore
from tests.support.words import WORDS
from ticketrouter import InboundMessage, Policy, Reopen, Ticket, TicketRouter
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.types import UtcDateTime

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)


def mapping(kind: str) -> TicketMapping:
    """Map a table that has no column for the creation, or leaves it empty."""
    begun = {
        "no column": [],
        "empty": [Column("begun", DateTime)],
        "ours, empty": [Column("begun", UtcDateTime)],
    }
    table = Table(
        "talks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread", Integer, nullable=False),
        *begun[kind],
        Column("updated_at", DateTime, nullable=False),
        Column("closed_at", DateTime),
        Column("agent", Integer),
    )
    return TicketMapping(
        table,
        is_group=None,
        unread_messages="unread",
        user_id="agent",
        queue_id=None,
        created_at="begun" if begun[kind] else None,
        statuses=WORDS,
        metadata=table.metadata,
    )


class Desk:
    """A database with such a table, and a clock that never stands still."""

    def __init__(self, databases: Databases, backend: Backend, kind: str) -> None:
        self.store = SqlStore(backend, databases.new(backend.database), mapping(kind))
        self.store.mapping.metadata.create_all(self.store.engine)
        self.seconds = count()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=next(self.seconds))

    def forget_creation(self) -> None:
        """Have the rows lose what they have of their creation, as those that an import has written."""
        created_at = self.store.mapping.columns.get("created_at")
        if created_at is not None:
            with self.store.engine.begin() as connection:
                connection.execute(update(self.store.mapping.table).values({created_at: None}))

    def answers(self, act: Any) -> list[tuple[Ticket, Ticket | None]]:
        """Return the tickets that an act gives, each with what is read afterwards."""
        self.forget_creation()
        with self.store.transaction() as repository:
            router = TicketRouter(repository, Policy(reopen=Reopen.always()), clock=self.now)
            given = act(router)
            tickets: list[Any] = [
                getattr(each, "ticket", each) for each in (given if isinstance(given, list) else [given])
            ]
            return [(each, repository.get(1, each.id)) for each in tickets]


@every_database
@pytest.mark.parametrize("kind", ["no column", "empty", "ours, empty"])
def test_an_answer_is_what_is_read_afterwards(databases: Databases, backend: Backend, kind: str) -> None:
    """Alone and in a batch, with message ids and without, whatever is done to the ticket."""
    desk = Desk(databases, backend, kind)
    numbers = count()

    def of(contact: int, *, named: bool = False) -> InboundMessage:
        return InboundMessage(1, contact, 10, message_id=next(numbers) if named else None)

    first = desk.answers(lambda router: router.resolve(of(1)))
    number = first[0][0].id
    acts: list[Any] = [
        lambda router: router.resolve(of(1)),
        lambda router: router.resolve(of(1, named=True)),
        lambda router: router.accept(1, number, 7),
        lambda router: router.transfer(1, number, 11),
        lambda router: router.transfer(1, number, 10),
        lambda router: router.close(1, number),
        lambda router: router.reopen(1, number),
        lambda router: router.close(1, number),
        lambda router: router.resolve(of(1)),
        lambda router: router.resolve_many([of(1), of(2)]),
        lambda router: router.resolve_many([of(1, named=True), of(2, named=True), of(3, named=True)]),
        lambda router: router.resolve_many([of(1), of(1)])[1:],
        lambda router: router.resolve_many([of(1, named=True), of(2), of(1)])[1:],
        lambda router: router.close(1, number),
        lambda router: router.resolve_many([of(1, named=True), of(2), of(3)]),
        lambda router: router.close(1, number),
        lambda router: router.resolve_many([of(1), of(2), of(3)]),
        lambda router: router.close(1, number),
        lambda router: router.resolve_many([of(1), of(2), of(1)])[1:],
    ]
    for place, act in enumerate(acts):
        for answer, read in desk.answers(act):
            assert read == answer, place
            assert kind != "no column" or answer.created_at == answer.updated_at
    desk.store.dispose()
    databases.drop(desk.store.url)


@every_database
def test_each_message_of_a_batch_is_answered_as_one_by_one(databases: Databases, backend: Backend) -> None:
    """Also those that are not the last of their ticket."""
    told = []
    for many in (True, False):
        desk = Desk(databases, backend, "no column")
        batch = [
            InboundMessage(1, contact, 10, message_id=place) for place, contact in enumerate((1, 2, 1, 2, 1))
        ]
        for _ in range(2):
            with desk.store.transaction() as repository:
                router = TicketRouter(repository, clock=desk.now)
                found = router.resolve_many(batch) if many else [router.resolve(each) for each in batch]
            batch = [
                InboundMessage(1, each.key.contact_id, 10, message_id=f"b{each.message_id}") for each in batch
            ]
        told.append([(each.outcome, each.ticket.created_at == each.ticket.updated_at) for each in found])
        desk.store.dispose()
        databases.drop(desk.store.url)

    assert [(outcome, True) for outcome, _ in told[1]] == told[0] == told[1]
