"""What an audit can say: frozen values, and the view of the database that its checks share.

Law of this file: values only. Of the host's data they hold ids and status words, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from sqlalchemy import Column, ColumnElement, Connection, Integer, Table, and_, case, func
from sqlalchemy.types import TypeEngine

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.closing_time import ClosingTime
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.dialects.base import Database, Level
from ticketrouter.sqlalchemy.facts import NO_FACTS, ColumnFacts, Index, schema_of
from ticketrouter.sqlalchemy.fit_words import Unfit
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.rules import Judged, merged
from ticketrouter.sqlalchemy.stored_words import StoredWords
from ticketrouter.sqlalchemy.types import bare

Example: TypeAlias = Mapping[str, Any]
"""A row of a finding: ids, counts and status words, by name."""


class Check(StrEnum):
    """What is looked at."""

    UNIQUE_RULE = "unique_rule"
    UNIQUE_INDEXES = "unique_indexes"
    LOOKUP_INDEXES = "lookup_indexes"
    COMPANION_TABLES = "companion_tables"
    TRANSACTIONS = "transactions"
    IDS = "ids"
    COLUMNS = "columns"
    TIMES = "times"
    STATUSES = "statuses"
    DUPLICATES = "duplicates"
    DUPLICATES_PER_CONNECTION = "duplicates_per_connection"
    ORPHANS = "orphans"
    CONTACTS = "contacts"
    CONNECTIONS = "connections"
    GROUPS = "groups"


@frozen
class Observation:
    """What one check has to say.

    Args:
        check: what was looked at.
        level: how much it matters.
        text: what was seen.
        advice: what to do about it; empty where there is nothing to do.
        count: how many rows, keys or indexes it is about.
        examples: some of them, the worst first.
    """

    check: Check
    level: Level
    text: str
    advice: str = ""
    count: int = 0
    examples: tuple[Example, ...] = ()


@frozen
class Audit:
    """What was seen of a tickets table.

    Args:
        database: the kind of database: postgresql, mariadb or sqlite.
        table: the name of the tickets table.
        tickets: how many rows it has.
        active: how many of them are active.
        unique_rule: what the table enforces; None: a deferrable constraint would be its rule, and can be none.
        observations: everything that was seen, in the order in which it was looked at.
    """

    database: str
    table: str
    tickets: int
    active: int
    unique_rule: UniqueRule | None
    observations: tuple[Observation, ...]

    @property
    def findings(self) -> tuple[Observation, ...]:
        """What makes the table unsound."""
        return tuple(seen for seen in self.observations if seen.level is Level.FINDING)

    @property
    def sound(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.sound:
            return (
                f"sound: the database itself keeps one active ticket per contact and connection, and its "
                f"{self.tickets:,} tickets agree with that"
            )
        about = dict.fromkeys(str(seen.check) for seen in self.findings)
        number = len(self.findings)
        return f"not sound: {number} finding{'s' if number > 1 else ''} about {', '.join(about)}"

    def as_json(self) -> dict[str, Any]:
        """Return the audit as JSON has it: the shape is documented, and a promise."""
        return {
            "format": 1,
            "database": self.database,
            "table": self.table,
            "tickets": self.tickets,
            "active": self.active,
            "unique_rule": None if self.unique_rule is None else self.unique_rule.value,
            "sound": self.sound,
            "verdict": self.verdict,
            "observations": [
                {
                    "check": seen.check.value,
                    "level": seen.level.value,
                    "text": seen.text,
                    "advice": seen.advice,
                    "count": seen.count,
                    "examples": [dict(example) for example in seen.examples],
                }
                for seen in self.observations
            ],
        }


@frozen
class View:
    """The tickets of a host as the checks look at them.

    Args:
        connection: where to ask.
        mapping: where the tickets are.
        indexes: the indexes of the table.
        judged: what those of them do that are unique and about contacts.
        limit: how many examples a finding may have.
        facts: the columns of the table, by name.
        unfit: the words that the status column does not keep as they are.
    """

    connection: Connection
    mapping: TicketMapping
    indexes: tuple[Index, ...]
    judged: tuple[Judged, ...]
    limit: int
    facts: Mapping[str, ColumnFacts] = NO_FACTS
    unfit: tuple[Unfit, ...] = ()

    @property
    def table(self) -> Table:
        """The tickets."""
        return self.mapping.table

    @property
    def database(self) -> Database:
        """The database."""
        return database_of(self.connection.dialect)

    @property
    def schema(self) -> str | None:
        """The database schema of the tickets."""
        return schema_of(self.connection, self.mapping)

    def column(self, field: str) -> Column[Any]:
        """Return the column of a field."""
        return self.mapping.columns[field]

    def has(self, *fields: str) -> bool:
        """Tell whether the table has columns for these fields."""
        return all(field in self.mapping.columns for field in fields)

    @property
    def key(self) -> list[Column[Any]]:
        """The columns of the key."""
        return [self.column(field) for field in KEY if self.has(field)]

    @property
    def merged(self) -> list[str]:
        """The fields of the key whose columns take texts for equal that are others."""
        facts = self.facts or next((index.table for index in self.indexes), NO_FACTS)
        found = merged(self.connection.dialect, self.mapping, facts)
        return [field for field in KEY if field in found]

    def to_the_letter(self, *fields: str) -> list[ColumnElement[Any]]:
        """Return these columns as nothing but equal texts are equal in them."""
        return [self.database.storage.to_the_letter(self.column(field)) for field in fields]

    @property
    def exact_key(self) -> list[ColumnElement[Any]]:
        """What two tickets of one key have in common, and no others."""
        return [*self.key, *self.to_the_letter(*self.merged)]

    @property
    def active(self) -> ColumnElement[bool]:
        """What is true of an active ticket."""
        # As literals: a bound one would not find a partial index.
        active = self.words.has(self.mapping.statuses.active, self.mapping.told_by)
        return and_(active, *self.of_desk)

    @property
    def of_desk(self) -> list[ColumnElement[bool]]:
        """What is true of a row that exists for the desk."""
        where = self.mapping.where
        return [] if where is None else [where.written(plain_dialect(self.database.storage.url))]

    @property
    def words(self) -> StoredWords | ClosingTime:
        """How a row tells its status."""
        return self.mapping.words(self.connection.dialect)

    def bare(self, field: str) -> TypeEngine[Any]:
        """Return what the database has of the type of a field's column."""
        return bare(self.column(field).type, self.connection.dialect)

    @property
    def complete(self) -> ColumnElement[bool]:
        """What is true of a ticket that is no orphan."""
        return and_(*(column.is_not(None) for column in self.key))

    def name(self, field: str) -> str:
        """Return the name of a field's column."""
        return self.column(field).name


def counted(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return how many rows a condition is true of."""
    return func.coalesce(func.sum(case((condition, 1), else_=0), type_=Integer), 0)


def plain(value: Any) -> Any:
    """Return a value as JSON can have it."""
    return str(value) if isinstance(value, UUID) else value


def said(number: int, one: str, many: str | None = None) -> str:
    """Return a number and what it counts, as 1 ticket or 2 tickets."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
