"""`ticketrouter audit` as a process: what it prints, what it leaves alone, and its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.support import desk
from tests.support.backends import Databases
from tests.support.program import FULL, run, ticketrouter, without
from ticketrouter.cli.engine import reading_engine

SMALL = desk.Size(tickets=200, duplicates=3)
LINE = ("--preset", "whaticket")


def made(place: Path, size: desk.Size = SMALL, *statements: str) -> str:
    """Make a desk in a file, and return its URL."""
    url = f"sqlite:///{place / 'desk.sqlite3'}"
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        desk.build(connection, size)
        for statement in statements:
            connection.exec_driver_sql(statement)
    return url


SOUND = 'CREATE UNIQUE INDEX one_active ON "Tickets" ("companyId", "contactId", "whatsappId") WHERE status <> \'closed\''
IDS = (
    "CREATE TABLE ticketrouter_message_ids (company_id INTEGER, connection_id INTEGER, message_id BLOB, "
    "ticket_id INTEGER, routed_at DATETIME)"
)
BY_CONTACT = 'CREATE INDEX by_contact ON "Tickets" ("contactId")'


def test_findings_are_exit_status_1(tmp_path: Path) -> None:
    """The terminal's report names the findings and the worst keys, and ends in the verdict."""
    done = ticketrouter("audit", "--database", made(tmp_path), *LINE, cwd=tmp_path)

    assert (done.status, done.err) == (1, "")
    assert "3 keys have more than one active ticket" in done.out
    assert done.out.rstrip().splitlines()[-1].startswith("not sound: 4 findings about unique_rule")
    assert "Secret" not in done.out


def test_a_sound_desk_is_exit_status_0(tmp_path: Path) -> None:
    """What is a note is no finding."""
    url = made(tmp_path, desk.Size(200, 0), SOUND, BY_CONTACT, IDS)

    done = ticketrouter("audit", "--database", url, *LINE, cwd=tmp_path)

    assert (done.status, done.err) == (0, "")
    assert "\nsound: " in done.out


def test_json_has_the_documented_shape(tmp_path: Path) -> None:
    """One object, and nothing else, on standard output."""
    done = ticketrouter("audit", "--database", made(tmp_path), *LINE, "--json", cwd=tmp_path)

    found = json.loads(done.out)
    assert done.status == 1
    assert list(found) == [
        "format", "database", "table", "tickets", "active", "unique_rule", "sound", "verdict", "observations",
    ]  # fmt: skip
    assert (found["format"], found["unique_rule"], found["sound"]) == (1, "none", False)
    for observation in found["observations"]:
        assert list(observation) == ["check", "level", "text", "advice", "count", "examples"]
    (duplicates,) = (each for each in found["observations"] if each["check"] == "duplicates")
    assert duplicates["count"] == 3
    assert list(duplicates["examples"][0]) == [
        "company_id", "contact_id", "connection_id", "tickets", "ticket_ids",
    ]  # fmt: skip


