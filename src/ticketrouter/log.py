"""What is written to the standard logger `ticketrouter`: one line for each answer of the routers, and what is amiss.

Law of this file: ids of tickets and connections only, because an id of a contact may be a telephone number.
Nothing is configured here. New and reopened tickets are told at INFO, a message id that came with another contact
before at WARNING, whatever else at DEBUG; the fields of a record (`outcome`, `reason`, `ticket_id`, `company_id`, `connection_id`, `other_active`) are its attributes. A status
word that the scheme does not know is told at WARNING, once in a process.
"""

from __future__ import annotations

import logging
import threading

from ticketrouter.checks import Id
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Decision,
    Duplicate,
    Ignore,
    Joined,
    Keep,
    ReopenTicket,
    Reuse,
    Transfer,
    Write,
)
from ticketrouter.model import Reason, Ticket
from ticketrouter.moves import KeyPart, MovePlan
from ticketrouter.wording import ACTIVE, ALSO_CLOSED, FINAL, STORED, Code, Wording, listed

logger: logging.Logger = logging.getLogger("ticketrouter")


_LINES: dict[type, str] = {
    Create: "created",
    Reuse: "reused",
    Joined: "reused",
    ReopenTicket: "reopened",
    Duplicate: "had this message before",
    Ignore: "a message was ignored",
    Accept: "accepted",
    Close: "closed",
    Transfer: "transferred",
    Keep: "left as it is",
}


_AT_INFO = (Create, ReopenTicket)
_OF_ANOTHER = "had a message with this id before, from another contact,"

_MOVED = {KeyPart.CONTACT: "contact", KeyPart.CONNECTION: "connection"}


_MOST_TOLD = 1000
_told: set[tuple[str, str]] = set()
_telling = threading.Lock()


def tell_unknown(word: str, table: str, *, taken_for: str | None = None) -> None:
    """Warn, once in a process, of a status that the scheme does not know.

    Args:
        word: the status.
        table: where it was met.
        taken_for: the active status that the database takes it for, though it is another word; None: none.
    """
    with _telling:
        # What fills a column with ever other words fills neither the memory nor the log.
        if (word, table) in _told or len(_told) >= _MOST_TOLD:
            return
        _told.add((word, table))
    meant = (
        Wording(
            "its tickets count as closed, and no message reopens them: say what it means, with ",
            listed((ACTIVE, ALSO_CLOSED)),
            " or ",
            FINAL,
            ", and where the column stores no words, its word and what is stored for it, with ",
            STORED,
        )
        if taken_for is None
        else f"the database takes it for {taken_for!r}, so its tickets are active: write it so"
    )
    fields = {"status": word, "table": table}
    scheme = Wording("the ", Code("scheme", "StatusScheme"))
    logger.warning("%s does not know the status %r in %s; %s", scheme, word, table, meant, extra=fields)


def log_answer(answer: Decision | Write | Keep, ticket: Ticket | None) -> None:
    """Write the line of an answer that has been carried out.

    Args:
        answer: the answer.
        ticket: its ticket as it is now; None for an ignored message.
    """
    level = logging.INFO if isinstance(answer, _AT_INFO) else logging.DEBUG
    line = _LINES[type(answer)]
    if isinstance(answer, Duplicate) and answer.reason is Reason.ROUTED_FOR_ANOTHER_CONTACT:
        level, line = logging.WARNING, _OF_ANOTHER
    if not logger.isEnabledFor(level):
        return
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
