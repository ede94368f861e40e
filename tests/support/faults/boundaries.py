"""The boundaries of a unit of work: before each statement, before COMMIT, after COMMIT.

Law of this file: it counts them and lets something happen at one of them, once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from tests.support.faults.work import WORKS, engine_for, once, warm_up

Happening = Callable[[Any], None]
"""What happens; it is told the driver's connection."""


class Boundaries:
    """Lets something happen at one boundary of what an engine does from now on.

    Args:
        at: the boundary, from 0.
        happening: what happens there.
    """

    def __init__(self, at: int, happening: Happening) -> None:
        self.at = at
        self.passed = 0
        self._happening = happening

    @property
    def has_happened(self) -> bool:
        return self.passed > self.at

    def reach(self, driven: Any) -> None:
        """Pass one boundary."""
        self.passed += 1
        if self.passed == self.at + 1:
            self._happening(getattr(driven, "dbapi_connection", driven))

    @contextmanager
    def of(self, engine: Engine, *, commits: bool = True) -> Iterator[None]:
        """Count what this engine does; `commits`: the boundaries of COMMIT too."""

        def before_statement(cursor: Any, *_: object) -> None:
            self.reach(cursor.connection)

        honest = engine.dialect.do_commit

        def do_commit(driven: Any) -> None:
            self.reach(driven)
            honest(driven)
            self.reach(driven)

        event.listen(engine, "do_execute", before_statement)
        event.listen(engine, "do_executemany", before_statement)
        if commits:
            engine.dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            event.remove(engine, "do_execute", before_statement)
            event.remove(engine, "do_executemany", before_statement)
            engine.dialect.do_commit = honest  # type: ignore[method-assign]


def die_at(url: str, number: int, ticket_id: Any, boundary: int) -> None:
    """Be the process that does a unit of work and is killed at a boundary; it returns where there is none."""
    engine = engine_for(url)
    warm_up(engine)
    with Boundaries(boundary, lambda _: os.kill(os.getpid(), signal.SIGKILL)).of(engine):
        once(engine, WORKS[number], ticket_id)
    engine.dispose()
