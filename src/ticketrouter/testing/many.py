"""The clauses of who lets the messages of many keys join their tickets at once (`TouchesMany`).

Law of this file: it obeys that of the contract. A run that is not told to have joined may always go another way;
then nothing of it is written. What is told, and what is written, is held against what each message alone would do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
from attrs import evolve

from ticketrouter.batch import Joined
from ticketrouter.choices import Policy, Reopen
from ticketrouter.model import InboundMessage, MessageKind, Ticket, TicketKey
from ticketrouter.policy import Lookup, Snapshot
from ticketrouter.testing.samples import (
    ELSEWHERE,
    KEY,
    NOW,
    OTHER_COMPANY,
    STRANGER,
    Undo,
    a_closed,
    a_waiting,
    an_active,
    answered,
    given,
    left,
    load,
    needs,
    runs,
    touch_many,
    toucher,
)
from ticketrouter.testing.store import Store


class ManyClauses:
    """What a repository that offers `touch_many` owes; one that has not the ability skips all of them."""

    # --- who joins -------------------------------------------------------------------------------------------

    def test_r3_many_join_their_tickets_message_by_message(self, store: Store) -> None:
        """R3: each message adds to the count of its ticket or sets it, and changes nothing else but the time."""
        mine, theirs = given(store, an_active(store, unread_messages=5), a_waiting(store, STRANGER))
        met = touch_many(
            store,
            a_message(),
            a_message(STRANGER),
            a_message(unread_messages=0),
            a_message(),
            a_message(STRANGER, kind=MessageKind.ECHO),
        )

        assert_joined_or_left(
            store,
            [mine, theirs],
            met,
            [Joined(left(mine, {0: 6, 2: 0, 3: 1})), Joined(left(theirs, {1: 2, 4: 2}))],
        )

    def test_r3_each_run_is_answered_in_its_own_place(self, store: Store) -> None:
        """R3: the answers stand in the order of the runs, not of keys or ids, with a place for each that misses."""
        keys = [TicketKey(1, contact, 10) for contact in (7, 2, 9, 1, 8, 3)]
        there = [key for key in keys if key.contact_id not in {9, 1}]
        rows = given(store, *(an_active(store, key) for key in reversed(there)))
        met = touch_many(store, *(a_message(key) for key in keys))
        ticket_on = {ticket.key: ticket for ticket in rows}
        expected = [
            Joined(left(ticket_on[key], {place: 2})) if key in ticket_on else None
            for place, key in enumerate(keys)
        ]

        assert_joined_or_left(store, rows, met, expected)

    def test_r1_of_several_active_tickets_many_join_the_newest(self, store: Store) -> None:
        """R1: without a unique rule the most recently active one on the key is met, ties go to the highest id."""
        old = an_active(store, updated_at=NOW - timedelta(minutes=1))
        rows = given(store, an_active(store), an_active(store), old)
        met = touch_many(store, a_message(), a_message())

        assert_joined_or_left(store, rows, met, [Joined(left(rows[1], {0: 2, 1: 3}))])

    def test_r9_many_join_within_their_company(self, store: Store) -> None:
        """R9: where two companies use the same ids, each message joins the ticket of its own."""
        mine, theirs = given(store, an_active(store), an_active(store, OTHER_COMPANY, unread_messages=5))
        met = touch_many(store, a_message(), a_message(OTHER_COMPANY))

        assert_joined_or_left(
            store, [mine, theirs], met, [Joined(left(mine, {0: 2})), Joined(left(theirs, {1: 6}))]
        )

    # --- what is told of the others --------------------------------------------------------------------------

    def test_r1_many_are_told_what_their_contacts_have_elsewhere(self, store: Store) -> None:
        """R1: on other connections, the newest first, ties by the highest id; no closed one, nobody else's."""
        stranger = evolve(STRANGER, connection_id=13)
        rows = given(
            store,
            an_active(store),
            an_active(store, ELSEWHERE, updated_at=NOW - timedelta(minutes=1)),
            a_waiting(store, evolve(KEY, connection_id=14)),
            an_active(store, evolve(KEY, connection_id=15)),
            a_closed(store, evolve(KEY, connection_id=16)),
            an_active(store, stranger),
            an_active(store, evolve(ELSEWHERE, company_id=2)),
        )
        here, old, new, newest, _, theirs, _ = rows
        met = touch_many(store, a_message(), a_message(stranger))

        assert_joined_or_left(
            store,
            rows,
            met,
            [Joined(left(here, {0: 2}), (newest, new, old)), Joined(left(theirs, {1: 2}))],
        )

    # --- who does not join -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("nearest", ["elsewhere", "stranger", "other company"])
    def test_r1_many_meet_nothing_beside_their_keys(self, store: Store, nearest: str) -> None:
        """R1 and R9: a ticket of another connection, contact or company is not touched."""
        key = {"elsewhere": ELSEWHERE, "stranger": STRANGER, "other company": OTHER_COMPANY}[nearest]
        rows = given(store, an_active(store, key))
        met = touch_many(store, a_message(), a_message())

        assert_joined_or_left(store, rows, met, [None])
        assert_as_loaded(store, met[0], Policy())

    def test_r3_many_meet_no_closed_ticket(self, store: Store) -> None:
        """R3: a closed ticket of the key is not touched, and those who have an active one join it all the same."""
        rows = given(store, a_closed(store), an_active(store, STRANGER))
        met = touch_many(store, a_message(), a_message(STRANGER), a_message())

        assert_joined_or_left(store, rows, met, [None, Joined(left(rows[1], {1: 2}))])

    @pytest.mark.parametrize("reopen", [Reopen.never(), Reopen.always()], ids=["never", "always"])
    def test_r1_who_does_not_join_is_told_what_load_tells(self, store: Store, reopen: Reopen) -> None:
        """R1: of a key without an active ticket nothing is told, or what load tells, closed ones where they count."""
        policy = Policy(reopen=reopen)
        rows = given(store, a_closed(store), an_active(store, ELSEWHERE), an_active(store, STRANGER))
        with store.transaction() as repository:
            met = toucher(repository).touch_many(runs([a_message()], policy))

        assert rows == store.tickets()
        assert_as_loaded(store, answered(met)[0], policy)

    # --- the host's transaction, and snapshots ---------------------------------------------------------------

    def test_r6_after_the_hosts_rollback_no_touch_of_many_remains(self, store: Store) -> None:
        """R5 and R6: no count and no time outlives the host's rollback."""
        needs(store.rolls_back, "this store has no transaction that could be rolled back")
        rows = given(store, an_active(store), a_waiting(store, STRANGER))
        with suppress(Undo), store.transaction() as repository:
            answered(toucher(repository).touch_many(runs([a_message(), a_message(STRANGER)])))
            raise Undo

        assert rows == store.tickets()

    def test_r7_what_many_have_joined_are_snapshots(self, store: Store) -> None:
        """R7: a later touch does not show in the tickets that an earlier one has handed out."""
        given(store, an_active(store), an_active(store, ELSEWHERE))
        batch = runs([a_message(), a_message()])
        with store.transaction() as repository:
            met = answered(toucher(repository).touch_many(batch))
            before = [_copied(each) for each in met]
            toucher(repository).touch_many(batch)

        assert before == [_copied(each) for each in met]

    def test_many_touch_many_times_on_one_connection(self, store: Store) -> None:
        """A driver that turns to prepared, generic plans still finds the tickets, of few and of more."""
        given(store, *(an_active(store, TicketKey(1, contact, 10)) for contact in range(3)))
        joined: Counter[int] = Counter()
        with store.transaction() as repository:
            for turn in range(30):
                batch = [a_message(TicketKey(1, contact, 10)) for contact in range(1 + turn % 3)]
                met = answered(toucher(repository).touch_many(runs(batch)))
                joined.update(contact for contact, each in enumerate(met) if isinstance(each, Joined))

        assert [1 + joined[contact] for contact in range(3)] == [t.unread_messages for t in store.tickets()]


