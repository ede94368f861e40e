"""Rows in the way that are not ours to see: told as such, before anything is written, and never as a lost race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import (
    URL,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    select,
    text,
)
from sqlalchemy.pool import NullPool

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import (
    BlockedBySchemaError,
    InboundMessage,
    Outcome,
    Policy,
    Reopen,
    TicketKey,
    TicketRouter,
)
from ticketrouter.sqlalchemy import (
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
)

NOON = datetime(2026, 11, 23, 12)  # noqa: DTZ001 - as a column without a zone keeps it
KEY = TicketKey(1, 50, 10)
MESSAGE = InboundMessage(1, 50, 10)
WITH_ID = InboundMessage(1, 50, 10, message_id="m")
SECRET = 987654
"""The id of a ticket that is not ours to see."""


@frozen
class Host:
    """A desk's table with one unique index.

    Args:
        over: the columns of the index.
        when: which rows it is about.
        where: whether deleted rows do not exist for the desk.
    """

    over: tuple[str, ...]
    where: bool = False
    when: str = "status IN ('open', 'pending')"

    def mapping(self) -> TicketMapping:
        table = Table(
            "desk",
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("company_id", Integer),
            Column("contact_id", Integer),
            Column("connection_id", Integer),
            Column("status", String(20), nullable=False),
            Column("unread", Integer, nullable=False, default=0),
            Column("user_id", Integer),
            Column("queue_id", Integer),
            Column("created_at", DateTime, nullable=False),
            Column("updated_at", DateTime, nullable=False),
            Column("closed_at", DateTime),
            Column("deleted", Integer),
        )
        where = table.c.deleted.is_(None) if self.where else None
        return TicketMapping(table, is_group=None, unread_messages="unread", nullable_keys=True, where=where)

    def index(self, connection: Connection) -> None:
        over = ", ".join(self.over)
        if connection.dialect.name in {"mysql", "mariadb"}:
            connection.execute(text(f"ALTER TABLE desk ADD a INT AS (IF({self.when}, 1, NULL)) VIRTUAL"))
            connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({over}, a)"))
        else:
            connection.execute(text(f"CREATE UNIQUE INDEX u ON desk ({over}) WHERE {self.when}"))


class Desk:
    """A host's tables in a database of their own."""

    def __init__(self, url: URL, host: Host) -> None:
        self.url = url
        self.engine = create_engine(url, poolclass=NullPool)
        if url.get_backend_name() == "sqlite":
            configure_sqlite(self.engine)
        self.mapping = host.mapping()
        self.mapping.table.metadata.create_all(self.engine)
        self.mapping.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            host.index(connection)
            if url.get_backend_name() == "postgresql":
                # The rows of the tests have numbers of their own.
                connection.execute(text("ALTER SEQUENCE desk_id_seq RESTART WITH 1000"))

    def insert(self, number: int, key: tuple[Any, Any, Any], status: str = "open") -> None:
        """Insert a row around the library."""
        company, contact, at = key
        row = {"id": number, "company_id": company, "contact_id": contact, "connection_id": at}
        closed_at = None if status != "closed" else NOON
        times = {"created_at": NOON, "updated_at": NOON, "closed_at": closed_at}
        with self.engine.begin() as connection:
            connection.execute(self.mapping.table.insert().values(**row, status=status, **times))

    def rows(self) -> list[Any]:
        """Read every row of every table."""
        tables = (self.mapping.table, self.mapping.message_ids)
        with self.engine.begin() as connection:
            return [[tuple(row) for row in connection.execute(select(table))] for table in tables]

    def empty(self) -> None:
        """Delete every row."""
        with self.engine.begin() as connection:
            for table in (self.mapping.table, *self.mapping.metadata.sorted_tables):
                connection.execute(table.delete())

    @contextmanager
    def router(self, policy: Policy | None = None) -> Iterator[TicketRouter]:
        """Yield a router in a transaction of the host's, which goes on, and is committed, after an error."""
        with self.engine.begin() as connection:
            yield TicketRouter(SQLAlchemyTicketRepository(connection, self.mapping), policy or Policy())
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.fixture(scope="module", params=ONE_PER_DATABASE, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def desk(backend: Backend, databases: Databases) -> Iterator[Callable[[Host], Desk]]:
    """Make the tables of a host, once for all tests."""
    made: dict[Host, Desk] = {}

    def of(host: Host) -> Desk:
        if host not in made:
            made[host] = Desk(databases.new(backend.database), host)
        made[host].empty()
        return made[host]

    yield of
    for each in made.values():
        each.engine.dispose()
        databases.drop(each.url)


RIGHT = Host(("company_id", "contact_id", "connection_id"))
WITHOUT_COMPANY = Host(("contact_id", "connection_id"))
NOT_CLOSED = Host(("company_id", "contact_id", "connection_id"), when="status <> 'closed'")
ALWAYS = Policy(reopen=Reopen.always())

ACTS: dict[str, Callable[[TicketRouter], object]] = {
    "resolve": lambda router: router.resolve(MESSAGE),
    "resolve with an id": lambda router: router.resolve(WITH_ID),
    "resolve many": lambda router: router.resolve_many([MESSAGE] * 5),
    "resolve many with ids": lambda router: router.resolve_many(
        [InboundMessage(1, 50, 10, message_id=f"m{n}") for n in range(5)]
    ),
    "open": lambda router: router.open(KEY),
    "ensure_can_open": lambda router: router.ensure_can_open(KEY),
    "reopen": lambda router: router.reopen(1, 1),
    "transfer": lambda router: router.transfer(1, 2, 10),
    "merge": lambda router: router.merge_contacts(1, 60, 50),
    "move": lambda router: router.move_connection(1, 20, 10),
    "plan of a merge": lambda router: router.plan_merge_contacts(1, 60, 50),
    "plan of a move": lambda router: router.plan_move_connection(1, 20, 10),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("policy", "whose"),
    [(Policy(), 2), (ALWAYS, 2), (ALWAYS, None)],
    ids=["another company's", "another company's, reopening", "an orphan"],
)
def test_a_row_that_is_not_ours_is_told_and_not_shown(
    desk: Callable[[Host], Desk], act: str, policy: Policy, whose: int | None
) -> None:
    """An index without the company: a row that is not ours refuses ours, and nothing of it comes out."""
    here = desk(WITHOUT_COMPANY)
    here.insert(SECRET, (whose, 50, 10))
    error = _refused(here, act, policy)

    assert (None, False) == (error.ticket, error.retryable)
    assert str(SECRET) not in f"{error}{error!r}{error.args}"


@pytest.mark.parametrize("act", ACTS)
def test_a_row_of_an_unknown_word_in_the_way_is_told_and_shown(
    desk: Callable[[Host], Desk], act: str
) -> None:
    """An index over all that is not closed: a ticket of a word that the scheme does not know keeps the key."""
    here = desk(NOT_CLOSED)
    here.insert(7, (1, 50, 10), "bot")
    error = _refused(here, act, Policy())

    assert error.ticket is not None
    assert (7, "bot", False) == (error.ticket.id, error.ticket.status, error.retryable)
    assert "'bot'" in str(error)


@pytest.mark.parametrize(
    ("host", "whose", "word", "ticket_id"),
    [(WITHOUT_COMPANY, 2, "open", None), (NOT_CLOSED, 1, "bot", 7)],
    ids=["another company's", "unknown word"],
)
@pytest.mark.parametrize("policy", [Policy(), ALWAYS], ids=["usual", "reopening"])
def test_what_would_be_refused_is_explained(
    desk: Callable[[Host], Desk], host: Host, whose: int, word: str, ticket_id: int | None, policy: Policy
) -> None:
    """Nobody reads of a new ticket which no message would get; whoever has one joins it as before."""
    here = desk(host)
    here.insert(7, (whose, 50, 10), word)
    here.insert(1, (1, 50, 10), "closed")
    here.insert(2, (1, 50, 20))
    with here.router(policy) as router:
        found = router.explain(MESSAGE).answer
        beside = router.explain(InboundMessage(1, 50, 20)).answer
        elsewhere = router.explain(InboundMessage(1, 50, 30)).answer

    assert (None, ticket_id) == (found.outcome, found.ticket and found.ticket.id)
    assert (Outcome.REUSED, Outcome.CREATED) == (beside.outcome, elsewhere.outcome)


def _refused(here: Desk, act: str, policy: Policy) -> BlockedBySchemaError:
    """Let an act be refused, and see that nothing was written in a transaction that is committed all the same."""
    here.insert(1, (1, 50, 10), "closed")
    here.insert(2, (1, 50, 20))
    here.insert(3, (1, 60, 10 if "merge" in act else 30))
    before = here.rows()
    with here.router(policy) as router, pytest.raises(BlockedBySchemaError) as error:
        ACTS[act](router)

    assert before == here.rows()
    return error.value
