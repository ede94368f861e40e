"""The statements that keep everybody else from a contact, where no unique rule keeps two tickets apart.

Law of this file: others are kept away until the host's transaction ends, and what was seen before counts only where
it can be told that nobody has been there since. As everywhere, nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeAlias, assert_never

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Executable,
    Select,
    String,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from ticketrouter.checks import Id
from ticketrouter.model import id_order
from ticketrouter.sqlalchemy.codecs import Codec
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.types import encode_id

Contact: TypeAlias = tuple[Id, Id]
"""A company and a contact."""
READ_COMMITTED = "read committed"
"""The level at which a lock of PostgreSQL is enough: what is read after it is newer than it."""
_LEVEL, _VERSION = "level ", "version "
"""What a row's role begins with that tells the isolation level, or an anchor's version, instead of a ticket."""

_level_role, _version_role = literal_column("'level '", String), literal_column("'version '", String)
_level = func.current_setting("transaction_isolation")
_is_dirty: ColumnElement[bool] = literal_column("@@tx_isolation = 'READ-UNCOMMITTED'", Boolean)
_NEVER: ColumnElement[Any] = literal_column("-2")
"""Stands for the version that a dirty read sees, whose tickets may not be there yet: none comes after it."""
_lock: ColumnElement[Any] = func.pg_advisory_xact_lock(bindparam("b_lock", type_=BigInteger))
_LOCK = select(_level, _lock)


class Guard(StrEnum):
    """What keeps others from a contact."""

    ANCHOR = "anchor"
    """A write of the contact's row in the anchors table."""
    LOCK = "lock"
    """An advisory lock of PostgreSQL's, for hosts without that table; at READ COMMITTED only."""


