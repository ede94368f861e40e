"""R12: what the desk keeps as it is rests on no read that may be taken back."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from ticketrouter import AsyncTicketRouter, ConflictError, InboundMessage, Ticket, TicketRouter
from ticketrouter.checks import Id
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository


class ReadsDirty(InMemoryTicketRepository):
    """A plain read sees what a rival will take back: that the ticket is closed."""

    reads_may_be_dirty = True

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        found = super().get(company_id, ticket_id)
        return found if found is None or current else evolve(found, status="closed")


class AsyncReadsDirty(AsyncInMemoryTicketRepository):
    """The same for asynchronous code."""

    reads_may_be_dirty = True

    async def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        found = await super().get(company_id, ticket_id)
        return found if found is None or current else evolve(found, status="closed")


def test_a_ticket_is_closed_though_a_dirty_read_says_it_is() -> None:
    router = TicketRouter(ReadsDirty())
    ticket = router.resolve(InboundMessage(1, 5, 10)).ticket
    assert ticket is not None
    router.close(1, ticket.id)

    assert router.active_tickets(1, 5) == []


def test_a_ticket_is_closed_though_a_dirty_read_says_it_is_in_asynchronous_code() -> None:
    async def left() -> list[Ticket]:
        router = AsyncTicketRouter(AsyncReadsDirty())
        ticket = (await router.resolve(InboundMessage(1, 5, 10))).ticket
        assert ticket is not None
        await router.close(1, ticket.id)
        return await router.active_tickets(1, 5)

    assert asyncio.run(left()) == []


def test_an_agent_accepts_what_a_dirty_read_says_is_closed() -> None:
    """A refusal is asked about once more, as what is kept is."""
    router = TicketRouter(ReadsDirty())
    ticket = router.resolve(InboundMessage(1, 5, 10)).ticket
    assert ticket is not None

    assert router.accept(1, ticket.id, 7).user_id == 7


def test_what_is_refused_by_what_is_committed_stays_refused() -> None:
    """Nothing is refused twice as something else."""
    store = ReadsDirty()
    router = TicketRouter(store)
    ticket = router.resolve(InboundMessage(1, 5, 10)).ticket
    assert ticket is not None
    router.close(1, ticket.id)

    with pytest.raises(ConflictError, match="is closed"):
        router.accept(1, ticket.id, 7)
