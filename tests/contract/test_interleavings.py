"""Every schedule of up to three operations keeps the invariant, loses nothing, and ends as one after another does.

`python -m tests.support.interleavings` explores all models and prints how much that is; here run those of each database that
differ most, and with the marker `soak` the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.interleavings.database import Level
from tests.support.interleavings.explorer import BrokenError, Explored
from tests.support.interleavings.repository import Care
from tests.support.interleavings.scenarios import (
    MODELS,
    MOVES,
    SCENARIOS,
    Desk,
    Model,
    Scenario,
    explored,
    memory,
    modelled,
)
from ticketrouter import ConflictError, Ticket, UniqueRule
from ticketrouter.decisions import MessageRef
from ticketrouter.memory import InMemoryTicketRepository

RIGHT, NONE = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
QUICK = {
    (Level.POSTGRESQL_READ_COMMITTED, RIGHT, False),
    (Level.POSTGRESQL_READ_COMMITTED, NONE, False),
    (Level.POSTGRESQL_REPEATABLE_READ, RIGHT, False),
    (Level.MARIADB_REPEATABLE_READ, RIGHT, True),
    (Level.MARIADB_REPEATABLE_READ, NONE, True),
    (Level.SQLITE_IMMEDIATE, RIGHT, False),
    (Level.SQLITE_IMMEDIATE, NONE, False),
}
QUICK_MOVES = {
    (Level.POSTGRESQL_READ_COMMITTED, RIGHT, False),
    (Level.POSTGRESQL_READ_COMMITTED, NONE, False),
    (Level.MARIADB_REPEATABLE_READ, NONE, True),
    (Level.SQLITE_IMMEDIATE, NONE, False),
}
"""Those of a move, which has more schedules than all the rest: fewer of them."""


def _is_quick(model: Model, quick: set[tuple[Level, UniqueRule, bool]] = QUICK) -> bool:
    return (model.level, model.rule, model.old) in quick


def _marked(model: Model, quick: set[tuple[Level, UniqueRule, bool]] = QUICK) -> object:
    return pytest.param(model, marks=() if _is_quick(model, quick) else pytest.mark.soak, id=str(model))


def _explored_all(
    make: Callable[[Scenario], Callable[[], Desk]],
    judge: Callable[[Scenario], Callable[[], Desk]] | None = None,
    scenarios: tuple[Scenario, ...] = SCENARIOS,
) -> Explored:
    total = Explored(0, 0, 0)
    for scenario in scenarios:
        total += explored(scenario, make, judge)
    return total


def test_every_schedule_over_memory() -> None:
    """With each call to the in-memory repository as a step, three attempts are enough for three operations."""
    total = _explored_all(memory)
    print(f"\nmemory: {total.schedules:,} schedules, {total.states:,} states")

    assert total.schedules > 2_000
    assert total.states > 1_000


def test_every_schedule_of_a_merge_or_move_over_memory() -> None:
    """What moves tickets keeps the invariant among messages, redeliveries, closes and transfers."""
    total = _explored_all(memory, scenarios=MOVES)
    print(f"\nmoves over memory: {total.schedules:,} schedules, {total.states:,} states")

    assert total.schedules > 500
    assert total.states > 500


@pytest.mark.parametrize("model", [_marked(model) for model in MODELS])
def test_every_schedule_over_a_model(model: Model) -> None:
    """With each statement as a step, every schedule ends as over memory, one operation after another."""
    total = _explored_all(lambda scenario: modelled(scenario, model), judge=memory)
    print(f"\n{model}: {total.schedules:,} schedules, {total.states:,} states")

    assert total.schedules > (5_000 if model.level is Level.SQLITE_IMMEDIATE else 500_000)
    assert total.states > 5_000


@pytest.mark.parametrize("model", [_marked(model, QUICK_MOVES) for model in MODELS])
def test_every_schedule_of_a_merge_or_move_over_a_model(model: Model) -> None:
    """The same, statement by statement, with the rows that a move locks and the contacts that it claims."""
    total = _explored_all(lambda scenario: modelled(scenario, model), memory, MOVES)
    print(f"\nmoves, {model}: {total.schedules:,} schedules, {total.states:,} states")

    assert total.schedules > (5_000 if model.level is Level.SQLITE_IMMEDIATE else 1_000_000)
    assert total.states > 4_000


# --- the explorer can fail -----------------------------------------------------------------------------------


class WithoutUniqueRule(InMemoryTicketRepository):
    """Creates whatever it is told to create."""

    def _refuse_taken(self, key: object, besides: object = None) -> None:
        pass


class WithoutCondition(InMemoryTicketRepository):
    """Writes whatever has become of the ticket since it was seen."""

    def _still(self, seen: Ticket, *, active: bool) -> Ticket:
        return self._tickets[seen.id]


class WithoutMessageIds(InMemoryTicketRepository):
    """Records a message id as often as it comes."""

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        return write()


class NeverWins(InMemoryTicketRepository):
    """Loses every race."""

    def commit(self, decision: object) -> Ticket:
        raise ConflictError("somebody was faster")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (WithoutUniqueRule, "two active tickets"),
        (WithoutCondition, "no order one after another ends so"),
        (WithoutMessageIds, "no order one after another ends so"),
        (NeverWins, "gave up after 3 lost races"),
    ],
)
def test_a_careless_memory_is_caught(kind: type[InMemoryTicketRepository], why: str) -> None:
    """A repository that leaves out one of its duties breaks in some schedule, which is told."""
    with pytest.raises(BrokenError, match=why) as caught:
        _explored_all(lambda scenario: memory(scenario, kind), judge=memory)

    assert caught.value.schedule


def test_one_attempt_is_not_enough() -> None:
    """Without a second look a lost race comes out: the loop is needed, and the explorer sees its end."""
    with pytest.raises(BrokenError, match="gave up after 1 lost races"):
        _explored_all(lambda scenario: memory(scenario, attempts=1), judge=memory)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Model(Level.POSTGRESQL_READ_COMMITTED, RIGHT, care=Care(unique=False)), "two active tickets"),
        (Model(Level.POSTGRESQL_READ_COMMITTED, RIGHT, care=Care(condition=False)), "no order"),
        (Model(Level.MARIADB_REPEATABLE_READ, RIGHT, care=Care(condition=False)), "no order"),
        (Model(Level.POSTGRESQL_READ_COMMITTED, RIGHT, care=Care(message_ids=False)), "no order"),
        (Model(Level.POSTGRESQL_READ_COMMITTED, NONE, care=Care(claim=False)), "two active tickets"),
        (Model(Level.POSTGRESQL_REPEATABLE_READ, NONE, care=Care(claim=False)), "two active tickets"),
        (Model(Level.MARIADB_REPEATABLE_READ, NONE, care=Care(claim=False)), "two active tickets"),
        # The two that look right and are not: a lock that is younger than the snapshot, a plain look after a wait.
        (
            Model(Level.POSTGRESQL_REPEATABLE_READ, NONE, old=True, care=Care(advisory=True)),
            "two active tickets",
        ),
        (
            Model(Level.MARIADB_REPEATABLE_READ, NONE, old=True, care=Care(current=False)),
            "two active tickets",
        ),
    ],
    ids=lambda value: f"{value}, {value.care}" if isinstance(value, Model) else "",
)
def test_a_careless_repository_is_caught(model: Model, why: str) -> None:
    """What the adapter does and could be thought needless is needed: without it some schedule breaks."""
    with pytest.raises(BrokenError, match=why):
        _explored_all(lambda scenario: modelled(scenario, model), judge=memory)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Model(Level.POSTGRESQL_READ_COMMITTED, RIGHT, care=Care(unique=False)), "two active tickets"),
        (Model(Level.POSTGRESQL_READ_COMMITTED, NONE, care=Care(claim=False)), "two active tickets"),
        (Model(Level.MARIADB_READ_COMMITTED, NONE, care=Care(claim=False)), "two active tickets"),
    ],
    ids=str,
)
def test_a_careless_move_is_caught(model: Model, why: str) -> None:
    """Without the unique rule, or the claim that stands in for it, a message and a move meet on one key."""
    with pytest.raises(BrokenError, match=why):
        _explored_all(lambda scenario: modelled(scenario, model), memory, MOVES)


# --- the real adapter, on PostgreSQL -------------------------------------------------------------------------


def _scheduled_by_frontrun(*words: str) -> dict[str, object]:
    pytest.importorskip("frontrun", reason="it is for Linux")
    command = [
        sys.executable,
        "-m",
        "frontrun.cli",
        sys.executable,
        "-m",
        "tests.support.interleavings.on_postgresql",
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=400)
    if "UnavailableError" in done.stderr:
        pytest.skip("postgresql cannot be had")
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"\nfrontrun on PostgreSQL: {done.stdout}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.soak
def test_frontrun_finds_no_broken_schedule_of_the_real_adapter() -> None:
    """Two messages on a fresh key, their threads scheduled in many ways: one ticket with both."""
    found = _scheduled_by_frontrun()

    assert found["holds"] is True
    assert int(str(found["executions"])) >= 5


@pytest.mark.soak
def test_frontrun_finds_the_broken_schedule_of_a_careless_one() -> None:
    """Without the unique rule and what stands in for it, it finds two tickets."""
    assert _scheduled_by_frontrun("careless")["holds"] is False
