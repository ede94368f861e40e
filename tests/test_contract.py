"""The clauses of the port, one test or more each, on every back end and driver."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from tests.backends import Store
from ticketrouter import (
    ActiveTicketExistsError,
    ConflictError,
    ContentionError,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    NoTicketError,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
)
from ticketrouter import policy as decisions
from ticketrouter.checks import Id
from ticketrouter.lifecycle import Accept, Close, Transfer
from ticketrouter.policy import Create, Lookup, MessageRef, Reuse, Unread

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
KEY = TicketKey(1, 5511999999999, 10)


class UndoError(Exception):
    """Raised by a test to have the host roll back."""


def a_ticket(key: TicketKey = KEY, status: str = "open", **changes: object) -> Ticket:
    values: dict[str, object] = {
        "id": 0,
        "company_id": key.company_id,
        "contact_id": key.contact_id,
        "connection_id": key.connection_id,
        "status": status,
        "is_group": False,
        "unread_messages": 1,
        "user_id": 7,
        "queue_id": 3,
        "created_at": NOW,
        "updated_at": NOW,
        "closed_at": None if status in {"open", "pending"} else NOW,
    }
    return Ticket(**(values | changes))  # type: ignore[arg-type]


def create(key: TicketKey = KEY, **changes: object) -> Create:
    return Create(key, LATER, Reason.NO_ACTIVE_TICKET, unread_messages=1, **changes)  # type: ignore[arg-type]


def reuse(ticket: Ticket, **changes: object) -> Reuse:
    return Reuse(ticket, LATER, Reason.ACTIVE_ON_CONNECTION, Unread(add=1), **changes)  # type: ignore[arg-type]


def reopen(ticket: Ticket, **changes: object) -> decisions.Reopen:
    return decisions.Reopen(ticket, LATER, Reason.WITHIN_REOPEN_WINDOW, unread=Unread(add=1), **changes)  # type: ignore[arg-type]


def conflict(store: Store, decision: object) -> None:
    """The write is refused as a conflict, and afterwards the transaction still reads, writes and commits."""
    before = store.tickets()
    with store.transaction() as repository:
        with pytest.raises(ConflictError):
            repository.commit(decision)  # type: ignore[arg-type]
        other = repository.commit(create(TicketKey(99, "after", len(before))))

    assert [*before, other] == store.tickets()


class TestLoad:
    def test_r1_finds_every_active_ticket_of_the_contact_and_nothing_else(self, store: Store) -> None:
        """R1: all connections, no closed one, no other contact's, no other company's."""
        here = store.insert(a_ticket())
        elsewhere = store.insert(a_ticket(TicketKey(1, 5511999999999, 13), "pending"))
        store.insert(a_ticket(status="closed"))
        store.insert(a_ticket(TicketKey(1, 5511888888888, 10)))
        store.insert(a_ticket(TicketKey(2, 5511999999999, 10)))
        with store.transaction() as repository:
            found = repository.load(Lookup.at(KEY))

        assert {here, elsewhere} == set(found.active)

    def test_the_latest_closed_ticket_is_of_the_key(self, store: Store) -> None:
        """The last closed ticket on this connection is found, by its time of closing, not by its id."""
        last = store.insert(a_ticket(status="closed", closed_at=LATER))
        store.insert(a_ticket(status="closed", closed_at=NOW))
        store.insert(a_ticket(TicketKey(1, 5511999999999, 13), "closed", closed_at=LATER + timedelta(1)))
        with store.transaction() as repository:
            found = repository.load(Lookup.at(KEY))

        assert last == found.latest_closed

    def test_the_latest_closed_ticket_of_the_contact_is_on_any_connection(self, store: Store) -> None:
        """Under Scope.CONTACT the last closed ticket on any connection is found."""
        store.insert(a_ticket(status="closed", closed_at=NOW))
        last = store.insert(a_ticket(TicketKey(1, 5511999999999, 13), "closed", closed_at=LATER))
        store.insert(a_ticket(TicketKey(2, 5511999999999, 13), "closed", closed_at=LATER + timedelta(1)))
        lookup = Lookup.of(
            InboundMessage(1, 5511999999999, 10), Policy(scope=Scope.CONTACT, reopen=Reopen.always())
        )
        with store.transaction() as repository:
            found = repository.load(lookup)

        assert last == found.latest_closed

    def test_a_ticket_closed_behind_our_back_has_a_time_of_closing(self, store: Store) -> None:
        """Where nobody has noted when a ticket was closed, its last change stands for it."""
        ticket = store.insert(a_ticket(updated_at=LATER))
        store.close_behind(ticket)
        with store.transaction() as repository:
            found = repository.load(Lookup.at(KEY)).latest_closed

        assert evolve(ticket, status="closed", closed_at=LATER) == found

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
        """Type, case, accent, trailing space and emoji tell ids apart, on every back end."""
        first, second = TicketKey(one, "c", "x"), TicketKey(other, "c", "x")
        with store.transaction() as repository:
            repository.commit(create(first))
            repository.commit(create(second))
            found = [repository.load(Lookup.at(key)).active for key in (first, second)]

        assert [(one,), (other,)] == [tuple(t.company_id for t in active) for active in found]

    def test_r9_another_companys_ticket_does_not_exist(self, store: Store) -> None:
        """R9: get finds a ticket for its own company only."""
        ticket = store.insert(a_ticket())
        with store.transaction() as repository:
            assert ticket == repository.get(1, ticket.id)
            assert repository.get(2, ticket.id) is None
            assert repository.get(1, 10**9) is None


class TestCreate:
    def test_creates_the_ticket_as_decided(self, store: Store) -> None:
        """Every field is written as decided, and read back the same."""
        with store.transaction() as repository:
            made = repository.commit(create(is_group=True, queue_id=3))

        assert [made] == store.tickets()
        assert (
            a_ticket(
                id=made.id,
                status="pending",
                is_group=True,
                user_id=None,
                created_at=LATER,
                updated_at=LATER,
            )
            == made
        )

    def test_an_accepted_ticket_begins_open(self, store: Store) -> None:
        """A ticket that an agent begins is accepted at once."""
        with store.transaction() as repository:
            made = repository.commit(create(user_id=7, accepted=True))

        assert ("open", 7) == (made.status, made.user_id)

    def test_r2_conflicts_with_an_active_ticket(self, store: Store) -> None:
        """R2 and R5: a taken key is a conflict, after which the transaction goes on."""
        store.insert(a_ticket())

        conflict(store, create())

    def test_a_closed_ticket_is_not_in_the_way(self, store: Store) -> None:
        """Closed tickets of the key, however many, leave it free."""
        store.insert(a_ticket(status="closed"))
        store.insert(a_ticket(status="closed"))
        with store.transaction() as repository:
            made = repository.commit(create())

        assert made in store.tickets()


class TestReuse:
    def test_r3_changes_count_and_time_only(self, store: Store) -> None:
        """R3: status, user and queue stay as they are."""
        ticket = store.insert(a_ticket())
        with store.transaction() as repository:
            used = repository.commit(reuse(ticket))

        assert evolve(ticket, unread_messages=2, updated_at=LATER) == used
        assert [used] == store.tickets()

    def test_a_count_that_the_message_sets_is_set(self, store: Store) -> None:
        """A number given with the message replaces the count."""
        ticket = store.insert(a_ticket(unread_messages=5))
        with store.transaction() as repository:
            used = repository.commit(evolve(reuse(ticket), unread=Unread(set_to=0, add=1)))

        assert used.unread_messages == 0

    def test_r3_an_old_sight_of_the_ticket_does_not_win(self, store: Store) -> None:
        """R3 and R10: what others have changed meanwhile stays: status, user, queue and count."""
        ticket = store.insert(a_ticket(status="pending", user_id=None))
        with store.transaction() as repository:
            repository.commit(Accept(ticket, 8, NOW))
            repository.commit(reuse(ticket))
            used = repository.commit(reuse(ticket))

        assert ("open", 8, 3) == (used.status, used.user_id, used.unread_messages)

    @pytest.mark.parametrize("how", ["closed", "moved"])
    def test_r3_conflicts_when_the_ticket_has_left_its_key(self, store: Store, how: str) -> None:
        """R3 and R5: a ticket that was closed or moved meanwhile is not touched."""
        ticket = store.insert(a_ticket())
        with store.transaction() as repository:
            repository.commit(Close(ticket, NOW) if how == "closed" else Transfer(ticket, 13, NOW))

        conflict(store, reuse(ticket))

    def test_r9_another_companys_ticket_is_not_touched(self, store: Store) -> None:
        """R9: the same id under another company is a conflict, and nothing changes."""
        ticket = store.insert(a_ticket())

        conflict(store, reuse(evolve(ticket, company_id=2)))


class TestReopen:
    def test_r4_reopens_as_decided(self, store: Store) -> None:
        """R4: the ticket is active again, with the user and queue that were decided."""
        ticket = store.insert(a_ticket(status="closed"))
        with store.transaction() as repository:
            made = repository.commit(reopen(ticket, user_id=None, queue_id=4))

        expected = evolve(
            ticket,
            status="pending",
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
        ticket = store.insert(a_ticket())

        conflict(store, reopen(ticket))

    def test_r4_conflicts_when_the_key_is_taken(self, store: Store) -> None:
        """R4 and R5: where another ticket has the key, the closed one stays closed."""
        ticket = store.insert(a_ticket(status="closed"))
        store.insert(a_ticket())

        conflict(store, reopen(ticket))

    def test_r4_conflicts_when_the_ticket_was_moved(self, store: Store) -> None:
        """R4: a closed ticket that is on another connection by now is not reopened here."""
        ticket = store.insert(a_ticket(TicketKey(1, 5511999999999, 13), "closed"))

        conflict(store, reopen(evolve(ticket, connection_id=10)))


class TestDesk:
    def test_accepts_while_nobody_else_has(self, store: Store) -> None:
        """Accept gives the ticket its agent; a second agent's old sight of it conflicts."""
        ticket = store.insert(a_ticket(status="pending", user_id=None))
        with store.transaction() as repository:
            taken = repository.commit(Accept(ticket, 7, LATER))

        assert evolve(ticket, status="open", user_id=7, updated_at=LATER) == taken
        conflict(store, Accept(ticket, 8, LATER))

    def test_closes_an_active_ticket_once(self, store: Store) -> None:
        """Close notes the time; a second one, of a stale caller, conflicts."""
        ticket = store.insert(a_ticket())
        with store.transaction() as repository:
            closed = repository.commit(Close(ticket, LATER))

        assert evolve(ticket, status="closed", updated_at=LATER, closed_at=LATER) == closed
        conflict(store, Close(ticket, LATER))

    def test_transfers_to_a_free_key_only(self, store: Store) -> None:
        """Transfer moves the ticket; a taken key, and a ticket that is closed, conflict."""
        ticket = store.insert(a_ticket())
        store.insert(a_ticket(TicketKey(1, 5511999999999, 13)))
        closed = store.insert(a_ticket(status="closed"))
        conflict(store, Transfer(ticket, 13, LATER))
        conflict(store, Transfer(closed, 14, LATER))
        with store.transaction() as repository:
            moved = repository.commit(Transfer(ticket, 14, LATER))

        assert evolve(ticket, connection_id=14, updated_at=LATER) == moved

    def test_the_router_guards_the_desk(self, store: Store) -> None:
        """The life of a ticket through the router: each refusal is typed, each repetition harmless."""
        with store.transaction() as repository:
            router = TicketRouter(repository)
            ticket = router.open(KEY, user_id=7)
            with pytest.raises(ActiveTicketExistsError) as exists:
                router.open(KEY)
            with pytest.raises(ActiveTicketExistsError):
                router.ensure_can_open(KEY)
            with pytest.raises(ConflictError, match="accepted by user 7"):
                router.accept(1, ticket.id, 8)
            with pytest.raises(TicketNotFoundError):
                router.close(2, ticket.id)
            closed = router.close(1, ticket.id)
            again = router.close(1, ticket.id)
            router.ensure_can_open(KEY)
            reopened = router.reopen(1, ticket.id)
            moved = router.transfer(1, ticket.id, 13)
            active = router.active_tickets(1, 5511999999999)

        assert exists.value.ticket == ticket
        assert closed == again
        assert ("pending", None) == (reopened.status, reopened.user_id)
        assert [moved] == active == store.tickets()


