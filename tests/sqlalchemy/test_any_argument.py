"""Whatever a caller passes, in whatever place: the answer, or an error of ours, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

import ticketrouter
from ticketrouter import InboundMessage, Policy, Reopen, StatusScheme, TicketKey, TicketRouter
from ticketrouter.decisions import Lookup
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.sqlalchemy import (
    DEFAULT_MAPPING,
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.health.repair import plan_repair


@contextmanager
def told() -> Generator[list[ticketrouter.TicketRouterError]]:
    """Let out what is no error of ours, and collect what is: it can be shown."""
    errors: list[ticketrouter.TicketRouterError] = []
    try:
        yield errors
    except ticketrouter.TicketRouterError as caught:
        errors.append(caught)
    shown = [text for error in errors for text in (str(error), repr(error))]

    assert all(shown)


class Hostile:
    """Answers nothing that Python may ask of a value."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __hash__(self) -> int:
        raise RuntimeError("not to be hashed")

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


HERE = InboundMessage(1, "a", 10, message_id="m")
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    10**5000,
    1.5,
    float("nan"),
    Decimal(1),
    "",
    "a",
    "open",
    "a\0b",
    "\ud800",
    "x" * 5000,
    b"a",
    [],
    [1],
    {},
    {"a": 1},
    set(),
    (),
    iter(()),
    object(),
    int,
    lambda *_: None,
    UUID(int=1),
    datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    timedelta(days=-1),
    timedelta.max,
    HERE,
    HERE.key,
    Policy(),
    StatusScheme(),
    Hostile(),
]
"""What a caller may pass by mistake."""
TABLE = DEFAULT_MAPPING.table
FIELDS = ("id", "company_id", "contact_id", "status", "is_group", "user_id", "updated_at", "closed_at")
MADE: list[Callable[..., object]] = [
    *(
        lambda value, name=name: InboundMessage(
            **{"company_id": 1, "contact_id": 1, "connection_id": 1, name: value}
        )
        for name in (
            "company_id",
            "contact_id",
            "connection_id",
            "group_id",
            "message_id",
            "sent_at",
            "unread_messages",
            "kind",
        )
    ),
    lambda value: TicketKey(1, 1, value),
    lambda value: Lookup(1, value, 1),
    *(lambda value, name=name: Policy(**{name: value}) for name in ("scope", "reopen", "groups", "effects")),
    Reopen.within,
    lambda value: Reopen.always(keep_user=value),
    *(
        lambda value, name=name: StatusScheme(**{name: value})
        for name in (
            "active",
            "initial",
            "initial_group",
            "reopened",
            "accepted",
            "closed",
            "also_closed",
            "final",
            "wakes",
        )
    ),
    *(
        lambda value, name=name: InMemoryTicketRepository(**{name: value})
        for name in ("tickets", "unique_rule", "statuses", "next_id")
    ),
    TicketRouter,
    *(
        lambda value, name=name: TicketRouter(InMemoryTicketRepository(), **{name: value})
        for name in ("policy", "clock", "attempts")
    ),
    TicketMapping,
    *(
        lambda value, name=name: TicketMapping(TABLE, **{name: value})
        for name in (
            *FIELDS,
            "statuses",
            "on_create",
            "only_company",
            "nullable_keys",
            "epoch",
            "metadata",
            "prefix",
            "remember_messages",
        )
    ),
    *(
        lambda value, name=name: TicketMapping.own(**{name: value})
        for name in ("statuses", "metadata", "prefix", "schema", "generated_column", "remember_messages")
    ),
    TicketMapping.whaticket,
    SQLAlchemyTicketRepository,
    AsyncSQLAlchemyTicketRepository,
    lambda value: detect_unique_rule(value, DEFAULT_MAPPING),
]
"""Each takes one value in one place."""
ASKED: list[Callable[[TicketRouter, Any], object]] = [
    TicketRouter.resolve,
    TicketRouter.resolve_many,
    lambda router, value: router.resolve_many([HERE, value]),
    TicketRouter.explain,
    TicketRouter.find_active,
    lambda router, value: router.active_tickets(value, 1),
    lambda router, value: router.active_tickets(1, value),
    TicketRouter.ensure_can_open,
    TicketRouter.open,
    lambda router, value: router.open(TicketKey(1, 2, 3), is_group=value) if value is not True else None,
    lambda router, value: router.accept(1, value, 1),
    lambda router, value: router.accept(value, 99, 1),
    lambda router, value: router.close(value, 99),
    lambda router, value: router.reopen(1, value),
    lambda router, value: router.transfer(1, 99, value),
    lambda router, value: router.merge_contacts(value, 1, 2),
    lambda router, value: router.merge_contacts(1, value, 2),
    lambda router, value: router.move_connection(1, 1, 2, on_collision=value),
    lambda router, value: router.plan_merge_contacts(1, 1, value),
]


@pytest.mark.parametrize("make", MADE)
def test_what_is_made_of_anything_is_sound_or_refused(make: Callable[[Any], object]) -> None:
    for value in VALUES:
        with told():
            make(value)


@pytest.mark.parametrize("call", ASKED)
@pytest.mark.parametrize("with_session", [False, True], ids=["connection", "session"])
def test_whatever_is_asked_is_answered_or_refused_and_leaves_no_half(
    call: Callable[[TicketRouter, Any], object], with_session: bool
) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    configure_sqlite(engine)
    DEFAULT_MAPPING.metadata.create_all(engine)
    for value in VALUES:
        with engine.connect() as connection, connection.begin() as transaction:
            host = Session(connection) if with_session else connection
            with told() as errors:
                call(TicketRouter(SQLAlchemyTicketRepository(host)), value)
            left = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (TABLE, DEFAULT_MAPPING.message_ids)
            ]

            assert not errors or left == [0, 0]
            transaction.rollback()
    engine.dispose()


@pytest.mark.parametrize("place", [0, 1])
def test_a_plan_of_anything_is_refused(place: int) -> None:
    with create_engine("sqlite://").connect() as connection:
        for value in VALUES:
            wrong: list[Any] = [connection, DEFAULT_MAPPING]
            wrong[place] = value
            with pytest.raises(ticketrouter.TicketRouterError):
                plan_repair(*wrong)
