"""The stream: from the bytes of a file to numbered texts, and from those to located items.

Law of this file: one line at a time is held, whatever the length of the stream; only a file that is a single
document is read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from attrs import frozen

from ticketrouter.cli.items import Bad, Item, Place, shown
from ticketrouter.cli.json_text import WHOLE, is_unfinished, is_value

Parser: TypeAlias = Callable[[str], Sequence[Item]]
"""What turns one text into items, and never raises."""

_BOM = b"\xef\xbb\xbf"


@frozen
class Line:
    """A line, or the lines of one document.

    Args:
        number: the number of the first line, from 1.
        text: the bytes.
    """

    number: int
    text: bytes


@frozen
class Located:
    """An item, and where it stands."""

    place: Place
    item: Item


def lines_of(stream: Iterable[bytes]) -> Iterator[Line]:
    """Number the lines of a stream; blank ones are passed over, a byte order mark is taken off."""
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield Line(number, text)


def whole_or_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """Return the one document that the lines make up together, or the lines where each is complete in itself.

    Args:
        lines: the lines of the stream.

    Yields:
        The lines as they come. Where the first is only the beginning of a value of JSON, all of them as one;
        but where that is no value either and further lines are, the first was cut off: the lines again.
    """
    first = next(lines, None)
    if first is None:
        return
    if not is_unfinished(_lenient(first.text)):
        yield first
        yield from lines
        return
    rest = list(lines)
    whole = Line(first.number, b"".join(line.text for line in chain([first], rest)))
    if is_value(_lenient(whole.text)) or not any(is_value(_lenient(line.text), dict) for line in rest):
        yield whole
    else:
        yield first
        yield from rest


def located(lines: Iterable[Line], parse: Parser, file: str) -> Iterator[Located]:
    """Read the items of each line.

    Args:
        lines: the lines.
        parse: what reads one of them.
        file: what the stream is called.

    Yields:
        Each item with its place, in the order of the stream.
    """
    for line in lines:
        place = Place(file, line.number)
        try:
            text = line.text.decode()
        except UnicodeDecodeError as error:
            wrong = line.text[error.start : error.end]
            problem = f"must be UTF-8, not {shown(wrong)} at byte {error.start + 1}"
            yield Located(place, Bad(WHOLE, line.text, problem))
            continue
        # What ended the line is no part of what it says.
        for item in parse(text.rstrip("\r\n")):
            yield Located(place, item)


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")
