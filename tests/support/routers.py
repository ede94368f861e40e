"""One face for both routers, so that each test of the one is a test of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from attrs import evolve

from ticketrouter import AsyncTicketRouter, ConflictError, Snapshot, StatusScheme, Ticket, TicketRouter
from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup, Write
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.moves import Move, MovePlan, Survey


class Watched(InMemoryTicketRepository):
    """A memory that notes what it is asked, and lets rivals in just before a write; it looks before it writes."""

    load_many = commit_many = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []
        self.lookups: list[Lookup] = []
        self.rivals: list[Callable[[], object]] = []

    def load(self, lookup: Lookup) -> Snapshot:
        self.calls.append("load")
        self.lookups.append(lookup)
        return super().load(evolve(lookup, join=None))

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        self.calls.append("get")
        return super().get(company_id, ticket_id, current=current)

    def commit(self, decision: Write) -> Ticket:
        self.calls.append("commit")
        if self.rivals:
            self.rivals.pop(0)()
        return super().commit(decision)

    def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        self.calls.append("survey_move, claimed" if claim else "survey_move")
        return super().survey_move(move, claim=claim)

    def commit_move(self, plan: MovePlan) -> None:
        self.calls.append("commit_move")
        if self.rivals:
            self.rivals.pop(0)()
        super().commit_move(plan)

    def by_rival(self, decision: Write) -> Callable[[], object]:
        """Return a rival that carries out a write of its own."""
        return lambda: InMemoryTicketRepository.commit(self, decision)


def lose() -> None:
    """Lose the race, for no reason that a fresh look would show."""
    raise ConflictError("somebody was faster")


class Awaitable:
    """A repository as asynchronous code sees it."""

    def __init__(self, repository: InMemoryTicketRepository) -> None:
        self._repository = repository

    @property
    def statuses(self) -> StatusScheme:
        return self._repository.statuses

    async def load(self, lookup: Lookup) -> Snapshot:
        return self._repository.load(lookup)

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        return self._repository.get(company_id, ticket_id, current=current)

    async def commit(self, decision: Write) -> Ticket:
        return self._repository.commit(decision)

    async def survey_move(self, move: Move, *, claim: bool = False) -> Survey:
        return self._repository.survey_move(move, claim=claim)

    async def commit_move(self, plan: MovePlan) -> None:
        self._repository.commit_move(plan)


class Awaited:
    """An AsyncTicketRouter whose methods are run to their end."""

    def __init__(self, repository: InMemoryTicketRepository, *args: Any, **kwargs: Any) -> None:
        self._router = AsyncTicketRouter(Awaitable(repository), *args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._router, name)
        return lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))


ROUTERS: dict[str, Callable[..., Any]] = {"sync": TicketRouter, "async": Awaited}
