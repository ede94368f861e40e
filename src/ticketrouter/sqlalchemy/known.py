"""What is known of the databases in use: kept by what a mapping says and by what the database has been seen to be.

Law of this file: nothing is believed of a place that was not asked on this very connection of the pool since it was
made; what is kept is bounded; and no two threads meet in anything but one atomic step, or a lock.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from attrs import field, frozen
from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import catalogue_of
from ticketrouter.sqlalchemy.columns import MappingError, Said
from ticketrouter.sqlalchemy.companions import check_companions
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.error_codes import Code, Fault, code_of
from ticketrouter.sqlalchemy.facts import ByIndex, Detected, ElsewhereError, Place, schema_of
from ticketrouter.sqlalchemy.faults import DATABASE_ERRORS, fault_of
from ticketrouter.sqlalchemy.filling import check_further
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.rules import detect_all
from ticketrouter.sqlalchemy.statements import Statements

_INFO = "ticketrouter.known"
"""Under what a connection of the pool keeps what it was told."""
MOST_PLANS = 4096
"""How many places are kept for an engine: the schemas of so many tenants."""
MOST_STATEMENTS = 64
"""How many sets of statements are kept for an engine: as many kinds of tables."""
MOST_BELIEFS = 256
"""How many places one connection of the pool remembers to have asked."""


@frozen(eq=False)
class Known:
    """What was found out about a mapping in a place, and the statements that follow from it."""

    statements: Statements
    schema: str | None
    at: dict[str, Any]
    """What a look is sent with, to be told where it is."""
    there: frozenset[str]
    """The companion tables that were found."""
    unique: frozenset[str]
    """The unique indexes of the tickets table that were found, by their names."""
    needed: frozenset[str]
    """The columns that `on_create` and `on_message` must fill, as nobody else does."""
    taken: dict[str, str | None] = field(factory=dict)
    """What this table's own collation takes words for that the scheme does not know: None, for no active one."""


_Said: TypeAlias = tuple[Said, str | None]


