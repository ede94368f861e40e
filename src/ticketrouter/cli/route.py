"""`ticketrouter route`: a stream of messages in, a line per message out.

Law of this file: options and streams. The results go to standard output; whatever else there is to say goes to
standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import BinaryIO

import click

from ticketrouter import presets
from ticketrouter.cli import report
from ticketrouter.cli.console import standard_error
from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.fatal import INTERRUPTED, FatalError
from ticketrouter.cli.files import FORMATS, STANDARD_INPUT, check_company, items, opened
from ticketrouter.cli.options import SaidOnce, database_option, policy_option
from ticketrouter.cli.progress import watched
from ticketrouter.cli.report import Render, summary
from ticketrouter.cli.run import BadLineError, Run
from ticketrouter.cli.source import Located
from ticketrouter.cli.store import Store
from ticketrouter.cli.tables import Tables
from ticketrouter.cli.wording import warned

_BAD_LINES = 1


@click.command(cls=SaidOnce)
@click.argument("file", default=STANDARD_INPUT, metavar="[FILE|-]")
@database_option("Where the tickets are kept; tables of ours are made on first use.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="What the stream consists of.",
)
@policy_option
@desk_options
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the line of a message is written.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many messages share a transaction.",
)
@click.option("--company", metavar="ID", help="whatsapp-cloud: the company, instead of the account's id.")
@click.option("--strict", is_flag=True, help="End the run at the first bad line.")
def route(
    file: str,
    *,
    database: str,
    format_: str,
    policy: str,
    tables: Tables,
    output: str,
    batch: int,
    company: str | None,
    strict: bool,
) -> None:
    """Route a stream of messages to their tickets.

    FILE defaults to standard input, which is also called -.

    Each message is routed in a transaction of its own, and its line is printed once that is committed. A run
    that was interrupted can be started again on the same file: message ids that were routed change nothing.

    Exit status: 0, or 1 if a line was bad, 2 if the run could not go on, 130 if it was interrupted.
    """
    check_company(company, format_)
    with (
        warned(tables.told),
        opened(file) as stream,
        closing(Store.open(database, presets.ALL[policy], tables)) as store,
    ):
        run = Run(
            route_all=store.route,
            render=_render(output),
            out=_print,
            complain=_complain,
            batch=batch,
            strict=strict,
            tell=tables.told,
        )
        read = partial(items, file=file, format_=format_, company_id=company)
        status = _follow(run, stream, read)
    raise click.exceptions.Exit(status)


def _follow(run: Run, stream: BinaryIO, read: Callable[[Iterable[bytes]], Iterable[Located]]) -> int:
    """Feed the stream to the run; whatever ends it, the summary is shown.

    Returns:
        The exit status.
    """
    console = standard_error()
    started = time.monotonic()
    interrupted = False
    try:
        with watched(stream, console) as lines:
            run.feed(read(lines))
    except BadLineError:
        pass
    except KeyboardInterrupt:
        interrupted = True
        _complain("interrupted")
    except FatalError:
        console.print(summary(run.tally, time.monotonic() - started))
        raise
    console.print(summary(run.tally, time.monotonic() - started))
    if interrupted:
        return INTERRUPTED
    return _BAD_LINES if run.tally.bad_lines else 0


def _render(output: str) -> Render:
    match output:
        case "json":
            return report.json_line
        case _:
            plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
            return report.text_line if plain else report.coloured_line


def _print(lines: str) -> None:
    sys.stdout.write(f"{lines}\n")
    # Whoever follows the stream sees a message as soon as it is committed.
    sys.stdout.flush()


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")
