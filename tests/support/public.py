"""What is public: the names in the `__all__` of a module, and nothing else.

Law of this file: it reads sources and imports nothing, so that it can read another version, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def public(sources: Path = ROOT / "src") -> Mapping[str, frozenset[str]]:
    """Return the public names of each module that has any."""
    files = sorted((sources / "ticketrouter").rglob("*.py"))
    found = {_module(path.relative_to(sources)): frozenset(_listed(path)) for path in files}
    return {module: names for module, names in found.items() if names}


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _listed(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names)):
                yield from (ast.literal_eval(name) for name in names)
            case _:
                pass
