"""What the scheduler starts: once, as the owner, on time, whatever happened before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, update

from sinas.kit.time import utcnow
from sinas.models import (
    Chat,
    Execution,
    ExecutionStatus,
    Function,
    Message,
    Schedule,
    TriggerType,
    Turn,
    TurnStatus,
    User,
)
from sinas.resources.schedules import jobs, repository
from sinas.resources.schedules.jobs import SKIPPED, SWEEPS, fire_due
from sinas.scheduler import repeat
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.factories.schedules import make_schedule

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.db.unit import Unit
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter
    from tests.support.llm_upstream import LlmUpstream

CODE = """
def handler(input_data, context):
    return [input_data, context["trigger_type"], context["user_email"]]
"""
NEEDS_X = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


@pytest.fixture
async def owner(as_: SignIn) -> User:
    return await as_.user("user")


@pytest.fixture
async def function(context: AppContext, owner: User) -> Function:
    return await make_function(context, owner, CODE, name="f")


async def load(context: AppContext, schedule: Schedule) -> Schedule:
    async with context.unit() as unit:
        return await unit.session.get_one(Schedule, schedule.id)


async def change(context: AppContext, schedule: Schedule, **values: Any) -> None:
    async with context.unit() as unit:
        await unit.session.execute(
            update(Schedule).where(Schedule.id == schedule.id).values(values)
        )


async def make_due(context: AppContext, schedule: Schedule, **values: Any) -> None:
    await change(context, schedule, next_run=utcnow() - timedelta(seconds=1), **values)


async def executions(context: AppContext) -> list[Execution]:
    async with context.unit() as unit:
        found = await unit.session.scalars(select(Execution).order_by(Execution.queued_at))
        return list(found)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


def past(**ago: float) -> datetime:
    return utcnow() - timedelta(**ago)


async def test_a_function_is_started_as_its_owner(
    context: AppContext, owner: User, function: Function
) -> None:
    row = await make_schedule(
        context, owner, function, next_run=past(seconds=1), input_data={"x": 1}
    )
    before = utcnow()
    await fire_due(context)
    (execution,) = await executions(context)
    assert (execution.trigger_type, execution.trigger_id) == (TriggerType.SCHEDULE, str(row.id))
    assert (execution.user_id, execution.input_data) == (owner.id, {"x": 1})
    assert (execution.status, execution.background) == (ExecutionStatus.PENDING, True)
    fired = await load(context, row)
    assert fired.last_execution_id == execution.id
    assert fired.last_error is None
    assert fired.last_run is not None
    assert before - timedelta(seconds=1) < fired.last_run < utcnow() + timedelta(seconds=1)
    assert fired.next_run is not None
    assert (fired.next_run.hour, fired.next_run.minute) == (0, 0)
    assert utcnow() < fired.next_run <= utcnow() + timedelta(days=1)


async def test_it_is_seen_to_run(
    context: AppContext,
    owner: User,
    function: Function,
    function_worker: RunningWorker,
    as_: SignIn,
) -> None:
    """The scheduler's own loop, and a worker: nobody but the clock does anything."""
    row = await make_schedule(
        context,
        owner,
        function,
        cron_expression="* * * * *",
        input_data={"x": 1},
        next_run=utcnow() + timedelta(seconds=0.2),
    )
    client = await as_("user")

    async def ended() -> bool:
        found = (await client.get("/executions", params={"trigger_type": "SCHEDULE"})).json()
        return [one["status"] for one in found] == ["COMPLETED"]

    (sweep,) = SWEEPS
    async with asyncio.TaskGroup() as group:
        scheduler = group.create_task(repeat(context, sweep))
        await until(ended)
        scheduler.cancel()
    (execution,) = (await client.get("/executions")).json()
    assert execution["output_data"] == [{"x": 1}, "SCHEDULE", owner.email]
    schedule = (await client.get(f"/api/v1/schedules/{row.name}")).json()
    assert schedule["last_execution_id"] == execution["execution_id"]


