"""The queue: a stream of Redis, read by a group of workers.

Law of this file: it knows nothing of tickets. What is taken stays another worker's to take, until it is
acknowledged: a worker that dies loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from redis import Redis
from redis.exceptions import ResponseError

Fields = Mapping[str, str]


@frozen
class Delivery:
    """One entry of the stream.

    Args:
        id: the stream's id of the entry, by which it is acknowledged.
        fields: what was put in.
    """

    id: str
    fields: Fields


class Queue:
    """A stream and the group of workers that share it.

    Args:
        redis: the server; it must decode its answers.
        worker: the name of this worker, which no other one has.
        stream: the name of the stream; what cannot be routed goes to the stream `STREAM:dead`.
        group: the name of the group.
        idle: after how many milliseconds a delivery that nobody has acknowledged is somebody else's.
    """

    def __init__(
        self,
        redis: Redis,
        worker: str,
        *,
        stream: str = "messages",
        group: str = "workers",
        idle: int = 60_000,
    ) -> None:
        self._redis: Any = redis
        self._worker, self._stream, self._group, self._idle = worker, stream, group, idle
        try:
            self._redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # there already
                raise

    def put(self, fields: Fields) -> None:
        """Add a message at the end."""
        self._redis.xadd(self._stream, dict(fields))

    def take(self, limit: int, *, wait: int = 1_000) -> list[Delivery]:
        """Take what a worker has left behind, or else what is new.

        Args:
            limit: how many at most.
            wait: for how many milliseconds to wait for a first one.
        """
        left = self._redis.xautoclaim(
            self._stream, self._group, self._worker, min_idle_time=self._idle, count=limit
        )[1]
        if not left:
            found = self._redis.xreadgroup(
                self._group, self._worker, {self._stream: ">"}, count=limit, block=wait
            )
            left = found[0][1] if found else []
        return [Delivery(*entry) for entry in left]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these need not be delivered again, and forget them."""
        ids = [delivery.id for delivery in deliveries]
        if ids:
            self._redis.pipeline().xack(self._stream, self._group, *ids).xdel(self._stream, *ids).execute()

    def bury(self, delivery: Delivery, why: str) -> None:
        """Put aside what can never be routed, for a human to look at."""
        told = {**delivery.fields, "why": why}
        dead = f"{self._stream}:dead"
        pipeline = self._redis.pipeline()  # a transaction of Redis: both or neither
        pipeline.xadd(dead, told).xack(self._stream, self._group, delivery.id).xdel(self._stream, delivery.id)
        pipeline.execute()
