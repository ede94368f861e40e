"""Random tickets tables with random unique indexes, and what two active rows of one key can be in them.

Law of this file: it knows SQL and nothing of how the library finds a rule. A host is values; `made` makes it, and
`crowded` asks the database itself whether a key can have two active rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from typing import Any

from attrs import evolve, frozen
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, case, func, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from ticketrouter import InboundMessage, Resolution, StatusScheme, TicketRouter, TicketRouterError
from ticketrouter.sqlalchemy import KEEP, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.known import forget

SCHEMES = (
    StatusScheme(),
    StatusScheme(active=frozenset({"open"}), initial="open", reopened="open", accepted="open"),
    StatusScheme(active=frozenset({"open", "pending", "it's"})),
    StatusScheme(active=frozenset({"Open", "pending"}), accepted="Open"),
)
WORDS = ("open", "pending", "closed", "it's", "nps", "OPEN", "Open", "open ")
NUMBERS = {word: number for number, word in enumerate(WORDS)}
"""What a status column of numbers stores for each word."""
FURTHER = ("deleted_at", "subject", "flag", "user_id", "is_group")
"""Columns besides the key and the status; of the first, second and fourth NULL is a value."""
KEY = ("company_id", "contact_id", "connection_id")

CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "deleted_at IS NULL": lambda c: c.deleted_at.is_(None),
    "subject = 'a'": lambda c: c.subject == "a",
    "subject IS NULL": lambda c: c.subject.is_(None),
    "flag = 0": lambda c: c.flag == 0,
    "user_id IS NULL": lambda c: c.user_id.is_(None),
    "deleted_at IS NULL AND flag = 0": lambda c: c.deleted_at.is_(None) & (c.flag == 0),
    "(subject = 'a' OR subject IS NULL)": lambda c: or_(c.subject == "a", c.subject.is_(None)),
    "subject IN ('a', 'b') AND is_group = 0": lambda c: c.subject.in_(["a", "b"]) & (c.is_group == 0),
    "status <> 'pending'": lambda c: (
        c.status != (NUMBERS["pending"] if isinstance(c.status.type, Integer) else "pending")
    ),
    "connection_id > 0": lambda c: c.connection_id > 0,
}
"""Row conditions, as SQL and as the mapping has them."""

ON_MESSAGE: dict[str, Callable[[Any], Any]] = {
    "": lambda _: {},
    "a constant": lambda _: {"subject": "a"},
    "a function": lambda _: {"subject": lambda message, _: KEEP if message.data is None else message.data},
    "an expression": lambda c: {"flag": func.coalesce(c.flag, 0) * 0},
    "several": lambda c: {
        "deleted_at": None,
        "flag": lambda *_: 0,
        "subject": case((c.flag == 0, "b"), else_="a"),
    },
}
"""What is written with every message, by what it is made of; `written` says what it comes to."""

COLLATIONS = {
    "sqlite": ("BINARY", "NOCASE", "RTRIM"),
    "mariadb": ("utf8mb4_general_ci", "utf8mb4_bin", "utf8mb4_nopad_bin", "utf8mb4_unicode_nopad_ci"),
    "postgresql": ("", '"C"', "loose"),
}
"""Of PostgreSQL's the last one is not deterministic; `prepare` makes it."""


@frozen
class Unique:
    """A unique index: its parts and its predicate as SQL, and what may stand behind a part or the whole."""

    parts: tuple[str, ...]
    where: str = ""
    generated: tuple[tuple[str, str, str], ...] = ()
    after: str = ""


