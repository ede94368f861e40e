"""The way around the checks, for what has been through them: constructors that take their parts as they are.

Law of this file: it knows no value by name. A public constructor checks what a caller gives; what is made of parts
that were checked, or that a row of ours had, is made by one of these. A message costs half a dozen such values, and
each takes a quarter to a half of the time.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

from attrs import AttrsInstance, field, fields, make_class

_Value = TypeVar("_Value", bound=AttrsInstance)


def unchecked(kind: type[_Value]) -> type[_Value]:
    """Return a constructor of a frozen class that neither converts nor checks nor asks who may set what.

    Args:
        kind: the class, with slots and without one for weak references.

    Returns:
        What takes the arguments of the class and makes instances of it.
    """

    def become(made: Any) -> None:
        made.__class__ = kind

    # A class of the same slots that is not frozen; Python lets its instances change over to the other one.
    parts: dict[str, Any] = {
        each.name: field(default=each.default, alias=each.alias, kw_only=each.kw_only)
        for each in fields(kind)
    }
    slots: Any = vars(kind)["__slots__"]
    cached = {name: cached_property[None](_nothing) for name in slots if name not in parts}
    maker: Any = make_class(
        f"Unchecked{kind.__name__}",
        parts,
        class_body={"__attrs_post_init__": become, **cached},
        eq=False,
        repr=False,
        slots=True,
        weakref_slot=False,
    )
    result: type[_Value] = maker
    return result


def _nothing(_: object) -> None:
    """Stand for a cached property, of which only the slot is needed."""
