"""The picture of the imports in CONTRIBUTING is that of the contracts that `make core` holds the code to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
STACKS = {
    "".join(contract.get("containers", ["ticketrouter"])): [
        layer.replace("ticketrouter.", "") for layer in contract["layers"]
    ]
    for contract in CONTRACTS
    if contract["type"] == "layers"
}


@pytest.mark.parametrize("package", STACKS)
def test_the_picture_has_each_layer(package: str) -> None:
    """From the top down, as the contract names them; what stands behind two spaces is said about a layer."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    [picture] = re.findall(rf"`{package}`:\n\n```text\n(.+?)\n```", page, re.DOTALL)

    assert STACKS[package] == [line.partition("  ")[0] for line in picture.splitlines()]


@pytest.mark.parametrize("package", STACKS)
def test_no_module_stands_outside_the_picture(package: str) -> None:
    """A contract of layers lets a module import what it likes that it does not name."""
    place = ROOT / "src" / package.replace(".", "/")
    modules = {
        each.stem
        for each in place.iterdir()
        if (each.suffix == ".py" or (each / "__init__.py").exists()) and not each.stem.startswith("__")
    }

    assert modules == {name for layer in STACKS[package] for name in layer.split(" | ")}
