"""The stream: lines, documents, places."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ticketrouter.cli.items import Bad, Place, Skipped
from ticketrouter.cli.source import Line, lines_of, located, whole_or_lines

BODY = b'{"object":"x","entry":[]}\n'


def numbers(stream: list[bytes]) -> list[tuple[int, bytes]]:
    return [(line.number, line.text) for line in lines_of(stream)]


def documents(text: bytes) -> list[Line]:
    return list(whole_or_lines(lines_of(text.splitlines(keepends=True))))


def test_lines_are_numbered_as_in_an_editor():
    """Blank lines count but are passed over; a byte order mark is no part of the first line."""
    assert numbers([b"\xef\xbb\xbfa\n", b"\r\n", b" \n", b"b"]) == [(1, b"a\n"), (4, b"b")]


def test_lines_are_read_one_at_a_time():
    """No line is asked for before the one in front of it has been passed on."""

    def endless() -> Iterator[bytes]:
        yield BODY
        yield BODY
        raise AssertionError("too far")

    stream = whole_or_lines(lines_of(endless()))

    assert (Line(1, BODY), Line(2, BODY)) == (next(stream), next(stream))


@pytest.mark.parametrize("value", [{"a": {"entry": [1, {}]}}, [{"entry": []}], {"entry": ["\n"]}])
@pytest.mark.parametrize("indent", [0, 2])
def test_a_document_over_many_lines_is_one(value, indent):
    """A file that is one value of JSON is read as one, from its first line that is not blank."""
    text = b"\n" + json.dumps(value, indent=indent).encode()

    (whole,) = documents(text)

    assert (value, 2) == (json.loads(whole.text), whole.number)


def test_complete_lines_stay_lines():
    """Where the first line is complete, or wrong, each line is one of its own."""
    for first in (BODY, b"nonsense\n", b'"x" "y"\n'):
        assert documents(first + BODY) == [Line(1, first), Line(2, BODY)]


@pytest.mark.parametrize("cut", [b'{"object":"x",\n', b'{"object":\n', b"{\n", b'{"object":"x"\n'])
def test_a_first_line_that_was_cut_off_does_not_swallow_the_rest(cut):
    """Where the lines make up no value together, but the later ones do alone, they are lines."""
    assert documents(cut + BODY) == [Line(1, cut), Line(2, BODY)]


def test_a_broken_document_is_one_bad_thing():
    """A document that is cut off is one value, not a bad line for each of its lines."""
    assert len(documents(b'{\n "entry": [\n  1,\n')) == 1


def test_an_empty_stream_has_no_lines():
    """Nothing in, nothing out."""
    assert documents(b"") == documents(b"\n \n") == []


def test_every_item_knows_its_place():
    """Items have the file and the line they stand in; text that is not UTF-8 is a bad line like any other."""
    lines = lines_of([b"one\n", b"tw\xff\n", b"three\n"])

    first, second, third = located(lines, lambda text: (Skipped(text.strip()),), "log.jsonl")

    assert (Skipped("one"), Place("log.jsonl", 1)) == (first.item, first.place)
    assert (Skipped("three"), Place("log.jsonl", 3)) == (third.item, third.place)
    assert isinstance(second.item, Bad)
    assert f"{second.place}: {second.item}" == r"log.jsonl:2: line must be UTF-8, not b'\xff' at byte 3"


def test_the_end_of_a_line_is_no_part_of_it():
    """A parser is given the line without what ended it, so that no message shows that."""
    lines = lines_of([b"one\r\n", b"{\n", b" two \n", b"three"])

    texts = [place.item for place in located(lines, lambda text: (Skipped(text),), "log.jsonl")]

    assert texts == [Skipped("one"), Skipped("{"), Skipped(" two "), Skipped("three")]


def test_names_from_outside_cannot_command_the_terminal():
    """Control characters in names are shown as escapes, and long names are cut."""
    assert str(Place("a\nb\x1b[2J", 1)) == r"a\nb\x1b[2J:1"
    assert len(str(Bad("x" * 10_000, 1, "is wrong"))) < 250
