"""A model of a database: rows in versions, locks, waiting, and what each isolation level lets a transaction see.

Law of this file: it knows rows and unique values, and of tickets only which value a row takes. It is written from
the databases' manuals, not from our adapter. What it leaves out: gap locks, and locks on what a statement only
walks past, both of MariaDB; they make more deadlocks there, never fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import define, field, frozen

from tests.support.interleavings.explorer import Pause
from ticketrouter import ContentionError

Place: TypeAlias = tuple[str, Hashable]
"""A table and a primary key."""


class Level(StrEnum):
    """An isolation level of a database, with what is different in it."""

    POSTGRESQL_READ_COMMITTED = "PostgreSQL READ COMMITTED"
    """Each statement sees what is committed when it begins; after a wait it looks at the waited-for row again."""
    POSTGRESQL_REPEATABLE_READ = "PostgreSQL REPEATABLE READ"
    """One snapshot from the first statement on; to write, or to be hindered by, what is newer is error 40001."""
    POSTGRESQL_SERIALIZABLE = "PostgreSQL SERIALIZABLE"
    """The same, and COMMIT fails if what was read has changed: more often than PostgreSQL itself would."""
    MARIADB_READ_COMMITTED = "MariaDB READ COMMITTED"
    """Each plain read sees what is committed; writes and locking reads wait and see the current rows."""
    MARIADB_REPEATABLE_READ = "MariaDB REPEATABLE READ"
    """Plain reads see the snapshot of the first one; writes and locking reads wait and see the current rows."""
    MARIADB_SNAPSHOT = "MariaDB REPEATABLE READ, innodb_snapshot_isolation"
    """The same, but to lock a row that is newer than the snapshot is error 1020: the default from 11.6 on."""
    SQLITE_IMMEDIATE = "SQLite BEGIN IMMEDIATE"
    """A transaction begins when all others have ended."""

    @property
    def is_postgresql(self) -> bool:
        return self.value.startswith("PostgreSQL")

    @property
    def is_mariadb(self) -> bool:
        return self.value.startswith("MariaDB")

    @property
    def keeps_snapshot(self) -> bool:
        return self not in {
            Level.POSTGRESQL_READ_COMMITTED,
            Level.MARIADB_READ_COMMITTED,
            Level.SQLITE_IMMEDIATE,
        }

    @property
    def refuses_newer_rows(self) -> bool:
        return self.keeps_snapshot and self is not Level.MARIADB_REPEATABLE_READ


@frozen
class Row:
    """One version of a row."""

    value: Any
    writer: Hashable
    """Whose version it is: two versions with equal values are still two."""


Rows: TypeAlias = Mapping[Place, Row]
Unique: TypeAlias = Callable[[Place, Any], Hashable | None]
"""What unique value, besides its primary key, a row takes; None: none."""


class TakenError(Exception):
    """A unique rule refused an `UPDATE`; the statement alone is undone."""


@define(eq=False)
class Database:
    """Committed rows, and the transactions that are under way."""

    level: Level
    unique: Unique
    rows: dict[Place, Row] = field(factory=dict)
    live: dict[int, Transaction] = field(factory=dict)
    next_id: int = 1

    def state(self) -> Hashable:
        return (
            frozenset(self.rows.items()),
            tuple(self.live[task].state() for task in sorted(self.live)),
            self.next_id,
        )

    def new_id(self) -> int:
        """Return the next value of a sequence, which no rollback gives back."""
        self.next_id += 1
        return self.next_id - 1

    def taken(self, place: Place, row: Row | None) -> set[Hashable]:
        """Return the unique values that a version of a row takes."""
        if row is None:
            return set()
        value = self.unique(place, row.value)
        return {place} if value is None else {place, ("unique", value)}


@define(eq=False)
class Transaction:
    """One transaction of one task; every method but `rollback` is a statement, and so a step.

    Args:
        database: where.
        task: whose it is; a task has one at a time.
        attempt: the how manieth of that task.
        seen: where every answer is noted.
    """

    database: Database
    task: int
    attempt: int
    seen: list[Hashable]
    snapshot: dict[Place, Row] | None = None
    writes: dict[Place, Row | None] = field(factory=dict)
    locks: set[Hashable] = field(factory=set)
    reads: list[Callable[[Rows], Hashable]] = field(factory=list)

    def state(self) -> Hashable:
        snapshot = None if self.snapshot is None else frozenset(self.snapshot.items())
        return self.task, self.attempt, snapshot, frozenset(self.writes.items()), frozenset(self.locks)

    # --- its begin and its end -------------------------------------------------------------------------------

    async def begin(self, *, look: bool) -> None:
        """Begin; with `look`, read something at once, which takes the snapshot where there is one."""
        await Pause()
        if self.database.level is Level.SQLITE_IMMEDIATE:
            await self._wait(lambda: next(iter(self.database.live.values()), None))
        self.database.live[self.task] = self
        if look:
            self._look()

    async def commit(self) -> None:
        await Pause()
        database, snapshot = self.database, self.snapshot
        if database.level is Level.POSTGRESQL_SERIALIZABLE and self.writes and snapshot is not None:
            for read in self.reads:
                if read(database.rows) != read(snapshot):
                    raise ContentionError("40001 at COMMIT")
        for place, row in self.writes.items():
            if row is None:
                database.rows.pop(place, None)
            else:
                database.rows[place] = row
        del database.live[self.task]
        self.seen.append("committed")

    def rollback(self) -> None:
        self.database.live.pop(self.task, None)
        self.seen.append("rolled back")

    # --- statements ------------------------------------------------------------------------------------------

    async def read(self, query: Callable[[Rows], Any]) -> Any:
        """Return what a plain `SELECT` finds."""
        await Pause()
        self._look()
        if self.database.level is Level.POSTGRESQL_SERIALIZABLE:
            self.reads.append(query)
        return self._saw(query(self._view()))

    async def read_locking(self, query: Callable[[Rows], Any], about: Callable[[Place, Any], bool]) -> Any:
        """Return what a `SELECT … FOR UPDATE` of MariaDB finds, once nobody writes what it is about."""
        await Pause()

        def is_about(place: Place, *rows: Row | None) -> bool:
            return any(row is not None and about(place, row.value) for row in rows)

        def rival() -> Transaction | None:
            for other in self._others():
                touched = {*other.writes, *(lock for lock in other.locks if lock in self.database.rows)}
                for place in touched:
                    if is_about(place, self.database.rows.get(place), other.writes.get(place)):
                        return other
            return None

        await self._wait(rival)
        found = self._current()
        for place in [place for place, row in found.items() if is_about(place, row)]:
            self._refuse_newer(place)
            self.locks.add(place)
        return self._saw(query(found))

    async def update(
        self, place: Place, where: Callable[[Any, Rows], bool], change: Callable[[Any], Any]
    ) -> Any | None:
        """Change a row where the condition holds; None: it does not. Raises TakenError by the unique rule."""
        await Pause()
        if self.database.level.is_postgresql:
            self._look()
            view = self._view()
            row = view.get(place)
            if row is None or not where(row.value, view):
                return self._saw(None)
            await self._wait(lambda: self._writer_of(place), before=row)
            self._refuse_newer(place)
            now, others = self._current().get(place), view
        else:
            await self._wait(lambda: self._writer_of(place))
            self._refuse_newer(place)
            now, others = self._current().get(place), self._current()
        if now is None or not where(now.value, others):
            return self._saw(None)
        self.locks.add(place)
        new = Row(change(now.value), (self.task, self.attempt))
        if value := self.database.taken(place, new) - {place}:
            await self._wait(lambda: self._rival_for(value), before=now)
            if self._holder_of(value, besides=place) is not None:
                self._saw("taken")
                raise TakenError
        self.writes[place] = new
        return self._saw(new.value)

    async def lock_rows(self, about: Callable[[Place, Any], bool]) -> Rows:
        """Return what a `SELECT … FOR UPDATE` finds: each row as it is once nobody else writes it, locked."""
        if self.database.level.is_mariadb:
            return dict(await self.read_locking(lambda rows: tuple(_those(rows, about).items()), about))
        await Pause()
        self._look()
        locked: dict[Place, Row] = {}
        for place in sorted(_those(self._view(), about), key=str):
            now = await self._waited_for(place, about)
            if now is not None:
                self.locks.add(place)
                locked[place] = now
        self._saw(tuple(locked.items()))
        return locked

    async def update_all(self, about: Callable[[Place, Any], bool], change: Callable[[Any], Any]) -> int:
        """Change every row that the condition holds for, in one statement; raises TakenError by the unique rule."""
        await Pause()
        if self.database.level.is_postgresql:
            self._look()
        changed = 0
        seen = self._view() if self.database.level.is_postgresql else self._current()
        for place in sorted(_those(seen, about), key=str):
            now = await self._waited_for(place, about)
            if now is None:
                continue
            self.locks.add(place)
            new = Row(change(now.value), (self.task, self.attempt))
            if value := self.database.taken(place, new) - {place}:
                await self._wait(lambda value=value: self._rival_for(value), before=now)  # type: ignore[misc]
                if self._holder_of(value, besides=place) is not None:
                    self._saw("taken")
                    raise TakenError
            self.writes[place] = new
            changed += 1
        self._saw(changed)
        return changed

    async def _waited_for(self, place: Place, about: Callable[[Place, Any], bool]) -> Row | None:
        """Return a row once nobody else writes it; None: it is not what was looked for any more."""
        await self._wait(lambda: self._writer_of(place))
        self._refuse_newer(place)
        now = self._current().get(place)
        return now if now is not None and about(place, now.value) else None

    def savepoint(self) -> tuple[dict[Place, Row | None], set[Hashable]]:
        """Return what `back_to` goes back to."""
        return dict(self.writes), set(self.locks)

    def back_to(self, savepoint: tuple[dict[Place, Row | None], set[Hashable]]) -> None:
        """Undo what was written since; PostgreSQL lets go the locks too."""
        self.writes, locks = dict(savepoint[0]), savepoint[1]
        if self.database.level.is_postgresql:
            self.locks = set(locks)
        self._saw("back")

    async def insert(self, place: Place, value: Any) -> Any | None:
        """Insert a row unless a unique value is taken.

        Returns:
            None if it was inserted, else the row in the way: as far as the database tells it.
        """
        await Pause()
        if self.database.level.is_postgresql:
            self._look()
        new = Row(value, (self.task, self.attempt))
        values = self.database.taken(place, new)
        await self._wait(lambda: self._rival_for(values))
        holder = self._holder_of(values)
        if holder is not None:
            self._refuse_newer(holder)
            if self.database.level.is_mariadb:
                self.locks.add(holder)
            return self._saw(self._current()[holder].value)
        self.writes[place] = new
        return self._saw(None)

    async def upsert(self, place: Place, change: Callable[[Any | None], Any]) -> Any:
        """Insert a row, or change the one that is there, as it is now, and return it."""
        await Pause()
        if self.database.level.is_postgresql:
            self._look()
        await self._wait(lambda: self._rival_for({place}) or self._writer_of(place))
        self._refuse_newer(place)
        row = self._current().get(place)
        new = Row(change(None if row is None else row.value), (self.task, self.attempt))
        self.writes[place] = new
        return self._saw(new.value)

    async def join(
        self,
        find: Callable[[Rows], Place | None],
        change: Callable[[Any], Any],
        record: tuple[Place, Callable[[Any], Any]] | None,
        query: Callable[[Rows], Any],
    ) -> tuple[Any | None, Any]:
        """Lock the row that is found, record something beside it, change it: one statement, one snapshot.

        Returns:
            The changed row, or None where none was found any more or something is recorded already; and what the
            statement's own snapshot holds.
        """
        await Pause()
        self._look()
        view = self._view()
        found = query(view)
        if self.database.level is Level.POSTGRESQL_SERIALIZABLE:
            self.reads.append(query)
        # Where it waits, this is all that it has in mind.
        self.seen.append(("began with", found))
        place = find(view)
        if place is None:
            return None, found
        await self._wait(lambda: self._writer_of(place))
        self._refuse_newer(place)
        now = self._current().get(place)
        if now is None or find({place: now}) != place:
            self._saw(None)
            return None, found
        self.locks.add(place)
        if record is not None:
            recorded, value = record
            await self._wait(lambda: self._rival_for({recorded}))
            if (holder := self._holder_of({recorded})) is not None:
                self._refuse_newer(holder)
                self._saw(None)
                return None, found
            self.writes[recorded] = Row(value(now.value), (self.task, self.attempt))
        new = self.writes[place] = Row(change(now.value), (self.task, self.attempt))
        return self._saw(new.value), found

    async def delete(self, place: Place) -> None:
        """Delete a row that this transaction has inserted; who wants its unique values waits all the same."""
        await Pause()
        self.locks |= self.database.taken(place, self.writes[place])
        self.writes[place] = None
        self._saw(None)

    async def lock(self, name: Hashable) -> None:
        """Take an advisory lock until the end of the transaction."""
        await Pause()
        self._look()
        await self._wait(lambda: next((other for other in self._others() if name in other.locks), None))
        self.locks.add(name)
        self._saw(None)

    # --- what it sees, and for whom it waits -----------------------------------------------------------------

    def _look(self) -> None:
        if self.snapshot is None and self.database.level.keeps_snapshot:
            self.snapshot = dict(self.database.rows)

    def _view(self) -> Rows:
        return self._with_own(self.database.rows if self.snapshot is None else self.snapshot)

    def _current(self) -> Rows:
        return self._with_own(self.database.rows)

    def _with_own(self, rows: Mapping[Place, Row]) -> Rows:
        seen = {**rows, **self.writes}
        return {place: row for place, row in seen.items() if row is not None}

    def _others(self) -> list[Transaction]:
        return [other for other in self.database.live.values() if other is not self]

    def _writer_of(self, place: Place) -> Transaction | None:
        return next((o for o in self._others() if place in o.writes or place in o.locks), None)

    def _rival_for(self, values: set[Hashable]) -> Transaction | None:
        """Return who has written, and not yet committed, a row that takes or has just let go one of the values."""
        taken, rows = self.database.taken, self.database.rows
        for other in self._others():
            if values & other.locks:
                return other
            for place, row in other.writes.items():
                if values & (taken(place, rows.get(place)) | taken(place, row)):
                    return other
        return None

    def _holder_of(self, values: set[Hashable], besides: Place | None = None) -> Place | None:
        for place, row in self._current().items():
            if place != besides and values & self.database.taken(place, row):
                return place
        return None

    def _refuse_newer(self, place: Place) -> None:
        if not self.database.level.refuses_newer_rows or self.snapshot is None or place in self.writes:
            return
        if self.database.rows.get(place) != self.snapshot.get(place):
            raise ContentionError("the row is newer than the snapshot")

    async def _wait(self, rival: Callable[[], Transaction | None], before: Row | None = None) -> None:
        while (other := rival()) is not None:
            self.seen.append(("waited", before))
            await Pause(other.task, _when_gone(self.database, other))

    def _saw(self, answer: Any) -> Any:
        self.seen.append(answer)
        return answer


def _those(rows: Rows, about: Callable[[Place, Any], bool]) -> dict[Place, Row]:
    return {place: row for place, row in rows.items() if about(place, row.value)}


def _when_gone(database: Database, other: Transaction) -> Callable[[], bool]:
    return lambda: database.live.get(other.task) is not other
