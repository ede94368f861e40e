"""Columns of types that a ticket's field does not stand in, and columns that are not what the Table declares them as.

Each works, or is refused before anything is written, with an advice that is followed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import (
    CHAR,
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import NullType, TypeEngine, UserDefinedType

from tests.sqlalchemy.test_odd_hosts import NOON, a_mapping, a_table, every_database, made
from tests.support.backends import BACKENDS, ONE_PER_DATABASE, Backend, Databases, SqlStore
from ticketrouter import (
    InboundMessage,
    InvalidMessageError,
    Outcome,
    Policy,
    Reopen,
    StatusScheme,
    TicketRouter,
)
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import Level, audit

MESSAGE = InboundMessage(1, "a", 10, message_id="m")
BY_DATABASE = {each.database: each for each in ONE_PER_DATABASE}
POSTGRESQL = [each for each in BACKENDS if each.database == "postgresql"]
TWO = StatusScheme(active=frozenset({"open"}), initial="open", reopened="open", accepted="open")


class OfOurs(UserDefinedType[Any]):
    """A type of which nobody knows what its values are."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "of_ours"


class Iso(TypeDecorator[datetime]):
    """A time as a text."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class YesNo(TypeDecorator[bool]):
    """True and False as letters."""

    impl = String(1)
    cache_ok = True

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> str | None:
        return None if value is None else "NY"[value]

    def process_result_value(self, value: str | None, dialect: Dialect) -> bool | None:
        return None if value is None else value == "Y"


class Named(TypeDecorator[str]):
    """A text of the host's own."""

    impl = String(36)
    cache_ok = True


class Local(TypeDecorator[datetime]):
    """A time that the desk writes in UTC, whatever the zone of its session."""

    impl = mysql.TIMESTAMP
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def resolved(engine: Engine, mapping: TicketMapping, message: InboundMessage = MESSAGE) -> Any:
    with engine.begin() as connection:
        router = TicketRouter(
            SQLAlchemyTicketRepository(connection, mapping),
            Policy(reopen=Reopen.always()),
            clock=lambda: NOON,
        )
        return router.resolve(message)


def findings(engine: Engine, mapping: TicketMapping) -> list[str]:
    with engine.connect() as connection:
        return [f"{each.text}: {each.advice}" for each in audit(connection, mapping).findings]


# --- types that no field stands in -------------------------------------------------------------------------------

STRANGE: list[tuple[str, TypeEngine[Any], str]] = [
    *(
        ("status", type_, "texts, whole numbers, True and False, UUIDs, or members of an enumeration")
        for type_ in (
            mysql.BIT(1),
            mysql.SET("open", "pending", "closed"),
            OfOurs(),
            JSON(),
            DateTime(),
            Float(),
        )
    ),
    *(
        ("contact_id", type_, "whole numbers, texts or UUIDs")
        for type_ in (mysql.BIT(8), mysql.SET("a"), OfOurs(), NullType(), Numeric(), LargeBinary())
    ),
    *(
        ("updated_at", type_, "times with date and hour (DateTime), or whole numbers (epoch)")
        for type_ in (Float(), Text(), Date(), Time(), Numeric(), mysql.YEAR(), OfOurs())
    ),
    ("is_group", mysql.BIT(1), "True and False, or 0 and 1"),
    ("is_group", Text(), "True and False, or 0 and 1"),
    ("unread_messages", Numeric(), "whole numbers"),
]
DOMAINS = {
    "id": "number",
    "contact_id": "person",
    "status": "word",
    "unread_messages": "number",
    "is_group": "truth",
    "updated_at": "moment",
}


@pytest.mark.parametrize(("field", "type_", "expected"), STRANGE, ids=lambda each: repr(each)[:30])
def test_a_type_that_keeps_no_such_field_is_refused_with_what_to_declare(
    field: str, type_: TypeEngine[Any], expected: str
) -> None:
    """Nothing of a dialect's leaves unnamed, and no advice leads back to the same refusal."""
    with pytest.raises(MappingError) as told:
        a_mapping(a_table(**{field: Column(field, type_, nullable=False)}), **{field: field})

    assert f"desk.{field} ({field}) is of type" in str(told.value)
    assert f"it takes a column of {expected}" in str(told.value)
    assert "status_values" not in str(told.value)


