"""Eighteen long random stories that a rebuilding of the library is held to: the same answers, the same statements.

    python -m tests.support.stories                      # record tests/support/stories.json anew
    python -m tests.support.stories --check              # compare; name stories to take only those
    python -m tests.support.stories --tell postgresql-2  # print every call of a story, with its answer

Law of this file: it uses what a host uses, the routers, the SQLAlchemy repositories and mappings, and no inner name,
so that it outlives what is behind them. A story is 250 calls, drawn from a seed and from the answers so far; one
client, so that nothing in it hangs on time. The same seed is told on each database.

What is told of a call: what was asked, and the answer or the class of the error, as plain values. Tickets are
numbered as they first appear in an answer, so that gaps in a sequence do not matter. Of several tickets in the way of
a move the error carries any one, which is therefore not told; nor is the order in a plan. At the end the tables:
tickets, message ids, and who has an anchor, without its version, which says no more than how often it was written.

What is counted: what SQLAlchemy hands to a cursor while the call runs, savepoints too; not BEGIN, COMMIT and ROLLBACK,
nor what the host sends. Before the first call each story does all kinds of things in a transaction that is rolled
back, on the one connection of its pool: what is found out once for a database or connection is not counted.

Before a move the host marks all tickets of the company as read: what a move does with counts is told elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from inspect import iscoroutine
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import asdict, field, frozen
from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Computed,
    DateTime,
    Executable,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.support.backends import Databases
from ticketrouter import (
    ActiveTicketExistsError,
    AsyncTicketRouter,
    BlockedBySchemaError,
    ConflictError,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    MovePlan,
    OnCollision,
    Outcome,
    Policy,
    Reopen,
    Resolution,
    Scope,
    Ticket,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import (
    AsyncSQLAlchemyTicketRepository,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
)

RECORDING = Path(__file__).with_suffix(".json")
CALLS = 250
DATABASES = ("postgresql", "mariadb", "sqlite")
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
    "sqlite": ("sqlite+pysqlite", "sqlite+aiosqlite"),
}
BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)

POLICIES = (
    Policy(),
    Policy(reopen=Reopen.always()),
    Policy(reopen=Reopen.within(timedelta(hours=2), keep_user=True)),
    Policy(reopen=Reopen.within(timedelta(minutes=10)), groups=Policy(scope=Scope.CONTACT)),
    Policy(scope=Scope.CONTACT),
    Policy(scope=Scope.CONTACT, reopen=Reopen.always(keep_queue=False)),
    Policy(scope=Scope.CONTACT, reopen=Reopen.within(timedelta(hours=1), keep_user=True)),
)
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (0, 0, 0.25, 1, 7.5, 40, 90, 600, 2400, 2 * 3600, 9 * 3600)
)
KINDS = (*[MessageKind.MESSAGE] * 8, MessageKind.ECHO, MessageKind.NOTICE)
SIZES = (1, 2, 2, 3, 3, 5, 8, 13, 40)

COMPANIES = (1, 1, 2)
PEOPLE, GROUPS, CONNECTIONS = range(1, 7), range(10, 12), range(1, 4)
AGENTS, QUEUES = range(1, 4), range(1, 3)
UNKNOWN_WORDS = ("archived", "spam")
NOBODY = 999_999


# --- the tables ------------------------------------------------------------------------------------------------


def _as_number(_: str, number: int) -> int:
    return number


def _as_text(what: str, number: int) -> str:
    return f"{what}-{number}"


@frozen
class Setting:
    """What a seed is told with.

    Args:
        mapping: makes the tables of a kind of database, on paper.
        an_id: writes the ids of companies, contacts, connections, agents and queues.
        is_async: whether the asynchronous router is asked.
        session: whether the host has a Session, instead of a Connection.
        policies: the numbers of those that the host has, one for each call.
    """

    mapping: Callable[[str], TicketMapping]
    an_id: Callable[[str, int], int | str] = _as_number
    is_async: bool = False
    session: bool = False
    policies: Sequence[int] = range(len(POLICIES))


def _own(_database: str) -> TicketMapping:
    return TicketMapping.own()


def _without_rule(_database: str) -> TicketMapping:
    """A table with text ids, and nothing that keeps a key from having two active tickets."""
    numbers = count(1)

    def key(name: str) -> Column[Any]:
        return Column(name, String(60).with_variant(mysql.VARCHAR(60, collation="utf8mb4_bin"), *_MARIADB))

    def made() -> str:
        return f"ticket-{next(numbers):06}"

    table = Table(
        "conversations",
        MetaData(),
        Column("number", key("").type, primary_key=True, default=made),
        *(_not_null(key(name)) for name in ("account", "person", "inbox")),
        Column("state", String(60), nullable=False),
        Column("is_group", Boolean, nullable=False),
        Column("unread", Integer, nullable=False),
        key("agent"),
        key("team"),
        Column("created_at", _MOMENT, nullable=False),
        Column("updated_at", _MOMENT, nullable=False),
        Column("closed_at", _MOMENT),
        Index("ix_conversations_key", "account", "person", "inbox"),
    )
    return TicketMapping(
        table,
        id="number",
        company_id="account",
        contact_id="person",
        connection_id="inbox",
        status="state",
        unread_messages="unread",
        user_id="agent",
        queue_id="team",
    )


def _whaticket(
    database: str, *, unique: Sequence[str] = (), active: bool = False, remember: bool = True
) -> TicketMapping:
    """A table with the names of the Whaticket line: no time of closing, columns of its own.

    Args:
        database: the kind of database.
        unique: the columns of a rule about open and closed tickets alike.
        active: whether there is a rule about active ones.
        remember: whether message ids are recorded.
    """
    key = ("contactId", "companyId", "whatsappId")
    is_active = "status IN ('open', 'pending')"
    table = Table(
        "Tickets",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("status", String(255), nullable=False, server_default="pending"),
        Column("lastMessage", String(255), server_default=""),
        Column("contactId", Integer),
        Column("userId", Integer),
        Column("whatsappId", Integer),
        Column("companyId", Integer),
        Column("queueId", Integer),
        Column("isGroup", Boolean, nullable=False),
        Column("unreadMessages", Integer, nullable=False),
        Column("channel", String(40), nullable=False),
        Column("createdAt", _MOMENT, nullable=False),
        Column("updatedAt", _MOMENT, nullable=False),
        Index("ix_tickets_contact", "contactId"),
        sqlite_autoincrement=True,
    )
    if unique:
        table.append_constraint(UniqueConstraint(*unique, name="contactid_companyid_unique"))
    if active and database == "mariadb":
        table.append_column(Column("active", Integer, Computed(f"IF({is_active}, 1, NULL)", persisted=False)))
        Index("tickets_active", *(table.c[name] for name in (*key, "active")), unique=True)
    elif active:
        predicate = text(is_active)
        columns = [table.c[name] for name in key]
        Index("tickets_active", *columns, unique=True, postgresql_where=predicate, sqlite_where=predicate)
    return TicketMapping.whaticket(table, on_create={"channel": "whatsapp"}, remember_messages=remember)


_MARIADB = ("mysql", "mariadb")
_MOMENT = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), *_MARIADB)


def _not_null(column: Column[Any]) -> Column[Any]:
    column.nullable = False
    return column


SETTINGS = (
    Setting(_own),
    Setting(_own, an_id=_as_text, is_async=True),
    Setting(_without_rule, an_id=_as_text, session=True),
    Setting(partial(_whaticket, active=True, remember=False), session=True),
    # Such a table has little room for any other policy than one ticket for each contact.
    Setting(partial(_whaticket, unique=("contactId", "companyId")), policies=(0, 5, 5, 5, 5, 6, 6)),
    Setting(partial(_whaticket, unique=("contactId", "companyId", "whatsappId"))),
)
STORIES = tuple(f"{database}-{seed}" for database in DATABASES for seed in range(len(SETTINGS)))


# --- the host --------------------------------------------------------------------------------------------------


class Host:
    """One client with one connection, in a transaction from its first statement to `end`."""

    def __init__(self, database: str, url: URL, setting: Setting) -> None:
        self._stack = ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner()) if setting.is_async else None
        self.mapping = setting.mapping(database)
        driven = url.set(drivername=DRIVERS[database][setting.is_async])
        engine: Any
        self._open: Callable[[], Any]
        if setting.is_async:
            engine = create_async_engine(driven, pool_size=1, max_overflow=0)
            self._open = partial(AsyncSession, engine)
            self._stack.callback(lambda: self.run(engine.dispose()))
        else:
            engine = create_engine(driven, pool_size=1, max_overflow=0)
            self._open = partial(Session, engine) if setting.session else engine.connect
            self._stack.callback(engine.dispose)
        if database == "sqlite":
            configure_sqlite(engine)
        self.sent = 0
        event.listen(engine.sync_engine if setting.is_async else engine, "before_cursor_execute", self._count)
        self.unit: Any = self._open()

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent += not statement.startswith("BEGIN")

    def create_tables(self) -> None:
        for metadata in (self.mapping.table.metadata, self.mapping.metadata):
            create = partial(metadata.create_all, checkfirst=True)
            if self._runner is None:
                connection = self.unit.connection() if isinstance(self.unit, Session) else self.unit
                create(connection)
            else:
                self.run(self.run(self.unit.connection()).run_sync(create))
        self.end(commit=True)

    def run(self, answer: Any) -> Any:
        """Return an answer, or wait for it."""
        return self._runner.run(answer) if self._runner is not None and iscoroutine(answer) else answer

    @property
    def repository(self) -> Any:
        if self._runner is None:
            return SQLAlchemyTicketRepository(self.unit, self.mapping)
        return AsyncSQLAlchemyTicketRepository(self.unit, self.mapping)

    def router(self, policy: Policy, now: datetime) -> Any:
        kind: Any = TicketRouter if self._runner is None else AsyncTicketRouter
        return kind(self.repository, policy, clock=lambda: now)

    def execute(self, statement: Executable) -> Any:
        """Send a statement of the host's own."""
        return self.run(self.unit.execute(statement))

    def end(self, *, commit: bool) -> None:
        self.run(self.unit.commit() if commit else self.unit.rollback())
        self.run(self.unit.close())
        self.unit = self._open()

    def close(self) -> None:
        self.run(self.unit.close())
        self._stack.close()


