"""The cases of `tests/cases`, run by the kit on memory and on PostgreSQL; and the runner's own tests.

Law of this file: what each desk and each rule makes of a message stands in the cases, not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tests.support.backends import BACKENDS, Databases, SqlStore
from tests.support.memory_store import MemoryStore
from tests.support.races import set_rule
from ticketrouter import Effect, Policy, Reason, Scope, StatusScheme, Ticket, UniqueRule, presets
from ticketrouter.presets import Preset
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.testing import Case, CaseError, Store, cases_of, read_cases, run_case
from ticketrouter.testing.cases import SCHEMA, Run

PLACE = Path(__file__).parents[1] / "cases"
[POSTGRESQL] = [backend for backend in BACKENDS if backend.name == "psycopg"]
FILES = sorted(path.stem for path in PLACE.glob("*.json"))
CASES = [case for name in FILES for case in read_cases(PLACE / f"{name}.json")]


def read(name: str) -> str:
    return (PLACE / f"{name}.json").read_text(encoding="utf-8")


def in_memory(case: Case) -> Store:
    return MemoryStore(statuses=case.statuses, unique_rule=case.unique_rule)


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
    run_case(case, in_memory(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_on_postgresql(case, desks):
    """Every step comes out as the case says, on the tables of a database that enforces the unique rule."""
    store = desks(case)
    try:
        run_case(case, store)
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


def first_answers(preset: Preset, word: str, kind: str = "message") -> set[str | None]:
    """Return what became of tickets that had the word when the first message came, of this kind."""
    return {
        case.steps[0]["expected"]["after"]["status"] if case.steps[0]["expected"].get("after") else None
        for case in CASES
        if case.file == preset.name
        and [row["status"] for row in case.given] == [word]
        and case.steps[0].get("message", {}).get("kind", "message") == kind
        and case.steps[0]["expected"]["ticket"] == 1
    }


WAKING = [(preset, *pair) for preset in presets.ALL.values() for pair in preset.statuses.wakes.items()]
FINAL = [(preset, word) for preset in presets.ALL.values() for word in sorted(preset.statuses.final)]


@pytest.mark.parametrize(("preset", "word", "woken"), WAKING, ids=lambda each: getattr(each, "name", each))
def test_every_waking_word_of_a_desk_is_woken_in_a_case(preset, word, woken):
    """By the contact; neither by the company nor by a notice."""
    found = [first_answers(preset, word, kind) for kind in ("message", "echo", "notice")]

    assert [{woken}, {word}, {word}] == found


@pytest.mark.parametrize(("preset", "word"), FINAL, ids=lambda each: getattr(each, "name", each))
def test_every_final_word_of_a_desk_is_left_alone_in_a_case(preset, word):
    """Where there is room for another ticket, and where there is none: no message is answered with it."""
    given = [case for case in CASES if case.file == preset.name and word in [r["status"] for r in case.given]]
    rows = {(case.unique_rule, row["is_group"]) for case in given for row in case.given}

    assert first_answers(preset, word) == {None}
    assert rows >= {
        (UniqueRule.ACTIVE_PER_CONNECTION, False),
        (UniqueRule.ACTIVE_PER_CONNECTION, True),
        (UniqueRule.ONE_PER_CONNECTION, False),
    }


@pytest.mark.parametrize("preset", presets.ALL.values(), ids=presets.ALL)
def test_every_desk_has_cases_of_what_the_company_writes_itself(preset):
    """With a ticket that is active, with one just closed, with none; in person and in a group."""
    steps = [(case.given, case.steps[0]) for case in CASES if case.file == preset.name]
    own = [
        ([row["status"] in preset.statuses.active for row in given], "group_id" in step["message"])
        for given, step in steps
        if step.get("message", {}).get("kind") == "echo"
    ]

    assert all(each in own for each in (([True], False), ([False], False), ([False], True)))


# --- the cases can fail: each choice of a preset is held by one of them ----------------------------------------


def _a_little_off(window: timedelta | None) -> tuple[timedelta, ...]:
    """Return windows next to one that ends; the times of a case have milliseconds."""
    tick = timedelta(milliseconds=1)
    return () if window in {None, timedelta.max} else (window - tick, window + tick)


def other_policies(policy: Policy) -> Iterator[tuple[str, Policy]]:
    """Change one choice of a policy at a time."""
    reopen = policy.reopen
    yield "scope", evolve(policy, scope=Scope.CONTACT)
    yield "queue", evolve(policy, queue_id=7)
    yield "keep_user", evolve(policy, reopen=evolve(reopen, keep_user=not reopen.keep_user))
    yield "keep_queue", evolve(policy, reopen=evolve(reopen, keep_queue=not reopen.keep_queue))
    for window in {None, timedelta.max, *_a_little_off(reopen.window)} - {reopen.window}:
        yield f"window {window}", evolve(policy, reopen=evolve(reopen, window=window))
    for kind, effect in policy.effects.items():
        other = Effect.ATTACH if effect is Effect.OPEN else Effect.OPEN
        yield f"{kind} {other}s", evolve(policy, effects={**policy.effects, kind: other})


def other_words(scheme: StatusScheme) -> Iterator[tuple[str, StatusScheme]]:
    """Change one word at a time, where a scheme is left."""
    for word in scheme.wakes:
        yield f"{word} sleeps on", evolve(scheme, wakes={w: v for w, v in scheme.wakes.items() if w != word})
    for word in scheme.active - {scheme.initial, scheme.reopened, scheme.accepted, scheme.initial_group}:
        if word not in scheme.wakes:
            yield f"{word} is closed", evolve(scheme, active=scheme.active - {word}, also_closed={word})
    for word in scheme.final:
        left = scheme.final - {word}
        yield f"{word} is closed", evolve(scheme, final=left, also_closed={word})
        yield f"{word} is active", evolve(scheme, final=left, active=scheme.active | {word})
    for name in ("initial", "initial_group", "reopened", "accepted"):
        changes: dict[str, Any] = {name: "another", "active": scheme.active | {"another"}}
        yield name, evolve(scheme, **changes)
    yield "closed", evolve(scheme, closed="another", also_closed={scheme.closed})


def others(preset: Preset) -> Iterator[tuple[str, Policy, StatusScheme]]:
    """Change one thing of a preset at a time."""
    policy, statuses = preset.policy, preset.statuses
    groups = policy.groups or evolve(policy, groups=None)
    for what, other in other_policies(policy):
        yield f"policy: {what}", evolve(other, groups=groups), statuses
    for what, other in other_policies(groups):
        yield f"groups: {what}", evolve(policy, groups=other), statuses
    for what, scheme in other_words(statuses):
        yield f"words: {what}", policy, scheme


OTHERS = [(preset, *other) for preset in presets.ALL.values() for other in others(preset)]


def goes_wrong(case: Case) -> bool:
    try:
        run_case(case, in_memory(case))
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    ("preset", "what", "policy", "statuses"),
    OTHERS,
    ids=[f"{preset.name}-{what}" for preset, what, *_ in OTHERS],
)
def test_a_preset_that_decides_otherwise_fails_a_case(preset, what, policy, statuses):
    """Whichever one thing of it is changed: nothing of a preset is held by no case."""
    cases = [evolve(case, policy=policy, statuses=statuses) for case in CASES if case.file == preset.name]

    assert any(goes_wrong(case) for case in cases), what


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
    return evolve(case, steps=[case.steps[0] | {"expected": expected | {"after": after} | outer}])


def test_a_wrong_expectation_may_be_about_any_field():
    """The table of wrong values has one for each field of an answer."""
    expected = SAMPLE.steps[0]["expected"]

    assert {*expected, *expected["after"]} - {"after"} == set(WRONG)


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_expectation_is_reported(field):
    """Each field of an answer is compared."""
    case = changed(SAMPLE, **{field: WRONG[field]})

    with pytest.raises(AssertionError):
        run_case(case, in_memory(case))


@pytest.mark.parametrize("field", sorted(SAMPLE.steps[0]["expected"]["after"]))
def test_what_a_store_does_not_keep_is_not_compared(field):
    """A table without the column holds the rest of the case; without another one, the fault is found."""
    case = changed(SAMPLE, **{field: WRONG[field]})
    store, other = in_memory(case), in_memory(case)
    store.lacks = frozenset({field})
    other.lacks = frozenset({"queue_id", "user_id"} - {field})

    run_case(case, store)
    with pytest.raises(AssertionError):
        run_case(case, other)


def closed(ticket: Ticket) -> Ticket:
    return evolve(ticket, status="closed")


class Meddler(MemoryStore):
    """A store in which something else happens at every message."""

    def __init__(self, case: Case, meddle: Callable[[MemoryStore], object]) -> None:
        super().__init__(statuses=case.statuses, unique_rule=case.unique_rule)
        self._meddle = meddle

    def transaction(self) -> Any:
        self._meddle(self)
        return super().transaction()


@pytest.mark.parametrize(
    ("name", "meddle"),
    [
        ("active-in-another-company", lambda store: store.overwrite(closed(store.tickets()[0]))),
        ("open-is-joined", lambda store: store.insert(evolve(store.tickets()[0], contact_id=77))),
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
    case = evolve(SAMPLE, steps=[SAMPLE.steps[0] | {"expected": refused}])

    with pytest.raises(AssertionError):
        run_case(case, in_memory(case))


def test_a_refusal_is_reported_where_an_answer_is_expected():
    """An error where the case says an answer is a failure."""
    blocked = next(case for case in CASES if str(case) == "decide/6-closed-elsewhere-blocks")
    case = evolve(blocked, steps=[blocked.steps[0] | {"expected": SAMPLE.steps[0]["expected"]}])

    with pytest.raises(AssertionError):
        run_case(case, in_memory(case))


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


ALLOWED = (False, {"type": "string"})
"""Which further fields an object may have: none, or where it is a mapping of words, any word."""


def test_every_object_of_the_schema_refuses_unknown_fields():
    """There is no part of a file in which a misspelt field would pass; what a word may be, the scheme says."""

    def objects(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for part in schema.values():
                yield from objects(part)

    found = list(objects(SCHEMA))

    assert len(found) > len(PARTS)
    assert [] == [each for each in found if each.get("additionalProperties") not in ALLOWED]


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


def test_what_is_no_json_is_an_error():
    """The error names the file."""
    with pytest.raises(CaseError, match="default is no JSON"):
        cases_of("default", "{")


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
