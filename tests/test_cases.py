"""The cases of `tests/cases`: what each desk and each rule makes of a message, as data that any language can run.

Law of this file: nothing is known here of any desk or rule. What a case may say stands in `cases/schema.json`,
what it means in `cases/README.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen

from tests.backends import BACKENDS, Databases, MemoryStore, SqlStore, Store
from tests.races import set_rule
from ticketrouter import (
    BlockedBySchemaError,
    InboundMessage,
    Policy,
    Reason,
    Reopen,
    Resolution,
    StatusScheme,
    Ticket,
    TicketRouter,
    UniqueRule,
    presets,
)
from ticketrouter.sqlalchemy import TicketMapping

PLACE = Path(__file__).parent / "cases"
SCHEMA: dict[str, Any] = json.loads((PLACE / "schema.json").read_text(encoding="utf-8"))
MEMORY, POSTGRESQL = (backend for backend in BACKENDS if backend.name in {"memory", "psycopg"})
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
    if not any(TYPES[name](value) for name in types):
        yield f"{where} is {value!r}, not of type {' or '.join(types)}"
    elif isinstance(value, dict):
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
    """One case, with what its file says for all of them."""

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
    """Read a file of cases; whatever is wrong in it is an error."""
    content = json.loads(text)
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
    )


def read(name: str) -> str:
    return (PLACE / f"{name}.json").read_text(encoding="utf-8")


FILES = sorted(path.stem for path in PLACE.glob("*.json") if path.stem != "schema")
CASES = [case for name in FILES for case in cases_of(name, read(name))]


# --- the runner ----------------------------------------------------------------------------------------------


def as_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def as_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_values(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: as_time(value) if name in TIMES else value for name, value in fields.items()}


def as_json(ticket: Ticket) -> dict[str, Any]:
    """Write a ticket as `after` has it: without its id."""
    fields = attrs.asdict(ticket, filter=lambda field, _: field.name not in {"id", "change"})
    return {name: as_text(value) if isinstance(value, datetime) else value for name, value in fields.items()}


class Run:
    """One case on one store: names for its tickets, and what the store has under each of them."""

    def __init__(self, case: Case, store: Store) -> None:
        self.case = case
        self.store = store
        self.names: dict[Any, Any] = {}
        self.created = 0
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
        return {"answer": expected, "tickets": rows}, {"answer": self._named(done), "tickets": found}

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
                return {"error": type(done).__name__, "ticket": self.names.get(done.ticket.id)}
            case Resolution():
                ticket = None if done.outcome == "ignored" else done.ticket
                return {
                    "outcome": done.outcome.value,
                    "reason": done.reason.value,
                    "ticket": None if ticket is None else self.names.get(ticket.id),
                    "other_active": [self.names.get(other.id) for other in done.other_active],
                    "after": None if ticket is None else as_json(ticket),
                }


def run(case: Case, store: Store) -> None:
    """Run a case to its end, or to the first step that comes out otherwise."""
    running = Run(case, store)
    for step in case.steps:
        expected, actual = running.step(step)

        assert expected == actual


def in_memory(case: Case) -> Store:
    return MemoryStore(MEMORY, statuses=case.statuses, unique_rule=case.unique_rule)


@pytest.fixture(scope="module")
def desks(databases: Databases) -> Iterator[Callable[[Case], SqlStore]]:
    """A PostgreSQL database, in which every choice of words and unique rule gets tables of its own."""
    opened: dict[tuple[StatusScheme, UniqueRule], SqlStore] = {}
    url = databases.new("postgresql")

    def desk(case: Case) -> SqlStore:
        choice = case.statuses, case.unique_rule
        if choice not in opened:
            mapping = TicketMapping.own(statuses=case.statuses, prefix=f"desk{len(opened)}_")
            store = opened[choice] = SqlStore(POSTGRESQL, url, mapping)
            mapping.metadata.create_all(store.engine)
            with store.engine.begin() as connection:
                set_rule(connection, mapping, case.unique_rule)
        return opened[choice]

    yield desk
    for store in opened.values():
        store.dispose()
    databases.drop(url)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_in_memory(case):
    """Every step comes out as the case says."""
    run(case, in_memory(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_on_postgresql(case, desks):
    """Every step comes out as the case says, on the tables of a database that enforces the unique rule."""
    store = desks(case)
    try:
        run(case, store)
        store.assert_no_leak()
    finally:
        store.empty()


# --- the files as a whole ------------------------------------------------------------------------------------


def test_every_preset_has_a_file_and_every_file_a_preset():
    """Beside them stands the file of the rules."""
    assert {*presets.ALL, "decide"} == set(FILES)


def test_a_file_of_a_preset_is_about_it():
    """The file says the preset's name; the file of the rules says none."""
    said = {name: json.loads(read(name)).get("preset") for name in FILES}

    assert {**{name: name for name in presets.ALL}, "decide": None} == said


