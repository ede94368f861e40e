"""The client processes, and the turns that they take.

Law of this file: a turn lasts a fraction of a second, and everybody has one before anybody has the next. What is
timed is the sending alone: connections are open, statements are warm, arrivals are drawn before. Processor time
is the client's own, without the server's.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from itertools import count
from multiprocessing.connection import Connection as Pipe
from typing import Any

from attrs import Factory, define, frozen
from sqlalchemy import URL

from benchmarks.cells import CONNECTION, FIRST_CONTACT, Arrival, Cell
from benchmarks.contenders import Send, factory_of, is_async
from benchmarks.profiling import Spent, profile

WARMING = 12
"""Messages that a contender routes before its first turn: drivers prepare a statement after some uses."""
NOTICE = 0.004
"""How long before a turn its clients are told, in seconds, so that they begin together."""


@frozen
class Turn:
    """What one client did in one turn."""

    begun: float
    ended: float
    processor: float
    took: list[float]
    """Seconds for each message, or for each batch, that got through."""
    failures: int = 0
    failure: str = ""


@define
class Tally:
    """What a cell's clients did in all turns."""

    rates: list[float] = Factory(list)
    """Messages a second, of all clients together, turn by turn."""
    processor: list[float] = Factory(list)
    """Seconds of the clients' processors for each message, turn by turn."""
    took: list[float] = Factory(list)
    failures: int = 0
    failure: str = ""

    def add(self, turns: list[Turn], batch: float) -> None:
        """Add one turn of every client."""
        messages = batch * sum(len(turn.took) for turn in turns)
        self.failures += sum(turn.failures for turn in turns)
        self.failure = next((turn.failure for turn in turns if turn.failure), self.failure)
        elapsed = max(turn.ended for turn in turns) - min(turn.begun for turn in turns)
        self.rates.append(messages / elapsed)
        if messages:
            self.processor.append(sum(turn.processor for turn in turns) / messages)
        for turn in turns:
            self.took += turn.took


# --- one client -----------------------------------------------------------------------------------------------


