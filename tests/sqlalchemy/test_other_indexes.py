"""A unique index of the host's that is not about tickets in progress stays the host's own business."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, String, create_engine, text

from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from tests.support.races import set_rule
from ticketrouter import InboundMessage, RepositoryError, TicketRouter, UniqueRule
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite

RULES = [rule for rule in UniqueRule if rule is not UniqueRule.ONE_PER_CONTACT]


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_refusal_of_another_unique_index_is_no_lost_race(
    databases: Databases, backend: Backend, rule: UniqueRule
) -> None:
    """A new row that breaks the host's own unique index is a typed error at once, and nobody's ticket is taken."""
    url = databases.new(backend.database)
    engine = create_engine(url)
    if backend.database == "sqlite":
        configure_sqlite(engine)
    own = TicketMapping.own()
    own.table.append_column(Column("code", String(20), unique=True))
    own.metadata.create_all(engine)
    mapping = TicketMapping(own.table, on_create={"code": "always the same"})
    with engine.begin() as connection:
        set_rule(connection, own, rule)
    with engine.begin() as connection:
        first = TicketRouter(SQLAlchemyTicketRepository(connection, mapping)).resolve(
            InboundMessage(1, "a", 10)
        )
    with engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
        with pytest.raises(RepositoryError) as error:
            router.resolve(InboundMessage(1, "b", 10))
        connection.rollback()
        rows = connection.execute(text(f"SELECT id FROM {own.table.name}")).scalars().all()
    engine.dispose()
    databases.drop(url)

    assert not error.value.retryable
    assert [first.ticket.id] == rows
