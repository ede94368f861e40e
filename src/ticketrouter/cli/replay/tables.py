"""A replay as tables for a terminal.

Law of this file: values in, tables and lines out; nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.table import Table
from rich.text import Text

from ticketrouter.cli.presets import duration
from ticketrouter.cli.replay.result import Difference, Result, longest_first
from ticketrouter.cli.report import id_text
from ticketrouter.model import Outcome
from ticketrouter.replay import Answer, Peak, Totals

MOST_QUEUES = 10
"""How many connections are shown, those with the longest queues first."""

_WORDS = {
    Outcome.CREATED: "tickets created",
    Outcome.REOPENED: "tickets reopened",
    Outcome.REUSED: "messages that joined a ticket",
    Outcome.DUPLICATE: "redeliveries",
    Outcome.IGNORED: "messages ignored",
}


def facts(totals: Totals) -> Iterator[tuple[str, str]]:
    """List what is told of a policy: in words, and as a figure."""
    for outcome, words in _WORDS.items():
        yield words, f"{totals.outcomes[outcome]:,}"
    yield "tickets closed as idle", f"{totals.closed:,}"
    yield "tickets active at the end", f"{totals.active:,}"
    yield "most tickets active at once", peak_text(totals.longest)
    yield "most contacts on several connections at once", peak_text(totals.on_several)
    yield "contacts ever on several connections", f"{totals.ever_on_several:,}"


def totals_table(result: Result) -> Table:
    """Return the table of what each policy made of the log: a column for each."""
    table = Table(title=about(result), title_justify="left")
    table.add_column("", overflow="fold")
    for name in result.policies:
        table.add_column(Text(name), justify="right")
    columns = [list(facts(totals)) for totals in result.totals.values()]
    for row in zip(*columns, strict=True):
        table.add_row(row[0][0], *(figure for _, figure in row))
    return table


def queues_table(result: Result) -> Table:
    """Return the table of the longest queue of each connection."""
    first = next(iter(result.totals.values()))
    places = [(company, connection) for company, connection, _ in longest_first(first)]
    places += [each for totals in result.totals.values() for each in totals.longest_on if each not in places]
    more = len(places) - MOST_QUEUES
    table = Table(
        title="Most tickets active at once, by connection",
        title_justify="left",
        caption=f"and {more:,} connections more: --output json has all" if more > 0 else None,
        caption_justify="left",
    )
    table.add_column("company", overflow="fold")
    table.add_column("connection", overflow="fold")
    for name in result.policies:
        table.add_column(Text(name), justify="right")
    for company, connection in places[:MOST_QUEUES]:
        peaks = [totals.longest_on.get((company, connection), Peak()) for totals in result.totals.values()]
        table.add_row(Text(id_text(company)), Text(id_text(connection)), *(peak_text(peak) for peak in peaks))
    return table


def differences_table(result: Result, most: int) -> Table | None:
    """Return the table of the first differences; None: there are none to show."""
    shown = result.differences.first[:most]
    if not shown:
        return None
    more = result.differences.count - len(shown)
    table = Table(
        title="Where they differ",
        title_justify="left",
        caption=f"and {more:,} more: --differences FILE writes all" if more else None,
        caption_justify="left",
    )
    for heading in ("line", "at", "message", "contact", "connection"):
        table.add_column(heading, overflow="fold")
    for name in result.policies:
        table.add_column(Text(name), overflow="fold")
    for each in shown:
        table.add_row(*_cells(each))
    return table


def _cells(difference: Difference) -> Iterator[str | Text]:
    yield f"{difference.line:,}"
    yield time_text(difference.step.at)
    yield Text(id_text(difference.step.message.message_id))
    yield Text(id_text(difference.key.contact_id))
    yield Text(id_text(difference.key.connection_id))
    for answer in difference.step.answers:
        yield Text(answer_text(answer))


def about(result: Result) -> str:
    """Say in a line what was replayed."""
    closing = (
        "nothing is closed"
        if result.close_after is None
        else f"closed when idle for {duration(result.close_after)}"
    )
    if result.begin is None or result.end is None:
        return f"no messages; {closing}"
    return (
        f"{result.messages:,} messages, {time_text(result.begin)} to {time_text(result.end)} UTC; {closing}"
    )


def differences_text(result: Result) -> str:
    """Say in a line on how many messages the policies differ."""
    if len(result.policies) == 1:
        return "one policy: nothing to compare it with"
    count = result.differences.count
    return (
        f"the policies differ on {count:,} of {result.messages:,} messages"
        if count
        else (f"the policies do not differ on any of {result.messages:,} messages")
    )


def answer_text(answer: Answer) -> str:
    """Return an answer in words: the outcome, its ticket and the reason."""
    ticket = "" if answer.ticket_id is None else f" #{id_text(answer.ticket_id)}"
    return f"{answer.outcome.value}{ticket}, {answer.reason.value}"


def peak_text(peak: Peak) -> str:
    """Return the highest count, and when it was first so high."""
    return f"{peak.count:,}" if peak.at is None else f"{peak.count:,} ({time_text(peak.at)})"


def time_text(moment: datetime) -> str:
    """Return a time in UTC to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"
