"""The repository: R1 to R12 of the port, on PostgreSQL at Django's isolation level, READ COMMITTED, and on SQLite.

Law of this file: the transaction is the caller's `atomic` block. Each write stands in a savepoint of its own, so
that a lost race leaves that block usable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, assert_never

from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from examples.django_repository.models import ACTIVE, STATUSES, RoutedMessage, TicketRow
from ticketrouter import (
    ConflictError,
    ContentionError,
    Id,
    InvalidMessageError,
    RepositoryError,
    Scope,
    Snapshot,
    StatusScheme,
    Ticket,
)
from ticketrouter.decisions import Accept, Close, Create, Lookup, ReopenTicket, Reuse, Transfer, Unread, Write

FIELDS = tuple(column.attname for column in TicketRow._meta.concrete_fields)  # noqa: SLF001 - Django has it documented
RACES = {
    constraint.name: ", ".join(f"{model._meta.db_table}.{field}" for field in constraint.fields)  # noqa: SLF001
    for model in (TicketRow, RoutedMessage)
    for constraint in model._meta.constraints  # noqa: SLF001
}
"""The constraints that decide a race, by name, and their columns: SQLite tells these, not the name."""
RESTARTS = frozenset({"40001", "40P01", "55P03", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED"})
LOST_CONNECTION = ("08", "57P0")


class DjangoTicketRepository:
    """Keeps tickets with Django's ORM, inside the caller's `transaction.atomic()`.

    Args:
        using: the alias of the database.
    """

    def __init__(self, using: str = "default") -> None:
        self._using = using

    @property
    def statuses(self) -> StatusScheme:
        """The words of the statuses, the same as in the constraint."""
        return STATUSES

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide."""
        with self._inside():
            mine = self._tickets(lookup.company_id).filter(contact_id=lookup.contact_id)
            return Snapshot(
                active=[_ticket(row) for row in mine.filter(status__in=ACTIVE)],
                latest_closed=_or_none(self._latest_closed(mine, lookup)),
                routed=_or_none(self._routed(lookup)),
            )

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company."""
        del current  # a plain read is never old here
        if not isinstance(ticket_id, int):
            return None
        with self._inside():
            return _or_none(self._tickets(company_id).filter(id=ticket_id).first())

    def commit(self, decision: Write) -> Ticket:
        """Carry out one decision."""
        with self._inside(), transaction.atomic(using=self._using):
            ticket = self._written(decision)
            ref = getattr(decision, "message_ref", None)
            if ref is not None:
                RoutedMessage.objects.using(self._using).create(
                    company_id=ref.key.company_id,
                    connection_id=ref.key.connection_id,
                    message_id=ref.message_id,
                    contact_id=ref.key.contact_id,
                    ticket_id=ticket.id,
                    at=ticket.updated_at,
                )
            return ticket

    def forget_messages(self, before: datetime) -> int:
        """Forget old message ids."""
        if before.tzinfo is None:
            raise InvalidMessageError("before", before, "a time with a time zone")
        with self._inside():
            forgotten, _ = RoutedMessage.objects.using(self._using).filter(at__lt=before).delete()
            return int(forgotten)

    def _written(self, decision: Write) -> Ticket:
        match decision:
            case Create():
                return self._created(decision)
            case Reuse(ticket=ticket, unread=unread, at=at):
                return self._changed(ticket, active=True, updated_at=at, unread_messages=_count(unread))
            case ReopenTicket(ticket=ticket):
                return self._changed(
                    ticket,
                    active=False,
                    status=STATUSES.of_reopened(accepted=decision.accepted),
                    user_id=decision.user_id,
                    queue_id=decision.queue_id,
                    unread_messages=_count(decision.unread),
                    updated_at=decision.at,
                    closed_at=None,
                )
            case Accept(ticket=ticket):
                seen: dict[str, Any] = {"status": ticket.status, "user_id": ticket.user_id}
                given = {"status": STATUSES.accepted, "user_id": decision.user_id}
                return self._changed(ticket, seen, active=True, updated_at=decision.at, **given)
            case Close(ticket=ticket, at=at):
                as_seen = {"status": ticket.status, "updated_at": ticket.updated_at}
                as_seen["unread_messages__lte"] = ticket.unread_messages
                seen = as_seen if decision.as_seen else {}
                closed = {"status": STATUSES.closed, "updated_at": at, "closed_at": at}
                return self._changed(ticket, seen, active=True, **closed)
            case Transfer(ticket=ticket, at=at):
                return self._changed(ticket, active=True, connection_id=decision.connection_id, updated_at=at)
            case _:
                assert_never(decision)

    def _created(self, decision: Create) -> Ticket:
        row = TicketRow.objects.using(self._using).create(
            company_id=decision.key.company_id,
            contact_id=decision.key.contact_id,
            connection_id=decision.key.connection_id,
            status=STATUSES.of_new(is_group=decision.is_group, accepted=decision.accepted),
            is_group=decision.is_group,
            unread_messages=decision.unread_messages,
            user_id=decision.user_id,
            queue_id=decision.queue_id,
            created_at=decision.at,
            updated_at=decision.at,
        )
        return _ticket(row)

    def _changed(
        self, ticket: Ticket, seen: dict[str, Any] | None = None, *, active: bool, **values: Any
    ) -> Ticket:
        """Change the row if it is still as it was seen: its key, its being active, and what else is named."""
        row = self._tickets(ticket.company_id).filter(id=ticket.id)
        asked = row.filter(contact_id=ticket.contact_id, connection_id=ticket.connection_id, **seen or {})
        asked = asked.filter(status__in=ACTIVE) if active else asked.exclude(status__in=ACTIVE)
        if asked.update(**values) == 0:
            raise ConflictError("the ticket was changed meanwhile")
        return _ticket(row.get())

    def _tickets(self, company_id: Id) -> Any:
        return TicketRow.objects.using(self._using).filter(company_id=company_id)

    def _latest_closed(self, mine: Any, lookup: Lookup) -> TicketRow | None:
        if lookup.connection_id is None or not lookup.closed:
            return None
        closed = mine.filter(status__in=STATUSES.reopenable)
        if lookup.scope is Scope.CONNECTION:
            closed = closed.filter(connection_id=lookup.connection_id)
        found: TicketRow | None = closed.order_by(Coalesce("closed_at", "updated_at").desc(), "-id").first()
        return found

    def _routed(self, lookup: Lookup) -> TicketRow | None:
        if lookup.message_id is None:
            return None
        found = RoutedMessage.objects.using(self._using).filter(
            company_id=lookup.company_id,
            connection_id=lookup.connection_id,
            message_id=lookup.message_id,
        )
        message = found.select_related("ticket").first()
        return None if message is None else message.ticket

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Refuse to work outside a transaction, where a savepoint would be a commit; let errors out as ours."""
        if not connections[self._using].in_atomic_block:
            raise RepositoryError("there is no transaction: call this inside transaction.atomic()")
        try:
            yield
        except DatabaseError as error:
            raise _translated(error) from error


def _translated(error: DatabaseError) -> ConflictError | ContentionError | RepositoryError:
    cause: Any = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or ""
    if isinstance(error, IntegrityError) and _is_lost_race(cause):
        return ConflictError("the key or the message id was taken meanwhile")
    if code in RESTARTS:
        return ContentionError(f"run the whole transaction again (code {code})")
    lost = not code or code.startswith(LOST_CONNECTION)
    return RepositoryError(f"the database refused a statement (code {code})", retryable=lost)


def _is_lost_race(cause: Any) -> bool:
    name = getattr(getattr(cause, "diag", None), "constraint_name", None)
    return name in RACES or str(cause).partition("UNIQUE constraint failed: ")[2] in RACES.values()


def _count(unread: Unread) -> Any:
    return F("unread_messages") + unread.add if unread.set_to is None else unread.set_to


def _or_none(row: TicketRow | None) -> Ticket | None:
    return None if row is None else _ticket(row)


def _ticket(row: TicketRow) -> Ticket:
    values = {name: getattr(row, name) for name in FIELDS}
    if row.status not in ACTIVE and row.closed_at is None:
        values["closed_at"] = row.updated_at  # somebody has closed it behind our back
    return Ticket(**values)
