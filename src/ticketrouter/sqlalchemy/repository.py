"""The repositories over a host's session or connection.

Law of this file: the transaction is the host's. Its pending objects are flushed first; nothing is committed,
rolled back, closed, retried or created. An error of the driver comes out as ours, with its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any, NoReturn, TypeAlias, TypeVar, assert_never
from weakref import WeakKeyDictionary, WeakSet

from attrs import evolve, frozen
from sqlalchemy import Connection, CursorResult, Dialect, Executable, RootTransaction, inspect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from ticketrouter.batch import Joined, Joint, Run
from ticketrouter.checks import Id, as_member, as_utc
from ticketrouter.errors import (
    ConflictError,
    ContentionError,
    InvalidMessageError,
    RepositoryError,
    TicketRouterError,
)
from ticketrouter.lifecycle import Accept, Close, Transfer, Write
from ticketrouter.log import logger
from ticketrouter.model import StatusScheme, Ticket, TicketKey, UniqueRule, bumped, id_order, key_order
from ticketrouter.moves import KeyPart, Move, MovePlan, Survey
from ticketrouter.policy import Create, Lookup, MessageRef, Reopen, Reuse, Snapshot, Touch, Touched, touched
from ticketrouter.sqlalchemy.asynchronous import AsyncConnection, AsyncSession, async_scoped_session
from ticketrouter.sqlalchemy.catalogue import schema_of
from ticketrouter.sqlalchemy.claims import READ_COMMITTED, Contact, Guard, contact_order
from ticketrouter.sqlalchemy.faults import Fault, fault_of, translated
from ticketrouter.sqlalchemy.many import ManyStatements, in_key_order
from ticketrouter.sqlalchemy.mapping import DEFAULT_MAPPING, MappingError, TicketMapping
from ticketrouter.sqlalchemy.moves import CLOSED_AT_ONCE, MoveStatements
from ticketrouter.sqlalchemy.rules import Detected, detect
from ticketrouter.sqlalchemy.sqlite import begins_with_the_write_lock, is_autocommit, warn_of_unsafe_mode
from ticketrouter.sqlalchemy.statements import ASK_VARIABLE, Sent, Statements

_T = TypeVar("_T")
_SYNC_HOSTS = (Session, Connection, scoped_session)
_ONE_SNAPSHOT = {"REPEATABLE READ", "SERIALIZABLE"}
"""The levels at which a transaction of PostgreSQL sees nothing that is newer than its first look."""
_ASYNC_HOSTS = (AsyncSession, AsyncConnection, async_scoped_session)


class SQLAlchemyTicketRepository:
    """Keeps tickets in a host's database, inside the host's transaction.

    Args:
        session_or_connection: the host's Session (or scoped_session) or Connection.
        mapping: where the tickets are.
        unique_rule: what the schema enforces; None: it is detected, once per engine and table.

    Raises:
        MappingError: if one of them is of another kind.
    """

    def __init__(
        self,
        session_or_connection: Session | scoped_session[Any] | Connection,
        mapping: TicketMapping = DEFAULT_MAPPING,
        *,
        unique_rule: UniqueRule | None = None,
    ) -> None:
        _check_host(session_or_connection, _SYNC_HOSTS, mapping, "AsyncSQLAlchemyTicketRepository")
        self._host = session_or_connection
        self._mapping = mapping
        self._unique_rule = unique_rule

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._mapping.statuses

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `TicketRepository.load`.

        Statements:
            One `SELECT`; where the table has no unique rule and a write may follow, one write of the contact's anchor
            row before it, on MariaDB after it, and then locking ones (`FOR UPDATE`) where somebody else has written it meanwhile.
        """
        return self._in_host(lambda work: work.load(lookup))

    def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket of a company: see `TicketRepository.get`.

        Statements:
            One `SELECT`; on MariaDB a second one for a ticket that is newer than the transaction's snapshot, and that
            a second look has locked.
        """
        return self._in_host(lambda work: work.get(company_id, ticket_id))

    def get_current(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket as it is committed now: see `ReadsCurrent`.

        Statements:
            One `SELECT`; on MariaDB a second one, which locks the row.
        """
        return self._in_host(lambda work: work.get_current(company_id, ticket_id))

    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        """Let a message join the active ticket of its key: see `Touches.touch`.

        Statements:
            One on PostgreSQL, which also records the message id. For a message without an id: one `UPDATE` on
            SQLite; on MariaDB, where an `UPDATE` that misses would keep others from inserting, one `SELECT`, and one
            `UPDATE` by primary key of what it has found. Else none. Where the table has no unique rule and no ticket
            was met, the contact is claimed too, and looked for again: on PostgreSQL by the first statement and one
            `SELECT` more, on SQLite by the lock of the `UPDATE` and one `SELECT` more, on MariaDB by the write of the
            anchor row, which tells whether the first look can be trusted.
        """
        return self._in_host(lambda work: work.touch(touch))

    def commit(self, decision: Write) -> Ticket:
        """Carry out one decision: see `TicketRepository.commit`.

        Statements:
            One `INSERT` or `UPDATE`, and one `INSERT` where a message id is recorded; on PostgreSQL a reopening
            and a transfer stand in a savepoint. On MariaDB one `SELECT` more after an `UPDATE`, but for a reuse of a
            ticket that is as it was seen; and one more at the first `INSERT` of a connection.
        """
        return self._in_host(lambda work: work.commit(decision))

    def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move: see `MovesTickets.survey_move`.

        Statements:
            Two `SELECT`, three where a full unique rule may be in the way; with `claim` they lock what they find.
            Where the table has no unique rule, one write more of the anchor rows of all contacts concerned.
        """
        return self._in_host(lambda work: work.survey_move(move, claim=claim))

    def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan: see `MovesTickets.commit_move`.

        Statements:
            In a savepoint: one `UPDATE` for every 500 tickets to be closed, one for all to be re-pointed; where
            connections are moved and message ids are kept, one `INSERT` for those.
        """
        self._in_host(lambda work: work.commit_move(plan))

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        """Let messages join the active tickets of their keys: see `TouchesMany.touch_many`.

        Statements:
            One on PostgreSQL, where the unique rule allows one active ticket on a key. Else none: also in AUTOCOMMIT.
        """
        return self._in_host(lambda work: work.touch_many(runs))

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages: see `Batches.load_many`.

        Statements:
            One `SELECT` of active tickets; one each of closed ones, of rows in the way, and of recorded message ids,
            where they are asked for; where there is no unique rule one write of the anchors before them, on MariaDB
            after them, between two looks at their versions. None in AUTOCOMMIT: there messages go one by one.
        """
        return self._in_host(lambda work: work.load_many(lookups))

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions: see `Batches.commit_many`.

        Statements:
            One locking `SELECT` of the tickets that are joined or reopened, one `INSERT` of new ones, one of message
            ids, one `UPDATE` of those that are reopened, on PostgreSQL in a savepoint, and one of those that are
            joined. On MariaDB one `SELECT` before each `INSERT`, one `UPDATE` for each 500 tickets, and one `SELECT`
            after each that reopens. Where a key was taken meanwhile, the reopenings are halved until it is alone.
        """
        return self._in_host(lambda work: work.commit_many(joints))

    def forget_messages(self, before: datetime) -> int:
        """Forget the message ids that were recorded before a time: see `ForgetsMessages`.

        Statements:
            One `DELETE`.
        """
        moment = as_utc("before", before)
        return self._in_host(lambda work: work.forget_messages(moment))

    def _in_host(self, work: Callable[[_Work], _T]) -> _T:
        connection = _connection(self._host, self._mapping)
        with translated():
            return work(_Work(connection, _plan(connection, self._mapping, self._unique_rule)))