def test_the_page_needs_no_other_file_and_escapes_what_it_shows(tmp_path: Path) -> None:
    """A status may be anything: in the page it is text."""
    odd = "UPDATE \"Tickets\" SET status = '<script>alert(1)</script>' WHERE id = 1"
    url = made(tmp_path, SMALL, odd)

    done = ticketrouter("audit", "--database", url, *LINE, "--html", "report.html", cwd=tmp_path)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert done.status == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href|url)\s*[=(]", page) == []
    assert "Not sound: 5 findings" in page


def test_nothing_is_written(tmp_path: Path) -> None:
    """Not a byte of the file changes, and no file is made beside it."""
    url = made(tmp_path)
    before = (tmp_path / "desk.sqlite3").read_bytes()

    ticketrouter("audit", "--database", url, *LINE, cwd=tmp_path)

    assert before == (tmp_path / "desk.sqlite3").read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["desk.sqlite3"]


def test_words_and_columns_can_be_named(tmp_path: Path) -> None:
    """--active, --also-closed, --final, --wakes, --table and --column describe a desk that is not called as usual."""
    url = made(
        tmp_path,
        SMALL,
        "UPDATE \"Tickets\" SET status = 'rating' WHERE id = 1",
        "UPDATE \"Tickets\" SET status = 'nps' WHERE id = 2",
        "UPDATE \"Tickets\" SET status = 'spam' WHERE id = 3",
        'ALTER TABLE "Tickets" RENAME TO calls',
    )
    columns = {
        "company_id": "companyId", "contact_id": "contactId", "connection_id": "whatsappId", "updated_at": "updatedAt",
    }  # fmt: skip
    named = [word for field, name in columns.items() for word in ("--column", f"{field}={name}")]
    words = (
        "--active",
        "rating",
        "--also-closed",
        "nps",
        "--final",
        "spam",
        "--wakes",
        "rating=open",
        "--json",
    )

    for options in ((*LINE, "--table", "calls"), ("--table", "calls", *named)):
        done = ticketrouter("audit", "--database", url, *options, *words, cwd=tmp_path)
        found = json.loads(done.out)
        assert (found["table"], found["active"]) == ("calls", 20)
        assert "statuses" not in found["verdict"]


def test_a_table_is_looked_at_whose_rows_nobody_here_could_make(tmp_path: Path) -> None:
    """A key that the application makes, and an agent and a time of closing that are never NULL, are no hindrance."""
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE chats (id VARCHAR(36) PRIMARY KEY, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
            "status VARCHAR(20) NOT NULL, user_id INTEGER NOT NULL, queue_id VARCHAR(9) NOT NULL, "
            "updated_at DATETIME NOT NULL, closed_at DATETIME NOT NULL)"
        )

    done = ticketrouter("audit", "--database", url, "--table", "chats", "--only-company", "1", cwd=tmp_path)

    assert (done.status, done.err) == (1, "")
    assert "0 tickets" in done.out


def test_that_there_is_no_time_of_the_last_change_must_be_said(tmp_path: Path) -> None:
    """By creation the newest of two may be another than by the column that was only not named; so none is guessed."""
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE talks (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
            "status VARCHAR(20) NOT NULL, created_at DATETIME NOT NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO talks (contact_id, connection_id, status, created_at) VALUES "
            "(1, 1, 'open', '2026-03-02 12:00:00'), (1, 1, 'open', '2026-03-01 12:00:00')"
        )
    options = ("--database", url, "--table", "talks", "--only-company", "1")

    unsaid = ticketrouter("audit", *options, cwd=tmp_path)
    said = ticketrouter("audit", *options, "--column", "updated_at=", "--json", cwd=tmp_path)
    plan = ticketrouter("repair", *options, "--column", "updated_at=", "--plan", "plan.sql", cwd=tmp_path)
    wrong = ticketrouter("audit", *options, "--column", "contact_id=", cwd=tmp_path)

    assert unsaid.status == wrong.status == 2
    assert "talks has no column updated_at: say --column updated_at=NAME" in unsaid.err
    assert "--column updated_at= if there is none" in " ".join(unsaid.err.split())
    [found] = [each for each in json.loads(said.out)["observations"] if each["check"] == "duplicates"]
    assert [1, 2] == found["examples"][0]["ticket_ids"]
    assert (plan.status, plan.err) == (0, "plan.sql: 1 duplicates\n")
    assert '"id" IN (2)' in (tmp_path / "plan.sql").read_text(encoding="utf-8")
    assert "say which column has contact_id" in wrong.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--database", "nonsense"), "--database is no URL of a database"),
        (("--database", "sqlite:///absent.sqlite3"), "there is no such file"),
        (("--database", "mongodb://user:secret@host/db"), "mongodb is not supported"),
        (
            ("--database", "sqlite:///desk.sqlite3"),
            "there is no table ticketrouter_tickets; there is Tickets: say --preset",
        ),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--table", "Others"), "there is no table Others"),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--table", "Contacts"), "has no column"),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--active", "closed"), "--active: "),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--also-closed", "open"), "--also-closed: "),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--final", "closed"), "--final: "),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--wakes", "rating=open"), "--wakes: "),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--wakes", "rating"), "say WORD=WORD"),
        (("--database", "sqlite:///desk.sqlite3", "--preset", "unheard-of"), "unheard-of"),
        (("--database", "sqlite:///desk.sqlite3", *LINE, "--column", "contact"), "say FIELD=NAME"),
        (("--database", "sqlite:///text.sqlite3", *LINE), "file is not a database"),
        (
            ("--database", "sqlite:///desk.sqlite3", *LINE, "--html", "no/such/place.html"),
            "no/such/place.html: ",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_exit_status_2(
    tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    """One clear line without a password, and no traceback."""
    made(tmp_path)
    (tmp_path / "text.sqlite3").write_text("this is a text, however long it may be " * 40)

    done = ticketrouter("audit", *options, cwd=tmp_path)

    assert done.status == 2
    assert problem in done.err
    assert "Traceback" not in done.err
    assert "secret" not in done.err


@pytest.mark.skipif(not FULL.exists(), reason="there is no device here that has no room")
def test_a_page_without_room_is_exit_status_2(tmp_path: Path) -> None:
    """What cannot be written is said, with its name."""
    done = ticketrouter("audit", "--database", made(tmp_path), *LINE, "--html", str(FULL), cwd=tmp_path)

    assert (done.status, "Traceback" in done.err) == (2, False)
    assert str(FULL) in done.err


def test_without_the_extra_the_page_is_refused_in_one_line(tmp_path: Path) -> None:
    """Only --html needs jinja2, and says so before it looks at anything."""
    page = ("--html", "page.html")
    elsewhere = ("audit", "--database", "sqlite:///absent.sqlite3", *LINE)

    refused = run(without("jinja2", *elsewhere, *page), cwd=tmp_path)
    looked = run(without("jinja2", "audit", "--database", made(tmp_path), *LINE), cwd=tmp_path)

    assert refused.status == 2
    assert (
        refused.err == 'ticketrouter: audit --html needs the extra "html": pip install "ticketrouter[html]"\n'
    )
    assert (looked.status, looked.err) == (1, "")


def test_the_page_needs_no_more_than_its_extra(tmp_path: Path) -> None:
    """What draws the pictures of a replay may be absent."""
    arguments = ("audit", "--database", made(tmp_path), *LINE, "--html", "page.html")

    done = run(without("vl_convert", *arguments), cwd=tmp_path)

    assert (done.status, done.err) == (1, "")
    assert (tmp_path / "page.html").exists()


def test_a_run_that_could_not_look_leaves_the_last_page(tmp_path: Path) -> None:
    """The page of an earlier audit stays, and nothing is left beside it."""
    (tmp_path / "page.html").write_text("the last one")

    done = ticketrouter(
        "audit", "--database", "sqlite:///absent.sqlite3", "--html", "page.html", cwd=tmp_path
    )

    assert done.status == 2
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("page.html", "the last one")]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_server_is_asked_without_any_right_to_write(
    databases: Databases, database: str, tmp_path: Path
) -> None:
    """The audit's user may only read; whoever may not read at all is told so, with exit status 2."""
    url = databases.new(database)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        desk.build(connection, SMALL)
        user = _reader(database, str(url.database))
        for statement in _rights(database, user):
            connection.exec_driver_sql(statement)
    reader = url.set(username=user.partition("@")[0]).render_as_string(hide_password=False)

    try:
        allowed = ticketrouter("audit", "--database", reader, *LINE, "--json", cwd=tmp_path)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"REVOKE SELECT ON {_WHAT[database][1]} FROM {user}")
        refused = ticketrouter("audit", "--database", reader, *LINE, cwd=tmp_path)
    finally:
        with engine.begin() as connection:
            if database == "postgresql":
                connection.exec_driver_sql(f"DROP OWNED BY {user}")
            connection.exec_driver_sql(f"DROP {'ROLE' if database == 'postgresql' else 'USER'} {user}")
        databases.drop(url)

    assert allowed.status == 1, allowed.err
    assert json.loads(allowed.out)["tickets"] == 200
    assert refused.status == 2
    assert re.search("permission denied|denied", refused.err)


