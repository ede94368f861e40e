"""The plain values and small steps that the tests of the clauses are written with.

Law of this file: no clause stands here. A step that a store cannot take is a skip, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from attrs import evolve

from ticketrouter.batch import lookups_of
from ticketrouter.checks import Id
from ticketrouter.choices import Policy
from ticketrouter.decisions import Create, Lookup, ReopenTicket, Reuse, Snapshot, Unread, Write
from ticketrouter.errors import ConflictError
from ticketrouter.model import InboundMessage, Reason, Ticket, TicketKey, UniqueRule
from ticketrouter.moves import KeyPart, Move, MovePlan
from ticketrouter.repository import Batches, MovesTickets, TicketRepository
from ticketrouter.router import TicketRouter
from ticketrouter.testing.clock import FakeClock
from ticketrouter.testing.store import Store
from ticketrouter.testing.strategies import lawful

_T = TypeVar("_T")

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
CONTACT = 5511999999999
KEY = TicketKey(1, CONTACT, 10)
ELSEWHERE = TicketKey(1, CONTACT, 13)
"""The same contact on another connection."""
STRANGER = TicketKey(1, 5511888888888, 10)
"""Another contact on the same connection."""
OTHER_COMPANY = TicketKey(2, CONTACT, 10)
"""Another company that uses the same ids."""
ONE_ROW = {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}
"""The rules that leave no room for a second row on a key, whatever the status of the first."""


MERGE = Move(KeyPart.CONTACT, 1, CONTACT, 77)
LEAVE = Move(KeyPart.CONNECTION, 1, 10, 13)
MOVES = {"merge": MERGE, "move": LEAVE}


class Undo(Exception):  # noqa: N818 - it is no error
    """Raised inside a host's transaction to have it rolled back."""


# --- values --------------------------------------------------------------------------------------------------


def an_active(store: Store, key: TicketKey = KEY, **changes: Any) -> Ticket:
    """Return an active ticket, taken by agent 7."""
    return _a_ticket(key, {"status": store.statuses.accepted} | changes)


def a_waiting(store: Store, key: TicketKey = KEY, **changes: Any) -> Ticket:
    """Return an active ticket that no agent has taken."""
    return _a_ticket(key, {"status": store.statuses.initial, "user_id": None} | changes)


def a_closed(store: Store, key: TicketKey = KEY, **changes: Any) -> Ticket:
    """Return a closed ticket."""
    return _a_ticket(key, {"status": store.statuses.closed, "closed_at": NOW} | changes)


def _a_ticket(key: TicketKey, changes: dict[str, Any]) -> Ticket:
    fields: dict[str, Any] = {
        "id": 1,
        "company_id": key.company_id,
        "contact_id": key.contact_id,
        "connection_id": key.connection_id,
        "is_group": False,
        "unread_messages": 1,
        "user_id": 7,
        "queue_id": 3,
        "created_at": NOW,
        "updated_at": NOW,
        "closed_at": None,
    }
    return Ticket(**(fields | changes))


def create(key: TicketKey = KEY, **changes: Any) -> Create:
    """Return the decision to create a ticket for one message."""
    return Create(key, LATER, Reason.NO_ACTIVE_TICKET, unread_messages=1, **changes)


def reuse(ticket: Ticket, **changes: Any) -> Reuse:
    """Return the decision to let one message join a ticket."""
    fields: dict[str, Any] = {"unread": Unread(add=1)}
    return Reuse(ticket, LATER, Reason.ACTIVE_ON_CONNECTION, **(fields | changes))


def reopen(ticket: Ticket, **changes: Any) -> ReopenTicket:
    """Return the decision to reopen a ticket for one message."""
    return ReopenTicket(ticket, LATER, Reason.WITHIN_REOPEN_WINDOW, unread=Unread(add=1), **changes)


def joining(messages: Sequence[InboundMessage], policy: Policy = Policy()) -> list[Lookup]:  # noqa: B008 - a frozen value
    """Return the Lookups by which messages may join: the first comes LATER, and each a second after the one before it."""
    lookups = lookups_of([(message, policy, in_seconds(place)) for place, message in enumerate(messages)])
    assert all(lookup.join for lookup in lookups), "none of them depends on another contact's"
    return lookups


def in_seconds(seconds: int) -> datetime:
    """Return the time that is so long after LATER."""
    return LATER + timedelta(seconds=seconds)


def left(ticket: Ticket, counts: dict[int, int]) -> dict[int, Ticket]:
    """Return a ticket as several messages leave it, each given as the second in which it comes, and the count then."""
    return {
        second: evolve(ticket, unread_messages=count, updated_at=in_seconds(second))
        for second, count in counts.items()
    }


def moved(ticket: Ticket, move: Move, **changes: Any) -> Ticket:
    """Return a ticket as it is after a move."""
    key = move.after(ticket.key)
    return evolve(ticket, contact_id=key.contact_id, connection_id=key.connection_id, **changes)


# --- steps ---------------------------------------------------------------------------------------------------


def rule_of(store: Store) -> UniqueRule:
    """Return what the store's schema enforces."""
    return load(store, Lookup.at(KEY)).unique_rule


def given(store: Store, *tickets: Ticket) -> list[Ticket]:
    """Insert tickets; skip the test where the unique rule of the store allows them not to stand together."""
    if store.one_company and len(tickets) > 1:  # those of another one would only stand by
        tickets = tuple(ticket for ticket in tickets if ticket.company_id == KEY.company_id)
    if len(tickets) > 1:
        numbered = [evolve(ticket, id=number) for number, ticket in enumerate(tickets, start=1)]
        rule = rule_of(store)
        needs(
            len(lawful(numbered, rule, store.statuses)) == len(tickets),
            f"the unique rule {rule} has no room for the rows that this test needs",
        )
    return [store.insert(ticket) for ticket in tickets]


