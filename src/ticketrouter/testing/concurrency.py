"""The clauses where two transactions meet: races, and encounters in a fixed order.

Law of this file: a test never measures time. It waits a moment only to let the other transaction get as far as it
can; a wait that is too short can hide a defect, and never make one up.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import pytest
from attrs import evolve

from ticketrouter.decisions import Lookup
from ticketrouter.errors import ActiveTicketExistsError, ConflictError, ContentionError
from ticketrouter.model import InboundMessage, MessageKind, Outcome, Resolution, Ticket, TicketKey
from ticketrouter.moves import MovePlan
from ticketrouter.repository import Batches, MovesTickets, TicketRepository
from ticketrouter.router import TicketRouter
from ticketrouter.testing.samples import (
    CONTACT,
    KEY,
    LATER,
    ONE_ROW,
    STRANGER,
    Undo,
    a_closed,
    a_router,
    a_waiting,
    an_active,
    answered,
    counted,
    given,
    joining,
    keeps,
    needs,
    queued,
    route,
    rule_of,
)
from ticketrouter.testing.store import Store

_T = TypeVar("_T")

WORKERS = 6
ROUNDS = 4
BATCH = 30
MOMENT = 0.15
"""How long a transaction is given to get as far as it can, in seconds."""
FOR_EVER = 60.0
"""After how many seconds a transaction that does not end is a failure."""

MESSAGE = InboundMessage(1, CONTACT, 10)
BESIDE = InboundMessage(1, STRANGER.contact_id, 10)

WAYS: dict[str, Callable[[TicketRouter, InboundMessage], Resolution]] = {
    "alone": lambda router, message: router.resolve(message),
    "in a batch": lambda router, message: router.resolve_many([message, evolve(BESIDE, kind=message.kind)])[
        0
    ],
}
"""How a message may come."""
DESK: dict[str, Callable[[TicketRouter, Ticket], Ticket]] = {
    "accept": lambda router, ticket: router.accept(1, ticket.id, 8),
    "close": lambda router, ticket: router.close(1, ticket.id),
    "reopen": lambda router, ticket: router.reopen(1, ticket.id),
    "transfer": lambda router, ticket: router.transfer(1, ticket.id, 13),
}
"""What an agent may want of a ticket."""


class ConcurrentClauses:
    """The clauses of which one transaction alone says nothing."""

    # --- races: many at once, in any order -------------------------------------------------------------------

    def test_r2_a_race_for_a_fresh_key_leaves_one_ticket(self, store: Store) -> None:
        """R2 and R10: of many at once one creates the ticket and all others join it; no message is lost."""
        needs(store.concurrent, "this store has one transaction at a time")
        keys = [TicketKey(1, contact, 10) for contact in range(ROUNDS)]
        for key in keys:
            message = InboundMessage(1, key.contact_id, 10)
            together([lambda m=message: route(store, lambda router: router.resolve(m))] * WORKERS)  # type: ignore[misc]

        assert [(key, counted(store, WORKERS)) for key in keys] == [
            (t.key, t.unread_messages) for t in store.tickets()
        ]

    def test_r8_a_race_of_redeliveries_is_routed_once(self, store: Store) -> None:
        """R8: of many at once with one message id one is routed, and the others are told its ticket."""
        needs(store.concurrent, "this store has one transaction at a time")
        message = InboundMessage(1, CONTACT, 10, message_id="m")
        found = together([lambda: route(store, lambda router: router.resolve(message))] * WORKERS)
        outcomes = Counter(each.outcome for each in found)

        assert Counter({Outcome.DUPLICATE: WORKERS - 1, Outcome.CREATED: 1}) == outcomes
        assert [counted(store, 1)] == [ticket.unread_messages for ticket in store.tickets()]

    def test_a_race_with_a_message_closes_no_ticket_that_it_has_joined(self, store: Store) -> None:
        """Of a message and of who closes the ticket as it was seen, one is first, and the other one meets that."""
        keeps(store, "updated_at")
        needs(store.concurrent, "this store has one transaction at a time")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        tickets = given(
            store, *(an_active(store, TicketKey(1, contact, 10)) for contact in range(ROUNDS * ROUNDS))
        )
        joined = {t.id for t in tickets if not _is_closed_beside_a_message(store, t)}
        left = {t.id: t for t in store.tickets()}

        for ticket in tickets:
            is_open = store.statuses.is_active(left[ticket.id].status)
            assert (is_open, left[ticket.id].unread_messages) == (
                (True, counted(store, 2)) if ticket.id in joined else (False, counted(store, 1))
            )

    # --- encounters: the second comes while the first is under way ---------------------------------------------

    def test_r2_who_comes_second_joins_the_ticket_of_the_first(self, store: Store) -> None:
        """R2 and R10: a message that comes while another creates the ticket joins it, when that is committed."""
        needs(store.overlapping, "this store has no two transactions under way")
        first, second = overtake(
            store,
            lambda repository: a_router(repository).resolve(MESSAGE),
            lambda: route(store, lambda router: router.resolve(MESSAGE)),
        )
        outcomes = (first.outcome, second.outcome)

        assert outcomes == (Outcome.CREATED, Outcome.REUSED)
        assert [counted(store, 2)] == [ticket.unread_messages for ticket in store.tickets()]

    def test_r2_who_comes_second_creates_what_the_first_takes_back(self, store: Store) -> None:
        """R2 and R6: a message that comes while another creates a ticket is not lost by the rollback of that."""
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        second = outlast(
            store,
            lambda router: router.resolve(MESSAGE),
            lambda: route(store, lambda router: router.resolve(MESSAGE)),
        )

        assert second.outcome is Outcome.CREATED
        assert [counted(store, 1)] == [ticket.unread_messages for ticket in store.tickets()]

    def test_r3_a_message_does_not_join_what_is_being_closed(self, store: Store) -> None:
        """R3: a message that comes while its ticket is closed gets a ticket of its own, when that is committed."""
        needs(store.overlapping, "this store has no two transactions under way")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        [ticket] = given(store, an_active(store))
        closed, second = overtake(
            store,
            lambda repository: a_router(repository).close(1, ticket.id),
            lambda: route(store, lambda router: router.resolve(MESSAGE)),
        )

        assert second.outcome is Outcome.CREATED
        assert [closed, second.ticket] == store.tickets()

    def test_r3_a_batch_does_not_join_what_is_being_closed(self, store: Store) -> None:
        """R3: messages that come together while their ticket is closed get a ticket of their own, and others join theirs."""
        needs(store.overlapping, "this store has no two transactions under way")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        ticket, other = given(store, an_active(store), an_active(store, STRANGER))
        closed, (first, beside, second) = overtake(
            store,
            lambda repository: a_router(repository).close(1, ticket.id),
            lambda: route(store, lambda router: router.resolve_many([MESSAGE, BESIDE, MESSAGE])),
        )

        assert [each.outcome for each in (first, beside, second)] == [
            Outcome.CREATED,
            Outcome.REUSED,
            Outcome.REUSED,
        ]
        assert other.id == beside.ticket.id
        assert [closed, beside.ticket, second.ticket] == store.tickets()

    def test_a_message_that_comes_meanwhile_keeps_its_ticket_open(self, store: Store) -> None:
        """Who closes a ticket as it was seen, while a message joins it, is told of that once it is committed."""
        keeps(store, "updated_at")
        needs(store.overlapping, "this store has no two transactions under way")
        [ticket] = given(store, an_active(store))
        joined, refused = overtake(
            store,
            lambda repository: a_router(repository).resolve(MESSAGE),
            lambda: route(store, lambda router: _closed_as_seen(router, ticket)),
        )

        assert joined.ticket == refused
        assert [joined.ticket] == store.tickets()

    def test_a_message_that_is_taken_back_keeps_no_ticket_open(self, store: Store) -> None:
        """Who closes a ticket as it was seen closes it, where the message that was joining it is rolled back."""
        keeps(store, "updated_at")
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        [ticket] = given(store, an_active(store))
        closed = outlast(
            store,
            lambda router: router.resolve(MESSAGE),
            lambda: route(store, lambda router: router.close(1, ticket.id, seen=ticket)),
        )

        assert evolve(ticket, status=store.statuses.closed, updated_at=LATER, closed_at=LATER) == closed
        assert [closed] == store.tickets()

    def test_who_has_looked_too_early_closes_no_ticket_that_has_changed(self, store: Store) -> None:
        """A transaction with an old snapshot is told of the message that is committed by now, or asks to be run again."""
        keeps(store, "updated_at")
        needs(store.overlapping, "this store has no two transactions under way")
        [ticket] = given(store, an_active(store))
        try:
            with store.transaction() as repository:
                repository.load(Lookup.at(STRANGER))
                route(store, lambda router: router.resolve(MESSAGE))
                refused = _closed_as_seen(a_router(repository), ticket)
        except Exception as error:
            if not store.is_retryable(error):
                raise
            refused = route(store, lambda router: _closed_as_seen(router, ticket))

        assert evolve(ticket, unread_messages=2, updated_at=LATER) == refused
        assert [refused] == store.tickets()

    def test_r3_a_move_counts_the_message_that_joins_meanwhile(self, store: Store) -> None:
        """R3: contacts are merged while messages join both their tickets: what is kept has them all."""
        needs(store.overlapping, "this store has no two transactions under way")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        rows = given(store, an_active(store), a_waiting(store, STRANGER, updated_at=LATER))
        with store.transaction() as repository:
            needs(isinstance(repository, MovesTickets), "this repository moves no tickets (MovesTickets)")

        def receive(repository: TicketRepository) -> None:
            router = a_router(repository)
            for message in (MESSAGE, BESIDE, MESSAGE):
                router.resolve(message)

        merged: MovePlan
        _, merged = overtake(
            store,
            receive,
            lambda: route(store, lambda router: router.merge_contacts(1, CONTACT, STRANGER.contact_id)),
        )
        left = {ticket.id: ticket.unread_messages for ticket in store.tickets()}

        assert [rows[0].id] == [closing.ticket.id for closing in merged.closes]
        assert {rows[0].id: counted(store, 3), rows[1].id: counted(store, 5)} == left

    def test_r4_two_who_reopen_at_once_reopen_one_ticket(self, store: Store) -> None:
        """R4: of two closed tickets of one key one is reopened, and who wants the other is told of it."""
        needs(store.overlapping, "this store has no two transactions under way")
        one, other = given(store, a_closed(store), a_closed(store))

        def reopen_other() -> Any:
            try:
                return route(store, lambda router: router.reopen(1, other.id))
            except ActiveTicketExistsError as error:
                return error.ticket.id

        _, met = overtake(store, lambda repository: a_router(repository).reopen(1, one.id), reopen_other)
        active = [each.id for each in store.tickets() if store.statuses.is_active(each.status)]

        assert [one.id] == active
        assert met == one.id

    def test_r10_the_loser_takes_the_winners_row_as_it_is(self, store: Store) -> None:
        """R10: whoever comes second for a key changes nothing of what the first has written: status, user, queue."""
        keeps(store, "user_id")
        needs(store.overlapping, "this store has no two transactions under way")
        opened, second = overtake(
            store,
            lambda repository: a_router(repository).open(KEY, user_id=8, queue_id=queued(store, 5)),
            lambda: route(store, lambda router: router.resolve(MESSAGE)),
        )

        assert (opened.id, opened.status, 8, queued(store, 5)) == (
            second.ticket.id,
            second.ticket.status,
            second.ticket.user_id,
            second.ticket.queue_id,
        )
        assert [second.ticket] == store.tickets()

    def test_r10_a_batch_takes_the_winners_row_as_it_is(self, store: Store) -> None:
        """R10: messages that come together while an agent accepts their ticket join it as the agent's."""
        keeps(store, "user_id")
        needs(store.overlapping, "this store has no two transactions under way")
        [ticket] = given(store, a_waiting(store))
        accepted, found = overtake(
            store,
            lambda repository: a_router(repository).accept(1, ticket.id, 8),
            lambda: route(store, lambda router: router.resolve_many([MESSAGE, MESSAGE])),
        )

        assert [evolve(accepted, unread_messages=counted(store, count)) for count in (2, 3)] == [
            each.ticket for each in found
        ]
        assert [found[-1].ticket] == store.tickets()

    def test_the_desk_cannot_be_won_twice(self, store: Store) -> None:
        """Of two agents who accept one ticket at once one has it, and the other one is told who."""
        keeps(store, "user_id")
        needs(store.overlapping, "this store has no two transactions under way")
        [ticket] = given(store, a_waiting(store))

        def accept() -> Any:
            try:
                return route(store, lambda router: router.accept(1, ticket.id, 8))
            except ConflictError as error:
                return error.ticket

        first, second = overtake(
            store, lambda repository: a_router(repository).accept(1, ticket.id, 7), accept
        )

        assert [first] == store.tickets()
        assert first == second

    # --- encounters: the first has looked before the second has come and gone --------------------------------

    def test_r10_who_has_looked_too_early_joins_the_ticket_all_the_same(self, store: Store) -> None:
        """R10 and R11: a transaction with an old snapshot joins what is committed by now, or asks to be run again."""
        needs(store.overlapping, "this store has no two transactions under way")
        late = None
        try:
            with store.transaction() as repository:
                repository.load(Lookup.at(STRANGER))
                route(store, lambda router: router.resolve(MESSAGE))
                late = a_router(repository).resolve(MESSAGE)
        except Exception as error:
            if not store.is_retryable(error):
                raise
            late = route(store, lambda router: router.resolve(MESSAGE))

        assert late.outcome is Outcome.REUSED
        assert [counted(store, 2)] == [ticket.unread_messages for ticket in store.tickets()]

    def test_r10_what_is_committed_by_now_can_be_read(self, store: Store) -> None:
        """R10: whoever has plain reads that may be old reads what the winner has committed where that is asked for."""
        keeps(store, "user_id")
        needs(store.overlapping, "this store has no two transactions under way")
        [ticket] = given(store, a_waiting(store))
        with store.transaction() as repository:
            repository.get(1, ticket.id)
            taken = route(store, lambda router: router.accept(1, ticket.id, 8))
            current = repository.get(1, ticket.id, current=True)

        assert taken == current

    # --- encounters: the first takes back what the second may have seen ----------------------------------------

    @pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
    @pytest.mark.parametrize("way", WAYS)
    def test_r12_no_redelivery_of_what_is_taken_back(self, store: Store, way: str, known: bool) -> None:
        """R12: a message whose id another has recorded, and takes back, is routed by whoever gets it next, and once."""
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        message = evolve(MESSAGE, message_id="m")
        before = given(store, an_active(store)) if known else []
        receive = WAYS[way]
        second = outlast(
            store,
            lambda router: router.resolve(message),
            lambda: route(store, lambda router: receive(router, message)),
        )
        again = route(store, lambda router: receive(router, message))
        [ticket] = [each for each in store.tickets() if each.key == KEY]

        assert second.outcome is (Outcome.REUSED if known else Outcome.CREATED)
        assert (Outcome.DUPLICATE, ticket) == (again.outcome, again.ticket)
        assert counted(store, len(before) + 1) == ticket.unread_messages

    @pytest.mark.parametrize("act", ["close", "transfer"])
    @pytest.mark.parametrize("way", WAYS)
    def test_r12_nothing_is_ignored_for_what_is_taken_back(self, store: Store, way: str, act: str) -> None:
        """R12: a message that only joins, joins the ticket that another has closed or moved, and takes that back."""
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        [ticket] = given(store, an_active(store))
        second = outlast(
            store,
            lambda router: DESK[act](router, ticket),
            lambda: route(store, lambda router: WAYS[way](router, evolve(MESSAGE, kind=MessageKind.NOTICE))),
        )

        assert second.outcome is Outcome.REUSED
        assert [second.ticket] == store.tickets()

    @pytest.mark.parametrize("act", ["accept", "close", "reopen", "transfer"])
    def test_r12_no_wish_of_the_desk_is_fulfilled_by_what_is_taken_back(self, store: Store, act: str) -> None:
        """R12: what an agent wants done is done, though another has done it and takes that back."""
        keeps(store, *(["user_id"] if act == "accept" else []))
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        [ticket] = given(store, a_closed(store) if act == "reopen" else a_waiting(store))
        done = outlast(
            store,
            lambda router: DESK[act](router, ticket),
            lambda: route(store, lambda router: DESK[act](router, ticket)),
        )

        assert [done] == store.tickets()
        assert done != ticket

    # --- what the others see -----------------------------------------------------------------------------------

    def test_r5_nothing_is_committed_before_the_host_commits(self, store: Store) -> None:
        """R5: while the host's transaction is under way, nobody else sees what was written in it."""
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        with store.transaction() as repository:
            made = a_router(repository).resolve(InboundMessage(1, CONTACT, 10, message_id="m"))
            seen = store.tickets()

        assert seen == []
        assert [made.ticket] == store.tickets()

    def test_r11_who_waits_for_each_other_is_told_to_run_again(self, store: Store) -> None:
        """R11: of two transactions that wait for each other one ends in a ContentionError at once; both end well."""
        needs(
            store.overlapping and store.rolls_back, "the transactions of this store never wait for each other"
        )
        messages = [InboundMessage(1, contact, 10) for contact in range(2)]
        for message in messages:
            route(store, lambda router, m=message: router.resolve(m))  # type: ignore[misc]
        both_have_one = threading.Barrier(2, timeout=FOR_EVER)
        refusals: list[Exception] = []

        def receive(mine: InboundMessage, other: InboundMessage) -> None:
            with suppress(Undo), store.transaction() as repository:
                a_router(repository).resolve(mine)
                both_have_one.wait()
                try:
                    a_router(repository).resolve(other)
                except Exception as error:
                    refusals.append(error)
                    raise Undo from error

        together([lambda: receive(*messages), lambda: receive(*reversed(messages))])

        assert [ContentionError] == [type(error) for error in refusals]
        for message in messages:
            route(store, lambda router, m=message: router.resolve(m))  # type: ignore[misc]
        assert dict.fromkeys((0, 1), counted(store, 3)) == {
            t.contact_id: t.unread_messages for t in store.tickets()
        }

    def test_r11_batches_over_the_same_keys_never_wait_for_each_other(self, store: Store) -> None:
        """R11: two batches over the same keys in opposite order both go through, since neither waits in a circle."""
        needs(
            store.overlapping and store.rolls_back, "the transactions of this store never wait for each other"
        )
        batch = [InboundMessage(1, contact, 10) for contact in range(BATCH)]
        with store.transaction() as repository:
            if not isinstance(repository, Batches):
                pytest.skip("this repository takes no batches (Batches)")
            answered(repository.load_many([evolve(lookup, join=None) for lookup in joining(batch)]))
            a_router(repository).resolve_many(batch)

        def send(messages: list[InboundMessage]) -> None:
            with store.transaction() as repository:
                a_router(repository).resolve_many(messages)

        for _ in range(ROUNDS):
            together([lambda: send(batch), lambda: send(batch[::-1])])

        assert {counted(store, 1 + 2 * ROUNDS)} == {ticket.unread_messages for ticket in store.tickets()}


