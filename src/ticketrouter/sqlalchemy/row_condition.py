"""The row condition: which rows of a host's table exist for its desk.

Law of this file: what is wrong with a condition is said when it is made. Its constants stand in statements as literals,
because no database matches a bound value with a partial index, and because a cached statement would keep another
condition's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    Interval,
    Numeric,
    String,
    Table,
    TextClause,
    and_,
    literal_column,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import coercions, operators, roles, visitors
from sqlalchemy.sql.elements import BooleanClauseList, Cast, ClauseList, ColumnClause, Extract, Grouping
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Alias, SelectBase
from sqlalchemy.sql.util import ClauseAdapter, _deep_deannotate
from sqlalchemy.types import Boolean, NullType, TypeEngine
from sqlalchemy.util import immutabledict

from ticketrouter.checks import printable
from ticketrouter.errors import shown
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.conditions import Kind, NotUnderstoodError, Token, tokens
from ticketrouter.sqlalchemy.storage import storage_of

OPAQUE = "has a sub-query, a text, or a function that may give another value of the same row"
"""Why nothing is proved of a condition."""


class UnfitConditionError(Exception):
    """What is given as a row condition is none; the text goes on after the argument's name."""


@frozen(eq=False)
class RowCondition:
    """A condition on the rows of one table.

    Args:
        table: the table.
        clause: the condition, about the table's own columns.
        columns: the names of the columns that it asks.
        is_opaque: whether it has a sub-query or a text, of which nothing is proved.
        may_change: whether it has what may be another one while its row is not, as far as is known here: no index is
            made of it. What a database itself has in the condition of an index does not change.
        said: what it says, as a value: its text.
    """

    table: Table
    clause: ColumnElement[bool]
    columns: frozenset[str]
    is_opaque: bool
    may_change: bool
    said: str

    @classmethod
    def of(cls, table: Table, given: object) -> RowCondition:
        """Return the condition that a host gives.

        Raises:
            UnfitConditionError: if it is no condition on this table's rows, or not the same one at any time.
        """
        clause, has_text = _on_columns(table, _as_clause(given))
        _check_values(clause)
        inner = list(_outside_of_selects(clause))
        _check_columns(table, inner)
        is_opaque = has_text or any(isinstance(each, SelectBase) for each in inner)
        may_change = any(_may_change(each) for each in inner)
        columns = _asked(table, clause)
        if not columns:
            raise UnfitConditionError(
                f"must ask a column of {table.fullname}: leave it out to have every row"
            )
        try:
            said = str(clause.compile(compile_kwargs={"literal_binds": True}))
        except SQLAlchemyError as error:
            raise UnfitConditionError(f"cannot be written with its constants: {error}") from error
        return cls(table, clause, columns, is_opaque, may_change, said)

    @property
    def fits_an_index(self) -> bool:
        """Whether a database may take it for the condition of an index."""
        return not self.is_opaque and not self.may_change

    def written(self, dialect: Dialect) -> ColumnElement[bool]:
        """Return it with its constants as a database writes them.

        Args:
            dialect: one whose SQL is for people, as per cent signs are doubled when a statement is made.
        """
        _check_zones(self.clause, dialect)

        def constant(element: Any, **_: Any) -> Any:
            if not isinstance(element, BindParameter):
                return None
            text = str(element.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
            return literal_column(text, element.type)

        return visitors.replacement_traverse(self.clause, {}, constant)

    def sql(self, dialect: Dialect, name: Callable[[str], str]) -> str:
        """Return it as SQL, such that AND may stand before it.

        Args:
            dialect: as of `written`.
            name: what stands for a column of that name.
        """
        _check_zones(self.clause, dialect)
        return _sql(self._named(self.clause.self_group(against=operators.and_), name), dialect)

    def parts(self, dialect: Dialect, name: Callable[[str], str]) -> list[str]:
        """Return the conditions that are all true where it is, as `sql` does it."""
        _check_zones(self.clause, dialect)
        return [_sql(self._named(each, name), dialect) for each in _all_of(self.clause)]

    def about(self, column: Column[Any], dialect: Dialect, name: str) -> list[str]:
        """Return the conditions, all of them true where it is, that ask a column, as SQL.

        None of them is to be had where one asks another column too, or hangs on more than the row.

        Args:
            column: the column.
            dialect: as of `written`.
            name: what stands for the column.
        """
        asking = [each for each in _all_of(self.clause) if column.name in _asked(self.table, each)]
        known = [
            each for each in asking if _asked(self.table, each) == {column.name} and _is_of_the_row(each)
        ]
        if not self.fits_an_index or len(known) < len(asking):
            return []
        return [_sql(self._named(each, lambda _: name), dialect) for each in known]

    def of_begun(self, id_: Column[Any]) -> RowCondition | None:
        """Return what of it a new row must meet; None: nothing.

        Where a sub-query asks for the row's own id, no other table can have that yet: the host makes it true, in the same
        transaction, as by a row that links the ticket.

        Args:
            id_: the column of the id.
        """
        asked = [each for each in _all_of(self.clause) if not _waits_for(each, id_)]
        if not asked:
            return None
        is_opaque = self.is_opaque  # of what is left this is at most too careful
        return RowCondition(self.table, and_(*asked), self.columns, is_opaque, self.may_change, self.said)

    def of_new_row(self, dialect: Dialect) -> ColumnElement[bool]:
        """Return it for what an `INSERT` returns, in which SQLAlchemy takes no part for what a sub-query is about."""
        if not self.is_opaque:
            return self.written(dialect)
        preparer = dialect.identifier_preparer
        table = preparer.quote(self.table.name)
        clause = self._named(self.written(dialect), lambda name: f"{table}.{preparer.quote(name)}")
        return literal_column(_sql(clause, dialect), Boolean)

    def _named(self, clause: Any, name: Callable[[str], str]) -> Any:
        def named(element: Any, **_: Any) -> Any:
            is_mine = isinstance(element, Column) and element.table is self.table
            return literal_column(name(element.name), element.type) if is_mine else None

        return visitors.replacement_traverse(clause, {}, named)


def on_columns(table: Table, given: object) -> Any:
    """Return an expression over the rows of a table that a host gives, as Core has it.

    Raises:
        UnfitConditionError: if it is none, or if one of its values is not given.
    """
    clause, _ = _on_columns(table, _as_plain(given, roles.ExpressionElementRole))
    _check_given(clause)
    _check_columns(table, list(_outside_of_selects(clause)))
    return clause


def of_nothing(table: Table, clause: Any, nothing: Callable[[TypeEngine[Any]], ColumnElement[Any]]) -> Any:
    """Return an expression for a row that is not there yet: it has nothing in its columns.

    Args:
        table: the table.
        clause: the expression over its rows.
        nothing: gives what stands for that in a column of a type.
    """

    def replaced(element: Any, **_: Any) -> Any:
        is_mine = isinstance(element, Column) and element.table is table
        return nothing(element.type) if is_mine else None

    return visitors.replacement_traverse(clause, {}, replaced)


def adapted(clause: ColumnElement[bool], table: Any) -> ColumnElement[bool]:
    """Return a condition about an alias of its table."""
    return ClauseAdapter(table).traverse(clause)


def _sql(clause: ClauseElement, dialect: Dialect) -> str:
    return str(clause.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _is_of_the_row(clause: Any) -> bool:
    """Tell whether a condition says the same of the same values at any time: a function may be one of the session."""
    return not any(isinstance(each, FunctionElement) for each in visitors.iterate(clause))


def _waits_for(clause: Any, id_: Column[Any]) -> bool:
    selects = (each for each in visitors.iterate(clause) if isinstance(each, SelectBase))
    return any(id_ is each for select in selects for each in visitors.iterate(select))


_STEADY = frozenset(
    [
        "abs",
        "coalesce",
        "char_length",
        "ifnull",
        "length",
        "lower",
        "ltrim",
        "mod",
        "nullif",
        "replace",
        "round",
        "rtrim",
        "substr",
        "substring",
        "trim",
        "upper",
    ]
)
"""The functions that give one value of one row at any time, on each database."""
_PLAIN = (Integer, String, Numeric, Boolean)


def _may_change(element: Any) -> bool:
    """Tell whether a part of a condition may be another one later, or in another session, of the same row."""
    match element:
        case FunctionElement():
            return str(getattr(element, "name", "")).lower() not in _STEADY
        case Cast():
            return not (isinstance(element.type, _PLAIN) and isinstance(element.clause.type, _PLAIN))
        case Extract():
            return True
        case _:
            return isinstance(getattr(element, "type", None), Interval)


def _check_zones(clause: Any, dialect: Dialect) -> None:
    """Raise for a time that a database takes for another one, as it has a zone where its column has none, or the reverse."""
    for element in visitors.iterate(clause):
        if not isinstance(element, BindParameter) or not isinstance(element.type, DateTime):
            continue
        keeps_zone = element.type.timezone and storage_of(dialect).keeps_zones
        for value in _values_of(element):
            if isinstance(value, datetime) and (value.tzinfo is not None) is not keeps_zone:
                has, advice = (
                    ("a", "with its zone") if keeps_zone else ("no", "without, as the column has it")
                )
                raise MappingError(
                    f"where has the time {value.isoformat()} beside a column that keeps {has} zone here: give it {advice}"
                )


def _asked(table: Table, clause: Any) -> frozenset[str]:
    """Return which columns of the table a condition hangs on, in sub-queries too."""
    found = list(visitors.iterate(clause))
    if any(isinstance(each, Alias) and each.element is table for each in found):
        return frozenset(column.name for column in table.columns)  # it looks at other rows of the table
    return frozenset(each.name for each in found if isinstance(each, Column) and each.table is table)


def _all_of(clause: Any) -> Iterator[Any]:
    match clause:
        case BooleanClauseList(operator=operators.and_):
            for each in clause.clauses:
                yield from _all_of(each)
        case Grouping() if isinstance(clause.element, BooleanClauseList):
            yield from _all_of(clause.element)
        case _:
            yield clause.self_group(against=operators.and_)


# --- what a host gives ---------------------------------------------------------------------------------------


def _as_clause(given: object) -> Any:
    clause = _as_plain(given, roles.WhereHavingRole)
    if not isinstance(clause.type, Boolean | NullType):
        raise UnfitConditionError(f"must be a condition, and {clause} is none")
    return clause


def _as_plain(given: object, role: Any) -> Any:
    """Return the expression of Core, of which an ORM's knows more than a statement of ours is to."""
    asked = getattr(given, "__clause_element__", None)
    element = asked() if callable(asked) else given
    if not isinstance(element, ClauseElement):
        raise UnfitConditionError(
            f"must be an expression of SQLAlchemy, as table.c.deleted_at.is_(None) is, not {shown(given)}"
        )
    try:
        clause = coercions.expect(role, element)
    except SQLAlchemyError as error:
        raise UnfitConditionError(f"must be an expression over a row: {error}") from error
    plain: Any = _deep_deannotate(clause)
    if plain._propagate_attrs:  # noqa: SLF001 - by the ORM's mark a statement would be compiled in another way
        plain = plain._clone()  # noqa: SLF001
        plain._propagate_attrs = immutabledict()  # noqa: SLF001
    return plain


def _on_columns(table: Table, clause: Any) -> tuple[Any, bool]:
    """Return it with the table's columns for what only names them, and whether it has texts, which may do so."""
    texts: list[Any] = []

    def named(element: Any, **_: Any) -> Any:
        match element:
            case TextClause() if not element._bindparams:  # noqa: SLF001
                texts.append(element)
                return _text_on_columns(table, element.text.replace(r"\:", ":"))
            case TextClause():
                raise UnfitConditionError(
                    f"has a text with bound values ({shown(element.text)}): write them as literals, or the "
                    "condition as an expression"
                )
            case ColumnClause(is_literal=True):
                texts.append(element)
                return _text_on_columns(table, element.name)
            case ColumnClause(table=None) if element.name in table.c:
                return table.c[element.name]
            case SelectBase():
                return element
            case _:
                return None

    found = visitors.replacement_traverse(clause, {}, named)
    return found, bool(texts)


def _text_on_columns(table: Table, text: str) -> Any:
    """Return a text with columns for their names, so that it is right in an alias, and beside other tables."""
    try:
        found = tokens(text)
    except NotUnderstoodError:
        raise UnfitConditionError(f"has a text with a quote that is never closed: {shown(text)}") from None
    by_name = {column.name.lower(): column for column in table.columns}
    pieces: list[ColumnElement[Any]] = []
    done = 0
    for place, token in enumerate(found):
        column = by_name.get(token.value.lower()) if token.kind in {Kind.WORD, Kind.NAME} else None
        if column is None or (found[place + 1 : place + 2] and found[place + 1].is_mark("(", ".")):
            continue
        start = _start_of(table, found, place)
        pieces += [literal_column(text[done:start]), column]
        done = token.end
    pieces.append(literal_column(text[done:]))
    return Grouping(ClauseList(*pieces, operator=None, group=False))  # type: ignore[arg-type]


def _start_of(table: Table, found: list[Token], place: int) -> int:
    """Return where a column's name begins, with that of its table."""
    if place > 1 and found[place - 1].is_mark(".") and found[place - 2].value.lower() == table.name.lower():
        return found[place - 2].start
    return found[place].start


def _check_given(clause: Any) -> None:
    for each in visitors.iterate(clause):
        if isinstance(each, BindParameter) and (each.required or each.callable is not None):
            raise UnfitConditionError(f"has a value that is not given, {each.key}: pass the value itself")


def _values_of(element: BindParameter[Any]) -> Iterable[Any]:
    value: Any = element.value
    return value if isinstance(value, list | tuple | set | frozenset) else [value]


def _check_values(clause: Any) -> None:
    _check_given(clause)
    for each in visitors.iterate(clause):
        if not isinstance(each, BindParameter):
            continue
        if each.expanding and not each.value:
            raise UnfitConditionError("has an empty list, of which nothing is true: leave it out")
        for value in _values_of(each):
            if isinstance(value, bytes | bytearray | memoryview):
                raise UnfitConditionError(
                    "has bytes, whose literal is another one on each database: ask for a text or a number"
                )
            if isinstance(value, str) and ("\\" in value or not value.isprintable()):
                raise UnfitConditionError(
                    f"has the text {printable(repr(value))}: one with a backslash, or with what cannot be printed, is "
                    "not the same literal at every setting of a database"
                )
            if isinstance(value, str) and "%(" in value:
                raise UnfitConditionError(
                    f"has the text {printable(repr(value))}: one with '%(' may be taken for a parameter where it is sent"
                )


def _outside_of_selects(clause: Any) -> Iterator[Any]:
    yield clause
    if not isinstance(clause, SelectBase):
        for each in clause.get_children():
            yield from _outside_of_selects(each)


def _check_columns(table: Table, found: list[Any]) -> None:
    for each in found:
        if not isinstance(each, ColumnClause) or each.is_literal:
            continue
        if each.table is not table:
            raise UnfitConditionError(
                f"asks {each}, which is no column of {table.fullname}: ask another table by a sub-query, as "
                "exists().where(...) is one"
            )
