"""What can be imported, and that it needs attrs and the standard library only."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points

import pytest

import ticketrouter

PUBLIC = {
    "ActiveTicketExistsError", "AsyncTicketRepository", "AsyncTicketRouter", "BlockedBySchemaError",
    "ConflictError", "ContentionError", "Effect", "InboundMessage", "InvalidMessageError", "MessageKind",
    "NoTicketError", "Outcome", "Policy", "Reason", "Reopen", "Resolution", "Scope", "Snapshot",
    "StatusScheme", "Ticket", "TicketKey", "TicketNotFoundError", "TicketRepository", "TicketRouter",
    "TicketRouterError", "UniqueRule", "decide",
}  # fmt: skip
"""What the design has fixed."""

EXTRAS = ("sqlalchemy", "click", "rich", "pytest", "hypothesis", "greenlet")

BLOCKED = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)

sys.meta_path.insert(0, Refuse())
"""


def _run(program: str) -> str:
    """Run a program in a fresh interpreter that has no extra installed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED + textwrap.dedent(program)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_public_api_is_importable_from_the_package(name):
    """Every name that the design has fixed is there, and in `__all__`."""
    assert hasattr(ticketrouter, name)
    assert name in ticketrouter.__all__


def test_all_is_sorted_and_whole():
    """`from ticketrouter import *` gives what exists, each name once."""
    assert sorted(set(ticketrouter.__all__)) == ticketrouter.__all__
    assert [name for name in ticketrouter.__all__ if not hasattr(ticketrouter, name)] == []


def test_the_extras_are_blocked_in_the_programs_of_this_file():
    """The test is able to fail: the interpreter that it starts has no SQLAlchemy."""
    program = """
        try:
            import sqlalchemy
        except ImportError as error:
            print(error)
    """

    assert _run(program) == "sqlalchemy is not installed"


def test_everything_but_the_adapters_works_without_the_extras():
    """A star import, presets, and both routers on memory."""
    program = """
        import asyncio
        from ticketrouter import *
        from ticketrouter import presets
        from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository

        message = InboundMessage(1, 10, 100)
        policy = presets.ALL["whaticket-community"].policy
        one = TicketRouter(InMemoryTicketRepository(), policy).resolve(message)
        other = asyncio.run(AsyncTicketRouter(AsyncInMemoryTicketRepository(), policy).resolve(message))
        print(one.outcome, other.outcome)
    """

    assert _run(program) == "created created"


def test_the_core_loads_attrs_and_the_standard_library_only():
    """Nothing else is imported on the way."""
    program = """
        import ticketrouter, ticketrouter.memory, ticketrouter.presets

        loaded = {name.partition(".")[0] for name in sys.modules}
        here = {"ticketrouter", "attr", "attrs", "__main__"}
        print(sorted(name for name in loaded - here - sys.stdlib_module_names if not name.startswith("_")))
    """

    assert _run(program) == "[]"


def test_the_kit_without_its_extra_says_in_one_line_what_to_install():
    """Without pytest, as without hypothesis, the error names the extra."""
    program = """
        try:
            import ticketrouter.testing
        except ModuleNotFoundError as error:
            print(error, error.__cause__, error.__suppress_context__)
    """

    assert _run(program).endswith("pip install 'ticketrouter[testing]' None True")


def test_nothing_but_an_import_loads_the_kit():
    """It is no plugin that pytest loads by itself."""
    found = [point for point in entry_points(group="pytest11") if "ticketrouter" in point.value]

    assert found == []


@pytest.mark.parametrize("extra", ["sqlalchemy"])
def test_an_adapter_without_its_extra_says_what_is_missing(extra):
    """The error is Python's own, and names the package."""
    program = f"""
        try:
            import ticketrouter.{extra}
        except ImportError as error:
            print(error)
    """

    assert extra in _run(program)
