"""The checks of an audit that ask the catalogue: unique rule, indexes, companion tables, transactions, ids.

Law of this file: a check takes a View and says what it sees; no row of the host is read but the highest id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Inspector, Integer, SmallInteger, func, inspect, select
from sqlalchemy.dialects import mysql

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import reaches
from ticketrouter.sqlalchemy.columns import KEY, full_name
from ticketrouter.sqlalchemy.companions import misfits
from ticketrouter.sqlalchemy.dialects.base import Level
from ticketrouter.sqlalchemy.facts import IGNORED, Index
from ticketrouter.sqlalchemy.filling import left_empty
from ticketrouter.sqlalchemy.fit_types import misdeclared
from ticketrouter.sqlalchemy.health.findings import Check, Observation, View, plain, said
from ticketrouter.sqlalchemy.ids import index_of_ids, what_is_not_proved, what_proves_it
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import bare
from ticketrouter.sqlalchemy.row_condition import OPAQUE
from ticketrouter.sqlalchemy.rules import STRICTNESS, Judged
from ticketrouter.sqlalchemy.schema import ANCHORS_SUFFIX, anchors_name
from ticketrouter.wording import ACTIVE, Wording


def _build(view: View) -> str:
    """Say how the rule is made, or why it cannot be."""
    where = view.mapping.where
    if where is None or where.fits_an_index:
        return "`ticketrouter schema` prints the index on active tickets"
    return f"write `where` so that an index can have it: it {OPAQUE}"


# --- the unique rule -----------------------------------------------------------------------------------------


def unique_rule(view: View) -> tuple[UniqueRule | None, list[Observation]]:
    """Tell the strictest rule, and what there is to say of each unique index.

    Returns:
        The rule, None where no application can work with an index; and the observations.
    """
    seen = [_of_rule(view, judged) for judged in view.judged if judged.rule is not UniqueRule.NONE]
    rule = max((judged.rule for judged in view.judged), key=STRICTNESS.index, default=UniqueRule.NONE)
    problems = [judged for judged in view.judged if judged.problem]
    seen += [
        Observation(Check.UNIQUE_RULE, Level.FINDING, judged.problem, _REBUILD, 1, (_told(judged.index),))
        for judged in problems
    ]
    if not seen:
        seen.append(
            Observation(
                Check.UNIQUE_RULE,
                Level.FINDING,
                "nothing in the database forbids a second active ticket of a contact on one connection",
                f"{_build(view)}; until there is one the library has to lock instead",
            )
        )
    seen += _nullable(view)
    ruled = rule is not UniqueRule.NONE
    seen += [
        _of_other(view, judged, ruled=ruled)
        for judged in view.judged
        if judged.rule is UniqueRule.NONE and not judged.problem
    ]
    seen += [
        Observation(
            Check.UNIQUE_INDEXES,
            Level.FINDING,
            f"the index {index.name} is invalid: building it was broken off, as by a duplicate",
            f"DROP INDEX {view.database.names.dotted(index.path)}, close the duplicates "
            "(`ticketrouter repair`), and build it again",
            1,
            (_told(index),),
        )
        for index in view.indexes
        if not index.valid
    ]
    return (None if problems and not ruled else rule), seen


_REBUILD = "build the index anew, from the words of the scheme: `ticketrouter schema` prints it"


def _of_rule(view: View, judged: Judged) -> Observation:
    name = f"{judged.index.name}{_lie(view.mapping, judged.index)}"
    match judged.rule:
        case UniqueRule.ACTIVE_PER_CONNECTION:
            return _of_the_right_rule(view, judged, name)
        case UniqueRule.ONE_PER_CONNECTION:
            told = (
                "allows one ticket for ever per contact and connection: once it is closed, the next message can "
                "only reopen it"
            )
        case _ if judged.words is not None and view.mapping.statuses.closed not in judged.words:
            told = "allows one active ticket per contact: a message on a second connection has no place"
        case _:
            told = "allows one ticket for ever per contact: a message on a second connection has no place"
    advice = f"{_build(view)}, and how to drop this one"
    return Observation(Check.UNIQUE_RULE, Level.FINDING, f"{name} {told}", advice, 1, (_told(judged.index),))


def _of_the_right_rule(view: View, judged: Judged, name: str) -> Observation:
    told = f"{name} allows one active ticket per contact and connection"
    more = sorted((judged.words or frozenset()) - view.mapping.statuses.active)
    if not more:
        return Observation(Check.UNIQUE_RULE, Level.OK, told, "", 1, (_told(judged.index),))
    words = ", ".join(more)
    return Observation(
        Check.UNIQUE_RULE,
        Level.FINDING,
        f"{told}, and none beside a ticket that is {words}, which the scheme does not call active: until such a "
        "ticket is closed, a message of its contact is refused",
        Wording(f"name {words} among the active words (", ACTIVE, f"), or {_REBUILD}"),
        1,
        (_told(judged.index),),
    )


def _of_other(view: View, judged: Judged, *, ruled: bool) -> Observation:
    index = judged.index
    lie = _lie(view.mapping, index)
    level, told, advice = _said_of(view, judged, ruled=ruled)
    if level is Level.NOTE and lie and not advice:
        advice = "drop it if nothing else needs it"
    return Observation(Check.UNIQUE_INDEXES, level, f"{index.name}{lie} {told}", advice, 1, (_told(index),))


def _said_of(view: View, judged: Judged, *, ruled: bool) -> tuple[Level, str, str]:
    """Say what an index that is no rule does, and what to do about it."""
    if judged.vacuous:
        return (
            Level.NOTE,
            f"has {view.name('id')} in it, so it forbids nothing",
            "drop it: whoever reads its name believes in a rule that is not there",
        )
    if judged.refuses_closing:
        return (
            Level.FINDING,
            "has the status in it: a ticket cannot be closed where a closed one of its key is there already",
            f"drop it before `ticketrouter repair`; {_build(view)}",
        )
    if judged.for_ever:
        return (
            Level.FINDING,
            f"leaves no room for a second ticket once the first is closed, and is no rule: {judged.why}",
            f"{_build(view)}, and how to drop this one",
        )
    no_rule = f"is no rule on active tickets: {judged.why}"
    if ruled:
        return Level.NOTE, no_rule, ""
    return (
        Level.FINDING,
        no_rule,
        f"{_build(view)}; it must be over the key alone, and about the status alone",
    )


def _lie(mapping: TicketMapping, index: Index) -> str:
    """Say what a name speaks of, where that is not what the index is over."""
    spoken = index.name.lower().replace("_", "")
    columns = {field: mapping.columns[field].name for field in ("id", *KEY) if field in mapping.columns}
    named = [c for field, c in columns.items() if field != "id" and c.lower().replace("_", "") in spoken]
    over = {bare(part) for part in index.parts}
    if not named or {c for c in columns.values() if c in over} == set(named):
        return ""
    return f" (its name speaks of {', '.join(named)}, and it is over {', '.join(map(bare, index.parts))})"


def _told(index: Index) -> dict[str, Any]:
    return {"index": index.name, "columns": [bare(part) for part in index.parts], "where": index.predicate}


def _nullable(view: View) -> Iterator[Observation]:
    found = {
        column["name"]: column["nullable"]
        for column in inspect(view.connection).get_columns(view.table.name, schema=view.schema)
    }
    nullable = [column.name for column in view.key if found.get(column.name, False)]
    if nullable:
        yield Observation(
            Check.UNIQUE_RULE,
            Level.NOTE,
            f"{', '.join(nullable)} may be NULL: no unique rule sees such a row, and it is used for no message",
            "see orphans",
            len(nullable),
        )


# --- the indexes that find tickets ---------------------------------------------------------------------------


def lookup_indexes(view: View) -> Iterator[Observation]:
    """Tell whether a message's tickets can be found without reading the whole table."""
    by_contact = [index for index in view.indexes if index.valid and is_by_contact(view.mapping, index)]
    whole = [index for index in by_contact if index.predicate is None]
    active = whole or [index for index in by_contact if _has_all_active(view, index)]
    if whole:
        names = ", ".join(index.name for index in whole)
        yield Observation(Check.LOOKUP_INDEXES, Level.OK, f"tickets are found by their contact ({names})")
        return
    if not active:
        yield Observation(
            Check.LOOKUP_INDEXES,
            Level.FINDING,
            "no index begins with the contact: each message reads the whole table to find its active tickets",
            "`ticketrouter schema` prints it",
        )
    yield Observation(
        Check.LOOKUP_INDEXES,
        Level.FINDING,
        "no index finds a contact's closed tickets: each message that may reopen one reads the whole table",
        "`ticketrouter schema` prints it",
    )


