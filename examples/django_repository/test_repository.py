"""The repository passes the contract that ours pass, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import django
import pytest
from attrs import asdict
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction

from tests.backends import Databases
from ticketrouter import ContentionError, InboundMessage, Ticket, TicketRepository, TicketRouter
from ticketrouter.errors import RepositoryError
from ticketrouter.testing import Store, TicketRepositoryContract

if not settings.configured:
    settings.configure(
        DATABASES={
            alias: {"ENGINE": "django.db.backends.postgresql", "NAME": "told by the fixture"}
            for alias in ("default", "second", "around")
        },
        INSTALLED_APPS=["examples.django_repository"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()

from examples.django_repository.models import RoutedMessage, TicketRow
from examples.django_repository.repository import FIELDS, DjangoTicketRepository


class DjangoStore(Store):
    """The tables of this test process; threads have connections of their own, as in Django's workers."""

    concurrent = True
    overlapping = True

    def transaction(self) -> AbstractContextManager[TicketRepository]:
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[TicketRepository]:
        # A transaction inside another one is another host's, so it has a connection of its own.
        alias = "second" if connections["default"].in_atomic_block else "default"
        try:
            with transaction.atomic(using=alias):
                yield DjangoTicketRepository(alias)
        finally:
            connections[alias].close()

    def insert(self, ticket: Ticket) -> Ticket:
        values = asdict(ticket)
        del values["id"]
        made = TicketRow.objects.using("around").create(
            **{name: values[name] for name in FIELDS if name != "id"}
        )
        return self._read(made)

    def tickets(self) -> list[Ticket]:
        return [self._read(row) for row in TicketRow.objects.using("around").order_by("id")]

    def overwrite(self, ticket: Ticket) -> None:
        values = {name: getattr(ticket, name) for name in FIELDS if name != "id"}
        TicketRow.objects.using("around").filter(id=ticket.id).update(**values)

    @staticmethod
    def _read(row: Any) -> Ticket:
        return Ticket(**{name: getattr(row, name) for name in FIELDS})

    def close(self) -> None:
        RoutedMessage.objects.all().delete()
        TicketRow.objects.all().delete()
        connections.close_all()


@pytest.fixture(scope="module")
def tables(databases: Databases) -> Iterator[None]:
    """A database with the tables, and Django told where it is."""
    url = databases.new("postgresql")
    told: dict[str, Any] = {
        "NAME": url.database,
        "USER": url.username,
        "HOST": url.query.get("host", url.host or ""),
    }
    told |= {"PASSWORD": url.password or "", "PORT": url.port or ""}
    connections.close_all()
    for alias in connections:
        connections[alias].settings_dict.update(told)
        connections.settings[alias].update(told)  # for the connections of other threads
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections.close_all()


@pytest.mark.usefixtures("tables")
class TestDjangoTicketRepository(TicketRepositoryContract):
    def new_store(self) -> DjangoStore:
        return DjangoStore()


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
