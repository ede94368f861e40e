"""Which unique rule a tickets table has, found by what it enforces, never by its name.

Law of this file: an index is the rule only if no row that we take for an active ticket can be left out by it. What is
not proved is no rule, and it is said why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen
from sqlalchemy import Connection, Dialect

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import catalogue_of, indexes, reaches
from ticketrouter.sqlalchemy.codecs import keeps_to_the_letter
from ticketrouter.sqlalchemy.columns import KEY, MappingError
from ticketrouter.sqlalchemy.facts import ColumnFacts, Detected, Index, Reach
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.filling import check_fields, check_there, facts_of, needed
from ticketrouter.sqlalchemy.fit_types import check_types
from ticketrouter.sqlalchemy.fit_words import check_words, met_words
from ticketrouter.sqlalchemy.ids import proved_index_of_ids
from ticketrouter.sqlalchemy.mapping import TicketMapping, check_place
from ticketrouter.sqlalchemy.row_condition import OPAQUE


@frozen
class Judged:
    """A unique index about contacts, and what it does.

    Args:
        index: the index.
        rule: the rule that it enforces; NONE: none.
        words: the statuses that the rule is about, of those that are known; None: all.
        why: why it enforces none; empty: it does.
        by: the columns by which it tells active tickets of one key apart, or leaves some of them out.
        left_out: the active statuses that it leaves out.
        problem: why it can be no part of any application; empty: it can.
        vacuous: whether it forbids nothing, because the ticket's own id is in it.
        refuses_closing: whether a ticket cannot be closed while another closed one of its key is there.
        for_ever: whether it limits closed tickets as it does active ones.
    """

    index: Index
    rule: UniqueRule = UniqueRule.NONE
    words: frozenset[str] | None = None
    why: str = ""
    by: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    problem: str = ""
    vacuous: bool = False
    refuses_closing: bool = False
    for_ever: bool = False

    @property
    def is_narrower(self) -> bool:
        """Whether it is about active tickets, and lets several of a key be by another column: they are no duplicates."""
        return bool(self.by) and has_condition(self.index) and not self.vacuous

    @property
    def in_the_way(self) -> bool:
        """Whether the rule on active tickets is of no use beside it, or it is of none beside the rule."""
        return bool(self.for_ever or self.problem or self.vacuous or self.refuses_closing)


def detect_unique_rule(connection: Connection, mapping: TicketMapping) -> UniqueRule:
    """Find which unique rule the tickets table enforces.

    Args:
        connection: a connection to the database.
        mapping: where the tickets are.

    Returns:
        The strictest rule that a unique index or constraint enforces; NONE if there is none.

    Raises:
        MappingError: if it is no Connection, if the table is not there, or if a constraint that matters is deferrable.

    Statements:
        Two or three look-ups in the catalogue. Where unique indexes on contacts have expressions or a predicate, one
        `SELECT` that reads no row for all of them; on PostgreSQL one, and an `EXPLAIN`, for each, in a savepoint.
    """
    check_place(connection, mapping)
    with translated():
        return detect(connection, mapping).rule


def detect_all(connection: Connection, mapping: TicketMapping) -> Detected:
    """Find the unique rule and the index of the ids, by the same look-ups in the catalogue.

    Raises:
        MappingError: as `detect_unique_rule`; and if columns are missing, if nothing proves the id unique, if nobody fills a column, or if the
            status column cannot hold the words, or takes two of them for one.

    Statements:
        One more `SELECT` than `detect_unique_rule`, of the words, in a savepoint on PostgreSQL; and one more where the
        row condition asks the status.
    """
    found = tuple(indexes(connection, mapping))
    if found:
        check_there(mapping, found[0].table, by_case=catalogue_of(connection).tells_cases)
    of_ids = proved_index_of_ids(mapping, found)
    check_fields(mapping, of_ids.table)
    check_types(mapping, of_ids.table, connection.dialect)
    check_words(connection, mapping, of_ids.table)
    unique = frozenset(index.bare for index in found if index.unique)
    named = catalogue_of(connection).named(of_ids)
    last_change = facts_of(of_ids.table, mapping.last_change)
    return evolve(
        _detected(connection, mapping, found),
        of_ids=named,
        unique=unique,
        needed=needed(mapping, of_ids.table),
        digits=None if last_change is None else last_change.digits,
        coarse=last_change is not None and last_change.coarse,
        merged=merged(connection.dialect, mapping, of_ids.table),
        met=met_words(connection, mapping, of_ids.table),
        stripped=_stripped(mapping, of_ids.table),
    )


def _stripped(mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> frozenset[str]:
    there = {field: facts_of(facts, column) for field, column in mapping.columns.items()}
    return frozenset(field for field, found in there.items() if found is not None and found.strips)


def merged(dialect: Dialect, mapping: TicketMapping, facts: Mapping[str, ColumnFacts]) -> frozenset[str]:
    """Return the fields of a key whose columns take texts for equal that are others."""
    there = {field: facts_of(facts, mapping.columns[field]) for field in KEY if field in mapping.columns}
    return frozenset(
        field
        for field, found in there.items()
        if found is not None and found.merges and keeps_to_the_letter(mapping.columns[field].type, dialect)
    )


def detect(connection: Connection, mapping: TicketMapping) -> Detected:
    """Find the unique rule and the index behind it: see `detect_unique_rule`."""
    return _detected(connection, mapping, indexes(connection, mapping))


def _detected(connection: Connection, mapping: TicketMapping, all_: Iterable[Index]) -> Detected:
    there = list(all_)
    found = judged_indexes(connection, mapping, there)
    if problem := next((judged.problem for judged in found if judged.problem), None):
        raise MappingError(problem)
    best, ways = max(found, key=_strictness, default=None), catalogue_of(connection).ways(mapping, there)
    if best is None or best.rule is UniqueRule.NONE:
        return Detected(UniqueRule.NONE, ways=ways)
    return Detected(best.rule, best.index, best.words, ways)


STRICTNESS = (
    UniqueRule.NONE,
    UniqueRule.ACTIVE_PER_CONNECTION,
    UniqueRule.ONE_PER_CONNECTION,
    UniqueRule.ONE_PER_CONTACT,
)


def _strictness(judged: Judged) -> tuple[int, bool, int, int]:
    """Rank what an index enforces: of two with the same rule, the one that more rows are in the way of."""
    words = 0 if judged.words is None else len(judged.words)
    return STRICTNESS.index(judged.rule), judged.words is None, words, -len(judged.index.parts)


def judged_indexes(connection: Connection, mapping: TicketMapping, found: Iterable[Index]) -> list[Judged]:
    """Judge each unique index that is about contacts; the primary key is not among them, if the id is in it.

    Statements:
        As `detect_unique_rule`, without the look-ups in the catalogue.
    """
    # An invalid one may have duplicates in it.
    shaped = [
        _shaped(mapping, index)
        for index in found
        if index.unique and index.valid and _is_about(mapping, index)
    ]
    open_ = [judged.index for judged in shaped if not judged.why and has_condition(judged.index)]
    reached = iter(reaches(connection, mapping, open_))
    return [
        judged
        if judged.why
        else _ruled(mapping, judged, next(reached) if has_condition(judged.index) else None)
        for judged in shaped
    ]


def _is_about(mapping: TicketMapping, index: Index) -> bool:
    contact = mapping.columns["contact_id"].name
    if index.primary and mapping.columns["id"].name in index.columns:
        return False
    reads = (
        *index.columns,
        *index.reads,
        *(c for each in index.columns if each for c in index.table[each].reads),
    )
    return contact in reads or any(contact in expression for expression in index.computed)


def has_condition(index: Index) -> bool:
    """Tell whether not every row is in an index in the same way."""
    return index.predicate is not None or bool(index.computed)


# --- what an index is over -----------------------------------------------------------------------------------


def _shaped(mapping: TicketMapping, index: Index) -> Judged:
    """Judge an index by its plain columns alone; without a `why` it depends on its expressions and its predicate."""
    names = {column.name: field for field, column in mapping.columns.items()}
    fields = {names.get(column, column) for column in index.plain_columns}
    strangers = [column for column in index.plain_columns if names.get(column) not in KEY]
    judged = Judged(index)
    if "id" in fields:
        return evolve(judged, why="it has the ticket's own id in it, so it forbids nothing", vacuous=True)
    if strangers:
        whole = index.predicate is None and not index.computed
        return evolve(
            judged,
            why=f"it tells tickets of one key apart by {_listed(strangers)}",
            by=tuple(strangers),
            refuses_closing=whole and "status" in fields and fields <= _OF_THE_TICKET,
            for_ever=whole and fields <= {*KEY, "is_group"},
        )
    if "contact_id" not in fields:
        return evolve(judged, why="it is over an expression, and not over the contact itself")
    if index.unfit:
        return evolve(judged, why=index.unfit)
    return judged


_OF_THE_TICKET = {*KEY, "status", "is_group", "user_id", "queue_id"}
"""What two closed tickets of a key may have in common; another column, as a uuid, would tell them apart."""


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns)


# --- which rows it has ---------------------------------------------------------------------------------------


def _ruled(mapping: TicketMapping, judged: Judged, reach: Reach | None) -> Judged:
    """Judge an index over columns of the key by the rows that it has; None: it has all."""
    if reach is None:
        return _with_rule(mapping, judged, None)
    if reach.by or reach.unclear:
        depends = f"whether a ticket is in it depends on {_listed(reach.by)}"
        return evolve(judged, why=reach.unclear or depends, by=reach.by)
    active = mapping.statuses.active
    if left_out := active - reach.rows.keys():
        why = f"it leaves out the active tickets that are {_listed(sorted(left_out))}"
        return evolve(judged, why=why, left_out=left_out)
    values = {reach.rows[word] for word in active}
    same = frozenset(word for word, value in reach.rows.items() if value in values)
    closed = mapping.statuses.closed
    if closed in reach.rows and closed not in same:
        return evolve(judged, why="it limits closed tickets beside the active one", refuses_closing=True)
    if len(values) > 1:
        return evolve(judged, why="it tells the active statuses apart")
    return _with_rule(mapping, judged, None if reach.others and same == reach.known else same)


def _with_rule(mapping: TicketMapping, judged: Judged, words: frozenset[str] | None) -> Judged:
    index = judged.index
    if index.deferrable:
        return evolve(
            judged,
            problem=f"the unique constraint {index.name} is deferrable, so no insert can ask whether a key is taken: "
            "make it anew without DEFERRABLE",
        )
    for_ever = words is None or mapping.statuses.closed in words
    if mapping.where is not None and mapping.where.is_opaque:
        why = f"of the row condition, `where`, nothing can be proved, as it {OPAQUE}"
        return evolve(judged, why=why, for_ever=for_ever)
    connection = mapping.columns.get("connection_id")
    if connection is not None and connection.name not in index.plain_columns:
        rule = UniqueRule.ONE_PER_CONTACT
    elif for_ever:
        rule = UniqueRule.ONE_PER_CONNECTION
    else:
        rule = UniqueRule.ACTIVE_PER_CONNECTION
    full = rule is not UniqueRule.ACTIVE_PER_CONNECTION
    return evolve(judged, rule=rule, words=words, for_ever=full)
