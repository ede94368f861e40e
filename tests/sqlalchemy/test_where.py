"""The row condition: a row that does not meet it does not exist for the desk, and none is written that would not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    cast,
    column,
    create_engine,
    exists,
    extract,
    func,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from tests.support.desk_with_where import (
    ACTIVE,
    KEY,
    NOON,
    Desk,
    Host,
    not_deleted,
    of_source,
    two_conditions,
)
from ticketrouter import (
    BlockedBySchemaError,
    ConflictError,
    InboundMessage,
    Outcome,
    Policy,
    Reason,
    Reopen,
    RepositoryError,
    StatusScheme,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
    UniqueRule,
    decide,
)
from ticketrouter.batch import Joint
from ticketrouter.decisions import Lookup, ReopenTicket, Reuse
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.audit import Check, audit
from ticketrouter.sqlalchemy.health.ddl import missing_steps, schema_steps, script
from ticketrouter.sqlalchemy.health.repair import plan_repair

MESSAGE = InboundMessage(1, 50, 10)
ALWAYS = Policy(reopen=Reopen.always())
NONE = Host()
WITH_IT = Host(index=f"{ACTIVE} AND deleted_at IS NULL")
STRONGER = Host(index=ACTIVE)
FULL = Host(index="")
HOSTS = {"no rule": NONE, "its own rule": WITH_IT, "a stronger rule": STRONGER, "one row a key": FULL}


@pytest.fixture(scope="module", params=ONE_PER_DATABASE, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def desk(backend: Backend, databases: Databases) -> Iterator[Callable[[Host], Desk]]:
    """Make the tables of a host, once for all tests."""
    made: dict[Host, Desk] = {}

    def of(host: Host) -> Desk:
        if host not in made:
            made[host] = Desk(databases.new(backend.database), host)
        made[host].empty()
        return made[host]

    yield of
    for each in made.values():
        each.engine.dispose()
        databases.drop(each.url)


# --- what is not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no rule", "its own rule"])
@pytest.mark.parametrize("policy", [Policy(), ALWAYS], ids=["usual", "reopening"])
def test_rows_that_are_left_out_lie_beside(desk: Callable[[Host], Desk], name: str, policy: Policy) -> None:
    """Nothing finds, joins, reopens, closes, moves or counts them, and they stay as they are."""
    here = desk(HOSTS[name])
    for number, status in enumerate(("open", "pending", "closed", "bot"), start=1):
        here.insert(number, status=status, deleted_at=NOON)
        here.insert(number + 10, (1, 60, 20), status=status, deleted_at=NOON)
    before = here.rows()
    with here.router(policy) as router:
        first = router.resolve(MESSAGE)
        ticket = first.ticket
        assert ticket is not None
        seen = router.explain(MESSAGE).answer
        assert [ticket] == router.active_tickets(1, 50)
        assert (Outcome.CREATED, Outcome.REUSED) == (first.outcome, seen.outcome)
        batch = router.resolve_many([MESSAGE, InboundMessage(1, 60, 20), MESSAGE])
        assert [Outcome.REUSED, Outcome.CREATED, Outcome.REUSED] == [each.outcome for each in batch]
        assert router.close(1, ticket.id).closed_at is not None
        for act in (router.close, router.reopen):
            with pytest.raises(TicketNotFoundError):
                act(1, 1)
        with pytest.raises(TicketNotFoundError):
            router.accept(1, 2, 7)
        again = router.resolve(MESSAGE)
        assert (again.outcome is Outcome.REOPENED) is (policy is ALWAYS)
        for move in (router.merge_contacts(1, 60, 50), router.move_connection(1, 20, 30)):
            assert move is not None

    assert before == here.rows(*range(1, 15))


def test_a_move_leaves_them_with_their_source(desk: Callable[[Host], Desk]) -> None:
    """A merge and a move of a connection take what exists for the desk, and the ids of its messages."""
    here = desk(WITH_IT)
    here.insert(1, status="open", deleted_at=NOON)
    here.insert(2, (1, 50, 20), status="closed", deleted_at=NOON)
    before = here.rows()
    with here.router() as router:
        router.resolve(InboundMessage(1, 50, 10, message_id="a"))
        gone = router.resolve(InboundMessage(1, 51, 10, message_id="b")).ticket
    assert gone is not None
    with here.engine.begin() as connection:
        connection.execute(text(f"UPDATE desk SET deleted_at = created_at WHERE id = {gone.id}"))
    with here.router() as router:
        merged = router.merge_contacts(1, 50, 60)
        moved = router.move_connection(1, 10, 30)
        assert 1 == len(merged.repoints) == len(moved.repoints)
        known = router.resolve(InboundMessage(1, 60, 30, message_id="a"))
        new = router.resolve(InboundMessage(1, 60, 30, message_id="b"))

    assert before == here.rows(1, 2)
    assert (Outcome.DUPLICATE, Outcome.REUSED) == (known.outcome, new.outcome)


@pytest.mark.parametrize("name", ["no rule", "its own rule"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_the_id_of_a_message_whose_ticket_is_left_out_is_forgotten(
    desk: Callable[[Host], Desk], name: str, many: bool
) -> None:
    """The message is new, and is then known by its new ticket."""
    here = desk(HOSTS[name])
    message = InboundMessage(1, 50, 10, message_id="m")

    def route() -> tuple[Any, Any]:
        with here.router() as router:
            found = router.resolve_many([message, MESSAGE])[0] if many else router.resolve(message)
            assert found.ticket is not None
            return found.outcome, found.ticket.id

    first = route()
    with here.engine.begin() as connection:
        connection.execute(text("UPDATE desk SET deleted_at = created_at"))
    new, again = route(), route()

    assert Outcome.CREATED is first[0] is new[0]
    assert first[1] != new[1]
    assert (Outcome.DUPLICATE, new[1]) == again


@pytest.mark.parametrize("status", ["open", "closed"])
@pytest.mark.parametrize("name", ["no rule", "its own rule"])
def test_a_row_that_is_left_out_between_the_look_and_the_write_is_not_written(
    desk: Callable[[Host], Desk], name: str, status: str
) -> None:
    """Alone it is a lost race, in a batch it has to be looked for again; the row stays as it is."""
    here = desk(HOSTS[name])
    here.insert(1, status=status)
    lookup = Lookup.of(MESSAGE, ALWAYS)
    with here.engine.begin() as connection:
        repository = SQLAlchemyTicketRepository(connection, here.mapping)
        decision = decide(MESSAGE, repository.load(lookup), ALWAYS, NOON.replace(tzinfo=UTC))
        many = repository.load_many([lookup])
        connection.execute(text("UPDATE desk SET deleted_at = created_at"))
        assert isinstance(decision, Reuse | ReopenTicket)
        with pytest.raises(ConflictError):
            repository.commit(decision)
        if many is not None:
            assert [None] == repository.commit_many([Joint(decision, decision.at)])

    [row] = here.rows()
    assert (status, 0, NOON) == (row[4], row[5], row[9])


def test_two_desks_of_one_table_share_its_companions(desk: Callable[[Host], Desk]) -> None:
    """An id that the other desk has recorded is no redelivery here; the record is of the last one who has routed it."""
    here = desk(Host(where=of_source("sms"), index=None, on_create={"source": "sms"}))
    mail = here.host.mapping(of_source("mail"), on_create={"source": "mail"})
    message = InboundMessage(1, 50, 10, message_id="m")
    outcomes = []
    for mapping in (here.mapping, mail, mail, here.mapping, here.mapping):
        with here.router(mapping=mapping) as router:
            outcomes.append(router.resolve(message).outcome)

    assert [
        Outcome.CREATED,
        Outcome.CREATED,
        Outcome.DUPLICATE,
        Outcome.REUSED,
        Outcome.DUPLICATE,
    ] == outcomes
    assert ["sms", "mail"] == [row[-1] for row in here.rows()]


# --- what is written -------------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[TicketRouter], object]] = {
    "resolve": lambda router: router.resolve(MESSAGE),
    "resolve with an id": lambda router: router.resolve(InboundMessage(1, 50, 10, message_id="m")),
    "resolve many": lambda router: router.resolve_many([MESSAGE] * 3),
    "resolve many with ids": lambda router: router.resolve_many(
        [InboundMessage(1, 50, 10, message_id=f"m{n}") for n in range(3)]
    ),
    "open": lambda router: router.open(TicketKey(1, 50, 10)),
}


@pytest.mark.parametrize("act", REFUSED)
@pytest.mark.parametrize("index", [None, ACTIVE, ""], ids=["no rule", "a rule", "one row a key"])
def test_a_new_row_must_meet_it(desk: Callable[[Host], Desk], act: str, index: str | None) -> None:
    """A desk that does not fill what it asks is told so, and nothing stays in a transaction that is committed."""
    here = desk(Host(where=of_source("sms"), index=index))
    here.insert(1, (1, 70, 10))
    before = here.everything()
    with here.router() as router, pytest.raises(MappingError, match=r"new row of desk .*asks source"):
        REFUSED[act](router)

    assert before == here.everything()


def of_nobody(table: Table) -> Any:
    return table.c.user_id.is_(None)


def not_spam(table: Table) -> Any:
    return table.c.status != "gone"


def on_ten(table: Table) -> Any:
    return table.c.connection_id == 10


def before_today(table: Table) -> Any:
    return table.c.updated_at < NOON.replace(year=2025)


CHANGED: dict[str, tuple[Any, Callable[[TicketRouter], object]]] = {
    "accept": (of_nobody, lambda router: router.accept(1, 1, 7)),
    "close": (not_spam, lambda router: router.close(1, 1)),
    "transfer": (on_ten, lambda router: router.transfer(1, 1, 20)),
    "move": (on_ten, lambda router: router.move_connection(1, 10, 20)),
    "merge": (not_spam, lambda router: router.merge_contacts(1, 60, 50)),
    "message": (before_today, lambda router: router.resolve(MESSAGE)),
    "message with an id": (
        before_today,
        lambda router: router.resolve(InboundMessage(1, 50, 10, message_id="m")),
    ),
    "many": (before_today, lambda router: router.resolve_many([MESSAGE] * 3)),
}
GONE = StatusScheme(closed="gone")


@pytest.mark.parametrize("act", CHANGED)
@pytest.mark.parametrize("index", [None, ACTIVE], ids=["no rule", "a rule"])
def test_a_changed_row_must_meet_it(desk: Callable[[Host], Desk], act: str, index: str | None) -> None:
    """What would leave a ticket out is refused, and undone in a transaction that goes on and is committed."""
    where, do = CHANGED[act]
    here = desk(Host(where=where, index=index, statuses=GONE))
    here.insert(1, updated_at=NOON.replace(year=2024))
    here.insert(2, (1, 60, 10), updated_at=NOON.replace(year=2023))
    before = here.everything()
    with (
        here.router() as router,
        pytest.raises(MappingError, match="of desk does not meet the row condition"),
    ):
        do(router)

    assert before == here.everything()


def test_a_condition_on_what_we_write_is_no_hindrance_where_it_is_met(desk: Callable[[Host], Desk]) -> None:
    """Each act is done as ever, with or without an id; in AUTOCOMMIT, where nothing can be undone, it is refused."""
    here = desk(Host(where=lambda table: func.lower(table.c.status) != "spam", index=ACTIVE))
    with here.router() as router:
        ticket = router.resolve(InboundMessage(1, 50, 10, message_id="m")).ticket
        assert ticket is not None
        assert Outcome.REUSED is router.resolve(InboundMessage(1, 50, 10, message_id="n")).outcome
        assert [Outcome.REUSED] * 2 == [each.outcome for each in router.resolve_many([MESSAGE] * 2)]
        assert 7 == router.accept(1, ticket.id, 7).user_id
        router.transfer(1, ticket.id, 20)
        router.close(1, ticket.id)
        router.reopen(1, ticket.id)
        router.merge_contacts(1, 50, 60)
    if here.engine.dialect.name == "sqlite":
        return
    with here.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, here.mapping))
        with pytest.raises(RepositoryError, match="AUTOCOMMIT"):
            router.close(1, ticket.id)

    assert ["pending"] == [row[4] for row in here.rows()]


def test_a_trigger_that_leaves_a_changed_row_out_is_told_and_never_committed(
    desk: Callable[[Host], Desk], backend: Backend
) -> None:
    """What nobody can give back is not in a transaction that can be committed."""
    if backend.database == "sqlite":
        pytest.skip("its triggers change no row before it is told")
    here = desk(Host(index=ACTIVE))
    here.insert(1)
    before = here.rows()
    _deletes_on_close(here, backend)
    try:
        with (
            pytest.raises(MappingError, match="a ticket that was changed"),
            here.engine.begin() as connection,
        ):
            TicketRouter(SQLAlchemyTicketRepository(connection, here.mapping)).close(1, 1)
    finally:
        _without_trigger(here, backend)

    assert before == here.rows()


def _deletes_on_close(here: Desk, backend: Backend) -> None:
    with here.engine.begin() as connection:
        match backend.database:
            case "postgresql":
                connection.execute(
                    text(
                        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS "
                        "'BEGIN NEW.deleted_at = NEW.closed_at; RETURN NEW; END'"
                    )
                )
                connection.execute(
                    text("CREATE TRIGGER gone BEFORE UPDATE ON desk FOR EACH ROW EXECUTE FUNCTION gone()")
                )
            case _:
                connection.execute(
                    text(
                        "CREATE TRIGGER gone BEFORE UPDATE ON desk FOR EACH ROW SET NEW.deleted_at = NEW.closed_at"
                    )
                )


def _without_trigger(here: Desk, backend: Backend) -> None:
    with here.engine.begin() as connection:
        on = " ON desk" if backend.database == "postgresql" else ""
        connection.execute(text(f"DROP TRIGGER gone{on}"))


# --- rule 6 ----------------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[TicketRouter], object]] = REFUSED | {
    "ensure_can_open": lambda router: router.ensure_can_open(TicketKey(1, 50, 10)),
    "reopen": lambda router: router.reopen(1, 1),
    "transfer": lambda router: router.transfer(1, 2, 10),
    "merge": lambda router: router.merge_contacts(1, 60, 50),
    "move": lambda router: router.move_connection(1, 20, 10),
    "plan of a merge": lambda router: router.plan_merge_contacts(1, 60, 50),
    "plan of a move": lambda router: router.plan_move_connection(1, 20, 10),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("policy", [Policy(), ALWAYS], ids=["usual", "reopening"])
@pytest.mark.parametrize("name", ["a stronger rule", "one row a key"])
def test_a_row_that_is_left_out_and_in_the_way_is_told_and_not_shown(
    desk: Callable[[Host], Desk], act: str, policy: Policy, name: str
) -> None:
    """An index without the condition compares such a row: there is no room, which no retry would change."""
    here = desk(HOSTS[name])
    here.insert(987654, deleted_at=NOON)
    if name == "a stronger rule":
        here.insert(1, status="closed")
    elif act == "reopen":
        pytest.skip("there is no room for a second row")
    here.insert(2, (1, 50, 20))
    here.insert(3, (1, 60, 10 if "merge" in act else 30))
    before = here.everything()
    with here.router(policy) as router, pytest.raises(BlockedBySchemaError) as error:
        ACTS[act](router)

    assert before == here.everything()
    assert (None, False) == (error.value.ticket, error.value.retryable)
    assert "987654" not in f"{error.value}{error.value!r}"


def test_what_would_be_refused_is_explained(desk: Callable[[Host], Desk]) -> None:
    """Nobody reads of a new ticket which no message would get."""
    here = desk(STRONGER)
    here.insert(7, deleted_at=NOON)
    with here.router() as router:
        found = router.explain(MESSAGE).answer
        beside = router.explain(InboundMessage(1, 50, 20)).answer

    assert (None, Outcome.CREATED) == (found.outcome, beside.outcome)


# --- which index is the rule -----------------------------------------------------------------------------------

OTHER = f"{ACTIVE} AND source = 'x'"
A, ONE, NEVER = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION, UniqueRule.NONE
RULES: dict[str, tuple[Any, str | None, UniqueRule]] = {
    "alone": (not_deleted, ACTIVE, A),
    "with it": (not_deleted, f"{ACTIVE} AND deleted_at IS NULL", A),
    "with it before": (not_deleted, "deleted_at IS NULL AND status <> 'closed'", A),
    "in parentheses": (not_deleted, f"(({ACTIVE})) AND ((deleted_at IS NULL))", A),
    "with it alone": (not_deleted, "deleted_at IS NULL", ONE),
    "without a predicate": (not_deleted, "", ONE),
    "one of two": (two_conditions, f"{ACTIVE} AND source = 'sms'", A),
    "both": (two_conditions, f"source = 'sms' AND {ACTIVE} AND deleted_at IS NULL", A),
    "both alone": (two_conditions, "deleted_at IS NULL AND source IN ('sms')", ONE),
    "another": (two_conditions, f"{ACTIVE} AND source = 'mail'", NEVER),
    "narrower": (not_deleted, f"{ACTIVE} AND deleted_at IS NULL AND source = 'sms'", NEVER),
    "the opposite": (not_deleted, f"{ACTIVE} AND deleted_at IS NOT NULL", NEVER),
    "negated": (not_deleted, f"{ACTIVE} AND NOT (deleted_at IS NULL)", NEVER),
    "a bare name": (of_source("sms"), f"{ACTIVE} AND source", NEVER),
    "other rows beside": (not_deleted, f"{ACTIVE} AND deleted_at IS NULL AND user_id IS NULL", NEVER),
    "either": (
        lambda table: or_(table.c.source == "sms", table.c.source.is_(None)),
        f"{ACTIVE} AND (source = 'sms' OR source IS NULL)",
        A,
    ),
    "half of either": (
        lambda table: or_(table.c.source == "sms", table.c.source.is_(None)),
        f"{ACTIVE} AND source = 'sms'",
        NEVER,
    ),
    "among": (
        lambda table: table.c.source.in_(["sms", "mail"]),
        f"{ACTIVE} AND source IN ('mail', 'sms')",
        NEVER,
    ),
    "a list": (lambda table: table.c.source.in_(["a", "b"]), f"{ACTIVE} AND source IN ('a', 'b')", A),
    "none of": (lambda table: table.c.source.not_in(["a"]), f"{ACTIVE} AND source NOT IN ('a')", A),
    "between": (lambda table: table.c.user_id.between(1, 5), f"user_id BETWEEN 1 AND 5 AND {ACTIVE}", A),
    "no precedence": (not_deleted, f"source = 'x' OR deleted_at IS NULL AND {ACTIVE}", NEVER),
    "on the status": (lambda table: table.c.status != "spam", "status <> 'spam'", ONE),
    "a sub-query": (
        lambda table: exists(select(literal_column("1")).where(table.c.source == "sms")),
        ACTIVE,
        NEVER,
    ),
    "a text": (lambda _: text("deleted_at IS NULL"), f"{ACTIVE} AND deleted_at IS NULL", NEVER),
    "the present time": (lambda table: table.c.deleted_at > func.now(), OTHER, NEVER),
    "a draw": (lambda table: table.c.user_id > func.random(), OTHER, NEVER),
    "a part of a time": (lambda table: extract("year", table.c.deleted_at) == 2026, OTHER, NEVER),
    "a time as a text": (lambda table: cast(table.c.deleted_at, String(9)) == "x", OTHER, NEVER),
    "a change that no index is about": (lambda table: table.c.deleted_at > func.now(), ACTIVE, A),
    "a function that an index has": (
        lambda table: func.sign(table.c.user_id) == 1,
        f"sign(user_id) = 1 AND {ACTIVE}",
        A,
    ),
    "a steady function": (lambda table: func.coalesce(table.c.user_id, 0) == 0, None, NEVER),
    "none": (None, f"{ACTIVE} AND deleted_at IS NULL", NEVER),
}
OPAQUE = {"a sub-query", "a text", "the present time", "a draw", "a part of a time", "a time as a text"}
"""What no index can have."""
PROVED = {"among"}
"""What PostgreSQL proves though it is written otherwise."""


@pytest.mark.parametrize("name", RULES)
def test_an_index_is_the_rule_if_no_ticket_of_the_desk_can_be_left_out(
    databases: Databases, backend: Backend, name: str
) -> None:
    """It is found with the condition as it is written, in any order; PostgreSQL proves more."""
    where, index, expected = RULES[name]
    if name == "a bare name" and backend.database == "postgresql":
        pytest.skip("a text is no condition there")
    here = Desk(databases.new(backend.database), Host(where=where, index=index))
    if name in PROVED and backend.database == "postgresql":
        expected = A
    try:
        with here.engine.connect() as connection:
            found = detect_unique_rule(connection, here.mapping)
            seen = audit(connection, here.mapping)
            steps = script(missing_steps(connection, here.mapping), backend.database)
    finally:
        here.engine.dispose()
        databases.drop(here.url)

    assert expected == found == seen.unique_rule
    assert ("one_active" in steps) is (expected is not A and name not in OPAQUE)
    assert ("No rule: the row condition" in steps) is (name in OPAQUE)
    (advice,) = {each.advice for each in seen.findings if each.check is Check.UNIQUE_RULE} or {""}
    assert ("write `where` so that an index can have it" in advice) is (name in OPAQUE)


@pytest.mark.parametrize("where", [not_deleted, two_conditions, RULES["either"][0]])
def test_the_index_that_schema_prints_is_the_rule(databases: Databases, backend: Backend, where: Any) -> None:
    """It has the condition, as the generated column of MariaDB has it, and leaves the rows out that it leaves out."""
    here = Desk(databases.new(backend.database), Host(where=where, on_create={"source": "sms"}))
    try:
        with here.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for step in schema_steps(here.mapping, backend.database, tables=False):
                for statement in step.up:
                    connection.exec_driver_sql(statement.replace("%", "%%"))
            assert A is detect_unique_rule(connection, here.mapping)
        here.insert(1, deleted_at=NOON, source="else")
        with here.router() as router:
            assert Outcome.CREATED is router.resolve(MESSAGE).outcome
            assert Outcome.REUSED is router.resolve(MESSAGE).outcome
    finally:
        here.engine.dispose()
        databases.drop(here.url)


# --- audit and repair ------------------------------------------------------------------------------------------


def test_audit_and_repair_see_what_exists_for_the_desk(desk: Callable[[Host], Desk]) -> None:
    """They count, and close, no row that is left out, nor do they keep one for another's sake."""
    here = desk(NONE)
    here.insert(1)
    here.insert(2)
    for number in range(3, 9):
        here.insert(number, deleted_at=NOON, updated_at=NOON.replace(year=2027))
    here.insert(9, (1, 51, 10), deleted_at=NOON, status="strange")
    with here.engine.connect() as connection:
        seen = audit(connection, here.mapping)
        plan = list(plan_repair(connection, here.mapping))
    assert (2, 2) == (seen.tickets, seen.active)
    assert {"key has more than one active ticket" in each.text for each in seen.findings} == {True, False}
    assert not any("strange" in str(each.examples) for each in seen.observations)
    assert [(1,)] == [each.ticket_ids for each in plan]
    left = here.rows(*range(3, 10))
    with here.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE desk SET deleted_at = created_at WHERE id = 2")
        connection.exec_driver_sql(plan[0].statement)
        kept = here.mapping.table.c.status
        assert "open" == connection.execute(select(kept).where(here.mapping.table.c.id == 1)).scalar_one()
        connection.exec_driver_sql("UPDATE desk SET deleted_at = NULL WHERE id = 2")
        connection.exec_driver_sql(plan[0].statement)

    assert ["closed", "open"] == [row[4] for row in here.rows(1, 2)]
    assert left == here.rows(*range(3, 10))