# --- what they are written with ------------------------------------------------------------------------------


def a_message(key: TicketKey = KEY, **changes: object) -> InboundMessage:
    """Return a message on a key, without an id."""
    return InboundMessage(key.company_id, key.contact_id, key.connection_id, **changes)  # type: ignore[arg-type]


def assert_joined_or_left(
    store: Store,
    before: Sequence[Ticket],
    met: Sequence[Joined | Snapshot | None],
    expected: Sequence[Joined | None],
) -> None:
    """Each run has joined its ticket as expected; or it was not told so, and its row is as it was before."""
    rows = {ticket.id: ticket for ticket in before}
    told = [_copied(each) for each in met]
    possible = [each if each is None else may for each, may in zip(told, expected, strict=True)]

    assert possible == told
    rows |= {each.tickets[-1].id: each.tickets[-1] for each in told if each is not None}
    assert list(rows.values()) == store.tickets()


def assert_as_loaded(store: Store, met: Joined | Snapshot | None, policy: Policy) -> None:
    """Nothing is told of KEY, which has no active ticket, or what load tells under this policy."""
    assert not isinstance(met, Joined)
    loaded = load(store, Lookup.of(a_message(), policy))

    assert met is None or _in_order(loaded) == _in_order(met)


def _in_order(snapshot: Snapshot) -> Snapshot:
    return evolve(snapshot, active=sorted(snapshot.active, key=lambda ticket: str(ticket.key)))


def _copied(met: Joined | Snapshot | None) -> Joined | None:
    if not isinstance(met, Joined):
        return None
    others = tuple(evolve(ticket) for ticket in met.other_active)
    return Joined(tuple(evolve(ticket) for ticket in met.tickets), others)
