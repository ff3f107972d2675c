"""Turns that end before their calls do, and turns that code begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from sinas.models import Chat, Execution, ExecutionStatus
from tests.chat.support import Talk, Talks, until
from tests.factories.functions import make_function
from tests.fixtures.state import in_own_task
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.worker import RunningWorker

SLEEP = "import time\ndef handler(i, c):\n    time.sleep(i.get('seconds', 60))\n    return 'slept'"
SAY = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + f"/chats/{input_data['chat_id']}/messages",
        json.dumps({"content": "go"}).encode(),
        {"Authorization": "Bearer " + context["access_token"], "Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))
"""
FINAL = Answer(chunks=("done",))


async def sleeper(talks: Talks, live: str | None = None, arguments: str = "{}") -> Talk:
    """A conversation whose model calls a function that sleeps."""
    owner = await talks.as_.user()
    await make_function(talks.context, owner, SLEEP, namespace="shop", name="sleep")
    calls = Answer(calls=(Call("shop__sleep", arguments),))
    return await talks([calls, FINAL], live=live, enabled_functions=["shop/sleep"])


async def executions(talk: Talk) -> dict[str, Execution]:
    async with talk.context.sessions() as session:
        found = await session.scalars(select(Execution))
        return {row.function_name: row for row in found}


async def becomes(talk: Talk, name: str, status: ExecutionStatus) -> Execution:
    async def so() -> bool:
        rows = await executions(talk)
        return name in rows and rows[name].status is status

    await until(so)
    return (await executions(talk))[name]


async def quiet(worker: RunningWorker) -> None:
    sandbox = worker.context.sandbox
    assert sandbox is not None

    async def so() -> bool:
        return not sandbox.status().in_use

    await until(so)


async def test_stopping_a_turn_kills_the_functions_it_called(
    talks: Talks, live: str, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    talk = await sleeper(talks, live)
    async with talk.streaming():
        await becomes(talk, "sleep", ExecutionStatus.RUNNING)
    # The client left, and nobody else follows the turn.
    row = await becomes(talk, "sleep", ExecutionStatus.CANCELLED)
    assert row.error == "The turn that made this call ended before it."
    assert (await talk.idle()).status == "cancelled"
    await quiet(function_worker)


async def test_a_turn_that_takes_too_long_ends_its_functions(
    talks: Talks, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    talk = await sleeper(talks)
    async with talk.context.unit() as unit:
        await unit.session.execute(
            update(Chat).where(Chat.id == talk.chat_id).values(job_timeout=2)
        )
    seen = await talk.stream()
    assert "timed out after 2 seconds" in str(seen[-1].data)
    assert (await executions(talk))["sleep"].status is ExecutionStatus.CANCELLED
    await quiet(function_worker)


async def test_a_worker_that_stops_leaves_its_turns_functions_alone(
    talks: Talks, live: str, function_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    talk = await sleeper(talks, live, '{"seconds": 4}')
    async with talk.streaming() as stream:
        async with in_own_task(open_worker("agents", talk.context)):
            await becomes(talk, "sleep", ExecutionStatus.RUNNING)
        async with in_own_task(open_worker("agents", talk.context)):
            await stream.rest()
    row = (await executions(talk))["sleep"]
    assert (row.status, row.attempt) == (ExecutionStatus.COMPLETED, 1)
    assert (await talk.messages())[-2:] == [("tool", '"slept"'), ("assistant", "done")]


async def test_what_an_agent_calls_for_code_is_in_that_codes_tree(
    talks: Talks, live: str, agent_worker: RunningWorker, function_worker: RunningWorker
) -> None:
    talk = await sleeper(talks, live)
    owner = await talks.as_.user()
    await make_function(talks.context, owner, SAY, name="say")
    started = await talk.client.post(
        "/functions/default/say/execute/async", json={"input": {"chat_id": talk.chat_id}}
    )
    inner = await becomes(talk, "sleep", ExecutionStatus.RUNNING)
    outer = (await executions(talk))["say"]
    assert started.json()["execution_id"] == str(outer.id)
    assert (inner.parent_execution_id, inner.depth, outer.depth) == (outer.id, 2, 1)
    [turn] = await talk.turns()
    assert turn.parent_execution_id == outer.id
    steps = await talk.client.get(f"/executions/{outer.id}/steps")
    assert [step["id"] for step in steps.json()] == [str(inner.id)]

    cancelled = await talk.client.post(f"/executions/{outer.id}/cancel")
    assert cancelled.status_code == 200
    assert (await talk.idle()).status == "cancelled"
    assert (await executions(talk))["sleep"].status is ExecutionStatus.CANCELLED
    await quiet(function_worker)
