"""Merges and moves beyond the clauses of the kit: other rules and tables, races, size."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from sqlalchemy import event, text

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases, SqlStore, counted
from tests.support.races import set_rule
from ticketrouter import (
    BlockedBySchemaError,
    ContentionError,
    InboundMessage,
    Outcome,
    RepositoryError,
    Ticket,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.moves import KeyPart, Move, MovePlan, OnCollision
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, is_retryable
from ticketrouter.testing import Store
from ticketrouter.testing.samples import KEY, LATER, NOW

SOURCE = KEY.contact_id
TARGET = 77
THERE = 13
MERGE = Move(KeyPart.CONTACT, 1, SOURCE, TARGET)
LEAVE = Move(KeyPart.CONNECTION, 1, KEY.connection_id, THERE)
KINDS = {"merge": MERGE, "move": LEAVE}
each_move = pytest.mark.parametrize("move", KINDS.values(), ids=KINDS)
on_each_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)


def a_ticket(key: TicketKey = KEY, status: str = "open", **changes: Any) -> Ticket:
    values: dict[str, Any] = attrs.asdict(key) | {
        "id": 0,
        "status": status,
        "is_group": False,
        "unread_messages": 1,
        "user_id": 7,
        "queue_id": 3,
        "created_at": NOW,
        "updated_at": NOW,
        "closed_at": NOW if status == "closed" else None,
    }
    return Ticket(**(values | changes))


def carry_out(router: TicketRouter, move: Move, **options: Any) -> MovePlan:
    act = router.merge_contacts if move.part is KeyPart.CONTACT else router.move_connection
    return act(move.company_id, move.source_id, move.target_id, **options)


def after(ticket: Ticket, move: Move, **changes: Any) -> Ticket:
    key = move.after(ticket.key)
    return attrs.evolve(ticket, contact_id=key.contact_id, connection_id=key.connection_id, **changes)


def peopled(store: Store, move: Move) -> list[Ticket]:
    """Insert a source with two active tickets and a closed one, a rival at the target, and strangers."""
    rows = [
        a_ticket(),
        a_ticket(status="closed"),
        a_ticket(move.after(KEY), "pending", updated_at=NOW + timedelta(minutes=1)),
        a_ticket(attrs.evolve(KEY, connection_id=40) if move is MERGE else attrs.evolve(KEY, contact_id=40)),
        a_ticket(attrs.evolve(move.after(KEY), company_id=2)),
        a_ticket(attrs.evolve(KEY, company_id=2)),
        a_ticket(TicketKey(1, 50, 50)),
    ]
    return [store.insert(row) for row in rows]


@each_move
def test_a_plan_writes_nothing(store: Store, move: Move) -> None:
    """It tells what the move then does."""
    rows = peopled(store, move)
    with store.transaction() as repository:
        router = TicketRouter(repository, clock=lambda: LATER)
        plan = router.plan_merge_contacts if move is MERGE else router.plan_move_connection
        planned = plan(1, move.source_id, move.target_id)

    assert rows == store.tickets()
    with store.transaction() as repository:
        assert planned == carry_out(TicketRouter(repository, clock=lambda: LATER), move)


@each_move
def test_both_may_be_closed(store: Store, move: Move) -> None:
    """CLOSE_ALL leaves the key to the next message."""
    rows = peopled(store, move)
    with store.transaction() as repository:
        carry_out(TicketRouter(repository, clock=lambda: LATER), move, on_collision=OnCollision.CLOSE_ALL)

    closed = [ticket.id for ticket in store.tickets() if ticket.status == "closed"]
    assert [rows[0].id, rows[1].id, rows[2].id] == closed


# --- other rules, other tables --------------------------------------------------------------------------------


def store_with(databases: Databases, backend: Backend, rule: UniqueRule) -> Any:
    mapping = TicketMapping.own()
    store = SqlStore(backend, databases.new(backend.database), mapping)
    mapping.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        set_rule(connection, mapping, rule)
    return store


@each_move
@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
@on_each_database
def test_a_full_unique_rule_blocks_before_anything_is_written(
    databases: Databases, backend: Backend, move: Move, rule: UniqueRule
) -> None:
    """A closed row of the target is in the way; where the rule leaves room, the move takes place."""
    store = store_with(databases, backend, rule)
    rows = [store.insert(a_ticket(status="closed")), store.insert(a_ticket(TicketKey(2, TARGET, THERE)))]
    blocked = rule is UniqueRule.ONE_PER_CONNECTION or move is MERGE
    if blocked:
        rows.append(store.insert(a_ticket(move.after(KEY), "closed")))
    with store.transaction() as repository:
        router = TicketRouter(repository)
        if blocked:
            with pytest.raises(BlockedBySchemaError) as caught:
                carry_out(router, move)
            assert (rows[-1], rule) == (caught.value.ticket, caught.value.unique_rule)
        else:
            carry_out(router, move)

    assert (rows if blocked else [after(row, move) for row in rows]) == store.tickets()
    store.dispose()


@on_each_database
def test_one_active_row_per_contact_blocks_two_connections_and_not_one(
    databases: Databases, backend: Backend
) -> None:
    """Where the index is about tickets in progress, closing the older one makes room on its own connection."""
    if backend.database == "mariadb":
        pytest.skip("MariaDB has no partial index")
    store = store_with(databases, backend, UniqueRule.NONE)
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE UNIQUE INDEX one_at_work ON ticketrouter_tickets (company_id, contact_id) "
                "WHERE status IN ('open', 'pending')"
            )
        )
    rows = [
        store.insert(a_ticket()),
        store.insert(a_ticket(TicketKey(1, TARGET, KEY.connection_id), updated_at=LATER)),
    ]
    with store.transaction() as repository:
        done = TicketRouter(repository).merge_contacts(1, SOURCE, TARGET)
    assert [rows[0]] == [closing.ticket for closing in done.closes]

    other = store.insert(a_ticket(TicketKey(1, 78, 99)))
    with store.transaction() as repository, pytest.raises(BlockedBySchemaError) as caught:
        TicketRouter(repository).merge_contacts(1, 78, TARGET)
    assert attrs.evolve(rows[1], unread_messages=2) == caught.value.ticket
    assert other == store.tickets()[-1]
    store.dispose()


@each_move
@on_each_database
def test_without_a_unique_rule_the_contacts_are_claimed_first(
    databases: Databases, backend: Backend, move: Move
) -> None:
    """The anchors are written before anything is read, in one order; duplicates of the source are ended."""
    store = store_with(databases, backend, UniqueRule.NONE)
    rows = [*peopled(store, move), store.insert(a_ticket(updated_at=NOW + timedelta(minutes=2)))]
    sent: list[str] = []
    event.listen(store.sync_engine, "before_cursor_execute", lambda *about: sent.append(about[2]))
    with store.transaction() as repository:
        done = carry_out(TicketRouter(repository), move)

    assert [rows[2], rows[0]] == [closing.ticket for closing in done.closes]
    writes = [
        statement
        for statement in sent
        if "ticketrouter_tickets_anchors" in statement and "INSERT" in statement
    ]
    if backend.database == "sqlite":
        assert [] == writes  # the transaction has begun with the write lock
        store.dispose()
        return
    assert len(writes) >= 1
    reads = [
        place
        for place, statement in enumerate(sent)
        if statement.startswith("SELECT ticketrouter_tickets.id ")
    ]
    assert reads[0] > max(place for place, statement in enumerate(sent) if statement in writes)
    store.dispose()


@on_each_database
def test_a_move_needs_a_transaction(databases: Databases, backend: Backend) -> None:
    """In AUTOCOMMIT a plan that fails halfway would stay half done: it is refused."""
    store = store_with(databases, backend, UniqueRule.ACTIVE_PER_CONNECTION)
    row = store.insert(a_ticket())
    with (
        store.sync_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
        pytest.raises((RepositoryError, MappingError), match="AUTOCOMMIT"),
    ):
        TicketRouter(SQLAlchemyTicketRepository(connection, store.mapping)).merge_contacts(1, SOURCE, TARGET)

    assert [row] == store.tickets()
    store.dispose()


@on_each_database
def test_a_message_id_that_is_newer_than_the_snapshot_is_known_on_the_target_too(
    databases: Databases, backend: Backend
) -> None:
    """A transaction that began before it was recorded copies it all the same, or has to be run again."""
    if backend.database == "sqlite":
        pytest.skip(
            "a transaction of SQLite that writes begins with the write lock: it has no older snapshot"
        )
    store = store_with(databases, backend, UniqueRule.ACTIVE_PER_CONNECTION)
    store.insert(a_ticket())
    message = InboundMessage(1, SOURCE, KEY.connection_id, message_id="m")
    with store.sync_engine.begin() as old:
        old.execute(text("SELECT count(*) FROM ticketrouter_tickets")).all()
        with store.transaction() as repository:
            first = TicketRouter(repository).resolve(message)
        TicketRouter(SQLAlchemyTicketRepository(old, store.mapping)).move_connection(
            1, KEY.connection_id, THERE
        )
    with store.transaction() as repository:
        again = TicketRouter(repository).resolve(attrs.evolve(message, connection_id=THERE))

    assert (Outcome.DUPLICATE, first.ticket.id) == (again.outcome, again.ticket.id)
    store.dispose()


@on_each_database
def test_a_table_without_a_count_takes_up_none(databases: Databases, backend: Backend) -> None:
    """Nothing is asked or written besides: what is closed and re-pointed is as it was."""
    store = store_with(databases, backend, UniqueRule.ACTIVE_PER_CONNECTION)
    uncounted = TicketMapping(
        store.mapping.table,
        unread_messages=None,
        on_create={"unread_messages": 0},
        metadata=store.mapping.metadata,
    )
    rows = [store.insert(a_ticket(TicketKey(1, contact, 10))) for contact in (SOURCE, TARGET)]
    with store.connection() as connection, counted(store) as sent:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, uncounted), clock=lambda: LATER)
        done = router.merge_contacts(1, SOURCE, TARGET)

    assert 1 == len(done.closes)
    assert ["UPDATE", "UPDATE"] == [each.split()[0] for each in sent if each.startswith("UPDATE")]
    assert [
        after(rows[0], MERGE, status="closed", updated_at=LATER, closed_at=LATER),
        rows[1],
    ] == store.tickets()
    store.dispose()


@on_each_database
def test_what_collides_is_closed_and_counted_in_few_statements(
    databases: Databases, backend: Backend
) -> None:
    """For every 500 that are closed one that closes, one that reads their counts, and one that adds them."""
    store = store_with(databases, backend, UniqueRule.ACTIVE_PER_CONNECTION)
    table, many, here = store.mapping.table, 1_200, KEY.connection_id
    common = {"company_id": 1, "status": "open", "is_group": False, "created_at": NOW}
    rows = [
        common | {"contact_id": n, "connection_id": connection, "unread_messages": count, "updated_at": at}
        for n in range(many)
        for connection, count, at in ((here, n % 7, NOW), (THERE, 100, LATER))
    ]
    with store.engine.begin() as connection:
        connection.execute(table.insert(), rows)
    with store.transaction() as repository, counted(store) as sent:
        done = TicketRouter(repository).move_connection(1, here, THERE)

    kept = [ticket for ticket in store.tickets() if ticket.status == "open"]
    assert many == len(done.closes) == len(kept)
    assert [100 + n % 7 for n in range(many)] == [ticket.unread_messages for ticket in kept]
    assert [LATER] * many == [ticket.updated_at for ticket in kept]
    assert 3 + 3 + 1 == sum(each.startswith("UPDATE") for each in sent)
    assert 3 == sum(each.startswith(f"SELECT {table.name}.id, {table.name}.unread_messages") for each in sent)
    store.dispose()


# --- races and size -------------------------------------------------------------------------------------------


@each_move
@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE])
@on_each_database
def test_messages_and_moves_at_once_leave_one_active_ticket_per_key(
    databases: Databases, backend: Backend, move: Move, rule: UniqueRule
) -> None:
    """Four workers write to source and target while two more move, back and forth; every message is counted."""
    store = store_with(databases, backend, rule)
    there = move.after(KEY)
    back = Move(move.part, 1, move.target_id, move.source_id)
    rounds, failures = 4, []

    def at_work(act: Callable[[TicketRouter], object]) -> None:
        for _ in range(rounds):
            while True:
                try:
                    with store.sync_engine.begin() as connection:
                        act(TicketRouter(SQLAlchemyTicketRepository(connection, store.mapping)))
                    break
                except Exception as error:  # noqa: BLE001 - reported below
                    if isinstance(error, ContentionError) or is_retryable(error):
                        continue
                    failures.append(error)
                    return

    def send(key: TicketKey) -> Callable[[TicketRouter], object]:
        return lambda router: router.resolve(InboundMessage(1, key.contact_id, key.connection_id))

    acts = [send(KEY)] * 2 + [send(there)] * 2
    acts += [lambda router: carry_out(router, move), lambda router: carry_out(router, back)]
    workers = [threading.Thread(target=at_work, args=(act,)) for act in acts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    tickets = store.tickets()
    active = [ticket.key for ticket in tickets if ticket.status != "closed"]
    assert [] == failures
    assert len(active) == len(set(active))
    # What is closed for another one is counted by that, as it was at that moment.
    assert 4 * rounds == sum(ticket.unread_messages for ticket in tickets if ticket.status != "closed")
    store.dispose()


@on_each_database
def test_ten_thousand_tickets_are_moved_in_bounded_memory(databases: Databases, backend: Backend) -> None:
    """Only what collides is held as tickets; of the others the ids."""
    store = store_with(databases, backend, UniqueRule.ACTIVE_PER_CONNECTION)
    table = store.mapping.table
    common = {"company_id": 1, "is_group": False, "unread_messages": 0, "created_at": NOW, "updated_at": NOW}
    rows = [
        common | {"contact_id": n, "connection_id": connection, "status": "open" if n % 2 else "closed"}
        for n in range(10_000)
        for connection in ((KEY.connection_id, THERE) if n % 100 == 1 else (KEY.connection_id,))
    ]
    with store.engine.begin() as connection:
        connection.execute(table.insert(), rows)
    with store.transaction() as repository:
        tracemalloc.start()
        done = TicketRouter(repository).move_connection(1, KEY.connection_id, THERE)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (10_000, 100) == (len(done.repoints), len(done.closes))
    assert {THERE} == {ticket.connection_id for ticket in store.tickets()}
    assert peak < 12_000_000
    store.dispose()
