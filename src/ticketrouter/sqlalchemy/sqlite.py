"""SQLite: the settings without which its transactions do not hold what they promise.

Law of this file: it touches engines that the caller hands over for it, never a host's behind its back.
"""

from __future__ import annotations

import warnings
from typing import Any

from sqlalchemy import Connection, Engine, event

BUSY_TIMEOUT = 5.0


def is_autocommit(connection: Connection) -> bool:
    """Tell whether each statement of this connection, of whatever database, is a transaction of its own."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


def warn_of_unsafe_mode(connection: Connection) -> None:
    """Warn where the driver of SQLite begins transactions by itself, too late."""
    driven: Any = connection.connection.dbapi_connection
    if driven.isolation_level is not None and getattr(driven, "autocommit", None) is not False:
        warnings.warn(
            "this SQLite engine reads outside of its transactions, and a savepoint may survive a rollback: call "
            "ticketrouter.sqlalchemy.configure_sqlite(engine) before its first use",
            stacklevel=2,
        )


def configure_sqlite(engine: Any, *, busy_timeout: float = BUSY_TIMEOUT, wal: bool = True) -> None:
    """Make an engine's transactions begin with the write lock, so that reading and writing are one step.

    Without it the driver reads outside the transaction, and a savepoint survives the rollback around it.

    Args:
        engine: an Engine or AsyncEngine of SQLite, before its first use.
        busy_timeout: how long a transaction waits for another one, in seconds.
        wal: whether to keep a write-ahead log, so that readers and the writer do not wait for each other.

    Raises:
        ValueError: if the engine is of another database.

    Statements:
        `PRAGMA` on each new connection; `BEGIN IMMEDIATE` where SQLAlchemy begins a transaction.
    """
    sync_engine: Engine = getattr(engine, "sync_engine", engine)
    if sync_engine.dialect.name != "sqlite":
        raise ValueError(f"configure_sqlite is for SQLite, not for {sync_engine.dialect.name}")

    def on_connect(dbapi_connection: Any, _record: object) -> None:
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
        if not is_autocommit(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(sync_engine, "connect", on_connect)
    event.listen(sync_engine, "begin", on_begin)
