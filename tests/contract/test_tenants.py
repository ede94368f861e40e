"""Two companies with equal ids in one table: whoever forges the other's ids learns nothing and changes nothing.

Law of this file: each forged call is made twice, with the id of the other company's ticket and with an id that
nobody has; both must end alike. The host's rows are looked at without the library's statements.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.backends import BACKENDS, ONE_PER_DATABASE, Backend, Databases, SqlStore, open_store
from tests.support.memory_store import MemoryStore
from ticketrouter import (
    InboundMessage,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
)
from ticketrouter.decisions import Accept, Close, ReopenTicket, Reuse, Transfer
from ticketrouter.errors import TicketRouterError
from ticketrouter.testing import Store

CANARY = "5511987654321"
"""A telephone number that both companies know: it may stand in no text."""
MESSAGE_IDS = ["wamid.canary-1", "wamid.canary-2"]
CONNECTIONS = [10, 13]
NOBODYS = 987_654
"""An id that no ticket has."""

companies = st.sampled_from([1, 2])
contacts = st.sampled_from([CANARY, f"{CANARY}@group"])
connections = st.sampled_from(CONNECTIONS)
acts_on_a_ticket: dict[str, Callable[[TicketRouter, Any, Any], object]] = {
    "accept": lambda router, company, ticket: router.accept(company, ticket, 7),
    "close": lambda router, company, ticket: router.close(company, ticket),
    "reopen": lambda router, company, ticket: router.reopen(company, ticket),
    "transfer": lambda router, company, ticket: router.transfer(company, ticket, 13),
}
"""Every call that takes the id of a ticket."""
acts_on_a_key: dict[str, Callable[[TicketRouter, TicketKey], object]] = {
    "open": lambda router, key: router.open(key),
    "ensure_can_open": lambda router, key: router.ensure_can_open(key),
    "find_active": lambda router, key: router.find_active(key),
    "active_tickets": lambda router, key: router.active_tickets(key.company_id, key.contact_id),
    "explain": lambda router, key: router.explain(message_of(key)),
    "resolve": lambda router, key: router.resolve(message_of(key)),
    "resolve_many": lambda router, key: router.resolve_many([message_of(key), message_of(key)]),
    "plan_merge_contacts": lambda router, key: router.plan_merge_contacts(
        key.company_id, key.contact_id, "nobody"
    ),
    "merge_contacts": lambda router, key: router.merge_contacts(key.company_id, key.contact_id, "nobody"),
    "plan_move_connection": lambda router, key: router.plan_move_connection(
        key.company_id, key.connection_id, 99
    ),
    "move_connection": lambda router, key: router.move_connection(key.company_id, key.connection_id, 99),
}
"""Every call that names a company and a contact of its own; the contact's id is the other company's too."""


def message_of(key: TicketKey, message_id: str | None = MESSAGE_IDS[0]) -> InboundMessage:
    return InboundMessage(key.company_id, key.contact_id, key.connection_id, message_id=message_id)


def shape(act: Callable[[], object], ticket_id: Any) -> tuple[object, ...]:
    """Return all that a caller can see of a refusal, with the id that was asked for left out."""
    try:
        done = act()
    except TicketRouterError as error:
        seen = [str(error), repr(error), str(error.args), str(vars(error))]
        told = [each.replace(repr(ticket_id), "?") for each in seen]
        return type(error), error.retryable, error.__cause__, error.__context__, *told
    return ("no error", done)


class Listener(logging.Handler):
    """Keeps what is logged, extras included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(f"{record.getMessage()} {record.__dict__}")


@contextmanager
def listening() -> Iterator[Listener]:
    """Hear everything that the library logs."""
    logger, listener = logging.getLogger("ticketrouter"), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield listener
    finally:
        logger.setLevel(level)
        logger.removeHandler(listener)


