"""The other commands, and what is said where the extra is missing."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import (
    ENVIRONMENT,
    FULL,
    PROGRAM,
    lines,
    message,
    run,
    started,
    ticketrouter,
    tickets,
)
from ticketrouter import Effect, MessageKind, Policy, Reopen, StatusScheme, presets
from ticketrouter.cli.console import standard_output
from ticketrouter.cli.demo import play
from ticketrouter.cli.presets import blocks, duration, own_messages, reopens, words

EXAMPLES = Path(__file__).parents[2] / "examples"

_WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from ticketrouter.cli import main
main()
"""


@pytest.mark.parametrize("module", ["click", "rich", "sqlalchemy"])
def test_a_missing_extra_is_said_in_one_line(module, tmp_path):
    """Without click, rich or SQLAlchemy there is one clear line and exit status 2."""
    done = run((sys.executable, "-c", _WITHOUT.format(module=module), "demo"), cwd=tmp_path)

    said = 'ticketrouter: the command line needs the extra "cli": pip install "ticketrouter[cli]"\n'
    assert (2, "", said) == (done.status, done.out, done.err)


def test_any_other_missing_module_is_a_fault(tmp_path):
    """A module that is no part of the extra is not blamed on it."""
    done = run((sys.executable, "-c", _WITHOUT.format(module="attrs"), "demo"), cwd=tmp_path)

    assert "ticketrouter[cli]" not in done.err
    assert done.status == 1


def test_the_demo_tells_the_story():
    """One ticket per connection, each reused; a group has its own; after closing there is a new one."""
    told = [
        (
            None if happened.resolution is None else happened.resolution.outcome.value,
            happened.ticket_id,
            [] if happened.resolution is None else [each.id for each in happened.resolution.other_active],
        )
        for happened in play()
    ]

    assert told == [
        ("created", 1, []),
        ("created", 2, [1]),
        ("reused", 1, [2]),
        ("reused", 2, [1]),
        ("created", 3, []),
        (None, 1, []),
        ("created", 4, [2]),
    ]


def test_the_demo_is_shown(tmp_path):
    """The table has contact, connections, outcomes and reasons, and nothing is left behind."""
    done = ticketrouter("demo", cwd=tmp_path)

    for shown in (
        "5511999999999",
        "Sales (10)",
        "Support (13)",
        "created",
        "reused",
        "closed",
        "The desk closes the ticket at Sales",
        "#4",
        "#2 on 13",
    ):
        assert shown in done.out
    assert (done.status, done.err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_the_presets_are_listed(tmp_path):
    """Name, what it reopens, what own messages do, words and source of every preset."""
    done = ticketrouter("presets", cwd=tmp_path)

    for preset in presets.ALL.values():
        assert preset.name in done.out
        assert preset.source.split(",")[0].split(":")[0] in done.out
    assert "up to 2 hours after closing" in done.out
    for told in ("pending reminder", "only join", "wakes", "merged"):
        assert told in done.out
    assert done.status == 0


def test_a_narrow_console_has_a_block_for_each_preset(tmp_path):
    """Where COLUMNS leaves no room for a table, also in a pipe, lines are folded at words."""
    with started("presets", cwd=tmp_path, env=ENVIRONMENT | {"COLUMNS": "80"}) as process:
        out, _ = process.communicate(timeout=60)

    told = out.decode().splitlines()
    assert [line for line in told if line and not line.startswith(" ")] == list(presets.ALL)
    assert max(map(len, told)) <= 80
    assert "FindOrCreateTicketService" in out.decode()


@pytest.mark.parametrize("width", [1, 40, 139])
def test_a_block_has_every_word_of_its_preset(width):
    """Whatever the width, no word is broken, and none is lost."""
    told = blocks(width).split()

    for preset in presets.ALL.values():
        said = preset.source, reopens(preset.policy), own_messages(preset.policy), words(preset.statuses)
        assert {word for each in said for word in each.split()} <= {*told}


def test_columns_that_are_no_number_are_passed_over(monkeypatch):
    """COLUMNS is honoured where it is a number that a width can be; else a pipe is wide."""
    widths: list[int] = []
    for given in ("90", "0", "-5", "wide", ""):
        monkeypatch.setenv("COLUMNS", given)
        widths.append(standard_output().width)

    assert widths == [90, 160, 160, 160, 160]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(), "nothing"),
        (Policy(reopen=Reopen.always(keep_user=True)), "at any age (agent and queue kept)"),
        (Policy(reopen=Reopen.always(keep_queue=False)), "at any age (nothing kept)"),
        (
            Policy(reopen=Reopen.within(timedelta(hours=1)), groups=Policy()),
            "up to 1 hour after closing (queue kept); in groups: nothing",
        ),
    ],
)
def test_a_policy_is_told_in_words(policy, said):
    """What a policy reopens, and what it keeps, in a person's words."""
    assert said == reopens(policy)


OWN_OPENS = {MessageKind.ECHO: Effect.OPEN}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(), "only join tickets"),
        (Policy(effects=OWN_OPENS), "open tickets, with nothing unread"),
        (
            Policy(effects=OWN_OPENS, groups=Policy()),
            "open tickets, with nothing unread; in groups: only join tickets",
        ),
    ],
)
def test_what_own_messages_do_is_told_in_words(policy, said):
    """In person, and in groups where these have a policy of their own."""
    assert said == own_messages(policy)


