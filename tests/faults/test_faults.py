"""Wherever a unit of work is broken off, done again it has the effect of once: no more, no less.

Each test breaks off every unit of work of `work.WORKS` at each of its boundaries, one by one until there is none
left, and looks at the tables: after the fault they hold all of it or nothing, and after the second attempt what an
undisturbed run leaves.
"""

from __future__ import annotations

import signal
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Engine, text

from tests.faults.conftest import Place
from tests.support.faults.boundaries import Boundaries, die_at
from tests.support.faults.proxy import proxy_before
from tests.support.faults.work import (
    WORKS,
    Work,
    engine_for,
    error_of,
    left_in,
    once,
    prepare,
    until_done,
    warm_up,
)
from ticketrouter import UniqueRule
from ticketrouter.sqlalchemy import is_retryable

RIGHT, NONE = UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE
every_work = pytest.mark.parametrize(
    ("work", "rule"),
    [
        pytest.param(work, rule, id=f"{work}-{rule}")
        for work in WORKS
        for rule in (RIGHT, NONE)
        # Without a unique rule the anchor is written first: that differs for what looks at a key.
        if rule is RIGHT or work.name in {"a message creates", "a message reopens", "transfer"}
    ],
)
on_servers = pytest.mark.parametrize("database", ["postgresql", "mariadb"])

_ENDLESS = 60
"""No unit of work has so many boundaries."""


@frozen
class Expected:
    """What the tables hold before and after an undisturbed run."""

    before: Hashable
    after: Hashable

    @classmethod
    def of(cls, place: Place, work: Work) -> Expected:
        ticket_id = prepare(place.engine, work)
        before = left_in(place.engine)
        once(place.engine, work, ticket_id)
        after = left_in(place.engine)
        assert before != after
        return cls(before, after)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Where a process is forked from one that has imported everything, and holds no connection."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.support.faults.boundaries", "psycopg", "pymysql"])
    return context


@every_work
def test_killed_at_every_boundary(place: Place, work: Work, processes: ForkServerContext) -> None:
    """After kill -9 all of it is there or nothing; the message delivered again is counted once."""
    expected = Expected.of(place, work)
    for boundary in range(_ENDLESS):
        ticket_id = prepare(place.engine, work)
        process = processes.Process(
            target=die_at, args=(place.address, WORKS.index(work), ticket_id, boundary)
        )
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert -signal.SIGKILL == process.exitcode
        assert left_in(place.engine) in {expected.before, expected.after}
        until_done(place.engine, work, ticket_id)

        assert expected.after == left_in(place.engine)
    print(f"\nkilled at {boundary} boundaries")
    assert boundary >= 3


@contextmanager
def _engine_of(place: Place) -> Iterator[Engine]:
    engine = place.new_engine()
    yield engine
    engine.dispose()


@on_servers
@every_work
def test_the_connection_ended_by_the_server_at_every_boundary(place: Place, work: Work) -> None:
    """A terminated connection comes out as an error that says: run it again; and that gives the effect of once."""
    expected = Expected.of(place, work)
    with _engine_of(place) as engine:
        for boundary in range(_ENDLESS):
            ticket_id = prepare(place.engine, work)
            boundaries = Boundaries(boundary, lambda driven: _end(place, driven))
            with boundaries.of(engine):
                error = error_of(engine, work, ticket_id)
            if not boundaries.has_happened:
                break
            if error is not None:
                assert is_retryable(error), repr(error)
                assert getattr(error, "retryable", True)
                assert left_in(place.engine) in {expected.before, expected.after}
            until_done(engine, work, ticket_id)

            assert expected.after == left_in(place.engine)
    print(f"\nended by the server at {boundary} boundaries")
    assert boundary >= 3


def _end(place: Place, driven: Any) -> None:
    """End a connection from another one, and wait till it has ended."""
    with place.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if place.engine.dialect.name == "postgresql":
            number = driven.info.backend_pid
            connection.execute(text("SELECT pg_terminate_backend(:number, 5000)"), {"number": number})
            return
        number = driven.thread_id()
        connection.execute(text(f"KILL CONNECTION {number}"))
        for _ in range(10_000):
            asked = text("SELECT count(*) FROM information_schema.processlist WHERE id = :number")
            if not connection.execute(asked, {"number": number}).scalar_one():
                return


@on_servers
@every_work
def test_the_answer_to_commit_lost(place: Place, work: Work, tmp_path: Path) -> None:
    """A COMMIT that was carried out and not answered is retryable, and the second run finds its work done."""
    expected = Expected.of(place, work)
    ticket_id = prepare(place.engine, work)
    query = dict(place.url.query)
    if place.url.get_backend_name() == "postgresql":
        query, server = query | {"host": str(tmp_path)}, f"{query['host']}/.s.PGSQL.5432"
        here = tmp_path / ".s.PGSQL.5432"
    else:
        here, server = tmp_path / "s", str(query["unix_socket"])
        query |= {"unix_socket": str(here)}
    with proxy_before(server, here) as proxy:
        engine = engine_for(place.url.set(query=query))
        warm_up(engine)
        proxy.cut_next_commit()
        error = error_of(engine, work, ticket_id)
        assert 1 == proxy.cut
        assert error is not None
        assert is_retryable(error), repr(error)
        assert expected.after == left_in(place.engine)
        assert 1 == until_done(engine, work, ticket_id)
        engine.dispose()

    assert expected.after == left_in(place.engine)
