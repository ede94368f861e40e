"""Plain reads that may be old, or dirty: what is done where there are `Statements.old_reads`.

Law of this file: a plain read is trusted where nothing speaks against it, because a locking one keeps others from
inserting; what is locked, and who was overtaken, is noted for as long as the host's transaction lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from attrs import evolve, field, frozen
from sqlalchemy import RootTransaction

from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import Join, Lookup, MessageRef, Reuse, Snapshot, trusted_snapshot
from ticketrouter.errors import ConflictError
from ticketrouter.model import Reason, Ticket, UniqueRule
from ticketrouter.sqlalchemy.claims import Contact
from ticketrouter.sqlalchemy.statements import OldReads
from ticketrouter.sqlalchemy.whole import giving_up
from ticketrouter.sqlalchemy.work.claiming import check_guarded, claim, contacts_of, needs_claim
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.sqlalchemy.work.known_words import in_known_words, of_known_words
from ticketrouter.sqlalchemy.work.message_ids import place_of, ref_of

# --- what goes when a transaction goes -----------------------------------------------------------------------


@frozen(eq=False)
class _Notes:
    """What is noted of a host's transaction."""

    locked: set[Id] = field(factory=set)
    """The ids that a locking read of it has found, ..."""
    overtaken: set[tuple[Any, Any]] = field(factory=set)
    """... and the contacts that others have claimed after its plain reads began to see what they see."""


_noted: WeakKeyDictionary[RootTransaction, _Notes] = WeakKeyDictionary()
_noting = Lock()


def _notes(here: Here) -> _Notes:
    transaction = here.connection.get_transaction()
    if transaction is None:
        return _Notes()
    with _noting:
        return _noted.setdefault(transaction, _Notes())


def must_lock(here: Here, ticket_id: Id, *, seen: bool, current: bool) -> bool:
    """Tell whether a ticket must be read again with a lock: only where it is, as one that misses keeps others out.

    Args:
        here: where.
        ticket_id: the ticket.
        seen: whether a plain read has seen it; if not, the transaction's own snapshot may be older.
        current: whether it must be as it is committed now.
    """
    return current if seen else ticket_id in _notes(here).locked


# --- one message ---------------------------------------------------------------------------------------------


def look_for(here: Here, old: OldReads, lookup: Lookup) -> Snapshot:
    """Return what there is for a message; what is new, or needs a claim, is not only read plainly."""
    if needs_claim(here, lookup):
        check_guarded(here)
        return _claimed_since(here, old, lookup, *_look_versioned(here, old, lookup))
    seen = here.statements.looks.snapshot(here.look(here.statements.looks.load(lookup)).all())
    return _as_it_is_now(here, old, lookup, seen) if lookup.overtaken else _as_seen(here, old, lookup, seen)


def _look_versioned(here: Here, old: OldReads, lookup: Lookup) -> tuple[Snapshot, int | None]:
    """Return what a plain read sees, and the version of the contact's anchor in it."""
    return old.read(here.look(old.versioned(lookup)).all())


def _claimed_since(
    here: Here, old: OldReads, lookup: Lookup, seen: Snapshot, version: int | None
) -> Snapshot:
    """Claim a contact, and return what was seen of it before if nobody has claimed it since, else what is now.

    Thus a new ticket needs no locking read, which would keep others from inserting beside it.
    """
    sent = here.statements.claims.anchor(lookup.company_id, lookup.contact_id)
    written: Sequence[Any]
    *written, now = here.execute(sent).one()
    # As the row has it: where the collation knows no cases, "a" is overtaken with "A".
    contact = written[0], written[1]
    overtaken = _notes(here).overtaken
    if now != (0 if version is None else version + 1):
        # The next look finds what was just written, and beside it still the old rows.
        overtaken.add(contact)
    if lookup.overtaken or contact in overtaken:
        return _as_it_is_now(here, old, lookup, seen)
    return _as_seen(here, old, lookup, seen)


