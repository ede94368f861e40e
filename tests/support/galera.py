"""A private MariaDB Galera cluster of three nodes on the loopback: started here, killed by process id.

Law of this file: it starts, kills and asks nodes, and knows nothing of tickets.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pymysql
from attrs import Factory, define
from sqlalchemy import URL

from tests.support.servers import (
    UnavailableError,
    _as_owner,
    _directories,
    _directory,
    _program,
    _run,
)

STARTING = 120.0
PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")


@define
class Node:
    """One node: its files, its ports, and its process while it runs."""

    number: int
    place: Path
    ports: list[int]
    name: str
    addresses: str = ""
    process: subprocess.Popen[bytes] | None = None
    url: URL = Factory(
        lambda self: URL.create(
            "mariadb+pymysql",
            "root",
            database="mysql",
            query={"unix_socket": str(self.place / "s"), "charset": "utf8mb4"},
        ),
        takes_self=True,
    )

    def start(self, *, first: bool = False) -> None:
        """Start it, as the first node of a new cluster or as a further one, and wait until it is in step."""
        sql, group, incremental, snapshot = self.ports
        provider = ";".join(
            (
                f"gmcast.listen_addr=tcp://127.0.0.1:{group}",
                f"ist.recv_addr=127.0.0.1:{incremental}",
                "gcache.size=64M",
                "pc.recovery=TRUE",
                "evs.keepalive_period=PT0.5S",
                "evs.inactive_check_period=PT0.5S",
                "evs.suspect_timeout=PT2S",
                "evs.inactive_timeout=PT5S",
            )
        )
        command: list[object] = [
            _program("mariadbd"),
            "--no-defaults",
            *_directories(self.place),
            f"--socket={self.place / 's'}",
            f"--pid-file={self.place / 'pid'}",
            "--bind-address=127.0.0.1",
            f"--port={sql}",
            f"--server-id={self.number}",
            "--character-set-server=utf8mb4",
            "--binlog-format=ROW",
            "--default-storage-engine=InnoDB",
            "--innodb-autoinc-lock-mode=2",
            "--innodb-flush-log-at-trx-commit=1",
            "--wsrep-on=ON",
            f"--wsrep-provider={_provider()}",
            f"--wsrep-cluster-name={self.name}",
            f"--wsrep-node-name=n{self.number}",
            f"--wsrep-node-address=127.0.0.1:{group}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{snapshot}",
            f"--wsrep-provider-options={provider}",
            f"--wsrep-cluster-address=gcomm://{'' if first else self.addresses}",
            *(["--wsrep-new-cluster"] if first else []),
        ]
        with (self.place / "log").open("ab") as output:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                [str(word) for word in command],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                **_as_owner(),
            )
        self.wait("wsrep_local_state_comment", "Synced")

    def kill(self) -> None:
        """Kill it with -9, as a power failure would."""
        self.stop(signal.SIGKILL)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, if it runs."""
        if self.process is None:
            return
        self.process.send_signal(by)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def status(self, variable: str) -> str | None:
        """Ask it for one of its status variables; None: it does not answer."""
        try:
            rows = self._ask(f"SHOW STATUS LIKE '{variable}'")
        except pymysql.MySQLError:
            return None
        return rows[0][1] if rows else None

    def wait(self, variable: str, value: str) -> None:
        """Wait until a status variable has a value."""
        deadline = time.monotonic() + STARTING
        while self.status(variable) != value:
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                log = (self.place / "log").read_text(errors="replace")
                raise UnavailableError(f"node {self.number} is not {value}; its log ends: {log[-2000:]}")
            time.sleep(0.1)

    def bootstrap(self) -> None:
        """Let it begin anew as a cluster of one, as its operator does after the loss of the others."""
        self._ask("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")
        self.wait("wsrep_cluster_status", "Primary")

    def _ask(self, statement: str) -> tuple[tuple[str, ...], ...]:
        # Not through SQLAlchemy, whose first question a node without quorum refuses.
        with pymysql.connect(user="root", unix_socket=str(self.place / "s")) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            rows: tuple[tuple[str, ...], ...] = cursor.fetchall()
            return rows


@contextmanager
def galera() -> Iterator[list[Node]]:
    """Run three nodes, each with every row."""
    install = _program("mariadb-install-db")
    for helper in ("rsync", "lsof"):
        _program(helper)
    _provider()
    ports = iter(_free_ports(3 * 4))
    name = f"tr_{uuid4().hex[:8]}"
    with ExitStack() as opened:
        nodes = [
            Node(number, opened.enter_context(_directory()), [next(ports) for _ in range(4)], name)
            for number in (1, 2, 3)
        ]
        for node in nodes:
            node.addresses = ",".join(f"127.0.0.1:{each.ports[1]}" for each in nodes)
            opened.callback(node.stop)
        auth = "--auth-root-authentication-method=normal"
        _run(install, "--no-defaults", *_directories(nodes[0].place), auth, "--skip-test-db")
        for node in nodes:
            if node.number > 1:
                _run("mkdir", node.place / "data")
            node.start(first=node.number == 1)
        yield nodes


def _provider() -> str:
    found = next((path for path in PROVIDERS if Path(path).exists()), None)
    if found is None:
        raise UnavailableError("Galera's provider is not installed (Debian: apt-get install galera-4)")
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
