"""Many messages at once end as the same messages one by one, on every back end; and batches never wait in a circle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event
from sqlalchemy.engine.interfaces import CacheStats

from tests.backends import BACKENDS, ONE_PER_DATABASE, Backend, Databases, SqlStore
from tests.sqlalchemy.test_statement_counts import counted
from tests.test_machine import opening
from ticketrouter import (
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reopen,
    Scope,
    Ticket,
    TicketKey,
    TicketRepository,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.batch import MOST, Joint
from ticketrouter.repository import Batches
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository
from ticketrouter.testing import Store
from ticketrouter.testing import strategies as these

NOW = these.NOW


class OneByOne:
    """A repository without the ability to look, or to write, for many."""

    def __init__(self, repository: TicketRepository) -> None:
        self.statuses = repository.statuses
        self.load = repository.load
        self.get = repository.get
        self.commit = repository.commit


def play(
    repository: TicketRepository, batches: list[list[InboundMessage]], policy: Any, known: list[Ticket]
) -> list[object]:
    """Route the batches and return what became of each message; tickets are named by key and order of appearance."""
    names: dict[Any, object] = {ticket.id: number for number, ticket in enumerate(known)}

    def named(ticket: Ticket) -> object:
        names.setdefault(
            ticket.id, (ticket.key, len([name for name in names.values() if isinstance(name, tuple)]))
        )
        return names[ticket.id], evolve(ticket, id=0)

    seconds = iter(range(1000))
    router = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(seconds=next(seconds)))
    became: list[object] = []
    for batch in batches:
        try:
            found = router.resolve_many(batch)
        except TicketRouterError as error:
            became.append((type(error), [named(error.ticket)] if hasattr(error, "ticket") else str(error)))
            return became  # one by one, the clock has told other times than at once
        for each in found:
            ticket = None if each._ticket is None else named(each.ticket)
            change = None if each._ticket is None else each.change
            others = [named(other) for other in each.other_active]
            became.append((each.outcome, each.reason, ticket, others, change))
    return became


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_many_messages_end_as_one_by_one(databases: Databases, backend: Backend) -> None:
    """Outcome, reason, ticket, other_active and change, in-batch effects included, whatever the rule and the policy."""
    opened: dict[UniqueRule, SqlStore] = {}
    new_store = opening(databases, backend, opened)

    @settings(
        max_examples=settings().max_examples if backend.database == "memory" else 25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[phase for phase in Phase if phase is not Phase.shrink],
    )
    @given(
        data=st.data(), unique_rule=these.unique_rules, policy=these.any_policies, other=these.any_policies
    )
    def equal(data: st.DataObject, unique_rule: UniqueRule, policy: Policy, other: Policy) -> None:
        found = data.draw(these.lists_of_tickets(unique_rule))
        batches = data.draw(
            st.lists(st.lists(these.messages(), min_size=2, max_size=9), min_size=1, max_size=2)
        )
        by_key = data.draw(st.booleans())
        if data.draw(st.booleans(), label="simple"):  # as many may be touched without a look before
            batches = [
                [evolve(each, message_id=None, connection_id=1) for each in batch] for batch in batches
            ]
            policy, other = (evolve(each, scope=Scope.CONNECTION, groups=None) for each in (policy, other))

        def choose(key: TicketKey) -> Policy:
            return other if by_key and key.connection_id == 2 else policy

        answers, tables = [], []
        for one_by_one in (True, False):
            store = new_store(unique_rule)
            known = [store.insert(ticket) for ticket in found]
            with store.transaction() as repository:
                asked: Any = OneByOne(repository) if one_by_one else repository
                answers.append(play(asked, batches, choose, known))
            tables.append(sorted(_row(row) for row in store.tickets()))

        assert answers[0] == answers[1]
        if not isinstance(answers[0][-1], tuple) or not isinstance(answers[0][-1][0], type):
            assert tables[0] == tables[1]

    try:
        equal()
    finally:
        for store in opened.values():
            store.assert_no_leak()
            store.dispose()


def _row(ticket: Ticket) -> str:
    return str(evolve(ticket, id=0))


def test_every_repository_of_ours_takes_batches(store: Store) -> None:
    """The ability is told by the protocol."""
    with store.transaction() as repository:
        assert isinstance(repository, Batches)


def test_a_batch_beyond_the_cap_is_refused(store: Store) -> None:
    """Nothing of it is read or written."""
    with (
        store.transaction() as repository,
        pytest.raises(InvalidMessageError, match="at most 10000 messages"),
    ):
        TicketRouter(repository).resolve_many([InboundMessage(1, 5, 10)] * (MOST + 1))

    assert [] == store.tickets()


def test_what_is_created_in_a_batch_is_told_by_its_real_id(store: Store) -> None:
    """A later message of the batch, on another connection, names the ticket as the table has it."""
    batch = [
        InboundMessage(1, 5, 10),
        InboundMessage(1, 5, 13),
        InboundMessage(1, 5, 10),
        InboundMessage(1, 5, 10),
    ]
    with store.transaction() as repository:
        first, other, second, third = TicketRouter(repository).resolve_many(batch)

    assert [first.ticket.id, other.ticket.id] == [
        ticket.id for ticket in sorted(store.tickets(), key=_connection)
    ]
    assert (first.ticket,) == other.other_active
    assert [other.ticket] == list(second.other_active) == list(third.other_active)
    assert [1, 2, 3] == [each.ticket.unread_messages for each in (first, second, third)]
    assert third.ticket in store.tickets()


def _connection(ticket: Ticket) -> Any:
    return ticket.connection_id


HOSTILE = (
    10,
    "10",
    "text:10",
    "a b",
    'a"b',
    "a\\b",
    "a,b",
    "{a}",
    "NULL",
    "null",
    "'",
    "é\U0001f4ac",
    UUID(int=7),
    -1,
    2**63 - 1,
)


def test_ids_of_every_kind_go_through_a_batch_as_they_are(store: Store) -> None:
    """Contacts, connections and message ids; a second batch finds all again."""
    batch = [InboundMessage(each, each, each, message_id=each) for each in HOSTILE]
    again = [InboundMessage(each, each, each) for each in HOSTILE]
    with store.transaction() as repository:
        router = TicketRouter(repository)
        first, second = router.resolve_many(batch), router.resolve_many([*batch, *again])

    assert [TicketKey(each, each, each) for each in HOSTILE] == [each.ticket.key for each in first]
    assert [Outcome.DUPLICATE] * len(batch) + [Outcome.REUSED] * len(again) == [
        each.outcome for each in second
    ]
    assert [each.ticket.id for each in first] * 2 == [each.ticket.id for each in second]


def test_one_message_id_twice_in_a_batch_is_routed_once(store: Store) -> None:
    """With another contact it is told; the redelivery shows the ticket as it is by then."""
    batch = [
        InboundMessage(1, 5, 10, message_id="m"),
        InboundMessage(1, 5, 10, message_id="n"),
        InboundMessage(1, 5, 10, message_id="m"),
        InboundMessage(1, 6, 10, message_id="m"),
        InboundMessage(1, 6, 13, message_id="m"),
    ]
    with store.transaction() as repository:
        found = TicketRouter(repository).resolve_many(batch)
    with store.transaction() as repository:
        again = TicketRouter(repository).resolve_many(batch)

    assert ["created", "reused", "duplicate", "duplicate", "created"] == [each.outcome for each in found]
    assert "routed_for_another_contact" == found[3].reason
    assert found[1].ticket == found[2].ticket == found[3].ticket
    assert {Outcome.DUPLICATE} == {each.outcome for each in again}
    assert 2 == len(store.tickets())


@pytest.fixture
def right_store(databases: Databases, backend: Backend) -> Iterator[SqlStore]:
    """Open an empty store of a database with the right unique rule."""
    opened: dict[UniqueRule, SqlStore] = {}
    opening(databases, backend, opened)(UniqueRule.ACTIVE_PER_CONNECTION)
    (store,) = opened.values()
    yield store
    store.dispose()


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_batch_costs_the_same_statements_whatever_its_length(
    right_store: SqlStore, backend: Backend
) -> None:
    """Messages for active tickets and for new ones, in batches of 10, 100 and 1,000."""
    counts = []
    for length in (10, 100, 1000):
        right_store.empty()
        known = [InboundMessage(1, contact, 10) for contact in range(length)]
        fresh = [InboundMessage(1, f"new {n}", 10) for n in range(length // 10)]
        with right_store.transaction() as repository:
            router = TicketRouter(repository)
            router.resolve_many(known)
            with counted(right_store) as sent:
                found = router.resolve_many([*known, *fresh, *known])
        assert {Outcome.REUSED, Outcome.CREATED} >= {each.outcome for each in found}
        assert {3} == {ticket.unread_messages for ticket in right_store.tickets()[:length]}
        counts.append(len(sent))

    # One more at 1,000 on MariaDB, where an UPDATE is about 500 rows.
    expected = {"postgresql": [2, 2, 2], "sqlite": [4, 4, 4], "mariadb": [5, 5, 6]}

    assert expected[backend.database] == counts


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_batch_with_message_ids_costs_the_same_statements_too(
    right_store: SqlStore, backend: Backend
) -> None:
    """For known tickets, new ones, and redeliveries."""
    counts = []
    for length in (10, 400):
        right_store.empty()
        known, new, again = (
            [InboundMessage(1, begin + n, 10, message_id=f"{begin + n}") for n in range(length)]
            for begin in (0, length, 0)
        )
        with right_store.transaction() as repository:
            router = TicketRouter(repository)
            router.resolve_many(known)
            more = [evolve(each, message_id=f"more {each.message_id}") for each in known]
            with counted(right_store) as sent:
                found = router.resolve_many([*again, *more, *new])
        assert [Outcome.DUPLICATE, Outcome.REUSED, Outcome.CREATED] == [
            each.outcome for each in found[::length][:3]
        ]
        counts.append(len(sent))

    # The look, and for the ids; the lock, new tickets, ids, the change; twice on MariaDB the variable.
    assert [{"postgresql": 6, "sqlite": 6, "mariadb": 8}[backend.database]] * 2 == counts


@pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database != "sqlite"], ids=lambda b: b.name
)
def test_each_message_of_a_batch_knows_whether_somebody_was_faster(right_store: SqlStore) -> None:
    """Keys and message ids that are taken after the look, among others that are not, on a connection's first and second batch."""
    engine = create_engine(right_store.url)

    class Late(SQLAlchemyTicketRepository):
        def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
            with engine.begin() as other:
                rival = TicketRouter(SQLAlchemyTicketRepository(other, right_store.mapping))
                for message in (*(InboundMessage(turn, n, 10) for n in (2, 5)), taken):
                    rival.resolve(message)
            return super().commit_many(joints)

    for turn in (1, 2):
        taken = InboundMessage(turn, 99, 10, message_id="m3")
        batch = [InboundMessage(turn, n, 10, message_id=f"m{n}") for n in range(1, 8)]
        with engine.begin() as connection:
            found = TicketRouter(Late(connection, right_store.mapping)).resolve_many(batch)

        assert ["created", "reused", "duplicate", "created", "reused", "created", "created"] == [
            each.outcome for each in found
        ]
        assert [1, 2, 99, 4, 5, 6, 7] == [each.ticket.contact_id for each in found]
        assert {1: 1, 2: 2, 99: 1, 4: 1, 5: 2, 6: 1, 7: 1} == {
            ticket.contact_id: ticket.unread_messages
            for ticket in right_store.tickets()
            if ticket.company_id == turn
        }
    engine.dispose()


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_batch_of_known_tickets_is_one_statement_on_postgresql(
    right_store: SqlStore, backend: Backend
) -> None:
    """Each contact's other tickets come with it; elsewhere the look, the lock and the change are statements of their own."""
    batch = [InboundMessage(1, contact, 10) for contact in range(1000)]
    with right_store.transaction() as repository:
        router = TicketRouter(repository)
        router.resolve_many([*batch, InboundMessage(1, 5, 13)])
        with counted(right_store) as sent:
            found = router.resolve_many([*batch, *batch[:10]])
    tickets_of = {ticket.contact_id: ticket for ticket in right_store.tickets() if ticket.connection_id == 10}

    assert {"postgresql": 1, "sqlite": 3, "mariadb": 4}[backend.database] == len(sent)
    assert [found[place].ticket for place in range(10, 1010)] == [
        tickets_of[n] for n in (*range(10, 1000), *range(10))
    ]
    assert [0] * 5 + [1] + [0] * 4 == [len(each.other_active) for each in found[:10]]


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_batch_is_compiled_once_whatever_its_length(right_store: SqlStore, backend: Backend) -> None:
    """The second batch, twice as long, of new and known tickets, with ids and without, finds every statement compiled.

    Only the `UPDATE` of MariaDB names its rows in its text: it would lock others if it looked them up elsewhere.
    """
    anew: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool) -> None:
        # SQLAlchemy 2.0 keeps no `INSERT` that has a conflict clause, however it is built.
        if context.compiled is not None and context.cache_hit is CacheStats.CACHE_MISS:
            anew.append(statement)

    def batch(length: int) -> list[InboundMessage]:
        known = [InboundMessage(1, n, 10) for n in range(length)]
        with_ids = [
            InboundMessage(1, f"with {n}", 10, message_id=f"{length} {n}") for n in range(-length, length)
        ]
        return [*known, *with_ids, InboundMessage(1, f"new {length}", 10)]

    for length in (5, 5, 10):  # the first finds no table filled, and creates
        anew.clear()
        with right_store.transaction() as repository, listening(right_store, note):
            TicketRouter(repository, Policy(reopen=Reopen.always())).resolve_many(batch(length))

    assert [] == [sent for sent in anew if backend.database != "mariadb" or not sent.startswith("UPDATE")]