def _as_seen(here: Here, old: OldReads, lookup: Lookup, seen: Snapshot) -> Snapshot:
    """Return what a plain read has seen, but for what nothing would be written upon and may be taken back."""
    ref = ref_of(lookup)
    if lookup.claim and ref is not None and seen.routed is not None and not _is_recorded(here, old, ref):
        seen = evolve(seen, routed=None)
    if lookup.claim and seen.routed is None and _attaches_to_none(lookup, seen):
        now = here.statements.looks.snapshot(here.execute(old.active(lookup))).active
        ids = {ticket.id for ticket in now}
        seen = evolve(seen, active=(*now, *(each for each in seen.active if each.id not in ids)))
    return of_known_words(here, lookup, seen)


def _is_recorded(here: Here, old: OldReads, ref: MessageRef) -> bool:
    """Tell whether a message id is recorded for good; by its primary key, and so with no lock on any other."""
    return here.execute(old.recorded(ref)).first() is not None


def _attaches_to_none(lookup: Lookup, seen: Snapshot) -> bool:
    """Tell whether a message only joins, and nothing was seen that it could."""
    if not lookup.attaches or seen.routed is not None:
        return False
    if lookup.scope is Scope.CONTACT or lookup.connection_id is None:
        return not seen.active
    return seen.active_on(lookup.connection_id) is None


def _as_it_is_now(here: Here, old: OldReads, lookup: Lookup, seen: Snapshot) -> Snapshot:
    active, others, routed = old.current(lookup)
    rows: list[Sequence[Any]] = [*here.execute(active)]
    # Beside an active ticket no other counts; and a look by another index than the rule's would meet the half of
    # a new row whose other half waits for what this look has locked.
    rows += [row for sent in [*routed, *([] if rows else others)] for row in here.execute(sent)]
    current = of_known_words(here, lookup, here.statements.looks.snapshot(rows), now=old)
    # `get` is to find what is locked now, though the transaction's own snapshot is older.
    found = (*current.active, current.latest_closed, current.occupant, current.routed)
    _notes(here).locked.update(ticket.id for ticket in found if ticket is not None)
    return _corrected(seen, current, lookup)


def _corrected(seen: Snapshot, current: Snapshot, lookup: Lookup) -> Snapshot:
    """Return a Snapshot in which what is there now, in scope, replaces what was there when it was taken."""
    elsewhere = (
        ticket
        for ticket in seen.active
        if lookup.scope is Scope.CONNECTION and ticket.connection_id != lookup.connection_id
    )
    return evolve(
        seen,
        active=(*current.active, *elsewhere),
        latest_closed=current.latest_closed,
        occupant=current.occupant,
        routed=current.routed,
        unknown=current.unknown,
    )


def join(here: Here, old: OldReads, lookup: Lookup, joining: Join, *, claims: bool) -> Snapshot | None:
    """Join what a plain read sees, where an `UPDATE` that misses would keep others from inserting; None: look for it.

    Args:
        here: where.
        old: what is sent.
        lookup: what is asked for.
        joining: what the message does to the ticket that it joins.
        claims: whether the contact is to be claimed, where there is none.
    """
    key, rule = lookup.connection_id, here.statements.rule
    if joining.message_ref is not None or key is None or not here.statements.writes.can_reuse_as_seen:
        return None
    version = None
    if claims:
        seen, version = _look_versioned(here, old, lookup)
    else:
        unclaimed = rule is UniqueRule.NONE
        seen = look_for(here, old, evolve(lookup, closed=False, claim=False) if unclaimed else lookup)
    seen = in_known_words(here, seen) if joining.wakes and here.statuses.wakes else seen
    ticket = seen.active_on(key)
    if ticket is not None and joining.wakes and ticket.status in here.statuses.wakes:
        return seen  # whoever wakes it says so: see R3
    if ticket is None and claims:
        return _claimed_since(here, old, lookup, seen, version)
    if ticket is None:
        # Who must claim first has seen nothing that counts.
        return None if rule is UniqueRule.NONE else seen
    decision = Reuse(ticket, joining.at, Reason.ACTIVE_ON_CONNECTION, joining.unread, message=joining.message)
    joined = reused(here, decision)
    if joined is None:
        return None
    return trusted_snapshot(seen.active_elsewhere(key), unique_rule=rule, joined=joined)


def reused(here: Here, decision: Reuse) -> Ticket | None:
    """Reuse a ticket that is as it was seen, which needs no second look; None: it is not, or that cannot be told."""
    as_seen = here.statements.writes.reuse_as_seen(decision, here.mapping.on_message)
    if as_seen is None:
        return None
    sent, ticket = as_seen
    result = here.execute(sent)
    if result.rowcount == 0:
        return None
    here.whole.reached()
    return ticket(result.lastrowid)


