"""What each answer says has changed: an event as a value, for the host to tell after its commit."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest

from tests.support.routers import ROUTERS, Watched
from tests.support.samples import HOUR, KEY, NOW, a_closed_ticket, a_message, a_ticket
from tests.support.words import WORDS
from ticketrouter import Change, MessageKind, Policy, Reopen


@pytest.fixture(params=list(ROUTERS))
def route(request: pytest.FixtureRequest) -> Any:
    """Each router in turn, with a clock that stands still."""
    return partial(ROUTERS[request.param], clock=lambda: NOW)


def change(**differences: Any) -> Change:
    """Return what `a_ticket()` looks like where nothing has changed, but for the differences."""
    ticket = a_ticket()
    return attrs.evolve(Change.between(ticket, ticket), **differences)


NEW = {
    "created": True,
    "old_status": None,
    "old_connection_id": None,
    "new_user_id": None,
    "new_queue_id": None,
}
OF_NOBODY = {"old_user_id": None, "old_queue_id": None}


def test_a_new_ticket_had_nothing_before(route):
    """Created: no status, connection, agent or queue before."""
    actual = route(Watched()).resolve(a_message()).change

    assert change(new_status="pending", **NEW, **OF_NOBODY) == actual


def test_a_message_that_joins_changes_nothing_but_the_count(route):
    """Status, connection, agent and queue are the same before and after."""
    assert change() == route(Watched([a_ticket()])).resolve(a_message()).change


def test_a_message_that_wakes_tells_the_status_before(route):
    """Whatever else of the ticket was changed since it was seen has not been changed by the message."""
    router = route(Watched([a_ticket(status="snoozed")], statuses=WORDS))
    first, second, echo = (
        router.resolve(a_message(kind=kind)).change for kind in ("message", "message", "echo")
    )

    assert change(old_status="snoozed", new_status="open") == first
    assert change() == second == echo


def test_a_reopened_ticket_was_closed_and_had_an_agent(route):
    """What was before is told as it was seen."""
    policy = Policy(reopen=Reopen.within(2 * HOUR))

    actual = route(Watched([a_closed_ticket()]), policy).resolve(a_message()).change

    assert change(old_status="closed", new_status="pending", new_user_id=None) == actual


def test_what_has_no_effect_has_no_change(route):
    """Ignored messages and duplicates change nothing."""
    router = route(Watched())

    assert router.resolve(a_message(kind=MessageKind.NOTICE)).change is None
    first = router.resolve(a_message(message_id="m"))
    again = router.resolve(a_message(message_id="m"))
    assert first.change is not None
    assert again.change is None


@pytest.mark.parametrize(
    ("act", "ticket", "expected"),
    [
        (
            lambda router: router.accept(1, 7, 8),
            a_ticket(status="pending", user_id=None),
            change(old_status="pending", new_status="open", old_user_id=None, new_user_id=8),
        ),
        (lambda router: router.close(1, 7), a_ticket(), change(new_status="closed")),
        (
            lambda router: router.reopen(1, 7),
            a_closed_ticket(),
            change(old_status="closed", new_status="pending", new_user_id=None),
        ),
        (lambda router: router.transfer(1, 7, 200), a_ticket(), change(new_connection_id=200)),
        (
            lambda router: router.open(KEY, user_id=8, queue_id=9),
            None,
            change(**OF_NOBODY, **(NEW | {"new_user_id": 8, "new_queue_id": 9})),
        ),
    ],
    ids=["accept", "close", "reopen", "transfer", "open"],
)
def test_each_act_of_the_desk_says_what_it_changed(route, act, ticket, expected):
    """The returned ticket carries the change; the stored one does not."""
    repository = Watched([] if ticket is None else [ticket])

    actual = act(route(repository))

    assert expected == actual.change
    assert [None] == [stored.change for stored in repository.tickets]


@pytest.mark.parametrize(
    ("act", "ticket"),
    [
        (lambda router: router.accept(1, 7, 5), a_ticket()),
        (lambda router: router.close(1, 7), a_closed_ticket()),
        (lambda router: router.reopen(1, 7), a_ticket()),
        (lambda router: router.transfer(1, 7, KEY.connection_id), a_ticket()),
    ],
    ids=["accept", "close", "reopen", "transfer"],
)
def test_what_was_true_already_is_no_change(route, act, ticket):
    """An act that finds its wish fulfilled changes nothing, and says so."""
    assert act(route(Watched([ticket]))).change is None


def test_a_ticket_that_was_only_read_carries_no_change(route):
    """Looking changes nothing."""
    router = route(Watched([a_ticket()]))

    assert router.find_active(KEY).change is None


def test_the_change_has_no_part_in_equality(route):
    """Two snapshots of one state are equal, whichever call returned them."""
    router = route(Watched([a_ticket(status="pending", user_id=None)]))

    assert router.accept(1, 7, 8) == router.find_active(KEY)
