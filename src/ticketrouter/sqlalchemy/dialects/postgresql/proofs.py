"""What the expressions and the predicate of a unique index make of the rows with each status: PostgreSQL proves it itself.

Law of this file: an index has all rows of a status only if that is proved. Nothing is written, and no row of the host
is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError

from ticketrouter.sqlalchemy.closing_time import ClosingTime
from ticketrouter.sqlalchemy.dialects.base import is_autocommit
from ticketrouter.sqlalchemy.dialects.postgresql.errors import ERRORS
from ticketrouter.sqlalchemy.dialects.postgresql.plans import NAMES
from ticketrouter.sqlalchemy.error_codes import code_of, row_in
from ticketrouter.sqlalchemy.facts import (
    ColumnFacts,
    Index,
    Reach,
    Value,
    escaped,
    key_columns,
    quoted,
    table_name,
)
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import plain_dialect
from ticketrouter.sqlalchemy.proofs import (
    NOT_UNDERSTOOD,
    Understanding,
    asked_of_the_desk,
    constants_of,
    written,
)
from ticketrouter.sqlalchemy.stored_words import StoredWords

_T = TypeVar("_T")


def _nowhere(*_: object) -> str:
    """Say that no type makes something else of what is stored: a constant that it cannot hold is an error."""
    return ""


_UNDERSTANDING = Understanding(NAMES.url, backslashes=False, functions=False, unclear_type=_nowhere)

_NOT_ALLOWED = "42501"
_EXACT = frozenset({"text", "varchar", "enum", "int2", "int4", "int8", "bool", "uuid"})
"""The types whose values are equal only where they are the same, with the collations that most columns have."""


def reach(connection: Connection, mapping: TicketMapping, index: Index) -> Reach:
    """Tell which rows an index has, which has expressions or a predicate.

    Statements:
        A `SELECT` without a table and, where there is a predicate, an `EXPLAIN`, in a savepoint.
    """
    stored = mapping.words(connection.dialect)
    mine, of_desk = {mapping.told_by.name, *key_columns(mapping)}, asked_of_the_desk(mapping)
    read = (*index.reads, *_computed_from(index))
    decided_by = [c for c in index.decided_by if c not in of_desk]
    if others := tuple(dict.fromkeys(c for c in (*read, *decided_by) if c not in mine)):
        return Reach(by=others)
    if isinstance(stored, ClosingTime):
        return _reach_of_time(connection, mapping, index, stored)
    return _reach_of_words(connection, mapping, index, stored)


def _reach_of_words(
    connection: Connection, mapping: TicketMapping, index: Index, stored: StoredWords
) -> Reach:
    """Tell which rows an index has of a table with a status column: see `reach`."""
    status, key = mapping.told_by.name, key_columns(mapping)
    mine, read = {status, *key}, (*index.reads, *_computed_from(index))
    exact = (
        index.table[status].type in _EXACT and index.table[status].deterministic and not _has_own_code(index)
    )
    if index.computed and not (exact and set(read) == {status}):
        return Reach(unclear=NOT_UNDERSTOOD)
    words = _words(mapping, index, stored)
    if by_desk := tuple(dict.fromkeys(c for c in index.decided_by if c not in mine)):
        return _reach_by_proof(connection, mapping, index, words, by_desk)
    implied, rows = _proved(connection, mapping, index, words, exact=exact)
    if rows is None:
        return Reach(unclear="its condition cannot be computed of every status")
    if not implied and mapping.statuses.active <= rows.keys() | _by_the_key(mapping, index, rows):
        return Reach(unclear="PostgreSQL does not prove that it has every active ticket of every key")
    return Reach(rows, frozenset(words), others=status not in {*read, *index.decided_by})


def _reach_of_time(
    connection: Connection, mapping: TicketMapping, index: Index, stored: ClosingTime
) -> Reach:
    """Tell which rows an index has of a table whose time of closing tells active tickets: what is understood is no question.

    Statements:
        Where it is not understood, an `EXPLAIN` for each word, in a savepoint.
    """
    read = _UNDERSTANDING.reach_of_time(mapping, index, stored)
    if not read.unclear or index.computed or index.predicate is None:
        return read

    def is_proved(word: str) -> bool:
        return bool(_tried(connection, lambda: _is_arbiter(connection, mapping, index, {word}))[0])

    if not is_proved(stored.active):
        return read
    words = frozenset({stored.active, stored.closed})
    return Reach({word: () for word in words if word == stored.active or is_proved(word)}, words)


def _reach_by_proof(
    connection: Connection,
    mapping: TicketMapping,
    index: Index,
    words: Mapping[str, Any],
    by: tuple[str, ...],
) -> Reach:
    """Tell which rows an index has whose predicate speaks of columns of `where`: each word is proved by itself.

    Statements:
        A `SELECT` without a table and an `EXPLAIN` for each word and for all active ones, each in a savepoint.
    """
    values, _ = _tried(connection, lambda: _values(connection, mapping, index, words, taken="true"))
    if values is None:
        return Reach(unclear="its condition cannot be computed of every status")

    def is_proved(*some: str) -> bool:
        return bool(_tried(connection, lambda: _is_arbiter(connection, mapping, index, some))[0])

    active = mapping.statuses.active
    if not is_proved(*sorted(active)):
        return Reach(by=by)
    rows = {word: values[word] for word in words if word in values and (word in active or is_proved(word))}
    return Reach(rows, frozenset(words), others=mapping.columns["status"].name not in index.decided_by)


def _by_the_key(mapping: TicketMapping, index: Index, rows: Mapping[str, object]) -> frozenset[str]:
    """Return the words that an index may leave out of the made-up key alone."""
    depends = set(index.decided_by) & set(key_columns(mapping))
    return mapping.statuses.active - rows.keys() if depends else frozenset()


def _proved(
    connection: Connection, mapping: TicketMapping, index: Index, words: Mapping[str, Any], *, exact: bool
) -> tuple[bool, dict[str, tuple[Value, ...]] | None]:
    """Tell whether each active ticket with its key is proved to be in an index, and what is computed of each word.

    An index without a predicate has every row, and only a unique one is asked whether it is the rule.
    """
    if index.predicate is None or not index.unique:
        return True, _tried(connection, lambda: _values(connection, mapping, index, words))[0]
    both, refusal = _tried(
        connection,
        lambda: (
            _is_arbiter(connection, mapping, index, mapping.statuses.active),
            _values(connection, mapping, index, words),
        ),
    )
    if both is not None:
        return both
    rows, _ = _tried(connection, lambda: _values(connection, mapping, index, words))
    # Who may only read may not ask. What was computed of every word is a proof too, where only equal words are the
    # same and nothing but the status decides.
    only_status = set(index.decided_by) == {mapping.columns["status"].name}
    computed = rows is not None and mapping.statuses.active <= rows.keys()
    return refusal == _NOT_ALLOWED and exact and only_status and computed, rows


def _computed_from(index: Index) -> Iterator[str]:
    for column in index.columns:
        if column is not None and index.table[column].generated is not None:
            yield from index.table[column].reads


def _has_own_code(index: Index) -> bool:
    return index.own_code or any(c is not None and index.table[c].own_code for c in index.columns)


def _is_arbiter(
    connection: Connection, mapping: TicketMapping, index: Index, statuses: Collection[str]
) -> bool:
    """Let PostgreSQL prove that each ticket of such a status with its key is in the index; nothing is inserted."""
    whole = " AND ".join(f"{quoted(connection, column)} IS NOT NULL" for column in key_columns(mapping))
    stored = mapping.words(connection.dialect)
    active = f"{stored.sql(statuses, quoted(connection, mapping.told_by.name), stored.as_sql)} AND {whole}"
    if asked_of_the_desk(mapping) and mapping.where is not None:
        dialect = plain_dialect(NAMES.url)
        active += f" AND {mapping.where.sql(dialect, lambda name: quoted(connection, name))}"
    insert = (
        f"EXPLAIN (FORMAT JSON) INSERT INTO {table_name(connection, mapping)} DEFAULT VALUES "  # noqa: S608 - as above
        f"ON CONFLICT ({', '.join(index.parts)}) WHERE {active} DO NOTHING"
    )
    found = connection.execute(text(escaped(insert))).scalar_one()
    plan = json.loads(found) if isinstance(found, str) else found
    # A rule of the table that does nothing instead leaves no plan.
    return any(index.bare in each["Plan"].get("Conflict Arbiter Indexes", ()) for each in plan)


def _tried(connection: Connection, ask: Callable[[], _T]) -> tuple[_T | None, str | int | None]:
    """Return what the server answers, or None and the code of its refusal, after which the host's transaction goes on."""
    try:
        # A connection in AUTOCOMMIT has no transaction that could be lost.
        with nullcontext() if is_autocommit(connection) else connection.begin_nested():
            return ask(), None
    except DBAPIError as error:
        if row_in(error, [ERRORS]).fault.is_retryable:
            raise
        return None, code_of(error)


