"""The unique rule that is found is one that the database keeps, whatever the table and its indexes are.

Messages that then come to the table are refused, or make one active ticket on each key with what every message writes.

The database is the oracle: where a rule is found, no key can be given two active rows. `RULE_EXAMPLES` in the
environment says how many tables Hypothesis tries on each database, `RULE_TABLES` how many the soak test does.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, currently_in_test_context, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from tests.support.backends import Databases
from tests.support.hosts_of_any_kind import crowded, hosts, made, prepare, routed
from ticketrouter import UniqueRule
from ticketrouter.sqlalchemy import configure_sqlite, detect_unique_rule

EXAMPLES = int(os.environ.get("RULE_EXAMPLES", "60"))
SEED = int(os.environ.get("RULE_SEED", "1"))
MANY = int(os.environ.get("RULE_TABLES", "200"))
logger = logging.getLogger(__name__)
KINDS = ("postgresql", "mariadb", "sqlite")


@pytest.fixture(scope="module", params=KINDS)
def host_connection(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Connection]:
    """A connection to a database of this test's own."""
    url = "sqlite://" if request.param == "sqlite" else databases.new(request.param)
    engine = create_engine(url)
    if request.param == "sqlite":
        configure_sqlite(engine)
    with engine.connect() as connection:
        prepare(connection, request.param)
        yield connection
        connection.rollback()
    engine.dispose()
    if not isinstance(url, str):
        databases.drop(url)


def looked_at(connection: Connection, chance: Random) -> str:
    """Make a host, find its rule, and have the database contradict it; return what was seen."""
    database = "mariadb" if connection.dialect.name == "mysql" else connection.dialect.name
    host = hosts(chance, database)
    with made(connection, host) as indexes:
        found = detect_unique_rule(connection, host.mapping)
        inside = crowded(connection, host)
        came = routed(connection, host)
    listed = host.listed and len(indexes) == len(host.indexes)

    assert found is UniqueRule.NONE or not inside, (host, indexes, found, inside)
    assert found is not UniqueRule.NONE or not listed, (host, indexes)
    event_of(f"{database}: messages were {came}, with {host.on_message or 'nothing'} of their own")
    return f"{found}, {'listed, ' if listed else ''}{'crowded' if inside else 'not crowded'}"


def event_of(told: str) -> None:
    """Tell Hypothesis, where it asks."""
    if currently_in_test_context():
        event(told)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_a_rule_that_is_found_is_kept_by_the_database(host_connection: Connection, chance: Random) -> None:
    """No key can be given two active rows, and each index of the list is found."""
    event(looked_at(host_connection, chance))


@pytest.mark.soak
def test_of_many_tables_each_rule_is_kept(host_connection: Connection) -> None:
    """The same for `RULE_TABLES` tables from `RULE_SEED` on."""
    seen: Counter[str] = Counter()
    for seed in range(SEED, SEED + MANY):
        try:
            seen[looked_at(host_connection, Random(seed))] += 1
        except Exception as error:
            error.add_note(f"the seed was {seed}")
            raise
        if (seed - SEED) % 500 == 499 or seed == SEED + MANY - 1:
            logger.info("%s, seeds %d to %d: %s", host_connection.dialect.name, SEED, seed, dict(seen))

    assert {"none, crowded", "active_per_connection, listed, not crowded"} <= seen.keys()
