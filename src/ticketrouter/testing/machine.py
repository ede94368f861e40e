"""Any sequence of operations, on any repository, against the independent model.

Law of this file: it tells the router and the model the same things and compares what they say and what they keep.
What is right is known to `ticketrouter.testing.model` alone. The store chooses the ids; here a ticket goes by its
number, counted from 1 in the order in which tickets were made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias, TypeVar

import attrs
import pytest
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
from ticketrouter.errors import BlockedBySchemaError, TicketNotFoundError, TicketRouterError
from ticketrouter.model import InboundMessage, Outcome, Resolution, Ticket, TicketKey, UniqueRule, id_order
from ticketrouter.moves import MovePlan, OnCollision
from ticketrouter.repository import ForgetsMessages, MovesTickets
from ticketrouter.router import TicketRouter
from ticketrouter.testing import strategies as these
from ticketrouter.testing.clock import FakeClock
from ticketrouter.testing.model import Model, Plan, Row
from ticketrouter.testing.routed import Meanwhile
from ticketrouter.testing.samples import agent, queued
from ticketrouter.testing.store import Overwrites, Store

_Place = TypeVar("_Place", TicketKey, InboundMessage)

MESSAGES = these.messages(with_ids=st.none() | these.alike_message_ids)
WITH_IDS = these.messages(with_ids=these.alike_message_ids)

Act: TypeAlias = tuple[Callable[[Model], Any], Callable[[TicketRouter], Any]]
"""Something that happens, as the model is told of it, and the router."""

DESK = st.sampled_from(["accept", "close", "close as seen", "reopen", "transfer"])
MOVING = ("merge_contacts", "move_connection")
ACTS = DESK | st.sampled_from(["receive", *MOVING])
"""What may happen meanwhile."""
FREEING = ("accept", "close")
"""What of it makes no ticket active."""

NewStore: TypeAlias = Callable[[UniqueRule], Store]
"""What makes an empty store whose schema enforces a unique rule."""


class Undo(Exception):  # noqa: N818 - it is no error
    """Raised inside a host's transaction to have it rolled back."""


