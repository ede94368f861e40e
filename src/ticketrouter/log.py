"""What the routers write to the standard logger `ticketrouter`: one line for each answer.

Law of this file: ids of tickets and connections only, because an id of a contact may be a telephone number.
Nothing is configured here. New and reopened tickets are told at INFO, whatever else at DEBUG; the fields of a
record (`outcome`, `reason`, `ticket_id`, `company_id`, `connection_id`, `other_active`) are its attributes.
"""

from __future__ import annotations

import logging

from ticketrouter.checks import Id
from ticketrouter.lifecycle import Accept, Close, Keep, Transfer, Write
from ticketrouter.model import Ticket
from ticketrouter.moves import KeyPart, MovePlan
from ticketrouter.policy import Create, Decision, Duplicate, Ignore, Reopen, Reuse

logger: logging.Logger = logging.getLogger("ticketrouter")


_LINES: dict[type, str] = {
    Create: "created",
    Reuse: "reused",
    Reopen: "reopened",
    Duplicate: "had this message before",
    Ignore: "a message was ignored",
    Accept: "accepted",
    Close: "closed",
    Transfer: "transferred",
    Keep: "left as it is",
}


_AT_INFO = (Create, Reopen)

_MOVED = {KeyPart.CONTACT: "contact", KeyPart.CONNECTION: "connection"}


def log_answer(answer: Decision | Write | Keep, ticket: Ticket | None) -> None:
    """Write the line of an answer that has been carried out.

    Args:
        answer: the answer.
        ticket: its ticket as it is now; None for an ignored message.
    """
    level = logging.INFO if isinstance(answer, _AT_INFO) else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    line = _LINES[type(answer)]
    others = getattr(answer, "other_active", ())
    elsewhere = "".join(
        f"; also active: #{_id(each.id)} on connection {_id(each.connection_id)}" for each in others
    )
    named = "" if ticket is None else f"ticket #{_id(ticket.id)} "
    on = "" if ticket is None else f" on connection {_id(ticket.connection_id)}"
    logger.log(level, "%s%s%s%s", named, line, on, elsewhere, extra=_fields(answer, ticket))


def _id(value: Id) -> str:
    """Return an id as it stands in a line: with a line break in it, it must not begin a line of its own."""
    told = str(value)
    return told if told.isprintable() else repr(told)


def log_move(plan: MovePlan) -> None:
    """Write the line of a move that has been carried out; contacts are not named.

    Args:
        plan: what was done.
    """
    move, closed = plan.move, [closing.ticket.id for closing in plan.closes]
    fields: dict[str, object] = {
        "company_id": move.company_id,
        "closed": closed,
        "repointed": len(plan.repoints),
    }
    line = "%d tickets moved to another %s, %d closed to make room"
    logger.info(line, len(plan.repoints), _MOVED[move.part], len(closed), extra=fields)


def _fields(answer: Decision | Write | Keep, ticket: Ticket | None) -> dict[str, object]:
    outcome, reason = getattr(answer, "outcome", None), getattr(answer, "reason", None)
    return {
        "outcome": None if outcome is None else str(outcome),
        "reason": None if reason is None else str(reason),
        "ticket_id": None if ticket is None else ticket.id,
        "company_id": None if ticket is None else ticket.company_id,
        "connection_id": None if ticket is None else ticket.connection_id,
        "other_active": [each.id for each in getattr(answer, "other_active", ())],
    }
