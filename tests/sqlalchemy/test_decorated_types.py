"""Columns whose types somebody has decorated: a message's ticket in tables of SQLModel, SQLAlchemy-Utils and advanced-alchemy.

What counts is whether a value goes through the column's own type and back unchanged. Each package is the real one.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from attrs import frozen
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    select,
)
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy_utils import ChoiceType, UUIDType
from sqlmodel import Field, SQLModel

from tests.sqlalchemy.conftest import Place
from ticketrouter import (
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reopen,
    StatusScheme,
    TicketRouter,
)
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import audit
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.health.repair import plan_repair

with warnings.catch_warnings():
    # It still has a decorator at which SQLAlchemy 2.1 warns.
    warnings.simplefilter("ignore", DeprecationWarning)
    from advanced_alchemy.types import GUID, DateTimeUTC

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ALWAYS = Policy(reopen=Reopen.always(keep_user=True))


class State(enum.Enum):
    OPEN = "open"
    PENDING = "pending"
    CLOSED = "closed"


class Ticket(SQLModel, table=True):
    """A desk of SQLModel."""

    __tablename__ = "desk_sqlmodel"
    id: int | None = Field(default=None, primary_key=True)
    company_id: str
    contact_id: str
    connection_id: str
    status: str = "pending"
    unread_messages: int = 0
    user_id: str | None = None
    created_at: datetime
    updated_at: datetime
    subject: str = ""


class EpochTime(TypeDecorator[datetime]):
    """A time of the host's own, in milliseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return (
            None if value is None else (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        )

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)


