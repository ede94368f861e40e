"""Texts that speak of code, for faces that have none: whoever has typed options is told of options.

Law of this file: such a text is a `str`, the one that Python users read. The code in it is kept as values, so that
another face says it in its own words; nothing is searched for in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self


class Code(NamedTuple):
    """A piece of code that a text speaks of.

    Args:
        name: what it is about, as the name of an argument.
        text: how Python says it.
        of: the field or column that it says it of, where it is about one.
    """

    name: str
    text: str
    of: str = ""

    def __str__(self) -> str:
        return self.text


def passing(name: str, value: str, of: str = "") -> Code:
    """Return the code that passes an argument."""
    return Code(name, f"{name}={value}", of)


ACTIVE = Code("active", "StatusScheme(active=...)")
ALSO_CLOSED = Code("also_closed", "StatusScheme(also_closed=...)")
FINAL = Code("final", "StatusScheme(final=...)")
STORED = Code("status_values", "TicketMapping(status_values={...})")


class Wording(str):
    """A text for Python users that other faces can say otherwise.

    Args:
        parts: the text, with the code in it as values.
    """

    __slots__ = ("parts",)

    parts: tuple[str | Code, ...]

    def __new__(cls, *parts: str | Code) -> Self:  # noqa: D102 - as the class says
        made = super().__new__(cls, "".join(map(str, parts)))
        flat = (each.parts if isinstance(each, Wording) else (each,) for each in parts)
        made.parts = tuple(part for each in flat for part in each)
        return made

    def __str__(self) -> str:
        # So that `str` of an error that has it is one, too.
        return self


def listed(parts: Iterable[str | Code], between: str = ", ") -> Wording:
    """Return texts and pieces of code as a text lists them."""
    found = [each for part in parts for each in (between, part)]
    return Wording(*found[1:])


def told(text: str, face: Callable[[Code], str]) -> str:
    """Return a text as a face says it.

    Args:
        text: the text.
        face: what says a piece of code in other words.
    """
    if not isinstance(text, Wording):
        return text
    return "".join(face(part) if isinstance(part, Code) else part for part in text.parts)