def commit(store: Store, decision: Write) -> Ticket:
    """Carry out a decision in a transaction of its own."""
    with store.transaction() as repository:
        return repository.commit(decision)


def load(store: Store, lookup: Lookup) -> Snapshot:
    """Look in a transaction of its own."""
    with store.transaction() as repository:
        return repository.load(lookup)


def join(store: Store, message: InboundMessage, policy: Policy = Policy()) -> Snapshot:  # noqa: B008 - a frozen value
    """Look for a message which may join its ticket at once, in a transaction of its own."""
    return load(store, Lookup.of(message, policy, LATER))


def join_many(store: Store, *messages: InboundMessage) -> list[Snapshot]:
    """Look for messages which may join their tickets at once, in a transaction of their own."""
    before = store.tickets()
    with store.transaction() as repository:
        found = batching(repository).load_many(joining(messages))
    if found is None:
        assert before == store.tickets()
    return answered(found)


def batching(repository: TicketRepository) -> Batches:
    """Return the repository as one that takes batches; skip the test where it is none."""
    if not isinstance(repository, Batches):
        pytest.skip("this repository takes no batches (Batches)")
    return repository


def answered(found: list[Snapshot] | None) -> list[Snapshot]:
    """Return the answers for each lookup; skip the test where messages go one by one."""
    if found is None:
        pytest.skip("load_many of this repository has these messages go one by one")
    return found


def given_two_sides(store: Store, move: Move) -> list[Ticket]:
    """Insert a source with two active tickets and a closed one, a newer rival at the target, and strangers."""
    beside = evolve(KEY, connection_id=40) if move is MERGE else evolve(KEY, contact_id=40)
    return given(
        store,
        an_active(store),
        a_closed(store),
        a_waiting(store, move.after(KEY), updated_at=NOW + timedelta(minutes=1)),
        an_active(store, beside),
        an_active(store, evolve(move.after(KEY), company_id=2)),
        an_active(store, OTHER_COMPANY),
        an_active(store, TicketKey(1, 50, 50)),
    )


def carry_out(router: TicketRouter, move: Move, **options: Any) -> MovePlan:
    """Carry out a move by a router."""
    act = router.merge_contacts if move.part is KeyPart.CONTACT else router.move_connection
    return act(move.company_id, move.source_id, move.target_id, **options)


def mover(repository: TicketRepository) -> MovesTickets:
    """Return the repository as one that moves tickets; skip the test where it is none."""
    if not isinstance(repository, MovesTickets):
        pytest.skip("this repository moves no tickets (MovesTickets)")
    return repository


def assert_conflict(store: Store, decision: Write) -> None:
    """The write is refused as a conflict, changes nothing, and its transaction still reads, writes and commits."""
    before = store.tickets()
    with store.transaction() as repository:
        with pytest.raises(ConflictError):
            repository.commit(decision)
        other = repository.commit(create(TicketKey(1, 900 + len(before), 10)))

    assert [*before, other] == store.tickets()


def needs(ability: bool, reason: str) -> None:
    """Skip the test where an optional ability is absent."""
    if not ability:
        pytest.skip(reason)


def keeps(store: Store, *fields: str) -> None:
    """Skip the test where the rows of the store have nothing that says one of these fields of a ticket."""
    lacking = sorted(store.lacks.intersection(fields))
    needs(not lacking, f"the table of this store has no column for {', '.join(lacking)}")


def counted(store: Store, count: int) -> int:
    """Return a count as the rows of the store say it: nothing, where they have none."""
    return 0 if "unread_messages" in store.lacks else count


def queued(store: Store, queue_id: int) -> int | None:
    """Return a queue as the rows of the store say it: none, where they have none."""
    return None if "queue_id" in store.lacks else queue_id


def agent(store: Store, user_id: int) -> int | None:
    """Return an agent as the rows of the store say it: nobody, where they have none."""
    return None if "user_id" in store.lacks else user_id


def needs_companies(store: Store) -> None:
    """Skip the test where there is one company only."""
    needs(not store.one_company, "the table of this store has one company")


def needs_two_words(store: Store) -> None:
    """Skip the test where a ticket that waits has the word of one that an agent has taken."""
    words = store.statuses
    needs(
        words.initial != words.accepted,
        "the scheme of this store has one word for who waits and who does not",
    )


def needs_rule(store: Store) -> None:
    """Skip the test where nothing but a claim keeps the key of a new ticket free."""
    needs(rule_of(store) is not UniqueRule.NONE, "without the unique rule a claim guards a key, and no write")


def unused_id(ticket_id: Id) -> Id:
    """Return an id of the same type that no ticket has."""
    match ticket_id:
        case int():
            return 10**9
        case str():
            return re.sub(r"\w", "0", ticket_id)
        case _:
            return UUID(int=10**9)


def route(store: Store, act: Callable[[TicketRouter], _T]) -> _T:
    """Let a router act in a transaction of its own, and again as long as the host may run it again.

    Raises:
        Exception: whatever is not retryable, or still is after a hundred attempts.
    """
    for left in reversed(range(100)):
        try:
            with store.transaction() as repository:
                return act(a_router(repository))
        except Exception as error:
            if not left or not store.is_retryable(error):
                raise
    raise AssertionError("a hundred attempts are never none")


def a_router(repository: TicketRepository) -> TicketRouter:
    """Return a router whose clock says LATER."""
    return TicketRouter(repository, clock=FakeClock(LATER))
