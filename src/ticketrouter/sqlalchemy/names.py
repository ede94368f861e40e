"""Names and literals as they stand in SQL that a person runs: in the plans of `schema` and `repair`.

Law of this file: text in, text out. What it writes is read in one way by the server, by its own client and at any
setting of a session (`sql_mode`, `standard_conforming_strings`), and is not doubled for a driver. What cannot be
written so is refused. How each database reads it is said by its room.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Dialect, create_mock_engine

from ticketrouter.checks import printable
from ticketrouter.sqlalchemy.columns import MappingError

_QUOTED = re.compile(r'"(?:[^"]|"")*"|`(?:[^`]|``)*`')
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|.""", re.DOTALL)


class Names(ABC):
    """How names and literals stand in a plan for one database."""

    url: ClassVar[str]
    """How SQLAlchemy calls the database."""
    opening: ClassVar[str] = ""
    """What a file of statements begins with, so that its letters are read as they are written."""
    quote: ClassVar[str] = '"'
    """What is around a name."""
    quotes_in_catalogue: ClassVar[str] = '"'
    """What may be around a name, and around nothing else, in the catalogue."""

    @abstractmethod
    def fits(self, name: str) -> bool:
        """Tell whether a name is no longer than the database takes."""

    @abstractmethod
    def text_literal(self, value: str) -> str:
        """Return a text as SQL."""

    def bytes_literal(self, value: bytes) -> str:
        """Return bytes as SQL."""
        return f"x'{value.hex()}'"

    def identifier(self, name: str) -> str:
        """Return the name of a table, column or index as SQL.

        Raises:
            MappingError: if the database's own client would read another name.
        """
        if "\r\n" in name:
            raise unreadable(name)
        # Quoted always: which words are reserved depends on the server's version.
        return f"{self.quote}{name.replace(self.quote, self.quote * 2)}{self.quote}"

    def dotted(self, path: Iterable[str]) -> str:
        """Return a name with its schema as SQL: see `identifier`."""
        return ".".join(self.identifier(name) for name in path)

    def literal(self, value: object) -> str:
        """Return an id or a status word as SQL.

        Raises:
            MappingError: if it is of a type that has no one way to be written.
        """
        match value:
            case bool():
                return str(value).lower()
            case int():
                return str(value)
            case UUID():
                return f"'{value}'"
            case bytes():
                return self.bytes_literal(value)
            case str():
                return self.text_literal(value)
            case _:
                pass
        raise MappingError(
            f"a {type(value).__name__} cannot be written into a plan: ids are int, str or UUID"
        )

    def rewritten(self, sql: str) -> str | None:
        """Return SQL of the catalogue as it may stand in a plan; None: a literal in it depends on the session.

        Raises:
            MappingError: as `identifier` does.
        """
        found = _TOKEN.findall(sql)
        if any(self.depends(each) for each in found):
            return None
        return "".join(
            self.identifier(bare(each)) if len(each) > 1 and each[0] in self.quotes_in_catalogue else each
            for each in found
        )

    def depends(self, token: str) -> bool:
        """Tell whether a token of the catalogue is read in another way at another setting, or by the client."""
        return token[0] == "'" and ("\\" in token or not token.isprintable())

    def index_name(self, table: str, what: str) -> str:
        """Return the name of an index of ours, no longer than the database takes, and different for each table."""
        start = table.lower()
        if self.fits(f"{start}_{what}"):
            return f"{start}_{what}"
        end = f"_{sha256(table.encode()).hexdigest()[:8]}_{what}"
        while not self.fits(start + end):
            start = start[:-1]
        return start + end


@cache
def plain_dialect(url: str) -> Dialect:
    """Return a dialect whose SQL is for people: a driver would want its per cent signs doubled."""
    return create_mock_engine(f"{url}://", _send_nothing, paramstyle="named").dialect


def _send_nothing(*_: object, **__: object) -> None:
    """Stand for a database that is never asked."""


def unreadable(name: str) -> MappingError:
    """Return the error of a name that the client of the database would change.

    The clients of MariaDB and SQLite leave out a carriage return at the end of a line, in quotes too.
    """
    return MappingError(
        f"the name {printable(name)} has a line end of two characters, which the client of the database does not "
        "leave as it is: rename it first"
    )


def quoted_text(value: str) -> str:
    """Return a printable text without a backslash as SQL."""
    return "'" + value.replace("'", "''") + "'"


def bare(part: str) -> str:
    """Return the name that a quoted name stands for; anything else as it is."""
    if not _QUOTED.fullmatch(part):
        return part
    quote = part[0]
    return part[1:-1].replace(quote * 2, quote)


def laid_out(sql: str) -> str:
    """Return a statement of SQLAlchemy's with spaces for its tabs; what is in quotes stays as it is."""
    found = _TOKEN.findall(sql.strip())
    return "".join(
        "    " if each == "\t" else each
        for each, following in pairwise([*found, ""])
        if not (each == " " and following == "\n")
    )


def commented(text: str, indent: str = " ") -> str:
    """Return lines as comments that nothing in them can leave, or turn round."""
    return "\n".join(f"--{indent}{printable(line)}" for line in text.split("\n"))
