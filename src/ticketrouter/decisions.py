"""The values between the rules and a store: what `decide` is told, what it and the desk answer, what comes of that.

Law of this file: frozen values, and pure functions of them that decide nothing. A store is told by a Lookup what to
look for, and answers with a Snapshot; it is given a Write, and what that makes of a ticket stands in `created` and
`applied`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, TypeAlias, assert_never

from attrs import evolve, field, frozen

from ticketrouter import checks
from ticketrouter._unchecked import unchecked
from ticketrouter.checks import Id
from ticketrouter.choices import Effect, Policy, Scope
from ticketrouter.model import (
    InboundMessage,
    MessageKind,
    Outcome,
    Reason,
    StatusScheme,
    Ticket,
    TicketKey,
    UniqueRule,
    altered,
    as_tuple,
    bumped,
    elsewhere,
    newest,
    trusted_ticket,
)

__all__ = [
    "Accept",
    "Alteration",
    "Close",
    "Create",
    "Decision",
    "Duplicate",
    "Ignore",
    "Join",
    "Joined",
    "Keep",
    "Lookup",
    "MessageRef",
    "ReopenTicket",
    "Reuse",
    "Snapshot",
    "Transfer",
    "Unread",
    "Write",
    "applied",
    "created",
]

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

    @classmethod
    def of(cls, message: InboundMessage) -> MessageRef | None:
        """Return what a redelivery of a message is known by; None: it has no id."""
        return None if message.message_id is None else _ref(message.key, message.message_id)


_ref = unchecked(MessageRef)


@frozen(weakref_slot=False)
class Unread:
    """What becomes of a count of unread messages.

    Args:
        set_to: the new count; None: the old one plus `add`.
        add: how many more.
    """

    set_to: int | None = None
    add: int = 0

    @classmethod
    def of(cls, message: InboundMessage, effect: Effect, *, counts: bool = True) -> Unread:
        """Return what a message does to the count of its ticket: what the contact has not said, nobody has to read.

        Args:
            message: the message.
            effect: what it may do.
            counts: whether there is a count at all.
        """
        if not counts:
            return _AS_IT_IS
        count = message.unread_messages
        match effect:
            case Effect.OPEN:
                if message.kind is not MessageKind.MESSAGE:
                    return cls.of(message, Effect.ATTACH)
                return _ONE_MORE if count is None else cls(count, add=1)
            case Effect.ATTACH:
                return _AS_IT_IS if count is None else cls(count)
            case _:
                assert_never(effect)

    def after(self, count: int) -> int:
        """Return the new count."""
        return count + self.add if self.set_to is None else self.set_to

    def then(self, later: Unread) -> Unread:
        """Return what becomes of a count by this, and then by another."""
        if later.set_to is not None:
            return later
        return Unread(None, self.add + later.add) if self.set_to is None else Unread(self.set_to + later.add)


_ONE_MORE, _AS_IT_IS = Unread(add=1), Unread()
# Members of an enumeration that every message is compared with: Python 3.11 looks each up by a call.
_OPEN, _ATTACH, _MESSAGE = Effect.OPEN, Effect.ATTACH, MessageKind.MESSAGE


def _at(value: datetime) -> datetime:
    return checks.as_utc("at", value)


@frozen(weakref_slot=False)
class Join:
    """What a message does to the active ticket of its key, if there is one: rule 2 before anything has been seen.

    Args:
        at: when.
        unread: what becomes of the count.
        message_ref: the message id to be recorded with the ticket; one that is recorded already joins nothing (rule 1).
        wakes: whether the message would wake the ticket, which therefore it does not join so if its word is one that
            wakes.
        message: the message itself, for a host's callbacks.

    Raises:
        InvalidMessageError: if the time has no time zone.
    """

    at: datetime = field(converter=_at)
    unread: Unread = Unread()
    message_ref: MessageRef | None = None
    wakes: bool = False
    message: InboundMessage | None = field(default=None, eq=False, repr=False)


_join = unchecked(Join)


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
        attaches: whether the message only joins, so that nothing is written where it finds no active ticket in scope:
            a repository whose reads may be dirty must then be sure that there is none.
        foresees: whether no write follows that would be told what is in its way: a repository whose unique rule also
            compares rows which no look-up finds must then look for those on the key itself.
        join: what the message does to the active ticket of the key: a repository that finds one may let it join at
            once, and says so (R1a); who does not is asked for a Reuse.
    """

    company_id: Id = field(validator=checks.an_id)
    contact_id: Id = field(validator=checks.an_id)
    connection_id: Id | None = field(default=None, validator=checks.an_optional_id)
    scope: Scope = Scope.CONNECTION
    message_id: Id | None = None
    closed: bool = True
    claim: bool = False
    overtaken: bool = False
    attaches: bool = False
    foresees: bool = False
    join: Join | None = None

    @classmethod
    def of(cls, message: InboundMessage, policy: Policy, now: datetime | None = None) -> Lookup:
        """Return what must be known to decide on a message.

        Args:
            message: the message.
            policy: what the host has chosen.
            now: the present, in UTC, at which the message may join its ticket on the way; None: it may not.
        """
        key, message_id = message.key, message.message_id
        if policy.groups is not None:
            policy = policy.of(message)
        effect, join = policy.effects[message.kind], None
        if now is not None:  # nearly every message counts as one more, and has no number
            opens = effect is _OPEN
            one_more = opens and message.unread_messages is None and message.kind is _MESSAGE
            ref = None if message_id is None else _ref(key, message_id)
            join = _join(now, _ONE_MORE if one_more else Unread.of(message, effect), ref, opens, message)
        return _lookup(
            key.company_id,
            key.contact_id,
            key.connection_id,
            policy.scope,
            message_id,
            policy.reopen.window is not None,
            True,
            False,
            effect is _ATTACH,
            False,
            join,
        )

    @classmethod
    def at(cls, key: TicketKey, *, claim: bool = False, foresees: bool = False) -> Lookup:
        """Return what must be known of a key."""
        return _lookup(key.company_id, key.contact_id, key.connection_id, claim=claim, foresees=foresees)

    def again(self) -> Lookup:
        """Return the question that is asked after a write has lost a race: nothing joins by it."""
        return evolve(self, overtaken=True, join=None)


