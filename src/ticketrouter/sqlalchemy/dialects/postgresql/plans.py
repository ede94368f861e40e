"""The plans for PostgreSQL: names and literals as psql reads them, and the DDL.

Law of this file: as in `ticketrouter.sqlalchemy.names` and `ticketrouter.sqlalchemy.steps`.
"""

from __future__ import annotations

from typing import ClassVar

from ticketrouter.sqlalchemy.facts import Index
from ticketrouter.sqlalchemy.names import Names, quoted_text
from ticketrouter.sqlalchemy.steps import COMMENT, Step, StepWriter

_LONGEST_NAME = 63
"""In bytes."""


class PostgreSQLNames(Names):
    """Names and literals of PostgreSQL."""

    url: ClassVar[str] = "postgresql+psycopg"
    opening: ClassVar[str] = "SET client_encoding = 'UTF8';\n"

    def fits(self, name: str) -> bool:
        """See `Names.fits`."""
        return len(name.encode()) <= _LONGEST_NAME

    def text_literal(self, value: str) -> str:
        """See `Names.text_literal`."""
        is_plain = value.isprintable() and "\\" not in value
        return quoted_text(value) if is_plain else f"E'{''.join(_escaped(each) for each in value)}'"

    def bytes_literal(self, value: bytes) -> str:
        """See `Names.bytes_literal`."""
        return f"decode('{value.hex()}', 'hex')"

    def identifier(self, name: str) -> str:
        """See `Names.identifier`."""
        if name.isprintable():
            return super().identifier(name)
        return f'U&"{"".join(_in_unicode(each) for each in name)}"'


def _in_unicode(character: str) -> str:
    if character in '"\\':
        return character * 2
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\+{number:06x}" if number > 0xFFFF else f"\\{number:04x}"  # noqa: PLR2004 - four digits


def _escaped(character: str) -> str:
    if character in "'\\":
        return character * 2
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"  # noqa: PLR2004 - four digits


NAMES = PostgreSQLNames()


class PostgreSQLSteps(StepWriter):
    """Writes the steps for PostgreSQL: what it can do while reads and writes go on stands outside of transactions."""

    names: ClassVar[Names] = NAMES

    def index_step(self, title: str, what: str, name: str, over: str) -> Step:
        """See `StepWriter.index_step`."""
        return Step(
            title,
            "Reads and writes go on (SHARE UPDATE EXCLUSIVE); it waits for older transactions. If it is broken off, "
            "drop what is left, as below to undo it.",
            (f"CREATE {what} CONCURRENTLY {self.names.identifier(name)} ON {self.table} {over}",),
            (f"DROP INDEX CONCURRENTLY {self.placed(name)}",),
            in_transaction=False,
        )

    def drop_step(self, title: str, index: Index, name: str) -> Step:
        """See `StepWriter.drop_step`."""
        if index.constraint:
            return Step(
                title,
                "Everything on the table waits for a moment (ACCESS EXCLUSIVE), and it waits for what runs before.",
                (f"ALTER TABLE {self.table} DROP CONSTRAINT {name}",),
                (self.again(index, f"ALTER TABLE {self.table} ADD CONSTRAINT {name} "),),
            )
        return Step(
            title,
            "Reads and writes go on (SHARE UPDATE EXCLUSIVE); it waits for older transactions.",
            (f"DROP INDEX CONCURRENTLY {name}",),
            (self.again(index) if index.valid else f"{COMMENT} nothing: it was of no use",),
            in_transaction=False,
        )

    def defined(self, index: Index, definition: str) -> str:
        """See `StepWriter.defined`."""
        return definition if index.constraint else definition.replace("INDEX ", "INDEX CONCURRENTLY ", 1)
