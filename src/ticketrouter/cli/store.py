"""The database of a run: the only place of the command line that knows SQLAlchemy.

Law of this file: the command line is the host here, so it does what hosts are told to do. It owns the
transaction, runs it again from its start where an error says that this may help, and makes the tables.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import NoReturn

from sqlalchemy import URL, Engine, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from ticketrouter.choices import Policy
from ticketrouter.cli.fatal import FatalError
from ticketrouter.errors import TicketRouterError
from ticketrouter.explain import Explanation
from ticketrouter.model import InboundMessage, Resolution
from ticketrouter.presets import Preset
from ticketrouter.router import TicketRouter
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.faults import translate

RESTARTS = 10
"""How many times a transaction is run again."""
_LONGEST_PAUSE = 0.1
_EXAMPLE = "sqlite:///tickets.sqlite3 or postgresql+psycopg://user@host/database"
_PACKAGES = {
    "psycopg": '"ticketrouter[psycopg]"',
    "pymysql": '"ticketrouter[pymysql]"',
    "MySQLdb": "mysqlclient",
}
"""What to install, where it is not called as it is imported."""
_ALIAS_OF_POSTGRESQL = "postgres"
_MARIADB = 'mariadb+pymysql://... and pip install "ticketrouter[pymysql]"'
_WITH_DRIVER = {
    "postgresql": 'postgresql+psycopg://... and pip install "ticketrouter[psycopg]"',
    "mysql": _MARIADB,
    "mariadb": _MARIADB,
}
"""What to use instead of a URL that names no driver."""
_SYNCHRONOUS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""The databases that there may be, and the synchronous driver of each."""


class Store:
    """Where a run keeps its tickets.

    Args:
        engine: the database.
        mapping: its tables.
        policy: what is decided by.
    """

    def __init__(self, engine: Engine, mapping: TicketMapping, policy: Policy) -> None:
        self._engine = engine
        self._mapping = mapping
        self._policy = policy

    @classmethod
    def open(cls, url: str, preset: Preset, *, create: bool = True) -> Store:
        """Connect, and make the tables where there are none.

        Args:
            url: the database, as SQLAlchemy writes it.
            preset: the policy, and the words of the statuses.
            create: whether missing tables are made.

        Raises:
            FatalError: if there is no such database, or no driver for it, or if its tables are not ours, or were
                made for a policy with other words.
        """
        engine = _engine(_parsed(url))
        same_words = preset.statuses == DEFAULT_MAPPING.statuses
        mapping = DEFAULT_MAPPING if same_words else TicketMapping.own(statuses=preset.statuses)
        try:
            if not create:
                _check_file(engine.url)
            _check_columns(engine, mapping)
            if create:
                _create_tables(engine, mapping)
            with engine.connect() as connection:
                detect_unique_rule(connection, mapping)
        except SQLAlchemyError as error:
            engine.dispose()
            _fail(engine.url, error)
        except TicketRouterError as error:
            engine.dispose()
            # Whoever has a command line cannot pass a StatusScheme.
            problem, api, _ = str(error).partition(": pass statuses=")
            advice = f"; give policy {preset.name} a --database of its own" if api else ""
            said = f"the tables there do not go with policy {preset.name}: {problem}{advice}"
            raise FatalError(f"{_named(engine.url)}: {said}") from error
        except FatalError:
            engine.dispose()
            raise
        except OSError as error:
            engine.dispose()
            raise FatalError(f"{_named(engine.url)}: {error}") from error
        return cls(engine, mapping, preset.policy)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def route(self, messages: Sequence[InboundMessage]) -> list[Resolution]:
        """Route messages in one transaction, which is committed when this returns.

        Args:
            messages: the messages, in their order.

        Returns:
            What became of each.

        Raises:
            TicketRouterError: if one of them cannot be routed; the transaction was rolled back.
            FatalError: if the database does not let the transaction through, however often it is run.
        """
        for restarts in range(RESTARTS + 1):
            try:
                return self._attempt(messages)
            except TicketRouterError as error:
                if not error.retryable:
                    raise
                if restarts == RESTARTS:
                    raise FatalError(
                        f"{_named(self._engine.url)}: gave up after {RESTARTS} restarts: {error}"
                    ) from error
            # Whoever was in the way needs a moment; chance keeps two of us from meeting again.
            sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - no secret
        raise AssertionError

    def explain(self, message: InboundMessage) -> Explanation:
        """Explain what would become of a message; nothing is written.

        Raises:
            FatalError: if the database cannot be read.
        """
        try:
            with self._engine.connect() as connection:
                repository = SQLAlchemyTicketRepository(connection, self._mapping)
                return TicketRouter(repository, self._policy).explain(message)
        except (SQLAlchemyError, TicketRouterError) as error:
            raise FatalError(f"{_named(self._engine.url)}: {error}") from error

    def _attempt(self, messages: Sequence[InboundMessage]) -> list[Resolution]:
        try:
            with self._engine.begin() as connection:
                repository = SQLAlchemyTicketRepository(connection, self._mapping)
                return TicketRouter(repository, self._policy).resolve_many(messages)
        except SQLAlchemyError as error:
            # Only beginning and committing raise these: between them the repository has translated them.
            translated = translate(error)
            if translated.retryable:
                raise translated from error
            _fail(self._engine.url, error)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text of the error may hold the password.
        raise FatalError(f"--database is no URL of a database, such as {_EXAMPLE}") from None


