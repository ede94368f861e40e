"""How many statements a message costs, on each database: the reference has the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.sqlalchemy.conftest import Place
from tests.support import whaticket
from tests.support.backends import ONE_PER_DATABASE, SQL_BACKENDS, Backend, Databases, SqlStore, counted
from tests.support.opening import open_worded, opening
from tests.support.untimed import BARE, UntimedStore, set_rule
from tests.support.words import SLEEPERS
from ticketrouter import (
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reopen,
    Scope,
    StatusScheme,
    TicketRouter,
    UniqueRule,
)

MESSAGE = InboundMessage(1, 5, 10)
WITH_ID = InboundMessage(1, 5, 10, message_id="m")
ONLY_JOINS = InboundMessage(1, 5, 10, kind=MessageKind.NOTICE)
FIRST = InboundMessage(1, 6, 10, message_id="first")
"""What comes before what is counted: some things are found out once, or once for a connection."""
PLAIN, USUAL = Policy(), StatusScheme()


@frozen
class Case:
    """What is there, the message, what becomes of it, and the statements on PostgreSQL, SQLite and MariaDB.

    First those with the right unique rule, then those with none.
    """

    name: str
    message: InboundMessage
    outcome: Outcome
    counts: tuple[int, int, int]
    unguarded: tuple[int, int, int]
    begin: Callable[[TicketRouter], object] = lambda _: None
    policy: Policy = PLAIN
    statuses: StatusScheme = USUAL

    def count(self, backend: Backend, rule: UniqueRule) -> int:
        counts = self.unguarded if rule is UniqueRule.NONE else self.counts
        return counts[("postgresql", "sqlite", "mariadb").index(backend.database)]


def one(router: TicketRouter) -> None:
    router.resolve(MESSAGE)


def two(router: TicketRouter) -> None:
    router.resolve(InboundMessage(1, 5, 13))
    router.resolve(InboundMessage(1, 5, 14))
    router.resolve(MESSAGE)


def elsewhere(router: TicketRouter) -> None:
    router.resolve(InboundMessage(1, 5, 13))


def routed(router: TicketRouter) -> None:
    router.resolve(WITH_ID)


def closed(router: TicketRouter) -> None:
    router.close(1, router.resolve(MESSAGE).ticket.id)


BY_CONTACT = Policy(scope=Scope.CONTACT, reopen=Reopen.always())
CASES = (
    Case("an active ticket", MESSAGE, Outcome.REUSED, (1, 1, 2), (1, 1, 2), one),
    Case("an active ticket, and others elsewhere", MESSAGE, Outcome.REUSED, (1, 1, 2), (1, 1, 2), two),
    Case("an active ticket, one per contact", MESSAGE, Outcome.REUSED, (1, 1, 2), (1, 1, 2), two, BY_CONTACT),
    Case(
        "an active ticket elsewhere, one per contact",
        MESSAGE,
        Outcome.REUSED,
        (2, 3, 2),
        (3, 3, 3),
        elsewhere,
        BY_CONTACT,
    ),
    Case("an active ticket, with message id", WITH_ID, Outcome.REUSED, (1, 3, 3), (1, 3, 4), one),
    Case("no ticket", MESSAGE, Outcome.CREATED, (2, 3, 2), (3, 3, 3)),
    Case("no ticket, with message id", WITH_ID, Outcome.CREATED, (2, 3, 3), (3, 3, 4)),
    Case("a closed ticket", MESSAGE, Outcome.CREATED, (2, 3, 2), (3, 3, 3), closed),
    Case("an active ticket, by what only joins", ONLY_JOINS, Outcome.REUSED, (1, 1, 2), (1, 1, 2), one),
    Case("no ticket, by what only joins", ONLY_JOINS, Outcome.IGNORED, (1, 2, 2), (2, 2, 3)),
    Case("a redelivery", WITH_ID, Outcome.DUPLICATE, (1, 1, 2), (2, 1, 3), routed),
    Case("a ticket that wakes", MESSAGE, Outcome.REUSED, (2, 3, 2), (3, 3, 2), one, statuses=SLEEPERS),
    Case(
        "a ticket that wakes, with message id",
        WITH_ID,
        Outcome.REUSED,
        (3, 3, 3),
        (4, 3, 4),
        one,
        statuses=SLEEPERS,
    ),
    Case(
        "a ticket that sleeps on, by what only joins",
        ONLY_JOINS,
        Outcome.REUSED,
        (1, 1, 2),
        (1, 1, 2),
        one,
        statuses=SLEEPERS,
    ),
)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


def _counts(store: SqlStore, case: Case, rule: UniqueRule) -> None:
    """See that the count is exact, and the same the fifteenth time."""
    for turn in range(15):
        store.empty()
        with store.transaction() as repository:
            router = TicketRouter(repository, case.policy)
            router.resolve(FIRST)
            case.begin(TicketRouter(repository))
            with counted(store) as sent:
                found = router.resolve(case.message)

        assert (case.outcome, case.count(store.backend, rule)) == (found.outcome, len(sent)), (turn, sent)
        assert ("wakes" in case.name) is (found.change is not None and found.change.new_status == "open")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", SQL_BACKENDS, ids=lambda backend: backend.name, indirect=True)
def test_a_message_costs_so_many_statements(databases: Databases, store: SqlStore, case: Case) -> None:
    """With every driver."""
    if case.statuses == store.mapping.statuses:
        _counts(store, case, UniqueRule.ACTIVE_PER_CONNECTION)
        return
    worded: Any = open_worded(databases, store.backend, case.statuses)
    _counts(worded, case, UniqueRule.ACTIVE_PER_CONNECTION)
    worded.dispose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(
    "backend", [b for b in SQL_BACKENDS if not b.is_async], ids=lambda b: b.name, indirect=True
)
def test_a_message_costs_so_many_where_there_is_no_rule(
    databases: Databases, backend: Backend, case: Case
) -> None:
    """A reuse needs no anchor, and the anchor is written where the look is, or the look can be trusted after it."""
    store: Any = opening(databases, backend, {}, case.statuses)(UniqueRule.NONE)
    _counts(store, case, UniqueRule.NONE)
    store.dispose()


@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE])
@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name, indirect=True)
def test_a_table_without_count_and_time_costs_no_more(
    databases: Databases, backend: Backend, rule: UniqueRule
) -> None:
    """A message that moves nothing is as many statements as one that does, whatever is there for it."""
    for statuses in (USUAL, SLEEPERS):
        store = UntimedStore(backend, databases, BARE, statuses)
        set_rule(store, rule)
        for case in CASES:
            if case.statuses == statuses:
                _counts(store, case, rule)
        store.dispose()
        databases.drop(store.url)


@pytest.mark.parametrize("layout", whaticket.LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("database", whaticket.DATABASES)
def test_a_whaticket_table_costs_no_more(place: Place, layout: whaticket.Layout) -> None:
    """A host's own table with the right rule, siblings and an orphan: the active ticket is met as cheaply."""
    rule = whaticket.GENERATED if place.database == "mariadb" else whaticket.NOT_CLOSED
    mapping = place.whaticket(layout, rule)
    backend = next(b for b in SQL_BACKENDS if b.database == place.database)
    with place.store(backend, mapping) as store, store.transaction() as repository:
        router = TicketRouter(repository)
        other = router.resolve(InboundMessage(1, whaticket.PERSON, 13)).ticket
        first = router.resolve(InboundMessage(1, whaticket.PERSON, 10)).ticket
        with counted(store) as sent:
            found = router.resolve(InboundMessage(1, whaticket.PERSON, 10))
        now = repository.get(1, first.id)

    assert (now, (other,)) == (found.ticket, found.other_active)
    assert (2 if place.database == "mariadb" else 1) == len(sent)


def test_the_reference_says_what_is_counted() -> None:
    """The table of the page is the table of these tests."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "sqlalchemy.md").read_text(encoding="utf-8")
    rows = [f"| {case.name} | {' | '.join(map(str, (*case.counts, *case.unguarded)))} |" for case in CASES]
    counted = page.partition(f"|{'---|' * 7}\n")[2].partition("\n\n")[0]

    assert rows == counted.splitlines()
