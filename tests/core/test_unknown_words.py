"""Status words that the scheme does not know: never reopened by a message, told once, and explained."""

from __future__ import annotations

import asyncio
import logging
from threading import Barrier, Thread

import pytest

from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
from ticketrouter import (
    AsyncTicketRouter,
    BlockedBySchemaError,
    Outcome,
    Policy,
    Reopen,
    Scope,
    StatusScheme,
    Ticket,
    TicketRouter,
    UniqueRule,
    log,
)
from ticketrouter.decisions import Lookup
from ticketrouter.explain import Explanation
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository

STRANGE = a_closed_ticket(9, status="waiting_vendor", closed_at=NOW - HOUR)
OLD = a_closed_ticket(8, closed_at=NOW - 3 * HOUR)
OLDER = a_closed_ticket(7, closed_at=NOW - 9 * HOUR)
ALWAYS = Policy(reopen=Reopen.always(keep_user=True))


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_told", set())


def a_router(*tickets: Ticket, policy: Policy = ALWAYS, **options: object) -> TicketRouter:
    return TicketRouter(InMemoryTicketRepository(tickets, **options), policy, clock=lambda: NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", Scope)
def test_a_ticket_of_an_unknown_word_is_left_alone(scope: Scope) -> None:
    """The message gets a new ticket, and the other one keeps its status and its agent."""
    repository = InMemoryTicketRepository([STRANGE])
    policy = Policy(scope, Reopen.always())
    made = TicketRouter(repository, policy, clock=lambda: NOW).resolve(a_message())

    assert made.outcome is Outcome.CREATED
    assert [STRANGE, made.ticket] == sorted(repository.tickets, key=lambda ticket: ticket.id != STRANGE.id)


def test_an_older_one_of_a_known_word_is_reopened_inside_the_window() -> None:
    """What is unknown does not hide what is known: the newest of those, and only where the window reaches it."""
    found = {
        hours: a_router(STRANGE, OLDER, OLD, policy=Policy(reopen=Reopen.within(hours * HOUR)))
        for hours in (2, 3)
    }
    made = {hours: router.resolve(a_message()) for hours, router in found.items()}

    assert {2: Outcome.CREATED, 3: Outcome.REOPENED} == {hours: each.outcome for hours, each in made.items()}
    assert made[3].ticket.id == OLD.id


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_many_messages_leave_it_alone_too(together: bool) -> None:
    """A batch decides as one message does, of several contacts."""
    others = [a_closed_ticket(number, contact_id=number, status="rating") for number in (20, 21)]
    router = a_router(STRANGE, OLD, *others)
    messages = [a_message(), a_message(contact_id=20), a_message(contact_id=21)]
    made = router.resolve_many(messages) if together else [router.resolve(each) for each in messages]

    assert [Outcome.REOPENED, Outcome.CREATED, Outcome.CREATED] == [each.outcome for each in made]
    assert made[0].ticket.id == OLD.id


@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT], ids=str)
def test_a_row_in_the_way_of_an_unknown_word_blocks(rule: UniqueRule) -> None:
    """There is no room for another, and this one is not reopened: not by a message, a batch, or the wish for a new one."""
    router = a_router(STRANGE, unique_rule=rule)
    acts = (
        lambda: router.resolve(a_message()),
        lambda: router.resolve_many([a_message(contact_id=5), a_message()]),
        lambda: router.open(KEY),
        lambda: router.ensure_can_open(KEY),
    )
    for act in acts:
        with pytest.raises(BlockedBySchemaError) as caught:
            act()

        assert (STRANGE, rule, False) == (
            caught.value.ticket,
            caught.value.unique_rule,
            caught.value.retryable,
        )


def test_the_desk_reopens_it_by_its_id() -> None:
    """Who names the ticket knows what its word means; closed it stays closed, and is not accepted."""
    router = a_router(STRANGE)
    kept = router.close(1, STRANGE.id)
    made = router.reopen(1, STRANGE.id)

    assert (STRANGE, "pending", "waiting_vendor") == (
        kept,
        made.status,
        made.change and made.change.old_status,
    )


def test_a_word_that_the_host_has_named_is_as_the_one_that_closing_gives() -> None:
    """With also_closed it is reopened, by the window, of one message and of many."""
    statuses = StatusScheme(also_closed={"waiting_vendor"})
    alone = a_router(STRANGE, OLD, statuses=statuses).resolve(a_message())
    together = a_router(STRANGE, OLD, statuses=statuses).resolve_many([a_message(), a_message(contact_id=5)])

    assert alone.ticket.id == together[0].ticket.id == STRANGE.id


