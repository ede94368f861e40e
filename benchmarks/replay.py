"""`ticketrouter replay` over a long log: the CPU time of two policies, and the memory that it comes to.

Law of this file: the log is invented, and the same for the same arguments; the command runs as a process of its own,
as a user starts it, and what the system says of that process is what is shown. Nothing is asserted.

Run `python -m benchmarks.replay --messages 1000000 --html`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 90
OF_A_CONTACT = 20
"""How many messages a contact sends, on average."""
OF_A_BURST = 7
POLICIES = ("default", "whaticket-community")


def messages(count: int) -> Iterator[dict[str, Any]]:
    """Invent a log: bursts of messages from many contacts on three connections, one message in 100 twice."""
    chance = random.Random(1)
    sent: list[tuple[float, int, int]] = []
    while len(sent) < count:
        contact, connection = (
            chance.randrange(count // OF_A_CONTACT + 1),
            chance.choice((10, 10, 10, 11, 11, 12)),
        )
        moment = chance.random() * DAYS * 86_400
        for _ in range(1 + int(chance.expovariate(1 / (OF_A_BURST - 1)))):
            sent.append((moment, contact, connection))
            moment += chance.expovariate(1 / 120)
    for number, (moment, contact, connection) in enumerate(sorted(sent)[:count]):
        message = {
            "message_id": f"wamid.{number:09}",
            "company_id": 1,
            "contact_id": contact,
            "connection_id": connection,
            "sent_at": (BEGIN + timedelta(seconds=int(moment))).isoformat(),
            "kind": chance.choices(("message", "echo", "notice"), (80, 18, 2))[0],
        }
        yield message
        if chance.random() < 0.01:
            yield message


def replayed(log: Path, *options: str) -> tuple[float, float, int]:
    """Run the command on a log, and return its CPU seconds, its seconds, and the most memory it had in bytes."""
    chosen = [option for policy in POLICIES for option in ("--policy", policy)]
    command = [
        sys.executable,
        "-m",
        "ticketrouter.cli",
        "replay",
        str(log),
        *chosen,
        "--close-after",
        "24h",
        *options,
    ]
    begun = os.times()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"replay ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, os.times().elapsed - begun.elapsed, used.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--html", action="store_true", help="write the page, too")
    given = parser.parse_args()
    with TemporaryDirectory() as directory:
        log = Path(directory, "log.jsonl")
        with log.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(message)}\n" for message in messages(given.messages))
        page = ("--html", str(Path(directory, "replay.html"))) if given.html else ()
        cpu, elapsed, memory = replayed(log, *page)
    print(f"{given.messages:,} messages, {len(POLICIES)} policies{', with the page' if given.html else ''}:")
    print(f"{cpu:.1f} s of CPU, {elapsed:.1f} s, {memory / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
