"""What a host may choose: the scope, the reopen window, the effect of each kind of message, the Policy of all.

Law of this file: choices only. What follows from them stands in `ticketrouter.policy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import optional

from ticketrouter import checks
from ticketrouter.checks import Id
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage, MessageKind


class Scope(StrEnum):
    """Over what a contact has one conversation."""

    CONNECTION = "connection"
    """Over each connection of its own."""
    CONTACT = "contact"
    """Over all connections together; the ticket keeps the connection it has."""


class Effect(StrEnum):
    """What a kind of message may do."""

    OPEN = "open"
    """Create and reopen tickets, and count as unread where the contact speaks (`MessageKind.MESSAGE`)."""
    ATTACH = "attach"
    """Only join an active ticket."""


def _keep_user(value: bool | Iterable[Id]) -> bool | frozenset[Id]:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidMessageError("keep_user", value, "True, False, or the ids of the agents who may keep it")
    ids = list(value)
    for each in ids:
        checks.check_id("keep_user", each)
    return frozenset(ids)


@frozen
class Reopen:
    """When a message reopens the last closed ticket instead of creating one.

    Use `Reopen.never()`, `Reopen.within(timedelta(hours=2))` or `Reopen.always()`.

    Args:
        window: how long after closing; the edge is inclusive; None: never.
        keep_user: whether the agent keeps the ticket; or the ids of the agents who may, as those who are at their desks:
            others lose it.
        keep_queue: whether it stays in its queue; if not, it begins in that of the Policy.

    Raises:
        InvalidMessageError: if the window is no duration, or an agent's id is not valid.
    """

    window: timedelta | None = field(default=None, validator=optional(checks.a_duration))
    keep_user: bool | frozenset[Id] = field(default=False, kw_only=True, converter=_keep_user)
    keep_queue: bool = field(default=True, kw_only=True, validator=checks.a_bool)

    @classmethod
    def never(cls, *, keep_user: bool | Iterable[Id] = False, keep_queue: bool = True) -> Reopen:
        """Never reopen, except where the host's unique rule leaves no other way."""
        return cls(None, keep_user=keep_user, keep_queue=keep_queue)

    @classmethod
    def within(
        cls, window: timedelta, *, keep_user: bool | Iterable[Id] = False, keep_queue: bool = True
    ) -> Reopen:
        """Reopen what was closed at most `window` ago."""
        checks.check_duration("window", window)
        return cls(window, keep_user=keep_user, keep_queue=keep_queue)

    @classmethod
    def always(cls, *, keep_user: bool | Iterable[Id] = False, keep_queue: bool = True) -> Reopen:
        """Reopen at any age."""
        return cls(timedelta.max, keep_user=keep_user, keep_queue=keep_queue)

    def reaches(self, age: timedelta) -> bool:
        """Tell whether a ticket closed `age` ago is reopened."""
        return self.window is not None and age <= self.window

    def keeps(self, user_id: Id | None) -> bool:
        """Tell whether this agent keeps a ticket that is reopened."""
        return self.keep_user if isinstance(self.keep_user, bool) else user_id in self.keep_user


_DEFAULT_EFFECTS = {
    MessageKind.MESSAGE: Effect.OPEN,
    MessageKind.ECHO: Effect.ATTACH,
    MessageKind.NOTICE: Effect.ATTACH,
}


def _complete(effects: Mapping[MessageKind, Effect]) -> Mapping[MessageKind, Effect]:
    if not isinstance(effects, Mapping):
        raise InvalidMessageError("effects", effects, "a mapping of MessageKind to Effect")
    chosen = {
        checks.as_member("effects", MessageKind, kind): checks.as_member("effects", Effect, effect)
        for kind, effect in effects.items()
    }
    return MappingProxyType(_DEFAULT_EFFECTS | chosen)


def _scope(value: Scope | str) -> Scope:
    return checks.as_member("scope", Scope, value)


def _a_reopen(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, Reopen):
        raise InvalidMessageError(attribute.name, value, "a Reopen, as Reopen.within(timedelta(hours=2)) is")


def _a_policy_of_groups(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, Policy) or value.groups is not None:
        raise InvalidMessageError(attribute.name, value, "a Policy without groups of its own, or None")


@frozen
class Policy:
    """What a host has chosen.

    Args:
        scope: over what a contact has one conversation.
        reopen: when a message reopens the last closed ticket.
        groups: the Policy of group messages; None: the same.
        effects: what each kind of message may do; a kind left out keeps its default (`MESSAGE` opens, `ECHO`
            and `NOTICE` attach).
        queue_id: the queue in which a message's new ticket begins, and a reopened one whose queue is not kept; None: none.

    Raises:
        InvalidMessageError: if a choice is not valid.
    """

    scope: Scope = field(default=Scope.CONNECTION, converter=_scope)
    reopen: Reopen = field(default=Reopen(), validator=_a_reopen)
    groups: Policy | None = field(default=None, validator=optional(_a_policy_of_groups))
    effects: Mapping[MessageKind, Effect] = field(
        default=MappingProxyType(_DEFAULT_EFFECTS), converter=_complete, hash=False
    )

    queue_id: Id | None = field(default=None, validator=checks.an_optional_id)

    def of(self, message: InboundMessage) -> Policy:
        """Return the Policy that holds for this message: `groups` in a group chat, where there is one."""
        return self.groups if self.groups is not None and message.is_group else self

    def effect(self, message: InboundMessage) -> Effect:
        """Return what this message may do."""
        return self.effects[message.kind]

    def __reduce__(self) -> tuple[type[Policy], tuple[object, ...]]:
        # A mapping proxy can be neither pickled nor copied; what it shows can.
        return type(self), (self.scope, self.reopen, self.groups, dict(self.effects), self.queue_id)
