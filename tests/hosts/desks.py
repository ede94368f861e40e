"""Fifteen real desks: what their `host.json` says, as our TicketMapping, Policy and messages.

Law of this file: a desk is mapped by what the public pages offer, one desk like the other; no case has a line of its
own. What JSON cannot say, as an expression, a function and the unit of a whole number, stands in a few tables here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from attrs import evolve, frozen
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Select,
    Table,
    Uuid,
    and_,
    case,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
)

from ticketrouter import Effect, InboundMessage, MessageKind, Policy, Reopen, Scope, StatusScheme, presets
from ticketrouter.decisions import Create
from ticketrouter.presets import Preset
from ticketrouter.sqlalchemy import KEEP, TicketMapping

PLACE = Path(__file__).parent / "desks"

_LINKS = table("ost_whatsapp_mapping", column("ticket_id"), column("status"))
WHERE: Mapping[str, Callable[[Table], ColumnElement[bool]]] = {
    "glific": lambda t: and_(t.c.is_background_flow.is_(False), t.c.node_uuid.is_not(None)),
    "message-whatsapp": lambda t: t.c.deletedAt.is_(None),
    "osticket-whatsapp": lambda t: exists(
        select(1).where(_LINKS.c.ticket_id == t.c.ticket_id, _LINKS.c.status == "open")
    ),
    "papercups": lambda t: and_(t.c.archived_at.is_(None), t.c.source == "sms"),
}
"""The row condition of each desk that has one, as the host would write it."""
PRESETS = {
    "chatwoot": "chatwoot-multi",
    "papercups": "papercups",
    "ticketz": "ticketz",
    "whaticket-community": "whaticket-community",
    "zammad": "zammad-new",
}
"""The desks that a preset is about: their words and their policy are the preset's."""
OF_THE_LINE = frozenset({"ticketz", "whaticket-community"})
"""The desks whose table is the Whaticket line's."""
_THREADS = table("threads", column("thread_number"))
DEFAULTS: Mapping[str, Mapping[str, ColumnElement[Any]]] = {
    "modmailbot": {
        "thread_number": select(func.coalesce(func.max(_THREADS.c.thread_number), 0) + 1).scalar_subquery(),
    },
}
"""By desk and column, what a new row has there by the table itself, as the host's own Column would have it."""
_FOLDERS = table("folders", column("id"), column("mailbox_id"), column("type"))
_UNASSIGNED, _ASSIGNED = 1, 40


def _folder(t: Table) -> ColumnElement[Any]:
    """Return the folder of the mailbox that has a conversation with an agent, or without; a new one has none yet."""
    kind = case((t.c.user_id.is_(None), _UNASSIGNED), else_=_ASSIGNED)
    here = select(_FOLDERS.c.id).where(_FOLDERS.c.mailbox_id == t.c.mailbox_id, _FOLDERS.c.type == kind)
    return func.coalesce(here.scalar_subquery(), 101)


def _woken(message: InboundMessage, _: datetime) -> Any:
    """Empty the time of the snooze with what ends one; the desk's own messages do not."""
    return None if message.kind is MessageKind.MESSAGE else KEEP


WRITTEN: Mapping[str, Callable[[Table], Mapping[str, Any]]] = {
    "chatwoot": lambda _: {"snoozed_until": _woken},
    "freescout": lambda t: {"folder_id": _folder(t)},
    "libredesk": lambda _: {"snoozed_until": _woken},
}
"""By desk, what every message writes that follows from the row or the message."""
MAY_KEEP: Mapping[str, Select[Any]] = {
    "libredesk": select(column("id"))
    .select_from(table("users"))
    .where(literal_column("availability_status <> 'away_and_reassigning'")),
}
"""By desk, the agents who keep a ticket that is reopened, where not everybody does."""
EPOCH = {"izing": timedelta(milliseconds=1)}
"""What one unit of a time column of whole numbers is, where it is no second."""


