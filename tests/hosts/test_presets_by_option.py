"""`--preset NAME` on the table of its desk: nobody types its columns, its words, or what these store.

Law of this file: the programs are run on the desks' own engines; what a desk's table is, its `host.json` says.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.hosts.desks import Desk
from tests.hosts.on_desks import ON
from tests.hosts.trying import Opened, opened
from tests.support.backends import Databases
from tests.support.program import ticketrouter
from ticketrouter import presets
from ticketrouter.cli.desk import Desk as Said
from ticketrouter.cli.desk import Stored, Words

DESKS = {desk.name: desk for desk in Desk.all()}
ASKED = {"papercups": {"source": "sms"}}
"""What `--where` says of a desk, as its file does."""
ALIKE = ("only_company", "only_connection", "status_values", "absent")
OpenDesk: TypeAlias = Callable[[str], Opened]


@pytest.fixture(scope="module")
def open_desk(databases: Databases) -> Iterator[OpenDesk]:
    """Open a desk when it is first asked for, with the rows of its cases that are no fault."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(opened(databases, DESKS[name])))


def url_of(place: Opened) -> str:
    return place.engine.url.render_as_string(hide_password=False)


def insert(place: Opened, *rows: Mapping[str, Any]) -> None:
    quote = place.engine.dialect.identifier_preparer.quote_identifier
    with place.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {quote(place.table.name)}"))
        for row in rows:
            names = ", ".join(map(quote, row))
            values = ", ".join(f":v{n}" for n in range(len(row)))
            connection.execute(
                text(f"INSERT INTO {quote(place.table.name)} ({names}) VALUES ({values})"),
                {f"v{n}": value for n, value in enumerate(row.values())},
            )


def case_of(name: str, begin: str) -> Any:
    (case,) = [case for case in DESKS[name].cases if case.said["name"].startswith(begin)]
    return case


@pytest.mark.parametrize("name", ON)
def test_a_preset_maps_its_desks_table_as_its_file_does(open_desk: OpenDesk, name: str) -> None:
    """The same column for each field, and the same value for each word and for none."""
    place = open_desk(ON[name])
    with place.engine.connect() as connection:
        asked = Stored(where=ASKED.get(name, {}))
        mapped = Said(name, Words(name), stored=asked).looked_at(connection)
    told = place.desk.mapping(place.table, presets.ALL[name])

    assert {field: column.name for field, column in mapped.columns.items()} == {
        field: column.name for field, column in told.columns.items()
    }
    assert mapped.statuses == presets.ALL[name].statuses
    assert [getattr(mapped, each) for each in ALIKE] == [getattr(told, each) for each in ALIKE]
    assert [each.where and each.where.said for each in (mapped,)] == [told.where and told.where.said]


SNOOZED = [
    ("chatwoot-multi", "snoozed: joined", "snoozed", 1),
    ("zammad-new", "pending reminder", "pending reminder", 1),
]


@pytest.mark.parametrize(("name", "begin", "word", "ticket"), SNOOZED, ids=str)
def test_what_waits_is_active_to_every_command(
    open_desk: OpenDesk, tmp_path: Path, name: str, begin: str, word: str, ticket: int
) -> None:
    """Audit counts it, explain tells of it by its word and that it is joined, schema and repair write their plans."""
    place, case = open_desk(ON[name]), case_of(ON[name], begin)
    insert(place, *case.said["rows"])
    preset = ("--database", url_of(place), "--preset", name)
    message = json.dumps(case.said["message"])

    audit = ticketrouter("audit", *preset, "--json", cwd=tmp_path)
    explain = ticketrouter("explain", message, *preset, "--ignore-message-ids", cwd=tmp_path)
    schema = ticketrouter("schema", *preset, cwd=tmp_path)
    repair = ticketrouter("repair", *preset, "--plan", "plan.sql", cwd=tmp_path)

    found = json.loads(audit.out)
    assert (found["tickets"], found["active"], audit.err) == (1, 1, "")
    assert f"active: ticket {ticket} on connection 10, {word}" in explain.out, explain.err
    assert [explain.status, schema.status, repair.status] == [0, 0, 0], (schema.err, repair.err)
    assert place.table.name in schema.out


