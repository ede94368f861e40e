"""The command: `make bench`, or `python -m benchmarks --help`.

Law of this file: it says what is measured, in which order, and where the figures go.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import URL

from benchmarks import arrivals, figures, in_memory, pictures, report
from benchmarks.cells import Cell, Extent, Shape, Stand, plan, plan_of_log
from benchmarks.measuring import Tally, Team, measure
from benchmarks.stands import SETTINGS, Stands
from tests.support.servers import UnavailableError

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "performance"
FULL = Extent(sizes=(10_000, 1_000_000))
QUICK = Extent(sizes=(10_000,), reuses=(0.95,), rounds=3, seconds=0.12)
PROFILED = 3_000
"""Messages of each profile in a full run."""
PACKAGES = ("ticketrouter", "sqlalchemy", "psycopg", "asyncpg", "pymysql", "asyncmy", "aiosqlite", "django")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Messages a second, side by side.")
    parser.add_argument("--quick", action="store_true", help="under three minutes, for a look")
    parser.add_argument("--log", type=Path, help="route this log in its order instead: one message a line")
    parser.add_argument("--draw", action="store_true", help="only draw page and pictures anew")
    parser.add_argument("--sizes", help="tickets, such as 10000,1000000,10000000")
    parser.add_argument("--databases", help="such as postgresql,sqlite")
    parser.add_argument("--clients", help="such as 1,8")
    parser.add_argument("--batches", help="such as 1,1000")
    parser.add_argument("--limit", type=int, default=20_000, help="messages of a log")
    parser.add_argument("--rounds", type=int, help="turns of each")
    parser.add_argument("--seconds", type=float, help="how long a turn lasts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--page", type=Path, help="whose tables are drawn anew; the full run draws the docs'")
    return parser.parse_args()


def extent_of(given: argparse.Namespace) -> Extent:
    base = QUICK if given.quick else FULL
    sizes = _numbers(given.sizes) or base.sizes
    return Extent(
        sizes=tuple(sorted(sizes)),
        reuses=base.reuses,
        clients=_numbers(given.clients) or base.clients,
        batches=_numbers(given.batches) or base.batches,
        rounds=given.rounds or base.rounds,
        seconds=given.seconds or base.seconds,
        databases=tuple(given.databases.split(",")) if given.databases else base.databases,
    )


def _numbers(words: str | None) -> tuple[int, ...]:
    return tuple(int(word) for word in words.split(",")) if words else ()


# --- what is measured -----------------------------------------------------------------------------------------


class Run:
    """One run: its servers, its clients, its progress bar."""

    def __init__(self, extent: Extent, place: Path, progress: Progress) -> None:
        self.extent = extent
        self.stands = Stands(place)
        self.team = Team(max(extent.clients))
        self.progress = progress
        self.figures: dict[Cell, figures.Figure] = {}
        self.profiles: list[figures.Profile] = []
        self.versions: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def all(self) -> None:
        """Measure every database in turn."""
        for database in self.extent.databases:
            urls = self._urls([cell for cell in plan(database, self.extent) if _can(cell)], database)
            if urls:
                self._measure(database, urls)
                if database == "postgresql":
                    self._profile(urls)

    def log(self, log: Path, limit: int) -> int:
        """Let everybody route a log, each in tables of its own; return how many messages that were."""
        arrived = arrivals.read(log, limit)
        for database in self.extent.databases:
            size = min(self.extent.sizes)
            urls = self._urls([cell for cell in plan_of_log(database, size) if _can(cell)], database)
            task = self.progress.add_task(f"{database}: log", total=len(urls))
            tallies = {cell: Tally() for cell in urls}
            for cell, url in urls.items():
                self.team.prepare(cell, url)
            # In slices, everybody the same one, so that a drift of the machine hits all alike.
            step = max(100, len(arrived) // 20)
            for start in range(0, len(arrived), step):
                part = arrived[start : start + step]
                for cell, tally in tallies.items():
                    sent = part if cell.batch is None else _chunks(part, cell.batch)
                    tally.add(self.team.route(cell, sent), len(part) / len(sent))
                    self.progress.advance(task, len(part) / len(arrived))
            self.team.close_contenders()
            self.figures |= {cell: figures.Figure.of(tally) for cell, tally in tallies.items()}
        return len(arrived)

    def close(self) -> None:
        """Stop clients and servers."""
        self.team.close()
        self.stands.close()

    def _urls(self, cells: list[Cell], database: str) -> dict[Cell, URL]:
        stands = list(dict.fromkeys(cell.stand for cell in cells))
        task = self.progress.add_task(f"{database}: tickets", total=len(stands))
        try:
            self.versions[database] = self.stands.version(database)
            for stand in stands:
                self.stands.url(stand)
                self.progress.advance(task)
        except UnavailableError as reason:
            self.left_out[database] = str(reason)
            return {}
        return {cell: self.stands.url(cell.stand) for cell in cells}

    def _measure(self, database: str, urls: dict[Cell, URL]) -> None:
        rounds = self.extent.rounds
        task = self.progress.add_task(f"{database}: turns", total=len(urls) * (rounds + 1))
        tallies = measure(
            self.team,
            list(urls),
            urls,
            rounds=rounds,
            seconds=self.extent.seconds,
            tell=lambda turns: self.progress.advance(task, turns),
        )
        self.figures |= {cell: figures.Figure.of(tally) for cell, tally in tallies.items()}

    def _profile(self, urls: dict[Cell, URL]) -> None:
        ways = (("psycopg", Shape.AUTOCOMMIT), ("psycopg", Shape.SESSION), ("asyncpg", Shape.AUTOCOMMIT))
        task = self.progress.add_task("postgresql: profiles", total=len(ways))
        messages = int(PROFILED * min(1.0, self.extent.seconds / FULL.seconds))
        for driver, shape in ways:
            cell = Cell(Stand("postgresql", self.extent.main), "ours", driver, shape)
            self.team.prepare(cell, urls[cell])
            self.profiles.append(figures.Profile(cell, tuple(self.team.profile(cell, messages))))
            self.progress.advance(task)
        self.team.close_contenders()


def _can(cell: Cell) -> bool:
    """Tell whether this machine has what a contender is written with."""
    return cell.contender != "django" or find_spec("django") is not None


def _chunks(arrived: list[Any], size: int) -> list[list[Any]]:
    return [arrived[start : start + size] for start in range(0, len(arrived), size)]


def core(extent: Extent) -> dict[str, Any]:
    """Measure the core without a database, in a process of its own."""
    messages = int(min(50_000, extent.main) * min(1.0, extent.seconds / FULL.seconds)) or 1
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(in_memory.measure, extent.main, extent.rounds, messages).result()


def about(run: Run) -> dict[str, str]:
    """Say where and how this was measured."""
    settings = [f"{name}={value}" for chosen in SETTINGS.values() for name, value in chosen.items()]
    return {
        # Where the files are is nobody's business.
        "command": shlex.join(["python", "-m", "benchmarks", *(Path(word).name for word in sys.argv[1:])]),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "disk": _disk(),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name)),
        "servers": "; ".join(f"{name}: {text}" for name, text in run.versions.items()),
        "settings": ", ".join(settings),
        "turns": f"{run.extent.rounds} of {run.extent.seconds} s each",
    }


def _commit() -> str:
    import subprocess  # noqa: PLC0415

    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _disk() -> str:
    """Return how long a write to the disk of the servers takes: their speed is mostly that."""
    took = []
    clock = datetime.now
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            begun = clock(UTC)
            file.write(b"x" * 8192)
            file.flush()
            os.fsync(file.fileno())
            took.append((clock(UTC) - begun).total_seconds())
    return f"fsync of 8 KiB in {sorted(took)[25] * 1e3:.2f} ms (median of 50)"


def main() -> None:
    given = arguments()
    console = Console(width=200 if not sys.stdout.isatty() else None)
    name = "log" if given.log else "quick" if given.quick else "full"
    file = given.output / f"{name}.json"
    if given.draw:
        draw(given)
        return
    extent = extent_of(given)
    with (
        tempfile.TemporaryDirectory(prefix="tr") as place,
        Progress(console=Console(stderr=True)) as progress,
    ):
        run = Run(extent, Path(place), progress)
        try:
            further: dict[str, str] = {}
            memory = None
            if given.log:
                messages = run.log(given.log, given.limit)
                further = {"log": f"{messages:,} messages of {given.log.name}"}
            else:
                memory = core(extent)
                run.all()
            results = figures.Results(
                about(run) | further, run.figures, memory, tuple(run.profiles), run.left_out
            )
        finally:
            run.close()
    figures.write(results, file)
    report.in_terminal(results, console)
    console.print(f"written to {file}")
    if given.page or (given.output == RESULTS and name != "quick"):
        draw(given)


def draw(given: argparse.Namespace) -> None:
    """Draw page and pictures anew from the files of figures."""
    page, folder = given.page or PAGE, (given.page.parent / given.page.stem) if given.page else PICTURES
    for name, sections in report.OF_FILE.items():
        if (file := given.output / name).exists():
            report.draw_page(page, figures.read(file), sections)
    if (full := given.output / "full.json").exists():
        pictures.draw(figures.read(full), folder)


if __name__ == "__main__":
    main()
