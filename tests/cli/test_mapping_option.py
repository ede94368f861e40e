"""`--mapping MODULE:NAME`, and the options that say the same of a table: one set for every command about tickets."""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.program import Finished, lines, ticketrouter
from ticketrouter.cli.app import cli
from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.wording import as_options
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.columns import FIELDS
from ticketrouter.wording import passing

COMMANDS = ("route", "explain", "audit", "repair", "schema")
BY_OPTION = {
    "table": "--table",
    **dict.fromkeys(FIELDS, "--column"),
    "statuses": "--active",
    "status_values": "--status-value",
    "absent": "--absent",
    "on_create": "--on-create",
    "where": "--where",
    "new_id": "--uuid",
    "only_company": "--only-company",
    "only_connection": "--only-connection",
    "timezone": "--timezone",
    "epoch": "--epoch",
    "remember_messages": "--ignore-message-ids",
}
OF_A_MAPPING = {"on_message", "metadata", "prefix"}
"""What no option says."""
ALWAYS = {"nullable_keys"}
"""What the options need not say: rows without a key are left alone."""

DESK = """
    CREATE TABLE chats (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, contact INTEGER NOT NULL, inbox INTEGER NOT NULL,
        state INTEGER NOT NULL, owner INTEGER NOT NULL, changed DATETIME NOT NULL, source VARCHAR(20) NOT NULL,
        deleted DATETIME, last DATETIME
    );
    CREATE INDEX chats_by_contact ON chats (account, contact);
    INSERT INTO chats (id, account, contact, inbox, state, owner, changed, source, deleted) VALUES
        (1, 1, 5, 10, 0, 0, '2026-11-20 09:00:00', 'sms', NULL),
        (2, 1, 5, 10, 3, 7, '2026-11-20 10:00:00', 'sms', NULL),
        (3, 1, 5, 10, 0, 0, '2026-11-20 11:00:00', 'sms', '2026-11-21 09:00:00');
"""
SEVERAL = {"--column", "--status-value", "--absent", "--on-create", "--active", "--also-closed", "--where"}
"""What may be given again, of something else."""
URL = ("--database", "sqlite:///desk.sqlite3")
OPTIONS = (
    "--preset", "chatwoot-single", "--table", "chats", "--column", "company_id=account",
    "--column", "contact_id=contact", "--column", "connection_id=inbox", "--column", "status=state",
    "--column", "user_id=owner", "--column", "updated_at=changed", "--absent", "user_id=0",
    "--status-value", "open=0", "--status-value", "resolved=1", "--status-value", "pending=2",
    "--status-value", "snoozed=3", "--on-create", "source=sms", "--timezone", "America/Sao_Paulo",
    "--where", "deleted=",
)  # fmt: skip
MAPPING = """
from datetime import datetime
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table
from ticketrouter import presets
from ticketrouter.sqlalchemy import TicketMapping

print("what an import prints is no result")
columns = {name: Column(name, Integer, nullable=False) for name in ("account", "contact", "inbox", "state", "owner")}
chats = Table(
    "chats", MetaData(), Column("id", Integer, primary_key=True), *columns.values(),
    Column("changed", DateTime, nullable=False), Column("source", String(20), nullable=False),
    Column("deleted", DateTime), Column("last", DateTime),
)
mapping = TicketMapping(
    chats, company_id="account", contact_id="contact", connection_id="inbox", status="state", user_id="owner",
    queue_id=None, is_group=None, unread_messages=None, created_at=None, updated_at="changed", closed_at=None,
    statuses=presets.ALL["chatwoot-single"].statuses, absent={"user_id": 0}, on_create={"source": "sms"},
    status_values={"open": 0, "resolved": 1, "pending": 2, "snoozed": 3}, where=chats.c.deleted.is_(None),
    on_message={"last": lambda message, now: now},
)

class Desk:
    chats = mapping

def made():
    return mapping
"""
MINE = (*URL, "--mapping", "desk.tables:mapping")
MESSAGE = {"company_id": 1, "contact_id": 5, "connection_id": 13, "message_id": "m1"}
PYTHON = re.compile(r"StatusScheme|TicketMapping|create_all|\b\w+=(?:None|True|False|\.\.\.|\{|\")")
"""What only a Python user knows."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a desk, and a package with its mapping."""
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        connection.executescript(DESK)
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "tables.py").write_text(MAPPING)
    return tmp_path