class TestTransactions:
    def test_r6_after_the_hosts_rollback_nothing_remains(self, store: Store) -> None:
        """R5 and R6: no ticket, no change and no message id outlives the host's rollback."""
        if not store.rolls_back:
            pytest.skip("memory has no transaction of the host")
        ticket = store.insert(a_ticket(TicketKey(1, "kept", 10)))
        messages = [
            InboundMessage(1, "new", 10, message_id="m1"),
            InboundMessage(1, "kept", 10, message_id="m2"),
        ]

        def route_and_undo() -> None:
            with store.transaction() as repository:
                for message in messages:
                    TicketRouter(repository).resolve(message)
                TicketRouter(repository).transfer(1, ticket.id, 13)
                raise UndoError

        with pytest.raises(UndoError):
            route_and_undo()

        assert [ticket] == store.tickets()
        with store.transaction() as repository:
            outcomes = [TicketRouter(repository).resolve(message).outcome for message in messages]
        assert [Outcome.CREATED, Outcome.REUSED] == outcomes

    def test_r7_tickets_are_snapshots(self, store: Store) -> None:
        """R7: a later write does not show in a ticket that was handed out."""
        with store.transaction() as repository:
            made = repository.commit(create())
            before = evolve(made)
            repository.commit(reuse(made))

        assert before == made

    def test_the_same_statement_runs_many_times_on_one_connection(self, store: Store) -> None:
        """A driver that turns to prepared, generic plans still finds the unique rule."""
        with store.transaction() as repository:
            for contact in range(30):
                key = TicketKey(1, contact, 10)
                made = repository.commit(create(key))
                with pytest.raises(ConflictError):
                    repository.commit(create(key))
                repository.commit(Close(made, LATER))
                repository.commit(reopen(repository.get(1, made.id) or made))

        assert len(store.tickets()) == 30


