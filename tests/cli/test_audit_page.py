"""The page of an audit: looked at in a browser, on a desk with every kind of finding and a status that tries to break out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_audit import BY_CONTACT, IDS, LINE, SOUND, made
from tests.support import desk
from tests.support.browser import DESKTOP, PHONE, Browser
from tests.support.program import ticketrouter

EVIL = "<script>document.title=1</script>"
LONG = "w" * 200
AMISS = (
    f"UPDATE \"Tickets\" SET status = '{EVIL}' WHERE id = 1",
    f"UPDATE \"Tickets\" SET status = '{LONG}' WHERE id = 2",
    'UPDATE "Tickets" SET "contactId" = NULL WHERE id = 190',
    'UPDATE "Tickets" SET "whatsappId" = 3 WHERE id = 180',
)


@pytest.fixture(scope="module")
def unsound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(tmp_path_factory.mktemp("unsound"), desk.Size(200, 12), *AMISS, status=1)


def page_of(place: Path, size: desk.Size, *statements: str, status: int) -> Path:
    url = made(place, size, *statements)
    done = ticketrouter("audit", "--database", url, *LINE, "--html", "page.html", cwd=place)
    assert (done.status, done.err) == (status, "")
    return place / "page.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_it_can_be_read_and_asks_for_nothing(window: Browser, unsound: Path, width: int, dark: bool) -> None:
    """Nothing on the console, no request but the page itself, no sideways scrolling, no faint text; data stay text."""
    window.requested()

    window.show(unsound, width=width, dark=dark, draws=False)

    assert window.complaints() == []
    assert set(window.requested()) == {unsound.as_uri()}
    assert window.ask("document.documentElement.scrollWidth") <= width
    assert window.hard_to_read() == []
    assert window.ask("document.title") == "Audit of Tickets"
    assert EVIL in window.ask("[...document.querySelectorAll('td')].map(cell => cell.textContent)")


def test_colours_follow_the_scheme(window: Browser, unsound: Path) -> None:
    """Dark on light, and light on dark."""
    found = []
    for dark in (False, True):
        window.show(unsound, dark=dark, draws=False)
        found.append(window.ask("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"))

    assert found == [["rgb(28, 33, 40)", "rgb(244, 245, 247)"], ["rgb(232, 235, 239)", "rgb(15, 19, 24)"]]


def test_findings_come_first(window: Browser, unsound: Path) -> None:
    """Then notes, then what is right; commands are set as commands."""
    window.show(unsound, draws=False)

    levels = window.ask("[...document.querySelectorAll('section')].map(each => each.className)")
    assert levels == sorted(levels, key=("finding", "note", "ok").index)
    assert set(levels) == {"finding", "note", "ok"}
    commands = window.ask("[...document.querySelectorAll('code')].map(each => each.textContent)")
    assert {"ticketrouter schema", "ticketrouter repair"} <= set(commands)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_table_that_is_wider_than_the_page_is_reached_from_the_keyboard(
    window: Browser, unsound: Path, width: int
) -> None:
    """Whatever scrolls sideways can be focused, and has a name."""
    window.show(unsound, width=width, draws=False)

    wide = (
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth && e.clientWidth > 0)"
    )
    assert (
        window.ask(f"{wide}.filter(e => e.tabIndex !== 0 || !e.getAttribute('aria-labelledby')).length") == 0
    )


def test_a_sound_desk_is_green(window: Browser, tmp_path: Path) -> None:
    """The verdict and every check have the colour of what is right."""
    page = page_of(tmp_path, desk.Size(200, 0), SOUND, BY_CONTACT, IDS, status=0)

    window.show(page, draws=False)

    colour = "getComputedStyle(document.querySelector('{}')).borderLeftColor"
    assert (
        window.ask(colour.format(".verdict")) == window.ask(colour.format("section.ok")) == "rgb(26, 127, 55)"
    )
    assert window.ask("document.querySelectorAll('section.finding').length") == 0
