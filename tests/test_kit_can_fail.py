"""The kit can fail: each of these repositories is wrong in one way, and the clause that it breaks is found out.

Law of this file: a wrong repository differs from a right one, which passes, by as little as makes it wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import astuple, evolve, frozen
from sqlalchemy.exc import DBAPIError

from tests.backends import BACKENDS, Databases, SqlStore
from tests.memory_store import AsyncTouchesManyInMemory, MemoryStore, TouchesManyInMemory
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
from ticketrouter.testing.many import ManyClauses

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
        *((in_words(kind), "memory", clause) for kind, (clause, _) in TOUCHING_MANY.items()),
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


class TouchesAndIgnoresACountThatIsSet(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        return super().touch(evolve(touch, unread=evolve(touch.unread, set_to=None)))


class TouchesAndTellsTheOthersOldestFirst(InMemoryTicketRepository):
    def touch(self, touch: Touch) -> Touched | Snapshot | None:
        met = super().touch(touch)
        return evolve(met, other_active=met.other_active[::-1]) if isinstance(met, Touched) else met


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
    TouchesAndIgnoresACountThatIsSet: "R3",
    TouchesAndTellsTheOthersOldestFirst: "R3",
}


class Memory(MemoryStore):
    """A memory of another kind."""

    def __init__(
        self,
        kind: type[InMemoryTicketRepository],
        unique_rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION,
        *,
        is_async: bool = False,
    ) -> None:
        super().__init__()
        self._sync = kind(unique_rule=unique_rule)
        if is_async:
            assert isinstance(self._sync, TouchesManyInMemory)
            self._async = AsyncTouchesManyInMemory(self._sync)


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


# --- wrong ones in memory that touch many at once -----------------------------------------------------------------


class IgnoresACountThatIsSet(TouchesManyInMemory):
    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        steps = [evolve(step, set_to=None) for step in run.steps]
        return super()._steps(evolve(run, steps=steps), ticket)


class CountsARunAsOneMessage(TouchesManyInMemory):
    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        last = evolve(run, steps=run.steps[-1:], times=run.times[-1:])
        return super()._steps(last, ticket) * len(run.steps)


class TellsTheLastStateForEachMessage(TouchesManyInMemory):
    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        return super()._steps(run, ticket)[-1:] * len(run.steps)


class AcceptsWhatItTouches(TouchesManyInMemory):
    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        tickets = [evolve(each, status=self.statuses.accepted) for each in super()._steps(run, ticket)]
        self._put(tickets[-1])
        return tickets


class AnswersInTheOrderOfTheIds(TouchesManyInMemory):
    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        met = super().touch_many(runs)
        assert met is not None
        joined = iter(
            sorted((j for j in met if isinstance(j, Joined)), key=lambda each: str(each.tickets[0].id))
        )
        return [next(joined) if isinstance(each, Joined) else each for each in met]


class LeavesOutWhoMissed(TouchesManyInMemory):
    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        return [each for each in super().touch_many(runs) or () if isinstance(each, Joined)]


class JoinsTheOldestOfSeveral(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        found = self.load(Lookup(*run.key))
        here = [ticket for ticket in found.active if ticket.connection_id == run.key[2]]
        if not here:
            return super()._run(run)
        oldest = min(here, key=lambda ticket: ticket.updated_at)
        return Joined(self._steps(run, oldest), found.active_elsewhere(run.key[2]))


class ForgetsTheCompanyOfARun(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        for ticket in self.tickets:
            if (ticket.contact_id, ticket.connection_id) == run.key[1:] and self._is_active(ticket):
                return super()._run(evolve(run, key=(ticket.company_id, *run.key[1:])))
        return super()._run(run)


class TellsTheOthersOldestFirst(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        met = super()._run(run)
        return evolve(met, other_active=met.other_active[::-1]) if isinstance(met, Joined) else met


class TellsNobodyOfTheOthers(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        met = super()._run(run)
        return Joined(met.tickets) if isinstance(met, Joined) else met


class JoinsWhateverTheContactHas(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        found = self.load(Lookup(*run.key)).active_anywhere()
        return super()._run(run if found is None else evolve(run, key=(*run.key[:2], found.connection_id)))


class TouchesTheOthersOfWhoMissed(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        met = super()._run(run)
        if not isinstance(met, Joined):
            for ticket in self.load(Lookup(*run.key)).active:
                self._steps(run, ticket)
        return met


class JoinsClosedOnesToo(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        met = super()._run(run)
        last = self.load(Lookup(*run.key)).latest_closed
        if isinstance(met, Joined) or last is None:
            return met
        return Joined([self._put(evolve(last, updated_at=at)) for at in run.times])


class TellsNothingOfClosedOnes(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        return super()._run(evolve(run, closed=False))


class TellsWhoMissedNothingOfTheOthers(TouchesManyInMemory):
    def _run(self, run: Run) -> Joined | Snapshot | None:
        met = super()._run(run)
        return evolve(met, active=()) if isinstance(met, Snapshot) else met


class JoinsAndTellsNobody(TouchesManyInMemory):
    def touch_many(self, runs: Sequence[Run]) -> None:
        super().touch_many(runs)


class HandsOutTheSameListAgain(TouchesManyInMemory):
    def _steps(self, run: Run, ticket: Ticket) -> list[Ticket]:
        lists: dict[Id, list[Ticket]] = vars(self).setdefault("lists", {})
        handed_out = lists.setdefault(ticket.id, [])
        handed_out[:] = super()._steps(run, ticket)
        return handed_out


class TiresOfTouching(TouchesManyInMemory):
    left = 10

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("there is no unique constraint that matches")
        return super().touch_many(runs)


BY_MESSAGE = "test_r3_many_join_their_tickets_message_by_message"
IN_PLACE = "test_r3_each_run_is_answered_in_its_own_place"
NEWEST = "test_r1_of_several_active_tickets_many_join_the_newest"
COMPANY = "test_r9_many_join_within_their_company"
ELSEWHERE = "test_r1_many_are_told_what_their_contacts_have_elsewhere"
BESIDE = "test_r1_many_meet_nothing_beside_their_keys"
NO_CLOSED = "test_r3_many_meet_no_closed_ticket"
AS_LOADED = "test_r1_who_does_not_join_is_told_what_load_tells"
SNAPSHOTS = "test_r7_what_many_have_joined_are_snapshots"
ACCEPTED = "test_r10_a_batch_takes_the_winners_row_as_it_is"
CLOSED = "test_r3_a_batch_does_not_join_what_is_being_closed"
ROLLED_BACK = "test_r6_after_the_hosts_rollback_no_touch_of_many_remains"
MANY_TIMES = "test_many_touch_many_times_on_one_connection"

TOUCHING_MANY: dict[type[TouchesManyInMemory], tuple[str, set[str]]] = {
    IgnoresACountThatIsSet: ("R3", {BY_MESSAGE}),
    CountsARunAsOneMessage: ("R3", {BY_MESSAGE, NEWEST, ACCEPTED}),
    TellsTheLastStateForEachMessage: ("R3", {BY_MESSAGE, NEWEST, ACCEPTED}),
    AcceptsWhatItTouches: ("R3", {BY_MESSAGE}),
    AnswersInTheOrderOfTheIds: ("R3", {IN_PLACE}),
    LeavesOutWhoMissed: ("R3", {IN_PLACE, BESIDE, NO_CLOSED, AS_LOADED, CLOSED}),
    JoinsTheOldestOfSeveral: ("R1", {NEWEST}),
    ForgetsTheCompanyOfARun: ("R9", {COMPANY, BESIDE}),
    TellsTheOthersOldestFirst: ("R1", {ELSEWHERE}),
    TellsNobodyOfTheOthers: ("R1", {ELSEWHERE}),
    JoinsWhateverTheContactHas: ("R1", {BESIDE, AS_LOADED, ELSEWHERE}),
    TouchesTheOthersOfWhoMissed: ("R1", {BESIDE, AS_LOADED}),
    JoinsClosedOnesToo: ("R3", {NO_CLOSED, AS_LOADED, CLOSED}),
    TellsNothingOfClosedOnes: ("R1", {AS_LOADED}),
    TellsWhoMissedNothingOfTheOthers: ("R1", {AS_LOADED, BESIDE}),
    JoinsAndTellsNobody: ("R3", {BY_MESSAGE, IN_PLACE, NEWEST, COMPANY, ELSEWHERE, NO_CLOSED, ACCEPTED}),
    HandsOutTheSameListAgain: ("R7", {SNAPSHOTS}),
}


def examine_many(kind: type[TouchesManyInMemory], *, is_async: bool = False) -> Found:
    """Run the kit under the right unique rule and without one, where a key may have several active tickets."""
    rules = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
    found = [
        examine(TicketRepositoryContract, partial(Memory, kind, rule, is_async=is_async)) for rule in rules
    ]
    return Found(*({**one, **other} for one, other in zip(astuple(found[0]), astuple(found[1]), strict=True)))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_right_one_that_touches_many_passes(is_async: bool) -> None:
    """Every test of the ability runs on it but those of a rollback, and passes, from asynchronous code too."""
    found = examine_many(TouchesManyInMemory, is_async=is_async)
    tests = {name for name in vars(ManyClauses) if name.startswith("test_") and "rollback" not in name}

    assert {} == found.failed
    assert tests <= found.passed.keys()


@pytest.mark.parametrize("kind", TOUCHING_MANY, ids=lambda kind: kind.__name__)
def test_a_wrong_one_that_touches_many_is_caught(kind: type[TouchesManyInMemory]) -> None:
    """The tests of what it does wrong fail, and no other."""
    clause, tests = TOUCHING_MANY[kind]
    found = examine_many(kind)

    assert tests == found.failed.keys()
    assert clause in found.broken


def test_one_that_tires_is_caught() -> None:
    """What works a few times only has no number; the test says by name what is broken."""
    assert {MANY_TIMES} == examine_many(TiresOfTouching).failed.keys()


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


class LooksFirst(SQLAlchemyTicketRepository):
    """It has every message looked for by `load`, whose faults a `touch` that claims would hide."""

    def touch(self, touch: Touch) -> None:
        return None

    def touch_many(self, runs: Sequence[Run]) -> None:
        return None

    def load_many(self, lookups: Sequence[Lookup]) -> None:
        return None


class LocksTooLate(LooksFirst):
    """It looks, and only then keeps the others away."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, claim=False))
        if lookup.claim:
            super().load(lookup)
        return found


