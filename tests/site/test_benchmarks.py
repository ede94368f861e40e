"""The benchmarks run, and the page says what their file of figures says. No figure is judged here."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import URL, text

from benchmarks import figures, report
from benchmarks.cells import CONNECTION, FIRST_CONTACT, Arrival, Extent, plan, plan_of_log
from benchmarks.figures import Results
from benchmarks.measuring import Client
from benchmarks.stands import TICKETS, engine_of, fill
from tests.support.backends import Databases

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
COMMITTED = ROOT / "benchmarks" / "results"
# Enough for everybody's turn, and no more: seconds.
TINY = (
    "--seconds",
    "0.01",
    "--batches",
    "1,10",
    "--limit",
    "40",
    "--databases",
    "sqlite",
    "--sizes",
    "200,400",
    "--clients",
    "1,2",
    "--rounds",
    "1",
)


def run(*arguments: object, output: Path) -> str:
    command = [sys.executable, "-m", "benchmarks", *TINY, "--output", output, *arguments]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def judge(results: Results) -> None:
    assert {} == {cell: figure.failure for cell, figure in results.figures.items() if figure.failures}
    assert all(figure.rate > 0 and figure.micros > 0 for figure in results.figures.values())


def test_everybody_routes_every_message(tmp_path: Path) -> None:
    """A tiny run on SQLite measures every cell of its plan, fails nowhere, and draws page and pictures."""
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- figures: goals -->\n<!-- end of figures -->\nAfter.\n", encoding="utf-8")

    told = run("--page", page, output=tmp_path)

    results = figures.read(tmp_path / "full.json")
    judge(results)
    extent = Extent(sizes=(200, 400), clients=(1, 2), batches=(1, 10))
    assert set(plan("sqlite", extent)) == set(results.figures)
    assert "SQLite, ours in autocommit, against sqlite3's single statement" in told
    drawn = page.read_text(encoding="utf-8")
    assert drawn.startswith("Before.\n")
    assert drawn.endswith("\nAfter.\n")
    assert report.in_page(drawn, results, report.SECTIONS) == drawn
    assert {"sqlite.svg", "batches.svg", "processor.svg"} == {
        file.name for file in (tmp_path / "page").iterdir()
    }


def test_a_log_is_routed_in_its_order(tmp_path: Path) -> None:
    """Everybody routes the messages of a log, each on tables of its own."""
    run("--log", ROOT / "examples" / "messages.jsonl", output=tmp_path)

    results = figures.read(tmp_path / "log.json")
    judge(results)
    assert set(plan_of_log("sqlite", 200)) == set(results.figures)


@pytest.fixture
def pymysql_as_it_was() -> Iterator[None]:
    """To Django PyMySQL must pass for another driver, and is two from then on: nobody after us may meet the second."""
    before = dict(vars(pymysql))
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] == "MySQLdb"]:
        del sys.modules[name]
    vars(pymysql).update(before)


@pytest.mark.usefixtures("pymysql_as_it_was")
@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_everybody_does_the_same_work(database: str, databases: Databases) -> None:
    """Who routes the same messages leaves the same tickets behind, with the same counts."""
    cells = plan_of_log(database, 1_000)
    url = databases.new(database)
    with engine_of(url) as engine:
        fill(engine, cells[0].stand)
    client = Client(0)
    left, expected = {}, {}
    for number, cell in enumerate(cells):
        client.prepare(cell, url)
        known = FIRST_CONTACT + 10 * number
        contacts = [known, known + 1, number, known, number, known + 2]
        arrived = [Arrival(contact, here) for contact in contacts for here in (CONNECTION, 7)]
        before = counts(url)
        client.drive(cell, arrived if cell.batch is None else [arrived], until=inf)
        left[cell.way] = counts(url) - before
        expected[cell.way] = Counter((str(arrival.contact), str(arrival.connection)) for arrival in arrived)
    client.close()
    databases.drop(url)

    assert expected == left


def counts(url: URL) -> Counter[tuple[str, str]]:
    with engine_of(url) as engine, engine.connect() as connection:
        asked = f"SELECT contact_id, connection_id, unread_messages FROM {TICKETS}"
        return Counter({(contact, here): count for contact, here, count in connection.execute(text(asked))})


@pytest.mark.parametrize(("file", "sections"), report.OF_FILE.items())
def test_the_page_says_what_was_measured(file: str, sections: dict[str, object]) -> None:
    """The tables of the page are those that the committed figures give, and none is left out."""
    text = PAGE.read_text(encoding="utf-8")
    committed = COMMITTED / file
    if not committed.exists():
        pytest.skip(f"there is no {file}: make bench writes it")

    assert report.in_page(text, figures.read(committed), sections) == text  # type: ignore[arg-type]
    assert all(f"<!-- figures: {name} -->" in text for name in sections)
