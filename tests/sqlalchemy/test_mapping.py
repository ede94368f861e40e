"""What a mapping takes, what it refuses and with which advice, and tables of every shape that it makes work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest.mock import create_autospec
from uuid import UUID, uuid4

import pytest
from attrs import Factory, frozen
from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.sqlalchemy.conftest import Place
from tests.support.backends import SQL_BACKENDS, Backend
from tests.support.whaticket import DATABASES
from ticketrouter import (
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reason,
    Reopen,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.checks import Id
from ticketrouter.decisions import Create
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
    metadata,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

COLUMNS: dict[str, Callable[[], Column[Any]]] = {
    "id": lambda: Column("id", Integer, primary_key=True),
    "company_id": lambda: Column("company_id", Integer, nullable=False),
    "contact_id": lambda: Column("contact_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    "connection_id": lambda: Column("connection_id", Integer, nullable=False),
    "status": lambda: Column("status", String(20), nullable=False),
    "is_group": lambda: Column("is_group", Boolean, nullable=False),
    "unread_messages": lambda: Column("unread_messages", Integer, nullable=False),
    "user_id": lambda: Column("user_id", Integer),
    "queue_id": lambda: Column("queue_id", Integer),
    "created_at": lambda: Column("created_at", DateTime(timezone=True), nullable=False),
    "updated_at": lambda: Column("updated_at", DateTime(timezone=True), nullable=False),
    "closed_at": lambda: Column("closed_at", DateTime(timezone=True)),
}
OPTIONAL = ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")


def a_table(*further: Column[Any], **changes: Any) -> Table:
    """A host's table; a change is a column's new type, what makes another column, or None."""
    columns = []
    for name, make in COLUMNS.items():
        column = make()
        change = changes.get(name, column)
        if change is column:
            columns.append(column)
        elif isinstance(change, FunctionType):
            columns.append(change())
        elif change is not None:
            columns.append(Column(name, change, primary_key=column.primary_key, nullable=column.nullable))
    return Table("tickets", MetaData(), *columns, *further)


# --- what is refused, and what to change --------------------------------------------------------------------


@frozen
class Wrong:
    """A mapping that cannot be, and the part of the complaint that says what to change."""

    name: str
    advice: str
    columns: dict[str, Any] = Factory(dict)
    further: tuple[Callable[[], Column[Any]], ...] = ()
    options: dict[str, Any] = Factory(dict)


def needed() -> Column[Any]:
    return Column("ticket_number", Integer, nullable=False)


OTHERS = Table(
    "others",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("state", String(20)),
    Column("updated_at", DateTime),
)
WRONG = (
    Wrong(
        "missing column",
        "tickets has no column 'contact_id' for contact_id; it has id, company_id, connection_id",
        {"contact_id": None},
    ),
    Wrong("wrong name", "tickets has no column 'state' for status; it has id, ", options={"status": "state"}),
    Wrong(
        "two fields on one column",
        "tickets.status is given for status and unread_messages: what is written for one would be read for the other; "
        "name a column for each, or pass unread_messages=None where the table has none",
        options={"unread_messages": "status"},
    ),
    Wrong(
        "two ids on one column",
        "tickets.contact_id is given for contact_id and connection_id: what is written for one",
        options={"connection_id": "contact_id"},
    ),
    *(
        Wrong(
            f"another table's column for {field}",
            f"others.updated_at for {field}: that is no column of tickets, whose rows are the tickets; it has id, ",
            options={field: OTHERS.c.updated_at},
        )
        for field in ("updated_at", "created_at", "user_id")
    ),
    Wrong(
        "an alias of another table",
        "others.updated_at for updated_at: that is no column of tickets",
        options={"updated_at": OTHERS.alias("tickets").c.updated_at},
    ),
    Wrong(
        "an expression",
        "'lower(others.state)' for status: that is no column of tickets",
        options={"status": func.lower(OTHERS.c.state)},
    ),
    Wrong("no id", "tickets needs a column for id: name it", options={"id": None}),
    Wrong(
        "neither time",
        "needs a column for created_at where it has none for updated_at",
        options={"created_at": None, "updated_at": None},
    ),
    Wrong(
        "no company",
        "no column for company_id: name it, or pass only_company=... for a table of a single company",
        {"company_id": None},
        options={"company_id": None},
    ),
    Wrong(
        "company twice",
        "only_company is for a table without a company column: leave one of them out",
        options={"only_company": 1},
    ),
    *(
        Wrong(
            f"nullable {field}",
            f"tickets.{field} ({field}) may be NULL, and a unique rule does not see NULLs: make it NOT NULL, or "
            "pass nullable_keys=True",
            {field: lambda field=field: Column(field, Integer)},
        )
        for field in ("company_id", "contact_id", "connection_id")
    ),
    Wrong(
        "unknown word",
        "tickets.status takes only ['closed', 'open'], and the StatusScheme has ['pending'] besides: pass "
        "statuses=StatusScheme(...) with the host's own words, or status_values={...} with which of these the column "
        "stores for each word",
        {"status": Enum("open", "closed", name="ticket_status")},
    ),
    Wrong(
        "word too long",
        "tickets.status takes words of at most 6 characters, and the StatusScheme has ['pending']: widen the "
        "column, or pass statuses=StatusScheme(...) with the host's own words",
        {"status": String(6)},
    ),
    Wrong(
        "backslash",
        r"a status word cannot have a backslash: ['o\\pen']",
        options={"statuses": StatusScheme(active=frozenset({"pending", "o\\pen"}), accepted="o\\pen")},
    ),
    Wrong(
        "unfilled column",
        "a new row would leave tickets.ticket_number empty, which may not be NULL and has no default: pass "
        "on_create={...} with a value",
        further=(needed,),
    ),
    Wrong(
        "another column filled",
        "a new row would leave tickets.ticket_number empty",
        further=(needed, lambda: Column("source", String(10), nullable=False)),
        options={"on_create": {"source": "router"}},
    ),
    Wrong(
        "on_create names a field",
        "on_create has tickets.status, which a field of the ticket fills: leave it out",
        options={"on_create": {"status": "open"}},
    ),
    Wrong(
        "on_create names nothing",
        "tickets has no column 'source' for on_create; it has id, ",
        options={"on_create": {"source": "router"}},
    ),
    *(
        Wrong(
            f"{field} of {type_!r}",
            f"tickets.{field} ({field}) is of type {type_!r}, which cannot hold",
            {field: type_},
        )
        for field, type_ in (
            ("id", Float()),
            ("company_id", DateTime()),
            ("contact_id", JSON()),
            ("connection_id", Boolean()),
            ("user_id", Numeric()),
            ("status", Integer()),
            ("is_group", Text()),
            ("unread_messages", String(3)),
            ("created_at", String(30)),
            ("updated_at", Boolean()),
            ("closed_at", Date()),
        )
    ),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_mapping_that_cannot_be_says_what_to_change(wrong: Wrong) -> None:
    """What is wrong with a table is told when it is mapped, long before a message comes."""
    table = a_table(*(make() for make in wrong.further), **wrong.columns)

    with pytest.raises(MappingError) as error:
        TicketMapping(table, **wrong.options)

    assert wrong.advice in str(error.value)
    assert not error.value.retryable


@pytest.mark.parametrize("not_a_table", ["tickets", None, object(), MetaData()])
def test_what_is_no_table_is_refused(not_a_table: Any) -> None:
    """A mapping is made of a Table or a mapped class."""
    with pytest.raises(MappingError, match="a Table or a mapped class is needed, not"):
        TicketMapping(not_a_table)


@pytest.mark.parametrize("company", [True, "", 1.0, b"1"])
def test_only_company_is_an_id(company: Any) -> None:
    """The tenant of a table without company column is an id like any other."""
    with pytest.raises(InvalidMessageError, match="only_company must be"):
        TicketMapping(a_table(company_id=None), company_id=None, only_company=company)


def test_whaticket_says_which_column_is_missing() -> None:
    """A table that is not of that line is told by all of its missing columns."""
    with pytest.raises(
        MappingError,
        match=r"no column 'contactId' for contact_id, 'whatsappId' for connection_id, .*; it has id, ",
    ):
        TicketMapping.whaticket(a_table())


def test_whaticket_says_what_a_fork_leaves_empty() -> None:
    """A column that this fork has made NOT NULL is told, and on_create fills it."""
    columns = [
        Column("id", Integer, primary_key=True),
        Column("uuid", Uuid, nullable=False),
        Column("status", String(255), nullable=False),
        Column("channel", String(10), nullable=False),
        Column("contactId", Integer),
        Column("whatsappId", Integer),
        Column("createdAt", DateTime, nullable=False),
        Column("updatedAt", DateTime, nullable=False),
    ]
    table = Table("Tickets", MetaData(), *columns)
    with pytest.raises(MappingError, match=r"leave Tickets\.channel empty"):
        TicketMapping.whaticket(table)
    create = Create(TicketKey(1, 1, 10), NOW, Reason.NO_ACTIVE_TICKET)
    for channel in ({"channel": "whatsapp"}, lambda _: {"channel": "whatsapp"}):
        values = TicketMapping.whaticket(table, on_create=channel).further_values(create)

        assert ["channel", "uuid"] == sorted(values)
        assert (UUID, "whatsapp") == (type(values["uuid"]), values["channel"])


# --- how columns are named ----------------------------------------------------------------------------------


def test_columns_are_named_by_name_column_or_attribute() -> None:
    """A name, a key, a Column and a mapped attribute are the same to a mapping."""

    class Base(DeclarativeBase):
        pass

    class HostTicket(Base):
        __tablename__ = "host_tickets"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[int] = mapped_column("tenant_id")
        person: Mapped[int]
        inbox: Mapped[str] = mapped_column(String(50))
        state: Mapped[str]
        changed: Mapped[datetime] = mapped_column("changed_at", DateTime(timezone=True))

    none: dict[str, Any] = dict.fromkeys(OPTIONAL)
    columns = HostTicket.__table__.c
    by_attribute = TicketMapping(
        HostTicket,
        company_id=HostTicket.tenant,
        contact_id=HostTicket.person,
        connection_id=HostTicket.inbox,
        status=HostTicket.state,
        updated_at=HostTicket.changed,
        **none,
    )
    by_column = TicketMapping(
        HostTicket,
        company_id=columns["tenant_id"],
        contact_id=columns["person"],
        connection_id=columns["inbox"],
        status=columns["state"],
        updated_at=columns["changed_at"],
        **none,
    )
    by_name = TicketMapping(
        Base.metadata.tables["host_tickets"],
        company_id="tenant_id",
        contact_id="person",
        connection_id="inbox",
        status="state",
        updated_at="changed_at",
        **none,
    )

    assert by_attribute.columns == by_column.columns == by_name.columns
    assert "tenant_id" == by_name.columns["company_id"].name
    assert set(by_name.columns) == {"id", "company_id", "contact_id", "connection_id", "status", "updated_at"}


def test_the_default_mapping_is_on_our_metadata() -> None:
    """Our own tickets table has the fields of Ticket as its columns; the companions are on the same metadata."""
    names = {"ticketrouter_tickets", "ticketrouter_message_ids", "ticketrouter_tickets_anchors"}

    assert names == set(metadata.tables)
    assert DEFAULT_MAPPING.table is metadata.tables["ticketrouter_tickets"]
    stored = [field.name for field in Ticket.__attrs_attrs__ if field.eq]  # `change` is told, not kept
    assert stored == [c.name for c in DEFAULT_MAPPING.table.columns]


@pytest.mark.parametrize("given", ["constant", "function"])
@pytest.mark.parametrize("named", ["name", "column"])
def test_on_create_gives_values_by_column(given: str, named: str) -> None:
    """A constant, or what a function makes of the decision, goes by the column's name or by the column."""
    column = needed()
    table = a_table(column)
    name = column.name if named == "name" else table.c.ticket_number
    on_create: Any = {name: 7}
    if given == "function":
        on_create = lambda create: {name: create.key.contact_id}  # noqa: E731
    mapping = TicketMapping(table, on_create=on_create)

    assert {"ticket_number": 7} == mapping.further_values(
        Create(TicketKey(1, 7, 10), NOW, Reason.NO_ACTIVE_TICKET)
    )