class ReadsAnOldSnapshot(LooksFirst):
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


class CommitsWhatManyTouch(SQLAlchemyTicketRepository):
    """It commits what a batch has touched, and begins a transaction of its own for the host to end."""

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None] | None:
        met = super().touch_many(runs)
        for statement in ("COMMIT", begin(self)):
            self._host.exec_driver_sql(statement)  # type: ignore[union-attr]
        return met


class TouchesWhatItHasSeen(SQLAlchemyTicketRepository):
    """It looks for the tickets of a batch, and then changes them whatever has become of them."""

    def touch_many(self, runs: Sequence[Run]) -> list[Joined | Snapshot | None]:
        return [self._run(run) for run in runs]

    def _run(self, run: Run) -> Joined | None:
        found = self.load(Lookup(*run.key))
        if (seen := found.active_on(run.key[2])) is None:
            return None
        tickets = [seen]
        for step, at in zip(run.steps, run.times, strict=True):
            count = step.after(tickets[-1].unread_messages)
            tickets.append(evolve(seen, unread_messages=count, updated_at=at))
        columns = self._mapping.columns
        changes = {columns[name]: getattr(tickets[-1], name) for name in ("unread_messages", "updated_at")}
        self._host.execute(self._mapping.table.update().where(columns["id"] == seen.id).values(changes))
        return Joined(tickets[1:], found.active_elsewhere(run.key[2]))


@frozen
class Case:
    """A wrong repository, the clause that it breaks, and where that shows: in one test alone, if that is named."""

    kind: type[SQLAlchemyTicketRepository]
    clause: str
    backend: str
    rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION
    only: str | None = None

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
    Case(CommitsWhatManyTouch, "R6", "psycopg", only=ROLLED_BACK),
    Case(TouchesWhatItHasSeen, "R3", "psycopg", only=CLOSED),
    Case(TouchesWhatItHasSeen, "R10", "psycopg", only=ACCEPTED),
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
    assert case.only is None or {case.only} == wrong.failed.keys()