@frozen
class Host:
    """A tickets table.

    Args:
        database: the kind of database.
        scheme: the words of the tickets.
        company: whether it has a column for the company.
        contact: the type of contact_id, with its collation.
        status: the type of the status, with its collation.
        nullable: whether the key may be NULL.
        kind: what else is about the table: plain, inherited, or partitioned.
        numbers: whether its status is a number, and no word.
        indexes: its unique indexes.
        where: its row condition, one of CONDITIONS; "": it has none.
        on_message: what is written with every message, one of ON_MESSAGE.
        listed: whether one of them is in the list of those that must be found.
        seed: what the rows are made from.
    """

    database: str
    scheme: StatusScheme
    company: bool
    contact: str
    status: str
    nullable: bool
    kind: str
    numbers: bool
    indexes: tuple[Unique, ...]
    where: str
    on_message: str
    listed: bool
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        return KEY if self.company else KEY[1:]

    @property
    def texts(self) -> bool:
        return "INT" not in self.contact

    @property
    def mapping(self) -> TicketMapping:
        types: dict[str, TypeEngine[Any]] = {"contact_id": String(30)} if self.texts else {}
        columns: list[Column[Any]] = [Column("id", Integer, primary_key=True)]
        columns += [Column(name, types.get(name, Integer()), nullable=self.nullable) for name in self.key]
        columns.append(Column("status", Integer() if self.numbers else String(20), nullable=False))
        columns += [Column(name, Integer, nullable=False) for name in ("updated_at", "is_group")]
        columns += [Column(name, Integer) for name in ("user_id", "deleted_at", "flag")]
        columns.append(Column("subject", String(20)))
        table = Table("desk", MetaData(), *columns)
        return TicketMapping(
            table,
            where=CONDITIONS[self.where](table.c) if self.where else None,
            on_message=ON_MESSAGE[self.on_message](table.c),
            on_create={"flag": 0},
            new_id=None if self.database != "postgresql" else count(1).__next__,
            remember_messages=False,
            company_id="company_id" if self.company else None,
            only_company=None if self.company else 1,
            unread_messages=None,
            queue_id=None,
            created_at=None,
            closed_at=None,
            nullable_keys=True,
            statuses=self.scheme,
            status_values={word: NUMBERS[word] for word in self.scheme.known} if self.numbers else None,
        )

    def stored(self, sql: str) -> str:
        """Return SQL that speaks of words as the status column has them."""
        if not self.numbers:
            return sql
        for word, number in NUMBERS.items():
            sql = sql.replace(quoted(word), str(number))
        return sql


# --- drawing a host ------------------------------------------------------------------------------------------