class ClaimStatements:
    """The statements that claim a contact, for one mapping and one database.

    Args:
        mapping: where the tickets, and the anchors, are.
        dialect_name: the database.
        codecs: how each field that has a column is written.
    """

    def __init__(self, mapping: TicketMapping, dialect_name: str, codecs: Mapping[str, Codec]) -> None:
        self._table_name = mapping.table.fullname
        self._anchors = mapping.anchors
        self._dialect_name = dialect_name
        company = codecs.get("company_id")
        self._encode_company = None if company is None else company.encode
        self._encode_contact = codecs["contact_id"].encode
        self._many = self._build_anchor()
        tells = dialect_name not in {"postgresql", "sqlite"}
        self._anchor = (
            self._many.returning(*self._anchors.primary_key, self._anchors.c.version) if tells else self._many
        )

    def anchor(self, company_id: Id, contact_id: Id) -> tuple[Executable, dict[str, Any]]:
        """Return the write of the contact's anchor row, which on MariaDB gives the row, its version at the end."""
        return self._anchor, {
            "company_id": self._company(company_id),
            "contact_id": self._encode_contact(contact_id),
        }

    def anchors(self, contacts: Iterable[Contact]) -> tuple[Executable, list[dict[str, Any]]]:
        """Return the write of the anchor rows of several contacts, in an order that every transaction keeps."""
        return self._many, [self.anchor(*contact)[1] for contact in sorted(contacts, key=contact_order)]

    def versions(self, contacts: Iterable[Contact]) -> Executable:
        """Return, for MariaDB, the `SELECT` of the anchors of several contacts; each row ends in its version."""
        anchors = self._anchors.c
        by_company: dict[Any, list[Any]] = {}
        for company_id, contact_id in contacts:
            by_company.setdefault(self._company(company_id), []).append(self._encode_contact(contact_id))
        among = (
            (anchors.company_id == company) & anchors.contact_id.in_(found)
            for company, found in by_company.items()
        )
        return select(anchors.company_id, anchors.contact_id, self._version).where(or_(*among))

    def lock(self, company_id: Id, contact_id: Id) -> tuple[Executable, dict[str, Any]]:
        """Return the advisory lock of PostgreSQL that does the same, and gives the isolation level."""
        return _LOCK, self._number(company_id, contact_id)

    # --- what a look is sent with, so that it claims, or can be trusted afterwards --------------------------------

    def values(self, guard: Guard, company_id: Id, contact_id: Id) -> dict[str, Any]:
        """Return what `anchored`, `locked` and `version` are sent with."""
        match guard:
            case Guard.ANCHOR:
                return {
                    "b_company_id": self._company(company_id),
                    "b_contact_id": self._encode_contact(contact_id),
                }
            case Guard.LOCK:
                return self._number(company_id, contact_id)
            case _:
                assert_never(guard)

    def anchored(self, when: ColumnElement[bool]) -> CTE:
        """Return the write of the anchor row, where a condition holds, as a part of another statement of PostgreSQL."""
        anchors = self._anchors
        row = select(*self._sent(), literal_column("0")).where(when)
        names = ["company_id", "contact_id", "version"]
        write = postgresql.insert(anchors).from_select(names, row, include_defaults=False)
        written: CTE = write.on_conflict_do_update(
            index_elements=list(anchors.primary_key), set_=self._next_version()
        ).cte("ticketrouter_claimed")
        return written

    @staticmethod
    def locked(when: ColumnElement[bool], width: int) -> Select[Any]:
        """Return the advisory lock, where a condition holds, as a row of so many columns of a `UNION`."""
        role: ColumnElement[Any] = _level_role + _level + cast(_lock, String)
        return select(role.label("role"), *(null() for _ in range(width - 1))).where(when)

    @staticmethod
    def level(rows: Sequence[Sequence[Any]]) -> str | None:
        """Return the isolation level that the row of `locked` tells; None: there is none, as nothing was locked."""
        return next((row[0].removeprefix(_LEVEL) for row in rows if row[0].startswith(_LEVEL)), None)

    def version(self) -> tuple[ColumnElement[Any], list[ColumnElement[bool]]]:
        """Return, for a row of a look on MariaDB, the role that tells the anchor's version, and the row's condition."""
        anchors = self._anchors.c
        here = [anchors.company_id, anchors.contact_id]
        role: ColumnElement[Any] = func.concat(_version_role, self._version)
        return role, [column == sent for column, sent in zip(here, self._sent(), strict=True)]

    @staticmethod
    def version_in(role: str) -> int | None:
        """Return the version that the role of a row tells; None: the row is a ticket."""
        return int(role.removeprefix(_VERSION)) if role.startswith(_VERSION) else None

    # --- their parts ---------------------------------------------------------------------------------------------

    def _company(self, company_id: Id) -> Any:
        return company_id if self._encode_company is None else self._encode_company(company_id)

    def _number(self, company_id: Id, contact_id: Id) -> dict[str, Any]:
        words = (self._table_name, encode_id(company_id), encode_id(contact_id))
        return {"b_lock": int.from_bytes(sha256("\0".join(words).encode()).digest()[:8], signed=True)}

    def _sent(self) -> list[ColumnElement[Any]]:
        columns = self._anchors.c
        return [bindparam(f"b_{name}", type_=columns[name].type) for name in ("company_id", "contact_id")]

    @property
    def _version(self) -> ColumnElement[Any]:
        version: ColumnElement[Any] = func.if_(_is_dirty, _NEVER, self._anchors.c.version)
        return version

    def _next_version(self) -> dict[str, Any]:
        # A parameter behind the rows is one that PyMySQL cannot send with many.
        return {"version": self._anchors.c.version + literal_column("1")}

    def _build_anchor(self) -> Any:
        anchors, change = self._anchors, self._next_version()
        match self._dialect_name:
            case "postgresql":
                on_postgresql = postgresql.insert(anchors).values(version=0)
                return on_postgresql.on_conflict_do_update(
                    index_elements=list(anchors.primary_key), set_=change
                )
            case "sqlite":
                on_sqlite = sqlite.insert(anchors).values(version=0)
                return on_sqlite.on_conflict_do_update(index_elements=list(anchors.primary_key), set_=change)
            case _:
                on_mariadb = mysql.insert(anchors).values(version=0)
                return on_mariadb.on_duplicate_key_update(change)


def contact_order(contact: Contact) -> tuple[Any, ...]:
    """Return a sort key that orders contacts as `key_order` orders their keys."""
    return id_order(contact[0]), id_order(contact[1])