@pytest.mark.parametrize("preset", presets.ALL.values(), ids=presets.ALL)
def test_every_active_word_of_a_desk_is_joined_in_a_case(preset):
    """None is left out, and no other one is joined."""
    joined = {
        row["status"]
        for case in CASES
        for row in case.given
        if case.file == preset.name
        and case.steps[0]["expected"].get("outcome") == "reused"
        and case.steps[0]["expected"]["ticket"] == row["id"]
    }

    assert preset.statuses.active == joined


def test_the_cases_of_the_rules_have_every_reason_and_every_unique_rule():
    """Nothing that a message can be told is without a case."""
    cases = [case for case in CASES if case.file == "decide"]
    answers = [step["expected"] for case in cases for step in case.steps]

    assert {*Reason} - {Reason.REQUESTED} == {each["reason"] for each in answers if "reason" in each}
    assert {"BlockedBySchemaError"} == {each["error"] for each in answers if "error" in each}
    assert {*UniqueRule} == {case.unique_rule for case in cases}


# --- the runner can fail -------------------------------------------------------------------------------------

SAMPLE = next(
    case for case in CASES if str(case) == "chatwoot-single/active-here-comes-before-newer-elsewhere"
)
WRONG: dict[str, Any] = {
    "outcome": "created",
    "reason": "active_for_contact",
    "ticket": 2,
    "other_active": [],
    "company_id": 2,
    "contact_id": "10",
    "connection_id": 101,
    "status": "snoozed",
    "is_group": True,
    "unread_messages": 2,
    "user_id": None,
    "queue_id": 5,
    "created_at": "2026-03-01T12:00:00.000Z",
    "updated_at": "2026-03-01T12:00:00.001Z",
    "closed_at": "2026-03-01T12:00:00.000Z",
}


def changed(case: Case, **changes: Any) -> Case:
    """Return the case with another first expectation."""
    expected = case.steps[0]["expected"]
    outer = {name: value for name, value in changes.items() if name in expected}
    inner = {name: value for name, value in changes.items() if name in (expected["after"] or {})}
    after = expected["after"] and expected["after"] | inner
    return attrs.evolve(case, steps=[case.steps[0] | {"expected": expected | {"after": after} | outer}])


def test_a_wrong_expectation_may_be_about_any_field():
    """The table of wrong values has one for each field of an answer."""
    expected = SAMPLE.steps[0]["expected"]

    assert {*expected, *expected["after"]} - {"after"} == set(WRONG)


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_expectation_is_reported(field):
    """Each field of an answer is compared."""
    case = changed(SAMPLE, **{field: WRONG[field]})

    with pytest.raises(AssertionError):
        run(case, in_memory(case))


class Meddler(MemoryStore):
    """A store in which something else happens at every message."""

    def __init__(self, case: Case, meddle: Callable[[MemoryStore], object]) -> None:
        super().__init__(MEMORY, statuses=case.statuses, unique_rule=case.unique_rule)
        self._meddle = meddle

    def transaction(self) -> Any:
        self._meddle(self)
        return super().transaction()


@pytest.mark.parametrize(
    ("name", "meddle"),
    [
        ("active-in-another-company", lambda store: store.close_behind(store.tickets()[0])),
        ("open-is-joined", lambda store: store.insert(attrs.evolve(store.tickets()[0], contact_id=77))),
    ],
    ids=["changed", "created"],
)
def test_what_happens_to_another_ticket_is_reported(name, meddle):
    """A right answer is not enough: nothing else may have changed."""
    case = next(case for case in CASES if str(case) == f"chatwoot-single/{name}")
    expected, actual = Run(case, Meddler(case, meddle)).step(case.steps[0])

    assert expected["answer"] == actual["answer"]
    assert expected["tickets"] != actual["tickets"]