def test_load_finds_the_newest_that_may_be_reopened_and_reports_the_other() -> None:
    """Where the newest is known, nothing is reported: an older unknown one is no matter."""
    newer = a_closed_ticket(10, closed_at=NOW)
    with_unknown = InMemoryTicketRepository([OLD, STRANGE, OLDER]).load(Lookup.at(KEY))
    with_known = InMemoryTicketRepository([OLD, STRANGE, newer]).load(Lookup.at(KEY))
    alone = InMemoryTicketRepository([STRANGE]).load(Lookup.at(KEY))

    assert (OLD, STRANGE) == (with_unknown.latest_closed, with_unknown.unknown)
    assert (newer, None) == (with_known.latest_closed, with_known.unknown)
    assert (None, STRANGE) == (alone.latest_closed, alone.unknown)


# --- told once ------------------------------------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def test_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A process warns of each word and table once, with the word, the table, and what to do."""
    for word in ("waiting_vendor", "rating", "waiting_vendor"):
        a_router(a_closed_ticket(9, status=word)).resolve_many([a_message(), a_message(contact_id=5)])
    found = [(record.__dict__["status"], record.__dict__["table"]) for record in warnings(caplog)]

    assert [("waiting_vendor", "memory"), ("rating", "memory")] == found
    assert "'waiting_vendor' in memory; its tickets count as closed" in warnings(caplog)[0].getMessage()
    assert "StatusScheme(also_closed=...)" in warnings(caplog)[0].getMessage()


def test_a_row_in_the_way_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    """It is met, though nothing closed is looked for."""
    with pytest.raises(BlockedBySchemaError):
        a_router(STRANGE, unique_rule=UniqueRule.ONE_PER_CONTACT, policy=Policy()).resolve(
            a_message(connection_id=5)
        )

    assert ["waiting_vendor"] == [record.__dict__["status"] for record in warnings(caplog)]


@pytest.mark.parametrize(
    "tickets",
    [
        pytest.param((OLD, OLDER), id="closed"),
        pytest.param((a_ticket(), STRANGE), id="an active one is met first"),
        pytest.param((a_closed_ticket(10, closed_at=NOW), STRANGE), id="a newer one is known"),
    ],
)
def test_nothing_is_told_where_nothing_unknown_is_met(
    tickets: tuple[Ticket, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The words of the scheme are no news."""
    a_router(*tickets).resolve(a_message())

    assert warnings(caplog) == []


def test_many_threads_tell_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """Those who meet it at the same time tell it once together."""
    start = Barrier(8)

    def meet() -> None:
        start.wait()
        log.tell_unknown("rating", "tickets")

    threads = [Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(warnings(caplog)) == 1


def test_ever_other_words_fill_neither_the_memory_nor_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Where a column is filled with what is no status, telling ends."""
    for number in range(log._MOST_TOLD + 50):
        log.tell_unknown(str(number), "tickets")

    assert log._MOST_TOLD == len(warnings(caplog)) == len(log._told)


def test_a_word_that_only_the_database_knows_is_told_as_what_it_is_taken_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its tickets are active, which the line says."""
    log.tell_unknown("OPEN", "tickets", taken_for="open")

    assert "takes it for 'open', so its tickets are active" in warnings(caplog)[0].getMessage()


# --- explained ------------------------------------------------------------------------------------------------


def told(found: Explanation) -> list[str]:
    return [f"{other.change}: {other.answer}" for other in found.alternatives]


def test_explain_says_what_naming_the_word_would_change() -> None:
    """The ticket is among the facts, and the two things that its word may mean among the alternatives."""
    found = a_router(STRANGE).explain(a_message())

    assert (STRANGE, None) == (found.facts.unknown, found.facts.latest_closed)
    assert str(found.answer) == "created, no_active_ticket"
    assert [
        "a scheme whose active words have 'waiting_vendor' (ticket 9): reused, active_on_connection (ticket 9)",
        "a scheme whose closed words have 'waiting_vendor' (ticket 9): reopened, within_reopen_window (ticket 9)",
    ] == told(found)


def test_explain_says_it_of_a_row_in_the_way() -> None:
    """Where the row blocks, a scheme that knows its word would not."""
    found = a_router(STRANGE, unique_rule=UniqueRule.ONE_PER_CONNECTION, policy=Policy()).explain(a_message())

    assert str(found.answer) == "refused by the unique rule (ticket 9)"
    assert [
        "a unique rule on active tickets per connection: created, no_active_ticket",
        "a scheme whose active words have 'waiting_vendor' (ticket 9): reused, active_on_connection (ticket 9)",
        "a scheme whose closed words have 'waiting_vendor' (ticket 9): reopened, only_ticket_allowed (ticket 9)",
    ] == [each for each in told(found) if "always" not in each]


def test_the_asynchronous_router_has_the_same_words() -> None:
    """It decides and explains by the words of its repository."""
    statuses = StatusScheme(also_closed={"waiting_vendor"})
    router = AsyncTicketRouter(
        AsyncInMemoryTicketRepository([STRANGE], statuses=statuses), ALWAYS, clock=lambda: NOW
    )
    found = asyncio.run(router.explain(a_message()))
    made = asyncio.run(router.resolve(a_message()))

    assert str(found.answer) == "reopened, within_reopen_window (ticket 9)"
    assert (Outcome.REOPENED, STRANGE.id) == (made.outcome, made.ticket.id)
