"""A status column that does not store the words: integers, truths, foreign keys, members of an enumeration."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Enum,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
    select,
    text,
)

from tests.sqlalchemy.conftest import Place
from ticketrouter import (
    InboundMessage,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    StatusScheme,
    TicketRouter,
    UniqueRule,
    log,
)
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.audit import Check, audit
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.health.repair import plan_repair

ALWAYS = Policy(reopen=Reopen.always(keep_user=True))
SCHEME = StatusScheme(also_closed={"resolved"})
TWO = StatusScheme(active={"active"}, initial="active", reopened="active", accepted="active", closed="ended")


class State(enum.Enum):
    NEW = 1
    TAKEN = 2
    DONE = 3
    RESOLVED = 4
    SPAM = 5


@frozen
class Kind:
    """A way to store a status; what another program may have put there is `strange`, and reads as `strange_word`."""

    name: str
    type: Any
    values: Mapping[str, Any]
    scheme: StatusScheme = SCHEME
    strange: Any = None
    strange_word: str = ""


def by_order(*values: Any) -> dict[str, Any]:
    return dict(zip(("open", "pending", "closed", "resolved"), values, strict=True))


KINDS = (
    Kind("integer", SmallInteger(), by_order(0, 2, 1, 4), strange=7, strange_word="7"),
    Kind("boolean", Boolean(), {"active": True, "ended": False}, TWO),
    Kind(
        "foreign-key",
        Uuid(),
        by_order(*map(UUID, ("1" * 32, "2" * 32, "3" * 32, "4" * 32))),
        strange=UUID("5" * 32),
        strange_word="5" * 8,
    ),
    Kind(
        "member",
        Enum(State),
        by_order(State.TAKEN, State.NEW, State.DONE, State.RESOLVED),
        strange=State.SPAM,
        strange_word="SPAM",
    ),
    Kind(
        "other-words",
        String(20),
        by_order("ouvert", "en attente", "fermé", "résolu"),
        strange="spam",
        strange_word="spam",
    ),
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_told", set())


def table_of(type_: Any, metadata: MetaData, state: str = "state") -> Table:
    return Table(
        "desk",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column(state, type_, nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", Integer),
        Column("updated_at", DateTime, nullable=False),
        Column("closed_at", DateTime),
    )


def mapping_of(kind: Kind, metadata: MetaData, **more: Any) -> TicketMapping:
    given: dict[str, Any] = {"statuses": kind.scheme, "status_values": kind.values} | more
    return TicketMapping(
        table_of(kind.type, metadata),
        status="state",
        is_group=None,
        queue_id=None,
        created_at=None,
        metadata=metadata,
        **given,
    )


@contextmanager
def desk(
    place: Place, kind: Kind, *rule: str, ruled: bool = False
) -> Iterator[tuple[Connection, TicketMapping]]:
    metadata = MetaData()
    mapping = mapping_of(kind, metadata)
    with place.begin() as host:
        metadata.drop_all(host)
        metadata.create_all(host)
        steps = missing_steps(host, mapping) if ruled else ()
        for statement in (*rule, *(each for step in steps for each in step.up)):
            host.execute(text(statement.replace(" CONCURRENTLY", "")))
    try:
        with place.begin() as host:
            yield host, mapping
    finally:
        with place.begin() as host:
            metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping), ALWAYS)


@pytest.mark.parametrize("ruled", [True, False], ids=["ruled", "anchored"])
def test_a_ticket_lives_by_what_is_stored(place: Place, kind: Kind, ruled: bool) -> None:
    """Each word is written as its value and read as the word, one by one, in batches and by a move; the audit is well."""
    scheme, values = kind.scheme, kind.values
    if place.database == "mariadb" and "CHAR(32)" in kind.type.compile(dialect=place.engine.dialect):
        ruled = False  # as SQLAlchemy 2.0 keeps a Uuid: MariaDB makes no index of what is computed of a CHAR
    with desk(place, kind, ruled=ruled) as (host, mapping):
        rule = detect_unique_rule(host, mapping)
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2, message_id="a"))
        joined = router.resolve(InboundMessage(1, 5, 2))
        taken = router.accept(1, made.ticket.id, 9)
        stored = [host.execute(select(mapping.table.c.state)).scalar_one()]
        closed = router.close(1, made.ticket.id)
        stored.append(host.execute(select(mapping.table.c.state)).scalar_one())
        reopened = router.resolve(InboundMessage(1, 5, 2))
        batch = router.resolve_many(
            [InboundMessage(1, each, 2, message_id=f"b{n}") for n, each in enumerate((5, 6, 6))]
        )
        router.close(1, batch[1].ticket.id)
        back = router.resolve_many([InboundMessage(1, each, 2) for each in (6, 5)])
        moved = router.merge_contacts(1, 6, 5, on_collision=OnCollision.KEEP_NEWEST)
        active = router.active_tickets(1, 5)
        seen = audit(host, mapping)

    assert (UniqueRule.ACTIVE_PER_CONNECTION if ruled else UniqueRule.NONE) is rule
    assert (Outcome.CREATED, scheme.initial) == (made.outcome, made.ticket.status)
    assert (Outcome.REUSED, 2) == (joined.outcome, joined.ticket.unread_messages)
    assert (scheme.accepted, scheme.closed) == (taken.status, closed.status)
    assert [values[scheme.accepted], values[scheme.closed]] == stored
    assert (Outcome.REOPENED, scheme.reopened) == (reopened.outcome, reopened.ticket.status)
    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
    assert [Outcome.REOPENED, Outcome.REUSED] == [each.outcome for each in back]
    assert 1 == len(moved.closes)
    assert [scheme.reopened] == [each.status for each in active]
    assert (2, 1, ruled) == (seen.tickets, seen.active, seen.sound), seen.observations


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.strange is not None], ids=lambda kind: kind.name
)
def test_a_value_that_nobody_has_named_is_an_unknown_word(
    place: Place, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a ticket is closed, no message reopens it, it is told once, and the audit lists it."""
    with desk(place, kind) as (host, mapping):
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2))
        host.execute(mapping.table.update().values(state=kind.strange))
        with caplog.at_level(logging.WARNING):
            answers = [
                router.resolve(InboundMessage(1, 5, 2)),
                router.resolve_many([InboundMessage(1, 5, 2)])[0],
            ]
            router.explain(InboundMessage(1, 5, 2, message_id="x"))
        read = SQLAlchemyTicketRepository(host, mapping).get(1, made.ticket.id)
        rows = host.execute(select(mapping.table.c.state).order_by(mapping.table.c.id)).scalars().all()
        seen = audit(host, mapping)
        plan = list(plan_repair(host, mapping))

    told = [record.__dict__["status"] for record in caplog.records if record.levelname == "WARNING"]
    found = next(each for each in seen.observations if each.check is Check.STATUSES)
    assert [Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in answers]
    assert [kind.strange, kind.values[kind.scheme.initial]] == rows
    assert read is not None
    assert read.status.startswith(kind.strange_word)
    assert read.closed_at is not None
    assert [read.status] == told
    assert [read.status] == [each["status"] for each in found.examples]
    assert [] == plan