_lookup = unchecked(Lookup)


AsKept: TypeAlias = Callable[[Ticket], Ticket]
"""What a store gives back of a ticket that was just written."""


def as_written(ticket: Ticket) -> Ticket:
    """Return the ticket itself."""
    return ticket


def _unique_rule(value: UniqueRule | str) -> UniqueRule:
    return checks.as_member("unique_rule", UniqueRule, value)


@frozen(weakref_slot=False)
class Snapshot:
    """What a repository found.

    Args:
        active: every active ticket of the contact, on all connections, in any order.
        latest_closed: the most recently closed ticket in scope, of those whose status a message may reopen; a final one
            is no such, and hides none.
        occupant: the row that the host's unique rule puts in the way of a new one, whatever its status.
        routed: the ticket that this message id was given.
        unique_rule: what the host's schema enforces.
        remembers: whether message ids are recorded, so that a redelivery would be known.
        unknown: the ticket in scope that was closed later than `latest_closed`, by a word that the scheme does not
            know: a report, no cause.
        joined: the ticket of the key as it is now that the message has joined it, as the Lookup had allowed; then the
            contact's active tickets on other connections are all else that was looked for. None: nothing was written.
        blocked: whether a row that no look-up finds leaves no room on the key, as another company's may, or one of an
            unknown word; the occupant, if it is the company's to see. Said where the Lookup foresees.
        counts: whether tickets have a count of unread messages; without one it is 0, whatever comes.
        as_kept: what the store gives back of a ticket that was just written: it may keep fewer digits of its times, or
            one of them only, which then stands for both. A batch is answered by it.
        merged: the columns by whose collation such a row has the ids that were asked for, though they are others.
    """

    active: tuple[Ticket, ...] = field(default=(), converter=as_tuple)
    latest_closed: Ticket | None = None
    occupant: Ticket | None = None
    routed: Ticket | None = None
    unique_rule: UniqueRule = field(default=UniqueRule.ACTIVE_PER_CONNECTION, converter=_unique_rule)
    remembers: bool = True
    unknown: Ticket | None = None
    joined: Ticket | None = None
    blocked: bool = False
    counts: bool = True
    as_kept: AsKept = field(default=as_written, eq=False, repr=False)
    merged: tuple[str, ...] = ()

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


# --- what is decided -------------------------------------------------------------------------------------


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
        message: the message that it is for, in a batch the first one, for a host's callbacks; None: the desk asked for
            it. It has no part in equality.
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
    message: InboundMessage | None = field(default=None, eq=False, repr=False)


