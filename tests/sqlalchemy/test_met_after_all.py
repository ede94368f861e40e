"""MariaDB counts what has become another: an `UPDATE` that has changed nothing may have met its row, or come too early.

A ticket that is away when the `UPDATE` comes, and back when it is asked for, was not written: who believes that it was
has lost a message whose id is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Update, event, update

from tests.support.backends import BACKENDS, Databases, SqlStore
from tests.support.opening import opening
from ticketrouter import InboundMessage, Ticket, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository
from ticketrouter.testing.samples import an_active, given

MESSAGE = InboundMessage(1, 5511999999999, 10, message_id="m")


@pytest.fixture(scope="module")
def store(databases: Databases) -> Iterator[SqlStore]:
    """Our own table on MariaDB, without a unique rule."""
    [backend] = (each for each in BACKENDS if each.name == "pymysql")
    found = opening(databases, backend, {})(UniqueRule.NONE)
    assert isinstance(found, SqlStore)
    yield found
    found.dispose()


@contextmanager
def away(store: SqlStore, connection: Connection, gone: Update, back: Update) -> Iterator[None]:
    """Let another client take the ticket away before the first `UPDATE` of it, and give it back after the last that failed."""
    name, left = store.mapping.table.name, [gone, back]

    def act(change: Update) -> None:
        with store.engine.begin() as rival:
            rival.execute(change)

    def before(_connection: Any, _cursor: Any, sent: str, *_: Any) -> None:
        if sent.startswith(f"UPDATE {name}") and left == [gone, back]:
            act(left.pop(0))

    def after(_connection: Any, cursor: Any, sent: str, *_: Any) -> None:
        if sent.startswith(f"UPDATE {name}") and "last_insert_id" not in sent and left == [back]:
            assert cursor.rowcount == 0
            act(left.pop(0))

    event.listen(connection, "before_cursor_execute", before)
    event.listen(connection, "after_cursor_execute", after)
    yield
    assert left == []


def _resolve(router: TicketRouter, _: Ticket) -> None:
    router.resolve(MESSAGE)


def _accept(router: TicketRouter, ticket: Ticket) -> None:
    router.accept(1, ticket.id, 7)


ACTS: dict[str, tuple[Callable[[TicketRouter, Ticket], None], dict[str, Any], dict[str, Any]]] = {
    "resolve": (_resolve, {"status": "closed"}, {"status": "pending"}),
    "accept": (_accept, {"user_id": "9"}, {"user_id": None}),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_was_away_is_written_when_it_is_back(store: SqlStore, act: str) -> None:
    """Read as committed, the row that an `UPDATE` does not meet is not locked."""
    table = store.mapping.table
    done, gone, back = ACTS[act]
    store.empty()
    [ticket] = given(store, an_active(store, status="pending", user_id=None, unread_messages=1))
    with store.connection(isolation_level="READ COMMITTED") as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, store.mapping))
        with away(store, connection, update(table).values(gone), update(table).values(back)):
            done(router, ticket)
    [left] = store.tickets()

    assert (left.unread_messages, left.user_id) == {"resolve": (2, None), "accept": (1, 7)}[act]
