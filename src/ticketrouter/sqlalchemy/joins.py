"""How a message joins the ticket of its key that nobody has looked for: what databases share that have a way to.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. A statement that lets a message join changes one row, the most
recently active of the key, and gives what it leaves of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import reduce
from typing import Any, Protocol

from attrs import define
from sqlalchemy import ColumnElement, Select, false, not_, select

from ticketrouter.decisions import Join, Lookup, Snapshot, Unread, trusted_snapshot
from ticketrouter.model import InboundMessage, Ticket
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.on_message import Columns
from ticketrouter.sqlalchemy.parts import Parts, Sent


class SwallowedError(Exception):
    """A ticket that was locked on its key, and whose message id was recorded, has not been changed."""


class Joins(ABC):
    """The statement by which a message joins, with the looks for what is there where it cannot.

    Args:
        parts: what it is made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._values = parts.values
        self._of_lookup = parts.values.of_lookup
        changed_at = parts.values.codecs.get("updated_at")
        self._encode_time = None if changed_at is None else changed_at.encode
        self._rule = parts.rule

    @abstractmethod
    def join(self, lookup: Lookup, join: Join, columns: Columns, *, claims: bool) -> Sent | None:
        """Return the one statement that lets a message join the ticket that is active on its key, if there is one.

        None: it has to be looked for first.

        Args:
            lookup: what is looked for where there is no such ticket.
            join: what the message does to it.
            columns: what it writes into further columns.
            claims: whether others are to be kept from the contact where there is no such ticket.
        """

    @abstractmethod
    def joined(self, lookup: Lookup, rows: Sequence[Sequence[Any]]) -> Snapshot | None:
        """Return what the rows of `join` say; None: nothing that counts.

        Raises:
            SwallowedError: if a ticket was met, and not changed.
        """

    def _sent(self, lookup: Lookup, join: Join, columns: Columns, more: int | None) -> dict[str, Any]:
        """Return what it is sent with."""
        values = self._of_lookup(lookup)
        if self._encode_time is not None:
            values["b_updated_at"] = self._encode_time(join.at)
        if more is None and self._values.counts:
            values["b_unread_set"] = join.unread.set_to
        if columns and join.message is not None:
            values |= self._values.of_message(columns, join.message, join.at)
        return values

    def _writes(self, join: Join) -> bool:
        """Tell whether the message writes into further columns."""
        return bool(self._parts.mapping.on_message) and join.message is not None

    def _update(self, *where: ColumnElement[bool], more: int | None, writes: bool) -> Any:
        """Return the `UPDATE`."""
        parts = self._parts
        further = parts.mapping.on_message.changes() if writes else {}
        at = None if self._encode_time is None else parts.bind("updated_at")
        return parts.update(*where, further=further, unread_messages=parts.count_of(more), updated_at=at)

    def _on_key(self, *, wakes: bool) -> list[ColumnElement[bool]]:
        """Return which row is the active ticket of the key; none, where the message would wake it.

        Args:
            wakes: whether the message wakes a ticket whose word is one that wakes: that is told, and so not done here.
        """
        parts = self._parts
        here = [*parts.all_are(*KEY), parts.is_active()]
        if wakes:
            here.append(not_(parts.sleeps()))
        # Whatever an index promises, and even if it is gone by now: one row, the most recently active one.
        twin = parts.mapping.table.alias("twin")
        columns = {field: twin.c[column.key] for field, column in parts.mapping.columns.items()}
        newest = select(columns["id"]).where(
            *parts.all_are(*KEY, table=twin), parts.is_active(twin), parts.of_desk(twin)
        )
        return [*here, self._is_id(newest.order_by(*parts.newest_first(columns)).limit(1))]

    def _wakes(self, join: Join) -> bool:
        """Tell whether a message may wake a ticket of this table."""
        return join.wakes and bool(self._parts.mapping.statuses.wakes)

    def _is_elsewhere(self, table: Any) -> ColumnElement[bool]:
        """Return which rows are on another connection; none are where there is only one."""
        column = self._parts.mapping.columns.get("connection_id")
        if column is None:
            return false()
        bound = self._parts.bind("connection_id")
        return not_(self._parts.same("connection_id", table.c[column.key], bound))

    def _is_id(self, chosen: Select[Any]) -> ColumnElement[bool]:
        """Return which row is the one whose id is chosen."""
        return self._parts.mapping.columns["id"] == chosen.scalar_subquery()

    def _met(self, hit: Ticket, others: Iterable[Ticket] = ()) -> Snapshot:
        """Return that a message has joined a ticket, beside others of the contact."""
        return trusted_snapshot(tuple(others), unique_rule=self._rule, joined=hit)


# --- of many ---------------------------------------------------------------------------------------------------


@define
class Joining:
    """Messages of a batch on one key, one after another, which all join its active ticket if there is one.

    Args:
        key: the key.
        closed: whether closed tickets count where there is no active one.
        places: where the messages stand in the batch.
        joins: what each does to the ticket.
    """

    key: tuple[Any, Any, Any]
    closed: bool
    places: list[int]
    joins: list[Join]

    @property
    def messages(self) -> list[tuple[InboundMessage, datetime]]:
        """The messages themselves, each with when it came."""
        return [(join.message, join.at) for join in self.joins if join.message is not None]

    @property
    def unread(self) -> Unread:
        """What becomes of the count with all of them."""
        return reduce(Unread.then, (join.unread for join in self.joins))

    @property
    def wakes(self) -> bool:
        """Whether one of them wakes the ticket."""
        return any(join.wakes for join in self.joins)


def joining_of(lookups: Sequence[Lookup]) -> list[Joining]:
    """Return the keys of lookups by which messages may join, each with its messages; neighbours in an index together."""
    found: dict[tuple[Any, Any, Any], Joining] = {}
    for place, lookup in enumerate(lookups):
        key = lookup.company_id, lookup.contact_id, lookup.connection_id
        join: Any = lookup.join
        here = found.get(key)
        if here is None:
            found[key] = Joining(key, lookup.closed, [place], [join])
        else:
            here.places.append(place)
            here.joins.append(join)
    # Neighbours are found faster one after another.
    return sorted(found.values(), key=lambda each: str(each.key[1]))


class JoinsOfMany(Protocol):
    """The one statement by which messages join what is active on their keys."""

    def join(self, joining: Sequence[Joining], columns: Columns) -> Sent:
        """Return the statement that locks the tickets in the order of their keys, changes them, and gives what was there."""
        ...

    def joined(self, joining: Sequence[Joining], rows: Iterable[Sequence[Any]]) -> dict[int, Snapshot] | None:
        """Return what its rows say of each message, by its place, where they say what counts.

        None: not every ticket that was met was changed.
        """
        ...
