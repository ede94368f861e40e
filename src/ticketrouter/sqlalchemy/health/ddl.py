"""The schema as steps: what a host's database needs, what each step locks, and how to undo it.

Law of this file: it chooses steps and writes them out, and sends none but into a migration that asks for it. What a step
is stands in `steps`, and in the room of each database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, create_mock_engine, inspect
from sqlalchemy.schema import DropTable

from ticketrouter.model import UniqueRule
from ticketrouter.sqlalchemy.catalogue import indexes
from ticketrouter.sqlalchemy.columns import MappingError
from ticketrouter.sqlalchemy.dialects import DATABASES, database_of
from ticketrouter.sqlalchemy.dialects.base import Database
from ticketrouter.sqlalchemy.facts import Index, schema_of
from ticketrouter.sqlalchemy.faults import translated
from ticketrouter.sqlalchemy.health.audit_schema import is_by_contact
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import commented
from ticketrouter.sqlalchemy.rules import judged_indexes
from ticketrouter.sqlalchemy.steps import COMMENT, Step, StepWriter

__all__ = [
    "DIALECTS",
    "Step",
    "downgrade",
    "execute",
    "missing_steps",
    "own_schema",
    "schema_steps",
    "script",
    "upgrade",
]

DIALECTS = tuple(each.name for each in DATABASES)
"""The databases that there are statements for."""


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
    writer = _writer(mapping, dialect)
    old = [Index(name=name, parts=(), predicate=None, constraint=True, path=(name,)) for name in drop]
    return (
        *([writer.companions()] if tables else []),
        writer.by_contact(),
        writer.one_active() if writer.can_have_rule else writer.no_rule(),
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
    schema = schema_of(connection, mapping)
    writer = database_of(connection.dialect).steps(mapping, schema)
    with translated():
        found = tuple(indexes(connection, mapping))
        judged = judged_indexes(connection, mapping, found)
        there = inspect(connection)
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
        *([] if has_rule else [writer.one_active() if writer.can_have_rule else writer.no_rule()]),
        *(writer.without(index) for index in old if index not in first),
    )


def script(steps: Iterable[Step], dialect: str) -> str:
    """Return the steps as a file of SQL: each with its locks, and the way back in comments.

    Args:
        steps: the steps.
        dialect: postgresql, mariadb or sqlite.
    """
    return _known(dialect).names.opening + "\n".join(
        _written(number, step) for number, step in enumerate(steps, start=1)
    )


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


def execute(op: Any, statement: str) -> None:
    """Send a statement of a plan by Alembic, as it is: what looks like a bound value is none.

    Args:
        op: `alembic.op`.
        statement: the statement.

    Statements:
        It.
    """
    op.execute(statement.replace(":", r"\:"))


def _run(op: Any, step: Step, statements: tuple[str, ...]) -> None:
    def send() -> None:
        for statement in statements:
            if not statement.startswith(COMMENT):
                execute(op, statement)

    if step.in_transaction:
        send()
        return
    with op.get_context().autocommit_block():
        send()


def _written(number: int, step: Step) -> str:
    return "\n".join(
        (
            commented(f"{number}. {step.title}"),
            *((commented(step.locks, indent="    "),) if step.locks else ()),
            *(() if step.in_transaction else ("--    Not inside a transaction.",)),
            *(_ended(statement) for statement in step.up),
            *_way_back(step),
            "",
        )
    )


def _way_back(step: Step) -> list[str]:
    if not step.down:
        return []
    statements = [_ended(statement) for statement in step.down]
    shown = [commented(statement, indent="   ") for statement in statements]
    exact = all(line.isprintable() for statement in statements for line in statement.split("\n"))
    # Without their comment marks the lines would name something else.
    why = "" if exact else " (a name has characters that no comment can hold: write them where \\ stands)"
    return [f"-- To undo it{why}:", *shown]


def _ended(statement: str) -> str:
    return statement if statement.startswith(COMMENT) else f"{statement};"


def _writer(mapping: TicketMapping, name: str) -> StepWriter:
    return _known(name).steps(mapping, mapping.table.schema)


def _known(name: str) -> Database:
    database = next((each for each in DATABASES if each.name == name), None)
    if database is None:
        raise MappingError(f"there are statements for {', '.join(DIALECTS)}, and none for {name!r}")
    return database


def own_schema(mapping: TicketMapping, dialect: str) -> tuple[Step, ...]:
    """Return our own tables, those of `DEFAULT_MAPPING` or `TicketMapping.own`, as one step.

    Args:
        mapping: the mapping of our own tables.
        dialect: postgresql, mariadb or sqlite.

    Raises:
        MappingError: if it is another database.
    """
    writer = _writer(mapping, dialect)
    up: list[str] = []

    def keep(element: Any, *_: object, **__: object) -> None:
        up.append(writer.compiled(element))

    engine = create_mock_engine(f"{writer.names.url}://", keep)
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
