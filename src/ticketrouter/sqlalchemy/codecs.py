"""How one field of a ticket is written to, and read from, a column of the host's own type.

Law of this file: a value that the column cannot hold exactly is refused with field and value before anything
is sent; whatever a row may hold is read without complaint. A type that somebody has decorated is asked: what counts is
whether a value goes through it and back unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Enum,
    Integer,
    SmallInteger,
    String,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.types import TypeEngine

from ticketrouter.checks import Id, check_status
from ticketrouter.errors import InvalidMessageError
from ticketrouter.sqlalchemy.storage import MICROSECONDS, storage_of
from ticketrouter.sqlalchemy.types import IdText, UtcDateTime, bare, is_set, of_dialect

NO_WORD = "(none)"
"""What stands for the status of a row that has none."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Encode: TypeAlias = Callable[[Any], Any]
Decode: TypeAlias = Callable[[Any], Any]


@frozen
class Codec:
    """A pair of functions: a value to what the driver is given, and back."""

    encode: Encode
    decode: Decode


def _same(value: Any) -> Any:
    return value


def _optional(codec: Codec) -> Codec:
    return Codec(
        encode=lambda value: None if value is None else codec.encode(value),
        decode=lambda value: None if value is None or value == "" else codec.decode(value),
    )


SAME = Codec(_same, _same)


def with_absent(codec: Codec, field: str, absent: Any) -> Codec:
    """Return the codec of a column in which a value stands for None.

    Args:
        codec: that of the column otherwise.
        field: the field's name, for errors.
        absent: the value, as the column takes it; it is no id of anybody.
    """

    def encode(value: Any) -> Any:
        if value is None:
            return absent
        given = codec.encode(value)
        if given == absent and not isinstance(value, datetime):
            raise InvalidMessageError(field, value, "another id, as its column has that one for none")
        return given

    return Codec(encode, lambda value: None if value == absent else codec.decode(value))


def without_blanks(codec: Codec, field: str, type_: TypeEngine[Any], dialect: Dialect) -> Codec:
    """Return the codec of a column that keeps no blanks at the end of a text: such a text is refused."""
    passage = Passage(type_, dialect)

    def encode(value: Any) -> Any:
        given = codec.encode(value)
        stored = None if given is None else passage.stored(given)
        if isinstance(stored, str) and stored.endswith(" "):
            raise InvalidMessageError(
                field, value, "a str without a blank at its end, which its column (CHAR) drops"
            )
        return given

    return Codec(encode, codec.decode)


# --- the way through a type ----------------------------------------------------------------------------------


class Passage:
    """The way of values through the type of a column, to the driver of a database and back.

    Args:
        type_: the type.
        dialect: the dialect.
    """

    def __init__(self, type_: TypeEngine[Any], dialect: Dialect) -> None:
        self._bare = bare(type_, dialect)
        self._is_wide = storage_of(dialect).is_wide
        self._pads = storage_of(dialect).pads_chars and isinstance(self._bare, CHAR)
        self._keeps_zones = storage_of(dialect).keeps_zones and bool(getattr(self._bare, "timezone", False))
        there = type_.dialect_impl(dialect)
        try:
            self._bind: Encode = there.bind_processor(dialect) or _same
            self._read: Decode = there.result_processor(dialect, None) or _same
        except AttributeError:  # a type of another database asks a dialect for what only its own has
            self._bind = self._read = _same

    def stored(self, value: Any) -> Any:
        """Return what a driver is given for a value; the type may raise whatever it likes."""
        given = self._bind(value)
        # The processor of bytes makes an object of the driver's.
        return bytes(given) if isinstance(given, memoryview | bytearray) else given

    def read(self, given: Any) -> Any:
        """Return the value of what a driver gives; the type may raise whatever it likes."""
        return self._read(given)

    def keeps(self, value: Any) -> bool:
        """Tell whether a value goes through the type and back unchanged."""
        try:
            stored = self.stored(value)
            comes_back = any(self._comes_back(each, value) for each in self._given(stored))
            return self.fits(stored) and comes_back
        except Exception:  # noqa: BLE001 - a type is anybody's code
            return False

    def _comes_back(self, given: Any, value: Any) -> bool:
        try:
            back = self._read(given)
        except Exception:  # noqa: BLE001 - as above
            return False
        return type(back) is type(value) and _is_aware(back) is _is_aware(value) and bool(back == value)

    def _given(self, stored: Any) -> Iterator[Any]:
        """Give what a driver may make of a value on its way back."""
        match stored:
            case datetime() if not self._keeps_zones:
                yield stored.replace(tzinfo=None)
            case str() if isinstance(self._bare, Uuid):
                yield from (stored, UUID(stored))
            case str() if self._pads:
                yield stored.ljust(getattr(self._bare, "length", None) or 1)
            case UUID():
                yield from (stored, str(stored))
            case _:
                yield stored

    def given_back(self, stored: Any) -> Any:
        """Return what a driver gives back of what it was given."""
        return next(self._given(stored))

    def fits(self, stored: Any) -> bool:
        """Tell whether the database has room for what a driver is given."""
        match self._bare, stored:
            case Integer(), int() as number:
                half: int = 2 ** (_bits(self._bare, wide=self._is_wide) - 1)
                return -half <= number < half
            case String(length=int() as longest), str() as text:
                return len(text) <= longest
            case _:
                return True


