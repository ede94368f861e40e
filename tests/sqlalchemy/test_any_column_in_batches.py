"""What a function of `on_message` writes into a column of any type is written by a batch as by messages alone."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlmodel.sql.sqltypes import AutoString

from tests.support.backends import ONE_PER_DATABASE, SQL_BACKENDS, Backend, Databases, SqlStore, counted
from ticketrouter import InboundMessage, Policy, Reopen, TicketRouter, TicketRouterError
from ticketrouter.sqlalchemy import KEEP, TicketMapping
from ticketrouter.sqlalchemy.health.ddl import missing_steps

CONTACTS = 30
OTHER_DRIVERS = {"json", "bytes", "duration"}
"""Cases of which the drivers of one database have ideas of their own."""
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Mood(enum.Enum):
    """What a column of an enumeration holds."""

    GLAD = "g"
    SAD = "s"


class Comma(TypeDecorator[list[str]]):
    """A host's own type: a list in a text."""

    impl = String(60)
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: Any) -> str | None:
        return None if value is None else ",".join(value)

    def process_result_value(self, value: str | None, dialect: Any) -> list[str] | None:
        return None if value is None else value.split(",")


class Packed(TypeDecorator[dict[str, Any]]):
    """A host's own type over JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return {"packed": value}

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value


class Shouted(TypeDecorator[str]):
    """A host's own type that is written by an SQL function."""

    impl = String(60)
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.upper(bindparam)


@frozen
class Case:
    """A type, what messages write into its column, and the databases whose batches write them one by one."""

    type_: Any
    values: tuple[Any, ...]
    alone_on: frozenset[str] = frozenset()


BY_ROWS = frozenset({"postgresql", "sqlite"})
PACKED = b'\x00\xff"\\{},'
CASES: dict[str, Case] = {
    "SQLModel's text": Case(AutoString(), ("a", "b\"\\{},'", None, "ü%s:x")),
    "SQLModel's short text": Case(AutoString(length=40), ("a", "b", None)),
    "text": Case(Text(), ("a", "NULL", "", "x" * 3000)),
    "json": Case(JSON(), ({"a": [1, None, "é\\\"'"]}, [True], [1], [1.5], "text", 7, None, {})),
    "json without none": Case(JSON(none_as_null=True), ({"a": 1}, None)),
    "jsonb": Case(JSON().with_variant(postgresql.JSONB(), "postgresql"), ({"a": 1}, {"b": [True]}, [1])),
    "own json": Case(Packed(), ({"a": 1}, None, [1])),
    "decimal": Case(Numeric(12, 3), (Decimal("1.500"), Decimal(-7), None, Decimal("0.001"))),
    "float": Case(Float(53), (1.5, -1e-10, 7.0, None, 3)),
    "enum": Case(Enum(Mood, name="mood"), (Mood.GLAD, Mood.SAD, None)),
    "enum of texts": Case(Enum("x", "y z", name="letters"), ("x", "y z", None)),
    "enum as text": Case(Enum(Mood, native_enum=False, length=9), (Mood.GLAD, None)),
    "bytes": Case(LargeBinary(), (b"", PACKED, bytes(range(256)), None)),
    "own type": Case(Comma(), (["a", "b"], ["c"], None)),
    "date": Case(Date(), (date(2026, 1, 2), None)),
    "time": Case(Time(), (time(1, 2, 3), None)),
    "datetime": Case(DateTime(), (NOON.replace(tzinfo=None), NOON, None)),
    "duration": Case(Interval(), (timedelta(days=3, seconds=7), timedelta(days=-1, seconds=5), None)),
    "uuid": Case(Uuid(), (UUID(int=7), None)),
    "flag": Case(Boolean(), (True, False, None)),
    "number": Case(Integer(), (7, -7, None, 0)),
    "written by a function": Case(Shouted(), ("a", "b", None), BY_ROWS),
    "pickled": Case(PickleType(), ({"a": 1}, [1]), BY_ROWS),
}
ON = {"postgresql": ("array", Case(postgresql.ARRAY(Integer), ([1, 2], [3], None), BY_ROWS))}


