"""A column that nobody fills, and one that takes no None, are refused before anything is written.

The Table does not show them here: the database is asked. MariaDB writes 0 and '' outside of its strict mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    FetchedValue,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    text,
)

from tests.sqlalchemy.conftest import Place
from ticketrouter import InboundMessage, Outcome, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.filling import is_set_by
from ticketrouter.sqlalchemy.health.audit import Check, audit
from ticketrouter.sqlalchemy.health.repair import plan_repair

IDS = {
    "postgresql": "id SERIAL PRIMARY KEY",
    "mariadb": "id INT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "id INTEGER PRIMARY KEY",
}
HELLO = InboundMessage(1, 5, 2, message_id="a")


def mapping_of(*more: Column[Any], without: tuple[str, ...] = (), **given: Any) -> TicketMapping:
    columns: list[Column[Any]] = [
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("status", String(20), nullable=False),
        Column("unread_messages", Integer, nullable=False),
        Column("user_id", Integer),
        Column("updated_at", DateTime, nullable=False),
    ]
    table = Table("desk", MetaData(), *(each for each in columns if each.name not in without), *more)
    none: dict[str, Any] = dict.fromkeys(("is_group", "queue_id", "created_at", "closed_at"))
    return TicketMapping(table, **none, metadata=table.metadata, **given)


@contextmanager
def desk(
    place: Place, mapping: TicketMapping, *columns: str, before: tuple[str, ...] = (), **changed: str
) -> Iterator[Connection]:
    """Make a table with these columns more, and some of its own changed; outside of MariaDB's strict mode."""
    time = "TIMESTAMP" if place.database == "postgresql" else "DATETIME"
    own = {
        "id": IDS[place.database],
        **{name: f"{name} INTEGER NOT NULL" for name in ("company_id", "contact_id", "connection_id")},
        "status": "status VARCHAR(20) NOT NULL",
        "unread_messages": "unread_messages INTEGER NOT NULL",
        "user_id": "user_id INTEGER",
        "updated_at": f"updated_at {time} NOT NULL",
    }
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        for each in before:
            host.exec_driver_sql(each)
        host.exec_driver_sql(
            f"CREATE TABLE desk ({', '.join((own | changed).values())}{''.join(f', {c}' for c in columns)})"
        )
        mapping.metadata.create_all(host)
    connection = place.engine.connect()
    try:
        if place.database == "mariadb":
            connection.exec_driver_sql("SET sql_mode = ''")
        yield connection
    finally:
        connection.close()
        with place.begin() as host:
            mapping.metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping))


def written(host: Connection, mapping: TicketMapping) -> int:
    tables = ("desk", mapping.message_ids.name, mapping.anchors.name)
    return sum(host.execute(text(f"SELECT COUNT(*) FROM {each}")).scalar_one() for each in tables)


def refused(host: Connection, mapping: TicketMapping, why: str) -> None:
    """See that nothing can be asked, that nothing is written, and that an audit finds it."""
    router = router_of(host, mapping)
    for ask in (
        lambda: router.resolve(HELLO),
        lambda: router.resolve_many([HELLO, InboundMessage(1, 6, 2)]),
        lambda: router.find_active(HELLO.key),
    ):
        with pytest.raises(MappingError, match=why):
            ask()
        host.rollback()
    found = [each for each in audit(host, mapping).findings if each.check is Check.COLUMNS]

    assert 0 == written(host, mapping)
    assert 1 == len(found)
    assert found[0].advice


# --- what is not there -------------------------------------------------------------------------------------------


def later(name: str = "later", **given: Any) -> Column[Any]:
    return Column(name, Integer, **given)


MISSING: dict[str, tuple[str, TicketMapping]] = {
    "a field's": (
        "desk.later (unread_messages)",
        mapping_of(later(), without=("unread_messages",), unread_messages="later"),
    ),
    "a key's": (
        "desk.later (connection_id)",
        mapping_of(later(nullable=False), without=("connection_id",), connection_id="later"),
    ),
    "the id's": ("desk.later (id)", mapping_of(later(primary_key=True), without=("id",), id="later")),
    "the status's": (
        "desk.later (status)",
        mapping_of(Column("later", String(20), nullable=False), without=("status",), status="later"),
    ),
    "of every message": ("desk.later (on_message)", mapping_of(later(), on_message={"later": 1})),
    "of a new row": ("desk.later (on_create)", mapping_of(later(), on_create={"later": 1})),
    "of a default": ("desk.later (its default)", mapping_of(later(default=1))),
    "several": (
        "desk.later (on_message), desk.more (its default)",
        mapping_of(later(), later("more", default=1), on_message={"later": 1}),
    ),
}
asked_of_where = later()
MISSING["of the row condition"] = (
    "desk.later (where)",
    mapping_of(asked_of_where, where=asked_of_where.is_(None)),
)


