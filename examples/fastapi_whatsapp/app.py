"""The application: Meta's webhook, and what the desk does with a ticket.

Law of this file: whoever gets an answer below 400 may rely on it: the transaction was committed before.
"""

from __future__ import annotations

import hmac
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from attrs import asdict, frozen
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from examples.fastapi_whatsapp.tables import create_tables
from examples.fastapi_whatsapp.webhook import arrived, is_signed
from examples.fastapi_whatsapp.work import in_transaction, receive, router_of
from ticketrouter import (
    ActiveTicketExistsError,
    ConflictError,
    Ticket,
    TicketNotFoundError,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import is_retryable


@frozen
class Settings:
    """What differs from one installation to the next.

    Args:
        database_url: of PostgreSQL, for an asynchronous driver.
        app_secret: signs what Meta posts.
        verify_token: what Meta shows when the webhook is set up.
    """

    database_url: str
    app_secret: str
    verify_token: str

    @classmethod
    def from_environment(cls) -> Settings:
        """Read them from the environment; a missing one is a KeyError at the start, not at the first message."""
        return cls(os.environ["DATABASE_URL"], os.environ["APP_SECRET"], os.environ["VERIFY_TOKEN"])


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application."""
    settings = Settings.from_environment() if settings is None else settings
    engine = create_async_engine(settings.database_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await create_tables(engine)
        yield
        await engine.dispose()

    app = FastAPI(title="A desk", lifespan=lifespan)
    app.state.engine, app.state.settings = engine, settings
    app.include_router(meta)
    app.include_router(desk)
    app.add_exception_handler(TicketRouterError, told)
    app.add_exception_handler(DBAPIError, told)
    return app


# --- what Meta calls -----------------------------------------------------------------------------------------

meta = APIRouter(prefix="/webhook")


@meta.get("")
async def verify(
    request: Request,
    mode: Annotated[str, Query(alias="hub.mode")] = "",
    token: Annotated[str, Query(alias="hub.verify_token")] = "",
    challenge: Annotated[str, Query(alias="hub.challenge")] = "",
) -> Response:
    """Show Meta that the webhook is ours: the handshake, once, when it is set up."""
    ours: str = request.app.state.settings.verify_token
    if mode != "subscribe" or not hmac.compare_digest(token.encode(), ours.encode()):
        raise HTTPException(403, "not our token")
    return Response(challenge, media_type="text/plain")


@meta.post("")
async def webhook(request: Request) -> Counter[str]:
    """Take a delivery, whole or not at all. Any answer but 200 makes Meta deliver it again."""
    body, app = await request.body(), request.app
    if not is_signed(app.state.settings.app_secret, body, request.headers.get("X-Hub-Signature-256")):
        raise HTTPException(403, "not Meta's signature")
    try:
        messages = arrived(body)
    except ValueError as error:
        raise HTTPException(422, "not a body of the Cloud API") from error
    return await in_transaction(app.state.engine, lambda session: receive(session, messages))


# --- what the agents' screen calls: in front of it a real desk has a log-in -----------------------------------

desk = APIRouter(prefix="/companies/{company_id}")


async def transaction(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield the session of one request, in its transaction."""
    async with AsyncSession(request.app.state.engine) as session, session.begin():
        yield session


# scope="function": the COMMIT comes before the answer. By default it comes after it, and whoever was told
# "closed" never hears that it failed.
InTransaction = Annotated[AsyncSession, Depends(transaction, scope="function")]


@desk.post("/tickets/{ticket_id}/accept")
async def accept(company_id: int, ticket_id: int, user_id: int, session: InTransaction) -> dict[str, Any]:
    """Give a ticket to an agent."""
    return shown(await router_of(session).accept(company_id, ticket_id, user_id))


@desk.post("/tickets/{ticket_id}/close")
async def close(company_id: int, ticket_id: int, session: InTransaction) -> dict[str, Any]:
    """Close a ticket."""
    return shown(await router_of(session).close(company_id, ticket_id))


@desk.post("/tickets/{ticket_id}/reopen")
async def reopen(company_id: int, ticket_id: int, session: InTransaction) -> dict[str, Any]:
    """Reopen a ticket."""
    return shown(await router_of(session).reopen(company_id, ticket_id))


@desk.get("/contacts/{contact_id}/tickets")
async def tickets(company_id: int, contact_id: str, session: InTransaction) -> list[dict[str, Any]]:
    """List what a contact has open, on every number."""
    return [shown(ticket) for ticket in await router_of(session).active_tickets(company_id, contact_id)]


def shown(ticket: Ticket) -> dict[str, Any]:
    """Return a ticket as the screen gets it."""
    return asdict(ticket)


def told(_: Request, error: Exception) -> JSONResponse:
    """Answer for an error that nobody has caught."""
    match error:
        case TicketNotFoundError():
            return JSONResponse({"error": "no such ticket"}, 404)
        case ActiveTicketExistsError():
            return JSONResponse({"error": error.code, "ticket": error.ticket.id}, 409)
        case ConflictError():
            return JSONResponse({"error": str(error)}, 409)
        case _ if is_retryable(error):
            return JSONResponse({"error": "busy, try again"}, 503, {"Retry-After": "1"})
        case _:
            raise error
