"""Cases: what a desk or a rule makes of messages, as JSON that a port to any language can run.

Law of this file: nothing is known here of any desk or rule. What a case may say stands in `cases.schema.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import frozen

from ticketrouter import presets
from ticketrouter.choices import Policy, Reopen
from ticketrouter.errors import BlockedBySchemaError
from ticketrouter.model import InboundMessage, Resolution, StatusScheme, Ticket, UniqueRule
from ticketrouter.router import TicketRouter
from ticketrouter.testing.hosts_ids import FIELDS
from ticketrouter.testing.store import Store

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("cases.schema.json").read_text(encoding="utf-8"))
"""The JSON Schema of a file of cases."""
TIMES = ("created_at", "updated_at", "closed_at", "sent_at")


class CaseError(Exception):
    """A file of cases does not say what the schema allows."""


# --- the schema, as far as it uses JSON Schema ---------------------------------------------------------------

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
KEYWORDS = {
    "$schema", "$defs", "$ref", "title", "type", "properties", "required", "additionalProperties", "enum", "items",
    "minItems", "minimum", "pattern", "oneOf",
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Say what of a value the schema does not allow."""
    if unknown := schema.keys() - KEYWORDS:
        raise NotImplementedError(f"keywords of JSON Schema: {sorted(unknown)}")
    if "$ref" in schema:
        yield from faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    if "oneOf" in schema:
        found = [list(faults(value, each, where)) for each in schema["oneOf"]]
        if found.count([]) != 1:
            yield min(found, key=len)[0] if [] not in found else f"{where} is ambiguous"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, none of {schema['enum']}"
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", TYPES)
    if any(TYPES[name](value) for name in types):
        yield from _faults_inside(value, schema, where)
    else:
        yield f"{where} is {value!r}, not of type {' or '.join(types)}"


def _faults_inside(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _faults_of_object(value, schema, where)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{where} has too few entries"
        for index, entry in enumerate(value):
            yield from faults(entry, schema.get("items", {}), f"{where}[{index}]")
    elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where} is {value!r}, which does not match {schema['pattern']}"
    elif isinstance(value, int) and value < schema.get("minimum", value):
        yield f"{where} is {value}, less than {schema['minimum']}"


