"""R9: every statement carries the company, whatever the operation, the rule and the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.sqlalchemy.conftest import Place
from tests.support.whaticket import (
    AGENT,
    DATABASES,
    GENERATED,
    GROUP,
    LAYOUTS,
    NONE,
    NOT_CLOSED,
    PERSON,
    SAAS,
    THREE,
    TWO,
    Rule,
)
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    InboundMessage,
    Policy,
    Reason,
    Reopen,
    Scope,
    TicketKey,
    TicketRouter,
)
from ticketrouter.decisions import Create, MessageRef
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping

CASES = [
    pytest.param(database, rule, id=f"{database}-{rule.name}")
    for database in DATABASES
    for rule in (NONE, TWO, THREE, GENERATED if database == "mariadb" else NOT_CLOSED)
]


@contextmanager
def captured(engine: Engine) -> Iterator[list[str]]:
    """Collect what is sent."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def everything(place: Place, mapping: TicketMapping, rule: Rule) -> None:
    """Do whatever the library can do, lost races included."""
    for policy in (Policy(), Policy(scope=Scope.CONTACT, reopen=Reopen.within(timedelta(hours=1)))):
        with place.begin() as connection:
            repository = SQLAlchemyTicketRepository(connection, mapping)
            router = TicketRouter(repository, policy)
            first = InboundMessage(1, PERSON, 10, message_id=f"first-{policy.scope}")
            ticket = router.resolve(first).ticket
            router.resolve(first)
            router.resolve(InboundMessage(1, PERSON, 10, unread_messages=0))
            router.accept(1, ticket.id, AGENT)
            router.active_tickets(1, PERSON)
            router.find_active(ticket.key)
            router.explain(first)
            router.explain(InboundMessage(1, PERSON, 10))
            with pytest.raises(ActiveTicketExistsError):
                router.ensure_can_open(ticket.key)
            repository.get(1, ticket.id, current=True)
            with suppress(BlockedBySchemaError):
                router.resolve(InboundMessage(1, PERSON, 13))
            router.close(1, ticket.id)
            router.reopen(1, ticket.id)
            group = router.open(TicketKey(1, GROUP, 10), is_group=True, user_id=AGENT)
            router.transfer(1, group.id, 13)
            there = TicketKey(1, GROUP, 13)
            taken = Create(there, group.updated_at, Reason.REQUESTED, message_ref=MessageRef(there, "m"))
            if rule is not NONE:
                with pytest.raises(ConflictError):
                    repository.commit(taken)
            router.transfer(1, group.id, 10)
            router.close(1, ticket.id)
            router.resolve(InboundMessage(1, PERSON, 10, message_id=f"second-{policy.scope}"))
            for active in (*router.active_tickets(1, PERSON), *router.active_tickets(1, GROUP)):
                router.close(1, active.id)
            batch = [
                InboundMessage(1, contact, 10, message_id=f"{policy.scope}-{number}")
                for number, contact in enumerate((PERSON, GROUP, PERSON))
            ]
            router.resolve_many(batch)
            router.resolve_many([*batch, InboundMessage(1, PERSON, 10), InboundMessage(1, GROUP, 10)])
            router.resolve_many([InboundMessage(1, PERSON, 10), InboundMessage(1, GROUP, 10)])
            for active in (*router.active_tickets(1, PERSON), *router.active_tickets(1, GROUP)):
                router.close(1, active.id)
    with place.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        for move, source, target in (
            (router.move_connection, 10, 13),
            (router.merge_contacts, GROUP, PERSON),
        ):
            with suppress(BlockedBySchemaError):
                move(1, source, target)


CALLED = {
    "load",
    "get",
    "commit",
    "refusal",
    "load_many",
    "commit_many",
    "survey_move",
    "commit_move",
}
"""What `everything` calls of the repository, through the router or by itself."""
OF_EVERY_COMPANY = {"forget_messages"}
"""The documented exception: a host's housekeeping, by age alone."""


def test_every_call_of_the_repository_is_made_here() -> None:
    """A method that is new must be called by `everything`, or be excepted with a reason."""
    public = {name for name, value in vars(SQLAlchemyTicketRepository).items() if callable(value)}

    assert CALLED | OF_EVERY_COMPANY == {name for name in public if not name.startswith("_")}