class _Engine:
    """What is known of one engine, whoever has connected by it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.generation = 0
        """What was asked before this began counts no more."""
        self.plans: dict[tuple[Said, str | None, Place], Known] = {}
        self.statements: dict[tuple[Said, Detected, ByIndex | None], Statements] = {}

    def keep(self, kept: dict[Any, Any], key: Any, value: Any, most: int) -> Any:
        """Keep a value, or return the one that another thread has kept meanwhile; the oldest goes."""
        with self.lock:
            found = kept.setdefault(key, value)
            while len(kept) > most:
                del kept[next(iter(kept))]
        return found


@frozen(eq=False)
class _Belief:
    """What a connection was told, and when."""

    plan: Known
    engine: _Engine
    generation: int


# One entry per engine, by the dialect that all views of it share; it goes when the engine goes.
_engines: WeakKeyDictionary[Dialect, _Engine] = WeakKeyDictionary()
_lock = Lock()


def known(connection: Connection, mapping: TicketMapping) -> Known:
    """Return what this connection was told of a mapping, or else ask.

    Statements:
        None where it was told. Else one, and those of `detect_all` where no connection of the engine has seen the like.

    Raises:
        MappingError: as `detect_all`; if a companion table is not this desk's; and if nobody fills a column of a new row that must be filled.
    """
    said = mapping.said, schema_of(connection, mapping)
    beliefs: dict[_Said, _Belief] | None = connection.info.get(_INFO)
    belief = None if beliefs is None else beliefs.get(said)
    is_believed = belief is not None and belief.generation == belief.engine.generation
    plan = belief.plan if belief is not None and is_believed else asked(connection, mapping)
    if plan.needed:
        try:
            check_further(mapping, plan.needed)  # a callback is no part of what a mapping says
        except MappingError:
            connection.info[_INFO].pop(said, None)  # whoever mends the table need not connect anew
            raise
    return plan


def asked(connection: Connection, mapping: TicketMapping) -> Known:
    """Ask the database where this connection is and what is there, and return what follows from it."""
    engine = _engine_of(connection)
    generation = engine.generation
    schema = schema_of(connection, mapping)
    database = database_of(connection.dialect)
    found = database.catalogue.place(connection, mapping)
    key = mapping.said, schema, found
    plan = engine.plans.get(key)
    if plan is None:
        database.catalogue.check(connection, mapping)
        detected = detect_all(connection, mapping)
        if found.tables:
            check_companions(connection, mapping, with_anchors=detected.rule is UniqueRule.NONE)
        by = database.catalogue.by_index(connection, mapping, detected.index)
        kind = (mapping.said, detected, by)
        statements = engine.statements.get(kind)
        if statements is None:
            statements = database.statements(mapping, connection.dialect, detected, by)
            statements = engine.keep(engine.statements, kind, statements, MOST_STATEMENTS)
        made = Known(statements, schema, found.bound(), found.tables, detected.unique, detected.needed)
        plan = engine.keep(engine.plans, key, made, MOST_PLANS)
    beliefs: dict[_Said, _Belief] = connection.info.setdefault(_INFO, {})
    if len(beliefs) >= MOST_BELIEFS:
        beliefs.clear()
    beliefs[mapping.said, schema] = _Belief(plan, engine, generation)
    return plan


def has(connection: Connection, mapping: TicketMapping, plan: Known, table: Table) -> bool:
    """Tell whether a companion table is there; what was not there is asked for again.

    Raises:
        ElsewhereError: if something else is known now.
    """
    if table.name in plan.there:
        return True
    if asked(connection, mapping) is not plan:
        raise ElsewhereError
    return catalogue_of(connection).has_elsewhere(connection, table.name, plan.schema)


def forget(connection: Connection) -> None:
    """Let every connection of this engine ask again, as one of them was told what is not so any more."""
    engine = _engine_of(connection)
    with engine.lock:
        engine.generation += 1


def _engine_of(connection: Connection) -> _Engine:
    with _lock:
        found = _engines.get(connection.dialect)
        if found is None:
            found = _engines[connection.dialect] = _Engine()
        return found


# --- errors that tell of it ----------------------------------------------------------------------------------

_RULE_HAS_GONE = frozenset[Code]().union(*(each.rule_gone for each in DATABASE_ERRORS))
_SCHEMA_HAS_CHANGED = _RULE_HAS_GONE.union(*(each.changed for each in DATABASE_ERRORS))
_UNHARMED = frozenset[Code]().union(*(each.unharmed for each in DATABASE_ERRORS))


def tells_of_the_schema(error: DBAPIError) -> bool:
    """Tell whether an error says that the tables are not what they were."""
    return code_of(error) in _SCHEMA_HAS_CHANGED


def went_unharmed(error: DBAPIError) -> bool:
    """Tell whether the transaction goes on after such an error, so that the same can be sent once more."""
    return code_of(error) in _UNHARMED


def was_the_rule(error: DBAPIError) -> bool:
    """Tell whether it was the unique rule that has gone, for which the next try finds something else."""
    return code_of(error) in _RULE_HAS_GONE


def is_of_a_new_index(connection: Connection, mapping: TicketMapping, plan: Known, error: DBAPIError) -> bool:
    """Tell whether a row was refused by a unique index that was not there when the database was asked.

    A database that cannot be asked any more names the index; one that was made anew under its name is not noticed.

    Statements:
        Those of `asked`, where a unique index has refused a row of MariaDB or SQLite.
    """
    if fault_of(error) is not Fault.TAKEN:
        return False
    refused_by = database_of(connection.dialect).errors.refused_by
    if refused_by is None:
        return asked(connection, mapping) is not plan
    table, index = refused_by(error.orig)
    return table == mapping.table.name and index not in plan.unique
