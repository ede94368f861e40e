"""The two routers: thin drivers that look, let a pure function decide, and have the answer carried out.

Law of this file: no rule stands here. `AsyncTicketRouter` is `TicketRouter` with `await` in front of whatever
asks a repository; a test compares their syntax trees, so change both or neither.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

from attrs import evolve

from ticketrouter import checks
from ticketrouter.batch import Asked, Given, Joined, Plan, Run, checked_batch, plan, runs_of
from ticketrouter.checks import Id
from ticketrouter.choices import Policy
from ticketrouter.errors import (
    BlockedBySchemaError,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    RepositoryError,
    TicketNotFoundError,
)
from ticketrouter.explain import Explanation, explain
from ticketrouter.lifecycle import (
    Keep,
    TicketRef,
    View,
    Write,
    accept_ticket,
    close_ticket,
    open_ticket,
    reopen_ticket,
    transfer_ticket,
)
from ticketrouter.log import log_answer, log_move, logger
from ticketrouter.model import (
    Change,
    InboundMessage,
    Outcome,
    Reason,
    Resolution,
    StatusScheme,
    Ticket,
    TicketKey,
    altered,
    newest_first,
    trusted_resolution,
)
from ticketrouter.moves import KeyPart, Move, MovePlan, OnCollision, as_on_collision, plan_move
from ticketrouter.policy import (
    Create,
    Decision,
    Duplicate,
    Ignore,
    Lookup,
    Reopen,
    Reuse,
    Snapshot,
    Touch,
    Touched,
    decide,
    touched,
    touching,
)
from ticketrouter.repository import (
    AsyncBatches,
    AsyncMovesTickets,
    AsyncTicketRepository,
    AsyncTouches,
    AsyncTouchesMany,
    Batches,
    MovesTickets,
    TicketRepository,
    Touches,
    TouchesMany,
)

PolicyChoice: TypeAlias = Policy | Callable[[TicketKey], Policy]
"""One Policy for every key, or a function that has one for each."""
Clock: TypeAlias = Callable[[], datetime]
"""What tells the present, with a time zone."""
MAX_ATTEMPTS = 1000
"""The most lost races in a row that a router may be told to bear: each holds the host's transaction open."""

_WORTH_IT = 2
# To join the three to a union anew for each message would cost more than the question.
_WRITES_NOTHING = (Ignore, Duplicate, Keep)

_Seen = TypeVar("_Seen")
_Ability = TypeVar("_Ability")
_Answer = TypeVar("_Answer", bound=Decision | Write | Keep)


def utc_now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


