"""What is explored: a few operations at once, from a few tickets, on memory or on a model of a database.

Law of this file: an operation is what a user calls; what it must have come to is not written down per scenario but
asked of the library itself, run one operation after another: every schedule must end as one of those does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, TypeAlias

from attrs import define, field, frozen

from tests.support.interleavings.database import Database, Level, Row, Transaction
from tests.support.interleavings.explorer import Explored, Pause, Task, World, explore
from tests.support.interleavings.repository import Care, ModelRepository, unique_value
from ticketrouter import (
    AsyncTicketRouter,
    ContentionError,
    InboundMessage,
    Policy,
    Reopen,
    Resolution,
    Ticket,
    TicketKey,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.moves import MovePlan

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
COMPANY, CONTACT, OTHER, HERE, THERE = 1, 10, 20, 100, 200
RESTARTS = 8
"""How often a host runs a unit of work again before that counts as never ending."""

Do: TypeAlias = Callable[[AsyncTicketRouter], Awaitable[Resolution | Ticket | MovePlan]]


@frozen
class Operation:
    """What one user does in a transaction of its own."""

    name: str
    do: Do = field(eq=False)
    counts: bool = False
    """Whether it adds one unread message, provided it is no duplicate."""


def message(connection: int = HERE, message_id: str | None = None, contact: int = CONTACT) -> Operation:
    """A message of the contact."""
    inbound = InboundMessage(COMPANY, contact, connection, message_id=message_id)
    name = "message" if message_id is None else f"delivery of {message_id}"
    name += "" if connection == HERE else " elsewhere"
    name += "" if contact == CONTACT else " of the other contact"
    return Operation(name, lambda router: router.resolve(inbound), counts=True)


def close() -> Operation:
    return Operation("close", lambda router: router.close(COMPANY, 1))


def accept(user: int) -> Operation:
    return Operation(f"accept by {user}", lambda router: router.accept(COMPANY, 1, user))


def reopen() -> Operation:
    return Operation("reopen", lambda router: router.reopen(COMPANY, 1))


def transfer() -> Operation:
    return Operation("transfer", lambda router: router.transfer(COMPANY, 1, THERE))


def merge() -> Operation:
    """The contact turns out to be the other one."""
    return Operation("merge", lambda router: router.merge_contacts(COMPANY, CONTACT, OTHER))


def move() -> Operation:
    """The contact's connection is replaced by another one."""
    return Operation("move", lambda router: router.move_connection(COMPANY, HERE, THERE))


def begin(user: int) -> Operation:
    """An agent begins a conversation."""
    key = TicketKey(COMPANY, CONTACT, HERE)
    return Operation(f"open by {user}", lambda router: router.open(key, user_id=user))


def ticket(status: str = "pending", **changes: Any) -> Ticket:
    """The ticket that is there before."""
    closed = {"closed_at": NOW - timedelta(hours=1)} if status == "closed" else {}
    fields: dict[str, Any] = {
        "id": 1,
        "company_id": COMPANY,
        "contact_id": CONTACT,
        "connection_id": HERE,
        "status": status,
        "is_group": False,
        "unread_messages": 0,
        "user_id": None,
        "queue_id": None,
        "created_at": NOW - timedelta(days=1),
        "updated_at": NOW - timedelta(hours=1),
    }
    return Ticket(**(fields | closed | changes))


@frozen
class Scenario:
    """Operations that happen at the same time."""

    operations: tuple[Operation, ...]
    before: tuple[Ticket, ...] = ()
    policy: Policy = field(factory=Policy)

    def __str__(self) -> str:
        begun = "".join(f" on a{'n open' if t.status != 'closed' else ' closed'} ticket" for t in self.before)
        return " / ".join(operation.name for operation in self.operations) + begun


OPEN, CLOSED = (ticket(),), (ticket("closed"),)
SCENARIOS = (
    Scenario((message(), message(), message())),
    Scenario((message(), message(), close()), OPEN),
    Scenario((message(), message(), close()), OPEN, Policy(reopen=Reopen.always())),
    Scenario((message(message_id="m"), message(message_id="m"), message())),
    Scenario((message(message_id="m"), message(message_id="m"), message()), OPEN),
    Scenario((message(message_id="m"), message(message_id="m"), close()), OPEN),
    Scenario((message(), transfer(), message()), OPEN),
    Scenario((message(), transfer(), message(THERE)), OPEN),
    Scenario((message(), message(THERE), message(THERE))),
    Scenario((accept(1), accept(2), close()), OPEN),
    Scenario((reopen(), message(), close()), CLOSED),
    Scenario((reopen(), message(), message()), CLOSED, Policy(reopen=Reopen.always())),
    Scenario((reopen(), transfer(), message(THERE)), OPEN),
    Scenario((begin(1), begin(2), message())),
    Scenario((begin(1), message(), close()), OPEN),
)


