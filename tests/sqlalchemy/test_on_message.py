"""The columns that are written with every message: by constants, expressions and functions, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    case,
    func,
    select,
    text,
)

from tests.support.backends import BACKENDS, Backend, Databases, SqlStore, counted
from ticketrouter import (
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reopen,
    TicketKey,
    TicketRouter,
)
from ticketrouter.sqlalchemy import KEEP, MappingError, TicketMapping
from ticketrouter.testing.clock import FakeClock

NOON = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=UTC)
SQL = tuple(each for each in BACKENDS if each.database != "memory")
RULE = "company_id, contact_id, connection_id"


TEXTS: dict[int, tuple[InboundMessage, Any]] = {}
"""What was said in each message."""


def last_at(message: InboundMessage, now: datetime) -> Any:
    return KEEP if message.kind is MessageKind.ECHO else now


def body(message: InboundMessage, _now: datetime) -> Any:
    found = TEXTS.get(id(message))
    return KEEP if found is None else found[1]


def table_of() -> Table:
    return Table(
        "talks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("company_id", Integer, nullable=False),
        Column("contact_id", Integer, nullable=False),
        Column("connection_id", Integer, nullable=False),
        Column("status", String(20), nullable=False),
        Column("unread", Integer, nullable=False),
        Column("user_id", Integer),
        Column("queue_id", Integer),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("closed_at", DateTime),
        Column("last_at", DateTime),
        Column("last_ms", BigInteger, nullable=False),
        Column("body", String(30), server_default="nothing"),
        Column("channel", String(20), nullable=False),
        Column("waiting", DateTime),
        Column("closings", Integer),
    )


def written(table: Table) -> dict[Any, Any]:
    c = table.c
    return {
        c.last_at: last_at,
        "last_ms": lambda _message, now: int(now.timestamp() * 1000),
        "body": body,
        "channel": "whatsapp",
        "waiting": func.coalesce(c.waiting, c.updated_at),
        "closings": case((c.status == "closed", func.coalesce(c.closings, 0) + 1), else_=c.closings),
    }


def mapping_of(on_message: Any = written, **options: Any) -> TicketMapping:
    table = table_of()
    chosen = on_message(table) if callable(on_message) else on_message
    return TicketMapping(table, is_group=None, unread_messages="unread", on_message=chosen, **options)


@pytest.fixture(scope="module", params=SQL, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["a rule", "no rule"])
def opened(request: pytest.FixtureRequest, backend: Backend, databases: Databases) -> Iterator[SqlStore]:
    store = SqlStore(backend, databases.new(backend.database), mapping_of())
    store.mapping.table.metadata.create_all(store.engine)
    store.mapping.metadata.create_all(store.engine)
    if request.param:
        with store.engine.begin() as connection:
            active = "status IN ('open', 'pending')"
            if backend.database == "mariadb":
                connection.execute(text(f"ALTER TABLE talks ADD a INT AS (IF({active}, 1, NULL)) VIRTUAL"))
                connection.execute(text(f"CREATE UNIQUE INDEX u ON talks ({RULE}, a)"))
            else:
                connection.execute(text(f"CREATE UNIQUE INDEX u ON talks ({RULE}) WHERE {active}"))
    yield store
    store.dispose()
    databases.drop(store.url)


@pytest.fixture
def store(opened: SqlStore) -> Iterator[SqlStore]:
    with opened.engine.begin() as connection:
        connection.execute(opened.mapping.table.delete())
    opened.empty()
    yield opened
    opened.assert_no_leak()


def row(store: SqlStore) -> dict[str, Any]:
    """Read the one row, but for what a Ticket has."""
    columns = store.mapping.table.c
    names = ("last_at", "last_ms", "body", "channel", "waiting", "closings")
    with store.engine.begin() as connection:
        found = connection.execute(select(*(columns[name] for name in names))).one()
    return dict(zip(names, found, strict=True))


def naive(at: datetime) -> datetime:
    """Return a time as the column keeps it, to the whole second where it keeps no more."""
    return at.replace(tzinfo=None)


def seconds(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what MariaDB's DATETIME does."""
    return {
        name: value.replace(microsecond=0) if isinstance(value, datetime) else value
        for name, value in found.items()
    }


