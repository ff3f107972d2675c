"""Warm sandboxes of one worker, whatever their back end: lease, health, recycling."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from sinas.errors import FieldError, InvalidInputError, UnavailableError
from sinas.sandbox.base import Invocation, Outcome, Profile, Reloaded, SandboxMember, Scaled
from sinas.sandbox.link import Call, LinkLostError, RunnerLink, is_tainting
from sinas.sandbox.usage import Sample
from sinas.settings import SandboxSettings

_log = structlog.get_logger(__name__)

RESTARTED: Final = "an operator restarted it"
_HEALTH_SECONDS = 60.0
_PING_SECONDS = 5.0
_SETTLE_SECONDS = 10.0
_CREATIONS_AT_ONCE = 4
# Between attempts to start sandboxes while none starts: an engine that is away comes back when it
# does, and asking it eighty times a second keeps a core busy and fills the log.
_RETRY_SECONDS = 0.5
_MAX_RETRY_SECONDS = 5.0
# Most calls are over sooner than a new sandbox would be there, and making one takes the CPU from
# them: only who runs or waits longer than this makes the pool grow.
_BRIEF_SECONDS = 0.25


class Member(Protocol):
    """One warm sandbox."""

    @property
    def name(self) -> str:
        """Names it in logs and in the status."""
        ...

    @property
    def link(self) -> RunnerLink:
        """Its control socket; ready."""
        ...

    def sample(self) -> Sample | None:
        """What it takes of the machine now; None when it is gone. Blocks."""
        ...

    async def destroy(self) -> None:
        """End it and remove what it left on this machine. Never raises; repeating is safe."""
        ...


class MemberSource(Protocol):
    """A back end: makes sandboxes."""

    @property
    def backend(self) -> str:
        """`docker` or `process`."""
        ...

    @property
    def boundary(self) -> str:
        """What separates a call from the host, as one readable line."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What it does not isolate."""
        ...

    async def open(self) -> None:
        """Make ready for `create`.

        Raises:
            UnavailableError: This back end cannot work on this machine.
        """
        ...

    async def create(self, profile: Profile) -> Member:
        """Start one sandbox and wait until it takes calls.

        Raises:
            UnavailableError: It did not start.
        """
        ...

    async def aclose(self) -> None:
        """Remove what `open` made for this worker alone."""
        ...


@dataclass(eq=False, slots=True)
class _Slot:
    member: Member
    created: float = field(default_factory=time.monotonic)
    idle_since: float = field(default_factory=time.monotonic)
    busy_since: float = 0.0
    executions: int = 0
    retiring: bool = False

    def describe(self, status: str) -> SandboxMember:
        return SandboxMember(
            name=self.member.name,
            status=status,
            running=int(status == "in_use"),
            executions=self.executions,
            age_seconds=time.monotonic() - self.created,
        )


@dataclass(frozen=True, slots=True)
class _Wait:
    since: float
    nested: bool


