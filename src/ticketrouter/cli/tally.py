"""The count of a run: what became of the messages, what was skipped, how many lines were bad.

Law of this file: it counts, and its size does not depend on the length of the run.
"""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from ticketrouter.cli.items import Skipped, printable
from ticketrouter.model import Outcome

_MOST_NAMES = 40
_REST = "others"


@define
class Tally:
    """What has happened so far."""

    outcomes: Counter[Outcome] = field(factory=Counter[Outcome])
    skipped: Counter[str] = field(factory=Counter[str])
    bad_lines: int = 0

    @property
    def messages(self) -> int:
        """How many messages were routed, the ignored ones among them."""
        return self.outcomes.total()

    def skip(self, item: Skipped) -> None:
        """Count what is no message, by its name; names come from outside, so there may not be too many."""
        name = printable(item.what)
        known = name in self.skipped or len(self.skipped) < _MOST_NAMES
        self.skipped[name if known else _REST] += item.count
