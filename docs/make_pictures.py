"""Make the pictures that are taken of a page in a browser: `make pictures`.

Law of this file: what a page of the documentation shows is photographed from the real thing, never drawn for it.
"""

from __future__ import annotations

from pathlib import Path
from subprocess import run
from sys import executable
from tempfile import TemporaryDirectory

from tests.support.browser import browser

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "how-to"
REPLAY = (
    *("replay", "examples/messages.jsonl", "--policy", "default", "--policy", "chatwoot-single"),
    *("--close-after", "24h", "--html"),
)


def main() -> None:
    """Photograph the swim lanes of a contact, light and dark."""
    with TemporaryDirectory() as directory, browser() as window:
        page = Path(directory) / "page.html"
        run((executable, "-m", "ticketrouter.cli", *REPLAY, page), check=True, cwd=ROOT)  # noqa: S603
        for dark in (False, True):
            window.show(page, width=860, dark=dark)
            window.photograph("#one", TARGET / f"replay-{'dark' if dark else 'light'}.png")


if __name__ == "__main__":
    main()
