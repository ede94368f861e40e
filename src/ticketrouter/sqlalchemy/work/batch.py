"""Several messages at once: the look at their tickets, and the write of what was decided.

Law of this file: what stands against one of them is not told here, it is left, and told when it goes alone. Every
transaction takes its locks in one order: by steps, and in each step by key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from attrs import frozen
from sqlalchemy import Executable
from sqlalchemy.exc import IntegrityError

from ticketrouter.batch import Joint
from ticketrouter.decisions import Create, Lookup, MessageRef, ReopenTicket, Reuse, Snapshot, applied
from ticketrouter.model import StatusScheme, Ticket, UniqueRule, altered, bumped, id_order, key_order
from ticketrouter.sqlalchemy.claims import Contact
from ticketrouter.sqlalchemy.facts import ElsewhereError
from ticketrouter.sqlalchemy.joins import JoinsOfMany, joining_of
from ticketrouter.sqlalchemy.many import Messages, in_key_order
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.sqlalchemy.whole import all_or_nothing, giving_up
from ticketrouter.sqlalchemy.work import old_reads
from ticketrouter.sqlalchemy.work.claiming import claim, contacts_of, is_guarded
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.sqlalchemy.work.message import check_kept, further_values, left_out, look_for
from ticketrouter.sqlalchemy.work.message_ids import forget, place_of, ref_of, remembers
from ticketrouter.sqlalchemy.work.rivals import is_taken, undoable
from ticketrouter.sqlalchemy.writes import REOPENED, WOKEN

# --- the look ------------------------------------------------------------------------------------------------


def load_many(here: Here, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
    """Find what must be known to decide on several messages: see `Batches.load_many`."""
    refs = [ref for lookup in lookups if (ref := ref_of(lookup)) is not None]
    if refs and not remembers(here):
        refs = []
    if not _takes_many(here, lookups):
        return None
    may_join = all(lookup.join is not None and lookup.message_id is None for lookup in lookups)
    if here.mapping.on_message:
        may_join &= all(lookup.join is not None and lookup.join.message is not None for lookup in lookups)
    joins = here.statements.joins_of_many
    if not may_join or joins is None:
        return _load_many(here, lookups, refs)
    found = _join_many(here, joins, lookups)
    left = [lookup for lookup, each in zip(lookups, found, strict=True) if each is None]
    others = iter(_load_left(here, left))
    return [next(others) if each is None else each for each in found]


def _takes_many(here: Here, lookups: Sequence[Lookup]) -> bool:
    """Tell whether many can be routed at once: else one by one is as good, or needed."""
    # How several messages leave a ticket, one after another, is told by its time, which is not read again.
    if is_autocommit(here.connection) or not here.statements.parts.times.are_known:
        return False
    words = {here.statuses.reopened, *here.statuses.wakes.values()}
    if here.statements.parts.may_leave_out(REOPENED, *words) or not here.many.takes_further:
        return False
    if not all(here.is_about(lookup) for lookup in lookups):
        return False
    return here.statements.rule is not UniqueRule.NONE or is_guarded(here)


def _join_many(here: Here, joins: JoinsOfMany, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
    """Let messages join the tickets of their keys; None: one has to be looked for."""
    joining = joining_of(lookups)
    found = joins.joined(joining, here.look(joins.join(joining, here.mapping.on_message)).all())
    if found is None:
        raise here.refusals.swallowed()
    return [found.get(place) for place in range(len(lookups))]


def _load_left(here: Here, lookups: Sequence[Lookup]) -> list[Snapshot]:
    """Look for those who have not joined: one as one who comes alone."""
    if len(lookups) > 1:
        return _look_for_many(here, lookups, ())
    return [look_for(here, lookup) for lookup in lookups]


def _load_many(here: Here, lookups: Sequence[Lookup], refs: Sequence[MessageRef]) -> list[Snapshot] | None:
    contacts = contacts_of(lookups)
    old = here.statements.old_reads
    if old is not None:
        look = partial(_look_for_many, here, lookups, refs)
        return old_reads.look_for_many(here, old, lookups, contacts, look)
    if here.statements.rule is UniqueRule.NONE:
        claim(here, contacts)
    return _look_for_many(here, lookups, refs)


def _look_for_many(here: Here, lookups: Sequence[Lookup], refs: Sequence[MessageRef]) -> list[Snapshot]:
    many, contacts = here.many, contacts_of(lookups)
    reopening = contacts_of(lookup for lookup in lookups if lookup.closed)
    occupying = many.occupying(contacts)
    active = _active(here, contacts)
    closed = here.tickets(many.closed(reopening)) if reopening else []
    strange = contacts_of(each for each in closed if not here.statuses.is_reopenable(each.status))
    return many.snapshots(
        lookups,
        active=active,
        closed=closed,
        known=here.tickets(many.closed(strange, known=True)) if strange else [],
        occupying=[] if occupying is None else here.tickets(occupying),
        routed=_routed(here, refs),
        remembers=here.statements.mapping.remember_messages,
    )


def _active(here: Here, contacts: set[Contact]) -> list[Ticket]:
    rows = here.look(here.many.active(contacts)).all()
    id_place = here.statements.values.fields.index("id")
    if any(row[id_place] is None for row in rows):
        raise ElsewhereError
    return here.many.tickets(rows)


def _routed(here: Here, refs: Sequence[MessageRef]) -> dict[Any, Ticket]:
    if not refs:
        return {}
    rows = here.execute(here.many.routed(refs)).all()
    tickets = here.many.tickets(row[3:] for row in rows)
    found = {tuple(row[:3]): ticket for row, ticket in zip(rows, tickets, strict=True)}
    return old_reads.recorded(here, refs, found)


# --- the write -----------------------------------------------------------------------------------------------


@frozen
class _Closed:
    """A ticket that a Joint of a batch reopens, as it is now."""

    place: int
    ticket: Ticket
    decision: ReopenTicket
    messages: Messages


def commit_many(here: Here, joints: Sequence[Joint]) -> list[Ticket | None]:
    """Carry out several decisions: see `Batches.commit_many`."""
    if any(joint.message_refs for joint in joints):
        remembers(here)  # refused, if at all, before anything is written
    for joint in joints:
        check_kept(here, joint.first)
    here.check_transaction("a batch")
    # A new ticket without a message id is whole by itself.
    alone = all(isinstance(joint.first, Create) and not joint.message_refs for joint in joints)
    with nullcontext() if alone else all_or_nothing(here.connection):
        return _write_many(here, joints)


def _write_many(here: Here, joints: Sequence[Joint]) -> list[Ticket | None]:
    # Every transaction takes its locks in this order, and in each step by key: known tickets, as `load_many` has
    # done before, new ones, message ids.
    known = _lock_many(here, joints)
    created = _create_many(here, joints)
    for place in _record_many(here, joints, created | known):
        if place in created:
            here.execute(here.statements.writes.discard(created[place]))
        for found in (created, known):
            found.pop(place, None)
    first = _change_many(here, joints, known) | created
    return [first.get(place) for place in range(len(joints))]


def _lock_many(here: Here, joints: Sequence[Joint]) -> dict[int, Ticket]:
    """Return the known tickets as they are now, where they are still on their keys, and active or closed as decided.

    What a change makes of one without a time of its creation is not known before it is read: its messages go alone.
    """
    seen = {
        joint.first.ticket.id: (place, joint.first)
        for place, joint in enumerate(joints)
        if not isinstance(joint.first, Create)
    }
    if not seen:
        return {}
    rows = here.execute(here.many.locked([decision.ticket for _, decision in seen.values()])).all()
    now = _told(here, [row for row in rows if not here.many.has_no_beginning(row[1:])])
    found = [(*seen[ticket.id], is_active, ticket) for is_active, ticket in now]
    return {
        place: ticket
        for place, decision, is_active, ticket in found
        if ticket.key == decision.ticket.key and is_active == isinstance(decision, Reuse)
        if _may_be_written(here.statuses, joints[place], ticket)
    }


def _may_be_written(statuses: StatusScheme, joint: Joint, now: Ticket) -> bool:
    """Tell whether the word of a ticket is still what was decided upon, to the letter: else it is told when it goes alone."""
    if isinstance(joint.first, ReopenTicket):
        return statuses.is_reopenable(now.status)
    return not statuses.wakes or (now.status in statuses.active and joint.is_as_seen(now.status, statuses))


def _locked(here: Here, tickets: Sequence[Ticket]) -> list[tuple[bool | None, Ticket]]:
    """Return the tickets as they are now, and whether they are active."""
    return _told(here, here.execute(here.many.locked(tickets)).all())


def _told(here: Here, rows: Sequence[Sequence[Any]]) -> list[tuple[bool | None, Ticket]]:
    now = here.many.tickets(row[1:] for row in rows)
    return [(row[0], ticket) for row, ticket in zip(rows, now, strict=True)]


def _create_many(here: Here, joints: Sequence[Joint]) -> dict[int, Ticket]:
    """Create what can be; whatever stands against a ticket is told when its messages go one by one."""
    places = {joints[place].key: place for place in in_key_order(joints, Create)}
    by_columns: dict[tuple[bool, *tuple[str, ...]], list[dict[str, Any]]] = {}
    for place in places.values():
        first = joints[place].first
        if isinstance(first, Create):
            further = further_values(here, first, joints[place].messages)
            values = here.statements.writes.create_joint(joints[place], first, further)
            by_columns.setdefault((first.message is not None, *values), []).append(values)
    made: dict[int, Ticket] = {}
    for (of_message, *_), rows in by_columns.items():
        for row in _made(here, *here.many.created(rows, of_message=of_message)):
            ticket = here.statements.values.ticket(row[: len(here.statements.values.fields)])
            if here.statements.values.has_no_id(row):
                with giving_up(here.connection):
                    raise here.refusals.nameless()
            is_met = here.statements.writes.is_met(row, new=True)
            if (
                not is_met
                or ticket.key not in places
                or not here.statements.mapping.statuses.is_active(ticket.status)
            ):
                # Left out by `where`, spelled otherwise, or made something else of by a trigger: it is told when it
                # goes alone.
                here.execute(here.statements.writes.discard(ticket))
                continue
            place = places[ticket.key]
            joint = joints[place]
            if joint.later:
                ticket = _as_its_first_left(here, joint, ticket)
            made[place] = ticket
    return old_reads.without_rivals(here, made)


def _record_many(here: Here, joints: Sequence[Joint], tickets: Mapping[int, Ticket]) -> set[int]:
    """Record the message ids, and return the Joints of which one was recorded meanwhile, with none left of them."""
    refs = [(ref, place, ticket) for place, ticket in tickets.items() for ref in joints[place].message_refs]
    if not refs or not remembers(here):
        return set()
    refs.sort(key=lambda each: (*key_order(each[0].key)[::2], id_order(each[0].message_id)))
    sent = here.many.recorded([(ref, ticket, joints[place].at) for ref, place, ticket in refs])
    made = {tuple(row) for row in _made(here, *sent)}
    lost = {place for ref, place, _ in refs if place_of(here, ref) not in made}
    for ref, place, _ in refs:
        if place in lost:
            is_made = place_of(here, ref) in made
            here.execute(
                here.statements.messages.forget(ref) if is_made else here.statements.messages.forget_vain(ref)
            )
    return lost


def _made(here: Here, statement: Executable, values: Any) -> list[Sequence[Any]]:
    """Return the rows of an `INSERT` of many that nothing stood against."""
    ask = here.statements.parts.ask_mark
    if ask is not None:
        here.connection.execute(ask)
    return here.many.made(here.connection.execute(statement, values), values)


def _change_many(here: Here, joints: Sequence[Joint], known: Mapping[int, Ticket]) -> dict[int, Ticket]:
    """Reopen or bump tickets that are locked, and return each as its first message leaves it."""
    reopened = _reopen_many(here, joints, known)
    joined = {place: each for place, each in known.items() if isinstance(joints[place].first, Reuse)}
    first = _first_joined(here, joints, joined) | reopened
    last = {
        place: _as_its_last_leaves(here, joints[place], each)
        for place, each in first.items()
        if place in joined or joints[place].later
    }
    # A reopening has written them.
    by = {place: joints[place].messages if place in joined else () for place in last}
    _bump_many(here, last, by, before=joined | reopened)
    return first


def _as_its_first_left(here: Here, joint: Joint, ticket: Ticket) -> Ticket:
    """Return a new ticket as its first message has left it."""
    left = here.statements.parts.times.as_kept(bumped(ticket, joint.first_count(0), joint.first.at))
    if not joint.wakes or not isinstance(joint.first, Create):
        return left
    return altered(
        left, status=here.statuses.of_new(is_group=joint.first.is_group, accepted=joint.first.accepted)
    )


def _as_its_last_leaves(here: Here, joint: Joint, first: Ticket) -> Ticket:
    """Return a ticket as its last message leaves it, from how the first does."""
    count = joint.last_count(first.unread_messages)
    last = here.statements.parts.times.as_kept(bumped(first, count, joint.at))
    return altered(last, status=joint.last_status(first.status, here.statuses)) if joint.wakes else last


def _reopen_many(here: Here, joints: Sequence[Joint], known: Mapping[int, Ticket]) -> dict[int, Ticket]:
    """Reopen what is to be reopened of tickets that are locked; a lost race leaves no message id."""
    closed = [
        _Closed(place, ticket, decision, joints[place].messages)
        for place, ticket in known.items()
        if isinstance(decision := joints[place].first, ReopenTicket)
    ]
    closed.sort(key=lambda each: key_order(each.ticket.key))
    reopened: dict[int, Ticket] = {}
    for some in here.many.at_once(closed):
        reopened |= _reopen_together(here, some)
    lost = [each for each in closed if each.place not in reopened]
    _see_that_they_stay(here, [each.ticket for each in lost])
    forget(here, [ref for each in lost for ref in joints[each.place].message_refs])
    return reopened


def _see_that_they_stay(here: Here, tickets: Sequence[Ticket]) -> None:
    """Raise where a ticket that was locked exists for the desk no more: a trigger may make another word of ours."""
    if not tickets or not here.mapping.may_leave_out(WOKEN):
        return
    if len(_locked(here, tickets)) < len(tickets):
        raise left_out(here)


def _reopen_together(here: Here, closed: Sequence[_Closed]) -> dict[int, Ticket]:
    """Reopen tickets in one statement; where a key is taken, which refuses them all, each half by itself."""
    try:
        with undoable(here):
            return _reopened(here, closed)
    except IntegrityError as error:
        if not is_taken(here, error):
            raise
    if len(closed) == 1:
        return {}  # what stands against it is told when its messages go one by one
    middle = len(closed) // 2
    return _reopen_together(here, closed[:middle]) | _reopen_together(here, closed[middle:])


def _reopened(here: Here, closed: Sequence[_Closed]) -> dict[int, Ticket]:
    many, tickets = here.many, [each.ticket for each in closed]
    messages = [each.messages for each in closed]
    sent = many.reopened([each.decision for each in closed], tickets, here.mapping.on_message, messages)
    result = here.execute(sent)
    if here.statements.parts.returns_updates:
        now = many.tickets(result.all())
    else:
        now = [ticket for is_active, ticket in _locked(here, tickets) if is_active]
    places = {each.ticket.id: each.place for each in closed}
    is_active = here.statements.mapping.statuses.is_active
    return {places[ticket.id]: ticket for ticket in now if is_active(ticket.status)}


def _first_joined(here: Here, joints: Sequence[Joint], joined: Mapping[int, Ticket]) -> dict[int, Ticket]:
    """Return each ticket as its first message leaves it, from what it is now."""
    firsts = ((place, joints[place].first, ticket) for place, ticket in joined.items())
    return {
        place: here.statements.parts.times.as_kept(applied(first, ticket, here.statuses))
        for place, first, ticket in firsts
        if isinstance(first, Reuse)
    }


def _bump_many(
    here: Here, last: Mapping[int, Ticket], by: Mapping[int, Messages], *, before: Mapping[int, Ticket]
) -> None:
    """Write what the last messages leave of tickets that nobody else can write now."""
    if not last:
        return
    places = sorted(last, key=lambda place: key_order(last[place].key))
    wakes = any(last[place].status != before[place].status for place in places)
    tickets, messages = [last[place] for place in places], [by[place] for place in places]
    sending = here.many.bumped(tickets, here.mapping.on_message, messages, wakes=wakes)
    results = (here.execute(sent) for sent in sending)
    changed = (len(each.all()) if each.returns_rows else each.rowcount for each in results)
    if sum(changed) != len(places) and not _are_locked(here, tickets):
        raise here.refusals.swallowed()


def _are_locked(here: Here, tickets: Sequence[Ticket]) -> bool:
    """Tell whether tickets are there, of a database that leaves no row out, and may count none that stays as it is."""
    return not here.statements.parts.returns_updates and len(_locked(here, tickets)) == len(tickets)
