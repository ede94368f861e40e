"""`ticketrouter route` from the outside: processes, streams, exit statuses, and the tickets left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import (
    FIELDS,
    FULL,
    PROGRAM,
    Finished,
    lines,
    message,
    run,
    started,
    ticketrouter,
    tickets,
)

DATABASE = "t.sqlite3"
URL = f"sqlite:///{DATABASE}"
JSON_OUTPUT = ("--database", URL, "--output", "json")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals and terminals of POSIX")

SOME = [
    message("m1"),
    message("m2", connection_id=13),
    message("m3"),
    message("m4", group_id="family", sent_at="2026-11-23T09:30:00Z"),
    message("m5", contact_id="bia", kind="echo"),
    message("m6", kind="echo"),
    message("m7", company_id="other"),
    message("m1"),
    message(None, contact_id="bia", unread_messages=7),
    message("m8", contact_id="bia", kind="notice"),
]


def many(number: int) -> list[dict[str, Any]]:
    """Messages of a few contacts on a few connections, with echoes, and an id in nine that comes twice."""
    kinds = ("message", "message", "echo", "notice", "message")
    once = [n - n % 9 // 8 for n in range(number)]
    return [
        message(f"m{n}", contact_id=f"c{n * 7 % 11}", connection_id=10 + n % 3, kind=kinds[n % 5])
        for n in once
    ]


def route(*arguments: str, stdin: bytes = b"", cwd: Path) -> Finished:
    return ticketrouter("route", *arguments, *JSON_OUTPUT, stdin=stdin, cwd=cwd)


def test_json_lines_are_exactly_these(tmp_path):
    """One object a line: the ids of the message's key, outcome and reason in lower case, the ids of the others."""
    done = route(stdin=lines(SOME), cwd=tmp_path)

    created, reused, ignored = "no_active_ticket", "active_on_connection", "kind_does_not_open"
    expected = [
        ("m1", "created", created, 1, 1, "ana", 10, []),
        ("m2", "created", created, 2, 1, "ana", 13, [1]),
        ("m3", "reused", reused, 1, 1, "ana", 10, [2]),
        ("m4", "created", created, 3, 1, "family", 10, []),
        ("m5", "ignored", ignored, None, 1, "bia", 10, []),
        ("m6", "reused", reused, 1, 1, "ana", 10, [2]),
        ("m7", "created", created, 4, "other", "ana", 10, []),
        ("m1", "duplicate", "already_routed", 1, 1, "ana", 10, [2]),
        (None, "created", created, 5, 1, "bia", 10, []),
        ("m8", "reused", reused, 5, 1, "bia", 10, []),
    ]
    names = (
        "message_id", "outcome", "reason", "ticket_id", "company_id", "contact_id", "connection_id", "other_active",
    )  # fmt: skip
    assert [dict(zip(names, each, strict=True)) for each in expected] == done.objects
    assert [list(names)] * len(SOME) == [list(each) for each in done.objects]
    assert done.status == 0


def test_the_tickets_are_in_the_database(tmp_path):
    """What is printed is what was committed; unread messages are counted, or set where the message says so."""
    route(stdin=lines(SOME), cwd=tmp_path)

    assert tickets(tmp_path / DATABASE) == [
        ("1", "ana", "10", "pending", 2, 0),
        ("1", "ana", "13", "pending", 1, 0),
        ("1", "bia", "10", "pending", 7, 0),
        ("1", "family", "10", "pending", 1, 1),
        ("other", "ana", "10", "pending", 1, 0),
    ]


def test_text_is_a_line_per_message(tmp_path):
    """Message id, outcome, reason, ticket, connection and what else is open; no colour where there is no terminal."""
    done = ticketrouter("route", "-", "--database", URL, stdin=lines(SOME), cwd=tmp_path)

    found = [" ".join(line.split()) for line in done.out.splitlines()]
    assert found[1] == "m2 created no_active_ticket #2 on 13 also #1 on 10"
    assert found[4] == "m5 ignored kind_does_not_open - on 10"
    assert found[8] == "- created no_active_ticket #5 on 10"
    assert len(found) == len(SOME)
    assert len({line.index(" on ") for line in done.out.splitlines()}) == 1
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out + done.err