def _closed_as_seen(router: TicketRouter, ticket: Ticket) -> Ticket | None:
    """Close a ticket as it was seen, and return it; refused, return the ticket that the refusal names."""
    try:
        return router.close(1, ticket.id, seen=ticket)
    except ConflictError as error:
        return error.ticket


def _is_closed_beside_a_message(store: Store, ticket: Ticket) -> bool:
    """Close a ticket as it was seen while a message comes for it, and tell whether it was closed."""
    message = InboundMessage(1, ticket.contact_id, 10)
    found: list[Any] = together(
        [
            lambda: route(store, lambda router: _closed_as_seen(router, ticket)),
            lambda: route(store, lambda router: router.resolve(message)).ticket,
        ]
    )
    closed, joined = found
    if store.statuses.is_active(closed.status):
        assert closed == joined
        return False
    assert joined.id != ticket.id
    return True


# --- two and more at once ------------------------------------------------------------------------------------


class behind(Generic[_T]):  # noqa: N801 - it reads as a function
    """Something that runs in a thread of its own, from `begin` on."""

    def __init__(self, act: Callable[[], _T]) -> None:
        self._act = act
        self._found: list[_T] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def begin(self) -> None:
        """Begin, and get as far as can be."""
        self.start()
        self._thread.join(MOMENT)

    def wait(self) -> None:
        """Wait for the end, whatever comes of it."""
        self._thread.join(FOR_EVER)
        if self._thread.is_alive():
            pytest.fail("a transaction does not end: it waits for another one for ever")

    def result(self) -> _T:
        """Wait for the end, and return or raise what came of it."""
        self.wait()
        for error in self._failed:
            raise error
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._act())
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            self._failed.append(error)


def together(acts: Sequence[Callable[[], _T]]) -> list[_T]:
    """Do several things at once, each in a thread of its own, and return what each has returned."""
    start = threading.Barrier(len(acts), timeout=FOR_EVER)

    def when_all_are_here(act: Callable[[], _T]) -> _T:
        start.wait()
        return act()

    running = [behind(lambda act=act: when_all_are_here(act)) for act in acts]  # type: ignore[misc]
    for each in running:
        each.start()
    for each in running:
        each.wait()  # also for those beside one that has failed: the next test must find nobody at work
    return [each.result() for each in running]


def overtake(
    store: Store, first: Callable[[TicketRepository], Any], second: Callable[[], Any]
) -> tuple[Any, Any]:
    """Do the first in a transaction, and the second before that transaction is committed."""
    running = behind(second)
    with store.transaction() as repository:
        found = first(repository)
        running.begin()
    return found, running.result()


def outlast(store: Store, first: Callable[[TicketRouter], Any], second: Callable[[], _T]) -> _T:
    """Do the first in a transaction, and the second before that transaction is rolled back."""
    running = behind(second)
    with suppress(Undo), store.transaction() as repository:
        first(a_router(repository))
        running.begin()
        raise Undo
    return running.result()
