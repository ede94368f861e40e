"""Which tickets a command is about: the tables that its options describe, or a mapping of the host's own.

Law of this file: it says what commands ask of either, and how a database is looked at by it; it knows neither.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ticketrouter.cli.engine import fail, named, parsed_url, reading_engine
from ticketrouter.cli.fatal import FatalError
from ticketrouter.errors import TicketRouterError
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.steps import Step


class Tables(Protocol):
    """What a command asks of the options that say which tickets it is about."""

    @property
    def are_made_here(self) -> TicketMapping | None:
        """Our own tables, which a run that writes makes; None: they are the host's, who makes them."""
        ...

    def looked_at(self, connection: Connection) -> TicketMapping:
        """Map the tickets of a database for somebody who writes nothing.

        Raises:
            FatalError: if there is no such table.
            MappingError: if it cannot be mapped so.
        """
        ...

    def written(self, connection: Connection) -> TicketMapping:
        """Map the tickets of a database for somebody who makes new ones.

        Raises:
            FatalError: if there is no such table.
            MappingError: if it cannot be mapped so.
        """
        ...

    def steps(self, dialect: str, drop: Sequence[str]) -> tuple[Step, ...]:
        """Return the whole schema, without looking at a database.

        Args:
            dialect: the database.
            drop: names of unique constraints that are dropped at the end.

        Raises:
            FatalError: if it is not known without one.
            MappingError: if there are no such statements.
        """
        ...

    def told(self, text: str) -> str:
        """Return what the library says, in words that whoever has typed the options knows."""
        ...

    def blamed(self, error: BaseException) -> str | None:
        """Return what to say of an error that the host's own code has raised; None: it has not."""
        ...


@contextmanager
def blaming(tables: Tables) -> Generator[None]:
    """Say in one line what the host's own code, which a mapping calls, has raised.

    Raises:
        FatalError: if it has.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        told = tables.blamed(error)
        if told is None:
            raise
        raise FatalError(told) from error


def said(tables: Tables, error: TicketRouterError) -> str:
    """Return what an error of the library says to whoever has typed the options."""
    return tables.told(str(error))


@contextmanager
def looked_at(url: str, tables: Tables) -> Generator[tuple[Connection, TicketMapping]]:
    """Open a database for looking, and map its tickets.

    Args:
        url: the database, as SQLAlchemy writes it.
        tables: which tickets they are.

    Yields:
        A connection in a transaction that can write nothing, and the mapping.

    Raises:
        FatalError: if there is no such database, driver or table, or no right to look.
    """
    engine = reading_engine(parsed_url(url))
    try:
        with blaming(tables), engine.connect() as connection:
            yield connection, tables.looked_at(connection)
    except SQLAlchemyError as error:
        fail(engine.url, error)
    except TicketRouterError as error:
        cause = error.__cause__
        if isinstance(cause, DBAPIError):
            fail(engine.url, cause)
        raise FatalError(f"{named(engine.url)}: {said(tables, error)}") from error
    except OSError as error:
        raise FatalError(f"{named(engine.url)}: {error}") from error
    finally:
        engine.dispose()
