"""The files of a command: the log that it reads, and what it writes beside its output.

Law of this file: whatever the system refuses is one clear line; a file that is written is there whole, or as it
was before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, TextIO

import click

from ticketrouter.cli import jsonl, whatsapp_cloud
from ticketrouter.cli.fatal import FatalError, without_url
from ticketrouter.cli.source import Located, lines_of, located, whole_or_lines

STANDARD_INPUT = "-"
FORMATS = ("jsonl", "whatsapp-cloud")


def check_company(company: str | None, format_: str) -> None:
    """Refuse a company where each message names its own."""
    if company is not None and format_ != "whatsapp-cloud":
        raise click.UsageError("--company is for --format whatsapp-cloud: a message in jsonl names its own.")


def opened(file: str) -> AbstractContextManager[BinaryIO]:
    """Open a file for reading.

    Args:
        file: its name; `-` is standard input.

    Raises:
        FatalError: if it cannot be read.
    """
    if file == STANDARD_INPUT:
        # It is not ours to close.
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except (OSError, ValueError) as error:
        raise _unusable(file, error) from error


def items(lines: Iterable[bytes], *, file: str, format_: str, company_id: str | None) -> Iterator[Located]:
    """Read the items of a stream.

    Args:
        lines: the lines of the stream.
        file: its name.
        format_: one of `FORMATS`.
        company_id: the company of every message, where the format has none of its own.

    Raises:
        FatalError: if it cannot be read.
    """
    name = "<stdin>" if file == STANDARD_INPUT else file
    numbered = lines_of(_readable(lines, name))
    match format_:
        case "whatsapp-cloud":
            parse = partial(whatsapp_cloud.parse, company_id=company_id)
            return located(whole_or_lines(numbered), parse, name)
        case _:
            return located(numbered, jsonl.parse, name)


@contextmanager
def written(file: str) -> Generator[TextIO, None, None]:
    """Write a file as UTF-8: it is there once all of it is written; before that, and after an error, as it was.

    Args:
        file: its name.

    Raises:
        FatalError: if it cannot be written.
    """
    path = Path(file)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device: there is no other to put in its place
            with path.open("w", encoding="utf-8") as stream:
                yield stream
            return
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as stream:
            try:
                yield stream  # type: ignore[misc]  # it is a TextIO in all but name
                stream.flush()
                Path(stream.name).chmod(_mode())
                Path(stream.name).replace(path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as error:
        raise _unusable(file, error) from error


def _mode() -> int:
    # What a file has that is simply opened; a temporary one is for its owner only.
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _readable(lines: Iterable[bytes], file: str) -> Iterator[bytes]:
    try:
        yield from lines
    except OSError as error:
        raise _unusable(file, error) from error


def _unusable(file: str, error: Exception) -> FatalError:
    return FatalError(f"{without_url(file)}: {getattr(error, 'strerror', None) or without_url(str(error))}")
