"""The servers, and the databases with so many tickets in them.

Law of this file: every commit is on disk before it is answered (on SQLite: WAL with synchronous NORMAL, as
`configure_sqlite` has it). Tickets are written by one statement of the database's own, never by the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, text

from benchmarks.cells import COMPANY, CONNECTION, FIRST_CONTACT, OTHER_CONNECTION, Rule, Stand
from tests.support import servers
from ticketrouter.sqlalchemy import TicketMapping, configure_sqlite

SETTINGS = {
    "postgresql": {
        "max_connections": "600",
        "shared_buffers": "2GB",
        "max_wal_size": "16GB",
        "checkpoint_timeout": "1h",
    },
    "mariadb": {
        "max-connections": "600",
        "innodb-buffer-pool-size": "2G",
        "innodb-log-file-size": "1G",
    },
    "sqlite": {},
}
"""Room for the tickets in memory, and no checkpoint in the middle of a comparison. The rest is as it comes."""

MAPPING = TicketMapping.own()
TICKETS = MAPPING.table.name
MESSAGE_IDS = MAPPING.message_ids.name
ANCHORS = MAPPING.anchors.name
KEY = "company_id, contact_id, connection_id"
ACTIVE = "status IN ('open', 'pending')"
WAITING = 30.0
"""How long a client of SQLite waits for another one, in seconds."""


class Stands:
    """Starts a server when its first stand is asked for, and fills each stand once."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._open = ExitStack()
        self._servers: dict[str, URL] = {}
        self._made: dict[Stand, URL] = {}

    def url(self, stand: Stand) -> URL:
        """Return where a stand is, made and filled.

        Raises:
            UnavailableError: if there is no such server on this machine.
        """
        if stand not in self._made:
            url = self._new(stand)
            with engine_of(url) as engine:
                fill(engine, stand)
            self._made[stand] = url
        return self._made[stand]

    def version(self, database: str) -> str:
        """Return what the server says of itself."""
        asked = "SELECT sqlite_version()" if database == "sqlite" else "SELECT version()"
        url = self._server(database) if database != "sqlite" else URL.create("sqlite")
        with engine_of(url) as engine, engine.connect() as connection:
            return str(connection.scalar(text(asked)))

    def close(self) -> None:
        """Stop the servers."""
        self._open.close()

    def _new(self, stand: Stand) -> URL:
        name = f"bench{len(self._made)}"
        if stand.database == "sqlite":
            return URL.create("sqlite", database=str(self._place / f"{name}.sqlite3"))
        server = self._server(stand.database)
        with engine_of(server, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return server.set(database=name)

    def _server(self, database: str) -> URL:
        if database not in self._servers:
            start = {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[database]
            settings = SETTINGS[database]
            self._servers[database] = self._open.enter_context(start(durable=True, settings=settings))
        return self._servers[database]


@contextmanager
def engine_of(url: URL, **options: object) -> Iterator[Engine]:
    """Yield an engine as a host makes one, and dispose of it."""
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine, busy_timeout=WAITING)
    yield engine
    engine.dispose()


def fill(engine: Engine, stand: Stand) -> None:
    """Make the tables with the stand's rule, and the tickets."""
    MAPPING.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in _rule(stand.rule, engine.dialect.name):
            connection.execute(text(statement))
        if stand.size:
            connection.execute(text(_tickets(stand, engine.dialect.name)))
    settle = {
        "postgresql": ["VACUUM ANALYZE", "CHECKPOINT"],
        "mariadb": [f"ANALYZE TABLE {TICKETS}"],
        "sqlite": ["PRAGMA wal_checkpoint(TRUNCATE)"],
    }
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in settle[stand.database]:
            connection.execute(text(statement))


def _rule(rule: Rule, dialect: str) -> list[str]:
    """Return what makes our own schema, which has the right rule, one with another rule."""
    on_mariadb = dialect == "mariadb"
    unique = f"uq_{TICKETS}_active"
    away = f"DROP INDEX {unique}" + (f" ON {TICKETS}" if on_mariadb else "")
    plain = f"CREATE INDEX {unique} ON {TICKETS} ({KEY}" + (
        ", active)" if on_mariadb else f") WHERE {ACTIVE}"
    )
    match rule:
        case Rule.ACTIVE:
            return []
        case Rule.ANCHOR:
            return [away, plain]
        case Rule.ONE:
            return [away, f"CREATE UNIQUE INDEX {unique} ON {TICKETS} ({KEY})"]


def _tickets(stand: Stand, dialect: str) -> str:
    """Return the statement that writes the tickets: all active; one contact in nine has a second one elsewhere."""
    last, contacts = stand.size - 1, stand.contacts
    series = {
        "postgresql": f"generate_series(0, {last}) AS series(i)",
        "mariadb": f"(SELECT seq AS i FROM seq_0_to_{last}) AS series",
        "sqlite": f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)",
    }[dialect]
    kind = "CHAR" if dialect == "mariadb" else "TEXT"
    moment = "'2026-01-01 00:00:00.000000" + ("+00'" if dialect == "postgresql" else "'")
    return (
        f"INSERT INTO {TICKETS} ({KEY}, status, is_group, unread_messages, created_at, updated_at) "
        f"SELECT '{COMPANY}', CAST({FIRST_CONTACT} + i - CASE WHEN i < {contacts} THEN 0 ELSE {contacts} END AS {kind}), "
        f"CASE WHEN i < {contacts} THEN '{CONNECTION}' ELSE '{OTHER_CONNECTION}' END, "
        f"'pending', FALSE, 0, {_time(dialect, moment)}, {_time(dialect, moment)} FROM {series}"
    )


def _time(dialect: str, moment: str) -> str:
    return f"TIMESTAMP WITH TIME ZONE {moment}" if dialect == "postgresql" else moment