def options_of(command: str) -> dict[str, click.Option]:
    found = cli.commands[command].params
    return {each.opts[0]: each for each in found if isinstance(each, click.Option)}


def with_options(command: str, *options: str, cwd: Path, message: dict[str, Any] = MESSAGE) -> Finished:
    """Run any of the commands."""
    arguments = {
        "explain": (json.dumps(message),),
        "repair": ("--plan", "repair.sql"),
        "audit": ("--json",),
        "route": ("--output", "json"),
    }.get(command, ())
    if "--plan" in options and command == "repair":
        arguments = ()
    return ticketrouter(command, *arguments, *options, stdin=lines([message]), cwd=cwd)


def said_otherwise(*changed: str) -> list[str]:
    """Return the options of the desk, where one of them says something else of the same."""
    pairs = [*zip(OPTIONS[::2], OPTIONS[1::2], strict=True)]
    option, of = changed[0], changed[-1].partition("=")[:2]
    kept = [
        each
        for each in pairs
        if each[0] != option or (option in SEVERAL and each[1].partition("=")[:2] != of)
    ]
    return [*(each for pair in kept for each in pair), *changed]


def rows(place: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / "desk.sqlite3")) as connection:
        return connection.execute(
            "SELECT id, inbox, state, owner, last IS NULL FROM chats ORDER BY id"
        ).fetchall()


def run_plan(place: Path, plan: str) -> None:
    with closing(sqlite3.connect(place / "desk.sqlite3", isolation_level=None)) as connection:
        connection.executescript((place / plan).read_text(encoding="utf-8"))


# --- the same options -----------------------------------------------------------------------------------------------


def test_every_command_about_tickets_has_the_same_options():
    """Name, kind and help of each are those of every other command."""

    @click.command
    @desk_options
    def none() -> None: ...

    wanted = {each.opts[0]: (each.opts, each.multiple, each.metavar, each.help) for each in none.params}
    for command in COMMANDS:
        there = {name: (o.opts, o.multiple, o.metavar, o.help) for name, o in options_of(command).items()}
        assert {name: there.get(name) for name in wanted} == wanted, command
    others = set(cli.commands) - {*COMMANDS}
    assert [command for command in others if "--table" in options_of(command)] == []


def test_whatever_a_mapping_takes_is_said_by_an_option_or_is_said_to_need_a_mapping():
    """An argument that is new must be given its option, or be told of."""
    arguments = set(inspect.signature(TicketMapping).parameters)
    said = "".join(str(options_of("route")["--mapping"].help).split("\n"))

    assert arguments == {*BY_OPTION, *OF_A_MAPPING, *ALWAYS}
    assert set(BY_OPTION.values()) <= set(options_of("audit"))
    for name in ("where", "on_message", "status=None", "new_id"):
        assert name in said


def test_each_argument_is_said_as_its_option():
    """What an option says is told as that option; what none says, as a mapping's."""
    for name, option in BY_OPTION.items():
        if name not in {"table", "statuses"}:
            assert as_options(passing(name, "...")).startswith(option), name
    for name in OF_A_MAPPING:
        assert as_options(passing(name, "...")) == f"--mapping with {name}=..."
    assert as_options(passing("status", "None")) == "--mapping with status=None"
    assert as_options(passing("user_id", "None")) == "--column user_id="


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mapping_excludes_every_option_that_says_the_same(command: str, place: Path) -> None:
    """The line names both; the mapping is not even imported."""
    values = {"--preset": "default", "--epoch": "seconds", "--timezone": "UTC", "--ignore-message-ids": None}
    values |= {"--column": "id=id", "--wakes": "a=b", "--status-value": "a=b", "--absent": "user_id=0"}
    values |= {"--on-create": "a=b", "--where": "a=b"}
    for option in (*dict.fromkeys(BY_OPTION.values()), "--preset", "--also-closed", "--final", "--wakes"):
        value = values.get(option, "x")
        done = with_options(
            command,
            "--mapping",
            "no.such:thing",
            option,
            *([] if value is None else [value]),
            *URL,
            cwd=place,
        )
        assert done.status == 2
        assert f"--mapping and {option} exclude each other" in done.err


