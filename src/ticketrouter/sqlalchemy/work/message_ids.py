"""The message ids: what is kept of them, and where it must be.

Law of this file: an id is recorded together with what its message did, or neither is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ticketrouter.decisions import Lookup, MessageRef
from ticketrouter.errors import RepositoryError
from ticketrouter.model import TicketKey
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.facts import BELOW, CREATE_ALL, IGNORED
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.wording import Code


def ref_of(lookup: Lookup) -> MessageRef | None:
    """Return the message id that a look-up asks for."""
    if lookup.message_id is None or lookup.connection_id is None:
        return None
    key = TicketKey(lookup.company_id, lookup.contact_id, lookup.connection_id)
    return MessageRef(key, lookup.message_id)


def place_of(here: Here, ref: MessageRef) -> tuple[Any, Any, bytes]:
    """Return the primary key of what is kept of a message id."""
    return ref.key.company_id, ref.key.connection_id, here.statements.values.digest(ref.message_id)


def remembers(here: Here) -> bool:
    """Tell whether message ids are recorded; a MappingError where they are to be, and cannot."""
    mapping = here.statements.mapping
    if mapping.remember_messages and not keeps_ids(here):
        raise MappingError(
            f"{mapping.message_ids.fullname} is missing, without which a redelivery would count twice: create it "
            "with ",
            CREATE_ALL,
            BELOW,
            ", or pass ",
            IGNORED,
            Code("ddl", f"\n{here.ddl(mapping.message_ids)}"),
        )
    return mapping.remember_messages


def keeps_ids(here: Here) -> bool:
    """Tell whether there are recorded message ids."""
    mapping = here.statements.mapping
    return mapping.remember_messages and here.has(mapping.message_ids)


def to_record(here: Here, ref: MessageRef | None) -> MessageRef | None:
    """Return the message id if it is to be recorded; an error where it cannot be."""
    if ref is None or not remembers(here):
        return None
    if is_autocommit(here.connection):
        raise RepositoryError(
            "a message id is recorded together with its ticket, which needs a transaction: use a "
            "connection without AUTOCOMMIT, or messages without message_id"
        )
    return ref


def forget(here: Here, refs: Iterable[MessageRef]) -> None:
    """Take back what was recorded."""
    if here.statements.mapping.remember_messages:
        for ref in refs:
            here.execute(here.statements.messages.forget(ref))


def forget_messages(here: Here, before: datetime) -> int:
    """Forget what was recorded before a time: see `ForgetsMessages`."""
    if not keeps_ids(here):
        return 0
    return here.execute(here.statements.messages.forget_before(before)).rowcount
