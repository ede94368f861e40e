"""`audit`: what a host's tickets table allows, and what has become of its tickets.

Law of this file: the order of the checks, and nothing of what they look at. No check writes, and what a check
keeps does not grow with the table: the database counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import SAWarning

from ticketrouter.sqlalchemy import audit_rows as rows
from ticketrouter.sqlalchemy import audit_schema as schema
from ticketrouter.sqlalchemy.catalogue import indexes
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.findings import Audit, Check, Level, Observation, View
from ticketrouter.sqlalchemy.mapping import MappingError, TicketMapping

__all__ = ["EXAMPLES", "Audit", "Check", "Level", "Observation", "Progress", "audit"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""What is told how many checks are done, how many there are, and what the next one looks at."""

EXAMPLES = 10
"""How many examples a finding has at most."""

_CHECKS: tuple[tuple[str, Callable[[View], Iterable[Observation]]], ...] = (
    ("look-up indexes", schema.lookup_indexes),
    ("transactions", schema.transactions),
    ("ids", schema.ids),
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
    closed: Collection[str] = (),
    examples: int = EXAMPLES,
    progress: Progress | None = None,
) -> Audit:
    """Look at a tickets table: at what it enforces, and at its rows. Nothing is written.

    Args:
        connection: a connection to the database.
        mapping: where the tickets are.
        closed: words of closed tickets besides the scheme's, so that they are no finding.
        examples: how many examples a finding has at most.
        progress: is told how far the audit has come.

    Returns:
        What was seen: ids, counts and status words, nothing of what a person has written.

    Raises:
        MappingError: if it is no Connection, or if the table is not there.
        RepositoryError: if the database refuses a query.

    Statements:
        Queries of the catalogue, and about twenty that read the table as a whole; their number does not depend on
        its size.
    """
    if not isinstance(connection, Connection):
        raise MappingError(
            f"a Connection is needed, not {type(connection).__name__}: with engine.connect() as connection: ..."
        )
    total = len(_FIRST) + len(_CHECKS)

    def tell(done: int, what: str) -> None:
        if progress is not None:
            progress(done, total, what)

    with translated(), warnings.catch_warnings():
        # What SQLAlchemy cannot read of an index or a type is no matter here.
        warnings.simplefilter("ignore", SAWarning)
        tell(0, _FIRST[0])
        view = View(
            connection, mapping, tuple(indexes(connection, mapping)), frozenset(closed), max(examples, 0)
        )
        rule, seen = schema.unique_rule(view)
        tell(1, _FIRST[1])
        seen += schema.companion_tables(view, rule)
        tell(2, _FIRST[2])
        tickets, active = rows.totals(view)
        for done, (what, check) in enumerate(_CHECKS, start=len(_FIRST)):
            tell(done, what)
            seen += check(view)
        tell(total, "")
    return Audit(
        database=_kind(connection),
        table=mapping.table.fullname,
        tickets=tickets,
        active=active,
        unique_rule=rule,
        observations=tuple(seen),
    )


def _kind(connection: Connection) -> str:
    return "mariadb" if connection.dialect.name == "mysql" else connection.dialect.name
