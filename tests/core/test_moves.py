"""Merging contacts and moving connections: the plan, the routers' three steps, and memory."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import datetime
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.routers import ROUTERS, Watched, lose
from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
from ticketrouter import (
    ActiveTicketExistsError,
    AsyncTicketRouter,
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    Outcome,
    RepositoryError,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.decisions import Close
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.moves import Closing, KeyPart, Move, MovePlan, OnCollision, Survey, plan_move

OTHER = 11
"""The contact into which KEY's is merged."""
THERE = 200
"""The connection to which KEY's is moved."""
MERGE = Move(KeyPart.CONTACT, 1, KEY.contact_id, OTHER)
LEAVE = Move(KeyPart.CONNECTION, 1, KEY.connection_id, THERE)
KINDS = {"merge_contacts": MERGE, "move_connection": LEAVE}
each_kind = pytest.mark.parametrize(("kind", "move"), KINDS.items(), ids=KINDS)


@pytest.fixture(params=list(ROUTERS))
def route(request: pytest.FixtureRequest) -> Any:
    """Return what makes a router, sync or async, whose clock stands still."""
    return partial(ROUTERS[request.param], clock=lambda: NOW)


def target_of(move: Move, ticket_id: int = 8, **changes: Any) -> Ticket:
    """Return an active ticket on the key that KEY becomes."""
    return a_ticket(ticket_id, **{move.part.value: move.target_id}, **changes)


def moved(ticket: Ticket, move: Move) -> Ticket:
    changes: dict[str, Any] = {move.part.value: move.target_id}
    return attrs.evolve(ticket, **changes)


def run(router: Any, kind: str, move: Move, **options: Any) -> MovePlan:
    plan: MovePlan = getattr(router, kind)(move.company_id, move.source_id, move.target_id, **options)
    return plan


# --- the plan -------------------------------------------------------------------------------------------------


def plan(survey: Survey, on_collision: OnCollision = OnCollision.KEEP_NEWEST, move: Move = MERGE) -> MovePlan:
    return plan_move(move, survey, on_collision, NOW)


@each_kind
def test_tickets_that_share_no_key_are_only_re_pointed(kind, move):
    """Nothing is closed without need."""
    assert MovePlan(move, NOW, (), (7, 9)) == plan(Survey([7, 9]), move=move)


@each_kind
@pytest.mark.parametrize("hours", [-1, 1], ids=["the source's", "the target's"])
def test_the_most_recently_active_ticket_stays(kind, move, hours):
    """Whichever side it is on; the other one is closed for its sake."""
    source, target = a_ticket(), target_of(move, updated_at=NOW - HOUR + hours * HOUR / 2)
    kept, closed = (source, target) if hours < 0 else (target, source)

    actual = plan(Survey([7], [source, target]), move=move)

    assert MovePlan(move, NOW, (Closing(closed, kept),), (7,)) == actual


def test_among_equals_the_highest_id_stays():
    """Two tickets touched at the same moment: the later one, by its id."""
    source, target = a_ticket(7), target_of(MERGE, 8)

    assert (Closing(source, target),) == plan(Survey([7], [target, source])).closes


def test_both_are_closed_where_the_host_says_so():
    """No ticket keeps the key."""
    source, target = a_ticket(7), target_of(MERGE, 8)

    assert (Closing(target, None), Closing(source, None)) == plan(
        Survey([7], [source, target]), OnCollision.CLOSE_ALL
    ).closes


OWN_WORDS = StatusScheme(active={"open"}, initial="open", reopened="open", accepted="open")
GROUPS = StatusScheme(active={"open", "pending"}, initial="pending", initial_group="open")
OLD, NEW = {"updated_at": NOW - 9 * HOUR}, {"updated_at": NOW}


