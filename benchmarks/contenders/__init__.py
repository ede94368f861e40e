"""The ways to find the ticket of a message, each as its own people would write it.

Law of this package: a contender is a context manager that takes a Cell and where its stand is, and yields a
function of one message, or of a list of them where the cell has a batch; for an asynchronous driver both are
asynchronous. Everybody does the same work: bump the count and the time of the active ticket, or make one, and
fetch the ticket.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias

from sqlalchemy import URL

from benchmarks.cells import ASYNC_DRIVERS, Cell

Send: TypeAlias = Callable[[Any], Any]
Factory: TypeAlias = Callable[[Cell, URL], AbstractContextManager[Send]]
AsyncFactory: TypeAlias = Callable[[Cell, URL], AbstractAsyncContextManager[Send]]


def is_async(cell: Cell) -> bool:
    """Tell whether a cell's function is to be awaited."""
    return cell.driver in ASYNC_DRIVERS.values()


def factory_of(cell: Cell) -> Any:
    """Return the contender of a cell."""
    # Only when it is asked for: a machine without Django measures the rest.
    from benchmarks.contenders import bare, django_orm, orm, ours, raw  # noqa: PLC0415

    by_name: dict[tuple[str, bool], Factory | AsyncFactory] = {
        ("raw", False): raw.hand_written,
        ("raw", True): raw.hand_written_async,
        ("raw, our statements", False): raw.our_statements,
        ("core", False): bare.core,
        ("core", True): bare.core_async,
        ("ours", False): ours.ours,
        ("ours", True): ours.ours_async,
        ("orm", False): orm.select_then_insert,
        ("django", False): django_orm.get_or_create,
    }
    return by_name[cell.contender, is_async(cell)]
