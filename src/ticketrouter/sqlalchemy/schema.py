"""Our own tables: tickets for hosts that have none, and the companion tables that go with any tickets table.

Law of this file: table definitions only. Nothing is created here; the host does that, by `create_all`, by
Alembic, or from the printed DDL.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Dialect,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    event,
    text,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy.types import BIG_ID, IdText, MessageDigest, UtcDateTime

DEFAULT_PREFIX = "ticketrouter_"


def quoted(word: str) -> str:
    """Write a status word as an SQL literal: for every database that we support, as it has no backslash."""
    return "'" + word.replace("'", "''") + "'"


def own_tickets(
    metadata: MetaData, prefix: str, schema: str | None, statuses: StatusScheme, *, generated: bool
) -> Table:
    """Define a tickets table whose columns are the fields of Ticket.

    Args:
        metadata: where it is defined.
        prefix: what its name begins with.
        schema: the database schema, if not the default one.
        statuses: the words that the unique rule speaks of.
        generated: whether the generated column that MariaDB needs for it is among the columns, as Alembic must
            see it; otherwise `create_all` adds it on MariaDB only.

    Returns:
        The table, with the unique rule ACTIVE_PER_CONNECTION.
    """
    name = f"{prefix}tickets"
    active = f"status IN ({', '.join(quoted(word) for word in sorted(statuses.active))})"
    table = Table(
        name,
        metadata,
        Column("id", BIG_ID, primary_key=True, autoincrement=True),
        Column("company_id", IdText, nullable=False),
        Column("contact_id", IdText, nullable=False),
        Column("connection_id", IdText, nullable=False),
        Column("status", String(255), nullable=False),
        Column("is_group", Boolean, nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", IdText),
        Column("queue_id", IdText),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        Column("closed_at", UtcDateTime),
        schema=schema,
        # An id that was given out is never given out again.
        sqlite_autoincrement=True,
    )
    # Room on the page lets PostgreSQL update a ticket in place, without touching an index: none of them holds
    # unread_messages or updated_at.
    room = _altered(table, "SET (fillfactor = 85)", quote='"')
    event.listen(table, "after_create", room.execute_if(dialect="postgresql"))
    key = (table.c.company_id, table.c.contact_id, table.c.connection_id)
    # What finds the last closed ticket.
    Index(f"ix_{name}_closed", *key, table.c.closed_at)
    if generated:
        table.append_column(Column("active", SmallInteger, Computed(_generated(active), persisted=False)))
        Index(f"uq_{name}_active", *key, table.c.active, unique=True)
        return table
    predicate = text(active.replace(":", r"\:"))
    unique = Index(f"uq_{name}_active", *key, unique=True, postgresql_where=predicate, sqlite_where=predicate)
    unique.ddl_if(callable_=_has_partial_indexes)
    # MariaDB has no partial index: closed rows get a NULL there, which a unique index does not compare.
    index = "`" + f"uq_{name}_active".replace("`", "``") + "`"
    column = (
        f"ADD COLUMN active SMALLINT AS ({_generated(active)}) VIRTUAL, "
        f"ADD UNIQUE INDEX {index} (company_id, contact_id, connection_id, active)"
    )
    by_column = _altered(table, column, quote="`")
    event.listen(table, "after_create", by_column.execute_if(callable_=_has_no_partial_indexes))
    return table


def _altered(table: Table, change: str, *, quote: str) -> DDL:
    """Return what alters a table that has just been made, for a database with such quotes around a name."""
    parts = (part for part in (table.schema, table.name) if part is not None)
    written = ".".join(quote + part.replace(quote, 2 * quote) + quote for part in parts)
    # SQLAlchemy doubles the per cent signs of a name once too often here, and then there is no such table.
    context = {"fullname": written} if "%" in written else {}
    return DDL("ALTER TABLE %(fullname)s " + change.replace("%", "%%"), context=context)  # type: ignore[no-untyped-call]


_MARIADB = ("mysql", "mariadb")


def _generated(active: str) -> str:
    return f"IF({active}, 1, NULL)"


def _has_no_partial_indexes(*_: object, dialect: Dialect, **__: object) -> bool:
    return dialect.name in _MARIADB


def _has_partial_indexes(*_: object, dialect: Dialect, **__: object) -> bool:
    return dialect.name not in _MARIADB


def message_ids_table(
    metadata: MetaData, prefix: str, schema: str | None, types: dict[str, TypeEngine[object]]
) -> Table:
    """Define the companion table that remembers which ticket a message id was given.

    Args:
        metadata: where it is defined.
        prefix: what its name begins with.
        schema: the database schema, if not the default one.
        types: the types of `company_id`, `connection_id` and `ticket_id`, as the tickets have.

    Returns:
        The table, one row per company, connection and message id.
    """
    return Table(
        f"{prefix}message_ids",
        metadata,
        Column("company_id", types["company_id"], primary_key=True, autoincrement=False),
        Column("connection_id", types["connection_id"], primary_key=True, autoincrement=False),
        Column("message_id", MessageDigest, primary_key=True),
        Column("ticket_id", types["ticket_id"], nullable=False),
        Column("routed_at", UtcDateTime, nullable=False, index=True),
        schema=schema,
    )


def anchors_table(
    metadata: MetaData, prefix: str, schema: str | None, types: dict[str, TypeEngine[object]]
) -> Table:
    """Define the companion table whose rows are written before a ticket is made, where the tickets have no unique rule.

    Args:
        metadata: where it is defined.
        prefix: what its name begins with.
        schema: the database schema, if not the default one.
        types: the types of `company_id` and `contact_id`, as the tickets have.

    Returns:
        The table, one row per company and contact.
    """
    return Table(
        f"{prefix}anchors",
        metadata,
        Column("company_id", types["company_id"], primary_key=True, autoincrement=False),
        Column("contact_id", types["contact_id"], primary_key=True, autoincrement=False),
        Column("version", BigInteger, nullable=False),
        schema=schema,
    )
