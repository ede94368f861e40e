"""Conditions over the status, read from a catalogue's SQL: which words they compare it with, and what they answer.

Law of this file: what is not understood is refused, never guessed. Understood is only what gives statuses that the
column takes for equal the same answer: comparisons of the status with texts, whether a column of the key is NULL,
and how such answers are put together. Every comparison is left to the database: see `Condition.answer`.

Of further columns nothing is understood but what is told to be true of every row, as it is written there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum, auto
from typing import TypeAlias, assert_never

from attrs import frozen

Answer: TypeAlias = int | str | None
"""What a condition is of a row: a number, a text, or NULL; true is 1 and false is 0."""


class NotUnderstoodError(Exception):
    """The condition is none of those that are understood here."""


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    NAME = auto()
    TEXT = auto()
    NUMBER = auto()
    MARK = auto()


@frozen
class Token:
    """A piece of SQL.

    Args:
        kind: what it is.
        value: its text, without quotes.
        start: where it begins in the SQL.
        end: where it ends.
    """

    kind: Kind
    value: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Tell whether it is one of these words, without quotes and in any case of its letters."""
        return self.kind is Kind.WORD and self.value.upper() in words

    def is_mark(self, *marks: str) -> bool:
        """Tell whether it is one of these marks."""
        return self.kind is Kind.MARK and self.value in marks