def _check_database(url: URL) -> None:
    """Refuse what we do not support before looking for its driver."""
    backend = url.get_backend_name()
    if backend == _ALIAS_OF_POSTGRESQL:
        raise FatalError(f"{_named(url)}: write postgresql+psycopg://...")
    if backend not in _SYNCHRONOUS:
        raise FatalError(f"{_named(url)}: {backend} is not supported: SQLite, PostgreSQL or MariaDB")
    try:
        is_async = url.get_dialect().is_async
    except NoSuchModuleError:
        raise FatalError(f"{_named(url)}: no such database or driver, {url.drivername!r}") from None
    if is_async:
        said = f"{url.drivername} is an asynchronous driver; use {_SYNCHRONOUS[backend]}"
        raise FatalError(f"{_named(url)}: {said}")


def _engine(url: URL) -> Engine:
    _check_database(url)
    try:
        engine = create_engine(url)
    except ModuleNotFoundError as error:
        with_driver = _WITH_DRIVER.get(url.drivername)
        if with_driver is not None:
            raise FatalError(f"{_named(url)}: use {with_driver}") from None
        driver = error.name or url.get_driver_name()
        package = _PACKAGES.get(driver, driver)
        raise FatalError(f"{_named(url)}: its driver is not installed: pip install {package}") from None
    except (ArgumentError, ImportError, TypeError, ValueError) as error:
        raise FatalError(f"{_named(url)}: {error}") from None
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    return engine


def _check_file(url: URL) -> None:
    # SQLite would make an empty database of whatever name it is given.
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise FatalError(f"{_named(url)}: there is no such file")


def _check_columns(engine: Engine, mapping: TicketMapping) -> None:
    """Refuse a table that has our name, but is somebody else's."""
    with engine.connect() as connection:
        inspector = inspect(connection)
        for table in mapping.metadata.sorted_tables:
            if not inspector.has_table(table.name):
                continue
            there = {column["name"] for column in inspector.get_columns(table.name)}
            absent = next((column.name for column in table.columns if column.name not in there), None)
            if absent is not None:
                raise FatalError(
                    f"{_named(engine.url)}: the table {table.name} is not ours: it has no column {absent}; "
                    "use another --database"
                )


def _create_tables(engine: Engine, mapping: TicketMapping) -> None:
    try:
        mapping.metadata.create_all(engine)
    except DBAPIError:
        # Another run may have been making them at the same time: then they are there now.
        mapping.metadata.create_all(engine)


def _fail(url: URL, error: SQLAlchemyError) -> NoReturn:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    raise FatalError(f"{_named(url)}: {cause}") from error


def _named(url: URL) -> str:
    return url.render_as_string(hide_password=True)
