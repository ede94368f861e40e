"""The repository passes the contract that ours pass, on a real PostgreSQL and on SQLite; on MariaDB it could not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import pymysql
import pytest
from attrs import asdict
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.db import connections, transaction

from tests.support.backends import Databases
from ticketrouter import (
    ContentionError,
    InboundMessage,
    Reason,
    RepositoryError,
    Ticket,
    TicketRepository,
    TicketRouter,
)
from ticketrouter.decisions import Create
from ticketrouter.testing import Store, TicketRepositoryContract

if not settings.configured:
    settings.configure(
        DATABASES={
            alias: {"ENGINE": "django.db.backends.postgresql", "NAME": "told by the fixture"}
            for alias in ("default", "second", "around")
        }
        | {
            alias: {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "told by the fixture",
                "OPTIONS": {"transaction_mode": "IMMEDIATE"},
            }
            for alias in ("sqlite", "sqlite_around")
        }
        | {
            "sqlite_deferred": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "told by the fixture",
                "OPTIONS": {"timeout": 0.01},
            },
            "mariadb": {"ENGINE": "django.db.backends.mysql", "NAME": "told by the fixture"},
        },
        INSTALLED_APPS=["examples.django_repository"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()

from examples.django_repository.models import RoutedMessage, TicketRow
from examples.django_repository.repository import FIELDS, DjangoTicketRepository

ROOT = Path(__file__).parent.parent.parent


class DjangoStore(Store):
    """The tables of this test process; threads have connections of their own, as in Django's workers."""

    concurrent = True
    overlapping = True
    aliases = ("default", "second")
    around = "around"

    def transaction(self) -> AbstractContextManager[TicketRepository]:
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[TicketRepository]:
        # A transaction inside another one is another host's, so it has a connection of its own.
        first, second = self.aliases
        alias = second if connections[first].in_atomic_block else first
        try:
            with transaction.atomic(using=alias):
                yield DjangoTicketRepository(alias)
        finally:
            connections[alias].close()

    def insert(self, ticket: Ticket) -> Ticket:
        values = asdict(ticket)
        del values["id"]
        made = TicketRow.objects.using(self.around).create(
            **{name: values[name] for name in FIELDS if name != "id"}
        )
        return self._read(made)

    def tickets(self) -> list[Ticket]:
        return [self._read(row) for row in TicketRow.objects.using(self.around).order_by("id")]

    def overwrite(self, ticket: Ticket) -> None:
        values = {name: getattr(ticket, name) for name in FIELDS if name != "id"}
        TicketRow.objects.using(self.around).filter(id=ticket.id).update(**values)

    @staticmethod
    def _read(row: Any) -> Ticket:
        return Ticket(**{name: getattr(row, name) for name in FIELDS})

    def close(self) -> None:
        RoutedMessage.objects.using(self.around).all().delete()
        TicketRow.objects.using(self.around).all().delete()
        connections.close_all()


