"""Pictures and tables for the pages, drawn from the code.

Law of this file: nothing is said here that the code does not say. Rules and reasons are read from the docstrings
beside them, what leads from one state to another is found by doing it, and what a call sends and raises is what
its docstring says. The pictures are SVG that stands in the page, in the page's own colours.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import escape
from itertools import pairwise, product

from attrs import frozen

from ticketrouter import (
    InboundMessage,
    Policy,
    Reason,
    Reopen,
    Ticket,
    TicketRouter,
    TicketRouterError,
    model,
)
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.policy import decide
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository
from ticketrouter.sqlalchemy.dialects.mariadb.errors import CODES as MARIADB_AND_MYSQL
from ticketrouter.sqlalchemy.dialects.postgresql.errors import CODES as POSTGRESQL
from ticketrouter.sqlalchemy.dialects.sqlite.errors import CODES as SQLITE
from ticketrouter.sqlalchemy.error_codes import CLASSES, ErrorCodes, Fault, Row

# --- the seven rules -----------------------------------------------------------------------------------------


@frozen
class Rule:
    """One rule of `decide`."""

    number: int
    when: str
    then: str
    reasons: tuple[str, ...]


def rules() -> list[Rule]:
    """Read the rules from the docstring of `decide`, and their reasons from those of `Reason`."""
    text = re.sub(r"\s+", " ", inspect.getdoc(decide) or "")
    numbered = re.findall(r"(\d)\. (.+?): (\w+)[;.]", text)
    found = [
        Rule(int(number), when.split(" (")[0], then, _reasons_of(int(number)))
        for number, when, then in numbered
    ]
    if [rule.number for rule in found] != list(range(1, len(found) + 1)):
        raise ValueError("the docstring of decide does not number its rules from 1")
    return found


def _reasons_of(number: int) -> tuple[str, ...]:
    return tuple(name for name, told in _member_docs().items() if told.startswith(f"Rule {number}"))


def _member_docs() -> dict[str, str]:
    """Return what stands below each member of `Reason`, by the member's value."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model.Reason)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    docs = {}
    for member, told in pairwise(body):
        if (
            isinstance(member, ast.Assign)
            and isinstance(told, ast.Expr)
            and isinstance(told.value, ast.Constant)
        ):
            name = member.targets[0]
            if isinstance(name, ast.Name):
                docs[Reason[name.id].value] = str(told.value.value)
    return docs


# --- the states of a ticket ----------------------------------------------------------------------------------

NOTHING = "no ticket"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MESSAGE = InboundMessage(1, "ana", 10)


def _acts() -> dict[str, Callable[[TicketRouter], object]]:
    return {
        "message": lambda router: router.resolve(MESSAGE),
        "open": lambda router: router.open(MESSAGE.key),
        "open, by an agent": lambda router: router.open(MESSAGE.key, user_id=7),
        "accept": lambda router: router.accept(1, 1, 7),
        "close": lambda router: router.close(1, 1),
        "reopen": lambda router: router.reopen(1, 1),
    }


def transitions() -> dict[tuple[str, str], list[str]]:
    """Do every act in every state, and list what led from one state to another, or left it."""
    found: dict[tuple[str, str], list[str]] = {}
    states = [NOTHING, "pending", "open", "closed"]
    acts = _acts() | {"message, in the window": _acts()["message"]}
    for state, (name, act) in product(states, acts.items()):
        in_window = name.endswith("window")
        if in_window and state != "closed":
            continue
        repository = InMemoryTicketRepository([] if state == NOTHING else [_ticket(state)])
        policy = Policy(reopen=Reopen.always()) if in_window else Policy()
        try:
            act(TicketRouter(repository, policy, clock=lambda: NOON))
        except TicketRouterError:
            continue  # it is refused in this state
        after = repository.tickets[0].status if repository.tickets else NOTHING
        if len(repository.tickets) > 1:
            continue  # the closed ticket stays, and another one begins where nothing was
        found.setdefault((state, after), []).append(name)
    return found


def _ticket(status: str) -> Ticket:
    return Ticket(
        id=1,
        company_id=1,
        contact_id="ana",
        connection_id=10,
        status=status,
        is_group=False,
        unread_messages=0,
        user_id=7 if status == "open" else None,
        queue_id=None,
        created_at=NOON,
        updated_at=NOON,
        closed_at=NOON if status == "closed" else None,
    )


# --- pictures ------------------------------------------------------------------------------------------------