class TestMessageIds:
    def test_r8_a_redelivery_gets_the_first_answer(self, store: Store) -> None:
        """R8: the same message id is a duplicate, also after its ticket was closed, and changes nothing."""
        message = InboundMessage(1, 5511999999999, 10, message_id="wamid.1")
        with store.transaction() as repository:
            first = TicketRouter(repository).resolve(message)
        with store.transaction() as repository:
            again = TicketRouter(repository).resolve(message)
            closed = TicketRouter(repository).close(1, first.ticket.id)
        with store.transaction() as repository:
            after_close = TicketRouter(repository).resolve(message)

        assert (Outcome.DUPLICATE, first.ticket) == (again.outcome, again.ticket)
        assert (Outcome.DUPLICATE, closed) == (after_close.outcome, after_close.ticket)
        assert [closed] == store.tickets()

    @pytest.mark.parametrize("scope", ["company", "connection"])
    def test_r8_a_message_id_is_known_within_company_and_connection(self, store: Store, scope: str) -> None:
        """R8: the same id on another connection, or of another company, is another message."""
        other = InboundMessage(
            2 if scope == "company" else 1, "c", 13 if scope == "connection" else 10, message_id="m"
        )
        with store.transaction() as repository:
            router = TicketRouter(repository)
            router.resolve(InboundMessage(1, "c", 10, message_id="m"))

            assert router.resolve(other).outcome is Outcome.CREATED

    @pytest.mark.parametrize("message_id", [" ", "A", "a", "a ", "\N{GRINNING FACE}", "x" * 1000, 1, "1"])
    def test_r8_message_ids_are_told_apart_to_the_byte(self, store: Store, message_id: Id) -> None:
        """R8: case, trailing space, length and type of a message id count."""
        with store.transaction() as repository:
            router = TicketRouter(repository)
            for known in ("b", "B", "b ", "\N{THUMBS UP SIGN}", "x" * 999, 2, "2"):
                router.resolve(InboundMessage(1, "c", 10, message_id=known))
            first = router.resolve(InboundMessage(1, "c", 10, message_id=message_id))
            second = router.resolve(InboundMessage(1, "c", 10, message_id=message_id))

        assert (Outcome.REUSED, Outcome.DUPLICATE) == (first.outcome, second.outcome)

    @pytest.mark.parametrize("write", ["create", "reuse", "reopen"])
    def test_r8_who_loses_the_race_for_a_message_id_has_written_nothing(
        self, store: Store, write: str
    ) -> None:
        """R8 and R5: a message id that is recorded already is a conflict, and the ticket stays as it was."""
        first = TicketKey(1, "first", 10)
        with store.transaction() as repository:
            repository.commit(create(first, message_ref=MessageRef(first, "m")))
        ref = MessageRef(KEY, "m")
        if write == "create":
            conflict(store, create(message_ref=ref))
        elif write == "reuse":
            conflict(store, reuse(store.insert(a_ticket()), message_ref=ref))
        else:
            conflict(store, reopen(store.insert(a_ticket(status="closed")), message_ref=ref))

    def test_r8_a_write_that_conflicts_records_no_message_id(self, store: Store) -> None:
        """R5 and R8: after a lost race for the ticket the message id is still free."""
        ticket = store.insert(a_ticket(status="closed"))
        ref = MessageRef(KEY, "m")
        conflict(store, reuse(ticket, message_ref=ref))
        conflict(store, reopen(evolve(ticket, connection_id=13), message_ref=ref))
        with store.transaction() as repository:
            made = repository.commit(create(message_ref=ref))

        assert made.status == "pending"

    def test_a_message_id_of_another_contact_is_reported(self, store: Store) -> None:
        """The same id from another contact is not routed again, and the reason says why."""
        with store.transaction() as repository:
            router = TicketRouter(repository)
            first = router.resolve(InboundMessage(1, "c", 10, message_id="m"))
            other = router.resolve(InboundMessage(1, "d", 10, message_id="m"))

        assert (Outcome.DUPLICATE, Reason.ROUTED_FOR_ANOTHER_CONTACT) == (other.outcome, other.reason)
        assert [first.ticket] == store.tickets()

    def test_old_message_ids_can_be_forgotten(self, store: Store) -> None:
        """What was recorded before a time is forgotten, and only that; its redelivery is then a new message."""
        with store.transaction() as repository:
            for minutes, message_id in enumerate(("old", "new")):
                router = TicketRouter(repository, clock=lambda at=minutes: NOW + timedelta(minutes=at))  # type: ignore[misc]
                router.resolve(InboundMessage(1, "c", 10, message_id=message_id))
            forgotten = store.forget_messages(repository, NOW + timedelta(minutes=1))
            outcomes = [
                TicketRouter(repository).resolve(InboundMessage(1, "c", 10, message_id=message_id)).outcome
                for message_id in ("old", "new")
            ]
            with pytest.raises(InvalidMessageError):
                store.forget_messages(repository, datetime(2026, 1, 1))  # noqa: DTZ001

        assert forgotten == 1
        assert [Outcome.REUSED, Outcome.DUPLICATE] == outcomes

    def test_an_ignored_message_leaves_no_trace(self, store: Store) -> None:
        """An echo without an active ticket writes nothing, and is looked at anew when it comes again."""
        echo = InboundMessage(1, "c", 10, message_id="m", kind=MessageKind.ECHO)
        with store.transaction() as repository:
            ignored = TicketRouter(repository).resolve(echo)

        assert ignored.outcome is Outcome.IGNORED
        assert store.tickets() == []
        with pytest.raises(NoTicketError):
            _ = ignored.ticket