def test_a_strange_value_never_reads_as_a_known_word(place: Place) -> None:
    """Where the scheme has the word "7" for another value, a stored 7 reads as something else."""
    scheme = StatusScheme(active={"7"}, initial="7", reopened="7", accepted="7", closed="(7)")
    with desk(place, Kind("odd", Integer(), {"7": 1, "(7)": 2}, scheme)) as (host, mapping):
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2))
        host.execute(mapping.table.update().values(state=7))
        other = router.resolve(InboundMessage(1, 5, 2))
        read = SQLAlchemyTicketRepository(host, mapping).get(1, made.ticket.id)

    assert Outcome.CREATED is other.outcome
    assert read is not None
    assert "((7))" == read.status


def test_duplicates_are_closed_by_the_plan_in_what_is_stored(place: Place, kind: Kind) -> None:
    """The plan of a repair is run as it is printed, and leaves one active ticket."""
    with desk(place, kind) as (host, mapping):
        made = router_of(host, mapping).resolve(InboundMessage(1, 5, 2)).ticket
        row = host.execute(select(mapping.table)).mappings().one()
        host.execute(mapping.table.insert(), {**row, "id": 99})
        plan = list(plan_repair(host, mapping))
        for each in plan:
            host.exec_driver_sql(each.statement.replace("%", "%%"))
        states = host.execute(select(mapping.table.c.id, mapping.table.c.state)).all()

    assert [(made.id,)] == [each.ticket_ids for each in plan]
    assert {made.id: kind.values[kind.scheme.closed], 99: kind.values[kind.scheme.initial]} == dict(
        tuple(row) for row in states
    )