@every_database
def test_a_decorator_makes_what_is_needed_of_a_strange_type(databases: Databases, backend: Backend) -> None:
    """Times in a text, True and False in letters: as the refusal advises."""
    times = {name: Column(name, Iso, nullable=False) for name in ("created_at", "updated_at")}
    table = a_table(
        **times, closed_at=Column("closed_at", Iso), is_group=Column("is_group", YesNo, nullable=False)
    )
    mapping = a_mapping(table, is_group="is_group")
    group = InboundMessage(1, "ann", 10, group_id="a", message_id="n")
    with made(databases, backend, mapping) as engine:
        found = [resolved(engine, mapping, each).ticket for each in (group, group)]
        with engine.begin() as connection:
            closed = TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).close(1, found[0].id)
        again = resolved(engine, mapping, InboundMessage(1, "ann", 10, group_id="a"))

    assert [(NOON, True)] * 2 == [(each.updated_at, each.is_group) for each in found]
    assert closed.closed_at is not None
    assert (Outcome.REOPENED, found[0].id) == (again.outcome, again.ticket.id)


@pytest.mark.parametrize("declared", [Boolean(), Integer()], ids=repr)
@pytest.mark.parametrize("field", ["status", "is_group"])
def test_a_bit_of_mariadb_is_refused_until_it_is_a_number(
    databases: Databases, field: str, declared: TypeEngine[Any]
) -> None:
    """Drivers give it as bytes, of which SQLAlchemy makes True in any case."""
    options: dict[str, Any] = {field: field}
    if field == "status":
        options |= {"statuses": TWO, "status_values": {"open": 0, "closed": 1}}
    mapping = a_mapping(a_table(**{field: Column(field, declared, nullable=False)}), **options)
    with made(databases, BY_DATABASE["mariadb"], mapping) as engine:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE desk MODIFY {field} BIT(1) NOT NULL"))
        with pytest.raises(
            MappingError, match=rf"desk\.{field} .* is a BIT .*: make it a TINYINT\(1\)"
        ) as told:
            resolved(engine, mapping)
        found = findings(engine, mapping)
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE desk MODIFY {field} TINYINT(1) NOT NULL"))
        cured = resolved(engine, mapping)

    assert str(told.value) in found
    assert Outcome.CREATED is cured.outcome


def test_a_set_of_mariadb_that_is_declared_a_text_holds_its_members(databases: Databases) -> None:
    """Of one word at a time it is as good as an enumeration; a word that it lacks is refused."""
    mapping = a_mapping(a_table())
    with made(databases, BY_DATABASE["mariadb"], mapping) as engine:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE desk MODIFY status SET('open', 'closed') NOT NULL"))
        with pytest.raises(MappingError, match="cannot hold 'pending': it has only open, closed"):
            resolved(engine, mapping)
        with engine.begin() as connection:
            connection.execute(
                text("ALTER TABLE desk MODIFY status SET('open', 'pending', 'closed') NOT NULL")
            )
        cured = resolved(engine, mapping)

    assert (Outcome.CREATED, "pending") == (cured.outcome, cured.ticket.status)


# --- domains of PostgreSQL ---------------------------------------------------------------------------------------


@contextmanager
def of_domains(databases: Databases, backend: Backend) -> Iterator[tuple[SqlStore, TicketMapping]]:
    """A desk that has a domain in nearly every column."""
    url = databases.new("postgresql")
    columns = {
        "id": Column("id", Integer(), primary_key=True, server_default=text("nextval('numbers')")),
        "contact_id": Column("contact_id", String(50), nullable=False),
        "status": Column("status", String(20), nullable=False),
        "unread_messages": Column("unread_messages", Integer(), nullable=False),
        "is_group": Column("is_group", Boolean(), nullable=False),
        "updated_at": Column("updated_at", DateTime(timezone=True), nullable=False),
    }
    mapping = a_mapping(a_table(**columns), is_group="is_group", unread_messages="unread_messages")
    store = SqlStore(backend, url, mapping)
    with store.engine.begin() as connection:
        for statement in (
            "CREATE SEQUENCE numbers",
            "CREATE DOMAIN number AS integer CHECK (VALUE >= 0)",
            "CREATE DOMAIN person AS varchar(50)",
            "CREATE DOMAIN word AS varchar(20)",
            "CREATE DOMAIN truth AS boolean",
            "CREATE DOMAIN moment AS timestamptz",
        ):
            connection.execute(text(statement))
    try:
        yield store, mapping
        store.assert_no_leak()
    finally:
        store.dispose()
        databases.drop(url)