# --- a mapping that is imported ---------------------------------------------------------------------------------------


def test_five_commands_go_by_the_mapping(place: Path) -> None:
    """What no option says, `where` and `on_message`, holds in each, and what an import prints is in no result."""
    audit = with_options("audit", *MINE, cwd=place)
    found = json.loads(audit.out)
    assert (found["tickets"], found["active"]) == (2, 2), audit.err
    assert "what an import prints is no result" in audit.err
    repair = with_options("repair", *MINE, cwd=place)
    assert "repair.sql: 1 duplicates" in repair.err
    schema = with_options("schema", *MINE, "--plan", "schema.sql", cwd=place)
    assert (schema.status, schema.out) == (0, "")
    for plan in ("repair.sql", "schema.sql"):
        run_plan(place, plan)
    assert with_options("schema", *MINE, cwd=place).out == "-- Nothing is missing.\n"
    assert with_options("audit", *MINE, cwd=place).status == 0
    explained = with_options("explain", *MINE, cwd=place, message=MESSAGE | {"connection_id": 10})
    assert "answer: reused, active_on_connection (ticket 2, which wakes to 'open')" in explained.out
    for connection, outcome in ((10, "reused"), (13, "created"), (13, "duplicate")):
        message = MESSAGE | {"connection_id": connection, "message_id": f"m{connection}"}
        assert with_options("route", *MINE, cwd=place, message=message).outcomes == [outcome]
    assert rows(place) == [(1, 10, 1, 0, 1), (2, 10, 0, 7, 0), (3, 10, 0, 0, 1), (4, 13, 0, 0, 0)]


def test_the_whole_schema_of_a_mapping(place: Path) -> None:
    """With --dialect: of a host's table what goes with it; of ours the tables, too."""
    (place / "ours.py").write_text(
        "from ticketrouter.sqlalchemy import TicketMapping\nmapping = TicketMapping.own(prefix='my_')\n"
    )

    theirs = ticketrouter("schema", "--dialect", "postgresql", *MINE[2:], cwd=place)
    ours = ticketrouter("schema", "--dialect", "postgresql", "--mapping", "ours:mapping", cwd=place)

    assert "CREATE TABLE chats (" not in theirs.out
    assert "CREATE TABLE chats_anchors" in theirs.out
    assert "IN (0, 2, 3)" in theirs.out
    assert '"deleted" IS NULL' in theirs.out
    assert "CREATE TABLE my_tickets" in ours.out
    dropped = ticketrouter(
        "schema", "--dialect", "sqlite", "--mapping", "ours:mapping", "--drop", "x", cwd=place
    )
    assert (dropped.status, "--drop is for a table that is there" in dropped.err) == (2, True)


def test_a_name_may_lie_in_another(place: Path) -> None:
    """An attribute of a class is found."""
    assert with_options("explain", *URL, "--mapping", "desk.tables:Desk.chats", cwd=place).status == 2
    assert (
        "message_ids is missing"
        in with_options("explain", *URL, "--mapping", "desk.tables:Desk.chats", cwd=place).err
    )  # it was taken


