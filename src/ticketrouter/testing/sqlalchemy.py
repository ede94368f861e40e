"""The store of the kit over a host's own table: an engine, a mapping, and what makes the parents of a row.

Law of this file: rows are read and inserted by plain statements over the mapping's columns, none of which the adapter
sends. It is not loaded with the kit, which knows no database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from typing import Any, ClassVar, TypeAlias, cast

import pytest
from attrs import evolve
from sqlalchemy import ColumnElement, Connection, Engine, Integer, Table, inspect, select, type_coerce

from ticketrouter.checks import Id
from ticketrouter.decisions import Create
from ticketrouter.model import InboundMessage, Reason, StatusScheme, Ticket, id_order
from ticketrouter.repository import TicketRepository
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping, is_retryable
from ticketrouter.sqlalchemy.columns import table_of
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.stored_words import WordType
from ticketrouter.sqlalchemy.types import IdText
from ticketrouter.testing.hosts_ids import FIELDS, PARTS, InKitsIds, KeptTicket, exchanged
from ticketrouter.testing.store import Store

__all__ = ["Maker", "MappedStore", "row_of"]

Maker: TypeAlias = Callable[[Connection, int], Id]
"""Makes a row of the host's, such as a contact, and returns its id.

It is given a connection, in a transaction, and a number that no other row of its kind was made with.
"""


def row_of(table: Table | type[Any], **values: Any) -> Maker:
    """Return what makes rows of a table of the host's.

    Args:
        table: a Table, or a mapped class.
        values: what each row has, by column key; `{}` in a text is the row's number, for what must be unique.

    Returns:
        What makes a row, and returns its primary key.
    """
    into = table_of(table)

    def make(connection: Connection, number: int) -> Id:
        row = {
            key: value.format(number) if isinstance(value, str) else value for key, value in values.items()
        }
        inserted = connection.execute(into.insert().values(row))
        (made,) = cast(tuple[Id], inserted.inserted_primary_key)
        return made

    return make


_AHEAD = {"company_id": 4, "contact_id": 40, "connection_id": 13, "user_id": 10, "queue_id": 7}
"""How many of each are there before a transaction begins, so that none need be made in it.

