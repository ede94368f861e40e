"""`ticketrouter replay` from the outside: what it prints, the files it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click import BadParameter

from tests.support.program import Finished, lines, message, ticketrouter
from ticketrouter.cli.replay.command import _duration as duration

TWO = ("--policy", "default", "--policy", "whaticket-saas")


def sent(number: int, hour: int, **others: object) -> dict[str, object]:
    """A message of the 23rd, at this hour."""
    return message(f"m{number}", sent_at=f"2026-11-{23 + hour // 24}T{hour % 24:02}:00:00Z", **others)


LOG = [
    sent(1, 8),
    sent(2, 9, connection_id=13),
    sent(1, 8),
    sent(3, 10, contact_id="bia", kind="notice"),
    sent(4, 20, connection_id=13),
    sent(5, 21, contact_id="\x1b[31m</script>"),
]


def replay(*arguments: str, stdin: bytes = b"", cwd: Path) -> Finished:
    return ticketrouter("replay", *arguments, stdin=stdin, cwd=cwd)


def test_the_object_for_programs(tmp_path):
    """What the log is, and for each policy outcomes, closings, the longest queues, contacts on several connections."""
    done = replay(
        "-", *TWO, "--close-after", "6h", "--output", "json", "--differences", "d.jsonl",
        stdin=lines(LOG), cwd=tmp_path,
    )  # fmt: skip

    common = {
        "reused": 0,
        "duplicate": 1,
        "ignored": 1,
        "closed": 2,
        "active": 2,
        "longest_queue": {"count": 2, "at": "2026-11-23T09:00:00Z"},
        "longest_queues": [
            {"company_id": 1, "connection_id": 10, "count": 1, "at": "2026-11-23T08:00:00Z"},
            {"company_id": 1, "connection_id": 13, "count": 1, "at": "2026-11-23T09:00:00Z"},
        ],
        "contacts_on_several_connections": {"count": 1, "at": "2026-11-23T09:00:00Z", "at_any_time": 1},
    }
    assert json.loads(done.out) == {
        "messages": 6,
        "begin": "2026-11-23T08:00:00Z",
        "end": "2026-11-23T21:00:00Z",
        "close_after": 21_600,
        "differences": 1,
        "bad_lines": 0,
        "skipped": {},
        "policies": {
            "default": {"created": 4, "reopened": 0, **common},
            "whaticket-saas": {"created": 3, "reopened": 1, **common},
        },
    }
    assert [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()] == [
        {
            "line": 5,
            "message_id": "m4",
            "company_id": 1,
            "contact_id": "ana",
            "connection_id": 13,
            "at": "2026-11-23T20:00:00Z",
            "policies": {
                "default": {"outcome": "created", "reason": "no_active_ticket", "ticket_id": 3},
                "whaticket-saas": {"outcome": "reopened", "reason": "within_reopen_window", "ticket_id": 2},
            },
        }
    ]
    assert (done.status, done.err) == (0, "")


def test_the_tables_for_people(tmp_path):
    """A column for each policy, the connections, the differences up to a limit, and how many there are."""
    log = [*LOG, sent(6, 40), sent(7, 50, connection_id=13, contact_id="\x1b[31m</script>")]
    (tmp_path / "log.jsonl").write_bytes(lines(log))

    done = replay("log.jsonl", *TWO, "--close-after", "6h", "--limit", "1", cwd=tmp_path)

    assert (
        "8 messages, 2026-11-23 08:00:00 to 2026-11-25 02:00:00 UTC; closed when idle for 6 hours" in done.out
    )
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│" in line]
    assert ["tickets created", "6", "4"] in rows
    assert ["tickets reopened", "0", "2"] in rows
    assert ["1", "10", "1 (2026-11-23 08:00:00)", "1 (2026-11-23 08:00:00)"] in rows
    assert [
        "5", "2026-11-23 20:00:00", "m4", "ana", "13",
        "created #3, no_active_ticket", "reopened #2, within_reopen_window",
    ] in rows  # fmt: skip
    assert "and 1 more: --differences FILE writes all" in done.out
    assert "the policies differ on 2 of 8 messages" in done.out
    assert "\x1b" not in done.out + done.err
    assert (done.status, done.err) == (0, "")


def test_policies_that_agree(tmp_path):
    """Nothing is closed, so nothing can be reopened; one policy has nothing to differ from."""
    both = replay("-", *TWO, stdin=lines(LOG), cwd=tmp_path)
    one = replay("-", "--policy", "default", stdin=b"", cwd=tmp_path)

    assert "nothing is closed" in both.out
    assert both.out.endswith("the policies do not differ on any of 6 messages\n")
    assert "no messages; nothing is closed" in one.out
    assert one.out.endswith("one policy: nothing to compare it with\n")
    assert [both.status, one.status] == [0, 0]


def test_a_message_without_a_time_is_a_bad_line(tmp_path):
    """It is told with its place and left out, the others are replayed, and the status is 1; strict: at once, and 2."""
    log = lines([*LOG[:1], message("m9"), *LOG[1:]])

    done = replay("-", *TWO, "--output", "json", stdin=log, cwd=tmp_path)
    strict = replay("-", *TWO, "--strict", "--differences", "d.jsonl", stdin=log, cwd=tmp_path)

    line = "<stdin>:2: sent_at must be given: a replay has no other time, not None\n"
    assert (done.status, done.err) == (1, line)
    assert (json.loads(done.out)["messages"], json.loads(done.out)["bad_lines"]) == (len(LOG), 1)
    assert (strict.status, strict.err, strict.out) == (2, f"ticketrouter: {line}", "")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_is_not_in_order_ends_the_run(tmp_path):
    """One line says where and what to do, nothing is printed and no file is left; what is told to be late is not refused."""
    log = lines([sent(1, 8), sent(2, 20), sent(3, 17)])

    done = replay("-", *TWO, "--differences", "d.jsonl", stdin=log, cwd=tmp_path)
    late = replay("-", *TWO, "--late", "3h", "--output", "json", stdin=log, cwd=tmp_path)

    assert done.err == (
        "ticketrouter: <stdin>:3: sent_at must be at most 1:00:00 before 2026-11-23T20:00:00+00:00, which stands "
        "before it, not '2026-11-23T17:00:00+00:00': sort the log by sent_at, or say with --late how late a message "
        "may be\n"
    )
    assert (done.status, done.out) == (2, "")
    assert list(tmp_path.iterdir()) == []
    assert (late.status, json.loads(late.out)["messages"]) == (0, 3)


def test_a_file_is_kept_where_the_run_fails(tmp_path):
    """A file of differences is replaced when all of them are known, never before; a device is written to."""
    (tmp_path / "d.jsonl").write_text("as before")

    failed = replay("-", *TWO, "--differences", "d.jsonl", "--strict", stdin=b"{}", cwd=tmp_path)
    nowhere = replay("-", *TWO, "--differences", "no/d.jsonl", stdin=b"", cwd=tmp_path)
    device = replay("-", *TWO, "--differences", "/dev/null", stdin=lines(LOG), cwd=tmp_path)

    assert (failed.status, (tmp_path / "d.jsonl").read_text()) == (2, "as before")
    assert (nowhere.status, nowhere.err) == (2, "ticketrouter: no/d.jsonl: No such file or directory\n")
    assert device.status == 0
    assert [each.name for each in tmp_path.iterdir()] == ["d.jsonl"]


def test_bodies_of_whatsapp_cloud(tmp_path):
    """The other format is read as `route` reads it; what is no message is counted."""
    text = {"id": "w1", "from": "5511", "timestamp": "1770000000", "type": "text"}
    value = {"metadata": {"phone_number_id": "77"}, "contacts": [{"wa_id": "5511"}]}
    changes = [
        {"field": "messages", "value": value | {"messages": [text]}},
        {"field": "messages", "value": value | {"statuses": [{}]}},
    ]
    body = {"object": "whatsapp_business_account", "entry": [{"id": "9", "changes": changes}]}

    done = replay(
        "-", *TWO, "--format", "whatsapp-cloud", "--company", "c", "--output", "json",
        stdin=json.dumps(body).encode(), cwd=tmp_path,
    )  # fmt: skip

    found = json.loads(done.out)
    assert (found["messages"], found["skipped"]) == (1, {"statuses": 1})
    assert found["policies"]["default"]["longest_queues"][0]["company_id"] == "c"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-",),
        ("-", "--policy", "nobody"),
        ("-", "--policy", "default", "--policy", "default"),
        ("-", "--policy", "default", "--close-after", "soon"),
        ("-", "--policy", "default", "--company", "1"),
        ("no-such-file", "--policy", "default"),
    ],
)
def test_a_wrong_option_ends_the_run(tmp_path, arguments):
    """Status 2, something on standard error, nothing on standard output."""
    done = replay(*arguments, cwd=tmp_path)

    assert (done.status, done.out) == (2, "")
    assert done.err


def test_durations():
    """Numbers with units, one after another; anything else is refused."""
    found = [duration(text).total_seconds() for text in ("90s", "30m", "24h", "7d", "1h30m", "0s")]

    assert found == [90, 1_800, 86_400, 604_800, 5_400, 0]
    for text in ("", "24", "h", "-1h", "1.5h", "1 h", "1w", "\u0661h", "999999999d" * 9):
        with pytest.raises(BadParameter):
            duration(text)
