"""An arq worker that is woken instead of polling, and survives a Redis restart.

Differences from `arq.Worker`, each because leases in PostgreSQL are the truth here:

- Claiming takes the entry and its data out of Redis in one script, without arq's in-progress
  key: that key outlives a killed worker by the job's whole timeout. A claimed job whose worker
  dies is found by the sweep of its resource and pushed again. Nothing is left to tell Redis when
  a job ends, so an entry pushed while the same job runs is an entry of its own and not lost.
- An idle worker blocks on a list that every push feeds, so that a job starts within
  milliseconds; once a second it looks anyway, for delayed jobs and for lost tokens.
- A Redis error is logged and tried again; arq would end the process.
- A queue has lanes, each with slots of its own, so that jobs that wait for other jobs of the
  same queue can never take the slots those need.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Any, cast
from uuid import uuid4

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
_NUDGE_TTL_SECONDS = 60

# KEYS: for each lane its queue and its wake-up list. ARGV: now, prefix of the keys that hold the
# jobs, then for each lane how many to take. Answers with lane number, id and data of each.
_CLAIM = """
local taken, keys = {}, {}
for lane = 1, #KEYS / 2 do
  local free = tonumber(ARGV[lane + 2])
  if free > 0 then
    local queue = KEYS[lane * 2 - 1]
    local ids = redis.call('ZRANGEBYSCORE', queue, '-inf', ARGV[1], 'LIMIT', 0, free)
    if #ids > 0 then
      redis.call('ZREM', queue, unpack(ids))
      if #ids > 1 then redis.call('LPOP', KEYS[lane * 2], #ids - 1) end
      for _, id in ipairs(ids) do
        taken[#taken + 1] = {lane - 1, id}
        keys[#keys + 1] = ARGV[2] .. id
      end
    end
  end
end
if #taken == 0 then return taken end
local found = redis.call('MGET', unpack(keys))
redis.call('DEL', unpack(keys))
for i, job in ipairs(taken) do job[3] = found[i] end
return taken
"""


@dataclass(eq=False, slots=True)
class _Lane:
    """One lane: its key in Redis, how many of its jobs may run at once, how many do."""

    key: str
    slots: int
    running: int = 0

    @property
    def free(self) -> int:
        return max(0, self.slots - self.running)


@dataclass(eq=False, slots=True)
class _Slot:
    """A running job's hold on its lane."""

    lane: _Lane
    work: asyncio.Event


_slot: ContextVar[_Slot | None] = ContextVar("slot", default=None)


@contextmanager
def released_slot() -> Iterator[None]:
    """Let other jobs of the lane run while this one only waits for people.

    Outside of a job it does nothing. Afterwards the lane may run one more than its slots.
    """
    slot = _slot.get()
    if slot is None:
        yield
        return
    slot.lane.running -= 1
    slot.work.set()
    try:
        yield
    finally:
        slot.lane.running += 1


class QueueWorker(Worker):
    """Runs the jobs of one queue, at most as many at once as its lanes allow, until `drain`.

    Args:
        redis: The client whose pool it uses.
        queue: What it takes jobs of.
        jobs: What it knows; those of other queues are left out.
        context: First argument of every job body.
        lanes: Slots by the lane's suffix; "" is the queue itself.
    """

    def __init__(
        self,
        redis: Redis,
        queue: Queue,
        jobs: Sequence[AnyJob],
        context: Any,
        lanes: Mapping[str, int],
    ) -> None:
        super().__init__(
            functions=[_function(job, context) for job in jobs if job.queue == queue],
            queue_name=queue.value,
            redis_pool=ArqRedis(
                redis.connection_pool, job_serializer=dumps, job_deserializer=loads
            ),
            handle_signals=False,
            max_jobs=sum(lanes.values()),
            keep_result=0,
            log_results=False,
            job_serializer=dumps,
            job_deserializer=loads,
        )
        self._claim = self.pool.register_script(_CLAIM)
        self._lanes = [_Lane(f"{queue.value}{suffix}", slots) for suffix, slots in lanes.items()]
        self._keys = [key for lane in self._lanes for key in (lane.key, wake_key(lane.key))]
        self._numbers = count()
        self._work = asyncio.Event()
        # Only this worker listens to it: how `main` interrupts the listener's wait.
        self._nudge_key = f"{queue.value}:nudge:{uuid4()}"
        self._heard: set[_Lane] = set()

    @override
    async def main(self) -> None:
        """Take jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    if not await self._take():
                        await self._listen_to_free_lanes()
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
        free = [lane.free for lane in self._lanes]
        if not self.allow_pick_jobs or not any(free):
            return False
        try:
            jobs = await self._claim(keys=self._keys, args=[timestamp_ms(), job_key_prefix, *free])
        except RedisError as error:
            log.warning("queue.unreachable", queue=self.queue_name, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
            return True
        taken = [0] * len(free)
        for number, job_id, data in cast("list[tuple[int, bytes, bytes | None]]", jobs):
            taken[number] += 1
            self._start(self._lanes[number], job_id.decode(), data)
        return any(most and most == got for most, got in zip(free, taken, strict=True))

    def _start(self, lane: _Lane, job_id: str, data: bytes | None) -> None:
        if data is None:
            # Expired, or another push's entry took it: its row still says what is to be done.
            log.warning("queue.job_without_data", job_id=job_id)
            return
        lane.running += 1
        task = self.loop.create_task(self._run(lane, job_id, data))
        # One id may run twice at a time; all but one of the bodies find nothing to claim.
        key = f"{job_id}#{next(self._numbers)}"
        self.tasks[key] = task
        task.add_done_callback(lambda _: self._finished(lane, key))

    async def _run(self, lane: _Lane, job_id: str, data: bytes) -> None:
        _slot.set(_Slot(lane, self._work))
        try:
            name, args, _, _, _ = deserialize_job_raw(data, deserializer=loads)
            function = cast("Function", self.functions[name])
            async with asyncio.timeout(function.timeout_s):
                await function.coroutine({}, *args)
        except Exception:
            # The job's row still says what is to be done; its sweep finds it.
            log.exception("queue.job_failed", job_id=job_id)

    def _finished(self, lane: _Lane, key: str) -> None:
        lane.running -= 1
        self.tasks.pop(key, None)
        self._work.set()

    async def _listen(self) -> None:
        """Turn wake-up tokens into the event `main` waits on."""
        while True:
            # Tokens of full lanes are left to other workers; here, a job that ends looks anyway.
            self._heard = {lane for lane in self._lanes if lane.free}
            keys = [self._nudge_key, *(wake_key(lane.key) for lane in self._heard)]
            try:
                token = await cast(
                    "Awaitable[list[bytes] | None]", self.pool.blpop(keys, timeout=_IDLE_SECONDS)
                )
            except RedisError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if token is not None:
                self._work.set()

    async def _listen_to_free_lanes(self) -> None:
        """Make the listener begin anew when a lane has become free that it does not listen to."""
        deaf = {lane for lane in self._lanes if lane.free} - self._heard
        if not deaf:
            return
        self._heard |= deaf  # told once; it finds out by itself what is free
        try:
            async with self.pool.pipeline(transaction=True) as pipe:
                pipe.lpush(self._nudge_key, b"1")
                pipe.expire(self._nudge_key, _NUDGE_TTL_SECONDS)
                await pipe.execute()
        except RedisError as error:
            log.warning("queue.unreachable", queue=self.queue_name, error=str(error))


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
