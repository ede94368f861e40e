"""PostgreSQL behind PgBouncer in transaction mode: every clause of the port, and a race of several processes.

Law of this file: each driver is used as docs/how-to/postgresql-behind-pgbouncer.md says, and PgBouncer has fewer
connections than there are clients, so that nothing that a session would keep can be relied on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support import servers
from tests.support.backends import BACKENDS, Backend, Databases, SqlStore, cannot_be_had
from tests.support.races import set_rule
from ticketrouter import AsyncTicketRouter, InboundMessage, RepositoryError, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import AsyncSQLAlchemyTicketRepository, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract

pytestmark = pytest.mark.broker

PAGE = Path(__file__).parents[2] / "docs/how-to/postgresql-behind-pgbouncer.md"
SETTINGS: dict[str, dict[str, Any]] = {
    "postgresql+psycopg": {"prepare_threshold": None},
    "postgresql+asyncpg": {"statement_cache_size": 0, "prepared_statement_cache_size": 0},
}
"""What the drivers need: no statement may be kept prepared, as the next transaction has another connection."""
DRIVERS = tuple(backend for backend in BACKENDS if backend.name in {"psycopg", "asyncpg"})
SERVERS, PROCESSES, CLIENTS, KEYS = 3, 2, 4, 12


@pytest.fixture(scope="module")
def bouncer(databases: Databases) -> Iterator[URL]:
    """A database, through PgBouncer."""
    direct = databases.new("postgresql")
    try:
        with servers.pgbouncer(direct, servers=SERVERS) as url:
            yield url
    except servers.UnavailableError as reason:
        cannot_be_had("pgbouncer", reason)
    databases.drop(direct)


@pytest.fixture(scope="module")
def pooled(bouncer: URL) -> Iterator[dict[str, SqlStore]]:
    """The stores that have been opened, by driver."""
    opened: dict[str, SqlStore] = {}
    yield opened
    for store in opened.values():
        store.dispose()


@pytest.mark.parametrize("backend", DRIVERS, ids=lambda backend: backend.name)
class TestBehindPgBouncer(TicketRepositoryContract):
    @pytest.fixture
    def store(self, backend: Backend, bouncer: URL, pooled: dict[str, SqlStore]) -> Iterator[Store]:
        if backend.name not in pooled:
            store = SqlStore(backend, bouncer, connect_args=SETTINGS[backend.driver])
            store.engine = create_engine(bouncer, connect_args=SETTINGS["postgresql+psycopg"])
            store.mapping.metadata.create_all(store.engine)
            pooled[backend.name] = store
        store = pooled[backend.name]
        store.empty()  # the race before may have left its own
        yield store
        store.assert_no_leak()
        store.empty()


@frozen
class Racer:
    """One process of a race: which driver, with what settings, and what the schema enforces."""

    url: str
    driver: str
    settings: dict[str, Any]
    number: int

    def run(self) -> None:
        """Send a message for every key by each of several clients."""
        url = self.url.replace("postgresql+psycopg", self.driver)
        mapping = TicketMapping.own(prefix="race_")
        if self.driver == "postgresql+asyncpg":
            asyncio.run(self._run_async(url, mapping))
            return
        engine = create_engine(url, connect_args=self.settings, pool_size=CLIENTS)

        def client(client: int) -> None:
            for message in self.messages(client):
                with engine.begin() as connection:
                    TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message)

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
        engine.dispose()

    async def _run_async(self, url: str, mapping: TicketMapping) -> None:
        engine = create_async_engine(url, connect_args=self.settings, pool_size=CLIENTS)

        async def client(client: int) -> None:
            for message in self.messages(client):
                async with engine.begin() as connection:
                    await AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(connection, mapping)).resolve(
                        message
                    )

        try:
            await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        finally:
            await engine.dispose()

    def messages(self, client: int) -> Iterator[InboundMessage]:
        for contact in range(KEYS):
            yield InboundMessage(1, contact, 10, message_id=f"{self.number}-{client}-{contact}")


def race(url: URL, driver: str, settings: dict[str, Any], rule: UniqueRule) -> Counter[Any]:
    """Let processes race through PgBouncer; count the unread messages per key, of one ticket each."""
    mapping = TicketMapping.own(prefix="race_")
    engine = create_engine(url, connect_args=SETTINGS["postgresql+psycopg"])
    try:
        with engine.begin() as connection:
            mapping.metadata.drop_all(connection)
            mapping.metadata.create_all(connection)
            set_rule(connection, mapping, rule)
        racers = [Racer(str(url), driver, settings, number) for number in range(PROCESSES)]
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            for done in [pool.submit(racer.run) for racer in racers]:
                done.result()
        with engine.begin() as connection:
            found = connection.execute(mapping.table.select()).all()
    finally:
        engine.dispose()
    assert len({row.contact_id for row in found}) == len(found)
    return Counter({row.contact_id: row.unread_messages for row in found})


@pytest.mark.parametrize(
    ("driver", "rule"), list(zip(SETTINGS, [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE], strict=True))
)
def test_processes_race_through_shared_connections(bouncer: URL, driver: str, rule: UniqueRule) -> None:
    """Two processes of four clients on three connections: one ticket per key, and every message counted."""
    unread = race(bouncer, driver, SETTINGS[driver], rule)

    assert Counter(dict.fromkeys(range(KEYS), PROCESSES * CLIENTS)) == unread


def test_without_the_settings_statements_get_mixed_up(bouncer: URL) -> None:
    """The race fails where the driver keeps statements prepared: the settings are needed, and this test sees it."""
    with pytest.raises((RepositoryError, DBAPIError)):
        race(bouncer, "postgresql+asyncpg", {}, UniqueRule.ACTIVE_PER_CONNECTION)


def test_the_page_shows_the_settings_that_are_tested() -> None:
    """What a reader copies is what runs here."""
    text = PAGE.read_text(encoding="utf-8")

    for settings in SETTINGS.values():
        for name, value in settings.items():
            assert f'"{name}": {value!r}' in text
