"""Nothing is lost, nothing doubled, no key has two active tickets, whoever is killed on the way."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import URL

from tests.support import servers
from tests.support.soak.books import Books, Row, audit
from tests.support.soak.load import Acknowledged, Load
from tests.support.soak.run import HEAD, RUNS, Run, durable, soak


# PyMySQL leaves a socket open where it finds no server behind it, as while one is killed and comes back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.soak
@pytest.mark.parametrize("database", RUNS)
def test_workers_and_servers_killed_under_load(database: str) -> None:
    """Eight workers on thirty keys: the acknowledgements and the tables add up to each message once."""
    load, kill_workers, kill_servers = RUNS[database]
    run = _soaked(database, load, kill_workers, kill_servers)
    gc.collect()

    assert run.verdict.is_clean, run.verdict
    assert kill_workers == run.workers_killed
    assert kill_servers == run.servers_killed
    # Each message that came twice was a duplicate once, and so may be whom a killed worker had in its hands.
    assert run.outcomes["duplicate"] >= round(load.messages * load.redelivered)


def _soaked(database: str, load: Load, kill_workers: int, kill_servers: int) -> Run:
    try:
        with durable(database) as url:
            run = soak(url, load, kill_workers=kill_workers, kill_servers=kill_servers)
    except servers.UnavailableError as reason:
        if database in os.environ.get("TICKETROUTER_REQUIRE_DBS", "").split(","):
            pytest.fail(f"{database} is required and cannot be had: {reason}")
        pytest.skip(f"{database} cannot be had: {reason}")
    print(f"\n{HEAD}\n{run.row()}")
    return run


# --- the books can fail --------------------------------------------------------------------------------------


def test_a_small_soak(tmp_path: Path) -> None:
    """The same on a file of SQLite, with a few hundred messages."""
    url = URL.create("sqlite+pysqlite", database=str(tmp_path / "small.sqlite3"))
    run = soak(url, Load(240, workers=4), kill_workers=4)

    assert run.verdict.is_clean, run.verdict
    assert 4 == run.workers_killed


def test_without_message_ids_the_books_do_not_add_up(tmp_path: Path) -> None:
    """What the ids are for: without them every redelivery is counted again, and the audit says so."""
    url = URL.create("sqlite+pysqlite", database=str(tmp_path / "small.sqlite3"))
    run = soak(url, Load(120, workers=4, with_ids=False), kill_workers=2)

    assert run.verdict.doubled
    assert not run.verdict.twice_active


LOAD = Load(60, workers=2)


def _honest_books() -> tuple[list[Acknowledged], Books]:
    """Return what a run leaves in which nothing happened: one ticket per key."""
    keys = sorted({LOAD.key(number) for number in range(LOAD.messages)})
    numbers = {key: n + 1 for n, key in enumerate(keys)}
    due = Counter(LOAD.key(number) for number in range(LOAD.messages))
    tickets = {numbers[key]: Row(numbers[key], key, True, due[key]) for key in keys}
    lines = [Acknowledged(n, numbers[LOAD.key(n)], "reused", 0) for n in LOAD.deliveries()]
    return lines, Books(tickets, Counter({numbers[key]: due[key] for key in keys}))


def test_honest_books_are_clean() -> None:
    """Nothing is found where there is nothing to find."""
    assert audit(LOAD, *_honest_books()).is_clean


def test_each_way_to_lose_is_found() -> None:
    """An acknowledged message without its ticket, a delivery that nobody answered, a count that is short."""
    lines, books = _honest_books()
    first = lines[0].ticket_id
    without = {number: row for number, row in books.tickets.items() if number != first}
    short = books.tickets | {first: evolve(books.tickets[first], unread=0)}

    assert audit(LOAD, lines, evolve(books, tickets=without)).lost
    assert audit(LOAD, lines[1:], books).lost
    assert audit(LOAD, lines, evolve(books, tickets=short)).lost
    assert audit(LOAD, lines, evolve(books, recorded=Counter())).lost


def test_each_way_to_double_is_found() -> None:
    """A message in two tickets, a count that is too high, a key with two active tickets."""
    lines, books = _honest_books()
    row = books.tickets[lines[0].ticket_id]
    two = books.tickets | {99: evolve(row, id=99, unread=0)}
    twice = next(number for number, times in Counter(LOAD.deliveries()).items() if times > 1)
    place = next(n for n, line in enumerate(lines) if line.number == twice)
    astray = [*lines[:place], evolve(lines[place], ticket_id=99), *lines[place + 1 :]]
    more = books.tickets | {row.id: evolve(row, unread=row.unread + 1)}

    assert audit(LOAD, astray, evolve(books, tickets=two)).doubled
    assert audit(LOAD, lines, evolve(books, tickets=more)).doubled
    assert audit(LOAD, lines, evolve(books, tickets=two)).twice_active
