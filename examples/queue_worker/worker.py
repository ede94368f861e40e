"""The worker: takes a batch, routes it in one transaction, and acknowledges it after the COMMIT.

Law of this file: nothing is acknowledged that is not committed. Whatever dies in between is delivered again, and
a message id makes that harmless.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from threading import Event

import stamina
from redis import Redis
from sqlalchemy import Engine, create_engine

from examples.queue_worker.queue import Delivery, Queue
from ticketrouter import InboundMessage, Resolution, TicketRouter, TicketRouterError
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, configure_sqlite, is_retryable, metadata

BATCH = 100


def message_of(delivery: Delivery) -> InboundMessage:
    """Read a message.

    Raises:
        InvalidMessageError: if it is none.
    """
    given = delivery.fields
    company = given.get("company", "")
    return InboundMessage(
        int(company) if company.isdecimal() else company,
        given.get("contact", ""),
        given.get("connection", ""),
        message_id=given.get("id", ""),
    )


class Worker:
    """Drains a queue into the tickets of a database."""

    def __init__(self, queue: Queue, engine: Engine) -> None:
        self._queue = queue
        self._engine = engine

    def work(self, stop: Event) -> None:
        """Work until told to stop; a batch that has been begun is finished."""
        while not stop.is_set():
            self.batch()

    def batch(self, limit: int = BATCH, *, wait: int = 1_000) -> int:
        """Take one batch, route it, acknowledge it.

        Returns:
            How many deliveries were taken.

        Raises:
            Exception: if the database stays away; nothing was acknowledged, and all of it comes again.
        """
        deliveries = self._queue.take(limit, wait=wait)
        try:
            self._route(deliveries)
        except TicketRouterError as error:
            if is_retryable(error):
                raise
            # One of them can never be routed. The others must not wait for it.
            self._one_by_one(deliveries)
        else:
            self._queue.acknowledge(deliveries)
        return len(deliveries)

    def _one_by_one(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            try:
                self._route([delivery])
            except TicketRouterError as error:
                if is_retryable(error):
                    raise
                self._queue.bury(delivery, type(error).__name__)
            else:
                self._queue.acknowledge([delivery])

    @stamina.retry(on=is_retryable, attempts=10, timeout=10.0, wait_max=1.0)
    def _route(self, deliveries: Sequence[Delivery]) -> list[Resolution]:
        # Sorted by key, each contact's own in their order, so that two workers never wait for each other.
        messages = sorted(map(message_of, deliveries), key=_key)
        with self._engine.begin() as connection:
            return TicketRouter(SQLAlchemyTicketRepository(connection)).resolve_many(messages)


def _key(message: InboundMessage) -> tuple[str, str, str]:
    return str(message.company_id), str(message.contact_id), str(message.connection_id)


def main() -> None:
    """Work until SIGTERM or SIGINT; the environment says where."""
    engine = create_engine(os.environ["DATABASE_URL"])
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    metadata.create_all(engine)
    redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    name = os.environ.get("WORKER_NAME", f"worker-{os.getpid()}")
    idle = int(os.environ.get("REDELIVER_AFTER_MS", "60000"))
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Worker(Queue(redis, name, idle=idle), engine).work(stop)


if __name__ == "__main__":
    main()