# --- a story ---------------------------------------------------------------------------------------------------


@frozen
class Call:
    """What was called, what was said and answered, and how many statements it took."""

    name: str
    told: str
    sent: int

    def __str__(self) -> str:
        return f"{self.name} {_digest(self.told)} {self.sent}"


@frozen
class Act:
    """A call that has been drawn: what is said, and what does it and tells the answer."""

    said: Any
    do: Callable[[], Any] = field(eq=False)


_MAY_GO_ON = (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    ConflictError,
    InvalidMessageError,
    TicketNotFoundError,
)
"""The errors after which nothing was written: the host may go on in its transaction."""


class Story:
    """A host, the dice, and what the host has been told so far."""

    def __init__(self, seed: int, host: Host) -> None:
        self.host = host
        self.random = Random(f"story {seed}")
        self.an_id = SETTINGS[seed].an_id
        self.policies = SETTINGS[seed].policies
        self.now = BEGINNING
        self.tickets: list[tuple[Any, Any]] = []
        """Company and id of each ticket, by its number."""
        self.kept = 0
        """How many of them are committed."""
        self.numbers: dict[Any, int] = {}
        self.messages: list[dict[str, Any]] = []
        """Those with an id, for redeliveries."""
        self.ids = count(1)

    def told(self) -> Iterator[Call]:
        """Tell the story."""
        self._warm_up()
        names = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
        for _ in range(CALLS):
            self.now += self.random.choice(PAUSES)
            name = self.random.choice(names)
            yield self._call(name)
            if self.random.random() < 0.4:
                self._commit()
        self._commit()
        yield Call("tables", _plain(list(self._tables())), 0)

    def _call(self, name: str) -> Call:
        act: Act = getattr(self, f"_{name}")()
        before = self.host.sent
        try:
            answer = act.do()
        except TicketRouterError as error:
            answer = self._error(error, with_ticket="move" not in name and "merge" not in name)
            if name == "resolve_many" or not isinstance(error, _MAY_GO_ON):
                self._roll_back()
        # What the host sends itself is not ours.
        sent = 0 if name.startswith("host") else self.host.sent - before
        return Call(name, _plain([act.said, answer]), sent)

    def _commit(self) -> None:
        self.host.end(commit=True)
        self.kept = len(self.tickets)

    def _roll_back(self) -> None:
        self.host.end(commit=False)
        for _, ticket_id in self.tickets[self.kept :]:
            del self.numbers[ticket_id]
        del self.tickets[self.kept :]

    def _warm_up(self) -> None:
        """Do all kinds of things, all of which are rolled back."""
        contacts = [self.an_id("contact", number) for number in PEOPLE]
        company, one, two = self.an_id("company", 1), self.an_id("connection", 1), self.an_id("connection", 2)
        ask = partial(self._ask, Policy(reopen=Reopen.always()))

        def message(contact: Any, message_id: str | None = None) -> InboundMessage:
            return InboundMessage(company, contact, one, message_id=message_id)

        with suppress(TicketRouterError):
            ask("resolve", message(contacts[0]))
            ask("resolve", message(contacts[0], "a"))
            ask("resolve", message(contacts[0], "a"))
            ask("resolve_many", [message(each) for each in contacts[:3]])
            ask("resolve_many", [message(each, f"b{each}") for each in contacts])
            ask("explain", message(contacts[0], "c"))
        for word, contact in zip(UNKNOWN_WORDS, contacts, strict=False):
            ticket = ask("find_active", message(contact).key)
            self._change(ticket.id, {"status": word})
            with suppress(TicketRouterError):
                ask("find_active", ticket.key)
                ask("resolve", message(contact))
        with suppress(TicketRouterError):
            ticket = ask("find_active", message(contacts[2]).key)
            ask("accept", company, ticket.id, self.an_id("agent", 1))
            ask("close", company, ticket.id)
            ask("reopen", company, ticket.id)
            ask("transfer", company, ticket.id, two)
        with suppress(TicketRouterError):
            ask("merge_contacts", company, *contacts[3:5])
        with suppress(TicketRouterError):
            ask("move_connection", company, one, two)
        if self.host.mapping.remember_messages:
            self.host.run(self.host.repository.forget_messages(BEGINNING))
        self.host.end(commit=False)
        self.host.sent = 0

    # The calls, each drawn in a method that WEIGHTS names.

    def _resolve(self) -> Act:
        policy, draft = self._policy(), self._message()
        return Act(
            [policy, _shown(draft)],
            lambda: self._resolution(self._ask(POLICIES[policy], "resolve", InboundMessage(**draft))),
        )

    def _resolve_many(self) -> Act:
        policy = self._policy()
        ids = self.random.choice((0.0, 0.0, 0.5, 1.0))
        connection = self._connection() if self.random.random() < 0.4 else None
        drafts = [self._message(ids=ids, connection=connection) for _ in range(self.random.choice(SIZES))]
        messages = [InboundMessage(**draft) for draft in drafts]
        return Act(
            [policy, *map(_shown, drafts)],
            lambda: [
                self._resolution(each) for each in self._ask(POLICIES[policy], "resolve_many", messages)
            ],
        )

    def _explain(self) -> Act:
        policy, draft = self._policy(), self._message()
        message = InboundMessage(**draft)

        def answer(given: Any) -> Any:
            return [given.outcome, given.reason, self._ticket(given.ticket)]

        def do() -> Any:
            told = self._ask(POLICIES[policy], "explain", message)
            return [answer(told.answer), *(answer(each.answer) for each in told.alternatives)]

        return Act([policy, _shown(draft)], do)

    def _find_active(self) -> Act:
        key = self._key()
        return Act(_values(key), lambda: self._ticket(self._ask_plain("find_active", key)))

    def _active_tickets(self) -> Act:
        company, contact = self._company(), self._contact()
        return Act(
            [company, contact],
            lambda: [self._ticket(each) for each in self._ask_plain("active_tickets", company, contact)],
        )

    def _ensure_can_open(self) -> Act:
        key = self._key()
        return Act(_values(key), lambda: self._ask_plain("ensure_can_open", key))

    def _open(self) -> Act:
        key = self._key()
        user = self._drawn("agent", AGENTS) if self.random.random() < 0.5 else None
        queue = self._drawn("queue", QUEUES) if self.random.random() < 0.5 else None
        return Act(
            [_values(key), user, queue],
            lambda: self._ticket(self._ask_plain("open", key, user_id=user, queue_id=queue)),
        )

    def _accept(self) -> Act:
        return self._desk("accept", self._drawn("agent", AGENTS))

    def _close(self) -> Act:
        return self._desk("close")

    def _reopen(self) -> Act:
        return self._desk("reopen")

    def _transfer(self) -> Act:
        return self._desk("transfer", self._connection())

    def _desk(self, name: str, *further: Any) -> Act:
        company, ticket_id = self._a_ticket()
        said = [company, self.numbers.get(ticket_id), *further]
        return Act(said, lambda: self._ticket(self._ask_plain(name, company, ticket_id, *further)))

    def _merge_contacts(self) -> Act:
        return self._move("merge_contacts", self._contact)

    def _plan_merge_contacts(self) -> Act:
        return self._move("plan_merge_contacts", self._contact)

    def _move_connection(self) -> Act:
        return self._move("move_connection", self._connection)

    def _plan_move_connection(self) -> Act:
        return self._move("plan_move_connection", self._connection)

    def _move(self, name: str, draw: Callable[[], Any]) -> Act:
        company, source, target = self._company(), draw(), draw()
        on_collision = self.random.choice(
            (OnCollision.KEEP_NEWEST, OnCollision.CLOSE_ALL, OnCollision.REFUSE)
        )
        columns = self.host.mapping.columns
        of_company = columns["company_id"] == company
        read = self.host.mapping.table.update().where(of_company).values({columns["unread_messages"]: 0})
        self.host.execute(read)
        return Act(
            [company, source, target, on_collision],
            lambda: self._plan(self._ask_plain(name, company, source, target, on_collision=on_collision)),
        )

    def _forget_messages(self) -> Act:
        before = self.now - timedelta(hours=self.random.randrange(24))
        return Act(before, lambda: self.host.run(self.host.repository.forget_messages(before)))

    def _host_rolls_back(self) -> Act:
        return Act(None, self._roll_back)

    def _host_gives_a_word(self) -> Act:
        """Close a ticket behind the library's back, by a word that it may not know."""
        _, ticket_id = self._a_ticket()
        word = self.random.choice((*UNKNOWN_WORDS, "closed"))
        return Act([self.numbers.get(ticket_id), word], lambda: self._change(ticket_id, {"status": word}))

    def _host_deletes(self) -> Act:
        _, ticket_id = self._a_ticket()
        table, column = self.host.mapping.table, self.host.mapping.columns["id"]

        def delete() -> None:
            self.host.execute(table.delete().where(column == ticket_id))

        return Act(self.numbers.get(ticket_id), delete)

    def _change(self, ticket_id: Any, values: dict[str, Any]) -> None:
        table, columns = self.host.mapping.table, self.host.mapping.columns
        changed = {columns[field]: value for field, value in values.items()}
        self.host.execute(table.update().where(columns["id"] == ticket_id).values(changed))

    def _ask(self, policy: Policy, name: str, *args: Any, **options: Any) -> Any:
        router = self.host.router(policy, self.now)
        return self.host.run(getattr(router, name)(*args, **options))

    def _ask_plain(self, name: str, *args: Any, **options: Any) -> Any:
        return self._ask(Policy(), name, *args, **options)

    # What is drawn.

    def _policy(self) -> int:
        return self.random.choice(self.policies)

    def _drawn(self, what: str, numbers: Sequence[int]) -> Any:
        return self.an_id(what, self.random.choice(numbers))

    def _company(self) -> Any:
        return self._drawn("company", COMPANIES)

    def _contact(self) -> Any:
        return self._drawn("contact", PEOPLE)

    def _connection(self) -> Any:
        return self._drawn("connection", CONNECTIONS)

    def _key(self) -> TicketKey:
        return TicketKey(self._company(), self._contact(), self._connection())

    def _a_ticket(self) -> tuple[Any, Any]:
        """Draw a ticket that has been seen, rather one of the last; now and then none, or by another company."""
        if not self.tickets or self.random.random() < 0.03:
            return self._company(), NOBODY if isinstance(self.an_id("", 0), int) else str(NOBODY)
        first = max(0, len(self.tickets) - 25) if self.random.random() < 0.8 else 0
        company, ticket_id = self.tickets[self.random.randrange(first, len(self.tickets))]
        return (self._company() if self.random.random() < 0.05 else company), ticket_id

    def _message(self, *, ids: float = 0.5, connection: Any = None) -> dict[str, Any]:
        draw = self.random.random
        with_id = draw() < ids
        if with_id and self.messages and draw() < 0.25:
            again = dict(self.random.choice(self.messages[-30:]))
            if draw() < 0.1:
                again["contact_id"] = self._contact()
            return again
        draft: dict[str, Any] = {
            "company_id": self._company(),
            "contact_id": self._contact(),
            "connection_id": self._connection() if connection is None else connection,
            "kind": self.random.choice(KINDS),
        }
        if draw() < 0.15:
            draft["group_id"] = self._drawn("contact", GROUPS)
        if draw() < 0.4:
            draft["sent_at"] = self.now - timedelta(seconds=self.random.choice((-60, 0, 5, 300, 7200, 86400)))
        if draw() < 0.15:
            draft["unread_messages"] = self.random.randrange(9)
        if with_id:
            number = next(self.ids)
            draft["message_id"] = number if draw() < 0.2 else f"message-{number}"
            self.messages.append(draft)
        return draft

    # What is told, as plain values.

    def _number(self, ticket_id: Any, company_id: Any = None) -> int:
        if ticket_id not in self.numbers:
            self.numbers[ticket_id] = len(self.tickets)
            self.tickets.append((company_id, ticket_id))
        return self.numbers[ticket_id]

    def _ticket(self, ticket: Ticket | None) -> Any:
        if ticket is None:
            return None
        change = None if ticket.change is None else _values(ticket.change)
        return [
            self._number(ticket.id, ticket.company_id),
            *_values(ticket.key),
            ticket.status,
            ticket.is_group,
            ticket.unread_messages,
            ticket.user_id,
            ticket.queue_id,
            ticket.created_at,
            ticket.updated_at,
            ticket.closed_at,
            change,
        ]

    def _resolution(self, given: Resolution) -> Any:
        ticket = None if given.outcome is Outcome.IGNORED else self._ticket(given.ticket)
        change = None if given.change is None else _values(given.change)
        return [
            given.outcome,
            given.reason,
            ticket,
            change,
            [self._ticket(each) for each in given.other_active],
        ]

    def _plan(self, plan: MovePlan) -> Any:
        closes = ([self._ticket(each.ticket), self._ticket(each.kept)] for each in plan.closes)
        return [sorted(closes, key=_plain), sorted(map(self._number, plan.repoints))]

    def _error(self, error: TicketRouterError, *, with_ticket: bool) -> Any:
        told: list[Any] = [type(error).__name__, error.retryable]
        if isinstance(error, BlockedBySchemaError):
            told.append(error.unique_rule)
        if with_ticket and isinstance(error, BlockedBySchemaError | ActiveTicketExistsError | ConflictError):
            told.append(self._ticket(error.ticket))
        return told

    def _tables(self) -> Iterator[Any]:
        """Read the tickets, and then every companion table."""
        mapping = self.host.mapping
        of_ticket = {mapping.columns["id"].name: "ticket_id"}
        companions = {
            name: table for name, table in mapping.metadata.tables.items() if table is not mapping.table
        }
        yield ["tickets", *self._rows(mapping.table, of_ticket)]
        for name in sorted(companions):
            yield [name, *self._rows(companions[name], {})]
        self.host.end(commit=False)

    def _rows(self, table: Table, names: dict[str, str]) -> list[str]:
        columns = [each for each in table.columns if each.name not in {"version", "active"}]
        rows = []
        for row in self.host.execute(select(*columns)):
            named = {names.get(each.name, each.name): value for each, value in zip(columns, row, strict=True)}
            if "ticket_id" in named:
                named["ticket_id"] = self.numbers.get(named["ticket_id"])
            rows.append(_plain(named))
        return sorted(rows)


