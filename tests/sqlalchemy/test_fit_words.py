"""A status column that cannot hold a word, or takes two for one, is refused before anything is written.

The database compares: MariaDB, outside of its strict mode, would cut a word, or make none of it, in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Column, Connection, DateTime, Enum, Integer, MetaData, String, Table, Uuid, event, text
from sqlalchemy.exc import NotSupportedError

from tests.sqlalchemy.conftest import Place
from ticketrouter import InboundMessage, Outcome, Policy, Reopen, StatusScheme, TicketRouter
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import Check, Observation, audit

IDS = {
    "postgresql": "id SERIAL PRIMARY KEY",
    "mariadb": "id INT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "id INTEGER PRIMARY KEY",
}
HELLO = InboundMessage(1, 5, 2, message_id="a")


def scheme(closed: str, *also: str) -> StatusScheme:
    return StatusScheme(
        active={"open"},
        initial="open",
        reopened="open",
        accepted="open",
        closed=closed,
        also_closed=set(also),
    )


def mapping_of(
    statuses: StatusScheme, type_: Any = None, values: Mapping[str, Any] | None = None
) -> TicketMapping:
    table = Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, Integer, nullable=False) for name in ("company_id", "contact_id", "connection_id")),
        Column("state", String(200) if type_ is None else type_, nullable=False),
        Column("updated_at", DateTime, nullable=False),
    )
    none: dict[str, Any] = dict.fromkeys(
        ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")
    )
    return TicketMapping(
        table, status="state", **none, statuses=statuses, status_values=values, metadata=table.metadata
    )


@contextmanager
def desk(
    place: Place, mapping: TicketMapping, state: str, *before: str, after: str = ""
) -> Iterator[Connection]:
    """Make a table whose status is so defined; outside of MariaDB's strict mode."""
    time = "TIMESTAMP" if place.database == "postgresql" else "DATETIME"
    type_, of, check = state.partition(" CHECK")
    keys = ", ".join(f"{name} INTEGER NOT NULL" for name in ("company_id", "contact_id", "connection_id"))
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        for each in before:
            try:
                host.exec_driver_sql(each)
            except NotSupportedError as error:
                pytest.skip(f"this server knows no such collation: {error.orig}")
        host.exec_driver_sql(
            f"CREATE TABLE desk ({IDS[place.database]}, {keys}, state {type_} NOT NULL{of}{check}, updated_at {time} NOT NULL{after})"
        )
        mapping.metadata.create_all(host)
    connection = place.engine.connect()
    try:
        if place.database == "mariadb":
            connection.exec_driver_sql("SET sql_mode = ''")
        yield connection
    finally:
        connection.invalidate()  # what a session was set to is not the next test's
        connection.close()
        with place.begin() as host:
            mapping.metadata.drop_all(host)


def router_of(host: Connection, mapping: TicketMapping) -> TicketRouter:
    return TicketRouter(SQLAlchemyTicketRepository(host, mapping))


def findings(host: Connection, mapping: TicketMapping) -> list[Observation]:
    """Return what an audit finds of columns; nothing where it cannot look."""
    try:
        return [each for each in audit(host, mapping).findings if each.check is Check.COLUMNS]
    except MappingError:
        host.rollback()
        return []


def refused(host: Connection, mapping: TicketMapping, *why: str) -> None:
    """See that each is told, that nothing is written, and that an audit finds it."""
    with pytest.raises(MappingError) as told:
        router_of(host, mapping).resolve(HELLO)
    host.rollback()
    found = findings(host, mapping)
    if not found:  # the database refuses every statement with such a word
        with pytest.raises(MappingError) as of_audit:
            audit(host, mapping)
        assert str(told.value) == str(of_audit.value)
        host.rollback()
    rows = host.execute(text("SELECT COUNT(*) FROM desk")).scalar_one()

    assert [] == [each for each in why if each not in str(told.value)], str(told.value)
    assert 0 == rows
    assert all(each.advice and each.examples for each in found)


