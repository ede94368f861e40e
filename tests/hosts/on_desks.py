"""The tables of real desks as stores of the kit, so that the cases of the presets run on them.

Law of this file: what a desk asks of a ticket's parents stands here, in SQL; nothing of what any desk decides.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from uuid import UUID

from sqlalchemy import Connection, text

from tests.hosts.trying import Opened
from ticketrouter.checks import Id
from ticketrouter.presets import Preset
from ticketrouter.testing.sqlalchemy import Maker, MappedStore

ON = {
    "chatwoot-single": "chatwoot",
    "chatwoot-multi": "chatwoot",
    "zammad-same": "zammad",
    "zammad-new": "zammad",
    "papercups": "papercups",
    "ticketz": "ticketz",
    "whaticket-saas": "ticketz",
    "multi100": "ticketz",
    "whaticket-community": "whaticket-community",
    "press-ticket": "whaticket-community",
}
"""By preset, the desk whose table it is put on: its own, or of the Whaticket line one with the same columns."""


_NUMBERS = count(90_001)


def _number() -> Id:
    return next(_NUMBERS)


def _uuid() -> Id:
    return UUID(int=next(_NUMBERS))


def _made(statement: str, make_id: Callable[[], Id] = _number) -> Maker:
    """Return what makes a row by a statement, in which `:id` is its key; two presets may be on one desk's tables."""

    def make(connection: Connection, _: int) -> Id:
        made = make_id()
        names = {"id": made} | ({"n": str(made)} if ":n" in statement else {})
        connection.execute(text(statement), names)
        return made

    return make


_ACCOUNT = "'aaaaaaaa-0000-4000-8000-000000000001'"
_MAKERS: dict[str, dict[str, Maker]] = {
    "chatwoot": {
        "company_id": _made(
            "INSERT INTO accounts (id, name, created_at, updated_at) VALUES (:id, 'a', now(), now())"
        ),
    },
    "zammad": {
        "contact_id": _made("INSERT INTO users (id, login) VALUES (:id, :n)"),
        "user_id": _made("INSERT INTO users (id, login) VALUES (:id, :n)"),
        "connection_id": _made("INSERT INTO groups (id, name) VALUES (:id, :n)"),
    },
    "papercups": {
        "company_id": _made("INSERT INTO accounts (id, company_name) VALUES (:id, 'a')", _uuid),
        "contact_id": _made("INSERT INTO customers (id) VALUES (:id)", _uuid),
        "connection_id": _made(
            f"INSERT INTO inboxes (id, name, account_id) VALUES (:id, 'i', {_ACCOUNT})",
            _uuid,
        ),
        "user_id": _made(f"INSERT INTO users (id, email, account_id) VALUES (:id, 'e', {_ACCOUNT})"),
    },
    "ticketz": {
        "company_id": _made(
            """INSERT INTO "Companies" (id, name, "createdAt", "updatedAt") VALUES (:id, 'c', now(), now())"""
        ),
        "contact_id": _made("""INSERT INTO "Contacts" (id, name, number) VALUES (:id, 'c', :n)"""),
        "connection_id": _made("""INSERT INTO "Whatsapps" (id, name) VALUES (:id, 'w')"""),
        "user_id": _made("""INSERT INTO "Users" (id, name) VALUES (:id, 'u')"""),
        "queue_id": _made("""INSERT INTO "Queues" (id, name) VALUES (:id, 'q')"""),
    },
    "whaticket-community": {
        "contact_id": _made("INSERT INTO Contacts VALUES (:id, 'c', :n, 0, now(), now())"),
        "connection_id": _made("INSERT INTO Whatsapps VALUES (:id, :n, now(), now())"),
        "user_id": _made("INSERT INTO Users VALUES (:id, 'u', :n, now(), now())"),
        "queue_id": _made("INSERT INTO Queues VALUES (:id, :n, :n, now(), now())"),
    },
}


def store_on(place: Opened, preset: Preset) -> MappedStore:
    """Return the kit's store over the desk's table, mapped with the words of a preset."""
    mapping = place.desk.mapping(place.table, preset)
    mapping.message_ids.metadata.create_all(place.engine)
    return MappedStore(place.engine, mapping, ids_ascend=True, **_MAKERS[place.desk.name])  # type: ignore[arg-type]