# --- how it may be given ---------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Conversation(Base):
    __tablename__ = "conversation"
    id: Mapped[int] = mapped_column(primary_key=True)
    company_id: Mapped[int]
    contact_id: Mapped[int]
    connection_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(20))
    updated_at: Mapped[int]
    kind: Mapped[str | None] = mapped_column(String(20))
    live: Mapped[bool] = mapped_column(default=True)


class Blocked(Base):
    __tablename__ = "blocked"
    contact: Mapped[int] = mapped_column(primary_key=True)


FORMS: dict[str, Any] = {
    "an attribute": Conversation.kind == "a%b",
    "a flag": and_(Conversation.live, Conversation.kind == "a%b"),
    "no flag": ~Conversation.live.is_(False) & (Conversation.kind == "a%b"),
    "a text": text("kind = 'a%b'"),
    "a text with its table": text("conversation.kind = 'a%b' AND \"contact_id\" > 0 AND conversation.live"),
    "a part of a text": literal_column("kind") == "a%b",
    "a bare column": column("kind") == "a%b",
    "a sub-query": ~exists().where(Blocked.contact == Conversation.contact_id) & (Conversation.kind == "a%b"),
    "a list of another table": Conversation.contact_id.not_in(select(Blocked.contact))
    & (Conversation.kind == "a%b"),
    "a function": func.coalesce(Conversation.kind, "").like("a%b"),
    "the present time": (Conversation.kind == "a%b") & (func.now() > datetime(1999, 1, 1)),  # noqa: DTZ001
}


