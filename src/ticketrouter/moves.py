"""Merging two contacts, and moving everything of one connection to another: the plan of it.

Law of this file: as in `ticketrouter.policy`, values and pure functions. A plan says which tickets are closed and
why, and which are re-pointed; closing comes first, so that no key ever has two active tickets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from attrs import Attribute, evolve, field, frozen

from ticketrouter import checks
from ticketrouter.checks import Id
from ticketrouter.errors import ActiveTicketExistsError, BlockedBySchemaError, InvalidMessageError
from ticketrouter.model import StatusScheme, Ticket, TicketKey, UniqueRule, as_tuple, newest_first

__all__ = ["Closing", "KeyPart", "Move", "MovePlan", "OnCollision", "Survey", "plan_move"]


class OnCollision(StrEnum):
    """What becomes of active tickets that would share one key."""

    KEEP_NEWEST = "keep_newest"
    """The most recently active one stays, ties to the highest id; the others are closed."""
    KEEP_ACCEPTED = "keep_accepted"
    """One that an agent has stays: one with a user; of several, or of none, one whose status is the accepted one, where that
    is not what a new ticket begins with; then the most recently active one. The others are closed."""
    CLOSE_ALL = "close_all"
    """All of them are closed; the next message opens a new one, or reopens by its policy."""
    REFUSE = "refuse"
    """The whole move is refused; nothing is written."""


def as_on_collision(value: OnCollision | str) -> OnCollision:
    """Return the choice that the value is, or is the word of; refuse any other."""
    return checks.as_member("on_collision", OnCollision, value)


class KeyPart(StrEnum):
    """What of the tickets' keys a move changes; the values are the names of its fields."""

    CONTACT = "contact_id"
    CONNECTION = "connection_id"


def _another(move: Move, attribute: Attribute[Id], value: Id) -> None:
    checks.an_id(move, attribute, value)
    if value == move.source_id:
        raise InvalidMessageError(attribute.name, value, "another one than source_id")


@frozen
class Move:
    """All tickets of one contact, or on one connection, become another one's.

    Args:
        part: whether contacts or connections are meant.
        company_id: the tenant.
        source_id: the contact or connection that has none afterwards.
        target_id: the one that has them.

    Raises:
        InvalidMessageError: if an id is not valid, or source and target are the same.
    """

    part: KeyPart
    company_id: Id = field(validator=checks.an_id)
    source_id: Id = field(validator=checks.an_id)
    target_id: Id = field(validator=_another)

    def concerns(self, key: TicketKey) -> bool:
        """Tell whether a ticket of this key is moved."""
        return key.company_id == self.company_id and getattr(key, self.part) == self.source_id

    def after(self, key: TicketKey) -> TicketKey:
        """Return the key that a ticket of this key has afterwards."""
        if not self.concerns(key):
            return key
        match self.part:
            case KeyPart.CONTACT:
                return evolve(key, contact_id=self.target_id)
            case KeyPart.CONNECTION:
                return evolve(key, connection_id=self.target_id)
            case _:
                assert_never(self.part)


def _as_ids(values: Iterable[Id]) -> tuple[Id, ...]:
    return tuple(values)


@frozen
class Survey:
    """What a repository found of a move.

    Args:
        ticket_ids: every ticket of the source, active or closed.
        rivals: the active tickets, of source and target, whose key would be another one's too; in any order. A
            repository may add others, which are left alone.
        occupant: a row of the target beside which the host's unique rule has no room for one of the source, and
            which no closing would take out of the way.
        unique_rule: what the host's schema enforces.
    """

    ticket_ids: tuple[Id, ...] = field(default=(), converter=_as_ids)
    rivals: tuple[Ticket, ...] = field(default=(), converter=as_tuple)
    occupant: Ticket | None = None
    unique_rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION


@frozen
class Closing:
    """A ticket that is closed to make room.

    Args:
        ticket: the ticket as it was seen.
        kept: the ticket that keeps the key, and takes up the count of the closed one as it is when that is closed; None:
            every ticket there is closed.
    """

    ticket: Ticket
    kept: Ticket | None


@frozen
class MovePlan:
    """What a move does: first the closing, then the re-pointing.

    Args:
        move: what is moved where.
        at: when.
        closes: the tickets that are closed to make room, and for which.
        repoints: the ids of all tickets of the source, which become the target's: the closed ones too, because a
            contact's or connection's history goes with it.
    """

    move: Move
    at: datetime
    closes: tuple[Closing, ...] = ()
    repoints: tuple[Id, ...] = ()


def plan_move(
    move: Move,
    survey: Survey,
    on_collision: OnCollision,
    now: datetime,
    statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
) -> MovePlan:
    """Plan a move.

    Args:
        move: what is moved where.
        survey: what was found.
        on_collision: what becomes of active tickets that would share a key.
        now: the present, with a time zone.
        statuses: the host's words.

    Returns:
        The plan; it is empty where the source has no tickets.

    Raises:
        BlockedBySchemaError: if the unique rule has no room for the source's tickets beside the target's.
        ActiveTicketExistsError: if tickets would share a key and `on_collision` refuses that; it carries the
            ticket that would stay.
    """
    if survey.occupant is not None:
        raise BlockedBySchemaError(survey.occupant, survey.unique_rule)
    closes = [
        closing
        for rivals in _collisions(move, survey.rivals)
        for closing in _closings(rivals, on_collision, statuses)
    ]
    return MovePlan(move, checks.as_utc("now", now), tuple(closes), survey.ticket_ids)


def _collisions(move: Move, tickets: Iterable[Ticket]) -> Iterator[list[Ticket]]:
    """Yield the tickets that would share a key, newest first; what has nothing to do with the source is left alone."""
    sharing: dict[TicketKey, list[Ticket]] = defaultdict(list)
    for ticket in tickets:
        sharing[move.after(ticket.key)].append(ticket)
    for rivals in sharing.values():
        if len(rivals) > 1 and any(move.concerns(ticket.key) for ticket in rivals):
            yield newest_first(rivals)


def _closings(rivals: list[Ticket], on_collision: OnCollision, statuses: StatusScheme) -> list[Closing]:
    newest, *older = rivals
    match on_collision:
        case OnCollision.KEEP_NEWEST:
            return [Closing(ticket, newest) for ticket in older]
        case OnCollision.KEEP_ACCEPTED:
            kept = max(
                rivals, key=lambda ticket: _at_work(ticket, statuses)
            )  # of equals the first: the newest
            return [Closing(ticket, kept) for ticket in rivals if ticket is not kept]
        case OnCollision.CLOSE_ALL:
            return [Closing(ticket, None) for ticket in rivals]
        case OnCollision.REFUSE:
            raise ActiveTicketExistsError(newest)
        case _:
            assert_never(on_collision)


def _at_work(ticket: Ticket, statuses: StatusScheme) -> tuple[bool, bool]:
    """Tell how surely somebody works on a ticket: a status says so only where no new ticket begins with it."""
    begins = statuses.of_new(is_group=ticket.is_group, accepted=False)
    return ticket.user_id is not None, ticket.status == statuses.accepted != begins
