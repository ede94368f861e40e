"""Tables of hosts with foreign keys: a desk's with integers, one with UUIDs, a Whaticket, and one that keeps the least.

Law of this file: a table is as a desk's own is; its mapping, and what makes the parents of a row, are as its host would
write them.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from attrs import field, frozen
from sqlalchemy import (
    Boolean,
    Column,
    Computed,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    create_engine,
    event,
    literal_column,
    text,
)
from sqlalchemy.dialects.mysql import DATETIME

from tests.support.backends import Databases
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping, configure_sqlite
from ticketrouter.testing.sqlalchemy import Maker, MappedStore, row_of


@frozen
class Host:
    """A host: what its table enforces, how it is mapped, and what makes the parents of a ticket.

    Args:
        mapping: the mapping; its MetaData has the host's tables, too.
        rule: what the table enforces.
        makers: what makes a row of each parent, by field.
        options: the other options of the store.
    """

    mapping: TicketMapping
    rule: UniqueRule
    makers: dict[str, Maker]
    options: dict[str, Any] = field(factory=dict)

    def store(self, engine: Engine, **options: Any) -> MappedStore:
        """Return the kit's store over the tables, which are there."""
        chosen: dict[str, Any] = {**self.makers, **self.options, **options}
        return MappedStore(engine, self.mapping, **chosen)