def message(
    said: Any = None, contact_id: int = 50, *, message_id: str | None = None, echo: bool = False
) -> InboundMessage:
    kind = MessageKind.ECHO if echo else MessageKind.MESSAGE
    made = InboundMessage(1, contact_id, 10, message_id=message_id, kind=kind)
    if said is not None:
        TEXTS[id(made)] = made, said
    return made


WAYS: dict[str, Callable[[TicketRouter, list[InboundMessage]], list[Any]]] = {
    "one": lambda router, each: [router.resolve(found) for found in each],
    "many": lambda router, each: router.resolve_many(each),
}


@pytest.mark.parametrize("ids", [False, True], ids=["without ids", "with ids"])
@pytest.mark.parametrize("way", WAYS)
def test_every_message_writes_them(store: SqlStore, way: str, ids: bool) -> None:
    """A message that creates, joins or reopens writes each column; what answers KEEP is as it was."""
    clock, route = FakeClock(NOON), WAYS[way]
    numbers = iter(range(1000))

    def arrive(*data: Any, echo: bool = False) -> list[Outcome]:
        found = [message(each, message_id=str(next(numbers)) if ids else None, echo=echo) for each in data]
        if way == "many":
            found += [message("x", 99, message_id=str(next(numbers)) if ids else None)]
        with store.transaction() as repository:
            router = TicketRouter(repository, Policy(reopen=Reopen.always()), clock=clock)
            outcomes = [each.outcome for each in route(router, found)]
        with store.engine.begin() as connection:
            connection.execute(store.mapping.table.delete().where(store.mapping.table.c.contact_id == 99))
        return outcomes[: len(data)]

    def wrote(at: datetime, data: Any, **more: Any) -> None:
        expected = {"last_at": naive(at), "last_ms": int(at.timestamp() * 1000), "body": data}
        assert seconds(row(store)) == seconds(expected | {"channel": "whatsapp"} | more)

    assert (
        [Outcome.CREATED, Outcome.REUSED] == arrive(None, "hello")
        if way == "many"
        else arrive(None) + arrive("hello")
    )
    wrote(NOON, "hello", waiting=None if way == "many" else naive(NOON), closings=None)
    clock.advance(timedelta(minutes=5))
    assert [Outcome.REUSED] * 2 == arrive("a", None)
    wrote(NOON + timedelta(minutes=5), "a", waiting=naive(NOON), closings=None)
    clock.advance(timedelta(minutes=5))
    assert [Outcome.REUSED] == arrive("echo", echo=True)
    found = row(store)
    assert naive(NOON + timedelta(minutes=5)).replace(microsecond=0) == found["last_at"].replace(
        microsecond=0
    )
    assert "echo" == found["body"]
    with store.transaction() as repository:
        router = TicketRouter(repository, clock=clock)
        [ticket] = router.active_tickets(1, 50)
        router.close(1, ticket.id)
    assert found == row(store)
    clock.advance(timedelta(minutes=5))
    assert (
        [Outcome.REOPENED, Outcome.REUSED] == arrive("back", None)[:1] + arrive("b")
        if way == "one"
        else arrive("back", "b")
    )
    wrote(NOON + timedelta(minutes=15), "b", waiting=naive(NOON), closings=1)


