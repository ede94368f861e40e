"""The core alone: `resolve` in memory beside a bare dict, and the memory that an active ticket takes.

Law of this file: CPU time of this process, rounds interleaved, medians; nothing is asserted. The messages are made
beforehand; every one of them joins an active ticket.

Run `python benchmarks/core.py --tickets 1000000`.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

from ticketrouter import InboundMessage, TicketKey, TicketRouter
from ticketrouter.decisions import Create
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.model import Reason


class Counted:
    """The least that stands for a ticket: a count and a time."""

    __slots__ = ("at", "unread")

    def __init__(self) -> None:
        self.unread, self.at = 0, datetime.now(UTC)


def bare(tickets: int) -> Callable[[InboundMessage], object]:
    known = {(1, contact, 10): Counted() for contact in range(tickets)}

    def send(message: InboundMessage) -> object:
        found = known[message.company_id, message.contact_id, message.connection_id]
        found.unread += 1
        found.at = datetime.now(UTC)
        return found

    return send


def filled(tickets: int) -> InMemoryTicketRepository:
    repository = InMemoryTicketRepository()
    for contact in range(tickets):
        # A time and ids of its own for each, as messages bring them.
        key = TicketKey(1, contact, 10)
        repository.commit(Create(key, datetime.now(UTC), Reason.NO_ACTIVE_TICKET, unread_messages=1))
    return repository


def microseconds(send: Callable[[InboundMessage], object], messages: list[InboundMessage]) -> float:
    begun = time.process_time()
    for message in messages:
        send(message)
    return (time.process_time() - begun) / len(messages) * 1e6


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--no-trace", action="store_true", help="leave out the second filling, under tracemalloc"
    )
    given = parser.parse_args()
    before = resident()
    repository = filled(given.tickets)
    gc.collect()
    print(f"memory by RSS: {(resident() - before) / given.tickets:.0f} bytes a ticket")
    gc.freeze()
    chance = random.Random(1)
    messages = [InboundMessage(1, chance.randrange(given.tickets), 10) for _ in range(given.messages)]
    ways = {"resolve": TicketRouter(repository).resolve, "bare": bare(given.tickets)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, send in ways.items():
            found[name].append(microseconds(send, messages))
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    for name, rates in found.items():
        print(f"{name}: {medians[name]:.2f} us a message ({min(rates):.2f} to {max(rates):.2f})")
    print(f"bare / resolve: {medians['bare'] / medians['resolve']:.3f}")
    if not given.no_trace:
        del repository, ways
        tracemalloc.start()
        traced = filled(given.tickets // 10)
        size, _ = tracemalloc.get_traced_memory()
        print(
            f"memory by tracemalloc: {size / len(traced.tickets):.0f} bytes a ticket, ids and times included"
        )


if __name__ == "__main__":
    main()