@pytest.mark.parametrize("missing", MISSING)
def test_a_column_that_the_database_lacks_is_named(place: Place, missing: str) -> None:
    """The Table has it, and the migration has not run: nothing is asked or written, and all goes on when it has."""
    told, mapping = MISSING[missing]
    with desk(place, mapping) as host:
        router = router_of(host, mapping)
        for ask in (
            lambda: router.resolve(HELLO),
            lambda: router.resolve_many([HELLO, InboundMessage(1, 6, 2)]),
            lambda: router.find_active(HELLO.key),
            lambda: audit(host, mapping),
            lambda: list(plan_repair(host, mapping)),
        ):
            with pytest.raises(MappingError, match="run the migration that adds it") as error:
                ask()
            assert told in str(error.value)
            host.rollback()
        assert 0 == written(host, mapping)
        if missing in {"a key's", "the id's", "the status's"}:
            return
        for column in ("later", "more"):
            host.exec_driver_sql(f"ALTER TABLE desk ADD {column} INTEGER")
        host.commit()
        if missing != "a field's":  # its own count is filled by nobody there
            assert Outcome.CREATED is router.resolve(HELLO).outcome


# --- who fills it ------------------------------------------------------------------------------------------------


def test_a_column_that_nobody_fills_is_refused(place: Place) -> None:
    """Whether the Table has it as one that may be NULL, as one with a default, or not at all."""
    for column in (
        Column("source", String(9)),
        Column("source", String(9), nullable=False, server_default="x"),
        None,
    ):
        mapping = mapping_of() if column is None else mapping_of(column)
        with desk(place, mapping, "source VARCHAR(9) NOT NULL") as host:
            refused(host, mapping, r"nobody fills desk\.source of a new row.*on_create=.*FetchedValue")


@pytest.mark.parametrize("how", ["on_create", "function", "on_message", "default"])
def test_a_column_that_the_mapping_fills_is_none_of_them(place: Place, how: str) -> None:
    """By a value, by a function, with every message, or by the Column's own default."""
    column = Column("source", String(9), default="x" if how == "default" else None)
    ways: dict[str, dict[str, Any]] = {
        "on_create": {"on_create": {"source": "x"}},
        "function": {"on_create": lambda _: {"source": "x"}},
        "on_message": {"on_message": {"source": "x"}},
        "default": {},
    }
    mapping = mapping_of(column, **ways[how])
    with desk(place, mapping, "source VARCHAR(9) NOT NULL") as host:
        router = router_of(host, mapping)
        router.resolve(HELLO)
        router.resolve_many([InboundMessage(1, 6, 2), InboundMessage(1, 7, 2)])
        stored = host.execute(text("SELECT DISTINCT source FROM desk")).scalars().all()
        found = audit(host, mapping)

    assert ["x"] == stored
    assert [] == [each for each in found.findings if each.check is Check.COLUMNS]


@pytest.mark.parametrize("value", [{}, {"source": None}])
def test_a_function_that_leaves_it_out_is_refused_when_a_row_is_made(
    place: Place, value: dict[str, Any]
) -> None:
    """Before the row is sent; where a batch has two rows MariaDB would make '' of their NULLs."""
    mapping = mapping_of(Column("source", String(9)), on_create=lambda _: value)
    with desk(place, mapping, "source VARCHAR(9) NOT NULL") as host:
        router = router_of(host, mapping)
        for messages in ([HELLO], [HELLO, InboundMessage(1, 6, 2)]):
            with pytest.raises(MappingError, match=r"would leave desk\.source empty.*on_create"):
                router.resolve_many(messages)
            host.rollback()

        assert 0 == written(host, mapping)


def test_two_mappings_that_say_the_same_are_not_taken_for_each_other(place: Place) -> None:
    """What a callback fills is no part of what is known of a database."""
    filled = mapping_of(Column("source", String(9)), on_create={"source": "x"})
    empty = mapping_of(Column("source", String(9)))
    with desk(place, filled, "source VARCHAR(9) NOT NULL") as host:
        router_of(host, filled).resolve(HELLO)
        host.commit()
        with pytest.raises(MappingError, match=r"nobody fills desk\.source"):
            router_of(host, empty).resolve(InboundMessage(1, 6, 2))

    assert filled.said == empty.said


