"""Reports as pages of HTML, each one file that needs no other.

Law of this file: whatever a page shows is escaped; the templates stand beside it, and know no path and no network.
It needs jinja2: whoever wants a page imports this inside `needing`.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ticketrouter.checks import printable


def page(template: str, **values: Any) -> str:
    """Return a template, filled.

    Args:
        template: its name among the templates.
        values: what it shows.
    """
    environment = Environment(
        loader=PackageLoader("ticketrouter.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Of a name that turns its line round the page shows what it is.
        finalize=_finalized,
    )
    return environment.get_template(template).render(**values)


def _finalized(value: object) -> object:
    return _in_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _in_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
