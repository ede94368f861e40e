"""The repository is held to the contract, and to the model, by the kit."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from attrs import evolve
from hypothesis import settings

from examples.sqlite3_repository.repository import SCHEMA, SQLite3TicketRepository
from ticketrouter import Ticket, UniqueRule
from ticketrouter.testing import Store, TicketRepositoryContract, TicketRepositoryMachine

COLUMNS = (
    "company_id", "contact_id", "connection_id", "status", "is_group", "unread_messages",
    "user_id", "queue_id", "created_at", "updated_at", "closed_at",
)  # fmt: skip


def as_stored(value: Any) -> Any:
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def as_read(row: sqlite3.Row) -> Ticket:
    times = {
        name: row[name] and datetime.fromisoformat(row[name])
        for name in row.keys()  # noqa: SIM118 - a Row has no other names
        if name.endswith("_at")
    }
    ids = {name: UUID(bytes=value) for name, value in dict(row).items() if isinstance(value, bytes)}
    return Ticket(**(dict(row) | ids | times | {"is_group": bool(row["is_group"])}))


class SQLite3Store(Store):
    """A file of its own for each test."""

    concurrent = (
        True  # several threads may begin a transaction; with BEGIN IMMEDIATE all but one of them wait
    )

    def __init__(self) -> None:
        self._directory = TemporaryDirectory()
        with closing(self._connect()) as connection:
            connection.executescript(SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            Path(self._directory.name) / "tickets.db", timeout=30, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")  # a test survives no crash of the machine
        return connection

    @contextmanager
    def transaction(self) -> Iterator[SQLite3TicketRepository]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield SQLite3TicketRepository(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def tickets(self) -> list[Ticket]:
        with closing(self._connect()) as connection:
            return [as_read(row) for row in connection.execute("SELECT * FROM tickets ORDER BY id")]

    def insert(self, ticket: Ticket) -> Ticket:
        marks = ", ".join("?" * len(COLUMNS))
        values = [as_stored(getattr(ticket, name)) for name in COLUMNS]
        with closing(self._connect()) as connection:
            sql = f"INSERT INTO tickets ({', '.join(COLUMNS)}) VALUES ({marks})"
            return evolve(ticket, id=connection.execute(sql, values).lastrowid or 0)

    def overwrite(self, ticket: Ticket) -> None:
        changes = ", ".join(f"{name} = ?" for name in COLUMNS)
        values = [as_stored(getattr(ticket, name)) for name in COLUMNS]
        with closing(self._connect()) as connection:
            connection.execute(f"UPDATE tickets SET {changes} WHERE id = ?", [*values, ticket.id])

    def close(self) -> None:
        self._directory.cleanup()


class TestContract(TicketRepositoryContract):
    def new_store(self) -> Store:
        return SQLite3Store()


class Machine(TicketRepositoryMachine):
    def new_store(self, unique_rule: UniqueRule) -> Store:
        assert unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
        return SQLite3Store()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
