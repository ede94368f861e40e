"""What `resolve` refuses before it writes anything, `explain` refuses or tells too; what `open` does, `ensure_can_open`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from attrs import Factory, evolve, frozen
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    text,
)

from tests.support.backends import Databases
from ticketrouter import (
    InboundMessage,
    Policy,
    Reopen,
    RepositoryError,
    TicketKey,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.sqlalchemy.work import message

MESSAGE = InboundMessage(1, 5, 10, message_id="m1")
PLAIN = InboundMessage(1, 5, 10)
DEFAULT = Policy()


@frozen
class Refused:
    """A call that is refused, and what is amiss with table, mapping, policy or message.

    Args:
        message: the message.
        policy: by which it is routed.
        without: columns that the table lacks, by field.
        mapping: further arguments of the mapping.
        extra: a column that nobody fills.
        rule: whether there is a unique index on active tickets.
        companions: whether there are companion tables.
        autocommit: whether each statement is a transaction.
        configured: whether SQLite's transactions begin as they must.
        closed: whether there is a closed ticket of the contact.
    """

    message: InboundMessage = PLAIN
    policy: Policy = DEFAULT
    without: tuple[str, ...] = ()
    mapping: Mapping[str, Any] = Factory(dict)
    extra: bool = False
    rule: bool = True
    companions: bool = True
    autocommit: bool = False
    configured: bool = True
    closed: bool = False


REFUSED = {
    "company": Refused(evolve(PLAIN, company_id=2), without=("company_id",), mapping={"only_company": 1}),
    "connection": Refused(evolve(PLAIN, connection_id=13), without=("connection_id",), mapping={"only_connection": 10}),
    "queue": Refused(policy=Policy(queue_id=3), without=("queue_id",)),
    "queue of a reopened one": Refused(
        policy=Policy(reopen=Reopen.always(), queue_id=3), without=("queue_id",), closed=True
    ),
    "message ids": Refused(MESSAGE, companions=False),
    "anchors": Refused(rule=False, companions=False),
    "message id in autocommit": Refused(MESSAGE, autocommit=True),
    "no rule in autocommit": Refused(rule=False, autocommit=True),
    "column that nobody fills": Refused(extra=True),
    "id of another type": Refused(evolve(PLAIN, contact_id="ana")),
    "engine": Refused(configured=False),
}  # fmt: skip
OF_THE_DESK = {
    "company",
    "connection",
    "anchors",
    "no rule in autocommit",
    "column that nobody fills",
    "engine",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Any]:
    found = databases.new(request.param)
    yield found
    databases.drop(found)


def opened(url: Any, case: Refused) -> tuple[Engine, TicketMapping]:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite" and case.configured:
        configure_sqlite(engine)
    metadata = MetaData()
    numbers = [
        name
        for name in ("company_id", "contact_id", "connection_id", "queue_id", "user_id")
        if name not in case.without
    ]
    rooms = Table(
        "rooms",
        metadata,
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=name in {"queue_id", "user_id"}) for name in numbers),
        Column("status", String(9), nullable=False),
        Column("updated_at", DateTime, nullable=False),
        *([Column("extra", String(9), nullable=False)] if case.extra else []),
    )
    active = text("status IN ('open', 'pending')")
    if case.rule and engine.dialect.name not in {"mysql", "mariadb"}:  # these have no partial index
        Index("one", *(rooms.c[n] for n in numbers if n not in {"queue_id", "user_id"}), unique=True,
              sqlite_where=active, postgresql_where=active)  # fmt: skip
    absent: dict[str, Any] = dict.fromkeys(
        ("is_group", "unread_messages", "created_at", "closed_at", *case.without)
    )
    mapping = TicketMapping(mapped_without_extra(rooms), **absent, metadata=MetaData(), **case.mapping)
    with engine.begin() as connection:
        for name in (mapping.message_ids.name, mapping.anchors.name, "rooms"):
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    metadata.create_all(engine)
    if case.companions:
        mapping.metadata.create_all(engine)
    if case.closed:
        row = dict.fromkeys(numbers, 1) | {"contact_id": 5, "connection_id": 10, "status": "closed"}
        with engine.begin() as connection:
            connection.execute(insert(rooms).values(row | {"updated_at": text("'2026-01-01 00:00:00'")}))
    return engine, mapping


def mapped_without_extra(table: Table) -> Table:
    """Return the table as a host may have written it: without a column that came later."""
    return Table(table.name, MetaData(), *(each._copy() for each in table.columns if each.name != "extra"))


def raised(call: Callable[[], Any]) -> TicketRouterError | None:
    try:
        found = call()
    except TicketRouterError as error:
        return error
    answer = getattr(found, "answer", None)
    return None if answer is None else answer.refusal


def said(error: TicketRouterError | None) -> tuple[type, str] | None:
    return None if error is None else (type(error), str(error))


def told(engine: Engine, mapping: TicketMapping, case: Refused, call: Callable[[TicketRouter], Any]) -> Any:
    level = {"isolation_level": "AUTOCOMMIT"} if case.autocommit else {}
    with engine.connect().execution_options(**level) as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping), case.policy)
        found = said(raised(lambda: call(router)))
        with suppress(Exception):
            connection.rollback()
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_explain_tells_what_resolve_refuses(url: Any, name: str) -> None:
    """The same error, raised or as the refusal of the answer; nothing says that a ticket would be made."""
    case = REFUSED[name]
    if name == "engine" and url.get_backend_name() != "sqlite":
        pytest.skip("only SQLite's driver begins no transaction")
    engine, mapping = opened(url, case)

    foretold = told(engine, mapping, case, lambda router: router.explain(case.message))
    refused = told(engine, mapping, case, lambda router: router.resolve(case.message))
    engine.dispose()

    if refused is None:
        pytest.skip("this database has it so")
    assert foretold == refused


@pytest.mark.parametrize("name", sorted(OF_THE_DESK))
def test_ensure_can_open_raises_what_open_does(url: Any, name: str) -> None:
    """The desk is told before it writes."""
    case = REFUSED[name]
    if name == "engine" and url.get_backend_name() != "sqlite":
        pytest.skip("only SQLite's driver begins no transaction")
    engine, mapping = opened(url, case)
    key: TicketKey = case.message.key

    foretold = told(engine, mapping, case, lambda router: router.ensure_can_open(key))
    refused = told(engine, mapping, case, lambda router: router.open(key))
    engine.dispose()

    if refused is None:
        pytest.skip("this database has it so")
    assert foretold == refused


def test_a_connection_that_is_lost_meanwhile_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be run again says nothing of the decision: whoever asks is told of it as of any other."""

    def lost(*_: object) -> None:
        raise RepositoryError("lost", retryable=True)

    engine = create_engine("sqlite://")
    configure_sqlite(engine)
    mapping = TicketMapping.own()
    mapping.metadata.create_all(engine)
    monkeypatch.setattr(message, "check", lost)
    with engine.begin() as connection, pytest.raises(RepositoryError, match="lost"):
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).explain(PLAIN)
    engine.dispose()
