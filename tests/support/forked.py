"""The command line as a process that need import nothing any more: forked from one that has imported it.

Law of this file: whoever is forked has streams, a directory, arguments and an end of its own, as if it had been
started; only the half second that the imports take is spent once.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryFile

ROOT = Path(__file__).parents[2]
_MESSAGE = 1 << 16
"""The longest request, in bytes."""


class Parent:
    """The process that has imported everything.

    Args:
        environment: its variables, and those of whoever is forked from it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, env=environment)

    def run(
        self, arguments: tuple[str, ...], stdin: bytes, cwd: Path, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Run the command line; return its exit status, standard output and standard error."""
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            request = json.dumps([str(cwd), *arguments]).encode()
            self._channel.settimeout(timeout)
            socket.send_fds(self._channel, [request], [stream.fileno() for stream in (given, out, err)])
            status = int(self._channel.recv(_MESSAGE))
            out.seek(0)
            err.seek(0)
            return status, out.read(), err.read()

    def close(self) -> None:
        """End it; it ends as well where nobody is there to tell it anything."""
        self._channel.close()
        self._process.wait()


@cache
def parent(environment: tuple[tuple[str, str], ...]) -> Parent:
    """Return the process with this environment, started when it is first asked for."""
    found = Parent(dict(environment))
    atexit.register(found.close)
    return found


# --- in that process -----------------------------------------------------------------------------------------


def _import_everything() -> None:
    import ticketrouter.cli

    for module in walk_packages(ticketrouter.cli.__path__, "ticketrouter.cli."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()


def _is_forked(channel: socket.socket) -> bool:
    """Fork for each request; return in whoever is forked, and where there are no more requests."""
    while True:
        request, streams, *_ = socket.recv_fds(channel, _MESSAGE, 3)
        if not request:
            return False
        child = os.fork()
        if child == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            cwd, *arguments = json.loads(request)
            os.chdir(cwd)
            sys.argv[1:] = arguments
            return True
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_everything()
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        forked = _is_forked(channel)
    if forked:
        runpy.run_module("ticketrouter.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