def quoted(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _words(words: Sequence[str]) -> str:
    return ", ".join(quoted(word) for word in words)


def atoms(chance: Random, database: str) -> str:
    """Draw a comparison: of the status in ways that are understood and others, or of another column."""
    some = chance.sample(WORDS, chance.randint(1, 4))
    one = quoted(some[0])
    bare = {"sqlite": "BINARY", "mariadb": "utf8mb4_bin", "postgresql": '"C"'}[database]
    of_status = [
        f"status IN ({_words(some)})",
        f"status NOT IN ({_words(some)})",
        f"status = {one}",
        f"status <> {one}",
        f"{one} = status",
    ]
    odd = [
        f"lower(status) = {one}",
        f"status COLLATE {bare} = {one}",
        f"status LIKE '{some[0][:1]}%'",
        f"status > {one}",
        "status IS NOT NULL",
        f"COALESCE(status, '') <> {one}",
        f"{one} IN (status, 'x')",
        f"CASE WHEN status = {one} THEN 1 ELSE 0 END = 1",
        f"CASE status WHEN {one} THEN 1 ELSE 0 END = 1",
        f"(CASE WHEN status IS NOT NULL THEN status END) = {one}",
        f"length(status) < {len(some[0]) + 1}",
    ]
    others = [
        "deleted_at IS NULL",
        "deleted_at = 0",
        "subject IS NULL",
        "subject = 'a'",
        "COALESCE(subject, '') = ''",
        "flag = 0",
        "user_id IS NULL",
        "is_group = 0",
        "contact_id IS NOT NULL",
        "connection_id IS NOT NULL",
        "connection_id > 0",
        "id > 3",
        "status = subject",
        *CONDITIONS,
    ]
    if database != "postgresql":
        odd += [
            "status",
            "NOT status",
            "status IS TRUE",
            "status IS NOT FALSE",
            "status <> -1",
            "status <> 40",
        ]
    if database == "sqlite":
        odd += [
            f"status /* ' */ = {one}",
            f"status IS {one}",
            f"status IS NOT {one} -- '\n",
            f"status == {one}",
        ]
        others += ["rowid > 3", "[flag] = 0", "`deleted_at` IS NULL /* ' */", "iif(flag, 1, 0) = 0"]
    if database == "mariadb":
        odd += [f"BINARY status = {one}", "status = 0", f"status <=> {one}", f"IF(status = {one}, 1, 0)"]
    return chance.choice(chance.choice((of_status, of_status, odd, others)))


def conditions(chance: Random, database: str, depth: int = 3) -> str:
    """Draw a condition: most often one comparison or two."""
    if depth == 0 or chance.random() < 0.5:
        return atoms(chance, database)
    if chance.random() < 0.25:
        return f"NOT ({conditions(chance, database, depth - 1)})"
    one, other = (conditions(chance, database, depth - 1) for _ in range(2))
    joined = chance.choice(["AND", "OR"])
    return f"({one}) {joined} ({other})" if chance.random() < 0.5 else f"{one} {joined} {other}"


def computed(chance: Random, database: str) -> tuple[str, str]:
    """Draw an expression and its type."""
    inner = conditions(chance, database)
    word = quoted(chance.choice(WORDS))
    number = "INT" if database == "postgresql" else "SMALLINT"
    kinds = [
        (f"CASE WHEN {inner} THEN 1 END", number),
        (f"CASE WHEN {inner} THEN 1 ELSE NULL END", number),
        (f"CASE WHEN {inner} THEN 1 ELSE 0 END", number),
        (f"CASE WHEN {inner} THEN 'a' END", "VARCHAR(20)"),
        (f"CASE WHEN {inner} THEN status END", "VARCHAR(20)"),
        (f"CASE WHEN {inner} THEN subject END", "VARCHAR(20)"),
        (f"CASE status WHEN {word} THEN 1 WHEN 'pending' THEN 1 END", number),
        (f"CASE status WHEN {word} THEN 1 WHEN 'pending' THEN 2 END", number),
        (f"CASE WHEN {inner} THEN deleted_at ELSE 1 END", "INT"),
        ("COALESCE(subject, '')", "VARCHAR(20)"),
        ("COALESCE(deleted_at, 0)", "INT"),
        ("COALESCE(connection_id, 0)", "INT"),
        (f"NULLIF(status, {word})", "VARCHAR(20)"),
        ("lower(status)", "VARCHAR(20)"),
    ]
    if database == "mariadb":
        kinds += [(f"IF({inner}, 1, NULL)", "TINYINT")] * 4
        kinds += [
            (f"IF({inner}, 'a', NULL)", "DATE"),
            (f"IF({inner}, 1, NULL)", "BIGINT"),
            (inner, "TINYINT"),
        ]
    return chance.choice(kinds)


def uniques(chance: Random, database: str, key: tuple[str, ...], number: int, *, texts: bool) -> Unique:
    """Draw any unique index, most often over the key and something more."""
    fields = key if chance.random() < 0.7 else chance.sample(key, chance.randint(1, len(key)))
    parts = chance.sample(fields, len(fields))
    if texts and "contact_id" in parts and chance.randint(0, 5) == 0:
        parts[parts.index("contact_id")] = chance.choice(_odd_contact(database))
    generated: list[tuple[str, str, str]] = []
    wanted = chance.choice([0] + [1] * 7 if database == "mariadb" else [0, 0, 0, 1])
    for _ in range(wanted):
        expression, type_ = computed(chance, database)
        if database == "mariadb" or (chance.random() < 0.5):
            name = f"g{number}"
            generated.append((name, type_, expression))
            parts.insert(chance.randint(0, len(parts)), name)
        else:
            parts.append(f"({expression})")
    if chance.randint(0, 5) == 0:
        parts.append(chance.choice((*FURTHER, "status", "id")))
    unconditional = database == "mariadb" or chance.randint(0, 7 if not generated else 1) == 0
    where = "" if unconditional else conditions(chance, database)
    after = chance.choice(["", "", "", _AFTER[database]])
    return Unique(tuple(dict.fromkeys(parts)), where, tuple(generated), after)


_AFTER = {"sqlite": "", "mariadb": " IGNORED", "postgresql": " NULLS NOT DISTINCT"}


def _odd_contact(database: str) -> tuple[str, ...]:
    match database:
        case "sqlite":
            return tuple(f"contact_id COLLATE {each}" for each in COLLATIONS["sqlite"])
        case "mariadb":
            return ("contact_id(1)",)
        case _:
            return ('contact_id COLLATE "C"', "contact_id COLLATE loose", "contact_id text_pattern_ops")


def listed(chance: Random, host: Host) -> Unique:
    """Draw an index of the list of those that must be found: the key's columns, and the status by IN, NOT IN, =, <>."""
    over = chance.choice([host.key, host.key, ("contact_id", "connection_id"), ("contact_id",)])
    parts = chance.sample(over, len(over))
    active = sorted(host.scheme.active)
    forms = [
        f"status IN ({_words(active)})",
        f"status NOT IN ({_words(['closed', 'nps'])})",
        "status <> 'closed'",
    ]
    forms += [" OR ".join(f"status = {quoted(word)}" for word in active), "NOT (status = 'closed')"]
    forms += [f"status IN ({_words([*active, 'nps'])})"]
    condition = chance.choice(forms)
    if host.where and (chance.random() < 0.7):
        condition = " AND ".join(chance.sample([f"({condition})", host.where], 2))
    if chance.randint(0, 9) == 0:
        return Unique(tuple(parts))
    how = (
        "generated" if host.database == "mariadb" else chance.choice(["where", "where", "part", "generated"])
    )
    if how == "where":
        return Unique(tuple(parts), condition)
    expression = f"CASE WHEN {condition} THEN 1 END"
    if host.database == "mariadb" and (chance.random() < 0.5):
        expression = f"IF({condition}, 1, NULL)"
    if how in {"part", "generated"} and host.database == "postgresql" and host.where in condition:
        how, expression = "where", condition
    if how == "where":
        return Unique(tuple(parts), condition)
    if how == "part":
        return Unique((*parts, f"({expression})"))
    parts.insert(chance.randint(0, len(parts)), "listed")
    return Unique(tuple(parts), "", (("listed", "INT", expression),))


def hosts(chance: Random, database: str) -> Host:
    """Draw a host from a source of chance, which may be one of Hypothesis's."""
    contact = chance.choice(["INTEGER", "text", "text"])
    if contact == "text":
        contact = _text("VARCHAR(30)", chance.choice(COLLATIONS[database]))
    status = _text("VARCHAR(20)", chance.choice(COLLATIONS[database]))
    if chance.randint(0, 3) == 0:
        status = chance.choice(_ODD_STATUS[database])
    numbers = chance.randint(0, 2) == 0
    if numbers:
        status = chance.choice(_NUMBERS[database])
    host = Host(
        database=database,
        scheme=chance.choice(SCHEMES),
        company=chance.choice([True, True, False]),
        contact=contact,
        status=status,
        nullable=(chance.random() < 0.5),
        kind=chance.choice(["plain"] * 6 + ["inherited", "partitioned"])
        if database == "postgresql"
        else "plain",
        numbers=numbers,
        indexes=(),
        where=chance.choice(["", *CONDITIONS]),
        on_message=chance.choice([*ON_MESSAGE]),
        listed=chance.randint(0, 2) == 0,
        seed=chance.randint(0, 2**32),
    )
    if host.listed:
        plain = "INTEGER" if host.numbers else "VARCHAR(20)"
        # Of a status that takes "closed" for an active word, or of two tables, no index is in the list.
        host = evolve(host, kind="plain" if host.kind == "inherited" else host.kind, status=plain)
        if database == "postgresql" and "status" in host.where:
            # PostgreSQL is asked word by word, and proves nothing of a word that the condition leaves out.
            host = evolve(host, where="")
    count = chance.choice([0, 0, 1, 2] if host.listed else [1, 1, 1, 2, 3])
    found = [uniques(chance, database, host.key, n, texts=host.texts) for n in range(count)]
    if host.listed:
        found.insert(chance.randint(0, len(found)), listed(chance, host))
    return evolve(host, indexes=tuple(found))


_NUMBERS = {
    "sqlite": ("INTEGER", "SMALLINT", "", "NUMERIC", "BOOLEAN", "TEXT"),
    "mariadb": ("TINYINT", "SMALLINT UNSIGNED", "INT", "DECIMAL(5,2)"),
    "postgresql": ("INTEGER", "SMALLINT", "BIGINT"),
}
_ODD_STATUS = {
    "sqlite": ("TEXT", "NUMERIC", "INTEGER", "", "BLOB"),
    "mariadb": (
        "CHAR(20)",
        f"ENUM({_words(WORDS[:5])})",
        "VARBINARY(20)",
        "TEXT",
        "VARCHAR(20) CHARACTER SET latin1",
    ),
    "postgresql": ("TEXT", "CHAR(20)", "words", "VARCHAR(20) COLLATE loose"),
}


def _text(type_: str, collation: str) -> str:
    return f"{type_} COLLATE {collation}" if collation else type_


# --- making it -----------------------------------------------------------------------------------------------


def prepare(connection: Connection, database: str) -> None:
    """Make what the hosts of a database share; a PostgreSQL without ICU has only collations that tell texts apart."""
    if database == "postgresql":
        loose = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"CREATE COLLATION loose {loose}")
        except DBAPIError:
            connection.exec_driver_sql('CREATE COLLATION loose FROM "C"')
        connection.exec_driver_sql(f"CREATE TYPE words AS ENUM ({_words(WORDS)})")


