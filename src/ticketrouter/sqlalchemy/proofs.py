"""What the expressions and the predicate of a unique index make of the rows with each status, by reading them.

Law of this file: an index has all rows of a status only if that is proved: the condition must be one that `conditions`
understands, and the database is asked which texts are equal. Nothing is written, and no row of the host is read. A
database that proves it itself needs nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import Connection, text

from ticketrouter.sqlalchemy.closing_time import ClosingTime
from ticketrouter.sqlalchemy.conditions import (
    Condition,
    Equal,
    Names,
    NotUnderstoodError,
    Token,
    columns_in,
    condition,
    tokens,
)
from ticketrouter.sqlalchemy.facts import ColumnFacts, Index, Reach, Value, escaped, key_columns
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.stored_words import StoredWords

WordsAsTheColumn: TypeAlias = Callable[
    [Connection, TicketMapping, Mapping[str, ColumnFacts], list[str]], list[str]
]
"""What gives, for each of some literals, a `SELECT` of its number and of it, which compares as the status column does."""
UnclearType: TypeAlias = Callable[[TicketMapping, Index, list[Condition], Collection[Any]], str]
"""What says where a type makes something else of a value, as of what is stored, than the condition says; empty: nowhere."""

NOT_UNDERSTOOD = "its condition is not one that compares the status with words"
NOT_AS_WRITTEN = f"{NOT_UNDERSTOOD}, alone or together with `where` as that is written"


@frozen
class Understanding:
    """How the conditions of one database are read, without asking it anything.

    Args:
        url: what SQLAlchemy calls the database, with a driver.
        backslashes: whether a backslash in a text makes the next character an ordinary one.
        functions: whether IF is a function that nobody can have made anew.
        unclear_type: see `UnclearType`.
    """

    url: str
    backslashes: bool
    functions: bool
    unclear_type: UnclearType

    def reach_of_time(self, mapping: TicketMapping, index: Index, stored: ClosingTime) -> Reach:
        """Tell which rows an index has of a table whose time of closing tells active tickets.

        Nothing is asked: a time is only compared with what stands for none, whatever the database takes for equal.
        """
        read = self.conditions(mapping, index, () if stored.empty is None else (stored.empty,))
        if isinstance(read, Reach):
            return read
        if any(each.constants - {stored.empty} for each in read):
            return Reach(unclear=not_understood(mapping))
        words = {stored.active, stored.closed}
        return _answers(index, read, words, {(stored.active, stored.empty)})

    def conditions(
        self, mapping: TicketMapping, index: Index, stored: Collection[Any]
    ) -> list[Condition] | Reach:
        """Read the predicate, if there is one, and then what the parts are computed from."""
        status, key = mapping.told_by.name, key_columns(mapping)
        true = conditions_of_desk(mapping, self.url)
        spoken: list[str] = []
        read: list[Condition] = []
        try:
            all_ = [tokens(sql, backslashes=self.backslashes) for sql in written(index)]
            spoken = _others(mapping, index, [token for each in all_ for token in each])
            is_null = "status" not in mapping.columns and not stored
            names = Names.of(tuple(index.table), status, key, is_word=not is_null)
            read = [
                condition(
                    each,
                    names,
                    functions=self.functions,
                    numbers=any(isinstance(word, int) for word in stored),
                    is_predicate=place == 0 and index.predicate is not None,
                    true=true,
                )
                for place, each in enumerate(all_)
            ]
        except NotUnderstoodError:
            return Reach(by=tuple(spoken), unclear="" if spoken else not_understood(mapping))
        unclear = self.unclear_type(mapping, index, read, stored)
        return Reach(unclear=unclear) if unclear else read


@frozen
class Reading(Understanding):
    """The same, where the database is asked which words are equal.

    Args:
        words: see `WordsAsTheColumn`.
    """

    words: WordsAsTheColumn

    def reaches(self, connection: Connection, mapping: TicketMapping, found: Sequence[Index]) -> list[Reach]:
        """Tell which rows each of these indexes has, of which there is one at least.

        Statements:
            One `SELECT` for all, where a status is compared.
        """
        stored = mapping.words(connection.dialect)
        if isinstance(stored, ClosingTime):
            return [self.reach_of_time(mapping, index, stored) for index in found]
        words = constants_of(stored)
        numbers = {isinstance(each, int) for each in words.values()}
        if len(numbers) > 1 or any(isinstance(each, bytes) for each in words.values()):
            return [Reach(unclear=NOT_UNDERSTOOD) for _ in found]
        read = [self.conditions(mapping, index, set(words.values())) for index in found]
        constants = {
            each for one in read if not isinstance(one, Reach) for which in one for each in which.constants
        }
        strange = constants.difference(words.values())
        words |= {stored.name(each): each for each in strange}
        same = self._equal(connection, mapping, found[0], words, sorted(constants, key=str), stored)
        return [
            each if isinstance(each, Reach) else _answers(index, each, set(words), same)
            for index, each in zip(found, read, strict=True)
        ]

    def _equal(
        self,
        connection: Connection,
        mapping: TicketMapping,
        index: Index,
        words: Mapping[str, Any],
        constants: list[Any],
        stored: StoredWords,
    ) -> set[tuple[str, Any]]:
        """Ask which words and constants are equal, as the status column compares them."""
        if not constants:
            return set()
        as_sql = stored.as_sql
        named = sorted(words)
        compared = ", ".join(f"(ticketrouter_word = {escaped(as_sql(each))})" for each in constants)
        rows = self.words(connection, mapping, index.table, [escaped(as_sql(words[word])) for word in named])
        # Names are quoted, words are literals.
        query = f"SELECT ticketrouter_n, {compared} FROM ({' UNION ALL '.join(rows)}) AS ticketrouter_words"  # noqa: S608
        return {
            (named[row[0]], each)
            for row in connection.execute(text(query))
            for each, equal in zip(constants, row[1:], strict=True)
            if equal
        }


def constants_of(stored: StoredWords) -> dict[str, Any]:
    """Return what is stored for each word of the scheme, and for those of an enumerated column."""
    found = {word: stored.constant(word) for word in stored.named}
    there = stored.enumerated - set(found.values())
    return found | {stored.name(each): each for each in there}


def asked_of_the_desk(mapping: TicketMapping) -> frozenset[str]:
    """Return the columns of which the row condition, where something can be proved of it, says what they are."""
    where = mapping.where
    return frozenset() if where is None or where.is_opaque else where.columns


def conditions_of_desk(mapping: TicketMapping, url: str) -> list[str]:
    """Return the conditions that are true of every row that exists for the desk, as SQL."""
    where = mapping.where
    return [] if where is None or where.is_opaque else where.parts(plain_dialect(url), quoted_name)


def quoted_name(name: str) -> str:
    """Return the name of a column as a token that is read here, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def not_understood(mapping: TicketMapping) -> str:
    """Say why nothing is known of a condition."""
    return NOT_AS_WRITTEN if asked_of_the_desk(mapping) else NOT_UNDERSTOOD


