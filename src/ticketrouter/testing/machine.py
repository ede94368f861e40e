"""Any sequence of operations, on any repository, against the independent model.

Law of this file: it tells the router and the model the same things and compares what they say and what they keep.
What is right is known to `ticketrouter.testing.model` alone. The store chooses the ids; here a ticket goes by its
number, counted from 1 in the order in which tickets were made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)

from ticketrouter.choices import Policy
from ticketrouter.errors import TicketNotFoundError, TicketRouterError
from ticketrouter.model import InboundMessage, Outcome, Resolution, Ticket, TicketKey, UniqueRule, id_order
from ticketrouter.moves import MovePlan, OnCollision
from ticketrouter.repository import ForgetsMessages, MovesTickets
from ticketrouter.router import TicketRouter
from ticketrouter.testing import strategies as these
from ticketrouter.testing.clock import FakeClock
from ticketrouter.testing.model import Model, Plan, Row
from ticketrouter.testing.store import Overwrites, Store

NewStore: TypeAlias = Callable[[UniqueRule], Store]
"""What makes an empty store whose schema enforces a unique rule."""


class Undo(Exception):  # noqa: N818 - it is no error
    """Raised inside a host's transaction to have it rolled back."""


class TicketRepositoryMachine(RuleBasedStateMachine):
    """The state machine: subclass it, give `new_store`, and have pytest run its `TestCase`.

    Every operation is a transaction of the host: messages of all kinds, direct and in groups, from two companies
    that have the same ids; redeliveries, also after closing; batches; whatever the desk does; merges of contacts
    and moves of connections; rows that the host closes behind the router's back, and transactions that it rolls back. After each of them every row is as the
    model foresees, so nothing is lost, and no key has two active tickets.

    `unique_rules` lists what `new_store` can be asked for, `other_statuses` the closed words that only the host
    writes.
    """

    unique_rules: ClassVar[tuple[UniqueRule, ...]] = (UniqueRule.ACTIVE_PER_CONNECTION,)
    other_statuses: ClassVar[tuple[str, ...]] = ()

    store: Store
    model: Model
    clock: FakeClock

    def new_store(self, unique_rule: UniqueRule) -> Store:
        """Make an empty store whose schema enforces a unique rule, one of `unique_rules`."""
        raise NotImplementedError("override new_store: it makes the empty store that the machine runs on")

    @initialize(data=st.data(), direct=these.plans, groups=these.plans)
    def begin(self, data: st.DataObject, direct: Plan, groups: Plan) -> None:
        """Open a store, put some tickets into it, and tell the model of them."""
        unique_rule = data.draw(st.sampled_from(self.unique_rules))
        self.store = self.new_store(unique_rule)
        with self.store.transaction() as repository:
            statuses = repository.statuses
            self.forgets: bool = isinstance(repository, ForgetsMessages)
            self.moves: bool = isinstance(repository, MovesTickets)
        # Without a rule, too, it begins as the law of one active ticket would have it.
        lawful = UniqueRule.ACTIVE_PER_CONNECTION if unique_rule is UniqueRule.NONE else unique_rule
        keys = st.just(TicketKey(1, 1, 1)) | these.keys
        closed = (statuses.closed, *self.other_statuses)
        tickets = data.draw(
            these.lists_of_tickets(lawful, keys, at_least=3, statuses=statuses, closed=closed) | st.just([])
        )
        self.clock = FakeClock(these.NOW)
        self.policy: Policy = direct.policy(groups.policy())
        rows = [_row(ticket) | {"id": number} for number, ticket in enumerate(tickets, start=1)]
        self.numbers: dict[Any, int] = {}
        self.know([self.store.insert(ticket) for ticket in tickets])
        self.model = Model(direct, groups, unique_rule.value, rows, now=self.clock.now, statuses=statuses)

    def teardown(self) -> None:
        """Give back what the store holds."""
        if hasattr(self, "store"):
            self.store.close()

    # --- what happens ----------------------------------------------------------------------------------------

    @rule(span=these.spans)
    def wait(self, span: timedelta) -> None:
        """Time goes by."""
        self.model.now = self.clock.advance(span)

    @rule(message=these.messages())
    def receive(self, message: InboundMessage) -> None:
        """A message comes in."""
        self.same(lambda: self.model.receive(message), lambda router: _routed(router.resolve(message)))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=these.messages())
    def receive_on_the_key_of_a_ticket(self, nth: int, message: InboundMessage) -> None:
        """A message comes in where there is a ticket already."""
        self.receive(_about(self.row(nth), message))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, span=these.spans, message=these.messages(with_ids=st.none()))
    def receive_some_time_after_closing(self, nth: int, span: timedelta, message: InboundMessage) -> None:
        """A contact writes again when the ticket has been closed."""
        self.close(nth)
        self.wait(span)
        self.receive(_about(self.row(nth), message))

    @rule(message=these.messages(with_ids=these.message_ids), span=these.spans)
    def receive_twice(self, message: InboundMessage, span: timedelta) -> None:
        """A channel delivers a message again."""
        self.receive(message)
        self.wait(span)
        self.receive(message)

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=these.messages(with_ids=these.message_ids))
    def receive_twice_with_a_closing_between(self, nth: int, message: InboundMessage) -> None:
        """A channel delivers a message again when its ticket has been closed."""
        message = _about(self.row(nth), message)
        self.receive(message)
        self.close(nth)
        self.receive(message)

    @rule(messages=st.lists(these.messages(), max_size=4))
    def receive_many(self, messages: list[InboundMessage]) -> None:
        """Several messages come in at once; what comes before one that fails is kept."""
        before = len(self.model.rows)
        made: list[Any] = []

        def resolve(router: TicketRouter) -> list[str]:
            found = router.resolve_many(messages)
            made.extend(each.ticket.id for each in found if each.outcome is Outcome.CREATED)
            return [str(each.outcome) for each in found]

        self.same(lambda: [self.model.receive(message)[0] for message in messages], resolve)
        self.renumber(before, made)

    @rule(key=these.keys, user_id=st.none() | these.users, queue_id=st.none() | these.users)
    def open(self, key: TicketKey, user_id: int | None, queue_id: int | None) -> None:
        """The desk opens a ticket."""
        self.same(
            lambda: self.model.open(key, user_id, queue_id),
            lambda router: router.open(key, user_id=user_id, queue_id=queue_id),
        )

    @rule(key=these.keys)
    def ensure_can_open(self, key: TicketKey) -> None:
        """The desk asks whether it could open a ticket."""
        self.same(lambda: self.model.ensure_can_open(key), lambda router: router.ensure_can_open(key))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, user_id=these.users)
    def accept(self, nth: int, user_id: int) -> None:
        """An agent accepts a ticket."""
        row = self.row(nth)
        ref = row["company_id"], self.id_of(row)
        self.same(lambda: self.model.accept(row, user_id), lambda router: router.accept(*ref, user_id))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def close(self, nth: int) -> None:
        """The desk closes a ticket."""
        row = self.row(nth)
        ref = row["company_id"], self.id_of(row)
        self.same(lambda: self.model.close(row), lambda router: router.close(*ref))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def reopen(self, nth: int) -> None:
        """The desk reopens a ticket."""
        row = self.row(nth)
        ref = row["company_id"], self.id_of(row)
        self.same(lambda: self.model.reopen(row), lambda router: router.reopen(*ref))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, connection_id=these.connections)
    def transfer(self, nth: int, connection_id: int) -> None:
        """The desk moves a ticket to another connection."""
        row = self.row(nth)
        ref = row["company_id"], self.id_of(row)
        self.same(
            lambda: self.model.transfer(row, connection_id),
            lambda router: router.transfer(*ref, connection_id),
        )

    @precondition(lambda self: self.moves)
    @rule(company_id=these.companies, ids=these.two_contacts, on_collision=these.on_collision)
    def merge_contacts(self, company_id: int, ids: tuple[int, int], on_collision: OnCollision) -> None:
        """Two records turn out to be one person."""
        about = (company_id, *ids)
        self.same(
            lambda: self.model.move("contact_id", *about, on_collision.value),
            lambda router: _moved(
                router.plan_merge_contacts(*about, on_collision=on_collision),
                router.merge_contacts(*about, on_collision=on_collision),
                self.numbers,
            ),
            whose=False,
        )

    @precondition(lambda self: self.moves)
    @rule(company_id=these.companies, ids=these.two_connections, on_collision=these.on_collision)
    def move_connection(self, company_id: int, ids: tuple[int, int], on_collision: OnCollision) -> None:
        """One connection takes over from another."""
        about = (company_id, *ids)
        self.same(
            lambda: self.model.move("connection_id", *about, on_collision.value),
            lambda router: _moved(
                router.plan_move_connection(*about, on_collision=on_collision),
                router.move_connection(*about, on_collision=on_collision),
                self.numbers,
            ),
            whose=False,
        )

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def close_as_another_company(self, nth: int) -> None:
        """One company names a ticket of the other."""
        row = self.row(nth)
        ref = 3 - row["company_id"], self.id_of(row)
        actual = self.outcome(lambda: self.done(lambda router: router.close(*ref)))

        assert actual == (TicketNotFoundError, None)

    @precondition(lambda self: self.forgets)
    @rule(span=these.spans)
    def forget_messages(self, span: timedelta) -> None:
        """The host forgets old message ids."""
        before = self.clock.now - span
        with self.store.transaction() as repository:
            assert isinstance(repository, ForgetsMessages)
            forgotten = repository.forget_messages(before)

        assert self.model.forget(before) == forgotten

    @precondition(lambda self: isinstance(self.store, Overwrites) and any(self.active_rows()))
    @rule(nth=these.nth)
    def the_host_closes_behind_our_back(self, nth: int) -> None:
        """The host closes a ticket by its status alone."""
        active = self.active_rows()
        row = active[nth % len(active)]
        assert isinstance(self.store, Overwrites)
        status = self.model.words.closed
        closed: Row = row | {"id": self.id_of(row), "status": status}
        self.store.overwrite(Ticket(**closed))
        row |= {"status": status, "closed_at": row["updated_at"]}

    @precondition(lambda self: self.store.rolls_back)
    @rule(messages=st.lists(these.messages(), min_size=1, max_size=3), nth=these.nth)
    def the_host_rolls_back(self, messages: list[InboundMessage], nth: int) -> None:
        """The host rolls back what it has begun; for the model, nothing has happened."""
        with suppress(Undo), self.store.transaction() as repository:
            router = TicketRouter(repository, self.policy, clock=self.clock)
            with suppress(TicketRouterError):
                router.resolve_many(messages)
            if self.model.rows:
                row = self.row(nth)
                router.close(row["company_id"], self.id_of(row))
            raise Undo

    @rule(key=these.keys)
    def look(self, key: TicketKey) -> None:
        """The desk looks at a contact, and at a key."""
        contact = key.company_id, key.contact_id
        self.same(lambda: self.model.active_of(key), lambda router: router.active_tickets(*contact))
        self.same(lambda: self.model.active(key), lambda router: router.find_active(key))

    # --- what is always true ---------------------------------------------------------------------------------

    @invariant()
    def every_row_is_as_foreseen(self) -> None:
        """No ticket is lost, none is there that nobody made, each says what the model says, each key has one active."""
        tickets = self.store.tickets()
        self.know(tickets)
        active = [ticket.key for ticket in tickets if self.model.words.is_active(ticket.status)]

        assert self.model.rows == sorted(map(self.numbered, tickets), key=_number)
        assert len(set(active)) == len(active)

    # --- how the two are told, and compared ------------------------------------------------------------------

    def same(
        self, foreseen: Callable[[], Any], act: Callable[[TicketRouter], Any], *, whose: bool = True
    ) -> None:
        """The model and the router answer the same; `whose`: a refusal is also about the same ticket."""
        expected = self.outcome(foreseen, whose=whose)
        actual = self.outcome(lambda: self.done(act), whose=whose)

        assert expected == actual, f"the model says {expected}, the router {actual}"

    def done(self, act: Callable[[TicketRouter], Any]) -> Any:
        """Do something in a transaction of its own; a refusal of ours leaves it usable, and it is committed."""
        refused: TicketRouterError | None = None
        answer = None
        with self.store.transaction() as repository:
            try:
                answer = act(TicketRouter(repository, self.policy, clock=self.clock))
            except TicketRouterError as error:
                refused = error
        if refused is not None:
            raise refused
        return answer

    def outcome(self, act: Callable[[], Any], *, whose: bool = True) -> Any:
        """Return what came of it, as plain values that later changes do not show in."""
        try:
            return self.plain(act())
        except TicketRouterError as error:
            return type(error), self.plain(getattr(error, "ticket", None)) if whose else None

    def plain(self, value: Any) -> Any:
        """Return rows for tickets, and copies of rows."""
        match value:
            case Ticket():
                return self.numbered(value)
            case dict():
                return dict(value)  # pyright: ignore[reportUnknownArgumentType]
            case tuple() | list():
                return [self.plain(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
            case _:
                return value

    def know(self, tickets: list[Ticket]) -> None:
        """Give every new ticket its number."""
        for ticket in tickets:
            self.numbers.setdefault(ticket.id, len(self.numbers) + 1)

    def numbered(self, ticket: Ticket) -> Row:
        """Return a ticket as a row; of one that was closed behind our back the last change is its closing."""
        if ticket.id not in self.numbers:
            self.know(self.store.tickets())
        row = _row(ticket) | {"id": self.numbers[ticket.id]}
        if row["closed_at"] is None and not self.model.is_active(row):
            row["closed_at"] = row["updated_at"]
        return row

    def renumber(self, before: int, made: list[Any]) -> None:
        """Number the rows of a batch as the store did, which may make its tickets in an order of its own."""
        fresh = self.model.rows[before:]
        if len(made) != len(fresh):
            return  # a batch that was refused has gone one by one
        in_order = sorted(zip(made, fresh, strict=True), key=lambda each: id_order(each[0]))
        for number, (_, row) in enumerate(in_order, start=before + 1):
            row["id"] = number
        self.model.rows.sort(key=_number)

    def row(self, nth: int) -> Row:
        """Return the nth row of the model, counted round."""
        return self.model.rows[nth % len(self.model.rows)]

    def active_rows(self) -> list[Row]:
        """Return the rows that hold their keys."""
        return list(filter(self.model.is_active, self.model.rows))

    def id_of(self, row: Row) -> Any:
        """Return the id that the store gave a row."""
        return next(ticket_id for ticket_id, number in self.numbers.items() if number == row["id"])


def run_machine(
    new_store: NewStore,
    *,
    unique_rules: tuple[UniqueRule, ...] = TicketRepositoryMachine.unique_rules,
    other_statuses: tuple[str, ...] = (),
    examples: int | None = None,
    steps: int = 25,
) -> None:
    """Run the state machine, where a function makes the stores: for use inside a test that has fixtures.

    Args:
        new_store: makes an empty store under a unique rule.
        unique_rules: what it can be asked for.
        other_statuses: the closed words that only the host writes.
        examples: how many sequences; None: as many as the profile of Hypothesis says.
        steps: how long each of them is at most.

    Raises:
        AssertionError: if the model does not agree; Hypothesis prints the steps.
    """
    made = staticmethod(new_store)
    fields = {"new_store": made, "unique_rules": unique_rules, "other_statuses": other_statuses}
    machine = type("Machine", (TicketRepositoryMachine,), fields)
    chosen = settings(
        max_examples=settings().max_examples if examples is None else examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        # Shrinking over a database may take minutes: the failing sequence as it was found is enough.
        phases=[phase for phase in Phase if phase is not Phase.shrink],
    )
    run_state_machine_as_test(machine, settings=chosen)


def _row(ticket: Ticket) -> Row:
    return attrs.asdict(ticket, recurse=False, filter=lambda field, _: field.name != "change")


def _number(row: Row) -> int:
    number: int = row["id"]
    return number


def _routed(resolution: Resolution) -> tuple[str, Ticket | None]:
    ticket = None if resolution.outcome is Outcome.IGNORED else resolution.ticket
    return str(resolution.outcome), ticket


def _moved(planned: MovePlan, done: MovePlan, numbers: dict[Any, int]) -> Any:
    assert planned == done
    closed = [
        (numbers[closing.ticket.id], closing.kept and numbers[closing.kept.id]) for closing in done.closes
    ]
    return sorted(closed), sorted(numbers[ticket_id] for ticket_id in done.repoints)


def _about(row: Row, message: InboundMessage) -> InboundMessage:
    return attrs.evolve(
        message,
        company_id=row["company_id"],
        contact_id=row["contact_id"],
        connection_id=row["connection_id"],
        group_id=row["contact_id"] if row["is_group"] else None,
    )
