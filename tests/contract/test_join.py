"""The hot path: a message that finds its ticket in one step ends as one that looks, decides and writes.

Law of this file: each property runs on every back end; what only databases have stands below, on each that can be
had. What any repository owes to who joins is the kit's: `tests/contract/test_contract.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.backends import (
    BACKENDS,
    ONE_PER_DATABASE,
    SQL_BACKENDS,
    Backend,
    Databases,
    SqlStore,
    tries,
)
from tests.support.opening import opening
from tests.support.waiting import until_somebody_waits
from ticketrouter import (
    InboundMessage,
    Outcome,
    Policy,
    Resolution,
    Ticket,
    TicketRepository,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.decisions import Lookup
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository
from ticketrouter.testing import Store
from ticketrouter.testing import strategies as these
from ticketrouter.testing.routed import Plainly

NOW = these.NOW
LATER = NOW + timedelta(minutes=5)


def a_ticket(company: Any, contact: Any, connection: Any, **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "id": 0,
        "company_id": company,
        "contact_id": contact,
        "connection_id": connection,
        "status": "open",
        "is_group": False,
        "unread_messages": 1,
        "user_id": 7,
        "queue_id": 3,
        "created_at": NOW - timedelta(days=1),
        "updated_at": NOW,
        "closed_at": None,
    }
    return Ticket(**(values | changes))


def joins_with_id(backend: Backend) -> bool:
    """Whether a message with an id joins its ticket while it is looked for; else it is only looked for."""
    return backend.database in {"memory", "postgresql"}


# --- equal to load, decide, commit -----------------------------------------------------------------------------


def play(
    repository: TicketRepository, messages: list[InboundMessage], policy: Policy, known: list[Ticket]
) -> list[object]:
    """Route the messages and return what became of each; new tickets are numbered in the order of their making."""
    numbers: dict[Any, int] = {ticket.id: number for number, ticket in enumerate(known)}

    def numbered(ticket: Ticket) -> Ticket:
        return evolve(ticket, id=numbers.setdefault(ticket.id, len(numbers)))

    seconds = iter(range(1000))
    router = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(seconds=next(seconds)))
    became: list[object] = []
    for message in messages:
        try:
            found = router.resolve(message)
        except TicketRouterError as error:
            became.append((type(error), [numbered(error.ticket)] if hasattr(error, "ticket") else str(error)))
            continue
        ticket = None if found._ticket is None else numbered(found.ticket)
        others = [numbered(other) for other in found.other_active]
        became.append(Resolution(found.outcome, found.reason, others, ticket))
    return became


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_who_joins_at_once_ends_as_load_decide_and_commit_do(databases: Databases, backend: Backend) -> None:
    """Outcome, reason, ticket and other_active are the same, whatever the rule, the policy and what is there."""
    opened: dict[UniqueRule, SqlStore] = {}
    new_store = opening(databases, backend, opened)
    hits = 0

    @settings(
        max_examples=tries(backend, in_memory=settings().max_examples, on_a_database=24),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[phase for phase in Phase if phase is not Phase.shrink],
    )
    @given(data=st.data(), unique_rule=these.unique_rules, policy=these.any_policies)
    def equal(data: st.DataObject, unique_rule: UniqueRule, policy: Policy) -> None:
        nonlocal hits
        found = data.draw(these.lists_of_tickets(unique_rule))
        messages = data.draw(st.lists(these.messages(), min_size=2, max_size=8))
        answers, tables = [], []
        for looks_first in (False, True):
            store = new_store(unique_rule)
            known = [store.insert(ticket) for ticket in found]
            with store.transaction() as repository:
                asked = Plainly(repository) if looks_first else repository
                answers.append(play(asked, messages, policy, known))
            tables.append([evolve(row, id=number) for number, row in enumerate(store.tickets())])

        assert answers[1] == answers[0]
        assert tables[1] == tables[0]
        hits += sum(isinstance(each, Resolution) and each.outcome is Outcome.REUSED for each in answers[0])

    try:
        equal()
    finally:
        for store in opened.values():
            store.assert_no_leak()
            store.dispose()
    assert hits  # how many is a matter of chance


# --- who joins while it is looked for --------------------------------------------------------------------------


@pytest.mark.parametrize("message_id", [None, "m"])
def test_every_repository_of_ours_lets_messages_join(
    store: Store, backend: Backend, message_id: str | None
) -> None:
    """A message without an id joins its ticket on every back end, in the one call that looks for it."""
    here = store.insert(a_ticket(1, 5, 10))
    other = store.insert(a_ticket(1, 5, "10"))
    message = InboundMessage(1, 5, 10, message_id=message_id)
    with store.transaction() as repository:
        found = repository.load(Lookup.of(message, Policy(), LATER))

    if message_id is None or joins_with_id(backend):
        assert evolve(here, unread_messages=2, updated_at=LATER) == found.joined
        assert (other,) == found.active
    else:
        assert found.joined is None
        assert {here, other} == set(found.active)


# --- what only databases have -----------------------------------------------------------------------------------


@contextmanager
def without_rule(databases: Databases, backend: Backend) -> Iterator[Store]:
    opened: dict[UniqueRule, SqlStore] = {}
    yield opening(databases, backend, opened)(UniqueRule.NONE)
    for store in opened.values():
        store.assert_no_leak()
        store.dispose()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_of_several_active_tickets_the_most_recent_one_is_joined(
    databases: Databases, backend: Backend
) -> None:
    """Without a unique rule the last changed one is met, ties go to the highest id, and no other row is changed."""
    with without_rule(databases, backend) as store:
        old = store.insert(a_ticket(1, 5, 10, updated_at=NOW - timedelta(1)))
        first, second = store.insert(a_ticket(1, 5, 10)), store.insert(a_ticket(1, 5, 10))
        other = store.insert(a_ticket(1, 5, 13))
        for message_id in (None, "m"):
            with store.transaction() as repository:
                found = TicketRouter(repository, clock=lambda: LATER).resolve(
                    InboundMessage(1, 5, 10, message_id=message_id)
                )

            assert (second.id, (other,)) == (found.ticket.id, found.other_active)
        assert [old, first, evolve(second, unread_messages=3, updated_at=LATER), other] == store.tickets()


@pytest.mark.parametrize("backend", SQL_BACKENDS, ids=lambda backend: backend.name)
def test_to_join_is_the_same_every_time(store: Store) -> None:
    """On one connection, with and without a message id, when the driver prepares and the server plans anew."""
    store.insert(a_ticket(1, 5, 10))
    other = store.insert(a_ticket(1, 5, 13))
    with store.transaction() as repository:
        router = TicketRouter(repository)
        for number in range(1, 31):
            message_id = number if number % 2 else None
            found = router.resolve(InboundMessage(1, 5, 10, message_id=message_id))

            assert (Outcome.REUSED, 1 + number, (other,)) == (
                found.outcome, found.ticket.unread_messages, found.other_active
            )  # fmt: skip


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_in_autocommit_who_joins_stands_alone(store: SqlStore) -> None:
    """A message without an id is routed; one with an id needs a transaction, as it always does."""
    store.insert(a_ticket(1, 5, 10))
    with store.connection(isolation_level="AUTOCOMMIT") as connection:
        router = TicketRouter(store.repository(connection))
        outcome = router.resolve(InboundMessage(1, 5, 10)).outcome
        with pytest.raises(TicketRouterError, match="needs a transaction"):
            router.resolve(InboundMessage(1, 5, 10, message_id="m"))

    assert (Outcome.REUSED, [2]) == (outcome, [ticket.unread_messages for ticket in store.tickets()])


@pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database != "mariadb"], ids=lambda b: b.name
)
def test_without_a_rule_autocommit_reuses_and_creates_nothing(databases: Databases, backend: Backend) -> None:
    """A reuse needs no lock; what needs one is refused as ever."""
    with without_rule(databases, backend) as store:
        assert isinstance(store, SqlStore)
        store.insert(a_ticket(1, 5, 10))
        with store.connection(isolation_level="AUTOCOMMIT") as connection:
            router = TicketRouter(store.repository(connection))
            outcome = router.resolve(InboundMessage(1, 5, 10)).outcome
            with pytest.raises(MappingError):
                router.resolve(InboundMessage(1, 6, 10))

        assert (Outcome.REUSED, [2]) == (outcome, [ticket.unread_messages for ticket in store.tickets()])


@pytest.mark.parametrize("message_id", [None, "m"])
@pytest.mark.parametrize(
    "backend", [b for b in ONE_PER_DATABASE if b.database != "sqlite"], ids=lambda b: b.name
)
def test_a_ticket_that_is_closed_under_a_message_is_not_joined(
    store: SqlStore, message_id: str | None
) -> None:
    """R3: the message waits for the closing, and gets a new ticket; its id is recorded with that one."""
    store.insert(a_ticket(1, 5, 10))
    message = InboundMessage(1, 5, 10, message_id=message_id)
    found: list[Resolution] = []
    begun = threading.Event()

    def send() -> None:
        with store.connection(isolation_level="READ COMMITTED") as connection:
            begun.set()
            found.append(TicketRouter(store.repository(connection)).resolve(message))

    thread = threading.Thread(target=send)
    with store.transaction() as desk:
        before = store.tickets()[0]
        TicketRouter(desk).close(1, before.id)
        thread.start()
        begun.wait()
        until_somebody_waits(store.engine)
    thread.join()
    with store.transaction() as repository:
        again = TicketRouter(repository).resolve(message)

    first, second = store.tickets()
    assert (Outcome.CREATED, second.id) == (found[0].outcome, found[0].ticket.id)
    assert ("closed", 1) == (first.status, first.unread_messages)
    assert (Outcome.REUSED if message_id is None else Outcome.DUPLICATE, second.id) == (
        again.outcome, again.ticket.id
    )  # fmt: skip


@pytest.mark.parametrize(
    "backend", [b for b in SQL_BACKENDS if b.database == "mariadb"], ids=lambda b: b.name
)
def test_an_old_snapshot_gives_no_old_agent(store: SqlStore) -> None:
    """R10: what was changed since the transaction's snapshot is in the answer, count included."""
    seen = store.insert(a_ticket(1, 5, 10, status="pending", user_id=None))
    with store.connection(isolation_level="REPEATABLE READ") as connection:
        repository = store.repository(connection)
        repository.load(Lookup.at(seen.key))  # the snapshot
        with store.engine.begin() as desk:
            own = TicketRouter(SQLAlchemyTicketRepository(desk, store.mapping), clock=lambda: LATER)
            own.resolve(InboundMessage(1, 5, 10))
        counted = TicketRouter(repository, clock=lambda: LATER).resolve(InboundMessage(1, 5, 10)).ticket
    with store.connection(isolation_level="REPEATABLE READ") as connection:
        repository = store.repository(connection)
        repository.load(Lookup.at(seen.key))
        with store.engine.begin() as desk:
            TicketRouter(SQLAlchemyTicketRepository(desk, store.mapping)).accept(1, seen.id, 8)
        accepted = TicketRouter(repository, clock=lambda: LATER).resolve(InboundMessage(1, 5, 10)).ticket

    assert (3, "pending", None) == (counted.unread_messages, counted.status, counted.user_id)
    assert (4, "open", 8) == (accepted.unread_messages, accepted.status, accepted.user_id)
    assert [accepted] == store.tickets()