@pytest.mark.parametrize("name", FORMS)
def test_it_may_be_any_expression(databases: Databases, backend: Backend, name: str) -> None:
    """Of a mapped class, with a per cent sign, with a sub-query, as a text: in every statement it is about its row."""
    if name == "a text with its table" and backend.database == "mariadb":
        pytest.skip("its quotes are others")
    here = _Mapped(databases.new(backend.database), FORMS[name])
    try:
        _route_all(here)
    finally:
        here.engine.dispose()
        databases.drop(here.url)


class _Mapped(Desk):
    def __init__(self, url: Any, where: Any) -> None:
        super().__init__(url, NONE)
        Base.metadata.create_all(self.engine)
        self.mapping = TicketMapping(
            Conversation,
            where=where,
            on_create={"kind": "a%b", "live": True},
            is_group=None,
            unread_messages=None,
            user_id=None,
            queue_id=None,
            created_at=None,
            closed_at=None,
        )
        self.mapping.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            for number, (contact, kind) in enumerate([(50, "x"), (50, None), (66, "a%b")], start=9001):
                row: dict[str, Any] = {
                    "id": number,
                    "company_id": 1,
                    "contact_id": contact,
                    "connection_id": 10,
                }
                row |= {"status": "open", "updated_at": 0, "kind": kind, "live": contact == 66}
                connection.execute(self.mapping.table.insert().values(row))
            connection.execute(Base.metadata.tables["blocked"].insert().values(contact=77))


