"""`ticketrouter audit`: what a host's tickets table allows, and what has become of its tickets.

Law of this file: options and streams; it knows no check. The report goes to standard output, how far it has come
to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import click
from attrs import evolve
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ticketrouter.cli.console import standard_error, standard_output
from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.fatal import needing
from ticketrouter.cli.files import written
from ticketrouter.cli.items import printable
from ticketrouter.cli.options import SaidOnce, database_option
from ticketrouter.cli.tables import Tables, looked_at
from ticketrouter.sqlalchemy.health.audit import Audit, Level, Observation, audit
from ticketrouter.sqlalchemy.health.audit import Progress as Told

_UNSOUND = 1
_ORDER = (Level.FINDING, Level.NOTE, Level.OK)
_MARKS = {Level.OK: ("ok", "green"), Level.NOTE: ("note", "yellow"), Level.FINDING: ("finding", "bold red")}
_Shown: TypeAlias = str | int | list[str | int] | None


@click.command("audit", cls=SaidOnce)
@database_option("The database that is looked at.")
@desk_options
@click.option("--json", "as_json", is_flag=True, help="Print the audit as one object of JSON.")
@click.option("--html", metavar="FILE", help="Write the report as a page of its own, too.")
def audit_command(
    database: str,
    *,
    tables: Tables,
    as_json: bool,
    html: str | None,
) -> None:
    """Look at a tickets table, and say whether it is sound.

    Nothing is written. The report holds ids, counts and status words, and nothing that a person has written.

    Exit status: 0 if it is sound, 1 if there are findings, 2 if it could not be looked at.
    """
    with ExitStack() as stack:
        write = None if html is None else stack.enter_context(_page_to(html))
        with _shown_progress() as told, looked_at(database, tables) as (connection, mapping):
            found = _in_words(audit(connection, mapping, progress=told), tables)
        if write is not None:
            write(found)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        standard_output().print(report(found))
    raise click.exceptions.Exit(0 if found.sound else _UNSOUND)


def _in_words(found: Audit, tables: Tables) -> Audit:
    """Return an audit in words that whoever has typed the options knows."""
    seen = (
        evolve(each, text=tables.told(each.text), advice=tables.told(each.advice))
        for each in found.observations
    )
    return evolve(found, observations=tuple(seen))


@contextmanager
def _page_to(file: str) -> Generator[Callable[[Audit], object]]:
    """Open the page's file before the long look, so that what is amiss with it is known at once."""
    with needing("html", "jinja2", what="audit --html"):
        from ticketrouter.cli.page import page  # noqa: PLC0415 - only here may the extra be absent

    with written(file) as stream:
        yield lambda found: stream.write(
            page("audit.html", audit=found, worst_first=worst_first, has_table=has_table, cell=cell)
        )


def report(found: Audit) -> RenderableType:
    """Return an audit as a terminal shows it."""
    heading = f"{found.table} on {found.database}: {found.tickets:,} tickets, {found.active:,} active"
    table = Table(title=Text(printable(heading, longest=None)), title_justify="left", show_lines=False)
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("what was seen", overflow="fold", ratio=1)
    for seen in worst_first(found):
        word, style = _MARKS[seen.level]
        table.add_row(Text(word, style=style), seen.check.value, _told(seen))
    verdict = Text(found.verdict, style="bold green" if found.sound else "bold red")
    return Group(table, verdict)


def _told(seen: Observation) -> RenderableType:
    parts: list[RenderableType] = [Text(printable(seen.text, longest=None))]
    if seen.advice:
        parts.append(Text(f"-> {printable(seen.advice, longest=None)}", style="italic"))
    if has_table(seen):
        parts.append(Padding(_examples(seen), (0, 0, 0, 2)))
        if seen.count > len(seen.examples):
            parts.append(Text(f"  {len(seen.examples)} of {seen.count:,} are shown", style="dim"))
    return Group(*parts)


def worst_first(found: Audit) -> list[Observation]:
    """Return the observations as people read them: findings, then notes, then what is right."""
    return sorted(found.observations, key=lambda seen: _ORDER.index(seen.level))


def has_table(seen: Observation) -> bool:
    """Tell whether the examples say more than the text does."""
    return seen.level is not Level.OK and bool(seen.examples) and "index" not in seen.examples[0]


def _examples(seen: Observation) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for name in seen.examples[0]:
        drawn.add_column(name.replace("_", " "), overflow="fold")
    for example in seen.examples:
        drawn.add_row(*(Text(cell(value)) for value in example.values()))
    return drawn


def cell(value: _Shown) -> str:
    """Return a value of an example as people read it."""
    match value:
        case None:
            return "-"
        case list():
            return ", ".join(cell(each) for each in value)
        case _:
            return printable(str(value), longest=None)


@contextmanager
def _shown_progress() -> Generator[Told | None]:
    """Show how far the audit has come, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=standard_error(), transient=True) as progress:
        task = progress.add_task("", total=None)

        def told(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        yield told