class Tenants(RuleBasedStateMachine):
    """Both companies live; now and then one of them asks for what is the other's."""

    new_store: ClassVar[Callable[[], Store]]

    @initialize(scope=st.sampled_from(Scope), reopen=st.sampled_from([Reopen.never(), Reopen.always()]))
    def begin(self, scope: Scope, reopen: Reopen) -> None:
        self.store = type(self).new_store()
        self.policy = Policy(scope=scope, reopen=reopen)
        self.listening = listening()
        self.listener = self.listening.__enter__()

    def teardown(self) -> None:
        if hasattr(self, "listening"):
            self.listening.__exit__(None, None, None)
            heard = "".join(self.listener.heard)
            assert CANARY not in heard
            assert not [each for each in MESSAGE_IDS if each in heard]

    def do(self, act: Callable[[TicketRouter], object]) -> object:
        """Run an act in a transaction of its own; a refusal of ours comes out after what was done is committed."""
        refused: TicketRouterError | None = None
        done: object = None
        with self.store.transaction() as repository:
            try:
                done = act(TicketRouter(repository, self.policy))
            except TicketRouterError as error:
                refused = error
        if refused is not None:
            assert CANARY not in str(refused) + repr(refused)
            assert not [each for each in MESSAGE_IDS if each in str(refused) + repr(refused)]
            raise refused
        return done

    def of(self, company_id: int) -> list[Ticket]:
        return [ticket for ticket in self.store.tickets() if ticket.company_id == company_id]

    @rule(
        company=companies,
        contact=contacts,
        connection=connections,
        message_id=st.none() | st.sampled_from(MESSAGE_IDS),
    )
    def a_message_arrives(self, company: int, contact: str, connection: int, message_id: str | None) -> None:
        message = InboundMessage(company, contact, connection, message_id=message_id)
        theirs = self.of(3 - company)
        resolution: Any = self.do(lambda router: router.resolve(message))

        assert company == resolution.ticket.company_id
        assert {company} >= {each.company_id for each in resolution.other_active}
        assert theirs == self.of(3 - company)

    @rule(company=companies, nth=st.integers(0, 5), act=st.sampled_from(sorted(acts_on_a_ticket)))
    def an_agent_acts(self, company: int, nth: int, act: str) -> None:
        own, theirs = self.of(company), self.of(3 - company)
        if own:
            ticket = own[nth % len(own)]
            shape(
                lambda: self.do(lambda router: acts_on_a_ticket[act](router, company, ticket.id)), ticket.id
            )

        assert theirs == self.of(3 - company)

    @rule(company=companies, nth=st.integers(0, 5), act=st.sampled_from(sorted(acts_on_a_ticket)))
    def somebody_forges_the_id_of_a_ticket(self, company: int, nth: int, act: str) -> None:
        before, theirs = self.store.tickets(), self.of(3 - company)
        if not theirs:
            return
        forged = theirs[nth % len(theirs)].id
        with_forged, with_nobodys = (
            shape(lambda t=number: self.do(lambda router: acts_on_a_ticket[act](router, company, t)), number)  # type: ignore[misc]
            for number in (forged, NOBODYS)
        )

        assert with_nobodys == with_forged
        assert TicketNotFoundError is with_forged[0]
        assert before == self.store.tickets()

    @rule(company=companies, nth=st.integers(0, 5))
    def somebody_forges_a_decision(self, company: int, nth: int) -> None:
        """A host that keeps a ticket as a value can change its company: the repository writes nothing all the same."""
        before, theirs = self.store.tickets(), self.of(3 - company)
        if not theirs:
            return
        seen = theirs[nth % len(theirs)]
        forged = evolve(seen, company_id=company)
        at = seen.updated_at
        for write in (
            Reuse(forged, at, Reason.ACTIVE_ON_CONNECTION),
            ReopenTicket(forged, at, Reason.WITHIN_REOPEN_WINDOW),
            Accept(forged, 7, at),
            Close(forged, at),
            Transfer(forged, 99, at),
        ):
            with self.store.transaction() as repository, pytest.raises(TicketRouterError):
                repository.commit(write)

        assert before == self.store.tickets()

    @rule(
        company=companies,
        contact=contacts,
        connection=connections,
        act=st.sampled_from(sorted(acts_on_a_key)),
    )
    def somebody_asks_about_a_contact_of_both(
        self, company: int, contact: str, connection: int, act: str
    ) -> None:
        theirs = self.of(3 - company)
        own = {ticket.id for ticket in self.of(company)}
        key = TicketKey(company, contact, connection)
        try:
            answer = str(self.do(lambda router: acts_on_a_key[act](router, key)))
        except TicketRouterError as error:
            answer = str(vars(error))

        assert f"company_id={3 - company}" not in answer
        assert theirs == self.of(3 - company)
        assert own <= {ticket.id for ticket in self.of(company)}

    @invariant()
    def no_key_has_two_active_tickets(self) -> None:
        if hasattr(self, "store"):
            keys = [t.key for t in self.store.tickets() if t.status in {"open", "pending"}]

            assert len(keys) == len(set(keys))


def test_every_call_of_the_router_is_forged_here() -> None:
    """A method that the machine does not know yet must be given a way in which a stranger would call it."""
    public = {name for name in vars(TicketRouter) if not name.startswith("_")}

    assert {*acts_on_a_ticket, *acts_on_a_key} == public


@pytest.mark.parametrize("backend", [BACKENDS[0], *ONE_PER_DATABASE], ids=lambda backend: backend.name)
def test_another_company_is_as_one_that_does_not_exist(databases: Databases, backend: Backend) -> None:
    """Forged ids give the error of an id that nobody has, change nothing, and no text tells a contact or a message id."""
    in_memory = backend.database == "memory"
    opened = None if in_memory else open_store(databases, backend)

    def new_store() -> Store:
        if opened is None:
            return MemoryStore(is_async=backend.is_async)
        assert isinstance(opened, SqlStore)
        opened.empty()
        return opened

    machine = type("Machine", (Tenants,), {"new_store": staticmethod(new_store)})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=settings().max_examples // (1 if in_memory else 6),
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[phase for phase in Phase if phase is not Phase.shrink],
            ),
        )
    finally:
        if isinstance(opened, SqlStore):
            opened.assert_no_leak()
            opened.dispose()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_message_id_of_another_company_is_new(store: Store) -> None:
    """The same message id at two companies is two messages."""
    with store.transaction() as repository:
        router = TicketRouter(repository)
        outcomes = [
            router.resolve(InboundMessage(company, CANARY, 10, message_id="m")).outcome
            for company in (1, 2, 1, 2)
        ]

    assert [Outcome.CREATED, Outcome.CREATED, Outcome.DUPLICATE, Outcome.DUPLICATE] == outcomes