def _route_all(here: Desk) -> None:
    with here.router(ALWAYS) as router:
        first = router.resolve(InboundMessage(1, 50, 10, message_id="m"))
        ticket = first.ticket
        assert ticket is not None
        assert Outcome.CREATED is first.outcome
        assert Reason.ALREADY_ROUTED is router.resolve(InboundMessage(1, 50, 10, message_id="m")).reason
        assert Outcome.REUSED is router.resolve(MESSAGE).outcome
        assert 9003 == router.resolve(InboundMessage(1, 66, 10)).ticket.id
        many = [InboundMessage(1, contact, 10, message_id=f"i{contact}") for contact in (50, 51, 52)]
        assert [Outcome.REUSED, Outcome.CREATED, Outcome.CREATED] == [
            each.outcome for each in router.resolve_many(many)
        ]
        assert [Outcome.DUPLICATE] * 3 == [each.outcome for each in router.resolve_many(many)]
        router.close(1, ticket.id)
        assert Outcome.REOPENED is router.resolve(MESSAGE).outcome
        router.transfer(1, ticket.id, 20)
        router.merge_contacts(1, 51, 52)
        router.move_connection(1, 20, 30)
        assert 30 == router.find_active(TicketKey(1, 50, 30)).connection_id  # type: ignore[union-attr]
    with here.engine.connect() as connection:
        assert 4 == audit(connection, here.mapping).tickets
        list(plan_repair(connection, here.mapping))


