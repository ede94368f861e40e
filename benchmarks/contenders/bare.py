"""SQLAlchemy's Core by hand: the very statements that ours sends, built once, with nothing around them.

Law of this file: no value of ours is made, no rule is asked. The statement that creates is sent where nothing
was found, without a further look.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import sessionmaker

from benchmarks.cells import Arrival, Cell, Shape
from benchmarks.contenders import Send
from benchmarks.contenders.recording import Finder, Recording, acquaintance, record
from benchmarks.stands import engine_of


def _autocommit(cell: Cell) -> dict[str, Any]:
    return {"isolation_level": "AUTOCOMMIT"} if cell.shape in {Shape.AUTOCOMMIT, Shape.POOL} else {}


def route(execute: Any, seen: Recording, finder: Finder, arrival: Arrival) -> Any:
    """Send what finds and bumps the ticket, or else what makes one.

    Args:
        execute: the `execute` of a Connection or a Session.
        seen: what to send.
        finder: what tells the ticket in the rows of the first statement.
        arrival: what has arrived.
    """
    now = datetime.now(UTC)
    first, *then = seen.hit
    rows = execute(first.element, first.fill_named(arrival, now, None)).all()
    ticket_id = finder(rows, arrival)
    if ticket_id is None:
        return execute(seen.create.element, seen.create.fill_named(arrival, now, None)).all()
    for step in then:
        done = execute(step.element, step.fill_named(arrival, now, ticket_id))
        if done.returns_rows:
            done.all()
    return rows


def learn(connection: Connection, cell: Cell) -> tuple[Recording, Finder]:
    """Learn what to send, and where the ticket's id stands in the rows that come back."""
    seen = record(connection, cell)
    first = seen.hit[0]
    values = first.fill_named(acquaintance(cell), datetime.now(UTC), None)
    finder = Finder.of(connection.execute(first.element, values).all())
    connection.rollback()
    return seen, finder


@contextmanager
def core(cell: Cell, url: URL) -> Iterator[Send]:
    """Route by Core."""
    with engine_of(url, **_autocommit(cell)) as engine:
        maker = sessionmaker(engine)
        with engine.connect() as connection:
            seen, finder = learn(connection, cell)

        def in_transaction(arrival: Arrival) -> Any:
            with engine.begin() as connection:
                return route(connection.execute, seen, finder, arrival)

        def from_pool(arrival: Arrival) -> Any:
            with engine.connect() as connection:
                return route(connection.execute, seen, finder, arrival)

        def in_session(arrival: Arrival) -> Any:
            with maker.begin() as session:
                return route(session.execute, seen, finder, arrival)

        match cell.shape:
            case Shape.AUTOCOMMIT:
                with engine.connect() as connection:
                    execute = connection.execute
                    yield lambda arrival: route(execute, seen, finder, arrival)
            case Shape.POOL:
                yield from_pool
            case Shape.TRANSACTION:
                yield in_transaction
            case Shape.SESSION:
                yield in_session


@asynccontextmanager
async def core_async(cell: Cell, url: URL) -> AsyncIterator[Send]:
    """Route by Core over an asynchronous driver, a connection kept."""
    engine = create_async_engine(
        url.set(drivername=f"{url.get_backend_name()}+{cell.driver}"), **_autocommit(cell)
    )

    async with engine.connect() as connection:
        seen, finder = await connection.run_sync(learn, cell)

        async def send(arrival: Arrival) -> Any:
            return await route_async(connection, seen, finder, arrival)

        yield send
    await engine.dispose()


async def route_async(connection: AsyncConnection, seen: Recording, finder: Finder, arrival: Arrival) -> Any:
    """Do what `route` does."""
    now = datetime.now(UTC)
    first, *then = seen.hit
    rows = (await connection.execute(first.element, first.fill_named(arrival, now, None))).all()
    ticket_id = finder(rows, arrival)
    if ticket_id is None:
        create = seen.create
        return (await connection.execute(create.element, create.fill_named(arrival, now, None))).all()
    for step in then:
        done = await connection.execute(step.element, step.fill_named(arrival, now, ticket_id))
        if done.returns_rows:
            done.all()
    return rows
