"""What is uploaded: built here, looked into, installed where nothing else is, and used there.

Law of this file: nothing of this checkout is imported by what is tested; it is another environment's Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "ticketrouter"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def build(place: Path) -> tuple[Path, Path]:
    """Build as a release does: the sdist from the checkout, the wheel from the sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT, cwd=place)
    (sdist,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return sdist, wheel


def test_the_files_are_what_they_should_be(tmp_path: Path) -> None:
    """The wheel has the package, its marker of types and its license, and no tests; the sdist what a packager needs."""
    sdist, wheel = build(tmp_path)
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=tmp_path)
    packed = set(zipfile.ZipFile(wheel).namelist())
    info = f"{wheel.name.split('-py3')[0]}.dist-info"
    sources = {
        f"ticketrouter/{path.relative_to(SOURCES).as_posix()}"
        for path in SOURCES.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert "ticketrouter/py.typed" in sources
    assert sources == {name for name in packed if not name.startswith(info)}
    told = {"METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE", "RECORD"}
    assert {f"{info}/{name}" for name in told} == packed - sources

    with tarfile.open(sdist) as archive:
        given = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "pyproject.toml",
        "noxfile.py",
    }
    needed |= {
        "conftest.py",
        "tests/contract/test_contract.py",
        "docs/index.md",
        "examples/queue_worker/worker.py",
    }
    assert set() == needed - given
    parts = {part for name in given for part in Path(name).parts}
    assert set() == parts & {"_build", "__pycache__", ".venv", ".git", ".mypy_cache"}


def test_it_works_where_nothing_else_is(tmp_path: Path) -> None:
    """Installed in an empty environment it brings attrs alone and works, and an extra brings the command."""
    _, wheel = build(tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    installing = subprocess.run([*pip, "install", wheel], capture_output=True, text=True, check=False)
    if "No matching distribution" in installing.stderr:
        pytest.skip("attrs cannot be had: the package index does not answer")
    assert installing.returncode == 0, installing.stderr
    before = {
        package["name"] for package in json.loads(run(*pip, "list", "--format", "json", cwd=tmp_path).stdout)
    }
    program = """
from ticketrouter import *
from ticketrouter.memory import InMemoryTicketRepository
print(TicketRouter(InMemoryTicketRepository()).resolve(InboundMessage(1, "ana", 10)).outcome)
"""

    assert {"attrs", "ticketrouter"} == before - {"pip", "setuptools"}
    assert "created\n" == run(python, "-W", "error", "-c", program, cwd=tmp_path).stdout

    command = python.with_name("ticketrouter")
    refused = subprocess.run([command, "demo"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert 'pip install "ticketrouter[cli]"' in refused.stderr
    assert "Traceback" not in refused.stderr
    run(*pip, "install", f"{wheel}[cli]", cwd=tmp_path)
    assert "created" in run(command, "demo", cwd=tmp_path).stdout


IMPORTS = """
import sys, attrs

known, calls = set(sys.modules), 0

def count(_frame, event, _of):
    global calls
    calls += event == "call"

sys.setprofile(count)
import ticketrouter
sys.setprofile(None)
further = {name.partition(".")[0] for name in set(sys.modules) - known}
print(calls, *(further - sys.stdlib_module_names))
"""


def test_the_import_does_little_more_than_that_of_attrs(tmp_path: Path) -> None:
    """It calls less than 22,000 functions, where attrs calls 15,000; nothing of an extra is imported with it.

    Calls are the same on every machine; `python -m benchmarks.importing` tells how long they take on one.
    """
    calls, *further = run(sys.executable, "-c", IMPORTS, cwd=tmp_path).stdout.split()

    assert int(calls) < 22_000
    assert ["ticketrouter"] == further
