"""Where a client's processor time goes: by package, and by function.

Law of this file: it samples, so that small functions are not made slow by being watched. A sample is the
innermost Python frame of a package that is named here; what is written in C, and what is in the standard library,
counts for whoever called it.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from attrs import Factory, frozen

INTERVAL = 0.001
"""Asked for; most kernels give a sample every four milliseconds."""
OF_ATTRS = re.compile(r"<attrs generated \w+ (\S+?)>")
"""How attrs names the methods that it writes."""
NAMED = {"psycopg", "asyncpg", "sqlalchemy", "ticketrouter", "asyncio", "benchmarks"}


@frozen
class Samples:
    """How often each was seen."""

    packages: Counter[str] = Factory(Counter)
    functions: Counter[str] = Factory(Counter)

    def add(self, frame: FrameType | None) -> None:
        """Count the innermost frame of a named package."""
        while frame is not None:
            module = _module(frame)
            root = module.partition(".")[0]
            if root in NAMED:
                self.packages[root] += 1
                self.functions[f"{module}.{frame.f_code.co_qualname}"] += 1
                return
            frame = frame.f_back
        self.packages["the rest"] += 1


def _module(frame: FrameType) -> str:
    generated = OF_ATTRS.search(frame.f_code.co_filename)
    return generated[1] if generated else str(frame.f_globals.get("__name__", ""))


@contextmanager
def sampled() -> Generator[Samples]:
    """Sample this process's processor time until the block ends."""
    samples = Samples()

    def take(_signal: int, frame: FrameType | None) -> None:
        samples.add(frame)

    before = signal.signal(signal.SIGPROF, take)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