def test_route_decides_by_the_preset_on_its_desks_table(open_desk: OpenDesk, tmp_path: Path) -> None:
    """In ticketz an own message opens a ticket, with nothing unread; another policy that is said wins."""
    place = open_desk("ticketz")
    insert(place)
    message = {"company_id": 1, "contact_id": 500, "connection_id": 10, "kind": "echo"}
    line = json.dumps(message).encode()
    preset = ("--database", url_of(place), "--preset", "ticketz", "--ignore-message-ids", "--output", "json")
    with place.engine.begin() as connection:
        place.desk.mapping(place.table).anchors.create(connection)

    other = ticketrouter("route", *preset, "--policy", "default", stdin=line, cwd=tmp_path)
    done = ticketrouter("route", *preset, stdin=line, cwd=tmp_path)

    assert (other.status, json.loads(other.out)["outcome"]) == (0, "ignored"), other.err
    assert (done.status, json.loads(done.out)["outcome"]) == (0, "created"), done.err
    with place.engine.connect() as connection:
        rows = connection.execute(text('SELECT status, "unreadMessages" FROM "Tickets"')).all()
    assert [tuple(row) for row in rows] == [("pending", 0)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--status-value", "open=5"),
            "--status-value open=5 and --preset chatwoot-multi exclude each other: there it is open=0",
        ),
        (
            ("--wakes", "snoozed=pending"),
            "--wakes snoozed=pending and --preset chatwoot-multi exclude each other: there it is snoozed=open",
        ),
        (("--mapping", "desk:mapping"), "--mapping and --preset exclude each other"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
@pytest.mark.parametrize("command", ["audit", "schema"])
def test_what_contradicts_a_preset_is_refused(
    open_desk: OpenDesk, tmp_path: Path, command: str, options: tuple[str, ...], told: str
) -> None:
    """What it says already may be said again; otherwise the two exclude each other."""
    url = url_of(open_desk("chatwoot"))
    same = ("--status-value", "open=0", "--wakes", "snoozed=open")

    refused = ticketrouter(command, "--database", url, "--preset", "chatwoot-multi", *options, cwd=tmp_path)
    again = ticketrouter(command, "--database", url, "--preset", "chatwoot-multi", *same, cwd=tmp_path)

    assert (refused.status, refused.out) == (2, "")
    assert told in refused.err
    assert again.status in {0, 1}, again.err


def test_an_agent_that_is_said_to_have_no_column_needs_nobody_for_none(
    open_desk: OpenDesk, tmp_path: Path
) -> None:
    """What the preset knows of a column is not held against whoever says that there is none."""
    preset = ("--database", url_of(open_desk("zammad")), "--preset", "zammad-same")

    done = ticketrouter("audit", *preset, "--column", "user_id=", "--json", cwd=tmp_path)
    both = ticketrouter("audit", *preset, "--column", "user_id=", "--absent", "user_id=1", cwd=tmp_path)

    assert json.loads(done.out)["table"] == "tickets", done.err
    assert "--absent user_id=1: tickets has no column for it" in both.err


OPTIONS_OF = {
    "chatwoot-single": "chatwoot",
    "chatwoot-multi": "chatwoot",
    "zammad-new": "zammad",
    "papercups": "papercups",
}
LINES = {
    "chatwoot": {"company_id": 1, "contact_id": 500, "connection_id": 10},
    "zammad": {"company_id": 1, "contact_id": 500, "connection_id": 10},
    "papercups": {
        "company_id": "aaaaaaaa-0000-4000-8000-000000000001",
        "contact_id": "cccccccc-0000-4000-8000-000000000005",
        "connection_id": "bbbbbbbb-0000-4000-8000-000000000010",
    },
}


@pytest.mark.parametrize("name", OPTIONS_OF)
def test_a_preset_makes_rows_on_its_desks_table_or_says_the_options_that_are_needed(
    open_desk: OpenDesk, tmp_path: Path, name: str
) -> None:
    """What is missing is told before a line is read, as options to type; with these a message gets its ticket."""
    place = open_desk(OPTIONS_OF[name])
    insert(place)
    with place.engine.begin() as connection:
        place.desk.mapping(place.table).anchors.create(connection, checkfirst=True)
    options = ["--database", url_of(place), "--preset", name, "--ignore-message-ids", "--output", "json"]
    line = json.dumps(LINES[OPTIONS_OF[name]]).encode()

    for _ in range(3):
        done = ticketrouter("route", *options, stdin=line, cwd=tmp_path)
        if done.status == 0:
            break
        assert done.out == ""
        (said,) = re.findall(r"(?:say|as) ((?:--[a-z-]+ [a-z_]+(?:=\w+)? ?)+)$", done.err.strip())
        options += said.split()
    again = ticketrouter("route", *options, stdin=line, cwd=tmp_path)

    assert done.outcomes == ["created"], done.err
    assert again.outcomes == ["reused"], again.err
    assert ("--on-create" in options) is (OPTIONS_OF[name] == "zammad")


def test_the_rows_of_papercups_are_those_of_one_source_that_are_not_archived(
    open_desk: OpenDesk, tmp_path: Path
) -> None:
    """Nobody guesses the source; an archived row is none of the desk's, and is never closed in favour of."""
    place = open_desk("papercups")
    row = case_of("papercups", "archived").said["rows"][0] | {"status": "open"}
    living = row | {"id": str(uuid4()), "archived_at": None, "source": "sms"}
    insert(place, row, living, living | {"id": str(uuid4()), "source": "chat"})
    preset = ("--database", url_of(place), "--preset", "papercups")
    sms = (*preset, "--where", "source=sms")

    unsaid = ticketrouter("audit", *preset, cwd=tmp_path)
    audit = ticketrouter("audit", *sms, "--json", cwd=tmp_path)
    repair = ticketrouter("repair", *sms, "--plan", "plan.sql", cwd=tmp_path)
    archived = ticketrouter("audit", *sms, "--where", "archived_at=2026-01-01T00:00", cwd=tmp_path)

    assert (unsaid.status, unsaid.out) == (2, "")
    assert "say which, as --where source=chat" in unsaid.err
    assert json.loads(audit.out)["active"] == 1, audit.err
    assert "nothing to close" in repair.err
    assert "--where archived_at=2026-01-01T00:00 and --preset papercups exclude each other" in archived.err


def test_our_own_tables_with_a_presets_words(tmp_path: Path) -> None:
    """They are taken where only they are there; where the desk's are, too, somebody has to say which."""
    url = f"sqlite:///{tmp_path / 'a.sqlite3'}"
    line = b'{"company_id": 1, "contact_id": 5, "connection_id": 10}'

    made = ticketrouter("route", "--database", url, "--policy", "chatwoot-multi", stdin=line, cwd=tmp_path)
    ours = ticketrouter("audit", "--database", url, "--preset", "chatwoot-multi", "--json", cwd=tmp_path)
    ticketrouter_sql(tmp_path / "a.sqlite3", "CREATE TABLE conversations (id INTEGER PRIMARY KEY)")
    both = ticketrouter("audit", "--database", url, "--preset", "chatwoot-multi", cwd=tmp_path)

    assert made.status == 0, made.err
    assert (ours.status, json.loads(ours.out)["active"]) == (0, 1), ours.err
    assert (both.status, both.out) == (2, "")
    assert "say which with --table" in both.err


def ticketrouter_sql(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
