"""No act changes a ticket that its answer does not name, whatever twins stand on the keys, and whatever rule has gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    case,
    create_engine,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.backends import BACKENDS, Backend, Databases
from ticketrouter import (
    AsyncTicketRouter,
    InboundMessage,
    MessageKind,
    MovePlan,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    Scope,
    Ticket,
    TicketKey,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import (
    KEEP,
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
)

EXAMPLES = int(os.environ.get("TICKETROUTER_ONE_ROW_EXAMPLES", "8"))
MOST = 12
"""How many tickets there are at most."""
NOON = datetime(2026, 11, 23, 12)  # noqa: DTZ001 - as a column without a zone keeps it
NEVER = datetime(1970, 1, 1)  # noqa: DTZ001 - the same
STORED = {"open": 2, "pending": 0, "closed": 1, "bot": 7}
"""How a status is stored that is a number; nobody has named the last one."""
BOTH_HALVES = tuple(
    b for b in BACKENDS if b.name in {"sqlite", "aiosqlite", "psycopg", "psycopg-async", "pymysql", "asyncmy"}
)


@frozen
class Row:
    """A ticket before the act."""

    company_id: int | None
    contact_id: int | None
    connection_id: int | None
    status: str
    unread: int
    user_id: int | None
    hours: int
    deleted: int | None
    source: str


@frozen
class Layout:
    """How a host's table keeps the fields."""

    numbers: bool
    """Whether a status is a number."""
    nobody: bool
    """Whether agent and time of closing are NOT NULL: nobody is 0, never is `NEVER`."""
    one_connection: bool
    """Whether there is no column for the connection."""

    @property
    def key(self) -> tuple[str, ...]:
        return ("company_id", "contact_id", *([] if self.one_connection else ["connection_id"]))

    @property
    def name(self) -> str:
        return f"desk{self.numbers:d}{self.nobody:d}{self.one_connection:d}"

    @property
    def active(self) -> str:
        """Which rows are active, as SQL."""
        return "status IN (2, 0)" if self.numbers else "status IN ('open', 'pending')"

    def stored(self, status: str) -> str | int:
        return STORED[status] if self.numbers else status

    def table(self) -> Table:
        return Table(
            self.name,
            MetaData(),
            Column("id", Integer, primary_key=True),
            *(Column(name, Integer) for name in self.key),
            Column("status", Integer if self.numbers else String(20), nullable=False),
            Column("unread", Integer, nullable=False, default=0),
            Column("user_id", Integer, nullable=not self.nobody),
            Column("queue_id", Integer),
            Column("created_at", DateTime, nullable=False),
            Column("updated_at", DateTime, nullable=False),
            Column("closed_at", DateTime, nullable=not self.nobody),
            Column("deleted", Integer),
            Column("source", String(20)),
            Column("note", String(20)),
            Column("hits", Integer, nullable=False, server_default="0"),
        )


@frozen
class Desk:
    """A host's table, and what of its mapping is no matter of the table."""

    layout: Layout
    where: bool
    """Whether rows that are deleted, or not from the desk's source, do not exist for it."""
    on_create: bool
    """Whether a new row says its source; one that does not may not be made where `where` asks for it."""
    on_message: str
    """A line of `ON_MESSAGE`."""
    new_id: str
    """Who makes the ids: "" the database, "fresh" a function, "taken" one that gives ids of other rows too."""

    def mapping(self) -> TicketMapping:
        layout, table = self.layout, self.layout.table()
        exists = and_(table.c.deleted.is_(None), table.c.source == "sms")
        numbers = {word: number for word, number in STORED.items() if word != "bot"}
        return TicketMapping(
            table,
            is_group=None,
            unread_messages="unread",
            nullable_keys=True,
            connection_id=None if layout.one_connection else "connection_id",
            only_connection=1 if layout.one_connection else None,
            status_values=numbers if layout.numbers else None,
            absent={"user_id": 0, "closed_at": NEVER} if layout.nobody else None,
            where=exists if self.where else None,
            on_create={"source": "sms"} if self.on_create else None,
            on_message=ON_MESSAGE[self.on_message](table),
            new_id=count(2000 if self.new_id == "fresh" else 1).__next__ if self.new_id else None,
        )

    def exists(self, row: Any) -> bool:
        return not self.where or (row.deleted is None and row.source == "sms")