def test_no_statement_more_is_sent(store: SqlStore) -> None:
    """What the same calls send on a mapping without it, they send with it."""
    plain = SqlStore(store.backend, store.url, mapping_of(None, on_create=_filled))
    counts = []
    try:
        for each in (store, plain):
            with each.engine.begin() as connection:
                connection.execute(each.mapping.table.delete())
            each.empty()
            with each.transaction() as repository:  # what is there is known then
                TicketRouter(repository).resolve_many([message(None, 77, message_id="0")])
            with counted(each) as sent:
                for ids in (False, True):
                    with each.transaction() as repository:
                        router = TicketRouter(repository, Policy(reopen=Reopen.always()))
                        first = router.resolve(message("a", message_id="1" if ids else None))
                        router.resolve(message("b", message_id="2" if ids else None))
                        many = [message(str(n), message_id=f"m{n}" if ids else None) for n in range(4)]
                        router.resolve_many(many)
                        router.close(1, first.ticket.id)
                        router.resolve_many([InboundMessage(1, 51, 10), *many[:1]])
                        router.resolve(message("c"))
            counts.append([_kind(each) for each in sent])
    finally:
        plain.dispose()

    assert counts[1] == counts[0]


def _kind(statement: str) -> str:
    return statement.split(maxsplit=1)[0]


def _filled(_: Any) -> dict[str, Any]:
    return {"last_ms": 0, "channel": "whatsapp"}


def test_what_the_desk_does_is_no_message(store: SqlStore) -> None:
    """Opening writes none of them, and is told what nobody fills; with on_create it is done, and reopening keeps all."""
    with store.transaction() as repository:
        router = TicketRouter(repository)
        with pytest.raises(MappingError, match=r"leave talks\.last_ms, talks\.channel empty"):
            router.open(TicketKey(1, 50, 10))
    filled = SqlStore(store.backend, store.url, mapping_of(on_create={"last_ms": 1, "channel": "desk"}))
    try:
        with filled.transaction() as repository:
            router = TicketRouter(repository)
            ticket = router.open(TicketKey(1, 50, 10))
            ticket = getattr(ticket, "ticket", ticket)
            router.close(1, ticket.id)
            router.reopen(1, ticket.id)
        opened = row(store)
        with filled.transaction() as repository:
            TicketRouter(repository, clock=FakeClock(NOON)).resolve(message("hello"))
        found = row(store)
    finally:
        filled.dispose()

    assert (1, "desk", "nothing", None) == (
        opened["last_ms"],
        opened["channel"],
        opened["body"],
        opened["closings"],
    )
    assert ("whatsapp", "hello") == (found["channel"], found["body"])


def test_functions_are_those_of_the_mapping_at_hand(store: SqlStore) -> None:
    """Mappings that say the same share statements, and not what their functions answer."""
    for answer in ("one", "two", "one"):
        chosen = written(store.mapping.table) | {"body": lambda _message, _now, answer=answer: answer}
        mapping = TicketMapping(
            store.mapping.table, is_group=None, unread_messages="unread", on_message=chosen
        )
        here = SqlStore(store.backend, store.url, mapping)
        try:
            with here.transaction() as repository:
                TicketRouter(repository).resolve(message())
            assert answer == row(store)["body"]
        finally:
            here.dispose()


def test_what_the_message_does_is_told_to_on_create(store: SqlStore) -> None:
    """It knows the message, gives agent and queue, and on_message has the last word but where it keeps."""
    seen: list[Any] = []

    def on_create(create: Any) -> dict[str, Any]:
        seen.append(create.message)
        return {"user_id": 7, "queue_id": 3, "body": "from on_create", "channel": "first"}

    here = SqlStore(store.backend, store.url, mapping_of(on_create=on_create))
    try:
        arrived = message()
        with here.transaction() as repository:
            first = TicketRouter(repository).resolve(arrived)
    finally:
        here.dispose()
    assert first.ticket is not None
    assert (7, 3) == (first.ticket.user_id, first.ticket.queue_id)
    assert seen == [arrived]
    assert ("from on_create", "whatsapp") == (row(store)["body"], row(store)["channel"])


