"""The web application: what the channel and the screens call.

Law of this file: it translates between HTTP and the desk, and knows no transaction.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from flask import Blueprint, Flask, Response, abort, current_app, jsonify, request
from sqlalchemy.exc import DBAPIError

from examples.flask_whaticket.desk import Desk, Event, as_json
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    InboundMessage,
    InvalidMessageError,
    Outcome,
    TicketNotFoundError,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import is_retryable

api = Blueprint("api", __name__)


def create_app(desk: Desk | None = None, token: str | None = None) -> Flask:
    """Make the application.

    Args:
        desk: the desk; None: over `DATABASE_URL`, with events that go to the log.
        token: what the channel shows in each call; None: `CHANNEL_TOKEN`.
    """
    app = Flask(__name__)

    def log(event: Event) -> None:
        app.logger.info("%s: %s %s", event.room, event.action, event.ticket.id)

    app.config["TOKEN"] = token or os.environ["CHANNEL_TOKEN"]
    app.extensions["desk"] = desk or Desk(os.environ["DATABASE_URL"], log)
    app.register_blueprint(api)
    app.cli.command("prepare")(app.extensions["desk"].prepare)
    app.register_error_handler(TicketRouterError, told)
    app.register_error_handler(DBAPIError, told)
    return app


def desk() -> Desk:
    """Return the desk of this application."""
    found: Desk = current_app.extensions["desk"]
    return found


@api.before_request
def check_token() -> None:
    """Let nobody in without the token."""
    shown, ours = request.headers.get("Authorization", ""), f"Bearer {current_app.config['TOKEN']}"
    if not hmac.compare_digest(shown.encode(), ours.encode()):
        abort(401)


@api.post("/companies/<int:company_id>/messages")
def receive(company_id: int) -> dict[str, Any]:
    """Take a message from the channel, which delivers it again until it is answered."""
    given = request.get_json()
    if not isinstance(given, dict):
        abort(400)
    message = InboundMessage(
        company_id,
        given.get("contactId", ""),
        given.get("whatsappId", ""),
        group_id=given.get("groupId"),
        message_id=given.get("wid"),
        unread_messages=given.get("unreadMessages"),
        kind=given.get("kind", "message"),
    )
    result = desk().receive(message)
    ticket = None if result.outcome is Outcome.IGNORED else as_json(result.ticket)
    return {"outcome": result.outcome, "reason": result.reason, "ticket": ticket}


@api.post("/companies/<int:company_id>/tickets/<int:ticket_id>/accept")
def accept(company_id: int, ticket_id: int) -> dict[str, Any]:
    """Give a ticket to an agent."""
    return as_json(desk().accept(company_id, ticket_id, number("userId")))


@api.post("/companies/<int:company_id>/tickets/<int:ticket_id>/close")
def close(company_id: int, ticket_id: int) -> dict[str, Any]:
    """Close a ticket."""
    return as_json(desk().close(company_id, ticket_id))


@api.post("/companies/<int:company_id>/tickets/<int:ticket_id>/transfer")
def transfer(company_id: int, ticket_id: int) -> dict[str, Any]:
    """Move a ticket to another connection."""
    return as_json(desk().transfer(company_id, ticket_id, number("whatsappId")))


@api.get("/companies/<int:company_id>/contacts/<int:contact_id>/tickets")
def tickets(company_id: int, contact_id: int) -> list[dict[str, Any]]:
    """List what a contact has open, on every connection."""
    return [as_json(ticket) for ticket in desk().open_tickets(company_id, contact_id)]


def number(name: str) -> Any:
    """Return a field of the body; the library refuses what is no id."""
    given = request.get_json()
    return given.get(name) if isinstance(given, dict) else abort(400)


def told(error: Exception) -> tuple[Response, int]:
    """Answer for an error that nobody has caught."""
    match error:
        case InvalidMessageError():
            return jsonify(error=f"{error.field} must be {error.expected}"), 400
        case TicketNotFoundError():
            return jsonify(error="ERR_NO_TICKET_FOUND"), 404
        case ActiveTicketExistsError():
            return jsonify(error=error.code, ticket=error.ticket.id), 409
        case ConflictError() | BlockedBySchemaError():
            return jsonify(error=str(error)), 409
        case _ if is_retryable(error):
            return jsonify(error="busy, try again"), 503
        case _:
            raise error
