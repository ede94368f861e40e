"""MySQL's server where the machine has none: unpacked from Debian's suite that has it, into a folder of our own.

Law of this file: nothing is installed, and nothing changes but that folder. apt does the fetching, with lists and a
status of its own, from the mirror that it is set up with, and checks the signatures. `python -m tests.support.mysql`
does it once; what has been unpacked is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SUITE, _PACKAGE = "sid", "mysql-server-core"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
HOW = "python -m tests.support.mysql unpacks one from Debian's packages"


class NotToBeHadError(Exception):
    """The server cannot be fetched here; the text says why."""


def folder() -> Path:
    """Return where the server is kept, and its user can read it: root's own cache is closed to whom it becomes."""
    if os.geteuid() == 0:
        return Path("/var/cache/ticketrouter/mysql")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ticketrouter" / "mysql"


def unpacked() -> list[str] | None:
    """Return what the command begins with that starts the server that has been unpacked, by its own loader, or None."""
    root = folder()
    server, loader = root / "usr/sbin/mysqld", next(root.glob("usr/lib/*/ld-linux-*.so.*"), None)
    if loader is None or not server.exists():
        return None
    libraries = [loader.parent, root / "usr/lib/mysql/private"]
    return [
        str(loader),
        "--library-path",
        ":".join(map(str, libraries)),
        str(server),
        "--no-defaults",
        *_places(root),
    ]


def _places(root: Path) -> list[str]:
    """Return the options that name what the server would else look for in the system."""
    share = root / "usr/share/mysql"
    return [
        f"--basedir={root / 'usr'}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
    ]


def fetch() -> Path:
    """Fetch and unpack the server, unless it is there; it is all there or not at all."""
    if unpacked() is not None:
        return folder()
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise NotToBeHadError(f"{program} is what fetches it, and is not here")
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder().parent) as name:
        work = Path(name)
        for package in _downloaded(work):
            _run("dpkg", "-x", package, work / "root")
        (work / "root").chmod(0o755)
        (work / "root").rename(folder())
    return folder()


def _downloaded(work: Path) -> Iterator[Path]:
    for each in ("lists/partial", "cache/archives/partial", "root"):
        (work / each).mkdir(parents=True)
    work.chmod(0o755)  # apt gives itself up to a user of its own while it downloads
    (work / "status").touch()
    (work / "sources").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n")
    own = {
        "Dir::Etc::sourcelist": work / "sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Debug::NoLocking": "1",
    }
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", "-qq", *options, "update")
    _run("apt-get", "-qq", *options, "install", "-y", "--no-install-recommends", "--download-only", _PACKAGE)
    yield from sorted((work / "cache/archives").glob("*.deb"))


def _mirror() -> str:
    """Return where apt has Debian's packages from."""
    said = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    mirrors = [line for line in said.splitlines() if line.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise NotToBeHadError("apt is set up with no mirror of Debian")
    return mirrors[0]


def _run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHadError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(fetch())
    except (NotToBeHadError, OSError) as error:
        sys.exit(f"MySQL cannot be had: {error}")
