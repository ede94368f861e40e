"""The command line: `ticketrouter route`, `ticketrouter replay` and the others.

Law of this package: this file imports nothing beyond the standard library, so that whoever lacks the extra is
told so in one line; the readers (`jsonl`, `whatsapp_cloud`) are pure functions; only `engine`, `store` and `desk` know a database.
"""

from __future__ import annotations

import sys
from typing import NoReturn

_EXTRA = frozenset({"click", "rich", "sqlalchemy"})
_MISSING = 'ticketrouter: the command line needs the extra "cli": pip install "ticketrouter[cli]"'


def main() -> NoReturn:
    """Run the command line and leave with its exit status."""
    try:
        from ticketrouter.cli.app import run  # noqa: PLC0415 - only here may the extra be absent
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"{_MISSING}\n")
        raise SystemExit(2) from None
    raise SystemExit(run())
