"""The clauses of the port, by the public kit, on every back end and driver, and under other rules and isolations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from tests.backends import BACKENDS, Databases, SqlStore
from tests.memory_store import MemoryStore
from tests.races import set_rule
from ticketrouter import UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract
from ticketrouter.testing.concurrency import ConcurrentClauses


class TestEveryBackEnd(TicketRepositoryContract):
    @pytest.fixture
    def store(self, store: Store) -> Store:
        return store


class TestOtherUniqueRules(TicketRepositoryContract):
    """What a unique rule has no room for is skipped; all the rest holds."""

    @pytest.fixture(params=[rule for rule in UniqueRule if rule is not UniqueRule.ACTIVE_PER_CONNECTION])
    def store(self, request: pytest.FixtureRequest) -> Store:
        return MemoryStore(unique_rule=request.param)


@frozen
class Setting:
    """A driver, what the schema enforces, and how transactions are isolated."""

    driver: str
    rule: UniqueRule
    isolation: str

    def __str__(self) -> str:
        return f"{self.driver}-{self.rule}-{self.isolation}".lower().replace(" ", "_")


SETTINGS = [
    Setting("psycopg", UniqueRule.NONE, "READ COMMITTED"),
    Setting("psycopg", UniqueRule.NONE, "REPEATABLE READ"),
    Setting("psycopg", UniqueRule.ACTIVE_PER_CONNECTION, "SERIALIZABLE"),
    Setting("asyncpg", UniqueRule.ACTIVE_PER_CONNECTION, "REPEATABLE READ"),
    Setting("pymysql", UniqueRule.NONE, "REPEATABLE READ"),
    Setting("asyncmy", UniqueRule.ACTIVE_PER_CONNECTION, "READ COMMITTED"),
]


class TestEncounters(ConcurrentClauses):
    """Where two transactions meet, under other isolations and without a unique rule."""

    # A snapshot that PostgreSQL keeps for the whole transaction has nothing newer; there a write fails instead.
    test_r10_what_is_committed_by_now_can_be_read = None  # type: ignore[assignment]

    # There, too, two batches that change the same rows cannot both go through; MariaDB without a rule takes none.
    test_r11_batches_over_the_same_keys_never_wait_for_each_other = None  # type: ignore[assignment]

    @pytest.fixture(params=SETTINGS, ids=str)
    def store(
        self, request: pytest.FixtureRequest, databases: Databases, stores: dict[str, SqlStore]
    ) -> Iterator[Store]:
        setting: Setting = request.param
        store = stores.get(str(setting))
        if store is None:
            [backend] = [each for each in BACKENDS if each.name == setting.driver]
            mapping = TicketMapping.own()
            url = databases.new(backend.database)
            store = SqlStore(backend, url, mapping, isolation_level=setting.isolation)
            stores[str(setting)] = store
            mapping.metadata.create_all(store.engine)
            with store.engine.begin() as connection:
                set_rule(connection, mapping, setting.rule)
        yield store
        store.assert_no_leak()
        store.empty()
