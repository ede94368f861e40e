"""A table that keeps no time of the last change: in order by creation, and a message may move nothing of a row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, select, text

from tests.support.backends import ONE_PER_DATABASE, SQL_BACKENDS, Backend, Databases, SqlStore, counted
from tests.support.untimed import BARE, COUNTED, UntimedStore, set_rule
from ticketrouter import (
    ConflictError,
    InboundMessage,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.decisions import Accept, Close, Reuse, Unread
from ticketrouter.model import Reason
from ticketrouter.sqlalchemy import MappingError, TicketMapping
from ticketrouter.sqlalchemy.health.audit import audit
from ticketrouter.sqlalchemy.health.repair import plan_repair

NOON = datetime(2026, 11, 23, 12, 0, 0, 987654, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
MESSAGE = InboundMessage(1, "a", 10)
KEY = MESSAGE.key
ALWAYS = Policy(reopen=Reopen.always())
RULES = (UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE)
every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
MARIADB = [backend for backend in SQL_BACKENDS if backend.database == "mariadb"]


@pytest.fixture(params=[BARE, COUNTED])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> UniqueRule:
    found: UniqueRule = request.param
    return found


@pytest.fixture
def untimed(databases: Databases, backend: Backend, kind: str, rule: UniqueRule) -> Iterator[UntimedStore]:
    store = UntimedStore(backend, databases, kind)
    set_rule(store, rule)
    yield store
    store.assert_no_leak()
    store.dispose()
    databases.drop(store.url)


def router(repository: Any, now: datetime = LATER, policy: Policy = ALWAYS) -> TicketRouter:
    return TicketRouter(repository, policy, clock=lambda: now)


def a_ticket(store: UntimedStore, begun: datetime = NOON, key: TicketKey = KEY, **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "id": 1,
        "company_id": key.company_id,
        "contact_id": key.contact_id,
        "connection_id": key.connection_id,
        "status": store.mapping.statuses.initial,
        "is_group": False,
        "unread_messages": 0,
        "user_id": None,
        "queue_id": None,
        "created_at": begun,
        "updated_at": begun,
        "closed_at": None,
    }
    return store.insert(Ticket(**values | changes))


# --- the mapping -------------------------------------------------------------------------------------------------


def table(**times: Any) -> Table:
    columns: list[Column[Any]] = [
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        *(Column(name, DateTime) for name in times),
    ]
    return Table("desk", MetaData(), *columns)


OTHERS: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "user_id", "queue_id", "closed_at"))


def test_one_of_the_two_times_there_must_be() -> None:
    """Tickets are in order by it; the text says what to name."""
    with pytest.raises(
        MappingError, match="desk needs a column for created_at where it has none for updated_at"
    ):
        TicketMapping(table(), **OTHERS, created_at=None, updated_at=None)
    kept = TicketMapping(table(created_at=1), **OTHERS, updated_at=None)

    assert "created_at" == kept.last_change.name


@pytest.mark.parametrize(
    ("there", "given", "advice"),
    [
        ((), {}, "created_at=None where"),
        (("created_at",), {}, "updated_at=None where"),
        (("updated_at",), {}, "created_at=None where"),
        ((), {"created_at": None}, ""),
        ((), {"updated_at": None}, ""),
    ],
)
def test_the_advice_leaves_one_of_them(there: tuple[str, ...], given: dict[str, Any], advice: str) -> None:
    """Nobody is told to pass None for the last time that a table may have."""
    with pytest.raises(MappingError) as told:
        TicketMapping(table(**dict.fromkeys(there)), **OTHERS, **given)

    assert str(told.value).partition(", or pass ")[2].startswith(advice)
    assert bool(advice) is (", or pass " in str(told.value))


# --- the life of a ticket ----------------------------------------------------------------------------------------


@every_database
def test_its_last_change_is_its_creation(untimed: UntimedStore) -> None:
    """Whatever is done to it, alone, in a batch, by the desk and by a move."""
    with untimed.transaction() as repository:
        made = router(repository, NOON).resolve(MESSAGE).ticket
    with untimed.transaction() as repository:
        asked = router(repository)
        joined = asked.resolve(evolve(MESSAGE, message_id="m"))
        again = asked.resolve(evolve(MESSAGE, message_id="m"))
        batch = asked.resolve_many([MESSAGE, evolve(MESSAGE, contact_id="b"), MESSAGE])
        explained = asked.explain(MESSAGE)
        # Where no row keeps an agent, none is given.
        taken = [] if "user_id" in untimed.lacks else [asked.accept(1, made.id, 7)]
        transferred = asked.transfer(1, made.id, 13)
        closed = asked.close(1, made.id)
        reopened = asked.reopen(1, made.id)
        moved = asked.move_connection(1, 13, 10)
        merged = asked.merge_contacts(1, "a", "b", on_collision=OnCollision.KEEP_NEWEST)
        rows = untimed.mapping.columns
        stored = repository.get(1, made.id)
    answers = [
        made,
        joined.ticket,
        again.ticket,
        batch[0].ticket,
        batch[2].ticket,
        *taken,
        transferred,
        closed,
        reopened,
    ]

    assert [Outcome.REUSED, Outcome.DUPLICATE] == [joined.outcome, again.outcome]
    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
    assert Outcome.REUSED is explained.answer.outcome
    assert {NOON} == {each.updated_at for each in answers} == {each.created_at for each in answers}
    assert (NOON if untimed.lacks & {"closed_at"} else LATER) == closed.closed_at
    assert "updated_at" not in rows
    assert ((), (made.id,)) == (moved.closes, moved.repoints)
    # The other one was created an hour later.
    assert [made.id] == [each.ticket.id for each in merged.closes]
    assert stored is not None
    assert untimed.mapping.statuses.closed == stored.status


@every_database
def test_the_newest_is_the_one_created_last(untimed: UntimedStore, rule: UniqueRule) -> None:
    """Ties go to the highest id; so it is for what is active elsewhere, on one key, and of closed ones."""
    contacts = iter("bcd")
    if rule is UniqueRule.NONE:
        key = evolve(KEY, contact_id=next(contacts))
        older, newest, _ = [a_ticket(untimed, at, key) for at in (NOON, LATER, NOON)]
        with untimed.transaction() as repository:
            joined = router(repository).resolve(evolve(MESSAGE, contact_id=key.contact_id))
            listed = router(repository).active_tickets(1, key.contact_id)
        assert newest.id == joined.ticket.id == listed[0].id
        assert older.id == listed[-1].id
    key = evolve(KEY, contact_id="c")
    elsewhere = [
        a_ticket(untimed, at, evolve(key, connection_id=connection))
        for connection, at in ((11, NOON), (12, LATER), (13, NOON))
    ]
    words = {"status": untimed.mapping.statuses.closed}
    closing = [a_ticket(untimed, at, key, **words, closed_at=at) for at in (NOON, LATER, LATER)]
    with untimed.transaction() as repository:
        reopened = router(repository).resolve(evolve(MESSAGE, contact_id="c"))

    assert [elsewhere[place].id for place in (1, 2, 0)] == [each.id for each in reopened.other_active]
    assert (Outcome.REOPENED, closing[2].id) == (reopened.outcome, reopened.ticket.id)


# --- closing as it was seen --------------------------------------------------------------------------------------


@every_database
def test_no_ticket_is_closed_as_it_was_seen(untimed: UntimedStore) -> None:
    """Nothing tells whether a message has come since: a count may have been set back. A closed one stays as it is."""
    seen = a_ticket(untimed)
    with untimed.transaction() as repository:
        asked = router(repository)
        with pytest.raises(
            MappingError, match=r"talks has no column for updated_at.*pass updated_at=.*without seen="
        ):
            asked.close(1, seen.id, seen=seen)
        with pytest.raises(MappingError):
            repository.commit(Close(seen, LATER, as_seen=True))
        left = repository.get(1, seen.id)
        closed = asked.close(1, seen.id)
        again = asked.close(1, seen.id, seen=seen)

    assert seen == left
    assert untimed.mapping.statuses.closed == closed.status
    assert closed == again


# --- a row that stays as it is -----------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("kind", [BARE], indirect=True)
def test_a_message_that_moves_nothing_keeps_its_ticket(untimed: UntimedStore, backend: Backend) -> None:
    """Who closes it waits for who has joined it, and who joins it does not join what is closed."""
    seen = a_ticket(untimed)
    with untimed.transaction() as repository:
        router(repository).resolve(MESSAGE)
        if backend.database != "sqlite":
            refused = "SELECT id FROM talks FOR UPDATE NOWAIT"
            with untimed.engine.connect() as other, pytest.raises(Exception, match=r"lock|NOWAIT"):
                other.execute(text(refused))
    with untimed.transaction() as repository:
        router(repository).close(1, seen.id)
    with untimed.transaction() as repository, pytest.raises(ConflictError):
        repository.commit(Reuse(seen, LATER, Reason.ACTIVE_ON_CONNECTION, unread=Unread(add=1)))


NOT_FOUND_ROWS = {"pymysql": 0, "asyncmy": 0}


@pytest.mark.parametrize("backend", MARIADB, ids=lambda backend: backend.name)
@pytest.mark.parametrize("flags", ["found rows", "changed rows"])
def test_what_stays_as_it_is_was_there(
    databases: Databases, backend: Backend, flags: str, kind: str, rule: UniqueRule
) -> None:
    """A connection that counts what was changed, and not what was found, takes no ticket for one that is gone."""
    options: dict[str, Any] = {}
    if flags == "changed rows":  # as of a host that gives flags of its own
        options["connect_args"] = {"client_flag": NOT_FOUND_ROWS[backend.name]}
    store = UntimedStore(backend, databases, kind, **options)
    set_rule(store, rule)
    echo = evolve(MESSAGE, unread_messages=0)
    with store.connection() as connection:
        run = store.run if backend.is_async else (lambda done: done)
        seen = a_ticket(store)
        repository = store.repository(connection)
        changed = run(connection.execute(text("UPDATE talks SET state = state"))).rowcount
        asked = router(repository)
        joined = [asked.resolve(echo) for _ in range(2)]
        told = [each.ticket for each in asked.resolve_many([echo, echo])]
        keeps_agents = "user_id" not in store.lacks
        taken = [asked.accept(1, seen.id, 7)] if keeps_agents else []
        closed = asked.close(1, seen.id)
        with pytest.raises(ConflictError):
            repository.commit(Reuse(seen, LATER, Reason.ACTIVE_ON_CONNECTION, unread=Unread(add=1)))
        with pytest.raises(ConflictError if keeps_agents else MappingError):
            repository.commit(Accept(seen, 7, LATER))
    store.dispose()
    databases.drop(store.url)

    assert (1 if flags == "found rows" else 0) == changed
    assert [Outcome.REUSED] * 2 == [each.outcome for each in joined]
    assert {seen.id} == {each.id for each in (*told, *taken, closed)}
    assert {store.mapping.statuses.accepted} >= {each.status for each in taken}
    assert store.mapping.statuses.closed == closed.status


@pytest.mark.parametrize("backend", MARIADB, ids=lambda backend: backend.name)
def test_a_batch_may_leave_its_tickets_as_they_are(databases: Databases, backend: Backend) -> None:
    """So it is of many at once, in a table of our own, by messages of the same moment that count nothing."""
    flags = {"client_flag": NOT_FOUND_ROWS[backend.name]}
    store = SqlStore(backend, databases.new(backend.database), connect_args=flags)
    store.mapping.metadata.create_all(store.engine)
    echoes = [evolve(MESSAGE, contact_id=each, unread_messages=0) for each in "ab"]
    with store.transaction() as repository:
        made = router(repository).resolve_many(echoes)
        joined = router(repository).resolve_many(echoes)
    rows = store.tickets()
    store.dispose()
    databases.drop(store.url)

    assert [Outcome.CREATED] * 2 + [Outcome.REUSED] * 2 == [each.outcome for each in (*made, *joined)]
    assert [each.ticket for each in made] == [each.ticket for each in joined] == rows


@pytest.mark.parametrize("backend", [ONE_PER_DATABASE[1]], ids=lambda backend: backend.name)
@pytest.mark.parametrize("kind", [BARE], indirect=True)
def test_a_trigger_that_swallows_what_moves_nothing_is_told(untimed: UntimedStore) -> None:
    """PostgreSQL has one ready-made; nobody would be kept from closing the ticket while the message joins it."""
    seen = a_ticket(untimed)
    with untimed.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER idle BEFORE UPDATE ON talks FOR EACH ROW EXECUTE FUNCTION "
                "suppress_redundant_updates_trigger()"
            )
        )
    with (
        untimed.transaction() as repository,
        pytest.raises(MappingError, match="talks leaves a ticket as it is, without an error: a trigger"),
    ):
        router(repository).resolve(MESSAGE)

    assert [seen] == untimed.tickets()


@pytest.mark.parametrize("backend", MARIADB, ids=lambda backend: backend.name)
def test_what_others_have_made_of_it_is_told(
    databases: Databases, backend: Backend, kind: str, rule: UniqueRule
) -> None:
    """A message that moves nothing is answered with the row as it is, though its transaction has an older snapshot."""
    store = UntimedStore(backend, databases, kind)
    set_rule(store, rule)
    seen = a_ticket(store)
    with store.transaction(isolation_level="REPEATABLE READ") as repository:
        before = repository.get(1, seen.id)
        with store.engine.begin() as other:
            other.execute(text(f"UPDATE talks SET state = '{store.mapping.statuses.accepted}'"))
        told = repository.commit(Reuse(seen, LATER, Reason.ACTIVE_ON_CONNECTION, unread=Unread(set_to=0)))
    store.dispose()
    databases.drop(store.url)

    assert before is not None
    assert [store.mapping.statuses.initial, store.mapping.statuses.accepted] == [before.status, told.status]


@pytest.mark.parametrize("backend", MARIADB, ids=lambda backend: backend.name)
def test_so_it_is_of_a_message_of_the_same_moment(databases: Databases, backend: Backend) -> None:
    """In a table of our own, too."""
    store = SqlStore(backend, databases.new(backend.database))
    store.mapping.metadata.create_all(store.engine)
    with store.transaction() as repository:
        seen = router(repository).resolve(MESSAGE).ticket
    with store.transaction(isolation_level="REPEATABLE READ") as repository:
        before = repository.get(1, seen.id)
        with store.engine.begin() as other:
            other.execute(store.mapping.table.update().values(status="open"))
        nothing = Unread(set_to=seen.unread_messages)
        told = repository.commit(Reuse(seen, seen.updated_at, Reason.ACTIVE_ON_CONNECTION, unread=nothing))
    store.dispose()
    databases.drop(store.url)

    assert seen == before
    assert evolve(seen, status="open") == told


# --- audit and repair --------------------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("rule", [UniqueRule.NONE], indirect=True)
def test_duplicates_are_told_and_closed_but_for_the_one_created_last(untimed: UntimedStore) -> None:
    """The plan closes what a message would not join; run twice it closes nothing more."""
    older, newest, tie = [a_ticket(untimed, at) for at in (NOON, LATER, LATER)]
    with untimed.engine.connect() as connection:
        [found] = [each for each in audit(connection, untimed.mapping).findings if each.check == "duplicates"]
        plan = list(plan_repair(connection, untimed.mapping))
    for _ in range(2):
        with untimed.engine.begin() as connection:
            for closing in plan:
                connection.execute(text(closing.statement.replace(":", r"\:")))
    with untimed.engine.connect() as connection:
        states = dict(
            connection.execute(select(untimed.mapping.columns["id"], untimed.mapping.told_by)).all()
        )
    closed, initial = untimed.mapping.statuses.closed, untimed.mapping.statuses.initial
    rows = {each.id: each.closed_at for each in untimed.tickets()}

    assert [tie.id, newest.id, older.id] == found.examples[0]["ticket_ids"]
    assert {older.id: closed, newest.id: closed, tie.id: initial} == states
    assert {older.id: NOON, newest.id: LATER, tie.id: None} == rows


# --- in a batch, whatever else the mapping says ------------------------------------------------------------------


class OneByOne:
    """A repository that takes no batches."""

    def __init__(self, repository: Any) -> None:
        self.statuses = repository.statuses
        self.load = repository.load
        self.get = repository.get
        self.commit = repository.commit


def told_by_a_time(**given: Any) -> TicketMapping:
    """Map a table whose tickets are open until a time is filled in."""
    rows = Table(
        "rows_",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("created_at", DateTime, nullable=False),
        Column("closed_at", DateTime),
        Column("source", String(20)),
        Column("last_kind", String(20)),
    )
    none: dict[str, Any] = dict.fromkeys(
        ("status", "is_group", "unread_messages", "user_id", "queue_id", "updated_at")
    )
    words = StatusScheme(active={"open"}, initial="open", reopened="open", accepted="open")
    given |= {"where": rows.c.source == "sms", "on_create": {"source": "sms"}, "metadata": rows.metadata}
    return TicketMapping(rows, **none, **given, statuses=words)


@every_database
@pytest.mark.parametrize("writes", [False, True])
def test_a_batch_answers_as_one_by_one_where_a_time_tells_the_status(
    databases: Databases, backend: Backend, writes: bool
) -> None:
    """With a row condition, and with and without columns of every message; in as few statements as other tables."""
    known = [InboundMessage(1, contact, 10) for contact in range(4)]
    batch = [*known, *(InboundMessage(1, contact, 10) for contact in range(4, 8)), *known, *known]
    of_message = {"last_kind": lambda message, _: f"of {message.contact_id}"}
    given: dict[str, Any] = {"on_message": of_message} if writes else {}
    answers, rows, costs = list[Any](), list[Any](), list[int]()
    for wrapped in (OneByOne, lambda repository: repository):
        mapping = told_by_a_time(**given)
        store = SqlStore(backend, databases.new(backend.database), mapping)
        mapping.metadata.create_all(store.engine)
        with store.transaction() as repository:
            asked = router(repository, NOON)
            for each in asked.resolve_many(known)[:2]:
                asked.close(1, each.ticket.id)
            with counted(store) as sent:
                found = router(wrapped(repository)).resolve_many(batch)
        with store.engine.begin() as connection:
            rows.append(sorted(map(str, connection.execute(select(*list(mapping.table.c)[1:])).all())))
        answers.append([(each.outcome, each.ticket.contact_id, each.ticket.updated_at) for each in found])
        costs.append(len(sent))
        store.dispose()
        databases.drop(store.url)

    assert answers[0] == answers[1]
    assert rows[0] == rows[1]
    assert costs[1] < len(batch) < costs[0]
