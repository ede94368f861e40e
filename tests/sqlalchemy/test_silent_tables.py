"""Tables that refuse, hide or change our row and say nothing of it: a trigger, a rule, row level security.

Nothing of that is a lost race: it is a MappingError that says what was seen, and nothing half-done stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from tests.sqlalchemy.test_blocked import ACTS, MESSAGE, RIGHT, Desk
from tests.support.backends import ONE_PER_DATABASE, Backend, Databases
from ticketrouter import (
    ContentionError,
    InboundMessage,
    Policy,
    Reopen,
    RepositoryError,
    TicketRouter,
    TicketRouterError,
)
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository

ALWAYS = Policy(reopen=Reopen.always())
MANY = [InboundMessage(1, 50, 10)] * 5
MANY_WITH_IDS = [InboundMessage(1, 50, 10, message_id=f"m{n}") for n in range(5)]


@pytest.fixture(scope="module")
def desks(databases: Databases) -> Iterator[dict[Backend, Desk]]:
    made: dict[Backend, Desk] = {}
    yield made
    for each in made.values():
        each.engine.dispose()
        databases.drop(each.url)


@pytest.fixture
def desk(backend: Backend, databases: Databases, desks: dict[Backend, Desk]) -> Iterator[Desk]:
    """The right table, with nothing in it and nothing about it."""
    if backend not in desks:
        desks[backend] = Desk(databases.new(backend.database), RIGHT)
    found = desks[backend]
    found.empty()
    yield found
    with found.engine.begin() as connection:
        if backend.database == "postgresql":
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS f CASCADE")
            connection.exec_driver_sql("ALTER TABLE desk DISABLE ROW LEVEL SECURITY")
            for name in connection.execute(text("SELECT policyname FROM pg_policies")).scalars().all():
                connection.exec_driver_sql(f"DROP POLICY {name} ON desk")
        else:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS f")


every_database = pytest.mark.parametrize("backend", ONE_PER_DATABASE, ids=lambda backend: backend.name)
of_postgresql, of_mariadb, of_sqlite = (
    pytest.mark.parametrize(
        "backend",
        [each for each in ONE_PER_DATABASE if each.database == name],
        ids=lambda backend: backend.name,
    )
    for name in ("postgresql", "mariadb", "sqlite")
)


def on_postgresql(desk: Desk, when: str, body: str) -> None:
    """Add a trigger before each row."""
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body} END'"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER f BEFORE {when} ON desk FOR EACH ROW EXECUTE FUNCTION f()"
        )


def on_others(desk: Desk, when: str, body: str) -> None:
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER f BEFORE {when} ON desk FOR EACH ROW BEGIN {body}; END")


def refused(
    desk: Desk, act: Callable[[TicketRouter], object], policy: Policy | None = None
) -> TicketRouterError:
    """Let an act be refused, and see that nothing of it stays in a transaction that is committed all the same."""
    before = desk.rows()
    with desk.router(policy) as router, pytest.raises(TicketRouterError) as error:
        act(router)

    assert before == desk.rows()
    assert not error.value.retryable
    assert "lost races" not in str(error.value)
    return error.value


CREATING = {
    name: ACTS[name]
    for name in ("resolve", "resolve with an id", "resolve many", "resolve many with ids", "open")
}
CHANGING: dict[str, Callable[[TicketRouter], object]] = {
    "join": lambda router: router.resolve(InboundMessage(1, 50, 20)),
    "join with an id": lambda router: router.resolve(InboundMessage(1, 50, 20, message_id="m")),
    "join many": lambda router: router.resolve_many([InboundMessage(1, 50, 20)] * 5),
    "many with ids": lambda router: router.resolve_many(
        [InboundMessage(1, 50, 20, message_id=f"m{n}") for n in range(5)]
    ),
    "accept": lambda router: router.accept(1, 2, 7),
    "close": lambda router: router.close(1, 2),
    "reopen": lambda router: router.reopen(1, 1),
    "transfer": lambda router: router.transfer(1, 2, 40),
    "reopen by a message": lambda router: router.resolve(MESSAGE),
    "reopen by many messages": lambda router: router.resolve_many(MANY),
    "reopen by many messages with ids": lambda router: router.resolve_many(MANY_WITH_IDS),
    "merge": lambda router: router.merge_contacts(1, 50, 60),
    "move": lambda router: router.move_connection(1, 20, 70),
}


def fill(desk: Desk) -> None:
    desk.insert(1, (1, 50, 10), "closed")
    desk.insert(2, (1, 50, 20), "pending")
    desk.insert(3, (1, 51, 20), "pending")


@of_postgresql
def test_a_new_row_that_postgresql_leaves_out(desk: Desk) -> None:
    """A trigger that returns NULL."""
    on_postgresql(desk, "INSERT", "RETURN NULL;")
    for name, act in CREATING.items():
        error = refused(desk, act)
        assert isinstance(error, MappingError), name
        assert "no row in the way" in str(error), name


@of_sqlite
def test_a_new_row_that_sqlite_leaves_out(desk: Desk) -> None:
    """RAISE(IGNORE)."""
    on_others(desk, "INSERT", "SELECT RAISE(IGNORE)")
    for name, act in CREATING.items():
        error = refused(desk, act)
        assert isinstance(error, MappingError), name
        assert "no row in the way" in str(error), name


@of_mariadb
def test_a_new_row_that_mariadb_signals_against(desk: Desk) -> None:
    """A trigger of the host's that raises: its error is the cause."""
    on_others(desk, "INSERT", "SIGNAL SQLSTATE '45000'")
    for name, act in CREATING.items():
        assert isinstance(refused(desk, act), RepositoryError), name