HOSTS_CODE = {
    "divides.py": "def by(n):\n    return 1 / n\n\nby(0)\n",
    "wrong.py": "def x(:\n",
    "needs.py": "import no_such_package\n",
    "ends.py": "raise SystemExit('enough')\n",
    "long.py": "raise ValueError('first line\\n' + 'more and more\\n' * 1000)\n",
    "wide.py": "raise ValueError('wide ' * 1000)\n",
    "told.py": "raise ValueError('postgresql://anna:secret@host/x')\n",
    "mapped.py": (
        "from sqlalchemy import MetaData, Table\nfrom ticketrouter.sqlalchemy import TicketMapping\n\n"
        "mapping = TicketMapping(Table('chats', MetaData()))\n"
    ),
    "asked.py": "def __getattr__(name):\n    raise KeyError(name)\n",
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("desk.tables", "say MODULE:NAME, as package.module:name"),
        (":mapping", "say MODULE:NAME"),
        ("desk.tables:", "say MODULE:NAME"),
        ("", "say MODULE:NAME"),
        ("desk/tables.py:mapping", "a module is named with dots"),
        ("desk.py:mapping", "a module is named with dots"),
        ("postgresql://anna:secret@host/x", "say MODULE:NAME"),
        ("nowhere:mapping", "there is no module 'nowhere', neither in the current directory nor among"),
        ("desk.nowhere:mapping", "there is no module 'desk.nowhere'"),
        ("desk.tables:maping", "desk.tables has no 'maping'; it has mapping"),
        ("desk.tables:Desk.other", "desk.tables:Desk has no 'other'; it has chats"),
        ("desk.tables:chats", "desk.tables:chats is no TicketMapping, but a Table"),
        ("desk.tables:made", "is no TicketMapping, but a function (its result is not asked for"),
        ("divides:x", "importing divides failed: ZeroDivisionError: division by zero (divides.py, line 2)"),
        ("wrong:x", "importing wrong failed: SyntaxError: invalid syntax (wrong.py, line 1)"),
        ("needs:x", "failed: ModuleNotFoundError: No module named 'no_such_package' (needs.py, line 1)"),
        ("ends:x", "importing ends failed: SystemExit: enough (ends.py, line 1)"),
        ("long:x", "importing long failed: ValueError: first line (long.py, line 1)"),
        ("wide:x", "wid... (wide.py, line 1)"),
        ("told:x", "importing told failed: ValueError: postgresql://*** (told.py, line 1)"),
        ("mapped:mapping", "MappingError: chats has no column 'id' for id"),
        ("long:__name__.nope", "importing long failed"),
        ("desk.tables:mapping.prefix_.nope", "has no 'prefix_'"),
        ("desk:__name__.nope", "desk:__name__ has no 'nope'"),
        ("asked:x", "asked:x failed: KeyError: 'x' (asked.py, line 2)"),
    ],
)
def test_what_cannot_be_imported_is_one_line(place: Path, given: str, said: str) -> None:
    """Exit status 2, what is wrong and where in the host's code; no traceback, no secret, and never a flood."""
    for name, text in HOSTS_CODE.items():
        (place / name).write_text(text)

    done = ticketrouter("audit", *URL, "--mapping", given, cwd=place)

    told = done.err.splitlines()[-1]
    assert done.status == 2
    assert said in told
    assert "Traceback" not in done.err
    assert "secret" not in done.err
    assert len(told) < 700
    if given == "mapped:mapping":
        assert told.endswith("(mapped.py, line 4)")


# --- a table by options -----------------------------------------------------------------------------------------------


def test_five_commands_go_by_the_options(place: Path) -> None:
    """A table of numbers is looked at, mended, and routed to; nothing of ours is made there unasked."""
    audit = with_options("audit", *URL, *OPTIONS, cwd=place)
    assert json.loads(audit.out)["active"] == 2, audit.err
    before = rows(place)
    refused = with_options("route", *URL, *OPTIONS, cwd=place)
    assert (refused.status, refused.out, rows(place)) == (2, "", before)
    assert "create it with `ticketrouter schema`, or pass --ignore-message-ids" in refused.err
    for command in ("repair", "schema"):
        done = with_options(command, *URL, *OPTIONS, "--plan", f"{command}.sql", cwd=place)
        assert done.status == 0, done.err
        run_plan(place, f"{command}.sql")
    assert with_options("audit", *URL, *OPTIONS, cwd=place).status == 0
    explained = with_options("explain", *URL, *OPTIONS, cwd=place)
    assert "answer: created, no_active_ticket" in explained.out
    routed = with_options("route", *URL, *OPTIONS, cwd=place)
    assert (routed.status, routed.outcomes) == (0, ["created"]), routed.err
    assert rows(place)[-1] == (4, 13, 0, 0, 1)
    with closing(sqlite3.connect(place / "desk.sqlite3")) as connection:
        assert connection.execute("SELECT source FROM chats WHERE id = 4").fetchone() == ("sms",)


def test_message_ids_may_be_ignored_by_option(place: Path) -> None:
    """Then no table of them is asked for, nor printed, and a redelivery is counted again."""
    options = (*URL, *OPTIONS, "--ignore-message-ids")
    for plan in ("repair", "schema"):
        with_options(plan, *options, "--plan", f"{plan}.sql", cwd=place)
        run_plan(place, f"{plan}.sql")

    routed = [with_options("route", *options, cwd=place).outcomes for _ in range(2)]

    assert "message_ids" not in (place / "schema.sql").read_text(encoding="utf-8")
    assert routed == [["created"], ["reused"]]


