"""Without a unique rule: when what was seen before the claim counts, and when it does not any more."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import evolve
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Uuid,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import OperationalError

from tests.sqlalchemy.test_odd_hosts import NOON, a_mapping, a_table, made
from tests.support.backends import ONE_PER_DATABASE, Databases
from tests.support.races import Cell, racetrack, set_rule
from ticketrouter import InboundMessage, Outcome, Policy, Snapshot, TicketRouter, UniqueRule, decide
from ticketrouter.decisions import Create, Lookup
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
)
from ticketrouter.sqlalchemy.schema import anchors_name

HERE, THERE = InboundMessage(1, 5, 10), InboundMessage(1, 5, 11)
SERVERS = ("postgresql", "mariadb")
OLD = Cell("mariadb", "REPEATABLE READ", UniqueRule.NONE, old_snapshot=True)


def _begun(late: Connection, mapping: TicketMapping) -> TicketRouter:
    """Let a transaction begin with a look: on MariaDB its plain reads go on seeing that."""
    late.execute(select(mapping.table.c.id)).all()
    return TicketRouter(SQLAlchemyTicketRepository(late, mapping))


def _routed(engine: Engine, mapping: TicketMapping, message: InboundMessage) -> Any:
    with engine.begin() as connection:
        return TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message).ticket


def _a_message_elsewhere(router: TicketRouter) -> None:
    assert Outcome.CREATED is router.resolve(HERE).outcome


def _an_agent_elsewhere(router: TicketRouter) -> None:
    router.open(HERE.key, user_id=7)


def _a_merge(router: TicketRouter) -> None:
    router.merge_contacts(1, 6, 5)


@pytest.mark.parametrize("claim", [_a_message_elsewhere, _an_agent_elsewhere, _a_merge])
def test_what_was_once_old_is_not_trusted_later(
    databases: Databases, claim: Callable[[TicketRouter], None]
) -> None:
    """The version that a transaction finds after its own claim is its own: it says nothing of the rows beside it."""
    with racetrack(databases, OLD) as (engine, mapping), engine.connect() as late:
        router = _begun(late, mapping)
        first = _routed(engine, mapping, THERE)
        claim(router)
        second = router.resolve(THERE)
        late.commit()

    assert (Outcome.REUSED, first.id) == (second.outcome, second.ticket.id)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_look_that_nobody_has_overtaken_is_trusted(databases: Databases, isolation: str) -> None:
    """A new ticket takes no locking look before it is there: two of them cannot each keep the other from inserting."""
    cell = Cell("mariadb", isolation, UniqueRule.NONE, old_snapshot=True)
    sent: list[str] = []
    with racetrack(databases, cell) as (engine, mapping), engine.connect() as late:
        _routed(engine, mapping, HERE)
        router = _begun(late, mapping)
        event.listen(late, "before_cursor_execute", lambda *about: sent.append(about[2]))
        found = router.resolve(THERE), router.resolve(InboundMessage(1, 6, 10, message_id="m"))
        late.commit()

    assert [Outcome.CREATED] * 2 == [each.outcome for each in found]
    assert not [each for each in sent if each.startswith("SELECT") and "FOR UPDATE" in each]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("word", ["INSERT INTO ticketrouter_tickets_anchors", "FROM ticketrouter_tickets"])
def test_a_batch_that_somebody_has_overtaken_looks_again(
    databases: Databases, isolation: str, word: str
) -> None:
    """A rival comes after the look at the versions, or after the look at the tickets: he is met."""
    cell = Cell("mariadb", isolation, UniqueRule.NONE, old_snapshot=True)
    batch = [InboundMessage(1, contact, 10) for contact in range(5)]
    with racetrack(databases, cell) as (engine, mapping):
        rivals: list[Any] = []

        def rival(*about: Any) -> None:
            if word in about[2] and not rivals:
                rivals.append(None)  # his own statements are none of these
                rivals[0] = _routed(engine, mapping, batch[3])

        _routed(engine, mapping, InboundMessage(1, 99, 10))
        with engine.begin() as connection:
            router = _begun(connection, mapping)
            event.listen(connection, "before_cursor_execute", rival)
            found = router.resolve_many(batch)
            again = router.resolve_many(batch)

    created, reused = Outcome.CREATED, Outcome.REUSED
    assert [created, created, created, reused, created] == [each.outcome for each in found]
    assert [2, 2, 2, 3, 2] == [each.ticket.unread_messages for each in again]
    assert rivals[0].id == found[3].ticket.id == again[3].ticket.id


@pytest.mark.parametrize("many", [False, True])
def test_a_dirty_read_is_not_trusted(databases: Databases, *, many: bool) -> None:
    """It sees the version that a rival has written, and not yet his ticket."""
    cell = Cell("mariadb", "READ UNCOMMITTED", UniqueRule.NONE, old_snapshot=False)
    with racetrack(databases, cell) as (engine, mapping), engine.connect() as rival, engine.connect() as late:
        _routed(engine, mapping, THERE)
        repository = SQLAlchemyTicketRepository(rival, mapping)
        decision = decide(HERE, repository.load(Lookup.of(HERE, Policy())), Policy(), NOON)
        assert isinstance(decision, Create)
        made: list[Any] = []

        def go_on(*about: Any) -> None:
            if "INSERT INTO ticketrouter_tickets_anchors" in about[2] and not made:
                made.append(repository.commit(decision))
                rival.commit()

        event.listen(late, "before_cursor_execute", go_on)
        router = TicketRouter(SQLAlchemyTicketRepository(late, mapping))
        found = router.resolve_many([HERE, InboundMessage(1, 6, 10)])[0] if many else router.resolve(HERE)
        late.commit()

    assert (Outcome.REUSED, made[0].id) == (found.outcome, found.ticket.id)


def _one_elsewhere(router: TicketRouter) -> None:
    router.resolve(InboundMessage(1, "A", 11))


def _several_elsewhere(router: TicketRouter) -> None:
    router.resolve_many([InboundMessage(1, "A", 11), InboundMessage(1, "b", 11)])


def _merged(router: TicketRouter) -> None:
    router.merge_contacts(1, "b", "A")


@pytest.mark.parametrize("claim", [_one_elsewhere, _several_elsewhere, _merged])
def test_a_contact_was_overtaken_in_every_way_to_write_it(
    databases: Databases, claim: Callable[[TicketRouter], None]
) -> None:
    """Where the collation knows no cases, "a" and "A" are one contact, with one anchor."""
    mapping = a_mapping(a_table())
    with made(databases, ONE_PER_DATABASE[-1], mapping) as engine, engine.connect() as late:
        router = _begun(late, mapping)
        first = _routed(engine, mapping, message := InboundMessage(1, "a", 10))
        claim(router)
        second = router.resolve(message)
        late.commit()

    assert (Outcome.REUSED, first.id) == (second.outcome, second.ticket.id)


def test_what_is_written_as_it_was_is_found_all_the_same(databases: Databases) -> None:
    """MariaDB writes nothing where all values are the same, and so an old snapshot goes on without the row."""
    mapping = a_mapping(a_table())
    message = InboundMessage(1, "a", 10)
    with made(databases, ONE_PER_DATABASE[-1], mapping) as engine, engine.connect() as late:
        late.execute(select(mapping.table.c.id)).all()
        found = []
        for connection in (engine.connect(), late):
            with connection:
                repository = SQLAlchemyTicketRepository(connection, mapping)
                found.append(TicketRouter(repository, clock=lambda: NOON).resolve(message))
                connection.commit()

    assert [Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in found]
    assert found[0].ticket == found[1].ticket


@pytest.mark.parametrize(
    "cell",
    [Cell(database, "READ COMMITTED", UniqueRule.NONE, old_snapshot=False) for database in SERVERS] + [OLD],
    ids=str,
)
def test_batches_over_the_same_contacts_neither_double_nor_wait_in_a_circle(
    databases: Databases, cell: Cell
) -> None:
    """Each worker sends its messages in an order of its own: one ticket each, with every message, at the first try."""
    contacts, workers, rounds = range(40), 4, 5
    with racetrack(databases, cell) as (engine, mapping):
        _routed(engine, mapping, InboundMessage(1, 99, 10))

        def work(number: int) -> None:
            chance = random.Random(number)
            for _ in range(rounds):
                batch = [InboundMessage(1, each, 10) for each in chance.sample(contacts, 30)]
                with engine.begin() as connection:
                    TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve_many(batch)

        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(work, number) for number in range(workers)]:
                done.result()
        columns = mapping.table.c
        with engine.begin() as connection:
            rows = connection.execute(select(columns.contact_id, columns.unread_messages)).all()

    assert sorted([*contacts, 99]) == sorted(contact for contact, _ in rows)
    assert workers * rounds * 30 + 1 == sum(count for _, count in rows)


@pytest.mark.parametrize("database", ["postgresql", "sqlite", "mariadb"])
def test_a_batch_costs_the_same_statements_without_a_rule(databases: Databases, database: str) -> None:
    """In batches of 10, 100 and 1,000, half of them for new tickets; MariaDB looks at the anchors before and after, and at rivals."""
    counts = []
    for length in (5, 50, 500):
        isolation = "SERIALIZABLE" if database == "sqlite" else "READ COMMITTED"
        cell = Cell(database, isolation, UniqueRule.NONE, old_snapshot=False)
        known = [InboundMessage(1, contact, 10) for contact in range(length)]
        more = [
            *(evolve(each, message_id=f"{each.contact_id}") for each in known),
            *(InboundMessage(1, f"new {n}", 10, message_id=f"new {n}") for n in range(length)),
        ]
        sent: list[str] = []
        with racetrack(databases, cell) as (engine, mapping), engine.begin() as connection:
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            router.resolve_many(known)
            event.listen(connection, "before_cursor_execute", lambda *about, sent=sent: sent.append(about[2]))
            found = router.resolve_many(more)
        assert ([Outcome.REUSED] * length) + ([Outcome.CREATED] * length) == [each.outcome for each in found]
        counts.append(len(sent))

    assert [{"postgresql": 9, "sqlite": 8, "mariadb": 14}[database]] * 3 == counts, sent


# --- what must be there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", SERVERS)
def test_without_anchors_nobody_is_claimed_until_they_are_there(databases: Databases, database: str) -> None:
    """The error has the DDL for this database, which cures it at the next use; a ticket that is there is joined."""
    cell = Cell(database, "READ COMMITTED", UniqueRule.NONE, old_snapshot=False)
    with racetrack(databases, cell) as (engine, mapping):
        first = _routed(engine, mapping, HERE)
        unguarded = create_engine(engine.url)
        with engine.begin() as connection:
            mapping.anchors.drop(connection)
        told = []
        with unguarded.begin() as connection:
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            joined = router.resolve(HERE)
            for work in (
                lambda: router.resolve(THERE),
                lambda: router.resolve_many([THERE, HERE]),
                lambda: router.open(THERE.key),
                lambda: router.merge_contacts(1, 5, 6),
            ):
                with pytest.raises(MappingError, match=f"create {mapping.anchors.name} with") as error:
                    work()
                told.append(str(error.value))
            active = router.active_tickets(1, 5)
        _, statement = told[0].split("\n", 1)
        with unguarded.begin() as connection:
            connection.exec_driver_sql(statement.removesuffix(";"))
            cured = TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(THERE)
        unguarded.dispose()

    assert (Outcome.REUSED, [joined.ticket], first.id) == (joined.outcome, active, joined.ticket.id)
    assert 1 == len(set(told))
    assert Outcome.CREATED is cured.outcome


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_without_the_table_a_message_that_has_an_id_is_refused(databases: Databases, backend: Any) -> None:
    """Messages without ids need no table; the DDL that is told cures it at the next use; the host's work goes on."""
    engine, mapping = create_engine(databases.new(backend.database)), TicketMapping.own()
    if backend.database == "sqlite":
        configure_sqlite(engine)
    mapping.table.create(engine)
    message = evolve(HERE, message_id="m")
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        first = router.resolve(HERE)
        told = []
        for work in (lambda: router.resolve(message), lambda: router.resolve_many([THERE, message])):
            with pytest.raises(MappingError, match=f"{mapping.message_ids.name} is missing") as error:
                work()
            told.append(str(error.value))
        forgotten = SQLAlchemyTicketRepository(connection, mapping).forget_messages(NOON)
    _, statements = told[0].split("\n", 1)
    with engine.begin() as connection:
        for statement in filter(None, statements.split(";\n")):
            connection.exec_driver_sql(statement.removesuffix(";"))
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        found = [router.resolve(message), router.resolve(message)]
    engine.dispose()
    databases.drop(engine.url)

    assert [Outcome.CREATED, Outcome.REUSED, Outcome.DUPLICATE] == [each.outcome for each in (first, *found)]
    assert 2 == found[-1].ticket.unread_messages
    assert (1, 0) == (len(set(told)), forgotten)


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_message_ids_that_are_not_remembered_are_ignored(databases: Databases, backend: Any) -> None:
    """Then no table is needed or made, and a redelivery is a message like any other."""
    engine = create_engine(databases.new(backend.database))
    if backend.database == "sqlite":
        configure_sqlite(engine)
    mapping = TicketMapping.own(remember_messages=False)
    mapping.metadata.create_all(engine)
    message = evolve(HERE, message_id="m")
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        found = [router.resolve(message), router.resolve(message), *router.resolve_many([message, message])]
        moved = router.move_connection(1, 10, 11)
        forgotten = SQLAlchemyTicketRepository(connection, mapping).forget_messages(NOON)
        tables = set(inspect(connection).get_table_names()) - {"sqlite_sequence"}
    engine.dispose()
    databases.drop(engine.url)

    assert [Outcome.CREATED] + [Outcome.REUSED] * 3 == [each.outcome for each in found]
    assert 4 == found[-1].ticket.unread_messages
    assert {mapping.table.name, mapping.anchors.name} == tables
    assert (1, 0) == (len(moved.repoints), forgotten)


