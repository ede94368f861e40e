"""The store of the kit over memory.

Law of this file: no database is known here, so that the tests of the core need none.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from attrs import evolve

from ticketrouter import Reason, Snapshot, Ticket, TicketRepository
from ticketrouter.batch import Joined, Run
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.policy import Lookup, Reuse
from ticketrouter.testing import Blocking, Store

T = TypeVar("T")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, as those of memory never do."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    raise AssertionError("a call of the repository in memory waits")


class MemoryStore(Store):
    """A memory; its transactions are none, since each call is a unit of its own."""

    rolls_back = False
    concurrent = True
    overlapping = True

    def __init__(self, *, is_async: bool = False, **options: Any) -> None:
        self._async = AsyncInMemoryTicketRepository(**options) if is_async else None
        self._sync = self._async._sync if self._async else InMemoryTicketRepository(**options)

    @contextmanager
    def transaction(self) -> Iterator[TicketRepository]:
        yield self._sync if self._async is None else Blocking(self._async, at_once)

    def tickets(self) -> list[Ticket]:
        return list(self._sync.tickets)

    def insert(self, ticket: Ticket) -> Ticket:
        return self._sync._put(evolve(ticket, id=self._sync._new_id()))

    def overwrite(self, ticket: Ticket) -> None:
        self._sync._put(self._sync._consistent(ticket))


class TouchesManyInMemory(InMemoryTicketRepository):
    """Lets the messages of several keys join what is active on them at once."""

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        with self._lock:
            return [self._run(run) for run in runs]

    def _run(self, run: Run) -> Joined | Snapshot | None:
        snapshot = self.load(Lookup(*run.key, closed=False))
        ticket = snapshot.active_on(run.key[2])
        if ticket is None:
            return None if run.closed else snapshot
        return Joined(self._steps(run, ticket), snapshot.active_elsewhere(run.key[2]))

    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        tickets = []
        for step, at in zip(run.steps, run.times, strict=True):
            ticket = self.commit(Reuse(ticket, at, Reason.ACTIVE_ON_CONNECTION, step))
            tickets.append(ticket)
        return tickets


class AsyncTouchesManyInMemory(AsyncInMemoryTicketRepository):
    """The same for asynchronous code."""

    def __init__(self, sync: TouchesManyInMemory) -> None:
        super().__init__()
        self._sync = self._many = sync

    async def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        return self._many.touch_many(runs)
