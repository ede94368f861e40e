"""The options that several commands share.

Law of this file: an option is declared once; a command says only what it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ticketrouter import presets

DEFAULT_DATABASE = "sqlite:///ticketrouter.sqlite3"


class SaidOnce(click.Command):
    """A command whose options that take one value are given once: which of two was meant, nobody knows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: if such an option is there twice.
        """
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        options = [each for each in order if isinstance(each, click.Option) and not each.is_flag]
        for option in options:
            if not option.multiple and options.count(option) > 1:
                raise click.UsageError(f"{option.opts[0]} takes one value: say it once.", ctx)
        return super().parse_args(ctx, args)


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
