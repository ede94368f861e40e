"""A clock that stands still until it is told to go on.

Law of this file: it reads no other clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ticketrouter import checks


class FakeClock:
    """Tells the time that a test has set: `TicketRouter(repository, clock=FakeClock())`.

    Args:
        now: the time to begin with, with a time zone.

    Raises:
        InvalidMessageError: if it has no time zone.
    """

    def __init__(self, now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self.now = now

    @property
    def now(self) -> datetime:
        """The time that it tells, in UTC; a test may set it."""
        return self._now

    @now.setter
    def now(self, moment: datetime) -> None:
        self._now = checks.as_utc("now", moment)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self._now

    def advance(self, span: timedelta) -> datetime:
        """Let time go by.

        Args:
            span: how much; a clock never runs backwards.

        Returns:
            What time it is then.

        Raises:
            InvalidMessageError: if the span is no duration.
        """
        checks.check_duration("span", span)
        self._now += span
        return self._now
