"""The checks of an audit that count rows: statuses, duplicates, orphans, and tickets that point elsewhere.

Law of this file: a check takes a View and says what it sees. The database counts; what comes back is a few rows,
however many tickets there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnClause,
    ColumnElement,
    Integer,
    String,
    Subquery,
    Uuid,
    and_,
    case,
    column,
    desc,
    func,
    inspect,
    not_,
    or_,
    select,
    table,
    type_coerce,
)
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.types import TypeEngine

from ticketrouter.sqlalchemy.codecs import NO_WORD
from ticketrouter.sqlalchemy.dialects.base import Level
from ticketrouter.sqlalchemy.health.findings import (
    Check,
    Example,
    Observation,
    View,
    counted,
    plain,
    said,
)
from ticketrouter.sqlalchemy.stored_words import StoredWords, WordType
from ticketrouter.wording import ACTIVE, ALSO_CLOSED, FINAL, STORED, Wording

_IDS_OF_A_KEY = 10


def totals(view: View) -> tuple[int, int]:
    """Count the tickets, and the active ones among them."""
    row = view.connection.execute(
        select(func.count(), counted(view.active)).select_from(view.table).where(*view.of_desk)
    ).one()
    return int(row[0]), int(row[1])


# --- statuses ------------------------------------------------------------------------------------------------


def statuses(view: View) -> Iterator[Observation]:
    """Count the words that the scheme does not know, to the letter: what they mean nobody has said."""
    stored = view.words
    if isinstance(stored, StoredWords):
        yield _of_words(view, stored)
    else:
        told_by = view.mapping.told_by.name
        yield Observation(Check.STATUSES, Level.OK, f"a ticket is active while it has no {told_by}")


_SAY_IT = Wording(
    "say of each whether it is active (",
    ACTIVE,
    "), or one of a closed ticket that a message may reopen (",
    ALSO_CLOSED,
    ") or never reopens (",
    FINAL,
    "); where the column stores no words, give it a word, and say what is stored for that (",
    STORED,
    "); and say the same wherever the desk's words are said; give a row that has none one, and one that the database "
    "takes for an active word that very word",
)


def _of_words(view: View, stored: StoredWords) -> Observation:
    status, storage = view.column("status"), view.database.storage
    exact = stored.to_the_letter(status, storage)
    words = sorted(view.mapping.statuses.known)
    known = exact.in_([stored.to_the_letter(word, storage) for word in stored.literals(words)])
    number = func.count()
    every = (func.count().over().label("words"), func.sum(number).over().label("every"))
    # Of each word, as the collation may not: one row has it, and is active by it, as all its rows are.
    one: ColumnElement[Any] = func.min(status) if stored.are_texts or stored.are_plain else status
    if not stored.are_plain:
        one = type_coerce(one, WordType(stored))
    row = (one, number.label("tickets"), func.max(case((view.active, 1), else_=0)), *every)
    unknown = select(*row).where(or_(status.is_(None), not_(known)), *view.of_desk).group_by(exact)
    found = view.connection.execute(unknown.order_by(desc("tickets")).limit(max(view.limit, 1))).all()
    if not found:
        told = ", ".join(words)
        return Observation(Check.STATUSES, Level.OK, f"every status is one of the scheme's ({told})")
    decode = view.mapping.codecs(view.connection.dialect)["status"].decode
    seen = [
        {
            "status": NO_WORD if word is None else decode(word),
            "tickets": int(n),
            "counts_as": "active" if active else "closed",
        }
        for word, n, active, *_ in found
    ]
    return Observation(
        Check.STATUSES,
        Level.FINDING,
        f"{said(int(found[0].words), 'status', 'statuses')} that the scheme does not know: no message reopens such a "
        "ticket",
        _SAY_IT,
        int(found[0].every),
        tuple(seen[: view.limit]),
    )


# --- duplicates ----------------------------------------------------------------------------------------------


def duplicates(view: View) -> Iterator[Observation]:
    """Count the keys with more than one active ticket, in all and by connection, and show the worst."""
    keys = _crowded(view)
    tickets = keys.c.ticketrouter_n
    row = view.connection.execute(
        select(func.count(), func.coalesce(func.sum(tickets - 1), 0)).select_from(keys)
    ).one()
    count, more = int(row[0]), int(row[1])
    if not count:
        yield Observation(Check.DUPLICATES, Level.OK, "no key has more than one active ticket")
        return
    worst = view.connection.execute(
        select(keys).order_by(desc(tickets), *(keys.c[c.key] for c in view.key)).limit(view.limit)
    ).all()
    yield Observation(
        Check.DUPLICATES,
        Level.FINDING,
        f"{said(count, 'key has', 'keys have')} more than one active ticket: {said(more, 'ticket')} too many",
        "`ticketrouter repair` writes a plan that closes all but the most recently active of each",
        count,
        tuple(_key_example(view, row) for row in worst),
    )
    if view.has("connection_id"):
        yield _duplicates_per_connection(view, keys)


def _duplicates_per_connection(view: View, keys: Subquery) -> Observation:
    tickets = keys.c.ticketrouter_n
    connection = keys.c[view.column("connection_id").key]
    number = func.count().label("ticketrouter_keys")
    by_connection = view.connection.execute(
        select(connection, number, func.sum(tickets - 1))
        .group_by(connection)
        .order_by(desc(number), connection)
        .limit(view.limit)
    )
    decode = _decoder(view, "connection_id")
    return Observation(
        Check.DUPLICATES_PER_CONNECTION,
        Level.NOTE,
        "where the duplicates are",
        examples=tuple(
            {"connection_id": decode(name), "keys": int(keys_), "tickets_too_many": int(extra)}
            for name, keys_, extra in by_connection
        ),
    )


def _crowded(view: View) -> Subquery:
    number = func.count().label("ticketrouter_n")
    return (
        select(*view.key, number)
        .where(view.active, view.complete)
        .group_by(*view.exact_key)
        .having(func.count() > 1)
        .subquery()
    )


def _key_example(view: View, row: Sequence[Any]) -> Example:
    fields = [field for field in ("company_id", "contact_id", "connection_id") if view.has(field)]
    example = {field: _decoder(view, field)(value) for field, value in zip(fields, row, strict=False)}
    ticket = view.column("id")
    found = view.connection.execute(
        select(ticket)
        .where(view.active, *(c == value for c, value in zip(view.key, row, strict=False)))
        .order_by(view.mapping.last_change.desc(), ticket.desc())
        .limit(_IDS_OF_A_KEY)
    )
    decode = _decoder(view, "id")
    return example | {"tickets": int(row[-1]), "ticket_ids": [decode(id_) for id_ in found.scalars()]}


def _decoder(view: View, field: str) -> Callable[[Any], Any]:
    decode = view.mapping.codecs(view.connection.dialect)[field].decode

    def decoded(value: Any) -> Any:
        return plain(decode(value))

    return decoded


# --- rows that point nowhere, or elsewhere -------------------------------------------------------------------


def orphans(view: View) -> Iterator[Observation]:
    """Count the tickets without a contact, a connection or a company."""
    parts = {c.name: c.is_(None) for c in view.key}
    orphan = or_(*parts.values())
    row = view.connection.execute(
        select(
            counted(orphan), counted(and_(orphan, view.active)), *(counted(part) for part in parts.values())
        )
        .select_from(view.table)
        .where(*view.of_desk)
    ).one()
    of_all, active = int(row[0]), int(row[1])
    if not of_all:
        yield Observation(Check.ORPHANS, Level.OK, "every ticket has its contact, connection and company")
        return
    by_column = ", ".join(f"{int(n):,} without {name}" for name, n in zip(parts, row[2:], strict=True) if n)
    told = f"{said(of_all, 'ticket is an orphan', 'tickets are orphans')} ({by_column}), {active:,} of them active"
    if not active:
        yield Observation(Check.ORPHANS, Level.NOTE, f"{told}: no message finds them", count=of_all)
        return
    yield Observation(
        Check.ORPHANS,
        Level.FINDING,
        f"{told}: they stay in the agents' lists, and no message finds them",
        "give them back what they lack, or close them: `ticketrouter repair --orphans`",
        active,
        _tickets(view, and_(orphan, view.active)),
    )


def _tickets(view: View, condition: ColumnElement[bool]) -> tuple[Example, ...]:
    found = view.connection.execute(
        select(view.column("id")).where(condition).order_by(view.column("id")).limit(view.limit)
    )
    decode = _decoder(view, "id")
    return tuple({"ticket_id": decode(id_)} for id_ in found.scalars())


def contacts(view: View) -> Iterator[Observation]:
    """Count the tickets whose contact is gone, or is another company's."""
    yield from _pointing(view, Check.CONTACTS, _related(view, "contact_id"), "contact")