@pytest.mark.parametrize("name", ["t", "t" * 55, "t" * 56, "é" * 40, "t" * 80])
def test_anchors_are_named_after_their_table(name: str) -> None:
    """In as many bytes as every database keeps, and no two tables share a name."""
    found = anchors_name(name)

    assert found.endswith("_anchors")
    assert len(found.encode()) <= 63
    assert found != anchors_name(name + "x")
    assert (found == f"{name}_anchors") is (len(name.encode()) <= 55)


# --- SQLite: the write lock is claim enough -------------------------------------------------------------------


def _unguarded(path: Path, *, configured: bool, **options: Any) -> tuple[Engine, TicketMapping]:
    engine = create_engine(f"sqlite:///{path / 'desk.sqlite3'}", connect_args={"timeout": 0, **options})
    if configured:
        configure_sqlite(engine, busy_timeout=0)
    mapping = TicketMapping.own()
    mapping.metadata.create_all(engine)
    with engine.begin() as connection:
        set_rule(connection, mapping, UniqueRule.NONE)
    return engine, mapping


def test_who_has_joined_nothing_has_the_write_lock(tmp_path: Path) -> None:
    """Whether or not it finds a row, so that nobody can have come after the look."""
    engine, mapping = _unguarded(tmp_path, configured=True)
    rival = create_engine(engine.url, connect_args={"timeout": 0})
    with engine.begin() as connection:
        repository = SQLAlchemyTicketRepository(connection, mapping)
        seen = repository.load(Lookup.of(HERE, Policy(), NOON))
        with pytest.raises(OperationalError, match="locked"), rival.begin() as other:
            other.execute(text(f"UPDATE {mapping.table.name} SET status = 'open'"))
    engine.dispose()
    rival.dispose()

    assert Snapshot(unique_rule=UniqueRule.NONE) == seen


