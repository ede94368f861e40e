"""An empty store of any back end, under any unique rule."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.backends import Backend, Databases, SqlStore
from tests.support.memory_store import MemoryStore
from tests.support.races import set_rule
from tests.support.words import WORDS
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.testing import Store


def opening(
    databases: Databases,
    backend: Backend,
    opened: dict[UniqueRule, SqlStore],
    statuses: StatusScheme = StatusScheme(),  # noqa: B008 - a frozen value
) -> Callable[[UniqueRule], Store]:
    """Return what gives an empty store of a back end under a unique rule, each opened once."""

    def new_store(unique_rule: UniqueRule) -> Store:
        if backend.database == "memory":
            return MemoryStore(is_async=backend.is_async, unique_rule=unique_rule, statuses=statuses)
        if unique_rule not in opened:
            mapping = TicketMapping.own(statuses=statuses)
            store = opened[unique_rule] = SqlStore(backend, databases.new(backend.database), mapping)
            mapping.metadata.create_all(store.engine)
            with store.engine.begin() as connection:
                set_rule(connection, mapping, unique_rule)
        opened[unique_rule].empty()
        return opened[unique_rule]

    return new_store


def open_worded(
    databases: Databases, backend: Backend, statuses: StatusScheme = WORDS
) -> MemoryStore | SqlStore:
    """Open a back end with our own schema, and another scheme."""
    if backend.database == "memory":
        return MemoryStore(is_async=backend.is_async, statuses=statuses)
    store = SqlStore(backend, databases.new(backend.database), TicketMapping.own(statuses=statuses))
    store.mapping.metadata.create_all(store.engine)
    return store
