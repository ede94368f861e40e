"""What the library says of its arguments, in words of the options; and its warnings, on standard error.

Law of this file: a piece of code that no option says is one of a mapping of the host's own, and of `--mapping`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ticketrouter.checks import printable
from ticketrouter.log import logger
from ticketrouter.sqlalchemy.columns import FIELDS
from ticketrouter.wording import Code, told

_OPTIONS = {
    "active": ("--active", "WORD"),
    "also_closed": ("--also-closed", "WORD"),
    "final": ("--final", "WORD"),
    "wakes": ("--wakes", "WORD=WORD"),
    "status_values": ("--status-value", "WORD=VALUE"),
    "absent": ("--absent", "FIELD=VALUE"),
    "on_create": ("--on-create", "COLUMN=VALUE"),
    "new_id": ("--uuid", "COLUMN"),
    "where": ("--where", "COLUMN=VALUE"),
    "only_company": ("--only-company", "ID"),
    "only_connection": ("--only-connection", "ID"),
    "timezone": ("--timezone", "ZONE"),
    "epoch": ("--epoch", "UNIT"),
    "remember_messages": ("--ignore-message-ids", ""),
    "companions": ("`ticketrouter schema`", ""),
    "ddl": ("", ""),
    "policy": ("another --policy", ""),
    "scheme": ("scheme of the statuses", ""),
}
"""By the name of an argument, the option that says the same, and what is said with it."""
_OF = re.compile("FIELD|COLUMN|WORD")
"""What stands for the field, column or word that a piece of code is about."""


def as_options(code: Code) -> str:
    """Say a piece of code as whoever has typed the options knows it."""
    is_named_only = code.text == code.name
    if code.name in FIELDS and code.text != "status=None":
        if is_named_only:
            return code.text
        return f"--column {code.name}={'' if code.text.endswith('=None') else 'NAME'}"
    if code.name not in _OPTIONS:
        return code.text if is_named_only else f"--mapping with {code}"
    option, value = _OPTIONS[code.name]
    if is_named_only or not value:
        return option
    return f"{option} {_OF.sub(lambda _: code.of, value, count=1) if code.of else value}"


@contextmanager
def warned(say: Callable[[str], str]) -> Generator[None]:
    """Show the library's warnings on standard error, each a line, as long as this lasts.

    Args:
        say: says a text that speaks of code as whoever reads it knows it.
    """
    handler = _ToStandardError(say)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _ToStandardError(logging.Handler):
    def __init__(self, say: Callable[[str], str]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        values = record.args if isinstance(record.args, tuple) else ()
        text = str(record.msg) % tuple(self._say(each) if isinstance(each, str) else each for each in values)
        sys.stderr.write(f"ticketrouter: {printable(text)}\n")


def in_options(text: str) -> str:
    """Return a text in words of the options."""
    return told(text, as_options)
