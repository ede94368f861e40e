"""What one message costs: processor time, log bytes, rows and disk, on PostgreSQL and MariaDB.

Run by itself it prints the table that stands in docs/scaling.md: `python -m benchmarks.cost`; a number of messages
may follow. It counts what the processes have used, so that a machine that is busy besides matters little.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import uuid4

from attrs import frozen
from sqlalchemy import URL, Connection, Engine, create_engine, text

from tests.support import servers
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping

TICKETS = 100_000
MESSAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
REUSED = 0.95
TICK = os.sysconf("SC_CLK_TCK")


@frozen
class Cost:
    """What was used, for each message."""

    client: float
    server: float
    log: float
    ticket: float
    message_id: float


def messages(*, with_ids: bool) -> Iterator[InboundMessage]:
    """Send most to contacts that have an active ticket, the rest to new ones."""
    random = Random(7)
    for number in range(MESSAGES):
        known = random.random() < REUSED
        contact = random.randrange(TICKETS) if known else TICKETS + number
        yield InboundMessage(
            1, f"55119{contact:08}", 10, message_id=f"wamid.{uuid4().hex}" if with_ids else None
        )


def fill(engine: Engine, mapping: TicketMapping) -> None:
    """Insert the active tickets that the messages find."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        mapping.metadata.drop_all(connection)
        mapping.metadata.create_all(connection)
        for start in range(0, TICKETS, 5000):
            rows = [
                {
                    "company_id": 1,
                    "contact_id": f"55119{contact:08}",
                    "connection_id": 10,
                    "status": "open",
                    "is_group": False,
                    "unread_messages": 0,
                    "created_at": now,
                    "updated_at": now,
                }
                for contact in range(start, start + 5000)
            ]
            connection.execute(mapping.table.insert(), rows)


def processor_time(root: int) -> float:
    """Add up what a process and its children, dead ones included, have used."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(place.name) == root:
            total += sum(int(fields[n]) for n in (11, 12, 13, 14))
        elif int(fields[1]) == root:
            total += sum(int(fields[n]) for n in (11, 12))
    return total / TICK


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class PostgreSQL:
    name = "PostgreSQL"
    start: Callable[..., AbstractContextManager[URL]] = staticmethod(servers.postgresql)

    def root(self, connection: Connection) -> int:
        return parent_of(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    def settle(self, connection: Connection) -> None:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))

    def log_bytes(self, connection: Connection) -> float:
        return float(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())

    def size(self, connection: Connection, table: str) -> float:
        asked = text("SELECT pg_total_relation_size(CAST(:table AS regclass))")
        return float(connection.execute(asked, {"table": table}).scalar_one())


class MariaDB:
    name = "MariaDB"
    start: Callable[..., AbstractContextManager[URL]] = staticmethod(servers.mariadb)

    def root(self, connection: Connection) -> int:
        place = connection.execute(text("SELECT @@pid_file")).scalar_one()
        return int(Path(place).read_text())

    def settle(self, connection: Connection) -> None:
        connection.execute(text("ANALYZE TABLE ticketrouter_tickets")).all()

    def log_bytes(self, connection: Connection) -> float:
        return float(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'")).one()[1])

    def size(self, connection: Connection, table: str) -> float:
        connection.execute(text(f"ANALYZE TABLE {table}")).all()
        asked = text(
            "SELECT data_length + index_length FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = :table"
        )
        return float(connection.execute(asked, {"table": table}).scalar_one())


Server = PostgreSQL | MariaDB


def measure(server: Server, engine: Engine, *, with_ids: bool) -> Cost:
    """Route the messages, one transaction each, and count."""
    mapping = TicketMapping.own()
    fill(engine, mapping)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
        root = server.root(watcher)
        server.settle(watcher)
        tickets = server.size(watcher, mapping.table.name) / TICKETS
        with engine.begin() as connection:
            SQLAlchemyTicketRepository(connection, mapping).get(1, 1)
        log, used, own = server.log_bytes(watcher), processor_time(root), time.process_time()
        for message in messages(with_ids=with_ids):
            with engine.begin() as connection:
                TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(message)
        own, used = time.process_time() - own, processor_time(root) - used
        log = server.log_bytes(watcher) - log
        digests = server.size(watcher, mapping.message_ids.name) if with_ids else 0
    return Cost(own / MESSAGES, used / MESSAGES, log / MESSAGES, tickets, digests / MESSAGES)


def main() -> None:
    """Print the table."""
    sys.stdout.write(
        "| | message ids | client CPU, µs | server CPU, µs | log bytes | bytes a ticket | bytes a message id |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for server in (PostgreSQL(), MariaDB()):
        with server.start(durable=True) as url:
            engine = create_engine(url)
            if isinstance(server, MariaDB):
                with engine.begin() as connection:
                    connection.execute(text("CREATE DATABASE cost"))
                engine.dispose()
                engine = create_engine(url.set(database="cost"))
            for with_ids in (False, True):
                cost = measure(server, engine, with_ids=with_ids)
                sys.stdout.write(
                    f"| {server.name} | {'with' if with_ids else 'without'} | {cost.client * 1e6:.0f} "
                    f"| {cost.server * 1e6:.0f} | {cost.log:.0f} | {cost.ticket:.0f} "
                    f"| {f'{cost.message_id:.0f}' if with_ids else '-'} |\n"
                )
                sys.stdout.flush()
            engine.dispose()


if __name__ == "__main__":
    main()
