"""The public kit over tables of hosts, with foreign keys and ids of their own: a mapping is held to the contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from uuid import UUID

import pytest
from attrs import evolve, frozen
from sqlalchemy import Engine, text

from tests.contract.test_kit_can_fail import examine
from tests.support.backends import ONE_PER_DATABASE, Databases, SqlStore, counted, sent_over
from tests.support.hosts_tables import (
    THREADS,
    Host,
    computed_runs,
    conversations,
    counted_ruled_talks,
    counted_talks,
    letters,
    opened,
    random_rooms,
    rooms,
    ruled_talks,
    runs,
    talks,
    threads,
    unruled_letters,
    whaticket,
)
from tests.support.opening import opening
from ticketrouter import InboundMessage, MessageKind, Policy, Reopen, Ticket, TicketKey, TicketRouter
from ticketrouter.checks import Id
from ticketrouter.decisions import Reuse, Write
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract, run_machine
from ticketrouter.testing.samples import an_active
from ticketrouter.testing.sqlalchemy import MappedStore


@frozen
class Place:
    """A host, and the database that it is on."""

    host: Callable[[], Host]
    database: str

    def __str__(self) -> str:
        return f"{self.host.__name__}-{self.database}"


PLACES = (
    Place(conversations, "postgresql"),
    Place(rooms, "postgresql"),
    Place(random_rooms, "sqlite"),
    Place(whaticket, "mariadb"),
    Place(threads, "sqlite"),
    Place(runs, "postgresql"),
    Place(computed_runs, "mariadb"),
    Place(runs, "sqlite"),
    *(Place(talks, database) for database in ("postgresql", "mariadb")),
    Place(counted_talks, "mariadb"),
    Place(ruled_talks, "postgresql"),
    Place(counted_ruled_talks, "sqlite"),
    Place(letters, "postgresql"),
    Place(unruled_letters, "mariadb"),
)


@pytest.fixture(scope="module", params=PLACES, ids=str)
def mapped(request: pytest.FixtureRequest, databases: Databases) -> Iterator[tuple[Host, MappedStore]]:
    """A host, and the one store that serves all tests of its tables."""
    place: Place = request.param
    host = place.host()
    with opened(databases, place.database, host) as engine:
        yield host, host.store(engine)


class TestHostsTables(TicketRepositoryContract):
    """What a table has no column for, and what its rule has no room for, is skipped; all the rest holds."""

    @pytest.fixture
    def store(self, mapped: tuple[Host, MappedStore]) -> Iterator[MappedStore]:
        _, store = mapped
        yield store
        store.close()


def test_hosts_tables_agree_with_the_model(mapped: tuple[Host, MappedStore]) -> None:
    """Any sequence of operations ends as the model says, in the ids of the host; and it is no skip."""
    host, store = mapped
    if not store.ids_ascend:
        pytest.skip("the ids of this store come in no order, by which the model could break ties")
    try:
        run_machine(lambda _: store, unique_rules=(host.rule,), examples=20)
    except pytest.skip.Exception as reason:
        pytest.fail(f"the machine is skipped: {reason}")


# --- what is skipped, and why ----------------------------------------------------------------------------------


def kit_of(*tests: str) -> type:
    """Return the part of the contract that has these tests."""
    return type("Kit", (), {test: getattr(TicketRepositoryContract, test) for test in tests})


def test_what_a_table_lacks_is_skipped_with_the_reason(databases: Databases) -> None:
    """The reasons name the columns, and the one company; a test that is not about them is run."""
    host = threads()
    about = {
        "test_r9_another_companys_ticket_does_not_exist": "the table of this store has no column for company_id: "
        "there is only one",
        "test_r9_many_join_within_their_company": "the table of this store has one company",
        "test_r3_a_count_goes_by_the_message": "the table of this store has no column for unread_messages",
        "test_the_desk_accepts_while_nobody_else_has": "the table of this store has no column for user_id",
        "test_r5_nothing_is_committed_before_the_host_commits": "this store has no two transactions under way",
    }
    reasons: Counter[str] = Counter()
    with opened(databases, "sqlite", host) as engine:
        store = host.store(engine)
        found = examine(kit_of(*about, "test_r3_changes_count_and_time_only"), lambda: store, reasons=reasons)

    assert {"test_r3_changes_count_and_time_only"} == found.passed.keys()
    assert {} == found.failed
    assert set(about.values()) == reasons.keys()


def test_what_needs_another_connection_is_skipped_and_counted(databases: Databases) -> None:
    """By the one reason that the table has no column for it: the rest of the contract holds, and is most of it."""
    host = letters()
    reasons: Counter[str] = Counter()
    with opened(databases, "sqlite", host) as engine:
        store = host.store(engine)
        found = examine(TicketRepositoryContract, lambda: store, reasons=reasons)
    about = {why: count for why, count in reasons.items() if "connection_id" in why}

    assert {} == found.failed
    assert {"the table of this store has no column for connection_id: there is only one"} == about.keys()
    assert sum(about.values()) < len(found.passed)


# --- it can fail -----------------------------------------------------------------------------------------------


class AnybodysTickets(SQLAlchemyTicketRepository):
    """It gives whoever asks any company's ticket."""

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        companies = self._host.execute(text("SELECT uuid FROM projects")).scalars()
        found = (super(AnybodysTickets, self).get(UUID(each), ticket_id) for each in companies)
        return next((ticket for ticket in found if ticket is not None), None)