def test_on_create_cannot_overwrite_a_field() -> None:
    """A function that answers with a column of the ticket is refused before anything is sent."""
    mapping = TicketMapping(a_table(), on_create=lambda _: {"company_id": 2})

    with pytest.raises(MappingError, match="which a field of the ticket fills"):
        mapping.further_values(Create(TicketKey(1, 7, 10), NOW, Reason.NO_ACTIVE_TICKET))


# --- tables of every shape ----------------------------------------------------------------------------------


@frozen
class Shape:
    """A table that is not ours; `ids` are a company, a contact, two connections, an agent and a queue."""

    name: str
    columns: dict[str, Any] = Factory(dict)
    options: dict[str, Any] = Factory(dict)
    ids: tuple[Id, ...] = (1, 5511987654321, 10, 13, 7, 3)
    further: tuple[Callable[[], Column[Any]], ...] = ()

    def mapping(self) -> TicketMapping:
        return TicketMapping(a_table(*(make() for make in self.further), **self.columns), **self.options)


U = tuple(UUID(int=2**127 + n) for n in range(6))
TIMES = ("created_at", "updated_at", "closed_at")


def keys(type_: Any) -> dict[str, Any]:
    return dict.fromkeys(("company_id", "contact_id", "connection_id", "user_id", "queue_id"), type_)