def test_text_cannot_be_broken_by_an_id(tmp_path):
    """Control characters of an id are shown as escapes."""
    done = ticketrouter(
        "route", "--database", URL, stdin=lines([message("a\nb\x1b[2J\u2028c")]), cwd=tmp_path
    )

    assert done.out.startswith(r"a\nb\x1b[2J\u2028c ")
    assert len(done.out.splitlines()) == 1


def test_the_summary_counts_everything(tmp_path):
    """The table at the end has every outcome, the rate, what was skipped and the bad lines, on standard error."""
    done = route(stdin=lines(SOME) + b"nonsense\n", cwd=tmp_path)

    rows = dict(
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in done.err.splitlines()
        if line.startswith("│")
    )
    assert float(rows.pop("per second").replace(",", "")) > 0
    assert rows == {
        "created": "5",
        "reused": "3",
        "reopened": "0",
        "duplicate": "1",
        "ignored": "1",
        "total": "10",
        "bad lines": "1",
    }


def test_the_default_database_is_a_file_here(tmp_path):
    """Without --database the tickets are in an SQLite file in the working directory."""
    done = ticketrouter("route", stdin=lines(SOME[:1]), cwd=tmp_path)

    assert done.status == 0
    assert len(tickets(tmp_path / "ticketrouter.sqlite3")) == 1


def test_a_file_and_standard_input_are_the_same(tmp_path):
    """The lines come from the named file, or from standard input."""
    (tmp_path / "log.jsonl").write_bytes(lines(SOME))

    from_file = ticketrouter(
        "route", "log.jsonl", "--database", "sqlite:///a.sqlite3", "--output=json", cwd=tmp_path
    )
    from_stdin = ticketrouter(
        "route", "-", "--database", "sqlite:///b.sqlite3", "--output=json", stdin=lines(SOME), cwd=tmp_path
    )

    assert from_file.out == from_stdin.out


# --- bad lines -----------------------------------------------------------------------------------------------

WITH_BAD_LINES = b"".join(
    [
        lines([message("m1")]),
        b"\xff\xfe\n",
        lines([message("m2", colour="red")]),
        b"\n",
        lines([{"company_id": 1, "connection_id": 10}]),
        lines([message("m3", contact_id=1.5)]),
        b'{"company_id": \n',
        lines([message("m4", contact_id="x" * 100_000)]),
        lines([message("m5")]),
    ]
)


@pytest.mark.parametrize("batch", ["1", "4"])
def test_bad_lines_are_named_counted_and_passed_over(batch, tmp_path):
    """Each names file, line, field and value; the others are routed; the exit status is 1."""
    (tmp_path / "log.jsonl").write_bytes(WITH_BAD_LINES)

    done = route("log.jsonl", "--batch", batch, cwd=tmp_path)

    assert [each["message_id"] for each in done.objects] == ["m1", "m5"]
    told = [line for line in done.err.splitlines() if line.startswith("log.jsonl:")]
    assert told == [
        r"log.jsonl:2: line must be UTF-8, not b'\xff' at byte 1",
        f"log.jsonl:3: colour is no field of a message ({', '.join(FIELDS)}): 'red'",
        "log.jsonl:5: contact_id is missing",
        "log.jsonl:6: contact_id must be an int of at most 64 bits, a str or a UUID, not 1.5",
        "log.jsonl:7: line must be JSON (Expecting value, column 16), not '{\"company_id\": '",
        f"log.jsonl:8: contact_id must be a text of 1 to 250 characters, not '{'x' * 27}...{'x' * 28}'",
    ]
    assert "bad lines" in done.err
    assert done.status == 1


@pytest.mark.parametrize("batch", ["1", "4"])
def test_strict_stops_at_the_first_bad_line(batch, tmp_path):
    """What stood before it is routed, nothing after it; the exit status is 1."""
    done = route("--strict", "--batch", batch, stdin=WITH_BAD_LINES, cwd=tmp_path)

    assert [each["message_id"] for each in done.objects] == ["m1"]
    assert done.err.count("<stdin>:") == 1
    assert len(tickets(tmp_path / DATABASE)) == 1
    assert done.status == 1


def test_a_very_long_line_is_a_line(tmp_path):
    """A line of several megabytes is read like any other."""
    long = json.dumps(message("m1")).encode()[:-1] + b" " * 5_000_000 + b"}\n"

    assert route(stdin=long + lines([message("m2")]), cwd=tmp_path).outcomes == ["created", "reused"]