def _noted(message: InboundMessage, _: datetime) -> Any:
    return KEEP if message.message_id is None else message.message_id


def _once_more(table: Table) -> ColumnElement[int]:
    return func.coalesce(table.c.hits, 0) + 1  # a new row has none yet


ON_MESSAGE: dict[str, Callable[[Table], dict[str, Any]]] = {
    "": lambda _: {},
    "a constant": lambda _: {"note": "told"},
    "an expression": lambda table: {"hits": _once_more(table)},
    "a function": lambda _: {"note": _noted},
    "all of them": lambda table: {"source": "sms", "hits": _once_more(table), "note": _noted},
    "one that deletes": lambda _: {"deleted": lambda message, _: KEEP if message.message_id is None else 1},
    "one that deletes the second time": lambda table: {
        "deleted": case((table.c.hits > 0, 1), else_=table.c.deleted),
        "hits": _once_more(table),
    },
}
layouts = st.builds(Layout, st.booleans(), st.booleans(), st.sampled_from([False, False, True]))
desks = st.builds(
    Desk,
    layouts,
    where=st.booleans(),
    on_create=st.sampled_from([True, True, True, False]),
    on_message=st.sampled_from([*ON_MESSAGE]),
    new_id=st.sampled_from(["", "", "", "fresh", "fresh", "taken"]),
)


@frozen
class Act:
    """A call of a router."""

    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()

    def call(self, router: Any) -> Any:
        return getattr(router, self.name)(*self.arguments, **dict(self.options))


one, two = st.sampled_from([1, 1, 1, 1, 1, 2]), st.sampled_from([1, 2])
perhaps = st.sampled_from([1, 1, 1, 1, 1, 1, 2, None])
words = st.sampled_from(["open", "open", "pending", "closed", "closed", "bot"])
kinds_of_rows = st.builds(
    Row,
    company_id=perhaps,
    contact_id=perhaps,
    connection_id=perhaps,
    status=words,
    unread=st.integers(0, 2),
    user_id=st.sampled_from([None, 1, 2]),
    hours=st.integers(0, 3),
    deleted=st.sampled_from([None, None, None, None, 1]),
    source=st.sampled_from(["sms", "sms", "sms", "sms", "sms", "mail"]),
)
rows = st.lists(st.tuples(kinds_of_rows, st.integers(1, 3)), min_size=1, max_size=MOST // 3).map(
    lambda drawn: [row for row, twins in drawn for _ in range(twins)]
)
message_ids = st.none() | st.sampled_from(["a", "b", "c"])
messages = st.builds(
    InboundMessage,
    one,
    one,
    one,
    message_id=message_ids,
    kind=st.sampled_from([MessageKind.MESSAGE] * 3 + [*MessageKind]),
)
ids = st.integers(1, MOST)
sides = st.permutations([1, 2]).map(tuple)
collision = st.sampled_from(OnCollision).map(lambda chosen: (("on_collision", chosen),))
acts = st.one_of(
    *(
        st.builds(Act, st.just(name), st.tuples(told))  # what is most done
        for name, told in [
            ("resolve", messages),
            ("resolve", messages),
            ("resolve_many", st.lists(messages, min_size=1, max_size=8)),
            ("resolve_many", st.lists(messages, min_size=1, max_size=8)),
        ]
    ),
    st.builds(Act, st.just("open"), st.tuples(st.builds(TicketKey, one, one, one))),
    st.builds(Act, st.just("accept"), st.tuples(one, ids, two)),
    st.builds(Act, st.just("close"), st.tuples(one, ids)),
    st.builds(Act, st.just("reopen"), st.tuples(one, ids)),
    st.builds(Act, st.just("transfer"), st.tuples(one, ids, two)),
    st.builds(
        lambda name, company, both, options: Act(name, (company, *both), options),
        st.sampled_from(["merge_contacts", "move_connection"]),
        one,
        sides,
        collision,
    ),
)
policies = st.builds(
    Policy,
    scope=st.sampled_from(Scope),
    reopen=st.sampled_from([Reopen.never(), Reopen.within(timedelta(days=9999)), Reopen.always()]),
)