def test_a_table_of_one_company_and_one_connection(tmp_path: Path) -> None:
    """What a table has no column for is said by its id; the company is never guessed."""
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        connection.executescript(
            "CREATE TABLE calls (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, status TEXT NOT NULL, "
            "updated_at INTEGER NOT NULL, company_no INTEGER);"
            "CREATE UNIQUE INDEX one ON calls (contact_id) WHERE status IN ('open', 'pending');"
        )
    table = (*URL, "--table", "calls", "--ignore-message-ids", "--epoch", "milliseconds")
    only = ("--only-company", "1", "--only-connection", "wa-1")
    message = MESSAGE | {"connection_id": "wa-1"}

    unsaid = [with_options(command, *table, cwd=tmp_path) for command in COMMANDS]
    routed = with_options("route", *table, *only, cwd=tmp_path, message=message)
    other = with_options("route", *table, *only, cwd=tmp_path)

    assert [done.status for done in unsaid] == [2] * len(COMMANDS)
    assert all("company_id" in done.err for done in unsaid)
    assert routed.outcomes == ["created"], routed.err
    assert other.status == 1
    assert "connection_id must be 'wa-1', the only one of this table" in other.err
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        (changed,) = connection.execute("SELECT updated_at FROM calls").fetchone()
    assert changed > 1_700_000_000_000


def test_the_words_of_a_policy_hold_where_no_preset_is_said(place: Path) -> None:
    """A table of one's own has the words of --policy in route and explain; --preset says others."""
    options = [each for each in OPTIONS if each not in {"--preset", "chatwoot-single"}]
    for plan in ("repair", "schema"):
        with_options(plan, *URL, *OPTIONS, "--plan", f"{plan}.sql", cwd=place)
        run_plan(place, f"{plan}.sql")

    of_policy = with_options("explain", *URL, *options, "--policy", "chatwoot-single", cwd=place)
    of_default = with_options("explain", *URL, *options, cwd=place)

    assert (of_policy.status, of_policy.err) == (0, "")
    assert "--status-value says nothing of ['closed']" in of_default.err


def test_ids_that_are_uuids(tmp_path: Path) -> None:
    """JSON has no UUIDs: a text is one where the column takes nothing else; another text is a bad line."""
    uuid = "0b8a5f9e-7d43-4f5e-9a3e-0d6b7a3a1c11"
    (tmp_path / "desk.py").write_text(
        "from uuid import uuid4\n"
        "from sqlalchemy import Column, DateTime, MetaData, String, Table, Uuid\n"
        "from ticketrouter.sqlalchemy import TicketMapping\n"
        "names = ('company_id', 'contact_id', 'connection_id')\n"
        "rooms = Table('rooms', MetaData(), Column('id', Uuid, primary_key=True),\n"
        "    *(Column(name, Uuid, nullable=False) for name in names), Column('status', String(9), nullable=False),\n"
        "    Column('updated_at', DateTime, nullable=False))\n"
        "none = dict.fromkeys(('is_group', 'unread_messages', 'user_id', 'queue_id', 'created_at', 'closed_at'))\n"
        "mapping = TicketMapping(rooms, **none, new_id=uuid4)\n"
        "if __name__ == '__main__':\n"
        "    from sqlalchemy import create_engine\n"
        "    engine = create_engine('sqlite:///desk.sqlite3')\n"
        "    rooms.create(engine)\n"
        "    mapping.metadata.create_all(engine)\n"
    )
    exec(
        compile(
            (tmp_path / "desk.py").read_text().replace("desk.sqlite3", str(tmp_path / "desk.sqlite3")),
            "desk",
            "exec",
        ),
        {"__name__": "__main__"},
    )
    options = (*URL, "--mapping", "desk:mapping")
    message = dict.fromkeys(("company_id", "contact_id", "connection_id"), uuid)

    routed = [with_options("route", *options, cwd=tmp_path, message=message) for _ in range(2)]
    group = with_options("route", *options, cwd=tmp_path, message=message | {"group_id": uuid})
    explained = with_options("explain", *options, cwd=tmp_path, message=message)
    bad = with_options("route", *options, cwd=tmp_path, message=message | {"contact_id": "ana"})

    assert [each.outcomes for each in (*routed, group)] == [["created"], ["reused"], ["reused"]], routed[
        0
    ].err
    assert routed[0].objects[0]["contact_id"] == uuid
    assert "answer: reused" in explained.out
    assert (bad.status, "contact_id must be" in bad.err) == (1, True)