WEIGHTS = {
    "resolve": 40,
    "resolve_many": 14,
    "explain": 5,
    "find_active": 4,
    "active_tickets": 4,
    "ensure_can_open": 4,
    "open": 5,
    "accept": 6,
    "close": 14,
    "reopen": 4,
    "transfer": 5,
    "merge_contacts": 2,
    "plan_merge_contacts": 1,
    "move_connection": 1,
    "plan_move_connection": 1,
    "forget_messages": 1,
    "host_rolls_back": 4,
    "host_gives_a_word": 2,
    "host_deletes": 1,
}


def _values(value: Any) -> list[Any]:
    return list(asdict(value).values())


def _shown(draft: dict[str, Any]) -> dict[str, Any]:
    return {name: draft[name] for name in sorted(draft)}


def _plain(value: Any) -> str:
    """Write values as JSON: times in UTC, bytes in hexadecimal."""
    return json.dumps(value, default=_plainly, sort_keys=True)


def _plainly(value: Any) -> Any:
    match value:
        case datetime():
            # A column that keeps no time zone was given UTC.
            return (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case _:
            raise TypeError(f"nothing is said of how a {type(value).__name__} is told")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


# --- the recording ---------------------------------------------------------------------------------------------


def tell(name: str, databases: Databases) -> list[Call]:
    """Tell a story in a database of its own."""
    database, seed = name.rsplit("-", 1)
    url = databases.new(database)
    try:
        with _host(database, url, SETTINGS[int(seed)]) as host:
            return list(Story(int(seed), host).told())
    finally:
        databases.drop(url)


@contextmanager
def _host(database: str, url: URL, setting: Setting) -> Iterator[Host]:
    host = Host(database, url, setting)
    try:
        host.create_tables()
        yield host
    finally:
        host.close()


def recorded(calls: Iterable[Call]) -> dict[str, Any]:
    """Return what is kept of a story: two digests, the sum of its statements, and a line for each call."""
    calls = list(calls)
    return {
        "outcomes": _digest("\n".join(f"{call.name} {call.told}" for call in calls)),
        "counts": _digest("\n".join(f"{call.name} {call.sent}" for call in calls)),
        "statements": sum(call.sent for call in calls),
        "calls": [str(call) for call in calls],
    }


def recording() -> dict[str, Any]:
    """Read what was recorded, by the name of the story."""
    read: dict[str, Any] = json.loads(RECORDING.read_text(encoding="utf-8"))
    return read


def difference(name: str, calls: Sequence[Call]) -> str | None:
    """Say where a story differs from its recording; None: nowhere."""
    then, now = recording()[name], recorded(calls)
    parts = [part for part in ("outcomes", "counts", "statements") if then[part] != now[part]]
    if not parts:
        return None
    told = f"{name}: {', '.join(parts)} differ: {[then[part] for part in parts]}, now {[now[part] for part in parts]}"
    for number, (was, call) in enumerate(zip(then["calls"], calls, strict=True)):
        if was != str(call):
            return f"{told}\nfirst at call {number}: was {was}, is {call}:\n{call.told}"
    return told


def main(words: Sequence[str]) -> int:
    options, names = {word for word in words if word[0] == "-"}, [word for word in words if word[0] != "-"]
    if options - {"--check", "--tell"} or set(names) - set(STORIES):
        print(
            f"python -m tests.support.stories [--check | --tell] [{'|'.join(STORIES)} ...]", file=sys.stderr
        )
        return 2
    with tempfile.TemporaryDirectory() as place:
        databases = Databases(Path(place))
        try:
            told = {name: tell(name, databases) for name in names or STORIES}
        except pytest.skip.Exception as reason:
            print(reason, file=sys.stderr)
            return 1
        finally:
            databases.close()
    return _said(options, told)


def _said(options: set[str], told: dict[str, list[Call]]) -> int:
    if "--tell" in options:
        for calls in told.values():
            for number, call in enumerate(calls):
                print(number, call, call.told)
        return 0
    for name, calls in told.items():
        kept = recorded(calls)
        print(
            f"{name:14} outcomes {kept['outcomes']} counts {kept['counts']} statements {kept['statements']}"
        )
    if "--check" in options:
        found = [each for name, calls in told.items() if (each := difference(name, calls)) is not None]
        print("\n".join(found) or "as recorded")
        return 1 if found else 0
    kept = recording() if RECORDING.exists() else {}
    kept |= {name: recorded(calls) for name, calls in told.items()}
    RECORDING.write_text(
        json.dumps({name: kept[name] for name in STORIES}, indent=1) + "\n", encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
