"""A proxy before a server's socket that can swallow the answer to one COMMIT.

Law of this file: bytes in, bytes out; of the protocols it knows the word COMMIT alone.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_COMMIT = re.compile(rb"(?<![\w-])COMMIT\b")
"""The word by itself: `READ-UNCOMMITTED` and a name with it are others."""


class Proxy:
    """Stands before the socket of a server; each way of each connection is a thread."""

    def __init__(self, here: Path, server: str) -> None:
        self._server = server
        self._threads: list[threading.Thread] = []
        self._to_cut = threading.Event()
        self.cut = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(here))
        self._listening.listen()

    def cut_next_commit(self) -> None:
        """Let the next COMMIT through, wait for its answer, and hang up instead of handing it on."""
        self._to_cut.set()

    def start(self) -> None:
        self._begin(self._accept)

    def stop(self) -> None:
        """Stop; every client has hung up before."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _begin(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listening socket is closed
            while True:
                client, _ = self._listening.accept()
                self._begin(self._meet, client)

    def _meet(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            committing = threading.Event()
            back = threading.Thread(target=self._to_client, args=(server, client, committing))
            back.start()
            self._to_server(client, server, committing)
            back.join()

    def _to_server(self, client: socket.socket, server: socket.socket, committing: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if _COMMIT.search(data) and self._to_cut.is_set():
                    self._to_cut.clear()
                    committing.set()
                server.sendall(data)
        _hang_up(client, server)

    def _to_client(self, server: socket.socket, client: socket.socket, committing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if committing.is_set():
                    self.cut += 1
                    break
                client.sendall(data)
        _hang_up(client, server)


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_before(server: str, here: Path) -> Iterator[Proxy]:
    """Run a proxy."""
    proxy = Proxy(here, server)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
