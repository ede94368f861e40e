"""The schema as steps: what a host's database needs, what each step locks, and how to undo it.

Law of this file: it writes statements and sends none. Each step is whole in itself, and says whether it may stand
in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Dialect, create_mock_engine, inspect
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.audit_schema import is_by_contact, judged_indexes
from ticketrouter.sqlalchemy.catalogue import Index, indexes
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.mapping import KEY, MappingError, TicketMapping
from ticketrouter.sqlalchemy.schema import quoted

DIALECTS = ("postgresql", "mariadb", "sqlite")
"""The databases that there are statements for."""
_COMMENT = "--"
_URLS = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql", "sqlite": "sqlite+pysqlite"}


@frozen
class Step:
    """One change of the schema.

    Args:
        title: what it is for.
        locks: what waits while it runs.
        up: the statements that make the change.
        down: the statements that undo it.
        in_transaction: whether the statements may stand in a transaction.
    """

    title: str
    locks: str
    up: tuple[str, ...]
    down: tuple[str, ...]
    in_transaction: bool = True


def schema_steps(
    mapping: TicketMapping, dialect: str, *, drop: Sequence[str] = (), tables: bool = True
) -> tuple[Step, ...]:
    """Return the steps to the right schema: companion tables, an index by contact, the rule on active tickets.

    Args:
        mapping: where the tickets are.
        dialect: postgresql, mariadb or sqlite.
        drop: names of unique constraints of the tickets that are dropped at the end: the old rule.
        tables: whether the companion tables are among the steps.

    Returns:
        The steps, in their order. Undo them in the opposite one.

    Raises:
        MappingError: if it is another database, or the old rule cannot be dropped there.
    """
    writer = _Writer.of(mapping, dialect)
    old = [
        Index(name=name, parts=(), predicate=None, constraint=True, sql=writer.quote(name)) for name in drop
    ]
    return (
        *([writer.companions()] if tables else []),
        writer.by_contact(),
        writer.one_active(),
        *(writer.without(index) for index in old),
    )


def missing_steps(connection: Connection, mapping: TicketMapping) -> tuple[Step, ...]:
    """Return the steps that this database still needs; nothing is written.

    Args:
        connection: a connection to the database.
        mapping: where the tickets are.

    Returns:
        The steps, in their order: those of `schema_steps` that are not done yet, and the end of each unique index
        that is in the way of the rule, or that forbids nothing because the ticket's own id is in it.

    Raises:
        MappingError: if the table is not there, or the old rule cannot be dropped on this database.
        RepositoryError: if the database refuses a query.

    Statements:
        Look-ups in the catalogue, and one `SELECT` without a table for each unique index.
    """
    dialect = "mariadb" if connection.dialect.name == "mysql" else connection.dialect.name
    writer = _Writer.of(mapping, dialect, connection.dialect)
    with translated():
        found = tuple(indexes(connection, mapping))
        judged = judged_indexes(connection, mapping, found)
        there = inspect(connection)
        schema = mapping.table.schema
        absent = [t for t in writer.companion_tables() if not there.has_table(t.name, schema=schema)]
    old = [each.index for each in judged if each.in_the_way]
    # A ticket could not be closed beside it, so it goes before the duplicates do.
    first = [each.index for each in judged if each.refuses_closing]
    broken = [index for index in found if not index.valid]
    kept = [index for index in found if index.valid and index not in old]
    has_rule = any(each.rule is UniqueRule.ACTIVE_PER_CONNECTION for each in judged)
    by_contact = any(index.predicate is None and is_by_contact(mapping, index) for index in kept)
    return (
        *([writer.companions(absent)] if absent else []),
        *(writer.without(index) for index in broken),
        # Before an old index goes that a foreign key of MariaDB may have relied on.
        *([] if by_contact else [writer.by_contact(takes_place=False)]),
        *(writer.without(index) for index in first),
        *([] if has_rule else [writer.one_active()]),
        *(writer.without(index) for index in old if index not in first),
    )


def script(steps: Iterable[Step]) -> str:
    """Return the steps as a file of SQL: each with its locks, and the way back in comments."""
    return "\n".join(_written(number, step) for number, step in enumerate(steps, start=1))


def upgrade(op: Any, steps: Iterable[Step]) -> None:
    """Take the steps in a migration of Alembic.

    Args:
        op: `alembic.op`.
        steps: the steps.

    Statements:
        Theirs. What may not stand in a transaction runs in an autocommit block.
    """
    for step in steps:
        _run(op, step, step.up)


def downgrade(op: Any, steps: Sequence[Step]) -> None:
    """Undo the steps in a migration of Alembic, the last one first.

    Args:
        op: `alembic.op`.
        steps: the steps.

    Statements:
        Theirs. What may not stand in a transaction runs in an autocommit block.
    """
    for step in reversed(steps):
        _run(op, step, step.down)


def _run(op: Any, step: Step, statements: tuple[str, ...]) -> None:
    def send() -> None:
        for statement in statements:
            if statement.startswith(_COMMENT):
                continue
            # As it is: what looks like a bound value is none.
            op.execute(statement.replace(":", r"\:"))

    if step.in_transaction:
        send()
        return
    with op.get_context().autocommit_block():
        send()


def _send_nothing(*_: object, **__: object) -> None:
    """Stand for a database that is never asked."""


def _written(number: int, step: Step) -> str:
    return "\n".join(
        (
            f"-- {number}. {step.title}",
            f"--    {step.locks}",
            *(() if step.in_transaction else ("--    Not inside a transaction.",)),
            *(_ended(statement) for statement in step.up),
            "-- To undo it:",
            *(f"--   {line}" for statement in step.down for line in _ended(statement).splitlines()),
            "",
        )
    )


def _ended(statement: str) -> str:
    return statement.removeprefix(f"{_COMMENT} ") if statement.startswith(_COMMENT) else f"{statement};"


@frozen
class _Writer:
    """Writes the statements for one table and one database."""

    mapping: TicketMapping
    database: str
    dialect: Dialect

    @classmethod
    def of(cls, mapping: TicketMapping, database: str, dialect: Dialect | None = None) -> _Writer:
        if database not in DIALECTS:
            raise MappingError(f"there are statements for {', '.join(DIALECTS)}, and none for {database!r}")
        if dialect is None:
            dialect = create_mock_engine(f"{_URLS[database]}://", _send_nothing).dialect
        return cls(mapping, database, dialect)

    # --- names -----------------------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        return self.dialect.identifier_preparer.quote(name)

    @property
    def table(self) -> str:
        return self.dialect.identifier_preparer.format_table(self.mapping.table)

    def column(self, field: str) -> str:
        return self.quote(self.mapping.columns[field].name)

    def index(self, name: str) -> str:
        """Name an index of ours, which stands in the schema of its table."""
        return self.quote(f"{self.mapping.table.name.lower()}_{name}")

    def placed(self, index: str) -> str:
        """Name an index where it is dropped: there its schema must be said."""
        schema = self.mapping.table.schema
        return index if schema is None else f"{self.dialect.identifier_preparer.quote_schema(schema)}.{index}"

    def key(self) -> list[str]:
        return [self.column(field) for field in KEY if field in self.mapping.columns]

    @property
    def active(self) -> str:
        words = ", ".join(quoted(word) for word in sorted(self.mapping.statuses.active))
        return f"{self.column('status')} IN ({words})"

    # --- the steps -------------------------------------------------------------------------------------------

    def companion_tables(self) -> list[Any]:
        return [self.mapping.message_ids, self.mapping.anchors]

    def companions(self, tables: Sequence[Any] | None = None) -> Step:
        found = self.companion_tables() if tables is None else list(tables)
        up: list[str] = []
        for table in found:
            up.append(self.compiled(CreateTable(table)))
            up += [
                self.compiled(CreateIndex(index))
                for index in sorted(table.indexes, key=lambda i: str(i.name))
            ]
        return Step(
            "Companion tables: message ids, so that a redelivery is harmless, and what is locked without a rule.",
            "Nothing waits: they are new, and nothing refers to them.",
            tuple(up),
            tuple(self.compiled(DropTable(table)) for table in reversed(found)),
        )

    def by_contact(self, *, takes_place: bool = True) -> Step:
        """Write the index by contact; MariaDB lets it take the place of one that a foreign key has of its own."""
        fields = [f for f in ("contact_id", "company_id", "connection_id") if f in self.mapping.columns]
        columns, name = ", ".join(self.column(field) for field in fields), self.index("by_contact")
        title = "An index that finds a contact's tickets, the closed ones too."
        match self.database:
            case "postgresql":
                return self._concurrently(
                    title, f"INDEX CONCURRENTLY {name} ON {self.table} ({columns})", name
                )
            case "mariadb":
                contact = self.column("contact_id")
                again = f", ADD INDEX IF NOT EXISTS {contact} ({contact})" if takes_place else ""
                return Step(
                    title,
                    "Reads and writes go on while it is built (ALGORITHM=INPLACE, LOCK=NONE).",
                    (self._altered(f"ADD INDEX {name} ({columns})"),),
                    (self._altered(f"DROP INDEX {name}{again}"),),
                )
            case _:
                return self._of_sqlite(title, f"INDEX {name} ON {self._bare} ({columns})", name)

    def one_active(self) -> Step:
        key, name = ", ".join(self.key()), self.index("one_active")
        title = "The rule: one active ticket per key. Close the duplicates first (`ticketrouter repair`)."
        match self.database:
            case "postgresql":
                what = f"UNIQUE INDEX CONCURRENTLY {name} ON {self.table} ({key}) WHERE {self.active}"
                return self._concurrently(title, what, name)
            case "mariadb":
                column = self.quote("ticketrouter_active")
                generated = f"{column} TINYINT AS (IF({self.active}, 1, NULL)) VIRTUAL"
                return Step(
                    title,
                    "The column is there at once. While the index is built reads and writes go on, but for the "
                    "moments when it begins and ends.",
                    (
                        f"ALTER TABLE {self.table} ADD COLUMN {generated}, ALGORITHM=INSTANT",
                        self._altered(f"ADD UNIQUE INDEX {name} ({key}, {column})"),
                    ),
                    (
                        self._altered(f"DROP INDEX {name}"),
                        f"ALTER TABLE {self.table} DROP COLUMN {column}, ALGORITHM=INSTANT",
                    ),
                )
            case _:
                what = f"UNIQUE INDEX {name} ON {self._bare} ({key}) WHERE {self.active}"
                return self._of_sqlite(title, what, name)

    def without(self, index: Index) -> Step:
        name = index.sql
        title = f"Without {index.name}: " + (
            "it is invalid, as building it was broken off."
            if not index.valid
            else "with the id in it, it forbids nothing."
            if self._has_id(index)
            else "the old rule forbids what the new one allows."
        )
        parts = ", ".join(index.parts)
        where = "" if index.predicate is None else f" WHERE {index.predicate}"
        unknown = f"-- build {index.name} again as it was: its columns are not known here"
        match self.database:
            case "postgresql" if index.constraint:
                return Step(
                    title,
                    "Everything on the table waits for a moment (ACCESS EXCLUSIVE), and it waits for what runs before.",
                    (f"ALTER TABLE {self.table} DROP CONSTRAINT {name}",),
                    (
                        f"ALTER TABLE {self.table} ADD CONSTRAINT {name} UNIQUE ({parts})"
                        if parts
                        else unknown,
                    ),
                )
            case "postgresql":
                unique = "UNIQUE " if index.unique else ""
                again = f"CREATE {unique}INDEX CONCURRENTLY {name.rpartition('.')[2]} ON {self.table} ({parts}){where}"
                return Step(
                    title,
                    "Reads and writes go on (SHARE UPDATE EXCLUSIVE); it waits for older transactions.",
                    (f"DROP INDEX CONCURRENTLY {name}",),
                    (again,) if index.valid else ("-- nothing: it was of no use",),
                    in_transaction=False,
                )
            case "mariadb":
                return Step(
                    title,
                    "Everything on the table waits for a moment (a metadata lock), and it waits for what runs before.",
                    (f"ALTER TABLE {self.table} DROP INDEX {name}",),
                    (f"ALTER TABLE {self.table} ADD UNIQUE INDEX {name} ({parts})" if parts else unknown,),
                )
            case _ if index.constraint and parts:
                raise MappingError(
                    f"SQLite cannot drop the constraint behind {index.name} ({parts}) from {self.mapping.table.name}: "
                    "make the table anew without it, as Alembic's op.batch_alter_table does"
                )
            case _:
                again = f"CREATE UNIQUE INDEX {self.quote(index.name)} ON {self._bare} ({parts}){where}"
                return Step(
                    title,
                    _LOCKS_OF_SQLITE,
                    (f"DROP INDEX {name}",),
                    (again if parts else unknown,),
                )

    # --- what they share -------------------------------------------------------------------------------------

    def _concurrently(self, title: str, what: str, name: str) -> Step:
        return Step(
            title,
            "Reads and writes go on (SHARE UPDATE EXCLUSIVE); it waits for older transactions. If it is broken off, "
            f"drop what is left: DROP INDEX CONCURRENTLY {self.placed(name)}",
            (f"CREATE {what}",),
            (f"DROP INDEX CONCURRENTLY {self.placed(name)}",),
            in_transaction=False,
        )

    def _of_sqlite(self, title: str, what: str, name: str) -> Step:
        schema = self.mapping.table.schema
        what = what if schema is None else what.replace(f"INDEX {name}", f"INDEX {self.placed(name)}", 1)
        return Step(title, _LOCKS_OF_SQLITE, (f"CREATE {what}",), (f"DROP INDEX {self.placed(name)}",))

    def _altered(self, change: str) -> str:
        """Let MariaDB refuse what would hold up the desk."""
        return f"ALTER TABLE {self.table} {change}, ALGORITHM=INPLACE, LOCK=NONE"

    @property
    def _bare(self) -> str:
        # SQLite's CREATE INDEX has the schema before the index, and not before the table.
        return self.quote(self.mapping.table.name)

    def _has_id(self, index: Index) -> bool:
        return self.column("id") in index.parts or self.mapping.columns["id"].name in index.parts

    def compiled(self, element: Any) -> str:
        lines = str(element.compile(dialect=self.dialect)).strip().splitlines()
        return "\n".join(line.replace("\t", "    ").rstrip() for line in lines)


_LOCKS_OF_SQLITE = "Every other writer waits until it is done; readers do not wait in WAL mode."


def own_schema(mapping: TicketMapping, dialect: str) -> tuple[Step, ...]:
    """Return our own tables, those of `DEFAULT_MAPPING` or `TicketMapping.own`, as one step.

    Args:
        mapping: the mapping of our own tables.
        dialect: postgresql, mariadb or sqlite.

    Raises:
        MappingError: if it is another database.
    """
    writer = _Writer.of(mapping, dialect)
    up: list[str] = []

    def keep(element: Any, *_: object, **__: object) -> None:
        up.append(writer.compiled(element))

    engine = create_mock_engine(f"{_URLS[dialect]}://", keep)
    mapping.metadata.create_all(engine, checkfirst=False)
    tables = reversed(mapping.metadata.sorted_tables)
    return (
        Step(
            "Our own tables: tickets and their companions.",
            "Nothing waits: they are new.",
            tuple(up),
            tuple(writer.compiled(DropTable(table)) for table in tables),
        ),
    )
