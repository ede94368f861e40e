"""What the loser of a race gets, on each database and at each isolation level: the table of the page on concurrency.

Law of this file: the page is what is expected. Here stand only the races, each between two transactions that are both
under way, of which the winner writes first and commits first.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from attrs import frozen
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from tests.support.backends import Databases
from tests.support.races import Cell, racetrack
from ticketrouter import (
    ActiveTicketExistsError,
    ConflictError,
    InboundMessage,
    Resolution,
    Ticket,
    TicketKey,
    TicketRouter,
    TicketRouterError,
    UniqueRule,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, is_retryable

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "concurrency.md"
COLUMNS = {
    "PostgreSQL at READ COMMITTED, MariaDB, SQLite": [
        ("postgresql", "READ COMMITTED"),
        ("mariadb", "READ COMMITTED"),
        ("mariadb", "REPEATABLE READ"),
        ("sqlite", "SERIALIZABLE"),
    ],
    "PostgreSQL at REPEATABLE READ, SERIALIZABLE": [
        ("postgresql", "REPEATABLE READ"),
        ("postgresql", "SERIALIZABLE"),
    ],
}
BLOCKED = 0.1
"""How long the loser is given to come to a lock, or through, in seconds: the winner then commits."""

Act: TypeAlias = Callable[[TicketRouter], Resolution | Ticket]


@frozen
class Race:
    """Two acts on the contact's ticket 1, which is there if `there`.

    Args:
        winner: what writes and commits first.
        loser: what has begun by then.
        there: whether the contact has an active ticket before.
    """

    winner: Act
    loser: Act
    there: bool = True


def message(connection: int = 10, message_id: str | None = None) -> Act:
    return lambda router: router.resolve(InboundMessage(1, "ana", connection, message_id=message_id))


def accept(user: int) -> Act:
    return lambda router: router.accept(1, 1, user)


def close(router: TicketRouter) -> Ticket:
    return router.close(1, 1)


def transfer(router: TicketRouter) -> Ticket:
    return router.transfer(1, 1, 13)


def begin(router: TicketRouter) -> Ticket:
    return router.open(TicketKey(1, "ana", 10), user_id=7)


RACES = {
    "two first messages": Race(message(), message(), there=False),
    "the same message twice": Race(message(message_id="m"), message(message_id="m"), there=False),
    "two messages for an active ticket": Race(message(), message()),
    "an agent closes, a message comes": Race(close, message()),
    "a message comes, an agent closes": Race(message(), close),
    "a first message, an agent opens": Race(message(), begin, there=False),
    "two agents accept": Race(accept(7), accept(8)),
    "two agents close": Race(close, close),
    "a message opens the other connection's ticket, an agent transfers there": Race(message(13), transfer),
    "an agent closes, another transfers": Race(close, transfer),
}


def said(act: Act, connection: Connection, mapping: TicketMapping) -> str:
    """Do an act and commit; return what its caller gets, as the page has it."""
    try:
        with connection.begin() if not connection.in_transaction() else connection.get_transaction():  # type: ignore[union-attr]
            found = act(TicketRouter(SQLAlchemyTicketRepository(connection, mapping)))
    except (ActiveTicketExistsError, ConflictError) as error:
        return f"`{type(error).__name__}`"
    except (TicketRouterError, DBAPIError) as error:
        # At the host's own COMMIT it is the driver's.
        return "`ContentionError`" if is_retryable(error) else repr(error)
    return f"`{found.outcome}`" if isinstance(found, Resolution) else f"the ticket, {found.status}"


def lost(race: Race, engine: Engine, mapping: TicketMapping) -> str:
    """Have a race run; return what its loser gets."""
    if race.there:
        with engine.connect() as connection:
            said(message(), connection, mapping)
    found: list[str] = []
    with engine.connect() as winner, engine.connect() as loser:
        if engine.dialect.name != "sqlite":  # there a transaction that has begun keeps every other one out
            loser.execute(select(mapping.table.c.id)).all()
        winner.begin()
        race.winner(TicketRouter(SQLAlchemyTicketRepository(winner, mapping)))
        thread = threading.Thread(target=lambda: found.append(said(race.loser, loser, mapping)))
        thread.start()
        thread.join(BLOCKED)
        winner.commit()
        thread.join()
    (answer,) = found
    return answer


def table() -> dict[str, dict[str, str]]:
    """Read the page's table: by race, by column."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"(?m)^\| the race \|(.*)\|\n\|[-|]*\n((?:\|.*\n)+)", text)
    assert found is not None
    columns = [each.strip() for each in found[1].split("|")]
    rows = [[each.strip() for each in line.strip("|").split("|")] for line in found[2].splitlines()]
    return {name: dict(zip(columns, answers, strict=True)) for name, *answers in rows}


def test_the_table_has_every_race_and_every_level() -> None:
    """And nothing else."""
    found = table()

    assert list(RACES) == list(found)
    assert all(list(COLUMNS) == list(answers) for answers in found.values())


@pytest.mark.parametrize("name", RACES)
@pytest.mark.parametrize(
    ("column", "database", "isolation"),
    [(column, *level) for column, levels in COLUMNS.items() for level in levels],
    ids=lambda value: str(value).lower().replace(" ", "-"),
)
def test_the_loser_gets_what_the_table_says(
    databases: Databases, name: str, column: str, database: str, isolation: str
) -> None:
    """One race, on a real server."""
    cell = Cell(database, isolation, UniqueRule.ACTIVE_PER_CONNECTION, old_snapshot=True)
    with racetrack(databases, cell) as (engine, mapping):
        answer = lost(RACES[name], engine, mapping)

    assert table()[name][column] == answer