class SqliteStore(DjangoStore):
    """The same in a file, where a transaction that has begun is the only one that may write."""

    overlapping = False
    aliases = ("sqlite", "sqlite")
    around = "sqlite_around"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A file with the tables, and Django told where it is."""
    tell(
        ("sqlite", "sqlite_around", "sqlite_deferred"), NAME=tmp_path_factory.mktemp("desk") / "desk.sqlite3"
    )
    yield
    connections.close_all()


def tell(aliases: tuple[str, ...], **where: Any) -> None:
    """Tell Django where a database is, and make its tables."""
    point(aliases, **where)
    call_command("migrate", run_syncdb=True, verbosity=0, database=aliases[0])


def point(aliases: tuple[str, ...], **where: Any) -> None:
    """Tell Django where a database is."""
    connections.close_all()
    for alias in aliases:
        connections[alias].settings_dict.update(where)
        connections.settings[alias].update(where)  # for the connections of other threads


@pytest.fixture(scope="module")
def tables(databases: Databases) -> Iterator[None]:
    """A database with the tables, and Django told where it is."""
    url = databases.new("postgresql")
    tell(
        ("default", "second", "around"),
        NAME=url.database,
        USER=url.username,
        HOST=url.query.get("host", url.host or ""),
        PASSWORD=url.password or "",
        PORT=url.port or "",
    )
    yield
    connections.close_all()


@pytest.mark.usefixtures("tables")
class TestDjangoTicketRepository(TicketRepositoryContract):
    def new_store(self) -> DjangoStore:
        return DjangoStore()


@pytest.mark.usefixtures("file")
class TestOnSqlite(TicketRepositoryContract):
    def new_store(self) -> DjangoStore:
        return SqliteStore()


@pytest.fixture
def store(tables: None) -> Iterator[DjangoStore]:
    store = DjangoStore()
    yield store
    store.close()


HELLO = InboundMessage(1, "5511999999999", 10, message_id="m1")


def test_the_ticket_is_in_djangos_transaction(store: DjangoStore) -> None:
    """What the caller's atomic block undoes is undone whole."""
    with pytest.raises(ZeroDivisionError), store.transaction() as repository:
        TicketRouter(repository).resolve(HELLO)
        raise ZeroDivisionError

    assert [] == store.tickets()
    with store.transaction() as repository:
        assert "created" == TicketRouter(repository).resolve(HELLO).outcome


def test_without_a_transaction_nothing_is_done(store: DjangoStore) -> None:
    """In autocommit a savepoint would be a commit, so that is refused."""
    with pytest.raises(RepositoryError, match="atomic"):
        TicketRouter(DjangoTicketRepository()).resolve(HELLO)


def test_a_lock_that_is_not_given_asks_for_a_restart(store: DjangoStore) -> None:
    """What only a new transaction can cure says so (R11)."""
    with transaction.atomic(using="second"), connections["second"].cursor() as other:
        other.execute(f"LOCK TABLE {TicketRow._meta.db_table}")
        with pytest.raises(ContentionError), store.transaction() as repository:
            with connections["default"].cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '10ms'")
            repository.get(1, 1)


def test_a_second_writer_of_the_file_asks_for_a_restart(file: None) -> None:
    """On SQLite, where the file is another writer's, a write is refused with the same error."""
    with transaction.atomic(using="sqlite"):
        TicketRouter(DjangoTicketRepository("sqlite")).resolve(HELLO)
        with pytest.raises(ContentionError), transaction.atomic(using="sqlite_deferred"):
            TicketRouter(DjangoTicketRepository("sqlite_deferred")).resolve(HELLO)
        transaction.set_rollback(True, using="sqlite")
    connections.close_all()


def test_mariadb_would_let_a_second_active_ticket_in(databases: Databases) -> None:
    """Django leaves the constraint out with no more than a warning, and then nothing decides the race."""
    url = databases.new("mariadb")
    where = (url.database, url.username, url.query.get("unix_socket", url.host or ""))
    # A process of its own: to Django PyMySQL must pass for another driver, and is two from then on.
    told = f"from {__name__} import on_mariadb; on_mariadb{where!r}"

    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=False)
    databases.drop(url)

    assert "warned: True, tickets: 2\n" == done.stdout, done.stderr


def on_mariadb(name: str, user: str, host: str) -> None:
    """Create two tickets on one key, and print whether Django has warned of that, and how many there are."""
    pymysql.install_as_MySQLdb()
    point(("mariadb",), NAME=name, USER=user, HOST=host)
    with connections["mariadb"].schema_editor() as editor:
        editor.create_model(TicketRow)
    with transaction.atomic(using="mariadb"):
        made = {
            DjangoTicketRepository("mariadb")
            .commit(Create(HELLO.key, datetime.now(UTC), Reason.REQUESTED))
            .id
            for _ in range(2)
        }
    connections.close_all()
    warned = "models.W036" in {each.id for each in checks.run_checks(databases=["mariadb"])}
    print(f"warned: {warned}, tickets: {len(made)}")
