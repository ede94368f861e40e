"""What was measured, as values that go to a file and come back.

Law of this file: no figure is made up here. A median is over turns, a percentile over all messages of all turns.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from benchmarks.cells import Cell, Rule, Shape, Stand
from benchmarks.measuring import Tally
from benchmarks.profiling import Spent

MICROSECONDS = 1e6
MILLISECONDS = 1e3


@frozen
class Figure:
    """What one cell came to."""

    rates: tuple[float, ...]
    """Messages a second, turn by turn."""
    processor: tuple[float, ...]
    """Microseconds of the clients' processors for each message, turn by turn."""
    p50: float
    """Milliseconds for a message, or for a whole batch: half of them took no longer."""
    p99: float
    failures: int = 0
    failure: str = ""

    @classmethod
    def of(cls, tally: Tally) -> Figure:
        """Sum up what a cell's clients did; where no message got through, every figure is 0."""
        took = sorted(tally.took) or [0.0]
        return cls(
            tuple(round(rate, 1) for rate in tally.rates),
            tuple(round(each * MICROSECONDS, 1) for each in tally.processor or [0.0]),
            round(took[len(took) // 2] * MILLISECONDS, 3),
            round(took[len(took) * 99 // 100] * MILLISECONDS, 3),
            tally.failures,
            tally.failure,
        )

    @property
    def rate(self) -> float:
        """Messages a second: the median."""
        return statistics.median(self.rates)

    @property
    def micros(self) -> float:
        """Processor time of the client for each message, in microseconds: the median."""
        return statistics.median(self.processor)


@frozen
class Profile:
    """In which functions a client's processor time went."""

    cell: Cell
    spent: tuple[Spent, ...]


@frozen
class Results:
    """One run."""

    about: Mapping[str, str]
    """The machine, the versions, the command."""
    figures: Mapping[Cell, Figure]
    memory: Mapping[str, Any] | None = None
    profiles: tuple[Profile, ...] = ()
    left_out: Mapping[str, str] = field(factory=dict)
    """Databases that could not be had, and why."""

    def find(self, **wanted: Any) -> Figure | None:
        """Return the figure of the one cell that has these values; the others are as a Cell has them by default.

        Args:
            wanted: of the cell; `database`, `size` and `rule` of its stand.
        """
        of_stand = {name: wanted.pop(name) for name in ("database", "size", "rule") if name in wanted}
        stand = Stand(**{"size": self.main(of_stand["database"]), **of_stand})
        cell = Cell(stand=stand, **wanted)
        return self.figures.get(cell)

    def main(self, database: str) -> int:
        """Return the size of the stand at which most of a database was measured."""
        sizes = [cell.stand.size for cell in self.figures if cell.stand.database == database]
        return max(set(sizes), key=sizes.count, default=0)

    def sizes(self, database: str) -> list[int]:
        """Return every size of a database."""
        return sorted({cell.stand.size for cell in self.figures if cell.stand.database == database})


def write(results: Results, file: Path) -> None:
    """Write a run to a file."""
    found = {
        "about": dict(results.about),
        "left_out": dict(results.left_out),
        "memory": results.memory,
        "profiles": [asdict(profile) for profile in results.profiles],
        "figures": [{**asdict(cell), **asdict(figure)} for cell, figure in results.figures.items()],
    }
    lines = json.dumps(found, indent=1, default=str)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(lines + "\n", encoding="utf-8")


def read(file: Path) -> Results:
    """Read a run from a file."""
    found = json.loads(file.read_text(encoding="utf-8"))
    figures = {}
    for row in found["figures"]:
        given = {name: row.pop(name) for name in ("rates", "processor")}
        rest = {name: row.pop(name) for name in ("p50", "p99", "failures", "failure")}
        figures[_cell(row)] = Figure(tuple(given["rates"]), tuple(given["processor"]), **rest)
    profiles = tuple(
        Profile(_cell(row["cell"]), tuple(Spent(**each) for each in row["spent"]))
        for row in found["profiles"]
    )
    return Results(found["about"], figures, found["memory"], profiles, found["left_out"])


def _cell(row: dict[str, Any]) -> Cell:
    stand = dict(row["stand"])
    stand["rule"] = Rule(stand["rule"])
    return Cell(**{**row, "stand": Stand(**stand), "shape": Shape(row["shape"])})
