"""Nothing public may break between two releases: `python -m tests.support.api` compares it with the last one.

Law of this file: what is public, `tests.support.public` says. Griffe reads both versions' sources and tells what a
caller would notice; nothing is imported.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]


def last_release(repository: Path = ROOT) -> str | None:
    """Return the tag of the last release; None: there is none yet, or no history to find it in."""
    command = ["git", "-C", str(repository), "describe", "--tags", "--abbrev=0", "--match", "v*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def breakages(reference: str, repository: Path = ROOT) -> list[str]:
    """List what is public at the reference and has been removed or changed since."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # griffe's own, about its names of yesterday
        old = griffe.load_git("ticketrouter", ref=reference, repo=repository, search_paths=["src"])
        new = griffe.load("ticketrouter", search_paths=[repository / "src"], try_relative_path=False)
        exported = _exported(old)
        return sorted(
            {
                f"{found.obj.path}: {found.kind.value.lower()}"
                for found in griffe.find_breaking_changes(old, new)
                if _is_public(found.obj.path, found.obj.canonical_path, exported)
            }
        )


def _exported(package: griffe.Object | griffe.Alias) -> set[str]:
    """Return the paths of what the modules export: where it can be imported from, and where it stands."""
    found = {f"{package.path}.{name}" for name in package.exports or ()}
    found |= {package[str(name)].canonical_path for name in package.exports or ()}
    return found.union(*(_exported(module) for module in package.modules.values() if not module.is_alias))


def _is_public(path: str, canonical: str, exported: set[str]) -> bool:
    if any(part.startswith("_") for part in path.split(".")):
        return False
    return any(f"{each}.".startswith(f"{name}.") for each in (path, canonical) for name in exported)


def main(arguments: list[str]) -> int:
    """Compare with the given reference, or else with the last release.

    Returns:
        0: nothing public is broken, or nothing has been released yet; 1: something is.
    """
    reference = arguments[0] if arguments else last_release()
    if reference is None:
        print("no release is tagged yet (vX.Y.Z): nothing public is frozen")
        return 0
    found = breakages(reference)
    print("\n".join(found) or f"nothing that was public at {reference} is broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