@pytest.mark.parametrize(
    ("kept", "closed", "statuses"),
    [
        ({"status": "pending", "user_id": 5} | OLD, {"status": "open", "user_id": None} | NEW, StatusScheme()),
        ({"status": "open", "user_id": 5} | OLD, {"status": "pending", "user_id": 6} | NEW, StatusScheme()),
        ({"status": "open", "user_id": None} | OLD, {"status": "pending", "user_id": None} | NEW, StatusScheme()),
        ({"status": "open", "user_id": 5} | NEW, {"status": "open", "user_id": 6} | OLD, StatusScheme()),
        ({"status": "open", "user_id": None} | NEW, {"status": "open", "user_id": None} | OLD, OWN_WORDS),
        ({"status": "pending", "user_id": None} | NEW, {"status": "open", "user_id": None, "is_group": True} | OLD, GROUPS),
        ({"status": "open", "user_id": None} | OLD, {"status": "open", "user_id": None, "is_group": True} | NEW, GROUPS),
        ({"status": "pending", "user_id": None} | NEW, {"status": "pending", "user_id": None} | OLD, StatusScheme()),
    ],
    ids=[
        "an agent's, whatever its status",
        "of two agents' the accepted one",
        "without agents the accepted one",
        "of two accepted ones the newest",
        "a word that new tickets have says nothing",
        "nor one that new groups have",
        "but where it is a direct message's",
        "of two that wait the newest",
    ],
)  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True], ids=["kept at the source", "kept at the target"])
def test_the_ticket_that_an_agent_works_on_stays(kept, closed, statuses, swapped):
    """A user, then the accepted word, then the time; the side it is on says nothing."""
    keeping, closing = (target_of(MERGE, 8, **kept), a_ticket(7, **closed))
    if not swapped:
        keeping, closing = a_ticket(7, **kept), target_of(MERGE, 8, **closed)

    actual = plan_move(MERGE, Survey([7], [closing, keeping]), OnCollision.KEEP_ACCEPTED, NOW, statuses)

    assert (Closing(closing, keeping),) == actual.closes


def test_a_collision_can_be_refused():
    """The error carries the ticket that would have stayed."""
    source, target = a_ticket(7), target_of(MERGE, 8)

    with pytest.raises(ActiveTicketExistsError) as caught:
        plan(Survey([7], [source, target]), OnCollision.REFUSE)

    assert target == caught.value.ticket


def test_duplicates_that_were_there_before_are_left_alone_at_the_target_and_ended_at_the_source():
    """Only keys that a ticket of the source comes to are put in order."""
    at_target = [target_of(MERGE, 8), target_of(MERGE, 9)]
    at_source = [a_ticket(1, connection_id=THERE), a_ticket(2, connection_id=THERE)]

    assert (Closing(at_source[0], at_source[1]),) == plan(Survey([1, 2], at_target + at_source)).closes


@pytest.mark.parametrize("on_collision", OnCollision)
def test_a_ticket_alone_on_its_key_is_no_collision(on_collision):
    """A repository may name tickets that share no key: none of them is closed or refused, whatever the choice."""
    assert () == plan(Survey([7], [a_ticket(7), target_of(MERGE, connection_id=THERE)]), on_collision).closes


def test_a_row_in_the_way_blocks_the_move():
    """The error names it and the rule."""
    row = target_of(MERGE, status="closed")

    with pytest.raises(BlockedBySchemaError) as caught:
        plan(Survey([7], (), row, UniqueRule.ONE_PER_CONNECTION))

    assert (row, UniqueRule.ONE_PER_CONNECTION) == (caught.value.ticket, caught.value.unique_rule)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("source_id", (1, True, 2)),
        ("target_id", (1, 2, "")),
        ("target_id", (1, 2, 2)),
        ("company_id", ("", 1, 2)),
    ],
)
def test_a_move_has_two_valid_ends_that_differ(field, values):
    """An id that is none, or a contact merged into itself, is refused by name."""
    with pytest.raises(InvalidMessageError) as caught:
        Move(KeyPart.CONTACT, *values)

    assert field == caught.value.field
    value = dict(zip(("company_id", "source_id", "target_id"), values, strict=True))[field]
    assert value is caught.value.value


