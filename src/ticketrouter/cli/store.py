"""The tickets of a run.

Law of this file: the command line is the host here, so it does what hosts are told to do. It owns the
transaction, runs it again from its start where an error says that this may help, and makes the tables where they are
ours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import sleep

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from ticketrouter.choices import Policy
from ticketrouter.cli.desk import Desk, Words
from ticketrouter.cli.engine import check_file, engine_of, fail, named, parsed_url
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.ids import with_ids_of
from ticketrouter.cli.tables import Tables, blaming, said
from ticketrouter.errors import TicketRouterError
from ticketrouter.explain import Explanation
from ticketrouter.model import InboundMessage, Resolution, UniqueRule
from ticketrouter.presets import Preset
from ticketrouter.router import TicketRouter
from ticketrouter.sqlalchemy import (
    MappingError,
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
        asked: which tickets they are, as the options say.
    """

    def __init__(self, engine: Engine, mapping: TicketMapping, policy: Policy, asked: Tables) -> None:
        self._engine = engine
        self._mapping = mapping
        self._policy = policy
        self._asked = asked
        self._as_ids = with_ids_of(mapping, engine.dialect)

    @classmethod
    def open(cls, url: str, preset: Preset, tables: Tables | None = None, *, create: bool = True) -> Store:
        """Connect, and make the tables where they are ours and there are none.

        Args:
            url: the database, as SQLAlchemy writes it.
            preset: the policy.
            tables: which tickets they are; None: ours, with the words of the preset.
            create: whether the run makes tickets, and tables that are missing.

        Raises:
            FatalError: if there is no such database, or no driver for it, or if its tables are not those, or were
                made for a policy with other words.
        """
        tables = Desk(words=Words(preset.name)) if tables is None else tables
        engine = engine_of(parsed_url(url))
        try:
            ours = tables.are_made_here
            if ours is None:
                mapping = _of_the_host(engine, tables, create=create)
            else:
                mapping = _ours(engine, ours, preset, create=create)
        except SQLAlchemyError as error:
            engine.dispose()
            fail(engine.url, error)
        except TicketRouterError as error:
            engine.dispose()
            raise FatalError(f"{named(engine.url)}: {said(tables, error)}") from error
        except FatalError:
            engine.dispose()
            raise
        except OSError as error:
            engine.dispose()
            raise FatalError(f"{named(engine.url)}: {error}") from error
        return cls(engine, mapping, preset.policy, tables)

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
            FatalError: if the database does not let the transaction through, however often it is run, or if its
                tables are not as they must be.
        """
        with blaming(self._asked):
            messages = [self._as_ids(message) for message in messages]
        for restarts in range(RESTARTS + 1):
            try:
                return self._attempt(messages)
            except MappingError as error:
                # No line of the stream is to blame.
                raise FatalError(f"{named(self._engine.url)}: {said(self._asked, error)}") from error
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
            with blaming(self._asked), self._engine.connect() as connection:
                repository = SQLAlchemyTicketRepository(connection, self._mapping)
                return TicketRouter(repository, self._policy).explain(self._as_ids(message))
        except TicketRouterError as error:
            raise FatalError(f"{named(self._engine.url)}: {said(self._asked, error)}") from error
        except SQLAlchemyError as error:
            raise FatalError(f"{named(self._engine.url)}: {error}") from error

    def _attempt(self, messages: Sequence[InboundMessage]) -> list[Resolution]:
        try:
            with blaming(self._asked), self._engine.begin() as connection:
                repository = SQLAlchemyTicketRepository(connection, self._mapping)
                return TicketRouter(repository, self._policy).resolve_many(messages)
        except SQLAlchemyError as error:
            # Only beginning and committing raise these: between them the repository has translated them.
            translated = translate(error)
            if translated.retryable or isinstance(error, IntegrityError):
                # The latter is what the rows say: a deferred constraint looks at them when they are committed.
                raise translated from error
            fail(self._engine.url, error)


def _of_the_host(engine: Engine, tables: Tables, *, create: bool) -> TicketMapping:
    """Map tables that are there."""
    check_file(engine.url)
    with engine.connect() as connection:
        mapping = tables.written(connection) if create else tables.looked_at(connection)
        # What is wrong with them is known before a message is read.
        detect_unique_rule(connection, mapping)
    return mapping


def _ours(engine: Engine, mapping: TicketMapping, preset: Preset, *, create: bool) -> TicketMapping:
    """Make our own tables where they are not there, and see that they are for these words."""
    if not create:
        check_file(engine.url)
    _check_columns(engine, mapping)
    if create:
        _create_tables(engine, mapping)
    with engine.connect() as connection:
        rule = detect_unique_rule(connection, mapping)
    if rule is UniqueRule.NONE:
        words = ", ".join(sorted(mapping.statuses.active))
        raise FatalError(
            f"{named(engine.url)}: the tables there do not go with policy {preset.name}: no unique index there is about "
            f"all of the tickets that are active by it ({words}); give policy {preset.name} a --database of its own"
        )
    return mapping


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
