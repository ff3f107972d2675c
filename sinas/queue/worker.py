"""An arq worker that is woken instead of polling, and survives a Redis restart.

Differences from `arq.Worker`, each because leases in PostgreSQL are the truth here:

- Claiming takes the entry and its data out of Redis in one script, without arq's in-progress
  key: that key outlives a killed worker by the job's whole timeout. A claimed job whose worker
  dies is found by the sweep of its resource and pushed again. Nothing is left to tell Redis when
  a job ends, so an entry pushed while the same job runs is an entry of its own and not lost.
- An idle worker blocks on a list that every push feeds, so that a job starts within
  milliseconds; once a second it looks anyway, for delayed jobs and for lost tokens.
- A Redis error is logged and tried again; arq would end the process.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from itertools import count
from typing import Any, cast

import structlog
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import deserialize_job_raw
from arq.typing import WorkerCoroutine
from arq.utils import timestamp_ms
from arq.worker import Function, Worker, func
from redis.asyncio import Redis
from redis.exceptions import RedisError
from typing_extensions import override

from sinas.queue.job import AnyJob, Queue
from sinas.queue.wire import dumps, loads, wake_key

log = structlog.get_logger(__name__)

_IDLE_SECONDS = 1
_RETRY_SECONDS = 0.5
_CANCEL_SECONDS = 1.5

# KEYS: queue, wake-up list. ARGV: now, how many, prefix of the keys that hold the jobs.
_CLAIM = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #ids == 0 then return ids end
redis.call('ZREM', KEYS[1], unpack(ids))
if #ids > 1 then redis.call('LPOP', KEYS[2], #ids - 1) end
local jobs = {}
for i, id in ipairs(ids) do jobs[i] = ARGV[3] .. id end
local found = redis.call('MGET', unpack(jobs))
redis.call('DEL', unpack(jobs))
for i, id in ipairs(ids) do
  ids[i] = {id, found[i]}
end
return ids
"""


class QueueWorker(Worker):
    """Runs the jobs of one queue, at most `max_jobs` at once, until `drain` ends it."""

    def __init__(
        self,
        redis: Redis,
        queue: Queue,
        jobs: Sequence[AnyJob],
        context: Any,
        max_jobs: int,
    ) -> None:
        super().__init__(
            functions=[_function(job, context) for job in jobs if job.queue == queue],
            queue_name=queue.value,
            redis_pool=ArqRedis(
                redis.connection_pool, job_serializer=dumps, job_deserializer=loads
            ),
            handle_signals=False,
            max_jobs=max_jobs,
            keep_result=0,
            log_results=False,
            job_serializer=dumps,
            job_deserializer=loads,
        )
        self._claim = self.pool.register_script(_CLAIM)
        self._wake_key = wake_key(queue.value)
        self._numbers = count()
        self._work = asyncio.Event()

    @override
    async def main(self) -> None:
        """Take jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    if not await self._take():
                        async with asyncio.timeout(_IDLE_SECONDS):
                            await self._work.wait()

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, wait for the running ones, and cancel what is left after `seconds`.

        Cancelled bodies get a moment to write down how far they came.
        """
        self.allow_pick_jobs = False
        running = [task for task in self.tasks.values() if not task.done()]
        if not running:
            return
        _, left = await asyncio.wait(running, timeout=seconds)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CANCEL_SECONDS)

    async def _take(self) -> bool:
        """Start what is due and fits. True when there may be more to take at once."""
        free = self.max_jobs - self.job_counter
        if not self.allow_pick_jobs or free <= 0:
            return False
        try:
            jobs = await self._claim(
                keys=[self.queue_name, self._wake_key],
                args=[timestamp_ms(), free, job_key_prefix],
            )
        except RedisError as error:
            log.warning("queue.unreachable", queue=self.queue_name, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
            return True
        for job_id, data in cast("list[tuple[bytes, bytes | None]]", jobs):
            self._start(job_id.decode(), data)
        return len(jobs) == free

    def _start(self, job_id: str, data: bytes | None) -> None:
        if data is None:
            # Expired, or another push's entry took it: its row still says what is to be done.
            log.warning("queue.job_without_data", job_id=job_id)
            return
        self.job_counter += 1
        task = self.loop.create_task(self._run(job_id, data))
        # One id may run twice at a time; all but one of the bodies find nothing to claim.
        key = f"{job_id}#{next(self._numbers)}"
        self.tasks[key] = task
        task.add_done_callback(lambda _: self._finished(key))

    async def _run(self, job_id: str, data: bytes) -> None:
        try:
            name, args, _, _, _ = deserialize_job_raw(data, deserializer=loads)
            function = cast("Function", self.functions[name])
            async with asyncio.timeout(function.timeout_s):
                await function.coroutine({}, *args)
        except Exception:
            # The job's row still says what is to be done; its sweep finds it.
            log.exception("queue.job_failed", job_id=job_id)

    def _finished(self, key: str) -> None:
        self.job_counter -= 1
        self.tasks.pop(key, None)
        self._work.set()

    async def _listen(self) -> None:
        """Turn wake-up tokens into the event `main` waits on."""
        while True:
            try:
                token = await cast(
                    "Awaitable[list[bytes] | None]",
                    self.pool.blpop([self._wake_key], timeout=_IDLE_SECONDS),
                )
            except RedisError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if token is not None:
                self._work.set()
                if self.job_counter >= self.max_jobs:
                    # Leave tokens to idle workers; a finishing job looks at the queue anyway.
                    await asyncio.sleep(_RETRY_SECONDS)


def _function(job: AnyJob, context: Any) -> Function:
    async def run(_: dict[Any, Any], *args: Any) -> None:
        await job.run(context, *args)

    return func(
        cast("WorkerCoroutine", run),
        name=job.name,
        timeout=job.timeout,
        max_tries=job.tries,
        keep_result=0,
    )
