"""What fills the columns of a new row: the fields of its ticket, the host's further values, the database, or nobody.

Law of this file: it judges what a catalogue has said, and asks nothing. A column that nobody fills is refused before a
row is written: some servers would fill it with 0, or with an empty text. What a trigger does is believed where its text
says so, or the host does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import frozen
from sqlalchemy import Column, Computed, DefaultClause, FetchedValue, Identity

from ticketrouter.sqlalchemy.columns import MappingError, full_name
from ticketrouter.sqlalchemy.facts import ColumnFacts
from ticketrouter.sqlalchemy.further import Unsaid
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.wording import Code, Wording, listed, passing


@frozen
class Empty:
    """A column that a new row would leave empty.

    Args:
        column: its name.
        told: what is wrong.
        advice: what to do about it.
        is_sure: whether it is so; else an application may fill it, which nobody has been told of.
    """

    column: str
    told: str
    advice: str
    is_sure: bool = True


_NO_CODE = re.compile(r"/\*.*?\*/|(?:--|(?<!\S)#)\s[^\n]*|'(?:[^'\\]|''|\\.)*'", re.DOTALL)
"""A comment, or a text."""
_UNCLEAR = re.compile(r"""["\\#]|--\S|\$\w*\$""")
"""What texts and comments begin or end with by rules of one database alone: then it is believed, as nobody can tell."""
_BEGINS = re.compile(r";|\b(?:BEGIN|THEN|ELSE|LOOP|DO|REPEAT)\b", re.IGNORECASE)
"""What a statement begins after."""


def is_set_by(triggers: str, column: str) -> bool:
    """Tell whether the texts of triggers set a column of the new row: by `SET`, `:=` or `INTO`.

    One that only asks what it is, as an `IF` does, or copies it, fills nothing.
    """
    new = rf"""\s*NEW\s*\.\s*["`]?{re.escape(column)}["`]?(?!\w)\s*"""
    given = re.compile(new + r"(?::=|=)", re.IGNORECASE)
    taken = re.compile(rf"\bINTO\s+(?:STRICT\s+)?(?:[^;()]*,)?{new}(?![=<>!])", re.IGNORECASE)
    if _UNCLEAR.search(triggers) and re.search(rf"{new}:?=|\bINTO\b[^;]*{new}", triggers, re.IGNORECASE):
        return True
    statements = _BEGINS.split(_NO_CODE.sub(" ", triggers))
    return any(
        given.match(each) or taken.search(each) or any(given.match(part) for part in _settings(each))
        for each in statements
    )


