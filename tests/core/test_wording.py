"""Texts that speak of code: what Python users read, said otherwise for whoever has typed options."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import ticketrouter
from ticketrouter.errors import InvalidMessageError
from ticketrouter.sqlalchemy import MappingError, TicketMapping
from ticketrouter.wording import Code, Wording, listed, passing, told

SOURCE = Path(ticketrouter.__file__).parent


def shouted(code: Code) -> str:
    return f"{code.name}/{code.of}".upper()


def test_a_text_is_what_python_users_read_and_can_be_said_otherwise():
    """The code in it, and nothing else, is said anew; a text within a text keeps its own."""
    inner = Wording("or ", passing("b", "None"))
    text = Wording("pass ", passing("a", "{...}", "user_id"), ", ", inner)

    assert text == "pass a={...}, or b=None"
    assert told(text, shouted) == "pass A/USER_ID, or B/"
    assert told("plain a={...}", shouted) == "plain a={...}"
    assert told(listed([passing("a", "1"), passing("b", "2")]), shouted) == "A/, B/"


def test_an_error_keeps_the_code_wherever_it_goes():
    """Raised, copied or sent to another process, an error can still be told in other words."""
    error = MappingError("pass ", passing("a", "1"))

    for each in (error, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert str(each) == "pass a=1"
        assert told(str(each), shouted) == "pass A/"
    assert told(str(InvalidMessageError("epoch", 1, "a timedelta")), shouted).startswith("EPOCH/ must be")


ARGUMENTS = "|".join(
    [*inspect.signature(TicketMapping).parameters, "generated_column", "also_closed", "wakes"]
)
OF_PYTHON = re.compile(rf"\b(?:{ARGUMENTS})=|StatusScheme\(|create_all\(")
"""How a text names an argument."""
ASKED_IN_PYTHON = {
    ("mapping.py", "own"),  # nobody but Python users makes such a mapping
    ("mapping.py", "_check_two_words"),  # a table without a status, which no option says
}


def texts(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """List the texts of a file that are no docstring and no value of a Code, with the function each stands in."""

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Code", "passing"}:
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield function, node.value
        name = node.name if isinstance(node, ast.FunctionDef) else function
        for child in ast.iter_child_nodes(node):
            yield from visit(child, name)

    yield from visit(tree, "")


def test_no_text_of_the_library_has_an_argument_in_it_that_is_no_value():
    """Such a text would tell Python to whoever has typed options; what no options reach is named here."""
    files = [
        file
        for room in ("sqlalchemy", ".")
        for file in (SOURCE / room).glob("**/*.py" if room != "." else "*.py")
    ]
    found = {
        (file.name, function, text)
        for file in files
        if file.name != "presets.py"
        for function, text in texts(ast.parse(file.read_text(encoding="utf-8")))
        if OF_PYTHON.search(text)
    }

    assert {each[:2] for each in found} == ASKED_IN_PYTHON, found
