"""Every Python and SQLAlchemy that we promise to work with: `nox` runs those that the machine has.

Law of this file: a session installs the package and runs tests; what the tests are stands in `tests/`.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SQLALCHEMYS = ("2.0", "2.1")


@nox.session(python=PYTHONS)
@nox.parametrize("sqlalchemy", SQLALCHEMYS)
def tests(session: nox.Session, sqlalchemy: str) -> None:
    """The rules, and every database that can be had, on one Python with one SQLAlchemy."""
    session.install("--quiet", "--editable", ".[dev]", f"sqlalchemy[asyncio]~={sqlalchemy}.0")
    given = session.posargs or [
        "tests/core",
        "tests/contract/test_contract.py",
        "tests/contract/test_races.py",
        "tests/sqlalchemy",
    ]
    session.run("python", "-m", "pytest", "-q", "-n", "2", *given)
