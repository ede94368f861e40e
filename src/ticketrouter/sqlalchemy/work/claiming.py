"""Keeping others from a contact, where no unique rule keeps two tickets apart.

Law of this file: whoever claims does so before it looks, until the host's transaction ends; only where reads may be old
a look is trusted that came before: see `old_reads`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ticketrouter.decisions import Lookup
from ticketrouter.model import Ticket, UniqueRule
from ticketrouter.sqlalchemy.claims import Contact
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.facts import BELOW, CREATE_ALL
from ticketrouter.sqlalchemy.transactions import is_autocommit, transactions_of
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.wording import Code


def contacts_of(found: Iterable[Lookup | Ticket]) -> set[Contact]:
    """Return the contacts that look-ups, or tickets, are about."""
    return {(each.company_id, each.contact_id) for each in found}


def needs_claim(here: Here, lookup: Lookup) -> bool:
    """Tell whether a look must keep others away by itself."""
    return lookup.claim and here.statements.rule is UniqueRule.NONE


def claim(here: Here, contacts: Iterable[Contact]) -> bool:
    """Keep everybody else from contacts until the host's transaction ends, and tell whether that has taken a write.

    Raises:
        MappingError: if nothing would keep them away.
    """
    check_guarded(here)
    if transactions_of(here.connection).begins_with_the_write_lock(here.connection):
        return False
    statement, rows = here.statements.claims.anchors(contacts)
    # One goes alone: drivers send a list of rows in other ways, which cost more.
    here.connection.execute(statement, rows[0] if len(rows) == 1 else rows)
    return True


def is_guarded(here: Here) -> bool:
    """Tell whether something keeps others from a contact here, until the transaction ends."""
    if is_autocommit(here.connection):
        return False
    begins = transactions_of(here.connection).begins_with_the_write_lock
    return begins(here.connection) or here.has(here.mapping.anchors)


def check_guarded(here: Here) -> None:
    """Raise where nothing does."""
    if is_guarded(here):
        return
    mapping = here.statements.mapping
    unguarded = f"{mapping.table.fullname} has no unique rule on active tickets"
    if is_autocommit(here.connection):
        raise MappingError(
            f"{unguarded}, so a transaction must keep others away: use a connection without "
            "AUTOCOMMIT, or add the unique index"
        )
    raise MappingError(
        f"{unguarded}: add the unique index, or create {mapping.anchors.fullname} with ",
        CREATE_ALL,
        BELOW,
        Code("ddl", f"\n{here.ddl(mapping.anchors)}"),
    )
