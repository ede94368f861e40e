"""The host's own session: its objects go first, its errors stay its own, its transaction is left to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from tests.sqlalchemy.conftest import Place
from tests.support import whaticket
from tests.support.backends import SQL_BACKENDS, Backend
from tests.support.whaticket import DATABASES, NOT_CLOSED, SAAS, THREE
from ticketrouter import AsyncTicketRouter, InboundMessage, Outcome, RepositoryError, TicketRouter
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    AsyncSQLAlchemyTicketRepository,
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)

every_database = pytest.mark.parametrize("database", DATABASES)
every_way = pytest.mark.parametrize("way", ["session", "scoped", "no-autoflush"])
ASYNC = [pytest.param(b, b.database, id=b.name) for b in SQL_BACKENDS if b.is_async]


class Base(DeclarativeBase):
    pass


class Contact(Base):
    """The host's own table of contacts, which its tickets refer to."""

    __tablename__ = "Contacts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))


@pytest.fixture
def mapping(place: Place) -> TicketMapping:
    """A table whose foreign key has every new contact flushed before its ticket."""
    return place.whaticket(SAAS, THREE if place.database == "mariadb" else NOT_CLOSED)


@contextmanager
def host_session(place: Place, way: str) -> Iterator[Any]:
    if way == "scoped":
        scoped = scoped_session(sessionmaker(place.engine))
        yield scoped
        scoped.remove()
        return
    with Session(place.engine, autoflush=way != "no-autoflush") as session:
        yield session


def count(place: Place, table: str) -> int:
    with place.begin() as connection:
        name = f"`{table}`" if place.database == "mariadb" else f'"{table}"'
        found: int = connection.exec_driver_sql(f"SELECT COUNT(*) FROM {name}").scalar_one()
        return found


@every_database
@every_way
def test_pending_objects_of_the_host_go_first(place: Place, mapping: TicketMapping, way: str) -> None:
    """A contact that the host has only just added is there when its ticket is created."""
    with host_session(place, way) as session:
        session.add(Contact(id=99, name="new"))
        made = TicketRouter(SQLAlchemyTicketRepository(session, mapping)).resolve(InboundMessage(1, 99, 10))
        session.commit()

    assert Outcome.CREATED is made.outcome
    assert [99] == [row["contactId"] for row in place.rows()]


@every_database
@every_way
def test_the_hosts_own_broken_rule_is_the_hosts_own_error(
    place: Place, mapping: TicketMapping, way: str
) -> None:
    """What a pending object of the host breaks comes out as SQLAlchemy raises it, not as an error of ours."""
    with host_session(place, way) as session:
        session.add(Contact(id=whaticket.PERSON, name="there already"))
        router = TicketRouter(SQLAlchemyTicketRepository(session, mapping))
        with pytest.raises(IntegrityError):
            router.resolve(InboundMessage(1, whaticket.PERSON, 10))
        session.rollback()
        again = router.resolve(InboundMessage(1, whaticket.PERSON, 10))
        session.commit()

    assert Outcome.CREATED is again.outcome


@every_database
def test_a_session_that_fails_keeps_nothing(place: Place, mapping: TicketMapping) -> None:
    """Ticket and host's objects stand and fall together: the library has committed neither."""
    with host_session(place, "session") as session:
        session.add(Contact(id=99, name="new"))
        TicketRouter(SQLAlchemyTicketRepository(session, mapping)).resolve(InboundMessage(1, 99, 10))
        session.rollback()

    assert [] == place.rows()
    assert 2 == count(place, "Contacts")


@every_database
def test_a_savepoint_of_the_host_takes_the_ticket_with_it(place: Place, mapping: TicketMapping) -> None:
    """What is routed inside begin_nested() goes with that savepoint, and what was routed before it stays."""
    with host_session(place, "session") as session, session.begin():
        router = TicketRouter(SQLAlchemyTicketRepository(session, mapping))
        router.resolve(InboundMessage(1, whaticket.PERSON, 10))
        savepoint = session.begin_nested()
        inside = router.resolve(InboundMessage(1, whaticket.PERSON, 13))
        router.close(1, inside.ticket.id)
        savepoint.rollback()
        with session.begin_nested():
            kept = router.resolve(InboundMessage(1, whaticket.GROUP, 13))
        after = router.resolve(InboundMessage(1, whaticket.PERSON, 10))

    assert Outcome.REUSED is after.outcome
    assert [10, 13] == [row["whatsappId"] for row in place.rows()]
    assert kept.ticket.id == place.rows()[1]["id"]


