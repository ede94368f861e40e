"""MariaDB Galera: writers on all three nodes, nodes that die under load, and the loss of the quorum.

Law of this file: what is true afterwards is read from the tables of every node and from what the writers were told;
the writers do what a host does, which is to run a unit of work again where `is_retryable` says so.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from attrs import Factory, define, evolve, frozen
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.support.backends import cannot_be_had
from tests.support.galera import Node, galera
from tests.support.races import set_rule
from tests.support.servers import UnavailableError
from ticketrouter import InboundMessage, TicketRouter, TicketRouterError, UniqueRule
from ticketrouter.decisions import Lookup
from ticketrouter.sqlalchemy import (
    SQLAlchemyTicketRepository,
    TicketMapping,
    detect_unique_rule,
    is_retryable,
)
from ticketrouter.sqlalchemy.dialects.mariadb.statements import MariaDBWrites

pytestmark = [
    pytest.mark.soak,
    pytest.mark.xdist_group("galera"),  # one cluster for all
    # A node that dies, or is not up yet, leaves the driver's sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WRITERS, KEYS = 6, 12
REDELIVERED, CLOSED = 0.1, 0.1
MAPPING = TicketMapping.own()


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """The cluster."""
    try:
        with galera() as nodes:
            nodes[0].bootstrap()
            engine = _engine(nodes[0], database="mysql")
            with engine.begin() as connection:
                connection.execute(text("CREATE DATABASE desk"))
            engine.dispose()
            yield nodes
    except UnavailableError as reason:
        cannot_be_had("galera", reason)


def _engine(node: Node, database: str = "desk") -> Engine:
    return create_engine(
        node.url.set(database=database), connect_args={"connect_timeout": 2, "read_timeout": 60}
    )


@frozen
class Told:
    """What a writer was told when its COMMIT had returned."""

    message_id: str
    ticket_id: int
    at: float
    seconds: float
    retries: int

    @property
    def node(self) -> int:
        """On which node, counted from 0, its writer was."""
        return int(self.message_id.split("-")[0]) % 3


@define
class Load:
    """Writers on every node, two for each, until they are told to stop."""

    nodes: list[Node]
    told: list[Told] = Factory(list)
    unanswered: list[InboundMessage] = Factory(list)
    errors: Counter[str] = Factory(Counter)
    stop: threading.Event = Factory(threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the writers write while the block runs; an error that a host could not cure comes out."""
        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(self._write, number) for number in range(WRITERS)]
            try:
                yield
            finally:
                self.stop.set()
            for writer in writers:
                writer.result()

    def _write(self, number: int) -> None:
        random, sent = Random(number), list[InboundMessage]()
        engine = _engine(self.nodes[number % len(self.nodes)])
        while not self.stop.is_set():
            if sent and random.random() < REDELIVERED:
                message = random.choice(sent)
            else:
                message = InboundMessage(1, random.randrange(KEYS), 10, message_id=f"{number}-{len(sent)}")
                sent.append(message)
            self.deliver(engine, message, close=random.random() < CLOSED)
        engine.dispose()

    def deliver(self, engine: Engine, message: InboundMessage, *, close: bool = False) -> None:
        """Run a unit of work until it is committed, as a host does, or until all is to stop."""
        begun, retries = time.monotonic(), 0
        while True:
            try:
                with engine.begin() as connection:
                    router = TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING))
                    ticket = router.resolve(message).ticket
                    if close:
                        router.close(1, ticket.id)
            except (TicketRouterError, DBAPIError) as error:
                self.errors[_name(error)] += 1
                if not is_retryable(error):
                    raise
                if self.stop.is_set():
                    self.unanswered.append(message)
                    return
                retries += 1
                time.sleep(min(0.002 * 2**retries, 0.2) * Random().random())
                continue
            now = time.monotonic()
            assert isinstance(message.message_id, str)
            assert isinstance(ticket.id, int)
            self.told.append(Told(message.message_id, ticket.id, now, now - begun, retries))
            return

    def report(self, title: str, capsys: pytest.CaptureFixture[str], *, stayed: int = 3) -> None:
        """Print the figures; the longest call is one on a node that stayed, of which there are so many."""
        times = sorted(each.at for each in self.told)
        stall = max(later - earlier for earlier, later in pairwise(times))
        retries = sorted(each.retries for each in self.told)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{title}: {len(self.told)} units of work in {times[-1] - times[0]:.1f} s, "
                f"{sum(retries) / len(retries):.2f} retries each (99 % at most {retries[len(retries) * 99 // 100]}, "
                f"most {retries[-1]}), longest stall {stall:.2f} s, longest call "
                f"{max(each.seconds for each in self.told if each.node < stayed):.2f} s, errors {dict(self.errors)}\n"
            )


def _name(error: Exception) -> str:
    cause: Any = error.__cause__ if isinstance(error, TicketRouterError) else error
    code = getattr(getattr(cause, "orig", None), "args", ["?"])[0]
    return f"{type(error).__name__} {code}"


def prepare(nodes: list[Node], rule: UniqueRule) -> None:
    """Make the tables anew, with the unique rule or without."""
    engine = _engine(nodes[0])
    with engine.begin() as connection:
        MAPPING.metadata.drop_all(connection)
        MAPPING.metadata.create_all(connection)
        set_rule(connection, MAPPING, rule)
    engine.dispose()
    for node in nodes:
        engine = _engine(node)
        with engine.begin() as connection:
            connection.execute(text("SET SESSION wsrep_sync_wait = 15"))

            assert rule is detect_unique_rule(connection, MAPPING)
        engine.dispose()


