"""What is of the wrong kind is refused with an error that says so, before anything is asked of a repository."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from typing import Any

import pytest

from tests.support.samples import a_ticket
from ticketrouter import AsyncTicketRouter, InboundMessage, InvalidMessageError, TicketRouter
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.testing import Blocking

# --- the other kind of repository -----------------------------------------------------------------------------


def test_an_asynchronous_repository_is_refused_by_the_synchronous_router() -> None:
    for _ in range(2):
        with pytest.raises(InvalidMessageError, match="its load is `async def`: use AsyncTicketRouter"):
            TicketRouter(AsyncInMemoryTicketRepository())  # type: ignore[arg-type]


def test_a_synchronous_repository_is_refused_by_the_asynchronous_router() -> None:
    TicketRouter(InMemoryTicketRepository())  # being known to the one makes it no friend of the other
    with pytest.raises(InvalidMessageError, match="its load is `def`: use TicketRouter"):
        AsyncTicketRouter(InMemoryTicketRepository())  # type: ignore[arg-type]


def test_what_the_kit_makes_of_an_asynchronous_repository_is_a_synchronous_one() -> None:
    TicketRouter(Blocking(AsyncInMemoryTicketRepository(), lambda coroutine: coroutine))


def test_a_wrapped_coroutine_is_one() -> None:
    """As a host's decorator leaves it, which measures or logs."""

    def measured(call: Any) -> Any:
        @wraps(call)
        def measuring(*args: Any) -> Any:
            return call(*args)

        return measuring

    class Measured(AsyncInMemoryTicketRepository):
        load = measured(AsyncInMemoryTicketRepository.load)

    AsyncTicketRouter(Measured())


# --- times whose zone does not work ---------------------------------------------------------------------------


class Zone(tzinfo):
    """A zone of somebody's own."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def utcoffset(self, when: datetime | None) -> Any:
        return self._answer()

    def dst(self, when: datetime | None) -> Any:
        return self._answer()

    def tzname(self, when: datetime | None) -> str:
        raise RuntimeError("a zone without a name")

    def __repr__(self) -> str:
        raise RuntimeError("a zone that cannot be shown")


def _fail() -> Any:
    raise RuntimeError("a zone that fails")


def _once() -> Callable[[], Any]:
    answers = iter([timedelta(0)])
    return lambda: next(answers)


BROKEN: dict[str, Callable[[], Any]] = {
    "raises": _fail,
    "None": lambda: None,
    "a number": lambda: 3600,
    "a text": lambda: "+01:00",
    "two days": lambda: timedelta(days=2),
}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _times() -> dict[str, datetime]:
    broken = {name: NOON.replace(tzinfo=Zone(answer)) for name, answer in BROKEN.items()}

    class Odd(datetime):
        def astimezone(self, tz: tzinfo | None = None) -> Any:
            return "noon"

    class Naive(datetime):
        def astimezone(self, tz: tzinfo | None = None) -> Any:
            return datetime.astimezone(self, tz).replace(tzinfo=None)

    odd = {kind.__name__: kind(2026, 1, 1, tzinfo=Zone(lambda: timedelta(hours=1))) for kind in (Odd, Naive)}
    return broken | {"once": NOON.replace(tzinfo=Zone(_once()))} | odd


TAKERS: dict[str, Callable[[datetime], object]] = {
    "sent_at": lambda time: InboundMessage(1, 1, 1, sent_at=time),
    "created_at": lambda time: a_ticket(created_at=time),
    "clock": lambda time: TicketRouter(InMemoryTicketRepository(), clock=lambda: time).resolve(
        InboundMessage(1, 1, 1)
    ),
    "before": lambda time: InMemoryTicketRepository().forget_messages(time),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize("broken", _times())
def test_a_zone_that_does_not_work_is_refused(take: Callable[[datetime], object], broken: str) -> None:
    """Whatever its code does: the error is ours, names the field, and can be printed."""
    with pytest.raises(InvalidMessageError, match="must be a datetime with a time zone") as refused:
        take(_times()[broken])

    assert repr(refused.value)


# --- arguments of other kinds -----------------------------------------------------------------------------------


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "tickets that are none": (lambda: InMemoryTicketRepository([1]), "tickets must be tickets"),  # type: ignore[list-item]
    "a ticket for tickets": (
        lambda: InMemoryTicketRepository(a_ticket()),  # type: ignore[arg-type]
        "tickets must be an iterable of tickets",
    ),
    "words for a scheme": (
        lambda: InMemoryTicketRepository(statuses={"open"}),  # type: ignore[arg-type]
        "statuses must be a StatusScheme",
    ),
    "a time for a clock": (
        lambda: TicketRouter(InMemoryTicketRepository(), clock=NOON),  # type: ignore[arg-type]
        "clock must be a function",
    ),
    "a time for an asynchronous clock": (
        lambda: AsyncTicketRouter(AsyncInMemoryTicketRepository(), clock=NOON),  # type: ignore[arg-type]
        "clock must be a function",
    ),
}


@pytest.mark.parametrize("make", WRONG)
def test_an_argument_of_another_kind_is_refused_at_once(make: str) -> None:
    wrong, told = WRONG[make]
    with pytest.raises(InvalidMessageError, match=told):
        wrong()
