"""What a stream of messages consists of: messages to route, things to skip, and lines that are no good.

Law of this file: frozen values and how they are worded. Whatever came from outside is shortened, and its
control characters are escaped, before it is shown.
"""

from __future__ import annotations

from reprlib import Repr
from typing import TypeAlias

from attrs import frozen

from ticketrouter import checks
from ticketrouter.errors import InvalidMessageError
from ticketrouter.model import InboundMessage

LONGEST_NAME = 60
"""How much of a name from outside is shown, in characters."""

OTHER_FORMAT = "; is this another --format?"
"""The hint where a line looks like one of another format."""

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST_NAME
_short.maxlevel = 2


@frozen
class Message:
    """Something that looks for its ticket."""

    message: InboundMessage


@frozen
class Skipped:
    """Something well-formed that is no message.

    Args:
        what: its name, under which it is counted.
        count: how many of it.
    """

    what: str
    count: int = 1


@frozen
class Bad:
    """A line that is no good: nothing of it is routed.

    Args:
        field: the name of what is wrong, as a path where it lies deeper.
        value: what was found there; None where nothing was.
        problem: what is wrong with it, as the end of "<field> …", with the value in it.
        hint: what the cause may be, for a stream; empty where that is not known.
    """

    field: str
    value: object
    problem: str
    hint: str = ""

    @classmethod
    def refused(cls, error: InvalidMessageError) -> Bad:
        """Return a value that was refused."""
        return cls(error.field, error.value, f"must be {error.expected}, not {shown(error.value)}")

    @classmethod
    def missing(cls, field: str) -> Bad:
        """Return a field that is not there."""
        return cls(field, None, "is missing")

    def __str__(self) -> str:
        return f"{printable(self.field, longest=3 * LONGEST_NAME)} {self.problem}{self.hint}"


Item: TypeAlias = Message | Skipped | Bad
"""Whatever a reader can find."""


@frozen
class Place:
    """Where in a stream something stands.

    Args:
        file: the name of the file.
        line: the number of the line, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{printable(self.file, longest=None)}:{self.line}"


def shown(value: object) -> str:
    """Return a value as a person may read it: in quotes where it is a text, and never long."""
    return _short.repr(value)


def printable(text: str, longest: int | None = LONGEST_NAME) -> str:
    """Return a text that cannot leave its line nor command a terminal.

    Args:
        text: any text.
        longest: how many characters of it to show; None: all.

    Returns:
        The text, its end cut off where it is too long, its control characters as escapes.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 2] + ".."
    return checks.printable(text)
