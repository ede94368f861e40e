"""A host's own tables, looked at and never written: for `audit`, `repair` and `schema`.

Law of this file: it knows which table each preset's desk has, and how to say what is wrong with a database that
has no such table. Its transactions can write nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from attrs import evolve, frozen
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
)
from sqlalchemy.exc import DBAPIError, SAWarning, SQLAlchemyError

from ticketrouter import presets
from ticketrouter.cli.engine import fail, named, parsed_url, reading_engine
from ticketrouter.cli.fatal import FatalError
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import StatusScheme
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, MappingError, TicketMapping
from ticketrouter.sqlalchemy.mapping import FIELDS, MAY_BE_ABSENT

WHATICKET = "whaticket"
"""The whole line, with its usual words."""
_LINE = frozenset({WHATICKET, "whaticket-community", "whaticket-saas", "ticketz", "multi100", "press-ticket"})
_WITHOUT_COMPANY = frozenset({"whaticket-community", "press-ticket"})
_LINES_TABLE = "Tickets"

_Command = TypeVar("_Command", bound=Callable[..., Any])


@frozen
class Desk:
    """What the options say of a host's table.

    Args:
        preset: the desk that the table is from.
        table: the name of the tickets table, with or without its schema; None: the desk's usual one.
        columns: the column of each field, where it is not called as the field is.
        active: active words besides the preset's.
    """

    preset: str
    table: str | None
    columns: dict[str, str]
    active: tuple[str, ...]

    @property
    def statuses(self) -> StatusScheme:
        """The words of the desk.

        Raises:
            FatalError: if a word cannot be active.
        """
        scheme = StatusScheme() if self.preset == WHATICKET else presets.ALL[self.preset].statuses
        try:
            return evolve(scheme, active=scheme.active | set(self.active))
        except TicketRouterError as error:
            raise FatalError(f"--active: {error}") from None

    @property
    def is_of_the_line(self) -> bool:
        """Whether the table is the Whaticket line's."""
        return self.preset in _LINE

    def usual_mapping(self) -> TicketMapping:
        """Map the desk's usual table without looking at a database.

        Raises:
            FatalError: if options name another table than the usual one.
        """
        if self.columns:
            raise FatalError("--column needs --database: the types of a table of your own are not known here")
        if not self.is_of_the_line:
            if self.table is not None:
                raise FatalError(
                    "--table needs --database: the types of a table of your own are not known here"
                )
            return self._own()
        columns: list[Column[Any]] = [
            Column("id", Integer, primary_key=True),
            Column("status", String(255), nullable=False),
            *(Column(name, Integer) for name in ("contactId", "userId", "whatsappId", "queueId")),
            Column("isGroup", Boolean, nullable=False, server_default="0"),
            Column("unreadMessages", Integer),
            *(Column(name, DateTime(timezone=True), nullable=False) for name in ("createdAt", "updatedAt")),
            *([] if self.preset in _WITHOUT_COMPANY else [Column("companyId", Integer)]),
        ]
        schema, name = self._name()
        return TicketMapping.whaticket(
            Table(name, MetaData(), *columns, schema=schema), statuses=self.statuses
        )

    def mapping(self, connection: Connection) -> TicketMapping:
        """Map the table that is there.

        Raises:
            FatalError: if it is not there.
            MappingError: if it lacks a column.
        """
        schema, name = self._name()
        if not inspect(connection).has_table(name, schema=schema):
            raise FatalError(f"{named(connection.engine.url)}: {self._absent(connection, name)}")
        if not self.is_of_the_line and self.table is None and not self.columns:
            return self._own()
        with warnings.catch_warnings():
            # What SQLAlchemy cannot read of an index is asked of the catalogue, and not of SQLAlchemy.
            warnings.simplefilter("ignore", SAWarning)
            table = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
        if self.is_of_the_line and not self.columns:
            return TicketMapping.whaticket(table, statuses=self.statuses, on_create=_nothing)
        named_ = {field: self.columns.get(field, field) for field in FIELDS}
        there = {column.name for column in table.columns}
        absent = {field for field in MAY_BE_ABSENT | {"company_id"} if named_[field] not in there} - set(
            self.columns
        )
        return TicketMapping(
            table,
            **(named_ | dict.fromkeys(absent)),  # type: ignore[arg-type]
            statuses=self.statuses,
            on_create=_nothing,
            nullable_keys=True,
            only_company=1 if "company_id" in absent else None,
        )

    def _own(self) -> TicketMapping:
        same = self.statuses == DEFAULT_MAPPING.statuses
        return DEFAULT_MAPPING if same else TicketMapping.own(statuses=self.statuses)

    def _name(self) -> tuple[str | None, str]:
        usual = _LINES_TABLE if self.is_of_the_line else DEFAULT_MAPPING.table.name
        schema, _, name = (self.table or usual).rpartition(".")
        return schema or None, name

    def _absent(self, connection: Connection, name: str) -> str:
        others = inspect(connection).has_table(_LINES_TABLE) and not self.is_of_the_line
        hint = f"; there is {_LINES_TABLE}: say --preset {WHATICKET}" if others else "; name it: --table NAME"
        return f"there is no table {name}{hint}"


