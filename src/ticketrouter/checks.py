"""What makes a value valid: the checks that attrs runs when one is made.

Law of this file: every function either returns or raises InvalidMessageError with the field and the value.
What passes here is taken in the same way by every database that we support.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

from ticketrouter.errors import InvalidMessageError

if TYPE_CHECKING:
    from attrs import Attribute

Id: TypeAlias = int | str | UUID
"""How a host names its rows: `int` (never `bool`), non-empty `str`, or `uuid.UUID`."""

MAX_ID_LENGTH = 250
"""The longest text id, in characters: three of them fit the widest index key of InnoDB."""
MAX_MESSAGE_ID_LENGTH = 1000
"""The longest message id, in characters: a line of an e-mail's header has at most 998."""
MAX_STATUS_LENGTH = 255
"""The longest status word, in characters: the column of the Whaticket line is that wide."""
MAX_UNREAD = 1_000_000_000
"""The highest count of unread messages that a message may set: room is left to count on in 32 bits."""

_LOWEST_ID, _HIGHEST_ID = -(2**63), 2**63 - 1
_TIME = "a datetime with a time zone"
_ID = "an int of at most 64 bits, a str or a UUID"

_Enum = TypeVar("_Enum", bound=StrEnum)


def printable(text: str) -> str:
    """Return a text that cannot leave its line, turn it round, nor command a terminal: such characters as escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def check_text(name: str, value: str, longest: int) -> None:
    """Refuse a text that some database would refuse, cut or change."""
    if not 0 < len(value) <= longest:
        raise InvalidMessageError(name, value, f"a text of 1 to {longest} characters")
    if "\0" in value:
        raise InvalidMessageError(name, value, "a text without NUL, which PostgreSQL cannot store")
    # Most ids are ASCII, which has no surrogates: asking that first takes a tenth off every message.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidMessageError(name, value, "a text without lone surrogates, which are no Unicode")


def check_id(name: str, value: object, longest: int = MAX_ID_LENGTH) -> None:
    """Refuse what is no id: a bool above all, which databases take for 1 or 0."""
    match value:
        case str():
            check_text(name, value, longest)
        case bool():
            raise InvalidMessageError(name, value, f"{_ID}, never a bool")
        case int():
            if not _LOWEST_ID <= value <= _HIGHEST_ID:
                raise InvalidMessageError(name, value, _ID)
        case UUID():
            pass
        case _:
            raise InvalidMessageError(name, value, _ID)


def check_status(name: str, value: object) -> None:
    """Refuse what is no word for a status."""
    if not isinstance(value, str):
        raise InvalidMessageError(name, value, "a str")
    check_text(name, value, MAX_STATUS_LENGTH)
    if not value.isprintable():
        raise InvalidMessageError(name, value, "a text of printable characters")


def check_count(name: str, value: object, highest: float = MAX_UNREAD) -> None:
    """Refuse what is no count."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise InvalidMessageError(name, value, f"a whole number from 0 to {highest}")


def check_duration(name: str, value: object) -> None:
    """Refuse what is no span of time, or one that runs backwards."""
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidMessageError(name, value, "a timedelta of zero or more")


def as_utc(name: str, value: object) -> datetime:
    """Return the same instant in UTC; refuse what has no time zone, and a zone that cannot tell it."""
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if not isinstance(value, datetime):
        raise InvalidMessageError(name, value, _TIME)
    try:
        moment = None if value.utcoffset() is None else value.astimezone(UTC)
    except OverflowError:
        raise InvalidMessageError(name, value, "a datetime that UTC can express") from None
    except Exception as error:
        # A zone is anybody's code.
        raise InvalidMessageError(name, type(value), f"{_TIME} that works") from error
    if not isinstance(moment, datetime) or moment.tzinfo is not UTC:
        raise InvalidMessageError(name, type(value) if moment else value, _TIME)
    return moment


def as_member(name: str, kind: type[_Enum], value: _Enum | str) -> _Enum:
    """Return the member of `kind` that the value is, or is the word of."""
    if isinstance(value, kind):
        return value
    try:
        return kind(value)
    except Exception:  # noqa: BLE001 - a value may be of anybody's class, whose comparison may fail
        words = ", ".join(each.value for each in kind)
        raise InvalidMessageError(name, value, f"one of {words}") from None


# --- the same as validators of attrs ----------------------------------------------------------


def an_id(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate an id."""
    # Most ids are such numbers, and a message has three of them.
    if type(value) is not int or not _LOWEST_ID <= value <= _HIGHEST_ID:
        check_id(attribute.name, value)


def an_optional_id(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate an id, or None."""
    if value is not None:
        check_id(attribute.name, value)


def a_message_id(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a message id, which may be longer than other ids."""
    check_id(attribute.name, value, MAX_MESSAGE_ID_LENGTH)


def an_optional_message_id(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a message id, or None."""
    if value is not None:
        check_id(attribute.name, value, MAX_MESSAGE_ID_LENGTH)


def a_status(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a word for a status."""
    check_status(attribute.name, value)


def a_bool(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise InvalidMessageError(attribute.name, value, "True or False")


def an_optional_count(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a count that a caller may set, or None."""
    if value is not None:
        check_count(attribute.name, value)


def a_stored_count(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a count as a row has it, which may have grown past what a caller may set."""
    check_count(attribute.name, value, float("inf"))


def a_duration(_: object, attribute: Attribute[Any], value: object) -> None:
    """Validate a span of time that does not run backwards."""
    check_duration(attribute.name, value)
