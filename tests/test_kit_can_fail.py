"""The kit can fail: each of these repositories is wrong in one way, and the clause that it breaks is found out.

Law of this file: a wrong repository differs from a right one, which passes, by as little as makes it wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from sqlalchemy.exc import DBAPIError

from tests.backends import BACKENDS, Databases, SqlStore
from tests.memory_store import MemoryStore
from tests.races import set_rule
from ticketrouter import ConflictError, Ticket, TicketRouterError, UniqueRule
from ticketrouter.batch import Joined, Joint, Run
from ticketrouter.checks import Id
from ticketrouter.lifecycle import Accept, Write
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.policy import Create, Lookup, Reopen, Reuse, Snapshot, Touch, Touched, touched
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract
from ticketrouter.testing.concurrency import ConcurrentClauses

# --- the kit, run as pytest would run it -----------------------------------------------------------------------


@frozen
class Found:
    """What a run of the kit has come to: the tests that passed and those that failed, with the clauses of each."""

    passed: dict[str, set[str]]
    failed: dict[str, set[str]]

    @property
    def broken(self) -> set[str]:
        """The clauses that some test has found broken."""
        return set().union(*self.failed.values())


def examine(kit: type, new_store: Callable[[], Store], only: str | None = None) -> Found:
    """Run the tests of the kit, or those of one clause, each on a store of its own."""
    found = Found({}, {})
    for name, test in sorted((name, test) for name, test in vars_of(kit).items() if name.startswith("test_")):
        clauses = set(re.findall(r"\bR\d+\b", (test.__doc__ or "").partition(":")[0]))
        if only is not None and only not in clauses:
            continue
        for values in parameters(test):
            store = new_store()
            try:
                test(kit(), store=store, **values)
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any failure is one
                found.failed[name] = clauses
            else:
                found.passed[name] = clauses
            finally:
                store.close()
    return found


def vars_of(kit: type) -> dict[str, Any]:
    return {name: getattr(kit, name) for name in dir(kit)}


def parameters(test: Any) -> Iterator[dict[str, Any]]:
    """List the arguments of every run of a parametrised test."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    for rows in product(*(mark.args[1] for mark in marks)):
        values: dict[str, Any] = {}
        for mark, row in zip(marks, rows, strict=True):
            names = mark.args[0]
            values |= {names: row} if isinstance(names, str) else dict(zip(names, row, strict=True))
        yield values


def test_the_kit_has_a_test_for_every_clause() -> None:
    """R1 to R11, each in the first words of at least one test, and by the number in its name."""
    tests = {name: test for name, test in vars_of(TicketRepositoryContract).items() if "test_r" in name}
    numbers = {match[1] for name in tests if (match := re.match(r"test_r(\d+)_", name))}

    assert {str(number) for number in range(1, 12)} <= numbers
    for name, test in tests.items():
        if match := re.match(r"test_r(\d+)_", name):
            assert f"R{match[1]}" in (test.__doc__ or "").partition(":")[0], name


def test_the_page_lists_every_wrong_repository() -> None:
    """Each with the place where it is run, and the clause that catches it."""
    page = Path(__file__).parent.parent / "docs/reference/testing.md"
    listed = re.findall(
        r"(?m)^\| ([a-z ]+) \| (memory|SQLite|PostgreSQL|MariaDB) \| (R\d+) \|$", page.read_text("utf-8")
    )
    place = {"sqlite": "SQLite", "psycopg": "PostgreSQL", "pymysql": "MariaDB"}

    assert listed == [
        *((in_words(kind), "memory", clause) for kind, clause in IN_MEMORY.items()),
        *((in_words(case.kind), place[case.backend], case.clause) for case in ON_DATABASES),
    ]


