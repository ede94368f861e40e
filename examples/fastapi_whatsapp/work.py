"""The unit of work: the messages of one delivery, routed and stored in one transaction.

Law of this file: what is done here may be done again from its start, and no message is then counted twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.fastapi_whatsapp.tables import MAPPING, Number, StoredMessage
from examples.fastapi_whatsapp.webhook import Arrived
from ticketrouter import AsyncTicketRouter, InboundMessage, Outcome, Resolution
from ticketrouter.sqlalchemy import AsyncSQLAlchemyTicketRepository, is_retryable

T = TypeVar("T")


def router_of(session: AsyncSession) -> AsyncTicketRouter:
    """Make the router of one unit of work; here the policy of the desk would stand."""
    return AsyncTicketRouter(AsyncSQLAlchemyTicketRepository(session, MAPPING))


async def in_transaction(engine: AsyncEngine, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run a unit of work, and run it again, from its start and in a new transaction, where that may help."""
    async for attempt in stamina.retry_context(on=is_retryable, attempts=5, timeout=3.0, wait_max=0.5):
        with attempt:
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                return await work(session)
    raise AssertionError("the last attempt returns or raises")


async def receive(session: AsyncSession, messages: list[Arrived]) -> Counter[str]:
    """Route the messages of one delivery and store them under their tickets.

    Returns:
        How many had which outcome.
    """
    asked = select(Number).where(Number.phone_number_id.in_({message.number for message in messages}))
    companies = {number.phone_number_id: number.company_id for number in await session.scalars(asked)}
    # Sorted by key, each contact's own messages in their order: two deliveries that touch the same contacts in
    # different orders would wait for each other, until the database ends one of them.
    ours = sorted((m for m in messages if m.number in companies), key=_key)
    results = await router_of(session).resolve_many(_inbound(m, companies[m.number]) for m in ours)
    session.add_all(_stored(m, result) for m, result in zip(ours, results, strict=True) if _is_new(result))
    strangers = Counter({"unknown number": len(messages) - len(ours)})
    return +(Counter(result.outcome.value for result in results) + strangers)


def _key(message: Arrived) -> tuple[str, str]:
    return message.number, message.group or message.contact


def _inbound(message: Arrived, company_id: int) -> InboundMessage:
    return InboundMessage(
        company_id,
        message.contact,
        message.number,
        group_id=message.group,
        message_id=message.id,
        sent_at=message.sent_at,
        kind=message.kind,
    )


def _is_new(result: Resolution) -> bool:
    return result.outcome not in {Outcome.DUPLICATE, Outcome.IGNORED}


def _stored(message: Arrived, result: Resolution) -> StoredMessage:
    return StoredMessage(
        number=message.number,
        id=message.id,
        ticket_id=result.ticket.id,
        participant=message.contact,
        sent_at=message.sent_at,
        text=message.text,
    )
