"""The clauses of who lets the messages of many keys join their tickets while it looks for them (`Batches`).

Law of this file: it obeys that of the contract. A message that is not told to have joined may always go another way;
then nothing of it is written. What is told, and what is written, is held against what each message alone would do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
from attrs import evolve

from ticketrouter.choices import Policy, Reopen
from ticketrouter.decisions import Lookup, Snapshot
from ticketrouter.model import InboundMessage, MessageKind, Ticket, TicketKey
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
    batching,
    given,
    join_many,
    joining,
    keeps,
    left,
    load,
    needs,
    needs_companies,
)
from ticketrouter.testing.store import Store


class ManyClauses:
    """What a repository that takes batches owes to messages that may join at once; one that takes none skips them."""

    # --- who joins -------------------------------------------------------------------------------------------

    def test_r3_many_join_their_tickets_message_by_message(self, store: Store) -> None:
        """R1a and R3: each message adds to the count of its ticket or sets it, and changes nothing else but the time."""
        mine, theirs = given(store, an_active(store, unread_messages=5), a_waiting(store, STRANGER))
        found = join_many(
            store,
            a_message(),
            a_message(STRANGER),
            a_message(unread_messages=0),
            a_message(),
            a_message(STRANGER, kind=MessageKind.ECHO),
        )

        expected = left(mine, {0: 6, 2: 0, 3: 1}) | left(theirs, {1: 2, 4: 2})
        assert_joined_or_left(store, [mine, theirs], found, expected, 5)

    def test_r3_each_message_is_answered_in_its_own_place(self, store: Store) -> None:
        """R1a and R3: the answers stand in the order of the messages, not of keys or ids, with one for each that misses."""
        keys = [TicketKey(1, contact, 10) for contact in (7, 2, 9, 1, 8, 3)]
        there = [key for key in keys if key.contact_id not in {9, 1}]
        rows = given(store, *(an_active(store, key) for key in reversed(there)))
        found = join_many(store, *(a_message(key) for key in keys))
        places = {keys.index(ticket.key): ticket for ticket in rows}
        expected = {place: left(ticket, {place: 2})[place] for place, ticket in places.items()}

        assert_joined_or_left(store, rows, found, expected, len(keys))

    def test_r1a_of_several_active_tickets_many_join_the_newest(self, store: Store) -> None:
        """R1a and R1: without a unique rule the most recently active one on the key is met, ties go to the highest id."""
        old = an_active(store, updated_at=NOW - timedelta(minutes=1))
        rows = given(store, an_active(store), an_active(store), old)
        found = join_many(store, a_message(), a_message())

        assert_joined_or_left(store, rows, found, left(rows[1], {0: 2, 1: 3}), 2)

    def test_r9_many_join_within_their_company(self, store: Store) -> None:
        """R9: where two companies use the same ids, each message joins the ticket of its own."""
        needs_companies(store)
        mine, theirs = given(store, an_active(store), an_active(store, OTHER_COMPANY, unread_messages=5))
        found = join_many(store, a_message(), a_message(OTHER_COMPANY))

        assert_joined_or_left(store, [mine, theirs], found, left(mine, {0: 2}) | left(theirs, {1: 6}), 2)

    def test_r8_many_join_with_their_message_ids_or_leave_them_free(self, store: Store) -> None:
        """R1a and R8: each id is recorded with its ticket; of two messages with one id, and a redelivery, one joins."""
        rows = given(store, an_active(store), an_active(store, STRANGER))
        messages = [a_message(message_id="m"), a_message(message_id="m"), a_message(STRANGER, message_id="n")]
        found = join_many(store, *messages)
        again = join_many(store, *messages)

        assert_joined_or_left(store, rows, found, left(rows[0], {0: 2}) | left(rows[1], {2: 2}), 3)
        for place, (first, other) in enumerate(zip(found, again, strict=True)):
            assert first.joined is None or other.joined is None, place

    # --- what is told of the others --------------------------------------------------------------------------

    def test_r1_many_are_told_what_their_contacts_have_elsewhere(self, store: Store) -> None:
        """R1: all that is active on other connections; no closed one, nobody else's."""
        stranger = evolve(STRANGER, connection_id=13)
        rows = given(
            store,
            an_active(store),
            an_active(store, ELSEWHERE, updated_at=NOW - timedelta(minutes=1)),
            a_waiting(store, evolve(KEY, connection_id=14)),
            an_active(store, evolve(KEY, connection_id=15), updated_at=NOW + timedelta(minutes=1)),
            a_closed(store, evolve(KEY, connection_id=16)),
            an_active(store, stranger),
            an_active(store, evolve(ELSEWHERE, company_id=2)),
        )
        here, old, new, newest, _, theirs, *_ = rows
        found = join_many(store, a_message(), a_message(stranger))

        assert [(newest, new, old), ()] == [
            found[0].active_elsewhere(10),
            found[1].active_elsewhere(13),
        ]
        assert_joined_or_left(store, rows, found, left(here, {0: 2}) | left(theirs, {1: 2}), 2)

    # --- who does not join -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("nearest", ["elsewhere", "stranger", "other company"])
    def test_r1a_many_meet_nothing_beside_their_keys(self, store: Store, nearest: str) -> None:
        """R1a and R9: a ticket of another connection, contact or company is not joined."""
        key = {"elsewhere": ELSEWHERE, "stranger": STRANGER, "other company": OTHER_COMPANY}[nearest]
        rows = given(store, an_active(store, key))
        found = join_many(store, a_message(), a_message())

        assert_joined_or_left(store, rows, found, {}, 2)
        for each in found:
            assert_as_loaded(store, each, Policy())

    def test_r1a_many_meet_no_closed_ticket(self, store: Store) -> None:
        """R1a: a closed ticket of the key is not joined, and those who have an active one join it all the same."""
        rows = given(store, a_closed(store), an_active(store, STRANGER))
        found = join_many(store, a_message(), a_message(STRANGER), a_message())

        assert_joined_or_left(store, rows, found, left(rows[1], {1: 2}), 3)

    def test_r1a_many_who_may_not_join_do_not(self, store: Store) -> None:
        """R1a: a look that is not told what a message would do changes nothing."""
        rows = given(store, an_active(store), an_active(store, STRANGER))
        lookups = [evolve(each, join=None) for each in joining([a_message(), a_message(STRANGER)])]
        with store.transaction() as repository:
            found = answered(batching(repository).load_many(lookups))

        assert_joined_or_left(store, rows, found, {}, 2)

    @pytest.mark.parametrize("reopen", [Reopen.never(), Reopen.always()], ids=["never", "always"])
    def test_r1_who_does_not_join_is_told_what_load_tells(self, store: Store, reopen: Reopen) -> None:
        """R1: of a key without an active ticket what load tells, closed ones where they count, of one and of several."""
        policy = Policy(reopen=reopen)
        rows = given(store, a_closed(store), an_active(store, ELSEWHERE), an_active(store, STRANGER))
        for messages in ([a_message()], [a_message(), a_message()]):
            with store.transaction() as repository:
                found = answered(batching(repository).load_many(joining(messages, policy)))

            assert len(messages) == len(found)
            assert rows == store.tickets()
            for each in found:
                assert_as_loaded(store, each, policy)

    # --- the host's transaction, and snapshots ---------------------------------------------------------------

    def test_r6_after_the_hosts_rollback_nothing_that_many_joined_remains(self, store: Store) -> None:
        """R5 and R6: no count and no time outlives the host's rollback."""
        needs(store.rolls_back, "this store has no transaction that could be rolled back")
        rows = given(store, an_active(store), a_waiting(store, STRANGER))
        with suppress(Undo), store.transaction() as repository:
            answered(batching(repository).load_many(joining([a_message(), a_message(STRANGER)])))
            raise Undo

        assert rows == store.tickets()

    def test_r7_what_many_have_joined_are_snapshots(self, store: Store) -> None:
        """R7: who joins later does not show in the tickets that were handed out before."""
        given(store, an_active(store), an_active(store, ELSEWHERE))
        lookups = joining([a_message(), a_message()])
        with store.transaction() as repository:
            found = answered(batching(repository).load_many(lookups))
            before = [_copied(each) for each in found]
            batching(repository).load_many(lookups)

        assert before == [_copied(each) for each in found]

    def test_many_join_many_times_on_one_connection(self, store: Store) -> None:
        """A driver that turns to prepared, generic plans still finds the tickets, of few and of more."""
        keeps(store, "unread_messages")
        given(store, *(an_active(store, TicketKey(1, contact, 10)) for contact in range(3)))
        joined: Counter[int] = Counter()
        with store.transaction() as repository:
            for turn in range(30):
                batch = [a_message(TicketKey(1, contact, 10)) for contact in range(1 + turn % 3)]
                found = answered(batching(repository).load_many(joining(batch)))
                joined.update(contact for contact, each in enumerate(found) if each.joined is not None)

        assert [1 + joined[contact] for contact in range(3)] == [t.unread_messages for t in store.tickets()]