def test_a_key_of_another_company_is_not_concerned():
    """Equal ids of another company are other contacts."""
    key = TicketKey(2, KEY.contact_id, KEY.connection_id)

    assert key == MERGE.after(key)
    assert not MERGE.concerns(key)


def test_a_plan_needs_a_time_with_a_zone():
    """A naive time is refused by name."""
    with pytest.raises(InvalidMessageError) as caught:
        plan_move(MERGE, Survey(), OnCollision.REFUSE, datetime(2026, 1, 1))  # noqa: DTZ001

    assert caught.value.field == "now"


# --- the routers over memory ----------------------------------------------------------------------------------


@each_kind
def test_a_move_closes_first_and_takes_the_closed_tickets_along(route, kind, move):
    """The history goes with the contact or connection; re-pointed tickets keep their times."""
    old, source, target = a_closed_ticket(6), a_ticket(7), target_of(move, 8, updated_at=NOW)
    repository = Watched([old, source, target])

    actual = run(route(repository), kind, move)

    assert MovePlan(move, NOW, (Closing(source, target),), (6, 7)) == actual
    gone = attrs.evolve(moved(source, move), status="closed", updated_at=NOW, closed_at=NOW)
    kept = attrs.evolve(target, unread_messages=target.unread_messages + source.unread_messages)
    assert [moved(old, move), gone, kept] == repository.tickets
    assert repository.calls == ["survey_move, claimed", "commit_move"]


@each_kind
def test_a_plan_alone_changes_nothing(route, kind, move):
    """It says what the move then does."""
    repository = Watched([a_ticket(7), target_of(move, 8)])
    before = repository.tickets

    planned = run(route(repository), f"plan_{kind}", move)

    assert before == repository.tickets
    assert repository.calls == ["survey_move"]
    assert planned == run(route(repository), kind, move)


@each_kind
def test_nothing_of_others_is_touched(route, kind, move):
    """Other contacts, connections and companies stay as they are."""
    others = [
        a_ticket(1, company_id=2),
        a_ticket(2, contact_id=12, connection_id=300),
        target_of(move, 3, company_id=2),
        a_closed_ticket(4, contact_id=12, connection_id=300),
    ]
    repository = Watched([*others, a_ticket(7)])

    run(route(repository), kind, move)

    assert [*others, moved(a_ticket(7), move)] == repository.tickets


@each_kind
def test_a_source_without_tickets_is_no_error(route, kind, move):
    """There is nothing to do."""
    assert MovePlan(move, NOW) == run(route(Watched()), kind, move)


@each_kind
@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
def test_a_full_unique_rule_blocks_before_anything_is_written(route, kind, move, rule):
    """A closed row of the target is in the way; where the rule leaves room, the move takes place."""
    rows = [a_closed_ticket(7)]
    if rule is UniqueRule.ONE_PER_CONNECTION or move.part is KeyPart.CONTACT:
        rows.append(target_of(move, 8, status="closed", closed_at=NOW))
    repository = Watched(rows, unique_rule=rule)
    before = repository.tickets

    if len(rows) == 1:
        run(route(repository), kind, move)
        assert [moved(rows[0], move)] == repository.tickets
        return
    with pytest.raises(BlockedBySchemaError) as caught:
        run(route(repository), kind, move)

    assert rows[1] == caught.value.ticket
    assert before == repository.tickets


def test_a_message_between_look_and_write_is_seen_again(route):
    """A ticket that came meanwhile is part of the second plan."""
    repository = Watched([a_ticket(7)])
    late = InMemoryTicketRepository
    repository.rivals = [lambda: late._put(repository, target_of(MERGE, 9, updated_at=NOW))]

    actual = run(route(repository), "merge_contacts", MERGE)

    assert [7] == [closing.ticket.id for closing in actual.closes]
    assert 2 == repository.calls.count("commit_move")


