"""The statements that keep everybody else from a contact, where no unique rule keeps two tickets apart.

Law of this file: others are kept away until the host's transaction ends, and what was seen before counts only where
it can be told that nobody has been there since. As everywhere, nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import Executable, bindparam, literal_column

from ticketrouter.checks import Id
from ticketrouter.model import id_order
from ticketrouter.sqlalchemy.parts import Parts, Sent

Contact: TypeAlias = tuple[Id, Id]
"""A company and a contact."""


class Claims:
    """The statements that claim a contact: each writes the contact's anchor row.

    Args:
        parts: what they are made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._anchors = parts.mapping.anchors
        self._encode_contact = parts.values.codecs["contact_id"].encode
        self._company = parts.values.company
        self._many = self._written(parts.insert(self._anchors).values(version=0))
        self._one = self._told(self._many)

    def anchor(self, company_id: Id, contact_id: Id) -> Sent:
        """Return the write of the contact's anchor row."""
        return self._one, {
            "company_id": self._company(company_id),
            "contact_id": self._encode_contact(contact_id),
        }

    def anchors(self, contacts: Iterable[Contact]) -> tuple[Executable, list[dict[str, Any]]]:
        """Return the write of the anchor rows of several contacts, in an order that every transaction keeps."""
        return self._many, [self.anchor(*contact)[1] for contact in sorted(contacts, key=contact_order)]

    def values(self, company_id: Id, contact_id: Id) -> dict[str, Any]:
        """Return what another statement is sent with of which an anchor is a part."""
        return {f"b_{name}": value for name, value in self.anchor(company_id, contact_id)[1].items()}

    # --- their parts ---------------------------------------------------------------------------------------------

    def _written(self, write: Any) -> Any:
        """Let the write of an anchor change the version of one that is there."""
        return write.on_conflict_do_update(
            index_elements=list(self._anchors.primary_key), set_=self._next_version()
        )

    def _told(self, write: Any) -> Any:
        """Let the write of one anchor give the row, its version at the end, where that says something."""
        return write

    def _next_version(self) -> dict[str, Any]:
        """Return what is written into an anchor that is there."""
        # A parameter behind the rows is one that PyMySQL cannot send with many.
        return {"version": self._anchors.c.version + literal_column("1")}

    def sent(self) -> list[Any]:
        """Return what `values` are bound as."""
        columns = self._anchors.c
        return [bindparam(f"b_{name}", type_=columns[name].type) for name in ("company_id", "contact_id")]


def contact_order(contact: Contact) -> tuple[Any, ...]:
    """Return a sort key that orders contacts as `key_order` orders their keys."""
    return id_order(contact[0]), id_order(contact[1])
