"""The plans of `schema` and `repair`, run by the database's own client, do what they say: whatever things are called.

Law of this file: names, ids and words are hostile, the database is the oracle, and what a plan must change is worked
out from the rows alone. TICKETROUTER_PLAN_EXAMPLES says how many examples each database has.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, Phase, assume, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
    create_engine,
    inspect,
    select,
)
from sqlalchemy.pool import StaticPool

from tests.support.backends import Databases
from tests.support.clients import Client
from tests.support.whaticket import DATABASES
from ticketrouter import InboundMessage, StatusScheme, TicketRouter, UniqueRule
from ticketrouter.cli.repair import write_plan
from ticketrouter.sqlalchemy import (
    MappingError,
    SQLAlchemyTicketRepository,
    TicketMapping,
    configure_sqlite,
    detect_unique_rule,
)
from ticketrouter.sqlalchemy.catalogue import indexes
from ticketrouter.sqlalchemy.health.ddl import missing_steps, script

EXAMPLES = int(os.environ.get("TICKETROUTER_PLAN_EXAMPLES", "15"))
VICTIM = "victim"

# --- hostile names -----------------------------------------------------------------------------------------------

_CHARACTERS = (
    "ab\"'`%:;\\-/*#$1.,()[]{}<>=? \t\n\r\x1b\x07\u202e\u200f\u2028\u2029\x85\u00e9\u4e2d\u00a0@!&|~^"
)
_PIECES = (
    f'"; DROP TABLE {VICTIM}; --',
    f"`; DROP TABLE {VICTIM}; -- ",
    f"'; DROP TABLE {VICTIM}; --",
    f"\nDROP TABLE {VICTIM};--",
    f"\rDROP TABLE {VICTIM};--",
    f"\u2028DROP TABLE {VICTIM};--",
    f"*/ DROP TABLE {VICTIM}; /*",
    f"\\'; DROP TABLE {VICTIM}; --",
    "/*!50000 ",
    "\n\\! touch hacked\n",
    "\n.quit\n",
    "\ndelimiter //\n",
    "\nrollback;",
    "$1$",
    "$$",
    "%s",
    "%(x)s",
    "%%",
    ":x",
    "::int",
    "--",
    "select",
    "U&",
)
_WRITTEN = st.lists(st.sampled_from(_CHARACTERS) | st.sampled_from(_PIECES), max_size=12).map("".join)
PRINTABLE = _WRITTEN.map(
    lambda text: "".join(c for c in text if c.isprintable() and c != "\\").replace("%(", "%[")
)
"""What may be a word, or a constant: the others are refused."""


def cut(text: str, longest: int) -> str:
    """Shorten a text to so many bytes."""
    return text.encode()[:longest].decode(errors="ignore")


def sent(name: str) -> str:
    """Leave out what is refused where parameters are "?": a %( that nothing closes."""
    return re.sub(r"%\((?![^)]+\)s)", "%[", name)


def begun(name: str) -> str:
    """Leave out two things by which indexes cannot be judged: the look at them is refused, and nothing is written.

    MariaDB takes blanks from the beginning of an alias; SQLAlchemy takes %( in a text for a value where these are "?".
    """
    name = name.replace("%(", "%[")
    return name if name[:1].strip() and name[:1].isprintable() else f"c{name[:-1]}"


@frozen
class Names:
    """What everything of an example is called."""

    table: str
    schema: str | None
    columns: tuple[str, ...]
    index: str
    prefix: str
    words: tuple[str, str, str]
    ids: tuple[str, ...]
    kind: str = "kind"
    """The column of the row condition."""
    last: str = "last"
    """The column that every message writes, where one does."""


FIELDS = ("id", "company_id", "contact_id", "connection_id", "status", "updated_at", "closed_at")


@st.composite
def names(draw: st.DrawFn) -> Names:
    # A number at the end keeps names apart, and MariaDB from refusing a space there.
    long = draw(st.booleans())
    name = _WRITTEN if not long else _WRITTEN.map(lambda text: text + "long" * 20)
    return Names(
        table=sent(cut("t" * draw(st.booleans()) + draw(name), 40) + "0"),
        schema=draw(st.none() | st.none() | _WRITTEN.map(lambda text: sent(cut(text, 20) + "_s"))),
        columns=tuple(begun(cut(draw(name), 60)) + str(n) for n in range(len(FIELDS))),
        index=cut(draw(_WRITTEN), 60) + "1",
        prefix=sent(cut(draw(st.just("ticketrouter_") | _WRITTEN), 20)),
        words=tuple(cut(draw(PRINTABLE), 40) + str(n) for n in range(3)),  # type: ignore[arg-type]
        ids=tuple(draw(_WRITTEN) + f"-{n}" for n in range(8)),
        kind=begun(cut(draw(name), 60)) + "k",
        last=begun(cut(draw(name), 60)) + "m",
    )


@frozen
class Stored:
    """How the status column stores the three words."""

    kind: str = "words"
    """A line of `TYPES`."""
    values: tuple[Any, ...] = ()
    """What stands for each word; empty: the words do. Of truths the first two words have one."""


TYPES: dict[str, Any] = {
    "words": String(60),
    "texts": String(60),
    "texts of UUIDs": String(36),
    "UUIDs": Uuid(),
    "numbers": SmallInteger(),
    "truths": Boolean(),
}


def distinct(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Stored]:
    three = st.lists(values, min_size=3, max_size=3, unique=True).map(tuple)
    return three.map(lambda drawn: Stored(kind, drawn))


_NUMBERS = st.sampled_from([-32768, -1, 0, 1, 2, 32767])
STORED = st.one_of(
    st.just(Stored()),
    distinct("texts", PRINTABLE.map(lambda text: cut(text, 40) + ".")),
    distinct("texts of UUIDs", st.uuids().map(str)),
    distinct("UUIDs", st.uuids(version=4)),  # MariaDB refuses some of the others
    distinct("numbers", _NUMBERS),
    st.booleans().map(lambda active: Stored("truths", (active, active, not active))),
)


@frozen
class Example:
    """A tickets table, and what stands in it."""

    names: Names
    text_ids: bool
    rows: tuple[tuple[int, int, int], ...]
    """Contact, word and minute of each."""
    old_index: str
    odd: bool
    """Whether the client's session has the settings that nobody expects."""
    where: str | None = None
    """Of which kind a row is that exists for the desk; None: every row does. Each third row is of another one."""
    on_message: str | None = None
    """What every message writes; None: nothing."""
    stored: Stored = Stored()

    @property
    def words(self) -> tuple[str, str, str]:
        """The word of each status, of which the first two are active."""
        first, second, closed = self.names.words
        return (first, first if self.stored.kind == "truths" else second, closed)

    @property
    def values(self) -> dict[str, Any]:
        """What the column stores for each word."""
        return dict(zip(self.words, self.stored.values or self.words, strict=True))


EXAMPLE = st.builds(
    Example,
    names=names(),
    text_ids=st.booleans(),
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8
    ).map(tuple),
    old_index=st.sampled_from(["", "vacuous", "by contact", "partial"]),
    odd=st.booleans(),
    where=st.none() | PRINTABLE.map(lambda text: cut(text, 40)),
    on_message=st.none() | PRINTABLE.map(lambda text: cut(text, 40)),
    stored=STORED,
)
USUAL = Names(
    table="later",
    schema=None,
    columns=FIELDS,
    index=f"u\nDROP TABLE {VICTIM};--",
    prefix="ticketrouter_",
    words=("open", "pending", "closed"),
    ids=tuple(f"\\' OR 1=1 -- {n}" for n in range(8)),
)
DUPLICATES = ((0, 0, 1), (0, 1, 2), (0, 0, 2), (1, 0, 0), (1, 2, 3))


# --- a desk of such names --------------------------------------------------------------------------------------------


class Desk:
    """One database, one connection for making and looking, and one client that runs the plans."""

    def __init__(self, databases: Databases, database: str, place: Path) -> None:
        self.database, self._place = database, place
        self._databases, self._url = databases, databases.new(database)
        options: dict[str, Any] = {"prepare_threshold": None} if database == "postgresql" else {}
        self.engine: Engine = create_engine(self._url, poolclass=StaticPool, connect_args=options)
        if database == "sqlite":
            configure_sqlite(self.engine)
        self.client = Client(self._url, place)
        self.send(f"CREATE TABLE {VICTIM} (id INTEGER)")
        self.schema: str | None = None

    def close(self) -> None:
        self.client.close()
        self.engine.dispose()
        self._databases.drop(self._url)

    def quote(self, name: str) -> str:
        quote = "`" if self.database == "mariadb" else '"'
        return quote + name.replace(quote, quote * 2) + quote

    def send(self, *statements: str) -> None:
        """Send statements past everything of SQLAlchemy's that would read them."""
        with self.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            for statement in statements:
                with closing(raw.cursor()) as cursor:
                    cursor.execute(statement)
                raw.commit()

    def make(self, example: Example) -> TicketMapping:
        """Make the tables of an example; skip names that the database itself refuses."""
        self.schema = example.names.schema
        (self._place / "attached.sqlite3").unlink(missing_ok=True)
        try:
            self.send(*self._statements(example))
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            self.drop(example)
            event(f"{self.database} refuses such names: {type(error).__name__}")
            assume(False)
        return mapped(example)

    def drop(self, example: Example) -> None:
        names = example.names
        mapping = mapped(example)
        for name in (names.table, mapping.message_ids.name, mapping.anchors.name):
            self._quietly(f"DROP TABLE IF EXISTS {self._placed(names, name)}")
        if names.schema is not None:
            quoted = self.quote(names.schema)
            self._quietly(
                {
                    "postgresql": f"DROP SCHEMA IF EXISTS {quoted} CASCADE",
                    "mariadb": f"DROP DATABASE IF EXISTS {quoted}",
                    "sqlite": f"DETACH {quoted}",
                }[self.database]
            )

    def _quietly(self, statement: str) -> None:
        try:
            self.send(statement)
        except Exception:  # noqa: BLE001 - it was never made
            self.send("ROLLBACK" if self.database != "sqlite" else "SELECT 1")

    def _placed(self, names: Names, name: str) -> str:
        return self.quote(name) if names.schema is None else f"{self.quote(names.schema)}.{self.quote(name)}"

    def _statements(self, example: Example) -> Iterator[str]:
        names, text = example.names, self._text
        column = dict(zip(FIELDS, map(self.quote, names.columns), strict=True))
        if names.schema is not None:
            yield self.attach(names.schema) or f"CREATE SCHEMA {self.quote(names.schema)}"
        exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin" if self.database == "mariadb" else ""
        id_ = f"VARCHAR(200){exact}" if example.text_ids else "INTEGER"
        moment = "TIMESTAMP" if self.database == "postgresql" else "DATETIME"
        table = self._placed(names, names.table)
        yield (
            f"CREATE TABLE {table} ({column['id']} {id_} PRIMARY KEY, {column['company_id']} INTEGER NOT NULL, "
            f"{column['contact_id']} INTEGER NOT NULL, {column['connection_id']} INTEGER NOT NULL, "
            f"{column['status']} {self._status_type(example.stored)} NOT NULL, {column['updated_at']} {moment} NOT NULL, "
            f"{column['closed_at']} {moment} NULL, {self.quote(names.kind)} VARCHAR(60){exact} NULL, {self.quote(names.last)} VARCHAR(60){exact} NULL)"
        )
        for id_value, contact, word, minute, kind in rows_of(example):
            status = self._stored(example.values[word])
            shown = text(id_value) if isinstance(id_value, str) else str(id_value)
            yield (
                f"INSERT INTO {table} VALUES ({shown}, 1, {contact}, 10, {status}, "
                f"'2026-01-01 00:0{minute}:00', NULL, {text(kind)}, 'untouched')"
            )
        over = {
            "vacuous": ("UNIQUE ", f"{column['company_id']}, {column['contact_id']}, {column['id']}", ""),
            "by contact": ("", f"{column['contact_id']}", ""),
            "partial": (
                "UNIQUE ",
                f"{column['contact_id']}, {column['id']}",
                f"{column['contact_id']} <> 7"
                if example.stored.kind not in {"words", "texts"}
                else f"{column['status']} <> 'x%s:y'",
            ),
        }.get(example.old_index)
        if over is not None:
            unique, columns, where = over
            index = self.quote(names.index)
            if self.database == "sqlite":
                index, table = self._placed(names, names.index), self.quote(names.table)
            partial = f" WHERE {where}" if where and self.database != "mariadb" else ""
            yield f"CREATE {unique}INDEX {index} ON {table} ({columns}){partial}"

    def attach(self, schema: str) -> str:
        """Return what makes a schema known to a session of SQLite."""
        if self.database != "sqlite":
            return ""
        return f"ATTACH '{self._place / 'attached.sqlite3'}' AS {self.quote(schema)}"

    def _status_type(self, stored: Stored) -> str:
        exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin" if self.database == "mariadb" else ""
        if isinstance(TYPES[stored.kind], String):
            return f"VARCHAR(60){exact}"
        return str(TYPES[stored.kind].compile(self.engine.dialect))

    def _stored(self, value: Any) -> str:
        match value:
            case UUID():
                return self._text(value.hex if self.database == "sqlite" else str(value))
            case str():
                return self._text(value)
            case _:
                return str(value)

    def _text(self, value: str) -> str:
        doubled = value.replace("'", "''")
        if self.database == "postgresql":
            return "E'" + doubled.replace("\\", "\\\\") + "'"
        return "'" + (doubled.replace("\\", "\\\\") if self.database == "mariadb" else doubled) + "'"

    def run(self, sql: str, example: Example) -> None:
        """Let the client run a file, in a session as a host may have it."""
        odd, usual = {
            "postgresql": ("SET standard_conforming_strings = off;", "SET standard_conforming_strings = on;"),
            "mariadb": (
                "SET sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT';",
                "SET sql_mode = '';",
            ),
            "sqlite": (".bail on", ".bail on"),
        }[self.database]
        before = [odd if example.odd else usual]
        if self.database == "sqlite" and self.schema is not None:
            # A name with a line end in it is more than a line for `.read`, and is told the client by SQL.
            sql = f"{self.attach(self.schema)};\n{sql}\nDETACH {self.quote(self.schema)};"
        assert self.client.run(sql, *before) is None

    def rows(self, mapping: TicketMapping) -> dict[Any, tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return {row[0]: tuple(row) for row in connection.execute(mapping.table.select())}

    def objects(self, mapping: TicketMapping) -> tuple[Any, ...]:
        """Tell everything that a plan might have made or dropped."""
        with self.engine.connect() as connection:
            there, schema = inspect(connection), mapping.table.schema
            found = frozenset((i.path, i.parts, i.predicate, i.unique) for i in indexes(connection, mapping))
            tables = frozenset(there.get_table_names(schema=schema)) | frozenset(there.get_table_names())
            return found, tables


def rows_of(example: Example) -> Iterator[tuple[Any, int, str, int, str]]:
    for number, (contact, word, minute) in enumerate(example.rows):
        id_ = example.names.ids[number] if example.text_ids else number + 1
        kind = example.where if example.where is not None and number % 3 else "another kind"
        yield id_, contact, example.words[word], minute, kind


def mapped(example: Example) -> TicketMapping:
    names = example.names
    column: dict[str, Any] = dict(zip(FIELDS, names.columns, strict=True))
    table = Table(
        names.table,
        MetaData(),
        Column(column["id"], String(200) if example.text_ids else Integer, primary_key=True),
        *(Column(column[field], Integer, nullable=False) for field in FIELDS[1:4]),
        Column(column["status"], TYPES[example.stored.kind], nullable=False),
        Column(column["updated_at"], DateTime, nullable=False),
        Column(column["closed_at"], DateTime),
        Column(names.kind, String(60)),
        Column(names.last, String(60)),
        schema=names.schema,
    )
    absent: dict[str, Any] = dict.fromkeys(
        ("is_group", "unread_messages", "user_id", "queue_id", "created_at")
    )
    first, second, closed = example.words
    return TicketMapping(
        table,
        **column,
        **absent,
        statuses=StatusScheme(
            active=frozenset({first, second}), initial=first, reopened=first, accepted=second, closed=closed
        ),
        status_values=example.values if example.stored.values else None,
        prefix=names.prefix,
        new_id=(f"made {n}" if example.text_ids else n for n in count(99)).__next__,
        on_create={} if example.where is None else {names.kind: example.where},
        on_message={} if example.on_message is None else {names.last: example.on_message},
        where=None if example.where is None else table.c[names.kind] == example.where,
    )


def expected(example: Example) -> dict[Any, Any]:
    """Work out by hand what is stored as each ticket's status once the duplicates are closed."""
    first, second, closed = example.words
    keys: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    kept: set[Any] = set()
    for id_, contact, word, minute, kind in rows_of(example):
        if example.where not in {None, kind}:
            kept.add(id_)
        elif word in {first, second}:
            keys[contact].append((minute, id_))
    kept |= {max(tickets)[1] for tickets in keys.values()}
    return {
        id_: example.values[closed if word in {first, second} and id_ not in kept else word]
        for id_, _, word, _, _ in rows_of(example)
    }


# --- what is looked at -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desks(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Desk]]:
    class Desks(dict[str, Desk]):
        def __missing__(self, database: str) -> Desk:
            self[database] = Desk(databases, database, tmp_path_factory.mktemp(database))
            return self[database]

    made = Desks()
    yield made
    for desk in made.values():
        desk.close()


def check(desk: Desk, example: Example, place: Path) -> None:
    mapping = desk.make(example)
    try:
        check_plans(desk, example, mapping, place / "plan.sql")
        with desk.engine.connect() as connection:
            assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {VICTIM}").scalar() == 0
    finally:
        desk.drop(example)


def check_plans(desk: Desk, example: Example, mapping: TicketMapping, file: Path) -> None:
    try:
        with desk.engine.connect() as connection:
            counts = write_plan(str(file), connection, mapping, 3, orphans=True)
        with desk.engine.connect() as connection:
            missing = missing_steps(connection, mapping)
    except MappingError as error:
        # What the client of the database cannot be told is refused, and only that.
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "line end of two characters" in refused
        assert "\r\n" in repr_of(example.names)
        assert desk.database != "postgresql"
        event(f"{desk.database}: refused")
        return
    before, objects = desk.rows(mapping), desk.objects(mapping)
    repair = file.read_bytes().decode()
    tame(repair, desk.database)

    desk.run(repair, example)

    after = desk.rows(mapping)
    assert expected(example) == {id_: row[4] for id_, row in after.items()}
    changed = {id_ for id_ in before if before[id_] != after[id_]}
    assert counts == ({"duplicates": len(changed)} if changed else {})
    assert all(before[id_][:4] == after[id_][:4] and after[id_][6] == before[id_][5] for id_ in changed)
    assert all(before[id_][7:] == after[id_][7:] for id_ in changed)
    assert objects == desk.objects(mapping)
    desk.run(repair, example)
    assert after == desk.rows(mapping)

    schema = script(missing, desk.database)
    tame(schema, desk.database)
    desk.run(schema, example)
    with desk.engine.connect() as connection:
        assert missing_steps(connection, mapping) == ()
        assert detect_unique_rule(connection, mapping) is UniqueRule.ACTIVE_PER_CONNECTION
    assert after == desk.rows(mapping)
    assert desk.objects(mapping)[1] - objects[1] == {mapping.message_ids.name, mapping.anchors.name}
    event(f"{desk.database}: ran")
    check_messages(desk, example, mapping)
    # Where a name cannot be written down, the plan says so instead of the way back.
    if not any(said in schema for said in ("no comment can hold", "what it is over is not known here")):
        desk.run(way_back(schema), example)
        assert objects == desk.objects(mapping)
        assert after == desk.rows(mapping)
        event(f"{desk.database}: ran back")


def check_messages(desk: Desk, example: Example, mapping: TicketMapping) -> None:
    """Let messages come, one that may join, one that begins a ticket, and both at once: each writes what it has to."""
    told = {InboundMessage(1, contact, 10): contact for contact in (0, 7)}
    with desk.engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        tickets = {contact: router.resolve(each).ticket.id for each, contact in told.items()}
        router.resolve_many([*told])
        last = dict(
            connection.execute(select(mapping.columns["id"], mapping.table.c[example.names.last])).all()
        )
        connection.rollback()
    expected = "untouched" if example.on_message is None else example.on_message
    new = None if example.on_message is None else example.on_message

    assert (new, {new, expected}) == (last[tickets[7]], {last[tickets[0]], new, expected})
    assert {"untouched"} >= {text for id_, text in last.items() if id_ not in tickets.values()}


def repr_of(names: Names) -> str:
    """Return every name as one text."""
    return "|".join(
        (names.table, names.schema or "", *names.columns, names.kind, names.last, names.index, names.prefix)
    )


_PARTS = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`)|(--[^\n]*)|.""", re.DOTALL)


def tame(sql: str, database: str) -> None:
    """Only what is in quotes may hold what is not printed, and on PostgreSQL not even that."""
    shown = sql if database == "postgresql" else _PARTS.sub(lambda part: "" if part[1] else part[0], sql)
    assert shown.replace("\n", "").isprintable()


def way_back(schema: str) -> str:
    """Return the statements that stand in the comments, the last step's first."""
    steps = [
        [line[5:] for line in step.split("-- To undo it:\n", 1)[1].split("\n") if line.startswith("--   ")]
        for step in schema.split("\n\n")
        if "-- To undo it:\n" in step
    ]
    return "\n".join("\n".join(step) for step in reversed(steps)) + "\n"


@pytest.mark.parametrize("database", DATABASES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # Not made smaller: that takes as long as a thousand examples.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)
@given(found=EXAMPLE)
@example(found=Example(USUAL, True, DUPLICATES, "vacuous", True))
@example(found=Example(USUAL, False, DUPLICATES, "partial", False))
@example(found=Example(USUAL, True, DUPLICATES, "vacuous", True, "it's 5% of :x and $1"))
@example(found=Example(evolve(USUAL, table="t%s:x" + "y" * 35), True, DUPLICATES, "by contact", False))
@example(found=Example(USUAL, True, DUPLICATES, "vacuous", False, "it's", "5% of :x and $1"))
@example(
    found=Example(USUAL, True, DUPLICATES, "vacuous", True, stored=Stored("truths", (False, False, True)))
)
@example(
    found=Example(USUAL, False, DUPLICATES, "partial", True, "it's", stored=Stored("numbers", (0, -1, 1)))
)
@example(found=Example(evolve(USUAL, columns=("U&\n\\!", *FIELDS[1:])), False, DUPLICATES, "", False))
def test_plans_do_what_they_say_whatever_things_are_called(
    database: str, found: Example, desks: dict[str, Desk], tmp_path: Path
) -> None:
    """Repair closes the duplicates and no more, also the second time; schema makes the rule; the way back undoes it."""
    check(desks[database], found, tmp_path)