def refuse_rival(here: Here, row: Sequence[Any] | None) -> None:
    """Take back a new row beside which another is active on its key: see `Writes.sees_rivals`."""
    if row is None or not here.statements.writes.sees_rivals or not row[-1]:
        return
    with giving_up(here.connection):
        ticket = here.statements.values.ticket(row[: len(here.statements.values.fields)])
        here.execute(here.statements.writes.discard(ticket))
    raise ConflictError("the key was taken meanwhile")


# --- many at once --------------------------------------------------------------------------------------------


def look_for_many(
    here: Here,
    old: OldReads,
    lookups: Sequence[Lookup],
    contacts: set[Contact],
    look: Callable[[], list[Snapshot]],
) -> list[Snapshot] | None:
    """Return what there is for several messages; None: they must go one by one.

    Args:
        here: where.
        old: what is sent.
        lookups: what is asked for.
        contacts: theirs.
        look: a plain look.
    """
    claims = here.statements.rule is UniqueRule.NONE
    before = _versions(here, old, contacts) if claims else {}
    seen = look()
    overtaken = claims and _claimed_since_many(here, old, contacts, before)
    return None if overtaken or _is_hidden(here, old, lookups, seen) else seen


def _versions(here: Here, old: OldReads, contacts: Iterable[Contact]) -> dict[tuple[Any, Any], int]:
    found = here.connection.execute(old.versions(contacts))
    return {(company, contact): version for company, contact, version in found}


def _claimed_since_many(
    here: Here, old: OldReads, contacts: set[Contact], before: Mapping[tuple[Any, Any], int]
) -> bool:
    """Claim contacts, and tell whether somebody else may have claimed one of them since: see `_claimed_since`."""
    claim(here, contacts)
    overtaken = _notes(here).overtaken
    now = _versions(here, old, contacts)
    if any(version != before.get(each, -1) + 1 for each, version in now.items()):
        overtaken.update(now)
    return not overtaken.isdisjoint(now)


def _is_hidden(here: Here, old: OldReads, lookups: Sequence[Lookup], seen: Sequence[Snapshot]) -> bool:
    """Tell whether messages that only join would not find a ticket that a rival has hidden, and may give back."""
    alone = [lookup for lookup, each in zip(lookups, seen, strict=True) if _attaches_to_none(lookup, each)]
    now = here.tickets(old.active_of(contacts_of(alone))) if alone else []
    return any(
        not _attaches_to_none(lookup, Snapshot(active=[ticket]))
        for lookup in alone
        for ticket in now
        if (ticket.company_id, ticket.contact_id) == (lookup.company_id, lookup.contact_id)
    )


def note_claimed(here: Here, contacts: Iterable[Contact]) -> None:
    """Note contacts that were claimed before any look: the next finds what was just written, and beside it what is old."""
    old = here.statements.old_reads
    if old is not None:
        _notes(here).overtaken.update(_versions(here, old, contacts))


def recorded(here: Here, refs: Iterable[MessageRef], found: dict[Any, Ticket]) -> dict[Any, Ticket]:
    """Return, of the message ids that were found, by their places, those that nobody can take back."""
    old = here.statements.old_reads
    if not found or old is None:
        return found
    doubted = [ref for ref in refs if place_of(here, ref) in found]
    if not doubted:
        return {}  # they are recorded for connections that the database takes for these
    certain = {tuple(row) for row in here.execute(old.recorded_of(doubted))}
    return {place: ticket for place, ticket in found.items() if place in certain}


def without_rivals(here: Here, made: dict[int, Ticket]) -> dict[int, Ticket]:
    """Do as `refuse_rival` for new tickets, and return the others."""
    old = here.statements.old_reads
    if not made or old is None or not here.statements.writes.sees_rivals:
        return made
    ids = {ticket.id for ticket in made.values()}
    active = here.tickets(old.active_of(contacts_of(made.values())))
    taken = {ticket.key for ticket in active if ticket.id not in ids}
    for ticket in made.values():
        if ticket.key in taken:
            here.execute(here.statements.writes.discard(ticket))
    return {place: ticket for place, ticket in made.items() if ticket.key not in taken}