# --- the words of what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            ("--column", "user_id=agent"),
            "name the columns, as in --column user_id=NAME, or pass --column user_id=",
        ),
        (("--column", "contact_id=client"), "as in --column contact_id=NAME"),
        (("--only-company", "1"), "--only-company is for a table without a company column"),
        (("--only-connection", "1"), "--only-connection is for a table without a connection column"),
        (("--column", "company_id="), "or pass --only-company ID"),
        (("--column", "connection_id="), "or pass --only-connection ID"),
        (("--status-value", "open=1"), "--status-value has one value for open and resolved"),
        (("--active", "waiting"), "--status-value says nothing of ['waiting']"),
        (("--status-value", "=5"), "say WORD=VALUE, as open=0"),
        (
            ("--status-value", "open=many"),
            "--status-value open=many: chats.state is of type INTEGER, which has no 'many'",
        ),
        (("--status-value", "a\\b=5"), "a status word cannot have a backslash"),
        (("--status-value", "a\u200bb=5"), "--status-value must be a text of printable characters"),
        (("--absent", "queue_id=0"), "--absent queue_id=0: chats has no column for it"),
        (("--absent", "contact_id=0"), "where FIELD is one of user_id, queue_id, closed_at"),
        (("--absent", "nobody"), "say FIELD=VALUE"),
        (("--on-create", "colour=red"), "--on-create colour=red: chats has no column 'colour'"),
        (("--on-create", "red"), "say COLUMN=VALUE"),
        (("--only-company", ""), "say which it is"),
        (("--timezone", "Mars/Olympus"), "there is no such time zone"),
        (("--timezone", "../etc/passwd"), "there is no such time zone"),
        (("--epoch", "days"), "'days' is not one of 'seconds', 'milliseconds', 'microseconds'"),
        (("--column", "status="), "a table without one needs --mapping"),
        (("--also-closed", "open"), "--also-closed"),
    ],
)
def test_every_command_says_options_of_what_is_wrong_with_them(
    place: Path, changed: tuple[str, ...], said: str
) -> None:
    """Whatever an option says amiss is refused by each command in the same words, and none of them is Python's."""
    for command in COMMANDS:
        done = with_options(command, *URL, *said_otherwise(*changed), cwd=place)
        assert (done.status, PYTHON.findall(done.err)) == (2, []), done.err
        assert said in done.err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("owner INTEGER", "pass --status-value WORD=VALUE with what the column stores for each of"),
        ("owner INTEGER, extra TEXT NOT NULL", "say --on-create extra=VALUE"),
        (
            "owner INTEGER NOT NULL",
            "pass --absent user_id=VALUE with the value that stands for that, or --column user_id=",
        ),
        ("owner INTEGER AS (1)", "map the column that it is made from, or pass --column user_id="),
        ("owner INTEGER", "say --uuid id"),
        ("owner INTEGER", "widen the column, or pass --mapping with statuses=StatusScheme(...)"),
    ],
    ids=["integer", "unfilled", "agent", "generated", "id", "short"],
)
def test_what_a_table_refuses_is_said_in_options(
    tmp_path: Path, table: str, said: str, request: pytest.FixtureRequest
) -> None:
    """The advice of a mapping is told as options, and as a mapping's where no option says it."""
    case = request.node.callspec.id
    kind = {"integer": "INTEGER", "short": "VARCHAR(3)"}.get(case, "TEXT")
    key = "TEXT PRIMARY KEY" if case == "id" else "INTEGER PRIMARY KEY"
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        connection.execute(
            f"CREATE TABLE chats (id {key}, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
            f"status {kind} NOT NULL, updated_at DATETIME NOT NULL, {table})"
        )
    options = ("--table", "chats", "--only-company", "1", "--column", "user_id=owner")

    done = with_options("route", *URL, *options, cwd=tmp_path)

    assert done.status == 2
    assert said in done.err
    assert PYTHON.findall(re.sub(r"--mapping with \S+", "", done.err)) == []


