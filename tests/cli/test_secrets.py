"""No password is shown: by any command, wherever in the URL it stands, whatever is wrong with the connection.

Law of this file: a canary stands in each place of a URL where a secret may stand, and everything that a command
leaves is searched for it: both streams, files, logs at DEBUG, tracebacks and representations.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tests.support.backends import Databases
from ticketrouter import InboundMessage, TicketRouter, presets
from ticketrouter.cli import app
from ticketrouter.cli.engine import engine_of, named, parsed_url, reading_engine
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.store import Store
from ticketrouter.errors import TicketRouterError
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository

SECRET = "Zq9x'7Kw0v%Hj4t"
PARTS = [SECRET[n : n + 4] for n in range(len(SECRET) - 3)]
"""Not even so much of it is shown."""
_IN = quote(SECRET, safe="")
_HERE = "127.0.0.1:1"
URLS = {
    "user info": f"postgresql+psycopg://anna:{_IN}@{_HERE}/x",
    "user info, every letter encoded": "postgresql+psycopg://anna:"
    + "".join(f"%{ord(c):02x}" for c in SECRET)
    + f"@{_HERE}/x",
    "password": f"postgresql+psycopg://{_HERE}/x?user=anna&password={_IN}",
    "password, by an encoded name": f"postgresql+psycopg://{_HERE}/x?user=anna&p%61ssword={_IN}",
    "sslpassword": f"postgresql+psycopg://anna@{_HERE}/x?sslmode=disable&sslpassword={_IN}",
    "several hosts": f"postgresql+psycopg://anna:{_IN}@/x?host=127.0.0.1:1&host=localhost:2",
    "a mode that is none": f"postgresql+psycopg://anna:{_IN}@{_HERE}/x?sslmode=bogus",
    "an option that is none": f"postgresql+psycopg://anna:{_IN}@{_HERE}/x?nonsense={_IN}",
    "a number that is none": f"postgresql+psycopg://anna@{_HERE}/x?keepalives={_IN}",
    "a server's options": f"postgresql+psycopg://anna@{_HERE}/x?options=-c%20password%3D{_IN}",
    "a string of libpq": f"postgresql+psycopg:///host=127.0.0.1 port=1 password={_IN}",
    "no such host": f"postgresql+psycopg://anna:{_IN}@no-such-host.invalid/x",
    "MariaDB": f"mariadb+pymysql://anna:{_IN}@{_HERE}/x",
    "MariaDB, password": f"mariadb+pymysql://{_HERE}/x?user=anna&password={_IN}",
    "MariaDB, passwd": f"mariadb+pymysql://{_HERE}/x?user=anna&passwd={_IN}",
    "MariaDB, an option that is none": f"mariadb+pymysql://anna:{_IN}@{_HERE}/x?nonsense={_IN}",
    "MariaDB, a number that is none": f"mariadb+pymysql://anna:{_IN}@{_HERE}/x?read_timeout={_IN}",
    "SQLite, a key": f"sqlite:///no-such.sqlite3?key={_IN}",
    "SQLite, encrypted": f"sqlite+pysqlcipher://:{_IN}@/no-such.sqlite3",
    "no such driver": f"postgresql+nobody://anna:{_IN}@h/x?password={_IN}",
    "no such database": f"oracle://anna:{_IN}@h/x?password={_IN}",
    "the old name": f"postgres://anna:{_IN}@h/x",
    "asynchronous": f"postgresql+asyncpg://anna:{_IN}@h/x?password={_IN}",
    "no URL": f"postgresql+psycopg:/anna:{_IN}@h/x",
    "no port": f"postgresql+psycopg://anna:{_IN}@h:port/x",
    "not encoded": f"postgresql+psycopg://anna:{SECRET[:4]}@{SECRET[4:]}@h/x",
    "not encoded, a slash": f"postgresql+psycopg://anna:{SECRET[:4]}/{SECRET[4:]}@{_HERE}/x",
    "not encoded, a colon and no at": f"postgresql+psycopg://anna:{SECRET}/x",
}
COMMANDS = (
    ("audit", "--database", "{url}"),
    ("audit", "--json", "--database", "{url}"),
    ("audit", "--html", "page.html", "--database", "{url}", "--preset", "whaticket"),
    ("repair", "--plan", "plan.sql", "--database", "{url}"),
    ("schema", "--database", "{url}"),
    ("schema", "--plan", "schema.sql", "--database", "{url}"),
    ("explain", '{{"company_id": 1, "contact_id": 5, "connection_id": 10}}', "--database", "{url}"),
    ("route", "messages.jsonl", "--database", "{url}"),
)
FORGOTTEN = (
    ("{url}",),
    ("audit", "{url}"),
    ("audit", "--databse", "{url}"),
    ("audit", "--preset", "{url}"),
    ("audit", "--table", "{url}"),
    ("audit", "--html", "{url}"),
    ("audit", "--column", "{url}"),
    ("schema", "--dialect", "{url}"),
    ("schema", "--dialect", "sqlite", "--plan", "{url}"),
    ("repair", "--batch", "{url}", "--plan", "plan.sql"),
    ("repair", "--plan", "{url}"),
    ("route", "{url}"),
    ("route", "--policy", "{url}"),
    ("replay", "{url}", "--policy", "default"),
    ("replay", "messages.jsonl", "--policy", "default", "--close-after", "{url}"),
    ("replay", "messages.jsonl", "--policy", "default", "--differences", "{url}"),
    ("explain", "{url}"),
)
"""Where somebody may put it who forgets the name of the option."""


def leaks(*texts: str) -> list[str]:
    """List the parts of the secret that stand in texts, as they are or encoded."""
    everything = "\n".join((*texts, *map(unquote, texts)))
    return [part for part in PARTS if part in everything]


def run(
    arguments: tuple[str, ...], url: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, tuple[str, ...]]:
    """Run the program in this process, and return its exit status and everything that it has left."""
    monkeypatch.chdir(place)
    (place / "messages.jsonl").write_text('{"company_id": 1, "contact_id": 5, "connection_id": 10}\n')
    out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    monkeypatch.setattr(sys, "argv", ["ticketrouter", *(each.format(url=url) for each in arguments)])
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        status = app.run()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        monkeypatch.undo()
    files = [file.read_text(errors="replace") for file in place.rglob("*") if file.is_file()]
    names = [str(file.relative_to(place)) for file in place.rglob("*")]
    return status, (out.getvalue(), err.getvalue(), log.getvalue(), *files, *names)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_no_command_shows_a_password(
    arguments: tuple[str, ...], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the connection: one line, exit status 2, and nothing of the secret anywhere."""
    status, left = run(arguments, url, tmp_path, monkeypatch)

    assert leaks(*left) == []
    assert (status, left[1].count("\n"), "Traceback" in left[1]) == (2, 1, False), left[1]


