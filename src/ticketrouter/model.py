"""The words of the field as values: messages, keys, tickets, statuses, and what became of a message.

Law of this file: frozen values, checked when they are made, that decide nothing. Whoever holds one need not
ask again whether an id is empty or a time is naive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from types import MappingProxyType
from typing import Any, assert_never

from attrs import field, fields, frozen
from attrs.validators import optional

from ticketrouter import checks
from ticketrouter._unchecked import unchecked
from ticketrouter.checks import Id
from ticketrouter.errors import InvalidMessageError, NoTicketError


class MessageKind(StrEnum):
    """Who speaks in a message."""

    MESSAGE = "message"
    """The contact speaks."""
    ECHO = "echo"
    """The company speaks outside the desk: from its own phone, by an API, in a campaign."""
    NOTICE = "notice"
    """Nobody speaks: a reaction, a rating, an edit, a call, a receipt."""


class UniqueRule(StrEnum):
    """What the unique rule of the tickets table allows."""

    NONE = "none"
    """Anything: duplicates too."""
    ACTIVE_PER_CONNECTION = "active_per_connection"
    """One active ticket per company, contact and connection: the right one."""
    ONE_PER_CONNECTION = "one_per_connection"
    """One row for ever per company, contact and connection."""
    ONE_PER_CONTACT = "one_per_contact"
    """One row for ever per company and contact: a second connection is shut out."""


class Outcome(StrEnum):
    """What became of a message."""

    CREATED = "created"
    REUSED = "reused"
    REOPENED = "reopened"
    DUPLICATE = "duplicate"
    """This message id was routed before: the first answer again, nothing changed."""
    IGNORED = "ignored"
    """The message has no ticket."""


class Reason(StrEnum):
    """The rule that decided; the numbers are those of the table of `ticketrouter.policy.decide`."""

    ALREADY_ROUTED = "already_routed"
    """Rule 1."""
    ROUTED_FOR_ANOTHER_CONTACT = "routed_for_another_contact"
    """Rule 1, but the message id came with another contact then: two messages with one id, or merged contacts."""
    ACTIVE_ON_CONNECTION = "active_on_connection"
    """Rule 2."""
    ACTIVE_FOR_CONTACT = "active_for_contact"
    """Rule 2, under `Scope.CONTACT`."""
    KIND_DOES_NOT_OPEN = "kind_does_not_open"
    """Rule 3."""
    WITHIN_REOPEN_WINDOW = "within_reopen_window"
    """Rule 4."""
    ONLY_TICKET_ALLOWED = "only_ticket_allowed"
    """Rule 5."""
    NO_ACTIVE_TICKET = "no_active_ticket"
    """Rule 7."""
    REQUESTED = "requested"
    """No message decided: somebody of the desk, or its code, asked for it."""


def _kind(value: MessageKind | str) -> MessageKind:
    return checks.as_member("kind", MessageKind, value)


def _sent_at(value: datetime | None) -> datetime | None:
    return None if value is None else checks.as_utc("sent_at", value)


def _created_at(value: datetime) -> datetime:
    return checks.as_utc("created_at", value)


def _updated_at(value: datetime) -> datetime:
    return checks.as_utc("updated_at", value)


def _closed_at(value: datetime | None) -> datetime | None:
    return None if value is None else checks.as_utc("closed_at", value)


@frozen(weakref_slot=False)
class TicketKey:
    """What at most one active ticket exists for.

    Args:
        company_id: the tenant.
        contact_id: the person, or the group chat.
        connection_id: the address of the company that was written to.

    Raises:
        InvalidMessageError: if an id is not valid.
    """

    company_id: Id = field(validator=checks.an_id)
    contact_id: Id = field(validator=checks.an_id)
    connection_id: Id = field(validator=checks.an_id)


trusted_key: type[TicketKey] = unchecked(TicketKey)


@frozen(weakref_slot=False)
class InboundMessage:
    """A message that has arrived and looks for its ticket.

    Args:
        company_id: the tenant.
        contact_id: who wrote; inside a group, the participant, who has no part in the key.
        connection_id: the address of the company that was written to.
        group_id: the group chat, where it was written in one.
        message_id: the channel's id of the message, which makes a redelivery harmless; None: not known.
        sent_at: when it was sent, with a time zone; None, or a time still to come: now.
        unread_messages: what the ticket's count is set to; None: one more where the contact speaks and that may open a
            ticket.
        kind: who speaks.
        data: anything of the host's, for its own callbacks: it is never looked at, compared, shown, logged or stored.

    Raises:
        InvalidMessageError: if a field is not valid.
    """

    company_id: Id = field(validator=checks.an_id)
    contact_id: Id = field(validator=checks.an_id)
    connection_id: Id = field(validator=checks.an_id)
    group_id: Id | None = field(default=None, kw_only=True, validator=checks.an_optional_id)
    message_id: Id | None = field(default=None, kw_only=True, validator=checks.an_optional_message_id)
    sent_at: datetime | None = field(default=None, kw_only=True, converter=_sent_at)
    unread_messages: int | None = field(default=None, kw_only=True, validator=checks.an_optional_count)
    kind: MessageKind = field(default=MessageKind.MESSAGE, kw_only=True, converter=_kind)
    data: Any = field(default=None, kw_only=True, eq=False, repr=False, hash=False)

    def __attrs_post_init__(self) -> None:
        # Every message is asked for its key, and the first look at a cached property is a long one.
        object.__setattr__(self, "key", self._key())

    @cached_property
    def key(self) -> TicketKey:
        """The key of the message: in a group chat the contact of the key is the group."""
        return self._key()

    def _key(self) -> TicketKey:
        contact_id = self.contact_id if self.group_id is None else self.group_id
        return trusted_key(self.company_id, contact_id, self.connection_id)

    @property
    def is_group(self) -> bool:
        """Whether it was written in a group chat."""
        return self.group_id is not None


@frozen(weakref_slot=False)
class Ticket:
    """A ticket as it was when it was read: a snapshot, never the row itself.

    Args:
        id: the host's id of the row.
        company_id: the tenant.
        contact_id: the person, or the group chat.
        connection_id: the address of the company.
        status: the host's word; its `StatusScheme` tells whether it is active.
        is_group: whether the contact is a group chat.
        unread_messages: how many messages nobody of the desk has read.
        user_id: the agent who has it, if any.
        queue_id: the queue it waits in, if any.
        created_at: when it was created.
        updated_at: when it was last touched: what "most recently active" goes by; of a table that keeps no such time,
            when it was created.
        closed_at: when it was closed; None while it is active.
        change: what the call of the router that returned it has changed, for the host to tell others once it has
            committed; None where nothing was changed. It has no part in equality.

    Raises:
        InvalidMessageError: if a field is not valid.
    """

    id: Id = field(validator=checks.an_id)
    company_id: Id = field(validator=checks.an_id)
    contact_id: Id = field(validator=checks.an_id)
    connection_id: Id = field(validator=checks.an_id)
    status: str = field(validator=checks.a_status)
    is_group: bool = field(validator=checks.a_bool)
    unread_messages: int = field(validator=checks.a_stored_count)
    user_id: Id | None = field(validator=checks.an_optional_id)
    queue_id: Id | None = field(validator=checks.an_optional_id)
    created_at: datetime = field(converter=_created_at)
    updated_at: datetime = field(converter=_updated_at)
    closed_at: datetime | None = field(default=None, converter=_closed_at)
    change: Change | None = field(default=None, kw_only=True, eq=False, repr=False)

    @property
    def key(self) -> TicketKey:
        """What at most one active ticket exists for."""
        return trusted_key(self.company_id, self.contact_id, self.connection_id)

    def has_changed_since(self, seen: Ticket) -> bool:
        """Tell whether status or time are other than they were seen, or more is unread: a column may keep whole seconds."""
        if (self.status, self.updated_at) != (seen.status, seen.updated_at):
            return True
        return self.unread_messages > seen.unread_messages


@frozen
class Change:
    """What one call has changed of a ticket: an event as a value, to be told after the host's own commit.

    What was before is None for a ticket that has just been created.

    Args:
        created: whether the ticket is new.
        old_status: its status before.
        new_status: its status now.
        old_connection_id: its connection before.
        new_connection_id: its connection now.
        old_user_id: its agent before, if any.
        new_user_id: its agent now, if any.
        old_queue_id: its queue before, if any.
        new_queue_id: its queue now, if any.
    """

    created: bool
    old_status: str | None
    new_status: str
    old_connection_id: Id | None
    new_connection_id: Id
    old_user_id: Id | None
    new_user_id: Id | None
    old_queue_id: Id | None
    new_queue_id: Id | None

    @classmethod
    def between(cls, before: Ticket | None, after: Ticket) -> Change:
        """Return what lies between a ticket as it was seen and as it is now; None: it was not there before."""
        return cls(
            created=before is None,
            old_status=None if before is None else before.status,
            new_status=after.status,
            old_connection_id=None if before is None else before.connection_id,
            new_connection_id=after.connection_id,
            old_user_id=None if before is None else before.user_id,
            new_user_id=after.user_id,
            old_queue_id=None if before is None else before.queue_id,
            new_queue_id=after.queue_id,
        )


trusted_ticket: type[Ticket] = unchecked(Ticket)
"""Makes the ticket of a row, whose values need no checking: times in UTC."""


def bumped(ticket: Ticket, unread_messages: int, updated_at: datetime) -> Ticket:
    """Return the ticket with another count and time of the last change, in UTC."""
    return trusted_ticket(
        ticket.id,
        ticket.company_id,
        ticket.contact_id,
        ticket.connection_id,
        ticket.status,
        ticket.is_group,
        unread_messages,
        ticket.user_id,
        ticket.queue_id,
        ticket.created_at,
        updated_at,
        ticket.closed_at,
    )


_NAMES = [each.name for each in fields(Ticket)]
_values_of = attrgetter(*_NAMES)


def altered(ticket: Ticket, **changes: Any) -> Ticket:
    """Return the ticket with other values that need no checking: what `evolve` does, and checks."""
    return trusted_ticket(**(dict(zip(_NAMES, _values_of(ticket), strict=True)) | changes))


def as_tuple(tickets: Iterable[Ticket]) -> tuple[Ticket, ...]:
    """Return the tickets as a value that nobody can change."""
    return tuple(tickets)


def newest(tickets: Sequence[Ticket]) -> Ticket | None:
    """Return the first of `newest_first`; None: there is none."""
    if len(tickets) > 1:
        return max(tickets, key=_recency)
    return tickets[0] if tickets else None


def newest_first(tickets: Iterable[Ticket]) -> list[Ticket]:
    """Sort tickets by who was active most recently.

    Args:
        tickets: any tickets, in any order.

    Returns:
        The last touched first; among equals the highest id first.
    """
    return sorted(tickets, key=_recency, reverse=True)


def elsewhere(tickets: Iterable[Ticket], connection_id: Id) -> tuple[Ticket, ...]:
    """Return those on other connections, newest first."""
    others = [ticket for ticket in tickets if ticket.connection_id != connection_id]
    return tuple(newest_first(others) if len(others) > 1 else others)


def _recency(ticket: Ticket) -> tuple[datetime, int, Id]:
    return (ticket.updated_at, *id_order(ticket.id))


def id_order(value: Id) -> tuple[int, Id]:
    """Return a sort key that orders ids of any type: numbers, then texts, then UUIDs."""
    match value:
        case int():
            return 0, value
        case str():
            return 1, value
        case _:
            return 2, value


def key_order(key: TicketKey) -> tuple[tuple[int, Id], ...]:
    """Return a sort key that orders keys: who writes several in this order never waits in a circle."""
    return id_order(key.company_id), id_order(key.contact_id), id_order(key.connection_id)


def _words(name: str, value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidMessageError(name, value, "a set of words, not one word")
    words = list(value)
    for word in words:
        checks.check_status(name, word)
    return frozenset(words)


def _active(value: Iterable[str]) -> frozenset[str]:
    words = _words("active", value)
    if not words:
        raise InvalidMessageError("active", value, "at least one word")
    return words


def _also_closed(value: Iterable[str]) -> frozenset[str]:
    return _words("also_closed", value)


def _final(value: Iterable[str]) -> frozenset[str]:
    return _words("final", value)


def _wakes(value: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidMessageError("wakes", value, "a mapping of active words to active words")
    words = dict(value)
    for word in (*words, *words.values()):
        checks.check_status("wakes", word)
    return MappingProxyType(words)


@frozen
class StatusScheme:
    """The host's words for the statuses of a ticket; whatever is not active is closed.

    A word that it does not know is closed too, and no message reopens such a ticket: what the word means, only the
    host can say.

    Args:
        active: the words of a ticket that holds its key.
        initial: the word of a new ticket.
        initial_group: the word of a group chat's new ticket; None: as `initial`.
        reopened: the word of a ticket that a message has reopened.
        accepted: the word of a ticket that an agent has taken.
        closed: the word that closing gives.
        also_closed: the other words of closed tickets that a message may reopen.
        final: the words of closed tickets that no message ever reopens, as spam, or merged into another one; who names
            such a ticket may, as the desk does.
        wakes: which active word becomes which when a message that may open a ticket joins one, as
            `{"snoozed": "open"}`; a word that a message wakes to is none that a message wakes.

    Raises:
        InvalidMessageError: if a word is empty, or stands on two sides: active, closed, final; or if a word that wakes,
            or that one wakes to, is not active, or is both.
    """

    active: frozenset[str] = field(default=frozenset({"open", "pending"}), converter=_active)
    initial: str = field(default="pending", validator=checks.a_status)
    initial_group: str | None = field(default=None, validator=optional(checks.a_status))
    reopened: str = field(default="pending", validator=checks.a_status)
    accepted: str = field(default="open", validator=checks.a_status)
    closed: str = field(default="closed", validator=checks.a_status)
    also_closed: frozenset[str] = field(default=frozenset(), converter=_also_closed)
    final: frozenset[str] = field(default=frozenset(), converter=_final)
    wakes: Mapping[str, str] = field(default=MappingProxyType({}), converter=_wakes, hash=False)

    def __attrs_post_init__(self) -> None:
        words = ", ".join(sorted(self.active))
        for name in ("initial", "initial_group", "reopened", "accepted"):
            word = getattr(self, name)
            if word is not None and word not in self.active:
                raise InvalidMessageError(name, word, f"one of the active statuses ({words})")
        if self.closed in self.active:
            raise InvalidMessageError("closed", self.closed, f"none of the active statuses ({words})")
        for word in sorted(self.also_closed & self.active):
            raise InvalidMessageError("also_closed", word, f"none of the active statuses ({words})")
        for word in sorted(self.final & (self.active | self.reopenable)):
            raise InvalidMessageError("final", word, "a word that is not active, closed or also_closed too")
        for word in sorted({*self.wakes, *self.wakes.values()} - self.active):
            raise InvalidMessageError("wakes", word, f"one of the active statuses ({words})")
        for word in sorted(self.wakes.keys() & {*self.wakes.values()}):
            raise InvalidMessageError("wakes", word, "either a word that wakes or one that it wakes to")

    def __reduce__(self) -> tuple[type[StatusScheme], tuple[object, ...]]:
        # A mapping proxy can be neither pickled nor copied; what it shows can.
        words = [getattr(self, each.name) for each in fields(StatusScheme)]
        return type(self), (*words[:-1], dict(self.wakes))

    @property
    def reopenable(self) -> frozenset[str]:
        """The words of closed tickets that a message may reopen."""
        return self.also_closed | {self.closed}

    @property
    def known(self) -> frozenset[str]:
        """Every word that a ticket may have."""
        return self.active | self.reopenable | self.final

    def is_active(self, status: str) -> bool:
        """Tell whether a ticket of this status holds its key."""
        return status in self.active

    def is_reopenable(self, status: str) -> bool:
        """Tell whether a message may reopen a ticket of this status: an unknown word is closed, and stays so."""
        return status == self.closed or status in self.also_closed

    def woken(self, status: str) -> str:
        """Return the word that an active ticket of this status has once a message has joined that wakes it."""
        return self.wakes.get(status, status)

    def wakes_alike(self, seen: str, now: str) -> bool:
        """Tell whether a message that wakes does to a ticket as it is now what it would have done to it as it was seen.

        Args:
            seen: the status that it had.
            now: the status that it has.
        """
        return seen == now or not self.wakes.keys() & {seen, now}

    def of_new(self, *, is_group: bool, accepted: bool) -> str:
        """Return the word of a new ticket."""
        if accepted:
            return self.accepted
        return self.initial_group if is_group and self.initial_group is not None else self.initial

    def of_reopened(self, *, accepted: bool) -> str:
        """Return the word of a reopened ticket."""
        return self.accepted if accepted else self.reopened


@frozen(weakref_slot=False)
class Resolution:
    """What became of a message, and why.

    Args:
        outcome: what became of it.
        reason: the rule that decided.
        other_active: what the contact has active on other connections, newest first: a report, no cause.
        ticket: the message's ticket; None only for an ignored message.
        before: the ticket as it was seen, where the message has reopened or woken it; it has no part in equality.
    """

    outcome: Outcome
    reason: Reason
    other_active: tuple[Ticket, ...] = field(default=(), converter=as_tuple)
    _ticket: Ticket | None = field(default=None, alias="ticket")
    _before: Ticket | None = field(default=None, alias="before", eq=False, repr=False)

    @property
    def ticket(self) -> Ticket:
        """The ticket of the message, as it was after the message.

        Raises:
            NoTicketError: if the message was ignored.
        """
        if self._ticket is None:
            raise NoTicketError(f"the message has no ticket: it was ignored ({self.reason})")
        return self._ticket

    @property
    def change(self) -> Change | None:
        """What the message has changed of its ticket, besides counting; None if it was ignored or a duplicate."""
        match self.outcome:
            case Outcome.IGNORED | Outcome.DUPLICATE:
                return None
            case Outcome.CREATED:
                return Change.between(None, self.ticket)
            case Outcome.REUSED:
                # A message that joins a ticket leaves all of it as it is but the count and the time, unless it wakes it.
                return Change.between(self._before or self.ticket, self.ticket)
            case Outcome.REOPENED:
                return Change.between(self._before, self.ticket)
            case _:
                assert_never(self.outcome)


trusted_resolution: type[Resolution] = unchecked(Resolution)
