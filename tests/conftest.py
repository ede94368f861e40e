"""What all tests share: how long Hypothesis looks, and the back ends, each opened once for a test process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.backends import BACKENDS, Backend, Databases, SqlStore, open_store
from tests.support.memory_store import MemoryStore
from ticketrouter import log
from ticketrouter.testing import Store

settings.register_profile("quick", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "quick")


@pytest.fixture(autouse=True)
def nobody_was_told() -> None:
    """Let every test begin as a process does, which tells of an unknown word once, and of so many at most."""
    log._told.clear()


@pytest.fixture(scope="session")
def stores(databases: Databases) -> Iterator[dict[str, SqlStore]]:
    """The stores that have been opened, by back end."""
    opened: dict[str, SqlStore] = {}
    yield opened
    for store in opened.values():
        store.dispose()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each back end in turn; a test may name its own."""
    backend: Backend = request.param
    return backend


@pytest.fixture
def store(backend: Backend, databases: Databases, stores: dict[str, SqlStore]) -> Iterator[Store]:
    """An empty store of the back end, and after the test a look whether a connection was kept."""
    if backend.database == "memory":
        yield MemoryStore(is_async=backend.is_async)
        return
    if backend.name not in stores:
        opened = open_store(databases, backend)
        assert isinstance(opened, SqlStore)
        stores[backend.name] = opened
    sql_store = stores[backend.name]
    yield sql_store
    sql_store.assert_no_leak()
    sql_store.empty()
