"""The two routers: their signatures, and what each call promises.

Law of this file: faces. What a call does stands in `ticketrouter.flows`, once for both; a test compares their
signatures.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from ticketrouter.checks import Id
from ticketrouter.choices import Policy
from ticketrouter.errors import InvalidMessageError
from ticketrouter.explain import Explanation
from ticketrouter.flows import Clock, Operations, PolicyChoice, adrive, drive, utc_now
from ticketrouter.model import InboundMessage, Resolution, Ticket, TicketKey
from ticketrouter.moves import KeyPart, Move, MovePlan, OnCollision
from ticketrouter.repository import AsyncTicketRepository, TicketRepository


class TicketRouter:
    """Find, create and reopen the tickets of messages, and guard what the desk does with them.

    It holds no state and no connection beyond its repository's: make one per unit of work.

    Args:
        repository: where the tickets are.
        policy: what the host has chosen, or a function of the message that returns that.
        clock: what tells the present; only tests need another.
        attempts: how many lost races in a row an operation answers with a fresh look.

    Raises:
        InvalidMessageError: if the repository, the policy or the clock is none, or `attempts` is no whole number
            from 1 to 1000.
    """

    def __init__(
        self,
        repository: TicketRepository,
        policy: PolicyChoice = Policy(),  # noqa: B008 - a frozen value
        *,
        clock: Clock = utc_now,
        attempts: int = 8,
    ) -> None:
        _check_repository(repository, TicketRepository)
        self._repository = repository
        self._operations = Operations(repository, policy, clock, attempts)

    def resolve(self, message: InboundMessage) -> Resolution:
        """Find the ticket of a message.

        Args:
            message: the message.

        Returns:
            What became of it, why, and its ticket.

        Raises:
            InvalidMessageError: if it is no InboundMessage.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.
            ContentionError: if only a restart of the host's transaction can cure it, or every attempt lost.

        Statements:
            One `load`; one `commit` unless the message has joined its ticket by that, is ignored or a duplicate;
            again after a lost race.
        """
        return drive(self._operations.resolve(message), self._repository)

    def resolve_many(self, messages: Iterable[InboundMessage]) -> list[Resolution]:
        """Find the tickets of several messages, in their order and with the same results as one by one.

        Only the ids of new tickets may differ: a batch writes by key, so that no two batches deadlock.

        Args:
            messages: the messages.

        Returns:
            One Resolution per message, in the same order.

        Raises:
            InvalidMessageError: if one of them is no InboundMessage, or there are more than 10,000; or if the
                policy of one is none. Nothing was read or written.
            TicketRouterError: as `resolve`. Each message of the batch is then in the host's transaction whole, with
                ticket, count and id, or not at all; which ones is not said. Roll back, or deliver the whole batch
                again: those with an id that were written are then duplicates.

        Statements:
            One `load_many` and one `commit_many`, where the repository can, the latter for those messages that have not
            joined their tickets by the first; and those of `resolve` for each message that has lost a race, or for all
            of those where one is blocked by the unique rule.
        """
        return drive(self._operations.resolve_many(messages), self._repository)

    def explain(self, message: InboundMessage) -> Explanation:
        """Say what would become of a message now, why, and what would change that; nothing is written or locked.

        Args:
            message: the message.

        Returns:
            The answer, the facts that it rests on, and every single change that would lead to another one.

        Raises:
            InvalidMessageError: if it is no InboundMessage.

        Statements:
            One `load`, and what the repository sends to tell what it would refuse.
        """
        return drive(self._operations.explain(message), self._repository)

    def find_active(self, key: TicketKey) -> Ticket | None:
        """Find the active ticket of a key; None if it has none.

        Statements:
            One `load`.
        """
        return drive(self._operations.find_active(key), self._repository)

    def active_tickets(self, company_id: Id, contact_id: Id) -> list[Ticket]:
        """List what a contact has active on every connection, newest first.

        Statements:
            One `load`.
        """
        return drive(self._operations.active_tickets(company_id, contact_id), self._repository)

    def ensure_can_open(self, key: TicketKey) -> None:
        """Raise what `open` would raise now; a race may still change the answer before `open` is called.

        Raises:
            ActiveTicketExistsError: if the key has an active ticket.
            BlockedBySchemaError: if the host's unique rule leaves no room.

        Statements:
            One `load`, and what the repository sends to tell what it would refuse.
        """
        return drive(self._operations.ensure_can_open(key), self._repository)

    def open(
        self, key: TicketKey, *, is_group: bool = False, user_id: Id | None = None, queue_id: Id | None = None
    ) -> Ticket:
        """Open a ticket from the desk's side.

        Args:
            key: the key.
            is_group: whether the contact is a group chat.
            user_id: the agent who begins, and thereby accepts it; None: it begins in the queue.
            queue_id: the queue.

        Returns:
            The new ticket; where the host's unique rule allows one row per key, the old row, reopened.

        Raises:
            ActiveTicketExistsError: if the key has an active ticket, which it carries.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.

        Statements:
            One `load` and one `commit`; again after a lost race.
        """
        return drive(
            self._operations.open(key, is_group=is_group, user_id=user_id, queue_id=queue_id),
            self._repository,
        )

    def accept(self, company_id: Id, ticket_id: Id, user_id: Id) -> Ticket:
        """Give a ticket to an agent; it is harmless where the agent has accepted it already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed, or accepted by another agent; it carries the ticket.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race, and where
            there is nothing to change by a read that may be dirty.
        """
        return drive(self._operations.accept(company_id, ticket_id, user_id), self._repository)

    def close(self, company_id: Id, ticket_id: Id, *, seen: Ticket | None = None) -> Ticket:
        """Close a ticket; it is harmless where it is closed already, by whomever, and whatever was seen of it.

        Args:
            company_id: the tenant.
            ticket_id: the id of its ticket.
            seen: the same ticket as it was read when it was found that it may be closed: it is closed only if its
                status and `updated_at` are still those and no more is unread, so that a message which has come since
                keeps it open. None: it is closed, whatever has come.

        Raises:
            InvalidMessageError: if an id is not valid, or `seen` is another ticket.
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is active, and not as it was seen; it carries the ticket.
            TicketRouterError: if it is active, and its table keeps no time of the last change to compare with `seen`, or
                one of whole seconds and no count.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race, and where
            there is nothing to change, or it is refused, by a read that may be dirty.
        """
        return drive(self._operations.close(company_id, ticket_id, seen=seen), self._repository)

    def reopen(self, company_id: Id, ticket_id: Id) -> Ticket:
        """Reopen a ticket into its queue, without an agent; it is harmless where it is active.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ActiveTicketExistsError: if its key has another active ticket, which it carries.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race, and where there is nothing to change by a read that may be dirty.
        """
        return drive(self._operations.reopen(company_id, ticket_id), self._repository)

    def transfer(self, company_id: Id, ticket_id: Id, connection_id: Id) -> Ticket:
        """Move an active ticket to another connection; it is harmless where it is there already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed; it carries the ticket.
            ActiveTicketExistsError: if the contact has an active ticket on that connection.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race, and where there is nothing to change by a read that may be dirty.
        """
        return drive(self._operations.transfer(company_id, ticket_id, connection_id), self._repository)

    def plan_merge_contacts(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """Say what `merge_contacts` would do now; nothing is written or locked.

        Args:
            company_id: the tenant.
            source_id: the contact that is merged into the other one.
            target_id: the contact that has all tickets afterwards.
            on_collision: what becomes of active tickets that would share a key.

        Returns:
            Which tickets would be closed, for which others, and which re-pointed.

        Raises:
            InvalidMessageError: if an id is not valid, or both contacts are the same.
            BlockedBySchemaError: if the host's unique rule leaves no room.
            ActiveTicketExistsError: if tickets would share a key and `on_collision` refuses that.
            RepositoryError: if the repository cannot move tickets.

        Statements:
            One `survey_move`.
        """
        move = Move(KeyPart.CONTACT, company_id, source_id, target_id)
        return drive(self._operations.plan(move, on_collision), self._repository)

    def merge_contacts(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """Give all tickets of one contact to another one, active and closed, as two records of one person need.

        A message that still arrives under the old contact's id opens a ticket there: it is the host's to map.

        Args:
            company_id: the tenant.
            source_id: the contact that is merged into the other one.
            target_id: the contact that has all tickets afterwards.
            on_collision: what becomes of active tickets that would share a key.

        Returns:
            What was done: which tickets were closed, for which others, and which re-pointed.

        Raises:
            InvalidMessageError: if an id is not valid, or both contacts are the same.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.
            ActiveTicketExistsError: if tickets would share a key and `on_collision` refuses that; nothing was
                written.
            ContentionError: if only a restart of the host's transaction can cure it, or every attempt lost.
            RepositoryError: if the repository cannot move tickets.

        Statements:
            One `survey_move` and one `commit_move`; again after a lost race.
        """
        move = Move(KeyPart.CONTACT, company_id, source_id, target_id)
        return drive(self._operations.move(move, on_collision), self._repository)

    def plan_move_connection(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """Say what `move_connection` would do now; nothing is written or locked.

        Args:
            company_id: the tenant.
            source_id: the connection that is given up.
            target_id: the connection that has all tickets afterwards.
            on_collision: what becomes of active tickets that would share a key.

        Returns:
            Which tickets would be closed, for which others, and which re-pointed.

        Raises:
            InvalidMessageError: if an id is not valid, or both connections are the same.
            BlockedBySchemaError: if the host's unique rule leaves no room.
            ActiveTicketExistsError: if tickets would share a key and `on_collision` refuses that.
            RepositoryError: if the repository cannot move tickets.

        Statements:
            One `survey_move`.
        """
        move = Move(KeyPart.CONNECTION, company_id, source_id, target_id)
        return drive(self._operations.plan(move, on_collision), self._repository)

    def move_connection(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """Give all tickets on one connection to another one, active and closed, as a replaced number needs.

        A message that still arrives on the old connection opens a ticket there: it is the host's to map.

        Args:
            company_id: the tenant.
            source_id: the connection that is given up.
            target_id: the connection that has all tickets afterwards.
            on_collision: what becomes of active tickets that would share a key.

        Returns:
            What was done: which tickets were closed, for which others, and which re-pointed.

        Raises:
            InvalidMessageError: if an id is not valid, or both connections are the same.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.
            ActiveTicketExistsError: if tickets would share a key and `on_collision` refuses that; nothing was
                written.
            ContentionError: if only a restart of the host's transaction can cure it, or every attempt lost.
            RepositoryError: if the repository cannot move tickets.

        Statements:
            One `survey_move` and one `commit_move`; again after a lost race.
        """
        move = Move(KeyPart.CONNECTION, company_id, source_id, target_id)
        return drive(self._operations.move(move, on_collision), self._repository)


class AsyncTicketRouter:
    """The same for asynchronous code: see `TicketRouter`."""

    def __init__(
        self,
        repository: AsyncTicketRepository,
        policy: PolicyChoice = Policy(),  # noqa: B008 - a frozen value
        *,
        clock: Clock = utc_now,
        attempts: int = 8,
    ) -> None:
        _check_repository(repository, AsyncTicketRepository)
        self._repository = repository
        self._operations = Operations(repository, policy, clock, attempts)

    async def resolve(self, message: InboundMessage) -> Resolution:
        """See `TicketRouter.resolve`."""
        return await adrive(self._operations.resolve(message), self._repository)

    async def resolve_many(self, messages: Iterable[InboundMessage]) -> list[Resolution]:
        """See `TicketRouter.resolve_many`."""
        return await adrive(self._operations.resolve_many(messages), self._repository)

    async def explain(self, message: InboundMessage) -> Explanation:
        """See `TicketRouter.explain`."""
        return await adrive(self._operations.explain(message), self._repository)

    async def find_active(self, key: TicketKey) -> Ticket | None:
        """See `TicketRouter.find_active`."""
        return await adrive(self._operations.find_active(key), self._repository)

    async def active_tickets(self, company_id: Id, contact_id: Id) -> list[Ticket]:
        """See `TicketRouter.active_tickets`."""
        return await adrive(self._operations.active_tickets(company_id, contact_id), self._repository)

    async def ensure_can_open(self, key: TicketKey) -> None:
        """See `TicketRouter.ensure_can_open`."""
        return await adrive(self._operations.ensure_can_open(key), self._repository)

    async def open(
        self, key: TicketKey, *, is_group: bool = False, user_id: Id | None = None, queue_id: Id | None = None
    ) -> Ticket:
        """See `TicketRouter.open`."""
        return await adrive(
            self._operations.open(key, is_group=is_group, user_id=user_id, queue_id=queue_id),
            self._repository,
        )

    async def accept(self, company_id: Id, ticket_id: Id, user_id: Id) -> Ticket:
        """See `TicketRouter.accept`."""
        return await adrive(self._operations.accept(company_id, ticket_id, user_id), self._repository)

    async def close(self, company_id: Id, ticket_id: Id, *, seen: Ticket | None = None) -> Ticket:
        """See `TicketRouter.close`."""
        return await adrive(self._operations.close(company_id, ticket_id, seen=seen), self._repository)

    async def reopen(self, company_id: Id, ticket_id: Id) -> Ticket:
        """See `TicketRouter.reopen`."""
        return await adrive(self._operations.reopen(company_id, ticket_id), self._repository)

    async def transfer(self, company_id: Id, ticket_id: Id, connection_id: Id) -> Ticket:
        """See `TicketRouter.transfer`."""
        return await adrive(self._operations.transfer(company_id, ticket_id, connection_id), self._repository)

    async def plan_merge_contacts(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """See `TicketRouter.plan_merge_contacts`."""
        move = Move(KeyPart.CONTACT, company_id, source_id, target_id)
        return await adrive(self._operations.plan(move, on_collision), self._repository)

    async def merge_contacts(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """See `TicketRouter.merge_contacts`."""
        move = Move(KeyPart.CONTACT, company_id, source_id, target_id)
        return await adrive(self._operations.move(move, on_collision), self._repository)

    async def plan_move_connection(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """See `TicketRouter.plan_move_connection`."""
        move = Move(KeyPart.CONNECTION, company_id, source_id, target_id)
        return await adrive(self._operations.plan(move, on_collision), self._repository)

    async def move_connection(
        self,
        company_id: Id,
        source_id: Id,
        target_id: Id,
        *,
        on_collision: OnCollision = OnCollision.KEEP_NEWEST,
    ) -> MovePlan:
        """See `TicketRouter.move_connection`."""
        move = Move(KeyPart.CONNECTION, company_id, source_id, target_id)
        return await adrive(self._operations.move(move, on_collision), self._repository)


_KNOWN: dict[type[object], WeakSet[type[object]]] = {
    TicketRepository: WeakSet(),
    AsyncTicketRepository: WeakSet(),
}


def _check_repository(repository: object, port: type[object]) -> None:
    # A router is made for each unit of work, and to ask a protocol takes as long as a tenth of a message.
    if type(repository) in _KNOWN[port]:
        return
    if not isinstance(repository, port):
        raise InvalidMessageError("repository", repository, f"of type {port.__name__}")
    _check_kind(repository, port)
    _KNOWN[port].add(type(repository))


def _check_kind(repository: Any, port: type[object]) -> None:
    """Refuse a repository of the other kind: its coroutines would never be awaited, or its answers would be."""
    is_awaited = inspect.iscoroutinefunction(inspect.unwrap(repository.load))
    if is_awaited is (port is AsyncTicketRepository):
        return
    has, other = ("async def", "AsyncTicketRouter") if is_awaited else ("def", "TicketRouter")
    raise InvalidMessageError(
        "repository", type(repository), f"of type {port.__name__}; its load is `{has}`: use {other}"
    )
