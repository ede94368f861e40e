"""How one field of a ticket is written to, and read from, a column of the host's own type.

Law of this file: a value that the column cannot hold exactly is refused with field and value before anything
is sent; whatever a row may hold is read without complaint.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

from attrs import frozen
from sqlalchemy import BigInteger, Boolean, DateTime, Enum, Integer, SmallInteger, String, Uuid
from sqlalchemy.types import TypeEngine

from ticketrouter.checks import check_status
from ticketrouter.errors import InvalidMessageError
from ticketrouter.sqlalchemy.types import IdText, UtcDateTime

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


def id_codec(field: str, type_: TypeEngine[Any], *, wide: bool) -> Codec | None:
    """Return the codec of an id.

    Args:
        field: the field's name, for errors.
        type_: the column's type.
        wide: whether the database keeps 64 bits in every integer column, as SQLite does.

    Returns:
        The codec, which takes None too; None if no id can be kept in such a column.
    """
    match type_:
        case IdText():
            return SAME
        case Integer():
            bits = (
                64 if wide or isinstance(type_, BigInteger) else 16 if isinstance(type_, SmallInteger) else 32
            )
            return _optional(Codec(_int_encoder(field, bits), int))
        case Uuid():
            return _optional(_uuid_codec(field) if type_.as_uuid else Codec(_text_encoder(field, 36), str))
        case String():
            return _optional(Codec(_text_encoder(field, type_.length), str))
        case _:
            return None


def _int_encoder(field: str, bits: int) -> Encode:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def encode(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise InvalidMessageError(field, value, f"an int of {bits} bits, as its column holds")
        return int(value)

    return encode


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


def time_codec(type_: TypeEngine[Any], *, zoned: bool, epoch: timedelta) -> Codec | None:
    """Return the codec of a time.

    Args:
        type_: the column's type: of times with a zone, of times in UTC without one, or whole numbers.
        zoned: whether the database has times with a zone, as PostgreSQL does.
        epoch: what one unit of a whole-number column is, counted from 1970.

    Returns:
        The codec, which takes None too; None if no time can be kept in such a column.
    """
    match type_:
        case UtcDateTime():
            return SAME
        case Integer():
            return _optional(
                Codec(
                    lambda value: (value - EPOCH) // epoch,
                    _readable(lambda value: EPOCH + int(value) * epoch),
                )
            )
        case DateTime() if zoned and type_.timezone:
            return SAME
        case DateTime():
            return _optional(Codec(_naive_utc, _readable(_aware_utc)))
        case _:
            return None


def _readable(decode: Decode) -> Decode:
    """Read what is no time, as a zero date of MariaDB, as a missing one."""

    def read(value: Any) -> datetime | None:
        try:
            moment: datetime = decode(value)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            return None
        return moment

    return read


def _naive_utc(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(tzinfo=None)


def _aware_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def status_codec(type_: TypeEngine[Any]) -> Codec | None:
    """Return the codec of a status; what is no word, as a NULL is not, is read as a closed one."""
    match type_:
        case Enum() if type_.enum_class is not None:
            # The row gives a member; the column, and the scheme, have its word.
            words = dict(zip(type_.enum_class, type_.enums, strict=True))
            return Codec(_same, lambda value: _word(words.get(value, value)))
        case String():
            return Codec(_same, _word)
        case _:
            return None


@lru_cache(maxsize=1024)  # there are few, and each row has one
def _word(value: Any) -> str:
    try:
        check_status("status", value)
    except InvalidMessageError:
        return NO_WORD
    return str(value)


def flag_codec(type_: TypeEngine[Any]) -> Codec | None:
    """Return the codec of True and False, in a column of those or of 0 and 1; a NULL is False."""
    match type_:
        case Boolean():
            return Codec(_same, bool)
        case Integer():
            return Codec(int, bool)
        case _:
            return None


def count_codec(type_: TypeEngine[Any]) -> Codec | None:
    """Return the codec of a count; a NULL, or a number below zero, is 0."""
    return Codec(_same, lambda value: max(int(value or 0), 0)) if isinstance(type_, Integer) else None