def in_words(kind: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()


# --- wrong ones in memory --------------------------------------------------------------------------------------


class ForgetsTheConnection(InMemoryTicketRepository):
    def _active_on(self, key: Any) -> Ticket | None:
        return next(iter(self._those(self._active_of, (key.company_id, key.contact_id))), None)


class ForgetsTheConnectionWhenItJoins(InMemoryTicketRepository):
    def _still(self, seen: Ticket, *, active: bool) -> Ticket:
        now = self._tickets.get(seen.id, seen)
        return super()._still(evolve(seen, connection_id=now.connection_id), active=active)


class ForgetsTheCompanyWhenItLooks(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        everybody = (ticket for ticket in self.tickets if ticket.contact_id == lookup.contact_id)
        found = super().load(lookup)
        return evolve(found, active=[t for t in everybody if self._is_active(t)])


class ForgetsTheCompanyWhenItGets(InMemoryTicketRepository):
    def get(self, company_id: Id, ticket_id: Id) -> Ticket | None:
        return self._tickets.get(ticket_id)


class ForgetsTheCompanyWhenItWrites(InMemoryTicketRepository):
    def _still(self, seen: Ticket, *, active: bool) -> Ticket:
        now = self._tickets.get(seen.id, seen)
        return super()._still(evolve(seen, company_id=now.company_id), active=active)


class FindsClosedOnes(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(lookup)
        last = [] if found.latest_closed is None else [found.latest_closed]
        return evolve(found, active=[*found.active, *last])


class JoinsAClosedTicket(InMemoryTicketRepository):
    def _reuse(self, decision: Reuse) -> Ticket:
        now = self._tickets[decision.ticket.id]
        unread = decision.unread.after(now.unread_messages)
        return self._put(evolve(now, unread_messages=unread, updated_at=decision.at))


class ReopensBesideAnother(InMemoryTicketRepository):
    def _reopen(self, decision: Reopen) -> Ticket:
        others = [t for t in self._tickets.values() if t.key == decision.ticket.key and self._is_active(t)]
        for other in others:
            self._put(evolve(other, status="closed"))
        made = super()._reopen(decision)
        for other in others:
            self._put(other)
        return made


class ResetsTheStatusOnConflict(InMemoryTicketRepository):
    def _create(self, decision: Create) -> Ticket:
        taken = self._active_on(decision.key)
        if taken is not None:
            return self._put(evolve(taken, status=self.statuses.initial, user_id=None))
        return super()._create(decision)


class SwallowsTheConflict(InMemoryTicketRepository):
    def _create(self, decision: Create) -> Ticket:
        return self._active_on(decision.key) or super()._create(decision)


class HasNoUniqueness(InMemoryTicketRepository):
    def _refuse_taken(self, key: Any, besides: Ticket | None = None) -> None:
        pass


class ClearsTheAgentOnReuse(InMemoryTicketRepository):
    def _reuse(self, decision: Reuse) -> Ticket:
        return self._put(evolve(super()._reuse(decision), user_id=None))


class WritesWhatItHasSeen(InMemoryTicketRepository):
    def _reuse(self, decision: Reuse) -> Ticket:
        self._still(decision.ticket, active=True)
        unread = decision.unread.after(decision.ticket.unread_messages)
        return self._put(evolve(decision.ticket, unread_messages=unread, updated_at=decision.at))


class Aliases(InMemoryTicketRepository):
    def _reuse(self, decision: Reuse) -> Ticket:
        now = self._still(decision.ticket, active=True)
        unread = decision.unread.after(now.unread_messages)
        object.__setattr__(now, "unread_messages", unread)
        object.__setattr__(now, "updated_at", decision.at)
        return now


class KnowsAMessageByItsIdAlone(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        known = {place[2]: to[0] for place, to in self._routed.items()}
        routed = known.get(lookup.message_id) if lookup.message_id is not None else None
        return evolve(super().load(lookup), routed=None if routed is None else self._tickets[routed])


class ForgetsEveryMessageId(InMemoryTicketRepository):
    def _recorded(self, ref: Any, write: Callable[[], Ticket]) -> Ticket:
        return write()


class RecordsWhatItDoesNotWrite(InMemoryTicketRepository):
    def _recorded(self, ref: Any, write: Callable[[], Ticket]) -> Ticket:
        try:
            return super()._recorded(ref, write)
        except ConflictError:
            if ref is not None:
                place = (ref.key.company_id, ref.key.connection_id, ref.message_id)
                self._routed.setdefault(place, (1, next(iter(self._tickets.values())).updated_at))
            raise


class TakesTheLastWord(InMemoryTicketRepository):
    def _accept(self, decision: Accept) -> Ticket:
        now = self._tickets[decision.ticket.id]
        return super()._accept(evolve(decision, ticket=now))


class TouchesWhateverTheContactHas(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        found = self.load(touch.lookup).active_anywhere()
        if found is None:
            return None
        return Touched(self.commit(touched(touch, Touched(found))))


class TouchesClosedOnes(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        for ticket in self.tickets:
            if ticket.key == touch.key and not self._is_active(ticket):
                return Touched(self._put(evolve(ticket, updated_at=touch.at)))
        return super().touch(touch)


class TouchesForARedelivery(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        return super().touch(evolve(touch, message_ref=None, message=evolve(touch.message, message_id=None)))


class TouchesAndTellsNobody(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        super().touch(touch)
        return None


IN_MEMORY: dict[type[InMemoryTicketRepository], str | None] = {
    ForgetsTheConnection: "R2",
    ForgetsTheConnectionWhenItJoins: "R3",
    ForgetsTheCompanyWhenItLooks: "R1",
    ForgetsTheCompanyWhenItGets: "R9",
    ForgetsTheCompanyWhenItWrites: "R9",
    FindsClosedOnes: "R1",
    JoinsAClosedTicket: "R3",
    ReopensBesideAnother: "R4",
    ResetsTheStatusOnConflict: "R10",
    SwallowsTheConflict: "R2",
    HasNoUniqueness: "R2",
    ClearsTheAgentOnReuse: "R3",
    WritesWhatItHasSeen: "R10",
    Aliases: "R7",
    KnowsAMessageByItsIdAlone: "R8",
    ForgetsEveryMessageId: "R8",
    RecordsWhatItDoesNotWrite: "R8",
    TouchesWhateverTheContactHas: "R1",
    TouchesClosedOnes: "R3",
    TouchesForARedelivery: "R8",
    TouchesAndTellsNobody: "R3",
}


class Memory(MemoryStore):
    """A memory of another kind."""

    def __init__(self, kind: type[InMemoryTicketRepository]) -> None:
        super().__init__()
        self._sync = kind()


def test_the_right_one_in_memory_passes() -> None:
    """Every test that is not skipped passes on the repository that the wrong ones are made from."""
    found = examine(TicketRepositoryContract, lambda: Memory(InMemoryTicketRepository))

    assert {} == found.failed
    assert len(found.passed) > 40


@pytest.mark.parametrize("kind", IN_MEMORY, ids=lambda kind: kind.__name__)
def test_a_wrong_one_in_memory_is_caught(kind: type[InMemoryTicketRepository]) -> None:
    """The clause that it breaks is among those that fail."""
    found = examine(TicketRepositoryContract, lambda: Memory(kind))

    assert IN_MEMORY[kind] in found.broken, sorted(found.failed)


def test_an_agent_who_overwrites_another_is_caught() -> None:
    """The duties of the desk have no number; their tests say by name what is broken."""
    found = examine(TicketRepositoryContract, lambda: Memory(TakesTheLastWord))

    assert "test_the_desk_accepts_while_nobody_else_has" in found.failed


# --- wrong ones on databases -----------------------------------------------------------------------------------


def begin(repository: SQLAlchemyTicketRepository) -> str:
    return "BEGIN IMMEDIATE" if repository._host.dialect.name == "sqlite" else "BEGIN"  # type: ignore[union-attr]


class Commits(SQLAlchemyTicketRepository):
    """It commits what it has written, and begins a transaction of its own for the host to end."""

    def commit(self, decision: Write) -> Ticket:
        ticket = super().commit(decision)
        for statement in ("COMMIT", begin(self)):
            self._host.exec_driver_sql(statement)  # type: ignore[union-attr]
        return ticket


class RollsBack(SQLAlchemyTicketRepository):
    """It cleans up after a conflict, and takes with it what the host has done before."""

    def commit(self, decision: Write) -> Ticket:
        try:
            return super().commit(decision)
        except ConflictError:
            for statement in ("ROLLBACK", begin(self)):
                self._host.exec_driver_sql(statement)  # type: ignore[union-attr]
            raise


@contextmanager
def bare() -> Iterator[None]:
    try:
        yield
    except TicketRouterError as error:
        if isinstance(error.__cause__, DBAPIError):
            raise error.__cause__ from None
        raise


class LeaksTheDriversError(SQLAlchemyTicketRepository):
    """It lets out what the driver says of a deadlock."""

    def load(self, lookup: Lookup) -> Snapshot:
        with bare():
            return super().load(lookup)

    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        with bare():
            return super().touch(touch)

    def commit(self, decision: Write) -> Ticket:
        with bare():
            return super().commit(decision)


class LocksTooLate(SQLAlchemyTicketRepository):
    """It looks, and only then keeps the others away."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, claim=False))
        if lookup.claim:
            super().load(lookup)
        return found


class ReadsAnOldSnapshot(SQLAlchemyTicketRepository):
    """It keeps the others away, and then believes a plain read of what was there before."""

    def load(self, lookup: Lookup) -> Snapshot:
        if lookup.claim:
            super().load(lookup)
        return super().load(evolve(lookup, claim=False, overtaken=False))


class WritesABatchInAnyOrder(SQLAlchemyTicketRepository):
    """It writes the tickets of a batch one by one, in no order that others keep to."""

    def touch_many(self, runs: Sequence[Run]) -> None:
        return None

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        places = random.sample(range(len(joints)), len(joints))
        written = {
            place: super(WritesABatchInAnyOrder, self).commit_many([joints[place]]) for place in places
        }
        return [written[place][0] for place in range(len(joints))]


class TouchesABatchInAnyOrder(SQLAlchemyTicketRepository):
    """It touches the tickets of a batch one by one, in no order that others keep to."""

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None]:
        places = random.sample(range(len(runs)), len(runs))
        met = {place: super(TouchesABatchInAnyOrder, self).touch_many([runs[place]]) for place in places}
        return [(met[place] or [None])[0] for place in range(len(runs))]


@frozen
class Case:
    """A wrong repository, the clause that it breaks, and where that shows."""

    kind: type[SQLAlchemyTicketRepository]
    clause: str
    backend: str
    rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION
    isolation: str | None = None

    def __str__(self) -> str:
        return f"{self.kind.__name__}-{self.backend}-{self.rule}"


ON_DATABASES = (
    Case(Commits, "R6", "sqlite"),
    Case(Commits, "R5", "psycopg"),
    Case(RollsBack, "R5", "sqlite"),
    Case(LeaksTheDriversError, "R11", "psycopg"),
    Case(LeaksTheDriversError, "R11", "pymysql"),
    Case(WritesABatchInAnyOrder, "R11", "psycopg"),
    Case(TouchesABatchInAnyOrder, "R11", "psycopg"),
    Case(LocksTooLate, "R2", "psycopg", UniqueRule.NONE),
    Case(ReadsAnOldSnapshot, "R10", "pymysql", UniqueRule.NONE),
)


class Database(SqlStore):
    """A database whose repository is of another kind; it is emptied instead of closed."""

    kind: type[SQLAlchemyTicketRepository] = SQLAlchemyTicketRepository

    def repository(self, host: Any) -> Any:
        return self.kind(host, self.mapping)

    def close(self) -> None:
        self.empty()


@pytest.fixture
def database(databases: Databases, case: Case) -> Iterator[Database]:
    """A database of its own with the unique rule of the case."""
    [backend] = [each for each in BACKENDS if each.name == case.backend]
    mapping = TicketMapping.own()
    store = Database(backend, databases.new(backend.database), mapping)
    mapping.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        set_rule(connection, mapping, case.rule)
    yield store
    store.dispose()
    databases.drop(store.url)


@pytest.mark.parametrize("case", ON_DATABASES, ids=str)
def test_a_wrong_one_on_a_database_is_caught(database: Database, case: Case) -> None:
    """The right one passes the tests of the clause, and the wrong one does not."""
    kit = ConcurrentClauses if case.rule is UniqueRule.NONE else TicketRepositoryContract
    right = examine(kit, lambda: database, case.clause)
    database.kind = case.kind
    wrong = examine(kit, lambda: database, case.clause)

    assert {} == right.failed
    assert right.passed
    assert case.clause in wrong.broken
