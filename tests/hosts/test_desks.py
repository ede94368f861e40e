"""Each case of each real desk finds its ticket, and leaves every column as the desk's own code does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TypeAlias

import pytest

from tests.hosts.desks import PLACE, PRESETS, Case, Desk
from tests.hosts.on_desks import ON, store_on
from tests.hosts.score import on_the_page, table
from tests.hosts.trying import Opened, opened, tried
from tests.support.backends import Databases
from ticketrouter import UniqueRule, presets
from ticketrouter.testing import cases as kit
from ticketrouter.testing import read_cases, run_case
from ticketrouter.testing.sqlalchemy import MappedStore

DESKS = {desk.name: desk for desk in Desk.all()}
CASES = [case for desk in DESKS.values() for case in desk.cases]
OTHERWISE: dict[str, str] = {
    "izing-closed_long_ago,_a_group": "a ticket that is active has no time of closing",
    "izing-our_own_phone_answers": "its count is the channel's own, which the case does not give",
    "message-whatsapp-closed_a_minute_ago,_the_agent_away": "how the agent was assigned depends on who is there now",
}
"""By its case, why a column is not as the desk leaves it."""

OpenDesk: TypeAlias = Callable[[str], Opened]


@pytest.fixture(scope="module")
def open_desk(databases: Databases) -> Iterator[OpenDesk]:
    """Open a desk when it is first asked for."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(opened(databases, DESKS[name])))


@pytest.mark.parametrize("case", [case for case in CASES if case.beyond is None], ids=str)
def test_a_message_finds_its_ticket(open_desk: OpenDesk, case: Case) -> None:
    """Its ticket, as many new rows as there should be, every column; but for the columns that are told as otherwise."""
    result = tried(open_desk(case.desk.name), case)

    assert result.finds, result.complaints
    assert bool(result.complaints) is (str(case) in OTHERWISE), result.complaints


def test_the_score_on_the_page_is_true(open_desk: OpenDesk) -> None:
    """Every case of every desk is counted, those that are beyond us by their number alone."""
    results = {name: [tried(open_desk(name), case) for case in desk.cases] for name, desk in DESKS.items()}

    assert table(results) == on_the_page()


# --- the presets on their desks' tables ------------------------------------------------------------------------

OF_PRESETS = [desk for desk in DESKS.values() if desk.preset is not None]
KIT = [
    case
    for name in ON
    for case in read_cases(PLACE.parents[1] / "cases" / f"{name}.json")
    if case.unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
]
"""The cases of each preset that has a table here; none of these tables has a unique rule, which others need."""


def test_every_desk_that_a_preset_is_about_has_its_words_and_its_policy() -> None:
    """A preset that has a desk of its name is put on it."""
    named = {name: desk for name in presets.ALL for desk in DESKS if name.startswith(desk)}

    assert named == {name: desk for name, desk in ON.items() if name.startswith(desk)}
    assert {preset: ON[preset] for preset in PRESETS.values()} == {
        preset: desk for desk, preset in PRESETS.items()
    }


@pytest.mark.parametrize("desk", OF_PRESETS, ids=lambda desk: desk.name)
def test_a_preset_says_what_the_file_of_its_desk_says(desk: Desk) -> None:
    """Both were read from the desk: its words, when it reopens, what a kind of message may do, in groups too."""
    mine, said = desk.policy, desk.own_policy

    assert desk.preset is not None
    assert (mine, desk.statuses) == (desk.preset.policy, desk.preset.statuses)
    for preset, file in ((mine, said), (mine.groups or mine, said.groups or said)):
        assert (preset.reopen.window, preset.effects, preset.scope) == (
            file.reopen.window, file.effects, file.scope
        )  # fmt: skip


@pytest.fixture(scope="module")
def store_of(open_desk: OpenDesk) -> Callable[[str], MappedStore]:
    """Put a preset on its desk when it is first asked for."""
    return cache(lambda name: store_on(open_desk(ON[name]), presets.ALL[name]))


@pytest.mark.parametrize("case", KIT, ids=str)
def test_a_preset_does_on_its_desks_table_what_its_cases_say(
    store_of: Callable[[str], MappedStore], case: kit.Case
) -> None:
    """Mapped with the preset's words: every step, as far as the table has a column for it."""
    store = store_of(case.file)
    try:
        run_case(case, store)
    finally:
        store.close()