@pytest.mark.parametrize("backend", POSTGRESQL, ids=lambda backend: backend.name)
@pytest.mark.parametrize("ruled", [True, False], ids=["rule", "no rule"])
def test_a_domain_is_what_it_is_over(databases: Databases, backend: Backend, ruled: bool) -> None:
    """A message, its redelivery, a batch, a closed ticket: by every driver."""
    with of_domains(databases, backend) as (store, mapping):
        mapping.table.metadata.create_all(store.engine)
        mapping.metadata.create_all(store.engine)
        with store.engine.begin() as connection:
            for column, name in DOMAINS.items():
                connection.execute(text(f"ALTER TABLE desk ALTER {column} TYPE {name}"))
            reflected = Table("desk", MetaData(), autoload_with=connection)
        with pytest.raises(MappingError, match="as what the domain is over, VARCHAR"):
            a_mapping(reflected)
        if ruled:
            with store.engine.begin() as connection:
                key, active = "company_id, contact_id, connection_id", "status IN ('open', 'pending')"
                connection.execute(text(f"CREATE UNIQUE INDEX one ON desk ({key}) WHERE {active}"))
        told = []
        for _ in range(3):
            with store.transaction() as repository:
                router = TicketRouter(repository, Policy(reopen=Reopen.always()))
                told.append(router.resolve(MESSAGE).outcome)
                batch = [InboundMessage(1, f"b{n}", 10, message_id=f"b{n}") for n in range(3)]
                told += [each.outcome for each in router.resolve_many(batch)]
        with store.transaction() as repository:
            router = TicketRouter(repository, Policy(reopen=Reopen.always()))
            (ticket,) = router.active_tickets(1, "a")
            closed = router.close(1, ticket.id)
            again = router.resolve(InboundMessage(1, "a", 10))
        found = findings(store.engine, mapping)

    assert [Outcome.CREATED] * 4 + [Outcome.DUPLICATE] * 8 == told
    assert ("closed", Outcome.REOPENED) == (closed.status, again.outcome)
    assert [] == [each for each in found if "is of the type" in each or "is a " in each]


# --- texts that are declared otherwise ---------------------------------------------------------------------------

DECLARED: list[tuple[str, str, TypeEngine[Any], TypeEngine[Any], str]] = [
    (
        "contact_id",
        "CHAR(36)",
        String(36),
        CHAR(36),
        r"is a CHAR in the database, .*: declare it so in the Table",
    ),
    (
        "contact_id",
        "CHAR(36)",
        Named(),
        CHAR(36),
        r"as CHAR\(length\), of the type that its TypeDecorator is over",
    ),
    ("user_id", "CHAR(36)", Named(), CHAR(36), "is a CHAR in the database"),
    (
        "contact_id",
        "citext",
        String(36),
        postgresql.CITEXT(),
        r"is a citext in the database, .* as CITEXT\(\)",
    ),
    ("contact_id", "citext", Named(), postgresql.CITEXT(), "is a citext in the database"),
]


@pytest.mark.parametrize(("field", "kept", "declared", "cure", "said"), DECLARED)
def test_a_text_that_is_declared_otherwise_is_refused(
    databases: Databases, field: str, kept: str, declared: TypeEngine[Any], cure: TypeEngine[Any], said: str
) -> None:
    """It would come back with blanks, or be compared otherwise than its index does: what to declare, the text says."""

    def mapped(type_: TypeEngine[Any]) -> TicketMapping:
        contact = Column("contact_id", type_ if field == "contact_id" else String(50), nullable=False)
        table = a_table(
            contact_id=contact, user_id=Column("user_id", type_ if field == "user_id" else Integer)
        )
        return a_mapping(table, user_id="user_id")

    mapping, message = mapped(declared), InboundMessage(1, str(UUID(int=1)), 10)
    with made(databases, BY_DATABASE["postgresql"], mapping) as engine:
        with engine.begin() as connection:
            if kept == "citext":
                connection.execute(text("CREATE EXTENSION IF NOT EXISTS citext"))
            connection.execute(text(f"ALTER TABLE desk ALTER {field} TYPE {kept}"))
        with pytest.raises(MappingError, match=said) as told:
            resolved(engine, mapping, message)
        found = findings(engine, mapping)
        mapping.metadata.drop_all(engine)  # its anchors are of the type that was declared
        mapped(cure).metadata.create_all(engine)
        cured = resolved(engine, mapped(cure), message)

    assert str(told.value) in found
    assert Outcome.CREATED is cured.outcome


@pytest.mark.parametrize("declared", [CHAR(36), String(36), Named()], ids=repr)
def test_a_char_of_mariadb_takes_no_id_that_ends_in_a_blank(
    databases: Databases, declared: TypeEngine[Any]
) -> None:
    """It would come back without it, as another contact: the message is refused, and `explain` says so, too."""
    mapping = a_mapping(a_table(contact_id=Column("contact_id", declared, nullable=False)))
    blank = InboundMessage(1, "a ", 10)
    with made(databases, BY_DATABASE["mariadb"], mapping) as engine:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE desk MODIFY contact_id CHAR(36) NOT NULL"))
        for work in ("resolve", "explain"):
            with engine.begin() as connection:
                router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
                with pytest.raises(InvalidMessageError, match=r"contact_id .* without a blank at its end"):
                    getattr(router, work)(blank)
        plain = [resolved(engine, mapping, InboundMessage(1, each, 10)) for each in ("a", str(UUID(int=1)))]

    assert [Outcome.CREATED] * 2 == [each.outcome for each in plain]


