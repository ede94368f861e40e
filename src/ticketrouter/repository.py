"""The port: what a store must be able to do, clause by clause.

Law of this file: protocols only. A clause says what is true afterwards, never how to get there.

R1   `load` finds every active ticket of that company and contact: no closed one, no other company's; and the one
     in scope that was closed last, of those whose word a message may reopen: a final word, and one that the scheme
     does not know, hide no other ticket.
R1a  `load` of a Lookup with a `join` may let the message join the ticket that is active on the key, of several the
     most recently active one (ties to the highest id): it changes count and time of that one row and nothing else,
     records the message id with it, and says so (`Snapshot.joined`). It joins nothing where the id is recorded
     already, or where the message would wake that ticket (`Join.wakes`, and its word is one of `StatusScheme.wakes`):
     who wakes a ticket says from which word. Where it does not say so nothing was written, but what the lookup claims.
R2   `commit(Create)` raises ConflictError if the key has an active ticket, or if the unique rule has no room.
R3   `commit(Reuse)` changes a ticket only while it is active on the key it was seen on, else ConflictError;
     it never touches user or queue, and the status only if it `wakes`: then a word of `StatusScheme.wakes` becomes
     the one that it wakes to, in the same write as count and time, and the status must be as it was seen, if it was
     such a word or is one now (`StatusScheme.wakes_alike`). So of two messages exactly one wakes a ticket, and none
     leaves it asleep. A move adds to the count of a ticket that it keeps what those have that it closes for it.
R4   `commit(ReopenTicket)` changes a ticket only while it is closed on the key it was seen on and that key is free,
     and not where its word has become a final one since; else ConflictError.
R5   After a ConflictError the host's transaction is usable and holds nothing of the attempt; nothing is ever
     committed or rolled back on the host's behalf.
R6   After the host's rollback nothing remains: no ticket, no change, no message id.
R7   Tickets are snapshots: no later write shows in them, and they change no row.
R8   A message id is recorded at most once per company and connection, together with its ticket; losing that
     race is a ConflictError.
R9   Every statement carries the company; another company's ticket is as one that does not exist.
R10  The loser of a race takes the winner's row as it is: nothing of it is overwritten.
R11  What only a restart of the host's whole transaction can cure is raised at once as ContentionError; no
     retry takes place inside.
R12  What nothing is written upon is committed, as this transaction sees it: `routed`, which makes a Duplicate; that
     there is no active ticket in scope, where the lookup `attaches`; and what `get(current=True)` and a lookup that was
     `overtaken` find. Where plain reads may be dirty, an attribute `reads_may_be_dirty` of the store is true, and the
     router asks so before it refuses anything, and before the desk keeps a ticket as it is.

The writes of the desk obey the same clauses: `Accept` is carried out only while status and agent are as seen,
`Close` only while the ticket is active and, where it says `as_seen`, while its status and the time of its last change are
as seen, whatever the column keeps of a time, and no more is unread; `Transfer` only while it is active on the key it was
seen on and the key on the other connection is free; else ConflictError. A store that keeps no time of the last change, or
one of whole seconds and no count, refuses `as_seen`, by another TicketRouterError.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from ticketrouter.batch import Joint
from ticketrouter.checks import Id, as_utc
from ticketrouter.decisions import Lookup, Snapshot, Write
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import StatusScheme, Ticket, key_order
from ticketrouter.moves import Move, MovePlan, Survey

__all__ = [
    "AsyncBatches",
    "AsyncForgetsMessages",
    "AsyncMovesTickets",
    "AsyncTellsRefusals",
    "AsyncTicketRepository",
    "Batches",
    "ForgetsMessages",
    "MovesTickets",
    "TellsRefusals",
    "TicketRepository",
    "as_utc",
    "key_order",
]


@runtime_checkable
class TicketRepository(Protocol):
    """Where tickets are kept."""

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses, the same for lookup, writes and the check of the schema."""
        ...

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide (R1, R7, R9), and let the message join its ticket where that is allowed (R1a).

        Args:
            lookup: whose tickets, which message id, and what the message does to its ticket.

        Returns:
            What was found; an unknown contact is an empty Snapshot. A store that never lets a message join is as good,
            and a statement slower.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company (R7, R9).

        Args:
            company_id: the tenant.
            ticket_id: the id of its ticket.
            current: whether it must be as it is committed now, where a plain read may be older or dirty (R12): asked
                for after a lost race.

        Returns:
            The ticket; None if there is none, or if it is another company's.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...

    def commit(self, decision: Write) -> Ticket:
        """Carry out one decision inside the host's transaction (R2 to R10).

        Returns:
            The ticket as it is after the write.

        Raises:
            ConflictError: if what was seen is no longer true; nothing was written.
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...


@runtime_checkable
class Batches(Protocol):
    """The optional ability to look, and to write, for many messages at once.

    Both obey the clauses of the port as if each lookup, and each decision, had come alone (R1 to R12), in any order of
    the store's choosing, but for lookups of one key, which are answered in theirs: where a message could have joined
    and was left, those after it are left too. A store that several transactions write to writes in the order of
    `key_order`, so that two batches never wait for each other in a circle.
    """

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages; who may join a ticket may do so at once (R1a).

        Returns:
            A Snapshot for each lookup, in their order; None: here messages must go one by one, and none has joined.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions, each with what later messages add to its ticket.

        Args:
            joints: what is to be done, each to another ticket.

        Returns:
            For each, the ticket as its first message left it; None: it has lost a race, and nothing of it was
            written, no message id either.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...


@runtime_checkable
class AsyncBatches(Protocol):
    """The same for asynchronous code: see `Batches`."""

    async def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """See `Batches.load_many`."""
        ...

    async def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """See `Batches.commit_many`."""
        ...


@runtime_checkable
class ForgetsMessages(Protocol):
    """The optional ability to forget message ids that no channel will deliver again."""

    def forget_messages(self, before: datetime) -> int:
        """Forget the message ids that were recorded before a time, of every company.

        Args:
            before: the time, with a time zone; a redelivery of an older message is then a new message.

        Returns:
            How many were forgotten.

        Raises:
            InvalidMessageError: if the time has no time zone.
        """
        ...


@runtime_checkable
class TellsRefusals(Protocol):
    """The optional ability to say beforehand what `commit` would refuse by itself, as for a table without some column."""

    def refusal(self, decision: Write) -> TicketRouterError | None:
        """Tell why `commit` would refuse a decision, whatever tickets there are.

        Args:
            decision: what a message, or the desk, would have written now.

        Returns:
            The error that it would raise; None: nothing is known that stands against it.
        """
        ...


@runtime_checkable
class MovesTickets(Protocol):
    """The optional ability to give all tickets of a contact, or of a connection, to another one.

    Both methods obey R5 to R7, R9 and R11, and are used within one transaction of the host.
    """

    def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move.

        Args:
            move: what is moved where.
            claim: whether the move follows, so that what is found must be what is committed now, and be kept from
                changing until the host's transaction ends, as far as the store can do that.

        Returns:
            What was found; a source without tickets is an empty Survey.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...

    def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan: close first, then re-point, all or nothing.

        Closing sets the time of closing and of the last change to the plan's. A ticket that is kept for closed ones counts
        their unread messages besides its own: as many as they have when they are closed, which may be more than was seen.
        Re-pointing changes the key alone.
        Where connections are moved, a message id that was recorded on the source is known on the target too.

        Args:
            plan: the plan, made from a Survey of this very transaction.

        Raises:
            ConflictError: if a ticket to be closed, or one to be kept that takes up a count, is not active on its key any
                more, if the source's tickets are not those of the plan, or if a key was taken; nothing was written.
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...


@runtime_checkable
class AsyncMovesTickets(Protocol):
    """The same for asynchronous code: see `MovesTickets`."""

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """See `MovesTickets.survey_move`."""
        ...

    async def commit_move(self, plan: MovePlan) -> None:
        """See `MovesTickets.commit_move`."""
        ...


@runtime_checkable
class AsyncForgetsMessages(Protocol):
    """The same for asynchronous code: see `ForgetsMessages`."""

    async def forget_messages(self, before: datetime) -> int:
        """See `ForgetsMessages.forget_messages`."""
        ...


@runtime_checkable
class AsyncTellsRefusals(Protocol):
    """The same for asynchronous code: see `TellsRefusals`."""

    async def refusal(self, decision: Write) -> TicketRouterError | None:
        """See `TellsRefusals.refusal`."""
        ...


@runtime_checkable
class AsyncTicketRepository(Protocol):
    """The same for asynchronous code: see `TicketRepository`."""

    @property
    def statuses(self) -> StatusScheme:
        """See `TicketRepository.statuses`."""
        ...

    async def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        ...

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        ...

    async def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        ...
