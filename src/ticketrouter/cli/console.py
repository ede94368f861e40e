"""Where tables are printed.

Law of this file: it adds nothing to rich but what the command line promises of its streams.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console

_WIDTH_OF_A_FILE = 160


class PipeConsole(Console):
    """A console that leaves a broken pipe to whoever prints, instead of ending the program itself."""

    def on_broken_pipe(self) -> None:
        """Let the error out."""
        raise BrokenPipeError


def standard_output() -> Console:
    """Return standard output for a table; a pipe or a file is as wide as COLUMNS says, or as a table needs."""
    return PipeConsole(width=None if sys.stdout.isatty() else _columns() or _WIDTH_OF_A_FILE)


def standard_error() -> Console:
    """Return standard error, for whatever is no result."""
    return PipeConsole(stderr=True)


def _columns() -> int | None:
    try:
        given = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        return None
    return given if given > 0 else None
