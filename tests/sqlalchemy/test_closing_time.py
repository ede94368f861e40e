"""A table without a status: a ticket is active while the time of its closing is empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve, frozen
from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, Table, event, select, text

from tests.sqlalchemy.conftest import Place
from ticketrouter import (
    ConflictError,
    InboundMessage,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    StatusScheme,
    TicketRouter,
    UniqueRule,
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
TWO = StatusScheme(active={"running"}, initial="running", reopened="running", accepted="running")
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Kind:
    """A way to keep the time of closing, and what is stored in it while a ticket is active."""

    name: str
    type: Any
    absent: Any = None
    empty: Any = None


NULL = Kind("null", DateTime())
COUNTED = Kind("null-count", Integer())
ZERO = Kind("zero", Integer(), 0, 0)
EPOCH = Kind("epoch", DateTime(), NEVER, NEVER.replace(tzinfo=None))
KINDS = (NULL, COUNTED, ZERO, EPOCH)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def mapping_of(kind: Kind, metadata: MetaData, **more: Any) -> TicketMapping:
    table = Table(
        "desk",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", Integer),
        Column("updated_at", DateTime, nullable=False),
        Column("ended", kind.type, nullable=kind.absent is None),
        Column("hidden", Integer, server_default="0", nullable=False),
    )
    given: dict[str, Any] = {
        "status": None,
        "closed_at": "ended",
        "statuses": TWO,
        "absent": None if kind.absent is None else {"closed_at": kind.absent},
        "is_group": None,
        "queue_id": None,
        "created_at": None,
        "metadata": metadata,
    }
    return TicketMapping(table, **given | more)


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
            host.execute(text(statement.replace(" CONCURRENTLY", "").replace(":", r"\:")))
    try:
        with place.begin() as host:
            yield host, mapping
    finally:
        with place.begin() as host:
            metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping), ALWAYS)


@pytest.mark.parametrize("ruled", [True, False], ids=["ruled", "anchored"])
def test_a_ticket_lives_while_it_has_no_time_of_closing(place: Place, kind: Kind, ruled: bool) -> None:
    """Closing sets the time and reopening empties it, one by one, in batches and by a move; the audit is well."""
    with desk(place, kind, ruled=ruled) as (host, mapping):
        ended = select(mapping.table.c.ended)
        rule = detect_unique_rule(host, mapping)
        router = router_of(host, mapping)
        made = router.resolve(InboundMessage(1, 5, 2, message_id="a"))
        stored = [host.execute(ended).scalar_one()]
        joined = router.resolve(InboundMessage(1, 5, 2))
        taken = router.accept(1, made.ticket.id, 9)
        with pytest.raises(ConflictError):
            router.close(1, made.ticket.id, seen=evolve(taken, updated_at=NEVER))
        closed = router.close(1, made.ticket.id, seen=taken)
        closing = host.execute(ended).scalar_one()
        reopened = router.resolve(InboundMessage(1, 5, 2))
        stored.append(host.execute(ended).scalar_one())
        batch = router.resolve_many(
            [InboundMessage(1, each, 2, message_id=f"b{n}") for n, each in enumerate((5, 6, 6))]
        )
        router.close(1, batch[1].ticket.id)
        back = router.resolve_many([InboundMessage(1, each, 2) for each in (6, 5)])
        stored += host.execute(ended).scalars()
        moved = router.merge_contacts(1, 6, 5, on_collision=OnCollision.KEEP_NEWEST)
        active = router.active_tickets(1, 5)
        seen = audit(host, mapping)

    assert (UniqueRule.ACTIVE_PER_CONNECTION if ruled else UniqueRule.NONE) is rule
    assert (Outcome.CREATED, "running") == (made.outcome, made.ticket.status)
    assert (Outcome.REUSED, 2) == (joined.outcome, joined.ticket.unread_messages)
    assert ("running", 9, "closed") == (taken.status, taken.user_id, closed.status)
    assert closing != kind.empty
    assert closed.closed_at is not None
    assert closed.closed_at.replace(microsecond=0) == closed.updated_at.replace(microsecond=0)
    assert [kind.empty] * 4 == stored
    assert (Outcome.REOPENED, "running", None) == (
        reopened.outcome,
        reopened.ticket.status,
        reopened.ticket.closed_at,
    )
    assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
    assert [Outcome.REOPENED, Outcome.REUSED] == [each.outcome for each in back]
    assert 1 == len(moved.closes)
    assert ["running"] == [each.status for each in active]
    assert (2, 1, ruled) == (seen.tickets, seen.active, seen.sound), seen.observations
    told = next(each for each in seen.observations if each.check is Check.STATUSES)
    assert "a ticket is active while it has no ended" == told.text


def test_a_batch_reopens_in_as_many_statements_however_many_there_are(place: Place, kind: Kind) -> None:
    """It empties the time of all at once: one that it left closed would go alone."""
    counts: list[int] = []
    with desk(place, kind, ruled=True) as (host, mapping):
        router = router_of(host, mapping)
        for contacts in (range(3), range(3, 15)):
            messages = [InboundMessage(1, contact, 2) for contact in contacts]
            for each in router.resolve_many(messages):
                router.close(1, each.ticket.id)
            sent: list[str] = []
            event.listen(place.engine, "before_cursor_execute", lambda *args, sent=sent: sent.append(args[2]))
            back = router.resolve_many(messages)
            counts.append(len(sent))
            assert [Outcome.REOPENED] * len(messages) == [each.outcome for each in back]
            assert {None} == {each.ticket.closed_at for each in back}

    assert counts[0] == counts[1]


def test_duplicates_are_closed_by_the_plan(place: Place, kind: Kind) -> None:
    """The plan of a repair is run as it is printed, gives the older ticket a time, and leaves one active ticket."""
    with desk(place, kind) as (host, mapping):
        made = router_of(host, mapping).resolve(InboundMessage(1, 5, 2)).ticket
        row = host.execute(select(mapping.table)).mappings().one()
        host.execute(mapping.table.insert(), {**row, "id": 99})
        plan = list(plan_repair(host, mapping))
        for each in plan:
            host.exec_driver_sql(each.statement.replace("%", "%%"))
        left = list(plan_repair(host, mapping))
        active = router_of(host, mapping).active_tickets(1, 5)

    assert [(made.id,)] == [each.ticket_ids for each in plan]
    assert [] == left
    assert [99] == [each.id for each in active]


# --- detection -------------------------------------------------------------------------------------------------

RULES = [
    (NULL, "ended IS NULL", UniqueRule.ACTIVE_PER_CONNECTION),
    (NULL, "NOT (ended IS NOT NULL)", UniqueRule.ACTIVE_PER_CONNECTION),
    (NULL, "ended IS NULL AND contact_id IS NOT NULL", UniqueRule.ACTIVE_PER_CONNECTION),
    (NULL, "ended IS NULL OR ended IS NOT NULL", UniqueRule.ONE_PER_CONNECTION),
    (NULL, "ended IS NOT NULL", UniqueRule.NONE),
    (NULL, "ended IS NULL AND hidden = 0", UniqueRule.NONE),
    (NULL, "hidden = 0", UniqueRule.NONE),
    (COUNTED, "ended IS NULL", UniqueRule.ACTIVE_PER_CONNECTION),
    (COUNTED, "ended = 0", UniqueRule.NONE),
    (ZERO, "ended = 0", UniqueRule.ACTIVE_PER_CONNECTION),
    (ZERO, "NOT (ended <> 0)", UniqueRule.ACTIVE_PER_CONNECTION),
    (ZERO, "ended IN (0, 7)", UniqueRule.NONE),
    (ZERO, "ended <> 0", UniqueRule.NONE),
    (ZERO, "ended IS NULL", UniqueRule.NONE),
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
def test_a_condition_over_the_time_is_understood(
    place: Place, kind: Kind, condition: str, expected: UniqueRule
) -> None:
    """An index is the rule exactly where it has every active ticket."""
    with desk(place, kind, *index(place, condition)) as (host, mapping):
        found = detect_unique_rule(host, mapping)
        answers = [router_of(host, mapping).resolve(InboundMessage(1, 5, 2)).outcome for _ in range(2)]

    # PostgreSQL itself proves what is not read.
    proved = (place.database, condition) == ("postgresql", "ended IN (0, 7)")
    assert (UniqueRule.ACTIVE_PER_CONNECTION if proved else expected) is found
    assert [Outcome.CREATED, Outcome.REUSED] == answers


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        (NULL, {"closed_at": None}, "pass status=None with the name of a closed_at"),
        (NULL, {"statuses": StatusScheme()}, "one active word and one closed"),
        (NULL, {"statuses": evolve(TWO, also_closed={"done"})}, "without also_closed, final and wakes"),
        (NULL, {"statuses": evolve(TWO, final={"spam"})}, "without also_closed, final and wakes"),
        (NULL, {"status_values": {"running": 0, "closed": 1}}, "status_values is for a status column"),
        (NULL, {"absent": {"closed_at": NEVER}}, "make the column NOT NULL"),
        (ZERO, {"absent": None}, 'pass absent={"closed_at": ...}'),
    ],
)
def test_what_one_time_cannot_tell_is_refused(kind: Kind, more: dict[str, Any], said: str) -> None:
    """The mapping is not made, and says what to pass."""
    with pytest.raises(MappingError, match=said.replace("(", r"\(").replace("{", r"\{")):
        mapping_of(kind, MetaData(), **more)
