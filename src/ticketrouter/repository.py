"""The port: what a store must be able to do, clause by clause.

Law of this file: protocols only. A clause says what is true afterwards, never how to get there.

R1   `load` finds every active ticket of that company and contact: no closed one, no other company's.
R2   `commit(Create)` raises ConflictError if the key has an active ticket, or if the unique rule has no room.
R3   `commit(Reuse)` changes a ticket only while it is active on the key it was seen on, else ConflictError;
     it never touches status, user or queue.
R4   `commit(Reopen)` changes a ticket only while it is closed on the key it was seen on and that key is free,
     else ConflictError.
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

The writes of the desk obey the same clauses: `Accept` is carried out only while status and agent are as seen,
`Close` only while the ticket is active, `Transfer` only while it is active on the key it was seen on and the
key on the other connection is free; else ConflictError.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from ticketrouter.batch import Joined, Joint, Run
from ticketrouter.checks import Id
from ticketrouter.lifecycle import Write
from ticketrouter.model import StatusScheme, Ticket
from ticketrouter.moves import Move, MovePlan, Survey
from ticketrouter.policy import Lookup, Snapshot, Touch, Touched


@runtime_checkable
class TicketRepository(Protocol):
    """Where tickets are kept."""

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses, the same for lookup, writes and the check of the schema."""
        ...

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide (R1, R7, R9).

        Args:
            lookup: whose tickets, and which message id.

        Returns:
            What was found; an unknown contact is an empty Snapshot.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...

    def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket of a company (R7, R9).

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
class ReadsCurrent(Protocol):
    """The optional ability of a store whose plain reads may be older than what a write has just met."""

    def get_current(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket as it is committed now, which the router asks for after a lost race.

        Returns:
            As `TicketRepository.get`.
        """
        ...


@runtime_checkable
class Touches(Protocol):
    """The optional ability to let a message join the active ticket of its key without having looked first.

    `touch` is `load`, rule 2 of `decide` and `commit(Reuse)` in one, and obeys what is said of them: it changes
    the count and the time of the one ticket that is active on the key, of several the most recently active one
    (ties to the highest id), and nothing else (R1, R3, R7, R9, R10); a message id is recorded with it, and where it is
    recorded already nothing is changed (R8). Who is not sure changes nothing and answers None.
    """

    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        """Let a message join the active ticket of its key, if there is one.

        Args:
            touch: the key, the change, and what `load` would be asked for.

        Returns:
            The ticket as it is now; else what `load` would answer, where that was found out on the way; else
            None. Without a Touched nothing is written, but what the lookup claims.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...


@runtime_checkable
class AsyncTouches(Protocol):
    """The same for asynchronous code: see `Touches`."""

    async def touch(self, touch: Touch) -> Touched | Snapshot | None:
        """See `Touches.touch`."""
        ...


@runtime_checkable
class Batches(Protocol):
    """The optional ability to look, and to write, for many messages at once.

    Both obey the clauses of the port as if each lookup, and each decision, had come alone (R1 to R11), in any order of
    the store's choosing. A store that several transactions write to writes in the order of `key_order`, so that two
    batches never wait for each other in a circle.
    """

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages; nothing is written, but what a lookup claims.

        Returns:
            A Snapshot for each lookup, in their order; None: here messages must go one by one.

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
class TouchesMany(Protocol):
    """The optional ability to do for many keys what `Touches` does for one; it goes with `Batches`.

    It obeys the clauses of the port as `touch` does, and locks as `commit_many` does, in the order of the keys.
    """

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        """Let messages without ids join the active tickets of their keys, where there are such.

        Args:
            runs: the messages, those of each key together; each of another contact.

        Returns:
            For each the tickets as its messages have left them; where its key has no active ticket, what `load` would
            answer, if that was found out on the way, else None, and nothing of it was written. None for all: here
            the messages must go another way, and nothing was written.

        Raises:
            ContentionError: if only a restart of the host's transaction can cure it (R11).
        """
        ...


@runtime_checkable
class AsyncTouchesMany(Protocol):
    """The same for asynchronous code: see `TouchesMany`."""

    async def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        """See `TouchesMany.touch_many`."""
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

        Closing sets the time of closing and of the last change to the plan's; re-pointing changes the key alone.
        Where connections are moved, a message id that was recorded on the source is known on the target too.

        Args:
            plan: the plan, made from a Survey of this very transaction.

        Raises:
            ConflictError: if a ticket to be closed is not active on its key any more, if the source's tickets are
                not those of the plan, or if a key was taken; nothing was written.
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
class AsyncTicketRepository(Protocol):
    """The same for asynchronous code: see `TicketRepository`."""

    @property
    def statuses(self) -> StatusScheme:
        """See `TicketRepository.statuses`."""
        ...

    async def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        ...

    async def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """See `TicketRepository.get`."""
        ...

    async def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        ...
