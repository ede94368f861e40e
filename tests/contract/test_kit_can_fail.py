"""The kit can fail: each of these repositories is wrong in one way, and the clause that it breaks is found out.

Law of this file: a wrong repository differs from a right one, which passes, by as little as makes it wrong.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import astuple, evolve, frozen
from sqlalchemy.exc import DBAPIError

from tests.support.backends import BACKENDS, Databases, SqlStore
from tests.support.memory_store import MemoryStore
from tests.support.races import set_rule
from tests.support.words import SLEEPERS, WORDS
from tests.support.wrong_in_memory import UNDER, WRONG
from tests.support.wrong_words import BY_CHANCE, WRONG_WORDS
from ticketrouter import ConflictError, StatusScheme, Ticket, TicketRouterError, UniqueRule
from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Join,
    Lookup,
    ReopenTicket,
    Reuse,
    Snapshot,
    Unread,
    Write,
)
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.model import bumped
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.testing import Store, TicketRepositoryContract
from ticketrouter.testing.concurrency import ConcurrentClauses
from ticketrouter.testing.many import ManyClauses
from ticketrouter.testing.samples import NOW
from ticketrouter.testing.words import WordsClauses

# --- the kit, run as pytest would run it -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def as_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pytest draw every difference in full, as it does in CI, so that a test that takes for ever to fail is found."""
    monkeypatch.setenv("CI", "true")


@frozen
class Found:
    """What a run of the kit has come to: the tests that passed and those that failed, with the clauses of each."""

    passed: dict[str, set[str]]
    failed: dict[str, set[str]]

    @property
    def broken(self) -> set[str]:
        """The clauses that some test has found broken."""
        return set().union(*self.failed.values())


def examine(
    kit: type,
    new_store: Callable[[], Store],
    only: str | None = None,
    reasons: Counter[str] | None = None,
) -> Found:
    """Run the tests of the kit, or those of one clause, each on a store of its own, and count why any is skipped."""
    found = Found({}, {})
    for name, test in sorted((name, test) for name, test in vars_of(kit).items() if name.startswith("test_")):
        clauses = set(re.findall(r"\bR\d+a?\b", (test.__doc__ or "").partition(":")[0]))
        if only is not None and only not in clauses:
            continue
        for values in parameters(test):
            store = new_store()
            try:
                test(kit(), store=store, **values)
            except pytest.skip.Exception as skip:
                if reasons is not None:
                    reasons[str(skip)] += 1
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
    """R1 to R12, each in the first words of at least one test, and by the number in its name."""
    tests = {name: test for name, test in vars_of(TicketRepositoryContract).items() if "test_r" in name}
    numbers = {match[1] for name in tests if (match := re.match(r"test_r(\d+a?)_", name))}

    assert {"1a", *(str(number) for number in range(1, 13))} <= numbers
    for name, test in tests.items():
        if match := re.match(r"test_r(\d+a?)_", name):
            assert f"R{match[1]}" in (test.__doc__ or "").partition(":")[0], name


def test_the_page_lists_every_wrong_repository() -> None:
    """Each with the place where it is run, and the clause that catches it."""
    page = Path(__file__).parents[2] / "docs/reference/testing.md"
    listed = re.findall(
        r"(?m)^\| ([a-z ]+) \| (memory|SQLite|PostgreSQL|MariaDB) \| (R\d+a?) \|$", page.read_text("utf-8")
    )
    place = {"sqlite": "SQLite", "psycopg": "PostgreSQL", "pymysql": "MariaDB"}

    assert listed == [
        *((in_words(kind), "memory", clause) for kind, clause in IN_MEMORY.items()),
        *((in_words(kind), "memory", clause) for kind, (clause, _) in WRONG_WORDS.items()),
        *((in_words(kind), "memory", clause) for kind, (clause, _) in JOINING_MANY.items()),
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
    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
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
    def _reopen(self, decision: ReopenTicket) -> Ticket:
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


class ClosesWhateverItIs(InMemoryTicketRepository):
    def _close(self, decision: Close) -> Ticket:
        return super()._close(evolve(decision, as_seen=False))


class ClosesByTheTimeAlone(InMemoryTicketRepository):
    def _close(self, decision: Close) -> Ticket:
        status = self._tickets[decision.ticket.id].status
        return super()._close(evolve(decision, ticket=evolve(decision.ticket, status=status)))


class ClosesByTheStatusAlone(InMemoryTicketRepository):
    def _close(self, decision: Close) -> Ticket:
        updated_at = self._tickets[decision.ticket.id].updated_at
        return super()._close(evolve(decision, ticket=evolve(decision.ticket, updated_at=updated_at)))


class ClosesWhatIsJoinedAtOnce(InMemoryTicketRepository):
    """It closes a ticket that a message has joined at the very time of its last change."""

    def _close(self, decision: Close) -> Ticket:
        more = decision.ticket.unread_messages + 1
        return super()._close(evolve(decision, ticket=evolve(decision.ticket, unread_messages=more)))


# --- ... in what they let join ---------------------------------------------------------------------------------


class JoinsUnasked(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, join=lookup.join or Join(NOW, Unread(add=1))))


