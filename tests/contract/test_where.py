"""The clauses and the machine of the public kit over a mapped table with a row condition, among rows that are left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from tests.support.store_with_where import StoreWithWhere
from ticketrouter import UniqueRule
from ticketrouter.testing import Store, TicketRepositoryContract, run_machine


@pytest.fixture(scope="module", params=ONE_PER_DATABASE, ids=lambda backend: backend.name)
def opened(request: pytest.FixtureRequest, databases: Databases) -> Iterator[StoreWithWhere]:
    store = StoreWithWhere(request.param, databases, UniqueRule.ACTIVE_PER_CONNECTION)
    yield store
    store.dispose()
    databases.drop(store.url)


class TestAmongRowsThatAreLeftOut(TicketRepositoryContract):
    """On each key lies one of every status; after each test they are as they were."""

    @pytest.fixture
    def store(self, opened: StoreWithWhere) -> Iterator[Store]:
        opened.empty()
        yield opened
        opened.assert_no_leak()


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_a_table_with_a_row_condition_agrees_with_the_model(databases: Databases, backend: Backend) -> None:
    """Any sequence of operations ends as the model says, which knows nothing of rows that are left out."""
    opened: dict[UniqueRule, StoreWithWhere] = {}

    def new_store(rule: UniqueRule) -> Store:
        if rule not in opened:
            opened[rule] = StoreWithWhere(backend, databases, rule)
        opened[rule].empty()
        return opened[rule]

    try:
        run_machine(
            new_store,
            unique_rules=tuple(UniqueRule),
            other_statuses=("rating",),
            examples=settings().max_examples // 4,
        )
    finally:
        for store in opened.values():
            store.assert_no_leak()
            store.dispose()
            databases.drop(store.url)
