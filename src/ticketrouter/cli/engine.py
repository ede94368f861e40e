"""From `--database URL` to an engine: whatever is wrong with the URL, its driver or its file is one clear line.

Law of this file: it connects to nothing, and its errors never show a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from ticketrouter.cli.fatal import FatalError
from ticketrouter.sqlalchemy import configure_sqlite

_EXAMPLE = "sqlite:///tickets.sqlite3 or postgresql+psycopg://user@host/database"
_PACKAGES = {
    "psycopg": '"ticketrouter[psycopg]"',
    "pymysql": '"ticketrouter[pymysql]"',
    "MySQLdb": "mysqlclient",
}
"""What to install, where it is not called as it is imported."""
_ALIAS_OF_POSTGRESQL = "postgres"
_MARIADB = 'mariadb+pymysql://... and pip install "ticketrouter[pymysql]"'
_WITH_DRIVER = {
    "postgresql": 'postgresql+psycopg://... and pip install "ticketrouter[psycopg]"',
    "mysql": _MARIADB,
    "mariadb": _MARIADB,
}
"""What to use instead of a URL that names no driver."""
_SYNCHRONOUS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""The databases that there may be, and the synchronous driver of each."""


def parsed_url(url: str) -> URL:
    """Return the URL that `--database` was given.

    Raises:
        FatalError: if it is none.
    """
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text of the error may hold the password.
        raise FatalError(f"--database is no URL of a database, such as {_EXAMPLE}") from None


def _check_database(url: URL) -> None:
    """Refuse what we do not support before looking for its driver."""
    backend = url.get_backend_name()
    if backend == _ALIAS_OF_POSTGRESQL:
        raise FatalError(f"{named(url)}: write postgresql+psycopg://...")
    if backend not in _SYNCHRONOUS:
        raise FatalError(f"{named(url)}: {backend} is not supported: SQLite, PostgreSQL or MariaDB")
    try:
        is_async = url.get_dialect().is_async
    except NoSuchModuleError:
        raise FatalError(f"{named(url)}: no such database or driver, {url.drivername!r}") from None
    if is_async:
        said = f"{url.drivername} is an asynchronous driver; use {_SYNCHRONOUS[backend]}"
        raise FatalError(f"{named(url)}: {said}")


def engine_of(url: URL) -> Engine:
    """Return an engine for a run that writes.

    Raises:
        FatalError: if we do not know the database, or its driver is not here.
    """
    engine = _created(url)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    return engine


def reading_engine(url: URL) -> Engine:
    """Return an engine whose transactions look at one state of the database, and can write nothing.

    Raises:
        FatalError: as `engine_of` does, and if there is no such file.
    """
    engine = _created(url)
    check_file(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _forbid_writing)
    event.listen(engine, "begin", _begin_reading)
    return engine


_BEGIN_READING = {
    "sqlite": "BEGIN",
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "mariadb": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
}


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN_READING[connection.dialect.name])


def _forbid_writing(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA query_only = ON")


def _created(url: URL) -> Engine:
    _check_database(url)
    try:
        return create_engine(url)
    except ModuleNotFoundError as error:
        with_driver = _WITH_DRIVER.get(url.drivername)
        if with_driver is not None:
            raise FatalError(f"{named(url)}: use {with_driver}") from None
        driver = error.name or url.get_driver_name()
        package = _PACKAGES.get(driver, driver)
        raise FatalError(f"{named(url)}: its driver is not installed: pip install {package}") from None
    except (ArgumentError, ImportError, TypeError, ValueError) as error:
        raise FatalError(f"{named(url)}: {error}") from None


def check_file(url: URL) -> None:
    """Refuse a file of SQLite that is not there."""
    # SQLite would make an empty database of whatever name it is given.
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise FatalError(f"{named(url)}: there is no such file; say which with --database URL")


def fail(url: URL, error: SQLAlchemyError) -> NoReturn:
    """Raise FatalError for what the database has said."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    raise FatalError(f"{named(url)}: {cause}") from error


def named(url: URL) -> str:
    """Return a URL as it may be shown: without its password."""
    return url.render_as_string(hide_password=True)
