"""A run, on a store that is told what to refuse."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ticketrouter import InboundMessage, Outcome, Resolution, TicketRouter, TicketRouterError
from ticketrouter.cli.items import Bad, Item, Message, Place, Skipped
from ticketrouter.cli.run import BadLineError, Run
from ticketrouter.cli.source import Located
from ticketrouter.cli.tally import Tally
from ticketrouter.memory import InMemoryTicketRepository


class Store:
    """Routes in memory; a transaction with a refused message leaves nothing behind."""

    def __init__(self, *refused: str) -> None:
        self.refused = frozenset(refused)
        self.transactions: list[list[object]] = []
        self._router = TicketRouter(InMemoryTicketRepository())

    def route(self, messages: Sequence[InboundMessage]) -> list[Resolution]:
        for message in messages:
            if message.message_id in self.refused:
                raise TicketRouterError("there is no room")
        self.transactions.append([message.message_id for message in messages])
        return self._router.resolve_many(messages)


class Shown:
    """What a run has printed."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []


def stream(*items: str | Item) -> list[Located]:
    return [
        Located(
            Place("log", number),
            Message(InboundMessage(1, "ana", 10, message_id=item)) if isinstance(item, str) else item,
        )
        for number, item in enumerate(items, start=1)
    ]


def made(store: Store, shown: Shown, *, batch: int = 1, strict: bool = False) -> Run:
    return Run(
        route_all=store.route,
        render=lambda message, _: str(message.message_id),
        out=shown.out.append,
        complain=shown.err.append,
        batch=batch,
        strict=strict,
    )


BROKEN = Bad("colour", "red", "is no field")


def test_each_message_has_a_transaction_of_its_own():
    """Without --batch every message is committed before the next one is looked at."""
    store, shown = Store(), Shown()

    made(store, shown).feed(stream("a", "b", "c"))

    assert store.transactions == [["a"], ["b"], ["c"]]
    assert shown.out == ["a", "b", "c"]


def test_a_batch_shares_a_transaction():
    """N messages share one; what is left over at the end is a smaller batch."""
    store, shown = Store(), Shown()

    made(store, shown, batch=2).feed(stream("a", Skipped("statuses"), "b", BROKEN, "c"))

    assert store.transactions == [["a", "b"], ["c"]]


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_a_message_that_cannot_be_routed_is_a_bad_line(batch):
    """It names place, field and value; the others of its batch are routed, in their order."""
    store, shown = Store("b"), Shown()
    run = made(store, shown, batch=batch)

    run.feed(stream("a", "b", "c", "d"))

    assert "\n".join(shown.out).split() == ["a", "c", "d"]
    assert shown.err == ["log:2: message_id 'b' cannot be routed: there is no room"]
    assert (run.tally.messages, run.tally.bad_lines) == (3, 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_bad_line_does_not_stop_the_run(batch):
    """It is counted and told; what stands around it is routed."""
    store, shown = Store(), Shown()
    run = made(store, shown, batch=batch)

    run.feed(stream("a", BROKEN, "b"))

    assert "\n".join(shown.out).split() == ["a", "b"]
    assert shown.err == ["log:2: colour is no field"]
    assert run.tally.bad_lines == 1


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("bad", [BROKEN, "refused"])
def test_a_strict_run_ends_at_the_first_bad_line(batch, bad):
    """What stood before the bad line is routed, nothing after it."""
    store, shown = Store("refused"), Shown()

    with pytest.raises(BadLineError):
        made(store, shown, batch=batch, strict=True).feed(stream("a", "b", bad, "c", BROKEN))

    assert "\n".join(shown.out).split() == ["a", "b"]
    assert len(shown.err) == 1


def test_outcomes_are_counted():
    """Every outcome is counted, and what was skipped by its name."""
    run = made(Store(), Shown())

    run.feed(stream("a", "b", "b", Skipped("statuses", 2), Skipped("field x"), Skipped("statuses")))

    assert run.tally.outcomes == {Outcome.CREATED: 1, Outcome.REUSED: 1, Outcome.DUPLICATE: 1}
    assert run.tally.skipped == {"statuses": 3, "field x": 1}


def test_names_from_outside_cannot_fill_the_memory():
    """However many names a stream has, the tally keeps a few and counts the others together."""
    tally = Tally()

    for number in range(10_000):
        tally.skip(Skipped(f"field {number}"))

    assert len(tally.skipped) < 50
    assert tally.skipped.total() == 10_000
