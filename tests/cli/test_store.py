"""The command line as a host: its transactions, and what it says of a database it cannot use."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import tickets
from ticketrouter import ContentionError, InboundMessage, Outcome, TicketRouter, TicketRouterError, presets
from ticketrouter.cli import engine as engines
from ticketrouter.cli import store as module
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.store import RESTARTS, Store

MESSAGES = [InboundMessage(1, "ana", 10, message_id=f"m{number}") for number in range(3)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "t.sqlite3"


@pytest.fixture
def store(database) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{database}", presets.ALL["default"])) as opened:
        yield opened


def failing(monkeypatch, error: Exception, times: int) -> list[int]:
    """Let the router fail on its way out of the last message, so that there is something to roll back."""
    calls: list[int] = []

    class Failing(TicketRouter):
        def resolve_many(self, messages: Any) -> Any:
            resolutions = super().resolve_many(messages)
            calls.append(len(resolutions))
            if len(calls) <= times:
                raise error
            return resolutions

    monkeypatch.setattr(module, "TicketRouter", Failing)
    monkeypatch.setattr(module, "sleep", lambda _: None)
    return calls


def test_a_transaction_is_run_again_from_its_start(store, database, monkeypatch):
    """After ContentionError nothing is left of the attempt, and the whole batch is routed again."""
    calls = failing(monkeypatch, ContentionError("busy"), times=RESTARTS)

    resolutions = store.route(MESSAGES)

    assert [each.outcome for each in resolutions] == [Outcome.CREATED, Outcome.REUSED, Outcome.REUSED]
    assert len(calls) == RESTARTS + 1
    assert tickets(database) == [("1", "ana", "10", "pending", 3, 0)]


def test_restarts_come_to_an_end(store, database, monkeypatch):
    """A database that never lets the transaction through ends the run, with nothing half-routed."""
    failing(monkeypatch, ContentionError("busy"), times=RESTARTS + 1)

    with pytest.raises(FatalError, match="gave up after 10 restarts: busy"):
        store.route(MESSAGES)

    assert tickets(database) == []


def test_what_a_restart_cannot_cure_is_not_run_again(store, database, monkeypatch):
    """Any other error comes out at once; the transaction is rolled back."""
    calls = failing(monkeypatch, TicketRouterError("no"), times=1)

    with pytest.raises(TicketRouterError, match="no"):
        store.route(MESSAGES)

    assert len(calls) == 1
    assert tickets(database) == []


@pytest.mark.parametrize("name", presets.ALL)
def test_every_preset_has_its_words_in_the_schema(name, tmp_path):
    """Whatever the statuses of a preset, a new ticket has its initial word and holds its key."""
    database = tmp_path / "t.sqlite3"
    preset = presets.ALL[name]

    with closing(Store.open(f"sqlite:///{database}", preset)) as opened:
        outcomes = [each.outcome for each in opened.route(MESSAGES)]

    assert outcomes == [Outcome.CREATED, Outcome.REUSED, Outcome.REUSED]
    assert tickets(database) == [("1", "ana", "10", preset.statuses.initial, 3, 0)]


def test_tables_of_another_policy_are_refused(store, database):
    """Tables whose unique rule speaks of other words are left alone, before any message is read."""
    store.route(MESSAGES)

    with pytest.raises(
        FatalError, match=r"the tables there do not go with policy chatwoot-single: .*snoozed"
    ) as caught:
        Store.open(f"sqlite:///{database}", presets.ALL["chatwoot-single"])

    advice = "open, pending, snoozed); give policy chatwoot-single a --database of its own"
    assert caught.value.message.endswith(advice)
    assert "StatusScheme(" not in caught.value.message
    assert len(tickets(database)) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "--database is no URL of a database, such as sqlite:///tickets.sqlite3"),
        ("", "--database is no URL"),
        ("postgresql://host:port/x", "--database is no URL"),
        (
            "postgres://anna:secret@host/x",
            "postgres://anna:***@host/x: write postgresql+psycopg://...",
        ),
        (
            "oracle://anna:secret@host/x",
            "oracle://anna:***@host/x: oracle is not supported: SQLite, PostgreSQL or MariaDB",
        ),
        ("mssql+aioodbc://host/x", "mssql is not supported: SQLite, PostgreSQL or MariaDB"),
        ("postgresql+nobody://host/x", "no such database or driver, 'postgresql+nobody'"),
        ("sqlite+aiosqlite:///x.sqlite3", "sqlite+aiosqlite is an asynchronous driver; use sqlite"),
        ("postgresql+asyncpg://h/x", "postgresql+asyncpg is an asynchronous driver; use postgresql+psycopg"),
        ("mysql+aiomysql://h/x", "mysql+aiomysql is an asynchronous driver; use mariadb+pymysql"),
        (
            "sqlite:////no/such/folder/x.sqlite3",
            "sqlite:////no/such/folder/x.sqlite3: unable to open database file",
        ),
    ],
)
def test_a_database_that_cannot_be_had_is_said_in_one_line(url, said):
    """The line names the database without its password, and what is wrong."""
    with pytest.raises(FatalError) as caught:
        Store.open(url, presets.ALL["default"])

    assert said in caught.value.message
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_an_asynchronous_driver_is_refused_before_it_is_looked_for(driver, monkeypatch):
    """Nobody is told to install what would be refused."""
    for module_name in ("asyncpg", "psycopg"):
        monkeypatch.setitem(sys.modules, module_name, None)

    with pytest.raises(FatalError, match=r"use postgresql\+psycopg$"):
        Store.open(f"postgresql+{driver}://host/x", presets.ALL["default"])


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("postgresql", 'use postgresql+psycopg://... and pip install "ticketrouter[psycopg]"'),
        ("mysql", 'use mariadb+pymysql://... and pip install "ticketrouter[pymysql]"'),
        ("mariadb", 'use mariadb+pymysql://... and pip install "ticketrouter[pymysql]"'),
    ],
)
def test_a_url_without_a_driver_is_told_its_driver(backend, said, monkeypatch):
    """Where SQLAlchemy's own choice of a driver is not installed, the line says which URL and extra to use."""
    for driver in ("psycopg2", "psycopg", "MySQLdb"):
        monkeypatch.setitem(sys.modules, driver, None)

    with pytest.raises(FatalError) as caught:
        Store.open(f"{backend}://anna:secret@host/x", presets.ALL["default"])

    assert caught.value.message == f"{backend}://anna:***@host/x: {said}"


