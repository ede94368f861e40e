"""Schemes that have every sort of word."""

from __future__ import annotations

from ticketrouter import StatusScheme

WORDS = StatusScheme(
    {"open", "pending", "snoozed"},
    also_closed={"solved"},
    final={"merged", "spam"},
    wakes={"snoozed": "open"},
)
"""Every sort of word."""
SLEEPERS = StatusScheme(
    {"open", "pending", "waiting", "late"},
    initial_group="late",
    final={"spam"},
    wakes={"pending": "open", "late": "waiting"},
)
"""Words by which new and reopened tickets are asleep until the next message."""