def written(index: Index) -> list[str]:
    """Return the SQL that decides of a row: the predicate, if there is one, and then the expressions."""
    return [*([] if index.predicate is None else [index.predicate]), *index.computed]


def _others(mapping: TicketMapping, index: Index, found: list[Token]) -> list[str]:
    mine = {mapping.told_by.name, *key_columns(mapping), *asked_of_the_desk(mapping)}
    return [column for column in columns_in(found, tuple(index.table)) if column not in mine]


def _answers(index: Index, read: list[Condition], words: set[str], same: set[tuple[str, Any]]) -> Reach:
    found = ((word, _answered(index, read, _equal_to(word, same))) for word in sorted(words))
    rows = {word: values for word, values in found if values is not None}
    any_other = _answered(index, read, lambda _: False)
    return Reach(rows, frozenset(words), others=any_other is not None and {any_other} >= {*rows.values()})


def _answered(index: Index, read: list[Condition], equal: Equal) -> tuple[Value, ...] | None:
    """Return what the expressions are of a row; None: the index does not have it."""
    given = [each.answer(equal) for each in read]
    taken = index.predicate is None or bool(given.pop(0))
    return tuple(given) if taken and (index.nulls_equal or None not in given) else None


def _equal_to(word: str, same: set[tuple[str, Any]]) -> Equal:
    return lambda constant: (word, constant) in same
