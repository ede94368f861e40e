"""Tables of the Whaticket line, under each unique rule of the wild, routed as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Connection, DateTime, ForeignKey, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from tests.sqlalchemy.conftest import Place
from tests.support import whaticket
from tests.support.backends import SQL_BACKENDS, Backend, Databases
from tests.support.whaticket import (
    AGENT,
    GENERATED,
    GROUP,
    LAYOUTS,
    NONE,
    NOT_CLOSED,
    PERSON,
    RULES,
    SAAS,
    THREE,
    TWO,
    Layout,
    Rule,
)
from ticketrouter import (
    BlockedBySchemaError,
    InboundMessage,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    StatusScheme,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.catalogue import indexes

CREATED = (Outcome.CREATED, Reason.NO_ACTIVE_TICKET)
REUSED = (Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION)
REOPENED = (Outcome.REOPENED, Reason.ONLY_TICKET_ALLOWED)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@frozen
class Case:
    """A fork on a database; `driver` is another than the usual one."""

    database: str
    layout: Layout
    rule: Rule
    driver: Backend | None = None

    @property
    def name(self) -> str:
        words = (self.driver.name if self.driver else self.database, self.layout.name, self.rule.name)
        return "-".join(words)


def the_main_rules(database: str) -> tuple[Rule, ...]:
    return (NONE, TWO, THREE, GENERATED if database == "mariadb" else NOT_CLOSED)


CASES = [Case(d, SAAS, rule) for rule in RULES for d in rule.databases]
CASES += [
    Case(d, layout, rule)
    for d in whaticket.DATABASES
    for layout in LAYOUTS[1:]
    for rule in the_main_rules(d)[1 if d == "mariadb" else 0 :]
]
CASES += [
    Case(driver.database, SAAS, rule, driver)
    for driver in SQL_BACKENDS
    if driver.is_async
    for rule in the_main_rules(driver.database)
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The database of the case, where there is one."""
    if "case" in request.fixturenames:
        found: Case = request.getfixturevalue("case")
        return found.database
    name: str = getattr(request, "param", "postgresql")
    return name


every_database = pytest.mark.parametrize("database", whaticket.DATABASES, indirect=True)


def message(connection_id: int = 10, contact_id: int = PERSON, **more: Any) -> InboundMessage:
    return InboundMessage(1, contact_id, connection_id, **more)


def repository(connection: Connection, mapping: TicketMapping) -> SQLAlchemyTicketRepository:
    return SQLAlchemyTicketRepository(connection, mapping)


# --- the acceptance sentence --------------------------------------------------------------------------------


def test_a_database_of_the_wild_is_routed_without_configuration(
    case: Case, databases: Databases, place: Place
) -> None:
    """A restored database, under each of its unique rules, needs nothing beyond TicketMapping.whaticket(table)."""
    mapping = place.whaticket(case.layout, case.rule)
    with place.begin() as connection:
        detected = detect_unique_rule(connection, mapping)
        if case.rule.answer is UniqueRule.NONE:
            mapping.metadata.create_all(connection)

    assert case.rule.answer is detected
    driver = case.driver or next(b for b in SQL_BACKENDS if b.database == case.database)
    with place.store(driver, mapping) as store:
        found = tell(store)

    assert story(detected) == found
    assert outcome(detected) == [summary(row) for row in place.rows()]


def tell(store: Any) -> list[tuple[Any, ...]]:
    """A contact writes to two connections, an agent works; each step is a transaction of the host."""
    told: list[tuple[Any, ...]] = []
    seen: list[Any] = []

    def write(connection_id: int, **more: Any) -> Ticket | None:
        try:
            with store.transaction() as repository:
                answer = TicketRouter(repository).resolve(message(connection_id, **more))
        except BlockedBySchemaError as error:
            row = getattr(error.ticket, "connection_id", None)
            told.append((connection_id, "blocked", error.unique_rule, row))
            return None
        ticket = answer.ticket
        if ticket.id not in seen:
            seen.append(ticket.id)
        other = [each.connection_id for each in answer.other_active]
        told.append(
            (connection_id, answer.outcome, answer.reason, seen.index(ticket.id), ticket.status, other)
        )
        return ticket

    first = write(10)
    assert first is not None
    write(13)
    write(10)
    with store.transaction() as repository:
        TicketRouter(repository).accept(1, first.id, AGENT)
    accepted = write(10)
    assert accepted is not None
    assert accepted.user_id == AGENT
    with store.transaction() as repository:
        TicketRouter(repository).close(1, first.id)
    write(10)
    write(10, group_id=GROUP)
    return told


