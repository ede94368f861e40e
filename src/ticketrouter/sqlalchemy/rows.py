"""Rows that are sent with a statement, as many as there are, while the text of the statement stays the same.

Law of this file: a statement that holds its rows as text would be built, compiled and prepared anew for every batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    LargeBinary,
    bindparam,
    cast,
    column,
    func,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from ticketrouter.sqlalchemy.types import ArrayText, JsonRows, MessageDigest, digest_of

_DIGEST = 32


class SentRows:
    """A table of the rows that a statement is sent with, on PostgreSQL or SQLite.

    Args:
        dialect_name: the database.
        types: the type of each column, by name.
        numbered: the name of a column more, on PostgreSQL, that counts the rows from 1.
    """

    def __init__(
        self, dialect_name: str, types: Mapping[str, TypeEngine[Any]], *, numbered: str | None = None
    ) -> None:
        self._types = types
        self._numbered = numbered
        self._is_postgresql = dialect_name == "postgresql"
        self.table: FromClause = self._arrays() if self._is_postgresql else self._json()
        """The rows, in the order in which they were given."""

    def bound(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Return the values that the statement is sent with, from the cells of each column."""
        if self._is_postgresql:
            return {f"r_{name}": cells[name] for name in self._types}
        digests = {
            f"r_{name}": b"".join(map(digest_of, cells[name]))
            for name in self._types
            if self._is_digest(name)
        }
        columns = [cells[name] for name in self._types if not self._is_digest(name)]
        return {"r_rows": list(zip(*columns, strict=True))} | digests

    def _arrays(self) -> FromClause:
        arrays = [
            cast(bindparam(f"r_{name}", type_=ArrayText(type_)), postgresql.ARRAY(type_))
            for name, type_ in self._types.items()
        ]
        columns = [column(name, type_) for name, type_ in self._types.items()]
        return (
            func.unnest(*arrays)
            .table_valued(*columns, with_ordinality=self._numbered)
            .render_derived(name="ticketrouter_sent")
        )

    def _json(self) -> FromClause:
        known = {name: type_ for name, type_ in self._types.items() if not self._is_digest(name)}
        rows = func.json_each(bindparam("r_rows", type_=JsonRows(tuple(known.values())))).table_valued(
            "key", "value", name="ticketrouter_row"
        )
        cells: dict[str, ColumnElement[Any]] = {
            name: type_coerce(func.json_extract(rows.c.value, f"$[{place}]"), type_)
            for place, (name, type_) in enumerate(known.items())
        }
        for name in self._types:
            if self._is_digest(name):  # JSON has no bytes
                every = bindparam(f"r_{name}", type_=LargeBinary)
                cells[name] = type_coerce(func.substr(every, rows.c.key * _DIGEST + 1, _DIGEST), LargeBinary)
        return (
            select(*(cells[name].label(name) for name in self._types))
            .select_from(rows)
            .cte("ticketrouter_sent")
        )

    def _is_digest(self, name: str) -> bool:
        return isinstance(self._types[name], MessageDigest)
