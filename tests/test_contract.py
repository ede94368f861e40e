"""The clauses of the port, by the public kit, on every back end and driver, and under other rules and isolations."""

from __future__ import annotations

import pytest

from ticketrouter.testing import Store, TicketRepositoryContract


class TestEveryBackEnd(TicketRepositoryContract):
    @pytest.fixture
    def store(self, store: Store) -> Store:
        return store
