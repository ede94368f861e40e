"""Where a call is: its connection, and what is known there.

Law of this file: values, and how a statement is sent; what is sent, and why, stands in the files beside.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from sqlalchemy import Connection, CursorResult, Table

from ticketrouter.checks import Id
from ticketrouter.decisions import Lookup
from ticketrouter.errors import RepositoryError
from ticketrouter.model import StatusScheme, Ticket
from ticketrouter.sqlalchemy.facts import ElsewhereError
from ticketrouter.sqlalchemy.known import Known, asked, has
from ticketrouter.sqlalchemy.many import Many
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.parts import Sent
from ticketrouter.sqlalchemy.refusals import Refusals
from ticketrouter.sqlalchemy.schema import printed
from ticketrouter.sqlalchemy.statements import Statements
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.sqlalchemy.whole import Whole


@frozen
class Here:
    """What one call has."""

    connection: Connection
    plan: Known
    mapping: TicketMapping
    """The host's own, whose callbacks are asked; the plan's says the same, and may be another."""
    whole: Whole

    @property
    def statements(self) -> Statements:
        """The statements about its tickets."""
        return self.plan.statements

    @property
    def many(self) -> Many:
        """The statements about many."""
        return self.statements.many

    @property
    def refusals(self) -> Refusals:
        """What tells why a write was refused."""
        return Refusals(self.connection, self.statements)

    @property
    def statuses(self) -> StatusScheme:
        """The host's words."""
        return self.statements.mapping.statuses

    @property
    def only_company(self) -> Id | None:
        """The company of a table that has one; None: it has many."""
        return self.statements.mapping.only_company

    def is_of(self, company_id: Id) -> bool:
        """Tell whether a company can have tickets in this table."""
        return self.only_company is None or self.only_company == company_id

    def is_about(self, lookup: Lookup) -> bool:
        """Tell whether a look-up is for a company and a connection that can have tickets in this table."""
        only = self.statements.mapping.only_connection
        return self.is_of(lookup.company_id) and only in {None, lookup.connection_id}

    def has(self, companion: Table) -> bool:
        """Tell whether a companion table is there."""
        return has(self.connection, self.mapping, self.plan, companion)

    def ddl(self, companion: Table) -> str:
        """Return what makes a companion table."""
        return printed(companion, self.connection.dialect, self.plan.schema)

    def check(self) -> None:
        """Raise where what was not found may be in another place."""
        if self.statements.parts.checks_place and asked(self.connection, self.mapping) is not self.plan:
            raise ElsewhereError

    def check_transaction(self, what: str) -> None:
        """Raise where several statements would not stand in one transaction."""
        if is_autocommit(self.connection):
            raise RepositoryError(
                f"{what} is several statements in one transaction: use a connection without AUTOCOMMIT"
            )

    def execute(self, sent: Sent) -> CursorResult[Any]:
        """Send a statement."""
        statement, values = sent
        return self.connection.execute(statement, values)

    def look(self, sent: Sent) -> CursorResult[Any]:
        """Send a statement that is about the place in which this connection was when it was asked, and tells another."""
        statement, values = sent
        return self.connection.execute(statement, values | self.plan.at)

    def tickets(self, sent: Sent) -> list[Ticket]:
        """Return the tickets that a `SELECT` finds."""
        return self.many.tickets(self.execute(sent).all())