class LowerCase(TypeDecorator[str]):
    """A text that does not come back as it was given."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.lower()


@frozen
class Kind:
    """A table: the types of its columns, and what makes an id."""

    name: str
    id: Callable[[], Any]
    key: Callable[[], Any]
    status: Callable[[], Any]
    time: Callable[[], Any]
    new: Callable[[], Any]

    def table(self, metadata: MetaData) -> Table:
        return Table(
            f"desk_{self.name}",
            metadata,
            Column("id", self.id(), primary_key=True, default=self.new if self.new is not int else None),
            *(
                Column(name, self.key(), nullable=False)
                for name in ("company_id", "contact_id", "connection_id")
            ),
            Column("status", self.status(), nullable=False),
            Column("is_group", Integer, nullable=False),
            Column("unread_messages", Integer, nullable=False),
            Column("user_id", self.key()),
            Column("queue_id", self.key()),
            Column("created_at", self.time(), nullable=False),
            Column("updated_at", self.time(), nullable=False),
            Column("closed_at", self.time()),
        )


KINDS = (
    Kind(
        "utils",
        UUIDType,
        UUIDType,
        lambda: ChoiceType([(s.value, s.name) for s in State]),
        DateTime,
        uuid4,
    ),
    Kind(
        "choices",
        lambda: UUIDType(binary=False),
        lambda: UUIDType(binary=False),
        lambda: ChoiceType(State, impl=String(20)),
        DateTime,
        uuid4,
    ),
    Kind(
        "advanced",
        GUID,
        GUID,
        lambda: String(20),
        lambda: DateTimeUTC(timezone=True),
        uuid4,
    ),
    Kind(
        "own",
        BigInteger().with_variant(Integer(), "sqlite").copy,
        GUID,
        lambda: ChoiceType(State),
        EpochTime,
        int,
    ),
)


def seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("ruled", [True, False], ids=["ruled", "anchored"])
def test_a_ticket_lives_in_a_table_of_decorated_types(place: Place, kind: Kind, ruled: bool) -> None:
    """It is created, joined, closed, reopened and transferred, one by one and in batches, and its audit is well."""
    metadata = MetaData()
    table = kind.table(metadata)
    mapping = TicketMapping(table, metadata=metadata)
    company, contact, other, connection, target, agent = (uuid4() for _ in range(6))
    with place.begin() as host:
        metadata.drop_all(host)
        metadata.create_all(host)
        if ruled:
            for step in missing_steps(host, mapping):
                for statement in step.up:
                    host.exec_driver_sql(statement.replace(" CONCURRENTLY", "").replace("%", "%%"))
    hello = InboundMessage(company, contact, connection, message_id="m1", sent_at=NOW)
    try:
        with place.begin() as host:
            router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), ALWAYS, clock=lambda: NOW)
            made = router.resolve(hello)
            again = router.resolve(hello)
            joined = router.resolve(InboundMessage(company, contact, connection))
            taken = router.accept(company, made.ticket.id, agent)
            closed = router.close(company, made.ticket.id)
            reopened = router.resolve(InboundMessage(company, contact, connection))
            moved = router.transfer(company, made.ticket.id, target)
            batch = router.resolve_many(
                [
                    InboundMessage(company, each, target, message_id=f"b{n}")
                    for n, each in enumerate((contact, other, other))
                ]
            )
            later = router.resolve_many([InboundMessage(company, each, target) for each in (contact, other)])
            router.close(company, batch[1].ticket.id)
            back = router.resolve_many([InboundMessage(company, each, target) for each in (contact, other)])
            seen = audit(host, mapping)
            plan = list(plan_repair(host, mapping))
            found = router.active_tickets(company, contact)
    finally:
        with place.begin() as host:
            metadata.drop_all(host)

    assert Outcome.CREATED is made.outcome
    assert Outcome.DUPLICATE is again.outcome
    assert (Outcome.REUSED, 2) == (joined.outcome, joined.ticket.unread_messages)
    assert (agent, "open") == (taken.user_id, taken.status)
    assert "closed" == closed.status
    assert (Outcome.REOPENED, agent) == (reopened.outcome, reopened.ticket.user_id)
    assert target == moved.connection_id
    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
    assert [Outcome.REUSED] * 2 == [each.outcome for each in later]
    assert [Outcome.REUSED, Outcome.REOPENED] == [each.outcome for each in back]
    assert [made.ticket.id] == [each.id for each in found]
    assert (2, 2, ruled) == (seen.tickets, seen.active, seen.sound), seen.observations
    assert [] == plan
    assert made.ticket.created_at == NOW


def test_a_class_of_sqlmodel_is_mapped(place: Place) -> None:
    """Its plain `str` is a type of its own, as is the Enum that it makes of an enumeration."""
    if place.url.drivername.startswith("mariadb"):
        place = Place(
            place.url.set(drivername="mysql+pymysql")
        )  # SQLModel gives its texts a length there alone

    companions = MetaData()
    try:
        mapping = TicketMapping(Ticket, is_group=None, queue_id=None, closed_at=None, metadata=companions)
        with place.begin() as host:
            SQLModel.metadata.create_all(host)
            companions.create_all(host)
        with place.begin() as host:
            router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), ALWAYS, clock=lambda: NOW)
            made = router.resolve(InboundMessage("acme", "ann", "phone", message_id="1"))
            many = router.resolve_many([InboundMessage("acme", each, "phone") for each in ("ann", "bob")])
            router.close("acme", made.ticket.id)
            back = router.resolve(InboundMessage("acme", "ann", "phone"))
            rows = host.execute(select(Ticket.__table__.c.contact_id, Ticket.__table__.c.status)).all()  # type: ignore[attr-defined]
    finally:
        with place.begin() as host:
            companions.drop_all(host)
            SQLModel.metadata.drop_all(host)

    assert [Outcome.CREATED, Outcome.REUSED, Outcome.CREATED, Outcome.REOPENED] == [
        each.outcome for each in (made, *many, back)
    ]
    assert {("ann", "pending"), ("bob", "pending")} == {tuple(row) for row in rows}


def host_table(**types: Any) -> Table:
    columns = {name: Integer() for name in ("company_id", "contact_id", "connection_id")}
    columns |= {"status": String(20), "updated_at": DateTime()} | types
    return Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(n, t, nullable=False) for n, t in columns.items()),
    )


def mapped(table: Table, **more: Any) -> TicketMapping:
    none: dict[str, Any] = dict.fromkeys(
        ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")
    )
    return TicketMapping(table, **none, **more)


def test_an_id_that_would_not_come_back_is_refused_before_anything_is_sent() -> None:
    """A type that makes another value of one takes only those that it leaves as they are."""
    encode = mapped(host_table(contact_id=LowerCase())).codecs(SQLiteDialect())["contact_id"].encode

    assert "ann" == encode("ann")
    for value in ("Ann", "a" * 41, 7):
        with pytest.raises(InvalidMessageError, match="contact_id"):
            encode(value)


def test_a_type_that_gives_no_id_back_is_refused() -> None:
    """A mapping whose column makes something else of every id says so."""

    class Shouting(LowerCase):
        cache_ok = True

        def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
            return None if value is None else [value]

    with pytest.raises(MappingError, match=r"contact_id.*cannot hold it"):
        mapped(host_table(contact_id=Shouting()))


def test_a_choice_that_lacks_a_word_is_refused() -> None:
    """Which word it is, and what to do about it, the text says."""
    with pytest.raises(MappingError, match="status_values"):
        mapped(host_table(status=ChoiceType(State)), statuses=StatusScheme(closed="done"))


def test_a_status_that_its_type_does_not_know_is_read_all_the_same(place: Place) -> None:
    """A row of another program's word is closed, is never reopened, and the audit finds it."""
    metadata = MetaData()
    table = KINDS[1].table(metadata)
    mapping = TicketMapping(table, metadata=metadata)
    company, contact, connection = (uuid4() for _ in range(3))
    try:
        with place.begin() as host:
            metadata.create_all(host)
            router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), ALWAYS, clock=lambda: NOW)
            made = router.resolve(InboundMessage(company, contact, connection))
            host.exec_driver_sql(f"UPDATE {table.name} SET status = 'on hold'")
            other = router.resolve(InboundMessage(company, contact, connection))
            seen = audit(host, mapping)
            read = SQLAlchemyTicketRepository(host, mapping).get(company, made.ticket.id)
    finally:
        with place.begin() as host:
            metadata.drop_all(host)

    assert (Outcome.CREATED, True) == (other.outcome, other.ticket.id != made.ticket.id)
    assert read is not None
    assert "on hold" == read.status
    assert "on hold" in str(seen.as_json())
