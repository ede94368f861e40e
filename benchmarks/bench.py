"""Messages a second: ours, and the bare statement beside it, in the same run and interleaved.

Law of this file: nothing is asserted here; a figure is a median over rounds with its spread, and ratios stand
first. Servers are started as the tests start them; a database that cannot be had is left out, and said so.

Run `make bench`, or `python benchmarks/bench.py --messages 2000 --rounds 5 --json bench.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1]))  # the harness of the tests

from tests import servers
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite

REUSE = 0.8
"""Which share of the messages finds an active ticket."""
ESTABLISHED = 20_000
"""How many active tickets there are before the first message."""

Send = Callable[[InboundMessage], object]


def stream(messages: int, seed: int) -> list[InboundMessage]:
    """Make messages, of which the share REUSE is from contacts that have a ticket; a seed makes them again."""
    chance = random.Random(seed)
    new = ESTABLISHED * (seed + 2)
    made = []
    for number in range(messages):
        old = chance.random() < REUSE
        made.append(InboundMessage(1, chance.randrange(ESTABLISHED) if old else new + number, 10))
    return made


def ours(engine: Engine, mapping: TicketMapping) -> Send:
    def send(message: InboundMessage) -> object:
        with engine.begin() as connection:
            return TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message)

    return send


def bare(engine: Engine, mapping: TicketMapping) -> Send:
    """The upsert that one would write by hand for this one rule, through SQLAlchemy's Core."""
    table = mapping.table.name
    columns = (
        "company_id, contact_id, connection_id, status, is_group, unread_messages, created_at, updated_at"
    )
    conflict = (
        "ON DUPLICATE KEY UPDATE unread_messages = unread_messages + 1, updated_at = VALUES(updated_at)"
        if engine.dialect.name == "mariadb"
        else "ON CONFLICT (company_id, contact_id, connection_id) WHERE status IN ('open', 'pending') DO UPDATE "
        f"SET unread_messages = {table}.unread_messages + 1, updated_at = excluded.updated_at"
    )
    statement = text(
        f"INSERT INTO {table} ({columns}) VALUES (:company, :contact, :connection, 'pending', :no, 1, :now, :now) "
        f"{conflict} RETURNING id, status"
    )

    def send(message: InboundMessage) -> object:
        values = {"company": "1", "contact": str(message.contact_id), "connection": "10", "no": False}
        now = datetime.now(UTC).replace(tzinfo=UTC if engine.dialect.name == "postgresql" else None)
        with engine.begin() as connection:
            return connection.execute(statement, values | {"now": now if now.tzinfo else str(now)}).one()

    return send


def in_memory() -> Send:
    repository = InMemoryTicketRepository()
    router = TicketRouter(repository)
    for contact in range(ESTABLISHED):
        router.resolve(InboundMessage(1, contact, 10))
    return router.resolve


def a_dict() -> Send:
    """The least that Python can do: a look-up and a change of one attribute."""
    counts = {(1, contact, 10): [1] for contact in range(ESTABLISHED)}

    def send(message: InboundMessage) -> object:
        counts.setdefault((message.company_id, message.contact_id, message.connection_id), [0])[0] += 1
        return None

    return send


def establish(engine: Engine, mapping: TicketMapping) -> None:
    """Write the tickets that are there before the first message."""
    mapping.metadata.create_all(engine)
    now = datetime.now(UTC)
    row = {
        "company_id": 1,
        "connection_id": 10,
        "status": "open",
        "is_group": False,
        "unread_messages": 0,
        "created_at": now,
        "updated_at": now,
    }
    with engine.begin() as connection:
        connection.execute(mapping.table.insert(), [row | {"contact_id": n} for n in range(ESTABLISHED)])


@contextmanager
def database(name: str, open_: ExitStack, place: Path) -> Iterator[Engine]:
    """Start a database with its usual durability."""
    if name == "sqlite":
        engine = create_engine(f"sqlite:///{place / 'bench.sqlite3'}")
        configure_sqlite(engine)
    else:
        start = {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[name]
        url = open_.enter_context(start(durable=True))
        if name == "mariadb":
            admin = create_engine(url, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text("CREATE DATABASE bench"))
            admin.dispose()
            url = url.set(database="bench")
        engine = create_engine(url)
    yield engine
    engine.dispose()


def measure(sends: dict[str, Send], messages: int, rounds: int) -> dict[str, list[float]]:
    """Let each way send its messages in turn, round by round, and return messages a second."""
    found: dict[str, list[float]] = {name: [] for name in sends}
    for number in range(rounds):
        for way, (name, send) in enumerate(sends.items()):
            sent = stream(messages, seed=number * len(sends) + way)
            begun = time.perf_counter()
            for message in sent:
                send(message)
            found[name].append(messages / (time.perf_counter() - begun))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000, help="messages in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    console, results = Console(), {}
    with ExitStack() as open_, tempfile.TemporaryDirectory() as place:
        results["memory"] = measure(
            {"ours": in_memory(), "bare": a_dict()}, given.messages * 10, given.rounds
        )
        for name in ("sqlite", "postgresql", "mariadb"):
            try:
                engine = open_.enter_context(database(name, open_, Path(place)))
            except servers.UnavailableError as reason:
                console.print(f"left out: {name}: {reason}")
                continue
            mapping = TicketMapping.own()
            establish(engine, mapping)
            ways = {"ours": ours(engine, mapping), "bare": bare(engine, mapping)}
            results[name] = measure(ways, given.messages, given.rounds)
    table = Table("", "ours / bare", "ours, messages a second", "bare", title="medians (lowest to highest)")
    for name, found in results.items():
        medians = {way: statistics.median(rates) for way, rates in found.items()}
        cells = [
            f"{medians[way]:,.0f} ({min(found[way]):,.0f} to {max(found[way]):,.0f})"
            for way in ("ours", "bare")
        ]
        table.add_row(name, f"{medians['ours'] / medians['bare']:.2f}", *cells)
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
