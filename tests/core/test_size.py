"""How large a class and a function may be: what is larger is read by nobody.

An exception stands here with its reason, and goes when it is needed no more.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import ticketrouter

SOURCE = Path(ticketrouter.__file__).parent
MOST_METHODS = 45
MOST_LINES = 40
"""Of code: a docstring is as long as it must be."""

EXCEPTIONS = {
    "cli/replay/page.py:lanes_spec": "a picture, as one value",
    "cli/replay/page.py:timeline_spec": "a picture, as one value",
    "sqlalchemy/mapping.py:TicketMapping.__init__": "every option of a mapping, each checked",
    "testing/contract.py:TicketRepositoryContract": "what a host's own test class inherits: one method for each promise",
}


_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def _code(function: _Function) -> int:
    """Return of how many lines a function is, without its docstring."""
    told = function.body[:1] if ast.get_docstring(function) is not None else []
    return _lines(function) - sum(map(_lines, told))


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_large(tree: ast.AST, name: str) -> Iterator[str]:
    """Give the names of the classes and functions inside that are larger than they may be."""
    for each in ast.iter_child_nodes(tree):
        named = name
        if isinstance(each, ast.ClassDef | _Function):
            named = f"{name}{':' if name.endswith('.py') else '.'}{each.name}"
            if isinstance(each, ast.ClassDef):
                is_large = sum(isinstance(one, _Function) for one in each.body) > MOST_METHODS
            else:
                is_large = _code(each) > MOST_LINES
            if is_large:
                yield named
        yield from too_large(each, named)


def test_nothing_is_larger_than_one_can_read():
    """No class is a bag, and no function a story; whoever makes an exception smaller strikes it out."""
    files = {file.relative_to(SOURCE).as_posix(): file for file in SOURCE.rglob("*.py")}

    found = {large for name, file in files.items() for large in too_large(ast.parse(file.read_text()), name)}

    assert found == set(EXCEPTIONS)


def test_what_is_too_large_is_seen():
    """A method more, or a line more, is told; a docstring is not counted, nor what stands in another class."""
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(MOST_METHODS))
    lines = "        pass\n" * (MOST_LINES - 1)
    text = f"class Bag:\n{methods}    class Other:\n        def one(self): ...\n"
    story = f'class Book:\n    def story(self):\n        """Once\n        upon.\n        """\n{lines}'

    assert list(too_large(ast.parse(text + story), "a.py")) == []
    assert list(too_large(ast.parse(text + "    def more(self): ...\n"), "a.py")) == ["a.py:Bag"]
    assert list(too_large(ast.parse(story + "        pass\n"), "a.py")) == ["a.py:Book.story"]
