"""The databases' own clients, as whoever runs a plan has them: psql, mariadb and sqlite3.

Law of this file: a client is one process that is fed files, one after another; it knows nothing of tickets.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL

PATIENCE = 60.0
_PROGRAMS = {"postgresql": "psql", "mariadb": "mariadb", "sqlite": "sqlite3"}


class Client:
    """A running client of a database; the test is skipped where there is none.

    Args:
        url: the database.
        place: where files may be written.
    """

    def __init__(self, url: URL, place: Path) -> None:
        self.database = url.get_backend_name()
        program = shutil.which(_PROGRAMS[self.database])
        if program is None:
            pytest.skip(f"{_PROGRAMS[self.database]} is not installed")
        self._command = [program, *_arguments(url)]
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, sql: str, *before: str) -> str | None:
        """Run a file of SQL, as it is.

        Args:
            sql: the text of the file.
            before: lines that the client is told first.

        Returns:
            What was complained of; None: nothing.
        """
        file = self._place / "plan.sql"
        file.write_text(sql, encoding="utf-8", newline="")
        end = f"end-{uuid4().hex}"
        read, told = {
            "postgresql": (f"\\i {file}", f"\\echo {end}"),
            "mariadb": (f"source {file}", f"SELECT '{end}';"),
            "sqlite": (f".read {file}", f".print {end}"),
        }[self.database]
        process = self._running()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write("\n".join((*before, read, told, "")).encode())
            process.stdin.flush()
        out = self._until(process, end.encode())
        if out is None or b"rror" in out:
            self.close()
            return (out or b"it has ended or says nothing").decode(errors="replace")
        return None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        return self._process

    def _until(self, process: subprocess.Popen[bytes], end: bytes) -> bytes | None:
        assert process.stdout is not None
        found, patience = b"", time.monotonic() + PATIENCE
        while end not in found:
            ready, _, _ = select.select([process.stdout], [], [], max(patience - time.monotonic(), 0))
            some = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not some:
                return found or None if process.poll() is None and not ready else b"error: " + found
            found += some
        return found


def _arguments(url: URL) -> list[str]:
    query = {name: str(value) for name, value in url.query.items()}
    match url.get_backend_name():
        case "postgresql":
            where = {
                "-h": url.host or query.get("host"),
                "-p": url.port,
                "-U": url.username,
                "-d": url.database,
            }
            options = ["-X", "-q", "-v", "ON_ERROR_STOP=1"]
        case "mariadb" | "mysql":
            where = {"-h": url.host, "-P": url.port, "-u": url.username, "-S": query.get("unix_socket")}
            options = ["--no-defaults", "-n", "-N", "-D", str(url.database)]
        case _:
            return ["-batch", "-bail", str(url.database)]
    return [*options, *(each for name, value in where.items() if value for each in (name, str(value)))]
