"""The list of the statements: all that a repository sends for tickets, by what they are about.

Law of this file: which there are; what each is like stands in the file of its subject, and in a database's room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from attrs import Factory, field, frozen
from sqlalchemy import Executable

from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup, MessageRef, Snapshot
from ticketrouter.model import UniqueRule
from ticketrouter.moves import Move
from ticketrouter.sqlalchemy.claims import Claims, Contact
from ticketrouter.sqlalchemy.joins import Joins, JoinsOfMany
from ticketrouter.sqlalchemy.looks import Looks
from ticketrouter.sqlalchemy.many import Many
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.message_ids import MessageIds
from ticketrouter.sqlalchemy.moves import Moves
from ticketrouter.sqlalchemy.parts import Parts, Sent, Values
from ticketrouter.sqlalchemy.writes import Writes


class OldReads(Protocol):
    """What is sent besides where a plain read may be old, or dirty: looks that lock, and one that tells how old it is."""

    def versioned(self, lookup: Lookup) -> Sent:
        """Return the `SELECT` of `Looks.load` and of the version of the contact's anchor."""
        ...

    def read(self, rows: Iterable[Sequence[Any]]) -> tuple[Snapshot, int | None]:
        """Return what its rows say, and the version; None: there is no anchor yet."""
        ...

    def versions(self, contacts: Iterable[Contact]) -> Executable:
        """Return the `SELECT` of the anchors of several contacts; each row ends in its version."""
        ...

    def current(self, lookup: Lookup) -> tuple[Sent, list[Sent], list[Sent]]:
        """Return the `SELECT`s that find, and lock, what is committed now.

        Returns:
            That of the active tickets in scope; those that count where there is none; that of the message id, if any.
        """
        ...

    def known_closed(self, lookup: Lookup) -> Sent:
        """Return the `SELECT` of `Looks.known_closed` that locks what is committed now."""
        ...

    def get(self, company_id: Id, ticket_id: Id) -> Sent:
        """Return the `SELECT` of one ticket as it is now, locked; only for one that is known to be there."""
        ...

    def active(self, lookup: Lookup) -> Sent:
        """Return the `SELECT` of the active tickets in scope that waits for who may have hidden one, and locks it."""
        ...

    def active_of(self, contacts: Iterable[Contact]) -> Sent:
        """Return the same of all that contacts have active, as `Many.tickets` reads it."""
        ...

    def recorded(self, ref: MessageRef) -> Sent:
        """Return the `SELECT` of a message id that waits for who may still take it back."""
        ...

    def recorded_of(self, refs: Iterable[MessageRef]) -> Sent:
        """Return the same of the places of several message ids."""
        ...


@frozen(eq=False)
class Statements:
    """The statements for one mapping, one database and one unique rule.

    Args:
        parts: what they are made of.
        writes: the writes of one ticket.
        many: those about many at once.
        looks: what is asked about tickets.
        messages: the record of message ids.
        claims: what keeps others from a contact.
        moves: those of a move.
        joins: the one by which a message joins; None: it has to be looked for its ticket first.
        joins_of_many: the same for many; None: as well.
        old_reads: what is sent besides where a plain read may be old, or dirty; None: it is not.
    """

    parts: Parts
    writes: Writes
    many: Many
    looks: Looks = field(default=Factory(lambda it: Looks(it.parts), takes_self=True))
    messages: MessageIds = field(default=Factory(lambda it: MessageIds(it.parts), takes_self=True))
    claims: Claims = field(default=Factory(lambda it: Claims(it.parts), takes_self=True))
    moves: Callable[[Parts, Move], Moves] = Moves
    joins: Joins | None = None
    joins_of_many: JoinsOfMany | None = None
    old_reads: OldReads | None = None

    @property
    def mapping(self) -> TicketMapping:
        """Where the tickets are."""
        return self.parts.mapping

    @property
    def values(self) -> Values:
        """What they are sent with, and how their rows are read."""
        return self.parts.values

    @property
    def rule(self) -> UniqueRule:
        """The unique rule."""
        return self.parts.rule

    def of_move(self, move: Move) -> Moves:
        """Return those of a move."""
        return self.moves(self.parts, move)