# What is no URL may be the name of a file that is to be written.
_WRONG = [
    *((arguments, URLS[name]) for arguments in FORGOTTEN for name in ("user info", "password")),
    *(
        (each, f"host=h password={SECRET}")
        for each in FORGOTTEN
        if each[-2:-1] not in {("--plan",), ("--differences",)}
    ),
]


@pytest.mark.parametrize(("arguments", "url"), _WRONG)
def test_a_url_in_the_wrong_place_is_not_repeated(
    arguments: tuple[str, ...], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forgets the name of an option is told so without the password."""
    status, left = run(arguments, url, tmp_path, monkeypatch)

    assert leaks(*left) == []
    assert status == 2


@pytest.mark.parametrize(
    ("database", "changed"),
    [
        ("postgresql", {"password": SECRET, "database": "nope"}),
        ("postgresql", {"password": SECRET, "username": "nobody_here"}),
        ("mariadb", {"password": SECRET}),
        ("mariadb", {"password": SECRET, "username": "nobody_here"}),
    ],
    ids=["no such database", "no such user", "wrong password", "no such user of MariaDB"],
)
def test_a_server_that_refuses_hears_it_alone(
    databases: Databases,
    database: str,
    changed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong password, and a right one for what is not there, end in what the server says."""
    url = databases.new(database)
    text = url.set(**changed).render_as_string(hide_password=False)

    for arguments in COMMANDS:
        status, left = run(arguments, text, tmp_path, monkeypatch)

        assert leaks(*left) == []
        assert (status, left[1].count("\n")) == (2, 1), left[1]
    databases.drop(url)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_neither_engine_nor_error_holds_it(url: str) -> None:
    """What others may log: the engine, its URL, an error with its whole chain."""
    for make in (engine_of, reading_engine):
        try:
            engine = make(parsed_url(url))
        except FatalError as error:
            said = told(error)
        else:
            said = ""
        assert leaks(said) == []
        if said:
            continue
        assert leaks(repr(engine), str(engine.url), repr(engine.url), repr(engine.pool)) == []
        assert engine.url.password is None
        engine.dispose()
    with pytest.raises(FatalError) as caught:
        Store.open(url, presets.ALL["default"])
    assert leaks(told(caught.value)) == []


@pytest.mark.parametrize("name", ["user info", "password", "MariaDB", "MariaDB, password", "no such host"])
def test_an_error_of_the_library_tells_it_in_no_traceback(name: str) -> None:
    """A host's own engine keeps its URL; what the router raises over it does not show it."""
    engine = create_engine(URLS[name])

    with Session(engine) as session, pytest.raises(TicketRouterError) as caught:
        TicketRouter(SQLAlchemyTicketRepository(session)).resolve(InboundMessage(1, 5, 10))

    assert leaks(told(caught.value)) == []
    engine.dispose()


def told(error: BaseException) -> str:
    return "\n".join((str(error), repr(error), *traceback.format_exception(error)))


def test_what_is_harmless_is_shown() -> None:
    """Host, port, user and database tell which database it is; an option that nobody knows is not shown."""
    url = parsed_url("postgresql+psycopg://anna:x@h:5433/desk?host=/run&sslmode=require&password=y&service=z")

    assert named(url) == (
        "postgresql+psycopg://anna:***@h:5433/desk?host=%2Frun&password=***&service=***&sslmode=require"
    )


def test_a_password_that_is_the_user_s_name_hides_no_error(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What everybody may see is no secret: the server's own words are shown."""
    url = databases.new("postgresql")
    text = url.set(username="nobody_here", password="nobody_here").render_as_string(hide_password=False)

    _, left = run(("audit", "--database", "{url}"), text, tmp_path, monkeypatch)

    assert 'role "nobody_here" does not exist' in left[1]
    databases.drop(url)
