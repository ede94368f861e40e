"""The page of a replay: looked at in a browser, with ids that try to break out of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.browser import DESKTOP, PHONE
from tests.support.program import Finished, lines, message, run, ticketrouter, without
from ticketrouter import InboundMessage, Policy
from ticketrouter.cli.replay import contacts as contacts_module
from ticketrouter.cli.replay.contacts import Contacts
from ticketrouter.cli.replay.timeline import MOST_SLOTS, Level, Timeline
from ticketrouter.replay import Replay

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIL = "</script><img src=x onerror=\"document.title='broken'\"><!--"
TWO = ("--policy", "default", "--policy", "whaticket-saas")


def sent(number: int, hours: float, **others: object) -> dict[str, object]:
    moment = (NOON + hours * HOUR).isoformat()
    return message(f"m{number}", sent_at=moment, **others)


LOG = [
    sent(1, 0),
    sent(2, 1, connection_id=13),
    sent(3, 2, contact_id=EVIL, connection_id=EVIL),
    sent(4, 3, contact_id="quiet", kind="notice"),
    sent(5, 9),
    sent(6, 10, connection_id=13),
    {**sent(7, 11, contact_id=EVIL, connection_id=EVIL), "message_id": EVIL},
]


def replay(directory: Path, *arguments: str, log: list[dict[str, object]] = LOG) -> Finished:
    (directory / "log.jsonl").write_bytes(lines(log))
    return ticketrouter("replay", "log.jsonl", *TWO, "--html", "page.html", *arguments, cwd=directory)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    done = replay(directory, "--close-after", "6h")
    assert (done.status, done.err) == (0, "")
    return directory / "page.html"


class TestInABrowser:
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [PHONE, DESKTOP])
    def test_it_draws_without_a_word_and_asks_for_nothing(self, window, written, width, dark):
        """Nothing on the console, no request but the page itself, no sideways scrolling; ids stay text."""
        window.requested()

        window.show(written, width=width, dark=dark)

        assert window.complaints() == []
        assert {each.partition("#")[0] for each in window.requested() if not each.startswith("data:")} == {
            written.as_uri()
        }
        assert window.ask("document.documentElement.scrollWidth") <= width
        assert window.hard_to_read() == []
        assert window.ask("document.title") == "Replay of log.jsonl"
        assert window.ask("document.querySelectorAll('img').length") == 0
        assert window.ask("document.querySelectorAll('.plot svg[aria-label], .plot [aria-label]').length") > 6
        assert window.ask("[...document.querySelectorAll('.plot svg')].every(s => s.clientHeight > 40)")

    def test_colours_follow_the_scheme(self, window, written):
        """The text of the pictures is dark on light and light on dark."""
        found = []
        for dark in (False, True):
            window.show(written, dark=dark)
            found.append(
                window.ask("getComputedStyle(document.querySelector('#timeline .role-axis-label text')).fill")
            )

        assert found == ["rgb(87, 96, 106)", "rgb(165, 174, 185)"]

    def test_the_contact_is_chosen(self, window, written):
        """Lanes, tickets and, if asked for, the differences are those of the contact that was chosen."""
        window.show(written)
        tickets = "[...document.querySelectorAll('#tickets tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        shown = "[...document.querySelectorAll('#differences tbody tr')].filter(r => !r.hidden).length"

        assert window.ask("[...document.querySelectorAll('#contact option')].map(o => o.textContent)") == [
            "ana (company 1): 2 of 4 messages differ",
            f"{EVIL} (company 1): 1 of 2 messages differ",
            "quiet (company 1): 0 of 1 messages differ",
        ]
        assert window.ask(tickets) == [
            ["default", "#1", "10", "2026-11-23 12:00:00", "2026-11-23 18:00:00"],
            ["default", "#2", "13", "2026-11-23 13:00:00", "2026-11-23 19:00:00"],
            ["default", "#4", "10", "2026-11-23 21:00:00", "still active"],
            ["default", "#5", "13", "2026-11-23 22:00:00", "still active"],
            ["whaticket-saas", "#1", "10", "2026-11-23 12:00:00", "2026-11-23 18:00:00"],
            ["whaticket-saas", "#2", "13", "2026-11-23 13:00:00", "2026-11-23 19:00:00"],
            ["whaticket-saas", "#1", "10", "2026-11-23 21:00:00", "still active"],
            ["whaticket-saas", "#2", "13", "2026-11-23 22:00:00", "still active"],
        ]
        assert window.ask(shown) == 3
        window.ask("document.querySelector('#only').click()")
        assert window.ask(shown) == 2

        window.ask("document.querySelectorAll('#differences button')[2].click()")
        window.wait("document.querySelectorAll('#tickets tbody tr').length === 4")
        window.wait(f"{shown} === 1")
        assert window.ask("document.querySelector('#contact').value") == "1"
        assert {row[2] for row in window.ask(tickets)} == {EVIL}
        window.wait(
            "[...document.querySelectorAll('#lanes-0 text')].some(t => t.textContent.startsWith('</scr'))"
        )

        choose = "c => { c.value = '2'; c.dispatchEvent(new Event('change')) }"
        window.ask(f"({choose})(document.querySelector('#contact'))")
        window.wait("document.querySelectorAll('#tickets tbody tr').length === 0")
        assert window.complaints() == []

    def test_a_log_without_messages(self, window, tmp_path):
        """There is nothing to choose and nothing to draw, and that is no error."""
        replay(tmp_path, log=[])

        window.show(tmp_path / "page.html")

        assert window.complaints() == []


def test_the_page_holds_no_markup_of_the_log(written):
    """What an id of the log contains stands escaped, in the text and in the data."""
    page = written.read_text(encoding="utf-8")

    assert "<img" not in re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
    assert page.lower().count("</script") == 3
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data)["contacts"][1]["contact"] == EVIL


def test_the_page_does_not_tell_where_the_log_lies(written, tmp_path):
    """It is called by the name of the file, or standard input."""
    ticketrouter("replay", str(written.parent / "log.jsonl"), *TWO, "--html", "page.html", cwd=tmp_path)
    ticketrouter("replay", "-", *TWO, "--html", "stdin.html", cwd=tmp_path)

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>Replay of log.jsonl</title>" in page
    assert str(written.parent) not in page
    assert "<h1>Replay of standard input</h1>" in (tmp_path / "stdin.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("absent", ["jinja2", "vl_convert"])
def test_the_page_needs_its_extra(tmp_path, absent):
    """Without either of its parts one line says what to install, before anything is read, and no file is made."""
    (tmp_path / "log.jsonl").write_text("no message\n")
    arguments = ("replay", "log.jsonl", "--strict", *TWO, "--html", "page.html")

    done = run(without(absent, *arguments), cwd=tmp_path)

    assert (
        done.err
        == 'ticketrouter: replay --html needs the extra "report": pip install "ticketrouter[report]"\n'
    )
    assert done.status == 2
    assert not (tmp_path / "page.html").exists()


# --- what is watched for the page -----------------------------------------------------------------------------


def inbound(hours: float, **others: object) -> InboundMessage:
    fields = message(None, sent_at=NOON + hours * HOUR, **others)
    return InboundMessage(**fields)


def test_the_timeline_knows_every_peak():
    """However long the log, there are few levels, and no lull hides the most that were active at once."""
    replay = Replay({"a": Policy(), "b": Policy()}, close_after=HOUR)
    timeline = Timeline(2)
    for number in range(3_000):
        burst = 30 if number == 1_234 else 1
        for each in range(burst):
            timeline.watch(1, replay.route(inbound(0.7 * number, contact_id=f"c{number} {each}")))

    levels = timeline.levels(1, NOON + 2_100 * HOUR)

    longest = replay.totals["b"].longest
    assert max(level.active for level in levels) == longest.count == 31
    assert len(levels) <= 2 * MOST_SLOTS + 1
    assert longest.at is not None
    peaks = [longest.at - level.at for level in levels if level.active == 31]
    assert max(map(abs, peaks)) < 20 * HOUR
    assert levels == sorted(levels, key=lambda level: level.at)
    assert levels[-1] == Level(NOON + 2_100 * HOUR, replay.totals["b"].active)


def test_a_timeline_of_nothing_is_empty():
    """No messages, no levels."""
    assert Timeline(1).levels(0, NOON) == []


def test_contacts_with_differences_come_first_and_are_bounded(monkeypatch):
    """Most differences first, then most messages; of each the first messages, and the tickets that these opened."""
    monkeypatch.setattr(contacts_module, "MOST_CONTACTS", 2)
    monkeypatch.setattr(contacts_module, "MOST_MESSAGES", 3)
    replay = Replay({"a": Policy(), "b": Policy(scope="contact")}, close_after=HOUR)
    contacts = Contacts()
    for number in range(4):
        for name, connection_id in (("busy", 10), ("busy", 10), ("differs", number % 2)):
            step = replay.route(inbound(number / 2, contact_id=name, connection_id=connection_id))
            contacts.watch(number, step)
        contacts.watch(number, replay.route(inbound(number / 2, contact_id=f"once {number}")))

    found = contacts.chosen()
    contacts.close()

    assert [(each.contact, each.differences, each.messages) for each in found] == [
        ("differs", 3, 4),
        ("busy", 0, 8),
    ]
    assert [len(each.marks) for each in found] == [3, 3]
    spans = [(span.policy, span.connection, span.begin, span.end) for span in found[0].spans]
    noon = round(NOON.timestamp() * 1000)
    hour = 3_600_000
    assert spans == [
        (0, 0, noon, noon + hour),
        (1, 0, noon, None),
        (0, 1, noon + hour // 2, noon + 3 * hour // 2),
        (0, 0, noon + hour, None),
    ]
