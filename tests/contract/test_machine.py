"""The state machine of the public kit, on every back end: under any unique rule and policy the model agrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.support.backends import (
    BACKENDS,
    ONE_PER_DATABASE,
    SQL_BACKENDS,
    Backend,
    Databases,
    SqlStore,
    tries,
)
from tests.support.mapped import opening_mapped
from tests.support.opening import opening
from tests.support.untimed import BARE, COUNTED, opening_untimed
from tests.support.words import SLEEPERS, WORDS
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.testing import Store, run_machine

SCHEMES = {"usual": StatusScheme(), "every sort": WORDS, "asleep at first": SLEEPERS}


@pytest.mark.parametrize("words", SCHEMES)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_every_back_end_agrees_with_the_model(databases: Databases, backend: Backend, words: str) -> None:
    """Any sequence of operations, under any unique rule, policy and words, ends as the model says."""
    opened: dict[UniqueRule, SqlStore] = {}
    _run(databases, backend, opened, opening(databases, backend, opened, SCHEMES[words]))


@pytest.mark.parametrize("backend", SQL_BACKENDS, ids=lambda backend: backend.name)
def test_a_mapped_table_agrees_with_the_model(databases: Databases, backend: Backend) -> None:
    """So it does where the status is a number, and nobody and never are values."""
    opened: dict[UniqueRule, SqlStore] = {}
    _run(databases, backend, opened, opening_mapped(databases, backend, opened))


@pytest.mark.parametrize(
    ("backend", "kind"),
    [*((each, BARE) for each in SQL_BACKENDS), *((each, COUNTED) for each in ONE_PER_DATABASE)],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_table_without_a_time_of_the_last_change_agrees_with_the_model(
    databases: Databases, backend: Backend, kind: str
) -> None:
    """So it does where tickets are in order by their creation, and a message may move nothing of a row."""
    opened: dict[UniqueRule, SqlStore] = {}
    _run(databases, backend, opened, opening_untimed(databases, backend, opened, kind))


def _run(
    databases: Databases,
    backend: Backend,
    opened: dict[UniqueRule, SqlStore],
    new_store: Callable[[UniqueRule], Store],
) -> None:
    examples = settings().max_examples
    try:
        run_machine(
            new_store,
            unique_rules=tuple(UniqueRule),
            other_statuses=("rating",),
            examples=tries(backend, in_memory=examples, on_a_database=examples // 3),
        )
    finally:
        for store in opened.values():
            store.assert_no_leak()
            store.dispose()
            databases.drop(store.url)