def uuid_key(type_: Any, new: Callable[[], Any]) -> Callable[[], Column[Any]]:
    return lambda: Column("id", type_, primary_key=True, default=new)


SHAPES = (
    Shape("plain"),
    *(Shape(f"without {field}", {field: None}, {field: None}) for field in OPTIONAL),
    Shape("without all of them", dict.fromkeys(OPTIONAL), dict.fromkeys(OPTIONAL)),
    Shape("one company", {"company_id": None}, {"company_id": None, "only_company": 1}),
    Shape("naive times", dict.fromkeys(TIMES, DateTime())),
    Shape("epoch seconds", dict.fromkeys(TIMES, BigInteger())),
    Shape(
        "epoch milliseconds",
        dict.fromkeys(TIMES, BigInteger()),
        {"epoch": timedelta(milliseconds=1)},
    ),
    Shape("text ids", keys(String(50)), ids=("acme", "jos\u00e9@example", "a", "b", "u", "q")),
    Shape("native UUIDs", keys(Uuid()), ids=U),
    Shape("UUIDs as text", keys(CHAR(36)), ids=tuple(map(str, U))),
    Shape("UUIDs as text to SQLAlchemy", keys(Uuid(as_uuid=False)), ids=tuple(map(str, U))),
    Shape("an id of UUID", {"id": uuid_key(Uuid(), uuid4)}),
    Shape("an id of text", {"id": uuid_key(CHAR(36), lambda: str(uuid4()))}),
    Shape(
        "an enumerated status", {"status": Enum("open", "pending", "closed", "spam", name="ticket_status")}
    ),
    Shape("flags of 0 and 1", {"is_group": SmallInteger()}),
    Shape(
        "a constant besides",
        options={"on_create": {"source": "router"}},
        further=(lambda: Column("source", String(10), nullable=False),),
    ),
    Shape(
        "a key that differs from the name",
        {"contact_id": lambda: Column("contactId", BigInteger, key="person", nullable=False)},
        {"contact_id": "person"},
    ),
    Shape(
        "names as long as can be",
        {
            name: lambda name=name, make=make: Column(
                name.ljust(63, "x"), make().type, key=name, primary_key=name == "id", nullable=make().nullable
            )
            for name, make in COLUMNS.items()
        },
        {"closed_at": "closed_at"},
    ),
    Shape("nullable counts", {"unread_messages": lambda: Column("unread_messages", Integer)}),
)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The database of the backend, where there is one."""
    if "backend" in request.fixturenames:
        found: Backend = request.getfixturevalue("backend")
        return found.database
    name: str = getattr(request, "param", "postgresql")
    return name


every_database = pytest.mark.parametrize("database", DATABASES, indirect=True)
SHAPES_AND_BACKENDS = [
    pytest.param(backend, shape, id=f"{backend.name}-{shape.name}")
    for shape in SHAPES
    for backend in SQL_BACKENDS
    if not backend.is_async or shape.name in {"plain", "native UUIDs", "text ids", "an enumerated status"}
]


@pytest.mark.parametrize(("backend", "shape"), SHAPES_AND_BACKENDS, indirect=["backend"])
def test_a_table_of_any_shape_is_routed(place: Place, backend: Backend, shape: Shape) -> None:
    """Every operation works on the table, and what it answers is what the table then says."""
    mapping = shape.mapping()
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
    company, contact, one, other, group, _ = shape.ids
    # Where there is no column for it, any is refused.
    user = shape.ids[4] if "user_id" in mapping.columns else None
    queue = shape.ids[5] if "queue_id" in mapping.columns else None
    seconds = iter(range(100))
    with place.store(backend, mapping) as store, store.transaction() as repository:
        policy = Policy(reopen=Reopen.within(timedelta(hours=2)))
        router = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(seconds=next(seconds)))
        sent = InboundMessage(company, contact, one, message_id="m")
        first = router.resolve(sent)
        second = router.resolve(InboundMessage(company, contact, other, unread_messages=5))
        again = router.resolve(InboundMessage(company, contact, one))
        duplicate = router.resolve(sent)
        accepted = again.ticket if user is None else router.accept(company, first.ticket.id, user)
        used = router.resolve(InboundMessage(company, contact, one))
        closed = router.close(company, first.ticket.id)
        reopened = router.resolve(InboundMessage(company, contact, one))
        in_group = router.resolve(InboundMessage(company, contact, one, group_id=group))
        router.close(company, second.ticket.id)
        moved = router.transfer(company, first.ticket.id, other)
        opened = router.open(TicketKey(company, contact, one), user_id=user, queue_id=queue)
        active = router.active_tickets(company, contact)
        found = repository.get(company, opened.id)

    outcomes = [each.outcome for each in (first, second, again, duplicate, used, reopened, in_group)]
    assert [
        Outcome.CREATED,
        Outcome.CREATED,
        Outcome.REUSED,
        Outcome.DUPLICATE,
        Outcome.REUSED,
        Outcome.REOPENED,
        Outcome.CREATED,
    ] == outcomes
    assert TicketKey(company, contact, one) == first.ticket.key
    assert type(contact) is type(first.ticket.contact_id)
    assert accepted.status == used.ticket.status == ("pending" if user is None else "open")
    assert [opened, moved] == active
    assert opened == found
    columns = mapping.columns
    assert user == accepted.user_id == opened.user_id
    assert queue == opened.queue_id
    assert (1 if "unread_messages" in columns else 0) == first.ticket.unread_messages
    assert (5 if "unread_messages" in columns else 0) == second.ticket.unread_messages
    assert ("is_group" in columns) is in_group.ticket.is_group
    assert closed.updated_at == closed.closed_at == NOW + timedelta(seconds=5 if user is None else 6)
    assert (NOW if "created_at" in columns else moved.updated_at) == moved.created_at
    assert moved.closed_at is None


@every_database
def test_an_instant_is_kept_as_exactly_as_the_column_can(place: Place) -> None:
    """Whole seconds or milliseconds are cut, never rounded up into a time to come."""
    at = datetime(1969, 12, 31, 23, 59, 58, 999999, tzinfo=UTC)
    for epoch in (timedelta(seconds=1), timedelta(milliseconds=1)):
        codec = TicketMapping(a_table(**dict.fromkeys(TIMES, BigInteger())), epoch=epoch).codecs(
            place.engine.dialect
        )
        read = codec["updated_at"].decode(codec["updated_at"].encode(at))

        assert timedelta(0) <= at - read < epoch


@every_database
def test_an_empty_count_or_flag_of_the_host_is_read(place: Place) -> None:
    """NULL, and a number below zero, read as nothing unread; NULL reads as no group."""
    columns = {
        "is_group": lambda: Column("is_group", Boolean),
        "unread_messages": lambda: Column("unread_messages", Integer),
    }
    mapping = TicketMapping(a_table(**columns))
    values = {"company_id": 1, "connection_id": 10, "status": "open", "created_at": NOW, "updated_at": NOW}
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        for contact, count in ((1, None), (2, -3)):
            connection.execute(
                mapping.table.insert().values(contact_id=contact, unread_messages=count, **values)
            )
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        found = [router.active_tickets(1, contact)[0] for contact in (1, 2)]
        counted = router.resolve(InboundMessage(1, 1, 10)).ticket

    assert [(0, False), (0, False)] == [(ticket.unread_messages, ticket.is_group) for ticket in found]
    assert 1 == counted.unread_messages


class Nowhere(tzinfo):
    """A zone that knows no time."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None

    def dst(self, dt: datetime | None) -> timedelta | None:
        return timedelta(0)

    def tzname(self, dt: datetime | None) -> str | None:
        return None