def mapping(type_: Any) -> TicketMapping:
    """Map a table with a column that every message writes by a function."""
    table = Table(
        "talks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("said", type_),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "user_id", "queue_id", "created_at", "closed_at"))
    written = {"said": lambda message, _: message.data}
    return TicketMapping(table, **none, on_message=written, metadata=table.metadata)


def opened(databases: Databases, backend: Backend, made: TicketMapping) -> SqlStore:
    """Make a database with such a table, and its unique rule."""
    store = SqlStore(backend, databases.new(backend.database), made)
    made.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        for step in missing_steps(connection, made):
            for statement in step.up:
                connection.exec_driver_sql(statement.replace(" CONCURRENTLY", "").replace("%", "%%"))
    return store


def written(store: SqlStore, case: Case, *, named: bool, many: bool) -> tuple[list[Any], int]:
    """Return what is in the column after each of three batches, and how many statements the last one took."""
    everyone = range(CONTACTS)
    numbers = iter(range(10_000))

    def arrive(data: Any, repository: Any) -> int:
        batch = [
            InboundMessage(1, each, 10, message_id=next(numbers) if named else None, data=data(each))
            for each in everyone
        ]
        router = TicketRouter(repository, Policy(reopen=Reopen.always()), clock=lambda: NOON)
        with counted(store) as sent:
            found = router.resolve_many(batch) if many else [router.resolve(each) for each in batch]
        for each in found[::4]:
            router.close(1, each.ticket.id)
        return len(sent)

    def turned(by: int) -> Any:
        return lambda each: KEEP if (each + by) % 5 == 0 else case.values[(each + by) % len(case.values)]

    with store.engine.begin() as connection:
        connection.execute(store.mapping.table.delete())
        connection.execute(store.mapping.message_ids.delete())
    costs = []
    seen: list[Any] = []
    columns = store.mapping.table.c
    for by in range(3):
        with store.transaction() as repository:
            costs.append(arrive(turned(by), repository))
        with store.engine.begin() as connection:
            seen += connection.execute(select(columns.said).order_by(columns.contact_id)).scalars()
    return seen, costs[-1]


def cases_of(backend: Backend) -> list[tuple[str, Case]]:
    return [*CASES.items(), *([ON[backend.database]] if backend.database in ON else [])]


@pytest.mark.parametrize(
    ("backend", "name", "case"),
    [
        pytest.param(backend, name, case, id=f"{backend.name}-{name}")
        for backend in SQL_BACKENDS
        for name, case in cases_of(backend)
        if backend in ONE_PER_DATABASE or name in OTHER_DRIVERS
    ],
)
def test_a_batch_writes_what_messages_alone_write(
    databases: Databases, backend: Backend, name: str, case: Case
) -> None:
    """Into new rows, joined and reopened ones, and into none whose message keeps it; at once, unless the type forbids it."""
    store = opened(databases, backend, mapping(case.type_))
    try:
        for named in (False, True):
            alone, _ = written(store, case, named=named, many=False)
            many, cost = written(store, case, named=named, many=True)

            assert list(map(repr, alone)) == list(map(repr, many))
            assert (cost > CONTACTS) is (backend.database in case.alone_on), cost
    finally:
        store.dispose()
        databases.drop(store.url)


HOSTILE: dict[str, tuple[Any, Any]] = {
    "too long": (String(3), "abcdef"),
    "too long, SQLModel's": (AutoString(length=3), "abcdef"),
    "infinite": (Float(53), float("inf")),
    "less than anything": (Float(53), -float("inf")),
    "no number": (Float(53), float("nan")),
    "too large": (Integer(), 2**70),
    "too many digits": (Numeric(5, 2), Decimal("12345.6")),
    "rounded": (Numeric(5, 2), Decimal("1.239")),
    "with a NUL": (String(30), "a\0b"),
    "half a letter": (String(30), "a\ud800"),
    "strange": (String(60), "{NULL,\"x\\'} %s :x \n\t\\u0000"),
}


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_column_does_not_take_is_refused_by_a_batch_too(
    databases: Databases, backend: Backend, name: str
) -> None:
    """And what it makes of a value, as of one with too many digits, is the same: of tickets that are there."""
    type_, value = HOSTILE[name]
    store = opened(databases, backend, mapping(type_))
    told = []
    for many in (False, True):
        with store.engine.begin() as connection:
            connection.execute(store.mapping.table.delete())
        with store.transaction() as repository:
            TicketRouter(repository).resolve_many([InboundMessage(1, each, 10, data=None) for each in (1, 2)])
        batch = [InboundMessage(1, each, 10, data=value) for each in (1, 2)]
        refused = False
        try:
            with store.transaction() as repository:
                router = TicketRouter(repository)
                _ = router.resolve_many(batch) if many else [router.resolve(each) for each in batch]
        except (TicketRouterError, UnicodeEncodeError, OverflowError):
            refused = True
        with store.engine.begin() as connection:
            told.append(
                (refused, repr(connection.execute(select(store.mapping.table.c.said)).scalars().all()))
            )
    store.dispose()
    databases.drop(store.url)

    assert told[0] == told[1]
