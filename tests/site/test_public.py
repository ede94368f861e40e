"""One list of what is public: what the pages import, describe and promise is on it, and a repository needs no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.public import ROOT, public

PUBLIC = public()
PAGES = [ROOT / "README.md", ROOT / "README.pt-BR.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = sorted((ROOT / "examples").rglob("*.py"))
_IMPORT = re.compile(
    r"^(?:>>> |\.\.\. )?\s*from (ticketrouter[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE
)
_DESCRIBED = re.compile(r"^\.\. auto(?:class|function|data):: (\S+)$", re.MULTILINE)


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """List what a page or a program imports of us: from where, and what."""
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)):
            yield module, name


def is_public(module: str, name: str) -> bool:
    """Tell whether a name may be imported; a module may that has public names."""
    return name in PUBLIC.get(module, ()) or f"{module}.{name}" in PUBLIC


@pytest.mark.parametrize("path", [*PAGES, *PROGRAMS], ids=lambda path: str(path.relative_to(ROOT)))
def test_whoever_follows_a_page_needs_nothing_that_is_not_public(path: Path) -> None:
    assert [] == [each for each in imported(path) if not is_public(*each)]


def test_pages_do_import_something() -> None:
    """The test above is able to fail."""
    found = {each for path in (*PAGES, *PROGRAMS) for each in imported(path)}

    assert {("ticketrouter", "Id"), ("ticketrouter.repository", "as_utc")} <= found
    assert len(found) > 40
    assert not is_public("ticketrouter.checks", "check_id")


def test_what_the_reference_describes_is_public() -> None:
    """By the very name, or by another one of the same object."""
    objects = {id(getattr(import_module(module), name)) for module, names in PUBLIC.items() for name in names}
    described = {name for path in PAGES for name in _DESCRIBED.findall(path.read_text(encoding="utf-8"))}

    assert len(described) > 40
    assert [] == sorted(name for name in described if id(_object(name)) not in objects)


def _object(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_the_modules_are_listed() -> None:
    """docs/compatibility.md names every module that has public names, and no other one."""
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    section = page.partition("## What is public")[2].partition("\n## ")[0]

    assert sorted(PUBLIC) == sorted(set(re.findall(r"^\| `(ticketrouter[\w.]*)`", section, re.MULTILINE)))


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_said_to_be_public_is_there(module: str) -> None:
    found = import_module(module)

    assert [] == [name for name in sorted(PUBLIC[module]) if not hasattr(found, name)]
