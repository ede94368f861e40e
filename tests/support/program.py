"""The program as a user has it: a process of its own, and the tickets that it leaves behind.

The tickets are read with the driver, past everything of ours.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.forked import parent

PROGRAM = (sys.executable, "-m", "ticketrouter.cli")
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES"} and not name.startswith("COVERAGE")
} | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"}
TIMEOUT = 120
FULL = Path("/dev/full")
"""A device that has no room, where the system has one."""
FIELDS = (
    "company_id", "contact_id", "connection_id", "group_id", "message_id", "sent_at", "unread_messages", "kind",
)  # fmt: skip


class Finished:
    """What a process has left: exit status, standard output and standard error."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.out = out.decode()
        self.err = err.decode()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def outcomes(self) -> list[str]:
        return [each["outcome"] for each in self.objects]


def ticketrouter(*arguments: str, stdin: bytes = b"", cwd: Path) -> Finished:
    """Run the program to its end."""
    return Finished(*parent(tuple(ENVIRONMENT.items())).run(arguments, stdin, cwd, TIMEOUT))


def run(command: tuple[str, ...], *, stdin: bytes = b"", cwd: Path) -> Finished:
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=cwd, env=ENVIRONMENT, timeout=TIMEOUT, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def without(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs the program where a module is not installed."""
    hidden = f"import sys; sys.modules[{module!r}] = None; from ticketrouter.cli import main; main()"
    return (sys.executable, "-c", hidden, *arguments)


def started(*arguments: str, cwd: Path, **streams: Any) -> subprocess.Popen[bytes]:
    """Start the program, where it can be interrupted: what a shell starts in the background ignores that."""
    given: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    given |= {"env": ENVIRONMENT} | streams
    if os.name == "posix":
        given["preexec_fn"] = _take_interrupts
    return subprocess.Popen[bytes]((*PROGRAM, *arguments), cwd=cwd, **given)


def _take_interrupts() -> None:
    # Python sets its own handler where it finds this one, and leaves an ignored signal ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def message(message_id: str | None = "m1", **others: Any) -> dict[str, Any]:
    """A message as a line has it."""
    fields = {"company_id": 1, "contact_id": "ana", "connection_id": 10} | others
    return fields if message_id is None else fields | {"message_id": message_id}


def lines(messages: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in messages)


def tickets(database: Path) -> list[tuple[Any, ...]]:
    """Key, status, unread messages and kind of contact of every ticket, in a fixed order."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT company_id, contact_id, connection_id, status, unread_messages, is_group FROM ticketrouter_tickets"
        )
        return sorted(rows)
