"""Attempts: what is run again, when, how often, and what becomes of what stays failed."""

import dataclasses
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from sinas.auth.principal import Principal
from sinas.context import AppContext
from sinas.errors import ConflictError, NotFoundError, UnavailableError
from sinas.kit.time import utcnow
from sinas.models import Execution, ExecutionStatus, Function
from sinas.resources.executions import attempts
from sinas.resources.executions.events import channel, wait_for_end
from sinas.resources.executions.jobs import ORPHANED, STOPPED, SWEEPS, execute
from sinas.resources.executions.retrying import RetryPolicy
from sinas.resources.executions.service import ExecutionService, Started
from sinas.sandbox.base import Ask, Crashed, Invocation, Outcome, OutOfMemory, Raised, TimedOut
from sinas.settings import QueueSettings, Settings
from sinas.worker import RunningWorker, open_worker
from tests.factories.functions import ECHO, make_execution, make_function
from tests.fixtures.client import SignIn
from tests.fixtures.state import in_own_task
from tests.resources.executions.support import load, pending, queued, running_in, until

RAISE = "def handler(i, c):\n    raise ValueError('no luck')"
SLEEP = "import time\ndef handler(i, c):\n    time.sleep(60)"
NO_DELAY = {"max_attempts": 3, "delay_seconds": 0}


class Answers:
    """A sandbox whose calls all end in one way."""

    def __init__(self, outcome: Outcome | Exception) -> None:
        self._outcome = outcome

    async def run(self, invocation: Invocation, ask: Ask | None = None) -> Outcome:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def attempted(
    context: AppContext, worker: RunningWorker, row: Execution, outcome: Outcome | Exception
) -> Execution:
    """The execution after one attempt that ended so."""
    sandbox: Any = Answers(outcome)
    await execute.run(dataclasses.replace(worker.context, sandbox=sandbox), str(row.id))
    return await load(context, row)


@pytest.mark.parametrize(
    ("retry", "attempt", "seconds"),
    [
        (None, 1, 10.0),
        (None, 3, 40.0),
        ({"delay_seconds": 3, "backoff": "linear"}, 3, 9.0),
        ({"delay_seconds": 3, "backoff": "none"}, 3, 3.0),
        ({"delay_seconds": 3, "backoff": None}, 2, 6.0),
        ({"delay_seconds": 86_400}, 9, 86_400.0),
    ],
)
def test_delays_grow_as_the_function_says(
    retry: dict[str, Any] | None, attempt: int, seconds: float
) -> None:
    policy = RetryPolicy.of(retry, QueueSettings(max_retries=3, retry_delay=10))
    assert policy.delay_after(attempt) == timedelta(seconds=seconds)
    assert policy.max_attempts == 3


async def test_an_idempotent_call_that_fails_is_run_again(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    function = await make_function(
        context,
        await as_.user("user"),
        RAISE,
        name="f",
        idempotent=True,
        retry={"max_attempts": 2, "delay_seconds": 2},
    )
    client = await as_("user")
    answer = await client.post("/functions/default/f/execute/async", json={"input": {"x": 1}})
    key = answer.json()["execution_id"]

    async def shown() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(f"/executions/{key}")).json()
        return found

    while (between := await shown())["error"] is None:
        assert between["status"] in ("PENDING", "RUNNING")
    assert (between["status"], between["attempt"]) == ("PENDING", 1)
    assert between["error"] == "ValueError: no luck"
    assert between["traceback"] is not None
    assert (await client.get(f"/jobs/{key}")).json()["status"] == "queued"
    async with context.unit() as unit:
        await unit.session.execute(
            update(Function).where(Function.id == function.id).values(code=ECHO)
        )
    row = await until(context, key, ExecutionStatus.COMPLETED)
    assert (row.attempt, row.output_data, row.error) == (2, {"x": 1}, None)
    assert row.traceback is None


