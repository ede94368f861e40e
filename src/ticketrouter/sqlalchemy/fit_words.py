"""Whether a status column holds the words of a scheme, and tells them apart; and which of them `where` is true of.

Law of this file: what a column holds its catalogue says; which of two words are equal, and what a constraint makes of
them, the database is asked, in one statement for all. Nothing is written, and no row of the tickets is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import combinations
from typing import Any

from attrs import evolve, frozen
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ticketrouter.errors import shown
from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy.closing_time import ClosingTime
from ticketrouter.sqlalchemy.columns import MappingError, full_name
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.error_codes import code_of, row_in
from ticketrouter.sqlalchemy.facts import ColumnFacts, escaped, quoted
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.storage import storage_of
from ticketrouter.sqlalchemy.stored_status import Constant
from ticketrouter.sqlalchemy.stored_words import StoredWords
from ticketrouter.wording import Wording, listed, passing


@frozen
class Unfit:
    """Words that a status column does not keep as they are.

    Args:
        words: the words.
        told: what is wrong.
        advice: what to do about it.
    """

    words: tuple[str, ...]
    told: str
    advice: str


def check_words(connection: Connection, mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> None:
    """Raise where the status column does not hold a word, or takes two of them for one.

    Statements:
        As `unfit_words`.
    """
    if found := list(unfit_words(connection, mapping, facts)):
        raise MappingError(told_of(found))


def told_of(found: Iterable[Unfit]) -> str:
    """Say all that is wrong, and what to do about it."""
    return listed((Wording(each.told, ": ", each.advice) for each in found), "; ")


def unfit_words(
    connection: Connection, mapping: TicketMapping, facts: Mapping[str, ColumnFacts]
) -> Iterator[Unfit]:
    """Give the words that a status column does not hold, and those that it does not tell apart.

    Statements:
        One `SELECT` that reads no ticket, where there is something to ask, in a savepoint on PostgreSQL; one more where
        the database does not let us ask what a constraint makes of the words.
    """
    stored = mapping.words(connection.dialect)
    column = facts.get(mapping.told_by.name)
    if isinstance(stored, ClosingTime) or column is None:
        return  # a time has no words; and of a column that is not there the first look tells
    name = full_name(mapping.told_by)
    constants = {word: stored.constant(word) for word in sorted(stored.named)}
    held = dict(constants)
    for word, constant in constants.items():
        if why := _why_not_held(column, constant):
            yield _not_held(name, word, constant, why)
            del held[word]
    asked = _Asked(connection, mapping, facts, stored, column, held)
    try:
        met, equal = asked.answers()
    except _NotComparableError as error:
        yield Unfit(
            tuple(held),
            f"{name} (status) is not compared with {', '.join(map(shown, held.values()))} by the database ({error})",
            _CHANGE,
        )
        return
    for word, what in met:
        yield _not_held(name, word, held[word], what)
    for one, other in equal:
        if _mean_the_same(mapping.statuses, one, other):
            continue
        yield Unfit(
            (one, other),
            f"{name} (status) takes {_written(one, held[one])} and {_written(other, held[other])} for one",
            Wording(
                f"give the column a collation that tells them apart{_of(column)}, or pass ",
                _OWN_WORDS,
                " with one of them, or ",
                _STATUS_VALUES,
                " with other texts",
            ),
        )


def met_words(
    connection: Connection, mapping: TicketMapping, facts: Mapping[str, ColumnFacts]
) -> frozenset[str]:
    """Return the words that `where`, as far as it asks the status column, is true of; none where that cannot be asked.

    Statements:
        One `SELECT` that reads no ticket, where it asks that column, in a savepoint on PostgreSQL.
    """
    stored, where, column = mapping.words(connection.dialect), mapping.where, mapping.told_by
    if where is None or isinstance(stored, ClosingTime) or column.name not in facts:
        return frozenset()
    dialect = plain_dialect(storage_of(connection.dialect).url)
    found = where.about(column, dialect, quoted(connection, column.name))
    constants = {word: stored.constant(word) for word in stored.named}
    if not found or any(isinstance(each, bytes) for each in constants.values()):
        return frozenset()
    asked = _Asked(connection, mapping, facts, stored, facts[column.name], constants)
    rows = asked.rows([("where", each) for each in found])
    if isinstance(rows, DBAPIError):
        return frozenset()
    named = sorted(constants)
    return frozenset(named[number] for number, *told in rows if all(told[len(named) :]))


def _mean_the_same(statuses: StatusScheme, one: str, other: str) -> bool:
    """Tell whether a row of either word is the same to a message, so that it is no matter which of them it has."""
    return any({one, other} <= words for words in (statuses.reopenable, statuses.final))


def _why_not_held(column: ColumnFacts, constant: Constant) -> str:
    """Say why a column does not hold what is stored for a word; empty: it does, as far as its type goes."""
    match constant:
        case _ if column.words:
            return "" if constant in column.words else f"it has only {', '.join(column.words)}"
        case str() if column.numbers is not None:
            return f"it is a {column.type}, of numbers"
        case str() if column.longest is not None and len(constant) > column.longest:
            return f"it has room for {column.longest} characters"
        case int() if column.longest is not None:
            return f"it is a {column.type}, of texts"
        case int() if column.numbers is not None:
            lowest, highest = column.numbers
            return "" if lowest <= constant <= highest else f"it holds numbers from {lowest} to {highest}"
        case _:
            return ""


def _not_held(name: str, word: str, constant: Constant, why: str) -> Unfit:
    return Unfit(
        (word,),
        f"{name} (status) cannot hold {_written(word, constant)}: {why}",
        _CHANGE,
    )


_OWN_WORDS = passing("statuses", "StatusScheme(...)")
_STATUS_VALUES = passing("status_values", "{...}")
_CHANGE = Wording("change the column, or pass ", _OWN_WORDS, " or ", _STATUS_VALUES, " with what it holds")


class _NotComparableError(Exception):
    """The database refuses to compare a column with words."""


def _written(word: str, constant: Constant) -> str:
    return shown(word) if word == constant else f"{shown(constant)}, which is stored for {shown(word)}"


def _of(column: ColumnFacts) -> str:
    return "" if column.collation is None else f", as {column.collation} does not"


@frozen
class _Asked:
    """What a database is asked about words, and what it answers."""

    connection: Connection
    mapping: TicketMapping
    facts: Mapping[str, ColumnFacts]
    stored: StoredWords
    column: ColumnFacts
    words: Mapping[str, Constant]

    def answers(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return which word does not meet which demand, and which words are equal."""
        demands = self.column.demands
        texts = any(isinstance(each, str) for each in self.words.values())
        if not self.words or not (demands or texts):
            return [], []
        rows = self.rows(demands)
        if isinstance(rows, DBAPIError):
            demands = ()
            rows = self.rows(demands)
        if isinstance(rows, DBAPIError):
            without_words = evolve(self, words={})
            if isinstance(without_words.rows(()), DBAPIError):
                raise rows
            raise _NotComparableError(f"code {code_of(rows)}") from rows
        named = sorted(self.words)
        met: list[tuple[str, str]] = []
        equal: set[tuple[str, str]] = set()
        for number, *told in rows:
            word, same, ok = named[number], told[: len(named)], told[len(named) :]
            met += [
                (word, what)
                for (what, _), is_met in zip(demands, ok, strict=True)
                if is_met is not None and not is_met  # a constraint is met by what is not known
            ]
            equal |= {(word, other) for other, is_equal in zip(named, same, strict=True) if is_equal}
        pairs = combinations(named, 2)
        return sorted(met), [pair for pair in pairs if pair in equal or pair[::-1] in equal]

    def rows(self, demands: Sequence[tuple[str, str]]) -> Sequence[Any] | DBAPIError:
        """Return what the database answers, or its refusal to be asked, after which the host's transaction goes on."""
        database = database_of(self.connection.dialect)
        transactions = database.transactions
        guarded = transactions.needs_savepoints and not transactions.is_autocommit(self.connection)
        try:
            with self.connection.begin_nested() if guarded else nullcontext():
                return self.connection.execute(self._query(demands)).all()
        except DBAPIError as error:
            if row_in(error, [database.errors]).fault.is_retryable:
                raise
            return error

    def _query(self, demands: Sequence[tuple[str, str]]) -> Any:
        catalogue = database_of(self.connection.dialect).catalogue
        literals = [escaped(self.stored.as_sql(self.words[word])) for word in sorted(self.words)]
        column = escaped(quoted(self.connection, self.mapping.told_by.name))
        rows = catalogue.words(self.connection, self.mapping, self.facts, literals)
        compared = "".join(f", ticketrouter_word = {each}" for each in literals)
        demanded = "".join(f", ({escaped(each)})" for _, each in demands)
        # Names are quoted, words are literals, conditions the catalogue's own.
        return text(
            f"SELECT ticketrouter_n{compared}{demanded} FROM (SELECT ticketrouter_n, ticketrouter_word, "  # noqa: S608
            f"ticketrouter_word AS {column} FROM ({' UNION ALL '.join(rows)}) AS ticketrouter_rows) AS ticketrouter_words"
        )
