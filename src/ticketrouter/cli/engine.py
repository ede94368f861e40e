"""From `--database URL` to an engine: whatever is wrong with the URL, its driver or its file is one clear line.

Law of this file: no password leaves it. What is shown of a URL is what is known to be harmless; the engine's own URL
has no secret in it, so that nobody else can show one; and what a driver says is passed on only where no part of a
secret is in it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SAWarning, SQLAlchemyError

from ticketrouter.cli.fatal import ASSIGNED, FatalError
from ticketrouter.sqlalchemy.dialects import named as by_name
from ticketrouter.sqlalchemy.dialects.base import CommandLine

_EXAMPLE = "sqlite:///tickets.sqlite3 or postgresql+psycopg://user@host/database"
_PACKAGES = {
    "psycopg": '"ticketrouter[psycopg]"',
    "pymysql": '"ticketrouter[pymysql]"',
    "MySQLdb": "mysqlclient",
}
"""What to install, where it is not called as it is imported."""
_ALIAS_OF_POSTGRESQL = "postgres"
_HARMLESS = frozenset(
    {
        "application_name", "cache", "charset", "connect_timeout", "dbname", "host", "hostaddr", "mode", "port",
        "sslmode", "target_session_attrs", "timeout", "unix_socket", "uri", "user",
    }
)  # fmt: skip
"""The options of a URL whose values are shown: of any other one nobody knows that it is no secret."""
_HIDDEN = "***"
_LONGEST_HINT = 4
"""So many characters of a secret that stand together tell something of it."""
_NOT_SHOWN = "whose text is not shown, as a secret of the URL is in it"
_SECRET_NAME = re.compile(r"(?i)pass|pwd|secret|token|key|auth|cred")


def parsed_url(url: str) -> URL:
    """Return the URL that `--database` was given.

    Raises:
        FatalError: if it is none.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        # The text of the error may hold the password.
        raise FatalError(f"--database is no URL of a database, such as {_EXAMPLE}") from None
    if "@" in (found.host or ""):
        # Of a password with such a sign in it, the rest would be taken for the host, and shown.
        raise FatalError("--database: write an @ in a password as %40")
    return found


def _check_database(url: URL) -> None:
    """Refuse what we do not support before looking for its driver."""
    backend = url.get_backend_name()
    if backend == _ALIAS_OF_POSTGRESQL:
        raise FatalError(f"{named(url)}: write postgresql+psycopg://...")
    database = by_name(backend)
    if database is None:
        raise FatalError(f"{named(url)}: {backend} is not supported: SQLite, PostgreSQL or MariaDB")
    try:
        is_async = url.get_dialect().is_async
    except NoSuchModuleError:
        raise FatalError(f"{named(url)}: no such database or driver, {url.drivername!r}") from None
    if is_async:
        said = f"{url.drivername} is an asynchronous driver; use {database.command_line.driver}"
        raise FatalError(f"{named(url)}: {said}")


def engine_of(url: URL) -> Engine:
    """Return an engine for a run that writes.

    Raises:
        FatalError: if we do not know the database, or its driver is not here.
    """
    engine = _created(url)
    _opened(url).prepare(engine)
    return engine


def reading_engine(url: URL) -> Engine:
    """Return an engine whose transactions look at one state of the database, and can write nothing.

    Raises:
        FatalError: as `engine_of` does, and if there is no such file.
    """
    engine = _created(url)
    check_file(url)
    opened = _opened(url)
    opened.prepare_reading(engine)

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(opened.begin_reading)

    event.listen(engine, "begin", begin)
    return engine


def _opened(url: URL) -> CommandLine:
    """Return how a database is opened that was checked."""
    database = by_name(url.get_backend_name())
    assert database is not None  # noqa: S101 - `_check_database` has refused it
    return database.command_line