class FreesTheAgent(SQLAlchemyTicketRepository):
    """It takes from its agent what a message joins."""

    def commit(self, decision: Write) -> Ticket:
        ticket = super().commit(decision)
        if isinstance(decision, Reuse):
            self._host.execute(text("UPDATE rooms SET user_id = NULL"))
            return evolve(ticket, user_id=None)
        return ticket


def swapped(engine: Engine) -> MappedStore:
    """Two columns of numbers that point to other tables stand for one another."""
    host = whaticket()
    columns = host.mapping.columns
    mapping = TicketMapping(
        host.mapping.table,
        company_id=None,
        only_company=1,
        contact_id="contactId",
        connection_id="whatsappId",
        user_id=columns["queue_id"],
        queue_id=columns["user_id"],
        is_group="isGroup",
        unread_messages="unreadMessages",
        created_at="createdAt",
        updated_at="updatedAt",
        closed_at=None,
        nullable_keys=True,
        metadata=host.mapping.metadata,
    )
    return evolve(host, mapping=mapping).store(engine)


def triggered(engine: Engine) -> MappedStore:
    """A trigger of the host's gives each new room to an agent."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users VALUES ('ana@example.org')"))
        connection.execute(
            text(
                "CREATE TRIGGER assign AFTER INSERT ON rooms WHEN NEW.user_id IS NULL BEGIN "
                "UPDATE rooms SET user_id = 'ana@example.org' WHERE uuid = NEW.uuid; END"
            )
        )
    return rooms().store(engine)


def of(kind: type[SQLAlchemyTicketRepository]) -> Callable[[Engine], MappedStore]:
    return lambda engine: rooms().store(engine, repository=kind)


WRONG: dict[str, tuple[Callable[[], Host], Callable[[Engine], MappedStore], str]] = {
    "anybody's": (rooms, of(AnybodysTickets), "test_r9_another_companys_ticket_does_not_exist"),
    "frees": (rooms, of(FreesTheAgent), "test_r3_changes_count_and_time_only"),
    "swapped": (whaticket, swapped, "test_r4_reopens_as_decided"),
    "triggered": (rooms, triggered, "test_r2_creates_the_ticket_as_decided"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_table_is_caught(databases: Databases, wrong: str) -> None:
    """A wrong mapping, a wrong repository, and a table that changes rows by itself fail a test that the right ones pass."""
    host, store_of, test = WRONG[wrong]
    kit = kit_of(test)
    with opened(databases, "sqlite", host()) as engine:
        right = host().store(engine)
        passed = examine(kit, lambda: right).passed
        wrong_one = store_of(engine)
        failed = examine(kit, lambda: wrong_one).failed

    assert {test} == passed.keys() == failed.keys()


# --- the store itself ------------------------------------------------------------------------------------------


def test_a_table_with_tickets_is_left_alone(databases: Databases) -> None:
    """The kit empties what it is given, so it takes no table that is not empty."""
    host = threads()
    with opened(databases, "sqlite", host) as engine:
        store = host.store(engine)
        made = store.insert(an_active(store))
        other = host.store(engine)
        with pytest.raises(MappingError, match="threads is not empty"):
            other.insert(an_active(other))
        with pytest.raises(MappingError, match="threads is not empty"), other.transaction():
            pass

        assert [made] == store.tickets()


def test_rows_that_are_left_out_are_none_of_the_kits(databases: Databases) -> None:
    """They are there before and after, are not read, and what a test inserts meets the condition."""
    host = threads()
    table = host.mapping.table
    kept = TicketMapping(table, **THREADS, where=table.c.state != "draft", metadata=host.mapping.metadata)
    with opened(databases, "sqlite", host) as engine:
        everything = host.store(engine)
        draft = everything.insert(an_active(everything, status="draft"))
        store = evolve(host, mapping=kept).store(engine)
        made = store.insert(an_active(store))

        assert [made] == store.tickets()
        assert [draft.id, made.id] == [ticket.id for ticket in everything.tickets()]
        store.close()
        assert [draft.id] == [ticket.id for ticket in everything.tickets()]


def test_ids_in_no_order_have_tickets_in_the_order_of_their_making(databases: Databases) -> None:
    """Whatever the host's ids are; and the state machine, which breaks ties by them, is skipped with the reason."""
    host = random_rooms()
    with opened(databases, "sqlite", host) as engine:
        store = host.store(engine)
        made = [store.insert(an_active(store, TicketKey(1, contact, 10))) for contact in range(9)]
        assert made == store.tickets()
        store.close()
        with pytest.raises(pytest.skip.Exception, match="come in no order"):
            run_machine(lambda _: store, unique_rules=(host.rule,), examples=1)


