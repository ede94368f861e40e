"""`ticketrouter explain`, as a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.program import ticketrouter

MESSAGE = {"company_id": 1, "contact_id": "ana", "connection_id": 10, "message_id": "m1"}


def test_explains_a_message_on_a_database_without_writing(tmp_path: Path) -> None:
    """The answer, the facts and what would change it; the same again afterwards, because nothing was written."""
    url = f"sqlite:///{tmp_path / 'desk.sqlite3'}"
    ticketrouter("route", "--database", url, stdin=json.dumps(MESSAGE).encode(), cwd=tmp_path)
    other = json.dumps(MESSAGE | {"connection_id": 13, "message_id": "m2"})
    first = ticketrouter("explain", other, "--database", url, cwd=tmp_path)
    second = ticketrouter("explain", other, "--database", url, cwd=tmp_path)

    assert [
        "answer: created, no_active_ticket",
        "facts:",
        "  active: ticket 1 on connection 10, pending",
        "  unique rule: active_per_connection",
        "what would change it:",
        "  a policy with scope contact: reused, active_for_contact (ticket 1)",
    ] == first.out.splitlines()
    assert (0, first.out) == (second.status, second.out)


def test_a_bad_message_is_one_line(tmp_path: Path) -> None:
    """What is wrong with the message is said by field, with exit status 2."""
    done = ticketrouter("explain", '{"company_id": true}', cwd=tmp_path)

    assert (2, "ticketrouter: MESSAGE: contact_id is missing\n") == (done.status, done.err)


def test_a_webhook_body_is_not_asked_for_its_format(tmp_path: Path) -> None:
    """Here there is no --format."""
    done = ticketrouter("explain", '{"object": "x", "entry": []}', cwd=tmp_path)

    assert done.err.endswith(": 'x'\n")
    assert done.status == 2


def test_no_database_is_made(tmp_path: Path) -> None:
    """A database that is not there stays away."""
    done = ticketrouter(
        "explain", json.dumps(MESSAGE), "--database", f"sqlite:///{tmp_path / 'none.sqlite3'}", cwd=tmp_path
    )

    assert done.status == 2
    assert "there is no such file" in done.err
    assert list(tmp_path.iterdir()) == []