FILLED = {
    "postgresql": [
        "source VARCHAR(9) NOT NULL DEFAULT 'x'",
        "source INTEGER NOT NULL GENERATED ALWAYS AS IDENTITY",
        "source INTEGER NOT NULL GENERATED BY DEFAULT AS IDENTITY",
        "source INTEGER NOT NULL GENERATED ALWAYS AS (1) STORED",
        "source with_default NOT NULL",
    ],
    "mariadb": [
        "source VARCHAR(9) NOT NULL DEFAULT 'x'",
        "source VARCHAR(36) NOT NULL DEFAULT (UUID())",
        "source TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP",
        "source INTEGER AS (1) STORED",
    ],
    "sqlite": [
        "source VARCHAR(9) NOT NULL DEFAULT 'x'",
        "source TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP",
        "source INTEGER NOT NULL AS (1) STORED",
        "source INTEGER NOT NULL AS (1)",
    ],
}
_DOMAINS = (
    "DROP DOMAIN IF EXISTS with_default, full_of",
    "CREATE DOMAIN with_default AS varchar(9) DEFAULT 'x'",
    "CREATE DOMAIN full_of AS varchar(9) NOT NULL",
)


def domains(place: Place) -> tuple[str, ...]:
    return _DOMAINS if place.database == "postgresql" else ()


@pytest.mark.parametrize(
    ("database", "column"), [(name, each) for name, all_ in FILLED.items() for each in all_]
)
def test_a_column_that_the_database_fills_is_none_of_them(place: Place, column: str) -> None:
    """By a default, its type's, a number, or by computing it."""
    mapping = mapping_of()
    with desk(place, mapping, column, before=domains(place)) as host:
        made = router_of(host, mapping).resolve(HELLO)

        assert Outcome.CREATED is made.outcome
        assert host.execute(text("SELECT source FROM desk")).scalar_one() is not None


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_type_that_takes_no_null_makes_a_column_that_takes_none(place: Place) -> None:
    """A domain says it for its columns."""
    mapping = mapping_of()
    with desk(place, mapping, "source full_of", before=domains(place)) as host:
        refused(host, mapping, r"nobody fills desk\.source")


# --- triggers ----------------------------------------------------------------------------------------------------


def trigger(place: Place, sets: str, *, is_called: str = "fills") -> tuple[str, ...]:
    """Write a trigger that sets a column of the new row."""
    if place.database == "mariadb":
        return (f"CREATE TRIGGER {is_called} BEFORE INSERT ON desk FOR EACH ROW SET NEW.{sets} = 7",)
    body = f"BEGIN NEW.{sets} := 7; RETURN NEW; END"
    return (
        f"CREATE OR REPLACE FUNCTION {is_called}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"CREATE TRIGGER {is_called} BEFORE INSERT ON desk FOR EACH ROW EXECUTE FUNCTION {is_called}()",
    )


def run(host: Connection, statements: tuple[str, ...]) -> None:
    for each in statements:
        host.exec_driver_sql(each)
    host.commit()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
@pytest.mark.parametrize("column", ["source", "id"])
def test_a_trigger_that_sets_it_fills_it(place: Place, column: str) -> None:
    """Its text says so; one that sets another column fills this one not."""
    mapping = mapping_of()
    key = "id INTEGER NOT NULL PRIMARY KEY" if column == "id" else IDS[place.database]
    source = "source INTEGER" if column == "id" else "source INTEGER NOT NULL"
    with desk(place, mapping, source, "other_source INTEGER", "my_id INTEGER", id=key) as host:
        run(host, trigger(place, "other_source" if column == "source" else "my_id", is_called="another"))
        with pytest.raises(MappingError, match=f"nobody fills desk.{column}"):
            router_of(host, mapping).resolve(HELLO)
        host.rollback()
        run(host, trigger(place, column))
        made = router_of(host, mapping).resolve(HELLO)
        stored = host.execute(text(f"SELECT {column} FROM desk")).scalar_one()

    assert (Outcome.CREATED, 7) == (made.outcome, stored)


