"""The clauses that are about further words of a scheme: tickets that no message reopens, and those that one wakes.

Law of this file: as in `ticketrouter.testing.contract`, which takes these clauses over. A test needs a store whose
scheme has such words, and is skipped on any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from ticketrouter.choices import Policy, Scope
from ticketrouter.errors import BlockedBySchemaError
from ticketrouter.model import Change, MessageKind, Outcome, Resolution, Ticket, TicketKey, UniqueRule
from ticketrouter.testing.concurrency import DESK, WAYS, WORKERS, outlast, overtake, together
from ticketrouter.testing.routed import ALWAYS, MESSAGE, meanwhile, outcomes, receive, ways
from ticketrouter.testing.samples import (
    CONTACT,
    ELSEWHERE,
    KEY,
    LATER,
    NOW,
    ONE_ROW,
    OTHER_COMPANY,
    STRANGER,
    a_closed,
    a_router,
    an_active,
    assert_conflict,
    commit,
    counted,
    given,
    join,
    join_many,
    keeps,
    needs,
    reopen,
    reuse,
    route,
    rule_of,
)
from ticketrouter.testing.store import Overwrites, Store

THEIRS = evolve(MESSAGE, contact_id=STRANGER.contact_id)


def a_final(store: Store, key: TicketKey = KEY, **changes: Any) -> Ticket:
    """Return a closed ticket that no message reopens; skip the test where the scheme has no word for it."""
    return a_closed(store, key, status=final_word(store), **changes)


def final_word(store: Store) -> str:
    """Return a final word of the store's scheme; skip the test where it has none."""
    needs(bool(store.statuses.final), "the scheme of this store has no final words")
    return min(store.statuses.final)


def overwritten(store: Store, ticket: Ticket, status: str) -> Ticket:
    """Give a ticket another status, as the desk's own code does; skip the test where the store cannot."""
    if not isinstance(store, Overwrites):
        pytest.skip("this store cannot change a row behind the repository's back (Overwrites)")
    changed = evolve(ticket, status=status)
    store.overwrite(changed)
    return changed


def asleep(store: Store, key: TicketKey = KEY, **changes: Any) -> Ticket:
    """Return an active ticket that a message wakes; skip the test where the scheme has no word for it."""
    return an_active(store, key, status=waking_word(store), **changes)


def waking_word(store: Store) -> str:
    """Return a word that wakes; skip the test where the store's scheme has none."""
    needs(bool(store.statuses.wakes), "the scheme of this store has no words that wake")
    return min(store.statuses.wakes)


def awake(store: Store) -> str:
    """Return what that word wakes to."""
    return store.statuses.wakes[waking_word(store)]


def wakings(found: Iterable[Resolution]) -> list[tuple[str | None, str]]:
    """Return the status before and after of each message that has changed that of a ticket which was there."""
    changes = [each.change for each in found]
    return [
        (change.old_status, change.new_status)
        for change in changes
        if change is not None and not change.created and change.old_status != change.new_status
    ]