class TicketRouter:
    """Find, create and reopen the tickets of messages, and guard what the desk does with them.

    It holds no state and no connection beyond its repository's: make one per unit of work.

    Args:
        repository: where the tickets are.
        policy: what the host has chosen, or a function from a key to that.
        clock: what tells the present; only tests need another.
        attempts: how many lost races in a row an operation answers with a fresh look.

    Raises:
        InvalidMessageError: if the repository or the policy is none, or `attempts` is no whole number from 1
            to 1000.
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
        self._touches: Touches | None = _ability(repository, Touches)
        self._batches: Batches | None = _ability(repository, Batches)
        self._touches_many: TouchesMany | None = _ability(repository, TouchesMany)
        self._mover: MovesTickets | None = _ability(repository, MovesTickets)
        self._policy = _checked_policy(policy)
        self._clock = clock
        self._attempts = _checked_attempts(attempts)

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
            One `touch`, where the repository can. Where it met no active ticket on the key: one `load`, unless
            the answer to `touch` was as good; one `commit` unless the message is ignored or a duplicate; again
            after a lost race.
        """
        _check(message, InboundMessage, "message")
        return self._resolve(message, _policy_for(self._policy, message.key))

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
            TicketRouterError: as `resolve`, at the first message that fails; what came before it is in the
                host's transaction, for the host to commit or to roll back.

        Statements:
            One `touch_many`, where the repository can, the policies go by connection, no message has an id, and no
            contact writes on two connections. For what met no active ticket by that: one `load_many`, unless the
            answer to `touch_many` was as good, and one `commit_many`, where the repository can; and those of `resolve` for each message that has lost a race, or
            for all of them where one is blocked by the unique rule.
        """
        batch = checked_batch(list(messages))
        for message in batch:
            _check(message, InboundMessage, "message")
        policies = _policies_for(self._policy, batch)
        if self._batches is None or len(batch) < _WORTH_IT:
            return [self._resolve(*each) for each in zip(batch, policies, strict=True)]
        asked = [(*each, _now(self._clock)) for each in zip(batch, policies, strict=True)]
        known = self._join_known(asked)
        return _in_place(known, self._resolve_batch(*_left(asked, known)))

    def explain(self, message: InboundMessage) -> Explanation:
        """Say what would become of a message now, why, and what would change that; nothing is written or locked.

        Args:
            message: the message.

        Returns:
            The answer, the facts that it rests on, and every single change that would lead to another one.

        Raises:
            InvalidMessageError: if it is no InboundMessage.

        Statements:
            One `load`.
        """
        _check(message, InboundMessage, "message")
        policy = _policy_for(self._policy, message.key)
        snapshot = self._load(evolve(Lookup.of(message, policy), closed=True, claim=False), overtaken=False)
        return explain(message, snapshot, policy, _now(self._clock))

    def find_active(self, key: TicketKey) -> Ticket | None:
        """Find the active ticket of a key; None if it has none.

        Statements:
            One `load`.
        """
        _check(key, TicketKey, "key")
        snapshot = self._load(Lookup.at(key), overtaken=False)
        return snapshot.active_on(key.connection_id)

    def active_tickets(self, company_id: Id, contact_id: Id) -> list[Ticket]:
        """List what a contact has active on every connection, newest first.

        Statements:
            One `load`.
        """
        snapshot = self._load(Lookup(company_id, contact_id), overtaken=False)
        return newest_first(snapshot.active)

    def ensure_can_open(self, key: TicketKey) -> None:
        """Raise what `open` would raise now; a race may still change the answer before `open` is called.

        Raises:
            ActiveTicketExistsError: if the key has an active ticket.
            BlockedBySchemaError: if the host's unique rule leaves no room.

        Statements:
            One `load`.
        """
        _check(key, TicketKey, "key")
        snapshot = self._load(Lookup.at(key), overtaken=False)
        open_ticket(snapshot, _now(self._clock), key=key, is_group=False, user_id=None, queue_id=None)

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
        _check(key, TicketKey, "key")
        _check(is_group, bool, "is_group")
        choose = partial(open_ticket, key=key, is_group=is_group, user_id=user_id, queue_id=queue_id)
        answer, ticket = self._settle(partial(self._load, Lookup.at(key, claim=True)), choose)
        return _with_change(answer, ticket)

    def accept(self, company_id: Id, ticket_id: Id, user_id: Id) -> Ticket:
        """Give a ticket to an agent; it is harmless where the agent has accepted it already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed, or accepted by another agent; it carries the ticket.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race.
        """
        checks.check_id("user_id", user_id)
        choose = partial(accept_ticket, user_id=user_id, statuses=self._repository.statuses)
        answer, ticket = self._settle(partial(self._get, TicketRef(company_id, ticket_id)), choose)
        return _with_change(answer, ticket)

    def close(self, company_id: Id, ticket_id: Id) -> Ticket:
        """Close a ticket; it is harmless where it is closed already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race.
        """
        choose = partial(close_ticket, statuses=self._repository.statuses)
        answer, ticket = self._settle(partial(self._get, TicketRef(company_id, ticket_id)), choose)
        return _with_change(answer, ticket)

    def reopen(self, company_id: Id, ticket_id: Id) -> Ticket:
        """Reopen a ticket into its queue, without an agent; it is harmless where it is active.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ActiveTicketExistsError: if its key has another active ticket, which it carries.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race.
        """
        choose = partial(reopen_ticket, statuses=self._repository.statuses)
        answer, ticket = self._settle(partial(self._view, TicketRef(company_id, ticket_id), None), choose)
        return _with_change(answer, ticket)

    def transfer(self, company_id: Id, ticket_id: Id, connection_id: Id) -> Ticket:
        """Move an active ticket to another connection; it is harmless where it is there already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed; it carries the ticket.
            ActiveTicketExistsError: if the contact has an active ticket on that connection.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race.
        """
        checks.check_id("connection_id", connection_id)
        choose = partial(transfer_ticket, connection_id=connection_id, statuses=self._repository.statuses)
        see = partial(self._view, TicketRef(company_id, ticket_id), connection_id)
        answer, ticket = self._settle(see, choose)
        return _with_change(answer, ticket)

    def _resolve(self, message: InboundMessage, policy: Policy, now: datetime | None = None) -> Resolution:
        seen: Snapshot | None = None
        if self._touches is not None:
            now = now or _now(self._clock)
            touch = touching(message, policy, now)
            met = self._touches.touch(touch)
            if isinstance(met, Touched):
                return _joined(touch, met)
            seen = met
        see = partial(self._look, seen, Lookup.of(message, policy))
        decision, ticket = self._settle(see, partial(_decide, message=message, policy=policy), now)
        return _resolution(decision, ticket)

    def _join_known(self, asked: Sequence[Asked]) -> Sequence[Resolution | Snapshot | None]:
        runs = None if self._touches_many is None else runs_of(asked)
        if self._touches_many is None or runs is None:
            return [None] * len(asked)
        return _joined_together(len(asked), runs, self._touches_many.touch_many(runs))

    def _resolve_batch(self, asked: Sequence[Asked], seen: Sequence[Snapshot] | None) -> Sequence[Resolution]:
        batches = self._batches if asked and (seen or len(asked) >= _WORTH_IT) else None
        if batches is not None and seen is None:
            seen = batches.load_many(_lookups(asked))
        planned = None if seen is None else _planned(asked, seen, self._repository.statuses)
        if batches is None or planned is None:
            return [self._resolve(*each) for each in asked]
        written = batches.commit_many(planned.joints)
        again = {place: self._resolve(*asked[place]) for place in planned.lost(written)}
        return _resolutions(planned, written, again)

    def _look(self, seen: Snapshot | None, lookup: Lookup, *, overtaken: bool) -> Snapshot:
        return self._load(lookup, overtaken=overtaken) if seen is None or overtaken else seen

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
        return self._plan(Move(KeyPart.CONTACT, company_id, source_id, target_id), on_collision)

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
        return self._move(Move(KeyPart.CONTACT, company_id, source_id, target_id), on_collision)

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
        return self._plan(Move(KeyPart.CONNECTION, company_id, source_id, target_id), on_collision)

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
        return self._move(Move(KeyPart.CONNECTION, company_id, source_id, target_id), on_collision)

    def _load(self, lookup: Lookup, *, overtaken: bool) -> Snapshot:
        return self._repository.load(lookup.once(overtaken=overtaken))

    def _get(self, ref: TicketRef, *, overtaken: bool) -> Ticket:
        get = _getter(self._repository, overtaken=overtaken)
        return _found(get(ref.company_id, ref.ticket_id), ref)

    def _view(self, ref: TicketRef, connection_id: Id | None, *, overtaken: bool) -> View:
        ticket = self._get(ref, overtaken=overtaken)
        here = ticket.connection_id if connection_id is None else connection_id
        snapshot = self._load(
            Lookup(ticket.company_id, ticket.contact_id, here, claim=True), overtaken=overtaken
        )
        return View(ticket, snapshot)

    def _settle(
        self,
        see: Callable[..., _Seen],
        choose: Callable[[_Seen, datetime], _Answer],
        now: datetime | None = None,
    ) -> tuple[_Answer, Ticket | None]:
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            seen = see(overtaken=lost is not None)
            answer = choose(seen, now or _now(self._clock))
            now = None
            if isinstance(answer, _WRITES_NOTHING):
                return _told(answer, _kept(answer))
            try:
                return _told(answer, self._repository.commit(answer))
            except ConflictError as error:
                lost = error
        raise ContentionError(f"gave up after {self._attempts} lost races in a row") from lost

    def _plan(self, move: Move, on_collision: OnCollision) -> MovePlan:
        on_collision = as_on_collision(on_collision)
        survey = _able(self._mover).survey_move(move)
        return plan_move(move, survey, on_collision, _now(self._clock))

    def _move(self, move: Move, on_collision: OnCollision) -> MovePlan:
        on_collision, mover = as_on_collision(on_collision), _able(self._mover)
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            survey = mover.survey_move(move, claim=True)
            plan = plan_move(move, survey, on_collision, _now(self._clock))
            try:
                mover.commit_move(plan)
            except ConflictError as error:
                lost = error
            else:
                log_move(plan)
                return plan
        raise ContentionError(f"gave up after {self._attempts} lost races in a row") from lost


class AsyncTicketRouter:
    """Find, create and reopen the tickets of messages, and guard what the desk does with them.

    It holds no state and no connection beyond its repository's: make one per unit of work.

    Args:
        repository: where the tickets are.
        policy: what the host has chosen, or a function from a key to that.
        clock: what tells the present; only tests need another.
        attempts: how many lost races in a row an operation answers with a fresh look.

    Raises:
        InvalidMessageError: if the repository or the policy is none, or `attempts` is no whole number from 1
            to 1000.
    """

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
        self._touches: AsyncTouches | None = _ability(repository, AsyncTouches)
        self._batches: AsyncBatches | None = _ability(repository, AsyncBatches)
        self._touches_many: AsyncTouchesMany | None = _ability(repository, AsyncTouchesMany)
        self._mover: AsyncMovesTickets | None = _ability(repository, AsyncMovesTickets)
        self._policy = _checked_policy(policy)
        self._clock = clock
        self._attempts = _checked_attempts(attempts)

    async def resolve(self, message: InboundMessage) -> Resolution:
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
            One `touch`, where the repository can. Where it met no active ticket on the key: one `load`, unless
            the answer to `touch` was as good; one `commit` unless the message is ignored or a duplicate; again
            after a lost race.
        """
        _check(message, InboundMessage, "message")
        return await self._resolve(message, _policy_for(self._policy, message.key))

    async def resolve_many(self, messages: Iterable[InboundMessage]) -> list[Resolution]:
        """Find the tickets of several messages, in their order and with the same results as one by one.

        Only the ids of new tickets may differ: a batch writes by key, so that no two batches deadlock.

        Args:
            messages: the messages.

        Returns:
            One Resolution per message, in the same order.

        Raises:
            InvalidMessageError: if one of them is no InboundMessage, or there are more than 10,000; or if the
                policy of one is none. Nothing was read or written.
            TicketRouterError: as `resolve`, at the first message that fails; what came before it is in the
                host's transaction, for the host to commit or to roll back.

        Statements:
            One `touch_many`, where the repository can, the policies go by connection, no message has an id, and no
            contact writes on two connections. For what met no active ticket by that: one `load_many`, unless the
            answer to `touch_many` was as good, and one `commit_many`, where the repository can; and those of `resolve` for each message that has lost a race, or
            for all of them where one is blocked by the unique rule.
        """
        batch = checked_batch(list(messages))
        for message in batch:
            _check(message, InboundMessage, "message")
        policies = _policies_for(self._policy, batch)
        if self._batches is None or len(batch) < _WORTH_IT:
            return [await self._resolve(*each) for each in zip(batch, policies, strict=True)]
        asked = [(*each, _now(self._clock)) for each in zip(batch, policies, strict=True)]
        known = await self._join_known(asked)
        return _in_place(known, await self._resolve_batch(*_left(asked, known)))

    async def explain(self, message: InboundMessage) -> Explanation:
        """Say what would become of a message now, why, and what would change that; nothing is written or locked.

        Args:
            message: the message.

        Returns:
            The answer, the facts that it rests on, and every single change that would lead to another one.

        Raises:
            InvalidMessageError: if it is no InboundMessage.

        Statements:
            One `load`.
        """
        _check(message, InboundMessage, "message")
        policy = _policy_for(self._policy, message.key)
        snapshot = await self._load(
            evolve(Lookup.of(message, policy), closed=True, claim=False), overtaken=False
        )
        return explain(message, snapshot, policy, _now(self._clock))

    async def find_active(self, key: TicketKey) -> Ticket | None:
        """Find the active ticket of a key; None if it has none.

        Statements:
            One `load`.
        """
        _check(key, TicketKey, "key")
        snapshot = await self._load(Lookup.at(key), overtaken=False)
        return snapshot.active_on(key.connection_id)

    async def active_tickets(self, company_id: Id, contact_id: Id) -> list[Ticket]:
        """List what a contact has active on every connection, newest first.

        Statements:
            One `load`.
        """
        snapshot = await self._load(Lookup(company_id, contact_id), overtaken=False)
        return newest_first(snapshot.active)

    async def ensure_can_open(self, key: TicketKey) -> None:
        """Raise what `open` would raise now; a race may still change the answer before `open` is called.

        Raises:
            ActiveTicketExistsError: if the key has an active ticket.
            BlockedBySchemaError: if the host's unique rule leaves no room.

        Statements:
            One `load`.
        """
        _check(key, TicketKey, "key")
        snapshot = await self._load(Lookup.at(key), overtaken=False)
        open_ticket(snapshot, _now(self._clock), key=key, is_group=False, user_id=None, queue_id=None)

    async def open(
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
        _check(key, TicketKey, "key")
        _check(is_group, bool, "is_group")
        choose = partial(open_ticket, key=key, is_group=is_group, user_id=user_id, queue_id=queue_id)
        answer, ticket = await self._settle(partial(self._load, Lookup.at(key, claim=True)), choose)
        return _with_change(answer, ticket)

    async def accept(self, company_id: Id, ticket_id: Id, user_id: Id) -> Ticket:
        """Give a ticket to an agent; it is harmless where the agent has accepted it already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed, or accepted by another agent; it carries the ticket.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race.
        """
        checks.check_id("user_id", user_id)
        choose = partial(accept_ticket, user_id=user_id, statuses=self._repository.statuses)
        answer, ticket = await self._settle(partial(self._get, TicketRef(company_id, ticket_id)), choose)
        return _with_change(answer, ticket)

    async def close(self, company_id: Id, ticket_id: Id) -> Ticket:
        """Close a ticket; it is harmless where it is closed already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.

        Statements:
            One `get`, and one `commit` where there is something to change; again after a lost race.
        """
        choose = partial(close_ticket, statuses=self._repository.statuses)
        answer, ticket = await self._settle(partial(self._get, TicketRef(company_id, ticket_id)), choose)
        return _with_change(answer, ticket)

    async def reopen(self, company_id: Id, ticket_id: Id) -> Ticket:
        """Reopen a ticket into its queue, without an agent; it is harmless where it is active.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ActiveTicketExistsError: if its key has another active ticket, which it carries.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race.
        """
        choose = partial(reopen_ticket, statuses=self._repository.statuses)
        answer, ticket = await self._settle(
            partial(self._view, TicketRef(company_id, ticket_id), None), choose
        )
        return _with_change(answer, ticket)

    async def transfer(self, company_id: Id, ticket_id: Id, connection_id: Id) -> Ticket:
        """Move an active ticket to another connection; it is harmless where it is there already.

        Raises:
            TicketNotFoundError: if the company has no such ticket.
            ConflictError: if it is closed; it carries the ticket.
            ActiveTicketExistsError: if the contact has an active ticket on that connection.
            BlockedBySchemaError: if the host's unique rule leaves no room; nothing was written.

        Statements:
            One `get` and one `load`, and one `commit` where there is something to change; again after a lost
            race.
        """
        checks.check_id("connection_id", connection_id)
        choose = partial(transfer_ticket, connection_id=connection_id, statuses=self._repository.statuses)
        see = partial(self._view, TicketRef(company_id, ticket_id), connection_id)
        answer, ticket = await self._settle(see, choose)
        return _with_change(answer, ticket)

    async def _resolve(
        self, message: InboundMessage, policy: Policy, now: datetime | None = None
    ) -> Resolution:
        seen: Snapshot | None = None
        if self._touches is not None:
            now = now or _now(self._clock)
            touch = touching(message, policy, now)
            met = await self._touches.touch(touch)
            if isinstance(met, Touched):
                return _joined(touch, met)
            seen = met
        see = partial(self._look, seen, Lookup.of(message, policy))
        decision, ticket = await self._settle(see, partial(_decide, message=message, policy=policy), now)
        return _resolution(decision, ticket)

    async def _join_known(self, asked: Sequence[Asked]) -> Sequence[Resolution | Snapshot | None]:
        runs = None if self._touches_many is None else runs_of(asked)
        if self._touches_many is None or runs is None:
            return [None] * len(asked)
        return _joined_together(len(asked), runs, await self._touches_many.touch_many(runs))

    async def _resolve_batch(
        self, asked: Sequence[Asked], seen: Sequence[Snapshot] | None
    ) -> Sequence[Resolution]:
        batches = self._batches if asked and (seen or len(asked) >= _WORTH_IT) else None
        if batches is not None and seen is None:
            seen = await batches.load_many(_lookups(asked))
        planned = None if seen is None else _planned(asked, seen, self._repository.statuses)
        if batches is None or planned is None:
            return [await self._resolve(*each) for each in asked]
        written = await batches.commit_many(planned.joints)
        again = {place: await self._resolve(*asked[place]) for place in planned.lost(written)}
        return _resolutions(planned, written, again)

    async def _look(self, seen: Snapshot | None, lookup: Lookup, *, overtaken: bool) -> Snapshot:
        return await self._load(lookup, overtaken=overtaken) if seen is None or overtaken else seen

    async def plan_merge_contacts(
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
        return await self._plan(Move(KeyPart.CONTACT, company_id, source_id, target_id), on_collision)

    async def merge_contacts(
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
        return await self._move(Move(KeyPart.CONTACT, company_id, source_id, target_id), on_collision)

    async def plan_move_connection(
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
        return await self._plan(Move(KeyPart.CONNECTION, company_id, source_id, target_id), on_collision)

    async def move_connection(
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
        return await self._move(Move(KeyPart.CONNECTION, company_id, source_id, target_id), on_collision)

    async def _load(self, lookup: Lookup, *, overtaken: bool) -> Snapshot:
        return await self._repository.load(lookup.once(overtaken=overtaken))

    async def _get(self, ref: TicketRef, *, overtaken: bool) -> Ticket:
        get = _getter(self._repository, overtaken=overtaken)
        return _found(await get(ref.company_id, ref.ticket_id), ref)

    async def _view(self, ref: TicketRef, connection_id: Id | None, *, overtaken: bool) -> View:
        ticket = await self._get(ref, overtaken=overtaken)
        here = ticket.connection_id if connection_id is None else connection_id
        snapshot = await self._load(
            Lookup(ticket.company_id, ticket.contact_id, here, claim=True), overtaken=overtaken
        )
        return View(ticket, snapshot)

    async def _settle(
        self,
        see: Callable[..., Awaitable[_Seen]],
        choose: Callable[[_Seen, datetime], _Answer],
        now: datetime | None = None,
    ) -> tuple[_Answer, Ticket | None]:
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            seen = await see(overtaken=lost is not None)
            answer = choose(seen, now or _now(self._clock))
            now = None
            if isinstance(answer, _WRITES_NOTHING):
                return _told(answer, _kept(answer))
            try:
                return _told(answer, await self._repository.commit(answer))
            except ConflictError as error:
                lost = error
        raise ContentionError(f"gave up after {self._attempts} lost races in a row") from lost

    async def _plan(self, move: Move, on_collision: OnCollision) -> MovePlan:
        on_collision = as_on_collision(on_collision)
        survey = await _able(self._mover).survey_move(move)
        return plan_move(move, survey, on_collision, _now(self._clock))

    async def _move(self, move: Move, on_collision: OnCollision) -> MovePlan:
        on_collision, mover = as_on_collision(on_collision), _able(self._mover)
        lost: ConflictError | None = None
        for _ in range(self._attempts):
            survey = await mover.survey_move(move, claim=True)
            plan = plan_move(move, survey, on_collision, _now(self._clock))
            try:
                await mover.commit_move(plan)
            except ConflictError as error:
                lost = error
            else:
                log_move(plan)
                return plan
        raise ContentionError(f"gave up after {self._attempts} lost races in a row") from lost


# --- what both routers share: nothing here asks a repository --------------------------------------------------


def _decide(snapshot: Snapshot, now: datetime, *, message: InboundMessage, policy: Policy) -> Decision:
    return decide(message, snapshot, policy, now)


def _lookups(asked: Sequence[Asked]) -> list[Lookup]:
    return [Lookup.of(message, policy) for message, policy, _ in asked]


def _planned(asked: Sequence[Asked], found: Sequence[Snapshot], statuses: StatusScheme) -> Plan | None:
    given = [
        Given(message, seen, policy, now) for (message, policy, now), seen in zip(asked, found, strict=True)
    ]
    try:
        return plan(given, statuses)
    except BlockedBySchemaError:
        return None  # what comes before the message that fails is routed all the same, and it fails with what is there


def _resolutions(
    planned: Plan, written: Sequence[Ticket | None], again: Mapping[int, Resolution]
) -> list[Resolution]:
    instead = {place: resolution._ticket for place, resolution in again.items()}  # noqa: SLF001 - None if ignored
    answers = planned.carried_out(written, instead)
    return [
        again[place] if place in again else _resolution(*_told(decision, ticket))
        for place, (decision, ticket) in enumerate(answers)
    ]


def _left(
    asked: Sequence[Asked], known: Sequence[Resolution | Snapshot | None]
) -> tuple[list[Asked], list[Snapshot] | None]:
    """Return what is not answered yet, with what was seen of it if that is all that counts."""
    left = [each for each, found in zip(asked, known, strict=True) if not isinstance(found, Resolution)]
    seen = [found for found in known if isinstance(found, Snapshot)]
    return left, seen if len(seen) == len(left) else None


def _in_place(
    known: Sequence[Resolution | Snapshot | None], others: Iterable[Resolution]
) -> list[Resolution]:
    left = iter(others)
    return [each if isinstance(each, Resolution) else next(left) for each in known]


def _joined_together(
    length: int, runs: Sequence[Run], met: Sequence[Joined | Snapshot | None] | None
) -> list[Resolution | Snapshot | None]:
    found: list[Resolution | Snapshot | None] = [None] * length
    reused, on_key = Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION
    for run, joined in zip(runs, met or (), strict=met is not None):
        if isinstance(joined, Joined):
            for place, ticket in zip(run.places, joined.tickets, strict=True):
                found[place] = trusted_resolution(reused, on_key, joined.other_active, ticket)
        else:
            for place in run.places:
                found[place] = joined
    if logger.isEnabledFor(logging.DEBUG):
        for each in found:
            if isinstance(each, Resolution):
                ticket, others = each.ticket, each.other_active
                log_answer(Reuse(ticket, ticket.updated_at, on_key, other_active=others), ticket)
    return found


def _joined(touch: Touch, met: Touched) -> Resolution:
    if logger.isEnabledFor(logging.DEBUG):
        log_answer(touched(touch, met), met.ticket)
    return trusted_resolution(Outcome.REUSED, Reason.ACTIVE_ON_CONNECTION, met.other_active, met.ticket)


def _kept(answer: Ignore | Duplicate | Keep) -> Ticket | None:
    return None if isinstance(answer, Ignore) else answer.ticket


def _told(answer: _Answer, ticket: Ticket | None) -> tuple[_Answer, Ticket | None]:
    log_answer(answer, ticket)
    return answer, ticket


_KNOWN: WeakSet[type[object]] = WeakSet()
_CALLS: dict[type[object], tuple[str, ...]] = {
    protocol: calls
    for protocols, calls in {
        (Touches, AsyncTouches): ("touch",),
        (Batches, AsyncBatches): ("load_many", "commit_many"),
        (TouchesMany, AsyncTouchesMany): ("touch_many",),
        (MovesTickets, AsyncMovesTickets): ("survey_move", "commit_move"),
    }.items()
    for protocol in protocols
}


def _check_repository(repository: object, port: type[object]) -> None:
    # A router is made for each unit of work, and to ask a protocol takes as long as a tenth of a message.
    if type(repository) not in _KNOWN:
        _check(repository, port, "repository")
        _KNOWN.add(type(repository))


def _ability(repository: Any, ability: type[object]) -> Any:
    """Return the repository if it has an optional ability: what `isinstance` would say, ten times as fast."""
    able = all(callable(getattr(repository, name, None)) for name in _CALLS[ability])
    return repository if able else None


def _check(value: object, kind: type[object], field: str) -> None:
    if not isinstance(value, kind):
        raise InvalidMessageError(field, value, f"of type {kind.__name__}")


def _checked_policy(policy: PolicyChoice) -> PolicyChoice:
    if not isinstance(policy, Policy) and not callable(policy):
        raise InvalidMessageError("policy", policy, "a Policy, or a function from a TicketKey to a Policy")
    return policy


def _policy_for(policy: PolicyChoice, key: TicketKey) -> Policy:
    chosen = policy if isinstance(policy, Policy) else policy(key)
    _check(chosen, Policy, "policy")
    return chosen


def _policies_for(policy: PolicyChoice, batch: Sequence[InboundMessage]) -> list[Policy]:
    if isinstance(policy, Policy):
        return [policy] * len(batch)
    return [_policy_for(policy, message.key) for message in batch]


def _checked_attempts(attempts: object) -> int:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidMessageError("attempts", attempts, f"a whole number from 1 to {MAX_ATTEMPTS}")
    return attempts


def _now(clock: Clock) -> datetime:
    return checks.as_utc("clock", clock())


def _able(mover: _Ability | None) -> _Ability:
    if mover is None:
        raise RepositoryError("this repository cannot move tickets: it has no survey_move and commit_move")
    return mover


def _getter(repository: TicketRepository | AsyncTicketRepository, *, overtaken: bool) -> Any:
    # Only some stores can look past an old snapshot, and only after a lost race is there need to.
    return getattr(repository, "get_current", repository.get) if overtaken else repository.get


def _found(ticket: Ticket | None, ref: TicketRef) -> Ticket:
    if ticket is None:
        raise TicketNotFoundError(f"the company has no ticket {ref.ticket_id!r}")
    return ticket


def _resolution(decision: Decision, ticket: Ticket | None) -> Resolution:
    before = decision.ticket if isinstance(decision, Reopen) else None
    return trusted_resolution(decision.outcome, decision.reason, decision.other_active, ticket, before)


def _with_change(answer: Write | Keep, ticket: Ticket | None) -> Ticket:
    if ticket is None:
        raise AssertionError("only an ignored message has no ticket")
    match answer:
        case Keep():
            return ticket
        case Create():
            return altered(ticket, change=Change.between(None, ticket))
        case _:
            return altered(ticket, change=Change.between(answer.ticket, ticket))
