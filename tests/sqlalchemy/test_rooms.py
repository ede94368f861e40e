"""One room per database: what only one of them does is said in its room, and nobody else asks for a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Dialect, create_mock_engine
from sqlalchemy.dialects.oracle.base import OracleDialect

import ticketrouter
from ticketrouter.sqlalchemy.dialects import DATABASES, database_of, presumed
from ticketrouter.sqlalchemy.storage import storage_of

ROOT = Path(ticketrouter.__file__).parent
ROOMS = ROOT / "sqlalchemy" / "dialects"
NAMES = frozenset(backend for each in DATABASES for backend in each.backends)

ORACLE: Dialect = OracleDialect()
"""One of SQLAlchemy's own that no room is for."""


def asked_in(tree: ast.AST) -> Iterator[str]:
    """List where a name of a database is asked for, or said."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if text in NAMES:
                yield text
            case ast.Attribute(attr="name", value=ast.Name(id="dialect") | ast.Attribute(attr="dialect")):
                yield "dialect.name"
            case (
                ast.Attribute(attr="dialect_name") | ast.arg(arg="dialect_name") | ast.Name(id="dialect_name")
            ):
                yield "dialect_name"
            case _:
                pass


def test_nobody_outside_of_the_rooms_asks_for_the_name_of_a_database() -> None:
    """A switch on a name elsewhere would have an `else`, and that would be a database."""
    files = (path for path in ROOT.rglob("*.py") if not path.is_relative_to(ROOMS))
    found = {path.name: len(list(asked_in(ast.parse(path.read_text())))) for path in files}

    # The variants of a host's own type stand under the names that SQLAlchemy has for its dialects.
    assert {"types.py": 1} == {name: asked for name, asked in found.items() if asked}


@pytest.mark.parametrize(
    "code",
    [
        'x = "mysql"',
        "connection.dialect.name",
        "dialect.name",
        "def f(dialect_name): ...",
        "self.dialect_name",
        'match x:\n    case "sqlite": ...',
    ],
)
def test_every_way_to_ask_is_seen(code: str) -> None:
    """The test above is able to fail."""
    assert list(asked_in(ast.parse(code)))


def test_no_room_knows_another() -> None:
    """A room imports no other one, nor the table."""
    rooms = [path.name for path in ROOMS.iterdir() if (path / "__init__.py").exists()]
    for room in rooms:
        text = "\n".join(path.read_text() for path in (ROOMS / room).glob("*.py"))

        assert [] == [other for other in rooms if other != room and f"dialects.{other}" in text]
        assert "ticketrouter.sqlalchemy.dialects import" not in text
    assert sorted(rooms) == sorted(each.name for each in DATABASES)


@pytest.mark.parametrize("database", DATABASES, ids=lambda each: each.name)
def test_each_room_says_how_its_database_keeps_values(database) -> None:
    """Whatever SQLAlchemy calls it, one room answers, and it is the same for columns and for statements."""
    for backend in database.backends:
        driver = database.command_line.driver.partition("+")[2]
        dialect = create_mock_engine(f"{backend}+{driver}://" if driver else f"{backend}://", print).dialect

        assert database.storage is storage_of(dialect)
        assert database is presumed(dialect)


def test_an_unknown_dialect_keeps_values_as_most_do() -> None:
    """Our tables can be described for it; only what is sent needs a room."""
    assert storage_of(ORACLE) not in [each.storage for each in DATABASES]
    assert presumed(ORACLE) is None
    with pytest.raises(Exception, match="oracle is not among"):
        database_of(ORACLE)