def _settings(statement: str) -> list[str]:
    """Return what a `SET` sets, each with its value."""
    begin = re.match(r"\s*SET\b", statement, re.IGNORECASE)
    if begin is None:
        return []
    parts, depth = [""], 0
    for letter in statement[begin.end() :]:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def needed(mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> frozenset[str]:
    """Return the names of the columns that only `on_create` or `on_message` can fill, and that must be filled.

    They are spelled as in the Table, where it has them in other letters.
    """
    spelled = {each.name.lower(): each.name for each in mapping.table.columns if each.name not in facts}
    by_us = {column.name.lower() for column in mapping.columns.values()}
    by_us |= {column.name.lower() for column in mapping.table.columns if _fills_itself(column)}
    return frozenset(
        spelled.get(name.lower(), name)
        for name, each in facts.items()
        if not each.nullable and not each.filled and name.lower() not in by_us
    )


def check_there(mapping: TicketMapping, facts: Mapping[str, ColumnFacts], *, by_case: bool) -> None:
    """Raise where the database lacks columns of the Table that statements speak of, as before a migration.

    Args:
        mapping: where the tickets are.
        facts: what the database says of the columns.
        by_case: whether it tells names apart that differ in case alone.
    """

    def sent(column: Column[object]) -> str:
        is_folded = not by_case or getattr(column.name, "quote", None) is False
        return column.name.lower() if is_folded else column.name

    there = {name if by_case else name.lower() for name in facts}
    absent = {
        column: f"{full_name(column)} ({', '.join(uses)})"
        for column in mapping.table.columns
        if sent(column) not in there and (uses := _uses(mapping, column))
    }
    spelled = {name.lower(): name for name in facts}
    others = [
        f"{told} is {spelled[c.name.lower()]} there"
        for c, told in absent.items()
        if c.name.lower() in spelled
    ]
    if others:
        raise MappingError(
            f"the database spells columns otherwise, and tells cases apart: {', '.join(others)}; name them so in the "
            'Table, as in Column("...", key="...") where the attribute is to keep its name'
        )
    missing = list(absent.values())
    if missing:
        raise MappingError(
            f"the database has no column {', '.join(missing)}, which the Table has: run the migration that adds it, or take it "
            "out of the mapping, and out of the Table where that fills it"
        )


def _uses(mapping: TicketMapping, column: Column[object]) -> list[str]:
    """Tell what speaks of a column: its field, what the host gives for it, and what the Table fills it with."""
    uses = [field for field, each in mapping.columns.items() if each is column]
    if any(each.column is column for each in mapping.on_message.written):
        uses.append("on_message")
    elif column.name in (mapping.further_names or ()):
        uses.append("on_create")
    if mapping.where is not None and column.name in mapping.where.columns:
        uses.append("where")
    if column.default is not None or column.onupdate is not None:
        uses.append("its default")
    return uses


def check_fields(mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> None:
    """Raise where the columns of fields would be left empty, or take no None."""
    _refuse(_fields(mapping, facts))


def check_further(mapping: TicketMapping, needed: frozenset[str]) -> None:
    """Raise where other columns would be left empty that must be filled."""
    _refuse(_further(mapping, needed))


def left_empty(mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> Iterator[Empty]:
    """Give the columns that a new row would leave empty, as far as it is known before there is one."""
    yield from _fields(mapping, facts, or_unsaid=True)
    yield from _further(mapping, needed(mapping, facts))


def _refuse(found: Iterator[Empty]) -> None:
    if told := listed((Wording(each.told, ": ", each.advice) for each in found), "; "):
        raise MappingError(told)


def _fields(
    mapping: TicketMapping, facts: Mapping[str, ColumnFacts], *, or_unsaid: bool = False
) -> Iterator[Empty]:
    number = mapping.columns["id"]
    by_nobody = mapping.new_id is None or (or_unsaid and isinstance(mapping.new_id, Unsaid))
    of_id = facts_of(facts, number)
    if by_nobody and not _fills_itself(number) and of_id is not None and not of_id.filled:
        yield Empty(
            number.name,
            f"nobody fills {full_name(number)} (id) of a new row",
            Wording(
                "pass ",
                Code("new_id", "new_id=... with a function that makes it", number.name),
                ", or have the database do it",
                _TRIGGER,
            ),
            is_sure=mapping.new_id is None,
        )
    for field in mapping.may_be_none:
        column = mapping.columns[field]
        found = facts_of(facts, column)
        if found is not None and not found.nullable and field not in mapping.absent:
            yield Empty(column.name, *mapping.told_of_none(field))


def _further(mapping: TicketMapping, needed: frozenset[str]) -> Iterator[Empty]:
    further = mapping.further_names
    if further is None:
        return  # a function is asked when a row is made
    for name in sorted(needed - further):
        yield Empty(
            name,
            f"nobody fills {mapping.table.fullname}.{name} of a new row, which may not be NULL and has no default",
            Wording(
                "pass ",
                passing("on_create", f'{{"{name}": ...}}', name),
                " with a value, for a Column of the Table, or give it a default",
                _TRIGGER,
            ),
        )


_TRIGGER = Wording(
    "; where a trigger fills it that is not seen to (none can on SQLite), ",
    Code("server_default", "server_default=FetchedValue()"),
    " in its Column says so",
)


def facts_of(facts: Mapping[str, ColumnFacts], column: Column[object]) -> ColumnFacts | None:
    """Return what the database says of a column; None: nothing, by that name."""
    found = facts.get(column.name)
    if found is None:
        by_lower_case = {name.lower(): each for name, each in facts.items()}
        found = by_lower_case.get(column.name.lower())
    return found


def _fills_itself(column: Column[object]) -> bool:
    """Tell whether SQLAlchemy fills a column, or its host says that something does which cannot be seen."""
    said = column.server_default
    is_unseen = isinstance(said, FetchedValue) and not isinstance(said, (DefaultClause, Computed, Identity))
    return column.default is not None or is_unseen
