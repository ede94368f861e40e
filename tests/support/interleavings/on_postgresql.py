"""The real adapter on PostgreSQL, its threads scheduled by frontrun.

Law of this file: it is a program, since frontrun must be loaded before Python is: run it as
`frontrun python -m tests.support.interleavings.on_postgresql`. With the word `careless` the tickets table has no unique rule
and nothing stands in for it: then a schedule with two tickets must be found. It prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import frontrun  # type: ignore[import-untyped]
from attrs import evolve
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

from tests.support import servers
from tests.support.races import set_rule
from ticketrouter import InboundMessage, TicketRouter, UniqueRule
from ticketrouter.decisions import Lookup
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, SQLAlchemyTicketRepository, is_retryable

SECONDS = 40.0
EXECUTIONS = 60
# Who waits for a lock does so in the server, where frontrun cannot see it: it is told to try again.
OPTIONS = {"options": "-c lock_timeout=300"}


class WithoutClaim(SQLAlchemyTicketRepository):
    """Keeps nobody away from a contact."""

    def load(self, lookup: Lookup) -> object:  # type: ignore[override]
        return super().load(evolve(lookup, claim=False, join=None))


def main() -> None:
    careless = "careless" in sys.argv
    kind = WithoutClaim if careless else SQLAlchemyTicketRepository
    with servers.postgresql() as url:
        engine = create_engine(url, poolclass=NullPool, connect_args=OPTIONS)
        mapping = DEFAULT_MAPPING
        mapping.metadata.create_all(engine)
        with engine.begin() as connection:
            if careless:
                set_rule(connection, mapping, UniqueRule.NONE)
        with engine.begin() as connection:
            SQLAlchemyTicketRepository(connection).get("c1", 1)

        def empty() -> list[str]:
            with engine.begin() as connection:
                for table in mapping.metadata.sorted_tables:
                    connection.execute(table.delete())
            return []

        def deliver(done: list[str]) -> None:
            try:
                with engine.begin() as connection:
                    message = InboundMessage("c1", "5511999999999", "10")
                    TicketRouter(kind(connection)).resolve(message)
            except Exception as error:
                # Who is told to run it again is left out here: a thread that does nothing else is never preempted.
                if not is_retryable(error):
                    raise
            else:
                done.append("delivered")

        def one_ticket_with_all(done: list[str]) -> bool:
            with engine.begin() as connection:
                counts = connection.execute(select(mapping.table.c.unread_messages)).scalars().all()
            return bool(done) and counts == [len(done)]

        print(json.dumps(_explored(empty, deliver, one_ticket_with_all)))


def _explored(
    setup: Callable[[], list[str]],
    worker: Callable[[list[str]], None],
    invariant: Callable[[list[str]], bool],
) -> dict[str, object]:
    found = frontrun.explore(
        setup=setup,
        workers=worker,
        count=2,
        invariant=invariant,
        max_executions=EXECUTIONS,
        total_timeout=SECONDS,
        timeout_per_run=20,
        warn_nondeterministic_sql=False,
        reproduce_on_failure=0,
    )
    return {"holds": found.property_holds, "executions": found.num_explored, "why": found.inconclusive_reason}


if __name__ == "__main__":
    main()
