"""What only MariaDB is sent: it answers no `UPDATE` with rows, tells by a variable who was first, and locks what it reads.

Law of this file: as in `ticketrouter.sqlalchemy.parts`. What is sent because its plain reads may be old, and why, stands
in `old_reads`.

MariaDB has no `ON CONFLICT DO NOTHING`. `IGNORE` would also cut values short, and catching the error would leave a shared
lock, at which two losers deadlock. So an `INSERT` gives the row in the way, locked, and with each row the variable
`@ticketrouter`, which only the branch for duplicates sets to the token that the statement was sent with:

    INSERT INTO tickets (...) VALUES (...)
    ON DUPLICATE KEY UPDATE status = IF((@ticketrouter := token) > 0, status, status) RETURNING ..., @ticketrouter

Without a unique rule it is a plain one that tells whether there is a rival:

    INSERT INTO tickets (...) VALUES (...)
    RETURNING ..., EXISTS (SELECT 1 FROM tickets AS other WHERE <active on the key> FOR UPDATE), 0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from secrets import randbits
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Dialect,
    Executable,
    Integer,
    Select,
    String,
    Table,
    Update,
    and_,
    bindparam,
    collate,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import mysql

from ticketrouter.decisions import Create, Reuse
from ticketrouter.model import Ticket, UniqueRule, altered, bumped
from ticketrouter.sqlalchemy.claims import Claims
from ticketrouter.sqlalchemy.columns import KEY
from ticketrouter.sqlalchemy.facts import ByIndex, Detected
from ticketrouter.sqlalchemy.looks import Looks
from ticketrouter.sqlalchemy.mapping import TicketMapping
from ticketrouter.sqlalchemy.moves import Moves
from ticketrouter.sqlalchemy.on_message import Columns
from ticketrouter.sqlalchemy.parts import ONE, Parts, Sent, more
from ticketrouter.sqlalchemy.types import JsonRow, UtcDateTime, in_json
from ticketrouter.sqlalchemy.writes import JOINED, WOKEN, Writes

_TOKEN = bindparam("b_token", type_=BigInteger)


class MariaDBParts(Parts):
    """The parts of statements for MariaDB."""

    checks_place = True  # `USE`
    returns_updates = False
    # A statement that begins before the variable exists reads NULL to its end: it is asked for again, and made.
    ask_mark: ClassVar[Executable | None] = select(text("@ticketrouter := COALESCE(@ticketrouter, 0)"))

    def __init__(
        self, mapping: TicketMapping, dialect: Dialect, detected: Detected, by: ByIndex | None = None
    ) -> None:
        super().__init__(mapping, dialect, detected, by)
        self._row_type = JsonRow((String(), *(column.type for column in self.columns)))

    @property
    def is_here(self) -> ColumnElement[bool]:
        """See `Parts.is_here`: whether the schema is still that of this name."""
        name = collate(func.database(type_=String), "utf8mb3_bin")
        return name.is_not_distinct_from(bindparam("b_at", type_=String))

    def cells(
        self, role: ColumnElement[Any], columns: Iterable[ColumnElement[Any]]
    ) -> list[ColumnElement[Any]]:
        """See `Parts.cells`; as one JSON array: the drivers spend on each column of a result more than on its values."""
        cells = (in_json(each, self.values.dialect) for each in columns)
        row = func.json_array(role.label("role"), *cells)
        # What is made of two collations has none of its own, and no union takes it.
        one = func.convert(row.op("USING")(literal_column("utf8mb4"))).collate("utf8mb4_bin")
        return [type_coerce(one, self._row_type).label("found")]

    def cells_in(self, rows: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
        """See `Parts.cells_in`."""
        return [row[0] for row in rows]

    # --- what is locked ----------------------------------------------------------------------------------------

    def hinted(self, look: Select[Any], index: str | None, table: Any = None) -> Select[Any]:
        """See `Parts.hinted`: left to itself it reads, and so locks, whatever it finds cheaper while a table is small."""
        if index is None:
            return look
        # SQLAlchemy formats the hint of a look, and a driver that formats sends it.
        hint = _force(index).replace("%", "%%")
        return look.with_hint(self.mapping.table if table is None else table, hint)

    def is_ticket_locked(self) -> ColumnElement[bool]:
        """See `Parts.is_ticket_locked`.

        Where it made a range of an index, the row behind the range would be locked, too, which is another contact's.
        """
        if not self.mapping.nullable_keys:
            return self.is_ticket()
        return and_(
            self.of_desk(),
            *(
                func.isnull(self.mapping.columns[field]) == literal_column("0")
                for field in KEY[1:]
                if field in self.mapping.columns
            ),
        )

    def as_committed(self, rival: Select[Any], table: Any) -> Select[Any]:
        """See `Parts.as_committed`: at READ UNCOMMITTED, which no variable need show, it would see, or miss, such a row."""
        return super().as_committed(rival, table).with_for_update()

    # --- writes ------------------------------------------------------------------------------------------------

    def insert(self, table: Table) -> Any:
        """See `Parts.insert`."""
        return mysql.insert(table)

    def insert_unless_taken(
        self,
        table: Table,
        conflict: dict[str, Any],  # noqa: ARG002 - it asks them all
        column: ColumnElement[Any],
        returned: Sequence[ColumnElement[Any]],
        *after: ColumnElement[Any],
    ) -> Any:
        """See `Parts.insert_unless_taken`, and the head of this file; `after` stands behind the mark."""
        name = "`" + column.name.replace("`", "``").replace(":", r"\:") + "`"
        same = text(f"IF((@ticketrouter := :b_token) > 0, {name}, {name})").bindparams(_TOKEN)
        taken: ColumnElement[Any] = literal_column("@ticketrouter").label("taken")
        return (
            self.insert(table)
            .on_duplicate_key_update({column.name: same})
            .returning(*returned, taken, *after)
        )

    def token(self) -> dict[str, Any]:
        """See `Parts.token`: what no other statement of this connection has set the variable to."""
        return {"b_token": randbits(62) + 1}

    def is_made(self, mark: Any, values: Mapping[str, Any]) -> bool:
        """See `Parts.is_made`."""
        return bool(int(mark) != values["b_token"])


def by_index(change: Update, index: str | None) -> Update:
    """Let an `UPDATE` find its rows by an index; None: it chooses itself."""
    return change if index is None else change.with_hint(_force(index))


def _force(index: str) -> str:
    return f"FORCE INDEX ({index.replace('%', '%%')})"  # it is sent by a driver that formats


class MariaDBLooks(Looks):
    """The looks of MariaDB."""

    def _of_what_refused(self, rows: Select[Any], *, lock: bool) -> Select[Any]:
        detected = self._parts.detected
        index = detected.ways.contact if detected.index is None else detected.index.sql
        by = self._parts.hinted(rows, index)
        return by.with_for_update(read=True) if lock else by


class MariaDBWrites(Writes):
    """The writes of one ticket of MariaDB."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        # It is not read again.
        stays = not self._mapping.may_leave_out(JOINED)
        self.can_reuse_as_seen: bool = stays and parts.times.are_known
        self._as_seen: dict[tuple[int | None, bool, bool], Executable] = {}

    # --- a new ticket ------------------------------------------------------------------------------------------

    @property
    def sees_rivals(self) -> bool:
        """See `Writes.sees_rivals`.

        Where there is no unique rule, what was seen before the claim may have been dirty. To ask in the `INSERT` before
        the row is there would lock a gap that others insert into, and so would deadlock; afterwards they only wait.
        """
        return self._parts.rule is UniqueRule.NONE

    def create(self, decision: Create, further: Mapping[str, Any]) -> Sent:
        """See `Writes.create`."""
        statement, row = super().create(decision, further)
        return statement, row | (self._values.on(decision.key) if self.sees_rivals else {})

    def _rivals(self) -> list[ColumnElement[Any]]:
        if not self.sees_rivals:
            return []
        parts, columns = self._parts, self._mapping.columns
        other = self._mapping.table.alias("other")
        # By values, not by the new row's columns: only so does MariaDB take an index while the table is small.
        same = parts.all_are(*KEY, table=other)
        # SQLAlchemy takes no part of an `INSERT` for what a look inside may be about.
        # It doubles per cent signs itself where the driver formats: the name must not come with doubled ones.
        preparer = mysql.dialect(paramstyle="qmark").identifier_preparer
        name = preparer.format_column(columns["id"], use_table=True)
        is_another = other.c[columns["id"].key] != literal_column(name)
        rival: Select[Any] = (
            select(ONE)
            .select_from(other)
            .where(*same, is_another, parts.is_active(other), parts.of_desk(other))
        )
        return [exists(parts.as_committed(rival, other)).label("rival")]

    def _has_no_time(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """See `Writes._has_no_time`: the zero date, too, is none, and a TIMESTAMP of it is not NULL."""
        none = super()._has_no_time(column)
        return (
            none
            if isinstance(self._values.bare(column.type), Integer)
            else or_(none, column == literal_column("0"))
        )

    # --- a message joins a ticket that is as it was seen --------------------------------------------------------

    def reuse_as_seen(self, decision: Reuse, columns: Columns) -> tuple[Sent, Callable[[int], Ticket]] | None:
        """See `Writes.reuse_as_seen`."""
        if not self.can_reuse_as_seen:
            return None
        by, woken = more(decision.unread), decision.woken(self._mapping.statuses)
        if woken is not None and self._parts.may_leave_out(WOKEN, woken):
            return None
        written = self.of_message(decision, columns)
        variant = by, woken is not None, written is not None
        statement = self._as_seen.get(variant)
        if statement is None:
            statement = self._as_seen[variant] = self._build_reuse_as_seen(*variant)
        ticket = self._parts.times.as_kept(altered(decision.ticket, updated_at=decision.at))
        values = self._values.seen(ticket) | self._values.bound(
            status=ticket.status,
            user_id=ticket.user_id,
            queue_id=ticket.queue_id,
            updated_at=ticket.updated_at,
        )
        if by is None and self._values.counts:
            values["b_unread_set"] = decision.unread.set_to
        values |= written or {}
        if woken is not None:
            values["b_woken"] = self._values.encoded("status", woken)
            ticket = altered(ticket, status=woken)
        return (statement, values), partial(self._reused, ticket)

    def _reused(self, ticket: Ticket, count: int) -> Ticket:
        if not self._values.counts:
            return ticket
        signed = count - 2**64 if count >= 2**63 else count
        return bumped(ticket, max(signed, 0), ticket.updated_at)

    def _build_reuse_as_seen(self, by: int | None, wakes: bool, writes: bool) -> Any:
        parts, columns = self._parts, self._mapping.columns
        count = parts.count_of(by)
        same = [
            columns[field].is_not_distinct_from(parts.bind(field))
            for field in ("status", "user_id", "queue_id")
            if field in columns
        ]
        begun = columns.get("created_at")
        if begun is not None and (begun.nullable or not isinstance(begun.type, UtcDateTime)):
            # What stands for it changes with every message, and is read again.
            same.append(not_(self._has_no_time(begun)))
        return parts.update(
            *parts.as_seen(),
            parts.is_active(),
            *same,
            further=parts.mapping.on_message.changes() if writes else {},
            unread_messages=None if count is None else func.last_insert_id(count),
            updated_at=self._optional("updated_at"),
            **({"status": parts.bind("status", "b_woken")} if wakes else {}),
        )


class MariaDBClaims(Claims):
    """The claims of MariaDB."""

    def _written(self, write: Any) -> Any:
        return write.on_duplicate_key_update(self._next_version())

    def _told(self, write: Any) -> Any:
        return write.returning(*self._anchors.primary_key, self._anchors.c.version)

    @property
    def version(self) -> ColumnElement[Any]:
        """The version of an anchor; in a dirty read, whose tickets may not be there yet, one that none comes after."""
        is_dirty = literal_column("@@tx_isolation = 'READ-UNCOMMITTED'", Boolean)
        version: ColumnElement[Any] = func.if_(is_dirty, literal_column("-2"), self._anchors.c.version)
        return version


class MariaDBMoves(Moves):
    """The statements of a move of MariaDB."""

    def _by(self, changing: Update, index: str | None) -> Update:
        return by_index(changing, index)

    def _seen_now(self, look: Select[Any], *, lock: bool) -> Select[Any]:
        # The lock of a statement is not one of its subqueries, which would read an old snapshot.
        return self._locked(look, lock=lock)
