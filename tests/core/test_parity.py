"""The two routers are one: their syntax trees are equal but for async and await."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path
from types import ModuleType

import pytest

from ticketrouter import memory, repository, router

PAIR = ("TicketRouter", "AsyncTicketRouter")
PORTS = ("TicketRepository", "AsyncTicketRepository")
MEMORIES = ("InMemoryTicketRepository", "AsyncInMemoryTicketRepository")


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


class _WithoutAsync(ast.NodeTransformer):
    """Takes away `async`, `await`, `Awaitable[...]` and the `Async` that begins a name."""

    def visit_AsyncFunctionDef(self, node):
        fields = {name: value for name, value in ast.iter_fields(node) if name != "type_comment"}
        return self.visit(ast.FunctionDef(**fields))

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_Subscript(self, node):
        if isinstance(node.value, ast.Name) and node.value.id == "Awaitable":
            return self.visit(node.slice)
        return self.generic_visit(node)

    def visit_comprehension(self, node):
        node.is_async = 0
        return self.generic_visit(node)

    def visit_Name(self, node):
        return ast.Name(node.id.removeprefix("Async"), node.ctx)

    def visit_ClassDef(self, node):
        node.name = node.name.removeprefix("Async")
        return self.generic_visit(node)


def _class(source: str, name: str) -> ast.ClassDef:
    found = [each for each in ast.parse(source).body if isinstance(each, ast.ClassDef) and each.name == name]
    assert len(found) == 1, f"no class {name}"
    return found[0]


def _tree(source: str, name: str) -> list[str]:
    plain = ast.fix_missing_locations(_WithoutAsync().visit(_class(source, name)))
    return ast.dump(plain, indent=1).splitlines()


def differences(source: str, pair: tuple[str, str] = PAIR) -> list[str]:
    """Return what is left of two classes' differences when async and await are gone."""
    one, other = (_tree(source, name) for name in pair)
    return list(difflib.unified_diff(one, other, *pair, lineterm="", n=0))


def signatures(source: str, name: str) -> list[str]:
    """Return the public methods of a class as they are called."""
    plain = _WithoutAsync().visit(_class(source, name))
    methods = [each for each in plain.body if isinstance(each, ast.FunctionDef)]
    public = [each for each in methods if not each.name.startswith("_") or each.name == "__init__"]
    return [
        f"{each.name}({ast.unparse(each.args)}) -> {each.returns and ast.unparse(each.returns)}"
        for each in public
    ]


def test_the_two_routers_differ_in_async_and_await_only():
    """Statements, arguments, defaults and docstrings are the same, in the same order."""
    assert differences(_source(router)) == []


def test_both_routers_were_compared():
    """The comparison has seen every method of the public API, and the asynchronous ones are asynchronous."""
    source = _source(router)
    sync, asynchronous = (_class(source, name) for name in PAIR)
    methods = [each.name for each in sync.body if isinstance(each, ast.FunctionDef)]

    waiting = [each.name for each in asynchronous.body if isinstance(each, ast.AsyncFunctionDef)]

    assert [name for name in methods if name != "__init__"] == waiting
    assert {
        "resolve", "resolve_many", "find_active", "active_tickets", "ensure_can_open", "open", "accept", "close",
        "reopen", "transfer",
    } <= set(waiting)  # fmt: skip


def _changed(old: str, new: str) -> str:
    """Return the routers' source with one difference in the second of them."""
    before, mark, after = _source(router).partition("class AsyncTicketRouter")
    assert after.count(old) >= 1
    return before + mark + after.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("overtaken=lost is not None", "overtaken=lost is None", id="an operator"),
        pytest.param("attempts: int = 8", "attempts: int = 9", id="a default"),
        pytest.param("Find the ticket of a message.", "Find the tickets of a message.", id="a docstring"),
        pytest.param("raise ContentionError(", "raise ConflictError(", id="an error"),
        pytest.param('        checks.check_id("user_id", user_id)\n', "", id="a statement that is missing"),
        pytest.param("self, key: TicketKey, *,", "self, key: TicketKey,", id="an argument by position"),
        pytest.param("async def find_active", "async def find", id="a name"),
        pytest.param(
            "    async def _load",
            "    async def more(self) -> None: ...\n\n    async def _load",
            id="a method",
        ),
        pytest.param("-> list[Ticket]:", "-> tuple[Ticket]:", id="a type"),
    ],
)
def test_a_single_difference_is_found(old, new):
    """The comparison is able to fail."""
    assert differences(_changed(old, new)) != []


@pytest.mark.parametrize(
    ("sync", "asynchronous", "same"),
    [
        ("def f(self): return self.g()", "async def f(self): return await self.g()", True),
        ("def f(self) -> Port: ...", "async def f(self) -> AsyncPort: ...", True),
        ("def f(self, g: C[[], int]): ...", "def f(self, g: C[[], Awaitable[int]]): ...", True),
        ("def f(self): return [x for x in g()]", "async def f(self): return [x async for x in g()]", True),
        ("def f(self): return self.g()", "async def f(self): return await self.h()", False),
        ("def f(self, g: C[[], int]): ...", "def f(self, g: C[[], Awaitable[str]]): ...", False),
    ],
    ids=["await", "name", "awaitable", "async for", "another call", "another type"],
)
def test_what_async_and_await_are(sync, asynchronous, same):
    """Only the words of asynchronous code are taken away."""
    source = f"class One:\n    {sync}\n\n\nclass AsyncOne:\n    {asynchronous}\n"

    assert same is (differences(source, ("One", "AsyncOne")) == [])


@pytest.mark.parametrize(
    ("module", "pair"), [(repository, PORTS), (memory, MEMORIES)], ids=["port", "memory"]
)
def test_the_twins_are_called_alike(module, pair):
    """The two ports, and the two memories, have the same methods with the same arguments."""
    one, other = (signatures(_source(module), name) for name in pair)

    assert one == other
    assert len(one) >= 4
