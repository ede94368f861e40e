"""Our own tables: tickets for hosts that have none, and the companion tables that go with any tickets table.

Law of this file: table definitions only. Nothing is created here; the host does that, by `create_all`, by
Alembic, or from the printed DDL.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Connection,
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
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement
from sqlalchemy.types import TypeEngine

from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy.storage import storage_of
from ticketrouter.sqlalchemy.types import BigId, IdText, MessageDigest, UtcDateTime

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
        generated: whether the generated column that a database without partial indexes needs for it is among the
            columns, as Alembic must see it; otherwise `create_all` adds it there, and only there.

    Returns:
        The table, with the unique rule ACTIVE_PER_CONNECTION.
    """
    name = f"{prefix}tickets"
    active = f"status IN ({', '.join(quoted(word) for word in sorted(statuses.active))})"
    table = Table(
        name,
        metadata,
        Column("id", BigId, primary_key=True, autoincrement=True),
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
        info={_OWN: True},
    )
    event.listen(table, "after_create", _alter(active))
    key = (table.c.company_id, table.c.contact_id, table.c.connection_id)
    # What finds the last closed ticket.
    Index(f"ix_{name}_closed", *key, table.c.closed_at)
    if generated:
        table.append_column(Column(ACTIVE, SmallInteger, Computed(generated_from(active), persisted=False)))
        Index(unique_name(table), *key[:2], table.c[ACTIVE], key[2], unique=True)
        return table
    predicate = text(active.replace(":", r"\:"))
    unique = Index(unique_name(table), *key, unique=True, postgresql_where=predicate, sqlite_where=predicate)
    unique.ddl_if(callable_=_has_partial_indexes)
    return table


_OWN = "ticketrouter.own"


def is_own(table: Table) -> bool:
    """Tell whether a tickets table is one of ours."""
    return bool(table.info.get(_OWN))


def _alter(active: str) -> Callable[..., None]:
    def alter(table: Table, connection: Connection, **_: object) -> None:
        for change in storage_of(connection.dialect).after_create(table, active):
            connection.execute(change.against(table))

    return alter


def altered(table: Table, change: str, *, quote: str) -> DDL:
    """Return what alters a table that has just been made, for a database with such quotes around a name."""
    parts = (part for part in (table.schema, table.name) if part is not None)
    written = ".".join(quote + part.replace(quote, 2 * quote) + quote for part in parts)
    # SQLAlchemy doubles the per cent signs of a name once too often here, and then there is no such table.
    context = {"fullname": written} if "%" in written else {}
    return DDL("ALTER TABLE %(fullname)s " + change.replace("%", "%%"), context=context)  # type: ignore[no-untyped-call]


ACTIVE = "active"
"""The generated column that stands for the unique rule where a database has no partial indexes."""


def generated_from(active: str) -> str:
    """Return what that column is: NULL in closed rows, which a unique index does not compare."""
    return f"IF({active}, 1, NULL)"


def unique_name(table: Table) -> str:
    """Return the name of the index that is the unique rule of our tickets table."""
    return f"uq_{table.name}_active"


def _has_partial_indexes(*_: object, dialect: Dialect, **__: object) -> bool:
    return storage_of(dialect).has_partial_indexes


def message_ids_table(
    metadata: MetaData, prefix: str, tickets: Table, types: dict[str, TypeEngine[object]]
) -> Table:
    """Define the companion table that remembers which ticket a message id was given.

    Args:
        metadata: where it is defined.
        prefix: what its name begins with.
        tickets: the tickets, beside which it stands.
        types: the types of `company_id`, `connection_id` and `ticket_id`, as the tickets have.

    Returns:
        The table, one row per company, connection and message id.
    """
    return _shared(
        f"{prefix}message_ids",
        metadata,
        tickets,
        Column("company_id", types["company_id"], primary_key=True, autoincrement=False),
        Column("connection_id", types["connection_id"], primary_key=True, autoincrement=False),
        Column("message_id", MessageDigest, primary_key=True),
        Column("ticket_id", types["ticket_id"], nullable=False),
        Column("routed_at", UtcDateTime, nullable=False, index=True),
    )


def anchors_table(metadata: MetaData, tickets: Table, types: dict[str, TypeEngine[object]]) -> Table:
    """Define the companion table whose rows are written before a ticket is made, where the tickets have no unique rule.

    Args:
        metadata: where it is defined.
        tickets: the tickets, after which it is named: nobody chooses, so that all who guard them meet in one table.
        types: the types of `company_id` and `contact_id`, as the tickets have.

    Returns:
        The table, one row per company and contact.
    """
    return _shared(
        anchors_name(tickets.name),
        metadata,
        tickets,
        Column("company_id", types["company_id"], primary_key=True, autoincrement=False),
        Column("contact_id", types["contact_id"], primary_key=True, autoincrement=False),
        Column("version", BigInteger, nullable=False),
    )


def _shared(name: str, metadata: MetaData, tickets: Table, *columns: Column[Any]) -> Table:
    """Return the companion table of this name, made here or by another mapping over the same MetaData."""
    schema = tickets.schema or metadata.schema
    made = Table(name, MetaData(), *columns, schema=schema, **_as_texts_in(tickets))
    there = metadata.tables.get(made.key)
    if there is None:
        return made.to_metadata(metadata)
    if _shape(there) != _shape(made):
        raise OtherTableError(made.fullname)
    return there


def _as_texts_in(tickets: Table) -> dict[str, Any]:
    """Return the options that say how a table compares texts: else its ids could not be compared with the tickets'."""
    said = {"charset", "default charset", "default_charset", "collate", "default collate", "default_collate"}
    return {name: value for name, value in tickets.kwargs.items() if name.partition("_")[2] in said}


class OtherTableError(Exception):
    """The MetaData has a table of a companion's name, given here, that is another one."""


def _shape(table: Table) -> list[tuple[str, str, bool, bool]]:
    return [(each.name, repr(each.type), each.primary_key, bool(each.nullable)) for each in table.columns]


ANCHORS_SUFFIX = "_anchors"
_LONGEST_NAME = 63
"""How many bytes PostgreSQL keeps of a name; the others keep as many, or more."""
_DIGITS = 12


def anchors_name(tickets: str) -> str:
    """Return the name of the anchors table of a tickets table."""
    name = tickets + ANCHORS_SUFFIX
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    mark = sha256(tickets.encode()).hexdigest()[:_DIGITS]
    kept = tickets.encode()[: _LONGEST_NAME - len(ANCHORS_SUFFIX) - len(mark) - 1].decode(errors="ignore")
    return f"{kept}_{mark}{ANCHORS_SUFFIX}"


def printed(table: Table, dialect: Dialect, schema: str | None) -> str:
    """Return the statements that create a table in a schema of a database."""
    there = table.to_metadata(MetaData(), schema=schema)  # type: ignore[arg-type]
    made: list[ExecutableDDLElement] = [CreateTable(there)]
    made += [CreateIndex(index) for index in sorted(there.indexes, key=_index_name)]
    return "\n".join(f"{str(each.compile(dialect=dialect)).strip()};" for each in made)


def _index_name(index: Index) -> str:
    return str(index.name)
