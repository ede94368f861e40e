"""The policy: the seven rules themselves.

Law of this file: pure functions of the values of `ticketrouter.decisions`. No clock is read, no store is known,
nothing is remembered; the same arguments give the same answer for ever. The rules stand in `decide` in their order, by
their numbers.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from ticketrouter import checks
from ticketrouter._unchecked import unchecked
from ticketrouter.checks import Id
from ticketrouter.choices import Effect, Policy, Scope
from ticketrouter.decisions import (
    Create,
    Decision,
    Duplicate,
    Ignore,
    Joined,
    MessageRef,
    ReopenTicket,
    Reuse,
    Snapshot,
    Unread,
)
from ticketrouter.errors import BlockedBySchemaError
from ticketrouter.model import InboundMessage, Reason, StatusScheme, Ticket

__all__ = ["decide"]

# What decide answers with is made of a message, a snapshot and a policy, which were checked when they were made.
_create, _reuse, _reopen = unchecked(Create), unchecked(Reuse), unchecked(ReopenTicket)


def decide(
    message: InboundMessage,
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
) -> Decision:
    """Decide which ticket a message belongs to.

    Args:
        message: the message.
        snapshot: what is known of its contact.
        policy: what the host has chosen.
        now: the present, with a time zone.
        statuses: the host's words; no message reopens a ticket of a word that they do not have.

    Returns:
        One decision, by the first of these rules that holds:

        1. its id was routed before: Duplicate; the reason tells whether it came with another contact then;
        2. an active ticket on the key (under `Scope.CONTACT`: else one on any connection): Reuse; or Joined, where
           the store has done that already; what may open a ticket wakes it, if its word is one that wakes;
        3. its kind only attaches: Ignore;
        4. the last closed ticket in scope is inside the reopen window: ReopenTicket;
        5. the unique rule has no room for a second row, and the row in the way is closed on this key: ReopenTicket;
        6. that row is on another connection, or of a final or unknown word: BlockedBySchemaError; so it is
           where one that no look-up finds leaves no room on the key, for a reopened ticket neither;
        7. otherwise: Create.

    Raises:
        BlockedBySchemaError: by rule 6; nothing may be written.
        InvalidMessageError: if `now` has no time zone.
    """
    now = checks.as_utc("now", now)
    policy = policy.of(message)
    key, here = message.key, message.connection_id
    if snapshot.routed is not None:
        return _duplicate(snapshot.routed, message, snapshot)
    if (joining := _joining(message, snapshot, policy, now, statuses)) is not None:
        return joining
    if policy.effect(message) is Effect.ATTACH:
        return Ignore(Reason.KIND_DOES_NOT_OPEN, snapshot.active_elsewhere(here))
    last = snapshot.latest_closed
    if (
        last is not None
        and not (snapshot.blocked and last.key == key)
        and statuses.is_reopenable(last.status)
        and _in_scope(last, message, policy)
        and _inside_window(last, message, policy, now)
    ):
        return _reopened(last, Reason.WITHIN_REOPEN_WINDOW, message, snapshot, policy, now)
    if snapshot.blocked:
        raise BlockedBySchemaError(snapshot.occupant, snapshot.unique_rule, snapshot.merged)
    if (row := snapshot.in_the_way()) is not None:
        if row.key != key or not statuses.is_reopenable(row.status):
            raise BlockedBySchemaError(row, snapshot.unique_rule)
        return _reopened(row, Reason.ONLY_TICKET_ALLOWED, message, snapshot, policy, now)
    return _created(message, snapshot, policy, now)


def _duplicate(ticket: Ticket, message: InboundMessage, snapshot: Snapshot) -> Duplicate:
    same = ticket.contact_id == message.key.contact_id
    reason = Reason.ALREADY_ROUTED if same else Reason.ROUTED_FOR_ANOTHER_CONTACT
    return Duplicate(ticket, reason, snapshot.active_elsewhere(ticket.connection_id))


def _joining(
    message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime, statuses: StatusScheme
) -> Reuse | Joined | None:
    if (ticket := snapshot.joined) is not None:
        others = snapshot.active_elsewhere(ticket.connection_id)
        return Joined(ticket, Reason.ACTIVE_ON_CONNECTION, others)
    if (found := _active(snapshot, message.connection_id, policy.scope)) is None:
        return None
    ticket, reason = found
    effect = policy.effect(message)
    return _reuse(
        ticket=ticket,
        at=now,
        reason=reason,
        unread=_unread(message, snapshot, policy),
        message_ref=MessageRef.of(message),
        other_active=snapshot.active_elsewhere(ticket.connection_id),
        wakes=effect is Effect.OPEN and bool(statuses.wakes),
        message=message,
    )


def _active(snapshot: Snapshot, here: Id, scope: Scope) -> tuple[Ticket, Reason] | None:
    if (ticket := snapshot.active_on(here)) is not None:
        return ticket, Reason.ACTIVE_ON_CONNECTION
    match scope:
        case Scope.CONNECTION:
            return None
        case Scope.CONTACT:
            ticket = snapshot.active_anywhere()
            return None if ticket is None else (ticket, Reason.ACTIVE_FOR_CONTACT)
        case _:
            assert_never(scope)


def _in_scope(last: Ticket, message: InboundMessage, policy: Policy) -> bool:
    match policy.scope:
        case Scope.CONNECTION:
            return last.connection_id == message.connection_id
        case Scope.CONTACT:
            return True
        case scope:
            assert_never(scope)


def _inside_window(last: Ticket, message: InboundMessage, policy: Policy, now: datetime) -> bool:
    sent_at = now if message.sent_at is None else min(message.sent_at, now)
    # A host without a closed-at column has nothing better than the last change.
    closed_at = last.updated_at if last.closed_at is None else last.closed_at
    return policy.reopen.reaches(sent_at - closed_at)


def _unread(message: InboundMessage, snapshot: Snapshot, policy: Policy) -> Unread:
    return Unread.of(message, policy.effect(message), counts=snapshot.counts)


def _created(message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime) -> Create:
    return _create(
        key=message.key,
        at=now,
        reason=Reason.NO_ACTIVE_TICKET,
        is_group=message.is_group,
        unread_messages=_unread(message, snapshot, policy).after(0),
        queue_id=policy.queue_id,
        message_ref=MessageRef.of(message),
        other_active=snapshot.active_elsewhere(message.connection_id),
        message=message,
    )


def _reopened(
    ticket: Ticket, reason: Reason, message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime
) -> ReopenTicket:
    return _reopen(
        ticket=ticket,
        at=now,
        reason=reason,
        user_id=ticket.user_id if policy.reopen.keeps(ticket.user_id) else None,
        queue_id=ticket.queue_id if policy.reopen.keep_queue else policy.queue_id,
        unread=_unread(message, snapshot, policy),
        message_ref=MessageRef.of(message),
        other_active=snapshot.active_elsewhere(ticket.connection_id),
        message=message,
    )
