"""A worker that drains a queue in batches: Redis Streams in front, the tickets in any database."""
