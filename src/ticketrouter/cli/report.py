"""How results are shown: a line per message, as text or as JSON, and the tables.

Law of this file: values in, text or tables out; nothing is printed here. The JSON is a promise to programs
(docs/reference/cli.md), the rest may change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

import click
from rich.table import Table
from rich.text import Text

from ticketrouter.checks import Id
from ticketrouter.cli.items import printable
from ticketrouter.cli.tally import Tally
from ticketrouter.model import InboundMessage, Outcome, Resolution, Ticket

Render: TypeAlias = Callable[[InboundMessage, Resolution], str]
"""What makes the line of a message."""

_COLOURS = {
    Outcome.CREATED: "green",
    Outcome.REUSED: "cyan",
    Outcome.REOPENED: "yellow",
    Outcome.DUPLICATE: "bright_black",
    Outcome.IGNORED: "bright_black",
}


def json_line(message: InboundMessage, resolution: Resolution) -> str:
    """Return the line of a message for programs."""
    key = message.key
    ticket = ticket_of(resolution)
    return json.dumps(
        {
            "message_id": plain_id(message.message_id),
            "outcome": resolution.outcome.value,
            "reason": resolution.reason.value,
            "ticket_id": None if ticket is None else plain_id(ticket.id),
            "company_id": plain_id(key.company_id),
            "contact_id": plain_id(key.contact_id),
            "connection_id": plain_id(key.connection_id),
            "other_active": [plain_id(each.id) for each in resolution.other_active],
        }
    )


def text_line(message: InboundMessage, resolution: Resolution) -> str:
    """Return the line of a message for people."""
    return _text_line(message, resolution, resolution.outcome.value.ljust(9))


def coloured_line(message: InboundMessage, resolution: Resolution) -> str:
    """Return the line of a message for people at a terminal."""
    word = resolution.outcome.value.ljust(9)
    return _text_line(message, resolution, click.style(word, fg=_COLOURS[resolution.outcome]))


def _text_line(message: InboundMessage, resolution: Resolution, outcome: str) -> str:
    ticket = ticket_of(resolution)
    connection_id = message.connection_id if ticket is None else ticket.connection_id
    others = also_open(resolution)
    # With ids of a usual length, and one other ticket, this fits into 80 columns.
    columns = (
        id_text(message.message_id).ljust(14),
        outcome,
        resolution.reason.value.ljust(20),
        ("-" if ticket is None else f"#{id_text(ticket.id)}").ljust(5),
        f"on {id_text(connection_id)}".ljust(8),
        f"also {others}" if others else "",
    )
    return " ".join(columns).rstrip()


def ticket_of(resolution: Resolution) -> Ticket | None:
    """Return the ticket of a message; None: it was ignored."""
    return None if resolution.outcome is Outcome.IGNORED else resolution.ticket


def also_open(resolution: Resolution) -> str:
    """Return what the contact has open on other connections."""
    return ", ".join(f"#{id_text(t.id)} on {id_text(t.connection_id)}" for t in resolution.other_active)


def id_text(value: Id | None) -> str:
    """Return an id as people may read it, in full."""
    return "-" if value is None else printable(str(value), longest=None)


def summary(tally: Tally, seconds: float) -> Table:
    """Return the table at the end of a run."""
    table = Table(title="Summary", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("count", justify="right")
    for outcome in Outcome:
        table.add_row(outcome.value, f"{tally.outcomes[outcome]:,}")
    table.add_section()
    rate = tally.messages / seconds if seconds > 0 else 0.0
    table.add_row("total", f"{tally.messages:,}")
    table.add_row("per second", f"{rate:,.0f}")
    if tally.skipped:
        table.add_section()
        for name, count in sorted(tally.skipped.items()):
            table.add_row(Text(f"skipped: {name}"), f"{count:,}")
    if tally.bad_lines:
        table.add_section()
        table.add_row("bad lines", f"{tally.bad_lines:,}", style="red")
    return table


def plain_id(value: Id | None) -> int | str | None:
    """Return an id as JSON may have it."""
    return str(value) if isinstance(value, UUID) else value
