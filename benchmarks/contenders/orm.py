"""What everyone writes with an ORM: select, insert in a savepoint, and who loses the race selects again.

Law of this file: as one finds it in application code, done right: a transaction for each message, the unique
rule of the schema as the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import URL, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from benchmarks.cells import Arrival, Cell
from benchmarks.contenders import Send
from benchmarks.stands import MAPPING, engine_of


class Base(DeclarativeBase):
    """What the class below is declared on."""


class Ticket(Base):
    """A ticket as a mapped class."""

    __table__ = MAPPING.table


def find(session: Session, arrival: Arrival) -> Ticket | None:
    return session.scalars(
        select(Ticket).where(
            Ticket.company_id == arrival.company,
            Ticket.contact_id == arrival.contact,
            Ticket.connection_id == arrival.connection,
            Ticket.status.in_(["open", "pending"]),
        )
    ).one_or_none()


def join(ticket: Ticket, now: datetime) -> Ticket:
    # In SQL, so that two messages at the same moment both count.
    ticket.unread_messages = Ticket.unread_messages + 1
    ticket.updated_at = now
    return ticket


def find_or_create(session: Session, arrival: Arrival) -> Ticket:
    now = datetime.now(UTC)
    ticket = find(session, arrival)
    if ticket is not None:
        return join(ticket, now)
    ticket = Ticket(
        company_id=arrival.company,
        contact_id=arrival.contact,
        connection_id=arrival.connection,
        status="pending",
        is_group=False,
        unread_messages=1,
        created_at=now,
        updated_at=now,
    )
    try:
        with session.begin_nested():
            session.add(ticket)
    except IntegrityError:
        found = find(session, arrival)
        if found is None:
            raise
        return join(found, now)
    return ticket


@contextmanager
def select_then_insert(_cell: Cell, url: URL) -> Iterator[Send]:
    """Find or create by the ORM."""
    with engine_of(url) as engine:
        maker = sessionmaker(engine)

        def send(arrival: Arrival) -> Ticket:
            with maker.begin() as session:
                return find_or_create(session, arrival)

        yield send
