"""The tickets tables of known desks that are not of the Whaticket line: their columns, and what these store.

Law of this file: data only, as the options would say it. What a desk decides, and its words, stand in
`ticketrouter.presets`; what each column is was read from the desks whose tables `tests/hosts` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import Factory, frozen


@frozen
class KnownTable:
    """The tickets table of a known desk.

    Args:
        name: what it is called.
        columns: by field, the column; None: there is none.
        status_values: what stands for each word of the statuses; empty: the words do.
        absent: by field, what stands for none.
        has_company: whether it has a company column.
        where: by column, what the rows of the desk have; empty: NULL.
        asks: by column, why `--where` must say what the rows of the desk have there, and an example.
        uuid: the columns in which a new row has a random UUID.
        new_row: by column that a new row needs and the desk's own code fills, the option that does so here.
    """

    name: str
    columns: Mapping[str, str | None] = Factory(dict)
    status_values: Mapping[str, str] = Factory(dict)
    absent: Mapping[str, str] = Factory(dict)
    has_company: bool = True
    where: Mapping[str, str] = Factory(dict)
    asks: Mapping[str, tuple[str, str]] = Factory(dict)
    uuid: tuple[str, ...] = ()
    new_row: Mapping[str, str] = Factory(dict)


_CHATWOOT = KnownTable(
    "conversations",
    columns={
        "company_id": "account_id",
        "connection_id": "inbox_id",
        "is_group": None,
        "unread_messages": None,
        "user_id": "assignee_id",
        "queue_id": "team_id",
        "closed_at": None,
    },
    status_values={"open": "0", "resolved": "1", "pending": "2", "snoozed": "3"},
)
_ZAMMAD = KnownTable(
    "tickets",
    columns={
        "company_id": None,
        "contact_id": "customer_id",
        "connection_id": "group_id",
        "status": "state_id",
        "is_group": None,
        "unread_messages": None,
        "user_id": "owner_id",
        "queue_id": None,
        "closed_at": "close_at",
    },
    status_values={
        "new": "1",
        "open": "2",
        "pending reminder": "3",
        "closed": "4",
        "merged": "5",
        "removed": "6",
        "pending close": "7",
    },
    absent={"user_id": "1"},
    has_company=False,
    new_row={
        "number": "--uuid number",
        "priority_id": "--on-create priority_id=2",
        "title": "--on-create title=TITLE",
        "created_by_id": "--on-create created_by_id=1",
        "updated_by_id": "--on-create updated_by_id=1",
    },
)
_PAPERCUPS = KnownTable(
    "conversations",
    columns={
        "company_id": "account_id",
        "contact_id": "customer_id",
        "connection_id": "inbox_id",
        "is_group": None,
        "unread_messages": None,
        "user_id": "assignee_id",
        "queue_id": None,
        "created_at": "inserted_at",
    },
    where={"archived_at": ""},
    asks={"source": ("a customer has a conversation of each source, which are told apart by it", "chat")},
    uuid=("id",),
)

KNOWN: Mapping[str, KnownTable] = MappingProxyType(
    {
        "chatwoot-single": _CHATWOOT,
        "chatwoot-multi": _CHATWOOT,
        "zammad-same": _ZAMMAD,
        "zammad-new": _ZAMMAD,
        "papercups": _PAPERCUPS,
    }
)
"""By preset, the table of its desk."""
