"""Races: many workers send one message each to the same fresh keys, at the same moment.

Law of this file: it only runs a race and counts; what must come out stands in `test_races.py`. Run by itself it
prints the table that stands in the documentation: `python -m tests.support.races`.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DBAPIError

from tests.support.backends import Databases
from tests.support.words import WORDS
from ticketrouter import (
    Change,
    ContentionError,
    InboundMessage,
    StatusScheme,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite, is_retryable

WORKERS = 8
KEYS = 40
PATIENCE = 0.1
"""How long a transaction with an old snapshot waits for the others to have theirs, in seconds."""


@frozen
class Cell:
    """One cell of the table: a database, how it isolates, what its schema enforces, when the snapshot began.

    `late`: on MariaDB the rule's index is younger than the others, so that a new row comes into those before.
    """

    database: str
    isolation: str
    rule: UniqueRule
    old_snapshot: bool
    late: bool = False

    def __str__(self) -> str:
        begun = "-old" if self.old_snapshot else "-fresh"
        return f"{self.database}-{self.isolation}-{self.rule}{begun}".lower().replace(" ", "_")


@frozen
class Outcome:
    """What a race left: tickets and unread counts per key, restarts of whole transactions, and the time.

    `woken` is how many messages of each key have told that they woke its ticket.
    """

    tickets: Counter[int]
    unread: Counter[int]
    restarts: int
    seconds: float
    woken: Counter[int]


CELLS = (
    *(
        Cell(database, isolation, rule, old)
        for database, isolations in {
            "postgresql": ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
            "mariadb": ("READ COMMITTED", "REPEATABLE READ"),
            "sqlite": ("SERIALIZABLE",),
        }.items()
        for isolation in isolations
        for rule in (UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION, UniqueRule.NONE)
        for old in (False, True)
        # A transaction of SQLite that writes begins with the write lock: there is no older snapshot in it.
        if not (database == "sqlite" and old)
    ),
)


@contextmanager
def racetrack(
    databases: Databases,
    cell: Cell,
    statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
) -> Iterator[tuple[Engine, TicketMapping]]:
    """Make a database whose schema enforces what the cell says, and an engine that isolates as it says."""
    url = databases.new(cell.database)
    mapping = TicketMapping.own(statuses=statuses)
    options = {} if cell.database == "sqlite" else {"isolation_level": cell.isolation}
    engine = create_engine(url, pool_size=WORKERS, **options)
    if cell.database == "sqlite":
        configure_sqlite(engine, busy_timeout=60)
    mapping.metadata.create_all(engine)
    with engine.begin() as connection:
        set_rule(connection, mapping, cell.rule, late=cell.late)
    try:
        yield engine, mapping
    finally:
        engine.dispose()
        databases.drop(url)


def set_rule(connection: Connection, mapping: TicketMapping, rule: UniqueRule, *, late: bool = False) -> None:
    """Replace the unique rule of our own tickets table by another one, or on MariaDB by its like."""
    if rule is UniqueRule.ACTIVE_PER_CONNECTION and not late:
        return
    table = mapping.table.name
    on = f" ON {table}" if connection.dialect.name == "mariadb" else ""
    connection.execute(text(f"DROP INDEX uq_{table}_active{on}"))
    columns = {
        UniqueRule.ACTIVE_PER_CONNECTION: "company_id, contact_id, active, connection_id",
        UniqueRule.ONE_PER_CONNECTION: "company_id, contact_id, connection_id",
        UniqueRule.ONE_PER_CONTACT: "company_id, contact_id",
    }.get(rule)
    if columns is not None:
        connection.execute(text(f"CREATE UNIQUE INDEX uq_{table}_other ON {table} ({columns})"))


def fall_asleep(engine: Engine, mapping: TicketMapping, keys: int) -> None:
    """Give each key a ticket that its next message wakes, with nothing unread."""
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        for contact in range(keys):
            router.open(TicketKey(1, contact, 10))
        connection.execute(mapping.table.update().values(status=min(mapping.statuses.wakes)))


def race(databases: Databases, cell: Cell, keys: int = KEYS, *, asleep: bool = False) -> Outcome:
    """Run one race; whatever but ContentionError a worker meets comes out.

    Args:
        databases: where.
        cell: how.
        keys: for how many keys, one after another.
        asleep: whether each key has a ticket already, which the first message wakes.
    """
    with racetrack(databases, cell, WORDS if asleep else StatusScheme()) as (engine, mapping):
        start, arrived = threading.Barrier(WORKERS), Counter[int]()
        restarts: Counter[str] = Counter()
        woken: Counter[int] = Counter()
        if asleep:
            fall_asleep(engine, mapping, keys)

        def send(contact: int, *, first_try: bool) -> Change | None:
            message = InboundMessage(1, contact, 10)
            if first_try:
                start.wait()
            with engine.begin() as connection:
                if cell.old_snapshot:
                    connection.execute(select(mapping.table.c.id).limit(1)).all()
                    arrived[contact] += 1
                    patience = time.monotonic() + PATIENCE
                    # Not a barrier: an idle transaction can keep another one from ever getting through.
                    while arrived[contact] < WORKERS and time.monotonic() < patience:
                        time.sleep(0)
                return TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message).change

        def work() -> None:
            for contact in range(keys):
                first_try = True
                while True:
                    try:
                        change = send(contact, first_try=first_try)
                        if change is not None and change.old_status in mapping.statuses.wakes:
                            woken[contact] += 1
                        break
                    except (ContentionError, DBAPIError) as error:
                        # SERIALIZABLE may also fail at the host's own COMMIT.
                        if not is_retryable(error):
                            start.abort()
                            raise
                        first_try = False
                        restarts[type(error).__name__] += 1

        with engine.begin() as connection:
            SQLAlchemyTicketRepository(connection, mapping).get(1, 1)  # found out once, before the start
        begun = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            for done in [pool.submit(work) for _ in range(WORKERS)]:
                done.result()
        seconds = time.perf_counter() - begun
        columns = mapping.table.c
        with engine.begin() as connection:
            rows = connection.execute(select(columns.contact_id, columns.unread_messages)).all()
        return Outcome(
            tickets=Counter(contact for contact, _ in rows),
            unread=Counter(dict(rows)),
            restarts=restarts.total(),
            seconds=seconds,
            woken=woken,
        )


def main() -> None:
    """Print the table."""
    cells = [cell for cell in CELLS if len(sys.argv) < 2 or sys.argv[1] in str(cell)]
    print(
        "| database | isolation | unique rule | transaction | keys with one ticket | unread 8 | restarts | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        databases = Databases(Path(place))
        for cell in cells:
            found = race(databases, cell)
            print(
                f"| {cell.database} | {cell.isolation} | {cell.rule} | {'old' if cell.old_snapshot else 'fresh'} "
                f"| {sum(n == 1 for n in found.tickets.values())} of {KEYS} "
                f"| {sum(n == WORKERS for n in found.unread.values())} of {KEYS} "
                f"| {found.restarts} | {found.seconds:.2f} |",
                flush=True,
            )
        databases.close()


if __name__ == "__main__":
    main()