WIDTH = 456
_STYLE = """
<style>
.drawn { width: 100%; max-width: 560px; height: auto; font-family: var(--font-stack, sans-serif); font-size: 13px; }
.drawn text { fill: var(--color-foreground-primary, #222); }
.drawn .dim { fill: var(--color-foreground-secondary, #555); font-size: 12px; }
.drawn rect { fill: var(--color-background-secondary, #f6f6f6); stroke: var(--color-foreground-muted, #777); }
.drawn rect.then { stroke: var(--color-brand-primary, #0a4bff); stroke-width: 1.5; }
.drawn path { fill: none; stroke: var(--color-foreground-muted, #777); stroke-width: 1.3; }
.drawn marker path { fill: var(--color-foreground-muted, #777); stroke: none; }
</style>
<defs><marker id="{id}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
<path d="M0 0 L8 4 L0 8 z"/></marker></defs>
"""


def _svg(name: str, title: str, height: int, parts: Iterator[str]) -> str:
    head = f'<svg class="drawn" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    body = "\n".join(parts).replace("TIP", f"url(#{name}-tip)")
    return f"{head}<title>{escape(title)}</title>{_STYLE.replace('{id}', name)}{body}</svg>"


def _lines(text: str, x: int, y: int, chars: int, *, css: str = "", anchor: str = "start") -> str:
    rows = textwrap.wrap(text, chars)
    top = y - 8 * (len(rows) - 1) + 4
    spans = "".join(f'<tspan x="{x}" y="{top + 16 * n}">{escape(row)}</tspan>' for n, row in enumerate(rows))
    return f'<text class="{css}" text-anchor="{anchor}">{spans}</text>'


def decision_svg() -> str:
    """Draw the rules: asked from the top, the first that holds decides."""
    found, step = rules(), 84

    def parts() -> Iterator[str]:
        for index, rule in enumerate(found):
            y = 8 + index * step
            last = index == len(found) - 1
            yield f'<rect x="4" y="{y}" width="236" height="60" rx="6"/>'
            yield _lines(f"{rule.number}. {rule.when}", 14, y + 30, 32)
            yield f'<rect class="then" x="278" y="{y + 6}" width="160" height="48" rx="6"/>'
            yield _lines(rule.then, 358, y + 30, 22, anchor="middle")
            yield f'<path d="M240 {y + 30} H274" marker-end="TIP"/>'
            yield _lines("" if last else "yes", 246, y + 20, 5, css="dim")
            if not last:
                yield f'<path d="M122 {y + 60} V{y + step - 2}" marker-end="TIP"/>'
                yield _lines("no", 130, y + 71, 5, css="dim")

    title = "The seven rules: " + "; ".join(f"{rule.number}. {rule.when}: {rule.then}" for rule in found)
    return _svg("decision", title, 8 + step * len(found) - 16, parts())


