"""JSON as it comes from outside: anything that is not exactly JSON is refused in one way.

Law of this file: text in, values out; whatever the text, the only error is InvalidMessageError.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeAlias

from ticketrouter.errors import InvalidMessageError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""Any value of JSON."""

WHOLE = "line"
"""The name of the field where the line as a whole is wrong."""


def loads(text: str) -> Json:
    """Read one value of JSON.

    Args:
        text: the text of exactly one value.

    Returns:
        The value.

    Raises:
        InvalidMessageError: if the text is not JSON (NaN and a name given twice are not), is too deeply
            nested, or holds a number of thousands of digits.
    """
    try:
        value: Json = _decoder.decode(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise InvalidMessageError(WHOLE, text, f"JSON ({error.msg}, {where})") from None
    except RecursionError:
        raise InvalidMessageError(WHOLE, text, "JSON that is less deeply nested") from None
    except InvalidMessageError:
        raise
    except ValueError:
        raise InvalidMessageError(WHOLE, text, "JSON with numbers of a sensible length") from None
    return value


def is_unfinished(text: str) -> bool:
    """Tell whether the text may well be the beginning of a value of JSON that goes on in the next line."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def is_value(text: str, kind: type = object) -> bool:
    """Tell whether the text is one complete value of JSON, of this kind."""
    try:
        return isinstance(loads(text), kind)
    except InvalidMessageError:
        return False


def _no_constant(word: str) -> NoReturn:
    raise InvalidMessageError(WHOLE, word, "JSON, which knows no NaN and no Infinity")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        known: set[str] = set()
        for name, value in pairs:
            if name in known:
                raise InvalidMessageError(name, value, "given once")
            known.add(name)
    return found


# Made once: `json.loads` would make one for every line.
_decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
