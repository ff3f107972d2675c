"""The queue as operators see and steer it, through HTTP."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from sinas.chat.pushing import push_turn
from sinas.context import AppContext
from sinas.kit.ids import uuid7_floor
from sinas.kit.time import utcnow
from sinas.models import (
    Execution,
    ExecutionStatus,
    Function,
    ToolCall,
    ToolCallStatus,
    Turn,
    TurnStatus,
)
from sinas.worker import RunningWorker
from tests.factories.chats import make_agent, make_chat, make_message, make_turn
from tests.factories.functions import ECHO, make_execution, make_function
from tests.fixtures.client import SignIn
from tests.support.operating import SLEEP, STATS, shown

QUEUE = "/api/v1/queue"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
async def function(context: AppContext, as_: SignIn) -> Function:
    return await make_function(context, await as_.user("user"), ECHO, name="echo")


async def json_of(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    return (await client.get(path, params=params)).raise_for_status().json()


async def load(context: AppContext, row_id: UUID) -> Execution:
    async with context.unit() as unit:
        return await unit.session.get_one(Execution, row_id)


def day_old() -> dict[str, Any]:
    """Columns of a row that was made yesterday, a little before this time."""
    made = utcnow() - timedelta(hours=24, minutes=1)
    return {"id": uuid7_floor(made), "created_at": made}


async def dead_letter(context: AppContext, function: Function, **columns: Any) -> Execution:
    return await make_execution(
        context,
        function,
        status=ExecutionStatus.FAILED,
        background=True,
        error="ValueError: no",
        attempt=3,
        completed_at=utcnow(),
        dead_lettered_at=utcnow(),
        **columns,
    )


class TestStats:
    async def test_of_nothing(self, admin: httpx.AsyncClient) -> None:
        assert await json_of(admin, f"{QUEUE}/stats") == {
            "queues": {"functions": {"pending": 0}, "agents": {"pending": 0}},
            "jobs": {"queued": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0},
            "dlq": {"size": 0},
            "pool": {"idle": 0, "in_use": 0, "total": 0},
            "workers": {"count": 0, "running": 0},
        }

    async def test_jobs_of_both_kinds_are_counted(
        self, admin: httpx.AsyncClient, context: AppContext, as_: SignIn, function: Function
    ) -> None:
        for status in ExecutionStatus:
            await make_execution(context, function, status=status)
        chat = await make_chat(context, await as_.user("user"), None)
        for state in TurnStatus:
            await make_turn(context, chat, state)
        stats = await json_of(admin, f"{QUEUE}/stats")
        jobs = {"queued": 2, "running": 5, "completed": 2, "failed": 2, "cancelled": 2}
        assert stats["jobs"] == jobs

    async def test_what_ended_is_forgotten_after_a_day(
        self, admin: httpx.AsyncClient, context: AppContext, function: Function
    ) -> None:
        await make_execution(context, function, status=ExecutionStatus.COMPLETED, **day_old())
        stats = await json_of(admin, f"{QUEUE}/stats")
        assert stats["jobs"]["completed"] == 0
        assert await json_of(admin, f"{QUEUE}/jobs") == []
        assert await json_of(admin, f"{QUEUE}/jobs", status="completed") == []

    async def test_what_still_runs_is_not(
        self, admin: httpx.AsyncClient, context: AppContext, function: Function
    ) -> None:
        row = await make_execution(context, function, status=ExecutionStatus.RUNNING, **day_old())
        stats = await json_of(admin, f"{QUEUE}/stats")
        assert stats["jobs"]["running"] == 1
        assert [job["job_id"] for job in await json_of(admin, f"{QUEUE}/jobs")] == [str(row.id)]

    async def test_what_waits_for_a_worker(
        self, admin: httpx.AsyncClient, as_: SignIn, context: AppContext, function: Function
    ) -> None:
        client = await as_("user")
        for _ in range(3):
            answer = await client.post("/functions/default/echo/execute/async", json={"input": {}})
            assert answer.status_code == 202
        turn = await make_turn(context, await make_chat(context, await as_.user("user"), None))
        async with context.unit() as unit:
            push_turn(unit, turn)
        stats = await json_of(admin, f"{QUEUE}/stats")
        assert stats["queues"] == {"functions": {"pending": 3}, "agents": {"pending": 1}}
        later = {"input": {}, "delay_seconds": 3600}
        answer = await client.post("/functions/default/echo/execute/async", json=later)
        stats = await json_of(admin, f"{QUEUE}/stats")
        assert stats["queues"]["functions"] == {"pending": 4}
        await client.post(f"/executions/{answer.json()['execution_id']}/cancel")
        stats = await json_of(admin, f"{QUEUE}/stats")
        assert stats["queues"]["functions"] == {"pending": 3}

    async def test_dead_letters_and_sandboxes(
        self,
        admin: httpx.AsyncClient,
        context: AppContext,
        function: Function,
        function_worker: RunningWorker,
    ) -> None:
        await dead_letter(context, function)
        stats = await shown(admin, f"{QUEUE}/stats", lambda stats: stats["workers"]["count"] == 1)
        assert stats["dlq"] == {"size": 1}
        assert stats["pool"] == {"idle": 1, "in_use": 0, "total": 1}
        assert stats["workers"] == {"count": 1, "running": 1}


class TestJobs:
    async def test_a_call_and_whose_it_is(
        self, admin: httpx.AsyncClient, context: AppContext, as_: SignIn, function: Function
    ) -> None:
        row = await make_execution(
            context, function, status=ExecutionStatus.FAILED, error="why", output_data="secret"
        )
        assert await json_of(admin, f"{QUEUE}/jobs") == [
            {
                "job_id": str(row.id),
                "status": "failed",
                "queue": "functions",
                "function": "default/echo",
                "agent": None,
                "type": None,
                "trigger_type": "API",
                "chat_id": None,
                "execution_id": str(row.id),
                "channel_id": None,
                "error": "why",
                "enqueued_at": row.created_at.timestamp(),
                "user_id": str(function.user_id),
                "user_email": "user@example.com",
            }
        ]

    async def test_a_turn(self, admin: httpx.AsyncClient, context: AppContext, as_: SignIn) -> None:
        user = await as_.user("user")
        chat = await make_chat(context, user, await make_agent(context, user, name="bot"))
        first = await make_turn(context, chat, TurnStatus.COMPLETED)
        second = await make_turn(context, chat, TurnStatus.WAITING, past_channels=["before"])
        later, earlier = await json_of(admin, f"{QUEUE}/jobs")
        assert later == {
            "job_id": str(second.id),
            "status": "running",
            "queue": "agents",
            "function": None,
            "agent": "default/bot",
            "type": "resume",
            "trigger_type": None,
            "chat_id": str(chat.id),
            "execution_id": None,
            "channel_id": second.channel_id,
            "error": None,
            "enqueued_at": second.created_at.timestamp(),
            "user_id": str(user.id),
            "user_email": "user@example.com",
        }
        assert (earlier["job_id"], earlier["type"]) == (str(first.id), "message")

    async def test_filters_order_and_limits(
        self, admin: httpx.AsyncClient, context: AppContext, as_: SignIn, function: Function
    ) -> None:
        chat = await make_chat(context, await as_.user("user"), None)
        made = []
        for status, state in zip(
            (ExecutionStatus.PENDING, ExecutionStatus.AWAITING_INPUT, ExecutionStatus.COMPLETED),
            (TurnStatus.QUEUED, TurnStatus.RUNNING, TurnStatus.COMPLETED),
            strict=True,
        ):
            made.append(str((await make_execution(context, function, status=status)).id))
            made.append(str((await make_turn(context, chat, state)).id))
        found = [job["job_id"] for job in await json_of(admin, f"{QUEUE}/jobs")]
        assert found == made[::-1]
        for place, shown_as in enumerate(("queued", "running", "completed")):
            jobs = await json_of(admin, f"{QUEUE}/jobs", status=shown_as)
            assert [job["job_id"] for job in jobs] == made[2 * place : 2 * place + 2][::-1]
            assert {job["status"] for job in jobs} == {shown_as}
        assert await json_of(admin, f"{QUEUE}/jobs", status="failed") == []
        assert len(await json_of(admin, f"{QUEUE}/jobs", limit=3)) == 3
        for bad in ({"status": "PENDING"}, {"limit": 0}, {"limit": 501}):
            answer = await admin.get(f"{QUEUE}/jobs", params=bad)
            assert answer.status_code == 422
            assert [error["field"] for error in answer.json()["errors"]] == list(bad)


class TestWorkers:
    async def test_both_kinds(
        self,
        admin: httpx.AsyncClient,
        context: AppContext,
        function_worker: RunningWorker,
        agent_worker: RunningWorker,
    ) -> None:
        workers = await json_of(admin, f"{QUEUE}/workers")
        assert [(one["queue"], one["worker_id"]) for one in workers] == [
            ("functions", str(function_worker.context.worker_id)),
            ("agents", str(agent_worker.context.worker_id)),
        ]
        now = utcnow().timestamp()
        for one in workers:
            assert one.keys() == {
                *("worker_id", "queue", "max_jobs", "started_at", "last_heartbeat"),
                *("hostname", "pid"),
            }
            assert one["max_jobs"] == context.settings.queue.function_concurrency
            assert now - 60 < one["started_at"] <= now
            assert now - context.settings.queue.lease_seconds < one["last_heartbeat"] <= now


class TestCancelling:
    async def test_code_that_runs_is_killed(
        self,
        admin: httpx.AsyncClient,
        context: AppContext,
        as_: SignIn,
        function_worker: RunningWorker,
    ) -> None:
        await make_function(context, await as_.user("user"), SLEEP, name="sleep")
        answer = await (await as_("user")).post(
            "/functions/default/sleep/execute/async", json={"input": {"seconds": 60}}
        )
        job_id = answer.json()["execution_id"]
        await shown(admin, STATS, lambda stats: stats["in_use"] == 1)
        answer = await admin.post(f"{QUEUE}/jobs/{job_id}/cancel")
        assert answer.json() == {"job_id": job_id, "status": "cancelled"}
        await shown(admin, STATS, lambda stats: stats["in_use"] == 0)
        assert (await json_of(admin, f"/executions/{job_id}"))["status"] == "CANCELLED"
        assert (await admin.post(f"{QUEUE}/jobs/{job_id}/cancel")).status_code == 409

    @pytest.mark.parametrize("state", [TurnStatus.QUEUED, TurnStatus.WAITING])
    async def test_a_turn_that_nobody_runs_ends_in_a_worker(
        self,
        admin: httpx.AsyncClient,
        context: AppContext,
        as_: SignIn,
        agent_worker: RunningWorker,
        state: TurnStatus,
    ) -> None:
        user = await as_.user("user")
        chat = await make_chat(context, user, await make_agent(context, user))
        turn = await make_turn(context, chat, state)
        message = await make_message(context, chat, "assistant", None, turn_id=turn.id)
        call = ToolCall(
            turn_id=turn.id,
            chat_id=chat.id,
            message_id=message.id,
            user_id=user.id,
            position=0,
            call_id="c",
            name="n",
            arguments="{}",
            description="",
            status=ToolCallStatus.AWAITING_APPROVAL,
        )
        async with context.unit() as unit:
            unit.session.add(call)
        answer = await admin.post(f"{QUEUE}/jobs/{turn.id}/cancel")
        assert answer.json() == {"job_id": str(turn.id), "status": "cancelling"}
        if state is TurnStatus.QUEUED:  # as its message had pushed it, or the sweep would
            async with context.unit() as unit:
                push_turn(unit, turn)
        await shown(admin, f"/jobs/{turn.id}", lambda job: job["status"] == "cancelled")
        async with context.sessions() as session:
            closed = await session.get_one(ToolCall, call.id)
            assert closed.status is ToolCallStatus.INTERRUPTED
        assert (await admin.post(f"{QUEUE}/jobs/{turn.id}/cancel")).status_code == 409

    async def test_what_is_not_there(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.post(f"{QUEUE}/jobs/{uuid4()}/cancel")).status_code == 404
        assert (await admin.post(f"{QUEUE}/jobs/nonsense/cancel")).status_code == 404

    async def test_a_turn_that_ended_stays_as_it_is(
        self, admin: httpx.AsyncClient, context: AppContext, as_: SignIn
    ) -> None:
        chat = await make_chat(context, await as_.user("user"), None)
        turn = await make_turn(context, chat, TurnStatus.COMPLETED)
        answer = await admin.post(f"{QUEUE}/jobs/{turn.id}/cancel")
        assert answer.status_code == 409
        assert "completed" in answer.json()["detail"]
        async with context.sessions() as session:
            assert not (await session.get_one(Turn, turn.id)).stop_requested


class TestDeadLetters:
    async def test_what_is_said_of_one(
        self, admin: httpx.AsyncClient, context: AppContext, function: Function
    ) -> None:
        row = await dead_letter(context, function, input_data={"x": 1})
        (found,) = await json_of(admin, f"{QUEUE}/dlq")
        assert row.dead_lettered_at is not None
        assert found == {
            "job_id": str(row.id),
            "execution_id": str(row.id),
            "function": "default/echo",
            "function_namespace": "default",
            "function_name": "echo",
            "input_data": {"x": 1},
            "trigger_type": "API",
            "trigger_id": row.trigger_id,
            "user_id": str(function.user_id),
            "chat_id": None,
            "error": "ValueError: no",
            "attempts": 3,
            "failed_at": row.dead_lettered_at.timestamp(),
        }

    async def test_a_retry_runs_the_call_again(
        self,
        admin: httpx.AsyncClient,
        context: AppContext,
        function: Function,
        function_worker: RunningWorker,
    ) -> None:
        row = await dead_letter(context, function, input_data={"x": 1})
        answer = await admin.post(f"{QUEUE}/dlq/{row.id}/retry")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["old_job_id"] == str(row.id)
        assert body["new_job_id"] != str(row.id)
        path = f"/executions/{body['new_job_id']}"
        ended = await shown(admin, path, lambda execution: execution["status"] in ENDED)
        assert (ended["status"], ended["output_data"]) == ("COMPLETED", {"x": 1})
        assert (await load(context, UUID(body["new_job_id"]))).user_id == function.user_id
        assert await json_of(admin, f"{QUEUE}/dlq") == []
        assert (await admin.post(f"{QUEUE}/dlq/{row.id}/retry")).status_code == 404

    async def test_flushing_keeps_the_executions(
        self, admin: httpx.AsyncClient, context: AppContext, function: Function
    ) -> None:
        rows = [await dead_letter(context, function) for _ in range(3)]
        assert len(await json_of(admin, f"{QUEUE}/dlq", limit=2)) == 2
        assert len(await json_of(admin, f"{QUEUE}/dlq", skip=2)) == 1
        assert (await admin.post(f"{QUEUE}/dlq/flush")).json() == {"flushed": 3}
        assert (await admin.post(f"{QUEUE}/dlq/flush")).json() == {"flushed": 0}
        assert await json_of(admin, f"{QUEUE}/dlq") == []
        assert (await load(context, rows[0].id)).status is ExecutionStatus.FAILED
