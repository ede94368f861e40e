"""SQLite: what `configure_sqlite` is needed for, and what a host without it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from ticketrouter import ContentionError, InboundMessage, Outcome, RepositoryError, TicketKey, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, configure_sqlite, metadata

MESSAGE = InboundMessage(1, "c", 10)


def test_a_locked_database_is_contention(tmp_path: Path) -> None:
    """Where another transaction holds the lock, a session's BEGIN fails as an error that a restart may cure."""
    engine = create_engine(f"sqlite:///{tmp_path / 'locked.sqlite3'}")
    configure_sqlite(engine, busy_timeout=0.01)
    metadata.create_all(engine)
    with engine.begin(), Session(engine) as session, pytest.raises(ContentionError) as error:
        TicketRouter(SQLAlchemyTicketRepository(session)).resolve(MESSAGE)
    engine.dispose()

    assert error.value.retryable


@pytest.mark.parametrize("where", ["engine", "connection"])
def test_autocommit_keeps_what_was_routed(tmp_path: Path, where: str) -> None:
    """In AUTOCOMMIT no transaction is begun that nobody would end."""
    options = {"isolation_level": "AUTOCOMMIT"} if where == "engine" else {}
    engine = create_engine(f"sqlite:///{tmp_path / 'auto.sqlite3'}", **options)
    configure_sqlite(engine)
    metadata.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        made = TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(MESSAGE)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT COUNT(*) FROM ticketrouter_tickets")).scalar_one()
    engine.dispose()

    assert (Outcome.CREATED, 1) == (made.outcome, found)


def test_a_message_id_in_autocommit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Nothing is half-done: no ticket is left behind by a message whose id cannot be recorded with it."""
    engine = create_engine(f"sqlite:///{tmp_path / 'auto.sqlite3'}", isolation_level="AUTOCOMMIT")
    configure_sqlite(engine)
    metadata.create_all(engine)
    with engine.connect() as connection:
        with pytest.raises(RepositoryError, match="needs a transaction"):
            TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(
                InboundMessage(1, "c", 10, message_id="m")
            )
        found = connection.execute(text("SELECT COUNT(*) FROM ticketrouter_tickets")).scalar_one()
    engine.dispose()

    assert found == 0


def test_a_write_that_the_host_refuses_leaves_no_message_id(tmp_path: Path) -> None:
    """A host that commits after its own trigger's refusal keeps no id without its write: it can come again."""
    engine = create_engine(f"sqlite:///{tmp_path / 'trigger.sqlite3'}")
    configure_sqlite(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection))
        router.resolve(MESSAGE)
        refuse = "CREATE TRIGGER t BEFORE UPDATE ON ticketrouter_tickets BEGIN SELECT RAISE(FAIL, 'no'); END"
        connection.execute(text(refuse))
        with pytest.raises(RepositoryError):
            router.resolve(InboundMessage(1, "c", 10, message_id="m"))
        connection.execute(text("DROP TRIGGER t"))
    with engine.begin() as connection:
        again = TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(
            InboundMessage(1, "c", 10, message_id="m")
        )
    engine.dispose()

    assert (Outcome.REUSED, 2) == (again.outcome, again.ticket.unread_messages)


def _begins_late(engine: Engine) -> None:
    event.listen(engine, "connect", lambda driven, _: setattr(driven, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))


Acts = dict[str, Callable[[TicketRouter, Any], object]]
WRITES: Acts = {
    "resolve": lambda router, _: router.resolve(MESSAGE),
    "resolve with an id": lambda router, _: router.resolve(InboundMessage(1, "c", 10, message_id="m")),
    "resolve_many": lambda router, _: router.resolve_many([MESSAGE, MESSAGE]),
    "open": lambda router, _: router.open(TicketKey(1, "new", 10)),
    "ensure_can_open": lambda router, _: router.ensure_can_open(TicketKey(1, "new", 10)),
    "accept": lambda router, ticket_id: router.accept(1, ticket_id, 7),
    "close": lambda router, ticket_id: router.close(1, ticket_id),
    "transfer": lambda router, ticket_id: router.transfer(1, ticket_id, 13),
    "merge": lambda router, _: router.merge_contacts(1, MESSAGE.contact_id, "other"),
    "move": lambda router, _: router.move_connection(1, MESSAGE.connection_id, 13),
}
LOOKS: Acts = {
    "explain": lambda router, _: router.explain(MESSAGE),
    "find_active": lambda router, _: router.find_active(MESSAGE.key),
    "active_tickets": lambda router, _: router.active_tickets(1, MESSAGE.contact_id),
    "plan": lambda router, _: router.plan_merge_contacts(1, MESSAGE.contact_id, "other"),
}


@pytest.mark.parametrize("begins", [None, _begins_late], ids=["by the driver", "by a listener"])
def test_a_transaction_that_may_have_read_before_its_lock_writes_nothing(
    tmp_path: Path, begins: Callable[[Engine], None] | None
) -> None:
    """Every operation that may write is refused by the call that cures it; looking goes on."""
    url = f"sqlite:///{tmp_path / 'unsafe.sqlite3'}"
    safe, engine = create_engine(url), create_engine(url)
    configure_sqlite(safe)
    metadata.create_all(safe)
    with safe.begin() as connection:
        ticket = TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(MESSAGE).ticket
    if begins is not None:
        begins(engine)
    with engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection))
        for look in LOOKS.values():
            look(router, ticket.id)
        for write in WRITES.values():
            with pytest.raises(MappingError, match=r"configure_sqlite\(engine\)"):
                write(router, ticket.id)
        assert ticket == SQLAlchemyTicketRepository(connection).get(1, ticket.id)
        connection.rollback()
    for each in (safe, engine):
        each.dispose()


def test_configured_twice_is_configured_once(tmp_path: Path) -> None:
    """And one that sends its own BEGIN is told to leave that."""
    engine, other = (create_engine(f"sqlite:///{tmp_path / name}") for name in ("one", "other"))
    configure_sqlite(engine)
    configure_sqlite(engine)
    _begins_late(other)
    metadata.create_all(engine)
    with engine.begin() as connection:
        found = TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(MESSAGE)
    with pytest.raises(MappingError, match="remove it"):
        configure_sqlite(other)
    for each in (engine, other):
        each.dispose()

    assert Outcome.CREATED is found.outcome


def test_configure_sqlite_is_for_sqlite_only() -> None:
    """An engine of another database is refused, unchanged."""
    with pytest.raises(ValueError, match="not for postgresql"):
        configure_sqlite(create_engine("postgresql+psycopg://"))
