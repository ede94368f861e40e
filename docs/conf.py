"""How Sphinx builds the site.

Law of this file: whatever a page says that the code knows too is drawn from the code here.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import timedelta
from importlib.metadata import version as version_of
from pathlib import Path

from docutils.nodes import Element, Node, TextElement, raw
from docutils.parsers.rst import Directive
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from ticketrouter.choices import Policy, Reopen
from ticketrouter.cli.presets import duration, own_messages
from ticketrouter.presets import ALL

sys.path.insert(0, str(Path(__file__).parent))
import drawn

logging.getLogger("ticketrouter").setLevel(logging.WARNING)  # the pictures are made by doing

project = "ticketrouter"
author = "The ticketrouter developers"
project_copyright = author
release = version_of(project)
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
templates_path: list[str] = []
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# A name between single backticks in a docstring is a Python name, and becomes a link where there is such a page.
default_role = "py:obj"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
add_module_names = False  # what is public is imported from the package; each page says so
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Statements", "notes_style")]

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3


def reopens(reopen: Reopen) -> str:
    """Say which closed tickets a message reopens."""
    if reopen.window is None:
        return "never"
    if reopen.window == timedelta.max:
        return "at any age"
    return f"{duration(reopen.window)} after closing"


def kept(reopen: Reopen) -> str:
    """Say what a reopened ticket keeps."""
    if reopen.window is None:
        return ""
    words = [word for word, keep in (("agent", reopen.keep_user), ("queue", reopen.keep_queue)) if keep]
    return ", ".join(words) or "nothing"


def presets_table() -> str:
    """Draw the table of the presets from their data."""
    headings = (
        "name", "one conversation per", "reopens", "keeps", "in groups", "own messages", "active", "wakes",
        "first, reopened, accepted, closed", "final",
    )  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for preset in ALL.values():
        policy, words = preset.policy, preset.statuses
        groups: Policy = policy.groups or policy
        in_groups = (
            "the same" if groups == policy else f"{reopens(groups.reopen)}, keeps {kept(groups.reopen)}"
        )
        cells = (
            f"`{preset.name}`",
            f"{policy.scope}",
            reopens(policy.reopen),
            kept(policy.reopen),
            in_groups,
            own_messages(policy),
            ", ".join(sorted(words.active)),
            ", ".join(f"{word} → {woken}" for word, woken in sorted(words.wakes.items())),
            f"{words.initial}, {words.reopened}, {words.accepted}, {words.closed}"
            + (f" (groups begin as {words.initial_group})" if words.initial_group else ""),
            ", ".join(sorted(words.final)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def preset_sources() -> str:
    """List what each preset was read from."""
    return "\n".join(f"- `{preset.name}`: {preset.source}" for preset in ALL.values())


myst_substitutions = {
    "presets_table": presets_table(),
    "preset_sources": preset_sources(),
    "calls_list": drawn.calls_list(),
    "repository_table": drawn.repository_table(),
    **{f"error_codes_{name}": drawn.error_codes_table(codes) for name, codes in drawn.ERROR_CODES.items()},
}


class Drawn(Directive):
    """A picture of `drawn.PICTURES`, by its name."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Put the picture into the page itself, so that it has the page's colours."""
        return [raw("", drawn.PICTURES[self.arguments[0]](), format="html")]


def list_clauses(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Make a list of the numbered clauses in a module's docstring, which are set for those who read the source."""
    if what != "module":
        return
    for number, line in enumerate(lines):
        if clause := re.fullmatch(r"(R\d+a?) +(.*)", line):
            lines[number] = f"* **{clause[1]}** {clause[2]}"
        elif line.startswith("     "):
            lines[number] = f"  {line.strip()}"


def link_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> Element | None:
    """Link a class, or a member of one, that a docstring of another module names without its module."""
    target = node["reftarget"]
    if node["refdomain"] != "py" or not re.fullmatch(r"[A-Z]\w*(\.\w+)?", target):
        return None
    domain = env.domains.python_domain
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) != 1:
        return None  # two classes may have one name, as the two `Reopen` do
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, content)


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.add_directive("drawn", Drawn)
    app.connect("missing-reference", link_short_name)
    app.connect("autodoc-process-docstring", list_clauses)
