"""The core without a database: `resolve` on the in-memory repository, beside the least that Python can do.

Law of this file: it runs in a process of its own, so that its memory is its own; both sides keep as many
tickets, answer the same messages, and ask the clock once for each.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from resource import getpagesize
from typing import Any

from benchmarks.cells import CONNECTION, FIRST_CONTACT
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.memory import InMemoryTicketRepository

STATUS = Path("/proc/self/statm")


class Plain:
    """What a program without a library might keep."""

    __slots__ = ("created_at", "id", "status", "unread_messages", "updated_at")

    def __init__(self, number: int, now: datetime) -> None:
        self.id, self.status, self.unread_messages = number, "pending", 1
        self.created_at = self.updated_at = now


def bare_dict() -> Callable[[InboundMessage], Any]:
    """Look a ticket up in a dict, and change two attributes; make one where there is none."""
    tickets: dict[tuple[Any, Any, Any], Plain] = {}

    def send(message: InboundMessage) -> Plain:
        key = message.company_id, message.contact_id, message.connection_id
        ticket = tickets.get(key)
        now = datetime.now(UTC)
        if ticket is None:
            ticket = tickets[key] = Plain(len(tickets) + 1, now)
            return ticket
        ticket.unread_messages += 1
        ticket.updated_at = now
        return ticket

    return send


def resolve() -> Callable[[InboundMessage], Any]:
    """Route by the in-memory repository."""
    return TicketRouter(InMemoryTicketRepository()).resolve


def _resident() -> int:
    """Return how much memory this process has, in bytes; 0 where the system does not say."""
    if not STATUS.exists():
        return 0
    return int(STATUS.read_text(encoding="ascii").split()[1]) * getpagesize()


def measure(tickets: int, rounds: int, messages: int) -> dict[str, Any]:
    """Fill both, weigh them, and let them answer in turns.

    Args:
        tickets: how many active tickets there are.
        rounds: how many turns each has.
        messages: how many messages a turn has, all for tickets that are there.

    Returns:
        For each: bytes a ticket, and microseconds a message, turn by turn.
    """
    found: dict[str, Any] = {}
    sends = {}
    for name, make in (("bare", bare_dict), ("ours", resolve)):
        gc.collect()
        before = _resident()
        send = sends[name] = make()
        for number in range(tickets):
            send(InboundMessage(1, FIRST_CONTACT + number, CONNECTION))
        gc.collect()
        weight = (_resident() - before) / tickets if before else None
        found[name] = {"bytes": weight, "microseconds": []}
    gc.freeze()
    chance = random.Random(1)
    drawn = [
        InboundMessage(1, FIRST_CONTACT + chance.randrange(tickets), CONNECTION) for _ in range(messages)
    ]
    for _ in range(rounds):
        for name, send in sends.items():
            begun = time.perf_counter()
            for message in drawn:
                send(message)
            found[name]["microseconds"].append((time.perf_counter() - begun) / messages * 1e6)
    return {"tickets": tickets, **found}
