"""What the tests of the SQLAlchemy adapter share: a database of its own for a host that makes and drops tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from tests.support import whaticket
from tests.support.backends import Backend, Databases, SqlStore
from ticketrouter.sqlalchemy import TicketMapping, configure_sqlite


class Place:
    """A database in which a test makes the host's tables.

    Every connection is a new one: a prepared statement must not outlive the tables that it is about.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.database = url.get_backend_name()
        self.engine = self._engine(url)

    def begin(self, **options: Any) -> Any:
        """Begin a transaction of the host; it ends in a commit, or in a rollback where the block raises."""
        return self.engine.execution_options(**options).begin()

    def whaticket(self, layout: whaticket.Layout, rule: whaticket.Rule) -> TicketMapping:
        """Make the tables of a fork, and map them as its host would."""
        with self.begin() as connection:
            table = whaticket.build(connection, layout, rule)
        return TicketMapping.whaticket(table, statuses=rule.statuses)

    @contextmanager
    def store(self, backend: Backend, mapping: TicketMapping) -> Iterator[SqlStore]:
        """Reach the tables by the driver under test, and look afterwards whether a connection was kept."""
        store = SqlStore(backend, self.url, mapping)
        try:
            yield store
            store.assert_no_leak()
        finally:
            store.dispose()

    def rows(self) -> list[dict[str, object]]:
        """Read every row of "Tickets"."""
        with self.begin() as connection:
            return whaticket.rows(connection)

    @staticmethod
    def _engine(url: URL) -> Engine:
        engine = create_engine(url, poolclass=NullPool)
        if engine.dialect.name == "sqlite":
            configure_sqlite(engine)
            event.listen(engine, "connect", _keep_foreign_keys)
        return engine


def _keep_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


@pytest.fixture(scope="session")
def urls(databases: Databases) -> Iterator[dict[str, URL]]:
    """The databases that have been made, by the name of their kind."""
    made: dict[str, URL] = {}
    yield made
    for url in made.values():
        databases.drop(url)


@pytest.fixture(params=whaticket.DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn; a test may name its own."""
    name: str = request.param
    return name


@pytest.fixture
def place(database: str, databases: Databases, urls: dict[str, URL]) -> Place:
    """A database without tables, or with those of an earlier test, which nobody needs any more.

    Its engine is a new one: what an earlier test's table was found to be is not known of one that looks like it.
    """
    if database not in urls:
        urls[database] = databases.new(database)
    place = Place(urls[database])
    with place.begin() as connection:
        whaticket.drop_all(connection)
    return place
