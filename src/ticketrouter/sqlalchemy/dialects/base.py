"""What a database is to the adapter: how it keeps values, its catalogue, transactions, errors, plans and statements.

Law of this file: it is written for all databases, and asks for none by name. What only one does stands in its room.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import Connection, Dialect, Engine

from ticketrouter.sqlalchemy.error_codes import Errors, Left, Row
from ticketrouter.sqlalchemy.facts import (
    NO_WAYS,
    ByIndex,
    ColumnFacts,
    Detected,
    Index,
    Kept,
    Place,
    Reach,
    Ways,
)
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import Names
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.steps import StepWriter
from ticketrouter.sqlalchemy.storage import Storage


def _any_table(_connection: Connection, _mapping: TicketMapping) -> None:
    """Refuse no table."""


def _no_ways(_mapping: TicketMapping, _found: Iterable[Index]) -> Ways:
    return NO_WAYS


@frozen(eq=False)
class Catalogue:
    """What a database says of its tables: it reads, and judges nothing. What has a default is what most need not do.

    Args:
        indexes: lists the indexes of the tickets table, unique or not; raises MappingError if there is no such table.
        columns: tells of the columns of the tickets table, by name; raises MappingError if there is no such table.
        words: gives, for each of some literals of the status column, a `SELECT` of its number and of it as
            `ticketrouter_n` and `ticketrouter_word`, which compares as that column does.
        place: asks, by one look-up, where a connection is: what the name of the table stands for, and what it is like;
            raises MappingError if there is no such table.
        reaches: tells which rows each of some indexes has, of which there is one at least, each with a condition.
        kept: tells, of those of some tables of a schema that are there, what the columns of each keep, by name.
        last_number: gives the last id that was given out, where that is known; None: ids do not run out.
        check: raises MappingError for a table that no statement of ours may be sent to.
        by_index: tells how to look by the rule's index, where a look must name it.
        ways: chooses by which of the indexes of a tickets table locking statements go.
        named: gives the name by which a statement is told to find rows by an index, as SQL.
        hint: gives what makes a statement of a plan do so, behind the name of the table.
        tells_cases: whether two names of columns may differ in case alone.
        mixes: tells whether it compares columns of two collations with each other.
        has_elsewhere: tells whether a table that the place does not have is found all the same.
    """

    indexes: Callable[[Connection, TicketMapping], Iterable[Index]]
    columns: Callable[[Connection, TicketMapping], Mapping[str, ColumnFacts]]
    words: Callable[[Connection, TicketMapping, Mapping[str, ColumnFacts], list[str]], list[str]]
    place: Callable[[Connection, TicketMapping], Place]
    reaches: Callable[[Connection, TicketMapping, Sequence[Index]], list[Reach]]
    kept: Callable[[Connection, str | None, Sequence[str]], Mapping[str, Mapping[str, Kept]]]
    last_number: Callable[[Connection, TicketMapping], int | None] | None = None
    check: Callable[[Connection, TicketMapping], None] = _any_table
    by_index: Callable[[Connection, TicketMapping, Index | None], ByIndex | None] = (
        lambda _connection, _mapping, _index: None
    )
    ways: Callable[[TicketMapping, Iterable[Index]], Ways] = _no_ways
    named: Callable[[Index], str] = lambda index: index.sql
    hint: Callable[[Index], str] = lambda _: ""
    tells_cases: bool = False
    mixes: Callable[[str | None, str | None], bool] = lambda _one, _other: True
    has_elsewhere: Callable[[Connection, str, str | None], bool] = lambda _connection, _table, _schema: False


class Level(StrEnum):
    """How much it matters: only a FINDING makes an audit unsound."""

    OK = "ok"
    NOTE = "note"
    FINDING = "finding"


@frozen
class Remark:
    """What an audit has to say of the transactions on a table.

    Args:
        level: how much it matters.
        text: what was seen.
        advice: what to do about it.
    """

    level: Level
    text: str
    advice: str = ""


Remarks: TypeAlias = Callable[[Connection, TicketMapping], Iterator[Remark]]


def asked_for_autocommit(connection: Connection) -> bool:
    """Tell whether the host has asked SQLAlchemy for AUTOCOMMIT."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


def is_autocommit(connection: Connection) -> bool:
    """Tell whether each statement of a connection is a transaction of its own, as most drivers say it."""
    if asked_for_autocommit(connection):
        return True
    # A host may also have asked the driver itself.
    driven: Any = connection.connection.dbapi_connection
    asked = getattr(driven, "get_autocommit", None)
    return bool(asked()) if callable(asked) else getattr(driven, "autocommit", False) is True


