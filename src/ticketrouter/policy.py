"""The policy: what `decide` is told, what it answers, and the seven rules themselves.

Law of this file: values and pure functions. No clock is read, no store is known, nothing is remembered; the
same arguments give the same answer for ever. The rules stand in `decide` in their order, by their numbers.
`Reopen` is here the decision; the host's choice of that name is `ticketrouter.choices.Reopen`.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, TypeAlias, assert_never

from attrs import evolve, field, frozen

from ticketrouter import checks
from ticketrouter.checks import Id
from ticketrouter.choices import Effect, Policy, Scope
from ticketrouter.errors import BlockedBySchemaError
from ticketrouter.model import (
    InboundMessage,
    Outcome,
    Reason,
    Ticket,
    TicketKey,
    UniqueRule,
    as_tuple,
    elsewhere,
    newest,
)
from ticketrouter.unchecked import unchecked

# --- what decide is told -------------------------------------------------------------------------------------


@frozen(weakref_slot=False)
class MessageRef:
    """What a redelivery is known by: a message id within one company and connection.

    Args:
        key: the key that the message has; its contact has no part in it.
        message_id: the channel's id of the message.
    """

    key: TicketKey
    message_id: Id = field(validator=checks.a_message_id)


@frozen(weakref_slot=False)
class Lookup:
    """What a repository is asked for: the question to which a Snapshot is the answer.

    Args:
        company_id: the tenant.
        contact_id: the contact of the key.
        connection_id: the connection of the key; None: only the contact's active tickets are asked for.
        scope: whether `latest_closed` is looked for on this connection or on all.
        message_id: the message id whose ticket, if any, is `routed`.
        closed: whether `latest_closed` is asked for: it costs a search, and some policies never reopen.
        claim: whether a write on this key may follow, so that a repository without a unique rule must now
            keep others from it until the host's transaction ends.
        overtaken: whether a write of this operation has just lost a race, so that a repository whose
            transaction reads an old snapshot must now read what is committed.
    """

    company_id: Id = field(validator=checks.an_id)
    contact_id: Id = field(validator=checks.an_id)
    connection_id: Id | None = field(default=None, validator=checks.an_optional_id)
    scope: Scope = Scope.CONNECTION
    message_id: Id | None = None
    closed: bool = True
    claim: bool = False
    overtaken: bool = False

    @classmethod
    def of(cls, message: InboundMessage, policy: Policy) -> Lookup:
        """Return what must be known to decide on a message."""
        key, policy = message.key, policy.of(message)
        return _lookup(
            key.company_id,
            key.contact_id,
            key.connection_id,
            policy.scope,
            message.message_id,
            policy.reopen.window is not None,
            True,
        )

    @classmethod
    def at(cls, key: TicketKey, *, claim: bool = False) -> Lookup:
        """Return what must be known of a key."""
        return _lookup(key.company_id, key.contact_id, key.connection_id, claim=claim)

    def once(self, *, overtaken: bool) -> Lookup:
        """Return the same question, asked before or after a write has lost a race."""
        return self if self.overtaken is overtaken else evolve(self, overtaken=overtaken)


_lookup = unchecked(Lookup)


def _unique_rule(value: UniqueRule | str) -> UniqueRule:
    return checks.as_member("unique_rule", UniqueRule, value)


@frozen(weakref_slot=False)
class Snapshot:
    """What a repository found.

    Args:
        active: every active ticket of the contact, on all connections, in any order.
        latest_closed: the most recently closed ticket in scope.
        occupant: the row that the host's unique rule puts in the way of a new one, whatever its status.
        routed: the ticket that this message id was given.
        unique_rule: what the host's schema enforces.
        remembers: whether message ids are recorded, so that a redelivery would be known.
    """

    active: tuple[Ticket, ...] = field(default=(), converter=as_tuple)
    latest_closed: Ticket | None = None
    occupant: Ticket | None = None
    routed: Ticket | None = None
    unique_rule: UniqueRule = field(default=UniqueRule.ACTIVE_PER_CONNECTION, converter=_unique_rule)
    remembers: bool = True

    def active_on(self, connection_id: Id) -> Ticket | None:
        """Return the active ticket on a connection: the most recently active, ties to the highest id."""
        return newest([t for t in self.active if t.connection_id == connection_id])

    def active_anywhere(self) -> Ticket | None:
        """Return the contact's most recently active ticket, whatever its connection."""
        return newest(self.active)

    def active_elsewhere(self, connection_id: Id) -> tuple[Ticket, ...]:
        """Return what the contact has active on other connections, newest first."""
        return elsewhere(self.active, connection_id)

    def in_the_way(self) -> Ticket | None:
        """Return the row beside which the unique rule allows no new one."""
        match self.unique_rule:
            case UniqueRule.NONE | UniqueRule.ACTIVE_PER_CONNECTION:
                return None
            case UniqueRule.ONE_PER_CONNECTION | UniqueRule.ONE_PER_CONTACT:
                return self.occupant
            case _:
                assert_never(self.unique_rule)


