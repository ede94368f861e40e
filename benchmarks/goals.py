"""What was to be reached, and by which figures it is judged.

Law of this file: one row for each goal, as data; a ratio is one of medians of the same run. All at 95 % reuse,
without message ids, at the run's main size, unless a row says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks.cells import ASYNC_DRIVERS, DRIVERS, Rule, Shape
from benchmarks.figures import Figure, Results

Measure = Callable[[Results, int], float | None]
"""What a run has for a goal, with so many clients; None where it was not measured."""


@frozen
class Goal:
    """One row."""

    what: str
    measure: Measure
    at_least: float | None = None
    at_most: float | None = None

    @property
    def asked(self) -> str:
        """The bound in words; nothing where the figure only stands beside the others."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    def reached(self, value: float | None) -> bool | None:
        """Tell whether a figure is enough; None where there is none, or no bound."""
        if value is None or not self.asked:
            return None
        # As it is printed, so that the row does not contradict itself.
        value = float(shown(value))
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)


def shown(value: float) -> str:
    """Write a figure of a goal."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(database: str, contender: str, shape: Shape = Shape.AUTOCOMMIT, **more: Any) -> dict[str, Any]:
    driver = ASYNC_DRIVERS[database] if more.pop("is_async", False) else DRIVERS[database]
    return {"database": database, "contender": contender, "driver": driver, "shape": shape, **more}


def _ratio(
    above: dict[str, Any], below: dict[str, Any], by: Callable[[Figure], float] = lambda figure: figure.rate
) -> Measure:
    def measure(results: Results, clients: int) -> float | None:
        over, under = results.find(**above, clients=clients), results.find(**below, clients=clients)
        return None if over is None or under is None else by(over) / by(under)

    return measure


def _batch(results: Results, clients: int) -> float | None:
    return _ratio(_cell("postgresql", "ours", Shape.TRANSACTION, batch=1_000), _cell("postgresql", "ours"))(
        results, clients
    )


def _raw_batch(results: Results, clients: int) -> float | None:
    return _ratio(_cell("postgresql", "raw", Shape.TRANSACTION, batch=1_000), _cell("postgresql", "raw"))(
        results, clients
    )


def _growth(results: Results, clients: int) -> float | None:
    sizes = results.sizes("postgresql")
    if len(sizes) < 2:
        return None
    return _ratio(
        _cell("postgresql", "ours", size=sizes[-1]),
        _cell("postgresql", "ours", size=sizes[0]),
        lambda figure: figure.p50,
    )(results, clients)


def _in_memory(results: Results, clients: int) -> float | None:
    if results.memory is None or clients != 1:
        return None
    bare, ours = (sorted(results.memory[name]["microseconds"]) for name in ("bare", "ours"))
    return float(bare[len(bare) // 2] / ours[len(ours) // 2])


def _weight(results: Results, clients: int) -> float | None:
    return None if results.memory is None or clients != 1 else results.memory["ours"]["bytes"]


_PG = "postgresql"
_OURS = _cell(_PG, "ours")
_OURS_IN_SESSION = _cell(_PG, "ours", Shape.SESSION)
_OURS_IN_TRANSACTION = _cell(_PG, "ours", Shape.TRANSACTION)

GOALS = (
    Goal(
        "PostgreSQL, ours in autocommit, against the same statement through bare Core",
        _ratio(_OURS, _cell(_PG, "core")),
        at_least=0.90,
    ),
    Goal("… against psycopg, one hand-written statement", _ratio(_OURS, _cell(_PG, "raw")), at_least=0.60),
    Goal(
        "bare Core against the same: the floor of the row above",
        _ratio(_cell(_PG, "core"), _cell(_PG, "raw")),
    ),
    Goal(
        "ours against psycopg with the statement that ours sends",
        _ratio(_OURS, _cell(_PG, "raw, our statements")),
    ),
    Goal(
        "client processor time a message, ours against bare Core",
        _ratio(_OURS, _cell(_PG, "core"), lambda figure: figure.micros),
        at_most=1.15,
    ),
    Goal(
        "ours in a Session's transaction against psycopg in a transaction, one hand-written statement",
        _ratio(_OURS_IN_SESSION, _cell(_PG, "raw", Shape.TRANSACTION)),
        at_least=0.55,
    ),
    Goal(
        "bare Core in a Session's transaction against the same: the floor of the row above",
        _ratio(_cell(_PG, "core", Shape.SESSION), _cell(_PG, "raw", Shape.TRANSACTION)),
    ),
    Goal(
        "ours in autocommit, which is all that it needs, against ORM select-then-insert",
        _ratio(_OURS, _cell(_PG, "orm", Shape.SESSION)),
        at_least=3.5,
    ),
    Goal(
        "… the same, both in a Session's transaction",
        _ratio(_OURS_IN_SESSION, _cell(_PG, "orm", Shape.SESSION)),
    ),
    Goal(
        "ours in autocommit against Django get_or_create",
        _ratio(_OURS, _cell(_PG, "django", Shape.TRANSACTION)),
        at_least=2.8,
    ),
    Goal(
        "… the same, both in a transaction",
        _ratio(_OURS_IN_TRANSACTION, _cell(_PG, "django", Shape.TRANSACTION)),
    ),
    Goal(
        "ours on asyncpg against raw asyncpg, in autocommit",
        _ratio(_cell(_PG, "ours", is_async=True), _cell(_PG, "raw", is_async=True)),
        at_least=0.50,
    ),
    Goal(
        "bare Core on asyncpg against raw asyncpg: the floor of the row above",
        _ratio(_cell(_PG, "core", is_async=True), _cell(_PG, "raw", is_async=True)),
    ),
    Goal("a batch of 1,000 against ours one by one in autocommit", _batch, at_least=14),
    Goal("psycopg's executemany of 1,000 by hand against the same one by one: the driver's own", _raw_batch),
    Goal(
        "no unique rule, anchor row, against the right rule, both in a transaction",
        _ratio({**_OURS_IN_TRANSACTION, "rule": Rule.ANCHOR}, _OURS_IN_TRANSACTION),
        at_least=0.45,
    ),
    Goal(
        "one row per key for ever, against the right rule, both in a transaction",
        _ratio({**_OURS_IN_TRANSACTION, "rule": Rule.ONE}, _OURS_IN_TRANSACTION),
    ),
    Goal(
        "message ids on against off, time a message, in a transaction",
        _ratio(_OURS_IN_TRANSACTION, {**_OURS_IN_TRANSACTION, "message_ids": True}),
        at_most=1.6,
    ),
    Goal("the most tickets of this run against the fewest, p50", _growth, at_most=1.25),
    Goal(
        "MariaDB, ours in autocommit, against PyMySQL's single statement",
        _ratio(_cell("mariadb", "ours"), _cell("mariadb", "raw")),
        at_least=0.55,
    ),
    Goal(
        "PyMySQL with the two statements that ours sends against the same",
        _ratio(_cell("mariadb", "raw, our statements"), _cell("mariadb", "raw")),
    ),
    Goal(
        "bare Core with them against the same: the floor",
        _ratio(_cell("mariadb", "core"), _cell("mariadb", "raw")),
    ),
    Goal(
        "SQLite, ours in autocommit, against sqlite3's single statement",
        _ratio(_cell("sqlite", "ours"), _cell("sqlite", "raw")),
        at_least=0.25,
    ),
    Goal(
        "SQLite, ours in autocommit, against ORM select-then-insert",
        _ratio(_cell("sqlite", "ours"), _cell("sqlite", "orm", Shape.SESSION)),
        at_least=3.5,
    ),
    Goal(
        "pure Python, in-memory `resolve` against a bare dict look-up and attribute update",
        _in_memory,
        at_least=0.17,
    ),
    Goal("in memory, bytes per active ticket, indexes included", _weight, at_most=520),
)
