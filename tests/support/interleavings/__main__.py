"""Print how many schedules were explored: `python -m tests.support.interleavings`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from tests.support.interleavings.explorer import Explored
from tests.support.interleavings.scenarios import (
    MODELS,
    MOVES,
    SCENARIOS,
    Desk,
    Scenario,
    explored,
    memory,
    modelled,
)


def row(
    name: str,
    make: Callable[[Scenario], Callable[[], Desk]],
    scenarios: tuple[Scenario, ...] = SCENARIOS,
) -> Explored:
    begun = time.perf_counter()
    total = Explored(0, 0, 0)
    for scenario in scenarios:
        each = explored(scenario, make, judge=memory)
        total += each
        if "-v" in sys.argv:
            print(f"    {scenario}: {each.schedules:,} {each.states:,} {each.longest}")
    seconds = time.perf_counter() - begun
    print(
        f"| {name} | {total.schedules:,} | {total.states:,} | {total.longest} | {seconds:.1f} |", flush=True
    )
    return total


def main() -> None:
    print("| store | schedules | states | longest | seconds |")
    print("|---|---|---|---|---|")
    total = row("memory", memory)
    total += row("memory, merges and moves", memory, MOVES)
    for model in MODELS:
        total += row(str(model), partial(modelled, model=model))
        total += row(f"{model}, merges and moves", partial(modelled, model=model), MOVES)
    print(f"\n{total.schedules:,} schedules through {total.states:,} states")


if __name__ == "__main__":
    main()
