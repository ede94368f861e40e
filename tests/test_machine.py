"""The state machine of the public kit, on every back end: under any unique rule and policy the model agrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.backends import BACKENDS, Backend, Databases, SqlStore
from tests.memory_store import MemoryStore
from tests.races import set_rule
from ticketrouter import UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.testing import Store, run_machine


def opening(
    databases: Databases, backend: Backend, opened: dict[UniqueRule, SqlStore]
) -> Callable[[UniqueRule], Store]:
    """Return what gives an empty store of a back end under a unique rule, each opened once."""

    def new_store(unique_rule: UniqueRule) -> Store:
        if backend.database == "memory":
            return MemoryStore(is_async=backend.is_async, unique_rule=unique_rule)
        if unique_rule not in opened:
            mapping = TicketMapping.own()
            store = opened[unique_rule] = SqlStore(backend, databases.new(backend.database), mapping)
            mapping.metadata.create_all(store.engine)
            with store.engine.begin() as connection:
                set_rule(connection, mapping, unique_rule)
        opened[unique_rule].empty()
        return opened[unique_rule]

    return new_store


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_every_back_end_agrees_with_the_model(databases: Databases, backend: Backend) -> None:
    """Any sequence of operations, under any unique rule and policy, ends as the model says."""
    opened: dict[UniqueRule, SqlStore] = {}
    examples = settings().max_examples // (1 if backend.database == "memory" else 3)
    try:
        run_machine(
            opening(databases, backend, opened),
            unique_rules=tuple(UniqueRule),
            other_statuses=("rating",),
            examples=max(examples, 5),
        )
    finally:
        for store in opened.values():
            store.assert_no_leak()
            store.dispose()
            databases.drop(store.url)
