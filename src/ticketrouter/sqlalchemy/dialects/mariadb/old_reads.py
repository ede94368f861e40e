"""The theory of MariaDB's old reads, and what is sent because of them.

**A plain read is old.** At REPEATABLE READ, MariaDB's default, a transaction sees what was committed when it first read,
and writes over what is committed now: a message could create beside a ticket that it cannot see. At READ UNCOMMITTED,
which no variable need show, a plain read is dirty: it shows what is taken back later, or hides what a rival has changed
and may give back. A look that locks (`FOR UPDATE`, or shared) sees what is committed now, and waits for who has not
committed. Yet it is no cure for all: it locks what it reads and not what it finds, and where it finds nothing, the gap:
two that look so for a new contact then keep each other from inserting, a deadlock.

**So the plain look is trusted until something speaks against it**, and the locking one is sent only then:

- With a unique rule the `INSERT` itself tells of the row in the way (see `statements`). The loser's next look says
  `Lookup.overtaken`, and only that one is `current`: it locks.
- Without one, the contact is claimed by a write of its anchor, after the plain look and not before, and the look brings
  the anchor's version along (`versioned`). If the write leaves the version that was seen plus one, or 0 where no
  anchor was seen, nobody has claimed between the look and the claim, and what was seen is so still. Else the contact counts as overtaken until the host's
  transaction ends: its next plain look would show the new version, which it has written itself, beside the old rows. A
  dirty look says -2, which nothing comes after.
- Where nothing is written, no write finds out. So a message id that was found (a redelivery) is read again by its
  primary key (`recorded`); where a message that only joins has found no ticket, the active ones are read again by the
  rule's index, or by the contact (`active`); and a new ticket without a rule comes back with whether a rival has one
  (`MariaDBWrites._rivals`).

**By which index.** A locking look locks every row that it reads. Each names the index by which it reads no other
contact's: the rule's, for active tickets (`Parts.active_by_index`), so that it takes its locks in the order of the
`INSERT` and does not meet the half of a new row whose other half waits for it; else the best one that begins with the
contact (`Ways`), where there is one; message ids go by their primary key. For that reason `current` is asked for active
tickets first, and for closed ones and those in the way only if there are none; and a condition that would make a range of an index is said otherwise
(`MariaDBParts.is_ticket_locked`). Nothing that may miss is read by `FOR UPDATE` by its id alone: `get` locks what a plain read
has shown, or a locking one has found before.

**What is remembered of the host's transaction**, in `ticketrouter.sqlalchemy.work.old_reads`: the contacts that were
overtaken, and the ids that a locking look has found, as a plain read of the same transaction still does not see them.

Law of this file: what is sent. When it is sent, `ticketrouter.sqlalchemy.work.old_reads` says.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Executable, String, func, literal_column, null, or_, select, true

from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import Lookup, MessageRef, Snapshot
from ticketrouter.sqlalchemy.claims import Contact
from ticketrouter.sqlalchemy.dialects.mariadb.many import MariaDBMany
from ticketrouter.sqlalchemy.dialects.mariadb.statements import MariaDBClaims
from ticketrouter.sqlalchemy.looks import Looks, Variant, found_here, variant_of
from ticketrouter.sqlalchemy.parts import Parts, Sent

_VERSION = "version "
"""What a row's role begins with that tells an anchor's version instead of a ticket."""


class MariaDBOldReads:
    """What is sent because a plain read may be old, or dirty: see `OldReads`.

    Args:
        parts: what it is made of.
        looks: the plain looks.
        claims: what keeps others from a contact.
        many: the statements about many rows.
    """

    def __init__(self, parts: Parts, looks: Looks, claims: MariaDBClaims, many: MariaDBMany) -> None:
        self._parts = parts
        self._mapping = parts.mapping
        self._values = parts.values
        self._looks = looks
        self._claims = claims
        self._many = many
        self._versioned: dict[Variant, Executable] = {}
        self._built: dict[Hashable, Any] = {}
        self._get = looks.of_one.with_for_update()
        sought = select(self._mapping.message_ids.c.ticket_id).where(*parts.is_message())
        self._recorded = sought.with_for_update(read=True)

    # --- how old a look is -------------------------------------------------------------------------------------

    def versioned(self, lookup: Lookup) -> Sent:
        """See `OldReads.versioned`."""
        variant = variant_of(lookup)
        statement = self._versioned.get(variant)
        if statement is None:
            anchors, parts = self._mapping.anchors.c, self._parts
            role = func.concat(literal_column("'version '", String), self._claims.version)
            pairs = zip((anchors.company_id, anchors.contact_id), self._claims.sent(), strict=True)
            version = select(*parts.cells(role, [null()] * len(parts.columns)))
            version = version.where(*(column == sent for column, sent in pairs))
            statement = self._versioned[variant] = self._looks.built(*variant, version)
        values = self._values.of_lookup(lookup)
        return statement, values | self._claims.values(lookup.company_id, lookup.contact_id)

    def read(self, rows: Iterable[Sequence[Any]]) -> tuple[Snapshot, int | None]:
        """See `OldReads.read`."""
        tickets, version = [], None
        for role, *values in self._parts.cells_in(rows):
            if found_here(role).startswith(_VERSION):
                version = int(role.removeprefix(_VERSION))
            else:
                tickets.append((role, self._values.ticket(values)))
        return self._looks.told(tickets), version

    def versions(self, contacts: Iterable[Contact]) -> Executable:
        """See `OldReads.versions`."""
        anchors = self._mapping.anchors.c
        by_company: dict[Any, list[Any]] = {}
        for each in contacts:
            company, contact = self._claims.anchor(*each)[1].values()
            by_company.setdefault(company, []).append(contact)
        among = (
            (anchors.company_id == company) & anchors.contact_id.in_(found)
            for company, found in by_company.items()
        )
        return select(anchors.company_id, anchors.contact_id, self._claims.version).where(or_(*among))

    # --- what is committed now -----------------------------------------------------------------------------------

    def current(self, lookup: Lookup) -> tuple[Sent, list[Sent], list[Sent]]:
        """See `OldReads.current`."""
        if lookup.scope not in self._built:
            self._built[lookup.scope] = self._build_current(lookup.scope)
        *on_key, routed = self._built[lookup.scope]
        of_key = self._values.of_lookup(lookup, message=False)
        active, *others = [(statement, of_key) for statement in on_key]
        return active, others, [] if lookup.message_id is None else [(routed, self._values.of_lookup(lookup))]

    def _build_current(self, scope: Scope) -> list[Executable]:
        parts = self._parts
        here = self._in_scope(scope)
        closed = parts.role("closed", *here, parts.may_be_reopened(), parts.is_ticket_locked())
        looks = [
            self._active_in(scope),
            parts.by_contact(closed.order_by(*parts.latest_closing()).limit(1)),
        ]
        if (occupying := parts.occupying()) is not None:
            occupant = parts.role("occupant", *parts.of_contact(), *occupying)
            looks.append(parts.by_contact(occupant.limit(1)))
        routed = parts.hinted(self._looks.routed(), parts.detected.of_ids)
        return [look.with_for_update() for look in (*looks, routed)]

    def known_closed(self, lookup: Lookup) -> Sent:
        """See `OldReads.known_closed`."""
        name = "known closed", lookup.scope
        if name not in self._built:
            last = self._parts.by_contact(self._looks.last_known(lookup.scope))
            self._built[name] = last.with_for_update()
        return self._built[name], self._values.of_lookup(lookup, message=False)

    def get(self, company_id: Id, ticket_id: Id) -> Sent:
        """See `OldReads.get`."""
        return self._get, self._values.bound(company_id=company_id, id=ticket_id)

    # --- what may be taken back ----------------------------------------------------------------------------------

    def active(self, lookup: Lookup) -> Sent:
        """See `OldReads.active`."""
        name = "active", lookup.scope
        if name not in self._built:
            self._built[name] = self._active_in(lookup.scope).with_for_update()
        return self._built[name], self._values.of_lookup(lookup, message=False)

    def active_of(self, contacts: Iterable[Contact]) -> Sent:
        """See `OldReads.active_of`."""
        parts = self._parts

        def active(here: ColumnElement[bool]) -> Any:
            look = select(*self._many.cells)
            look = look.where(here, parts.is_active(), parts.in_rule(), parts.is_ticket_locked())
            return parts.active_by_index(look).with_for_update()

        return self._many.of_contacts(contacts, "active now", active)

    def recorded(self, ref: MessageRef) -> Sent:
        """See `OldReads.recorded`."""
        return self._recorded, self._values.of_ref(ref)

    def recorded_of(self, refs: Iterable[MessageRef]) -> Sent:
        """See `OldReads.recorded_of`."""
        messages = self._mapping.message_ids
        place = (messages.c.company_id, messages.c.connection_id, messages.c.message_id)
        found = select(*place).where(self._many.among(refs))
        # By the primary key alone: any other way would lock rows that were not asked for.
        return found.with_hint(messages, "FORCE INDEX (PRIMARY)").with_for_update(read=True), {}

    # --- their parts ---------------------------------------------------------------------------------------------

    def _in_scope(self, scope: Scope) -> list[ColumnElement[bool]]:
        here = true() if scope is Scope.CONTACT else self._parts.is_("connection_id")
        return [*self._parts.of_contact(), here]

    def _active_in(self, scope: Scope) -> Any:
        parts = self._parts
        found = (*self._in_scope(scope), parts.is_active(), parts.in_rule(), parts.is_ticket_locked())
        return parts.active_by_index(parts.role("active", *found))
