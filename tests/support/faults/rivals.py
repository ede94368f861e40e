"""Duels: a client does a unit of work, and at one boundary of it a rival does the whole of another one.

Law of this file: it lets them fight, and reads afterwards with SQL of its own whether each promise was kept. Both are
hosts: they run their unit of work again where the error says so, and believe what they were told after their COMMIT
only.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from attrs import field, frozen
from sqlalchemy import URL, Connection, Engine, Row, create_engine, text

from tests.support.faults.boundaries import Boundaries
from tests.support.faults.work import MAPPING, warm_up
from tests.support.faults.work import ticket as a_ticket
from tests.support.waiting import somebody_waits
from ticketrouter import (
    ActiveTicketExistsError,
    ConflictError,
    InboundMessage,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    Ticket,
    TicketKey,
    TicketRouter,
)
from ticketrouter.moves import MovePlan
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, is_retryable

COMPANY, STRANGER = "c1", "c2"
HERE, THERE = "here", "there"
# Words: the tables hold them as they are.
ANA, BEA, RUI, EVA = "ana", "bea", "rui", "eva"
TRIES = 10
_PATIENCE = 30.0
"""How long anybody waits for the other, in seconds: far longer than the locks of a server are waited for."""
_TICKETS = MAPPING.table.name
_IDS = MAPPING.message_ids.name


@frozen
class Asked:
    """A message of an act, and what tells it when it comes again."""

    connection_id: str = HERE
    message_id: str | None = None
    contact_id: str = ANA

    @property
    def message(self) -> InboundMessage:
        return InboundMessage(COMPANY, self.contact_id, self.connection_id, message_id=self.message_id)


@frozen
class Act:
    """One unit of work of a client.

    Args:
        name: what it is called.
        asked: the messages that it routes.
        do: what it asks of the router; it is told the id and the connection of the ticket that is there before.
        overtaken: the errors that it may be told: what the other has done makes them true.
        needs_ticket: whether it is about a ticket that is there before.
    """

    name: str
    do: Callable[[TicketRouter, Any, str], object]
    asked: tuple[Asked, ...] = ()
    overtaken: tuple[type[Exception], ...] = ()
    needs_ticket: bool = False

    def __str__(self) -> str:
        return self.name


@frozen
class State:
    """What is there before.

    Args:
        name: what it is called.
        tickets: the tickets, the first of which the acts are about.
        policy: what the host has chosen.
    """

    name: str
    tickets: tuple[Ticket, ...] = ()
    policy: Policy = field(factory=Policy)

    def __str__(self) -> str:
        return self.name


@frozen
class Duel:
    """Who fights whom, over what."""

    act: Act
    rival: Act
    state: State
    old_snapshot: bool = False

    def __str__(self) -> str:
        begun = ", with an old snapshot" if self.old_snapshot else ""
        return f"{self.act} against {self.rival}, {self.state}{begun}"


@frozen
class Told:
    """What a client believes: the answers after its COMMIT, or an error that it is not to run again after."""

    act: Act
    answers: tuple[Resolution, ...] = ()
    error: Exception | None = None
    moved: MovePlan | None = None

    @property
    def is_done(self) -> bool:
        return self.error is None


Answers: TypeAlias = list[tuple[Asked, Resolution]]


# --- what clients do -----------------------------------------------------------------------------------------


def _one(name: str, asked: Asked) -> Act:
    return Act(name, lambda router, *_: [router.resolve(asked.message)], (asked,))


def _many(name: str, *asked: Asked) -> Act:
    return Act(name, lambda router, *_: router.resolve_many([each.message for each in asked]), asked)


def _open(user: str) -> Act:
    return Act(
        f"open by {user}",
        lambda router, *_: router.open(TicketKey(COMPANY, ANA, HERE), user_id=user),
        overtaken=(ActiveTicketExistsError,),
    )


def _accept(user: str) -> Act:
    return Act(
        f"accept by {user}",
        lambda router, number, _: router.accept(COMPANY, number, user),
        overtaken=(ConflictError,),
        needs_ticket=True,
    )


MESSAGE = _one("a message without an id", Asked())
FIRST = _one("message a", Asked(message_id="a"))
SECOND = _one("message b", Asked(message_id="b"))
BATCH = _many("a batch without ids", Asked(), Asked(contact_id=BEA), Asked())
BATCH_OF_IDS = _many(
    "a batch with ids",
    Asked(message_id="c"),
    Asked(THERE, "d"),
    Asked(message_id="a"),
    Asked(contact_id=BEA),
    Asked(message_id="c"),
)
OPEN, OPEN_TOO = _open(RUI), _open(EVA)
ACCEPT, ACCEPT_TOO = _accept(RUI), _accept(EVA)
CLOSE = Act("close", lambda router, number, _: router.close(COMPANY, number), needs_ticket=True)
REOPEN = Act(
    "reopen",
    lambda router, number, _: router.reopen(COMPANY, number),
    overtaken=(ActiveTicketExistsError,),
    needs_ticket=True,
)
TRANSFER = Act(
    "transfer",
    lambda router, number, here: router.transfer(COMPANY, number, THERE if here == HERE else HERE),
    overtaken=(ActiveTicketExistsError, ConflictError),
    needs_ticket=True,
)
MERGE = Act("merge", lambda router, *_: router.merge_contacts(COMPANY, ANA, BEA))
MERGE_BACK = Act("merge the other way", lambda router, *_: router.merge_contacts(COMPANY, BEA, ANA))
MOVE = Act("move", lambda router, *_: router.move_connection(COMPANY, HERE, THERE))
MOVE_BACK = Act("move the other way", lambda router, *_: router.move_connection(COMPANY, THERE, HERE))

ACTS = (MESSAGE, FIRST, BATCH, BATCH_OF_IDS, OPEN, ACCEPT, CLOSE, REOPEN, TRANSFER, MERGE, MOVE)
RIVALS = (
    MESSAGE,
    FIRST,
    SECOND,
    BATCH_OF_IDS,
    OPEN_TOO,
    ACCEPT_TOO,
    CLOSE,
    REOPEN,
    TRANSFER,
    MERGE,
    MERGE_BACK,
    MOVE,
    MOVE_BACK,
)


def _ticket(status: str, connection_id: str = HERE, contact_id: str = ANA, **changes: Any) -> Ticket:
    return a_ticket(
        status,
        **({"company_id": COMPANY, "contact_id": contact_id, "connection_id": connection_id} | changes),
    )


NOTHING = State("nothing there")
ACTIVE = State("active", (_ticket("pending"),))
CLOSED = State("closed", (_ticket("closed"),))
REOPENING = State("closed, and messages reopen", (_ticket("closed"),), Policy(reopen=Reopen.always()))
ELSEWHERE = State("active elsewhere", (_ticket("pending", THERE),))
CLOSED_AND_ELSEWHERE = State("closed, and active elsewhere", (_ticket("closed"), _ticket("pending", THERE)))
TWO_CONTACTS = State("active of two contacts", (_ticket("pending"), _ticket("open", contact_id=BEA)))
STATES = (NOTHING, ACTIVE, CLOSED, REOPENING, ELSEWHERE, CLOSED_AND_ELSEWHERE, TWO_CONTACTS)


def duels(
    acts: Sequence[Act] = ACTS, rivals: Sequence[Act] = RIVALS, states: Sequence[State] = STATES
) -> Iterator[Duel]:
    """Yield every duel that is about something."""
    for state in states:
        for act in acts:
            for rival in rivals:
                if state.tickets or not (act.needs_ticket or rival.needs_ticket):
                    yield Duel(act, rival, state)


# --- the field -----------------------------------------------------------------------------------------------


@frozen
class Arena:
    """A database, and an engine for each of those who fight, at one isolation level; the judge has one of his own."""

    client: Engine
    rival: Engine
    judge: Engine
    watcher: Connection

    def somebody_waits(self) -> bool:
        """Tell whether a transaction waits for the lock of another one."""
        return somebody_waits(self.watcher)

    def put(self, state: State) -> list[Any]:
        """Put the tickets of a state there, and nothing else of the company; return their ids."""
        with self.judge.begin() as connection:
            for table in MAPPING.metadata.sorted_tables:
                connection.execute(table.delete().where(table.c.company_id == COMPANY))
            return [_put(connection, each) for each in state.tickets]


def _put(connection: Connection, there: Ticket) -> Any:
    values = {column.key: getattr(there, name) for name, column in MAPPING.columns.items() if name != "id"}
    return connection.execute(MAPPING.table.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]


def _put_strangers(judge: Engine) -> None:
    """Let another company route messages with the very same ids."""
    with judge.begin() as connection:
        for table in MAPPING.metadata.sorted_tables:
            connection.execute(table.delete())
        router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING))
        for number in (HERE, THERE):
            for message_id in "abcd":
                router.resolve(InboundMessage(STRANGER, ANA, number, message_id=message_id))


@contextmanager
def arena(url: URL, isolation: str, judge: Engine) -> Iterator[Arena]:
    """Make the engines. A lock is waited for a second, and a deadlock of PostgreSQL is seen at once."""
    options: dict[str, Any] = {
        "postgresql": {"options": "-c lock_timeout=1000 -c deadlock_timeout=10"},
        "mariadb": {"init_command": "SET innodb_lock_wait_timeout = 1"},
    }[url.get_backend_name()]
    both = [create_engine(url, isolation_level=isolation, connect_args=options) for _ in range(2)]
    for engine in both:
        warm_up(engine)
    _put_strangers(judge)
    with judge.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
        yield Arena(both[0], both[1], judge, watcher)
    for engine in both:
        engine.dispose()


# --- the fight -----------------------------------------------------------------------------------------------


def boundaries_of(place: Arena, duel: Duel) -> Iterator[list[str]]:
    """Fight a duel once for each boundary of the client's unit of work; yield what was broken at each."""
    # The look that the snapshot begins with is none of ours: the rival comes after it.
    boundary = 1 if duel.old_snapshot else 0
    while (broken := _fought(place, duel, boundary)) is not None:
        yield [f"{duel}, boundary {boundary}: {each}" for each in broken]
        boundary += 1