@pytest.mark.parametrize("message_id", [None, "m"])
def test_a_driver_that_begins_nothing_keeps_no_lock(tmp_path: Path, message_id: str | None) -> None:
    """Where the driver of SQLite commits each statement, nothing keeps others away, and that is said."""
    engine, mapping = _unguarded(tmp_path, configured=False, isolation_level=None)
    with engine.begin() as connection, pytest.raises(MappingError, match="without AUTOCOMMIT"):
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(
            evolve(HERE, message_id=message_id)
        )
    configure_sqlite(engine)
    engine.dispose()
    found = _routed(engine, mapping, evolve(HERE, message_id=message_id))
    engine.dispose()

    assert HERE.key == found.key


# --- PostgreSQL: ticket and message id in one statement -------------------------------------------------------


def _protocol(context: Any) -> str:
    return f"P-{context.get_current_parameters()['contact_id']}"


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_what_sqlalchemy_fills_is_filled_for_a_message_with_an_id(databases: Databases, backend: Any) -> None:
    """A default that asks for the other values of its row finds them only in an `INSERT` that stands alone."""
    table = a_table(
        id=Column("id", Uuid, primary_key=True, default=uuid4),
        protocol=Column("protocol", String(20), nullable=False, default=_protocol),
    )
    with made(databases, backend, mapping := a_mapping(table)) as engine, engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        messages = [InboundMessage(1, "a", here, message_id="m") for here in (10, 11)]
        found = [router.resolve(message).outcome for message in (*messages, *messages)]
        rows = connection.execute(select(table.c.protocol)).all()

    assert [Outcome.CREATED] * 2 + [Outcome.DUPLICATE] * 2 == found
    assert [("P-a",)] * 2 == rows


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_columns_with_the_names_that_the_statement_gives_its_own(databases: Databases, backend: Any) -> None:
    """A ticket and its message id are one statement of PostgreSQL's, whose parts have columns, too."""
    table = a_table(
        id=Column("message_id", Integer, primary_key=True, key="id"),
        contact_id=Column("role", String(50), nullable=False, key="contact_id"),
        connection_id=Column("taken", Integer, nullable=False, key="connection_id"),
        status=Column("is_recorded", String(20), nullable=False, key="status"),
    )
    with made(databases, backend, mapping := a_mapping(table)) as engine, engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        message = InboundMessage(1, "a", 10, message_id="m")
        found = [router.resolve(message).outcome, router.resolve(message).outcome]

    assert [Outcome.CREATED, Outcome.DUPLICATE] == found


@pytest.mark.parametrize("name", ["hit", "found", "made", "recorded", "claimed"])
def test_a_table_with_the_name_of_a_part_of_a_statement(databases: Databases, name: str) -> None:
    """What else the contact has open is read from the table, and not from what a statement calls the same."""
    mapping = a_mapping(a_table().to_metadata(MetaData(), name=name))
    with made(databases, ONE_PER_DATABASE[1], mapping) as engine, engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        messages = [InboundMessage(1, "a", here, message_id=f"{here}") for here in (10, 11)]
        first, _ = [router.resolve(message) for message in messages]
        found = router.resolve(InboundMessage(1, "a", 11))

    assert (Outcome.REUSED, [first.ticket.id]) == (found.outcome, [each.id for each in found.other_active])