def test_a_row_of_another_table_may_make_a_new_ticket_exist(desk: Callable[[Host], Desk]) -> None:
    """A sub-query about the ticket's own id is not asked of a new row, which the host links then; all else of it is."""
    here = desk(Host(where=_linked))
    with here.engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS links"))
        connection.execute(text("CREATE TABLE links (ticket_id INTEGER, state VARCHAR(10))"))
    link = text("INSERT INTO links (ticket_id, state) SELECT id, 'open' FROM desk WHERE source = 'sms'")
    with here.engine.begin() as connection:
        repository = SQLAlchemyTicketRepository(connection, here.host.mapping(on_create={"source": "sms"}))
        router = TicketRouter(repository)
        assert Outcome.CREATED is router.resolve(MESSAGE).outcome
        assert router.find_active(TicketKey(1, 50, 10)) is None
        connection.execute(link)
        assert Outcome.REUSED is router.resolve(MESSAGE).outcome
        assert [Outcome.REUSED] * 2 == [each.outcome for each in router.resolve_many([MESSAGE] * 2)]
    before = here.rows()
    with here.router() as router, pytest.raises(MappingError, match="new row of desk"):
        router.resolve(InboundMessage(1, 51, 10))

    assert before == here.rows()


def _linked(table: Table) -> Any:
    links = Table("links", MetaData(), Column("ticket_id", Integer), Column("state", String(10)))
    link = exists().where(links.c.ticket_id == table.c.id, links.c.state == "open")
    return link & (table.c.source == "sms")


