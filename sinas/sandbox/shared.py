"""The shared pool: a few sandboxes that take many calls of trusted code at once."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import structlog

from sinas.errors import FieldError, InvalidInputError, UnavailableError
from sinas.sandbox.base import Ask, Invocation, Outcome, Profile, Reloaded, SandboxMember, Scaled
from sinas.sandbox.link import Call, LinkLostError
from sinas.sandbox.pool import RESTARTED, Member, MemberSource
from sinas.settings import SandboxSettings

_log = structlog.get_logger(__name__)

MOST_WORKERS: Final = 10
# Calls in one sandbox, those that wait for input included: below the users a runner has.
_MOST_CALLS = 200
_HEALTH_SECONDS = 60.0
# Cleaning after calls comes before answering, and a bad one may take seconds.
_PING_SECONDS = 30.0
_SETTLE_SECONDS = 10.0
_CREATIONS_AT_ONCE = 2
_RETRY_SECONDS = 1.0
_NOTHING = (
    "The shared pool has no container: an administrator scales it up with "
    "POST /api/v1/workers/scale, or sets DEFAULT_WORKER_COUNT."
)


@dataclass(eq=False, slots=True)
class _Worker:
    """One sandbox of the pool."""

    member: Member
    created: float = field(default_factory=time.monotonic)
    calls: set[Call] = field(default_factory=set)
    executions: int = 0
    turn: int = 0
    retiring: bool = False

    @property
    def takes_calls(self) -> bool:
        return (
            not self.retiring and not self.member.link.lost.done() and len(self.calls) < _MOST_CALLS
        )

    def describe(self) -> SandboxMember:
        return SandboxMember(
            name=self.member.name,
            status="retiring" if self.retiring else "running",
            running=len(self.calls),
            executions=self.executions,
            age_seconds=time.monotonic() - self.created,
        )


class SharedPool:
    """Sandboxes that take calls in turn. One event loop; each call is a process of its own.

    A sandbox that is not to go on (scaled away, reloaded, used up, not clean) retires: it takes
    no new calls and ends after its last one, so that no call that waits for input is lost.

    Args:
        source: The back end; open already.
        settings: Sizes and times.
        profile: Of the shared kind.
    """

    def __init__(self, source: MemberSource, settings: SandboxSettings, profile: Profile) -> None:
        self._source = source
        self._settings = settings
        self._profile = profile
        self._target = settings.shared_workers
        self._workers: list[_Worker] = []
        self._creating = 0
        self._creations = asyncio.Semaphore(_CREATIONS_AT_ONCE)
        self._turns = count(1)
        self._last_failure = ""
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def start(self) -> None:
        """Begin to fill the pool; calls that come sooner wait."""
        opened = asyncio.Event()
        # One group owns every background task; it lives as long as the pool, across callers.
        self._keeper = asyncio.create_task(self._keep(opened))  # noqa: TID251 - see above
        await opened.wait()
        self._fill()

    async def run(self, invocation: Invocation, ask: Ask | None = None) -> Outcome:
        """Run one call; see `Sandbox.run`."""
        worker, call = await self._begin(invocation)
        try:
            return await call.outcome(ask)
        finally:
            self._settle_later(worker, call)

    def members(self) -> tuple[SandboxMember, ...]:
        """The sandboxes, those that retire included."""
        return tuple(worker.describe() for worker in self._workers)

    def sandboxes(self) -> list[Member]:
        """All of them."""
        return [worker.member for worker in self._workers]

    def replace(self, name: str) -> bool:
        """End one sandbox; see `Sandbox.replace`."""
        for worker in self._workers:
            if worker.member.name == name:
                self._remove(worker, RESTARTED)
                return True
        return False

    async def scale(self, target: int) -> Scaled:
        """Have `target` sandboxes take calls; see `Sandbox.scale_shared`."""
        if not 0 <= target <= MOST_WORKERS:
            message = f"target_count must be 0 to {MOST_WORKERS} for each function worker."
            raise InvalidInputError(message, [FieldError("target_count", message)])
        before = set(self._current())
        self._target = target
        # Those with the fewest calls end soonest.
        by_calls = sorted(before, key=lambda worker: len(worker.calls))
        for worker in by_calls[: max(0, len(before) - target)]:
            self._retire(worker, "scaled down")
        self._changed.set()
        self._last_failure = ""
        self._fill()
        while len(self._current()) < self._target == target and not self._closing.is_set():
            if self._last_failure:
                raise UnavailableError(f"A shared container did not start: {self._last_failure}")
            await self._change()
        after = set(self._current())
        return Scaled(
            previous=len(before),
            current=len(after),
            added=len(after - before),
            removed=len(before - after),
        )

    async def reload(self) -> Reloaded:
        """Replace every sandbox; see `Sandbox.reload_shared`."""
        if self._tasks is None:
            raise UnavailableError("The shared pool is not running.")
        old = self._current()
        replacing = [self._tasks.create_task(self._replace(worker)) for worker in old]
        failures = [failure for task in replacing if (failure := await task)]
        return Reloaded(
            replaced=len(old) - len(failures), failed=len(failures), errors=tuple(failures)
        )

    async def aclose(self) -> None:
        """End every sandbox; calls still running end as crashed."""
        self._closing.set()
        self._changed.set()
        for worker in self._workers:
            worker.member.link.break_off("the pool is closing")
        if self._keeper is not None:
            await self._keeper
            self._keeper = None

    # -- calls

    async def _begin(self, invocation: Invocation) -> tuple[_Worker, Call]:
        while True:
            worker = await self._next()
            try:
                call = worker.member.link.call(invocation)
            except LinkLostError:
                continue  # its loss is handled where it is noticed; another takes the call
            except OSError as error:
                raise UnavailableError(
                    f"The call could not be started: {error.strerror}."
                ) from error
            worker.executions += 1
            worker.calls.add(call)
            return worker, call

    async def _next(self) -> _Worker:
        """The sandbox whose turn it is."""
        try:
            async with asyncio.timeout(self._settings.acquire_timeout):
                while True:
                    if self._closing.is_set() or self._tasks is None:
                        raise UnavailableError("The shared pool is not running.")
                    ready = [worker for worker in self._workers if worker.takes_calls]
                    if ready:
                        worker = min(ready, key=lambda one: one.turn)
                        worker.turn = next(self._turns)
                        return worker
                    if not self._target:
                        raise UnavailableError(_NOTHING)
                    await self._change()
        except TimeoutError:
            raise UnavailableError(self._no_worker()) from None

    def _no_worker(self) -> str:
        text = f"No shared container took the call within {self._settings.acquire_timeout:g} s."
        if self._last_failure:
            return f"{text} Last failure to start one: {self._last_failure}"
        return f"{text} Each has {_MOST_CALLS} calls at most, those that wait for input included."

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _settle_later(self, worker: _Worker, call: Call) -> None:
        def give_up() -> None:
            self._retire(worker, "not cleaned after a call")
            forget()

        def forget() -> None:
            timer.cancel()
            worker.calls.discard(call)
            self._end_if_through(worker)
            self._changed.set()

        def settle(_: object) -> None:
            # Of a lost sandbox nothing is left to be cleaned.
            whole = not call.ended.cancelled() and call.ended.exception() is None
            if whole and not call.ended.result().clean:
                self._retire(worker, "not clean after a call")
            elif worker.executions >= self._settings.max_executions:
                self._retire(worker, "used up")
            forget()

        timer = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, give_up)
        if call.ended.done():
            settle(None)
        else:
            call.ended.add_done_callback(settle)

    # -- sandboxes

    def _current(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.retiring]

    def _fill(self) -> None:
        """Start as many sandboxes as are wanted and not there."""
        for _ in range(self._target - len(self._current()) - self._creating):
            self._creating += 1
            self._spawn(self._create())

    async def _create(self) -> None:
        try:
            await self._start_one()
        except UnavailableError as error:
            self._last_failure = error.message
            _log.warning("sandbox.create_failed", error=error.message)
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._fill)
        finally:
            self._creating -= 1
            self._changed.set()

    async def _start_one(self) -> None:
        async with self._creations:
            if self._closing.is_set():
                return
            started = time.monotonic()
            member = await self._source.create(self._profile)
        _log.info(
            "sandbox.created",
            name=member.name,
            duration_ms=round((time.monotonic() - started) * 1000),
        )
        self._last_failure = ""
        worker = _Worker(member)
        self._workers.append(worker)
        member.link.lost.add_done_callback(lambda _: self._remove(worker, "lost"))

    async def _replace(self, worker: _Worker) -> str:
        """Start a sandbox and retire `worker`; why it failed, if it did."""
        try:
            await self._start_one()
        except UnavailableError as error:
            return error.message
        self._retire(worker, "reloaded")
        self._changed.set()
        return ""

    def _retire(self, worker: _Worker, reason: str) -> None:
        if not worker.retiring:
            worker.retiring = True
            _log.info("sandbox.retired", name=worker.member.name, reason=reason)
            self._end_if_through(worker)
            self._fill()

    def _end_if_through(self, worker: _Worker) -> None:
        if worker.retiring and not worker.calls:
            self._remove(worker, "retired")

    def _remove(self, worker: _Worker, reason: str) -> None:
        if worker not in self._workers or self._closing.is_set():
            return
        self._workers.remove(worker)
        worker.member.link.break_off(reason)
        _log.info(
            "sandbox.discarded",
            name=worker.member.name,
            reason=reason,
            calls=worker.executions,
        )
        self._spawn(worker.member.destroy())
        self._fill()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        if self._tasks is None or self._closing.is_set():
            work.close()
        else:
            self._tasks.create_task(work)

    async def _keep(self, opened: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            opened.set()
            while not self._closing.is_set():
                try:
                    async with asyncio.timeout(_HEALTH_SECONDS):
                        await self._closing.wait()
                except TimeoutError:
                    await self._check_health()
        self._tasks = None
        # After the group: a sandbox that was on its way is among them now.
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(worker.member.destroy())
        self._workers.clear()

    async def _check_health(self) -> None:
        for worker in tuple(self._workers):
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    await worker.member.link.ping()
            except TimeoutError:
                worker.member.link.break_off("no answer to a health check")
            except LinkLostError:
                continue  # its loss is handled where it is noticed