def _created(url: URL) -> Engine:
    _check_database(url)
    shown = _harmless(url)
    try:
        with warnings.catch_warnings():
            # An option that SQLite's driver does not know would be left out.
            warnings.simplefilter("error", SAWarning)
            engine = create_engine(shown)
            # The secrets are in the driver's arguments alone.
            arguments, options = engine.dialect.create_connect_args(url)
    except ModuleNotFoundError as error:
        with_driver = _opened(url).without_driver
        if with_driver is not None and "+" not in url.drivername:
            raise FatalError(f"{named(url)}: use {with_driver}") from None
        driver = error.name or url.get_driver_name()
        package = _PACKAGES.get(driver, driver)
        raise FatalError(f"{named(url)}: its driver is not installed: pip install {package}") from None
    except (SQLAlchemyError, SAWarning, ImportError, TypeError, ValueError) as error:
        raise FatalError(f"{named(url)}: {_said(error, url)}") from None

    def connect(dialect: Any, *_: object) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # an option's older name
                return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.Error as error:
            if _tells(str(error), url):
                raise type(error)(*_without_words(error)) from None
            raise
        except (TypeError, ValueError, LookupError) as error:
            # What a driver that is given a wrong option raises; its own errors are SQLAlchemy's to translate.
            raise FatalError(f"{named(url)}: {_said(error, url)}") from None

    event.listen(engine, "do_connect", connect)
    return engine


def _harmless(url: URL) -> URL:
    """Return the URL without whatever may be a secret."""
    kept = {name: value for name, value in url.query.items() if name in _HARMLESS}
    database = ASSIGNED.sub(rf"\1={_HIDDEN}", url.database) if url.database else url.database
    return URL.create(url.drivername, url.username, None, url.host, url.port, database, kept)


def _secrets(url: URL) -> Iterator[str]:
    """List what must not be shown: whole values, and of a password whatever tells something of it."""
    if url.password:
        yield from _parts(str(url.password))
    for name, value in url.query.items():
        for each in (value,) if isinstance(value, str) else value:
            if _SECRET_NAME.search(name):
                yield from _parts(each)
            elif name not in _HARMLESS and len(each) >= _LONGEST_HINT:
                yield each
    for part in (url.database, url.host, url.username):
        for found in ASSIGNED.finditer(part or ""):
            yield from _parts(found[2])


def _parts(secret: str) -> Iterator[str]:
    length = min(len(secret), _LONGEST_HINT)
    if length:
        yield from (secret[n : n + length] for n in range(len(secret) - length + 1))


def _tells(text: str, url: URL) -> bool:
    """Tell whether a text has a secret of the URL in it, or so much of one that it tells something."""
    for public in (url.username, url.host, url.database):
        # A password that is the same as one of these is nowhere to be hidden.
        if public and not ASSIGNED.search(public):
            text = re.sub(rf"(?<!\w){re.escape(public)}(?!\w)", "", text)
    text += unquote(text)
    return any(secret in text for secret in _secrets(url))


def _without_words(error: Exception) -> tuple[Any, ...]:
    """Return the arguments of a driver's error without its text: the code, if it has one."""
    first = next(iter(error.args), None)
    said = f"{type(error).__name__}, {_NOT_SHOWN}"
    return (first, said) if isinstance(first, int) else (said,)


def _said(error: BaseException, url: URL) -> str:
    """Return what an error says, or only its kind where it tells a secret."""
    text = str(error)
    return f"{type(error).__name__}, {_NOT_SHOWN}" if _tells(text, url) else text


def check_file(url: URL) -> None:
    """Refuse a file that is not there."""
    # SQLite would make an empty database of whatever name it is given.
    if _opened(url).is_file and url.database and not Path(url.database).exists():
        raise FatalError(f"{named(url)}: there is no such file; say which with --database URL")


def fail(url: URL, error: SQLAlchemyError) -> NoReturn:
    """Raise FatalError for what the database has said."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    raise FatalError(f"{named(url)}: {cause}") from error


def named(url: URL) -> str:
    """Return a URL as it may be shown: its password, and whatever else may be one, as asterisks."""
    hidden = {name: _HIDDEN for name in url.query if name not in _HARMLESS}
    shown = url.set(
        database=ASSIGNED.sub(rf"\1={_HIDDEN}", url.database) if url.database else url.database,
        query={**url.query, **hidden},
    )
    return shown.render_as_string(hide_password=True).replace("%2A%2A%2A", _HIDDEN)