def is_by_contact(mapping: TicketMapping, index: Index) -> bool:
    """Tell whether an index begins with the contact, or with company and contact."""
    contact, leading = mapping.columns["contact_id"].name, [bare(part) for part in index.parts]
    company = mapping.columns["company_id"].name if "company_id" in mapping.columns else contact
    return leading[:1] == [contact] or leading[:2] == [company, contact]


def _has_all_active(view: View, index: Index) -> bool:
    (reach,) = reaches(view.connection, view.mapping, [index])
    return view.mapping.statuses.active <= reach.rows.keys()


# --- what else the schema has --------------------------------------------------------------------------------


def companion_tables(view: View, rule: UniqueRule | None) -> Iterator[Observation]:
    """Tell whether message ids are remembered, and whether there is something to lock."""
    there = inspect(view.connection)
    yield _message_ids(view, there)
    if rule is UniqueRule.NONE:
        yield from _anchors(view, there)
    for each in misfits(view.connection, view.mapping, with_anchors=rule is UniqueRule.NONE):
        yield Observation(Check.COMPANION_TABLES, Level.FINDING, each.told, each.advice)


def _message_ids(view: View, there: Inspector) -> Observation:
    name = view.mapping.message_ids.name
    if not view.mapping.remember_messages:
        return Observation(
            Check.COMPANION_TABLES,
            Level.NOTE,
            Wording("message ids are ignored (", IGNORED, "): a redelivered message is counted again"),
        )
    if there.has_table(name, schema=view.schema):
        return Observation(
            Check.COMPANION_TABLES, Level.OK, "message ids are remembered: a redelivery is harmless"
        )
    return Observation(
        Check.COMPANION_TABLES,
        Level.FINDING,
        f"there is no table {name}: a message that has an id is refused",
        Wording(
            "`ticketrouter schema` prints it; or pass ",
            IGNORED,
            ", and a redelivered message is counted again",
        ),
    )