@every_database
@pytest.mark.parametrize("sets", ["status = 'closed'", "connection_id = 99", "company_id = 99"])
def test_a_new_row_that_a_trigger_changes(desk: Desk, backend: Backend, sets: str) -> None:
    """What is not active on its key is no ticket of the message: it is deleted again."""
    if backend.database == "postgresql":
        on_postgresql(desk, "INSERT", f"NEW.{sets.replace(chr(39), chr(39) * 2)}; RETURN NEW;")
    elif backend.database == "mariadb":
        on_others(desk, "INSERT", f"SET NEW.{sets}")
    else:
        pytest.skip("a trigger of SQLite cannot change a row that is not there yet")
    for name, act in CREATING.items():
        error = refused(desk, act)
        assert isinstance(error, MappingError), name
        assert "a new row, which is deleted again" in str(error), name


@every_database
@pytest.mark.parametrize("name", CHANGING)
def test_an_update_that_is_swallowed(desk: Desk, backend: Backend, name: str) -> None:
    """A ticket that stays as it is, without an error, is told; no message id stays without its count."""
    fill(desk)
    if backend.database == "postgresql":
        on_postgresql(desk, "UPDATE", "RETURN NULL;")
    elif backend.database == "sqlite":
        on_others(desk, "UPDATE", "SELECT RAISE(IGNORE)")
    else:
        pytest.skip("a trigger of MariaDB cannot leave a row out")
    error = refused(desk, CHANGING[name], ALWAYS)

    assert isinstance(error, MappingError)
    assert "swallows the UPDATE" in str(error)


@every_database
@pytest.mark.parametrize(
    "name", ["close", "reopen", "transfer", "reopen by a message", "reopen by many messages with ids"]
)
def test_an_update_that_is_turned_back(desk: Desk, backend: Backend, name: str) -> None:
    """A trigger that keeps status and key as they were: the act is not told as done."""
    fill(desk)
    if backend.database == "postgresql":
        on_postgresql(desk, "UPDATE", "RETURN OLD;")
    elif backend.database == "mariadb":
        body = "SET NEW.status = OLD.status, NEW.connection_id = OLD.connection_id"
        on_others(desk, "UPDATE", body)
    else:
        pytest.skip("a trigger of SQLite cannot change the new row")
    with (
        desk.router(ALWAYS) as router,
        pytest.raises(MappingError, match="something else of a ticket") as error,
    ):
        CHANGING[name](router)

    assert not error.value.retryable


# --- row level security, by a role that it holds for ---------------------------------------------------------