def kept(host: Connection, mapping: TicketMapping) -> None:
    """See that every word of the scheme is written, and read as itself."""
    router = router_of(host, mapping)
    made = router.resolve(HELLO)
    closed = router.close(1, made.ticket.id)
    again = router.resolve(InboundMessage(1, 5, 2))
    found = [each for each in audit(host, mapping).findings if each.check is Check.COLUMNS]

    assert (Outcome.CREATED, mapping.statuses.closed) == (made.outcome, closed.status)
    assert Outcome.CREATED is again.outcome
    assert [] == found


# --- two words ---------------------------------------------------------------------------------------------------

NOCASE = tuple(
    f"CREATE COLLATION IF NOT EXISTS {name} (provider = icu, locale = 'und-u-ks-{level}', deterministic = false)"
    for name, level in (("nocase", "level2"), ("noaccent", "level1"))
)
ALIKE = [
    ("postgresql", "VARCHAR(50) COLLATE nocase", "Open"),
    ("postgresql", "TEXT COLLATE noaccent", "öpen"),
    ("postgresql", "CHAR(4)", "open  "),
    ("mariadb", "VARCHAR(50) COLLATE utf8mb4_general_ci", "Open"),
    ("mariadb", "VARCHAR(50) COLLATE utf8mb4_general_ci", "öpen"),
    ("mariadb", "VARCHAR(50) COLLATE utf8mb4_bin", "open "),
    ("mariadb", "TEXT COLLATE latin1_swedish_ci", "OPEN"),
    ("sqlite", "VARCHAR(50) COLLATE NOCASE", "Open"),
    ("sqlite", "TEXT COLLATE RTRIM", "open "),
]
APART = [
    ("postgresql", 'VARCHAR(50) COLLATE "C"', "Open"),
    ("postgresql", "TEXT", "open "),
    ("mariadb", "VARCHAR(50) COLLATE utf8mb4_nopad_bin", "open "),
    ("mariadb", "VARCHAR(50) COLLATE utf8mb4_bin", "Open"),
    ("sqlite", "VARCHAR(50)", "Open"),
    ("sqlite", "TEXT COLLATE NOCASE", "open "),
]


def before(place: Place) -> tuple[str, ...]:
    return NOCASE if place.database == "postgresql" else ()


@pytest.mark.parametrize(("database", "state", "other"), ALIKE)
@pytest.mark.parametrize("stored", [False, True], ids=["words", "texts"])
def test_two_words_that_the_collation_takes_for_one_are_refused(
    place: Place, state: str, other: str, stored: bool
) -> None:
    """Where they are the words themselves, or the texts that are stored for them; without the other one all is well."""
    values = {"open": "open", "done": other, "away": "away"} if stored else None
    mapping = mapping_of(scheme("done", "away") if stored else scheme("away", other), values=values)
    single = mapping_of(scheme("away"))
    with desk(place, mapping, state, *before(place)) as host:
        refused(host, mapping, "desk.state (status) takes ", "for one", repr("open"), repr(other))
        kept(host, single)


@pytest.mark.parametrize(("database", "state", "other"), ALIKE)
@pytest.mark.parametrize("final", [False, True], ids=["closed", "final"])
def test_two_spellings_of_a_word_that_mean_the_same_are_not(
    place: Place, state: str, other: str, final: bool
) -> None:
    """Rows of either are of a closed ticket: a message reopens it, or where both are final it reopens neither."""
    word, spelled = other.strip().lower().replace("ö", "o"), other
    statuses = StatusScheme(
        active={"live"},
        initial="live",
        reopened="live",
        accepted="live",
        closed="away",
        also_closed=set() if final else {word, spelled},
        final={word, spelled} if final else set(),
    )
    mapping = mapping_of(statuses)
    policy = Policy(reopen=Reopen.always())
    with desk(place, mapping, state, *before(place)) as host:
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping), policy)
        for contact, stored in enumerate((word, spelled)):
            messages = [InboundMessage(1, contact * 2 + more, 2) for more in (0, 1)]
            made = router.resolve_many(messages)
            host.execute(mapping.table.update().values(state=stored))
            alone, many = router.resolve(messages[0]), router.resolve_many([messages[1]] * 2)[0]
            expected = Outcome.CREATED if final else Outcome.REOPENED

            assert [expected] * 2 == [alone.outcome, many.outcome]
            assert final or [each.ticket.id for each in made] == [alone.ticket.id, many.ticket.id]
            for each in (alone, many):
                router.close(1, each.ticket.id)
        assert [] == [each for each in audit(host, mapping).findings if each.check is Check.COLUMNS]


