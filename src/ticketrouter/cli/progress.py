"""How far a run has come, shown on a terminal.

Law of this file: it writes to standard error, and only where that is a terminal.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def watched(stream: BinaryIO, console: Console) -> Generator[Iterator[bytes], None, None]:
    """Pass the lines of a stream on, and show how many bytes of it have been read.

    Args:
        stream: the stream.
        console: standard error; if it is no terminal, nothing is shown.

    Yields:
        The lines.
    """
    if not sys.stderr.isatty():
        yield iter(stream)
        return
    size = _size(stream)
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.fields[lines]:,} lines"),
        *([BarColumn(), TextColumn("{task.percentage:>3.0f}%")] if size else []),
        TimeElapsedColumn(),
    ]
    # Lines for the same terminal are printed above the bar; a pipe or a file is left alone.
    same_terminal = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=same_terminal) as progress:
        task = progress.add_task("", total=size, lines=0)

        def lines() -> Iterator[bytes]:
            for number, line in enumerate(stream, start=1):
                yield line
                # Only now has it been dealt with, or waits for its batch.
                progress.update(task, advance=len(line), lines=number)

        yield lines()


def _size(stream: BinaryIO) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size or None if stat.S_ISREG(status.st_mode) else None