def _words(mapping: TicketMapping, index: Index, stored: StoredWords) -> dict[str, Any]:
    """Return what is stored for each word that a row may have, as far as that is known."""
    facts = index.table[mapping.columns["status"].name]
    found = constants_of(stored)
    if facts.words:
        return {stored.word(each): each for each in facts.words}
    if all(isinstance(each, bool) for each in found.values()):
        return found  # there is no third truth
    numbers = all(isinstance(each, int) for each in found.values())
    spoken = {each for sql in written(index) for each in (_numbers(sql) if numbers else _texts(sql, facts))}
    return found | {stored.name(each): each for each in spoken.difference(found.values())}


def _texts(sql: str, status: ColumnFacts) -> Iterator[str]:
    """Give the texts that the status may be: others are what a further column is compared with."""
    # A name may have such quotes in it too.
    found = re.findall(r"""'((?:[^']|'')+)'|"(?:[^"]|"")*\"""", sql)
    yield from (
        each for each in (each.replace("''", "'") for each in found) if each and _may_be(each, status)
    )


def _may_be(text_: str, status: ColumnFacts) -> bool:
    if status.type == "uuid":
        return bool(_UUID.fullmatch(text_))
    return status.longest is None or len(text_) <= status.longest


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As PostgreSQL writes one."""


def _numbers(sql: str) -> Iterator[int]:
    """Give the numbers that every integer column has room for; a negative one stands in quotes, and a name may have some."""
    found = re.finditer(
        r"""'(-?[0-9]{1,4})'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w.])([0-9]{1,4})(?![\w.])""", sql
    )
    yield from (int(each[1] or each[2]) for each in found if each[1] or each[2])


def _values(
    connection: Connection,
    mapping: TicketMapping,
    index: Index,
    words: Mapping[str, Any],
    taken: str | None = None,
) -> dict[str, tuple[Value, ...]]:
    """Compute the index's expressions of a made-up row for each word; PostgreSQL makes rows of the table's own type."""
    status = mapping.columns["status"].name
    key = {column: _MADE_UP.get(index.table[column].category, _ID) for column in key_columns(mapping)}
    named = sorted(words)
    made = {f"p{n}": json.dumps({**key, status: _in_json(words[word])}) for n, word in enumerate(named)}
    values = ", ".join(f"({n}, CAST(:p{n} AS jsonb))" for n in range(len(named)))
    taken = taken or ("true" if index.predicate is None else index.predicate)
    computed = "".join(f", CAST(({each}) AS text)" for each in index.computed)
    table = escaped(table_name(connection, mapping))
    query = text(
        f"SELECT ticketrouter_n, ({escaped(taken)}) IS TRUE{escaped(computed)} "  # noqa: S608 - the catalogue's own
        f"FROM (VALUES {values}) AS ticketrouter_rows(ticketrouter_n, ticketrouter_row) CROSS JOIN LATERAL "
        f"jsonb_populate_record(CAST(NULL AS {table}), ticketrouter_row) AS ticketrouter_ticket"
    ).bindparams(*(bindparam(name, value) for name, value in made.items()))
    return {
        named[n]: tuple(given)
        for n, is_in, *given in connection.execute(query)
        if is_in and (index.nulls_equal or None not in given)
    }


def _in_json(constant: Any) -> Any:
    return f"\\x{constant.hex()}" if isinstance(constant, bytes) else constant


_MADE_UP: Mapping[str, Any] = {"N": 1, "S": "a"}
_ID = "00000000-0000-0000-0000-000000000001"
