"""The comparison with the last release finds what it must, and only that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import api

V1 = {
    "__init__.py": "from ticketrouter.model import Ticket\n__all__ = ['Ticket']\n",
    "model.py": "class Ticket:\n    def close(self, at=None): ...\n    def _tidy(self): ...\n",
    "checks.py": "def check(value): ...\n",
    "sqlalchemy/__init__.py": "from ticketrouter.sqlalchemy.mapping import Mapping\n__all__ = ['Mapping']\n",
    "sqlalchemy/mapping.py": "class Mapping:\n    def own(self): ...\nclass Inner: ...\n",
}


@pytest.fixture
def release(tmp_path: Path) -> Callable[[dict[str, str]], list[str]]:
    """A function that changes files of a released package and lists what that breaks."""

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / "src" / "ticketrouter" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    assert api.last_release(tmp_path) is None
    write(V1)
    git("add", ".")
    git("commit", "--quiet", "--message", "Release 1.0.0")
    git("tag", "v1.0.0")

    def change(files: dict[str, str]) -> list[str]:
        write(files)
        reference = api.last_release(tmp_path)
        assert reference == "v1.0.0"
        return api.breakages(reference, tmp_path)

    return change


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"model.py": "class Ticket: ...\n"}, "ticketrouter.model.Ticket.close: public object was removed"),
        (
            {"model.py": "class Ticket:\n    def close(self, when=None): ...\n"},
            "ticketrouter.model.Ticket.close: parameter was removed",
        ),
        ({"__init__.py": ""}, "ticketrouter.Ticket: public object was removed"),
        (
            {"sqlalchemy/mapping.py": "class Mapping: ...\nclass Inner: ...\n"},
            "ticketrouter.sqlalchemy.mapping.Mapping.own: public object was removed",
        ),
    ],
)
def test_a_breakage_is_found(
    release: Callable[[dict[str, str]], list[str]], changed: dict[str, str], broken: str
) -> None:
    """Something public is gone, or is called otherwise; what the adapter exports is public wherever it stands."""
    assert broken in release(changed)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {
            "model.py": "class Ticket:\n    def close(self, at=None, *, by=None): ...\n    def more(self): ...\n"
        },
        {"checks.py": ""},
        {"sqlalchemy/mapping.py": "class Mapping:\n    def own(self): ...\n"},
    ],
)
def test_what_is_not_public_may_change(
    release: Callable[[dict[str, str]], list[str]], changed: dict[str, str]
) -> None:
    """To add is compatible; what is private, and the adapter's inside, may go."""
    assert [] == release(changed)