@frozen
class Case:
    """A message on a desk with some rows, and what the desk's own code does with it."""

    desk: Desk
    said: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.desk.name}-{self.said['name']}".replace(" ", "_")

    @property
    def rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The rows that stand before, each with its table; those of other tables first."""
        others = self.said.get("also_rows", {}) | self.said.get("other_rows", {})
        before = [(name, row) for name, rows in others.items() for row in rows]
        return [*before, *((self.desk.said["table"], row) for row in self.said["rows"])]

    @property
    def now(self) -> datetime:
        """When the message comes."""
        return datetime.fromisoformat(self.said["now"])

    @property
    def expected(self) -> Mapping[str, Any]:
        """What the desk does."""
        expected: Mapping[str, Any] = self.said["expect"]
        return expected

    @property
    def beyond(self) -> str | None:
        """Why no mapping with a key of company, contact and connection can foretell it; None: one can."""
        reason: str | None = self.said.get("beyond")
        return reason


@frozen(slots=False)
class Desk:
    """A desk as its `host.json` describes it."""

    name: str
    said: Mapping[str, Any]

    @classmethod
    def all(cls) -> list[Desk]:
        """Read every desk."""
        places = sorted(PLACE.glob("*/host.json"))
        return [cls(place.parent.name, json.loads(place.read_text())) for place in places]

    @property
    def database(self) -> str:
        """The engine it runs on."""
        database: str = self.said["engine"]
        return database

    @property
    def schema(self) -> str:
        """What makes its tables."""
        return (PLACE / self.name / "schema.sql").read_text()

    @cached_property
    def cases(self) -> list[Case]:
        """Its cases."""
        return [Case(self, case) for case in self.said["cases"]]

    @property
    def preset(self) -> Preset | None:
        """The preset that is about it; None: none is."""
        return presets.ALL[PRESETS[self.name]] if self.name in PRESETS else None

    # --- the mapping -------------------------------------------------------------------------------------------

    def reflected(self, engine: Engine) -> Table:
        """Return its table as it is there, with the defaults that its Columns have."""
        defaults = DEFAULTS.get(self.name, {})
        columns = (Column(name, Integer, default=value) for name, value in defaults.items())
        return Table(
            self.said["table"], MetaData(), *columns, autoload_with=engine, schema=self.said["schema"]
        )

    def mapping(self, found: Table, preset: Preset | None = None) -> TicketMapping:
        """Map its table, as it was reflected.

        Args:
            found: the table.
            preset: whose words it has; None: those of the preset that is about it, or its own.
        """
        preset = preset or self.preset
        statuses = self.statuses if preset is None else preset.statuses
        if self.name in OF_THE_LINE:
            return TicketMapping.whaticket(
                found,
                statuses=statuses,
                only_company=self.said["only_company"] or 1,
                timezone=self.zone,
                metadata=MetaData(),
            )
        return self._mapping(found, statuses)

    def _mapping(self, found: Table, statuses: StatusScheme) -> TicketMapping:
        fields: dict[str, Any] = dict(self.said["fields"])
        status = self.said["status"]
        by_null_time = status["kind"] == "null_time"
        if by_null_time:
            fields["status"] = None
        by_column = {name: field for field, name in fields.items() if name is not None}
        computed = self.said.get("on_create_computed") or {}
        new_id = self._new_id(found.columns[fields["id"]], computed)
        return TicketMapping(
            found,
            **fields,
            statuses=statuses,
            status_values=None if by_null_time or _are_words(status["values"]) else status["values"],
            where=WHERE[self.name](found) if self.name in WHERE else None,
            absent={by_column[name]: value for name, value in (self.said.get("none_is") or {}).items()}
            or None,
            on_create=self._on_create(found, computed),
            on_message=self._on_message(found) or None,
            only_company=self.said["only_company"],
            only_connection=self.said["only_connection"],
            new_id=new_id,
            nullable_keys=any(found.columns[fields[f]].nullable for f in _KEY if fields[f] is not None),
            epoch=EPOCH.get(self.name, timedelta(seconds=1)),
            timezone=self.zone,
            metadata=MetaData(),
        )

    @property
    def statuses(self) -> StatusScheme:
        """Its words, as its file says them."""
        said = self.said["status"]
        final = set(said["final"]) - {said["closed"]}
        return StatusScheme(
            active=said["active"],
            initial=said["initial"],
            initial_group=said.get("initial_group"),
            reopened=said["reopened"],
            accepted=said["accepted"],
            closed=said["closed"],
            also_closed=said["also_closed"],
            final=final,
            wakes=said["wakes"],
        )

    @property
    def zone(self) -> tzinfo:
        """The zone of its time columns that keep none."""
        said = self.said.get("time_zone") or "UTC"
        if said.startswith("UTC"):
            return UTC
        return datetime.fromisoformat(f"2026-01-01T00:00:00{said}").tzinfo or UTC

    def _new_id(self, key: Column[Any], computed: Mapping[str, str]) -> Callable[[], Any] | None:
        if key.name not in computed and isinstance(key.type, Integer):
            return None
        return uuid4 if isinstance(key.type, Uuid) else lambda: str(uuid4())

    def _on_create(self, found: Table, computed: Mapping[str, str]) -> Callable[[Create], Mapping[str, Any]]:
        key = self.said["fields"]["id"]
        makers = {
            name: self._maker(found.columns[name], value) for name, value in self.said["on_create"].items()
        }
        makers |= {name: _COMPUTED[how](found.columns[name]) for name, how in computed.items() if name != key}
        # What is written with every message is written with the first one, too.
        others = {*self._on_message(found), *DEFAULTS.get(self.name, {})}
        makers = {name: make for name, make in makers.items() if name not in others}

        def values(create: Create) -> Mapping[str, Any]:
            return {name: make(create) for name, make in makers.items()}

        return values

    def _maker(self, into: Column[Any], value: Any) -> Callable[[Create], Any]:
        if value == "$at":
            return lambda create: self._time(into, create.at)
        if value == "$message_id":
            return lambda create: create.message and create.message.message_id
        if isinstance(value, str) and value.startswith("(") and isinstance(into.type, Integer):
            return _COMPUTED["counter"](into)
        return lambda _: _as_stored(into, value)

    def _on_message(self, found: Table) -> dict[str, Any]:
        said = self.said["on_message"].items()
        by_file = {name: self._written(found.columns[name], value) for name, value in said}
        return by_file if self.name not in WRITTEN else {**by_file, **WRITTEN[self.name](found)}

    def _written(self, into: Column[Any], value: Any) -> Any:
        if value == "$at":
            return lambda _, now: self._time(into, now)
        if value == "$message_id":
            return lambda message, _: message.message_id
        return _as_stored(into, value)

    def _time(self, into: Column[Any], at: datetime) -> Any:
        if isinstance(into.type, Integer):
            return int(at.timestamp() / EPOCH.get(self.name, timedelta(seconds=1)).total_seconds())
        if isinstance(into.type, DateTime) and into.type.timezone:
            return at
        return at.astimezone(self.zone).replace(tzinfo=None)

    # --- the policy and the messages ---------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """What it has chosen: as the preset says that is about it, or its file."""
        return self.own_policy if self.preset is None else self.preset.policy

    def policy_at(self, connection: Connection) -> Policy:
        """Return that, for the agents who are there."""
        policy = self.policy
        if self.name not in MAY_KEEP:
            return policy
        there = frozenset(connection.execute(MAY_KEEP[self.name]).scalars())
        return evolve(policy, reopen=evolve(policy.reopen, keep_user=there))

    @property
    def own_policy(self) -> Policy:
        """What it has chosen, as its file says it."""
        groups = self.said.get("reopen_groups") or (self.said.get("groups") or {}).get("reopen")
        chosen: dict[str, Any] = {
            "scope": Scope(self.said["scope"]),
            "effects": {
                MessageKind(kind): Effect(effect) for kind, effect in self.said.get("effects", {}).items()
            },
        }
        return Policy(
            reopen=_reopen(self.said["reopen"]),
            groups=None if groups is None else Policy(reopen=_reopen(groups), **chosen),
            **chosen,
        )

    def message(self, case: Case, mapping: TicketMapping) -> InboundMessage:
        """Make the message of a case, its ids of the types of the columns."""
        said = dict(case.said["message"])
        for name in ("company_id", "contact_id", "connection_id", "group_id"):
            field = "contact_id" if name == "group_id" else name
            if said.get(name) is not None and field in mapping.columns:
                said[name] = _as_stored(mapping.columns[field], said[name])
        if "sent_at" in said:
            said["sent_at"] = datetime.fromisoformat(said["sent_at"])
        return InboundMessage(**said)


_KEY = ("company_id", "contact_id", "connection_id")


def _counter(into: Column[Any]) -> Callable[[Create], Any]:
    numbers = count(900_001)
    return lambda _: next(numbers) if isinstance(into.type, Integer) else str(next(numbers))


_COMPUTED: Mapping[str, Callable[[Column[Any]], Callable[[Create], Any]]] = {
    "uuid": lambda into: lambda _: _as_stored(into, str(uuid4())),
    "now": lambda _: lambda create: create.at,
    "counter": _counter,
    "contact_id": lambda _: lambda create: create.key.contact_id,
}


def _are_words(values: Mapping[str, Any]) -> bool:
    return all(word == stored for word, stored in values.items())


def _as_stored(into: Column[Any], value: Any) -> Any:
    return UUID(value) if isinstance(into.type, Uuid) and isinstance(value, str) else value


def _reopen(said: Mapping[str, Any]) -> Reopen:
    kept = {"keep_user": said["keep_user"], "keep_queue": said["keep_queue"]}
    match said["kind"]:
        case "never":
            return Reopen.never(**kept)
        case "within":
            return Reopen.within(timedelta(minutes=said["minutes"]), **kept)
        case _:
            return Reopen.always(**kept)