@every_database
def test_objects_that_the_host_has_loaded_are_not_touched(place: Place, mapping: TicketMapping) -> None:
    """The library neither expires nor refreshes the host's objects, nor ends its transaction."""
    with host_session(place, "session") as session:
        contact = session.get(Contact, whaticket.PERSON)
        assert contact is not None
        transaction = session.get_transaction()
        TicketRouter(SQLAlchemyTicketRepository(session, mapping)).resolve(
            InboundMessage(1, whaticket.PERSON, 10)
        )

        assert transaction is session.get_transaction()
        assert "name" in contact.__dict__
        assert not session.dirty


@asynccontextmanager
async def async_session(place: Place, backend: Backend) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(place.url.set(drivername=backend.driver), poolclass=NullPool)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@pytest.mark.parametrize(("backend", "database"), ASYNC)
def test_an_async_session_is_a_session(place: Place, mapping: TicketMapping, backend: Backend) -> None:
    """Through AsyncSession too: pending objects first, the host's own errors, savepoints, one transaction."""
    import asyncio

    async def host() -> tuple[Outcome, Outcome, int]:
        async with async_session(place, backend) as session:
            session.add(Contact(id=99, name="new"))
            router = AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(session, mapping))
            made = await router.resolve(InboundMessage(1, 99, 10))
            await session.commit()
            savepoint = await session.begin_nested()
            await router.resolve(InboundMessage(1, 99, 13))
            await savepoint.rollback()
            again = await router.resolve(InboundMessage(1, 99, 10))
            await session.commit()
            session.add(Contact(id=100, name="kept"))
            session.add(Contact(id=whaticket.PERSON, name="there already"))
            with pytest.raises(IntegrityError):
                await router.resolve(InboundMessage(1, 99, 10))
            await session.rollback()
            contacts = await session.scalar(select(func.count()).select_from(Contact))
            return made.outcome, again.outcome, contacts or 0

    assert (Outcome.CREATED, Outcome.REUSED, 3) == asyncio.run(host())
    assert [(99, 10, 2)] == [(r["contactId"], r["whatsappId"], r["unreadMessages"]) for r in place.rows()]


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_session_over_two_databases_uses_the_one_of_the_tickets(
    place: Place, mapping: TicketMapping
) -> None:
    """Where a host binds its tables to several engines, the tickets' own bind is asked."""
    elsewhere = Place(place.url.set(database=":memory:"))
    with Session(elsewhere.engine, binds={mapping.table: place.engine}) as session:
        TicketRouter(SQLAlchemyTicketRepository(session, mapping)).resolve(
            InboundMessage(1, whaticket.PERSON, 10)
        )
        session.commit()

    assert 1 == len(place.rows())


ENGINE = create_engine("sqlite://")


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: SQLAlchemyTicketRepository(ENGINE), "not Engine"),  # type: ignore[arg-type]
        (lambda: SQLAlchemyTicketRepository(AsyncSession()), "use AsyncSQLAlchemyTicketRepository"),  # type: ignore[arg-type]
        (lambda: AsyncSQLAlchemyTicketRepository(Session()), "use SQLAlchemyTicketRepository"),  # type: ignore[arg-type]
        (lambda: SQLAlchemyTicketRepository(Session(), object()), "a TicketMapping is needed, not object"),  # type: ignore[arg-type]
        (lambda: detect_unique_rule(ENGINE, DEFAULT_MAPPING), "a Connection is needed, not Engine"),  # type: ignore[arg-type]
    ],
    ids=["engine", "asynchronous session", "synchronous session", "no mapping", "engine to look at"],
)
def test_a_host_of_another_kind_is_told_what_is_needed(make: Callable[[], object], advice: str) -> None:
    """What the repositories cannot work with is refused when they are made, with the way out."""
    with pytest.raises(MappingError, match=advice):
        make()


def test_a_session_without_engine_is_told() -> None:
    """A session that is bound to nothing is a typed error, not one of SQLAlchemy."""
    with pytest.raises(RepositoryError, match="the session is bound to no engine"):
        TicketRouter(SQLAlchemyTicketRepository(Session())).resolve(InboundMessage(1, "c", 10))
