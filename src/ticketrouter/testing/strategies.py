"""Hypothesis strategies for messages, tickets, policies and logs, smallest first.

Law of this file: ids, times and settings come from few values on purpose, since what is interesting happens where
two of them meet. The strategies whose name begins with `any` draw from all that is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from hypothesis import strategies as st

from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.decisions import Snapshot
from ticketrouter.model import InboundMessage, MessageKind, StatusScheme, Ticket, TicketKey, UniqueRule
from ticketrouter.moves import OnCollision
from ticketrouter.testing.model import Plan

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

STATUSES = StatusScheme()
"""The words of a ticket that is drawn here, unless others are given."""
CLOSED = ("closed", "rating")
"""The words of closed tickets; the second is one that the scheme does not know."""

# --- ids ------------------------------------------------------------------------------------------------------


def texts(longest: int) -> st.SearchStrategy[str]:
    """Texts that every database takes."""
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=longest)


any_ids: st.SearchStrategy[int | str | UUID] = st.one_of(
    st.integers(-(2**63), 2**63 - 1), texts(250), st.uuids()
)
"""Every id that is valid."""

ids: st.SearchStrategy[Any] = st.sampled_from([1, 2, "1", UUID(int=1)])
"""Few ids, among them some that are alike and yet different."""

companies: st.SearchStrategy[int] = st.sampled_from([1, 2])
contacts: st.SearchStrategy[int] = st.sampled_from([1, 2])
connections: st.SearchStrategy[int] = st.sampled_from([1, 2, 3])
users: st.SearchStrategy[int] = st.sampled_from([1, 2])
group_ids: st.SearchStrategy[int | None] = st.sampled_from([None, 9])
message_ids: st.SearchStrategy[str] = st.sampled_from(["a", "b", "c", "d"])
alike_message_ids: st.SearchStrategy[Any] = st.sampled_from(["a", "A", 1, "1"])
"""Few message ids, of which some database takes two for the same."""
perhaps_message_ids: st.SearchStrategy[str | None] = st.none() | message_ids

two_contacts: st.SearchStrategy[tuple[int, int]] = st.sampled_from([*permutations([1, 2, 9], 2)])
"""One contact and another one; 9 is a group."""
two_connections: st.SearchStrategy[tuple[int, int]] = st.sampled_from([*permutations([1, 2, 3], 2)])
"""One connection and another one."""
on_collision: st.SearchStrategy[OnCollision] = st.just(OnCollision.KEEP_NEWEST) | st.sampled_from(OnCollision)

keys: st.SearchStrategy[TicketKey] = st.builds(TicketKey, companies, contacts, connections)

# --- times ----------------------------------------------------------------------------------------------------

any_instants: st.SearchStrategy[datetime] = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)
"""Instants in any time zone."""

spans: st.SearchStrategy[timedelta] = st.one_of(
    st.sampled_from([timedelta(0), HOUR, HOUR + timedelta(microseconds=1), 2 * HOUR]),
    st.sampled_from([HOUR, 2 * HOUR]),
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
"""How long something took, or may take."""

moments: st.SearchStrategy[datetime] = spans.map(lambda span: NOW - span)
"""The past, up to now."""

times_of_sending: st.SearchStrategy[datetime | None] = st.one_of(
    st.none(), moments, spans.map(lambda span: NOW + span)
)
"""What a message says of when it was sent: nothing, the past, or the future."""

# --- messages -------------------------------------------------------------------------------------------------

kinds: st.SearchStrategy[MessageKind] = st.just(MessageKind.MESSAGE) | st.sampled_from(MessageKind)
booleans: st.SearchStrategy[bool] = st.booleans()
sometimes: st.SearchStrategy[bool] = st.sampled_from([False, False, True])
unique_rules: st.SearchStrategy[UniqueRule] = st.sampled_from(UniqueRule)
all_scopes: st.SearchStrategy[Scope] = st.sampled_from(Scope)


def messages(
    *,
    kinds: st.SearchStrategy[MessageKind] = kinds,
    with_ids: st.SearchStrategy[Any] = perhaps_message_ids,
) -> st.SearchStrategy[InboundMessage]:
    """Messages of few companies, contacts and connections."""
    return st.builds(
        InboundMessage,
        company_id=companies,
        contact_id=contacts,
        connection_id=connections,
        group_id=group_ids,
        message_id=with_ids,
        sent_at=times_of_sending,
        unread_messages=st.none() | st.integers(0, 3),
        kind=kinds,
    )


any_messages: st.SearchStrategy[InboundMessage] = st.builds(
    InboundMessage,
    company_id=any_ids,
    contact_id=any_ids,
    connection_id=any_ids,
    group_id=st.none() | any_ids,
    message_id=st.none() | any_ids | texts(1000),
    sent_at=st.none() | any_instants,
    unread_messages=st.none() | st.integers(0, 1_000_000_000),
    kind=st.sampled_from(MessageKind),
)
"""Messages of any ids and times."""

# --- tickets --------------------------------------------------------------------------------------------------


@st.composite
def tickets(
    draw: st.DrawFn,
    *,
    ids: st.SearchStrategy[Any] = ids,
    keys: st.SearchStrategy[TicketKey] = keys,
    active: st.SearchStrategy[bool] = booleans,
    statuses: StatusScheme = STATUSES,
    closed: Sequence[str] = CLOSED,
) -> Ticket:
    """Tickets as a lawful repository would give them: `closed_at` is None exactly while one is active."""
    key, is_active, updated_at = draw(keys), draw(active), draw(moments)
    return Ticket(
        id=draw(ids),
        company_id=key.company_id,
        contact_id=key.contact_id,
        connection_id=key.connection_id,
        status=draw(st.sampled_from(sorted(statuses.active) if is_active else closed)),
        is_group=draw(st.booleans()),
        unread_messages=draw(st.integers(0, 3)),
        user_id=draw(st.none() | users),
        queue_id=draw(st.none() | users),
        created_at=NOW - timedelta(days=9),
        updated_at=updated_at,
        closed_at=None if is_active else draw(st.just(updated_at) | moments),
    )


def lists_of_tickets(
    unique_rule: UniqueRule,
    keys: st.SearchStrategy[TicketKey] = keys,
    active: st.SearchStrategy[bool] = booleans,
    at_least: int = 0,
    statuses: StatusScheme = STATUSES,
    closed: Sequence[str] = CLOSED,
) -> st.SearchStrategy[list[Ticket]]:
    """Tickets that may stand together in a table with that unique rule."""
    each = tickets(ids=st.integers(1, 99), keys=keys, active=active, statuses=statuses, closed=closed)
    several = st.lists(each, min_size=at_least, max_size=6, unique_by=_id)
    return several.map(lambda found: lawful(found, unique_rule, statuses))


def _id(ticket: Ticket) -> object:
    return ticket.id


def lawful(
    found: Iterable[Ticket], unique_rule: UniqueRule, statuses: StatusScheme = STATUSES
) -> list[Ticket]:
    """Leave out the tickets beside which the unique rule allows an earlier one only."""
    places: set[object] = set()
    kept: list[Ticket] = []
    for ticket in found:
        place: object
        match unique_rule:
            case UniqueRule.NONE:
                place = ticket.id
            case UniqueRule.ACTIVE_PER_CONNECTION:
                place = ticket.key if statuses.is_active(ticket.status) else ticket.id
            case UniqueRule.ONE_PER_CONNECTION:
                place = ticket.key
            case UniqueRule.ONE_PER_CONTACT:
                place = (ticket.company_id, ticket.contact_id)
        if place not in places:
            places.add(place)
            kept.append(ticket)
    return kept


# --- choices --------------------------------------------------------------------------------------------------

reopens: st.SearchStrategy[Reopen] = st.builds(
    Reopen,
    st.one_of(st.none(), spans, st.just(timedelta.max)),
    keep_user=st.booleans() | st.frozensets(users, max_size=2),
    keep_queue=st.booleans(),
)
effects: st.SearchStrategy[dict[MessageKind, Effect]] = st.just({}) | st.dictionaries(
    st.sampled_from(MessageKind), st.sampled_from(Effect)
)


def policies(scopes: st.SearchStrategy[Scope] = all_scopes) -> st.SearchStrategy[Policy]:
    """Policies of these scopes, with and without a policy of their own for groups."""
    queues = st.none() | users
    plain = st.builds(Policy, scopes, reopens, st.none(), effects, queues)
    return st.builds(Policy, scopes, reopens, st.none() | plain, effects, queues)


any_policies: st.SearchStrategy[Policy] = policies()
one_connection_each: st.SearchStrategy[Policy] = policies(st.just(Scope.CONNECTION))
"""Policies under which a contact has one conversation per connection, in groups too."""

plans: st.SearchStrategy[Plan] = st.builds(
    Plan,
    st.booleans(),
    st.sampled_from([None, HOUR, 2 * HOUR, timedelta.max]),
    st.booleans() | st.frozensets(users, max_size=2),
    st.booleans(),
    st.sampled_from([frozenset({"message"}), frozenset({"message", "echo"}), frozenset({"echo", "notice"})]),
    st.none() | users,
)
"""What the model of the state machine knows as a policy."""

# --- situations -----------------------------------------------------------------------------------------------


@frozen
class Situation:
    """All that decide() is told."""

    message: InboundMessage
    snapshot: Snapshot
    policy: Policy
    now: datetime


def snapshot_of(
    found: Iterable[Ticket],
    message: InboundMessage,
    policy: Policy,
    unique_rule: UniqueRule,
    routed: Ticket | None = None,
) -> Snapshot:
    """Return what a lawful repository that holds these tickets of the contact finds for a message."""
    found = list(found)
    by_contact = policy.of(message).scope is Scope.CONTACT
    closed = [
        ticket
        for ticket in found
        if not STATUSES.is_active(ticket.status) and (by_contact or ticket.key == message.key)
    ]
    known = [ticket for ticket in closed if STATUSES.is_reopenable(ticket.status)]
    last = max(closed, key=_closing, default=None)
    in_the_way = [
        ticket for ticket in found if unique_rule is UniqueRule.ONE_PER_CONTACT or ticket.key == message.key
    ]
    return Snapshot(
        active=tuple(ticket for ticket in found if STATUSES.is_active(ticket.status)),
        latest_closed=max(known, key=_closing, default=None),
        occupant=in_the_way[0]
        if in_the_way and unique_rule in {UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT}
        else None,
        routed=routed,
        unique_rule=unique_rule,
        unknown=None if last is None or STATUSES.is_reopenable(last.status) else last,
    )


def _closing(ticket: Ticket) -> tuple[datetime, Any]:
    return ticket.closed_at or ticket.updated_at, ticket.id


@st.composite
def situations(
    draw: st.DrawFn,
    *,
    policies: st.SearchStrategy[Policy] = any_policies,
    unique_rules: st.SearchStrategy[UniqueRule] = unique_rules,
    routed: st.SearchStrategy[bool] = sometimes,
) -> Situation:
    """Situations whose snapshot is as a lawful repository would give it."""
    message, policy, unique_rule = draw(messages()), draw(policies), draw(unique_rules)
    key = message.key
    near = st.just(key.connection_id) | connections
    same_contact = st.builds(TicketKey, st.just(key.company_id), st.just(key.contact_id), near)
    active = draw(st.sampled_from([booleans, st.just(False)]))
    at_least = draw(st.sampled_from([0, 1, 3]))
    found = draw(lists_of_tickets(unique_rule, same_contact, active, at_least))
    before = draw(st.sampled_from(found)) if found and message.message_id and draw(routed) else None
    return Situation(message, snapshot_of(found, message, policy, unique_rule, before), policy, NOW)


# --- logs -----------------------------------------------------------------------------------------------------


@frozen
class Receive:
    """A message comes in."""

    message: InboundMessage


@frozen
class Open:
    """An agent, or the desk's code, opens a ticket."""

    key: TicketKey
    user_id: int | None


