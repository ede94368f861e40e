"""Names and contents that would command a terminal, leave their line or be HTML are shown as what they are."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tests.cli.test_secrets import run
from tests.support.program import ENVIRONMENT, PROGRAM
from ticketrouter import InboundMessage, presets
from ticketrouter.cli.engine import parsed_url
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.store import Store

EVIL = "\x1b[31m<script>alert(1)</script>\u202e\u2028\r\x9b2J"
_SAFE = re.compile(r"[^\x1b\x9b\r\x07\u202e\u2028]*")
_HTML = "<script>alert"


def row(message_id: str, **others: Any) -> str:
    fields = {
        "company_id": EVIL,
        "contact_id": EVIL,
        "connection_id": EVIL,
        "sent_at": "2026-01-01T00:00:00Z",
    }
    return json.dumps(fields | {"message_id": EVIL + message_id} | others)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A desk with such ids, a status and an index of such names, and a log of such messages."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'desk.sqlite3'}", presets.ALL["default"])) as store:
        store.route([InboundMessage(EVIL, EVIL, EVIL, message_id=f"{EVIL}{n}") for n in range(2)])
    engine = create_engine(f"sqlite:///{tmp_path / 'desk.sqlite3'}", poolclass=NullPool)
    quoted = f'"{EVIL}"'
    with engine.begin() as connection:
        for statement in (
            f"CREATE UNIQUE INDEX {quoted} ON ticketrouter_tickets (company_id, contact_id, id)",
            (
                "INSERT INTO ticketrouter_tickets SELECT 2, company_id, contact_id, connection_id || 'x', "
                f"'{EVIL}', is_group, 0, NULL, NULL, created_at, updated_at, NULL FROM ticketrouter_tickets"
            ),
        ):
            connection.exec_driver_sql(statement)
    log = "\n".join((row("1"), row("2", contact_id="x"), row("3", **{EVIL: 1}), EVIL, "[]")) + "\n"
    (tmp_path / "log.jsonl").write_text(log, encoding="utf-8", newline="")
    return tmp_path


WANTED = json.dumps({"company_id": EVIL, "contact_id": EVIL, "connection_id": EVIL})


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "--database", "{url}", "--html", "page.html"),
        ("audit", "--database", "{url}", "--json"),
        ("audit", "--database", "{url}", "--table", EVIL),
        ("audit", "--database", "{url}", "--column", f"user_id={EVIL}"),
        ("audit", "--database", "{url}", "--preset", EVIL),
        ("audit", "--database", "{url}", "--html", f"no/{EVIL}"),
        ("audit", "--database", f"sqlite:///{EVIL}"),
        ("audit", "--database", "{url}", "--active", EVIL),
        (EVIL,),
        ("repair", "--database", "{url}", "--plan", "plan.sql"),
        ("explain", "--database", "{url}", WANTED.replace("{", "{{").replace("}", "}}")),
        ("explain", EVIL.replace("{", "{{"), "--database", "{url}"),
        ("route", "log.jsonl", "--database", "{url}"),
        ("route", "log.jsonl", "--database", "{url}", "--output", "json"),
        ("route", f"no/{EVIL}", "--database", "{url}"),
        ("replay", "log.jsonl", "--policy", "default", "--policy", "ticketz", "--html", "page.html"),
        ("replay", "log.jsonl", "--policy", "default", "--policy", "ticketz", "--output", "json"),
        ("replay", "log.jsonl", "--policy", "default", "--policy", "ticketz", "--differences", "d.jsonl"),
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:60],
)
def test_no_content_commands_a_terminal_or_a_page(
    arguments: tuple[str, ...], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams and pages have it as escapes, and as text where it is HTML."""
    _, left = run(arguments, f"sqlite:///{desk / 'desk.sqlite3'}", desk, monkeypatch)

    page = next((file.read_text(encoding="utf-8") for file in desk.glob("page.html")), "")
    shown = (*left[:2], page)
    assert [text for text in shown if _SAFE.fullmatch(text) is None] == []
    assert _HTML not in page


def test_a_plan_with_such_names_is_not_shown_on_a_terminal(desk: Path) -> None:
    """SQL must name the index as it is, and the terminal would obey: the plan goes to a file."""
    command = (*PROGRAM, "schema", "--database", f"sqlite:///{desk / 'desk.sqlite3'}")
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, stdout=theirs, stderr=subprocess.PIPE, cwd=desk, env=ENVIRONMENT, timeout=60, check=False
        )
    finally:
        os.close(theirs)
        os.close(ours)

    assert done.returncode == 2
    assert b"say --plan FILE" in done.stderr


def test_a_line_of_an_error_is_one_line() -> None:
    """Whatever is in it."""
    assert _SAFE.fullmatch(FatalError(EVIL).message)
    with pytest.raises(FatalError) as caught:
        parsed_url(EVIL)
    assert _SAFE.fullmatch(str(caught.value))