def rows_of(node: Node) -> tuple[list[Any], dict[bytes, int]]:
    """Read the tickets, and which ticket each message id led to, once the node has applied what the others have."""
    engine = _engine(node)
    with engine.begin() as connection:
        connection.execute(text("SET SESSION wsrep_sync_wait = 15"))
        tickets = connection.execute(
            text("SELECT id, contact_id, status, unread_messages FROM ticketrouter_tickets ORDER BY id")
        ).all()
        recorded = connection.execute(
            text("SELECT message_id, ticket_id FROM ticketrouter_message_ids")
        ).all()
    engine.dispose()
    return list(tickets), {bytes(digest): ticket_id for digest, ticket_id in recorded}


def assert_sound(nodes: list[Node], told: list[Told]) -> None:
    """On every node: the same rows, one active ticket per key, each answered message once, on the ticket told."""
    seen = [rows_of(node) for node in nodes]
    tickets, recorded = seen[0]

    assert [seen[0]] * len(seen) == seen
    active = Counter(row.contact_id for row in tickets if row.status in {"open", "pending"})
    assert [] == [contact for contact, count in active.items() if count > 1]
    answered = {
        sha256(f"{MAPPING.table.name}\0{each.message_id}".encode()).digest(): each.ticket_id for each in told
    }
    assert answered == {digest: recorded.get(digest) for digest in answered}
    assert sum(row.unread_messages for row in tickets) == len(recorded)
    assert set(recorded.values()) <= {row.id for row in tickets}


@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.NONE])
def test_writers_on_all_nodes_make_one_ticket_per_key(
    nodes: list[Node], rule: UniqueRule, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the generated column, and without any rule by the anchor: no duplicate, no loss, on any node."""
    prepare(nodes, rule)
    load = Load(nodes)
    with load.running():
        time.sleep(10)
    load.report(f"three nodes, unique rule {rule}", capsys)

    assert_sound(nodes, load.told)
    assert {0, 1, 2} == {each.node for each in load.told}


@pytest.mark.parametrize("claims", [True, False], ids=["with the anchor", "without"])
def test_only_the_anchor_makes_two_nodes_see_each_other(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, claims: bool
) -> None:
    """Without a rule, two nodes that create at once both commit, unless each has written the contact's anchor."""
    prepare(nodes, UniqueRule.NONE)
    honest = Lookup.of
    monkeypatch.setattr(Lookup, "of", lambda *about: evolve(honest(*about), claim=claims))
    # The new row's own look for a rival locks what the other node's row has to come into.
    monkeypatch.setattr(MariaDBWrites, "sees_rivals", False)
    engines = [_engine(node) for node in nodes[:2]]
    refused: list[DBAPIError] = []
    with engines[0].connect() as one, engines[1].connect() as other:
        for connection in (one, other):
            TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING)).resolve(InboundMessage(1, 1, 10))
        one.commit()
        try:
            other.commit()
        except DBAPIError as error:
            refused.append(error)
    for engine in engines:
        engine.dispose()
    tickets, _ = rows_of(nodes[2])

    assert (1 if claims else 2) == len(tickets)
    assert [claims] * len(refused) == [is_retryable(error) for error in refused]
    assert claims is bool(refused)


def test_a_node_dies_and_comes_back_under_load(nodes: list[Node], capsys: pytest.CaptureFixture[str]) -> None:
    """One of three is killed with -9 and rejoined: the others go on, and in the end all three have every row."""
    prepare(nodes, UniqueRule.ACTIVE_PER_CONNECTION)
    load = Load(nodes)
    with load.running():
        time.sleep(4)
        nodes[2].kill()
        time.sleep(6)
        nodes[2].start()
        time.sleep(4)
    load.report("one of three killed and rejoined", capsys, stayed=2)

    assert_sound(nodes, load.told)


def test_without_quorum_nothing_is_reported_done(
    nodes: list[Node], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of three are killed: the survivor answers with errors that may be retried, and nothing acknowledged is lost."""
    prepare(nodes, UniqueRule.ACTIVE_PER_CONNECTION)
    load = Load(nodes)
    with load.running():
        time.sleep(4)
        nodes[1].kill()
        nodes[2].kill()
        nodes[0].wait("wsrep_cluster_status", "non-Primary")
        lost = time.monotonic()
        time.sleep(4)
        survivor = _engine(nodes[0])
        with pytest.raises((TicketRouterError, DBAPIError)) as refused, survivor.begin() as connection:
            TicketRouter(SQLAlchemyTicketRepository(connection, MAPPING)).resolve(InboundMessage(1, 1, 10))
        survivor.dispose()
    before = [each for each in load.told if each.at <= lost]
    load.report("two of three killed, until the quorum was lost", capsys, stayed=1)

    assert before == load.told
    assert is_retryable(refused.value)
    nodes[0].bootstrap()
    nodes[1].start()
    nodes[2].start()
    assert_sound(nodes, load.told)

    # What was never answered is delivered again, and is then there once.
    again = Load(nodes)
    engine = _engine(nodes[1])
    for message in load.unanswered:
        again.deliver(engine, message)
    engine.dispose()

    assert load.unanswered
    assert_sound(nodes, [*load.told, *again.told])
