"""How a status column stores the words of a scheme: as they are, or as numbers, truths, ids, members of an enumeration.

Law of this file: a word stands in a statement as its column stores it, and a row is read by what is stored in it. A
stored value that nobody has named is read as a word that no scheme has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum as PythonEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    Boolean,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    String,
    Uuid,
    and_,
    literal_column,
    not_,
    or_,
)
from sqlalchemy.types import TypeEngine, UserDefinedType

from ticketrouter.sqlalchemy.codecs import NO_WORD, Passage, as_word
from ticketrouter.sqlalchemy.schema import quoted
from ticketrouter.sqlalchemy.storage import Storage, storage_of
from ticketrouter.sqlalchemy.stored_status import Constant, NotStorableError, StoredStatus
from ticketrouter.sqlalchemy.types import bare, is_bytes, is_set, of_dialect


class StoredWords(StoredStatus):
    """The words of a status column, on one database.

    Args:
        type_: the type of the column.
        dialect: SQLAlchemy's, of the database.
        values: what the column takes for each word that is known.
        scheme: the words of the scheme, which are among them.

    Raises:
        NotStorableError: if the column cannot hold a value.
    """

    def __init__(
        self, type_: TypeEngine[Any], dialect: Dialect, values: Mapping[str, Any], scheme: Collection[str]
    ) -> None:
        self.type = type_
        self._bare = bare(type_, dialect)
        self._dialect = dialect
        self._scheme = frozenset(scheme)
        self._passage = Passage(type_, dialect)
        self._values = {word: self._as_taken(value) for word, value in values.items()}
        self._constants = {word: self._stored(value) for word, value in self._values.items()}
        self._by_constant = {constant: word for word, constant in self._constants.items()}

    @property
    def are_plain(self) -> bool:
        """Whether each word is stored as it is, in a type that nobody has decorated."""
        plain = isinstance(of_dialect(self.type, self._dialect), String)
        return plain and all(word is value for word, value in self._values.items())

    @staticmethod
    def keeps(type_: TypeEngine[Any], dialect: Dialect) -> bool:
        """Tell whether a column of a type keeps statuses at all, whichever they are."""
        there = bare(type_, dialect)
        is_known = isinstance(there, Integer | Boolean | String | Uuid) or is_bytes(type_, dialect)
        return is_known and not is_set(there)

    @property
    def are_texts(self) -> bool:
        """Whether a collation decides which of them are equal."""
        return isinstance(self._bare, String) and not isinstance(self._bare, Enum)

    @property
    def named(self) -> frozenset[str]:
        """Every word that a stored value is read as."""
        return frozenset(self._values)

    @property
    def enumerated(self) -> frozenset[Constant]:
        """What an enumerated column can hold; of others that is not known."""
        match self._bare:
            case Enum():
                return frozenset(self._bare.enums)
            case Boolean():
                return frozenset(map(self._stored, (False, True)))
            case _:
                return frozenset()

    def value(self, word: str) -> Any:
        """Return what the column takes for a word, or for what `word` has made of a value that nobody has named."""
        if word in self._values:
            return self._values[word]
        constant = self.constant(word)
        try:
            return self._passage.read(constant)
        except Exception:  # noqa: BLE001 - a type is anybody's code, and need not know it
            return constant

    def constant(self, word: str) -> Constant:
        """Return what is stored for a word, or for what `word` has made of a value that nobody has named."""
        if word in self._constants:
            return self._constants[word]
        text = word
        while text not in self._scheme and text[1:-1] in self._scheme and text == f"({text[1:-1]})":
            text = text[1:-1]
        match next(iter(self._constants.values())):
            case bool():
                return text == "True"
            case int():
                return int(text)
            case _:
                return text

    def literal(self, word: str) -> str:
        """Return a word as it stands in a statement, as SQL."""
        return self.as_sql(self.constant(word))

    def has(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `StoredStatus.has`; two words are equal where the database says so."""
        return column.in_(self.literals(words))

    def lacks(self, words: Collection[str], column: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `StoredStatus.lacks`; a row without a word has none of them."""
        return or_(column.is_(None), not_(self.has(words, column)))

    def is_exactly(
        self, words: Collection[str], column: ColumnElement[Any], storage: Storage
    ) -> ColumnElement[bool]:
        """See `StoredStatus.is_exactly`."""
        known = self.literals(words)
        exact = [self.to_the_letter(word, storage) for word in known]
        return and_(column.in_(known), self.to_the_letter(column, storage).in_(exact))

    def sql(self, words: Collection[str], column: str, literal: Callable[[str | int | bytes], str]) -> str:
        """See `StoredStatus.sql`."""
        return f"{column} IN ({', '.join(literal(self.constant(word)) for word in sorted(words))})"

    def literals(self, words: Collection[str]) -> list[ColumnElement[Any]]:
        """Return words as they stand in a statement: no database matches a bound list with a partial index."""
        return [literal_column(self.literal(word)) for word in sorted(words)]

    def to_the_letter(self, word: ColumnElement[Any], storage: Storage) -> ColumnElement[Any]:
        """Return a word of the status column such that no two words are equal.

        Args:
            word: the column, a column that has its values, or a literal.
            storage: how the database keeps them.
        """
        return storage.to_the_letter(word) if self.are_texts else word  # what is no text is no other one

    def as_sql(self, constant: Constant) -> str:
        """See `StoredStatus.as_sql`."""
        match constant:
            case bool():
                return str(constant).lower()
            case int():
                return str(constant)
            case bytes():
                return storage_of(self._dialect).bytes_literal(constant)
            case _:
                return quoted(constant)

    def word(self, given: Any) -> str:
        """Return the word of what a driver gives for a row."""
        if given is None:
            return NO_WORD
        given = _plain(given)
        found = self._by_constant.get(given)
        return self.name(given) if found is None else found

    def name(self, given: Any) -> str:
        """Return the word for a stored value that nobody has named: no scheme has it."""
        text = as_word(given.hex() if isinstance(given, bytes) else str(given))
        while text in self._scheme:
            text = f"({text})"
        return text

    def _as_taken(self, value: Any) -> Any:
        """Return a value as the column takes it: who counts by truths may say 1, and who has them may say True."""
        if isinstance(value, bool | int) and value in {0, 1}:
            if isinstance(self._bare, Boolean):
                return bool(value)
            if isinstance(self._bare, Integer) and isinstance(value, bool):
                return int(value)
        return value

    def _is_of_the_type(self, stored: Any) -> bool:
        match self._bare:
            case Integer() | Boolean():
                return isinstance(stored, int)
            case String():
                return isinstance(stored, str)
            case Uuid():
                return isinstance(stored, str | UUID)
            case _:
                return isinstance(stored, bytes) and is_bytes(self.type, self._dialect)

    def _stored(self, value: Any) -> Constant:
        try:
            stored: Any = self._passage.stored(value)
        except Exception as error:
            raise NotStorableError(str(error)) from error
        if isinstance(stored, PythonEnum):
            stored = stored.value
        if not self._is_of_the_type(stored) or not self._passage.fits(stored):
            raise NotStorableError(f"{value!r} would be stored as {stored!r}")
        if (back := self._passage.given_back(stored)) != stored and isinstance(self._bare, CHAR):
            raise NotStorableError(f"a CHAR gives it back as {back!r}: make the column VARCHAR")
        if isinstance(self._bare, Enum) and stored not in self._bare.enums:
            raise NotStorableError(f"the column takes only {', '.join(self._bare.enums)}")
        if isinstance(stored, str) and "\\" in stored:
            raise NotStorableError(
                "it would be stored with a backslash, whose meaning depends on the session"
            )
        if isinstance(stored, str) and "%(" in stored:
            raise NotStorableError("it would be stored with '%(', which may be taken for a parameter")
        constant: Constant = _plain(stored)
        return constant


def _plain(given: Any) -> Any:
    """Return what a driver is given, or gives, as SQL says it: some have classes of their own for bytes and UUIDs."""
    match given:
        case memoryview() | bytearray():
            return bytes(given)
        case UUID():
            return str(given)
        case _:
            return given


class WordType(UserDefinedType[str]):
    """What a status column is read as, where it does not store the words: each row's word.

    Args:
        words: the words of the column.
    """

    cache_ok: bool | None = True

    def __init__(self, words: StoredStatus) -> None:
        self.words: StoredStatus = words
        self.kept: TypeEngine[Any] = words.type
        """The type of the column itself."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        """Read what is stored: the column's own type may know less than a row holds."""
        return self.words.word