@frozen(weakref_slot=False)
class Reuse:
    """Let a message join an active ticket; its user and queue stay as they are, and its status unless it wakes.

    Args:
        ticket: the ticket as it was seen.
        at: when.
        reason: the rule that decided.
        unread: what becomes of its count.
        message_ref: the message id to be recorded with it.
        other_active: what the contact has active on other connections, newest first.
        wakes: whether the message wakes the ticket: then it joins only while the status is as it was seen, if either
            is a word that wakes.
        message: the message itself, for a host's callbacks; None: the desk asked for it.
    """

    outcome: ClassVar[Outcome] = Outcome.REUSED

    ticket: Ticket
    at: datetime
    reason: Reason
    unread: Unread = Unread()
    message_ref: MessageRef | None = None
    other_active: tuple[Ticket, ...] = ()
    wakes: bool = False
    message: InboundMessage | None = field(default=None, eq=False, repr=False)

    def woken(self, statuses: StatusScheme) -> str | None:
        """Return the word that the ticket wakes to; None: it keeps the one that it has.

        Args:
            statuses: the host's words.
        """
        seen = self.ticket.status
        woken = statuses.woken(seen) if self.wakes else seen
        return None if woken == seen else woken


@frozen(weakref_slot=False)
class ReopenTicket:
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
        message: the message itself, for a host's callbacks; None: the desk asked for it.
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
    message: InboundMessage | None = field(default=None, eq=False, repr=False)


@frozen(weakref_slot=False)
class Joined:
    """Leave everything as it is: the message has joined this ticket already, as the Lookup had allowed."""

    outcome: ClassVar[Outcome] = Outcome.REUSED

    ticket: Ticket
    reason: Reason
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


@frozen
class Keep:
    """Leave everything as it is: what the desk asked for is already true."""

    ticket: Ticket


@frozen
class Accept:
    """Give an active ticket to an agent, provided nobody has changed its status or agent since it was seen."""

    ticket: Ticket
    user_id: Id = field(validator=checks.an_id)
    at: datetime


@frozen
class Close:
    """Close a ticket, provided it is still active.

    Args:
        ticket: the ticket as it was seen.
        at: when.
        as_seen: whether it is closed only while its status and the time of its last change are those of `ticket`, and
            no more is unread; a repository that keeps no such time, or whole seconds and no count, refuses it.
    """

    ticket: Ticket
    at: datetime
    as_seen: bool = False


@frozen
class Transfer:
    """Move an active ticket to another connection, provided it is still active and the key there is free."""

    ticket: Ticket
    connection_id: Id = field(validator=checks.an_id)
    at: datetime


Decision: TypeAlias = Create | Reuse | ReopenTicket | Joined | Ignore | Duplicate
"""Every answer of `decide`. The first three are for `TicketRepository.commit`; the others write nothing."""
Alteration: TypeAlias = Reuse | ReopenTicket | Accept | Close | Transfer
"""Everything that changes a ticket which is there."""
Write: TypeAlias = Create | Alteration
"""Everything that `TicketRepository.commit` carries out."""


# --- what becomes of a ticket --------------------------------------------------------------------------------


def created(decision: Create, ticket_id: Id, statuses: StatusScheme) -> Ticket:
    """Return the ticket that a Create makes.

    Args:
        decision: the decision.
        ticket_id: the id that the store gives it.
        statuses: the host's words.
    """
    at, key = _at(decision.at), decision.key
    return trusted_ticket(
        id=ticket_id,
        company_id=key.company_id,
        contact_id=key.contact_id,
        connection_id=key.connection_id,
        status=statuses.of_new(is_group=decision.is_group, accepted=decision.accepted),
        is_group=decision.is_group,
        unread_messages=decision.unread_messages,
        user_id=decision.user_id,
        queue_id=decision.queue_id,
        created_at=at,
        updated_at=at,
    )


def applied(decision: Alteration, ticket: Ticket, statuses: StatusScheme) -> Ticket:
    """Return what a decision makes of a ticket.

    Args:
        decision: the decision.
        ticket: the ticket as it is now, which may have been counted on since it was seen.
        statuses: the host's words.
    """
    at = _at(decision.at)
    match decision:
        case Reuse():
            joined = bumped(ticket, decision.unread.after(ticket.unread_messages), at)
            return altered(joined, status=statuses.woken(ticket.status)) if decision.wakes else joined
        case ReopenTicket():
            return altered(
                ticket,
                status=statuses.of_reopened(accepted=decision.accepted),
                user_id=decision.user_id,
                queue_id=decision.queue_id,
                unread_messages=decision.unread.after(ticket.unread_messages),
                updated_at=at,
                closed_at=None,
            )
        case Accept():
            return altered(ticket, status=statuses.accepted, user_id=decision.user_id, updated_at=at)
        case Close():
            return altered(ticket, status=statuses.closed, updated_at=at, closed_at=at)
        case Transfer():
            return altered(ticket, connection_id=decision.connection_id, updated_at=at)
        case _:
            assert_never(decision)
