"""The plans for MariaDB: names and literals as its client reads them, and the DDL.

Law of this file: as in `ticketrouter.sqlalchemy.names` and `ticketrouter.sqlalchemy.steps`.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import evolve

from ticketrouter.sqlalchemy.facts import Index
from ticketrouter.sqlalchemy.names import Names, quoted_text
from ticketrouter.sqlalchemy.steps import ONE_ACTIVE, Step, StepWriter

_LONGEST_NAME = 64


class MariaDBNames(Names):
    """Names and literals of MariaDB."""

    url: ClassVar[str] = "mariadb+pymysql"
    opening: ClassVar[str] = "SET NAMES utf8mb4;\n"
    quote: ClassVar[str] = "`"
    quotes_in_catalogue: ClassVar[str] = '"`'

    def fits(self, name: str) -> bool:
        """See `Names.fits`."""
        return len(name) <= _LONGEST_NAME

    def text_literal(self, value: str) -> str:
        """See `Names.text_literal`: whether a backslash escapes depends on sql_mode; digits do not."""
        is_plain = value.isprintable() and "\\" not in value
        return quoted_text(value) if is_plain else f"_utf8mb4 0x{value.encode().hex()}"


NAMES = MariaDBNames()


class MariaDBSteps(StepWriter):
    """Writes the steps for MariaDB, which has no partial index: a generated column stands for one."""

    names: ClassVar[Names] = NAMES

    def by_contact(self, *, takes_place: bool = True) -> Step:
        """See `StepWriter.by_contact`: undone, it leaves a foreign key the index that it needs."""
        step = super().by_contact()
        if not takes_place:
            return step
        contact = self.column("contact_id")
        again = f"DROP INDEX {self.names.identifier(self.index('by_contact'))}, ADD INDEX IF NOT EXISTS {contact} ({contact})"
        return evolve(step, down=(self._altered(again),))

    def one_active(self) -> Step:
        """See `StepWriter.one_active`."""
        column, index = (
            self.names.identifier("ticketrouter_active"),
            self.names.identifier(self.index("one_active")),
        )
        *contact, connection = self.key()
        # So the active tickets of a contact are beside each other.
        parts = ", ".join((*contact, column, connection))
        generated = f"{column} TINYINT AS (IF({self.active}, 1, NULL)) VIRTUAL"
        return Step(
            ONE_ACTIVE,
            "The column is there at once. While the index is built reads and writes go on, but for the "
            "moments when it begins and ends.",
            (
                f"ALTER TABLE {self.table} ADD COLUMN {generated}, ALGORITHM=INSTANT",
                self._altered(f"ADD UNIQUE INDEX {index} ({parts})"),
            ),
            (
                self._altered(f"DROP INDEX {index}"),
                f"ALTER TABLE {self.table} DROP COLUMN {column}, ALGORITHM=INSTANT",
            ),
        )

    def index_step(self, title: str, what: str, name: str, over: str) -> Step:
        """See `StepWriter.index_step`."""
        index = self.names.identifier(name)
        return Step(
            title,
            "Reads and writes go on while it is built (ALGORITHM=INPLACE, LOCK=NONE).",
            (self._altered(f"ADD {what} {index} {over}"),),
            (self._altered(f"DROP INDEX {index}"),),
        )

    def drop_step(self, title: str, index: Index, name: str) -> Step:
        """See `StepWriter.drop_step`."""
        return Step(
            title,
            "Everything on the table waits for a moment (a metadata lock), and it waits for what runs before.",
            (f"ALTER TABLE {self.table} DROP INDEX {name}",),
            (self.again(index, f"ALTER TABLE {self.table} ADD UNIQUE INDEX {name} "),),
        )

    def defined(self, index: Index, definition: str) -> str:  # noqa: ARG002
        """See `StepWriter.defined`."""
        return f"({definition})"

    def _altered(self, change: str) -> str:
        """Let MariaDB refuse what would hold up the desk."""
        return f"ALTER TABLE {self.table} {change}, ALGORITHM=INPLACE, LOCK=NONE"