_SQL = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*])
    |(?P<number>\d[\w.]*)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<mark><=>|<>|!=|==|<=|>=|\|\||[^\s\w'"`[])
    """,
    re.VERBOSE | re.DOTALL,
)
_WITH_BACKSLASHES = re.compile(
    _SQL.pattern.replace(r"'(?:[^']|'')*'", r"'(?:[^'\\]|''|\\.)*'"), re.VERBOSE | re.DOTALL
)


def tokens(sql: str, *, backslashes: bool = False) -> list[Token]:
    """Split SQL into its tokens; comments are none.

    Args:
        sql: the SQL.
        backslashes: whether a backslash in a text makes the next character an ordinary one.

    Raises:
        NotUnderstoodError: if a quote is never closed.
    """
    return list(_tokens(sql, _WITH_BACKSLASHES if backslashes else _SQL))


def _tokens(sql: str, pattern: re.Pattern[str]) -> Iterator[Token]:
    place = 0
    while place < len(sql):
        found = pattern.match(sql, place)
        if found is None:
            raise NotUnderstoodError
        place = found.end()
        written = found.group()
        match found.lastgroup:
            case "text":
                value = written[1:-1].replace("''", "'")
                if pattern is _WITH_BACKSLASHES:
                    value = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
                yield Token(Kind.TEXT, value, found.start(), place)
            case "name":
                quote = "]" if written[0] == "[" else written[0]
                yield Token(Kind.NAME, written[1:-1].replace(2 * quote, quote), found.start(), place)
            case "number":
                yield Token(Kind.NUMBER, written, found.start(), place)
            case "word":
                yield Token(Kind.WORD, written, found.start(), place)
            case "mark":
                yield Token(Kind.MARK, written, found.start(), place)
            case _:  # space, or a comment
                pass


def plain(sql: str, found: list[Token]) -> str:
    """Return tokens as they are written in their SQL, without the comments between them."""
    return " ".join(sql[token.start : token.end] for token in found)


# --- conditions ----------------------------------------------------------------------------------------------

Constant: TypeAlias = int | str | None
"""What a status may be compared with: a number, where the column stores numbers, else a text; where NULL is a status, that."""
Equal: TypeAlias = Callable[[Constant], bool]
"""Whether the database takes a row's status for the same as a constant."""


@frozen
class Condition:
    """A condition that is understood.

    Args:
        constants: what it compares the status with.
        answer: what it is of a row with all columns of its key, by what the database says of its status.
    """

    constants: frozenset[Constant]
    answer: Callable[[Equal], Answer]


def columns_in(found: Collection[Token], columns: Collection[str]) -> tuple[str, ...]:
    """List the columns that tokens may speak of, each once."""
    by_lower_case = {column.lower(): column for column in columns}
    spoken = (
        by_lower_case[token.value.lower()]
        for token in found
        if token.kind in {Kind.WORD, Kind.NAME} and token.value.lower() in by_lower_case
    )
    return tuple(dict.fromkeys(spoken))


def condition(
    found: list[Token],
    names: Names,
    *,
    functions: bool,
    numbers: bool,
    is_predicate: bool,
    true: Collection[str] = (),
) -> Condition:
    """Read a condition.

    Args:
        found: its tokens.
        names: what a name in it stands for.
        functions: whether IF is a function that nobody can have made anew.
        numbers: whether the status is a number, which is true if it is not 0; else it is a text.
        is_predicate: whether it is only decided by, and not computed.
        true: conditions that are true of every row that counts, as SQL, none of them several with AND.

    Raises:
        NotUnderstoodError: if it is none that is understood, or speaks of another column.
    """
    known = frozenset(_as_written(tokens(each)) for each in true)
    reader = _Reader(found, names, functions=functions, numbers=numbers, true=known)
    answer = reader.decided() if is_predicate else reader.whole().answer
    return Condition(frozenset(reader.constants), answer)


class _Sort(Enum):
    """What a part of a condition is: only some can be compared, or decided by."""

    STATUS = auto()
    KEY = auto()
    TEXT = auto()
    NUMBER = auto()
    NULL = auto()
    TRUTH = auto()
    CHOICE = auto()


@frozen
class _Node:
    sort: _Sort
    answer: Callable[[Equal], Answer]


_Written: TypeAlias = tuple[tuple[Kind, str], ...]
"""A condition, as it is written: what may be written in two ways, in one of them."""
_END = Token(Kind.MARK, ")", 0, 0)
_ENDS = frozenset({")", ",", "THEN", "WHEN", "ELSE", "END"})
"""What stands behind a condition, but for AND and OR."""
_SAME = {"!=": "<>", "==": "="}
_TRUTHS = {"TRUE": "1", "FALSE": "0"}
_KEYWORDS = frozenset(
    {"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END"}
) | {*_TRUTHS}
_IS, _NOT, _IN = ((Kind.WORD, word) for word in ("IS", "NOT", "IN"))
_OPENS, _CLOSES = (Kind.MARK, "("), (Kind.MARK, ")")


def _end_of(token: Token) -> str:
    return token.value.upper() if token.kind in {Kind.WORD, Kind.MARK} else ""


def _as_written(found: list[Token]) -> _Written:
    """Return tokens without the parentheses around all of them, each as it is compared."""
    while found and found[0].is_mark("(") and _closing(found) == len(found) - 1:
        found = found[1:-1]
    written: list[tuple[Kind, str]] = []
    for token in found:
        after_is = written[-1:] == [_IS] or written[-2:] == [_IS, _NOT]
        written.append(_compared(token, is_keyword=after_is))
        # A list of one constant is what MariaDB keeps as a comparison with it.
        if written[-4:-2] == [_IN, _OPENS] and written[-1] == _CLOSES and token.is_mark(")"):
            constant, is_not = written[-2], written[-5:-4] == [_NOT]
            if constant[0] in {Kind.TEXT, Kind.NUMBER}:
                written[-5 if is_not else -4 :] = [(Kind.MARK, "<>" if is_not else "="), constant]
    return tuple(written)


def _closing(found: list[Token]) -> int:
    """Return where the parenthesis is closed that comes first."""
    depth = 0
    for place, token in enumerate(found):
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0:
            return place
    return len(found)


def _compared(token: Token, *, is_keyword: bool) -> tuple[Kind, str]:
    upper = token.value.upper()
    match token.kind:
        case Kind.WORD if upper in _TRUTHS and not is_keyword:
            return (Kind.NUMBER, _TRUTHS[upper])
        case Kind.WORD if upper in _KEYWORDS:
            return (Kind.WORD, upper)
        case Kind.NAME if upper in _KEYWORDS:
            return (Kind.NAME, f"({upper})")  # a column of that name is none
        case Kind.WORD | Kind.NAME:
            return (Kind.NAME, token.value.lower())
        case Kind.MARK:
            return (Kind.MARK, _SAME.get(token.value, token.value))
        case Kind.TEXT | Kind.NUMBER:
            return (token.kind, token.value)
        case _:
            assert_never(token.kind)


_RESERVED = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "CASE", "WHEN", "THEN", "ELSE"})
"""Words that no column can be called without quotes."""


@frozen
class Names:
    """What a name in a condition stands for.

    Args:
        sorts: that, by name.
        is_word: whether the column of the status holds words, of which NULL is none; else NULL is one.
    """

    sorts: Mapping[str, _Sort | None]
    is_word: bool = True

    @classmethod
    def of(
        cls, columns: Collection[str], status: str, key: Collection[str], *, is_word: bool = True
    ) -> Names:
        """Return that for the columns of a table, that of the status and those of the key among them."""
        sorts: dict[str, _Sort | None] = dict.fromkeys((column.lower() for column in columns), None)
        sorts |= {column.lower(): _Sort.KEY for column in key} | {status.lower(): _Sort.STATUS}
        return cls(sorts, is_word)

    def knows(self, token: Token) -> bool:
        """Tell whether a token is the name of a column, whatever else it could be."""
        if token.kind is Kind.WORD and token.value.upper() in _RESERVED:
            return False
        return token.kind in {Kind.WORD, Kind.NAME} and token.value.lower() in self.sorts


