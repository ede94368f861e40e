"""Who makes the primary key of a new row: the database, the Column, or a function of the host's; else nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    FetchedValue,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    func,
    select,
)
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError

from tests.sqlalchemy.conftest import Place
from ticketrouter import InboundMessage, Outcome, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping


def table_of(number: Column[Any]) -> Table:
    return Table(
        "desk",
        MetaData(),
        number,
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("updated_at", DateTime, nullable=False),
    )


def mapping_of(number: Column[Any], **more: Any) -> TicketMapping:
    table = table_of(number)
    none = dict.fromkeys(("is_group", "user_id", "queue_id", "created_at", "closed_at"))
    given: dict[str, Any] = none | {"metadata": table.metadata} | more
    return TicketMapping(table, **given)


@contextmanager
def desk(place: Place, mapping: TicketMapping, *, by: str = "") -> Iterator[Connection]:
    """Make the tables; by: the definition of the key, where it is not as the Table says."""
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        if by:
            host.exec_driver_sql(
                f"CREATE TABLE desk ({by}, company_id INTEGER NOT NULL, contact_id INTEGER NOT NULL, connection_id "
                "INTEGER NOT NULL, status VARCHAR(20) NOT NULL, unread_messages INTEGER NOT NULL, updated_at "
                f"{'TIMESTAMP' if place.database == 'postgresql' else 'DATETIME'} NOT NULL)"
            )
        mapping.metadata.create_all(host)
    try:
        connection = place.engine.connect()
        try:
            yield connection
        finally:
            connection.close()
    finally:
        with place.begin() as host:
            mapping.metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping))


@pytest.mark.parametrize(
    ("type_", "make"),
    [(String(36), lambda: str(uuid4())), (Uuid(), uuid4)],
    ids=["text", "uuid"],
)
def test_a_function_of_the_host_makes_the_key(place: Place, type_: Any, make: Any) -> None:
    """Of each new ticket it makes one, alone and in a batch, with message ids and without."""
    made: list[Any] = []

    def new_id() -> Any:
        made.append(make())
        return made[-1]

    mapping = mapping_of(Column("id", type_, primary_key=True), new_id=new_id)
    with desk(place, mapping) as host:
        router = router_of(host, mapping)
        first = router.resolve(InboundMessage(1, 5, 2))
        second = router.resolve(InboundMessage(1, 6, 2, message_id="a"))
        many = router.resolve_many([InboundMessage(1, n, 2, message_id=f"{n}") for n in (5, 7, 8)])
        ids = {first.ticket.id, second.ticket.id, *(each.ticket.id for each in many)}
        host.commit()

    assert [Outcome.REUSED, Outcome.CREATED, Outcome.CREATED] == [each.outcome for each in many]
    assert ids <= set(made)
    assert 4 == len(ids)


def test_a_key_that_the_column_cannot_hold_is_refused_before_anything_is_written(place: Place) -> None:
    """What the function makes goes by the same checks as any id."""
    mapping = mapping_of(Column("id", Uuid(), primary_key=True), new_id=lambda: "x")
    with desk(place, mapping) as host:
        with pytest.raises(MappingError, match=r"new_id gives this str of 1 characters for desk.id"):
            router_of(host, mapping).resolve(InboundMessage(1, 5, 2, message_id="a"))
        rows = host.execute(select(func.count()).select_from(mapping.table)).scalar_one()

    assert 0 == rows


@pytest.mark.parametrize(
    "number",
    [
        Column("id", String(36), primary_key=True),
        Column("id", Uuid(), primary_key=True),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("id", Integer),
    ],
    ids=["text", "uuid", "number", "no key"],
)
def test_a_key_that_nobody_fills_is_refused_when_the_mapping_is_made(number: Column[Any]) -> None:
    """The text says what to pass, and how to say that the database does it."""
    with pytest.raises(MappingError, match=r"nobody fills desk\.id.*new_id=.*FetchedValue"):
        mapping_of(number)


@pytest.mark.parametrize(
    "number",
    [
        Column("id", Integer, primary_key=True),
        Column("id", Uuid(), primary_key=True, default=uuid4),
        Column("id", String(36), primary_key=True, server_default=FetchedValue()),
        Column("id", Integer, primary_key=True, autoincrement=True),
    ],
    ids=["automatic", "default", "server default", "autoincrement"],
)
def test_a_key_that_somebody_fills_needs_no_function(number: Column[Any]) -> None:
    """The database, the Column, or a trigger that the Table speaks of."""
    assert mapping_of(number).new_id is None


@pytest.mark.parametrize("by", ["id INT PRIMARY KEY", "id INTEGER NOT NULL UNIQUE", "id INTEGER UNIQUE"])
def test_a_key_that_nobody_fills_is_refused_at_the_first_look(place: Place, by: str) -> None:
    """The Table cannot show it, the database does, before anything is written."""
    mapping = mapping_of(Column("id", Integer, primary_key=True))
    with desk(place, mapping, by=by) as host:
        with pytest.raises(MappingError, match=r"nobody fills desk.id.*new_id="):
            router_of(host, mapping).resolve(InboundMessage(1, 5, 2, message_id="a"))
        rows = host.execute(select(func.count()).select_from(mapping.table)).scalar_one()
        numbers = count(1)
        filled = mapping_of(Column("id", Integer, primary_key=True), new_id=lambda: next(numbers))
        made = router_of(host, filled).resolve(InboundMessage(1, 5, 2)).ticket

    assert 0 == rows
    assert (1, int) == (made.id, type(made.id))


@pytest.mark.parametrize("many", [False, True])
def test_a_row_whose_key_comes_back_null_does_not_stay(place: Place, many: bool) -> None:
    """Where nobody has filled it all the same, the transaction is given up, whatever the host does then."""
    by = "id INTEGER UNIQUE" if place.database != "sqlite" else "id INT PRIMARY KEY"
    said = Column("id", Integer, primary_key=True, server_default=FetchedValue())
    mapping = mapping_of(said)
    with desk(place, mapping, by=by) as host:
        messages = [InboundMessage(1, 5, 2), InboundMessage(1, 6, 2)] if many else [InboundMessage(1, 5, 2)]
        with pytest.raises(MappingError, match="has no id"):
            router_of(host, mapping).resolve_many(messages)
        with pytest.raises((InvalidRequestError, PendingRollbackError)):
            host.commit()
        host.rollback()
        rows = host.execute(select(func.count()).select_from(mapping.table)).scalar_one()

    assert 0 == rows


def test_the_function_is_a_function() -> None:
    """A value is none."""
    wrong: Any = UUID(int=1)
    with pytest.raises(MappingError, match="new_id must be a function"):
        mapping_of(Column("id", Uuid(), primary_key=True), new_id=wrong)