class WakingEncounters:
    """What words that wake promise where two transactions meet."""

    @pytest.mark.parametrize("beside", [None, "accept", "close"])
    def test_r3_of_many_messages_at_once_one_tells_the_change(self, store: Store, beside: str | None) -> None:
        """R3 and R10: one wakes the ticket, each is counted; also beside an agent, who may be faster than all of them."""
        keeps(store, *(["user_id"] if beside == "accept" else []))
        needs(store.concurrent, "this store has one transaction at a time")
        needs(
            beside != "close" or rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row"
        )
        [ticket] = given(store, asleep(store, unread_messages=0, user_id=None))
        word, target = waking_word(store), awake(store)
        acts: list[Callable[[], Any]] = [
            lambda: route(store, lambda router: router.resolve(MESSAGE)),
            lambda: route(store, lambda router: router.resolve_many([MESSAGE, THEIRS])[0]),
        ] * (WORKERS // 2)
        if beside is not None:
            acts.append(lambda: route(store, lambda router: DESK[beside](router, ticket)))
        done = together(acts)
        found, desk = done[:WORKERS], done[WORKERS:]
        mine = [each for each in store.tickets() if each.contact_id == CONTACT]
        active = [each for each in mine if store.statuses.is_active(each.status)]
        # An agent who closes need not have seen what a message has just done; one who accepts must.
        by_desk: list[tuple[str | None, str]] = [
            (word, target) for each in desk if each.change.old_status == word
        ]

        assert counted(store, len(found)) == sum(each.unread_messages for each in mine)
        assert word not in {each.status for each in mine}
        assert len(active) == 1 or (beside == "close" and not active)
        assert [(word, target)] in (
            [wakings(found), by_desk] if beside == "close" else [wakings(found) + by_desk]
        )
        assert len(wakings(found)) <= 1

    @pytest.mark.parametrize("way", WAYS)
    def test_r3_who_comes_second_joins_what_the_first_wakes(self, store: Store, way: str) -> None:
        """R3 and R10: it is counted, and tells no change."""
        needs(store.overlapping, "this store has no two transactions under way")
        given(store, asleep(store, unread_messages=0))
        found = overtake(
            store,
            lambda repository: a_router(repository).resolve(MESSAGE),
            lambda: route(store, lambda router: WAYS[way](router, MESSAGE)),
        )
        [ticket] = [each for each in store.tickets() if each.key == KEY]

        assert wakings(found) == wakings(found[:1]) == [(waking_word(store), awake(store))]
        assert (awake(store), counted(store, 2)) == (ticket.status, ticket.unread_messages)

    @pytest.mark.parametrize("way", WAYS)
    def test_r3_who_comes_second_wakes_what_the_first_leaves_asleep(self, store: Store, way: str) -> None:
        """R3 and R6: a waking that is rolled back is told by nobody but the next."""
        needs(store.overlapping and store.rolls_back, "this store has no two transactions under way")
        given(store, asleep(store, unread_messages=0))
        second = outlast(
            store,
            lambda router: router.resolve(MESSAGE),
            lambda: route(store, lambda router: WAYS[way](router, MESSAGE)),
        )
        [ticket] = [each for each in store.tickets() if each.key == KEY]

        assert wakings([second]) == [(waking_word(store), awake(store))]
        assert (awake(store), counted(store, 1)) == (ticket.status, ticket.unread_messages)

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("act", ["accept", "close"])
    def test_r3_a_message_does_not_wake_what_the_desk_is_changing(
        self, store: Store, act: str, way: str
    ) -> None:
        """R3: it joins what an agent accepts, and gets a ticket of its own beside what one closes, and tells no waking."""
        keeps(store, *(["user_id"] if act == "accept" else []))
        needs(store.overlapping, "this store has no two transactions under way")
        needs(act != "close" or rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        [ticket] = given(store, asleep(store, user_id=None))
        changed, found = overtake(
            store,
            lambda repository: DESK[act](a_router(repository), ticket),
            lambda: route(store, lambda router: WAYS[way](router, MESSAGE)),
        )

        assert (Outcome.REUSED if act == "accept" else Outcome.CREATED) is found.outcome
        assert wakings([found]) == []
        assert changed.status in {each.status for each in store.tickets()}


class WordsClauses(WakingEncounters):
    """What the further words of a scheme promise."""

    # --- words that wake ---------------------------------------------------------------------------------------

    @ways
    def test_r3_a_message_wakes_its_ticket_once(self, store: Store, way: str) -> None:
        """R3: status, count and time change, user and queue do not; the first message tells it, the next does not."""
        [ticket] = given(store, asleep(store, unread_messages=3))
        first, second = receive(store, MESSAGE, MESSAGE, way=way)
        woken = evolve(ticket, status=awake(store), unread_messages=4, updated_at=LATER)

        assert outcomes([first, second]) == [Outcome.REUSED] * 2
        assert [woken, evolve(woken, unread_messages=5)] == [first.ticket, second.ticket]
        assert Change.between(ticket, woken) == first.change
        assert Change.between(woken, woken) == second.change
        assert [second.ticket] == store.tickets()

    @ways
    def test_r3_an_echo_leaves_its_ticket_asleep(self, store: Store, way: str) -> None:
        """R3: what only attaches joins and wakes nothing, before a message that does, and after it."""
        keeps(store, "unread_messages")
        [ticket] = given(store, asleep(store, unread_messages=3))
        echo, setting = (
            evolve(MESSAGE, kind=MessageKind.ECHO),
            evolve(MESSAGE, kind="notice", unread_messages=0),
        )
        [alone] = receive(store, echo, way=way)
        left = store.tickets()
        found = receive(store, echo, setting, MESSAGE, setting, MESSAGE, way=way)

        assert [evolve(ticket, updated_at=LATER)] == [alone.ticket] == left
        assert [each.ticket.status for each in found] == [ticket.status] * 2 + [awake(store)] * 3
        assert [each.ticket.unread_messages for each in found] == [3, 0, 1, 0, 1]
        assert wakings(found) == wakings(found[2:3]) == [(ticket.status, awake(store))]
        assert [found[-1].ticket] == store.tickets()

    @ways
    def test_r3_the_first_that_may_wakes_its_ticket(self, store: Store, way: str) -> None:
        """R3: it may be any of those that come together, as where their contact writes on two connections."""
        needs(rule_of(store) is not UniqueRule.ONE_PER_CONTACT, "the unique rule has room for one connection")
        [ticket] = given(store, asleep(store, unread_messages=0))
        echo, there = evolve(MESSAGE, kind=MessageKind.ECHO), evolve(MESSAGE, connection_id=13)
        found = receive(store, echo, there, evolve(MESSAGE, message_id="m"), echo, MESSAGE, way=way)
        woken = evolve(ticket, status=awake(store), unread_messages=2, updated_at=LATER)

        assert wakings(found) == wakings(found[2:3]) == [(ticket.status, awake(store))]
        assert [ticket.status, *[awake(store)] * 3] == [found[place].ticket.status for place in (0, 2, 3, 4)]
        assert woken in store.tickets()

    @ways
    def test_r3_a_ticket_on_another_connection_wakes(self, store: Store, way: str) -> None:
        """R3: under the scope of the contact, too."""
        [ticket] = given(store, asleep(store, ELSEWHERE, unread_messages=0))
        found = receive(store, MESSAGE, MESSAGE, way=way, policy=Policy(scope=Scope.CONTACT))
        expected = evolve(ticket, status=awake(store), unread_messages=2, updated_at=LATER)

        assert wakings(found) == wakings(found[:1]) == [(ticket.status, awake(store))]
        assert [expected] == store.tickets()

    @ways
    def test_r3_each_ticket_is_woken_by_its_own_message(self, store: Store, way: str) -> None:
        """R3: beside one that is awake, one that a message creates, and another company's, which sleeps on."""
        mine, theirs, other = given(
            store,
            asleep(store),
            an_active(store, STRANGER, status=awake(store)),
            asleep(store, OTHER_COMPANY),
        )
        fresh = evolve(MESSAGE, contact_id=5)
        found = receive(store, THEIRS, MESSAGE, fresh, THEIRS, way=way)
        statuses = {ticket.id: ticket.status for ticket in store.tickets()}

        assert outcomes(found) == [Outcome.REUSED, Outcome.REUSED, Outcome.CREATED, Outcome.REUSED]
        assert wakings(found) == wakings(found[1:2]) == [(mine.status, awake(store))]
        assert {
            mine.id: awake(store),
            theirs.id: theirs.status,
            other.id: other.status,
        }.items() <= statuses.items()

    @ways
    def test_r3_a_ticket_that_begins_asleep_is_woken_by_the_next_message(
        self, store: Store, way: str
    ) -> None:
        """R3: where the word of a new ticket is one that wakes, the message that creates it does not wake it."""
        word = store.statuses.initial
        needs(word in store.statuses.wakes, "no new ticket of this store is asleep")
        echo = evolve(MESSAGE, kind=MessageKind.ECHO)
        found = receive(store, MESSAGE, echo, MESSAGE, MESSAGE, way=way)
        target = store.statuses.wakes[word]

        assert [word, word, target, target] == [each.ticket.status for each in found]
        assert wakings(found) == wakings(found[2:3]) == [(word, target)]
        assert [found[-1].ticket] == store.tickets()

    @pytest.mark.parametrize("together", [False, True])
    def test_r3_what_is_woken_meanwhile_is_joined(self, store: Store, together: bool) -> None:
        """R3: who was slower tells no change."""
        given(store, asleep(store, unread_messages=0), asleep(store, STRANGER))
        found = meanwhile(
            store,
            lambda router: router.resolve(MESSAGE),
            lambda router: router.resolve_many([MESSAGE, THEIRS, MESSAGE]),
            together,
        )
        [ticket] = [each for each in store.tickets() if each.key == KEY]

        assert wakings(found) == wakings(found[1:2]) == [(waking_word(store), awake(store))]
        assert (awake(store), counted(store, 3)) == (ticket.status, ticket.unread_messages)

    @pytest.mark.parametrize("together", [False, True])
    def test_r3_what_falls_asleep_meanwhile_is_woken(self, store: Store, together: bool) -> None:
        """R3: what was awake when a message looked is not left asleep by it."""
        needs(store.overlapping, "nobody else writes while a transaction is open")
        ticket, _ = given(store, an_active(store, status=awake(store)), asleep(store, STRANGER))
        found = meanwhile(
            store,
            lambda _: overwritten(store, ticket, waking_word(store)),
            lambda router: router.resolve_many([MESSAGE, THEIRS, MESSAGE]),
            together,
        )

        assert wakings(found) == wakings(found[:2]) == [(waking_word(store), awake(store))] * 2
        assert {awake(store)} == {each.status for each in store.tickets()}

    def test_r3_a_waking_demands_the_status_as_it_was_seen(self, store: Store) -> None:
        """R3: it conflicts with who has woken the ticket since, and with who has put it to sleep."""
        [ticket] = given(store, asleep(store))
        woken = commit(store, reuse(ticket, wakes=True))

        assert evolve(ticket, status=awake(store), unread_messages=2, updated_at=LATER) == woken
        assert_conflict(store, reuse(ticket, wakes=True))
        overwritten(store, woken, ticket.status)
        assert_conflict(store, reuse(woken, wakes=True))
        assert commit(store, reuse(woken)).status == ticket.status

    def test_r1a_no_message_joins_at_once_what_it_would_wake(self, store: Store) -> None:
        """R1a: it is told of the ticket, and nothing is written; an echo may join, and leaves it asleep."""
        [ticket] = given(store, asleep(store))
        found = join(store, MESSAGE)
        echoed = join(store, evolve(MESSAGE, kind=MessageKind.ECHO))

        assert ((ticket,), None) == (found.active, found.joined)
        assert ticket.status == (echoed.joined or echoed.active[0]).status
        assert [ticket.status] == [each.status for each in store.tickets()]

    def test_r1a_of_many_messages_none_joins_what_it_would_wake(self, store: Store) -> None:
        """R1a: nor does one that comes after it on the same key; what comes before may."""
        ticket, other = given(store, asleep(store), an_active(store, STRANGER, status=awake(store)))
        echo = evolve(MESSAGE, kind=MessageKind.ECHO)
        found = join_many(store, echo, MESSAGE, THEIRS, echo)

        assert [found[place].joined for place in (1, 3)] == [None, None]
        assert ticket.id in {each.id for each in found[1].active}
        assert {ticket.status, other.status} == {each.status for each in store.tickets()}

    # --- final words -------------------------------------------------------------------------------------------

    @ways
    def test_r1_a_final_ticket_hides_no_other(self, store: Store, way: str) -> None:
        """R1: whenever it was closed, it is left as it is, and the one that was closed before it is reopened."""
        final, *_, last = given(
            store,
            a_final(store),
            a_final(store, STRANGER),
            a_closed(store, closed_at=NOW - timedelta(2)),
            a_closed(store, closed_at=NOW - timedelta(1)),
        )
        found = receive(store, MESSAGE, THEIRS, way=way, policy=ALWAYS)

        assert outcomes(found) == [Outcome.REOPENED, Outcome.CREATED]
        assert found[0].ticket.id == last.id
        assert final in store.tickets()

    @ways
    def test_r2_a_final_ticket_in_the_way_is_not_reopened(self, store: Store, way: str) -> None:
        """R2: where the unique rule has no room beside it, the message is refused, and nothing is written."""
        needs(rule_of(store) in ONE_ROW, "the unique rule has room for another row")
        [final] = given(store, a_final(store))
        with pytest.raises(BlockedBySchemaError) as caught:
            receive(store, MESSAGE, way=way, policy=ALWAYS)

        assert final == caught.value.ticket
        assert [final] == store.tickets()

    def test_r4_what_has_become_final_is_not_reopened(self, store: Store) -> None:
        """R4: not by who has seen it while a message could still have reopened it."""
        [ticket] = given(store, a_closed(store))
        overwritten(store, ticket, final_word(store))

        assert_conflict(store, reopen(ticket))

    @pytest.mark.parametrize("together", [False, True])
    def test_r4_what_becomes_final_meanwhile_is_left_to_the_desk(self, store: Store, together: bool) -> None:
        """R4: of several messages the others are routed, and this one gets a ticket of its own."""
        word = final_word(store)
        needs(store.overlapping, "nobody else writes while a transaction is open")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for another row")
        mine, theirs = given(store, a_closed(store), a_closed(store, STRANGER))
        found = meanwhile(
            store,
            lambda _: overwritten(store, mine, word),
            lambda router: router.resolve_many([MESSAGE, THEIRS]),
            together,
            ALWAYS,
        )

        assert outcomes(found) == [Outcome.CREATED, Outcome.REOPENED]
        assert theirs.id == found[1].ticket.id
        assert word in {ticket.status for ticket in store.tickets() if ticket.id == mine.id}

    def test_r4_the_desk_may_reopen_a_final_ticket(self, store: Store) -> None:
        """R4: who names it knows what it is."""
        [final] = given(store, a_final(store))
        made = route(store, lambda router: router.reopen(1, final.id))

        assert (final.id, store.statuses.reopened, LATER, None) == (
            made.id,
            made.status,
            made.updated_at,
            made.closed_at,
        )
        assert [made] == store.tickets()
