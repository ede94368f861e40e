"""The repositories over a host's session or connection, and which statements each call sends.

Law of this file: two faces, and nothing behind them: what a call does stands in `work`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from ticketrouter.batch import Joint
from ticketrouter.checks import Id, as_utc
from ticketrouter.decisions import (
    Lookup,
    Snapshot,
    Write,
)
from ticketrouter.errors import BlockedBySchemaError, InvalidMessageError, RepositoryError, TicketRouterError
from ticketrouter.model import (
    StatusScheme,
    Ticket,
)
from ticketrouter.moves import Move, MovePlan, Survey
from ticketrouter.sqlalchemy.asynchronous import AsyncConnection, AsyncSession, async_scoped_session
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects import presumed
from ticketrouter.sqlalchemy.mapping import DEFAULT_MAPPING, TicketMapping, check_mapping
from ticketrouter.sqlalchemy.work import batch, message, message_ids, moving
from ticketrouter.sqlalchemy.work.call import called
from ticketrouter.sqlalchemy.work.here import Here

_T = TypeVar("_T")
_SYNC_HOSTS = (Session, Connection, scoped_session)
_ASYNC_HOSTS = (AsyncSession, AsyncConnection, async_scoped_session)


class SQLAlchemyTicketRepository:
    """Keeps tickets in a host's database, inside the host's transaction.

    Args:
        session_or_connection: the host's Session (or scoped_session) or Connection.
        mapping: where the tickets are.

    Raises:
        MappingError: if one of them is of another kind.
    """

    def __init__(
        self,
        session_or_connection: Session | scoped_session[Any] | Connection,
        mapping: TicketMapping = DEFAULT_MAPPING,
    ) -> None:
        _check_host(session_or_connection, _SYNC_HOSTS, mapping, "AsyncSQLAlchemyTicketRepository")
        self._host = session_or_connection
        self._mapping = mapping

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._mapping.statuses

    def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `TicketRepository.load`.

        Statements:
            One `SELECT`; where the table has no unique rule and a write may follow, one write of the contact's anchor
            row before it, on MariaDB after it, and then locking ones (`FOR UPDATE`) where somebody else has written it meanwhile.
            On MariaDB one more, which locks, where a write may follow and none would: by primary key where the message
            id was found, by the unique index where a message that only joins has found no ticket.

            Where a message may join: on PostgreSQL one statement, which also records the message id, in place of the
            `SELECT`. For a message without an id: one `UPDATE` on SQLite, and the `SELECT` where it has met no ticket;
            on MariaDB, where an `UPDATE` that misses would keep others from inserting, one `UPDATE` by primary key of
            what the `SELECT` has found. Where the table has no unique rule and no ticket was met, the contact is
            claimed too, and looked for again: on PostgreSQL by the first statement and one `SELECT` more, on SQLite by
            the lock of the `UPDATE` and one `SELECT` more, on MariaDB by the write of the anchor row, which tells
            whether the first look can be trusted.

            For `explain` and `ensure_can_open`, where a unique rule stands and no ticket is active on the key: one
            `SELECT` more, of rows in the way that no look-up finds.
        """
        return self._call(
            lambda here: message.load(here, lookup), writes=lookup.claim or lookup.join is not None
        )

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company: see `TicketRepository.get`.

        Statements:
            One `SELECT`; on MariaDB a second one for a ticket that is newer than the transaction's snapshot, and that
            a second look has locked; and where it must be as it is committed now, one that locks the row.
        """
        return self._call(
            lambda here: message.get(here, company_id, ticket_id, current=current), writes=False
        )

    @property
    def reads_may_be_dirty(self) -> bool:
        """Whether a plain read may see what others take back again: on MariaDB, at a level that need not show."""
        return _may_read_dirty(self._host, self._mapping)

    def commit(self, decision: Write) -> Ticket:
        """Carry out one decision: see `TicketRepository.commit`.

        Statements:
            One `INSERT` or `UPDATE`, and one `INSERT` where a message id is recorded; on PostgreSQL a reopening
            and a transfer stand in a savepoint. On MariaDB one `SELECT` more after an `UPDATE`, but for a reuse of a
            ticket that is as it was seen; and one more at the first `INSERT` of a connection.
        """
        return self._call(lambda here: message.commit(here, decision), once=True)

    def refusal(self, decision: Write) -> TicketRouterError | None:
        """Tell why a decision would be refused: see `TellsRefusals.refusal`.

        Statements:
            Look-ups in the catalogue, where it is not known yet whether a companion table is there. One `SELECT` of the
            message id, where the database may take the ids of companies or connections for one.
        """
        try:
            self._call(lambda here: message.check(here, decision))
        except (MappingError, InvalidMessageError, RepositoryError, BlockedBySchemaError) as error:
            if error.retryable:  # it says nothing of the decision
                raise
            return error
        return None

    def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move: see `MovesTickets.survey_move`.

        Statements:
            Two `SELECT`, three where a full unique rule may be in the way, and one more of rows in the way for a plan,
            which would else be told of them by the write only; with `claim` they lock what they find, and
            on PostgreSQL one more tells whether row level security has hidden any from the lock.
            Where the table has no unique rule, one write more of the anchor rows of all contacts concerned.
        """
        return self._call(lambda here: moving.survey_move(here, move, claim=claim), writes=claim)

    def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan: see `MovesTickets.commit_move`.

        Statements:
            In a savepoint: for every 500 tickets to be closed one `UPDATE`, and, where others are kept for them and the
            table has a count of unread messages, one `SELECT` of theirs; for every 500 that are kept for such as have any
            one `UPDATE`; one for all to be re-pointed; where connections are moved and message ids are kept, one `INSERT` for those.
        """
        self._call(lambda here: moving.commit_move(here, plan), once=True)

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        """Find what must be known to decide on several messages: see `Batches.load_many`.

        Statements:
            One `SELECT` of active tickets; one each of closed ones, of rows in the way, and of recorded message ids,
            where they are asked for; where there is no unique rule one write of the anchors before them, on MariaDB
            after them, between two looks at their versions. On MariaDB one more, which locks, for message ids that were
            found, and one for messages that only join and have found no ticket. None in AUTOCOMMIT: there messages go
            one by one. On PostgreSQL, where the unique rule allows one active ticket on a key and no message has an id,
            one before them, by which all join that may; the others follow for those that have not, unless closed
            tickets do not count.
        """
        return self._call(lambda here: batch.load_many(here, lookups))

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        """Carry out several decisions: see `Batches.commit_many`.

        Statements:
            In a savepoint, unless it is the second alone: one locking `SELECT` of the tickets that are joined or
            reopened, one `INSERT` of new ones, one of message ids, one `UPDATE` of those that are reopened, on PostgreSQL in a savepoint of its own, and
            one of those that are joined. On MariaDB one `SELECT` before each `INSERT`, one `UPDATE` for each 500 tickets, and one `SELECT`
            after each that reopens. Without a unique rule one locking `SELECT` there after the `INSERT` of new ones. Where a key was taken meanwhile, the reopenings are halved until it is alone.
        """
        return self._call(lambda here: batch.commit_many(here, joints), once=True)

    def forget_messages(self, before: datetime) -> int:
        """Forget the message ids that were recorded before a time: see `ForgetsMessages`.

        Statements:
            One `DELETE`.
        """
        moment = as_utc("before", before)
        return self._call(lambda here: message_ids.forget_messages(here, moment), once=True)

    def _call(self, work: Callable[[Here], _T], *, writes: bool = True, once: bool = False) -> _T:
        return called(self._host, self._mapping, work, writes=writes, once=once)


class AsyncSQLAlchemyTicketRepository:
    """The same for asynchronous code, run through `run_sync`.

    Args:
        session_or_connection: the host's AsyncSession (or async_scoped_session) or AsyncConnection.
        mapping: where the tickets are.

    Raises:
        MappingError: if one of them is of another kind.
    """

    def __init__(
        self,
        session_or_connection: AsyncSession | AsyncConnection | async_scoped_session[Any],
        mapping: TicketMapping = DEFAULT_MAPPING,
    ) -> None:
        _check_host(session_or_connection, _ASYNC_HOSTS, mapping, "SQLAlchemyTicketRepository")
        self._host = session_or_connection
        self._mapping = mapping

    @property
    def statuses(self) -> StatusScheme:
        """The host's words for the statuses."""
        return self._mapping.statuses

    async def load(self, lookup: Lookup) -> Snapshot:
        """Find what must be known to decide: see `SQLAlchemyTicketRepository.load`."""
        return await self._run(lambda repository: repository.load(lookup))

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """Find one ticket of a company: see `SQLAlchemyTicketRepository.get`."""
        return await self._run(lambda repository: repository.get(company_id, ticket_id, current=current))

    @property
    def reads_may_be_dirty(self) -> bool:
        """Whether a plain read may see what others take back: see `SQLAlchemyTicketRepository.reads_may_be_dirty`."""
        host = self._of_task
        inside = host.sync_connection if isinstance(host, AsyncConnection) else host.sync_session
        return inside is not None and _may_read_dirty(inside, self._mapping)

    async def commit(self, decision: Write) -> Ticket:
        """Carry out one decision: see `SQLAlchemyTicketRepository.commit`."""
        return await self._run(lambda repository: repository.commit(decision))

    async def refusal(self, decision: Write) -> TicketRouterError | None:
        """Tell why a decision would be refused: see `SQLAlchemyTicketRepository.refusal`."""
        return await self._run(lambda repository: repository.refusal(decision))

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        """Find what must be known to plan a move: see `SQLAlchemyTicketRepository.survey_move`."""
        return await self._run(lambda repository: repository.survey_move(move, claim=claim))

    async def commit_move(self, plan: MovePlan) -> None:
        """Carry out a plan: see `SQLAlchemyTicketRepository.commit_move`."""
        await self._run(lambda repository: repository.commit_move(plan))

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
            return work(SQLAlchemyTicketRepository(host, self._mapping))

        return await self._of_task.run_sync(in_sync)

    @property
    def _of_task(self) -> AsyncSession | AsyncConnection:
        return self._host() if isinstance(self._host, async_scoped_session) else self._host


def _check_host(host: object, kinds: tuple[type, ...], mapping: object, other: str) -> None:
    if not isinstance(host, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise MappingError(f"{names} is needed, not {type(host).__name__}; for the other kind use {other}")
    check_mapping(mapping)


def _may_read_dirty(host: Session | scoped_session[Any] | Connection, mapping: TicketMapping) -> bool:
    bind = host if isinstance(host, Connection) else host.get_bind(clause=mapping.table)
    database = presumed(bind.dialect)  # it may not have met its server yet
    return database is not None and database.transactions.plain_reads_may_be_dirty