def _fought(place: Arena, duel: Duel, boundary: int) -> list[str] | None:
    """Let the rival come at one boundary; return what was broken, or None where there is no such boundary."""
    numbers = place.put(duel.state)
    rivals: list[Told] = []
    came: list[threading.Thread] = []
    watched = Boundaries(boundary, lambda _: came.append(_come(place, duel, numbers, rivals)))
    with watched.of(place.client):
        told = _told(place.client, duel.act, duel.state, numbers, old_snapshot=duel.old_snapshot)
    if not watched.has_happened:
        return None
    came[0].join(_PATIENCE)
    assert rivals, f"{duel}, boundary {boundary}: the rival has not come back"
    return list(broken_promises(place.judge, duel.state, numbers, (told, rivals[0])))


def _come(place: Arena, duel: Duel, numbers: list[Any], found: list[Told]) -> threading.Thread:
    """Let the rival begin; go on when it has committed, or waits for a lock."""
    thread = threading.Thread(
        target=lambda: found.append(_told(place.rival, duel.rival, duel.state, numbers))
    )
    thread.start()
    while True:
        thread.join(0.01)
        if not thread.is_alive() or place.somebody_waits():
            return thread


def _told(engine: Engine, act: Act, state: State, numbers: list[Any], *, old_snapshot: bool = False) -> Told:
    """Do a unit of work as a host does, again where the error says so."""
    number, here = (numbers[0], str(state.tickets[0].connection_id)) if numbers else (None, HERE)
    for _ in range(TRIES):
        try:
            with engine.begin() as connection:
                if old_snapshot:
                    connection.exec_driver_sql(f"SELECT * FROM {_TICKETS}").all()
                router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING), state.policy)
                answer = act.do(router, number, here)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            if not is_retryable(error):
                return Told(act, error=error)
            last = error
        else:
            answers = tuple(answer) if isinstance(answer, list) else ()
            return Told(act, answers, moved=answer if isinstance(answer, MovePlan) else None)
    return Told(act, error=last)