def test_findings_are_told_in_options_or_in_python(place: Path) -> None:
    """Who has typed options is told options, who has a mapping its arguments."""
    with closing(sqlite3.connect(place / "desk.sqlite3")) as connection, connection:
        connection.execute("UPDATE chats SET state = 9 WHERE id = 1")
        connection.execute("DELETE FROM chats WHERE id = 3")
        connection.execute(
            "CREATE UNIQUE INDEX more ON chats (account, contact, inbox) WHERE state IN (0, 2, 3, 8)"
        )
    eight = ("--status-value", "waiting=8")

    by_options = json.loads(with_options("audit", *URL, *OPTIONS, *eight, cwd=place).out)
    ignoring = json.loads(with_options("audit", *URL, *OPTIONS, "--ignore-message-ids", cwd=place).out)
    by_mapping = json.loads(with_options("audit", *MINE, cwd=place).out)

    told = [
        f"{each['text']} {each['advice']}"
        for found in (by_options, ignoring)
        for each in found["observations"]
    ]
    assert PYTHON.findall("\n".join(told)) == []
    for text in ("(--active WORD)", "(--also-closed WORD)", "(--final WORD)", "pass --ignore-message-ids"):
        assert any(text in each for each in told), text
    assert any("ignored (--ignore-message-ids)" in each for each in told)
    python = " ".join(each["advice"] for each in by_mapping["observations"])
    assert "StatusScheme(also_closed=...)" in python
    assert "remember_messages=False" in python
    assert "--active" not in python


def test_warnings_and_refusals_of_a_run_are_told_in_options(place: Path) -> None:
    """A word that nobody knows, and a row in the way: each is told once, in options."""
    with closing(sqlite3.connect(place / "desk.sqlite3")) as connection, connection:
        connection.execute("UPDATE chats SET state = 9")
        connection.execute("DELETE FROM chats WHERE id > 1")
        connection.execute("CREATE UNIQUE INDEX one ON chats (account, contact, inbox)")
    options = (*URL, *OPTIONS, "--ignore-message-ids")

    done = with_options("route", *options, cwd=place, message=MESSAGE | {"connection_id": 10})
    explained = with_options("explain", *options, cwd=place, message=MESSAGE | {"connection_id": 10})
    mine = with_options(
        "explain", *MINE, cwd=place, message=MESSAGE | {"connection_id": 10, "message_id": None}
    )

    assert done.status == 1
    assert done.err.count("does not know the status '9'") == 1
    assert "say what it means, with --active WORD, --also-closed WORD or --final WORD" in done.err
    assert "name that status in --active WORD if it is active" in done.err
    for each in (done, explained):
        assert PYTHON.findall(each.err + each.out) == []
    assert "StatusScheme(active=...)" in mine.err


NUMBERS = (
    "--table",
    "rooms",
    "--only-company",
    "1",
    "--status-value",
    "open=0",
    "--status-value",
    "pending=1",
)
CLOSED = ("--status-value", "closed=2", "--ignore-message-ids")


@pytest.mark.parametrize(
    ("command", "options", "contact", "said"),
    [
        (
            "audit",
            (*NUMBERS, *CLOSED),
            5,
            "give it a word, and say what is stored for that (--status-value WORD=VALUE)",
        ),
        ("route", (*NUMBERS, *CLOSED, "--final", "7"), 5, "as with --status-value 7=VALUE"),
        (
            "route",
            (*NUMBERS, *CLOSED),
            "ana",
            "<stdin>:1: the message cannot be routed: contact_id must be an int",
        ),
        ("route", (*NUMBERS,), 5, "as with --status-value closed=VALUE"),
        ("route", ("--table", "main.nothing"), 5, "there is no table main.nothing; name it: --table NAME"),
    ],
)
def test_advice_can_be_followed(
    tmp_path: Path, command: str, options: tuple[str, ...], contact: Any, said: str
) -> None:
    """A number that nobody knows needs a word and its value; what is missing is named in full."""
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        connection.executescript(
            "CREATE TABLE rooms (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
            "status INTEGER NOT NULL, updated_at DATETIME NOT NULL);"
            "INSERT INTO rooms VALUES (1, 5, 10, 7, '2026-01-01 00:00:00');"
            "CREATE UNIQUE INDEX one ON rooms (contact_id, connection_id) WHERE status IN (0, 1);"
        )
    message = {"company_id": 1, "contact_id": contact, "connection_id": 10}

    done = with_options(command, *URL, *options, cwd=tmp_path, message=message)

    assert said in done.err + done.out


