"""The clauses as a desk meets them: what the router answers, and what stands in the store afterwards.

Law of this file: a test asks the router alone, and reads around the repository what has come of it; so it holds
whatever the methods of a repository are. Each goes the three ways that a message can come, since a repository may have
three pieces of code for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from attrs import astuple, evolve

from ticketrouter.batch import Joint
from ticketrouter.checks import MAX_ID_LENGTH, MAX_MESSAGE_ID_LENGTH, MAX_UNREAD, Id
from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.decisions import Lookup, Snapshot, Write
from ticketrouter.errors import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    InvalidMessageError,
    TicketNotFoundError,
)
from ticketrouter.model import (
    InboundMessage,
    MessageKind,
    Outcome,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    id_order,
)
from ticketrouter.moves import Move, OnCollision
from ticketrouter.repository import Batches, ForgetsMessages, TicketRepository
from ticketrouter.router import TicketRouter
from ticketrouter.testing.samples import (
    CONTACT,
    ELSEWHERE,
    KEY,
    LATER,
    MOVES,
    NOW,
    ONE_ROW,
    OTHER_COMPANY,
    STRANGER,
    a_closed,
    a_waiting,
    an_active,
    carry_out,
    counted,
    given,
    given_two_sides,
    keeps,
    moved,
    mover,
    needs,
    needs_two_words,
    queued,
    route,
    rule_of,
)
from ticketrouter.testing.store import Store

ALONE, PLAINLY, TOGETHER = "alone", "plainly", "together"
ways: pytest.MarkDecorator = pytest.mark.parametrize("way", [ALONE, PLAINLY, TOGETHER])
"""Each message by itself; by itself, and nobody joins while it is looked for; all of them as a batch."""

MESSAGE = InboundMessage(1, CONTACT, 10)
ALWAYS = Policy(reopen=Reopen.always(keep_user=True))
MANY = 1100
"""More messages than whoever cuts a batch into pieces puts into one."""
COUNTS = (0, 127, 255, 32_767, 65_535, 2**24, MAX_UNREAD, 2**31 - 2)
"""Counts at which a column that is too narrow, or a float, ends; the last leaves room for one in 32 bits."""
ALIKE: tuple[Id, ...] = (
    " ", "a", "A", "a ", " a", "á", "a\N{COMBINING ACUTE ACCENT}", "ß", "ss",
    0, "0", 1, "1", "01", "1.0", "text:1", -1, UUID(int=1), str(UUID(int=1)), UUID(int=1).hex,
    "\N{GRINNING FACE}", "\N{THUMBS UP SIGN}", "x" * 200, "x" * (MAX_ID_LENGTH - 1), "x" * MAX_ID_LENGTH,
)  # fmt: skip
"""Ids of which each is another one, though some database or some line of code takes two of them for the same."""


class RoutedClauses:
    """The clauses of which nothing but the router's answers and the rows tell."""

    text_ids: bool = True
    unknown_status: str | None = "waiting_vendor"

    # --- R1: whose tickets they are ----------------------------------------------------------------------------

    @ways
    def test_r1_who_joins_is_told_of_the_contacts_own_tickets(self, store: Store, way: str) -> None:
        """R1 and R9: what is active elsewhere is the contact's own, in this company; the newest first."""
        _, other, newest, *_ = given(
            store,
            an_active(store),
            an_active(store, ELSEWHERE),
            an_active(store, evolve(KEY, connection_id=14), updated_at=NOW + timedelta(minutes=1)),
            an_active(store, OTHER_COMPANY),
            an_active(store, evolve(ELSEWHERE, company_id=2)),
            an_active(store, evolve(STRANGER, connection_id=13)),
            a_closed(store, evolve(KEY, connection_id=15)),
        )
        found = receive(store, MESSAGE, evolve(MESSAGE, connection_id=13), way=way)

        assert outcomes(found) == [Outcome.REUSED] * 2
        assert (newest.id, other.id) == tuple(ticket.id for ticket in found[0].other_active)

    @pytest.mark.parametrize("part", ["company_id", "contact_id", "connection_id"])
    @ways
    def test_r1_ids_that_are_alike_have_tickets_of_their_own(self, store: Store, way: str, part: str) -> None:
        """R1 and R2: type, case, accent, space and the end of a long id tell companies, contacts and connections apart."""
        needs(self.text_ids and store.any_ids, "the ids of this repository are numbers")
        needs(
            part != "connection_id" or rule_of(store) is not UniqueRule.ONE_PER_CONTACT,
            "the unique rule has room for one connection",
        )
        changes: list[dict[str, Any]] = [{part: value} for value in ALIKE]
        messages = [evolve(MESSAGE, **change) for change in changes]
        created = receive(store, *messages, way=way)
        joined = receive(store, *reversed(messages), way=way)

        assert [Outcome.CREATED] * len(ALIKE) == outcomes(created)
        assert [Outcome.REUSED] * len(ALIKE) == outcomes(joined)
        assert [each.ticket.id for each in created] == [each.ticket.id for each in reversed(joined)]
        assert list(ALIKE) == [getattr(each.ticket, part) for each in created]

    @ways
    def test_r1_an_id_of_zero_is_one(self, store: Store, way: str) -> None:
        """R1 and R8: company, contact, connection, message and agent may each have the number 0."""
        keeps(store, "user_id")
        message = InboundMessage(0, 0, 0, message_id=0)
        [created] = receive(store, message, way=way)
        [again, other] = receive(store, message, evolve(message, message_id=1), way=way)
        accepted = route(store, lambda router: router.accept(0, created.ticket.id, 0))
        found = route(store, lambda router: router.find_active(message.key))

        assert outcomes([created, again, other]) == [Outcome.CREATED, Outcome.DUPLICATE, Outcome.REUSED]
        assert (0, store.statuses.accepted) == (accepted.user_id, accepted.status)
        assert accepted == found
        assert [accepted] == store.tickets()

    @ways
    def test_r1_a_group_is_a_contact_like_any_other(self, store: Store, way: str) -> None:
        """R1: whether it is a group is no part of the key."""
        in_group = InboundMessage(1, 5, 10, group_id=CONTACT)
        [created] = receive(store, in_group, way=way)
        joined = receive(store, MESSAGE, in_group, way=way)

        assert outcomes(joined) == [Outcome.REUSED] * 2
        left = evolve(created.ticket, status=store.statuses.woken(created.ticket.status), unread_messages=3)
        assert [left] == store.tickets()

    @ways
    def test_r1_the_last_closed_ticket_is_reopened(self, store: Store, way: str) -> None:
        """R1 and R9: of the tickets on this key the one closed last, whatever else was closed after it."""
        _, last, *_ = given(
            store,
            a_closed(store, closed_at=NOW, updated_at=LATER),
            a_closed(store, closed_at=NOW + timedelta(microseconds=1)),
            a_closed(store, closed_at=NOW),
            a_closed(store, ELSEWHERE, closed_at=LATER),
            a_closed(store, STRANGER, closed_at=LATER),
            a_closed(store, OTHER_COMPANY, closed_at=LATER),
        )
        reopened, joined = receive(store, MESSAGE, MESSAGE, way=way, policy=ALWAYS)

        assert outcomes([reopened, joined]) == [Outcome.REOPENED, Outcome.REUSED]
        assert last.id == reopened.ticket.id == joined.ticket.id

    @ways
    def test_r1_the_contacts_last_closed_ticket_is_reopened(self, store: Store, way: str) -> None:
        """R1 and R9: under Scope.CONTACT of all the contact's connections, and of nobody else's."""
        _, last, *_ = given(
            store,
            a_closed(store),
            a_closed(store, ELSEWHERE, closed_at=NOW + timedelta(microseconds=1)),
            a_closed(store, STRANGER, closed_at=LATER),
            a_closed(store, evolve(ELSEWHERE, company_id=2), closed_at=LATER),
        )
        policy = Policy(scope=Scope.CONTACT, reopen=Reopen.always())
        reopened, joined = receive(store, MESSAGE, MESSAGE, way=way, policy=policy)

        assert outcomes([reopened, joined]) == [Outcome.REOPENED, Outcome.REUSED]
        assert last.key == reopened.ticket.key
        assert last.id == reopened.ticket.id == joined.ticket.id

    @ways
    def test_r1_a_word_that_nobody_knows_hides_no_other_ticket(self, store: Store, way: str) -> None:
        """R1: a ticket of a status that the scheme does not know stays as it is, and the one before it is reopened."""
        word = self.unknown_status
        if word is None:
            pytest.skip("a row of this store has no status but those of the scheme")
        needs(not store.statuses.known & {word}, f"the scheme of this store knows {word}")
        strange, *_, last = given(
            store,
            a_closed(store, status=word, closed_at=NOW),
            a_closed(store, STRANGER, status=word),
            a_closed(store, closed_at=NOW - timedelta(2)),
            a_closed(store, closed_at=NOW - timedelta(1)),
        )
        other = evolve(MESSAGE, contact_id=STRANGER.contact_id)
        found = receive(store, MESSAGE, other, way=way, policy=ALWAYS)

        assert outcomes(found) == [Outcome.REOPENED, Outcome.CREATED]
        assert found[0].ticket.id == last.id
        assert strange in store.tickets()

    @ways
    def test_r1_of_tickets_closed_at_once_the_highest_id_is_reopened(self, store: Store, way: str) -> None:
        """R1: numbers are compared as numbers, so that 10 comes after 9."""
        rows = given(store, *[a_closed(store) for _ in range(12)])
        [reopened] = receive(store, MESSAGE, way=way, policy=ALWAYS)

        assert max((row.id for row in rows), key=id_order) == reopened.ticket.id

    # --- R3: counts and times ----------------------------------------------------------------------------------

    @ways
    def test_r3_a_count_is_kept_whatever_its_size(self, store: Store, way: str) -> None:
        """R3: one more is one more, and what is set is set: nothing wraps, and nothing is cut."""
        keeps(store, "unread_messages")
        rows = given(
            store,
            *[
                an_active(store, TicketKey(1, place, 10), unread_messages=count)
                for place, count in enumerate(COUNTS)
            ],
        )
        one_more = [InboundMessage(1, place, 10) for place in range(len(COUNTS))]
        counted = receive(store, *one_more, way=way)
        kept = [ticket.unread_messages for ticket in store.tickets()]
        may_be_set = [count for count in COUNTS if count <= MAX_UNREAD]
        setting = [
            evolve(each, unread_messages=count)
            for each, count in zip(one_more, reversed(may_be_set), strict=False)
        ]
        beginning = [evolve(each, contact_id=100 + place) for place, each in enumerate(setting)]
        receive(store, *setting, *beginning, way=way)
        had = {ticket.key: ticket.unread_messages for ticket in store.tickets()}

        assert [count + 1 for count in COUNTS] == [each.ticket.unread_messages for each in counted] == kept
        assert [row.id for row in rows] == [each.ticket.id for each in counted]
        assert [each.unread_messages for each in (*setting, *beginning)] == [
            had[each.key] for each in (*setting, *beginning)
        ]

    @pytest.mark.parametrize("kind", MessageKind)
    @ways
    def test_r3_a_count_goes_by_the_message(self, store: Store, way: str, kind: MessageKind) -> None:
        """R3 and R4: what opens adds one, what only attaches none; a number that is given is set, zero too."""
        keeps(store, "unread_messages")
        opens = Policy().effect(evolve(MESSAGE, kind=kind)) is Effect.OPEN
        given(store, an_active(store, unread_messages=5), a_closed(store, STRANGER, unread_messages=5))
        plain = evolve(MESSAGE, kind=kind)
        setting = evolve(plain, unread_messages=0)
        theirs = [evolve(each, contact_id=STRANGER.contact_id) for each in (setting, plain)]
        fresh = [evolve(each, contact_id=5) for each in (setting, plain)]
        found = receive(store, plain, setting, plain, *theirs, *fresh, way=way, policy=ALWAYS)
        one = 1 if opens else 0
        counted = [each.ticket.unread_messages for each in found if each.outcome is not Outcome.IGNORED]

        assert [5 + one, 0, one] + ([0, one] * 2 if opens else []) == counted

    @ways
    def test_r3_a_ticket_is_as_its_last_message_left_it(self, store: Store, way: str) -> None:
        """R3 and R4: each answer has the ticket as that message left it, and the row is as the last one did."""
        keeps(store, "unread_messages", "updated_at")
        given(store, an_active(store), a_closed(store, STRANGER))
        fresh = evolve(MESSAGE, contact_id=5)
        messages = [MESSAGE, evolve(MESSAGE, contact_id=STRANGER.contact_id), fresh] * 3
        found = receive(store, *messages, way=way, policy=ALWAYS, clock=Ticking(LATER))
        reused, reopened, created = found[0::3], found[1::3], found[2::3]

        assert outcomes(found) == [Outcome.REUSED, Outcome.REOPENED, Outcome.CREATED] + [Outcome.REUSED] * 6
        for answers, before in ((reused, 1), (reopened, 1), (created, 0)):
            times = [each.ticket.updated_at for each in answers]
            assert [before + 1, before + 2, before + 3] == [each.ticket.unread_messages for each in answers]
            assert sorted(set(times)) == times
            assert answers[-1].ticket in store.tickets()
        assert len(store.tickets()) == 3

    @pytest.mark.parametrize(
        "now",
        [NOW - timedelta(hours=1), NOW.replace(year=2039, microsecond=999_999)],
        ids=["the clock went back", "after 32 bits"],
    )
    @ways
    def test_r3_a_message_leaves_its_own_time(self, store: Store, way: str, now: datetime) -> None:
        """R3: the time of the last change is the one that the router's clock told, to the microsecond."""
        keeps(store, "updated_at")
        given(store, an_active(store))
        new = evolve(MESSAGE, contact_id=STRANGER.contact_id)
        joined, created = receive(store, MESSAGE, new, way=way, clock=lambda: now)

        assert (now, now) == (joined.ticket.updated_at, created.ticket.updated_at)
        assert (now, now) == tuple(ticket.updated_at for ticket in store.tickets())
        assert now == created.ticket.created_at

    def test_r3_a_batch_is_written_to_its_end(self, store: Store) -> None:
        """R3 and R8: however many there are, each has its ticket, and is known again."""
        store.expect(MANY)
        messages = [InboundMessage(1, contact, 10, message_id=contact) for contact in range(MANY)]
        created, again = (receive(store, *messages, way=TOGETHER) for _ in range(2))
        rows = {ticket.contact_id: ticket for ticket in store.tickets()}

        # One by one: of two long lists that differ pytest may draw for hours what differs.
        assert (len(created), len(again)) == (MANY, MANY)
        for contact, (first, second) in enumerate(zip(created, again, strict=True)):
            assert (first.outcome, second.outcome) == (Outcome.CREATED, Outcome.DUPLICATE)
            assert rows[contact] == first.ticket == second.ticket

    # --- R3, R4, R10: something happens between the look and the write -----------------------------------------

    @pytest.mark.parametrize("together", [False, True], ids=[PLAINLY, TOGETHER])
    def test_r3_a_message_does_not_join_what_was_merged_meanwhile(self, store: Store, together: bool) -> None:
        """R3: a ticket that is another contact's by now is left as the merge left it."""
        needs_mover(store)
        [ticket] = given(store, an_active(store))

        def merge(router: TicketRouter) -> None:
            router.merge_contacts(1, CONTACT, 77)

        found = meanwhile(store, merge, lambda router: router.resolve_many([MESSAGE, MESSAGE]), together)

        assert outcomes(found) == [Outcome.CREATED, Outcome.REUSED]
        assert [evolve(ticket, contact_id=77), found[-1].ticket] == store.tickets()

    @pytest.mark.parametrize("how", ["closed", "transferred"])
    def test_r3_what_others_of_a_batch_lose_is_not_lost_to_all(self, store: Store, how: str) -> None:
        """R3 and R5: where one ticket of a batch has left its key, its messages begin anew, and the others join theirs."""
        mine, theirs, free = given(
            store,
            an_active(store),
            an_active(store, STRANGER),
            a_closed(store, evolve(STRANGER, contact_id=5)),
        )
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        contacts = (STRANGER.contact_id, CONTACT, 5)
        messages = [
            evolve(MESSAGE, contact_id=contact, message_id=f"{contact}-{turn}")
            for turn in range(2)
            for contact in contacts
        ]

        def act(router: TicketRouter) -> None:
            if how == "closed":
                router.close(1, mine.id)
            else:
                router.transfer(1, mine.id, 13)

        found = meanwhile(store, act, lambda router: router.resolve_many(messages), together=True)
        again = receive(store, *messages, way=TOGETHER)
        rows = {ticket.id: ticket.unread_messages for ticket in store.tickets()}
        one, two, three = (counted(store, count) for count in (1, 2, 3))
        made = {each.ticket.id: two for each in found if each.outcome is Outcome.CREATED}

        assert outcomes(found) == [Outcome.REUSED, Outcome.CREATED, Outcome.CREATED] + [Outcome.REUSED] * 3
        assert len(made) == 2
        assert {mine.id: one, theirs.id: three, free.id: one} | made == rows
        assert outcomes(again) == [Outcome.DUPLICATE] * 6
        assert [each.ticket.id for each in found] == [each.ticket.id for each in again]

    @pytest.mark.parametrize("act", ["close", "accept", "transfer"])
    def test_r10_the_desk_overwrites_no_message_that_came_meanwhile(self, store: Store, act: str) -> None:
        """R10: whoever closes, accepts or transfers what he has seen leaves the count as it is by now."""
        keeps(store, "unread_messages", *(["user_id"] if act == "accept" else []))
        [ticket] = given(store, a_waiting(store))
        acts: dict[str, Callable[[TicketRouter], Ticket]] = {
            "close": lambda router: router.close(1, ticket.id),
            "accept": lambda router: router.accept(1, ticket.id, 8),
            "transfer": lambda router: router.transfer(1, ticket.id, 13),
        }
        done = meanwhile(store, lambda router: router.resolve(MESSAGE), acts[act])

        assert done.unread_messages == 2
        assert [done] == store.tickets()

    @pytest.mark.parametrize("act", ["close", "transfer"])
    def test_r10_the_desk_overwrites_no_agent_who_came_meanwhile(self, store: Store, act: str) -> None:
        """R10: whoever closes or transfers what he has seen leaves agent, queue and status of others as they are."""
        keeps(store, "user_id")
        [ticket] = given(store, a_waiting(store))
        acts: dict[str, Callable[[TicketRouter], Ticket]] = {
            "close": lambda router: router.close(1, ticket.id),
            "transfer": lambda router: router.transfer(1, ticket.id, 13),
        }
        done = meanwhile(store, lambda router: router.accept(1, ticket.id, 8), acts[act])
        status = store.statuses.closed if act == "close" else store.statuses.accepted

        assert (8, queued(store, 3), status) == (done.user_id, done.queue_id, done.status)
        assert [done] == store.tickets()

    @pytest.mark.parametrize("before", ["waiting", "taken by nobody", "waiting for an agent"])
    def test_r10_an_agent_who_came_first_keeps_the_ticket(self, store: Store, before: str) -> None:
        """R10: whoever accepts what another has accepted meanwhile is told so, whatever he has seen of it."""
        keeps(store, "user_id")
        seen = {
            "waiting": a_waiting(store),
            "taken by nobody": an_active(store, user_id=None),
            "waiting for an agent": a_waiting(store, user_id=7),
        }
        if before == "waiting for an agent":
            needs_two_words(store)
        [ticket] = given(store, seen[before])

        def accept(router: TicketRouter) -> Ticket | None:
            with pytest.raises(ConflictError) as refused:
                router.accept(1, ticket.id, 8)
            return refused.value.ticket

        told = meanwhile(store, lambda router: router.accept(1, ticket.id, 7), accept)

        assert evolve(ticket, status=store.statuses.accepted, user_id=7, updated_at=LATER) == told
        assert [told] == store.tickets()

    def test_r10_who_reopens_counts_what_came_meanwhile(self, store: Store) -> None:
        """R10: a ticket that was reopened, counted and closed again meanwhile keeps those messages too."""
        keeps(store, "unread_messages")
        [ticket] = given(store, a_closed(store))

        def come_and_go(router: TicketRouter) -> None:
            router.reopen(1, ticket.id)
            router.resolve_many([MESSAGE, MESSAGE])
            router.close(1, ticket.id)

        reopened = meanwhile(store, come_and_go, lambda router: router.resolve(MESSAGE), policy=ALWAYS)

        assert (Outcome.REOPENED, ticket.id, 4) == (
            reopened.outcome,
            reopened.ticket.id,
            reopened.ticket.unread_messages,
        )
        assert [reopened.ticket] == store.tickets()

    def test_r3_a_transfer_tells_where_the_ticket_was(self, store: Store) -> None:
        """R3: a ticket that another has transferred meanwhile is transferred from there, and the change says so."""
        [ticket] = given(store, an_active(store))
        moved = meanwhile(
            store,
            lambda router: router.transfer(1, ticket.id, 14),
            lambda router: router.transfer(1, ticket.id, 13),
        )

        assert moved.change is not None
        assert (moved.change.old_connection_id, moved.change.new_connection_id) == (14, 13)
        assert [moved] == store.tickets()

    def test_r3_a_transfer_sees_whose_ticket_it_is_by_now(self, store: Store) -> None:
        """R3: a ticket that was merged to another contact meanwhile meets what that contact has on the other connection."""
        needs_mover(store)
        needs(rule_of(store) is not UniqueRule.ONE_PER_CONTACT, "the unique rule has room for one connection")
        ticket, rival = given(store, an_active(store), an_active(store, TicketKey(1, 77, 13)))

        def transfer(router: TicketRouter) -> Ticket:
            with pytest.raises(ActiveTicketExistsError) as refused:
                router.transfer(1, ticket.id, 13)
            return refused.value.ticket

        met = meanwhile(store, lambda router: router.merge_contacts(1, CONTACT, 77), transfer)

        assert rival == met
        assert [evolve(ticket, contact_id=77), rival] == store.tickets()

    # --- the desk, one after another -----------------------------------------------------------------------------

    def test_r2_a_closed_ticket_is_in_no_transfers_way(self, store: Store) -> None:
        """R2: what is closed on the other connection, however often, leaves the key there free."""
        ticket, *closed = given(
            store, an_active(store), a_closed(store, ELSEWHERE), a_closed(store, ELSEWHERE, closed_at=LATER)
        )
        moved = route(store, lambda router: router.transfer(1, ticket.id, 13))

        assert evolve(ticket, connection_id=13, updated_at=LATER) == moved
        assert [moved, *closed] == store.tickets()

    def test_r4_who_closes_again_notes_the_time_again(self, store: Store) -> None:
        """R4: a reopened ticket has no time of closing, and gets a new one; the next message counts from there."""
        keeps(store, "updated_at")
        [ticket] = given(store, an_active(store))
        with store.transaction() as repository:
            router = TicketRouter(repository, clock=Ticking(LATER))
            first = router.close(1, ticket.id)
            reopened = router.reopen(1, ticket.id)
            closed = router.close(1, ticket.id)
            again = router.close(1, ticket.id)

        assert (first.updated_at, None, closed.updated_at) == tuple(
            each.closed_at for each in (first, reopened, closed)
        )
        assert closed.updated_at > reopened.updated_at > first.updated_at
        assert [closed] == [again] == store.tickets()

    # --- R8: message ids ---------------------------------------------------------------------------------------

    @ways
    def test_r8_message_ids_that_are_alike_are_different_messages(self, store: Store, way: str) -> None:
        """R8: type, case, accent, space and the end of a long id tell messages apart; all of them are known again."""
        longest = "x" * (MAX_MESSAGE_ID_LENGTH - 1)
        ids = (*ALIKE, f"{longest}y", f"{longest}z")
        messages = [evolve(MESSAGE, message_id=each) for each in ids]
        first = receive(store, *messages[::2], way=way) + receive(store, *messages[1::2], way=way)
        again = receive(store, *messages, way=way)
        [ticket] = store.tickets()

        assert [Outcome.CREATED] + [Outcome.REUSED] * (len(ids) - 1) == outcomes(first)
        assert [Outcome.DUPLICATE] * len(ids) == outcomes(again)
        assert counted(store, len(ids)) == ticket.unread_messages

    @ways
    def test_r8_every_message_of_a_ticket_is_known_again(self, store: Store, way: str) -> None:
        """R8: all that came at once, whether they created, reopened or joined; and each gets its own ticket."""
        given(store, an_active(store), a_closed(store, STRANGER))
        messages = [
            evolve(MESSAGE, contact_id=contact, message_id=f"{contact}-{turn}")
            for turn in range(3)
            for contact in (CONTACT, STRANGER.contact_id, 5)
        ]
        first = receive(store, *messages, way=way, policy=ALWAYS)
        rows = store.tickets()
        again = receive(store, *messages, *messages, way=way, policy=ALWAYS)

        assert outcomes(first) == [Outcome.REUSED, Outcome.REOPENED, Outcome.CREATED] + [Outcome.REUSED] * 6
        assert outcomes(again) == [Outcome.DUPLICATE] * 18
        assert [each.ticket.id for each in first] * 2 == [each.ticket.id for each in again]
        assert rows == store.tickets()

    @ways
    def test_r8_a_message_id_belongs_to_the_connection_of_its_message(self, store: Store, way: str) -> None:
        """R8: under Scope.CONTACT, too, where the ticket that it joins is on another one."""
        given(store, an_active(store))
        policy = Policy(scope=Scope.CONTACT)
        here, there = (evolve(MESSAGE, connection_id=each, message_id="m") for each in (10, 13))
        first, *again = receive(store, there, way=way, policy=policy) + receive(
            store, there, here, evolve(there, message_id="n"), here, way=way, policy=policy
        )
        last = receive(
            store, evolve(there, message_id="n"), evolve(here, message_id="n"), way=way, policy=policy
        )

        assert outcomes([first, *again]) == [
            Outcome.REUSED,
            Outcome.DUPLICATE,
            Outcome.REUSED,
            Outcome.REUSED,
            Outcome.DUPLICATE,
        ]
        assert outcomes(last) == [Outcome.DUPLICATE, Outcome.REUSED]

    @ways
    def test_r8_a_message_that_was_only_looked_at_is_not_known(self, store: Store, way: str) -> None:
        """R8: what was ignored, or explained, is routed when it comes again and has a ticket to join."""
        echo = evolve(MESSAGE, message_id="m", kind=MessageKind.ECHO)
        route(store, lambda router: router.explain(echo))
        [ignored] = receive(store, echo, way=way)
        given(store, an_active(store))
        route(store, lambda router: router.explain(echo))
        found = receive(store, echo, way=way) + receive(store, echo, way=way)

        assert outcomes([ignored, *found]) == [Outcome.IGNORED, Outcome.REUSED, Outcome.DUPLICATE]

    @pytest.mark.parametrize("begins", ["created", "reused", "reopened"])
    @pytest.mark.parametrize("together", [False, True], ids=[PLAINLY, TOGETHER])
    def test_r8_what_was_routed_meanwhile_is_a_duplicate(
        self, store: Store, together: bool, begins: str
    ) -> None:
        """R8: a redelivery that another has routed between look and write changes nothing, and is told the ticket."""
        rows = {"created": [], "reused": [an_active(store)], "reopened": [a_closed(store)]}
        given(store, *rows[begins])
        once, beside = evolve(MESSAGE, message_id="m"), evolve(MESSAGE, contact_id=5, message_id="n")
        routed: list[Resolution] = []
        found = meanwhile(
            store,
            lambda router: routed.append(router.resolve(once)),
            lambda router: router.resolve_many([beside, once] if together else [once]),
            together,
            ALWAYS,
        )
        rows_now = {ticket.id: ticket for ticket in store.tickets()}

        assert [begins] == [each.outcome for each in routed]
        assert found[-1].outcome is Outcome.DUPLICATE
        assert routed[0].ticket == found[-1].ticket == rows_now[routed[0].ticket.id]

    @pytest.mark.parametrize("part", ["contact_id", "connection_id"])
    def test_r8_a_move_takes_no_other_message_ids_along(self, store: Store, part: str) -> None:
        """R8 and R9: not another company's, not another connection's, and none where contacts are merged."""
        needs_mover(store)
        here, there = (7, 8)
        ids = {"of another connection": (1, 9)}
        if not store.one_company:
            ids["of another company"] = (2, here)
        if part == "contact_id":
            ids["of a connection that has the contact's id"] = (1, here)
        told = [InboundMessage(company, 5, at, message_id=name) for name, (company, at) in ids.items()]
        needs(rule_of(store) is not UniqueRule.ONE_PER_CONTACT, "the unique rule has room for one connection")
        receive(store, *told, InboundMessage(1, here, 10), way=ALONE)

        def move(router: TicketRouter) -> None:
            (router.merge_contacts if part == "contact_id" else router.move_connection)(1, here, there)

        route(store, move)
        found = receive(store, *(evolve(each, connection_id=there) for each in told), way=ALONE)

        assert Outcome.DUPLICATE not in outcomes(found)

    @pytest.mark.parametrize("hours", [-5, 9])
    @ways
    def test_r8_forgetting_goes_by_the_instant(self, store: Store, way: str, hours: int) -> None:
        """R8: ids recorded before an instant are forgotten, in whatever zone it is given; of every company."""
        with store.transaction() as repository:
            if not isinstance(repository, ForgetsMessages):
                pytest.skip("this repository forgets no message ids (ForgetsMessages)")
        old = NOW - timedelta(days=9)
        keys = [TicketKey(company, contact, 10) for company in (1, 2) for contact in (CONTACT, 5)]
        for key in keys[::2]:
            given(store, an_active(store, key, created_at=old, updated_at=old))
        moments = [NOW + timedelta(microseconds=each) for each in range(4)]
        for turn, at in enumerate(moments[:2]):
            messages = [InboundMessage(*astuple(key), message_id=f"{key.contact_id}-{turn}") for key in keys]
            receive(store, *messages, way=way, clock=lambda at=at: at)  # type: ignore[misc]
        with store.transaction() as repository:
            assert isinstance(repository, ForgetsMessages)
            zone = timezone(timedelta(hours=hours))
            found = [repository.forget_messages(each.astimezone(zone)) for each in moments]

        assert found == [0, 4, 4, 0]
        assert len(store.tickets()) == 4

    # --- R9: moves --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    @ways
    def test_r9_who_writes_to_what_was_moved_finds_nothing_there(
        self, store: Store, way: str, move: Move
    ) -> None:
        """R9: neither what was active nor what was closed is the source's any more; the target has both."""
        needs_mover(store)
        given(store, an_active(store), a_closed(store))
        rows = store.tickets()
        route(store, lambda router: carry_out(router, move))
        there = move.after(KEY)
        target = InboundMessage(there.company_id, there.contact_id, there.connection_id)
        found = receive(store, MESSAGE, target, way=way, policy=ALWAYS)

        assert outcomes(found) == [Outcome.CREATED, Outcome.REUSED]
        assert rows[0].id == found[1].ticket.id

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_may_close_all_that_collide(self, store: Store, move: Move) -> None:
        """R9: OnCollision.CLOSE_ALL closes both; what shares no key stays active."""
        needs_mover(store)
        rows = given_two_sides(store, move)
        done = route(store, lambda router: carry_out(router, move, on_collision=OnCollision.CLOSE_ALL))
        closed: dict[str, Any] = {
            "status": store.statuses.closed,
            "updated_at": LATER,
            "closed_at": LATER,
        }

        assert {rows[0].id, rows[2].id} == {closing.ticket.id for closing in done.closes}
        assert [
            moved(rows[0], move, **closed),
            moved(rows[1], move),
            evolve(rows[2], **closed),
            *(moved(row, move) for row in rows[3:]),
        ] == store.tickets()

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_may_be_refused_where_tickets_collide(self, store: Store, move: Move) -> None:
        """R9: OnCollision.REFUSE names the ticket that would stay, and writes nothing."""
        needs_mover(store)
        rows = given_two_sides(store, move)

        def refused(router: TicketRouter) -> Ticket:
            with pytest.raises(ActiveTicketExistsError) as error:
                carry_out(router, move, on_collision=OnCollision.REFUSE)
            return error.value.ticket

        assert rows[2] == route(store, refused)
        assert rows == store.tickets()

    @pytest.mark.parametrize("there", ["active", "closed"])
    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_is_blocked_where_the_rule_has_no_room(
        self, store: Store, move: Move, there: str
    ) -> None:
        """R9: where one row is allowed for ever, one at the target blocks the move, whatever its status."""
        needs_mover(store)
        needs(rule_of(store) in ONE_ROW, "the unique rule has room beside a closed ticket")
        kind = an_active if there == "active" else a_closed
        rows = given(store, an_active(store), kind(store, move.after(KEY)))

        def blocked(router: TicketRouter) -> Ticket | None:
            with pytest.raises(BlockedBySchemaError) as error:
                carry_out(router, move)
            return error.value.ticket

        assert rows[1] == route(store, blocked)
        assert rows == store.tickets()

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_is_not_hindered_by_what_it_does_not_move(self, store: Store, move: Move) -> None:
        """R9: two active tickets on a key that has no part in it, where no rule forbids them, stay as they are."""
        needs_mover(store)
        nobody = TicketKey(1, 50, 50)
        rows = given(store, an_active(store), an_active(store, nobody), an_active(store, nobody))
        done = route(store, lambda router: carry_out(router, move))

        assert ((), (rows[0].id,)) == (done.closes, done.repoints)
        assert [moved(rows[0], move), *rows[1:]] == store.tickets()

    # --- R9: whose ticket is named -------------------------------------------------------------------------------

    def test_r9_an_id_of_another_type_names_no_ticket(self, store: Store) -> None:
        """R9: the text of a number, and a text that begins with it, are not that number; they may be refused as such."""
        [ticket] = given(store, an_active(store))
        for name in (str(ticket.id), f"{ticket.id}x", f" {ticket.id}"):
            if name == ticket.id:
                continue
            with pytest.raises((TicketNotFoundError, InvalidMessageError)):
                route(store, lambda router, name=name: router.close(1, name))  # type: ignore[misc]

        assert [ticket] == store.tickets()