@contextmanager
def listening(store: SqlStore, note: Callable[..., None]) -> Iterator[None]:
    engine = store.sync_engine if store.async_engine is None else store.async_engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database != "sqlite"], ids=lambda b: b.name
)
@pytest.mark.parametrize("with_ids", [False, True], ids=["without ids", "with ids"])
def test_batches_over_the_same_keys_never_wait_in_a_circle(right_store: SqlStore, with_ids: bool) -> None:
    """Two threads send the same contacts in opposite orders, new and known ones: no transaction is ended by a deadlock."""
    failed: list[BaseException] = []
    start = threading.Barrier(2)

    def work(step: int) -> None:
        engine = create_engine(right_store.url)
        try:
            for turn in range(12):
                contacts = range(turn * 5, turn * 5 + 25)[::step]
                ids = (f"{turn}-{contact}-{step}" if with_ids else None for contact in contacts)
                batch = [
                    InboundMessage(1, n, 10, message_id=each) for n, each in zip(contacts, ids, strict=True)
                ]
                start.wait(60)
                with engine.begin() as connection:
                    TicketRouter(SQLAlchemyTicketRepository(connection, right_store.mapping)).resolve_many(
                        batch
                    )
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)
            start.abort()
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tickets = right_store.tickets()

    assert [] == failed
    assert 80 == len(tickets)
    assert 2 * 12 * 25 == sum(ticket.unread_messages for ticket in tickets)