def was_begun(connection: Connection, row: Row) -> bool:
    """Tell whether a transaction was begun that an error may have ended, as servers do that begin at a statement.

    Before its first statement about a table MariaDB has begun none, and any other error would say so too.
    """
    return (row.fault.is_retryable or row.left in _MAY_END) and not is_autocommit(connection)


_MAY_END = frozenset({Left.ROLLED_BACK, Left.MAYBE_ROLLED_BACK, Left.GONE})


def at_level(usual: Collection[str]) -> Remarks:
    """Return what tells at which isolation new connections are: at a usual one the loser of a race goes on."""

    def remarks(connection: Connection, _mapping: TicketMapping) -> Iterator[Remark]:
        level = str(connection.dialect.default_isolation_level)
        told = f"new connections are at {level}"
        advice = "the loser of a race gets ContentionError: run the whole unit of work again"
        yield Remark(Level.OK, told) if level in usual else Remark(Level.NOTE, told, advice)

    return remarks


@frozen(eq=False)
class Transactions:
    """What a host's transactions are on a database, and what is left of them after an error.

    Args:
        lives: asks whether the transaction lives after an error; None: it takes nothing but a rollback.
        remarks: tells an audit what new connections, and the table or the file, are like for transactions.
        is_autocommit: tells whether each statement of a connection is a transaction of its own.
        was_begun: tells whether a transaction was begun that an error of this row may have ended.
        needs_savepoints: whether a statement that is refused takes the whole transaction with it.
        sees_one_snapshot: tells whether a transaction sees nothing that is newer than its first look, and is refused
            what meets it.
        plain_reads_may_be_dirty: whether they may see what others take back again, at a level that need not show.
        begins_with_the_write_lock: tells whether a connection keeps other writers away from each beginning.
        check_write_lock: raises MappingError for a transaction that may have read before that, where nothing else
            keeps them away.
        end: does what must be done before a connection is closed, so that what is in its transaction is gone.
    """

    lives: Callable[[Connection], bool | None]
    remarks: Remarks
    is_autocommit: Callable[[Connection], bool] = is_autocommit
    was_begun: Callable[[Connection, Row], bool] = was_begun
    needs_savepoints: bool = False
    sees_one_snapshot: Callable[[Connection], bool] = lambda _: False
    plain_reads_may_be_dirty: bool = False
    begins_with_the_write_lock: Callable[[Connection], bool] = lambda _: False
    check_write_lock: Callable[[Connection], None] = lambda _: None
    end: Callable[[Connection], None] = lambda _: None


@frozen(eq=False)
class CommandLine:
    """How the command line opens a database.

    Args:
        driver: SQLAlchemy's name of the database with the synchronous driver that goes with it.
        without_driver: what to use instead of a URL that names no driver; None: it needs to name none.
        begin_reading: what begins a transaction that looks at one state, and can write nothing.
        is_file: whether the name of a database is that of a file, made where it is not there.
        prepare: what is done with an engine for a run that writes.
        prepare_reading: what is done with one that only reads.
    """

    driver: str
    without_driver: str | None
    begin_reading: str
    is_file: bool = False
    prepare: Callable[[Engine], None] = lambda _: None
    prepare_reading: Callable[[Engine], None] = lambda _: None


@frozen(eq=False)
class Database:
    """A database: what its room says of it.

    Args:
        name: the name that it has with us.
        title: the name that it has in a sentence.
        backends: what SQLAlchemy calls it.
        storage: how it keeps values.
        catalogue: what it says of its tables.
        transactions: what a host's transactions are.
        errors: what its error codes mean.
        names: how names and literals stand in a plan.
        steps: what writes the steps to the right schema.
        statements: makes the statements for a mapping, one of the database's dialects, and its rule.
        command_line: how the command line opens it.
        stranger: what names another server that the same dialect of SQLAlchemy speaks to; None: it is this one.
    """

    name: str
    title: str
    backends: tuple[str, ...]
    storage: Storage
    catalogue: Catalogue
    transactions: Transactions
    errors: Errors
    names: Names
    steps: type[StepWriter]
    statements: Callable[[TicketMapping, Dialect, Detected, ByIndex | None], Statements]
    command_line: CommandLine
    stranger: Callable[[Dialect], str | None] = lambda _: None
