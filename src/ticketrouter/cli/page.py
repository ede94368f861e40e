"""Reports as pages of HTML, each one file that needs no other.

Law of this file: whatever a page shows is escaped; the templates stand beside it, and know no path and no network.
"""

from __future__ import annotations

from typing import Any

from ticketrouter.cli.fatal import FatalError


def page(template: str, **values: Any) -> str:
    """Return a template, filled.

    Args:
        template: its name among the templates.
        values: what it shows.

    Raises:
        FatalError: if the extra `report` is absent.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only a report needs it
    except ModuleNotFoundError:
        raise FatalError('a page needs the extra "report": pip install "ticketrouter[report]"') from None
    environment = Environment(
        loader=PackageLoader("ticketrouter.cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