async def test_an_agent_gets_its_message_in_a_new_chat(
    context: AppContext,
    owner: User,
    as_: SignIn,
    llm: LlmUpstream,
    agent_worker: RunningWorker,
) -> None:
    provider = await make_provider(context, llm.openai_url)
    agent = await make_agent(context, owner, provider=provider, model="echo", input_schema=NEEDS_X)
    row = await make_schedule(
        context,
        owner,
        agent,
        name="morning",
        content="What is new?",
        input_data={"x": "7"},
        next_run=past(seconds=1),
    )
    await fire_due(context)
    fired = await load(context, row)
    assert (fired.last_error, fired.last_execution_id) == (None, None)
    assert fired.last_run is not None
    async with context.unit() as unit:
        chat = await unit.session.get_one(Chat, fired.last_chat_id)
    assert chat.title == f"morning — {fired.last_run:%Y-%m-%d %H:%M}"
    assert (chat.user_id, chat.agent_id, chat.agent_input) == (owner.id, agent.id, {"x": 7})
    assert chat.keep_alive is True

    async def messages() -> list[tuple[str, str | None]]:
        async with context.unit() as unit:
            found = await unit.session.execute(
                select(Message.role, Message.content)
                .where(Message.chat_id == chat.id)
                .order_by(Message.seq)
            )
            return [(one.role, one.content) for one in found]

    async def answered() -> bool:
        return len(await messages()) == 2

    await until(answered)
    (asked, (role, _)) = await messages()
    assert asked == ("user", "What is new?")
    assert role == "assistant"
    # The next run has a chat of its own.
    async with context.unit() as unit:
        turn = select(Turn.status).where(Turn.chat_id == chat.id)

    async def over() -> bool:
        async with context.unit() as unit:
            return await unit.session.scalar(turn) is TurnStatus.COMPLETED

    await until(over)
    await make_due(context, row)
    await fire_due(context)
    assert (await load(context, row)).last_chat_id not in (None, chat.id)


async def test_many_schedulers_fire_once(
    context: AppContext, owner: User, function: Function
) -> None:
    rows = [
        await make_schedule(context, owner, function, next_run=past(seconds=n)) for n in range(8)
    ]
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(fire_due(context))
    found = [execution.trigger_id for execution in await executions(context)]
    assert sorted(found) == sorted(str(row.id) for row in rows)


