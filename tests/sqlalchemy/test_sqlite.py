"""SQLite: what `configure_sqlite` is needed for, and what a host without it is told."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from ticketrouter import ContentionError, InboundMessage, Outcome, RepositoryError, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, configure_sqlite, metadata

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


def test_a_host_in_the_unsafe_mode_is_warned_once(tmp_path: Path) -> None:
    """SQLAlchemy's default mode of SQLite is told of by one warning for an engine; routing goes on."""
    engine = create_engine(f"sqlite:///{tmp_path / 'unsafe.sqlite3'}")
    metadata.create_all(engine)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with engine.begin() as connection:
                TicketRouter(SQLAlchemyTicketRepository(connection)).resolve(MESSAGE)
    engine.dispose()

    assert ["configure_sqlite" in str(warning.message) for warning in caught] == [True]


def test_configure_sqlite_is_for_sqlite_only() -> None:
    """An engine of another database is refused, unchanged."""
    with pytest.raises(ValueError, match="not for postgresql"):
        configure_sqlite(create_engine("postgresql+psycopg://"))
