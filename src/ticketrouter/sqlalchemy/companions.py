"""Whether the companion tables that a database has can keep the ids of the tickets: those of another desk cannot.

Law of this file: it judges what a catalogue has said of columns. A table of this name that would refuse a write of ours,
or a comparison with the tickets, is told before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen
from sqlalchemy import Connection, Table

from ticketrouter.sqlalchemy.codecs import Passage
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.facts import Kept, schema_of
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.wording import Wording, listed, passing


@frozen
class Misfit:
    """A companion table that is not this desk's.

    Args:
        table: its name.
        told: what is wrong.
        advice: what to do about it.
    """

    table: str
    told: str
    advice: str


_FIELDS = {
    "company_id": "company_id",
    "connection_id": "connection_id",
    "contact_id": "contact_id",
    "ticket_id": "id",
}
"""The columns of companions that keep ids, and whose."""


def check_companions(connection: Connection, mapping: TicketMapping, *, with_anchors: bool) -> None:
    """Raise where a companion table is there that is not this desk's.

    Args:
        connection: where to ask.
        mapping: where the tickets are.
        with_anchors: whether anchors are written, as there is no unique rule.

    Raises:
        MappingError: if there is one.

    Statements:
        One look-up in the catalogue.
    """
    found = misfits(connection, mapping, with_anchors=with_anchors)
    if told := listed((Wording(each.told, ": ", each.advice) for each in found), "; "):
        raise MappingError(told)


def misfits(connection: Connection, mapping: TicketMapping, *, with_anchors: bool) -> Iterator[Misfit]:
    """Give what is wrong with the companion tables that are there: see `check_companions`."""
    used = [mapping.message_ids] if mapping.remember_messages else []
    used += [mapping.anchors] if with_anchors else []
    if not used:
        return
    names = [mapping.table.name, *(table.name for table in used)]
    there = database_of(connection.dialect).catalogue.kept(connection, schema_of(connection, mapping), names)
    tickets = there.get(mapping.table.name, {})
    for table in used:
        if table.name not in there:
            continue
        wrong = list(_wrong(connection, mapping, table, there[table.name], tickets))
        if wrong:
            yield Misfit(table.name, "; ".join(wrong), _advice(mapping, table))


def _wrong(
    connection: Connection,
    mapping: TicketMapping,
    table: Table,
    there: Mapping[str, Kept],
    tickets: Mapping[str, Kept],
) -> Iterator[str]:
    """Say what is wrong with one of them, by its columns that are there."""
    if missing := [column.name for column in table.columns if column.name not in there]:
        yield f"the table {table.fullname} has no column {', '.join(missing)}, and is no companion of the tickets"
    for name in sorted(_FIELDS.keys() & there.keys() & {column.name for column in table.columns}):
        field, found = _FIELDS[name], there[name]
        column = mapping.columns.get(field)
        if column is None:
            only = mapping.only_company if field == "company_id" else mapping.only_connection
            if found.kind and found.kind != _KINDS.get(type(only), found.kind):
                yield f"{table.fullname}.{name} is of the type {found.type}, which cannot hold {only!r}"
            continue
        ids = tickets.get(column.name)
        if ids is None:
            continue
        why = _why(found, ids, Passage(column.type, connection.dialect))
        mixes = database_of(connection.dialect).catalogue.mixes
        # The others are compared with what is bound, and with no column.
        if field == "id" and not why and not mixes(found.collation, ids.collation):
            why = f": the database does not compare {found.collation} with {ids.collation}"
        if why:
            yield (
                f"{table.fullname}.{name} is of the type {found.type}, and {mapping.table.fullname}.{column.name} "
                f"({field}) of the type {ids.type}{why}"
            )


_KINDS: Mapping[type, str] = {int: "number", str: "text"}


def _why(found: Kept, ids: Kept, passage: Passage) -> str:
    """Say why a column cannot keep the ids of another one; empty: it can."""
    if found.kind and ids.kind and found.kind != ids.kind:
        return ", with which the database does not compare it, or not rightly"
    if found.numbers is not None and ids.numbers is not None:
        beyond = found.numbers[1] + 1
        return ", and has no room for each id" if beyond <= ids.numbers[1] and passage.fits(beyond) else ""
    if found.longest is not None and (ids.longest is None or ids.longest > found.longest):
        return ", and has no room for each id" if passage.fits("x" * (found.longest + 1)) else ""
    return ""


def _advice(mapping: TicketMapping, table: Table) -> Wording:
    if table is mapping.anchors:
        return Wording(
            "it is named after the tickets, whose type has changed, or is said otherwise by the mapping: drop it, as it "
            "keeps nothing, and make it anew (`ticketrouter schema` prints it)"
        )
    return Wording(
        "it is that of another desk, or older than the tickets: pass ",
        passing("prefix", '"..."'),
        " to the TicketMapping for a table of its own, or make it anew (`ticketrouter schema` prints it)",
    )
