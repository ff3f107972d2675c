"""Pushing jobs: one round trip for any number of them."""

from collections.abc import Sequence

from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio import Redis

from sinas.db.unit import QueuedJob
from sinas.queue.wire import JOB_TTL, WAKE_LIMIT, dumps, wake_key


class JobQueue:
    """The producing side. Implements `sinas.db.unit.JobSink`.

    Writes what `ArqRedis.enqueue_job` writes, without its WATCH/EXISTS round trips: whether a
    job still has to run is decided by its row, and an entry pushed twice is one entry.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def push(self, jobs: Sequence[QueuedJob]) -> None:
        """Add all jobs and wake one idle worker for each."""
        async with self._redis.pipeline(transaction=True) as pipe:
            now = timestamp_ms()
            for job in jobs:
                data = serialize_job(job.name, job.args, {}, None, now, serializer=dumps)
                delay = int(job.delay.total_seconds() * 1000)
                pipe.set(job_key_prefix + job.job_id, data, px=JOB_TTL + job.delay)
                # Never later: pushing again what waits must not move it to the end of the line.
                pipe.zadd(job.queue, {job.job_id: now + delay}, lt=True)
                if not delay:
                    pipe.lpush(wake_key(job.queue), b"1")
                    pipe.ltrim(wake_key(job.queue), 0, WAKE_LIMIT)
            await pipe.execute()

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish each message on its channel."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for channel, message in messages:
                pipe.publish(channel, message)
            await pipe.execute()