def test_the_words_of_a_scheme_are_told():
    """The active ones; which of them a message wakes, and which are final, where there are such."""
    scheme = StatusScheme(
        active={"open", "pending", "snoozed"}, wakes={"snoozed": "open"}, final={"spam", "merged"}
    )

    assert words(StatusScheme()) == "active: open, pending"
    assert (
        words(scheme)
        == "active: open, pending, snoozed; a message wakes snoozed to open; final: merged, spam"
    )


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(0), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(minutes=90), "1 hour 30 minutes"),
        (timedelta(days=2, seconds=10), "2 days 10 seconds"),
    ],
)
def test_a_span_is_told_in_words(span, said):
    """Days, hours, minutes and seconds, those that are not none."""
    assert said == duration(span)


def test_the_version_is_that_of_the_package(tmp_path):
    """`--version` says the version that is installed."""
    assert ticketrouter("--version", cwd=tmp_path).out == f"ticketrouter {version('ticketrouter')}\n"


@pytest.mark.parametrize("command", [(), ("route",), ("demo",), ("presets",)])
def test_every_command_has_a_help_page(command, tmp_path):
    """`--help` ends with status 0 and says how the command is called."""
    done = ticketrouter(*command, "--help", cwd=tmp_path)

    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(('ticketrouter', *command))} ")
    words = {
        (): "List the policies of known desks.\n",
        ("route",): "FILE defaults to standard input",
    }
    assert words.get(command, "") in done.out


@pytest.mark.parametrize("command", ["demo", "presets"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes of POSIX")
def test_nobody_reading_a_table_is_a_quiet_end(command, tmp_path):
    """A closed pipe gives no traceback."""
    with started(command, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("arguments", [("demo",), ("--version",)])
@pytest.mark.skipif(not FULL.exists(), reason="needs the full device of Linux")
def test_a_full_device_is_said_in_one_line(arguments, tmp_path):
    """Output that cannot be written is no traceback, and exit status 2."""
    with FULL.open("wb") as full, started(*arguments, cwd=tmp_path, stdout=full) as process:
        _, err = process.communicate(timeout=60)

    said = b"ticketrouter: cannot write the output: No space left on device\n"
    assert (process.returncode, err) == (2, said)


@pytest.mark.skipif(not FULL.exists(), reason="needs the full device of Linux")
def test_where_nothing_can_be_said_the_status_says_it(tmp_path):
    """With standard error on a full device too, the exit status is still 2."""
    with FULL.open("wb") as full, started("demo", cwd=tmp_path, stdout=full, stderr=full) as process:
        process.communicate(timeout=60)

    assert process.returncode == 2


def test_an_encoding_that_lacks_a_letter_is_no_fault(tmp_path):
    """Where standard output cannot show a character it shows an escape."""
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    with started("route", cwd=tmp_path, env=environment) as process:
        out, err = process.communicate(lines([message("olá"), message("m2", colour="grün")]), timeout=60)

    assert out.startswith(rb"ol\xe1 ")
    assert rb"gr\xfcn" in err
    assert process.returncode == 1


def test_the_example_is_what_its_script_makes(tmp_path, monkeypatch):
    """The log among the examples is made by the project itself, and the same every time."""
    specification = importlib.util.spec_from_file_location("make_messages", EXAMPLES / "make_messages.py")
    assert specification is not None
    assert specification.loader is not None
    script: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    made = tmp_path / "messages.jsonl"
    monkeypatch.setattr(script, "TARGET", made)

    script.main()

    assert made.read_bytes() == (EXAMPLES / "messages.jsonl").read_bytes()


def test_the_example_shows_every_outcome_of_a_stream(tmp_path):
    """Two companies, three connections, people and groups; all but reopening, for nobody closes a ticket."""
    done = ticketrouter("route", str(EXAMPLES / "messages.jsonl"), "--output", "json", cwd=tmp_path)

    assert {"created", "reused", "duplicate", "ignored"} == set(done.outcomes)
    assert {(1, 10), (1, 13), (2, 20)} == {
        (each["company_id"], each["connection_id"]) for each in done.objects
    }
    assert any(each["other_active"] for each in done.objects)
    assert done.status == 0


@pytest.mark.parametrize(
    ("closed", "status", "told"),
    [
        (">&-", 2, "ticketrouter: cannot write the output: standard output is closed\n"),
        (">&- 2>&-", 2, ""),
        ("<&-", 2, "ticketrouter: <stdin>: Bad file descriptor\n"),
        ("2>&- </dev/null", 0, ""),
    ],
)
def test_a_closed_stream_is_told_and_no_file_takes_its_place(closed, status, told, tmp_path):
    """Else the database would be opened under its number, and be written over."""
    command = f"{shlex.join(PROGRAM)} route --database sqlite:///desk.sqlite3 {closed}"
    finished = run(("sh", "-c", command), stdin=lines([message()]), cwd=tmp_path)

    assert (status, told) == (finished.status, finished.err[-len(told) :] if told else finished.err)
    if (tmp_path / "desk.sqlite3").exists():
        assert [] == tickets(tmp_path / "desk.sqlite3")