class Client:
    """Opens contenders when they are first asked for, and keeps them open."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._chance = random.Random(number)
        self._new = count(FIRST_CONTACT + 10**9 * (number + 1))
        self._sends: dict[Cell, Send] = {}
        self._rates: dict[Cell, float] = {}
        self._open, self._open_async = ExitStack(), AsyncExitStack()
        self._runner = asyncio.Runner()

    def prepare(self, cell: Cell, url: URL) -> None:
        """Open and warm the contender of a cell."""
        if cell.way in self._sends:
            return
        if is_async(cell):
            entered = self._open_async.enter_async_context(factory_of(cell)(cell, url))
            send = self._runner.run(entered)
        else:
            send = self._open.enter_context(factory_of(cell)(cell, url))
        self._sends[cell.way] = send
        self.drive(cell, self.arrivals(cell, WARMING), until=time.perf_counter() + 60)

    def arrivals(self, cell: Cell, number: int) -> list[Any]:
        """Draw arrivals: of the share `reuse` the contact has an active ticket, whichever; the others are new."""
        if cell.batch is None:
            return [self._arrival(cell) for _ in range(number)]
        return [[self._arrival(cell) for _ in range(cell.batch)] for _ in range(-(-number // cell.batch))]

    def _arrival(self, cell: Cell) -> Arrival:
        fresh = next(self._new)
        known = self._chance.random() < cell.reuse
        contact = FIRST_CONTACT + self._chance.randrange(cell.stand.contacts) if known else fresh
        return Arrival(contact, CONNECTION, f"wamid.{self._number}.{fresh}" if cell.message_ids else None)

    def expected(self, cell: Cell, seconds: float) -> int:
        """Guess how many messages a turn needs, from the turn before; too few end it early, which is no error."""
        return int(self._rates.get(cell, 1_000.0) * seconds * 1.5) + 10

    def drive(self, cell: Cell, arrivals: list[Any], *, until: float) -> Turn:
        """Send arrivals until they or the time are at their end."""
        send = self._sends[cell.way]
        if is_async(cell):
            turn = self._runner.run(_drive_async(send, arrivals, until))
        else:
            turn = _drive(send, arrivals, until)
        self._rates[cell] = len(turn.took) * (cell.batch or 1) / (turn.ended - turn.begun or 1.0)
        return turn

    def close(self) -> None:
        """Close every contender."""
        self._open.close()
        self._runner.run(self._open_async.aclose())
        self._runner.close()
        self._runner = asyncio.Runner()  # which has no loop before it is used
        self._sends.clear()
        self._rates.clear()


def _drive(send: Callable[[Any], Any], arrivals: Iterable[Any], until: float) -> Turn:
    clock, took, failures, failure = time.perf_counter, [], 0, ""
    processor, begun = time.process_time(), clock()
    last = begun
    for arrival in arrivals:
        try:
            send(arrival)
        except Exception as error:  # noqa: BLE001 - whatever a contender could not do is told in the report
            failures, failure = failures + 1, repr(error)
        else:
            took.append(clock() - last)
        last = clock()
        if last >= until:
            break
    return Turn(begun, last, time.process_time() - processor, took, failures, failure)


async def _drive_async(send: Callable[[Any], Any], arrivals: Iterable[Any], until: float) -> Turn:
    clock, took, failures, failure = time.perf_counter, [], 0, ""
    processor, begun = time.process_time(), clock()
    last = begun
    for arrival in arrivals:
        try:
            await send(arrival)
        except Exception as error:  # noqa: BLE001 - whatever a contender could not do is told in the report
            failures, failure = failures + 1, repr(error)
        else:
            took.append(clock() - last)
        last = clock()
        if last >= until:
            break
    return Turn(begun, last, time.process_time() - processor, took, failures, failure)


def _serve(pipe: Pipe, number: int) -> None:
    """Do what the parent says, until it says nothing more."""
    client = Client(number)
    arrivals: list[Any] = []
    while (order := pipe.recv()) is not None:
        match order:
            case "prepare", cell, url:
                client.prepare(cell, url)
                pipe.send(None)
            case ("settle",):
                # What is open now stays open: the collector need not look at it again and again.
                gc.collect()
                gc.freeze()
                pipe.send(None)
            case "draw", cell, seconds:
                arrivals = client.arrivals(cell, client.expected(cell, seconds))
                pipe.send(None)
            case "take", cell, given:
                arrivals = given
                pipe.send(None)
            case "go", cell, begin, seconds:
                time.sleep(max(0.0, begin - time.perf_counter()))
                pipe.send(client.drive(cell, arrivals, until=begin + seconds))
            case "profile", cell, messages:
                drawn = client.arrivals(cell, messages)
                forever = time.perf_counter() + 3_600
                pipe.send(profile(partial(client.drive, cell, drawn, until=forever), messages))
            case ("close",):
                client.close()
                pipe.send(None)
    client.close()


# --- all of them ----------------------------------------------------------------------------------------------


class Team:
    """Client processes, which live as long as it does."""

    def __init__(self, clients: int) -> None:
        # Not forked: a client begins as a host's own process does.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes: list[Any] = []
        for number in range(clients):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, number), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def prepare(self, cell: Cell, url: URL) -> None:
        """Let a cell's clients open it."""
        self._ask(cell.clients, ("prepare", cell, url))

    def settle(self) -> None:
        """Tell that everything is open."""
        self._ask(len(self._pipes), ("settle",))

    def turn(self, cell: Cell, seconds: float) -> list[Turn]:
        """Let a cell's clients take one turn together."""
        self._ask(cell.clients, ("draw", cell, seconds))
        return self._go(cell, seconds)

    def route(self, cell: Cell, arrivals: list[Any]) -> list[Turn]:
        """Let one client route these, however long it takes."""
        self._ask(1, ("take", cell, arrivals))
        return self._go(cell, 3_600.0)

    def profile(self, cell: Cell, messages: int) -> list[Spent]:
        """Let one client route so many messages, and tell in which functions its processor time goes."""
        [spent] = self._ask(1, ("profile", cell, messages))
        return list(spent)

    def close_contenders(self) -> None:
        """Let every client close what it has open."""
        self._ask(len(self._pipes), ("close",))

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join(timeout=30)
            pipe.close()

    def _go(self, cell: Cell, seconds: float) -> list[Turn]:
        turns: list[Turn] = self._ask(cell.clients, ("go", cell, time.perf_counter() + NOTICE, seconds))
        return turns

    def _ask(self, clients: int, order: tuple[Any, ...]) -> list[Any]:
        for pipe in self._pipes[:clients]:
            pipe.send(order)
        return [pipe.recv() for pipe in self._pipes[:clients]]


def measure(
    team: Team,
    cells: list[Cell],
    urls: dict[Cell, URL],
    *,
    rounds: int,
    seconds: float,
    tell: Callable[[int], None],
) -> dict[Cell, Tally]:
    """Let every cell take a turn, then every cell the next.

    Args:
        team: the clients.
        cells: what is measured; neighbours are compared with each other.
        urls: where each cell's stand is.
        rounds: how many turns count; one more comes first and does not.
        seconds: how long a turn lasts.
        tell: called after each turn, with 1.

    Returns:
        What each cell did.
    """
    for cell in cells:
        team.prepare(cell, urls[cell])
    team.settle()
    tallies = {cell: Tally() for cell in cells}
    for number in range(rounds + 1):
        for cell in cells:
            turns = team.turn(cell, seconds if number else seconds / 3)
            if number:
                tallies[cell].add(turns, cell.batch or 1)
            tell(1)
    team.close_contenders()
    return tallies
