"""SQLite: the settings without which its transactions do not hold what they promise.

Law of this file: it touches engines that the caller hands over for it, never a host's behind its back.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT = 5.0
_CONFIGURED = "ticketrouter.configure_sqlite"
"""By what a connection is known whose transactions begin so."""


def asked_for_autocommit(connection: Connection) -> bool:
    """Tell whether the host has asked SQLAlchemy for AUTOCOMMIT."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


def is_autocommit(connection: Connection) -> bool:
    """Tell whether each statement of this connection, of whatever database, is a transaction of its own."""
    if asked_for_autocommit(connection):
        return True
    if connection.dialect.name == "sqlite":
        return _begins_nothing(connection)
    # A host may also have asked the driver itself.
    driven: Any = connection.connection.dbapi_connection
    asked = getattr(driven, "get_autocommit", None)
    return bool(asked()) if callable(asked) else getattr(driven, "autocommit", False) is True


def _begins_nothing(connection: Connection) -> bool:
    """Tell whether the driver of SQLite was asked to begin no transactions, and the host does not either."""
    driven: Any = connection.connection.driver_connection
    if driven.isolation_level is not None and getattr(driven, "autocommit", None) is not True:
        return False
    if not connection.in_transaction():
        connection.begin()  # as the next statement would: who listens for that, as `configure_sqlite`, begins now
    return not driven.in_transaction


def begins_with_the_write_lock(connection: Connection) -> bool:
    """Tell whether every transaction of a connection keeps other writers away from its beginning."""
    return connection.dialect.name == "sqlite" and _CONFIGURED in connection.info


def warn_of_unsafe_mode(connection: Connection) -> None:
    """Warn where the driver of SQLite begins transactions by itself, too late."""
    driven: Any = connection.connection.dbapi_connection
    if driven.isolation_level is not None and getattr(driven, "autocommit", None) is not False:
        warnings.warn(
            "this SQLite engine reads outside of its transactions, and a savepoint may survive a rollback: call "
            "ticketrouter.sqlalchemy.configure_sqlite(engine) before its first use",
            stacklevel=_stacklevel(),
        )


def _stacklevel() -> int:
    """Return how far up the first frame is that is not of this library."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - what warnings itself goes by
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("ticketrouter"):
        frame, level = frame.f_back, level + 1
    return level


def configure_sqlite(engine: Any, *, busy_timeout: float = BUSY_TIMEOUT, wal: bool = True) -> None:
    """Make an engine's transactions begin with the write lock, so that reading and writing are one step.

    Without it the driver reads outside the transaction, and a savepoint survives the rollback around it.

    Args:
        engine: an Engine or AsyncEngine of SQLite, before its first use.
        busy_timeout: how long a transaction waits for another one, in seconds.
        wal: whether to keep a write-ahead log, which stays so in the file, so that readers and the writer do not
            wait for each other, and to sync it only at checkpoints: after a power failure the last commits may
            be missing.

    Raises:
        TypeError: if it is no engine.
        ValueError: if it is an engine of another database.

    Statements:
        `PRAGMA` on each new connection; `BEGIN IMMEDIATE` where SQLAlchemy begins a transaction.
    """
    sync_engine: Engine = getattr(engine, "sync_engine", engine)
    if not isinstance(sync_engine, Engine):
        raise TypeError(f"configure_sqlite takes an Engine or an AsyncEngine, not {type(engine).__name__}")
    if sync_engine.dialect.name != "sqlite":
        raise ValueError(f"configure_sqlite is for SQLite, not for {sync_engine.dialect.name}")

    def on_connect(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_CONFIGURED] = True
        # The driver must not begin transactions of its own: we do, below.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
        if wal:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        # In AUTOCOMMIT nobody would end what is begun here.
        if not asked_for_autocommit(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(sync_engine, "connect", on_connect)
    event.listen(sync_engine, "begin", on_begin)
