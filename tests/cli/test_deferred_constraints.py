"""A foreign key that is looked at when a transaction ends: the line is bad whose row it refuses, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.support.backends import Databases
from tests.support.program import lines, ticketrouter

TABLES = """
    CREATE TABLE people (id INTEGER PRIMARY KEY);
    CREATE TABLE rooms (
        id SERIAL PRIMARY KEY, contact_id INTEGER NOT NULL REFERENCES people (id) DEFERRABLE INITIALLY DEFERRED,
        connection_id INTEGER NOT NULL, status VARCHAR(20) NOT NULL, updated_at TIMESTAMP NOT NULL
    );
    CREATE UNIQUE INDEX one ON rooms (contact_id, connection_id) WHERE status IN ('open', 'pending');
    INSERT INTO people VALUES (5), (6)
"""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    found = databases.new("postgresql")
    engine = create_engine(found)
    with engine.begin() as connection:
        for statement in TABLES.split(";"):
            connection.execute(text(statement))
    engine.dispose()
    yield found.render_as_string(hide_password=False)
    databases.drop(found)


@pytest.mark.parametrize("batch", ["1", "3"])
def test_a_row_that_the_commit_refuses_is_a_bad_line(url: str, tmp_path: Path, batch: str) -> None:
    """The lines beside it are routed, in a batch too, and the run goes on."""
    options = ("--table", "rooms", "--only-company", "1", "--ignore-message-ids", "--output", "json")
    stream = lines([{"company_id": 1, "contact_id": each, "connection_id": 10} for each in (5, 99, 6, 5)])

    done = ticketrouter("route", "--database", url, *options, "--batch", batch, stdin=stream, cwd=tmp_path)

    assert (done.status, done.outcomes) == (1, ["created", "created", "reused"]), done.err
    assert "<stdin>:2: " in done.err
    assert "the database refused a statement" in done.err
