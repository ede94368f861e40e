"""The life of a ticket at the hands of the desk: open, accept, close, reopen, transfer.

Law of this file: as in `ticketrouter.policy`, pure functions. Each function is told what was seen
and answers with the write that is to follow, or `Keep` where the wish is already true; a wish that cannot
come true raises. Every write repeats what was seen as its condition, so a stale caller never wins.
"""

from __future__ import annotations

from datetime import datetime

from ticketrouter.checks import Id
from ticketrouter.decisions import Accept, Close, Create, Keep, ReopenTicket, Snapshot, Transfer
from ticketrouter.errors import ActiveTicketExistsError, BlockedBySchemaError, ConflictError
from ticketrouter.model import Reason, StatusScheme, Ticket, TicketKey

__all__ = ["accept_ticket", "close_ticket", "open_ticket", "reopen_ticket", "transfer_ticket"]


def open_ticket(
    snapshot: Snapshot,
    now: datetime,
    *,
    key: TicketKey,
    is_group: bool,
    user_id: Id | None,
    queue_id: Id | None,
    statuses: StatusScheme,
) -> Create | ReopenTicket:
    """Open a ticket on a key.

    Args:
        snapshot: what is known of the key's contact.
        now: the present.
        key: the key.
        is_group: whether the contact is a group chat.
        user_id: the agent who begins, and thereby accepts it; None: it begins in the queue.
        queue_id: the queue.
        statuses: the host's words.

    Returns:
        Create; or ReopenTicket, where the unique rule has room for the closed row of this key only.

    Raises:
        ActiveTicketExistsError: if the key has an active ticket.
        BlockedBySchemaError: if the unique rule has room for a row only that is on another connection, or of an
            unknown word.
    """
    _refuse_second(snapshot, key)
    if snapshot.blocked:
        raise BlockedBySchemaError(snapshot.occupant, snapshot.unique_rule, snapshot.merged)
    row = snapshot.in_the_way()
    accepted = user_id is not None
    others = snapshot.active_elsewhere(key.connection_id)
    if row is None:
        return Create(
            key=key,
            at=now,
            reason=Reason.REQUESTED,
            is_group=is_group,
            user_id=user_id,
            queue_id=queue_id,
            accepted=accepted,
            other_active=others,
        )
    if row.key != key or not statuses.is_reopenable(row.status):
        raise BlockedBySchemaError(row, snapshot.unique_rule)
    return ReopenTicket(
        ticket=row,
        at=now,
        reason=Reason.ONLY_TICKET_ALLOWED,
        user_id=user_id,
        queue_id=queue_id,
        accepted=accepted,
        other_active=others,
    )


def accept_ticket(ticket: Ticket, now: datetime, *, user_id: Id, statuses: StatusScheme) -> Accept | Keep:
    """Give a ticket to an agent.

    Raises:
        ConflictError: if it is closed, or accepted by another agent.
    """
    if not statuses.is_active(ticket.status):
        raise ConflictError(f"ticket {ticket.id} is closed: reopen it before it is accepted", ticket)
    if ticket.status != statuses.accepted or ticket.user_id is None:
        return Accept(ticket, user_id, now)
    if ticket.user_id != user_id:
        raise ConflictError(f"ticket {ticket.id} is already accepted by user {ticket.user_id}", ticket)
    return Keep(ticket)


def close_ticket(
    ticket: Ticket, now: datetime, *, seen: Ticket | None = None, statuses: StatusScheme
) -> Close | Keep:
    """Close a ticket; a closed one stays as it is, whatever was seen of it: the wish has come true.

    Args:
        ticket: the ticket.
        now: the present.
        seen: the same ticket as it was when somebody found that it may be closed; None: it may be, whatever it is like.
        statuses: the host's words.

    Raises:
        ConflictError: if it is active, and its status or the time of its last change is not what was seen, or more is
            unread.
    """
    if not statuses.is_active(ticket.status):
        return Keep(ticket)
    if seen is not None and ticket.has_changed_since(seen):
        raise ConflictError(
            f"ticket {ticket.id} was changed since it was seen: look again before it is closed", ticket
        )
    return Close(ticket, now, as_seen=seen is not None)


def reopen_ticket(
    ticket: Ticket, snapshot: Snapshot, now: datetime, *, statuses: StatusScheme
) -> ReopenTicket | Keep:
    """Reopen a ticket into its queue, without an agent; an active one stays as it is.

    Who names the ticket knows what its word means: one of an unknown word is reopened, too.

    Args:
        ticket: the ticket.
        snapshot: what is known of its contact, on its own connection.
        now: the present.
        statuses: the host's words.

    Raises:
        ActiveTicketExistsError: if its key has another active ticket.
    """
    if statuses.is_active(ticket.status):
        return Keep(ticket)
    if (active := snapshot.active_on(ticket.connection_id)) is not None:
        return _itself(active, ticket)
    return ReopenTicket(
        ticket=ticket,
        at=now,
        reason=Reason.REQUESTED,
        queue_id=ticket.queue_id,
        other_active=snapshot.active_elsewhere(ticket.connection_id),
    )


def transfer_ticket(
    ticket: Ticket, snapshot: Snapshot, now: datetime, *, connection_id: Id, statuses: StatusScheme
) -> Transfer | Keep:
    """Move a ticket to another connection.

    Args:
        ticket: the ticket.
        snapshot: what is known of its contact, on the other connection.
        now: the present.
        connection_id: the other connection.
        statuses: the host's words.

    Raises:
        ConflictError: if it is closed.
        ActiveTicketExistsError: if the contact has an active ticket on that connection.
        BlockedBySchemaError: if the unique rule has no room for a second row there.
    """
    if not statuses.is_active(ticket.status):
        raise ConflictError(f"ticket {ticket.id} is closed: only an active ticket is transferred", ticket)
    if ticket.connection_id == connection_id:
        return Keep(ticket)
    if (active := snapshot.active_on(connection_id)) is not None:
        return _itself(active, ticket)
    row = snapshot.in_the_way()
    if row is not None and row.id != ticket.id:
        raise BlockedBySchemaError(row, snapshot.unique_rule)
    return Transfer(ticket, connection_id, now)


def _refuse_second(snapshot: Snapshot, key: TicketKey) -> None:
    if (ticket := snapshot.active_on(key.connection_id)) is not None:
        raise ActiveTicketExistsError(ticket)


def _itself(active: Ticket, ticket: Ticket) -> Keep:
    """Return what is already true where a key is held by the ticket itself: somebody had the same wish."""
    if active.id != ticket.id:
        raise ActiveTicketExistsError(active)
    return Keep(active)