def states_svg() -> str:
    """Draw the states of a ticket, and what leads from one to another."""
    found = transitions()
    names = list(dict.fromkeys(state for pair in found for state in pair))
    left, right, height, step = 126, 332, 48, 104
    top = {name: 8 + step * index for index, name in enumerate(names)}
    middle = (left + right) // 2

    def arrow(one: str, other: str, acts: str) -> Iterator[str]:
        rows = names.index(other) - names.index(one)
        if rows == 1:
            begin = top[one] + height
            yield f'<path d="M{middle} {begin} V{top[other] - 2}" marker-end="TIP"/>'
            yield _lines(acts, middle + 8, (begin + top[other]) // 2, 24, css="dim")
            return
        side, sign = (left, -1) if rows > 0 else (right, 1)
        begin, end = top[one] + height // 2 + 8 * sign, top[other] + height // 2 + 8 * sign
        reach = side + sign * 58
        yield f'<path d="M{side} {begin} C{reach} {begin} {reach} {end} {side + 2 * sign} {end}" marker-end="TIP"/>'
        anchor = "end" if rows > 0 else "start"
        yield _lines(acts, side + sign * 48, (begin + end) // 2, 11, css="dim", anchor=anchor)

    def parts() -> Iterator[str]:
        for name in names:
            yield f'<rect x="{left}" y="{top[name]}" width="{right - left}" height="{height}" rx="8"/>'
            stays = ", ".join(found.get((name, name), []))
            yield _lines(name, middle, top[name] + (16 if stays else 24), 20, anchor="middle")
            yield _lines(
                f"stays: {stays}" if stays else "", middle, top[name] + 34, 32, css="dim", anchor="middle"
            )
        for (one, other), acts in found.items():
            if one != other:
                yield from arrow(one, other, ", ".join(acts))

    told = "; ".join(
        f"{one} to {other}: {', '.join(acts)}" for (one, other), acts in found.items() if one != other
    )
    return _svg("states", f"The states of a ticket: {told}", 8 + step * len(names) - 40, parts())


PICTURES = {"decision": decision_svg, "states": states_svg}


# --- what each call sends and raises --------------------------------------------------------------------------

LOSER = {
    "resolve": "adopts the winner's ticket as it is: `reused`; or decides anew where it was closed meanwhile; `duplicate` where the same message won",
    "resolve_many": "as `resolve`, message by message",
    "explain": "takes part in no race",
    "find_active": "takes part in no race",
    "active_tickets": "takes part in no race",
    "ensure_can_open": "takes part in no race: the answer is of now",
    "open": "`ActiveTicketExistsError` with the winner's ticket",
    "accept": "`ConflictError` with the ticket as it is now; the same agent twice is harmless",
    "close": "the closed ticket: closing twice is harmless",
    "reopen": "the active ticket, where it is this one; `ActiveTicketExistsError`, where the key has another",
    "transfer": "`ConflictError` where it was closed, `ActiveTicketExistsError` where the other key was taken",
    "plan_merge_contacts": "takes part in no race: the plan is of now",
    "merge_contacts": "looks again and plans anew",
    "plan_move_connection": "takes part in no race: the plan is of now",
    "move_connection": "looks again and plans anew",
}


def calls() -> dict[str, tuple[str, list[str]]]:
    """Return for each call of a router what its docstring says it sends, and what it says it raises."""
    found = {}
    for name, method in inspect.getmembers(TicketRouter, inspect.isfunction):
        if name.startswith("_"):
            continue
        text = inspect.getdoc(method) or ""
        found[name] = (_section(text, "Statements"), re.findall(r"(?m)^    (\w+Error):", text))
    return dict(
        sorted(found.items(), key=lambda item: inspect.getsourcelines(getattr(TicketRouter, item[0]))[1])
    )


def _section(text: str, name: str) -> str:
    found = re.search(rf"(?m)^{name}:\n((?:    .*\n?|\n)+)", text + "\n")
    return "" if found is None else re.sub(r"\s+", " ", found[1]).strip()


def calls_list() -> str:
    """Draw the list of the calls; a new call without its word on races stops the build."""
    lines = []
    for name, (sent, errors) in calls().items():
        raised = ", ".join(f"`{error}`" for error in errors) or "nothing of its own"
        lines += [f"- **`{name}`**", f"  - asks the repository: {sent or 'see [its docstring](router.md)'}"]
        lines += [f"  - raises: {raised}", f"  - who loses a race: {LOSER[name]}"]
    return "\n".join(lines)


def repository_table() -> str:
    """Draw the table of what the SQLAlchemy adapter sends."""
    lines = ["| of the port | statements |", "|---|---|"]
    for name, method in inspect.getmembers(SQLAlchemyTicketRepository, inspect.isfunction):
        if sent := _section(inspect.getdoc(method) or "", "Statements"):
            lines.append(f"| `{name}` | {sent} |")
    return "\n".join(lines)


# --- what each error code of a server means -------------------------------------------------------------------

BECOMES = {
    Fault.TAKEN: "looked at again, else `RepositoryError`",
    Fault.RESTART: "`ContentionError`",
    Fault.LOST: "`RepositoryError`",
    Fault.UNAVAILABLE: "`RepositoryError`",
    Fault.AFTERMATH: "as the earlier one, else `RepositoryError`",
    Fault.OTHER: "`RepositoryError`",
}
ERROR_CODES = {
    "postgresql": POSTGRESQL,
    "mariadb_and_mysql": MARIADB_AND_MYSQL,
    "sqlite": SQLITE,
    "classes": CLASSES,
}


def error_codes_table(codes: ErrorCodes) -> str:
    """Draw the table of one server's error codes: first what may be run again."""
    lines = ["| code | name | run again | the error | your transaction | why |", "|---|---|---|---|---|---|"]
    said = [row for row in codes.rows if row.fault.is_retryable]
    for row in [*said, *(row for row in codes.rows if row not in said), codes.rest]:
        answer = "yes" if row.fault.is_retryable else "no"
        cells = (_code(row, codes), row.name, answer, BECOMES[row.fault], row.left.value, row.why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(row: Row, codes: ErrorCodes) -> str:
    if row is codes.rest or " " in str(row.code):
        return str(row.code)
    is_class = codes is POSTGRESQL and len(str(row.code)) == len("08")
    return f"{row.code}xxx" if is_class else str(row.code).removeprefix("builtins.").replace("._base", "")