class TicketRepositoryMachine(RuleBasedStateMachine):
    """The state machine: subclass it, give `new_store`, and have pytest run its `TestCase`.

    Every operation is a transaction of the host: messages of all kinds, direct and in groups, from two companies
    that have the same ids; redeliveries, also after closing; batches; whatever the desk does; merges of contacts
    and moves of connections; things that happen after the router has looked and before it writes, which must come to
    one after the other; rows that the host closes behind the router's back, and transactions that it rolls back.
    After each of them every row is as the model foresees, so nothing is lost, and no key has two active tickets.

    `unique_rules` lists what `new_store` can be asked for, `other_statuses` words that the scheme does not know, and
    which a row may have all the same.
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
        if not self.store.ids_ascend:
            pytest.skip("the ids of this store come in no order, by which the model could break ties")
        # Without a rule, too, it begins as the law of one active ticket would have it.
        lawful = UniqueRule.ACTIVE_PER_CONNECTION if unique_rule is UniqueRule.NONE else unique_rule
        keys = (st.just(TicketKey(1, 1, 1)) | these.keys).map(lambda key: _here(self.store, key))
        closed = (*sorted(statuses.known - statuses.active), *self.other_statuses)
        tickets = data.draw(
            these.lists_of_tickets(lawful, keys, at_least=3, statuses=statuses, closed=closed) | st.just([])
        )
        self.clock = FakeClock(these.NOW)
        if "queue_id" in self.store.lacks:
            # A queue that no row keeps is refused.
            direct, groups = (attrs.evolve(each, queue_id=None) for each in (direct, groups))
        self.policy: Policy = direct.policy(groups.policy())
        inserted = [self.store.insert(ticket) for ticket in tickets]
        rows = [_row(ticket) | {"id": number} for number, ticket in enumerate(inserted, start=1)]
        self.numbers: dict[Any, int] = {}
        self.glimpses: dict[int, Ticket] = {}
        self.know(inserted)
        known: dict[str, Any] = {"now": self.clock.now, "statuses": statuses, "lacks": self.store.lacks}
        self.model = Model(direct, groups, unique_rule.value, rows, **known)

    def teardown(self) -> None:
        """Give back what the store holds."""
        if hasattr(self, "store"):
            self.store.close()

    # --- what happens ----------------------------------------------------------------------------------------

    @rule(span=these.spans)
    def wait(self, span: timedelta) -> None:
        """Time goes by."""
        self.model.now = self.clock.advance(span)

    @rule(message=MESSAGES)
    def receive(self, message: InboundMessage) -> None:
        """A message comes in."""
        on_model, on_router = _receiving(_here(self.store, message))
        self.same(lambda: on_model(self.model), on_router)

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=MESSAGES)
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

    @rule(message=WITH_IDS, span=these.spans)
    def receive_twice(self, message: InboundMessage, span: timedelta) -> None:
        """A channel delivers a message again."""
        self.receive(message)
        self.wait(span)
        self.receive(message)

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=WITH_IDS)
    def receive_twice_with_a_closing_between(self, nth: int, message: InboundMessage) -> None:
        """A channel delivers a message again when its ticket has been closed."""
        message = _about(self.row(nth), message)
        self.receive(message)
        self.close(nth)
        self.receive(message)

    @rule(messages=st.lists(MESSAGES, max_size=4))
    def receive_many(self, messages: list[InboundMessage]) -> None:
        """Several messages come in at once; what comes before one that fails is kept."""
        messages = [_here(self.store, message) for message in messages]
        before = len(self.model.rows)
        made: list[Any] = []

        def foresee() -> Any:
            return [_nameless(self.plain(_receiving(message)[0](self.model))) for message in messages]

        def resolve(router: TicketRouter) -> Any:
            found = router.resolve_many(messages)
            made.extend(each.ticket.id for each in found if each.outcome is Outcome.CREATED)
            return [_nameless([each[0], *map(_rows, each[1:3]), each[3]]) for each in map(_routed, found)]

        self.same(foresee, resolve)
        self.renumber(before, made)

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, messages=st.lists(WITH_IDS, min_size=2, max_size=3))
    def receive_many_twice(self, nth: int, messages: list[InboundMessage]) -> None:
        """A channel delivers again what came at once for one ticket."""
        row = self.row(nth)
        messages = [_about(row, message) for message in messages]
        self.receive_many(messages)
        self.receive_many(messages)

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=MESSAGES, act=ACTS, value=these.users)
    def receive_while(self, nth: int, message: InboundMessage, act: str, value: int) -> None:
        """Something happens after the router has looked for a message, and before it writes."""
        message = _about(self.row(nth), message)
        if self.model.unique_rule == UniqueRule.NONE and act not in FREEING:
            # Others are kept from the contact by a claim, which does not keep its own transaction away.
            act = "close"
        self.while_this_happens(_receiving(message), self.act(act, nth, message, value))

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth, message=MESSAGES, ask=DESK, act=ACTS, value=these.users)
    def the_desk_does_while(self, nth: int, message: InboundMessage, ask: str, act: str, value: int) -> None:
        """Something happens after the router has looked for the desk, and before it writes."""
        message = _about(self.row(nth), message)
        self.while_this_happens(self.act(ask, nth, message, value), self.act(act, nth, message, 3 - value))

    @rule(key=these.keys, user_id=st.none() | these.users, queue_id=st.none() | these.users)
    def open(self, key: TicketKey, user_id: int | None, queue_id: int | None) -> None:
        """The desk opens a ticket."""
        key = _here(self.store, key)
        queue_id = None if queue_id is None else queued(self.store, queue_id)
        user_id = None if user_id is None else agent(self.store, user_id)
        self.same(
            lambda: self.model.open(key, user_id, queue_id),
            lambda router: router.open(key, user_id=user_id, queue_id=queue_id),
        )

    @rule(key=these.keys)
    def ensure_can_open(self, key: TicketKey) -> None:
        """The desk asks whether it could open a ticket."""
        key = _here(self.store, key)
        self.same(lambda: self.model.ensure_can_open(key), lambda router: router.ensure_can_open(key))

    @precondition(lambda self: self.model.rows and "user_id" not in self.store.lacks)
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
    def glimpse(self, nth: int) -> None:
        """Somebody has a look at a ticket, to close it some time or other."""
        row = self.row(nth)
        self.glimpses[row["id"]] = self.ticket_of(row)

    @precondition(lambda self: self.model.rows and "updated_at" not in self.store.lacks)
    @rule(nth=these.nth)
    def close_as_seen(self, nth: int) -> None:
        """The desk closes a ticket if it is as it was at the last glimpse of it, or just now where there was none."""
        row = self.row(nth)
        ticket = self.glimpses.get(row["id"]) or self.ticket_of(row)
        self.same(
            lambda: self.model.close(row, _row(ticket)),
            lambda router: router.close(ticket.company_id, ticket.id, seen=ticket),
        )

    @precondition(lambda self: self.model.rows)
    @rule(nth=these.nth)
    def reopen(self, nth: int) -> None:
        """The desk reopens a ticket."""
        row = self.row(nth)
        ref = row["company_id"], self.id_of(row)
        self.same(lambda: self.model.reopen(row), lambda router: router.reopen(*ref))

    @precondition(lambda self: self.model.rows and not self.store.one_connection)
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
        about = (_only(self.store).get("company_id", company_id), *ids)
        self.same(
            lambda: self.model.move("contact_id", *about, on_collision.value),
            lambda router: _moved(
                router.plan_merge_contacts(*about, on_collision=on_collision),
                router.merge_contacts(*about, on_collision=on_collision),
                self.numbers,
            ),
            whose=False,
        )

    @precondition(lambda self: self.moves and not self.store.one_connection)
    @rule(company_id=these.companies, ids=these.two_connections, on_collision=these.on_collision)
    def move_connection(self, company_id: int, ids: tuple[int, int], on_collision: OnCollision) -> None:
        """One connection takes over from another."""
        about = (_only(self.store).get("company_id", company_id), *ids)
        self.same(
            lambda: self.model.move("connection_id", *about, on_collision.value),
            lambda router: _moved(
                router.plan_move_connection(*about, on_collision=on_collision),
                router.move_connection(*about, on_collision=on_collision),
                self.numbers,
            ),
            whose=False,
        )

    @precondition(lambda self: self.model.rows and not self.store.one_company)
    @rule(nth=these.nth)
    def close_as_another_company(self, nth: int) -> None:
        """One company names a ticket of the other."""
        row = self.row(nth)
        ref = 3 - row["company_id"], self.id_of(row)
        actual = self.outcome(lambda: self.done(lambda router: router.close(*ref)))

        assert actual == (TicketNotFoundError, "None", None)

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
        """The host closes a ticket by its status alone, which may be a final one."""
        active = self.active_rows()
        row = active[nth % len(active)]
        assert isinstance(self.store, Overwrites)
        words = sorted(self.model.words.known - self.model.words.active)
        status = words[nth % len(words)]
        closed: Row = row | {"id": self.id_of(row), "status": status}
        self.store.overwrite(Ticket(**closed))
        row |= {"status": status, "closed_at": self.model.last_change(row)}

    @precondition(lambda self: self.store.rolls_back)
    @rule(messages=st.lists(these.messages(), min_size=1, max_size=3), nth=these.nth)
    def the_host_rolls_back(self, messages: list[InboundMessage], nth: int) -> None:
        """The host rolls back what it has begun; for the model, nothing has happened."""
        with suppress(Undo), self.store.transaction() as repository:
            router = TicketRouter(repository, self.policy, clock=self.clock)
            with suppress(TicketRouterError):
                router.resolve_many([_here(self.store, message) for message in messages])
            if self.model.rows:
                row = self.row(nth)
                router.close(row["company_id"], self.id_of(row))
            raise Undo

    @rule(key=these.keys)
    def look(self, key: TicketKey) -> None:
        """The desk looks at a contact, and at a key."""
        key = _here(self.store, key)
        contact = key.company_id, key.contact_id
        self.same(lambda: self.model.active_of(key), lambda router: router.active_tickets(*contact))
        self.same(lambda: self.model.active(key), lambda router: router.find_active(key))

    # --- what is always true ---------------------------------------------------------------------------------

    @invariant()
    def every_row_is_as_foreseen(self) -> None:
        """No ticket is lost, none is there that nobody made, each says what the model says, each key has one active."""
        rows = self.rows()
        active = [_key(row) for row in rows if self.model.is_active(row)]

        assert _kept(self.store, self.model) == rows
        assert len(set(active)) == len(active)

    # --- what happens meanwhile --------------------------------------------------------------------------------

    def act(self, name: str, nth: int, message: InboundMessage, value: int) -> Act:
        """Return something that is done, to the nth row or to all of its contact or connection."""
        row = self.row(nth)
        company_id, number, ticket_id = row["company_id"], row["id"], self.id_of(row)
        moves = self.moves if name in MOVING else True
        stays = self.store.one_connection and name in {"transfer", "move_connection"}
        match name if moves and not stays else "receive":
            case "receive":
                return _receiving(attrs.evolve(message, message_id=None))
            case "merge_contacts" | "move_connection" as name:
                part = "contact_id" if name == "merge_contacts" else "connection_id"
                ids = row[part], 1 if row[part] != 1 else 2
                return (
                    lambda model: _without_plan(
                        lambda: model.move(part, company_id, *ids, OnCollision.KEEP_NEWEST)
                    ),
                    lambda router: _without_plan(lambda: getattr(router, name)(company_id, *ids)),
                )
            case "accept" if "user_id" in self.store.lacks:
                return self.act("close", nth, message, value)
            case "close as seen" if "updated_at" in self.store.lacks:
                return self.act("close", nth, message, value)
            case "close as seen":
                ticket = self.ticket_of(row)
                return (
                    lambda model: model.close(model.numbered(number), _row(ticket)),
                    lambda router: router.close(company_id, ticket_id, seen=ticket),
                )
            case _:
                values = () if name in {"close", "reopen"} else (value,)
                return (
                    lambda model: getattr(model, name)(model.numbered(number), *values),
                    lambda router: getattr(router, name)(company_id, ticket_id, *values),
                )

    def while_this_happens(self, ask: Act, act: Act) -> None:
        """Ask for one thing while another happens: it comes to the same as one after the other, in either order.

        Only what is active elsewhere may be as it was at the look: no lock holds what is merely reported.
        """
        foreseen: list[tuple[Any, Model]] = []
        # Where both orders look alike, what was asked for is written last: so its message id is where it is.
        for asked_first in (False, True):
            model = self.model.fork()
            told = [
                self.outcome(lambda one=one, model=model: one[0](model))  # type: ignore[misc]
                for one in ((ask, act) if asked_first else (act, ask))
            ]
            foreseen.append((told if asked_first else told[::-1], model))
        answers: list[Callable[[], Any]] = []
        with self.store.transaction() as repository:
            other = TicketRouter(repository, self.policy, clock=self.clock)
            meanwhile = Meanwhile(repository, lambda: answers.append(_answer(act[1], other)))
            router = TicketRouter(meanwhile, self.policy, clock=self.clock)
            answers.insert(0, _answer(ask[1], router))
        told = [self.outcome(answer) for answer in answers]
        rows = self.rows()
        possible = [
            model
            for expected, model in foreseen
            for at_the_look, _ in foreseen
            if (_reporting(expected, at_the_look), _kept(self.store, model)) == (told, rows)
        ]

        assert possible, f"told {told}, and not {[each for each, _ in foreseen]}, or left {rows}"
        self.model = possible[0]

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
            rule_of = str(getattr(error, "unique_rule", None))
            return type(error), rule_of, self.plain(getattr(error, "ticket", None)) if whose else None

    def plain(self, value: Any) -> Any:
        """Return rows for tickets, and copies of rows."""
        match value:
            case Ticket():
                return self.numbered(value)
            case dict():
                return _kept_of(self.store, value)  # pyright: ignore[reportUnknownArgumentType]
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
            row["closed_at"] = self.model.last_change(row)
        return _kept_of(self.store, row)

    def renumber(self, before: int, made: list[Any]) -> None:
        """Number the rows of a batch as the store did, which may make its tickets in an order of its own."""
        fresh = self.model.rows[before:]
        if len(made) != len(fresh):
            return  # a batch that was refused has gone one by one
        in_order = sorted(zip(made, fresh, strict=True), key=lambda each: id_order(each[0]))
        for number, (_, row) in enumerate(in_order, start=before + 1):
            row["id"] = number
        self.model.rows.sort(key=_number)

    def rows(self) -> list[Row]:
        """Return every row of the store, by number."""
        tickets = self.store.tickets()
        self.know(tickets)
        return sorted(map(self.numbered, tickets), key=_number)

    def ticket_of(self, row: Row) -> Ticket:
        """Return a row as the store has it."""
        ticket_id = self.id_of(row)
        with self.store.transaction() as repository:
            ticket = repository.get(row["company_id"], ticket_id)
        assert ticket is not None
        return ticket

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
        other_statuses: words that the scheme does not know, and which a row may have all the same.
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
    return attrs.asdict(ticket, recurse=False, filter=lambda field, _: bool(field.eq))


def _kept_of(store: Store, row: Row) -> Row:
    """Return a copy of a row, with what the store keeps of it."""
    return {field: value for field, value in row.items() if field not in store.lacks}


def _kept(store: Store, model: Model) -> list[Row]:
    """Return the rows of a model, with what the store keeps of them."""
    return [_kept_of(store, row) for row in model.rows]


def _only(store: Store) -> dict[str, Any]:
    """Return what there is only one of, and the number that it goes by."""
    there = {"company_id": store.one_company, "connection_id": store.one_connection}
    return {part: 1 for part, is_one in there.items() if is_one}


def _here(store: Store, place: _Place) -> _Place:
    """Return a key, or a message, where there is only one company, or connection, as one of that."""
    return attrs.evolve(place, **_only(store))


def _number(row: Row) -> int:
    number: int = row["id"]
    return number


def _key(row: Row) -> tuple[Any, Any, Any]:
    return row["company_id"], row["contact_id"], row["connection_id"]


_Told: TypeAlias = tuple[str, Ticket | None, tuple[Ticket, ...], str]


def _routed(resolution: Resolution) -> _Told:
    ticket = None if resolution.outcome is Outcome.IGNORED else resolution.ticket
    change = resolution.change
    told = "" if change is None else f"{change.old_status} to {change.new_status}"
    return str(resolution.outcome), ticket, resolution.other_active, told


def _receiving(message: InboundMessage) -> Act:
    def on_model(model: Model) -> Any:
        before = {row["id"]: row["status"] for row in model.rows}
        outcome, row = model.receive(message)
        told = "" if row is None or outcome == "duplicate" else f"{before.get(row['id'])} to {row['status']}"
        return outcome, row, model.elsewhere(message, row), told

    return on_model, lambda router: _routed(router.resolve(message))


def _rows(found: Ticket | tuple[Ticket, ...] | None) -> Any:
    match found:
        case None:
            return None
        case Ticket():
            return _row(found)
        case _:
            return [_row(ticket) for ticket in found]


def _nameless(routed: Any) -> Any:
    outcome, row, others, told = routed
    nobody: Row = {"id": None}
    return outcome, row and row | nobody, sorted((each | nobody for each in others), key=_key), told


def _answer(act: Callable[[TicketRouter], Any], router: TicketRouter) -> Callable[[], Any]:
    """Do something, and return what answers as it did: a ticket has its number after the commit only."""
    try:
        found = act(router)
    except TicketRouterError as error:
        refused = error

        def answer() -> Any:
            raise refused

        return answer
    return lambda: found


def _reporting(told: Any, other: Any) -> Any:
    """Return what was told, with what another order of events has active elsewhere."""
    match told, other:
        case [list([outcome, row, _, change]), act], [list([_, _, elsewhere, _]), _]:  # a refusal is a tuple
            return [[outcome, row, elsewhere, change], act]
        case _:
            return told


def _without_plan(move: Callable[[], object]) -> None:
    """Do a move; of several tickets in its way no store needs to name the same."""
    try:
        move()
    except BlockedBySchemaError as error:
        raise BlockedBySchemaError(None, error.unique_rule) from None


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