# --- what was promised ---------------------------------------------------------------------------------------


def broken_promises(
    judge: Engine, state: State, numbers: list[Any], told: tuple[Told, Told]
) -> Iterator[str]:
    """Yield what the tables say against what was acknowledged."""
    with judge.begin() as connection:
        rows = connection.execute(text(f"SELECT * FROM {_TICKETS}")).all()
        ids = connection.execute(text(f"SELECT * FROM {_IDS}")).all()
    for each in told:
        if each.error is not None and not _is_overtaken(each):
            yield f"{each.act} ended with {each.error!r}"
    ours = {row.id: row for row in rows if row.company_id == COMPANY}
    yield from _strangers(rows, ids)
    yield from _two_active(ours.values())
    answers = [pair for each in told for pair in zip(each.act.asked, each.answers)]  # noqa: B905 - none after an error
    yield from _miscounted(ours, answers, [each.moved for each in told if each.moved is not None])
    yield from _ids_astray([row for row in ids if row.company_id == COMPANY], answers)
    yield from _undone(ours, state, numbers, told)


def _is_overtaken(told: Told) -> bool:
    """Tell whether an error is one that the act of another may make true: it carries the ticket as it is."""
    match told.error:
        case ActiveTicketExistsError(ticket=ticket) | ConflictError(ticket=ticket):
            is_told = ticket is not None and ticket.company_id == COMPANY
            return is_told and isinstance(told.error, told.act.overtaken)
        case _:
            return False