def _faults_of_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where} has no field {name}"
    for name, entry in value.items():
        if name in known:
            yield from faults(entry, known[name], f"{where}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{where} has an unknown field {name}"


# --- the files -----------------------------------------------------------------------------------------------


@frozen
class Case:
    """One case, with what its file says for all of them.

    Args:
        file: the name of the file.
        name: the name of the case in it.
        policy: what the host has chosen.
        statuses: the host's words, which the store must have.
        unique_rule: what the store must enforce.
        given: the tickets to begin with.
        steps: what happens, and what is expected of it.
    """

    file: str
    name: str
    policy: Policy
    statuses: StatusScheme
    unique_rule: UniqueRule
    given: list[dict[str, Any]]
    steps: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


def cases_of(name: str, text: str) -> list[Case]:
    """Read the text of a file of cases.

    Args:
        name: the name of the file, without its ending.
        text: what it says.

    Returns:
        The cases, in their order.

    Raises:
        CaseError: if it says what the schema does not allow.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise CaseError(f"{name} is no JSON: {error}") from error
    for fault in faults(content, SCHEMA, name):
        raise CaseError(fault)
    preset = content.get("preset")
    if preset not in {None, name}:
        raise CaseError(f"{name}.preset is {preset!r}, another name than the file's")
    found = [_case(name, preset, case) for case in content["cases"]]
    names = [case.name for case in found]
    if twice := {each for each in names if names.count(each) > 1}:
        raise CaseError(f"{name} has cases of the same name: {sorted(twice)}")
    return found


def _case(file: str, preset: str | None, case: dict[str, Any]) -> Case:
    where = f"{file}/{case['name']}"
    if ("policy" in case) is (preset is not None) or ("statuses" in case and preset is not None):
        raise CaseError(f"{where}: a policy and words are either the preset's or the case's own")
    ids = [ticket["id"] for ticket in case["given"]]
    if ids != sorted(set(ids)):
        raise CaseError(f"{where}: the ids of what is given do not ascend")
    return Case(
        file=file,
        name=case["name"],
        policy=_policy(case["policy"]) if preset is None else presets.ALL[preset].policy,
        statuses=StatusScheme(**case.get("statuses", {})) if preset is None else presets.ALL[preset].statuses,
        unique_rule=UniqueRule(case.get("unique_rule", "active_per_connection")),
        given=case["given"],
        steps=case["steps"],
    )


def _policy(chosen: dict[str, Any]) -> Policy:
    kept = {name: chosen["reopen"][name] for name in ("keep_user", "keep_queue")}
    match chosen["reopen"]["window"]:
        case "never":
            reopen = Reopen.never(**kept)
        case "always":
            reopen = Reopen.always(**kept)
        case seconds:
            reopen = Reopen.within(timedelta(seconds=seconds), **kept)
    groups = chosen.get("groups")
    return Policy(
        scope=chosen["scope"],
        reopen=reopen,
        groups=None if groups is None else _policy(groups),
        effects=chosen.get("effects", {}),
        queue_id=chosen.get("queue_id"),
    )


def read_cases(path: Path | str) -> list[Case]:
    """Read a file of cases.

    Args:
        path: the file; that of a preset's cases is named as the preset.

    Returns:
        The cases, in their order.

    Raises:
        CaseError: if it says what the schema does not allow.
    """
    path = Path(path)
    return cases_of(path.stem, path.read_text(encoding="utf-8"))


# --- the runner ----------------------------------------------------------------------------------------------


def as_time(text: str | None) -> datetime | None:
    """Read a time."""
    return None if text is None else datetime.fromisoformat(text)


def as_text(time: datetime) -> str:
    """Write a time."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_values(fields: dict[str, Any]) -> dict[str, Any]:
    """Read the fields of a ticket or a message."""
    return {name: as_time(value) if name in TIMES else value for name, value in fields.items()}


def as_json(ticket: Ticket) -> dict[str, Any]:
    """Write a ticket as `after` has it: without its id."""
    fields = {name: getattr(ticket, name) for name in FIELDS if name != "id"}
    return {name: as_text(value) if isinstance(value, datetime) else value for name, value in fields.items()}


class Run:
    """One case on one store: names for its tickets, and what the store has under each of them."""

    def __init__(self, case: Case, store: Store) -> None:
        self.case = case
        self.store = store
        self.names: dict[Any, Any] = {}
        self.created: int = 0
        for fields in case.given:
            self.names[store.insert(Ticket(**as_values(fields))).id] = fields["id"]

    def rows(self) -> dict[Any, Any]:
        """Return every ticket of the store by its name; one not seen before gets the next name."""
        tickets = self.store.tickets()
        for ticket in tickets:
            if ticket.id not in self.names:
                self.created += 1
                self.names[ticket.id] = "new" if self.created == 1 else f"new{self.created}"
        return {self.names[ticket.id]: as_json(ticket) for ticket in tickets}

    def step(self, step: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Do one step; return what was to come out of it and what did."""
        rows = self.rows()
        expected, after = step["expected"], step["expected"].get("after")
        if after is not None:
            rows |= {expected["ticket"]: after}
        done = self._done(step)
        found = self.rows()
        both = {"answer": expected, "tickets": rows}, {"answer": self._named(done), "tickets": found}
        return self._kept(both[0]), self._kept(both[1])

    def _kept(self, value: Any) -> Any:
        """Leave out what the store does not keep of a ticket, however deep it stands."""
        if not isinstance(value, dict):
            return value
        return {name: self._kept(each) for name, each in value.items() if name not in self.store.lacks}

    def _done(self, step: dict[str, Any]) -> Resolution | Ticket | BlockedBySchemaError:
        now = datetime.fromisoformat(step["now"])
        ids = {name: ticket_id for ticket_id, name in self.names.items()}
        try:
            with self.store.transaction() as repository:
                router = TicketRouter(repository, self.case.policy, clock=lambda: now)
                match step:
                    case {"message": message}:
                        return router.resolve(InboundMessage(**as_values(message)))
                    case {"close": asked}:
                        return router.close(asked["company_id"], ids[asked["ticket"]])
                    case {"reopen": asked}:
                        return router.reopen(asked["company_id"], ids[asked["ticket"]])
                    case {"accept": asked}:
                        return router.accept(asked["company_id"], ids[asked["ticket"]], asked["user_id"])
                    case _:
                        raise NotImplementedError(step)
        except BlockedBySchemaError as error:
            return error

    def _named(self, done: Resolution | Ticket | BlockedBySchemaError) -> dict[str, Any]:
        """Write an answer as `expected` has it."""
        match done:
            case Ticket():
                return {"ticket": self.names.get(done.id), "after": as_json(done)}
            case BlockedBySchemaError():
                row = None if done.ticket is None else self.names.get(done.ticket.id)
                return {"error": type(done).__name__, "ticket": row}
            case Resolution():
                ticket = None if done.outcome == "ignored" else done.ticket
                return {
                    "outcome": done.outcome.value,
                    "reason": done.reason.value,
                    "ticket": None if ticket is None else self.names.get(ticket.id),
                    "other_active": [self.names.get(other.id) for other in done.other_active],
                    "after": None if ticket is None else as_json(ticket),
                }


def run_case(case: Case, store: Store) -> None:
    """Run a case to its end.

    What the store lacks of a ticket is not compared.

    Args:
        case: the case.
        store: an empty store with the words and the unique rule of the case.

    Raises:
        AssertionError: at the first step that comes out otherwise, or changes another ticket.
    """
    running = Run(case, store)
    for step in case.steps:
        expected, actual = running.step(step)

        assert expected == actual