def story(rule: UniqueRule) -> list[tuple[Any, ...]]:
    """What DESIGN.md says of the story under a rule: where, what, why, which ticket, its status, others active."""
    second: tuple[Any, ...] = (13, *CREATED, 1, "pending", [10])
    elsewhere, third, group = [13], (10, *CREATED, 2, "pending", [13]), 3
    if rule in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}:
        third, group = (10, *REOPENED, 0, "pending", [13]), 2
    if rule is UniqueRule.ONE_PER_CONTACT:
        second, elsewhere = (13, "blocked", rule, 10), []
        third, group = (10, *REOPENED, 0, "pending", []), 1
    return [
        (10, *CREATED, 0, "pending", []),
        second,
        (10, *REUSED, 0, "pending", elsewhere),
        (10, *REUSED, 0, "open", elsewhere),
        third,
        (10, *CREATED, group, "pending", []),
    ]


def summary(row: dict[str, Any]) -> tuple[Any, ...]:
    """What counts of a row, and whether the host's own columns are filled."""
    by = {name.lower(): value for name, value in row.items()}
    assert by["createdat"] is not None
    assert by["updatedat"] is not None
    assert by.get("uuid", "none needed")
    assert (by.get("closedat") is None) is ("closedat" not in by or by["status"] != "closed")
    assert by.get("companyid", by.get("tenantid", 1)) == 1
    return (
        *(by[name] for name in ("contactid", "whatsappid", "status", "userid", "unreadmessages")),
        bool(by["isgroup"]),
    )


def outcome(rule: UniqueRule) -> list[tuple[Any, ...]]:
    """The rows at the end of the story: contact, connection, status, agent, unread messages, group."""
    closed = (PERSON, 10, "closed", AGENT, 3, False)
    second = (PERSON, 13, "pending", None, 1, False)
    third = (PERSON, 10, "pending", None, 1, False)
    reopened = (PERSON, 10, "pending", None, 4, False)
    group = (GROUP, 10, "pending", None, 1, True)
    match rule:
        case UniqueRule.NONE | UniqueRule.ACTIVE_PER_CONNECTION:
            return [closed, second, third, group]
        case UniqueRule.ONE_PER_CONNECTION:
            return [reopened, second, group]
        case UniqueRule.ONE_PER_CONTACT:
            return [reopened, group]


# --- rules that need a word more ----------------------------------------------------------------------------


