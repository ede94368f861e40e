"""Which rows of a table count, by options: a row that may be deleted is never guessed to be a living ticket."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from tests.support.backends import Databases
from tests.support.program import Finished, lines, ticketrouter

COMMANDS = ("route", "explain", "audit", "repair", "schema")
MESSAGE = {"company_id": 1, "contact_id": 5, "connection_id": 10}
MARKS = {
    "deleted_at": ("{time} NULL", "NULL", "'2026-11-21 09:00:00'"),
    "is_deleted": ("BOOLEAN NOT NULL DEFAULT false", "false", "true"),
    "deleted": ("BOOLEAN NULL", "NULL", "true"),
    "removedAt": ("{time} NULL", "NULL", "'2026-11-21 09:00:00'"),
    "archived": ("INTEGER NOT NULL DEFAULT 0", "0", "1"),
}
"""By column that tells which rows are deleted: its type, and what it has in a living row and in a deleted one."""
TABLE = ("--table", "chats", "--only-company", "1", "--ignore-message-ids")


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, databases: Databases) -> Iterator[URL]:
    url = databases.new(request.param)
    yield url
    databases.drop(url)


def made(url: URL, column: str) -> tuple[str, ...]:
    """Make a table with a living ticket, and a deleted one of the same key that was used later."""
    type_, living, deleted = MARKS[column]
    time = {"postgresql": "TIMESTAMP", "mysql": "DATETIME", "mariadb": "DATETIME"}.get(
        url.get_backend_name(), "DATETIME"
    )
    key = {"postgresql": "SERIAL PRIMARY KEY", "sqlite": "INTEGER PRIMARY KEY"}.get(
        url.get_backend_name(), "INTEGER AUTO_INCREMENT PRIMARY KEY"
    )
    engine = create_engine(url)
    quoted = engine.dialect.identifier_preparer.quote_identifier(column)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS chats"))
        connection.execute(
            text(
                f"CREATE TABLE chats (id {key}, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
                f"status VARCHAR(20) NOT NULL, updated_at {time} NOT NULL, {quoted} {type_.format(time=time)})"
            )
        )
        for hour, value in ((9, living), (11, deleted)):
            connection.execute(
                text(
                    f"INSERT INTO chats (contact_id, connection_id, status, updated_at, {quoted}) "
                    f"VALUES (5, 10, 'open', '2026-11-20 {hour:02}:00:00', {value})"
                )
            )
    engine.dispose()
    return ("--database", url.render_as_string(hide_password=False), *TABLE)


def told(command: str, *options: str, cwd: Path) -> Finished:
    arguments = {"explain": (json.dumps(MESSAGE),), "repair": ("--plan", "plan.sql"), "audit": ("--json",)}
    return ticketrouter(command, *arguments.get(command, ()), *options, stdin=lines([MESSAGE]), cwd=cwd)


def options_in(error: str) -> list[str]:
    """Return the options that a line says after its last `say`."""
    (said,) = re.findall(r"say (--.*?)(?: if .*)?$", error.strip())
    return shlex.split(said)


@pytest.mark.parametrize("column", MARKS)
def test_a_table_with_deleted_rows_is_refused_until_somebody_says_what_counts(
    database: URL, tmp_path: Path, column: str
) -> None:
    """Every command refuses it; with the option that the refusal says only living tickets are the desk's."""
    options = made(database, column)

    refused = [told(command, *options, cwd=tmp_path) for command in COMMANDS]
    where = options_in(refused[0].err)
    audit = told("audit", *options, *where, cwd=tmp_path)
    repaired = told("repair", *options, *where, cwd=tmp_path)
    explained = told("explain", *options, *where, cwd=tmp_path)
    all_of_them = told("audit", *options, "--with-deleted", cwd=tmp_path)

    assert [(each.status, each.out) for each in refused] == [(2, "")] * len(COMMANDS)
    assert len({each.err for each in refused}) == 1
    assert where[0] == "--where"
    assert json.loads(audit.out)["active"] == 1, audit.err
    assert "nothing to close" in repaired.err
    assert "reused, active_on_connection (ticket 1)" in explained.out, explained.err
    assert json.loads(all_of_them.out)["active"] == 2, all_of_them.err


@pytest.mark.parametrize("column", MARKS)
def test_a_new_row_is_the_desks(database: URL, tmp_path: Path, column: str) -> None:
    """What `--where` says is what a new row has, the index that `schema` prints is about these rows, and all is sound."""
    options = made(database, column)
    where = options_in(told("audit", *options, cwd=tmp_path).err)
    schema = told("schema", *options, *where, cwd=tmp_path)
    engine = create_engine(database)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in re.sub(r"^--.*$", "", schema.out, flags=re.MULTILINE).split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()

    audit = told("audit", *options, *where, cwd=tmp_path)
    other = ticketrouter(
        "route",
        "--output",
        "json",
        *options,
        *where,
        stdin=lines([MESSAGE | {"connection_id": 13}] * 2),
        cwd=tmp_path,
    )

    assert audit.status == 0, audit.out
    assert other.outcomes == ["created", "reused"], other.err


