"""The library answers as it did when tests/support/stories.json was recorded, and by as many statements."""

from __future__ import annotations

import pytest
from attrs import evolve

from tests.support.backends import Databases
from tests.support.stories import CALLS, RECORDING, STORIES, Call, difference, recording, tell


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_as_it_was_recorded(name: str, databases: Databases) -> None:
    """Every call has its answer and takes its statements."""
    assert difference(name, tell(name, databases)) is None


def test_every_story_is_recorded() -> None:
    """Neither is one missing nor one left over, and each has all its calls and the tables."""
    kept = recording()

    assert list(kept) == list(STORIES)
    assert {len(story["calls"]) for story in kept.values()} == {CALLS + 1}
    assert RECORDING.stat().st_size < 400_000


@pytest.mark.parametrize("place", [0, CALLS // 2, CALLS])
def test_one_other_answer_or_statement_is_told(databases: Databases, place: int) -> None:
    """The recording is not so short that a difference is lost in it."""
    calls = tell("sqlite-0", databases)

    assert difference("sqlite-0", calls) is None
    for other in (_answered_otherwise(calls[place]), evolve(calls[place], sent=calls[place].sent + 1)):
        told = difference("sqlite-0", [*calls[:place], other, *calls[place + 1 :]])

        assert told is not None
        assert f"first at call {place}: was {calls[place]}, is {other}" in told


def _answered_otherwise(call: Call) -> Call:
    return evolve(call, told=call.told + " ")
