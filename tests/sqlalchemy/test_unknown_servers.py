"""A server that no room is for is refused by its own name, before anything is sent to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session

from tests.support.backends import Databases
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    MappingError,
    SQLAlchemyTicketRepository,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.audit import audit
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.health.repair import plan_repair

MESSAGE = InboundMessage(1, "c", 10, message_id="m")
SERVERS: dict[str, dict[str, Any]] = {
    "duckdb": {"name": "duckdb"},
    "MySQL 8.0.36": {"name": "mysql", "is_mariadb": False, "server_version_info": (8, 0, 36)},
    "MySQL": {"name": "mariadb", "is_mariadb": False, "server_version_info": None},
}
"""What each server is called in the refusal, and what SQLAlchemy's dialect says once it has met it."""


def routed(do: Callable[[TicketRouter], object]) -> Callable[[Connection], object]:
    return lambda connection: do(TicketRouter(SQLAlchemyTicketRepository(connection)))


ASKED: dict[str, Callable[[Connection], object]] = {
    "resolve": routed(lambda router: router.resolve(MESSAGE)),
    "resolve_many": routed(lambda router: router.resolve_many([MESSAGE, InboundMessage(1, "d", 10)])),
    "explain": routed(lambda router: router.explain(MESSAGE)),
    "find_active": routed(lambda router: router.find_active(MESSAGE.key)),
    "close": routed(lambda router: router.close(1, 1)),
    "forget": lambda connection: SQLAlchemyTicketRepository(connection).get(1, 1),
    "a session": lambda connection: TicketRouter(SQLAlchemyTicketRepository(Session(connection))).resolve(
        MESSAGE
    ),
    "detect_unique_rule": lambda connection: detect_unique_rule(connection, DEFAULT_MAPPING),
    "audit": lambda connection: audit(connection, DEFAULT_MAPPING),
    "repair": lambda connection: list(plan_repair(connection, DEFAULT_MAPPING)),
    "missing_steps": lambda connection: missing_steps(connection, DEFAULT_MAPPING),
}


@contextmanager
def met(server: str) -> Iterator[tuple[Connection, list[str]]]:
    """Give a connection to a server that answers to nothing, and what it is sent."""
    engine, sent = create_engine("sqlite://"), list[str]()
    with engine.connect() as connection:
        for name, value in SERVERS[server].items():
            setattr(engine.dialect, name, value)
        event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        yield connection, sent
    engine.dispose()


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_without_a_room_is_refused_by_its_name(server: str, what: str) -> None:
    """Whatever is asked: nothing is sent, and the error names the server and not a dialect."""
    with met(server) as (connection, sent):
        with pytest.raises(MappingError, match=rf"^{server} is not among .*\(PostgreSQL, MariaDB, SQLite\)"):
            ASKED[what](connection)

        assert [] == sent


@pytest.mark.parametrize("what", ASKED)
def test_mysql_itself_is_refused(databases: Databases, what: str) -> None:
    """A real server, by the version that it tells; it is no MariaDB, whose dialect it shares."""
    engine, sent = create_engine(databases.new("mysql")), list[str]()
    with engine.connect() as connection:
        event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        with pytest.raises(MappingError, match=r"^MySQL \d+\.\d+\.\d+\S* is not among"):
            ASKED[what](connection)
    databases.drop(engine.url)
    engine.dispose()

    assert [] == sent


def test_a_server_that_is_known_is_asked() -> None:
    """The test above is able to fail: the same connection, left as it is, is asked."""
    engine, sent = create_engine("sqlite://"), list[str]()
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with engine.connect() as connection, pytest.raises(MappingError, match="there is no table"):
        detect_unique_rule(connection, DEFAULT_MAPPING)
    engine.dispose()

    assert sent
