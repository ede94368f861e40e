"""`ticketrouter demo`: the story of one contact and two connections.

Law of this file: the story is data; what became of each step is asked of the router, never written down here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, assert_never

import click
from attrs import frozen
from rich.table import Table

from ticketrouter.cli.console import standard_output
from ticketrouter.cli.report import also_open
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.model import InboundMessage, Reason, Resolution, TicketKey
from ticketrouter.router import TicketRouter

COMPANY = 1
CONTACT = "5511999999999"
GROUP = "120363041234567890"
SALES = 10
SUPPORT = 13
_NAMES = {SALES: "Sales (10)", SUPPORT: "Support (13)"}

_WHY = {
    Reason.ALREADY_ROUTED: "this message was routed before",
    Reason.ROUTED_FOR_ANOTHER_CONTACT: "another contact's message had this id",
    Reason.ACTIVE_ON_CONNECTION: "one is open on this connection",
    Reason.ACTIVE_FOR_CONTACT: "the contact has an open ticket",
    Reason.KIND_DOES_NOT_OPEN: "nobody speaks to the desk",
    Reason.WITHIN_REOPEN_WINDOW: "the last ticket was closed a short while ago",
    Reason.ONLY_TICKET_ALLOWED: "the schema has room for one ticket only",
    Reason.NO_ACTIVE_TICKET: "none is open on this connection",
    Reason.REQUESTED: "the desk asked for it",
}


@frozen
class Writes:
    """A message arrives."""

    text: str
    connection_id: int
    group_id: str | None = None


@frozen
class Closes:
    """The desk closes the contact's ticket on a connection."""

    text: str
    connection_id: int


Step: TypeAlias = Writes | Closes

STORY: tuple[Step, ...] = (
    Writes("The contact writes to", SALES),
    Writes("They write to", SUPPORT),
    Writes("Again to", SALES),
    Writes("Again to", SUPPORT),
    Writes("From a group chat to", SALES, GROUP),
    Closes("The desk closes the ticket at", SALES),
    Writes("They write to", SALES),
)


@frozen
class Happened:
    """What became of a step; the desk's own steps have no resolution."""

    step: Step
    ticket_id: object
    resolution: Resolution | None


def play() -> Iterator[Happened]:
    """Play the story on tickets kept in memory."""
    router = TicketRouter(InMemoryTicketRepository())
    for number, step in enumerate(STORY, start=1):
        match step:
            case Writes():
                resolution = router.resolve(
                    InboundMessage(
                        COMPANY,
                        CONTACT,
                        step.connection_id,
                        group_id=step.group_id,
                        message_id=f"demo-{number}",
                    )
                )
                yield Happened(step, resolution.ticket.id, resolution)
            case Closes():
                ticket = router.find_active(TicketKey(COMPANY, CONTACT, step.connection_id))
                if ticket is not None:
                    yield Happened(step, router.close(COMPANY, ticket.id).id, None)
            case _:
                assert_never(step)


@click.command()
def demo() -> None:
    """Show what happens when one contact writes to two connections."""
    table = Table(title=f"Contact {CONTACT}: one ticket per connection", title_justify="left")
    for heading in ("what happens", "outcome", "ticket", "why", "also open"):
        table.add_column(heading)
    for happened in play():
        table.add_row(*_row(happened))
    standard_output().print(table)


def _row(happened: Happened) -> tuple[str, ...]:
    start = (f"{happened.step.text} {_NAMES[happened.step.connection_id]}",)
    ticket = f"#{happened.ticket_id}"
    match happened.resolution:
        case None:
            return *start, "closed", ticket, _WHY[Reason.REQUESTED], ""
        case Resolution() as resolution:
            why = _WHY[resolution.reason]
            return *start, resolution.outcome.value, ticket, why, also_open(resolution)