def _anchors(view: View, there: Inspector) -> Iterator[Observation]:
    ours = view.mapping.anchors
    if not there.has_table(ours.name, schema=view.schema):
        yield Observation(
            Check.COMPANION_TABLES,
            Level.FINDING,
            f"there is no table {ours.name}, which is locked where there is no unique rule",
            "build the index on active tickets, which needs no lock, or this table: `ticketrouter schema`",
        )
    tables = set(there.get_table_names(schema=view.schema))
    others = [name for name in tables if name.endswith(ANCHORS_SUFFIX) and name != ours.name]
    named = {anchors_name(table) for table in tables}
    columns = {column.name for column in ours.columns}
    several = sorted(
        name
        for name in others
        if name not in named
        and columns == {column["name"] for column in there.get_columns(name, schema=view.schema)}
    )
    if several:
        yield Observation(
            Check.COMPANION_TABLES,
            Level.FINDING,
            f"{', '.join(several)}: anchors that are named after no table; an application that guards the tickets by "
            f"them does not meet one that guards by {ours.name}",
            "end what writes them, or let it use the mapping of the other applications; then drop them",
            len(several),
        )


def transactions(view: View) -> Iterator[Observation]:
    """Tell what new connections, and the table or the file, are like for transactions."""
    for told in view.database.transactions.remarks(view.connection, view.mapping):
        yield Observation(Check.TRANSACTIONS, told.level, told.text, told.advice)