async def test_all_of_more_than_a_batch(
    context: AppContext, owner: User, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_BATCH", 2)
    for n in range(5):
        await make_schedule(context, owner, function, next_run=past(seconds=n))
    await fire_due(context)
    assert len(await executions(context)) == 5


async def test_what_was_missed_is_made_up_for_once(
    context: AppContext, owner: User, function: Function
) -> None:
    row = await make_schedule(
        context, owner, function, cron_expression="* * * * *", next_run=past(days=3)
    )
    await fire_due(context)
    await fire_due(context)
    assert len(await executions(context)) == 1
    next_run = (await load(context, row)).next_run
    assert next_run is not None
    assert utcnow() - timedelta(seconds=1) < next_run <= utcnow() + timedelta(minutes=1)


async def test_start_and_next_run_are_one_commit(
    context: AppContext, owner: User, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that dies in between has neither started anything nor moved on."""
    row = await make_schedule(context, owner, function, next_run=past(seconds=1))

    async def die(*_: Any) -> None:
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(repository, "note", die)
        with pytest.raises(SystemError):
            await fire_due(context)
    assert await executions(context) == []
    assert (await load(context, row)).next_run == row.next_run
    await fire_due(context)
    assert len(await executions(context)) == 1


@pytest.mark.parametrize(
    "status", [ExecutionStatus.PENDING, ExecutionStatus.RUNNING, ExecutionStatus.AWAITING_INPUT]
)
async def test_no_run_begins_while_the_last_one_goes_on(
    context: AppContext, owner: User, function: Function, status: ExecutionStatus
) -> None:
    row = await make_schedule(context, owner, function, next_run=past(seconds=1))
    await fire_due(context)
    first = await load(context, row)

    async def set_status(status: ExecutionStatus) -> None:
        async with context.unit() as unit:
            await unit.session.execute(update(Execution).values(status=status))

    await set_status(status)
    await make_due(context, row)
    await fire_due(context)
    skipped = await load(context, row)
    assert len(await executions(context)) == 1
    assert (skipped.last_error, skipped.last_run) == (SKIPPED, first.last_run)
    assert skipped.next_run is not None
    assert skipped.next_run > utcnow()
    await make_due(context, row, allow_overlap=True)
    await fire_due(context)
    assert len(await executions(context)) == 2
    await set_status(ExecutionStatus.FAILED)
    await make_due(context, row, allow_overlap=False)
    await fire_due(context)
    assert len(await executions(context)) == 3
    assert (await load(context, row)).last_error is None


async def test_no_chat_begins_while_the_last_one_is_answered(
    context: AppContext, owner: User
) -> None:
    agent = await make_agent(context, owner)
    row = await make_schedule(context, owner, agent, next_run=past(seconds=1))
    await fire_due(context)

    async def turns() -> int | None:
        async with context.unit() as unit:
            return await unit.session.scalar(select(func.count()).select_from(Turn))

    for status, expected in (
        (TurnStatus.QUEUED, 1),
        (TurnStatus.RUNNING, 1),
        (TurnStatus.WAITING, 1),
        (TurnStatus.FAILED, 2),
    ):
        async with context.unit() as unit:
            await unit.session.execute(update(Turn).values(status=status))
        await make_due(context, row)
        await fire_due(context)
        assert (await turns(), status) == (expected, status)
        assert (await load(context, row)).last_error == (SKIPPED if expected == 1 else None)


async def test_inactive_ones_and_those_of_later_are_left_alone(
    context: AppContext, owner: User, function: Function, query_counter: QueryCounter
) -> None:
    await make_schedule(context, owner, function, next_run=utcnow() + timedelta(minutes=1))
    await make_schedule(context, owner, function, next_run=past(seconds=1), is_active=False)
    with query_counter() as queries:
        await fire_due(context)
    assert queries.count == 1
    assert await executions(context) == []


async def not_started(context: AppContext, row: Schedule) -> str:
    """Fire `row`; nothing must start or be tried again before its time. What it says."""
    before = [one.id for one in await executions(context)]
    await make_due(context, row)
    await fire_due(context)
    tried = await load(context, row)
    assert [one.id for one in await executions(context)] == before
    assert tried.last_run == row.last_run
    assert tried.next_run is not None
    assert tried.next_run > utcnow()
    assert tried.last_error is not None
    return tried.last_error


async def test_what_cannot_start_says_why_and_waits_for_its_next_time(
    context: AppContext, owner: User, function: Function
) -> None:
    row = await make_schedule(context, owner, function)
    fine = await make_schedule(context, owner, function, cron_expression="0 1 * * *")
    await change(context, row, target_name="gone")
    assert await not_started(context, row) == "Function 'default/gone' not found"
    await change(context, row, target_namespace="a", target_name="b")
    assert await not_started(context, row) == "Function 'a/b' not found"
    # Beside one that fails, others start.
    await make_due(context, row)
    await make_due(context, fine)
    await fire_due(context)
    assert [one.trigger_id for one in await executions(context)] == [str(fine.id)]


async def test_an_agent_that_cannot_start(context: AppContext, owner: User) -> None:
    agent = await make_agent(context, owner, input_schema=NEEDS_X)
    row = await make_schedule(context, owner, agent)
    assert "Input validation failed" in await not_started(context, row)
    await change(context, row, target_name="gone")
    assert "not found" in await not_started(context, row)
    async with context.unit() as unit:
        assert await unit.session.scalar(select(func.count()).select_from(Chat)) == 0


async def test_rights_are_those_its_owner_has_then(
    context: AppContext, owner: User, function: Function
) -> None:
    row = await make_schedule(
        context, owner, function, access={"sinas.functions/default/f.execute:own": True}
    )
    await make_due(context, row)
    await fire_due(context)
    (execution,) = await executions(context)
    assert execution.access == {"sinas.functions/default/f.execute:own": True}
    async with context.unit() as unit:
        await unit.session.execute(update(Execution).values(status=ExecutionStatus.COMPLETED))
    await change(context, row, access={"sinas.functions/default/g.execute:own": True})
    row = await load(context, row)
    assert "sinas.functions/default/f.execute" in await not_started(context, row)
    async with context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == owner.id).values(is_active=False))
    assert await not_started(context, row) == "The owner of this schedule was deactivated."


async def test_input_that_breaks_the_schema_is_on_record(context: AppContext, owner: User) -> None:
    function = await make_function(context, owner, CODE, input_schema=NEEDS_X)
    row = await make_schedule(context, owner, function, next_run=past(seconds=1))
    await fire_due(context)
    (execution,) = await executions(context)
    assert execution.status is ExecutionStatus.FAILED
    fired = await load(context, row)
    assert fired.last_execution_id == execution.id
    assert fired.last_error == execution.error
    assert "Schema validation failed" in (fired.last_error or "")


async def test_a_fault_of_the_platform_is_not_repeated_every_second(
    context: AppContext,
    owner: User,
    function: Function,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = await make_schedule(context, owner, function)

    async def broken(_: AppContext, unit: Unit, *__: Any) -> dict[str, Any]:
        await unit.session.execute(select(func.no_such_function()))
        return {}

    monkeypatch.setattr(jobs, "start", broken)
    assert "log says why" in await not_started(context, row)
    assert "schedules.failed" in caplog.text


@pytest.mark.parametrize(
    "values", [{"timezone": "Atlantis/Capital"}, {"cron_expression": "0 0 0 * * *"}]
)
async def test_what_today_could_not_be_saved_is_stopped(
    context: AppContext, owner: User, function: Function, values: dict[str, Any]
) -> None:
    row = await make_schedule(context, owner, function, next_run=past(seconds=1), **values)
    await fire_due(context)
    stopped = await load(context, row)
    assert (stopped.is_active, stopped.next_run) == (False, None)
    assert (stopped.last_error or "").startswith("stopped: ")
    assert await executions(context) == []


async def test_deleted_it_is_over_and_what_it_started_goes_on(
    context: AppContext, owner: User, function: Function, as_: SignIn
) -> None:
    row = await make_schedule(context, owner, function, next_run=past(seconds=1))
    await fire_due(context)
    client = await as_("user")
    assert (await client.delete(f"/api/v1/schedules/{row.name}")).status_code == 204
    await fire_due(context)
    (execution,) = await executions(context)
    assert execution.status is ExecutionStatus.PENDING


async def test_run_now(context: AppContext, owner: User, function: Function, as_: SignIn) -> None:
    row = await make_schedule(
        context, owner, function, is_active=False, next_run=None, input_data={"x": 1}
    )
    path = f"/api/v1/schedules/{row.name}/run"
    client = await as_("user")
    answer = await client.post(path)
    assert answer.status_code == 202
    (execution,) = await executions(context)
    assert answer.json()["last_execution_id"] == str(execution.id)
    assert (answer.json()["is_active"], answer.json()["next_run"]) == (False, None)
    again = await client.post(path)
    assert again.status_code == 409
    assert "has not ended" in again.json()["detail"]
    # An admin's run is the owner's all the same.
    await change(context, row, allow_overlap=True)
    assert (await (await as_("admin")).post(path)).status_code == 202
    assert {one.user_id for one in await executions(context)} == {owner.id}
    await change(context, row, target_name="gone")
    gone = await client.post(path)
    assert (gone.status_code, gone.json()["detail"]) == (404, "Function 'default/gone' not found")
    assert (await load(context, row)).last_error is None
    async with context.unit() as unit:
        await unit.session.execute(update(User).where(User.id == owner.id).values(is_active=False))
    assert (await (await as_("admin")).post(path)).status_code == 409