@every_database
def test_an_index_about_more_words_than_the_schemes_is_the_rule(place: Place) -> None:
    """It leaves out no active ticket; one about fewer words does, and is no rule."""
    name = "generated-rating" if place.database == "mariadb" else "in-rating"
    rule = next(rule for rule in RULES if rule.name == name)
    right = place.whaticket(SAAS, rule)
    more = StatusScheme(active=frozenset({"open", "pending", "rating", "nps"}))
    with place.begin() as connection:
        schemes = (StatusScheme(), right.statuses, more)
        found = [
            detect_unique_rule(connection, TicketMapping.whaticket(right.table, statuses=each))
            for each in schemes
        ]

    assert [UniqueRule.ACTIVE_PER_CONNECTION] * 2 + [UniqueRule.NONE] == found


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        ("status IN ('open', 'pending')", None),
        ("status <> 'closed'", frozenset({"open", "pending", "nps"})),
        ("status <> ALL (ARRAY['closed', 'nps']::ticket_status[])", None),
    ],
    ids=["in", "not-closed", "all"],
)
def test_a_native_enumeration_is_asked_word_by_word(
    place: Place, predicate: str, words: frozenset[str] | None
) -> None:
    """Of an ENUM every word is known, so an index about all but one is about all the others."""
    with place.begin() as connection:
        whaticket.build(connection)
        connection.execute(text("CREATE TYPE ticket_status AS ENUM ('open', 'pending', 'nps', 'closed')"))
        for change in (
            "DROP DEFAULT",
            "TYPE ticket_status USING status::ticket_status",
            "SET DEFAULT 'pending'",
        ):
            connection.execute(text(f'ALTER TABLE "Tickets" ALTER COLUMN status {change}'))
        key = '"companyId", "contactId", "whatsappId"'
        connection.execute(text(f'CREATE UNIQUE INDEX tickets_active ON "Tickets" ({key}) WHERE {predicate}'))
        table = whaticket.reflected(connection)
    statuses = StatusScheme() if words is None else StatusScheme(active=words)
    with place.store(SQL_BACKENDS[2], TicketMapping.whaticket(table, statuses=statuses)) as store:
        found = tell(store)

    assert story(UniqueRule.ACTIVE_PER_CONNECTION) == found


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_catalogue_says_the_same_by_every_driver(place: Place) -> None:
    """What one driver makes a text of, another may make bytes of; what is proved of an index hangs on it."""
    mapping = place.whaticket(SAAS, NOT_CLOSED)

    def facts(connection: Connection) -> list[Any]:
        return [(index, dict(index.table)) for index in indexes(connection, mapping)]

    async def by_asyncpg() -> list[Any]:
        engine = create_async_engine(place.url.set(drivername="postgresql+asyncpg"), poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(facts)

    with place.begin() as connection:
        expected = facts(connection)

    assert {"varchar", "int4"} <= {each.type for each in expected[0][1].values()}
    assert expected == asyncio.run(by_asyncpg())


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_invalid_index_enforces_nothing(place: Place) -> None:
    """An index that PostgreSQL could not finish, because duplicates were there, is no rule."""
    mapping = place.whaticket(SAAS, NONE)
    with place.begin() as connection:
        first, _ = (whaticket.insert(connection, companyId=1, isGroup=False) for _ in range(2))
    create = text(
        'CREATE UNIQUE INDEX CONCURRENTLY tickets_active ON "Tickets" ("companyId", "contactId", "whatsappId") '
        "WHERE status <> 'closed'"
    )
    with place.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(IntegrityError):
            connection.execute(create)
        invalid = detect_unique_rule(connection, mapping)
        connection.execute(text('DELETE FROM "Tickets" WHERE id = :id'), {"id": first})
        connection.execute(text("REINDEX INDEX tickets_active"))
        valid = detect_unique_rule(connection, mapping)

    assert (UniqueRule.NONE, UniqueRule.ACTIVE_PER_CONNECTION) == (invalid, valid)


@pytest.mark.parametrize("initially", ["IMMEDIATE", "DEFERRED"])
def test_a_deferrable_constraint_is_refused(place: Place, initially: str) -> None:
    """What may be checked only at COMMIT can neither be asked nor be told from a lost race."""
    rule = Rule(
        "",
        UniqueRule.NONE,
        (f'CONSTRAINT late UNIQUE ("contactId", "companyId") DEFERRABLE INITIALLY {initially}',),
    )
    mapping = place.whaticket(SAAS, rule)
    with place.begin() as connection:
        with pytest.raises(MappingError, match=r"late is deferrable.*make it anew without DEFERRABLE"):
            TicketRouter(repository(connection, mapping)).resolve(message())
        whaticket.insert(connection, companyId=1, isGroup=False)

    assert 1 == len(place.rows())


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_an_index_over_first_characters_is_no_rule(place: Place) -> None:
    """A unique index over a prefix of a column says nothing about the whole value."""
    with place.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE `Tickets` (id INTEGER AUTO_INCREMENT PRIMARY KEY, `contactId` VARCHAR(100) NOT NULL, "
                "`whatsappId` INTEGER NOT NULL, `companyId` INTEGER NOT NULL, status VARCHAR(255) NOT NULL, "
                "`updatedAt` DATETIME NOT NULL, UNIQUE (`companyId`, `contactId`(4), `whatsappId`))"
            )
        )
        mapping = TicketMapping.whaticket(whaticket.reflected(connection))

        assert UniqueRule.NONE is detect_unique_rule(connection, mapping)


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_without_a_rule_and_without_companions_a_claim_is_refused(place: Place, isolation_level: str) -> None:
    """At every level the error comes before any write, says what to create, and the host goes on."""
    mapping = place.whaticket(SAAS, NONE)
    with place.begin(isolation_level=isolation_level) as connection:
        router = TicketRouter(repository(connection, mapping))
        with pytest.raises(MappingError, match="add the unique index, or create Tickets_anchors") as error:
            router.resolve(message())
        whaticket.insert(connection, companyId=1, isGroup=False)

        assert [] == router.active_tickets(1, GROUP)
    assert not error.value.retryable
    assert 1 == len(place.rows())


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_begins_with_the_write_lock_needs_no_companion_to_claim(place: Place) -> None:
    """SQLite lets one writer in, from BEGIN to COMMIT, so nothing else has to keep others away."""
    mapping = place.whaticket(SAAS, NONE)
    outcomes = []
    for _ in range(2):
        with place.begin() as connection:
            outcomes.append(TicketRouter(repository(connection, mapping)).resolve(message()).outcome)

    assert [Outcome.CREATED, Outcome.REUSED] == outcomes
    assert 1 == len(place.rows())


