"""What the project's own tests and those of the examples share: the servers, and how it is told what was skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.backends import Databases

LACKING = (
    "cannot be had",
    "is not installed",
    "no browser",
    "there is no device",
    "make bench writes",
    "needs ",
)
"""What is in a reason that is told word for word: somebody can change it."""
KINDS = {
    "the store or the repository has no such thing": ("this store", "this repository", "of this store"),
    "the unique rule has no room for it, or too much": ("the unique rule",),
}
"""By a kind of reasons, what is in each of them."""
OTHERS = "the database has no such thing"


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The servers and databases of this test process."""
    databases = Databases(tmp_path_factory.mktemp("databases"))
    yield databases
    databases.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell in a line for each kind of reasons how many tests were skipped (each reason: -rs)."""
    skipped = terminalreporter.stats.get("skipped", [])
    for kind, number in Counter(_kind(str(report.longrepr[2])) for report in skipped).most_common():
        terminalreporter.write_line(f"skipped {number:5}: {kind}")


def _kind(reason: str) -> str:
    reason = reason.removeprefix("Skipped: ")
    if any(words in reason for words in LACKING):
        return reason
    return next((kind for kind, words in KINDS.items() if any(each in reason for each in words)), OTHERS)
