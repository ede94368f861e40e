"""The page "Write a repository" and the example that it goes through say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/write-a-repository.md"
EXAMPLE = ROOT / "examples/sqlite3_repository"


def blocks() -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def test_the_blocks_are_the_repository() -> None:
    """In their order the blocks are the whole file, but for its docstring."""
    text = (EXAMPLE / "repository.py").read_text(encoding="utf-8")
    [*_, last] = [n for n, block in enumerate(blocks()) if block in text]
    shown = [line for block in blocks()[: last + 1] for line in lines(block)]

    assert [*_after_docstring(text)] == shown


@pytest.mark.parametrize("part", ["COLUMNS =", "class SQLite3Store", "class TestContract", "class Machine"])
def test_the_blocks_are_the_tests(part: str) -> None:
    """Whatever is shown of the tests stands in their file."""
    text = (EXAMPLE / "test_repository.py").read_text(encoding="utf-8")
    [shown] = [block for block in blocks() if part in block]

    assert shown.strip() in text


def _after_docstring(text: str) -> list[str]:
    return lines(text.split('"""\n', 1)[1])
