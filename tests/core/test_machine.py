"""Any sequence of operations, against an independent model.

The model is a plain list of rows and the few sentences of the design, written here a second time. It imports
nothing of `ticketrouter.policy`, `ticketrouter.lifecycle` or `ticketrouter.memory`; what it cannot foresee is
an error of one of the two.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests import strategies as these
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    Effect,
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    Scope,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.memory import InMemoryTicketRepository

Row = dict[str, Any]

ACTIVE = {"open", "pending"}


@attrs.frozen
class Plan:
    """What a host has chosen, in plain words; one for direct messages and one for groups."""

    by_contact: bool
    window: timedelta | None
    keep_user: bool
    keep_queue: bool
    opening: frozenset[str]

    def policy(self, groups: Policy | None = None) -> Policy:
        return Policy(
            scope=Scope.CONTACT if self.by_contact else Scope.CONNECTION,
            reopen=Reopen(self.window, keep_user=self.keep_user, keep_queue=self.keep_queue),
            groups=groups,
            effects={
                kind: Effect.OPEN if kind.value in self.opening else Effect.ATTACH for kind in MessageKind
            },
        )


plans = st.builds(
    Plan,
    st.booleans(),
    st.sampled_from([None, these.HOUR, 2 * these.HOUR, timedelta.max]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([frozenset({"message"}), frozenset({"message", "echo"}), frozenset({"echo", "notice"})]),
)


class Model:
    """Rows in a list, and the rules in plain code."""

    def __init__(self, direct: Plan, groups: Plan, unique_rule: str, rows: list[Row]) -> None:
        self.direct, self.groups, self.unique_rule = direct, groups, unique_rule
        self.now = these.NOW
        self.rows = rows
        self.last_id = 0
        self.routed: dict[object, Row] = {}

    # What is there.

    def of_contact(self, key: TicketKey) -> list[Row]:
        mine = (key.company_id, key.contact_id)
        return [row for row in self.rows if (row["company_id"], row["contact_id"]) == mine]

    def active(self, key: TicketKey, *, anywhere: bool = False) -> Row | None:
        found = [
            row
            for row in self.of_contact(key)
            if row["status"] in ACTIVE and (anywhere or row["connection_id"] == key.connection_id)
        ]
        return max(found, key=lambda row: (row["updated_at"], row["id"]), default=None)

    def occupant(self, key: TicketKey) -> Row | None:
        if self.unique_rule == "one_per_contact":
            return next(iter(self.of_contact(key)), None)
        if self.unique_rule == "one_per_connection":
            here = [row for row in self.of_contact(key) if row["connection_id"] == key.connection_id]
            return next(iter(here), None)
        return None

    # What messages do.

    def receive(self, message: InboundMessage) -> tuple[str, Row | None]:
        key = self.key_of(message)
        place = (key.company_id, key.connection_id, message.message_id)
        if message.message_id is not None and place in self.routed:
            return "duplicate", self.routed[place]
        outcome, row = self.place(message, self.groups if message.is_group else self.direct)
        if message.message_id is not None and row is not None:
            self.routed[place] = row
        return outcome, row

    def place(self, message: InboundMessage, plan: Plan) -> tuple[str, Row | None]:
        key, opens = self.key_of(message), message.kind.value in plan.opening
        row = self.active(key) or (self.active(key, anywhere=True) if plan.by_contact else None)
        if row is not None:
            self.count(row, message, opens=opens)
            return "reused", row
        if not opens:
            return "ignored", None
        row = self.reopenable(message, plan)
        if row is None:
            row = self.occupant(key)
            if row is not None and row["connection_id"] != key.connection_id:
                raise BlockedBySchemaError(self.ticket(row), UniqueRule(self.unique_rule))
        if row is None:
            row = self.create(key, is_group=message.is_group)
            self.count(row, message, opens=True)
            return "created", row
        row["user_id"] = row["user_id"] if plan.keep_user else None
        row["queue_id"] = row["queue_id"] if plan.keep_queue else None
        row["status"], row["closed_at"] = "pending", None
        self.count(row, message, opens=True)
        return "reopened", row

    def reopenable(self, message: InboundMessage, plan: Plan) -> Row | None:
        closed = [
            row
            for row in self.of_contact(self.key_of(message))
            if row["status"] not in ACTIVE
            and (plan.by_contact or row["connection_id"] == message.connection_id)
        ]
        if not closed or plan.window is None:
            return None
        last = max(closed, key=lambda row: (row["closed_at"], row["id"]))
        sent_at = self.now if message.sent_at is None else min(message.sent_at, self.now)
        return last if sent_at - last["closed_at"] <= plan.window else None

    def count(self, row: Row, message: InboundMessage, *, opens: bool) -> None:
        row["updated_at"] = self.now
        if message.unread_messages is not None:
            row["unread_messages"] = message.unread_messages
        elif opens:
            row["unread_messages"] += 1

    def create(self, key: TicketKey, *, is_group: bool = False, user_id: int | None = None) -> Row:
        taken = {row["id"] for row in self.rows}
        self.last_id = next(n for n in range(self.last_id + 1, 1000) if n not in taken)
        row = {
            "id": self.last_id,
            **attrs.asdict(key),
            "status": "pending" if user_id is None else "open",
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

    # What the desk does.

    def open(self, key: TicketKey, user_id: int | None, queue_id: int | None) -> Row:
        self.refuse_second(key)
        row = self.occupant(key)
        if row is None:
            row = self.create(key, user_id=user_id)
        elif row["connection_id"] != key.connection_id:
            raise BlockedBySchemaError(self.ticket(row), UniqueRule(self.unique_rule))
        status = "pending" if user_id is None else "open"
        row |= {"status": status, "user_id": user_id, "queue_id": queue_id}
        row |= {"updated_at": self.now, "closed_at": None}
        return row

    def accept(self, row: Row, user_id: int) -> Row:
        if row["status"] not in ACTIVE:
            raise ConflictError("closed", self.ticket(row))
        if row["status"] == "open" and row["user_id"] is not None:
            if row["user_id"] != user_id:
                raise ConflictError("somebody else's", self.ticket(row))
            return row
        row |= {"status": "open", "user_id": user_id, "updated_at": self.now}
        return row

    def close(self, row: Row) -> Row:
        if row["status"] in ACTIVE:
            row |= {"status": "closed", "updated_at": self.now, "closed_at": self.now}
        return row

    def reopen(self, row: Row) -> Row:
        if row["status"] not in ACTIVE:
            self.refuse_second(self.key(row))
            row |= {"status": "pending", "user_id": None, "updated_at": self.now, "closed_at": None}
        return row

    def transfer(self, row: Row, connection_id: int) -> Row:
        if row["status"] not in ACTIVE:
            raise ConflictError("closed", self.ticket(row))
        if row["connection_id"] == connection_id:
            return row
        there = TicketKey(row["company_id"], row["contact_id"], connection_id)
        self.refuse_second(there)
        taken = self.occupant(there)
        if taken is not None and taken is not row:
            raise BlockedBySchemaError(self.ticket(taken), UniqueRule(self.unique_rule))
        row |= {"connection_id": connection_id, "updated_at": self.now}
        return row

    # Small things.

    def refuse_second(self, key: TicketKey) -> None:
        row = self.active(key)
        if row is not None:
            raise ActiveTicketExistsError(self.ticket(row))

    def key_of(self, message: InboundMessage) -> TicketKey:
        whose = message.contact_id if message.group_id is None else message.group_id
        return TicketKey(message.company_id, whose, message.connection_id)

    def key(self, row: Row) -> TicketKey:
        return TicketKey(row["company_id"], row["contact_id"], row["connection_id"])

    def ticket(self, row: Row) -> Any:
        return dict(row)


def _plain(value: Any) -> Any:
    if not attrs.has(type(value)):
        return value
    return attrs.asdict(value, filter=lambda field, _: field.name != "change")


def _about(row: Row, message: InboundMessage) -> InboundMessage:
    return attrs.evolve(
        message,
        company_id=row["company_id"],
        contact_id=row["contact_id"],
        connection_id=row["connection_id"],
        group_id=row["contact_id"] if row["is_group"] else None,
    )


class Desk(RuleBasedStateMachine):
    """The router on its memory, and the model, told the same things."""

    model: Model
    repository: InMemoryTicketRepository
    router: TicketRouter
    now: datetime

    @initialize(unique_rule=these.unique_rules, direct=plans, groups=plans, data=st.data())
    def begin(self, unique_rule: UniqueRule, direct: Plan, groups: Plan, data: st.DataObject) -> None:
        # Without a rule, too, it begins as the law of one active ticket would have it.
        lawful = UniqueRule.ACTIVE_PER_CONNECTION if unique_rule is UniqueRule.NONE else unique_rule
        keys = st.just(TicketKey(1, 1, 1)) | these.keys
        tickets = data.draw(these.lists_of_tickets(lawful, keys, at_least=3) | st.just([]))
        self.model = Model(direct, groups, unique_rule.value, [_plain(ticket) for ticket in tickets])
        self.repository = InMemoryTicketRepository(tickets, unique_rule=unique_rule)
        policy = direct.policy(groups.policy())
        self.router = TicketRouter(self.repository, policy, clock=lambda: self.model.now)

    @rule(span=these.spans)
    def wait(self, span: timedelta) -> None:
        self.model.now += span

    @rule(message=these.messages())
    def receive(self, message: InboundMessage) -> None:
        expected = self.outcome(lambda: self.model.receive(message))
        actual = self.outcome(lambda: self.routed(self.router.resolve(message)))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=these.messages())
    def receive_on_the_key_of_a_ticket(self, nth: int, message: InboundMessage) -> None:
        self.receive(_about(self.row(nth), message))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, span=these.spans, message=these.messages(with_ids=st.none()))
    def receive_some_time_after_closing(self, nth: int, span: timedelta, message: InboundMessage) -> None:
        self.close(nth)
        self.wait(span)
        self.receive(_about(self.row(nth), message))

    @rule(message=these.messages(with_ids=these.message_ids), span=these.spans)
    def receive_twice(self, message: InboundMessage, span: timedelta) -> None:
        self.receive(message)
        self.wait(span)
        self.receive(message)

    @rule(messages=st.lists(these.messages(), max_size=4))
    def receive_many(self, messages: list[InboundMessage]) -> None:
        expected = self.outcome(lambda: [self.model.receive(message)[0] for message in messages])
        actual = self.outcome(lambda: [str(each.outcome) for each in self.router.resolve_many(messages)])

        assert expected == actual

    @rule(key=these.keys, user_id=st.none() | these.users, queue_id=st.none() | these.users)
    def open(self, key: TicketKey, user_id: int | None, queue_id: int | None) -> None:
        expected = self.outcome(lambda: self.model.open(key, user_id, queue_id))
        actual = self.outcome(lambda: self.router.open(key, user_id=user_id, queue_id=queue_id))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, user_id=these.users)
    def accept(self, nth: int, user_id: int) -> None:
        row = self.row(nth)
        expected = self.outcome(lambda: self.model.accept(row, user_id))
        actual = self.outcome(lambda: self.router.accept(row["company_id"], row["id"], user_id))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def close(self, nth: int) -> None:
        row = self.row(nth)
        expected = self.outcome(lambda: self.model.close(row))
        actual = self.outcome(lambda: self.router.close(row["company_id"], row["id"]))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def reopen(self, nth: int) -> None:
        row = self.row(nth)
        expected = self.outcome(lambda: self.model.reopen(row))
        actual = self.outcome(lambda: self.router.reopen(row["company_id"], row["id"]))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, connection_id=these.connections)
    def transfer(self, nth: int, connection_id: int) -> None:
        row = self.row(nth)
        expected = self.outcome(lambda: self.model.transfer(row, connection_id))
        actual = self.outcome(lambda: self.router.transfer(row["company_id"], row["id"], connection_id))

        assert expected == actual

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def close_as_another_company(self, nth: int) -> None:
        row = self.row(nth)
        actual = self.outcome(lambda: self.router.close(3 - row["company_id"], row["id"]))

        assert (TicketNotFoundError, None) == actual

    @rule(key=these.keys)
    def look(self, key: TicketKey) -> None:
        active = [_plain(ticket) for ticket in self.router.active_tickets(key.company_id, key.contact_id)]
        rows = [row for row in self.model.of_contact(key) if row["status"] in ACTIVE]

        assert sorted(rows, key=lambda row: (row["updated_at"], row["id"]), reverse=True) == active
        assert self.model.active(key) == _plain(self.router.find_active(key))

    @invariant()
    def every_row_is_as_foreseen(self) -> None:
        rows = sorted(self.model.rows, key=lambda row: row["id"])

        assert rows == [_plain(ticket) for ticket in self.repository.tickets]

    @invariant()
    def no_key_has_two_active_tickets(self) -> None:
        keys = [ticket.key for ticket in self.repository.tickets if ticket.status in ACTIVE]

        assert len(set(keys)) == len(keys)

    def row(self, nth: int) -> Row:
        return self.model.rows[nth % len(self.model.rows)]

    def outcome(self, act: Any) -> Any:
        """Return what came of it, as plain values that later changes do not show in."""
        try:
            answer = act()
        except TicketRouterError as error:
            return type(error), _plain(getattr(error, "ticket", None))
        return tuple(map(_copied, answer)) if isinstance(answer, tuple) else _copied(answer)

    def routed(self, resolution: Resolution) -> tuple[str, Any]:
        ticket = None if resolution.outcome is Outcome.IGNORED else resolution.ticket
        return str(resolution.outcome), ticket


def _copied(value: Any) -> Any:
    plain = _plain(value)
    return dict(plain) if isinstance(plain, dict) else plain


TestDesk = Desk.TestCase
TestDesk.settings = settings(max_examples=settings().max_examples + 180, stateful_step_count=40)