# --- what they are written with ----------------------------------------------------------------------------------


class Plainly:
    """A repository of which nothing is known but the three methods that every one has, and which lets nobody join."""

    def __init__(self, repository: TicketRepository) -> None:
        self.statuses: StatusScheme = repository.statuses
        self._repository = repository

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        return self._repository.load(evolve(lookup, join=None))

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        return self._repository.get(company_id, ticket_id, current=current)

    def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        return self._repository.commit(decision)


class Meanwhile(Plainly):
    """A repository under which something happens, once, after it was looked at and before it is written to."""

    def __init__(self, repository: TicketRepository, act: Callable[[], object]) -> None:
        super().__init__(repository)
        self._act: Callable[[], object] | None = act

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        found = super().load(lookup)
        self.happen()
        return found

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        found = super().get(company_id, ticket_id, current=current)
        self.happen()
        return found

    def happen(self) -> None:
        """Let it happen, if it has not."""
        act, self._act = self._act, None
        if act is not None:
            act()


class MeanwhileTogether(Meanwhile):
    """The same where batches are taken."""

    def __init__(self, repository: TicketRepository, act: Callable[[], object]) -> None:
        super().__init__(repository, act)
        if not isinstance(repository, Batches):
            pytest.skip("this repository takes no batches (Batches)")
        self._batches: Batches = repository

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """See `Batches.load_many`."""
        found = self._batches.load_many([evolve(lookup, join=None) for lookup in lookups])
        self.happen()
        return found

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """See `Batches.commit_many`."""
        return self._batches.commit_many(joints)


