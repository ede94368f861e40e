"""Make `messages.jsonl`: an invented log of two companies, three connections, people and groups.

Run it without arguments; it writes the same file every time. Nothing in it was ever sent by anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

SEED = 20_261_123
MESSAGES = 360
FIRST_DAY = datetime(2026, 11, 16, 8, tzinfo=UTC)
CONNECTIONS = {1: (10, 13), 2: (20,)}
PEOPLE = {1: [f"55119999900{n:02}" for n in range(24)], 2: [f"55218888800{n:02}" for n in range(12)]}
GROUPS = {1: ["120363000000000001", "120363000000000002"], 2: ["120363000000000009"]}
TARGET = Path(__file__).with_name("messages.jsonl")

_T = TypeVar("_T")


class Dice:
    """Chance that falls in the same way on every version of Python: only `random()` is promised to."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random  # noqa: S311 - an example, no secret

    def chance(self, probability: float) -> bool:
        """Tell whether something of this probability happens."""
        return self._random() < probability

    def pick(self, choices: Sequence[_T]) -> _T:
        """Choose one."""
        return choices[int(self._random() * len(choices))]

    def seconds(self, most: int) -> timedelta:
        """Choose a span of time."""
        return timedelta(seconds=1 + int(self._random() * most))


def messages(dice: Dice) -> Iterator[dict[str, Any]]:
    """Invent messages in the order in which they arrive; some of them arrive twice."""
    now = FIRST_DAY
    seen: list[dict[str, Any]] = []
    for number in range(1, MESSAGES + 1):
        now += dice.seconds(1_500)
        if seen and dice.chance(0.05):
            yield dice.pick(seen[-30:])
            continue
        message = invented(dice, number, now)
        seen.append(message)
        yield message


def invented(dice: Dice, number: int, now: datetime) -> dict[str, Any]:
    """Invent one message."""
    company = dice.pick([1, 1, 1, 2])
    message: dict[str, Any] = {
        "message_id": f"example-{number:04}",
        "company_id": company,
        "contact_id": dice.pick(PEOPLE[company]),
        "connection_id": dice.pick(CONNECTIONS[company]),
        "sent_at": now.isoformat().replace("+00:00", "Z"),
        "kind": dice.pick(["message"] * 14 + ["echo"] * 4 + ["notice"] * 2),
    }
    if dice.chance(0.12):
        message["group_id"] = dice.pick(GROUPS[company])
    return message


def main() -> None:
    """Write the file."""
    lines = [json.dumps(message, separators=(",", ":")) for message in messages(Dice(SEED))]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
