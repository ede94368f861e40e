"""The load: deliveries, and the worker that works them off until it is killed.

Law of this file: a worker acknowledges a delivery by a line in its own file, after its COMMIT was answered; that
file is all it remembers. It runs a unit of work again where `is_retryable` says so, and else gives up.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.support.faults.work import MAPPING, engine_for
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, is_retryable

CONTACTS, CONNECTIONS = 10, 3
"""Together 30 keys, which every worker writes to."""
PATIENCE = 60.0
"""How long a worker tries one delivery, in seconds: a server needs a while to start again."""


@frozen
class Load:
    """What is delivered.

    Args:
        messages: how many different ones.
        workers: how many processes share the deliveries.
        redelivered: which share of the messages comes twice.
        closed_after: after every so manieth delivery its ticket is closed, so that new ones are needed.
        with_ids: whether the messages have ids; without them nothing can tell a redelivery.
    """

    messages: int
    workers: int = 8
    redelivered: float = 0.1
    closed_after: int = 40
    with_ids: bool = True

    def deliveries(self) -> list[int]:
        """Return the numbers of the messages in the order of their deliveries: always the same one."""
        chance = random.Random(2026)
        places = [(float(number), number) for number in range(self.messages)]
        twice = chance.sample(range(self.messages), round(self.messages * self.redelivered))
        # Near the first one, so that another worker has it in its hands at the same time.
        places += [(number + chance.uniform(0, 2 * self.workers), number) for number in twice]
        return [number for _, number in sorted(places)]

    def of_worker(self, worker: int) -> list[int]:
        """Return a worker's share."""
        return self.deliveries()[worker :: self.workers]

    def message(self, number: int) -> InboundMessage:
        contact, connection = self.key(number)
        return InboundMessage("c1", contact, connection, message_id=f"m{number}" if self.with_ids else None)

    def key(self, number: int) -> tuple[str, str]:
        """Return contact and connection of a message."""
        key = random.Random(number).randrange(CONTACTS * CONNECTIONS)
        return f"contact{key // CONNECTIONS}", f"connection{key % CONNECTIONS}"


@frozen
class Acknowledged:
    """One line of a worker's file: this delivery is done."""

    number: int
    ticket_id: int
    outcome: str
    restarts: int

    @classmethod
    def all_in(cls, path: Path) -> list[Acknowledged]:
        if not path.exists():
            return []
        # A line without its end was never acknowledged.
        whole = (line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [cls(int(n), int(ticket), outcome, int(restarts)) for n, ticket, outcome, restarts in whole]

    def line(self) -> bytes:
        return f"{self.number} {self.ticket_id} {self.outcome} {self.restarts}\n".encode()


def work_off(url: str, load: Load, worker: int, path: str, allowed: Any) -> None:
    """Be a worker: go on after the last acknowledged delivery, until all are, but never beyond the allowed part."""
    # The pool tells of every connection that went with the server: here that is no news.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    engine = engine_for(url, pool_size=1, max_overflow=0)
    share = load.of_worker(worker)
    book = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for place in range(len(Acknowledged.all_in(Path(path))), len(share)):
        number = share[place]
        while place > allowed.value * len(share):
            time.sleep(0.001)
        os.write(book, _until_done(engine, load, number, close=place % load.closed_after == 0).line())
    os.close(book)
    engine.dispose()


def _until_done(engine: Any, load: Load, number: int, *, close: bool) -> Acknowledged:
    for restarts in _attempts():
        try:
            with engine.begin() as connection:
                router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING))
                answer = router.resolve(load.message(number))
                ticket_id = answer.ticket.id
                if close:
                    router.close("c1", ticket_id)
        except Exception as error:
            if not is_retryable(error):
                raise
        else:
            return Acknowledged(number, int(str(ticket_id)), answer.outcome, restarts)
    raise AssertionError(f"message {number} was not to be had done in {PATIENCE} seconds")


def _attempts() -> Iterator[int]:
    deadline, restarts = time.monotonic() + PATIENCE, 0
    while time.monotonic() < deadline:
        yield restarts
        restarts += 1
        time.sleep(random.uniform(0, min(0.01 * 2**restarts, 0.3)))
