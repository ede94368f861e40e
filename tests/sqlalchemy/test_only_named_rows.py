"""No act changes a ticket that its answer does not name, whatever twins stand on the keys, and whatever rule has gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.sqlalchemy.test_blocked import NOON, RIGHT, Desk
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
    Scope,
    Ticket,
    TicketKey,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import (
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    configure_sqlite,
)

EXAMPLES = int(os.environ.get("TICKETROUTER_ONE_ROW_EXAMPLES", "8"))
MOST = 12
"""How many tickets there are at most."""
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
    deleted=st.sampled_from([None, None, 1]),
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
    st.builds(Act, st.just("resolve"), st.tuples(messages)),
    st.builds(Act, st.just("resolve"), st.tuples(messages)),  # twice as often
    st.builds(Act, st.just("resolve_many"), st.tuples(st.lists(messages, min_size=1, max_size=8))),
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


class Tables:
    """A desk with tables of its own, and the half of the library under test."""

    def __init__(self, backend: Backend, databases: Databases) -> None:
        self.desk = Desk(databases.new(backend.database), RIGHT)
        self.mappings = {where: evolve(RIGHT, where=where).mapping() for where in (False, True)}
        self.backend, self.database = backend, backend.database
        with self.desk.engine.begin() as connection:
            self._drop_rule(connection)
        self.desk.engine.dispose()

    def act(
        self, act: Act, policy: Policy, given: list[Row], *, rule_was_there: bool, where: bool
    ) -> tuple[Any, Any, Any]:
        """Return every ticket before an act and after it, and its answer; the host commits also after an error."""
        self.desk.mapping = self.mappings[where]
        driven = self.desk.url.set(drivername=self.backend.driver)
        if self.backend.is_async:
            return asyncio.run(self._asynchronously(driven, act, policy, given, rule_was_there))
        engine = create_engine(driven, poolclass=NullPool)
        if self.database == "sqlite":
            configure_sqlite(engine)
        with engine.connect() as connection:
            before = self._prepared(connection, given, rule_was_there)
            router = TicketRouter(SQLAlchemyTicketRepository(connection, self.desk.mapping), policy)
            try:
                answer = act.call(router)
            except TicketRouterError as error:
                answer = error
            connection.commit()
            return before, self._tickets(connection), answer

    async def _asynchronously(
        self, url: Any, act: Act, policy: Policy, given: list[Row], rule_was_there: bool
    ) -> tuple[Any, Any, Any]:
        engine = create_async_engine(url, poolclass=NullPool)
        if self.database == "sqlite":
            configure_sqlite(engine)
        async with engine.connect() as connection:
            before = await connection.run_sync(self._prepared, given, rule_was_there)
            repository = AsyncSQLAlchemyTicketRepository(connection, self.desk.mapping)
            try:
                answer = await act.call(AsyncTicketRouter(repository, policy))
            except TicketRouterError as error:
                answer = error
            await connection.commit()
            return before, await connection.run_sync(self._tickets), answer

    def _prepared(self, connection: Connection, given: list[Row], rule_was_there: bool) -> dict[int, Any]:
        """Fill the tables; where there was a rule, this connection has seen it before it went."""
        tickets = self.desk.mapping.table
        self._empty(connection)
        if rule_was_there:
            when = "" if self.database == "mariadb" else f" WHERE {RIGHT.when}"
            over = ", ".join((*RIGHT.over, *(["a"] if self.database == "mariadb" else [])))
            connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({over}){when}"))
            connection.commit()
            router = TicketRouter(SQLAlchemyTicketRepository(connection, self.desk.mapping))
            router.resolve_many([InboundMessage(1, 1, 1, message_id="known")] * 2)
            connection.commit()
            self._drop_rule(connection)
            self._empty(connection)
        for number, row in enumerate(given, start=1):
            at = NOON + timedelta(hours=row.hours)
            cells = {
                name: getattr(row, name) for name in (*RIGHT.over, "status", "unread", "user_id", "deleted")
            }
            times = {
                "created_at": NOON,
                "updated_at": at,
                "closed_at": at if row.status == "closed" else None,
            }
            connection.execute(tickets.insert().values(id=number, **cells, **times))
        connection.commit()
        return self._tickets(connection)

    def _drop_rule(self, connection: Connection) -> None:
        connection.execute(text("DROP INDEX u" + (" ON desk" if self.database == "mariadb" else "")))
        connection.commit()

    def _empty(self, connection: Connection) -> None:
        for table in (self.desk.mapping.table, *self.desk.mapping.metadata.sorted_tables):
            connection.execute(table.delete())
        connection.commit()

    def _tickets(self, connection: Connection) -> dict[int, Any]:
        found = {row.id: tuple(row) for row in connection.execute(select(self.desk.mapping.table))}
        connection.commit()
        return found


@pytest.fixture(scope="module", params=BOTH_HALVES, ids=lambda backend: backend.name)
def tables(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Tables]:
    made = Tables(request.param, databases)
    yield made
    made.desk.engine.dispose()
    databases.drop(made.desk.url)


@pytest.mark.parametrize("rule_was_there", [False, True], ids=["no rule", "a rule that has gone"])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(acts, policies, rows, st.booleans())
def test_only_what_the_answer_names_is_changed(
    tables: Tables, rule_was_there: bool, act: Act, policy: Policy, given: list[Row], where: bool
) -> None:
    """All rows are compared; after an error, which the host may go on from, none differs; nor does what is left out."""
    before, after, answer = tables.act(act, policy, given, rule_was_there=rule_was_there, where=where)
    changed = {number for number in before.keys() | after.keys() if before.get(number) != after.get(number)}

    if isinstance(answer, TicketRouterError):
        assert not changed, f"{answer!r}: {changed}"
    else:
        left_out = {number for number, row in before.items() if where and row[-1] is not None}
        assert changed <= named(answer) - left_out
        assert not named(answer) & left_out
