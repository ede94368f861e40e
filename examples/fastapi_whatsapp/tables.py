"""The desk's own tables, beside those of ticketrouter."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ticketrouter.sqlalchemy import TicketMapping


class Base(DeclarativeBase):
    """What all mapped classes share."""


MAPPING = TicketMapping.own(metadata=Base.metadata)
"""The tables of ticketrouter, on the same metadata: so that one foreign key can name the other."""


class Number(Base):
    """A number of a company: a connection."""

    __tablename__ = "numbers"

    phone_number_id: Mapped[str] = mapped_column(primary_key=True)
    company_id: Mapped[int]


class StoredMessage(Base):
    """A message, under its ticket."""

    __tablename__ = "messages"

    number: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(MAPPING.columns["id"]), index=True)
    participant: Mapped[str]
    sent_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    text: Mapped[str]


async def create_tables(engine: AsyncEngine) -> None:
    """Create what is not there yet; a grown-up project has migrations instead."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
