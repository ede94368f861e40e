"""Units of work, and what they leave in the database.

Law of this file: a unit of work is what a host does from BEGIN to COMMIT; after a fault it is done again from its
start, as `is_retryable` says. It knows no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, Engine, create_engine, func, select

from ticketrouter import (
    ActiveTicketExistsError,
    InboundMessage,
    Policy,
    Reopen,
    Ticket,
    TicketKey,
    TicketRouter,
)
from ticketrouter.sqlalchemy import (
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    is_retryable,
)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
KEY = TicketKey("c1", "5511999999999", "10")
TRIES = 5
MAPPING = TicketMapping.own()
"""Tables of our own, on a MetaData where no example has put its tables too."""


def ticket(status: str, **changes: Any) -> Ticket:
    """Return a ticket on KEY, as a host has it."""
    fields: dict[str, Any] = {
        "id": 1,
        "company_id": KEY.company_id,
        "contact_id": KEY.contact_id,
        "connection_id": KEY.connection_id,
        "status": status,
        "is_group": False,
        "unread_messages": 0,
        "user_id": None,
        "queue_id": None,
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
        "closed_at": LONG_AGO + timedelta(hours=1) if status == "closed" else None,
    }
    return Ticket(**(fields | changes))


def message(message_id: str, connection_id: str = "10", contact_id: str = KEY.contact_id) -> InboundMessage:  # type: ignore[assignment]
    """Return a message that can be told when it comes again."""
    return InboundMessage(KEY.company_id, contact_id, connection_id, message_id=message_id)


@frozen
class Work:
    """One unit of work.

    Args:
        name: what it is called in the tests.
        do: what it asks of the router; the id is that of the ticket that is there before.
        before: that ticket, if there is one.
        policy: what the host has chosen.
    """

    name: str
    do: Callable[[TicketRouter, Any], object]
    before: Ticket | None = None
    policy: Policy = field(factory=Policy)

    def __str__(self) -> str:
        return self.name


def _open(router: TicketRouter, _: Any) -> None:
    try:
        router.open(KEY, user_id="7")
    except ActiveTicketExistsError as error:
        if error.ticket.user_id != "7":
            raise


def _redelivery(router: TicketRouter, _: Any) -> None:
    router.resolve(message("m1"))
    router.resolve(message("m1"))


WORKS = (
    Work("a message creates", lambda router, _: router.resolve(message("m1"))),
    Work("a message joins", lambda router, _: router.resolve(message("m1")), ticket("open")),
    Work(
        "a message reopens",
        lambda router, _: router.resolve(message("m1")),
        ticket("closed"),
        Policy(reopen=Reopen.always()),
    ),
    Work("a redelivery", _redelivery),
    Work(
        "many messages",
        lambda router, _: router.resolve_many(
            [message("m1"), message("m2"), message("m3", "13"), message("m2"), message("m4", contact_id="55")]
        ),
    ),
    Work("open", _open),
    Work("accept", lambda router, ticket_id: router.accept("c1", ticket_id, "7"), ticket("pending")),
    Work("close", lambda router, ticket_id: router.close("c1", ticket_id), ticket("open", user_id="7")),
    Work("reopen", lambda router, ticket_id: router.reopen("c1", ticket_id), ticket("closed")),
    Work("transfer", lambda router, ticket_id: router.transfer("c1", ticket_id, "13"), ticket("open")),
    Work("merge", lambda router, _: router.merge_contacts("c1", KEY.contact_id, "77"), ticket("open")),
    Work("move", lambda router, _: router.move_connection("c1", "10", "13"), ticket("open")),
)


def engine_for(url: Any, **options: Any) -> Engine:
    """Return a host's engine."""
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    return engine


def warm_up(engine: Engine, mapping: TicketMapping = MAPPING) -> None:
    """Have the library find out what it does once per engine, so that no fault meets that."""
    with engine.begin() as connection:
        SQLAlchemyTicketRepository(connection, mapping).get(KEY.company_id, 0)


def once(engine: Engine, work: Work, ticket_id: Any, mapping: TicketMapping = MAPPING) -> None:
    """Do a unit of work once."""
    with engine.begin() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping), work.policy)
        work.do(router, ticket_id)


def until_done(engine: Engine, work: Work, ticket_id: Any, mapping: TicketMapping = MAPPING) -> int:
    """Do a unit of work as a host does, again where the error says so; return how often it took."""
    for attempt in range(1, TRIES + 1):
        try:
            once(engine, work, ticket_id, mapping)
        except Exception as error:
            if attempt == TRIES or not is_retryable(error):
                raise
        else:
            return attempt
    raise AssertionError("the last attempt returns or raises")


def error_of(engine: Engine, work: Work, ticket_id: Any) -> Exception | None:
    """Do a unit of work once, and return what it raises."""
    try:
        once(engine, work, ticket_id)
    except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
        return error
    return None


def prepare(engine: Engine, work: Work, mapping: TicketMapping = MAPPING) -> Any:
    """Empty the tables and put the ticket there that is there before; return its id."""
    with engine.begin() as connection:
        for table in mapping.metadata.sorted_tables:
            connection.execute(table.delete())
        if work.before is None:
            return None
        columns = mapping.columns.items()
        values = {column.key: getattr(work.before, name) for name, column in columns if name != "id"}
        inserted = connection.execute(mapping.table.insert().values(values))
        return inserted.inserted_primary_key[0]  # type: ignore[index]


def left_in(engine: Engine, mapping: TicketMapping = MAPPING) -> Hashable:
    """Return what the tables hold, but for ids and times, which a second attempt may have others of."""
    with engine.begin() as connection:
        return _tickets(connection, mapping), _recorded(connection, mapping)


def _tickets(connection: Connection, mapping: TicketMapping) -> Hashable:
    names = ("contact_id", "connection_id", "status", "unread_messages", "user_id", "queue_id")
    columns = [mapping.columns[name] for name in names]
    closed_at = mapping.columns["closed_at"]
    rows = connection.execute(select(*columns, closed_at.is_not(None))).all()
    return tuple(sorted((tuple(row) for row in rows), key=repr))


def _recorded(connection: Connection, mapping: TicketMapping) -> Hashable:
    """Return how many message ids lead to the tickets of each connection: to none but one that is there."""
    ids, columns = mapping.message_ids.c, mapping.columns
    total = connection.execute(select(func.count()).select_from(mapping.message_ids)).scalar_one()
    found = connection.execute(
        select(columns["contact_id"], columns["connection_id"], func.count())
        .join_from(mapping.table, mapping.message_ids, columns["id"] == ids.ticket_id)
        .group_by(columns["contact_id"], columns["connection_id"])
    ).all()
    return total, tuple(sorted((tuple(row) for row in found), key=repr))


__all__ = [
    "KEY",
    "MAPPING",
    "WORKS",
    "Work",
    "engine_for",
    "error_of",
    "left_in",
    "message",
    "once",
    "prepare",
    "until_done",
    "warm_up",
]