TWO_CONTACTS = (ticket(), ticket(id=2, contact_id=OTHER, updated_at=NOW - timedelta(hours=2)))
TWO_CONNECTIONS = (ticket(), ticket(id=2, connection_id=THERE))
MOVES = (
    Scenario((merge(), message(), message(contact=OTHER)), OPEN),
    Scenario((merge(), message(), message(contact=OTHER)), TWO_CONTACTS),
    Scenario((merge(), message(), close()), TWO_CONTACTS),
    Scenario((merge(), message(), transfer()), TWO_CONTACTS),
    Scenario((merge(), message(message_id="m"), message(message_id="m")), TWO_CONTACTS),
    Scenario((move(), message(), message(THERE)), OPEN),
    Scenario((move(), message(), message(THERE)), TWO_CONNECTIONS),
    Scenario((move(), message(message_id="m"), message(THERE, message_id="m")), TWO_CONNECTIONS),
    Scenario((move(), merge(), message()), TWO_CONNECTIONS),
)
"""Merges and moves."""


class DeadlockError(ContentionError):
    """The victim's answer."""


@frozen
class Told:
    """What an operation came to, without the ids that depend on who was first."""

    what: str
    ticket_id: Hashable = None


@define(eq=False)
class Desk:
    """The world that is explored: the operations of a scenario as tasks, over one store."""

    scenario: Scenario
    tasks: list[Task]
    tickets: Callable[[], list[Ticket]]
    state: Callable[[], Hashable]
    allowed: frozenset[Hashable] | None = None

    def deadlock(self) -> Exception:
        return DeadlockError("deadlock")

    def check(self) -> None:
        active = Counter(t.key for t in self.tickets() if t.status != "closed")
        twice = [key.connection_id for key, count in active.items() if count > 1]
        assert not twice, f"two active tickets on connection {twice[0]}"

    def check_end(self) -> None:
        unread = sum(t.unread_messages for t in self.tickets())
        counted = sum(
            operation.counts and task.result.what != "duplicate"  # type: ignore[attr-defined]
            for operation, task in zip(self.scenario.operations, self.tasks, strict=True)
        )
        # What a move closes has its count still, and is counted by the ticket that is kept for it, too.
        begun = sum(t.unread_messages for t in self.tickets() if t.status != "closed")
        moves = any(operation.name in {"merge", "move"} for operation in self.scenario.operations)
        right = begun <= counted <= unread if moves else unread == counted
        assert right, f"{counted} messages and {unread} of them counted, {begun} where they are not closed"
        if self.allowed is not None:
            assert self.end() in self.allowed, f"no order one after another ends so: {self.end()}"

    def end(self) -> Hashable:
        """Return what all came to: each answer, and each ticket with who was answered with it."""
        answers = tuple(task.result.what for task in self.tasks)  # type: ignore[attr-defined]
        tickets = Counter(
            (
                each.contact_id,
                each.connection_id,
                each.status,
                each.unread_messages,
                each.user_id,
                tuple(task.result.ticket_id == each.id for task in self.tasks),  # type: ignore[attr-defined]
            )
            for each in self.tickets()
        )
        return answers, frozenset(tickets.items())


# --- over memory ---------------------------------------------------------------------------------------------


