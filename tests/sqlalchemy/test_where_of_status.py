"""A row condition that asks the status: what is written is proved to meet it, and costs no statement more; or is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Boolean, Column, DateTime, Enum, Integer, MetaData, String, Table, func, or_, select

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases, SqlStore, counted
from tests.support.words import SLEEPERS
from ticketrouter import InboundMessage, OnCollision, Policy, Reopen, StatusScheme, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import MappingError, TicketMapping, detect_unique_rule
from ticketrouter.sqlalchemy.health.ddl import missing_steps

every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
MANY = 30
USUAL = StatusScheme()
NUMBERS = {"pending": 1, "open": 2, "closed": 3, "waiting": 4, "snoozed": 5, "paused": 6}


@frozen
class Kind:
    """A type of the status, how it stores the words, and a row condition."""

    type_: Any
    where: Callable[[Any], Any] | None
    statuses: StatusScheme = USUAL
    values: dict[str, Any] | None = None


WORDS = Enum("pending", "open", "closed", "archived", name="words")
PROVED = {
    "another word": Kind(String(20), lambda c: c.status != "archived"),
    "no word of a list": Kind(String(20), lambda c: c.status.not_in(["archived", "spam"]) & c.alive),
    "all words": Kind(String(20), lambda c: c.status.in_(["pending", "open", "closed"])),
    "nested": Kind(
        String(20),
        lambda c: (
            c.alive & (c.status.is_not(None) & (c.status != "a") & or_(c.status != "b", c.status == "c"))
        ),
    ),
    "number": Kind(
        Integer(), lambda c: c.status < 9, values={k: NUMBERS[k] for k in ("pending", "open", "closed")}
    ),
    "enumeration": Kind(WORDS, lambda c: c.status != "archived"),
    "sleepers": Kind(String(20), lambda c: c.status != "archived", SLEEPERS),
}
NOT_PROVED = {
    "closing leaves out": Kind(String(20), lambda c: c.status != "closed"),
    "beside another column": Kind(String(20), lambda c: or_(c.status != "archived", c.alive)),
    "by a function": Kind(String(20), lambda c: func.lower(c.status) != "archived"),
    "and a count": Kind(String(20), lambda c: (c.status != "archived") & (c.unread_messages < 999)),
}


def mapping(kind: Kind, *, where: bool = True) -> TicketMapping:
    """Map a table with such a status."""
    table = Table(
        "talks",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", kind.type_, nullable=False),
        Column("alive", Boolean, nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("closed_at", DateTime),
        Column("user_id", Integer),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "queue_id", "created_at"))
    return TicketMapping(
        table,
        **none,
        on_create={"alive": True},
        where=kind.where(table.c) if where and kind.where is not None else None,
        statuses=kind.statuses,
        status_values=kind.values,
        metadata=table.metadata,
    )


def opened(databases: Databases, backend: Backend, made: TicketMapping) -> SqlStore:
    """Make a database with such a table, and its unique rule."""
    store = SqlStore(backend, databases.new(backend.database), made)
    made.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        for step in missing_steps(connection, made):
            for statement in step.up:
                connection.exec_driver_sql(statement.replace(" CONCURRENTLY", ""))
    return store


def acts(store: SqlStore, *, named: bool) -> dict[str, tuple[int, list[Any]]]:
    """Return how many statements each act takes, and what it answers."""
    numbers = iter(range(10_000))
    told: dict[str, tuple[int, list[Any]]] = {}

    def of(*contacts: int) -> list[InboundMessage]:
        return [
            InboundMessage(1, each, 10, message_id=f"{named}{next(numbers)}" if named else None)
            for each in contacts
        ]

    def done(name: str, act: Callable[[TicketRouter], Any]) -> Any:
        with store.transaction() as repository:
            router = TicketRouter(repository, Policy(reopen=Reopen.always()))
            router.resolve(InboundMessage(1, 999, 10))  # what is found out once for a connection
            with counted(store) as sent:
                given = act(router)
            answers = given if isinstance(given, list) else [given]
            told[name] = (
                len(sent),
                [getattr(each, "outcome", getattr(each, "status", None)) for each in answers],
            )
            return given

    first = done("create", lambda router: router.resolve(of(1)[0])).ticket.id
    done("accept", lambda router: router.accept(1, first, 7))
    done("close", lambda router: router.close(1, first))
    done("reopen", lambda router: router.reopen(1, first))
    done("close again", lambda router: router.close(1, first))
    done("reopen by a message", lambda router: router.resolve(of(1)[0]))
    many = range(MANY)
    found = done("create many", lambda router: router.resolve_many(of(*many)))
    done("join many", lambda router: router.resolve_many(of(*many, *many)))
    done("close all", lambda router: [router.close(1, each.ticket.id) for each in found])
    done("reopen many", lambda router: router.resolve_many(of(*many, 77)))
    done("merge", lambda router: router.merge_contacts(1, 2, 3, on_collision=OnCollision.KEEP_NEWEST))
    return told


@every_database
@pytest.mark.parametrize("name", PROVED)
def test_it_costs_no_statement_more_where_the_words_meet_it(
    databases: Databases, backend: Backend, name: str
) -> None:
    """Of the same table without it: for each act alone, and for batches, which are at once."""
    told = []
    for where in (True, False):
        store = opened(databases, backend, mapping(PROVED[name], where=where))
        told.append([acts(store, named=named) for named in (False, True)])
        store.dispose()
        databases.drop(store.url)

    assert told[1] == told[0]
    assert all(cost < MANY for each in told[0] for act, (cost, _) in each.items() if "many" in act)


@every_database
@pytest.mark.parametrize("name", NOT_PROVED)
def test_what_is_not_proved_is_looked_at_and_undone(
    databases: Databases, backend: Backend, name: str
) -> None:
    """A change that would leave its ticket out is a MappingError, and nothing of it stays; others are done as before."""
    kind = NOT_PROVED[name]
    store = opened(databases, backend, mapping(kind))
    with store.transaction() as repository:
        router = TicketRouter(repository, Policy(reopen=Reopen.always()))
        ticket = router.resolve(InboundMessage(1, 1, 10)).ticket
    leaves_out = name == "closing leaves out"
    with store.transaction() as repository:
        router = TicketRouter(repository, Policy(reopen=Reopen.always()))
        if leaves_out:
            with pytest.raises(MappingError, match="does not meet the row condition"):
                router.close(1, ticket.id)
        else:
            router.close(1, ticket.id)
        many = router.resolve_many([InboundMessage(1, each, 10) for each in (1, 2, 1)])
    with store.engine.begin() as connection:
        rows = connection.execute(select(store.mapping.table.c.status)).scalars().all()
    store.dispose()
    databases.drop(store.url)

    assert ["reused" if leaves_out else "reopened", "created", "reused"] == [each.outcome for each in many]
    assert {"pending"} == set(rows)


@every_database
@pytest.mark.parametrize("name", sorted(NOT_PROVED.keys() - {"closing leaves out"}))
def test_what_is_not_proved_costs_as_the_reference_says(
    databases: Databases, backend: Backend, name: str
) -> None:
    """Each write of what it asks two statements more, as it can be undone; and batches go one by one."""
    costs, rule = [], UniqueRule.NONE
    for where in (True, False):
        store = opened(databases, backend, mapping(NOT_PROVED[name], where=where))
        if where:
            with store.engine.connect() as connection:
                rule = detect_unique_rule(connection, store.mapping)
        costs.append({act: cost for act, (cost, _) in acts(store, named=False).items()})
        store.dispose()
        databases.drop(store.url)
    looked_at, plain = costs
    # MariaDB has no rule by what it cannot read, and then others are kept away by the anchor.
    anchor = int(rule is UniqueRule.NONE)

    # The count is written by what reopens only, and the status is proved.
    more = (
        {"accept": 0, "close": 0, "reopen": 2}
        if name == "and a count"
        else {"accept": 2, "close": 2, "reopen": 2 + anchor}
    )

    assert more == {act: looked_at[act] - plain[act] for act in more}
    assert all(looked_at[act] > MANY > plain[act] for act in plain if act.endswith(" many"))


@every_database
def test_a_word_meets_it_as_the_column_compares(databases: Databases, backend: Backend) -> None:
    """Where a collation takes CLOSED for closed, closing is found to leave its ticket out; elsewhere it is not."""
    store = opened(databases, backend, mapping(Kind(String(20), lambda c: c.status != "CLOSED")))
    with store.transaction() as repository:
        router = TicketRouter(repository)
        ticket = router.resolve(InboundMessage(1, 1, 10)).ticket
        if backend.database == "mariadb":
            with pytest.raises(MappingError, match="does not meet the row condition"):
                router.close(1, ticket.id)
        else:
            router.close(1, ticket.id)
        left = repository.get(1, ticket.id)
    store.dispose()
    databases.drop(store.url)

    assert left is not None
    assert ("pending" if backend.database == "mariadb" else "closed") == left.status


TRIGGERS = {
    "postgresql": [
        """CREATE OR REPLACE FUNCTION archived() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.status = 'pending' AND OLD.status = 'closed' THEN NEW.status := 'archived'; END IF;
        RETURN NEW; END $$""",
        "CREATE TRIGGER archives BEFORE UPDATE ON talks FOR EACH ROW EXECUTE FUNCTION archived()",
    ],
    "mariadb": [
        """CREATE TRIGGER archives BEFORE UPDATE ON talks FOR EACH ROW IF NEW.status = 'pending'
        AND OLD.status = 'closed' THEN SET NEW.status = 'archived'; END IF""",
    ],
}
"""SQLite has none that come before a row is written."""


@pytest.mark.parametrize(
    "backend",
    [each for each in ONE_PER_DATABASE if each.database in TRIGGERS],
    ids=lambda backend: backend.name,
)
@pytest.mark.parametrize("named", [True, False], ids=["with ids", "without"])
def test_a_trigger_that_makes_another_word_of_it_loses_no_message(
    databases: Databases, backend: Backend, named: bool
) -> None:
    """It makes rows that the desk does not see: nothing of the batch stays, and no other ticket is made for it."""
    made = mapping(PROVED["another word"])
    store = opened(databases, backend, made)
    contacts = (5, 6, 7)

    def read() -> list[Any]:
        with store.engine.begin() as connection:
            rows = connection.execute(select(made.table).order_by(made.table.c.id)).all()
            return [rows, connection.execute(select(made.message_ids)).all()]

    def all_of(prefix: str) -> list[InboundMessage]:
        return [
            InboundMessage(1, each, 10, message_id=f"{prefix}{each}" if named else None) for each in contacts
        ]

    with store.transaction() as repository:
        router = TicketRouter(repository)
        for resolution in router.resolve_many(all_of("first")):
            router.close(1, resolution.ticket.id)
    with store.engine.begin() as connection:
        for statement in TRIGGERS[backend.database]:
            connection.exec_driver_sql(statement)
    before = read()
    with pytest.raises(MappingError, match="where"), store.transaction() as repository:
        TicketRouter(repository, Policy(reopen=Reopen.always())).resolve_many(all_of("second"))

    assert before == read()
    store.dispose()