def conversations() -> Host:
    """A table as Chatwoot's is: integers, parents that must be there, no count, no group, no time of closing."""
    metadata = MetaData()
    account = Table("accounts", metadata, _number(), Column("name", String(50), nullable=False))
    inbox = Table("inboxes", metadata, _number(), Column("name", String(50), nullable=False))
    contact = Table("contacts", metadata, _number(), Column("name", String(50), nullable=False))
    user = Table("users", metadata, _number(), Column("email", String(50), nullable=False, unique=True))
    table = Table(
        "conversations",
        metadata,
        _number(),
        Column("account_id", ForeignKey(account.c.id), nullable=False),
        Column("inbox_id", ForeignKey(inbox.c.id), nullable=False),
        Column("contact_id", ForeignKey(contact.c.id), nullable=False),
        Column("assignee_id", ForeignKey(user.c.id)),
        Column("status", Integer, nullable=False),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("uuid", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
        Column("display_id", Integer, nullable=False),
        Column("last_activity_at", DateTime, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
    )
    numbers = count(1)
    mapping = TicketMapping(
        table,
        company_id="account_id",
        connection_id="inbox_id",
        user_id="assignee_id",
        queue_id=None,
        is_group=None,
        unread_messages=None,
        closed_at=None,
        statuses=StatusScheme(
            active={"open", "pending", "snoozed"},
            initial="open",
            reopened="open",
            closed="resolved",
            wakes={"snoozed": "open"},
        ),
        status_values={"open": 0, "resolved": 1, "pending": 2, "snoozed": 3},
        on_create=lambda _: {"display_id": next(numbers)},
        metadata=metadata,
    )
    makers = {
        "company_id": row_of(account, name="account {}"),
        "connection_id": row_of(inbox, name="inbox {}"),
        "contact_id": row_of(contact, name="contact {}"),
        "user_id": row_of(user, email="agent{}@example.org"),
    }
    return Host(mapping, UniqueRule.NONE, makers)


def rooms(*, in_order: bool = True) -> Host:
    """A table as Weni's is: UUIDs, an agent who goes by an address, and one active room of a contact in a sector.

    Args:
        in_order: whether the id of a later room is higher.
    """
    metadata = MetaData()
    project = Table("projects", metadata, _uuid(), Column("name", String(50), nullable=False))
    sector = Table("sectors", metadata, _uuid(), Column("name", String(50), nullable=False))
    contact = Table("contacts", metadata, _uuid(), Column("external_id", String(50), unique=True))
    queue = Table("queues", metadata, _uuid(), Column("name", String(50), nullable=False, unique=True))
    user = Table("users", metadata, Column("email", String(254), primary_key=True))
    table = Table(
        "rooms",
        metadata,
        Column("uuid", Uuid, primary_key=True, default=later_uuid if in_order else uuid4),
        Column("project_id", ForeignKey(project.c.uuid), nullable=False),
        Column("sector_id", ForeignKey(sector.c.uuid), nullable=False),
        Column("contact_id", ForeignKey(contact.c.uuid), nullable=False),
        Column("queue_id", ForeignKey(queue.c.uuid)),
        Column("user_id", ForeignKey(user.c.email)),
        Column("state", String(20), nullable=False),
        Column("is_group", Boolean, nullable=False),
        Column("unread_messages_count", Integer, nullable=False),
        Column("created_on", DateTime(timezone=True), nullable=False),
        Column("modified_on", DateTime(timezone=True), nullable=False),
        Column("ended_at", DateTime(timezone=True)),
        Column("is_inactive", Boolean, nullable=False),
    )
    active = text("state IN ('open', 'pending')")
    key = (table.c.project_id, table.c.contact_id, table.c.sector_id)
    Index("one_active_room", *key, unique=True, postgresql_where=active, sqlite_where=active)
    mapping = TicketMapping(
        table,
        id="uuid",
        company_id="project_id",
        connection_id="sector_id",
        status="state",
        unread_messages="unread_messages_count",
        created_at="created_on",
        updated_at="modified_on",
        closed_at="ended_at",
        on_create={"is_inactive": False},
        metadata=metadata,
    )
    makers = {
        "company_id": row_of(project, name="project {}"),
        "connection_id": row_of(sector, name="sector {}"),
        "contact_id": row_of(contact, external_id="x{}"),
        "queue_id": row_of(queue, name="queue {}"),
        "user_id": row_of(user, email="agent{}@example.org"),
    }
    return Host(mapping, UniqueRule.ACTIVE_PER_CONNECTION, makers, {"ids_ascend": in_order})


def random_rooms() -> Host:
    """The same with random UUIDs, as most hosts make them."""
    return rooms(in_order=False)


def whaticket() -> Host:
    """A table as the community's Whaticket has: one company, a contact and a connection that may be gone."""
    metadata = MetaData()
    contact = Table(
        "Contacts", metadata, _number(), Column("number", String(50), nullable=False, unique=True)
    )
    whatsapp = Table(
        "Whatsapps", metadata, _number(), Column("name", String(50), nullable=False, unique=True)
    )
    queue = Table("Queues", metadata, _number(), Column("name", String(50), nullable=False, unique=True))
    user = Table("Users", metadata, _number(), Column("email", String(50), nullable=False, unique=True))
    moment = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    table = Table(
        "Tickets",
        metadata,
        _number(),
        Column("status", String(255), nullable=False, server_default="pending"),
        Column("lastMessage", String(500)),
        Column("contactId", ForeignKey(contact.c.id, ondelete="CASCADE")),
        Column("userId", ForeignKey(user.c.id, ondelete="SET NULL")),
        Column("whatsappId", ForeignKey(whatsapp.c.id, ondelete="SET NULL")),
        Column("queueId", ForeignKey(queue.c.id, ondelete="SET NULL")),
        Column("createdAt", moment, nullable=False),
        Column("updatedAt", moment, nullable=False),
        Column("isGroup", Boolean, nullable=False, server_default=text("0")),
        Column("unreadMessages", Integer),
    )
    makers = {
        "connection_id": row_of(whatsapp, name="whatsapp {}"),
        "contact_id": row_of(contact, number="55{}"),
        "queue_id": row_of(queue, name="queue {}"),
        "user_id": row_of(user, email="agent{}@example.org"),
    }
    return Host(TicketMapping.whaticket(table, metadata=metadata), UniqueRule.NONE, makers)


THREADS: dict[str, Any] = {
    "company_id": None,
    "only_company": "acme",
    "contact_id": "person",
    "connection_id": "line",
    "status": "state",
    "is_group": None,
    "unread_messages": None,
    "user_id": None,
    "queue_id": None,
    "created_at": None,
    "updated_at": "touched",
    "closed_at": None,
}
"""How the table of threads is mapped."""


def threads() -> Host:
    """A table that keeps nothing but what it must."""
    metadata = MetaData()
    person = Table("people", metadata, _number())
    line = Table("lines", metadata, _number())
    table = Table(
        "threads",
        metadata,
        _number(),
        Column("person", ForeignKey(person.c.id), nullable=False),
        Column("line", ForeignKey(line.c.id), nullable=False),
        Column("state", String(20), nullable=False),
        Column("touched", DateTime, nullable=False),
    )
    mapping = TicketMapping(table, **THREADS, metadata=metadata)
    return Host(mapping, UniqueRule.NONE, {"contact_id": row_of(person), "connection_id": row_of(line)})


def talks(*, counts: bool = False, ruled: bool = False) -> Host:
    """A table as modmailbot's is: a message moves nothing in it, and it knows no time but that of its creation.

    Args:
        counts: whether it has a count of unread messages, a time of closing, an agent and a company all the same.
        ruled: whether one talk of a person may be active, as an index over a part of the rows has it.
    """
    metadata = MetaData()
    team = Table("teams", metadata, _number())
    person = Table("people", metadata, _number())
    line = Table("lines", metadata, _number())
    user = Table("users", metadata, _number())
    moment = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    more: dict[str, Any] = {
        "company_id": Column("team", ForeignKey(team.c.id), nullable=False),
        "user_id": Column("agent", ForeignKey(user.c.id)),
        "unread_messages": Column("unread", Integer, nullable=False),
        "closed_at": Column("ended", moment),
    }
    table = Table(
        "talks",
        metadata,
        _number(),
        Column("person", ForeignKey(person.c.id), nullable=False),
        Column("line", ForeignKey(line.c.id), nullable=False),
        Column("state", Integer, nullable=False),
        Column("begun", moment, nullable=False),
        *(more.values() if counts else ()),
    )
    if ruled:
        active = text("state IN (1, 2)")
        key = [table.c[name] for name in ("team", "person", "line") if name in table.c]
        Index("one_talk", *key, unique=True, postgresql_where=active, sqlite_where=active)
    mapping = TicketMapping(
        table,
        contact_id="person",
        connection_id="line",
        status="state",
        is_group=None,
        queue_id=None,
        created_at="begun",
        updated_at=None,
        only_company=None if counts else 7,
        status_values={"pending": 1, "open": 2, "closed": 3},
        **(more if counts else dict[str, Any].fromkeys(more)),
        metadata=metadata,
    )
    makers = {"contact_id": row_of(person), "connection_id": row_of(line)}
    parents = {"company_id": row_of(team), "user_id": row_of(user)}
    rule = UniqueRule.ACTIVE_PER_CONNECTION if ruled else UniqueRule.NONE
    return Host(mapping, rule, makers | (parents if counts else {}))


def counted_talks() -> Host:
    """The same with a count, a time of closing, an agent and a company: what it lacks is the time of the last change."""
    return talks(counts=True)


def ruled_talks() -> Host:
    """The barest of them with the rule of one active talk."""
    return talks(ruled=True)


def counted_ruled_talks() -> Host:
    """The fullest of them with it."""
    return talks(counts=True, ruled=True)


def letters(*, ruled: bool = True) -> Host:
    """A desk of one address: no table has a column for the connection.

    Args:
        ruled: whether a contact of a company has one active ticket, as an index says.
    """
    metadata = MetaData()
    tenant = Table("tenants", metadata, _number())
    person = Table("people", metadata, _number())
    clerk = Table("clerks", metadata, _number())
    table = Table(
        "letters",
        metadata,
        _number(),
        Column("tenant", ForeignKey(tenant.c.id), nullable=False),
        Column("person", ForeignKey(person.c.id), nullable=False),
        Column("clerk", ForeignKey(clerk.c.id)),
        Column("state", String(20), nullable=False),
        Column("unread", Integer, nullable=False),
        Column("touched", DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb"), nullable=False),
    )
    if ruled:
        active = table.c.state.in_([literal_column("'open'"), literal_column("'pending'")])
        Index(
            "one_letter",
            table.c.tenant,
            table.c.person,
            unique=True,
            postgresql_where=active,
            sqlite_where=active,
        )
    mapping = TicketMapping(
        table,
        company_id="tenant",
        contact_id="person",
        connection_id=None,
        only_connection=1,
        user_id="clerk",
        status="state",
        unread_messages="unread",
        updated_at="touched",
        is_group=None,
        queue_id=None,
        created_at=None,
        closed_at=None,
        metadata=metadata,
    )
    fields = {"company_id": tenant, "contact_id": person, "user_id": clerk}
    makers = {part: row_of(parent) for part, parent in fields.items()}
    return Host(mapping, UniqueRule.ACTIVE_PER_CONNECTION if ruled else UniqueRule.NONE, makers)


def unruled_letters() -> Host:
    """The same without a rule."""
    return letters(ruled=False)


def runs(*, computed: bool = False) -> Host:
    """A table as Glific's is, without a status: what runs has no time of its end.

    Args:
        computed: whether its rule is over a generated column, as on MariaDB, instead of some of the rows.
    """
    metadata = MetaData()
    organization = Table("organizations", metadata, _number())
    contact = Table("contacts", metadata, _number())
    flow = Table("flows", metadata, _number())
    user = Table("users", metadata, _number())
    moment = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    table = Table(
        "runs",
        metadata,
        _number(),
        Column("organization_id", ForeignKey(organization.c.id), nullable=False),
        Column("contact_id", ForeignKey(contact.c.id), nullable=False),
        Column("flow_id", ForeignKey(flow.c.id), nullable=False),
        Column("user_id", ForeignKey(user.c.id)),
        Column("unread", Integer, nullable=False),
        Column("inserted_at", moment, nullable=False),
        Column("updated_at", moment, nullable=False),
        Column("completed_at", moment),
        Column("status", String(20), server_default="published"),
    )
    key = [table.c.organization_id, table.c.contact_id, table.c.flow_id]
    if computed:
        table.append_column(Column("running", Integer, Computed("IF(completed_at IS NULL, 1, NULL)")))
        Index("one_run", *key, table.c.running, unique=True)
    else:
        running = table.c.completed_at.is_(None)
        Index("one_run", *key, unique=True, postgresql_where=running, sqlite_where=running)
    mapping = TicketMapping(
        table,
        company_id="organization_id",
        connection_id="flow_id",
        status=None,
        is_group=None,
        unread_messages="unread",
        queue_id=None,
        created_at="inserted_at",
        closed_at="completed_at",
        statuses=StatusScheme(active={"open"}, initial="open", reopened="open", accepted="open"),
        metadata=metadata,
    )
    parents = (organization, contact, flow, user)
    fields = ("company_id", "contact_id", "connection_id", "user_id")
    makers = {part: row_of(parent) for part, parent in zip(fields, parents, strict=True)}
    return Host(mapping, UniqueRule.ACTIVE_PER_CONNECTION, makers)


def computed_runs() -> Host:
    """The same with the rule that MariaDB can have."""
    return runs(computed=True)


@contextmanager
def opened(databases: Databases, database: str, host: Host) -> Generator[Engine]:
    """Make the tables of a host in a database of its own, where foreign keys are kept."""
    url = databases.new(database)
    engine = create_engine(url)
    if database == "sqlite":
        configure_sqlite(engine)
        event.listen(engine, "connect", _keep_foreign_keys)
    try:
        host.mapping.metadata.create_all(engine)
        yield engine
    finally:
        engine.dispose()
        databases.drop(url)


def _keep_foreign_keys(driven: Any, _: object) -> None:
    driven.execute("PRAGMA foreign_keys = ON")


def _number() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _uuid() -> Column[UUID]:
    return Column("uuid", Uuid, primary_key=True, default=uuid4)


_LATER = count(time.time_ns())


def later_uuid() -> UUID:
    """Return a UUID that is higher than the one before it."""
    return UUID(int=next(_LATER) << 56)
