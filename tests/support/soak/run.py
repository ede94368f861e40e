"""One run: workers under load, killed one after another, and the server with them; then the books.

Law of this file: it starts and kills, and knows of tickets only what the books say.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attrs import frozen
from sqlalchemy import URL

from tests.support import servers
from tests.support.faults.work import MAPPING, engine_for
from tests.support.soak.books import Books, Verdict, audit
from tests.support.soak.load import Acknowledged, Load, work_off

RUNS = {
    "postgresql": (Load(12_000), 95, 3),
    "mariadb": (Load(12_000), 95, 3),
    "sqlite": (Load(4_000), 40, 0),
}
"""For each database the load, how many workers are killed, and how often the server is."""
LOOK = 0.01
"""How often is looked whether it is time to kill somebody, in seconds."""


@frozen
class Run:
    """What a run came to."""

    database: str
    deliveries: int
    workers_killed: int
    servers_killed: int
    restarts: int
    outcomes: dict[str, int]
    tickets: int
    seconds: float
    verdict: Verdict

    def row(self) -> str:
        """Return a row of the table."""
        verdict = self.verdict
        found = len(verdict.lost), len(verdict.doubled), len(verdict.twice_active)
        cells = (
            self.database,
            f"{self.deliveries:,}",
            self.outcomes.get("duplicate", 0),
            self.workers_killed,
            self.servers_killed,
            self.restarts,
            self.tickets,
            *found,
            f"{self.seconds:.0f}",
        )
        return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| database | deliveries | duplicates told | workers killed | servers killed | units of work run again "
    "| tickets | lost | doubled | keys with two active | seconds |\n" + "|---" * 11 + "|"
)


@contextmanager
def durable(database: str) -> Iterator[URL]:
    """Run a server that has a commit on its disk before it answers; of SQLite, a file."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as place:
            yield URL.create("sqlite+pysqlite", database=f"{place}/soak.sqlite3")
        return
    with {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[database](durable=True) as url:
        yield url


def soak(url: URL, load: Load, *, kill_workers: int, kill_servers: int = 0) -> Run:
    """Work off a load while workers, and the server, are killed at even distances on the way."""
    engine = engine_for(url)
    MAPPING.metadata.create_all(engine)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.support.soak.load", "psycopg", "pymysql"])
    address = url.render_as_string(hide_password=False)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        books = [Path(place) / f"worker{n}" for n in range(load.workers)]
        # Without a lock, which a killed worker would keep.
        allowed = context.RawValue("d", 0.0)

        def start(n: int) -> Any:
            process = context.Process(target=work_off, args=(address, load, n, str(books[n]), allowed))
            process.start()
            return process

        crash: Callable[[], None] = lambda: servers.crash(url)  # noqa: E731
        crew = _Crew(load, books, start, allowed)
        crew.work(kill_workers, kill_servers, crash)
        lines = [line for book in books for line in Acknowledged.all_in(book)]
        engine.dispose()
        found = Books.of(engine)
        engine.dispose()
    outcomes: dict[str, int] = {}
    for line in lines:
        outcomes[line.outcome] = outcomes.get(line.outcome, 0) + 1
    return Run(
        database=engine.dialect.name,
        deliveries=len(load.deliveries()),
        workers_killed=crew.killed,
        servers_killed=crew.crashed,
        restarts=sum(line.restarts for line in lines),
        outcomes=outcomes,
        tickets=len(found.tickets),
        seconds=time.monotonic() - begun,
        verdict=audit(load, lines, found),
    )


class _Crew:
    """The workers of a run, each started again when it was killed."""

    def __init__(self, load: Load, books: list[Path], start: Callable[[int], Any], allowed: Any) -> None:
        self._allowed = allowed
        self._total = len(load.deliveries())
        self._books = books
        self._start = start
        self._chance = random.Random(7)
        self._processes = [start(n) for n in range(load.workers)]
        self.killed = 0
        self.crashed = 0

    def work(self, kill_workers: int, kill_servers: int, crash: Callable[[], None]) -> None:
        """See the load through."""
        try:
            while not self._look_after():
                # Nobody comes far beyond the next death, however seldom we get to look.
                due = self.killed < kill_workers
                self._allowed.value = (self.killed + 1) / (kill_workers + 1) if due else 1.0
                time.sleep(LOOK)
                share = self._done() / self._total
                if self.killed < kill_workers and share >= (self.killed + 0.5) / (kill_workers + 1):
                    self._kill_one()
                if self.crashed < kill_servers and share >= (self.crashed + 1) / (kill_servers + 1):
                    self.crashed += 1
                    crash()
        finally:
            for process in self._processes:
                process.kill()
                process.join()

    def _look_after(self) -> bool:
        """Start again whom we have killed; who has failed fails the run. Return whether all are through."""
        for n, process in enumerate(self._processes):
            status = process.exitcode  # asked once: between two askings it may die
            if status == -signal.SIGKILL:
                process.close()
                self._processes[n] = self._start(n)
            elif status:
                raise AssertionError(f"worker {n} gave up with status {status}")
        return all(process.exitcode == 0 for process in self._processes)

    def _kill_one(self) -> None:
        alive = [process for process in self._processes if process.is_alive()]
        if alive:
            self._chance.choice(alive).kill()
            self.killed += 1

    def _done(self) -> int:
        return sum(book.read_bytes().count(b"\n") for book in self._books if book.exists())