# --- a table that is in the way -----------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("what", ["resolve", "open", "ensure_can_open"])
def test_a_row_in_the_way_is_told_before_any_write(place: Place, what: str) -> None:
    """Under one row per contact the second connection is refused; no row changes, and the host's work commits."""
    mapping = place.whaticket(SAAS, TWO)
    with place.begin() as connection:
        ticket_id = whaticket.insert(connection, companyId=1, isGroup=False, status="closed")
        whaticket.insert(connection, companyId=1, isGroup=True, contactId=GROUP, whatsappId=13, userId=AGENT)
    before = place.rows()
    with place.begin() as connection:
        router = TicketRouter(repository(connection, mapping))
        acts: dict[str, Callable[[], object]] = {
            "resolve": lambda: router.resolve(message(13)),
            "open": lambda: router.open(TicketKey(1, PERSON, 13)),
            "ensure_can_open": lambda: router.ensure_can_open(TicketKey(1, PERSON, 13)),
        }
        with pytest.raises(BlockedBySchemaError) as error:
            acts[what]()
        connection.execute(text(f"UPDATE {quoted(place, 'Contacts')} SET name = 'Bia' WHERE id = 1"))
        names = text(f"SELECT name FROM {quoted(place, 'Contacts')} ORDER BY id")
        assert ["Bia", "Family"] == list(connection.execute(names).scalars())

    expected = (ticket_id, 10, UniqueRule.ONE_PER_CONTACT)
    row = error.value.ticket
    assert row is not None
    assert expected == (row.id, row.connection_id, error.value.unique_rule)
    assert before == place.rows()


def quoted(place: Place, name: str) -> str:
    return f"`{name}`" if place.database == "mariadb" else f'"{name}"'


# --- orphans ------------------------------------------------------------------------------------------------


def orphan_by(place: Place, layout: Layout, rule: Rule, deleted: str) -> tuple[TicketMapping, int]:
    """Make a ticket whose connection, or contact, the host deletes; the foreign key leaves NULL behind."""
    mapping = place.whaticket(layout, rule)
    company = {} if layout.company is None else {layout.company: 1}
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        ticket_id = whaticket.insert(connection, isGroup=False, **company)
        number = 10 if deleted == "Whatsapps" else PERSON
        connection.execute(text(f"DELETE FROM {quoted(place, deleted)} WHERE id = {number}"))
        connection.execute(
            text(f"INSERT INTO {quoted(place, deleted)} (id, name) VALUES ({number}, 'the same again')")
        )
    return mapping, ticket_id


ORPHANS = [
    pytest.param(database, layout, rule, id=f"{database}-{layout.name}-{rule.name}")
    for database in whaticket.DATABASES
    for layout in (SAAS, LAYOUTS[3])
    for rule in the_main_rules(database)
    if rule is not TWO
]


