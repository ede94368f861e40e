"""The options that several commands share.

Law of this file: an option is declared once; a command says only what it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ticketrouter import presets

DEFAULT_DATABASE = "sqlite:///ticketrouter.sqlite3"

_Command = TypeVar("_Command", bound=Callable[..., Any])


def database_option(help_: str) -> Callable[[_Command], _Command]:
    """Return `--database URL`."""
    return click.option("--database", metavar="URL", default=DEFAULT_DATABASE, show_default=True, help=help_)


def policy_option(command: _Command) -> _Command:
    """Add `--policy NAME`."""
    return click.option(
        "--policy",
        type=click.Choice(list(presets.ALL)),
        default="default",
        show_default=True,
        metavar="NAME",
        help="Whose rules decide: see `ticketrouter presets`.",
    )(command)