class Ticking:
    """A clock that goes on by a second whenever it is asked."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def __call__(self) -> datetime:
        """Tell the time."""
        self._now += timedelta(seconds=1)
        return self._now


def receive(
    store: Store,
    *messages: InboundMessage,
    way: str,
    policy: Policy = Policy(),  # noqa: B008 - a frozen value
    clock: Callable[[], datetime] = lambda: LATER,
) -> list[Resolution]:
    """Have messages routed in a transaction of their own, by one of the `ways`."""
    with store.transaction() as repository:
        asked = Plainly(repository) if way == PLAINLY else repository
        router = TicketRouter(asked, policy, clock=clock)
        if way == TOGETHER:
            return router.resolve_many(messages)
        return [router.resolve(message) for message in messages]


def meanwhile(
    store: Store,
    act: Callable[[TicketRouter], object],
    ask: Callable[[TicketRouter], Any],
    together: bool = False,
    policy: Policy = Policy(),  # noqa: B008 - a frozen value
) -> Any:
    """Ask a router for something, and let something else happen after it has looked and before it writes."""
    with store.transaction() as repository:
        kind = MeanwhileTogether if together else Meanwhile
        other = TicketRouter(repository, policy, clock=lambda: LATER)
        asked = kind(repository, lambda: act(other))
        return ask(TicketRouter(asked, policy, clock=lambda: LATER))


def needs_mover(store: Store) -> None:
    """Skip the test where the repository moves no tickets."""
    with store.transaction() as repository:
        mover(repository)


def outcomes(found: Sequence[Resolution]) -> list[Outcome]:
    """Return what became of each message."""
    return [each.outcome for each in found]
