"""What a host's transactions are on SQLite, and the settings without which they do not hold what they promise.

Law of this file: it touches engines that the caller hands over for it, never a host's behind its back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects.base import Level, Remark, Transactions, asked_for_autocommit
from ticketrouter.sqlalchemy.error_codes import Row
from ticketrouter.sqlalchemy.mapping import TicketMapping

BUSY_TIMEOUT = 5.0
_CONFIGURED = "ticketrouter.configure_sqlite"
"""By what a connection is known whose transactions begin so."""
_configured: WeakSet[Engine] = WeakSet()


def _lives(connection: Connection) -> bool:
    proxied: Any = connection.connection
    return bool(proxied.driver_connection.in_transaction)


def _is_autocommit(connection: Connection) -> bool:
    return asked_for_autocommit(connection) or _begins_nothing(connection)


def _begins_nothing(connection: Connection) -> bool:
    """Tell whether the driver of SQLite was asked to begin no transactions, and the host does not either."""
    driven: Any = connection.connection.driver_connection
    if driven.isolation_level is not None and getattr(driven, "autocommit", None) is not True:
        return False
    if not connection.in_transaction():
        connection.begin()  # as the next statement would: who listens for that, as `configure_sqlite`, begins now
    return not driven.in_transaction


def _begins_with_the_write_lock(connection: Connection) -> bool:
    return _CONFIGURED in connection.info


def _was_begun(connection: Connection, _row: Row) -> bool:
    return _begins_with_the_write_lock(connection) and not asked_for_autocommit(connection)


def _check_write_lock(connection: Connection) -> None:
    """Refuse a transaction by its engine: what a connection holds now says nothing of what it has read before."""
    if _begins_with_the_write_lock(connection) or _is_autocommit(connection):
        return
    raise MappingError(
        "this SQLite engine reads outside of its transactions, or before they hold the write lock: call "
        "ticketrouter.sqlalchemy.configure_sqlite(engine) before its first use, and leave BEGIN to it; where a Table was "
        "reflected by it before, engine.dispose() after that call"
    )


def _end(connection: Connection) -> None:
    """Roll back and give the connection to its pool: a database in memory would be gone with it."""
    with suppress(Exception):
        proxied: Any = connection.connection
        if proxied.driver_connection.in_transaction:
            proxied.cursor().execute("ROLLBACK")
        if not proxied.driver_connection.in_transaction:
            proxied.close()


def _remarks(connection: Connection, _mapping: TicketMapping) -> Iterator[Remark]:
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    told = f"the file is in journal mode {mode}: readers and the writer"
    advice = "call ticketrouter.sqlalchemy.configure_sqlite(engine) in the application"
    yield (
        Remark(Level.OK, f"{told} do not wait for each other")
        if mode == "wal"
        else Remark(Level.NOTE, f"{told} wait for each other", advice)
    )


TRANSACTIONS = Transactions(
    _lives,
    _remarks,
    _is_autocommit,
    _was_begun,
    begins_with_the_write_lock=_begins_with_the_write_lock,
    check_write_lock=_check_write_lock,
    end=_end,
)


def configure_sqlite(engine: Any, *, busy_timeout: float = BUSY_TIMEOUT, wal: bool = True) -> None:
    """Make an engine's transactions begin with the write lock, so that reading and writing are one step.

    Without it the driver reads outside the transaction, and a savepoint survives the rollback around it; so nothing is
    written over an engine that it was not called for. Called again it changes nothing.

    Args:
        engine: an Engine or AsyncEngine of SQLite, before its first use.
        busy_timeout: how long a transaction waits for another one, in seconds.
        wal: whether to keep a write-ahead log, which stays so in the file, so that readers and the writer do not
            wait for each other, and to sync it only at checkpoints: after a power failure the last commits may
            be missing.

    Raises:
        TypeError: if it is no engine.
        ValueError: if it is an engine of another database.
        MappingError: if it has a listener of its own for `begin`, which would begin what is begun already.

    Statements:
        `PRAGMA` on each new connection; `BEGIN IMMEDIATE` where SQLAlchemy begins a transaction.
    """
    sync_engine: Engine = getattr(engine, "sync_engine", engine)
    if not isinstance(sync_engine, Engine):
        raise TypeError(f"configure_sqlite takes an Engine or an AsyncEngine, not {type(engine).__name__}")
    if sync_engine.dialect.name != "sqlite":
        raise ValueError(f"configure_sqlite is for SQLite, not for {sync_engine.dialect.name}")
    if sync_engine in _configured:
        return
    if any(True for _ in sync_engine.dispatch.begin):
        raise MappingError(
            "this engine has a listener for 'begin' of its own, which would begin a second transaction in the first: "
            "remove it, and leave BEGIN to configure_sqlite"
        )

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
    _configured.add(sync_engine)
