"""Django's get_or_create, and an update where the ticket was there.

Law of this file: as its documentation has it, in `atomic()`. Django is configured here, for this process only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import URL

from benchmarks.cells import Arrival, Cell
from benchmarks.contenders import Send
from benchmarks.stands import TICKETS, WAITING


@cache
def _model() -> Any:
    """Configure Django and declare the model, when it is first asked for."""
    import django  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    # A test process may have Django at work already: the databases here have names of their own.
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {}},
            INSTALLED_APPS=[],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
        )
        django.setup()
    from django.db import models  # noqa: PLC0415

    class Ticket(models.Model):  # noqa: DJ008 - nobody prints one
        company_id = models.CharField(max_length=255)
        contact_id = models.CharField(max_length=255)
        connection_id = models.CharField(max_length=255)
        status = models.CharField(max_length=255)
        is_group = models.BooleanField()
        unread_messages = models.IntegerField()
        user_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 - as the column is
        queue_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 - as the column is
        created_at = models.DateTimeField()
        updated_at = models.DateTimeField()
        closed_at = models.DateTimeField(null=True)

        class Meta:
            app_label = "benchmarks"
            db_table = TICKETS
            managed = False

    return Ticket


def _settings(url: URL) -> dict[str, Any]:
    match url.get_backend_name():
        case "postgresql":
            place = {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": url.query["host"],
                "USER": url.username,
            }
            return place | {"NAME": url.database}
        case "mariadb":
            import pymysql  # noqa: PLC0415

            pymysql.install_as_MySQLdb()
            place = {
                "ENGINE": "django.db.backends.mysql",
                "HOST": url.query["unix_socket"],
                "USER": url.username,
            }
            return place | {"NAME": url.database, "OPTIONS": {"charset": "utf8mb4"}}
        case _:
            pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            options = {"init_command": pragmas, "transaction_mode": "IMMEDIATE", "timeout": WAITING}
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.database, "OPTIONS": options}


@contextmanager
def get_or_create(_cell: Cell, url: URL) -> Iterator[Send]:
    """Find or create by Django's ORM."""
    ticket_model = _model()
    from django.db import connections, transaction  # noqa: PLC0415
    from django.db.models import F  # noqa: PLC0415

    alias = f"{url.get_backend_name()}-{url.database}"
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: _settings(url)})[
        alias
    ]
    manager = ticket_model.objects.using(alias)

    def send(arrival: Arrival) -> Any:
        now = datetime.now(UTC)
        with transaction.atomic(using=alias):
            ticket, created = manager.get_or_create(
                company_id=str(arrival.company),
                contact_id=str(arrival.contact),
                connection_id=str(arrival.connection),
                status__in=["open", "pending"],
                defaults={
                    "status": "pending",
                    "is_group": False,
                    "unread_messages": 1,
                    "created_at": now,
                    "updated_at": now,
                },
            )
            if not created:
                manager.filter(pk=ticket.pk).update(unread_messages=F("unread_messages") + 1, updated_at=now)
        return ticket

    yield send
    connections[alias].close()