def connections(view: View) -> Iterator[Observation]:
    """Count the tickets whose connection is gone, or is another company's."""
    if view.has("connection_id"):
        yield from _pointing(view, Check.CONNECTIONS, _related(view, "connection_id"), "connection")


class _Related(NamedTuple):
    """The table that a column of the key points at; a column that it lacks is None."""

    table: TableClause
    field: str
    id: ColumnClause[Any]
    company: ColumnClause[Any] | None
    group: ColumnClause[Any] | None


def _pointing(view: View, check: Check, related: _Related | None, what: str) -> Iterator[Observation]:
    if related is None:
        yield Observation(check, Level.NOTE, f"no table of {what}s is known, so nothing was compared with it")
        return
    gone = related.id.is_(None)
    company = related.company
    other = None if company is None else company != view.column("company_id")
    asked = [counted(gone), *([] if other is None else [counted(and_(not_(gone), other))])]
    row = view.connection.execute(
        select(*asked)
        .select_from(_joined(view, related))
        .where(view.column(related.field).is_not(None), *view.of_desk)
    ).one()
    if row[0]:
        yield Observation(
            check,
            Level.FINDING,
            f"{said(int(row[0]), 'ticket names', 'tickets name')} a {what} that is not in {related.table.name}",
            "they are orphans: see there",
            int(row[0]),
            _examples(view, related, gone, ()),
        )
    if other is not None and company is not None and row[1]:
        yield Observation(
            check,
            Level.FINDING,
            f"{said(int(row[1]), 'ticket points', 'tickets point')} at another company's {what}",
            "find out which of the two is right, before a message is shown to the wrong company",
            int(row[1]),
            _examples(
                view,
                related,
                and_(not_(gone), other),
                (("company_id", view.column("company_id")), (f"{what}_company_id", company)),
            ),
        )
    if not any(row):
        compared = "" if other is None else ", of the same company"
        yield Observation(check, Level.OK, f"every ticket's {what} is in {related.table.name}{compared}")


