"""What is measured: values, and the plan that lists them.

Law of this file: no database and no clock. A Cell says everything that tells one figure from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from attrs import evolve, field, frozen

COMPANY = 1_907
CONNECTION = 4_001
"""The connection of every drawn message; some contacts have a ticket on `OTHER_CONNECTION` too."""
OTHER_CONNECTION = 4_002
A_MILLION = 1_000_000
FIRST_CONTACT = 5_500_000_000
"""The ids of contacts are like telephone numbers: never the id of a ticket."""


class Arrival(NamedTuple):
    """An inbound message, before anybody has made a value of it."""

    contact: int | str
    connection: int | str
    message_id: str | None = None
    company: int | str = COMPANY


class Rule(StrEnum):
    """What the schema of a stand has against a second ticket."""

    ACTIVE = "active_per_connection"
    ANCHOR = "none, anchor"
    ONE = "one_per_connection"


class Shape(StrEnum):
    """What is around each message."""

    AUTOCOMMIT = "autocommit"
    """One connection, kept; each statement is a transaction of its own."""
    POOL = "autocommit, from the pool"
    """The same, but the connection is taken from the pool for each message, and given back."""
    TRANSACTION = "transaction"
    """A connection from the pool, a transaction, its commit."""
    SESSION = "session"
    """An ORM Session, its transaction, its commit."""


@frozen
class Stand:
    """One database with tickets in it."""

    database: str
    size: int
    rule: Rule = Rule.ACTIVE
    name: str = ""
    """Set where each contender needs tables of its own, as it does for a log."""

    @property
    def contacts(self) -> int:
        """How many contacts have a ticket: nine tenths of the tickets are a contact's only one on its connection."""
        return self.size - self.size // 10


@frozen
class Cell:
    """One figure: who does what, where, and how many at a time."""

    stand: Stand
    contender: str
    driver: str
    shape: Shape = Shape.TRANSACTION
    reuse: float = 0.95
    clients: int = 1
    batch: int | None = None
    message_ids: bool = False

    @property
    def way(self) -> Cell:
        """What a client has to open: the same for every share of reuse and any number of clients."""
        return evolve(self, reuse=0.0, clients=0)


DRIVERS = {"postgresql": "psycopg", "mariadb": "pymysql", "sqlite": "sqlite3"}
ASYNC_DRIVERS = {"postgresql": "asyncpg", "mariadb": "asyncmy", "sqlite": "aiosqlite"}


@frozen
class Extent:
    """How much is measured."""

    sizes: tuple[int, ...]
    """Tickets, from the smallest; everything but the comparison of sizes runs at `main`."""
    reuses: tuple[float, ...] = (0.95, 0.8)
    clients: tuple[int, ...] = (1, 8)
    batches: tuple[int, ...] = (1, 10, 100, 1_000)
    rounds: int = 9
    seconds: float = 0.3
    databases: tuple[str, ...] = ("postgresql", "mariadb", "sqlite")
    main: int = field()

    @main.default
    def _most_but_ten_million(self) -> int:
        return max((size for size in self.sizes if size <= A_MILLION), default=self.sizes[0])


def plan(database: str, extent: Extent) -> list[Cell]:
    """List the cells of one database; those that are compared with each other stand together."""
    stand = Stand(database, extent.main)
    cells: list[Cell] = []
    for clients in extent.clients:
        for reuse in extent.reuses:
            cells += [evolve(cell, clients=clients, reuse=reuse) for cell in _ways(stand)]
        cells += [evolve(cell, clients=clients) for cell in _variations(stand, extent)]
    return [*cells, *_sizes(database, extent)]


def _ways(stand: Stand) -> Iterator[Cell]:
    """One message at a time: the same work in the same shape, by everybody."""
    driver, other = DRIVERS[stand.database], ASYNC_DRIVERS[stand.database]
    yield Cell(stand, "raw", driver, Shape.AUTOCOMMIT)
    yield Cell(stand, "raw, our statements", driver, Shape.AUTOCOMMIT)
    yield Cell(stand, "core", driver, Shape.AUTOCOMMIT)
    yield Cell(stand, "ours", driver, Shape.AUTOCOMMIT)
    yield Cell(stand, "raw", driver, Shape.TRANSACTION)
    yield Cell(stand, "raw, our statements", driver, Shape.TRANSACTION)
    yield Cell(stand, "core", driver, Shape.TRANSACTION)
    yield Cell(stand, "ours", driver, Shape.TRANSACTION)
    yield Cell(stand, "core", driver, Shape.SESSION)
    yield Cell(stand, "ours", driver, Shape.SESSION)
    yield Cell(stand, "orm", driver, Shape.SESSION)
    yield Cell(stand, "django", driver, Shape.TRANSACTION)
    if stand.database == "postgresql":
        yield Cell(stand, "raw", other, Shape.AUTOCOMMIT)
        yield Cell(stand, "core", other, Shape.AUTOCOMMIT)
        yield Cell(stand, "ours", other, Shape.AUTOCOMMIT)
        yield Cell(stand, "raw", other, Shape.TRANSACTION)
    yield Cell(stand, "ours", other, Shape.TRANSACTION)
    yield Cell(stand, "ours", other, Shape.SESSION)


def _variations(stand: Stand, extent: Extent) -> Iterator[Cell]:
    """What else ours is asked to do, each to be compared with one of its own ways."""
    ours = Cell(stand, "ours", DRIVERS[stand.database])
    yield evolve(ours, shape=Shape.POOL)
    yield evolve(ours, contender="core", shape=Shape.POOL)
    yield evolve(ours, message_ids=True)
    for rule in Rule:
        if rule is not Rule.ACTIVE:
            yield evolve(ours, stand=evolve(stand, rule=rule))
    for batch in extent.batches:
        yield evolve(ours, batch=batch)
    if extent.batches:
        yield evolve(ours, contender="raw", batch=max(extent.batches))


def plan_of_log(database: str, size: int) -> list[Cell]:
    """List who routes a log: each on tables of its own, which nobody else has written to."""
    ways = [*_ways(Stand(database, size)), Cell(Stand(database, size), "ours", DRIVERS[database], batch=100)]
    return [
        evolve(way, stand=evolve(way.stand, name=f"log {number}"), reuse=0.0)
        for number, way in enumerate(ways)
    ]


def _sizes(database: str, extent: Extent) -> Iterator[Cell]:
    """Ask how the number of tickets tells; above a million of PostgreSQL only, as it takes minutes to fill."""
    for size in extent.sizes:
        if size != extent.main and (size <= A_MILLION or database == "postgresql"):
            stand = Stand(database, size)
            yield Cell(stand, "raw", DRIVERS[database], Shape.AUTOCOMMIT)
            yield Cell(stand, "ours", DRIVERS[database], Shape.AUTOCOMMIT)
