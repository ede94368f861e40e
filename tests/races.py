"""Races: many workers send one message each to the same fresh keys, at the same moment.

Law of this file: it only runs a race and counts; what must come out stands in `test_races.py`. Run by itself it
prints the table that stands in the documentation: `python -m tests.races`.
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

from tests.backends import Databases
from ticketrouter import ContentionError, InboundMessage, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite, is_retryable

WORKERS = 8
KEYS = 40
PATIENCE = 0.1
"""How long a transaction with an old snapshot waits for the others to have theirs, in seconds."""


@frozen
class Cell:
    """One cell of the table: a database, how it isolates, what its schema enforces, when the snapshot began."""

    database: str
    isolation: str
    rule: UniqueRule
    old_snapshot: bool
    advisory: bool = False

    def __str__(self) -> str:
        lock = "-advisory" if self.advisory else ""
        begun = "-old" if self.old_snapshot else "-fresh"
        return f"{self.database}-{self.isolation}-{self.rule}{lock}{begun}".lower().replace(" ", "_")


@frozen
class Outcome:
    """What a race left: tickets and unread counts per key, restarts of whole transactions, and the time."""

    tickets: Counter[int]
    unread: Counter[int]
    restarts: int
    seconds: float


CELLS = (
    Cell("postgresql", "READ COMMITTED", UniqueRule.NONE, old_snapshot=False, advisory=True),
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
def racetrack(databases: Databases, cell: Cell) -> Iterator[tuple[Engine, TicketMapping]]:
    """Make a database whose schema enforces what the cell says, and an engine that isolates as it says."""
    url = databases.new(cell.database)
    mapping = TicketMapping.own()
    options = {} if cell.database == "sqlite" else {"isolation_level": cell.isolation}
    engine = create_engine(url, pool_size=WORKERS, **options)
    if cell.database == "sqlite":
        configure_sqlite(engine, busy_timeout=60)
    mapping.metadata.create_all(engine)
    with engine.begin() as connection:
        set_rule(connection, mapping, cell.rule)
        if cell.advisory:
            mapping.anchors.drop(connection)
    try:
        yield engine, mapping
    finally:
        engine.dispose()
        databases.drop(url)


def set_rule(connection: Connection, mapping: TicketMapping, rule: UniqueRule) -> None:
    """Replace the unique rule of our own tickets table by another one."""
    if rule is UniqueRule.ACTIVE_PER_CONNECTION:
        return
    table = mapping.table.name
    on = f" ON {table}" if connection.dialect.name == "mariadb" else ""
    connection.execute(text(f"DROP INDEX uq_{table}_active{on}"))
    columns = {
        UniqueRule.ONE_PER_CONNECTION: "company_id, contact_id, connection_id",
        UniqueRule.ONE_PER_CONTACT: "company_id, contact_id",
    }.get(rule)
    if columns is not None:
        connection.execute(text(f"CREATE UNIQUE INDEX uq_{table}_other ON {table} ({columns})"))


def race(databases: Databases, cell: Cell, keys: int = KEYS) -> Outcome:
    """Run one race; whatever but ContentionError a worker meets comes out."""
    with racetrack(databases, cell) as (engine, mapping):
        start, arrived = threading.Barrier(WORKERS), Counter[int]()
        restarts: Counter[str] = Counter()

        def send(contact: int, *, first_try: bool) -> None:
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
                TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message)

        def work() -> None:
            for contact in range(keys):
                first_try = True
                while True:
                    try:
                        send(contact, first_try=first_try)
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
            rule = f"{cell.rule}, advisory lock" if cell.advisory else str(cell.rule)
            print(
                f"| {cell.database} | {cell.isolation} | {rule} | {'old' if cell.old_snapshot else 'fresh'} "
                f"| {sum(n == 1 for n in found.tickets.values())} of {KEYS} "
                f"| {sum(n == WORKERS for n in found.unread.values())} of {KEYS} "
                f"| {found.restarts} | {found.seconds:.2f} |",
                flush=True,
            )
        databases.close()


if __name__ == "__main__":
    main()