class JoinsOnAnyConnection(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, join=None)).active_anywhere()
        return super().load(lookup if found is None else evolve(lookup, connection_id=found.connection_id))


class JoinsInAnyCompany(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        for ticket in self.tickets:
            if (ticket.contact_id, ticket.connection_id) == (lookup.contact_id, lookup.connection_id):
                return super().load(evolve(lookup, company_id=ticket.company_id))
        return super().load(lookup)


class JoinsClosedOnes(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        for ticket in self.tickets:
            is_here = (ticket.contact_id, ticket.connection_id) == (lookup.contact_id, lookup.connection_id)
            if lookup.join is not None and is_here and not self._is_active(ticket):
                return Snapshot(joined=self._put(evolve(ticket, updated_at=lookup.join.at)))
        return super().load(lookup)


class JoinsWithARecordedId(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        if lookup.join is None:
            return super().load(lookup)
        return super().load(evolve(lookup, message_id=None))


class JoinsAndRecordsNoId(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        if lookup.join is None:
            return super().load(lookup)
        return super().load(evolve(lookup, join=evolve(lookup.join, message_ref=None)))


class JoinsInSilence(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        super().load(lookup)
        return super().load(evolve(lookup, join=None))


class SaysThatItHasJoined(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return evolve(ticket, unread_messages=join.unread.after(ticket.unread_messages), updated_at=join.at)


class JoinsEveryTicketOfTheKey(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        for other in self.tickets:
            if other.key == ticket.key and other.id != ticket.id and self._is_active(other):
                super()._join(other, join)
        return super()._join(ticket, join)


class JoinsTheFirstOfTheKey(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return super()._join(next(each for each in self.tickets if each.key == ticket.key), join)


class JoinsAndIgnoresACountThatIsSet(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return super()._join(ticket, evolve(join, unread=evolve(join.unread, set_to=None)))


class AcceptsWhatIsJoined(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return self._put(evolve(super()._join(ticket, join), status=self.statuses.accepted))


class TakesTheAgentFromWhatIsJoined(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return self._put(evolve(super()._join(ticket, join), user_id=None))


class TakesWhatIsJoinedFromItsQueue(InMemoryTicketRepository):
    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return self._put(evolve(super()._join(ticket, join), queue_id=None))


class JoinsAndTellsOfOneOther(InMemoryTicketRepository):
    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(lookup)
        return evolve(found, active=found.active[:1]) if found.joined is not None else found


IN_MEMORY: dict[type[InMemoryTicketRepository], str] = {
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
    JoinsUnasked: "R1a",
    JoinsOnAnyConnection: "R1a",
    JoinsInAnyCompany: "R1a",
    JoinsClosedOnes: "R1a",
    JoinsWithARecordedId: "R1a",
    JoinsAndRecordsNoId: "R1a",
    JoinsInSilence: "R1a",
    SaysThatItHasJoined: "R1a",
    JoinsEveryTicketOfTheKey: "R1a",
    JoinsTheFirstOfTheKey: "R1a",
    JoinsAndIgnoresACountThatIsSet: "R1a",
    AcceptsWhatIsJoined: "R1a",
    TakesTheAgentFromWhatIsJoined: "R1a",
    TakesWhatIsJoinedFromItsQueue: "R1a",
    JoinsAndTellsOfOneOther: "R1a",
    **WRONG,
}


OF_SEVERAL = {JoinsEveryTicketOfTheKey, JoinsTheFirstOfTheKey}
"""Those that are wrong where a key has several active tickets, which no unique rule allows."""


class Memory(MemoryStore):
    """A memory of another kind."""

    def __init__(
        self,
        kind: type[InMemoryTicketRepository],
        unique_rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION,
        *,
        is_async: bool = False,
        statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
    ) -> None:
        super().__init__()
        self._sync = kind(unique_rule=unique_rule, statuses=statuses)
        if is_async:
            self._async = AsyncInMemoryTicketRepository()
            self._async._sync = self._sync


@pytest.mark.parametrize("rule", UniqueRule)
def test_the_right_one_in_memory_passes(rule: UniqueRule) -> None:
    """Every test that is not skipped passes on the repository that the wrong ones are made from."""
    found = examine(TicketRepositoryContract, lambda: Memory(InMemoryTicketRepository, rule))

    assert {} == found.failed
    assert len(found.passed) > 40


def test_every_clause_that_memory_can_break_is_broken_by_one() -> None:
    """R6, R11, R12: there is a transaction to be rolled back, or to be run again, on databases alone."""
    broken = {*IN_MEMORY.values(), *(case.clause for case in ON_DATABASES)}

    assert {"R1a", *(f"R{number}" for number in range(1, 13))} == broken


@pytest.mark.parametrize("kind", IN_MEMORY, ids=lambda kind: kind.__name__)
def test_a_wrong_one_in_memory_is_caught(kind: type[InMemoryTicketRepository]) -> None:
    """The clause that it breaks is among those that fail."""
    rule = UNDER.get(kind, UniqueRule.NONE if kind in OF_SEVERAL else UniqueRule.ACTIVE_PER_CONNECTION)
    found = examine(TicketRepositoryContract, lambda: Memory(kind, rule), IN_MEMORY[kind])

    assert found.failed


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (TakesTheLastWord, "test_the_desk_accepts_while_nobody_else_has"),
        (ClosesWhateverItIs, "test_the_desk_closes_no_ticket_that_has_changed_since"),
        (ClosesByTheTimeAlone, "test_the_desk_closes_no_ticket_that_has_changed_since"),
        (ClosesByTheStatusAlone, "test_the_desk_closes_no_ticket_that_has_changed_since"),
        (ClosesWhatIsJoinedAtOnce, "test_the_desk_closes_no_ticket_that_has_changed_since"),
    ],
)
def test_who_overwrites_another_is_caught(kind: type[InMemoryTicketRepository], test: str) -> None:
    """The duties of the desk have no number; their tests say by name what is broken."""
    found = examine(TicketRepositoryContract, lambda: Memory(kind))

    assert test in found.failed


# --- ... in what they take words for ---------------------------------------------------------------------------


def test_the_right_one_with_further_words_passes() -> None:
    """The whole contract, under schemes that have every sort of word: but for a rollback, no test about them is left out."""
    passed: set[str] = set()
    for rule, statuses in product(UniqueRule, (WORDS, SLEEPERS)):
        found = examine(
            TicketRepositoryContract, partial(Memory, InMemoryTicketRepository, rule, statuses=statuses)
        )
        assert {} == found.failed
        passed |= found.passed.keys()

    left_out = {name for name in vars_of(WordsClauses) if name.startswith("test_")} - passed
    assert left_out == {"test_r3_who_comes_second_wakes_what_the_first_leaves_asleep"}


@pytest.mark.parametrize("kind", WRONG_WORDS, ids=lambda kind: kind.__name__)
def test_one_that_takes_a_word_for_another_is_caught(kind: type[InMemoryTicketRepository]) -> None:
    """The tests of what it does wrong fail, and no other."""
    clause, tests = WRONG_WORDS[kind]
    found = examine(WordsClauses, lambda: Memory(kind, statuses=WORDS))

    assert tests == found.failed.keys() - BY_CHANCE
    assert clause in found.broken


# --- wrong ones in memory that let many join at once ----------------------------------------------------------------


def key_of(lookup: Lookup) -> tuple[Any, ...]:
    return lookup.company_id, lookup.contact_id, lookup.connection_id


class IgnoresACountThatIsSet(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([evolve(each, join=self._adding(each.join)) for each in lookups])

    @staticmethod
    def _adding(join: Join | None) -> Join | None:
        return None if join is None else evolve(join, unread=evolve(join.unread, set_to=None))


class CountsAKeyAsOneMessage(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        last = {key_of(each): each for each in lookups}
        found = {key: self.load(each) for key, each in last.items()}
        return [found[key_of(each)] for each in lookups]


class TellsTheLastStateForEachMessage(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        last = {key_of(lookup): each for lookup, each in zip(lookups, found, strict=True)}
        return [last[key_of(each)] for each in lookups]


class AcceptsWhatManyJoin(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return [self._accepted(each) for each in super().load_many(lookups) or ()]

    def _accepted(self, found: Snapshot) -> Snapshot:
        if found.joined is None:
            return found
        return evolve(found, joined=self._put(evolve(found.joined, status=self.statuses.accepted)))


class AnswersInTheOrderOfTheIds(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        tickets = [each.joined.id for each in found if each.joined is not None]
        joined = iter(sorted((each for each in found if each.joined), key=lambda each: str(each.joined.id)))  # type: ignore[union-attr]
        in_order = len(tickets) == len(set(tickets))
        return [next(joined) if each.joined and in_order else each for each in found]


class LeavesOutWhoMissed(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return [each for each in super().load_many(lookups) or () if each.joined is not None]


class JoinsTheOldestOfSeveral(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return [self._of_oldest(each) for each in lookups]

    def _of_oldest(self, lookup: Lookup) -> Snapshot:
        found = self.load(evolve(lookup, join=None))
        here = [ticket for ticket in found.active if ticket.connection_id == lookup.connection_id]
        if not here or lookup.join is None or found.routed is not None:
            return found
        oldest = min(here, key=lambda ticket: ticket.updated_at)
        return Snapshot(found.active_elsewhere(oldest.connection_id), joined=self._join(oldest, lookup.join))


class ForgetsTheCompanyOfABatch(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([self._somewhere(each) for each in lookups])

    def _somewhere(self, lookup: Lookup) -> Lookup:
        for ticket in self.tickets:
            if (ticket.contact_id, ticket.connection_id) == (lookup.contact_id, lookup.connection_id):
                return evolve(lookup, company_id=ticket.company_id) if self._is_active(ticket) else lookup
        return lookup


class TellsOneOfTheOthers(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        return [evolve(each, active=each.active[:1]) if each.joined else each for each in found]


class TellsNobodyOfTheOthers(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        return [evolve(each, active=()) if each.joined else each for each in found]


class JoinsWhateverTheContactHas(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([self._anywhere(each) for each in lookups])

    def _anywhere(self, lookup: Lookup) -> Lookup:
        found = self.load(evolve(lookup, join=None)).active_anywhere()
        return lookup if found is None else evolve(lookup, connection_id=found.connection_id)


class JoinsTheOthersOfWhoMissed(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        for lookup, each in zip(lookups, found, strict=True):
            for ticket in each.active:
                if (
                    each.joined is None
                    and lookup.join is not None
                    and ticket.connection_id != lookup.connection_id
                ):
                    self._join(ticket, lookup.join)
        return found


class JoinsClosedOnesToo(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        return [self._closed_too(*each) for each in zip(lookups, found, strict=True)]

    def _closed_too(self, lookup: Lookup, found: Snapshot) -> Snapshot:
        last = self.load(evolve(lookup, join=None, closed=True)).latest_closed
        if found.joined is not None or last is None or lookup.join is None:
            return found
        return Snapshot(joined=self._put(evolve(last, updated_at=lookup.join.at)))


class TellsNothingOfClosedOnes(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([evolve(each, closed=False) for each in lookups])


class TellsWhoMissedNothingOfTheOthers(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups) or []
        return [evolve(each, active=()) if each.joined is None else each for each in found]


class JoinsAndTellsNobody(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> None:
        super().load_many(lookups)


class JoinsManyUnasked(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        join = Join(NOW, Unread(add=1))
        return super().load_many([evolve(each, join=each.join or join) for each in lookups])


class JoinsManyWithTheirRecordedIds(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([evolve(each, message_id=None) for each in lookups])


class HandsOutTheSameTicketAgain(InMemoryTicketRepository):
    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return [self._alias(each) for each in super().load_many(lookups) or ()]

    def _alias(self, found: Snapshot) -> Snapshot:
        handed_out: dict[Any, Ticket] = vars(self).setdefault("handed_out", {})
        if (now := found.joined) is None:
            return found
        same = handed_out.setdefault((now.id, now.updated_at), evolve(now))
        object.__setattr__(same, "unread_messages", now.unread_messages)
        return evolve(found, joined=same)


class TiresOfJoining(InMemoryTicketRepository):
    left = 10

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("there is no unique constraint that matches")
        return super().load_many(lookups)


BY_MESSAGE = "test_r3_many_join_their_tickets_message_by_message"
IN_PLACE = "test_r3_each_message_is_answered_in_its_own_place"
NEWEST = "test_r1a_of_several_active_tickets_many_join_the_newest"
COMPANY = "test_r9_many_join_within_their_company"
WITH_IDS = "test_r8_many_join_with_their_message_ids_or_leave_them_free"
ELSEWHERE = "test_r1_many_are_told_what_their_contacts_have_elsewhere"
BESIDE = "test_r1a_many_meet_nothing_beside_their_keys"
NO_CLOSED = "test_r1a_many_meet_no_closed_ticket"
UNASKED = "test_r1a_many_who_may_not_join_do_not"
AS_LOADED = "test_r1_who_does_not_join_is_told_what_load_tells"
SNAPSHOTS = "test_r7_what_many_have_joined_are_snapshots"
ACCEPTED = "test_r10_a_batch_takes_the_winners_row_as_it_is"
CLOSED = "test_r3_a_batch_does_not_join_what_is_being_closed"
ROLLED_BACK = "test_r6_after_the_hosts_rollback_nothing_that_many_joined_remains"
REDELIVERED = "test_r12_no_redelivery_of_what_is_taken_back"
IGNORED = "test_r12_nothing_is_ignored_for_what_is_taken_back"
KEPT = "test_r12_no_wish_of_the_desk_is_fulfilled_by_what_is_taken_back"
MANY_TIMES = "test_many_join_many_times_on_one_connection"

JOINING_MANY: dict[type[InMemoryTicketRepository], tuple[str, set[str]]] = {
    IgnoresACountThatIsSet: ("R3", {BY_MESSAGE}),
    CountsAKeyAsOneMessage: ("R3", {BY_MESSAGE, NEWEST, WITH_IDS, ACCEPTED}),
    TellsTheLastStateForEachMessage: ("R3", {BY_MESSAGE, NEWEST, WITH_IDS, ACCEPTED}),
    AcceptsWhatManyJoin: ("R3", {BY_MESSAGE}),
    AnswersInTheOrderOfTheIds: ("R3", {IN_PLACE}),
    LeavesOutWhoMissed: ("R3", {IN_PLACE, BESIDE, NO_CLOSED, UNASKED, WITH_IDS, AS_LOADED, CLOSED}),
    JoinsTheOldestOfSeveral: ("R1a", {NEWEST}),
    ForgetsTheCompanyOfABatch: ("R9", {COMPANY, BESIDE}),
    TellsOneOfTheOthers: ("R1", {ELSEWHERE}),
    TellsNobodyOfTheOthers: ("R1", {ELSEWHERE}),
    JoinsWhateverTheContactHas: ("R1", {BESIDE, AS_LOADED, ELSEWHERE}),
    JoinsTheOthersOfWhoMissed: ("R1", {BESIDE, AS_LOADED}),
    JoinsClosedOnesToo: ("R3", {NO_CLOSED, AS_LOADED, CLOSED}),
    TellsNothingOfClosedOnes: ("R1", {AS_LOADED}),
    TellsWhoMissedNothingOfTheOthers: ("R1", {AS_LOADED, BESIDE}),
    JoinsAndTellsNobody: (
        "R3",
        {BY_MESSAGE, IN_PLACE, NEWEST, COMPANY, WITH_IDS, ELSEWHERE, NO_CLOSED, ACCEPTED},
    ),
    JoinsManyUnasked: ("R1a", {UNASKED}),
    JoinsManyWithTheirRecordedIds: ("R8", {WITH_IDS}),
    HandsOutTheSameTicketAgain: ("R7", {SNAPSHOTS, ACCEPTED}),
}


class Encounters(ConcurrentClauses, ManyClauses):
    """The clauses in which `load_many` itself, and a batch beside another transaction, are looked at."""


def examine_many(
    kind: type[InMemoryTicketRepository], kit: type = Encounters, *, is_async: bool = False
) -> Found:
    """Run the kit under the right unique rule and without one, where a key may have several active tickets."""
    rules = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
    found = [examine(kit, partial(Memory, kind, rule, is_async=is_async)) for rule in rules]
    return Found(*({**one, **other} for one, other in zip(astuple(found[0]), astuple(found[1]), strict=True)))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_right_one_that_lets_many_join_passes(is_async: bool) -> None:
    """Every test of the ability runs on it but those of a rollback, and passes, from asynchronous code too."""
    found = examine_many(InMemoryTicketRepository, TicketRepositoryContract, is_async=is_async)
    tests = {name for name in vars(ManyClauses) if name.startswith("test_") and "rollback" not in name}

    assert {} == found.failed
    assert tests <= found.passed.keys()


@pytest.mark.parametrize("kind", JOINING_MANY, ids=lambda kind: kind.__name__)
def test_a_wrong_one_that_lets_many_join_is_caught(kind: type[InMemoryTicketRepository]) -> None:
    """The tests of what it does wrong fail, and no other."""
    clause, tests = JOINING_MANY[kind]
    found = examine_many(kind)

    assert tests == found.failed.keys()
    assert clause in found.broken


def test_one_that_tires_is_caught() -> None:
    """What works a few times only has no number; the test says by name what is broken."""
    assert {MANY_TIMES} == examine_many(TiresOfJoining).failed.keys()


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

    def commit(self, decision: Write) -> Ticket:
        with bare():
            return super().commit(decision)


class LooksFirst(SQLAlchemyTicketRepository):
    """It lets nobody join while it looks, which would hide the faults of a look."""

    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, join=None))

    def load_many(self, lookups: Sequence[Lookup]) -> None:
        return None


class LocksTooLate(LooksFirst):
    """It looks, and only then keeps the others away."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, claim=False))
        if lookup.claim:
            super().load(lookup)
        return found


class AnswersByADirtyRead(LooksFirst):
    """It takes a message for a redelivery because of an id that another may take back."""

    def load(self, lookup: Lookup) -> Snapshot:
        seen = super().load(evolve(lookup, claim=False))
        return super().load(lookup) if seen.routed is None else seen


class IgnoresByADirtyRead(LooksFirst):
    """It has a message ignored because of a ticket that another may have closed or moved."""

    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, attaches=False))


class KeepsByADirtyRead(SQLAlchemyTicketRepository):
    """It does not say that what it reads of a ticket may be taken back."""

    reads_may_be_dirty = False


class WritesABatchInAnyOrder(SQLAlchemyTicketRepository):
    """It writes the tickets of a batch one by one, in no order that others keep to."""

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many([evolve(each, join=None) for each in lookups])

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        places = random.sample(range(len(joints)), len(joints))
        written = {
            place: super(WritesABatchInAnyOrder, self).commit_many([joints[place]]) for place in places
        }
        return [written[place][0] for place in range(len(joints))]


class JoinsABatchInAnyOrder(SQLAlchemyTicketRepository):
    """It lets the messages of a batch join one by one, in no order that others keep to."""

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        places = random.sample(range(len(lookups)), len(lookups))
        found = {place: super(JoinsABatchInAnyOrder, self).load_many([lookups[place]]) for place in places}
        return [(found[place] or [])[0] for place in range(len(lookups))]


class CommitsWhatManyJoin(SQLAlchemyTicketRepository):
    """It commits what the messages of a batch have joined, and begins a transaction of its own for the host to end."""

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        found = super().load_many(lookups)
        for statement in ("COMMIT", begin(self)):
            self._host.exec_driver_sql(statement)  # type: ignore[union-attr]
        return found


class JoinsWhatItHasSeen(SQLAlchemyTicketRepository):
    """It looks for the tickets of a batch, and then changes them whatever has become of them."""

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        if any(lookup.message_id is not None for lookup in lookups):
            return super().load_many(lookups)
        return [self._seen(lookup) for lookup in lookups]

    def _seen(self, lookup: Lookup) -> Snapshot:
        found = self.load(evolve(lookup, join=None, claim=False))
        here = [ticket for ticket in found.active if ticket.connection_id == lookup.connection_id]
        if not here or lookup.join is None:
            return found
        seen, join = here[0], lookup.join
        joined = bumped(seen, join.unread.after(seen.unread_messages), join.at)
        columns, table = self._mapping.columns, self._mapping.table
        changes = {columns[name]: getattr(joined, name) for name in ("unread_messages", "updated_at")}
        self._host.execute(table.update().where(columns["id"] == seen.id).values(changes))
        return Snapshot(found.active_elsewhere(seen.connection_id), joined=joined)


@frozen
class Case:
    """A wrong repository, the clause that it breaks, and where that shows: in one test alone, if that is named.

    Where no isolation is named it is the database's own.
    """

    kind: type[SQLAlchemyTicketRepository]
    clause: str
    backend: str
    rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION
    only: str | None = None
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
    Case(JoinsABatchInAnyOrder, "R11", "psycopg"),
    Case(CommitsWhatManyJoin, "R6", "psycopg", only=ROLLED_BACK),
    Case(JoinsWhatItHasSeen, "R3", "psycopg", only=CLOSED),
    Case(JoinsWhatItHasSeen, "R10", "psycopg", only=ACCEPTED),
    Case(LocksTooLate, "R2", "psycopg", UniqueRule.NONE),
    Case(AnswersByADirtyRead, "R12", "pymysql", only=REDELIVERED, isolation="READ UNCOMMITTED"),
    Case(IgnoresByADirtyRead, "R12", "pymysql", only=IGNORED, isolation="READ UNCOMMITTED"),
    Case(KeepsByADirtyRead, "R12", "pymysql", only=KEPT, isolation="READ UNCOMMITTED"),
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
    options = {} if case.isolation is None else {"isolation_level": case.isolation}
    store = Database(backend, databases.new(backend.database), mapping, **options)
    mapping.metadata.create_all(store.engine)
    with store.engine.begin() as connection:
        set_rule(connection, mapping, case.rule)
    yield store
    store.dispose()
    databases.drop(store.url)


@pytest.fixture(scope="module")
def right_ones() -> dict[Case, Found]:
    """What has come of the right repository, where the wrong ones are run."""
    return {}


@pytest.mark.parametrize("case", ON_DATABASES, ids=str)
def test_a_wrong_one_on_a_database_is_caught(
    database: Database, case: Case, right_ones: dict[Case, Found]
) -> None:
    """The right one passes the tests of the clause, and the wrong one does not."""
    kit = ConcurrentClauses if case.rule is UniqueRule.NONE else TicketRepositoryContract
    place = evolve(case, kind=Database.kind, only=None)
    right = right_ones[place] = right_ones.get(place) or examine(kit, lambda: database, case.clause)
    database.kind = case.kind
    wrong = examine(kit, lambda: database, case.clause)

    assert {} == right.failed
    assert right.passed
    assert case.clause in wrong.broken
    assert case.only is None or {case.only} == wrong.failed.keys()
