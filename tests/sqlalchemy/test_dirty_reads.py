"""MariaDB at READ UNCOMMITTED, which no variable need show: nothing rests on what a rival takes back again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import pytest
from attrs import evolve, frozen
from sqlalchemy import Connection, Engine, event, func, select, text

from tests.support.backends import Databases
from tests.support.races import Cell, racetrack
from ticketrouter import (
    ActiveTicketExistsError,
    InboundMessage,
    MessageKind,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    Scope,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping

HERE = InboundMessage(1, 5, 10)
REDELIVERED = evolve(HERE, message_id="m")
BESIDE = InboundMessage(1, 6, 10)
OTHER = TicketKey(1, 5, 11)
USUAL = Policy()
WAIT = 0.15
"""How long a rival lives on, once the other one may have to wait for him: the answers do not depend on it."""


@frozen
class Dirty:
    """A database, and one transaction in it that reads what others have not committed."""

    engine: Engine
    mapping: TicketMapping
    raw: bool

    @contextmanager
    def late(self, policy: Policy = USUAL) -> Iterator[TicketRouter]:
        with self.engine.connect() as connection:
            if self.raw:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
            else:
                connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
                connection.commit()
            yield self.router(connection, policy)
            connection.commit()
            connection.invalidate()  # the session keeps its level

    def router(self, connection: Connection, policy: Policy = USUAL) -> TicketRouter:
        return TicketRouter(SQLAlchemyTicketRepository(connection, self.mapping), policy)

    def routed(self, message: InboundMessage) -> Any:
        with self.engine.begin() as connection:
            return self.router(connection).resolve(message).ticket

    def closed(self) -> Any:
        ticket = self.routed(HERE)
        with self.engine.begin() as connection:
            return self.router(connection).close(1, ticket.id)

    @contextmanager
    def rival(self, work: Callable[[TicketRouter], object]) -> Iterator[None]:
        """Let somebody write, and take it all back while the other one works."""
        with self.engine.connect() as connection:
            work(self.router(connection))
            undone = Timer(WAIT, connection.rollback)
            undone.start()
            yield
            undone.join()

    def count(self, of: Any, *where: Any) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(of).where(*where)).scalar_one())

    @property
    def active(self) -> int:
        return self.count(self.mapping.table, self.mapping.table.c.status != "closed")


@pytest.fixture(params=[False, True], ids=["session", "raw"])
def raw(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE], ids=["rule", "none"])
def dirty(request: pytest.FixtureRequest, databases: Databases, *, raw: bool) -> Iterator[Dirty]:
    cell = Cell("mariadb", "REPEATABLE READ", request.param, old_snapshot=False)
    with racetrack(databases, cell) as (engine, mapping):
        found = Dirty(engine, mapping, raw)
        found.routed(InboundMessage(1, 99, 10))  # what is found out once, with an anchor
        yield found


def _one(router: TicketRouter, message: InboundMessage) -> Resolution:
    return router.resolve(message)


def _in_a_batch(router: TicketRouter, message: InboundMessage) -> Resolution:
    return router.resolve_many([message, BESIDE])[0]


BOTH = pytest.mark.parametrize("resolve", [_one, _in_a_batch], ids=["one", "batch"])


@BOTH
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_no_redelivery_of_what_is_taken_back(dirty: Dirty, resolve: Any, *, known: bool) -> None:
    """Of a message that is answered a ticket is left, with its id and its count."""
    if known:
        dirty.routed(HERE)
    with dirty.late() as router, dirty.rival(lambda rival: rival.resolve(REDELIVERED)):
        found = resolve(router, REDELIVERED)

    assert (Outcome.REUSED if known else Outcome.CREATED) is found.outcome
    assert 1 == dirty.count(dirty.mapping.message_ids)
    assert 1 == dirty.count(dirty.mapping.table, dirty.mapping.table.c.contact_id == 5)
    assert dirty.routed(HERE).unread_messages == (3 if known else 2)


@BOTH
def test_a_redelivery_of_what_stays_is_one(dirty: Dirty, resolve: Any) -> None:
    first = dirty.routed(REDELIVERED)
    with dirty.late() as router:
        found = resolve(router, REDELIVERED)

    assert (Outcome.DUPLICATE, first.id) == (found.outcome, found.ticket.id)


@BOTH
def test_no_second_ticket_beside_one_that_is_not_closed_after_all(dirty: Dirty, resolve: Any) -> None:
    """A rival closes the ticket, and takes that back."""
    first = dirty.routed(HERE)
    with dirty.late() as router, dirty.rival(lambda rival: rival.close(1, first.id)):
        found = resolve(router, HERE)

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)
    assert dirty.routed(HERE).unread_messages == 3


@BOTH
def test_no_second_ticket_beside_one_that_is_not_moved_after_all(dirty: Dirty, resolve: Any) -> None:
    """A rival transfers the ticket away, and takes that back: of the key nothing at all is to be seen meanwhile."""
    first = dirty.routed(HERE)
    with dirty.late() as router, dirty.rival(lambda rival: rival.transfer(1, first.id, 77)):
        found = resolve(router, HERE)

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)


def test_no_second_ticket_by_a_reopening(dirty: Dirty) -> None:
    """A rival closes the ticket that is active; an agent reopens an older one of the same key."""
    old = dirty.closed()
    first = dirty.routed(HERE)
    with (
        dirty.late() as router,
        dirty.rival(lambda rival: rival.close(1, first.id)),
        pytest.raises(ActiveTicketExistsError) as caught,
    ):
        router.reopen(1, old.id)

    assert first.id == caught.value.ticket.id


@BOTH
def test_no_second_ticket_beside_one_that_came_after_the_look(
    databases: Databases, resolve: Any, *, raw: bool
) -> None:
    """A rival has written the anchor, and then, while the other one waits for that, his ticket."""
    cell = Cell("mariadb", "REPEATABLE READ", UniqueRule.NONE, old_snapshot=False)
    with racetrack(databases, cell) as (engine, mapping), engine.connect() as connection:
        dirty = Dirty(engine, mapping, raw)
        old = dirty.closed()  # the contact has an anchor
        rival, anchors = dirty.router(connection), mapping.anchors
        claim = anchors.update().where(anchors.c.contact_id == 5)
        assert 1 == connection.execute(claim.values(version=anchors.c.version + 1)).rowcount

        def go_on() -> None:
            copied = (
                "company_id, contact_id, connection_id, is_group, unread_messages, created_at, updated_at"
            )
            connection.execute(
                text(
                    f"INSERT INTO {mapping.table.name} ({copied}, status) SELECT {copied}, 'pending' "
                    f"FROM {mapping.table.name} WHERE id = {old.id}"
                )
            )
            connection.commit()

        timer = Timer(WAIT, go_on)
        with dirty.late() as router:
            timer.start()
            found = resolve(router, HERE)
        timer.join()
        active = rival.active_tickets(1, 5)

    assert Outcome.REUSED is found.outcome
    assert [found.ticket.id] == [ticket.id for ticket in active]


def test_what_a_write_asks_of_others_says_that_it_locks(databases: Databases) -> None:
    """MariaDB locks what is read inside a write by itself, whatever the level; that it must do so is written nowhere."""
    cell = Cell("mariadb", "READ COMMITTED", UniqueRule.NONE, old_snapshot=False)
    sent: list[str] = []
    with racetrack(databases, cell) as (engine, mapping):
        dirty = Dirty(engine, mapping, raw=False)
        old, other = dirty.closed(), dirty.routed(BESIDE)
        event.listen(engine, "before_cursor_execute", lambda *about: sent.append(about[2]))
        with engine.begin() as connection:
            desk = dirty.router(connection, Policy(reopen=Reopen.always()))
            desk.transfer(1, other.id, 13)
            desk.close(1, desk.reopen(1, old.id).id)
            desk.resolve_many([HERE, BESIDE])
            desk.open(TicketKey(1, 7, 10))
    asking = [each for each in sent if each.startswith(("INSERT", "UPDATE")) and "EXISTS" in each.upper()]

    assert ["UPDATE", "UPDATE", "UPDATE", "INSERT"] == [each[:6] for each in asking]
    assert all("FOR UPDATE" in each for each in asking)


@BOTH
def test_no_message_is_ignored_for_a_ticket_that_is_not_closed_after_all(dirty: Dirty, resolve: Any) -> None:
    """A message that only joins meets a ticket whose closing a rival takes back."""
    first = dirty.routed(HERE)
    with dirty.late() as router, dirty.rival(lambda rival: rival.close(1, first.id)):
        found = resolve(router, evolve(HERE, kind=MessageKind.NOTICE))

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)


@BOTH
def test_no_message_is_ignored_for_a_ticket_on_another_connection(dirty: Dirty, resolve: Any) -> None:
    """The same where one ticket of the contact is enough for all of its connections."""
    first = dirty.routed(evolve(HERE, connection_id=13))
    policy = Policy(scope=Scope.CONTACT)
    with dirty.late(policy) as router, dirty.rival(lambda rival: rival.close(1, first.id)):
        found = resolve(router, evolve(HERE, kind=MessageKind.NOTICE))

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)


@pytest.mark.parametrize("contact", [5, 7], ids=["closed", "unknown"])
@BOTH
def test_a_message_that_only_joins_is_ignored(dirty: Dirty, resolve: Any, contact: int) -> None:
    dirty.closed()
    with dirty.late() as router:
        found = resolve(router, InboundMessage(1, contact, 10, kind=MessageKind.NOTICE))

    assert Outcome.IGNORED is found.outcome


KEPT: dict[str, tuple[bool, Callable[[TicketRouter, Any], Any]]] = {
    "accept": (True, lambda router, ticket: router.accept(1, ticket.id, 7)),
    "close": (True, lambda router, ticket: router.close(1, ticket.id)),
    "reopen": (False, lambda router, ticket: router.reopen(1, ticket.id)),
    "transfer": (True, lambda router, ticket: router.transfer(1, ticket.id, 11)),
}
"""What an agent does, and whether the ticket is active before."""


@pytest.mark.parametrize("name", KEPT)
def test_no_wish_counts_as_fulfilled_by_what_is_taken_back(dirty: Dirty, name: str) -> None:
    """A rival does the same before, and takes it back."""
    is_active, act = KEPT[name]
    ticket = dirty.routed(HERE) if is_active else dirty.closed()
    with dirty.late() as router, dirty.rival(lambda rival: act(rival, ticket)):
        done = act(router, ticket)
    with dirty.engine.connect() as connection:
        now = SQLAlchemyTicketRepository(connection, dirty.mapping).get(1, ticket.id)

    assert now is not None
    assert done == evolve(now, change=done.change)
    assert (now.status, now.connection_id) != (ticket.status, ticket.connection_id)


WISHES: dict[str, tuple[Callable[[TicketRouter, Any], Any], Callable[[TicketRouter, Any], Any]]] = {
    "open": (lambda rival, _: rival.open(OTHER), lambda router, _: router.open(OTHER)),
    "accept what is closed": (
        lambda rival, ticket: rival.close(1, ticket.id),
        lambda router, ticket: router.accept(1, ticket.id, 7),
    ),
    "accept another's": (
        lambda rival, ticket: rival.accept(1, ticket.id, 8),
        lambda router, ticket: router.accept(1, ticket.id, 7),
    ),
    "transfer what is closed": (
        lambda rival, ticket: rival.close(1, ticket.id),
        lambda router, ticket: router.transfer(1, ticket.id, OTHER.connection_id),
    ),
    "transfer to what is taken": (
        lambda rival, _: rival.open(OTHER),
        lambda router, ticket: router.transfer(1, ticket.id, OTHER.connection_id),
    ),
}
"""What a rival does, and takes back, and what an agent may do all the same."""


@pytest.mark.parametrize("name", WISHES)
def test_no_wish_is_refused_for_what_is_taken_back(dirty: Dirty, name: str) -> None:
    """A rival is in the way, and goes out of it."""
    hinder, act = WISHES[name]
    ticket = dirty.routed(HERE)
    with dirty.late() as router, dirty.rival(lambda rival: hinder(rival, ticket)):
        done = act(router, ticket)
    with dirty.engine.connect() as connection:
        now = SQLAlchemyTicketRepository(connection, dirty.mapping).get(1, done.id)

    assert now == evolve(done, change=None)
    assert now != ticket


def test_no_message_is_refused_for_a_row_that_is_taken_back(databases: Databases) -> None:
    """A full rule has room for one row of the contact, and a rival moves it away only to take that back."""
    cell = Cell("mariadb", "READ UNCOMMITTED", UniqueRule.ONE_PER_CONTACT, old_snapshot=False)
    with racetrack(databases, cell) as (engine, mapping):
        dirty = Dirty(engine, mapping, raw=True)
        first = dirty.routed(HERE)
        with dirty.late() as router, dirty.rival(lambda rival: rival.transfer(1, first.id, 13)):
            found = router.resolve(HERE)

    assert (Outcome.REUSED, first.id) == (found.outcome, found.ticket.id)