def about(table: str, statements: list[str]) -> list[str]:
    name = re.compile(rf"\b{table}\b")
    return [
        each
        for each in statements
        if name.search(each) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|\()", each)
    ]


def places_of(table: str, statement: str) -> int:
    """Count how often a statement reads or changes the table."""
    return len(re.findall(rf'(?:FROM|UPDATE|JOIN|INTO|,)\s+["`]?{table}["`]?(?=[\s(,]|$)', statement))


def conditions(column: str, statement: str) -> int:
    """Count how often it compares, or gives, the column: with a value, a row that was sent, or what such led to."""
    value = r"[%:?(]|\$|ticketrouter_(?:sent|locked|chosen)\.company_id|[`]?ticketrouter_message_ids[`]?\.company_id"
    compared = re.findall(rf'["`]?\b{column}["`]?\s*(?:=|IS NOT DISTINCT FROM|IS)\s*(?:{value})', statement)
    given = re.findall(rf'INSERT INTO [^()]+\([^()]*["`]?\b{column}\b["`]?[^()]*\)', statement)
    return len(compared) + len(given)


@pytest.mark.parametrize(("database", "rule"), CASES)
def test_every_statement_carries_the_company(place: Place, rule: Rule) -> None:
    """Each time a statement names the tickets or a companion, it names the company beside it."""
    mapping = place.whaticket(SAAS, rule)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
    with captured(place.engine) as sent:
        everything(place, mapping, rule)
    of_tickets = about("Tickets", sent)

    assert len(of_tickets) > 20
    for statement in of_tickets:
        if "ticketrouter_rows" in statement or "ticketrouter_taken" in statement:
            continue  # the question what an index does to made-up rows reads no row
        if "AS ticketrouter_words" in statement and "FROM `Tickets` WHERE 1 = 0 UNION ALL" in statement:
            continue  # nor does the question which words the status column takes for equal
        assert 0 < places_of("Tickets", statement) <= conditions("companyId", statement), statement
    for companion in ("ticketrouter_message_ids", "ticketrouter_tickets_anchors"):
        for statement in about(companion, sent):
            if "information_schema" not in statement and "sqlite_master" not in statement:
                assert 0 < conditions("company_id", statement), statement


@pytest.mark.parametrize("database", DATABASES)
def test_only_forgetting_old_message_ids_names_no_company(place: Place) -> None:
    """It goes by age alone, deletes from the companion table only, and leaves every ticket."""
    mapping = place.whaticket(SAAS, GENERATED if place.database == "mariadb" else NOT_CLOSED)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        for company in (1, 2):
            router.resolve(InboundMessage(company, PERSON, 10, message_id="m"))
    before = place.rows()
    with place.begin() as connection, captured(place.engine) as sent:
        repository = SQLAlchemyTicketRepository(connection, mapping)
        forgotten = repository.forget_messages(datetime.now(UTC) + timedelta(hours=1))
    (statement,) = about("ticketrouter_message_ids", sent)

    assert 2 == forgotten
    assert 0 == conditions("company_id", statement)
    assert statement.startswith("DELETE FROM ticketrouter_message_ids WHERE")
    assert before == place.rows()


@pytest.mark.parametrize("database", DATABASES)
def test_a_table_of_one_company_is_asked_for_nobody_else(place: Place) -> None:
    """Where there is no column for it, another company's question is answered without any statement."""
    mapping = place.whaticket(LAYOUTS[3], THREE)
    with place.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        router.resolve(InboundMessage(1, PERSON, 10))
        with captured(place.engine) as sent:
            found = router.active_tickets(2, PERSON)
            moved = router.merge_contacts(2, PERSON, GROUP)

    assert ([], (), []) == (found, moved.repoints, sent)


@pytest.mark.parametrize("database", ["postgresql"])
def test_nothing_is_sent_for_tickets_before_the_rule_is_known(place: Place) -> None:
    """A mapping that the database contradicts sends no statement about any row."""
    with place.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "Other" (id serial)')
    mapping = TicketMapping.own()
    with place.begin() as connection, captured(place.engine) as sent, pytest.raises(MappingError):
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(InboundMessage(1, 1, 10))

    assert [] == [each for each in about("ticketrouter_tickets", sent) if "to_regclass" not in each]