def test_a_missing_refusal_is_reported():
    """An answer where the case says an error is a failure."""
    refused = {"error": "BlockedBySchemaError", "ticket": 1}
    case = attrs.evolve(SAMPLE, steps=[SAMPLE.steps[0] | {"expected": refused}])

    with pytest.raises(AssertionError):
        run(case, in_memory(case))


def test_a_refusal_is_reported_where_an_answer_is_expected():
    """An error where the case says an answer is a failure."""
    blocked = next(case for case in CASES if str(case) == "decide/6-closed-elsewhere-blocks")
    case = attrs.evolve(blocked, steps=[blocked.steps[0] | {"expected": SAMPLE.steps[0]["expected"]}])

    with pytest.raises(AssertionError):
        run(case, in_memory(case))


# --- a file that says something else is an error -------------------------------------------------------------


def a_file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read("default"))
    return content | {"cases": content["cases"][:1]}


def first_case(content: dict[str, Any]) -> dict[str, Any]:
    case: dict[str, Any] = content["cases"][0]
    return case


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "file": lambda content: content,
    "case": first_case,
    "ticket": lambda content: first_case(content)["given"][0],
    "step": lambda content: first_case(content)["steps"][0],
    "message": lambda content: first_case(content)["steps"][0]["message"],
    "answer": lambda content: first_case(content)["steps"][0]["expected"],
    "after": lambda content: first_case(content)["steps"][0]["expected"]["after"],
}


@pytest.mark.parametrize("part", PARTS)
def test_an_unknown_field_is_an_error(part):
    """In whatever part of a file it stands."""
    content = a_file()
    PARTS[part](content)["unraed"] = 1

    with pytest.raises(CaseError, match="unknown field unraed"):
        cases_of("default", json.dumps(content))


def test_every_object_of_the_schema_refuses_unknown_fields():
    """There is no part of a file in which a misspelt field would pass."""

    def objects(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for part in schema.values():
                yield from objects(part)

    found = list(objects(SCHEMA))

    assert len(found) > len(PARTS)
    assert [False] * len(found) == [each.get("additionalProperties") for each in found]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_field_is_an_error(part):
    """Of every part the first field that may not be left out."""
    content = a_file()
    missing = {"file": "about", "case": "why", "step": "now", "answer": "reason"}.get(part, "contact_id")
    del PARTS[part](content)[missing]

    with pytest.raises(CaseError, match=f"no field {missing}"):
        cases_of("default", json.dumps(content))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("ticket", "updated_at", "2026-03-01T12:00:00Z"),
        ("ticket", "user_id", True),
        ("ticket", "unread_messages", -1),
        ("ticket", "unread_messages", "2"),
        ("message", "kind", "reaction"),
        ("answer", "outcome", "opened"),
        ("answer", "ticket", "new1"),
        ("case", "name", "Two Words"),
        ("case", "steps", []),
    ],
)
def test_a_wrong_value_is_an_error(part, field, value):
    """Before any case is run."""
    content = a_file()
    PARTS[part](content)[field] = value

    with pytest.raises(CaseError, match=field):
        cases_of("default", json.dumps(content))


def test_a_step_is_one_thing():
    """A message and a closing are two steps."""
    content = a_file()
    PARTS["step"](content)["close"] = {"company_id": 1, "ticket": 1}

    with pytest.raises(CaseError, match="unknown field"):
        cases_of("default", json.dumps(content))


def test_two_cases_of_one_name_are_an_error():
    """A failure must say which case it is."""
    content = a_file()
    content["cases"] *= 2

    with pytest.raises(CaseError, match="the same name"):
        cases_of("default", json.dumps(content))


def test_a_file_under_another_name_than_its_preset_is_an_error():
    """The name of the file is the preset's."""
    with pytest.raises(CaseError, match="another name"):
        cases_of("ticketz", json.dumps(a_file()))


def test_a_policy_beside_a_preset_is_an_error():
    """A preset's case has the preset's policy."""
    content = a_file()
    PARTS["case"](content)["policy"] = {
        "scope": "contact",
        "reopen": {"window": "never", "keep_user": False, "keep_queue": True},
    }

    with pytest.raises(CaseError, match="either the preset's or the case's own"):
        cases_of("default", json.dumps(content))


def test_ids_that_do_not_ascend_are_an_error():
    """Ties go to the highest id, so the order of what is given counts."""
    content = a_file()
    PARTS["case"](content)["given"] *= 2

    with pytest.raises(CaseError, match="ascend"):
        cases_of("default", json.dumps(content))