def _joined(view: View, related: _Related) -> Any:
    return view.table.outerjoin(related.table, related.id == view.column(related.field))


def _examples(
    view: View,
    related: _Related,
    condition: ColumnElement[bool],
    more: tuple[tuple[str, ColumnElement[Any]], ...],
) -> tuple[Example, ...]:
    names = ["ticket_id", related.field, *(name for name, _ in more)]
    found = view.connection.execute(
        select(view.column("id"), view.column(related.field), *(c for _, c in more))
        .select_from(_joined(view, related))
        .where(view.column(related.field).is_not(None), condition, *view.of_desk)
        .order_by(view.column("id"))
        .limit(view.limit)
    )
    return tuple(dict(zip(names, map(plain, row), strict=True)) for row in found)


_LINE = {"contact_id": ("Contacts",), "connection_id": ("Whatsapps",)}
"""What the Whatsapp line calls the tables, where no foreign key says it."""


def _related(view: View, field: str) -> _Related | None:
    """Find the table that a column of the key points at, if its ids can be compared with the column."""
    there = inspect(view.connection)
    name = view.name(field)
    keys = [
        (key["referred_table"], key["referred_schema"], key["referred_columns"][0])
        for key in there.get_foreign_keys(view.table.name, schema=view.schema)
        if key["constrained_columns"] == [name]
    ]
    usual = [
        (found, view.schema, "id") for found in _LINE[field] if there.has_table(found, schema=view.schema)
    ]
    for found, schema, id_ in (*keys, *usual):
        columns = {c["name"]: c["type"] for c in there.get_columns(found, schema=schema)}
        if id_ not in columns or not _comparable(columns[id_], view.bare(field)):
            continue
        source = table(found, *(column(each) for each in columns), schema=schema)
        return _Related(
            source,
            field,
            source.c[id_],
            *(_same(view, source, columns, other) for other in ("company_id", "is_group")),
        )
    return None