SETS = {
    "BEGIN EXECUTE 'SELECT 1' INTO NEW.source USING NEW.company_id; RETURN NEW; END": True,
    "SELECT n FROM counters INTO NEW.source WHERE id = 1": True,
    "BEGIN --it's\n NEW.source := 1; RETURN NEW; END": True,
    "BEGIN NEW.path := replace(NEW.path, '\\', '/'); NEW.source := 1; END": True,
    "SET NEW.path = \"it's\"; SET NEW.source = 'x'": True,
    "SET NEW.source = 7": True,
    "SET @a = f(1, 2), NEW . `source` := 7": True,
    "BEGIN IF NEW.a IS NULL THEN SET NEW.source = 7; END IF; END": True,
    'BEGIN NEW."source" := 7; RETURN NEW; END': True,
    "BEGIN\n  NEW.source = 7;\n RETURN NEW; END": True,
    "BEGIN SELECT max(id) + 1 INTO NEW.source FROM desk; RETURN NEW; END": True,
    "BEGIN SELECT 1, 2 INTO STRICT NEW.a, NEW.source; END": True,
    "SET NEW.source_too = 7": False,
    "SET NEW.a = NEW.source": False,
    "SET NEW.a = IF(NEW.source = 1, 2, 3)": False,
    "SET NEW.a = coalesce(NEW.b, NEW.source = 7)": False,
    "BEGIN IF NEW.source = 1 THEN SET NEW.a = 2; END IF; END": False,
    "INSERT INTO log VALUES (NEW.source)": False,
    "INSERT INTO log (a) SELECT NEW.source": False,
    "UPDATE other SET a = NEW.source, b = 7": False,
    "BEGIN /* SET NEW.source = 7 */ SET NEW.a = 'x; SET NEW.source = 7'; -- SET NEW.source = 7\n END": False,
}


@pytest.mark.parametrize("trigger", SETS)
def test_what_only_asks_for_a_column_of_the_new_row_does_not_set_it(trigger: str) -> None:
    """As a condition, a copy or a log does; whether MariaDB or PostgreSQL has written it."""
    assert SETS[trigger] is is_set_by(trigger, "source")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_trigger_that_asks_what_it_is_fills_nothing(place: Place) -> None:
    """The column would be 0, or the row refused."""
    mapping = mapping_of()
    condition = "IF NEW.source = 1 THEN {} END IF;"
    with desk(place, mapping, "source INTEGER NOT NULL", "other_source INTEGER") as host:
        if place.database == "mariadb":
            body = f"BEGIN {condition.format('SET NEW.other_source = 2;')} END"
            run(host, (f"CREATE TRIGGER fills BEFORE INSERT ON desk FOR EACH ROW {body}",))
        else:
            body = f"BEGIN {condition.format('NEW.other_source := 2;')} RETURN NEW; END"
            run(
                host,
                (
                    f"CREATE OR REPLACE FUNCTION fills() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
                    "CREATE TRIGGER fills BEFORE INSERT ON desk FOR EACH ROW EXECUTE FUNCTION fills()",
                ),
            )
        refused(host, mapping, r"nobody fills desk\.source")


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_trigger_that_is_switched_off_fills_nothing(place: Place) -> None:
    """Nor does one that comes after the row, or looks at the statement."""
    mapping = mapping_of()
    with desk(place, mapping, "source INTEGER NOT NULL") as host:
        run(host, (*trigger(place, "source"), "ALTER TABLE desk DISABLE TRIGGER fills"))
        refused(host, mapping, r"nobody fills desk\.source")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_trigger_that_is_not_seen_to_fill_it_is_named(place: Place) -> None:
    """FetchedValue in its Column says that something does, which nobody can see."""
    mapping = mapping_of(Column("source", Integer, nullable=False, server_default=FetchedValue()))
    blind = mapping_of()
    with desk(place, mapping, "source INTEGER NOT NULL") as host:
        if place.database == "mariadb":
            run(host, ("CREATE TRIGGER fills BEFORE INSERT ON desk FOR EACH ROW SET NEW . `source` = 7",))
        else:
            body = "BEGIN RETURN jsonb_populate_record(NEW, '{\"source\": 7}'); END"
            run(
                host,
                (
                    f"CREATE OR REPLACE FUNCTION fills() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
                    "CREATE TRIGGER fills BEFORE INSERT ON desk FOR EACH ROW EXECUTE FUNCTION fills()",
                ),
            )
            refused(host, blind, r"nobody fills desk\.source")
        made = router_of(host, mapping).resolve(HELLO)

        assert Outcome.CREATED is made.outcome
        assert 7 == host.execute(text("SELECT source FROM desk")).scalar_one()


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_no_trigger_of_sqlite_fills_a_key(place: Place, when: str) -> None:
    """What it writes comes too late for a NOT NULL, and does not come back with the row."""
    mapping = mapping_of()
    with desk(place, mapping, id="id INT PRIMARY KEY") as host:
        body = "UPDATE desk SET id = rowid WHERE rowid = NEW.rowid"
        run(host, (f"CREATE TRIGGER fills {when} INSERT ON desk BEGIN {body}; END",))
        refused(host, mapping, r"nobody fills desk\.id")