def _is_aware(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _decorated(field: str, type_: TypeEngine[Any], dialect: Dialect, decode: Decode) -> Codec:
    passage, name = Passage(type_, dialect), type(type_).__name__

    def encode(value: Any) -> Any:
        if not passage.keeps(value):
            raise InvalidMessageError(field, value, f"a value that its column ({name}) gives back unchanged")
        return value

    return _optional(Codec(encode, decode))


def _text_codec(field: str, type_: String, dialect: Dialect) -> Codec:
    if not isinstance(type_, CHAR) or not storage_of(dialect).pads_chars:
        return _optional(Codec(_text_encoder(field, type_.length), str))
    passage, length = Passage(type_, dialect), type_.length or 1

    def encode(value: Any) -> str:
        if not isinstance(value, str) or not passage.keeps(value):
            expected = f"a str of {length} characters, as its column (CHAR) fills up shorter ones"
            raise InvalidMessageError(field, value, expected)
        return value

    return _optional(Codec(encode, str))


# --- ids -----------------------------------------------------------------------------------------------------


def id_codec(field: str, type_: TypeEngine[Any], dialect: Dialect) -> Codec | None:
    """Return the codec of an id.

    Args:
        field: the field's name, for errors.
        type_: the column's type.
        dialect: SQLAlchemy's, of the database.

    Returns:
        The codec, which takes None too; None if no id can be kept in such a column.
    """
    match of_dialect(type_, dialect):
        case IdText():
            return SAME
        case TypeDecorator() as decorated:
            passage = Passage(decorated, dialect)
            kept = any(passage.keeps(each) for each in _IDS)
            return _decorated(field, decorated, dialect, _as_id) if kept else None
        case Integer() as number:
            bits = _bits(number, wide=storage_of(dialect).is_wide)
            return _optional(Codec(_int_encoder(field, bits), int))
        case Uuid() as uuid:
            return _optional(_uuid_codec(field) if uuid.as_uuid else _uuid_text_codec(field))
        case String() as text if not is_set(text):
            return _text_codec(field, text, dialect)
        case _:
            return None


def keeps_to_the_letter(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a column of a type gives every text back to the letter, as one of UUIDs does not."""
    match of_dialect(type_, dialect):
        case IdText():
            return True
        case TypeDecorator() as decorated:
            return Passage(decorated, dialect).keeps("Aa")
        case Uuid():
            return False
        case other:
            return isinstance(other, String)


_IDS: tuple[Id, ...] = (1, "1", UUID(int=1), str(UUID(int=1)))
"""An id of each kind."""


def _as_id(value: Any) -> Id:
    """Return what a row has as an id: a driver, and a type, may have classes of their own."""
    match value:
        case bool():
            return str(value)
        case int():
            return int(value)
        case UUID():
            return value if type(value) is UUID else UUID(int=value.int)
        case _:
            return str(value)


def _bits(type_: TypeEngine[Any], *, wide: bool) -> int:
    """Return how many bits an integer column has; wide: all have 64, as on SQLite."""
    return 64 if wide or isinstance(type_, BigInteger) else 16 if isinstance(type_, SmallInteger) else 32


def _int_encoder(field: str, bits: int) -> Encode:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def encode(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise InvalidMessageError(field, value, f"an int of {bits} bits, as its column holds")
        return int(value)

    return encode


def _uuid_text_codec(field: str) -> Codec:
    encode = _text_encoder(field, 36)

    def encode_compared(value: Any) -> str:
        # A message's connection is compared with the row's: in another form it would be another one for ever.
        if not isinstance(value, str) or not _is_canonical(value):
            raise InvalidMessageError(
                field, value, "a UUID's text in lower case, as its column gives it back"
            )
        return value

    return Codec(encode_compared if field == "connection_id" else encode, str)


def _is_canonical(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _text_encoder(field: str, length: int | None) -> Encode:
    def encode(value: Any) -> str:
        if not isinstance(value, str) or (length is not None and len(value) > length):
            longest = "" if length is None else f" of at most {length} characters"
            raise InvalidMessageError(field, value, f"a str{longest}, as its column holds")
        return value

    return encode


def _uuid_codec(field: str) -> Codec:
    def encode(value: Any) -> UUID:
        if not isinstance(value, UUID):
            raise InvalidMessageError(field, value, "a UUID, as its column holds")
        return value

    # asyncpg has a UUID of its own, which is equal but does not leave the process as one of Python's.
    return Codec(encode, lambda value: value if type(value) is UUID else UUID(str(value)))


# --- times ---------------------------------------------------------------------------------------------------


def time_codec(
    type_: TypeEngine[Any], dialect: Dialect, *, epoch: timedelta, timezone: tzinfo
) -> Codec | None:
    """Return the codec of a time.

    Args:
        type_: the column's type: of times with a zone, of times in UTC without one, or whole numbers.
        dialect: SQLAlchemy's, of the database.
        epoch: what one unit of a whole-number column is, counted from 1970.
        timezone: of times without a zone.

    Returns:
        The codec, which takes None too; None if no time can be kept in such a column.
    """
    counted = _optional(
        Codec(lambda value: (value - EPOCH) // epoch, _readable(lambda value: EPOCH + int(value) * epoch))
    )
    naive = _optional(_local(timezone))
    aware = _optional(Codec(_same, _readable(_aware_utc)))
    match of_dialect(type_, dialect):
        case UtcDateTime():
            return SAME
        case TypeDecorator() as decorated:
            passage = Passage(decorated, dialect)
            takes = ((_SOME_TIME, aware), (_SOME_TIME.replace(tzinfo=None), naive), (1, counted))
            return next((codec for value, codec in takes if passage.keeps(value)), None)
        case Integer():
            return counted
        case DateTime(timezone=is_aware):
            return SAME if is_aware and storage_of(dialect).keeps_zones else naive
        case _:
            return None


_SOME_TIME = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)


def _readable(decode: Decode) -> Decode:
    """Read what is no time, as a zero date of MariaDB, as a missing one."""

    def read(value: Any) -> datetime | None:
        try:
            moment: datetime = decode(value)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            return None
        return moment

    return read


def _local(timezone: tzinfo) -> Codec:
    """Return the codec of times without a zone; of an hour that is there twice they are the first."""
    if timezone is UTC:
        return Codec(_naive_utc, _readable(_aware_utc))

    def aware(value: datetime) -> datetime:
        local = value.replace(tzinfo=timezone, fold=0) if value.tzinfo is None else value
        return local.astimezone(UTC)

    return Codec(lambda value: value.astimezone(timezone).replace(tzinfo=None, fold=0), _readable(aware))


def _naive_utc(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(tzinfo=None)


def _aware_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def kept_time(
    type_: TypeEngine[Any], codec: Codec, dialect: Dialect, digits: int | None
) -> Callable[[datetime], datetime] | None:
    """Return what tells a time as a column has it that was given it; None: nobody here knows.

    Args:
        type_: the column's type.
        codec: that of the column.
        dialect: SQLAlchemy's, of the database.
        digits: how many digits of a second the column keeps, where the database says so.
    """
    passage, rounds = Passage(type_, dialect), storage_of(dialect).rounds_times
    # What is no time to the driver, as a text or a number, the database keeps as it is.
    if isinstance(passage.stored(codec.encode(_SOME_TIME)), datetime) is (digits is None):
        return None
    unit = 10 ** (MICROSECONDS - (MICROSECONDS if digits is None else digits))

    def kept(at: datetime) -> datetime:
        stored = passage.stored(codec.encode(at))
        if unit > 1:
            stored = _in_units(stored, unit, rounds=rounds)
        found: datetime | None = codec.decode(passage.read(passage.given_back(stored)))
        return at if found is None else found.astimezone(UTC)

    return kept


def _in_units(moment: datetime, unit: int, *, rounds: bool) -> datetime:
    """Return a time in whole units of so many microseconds."""
    rest = moment.microsecond % unit
    up = unit if rounds and 2 * rest >= unit else 0
    return moment + timedelta(microseconds=up - rest)


# --- words, flags and counts ---------------------------------------------------------------------------------


def status_codec(type_: TypeEngine[Any]) -> Codec | None:
    """Return the codec of a status; what is no word, as a NULL is not, is read as a closed one."""
    match type_:
        case Enum() if type_.enum_class is not None:
            # The row gives a member; the column, and the scheme, have its word.
            words = dict(zip(type_.enum_class, type_.enums, strict=True))
            return Codec(_same, lambda value: as_word(words.get(value, value)))
        case String():
            return Codec(_same, as_word)
        case _:
            return None


@lru_cache(maxsize=1024)  # there are few, and each row has one
def as_word(value: Any) -> str:
    """Return the word that a value is, or what stands for none."""
    try:
        check_status("status", value)
    except InvalidMessageError:
        return NO_WORD
    return str(value)


def flag_codec(type_: TypeEngine[Any], dialect: Dialect) -> Codec | None:
    """Return the codec of True and False, in a column of those or of 0 and 1; a NULL is False."""
    match of_dialect(type_, dialect):
        case TypeDecorator() as decorated:
            passage = Passage(decorated, dialect)
            if passage.keeps(value=True) and passage.keeps(value=False):
                return Codec(_same, bool)
            return Codec(int, bool) if passage.keeps(0) and passage.keeps(1) else None
        case Boolean():
            return Codec(_same, bool)
        case Integer():
            return Codec(int, bool)
        case _:
            return None


def count_codec(type_: TypeEngine[Any], dialect: Dialect) -> Codec | None:
    """Return the codec of a count; a NULL, or a number below zero, is 0."""
    match of_dialect(type_, dialect):
        case Integer():
            is_count = True
        case TypeDecorator() as decorated:
            # The database itself counts on.
            is_count = isinstance(bare(decorated, dialect), Integer) and Passage(decorated, dialect).keeps(7)
        case _:
            is_count = False
    return Codec(_same, lambda value: max(int(value or 0), 0)) if is_count else None