def _same(
    view: View, source: TableClause, columns: dict[str, TypeEngine[Any]], field: str
) -> ColumnClause[Any] | None:
    """Return the other table's column that is called as the field's is, and can be compared with it."""
    if not view.has(field):
        return None
    name = next((each for each in columns if each.lower() == view.name(field).lower()), None)
    if name is None or not _comparable(columns[name], view.bare(field)):
        return None
    found: ColumnClause[Any] = source.c[name]
    return found


def _comparable(one: TypeEngine[Any], other: TypeEngine[Any]) -> bool:
    kinds: tuple[type[TypeEngine[Any]], ...] = (Boolean, Integer, Uuid, String)
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in kinds)


# --- groups --------------------------------------------------------------------------------------------------


def groups(view: View) -> Iterator[Observation]:
    """Count the tickets that say of their contact what it is not: a group, or a person."""
    if not view.has("is_group"):
        return
    related = _related(view, "contact_id")
    if related is None or related.group is None:
        yield from _both(view)
        return
    wrong = related.group != view.column("is_group")
    row = view.connection.execute(
        select(counted(wrong), counted(and_(wrong, view.active)))
        .select_from(_joined(view, related))
        .where(*view.of_desk)
    ).one()
    count, active = int(row[0]), int(row[1])
    if not count:
        yield Observation(Check.GROUPS, Level.OK, "tickets and contacts agree on what is a group")
        return
    yield Observation(
        Check.GROUPS,
        Level.FINDING if active else Level.NOTE,
        f"{said(count, 'ticket disagrees', 'tickets disagree')} with {related.table.name} on whether the contact is a "
        f"group, {active:,} of them active",
        f"compare {view.name('is_group')} of both, and mend the wrong one: in a group chat the contact is the group",
        count,
        _examples(
            view,
            related,
            wrong,
            (("is_group", view.column("is_group")), ("contact_is_group", related.group)),
        ),
    )


def _both(view: View) -> Iterator[Observation]:
    """Where nothing says which contact is a group, its tickets must at least agree."""
    columns = [c for c in view.key if c is not view.mapping.columns.get("connection_id")]
    of_group, of_all = counted(view.column("is_group").is_(True)), func.count()
    if isinstance(view.bare("is_group"), Integer):
        of_group = counted(view.column("is_group") != 0)
    torn = (
        select(*columns)
        .where(view.complete, *view.of_desk)
        .group_by(*columns)
        .having(and_(of_group > 0, of_group < of_all))
        .subquery()
    )
    count = int(view.connection.execute(select(func.count()).select_from(torn)).scalar_one())
    if not count:
        yield Observation(
            Check.GROUPS, Level.OK, "the tickets of each contact agree on whether it is a group"
        )
        return
    found = view.connection.execute(select(torn).order_by(*torn.c).limit(view.limit))
    fields = [field for field in ("company_id", "contact_id") if view.has(field)]
    yield Observation(
        Check.GROUPS,
        Level.FINDING,
        f"{said(count, 'contact has', 'contacts have')} tickets as a group and tickets as a person",
        "in a group chat the contact is the group, never who wrote in it",
        count,
        tuple(
            {field: _decoder(view, field)(value) for field, value in zip(fields, row, strict=True)}
            for row in found
        ),
    )