@contextmanager
def made(connection: Connection, host: Host) -> Iterator[tuple[Unique, ...]]:
    """Make the table, with those of its indexes that the database takes, and have it gone afterwards."""
    columns = {"id": "INTEGER PRIMARY KEY" if host.kind != "partitioned" else "INTEGER"}
    columns |= dict.fromkeys(host.key, "INTEGER") | {"contact_id": host.contact}
    null = "" if host.nullable else " NOT NULL"
    columns |= {name: columns[name] + null for name in host.key}
    columns |= {
        "status": f"{host.status} NOT NULL",
        "updated_at": "INTEGER NOT NULL DEFAULT 0",
        "deleted_at": "INTEGER",
        "subject": "VARCHAR(20)",
        "flag": "INTEGER NOT NULL",
        "user_id": "INTEGER",
        "is_group": "INTEGER NOT NULL",
    }
    if host.database == "mariadb":
        columns["id"] += " AUTO_INCREMENT"
    with _table(connection, host, columns):
        taken = tuple(each for n, each in enumerate(host.indexes) if _takes(connection, host, n, each))
        yield taken


@contextmanager
def _table(connection: Connection, host: Host, columns: dict[str, str]) -> Iterator[None]:
    after = " PARTITION BY HASH (contact_id)" if host.kind == "partitioned" else ""
    create = f"CREATE TABLE desk ({', '.join(f'{name} {type_}' for name, type_ in columns.items())}){after}"
    if host.database == "mariadb":
        _run(connection, create)
        try:
            yield
        finally:
            _run(connection, "DROP TABLE desk")
        return
    outer = connection.begin_nested()
    try:
        _run(connection, create)
        if host.kind == "inherited":
            _run(connection, "CREATE TABLE child () INHERITS (desk)")
        for n in range(2 if host.kind == "partitioned" else 0):
            _run(
                connection,
                f"CREATE TABLE part{n} PARTITION OF desk FOR VALUES WITH (MODULUS 2, REMAINDER {n})",
            )
        yield
    finally:
        outer.rollback()