# --- detection -------------------------------------------------------------------------------------------------

INTEGER, TRUTH = KINDS[0], KINDS[1]
RULES = [
    (INTEGER, "state IN (0, 2)", UniqueRule.ACTIVE_PER_CONNECTION),
    (INTEGER, "state = 0 OR state = 2", UniqueRule.ACTIVE_PER_CONNECTION),
    (INTEGER, "state NOT IN (1, 4)", UniqueRule.ACTIVE_PER_CONNECTION),
    (INTEGER, "state <> 1", UniqueRule.ACTIVE_PER_CONNECTION),
    (INTEGER, "state <> -1", UniqueRule.ONE_PER_CONNECTION),
    (INTEGER, "NOT (state = 1)", UniqueRule.ACTIVE_PER_CONNECTION),
    (INTEGER, "state = 0", UniqueRule.NONE),
    (INTEGER, "state IN (0, 2, 7)", UniqueRule.ACTIVE_PER_CONNECTION),
    (TRUTH, "state", UniqueRule.ACTIVE_PER_CONNECTION),
    (TRUTH, "state = true", UniqueRule.ACTIVE_PER_CONNECTION),
    (TRUTH, "state IS TRUE", UniqueRule.ACTIVE_PER_CONNECTION),
    (TRUTH, "state <> false", UniqueRule.ACTIVE_PER_CONNECTION),
    (TRUTH, "NOT state", UniqueRule.NONE),
    (TRUTH, "state IS NOT TRUE", UniqueRule.NONE),
    (TRUTH, "state = false", UniqueRule.NONE),
]


def index(place: Place, condition: str) -> tuple[str, ...]:
    """Write a unique index over the key of the rows of a condition."""
    if place.database == "mariadb":
        return (
            f"ALTER TABLE desk ADD COLUMN held TINYINT AS (IF({condition}, 1, NULL)) VIRTUAL",
            "CREATE UNIQUE INDEX one ON desk (company_id, contact_id, held, connection_id)",
        )
    return (f"CREATE UNIQUE INDEX one ON desk (company_id, contact_id, connection_id) WHERE {condition}",)


@pytest.mark.parametrize(("kind", "condition", "expected"), RULES, ids=lambda each: str(each)[:30])
def test_a_condition_over_what_is_stored_is_understood(
    place: Place, kind: Kind, condition: str, expected: UniqueRule
) -> None:
    """An index over numbers or a truth is the rule exactly where it has every active ticket."""
    with desk(place, kind, *index(place, condition)) as (host, mapping):
        found = detect_unique_rule(host, mapping)
        answers = [router_of(host, mapping).resolve(InboundMessage(1, 5, 2)).outcome for _ in range(2)]

    # PostgreSQL does not prove it.
    is_proved = (place.database, condition) != ("postgresql", "state IS TRUE")
    assert (expected if is_proved else UniqueRule.NONE) is found
    assert [Outcome.CREATED, Outcome.REUSED] == answers


SHORT = Kind("short", String(8), by_order("o", "p", "c", "r"))