class TestPolicies:
    def test_the_reopen_window_is_measured_from_closing(self, store: Store) -> None:
        """What was closed inside the window is reopened, at its very edge too; later there is a new ticket."""
        policy = Policy(reopen=Reopen.within(timedelta(hours=2), keep_user=True))
        closed = store.insert(a_ticket(status="closed", closed_at=NOW, updated_at=NOW))
        with store.transaction() as repository:
            inside = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(hours=2))
            reopened = inside.resolve(InboundMessage(1, 5511999999999, 10))
            inside.close(1, closed.id)
            outside = TicketRouter(repository, policy, clock=lambda: NOW + timedelta(hours=4, microseconds=1))
            created = outside.resolve(InboundMessage(1, 5511999999999, 10))

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
            first = router.resolve(InboundMessage(1, "c", 10))
            second = router.resolve(InboundMessage(1, "c", 13))

        assert (Outcome.REUSED, Reason.ACTIVE_FOR_CONTACT) == (second.outcome, second.reason)
        assert (first.ticket.id, 10) == (second.ticket.id, second.ticket.connection_id)

    def test_gives_up_when_every_attempt_is_lost(self, store: Store) -> None:
        """A router whose every write is overtaken says so, and may be run again by the host."""
        ticket = store.insert(a_ticket())
        with store.transaction() as repository:

            class Overtaken:
                statuses = repository.statuses
                get = staticmethod(repository.get)
                commit = staticmethod(repository.commit)

                @staticmethod
                def load(lookup: Lookup) -> decisions.Snapshot:
                    found = repository.load(lookup)
                    old = (evolve(each, connection_id=10, id=10**9) for each in found.active)
                    return evolve(found, active=tuple(old))

            with pytest.raises(ContentionError, match="8 lost races") as error:
                TicketRouter(Overtaken()).resolve(InboundMessage(1, 5511999999999, 10))

        assert error.value.retryable
        assert [ticket] == store.tickets()
