"""A store of a mapped table with a row condition: on every key lie rows that do not exist for its desk.

Law of this file: they are written, and looked at, around the library; after every look at the tickets each of them must be
as it was, byte for byte.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, select, text

from tests.support.backends import Backend, Databases, SqlStore
from ticketrouter import MessageKind, StatusScheme, Ticket, UniqueRule
from ticketrouter.sqlalchemy import KEEP, TicketMapping
from ticketrouter.sqlalchemy import schema as tables
from ticketrouter.testing import samples

WORDS = ("open", "pending", "closed", "rating")
CONTACTS = (*range(1, 6), 50, 77, samples.CONTACT, samples.STRANGER.contact_id)
CONNECTIONS = (1, 2, 3, 10, 11, 12, 13)


def mapping_with_where() -> TicketMapping:
    metadata = MetaData()
    table = tables.own_tickets(metadata, "ticketrouter_", None, StatusScheme(), generated=False)
    table.append_column(Column("deleted_at", Integer))
    for name in ("heard", "last_count", "times"):
        table.append_column(Column(name, Integer))
    return TicketMapping(
        table,
        metadata=metadata,
        where=table.c.deleted_at.is_(None),
        on_message={
            "heard": lambda message, _now: KEEP if message.kind is MessageKind.ECHO else 1,
            "last_count": table.c.unread_messages,
            "times": 1,
        },
    )


def set_rule(connection: Connection, table: str, rule: UniqueRule) -> None:
    """Replace the unique rule by one that leaves out what does not exist for the desk."""
    mariadb = connection.dialect.name in {"mysql", "mariadb"}
    connection.execute(text(f"DROP INDEX uq_{table}_active" + (f" ON {table}" if mariadb else "")))
    over = {
        UniqueRule.ACTIVE_PER_CONNECTION: ["company_id", "contact_id", "connection_id"],
        UniqueRule.ONE_PER_CONNECTION: ["company_id", "contact_id", "connection_id"],
        UniqueRule.ONE_PER_CONTACT: ["company_id", "contact_id"],
    }.get(rule)
    if over is None:
        return
    about = "deleted_at IS NULL"
    if rule is UniqueRule.ACTIVE_PER_CONNECTION:
        about = f"status IN ('open', 'pending') AND {about}"
    if mariadb:
        connection.execute(text(f"ALTER TABLE {table} ADD there SMALLINT AS (IF({about}, 1, NULL)) VIRTUAL"))
        over.insert(2, "there")
    where = "" if mariadb else f" WHERE {about}"
    connection.execute(text(f"CREATE UNIQUE INDEX uq_{table}_there ON {table} ({', '.join(over)}){where}"))


class StoreWithWhere(SqlStore):
    """A store whose table has rows that are left out, on the keys of the kit, in every state."""

    def __init__(self, backend: Backend, databases: Databases, rule: UniqueRule, **options: Any) -> None:
        super().__init__(backend, databases.new(backend.database), mapping_with_where(), **options)
        self.mapping.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            set_rule(connection, self.mapping.table.name, rule)
        self._beside: list[Any] = []
        self.empty()

    def empty(self) -> None:
        super().empty()
        rows = [
            {
                "company_id": company,
                "contact_id": contact,
                "connection_id": at,
                "status": word,
                "is_group": False,
                "unread_messages": 3,
                "created_at": samples.NOW,
                "updated_at": samples.LATER,
                "closed_at": samples.LATER if word == "closed" else None,
                "deleted_at": 1,
            }
            for company, contact, at, word in product((1, 2), CONTACTS, CONNECTIONS, WORDS)
        ]
        with self.engine.begin() as connection:
            connection.execute(self.mapping.table.insert(), rows)
            self._beside = self._left_out(connection)

    def tickets(self) -> list[Ticket]:
        """Read every row that exists, when each of the others is seen to be as it was."""
        self.assert_left_alone()
        table = self.mapping.table
        fields = [column.label(field) for field, column in self.mapping.columns.items()]
        with self.engine.begin() as connection:
            found = select(*fields).where(table.c.deleted_at.is_(None)).order_by(table.c.id)
            return [Ticket(**row) for row in connection.execute(found).mappings()]

    def assert_left_alone(self) -> None:
        with self.engine.begin() as connection:
            assert self._beside == self._left_out(connection)

    def assert_no_leak(self) -> None:
        super().assert_no_leak()
        self.assert_left_alone()

    def _left_out(self, connection: Connection) -> list[Any]:
        table = self.mapping.table
        left_out = select(table).where(table.c.deleted_at.is_not(None)).order_by(table.c.id)
        return [tuple(row) for row in connection.execute(left_out)]