@pytest.mark.parametrize(("database", "layout", "rule"), ORPHANS, indirect=["database"])
@pytest.mark.parametrize("deleted", ["Whatsapps", "Contacts"])
def test_an_orphan_is_never_used(place: Place, layout: Layout, rule: Rule, deleted: str) -> None:
    """A ticket whose connection or contact was deleted is neither reused, listed, found nor changed."""
    mapping, orphan = orphan_by(place, layout, rule, deleted)
    (before,) = place.rows()
    with place.begin() as connection:
        router = TicketRouter(repository(connection, mapping), Policy(reopen=Reopen.always()))
        made = router.resolve(message(10))
        elsewhere = router.resolve(message(13))
        active = {ticket.id for ticket in router.active_tickets(1, PERSON)}
        acts: list[Callable[[], object]] = [
            lambda: router.close(1, orphan),
            lambda: router.reopen(1, orphan),
            lambda: router.accept(1, orphan, AGENT),
            lambda: router.transfer(1, orphan, 13),
        ]
        for act in acts:
            with pytest.raises(TicketNotFoundError):
                act()

    assert (CREATED, CREATED) == (
        (made.outcome, made.reason),
        (elsewhere.outcome, elsewhere.reason),
    )
    assert {made.ticket.id, elsewhere.ticket.id} == active
    assert before == place.rows()[0]


@every_database
@pytest.mark.parametrize("status", ["open", "closed"])
def test_an_orphan_in_the_way_is_told(place: Place, status: str) -> None:
    """Under one row per contact an orphan blocks, which is told at once instead of tried for ever."""
    mapping, orphan = orphan_by(place, SAAS, TWO, "Whatsapps")
    with place.begin() as connection:
        connection.execute(text(f"UPDATE {quoted(place, 'Tickets')} SET status = '{status}'"))
    before = place.rows()
    with place.begin() as connection:
        with pytest.raises(
            BlockedBySchemaError, match=f"ticket {orphan} of status .* on connection \\(deleted\\)"
        ):
            TicketRouter(repository(connection, mapping)).resolve(message(10))
        group = TicketRouter(repository(connection, mapping)).resolve(message(10, group_id=GROUP))

    assert group.outcome is Outcome.CREATED
    assert before == place.rows()[:-1]


@every_database
@pytest.mark.parametrize("deleted", ["Whatsapps", "Contacts"])
def test_a_redelivery_whose_ticket_is_an_orphan_gets_a_new_one(place: Place, deleted: str) -> None:
    """A message id that led to a ticket which is an orphan now does not keep its redelivery out for ever."""
    mapping = place.whaticket(SAAS, the_main_rules(place.database)[3])
    sent = message(10, message_id="wamid.1")
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        first = TicketRouter(repository(connection, mapping)).resolve(sent)
    number = 10 if deleted == "Whatsapps" else PERSON
    with place.begin() as connection:
        connection.execute(text(f"DELETE FROM {quoted(place, deleted)} WHERE id = {number}"))
        connection.execute(
            text(f"INSERT INTO {quoted(place, deleted)} (id, name) VALUES ({number}, 'the same again')")
        )
    with place.begin() as connection:
        router = TicketRouter(repository(connection, mapping))
        again, twice = router.resolve(sent), router.resolve(sent)

    assert (Outcome.CREATED, Outcome.DUPLICATE) == (again.outcome, twice.outcome)
    assert first.ticket.id != again.ticket.id == twice.ticket.id


@every_database
def test_a_row_without_company_is_nobodys(place: Place) -> None:
    """Where the host has left the company NULL, the row is as one that does not exist."""
    mapping = place.whaticket(SAAS, the_main_rules(place.database)[3])
    with place.begin() as connection:
        ticket_id = whaticket.insert(connection, companyId=None, isGroup=False)
        router = TicketRouter(repository(connection, mapping))
        made = router.resolve(message(10))
        with pytest.raises(TicketNotFoundError):
            router.close(1, ticket_id)

    assert made.outcome is Outcome.CREATED


# --- what else a host has -----------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("scope", list(Scope))
def test_a_redelivery_is_known_by_the_companion_table(place: Place, scope: Scope) -> None:
    """With the companion tables a message id is remembered, also in a table that is not ours."""
    mapping = place.whaticket(SAAS, the_main_rules(place.database)[3])
    sent = message(10, message_id="wamid.1")
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        router = TicketRouter(repository(connection, mapping), Policy(scope=scope))
        first, again = router.resolve(sent), router.resolve(sent)

    assert (Outcome.CREATED, Outcome.DUPLICATE) == (first.outcome, again.outcome)
    assert first.ticket == again.ticket


