"""The recipe of the page on identity, taken from the page and run as a race.

Law of this file: the code is the page's own; only the database, and the moment at which everybody starts, are ours.
TICKETROUTER_IDENTITY_ROUNDS says how many rounds a race has.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, select
from sqlalchemy.exc import IntegrityError

from tests.support.backends import Databases
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite, is_retryable

PAGE = Path(__file__).parents[2] / "docs/explanation/identity.md"
ROUNDS = int(os.environ.get("TICKETROUTER_IDENTITY_ROUNDS", "12"))
RESTARTS = 60
SCENES: dict[str, tuple[list[list[str]], bool, list[list[str]]]] = {
    # Who is known before, whether they have tickets, and the names of each message that comes at the same moment.
    "a merge against messages": ([["tel"], ["id"]], False, [["tel", "id"], ["id"], ["tel"], ["id"]]),
    "all for the first time": ([], False, [["tel", "id"], ["id"], ["tel"], ["tel", "id"]]),
    "merges that cross": (
        [["tel"], ["id"], ["lid"]],
        True,
        [["tel", "id"], ["lid", "id"], ["lid", "tel"], ["lid"]],
    ),
}
CELLS = (
    ("locked", "sqlite", "SERIALIZABLE"),
    ("locked", "postgresql", "READ COMMITTED"),
    ("locked", "mariadb", "READ COMMITTED"),
    ("locked", "mariadb", "REPEATABLE READ"),
    ("written", "postgresql", "READ COMMITTED"),
    ("written", "postgresql", "REPEATABLE READ"),
    ("written", "postgresql", "SERIALIZABLE"),
    ("written", "mariadb", "REPEATABLE READ"),
)


def recipe(kind: str) -> dict[str, Any]:
    """Run the blocks of the page that define the recipe: with the lock, or with the write in its place."""
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"))
    defining = [block for block in blocks if "\ndef lock(" in f"\n{block}"]
    assert len(defining) == 2
    namespace: dict[str, Any] = {}
    for block in defining if kind == "written" else defining[:1]:
        exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


class Track:
    """A database with the page's tables and ours."""

    def __init__(self, engine: Engine, page: dict[str, Any]) -> None:
        self.engine, self.page, self.mapping = engine, page, TicketMapping.own()
        self.restarts = 0
        for metadata in (page["metadata"], self.mapping.metadata):
            metadata.create_all(engine)

    def receive(self, company: int, names: list[str], start: Callable[[], object]) -> None:
        """Do what the page's host does: begin, ask for the contact, ask the router, commit; and again where it says so."""
        for _ in range(RESTARTS):
            try:
                with self.engine.begin() as connection:
                    # The snapshot of a host that has looked at something else first.
                    connection.execute(select(func.count()).select_from(self.page["aliases"])).all()
                    start()
                    router = TicketRouter(SQLAlchemyTicketRepository(connection, self.mapping))
                    contact = self.page["contact_of"](connection, router, company, names)
                    router.resolve(InboundMessage(company, contact, 10))
            except (self.page["Again"], IntegrityError):
                pass
            except Exception as error:
                if not is_retryable(error):
                    raise
            else:
                return
            start = _at_once
            self.restarts += 1
        raise AssertionError(f"{RESTARTS} restarts were not enough")

    def active(self, company: int) -> list[str]:
        """List the contacts of the active tickets."""
        table = self.mapping.table
        mine = (table.c.company_id == company) & table.c.status.in_(sorted(self.mapping.statuses.active))
        with self.engine.connect() as connection:
            return [str(each) for each in connection.scalars(select(table.c.contact_id).where(mine))]

    def known(self, company: int) -> set[str]:
        """Tell which contacts the names lead to."""
        aliases = self.page["aliases"]
        with self.engine.connect() as connection:
            return {
                str(each)
                for each in connection.scalars(
                    select(aliases.c.contact_id).where(aliases.c.company_id == company)
                )
            }


def _at_once() -> None:
    """Begin again without waiting for anybody."""


@contextmanager
def track(databases: Databases, kind: str, database: str, isolation: str) -> Iterator[Track]:
    url = databases.new(database)
    options = {} if database == "sqlite" else {"isolation_level": isolation}
    engine = create_engine(url, pool_size=5, **options)
    if database == "sqlite":
        configure_sqlite(engine, busy_timeout=60)
    try:
        yield Track(engine, recipe(kind))
    finally:
        engine.dispose()
        databases.drop(url)


def race(track: Track, scene: str, rounds: int, *, together: bool = True) -> tuple[int, int]:
    """Run the rounds of a scene.

    Returns:
        In how many of them one person ended with two active tickets, or with one that no name leads to.
    """
    before, with_tickets, messages = SCENES[scene]
    two = lost = 0
    for company in range(1, rounds + 1):
        for names in before:
            if with_tickets:
                track.receive(company, names, _at_once)
            else:
                with track.engine.begin() as connection:
                    known(connection, track, company, names)
        barrier = threading.Barrier(len(messages)) if together else None
        start = barrier.wait if barrier is not None else _at_once
        with ThreadPoolExecutor(len(messages)) as pool:
            for done in [pool.submit(track.receive, company, names, start) for names in messages]:
                done.result()
        active = track.active(company)
        two += len(active) > 1
        lost += not set(active) <= track.known(company)
    return two, lost


def known(connection: Connection, track: Track, company: int, names: list[str]) -> None:
    """Make a contact without a ticket."""
    router = TicketRouter(SQLAlchemyTicketRepository(connection, track.mapping))
    track.page["contact_of"](connection, router, company, names)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(
    ("kind", "database", "isolation"), CELLS, ids=["-".join(cell).replace(" ", "_") for cell in CELLS]
)
def test_the_recipe_of_the_page_leaves_one_person_one_ticket(
    databases: Databases, kind: str, database: str, isolation: str, scene: str
) -> None:
    """Whoever comes first: one active ticket, under the contact that the names lead to."""
    with track(databases, kind, database, isolation) as running:
        # A transaction of SQLite begins with the write lock: nobody can be met in the middle of one.
        found = race(running, scene, ROUNDS, together=database != "sqlite")

    assert found == (0, 0)
