"""`--mapping MODULE:NAME`: the host's own TicketMapping, imported from its own code.

Law of this file: whatever is wrong with the name, or with what runs when it is imported, is one clear line. What that
code prints is no result of a command.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import frozen
from sqlalchemy import Connection

from ticketrouter.cli.fatal import FatalError, without_url
from ticketrouter.errors import TicketRouterError
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.health.ddl import own_schema, schema_steps
from ticketrouter.sqlalchemy.schema import is_own
from ticketrouter.sqlalchemy.steps import Step
from ticketrouter.wording import told

OPTION = "--mapping"
EXAMPLE = "package.module:name"
_OURS = __name__.partition(".")[0]
_MOST_NAMES = 5
_LONGEST = 400
"""How much of an error of the host's code is shown, in characters."""


@frozen
class Imported:
    """Tickets by a mapping of the host's own: it is taken as it is.

    Args:
        mapping: the mapping.
        name: how it was named.
    """

    mapping: TicketMapping
    name: str

    @property
    def are_made_here(self) -> TicketMapping | None:
        """None: who has a mapping has the tables, or makes them."""
        return None

    def looked_at(self, connection: Connection) -> TicketMapping:  # noqa: ARG002 - it is as it was imported
        """Return the mapping."""
        return self.mapping

    def written(self, connection: Connection) -> TicketMapping:  # noqa: ARG002 - it is as it was imported
        """Return the mapping."""
        return self.mapping

    def steps(self, dialect: str, drop: Sequence[str]) -> tuple[Step, ...]:
        """Return the whole schema of the mapping; of our own tables the tables, too."""
        if not is_own(self.mapping.table):
            return schema_steps(self.mapping, dialect, drop=drop)
        if drop:
            raise FatalError("--drop is for a table that is there: ours is made with the right rule")
        return own_schema(self.mapping, dialect)

    def told(self, text: str) -> str:
        """Return a text in Python's words, which who has written a mapping knows, but on one line, without statements."""
        return told(text, lambda code: "" if code.name == "ddl" else str(code))

    def blamed(self, error: BaseException) -> str | None:
        """Say what the host's own code has raised, as a function of the mapping; None: it is not its error."""
        if isinstance(error, TicketRouterError) or not _is_of_the_host(error):
            return None
        return f"{OPTION} {self.name}: what it calls failed: {_last_line(error)}"


def imported(given: str) -> Imported:
    """Import a mapping.

    Args:
        given: the module, as Python imports it from the current directory, a colon, and the name there.

    Raises:
        FatalError: if there is no such module, no such name, or something else by that name, or if the module fails.
    """
    module, colon, name = given.partition(":")
    is_named = colon and not module.endswith(".py")
    if not is_named or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise FatalError(f"{OPTION} {without_url(given)}: say MODULE:NAME, as {EXAMPLE}{_of_a_file(module)}")
    found: Any = _module(module)
    there: list[str] = []
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise FatalError(f"{_at(module, there)} has no {part!r}{_instead(found)}") from None
        except Exception as error:
            raise FatalError(f"{_at(module, [*there, part])} failed: {_last_line(error)}") from error
        there.append(part)
    if not isinstance(found, TicketMapping):
        called = " (its result is not asked for: name the mapping itself)" if callable(found) else ""
        raise FatalError(f"{_at(module, there)} is no TicketMapping, but a {type(found).__name__}{called}")
    return Imported(found, given)


def _module(name: str) -> Any:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        # What a module prints while it is imported would stand in the result.
        with redirect_stdout(sys.stderr):
            return import_module(name)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if name == absent or name.startswith(f"{absent}."):
            raise FatalError(
                f"{OPTION}: there is no module {absent!r}, neither in the current directory nor among the installed ones"
            ) from None
        raise FatalError(f"{OPTION}: importing {name} failed: {_last_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise FatalError(f"{OPTION}: importing {name} failed: {_last_line(error)}") from error


def _at(module: str, names: Sequence[str]) -> str:
    return f"{OPTION}: {':'.join(part for part in (module, '.'.join(names)) if part)}"


def _of_a_file(module: str) -> str:
    if not module.endswith(".py") and "/" not in module:
        return ""
    return "; a module is named with dots, as Python imports it, and not as a file"


def _instead(found: object) -> str:
    """Say which mappings there are."""
    names = [
        name
        for name, value in sorted(getattr(found, "__dict__", {}).items())
        if isinstance(value, TicketMapping)
    ]
    return f"; it has {', '.join(names[:_MOST_NAMES])}" if names else ""


def _last_line(error: BaseException) -> str:
    """Return the last line of a traceback, and the place in the host's code that it comes from."""
    said = traceback.format_exception_only(error)
    # An error of the syntax shows the line first; any other begins with its text, and may go on for pages.
    line = (said[-1] if isinstance(error, SyntaxError) else said[0].partition("\n")[0]).strip()
    shown = without_url(line)
    short = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{short} ({_shown(error.filename)}, line {error.lineno})"
    return next((f"{short} ({_shown(file)}, line {number})" for file, number in _places(error)), short)


def _places(error: BaseException) -> Iterator[tuple[str, int]]:
    """List the places that an error has come through, those of the host's own code first, the deepest first."""
    frames = traceback.extract_tb(error.__traceback__)
    found = [
        (each.filename, each.lineno or 0) for each in reversed(frames) if not each.filename.startswith("<")
    ]
    yield from (place for place in found if not _is_of_others(place[0]))
    yield from found


def _is_of_the_host(error: BaseException) -> bool:
    """Tell whether an error comes from code that we, or SQLAlchemy for us, have called: the host's."""
    roots = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    ours = [place for place, root in enumerate(roots) if root in {_OURS, "sqlalchemy"}]
    after = roots[ours[-1] + 1 :] if ours else roots
    return bool(after) and after[0] not in sys.stdlib_module_names


def _is_of_others(file: str) -> bool:
    paths = sysconfig.get_paths()
    others = [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths]
    others.append(Path(__file__).parents[1])
    return any(Path(file).is_relative_to(other) for other in others)


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