class AsyncSQLAlchemyTicketRepository:
    """The same for asynchronous code, run through `run_sync`.

    Args:
        session_or_connection: the host's AsyncSession (or async_scoped_session) or AsyncConnection.
        mapping: where the tickets are.
        unique_rule: what the schema enforces; None: it is detected, once per engine and table.

    Raises:
        MappingError: if one of them is of another kind.
    """

    def __init__(
        self,
        session_or_connection: AsyncSession | AsyncConnection | async_scoped_session[Any],
        mapping: TicketMapping = DEFAULT_MAPPING,
        *,
        unique_rule: UniqueRule | None = None,
    ) -> None:
        _check_host(session_or_connection, _ASYNC_HOSTS, mapping, "SQLAlchemyTicketRepository")
        self._host = session_or_connection
        self._mapping = mapping
        self._unique_rule = unique_rule

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._mapping.statuses

    async def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `SQLAlchemyTicketRepository.load`."""
        return await self._run(lambda repository: repository.load(lookup))

    async def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket of a company: see `SQLAlchemyTicketRepository.get`."""
        return await self._run(lambda repository: repository.get(company_id, ticket_id))

    async def get_current(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        """Find one ticket as it is committed now: see `SQLAlchemyTicketRepository.get_current`."""
        return await self._run(lambda repository: repository.get_current(company_id, ticket_id))

    async def touch(self, touch: Touch) -> Touched | Snapshot | None:
        """Let a message join the active ticket of its key: see `SQLAlchemyTicketRepository.touch`."""
        return await self._run(lambda repository: repository.touch(touch))

    async def commit(self, decision: Write) -> Ticket:
        """Carry out one decision: see `SQLAlchemyTicketRepository.commit`."""
        return await self._run(lambda repository: repository.commit(decision))

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move: see `SQLAlchemyTicketRepository.survey_move`."""
        return await self._run(lambda repository: repository.survey_move(move, claim=claim))

    async def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan: see `SQLAlchemyTicketRepository.commit_move`."""
        await self._run(lambda repository: repository.commit_move(plan))

    async def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        """Let messages join tickets: see `SQLAlchemyTicketRepository.touch_many`."""
        return await self._run(lambda repository: repository.touch_many(runs))

    async def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Look for several messages: see `SQLAlchemyTicketRepository.load_many`."""
        return await self._run(lambda repository: repository.load_many(lookups))

    async def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions: see `SQLAlchemyTicketRepository.commit_many`."""
        return await self._run(lambda repository: repository.commit_many(joints))

    async def forget_messages(self, before: datetime) -> int:
        """Forget old message ids: see `SQLAlchemyTicketRepository.forget_messages`."""
        return await self._run(lambda repository: repository.forget_messages(before))

    async def _run(self, work: Callable[[SQLAlchemyTicketRepository], _T]) -> _T:
        def in_sync(host: Session | Connection) -> _T:
            return work(SQLAlchemyTicketRepository(host, self._mapping, unique_rule=self._unique_rule))

        host = self._host() if isinstance(self._host, async_scoped_session) else self._host
        return await host.run_sync(in_sync)


# --- what is known of an engine ------------------------------------------------------------------------------


@frozen
class _Plan:
    """What was found out once about a mapping on an engine, and the statements that follow from it."""

    statements: Statements
    many: ManyStatements
    keeps_message_ids: bool
    keeps_anchors: bool


_Known: TypeAlias = dict[tuple[TicketMapping, str | None, UniqueRule | None], _Plan]

# One entry per engine, by the dialect that all views of it share; it goes when the engine goes.
_known: WeakKeyDictionary[Dialect, _Known] = WeakKeyDictionary()
_warned: WeakSet[Statements] = WeakSet()
# What goes when a transaction goes: the ids that a locking read of it has found, ...
_locked: WeakKeyDictionary[RootTransaction, set[Id]] = WeakKeyDictionary()
# ... and the contacts that others have claimed after its plain reads began to see what they see.
_overtaken: WeakKeyDictionary[RootTransaction, set[tuple[Id, Id]]] = WeakKeyDictionary()


def _plan(connection: Connection, mapping: TicketMapping, unique_rule: UniqueRule | None) -> _Plan:
    schema = schema_of(connection, mapping)
    known = _known.get(connection.dialect)
    if known is None:
        known = _known.setdefault(connection.dialect, {})
    plan = known.get((mapping, schema, unique_rule))
    if plan is None:
        if connection.dialect.name == "sqlite":
            warn_of_unsafe_mode(connection)
        detected = (
            detect(connection, mapping)
            if unique_rule is None
            else Detected(as_member("unique_rule", UniqueRule, unique_rule))
        )
        found = inspect(connection)
        statements = Statements(mapping, connection.dialect.name, detected)
        plan = known[mapping, schema, unique_rule] = _Plan(
            statements,
            ManyStatements(statements),
            keeps_message_ids=found.has_table(mapping.message_ids.name, schema=schema),
            keeps_anchors=found.has_table(mapping.anchors.name, schema=schema),
        )
    return plan


def _warn_of_missing_ids(statements: Statements) -> None:
    """Tell once that redeliveries are not recognised, as a host may not know what it has left out."""
    if statements not in _warned:
        _warned.add(statements)
        logger.warning(
            "%s is missing, so message ids are not remembered: create it with mapping.metadata.create_all(engine)",
            statements.mapping.message_ids.fullname,
        )


def _check_host(host: object, kinds: tuple[type, ...], mapping: object, other: str) -> None:
    if not isinstance(host, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise MappingError(f"{names} is needed, not {type(host).__name__}; for the other kind use {other}")
    if not isinstance(mapping, TicketMapping):
        raise MappingError(
            f"a TicketMapping is needed, not {type(mapping).__name__}: TicketMapping(table, ...)"
        )


def _connection(host: Session | scoped_session[Any] | Connection, mapping: TicketMapping) -> Connection:
    if isinstance(host, Connection):
        return host
    # Flushed out of `translated`, so that what the host's own objects break is the host's own error.
    host.flush()
    with translated():
        return host.connection(bind_arguments={"clause": mapping.table})


@frozen
class _Closed:
    """A ticket that a Joint of a batch reopens, as it is now."""

    place: int
    ticket: Ticket
    decision: Reopen


# --- one call's work -----------------------------------------------------------------------------------------


@frozen
class _Work:
    """The statements of one call, sent over one connection."""

    connection: Connection
    plan: _Plan

    @property
    def statements(self) -> Statements:
        return self.plan.statements

    def load(self, lookup: Lookup) -> Snapshot:
        if not self._is_here(lookup.company_id):
            return Snapshot(unique_rule=self.statements.rule)
        if lookup.message_id is not None and not self.plan.keeps_message_ids:
            _warn_of_missing_ids(self.statements)
            lookup = evolve(lookup, message_id=None)
        claims = self._claims(lookup)
        if claims and self.statements.reads_may_be_old:
            self._guard_or_raise()
            return self._claimed_since(lookup, *self._look(lookup))
        if claims:
            self._claim(lookup.company_id, lookup.contact_id)
        found = self.statements.snapshot(self._execute(self.statements.load(lookup)).all())
        is_enough = not self.statements.reads_may_be_old or not lookup.overtaken
        return found if is_enough else self._as_it_is_now(lookup, found)

    def _claims(self, lookup: Lookup) -> bool:
        return lookup.claim and self.statements.rule is UniqueRule.NONE

    def _look(self, lookup: Lookup) -> tuple[Snapshot, int | None]:
        """Return what a plain read sees, and the version of the contact's anchor in it."""
        return self.statements.versioned(self._execute(self.statements.load(lookup, versioned=True)).all())

    def _claimed_since(self, lookup: Lookup, seen: Snapshot, version: int | None) -> Snapshot:
        """Claim a contact, and return what was seen of it before if nobody has claimed it since, else what is now.

        Thus a new ticket needs no locking read, which would keep others from inserting beside it.
        """
        sent = self.statements.claims.anchor(lookup.company_id, lookup.contact_id)
        written: Sequence[Any]
        *written, now = self._execute(sent).one()
        # As the row has it: where the collation knows no cases, "a" is overtaken with "A".
        contact = written[0], written[1]
        overtaken = self._of_transaction(_overtaken)
        if now != (0 if version is None else version + 1):
            # The next look finds what was just written, and beside it still the old rows.
            overtaken.add(contact)
        return self._as_it_is_now(lookup, seen) if lookup.overtaken or contact in overtaken else seen

    def _as_it_is_now(self, lookup: Lookup, seen: Snapshot) -> Snapshot:
        rows = (row for sent in self.statements.current(lookup) for row in self._execute(sent))
        current = self.statements.snapshot(rows)
        self._remember(current)
        return self.statements.corrected(seen, current, lookup)

    def _remember(self, current: Snapshot) -> None:
        """Note what is locked now, so that `get` finds it though the transaction's own snapshot is older."""
        single = (current.latest_closed, current.occupant, current.routed)
        self._of_transaction(_locked).update(
            ticket.id for ticket in (*current.active, *single) if ticket is not None
        )

    def _of_transaction(self, noted: WeakKeyDictionary[RootTransaction, set[_T]]) -> set[_T]:
        """Return what is noted of the host's transaction."""
        transaction = self.connection.get_transaction()
        return set() if transaction is None else noted.setdefault(transaction, set())

    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        if not self._is_here(touch.key.company_id):
            return None
        if touch.message_ref is not None:
            if not self.plan.keeps_message_ids:
                _warn_of_missing_ids(self.statements)
                touch = evolve(touch, message=evolve(touch.message, message_id=None), message_ref=None)
            elif is_autocommit(self.connection):
                return None  # such a message may be a redelivery, and nothing else
        guard = self._guard if self.statements.rule is UniqueRule.NONE and touch.lookup.claim else None
        sent = self.statements.touch(touch, guard)
        if sent is None:
            return self._touch_as_seen(touch, guard)
        rows = self._execute(sent).all()
        if guard is Guard.LOCK and (level := self.statements.claims.level(rows)) is not None:
            self._check_level(level)
        found = self.statements.touched(touch, rows)
        if found is not None or guard is None:
            return found
        # Others are kept away now: by what the statement has written, or on SQLite by its being an `UPDATE`.
        return self.load(evolve(touch.lookup, claim=False))

    def _touch_as_seen(self, touch: Touch, guard: Guard | None) -> Touched | Snapshot | None:
        """Touch what a plain read sees, where an `UPDATE` that misses would keep others from inserting."""
        if touch.message_ref is not None or not self.statements.can_reuse_as_seen:
            return None
        lookup, version = touch.lookup, None
        if guard is None:
            unclaimed = self.statements.rule is UniqueRule.NONE
            seen = self.load(evolve(lookup, closed=False, claim=False) if unclaimed else lookup)
        else:
            seen, version = self._look(lookup)
        ticket = seen.active_on(touch.key.connection_id)
        if ticket is None and guard is not None:
            return self._claimed_since(lookup, seen, version)
        if ticket is None:
            # Who must claim first has seen nothing that counts.
            return None if self.statements.rule is UniqueRule.NONE else seen
        reuse = touched(touch, Touched(ticket, seen.active_elsewhere(ticket.connection_id)))
        changed = self._reused_as_seen(reuse)
        return None if changed is None else Touched(changed, reuse.other_active)

    def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        if not self._is_here(company_id):
            return None
        row = self._execute(self.statements.get(company_id, ticket_id)).one_or_none()
        if row is None and self._has_locked(ticket_id):
            row = self._execute(self.statements.get_current(company_id, ticket_id)).one_or_none()
        return None if row is None else self.statements.ticket(row)

    def _has_locked(self, ticket_id: Id) -> bool:
        return ticket_id in self._of_transaction(_locked)

    def get_current(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        found = self.get(company_id, ticket_id)
        if found is None or not self.statements.reads_may_be_old:
            return found
        # By its id, and only where it is: a locking read that misses would keep others from inserting.
        row = self._execute(self.statements.get_current(company_id, ticket_id)).one_or_none()
        return None if row is None else self.statements.ticket(row)

    def commit(self, decision: Write) -> Ticket:
        match decision:
            case Create():
                return self._create(decision)
            case Reuse():
                with self._recorded(decision.message_ref, decision):
                    return self._reuse(decision)
            case Reopen():
                with self._recorded(decision.message_ref, decision), self._key_taken(decision.ticket.key):
                    return self._changed(decision.ticket, self.statements.reopen(decision))
            case Accept():
                return self._changed(decision.ticket, self.statements.accept(decision))
            case Close():
                return self._changed(decision.ticket, self.statements.close(decision))
            case Transfer():
                key = evolve(decision.ticket.key, connection_id=decision.connection_id)
                with self._key_taken(key):
                    return self._changed(decision.ticket, self.statements.transfer(decision))
            case _:
                assert_never(decision)

    def forget_messages(self, before: datetime) -> int:
        if not self.plan.keeps_message_ids:
            return 0
        return self._execute(self.statements.forget_before(before)).rowcount

    def survey_move(self, move: Move, *, claim: bool) -> Survey:
        rule = self.statements.rule
        if not self._is_here(move.company_id):
            return Survey(unique_rule=rule)
        sent = MoveStatements(self.statements, move)
        claims = claim and rule is UniqueRule.NONE
        claimed = self._claim_move(move, sent) if claims else set()
        decode = self.statements.codecs["id"].decode
        ids = [decode(row[0]) for row in self.connection.execute(sent.ticket_ids(lock=claim))]
        if claims and move.part is KeyPart.CONNECTION:
            # Who came meanwhile, or after an old snapshot, is met now that the rows are locked.
            self._claim_all(move.company_id, self._contacts(sent, lock=True) - claimed)
        rivals = [self.statements.ticket(row) for row in self.connection.execute(sent.rivals(lock=claim))]
        occupying = sent.occupant() if ids else None
        row = None if occupying is None else self.connection.execute(occupying).one_or_none()
        return Survey(ids, rivals, None if row is None else self.statements.ticket(row), rule)

    def commit_move(self, plan: MovePlan) -> None:
        if is_autocommit(self.connection):
            raise RepositoryError(
                "a move is several statements in one transaction: use a connection without AUTOCOMMIT"
            )
        if not self._is_here(plan.move.company_id):
            return
        move, closing = plan.move, [each.ticket for each in plan.closes]
        sent = MoveStatements(self.statements, move)
        try:
            # All or nothing, for a host that goes on after the conflict.
            with self.connection.begin_nested():
                for start in range(0, len(closing), CLOSED_AT_ONCE):
                    some = closing[start : start + CLOSED_AT_ONCE]
                    self._changed_all(sent.close(some, plan.at), len(some))
                self._changed_all(sent.repoint(), len(plan.repoints))
                if move.part is KeyPart.CONNECTION and self.plan.keeps_message_ids:
                    self.connection.execute(sent.copy_message_ids())
        except IntegrityError as error:
            if fault_of(error) is not Fault.TAKEN:
                raise
            raise ConflictError("a key was taken meanwhile") from error

    def _changed_all(self, statement: Executable, expected: int) -> None:
        if self.connection.execute(statement).rowcount != expected:
            raise ConflictError("the tickets were changed meanwhile")

    def _claim_move(self, move: Move, sent: MoveStatements) -> set[Id]:
        """Keep everybody else from the contacts of a move, in an order that all moves share, and return them."""
        match move.part:
            case KeyPart.CONTACT:
                contacts = {move.source_id, move.target_id}
            case KeyPart.CONNECTION:
                contacts = self._contacts(sent, lock=False)
            case _:
                assert_never(move.part)
        self._claim_all(move.company_id, contacts)
        return contacts

    def _contacts(self, sent: MoveStatements, *, lock: bool) -> set[Id]:
        decode = self.statements.codecs["contact_id"].decode
        return {decode(row[0]) for row in self.connection.execute(sent.contacts(lock=lock))}

    def _claim_all(self, company_id: Id, contacts: set[Id]) -> None:
        every = {(company_id, contact_id) for contact_id in contacts}
        if every and self._guard_or_raise() is Guard.ANCHOR:
            self._claim_many(every)
            if self.statements.reads_may_be_old:
                # The next look finds what was just written, and beside it what may be old.
                self._of_transaction(_overtaken).update(self._versions(every))
            return
        for contact in sorted(every, key=contact_order):
            self._claim(*contact)

    # --- many at once ----------------------------------------------------------------------------------------

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        if not self.plan.many.touches or not self._takes_many(run.key[0] for run in runs):
            return None
        # Neighbours in the index are found faster one after another.
        sent = sorted(runs, key=lambda run: str(run.key[1]))
        joined = self.plan.many.joined(sent, self._execute(self.plan.many.touch(sent)).all())
        found = {id(run): each for run, each in zip(sent, joined, strict=True)}
        return [found[id(run)] for run in runs]

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        refs = [ref for lookup in lookups if (ref := self._ref_of(lookup)) is not None]
        if refs and not self.plan.keeps_message_ids:
            _warn_of_missing_ids(self.statements)
            refs = []
        if not self._takes_many(lookup.company_id for lookup in lookups):
            return None
        contacts = {(lookup.company_id, lookup.contact_id) for lookup in lookups}
        if self.statements.rule is not UniqueRule.NONE:
            return self._look_for_many(lookups, contacts, refs)
        if not self.statements.reads_may_be_old:
            self._claim_many(contacts)
            return self._look_for_many(lookups, contacts, refs)
        before = self._versions(contacts)
        seen = self._look_for_many(lookups, contacts, refs)
        overtaken = self._claimed_since_many(contacts, before)
        return None if overtaken else seen

    def _look_for_many(
        self, lookups: Sequence[Lookup], contacts: set[Contact], refs: Sequence[MessageRef]
    ) -> list[Snapshot]:
        many = self.plan.many
        reopening = {(lookup.company_id, lookup.contact_id) for lookup in lookups if lookup.closed}
        occupying = many.occupying(contacts)
        return many.snapshots(
            lookups,
            active=self._tickets(many.active(contacts)),
            closed=self._tickets(many.closed(reopening)) if reopening else [],
            occupying=[] if occupying is None else self._tickets(occupying),
            routed=self._routed(refs),
            remembers=self.plan.keeps_message_ids,
        )

    def _claim_many(self, contacts: Iterable[Contact]) -> None:
        self.connection.execute(*self.statements.claims.anchors(contacts))

    def _versions(self, contacts: Iterable[Contact]) -> dict[tuple[Any, Any], int]:
        found = self.connection.execute(self.statements.claims.versions(contacts))
        return {(company, contact): version for company, contact, version in found}

    def _claimed_since_many(self, contacts: set[Contact], before: Mapping[tuple[Any, Any], int]) -> bool:
        """Claim contacts, and tell whether somebody else may have claimed one of them since: see `_claimed_since`."""
        self._claim_many(contacts)
        overtaken = self._of_transaction(_overtaken)
        now = self._versions(contacts)
        if any(version != before.get(each, -1) + 1 for each, version in now.items()):
            overtaken.update(now)
        return not overtaken.isdisjoint(now)

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        # Every transaction takes its locks in this order, and in each step by key: known tickets, as `touch_many` has
        # done before, new ones, message ids.
        known = self._lock_many(joints)
        created = self._create_many(joints)
        for place in self._record_many(joints, created | known):
            if place in created:
                self._execute(self.statements.discard(created[place]))
            for found in (created, known):
                found.pop(place, None)
        with self._forgetting(ref for place in known for ref in joints[place].message_refs):
            first = self._change_many(joints, known)
        first |= created
        return [first.get(place) for place in range(len(joints))]

    def _change_many(self, joints: Sequence[Joint], known: Mapping[int, Ticket]) -> dict[int, Ticket]:
        """Reopen or bump tickets that are locked, and return each as its first message leaves it."""
        reopened = self._reopen_many(joints, known)
        joined = {place: each for place, each in known.items() if isinstance(joints[place].first, Reuse)}
        first = self._first_joined(joints, joined) | reopened
        more = {place: each for place, each in first.items() if place in joined or joints[place].later}
        self._bump_many(joints, more)
        return first

    def _reopen_many(self, joints: Sequence[Joint], known: Mapping[int, Ticket]) -> dict[int, Ticket]:
        """Reopen what is to be reopened of tickets that are locked; a lost race leaves no message id."""
        closed = [
            _Closed(place, ticket, decision)
            for place, ticket in known.items()
            if isinstance(decision := joints[place].first, Reopen)
        ]
        closed.sort(key=lambda each: key_order(each.ticket.key))
        reopened: dict[int, Ticket] = {}
        for some in self.plan.many.at_once(closed):
            reopened |= self._reopen_together(some)
        lost = [each.place for each in closed if each.place not in reopened]
        self._forget(ref for place in lost for ref in joints[place].message_refs)
        return reopened

    def _reopen_together(self, closed: Sequence[_Closed]) -> dict[int, Ticket]:
        """Reopen tickets in one statement; where a key is taken, which refuses them all, each half by itself."""
        if len(closed) == 1:
            with suppress(ConflictError), self._key_taken(closed[0].ticket.key):
                return self._reopened(closed)
            return {}
        try:
            with self._undoable():
                return self._reopened(closed)
        except IntegrityError as error:
            if fault_of(error) is not Fault.TAKEN:
                raise
        middle = len(closed) // 2
        return self._reopen_together(closed[:middle]) | self._reopen_together(closed[middle:])

    def _reopened(self, closed: Sequence[_Closed]) -> dict[int, Ticket]:
        many, tickets = self.plan.many, [each.ticket for each in closed]
        result = self._execute(many.reopened([each.decision for each in closed], tickets))
        if self.statements.returns_updates:
            now = many.tickets(result.all())
        else:
            now = [ticket for is_active, ticket in self._locked(tickets) if is_active]
        places = {each.ticket.id: each.place for each in closed}
        return {places[ticket.id]: ticket for ticket in now}

    def _locked(self, tickets: Sequence[Ticket]) -> list[tuple[bool | None, Ticket]]:
        """Return the tickets as they are now, and whether they are active."""
        rows = self._execute(self.plan.many.locked(tickets)).all()
        now = self.plan.many.tickets(row[1:] for row in rows)
        return [(row[0], ticket) for row, ticket in zip(rows, now, strict=True)]

    def _takes_many(self, companies: Iterable[Id]) -> bool:
        """Tell whether many can be routed at once: else one by one is as good, or needed."""
        if is_autocommit(self.connection) or not self.statements.counts:
            return False
        if not all(map(self._is_here, companies)):
            return False
        return self.statements.rule is not UniqueRule.NONE or self.plan.keeps_anchors

    @staticmethod
    def _ref_of(lookup: Lookup) -> MessageRef | None:
        if lookup.message_id is None or lookup.connection_id is None:
            return None
        return MessageRef(
            TicketKey(lookup.company_id, lookup.contact_id, lookup.connection_id), lookup.message_id
        )

    def _tickets(self, sent: Sent) -> list[Ticket]:
        return self.plan.many.tickets(self._execute(sent).all())

    def _routed(self, refs: Sequence[MessageRef]) -> dict[Any, Ticket]:
        if not refs:
            return {}
        rows = self._execute(self.plan.many.routed(refs)).all()
        tickets = self.plan.many.tickets(row[3:] for row in rows)
        return {tuple(row[:3]): ticket for row, ticket in zip(rows, tickets, strict=True)}

    def _create_many(self, joints: Sequence[Joint]) -> dict[int, Ticket]:
        """Create what can be; whatever stands against a ticket is told when its messages go one by one."""
        places = {joints[place].key: place for place in in_key_order(joints, Create)}
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for place in places.values():
            first = joints[place].first
            if isinstance(first, Create):
                values = self.statements.create_joint(joints[place], first)
                by_columns.setdefault(tuple(values), []).append(values)
        made: dict[int, Ticket] = {}
        for rows in by_columns.values():
            for row in self._made(*self.plan.many.created(rows)):
                ticket = self.statements.ticket(row[: len(self.statements.fields)])
                place = places[ticket.key]
                joint = joints[place]
                if joint.later:
                    ticket = evolve(ticket, unread_messages=joint.first_count(0), updated_at=joint.first.at)
                made[place] = ticket
        return made

    def _lock_many(self, joints: Sequence[Joint]) -> dict[int, Ticket]:
        """Return the known tickets as they are now, where they are still on their keys, and active or closed as decided."""
        seen = {
            joint.first.ticket.id: (place, joint.first)
            for place, joint in enumerate(joints)
            if not isinstance(joint.first, Create)
        }
        if not seen:
            return {}
        now = self._locked([decision.ticket for _, decision in seen.values()])
        found = [(*seen[ticket.id], is_active, ticket) for is_active, ticket in now]
        return {
            place: ticket
            for place, decision, is_active, ticket in found
            if ticket.key == decision.ticket.key and is_active == isinstance(decision, Reuse)
        }

    def _record_many(self, joints: Sequence[Joint], tickets: Mapping[int, Ticket]) -> set[int]:
        """Record the message ids, and return the Joints of which one was recorded meanwhile, with none left of them."""
        if not self.plan.keeps_message_ids:
            return set()
        refs = [
            (ref, place, ticket) for place, ticket in tickets.items() for ref in joints[place].message_refs
        ]
        if not refs:
            return set()
        refs.sort(key=lambda each: (*key_order(each[0].key)[::2], id_order(each[0].message_id)))
        sent = self.plan.many.recorded([(ref, ticket, joints[place].at) for ref, place, ticket in refs])
        made = {tuple(row) for row in self._made(*sent)}
        lost = {place for ref, place, _ in refs if self._place_of(ref) not in made}
        for ref, place, _ in refs:
            if place in lost:
                forget = (
                    self.statements.forget if self._place_of(ref) in made else self.statements.forget_vain
                )
                self._execute(forget(ref))
        return lost

    def _made(self, statement: Executable, values: Any) -> list[Sequence[Any]]:
        """Return the rows of an `INSERT` of many that nothing stood against."""
        if self.plan.many.asks_first:
            self.connection.execute(ASK_VARIABLE)
        return self.plan.many.made(self.connection.execute(statement, values), values)

    def _place_of(self, ref: MessageRef) -> tuple[Any, Any, bytes]:
        return ref.key.company_id, ref.key.connection_id, self.statements.digest(ref.message_id)

    @staticmethod
    def _first_joined(joints: Sequence[Joint], joined: Mapping[int, Ticket]) -> dict[int, Ticket]:
        """Return each ticket as its first message leaves it, from what it is now."""
        return {
            place: bumped(ticket, joints[place].first_count(ticket.unread_messages), joints[place].first.at)
            for place, ticket in joined.items()
        }

    def _bump_many(self, joints: Sequence[Joint], first: Mapping[int, Ticket]) -> None:
        """Write what the last messages leave of tickets that nobody else can write now."""
        if not first:
            return
        places = sorted(first, key=lambda place: key_order(joints[place].key))
        counts = [joints[place].last_count(first[place].unread_messages) for place in places]
        times = [joints[place].at for place in places]
        for sent in self.plan.many.bumped([first[place] for place in places], counts, times):
            self._execute(sent)

    def _create(self, decision: Create) -> Ticket:
        if not self._is_here(decision.key.company_id):
            raise InvalidMessageError(
                "company_id", decision.key.company_id, f"{self._only_company!r}, the only one of this table"
            )
        ref = self._to_record(decision.message_ref)  # refused, if at all, before anything is written
        with_ref = None if ref is None else self.statements.create_recorded(decision, ref)
        row, made = self._inserted(with_ref or self.statements.create(decision))
        if row is None or not made:
            self._refuse_other_index(decision.key, row)
            self._refuse_stranger(decision.key)
            raise ConflictError("the key was taken meanwhile")
        ticket = self.statements.ticket(row[: len(self.statements.fields)])
        if ref is not None and not (row[-1] if with_ref else self._record(ref, ticket, decision.at)):
            self._execute(self.statements.discard(ticket))
            self._raise_routed(ref)
        return ticket

    def _refuse_other_index(self, key: TicketKey, row: Sequence[Any] | None) -> None:
        """Raise where MariaDB, which heeds every unique index, gave a row that is not in the way of this key."""
        if row is None:
            return
        other = self.statements.ticket(row).key
        if self.statements.rule is UniqueRule.ONE_PER_CONTACT:
            other = evolve(other, connection_id=key.connection_id)
        if other != key:
            raise RepositoryError("a unique index that is not about tickets in progress refused the new row")

    def _refuse_stranger(self, key: TicketKey) -> None:
        """Raise where a row holds the key by a word of the index that the scheme does not know: no race was lost."""
        sent = self.statements.stranger(key)
        row = None if sent is None else self._execute(sent).one_or_none()
        if row is not None:
            ticket = self.statements.ticket(row)
            raise MappingError(
                f"ticket {ticket.id} has the status {ticket.status!r}, for which the unique index holds its key and "
                "which is closed by the StatusScheme: pass statuses=StatusScheme(active=...) with that word too"
            )

    def _reuse(self, decision: Reuse) -> Ticket:
        changed = self._reused_as_seen(decision)
        return self._changed(decision.ticket, self.statements.reuse(decision)) if changed is None else changed

    def _reused_as_seen(self, decision: Reuse) -> Ticket | None:
        sent = self.statements.reuse_as_seen(decision)
        if sent is None:
            return None
        result = self._execute(sent)
        return self.statements.reused_as_seen(decision, result.lastrowid) if result.rowcount > 0 else None

    def _changed(self, seen: Ticket, sent: Sent) -> Ticket:
        result = self._execute(sent)
        if self.statements.returns_updates:
            row = result.one_or_none()
            if row is not None:
                return self.statements.ticket(row)
        elif result.rowcount > 0:
            changed = self._execute(self.statements.get(seen.company_id, seen.id)).one_or_none()
            if changed is None:
                # What has all these values already is not written, and so still newer than an old snapshot.
                changed = self._execute(self.statements.get_current(seen.company_id, seen.id)).one()
            return self.statements.ticket(changed)
        raise ConflictError("the ticket was changed meanwhile")

    @contextmanager
    def _recorded(self, ref: MessageRef | None, decision: Reuse | Reopen) -> Generator[None]:
        """Record the message id first, so that who loses that race has not touched the ticket yet."""
        ref = self._to_record(ref)
        if ref is None:
            yield
            return
        if not self._record(ref, decision.ticket, decision.at):
            self._raise_routed(ref)
        with self._forgetting([ref]):
            yield

    @contextmanager
    def _forgetting(self, refs: Iterable[MessageRef]) -> Generator[None]:
        """Forget message ids whose write fails: a host that commits all the same must not keep one without it."""
        try:
            yield
        except (TicketRouterError, SQLAlchemyError):
            # Where the transaction is of no more use the statement fails too, and the first error is the one to tell.
            with suppress(SQLAlchemyError):
                self._forget(refs)
            raise

    def _forget(self, refs: Iterable[MessageRef]) -> None:
        if self.plan.keeps_message_ids:
            for ref in refs:
                self._execute(self.statements.forget(ref))

    def _record(self, ref: MessageRef, ticket: Ticket, at: datetime) -> bool:
        _, made = self._inserted(self.statements.record(ref, ticket, at))
        return made

    def _raise_routed(self, ref: MessageRef) -> NoReturn:
        """Raise for a message id that could not be recorded."""
        # Either somebody was faster, or the host has deleted the ticket that the id led to.
        self._execute(self.statements.forget_vain(ref))
        raise ConflictError("the message was routed meanwhile")

    def _to_record(self, ref: MessageRef | None) -> MessageRef | None:
        if ref is None or not self.plan.keeps_message_ids:
            return None
        if is_autocommit(self.connection):
            raise RepositoryError(
                "a message id is recorded together with its ticket, which needs a transaction: use a "
                "connection without AUTOCOMMIT, or messages without message_id"
            )
        return ref

    @contextmanager
    def _key_taken(self, key: TicketKey) -> Generator[None]:
        """Tell a unique rule's refusal as a conflict, after which the host's transaction goes on."""
        try:
            with self._undoable():
                yield
        except IntegrityError as error:
            if fault_of(error) is not Fault.TAKEN:
                raise
            self._refuse_stranger(key)
            if self._needs_savepoint and self.connection.get_isolation_level() in _ONE_SNAPSHOT:
                # Who took it is newer than all that this transaction can see.
                raise ContentionError(
                    "roll back and run the whole transaction again (the key was taken meanwhile)"
                ) from error
            raise ConflictError("the key was taken meanwhile") from error

    def _undoable(self) -> AbstractContextManager[object]:
        """Keep the host's transaction of use if a statement is refused, where such a one would end it."""
        return self.connection.begin_nested() if self._needs_savepoint else nullcontext()

    @property
    def _needs_savepoint(self) -> bool:
        return self.connection.dialect.name == "postgresql" and not is_autocommit(self.connection)

    def _claim(self, company_id: Id, contact_id: Id) -> None:
        """Keep everybody else from this contact until the host's transaction ends."""
        claims = self.statements.claims
        match self._guard_or_raise():
            case Guard.ANCHOR:
                if not begins_with_the_write_lock(self.connection):
                    self._execute(claims.anchor(company_id, contact_id))
            case Guard.LOCK:
                self._check_level(self._execute(claims.lock(company_id, contact_id)).one()[0])
            case guard:
                assert_never(guard)

    @property
    def _guard(self) -> Guard | None:
        """What keeps others from a contact here; None: nothing can."""
        if is_autocommit(self.connection):
            return None
        if self.plan.keeps_anchors:
            return Guard.ANCHOR
        return Guard.LOCK if self.connection.dialect.name == "postgresql" else None

    def _guard_or_raise(self) -> Guard:
        guard = self._guard
        if guard is not None:
            return guard
        if is_autocommit(self.connection):
            raise MappingError(
                f"{self._unguarded}, so a transaction must keep others away: use a connection without "
                "AUTOCOMMIT, or add the unique index"
            )
        raise MappingError(self._advice)

    def _check_level(self, level: str) -> None:
        """Raise where a lock is not enough, as what is read after it may be older than it."""
        if level != READ_COMMITTED:
            raise MappingError(
                f"{self._advice}, or use {READ_COMMITTED.upper()} (it is {level.upper()}), where a lock is enough"
            )

    @property
    def _unguarded(self) -> str:
        return f"{self.statements.mapping.table.fullname} has no unique rule on active tickets"

    @property
    def _advice(self) -> str:
        anchors = self.statements.mapping.anchors.fullname
        return (
            f"{self._unguarded}: add the unique index, or create {anchors} with "
            "mapping.metadata.create_all(engine)"
        )

    @property
    def _only_company(self) -> Id | None:
        return self.statements.mapping.only_company

    def _is_here(self, company_id: Id) -> bool:
        return self._only_company is None or self._only_company == company_id

    def _inserted(self, sent: Sent) -> tuple[Sequence[Any] | None, bool]:
        """Return the row of an `INSERT`, and whether it was made: if not, it is the row in the way, or None."""
        row = self._execute(sent).one_or_none()
        if row is None:
            return None, False
        token, mark = sent[1].get("b_token"), row[-1]
        if token is not None and mark is None:
            mark = self.connection.execute(ASK_VARIABLE).scalar_one()
        return row[:-1], token is None or int(mark) != token

    def _execute(self, sent: Sent) -> CursorResult[Any]:
        statement, values = sent
        return self.connection.execute(statement, values)