class Raising(Nowhere):
    """A zone whose methods raise."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        raise RuntimeError


class Unhashable(Nowhere):
    """A zone that is no value."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return timedelta(0)

    def __hash__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize("zone", [Nowhere(), Raising(), Unhashable()], ids=lambda zone: type(zone).__name__)
def test_a_zone_that_gives_no_times_is_refused(zone: tzinfo) -> None:
    """Its own errors would come at the first message."""
    with pytest.raises(
        MappingError, match=f"^timezone is a {type(zone).__name__} that gives no times, as it raises"
    ):
        TicketMapping(a_table(), timezone=zone)


# --- ids that a column cannot hold --------------------------------------------------------------------------

REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any], str], ...] = (
    ("a text for a number", {}, {"contact_id": "5511987654321"}, "contact_id"),
    ("a UUID for a number", {}, {"connection_id": U[0]}, "connection_id"),
    ("a number for a text", {"contact_id": String(50)}, {"contact_id": 5511987654321}, "contact_id"),
    ("a number for a UUID", {"contact_id": Uuid()}, {"contact_id": 5511987654321}, "contact_id"),
    ("a text for a UUID", {"contact_id": Uuid()}, {"contact_id": str(U[0])}, "contact_id"),
    ("a UUID for a text", {"contact_id": CHAR(36)}, {"contact_id": U[0]}, "contact_id"),
    ("too long a text", {"contact_id": String(5)}, {"contact_id": "abcdef"}, "contact_id"),
    ("a text for a company", {}, {"company_id": "1abc"}, "company_id"),
)
OUT_OF_RANGE = (
    ("over 32 bits", Integer(), 2**31),
    ("under 32 bits", Integer(), -(2**31) - 1),
    ("over 16 bits", SmallInteger(), 2**15),
    ("under 16 bits", SmallInteger(), -(2**15) - 1),
)


