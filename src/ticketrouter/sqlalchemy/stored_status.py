"""What tells the status of a row, and how a condition asks for it: a column of words, or a time that is empty.

Law of this file: who asks for a status asks here, and need not know which of the two it is. `stored_words` has the one,
`closing_time` the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement
from sqlalchemy.types import TypeEngine

from ticketrouter.sqlalchemy.storage import Storage

Constant: TypeAlias = int | str | bytes
"""What a column stores for a word, as SQL can say it; a truth is an int."""


class NotStorableError(Exception):
    """A value that a column cannot hold, or that cannot stand in a statement."""


class StoredStatus(ABC):
    """How the rows of a table tell their statuses, on one database."""

    type: TypeEngine[Any]
    """The type of the column that tells it."""

    @property
    @abstractmethod
    def are_plain(self) -> bool:
        """Whether nothing has to be made of what the column gives: it is the word, or it is a time."""

    @abstractmethod
    def word(self, given: Any) -> str:
        """Return the word of what a driver gives for a row."""

    @abstractmethod
    def as_sql(self, constant: Constant) -> str:
        """Return a stored value as SQL."""

    @abstractmethod
    def literal(self, word: str) -> str:
        """Return what is stored for a word as it stands in a statement, as SQL."""

    @abstractmethod
    def has(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a row has one of some words, told by its column."""

    @abstractmethod
    def lacks(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a row has none of some words."""

    @abstractmethod
    def is_exactly(
        self, words: Collection[str], column: ColumnElement[Any], storage: Storage
    ) -> ColumnElement[bool]:
        """Return the condition of `has`, to the letter; an index on the column is of use."""

    @abstractmethod
    def sql(self, words: Collection[str], column: str, literal: Callable[[str | int | bytes], str]) -> str:
        """Return the condition of `has` as SQL for people.

        Args:
            words: the words.
            column: the name of the column, as it stands in a statement.
            literal: writes what is stored.
        """