No two are alike, and the last is taken first: an id in the wrong column then names nothing, which a foreign key tells.
"""


class MappedStore(Store):
    """The table of a host, with all that it asks of a row, as the kit's store.

    The kit speaks of company 1, contact 5511999999999, connection 10. Where the table has foreign keys, or ids of
    another type, give what makes such a row: each number of the kit then stands for the id of a row of its own. What
    has no maker keeps the kit's number. A table without a company column has one company: the tests that need
    another are skipped, as are those that look at what the table has no column for.

    It writes to the tables, and empties the tickets, with their companions, whenever a test is over: use a database
    that is there for nothing else. Rows that the mapping's `where` leaves out stay. One store may serve many tests.

    Args:
        engine: where the tables are; one of SQLite is set up by `configure_sqlite`.
        mapping: the mapping that is held to the contract.
        company_id: makes a company.
        contact_id: makes a contact, which may be a group.
        connection_id: makes a connection.
        user_id: makes an agent.
        queue_id: makes a queue.
        further: values for further columns of a row that a test inserts, or a function of the ticket that makes them,
            by column key; beyond what the mapping's `on_create` says, which is taken as it is.
        repository: makes the repository over a connection and the mapping.
        ids_ascend: whether a later ticket has a higher id; None: where ids are numbers. The state machine needs that.

    Raises:
        MappingError: at the first use, if the tickets table is not empty.
    """

    concurrent: ClassVar[bool] = True

    def __init__(
        self,
        engine: Engine,
        mapping: TicketMapping,
        *,
        company_id: Maker | None = None,
        contact_id: Maker | None = None,
        connection_id: Maker | None = None,
        user_id: Maker | None = None,
        queue_id: Maker | None = None,
        further: Mapping[str, Any] | Callable[[Ticket], Mapping[str, Any]] | None = None,
        repository: Callable[[Connection, TicketMapping], TicketRepository] = SQLAlchemyTicketRepository,
        ids_ascend: bool | None = None,
    ) -> None:
        makers = (company_id, contact_id, connection_id, user_id, queue_id)
        self.engine = engine
        self.mapping = mapping
        self.repository = repository
        self._further = further
        only = {part: getattr(mapping, f"only_{part.removesuffix('_id')}", None) for part in PARTS[:3]}
        self._only: dict[str, Id] = {part: value for part, value in only.items() if value is not None}
        self.one_company: bool = "company_id" in self._only
        self.one_connection: bool = "connection_id" in self._only
        self.any_ids: bool = not any(makers) and _takes_any_ids(mapping)
        self.lacks: frozenset[str] = (
            frozenset(FIELDS) - {"status"} - mapping.columns.keys() - self._only.keys()
        )
        self.ids_ascend: bool = _has_numbers(mapping) if ids_ascend is None else ids_ascend
        self._ids = _HostsIds(
            {part: make for part, make in zip(PARTS, makers, strict=True) if make is not None}, self._only
        )
        self._places: dict[Id, int] = {}
        self._lock = threading.Lock()
        # Not the other one, under which somebody waits for the transaction that meets a ticket.
        self._placing = threading.Lock()
        self._codecs = mapping.codecs(engine.dialect)
        self._words = mapping.words(engine.dialect)

    @property
    def statuses(self) -> StatusScheme:
        """See `Store.statuses`."""
        return self.mapping.statuses

    @property
    def overlapping(self) -> bool:  # type: ignore[override]
        """See `Store.overlapping`."""
        return self._overlapping

    @cached_property
    def _overlapping(self) -> bool:
        with self.engine.connect() as connection:
            transactions = database_of(connection.dialect).transactions
            return not transactions.begins_with_the_write_lock(connection)

    @contextmanager
    def transaction(self) -> Generator[TicketRepository]:
        """See `Store.transaction`."""
        self._prepare()
        with self.engine.begin() as connection:
            yield InKitsIds(self.repository(connection, self.mapping), self._ids.of_host, self._answered)

    def insert(self, ticket: Ticket) -> Ticket:
        """See `Store.insert`."""
        self._prepare()
        told_by_word = "status" in self.mapping.columns
        holds_any = self._words.are_plain and told_by_word
        if not holds_any and ticket.status not in self.mapping.status_values:
            pytest.skip(f"the table of this store has nothing for the status {ticket.status}")
        kept = self._kept(ticket)
        row: Ticket = exchanged(kept, self._ids.of_host)
        with self.engine.begin() as connection:
            inserted = connection.execute(self.mapping.table.insert().values(self._values(row)))
        (ticket_id,) = cast(tuple[Any], inserted.inserted_primary_key)
        made = evolve(kept, id=self._codecs["id"].decode(ticket_id))
        self._place(made)
        return made

    def overwrite(self, ticket: Ticket) -> None:
        """See `Overwrites.overwrite`."""
        row: Ticket = exchanged(ticket, self._ids.of_host)
        its_row = self.mapping.columns["id"] == self._codecs["id"].encode(row.id)
        with self.engine.begin() as connection:
            connection.execute(self.mapping.table.update().where(its_row).values(self._of_fields(row)))

    def tickets(self) -> list[Ticket]:
        """See `Store.tickets`; where ids do not ascend, in the order in which the tickets were first met."""
        columns = [self._read(field).label(field) for field in self.mapping.columns]
        with self.engine.begin() as connection:
            rows = connection.execute(select(*columns).where(*self._exists)).mappings().all()
        read = sorted((self._ticket(row) for row in rows), key=lambda ticket: id_order(ticket.id))
        tickets = [self._answered(ticket) for ticket in read]
        return tickets if self.ids_ascend else sorted(tickets, key=self._place)

    def expect(self, contacts: int) -> None:
        """See `Store.expect`."""
        self._prepare(contacts)

    def close(self) -> None:
        """Empty the tickets, and what stands beside them; the host's other rows stay."""
        with self.engine.begin() as connection:
            there = inspect(connection)
            mapping = self.mapping
            for table in (mapping.message_ids, mapping.anchors):
                if there.has_table(table.name, schema=table.schema):
                    connection.execute(table.delete())
            connection.execute(mapping.table.delete().where(*self._exists))
        self._ids.forget_only()
        self._places.clear()

    def is_retryable(self, error: Exception) -> bool:
        """See `Store.is_retryable`."""
        return is_retryable(error)

    # --- the host's parents ----------------------------------------------------------------------------------

    def _prepare(self, contacts: int = 0) -> None:
        """Make what the next transaction may need, before it begins; and look once whether the table is empty."""
        with self._lock:
            if self._ids.is_stocked(contacts):
                return
            with self.engine.begin() as connection:
                rows = select(self.mapping.columns["id"]).where(*self._exists).limit(1)
                if self._ids.is_new and connection.execute(rows).first():
                    raise MappingError(
                        f"{self.mapping.table.fullname} is not empty, and each test of the kit empties it: use a "
                        "database that is there for nothing else"
                    )
                self._ids.stock(connection, contacts)

    @property
    def _exists(self) -> list[ColumnElement[bool]]:
        """What is true of the rows that exist for the desk: the others are not the kit's."""
        return [] if self.mapping.where is None else [self.mapping.where.clause]

    # --- rows ------------------------------------------------------------------------------------------------

    def _read(self, field: str) -> ColumnElement[Any]:
        column = self.mapping.columns[field]
        return (
            column
            if field != "status" or self._words.are_plain
            else type_coerce(column, WordType(self._words))
        )

    def _values(self, row: Ticket) -> dict[str, Any]:
        key = row.key
        message = InboundMessage(key.company_id, key.contact_id, key.connection_id)
        decision = Create(
            key,
            row.created_at,
            Reason.NO_ACTIVE_TICKET,
            is_group=row.is_group,
            unread_messages=row.unread_messages,
            user_id=row.user_id,
            queue_id=row.queue_id,
            message=message,
        )
        further = self._further(row) if callable(self._further) else self._further or {}
        return {
            **self.mapping.further_values(decision),
            **{self.mapping.table.c[name].key: value for name, value in further.items()},
            **self._of_fields(row),
        }

    def _of_fields(self, row: Ticket) -> dict[str, Any]:
        if "status" not in self.mapping.columns:
            # Where the time of closing says which tickets are active, nobody closes one without it.
            is_active = self.statuses.is_active(row.status)
            row = evolve(row, closed_at=None if is_active else row.closed_at or row.updated_at)
        return {
            column.key: self._codecs[field].encode(getattr(row, field))
            for field, column in self.mapping.columns.items()
            if field != "id"
        }

    def _ticket(self, row: Mapping[Any, Any]) -> Ticket:
        values = {field: self._codecs[field].decode(value) for field, value in row.items()}
        if "status" not in values:
            values["status"] = self._words.word(row["closed_at"])
        return self._as_read({"user_id": None, "queue_id": None, "closed_at": None, **self._only, **values})

    def _as_read(self, values: Mapping[str, Any]) -> Ticket:
        """Return the ticket of these values, and of what is read where a column is lacking."""
        updated_at = values["created_at" if "updated_at" in self.lacks else "updated_at"]
        closed_at = None if self.statuses.is_active(values["status"]) else updated_at
        absent: dict[str, Any] = {
            "is_group": False,
            "unread_messages": 0,
            "user_id": None,
            "queue_id": None,
            "created_at": updated_at,
            "updated_at": updated_at,
            "closed_at": closed_at,
        }
        return Ticket(**{**values, **{field: absent[field] for field in self.lacks}})

    def _kept(self, ticket: Ticket) -> Ticket:
        """Return a ticket as far as the table keeps it.

        Without a time of closing its last change stands for that, and without that its creation.
        """
        if "closed_at" in self.lacks and ticket.closed_at is not None:
            ticket = evolve(ticket, updated_at=ticket.closed_at)
        if "updated_at" in self.lacks:
            ticket = evolve(ticket, created_at=ticket.updated_at)
        kept = self._as_read({field: getattr(ticket, field) for field in FIELDS})
        return KeptTicket(**{field: getattr(kept, field) for field in FIELDS}, lacks=self.lacks)

    def _answered(self, value: Any) -> Any:
        """Return what the repository has answered in the kit's ids, each ticket as far as the table keeps it."""
        return exchanged(value, self._ids.of_kit, self._met)

    def _met(self, **values: Any) -> Ticket:
        ticket = KeptTicket(**values, lacks=self.lacks)
        self._place(ticket)
        return ticket

    def _place(self, ticket: Ticket) -> int:
        """Return the place of a ticket among those that were met."""
        with self._placing:
            return self._places.setdefault(ticket.id, len(self._places))


