"""Column types of our own tables: ids of any type, times in UTC, digests of message ids.

Law of this file: what is read back equals what was written, on every database, in value and in type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from math import isfinite, isnan
from typing import Any, TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BINARY,
    JSON,
    VARBINARY,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    Uuid,
    bindparam,
    func,
    literal_column,
)
from sqlalchemy.dialects.mysql import SET
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.sql.elements import Null
from sqlalchemy.types import TypeDecorator, TypeEngine

from ticketrouter.checks import Id
from ticketrouter.sqlalchemy.storage import storage_of

Reader: TypeAlias = Callable[[Any], Any]


def of_dialect(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type that a column has with a dialect: it may have a variant for it."""
    variants: Mapping[str, TypeEngine[Any]] = getattr(type_, "_variant_mapping", {})
    return variants.get(dialect.name, type_)


def undomained(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return what a domain of PostgreSQL is over, by which its values can be compared; another type as it is."""
    while isinstance(type_, DOMAIN):
        type_ = type_.data_type
    return type_


def is_set(type_: TypeEngine[Any]) -> bool:
    """Tell whether a column of a type gives a set of words for each row, where a ticket has one."""
    return isinstance(type_, SET)


def bare(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return what a database has of a type that somebody has decorated; ours are what they are."""
    found = of_dialect(type_, dialect)
    while isinstance(found, TypeDecorator) and not isinstance(found, IdText | UtcDateTime | MessageDigest):
        found = found.type_engine(dialect)
    return found


def is_time(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a column of a type keeps a time as the database does: what a host's decorator makes of one, it knows."""
    return isinstance(of_dialect(type_, dialect), UtcDateTime | DateTime)


def is_bytes(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a database keeps bytes in a column of a type, which JSON does not have."""
    return isinstance(bare(getattr(type_, "kept", type_), dialect), LargeBinary | BINARY | VARBINARY)


def in_json(cell: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """Return a cell as it stands in a JSON array: bytes as digits."""
    return func.hex(cell) if is_bytes(cell.type, dialect) else cell


_MARK = "text:"
_INT = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_INT_IDS = range(-(2**63), 2**63)
_SURE_DIGITS = 19
"""A number of fewer digits fits into 64 bits."""


def encode_id(value: Id) -> str:
    """Write an id of any type as a text.

    Args:
        value: an id.

    Returns:
        A number in decimal, a UUID in its canonical form, a text as it is; a text that would read as one of
        the others is marked, so that 10 and "10" stay two ids.
    """
    match value:
        case int():
            return str(int(value))
        case str():
            return _MARK + value if _reads_as_other(value) else value
        case UUID():
            return str(value)


def decode_id(text: str) -> Id:
    """Read an id as `encode_id` wrote it, in its own type."""
    # Most ids are such numbers, and each row has three: to ask this first takes a third of the time.
    if len(text) < _SURE_DIGITS and text.isascii() and text.isdecimal() and text[0] != "0":
        return int(text)
    if text.startswith(_MARK) and _reads_as_other(text.removeprefix(_MARK)):
        return text.removeprefix(_MARK)
    if _is_int(text):
        return int(text)
    if _UUID.fullmatch(text):
        return UUID(text)
    return text


def _is_int(text: str) -> bool:
    return _INT.fullmatch(text) is not None and int(text) in _INT_IDS


def _reads_as_other(text: str) -> bool:
    bare = text
    while bare.startswith(_MARK):
        bare = bare.removeprefix(_MARK)
    return _is_int(bare) or _UUID.fullmatch(bare) is not None


class IdText(TypeDecorator[Id]):
    """An id of any type in a text column that tells cases, accents and trailing spaces apart."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String(255)
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Use a binary collation without padding where the default one would merge ids."""
        return dialect.type_descriptor(storage_of(dialect).ids)

    def process_bind_param(self, value: Id | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode."""
        return None if value is None else encode_id(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Id | None:  # noqa: ARG002
        """Decode."""
        return None if value is None else decode_id(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond, also where the database knows no time zones."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """Keep microseconds and, where there is one, the time zone."""
        return dialect.type_descriptor(storage_of(dialect).times)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Leave off the zone where the column has none."""
        if value is None or getattr(self.impl, "timezone", False):
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def digest_of(value: Id) -> bytes:
    """Return what stands for a message id: 32 bytes."""
    return sha256(encode_id(value).encode()).digest()


class MessageDigest(TypeDecorator[Id]):
    """A message id as the SHA-256 of its text: any length, told apart byte by byte, 32 bytes in the index."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = LargeBinary(32)
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[bytes]:
        """Use a type that a primary key takes."""
        return dialect.type_descriptor(storage_of(dialect).digests)

    def process_bind_param(self, value: Id | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """Digest."""
        return None if value is None else digest_of(value)


class JsonRow(TypeDecorator[list[Any]]):
    """A row that comes as one JSON array, each value read as a column of its type is read.

    Args:
        types: the types of the columns.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String
    cache_ok: bool | None = True

    def __init__(self, types: tuple[TypeEngine[Any], ...]) -> None:
        super().__init__()
        self.types = types
        self._readers: WeakKeyDictionary[Dialect, list[Reader | None]] = WeakKeyDictionary()

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[Any] | None:
        """Read the row."""
        return None if value is None else self._read(_parse(value), dialect)

    def _read(self, row: list[Any], dialect: Dialect) -> list[Any]:
        readers = self._readers.get(dialect)
        if readers is None:
            readers = self._readers[dialect] = [_reader(type_, dialect) for type_ in self.types]
        return [cell if read is None else read(cell) for read, cell in zip(readers, row, strict=True)]


class JsonRows(JsonRow):
    """The same for several rows, in a JSON array of arrays."""

    cache_ok: bool | None = True

    def process_bind_param(self, value: list[list[Any]] | None, dialect: Dialect) -> str:
        """Write the rows, of values that JSON knows, or that their types make such."""
        write = [_writer(type_, dialect) for type_ in self.types]
        rows = value or []
        return json.dumps([[writer(cell) for writer, cell in zip(write, row, strict=True)] for row in rows])

    def process_result_value(self, value: str | None, dialect: Dialect) -> list[Any]:
        """Read the rows."""
        return [self._read(row, dialect) for row in _parse(value or "[]")]


def _writer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    """Return what makes of a value one that JSON knows."""
    write = type_.dialect_impl(dialect).bind_processor(dialect) or _as_it_is
    return (lambda cell: _in_json(write(cell))) if isinstance(type_, InARow) else write


def _in_json(value: Any) -> Any:
    """Return a value as SQLite finds it in JSON: there are numbers that JSON does not have, and a text ends at a NUL.

    Such a number is what a column of numbers makes it of, and such a text is a list of its parts.
    """
    if isinstance(value, str):
        value.encode()  # half a letter is no text, and the driver would say so
        return value.split("\0") if "\0" in value else value
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else f"{'-' if value < 0 else ''}9e999"
    if isinstance(value, int) and value not in _INT_IDS:
        raise OverflowError("the number is of more than 64 bits")
    return value


def _parse(text: str) -> list[Any]:
    # MariaDB leaves some control characters as they are.
    rows: list[Any] = json.loads(text, strict=False)
    return rows


def _reader(type_: TypeEngine[Any], dialect: Dialect) -> Reader | None:
    """Return what makes a value of a JSON array what a column of this type gives; None: it is that."""
    read: Reader | None = type_.dialect_impl(dialect).result_processor(dialect, None)
    first: Reader
    if is_bytes(type_, dialect):
        first = _from_digits
    elif storage_of(dialect).json_has_texts and isinstance(bare(type_, dialect), DateTime | UtcDateTime):
        first = _as_time
    else:
        return read
    if read is None:
        return first
    then = read
    return lambda text: then(first(text))


def _from_digits(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _as_time(text: str | None) -> datetime | str | None:
    """Return what the drivers make of a time that stands alone: one that is none, as the zero date, stays a text."""
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return text


def is_as_it_is(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether a column is written and read without an SQL function of its type's."""
    there = of_dialect(type_, dialect)
    cell: ColumnElement[Any] = literal_column("cell", there)
    return (
        there.bind_expression(bindparam("cell", type_=there)) is None
        and there.column_expression(cell) is None
    )


_IN_A_ROW = (
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    Numeric,
    String,
    Time,
    Uuid,
    LargeBinary,
    JSON,
)
"""What a database takes among the values of many rows."""


def goes_in_a_row(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether values of a host's type can be sent among those of many rows."""
    if not is_as_it_is(type_, dialect):
        return False
    found = of_dialect(type_, dialect)
    while _only_decorates(found):
        found = found.type_engine(dialect)  # type: ignore[attr-defined]
    return isinstance(found, (*_IN_A_ROW, IdText, UtcDateTime))


def _only_decorates(type_: TypeEngine[Any]) -> bool:
    """Tell whether a type makes of a value what the one that it decorates takes; others write it by themselves."""
    is_ours = isinstance(type_, IdText | UtcDateTime)
    return (
        isinstance(type_, TypeDecorator)
        and not is_ours
        and type(type_).bind_processor is TypeDecorator.bind_processor
    )


class InARow(TypeDecorator[Any]):
    """A value of a host's column, among those of many rows: its type makes of it what the database is given, and no driver.

    Args:
        kept: the type of the column.
        there: as what the database takes it before it is written into the column; None: as that is.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok: bool | None = True

    def __init__(self, kept: TypeEngine[Any], there: TypeEngine[Any] | None = None) -> None:
        super().__init__()
        self.kept: TypeEngine[Any] = kept
        self.there: TypeEngine[Any] = kept if there is None else there

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return what the database takes it as."""
        return dialect.type_descriptor(self.there)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write the value."""
        found = of_dialect(self.kept, dialect)
        while isinstance(found, TypeDecorator) and _only_decorates(found):
            if type(found).process_bind_param is not TypeDecorator.process_bind_param:
                value = found.process_bind_param(value, dialect)
            found = found.type_engine(dialect)
        match found:
            case LargeBinary():
                return None if value is None else bytes(value)
            case JSON():
                return _as_json(found, value, dialect)
            case _:
                write = found.dialect_impl(dialect).bind_processor(dialect)
                return value if write is None else write(value)


def _as_json(type_: JSON, value: Any, dialect: Dialect) -> str | None:
    """Write a value as a text of JSON: some drivers' types make objects of their own of it, for no other to send."""
    if isinstance(value, Null) or (value is None and type_.none_as_null):
        return None
    dumps: Callable[[Any], str] = getattr(dialect, "_json_serializer", None) or json.dumps
    return dumps(None if value is JSON.NULL else value)


class ArrayText(TypeDecorator[list[Any]]):
    """An array that PostgreSQL takes as one text, to be cast: every driver sends that, in half the time of a list.

    Args:
        type_: the type of the elements.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok: bool | None = True

    def __init__(self, type_: TypeEngine[Any]) -> None:
        super().__init__()
        self.type = type_

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> str:
        """Write the array."""
        cells = value or []
        # The processor of bytes would make an object of the driver's.
        match self.type:
            case InARow() as given:
                # What is equal need not be the same: [1] and [True] are two texts.
                return (
                    "{" + ",".join(_element(given.process_bind_param(cell, dialect)) for cell in cells) + "}"
                )
            case MessageDigest():
                write: Any = digest_of
            case TypeDecorator() as decorated if is_bytes(decorated, dialect):
                write = partial(decorated.process_bind_param, dialect=dialect)
            case _:
                write = self.type.dialect_impl(dialect).bind_processor(dialect)
        # Companies and connections come again and again.
        written = {cell: _element(cell if write is None else write(cell)) for cell in set(cells)}
        return "{" + ",".join(map(written.__getitem__, cells)) + "}"


def _element(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case int():
            return str(value)
        case timedelta():
            return f'"{value.days} days {value.seconds}.{value.microseconds:06} seconds"'
        case bytes():
            return rf'"\\x{value.hex()}"'
        case str():
            escaped = value.replace("\\", r"\\").replace('"', r"\"") if not value.isalnum() else value
            return f'"{escaped}"'
        case _:
            return f'"{value}"'


def _as_it_is(value: Any) -> Any:
    return value


class BigId(BigInteger):
    """An automatic id of 64 bits; a room says how its database writes that, where it is no BIGINT."""
