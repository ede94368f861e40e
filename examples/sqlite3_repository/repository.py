"""Tickets in SQLite by the module sqlite3 alone: how-to/write-a-repository.md goes through this file step by step."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from ticketrouter import ConflictError, ContentionError, Id, Scope, Snapshot, StatusScheme, Ticket, UniqueRule
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Transfer,
    Write,
)
from ticketrouter.repository import as_utc

SCHEMA = """
CREATE TABLE IF NOT EXISTS tickets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    company_id NOT NULL, contact_id NOT NULL, connection_id NOT NULL,
    status TEXT NOT NULL, is_group INTEGER NOT NULL, unread_messages INTEGER NOT NULL,
    user_id, queue_id,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, closed_at TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active_ticket
    ON tickets (company_id, contact_id, connection_id) WHERE status IN ('open', 'pending');
CREATE TABLE IF NOT EXISTS routed_messages (
    company_id NOT NULL, connection_id NOT NULL, message_id NOT NULL,
    ticket_id INTEGER NOT NULL, routed_at TEXT NOT NULL,
    PRIMARY KEY (company_id, connection_id, message_id)
);
"""

IS_ACTIVE = "status IN ('open', 'pending')"
OF_CONTACT = "company_id = :company_id AND contact_id = :contact_id"
ON_KEY = f"{OF_CONTACT} AND connection_id = :connection_id"

sqlite3.register_adapter(UUID, lambda value: value.bytes)


def ticket_of(row: sqlite3.Row) -> Ticket:
    """Return the ticket that a row says."""
    values: dict[str, Any] = dict(row)
    values |= {name: UUID(bytes=value) for name, value in values.items() if isinstance(value, bytes)}
    for name in ("created_at", "updated_at", "closed_at"):
        values[name] = values[name] and datetime.fromisoformat(values[name])
    values["is_group"] = bool(values["is_group"])
    if values["status"] not in {"open", "pending"}:  # a host may have closed it by its status alone
        values["closed_at"] = values["closed_at"] or values["updated_at"]
    return Ticket(**values)


def text_of(moment: datetime) -> str:
    """Return a time as it is stored: in text order the oldest comes first."""
    return as_utc("moment", moment).isoformat(timespec="microseconds")


def select(connection: sqlite3.Connection, where: str, values: dict[str, Any]) -> list[Ticket]:
    """Find tickets."""
    rows = connection.execute(f"SELECT tickets.* FROM tickets {where}", values)
    return [ticket_of(row) for row in rows]


def find(connection: sqlite3.Connection, lookup: Lookup) -> Snapshot:
    """Find what must be known to decide: R1."""
    values = {
        "company_id": lookup.company_id,
        "contact_id": lookup.contact_id,
        "connection_id": lookup.connection_id,
        "message_id": lookup.message_id,
    }
    active = select(connection, f"WHERE {OF_CONTACT} AND {IS_ACTIVE}", values)
    scope = OF_CONTACT if lookup.scope is Scope.CONTACT else ON_KEY
    last = "ORDER BY coalesce(closed_at, updated_at) DESC, id DESC LIMIT 1"
    closed = (
        select(connection, f"WHERE {scope} AND status = 'closed' {last}", values) if lookup.closed else []
    )
    routed = select(
        connection,
        "JOIN routed_messages m ON m.ticket_id = tickets.id AND m.company_id = tickets.company_id "
        "WHERE m.company_id = :company_id AND m.connection_id = :connection_id AND m.message_id = :message_id",
        values,
    )
    return Snapshot(
        active=active,
        latest_closed=next(iter(closed), None),
        routed=next(iter(routed), None),
        unique_rule=UniqueRule.ACTIVE_PER_CONNECTION,
    )


def create(connection: sqlite3.Connection, decision: Create, status: str) -> Ticket:
    """Create a ticket on a free key: R2."""
    rows = connection.execute(
        "INSERT INTO tickets (company_id, contact_id, connection_id, status, is_group, unread_messages,"
        " user_id, queue_id, created_at, updated_at)"
        " VALUES (:company_id, :contact_id, :connection_id, :status, :is_group, :unread_messages,"
        " :user_id, :queue_id, :at, :at)"
        f" ON CONFLICT (company_id, contact_id, connection_id) WHERE {IS_ACTIVE} DO NOTHING RETURNING *",
        {
            "company_id": decision.key.company_id,
            "contact_id": decision.key.contact_id,
            "connection_id": decision.key.connection_id,
            "status": status,
            "is_group": decision.is_group,
            "unread_messages": decision.unread_messages,
            "user_id": decision.user_id,
            "queue_id": decision.queue_id,
            "at": text_of(decision.at),
        },
    ).fetchall()
    if not rows:
        raise ConflictError("the key was taken meanwhile")
    return ticket_of(rows[0])


def change(
    connection: sqlite3.Connection, seen: Ticket, at: datetime, changes: str, still: str, **values: Any
) -> Ticket:
    """Change a ticket of this company, only while it still is as it was seen: R3, R4, R9."""
    values |= {
        "id": seen.id,
        "company_id": seen.company_id,
        "contact_id": seen.contact_id,
        "connection_id": seen.connection_id,
        "at": text_of(at),
    }
    sql = (
        f"UPDATE tickets SET {changes}, updated_at = :at WHERE id = :id AND {ON_KEY} AND {still} RETURNING *"
    )
    try:
        rows = connection.execute(sql, values).fetchall()
    except sqlite3.IntegrityError as error:
        raise ConflictError("the key was taken meanwhile") from error
    if not rows:
        raise ConflictError("the ticket was changed meanwhile")
    return ticket_of(rows[0])


def record(connection: sqlite3.Connection, ref: MessageRef, ticket: Ticket, at: datetime) -> None:
    """Record a message id together with its ticket: R8."""
    place = (ref.key.company_id, ref.key.connection_id, ref.message_id)
    try:
        connection.execute(
            "INSERT INTO routed_messages VALUES (?, ?, ?, ?, ?)", (*place, ticket.id, text_of(at))
        )
    except sqlite3.IntegrityError as error:
        raise ConflictError("the message was routed meanwhile") from error


COUNT = "unread_messages = coalesce(:set_to, unread_messages + :add)"


def carry_out(connection: sqlite3.Connection, decision: Write, statuses: StatusScheme) -> Ticket:
    """Carry out one decision."""
    match decision:
        case Create():
            status = statuses.of_new(is_group=decision.is_group, accepted=decision.accepted)
            ticket = create(connection, decision, status)
        case Reuse(ticket=seen, at=at, unread=unread):
            ticket = change(connection, seen, at, COUNT, IS_ACTIVE, set_to=unread.set_to, add=unread.add)
        case ReopenTicket(ticket=seen, at=at, unread=unread):
            ticket = change(
                connection,
                seen,
                at,
                f"status = :status, user_id = :user_id, queue_id = :queue_id, closed_at = NULL, {COUNT}",
                f"NOT {IS_ACTIVE}",
                status=statuses.of_reopened(accepted=decision.accepted),
                user_id=decision.user_id,
                queue_id=decision.queue_id,
                set_to=unread.set_to,
                add=unread.add,
            )
        case Accept(ticket=seen, at=at, user_id=user_id):
            ticket = change(
                connection,
                seen,
                at,
                "status = :accepted, user_id = :user_id",
                f"{IS_ACTIVE} AND status = :status AND user_id IS :seen_user_id",
                accepted=statuses.accepted,
                user_id=user_id,
                status=seen.status,
                seen_user_id=seen.user_id,
            )
        case Close(ticket=seen, at=at):
            unchanged = "status = :status AND updated_at = :updated_at AND unread_messages <= :unread"
            as_seen = unchanged if decision.as_seen else "true"
            ticket = change(
                connection,
                seen,
                at,
                "status = :closed, closed_at = :at",
                f"{IS_ACTIVE} AND {as_seen}",
                closed=statuses.closed,
                status=seen.status,
                updated_at=text_of(seen.updated_at),
                unread=seen.unread_messages,
            )
        case Transfer(ticket=seen, at=at, connection_id=there):
            ticket = change(connection, seen, at, "connection_id = :there", IS_ACTIVE, there=there)
        case _:
            assert_never(decision)
    if isinstance(decision, Create | Reuse | ReopenTicket) and decision.message_ref is not None:
        record(connection, decision.message_ref, ticket, decision.at)
    return ticket


@contextmanager
def all_or_nothing(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what a conflict has begun, and nothing of the host's: R5."""
    with locks_told():
        connection.execute("SAVEPOINT ticketrouter")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK TO ticketrouter")
            raise
        finally:
            connection.execute("RELEASE ticketrouter")


@contextmanager
def locks_told() -> Iterator[None]:
    """Tell what only a restart of the transaction can cure: R11."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise ContentionError("the database is locked: run the transaction again") from error
        raise


class SQLite3TicketRepository:
    """Keeps tickets over a connection whose transaction the host begins and ends."""

    statuses = StatusScheme()

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        with locks_told():
            return find(self._connection, lookup)

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        del current  # a plain read is never old here
        with locks_told():
            where = "WHERE company_id = :company_id AND id = :id AND typeof(:id) = 'integer'"
            found = select(self._connection, where, {"company_id": company_id, "id": ticket_id})
        return next(iter(found), None)

    def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        with all_or_nothing(self._connection):
            return carry_out(self._connection, decision, self.statuses)

    def forget_messages(self, before: datetime) -> int:
        """See `ForgetsMessages.forget_messages`."""
        with locks_told():
            sql = "DELETE FROM routed_messages WHERE routed_at < ?"
            return self._connection.execute(sql, [text_of(before)]).rowcount