def test_statements_are_not_told_on_one_line(place: Path) -> None:
    """A missing companion table is named, with what makes it; its statement is what `schema` prints."""
    done = with_options("route", *MINE, cwd=place)

    assert done.status == 2
    assert "create it with mapping.metadata.create_all(engine), or pass remember_messages=False" in done.err
    assert "CREATE TABLE" not in done.err


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_an_option_that_takes_one_value_is_said_once(command: str, tmp_path: Path) -> None:
    """Which of two values was meant nobody knows: each such option of each command refuses a second one."""
    single = [each for each in options_of(command).values() if not (each.multiple or each.is_flag)]
    for option in single:
        kind = option.type
        value = kind.choices[0] if isinstance(kind, click.Choice) else "1"
        done = ticketrouter(command, option.opts[0], str(value), f"{option.opts[0]}={value}", cwd=tmp_path)
        assert (done.status, done.out) == (2, ""), option.name
        assert f"{option.opts[0]} takes one value: say it once" in done.err
        assert list(tmp_path.iterdir()) == []


# --- the host's own code ----------------------------------------------------------------------------------------------

HOSTS_PROGRAM = """
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table
from ticketrouter.sqlalchemy import TicketMapping

def fails(*_):
    import json
    return json.loads("{nothing") if KIND == "deep" else ERROR

chats = Table(
    "rooms", MetaData(), Column("id", Integer, primary_key=True), Column("contact_id", Integer, nullable=False),
    Column("connection_id", Integer, nullable=False), Column("status", String(20), nullable=False),
    Column("updated_at", DateTime, nullable=False), Column("last", DateTime),
)
none = dict.fromkeys(("company_id", "is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at"))
mapping = TicketMapping(chats, **none, only_company=1, remember_messages=False, ARGUMENT)
"""
RAISED: dict[str, tuple[str, str]] = {
    "plain": ("exec('raise ZeroDivisionError(\"by zero\")')", "ZeroDivisionError: by zero"),
    "exit": ("__import__('sys').exit(3)", "SystemExit: 3"),
    "system": ("open('/no/such/file')", "FileNotFoundError: [Errno 2] No such file"),
    "deep": ("None", "json.decoder.JSONDecodeError: Expecting property name"),
    "none": ("None", "on_create must return a mapping of columns to values, {} for none, not None"),
}


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        *((kind, "on_create=fails") for kind in RAISED),
        ("plain", "new_id=fails"),
        ("system", "on_message={'last': fails}"),
    ],
)
def test_what_a_hosts_function_raises_is_one_line(tmp_path: Path, kind: str, argument: str) -> None:
    """It names the mapping, the error and the place; nothing is written, and there is no traceback."""
    raised, told = RAISED[kind]
    code = HOSTS_PROGRAM.replace("KIND", repr(kind)).replace("ERROR", raised).replace("ARGUMENT", argument)
    (tmp_path / "desk.py").write_text(code)
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        connection.executescript(
            "CREATE TABLE rooms (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, connection_id INTEGER NOT NULL, "
            "status VARCHAR(20) NOT NULL, updated_at DATETIME NOT NULL, last DATETIME);"
            "CREATE UNIQUE INDEX one ON rooms (contact_id, connection_id) WHERE status IN ('open', 'pending');"
        )

    done = with_options("route", *URL, "--mapping", "desk:mapping", cwd=tmp_path)

    assert (done.status, done.out) == (2, ""), done.err
    assert told in done.err
    assert "Traceback" not in done.err
    if kind != "none":
        assert "--mapping desk:mapping: what it calls failed: " in done.err
        assert "(desk.py, line " in done.err
    with closing(sqlite3.connect(tmp_path / "desk.sqlite3")) as connection:
        assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (0,)