def named(answer: Any) -> set[Any]:
    """Return the ids of the tickets that an answer is about."""
    match answer:
        case list():
            return {id_ for each in answer for id_ in named(each)}
        case Ticket():
            return {answer.id}
        case MovePlan():
            # What is closed for a ticket is counted there.
            kept = (closing.kept.id for closing in answer.closes if closing.kept is not None)
            return {*answer.repoints, *(closing.ticket.id for closing in answer.closes), *kept}
        case _:
            return set() if answer.outcome is Outcome.IGNORED else {answer.ticket.id}


def written(answer: Any) -> set[Any]:
    """Return the ids of the tickets that a message has come to."""
    match answer:
        case list():
            return {id_ for each in answer for id_ in written(each)}
        case Resolution() if answer.outcome not in {Outcome.IGNORED, Outcome.DUPLICATE}:
            return {answer.ticket.id}
        case _:
            return set()


@frozen
class Case:
    """What is done, and on what."""

    desk: Desk
    act: Act
    policy: Policy
    given: tuple[Row, ...]
    rule_was_there: bool


class Tables:
    """A database with the tables of the desks, and the half of the library under test."""

    def __init__(self, backend: Backend, databases: Databases) -> None:
        self.url = databases.new(backend.database)
        self.backend, self.database = backend, backend.database
        self._made: set[str] = set()

    def engine(self) -> Engine:
        engine = create_engine(self.url, poolclass=NullPool)
        if self.database == "sqlite":
            configure_sqlite(engine)
        return engine

    def mapping(self, desk: Desk) -> TicketMapping:
        """Map the table of a desk, which is made when it is first asked for."""
        mapping, name = desk.mapping(), desk.layout.name
        if name not in self._made:
            with self.engine().begin() as connection:
                mapping.table.metadata.create_all(connection)
                mapping.metadata.create_all(connection)
                if self.database == "postgresql":
                    # The rows of the tests have numbers of their own.
                    connection.execute(text(f"ALTER SEQUENCE {name}_id_seq RESTART WITH 1000"))
                if self.database == "mariadb":
                    when = f"a INT AS (IF({desk.layout.active}, 1, NULL)) VIRTUAL"
                    connection.execute(text(f"ALTER TABLE {name} ADD {when}, AUTO_INCREMENT = 1000"))
            self._made.add(name)
        return mapping

    def act(self, case: Case) -> tuple[Any, Any, Any]:
        """Return every ticket before an act and after it, and its answer; the host commits also after an error."""
        mapping, driven = self.mapping(case.desk), self.url.set(drivername=self.backend.driver)
        if self.backend.is_async:
            return asyncio.run(self._asynchronously(driven, mapping, case))
        engine = create_engine(driven, poolclass=NullPool)
        if self.database == "sqlite":
            configure_sqlite(engine)
        with engine.connect() as connection:
            before = self._prepared(connection, mapping, case)
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping), case.policy)
            try:
                answer = case.act.call(router)
            except TicketRouterError as error:
                answer = error
            connection.commit()
            return before, _tickets(connection, mapping), answer

    async def _asynchronously(self, url: URL, mapping: TicketMapping, case: Case) -> tuple[Any, Any, Any]:
        engine = create_async_engine(url, poolclass=NullPool)
        if self.database == "sqlite":
            configure_sqlite(engine)
        async with engine.connect() as connection:
            before = await connection.run_sync(self._prepared, mapping, case)
            router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(connection, mapping), case.policy)
            try:
                answer = await case.act.call(router)
            except TicketRouterError as error:
                answer = error
            await connection.commit()
            return before, await connection.run_sync(_tickets, mapping), answer

    def _prepared(self, connection: Connection, mapping: TicketMapping, case: Case) -> dict[int, Any]:
        """Fill the tables; where there was a rule, this connection has seen it before it went."""
        _empty(connection, mapping)
        if case.rule_was_there:
            self._see_rule(connection, mapping, case.desk.layout)
            _empty(connection, mapping)
        for number, row in enumerate(case.given, start=1):
            connection.execute(mapping.table.insert().values(id=number, **_cells(case.desk.layout, row)))
        connection.commit()
        return _tickets(connection, mapping)

    def _see_rule(self, connection: Connection, mapping: TicketMapping, layout: Layout) -> None:
        on_mariadb = self.database == "mariadb"
        when = "" if on_mariadb else f" WHERE {layout.active}"
        over = ", ".join((*layout.key, *(["a"] if on_mariadb else [])))
        connection.execute(text(f"CREATE UNIQUE INDEX u ON {layout.name} ({over}){when}"))
        connection.commit()
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        with suppress(TicketRouterError):
            router.resolve_many([InboundMessage(1, 1, 1, message_id="known")] * 2)
        connection.commit()
        connection.execute(text("DROP INDEX u" + (f" ON {layout.name}" if on_mariadb else "")))
        connection.commit()


