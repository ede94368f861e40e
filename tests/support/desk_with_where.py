"""A host's table with rows that do not exist for its desk, and its unique indexes.

Law of this file: what is made, written and read here goes around the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from attrs import field, frozen
from sqlalchemy import (
    URL,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    select,
    text,
)
from sqlalchemy.pool import NullPool

from ticketrouter import Policy, StatusScheme, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite

NOON = datetime(2026, 11, 23, 12)  # noqa: DTZ001 - as a column without a zone keeps it
ACTIVE = "status IN ('open', 'pending')"
KEY = ("company_id", "contact_id", "connection_id")

Where = Callable[[Table], Any]


def not_deleted(table: Table) -> Any:
    return table.c.deleted_at.is_(None)


def of_source(source: str) -> Where:
    return lambda table: table.c.source == source


def two_conditions(table: Table) -> Any:
    return not_deleted(table) & (table.c.source == "sms")


@frozen
class Host:
    """A desk's table.

    Args:
        where: its row condition.
        index: what its unique index is about, as SQL; "": all rows; None: it has none.
        over: the columns of the index.
        on_create: as of a mapping.
        statuses: as of a mapping.
    """

    where: Where | None = not_deleted
    index: str | None = None
    over: tuple[str, ...] = KEY
    on_create: Any = field(default=None, hash=False)
    statuses: StatusScheme = field(factory=StatusScheme)

    def mapping(self, where: Where | None = None, **options: Any) -> TicketMapping:
        table = Table(
            "desk",
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("company_id", Integer, nullable=False),
            Column("contact_id", Integer, nullable=False),
            Column("connection_id", Integer, nullable=False),
            Column("status", String(20), nullable=False),
            Column("unread", Integer, nullable=False),
            Column("user_id", Integer),
            Column("queue_id", Integer),
            Column("created_at", DateTime, nullable=False),
            Column("updated_at", DateTime, nullable=False),
            Column("closed_at", DateTime),
            Column("deleted_at", DateTime),
            Column("source", String(20)),
        )
        chosen = where or self.where
        given: dict[str, Any] = {"on_create": self.on_create, "statuses": self.statuses} | options
        return TicketMapping(
            table,
            is_group=None,
            unread_messages="unread",
            where=None if chosen is None else chosen(table),
            **given,
        )

    def add_index(self, connection: Connection) -> None:
        if self.index is None:
            return
        over = ", ".join(self.over)
        if connection.dialect.name in {"mysql", "mariadb"} and self.index:
            connection.execute(text(f"ALTER TABLE desk ADD a INT AS (IF({self.index}, 1, NULL)) VIRTUAL"))
            connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({over}, a)"))
        else:
            about = f" WHERE {self.index}" if self.index else ""
            connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({over}){about}"))


class Desk:
    """A host's tables in a database of their own."""

    def __init__(self, url: URL, host: Host) -> None:
        self.url, self.host = url, host
        self.engine = create_engine(url, poolclass=NullPool)
        if url.get_backend_name() == "sqlite":
            configure_sqlite(self.engine)
        self.mapping = host.mapping()
        self.mapping.table.metadata.create_all(self.engine)
        self.mapping.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            host.add_index(connection)
            if url.get_backend_name() == "postgresql":
                # The rows of the tests have numbers of their own.
                connection.execute(text("ALTER SEQUENCE desk_id_seq RESTART WITH 1000"))

    def insert(self, number: int, key: tuple[Any, Any, Any] = (1, 50, 10), **values: Any) -> None:
        """Insert a row around the library: one that exists for the desk, unless it is said otherwise."""
        row: dict[str, Any] = dict(zip(KEY, key, strict=True))
        row |= {
            "id": number,
            "status": "open",
            "created_at": NOON,
            "updated_at": NOON,
            "source": "sms",
            "unread": 0,
        }
        row |= {"closed_at": NOON if values.get("status") == "closed" else None} | values
        with self.engine.begin() as connection:
            connection.execute(self.mapping.table.insert().values(row))

    def rows(self, *ids: int) -> list[tuple[Any, ...]]:
        """Read the rows of the desk, or some of them."""
        table = self.mapping.table
        look = select(table).order_by(table.c.id)
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(look) if not ids or row.id in ids]

    def everything(self) -> list[Any]:
        """Read every row of the desk and of its message ids."""
        with self.engine.begin() as connection:
            ids = connection.execute(select(self.mapping.message_ids)).all()
        return [self.rows(), sorted(map(str, ids))]

    def empty(self) -> None:
        """Delete every row."""
        with self.engine.begin() as connection:
            for table in (self.mapping.table, *self.mapping.metadata.sorted_tables):
                connection.execute(table.delete())

    @contextmanager
    def router(
        self, policy: Policy | None = None, mapping: TicketMapping | None = None
    ) -> Iterator[TicketRouter]:
        """Yield a router in a transaction of the host's, which goes on, and is committed, after an error."""
        with self.engine.begin() as connection:
            repository = SQLAlchemyTicketRepository(connection, mapping or self.mapping)
            yield TicketRouter(repository, policy or Policy())
            assert connection.execute(text("SELECT 1")).scalar_one() == 1