# --- batches, redelivery, interruption -----------------------------------------------------------------------


def numbered(out: str) -> list[dict[str, Any]]:
    """Return the lines, with the tickets numbered as they come up."""
    numbers: dict[int | None, int | None] = {None: None}
    found = [json.loads(line) for line in out.splitlines()]
    for line in found:
        line["ticket_id"] = numbers.setdefault(line["ticket_id"], len(numbers))
        line["other_active"] = [numbers[each] for each in line["other_active"]]
    return found


@pytest.mark.parametrize("batch", ["7", "1000"])
def test_a_batch_gives_what_one_by_one_gives(batch, tmp_path):
    """The same lines, and the same tickets, whatever the size of the batch; only new ids go by key there."""
    stream = lines(many(120))
    (tmp_path / "one").mkdir()

    one_by_one, batched = (
        route(stdin=stream, cwd=tmp_path / "one"),
        route("--batch", batch, stdin=stream, cwd=tmp_path),
    )

    assert numbered(one_by_one.out) == numbered(batched.out)
    assert {"created", "reused", "duplicate", "ignored"} == set(batched.outcomes)
    assert tickets(tmp_path / "one" / DATABASE) == tickets(tmp_path / DATABASE)


def test_a_second_run_changes_nothing(tmp_path):
    """Every message that got a ticket is a duplicate, on the same ticket."""
    stream = lines(each for each in many(90) if each["kind"] == "message")
    first = route(stdin=stream, cwd=tmp_path)
    before = tickets(tmp_path / DATABASE)

    second = route(stdin=stream, cwd=tmp_path)

    assert {"duplicate"} == set(second.outcomes)
    assert [each["ticket_id"] for each in first.objects] == [each["ticket_id"] for each in second.objects]
    assert before == tickets(tmp_path / DATABASE)


@POSIX
@pytest.mark.parametrize("batch", ["1", "8"])
@pytest.mark.parametrize("after", [5, 61])
def test_a_killed_run_can_be_started_again(batch, after, tmp_path):
    """After kill -9 half-way the same file leads to the same tickets as a run that was left alone."""
    stream = lines(many(160))
    (tmp_path / "log.jsonl").write_bytes(stream)
    (tmp_path / "alone").mkdir()
    route(stdin=stream, cwd=tmp_path / "alone")
    with started("route", "log.jsonl", "--batch", batch, *JSON_OUTPUT, cwd=tmp_path) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        # What was printed before the end had been committed, so it is there.
        printed += process.stdout.readlines()
    at_the_kill = tickets(tmp_path / DATABASE)

    again = route("log.jsonl", "--batch", batch, cwd=tmp_path)

    assert len(at_the_kill) >= sum(b'"created"' in line for line in printed) > 0
    assert again.status == 0
    assert tickets(tmp_path / "alone" / DATABASE) == tickets(tmp_path / DATABASE)


