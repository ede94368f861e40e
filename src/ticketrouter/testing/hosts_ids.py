"""The ids of a host, where the kit speaks of its own: what a repository is told, and what it answers.

Law of this file: only ids are exchanged, each for one that is always the same; what is decided, and what is kept, is
left as it is. The id of a ticket is the host's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import attrs
from attrs import frozen

from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup, Snapshot, Write
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import StatusScheme, Ticket
from ticketrouter.moves import Move
from ticketrouter.repository import TicketRepository

Exchange: TypeAlias = Callable[[str, Id], Id]
"""Gives, for the name of a field of a ticket and an id of one side, the id that the other side has for it."""

PARTS = ("company_id", "contact_id", "connection_id", "user_id", "queue_id")
"""The fields of a ticket that name something of the host's."""
_PART_OF: dict[str, str] = {
    "group_id": "contact_id",
    **{part: part for part in PARTS},
    **{f"{when}_{part}": part for when in ("old", "new") for part in PARTS},
}
FIELDS: tuple[str, ...] = tuple(each.name for each in attrs.fields(Ticket) if each.eq)
"""The fields of a ticket, in order."""
ABILITIES = ("load_many", "commit_many", "forget_messages", "survey_move", "commit_move")
"""What a repository may do besides."""


@frozen(eq=False)
class KeptTicket(Ticket):
    """A ticket as far as its table keeps it: what the table has no column for has no part in equality.

    Args:
        lacks: the fields without a column.
    """

    lacks: frozenset[str] = attrs.field(default=frozenset(), kw_only=True, eq=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in FIELDS if name not in self.lacks)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.id, self.key))


def exchanged(value: Any, exchange: Exchange, a_ticket: Callable[..., Ticket] = Ticket) -> Any:
    """Return a value of the port with other ids in it, as deep as it goes.

    Args:
        value: anything; what has no ids is returned as it is.
        exchange: gives the other ids.
        a_ticket: makes the tickets in it, of their fields by name.
    """

    def deeper(value: Any) -> Any:
        return exchanged(value, exchange, a_ticket)

    def of_field(value: Any, name: str) -> Any:
        found, part = getattr(value, name), _PART_OF.get(name)
        return deeper(found) if part is None or found is None else exchange(part, found)

    match value:
        case tuple() | list():
            return type(value)(map(deeper, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case Move():
            ids = (exchange(value.part, each) for each in (value.source_id, value.target_id))
            return Move(value.part, exchange("company_id", value.company_id), *ids)
        case Ticket():
            return a_ticket(**{name: of_field(value, name) for name in (*FIELDS, "change")})
        case _ if attrs.has(type(value)):
            kind: Any = type(value)
            changes: Any = {alias: of_field(value, name) for name, alias in _fields_of(kind)}
            return attrs.evolve(value, **changes)
        case _:
            return value


@cache
def _fields_of(kind: Any) -> list[tuple[str, str]]:
    return [(each.name, each.alias or each.name) for each in attrs.fields(kind) if each.init]


class InKitsIds:
    """A repository that is told the host's ids, and whose answers have the kit's.

    Args:
        repository: the repository; whatever optional abilities it has, this has too.
        to_host: what the host has for an id of the kit's.
        answered: what the kit has for a value of the host's.
    """

    def __init__(
        self, repository: TicketRepository, to_host: Exchange, answered: Callable[[Any], Any]
    ) -> None:
        self._repository = repository
        self._to_host = to_host
        self._answered = answered
        for name in ABILITIES:
            if (ability := getattr(repository, name, None)) is not None:
                setattr(self, name, partial(self._asked, ability))
        if (may_be_dirty := getattr(repository, "reads_may_be_dirty", None)) is not None:
            self.reads_may_be_dirty: bool = may_be_dirty

    @property
    def statuses(self) -> StatusScheme:
        """See `TicketRepository.statuses`."""
        return self._repository.statuses

    def load(self, lookup: Lookup) -> Snapshot:
        """See `TicketRepository.load`."""
        found: Snapshot = self._asked(self._repository.load, lookup)
        return found

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        """See `TicketRepository.get`."""
        company_id = self._to_host("company_id", company_id)
        found: Ticket | None = self._asked(self._repository.get, company_id, ticket_id, current=current)
        return found

    def commit(self, decision: Write) -> Ticket:
        """See `TicketRepository.commit`."""
        written: Ticket = self._asked(self._repository.commit, decision)
        return written

    def _asked(self, act: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return self._answered(act(*(exchanged(each, self._to_host) for each in args), **options))
        except TicketRouterError as error:
            if (ticket := getattr(error, "ticket", None)) is not None:
                vars(error)["ticket"] = self._answered(ticket)
            raise