@pytest.mark.parametrize(("database", "state", "other"), APART)
def test_two_words_that_it_tells_apart_are_not(place: Place, state: str, other: str) -> None:
    """However alike they are."""
    mapping = mapping_of(scheme(other))
    with desk(place, mapping, state, *before(place)) as host:
        kept(host, mapping)


def test_all_words_are_compared_in_one_statement(place: Place) -> None:
    """However many there are; and a second connection asks nothing of them."""
    counts = []
    for words in (2, 20):
        mapping = mapping_of(scheme(*(f"word {n}" for n in range(words))))
        with desk(place, mapping, "VARCHAR(50)") as host:
            sent: list[str] = []
            event.listen(place.engine, "before_cursor_execute", lambda *args, sent=sent: sent.append(args[2]))
            router_of(host, mapping).find_active(HELLO.key)
            host.rollback()
            with place.engine.connect() as later:
                router_of(later, mapping).find_active(HELLO.key)
            counts.append((len(sent), sum("ticketrouter_words" in each for each in sent)))

    assert counts[0] == counts[1]
    assert 1 == counts[0][1]


# --- a word that the column cannot hold --------------------------------------------------------------------------

MOOD = ("DROP TYPE IF EXISTS mood CASCADE", "CREATE TYPE mood AS ENUM ('open', 'away')")
SHORT = ("DROP DOMAIN IF EXISTS short CASCADE", "CREATE DOMAIN short AS varchar(5)")
TOO_MUCH = [
    ("postgresql", "VARCHAR(5)", (), "it has room for 5 characters"),
    ("postgresql", "short", SHORT, "it has room for 5 characters"),
    ("postgresql", "mood", MOOD, "it has only open, away"),
    ("postgresql", "INTEGER", (), "it is a int4, of numbers"),
    (
        "postgresql",
        "TEXT CHECK (state IN ('open', 'away'))",
        (),
        "the constraint desk_state_check refuses it",
    ),
    ("mariadb", "VARCHAR(5)", (), "it has room for 5 characters"),
    ("mariadb", "ENUM('open', 'away')", (), "it has only open, away"),
    ("mariadb", "INT", (), "it is a int, of numbers"),
    ("mariadb", "VARCHAR(50) CHECK (state IN ('open', 'away'))", (), "the constraint state refuses it"),
    (
        "sqlite",
        "TEXT CHECK (state IN ('open', 'away'))",
        (),
        "the constraint CHECK (state IN ( 'open' , 'away' ))",
    ),
]


@pytest.mark.parametrize(("database", "state", "first", "why"), TOO_MUCH)
def test_a_word_that_the_column_cannot_hold_is_refused(
    place: Place, state: str, first: tuple[str, ...], why: str
) -> None:
    """By its length, its members, its type or its constraint; the Table shows none of them."""
    mapping = mapping_of(scheme("archived"))
    with desk(place, mapping, state, *first) as host:
        refused(host, mapping, "desk.state (status) cannot hold 'archived'", why)
        if "INT" not in state:
            kept(
                host, mapping_of(scheme("away"), Enum("open", "away", name="mood") if first is MOOD else None)
            )


@pytest.mark.parametrize(
    ("database", "after"),
    [
        (database, after)
        for database in ("postgresql", "mariadb", "sqlite")
        for after in (", CONSTRAINT words CHECK (state <> 'archived')", ", CHECK (length(state) < 6)")
    ],
)
def test_a_constraint_of_the_table_that_is_about_the_status_alone_is_asked(place: Place, after: str) -> None:
    """Wherever it stands."""
    mapping = mapping_of(scheme("archived"))
    with desk(place, mapping, "VARCHAR(50)", after=after) as host:
        refused(host, mapping, "cannot hold 'archived'", "refuses it")


