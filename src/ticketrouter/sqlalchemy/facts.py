"""What a database says of a tickets table, and by which names it is asked: values, the same for all databases.

Law of this file: values and names. What they are read from, and what follows from them, stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias

from attrs import field, frozen
from sqlalchemy import Connection

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.columns import KEY, MappingError
from ticketrouter.sqlalchemy.conditions import Answer
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.wording import Code, passing

Value: TypeAlias = Answer

# --- indexes -------------------------------------------------------------------------------------------------


@frozen
class ColumnFacts:
    """A column as its database describes it.

    Args:
        name: its name.
        type: the name of its type.
        collation: the name of its collation, where the database has it by the column; None: the usual one.
        deterministic: whether its collation takes only equal texts for equal; always said by PostgreSQL, and left
            to `collation` elsewhere.
        merges: whether it takes texts for equal that are others, in case, in accents, or by blanks at their ends.
        pads: whether it gives a shorter text back with blanks behind it.
        strips: whether it keeps no blanks at the end of a text.
        folds: whether it compares without case, unless a text of another type stands beside it.
        unfit: why it can keep no field of a ticket, and what to do; empty: it can, as far as that is known.
        clock: where its times come in the zone of the session: moments of UTC, each with what they are called there.
        session_zone: the name of that zone.
        by_clock: whether the database fills it by its own clock.
        words: what it can hold, where it is an enumeration that the database knows of.
        category: of which kind its type is, as PostgreSQL says.
        generated: what it is computed from, as SQL; None: it is an ordinary one.
        reads: the columns that it is computed from, where the database says it.
        own_code: whether it is computed by functions or operators that are not the database's own.
        nullable: whether it may be NULL.
        filled: whether the database fills it of a new row that says nothing of it: by a default, a number, a
            computation, or a trigger that is seen to set it.
        digits: how many digits of a second it keeps, where PostgreSQL or MariaDB says so; None: it is of no time.
        coarse: whether it keeps no milliseconds of a time, whatever becomes of them.
        longest: how many characters it takes; None: any number, or it is not of texts.
        numbers: the lowest and the highest whole number that it takes; None: it is not of such.
        demands: what its values must meet that depends on no other column: what to say of it, and the condition, as
            SQL over the column by its name.
    """

    name: str
    type: str = ""
    collation: str | None = None
    deterministic: bool = True
    merges: bool = False
    pads: bool = False
    strips: bool = False
    folds: bool = False
    unfit: tuple[str, str] | tuple[()] = ()
    clock: tuple[tuple[datetime, datetime], ...] = ()
    session_zone: str = ""
    by_clock: bool = False
    words: tuple[str, ...] = ()
    category: str = ""
    generated: str | None = None
    reads: tuple[str, ...] = ()
    own_code: bool = False
    nullable: bool = True
    filled: bool = False
    digits: int | None = None
    coarse: bool = False
    longest: int | None = None
    numbers: tuple[int, int] | None = None
    demands: tuple[tuple[str, str], ...] = ()


@frozen
class Kept:
    """What a column can keep ids of, and be compared with.

    Args:
        type: its type, for messages.
        kind: number, text, or the name of another kind; columns of two kinds are not compared. Empty: of any.
        numbers: the lowest and the highest whole number that it takes; None: it is not of such, or of any.
        longest: how many characters it takes; None: any number, or it is not of texts.
        collation: by which it compares, where not any two are compared with each other.
    """

    type: str
    kind: str
    numbers: tuple[int, int] | None = None
    longest: int | None = None
    collation: str | None = None


NO_FACTS: Mapping[str, ColumnFacts] = MappingProxyType({})


@frozen
class Index:
    """An index as its database describes it.

    Args:
        name: its name, for messages.
        parts: what it is over: columns and expressions, as SQL.
        predicate: which rows it is about, as SQL; None: all.
        generated: the generated columns among its parts, with their expressions.
        deferrable: whether it may look at a row only when the transaction ends.
        unique: whether it refuses a second equal row.
        valid: whether it is complete; where building it was broken off, PostgreSQL keeps an invalid one.
        primary: whether it is the primary key's.
        constraint: whether it belongs to a constraint, and can only be dropped with that.
        sql: its name, or its constraint's, as SQL.
        path: the same as bare names: its schema, where it must be said, and its name.
        definition: what makes it again, as the catalogue has it: a statement, a constraint's text, on SQLite what
            follows the table's name; None: that is not known.
        columns: the column that each part is; None: an expression.
        unfit: why it cannot keep rows apart as the table's own comparisons do; empty: it does.
        nulls_equal: whether it compares NULLs.
        reads: the columns that its expressions are about, where the database says it.
        decided_by: the columns that its predicate is about, where the database says it.
        bare: its name without its schema, as it is and not as SQL.
        own_code: whether it calls functions or operators that are not the database's own.
        table: the columns of the table, by name.
    """

    name: str
    parts: tuple[str, ...]
    predicate: str | None
    generated: tuple[tuple[str, str], ...] = ()
    deferrable: bool = False
    unique: bool = True
    valid: bool = True
    primary: bool = False
    constraint: bool = False
    sql: str = ""
    path: tuple[str, ...] = ()
    definition: str | None = None
    columns: tuple[str | None, ...] = ()
    unfit: str = ""
    nulls_equal: bool = False
    reads: tuple[str, ...] = ()
    decided_by: tuple[str, ...] = ()
    bare: str = ""
    own_code: bool = False
    table: Mapping[str, ColumnFacts] = field(default=NO_FACTS, eq=False, repr=False)

    def expressions(self) -> tuple[str, ...]:
        """Return what the parts are computed from."""
        return tuple(dict(self.generated).get(part, part) for part in self.parts)

    @property
    def computed(self) -> tuple[str, ...]:
        """The parts that are no plain columns, as what they are computed from."""
        plain_columns = {c for c in self.columns if c is not None and self._generated_as(c) is None}
        pairs = zip(self.columns, self.expressions(), strict=True)
        return tuple(expression for column, expression in pairs if column not in plain_columns)

    @property
    def plain_columns(self) -> tuple[str, ...]:
        """The parts that are columns which somebody fills."""
        return tuple(c for c in self.columns if c is not None and self._generated_as(c) is None)

    def _generated_as(self, column: str) -> str | None:
        facts = self.table.get(column)
        return None if facts is None else facts.generated


@frozen
class Reach:
    """Which rows an index with a condition is proved to have.

    Args:
        rows: for each status that the index has all rows of, what its expressions are of them.
        known: every status that was asked about.
        others: whether it has the rows with any other status as it has these.
        by: columns besides the status that decide whether it has a row.
        unclear: why it is not known which rows it has; empty: it is.
    """

    rows: Mapping[str, tuple[Value, ...]] = field(factory=dict)
    known: frozenset[str] = frozenset()
    others: bool = False
    by: tuple[str, ...] = ()
    unclear: str = ""


# --- how to look, and where ----------------------------------------------------------------------------------


@frozen
class Ways:
    """The indexes by which a locking statement reads no more rows than it is about, as SQL.

    Args:
        contact: the one that begins with the contact: the full unique rule, else the one that goes on with most of the
            key. A look by another one would meet the half of a new row that waits for what the look has locked.
        connection: the one that begins with the connection.
    """

    contact: str | None = None
    connection: str | None = None


NO_WAYS = Ways()
"""Where the database locks what a statement gives, and nothing else; or has no such index."""


@frozen
class ByIndex:
    """How a look finds active tickets by the rule's own index, where the database has no partial ones.

    Args:
        column: the generated column, as SQL.
        value: what it is in active rows, as SQL.
        index: the index, as SQL.
    """

    column: str
    value: str
    index: str


@frozen
class Detected:
    """The unique rule of a tickets table, and the index that enforces it.

    Args:
        rule: the rule.
        index: the index; None under UniqueRule.NONE.
        words: the statuses that it is about, of those that are known; None: all.
        ways: by which indexes locking statements go.
        of_ids: the name of the index by which a row is found by its id, as SQL.
        unique: the names of all unique indexes of the table; the statements do not depend on them.
        needed: the columns that nobody but `on_create` and `on_message` fills of a new row, which must be filled; the
            statements do not depend on them.
        digits: how many digits of a second the time of the last change, or what stands for it, keeps, where the
            database says so.
        merged: the fields of a key whose columns take texts for equal that are others.
        met: the words of the scheme with which a ticket exists for the desk as it did with another one, whatever else is
            in its row: those that `where`, as far as it asks the status, is proved to be true of.
        coarse: whether that column keeps no milliseconds, whatever becomes of them.
        stripped: the fields whose columns keep no blanks at the end of a text.
    """

    rule: UniqueRule
    index: Index | None = None
    words: frozenset[str] | None = None
    ways: Ways = NO_WAYS
    of_ids: str = ""
    unique: frozenset[str] = field(default=frozenset(), eq=False)
    needed: frozenset[str] = field(default=frozenset(), eq=False)
    digits: int | None = None
    merged: frozenset[str] = frozenset()
    met: frozenset[str] = frozenset()
    stripped: frozenset[str] = frozenset()
    coarse: bool = False


@frozen
class Place:
    """What a connection finds where it is: equal to another one if nothing that matters differs.

    Args:
        at: the number of the table, the name of the schema, or None where it cannot change under a connection.
        table: the name of the table, as SQL.
        marks: all that tells one table, and its indexes, from another.
        tables: which companion tables are there.
    """

    at: int | str | None
    table: str
    marks: tuple[Any, ...]
    tables: frozenset[str]

    def bound(self) -> dict[str, Any]:
        """Return what a statement is sent with that asks whether it is here."""
        return {"b_at": self.at, "b_at_name": self.table}


ELSEWHERE = "elsewhere"
"""The role of the row by which a look tells that the connection is not where it was."""


class ElsewhereError(Exception):
    """The connection is in another place than it was when it was asked."""


# --- names ---------------------------------------------------------------------------------------------------


def schema_of(connection: Connection, mapping: TicketMapping) -> str | None:
    """Return the database schema that the table is in, as this connection translates it."""
    schema = mapping.table.schema
    translated_to = connection.get_execution_options().get("schema_translate_map")
    return translated_to.get(schema, schema) if translated_to else schema


def table_name(connection: Connection, mapping: TicketMapping) -> str:
    """Return the name of the table, as SQL."""
    schema = schema_of(connection, mapping)
    name = quoted(connection, mapping.table.name)
    return name if schema is None else f"{quoted(connection, schema)}.{name}"


def quoted(connection: Connection, name: str) -> str:
    """Quote a name as the database reads it; SQLAlchemy's own `quote` doubles per cent signs for some drivers."""
    preparer = connection.dialect.identifier_preparer
    if "%" not in name:
        return preparer.quote(name)
    inner = name.replace(preparer.escape_quote, preparer.escape_to_quote)
    return f"{preparer.initial_quote}{inner}{preparer.final_quote}"


def no_table(mapping: TicketMapping) -> MappingError:
    """Return the error for a tickets table that is not there."""
    return MappingError(
        f"there is no table {mapping.table.fullname}: create it (for our own tables: ",
        Code("companions", "metadata.create_all(engine)"),
        ", or a migration) before the first message",
    )


CREATE_ALL = Code("companions", "mapping.metadata.create_all(engine)")
"""What makes the companion tables."""
BELOW = Code("ddl", ", or with what stands below")
"""Says that the statements follow."""
IGNORED = passing("remember_messages", "False")
"""What has message ids ignored."""


def companion_names(mapping: TicketMapping) -> tuple[str, str]:
    """Return the names of the tables of message ids and of anchors."""
    return mapping.message_ids.name, mapping.anchors.name


def key_columns(mapping: TicketMapping) -> list[str]:
    """Return the names of the columns of the key."""
    return [mapping.columns[each].name for each in KEY if each in mapping.columns]


def escaped(sql: str) -> str:
    """Return SQL as `text` takes it: what looks like a bound value is none."""
    return sql.replace(":", r"\:")
