"""The command `ticketrouter replay`.

Law of this file: options and streams. What was found goes to standard output and the files that were asked for;
whatever else there is to say goes to standard error.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from typing import TextIO, assert_never

import click
from attrs import define, field

from ticketrouter import presets
from ticketrouter.cli.console import standard_error, standard_output
from ticketrouter.cli.fatal import INTERRUPTED, FatalError, needing
from ticketrouter.cli.files import FORMATS, check_company, items, opened, written
from ticketrouter.cli.items import Bad, Message, Skipped
from ticketrouter.cli.options import SaidOnce
from ticketrouter.cli.progress import watched
from ticketrouter.cli.replay.contacts import Contacts
from ticketrouter.cli.replay.result import Difference, Differences, Result, json_line, json_object
from ticketrouter.cli.replay.tables import differences_table, differences_text, queues_table, totals_table
from ticketrouter.cli.replay.timeline import Timeline
from ticketrouter.cli.source import Located
from ticketrouter.cli.tally import Tally
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage
from ticketrouter.replay import Replay, Step, UnorderedLogError

_BAD_LINES = 1
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _duration(text: str) -> timedelta:
    """Read a span of time, as 90s, 30m, 24h, 7d or 1h30m."""
    if re.fullmatch(r"(?:[0-9]{1,9}[smhd])+", text, re.ASCII) is None:
        raise click.BadParameter(f"{text!r} is no duration, as 90s, 30m, 24h, 7d and 1h30m are.")
    parts = re.findall(r"([0-9]+)([smhd])", text, re.ASCII)
    try:
        return timedelta(seconds=sum(int(count) * _UNITS[unit] for count, unit in parts))
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too long.") from None


def _names(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise click.BadParameter("each policy once, please.")
    return names


@click.command(cls=SaidOnce)
@click.argument("log", metavar="LOG|-")
@click.option(
    "--policy",
    "policies",
    type=click.Choice(list(presets.ALL)),
    multiple=True,
    required=True,
    metavar="NAME",
    callback=_names,
    help="Whose rules decide: see `ticketrouter presets`. Once for each policy to compare.",
)
@click.option(
    "--close-after",
    type=_duration,
    metavar="DURATION",
    help="Close a ticket that no message has joined for so long, as 24h or 7d; else nothing is closed.",
)
@click.option(
    "--late",
    type=_duration,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How much older than the message before it a message may be.",
)
@click.option(
    "--remember",
    type=_duration,
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="For how long at least a message id is known again.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="What the log consists of.",
)
@click.option("--company", metavar="ID", help="whatsapp-cloud: the company, instead of the account's id.")
@click.option("--strict", is_flag=True, help="End the run at the first bad line.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the result is written.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0, max=500),
    default=20,
    show_default=True,
    metavar="N",
    help="text: how many differences are shown.",
)
@click.option("--differences", metavar="FILE", help="Write every difference to a file, a line of JSON each.")
@click.option("--html", metavar="FILE", help="Write the result as a page with pictures.")
def replay(
    log: str,
    *,
    policies: tuple[str, ...],
    close_after: timedelta | None,
    late: timedelta,
    remember: timedelta,
    format_: str,
    company: str | None,
    strict: bool,
    output: str,
    limit: int,
    differences: str | None,
    html: str | None,
) -> None:
    """Say what a log of messages would have become under each of several policies.

    LOG is a file, or - for standard input: messages with `sent_at`, in the order of time. Time is the log's
    own. Nothing is written but the files that are asked for.

    Exit status: 0, or 1 if a line was bad, 2 if the run could not go on, 130 if it was interrupted.
    """
    check_company(company, format_)
    engine = Replay(
        {name: presets.ALL[name].policy for name in policies},
        close_after=close_after,
        late=late,
        remember=remember,
    )
    try:
        with ExitStack() as stack:
            run = Run(engine, log, close_after, strict=strict)
            if differences is not None:
                run.watchers.append(_differences_to(stack.enter_context(written(differences)), policies))
            if html is not None:
                stack.enter_context(_page_to(html, run))
            stack.enter_context(_few_collections())
            stream = stack.enter_context(opened(log))
            lines = stack.enter_context(watched(stream, standard_error()))
            run.feed(items(lines, file=log, format_=format_, company_id=company))
    except KeyboardInterrupt:
        _complain("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    _print(run.result, output, limit)
    raise click.exceptions.Exit(_BAD_LINES if run.tally.bad_lines else 0)


Watcher = Callable[[int, Step], None]
"""What is told each step, and the line of its message."""


@define
class Run:
    """One run over a log.

    Args:
        replay: what routes the messages.
        log: the name of the log.
        close_after: after how long an idle ticket is closed; None: never.
        strict: whether the first bad line ends the run.
        watchers: who is told each step.
    """

    replay: Replay
    log: str
    close_after: timedelta | None
    strict: bool = False
    watchers: list[Watcher] = field(factory=list[Watcher])
    tally: Tally = field(factory=Tally)
    differences: Differences = field(factory=Differences)
    _begin: datetime | None = None
    _end: datetime | None = None

    def feed(self, stream: Iterable[Located]) -> None:
        """Route every message of a log.

        Args:
            stream: what the log consists of.

        Raises:
            FatalError: if the log is not in the order of time, or at the first bad line of a strict run.
        """
        for located in stream:
            match located.item:
                case Message(message):
                    self._route(located, message)
                case Skipped() as skipped:
                    self.tally.skip(skipped)
                case Bad() as bad:
                    self._bad(f"{located.place}: {bad}")
                case _:
                    assert_never(located.item)

    @property
    def result(self) -> Result:
        """What was found."""
        return Result(
            self.log,
            self.close_after,
            self._begin,
            self._end,
            self.replay.totals,
            self.differences,
            self.tally,
        )

    def _route(self, located: Located, message: InboundMessage) -> None:
        try:
            step = self.replay.route(message)
        except UnorderedLogError as error:
            advice = "sort the log by sent_at, or say with --late how late a message may be"
            raise FatalError(f"{located.place}: {error}: {advice}") from error
        except InvalidMessageError as error:
            self._bad(f"{located.place}: {error}")
            return
        self._begin = step.at if self._begin is None else self._begin
        self._end = step.at
        if step.differs:
            self.differences.add(Difference(located.place.line, step))
        for watch in self.watchers:
            watch(located.place.line, step)

    def _bad(self, line: str) -> None:
        self.tally.bad_lines += 1
        if self.strict:
            raise FatalError(line)
        _complain(line)


def _differences_to(stream: TextIO, policies: tuple[str, ...]) -> Watcher:
    def watch(line: int, step: Step) -> None:
        if step.differs:
            stream.write(f"{json_line(Difference(line, step), policies)}\n")

    return watch


@contextmanager
def _page_to(file: str, run: Run) -> Generator[None, None, None]:
    """Watch a run, and write its page when it has come to its end."""
    with needing("report", "jinja2", "vl_convert", what="replay --html"):
        from ticketrouter.cli.replay.page import html  # noqa: PLC0415 - only here may the extra be absent
    timeline = Timeline(len(run.replay.policies))
    with closing(Contacts()) as contacts, written(file) as stream:
        run.watchers.extend((timeline.watch, contacts.watch))
        yield
        stream.write(html(run.result, timeline, contacts.chosen()))


@contextmanager
def _few_collections() -> Generator[None, None, None]:
    """Have Python look for circles seldom: a replay makes none, and keeps millions of ids to look through."""
    usual = gc.get_threshold()
    gc.set_threshold(100 * usual[0], *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _print(result: Result, output: str, limit: int) -> None:
    if output == "json":
        click.echo(json_object(result))
        return
    console = standard_output()
    console.print(totals_table(result))
    if result.messages:
        console.print(queues_table(result))
    if (table := differences_table(result, limit)) is not None:
        console.print(table)
    click.echo(differences_text(result))
    for name, count in sorted(result.tally.skipped.items()):
        _complain(f"skipped: {name}: {count:,}")
    if result.tally.bad_lines:
        _complain(f"bad lines: {result.tally.bad_lines:,}")


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")
