"""Ours, as the documentation has it.

Law of this file: what a host would write, and nothing else: the message made of what has arrived, a router for
each unit of work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from benchmarks.cells import Arrival, Cell, Shape
from benchmarks.contenders import Send
from benchmarks.stands import MAPPING, WAITING, engine_of
from ticketrouter import AsyncTicketRouter, InboundMessage, Resolution, TicketRouter
from ticketrouter.sqlalchemy import (
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    configure_sqlite,
)


def message_of(arrival: Arrival) -> InboundMessage:
    """Make the value that the library takes."""
    return InboundMessage(arrival.company, arrival.contact, arrival.connection, message_id=arrival.message_id)


@contextmanager
def ours(cell: Cell, url: URL) -> Iterator[Send]:
    """Route by TicketRouter."""
    options = {"isolation_level": "AUTOCOMMIT"} if cell.shape in {Shape.AUTOCOMMIT, Shape.POOL} else {}
    with engine_of(url, **options) as engine:
        maker = sessionmaker(engine)

        def in_transaction(arrival: Arrival) -> Resolution:
            with engine.begin() as connection:
                return TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING)).resolve(
                    message_of(arrival)
                )

        def from_pool(arrival: Arrival) -> Resolution:
            with engine.connect() as connection:
                return TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING)).resolve(
                    message_of(arrival)
                )

        def in_session(arrival: Arrival) -> Resolution:
            with maker.begin() as session:
                return TicketRouter(SQLAlchemyTicketRepository(session, MAPPING)).resolve(message_of(arrival))

        def many(arrivals: list[Arrival]) -> list[Resolution]:
            with engine.begin() as connection:
                router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING))
                return router.resolve_many([message_of(arrival) for arrival in arrivals])

        if cell.batch is not None:
            yield many
            return
        match cell.shape:
            case Shape.AUTOCOMMIT:
                with engine.connect() as connection:
                    router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING))
                    yield lambda arrival: router.resolve(message_of(arrival))
            case Shape.POOL:
                yield from_pool
            case Shape.TRANSACTION:
                yield in_transaction
            case Shape.SESSION:
                yield in_session


@asynccontextmanager
async def ours_async(cell: Cell, url: URL) -> AsyncIterator[Send]:
    """Route by AsyncTicketRouter."""
    options = {"isolation_level": "AUTOCOMMIT"} if cell.shape is Shape.AUTOCOMMIT else {}
    engine = create_async_engine(url.set(drivername=f"{url.get_backend_name()}+{cell.driver}"), **options)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine, busy_timeout=WAITING)
    maker = async_sessionmaker(engine)

    async def in_transaction(arrival: Arrival) -> Resolution:
        async with engine.begin() as connection:
            router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(connection, MAPPING))
            return await router.resolve(message_of(arrival))

    async def in_session(arrival: Arrival) -> Resolution:
        async with maker.begin() as session:
            router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(session, MAPPING))
            return await router.resolve(message_of(arrival))

    try:
        match cell.shape:
            case Shape.AUTOCOMMIT:
                async with engine.connect() as connection:
                    router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(connection, MAPPING))

                    async def alone(arrival: Arrival) -> Resolution:
                        return await router.resolve(message_of(arrival))

                    yield alone
            case Shape.SESSION:
                yield in_session
            case _:
                yield in_transaction
    finally:
        await engine.dispose()
