"""`audit`: what a host's tickets table allows, and what has become of its tickets.

Law of this file: the order of the checks, and nothing of what they look at. No check writes, and what a check
keeps does not grow with the table: the database counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import evolve
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SAWarning

from ticketrouter.sqlalchemy.catalogue import catalogue_of, columns, indexes
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.dialects.base import Level
from ticketrouter.sqlalchemy.facts import ColumnFacts
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.filling import check_there
from ticketrouter.sqlalchemy.fit_words import Unfit, told_of, unfit_words
from ticketrouter.sqlalchemy.health import audit_rows as rows
from ticketrouter.sqlalchemy.health import audit_schema as schema
from ticketrouter.sqlalchemy.health.audit_times import times
from ticketrouter.sqlalchemy.health.findings import Audit, Check, Observation, View
from ticketrouter.sqlalchemy.mapping import TicketMapping, check_place
from ticketrouter.sqlalchemy.rules import judged_indexes

__all__ = ["EXAMPLES", "Audit", "Check", "Level", "Observation", "Progress", "audit"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""What is told how many checks are done, how many there are, and what the next one looks at."""

EXAMPLES = 10
"""How many examples a finding has at most."""

_CHECKS: tuple[tuple[str, Callable[[View], Iterable[Observation]]], ...] = (
    ("look-up indexes", schema.lookup_indexes),
    ("transactions", schema.transactions),
    ("ids", schema.ids),
    ("spellings of ids", schema.merged_ids),
    ("columns", schema.columns),
    ("times", times),
    ("statuses", rows.statuses),
    ("duplicates", rows.duplicates),
    ("orphans", rows.orphans),
    ("contacts", rows.contacts),
    ("connections", rows.connections),
    ("groups", rows.groups),
)
_FIRST = ("unique rule", "companion tables", "tickets")


def audit(
    connection: Connection,
    mapping: TicketMapping,
    *,
    examples: int = EXAMPLES,
    progress: Progress | None = None,
) -> Audit:
    """Look at a tickets table: at what it enforces, and at its rows. Nothing is written.

    Args:
        connection: a connection to the database.
        mapping: where the tickets are.
        examples: how many examples a finding has at most.
        progress: is told how far the audit has come.

    Returns:
        What was seen: ids, counts and status words, nothing of what a person has written.

    Raises:
        MappingError: if it is no Connection, if the table or a column of it is not there, or if the database refuses every statement with
            a word that the status column cannot hold.
        RepositoryError: if the database refuses a query.

    Statements:
        Queries of the catalogue, and about twenty that read the table as a whole; their number does not depend on
        its size.
    """
    check_place(connection, mapping)
    total = len(_FIRST) + len(_CHECKS)

    def tell(done: int, what: str) -> None:
        if progress is not None:
            progress(done, total, what)

    with translated(), warnings.catch_warnings():
        # What SQLAlchemy cannot read of an index or a type is no matter here.
        warnings.simplefilter("ignore", SAWarning)
        tell(0, _FIRST[0])
        facts = columns(connection, mapping)
        check_there(mapping, facts, by_case=catalogue_of(connection).tells_cases)
        unfit = tuple(unfit_words(connection, mapping, facts))
        try:
            return _audited(connection, mapping, max(examples, 0), tell, facts, unfit)
        except DBAPIError as error:
            if unfit:  # a statement with such a word may be refused
                raise MappingError(told_of(unfit)) from error
            raise


def _audited(
    connection: Connection,
    mapping: TicketMapping,
    examples: int,
    tell: Callable[[int, str], None],
    facts: Mapping[str, ColumnFacts],
    unfit: tuple[Unfit, ...],
) -> Audit:
    """Look at what the table enforces, and then at its rows."""
    found = tuple(indexes(connection, mapping))
    judged = tuple(judged_indexes(connection, mapping, found))
    view = View(connection, mapping, found, judged, examples, facts, unfit)
    rule, seen = schema.unique_rule(view)
    tell(1, _FIRST[1])
    seen += schema.companion_tables(view, rule)
    tell(2, _FIRST[2])
    tickets, active = rows.totals(view)
    for done, (what, check) in enumerate(_CHECKS, start=len(_FIRST)):
        tell(done, what)
        seen += check(view)
    tell(len(_FIRST) + len(_CHECKS), "")
    return Audit(
        database=database_of(connection.dialect).name,
        table=mapping.table.fullname,
        tickets=tickets,
        active=active,
        unique_rule=rule,
        observations=tuple(_agreeing(seen)),
    )


def _agreeing(seen: Sequence[Observation]) -> Iterator[Observation]:
    """Say of a rule that the rows contradict that it has not kept: it cannot be right where there are duplicates."""
    duplicates = sum(
        each.count for each in seen if (each.check, each.level) == (Check.DUPLICATES, Level.FINDING)
    )
    for each in seen:
        if duplicates and (each.check, each.level) == (Check.UNIQUE_RULE, Level.OK):
            yield evolve(
                each,
                level=Level.FINDING,
                text=f"{each.text}, and the rows contradict it: see duplicates",
                advice="it was damaged, or the rows were written around it: close the duplicates, and build it again",
            )
        else:
            yield each
