"""Whether a transaction waits for a lock of another one, by what the server itself says."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine

_ASKED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # Not innodb_trx, which answers as before as long as it is asked more often than ten times a second.
    "mariadb": "SELECT variable_value FROM information_schema.global_status "
    "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'",
}


def somebody_waits(watcher: Connection) -> bool:
    """Tell whether somebody waits; the connection is one in AUTOCOMMIT."""
    return int(watcher.exec_driver_sql(_ASKED[watcher.dialect.name]).scalar_one()) > 0


def until_somebody_waits(engine: Engine, seconds: float = 30) -> None:
    """Return when somebody waits, and fail where nobody does in that time."""
    end = time.monotonic() + seconds
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
        while not somebody_waits(watcher):
            assert time.monotonic() < end, "nobody waits"
            time.sleep(0.01)