trusted_snapshot: type[Snapshot] = unchecked(Snapshot)


# --- what decide answers -------------------------------------------------------------------------------------


@frozen(weakref_slot=False)
class Unread:
    """What becomes of a count of unread messages.

    Args:
        set_to: the new count; None: the old one plus `add`.
        add: how many more.
    """

    set_to: int | None = None
    add: int = 0

    def after(self, count: int) -> int:
        """Return the new count."""
        return count + self.add if self.set_to is None else self.set_to


@frozen(weakref_slot=False)
class Create:
    """Create a ticket on a free key.

    Args:
        key: the key.
        at: when.
        reason: the rule that decided.
        is_group: whether the contact is a group chat.
        unread_messages: the count to begin with.
        user_id: the agent who has it.
        queue_id: the queue it waits in.
        accepted: whether it begins as accepted by that agent.
        message_ref: the message id to be recorded with it.
        other_active: what the contact has active on other connections, newest first.
    """

    outcome: ClassVar[Outcome] = Outcome.CREATED

    key: TicketKey
    at: datetime
    reason: Reason
    is_group: bool = field(default=False, validator=checks.a_bool)
    unread_messages: int = 0
    user_id: Id | None = field(default=None, validator=checks.an_optional_id)
    queue_id: Id | None = field(default=None, validator=checks.an_optional_id)
    accepted: bool = False
    message_ref: MessageRef | None = None
    other_active: tuple[Ticket, ...] = ()


@frozen(weakref_slot=False)
class Reuse:
    """Let a message join an active ticket; its status, user and queue stay as they are.

    Args:
        ticket: the ticket as it was seen.
        at: when.
        reason: the rule that decided.
        unread: what becomes of its count.
        message_ref: the message id to be recorded with it.
        other_active: what the contact has active on other connections, newest first.
    """

    outcome: ClassVar[Outcome] = Outcome.REUSED

    ticket: Ticket
    at: datetime
    reason: Reason
    unread: Unread = Unread()
    message_ref: MessageRef | None = None
    other_active: tuple[Ticket, ...] = ()


@frozen(weakref_slot=False)
class Reopen:
    """Make a closed ticket active again, on its own key.

    Args:
        ticket: the ticket as it was seen.
        at: when.
        reason: the rule that decided.
        user_id: the agent who has it from now on.
        queue_id: the queue it waits in from now on.
        accepted: whether it is at once accepted by that agent.
        unread: what becomes of its count.
        message_ref: the message id to be recorded with it.
        other_active: what the contact has active on other connections, newest first.
    """

    outcome: ClassVar[Outcome] = Outcome.REOPENED

    ticket: Ticket
    at: datetime
    reason: Reason
    user_id: Id | None = field(default=None, validator=checks.an_optional_id)
    queue_id: Id | None = field(default=None, validator=checks.an_optional_id)
    accepted: bool = False
    unread: Unread = Unread()
    message_ref: MessageRef | None = None
    other_active: tuple[Ticket, ...] = ()


@frozen
class Ignore:
    """Leave everything as it is: the message has no ticket."""

    outcome: ClassVar[Outcome] = Outcome.IGNORED

    reason: Reason
    other_active: tuple[Ticket, ...] = ()


@frozen
class Duplicate:
    """Leave everything as it is: the message was routed before, to this ticket."""

    outcome: ClassVar[Outcome] = Outcome.DUPLICATE

    ticket: Ticket
    reason: Reason
    other_active: tuple[Ticket, ...] = ()


@frozen(weakref_slot=False)
class Touch:
    """Let a message join the active ticket of its key, whichever that is: rule 2 before anything has been seen.

    Args:
        message: the message.
        policy: what the host has chosen for it.
        at: when.
        unread: what becomes of its count.
        message_ref: the message id to be recorded with it; one that is recorded already joins nothing (rule 1).
    """

    message: InboundMessage
    policy: Policy
    at: datetime
    unread: Unread = Unread()
    message_ref: MessageRef | None = None

    @property
    def key(self) -> TicketKey:
        """The key whose active ticket the message joins."""
        return self.message.key

    @property
    def lookup(self) -> Lookup:
        """What has to be known where there is no such ticket."""
        return Lookup.of(self.message, self.policy)


@frozen(weakref_slot=False)
class Touched:
    """What became of a Touch that met its ticket.

    Args:
        ticket: the ticket, as it is now.
        other_active: what the contact has active on other connections, newest first.
    """

    ticket: Ticket
    other_active: tuple[Ticket, ...] = ()


# What decide answers with is made of a message, a snapshot and a policy, which were checked when they were made.
_ref = unchecked(MessageRef)
_create, _reuse, _reopen = unchecked(Create), unchecked(Reuse), unchecked(Reopen)
_touch = unchecked(Touch)
trusted_touched: type[Touched] = unchecked(Touched)