@every_database
def test_a_host_maps_its_table_by_an_orm_class(place: Place) -> None:
    """A mapped class serves as well as the reflected table, whatever its attributes are called."""

    class Base(DeclarativeBase):
        type_annotation_map = {datetime: DateTime(timezone=place.database == "postgresql")}  # noqa: RUF012

    class Contacts(Base):
        __tablename__ = "Contacts"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Connections(Base):
        __tablename__ = "Whatsapps"
        id: Mapped[int] = mapped_column(primary_key=True)

    class HostTicket(Base):
        __tablename__ = "Tickets"
        number: Mapped[int] = mapped_column("id", primary_key=True)
        state: Mapped[str] = mapped_column("status")
        contact: Mapped[int | None] = mapped_column("contactId", ForeignKey(Contacts.id))
        agent: Mapped[int | None] = mapped_column("userId")
        made: Mapped[datetime] = mapped_column("createdAt")
        changed: Mapped[datetime] = mapped_column("updatedAt")
        inbox: Mapped[int | None] = mapped_column("whatsappId", ForeignKey(Connections.id))
        group: Mapped[bool] = mapped_column("isGroup")
        unread: Mapped[int | None] = mapped_column("unreadMessages")
        queue: Mapped[int | None] = mapped_column("queueId")
        tenant: Mapped[int | None] = mapped_column("companyId")

    rule = the_main_rules(place.database)[3]
    place.whaticket(SAAS, rule)
    mapping = TicketMapping.whaticket(HostTicket)
    driver = next(b for b in SQL_BACKENDS if b.database == place.database)
    with place.store(driver, mapping) as store:
        found = tell(store)

    assert story(UniqueRule.ACTIVE_PER_CONNECTION) == found
    assert outcome(UniqueRule.ACTIVE_PER_CONNECTION) == [summary(row) for row in place.rows()]


@every_database
def test_times_are_utc_whatever_the_clock_of_the_session(place: Place) -> None:
    """What is written is read back as the same instant, to the precision of the column."""
    mapping = place.whaticket(SAAS, the_main_rules(place.database)[3])
    zone = {
        "postgresql": "SET TIME ZONE 'America/Sao_Paulo'",
        "mariadb": "SET time_zone = '-03:00'",
        "sqlite": "SELECT 1",
    }
    at = NOW + timedelta(microseconds=123456)
    with place.begin() as connection:
        connection.execute(text(zone[place.database]))
        made = TicketRouter(repository(connection, mapping), clock=lambda: at).resolve(message()).ticket
        found = TicketRouter(repository(connection, mapping)).active_tickets(1, PERSON)

    assert [made] == found
    assert (at, at, UTC) == (made.created_at, made.updated_at, made.updated_at.tzinfo)


@every_database
def test_the_time_of_closing_is_kept_in_milliseconds(place: Place) -> None:
    """The line izing notes when a ticket was closed, and the reopen window counts from there."""
    mapping = place.whaticket(LAYOUTS[4], the_main_rules(place.database)[3])
    times = iter([NOW, NOW + timedelta(seconds=1), NOW + timedelta(hours=2, seconds=1)])
    with place.begin() as connection:
        router = TicketRouter(
            repository(connection, mapping),
            Policy(reopen=Reopen.within(timedelta(hours=2))),
            clock=lambda: next(times),
        )
        first = router.resolve(message()).ticket
        closed = router.close(1, first.id)
        noted = whaticket.rows(connection)[0]["closedAt"]
        reopened = router.resolve(message())

    assert NOW + timedelta(seconds=1) == closed.closed_at
    assert int((NOW + timedelta(seconds=1)).timestamp() * 1000) == noted
    assert (Outcome.REOPENED, first.id, None) == (
        reopened.outcome,
        reopened.ticket.id,
        reopened.ticket.closed_at,
    )
    assert place.rows()[0]["closedAt"] is None