# --- what they are written with ------------------------------------------------------------------------------


def a_message(key: TicketKey = KEY, **changes: object) -> InboundMessage:
    """Return a message on a key, without an id."""
    return InboundMessage(key.company_id, key.contact_id, key.connection_id, **changes)  # type: ignore[arg-type]


def assert_joined_or_left(
    store: Store,
    before: Sequence[Ticket],
    found: Sequence[Snapshot],
    expected: Mapping[int, Ticket],
    messages: int,
) -> None:
    """Each message has joined its ticket as expected; or it was not told so, and nothing of it was written."""
    told = {place: each.joined for place, each in enumerate(found) if each.joined is not None}

    assert messages == len(found)
    assert {place: expected.get(place) for place in told} == told
    rows = {ticket.id: ticket for ticket in before} | {ticket.id: ticket for ticket in told.values()}
    assert list(rows.values()) == store.tickets()


def assert_as_loaded(store: Store, found: Snapshot, policy: Policy) -> None:
    """What was found for KEY, which has no active ticket, is what load tells under this policy."""
    assert _in_order(load(store, Lookup.of(a_message(), policy))) == _in_order(found)


def _in_order(snapshot: Snapshot) -> Snapshot:
    active = sorted(snapshot.active, key=lambda ticket: str(ticket.key))
    return evolve(snapshot, active=active, remembers=True)


def _copied(found: Snapshot) -> Snapshot:
    joined = None if found.joined is None else evolve(found.joined)
    return evolve(found, active=tuple(evolve(ticket) for ticket in found.active), joined=joined)
