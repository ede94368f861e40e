"""The store of the kit over memory.

Law of this file: no database is known here, so that the tests of the core need none.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from attrs import evolve

from ticketrouter import Ticket, TicketRepository
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
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