@every_database
def test_a_status_that_the_scheme_does_not_know_is_closed(place: Place) -> None:
    """A row with a word of the host's own is no active ticket, and comes to no harm."""
    mapping = place.whaticket(SAAS, NONE)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        whaticket.insert(connection, companyId=1, isGroup=False, status="nps")
        made = TicketRouter(repository(connection, mapping)).resolve(message())

    assert made.outcome is Outcome.CREATED
    assert ["nps", "pending"] == [row["status"] for row in place.rows()]


def names_the_word(ticket_id: int) -> str:
    """Return the pattern of an error that tells the row in the way, and that its word may be given by the scheme."""
    return f"ticket {ticket_id} of status 'nps' on connection 10: .*or name that status in the StatusScheme"


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
def test_an_unknown_word_that_holds_the_key_is_told(place: Place) -> None:
    """Where the index is about all but closed, a row with a word that the scheme lacks is in the way: no endless try."""
    mapping = place.whaticket(SAAS, NOT_CLOSED)
    with place.begin() as connection:
        ticket_id = whaticket.insert(connection, companyId=1, isGroup=False, status="nps")
    before = place.rows()
    with place.begin() as connection:
        with pytest.raises(BlockedBySchemaError, match=names_the_word(ticket_id)):
            TicketRouter(repository(connection, mapping)).resolve(message())
        whaticket.insert(connection, companyId=1, isGroup=True, contactId=GROUP)

    assert before == place.rows()[:-1]


@every_database
def test_words_of_a_fork_are_given_by_the_scheme(place: Place) -> None:
    """statuses= serves look-up, writes and the check of the schema alike."""
    statuses = StatusScheme(active=frozenset({"open", "pending", "group"}), initial_group="group")
    with place.begin() as connection:
        table = whaticket.build(connection, SAAS, NONE)
        mapping = TicketMapping.whaticket(table, statuses=statuses)
        mapping.metadata.create_all(connection)
        router = TicketRouter(repository(connection, mapping))
        made = router.resolve(message(group_id=GROUP))
        again = router.resolve(message(group_id=GROUP))

    assert ("group", made.ticket.id) == (made.ticket.status, again.ticket.id)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
@pytest.mark.parametrize("what", ["reopen", "transfer"])
def test_an_unknown_word_is_told_to_the_desk_too(place: Place, what: str) -> None:
    """The same row in the way of a reopening or a transfer is no lost race either."""
    mapping = place.whaticket(SAAS, NOT_CLOSED)
    with place.begin() as connection:
        stranger = whaticket.insert(connection, companyId=1, isGroup=False, status="nps")
        closed = whaticket.insert(connection, companyId=1, isGroup=False, status="closed")
        active = whaticket.insert(connection, companyId=1, isGroup=False, whatsappId=13)
    before = place.rows()
    with place.begin() as connection:
        router = TicketRouter(repository(connection, mapping))
        acts: dict[str, Callable[[], object]] = {
            "reopen": lambda: router.reopen(1, closed),
            "transfer": lambda: router.transfer(1, active, 10),
        }
        with pytest.raises(BlockedBySchemaError, match=names_the_word(stranger)):
            acts[what]()

    assert before == place.rows()


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
def test_a_batch_that_fails_keeps_no_message_id_of_what_it_has_not_written(place: Place) -> None:
    """A host that commits all the same is not told `duplicate` when the message comes again."""
    mapping = place.whaticket(SAAS, NOT_CLOSED)
    policy = Policy(reopen=Reopen.always())
    batch = [message(message_id="a"), message(contact_id=GROUP, message_id="b")]
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        stranger = whaticket.insert(connection, companyId=1, isGroup=False, status="nps")
        whaticket.insert(connection, companyId=1, isGroup=False, status="closed")
    with place.begin() as connection:
        with pytest.raises(BlockedBySchemaError, match=names_the_word(stranger)):
            TicketRouter(repository(connection, mapping), policy).resolve_many(batch)
        kept = connection.execute(select(mapping.message_ids.c.ticket_id)).scalars().all()
        made = [row["id"] for row in whaticket.rows(connection) if row["contactId"] == GROUP]

    assert made == kept