def test_a_constraint_that_is_about_other_columns_is_not(place: Place) -> None:
    """What it says of a row is not known before there is one; nor is what it says of nothing."""
    after = ", CHECK (state <> 'archived' OR company_id < 100), CHECK (state <> 'open' OR NULL)"
    mapping = mapping_of(scheme("archived"))
    with desk(place, mapping, "VARCHAR(50)", after=after) as host:
        kept(host, mapping)


NUMBERS = [
    ("postgresql", "SMALLINT", "it holds numbers from -32768 to 32767"),
    ("mariadb", "TINYINT UNSIGNED", "it holds numbers from 0 to 255"),
    ("mariadb", "SMALLINT", "it holds numbers from -32768 to 32767"),
    ("mariadb", "VARCHAR(20)", "it is a varchar, of texts"),
    ("mariadb", "ENUM('40000', '1')", "it has only 40000, 1"),
    ("sqlite", "VARCHAR(20)", "it is a VARCHAR(20), which makes texts of numbers"),
    ("sqlite", "INTEGER CHECK (state < 40000)", "refuses it"),
]


@pytest.mark.parametrize(("database", "state", "why"), NUMBERS)
def test_a_number_that_the_column_cannot_hold_is_refused(place: Place, state: str, why: str) -> None:
    """By its range, or as it comes back as a text."""
    mapping = mapping_of(scheme("away"), Integer(), {"open": 1, "away": 40_000})
    with desk(place, mapping, state) as host:
        refused(host, mapping, "cannot hold 40000, which is stored for 'away'", why)


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize(
    ("type_", "number"), [("INTEGER", "07"), ("NUMERIC", "1e3"), ("REAL", " 7"), ("DATE", "7")]
)
def test_a_text_that_sqlite_makes_a_number_of_is_refused(place: Place, type_: str, number: str) -> None:
    """It would come back as another word; a text that is none is kept, and so is one with numbers in a column of texts."""
    mapping = mapping_of(scheme(number))
    with desk(place, mapping, type_) as host:
        refused(
            host, mapping, f"cannot hold {number!r}", f"it is a {type_}, which makes numbers of such texts"
        )
        kept(host, mapping_of(scheme("away")))
    with desk(place, mapping, "TEXT") as host:
        kept(host, mapping)


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("check", ["state IN ('1', '2')", "state IN (1, 2)", "typeof(state) = 'integer'"])
def test_a_constraint_of_sqlite_is_asked_of_what_is_stored(place: Place, check: str) -> None:
    """A column of numbers compares a text as a number."""
    mapping = mapping_of(scheme("away"), Integer(), {"open": 1, "away": 2})
    with desk(place, mapping, f"INTEGER CHECK ({check})") as host:
        kept(host, mapping)


@pytest.mark.parametrize("database", ["mariadb"])
def test_a_text_that_comes_back_otherwise_is_refused(place: Place) -> None:
    """A character set without a character makes a question mark of it; a CHAR keeps no blanks at the end."""
    for state, word, why in (
        ("VARCHAR(50) CHARACTER SET latin1", "完了", "is not compared with"),
        ("CHAR(50)", "away ", "it is a char, which keeps no blanks at the end"),
    ):
        mapping = mapping_of(scheme(word))
        with desk(place, mapping, state) as host:
            refused(host, mapping, repr(word), why)
            kept(host, mapping_of(scheme("fermé")))


def test_an_enumeration_of_the_table_need_not_be_that_of_the_database(place: Place) -> None:
    """A member that only the Table has is refused; on SQLite there is none but the Table's."""
    mapping = mapping_of(scheme("archived"), Enum("open", "archived", "away", name="mood"))
    state = {
        "postgresql": "mood",
        "mariadb": "ENUM('open', 'away')",
        "sqlite": "TEXT CHECK (state <> 'archived')",
    }
    with desk(
        place, mapping, state[place.database], *(MOOD if place.database == "postgresql" else ())
    ) as host:
        refused(host, mapping, "cannot hold 'archived'")


