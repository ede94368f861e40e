"""The clauses of the port, one test or more each, for any repository.

Law of this file: a test says in its name and in its first words which clause it is about; those without a number
are about the duties of the whole. Nothing is taken from the repository alone: what it says is compared with what
`Store.tickets` reads around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from attrs import evolve

from ticketrouter.checks import Id
from ticketrouter.choices import Policy, Reopen, Scope
from ticketrouter.decisions import Accept, Close, Lookup, MessageRef, Snapshot, Transfer, Unread, Write
from ticketrouter.errors import (
    ActiveTicketExistsError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    NoTicketError,
    TicketNotFoundError,
)
from ticketrouter.model import (
    InboundMessage,
    MessageKind,
    Outcome,
    Reason,
    TicketKey,
    UniqueRule,
    id_order,
)
from ticketrouter.moves import Closing, Move, OnCollision, plan_move
from ticketrouter.repository import ForgetsMessages
from ticketrouter.router import TicketRouter
from ticketrouter.testing.concurrency import ConcurrentClauses
from ticketrouter.testing.many import ManyClauses
from ticketrouter.testing.routed import Plainly, RoutedClauses
from ticketrouter.testing.samples import (
    CONTACT,
    ELSEWHERE,
    KEY,
    LATER,
    MERGE,
    MOVES,
    NOW,
    ONE_ROW,
    OTHER_COMPANY,
    STRANGER,
    Undo,
    a_closed,
    a_router,
    a_waiting,
    agent,
    an_active,
    assert_conflict,
    carry_out,
    commit,
    counted,
    create,
    given,
    given_two_sides,
    join,
    keeps,
    load,
    moved,
    mover,
    needs,
    needs_rule,
    needs_two_words,
    queued,
    reopen,
    reuse,
    route,
    rule_of,
    unused_id,
)
from ticketrouter.testing.store import Overwrites, Store
from ticketrouter.testing.words import WordsClauses


class TicketRepositoryContract(ConcurrentClauses, ManyClauses, WordsClauses, RoutedClauses):
    """What every repository must do: subclass it, give `new_store`, and let pytest find the subclass.

    Whoever has fixtures overrides the fixture `store` instead. A test that needs an ability which the repository,
    the store or its unique rule has not is skipped, with the reason. `text_ids` says whether ids may be texts,
    `unknown_status` is a word that a row may have and the scheme does not know; None: there is none.
    """

    text_ids: bool = True
    unknown_status: str | None = "waiting_vendor"

    def new_store(self) -> Store:
        """Make an empty store."""
        raise NotImplementedError("override new_store, or the fixture store: each test needs an empty store")

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """The empty store of one test."""
        store = self.new_store()
        yield store
        store.close()

    # --- R1, and what else load and get find -----------------------------------------------------------------

    def test_r1_finds_every_active_ticket_of_the_contact_and_nothing_else(self, store: Store) -> None:
        """R1: on all connections; no closed one, no other contact's, no other company's."""
        here, elsewhere, *_ = given(
            store,
            an_active(store),
            a_waiting(store, ELSEWHERE),
            a_closed(store),
            an_active(store, STRANGER),
            an_active(store, OTHER_COMPANY),
        )
        found = load(store, Lookup.at(KEY))

        assert {here, elsewhere} == set(found.active)

    def test_r1_an_unknown_contact_has_nothing(self, store: Store) -> None:
        """R1: where nobody has written yet, there is nothing to find."""
        given(store, an_active(store, STRANGER))
        found = load(store, Lookup.at(KEY, claim=True))

        assert Snapshot(unique_rule=found.unique_rule, counts=found.counts) == found

    def test_r1_what_is_found_says_whether_tickets_have_a_count(self, store: Store) -> None:
        """R1: where there is none, no answer tells one, in a batch neither."""
        given(store, an_active(store, STRANGER))

        assert ("unread_messages" not in store.lacks) is load(store, Lookup.at(KEY)).counts
        assert ("unread_messages" not in store.lacks) is load(store, Lookup.at(STRANGER)).counts

    def test_r1_every_word_of_an_active_ticket_is_one(self, store: Store) -> None:
        """R1: each active status of the host's scheme holds the key."""
        keys = {word: TicketKey(1, number, 10) for number, word in enumerate(store.statuses.active)}
        given(store, *(an_active(store, key, status=word) for word, key in keys.items()))
        found = {word: load(store, Lookup.at(key)).active for word, key in keys.items()}

        assert {word: [word] for word in keys} == {
            word: [ticket.status for ticket in active] for word, active in found.items()
        }

    def test_the_latest_closed_ticket_is_of_the_key(self, store: Store) -> None:
        """The last closed ticket on this connection is found, by its time of closing, not by its id."""
        last, *_ = given(
            store,
            a_closed(store, closed_at=LATER),
            a_closed(store, closed_at=NOW),
            a_closed(store, ELSEWHERE, closed_at=LATER + timedelta(1)),
        )
        found = load(store, Lookup.at(KEY))

        assert last == found.latest_closed

    def test_the_latest_closed_ticket_of_the_contact_is_on_any_connection(self, store: Store) -> None:
        """Under Scope.CONTACT the last closed ticket on any connection is found."""
        _, last, *_ = given(
            store,
            a_closed(store, closed_at=NOW),
            a_closed(store, ELSEWHERE, closed_at=LATER),
            a_closed(store, evolve(ELSEWHERE, company_id=2), closed_at=LATER + timedelta(1)),
        )
        policy = Policy(scope=Scope.CONTACT, reopen=Reopen.always())
        found = load(store, Lookup.of(InboundMessage(1, CONTACT, 10), policy))

        assert last == found.latest_closed

    def test_a_ticket_closed_behind_our_back_has_a_time_of_closing(self, store: Store) -> None:
        """Where nobody has noted when a ticket was closed, its last change stands for it."""
        if not isinstance(store, Overwrites):
            pytest.skip("the rows of this store cannot be changed from outside (Overwrites)")
        [ticket] = given(store, an_active(store, updated_at=LATER))
        store.overwrite(evolve(ticket, status=store.statuses.closed))
        found = load(store, Lookup.at(KEY)).latest_closed

        assert evolve(ticket, status=store.statuses.closed, closed_at=LATER) == found

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (10, "10"),
            ("a", "A"),
            ("a", "a "),
            ("jose", "josé"),
            ("\N{SMILING FACE WITH SMILING EYES}", "\N{THUMBS UP SIGN}"),
            ("text:10", 10),
            ("text:text:10", "text:10"),
            (2**63 - 1, -(2**63)),
        ],
    )
    def test_ids_that_differ_are_different_ids(self, store: Store, one: Id, other: Id) -> None:
        """Type, case, accent, trailing space and emoji tell ids apart."""
        needs(
            store.any_ids and (self.text_ids or {type(one), type(other)} == {int}),
            "the ids of this repository are numbers",
        )
        first, second = TicketKey(one, 1, 1), TicketKey(other, 1, 1)
        with store.transaction() as repository:
            repository.commit(create(first))
            repository.commit(create(second))
            found = [repository.load(Lookup.at(key)).active for key in (first, second)]

        assert [(one,), (other,)] == [tuple(t.company_id for t in active) for active in found]

    # --- R2: Create ------------------------------------------------------------------------------------------

    def test_r2_creates_the_ticket_as_decided(self, store: Store) -> None:
        """R2: every field is written as decided, and read back the same."""
        made = commit(store, create(is_group=True, queue_id=queued(store, 3)))
        status = store.statuses.of_new(is_group=True, accepted=False)

        assert [made] == store.tickets()
        assert (
            a_waiting(store, id=made.id, is_group=True, status=status, created_at=LATER, updated_at=LATER)
            == made
        )

    def test_r2_an_accepted_ticket_begins_so(self, store: Store) -> None:
        """R2: a ticket that an agent begins is accepted at once."""
        keeps(store, "user_id")
        made = commit(store, create(user_id=7, accepted=True))

        assert (store.statuses.accepted, 7) == (made.status, made.user_id)

    def test_r2_conflicts_with_an_active_ticket(self, store: Store) -> None:
        """R2 and R5: a taken key is a conflict, after which the transaction goes on, and its ticket is untouched."""
        needs_rule(store)
        given(store, an_active(store))

        assert_conflict(store, create())

    def test_r2_only_the_key_itself_is_taken(self, store: Store) -> None:
        """R2: an active ticket of another connection, contact or company is not in the way."""
        given(store, an_active(store, ELSEWHERE), an_active(store, STRANGER), an_active(store, OTHER_COMPANY))
        needs(rule_of(store) is not UniqueRule.ONE_PER_CONTACT, "the unique rule has room for one connection")
        made = commit(store, create())

        assert made in store.tickets()

    def test_r2_a_closed_ticket_is_not_in_the_way(self, store: Store) -> None:
        """R2: closed tickets of the key, however many, leave it free."""
        given(store, a_closed(store), a_closed(store))
        made = commit(store, create())

        assert made in store.tickets()

    def test_r2_conflicts_where_the_unique_rule_has_no_room(self, store: Store) -> None:
        """R2 and R5: where one row is allowed for ever, a closed one is in the way too, and load shows it."""
        needs(rule_of(store) in ONE_ROW, "the unique rule has room beside a closed ticket")
        [ticket] = given(store, a_closed(store))

        assert ticket == load(store, Lookup.at(KEY)).occupant
        assert_conflict(store, create())

    # --- R3: Reuse -------------------------------------------------------------------------------------------

    def test_r3_changes_count_and_time_only(self, store: Store) -> None:
        """R3: status, user and queue stay as they are."""
        [ticket] = given(store, an_active(store))
        used = commit(store, reuse(ticket))

        assert evolve(ticket, unread_messages=2, updated_at=LATER) == used
        assert [used] == store.tickets()

    def test_r3_a_count_that_the_message_sets_is_set(self, store: Store) -> None:
        """R3: a number given with the message replaces the count."""
        keeps(store, "unread_messages")
        [ticket] = given(store, an_active(store, unread_messages=5))
        used = commit(store, reuse(ticket, unread=Unread(set_to=0, add=1)))

        assert used.unread_messages == 0

    def test_r3_an_old_sight_of_the_ticket_does_not_win(self, store: Store) -> None:
        """R3 and R10: what others have changed meanwhile stays: status, user, queue and count."""
        keeps(store, "user_id", "unread_messages")
        [ticket] = given(store, a_waiting(store))
        with store.transaction() as repository:
            repository.commit(Accept(ticket, 8, NOW))
            repository.commit(reuse(ticket))
            used = repository.commit(reuse(ticket))

        assert (store.statuses.accepted, 8, 3) == (used.status, used.user_id, used.unread_messages)

    @pytest.mark.parametrize("how", ["closed", "moved"])
    def test_r3_conflicts_when_the_ticket_has_left_its_key(self, store: Store, how: str) -> None:
        """R3 and R5: a ticket that was closed or moved meanwhile is not touched."""
        [ticket] = given(store, an_active(store))
        commit(store, Close(ticket, NOW) if how == "closed" else Transfer(ticket, 13, NOW))

        assert_conflict(store, reuse(ticket))

    # --- R4: Reopen ------------------------------------------------------------------------------------------

    def test_r4_reopens_as_decided(self, store: Store) -> None:
        """R4: the ticket is active again, with the user and queue that were decided."""
        [ticket] = given(store, a_closed(store))
        made = commit(store, reopen(ticket, user_id=None, queue_id=queued(store, 4)))
        expected = evolve(
            ticket,
            status=store.statuses.reopened,
            user_id=None,
            queue_id=4,
            unread_messages=2,
            updated_at=LATER,
            closed_at=None,
        )

        assert expected == made
        assert [made] == store.tickets()

    def test_r4_conflicts_when_it_is_active(self, store: Store) -> None:
        """R4 and R5: a ticket that was reopened meanwhile is not reopened again."""
        [ticket] = given(store, an_active(store))

        assert_conflict(store, reopen(ticket))

    def test_r4_conflicts_when_the_key_is_taken(self, store: Store) -> None:
        """R4 and R5: where another ticket has the key, the closed one stays closed."""
        ticket, _ = given(store, a_closed(store), an_active(store))

        assert_conflict(store, reopen(ticket))

    def test_r4_conflicts_when_the_ticket_was_moved(self, store: Store) -> None:
        """R4: a closed ticket that is on another connection by now is not reopened here."""
        [ticket] = given(store, a_closed(store, ELSEWHERE))

        assert_conflict(store, reopen(evolve(ticket, connection_id=10)))

    # --- the writes of the desk ------------------------------------------------------------------------------

    def test_the_desk_accepts_while_nobody_else_has(self, store: Store) -> None:
        """Accept gives the ticket its agent; a second agent's old sight of it conflicts."""
        keeps(store, "user_id")
        [ticket] = given(store, a_waiting(store))
        taken = commit(store, Accept(ticket, 7, LATER))

        assert evolve(ticket, status=store.statuses.accepted, user_id=7, updated_at=LATER) == taken
        assert_conflict(store, Accept(ticket, 8, LATER))

    def test_the_desk_accepts_active_tickets_only(self, store: Store) -> None:
        """Accept of a ticket that was closed meanwhile conflicts."""
        keeps(store, "user_id")
        [ticket] = given(store, a_waiting(store))
        commit(store, Close(ticket, NOW))

        assert_conflict(store, Accept(ticket, 8, LATER))

    def test_the_desk_closes_an_active_ticket_once(self, store: Store) -> None:
        """Close notes the time; a second one, of a stale caller, conflicts."""
        [ticket] = given(store, an_active(store))
        closed = commit(store, Close(ticket, LATER))

        assert evolve(ticket, status=store.statuses.closed, updated_at=LATER, closed_at=LATER) == closed
        assert_conflict(store, Close(ticket, LATER))

    def test_the_desk_closes_a_ticket_that_is_as_it_was_seen(self, store: Store) -> None:
        """Close with `as_seen` does what it does without, while nobody has changed status or time since."""
        keeps(store, "updated_at")
        [ticket] = given(store, an_active(store))
        closed = commit(store, Close(ticket, LATER, as_seen=True))

        assert evolve(ticket, status=store.statuses.closed, updated_at=LATER, closed_at=LATER) == closed
        assert [closed] == store.tickets()

    @pytest.mark.parametrize("meanwhile", ["joined", "joined at the same time", "accepted", "closed"])
    def test_the_desk_closes_no_ticket_that_has_changed_since(self, store: Store, meanwhile: str) -> None:
        """Close with `as_seen` conflicts where the time alone has changed, the count alone, or the status alone."""
        keeps(store, "updated_at")
        if meanwhile == "accepted":
            keeps(store, "user_id")
            needs_two_words(store)
        if meanwhile == "joined at the same time":
            keeps(store, "unread_messages")
        [ticket] = given(store, a_waiting(store))
        match meanwhile:
            case "joined":
                commit(store, reuse(ticket, unread=Unread()))
            case "joined at the same time":
                commit(store, evolve(reuse(ticket), at=ticket.updated_at))
            case "accepted":
                commit(store, Accept(ticket, 7, ticket.updated_at))
            case _:
                commit(store, Close(ticket, ticket.updated_at))

        assert_conflict(store, Close(ticket, LATER, as_seen=True))

    def test_the_router_closes_what_was_seen(self, store: Store) -> None:
        """Who finds that a ticket may be closed closes that one: not one that a message has joined; a closed one stays."""
        keeps(store, "updated_at")
        [ticket] = given(store, an_active(store))
        joined = route(store, lambda router: router.resolve(InboundMessage(1, CONTACT, 10))).ticket
        with store.transaction() as repository, pytest.raises(ConflictError) as refused:
            a_router(repository).close(1, ticket.id, seen=ticket)
        left = store.tickets()
        closed = route(store, lambda router: router.close(1, ticket.id, seen=joined))
        again = route(store, lambda router: router.close(1, ticket.id, seen=ticket))

        assert [joined] == [refused.value.ticket] == left
        assert [closed] == [again] == store.tickets()

    def test_the_desk_transfers_to_a_free_key_only(self, store: Store) -> None:
        """Transfer moves the ticket; a taken key, and a ticket that is closed, conflict."""
        ticket, _, closed = given(store, an_active(store), an_active(store, ELSEWHERE), a_closed(store))
        assert_conflict(store, Transfer(ticket, 13, LATER))
        assert_conflict(store, Transfer(closed, 14, LATER))
        moved = commit(store, Transfer(ticket, 14, LATER))

        assert evolve(ticket, connection_id=14, updated_at=LATER) == moved

    def test_the_router_guards_the_desk(self, store: Store) -> None:
        """The life of a ticket through the router: each refusal is typed, each repetition harmless."""
        keeps(store, "user_id")
        with store.transaction() as repository:
            router = TicketRouter(repository)
            ticket = router.open(KEY, user_id=7)
            nobodys = (1, unused_id(ticket.id)) if store.one_company else (2, ticket.id)
            with pytest.raises(ActiveTicketExistsError) as exists:
                router.open(KEY)
            with pytest.raises(ActiveTicketExistsError):
                router.ensure_can_open(KEY)
            with pytest.raises(ConflictError, match="accepted by user 7"):
                router.accept(1, ticket.id, 8)
            with pytest.raises(TicketNotFoundError):
                router.close(*nobodys)
            closed = router.close(1, ticket.id)
            again = router.close(1, ticket.id)
            router.ensure_can_open(KEY)
            reopened = router.reopen(1, ticket.id)
            moved = router.transfer(1, ticket.id, 13)
            active = router.active_tickets(1, CONTACT)

        assert exists.value.ticket == ticket
        assert closed == again
        assert (store.statuses.reopened, None) == (reopened.status, reopened.user_id)
        assert [moved] == active == store.tickets()

    # --- R5, R6, R7: the host's transaction, and snapshots ---------------------------------------------------

    def test_r5_a_conflict_keeps_what_the_transaction_has_done_before(self, store: Store) -> None:
        """R5: only the refused write is undone; what the host has written before it is committed with it."""
        needs_rule(store)
        given(store, an_active(store))
        with store.transaction() as repository:
            before = repository.commit(create(STRANGER))
            with pytest.raises(ConflictError):
                repository.commit(create())

        assert before in store.tickets()

    def test_r6_after_the_hosts_rollback_nothing_remains(self, store: Store) -> None:
        """R5 and R6: no ticket, no change and no message id outlives the host's rollback."""
        needs(store.rolls_back, "this store has no transaction that could be rolled back")
        [ticket] = given(store, an_active(store))
        new = InboundMessage(1, STRANGER.contact_id, 10, message_id="m1")
        known = InboundMessage(1, CONTACT, 10, message_id="m2")
        without_id = InboundMessage(1, CONTACT, 10)

        def route_and_undo() -> None:
            with store.transaction() as repository:
                for message in (new, known, without_id):
                    TicketRouter(repository).resolve(message)
                TicketRouter(repository).transfer(1, ticket.id, 13)
                raise Undo

        with pytest.raises(Undo):
            route_and_undo()

        assert [ticket] == store.tickets()
        with store.transaction() as repository:
            outcomes = [each.outcome for each in a_router(repository).resolve_many((new, known))]
        assert outcomes == [Outcome.CREATED, Outcome.REUSED]

    def test_r7_tickets_are_snapshots(self, store: Store) -> None:
        """R7: a later write does not show in a ticket, or in a Snapshot, that was handed out."""
        with store.transaction() as repository:
            made = repository.commit(create())
            found = repository.load(Lookup.at(KEY))
            before, seen = evolve(made), evolve(found.active[0])
            repository.commit(reuse(made))

        assert (before, (seen,)) == (made, found.active)

    def test_the_same_statement_runs_many_times_on_one_connection(self, store: Store) -> None:
        """A driver that turns to prepared, generic plans still finds the unique rule."""
        needs_rule(store)
        with store.transaction() as repository:
            for contact in range(30):
                key = TicketKey(1, contact, 10)
                made = repository.commit(create(key))
                with pytest.raises(ConflictError):
                    repository.commit(create(key))
                repository.commit(Close(made, LATER))
                repository.commit(reopen(repository.get(1, made.id) or made))

        assert len(store.tickets()) == 30

    # --- R8: message ids -------------------------------------------------------------------------------------

    def test_r8_a_redelivery_gets_the_first_answer(self, store: Store) -> None:
        """R8: the same message id is a duplicate, also after its ticket was closed, and changes nothing."""
        message = InboundMessage(1, CONTACT, 10, message_id="wamid.1")
        first = route(store, lambda router: router.resolve(message))
        again = route(store, lambda router: router.resolve(message))
        closed = route(store, lambda router: router.close(1, first.ticket.id))
        after_close = route(store, lambda router: router.resolve(message))

        assert (Outcome.DUPLICATE, first.ticket) == (again.outcome, again.ticket)
        assert (Outcome.DUPLICATE, closed) == (after_close.outcome, after_close.ticket)
        assert [closed] == store.tickets()

    @pytest.mark.parametrize("scope", ["company", "connection"])
    def test_r8_a_message_id_is_known_within_company_and_connection(self, store: Store, scope: str) -> None:
        """R8: the same id on another connection, or of another company, is another message."""
        first = InboundMessage(1, CONTACT, 10, message_id="m")
        other = (
            evolve(first, company_id=2)
            if scope == "company"
            else evolve(first, connection_id=13, contact_id=STRANGER.contact_id)
        )
        with store.transaction() as repository:
            router = TicketRouter(repository)
            router.resolve(first)

            assert router.resolve(other).outcome is Outcome.CREATED

    @pytest.mark.parametrize("write", ["create", "reuse", "reopen"])
    def test_r8_who_loses_the_race_for_a_message_id_has_written_nothing(
        self, store: Store, write: str
    ) -> None:
        """R8 and R5: a message id that is recorded already is a conflict, and the ticket stays as it was."""
        commit(store, create(STRANGER, message_ref=MessageRef(STRANGER, "m")))
        ref = MessageRef(KEY, "m")
        match write:
            case "create":
                assert_conflict(store, create(message_ref=ref))
            case "reuse":
                [ticket] = given(store, an_active(store))
                assert_conflict(store, reuse(ticket, message_ref=ref))
            case _:
                [ticket] = given(store, a_closed(store))
                assert_conflict(store, reopen(ticket, message_ref=ref))

    def test_r8_a_write_that_conflicts_records_no_message_id(self, store: Store) -> None:
        """R5 and R8: after a lost race for the ticket the message id is still free."""
        [ticket] = given(store, a_closed(store))
        ref = MessageRef(KEY, "m")
        assert_conflict(store, reuse(ticket, message_ref=ref))
        assert_conflict(store, reopen(evolve(ticket, connection_id=13), message_ref=ref))
        with store.transaction() as repository:
            made = repository.commit(create(STRANGER, message_ref=MessageRef(STRANGER, "m")))

        assert made in store.tickets()

    def test_r8_a_message_id_of_another_contact_is_reported(self, store: Store) -> None:
        """R8: the same id from another contact is not routed again, and the reason says why."""
        with store.transaction() as repository:
            router = TicketRouter(repository)
            first = router.resolve(InboundMessage(1, CONTACT, 10, message_id="m"))
            other = router.resolve(InboundMessage(1, STRANGER.contact_id, 10, message_id="m"))

        assert (other.outcome, other.reason) == (Outcome.DUPLICATE, Reason.ROUTED_FOR_ANOTHER_CONTACT)
        assert [first.ticket] == store.tickets()

    def test_r8_old_message_ids_can_be_forgotten(self, store: Store) -> None:
        """R8: what was recorded before a time is forgotten, and only that; it may then be recorded again."""
        with store.transaction() as repository:
            if not isinstance(repository, ForgetsMessages):
                pytest.skip("this repository forgets no message ids (ForgetsMessages)")
            for minutes, message_id in enumerate(("old", "new")):
                router = TicketRouter(repository, clock=lambda at=minutes: NOW + timedelta(minutes=at))  # type: ignore[misc]
                router.resolve(InboundMessage(1, CONTACT, 10, message_id=message_id))
            forgotten = repository.forget_messages(NOW + timedelta(minutes=1))
            outcomes = [
                TicketRouter(repository)
                .resolve(InboundMessage(1, CONTACT, 10, message_id=message_id))
                .outcome
                for message_id in ("old", "new")
            ]
            with pytest.raises(InvalidMessageError):
                repository.forget_messages(datetime(2026, 1, 1))  # noqa: DTZ001

        assert forgotten == 1
        assert outcomes == [Outcome.REUSED, Outcome.DUPLICATE]

    # --- R9: the company -------------------------------------------------------------------------------------

    def test_r9_another_companys_ticket_does_not_exist(self, store: Store) -> None:
        """R9: get finds a ticket for its own company only."""
        [ticket] = given(store, an_active(store))
        with store.transaction() as repository:
            assert ticket == repository.get(1, ticket.id)
            assert repository.get(2, ticket.id) is None
            assert repository.get(1, unused_id(ticket.id)) is None

    def test_r9_the_current_row_of_another_company_does_not_exist_either(self, store: Store) -> None:
        """R9: whoever reads what is committed now is asked as `get` is."""
        [ticket] = given(store, an_active(store))
        with store.transaction() as repository:
            assert ticket == repository.get(1, ticket.id, current=True)
            assert repository.get(2, ticket.id, current=True) is None
            assert repository.get(1, unused_id(ticket.id), current=True) is None

    @pytest.mark.parametrize("write", ["reuse", "reopen", "accept", "close", "transfer"])
    def test_r9_another_companys_ticket_is_not_touched(self, store: Store, write: str) -> None:
        """R9: the same id under another company is a conflict, and nothing changes."""
        if write == "accept":
            keeps(store, "user_id")
        [ticket] = given(store, a_closed(store) if write == "reopen" else an_active(store))
        theirs = evolve(ticket, company_id=2)
        writes: dict[str, Write] = {
            "reuse": reuse(theirs),
            "reopen": reopen(theirs),
            "accept": Accept(theirs, 8, LATER),
            "close": Close(theirs, LATER),
            "transfer": Transfer(theirs, 13, LATER),
        }

        assert_conflict(store, writes[write])

    # --- R10: the winner's row -------------------------------------------------------------------------------

    def test_r10_a_lost_create_changes_nothing_of_the_row_in_its_way(self, store: Store) -> None:
        """R10: whatever a second create is told, the first one's status, user, queue and count stay."""
        with store.transaction() as repository:
            winner = repository.commit(
                create(user_id=agent(store, 8), queue_id=queued(store, 5), accepted=True)
            )
            with suppress(ConflictError):
                repository.commit(create())
            now = repository.get(1, winner.id)

        assert winner == now

    # --- R1a: who lets a message join while it is looked for; who does not, leaves all as it is -----------------

    def test_r1a_a_message_joins_the_ticket_of_its_key_or_leaves_it_alone(self, store: Store) -> None:
        """R1a and R10: count and time of the one ticket on the key are changed and told, and the others are reported."""
        rows = given(
            store,
            a_waiting(store, user_id=8, queue_id=5),
            an_active(store, ELSEWHERE, updated_at=NOW - timedelta(minutes=1)),
            an_active(store, evolve(KEY, connection_id=14)),
            a_closed(store),
            an_active(store, STRANGER),
        )
        here, older, newer, *_ = rows
        found = join(store, InboundMessage(1, CONTACT, 10))
        joined = evolve(here, unread_messages=2, updated_at=LATER)

        assert (newer, older) == found.active_elsewhere(10)
        if found.joined is not None:
            assert joined == found.joined
            assert [joined, *rows[1:]] == store.tickets()
        else:
            assert here in found.active
            assert rows == store.tickets()

    def test_r1a_of_several_on_the_key_the_newest_is_joined(self, store: Store) -> None:
        """R1a: without a unique rule one ticket alone: the most recently active one, ties go to the highest id."""
        old = an_active(store, updated_at=NOW - timedelta(minutes=1))
        rows = given(store, an_active(store), an_active(store), old)
        found = join(store, InboundMessage(1, CONTACT, 10))
        joined = evolve(rows[1], unread_messages=2, updated_at=LATER)

        assert found.joined in (None, joined)
        assert (rows if found.joined is None else [rows[0], joined, rows[2]]) == store.tickets()

    @pytest.mark.parametrize(
        ("message", "count"),
        [
            (InboundMessage(1, CONTACT, 10, unread_messages=0), 0),
            (InboundMessage(1, CONTACT, 10, kind=MessageKind.ECHO), 1),
            (InboundMessage(1, CONTACT, 10, kind=MessageKind.NOTICE, unread_messages=9), 9),
        ],
        ids=["set", "attaches", "attaches and sets"],
    )
    def test_r1a_who_joins_counts_as_the_policy_says(
        self, store: Store, message: InboundMessage, count: int
    ) -> None:
        """R1a: a number that is given is set; a kind that only attaches adds nothing."""
        rows = given(store, an_active(store))
        found = join(store, message)
        counted = [evolve(rows[0], unread_messages=count, updated_at=LATER)]

        assert (rows if found.joined is None else counted) == store.tickets()

    @pytest.mark.parametrize("nearest", ["elsewhere", "stranger", "other company"])
    @pytest.mark.parametrize("scope", Scope)
    def test_r1a_nothing_is_joined_beside_the_key(self, store: Store, nearest: str, scope: Scope) -> None:
        """R1a and R9: no ticket of another connection, contact or company; and what is told is what load tells."""
        key = {"elsewhere": ELSEWHERE, "stranger": STRANGER, "other company": OTHER_COMPANY}[nearest]
        [ticket] = given(store, an_active(store, key))
        message, policy = InboundMessage(1, CONTACT, 10), Policy(scope=scope)
        found = join(store, message, policy)

        assert [ticket] == store.tickets()
        assert found == load(store, Lookup.of(message, policy))

    def test_r1a_no_closed_ticket_is_joined(self, store: Store) -> None:
        """R1a: a closed ticket of the key stays as it is."""
        [ticket] = given(store, a_closed(store))
        found = join(store, InboundMessage(1, CONTACT, 10))

        assert [ticket] == store.tickets()
        assert found.joined is None

    def test_r1a_who_may_not_join_does_not(self, store: Store) -> None:
        """R1a: a look that is not told what a message would do changes nothing, whatever it is about."""
        rows = given(store, an_active(store))
        message = InboundMessage(1, CONTACT, 10, message_id="m")
        lookups = Lookup.of(message, Policy()), Lookup.at(KEY), Lookup.at(KEY, claim=True), Lookup(1, CONTACT)
        found = [load(store, lookup) for lookup in lookups]
        outcome = route(store, lambda router: router.explain(message)).answer.outcome

        assert [each.joined for each in found] == [None] * 4
        assert outcome is Outcome.REUSED
        assert rows == store.tickets()

    def test_r8_who_joins_has_its_message_id_recorded_or_leaves_it_free(self, store: Store) -> None:
        """R1a and R8: the message id is recorded with the ticket; where it is recorded already nothing is joined."""
        given(store, an_active(store))
        message = InboundMessage(1, CONTACT, 10, message_id="m")
        first = join(store, message)
        again = join(store, message)
        outcome = route(store, lambda router: router.resolve(message)).outcome
        [ticket] = store.tickets()

        assert again.joined is None or first.joined is None
        assert outcome is (Outcome.REUSED if first.joined is again.joined is None else Outcome.DUPLICATE)
        assert counted(store, 2) == ticket.unread_messages

    # --- moves, where there are any --------------------------------------------------------------------------

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_closes_what_collides_and_takes_all_of_its_company(
        self, store: Store, move: Move
    ) -> None:
        """R9: the older of two is closed, then all of the source is re-pointed; no other company's, no other key's."""
        rows = given_two_sides(store, move)
        with store.transaction() as repository:
            mover(repository)
            done = carry_out(a_router(repository), move)
        closed = {"status": store.statuses.closed, "updated_at": LATER, "closed_at": LATER}
        kept = evolve(rows[2], unread_messages=2)

        assert load(store, Lookup.at(KEY)).active == (() if move is MERGE else (moved(kept, move),))
        assert (Closing(rows[0], rows[2]),) == done.closes
        assert sorted((rows[0].id, rows[1].id, rows[3].id), key=id_order) == list(done.repoints)
        assert [
            moved(rows[0], move, **closed),
            moved(rows[1], move),
            kept,
            *(moved(row, move) for row in rows[3:]),
        ] == store.tickets()

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r3_a_ticket_that_is_kept_counts_what_is_closed_for_it(self, store: Store, move: Move) -> None:
        """R3: several are closed for one; it has their unread messages besides its own, and is else as it was."""
        keeps(store, "unread_messages")
        needs(rule_of(store) is UniqueRule.NONE, "the unique rule has no room for several on one key")
        times = [NOW + timedelta(minutes=minute) for minute in range(3)]
        rows = given(
            store,
            an_active(store, unread_messages=5, updated_at=times[0]),
            an_active(store, unread_messages=0, updated_at=times[1]),
            a_waiting(store, move.after(KEY), unread_messages=40, updated_at=times[2]),
            an_active(store, move.after(KEY), unread_messages=300),
        )
        with store.transaction() as repository:
            mover(repository)
            done = carry_out(a_router(repository), move)

        assert {rows[2]} == {closing.kept for closing in done.closes}
        assert evolve(rows[2], unread_messages=345) == store.tickets()[2]
        assert [t.unread_messages for t in store.tickets() if t.id != rows[2].id] == [5, 0, 300]

    @pytest.mark.parametrize("act", ["joins", "is read"])
    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r3_it_counts_what_there_is_when_that_is_closed(self, store: Store, move: Move, act: str) -> None:
        """R3: a message that joins after the survey, on either side, is counted; or the plan is outdated, and made anew."""
        keeps(store, "unread_messages")
        rows = given_two_sides(store, move)
        one_more = Unread(add=1) if act == "joins" else Unread(set_to=0)
        with store.transaction() as repository:
            plan = plan_move(
                move, mover(repository).survey_move(move, claim=True), OnCollision.KEEP_NEWEST, LATER
            )
            for row in (rows[0], rows[2]):
                repository.commit(reuse(row, unread=one_more))
            try:
                mover(repository).commit_move(plan)
            except ConflictError:
                carry_out(a_router(repository), move)
        left = {ticket.id: ticket for ticket in store.tickets()}

        assert (4 if act == "joins" else 0) == left[rows[2].id].unread_messages

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r9_a_move_may_keep_the_ticket_that_an_agent_has(self, store: Store, move: Move) -> None:
        """R9: OnCollision.KEEP_ACCEPTED closes the newer one, which nobody has taken, and counts its messages."""
        if "user_id" in store.lacks:  # nothing but the word tells then who has been taken
            needs_two_words(store)
        rows = given_two_sides(store, move)
        with store.transaction() as repository:
            mover(repository)
            done = carry_out(a_router(repository), move, on_collision=OnCollision.KEEP_ACCEPTED)

        assert (Closing(rows[2], rows[0]),) == done.closes
        assert [
            moved(rows[0], move, unread_messages=2),
            moved(rows[1], move),
            evolve(rows[2], status=store.statuses.closed, updated_at=LATER, closed_at=LATER),
            *(moved(row, move) for row in rows[3:]),
        ] == store.tickets()

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r6_after_the_hosts_rollback_no_move_remains(self, store: Store, move: Move) -> None:
        """R6: neither a closing nor a re-pointing outlives the host's rollback."""
        needs(store.rolls_back, "this store has no transaction that could be rolled back")
        rows = given_two_sides(store, move)
        with suppress(Undo), store.transaction() as repository:
            mover(repository)
            carry_out(a_router(repository), move)
            raise Undo

        assert rows == store.tickets()

    @pytest.mark.parametrize("meanwhile", ["closed", "new at the source", "new at the target"])
    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r5_an_outdated_plan_is_a_conflict_that_leaves_nothing(
        self, store: Store, move: Move, meanwhile: str
    ) -> None:
        """R5: whatever has changed since the survey; afterwards the transaction reads, writes and commits."""
        if meanwhile == "new at the target":
            needs_rule(store)
        rows = given_two_sides(store, move)
        with store.transaction() as repository:
            survey = mover(repository).survey_move(move)
        match meanwhile:
            case "closed":
                commit(store, Close(rows[0], NOW))
            case "new at the source":
                store.insert(
                    an_active(
                        store, evolve(KEY, connection_id=60) if move is MERGE else evolve(KEY, contact_id=60)
                    )
                )
            case _:
                store.insert(an_active(store, move.after(rows[3].key)))
        plan = plan_move(move, survey, OnCollision.KEEP_NEWEST, LATER)
        before = store.tickets()
        with store.transaction() as repository:
            with pytest.raises(ConflictError):
                mover(repository).commit_move(plan)
            other = repository.commit(create(TicketKey(1, 99, 1)))

        assert [*before, other] == store.tickets()

    @pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
    def test_r8_a_redelivery_after_a_move_is_a_duplicate(self, store: Store, move: Move) -> None:
        """R8: under the new id, and under the old one for what was still on its way; a record of the target stays."""
        message = InboundMessage(1, CONTACT, 10, message_id="m")
        others = [
            InboundMessage(1, contact, connection, message_id="n")
            for contact, connection in ((50, 10), (51, 13))
        ]
        with store.transaction() as repository:
            mover(repository)
            first, _, there = a_router(repository).resolve_many((message, *others))
        with store.transaction() as repository:
            carry_out(a_router(repository), move)
        key = move.after(message.key)
        redelivered = evolve(message, contact_id=key.contact_id, connection_id=key.connection_id)
        with store.transaction() as repository:
            again = a_router(repository).resolve_many((redelivered, message, others[1]))

        assert [each.outcome for each in again] == [Outcome.DUPLICATE] * 3
        assert [first.ticket.id, first.ticket.id, there.ticket.id] == [each.ticket.id for each in again]

    def test_r8_message_ids_go_on_from_a_connection_that_has_no_tickets_any_more(self, store: Store) -> None:
        """R8: what was recorded on a connection is known on every one that it is moved to, its tickets or not."""
        message = InboundMessage(1, CONTACT, 10, message_id="m")
        with store.transaction() as repository:
            mover(repository)
            router = a_router(repository)
            first = router.resolve(message)
            router.move_connection(1, 10, 13)
            done = router.move_connection(1, 10, 14)
            again = router.resolve(evolve(message, connection_id=14))

        assert done.repoints == ()
        assert (Outcome.DUPLICATE, first.ticket.id) == (again.outcome, again.ticket.id)

    # --- the router on top -----------------------------------------------------------------------------------

    def test_an_ignored_message_leaves_no_trace(self, store: Store) -> None:
        """An echo without an active ticket writes nothing, and is looked at anew when it comes again."""
        echo = InboundMessage(1, CONTACT, 10, message_id="m", kind=MessageKind.ECHO)
        ignored = route(store, lambda router: router.resolve(echo))

        assert ignored.outcome is Outcome.IGNORED
        assert store.tickets() == []
        with pytest.raises(NoTicketError):
            _ = ignored.ticket

    def test_the_reopen_window_is_measured_from_closing(self, store: Store) -> None:
        """What was closed inside the window is reopened, at its very edge too; later there is a new ticket."""
        keeps(store, "user_id")
        needs(rule_of(store) not in ONE_ROW, "the unique rule has no room for a second row")
        policy = Policy(reopen=Reopen.within(timedelta(hours=2), keep_user=True))
        [closed] = given(store, a_closed(store))
        message = InboundMessage(1, CONTACT, 10)
        with store.transaction() as repository:
            inside = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(hours=2))
            reopened = inside.resolve(message)
            inside.close(1, closed.id)
            outside = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(hours=4, microseconds=1))
            created = outside.resolve(message)

        assert (Outcome.REOPENED, closed.id, 7) == (
            reopened.outcome,
            reopened.ticket.id,
            reopened.ticket.user_id,
        )
        assert created.outcome is Outcome.CREATED

    def test_one_conversation_over_all_connections(self, store: Store) -> None:
        """Under Scope.CONTACT a message joins the ticket on another connection, which keeps its connection."""
        with store.transaction() as repository:
            router = TicketRouter(repository, Policy(scope=Scope.CONTACT))
            first = router.resolve(InboundMessage(1, CONTACT, 10))
            second = router.resolve(InboundMessage(1, CONTACT, 13))

        assert (second.outcome, second.reason) == (Outcome.REUSED, Reason.ACTIVE_FOR_CONTACT)
        assert (first.ticket.id, 10) == (second.ticket.id, second.ticket.connection_id)

    def test_gives_up_when_every_attempt_is_lost(self, store: Store) -> None:
        """A router whose every write is overtaken says so, and may be run again by the host."""
        [ticket] = given(store, an_active(store))
        with store.transaction() as repository:
            router = TicketRouter(Overtaken(repository))
            with pytest.raises(ContentionError, match="8 lost races") as error:
                router.resolve(InboundMessage(1, CONTACT, 10))

        assert error.value.retryable
        assert [ticket] == store.tickets()


class Overtaken(Plainly):
    """A repository that shows each ticket as it was before it was moved here."""

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        found = super().load(lookup)
        return evolve(
            found,
            active=tuple(evolve(each, connection_id=10, id=unused_id(each.id)) for each in found.active),
        )