def test_a_ticket_closed_between_look_and_write_is_seen_again(route):
    """What is closed already is not closed a second time."""
    repository = Watched([a_ticket(7), target_of(MERGE, 8, updated_at=NOW)])
    repository.rivals = [repository.by_rival(Close(a_ticket(7), NOW - HOUR))]

    assert () == run(route(repository), "merge_contacts", MERGE).closes
    assert NOW - HOUR == repository.tickets[0].closed_at


def test_a_ticket_that_came_to_the_source_meanwhile_goes_along(route):
    """The plan that was carried out names every ticket that was re-pointed."""
    repository = Watched([a_ticket(7)])
    late = a_ticket(9, connection_id=THERE)
    repository.rivals = [lambda: InMemoryTicketRepository._put(repository, late)]

    assert (7, 9) == run(route(repository), "merge_contacts", MERGE).repoints


def test_lost_races_end(route):
    """After `attempts` looks the host is asked to begin again."""
    repository = Watched([a_ticket(7)])
    repository.rivals = [lose] * 3

    with pytest.raises(ContentionError, match="3 lost races"):
        run(route(repository, attempts=3), "merge_contacts", MERGE)
    assert [a_ticket(7)] == repository.tickets


@each_kind
def test_what_is_no_choice_is_refused_before_anything_is_read(route, kind, move):
    """The error lists the choices."""
    repository = Watched()

    for name in (kind, f"plan_{kind}"):
        with pytest.raises(
            InvalidMessageError,
            match="on_collision must be one of keep_newest, keep_accepted, close_all, refuse",
        ):
            run(route(repository), name, move, on_collision="newest")
    assert [] == repository.calls


def test_a_repository_that_cannot_move_says_so():
    """The three methods are enough for everything else."""

    class Plain:
        statuses = StatusScheme()

        def load(self, lookup): ...
        def get(self, company_id, ticket_id, *, current=False): ...
        def commit(self, decision): ...

    for kind, move in KINDS.items():
        for name in (kind, f"plan_{kind}"):
            with pytest.raises(RepositoryError, match="cannot move tickets"):
                run(TicketRouter(Plain()), name, move)


@each_kind
def test_a_redelivery_after_a_move_is_a_duplicate(route, kind, move):
    """Under the new id and, for what was still under way, under the old connection."""
    repository = Watched()
    router = route(repository)
    first = router.resolve(a_message(message_id="m"))
    run(router, kind, move)

    again = router.resolve(attrs.evolve(a_message(message_id="m"), **{move.part.value: move.target_id}))
    old = router.resolve(a_message(message_id="m"))

    assert (Outcome.DUPLICATE, first.ticket.id) == (again.outcome, again.ticket.id)
    assert (Outcome.DUPLICATE, first.ticket.id) == (old.outcome, old.ticket.id)
    assert 1 == len(repository.tickets)


def test_the_target_s_own_record_of_a_message_id_stays(route):
    """Two connections may have had the same id: the target's answer is the target's."""
    repository = Watched()
    router = route(repository)
    router.resolve(a_message(message_id="m"))
    there = router.resolve(a_message(message_id="m", connection_id=THERE, contact_id=12))
    run(router, "move_connection", LEAVE)

    again = router.resolve(a_message(message_id="m", connection_id=THERE, contact_id=12))

    assert (Outcome.DUPLICATE, there.ticket.id) == (again.outcome, again.ticket.id)


def test_a_move_is_told_to_the_logger_without_the_contact(route, caplog):
    """One line at INFO, with the ids of tickets only."""
    caplog.set_level(logging.INFO, "ticketrouter")
    repository = Watched([a_ticket(7, contact_id=987654), target_of(MERGE, 8, updated_at=NOW)])

    run(route(repository), "merge_contacts", Move(KeyPart.CONTACT, 1, 987654, OTHER))

    (record,) = caplog.records
    assert "1 tickets moved to another contact, 1 closed to make room" == record.getMessage()
    assert ([7], 1, 1) == (record.closed, record.repointed, record.company_id)
    assert "987654" not in str(vars(record))


# --- laws -----------------------------------------------------------------------------------------------------