class _HostsIds:
    """The ids that stand for the kit's numbers.

    Args:
        makers: what makes the rows that have them.
        only: the one id of what the table has no column for.
    """

    def __init__(self, makers: Mapping[str, Maker], only: Mapping[str, Id]) -> None:
        self._makers = makers
        self._only = only
        self._ahead: dict[str, list[Id]] = {part: [] for part in makers}
        self._numbers = {part: count(1) for part in makers}
        self._of_host: dict[tuple[str, Id], Id] = {}
        self._of_kit: dict[tuple[str, Id], Id] = {}
        self._lock = threading.Lock()
        self.is_new = True

    def is_stocked(self, contacts: int) -> bool:
        """Tell whether there are rows enough for whatever a transaction may ask for."""
        return not self.is_new and not any(self._missing(part, contacts) for part in self._makers)

    def stock(self, connection: Connection, contacts: int) -> None:
        """Make rows until there are enough."""
        for part, make in self._makers.items():
            made = [make(connection, next(self._numbers[part])) for _ in range(self._missing(part, contacts))]
            self._ahead[part].extend(made)
        self.is_new = False

    def of_host(self, part: str, number: Id) -> Id:
        """Return the host's id for one of the kit's; skip the test where the table has no second one."""
        with self._lock:
            place = part, number
            if place not in self._of_host:
                if part in self._only and any(other == part for other, _ in self._of_host):
                    pytest.skip(f"the table of this store has no column for {part}: there is only one")
                made = self._next(part, number)
                self._of_host[place] = made
                self._of_kit[part, made] = number
            return self._of_host[place]

    def of_kit(self, part: str, made: Id) -> Id:
        """Return the kit's id for one of the host's; what the kit has never named is left as it is."""
        return self._of_kit.get((part, made), made)

    def forget_only(self) -> None:
        """Let another number of the kit stand for the one that there is: the test is over."""
        for ids in (self._of_host, self._of_kit):
            for place in [each for each in ids if each[0] in self._only]:
                del ids[place]

    def _next(self, part: str, number: Id) -> Id:
        if part in self._only:
            return self._only[part]
        return self._ahead[part].pop() if part in self._ahead else number

    def _missing(self, part: str, contacts: int) -> int:
        least = max(_AHEAD[part], contacts if part == "contact_id" else 0)
        return max(least - len(self._ahead[part]), 0)


def _takes_any_ids(mapping: TicketMapping) -> bool:
    """Tell whether the columns of ids take those of any type, as our own alone do."""
    columns = (mapping.columns.get(part) for part in PARTS)
    return all(column is None or isinstance(column.type, IdText) for column in columns)


def _has_numbers(mapping: TicketMapping) -> bool:
    """Tell whether the ids of tickets are numbers, which a database counts upwards."""
    return isinstance(mapping.columns["id"].type, Integer)