def _cells(layout: Layout, row: Row) -> dict[str, Any]:
    at = NOON + timedelta(hours=row.hours)
    nobody, never = (0, NEVER) if layout.nobody else (None, None)
    return {
        **{name: getattr(row, name) for name in (*layout.key, "unread", "deleted", "source")},
        "status": layout.stored(row.status),
        "user_id": nobody if row.user_id is None else row.user_id,
        "created_at": NOON,
        "updated_at": at,
        "closed_at": at if row.status == "closed" else never,
    }


def _empty(connection: Connection, mapping: TicketMapping) -> None:
    for table in (mapping.table, *mapping.metadata.sorted_tables):
        connection.execute(table.delete())
    connection.commit()


def _tickets(connection: Connection, mapping: TicketMapping) -> dict[int, Any]:
    found = {row.id: row for row in connection.execute(select(mapping.table))}
    connection.commit()
    return found


@pytest.fixture(scope="module", params=BOTH_HALVES, ids=lambda backend: backend.name)
def tables(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Tables]:
    made = Tables(request.param, databases)
    yield made
    databases.drop(made.url)


@pytest.mark.parametrize("rule_was_there", [False, True], ids=["no rule", "a rule that has gone"])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(acts, policies, rows, desks)
def test_only_what_the_answer_names_is_changed(
    tables: Tables, rule_was_there: bool, act: Act, policy: Policy, given: list[Row], desk: Desk
) -> None:
    """All rows are compared; after an error, which the host may go on from, none differs, but of a batch; nor does what is left out.

    What every message writes is written by messages alone, and is found in each ticket that one came to.
    """
    before, after, answer = tables.act(Case(desk, act, policy, tuple(given), rule_was_there))
    changed = {number for number in before.keys() | after.keys() if before.get(number) != after.get(number)}

    if isinstance(answer, TicketRouterError):
        # Of a batch some messages may be there, each of them whole, if another one is refused.
        told = act.arguments[0] if act.name == "resolve_many" else ()
        assert {message.contact_id for message in told} >= {after[number].contact_id for number in changed}
        assert all(desk.exists(after[number]) for number in changed), f"{answer!r}: {changed}"
        return
    left_out = {number for number, row in before.items() if not desk.exists(row)}
    assert changed <= named(answer) - left_out
    assert not named(answer) & left_out
    assert all(desk.exists(after[number]) for number in changed & after.keys())
    came = written(answer)
    for number in changed & after.keys():
        old = (before[number].note, before[number].hits) if number in before else (None, 0)
        assert number in came or old == (after[number].note, after[number].hits)
    if desk.on_message == "a constant":
        assert {"told"} >= {after[number].note for number in came}
    if "hits" in ON_MESSAGE[desk.on_message](desk.layout.table()):
        hits = {
            number: after[number].hits - (before[number].hits if number in before else 0) for number in came
        }
        assert all(hits.values()), hits
