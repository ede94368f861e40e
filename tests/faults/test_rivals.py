"""A rival at every boundary of a unit of work, at every isolation level, breaks no promise.

`TICKETROUTER_RIVALS=all` fights every duel that there is, which takes an hour or more, and a number in place of `all`
one of so many, other ones at each level; without it those are fought that differ most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from attrs import evolve

from tests.faults.conftest import Place
from tests.support.faults import rivals
from tests.support.faults.rivals import Duel, arena, boundaries_of, duels
from ticketrouter import UniqueRule

CHOSEN = os.environ.get("TICKETROUTER_RIVALS")
LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
HAVE_SNAPSHOTS = LEVELS[2:]
"""The levels at which what a transaction has seen before matters."""
QUICK = (
    Duel(rivals.FIRST, rivals.FIRST, rivals.NOTHING),
    Duel(rivals.MESSAGE, rivals.CLOSE, rivals.ACTIVE),
    Duel(rivals.BATCH_OF_IDS, rivals.FIRST, rivals.NOTHING),
    Duel(rivals.OPEN, rivals.MESSAGE, rivals.NOTHING),
    Duel(rivals.ACCEPT, rivals.ACCEPT_TOO, rivals.ACTIVE),
    Duel(rivals.CLOSE, rivals.MERGE, rivals.ACTIVE),
    Duel(rivals.TRANSFER, rivals.MESSAGE, rivals.ELSEWHERE),
    Duel(rivals.MERGE, rivals.FIRST, rivals.TWO_CONTACTS),
    Duel(rivals.MOVE, rivals.SECOND, rivals.ACTIVE),
)


def fought(isolation: str) -> Iterator[Duel]:
    """Yield the duels of a level."""
    if CHOSEN is None:
        for duel in QUICK:
            yield evolve(duel, old_snapshot=isolation in HAVE_SNAPSHOTS)
        return
    snapshots = (False, True) if isolation in HAVE_SNAPSHOTS else (False,)
    every = [evolve(duel, old_snapshot=old) for duel in duels() for old in snapshots]
    yield from every if CHOSEN == "all" else every[LEVELS.index(isolation) :: int(CHOSEN)]


@pytest.mark.parametrize("isolation", LEVELS)
@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE], ids=str)
@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_rival_at_every_boundary_breaks_no_promise(place: Place, database: str, isolation: str) -> None:
    """One active ticket a key, each message counted once, each id recorded once, no act of the desk undone."""
    if CHOSEN is None and (database, isolation) == ("postgresql", "READ UNCOMMITTED"):
        pytest.skip("it is READ COMMITTED on PostgreSQL; all duels are fought at it, too")
    broken: list[str] = []
    number = 0
    with arena(place.url, isolation, place.engine) as field:
        for duel in fought(isolation):
            for found in boundaries_of(field, duel):
                number += 1
                broken += found
                print("", *found, sep="\n", end="")
    print(f"\n{number} boundaries")

    assert not broken, f"{len(broken)} of {number}:\n" + "\n".join(broken)
    assert number >= len(QUICK)
