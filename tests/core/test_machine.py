"""Any sequence of operations on memory, against the kit's independent model: longer and more than elsewhere."""

from __future__ import annotations

from hypothesis import settings

from tests.memory_store import MemoryStore
from ticketrouter import UniqueRule
from ticketrouter.testing import Store, TicketRepositoryMachine


class Desk(TicketRepositoryMachine):
    """The router on its memory, and the model, told the same things."""

    unique_rules = tuple(UniqueRule)
    other_statuses = ("rating",)

    def new_store(self, unique_rule: UniqueRule) -> Store:
        return MemoryStore(unique_rule=unique_rule)


TestDesk = Desk.TestCase
TestDesk.settings = settings(max_examples=settings().max_examples + 180, stateful_step_count=40)