def _constant(sort: _Sort, value: Answer) -> _Node:
    return _Node(sort, lambda _: value)


def _truth(answer: Callable[[Equal], Answer]) -> _Node:
    return _Node(_Sort.TRUTH, answer)


def _not(value: Answer) -> Answer:
    return None if value is None else int(not value)


class _Reader:
    """Reads one condition, from the loosest operator to the tightest."""

    def __init__(
        self,
        found: list[Token],
        names: Names,
        *,
        functions: bool,
        numbers: bool,
        true: frozenset[_Written],
    ) -> None:
        self._left = list(reversed(found))
        self._names = names
        self._functions = functions
        self._numbers = numbers
        self._true = true
        self.constants: set[Constant] = set()

    def whole(self) -> _Node:
        node = self._either()
        if self._left or node.sort in {_Sort.STATUS, _Sort.KEY}:
            raise NotUnderstoodError
        return node

    def decided(self) -> Callable[[Equal], Answer]:
        node = self._either()
        if self._left:
            raise NotUnderstoodError
        return node.answer if node.sort in {_Sort.TEXT, _Sort.CHOICE} else self._decides(node)

    # --- tokens ----------------------------------------------------------------------------------------------

    def _next(self) -> Token:
        if not self._left:
            raise NotUnderstoodError
        return self._left.pop()

    def _takes(self, *words: str) -> bool:
        """Take the next token if it is one of these words or marks, and no column."""
        if not self._left or self._names.knows(self._left[-1]):
            return False
        token = self._left[-1]
        if token.is_word(*words) or token.is_mark(*words):
            self._left.pop()
            return True
        return False

    def _expect(self, *words: str) -> None:
        if not self._takes(*words):
            raise NotUnderstoodError

    # --- what is decided by ----------------------------------------------------------------------------------

    def _either(self) -> _Node:
        if self._takes_true(last=_ENDS):
            return _truth(lambda _: 1)
        parts = [self._both()]
        while self._takes("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else self._joined(parts, decided_by=1)

    def _both(self) -> _Node:
        parts = [self._one()]
        while self._takes("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else self._joined(parts, decided_by=0)

    def _one(self) -> _Node:
        return _truth(lambda _: 1) if self._takes_true("AND", last=_ENDS | {"OR"}) else self._negated()

    def _takes_true(self, *ends: str, last: frozenset[str]) -> bool:
        """Take what comes next if it is, as it is written, a condition that is true of every row.

        Args:
            ends: what may stand behind it.
            last: what stands behind it at the latest.
        """
        if not self._true:
            return False
        depth, found = 0, list(reversed(self._left))
        for place, token in enumerate([*found, _END]):
            if depth == 0 and _end_of(token) in {*ends, *last}:
                if _as_written(found[:place]) in self._true:
                    del self._left[len(self._left) - place :]
                    return True
                if _end_of(token) in last:
                    return False
            depth += token.is_mark("(") - token.is_mark(")")
        return False

    def _joined(self, parts: list[_Node], *, decided_by: int) -> _Node:
        conditions = [self._decides(part) for part in parts]

        def answer(equal: Equal) -> Answer:
            found = [each(equal) for each in conditions]
            if any(value is not None and bool(value) is bool(decided_by) for value in found):
                return decided_by
            return None if None in found else 1 - decided_by

        return _truth(answer)

    def _negated(self) -> _Node:
        if not self._takes("NOT"):
            return self._compared()
        inner = self._decides(self._negated())
        return _truth(lambda equal: _not(inner(equal)))

    def _decides(self, node: _Node) -> Callable[[Equal], Answer]:
        """Return what a part answers where a condition is needed: a text is none."""
        if node.sort is _Sort.STATUS and self._numbers:
            return self._other(self._is_constant(0)).answer
        if node.sort not in {_Sort.TRUTH, _Sort.NUMBER, _Sort.NULL}:
            raise NotUnderstoodError
        return node.answer

    # --- comparisons -----------------------------------------------------------------------------------------

    def _compared(self) -> _Node:
        left = self._operand()
        if self._takes("=", "=="):
            return self._same(left, self._operand())
        if self._takes("<>", "!="):
            return self._other(self._same(left, self._operand()))
        if self._takes("IN"):
            return self._among(left)
        if self._takes("NOT"):
            self._expect("IN")
            return self._other(self._among(left))
        if self._takes("IS"):
            return self._is(left)
        return left

    def _same(self, left: _Node, right: _Node) -> _Node:
        """Compare the status with a constant of its kind, and nothing with anything else."""
        kind = _Sort.NUMBER if self._numbers else _Sort.TEXT
        if {left.sort, right.sort} != {_Sort.STATUS, kind}:
            raise NotUnderstoodError
        constant = (left if left.sort is kind else right).answer(lambda _: False)
        if constant is None:
            raise NotUnderstoodError
        return self._is_constant(constant)

    def _is_constant(self, constant: Constant) -> _Node:
        self.constants.add(constant)
        return _truth(lambda equal: int(equal(constant)))

    def _other(self, node: _Node) -> _Node:
        return _truth(lambda equal: _not(node.answer(equal)))

    def _is_same(self, left: _Node, right: _Node) -> _Node:
        """Compare as `=` does, but for whose collation it is by: SQLite takes that of the left here."""
        if left.sort is not _Sort.STATUS:
            raise NotUnderstoodError
        return self._same(left, right)

    def _among(self, left: _Node) -> _Node:
        self._expect("(")
        parts = [self._is_same(left, self._operand())]
        while self._takes(","):
            parts.append(self._is_same(left, self._operand()))
        self._expect(")")
        return self._joined(parts, decided_by=1)

    def _is(self, left: _Node) -> _Node:
        negated = self._takes("NOT")
        if (truth := self._takes("TRUE")) or self._takes("FALSE"):
            if left.sort is not _Sort.STATUS:
                raise NotUnderstoodError
            decides = self._decides(left)
            return _truth(lambda equal: int(bool(decides(equal)) is (truth is not negated)))
        right = self._operand()
        if right.sort is _Sort.NULL and left.sort is _Sort.STATUS and not self._names.is_word:
            node = self._is_constant(None)
        elif right.sort is _Sort.NULL and left.sort in {_Sort.STATUS, _Sort.KEY}:
            node = _truth(lambda _: 0)  # a row without its key is nobody's ticket, and a word is none
        else:
            node = self._is_same(left, right)
        return self._other(node) if negated else node

    # --- operands --------------------------------------------------------------------------------------------

    def _operand(self) -> _Node:
        token = self._next()
        if self._names.knows(token):
            sort = self._names.sorts[token.value.lower()]
            if sort is None:
                raise NotUnderstoodError
            return _Node(sort, lambda _: None)
        match token.kind:
            case Kind.TEXT:
                return _constant(_Sort.TEXT, token.value)
            case Kind.NUMBER if token.value.isdecimal() and token.value.isascii():
                return _constant(_Sort.NUMBER, int(token.value))
            case Kind.MARK if token.value == "-" and self._numbers:
                number = self._next()
                if number.kind is not Kind.NUMBER or not number.value.isdecimal():
                    raise NotUnderstoodError
                return _constant(_Sort.NUMBER, -int(number.value))
            case Kind.MARK if token.value == "(":
                node = self._either()
                self._expect(")")
                return node
            case Kind.WORD:
                return self._keyword(token.value.upper())
            case _:
                raise NotUnderstoodError

    def _keyword(self, word: str) -> _Node:
        match word:
            case "NULL":
                return _constant(_Sort.NULL, None)
            case "TRUE" | "FALSE" if self._numbers:
                return _constant(_Sort.NUMBER, int(word == "TRUE"))
            case "CASE":
                return self._case()
            case "IF" if self._functions:
                return self._if()
            case _:
                raise NotUnderstoodError

    def _if(self) -> _Node:
        self._expect("(")
        condition = self._decides(self._either())
        self._expect(",")
        then = self._result()
        self._expect(",")
        otherwise = self._result()
        self._expect(")")
        return self._choice([(condition, then)], otherwise)

    def _case(self) -> _Node:
        subject = None if self._takes("WHEN") else self._operand()
        if subject is not None:
            self._expect("WHEN")
        branches = [self._branch(subject)]
        while self._takes("WHEN"):
            branches.append(self._branch(subject))
        otherwise = self._result() if self._takes("ELSE") else _constant(_Sort.NULL, None)
        self._expect("END")
        return self._choice(branches, otherwise)

    def _branch(self, subject: _Node | None) -> tuple[Callable[[Equal], Answer], _Node]:
        condition = self._either() if subject is None else self._is_same(subject, self._operand())
        self._expect("THEN")
        return self._decides(condition), self._result()

    def _result(self) -> _Node:
        """Return what a branch gives: a constant, a choice in its turn, or a condition, but never the status."""
        node = self._either()
        if node.sort in {_Sort.STATUS, _Sort.KEY}:
            raise NotUnderstoodError
        return node

    def _choice(self, branches: list[tuple[Callable[[Equal], Answer], _Node]], otherwise: _Node) -> _Node:
        def answer(equal: Equal) -> Answer:
            return next(
                (node.answer(equal) for when, node in branches if when(equal)), otherwise.answer(equal)
            )

        return _Node(_Sort.CHOICE, answer)
