"""The clauses of the port, by the public kit, on every back end and driver, and under other rules and isolations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from tests.support.backends import BACKENDS, ONE_PER_DATABASE, Backend, Databases, SqlStore
from tests.support.memory_store import MemoryStore
from tests.support.opening import open_worded
from tests.support.races import set_rule
from tests.support.words import WORDS
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract
from ticketrouter.testing.concurrency import ConcurrentClauses
from ticketrouter.testing.words import WakingEncounters, WordsClauses


class TestEveryBackEnd(TicketRepositoryContract):
    @pytest.fixture
    def store(self, store: Store) -> Store:
        return store


class TestOtherUniqueRules(TicketRepositoryContract):
    """What a unique rule has no room for is skipped; all the rest holds."""

    @pytest.fixture(params=[rule for rule in UniqueRule if rule is not UniqueRule.ACTIVE_PER_CONNECTION])
    def store(self, request: pytest.FixtureRequest) -> Store:
        return MemoryStore(unique_rule=request.param)


MOST_DIFFERENT = tuple(each for each in BACKENDS if each.database == "memory" or each in ONE_PER_DATABASE)
"""Both memories, and each database once."""


class TestFurtherWords(TicketRepositoryContract):
    """The same under a scheme that has every sort of word."""

    @pytest.fixture(params=MOST_DIFFERENT, ids=lambda backend: backend.name)
    def store(
        self, request: pytest.FixtureRequest, databases: Databases, stores: dict[str, SqlStore]
    ) -> Iterator[Store]:
        yield from worded(databases, request.param, stores)


class TestFurtherWordsByOtherDrivers(WordsClauses):
    """What such words promise, by the drivers that reach the same databases."""

    @pytest.fixture(
        params=[each for each in BACKENDS if each not in MOST_DIFFERENT], ids=lambda backend: backend.name
    )
    def store(
        self, request: pytest.FixtureRequest, databases: Databases, stores: dict[str, SqlStore]
    ) -> Iterator[Store]:
        yield from worded(databases, request.param, stores)


def worded(databases: Databases, backend: Backend, stores: dict[str, SqlStore]) -> Iterator[Store]:
    """Give an empty store whose scheme has every sort of word, and look afterwards whether a connection was kept."""
    if backend.database == "memory":
        yield open_worded(databases, backend)
        return
    name = f"{backend.name}-words"
    if name not in stores:
        opened = open_worded(databases, backend)
        assert isinstance(opened, SqlStore)
        stores[name] = opened
    yield stores[name]
    stores[name].assert_no_leak()
    stores[name].empty()


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
    Setting("pymysql", UniqueRule.NONE, "READ UNCOMMITTED"),
    Setting("asyncmy", UniqueRule.ACTIVE_PER_CONNECTION, "READ COMMITTED"),
    Setting("asyncmy", UniqueRule.ACTIVE_PER_CONNECTION, "READ UNCOMMITTED"),
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
        yield from isolated(databases, request.param, stores, StatusScheme())


class TestEncountersThatWake(WakingEncounters):
    """The same where one of the two wakes a ticket."""

    @pytest.fixture(params=SETTINGS, ids=str)
    def store(
        self, request: pytest.FixtureRequest, databases: Databases, stores: dict[str, SqlStore]
    ) -> Iterator[Store]:
        yield from isolated(databases, request.param, stores, WORDS)


def isolated(
    databases: Databases, setting: Setting, stores: dict[str, SqlStore], statuses: StatusScheme
) -> Iterator[Store]:
    """Give an empty store of a setting, and look afterwards whether a connection was kept."""
    name = f"{setting}-{len(statuses.known)}"
    store = stores.get(name)
    if store is None:
        [backend] = [each for each in BACKENDS if each.name == setting.driver]
        mapping = TicketMapping.own(statuses=statuses)
        url = databases.new(backend.database)
        store = SqlStore(backend, url, mapping, isolation_level=setting.isolation)
        stores[name] = store
        mapping.metadata.create_all(store.engine)
        with store.engine.begin() as connection:
            set_rule(connection, mapping, setting.rule)
    yield store
    store.assert_no_leak()
    store.empty()