@contextmanager
def as_tenant(desk: Desk) -> Iterator[Desk]:
    """Reach the tables by a role that cannot pass row level security by."""
    engine = desk.engine
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE desk ENABLE ROW LEVEL SECURITY")
        if not connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = 'tenant'")).first():
            connection.exec_driver_sql("CREATE ROLE tenant NOBYPASSRLS")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO tenant")
        connection.exec_driver_sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tenant")
    desk.engine = create_engine(desk.url, poolclass=NullPool)
    event.listen(desk.engine, "connect", lambda dbapi, _: dbapi.execute("SET ROLE tenant") and dbapi.commit())
    seen = desk.rows
    owner = Desk.__new__(Desk)
    owner.engine, owner.mapping = engine, desk.mapping
    desk.rows = owner.rows  # type: ignore[method-assign]
    try:
        yield desk
    finally:
        desk.engine.dispose()
        desk.engine, desk.rows = engine, seen  # type: ignore[method-assign]


def policies(desk: Desk, *policies: str) -> None:
    with desk.engine.begin() as connection:
        for number, policy in enumerate(policies):
            connection.exec_driver_sql(f"CREATE POLICY p{number} ON desk {policy}")


@of_postgresql
@pytest.mark.parametrize(
    "name", ["resolve", "resolve with an id", "resolve many with ids", "open", "reopen", "transfer", "merge"]
)
def test_a_row_in_the_way_that_row_security_hides(desk: Desk, name: str) -> None:
    """The index sees more than this role: no row is to be seen in the way, and it is there all the same."""
    fill(desk)
    desk.insert(9, (1, 50, 10))
    if name == "merge":
        desk.insert(4, (1, 60, 10), "pending")
    policies(desk, "USING (id <> 9)")
    with as_tenant(desk):
        error = refused(desk, ACTS[name] if name != "transfer" else lambda router: router.transfer(1, 2, 10))

    assert isinstance(error, MappingError)
    assert "no row is to be seen in its way" in str(error)


@of_postgresql
def test_our_own_new_row_that_row_security_hides(desk: Desk) -> None:
    """A row that this role may write and not read is refused by PostgreSQL itself."""
    policies(desk, "FOR INSERT WITH CHECK (true)", "FOR SELECT USING (false)")
    with as_tenant(desk), desk.engine.connect() as connection:
        router = TicketRouter(SQLAlchemyTicketRepository(connection, desk.mapping))
        with pytest.raises(RepositoryError) as error:
            router.resolve(MESSAGE)
        connection.rollback()
        assert [[], []] == desk.rows()
    assert not error.value.retryable


@of_postgresql
@pytest.mark.parametrize("name", [name for name in CHANGING if name != "merge"])
def test_an_update_that_row_security_swallows(desk: Desk, name: str) -> None:
    """Rows that this role may read and not change."""
    fill(desk)
    policies(desk, "FOR SELECT USING (true)", "FOR UPDATE USING (false)", "FOR INSERT WITH CHECK (true)")
    with as_tenant(desk):
        error = refused(desk, CHANGING[name], ALWAYS)

    assert isinstance(error, MappingError)


# --- a lost race is none of that -----------------------------------------------------------------------------


MOVES = pytest.mark.parametrize("name", ["merge", "move"])
COMING = range(10, 500)
"""The ids of closed rows of the source of either move."""


@contextmanager
def arriving(desk: Desk, since: str, many: int) -> Iterator[None]:
    """Have another client insert a row before every statement of ours, from one on that holds some text."""
    rival = Desk.__new__(Desk)
    rival.engine, rival.mapping = create_engine(desk.url, poolclass=NullPool), desk.mapping
    coming, begun = iter(COMING[:many]), False

    def arrive(*about: Any) -> None:
        nonlocal begun
        begun = begun or since in about[2]
        for number in itertools.islice(coming, int(begun)):
            rival.insert(number, (1, 50, 20), "closed")

    event.listen(desk.engine, "before_cursor_execute", arrive)
    try:
        yield
    finally:
        event.remove(desk.engine, "before_cursor_execute", arrive)
        rival.engine.dispose()


