"""The worker on a real Redis and a real database, also where it is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, func, select

from examples.queue_worker.queue import Queue
from examples.queue_worker.worker import Worker
from tests.support.backends import Databases
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, configure_sqlite, metadata

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parent.parent.parent
TICKETS = DEFAULT_MAPPING.table.c


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private Redis, which keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if "redis" in os.environ.get("TICKETROUTER_REQUIRE_DBS", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    socket = tmp_path_factory.mktemp("redis") / "s"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield f"unix://{socket}"
        process.terminate()


@pytest.fixture
def redis(server: str) -> Iterator[Redis]:
    with Redis.from_url(server, decode_responses=True) as redis:
        yield redis
        redis.flushall()


@pytest.fixture
def engine(databases: Databases) -> Iterator[Engine]:
    engine = create_engine(databases.new("sqlite"))
    configure_sqlite(engine)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def message(id: str, contact: str = "ana", connection: str = "sales", company: str = "1") -> dict[str, str]:
    return {"id": id, "contact": contact, "connection": connection, "company": company}


def counts(engine: Engine) -> dict[str, Any]:
    """Return the unread messages of each contact's tickets."""
    with engine.begin() as connection:
        rows = connection.execute(select(TICKETS.contact_id, TICKETS.unread_messages).order_by(TICKETS.id))
        return {contact: unread for contact, unread in rows}  # noqa: C416 - a row is not a pair to mypy


def waiting(redis: Any) -> tuple[int, int]:
    """Tell how many messages stand in the stream, and how many are taken and not acknowledged."""
    return redis.xlen("messages"), redis.xpending("messages", "workers")["pending"]


class TestBatches:
    def test_are_routed_then_acknowledged(self, redis: Redis, engine: Engine) -> None:
        """A batch is as many deliveries as there are, up to the limit."""
        queue = Queue(redis, "one")
        for number in range(5):
            queue.put(message(f"m{number}", contact="ana" if number % 2 else "bia"))
        worker = Worker(queue, engine)

        assert [3, 2, 0] == [worker.batch(limit=3, wait=1) for _ in range(3)]
        assert {"ana": 2, "bia": 3} == counts(engine)
        assert (0, 0) == waiting(redis)

    def test_delivered_again_count_once(
        self, redis: Redis, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that dies between COMMIT and acknowledgement leaves its batch to another: all duplicates."""
        for number in range(5):
            Queue(redis, "one").put(message(f"m{number}"))
        dying, other = Queue(redis, "one"), Queue(redis, "two", idle=0)
        monkeypatch.setattr(dying, "acknowledge", _die)
        with pytest.raises(KeyboardInterrupt):
            Worker(dying, engine).batch(wait=1)

        assert ({"ana": 5}, (5, 5)) == (counts(engine), waiting(redis))
        assert 5 == Worker(other, engine).batch(wait=1)
        assert ({"ana": 5}, (0, 0)) == (counts(engine), waiting(redis))

    def test_that_cannot_be_committed_stay(self, redis: Redis, engine: Engine) -> None:
        """While the database is away nothing is acknowledged."""
        Queue(redis, "one").put(message("m1"))
        metadata.drop_all(engine)
        away = create_engine("postgresql+psycopg://nobody@/nowhere?host=/nonexistent")

        with pytest.raises(Exception, match="nonexistent"):
            Worker(Queue(redis, "one"), away).batch(wait=1)
        assert (1, 1) == waiting(redis)

    def test_with_a_bad_message_put_it_aside(self, redis: Redis, engine: Engine) -> None:
        """What can never be routed does not stop what can."""
        queue = Queue(redis, "one")
        for given in (message("m1"), message("", "bia"), message("m3", ""), message("m4", "cai")):
            queue.put(given)

        assert 4 == Worker(queue, engine).batch(wait=1)
        assert {"ana": 1, "cai": 1} == counts(engine)
        dead: Any = redis.xrange("messages:dead")
        assert ["InvalidMessageError"] * 2 == [fields["why"] for _, fields in dead]
        assert (0, 0) == waiting(redis)

    def test_stop_when_told(self, redis: Redis, engine: Engine) -> None:
        """The loop ends after the batch that it is in."""
        queue = Queue(redis, "one")
        queue.put(message("m1"))
        stop = Event()
        monkeyed = Worker(queue, engine)
        batches = Counter[str]()

        def batch() -> int:
            batches["run"] += 1
            stop.set()
            return Worker.batch(monkeyed, wait=1)

        monkeyed.batch = batch  # type: ignore[method-assign, assignment]
        monkeyed.work(stop)

        assert (1, {"ana": 1}) == (batches["run"], counts(engine))


def _die(_: object) -> None:
    raise KeyboardInterrupt


def test_killed_workers_lose_and_double_nothing(server: str, redis: Redis, engine: Engine) -> None:
    """Two workers, one killed -9 while it holds a batch: every message has been counted exactly once."""
    queue = Queue(redis, "writer")
    contacts, each = 20, 50
    for number in range(each):
        for contact in range(contacts):
            queue.put(message(f"{contact}-{number}", contact=f"c{contact:02}"))
    environment = os.environ | {
        "DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "REDIS_URL": server,
        "REDELIVER_AFTER_MS": "200",
    }

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "examples.queue_worker.worker"]
        return subprocess.Popen(command, cwd=ROOT, env=environment | {"WORKER_NAME": name})

    # The other one begins only then: it could be through before the first has begun.
    victim = start("victim")
    try:
        wait_until(lambda: "victim" in holders(redis))
    finally:
        victim.kill()
    survivor = start("survivor")
    try:
        wait_until(lambda: waiting(redis) == (0, 0))
    finally:
        survivor.terminate()
        codes = [process.wait(timeout=60) for process in (victim, survivor)]

    assert [-9, 0] == codes
    assert {f"c{contact:02}": each for contact in range(contacts)} == counts(engine)
    recorded = select(func.count()).select_from(DEFAULT_MAPPING.message_ids)
    with engine.begin() as connection:
        assert contacts * each == connection.scalar(recorded)


def holders(redis: Any) -> set[str]:
    """Tell which workers hold deliveries that they have not acknowledged."""
    return {worker["name"] for worker in redis.xpending("messages", "workers")["consumers"]}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.005)