@pytest.mark.parametrize("create", [True, False])
def test_a_table_of_somebody_else_is_left_alone(create, database):
    """A table that has our name but not our columns is refused at once, and nothing is made beside it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE ticketrouter_tickets (id INTEGER, company_id TEXT, title TEXT)")

    with pytest.raises(FatalError) as caught:
        Store.open(f"sqlite:///{database}", presets.ALL["default"], create=create)

    said = "the table ticketrouter_tickets is not ours: it has no column contact_id; use another --database"
    assert caught.value.message == f"sqlite:///{database}: {said}"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("ticketrouter_tickets",)]


def test_a_driver_that_cannot_be_loaded_is_said(monkeypatch):
    """A driver that is there but fails on import, as psycopg without libpq, is one line."""

    def broken(*_: Any) -> Any:
        raise ImportError("no pq wrapper available.\nAttempts made:")

    monkeypatch.setattr(engines, "create_engine", broken)

    with pytest.raises(FatalError) as caught:
        Store.open("postgresql+psycopg://host/x", presets.ALL["default"])

    assert caught.value.message == ("postgresql+psycopg://host/x: no pq wrapper available. Attempts made:")


def test_a_missing_driver_is_said(monkeypatch):
    """The line says what to install."""
    monkeypatch.setitem(sys.modules, "pymysql", None)

    with pytest.raises(FatalError) as caught:
        Store.open("mysql+pymysql://anna:secret@host/x", presets.ALL["default"])

    said = 'its driver is not installed: pip install "ticketrouter[pymysql]"'
    assert caught.value.message == f"mysql+pymysql://anna:***@host/x: {said}"


def test_a_file_that_is_no_database_is_said(tmp_path):
    """A file of another kind is left as it is."""
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to be taken for one\n" * 100)

    with pytest.raises(FatalError, match="file is not a database"):
        Store.open(f"sqlite:///{other}", presets.ALL["default"])

    assert other.read_text().startswith("not a database")
