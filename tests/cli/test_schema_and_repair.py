"""`ticketrouter schema` and `ticketrouter repair` as processes: what they write, where, and their exit status."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tests.support import desk
from tests.support.program import ticketrouter

LINE = ("--preset", "whaticket")
DESK = ("--database", "sqlite:///desk.sqlite3", *LINE)


def made(place: Path, rule: str | None = desk.VACUOUS) -> Path:
    """Make a desk in a file."""
    file = place / "desk.sqlite3"
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.begin() as connection:
        desk.build(connection, desk.Size(tickets=200, duplicates=3), rule)
    return file


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            ("--dialect", "postgresql", *LINE, "--drop", desk.NAME),
            (
                'CREATE UNIQUE INDEX CONCURRENTLY "tickets_one_active" ON "Tickets" (',
                "WHERE \"status\" IN ('open', 'pending');",
                f'ALTER TABLE "Tickets" DROP CONSTRAINT "{desk.NAME}";',
                "Not inside a transaction",
                '--   DROP INDEX CONCURRENTLY "tickets_one_active";',
            ),
        ),
        (
            ("--dialect", "mariadb", "--preset", "multi100", "--active", "rating"),
            ("IN ('chatbot', 'group', 'lgpd', 'nps', 'open', 'pending', 'rating'), 1, NULL)) VIRTUAL",),
        ),
        (
            ("--dialect", "sqlite", "--preset", "whaticket-community"),
            ('CREATE UNIQUE INDEX "tickets_one_active" ON "Tickets" ("contactId", "whatsappId") WHERE',),
        ),
        (("--dialect", "postgresql"), ("CREATE TABLE ticketrouter_tickets (", "fillfactor")),
    ],
    ids=["postgresql", "mariadb", "community", "own"],
)
def test_the_schema_is_printed_without_a_database(
    tmp_path: Path, options: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    """For each database and preset: the rule, the end of the old one, and the way back."""
    done = ticketrouter("schema", *options, cwd=tmp_path)

    assert (done.status, done.err) == (0, "")
    assert [text for text in wanted if text not in done.out] == []


def test_a_desk_is_repaired_and_given_its_schema_by_the_files(tmp_path: Path) -> None:
    """The two files, run by the database's own client, leave a sound desk; neither command has written to it."""
    file = made(tmp_path)
    before = file.read_bytes()

    repair = ticketrouter("repair", *DESK, "--plan", "repair.sql", "--batch", "2", cwd=tmp_path)
    schema = ticketrouter("schema", *DESK, "--plan", "schema.sql", cwd=tmp_path)

    assert (repair.status, repair.out, repair.err) == (0, "", "repair.sql: 3 duplicates\n")
    assert (schema.status, schema.out, schema.err) == (0, "", "")
    assert file.read_bytes() == before
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for plan in ("repair.sql", "schema.sql"):
            connection.executescript((tmp_path / plan).read_text(encoding="utf-8"))
    audit = ticketrouter("audit", *DESK, cwd=tmp_path)
    assert (audit.status, audit.err) == (0, "")
    nothing = ticketrouter("schema", *DESK, cwd=tmp_path)
    assert nothing.out == "-- Nothing is missing.\n"
    again = ticketrouter("repair", *DESK, "--plan", "again.sql", cwd=tmp_path)
    assert again.err == "again.sql: nothing to close\n"
    assert "UPDATE" not in (tmp_path / "again.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("schema",), "Say either --dialect or --database"),
        (("schema", *DESK, "--drop", "x"), "--drop is for --dialect"),
        (("schema", "--dialect", "sqlite", "--table", "calls"), "--table needs --database"),
        (
            ("schema", "--database", "sqlite:///constraint.sqlite3", *LINE),
            "SQLite cannot drop the constraint",
        ),
        (("repair", *DESK), "--plan"),
        (("repair", *DESK, "--plan", "no/such/place.sql"), "no/such/place.sql: "),
        (("repair", *DESK, "--plan", "repair.sql", "--batch", "0"), "--batch"),
        (
            ("repair", "--database", "sqlite:///absent.sqlite3", *LINE, "--plan", "r.sql"),
            "there is no such file",
        ),
        (("repair", "--database", "sqlite:///status.sqlite3", *LINE, "--plan", "r.sql"), "drop it first"),
    ],
)
def test_what_cannot_be_written_is_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    """One clear line, no traceback, and no half of a file."""
    made(tmp_path, desk.WITH_STATUS).rename(tmp_path / "status.sqlite3")
    with closing(sqlite3.connect(made(tmp_path))) as connection, connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'Tickets'").fetchone()
    with closing(sqlite3.connect(tmp_path / "constraint.sqlite3")) as connection, connection:
        inside = 'UNIQUE ("contactId", "companyId"), FOREIGN KEY'
        connection.execute(sql.replace("FOREIGN KEY", inside, 1))

    done = ticketrouter(*arguments, cwd=tmp_path)

    assert done.status == 2
    assert problem in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.glob("*.sql")) == []