Decision: TypeAlias = Create | Reuse | Reopen | Ignore | Duplicate
"""Every answer of `decide`. The first three are for `TicketRepository.commit`; the others write nothing."""


# --- the rules -----------------------------------------------------------------------------------------------


def decide(message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime) -> Decision:
    """Decide which ticket a message belongs to.

    Args:
        message: the message.
        snapshot: what is known of its contact.
        policy: what the host has chosen.
        now: the present, with a time zone.

    Returns:
        One decision, by the first of these rules that holds:

        1. its id was routed before: Duplicate; the reason tells whether it came with another contact then;
        2. an active ticket on the key (under `Scope.CONTACT`: else one on any connection): Reuse;
        3. its kind only attaches: Ignore;
        4. the last closed ticket in scope is inside the reopen window: Reopen;
        5. the unique rule has no room for a second row, and the row in the way is on this key: Reopen;
        6. that row is on another connection: BlockedBySchemaError;
        7. otherwise: Create.

    Raises:
        BlockedBySchemaError: by rule 6; nothing may be written.
        InvalidMessageError: if `now` has no time zone.
    """
    now = checks.as_utc("now", now)
    policy = policy.of(message)
    key, here = message.key, message.connection_id
    if snapshot.routed is not None:
        others = snapshot.active_elsewhere(snapshot.routed.connection_id)
        same = snapshot.routed.contact_id == key.contact_id
        reason = Reason.ALREADY_ROUTED if same else Reason.ROUTED_FOR_ANOTHER_CONTACT
        return Duplicate(snapshot.routed, reason, others)
    if (found := _active(snapshot, here, policy.scope)) is not None:
        ticket, reason = found
        return _reuse(
            ticket=ticket,
            at=now,
            reason=reason,
            unread=_unread(message, policy),
            message_ref=_message_ref(message),
            other_active=snapshot.active_elsewhere(ticket.connection_id),
        )
    if policy.effect(message) is Effect.ATTACH:
        return Ignore(Reason.KIND_DOES_NOT_OPEN, snapshot.active_elsewhere(here))
    last = snapshot.latest_closed
    if last is not None and _in_scope(last, message, policy) and _inside_window(last, message, policy, now):
        return _reopened(last, Reason.WITHIN_REOPEN_WINDOW, message, snapshot, policy, now)
    if (row := snapshot.in_the_way()) is not None:
        if row.key != key:
            raise BlockedBySchemaError(row, snapshot.unique_rule)
        return _reopened(row, Reason.ONLY_TICKET_ALLOWED, message, snapshot, policy, now)
    return _create(
        key=key,
        at=now,
        reason=Reason.NO_ACTIVE_TICKET,
        is_group=message.is_group,
        unread_messages=_unread(message, policy).after(0),
        message_ref=_message_ref(message),
        other_active=snapshot.active_elsewhere(here),
    )


def touching(message: InboundMessage, policy: Policy, now: datetime) -> Touch:
    """Return the Touch that does to the ticket on the message's key what rule 2 of `decide` would have done.

    Args:
        message: the message.
        policy: what the host has chosen.
        now: the present, in UTC.
    """
    return _touch(message, policy, now, _unread(message, policy.of(message)), _message_ref(message))


def counting(message: InboundMessage, policy: Policy) -> Unread:
    """Return what a message does to the count of a ticket that it joins.

    Args:
        message: the message.
        policy: what the host has chosen.
    """
    return _unread(message, policy.of(message))


def touched(touch: Touch, met: Touched) -> Reuse:
    """Return the decision that a Touch has carried out."""
    return _reuse(
        ticket=met.ticket,
        at=touch.at,
        reason=Reason.ACTIVE_ON_CONNECTION,
        unread=touch.unread,
        message_ref=touch.message_ref,
        other_active=met.other_active,
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


def _reopened(
    ticket: Ticket, reason: Reason, message: InboundMessage, snapshot: Snapshot, policy: Policy, now: datetime
) -> Reopen:
    return _reopen(
        ticket=ticket,
        at=now,
        reason=reason,
        user_id=ticket.user_id if policy.reopen.keep_user else None,
        queue_id=ticket.queue_id if policy.reopen.keep_queue else None,
        unread=_unread(message, policy),
        message_ref=_message_ref(message),
        other_active=snapshot.active_elsewhere(ticket.connection_id),
    )


_ONE_MORE, _AS_IT_IS = Unread(add=1), Unread()


def _unread(message: InboundMessage, policy: Policy) -> Unread:
    count = message.unread_messages
    match policy.effect(message):
        case Effect.OPEN:
            return _ONE_MORE if count is None else Unread(count, add=1)
        case Effect.ATTACH:
            return _AS_IT_IS if count is None else Unread(count)
        case effect:
            assert_never(effect)


def _message_ref(message: InboundMessage) -> MessageRef | None:
    return None if message.message_id is None else _ref(message.key, message.message_id)
