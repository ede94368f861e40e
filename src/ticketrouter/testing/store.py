"""What the kit must be given of a repository: transactions of a host, and ways around the repository.

Law of this file: nothing is known here of any database. An optional ability of a store is a protocol or a flag of
its own, and one of a repository the protocol in `ticketrouter.repository`; no test asks for a name.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup, Snapshot, Write
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import StatusScheme, Ticket
from ticketrouter.repository import AsyncTicketRepository, TicketRepository

_T = TypeVar("_T")


class Store(ABC):
    """A place for tickets, empty at first, in which one test runs.

    Subclass it for a repository of your own. `insert` and `tickets` must go around the repository, or a test
    would compare it with itself: use plain statements, as a host does that has never heard of ticketrouter.
    """

    rolls_back: ClassVar[bool] = True
    """Whether leaving `transaction` by an error undoes what was done in it."""
    concurrent: ClassVar[bool] = False
    """Whether several threads may each have a transaction; one may have to wait until another one has ended."""
    overlapping: ClassVar[bool] = False
    """Whether a transaction can begin and write, while another one that has read and written is not at its end."""
    one_company: bool = False
    """Whether there is only one company."""
    one_connection: bool = False
    """Whether there is only one connection."""
    any_ids: bool = True
    """Whether any id names a company, a contact, a connection, an agent and a queue, whatever its type."""
    ids_ascend: bool = True
    """Whether a later ticket has a higher id."""
    lacks: frozenset[str] = frozenset()
    """The fields of a ticket that are not kept; whatever they are to be, they are read as nothing, a time as another one."""

    @property
    def statuses(self) -> StatusScheme:
        """The host's words, as the repository says them."""
        with self.transaction() as repository:
            return repository.statuses

    @abstractmethod
    def transaction(self) -> AbstractContextManager[TicketRepository]:
        """Begin a transaction of the host, and give the repository inside it.

        Returns:
            What ends in a commit, or in a rollback where the block raises.
        """

    @abstractmethod
    def insert(self, ticket: Ticket) -> Ticket:
        """Write a ticket and commit it, without the repository.

        Args:
            ticket: the ticket; where the store chooses ids by itself, later ones higher, its id counts for
                nothing.

        Returns:
            The ticket with the id that it has.
        """

    @abstractmethod
    def tickets(self) -> list[Ticket]:
        """Read every committed ticket of every company, by id, without the repository.

        Returns:
            The tickets; where a later one has no higher id, in the order in which they were made.
        """

    def expect(self, contacts: int) -> None:  # noqa: B027 - most take any contact
        """Get ready for a transaction that speaks of very many contacts.

        Args:
            contacts: of how many.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what this store holds; the test is over."""

    def is_retryable(self, error: Exception) -> bool:
        """Tell whether an error says that the host may run its whole transaction again.

        Args:
            error: what came out of `transaction`: of the repository, or of the host's own commit.
        """
        return isinstance(error, TicketRouterError) and error.retryable


@runtime_checkable
class Overwrites(Protocol):
    """The optional ability of a store to change a row behind the repository's back."""

    def overwrite(self, ticket: Ticket) -> None:
        """Write over the row of this id and commit, without the repository.

        Args:
            ticket: all that the row is to say; a closed one may have no time of closing.
        """
        ...


# --- asynchronous repositories ------------------------------------------------------------------------------


class EventLoop:
    """An event loop in a thread of its own, so that several threads can each wait for what runs in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ticketrouter.testing", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Stop the loop."""
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An asynchronous repository as synchronous code sees it: each call runs to its end.

    Args:
        repository: the repository; whatever optional abilities it has, this has too.
        run: what runs a coroutine to its end.
    """

    def __init__(
        self, repository: AsyncTicketRepository, run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._repository = repository
        self._run = run
        for name in dir(repository):
            is_another = not name.startswith("_") and not hasattr(type(self), name)
            if is_another and iscoroutinefunction(getattr(type(repository), name, None)):
                setattr(self, name, partial(self._call, getattr(repository, name)))
        # What nobody awaits: see R12.
        if (may_be_dirty := getattr(repository, "reads_may_be_dirty", None)) is not None:
            self.reads_may_be_dirty: bool = may_be_dirty

    @property
    def statuses(self) -> StatusScheme:
        """See `TicketRepository.statuses`."""
        return self._repository.statuses

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        found: Snapshot = self._run(self._repository.load(lookup))
        return found

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        found: Ticket | None = self._run(self._repository.get(company_id, ticket_id, current=current))
        return found

    def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        written: Ticket = self._run(self._repository.commit(decision))
        return written

    def _call(self, ability: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        return self._run(ability(*args, **options))


class AsyncStore(Store):
    """The same for an asynchronous repository: give `begin` instead of `transaction`."""

    def __init__(self) -> None:
        self._loop = EventLoop()

    @abstractmethod
    def begin(self) -> AbstractAsyncContextManager[AsyncTicketRepository]:
        """Begin a transaction of the host, and give the repository inside it: see `Store.transaction`."""

    @contextmanager
    def transaction(self) -> Generator[TicketRepository]:
        """See `Store.transaction`."""
        with blocking(self.begin(), self.run) as repository:
            yield Blocking(repository, self.run)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, in the one event loop of this store."""
        return self._loop.run(coroutine)

    def close(self) -> None:
        """Stop the event loop."""
        self._loop.close()


@contextmanager
def blocking(
    begun: AbstractAsyncContextManager[_T], run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> Generator[_T]:
    """Enter and leave an asynchronous context manager from synchronous code.

    Args:
        begun: the context manager.
        run: what runs a coroutine to its end.
    """

    async def enter() -> _T:
        return await begun.__aenter__()

    async def leave(error: BaseException | None) -> bool | None:
        traceback = None if error is None else error.__traceback__
        return await begun.__aexit__(None if error is None else type(error), error, traceback)

    entered: _T = run(enter())
    try:
        yield entered
    except BaseException as error:
        if not run(leave(error)):
            raise
    else:
        run(leave(None))
