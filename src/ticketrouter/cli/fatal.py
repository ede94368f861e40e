"""What ends a run at once: one clear line on standard error, and exit status 2.

Law of this file: no traceback reaches whoever only mistyped a name, and the line cannot command a terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

from click import ClickException

from ticketrouter.checks import printable

INTERRUPTED = 130
"""The exit status after an interrupt from the keyboard: 128 and the number of the signal, as shells have it."""
BROKEN_PIPE = 141
"""The exit status where nobody reads the output any more, in the same way."""


ASSIGNED = re.compile(r"(?i)(pass(?:word|wd|phrase|code)?|pwd|secret|token)\s*=\s*([^\s&]+)")
"""A secret as the drivers' own strings have it."""
_URL = re.compile(r"([A-Za-z][\w+.-]*://).*", re.DOTALL)


def without_url(text: str) -> str:
    """Return a text up to the first URL in it: who forgets an option's name gives its password as something else."""
    return _URL.sub(r"\1***", ASSIGNED.sub(r"\1=***", text))


class FatalError(ClickException):
    """The run cannot begin, or cannot go on; the text is one line that says why."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        print(f"ticketrouter: {self.message}", file=sys.stderr if file is None else file)


@contextmanager
def needing(extra: str, *modules: str, what: str) -> Generator[None]:
    """Say which extra to install where one of its modules is absent.

    Args:
        extra: its name.
        modules: what it installs, as it is imported.
        what: what needs it.

    Raises:
        FatalError: if an import inside finds one of the modules absent.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in modules:
            raise
        raise FatalError(f'{what} needs the extra "{extra}": pip install "ticketrouter[{extra}]"') from None
