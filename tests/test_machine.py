"""The state machine of the core, on every back end: the same model, each operation in a transaction of its own.

The model of `tests/core/test_machine.py` counts its tickets from 1; here ids are translated by the order in which
tickets were made, since a database passes numbers over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from tests import strategies as these
from tests.backends import BACKENDS, Backend, Databases, MemoryStore, SqlStore, Store
from tests.core.test_machine import Desk, Model, Plan, plans
from tests.races import set_rule
from ticketrouter import InboundMessage, Policy, Resolution, Ticket, TicketKey, TicketRouter, UniqueRule
from ticketrouter.errors import TicketRouterError
from ticketrouter.sqlalchemy import TicketMapping


class RouterOfStore:
    """A router whose every call is a transaction of its own, and whose tickets are numbered from 1."""

    def __init__(self, store: Store, policy: Policy, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock

    @property
    def tickets(self) -> list[Ticket]:
        """Every ticket, in the order in which they were made."""
        rows = enumerate(self._store.tickets(), start=1)
        return [evolve(row, id=number, closed_at=_closing(row)) for number, row in rows]

    def resolve(self, message: InboundMessage) -> Resolution:
        return self._numbered(self._do(lambda router: router.resolve(message)))

    def resolve_many(self, messages: list[InboundMessage]) -> list[Resolution]:
        return [self._numbered(each) for each in self._do(lambda router: router.resolve_many(messages))]

    def open(self, key: TicketKey, **options: Any) -> Ticket:
        return self._own(self._do(lambda router: router.open(key, **options)))

    def accept(self, company_id: int, number: int, user_id: int) -> Ticket:
        ticket_id = self._id(number)
        return self._own(self._do(lambda router: router.accept(company_id, ticket_id, user_id)))

    def close(self, company_id: int, number: int) -> Ticket:
        ticket_id = self._id(number)
        return self._own(self._do(lambda router: router.close(company_id, ticket_id)))

    def reopen(self, company_id: int, number: int) -> Ticket:
        ticket_id = self._id(number)
        return self._own(self._do(lambda router: router.reopen(company_id, ticket_id)))

    def transfer(self, company_id: int, number: int, connection_id: int) -> Ticket:
        ticket_id = self._id(number)
        return self._own(self._do(lambda router: router.transfer(company_id, ticket_id, connection_id)))

    def find_active(self, key: TicketKey) -> Ticket | None:
        found = self._do(lambda router: router.find_active(key))
        return None if found is None else self._own(found)

    def active_tickets(self, company_id: int, contact_id: int) -> list[Ticket]:
        found = self._do(lambda router: router.active_tickets(company_id, contact_id))
        return [self._own(ticket) for ticket in found]

    def _do(self, act: Callable[[TicketRouter], Any]) -> Any:
        # A refusal of ours leaves the transaction usable: the host commits what it has done before.
        refused: TicketRouterError | None = None
        answer = None
        with self._store.transaction() as repository:
            try:
                answer = act(TicketRouter(repository, self._policy, clock=self._clock))
            except TicketRouterError as error:
                refused = error
        if refused is not None:
            ticket = getattr(refused, "ticket", None)
            if ticket is not None:
                refused.ticket = self._own(ticket)  # type: ignore[attr-defined]
            raise refused
        return answer

    def _numbers(self) -> dict[Any, int]:
        return {row.id: number for number, row in enumerate(self._store.tickets(), start=1)}

    def _id(self, number: int) -> Any:
        return self._store.tickets()[number - 1].id

    def _own(self, ticket: Ticket) -> Ticket:
        return evolve(ticket, id=self._numbers()[ticket.id])

    def _numbered(self, resolution: Resolution) -> Resolution:
        if resolution._ticket is None:
            return resolution
        return Resolution(resolution.outcome, resolution.reason, (), self._own(resolution.ticket))


def _closing(row: Ticket) -> datetime | None:
    active = row.status in {"open", "pending"}
    return None if active else row.closed_at or row.updated_at


class DeskOfStore(Desk):
    """The same rules and invariants; only what stands behind the router is another."""

    new_store: ClassVar[Callable[[UniqueRule], Store]]
    store: Store

    @initialize(unique_rule=these.unique_rules, direct=plans, groups=plans)
    def begin(self, unique_rule: UniqueRule, direct: Plan, groups: Plan) -> None:
        self.model = Model(direct, groups, unique_rule.value, [])
        self.store = type(self).new_store(unique_rule)
        policy = direct.policy(groups.policy())
        self.router = RouterOfStore(self.store, policy, lambda: self.model.now)  # type: ignore[assignment]
        self.repository = self.router  # type: ignore[assignment]

    @precondition(lambda self: any(row["status"] in {"open", "pending"} for row in self.model.rows))
    @rule(nth=these.nth)
    def the_host_closes_behind_our_back(self, nth: int) -> None:
        active = [row for row in self.model.rows if row["status"] in {"open", "pending"}]
        row = active[nth % len(active)]
        self.store.close_behind(self.store.tickets()[row["id"] - 1])
        row |= {"status": "closed", "closed_at": row["updated_at"]}


def open_stores(databases: Databases, backend: Backend) -> Callable[[UniqueRule], Store]:
    """Return what gives an empty store of a back end under a unique rule, each opened once."""
    opened: dict[UniqueRule, SqlStore] = {}

    def new_store(unique_rule: UniqueRule) -> Store:
        if backend.database == "memory":
            return MemoryStore(backend, unique_rule=unique_rule)
        if unique_rule not in opened:
            mapping = TicketMapping.own()
            store = opened[unique_rule] = SqlStore(backend, databases.new(backend.database), mapping)
            mapping.metadata.create_all(store.engine)
            with store.engine.begin() as connection:
                set_rule(connection, mapping, unique_rule)
        opened[unique_rule].empty()
        return opened[unique_rule]

    new_store.opened = opened  # type: ignore[attr-defined]
    return new_store


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_every_back_end_agrees_with_the_model(databases: Databases, backend: Backend) -> None:
    """Any sequence of operations, under any unique rule and policy, ends as the model says."""
    new_store = open_stores(databases, backend)
    machine = type("Machine", (DeskOfStore,), {"new_store": staticmethod(new_store)})
    examples = settings().max_examples // (1 if backend.database == "memory" else 3)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=max(examples, 5),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                # Shrinking over a database may take minutes: the failing sequence as it was found is enough.
                phases=[phase for phase in Phase if phase is not Phase.shrink],
            ),
        )
    finally:
        for store in new_store.opened.values():  # type: ignore[attr-defined]
            store.assert_no_leak()
            store.dispose()