# --- foreign keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("of", ["number", "uuid"])
def test_a_status_that_has_no_row_in_its_table_is_refused(place: Place, of: str, when: str) -> None:
    """Until it is there, the foreign key would refuse every ticket with it, at COMMIT if not before."""
    if when and place.database == "mariadb":
        pytest.skip("it has no such keys")
    one, two = (
        (1, 2)
        if of == "number"
        else ("1" * 8 + "-1111" * 3 + "-" + "1" * 12, "2" * 8 + "-2222" * 3 + "-" + "2" * 12)
    )
    type_: Any
    type_, kind = (Integer(), "INTEGER") if of == "number" else (String(36), "VARCHAR(36)")
    if of == "uuid" and place.database == "postgresql":
        type_, kind = Uuid(as_uuid=False), "UUID"
    mapping = mapping_of(scheme("away"), type_, {"open": one, "away": two})
    first = (
        "DROP TABLE IF EXISTS desk",
        "DROP TABLE IF EXISTS states",
        f"CREATE TABLE states (key_ {kind} PRIMARY KEY)",
    )
    key = f", FOREIGN KEY (state) REFERENCES states (key_){when}"
    with desk(place, mapping, kind, *first, after=key) as host:
        host.execute(text("INSERT INTO states VALUES (:one)"), {"one": one})
        host.commit()
        refused(
            host, mapping, f"cannot hold {two!r}, which is stored for 'away'", "states", "has no such row"
        )
        host.execute(text("INSERT INTO states VALUES (:two)"), {"two": two})
        host.commit()
        kept(host, mapping)


@pytest.mark.parametrize("database", ["mariadb"])
@pytest.mark.parametrize("of", ["foreign key", "check"])
def test_what_a_session_has_switched_off_demands_nothing(place: Place, of: str) -> None:
    """As an import may, for which rows of other tables come later; of another session it still is demanded."""
    mapping = mapping_of(scheme("away"), Integer(), {"open": 1, "away": 2})
    first = (
        "DROP TABLE IF EXISTS desk",
        "DROP TABLE IF EXISTS states",
        "CREATE TABLE states (key_ INTEGER PRIMARY KEY)",
    )
    key, off = (
        (", FOREIGN KEY (state) REFERENCES states (key_)", "foreign_key_checks")
        if of == "foreign key"
        else (", CHECK (state < 2)", "check_constraint_checks")
    )
    with desk(place, mapping, "INTEGER", *first, after=key) as host:
        host.execute(text(f"SET {off} = 0"))
        kept(host, mapping)
        with place.engine.connect() as another:
            refused(another, mapping, "cannot hold")
    with place.begin() as host:
        host.execute(text("DROP TABLE states"))


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_table_that_may_not_be_read_is_not_asked(place: Place) -> None:
    """The server itself looks there; what is equal is asked all the same."""
    mapping = mapping_of(scheme("away"), Integer(), {"open": 1, "away": 2})
    first = (
        "DROP TABLE IF EXISTS desk",
        "DROP TABLE IF EXISTS states",
        "CREATE TABLE states (key_ INTEGER PRIMARY KEY)",
        "INSERT INTO states VALUES (1), (2)",
        "DROP ROLE IF EXISTS clerk",
        "CREATE ROLE clerk",
    )
    with desk(
        place, mapping, "INTEGER", *first, after=", FOREIGN KEY (state) REFERENCES states (key_)"
    ) as host:
        for table in ("desk", mapping.message_ids.name, mapping.anchors.name, "desk_id_seq"):
            host.exec_driver_sql(f"GRANT ALL ON {table} TO clerk")
        host.commit()
        try:
            host.exec_driver_sql("SET LOCAL ROLE clerk")
            made = router_of(host, mapping).resolve(HELLO)
            host.commit()
        finally:
            host.rollback()
            for table in ("desk", mapping.message_ids.name, mapping.anchors.name, "desk_id_seq"):
                host.exec_driver_sql(f"REVOKE ALL ON {table} FROM clerk")
            host.exec_driver_sql("DROP ROLE clerk")
            host.commit()

    assert Outcome.CREATED is made.outcome