async def test_attempts_end(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    user = await as_.user("user")
    await make_function(context, user, RAISE, name="f", idempotent=True, retry=NO_DELAY)
    answer = await (await as_("user")).post("/functions/default/f/execute", json={})
    assert answer.json()["error"] == "Function execution failed: ValueError: no luck"
    row = await load(context, answer.json()["execution_id"])
    assert (row.status, row.attempt) == (ExecutionStatus.FAILED, 3)


@pytest.mark.parametrize(
    ("outcome", "idempotent", "again"),
    [
        (Raised(error="ValueError: x", traceback=""), True, True),
        (TimedOut(timeout_seconds=1), True, True),
        (OutOfMemory(limit_mb=1), True, True),
        (Crashed(reason="gone"), True, True),
        (RuntimeError("a fault of ours"), True, True),
        (UnavailableError("no sandbox"), True, True),
        (UnavailableError("no sandbox"), False, True),
        (Raised(error="ValueError: x", traceback=""), False, False),
        (Crashed(reason="gone"), False, False),
        (RuntimeError("a fault of ours"), False, False),
    ],
)
async def test_only_what_did_not_begin_or_does_no_harm_is_run_again(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    outcome: Outcome | Exception,
    idempotent: bool,
    again: bool,
) -> None:
    user = await as_.user("user")
    function = await make_function(context, user, idempotent=idempotent)
    row = await make_execution(context, function)
    before = utcnow()
    after = await attempted(context, function_worker, row, outcome)
    assert after.error is not None
    if again:
        assert (after.status, after.lease_owner) == (ExecutionStatus.PENDING, None)
        assert after.completed_at is None
        assert after.queued_at >= before + timedelta(seconds=context.settings.queue.retry_delay)
        assert await pending(context) == 1
    else:
        assert after.status is ExecutionStatus.FAILED
        assert after.completed_at is not None


async def test_a_result_that_breaks_the_promise_is_not_run_again(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    user = await as_.user("user")
    await make_function(
        context,
        user,
        "def handler(i, c):\n    return 'text'",
        name="f",
        output_schema={"type": "object"},
        idempotent=True,
        retry=NO_DELAY,
    )
    answer = await (await as_("user")).post("/functions/default/f/execute", json={})
    row = await load(context, answer.json()["execution_id"])
    assert (row.status, row.attempt) == (ExecutionStatus.FAILED, 1)


async def test_what_is_due_later_is_not_pushed_early(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    function = await make_function(context, await as_.user("user"))
    row = await make_execution(context, function, queued_at=utcnow() + timedelta(seconds=30))
    await SWEEPS[0].run(context)
    assert await pending(context) == 0
    assert (await load(context, row)).status is ExecutionStatus.PENDING


async def test_lost_pushes_are_made_again_in_their_own_lane(
    context: AppContext, as_: SignIn
) -> None:
    user = await as_.user("user")
    plain = await make_function(context, user)
    shared = await make_function(context, user, shared_pool=True)
    stale = utcnow() - timedelta(seconds=6)
    for function, depth in ((plain, 1), (plain, 3), (shared, 1), (shared, 2)):
        await make_execution(context, function, queued_at=stale, depth=depth)
    await SWEEPS[0].run(context)
    assert {lane: await pending(context, lane) for lane in ("", ":2", ":shared", ":shared:1")} == {
        "": 1,
        ":2": 1,
        ":shared": 1,
        ":shared:1": 1,
    }


class TestDeadWorkers:
    async def test_idempotent_calls_are_run_again_and_others_fail(
        self, context: AppContext, as_: SignIn
    ) -> None:
        user = await as_.user("user")
        safe = await make_function(context, user, idempotent=True)
        unsafe = await make_function(context, user)
        rows = {
            "again": await make_execution(context, safe, depth=2),
            "failed": await make_execution(context, unsafe, background=True),
            "tried": await make_execution(context, safe, attempt=2),
        }
        for row in rows.values():
            assert await attempts.claim(context, row.id, uuid4()) is not None
        paused = await make_execution(
            context, unsafe, status=ExecutionStatus.AWAITING_INPUT, prompt="?"
        )
        async with context.signals.listen(channel(rows["failed"].id)) as listener:
            await SWEEPS[1].run(context)
            end = await wait_for_end(context, listener, rows["failed"].id, 5)
        assert end is not None
        assert (end.status, end.error) == (ExecutionStatus.FAILED, ORPHANED)
        now = {name: await load(context, row) for name, row in rows.items()}
        assert (now["again"].status, now["again"].error) == (ExecutionStatus.PENDING, ORPHANED)
        assert now["again"].completed_at is None
        assert await pending(context, ":1") == 1
        assert now["failed"].dead_lettered_at is not None
        assert (now["tried"].status, now["tried"].attempt) == (ExecutionStatus.FAILED, 3)
        assert now["tried"].dead_lettered_at is None
        asked = await load(context, paused)
        assert (asked.status, asked.prompt) == (ExecutionStatus.FAILED, None)

    async def test_a_stopping_worker_hands_idempotent_calls_on(
        self, context: AppContext, as_: SignIn
    ) -> None:
        user = await as_.user("user")
        safe = await make_function(context, user, SLEEP, idempotent=True)
        unsafe = await make_function(context, user, SLEEP)
        rows = [await make_execution(context, function) for function in (safe, unsafe)]
        async with in_own_task(open_worker("functions", context)) as worker:
            for row in rows:
                await queued(context, row)
                await running_in(worker, row)
        first, second = [await load(context, row) for row in rows]
        assert (second.status, second.error) == (ExecutionStatus.FAILED, STOPPED)
        assert (first.status, first.error) == (ExecutionStatus.PENDING, STOPPED)
        async with context.unit() as unit:
            await unit.session.execute(
                update(Function).where(Function.id == safe.id).values(code=ECHO)
            )
        async with in_own_task(open_worker("functions", context)):
            again = await until(context, first, ExecutionStatus.COMPLETED)
        assert again.attempt == 2


class TestDeadLetters:
    async def test_only_final_failures_that_nobody_waits_for_become_dead_letters(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        await make_function(context, await as_.user("user"), RAISE, name="bad")
        await make_function(context, await as_.user("user"), name="good")
        client = await as_("user")
        waited = await client.post("/functions/default/bad/execute", json={})
        keys = {}
        for name in ("bad", "good"):
            answer = await client.post(f"/functions/default/{name}/execute/async", json={})
            keys[name] = answer.json()["execution_id"]
        failed = await until(context, keys["bad"], ExecutionStatus.FAILED)
        assert failed.dead_lettered_at is not None
        completed = await until(context, keys["good"], ExecutionStatus.COMPLETED)
        assert completed.dead_lettered_at is None
        assert (await load(context, waited.json()["execution_id"])).dead_lettered_at is None

    async def test_one_is_started_anew_as_another_execution_of_its_owner(
        self, context: AppContext, as_: SignIn, function_worker: RunningWorker
    ) -> None:
        user = await as_.user("user")
        function = await make_function(context, user, RAISE, name="f")
        client = await as_("user")
        body = {"input": {"x": 1}, "trigger_id": "import-7"}
        answer = await client.post("/functions/default/f/execute/async", json=body)
        old = UUID(answer.json()["execution_id"])
        await until(context, old, ExecutionStatus.FAILED)
        async with context.unit() as unit:
            await unit.session.execute(
                update(Function).where(Function.id == function.id).values(code=ECHO)
            )
        admin = await operator(context, as_)
        async with context.unit() as unit:
            service = ExecutionService(unit, admin)
            assert [row.id for row in await service.dead_letters(skip=0, limit=10)] == [old]
            assert await service.count_dead_letters() == 1
            new = await service.retry_dead_letter(old, context.settings.function)
        row = await until(context, new, ExecutionStatus.COMPLETED)
        assert new != old
        assert (row.user_id, row.trigger_id, row.background) == (user.id, "import-7", True)
        assert (row.output_data, row.attempt) == ({"x": 1}, 1)
        kept = await load(context, old)
        assert (kept.status, kept.dead_lettered_at) == (ExecutionStatus.FAILED, None)
        async with context.unit() as unit:
            with pytest.raises(NotFoundError, match="dead-letter"):
                await ExecutionService(unit, admin).retry_dead_letter(
                    old, context.settings.function
                )

    async def test_one_of_a_deleted_function_stays(self, context: AppContext, as_: SignIn) -> None:
        function = await make_function(context, await as_.user("user"))
        row = await make_execution(
            context, function, status=ExecutionStatus.FAILED, dead_lettered_at=utcnow()
        )
        async with context.unit() as unit:
            await unit.session.delete(await unit.session.get_one(Function, function.id))
        admin = await operator(context, as_)
        with pytest.raises(ConflictError, match="was deleted"):
            async with context.unit() as unit:
                await ExecutionService(unit, admin).retry_dead_letter(
                    row.id, context.settings.function
                )
        assert (await load(context, row)).dead_lettered_at is not None

    async def test_flushing_empties_the_list(self, context: AppContext, as_: SignIn) -> None:
        function = await make_function(context, await as_.user("user"))
        for _ in range(3):
            await make_execution(
                context, function, status=ExecutionStatus.FAILED, dead_lettered_at=utcnow()
            )
        admin = await operator(context, as_)
        async with context.unit() as unit:
            service = ExecutionService(unit, admin)
            assert await service.flush_dead_letters() == 3
            assert await service.flush_dead_letters() == 0
        async with context.sessions() as session:
            assert len((await session.scalars(select(Execution.id))).all()) == 3


async def operator(context: AppContext, as_: SignIn) -> Principal:
    return await context.authenticator.by_user((await as_.user("admin")).id)


@pytest.mark.parametrize(
    ("is_idempotent", "retry", "seconds"),
    [
        (False, None, 10 + 300),
        (True, None, 3 * 10 + (10 + 20) + 300),
        (True, {"max_attempts": 4, "delay_seconds": 1, "backoff": "linear"}, 40 + 6 + 300),
    ],
)
def test_who_waits_waits_for_the_last_attempt(
    settings: Settings, is_idempotent: bool, retry: dict[str, Any] | None, seconds: float
) -> None:
    started = Started(
        execution_id=uuid4(), timeout_seconds=10, is_idempotent=is_idempotent, retry=retry
    )
    assert started.patience_seconds(settings) == seconds