@pytest.mark.parametrize("kind", [*KINDS, SHORT], ids=lambda kind: kind.name)
def test_what_no_status_can_be_does_not_hide_the_rule(place: Place, kind: Kind) -> None:
    """The column of the status has a number in its name, and `where` compares another one with a long text."""
    if place.database == "mariadb" and "CHAR(32)" in kind.type.compile(dialect=place.engine.dialect):
        pytest.skip("MariaDB makes no index of what is computed of a CHAR")
    metadata = MetaData()
    table = table_of(kind.type, metadata, "state, 4")
    table.append_column(Column("source", String(40)))
    mapping = TicketMapping(
        table,
        status="state, 4",
        is_group=None,
        queue_id=None,
        created_at=None,
        statuses=kind.scheme,
        status_values=kind.values,
        where=table.c.source == "7 letters and more",
        on_create={"source": "7 letters and more"},
        metadata=metadata,
    )
    with place.begin() as host:
        metadata.create_all(host)
        for statement in (each for step in missing_steps(host, mapping) for each in step.up):
            host.execute(text(statement.replace(" CONCURRENTLY", "")))
        found = detect_unique_rule(host, mapping)
        made = router_of(host, mapping).resolve(InboundMessage(1, 5, 2))
        metadata.drop_all(host)

    assert UniqueRule.ACTIVE_PER_CONNECTION is found
    assert Outcome.CREATED is made.outcome


@pytest.mark.parametrize("database", ["mariadb"])
def test_a_uuid_that_mariadb_takes_for_none_is_refused(place: Place) -> None:
    """Of some versions and variants it has none: a status is compared with nothing, and no rule has it."""
    odd = UUID("e7efe12b-302a-fb39-29e6-c748af3eeae4")
    kind = Kind("odd", Uuid(), by_order(odd, *map(UUID, ("2" * 32, "3" * 32, "4" * 32))))
    if "CHAR(32)" in kind.type.compile(dialect=place.engine.dialect):
        pytest.skip("SQLAlchemy 2.0 keeps a Uuid as a CHAR")
    with desk(place, kind) as (host, mapping), pytest.raises(MappingError, match=f"'{odd}', which is stored"):
        router_of(host, mapping).resolve(InboundMessage(1, 5, 2))


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "values", "said"),
    [
        (Integer(), by_order(0, 1, 2, 3) | {"closed": 0}, "one value for closed and open"),
        (Integer(), {"open": 0, "pending": 1, "closed": 2}, r"says nothing of \['resolved'\]"),
        (SmallInteger(), by_order(0, 1, 2, 70_000), "70000"),
        (Integer(), by_order("0", "1", "2", "3"), "cannot hold it"),
        (Integer(), None, "pass status_values"),
        (Uuid(), by_order(1, 2, 3, 4), "cannot hold it"),
        (String(3), by_order("a", "b", "c", "dddd"), "dddd"),
        (Enum("a", "b", "c"), by_order("a", "b", "c", "d"), "takes only a, b, c"),
        (Enum(State), by_order(*"abcd"), "cannot hold it"),
        (String(9), by_order("a", "b", "c", "\\d"), "backslash"),
        (String(9), by_order("a", "b", "c", "%(d"), "taken for a parameter"),
        (Boolean(), by_order(True, False, 1, 0), "one value for"),
        (String(9), [("open", 1)], "status_values must be a mapping"),
        (DateTime(), None, "cannot hold it"),
    ],
)
def test_values_that_the_column_cannot_tell_are_refused(type_: Any, values: Any, said: str) -> None:
    """The mapping is not made, and says of which word, or which value, and what to pass."""
    with pytest.raises(MappingError, match=said):
        mapping_of(Kind("refused", type_, values), MetaData())


def test_two_mappings_with_other_values_share_nothing() -> None:
    """What is known of a database is kept by the values, too."""
    mapping = mapping_of(INTEGER, MetaData())
    same = mapping_of(INTEGER, MetaData())
    other = mapping_of(INTEGER, MetaData(), status_values=by_order(0, 2, 1, 5))

    assert mapping.said == same.said
    assert mapping.said != other.said
