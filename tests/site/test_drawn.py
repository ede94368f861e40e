"""What is drawn on the pages is what the code says, and a broken link is found."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import links
from ticketrouter import Reason, TicketRouter
from ticketrouter.sqlalchemy.dialects.postgresql.errors import CODES as POSTGRESQL
from ticketrouter.sqlalchemy.faults import SERVERS

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import drawn


def words(svg: str) -> str:
    return " ".join(" ".join(ET.fromstring(svg).itertext()).split())


def test_the_picture_of_the_rules_is_complete() -> None:
    """Seven rules in their order, with every reason that decide may give."""
    found = drawn.rules()
    picture = words(drawn.decision_svg())

    assert list(range(1, 8)) == [rule.number for rule in found]
    assert {reason.value for reason in Reason} - {"requested"} == {name for r in found for name in r.reasons}
    assert [] == [rule for rule in found if f"{rule.number}. {rule.when}" not in picture]


def test_the_picture_of_the_states_is_found_by_doing() -> None:
    """Each act leads where the lifecycle says; an accepted ticket stays accepted."""
    found = drawn.transitions()

    assert ["message", "open"] == found["no ticket", "pending"]
    assert ["accept"] == found["pending", "open"]
    assert ["close"] == found["pending", "closed"] == found["open", "closed"]
    assert {"reopen", "message, in the window"} == set(found["closed", "pending"])
    assert ("open", "pending") not in found
    assert "message, in the window" in words(drawn.states_svg())


def test_the_list_of_calls_is_complete() -> None:
    """Each public call of the router has its row, with what its docstring says."""
    public = {name for name in vars(TicketRouter) if not name.startswith("_")}

    assert public == set(drawn.calls()) == set(drawn.LOSER)
    assert "`TicketNotFoundError`" in drawn.calls_list()
    assert "`commit`" in drawn.repository_table()


def test_the_tables_of_error_codes_are_complete() -> None:
    """Each row of the library's own table is drawn, once, and no cell breaks its row."""
    for codes in SERVERS:
        lines = drawn.error_codes_table(codes).splitlines()

        assert len(codes.rows) + 3 == len(lines)
        assert {7} == {line.count("|") for line in lines}
    assert "| 40xxx | transaction rollback | yes | `ContentionError` |" in drawn.error_codes_table(POSTGRESQL)
    assert set(drawn.ERROR_CODES.values()) == set(SERVERS)


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("other.html", False),
        ("other.html#here", False),
        ("#top", False),
        ("https://example.org/x", False),
        ("gone.html", True),
        ("other.html#gone", True),
        ("#gone", True),
        ("../outside.md", True),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, link: str, is_broken: bool) -> None:
    """A link must lead to a page, and to a place in it."""
    (tmp_path / "index.html").write_text(f'<p id="top"><a href="{link}">x</a></p>', encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="here">y</p>', encoding="utf-8")

    assert ([f"index.html: {link}"] if is_broken else []) == links.broken(tmp_path)
