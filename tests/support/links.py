"""No link of the built site leads nowhere: `python -m tests.support.links docs/_build/html`.

Law of this file: it reads what was built, as a browser does, and asks no server.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """What a page offers and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) in {
                ("a", "href"),
                ("img", "src"),
                ("script", "src"),
                ("link", "href"),
            } and value:
                self.links.append(value)


def broken(site: Path) -> list[str]:
    """List the links of a site that lead to no page, or to no place in one."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site.resolve())}: {link}"
        for path, page in pages.items()
        for link in dict.fromkeys(page.links)
        if not _leads_somewhere(link, path, pages)
    ]


def _leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    if urlsplit(link).scheme:
        return True  # another site's business
    file, place = urldefrag(link)
    target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
    if target not in pages:
        return target.is_file()
    return not place or unquote(place) in pages[target].ids


def main(arguments: list[str]) -> int:
    """Look at a site.

    Returns:
        0 if every link leads somewhere, else 1.
    """
    site = Path(arguments[0])
    found = broken(site)
    print("\n".join(found) or f"every link of {len(list(site.rglob('*.html')))} pages leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