def test_two_runs_at_the_same_time_are_as_one(tmp_path):
    """Two processes on one file and one new database make each ticket, and count each message, once."""
    stream = lines(each for each in many(120) if each["kind"] == "message")
    (tmp_path / "log.jsonl").write_bytes(stream)
    (tmp_path / "alone").mkdir()
    route(stdin=stream, cwd=tmp_path / "alone")

    both = [started("route", "log.jsonl", *JSON_OUTPUT, cwd=tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs
    assert tickets(tmp_path / "alone" / DATABASE) == tickets(tmp_path / DATABASE)


@POSIX
def test_a_message_is_told_as_soon_as_it_is_committed(tmp_path):
    """On a stream that goes on, the line of a message comes before the next message does; so does its ticket."""
    with started("route", *JSON_OUTPUT, cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(lines([message(f"m{number}")]))
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            assert told["message_id"] == f"m{number}"
            assert tickets(tmp_path / DATABASE) == [("1", "ana", "10", "pending", number + 1, 0)]
        rest, _ = process.communicate(timeout=60)
    assert (rest, process.returncode) == (b"", 0)


@POSIX
@pytest.mark.parametrize("source", ["log.jsonl", "-"])
@pytest.mark.parametrize("batch", ["1", "5"])
def test_an_interrupt_ends_with_a_summary(source, batch, tmp_path):
    """Ctrl-C, at work or while waiting, ends the run with the count of what was done and status 130."""
    (tmp_path / "log.jsonl").write_bytes(lines(many(9_000)))
    with started("route", source, "--batch", batch, *JSON_OUTPUT, cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines(many(5)))
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert 0 <= err.find(b"interrupted\n") < err.find(b"Summary")
    assert b"Traceback" not in err


@POSIX
def test_nobody_reading_is_a_quiet_end(tmp_path):
    """As with `| head -1`: no traceback, no summary, status 141; what was printed was committed."""
    (tmp_path / "log.jsonl").write_bytes(lines(many(400)))
    with started("route", "log.jsonl", *JSON_OUTPUT, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, b"")
    assert tickets(tmp_path / DATABASE)


@pytest.mark.skipif(not FULL.exists(), reason="needs the full device of Linux")
def test_a_full_device_ends_the_run_in_one_line(tmp_path):
    """What cannot be written is said without a traceback; the message whose line it was is committed."""
    with FULL.open("wb") as full, started("route", *JSON_OUTPUT, cwd=tmp_path, stdout=full) as process:
        _, err = process.communicate(lines(SOME), timeout=120)

    said = b"ticketrouter: cannot write the output: No space left on device\n"
    assert (process.returncode, err) == (2, said)
    assert tickets(tmp_path / DATABASE) == [("1", "ana", "10", "pending", 1, 0)]


# --- what cannot begin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such.jsonl",), "ticketrouter: no-such.jsonl: No such file or directory\n"),
        ((".",), "ticketrouter: .: Is a directory\n"),
        (("-", "--database", "nonsense"), "ticketrouter: --database is no URL of a database, such as"),
        (
            ("-", "--database", "sqlite:////no/folder/x"),
            "ticketrouter: sqlite:////no/folder/x: unable to open",
        ),
    ],
)
def test_what_cannot_be_opened_is_one_line(arguments, said, tmp_path):
    """Exit status 2, one line on standard error, no traceback, no new file."""
    done = ticketrouter("route", *arguments, cwd=tmp_path)

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "nobody"),
        ("--format", "xml"),
        ("--output", "xml"),
        ("--batch", "0"),
        ("--company", "x"),
        ("--no",),
    ],
)
def test_a_wrong_option_is_refused(arguments, tmp_path):
    """Exit status 2 before anything is opened."""
    done = ticketrouter("route", *arguments, cwd=tmp_path)

    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


# --- policies and formats ------------------------------------------------------------------------------------


def test_the_policy_brings_its_words(tmp_path):
    """A preset decides, and its words are the statuses of the tickets."""
    route("--policy", "zammad-new", stdin=lines(SOME[:1]), cwd=tmp_path)

    assert tickets(tmp_path / DATABASE) == [("1", "ana", "10", "new", 1, 0)]


def webhook(number: int, **value: Any) -> dict[str, Any]:
    sender = f"55119000000{number % 3:02}"
    inbound = {"from": sender, "id": f"wamid.{number}", "timestamp": "1763890200", "type": "text"}
    content = {"metadata": {"phone_number_id": "777"}, "contacts": [{"wa_id": sender}], "messages": [inbound]}
    return {"object": "whatsapp_business_account", "entry": [{"id": "WABA", "changes": [
        {"field": "messages", "value": content | value},
    ]}]}  # fmt: skip


@pytest.mark.parametrize("shape", ["lines", "one", "list", "names"])
def test_webhook_bodies_come_in_four_shapes(shape, tmp_path):
    """One body a line, one body over many lines, a list of bodies, or bodies by name."""
    bodies = [webhook(0), webhook(1, messages=None, statuses=[{}, {}]), webhook(2)]
    text = {
        "lines": lines(bodies),
        "one": json.dumps(
            bodies[0] | {"entry": [entry for each in bodies for entry in each["entry"]]}, indent=2
        ).encode(),
        "list": json.dumps(bodies, indent=2).encode(),
        "names": json.dumps({f"body {n}": each for n, each in enumerate(bodies)}, indent=2).encode(),
    }[shape]
    (tmp_path / "bodies.json").write_bytes(text)

    done = route("bodies.json", "--format", "whatsapp-cloud", cwd=tmp_path)

    found = [
        (each["message_id"], each["company_id"], each["contact_id"], each["connection_id"])
        for each in done.objects
    ]
    assert found == [("wamid.0", "WABA", "5511900000000", "777"), ("wamid.2", "WABA", "5511900000002", "777")]
    assert " ".join(done.err.replace("│", " ").split()).endswith(
        "skipped: statuses 2 └───────────────────┴───────┘"
    )
    assert done.status == 0