@every_database
@pytest.mark.parametrize(("columns", "ids", "field"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_an_id_of_another_type_is_refused_everywhere(
    place: Place, columns: dict[str, Any], ids: dict[str, Any], field: str
) -> None:
    """No database gets to guess: an id that is not of its column's type is refused, with field and value."""
    mapping = TicketMapping(a_table(**columns))
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        repository = SQLAlchemyTicketRepository(connection, mapping)
        usual = {"company_id": 1, "contact_id": 1, "connection_id": 10}
        if field != "contact_id":
            usual["contact_id"] = 1
        with pytest.raises(InvalidMessageError) as error:
            TicketRouter(repository).resolve(InboundMessage(**(usual | ids)))
        left = connection.execute(mapping.table.select()).all()

    assert (field, ids[field]) == (error.value.field, error.value.value)
    assert [] == left


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize(("type_", "value"), [r[1:] for r in OUT_OF_RANGE], ids=[r[0] for r in OUT_OF_RANGE])
def test_a_number_that_the_column_cannot_hold_is_refused(place: Place, type_: Any, value: int) -> None:
    """A number out of the column's range is refused with field and value, before anything is sent."""
    mapping = TicketMapping(a_table(contact_id=type_))
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        with pytest.raises(InvalidMessageError, match="as its column holds") as error:
            router.resolve(InboundMessage(1, value, 10))
        edge = router.resolve(InboundMessage(1, value - 1 if value > 0 else value + 1, 10))

    assert ("contact_id", value) == (error.value.field, error.value.value)
    assert Outcome.CREATED is edge.outcome


@every_database
def test_a_ticket_id_of_another_type_is_refused(place: Place) -> None:
    """The same holds for the id of a ticket, and for an agent's."""
    mapping = TicketMapping(a_table())
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        made = router.resolve(InboundMessage(1, 1, 10)).ticket
        with pytest.raises(InvalidMessageError, match="id must be an int of"):
            router.close(1, str(made.id))
        with pytest.raises(InvalidMessageError, match="user_id must be an int of"):
            router.accept(1, made.id, "7")
        with pytest.raises(InvalidMessageError, match="connection_id must be an int of"):
            router.transfer(1, made.id, "13")
        with pytest.raises(TicketNotFoundError):
            router.close(1, 10**6)


# --- a table of one company ---------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("company", [1, "acme", U[0]], ids=["int", "str", "uuid"])
def test_a_table_of_one_company_has_no_other(place: Place, company: Id) -> None:
    """Another company's message is refused before any write; to it, no ticket of the table exists."""
    mapping = TicketMapping(a_table(company_id=None), company_id=None, only_company=company)
    with place.begin() as connection:
        mapping.table.metadata.create_all(connection)
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        made = router.resolve(InboundMessage(company, 1, 10, message_id="m")).ticket
        again = router.resolve(InboundMessage(company, 1, 10, message_id="m"))
        for other in (2, "other", U[1]):
            with pytest.raises(InvalidMessageError, match="the only one of this table") as error:
                router.resolve(InboundMessage(other, 1, 10))
            with pytest.raises(TicketNotFoundError):
                router.close(other, made.id)

            assert ("company_id", other) == (error.value.field, error.value.value)
            assert [] == router.active_tickets(other, 1)
        count = len(connection.execute(mapping.table.select()).all())

    assert (company, Outcome.DUPLICATE, 1) == (made.company_id, again.outcome, count)


# --- schemas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("how", ["schema", "translated"])
def test_a_schema_is_found(place: Place, how: str) -> None:
    """A table in another schema, named or translated, is judged and routed there, companions included."""
    mapping = TicketMapping.own(schema="desk" if how == "schema" else None, prefix="tr_")
    options = {} if how == "schema" else {"schema_translate_map": {None: "desk"}}
    with place.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS desk CASCADE"))
        connection.execute(text("CREATE SCHEMA desk"))
    with place.begin(**options) as connection:
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        made, again = (router.resolve(InboundMessage(1, "c", 10, message_id="m")) for _ in range(2))
        rule = detect_unique_rule(connection, mapping)
        names = text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'desk'")
        found = set(connection.execute(names).scalars())

    assert (Outcome.CREATED, Outcome.DUPLICATE) == (made.outcome, again.outcome)
    assert UniqueRule.ACTIVE_PER_CONNECTION is rule
    assert {"tr_tickets", "tr_message_ids", "tr_tickets_anchors"} == found


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_each_translated_schema_has_a_rule_of_its_own(place: Place) -> None:
    """One mapping over two schemas of one engine: what was found out of one is not taken for the other."""
    mapping = TicketMapping.own()
    found = {}
    with place.begin() as connection:
        for schema in ("one", "two"):
            connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    for schema in ("one", "two"):
        with place.begin(schema_translate_map={None: schema}) as connection:
            mapping.metadata.create_all(connection)
            if schema == "two":
                connection.execute(text("DROP INDEX two.uq_ticketrouter_tickets_active"))
            repository = SQLAlchemyTicketRepository(connection, mapping)
            router = TicketRouter(repository)
            router.resolve(InboundMessage(1, schema, 10))
            found[schema] = (
                detect_unique_rule(connection, mapping),
                len(router.active_tickets(1, "one")),
            )

    expected = {"one": (UniqueRule.ACTIVE_PER_CONNECTION, 1), "two": (UniqueRule.NONE, 0)}
    assert expected == found


@every_database
def test_a_prefix_names_every_table(place: Place) -> None:
    """Two sets of our own tables live side by side under two prefixes."""
    one, two = TicketMapping.own(prefix="one_"), TicketMapping.own(prefix="two_")
    with place.begin() as connection:
        for mapping in (one, two):
            mapping.metadata.create_all(connection)
            TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(InboundMessage(1, "c", 10))
        counts = [len(connection.execute(mapping.table.select()).all()) for mapping in (one, two)]

    assert [1, 1] == counts
    assert {"one_tickets", "one_message_ids", "one_tickets_anchors"} == set(one.metadata.tables)


def test_an_unknown_database_is_told() -> None:
    """A database whose catalogue is not known is refused by name."""
    connection = create_autospec(Connection, instance=True)
    connection.dialect = SimpleNamespace(name="oracle")

    with pytest.raises(MappingError, match=r"oracle is not among .*\(PostgreSQL, MariaDB, SQLite\)"):
        detect_unique_rule(connection, DEFAULT_MAPPING)


def test_absent_columns_are_told_together_with_the_way_out() -> None:
    """Every field without a column is named at once, and None is offered where a table may do without."""
    table = Table(
        "cases", MetaData(), *(Column(name, Integer) for name in ("id", "contact_id", "connection_id"))
    )

    with pytest.raises(MappingError) as error:
        TicketMapping(table, only_company=1, company_id=None)

    assert "or pass is_group=None, unread_messages=None, user_id=None" in str(error.value)
    assert "'status' for status" in str(error.value)
