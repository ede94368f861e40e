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

from ticketrouter.cli.audit import audit_command
from ticketrouter.cli.demo import demo
from ticketrouter.cli.explain import explain
from ticketrouter.cli.fatal import BROKEN_PIPE, INTERRUPTED, FatalError
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


def _run() -> int:
    try:
        status = cli.main(prog_name="ticketrouter", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _discard() -> None:
    # What is still buffered must not complain once more when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
