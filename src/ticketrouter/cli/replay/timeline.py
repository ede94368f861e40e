"""How many tickets were active over the time of a log, for a picture.

Law of this file: its size does not depend on the length of the log. Time is cut into slots; where there would be
too many of them, two become one. A slot knows the most tickets active at once in it, so that no peak is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import define, field, frozen

from ticketrouter.model import Outcome
from ticketrouter.replay import Step

MOST_SLOTS = 400
_OPENS = frozenset({Outcome.CREATED, Outcome.REOPENED})


@frozen
class Level:
    """How many tickets were active from a time on."""

    at: datetime
    active: int


@define
class _Slot:
    highest: int
    last: int


@define
class Timeline:
    """The active tickets of each policy over time.

    Args:
        lanes: how many policies there are.
    """

    lanes: int
    _origin: datetime | None = None
    _width: timedelta = timedelta(seconds=1)
    _active: list[int] = field(factory=list[int])
    _slots: list[dict[int, _Slot]] = field(factory=list[dict[int, _Slot]])

    def __attrs_post_init__(self) -> None:
        self._active = [0] * self.lanes
        self._slots = [{} for _ in range(self.lanes)]

    def watch(self, _line: int, step: Step) -> None:
        """Take in one step of the replay."""
        self._origin = step.at if self._origin is None else self._origin
        for lane, closed in enumerate(step.closed):
            for ticket in closed:
                self._shift(lane, ticket.closed_at or step.at, -1)
            if step.answers[lane].outcome in _OPENS:
                self._shift(lane, step.at, 1)

    def levels(self, lane: int, end: datetime) -> list[Level]:
        """List how many tickets of a policy were active, from the first message to the end."""
        if self._origin is None:
            return []
        levels = [*self._levels(lane, self._origin), Level(end, self._active[lane])]
        return [each for each in levels if each.at <= end]

    def _levels(self, lane: int, origin: datetime) -> Iterator[Level]:
        slots = self._slots[lane]
        for number in sorted(slots):
            yield Level(origin + number * self._width, slots[number].highest)
            if number + 1 not in slots:
                yield Level(origin + (number + 1) * self._width, slots[number].last)

    def _shift(self, lane: int, at: datetime, by: int) -> None:
        number = self._number(at)
        while number >= MOST_SLOTS:
            self._widen()
            number = self._number(at)
        before = self._active[lane]
        after = self._active[lane] = before + by
        slot = self._slots[lane].setdefault(number, _Slot(before, before))
        slot.highest, slot.last = max(slot.highest, after), after

    def _number(self, at: datetime) -> int:
        return 0 if self._origin is None else (at - self._origin) // self._width

    def _widen(self) -> None:
        self._width *= 2
        for lane, slots in enumerate(self._slots):
            wider: dict[int, _Slot] = {}
            for number in sorted(slots):
                slot = slots[number]
                into = wider.setdefault(number // 2, _Slot(slot.highest, slot.last))
                into.highest, into.last = max(into.highest, slot.highest), slot.last
            self._slots[lane] = wider
