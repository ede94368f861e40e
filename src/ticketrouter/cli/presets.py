"""`ticketrouter presets`: the known desks, and how each decides.

Law of this file: the table is drawn from `ticketrouter.presets.ALL`; nothing is known here of any desk.
"""

from __future__ import annotations

from datetime import timedelta
from textwrap import fill

import click
from rich.table import Table
from rich.text import Text

from ticketrouter.choices import Effect, Policy, Reopen
from ticketrouter.cli.console import standard_output
from ticketrouter.model import MessageKind, StatusScheme
from ticketrouter.presets import ALL, Preset

_NARROW = 140
"""Below this many columns a table would break words in the middle."""
_INDENT = "  "
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@click.command()
def presets() -> None:
    """List the policies of known desks.

    Their names are what `ticketrouter route --policy` takes.
    """
    console = standard_output()
    if console.width < _NARROW:
        click.echo(blocks(console.width))
    else:
        console.print(table())


def table() -> Table:
    """Return the presets as a table."""
    drawn = Table()
    drawn.add_column("name", no_wrap=True)
    for heading, widest in (("reopens", 30), ("own messages", 18), ("words", 24), ("source", None)):
        drawn.add_column(heading, overflow="fold", max_width=widest)
    for preset in ALL.values():
        drawn.add_row(preset.name, *(Text(told) for told in _told(preset).values()))
    return drawn


def blocks(width: int) -> str:
    """Return the presets as a block of lines each, no longer than the width, folded at words."""
    return "\n\n".join(_block(preset, width) for preset in ALL.values())


def _block(preset: Preset, width: int) -> str:
    folded = (
        fill(
            f"{heading}: {told}",
            width=max(width, 2 * len(_INDENT)),
            initial_indent=_INDENT,
            subsequent_indent=2 * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for heading, told in _told(preset).items()
    )
    return "\n".join((preset.name, *folded))


def _told(preset: Preset) -> dict[str, str]:
    return {
        "reopens": reopens(preset.policy),
        "own messages": own_messages(preset.policy),
        "words": words(preset.statuses),
        "source": preset.source,
    }


def own_messages(policy: Policy) -> str:
    """Say what becomes of a message that the company writes on its own phone."""
    said = [
        "open tickets, with nothing unread"
        if each.effects[MessageKind.ECHO] is Effect.OPEN
        else "only join tickets"
        for each in (policy, policy.groups or policy)
    ]
    return said[0] if said[0] == said[1] else f"{said[0]}; in groups: {said[1]}"


def words(statuses: StatusScheme) -> str:
    """Say which words are active, which of them a message wakes, and which are final."""
    told = [f"active: {', '.join(sorted(statuses.active))}"]
    if statuses.wakes:
        woken = (f"{word} to {becomes}" for word, becomes in sorted(statuses.wakes.items()))
        told.append(f"a message wakes {', '.join(woken)}")
    if statuses.final:
        told.append(f"final: {', '.join(sorted(statuses.final))}")
    return "; ".join(told)


def reopens(policy: Policy) -> str:
    """Say which closed tickets a policy reopens."""
    if policy.groups is None or policy.groups == policy:
        return _reopens(policy.reopen)
    return f"{_reopens(policy.reopen)}; in groups: {_reopens(policy.groups.reopen)}"


def _reopens(reopen: Reopen) -> str:
    if reopen.window is None:
        return "nothing"
    when = (
        "at any age" if reopen.window == timedelta.max else f"up to {duration(reopen.window)} after closing"
    )
    kept = [word for word, keep in (("agent", reopen.keep_user), ("queue", reopen.keep_queue)) if keep]
    return f"{when} ({' and '.join(kept)} kept)" if kept else f"{when} (nothing kept)"


def duration(span: timedelta) -> str:
    """Return a span of time in words, as 1 hour 30 minutes."""
    left = int(span.total_seconds())
    words: list[str] = []
    for unit, seconds in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(words) or "0 seconds"
