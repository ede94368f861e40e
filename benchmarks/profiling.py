"""In which functions a client's processor time goes.

Law of this file: the clock is the processor's, so that waiting for the server does not count. Being watched makes
small functions look larger than they are: how large a layer is, the difference between contenders tells; this
tells where inside it to look.
"""

from __future__ import annotations

import cProfile
import time
from collections.abc import Callable
from pathlib import PurePath
from types import CodeType
from typing import Any

from attrs import frozen


@frozen
class Spent:
    """What one function took, with what it calls that is written in C."""

    function: str
    calls: float
    """How often it is called for each message."""
    micros: float
    """Microseconds for each message, while watched."""


def profile(work: Callable[[], Any], messages: int, most: int = 25) -> list[Spent]:
    """Watch some work.

    Args:
        work: what is done.
        messages: how many messages that is.
        most: how many functions are told, those first that took the most.
    """
    watched = cProfile.Profile(time.process_time)
    watched.runcall(work)
    entries = [entry for entry in watched.getstats() if isinstance(entry.code, CodeType)]
    spent = [
        Spent(
            _name(entry.code),
            round(entry.callcount / messages, 2),
            round(_own(entry) / messages * 1e6, 1),
        )
        for entry in entries
    ]
    return sorted(spent, key=lambda each: -each.micros)[:most]


def _own(entry: Any) -> float:
    in_c = sum(call.inlinetime for call in entry.calls or () if not isinstance(call.code, CodeType))
    return float(entry.inlinetime + in_c)


def _name(code: CodeType) -> str:
    if code.co_filename.startswith("<"):
        return f"{code.co_qualname} {code.co_filename}"
    path = PurePath(code.co_filename)
    return f"{path.parent.name}.{path.stem}.{code.co_qualname}"
