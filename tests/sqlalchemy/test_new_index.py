"""A unique index that the host adds while the application runs: what was known is forgotten, and the host runs again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import text

from tests.support.backends import SQL_BACKENDS, Backend, Databases, SqlStore
from tests.support.races import set_rule
from ticketrouter import (
    BlockedBySchemaError,
    InboundMessage,
    Outcome,
    RepositoryError,
    TicketKey,
    TicketRouter,
    UniqueRule,
)
from ticketrouter.sqlalchemy import TicketMapping, is_retryable

TABLE = "ticketrouter_tickets"
OTHER_TABLES = r"the tables are not what they were .* roll back and run the whole transaction again"
KEY = TicketKey("1", "c", "10")
HERE = InboundMessage("1", "c", "10")
WITH_ID = InboundMessage("1", "c", "10", message_id="m")
ELSEWHERE = InboundMessage("1", "c", "11")
"""The same contact on another connection."""
BATCH = [HERE, InboundMessage("1", "d", "10")]

ONE_PER_CONTACT = f"CREATE UNIQUE INDEX of_the_host ON {TABLE} (company_id, contact_id)"
ONE_PER_CONNECTION = f"CREATE UNIQUE INDEX of_the_host ON {TABLE} (company_id, contact_id, connection_id)"
ACTIVE = "status IN ('open', 'pending')"
ONE_ACTIVE_PER_CONTACT = {
    "mariadb": f"ALTER TABLE {TABLE} ADD COLUMN busy SMALLINT AS (IF({ACTIVE}, 1, NULL)) VIRTUAL, "
    "ADD UNIQUE INDEX of_the_host (company_id, contact_id, busy)",
    "other": f"CREATE UNIQUE INDEX of_the_host ON {TABLE} (company_id, contact_id) WHERE {ACTIVE}",
}
Routers = Callable[[TicketRouter], Any]


@frozen
class Act:
    """What meets a new index, and how it ends when it is done again.

    Args:
        before: what is done before the index is there.
        index: what makes it.
        act: what meets it.
        again: what comes of the same once what is known is known anew.
    """

    before: Routers
    index: str | dict[str, str]
    act: Routers
    again: object


def _closed_here(router: TicketRouter) -> None:
    router.close("1", router.resolve(HERE).ticket.id)


def _closed_elsewhere(router: TicketRouter) -> None:
    router.close("1", router.resolve(ELSEWHERE).ticket.id)


def _closed_elsewhere_and_open_here(router: TicketRouter) -> None:
    _closed_elsewhere(router)
    router.resolve(HERE)


def _closed_here_and_open_elsewhere(router: TicketRouter) -> None:
    _closed_here(router)
    router.resolve(ELSEWHERE)


def _ticket_id(router: TicketRouter) -> Any:
    return router.active_tickets("1", "c")[0].id


ACTS = {
    "message": Act(_closed_here, ONE_PER_CONNECTION, lambda r: r.resolve(HERE).outcome, Outcome.REOPENED),
    "message with id": Act(
        _closed_here, ONE_PER_CONNECTION, lambda r: r.resolve(WITH_ID).outcome, Outcome.REOPENED
    ),
    "message blocked": Act(
        _closed_elsewhere, ONE_PER_CONTACT, lambda r: r.resolve(HERE), BlockedBySchemaError
    ),
    "batch": Act(
        _closed_here,
        ONE_PER_CONNECTION,
        lambda r: [each.outcome for each in r.resolve_many(BATCH)],
        [Outcome.REOPENED, Outcome.CREATED],
    ),
    "batch with id": Act(
        _closed_here,
        ONE_PER_CONNECTION,
        lambda r: [each.outcome for each in r.resolve_many([WITH_ID, *BATCH[1:]])],
        [Outcome.REOPENED, Outcome.CREATED],
    ),
    "open": Act(_closed_elsewhere, ONE_PER_CONTACT, lambda r: r.open(KEY), BlockedBySchemaError),
    "transfer": Act(
        _closed_elsewhere_and_open_here,
        ONE_PER_CONNECTION,
        lambda r: r.transfer("1", _ticket_id(r), "11"),
        BlockedBySchemaError,
    ),
    "reopen": Act(
        _closed_here_and_open_elsewhere,
        ONE_ACTIVE_PER_CONTACT,
        lambda r: r.reopen("1", _ticket_id(r) - 1),
        BlockedBySchemaError,
    ),
}


class Host:
    """A host with one connection, whose schema is changed beside it."""

    def __init__(self, store: SqlStore, rule: UniqueRule) -> None:
        self.store = store
        with store.engine.begin() as connection:
            set_rule(connection, store.mapping, rule)

    def run(self, act: Routers) -> Any:
        with self.store.transaction() as repository:
            return act(TicketRouter(repository))

    def change(self, index: str | dict[str, str]) -> None:
        database = self.store.backend.database
        sql = index if isinstance(index, str) else index.get(database, index.get("other"))
        with self.store.engine.begin() as connection:
            connection.execute(text(str(sql)))

    def rows(self) -> list[Any]:
        return self.store.tickets()


@pytest.fixture
def host(backend: Backend, databases: Databases, rule: UniqueRule) -> Iterator[Host]:
    store = SqlStore(backend, databases.new(backend.database), TicketMapping.own(), **_options(backend))
    store.mapping.metadata.create_all(store.engine)
    yield Host(store, rule)
    store.dispose()
    databases.drop(store.url)


def _options(backend: Backend) -> dict[str, Any]:
    return {} if backend.database == "sqlite" else {"pool_size": 1, "max_overflow": 0}


every_driver = pytest.mark.parametrize("backend", SQL_BACKENDS, ids=lambda backend: backend.name)
without = pytest.mark.parametrize("rule", [UniqueRule.NONE])


@every_driver
@without
@pytest.mark.parametrize("name", ACTS)
def test_an_index_that_was_built_meanwhile(host: Host, name: str) -> None:
    """Whatever meets it is to be run again, keeps nothing, and then goes by the new rule."""
    act = ACTS[name]
    host.run(act.before)
    host.change(act.index)
    before = host.rows()
    with pytest.raises(RepositoryError, match=OTHER_TABLES) as caught:
        host.run(act.act)

    assert is_retryable(caught.value)
    assert before == host.rows()
    if isinstance(act.again, type):
        with pytest.raises(act.again):
            host.run(act.act)
    else:
        assert act.again == host.run(act.act)


@every_driver
@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONNECTION])
def test_a_stricter_index_than_the_known_one(host: Host) -> None:
    """What is known is a rule already, and not the one that refuses the row."""
    host.run(_closed_elsewhere)
    host.change(ONE_PER_CONTACT.replace("of_the_host", "of_the_contact"))
    with pytest.raises(RepositoryError, match=OTHER_TABLES):
        host.run(lambda router: router.resolve(HERE))
    with pytest.raises(BlockedBySchemaError):
        host.run(lambda router: router.resolve(HERE))


@every_driver
@without
def test_an_index_about_something_else(host: Host) -> None:
    """It may have been the rule, so once the host is to run again; then it is known for what it is."""
    host.run(lambda router: router.resolve(HERE))
    host.change(f"CREATE UNIQUE INDEX of_the_host ON {TABLE} (unread_messages)")
    other = InboundMessage("1", "other", "10")
    with pytest.raises(RepositoryError, match=OTHER_TABLES):
        host.run(lambda router: router.resolve(other))
    for _ in range(2):
        with pytest.raises(RepositoryError, match="the database refused a statement") as caught:
            host.run(lambda router: router.resolve(other))
        assert not caught.value.retryable
