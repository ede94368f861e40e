"""Words that wake, in a host's own tables: a status that is an enumeration, and one that the row condition asks for."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy import Enum as EnumColumn
from sqlalchemy.dialects.mysql import DATETIME

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import InboundMessage, Resolution, StatusScheme, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, configure_sqlite

WORDS = StatusScheme({"open", "pending", "snoozed"}, final={"spam"}, wakes={"snoozed": "open"})


class State(Enum):
    """The words of a host's own class."""

    open = 1
    pending = 2
    snoozed = 3
    closed = 4
    spam = 5


STATUS: dict[str, Any] = {
    "text": String(20),
    "words": EnumColumn("open", "pending", "snoozed", "closed", "spam", name="words"),
    "members": EnumColumn(State, name="members"),
    "numbers": Integer(),
}
NUMBERS = {each.name: each.value for each in State}


@frozen
class Desk:
    """A database with a host's table, and how it is mapped."""

    engine: Any
    table: Table

    def mapping(self, **options: Any) -> TicketMapping:
        return TicketMapping(
            self.table,
            company_id=None,
            only_company=1,
            is_group=None,
            user_id=None,
            queue_id=None,
            created_at=None,
            closed_at=None,
            statuses=WORDS,
            status_values=NUMBERS if isinstance(self.table.c.status.type, Integer) else None,
            **options,
        )

    def send(
        self, mapping: TicketMapping, *contacts: int, together: bool, **options: Any
    ) -> list[Resolution]:
        messages = [InboundMessage(1, contact, 10, **options) for contact in contacts]
        with self.engine.begin() as connection:
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            return router.resolve_many(messages) if together else [router.resolve(each) for each in messages]

    def statuses(self) -> list[str]:
        with self.engine.begin() as connection:
            found = connection.execute(select(self.table.c.status).order_by("id")).scalars().all()
        return [word if isinstance(word, str) else State(word).name for word in found]


@pytest.fixture(params=list(STATUS))
def status(request: pytest.FixtureRequest) -> str:
    """Each type of the status column in turn; a test may name its own."""
    name: str = request.param
    return name


@pytest.fixture(params=ONE_PER_DATABASE, ids=lambda backend: backend.name)
def desk(request: pytest.FixtureRequest, databases: Databases, status: str) -> Iterator[Desk]:
    """A desk with three tickets that sleep."""
    backend: Backend = request.param
    url = databases.new(backend.database)
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("contact_id", Integer, nullable=False),
        Column("connection_id", Integer, nullable=False),
        Column("status", STATUS[status].copy(), nullable=False),
        Column("unread_messages", Integer),
        # Where MariaDB tells how many digits it keeps, a ticket is not read again.
        Column("updated_at", DATETIME(fsp=6) if backend.database == "mariadb" else DateTime(timezone=True)),
    )
    found = Desk(engine, table)
    table.metadata.create_all(engine)
    found.mapping().metadata.create_all(engine)
    with engine.begin() as connection:
        asleep = NUMBERS["snoozed"] if status == "numbers" else "snoozed"
        rows = [{"contact_id": n, "connection_id": 10, "status": asleep} for n in (1, 2, 3)]
        connection.execute(table.insert(), rows)
    yield found
    engine.dispose()
    databases.drop(url)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("message_id", [None, "m"])
def test_a_status_of_any_type_wakes(desk: Desk, message_id: str | None, together: bool) -> None:
    """In a text, in an enumeration of words, in one of a class's members, and in a number."""
    found = desk.send(desk.mapping(), 1, 2, together=together, unread_messages=None)
    again = desk.send(desk.mapping(), 1, together=together, message_id=message_id)
    changes = [each.change for each in (*found, *again)]

    assert [("snoozed", "open"), ("snoozed", "open"), ("open", "open")] == [
        (change.old_status, change.new_status) for change in changes if change is not None
    ]
    assert desk.statuses() == ["open", "open", "snoozed"]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("status", ["text"])
def test_a_ticket_that_would_be_left_out_once_it_is_awake_is_not_woken(desk: Desk, together: bool) -> None:
    """Where the row condition asks for the status the message is refused, nothing of it stays, and the host goes on."""
    mapping = desk.mapping(where=desk.table.c.status.in_(["snoozed", "pending", "closed"]))
    messages = [InboundMessage(1, contact, 10) for contact in (1, 2)]
    with desk.engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        with pytest.raises(MappingError):
            router.resolve_many(messages) if together else router.resolve(messages[0])
        connection.execute(desk.table.update().where(desk.table.c.id == 3).values(status="pending"))

    assert desk.statuses() == ["snoozed", "snoozed", "pending"]


@pytest.mark.parametrize("status", ["numbers"])
def test_the_desk_reopens_what_is_stored_as_a_final_or_an_unknown_word(desk: Desk) -> None:
    """Whatever the number stands for, who names the ticket reopens it; no message does."""
    with desk.engine.begin() as connection:
        for number, stored in ((1, NUMBERS["spam"]), (2, 77)):
            connection.execute(desk.table.update().where(desk.table.c.id == number).values(status=stored))
        router = TicketRouter(SQLAlchemyTicketRepository(connection, desk.mapping()))
        reopened = [router.reopen(1, number).status for number in (1, 2)]

    assert reopened == ["pending", "pending"]
    assert desk.statuses() == ["pending", "pending", "snoozed"]