def _takes(connection: Connection, host: Host, number: int, unique: Unique) -> bool:
    where = f" WHERE {unique.where}" if unique.where else ""
    create = host.stored(
        f"CREATE UNIQUE INDEX u{number} ON desk ({', '.join(unique.parts)}){unique.after}{where}"
    )
    stored = {"postgresql": " STORED", "mariadb": "", "sqlite": ""}[host.database]
    add = [
        host.stored(f"ALTER TABLE desk ADD COLUMN {n} {t} GENERATED ALWAYS AS ({e}){stored}")
        for n, t, e in unique.generated
    ]
    try:
        if host.database == "mariadb":
            for statement in (*add, create):
                _run(connection, statement)
        else:
            with connection.begin_nested():
                for statement in (*add, create):
                    _run(connection, statement)
    except DBAPIError:
        return False
    return True


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(
        statement.replace("%", "%%") if connection.dialect.name != "sqlite" else statement
    )


# --- what the database lets in -------------------------------------------------------------------------------


def crowded(connection: Connection, host: Host, rounds: int = 2) -> str:
    """Try to give one key two active rows; return what the database has let in, and "" where it has not."""
    chance = Random(host.seed)
    into = ["desk", "child"] if host.kind == "inherited" else ["desk"]
    rows = _rows(host, chance)
    for _ in range(rounds):
        chance.shuffle(rows)
        for name in into:
            _run(connection, f"DELETE FROM {name}")
        half = len(rows) // len(into)
        for n, name in enumerate(into):
            _insert(connection, host, name, rows[n * half : (n + 1) * half])
        for contact in _contacts(host):
            found = _active_rows(connection, host, contact)
            if len(found) > 1:
                return str(found)
    return ""


def _contacts(host: Host) -> tuple[str, ...]:
    return ("'a'", "'A'", "'a '") if host.texts else ("1",)


def _rows(host: Host, chance: Random) -> list[dict[str, str]]:
    active = sorted(host.scheme.active)
    variants = [f(word) for word in active for f in (str, str, str.upper, str.title, lambda w: w + " ")]
    if host.numbers or host.status == "words" or host.status.startswith("ENUM"):
        variants = active
    contacts = [_contacts(host)[0]] * 3 + [*_contacts(host)]

    def row() -> dict[str, str]:
        made = {
            "contact_id": chance.choice(contacts),
            "connection_id": "1",
            "status": host.stored(quoted(chance.choice(variants))),
            "deleted_at": chance.choice(["NULL", "0", "1", "2"]),
            "subject": chance.choice(["NULL", "''", "'a'", "'b'", "'open'"]),
            "flag": chance.choice(["0", "1"]),
            "user_id": chance.choice(["NULL", "1", "2"]),
            "is_group": chance.choice(["0", "1"]),
        }
        return made | ({"company_id": "1"} if host.company else {})

    first = row()
    # Rows that differ in one column each, and rows that differ in any.
    one_by_one = [first | {name: row()[name]} for name in first for _ in range(3)]
    return [first, first, *one_by_one, *(row() for _ in range(16))]