def test_a_type_that_no_batch_can_send_goes_one_by_one(backend: Backend, databases: Databases) -> None:
    """Bytes are written as well, by messages of a batch that go alone."""
    table = table_of()
    table.append_column(Column("raw", LargeBinary))
    mapping = TicketMapping(
        table,
        is_group=None,
        unread_messages="unread",
        on_create={"last_ms": 0, "channel": "x"},
        on_message={"raw": lambda message, _now: TEXTS[id(message)][1]},
    )
    store = SqlStore(backend, databases.new(backend.database), mapping)
    try:
        table.metadata.create_all(store.engine)
        mapping.metadata.create_all(store.engine)
        with store.transaction() as repository:
            router = TicketRouter(repository)
            router.resolve_many([message(b"\x00\xff"), message(b"51", 51)])
            router.resolve_many([message(b"\x01"), message(b"\xfe\x00")])
        with store.engine.connect() as connection:
            found = connection.execute(select(table.c.raw).order_by(table.c.contact_id)).scalars().all()
    finally:
        store.dispose()
        databases.drop(store.url)

    assert [b"\xfe\x00", b"51"] == found


@pytest.mark.parametrize("way", WAYS)
def test_an_expression_is_over_the_row_before_the_change(store: SqlStore, way: str) -> None:
    """Whatever else is written, and in whichever order it is given; of a new row there is nothing before."""
    table = store.mapping.table
    given: dict[str, Any] = {"channel": lambda found, _now: TEXTS[id(found)][1], "body": table.c.channel}
    mapping = TicketMapping(
        table, is_group=None, unread_messages="unread", on_create={"last_ms": 0}, on_message=given
    )
    here = SqlStore(store.backend, store.url, mapping)
    bodies = []
    try:
        for each in ("one", "two", "three"):
            with here.transaction() as repository:
                WAYS[way](TicketRouter(repository), [message(each), message(each, 51)])
            with here.engine.connect() as connection:
                found = select(table.c.channel, table.c.body).where(table.c.contact_id == 50)
                bodies.append(tuple(connection.execute(found).one()))
    finally:
        here.dispose()

    assert [("one", None), ("two", "one"), ("three", "two")] == bodies


WRONG: dict[str, tuple[Callable[[Table], Any], str]] = {
    "no such column": (lambda _: {"nowhere": 1}, "has no column 'nowhere' for on_message"),
    "a field's": (lambda _: {"status": "open"}, r"on_message has talks\.status, which a field"),
    "the agent's": (lambda _: {"user_id": 1}, r"on_message has talks\.user_id, which a field"),
    "an unfilled value": (lambda _: {"body": bindparam("x")}, "a value that is not given, x"),
    "another table": (
        lambda _: {"body": Table("other", MetaData(), Column("x", Integer)).c.x},
        r"asks other\.x, which is no column",
    ),
    "each the other's": (
        lambda table: {"body": table.c.channel, "channel": table.c.body},
        r"on_message has talks\.body, talks\.channel, each by an expression over another",
    ),
    "no mapping": (lambda _: [("body", 1)], "on_message must be a mapping"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_written_is_refused_when_the_mapping_is_made(name: str) -> None:
    """The text names the column, and what is wrong with it."""
    given, told = WRONG[name]
    with pytest.raises(MappingError, match=told):
        mapping_of(given, on_create={"last_ms": 1, "channel": "x"})


def test_a_generated_column_is_refused() -> None:
    """Nobody can write it."""
    table = table_of()
    table.append_column(Column("twice", Integer, Computed("unread * 2")))
    with pytest.raises(MappingError, match=r"on_message has talks\.twice, a generated column"):
        TicketMapping(table, is_group=None, unread_messages="unread", on_message={"twice": 1})


def test_mappings_say_their_columns_and_expressions() -> None:
    """Of functions and constants only the columns are said, of an expression what it is."""

    def said(**on_message: Any) -> Any:
        return mapping_of(on_message, on_create=_filled).said

    assert said(body="a") == said(body="b")
    assert said(body=body) == said(body=lambda _m, _n: 1)
    assert len({said(), said(body="a"), said(body=body), said(body=text("'x'")), said(body=text("'y'"))}) == 5
