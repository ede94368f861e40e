"""The pages are programs: every block of README.md and docs/ runs here, or says why it does not.

Law of this file: a page is one program, in a directory of its own. Its `python` and `console` blocks run in their
order; only a comment with a reason, `<!-- skip: next "why" -->`, keeps one from running. Which blocks there are
is asked of another Markdown parser than the one that runs them.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from inspect import getmembers, isclass
from pathlib import Path
from types import UnionType
from unittest import SkipTest

import pytest
from markdown_it import MarkdownIt
from sqlalchemy import Engine
from sybil import Document, Example
from sybil.example import SybilFailure
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import ticketrouter
from tests.support.program import ticketrouter as run_program
from ticketrouter import Reason, TicketRouterError, errors
from ticketrouter.sqlalchemy import MappingError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

EXEMPT = {"docs/reference/cli.md": "synopses of commands, each of which tests/cli runs"}
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "README.pt-BR.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "examples").rglob("README.md")),
        *sorted(DOCS.rglob("*.md")),
    )
    if "_build" not in page.parts and page.relative_to(ROOT).as_posix() not in EXEMPT
]

RUN = {"python", "console"}
NEEDS_A_REASON = {"bash", "pycon", "py", "sh", "shell"}
NOT_CODE = {"text", "sql", "json", "ini"}
REASON = re.compile(r'<!--+ skip: next "[^"]{10,}" --+>')
ECHO = "echo $?"
_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE


def run_console(example: Example) -> str | None:
    """Run the commands of a console block; where a command is followed by output, compare it.

    `$ echo $?` shows the exit status of the command before it, which must be 0 where none is shown.
    """
    parts = [part.partition("\n") for part in re.split(r"(?m)^\$ ", example.parsed)[1:]]
    for (command, _, expected), (following, _, status) in zip(parts, [*parts[1:], ("", "", "")], strict=True):
        if command == ECHO:
            continue
        program, *arguments = shlex.split(command)
        if program != "ticketrouter":
            return f"only our own command runs here, not {program}: give a reason to skip it"
        done = run_program(*arguments, cwd=Path.cwd())
        if done.status != (int(status) if following == ECHO else 0):
            return f"{command}: exit status {done.status}: {done.err}"
        if expected.strip() and not OutputChecker().check_output(expected, done.out, _FLAGS):
            return f"{command}: expected\n{expected}\nbut got\n{done.out}"
    return None


def refuse(_: Example) -> str:
    """Refuse a block that would have to be run and is not."""
    return 'a block that does not run needs a reason: <!-- skip: next "..." -->'


def parse(page: Path) -> Document:
    return Document.parse(
        str(page),
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
        CodeBlockParser("console", run_console),
        *(CodeBlockParser(language, refuse) for language in sorted(NEEDS_A_REASON)),
        SkipParser(),
    )


def run(page: Path) -> int:
    """Run a page as one program.

    Returns:
        How many examples ran: code blocks, and the steps of blocks with prompts.
    """
    document = parse(page)
    document.namespace["__name__"] = "__main__"  # as when the page is run as a script; some frameworks ask
    ran = 0
    try:
        for example in document:
            try:
                example.evaluate()
            except SkipTest:
                continue
            ran += 1
    finally:
        for value in document.namespace.values():
            if isinstance(value, Engine):
                value.dispose()
    return ran


def fences(page: Path) -> Iterator[tuple[str, int, int]]:
    """List the fenced blocks of a page: language, first line, line after the last, counted from 1."""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.map is not None:
            yield token.info.strip(), token.map[0] + 1, token.map[1] + 1


def escaped(page: Path) -> list[str]:
    """List what escapes execution on a page without a written reason."""
    lines = page.read_text(encoding="utf-8").splitlines()
    known = [example.line for example in parse(page)]
    found = [
        f"{page.name}:{number}: a skip without a reason"
        for number, line in enumerate(lines, start=1)
        if re.search(r"<!--.*\bskip:", line) and REASON.search(line) is None
    ]
    blocks = list(fences(page))
    runnable = {first for language, first, _ in blocks if language in RUN | NEEDS_A_REASON}
    for number, line in enumerate(lines, start=1):
        following = next((n for n, text in enumerate(lines[number:], start=number + 1) if text), None)
        if REASON.search(line) and following not in runnable:
            found.append(f"{page.name}:{number}: no block to skip: it would skip a later one")
    for language, first, after in blocks:
        if language in RUN | NEEDS_A_REASON:
            if not any(first <= line < after for line in known):
                found.append(f"{page.name}:{first}: the runner does not see this {language} block")
        elif language not in NOT_CODE and not language.startswith("{"):
            found.append(f"{page.name}:{first}: say what this block is in ({language or 'nothing'})")
    return found


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own, with the examples that ship with the project; what a page does to our logger ends."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("ticketrouter")
    level, handlers = logger.level, logger.handlers[:]
    yield tmp_path
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
class TestPages:
    @pytest.mark.usefixtures("own_directory")
    def test_runs(self, page: Path) -> None:
        """Every block of the page runs, and shows what the page says it shows."""
        run(page)

    def test_lets_no_block_escape(self, page: Path) -> None:
        """A block either runs or says why not."""
        assert [] == escaped(page)


@pytest.mark.usefixtures("own_directory")
class TestTheRunnerItself:
    @pytest.mark.parametrize(
        "block",
        [
            "```python\n>>> 1 + 1\n3\n```",
            "```python\nassert False\n```",
            "```python\n1 +\n```",
            "```console\n$ ticketrouter --version\nticketrouter 99\n```",
            "```console\n$ ticketrouter no-such-command\n```",
            "```console\n$ ticketrouter --version\n$ echo $?\n1\n```",
            "```console\n$ rm README.md\n```",
            "```bash\nmake test\n```",
        ],
    )
    def test_a_wrong_block_fails(self, own_directory: Path, block: str) -> None:
        """Wrong output, a failed assertion, no Python at all, a command that fails or is none of ours."""
        page = own_directory / "page.md"
        page.write_text(f"# A page\n\n{block}\n", encoding="utf-8")

        with pytest.raises((SybilFailure, AssertionError, SyntaxError)):
            run(page)

    def test_a_block_sees_what_stands_before_it(self, own_directory: Path) -> None:
        """A page is one program; a block with a reason to be skipped is no part of it."""
        page = own_directory / "page.md"
        page.write_text(
            "```python\nx = 2\n```\n\n"
            '<!-- skip: next "nothing here knows what this is" -->\n\n```python\nx = nothing\n```\n\n'
            "```python\n>>> x\n2\n```\n",
            encoding="utf-8",
        )

        assert run(page) == 3
        assert escaped(page) == []

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("<!-- skip: next -->\n\n```python\nx\n```", "without a reason"),
            ('<!-- skip: start "the whole rest of the page" -->\n\n```python\nx\n```', "without a reason"),
            ('<!-- skip: next "it is in another language" -->\n\n```sql\nx\n```', "skip a later one"),
            ("```\nx = 1\n```", "say what"),
            ("```Python\nx = 1\n```", "say what"),
            ("```python title=x\nx = 1\n```", "say what"),
            ("- a list\n\n  ~~~text\n  x\n  ~~~\n\n```pyton\nx = 1\n```", "say what"),
        ],
    )
    def test_an_escaping_block_is_found(self, own_directory: Path, text: str, complaint: str) -> None:
        """No skip without a reason, no block in a language that nobody runs."""
        page = own_directory / "page.md"
        page.write_text(text, encoding="utf-8")

        assert [complaint] == [complaint for found in escaped(page) if complaint in found]


def test_no_two_pages_name_the_same_database_file() -> None:
    """Who runs several pages in one folder finds on each what it says, for none meets the tickets of another."""
    named = Counter(
        name
        for page in PAGES
        for name in set(re.findall(r"[\w-]+\.(?:sqlite3?|db)\b", page.read_text(encoding="utf-8")))
    )

    assert {} == {name: count for name, count in named.items() if count > 1}


# --- tables that repeat what the code says ---------------------------------------------------------------------


def rows(page: Path) -> list[list[str]]:
    """List the rows of a page's tables as their cells."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_table_of_errors_is_complete() -> None:
    """Each error that we raise stands in the table, with what it says of a second run."""
    raised = {
        name
        for name, error in getmembers(errors, isclass)
        if issubclass(error, TicketRouterError) and error is not TicketRouterError
    } | {MappingError.__name__}
    named = {name: cells for name, *cells in rows(DOCS / "reference/errors.md") if name.startswith("`")}

    assert {f"`{name}`" for name in raised} == set(named)
    always = {f"`{name}`" for name in raised if getattr(errors, name, MappingError).retryable}
    assert always == {name for name, (_, retryable, _) in named.items() if retryable == "yes"}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "README.pt-BR.md", DOCS / "explanation/the-rule.md"],
    ids=lambda page: page.name,
)
def test_the_table_of_the_rule_names_every_reason(page: Path) -> None:
    """The seven rules stand in their order, with the reasons that a Resolution gives."""
    rules = [cells for cells in rows(page) if cells[0].isdigit()]
    reasons = {word for cells in rules for word in re.findall(r"`(\w+)`", cells[-1])}

    assert [str(number) for number in range(1, 8)] == [cells[0] for cells in rules]
    assert {reason.value for reason in Reason} - {Reason.REQUESTED.value} == reasons


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if DOCS not in page.parents],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_to_files(page: Path) -> None:
    """Sphinx sees to the links inside docs/; these pages stand outside."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))

    assert [] == [
        link for link in links if not link.startswith("https://") and not (page.parent / link).is_file()
    ]


def test_every_word_of_the_glossary_has_its_portuguese() -> None:
    """Below each word stands, first and in brackets, what Brazilian desks call it; the words are in order."""
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"(?m)^(\w[\w ]*)\n    (.)", text)

    assert len(entries) > 30
    assert [] == [word for word, first in entries if first != "("]
    assert sorted(word for word, _ in entries) == [word for word, _ in entries]


def test_every_public_name_is_on_a_page_of_the_reference() -> None:
    """What `ticketrouter` exports is documented by the page of its module, or by name."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"(?m)^\.\. auto\w+:: ([\w.]+)", text))
    missing = [
        name
        for name in ticketrouter.__all__
        if (public := getattr(ticketrouter, name))
        and f"{public.__module__}.{name}" not in documented
        and public.__module__ not in documented
        and not (isinstance(public, UnionType) and f"(`{name}`)" in text)  # it knows no module of its own
    ]

    assert [] == missing
