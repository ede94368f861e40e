"""Any sequence of operations on memory, against the kit's independent model: longer and more than elsewhere."""

from __future__ import annotations

from hypothesis import settings

from tests.support.memory_store import MemoryStore
from tests.support.words import SLEEPERS
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.testing import Store, TicketRepositoryMachine


class Desk(TicketRepositoryMachine):
    """The router on its memory, and the model, told the same things."""

    unique_rules = tuple(UniqueRule)
    other_statuses = ("rating",)

    statuses = StatusScheme()

    def new_store(self, unique_rule: UniqueRule) -> Store:
        return MemoryStore(unique_rule=unique_rule, statuses=self.statuses)


class DeskOfManyWords(Desk):
    """The same with final words, and with words that wake, those of new and reopened tickets among them."""

    statuses = SLEEPERS


TestDesk = Desk.TestCase
TestDeskOfManyWords = DeskOfManyWords.TestCase
TestDeskOfManyWords.settings = TestDesk.settings = settings(
    max_examples=settings().max_examples + 180, stateful_step_count=40
)