class Stepping:
    """Any synchronous repository as an asynchronous one: each call is a step, and its answer is noted."""

    def __init__(self, repository: Any, seen: list[Hashable]) -> None:
        self._repository = repository
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._repository, name)
        if not callable(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            await Pause()
            try:
                answer = found(*args, **options)
            except TicketRouterError as error:
                self._seen.append(str(error))
                raise
            self._seen.append(answer)
            return answer

        return call


def memory(
    scenario: Scenario, kind: type[InMemoryTicketRepository] = InMemoryTicketRepository, attempts: int = 3
) -> Callable[[], Desk]:
    """Return what makes the world of a scenario over the in-memory repository."""

    def start() -> Desk:
        repository = kind(scenario.before, next_id=3)
        tasks = []
        for operation in scenario.operations:
            seen: list[Hashable] = []
            router = AsyncTicketRouter(
                Stepping(repository, seen), scenario.policy, clock=lambda: NOW, attempts=attempts
            )
            tasks.append(Task(operation.name, _told(operation, router), seen))

        def state() -> Hashable:
            return tuple(repository.tickets), tuple(repository._routed.items()), repository._next_id

        return Desk(scenario, tasks, lambda: repository.tickets, state)

    return start


async def _told(operation: Operation, router: AsyncTicketRouter) -> Hashable:
    try:
        answer = await operation.do(router)
    except TicketRouterError as error:
        if error.retryable:
            raise
        return Told(type(error).__name__)
    if isinstance(answer, Ticket):
        return Told("done", answer.id)
    if isinstance(answer, MovePlan):
        return Told("moved")
    return Told(answer.outcome, answer.ticket.id)


# --- over a model of a database ------------------------------------------------------------------------------


@frozen
class Model:
    """An isolation level, a unique rule, when the snapshot is taken, and what the repository takes care of."""

    level: Level
    rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION
    old: bool = False
    """The host has read something first, so that its snapshot is older than the library's first statement."""
    care: Care = field(factory=Care)

    def __str__(self) -> str:
        lock = ", advisory lock" if self.care.advisory else ""
        return f"{self.level}, {self.rule}{lock}, {'old' if self.old else 'fresh'}"


MODELS = (
    *(
        Model(level, rule, old)
        for level in Level
        for rule in (UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE)
        for old in (False, True)
        if level.keeps_snapshot or not old
    ),
)


def modelled(scenario: Scenario, model: Model, attempts: int = 8) -> Callable[[], Desk]:
    """Return what makes the world of a scenario over a model."""

    def start() -> Desk:
        database = Database(model.level, unique_value(model.rule, model.care), next_id=3)
        database.rows |= {("tickets", each.id): Row(each, "before") for each in scenario.before}
        tasks = []
        for n, operation in enumerate(scenario.operations):
            seen: list[Hashable] = []
            work = _unit_of_work(operation, scenario.policy, database, model, n, seen, attempts)
            tasks.append(Task(operation.name, work, seen))

        def tickets() -> list[Ticket]:
            return [row.value for (table, _), row in database.rows.items() if table == "tickets"]

        return Desk(scenario, tasks, tickets, database.state)

    return start


async def _unit_of_work(
    operation: Operation,
    policy: Policy,
    database: Database,
    model: Model,
    task: int,
    seen: list[Hashable],
    attempts: int,
) -> Hashable:
    """Do what a host does: begin, ask, commit; where the error says so, roll back and run it all again."""
    for attempt in range(RESTARTS):
        transaction = Transaction(database, task, attempt, seen)
        repository = ModelRepository(transaction, model.rule, model.care)
        router = AsyncTicketRouter(repository, policy, clock=lambda: NOW, attempts=attempts)
        try:
            await transaction.begin(look=model.old)
            told = await _told(operation, router)
            await transaction.commit()
        except ContentionError as error:
            transaction.rollback()
            if isinstance(error, DeadlockError):
                await _back_off(database, seen)
        else:
            return told
    raise AssertionError(f"{RESTARTS} restarts were not enough")


async def _back_off(database: Database, seen: list[Hashable]) -> None:
    """Wait, as a host should, until somebody else is through: at once, it would be in the same deadlock again."""
    others = list(database.live.values())
    seen.append(("backs off", tuple((other.task, other.attempt) for other in others)))
    await Pause(is_free=lambda: any(database.live.get(other.task) is not other for other in others))


# --- exploring -----------------------------------------------------------------------------------------------


def explored(
    scenario: Scenario,
    make: Callable[[Scenario], Callable[[], Desk]],
    judge: Callable[[Scenario], Callable[[], Desk]] | None = None,
) -> Explored:
    """Explore a scenario, every schedule held against what it comes to one after another.

    Args:
        scenario: what happens.
        make: makes the world.
        judge: makes the one in which the operations run one after another, if that is another.
    """
    allowed = frozenset(_one_after_another(scenario, (judge or make)(scenario)))
    make_again = make(scenario)

    def start() -> World:
        desk = make_again()
        desk.allowed = allowed
        return desk

    return explore(start)


def _one_after_another(scenario: Scenario, start: Callable[[], Desk]) -> Iterable[Hashable]:
    for order in permutations(range(len(scenario.operations))):
        desk = start()
        for n in order:
            while not desk.tasks[n].done:
                desk.tasks[n].step()
        yield desk.end()
