"""What a repository and a router must come to, as rows in a list and a few sentences of plain code.

Law of this file: it is the design written a second time. It imports nothing of `ticketrouter.policy`,
`ticketrouter.lifecycle`, `ticketrouter.moves` or `ticketrouter.memory`; where it and the library differ, one of
them is wrong. Errors are the library's own, and carry a row where those carry a ticket.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from attrs import asdict, frozen

from ticketrouter.choices import Effect, Policy, Reopen, Scope
from ticketrouter.errors import ActiveTicketExistsError, BlockedBySchemaError, ConflictError
from ticketrouter.model import InboundMessage, MessageKind, StatusScheme, TicketKey, UniqueRule

Row: TypeAlias = dict[str, Any]
"""The fields of a ticket; its id is its number, counted from 1 in the order in which tickets were made."""


@frozen
class Plan:
    """What a host has chosen, in plain words; there is one for direct messages and one for groups.

    Args:
        by_contact: whether a contact has one conversation over all connections.
        window: how long after closing a message reopens the ticket; None: never.
        keep_user: whether the agent keeps a reopened ticket; or who may.
        keep_queue: whether a reopened ticket stays in its queue.
        opening: the kinds of messages that may open a ticket.
        queue_id: where a new ticket begins, and a reopened one that has lost its queue.
    """

    by_contact: bool = False
    window: timedelta | None = None
    keep_user: bool | frozenset[int] = False
    keep_queue: bool = True
    opening: frozenset[str] = frozenset({"message"})
    queue_id: int | None = None

    def policy(self, groups: Policy | None = None) -> Policy:
        """Return the same as the library has it."""
        return Policy(
            scope=Scope.CONTACT if self.by_contact else Scope.CONNECTION,
            reopen=Reopen(self.window, keep_user=self.keep_user, keep_queue=self.keep_queue),
            groups=groups,
            effects={
                kind: Effect.OPEN if kind.value in self.opening else Effect.ATTACH for kind in MessageKind
            },
            queue_id=self.queue_id,
        )


class Model:
    """A desk, and all that can happen at it.

    Args:
        direct: what holds for direct messages.
        groups: what holds for groups.
        unique_rule: what the host's schema enforces.
        rows: what is there to begin with.
        now: what time it is; whoever runs the model sets it.
        statuses: the host's words.
        lacks: the fields that the host does not keep, and which nothing is decided by.
    """

    def __init__(
        self,
        direct: Plan,
        groups: Plan,
        unique_rule: str,
        rows: Iterable[Row],
        *,
        now: datetime,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        self.direct: Plan = direct
        self.groups: Plan = groups
        self.unique_rule: str = unique_rule
        self.rows: list[Row] = list(rows)
        self.now = now
        self.words = statuses
        self.lacks = lacks
        self.routed: dict[tuple[Any, Any, Any], tuple[Row, datetime]] = {}

    def fork(self) -> Model:
        """Return another model in which the same has happened so far."""
        other = copy(self)
        rows = {row["id"]: dict(row) for row in self.rows}
        other.rows = list(rows.values())
        other.routed = {place: (rows[row["id"]], at) for place, (row, at) in self.routed.items()}
        return other

    # What is there.

    def is_active(self, row: Row) -> bool:
        """Tell whether a row holds its key."""
        return row["status"] in self.words.active

    def last_change(self, row: Row) -> datetime:
        """Return the time of the last change of a row; of its creation where the host keeps no other."""
        time: datetime = row["created_at" if "updated_at" in self.lacks else "updated_at"]
        return time

    def recency(self, row: Row) -> tuple[datetime, int]:
        """Return what the most recently active row has most of."""
        return self.last_change(row), row["id"]

    def closed_now(self, row: Row) -> datetime:
        """Return what a row says of its closing, if it is closed now: where the host keeps no time of it, its last change."""
        return self.last_change(row) if {"closed_at", "updated_at"} <= self.lacks else self.now

    def may_reopen(self, row: Row) -> bool:
        """Tell whether a message may make a row active again: what its word means must be known."""
        return row["status"] == self.words.closed or row["status"] in self.words.also_closed

    def agent(self, row: Row) -> int | None:
        """Return the agent of a row, as far as the host keeps one."""
        agent: int | None = row["user_id"]
        return None if "user_id" in self.lacks else agent

    def of_contact(self, key: TicketKey) -> list[Row]:
        """List the rows of a contact."""
        mine = (key.company_id, key.contact_id)
        return [row for row in self.rows if (row["company_id"], row["contact_id"]) == mine]

    def active_of(self, key: TicketKey) -> list[Row]:
        """List the active rows of a contact, newest first."""
        return sorted(filter(self.is_active, self.of_contact(key)), key=self.recency, reverse=True)

    def active(self, key: TicketKey, *, anywhere: bool = False) -> Row | None:
        """Return the most recently active row of a key, or of its contact."""
        found = [row for row in self.active_of(key) if anywhere or row["connection_id"] == key.connection_id]
        return next(iter(found), None)

    def numbered(self, number: int) -> Row:
        """Return the row of a number."""
        return next(row for row in self.rows if row["id"] == number)

    def occupant(self, key: TicketKey) -> Row | None:
        """Return the row beside which the unique rule allows no other."""
        if self.unique_rule == "one_per_contact":
            return next(iter(self.of_contact(key)), None)
        if self.unique_rule == "one_per_connection":
            here = [row for row in self.of_contact(key) if row["connection_id"] == key.connection_id]
            return next(iter(here), None)
        return None

    # What messages do.

    def receive(self, message: InboundMessage) -> tuple[str, Row | None]:
        """Receive a message; return its outcome and its row."""
        key = key_of(message)
        place = (key.company_id, key.connection_id, message.message_id)
        if message.message_id is not None and place in self.routed:
            return "duplicate", self.routed[place][0]
        outcome, row = self.place(message, self.groups if message.is_group else self.direct)
        if message.message_id is not None and row is not None:
            self.routed[place] = row, self.now
        return outcome, row

    def elsewhere(self, message: InboundMessage, row: Row | None) -> list[Row]:
        """List what the contact of a message has active on other connections than its row, newest first."""
        here = message.connection_id if row is None else row["connection_id"]
        return [each for each in self.active_of(key_of(message)) if each["connection_id"] != here]

    def place(self, message: InboundMessage, plan: Plan) -> tuple[str, Row | None]:
        """Find, reopen or create the row of a message that is new."""
        key, opens = key_of(message), message.kind.value in plan.opening
        row = self.active(key) or (self.active(key, anywhere=True) if plan.by_contact else None)
        if row is not None:
            self.count(row, message, opens=opens)
            if opens and row["status"] in self.words.wakes:
                row["status"] = self.words.wakes[row["status"]]
            return "reused", row
        if not opens:
            return "ignored", None
        row = self.reopenable(message, plan)
        if row is None:
            row = self.occupant(key)
            self.refuse_strange(row, key)
        if row is None:
            row = self.create(key, is_group=message.is_group)
            row["queue_id"] = plan.queue_id
            self.count(row, message, opens=True)
            return "created", row
        if plan.keep_user is False or (plan.keep_user is not True and row["user_id"] not in plan.keep_user):
            row["user_id"] = None
        row["queue_id"] = row["queue_id"] if plan.keep_queue else plan.queue_id
        row["status"], row["closed_at"] = self.words.reopened, None
        self.count(row, message, opens=True)
        return "reopened", row

    def reopenable(self, message: InboundMessage, plan: Plan) -> Row | None:
        """Return the closed row that the window reaches."""
        closed = [
            row
            for row in self.of_contact(key_of(message))
            if self.may_reopen(row) and (plan.by_contact or row["connection_id"] == message.connection_id)
        ]
        if not closed or plan.window is None:
            return None
        last = max(closed, key=lambda row: (row["closed_at"], row["id"]))
        sent_at = self.now if message.sent_at is None else min(message.sent_at, self.now)
        return last if sent_at - last["closed_at"] <= plan.window else None

    def count(self, row: Row, message: InboundMessage, *, opens: bool) -> None:
        """Count a message in its row."""
        row["updated_at"] = self.now
        if message.unread_messages is not None:
            row["unread_messages"] = message.unread_messages
        elif opens and message.kind is MessageKind.MESSAGE:
            row["unread_messages"] += 1

    def create(self, key: TicketKey, *, is_group: bool = False, user_id: int | None = None) -> Row:
        """Add a row."""
        row: Row = {
            "id": len(self.rows) + 1,
            **asdict(key),
            "status": self.words.accepted if user_id is not None else self.waiting(is_group=is_group),
            "is_group": is_group,
            "unread_messages": 0,
            "user_id": user_id,
            "queue_id": None,
            "created_at": self.now,
            "updated_at": self.now,
            "closed_at": None,
        }
        self.rows.append(row)
        return row

    def waiting(self, *, is_group: bool) -> str:
        """Return the word of a new row that nobody has taken."""
        return (is_group and self.words.initial_group) or self.words.initial

    def forget(self, before: datetime) -> int:
        """Forget the message ids recorded before a time; return how many."""
        kept = {place: routed for place, routed in self.routed.items() if routed[1] >= before}
        forgotten = len(self.routed) - len(kept)
        self.routed = kept
        return forgotten

    # What the desk does.

    def ensure_can_open(self, key: TicketKey) -> None:
        """Refuse a key at which nothing can be opened."""
        self.refuse_second(key)
        self.refuse_strange(self.occupant(key), key)

    def open(self, key: TicketKey, user_id: int | None, queue_id: int | None) -> Row:
        """Open a row from the desk's side."""
        self.ensure_can_open(key)
        row = self.occupant(key)
        if row is None:
            row = self.create(key, user_id=user_id)
        else:
            row["status"] = self.words.reopened if user_id is None else self.words.accepted
        row |= {"user_id": user_id, "queue_id": queue_id, "updated_at": self.now, "closed_at": None}
        return row

    def accept(self, row: Row, user_id: int) -> Row:
        """Give a row to an agent."""
        if not self.is_active(row):
            raise ConflictError("closed", seen(row))
        agent = self.agent(row)
        if row["status"] == self.words.accepted and agent is not None:
            if agent != user_id:
                raise ConflictError("somebody else's", seen(row))
            return row
        row |= {"status": self.words.accepted, "user_id": user_id, "updated_at": self.now}
        return row

    def close(self, row: Row, glimpse: Row | None = None) -> Row:
        """Close a row; one of which somebody has had a glimpse, only while it is as it was then."""
        if self.is_active(row):
            if glimpse is not None and (
                any(row[name] != glimpse[name] for name in ("status", "updated_at"))
                or (
                    "unread_messages" not in self.lacks
                    and row["unread_messages"] > glimpse["unread_messages"]
                )
            ):
                raise ConflictError("changed since", seen(row))
            row |= {"status": self.words.closed, "updated_at": self.now, "closed_at": self.closed_now(row)}
        return row

    def reopen(self, row: Row) -> Row:
        """Reopen a row into its queue."""
        if not self.is_active(row):
            self.refuse_second(TicketKey(row["company_id"], row["contact_id"], row["connection_id"]))
            row |= {"status": self.words.reopened, "user_id": None}
            row |= {"updated_at": self.now, "closed_at": None}
        return row

    def transfer(self, row: Row, connection_id: int) -> Row:
        """Move an active row to another connection."""
        if not self.is_active(row):
            raise ConflictError("closed", seen(row))
        if row["connection_id"] == connection_id:
            return row
        there = TicketKey(row["company_id"], row["contact_id"], connection_id)
        self.refuse_second(there)
        taken = self.occupant(there)
        if taken is not None and taken is not row:
            raise BlockedBySchemaError(seen(taken), UniqueRule(self.unique_rule))
        row |= {"connection_id": connection_id, "updated_at": self.now}
        return row

    def move(
        self, part: str, company_id: int, source_id: int, target_id: int, on_collision: str
    ) -> tuple[list[tuple[int, int | None]], list[int]]:
        """Give all rows of one contact, or on one connection, to another; return who is closed for whom, and who moves."""
        source = [row for row in self.rows if (row["company_id"], row[part]) == (company_id, source_id)]
        target = [row for row in self.rows if (row["company_id"], row[part]) == (company_id, target_id)]
        other = "connection_id" if part == "contact_id" else "contact_id"
        pairs = [(one, two) for one in source for two in target if self.exclude(one, two, part, other)]
        if pairs:
            raise BlockedBySchemaError(seen(pairs[0][1]), UniqueRule(self.unique_rule))
        closed: list[tuple[int, int | None]] = []
        for place in sorted({row[other] for row in source if self.is_active(row)}):
            rivals = [row for row in (*source, *target) if row[other] == place and self.is_active(row)]
            closed += self.collide(rivals, on_collision) if len(rivals) > 1 else []
        for number, keeper in closed:
            self.close(self.rows[number - 1])
            if keeper is not None:
                self.rows[keeper - 1]["unread_messages"] += self.rows[number - 1]["unread_messages"]
        for row in source:
            row[part] = target_id
        if part == "connection_id":
            for (company, connection, message_id), routed in list(self.routed.items()):
                if (company, connection) == (company_id, source_id):
                    self.routed.setdefault((company, target_id, message_id), routed)
        return sorted(closed), [row["id"] for row in source]

    def collide(self, rivals: list[Row], on_collision: str) -> list[tuple[int, int | None]]:
        """Say of several active rows that would share a key which are closed, and for which."""
        kept, *others = sorted(rivals, key=self.recency, reverse=True)
        if on_collision == "refuse":
            raise ActiveTicketExistsError(seen(kept))
        if on_collision == "close_all":
            return [(row["id"], None) for row in rivals]
        if on_collision == "keep_accepted":
            kept, *others = self.those_at_work_first(rivals)
        return [(row["id"], kept["id"]) for row in others]

    def those_at_work_first(self, rows: Iterable[Row]) -> list[Row]:
        """Sort rows: an agent's before nobody's, then those that only an agent makes so, then the newest."""

        def order(row: Row) -> tuple[Any, ...]:
            taken = row["status"] == self.words.accepted
            return self.agent(row) is not None, taken and not self.begins(row), *self.recency(row)

        return sorted(rows, key=order, reverse=True)

    def begins(self, row: Row) -> bool:
        """Tell whether a new row that nobody has taken has the status of this one."""
        return bool(row["status"] == self.waiting(is_group=row["is_group"]))

    def exclude(self, one: Row, two: Row, part: str, other: str) -> bool:
        """Tell whether the unique rule has no room for both, once one is where the other is."""
        if self.unique_rule == "one_per_contact":
            return part == "contact_id"
        return self.unique_rule == "one_per_connection" and one[other] == two[other]

    def refuse_strange(self, row: Row | None, key: TicketKey) -> None:
        """Refuse a row in the way that cannot be the ticket of this key."""
        if row is not None and not (row["connection_id"] == key.connection_id and self.may_reopen(row)):
            raise BlockedBySchemaError(seen(row), UniqueRule(self.unique_rule))

    def refuse_second(self, key: TicketKey) -> None:
        """Refuse a key that is taken."""
        row = self.active(key)
        if row is not None:
            raise ActiveTicketExistsError(seen(row))


def key_of(message: InboundMessage) -> TicketKey:
    """Return the key of a message: in a group chat the group's."""
    whose = message.contact_id if message.group_id is None else message.group_id
    return TicketKey(message.company_id, whose, message.connection_id)


def seen(row: Row) -> Any:
    """Return the row as it is now, where the library has a ticket."""
    return dict(row)
