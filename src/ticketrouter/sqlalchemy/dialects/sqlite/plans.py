"""The plans for SQLite: names and literals as its shell reads them, and the DDL.

Law of this file: as in `ticketrouter.sqlalchemy.names` and `ticketrouter.sqlalchemy.steps`.
"""

from __future__ import annotations

import re
from typing import ClassVar

from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.facts import Index
from ticketrouter.sqlalchemy.names import Names, quoted_text
from ticketrouter.sqlalchemy.steps import Step, StepWriter


class SQLiteNames(Names):
    """Names and literals of SQLite."""

    url: ClassVar[str] = "sqlite+pysqlite"
    quotes_in_catalogue: ClassVar[str] = (
        ""  # what it has around a name it may have around a text just as well
    )

    def fits(self, name: str) -> bool:  # noqa: ARG002
        """See `Names.fits`: it takes every length."""
        return True

    def text_literal(self, value: str) -> str:
        """See `Names.text_literal`."""
        if value.isprintable():
            return quoted_text(value)
        runs = re.findall(r"[ -~]+|[^ -~]", value)
        parts = (quoted_text(run) if run.isprintable() else f"char({ord(run)})" for run in runs)
        return f"({' || '.join(parts)})"

    def depends(self, token: str) -> bool:
        """See `Names.depends`."""
        return "\r\n" in token


NAMES = SQLiteNames()
_LOCKS = "Every other writer waits until it is done; readers do not wait in WAL mode."


class SQLiteSteps(StepWriter):
    """Writes the steps for SQLite, whose indexes have the schema before them, and their tables none."""

    names: ClassVar[Names] = NAMES

    def index_step(self, title: str, what: str, name: str, over: str) -> Step:
        """See `StepWriter.index_step`."""
        index = self.placed(name)
        return Step(
            title, _LOCKS, (f"CREATE {what} {index} ON {self._bare} {over}",), (f"DROP INDEX {index}",)
        )

    def drop_step(self, title: str, index: Index, name: str) -> Step:
        """See `StepWriter.drop_step`."""
        if index.constraint and index.parts:
            raise MappingError(
                f"SQLite cannot drop the constraint behind {index.name} ({', '.join(index.parts)}) from "
                f"{self.mapping.table.name}: make the table anew without it, as Alembic's op.batch_alter_table does"
            )
        again = self.again(index, f"CREATE UNIQUE INDEX {name} ON {self._bare} ")
        return Step(title, _LOCKS, (f"DROP INDEX {name}",), (again,))

    @property
    def _bare(self) -> str:
        return self.names.identifier(self.mapping.table.name)