@of_postgresql
@MOVES
@pytest.mark.parametrize("since", ["FOR UPDATE", "UPDATE desk"])
def test_rows_that_come_while_their_source_is_moved_are_moved_too(desk: Desk, name: str, since: str) -> None:
    """They are seen, and not locked yet, as a row is that row security lets nobody change: that takes no error."""
    fill(desk)
    with desk.router() as router, arriving(desk, since, 10):
        CHANGING[name](router)

    part, target = (2, 60) if name == "merge" else (3, 70)
    came = [row for row in desk.rows()[0] if row[0] in COMING]
    assert [target] * 10 == [row[part] for row in came]


@of_postgresql
@MOVES
@pytest.mark.parametrize("since", ["FOR UPDATE", "UPDATE desk"])
def test_rows_that_never_cease_to_come_are_contention(desk: Desk, name: str, since: str) -> None:
    """Run again, when less is going on, it succeeds; nothing is half moved."""
    fill(desk)
    with desk.router() as router, arriving(desk, since, len(COMING)), pytest.raises(ContentionError) as error:
        CHANGING[name](router)

    assert error.value.retryable
    assert {(50, 10), (50, 20), (51, 20)} == {(row[2], row[3]) for row in desk.rows()[0]}


@of_postgresql
@MOVES
def test_a_row_that_row_security_keeps_is_told_while_others_come(desk: Desk, name: str) -> None:
    """Those that came can be locked by their ids; this one cannot, and stays where it was."""
    fill(desk)
    policies(desk, "FOR SELECT USING (true)", "FOR UPDATE USING (id <> 2)", "FOR INSERT WITH CHECK (true)")
    with (
        as_tenant(desk),
        desk.router() as router,
        arriving(desk, "FOR UPDATE", len(COMING)),
        pytest.raises(MappingError, match="swallows the UPDATE"),
    ):
        CHANGING[name](router)

    assert {(50, 10), (50, 20), (51, 20)} == {(row[2], row[3]) for row in desk.rows()[0]}


@of_postgresql
@pytest.mark.parametrize("name", ["accept", "transfer"])
def test_a_ticket_that_goes_and_comes_back_around_every_update_is_held(desk: Desk, name: str) -> None:
    """As by two moves: it is as it was whenever it is looked at, and elsewhere whenever it is written."""
    fill(desk)
    rival = create_engine(desk.url, poolclass=NullPool)
    gone: list[int] = []

    def put(connection_id: int, statement: str) -> None:
        free = "SELECT id FROM desk WHERE id = 2 FOR UPDATE SKIP LOCKED"
        if statement.startswith("UPDATE desk"):
            with rival.begin() as connection:
                sent = f"UPDATE desk SET connection_id = {connection_id} WHERE id IN ({free})"
                gone.append(connection.exec_driver_sql(sent).rowcount)

    def leave(*about: Any) -> None:
        put(99, about[2])

    def come_back(*about: Any) -> None:
        put(20, about[2])

    with desk.router() as router:
        event.listen(desk.engine, "before_cursor_execute", leave)
        event.listen(desk.engine, "after_cursor_execute", come_back)
        CHANGING[name](router)
        event.remove(desk.engine, "before_cursor_execute", leave)
        event.remove(desk.engine, "after_cursor_execute", come_back)
    rival.dispose()

    assert [1, 1, 0, 0] == gone  # once it was away, and then it was held
    [row] = [row for row in desk.rows()[0] if row[0] == 2]
    assert (40 if name == "transfer" else 20) == row[3]


@of_sqlite
@pytest.mark.parametrize("clause", ["REPLACE", "IGNORE"])
def test_a_constraint_by_which_one_write_deletes_another_ticket(
    databases: Databases, backend: Backend, clause: str
) -> None:
    """SQLite's ON CONFLICT in a constraint: refused before anything is written, and every row stays."""
    here = Desk(databases.new(backend.database), RIGHT)
    with here.engine.begin() as connection:
        sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'desk'").scalar_one()
        connection.exec_driver_sql("DROP TABLE desk")
        more = f", UNIQUE (contact_id, status) ON CONFLICT {clause})"
        connection.exec_driver_sql(sql.rstrip().removesuffix(")") + more)
        RIGHT.index(connection)
    here.insert(1, (2, 50, 10), "pending")
    here.insert(2, (1, 50, 20), "open")
    try:
        for act in (*CREATING.values(), *CHANGING.values()):
            assert "ON CONFLICT" in str(refused(here, act))
    finally:
        here.engine.dispose()
