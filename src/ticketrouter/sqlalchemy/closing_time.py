"""A table without a status: a ticket is active while the time of its closing is empty.

Law of this file: there are two words, one of an active ticket and one of a closed one, and no row has another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Dialect, false, literal_column, not_, true
from sqlalchemy.types import TypeEngine

from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy.codecs import Passage
from ticketrouter.sqlalchemy.schema import quoted
from ticketrouter.sqlalchemy.storage import Storage
from ticketrouter.sqlalchemy.stored_status import Constant, NotStorableError, StoredStatus


class ClosingTime(StoredStatus):
    """The time of closing of a table, on one database.

    Args:
        type_: the type of its column.
        dialect: SQLAlchemy's, of the database.
        statuses: the two words.
        absent: what the column takes for no time; None: NULL.

    Raises:
        NotStorableError: if what stands for no time cannot stand in a statement.
    """

    def __init__(self, type_: TypeEngine[Any], dialect: Dialect, statuses: StatusScheme, absent: Any) -> None:
        self.type = type_
        self.active: str = statuses.initial
        """The word of a ticket that has no such time."""
        self.closed: str = statuses.closed
        """The word of one that has."""
        self._absent = absent
        self.empty: Constant | None = None if absent is None else _constant(Passage(type_, dialect), absent)
        """What is stored for no time; None: NULL."""

    @property
    def are_plain(self) -> bool:
        """See `StoredStatus.are_plain`."""
        return True

    def word(self, given: Any) -> str:
        """See `StoredStatus.word`."""
        return self.active if given is None or given == self._absent else self.closed

    def literal(self, word: str) -> str:
        """See `StoredStatus.literal`; of a closed ticket there is no one time.

        Raises:
            KeyError: if it is not the word of an active one.
        """
        if word != self.active:
            raise KeyError(word)
        return "NULL" if self.empty is None else self.as_sql(self.empty)

    def as_sql(self, constant: Constant) -> str:
        """See `StoredStatus.as_sql`."""
        return quoted(constant) if isinstance(constant, str) else str(constant)

    def has(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `StoredStatus.has`."""
        match self.active in words, self.closed in words:
            case True, True:
                return true()
            case True, False:
                return self._is_empty(column)
            case False, True:
                return not_(self._is_empty(column))
            case _:
                return false()

    def lacks(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `StoredStatus.lacks`."""
        return self.has({self.active, self.closed}.difference(words), column)

    def is_exactly(
        self,
        words: Collection[str],
        column: ColumnElement[Any],
        storage: Storage,  # noqa: ARG002
    ) -> ColumnElement[bool]:
        """See `StoredStatus.is_exactly`."""
        return self.has(words, column)

    def sql(self, words: Collection[str], column: str, literal: Callable[[str | int | bytes], str]) -> str:
        """See `StoredStatus.sql`."""
        is_active = self.active in words
        if self.empty is None:
            return f"{column} IS NULL" if is_active else f"{column} IS NOT NULL"
        return f"{column} {'=' if is_active else '<>'} {literal(self.empty)}"

    def _is_empty(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if self.empty is None:
            return column.is_(None)
        # As a literal: a bound one would not find a partial index.
        empty: ColumnElement[bool] = column == literal_column(self.literal(self.active))
        return empty


def _constant(passage: Passage, absent: Any) -> Constant:
    match passage.stored(absent):
        case bool():
            raise NotStorableError
        case int() as number:
            return number
        case datetime() as time:
            return time.isoformat(" ")
        case str() as text if "\\" not in text:
            return text
        case _:
            raise NotStorableError