class SandboxPool:
    """Sandboxes of any back end. One event loop; each call has a sandbox for itself.

    An idle sandbox is leased without awaiting anything; waiting callers are served in order.
    The answer of a call is given before its sandbox is cleaned, and the sandbox is leased again
    only after the runner said it is clean.

    Args:
        source: The back end; opened and closed with the pool.
        settings: Sizes and times.
        most: Sandboxes at most when calls made by user code need them: their callers, which
            wait for them, hold the others.
    """

    def __init__(self, source: MemberSource, settings: SandboxSettings, *, most: int) -> None:
        self._source = source
        self._settings = settings
        self._profile = Profile(kind="sandbox", memory_mb=settings.memory_mb)
        self._min_size, self._min_idle = settings.min_size, settings.min_idle
        self._most = most
        self._idle: list[_Slot] = []
        self._busy: set[_Slot] = set()
        self._waiting: dict[asyncio.Future[_Slot], _Wait] = {}  # in order
        self._creating = 0
        self._look: asyncio.TimerHandle | None = None
        self._creations = asyncio.Semaphore(_CREATIONS_AT_ONCE)
        self._last_failure = ""
        self._failures = 0
        self._retry_at = 0.0
        self._closing = asyncio.Event()
        self._filled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def start(self) -> None:
        """Fill the pool to its minimum.

        Raises:
            UnavailableError: The back end cannot work on this machine, or no sandbox started.
        """
        await self._source.open()
        opened = asyncio.Event()
        # One group owns every background task; it lives as long as the pool, across callers.
        self._keeper = asyncio.create_task(self._keep(opened))  # noqa: TID251 - see above
        await opened.wait()
        self._replenish()
        if self._creating:
            await self._filled.wait()
        if self._last_failure and not self._idle:
            failure = self._last_failure
            await self.aclose()
            raise UnavailableError(f"No sandbox could be started: {failure}")

    async def run(self, invocation: Invocation) -> Outcome:
        """Run one call; see `Sandbox.run`."""
        slot, call = await self._begin(invocation)
        tainted = True
        try:
            outcome = await call.outcome()
            tainted = is_tainting(outcome)
            return outcome
        finally:
            self._settle_later(slot, call, tainted)

    def idle(self) -> tuple[SandboxMember, ...]:
        """The sandboxes that wait for a call."""
        return tuple(slot.describe("idle") for slot in self._idle)

    def in_use(self) -> tuple[SandboxMember, ...]:
        """The sandboxes that run one, or are being cleaned after it."""
        return tuple(slot.describe("in_use") for slot in self._busy)

    def sandboxes(self) -> list[Member]:
        """All of them."""
        return [slot.member for slot in (*self._idle, *self._busy)]

    @property
    def min_idle(self) -> int:
        """How many idle ones are kept while others are busy."""
        return self._min_idle

    def replace(self, name: str) -> bool:
        """End one sandbox; see `Sandbox.replace`."""
        for slot in (*self._idle, *self._busy):
            if slot.member.name == name:
                # An idle one is discarded when its loss is noticed, a busy one after its call.
                slot.member.link.break_off(RESTARTED)
                return True
        return False

    async def scale(self, target: int) -> Scaled:
        """Keep `target` sandboxes ready; see `Sandbox.scale_sandboxes`."""
        most = self._settings.max_size
        if not 0 <= target <= most:
            message = f"target must be 0 to {most} (SANDBOX_MAX_SIZE) for each function worker."
            raise InvalidInputError(message, [FieldError("target", message)])
        before = {*self._idle, *self._busy}
        self._min_size, self._min_idle = target, min(self._settings.min_idle, target)
        for slot in self._idle[: max(0, len(before) - target)]:
            self._discard(slot, "scaled down")
        self._replenish()
        while self._creating and not self._closing.is_set():
            self._filled.clear()
            await self._filled.wait()
        after = {*self._idle, *self._busy}
        if len(after) < target:
            raise UnavailableError(f"A sandbox did not start: {self._last_failure}")
        return Scaled(
            previous=len(before),
            current=len(after),
            added=len(after - before),
            removed=len(before - after),
        )

    async def reload(self) -> Reloaded:
        """Replace every sandbox; see `Sandbox.reload_sandboxes`."""
        if self._tasks is None:
            raise UnavailableError("The sandbox pool is not running.")
        for slot in (*self._idle, *self._busy):
            slot.retiring = True
        replacing = [self._tasks.create_task(self._replace()) for _ in self._idle]
        failures = [failure for task in replacing if (failure := await task)]
        return Reloaded(
            replaced=len(replacing) - len(failures), failed=len(failures), errors=tuple(failures)
        )

    async def aclose(self) -> None:
        """End every sandbox; calls still running end as crashed."""
        self._closing.set()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(UnavailableError("The sandbox pool is shutting down."))
        self._waiting.clear()
        for slot in (*self._idle, *self._busy):
            slot.member.link.break_off("the pool is closing")
        if self._keeper is not None:
            await self._keeper
            self._keeper = None
        await self._source.aclose()

    # -- leasing

    async def _begin(self, invocation: Invocation) -> tuple[_Slot, Call]:
        while True:
            slot = await self._lease(nested=invocation.nested)
            try:
                call = slot.member.link.call(invocation)
            except LinkLostError:
                self._discard(slot, "lost before its call")  # and try the next one
            except OSError as error:
                self._release(slot)
                raise UnavailableError(
                    f"The call could not be started: {error.strerror}."
                ) from error
            else:
                slot.executions += 1
                return slot, call

    async def _lease(self, *, nested: bool) -> _Slot:
        if self._closing.is_set() or self._tasks is None:
            raise UnavailableError("The sandbox pool is not running.")
        if self._idle and not self._waiting:
            slot = self._idle.pop()
            self._occupy(slot)
            return slot
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = _Wait(time.monotonic(), nested)
        self._look_later()
        try:
            async with asyncio.timeout(self._settings.acquire_timeout):
                return await waiter
        except TimeoutError:
            raise UnavailableError(self._no_sandbox()) from None
        finally:
            self._withdraw(waiter)

    def _occupy(self, slot: _Slot) -> None:
        slot.busy_since = time.monotonic()
        self._busy.add(slot)
        self._look_later()

    def _withdraw(self, waiter: "asyncio.Future[_Slot]") -> None:
        """Forget a waiter; a slot it was given but could not take goes to the next."""
        self._waiting.pop(waiter, None)
        task = asyncio.current_task()
        given_up = task is not None and task.cancelling() > 0
        if given_up and waiter.done() and not waiter.cancelled() and not waiter.exception():
            self._release(waiter.result())

    def _no_sandbox(self) -> str:
        text = f"No sandbox became free within {self._settings.acquire_timeout:g} s."
        return f"{text} Last failure to start one: {self._last_failure}" * bool(
            self._last_failure
        ) or (f"{text} Raise SANDBOX_MAX_SIZE or SANDBOX_ACQUIRE_TIMEOUT if this happens often.")

    # -- after a call

    def _settle_later(self, slot: _Slot, call: Call, tainted: bool) -> None:
        link = slot.member.link
        timer = asyncio.get_running_loop().call_later(
            _SETTLE_SECONDS, link.break_off, "not cleaned after a call"
        )

        def settle(_: object) -> None:
            timer.cancel()
            if tainted or call.ended.cancelled() or call.ended.exception() is not None:
                self._discard(slot, "tainted by its call")
            elif not call.ended.result().clean:
                self._discard(slot, "not clean after its call")
            elif slot.retiring:
                self._discard(slot, "reloaded")
            elif slot.executions >= self._settings.max_executions:
                self._discard(slot, "used up")
            else:
                self._release(slot)

        if call.ended.done():
            settle(None)
        else:
            call.ended.add_done_callback(settle)

    def _release(self, slot: _Slot) -> None:
        if slot.member.link.lost.done() or self._closing.is_set():
            self._discard(slot, "lost")
            return
        while self._waiting:
            # Those whose callers hold a sandbox go first: it becomes free when they are through.
            nested = (one for one, wait in self._waiting.items() if wait.nested)
            waiter = next(nested, None) or next(iter(self._waiting))
            del self._waiting[waiter]
            if not waiter.done():
                self._occupy(slot)
                waiter.set_result(slot)
                return
        self._busy.discard(slot)
        slot.idle_since = time.monotonic()
        self._idle.append(slot)

    def _discard(self, slot: _Slot, reason: str) -> None:
        self._busy.discard(slot)
        if slot in self._idle:
            self._idle.remove(slot)
        slot.member.link.break_off(reason)
        _log.info("sandbox.discarded", name=slot.member.name, reason=reason, calls=slot.executions)
        self._spawn(self._destroy, slot)
        self._replenish()

    async def _destroy(self, slot: _Slot) -> None:
        await slot.member.destroy()

    # -- background

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
            for slot in (*self._idle, *self._busy):
                tasks.create_task(slot.member.destroy())
            self._idle.clear()
        self._tasks = None
        self._busy.clear()

    def _spawn(self, work: Callable[..., object], *args: object) -> None:
        if self._tasks is not None:
            self._tasks.create_task(work(*args))  # type: ignore[arg-type]

    def _replenish(self) -> None:
        """Start as many creations as the sizes, long calls and long waits ask for."""
        if self._closing.is_set() or time.monotonic() < self._retry_at:
            return
        size = len(self._idle) + len(self._busy) + self._creating
        floor = time.monotonic() - _BRIEF_SECONDS
        back_soon = sum(slot.busy_since > floor for slot in self._busy)
        waiting_long = [wait.nested for wait in self._waiting.values() if wait.since <= floor]
        wanted = max(
            self._min_size - size,
            self._min_idle - len(self._idle) - back_soon - self._creating,
            len(waiting_long) - self._creating,
        )
        ordinary = min(wanted, self._settings.max_size - size)
        nested = min(sum(waiting_long) - self._creating, self._most - size)
        for _ in range(max(ordinary, nested)):
            self._creating += 1
            self._spawn(self._create)

    def _look_later(self) -> None:
        """Replenish every moment for as long as calls run or wait."""
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(_BRIEF_SECONDS, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        self._replenish()
        if (self._busy or self._waiting) and not self._closing.is_set():
            self._look_later()

    async def _create(self) -> None:
        try:
            slot = await self._start_one()
        except UnavailableError as error:
            self._last_failure = error.message
            _log.warning("sandbox.create_failed", error=error.message)
            self._pause()
            return
        finally:
            self._creating -= 1
            if not self._creating:
                self._filled.set()
        if slot is not None:
            self._last_failure = ""
            self._failures, self._retry_at = 0, 0.0
            self._release(slot)

    def _pause(self) -> None:
        """Start nothing for a while, a longer one after each failure."""
        pause = min(_RETRY_SECONDS * 2**self._failures, _MAX_RETRY_SECONDS)
        self._failures += 1
        self._retry_at = time.monotonic() + pause
        asyncio.get_running_loop().call_later(pause, self._replenish)

    async def _start_one(self) -> _Slot | None:
        """A new sandbox; None when the pool is closing."""
        async with self._creations:
            if self._closing.is_set():
                return None
            started = time.monotonic()
            member = await self._source.create(self._profile)
        _log.info(
            "sandbox.created",
            name=member.name,
            duration_ms=round((time.monotonic() - started) * 1000),
        )
        slot = _Slot(member)
        member.link.lost.add_done_callback(lambda _: self._on_lost(slot))
        return slot

    async def _replace(self) -> str:
        """Start a sandbox and let go of one that is to be replaced; why it failed, if it did."""
        try:
            slot = await self._start_one()
        except UnavailableError as error:
            return error.message
        if slot is not None:
            old = next((one for one in self._idle if one.retiring), None)
            self._release(slot)
            if old is not None:
                self._discard(old, "reloaded")
        return ""

    def _on_lost(self, slot: _Slot) -> None:
        if slot in self._idle and not self._closing.is_set():
            self._discard(slot, "lost while idle")

    async def _check_health(self) -> None:
        for slot in tuple(self._idle):
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    await slot.member.link.ping()
            except TimeoutError:
                slot.member.link.break_off("no answer to a health check")
            except LinkLostError:
                continue  # its loss is handled where it is noticed
        self._shrink()

    def _shrink(self) -> None:
        """Let go of sandboxes a past burst needed."""
        floor = time.monotonic() - _HEALTH_SECONDS
        for slot in tuple(self._idle):
            size = len(self._idle) + len(self._busy)
            spare = size > self._min_size and len(self._idle) > self._min_idle
            if spare and slot.idle_since < floor:
                self._discard(slot, "no longer needed")