@pytest.mark.parametrize(
    ("options", "told_"),
    [
        (("--where", "nothing=1"), "--where nothing=1: chats has no column 'nothing'"),
        (("--where", "archived=some"), "--where archived=some: chats.archived is of type INTEGER"),
        (("--where", "archived"), "say COLUMN=VALUE"),
        (("--where", "archived=0", "--where", "archived=1"), "say of archived one thing"),
        (
            ("--with-deleted", "--where", "archived=0"),
            "--with-deleted and --where archived=... exclude each other",
        ),
        (("--with-deleted", "--uuid", "id"), "--uuid id: chats.id is of type INTEGER"),
        (("--with-deleted", "--uuid", "nothing"), "--uuid nothing: chats has no column 'nothing'"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_said_of_rows_is_looked_at(
    database: URL, tmp_path: Path, options: tuple[str, ...], told_: str
) -> None:
    """A column that is not there, or has no such value, is refused by each command."""
    table = made(database, "archived")

    refused = [told(command, *table, *options, cwd=tmp_path) for command in COMMANDS]

    assert {each.status for each in refused} == {2}
    assert all(told_ in each.err for each in refused), refused[0].err


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_column_that_a_field_stands_in_is_no_mark(database: URL, tmp_path: Path) -> None:
    """`archived_at` may be what the desk calls the time of closing."""
    options = made(database, "deleted_at")

    done = told("audit", *options, "--column", "closed_at=deleted_at", cwd=tmp_path)

    assert json.loads(done.out)["active"] == 2, done.err


@pytest.mark.parametrize("type_", ["VARCHAR(36)", "TEXT", "CHAR(36)"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_random_uuid_by_option(database: URL, tmp_path: Path, type_: str) -> None:
    """A key that nobody makes, and a number that must differ, are made by the option that the refusal says."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS chats"))
        connection.execute(
            text(
                f"CREATE TABLE chats (id {type_} PRIMARY KEY, contact_id INTEGER NOT NULL, number VARCHAR(60) NOT NULL "
                "UNIQUE, connection_id INTEGER NOT NULL, status TEXT NOT NULL, updated_at DATETIME NOT NULL);"
            )
        )
        connection.execute(
            text(
                "CREATE UNIQUE INDEX one ON chats (contact_id, connection_id) WHERE status IN ('open', 'pending')"
            )
        )
    options = ("--database", str(database), *TABLE)

    refused = told("route", *options, cwd=tmp_path)
    done = ticketrouter(
        "route",
        *("--output", "json", *options, "--uuid", "number", "--uuid", "id"),
        stdin=lines([MESSAGE | {"contact_id": contact} for contact in (5, 6)]),
        cwd=tmp_path,
    )

    assert options_in(refused.err) == ["--uuid", "id", "--on-create", "number=VALUE"]
    assert done.outcomes == ["created"] * 2, done.err
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT id, number FROM chats")).all()
    engine.dispose()
    assert {len(value) for row in rows for value in row} == {36}
    assert len({value for row in rows for value in row}) == 4


@pytest.mark.parametrize("filled", [False, True], ids=["by nobody", "as an option says"])
def test_an_audit_finds_a_key_that_nobody_fills(database: URL, tmp_path: Path, filled: bool) -> None:
    """`route` refuses such a table, and an audit that calls it sound would be wrong."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS chats"))
        connection.execute(
            text(
                "CREATE TABLE chats (id VARCHAR(36) NOT NULL PRIMARY KEY, contact_id INTEGER NOT NULL, "
                "connection_id INTEGER NOT NULL, status VARCHAR(20) NOT NULL, updated_at TIMESTAMP NOT NULL)"
            )
        )
    engine.dispose()
    options = (
        "--database",
        database.render_as_string(hide_password=False),
        *TABLE,
        *(("--uuid", "id") if filled else ()),
    )

    found = json.loads(ticketrouter("audit", "--json", *options, cwd=tmp_path).out)
    texts = [
        f"{each['text']}: {each['advice']}" for each in found["observations"] if each["check"] == "columns"
    ]

    assert filled is not any(
        "nobody fills chats.id (id) of a new row: pass --uuid id" in each for each in texts
    )


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_new_ticket_that_where_leaves_out_is_told_with_what_helps(database: URL, tmp_path: Path) -> None:
    """What a ticket itself has no option fills."""
    options = made(database, "archived")

    done = ticketrouter(
        "route",
        *options,
        "--where",
        "status=spam",
        "--where",
        "archived=0",
        stdin=lines([MESSAGE]),
        cwd=tmp_path,
    )

    assert "does not meet the row condition, `--where`, which asks archived, status" in done.err
    assert "status is what a new ticket itself has" in done.err
    assert "on_create" not in done.err
