"""What a host's functions and constants give back is checked before it is sent, and told by the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Engine, Integer, MetaData, String, Table, create_engine, func, select

from ticketrouter import InboundMessage, TicketKey, TicketRouter
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
)

Act = Callable[[TicketRouter], Any]
WITHOUT: dict[str, Any] = dict.fromkeys(("is_group", "unread_messages", "created_at", "closed_at"))
MESSAGES = [InboundMessage(1, contact, 10) for contact in (5, 6, 7)]
ACTS: dict[str, Act] = {
    "message": lambda router: router.resolve(MESSAGES[0]),
    "batch": lambda router: router.resolve_many(MESSAGES),
    "desk": lambda router: router.open(TicketKey(1, 5, 10)),
}


def mapped(**arguments: Any) -> tuple[Engine, TicketMapping]:
    names = ("company_id", "contact_id", "connection_id")
    rooms = Table(
        "rooms",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in names),
        *(Column(name, Integer) for name in ("user_id", "queue_id")),
        Column("status", String(9), nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("seen_at", DateTime),
    )
    engine = create_engine("sqlite://")
    configure_sqlite(engine)
    mapping = TicketMapping(rooms, **WITHOUT, metadata=rooms.metadata, **arguments)
    rooms.metadata.create_all(engine)
    return engine, mapping


def count(engine: Engine, mapping: TicketMapping) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(mapping.table)).scalar_one()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_create": lambda _: None}, "on_create must return a mapping of columns to values, {} for none, not None"),
    ({"on_create": lambda _: [("seen_at", None)]}, "on_create must return a mapping"),
    ({"on_create": lambda _: "text"}, "on_create must return a mapping"),
    ({"on_create": {"seen_at": "now"}}, "on_create gives this str of 3 characters for rooms.seen_at, which is of type DateTime"),
    ({"on_create": lambda _: {"seen_at": 5}}, "on_create gives this int for rooms.seen_at"),
    ({"on_create": {"user_id": "ana"}}, "on_create gives this str of 3 characters for rooms.user_id, which takes an int"),
    ({"on_create": lambda _: {"queue_id": 2.5}}, "on_create gives this float for rooms.queue_id, which takes an int"),
    ({"new_id": lambda: None}, "new_id must return the key of a new row, an int of at most 64 bits"),
    ({"new_id": lambda: True}, "new_id must return the key of a new row, an int of at most 64 bits"),
    ({"new_id": str}, "new_id must return the key of a new row, a text of 1 to 250 characters, not this str of 0 characters"),
    ({"new_id": lambda: "text"}, "new_id gives this str of 4 characters for rooms.id, which takes an int"),
]  # fmt: skip
OF_MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"on_message": {"seen_at": "now"}}, "on_message gives this str of 3 characters for rooms.seen_at, which is of type DateTime"),
    ({"on_message": {"seen_at": lambda *_: 5}}, "on_message gives this int for rooms.seen_at"),
]  # fmt: skip
CASES = [
    *((act, *each) for act in ACTS for each in WRONG),
    *((act, *each) for act in ("message", "batch") for each in OF_MESSAGES),
]


@pytest.mark.parametrize(("act", "arguments", "told"), CASES)
def test_what_does_not_fit_is_told_by_its_argument(act: str, arguments: dict[str, Any], told: str) -> None:
    """A typed error names the argument and what it must give; nothing is written."""
    engine, mapping = mapped(**arguments)

    with engine.begin() as connection, pytest.raises(MappingError) as caught:
        ACTS[act](TicketRouter(SQLAlchemyTicketRepository(connection, mapping)))

    assert str(caught.value).startswith(told)
    assert count(engine, mapping) == 0
    engine.dispose()


def test_a_message_that_joins_is_looked_at_too() -> None:
    """What `on_message` writes into a row that is there is checked as in a new one."""
    answer: dict[str, Any] = {"seen_at": None}
    engine, mapping = mapped(on_message={"seen_at": lambda *_: answer["seen_at"]})
    with engine.begin() as connection:
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(MESSAGES[0])
    answer["seen_at"] = 5

    with (
        engine.begin() as connection,
        pytest.raises(MappingError, match=r"^on_message gives this int for rooms\.seen_at"),
    ):
        TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(MESSAGES[0])

    engine.dispose()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("argument", ["on_create", "new_id"])
def test_what_a_host_raises_is_the_hosts_own(act: str, argument: str) -> None:
    """It goes to the caller as it is."""

    def fails(*_: object) -> Any:
        raise ZeroDivisionError

    engine, mapping = mapped(**{argument: fails})

    with engine.begin() as connection, pytest.raises(ZeroDivisionError):
        ACTS[act](TicketRouter(SQLAlchemyTicketRepository(connection, mapping)))

    assert count(engine, mapping) == 0
    engine.dispose()
