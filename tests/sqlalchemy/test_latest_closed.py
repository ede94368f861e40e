"""Which closed ticket is the last one, where the columns of its times are of different kinds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, create_engine

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import TicketKey
from ticketrouter.decisions import Lookup
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
def test_closing_in_milliseconds_counts_before_the_last_change(
    databases: Databases, backend: Backend
) -> None:
    """A ticket closed later is the last one, though another one was touched after it; one without time comes last."""
    table = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("contact_id", Integer, nullable=False),
        Column("connection_id", Integer, nullable=False),
        Column("status", String(20), nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False),
        Column("closed_at", BigInteger),
    )
    mapping = TicketMapping(
        table,
        company_id=None,
        only_company=1,
        is_group=None,
        unread_messages=None,
        user_id=None,
        queue_id=None,
        created_at=None,
        epoch=timedelta(milliseconds=1),
    )
    url = databases.new(backend.database)
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    table.metadata.create_all(engine)
    mapping.metadata.create_all(engine)
    noon = int(NOON.timestamp() * 1000)
    rows = [(1, 0, noon + 2), (2, 1, noon + 1), (3, 2, None)]
    with engine.begin() as connection:
        for id_, minutes, closed_at in rows:
            updated_at = (NOON + timedelta(minutes=minutes)).replace(
                tzinfo=UTC if backend.database == "postgresql" else None
            )
            values = {"contact_id": 5, "connection_id": 10, "status": "closed", "closed_at": closed_at}
            connection.execute(table.insert().values(id=id_, updated_at=updated_at, **values))
    with engine.begin() as connection:
        found = SQLAlchemyTicketRepository(connection, mapping).load(Lookup.at(TicketKey(1, 5, 10)))
    engine.dispose()
    databases.drop(url)

    assert found.latest_closed is not None
    assert (1, NOON + timedelta(milliseconds=2)) == (found.latest_closed.id, found.latest_closed.closed_at)
