"""The tickets of a run.

Law of this file: the command line is the host here, so it does what hosts are told to do. It owns the
transaction, runs it again from its start where an error says that this may help, and makes the tables.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import sleep

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ticketrouter.choices import Policy
from ticketrouter.cli.engine import check_file, engine_of, fail, named, parsed_url
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
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.faults import translate

RESTARTS = 10
"""How many times a transaction is run again."""
_LONGEST_PAUSE = 0.1


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
        engine = engine_of(parsed_url(url))
        same_words = preset.statuses == DEFAULT_MAPPING.statuses
        mapping = DEFAULT_MAPPING if same_words else TicketMapping.own(statuses=preset.statuses)
        try:
            if not create:
                check_file(engine.url)
            _check_columns(engine, mapping)
            if create:
                _create_tables(engine, mapping)
            with engine.connect() as connection:
                detect_unique_rule(connection, mapping)
        except SQLAlchemyError as error:
            engine.dispose()
            fail(engine.url, error)
        except TicketRouterError as error:
            engine.dispose()
            # Whoever has a command line cannot pass a StatusScheme.
            problem, api, _ = str(error).partition(": pass statuses=")
            advice = f"; give policy {preset.name} a --database of its own" if api else ""
            said = f"the tables there do not go with policy {preset.name}: {problem}{advice}"
            raise FatalError(f"{named(engine.url)}: {said}") from error
        except FatalError:
            engine.dispose()
            raise
        except OSError as error:
            engine.dispose()
            raise FatalError(f"{named(engine.url)}: {error}") from error
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
                        f"{named(self._engine.url)}: gave up after {RESTARTS} restarts: {error}"
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
            raise FatalError(f"{named(self._engine.url)}: {error}") from error

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
            fail(self._engine.url, error)


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
                    f"{named(engine.url)}: the table {table.name} is not ours: it has no column {absent}; "
                    "use another --database"
                )


def _create_tables(engine: Engine, mapping: TicketMapping) -> None:
    try:
        mapping.metadata.create_all(engine)
    except DBAPIError:
        # Another run may have been making them at the same time: then they are there now.
        mapping.metadata.create_all(engine)