def test_the_company_of_webhooks_may_be_given(tmp_path):
    """--company stands in for the account's id."""
    done = route("--format", "whatsapp-cloud", "--company", "shop", stdin=lines([webhook(0)]), cwd=tmp_path)

    assert [each["company_id"] for each in done.objects] == ["shop"]


def test_a_bad_body_is_not_half_routed(tmp_path):
    """A body with one message that cannot be read is one bad line, and none of its messages is routed."""
    good = webhook(0)["entry"][0]["changes"][0]["value"]["messages"][0]

    done = route(
        "--format",
        "whatsapp-cloud",
        stdin=lines([webhook(0, messages=[good, {"from": "5511"}]), webhook(1)]),
        cwd=tmp_path,
    )

    assert [each["message_id"] for each in done.objects] == ["wamid.1"]
    assert done.err.startswith("<stdin>:1: entry[0].changes[0].value.messages[1].id is missing\n")
    assert done.status == 1


# --- memory and terminals ------------------------------------------------------------------------------------

# getrusage would tell the highest of this process and of whoever started it.
_WITH_MEMORY = """
import atexit, sys
def tell():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            sys.stderr.write(line)
atexit.register(tell)
from ticketrouter.cli import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the memory figures of Linux")
@pytest.mark.parametrize(
    ("format_", "line"),
    [
        ("jsonl", b'{"company_id": 1, "oops": 2}\n'),
        ("whatsapp-cloud", lines([webhook(0, messages=[], statuses=[{}])])),
    ],
)
def test_memory_does_not_grow_with_the_stream(format_, line, tmp_path):
    """A stream a hundred times as long takes no more than a little more memory."""

    def peak(count: int) -> int:
        command = (sys.executable, "-c", _WITH_MEMORY, "route", "--format", format_, *JSON_OUTPUT)
        done = run(command, stdin=line * count, cwd=tmp_path)
        assert f"{count:,}" in done.err
        return int(done.err.split("VmHWM:")[1].split()[0])

    short, long = peak(2_000), peak(200_000)

    assert long - short < 6_000, "kB"


@POSIX
def test_progress_is_shown_on_a_terminal_only_there(tmp_path):
    """With standard error on a terminal there is a bar; standard output stays what it is in a pipe."""
    (tmp_path / "log.jsonl").write_bytes(lines(many(200)))
    (tmp_path / "alone").mkdir()
    plain = route("../log.jsonl", cwd=tmp_path / "alone")

    out, err = on_terminal("route", "log.jsonl", *JSON_OUTPUT, cwd=tmp_path)

    assert out.decode() == plain.out
    assert "100%" in err
    assert "200 lines" in err
    assert "%" not in plain.err


@POSIX
def test_a_stream_without_end_has_a_count(tmp_path):
    """Where the size is not known there is no bar, but a count of lines."""
    _, err = on_terminal("route", *JSON_OUTPUT, stdin=lines(many(30)), cwd=tmp_path)

    assert "30 lines" in err
    assert "%" not in err


def on_terminal(*arguments: str, stdin: bytes = b"", cwd: Path) -> tuple[bytes, str]:
    """Run with standard error on a terminal; return standard output, and what the terminal was sent."""
    ours, theirs = os.openpty()
    heard: list[bytes] = []

    def listen() -> None:
        try:
            while chunk := os.read(ours, 65_536):
                heard.append(chunk)
        except OSError:
            pass  # Linux ends a terminal that nobody writes to any more with EIO

    with started(*arguments, cwd=cwd, stderr=theirs) as process:
        os.close(theirs)
        listener = threading.Thread(target=listen)
        listener.start()
        out, _ = process.communicate(stdin, timeout=120)
        listener.join()
    os.close(ours)
    assert process.returncode == 0
    return out, b"".join(heard).decode()


def test_the_program_is_the_package(tmp_path):
    """`python -m ticketrouter.cli` and the installed command are the same."""
    command = Path(sys.executable).with_name("ticketrouter")
    if not command.exists():
        pytest.skip("the command is not installed beside this Python")

    assert (
        run((str(command), "--version"), cwd=tmp_path).out == run((*PROGRAM, "--version"), cwd=tmp_path).out
    )
