"""The steps to the right schema of one table, as far as they are the same for every database.

Law of this file: it writes statements and sends none. Each step is whole in itself, and says whether it may stand
in a transaction. Names and words come into a statement, and a comment, by `names` alone. What a step is sent as, and what
it locks, is said by each room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import frozen
from sqlalchemy import MetaData
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from ticketrouter.checks import printable
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.facts import Index
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.names import Names, bare, laid_out, plain_dialect, unreadable
from ticketrouter.sqlalchemy.row_condition import OPAQUE

COMMENT = "--"
"""What a line that is no statement begins with."""
_BY_CONTACT = "An index that finds a contact's tickets, the closed ones too."
ONE_ACTIVE = "The rule: one active ticket per key. Close the duplicates first (`ticketrouter repair`)."
"""The title of the step that makes the unique rule."""


@frozen
class Step:
    """One change of the schema.

    Args:
        title: what it is for.
        locks: what waits while it runs.
        up: the statements that make the change, for any client: per cent signs and colons are what they are.
        down: the statements that undo it.
        in_transaction: whether the statements may stand in a transaction.
    """

    title: str
    locks: str
    up: tuple[str, ...]
    down: tuple[str, ...]
    in_transaction: bool = True


@frozen
class StepWriter(ABC):
    """Writes the steps for one table and one database.

    Args:
        mapping: where the tickets are.
        schema: the database schema that they are in; None: the default one.
    """

    names: ClassVar[Names]
    mapping: TicketMapping
    schema: str | None

    # --- what each database has of its own -------------------------------------------------------------------

    @abstractmethod
    def index_step(self, title: str, what: str, name: str, over: str) -> Step:
        """Write a step that makes an index: a kind of index, its name, and what it is over."""

    @abstractmethod
    def drop_step(self, title: str, index: Index, name: str) -> Step:
        """Write a step that drops an index.

        Raises:
            MappingError: if it cannot be dropped.
        """

    # --- the steps -------------------------------------------------------------------------------------------

    def by_contact(self, *, takes_place: bool = True) -> Step:  # noqa: ARG002
        """Write the index by contact, which may take the place of one that a foreign key has of its own."""
        return self.index_step(_BY_CONTACT, "INDEX", self.index("by_contact"), f"({self.columns_by_contact})")

    def one_active(self) -> Step:
        """Write the unique rule."""
        over = f"({', '.join(self.key())}) WHERE {self.active}"
        return self.index_step(ONE_ACTIVE, "UNIQUE INDEX", self.index("one_active"), over)

    def no_rule(self) -> Step:
        """Write why there is no unique rule, where there can be none."""
        return Step(
            f"No rule: the row condition, `where`, {OPAQUE}, so no index can have it; contacts are locked instead.",
            "",
            (),
            (),
        )

    def without(self, index: Index) -> Step:
        """Write the end of an index."""
        title = f"Without {printable(index.path[-1])}: " + (
            "it is invalid, as building it was broken off."
            if not index.valid
            else "with the id in it, it forbids nothing."
            if self.mapping.columns["id"].name in map(bare, index.parts)
            else "the old rule forbids what the new one allows."
        )
        return self.drop_step(title, index, self.names.dotted(index.path))

    def companion_tables(self) -> list[Any]:
        """Return the companion tables, in the schema of the tickets."""
        ids = [self.mapping.message_ids] if self.mapping.remember_messages else []
        companions = [*ids, self.mapping.anchors]
        if self.schema == self.mapping.table.schema:
            return companions
        elsewhere = MetaData()
        return [table.to_metadata(elsewhere, schema=self.schema) for table in companions]  # type: ignore[arg-type]

    def companions(self, tables: Sequence[Any] | None = None) -> Step:
        """Write the companion tables; None: all."""
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

    # --- what they are written with --------------------------------------------------------------------------

    @property
    def table(self) -> str:
        """The name of the table."""
        return self.placed(self.mapping.table.name)

    def column(self, field: str) -> str:
        """Name the column of a field."""
        return self.names.identifier(self.mapping.columns[field].name)

    def index(self, name: str) -> str:
        """Name an index of ours, which stands in the schema of its table."""
        return self.names.index_name(self.mapping.table.name, name)

    def placed(self, name: str) -> str:
        """Name what stands in the schema of the tickets."""
        return self.names.dotted((name,) if self.schema is None else (self.schema, name))

    def key(self) -> list[str]:
        """Name the columns of the key."""
        return [self.column(field) for field in KEY if field in self.mapping.columns]

    @property
    def columns_by_contact(self) -> str:
        """What the index by contact is over."""
        fields = [f for f in ("contact_id", "company_id", "connection_id") if f in self.mapping.columns]
        return ", ".join(self.column(field) for field in fields)

    @property
    def active(self) -> str:
        """What is true of an active ticket."""
        stored = self.mapping.words(plain_dialect(self.names.url))
        told_by = self.names.identifier(self.mapping.told_by.name)
        active = stored.sql(self.mapping.statuses.active, told_by, self.names.literal)
        where = self.mapping.where
        if where is None:
            return active
        return f"{active} AND {where.sql(plain_dialect(self.names.url), self.names.identifier)}"

    @property
    def can_have_rule(self) -> bool:
        """Whether there is an index for the rule: a row condition may be such that none can have it."""
        return self.mapping.where is None or self.mapping.where.fits_an_index

    def again(self, index: Index, beginning: str = "") -> str:
        """Write what makes an index again, as the catalogue has it."""
        found = None if index.definition is None else self.names.rewritten(index.definition)
        if found is None:
            name = printable(index.path[-1])
            return f"{COMMENT} build {name} again as it was: what it is over is not known here, or depends on a setting"
        return f"{beginning}{self.defined(index, found)}"

    def defined(self, index: Index, definition: str) -> str:  # noqa: ARG002
        """Return what the catalogue has of an index as it stands in a statement."""
        return definition

    def compiled(self, element: Any) -> str:
        """Return what SQLAlchemy makes of a table or an index, for people."""
        written = laid_out(str(element.compile(dialect=plain_dialect(self.names.url))))
        found = self.names.rewritten(written)
        if found is None:  # a status word is a literal that depends on no setting: it is a name
            raise unreadable(element.element.name)
        return found