def _insert(connection: Connection, host: Host, name: str, rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    names = ", ".join(("id", *rows[0]))
    start = {"desk": 0, "child": 1000}[name]
    values = [f"({n}, {', '.join(row.values())})" for n, row in enumerate(rows, start=start + 1)]
    into, after = f"INTO {name} ({names}) VALUES ", ""
    match host.database:
        case "postgresql":
            into, after = f"INSERT {into}", " ON CONFLICT DO NOTHING"
        case "mariadb":
            into = f"INSERT IGNORE {into}"
        case _:
            into = f"INSERT OR IGNORE {into}"
    if host.database != "postgresql":
        _run(connection, into + ", ".join(values))
        return
    try:
        with connection.begin_nested():
            _run(connection, into + ", ".join(values) + after)
    except DBAPIError:  # some conditions cannot be computed of some rows
        for value in values:
            with suppress(DBAPIError), connection.begin_nested():
                _run(connection, into + value + after)


def _active_rows(connection: Connection, host: Host, contact: str) -> list[Any]:
    """Return the active rows of the key as the library looks for them: by its columns, and its words as literals."""
    company = "company_id = 1 AND " if host.company else ""
    look = (
        f"SELECT * FROM desk WHERE {company}contact_id = {contact} AND connection_id = 1 "
        f"AND status IN ({host.stored(_words(sorted(host.scheme.active)))})"
        + (f" AND {host.stored(host.where)}" if host.where else "")
    )
    return [tuple(row) for row in connection.exec_driver_sql(look)]


# --- messages ------------------------------------------------------------------------------------------------


def routed(connection: Connection, host: Host) -> str:
    """Let messages come to an empty table, one by one and together; return what became of them.

    They are refused by an error of ours, or make one active ticket on each key, which has what every message writes.
    """
    mapping = host.mapping
    forget(connection)  # it has met another table of that name
    for name in ["desk", "child"] if host.kind == "inherited" else ["desk"]:
        _run(connection, f"DELETE FROM {name}")
    first, other = _contacts(host)[0].strip("'"), "other"
    contacts: list[Any] = [first, other] if host.texts else [1, 2]
    sent = [InboundMessage(1, contact, 1, data=data) for contact in contacts for data in ("b", None)]
    mapping.anchors.create(connection, checkfirst=True)
    try:
        with connection.begin_nested():
            router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping))
            answers = [router.resolve(sent[0]), *router.resolve_many(sent), *map(router.resolve, sent[1::2])]
            check_written(connection, host, answers)
    except TicketRouterError as error:
        return f"refused by {type(error).__name__}"
    else:
        return "routed"
    finally:
        mapping.anchors.drop(connection, checkfirst=True)


def check_written(connection: Connection, host: Host, answers: Sequence[Resolution]) -> None:
    """See that each key has one active row, and that it has what every message writes."""
    mapping, expected = host.mapping, written(host)
    table = mapping.table
    assert {answer.ticket.id for answer in answers} == set(
        connection.execute(select(table.c.id)).scalars()
    ), host
    assert 2 == len({answer.ticket.id for answer in answers}), (host, answers)
    for contact in ("'a'", "'other'") if host.texts else ("1", "2"):
        assert 1 == len(_active_rows(connection, host, contact)), (host, answers)
    columns = [table.c.id, *(table.c[name] for name in expected)]
    found = [dict(list(row.items())[1:]) for row in connection.execute(select(*columns)).mappings()]
    assert [expected] * 2 == found, (host, found)


def written(host: Host) -> dict[str, Any]:
    """Say what every message has written, the last one with nothing in it."""
    match host.on_message:
        case "a constant":
            return {"subject": "a"}
        case "a function":
            return {"subject": "b"}  # what is kept
        case "an expression":
            return {"flag": 0}
        case "several":
            return {"deleted_at": None, "flag": 0, "subject": "b"}
        case _:
            return {}
