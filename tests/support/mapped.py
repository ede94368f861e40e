"""A host's table whose status is a number, whose tickets are never without an owner, and never not closed.

Law of this file: as of `backends`: the ways around the repository use none of the library's statements, and turn what
is stored into tickets by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, SmallInteger, Table, select, text

from tests.support.backends import Backend, Databases, SqlStore
from tests.support.words import WORDS
from ticketrouter import Ticket, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.types import IdText, UtcDateTime
from ticketrouter.testing import Store

NUMBERS = {word: number for number, word in enumerate((*sorted(WORDS.known), "rating"))}
"""What is stored for each word; the scheme does not know the last."""
NOBODY = "nobody"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {number: word for word, number in NUMBERS.items()}


def mapping() -> TicketMapping:
    """Map such a table."""
    metadata = MetaData()
    table = Table(
        "conversations",
        metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        *(Column(name, IdText, nullable=False) for name in ("account_id", "contact_id", "inbox_id")),
        Column("state", SmallInteger, nullable=False),
        Column("is_group", Boolean, nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("owner_id", IdText, nullable=False),
        Column("team_id", IdText, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        Column("closed_at", UtcDateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    return TicketMapping(
        table,
        company_id="account_id",
        connection_id="inbox_id",
        status="state",
        user_id="owner_id",
        queue_id="team_id",
        statuses=WORDS,
        status_values=NUMBERS,
        absent={"user_id": NOBODY, "queue_id": NOBODY, "closed_at": NEVER},
        metadata=metadata,
    )


class MappedStore(SqlStore):
    """A database with such a table."""

    def tickets(self) -> list[Ticket]:
        fields = [column.label(field) for field, column in self.mapping.columns.items()]
        with self.engine.begin() as connection:
            rows = connection.execute(select(*fields).order_by("id")).mappings().all()
        return [Ticket(**_read(dict(row))) for row in rows]

    def insert(self, ticket: Ticket) -> Ticket:
        with self.engine.begin() as connection:
            inserted = connection.execute(self.mapping.table.insert().values(self._row(ticket, without="id")))
            return evolve(ticket, id=inserted.inserted_primary_key[0])  # type: ignore[index]

    def overwrite(self, ticket: Ticket) -> None:
        with self.engine.begin() as connection:
            its_row = self.mapping.columns["id"] == ticket.id
            connection.execute(self.mapping.table.update().where(its_row).values(self._row(ticket)))

    def _row(self, ticket: Ticket, without: str = "") -> dict[str, Any]:
        stored = {
            "status": NUMBERS[ticket.status],
            "user_id": NOBODY if ticket.user_id is None else ticket.user_id,
            "queue_id": NOBODY if ticket.queue_id is None else ticket.queue_id,
            "closed_at": ticket.closed_at or NEVER,
        }
        return {
            column.key: stored.get(field, getattr(ticket, field))
            for field, column in self.mapping.columns.items()
            if field != without
        }


def _read(row: dict[str, Any]) -> dict[str, Any]:
    row["status"] = _WORDS[row["status"]]
    for field, none in (("user_id", NOBODY), ("queue_id", NOBODY), ("closed_at", NEVER)):
        row[field] = None if row[field] == none else row[field]
    return row


def opening_mapped(
    databases: Databases, backend: Backend, opened: dict[UniqueRule, SqlStore]
) -> Callable[[UniqueRule], Store]:
    """Return what gives an empty store with such a table under a unique rule, each opened once."""

    def new_store(unique_rule: UniqueRule) -> Store:
        if unique_rule not in opened:
            store = opened[unique_rule] = MappedStore(backend, databases.new(backend.database), mapping())
            store.mapping.metadata.create_all(store.engine)
            _set_rule(store, unique_rule)
        opened[unique_rule].empty()
        return opened[unique_rule]

    return new_store


def _set_rule(store: SqlStore, rule: UniqueRule) -> None:
    columns = {
        UniqueRule.ONE_PER_CONNECTION: "account_id, contact_id, inbox_id",
        UniqueRule.ONE_PER_CONTACT: "account_id, contact_id",
    }.get(rule)
    with store.engine.begin() as connection:
        if columns is not None:
            connection.execute(text(f"CREATE UNIQUE INDEX uq_key ON conversations ({columns})"))
        if rule is UniqueRule.ACTIVE_PER_CONNECTION:
            for step in missing_steps(connection, store.mapping):
                for statement in step.up:
                    connection.execute(text(statement.replace(" CONCURRENTLY", "")))
