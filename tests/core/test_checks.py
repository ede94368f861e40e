"""What is shown of a text that came from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketrouter.checks import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Tickets é 中 %s", "Tickets é 中 %s"),
        ("u\nDROP TABLE x;--", "u\\nDROP TABLE x;--"),
        ("\x1b[31m\u202e\u2028\x85", "\\x1b[31m\\u202e\\u2028\\x85"),
    ],
)
def test_what_is_not_printed_becomes_an_escape(text: str, shown: str) -> None:
    """Whatever can be seen stays as it is."""
    assert printable(text) == shown


@given(st.text())
def test_nothing_leaves_its_line(text: str) -> None:
    """Of any text one printable line is left."""
    assert printable(text).isprintable()
    assert len(printable(text).splitlines()) <= 1