ids = st.integers(1, 3)
tickets = st.lists(
    st.builds(
        lambda company, contact, connection, status, minutes: (company, contact, connection, status, minutes),
        st.integers(1, 2),
        ids,
        ids,
        st.sampled_from(["open", "pending", "closed"]),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(
    tickets,
    st.sampled_from(KeyPart),
    st.sampled_from([each for each in OnCollision if each is not OnCollision.REFUSE]),
)
def test_no_ticket_is_lost_and_no_key_has_two(rows, part, on_collision):
    """Whatever was there: as many tickets as before, one active at most for each key, all of the source moved."""
    given_tickets = [
        a_ticket(
            number,
            company_id=company,
            contact_id=contact,
            connection_id=connection,
            status=status,
            updated_at=NOW - minutes * HOUR,
            closed_at=NOW if status == "closed" else None,
        )
        for number, (company, contact, connection, status, minutes) in enumerate(rows, start=1)
    ]
    repository = InMemoryTicketRepository(given_tickets, unique_rule=UniqueRule.NONE)
    move = Move(part, 1, 1, 2)
    done = plan_move(move, repository.survey_move(move, claim=True), on_collision, NOW)
    repository.commit_move(done)

    after = repository.tickets
    assert [ticket.id for ticket in given_tickets] == [ticket.id for ticket in after]
    assert [move.after(ticket.key) for ticket in given_tickets] == [ticket.key for ticket in after]
    active = [ticket.key for ticket in after if ticket.status in {"open", "pending"}]
    moving = [ticket for ticket in given_tickets if move.concerns(ticket.key) and ticket.status != "closed"]
    arrived = {move.after(ticket.key) for ticket in moving}
    assert all(active.count(key) <= 1 for key in arrived)
    closed = {closing.ticket.id for closing in done.closes}
    unread = Counter({ticket.id: ticket.unread_messages for ticket in given_tickets})
    for closing in done.closes:
        if closing.kept is not None:
            unread[closing.kept.id] += closing.ticket.unread_messages
    for before, now in zip(given_tickets, after, strict=True):
        assert unread[now.id] == now.unread_messages
        if before.id not in closed:
            assert now == attrs.evolve(
                before,
                contact_id=now.contact_id,
                connection_id=now.connection_id,
                unread_messages=unread[now.id],
            )


def test_the_asynchronous_memory_moves_as_the_other():
    """Its calls are the same, awaited."""
    repository = AsyncInMemoryTicketRepository([a_ticket(7)])
    router = AsyncTicketRouter(repository, clock=lambda: NOW)

    done = asyncio.run(router.merge_contacts(1, KEY.contact_id, OTHER))

    assert MovePlan(MERGE, NOW, (), (7,)) == done
    assert [moved(a_ticket(7), MERGE)] == repository.tickets


# --- memory after a move, and between its two steps -----------------------------------------------------------


def test_the_old_contact_has_nothing_left():
    """A message that still comes under the merged contact's id opens a ticket there, and joins no other's."""
    router = TicketRouter(InMemoryTicketRepository([a_ticket()], next_id=8))
    router.merge_contacts(1, KEY.contact_id, OTHER)
    answer = router.resolve(a_message())

    assert Outcome.CREATED is answer.outcome
    assert KEY == answer.ticket.key
    assert [7] == [ticket.id for ticket in router.active_tickets(1, OTHER)]


def test_a_plan_from_before_a_message_is_refused():
    """Which ticket is the most recently active one is seen anew, so that the right one is closed."""
    mine, theirs = a_ticket(), target_of(MERGE, updated_at=NOW - 2 * HOUR)
    repository = InMemoryTicketRepository([mine, theirs])
    old = plan(repository.survey_move(MERGE, claim=True))
    TicketRouter(repository, clock=lambda: NOW).resolve(a_message(contact_id=OTHER))
    with pytest.raises(ConflictError):
        repository.commit_move(old)
    done = plan(repository.survey_move(MERGE, claim=True))

    assert [8] == [each.ticket.id for each in old.closes]
    assert [7] == [each.ticket.id for each in done.closes]