# --- the columns of fields ---------------------------------------------------------------------------------------


def test_an_agent_that_may_not_be_null_is_refused_at_the_first_look(place: Place) -> None:
    """Where the Table says that it may; what stands for nobody can be said."""
    mapping, said = mapping_of(), mapping_of(absent={"user_id": 0})
    with desk(place, mapping, user_id="user_id INTEGER NOT NULL DEFAULT 0") as host:
        refused(host, mapping, r"desk\.user_id \(user_id\) may not be NULL.*absent=")
        made = router_of(host, said).resolve(HELLO)

        assert made.ticket.user_id is None
        assert 0 == host.execute(text("SELECT user_id FROM desk")).scalar_one()


@pytest.mark.parametrize("database", ["mariadb"])
def test_a_default_that_goes_is_noticed_by_the_next_connection(place: Place) -> None:
    """Nothing is believed of it that an earlier connection was told."""
    mapping = mapping_of()
    with desk(place, mapping, "source VARCHAR(9) NOT NULL DEFAULT 'x'") as host:
        router_of(host, mapping).resolve(HELLO)
        run(host, ("ALTER TABLE desk ALTER COLUMN source DROP DEFAULT",))
        with place.engine.connect() as later, pytest.raises(MappingError, match=r"nobody fills desk\.source"):
            router_of(later, mapping).resolve(InboundMessage(1, 6, 2))


# --- what is no such column --------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
@pytest.mark.parametrize("function", [False, True])
def test_a_column_may_be_spelled_in_other_letters(place: Place, function: bool) -> None:
    """Where the database takes the two for one."""
    given: Any = (lambda _: {"Source": "x"}) if function else {"Source": "x"}
    mapping = mapping_of(Column("Source", String(9)), on_create=given)
    with desk(place, mapping, "source VARCHAR(9) NOT NULL") as host:
        router_of(host, mapping).resolve(HELLO)

        assert "x" == host.execute(text("SELECT source FROM desk")).scalar_one()


def test_what_was_refused_is_taken_once_its_column_says_who_fills_it(place: Place) -> None:
    """In the same process: a default that the host has said is not the same as one that nobody can see."""
    said = mapping_of(Column("source", String(9), nullable=False, server_default="x"))
    unseen = mapping_of(Column("source", String(9), nullable=False, server_default=FetchedValue()))
    with desk(place, said, "source VARCHAR(9) NOT NULL") as host:
        refused(host, said, r"nobody fills desk\.source")

        router_of(host, unseen).find_active(HELLO.key)


@pytest.mark.parametrize("database", ["mariadb"])
def test_an_enumeration_of_mariadb_has_its_first_word(place: Place) -> None:
    """That is its default, which the catalogue does not tell."""
    mapping = mapping_of()
    with desk(place, mapping, "source ENUM('web', 'app') NOT NULL") as host:
        router_of(host, mapping).resolve(HELLO)

        assert "web" == host.execute(text("SELECT source FROM desk")).scalar_one()


@pytest.mark.parametrize("database", ["mariadb"])
def test_a_trigger_whose_text_is_not_shown_is_no_reason_to_fail(place: Place) -> None:
    """A role without the right TRIGGER is not told it: a trigger is there all the same, and other columns are filled."""
    mapping = mapping_of()
    with desk(place, mapping, "source INTEGER") as host:
        run(host, (*trigger(place, "source"), "CREATE OR REPLACE USER teller"))
        run(host, ("GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO teller",))
        teller = create_engine(place.engine.url.set(username="teller"))
        try:
            with teller.begin() as connection:
                router_of(connection, mapping).resolve(HELLO)
            assert 7 == host.execute(text("SELECT source FROM desk")).scalar_one()
        finally:
            teller.dispose()
            host.rollback()
            run(host, ("DROP USER teller",))