def columns(view: View) -> Iterator[Observation]:
    """Tell which columns nobody fills of a new row, and which words the status column does not keep as they are."""
    for each in left_empty(view.mapping, view.facts):
        example, level = {"column": each.column}, Level.FINDING if each.is_sure else Level.NOTE
        yield Observation(Check.COLUMNS, level, each.told, each.advice, 1, (example,))
    for wrong in misdeclared(view.mapping, view.facts, view.connection.dialect):
        level = Level.FINDING if wrong.is_sure else Level.NOTE
        yield Observation(Check.COLUMNS, level, wrong.told, wrong.advice, 1, ({"column": wrong.column},))
    for unfit in view.unfit:
        examples = tuple({"status": word} for word in unfit.words)
        yield Observation(
            Check.COLUMNS, Level.FINDING, unfit.told, unfit.advice, len(unfit.words), examples[: view.limit]
        )


def merged_ids(view: View) -> Iterator[Observation]:
    """Tell which columns of the key take ids for one that are others, and whether they hold such."""
    for field in view.merged:
        column, letter = view.column(field), view.to_the_letter(field)[0]
        of_company = (
            [] if field == "company_id" or not view.has("company_id") else [view.column("company_id")]
        )
        several = select(column).where(column.is_not(None), *view.of_desk).group_by(*of_company, column)
        several = several.having(func.count(letter.distinct()) > 1)
        count = int(
            view.connection.execute(select(func.count()).select_from(several.subquery())).scalar_one()
        )
        name = full_name(column)
        told = (
            f"{name} ({field}) takes ids for one that differ in case, in accents, or by blanks at their ends"
        )
        advice = (
            "bring such ids to one form before they come here, and in the rows that are there, or give the column a "
            "binary collation without padding: each form is one by itself to the library, and is refused where the other "
            "is in its way"
        )
        if count:
            there = f"{told}, and {said(count, 'id is', 'ids are')} there in several forms"
            yield Observation(Check.IDS, Level.FINDING, there, advice, count)
        else:
            yield Observation(Check.IDS, Level.NOTE, f"{told}; each that is there has one form", advice)


_NEARLY_FULL = 0.8


def ids(view: View) -> Iterator[Observation]:
    """Tell whether an id is one row's, and how much room is left for ids."""
    column = view.column("id")
    if index_of_ids(view.mapping, view.indexes) is None:
        told = what_is_not_proved(view.mapping, view.indexes)
        yield Observation(Check.IDS, Level.FINDING, told, what_proves_it(view.mapping))
    last_number, highest = view.database.catalogue.last_number, _highest_id(column.type)
    if last_number is None or highest is None:
        return
    used = max(
        (
            plain(number)
            for number in (
                view.connection.execute(select(func.max(column))).scalar(),
                last_number(view.connection, view.mapping),
            )
            if number is not None
        ),
        default=0,
    )
    share = used / highest
    told = f"{share:.1%} of the ids that {column.name} has room for are used"
    if share < _NEARLY_FULL:
        yield Observation(Check.IDS, Level.OK, told, count=used)
    else:
        yield Observation(Check.IDS, Level.FINDING, told, f"make {column.name} a BIGINT", used)


def _highest_id(type_: Any) -> int | None:
    if not isinstance(type_, Integer):
        return None
    unsigned = bool(getattr(type_, "unsigned", False))
    match type_:
        case BigInteger():
            bits = 64
        case mysql.MEDIUMINT():
            bits = 24
        case mysql.TINYINT():
            bits = 8
        case SmallInteger():
            bits = 16
        case _:
            bits = 32
    highest: int = 2 ** (bits if unsigned else bits - 1) - 1
    return highest
