"""A log of real messages, in the order in which they arrived.

Law of this file: one JSON object a line, as `ticketrouter route` reads it. Only what contacts say is kept, because
what people write by hand knows no other kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.cells import Arrival
from ticketrouter import MessageKind
from ticketrouter.cli.items import Message
from ticketrouter.cli.jsonl import parse


def read(log: Path, limit: int) -> list[Arrival]:
    """Read the first messages of a log.

    Args:
        log: the file.
        limit: how many messages at most.

    Returns:
        What arrived, in order.
    """
    found = []
    for arrival in _read(log):
        found.append(arrival)
        if len(found) >= limit:
            break
    return found


def _read(log: Path) -> Iterator[Arrival]:
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            for item in parse(line):
                if isinstance(item, Message) and item.message.kind is MessageKind.MESSAGE:
                    key = item.message.key
                    yield Arrival(key.contact_id, key.connection_id, None, key.company_id)