def _nothing(_: object) -> dict[str, Any]:
    """Fill no further column: nothing is created here."""
    return {}


@contextmanager
def looked_at(url: str, desk: Desk) -> Generator[tuple[Connection, TicketMapping]]:
    """Open a database for looking, and map its tickets.

    Args:
        url: the database, as SQLAlchemy writes it.
        desk: what the options say of its table.

    Yields:
        A connection in a transaction that can write nothing, and the mapping.

    Raises:
        FatalError: if there is no such database, driver or table, or no right to look.
    """
    engine = reading_engine(parsed_url(url))
    try:
        with engine.connect() as connection:
            yield connection, desk.mapping(connection)
    except SQLAlchemyError as error:
        fail(engine.url, error)
    except TicketRouterError as error:
        cause = error.__cause__
        if isinstance(cause, DBAPIError):
            fail(engine.url, cause)
        advice = "; say --active WORD for further active words" if "statuses=" in str(error) else ""
        problem = str(error).partition(": pass statuses=")[0]
        raise FatalError(f"{named(engine.url)}: {problem}{advice}") from error
    except OSError as error:
        raise FatalError(f"{named(engine.url)}: {error}") from error
    finally:
        engine.dispose()


# --- the options -----------------------------------------------------------------------------------------------


def desk_options(command: _Command) -> _Command:
    """Add the options that say which table it is: they arrive as `preset`, `table`, `column` and `active`."""
    for option in reversed(
        (
            click.option(
                "--preset",
                type=click.Choice([*presets.ALL, WHATICKET]),
                default="default",
                show_default=True,
                metavar="NAME",
                help=f"Whose tables they are: {WHATICKET} for the Whaticket line, or a name from `ticketrouter presets`.",
            ),
            click.option("--table", metavar="NAME", help="The tickets table, if it is not called as usual."),
            click.option(
                "--column",
                multiple=True,
                metavar="FIELD=NAME",
                callback=_columns,
                help="The column of a field, if it is not called as the field is; may be given again.",
            ),
            click.option(
                "--active",
                multiple=True,
                metavar="WORD",
                help="A status that is active besides the preset's; may be given again.",
            ),
        )
    ):
        command = option(command)
    return command


def _columns(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    for field, equals, name in pairs:
        if field not in FIELDS or not equals or not name:
            raise click.BadParameter(f"say FIELD=NAME, where FIELD is one of {', '.join(FIELDS)}")
    return {field: name for field, _, name in pairs}


def mapping_error(error: MappingError) -> FatalError:
    """Return an error of a mapping as one of the command line."""
    return FatalError(str(error).partition(": pass statuses=")[0])
