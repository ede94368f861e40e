"""Hosts' tables that keep no time of the last change, and of which a message may move nothing at all.

Law of this file: as of `backends`: the ways around the repository use none of the library's statements, and turn what
is stored into tickets by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, select, text

from tests.support.backends import Backend, Databases, SqlStore
from tests.support.words import WORDS
from ticketrouter import StatusScheme, Ticket, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.health.ddl import missing_steps
from ticketrouter.sqlalchemy.types import IdText, UtcDateTime
from ticketrouter.testing import Store
from ticketrouter.testing.hosts_ids import FIELDS, KeptTicket

BARE, COUNTED = "nothing moves", "the count moves"
_OTHERS: dict[str, tuple[str, ...]] = {
    BARE: ("is_group", "unread_messages", "user_id", "queue_id", "updated_at", "closed_at"),
    COUNTED: ("updated_at",),
}
"""By kind, the fields without a column."""


def mapping(kind: str, statuses: StatusScheme = WORDS) -> TicketMapping:
    """Map such a table."""
    metadata = MetaData()
    columns: dict[str, Any] = {
        "is_group": Column("is_group", Integer, nullable=False),
        "unread_messages": Column("unread", Integer, nullable=False),
        "user_id": Column("agent", IdText),
        "queue_id": Column("queue", IdText),
        "updated_at": None,
        "closed_at": Column("ended", UtcDateTime),
    }
    there: dict[str, Any] = {
        field: None if field in _OTHERS[kind] else column for field, column in columns.items()
    }
    table = Table(
        "talks",
        metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        *(Column(name, IdText, nullable=False) for name in ("account", "person", "line")),
        Column("state", String(20), nullable=False),
        Column("begun", UtcDateTime, nullable=False),
        *(column for column in there.values() if column is not None),
        sqlite_autoincrement=True,
    )
    return TicketMapping(
        table,
        company_id="account",
        contact_id="person",
        connection_id="line",
        status="state",
        created_at="begun",
        statuses=statuses,
        metadata=metadata,
        **there,
    )


class UntimedStore(SqlStore):
    """A database with such a table."""

    def __init__(
        self,
        backend: Backend,
        databases: Databases,
        kind: str,
        statuses: StatusScheme = WORDS,
        **options: Any,
    ) -> None:
        super().__init__(backend, databases.new(backend.database), mapping(kind, statuses), **options)
        self.lacks = frozenset(_OTHERS[kind])
        self.mapping.metadata.create_all(self.engine)

    def tickets(self) -> list[Ticket]:
        fields = [column.label(field) for field, column in self.mapping.columns.items()]
        with self.engine.begin() as connection:
            rows = connection.execute(select(*fields).order_by("id")).mappings().all()
        return [self._kept(dict(row)) for row in rows]

    def insert(self, ticket: Ticket) -> Ticket:
        last = ticket.closed_at if "closed_at" in self.lacks else None
        ticket = evolve(ticket, created_at=last or ticket.updated_at)
        with self.engine.begin() as connection:
            inserted = connection.execute(self.mapping.table.insert().values(self._row(ticket, without="id")))
        number = inserted.inserted_primary_key[0]  # type: ignore[index]
        return self._kept({field: getattr(ticket, field) for field in FIELDS} | {"id": number})

    def overwrite(self, ticket: Ticket) -> None:
        with self.engine.begin() as connection:
            its_row = self.mapping.columns["id"] == ticket.id
            connection.execute(self.mapping.table.update().where(its_row).values(self._row(ticket)))

    def _row(self, ticket: Ticket, without: str = "") -> dict[str, Any]:
        return {
            column.key: getattr(ticket, field)
            for field, column in self.mapping.columns.items()
            if field != without
        }

    def _kept(self, row: dict[str, Any]) -> Ticket:
        """Return the ticket of a row: what stands in for a time is that of its creation."""
        begun = row["created_at"]
        closed = row["status"] not in self.mapping.statuses.active
        absent: dict[str, Any] = {
            "is_group": False,
            "unread_messages": 0,
            "user_id": None,
            "queue_id": None,
            "updated_at": begun,
            "closed_at": begun if closed else None,
        }
        row |= {field: absent[field] for field in self.lacks}
        return KeptTicket(**row | {"is_group": bool(row["is_group"])}, lacks=self.lacks)


def opening_untimed(
    databases: Databases, backend: Backend, opened: dict[UniqueRule, SqlStore], kind: str
) -> Callable[[UniqueRule], Store]:
    """Return what gives an empty store with such a table under a unique rule, each opened once."""

    def new_store(unique_rule: UniqueRule) -> Store:
        if unique_rule not in opened:
            store = opened[unique_rule] = UntimedStore(backend, databases, kind)
            set_rule(store, unique_rule)
        opened[unique_rule].empty()
        return opened[unique_rule]

    return new_store


def set_rule(store: SqlStore, rule: UniqueRule) -> None:
    """Have the table enforce a rule."""
    columns = {
        UniqueRule.ONE_PER_CONNECTION: "account, person, line",
        UniqueRule.ONE_PER_CONTACT: "account, person",
    }.get(rule)
    with store.engine.begin() as connection:
        if columns is not None:
            connection.execute(text(f"CREATE UNIQUE INDEX uq_key ON talks ({columns})"))
        if rule is UniqueRule.ACTIVE_PER_CONNECTION:
            for step in missing_steps(connection, store.mapping):
                for statement in step.up:
                    connection.execute(text(statement.replace(" CONCURRENTLY", "")))
