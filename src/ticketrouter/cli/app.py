"""The command `ticketrouter` and its subcommands.

Law of this file: every way out ends here, in an exit status and without a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from ticketrouter.checks import printable
from ticketrouter.cli.audit import audit_command
from ticketrouter.cli.demo import demo
from ticketrouter.cli.explain import explain
from ticketrouter.cli.fatal import BROKEN_PIPE, INTERRUPTED, FatalError, without_url
from ticketrouter.cli.presets import presets
from ticketrouter.cli.repair import repair
from ticketrouter.cli.replay.command import replay
from ticketrouter.cli.route import route
from ticketrouter.cli.schema import schema


class _Group(click.Group):
    """A group of commands that ends quietly when nobody reads its output any more."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard()
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ticketrouter", message="%(prog)s %(version)s")
def cli() -> None:
    """Which ticket does this inbound message belong to?"""


cli.add_command(route)
cli.add_command(explain)
cli.add_command(replay)
cli.add_command(demo)
cli.add_command(presets)
cli.add_command(audit_command)
cli.add_command(repair)
cli.add_command(schema)


def run() -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    if not _open_all_streams():
        FatalError("cannot write the output: standard output is closed").show()
        return FatalError.exit_code
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An id that the terminal's encoding lacks is no reason to stop.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run()
    except OSError as error:
        # What is read, and the database, have errors of their own: this is the output, if not this very line's.
        unwritable = FatalError(f"cannot write the output: {error.strerror or error}")
        with suppress(OSError):
            unwritable.show()
        _discard()
        return unwritable.exit_code


def _open_all_streams() -> bool:
    """Put something in the place of a stream that was closed, and tell whether there is an output to write to.

    Else the next file that is opened, such as the database, takes its number, and is written over by what was meant
    for the stream. What stands for the input cannot be read, so that whoever needs it says so.
    """
    has_output = sys.stdout is not None
    for number, name, flags, mode in (
        (0, "stdin", os.O_WRONLY, "r"),
        (1, "stdout", os.O_WRONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the program
    return has_output


def _run() -> int:
    try:
        status = cli.main(prog_name="ticketrouter", standalone_mode=False)
    except FatalError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        # What was typed is in it.
        for line in without_url(said.getvalue()).splitlines():
            click.echo(printable(line), err=True)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _discard() -> None:
    # What is still buffered must not complain once more when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
