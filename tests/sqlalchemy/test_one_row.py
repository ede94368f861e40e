"""A write changes the one row that it names: also where the index that kept twins apart is gone meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.sqlalchemy.test_blocked import RIGHT, Desk
from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository


@pytest.fixture
def desk(backend: Backend, databases: Databases) -> Iterator[Desk]:
    made = Desk(databases.new(backend.database), RIGHT)
    yield made
    made.engine.dispose()
    databases.drop(made.url)


@pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("with_id", [False, True], ids=["without ids", "with ids"])
@pytest.mark.parametrize("many", [1, 6])
def test_of_twins_one_is_joined(desk: Desk, backend: Backend, many: int, with_id: bool) -> None:
    """The index is dropped between two messages of one connection, and a twin comes."""
    with desk.engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, desk.mapping))
        router.resolve(InboundMessage(1, 50, 10))
        connection.commit()
        on = "" if backend.database in {"sqlite", "postgresql"} else " ON desk"
        connection.execute(text(f"DROP INDEX u{on}"))
        connection.commit()
        desk.insert(5000, (1, 50, 10))
        before = desk.rows()[0]
        router.resolve_many(
            [InboundMessage(1, 50, 10, message_id=f"m{n}" if with_id else None) for n in range(many)]
        )
        connection.commit()
    changed = [new for old, new in zip(sorted(before), sorted(desk.rows()[0]), strict=True) if old != new]

    assert len(changed) == 1
