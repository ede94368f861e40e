"""The two routers are one: what a call does stands in `ticketrouter.flows`, and both are called alike."""

from __future__ import annotations

import ast
import asyncio
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.samples import KEY, NOW, a_message
from ticketrouter import (
    AsyncTicketRouter,
    ConflictError,
    ContentionError,
    InvalidMessageError,
    TicketRouter,
    memory,
    repository,
    router,
)
from ticketrouter.choices import Policy
from ticketrouter.decisions import Lookup, Snapshot, Write
from ticketrouter.flows import Flow, Operations, adrive, drive
from ticketrouter.memory import AsyncInMemoryTicketRepository, InMemoryTicketRepository
from ticketrouter.model import Ticket

ROUTERS = ("TicketRouter", "AsyncTicketRouter")
MEMORIES = ("InMemoryTicketRepository", "AsyncInMemoryTicketRepository")
PORTS = [
    (f"{name}", f"Async{name}")
    for name in ("TicketRepository", "Batches", "ForgetsMessages", "MovesTickets", "TellsRefusals")
]


def _methods(source: str, name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    [found] = [
        each for each in ast.parse(source).body if isinstance(each, ast.ClassDef) and each.name == name
    ]
    methods = [each for each in found.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [each for each in methods if not each.name.startswith("_") or each.name == "__init__"]


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def signatures(source: str, name: str) -> list[str]:
    """Return the public methods of a class as they are called."""
    return [
        f"{each.name}({ast.unparse(each.args)}) -> {each.returns and ast.unparse(each.returns)}".replace(
            "Async", ""
        )
        for each in _methods(source, name)
    ]


@pytest.mark.parametrize(
    ("module", "pair"),
    [(router, ROUTERS), (memory, MEMORIES), *((repository, pair) for pair in PORTS)],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_the_twins_are_called_alike(module: ModuleType, pair: tuple[str, str]):
    """The same methods in the same order, with the same arguments, defaults and results."""
    one, other = (signatures(_source(module), name) for name in pair)

    assert one == other
    assert one


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("attempts: int = 8", "attempts: int = 9", id="a default"),
        pytest.param("self, key: TicketKey, *,", "self, key: TicketKey,", id="an argument by position"),
        pytest.param("async def find_active", "async def find", id="a name"),
        pytest.param("-> list[Ticket]:", "-> tuple[Ticket]:", id="a type"),
    ],
)
def test_a_single_difference_is_found(old: str, new: str):
    """The comparison is able to fail."""
    before, mark, after = _source(router).partition("class AsyncTicketRouter")
    assert old in after

    assert signatures(before + mark + after, ROUTERS[0]) != signatures(
        before + mark + after.replace(old, new, 1), ROUTERS[1]
    )


def test_every_method_of_a_face_is_a_call():
    """Both faces drive the same operation with the same arguments; the asynchronous one awaits it, and says no more."""
    sync, asynchronous = (_methods(_source(router), name)[1:] for name in ROUTERS)

    assert all(isinstance(each, ast.AsyncFunctionDef) for each in asynchronous)
    for one, other in zip(sync, asynchronous, strict=True):
        body = [ast.unparse(each) for each in other.body[1:]]
        assert [ast.unparse(each) for each in one.body[1:]] == [
            line.replace("await adrive(", "drive(") for line in body
        ]
        assert body[-1].startswith("return await adrive(self._operations.")
        assert f"See `TicketRouter.{one.name}`." == ast.get_docstring(other)


# --- who asks --------------------------------------------------------------------------------------------------


class Broken(InMemoryTicketRepository):
    """What it is asked, it cannot answer."""

    def load(self, lookup: Lookup) -> Snapshot:
        raise OSError("the disk is full")

    def get(self, *_: Any, **__: Any) -> Ticket | None:
        raise OSError("the disk is full")

    load_many = survey_move = get  # type: ignore[assignment]


class AsyncBroken(AsyncInMemoryTicketRepository):
    """The same for asynchronous code."""

    async def load(self, lookup: Lookup) -> Snapshot:
        raise OSError("the disk is full")

    async def get(self, *_: Any, **__: Any) -> Ticket | None:
        raise OSError("the disk is full")

    load_many = survey_move = get  # type: ignore[assignment]


CALLS: dict[str, tuple[Any, ...]] = {
    "resolve": (a_message(),),
    "resolve_many": ([a_message(), a_message()],),
    "explain": (a_message(),),
    "find_active": (KEY,),
    "active_tickets": (1, 10),
    "ensure_can_open": (KEY,),
    "open": (KEY,),
    "accept": (1, 7, 5),
    "close": (1, 7),
    "reopen": (1, 7),
    "transfer": (1, 7, 200),
    "plan_merge_contacts": (1, 10, 11),
    "merge_contacts": (1, 10, 11),
    "plan_move_connection": (1, 100, 200),
    "move_connection": (1, 100, 200),
}


def between(error: BaseException) -> list[str]:
    """Return the functions of ours between the line that called and the store that has raised."""
    names = [f"{Path(each.filename).name}:{each.name}" for each in traceback.extract_tb(error.__traceback__)]
    last = max(place for place, name in enumerate(names) if name.startswith("test_faces.py"))
    first = max(
        place for place, name in enumerate(names[:last]) if name.startswith(("test_faces.py", "runners.py"))
    )
    return names[first + 1 : last]


def test_every_call_is_tried_here():
    """No method of the routers is left out."""
    assert list(CALLS) == [each.name for each in _methods(_source(router), ROUTERS[0])[1:]]


@pytest.mark.parametrize("call", CALLS)
def test_at_most_three_lines_of_ours_lead_from_a_caller_to_its_store(call: str):
    """What a store raises is easy to read, whichever operation has asked."""
    with pytest.raises(OSError, match="disk is full") as caught:
        getattr(TicketRouter(Broken()), call)(*CALLS[call])

    assert [f"router.py:{call}", "flows.py:drive"] == between(caught.value)


@pytest.mark.parametrize("call", CALLS)
def test_at_most_three_lines_of_ours_lead_from_asynchronous_code_to_its_store(call: str):
    """The same where it is awaited."""

    async def main() -> None:
        await getattr(AsyncTicketRouter(AsyncBroken()), call)(*CALLS[call])

    with pytest.raises(OSError, match="disk is full") as caught:
        asyncio.run(main())

    assert [f"router.py:{call}", "flows.py:adrive"] == between(caught.value)


@pytest.mark.parametrize("face", [TicketRouter, AsyncTicketRouter])
def test_what_is_no_repository_is_refused(face: Any):
    """Before anything is asked."""
    with pytest.raises(InvalidMessageError, match=r"^repository must be of type \w+, not "):
        face(object())


def test_a_lost_race_is_told_as_the_cause():
    """Who gives up says what it was that was lost last."""

    class Loses(InMemoryTicketRepository):
        def commit(self, decision: Write) -> Ticket:
            raise ConflictError("somebody was faster")

    with pytest.raises(ContentionError, match="2 lost races") as caught:
        TicketRouter(Loses(), attempts=2).resolve(a_message())

    assert "somebody was faster" == str(caught.value.__cause__)


def test_an_operation_asks_one_question_after_another():
    """It goes no further than to its next question, so that any loop can put them."""
    operations = Operations(InMemoryTicketRepository(), Policy(), lambda: NOW, 8)
    flow: Flow[Any] = operations.resolve(a_message())
    store = InMemoryTicketRepository()
    found = flow.send(None)(store)
    assert Snapshot() == found
    ticket = flow.send(found)(store)
    with pytest.raises(StopIteration) as end:
        flow.send(ticket)

    assert ticket == end.value.value.ticket
    assert [ticket] == store.tickets


def test_what_a_store_raises_at_its_end_is_no_answer():
    """A StopIteration of the store's is an error like any other."""

    class Stops(InMemoryTicketRepository):
        def load(self, lookup: Lookup) -> Snapshot:
            raise StopIteration(7)

    operations = Operations(Stops(), Policy(), lambda: NOW, 8)
    with pytest.raises(StopIteration):
        drive(operations.find_active(KEY), Stops())


def test_both_drivers_return_what_the_operation_does():
    """The same operation, over a store of either kind."""
    one, other = InMemoryTicketRepository(), AsyncInMemoryTicketRepository()
    flows = [Operations(each, Policy(), lambda: NOW, 8).open(KEY, is_group=False, user_id=None, queue_id=None)
             for each in (one, other)]  # fmt: skip

    assert drive(flows[0], one) == asyncio.run(adrive(flows[1], other))
    assert one.tickets == other.tickets