def _table() -> Table:
    return Host().mapping().table


WRONG: dict[str, tuple[Callable[[Table], Any], str]] = {
    "a word": (lambda _: "deleted_at IS NULL", "must be an expression"),
    "a function": (lambda _: lambda table: table, "must be an expression"),
    "True": (lambda _: True, "must be an expression"),
    "a column that is no condition": (lambda table: table.c.user_id, "must be a condition"),
    "an unfilled value": (lambda table: table.c.source == bindparam("source"), "not given, source"),
    "a value that is made later": (
        lambda table: table.c.source == bindparam("source", callable_=lambda: "sms"),
        "not given, source",
    ),
    "a value in a text": (lambda _: text("source = :source"), "a text with bound values"),
    "an open quote": (lambda _: text("source = 'sms"), "never closed"),
    "another table": (
        lambda _: Table("other", MetaData(), Column("x", Integer)).c.x == 1,
        r"asks other\.x, which is no column of desk",
    ),
    "its own table made anew": (lambda _: _table().c.deleted_at.is_(None), "no column of desk"),
    "no column": (lambda _: text("1 = 1"), "must ask a column of desk"),
    "a backslash": (lambda table: table.c.source == "a\\b", "backslash"),
    "what may be a parameter": (lambda table: table.c.source == "a%(b", "parameter"),
    "a line": (lambda table: table.c.source == "a\nb", "backslash"),
    "an empty list": (lambda table: table.c.source.in_([]), "empty list"),
    "bytes": (lambda table: table.c.source == b"sms", "has bytes"),
    "a list with bytes": (lambda table: table.c.source.in_(["sms", b"sms"]), "has bytes"),
    "a value that is no literal": (lambda table: table.c.source == object(), "cannot be written"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_row_condition_is_refused_when_the_mapping_is_made(name: str) -> None:
    """The text says of which argument, and what is wrong."""
    where, told = WRONG[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MappingError, match=f"^where .*{told}"):
            Host(where=where).mapping()


@pytest.mark.parametrize("timezone", [True, False], ids=["declared with a zone", "declared without"])
def test_a_time_with_a_zone_stands_beside_a_column_that_keeps_one(
    databases: Databases, backend: Backend, timezone: bool
) -> None:
    """Elsewhere the database would refuse it, or leave its zone out: the text says how to give it."""
    keeps = timezone and backend.database == "postgresql"
    url = databases.new(backend.database)
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)

    def mapped(at: datetime) -> TicketMapping:
        table = Host().mapping().table.to_metadata(MetaData())
        table.c.deleted_at.type = DateTime(timezone=timezone)
        where = or_(table.c.deleted_at.is_(None), table.c.deleted_at > at)
        return TicketMapping(table, is_group=None, unread_messages="unread", where=where)

    aware, naive = (mapped(at) for at in (NOON.astimezone(UTC), NOON.replace(tzinfo=None)))
    fit, unfit = (aware, naive) if keeps else (naive, aware)
    try:
        fit.table.metadata.create_all(engine)
        fit.metadata.create_all(engine)
        with engine.begin() as connection:
            made = TicketRouter(SQLAlchemyTicketRepository(connection, fit)).resolve(MESSAGE)
        with engine.begin() as connection:
            for step in missing_steps(connection, fit):
                for statement in step.up:
                    connection.execute(text(statement.replace("CONCURRENTLY ", "").replace(":", r"\:")))
            rule = detect_unique_rule(connection, fit)
        told = "with its zone" if keeps else "without, as the column has it"
        with (
            engine.begin() as connection,
            pytest.raises(MappingError, match=f"^where has the time .* {told}"),
        ):
            TicketRouter(SQLAlchemyTicketRepository(connection, unfit)).resolve(MESSAGE)
        with engine.begin() as connection, pytest.raises(MappingError, match=r"^where has the time"):
            missing_steps(connection, unfit)
    finally:
        engine.dispose()
        databases.drop(url)

    assert (Outcome.CREATED, A) == (made.outcome, rule)


def test_mappings_with_other_conditions_say_something_else() -> None:
    """Of two that differ by a constant alone each has statements of its own; of two that say the same one is enough."""
    sms, mail = Host(where=of_source("sms")), Host(where=of_source("mail"))

    assert sms.mapping().said == sms.mapping().said
    assert sms.mapping().said != mail.mapping().said != Host(where=None).mapping().said


def test_a_constant_is_no_bound_value(desk: Callable[[Host], Desk]) -> None:
    """Two desks of one engine, whose conditions differ by a constant alone, never share a statement."""
    here = desk(
        Host(where=of_source("sms"), index=f"{ACTIVE} AND source = 'sms'", on_create={"source": "sms"})
    )
    mail = here.host.mapping(of_source("mail"), on_create={"source": "mail"})
    found = []
    for mapping in (here.mapping, mail, here.mapping, mail):
        with here.router(mapping=mapping) as router:
            found.append(router.resolve(MESSAGE))

    assert [Outcome.CREATED, Outcome.CREATED, Outcome.REUSED, Outcome.REUSED] == [
        each.outcome for each in found
    ]
    assert ["sms", "mail"] == [row[-1] for row in here.rows()]
    assert KEY == here.host.over