@every_database
def test_a_column_in_other_letters_is_named_with_the_one_that_is_there(
    databases: Databases, backend: Backend
) -> None:
    """PostgreSQL tells createdAt from createdat; to the others they are one."""
    there = a_mapping(
        a_table(created_at=Column("createdat", DateTime, nullable=False)), created_at="createdat"
    )
    said = a_mapping(
        a_table(created_at=Column("createdAt", DateTime, nullable=False)), created_at="createdAt"
    )
    with made(databases, backend, there) as engine:
        if backend.database == "postgresql":
            with pytest.raises(MappingError, match=r"desk\.createdAt \(created_at\) is createdat there"):
                resolved(engine, said)
            with engine.connect() as connection, pytest.raises(MappingError, match="createdat there"):
                audit(connection, said)
        else:
            assert Outcome.CREATED is resolved(engine, said).outcome


# --- times in the zone of the session ----------------------------------------------------------------------------

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
BY_CLOCK = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"


def kept_by(zone: str, url: Any) -> Engine:
    """An engine of sessions in a zone."""
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def set_zone(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET time_zone = '{zone}'")
        cursor.close()

    return engine


def timed(type_: Any = DateTime, **options: Any) -> TicketMapping:
    return a_mapping(a_table(updated_at=Column("updated_at", type_, nullable=False)), **options)


@contextmanager
def with_timestamps(databases: Databases, kept: str = BY_CLOCK) -> Iterator[Any]:
    """The URL of a desk of MariaDB whose time of the last change is a TIMESTAMP."""
    mapping = timed()
    with made(databases, BY_DATABASE["mariadb"], mapping) as engine:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE desk MODIFY updated_at {kept}"))
        yield engine.url


def test_a_timestamp_in_another_zone_than_the_mapping_says_is_refused(databases: Databases) -> None:
    """What the desk's own CURRENT_TIMESTAMP writes would lie hours beside what we write; each cure is tried."""
    with with_timestamps(databases) as url:
        engine = kept_by("-03:00", url)
        with pytest.raises(
            MappingError, match=r"updated_at \(updated_at\) is a TIMESTAMP, .* -03:00, .* in UTC"
        ) as told:
            resolved(engine, timed())
        found = findings(engine, timed())
        here = datetime.now(UTC).replace(microsecond=0)
        cures: list[tuple[str, TicketMapping]] = [
            ("-03:00", timed(timezone=timezone(timedelta(hours=-3)))),
            ("-03:00", timed(timezone=SAO_PAULO)),
            ("+00:00", timed()),
        ]
        for number, (zone, mapping) in enumerate(cures):
            cured, contact = kept_by(zone, url), f"c{number}"
            with cured.begin() as connection:
                router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
                ours = router.resolve(InboundMessage(1, contact, 10)).ticket
                connection.execute(text("UPDATE desk SET updated_at = CURRENT_TIMESTAMP"))
                (by_clock,) = router.active_tickets(1, contact)
            cured.dispose()

            assert abs(ours.updated_at - here) < timedelta(minutes=2)
            assert abs(by_clock.updated_at - here) < timedelta(minutes=2)
        engine.dispose()

    assert str(told.value) in found
    assert "timezone=ZoneInfo(...)" in str(told.value)


@pytest.mark.parametrize(
    "mapping",
    [
        timed(Local),
        a_mapping(a_table(updated_at=Column("updated_at", Local, nullable=False))),
    ],
)
def test_a_decorator_says_how_a_desk_writes_a_timestamp(databases: Databases, mapping: TicketMapping) -> None:
    """What it makes of it, it knows."""
    with with_timestamps(databases) as url:
        engine = kept_by("-03:00", url)
        done = resolved(engine, mapping)
        engine.dispose()

    assert NOON == done.ticket.updated_at


def test_a_timestamp_that_no_clock_is_seen_to_fill_is_a_note(databases: Databases) -> None:
    """Who writes it, and in which zone, no catalogue says; but a default of the Column's own does."""
    with with_timestamps(databases, "TIMESTAMP NULL DEFAULT NULL") as url:
        engine = kept_by("-03:00", url)
        done = resolved(engine, timed())
        with engine.connect() as connection:
            notes = [
                each.text for each in audit(connection, timed()).observations if each.level is Level.NOTE
            ]
        by_column = a_mapping(
            a_table(updated_at=Column("updated_at", DateTime, nullable=False, onupdate=func.now()))
        )
        with pytest.raises(MappingError, match="own clock fills it"):
            resolved(engine, by_column)
        engine.dispose()

    assert NOON == done.ticket.updated_at
    assert 1 == len([each for each in notes if "is a TIMESTAMP" in each])