_WHAT = {"postgresql": ("ALL TABLES IN SCHEMA public", '"Tickets"'), "mariadb": ("*.*", "*.*")}


def _reader(database: str, name: str) -> str:
    return f"reader_{name}" if database == "postgresql" else f"reader_{name[-6:]}@localhost"


def _rights(database: str, user: str) -> tuple[str, ...]:
    create = f"CREATE ROLE {user} LOGIN" if database == "postgresql" else f"CREATE USER {user}"
    return (create, f"GRANT SELECT ON {_WHAT[database][0]} TO {user}")


@pytest.mark.parametrize("database", ["postgresql", "mariadb", "sqlite"])
def test_the_reading_engine_refuses_to_write(databases: Databases, database: str, tmp_path: Path) -> None:
    """Whatever a check would send, the transaction can write nothing."""
    url = databases.new(database)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (n INTEGER)")
    reading = reading_engine(url)
    sent: list[str] = []
    event.listen(reading, "before_cursor_execute", lambda *args: sent.append(args[2]))

    with reading.connect() as connection, pytest.raises(DBAPIError, match=r"(?i)read.?only"):
        connection.exec_driver_sql("INSERT INTO kept VALUES (1)")
    reading.dispose()
    databases.drop(url)
    assert len(sent) == 2
