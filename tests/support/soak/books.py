"""The books: what was acknowledged against what is in the tables.

Law of this file: it only reads and counts. It is told nothing by the workers but their lines, and asks the tables
with statements of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from attrs import field, frozen
from sqlalchemy import Engine, select

from tests.support.faults.work import MAPPING
from tests.support.soak.load import Acknowledged, Load


@frozen
class Row:
    """A ticket in the table."""

    id: int
    key: tuple[str, str]
    is_active: bool
    unread: int


@frozen
class Books:
    """What is found in the end."""

    tickets: dict[int, Row]
    recorded: Counter[int]
    """How many message ids lead to each ticket."""

    @classmethod
    def of(cls, engine: Engine) -> Books:
        columns, ids = MAPPING.columns, MAPPING.message_ids.c
        names = ("id", "contact_id", "connection_id", "status", "unread_messages")
        with engine.begin() as connection:
            rows = connection.execute(select(*(columns[name] for name in names))).all()
            recorded = connection.execute(select(ids.ticket_id)).scalars().all()
        tickets = {
            row[0]: Row(row[0], (row[1], row[2]), row[3] in {"open", "pending"}, row[4]) for row in rows
        }
        return cls(tickets, Counter(map(int, recorded)))


@frozen
class Verdict:
    """What does not add up."""

    lost: list[str] = field(factory=list)
    doubled: list[str] = field(factory=list)
    twice_active: list[str] = field(factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.twice_active)


def audit(load: Load, acknowledged: Iterable[Acknowledged], books: Books) -> Verdict:
    """Hold the acknowledgements against the tables.

    Lost is a delivery that nobody acknowledged, an acknowledged message whose ticket is not there or is another
    key's, and a message that a key's counts lack. Doubled is a message that led to two tickets, or that a key has
    counted once too often. Nobody sets a count back here, so the counts of a key's tickets add up to its messages.
    """
    verdict = Verdict()
    tickets_of: dict[int, list[int]] = defaultdict(list)
    for line in acknowledged:
        tickets_of[line.number].append(line.ticket_id)
    for number, times in Counter(load.deliveries()).items():
        found = tickets_of[number]
        if len(found) != times:
            verdict.lost.append(f"message {number}: {times} deliveries, {len(found)} acknowledged")
        if len(set(found)) > 1:
            verdict.doubled.append(f"message {number} is in the tickets {found}")
        for ticket_id in set(found):
            row = books.tickets.get(ticket_id)
            if row is None or row.key != load.key(number):
                verdict.lost.append(f"message {number}: its ticket {ticket_id} is {row}")
    _audit_counts(load, books, verdict)
    active = Counter(row.key for row in books.tickets.values() if row.is_active)
    verdict.twice_active.extend(f"{key}: {count}" for key, count in active.items() if count > 1)
    return verdict


def _audit_counts(load: Load, books: Books, verdict: Verdict) -> None:
    due = Counter(load.key(number) for number in range(load.messages))
    counted: Counter[tuple[str, str]] = Counter()
    recorded: Counter[tuple[str, str]] = Counter()
    for row in books.tickets.values():
        counted[row.key] += row.unread
        recorded[row.key] += books.recorded[row.id]
    for key in due.keys() | counted.keys():
        for what, found in {"counted": counted[key], "recorded": recorded[key]}.items():
            if what == "recorded" and not load.with_ids:
                continue
            if found < due[key]:
                verdict.lost.append(f"{key}: {due[key]} messages, {found} {what}")
            if found > due[key]:
                verdict.doubled.append(f"{key}: {due[key]} messages, {found} {what}")