def _strangers(rows: Sequence[Row[Any]], ids: Sequence[Row[Any]]) -> Iterator[str]:
    strangers = [row for row in rows if row.company_id != COMPANY]
    seen = sorted((row.connection_id, row.contact_id, row.status, row.unread_messages) for row in strangers)
    if seen != [(number, ANA, "pending", 4) for number in (HERE, THERE)]:
        yield f"another company's tickets have changed: {seen}"
    theirs = {row.id: row for row in strangers}
    astray = [row for row in ids if (row.company_id != COMPANY) != (row.ticket_id in theirs)]
    if astray or sum(row.company_id != COMPANY for row in ids) != 2 * 4:
        yield f"message ids of two companies are mixed: {astray}"


def _two_active(rows: Any) -> Iterator[str]:
    active = Counter((row.contact_id, row.connection_id) for row in rows if row.status != "closed")
    for key, number in active.items():
        if number > 1:
            yield f"{number} active tickets on {key}"


def _miscounted(ours: dict[Any, Row[Any]], answers: Answers, moves: Sequence[MovePlan]) -> Iterator[str]:
    counted = Counter(each.ticket.id for _, each in answers if each.outcome is not Outcome.DUPLICATE)
    for closing in (each for move in moves for each in move.closes):
        if closing.kept is not None and ours[closing.ticket.id].unread_messages:
            counted[closing.kept.id] += ours[closing.ticket.id].unread_messages
    unread = {number: row.unread_messages for number, row in ours.items() if row.unread_messages}
    if unread != counted:
        yield f"unread {unread}, acknowledged {dict(counted)}"


def _ids_astray(ids: Sequence[Row[Any]], answers: Answers) -> Iterator[str]:
    known: dict[Asked, set[Any]] = {}
    new = Counter[Asked]()
    for asked, answer in answers:
        if asked.message_id is not None:
            known.setdefault(asked, set()).add(answer.ticket.id)
            new[asked] += answer.outcome is not Outcome.DUPLICATE
    for asked, tickets in known.items():
        if new[asked] != 1 or len(tickets) != 1:
            yield f"id {asked.message_id} was acknowledged as new {new[asked]} times, for tickets {tickets}"
    # A move takes the ids along, and leaves them where they were, too.
    recorded = Counter((row.connection_id, row.ticket_id) for row in ids)
    acknowledged = Counter(
        (asked.connection_id, each) for asked, tickets in known.items() for each in tickets
    )
    if not acknowledged <= recorded or len({bytes(row.message_id) for row in ids}) != len(known):
        yield f"ids are recorded for {dict(recorded)}, acknowledged for {dict(acknowledged)}"


def _undone(
    ours: dict[Any, Row[Any]], state: State, numbers: list[Any], told: tuple[Told, Told]
) -> Iterator[str]:
    """Yield what of an agent's acts is not there any more, and what nobody can have undone."""
    if not numbers:
        return
    row = ours[numbers[0]]
    done = {each.act for each in told if each.is_done}
    for act, user in ((ACCEPT, RUI), (ACCEPT_TOO, EVA)):
        if act in done and row.user_id != user:
            yield f"{act} was done, and the ticket is with {row.user_id}"
    reopens = REOPEN in done or (state is REOPENING and any(act.asked for act in done))
    was_closed = CLOSE in done or state.tickets[0].status == "closed"
    if was_closed and not reopens and row.status != "closed":
        yield f"nobody has reopened the closed ticket, and it is {row.status}"


__all__ = ["ACTS", "RIVALS", "STATES", "Act", "Arena", "Duel", "State", "arena", "boundaries_of", "duels"]