@frozen
class Accept:
    """An agent accepts one of the company's tickets: the nth, counted round."""

    company_id: int
    nth: int
    user_id: int


@frozen
class Close:
    """One of the company's tickets is closed."""

    company_id: int
    nth: int


@frozen
class ReopenTicket:
    """One of the company's tickets is reopened."""

    company_id: int
    nth: int


@frozen
class Transfer:
    """One of the company's tickets goes to another connection."""

    company_id: int
    nth: int
    connection_id: int


@frozen
class Wait:
    """Time goes by."""

    span: timedelta


Act: TypeAlias = Receive | Open | Accept | Close | ReopenTicket | Transfer
Operation: TypeAlias = Act | Wait


nth: st.SearchStrategy[int] = st.integers(0, 7)
closings: st.SearchStrategy[Close] = st.builds(Close, companies, nth)
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Receive, messages()),
    st.builds(Receive, messages()),
    st.builds(Open, keys, st.none() | users),
    st.builds(Accept, companies, nth, users),
    closings,
    st.builds(ReopenTicket, companies, nth),
    st.builds(Transfer, companies, nth, connections),
    st.builds(Wait, spans),
)
"""Everything that can happen at a desk."""

logs: st.SearchStrategy[list[Operation]] = st.lists(operations, max_size=8) | st.lists(
    operations, min_size=10, max_size=40
)
"""Sequences of operations, short and long."""