# --- what is sent ----------------------------------------------------------------------------------------------

FIVE = [InboundMessage(1, contact, 10, message_id=f"many {contact}") for contact in range(6, 11)]
ACTS: dict[str, Callable[[TicketRouter], object]] = {
    "creates": lambda router: router.resolve(InboundMessage(1, 5, 10, message_id="m1")),
    "joins": lambda router: router.resolve(InboundMessage(1, 5, 10)),
    "joins with an id": lambda router: router.resolve(InboundMessage(1, 5, 10, message_id="m2")),
    "is a duplicate": lambda router: router.resolve(InboundMessage(1, 5, 10, message_id="m2")),
    "only attaches": lambda router: router.resolve(InboundMessage(1, 4, 10, kind=MessageKind.ECHO)),
    "closes": lambda router: router.close(1, _only(router).id),
    "reopens": lambda router: router.resolve(InboundMessage(1, 5, 10, message_id="m3")),
    "transfers": lambda router: router.transfer(1, _only(router).id, 13),
    "creates many": lambda router: router.resolve_many(FIVE),
    "joins many": lambda router: router.resolve_many([evolve(each, message_id=None) for each in FIVE]),
    "finds": lambda router: router.active_tickets(1, 5),
}
"""What is done to a desk, one after another."""


def _only(router: TicketRouter) -> Ticket:
    [ticket] = router.active_tickets(1, 5)
    return ticket


def statements_of_acts(
    store: Store, watched: Callable[[], AbstractContextManager[list[str]]]
) -> dict[str, int]:
    """Return how many statements each act is sent as, once everything is known that is asked but once."""
    costs: dict[str, int] = {}
    store.expect(30)
    with store.transaction() as repository:
        TicketRouter(repository).resolve_many([InboundMessage(1, 20, 10, message_id="m0")] * 2)
    for name, act in ACTS.items():
        with store.transaction() as repository, watched() as sent:
            act(TicketRouter(repository, Policy(reopen=Reopen.always())))
        costs[name] = len(sent)
    return costs


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_hosts_table_is_sent_what_ours_is(databases: Databases, place: Place) -> None:
    """Whatever its columns are: no statement more for any act than our own table under the same rule."""
    host = place.host()
    [backend] = (each for each in ONE_PER_DATABASE if each.database == place.database)
    ours = opening(databases, backend, {}, host.mapping.statuses)(host.rule)
    assert isinstance(ours, SqlStore)
    with ExitStack() as ended, opened(databases, place.database, host) as engine:
        ended.callback(ours.dispose)
        costs = statements_of_acts(host.store(engine), lambda: sent_over(engine))
        expected = statements_of_acts(ours, lambda: counted(ours))

    if "updated_at" not in host.mapping.columns:  # there many go one by one
        costs, expected = (
            {act: each[act] for act in each if "many" not in act} for each in (costs, expected)
        )
    # A column that SQLAlchemy itself fills keeps PostgreSQL's ticket and message id in statements of their own.
    filled = any(column.default is not None for column in host.mapping.table.columns)
    expected["creates"] += filled and place.database == "postgresql"
    assert expected == costs
