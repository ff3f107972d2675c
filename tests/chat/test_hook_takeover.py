"""Hooks and workers that die: every message is seen, and none is seen twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from sinas.models import Execution, ExecutionStatus
from tests.chat.support import Talk, Talks, text_of, until
from tests.chat.test_hooks import CHANGE, executions, hook
from tests.chat.test_takeover import BEGUN, OTHER, SAME, expire
from tests.fixtures.state import in_own_task
from tests.support.llm_script import Answer

if TYPE_CHECKING:
    from sinas.worker import RunningWorker

pytestmark = pytest.mark.usefixtures("function_worker")
SLOW_CHANGE = f"import time\n    time.sleep(1)\n    {CHANGE}"
SLOW_BLOCK = (
    "import time\n"
    "    if 'bad' in input_data['message']['content']:\n"
    "        time.sleep(1)\n"
    "        return {'block': True, 'reply': 'Not that.'}"
)


async def running(talks: Talks, number: int = 1) -> None:
    """Wait until so many hooks have been called."""

    async def have_begun() -> bool:
        return len(await executions(talks)) >= number

    await until(have_begun)


async def completed(talks: Talks, number: int) -> list[Execution]:
    found = await executions(talks)
    assert [e.status for e in found] == [ExecutionStatus.COMPLETED] * number
    return found


async def asked(talks: Talks, number: int) -> None:
    """Wait until the model was asked so many times."""

    async def is_so() -> bool:
        return len(talks.llm.requests) >= number

    await until(is_so)


async def last(talk: Talk) -> str | None:
    return (await talk.messages())[-1][1]


async def test_a_user_hook_that_runs_meanwhile_runs_once(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    function = await hook(talks, "change", SLOW_CHANGE)
    hooks = {"on_user_message": [{"function": function}, {"function": function}]}
    talk = await talks([SAME], live=live, hooks=hooks)
    async with talk.streaming("hi") as stream:
        await running(talks)
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            assert text_of(await stream.rest()) == SAME.text
    await completed(talks, 2)
    assert await talk.messages() == [("user", "hi [seen] [seen]"), ("assistant", SAME.text)]
    assert (await talk.turns())[-1].takeovers == 1


async def test_a_changed_message_is_not_changed_again(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    function = await hook(talks, "change", CHANGE)
    talk = await talks([BEGUN], live=live, hooks={"on_user_message": [{"function": function}]})
    async with talk.streaming("hi") as stream:
        await stream.text("two ")
        talks.llm.script("scripted", [SAME])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await stream.rest()
    await completed(talks, 1)
    assert [r.body["messages"][-1]["content"] for r in talks.llm.requests] == ["hi [seen]"] * 2
    assert (await talk.messages())[0] == ("user", "hi [seen]")


async def test_a_block_is_said_once_and_for_its_message_only(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    from sinas.worker import open_worker

    function = await hook(talks, "block", SLOW_BLOCK)
    talk = await talks([BEGUN], live=live, hooks={"on_user_message": [{"function": function}]})
    async with talk.streaming("bad") as stream:
        await running(talks)
        async with talk.streaming("good") as second:
            await stream.text("two ")  # the answer to the one that came meanwhile
            talks.llm.script("scripted", [SAME])
            async with in_own_task(open_worker("agents", talk.context)):
                await expire(agent_worker)
                await stream.rest()
                await second.rest()
    await completed(talks, 2)
    assert text_of(stream.seen) == "Not that." + SAME.text
    assert stream.seen[-1].data == {"status": "completed"}
    assert [content for _, content in await talk.messages()] == [
        "bad",
        "good",
        "Not that.",
        SAME.text,
    ]
    for request in talks.llm.requests:
        assert [m["content"] for m in request.body["messages"]] == [
            "[This message was withheld.]",
            "Not that.",
            "good",
        ]
    assert text_of(await talk.replay(stream.channel)) == text_of(stream.seen)


@pytest.mark.parametrize("second", [SAME, OTHER])
@pytest.mark.parametrize("hold_back", [False, True])
async def test_an_answer_is_seen_as_it_is_stored(
    talks: Talks, live: str, agent_worker: RunningWorker, second: Answer, hold_back: bool
) -> None:
    from sinas.worker import open_worker

    function = await hook(talks, "change", SLOW_CHANGE)
    hooks = {"on_assistant_message": [{"function": function, "hold_back": hold_back}]}
    talk = await talks([SAME], live=live, hooks=hooks)
    async with talk.streaming() as stream:
        await running(talks)
        talks.llm.script("scripted", [second])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await stream.rest()
    assert await last(talk) == f"{second.text} [seen]"
    shown = f"{second.text} [seen]" if hold_back else second.text
    assert text_of(stream.seen) == text_of(await talk.replay(stream.channel)) == shown
    seen = await completed(talks, 1 if second == SAME else 2)
    assert cast("Any", seen[-1].input_data)["message"]["content"] == second.text


async def test_text_that_passed_before_a_death_is_not_said_twice(
    talks: Talks, live: str, agent_worker: RunningWorker
) -> None:
    """The passed text is out, and the worker dies before the row says that the turn has ended."""
    from sinas.chat import events
    from sinas.chat.channel import ChannelWriter
    from sinas.worker import open_worker

    function = await hook(talks, "change", CHANGE)
    hooks = {"on_assistant_message": [{"function": function, "hold_back": True}]}
    talk = await talks([BEGUN], live=live, hooks=hooks)
    async with talk.streaming() as stream:
        await asked(talks, 1)
        (turn,) = await talk.turns()
        writer = ChannelWriter(talk.context.redis, turn.channel_id, turn.fence, 60)
        writer.put(events.message(f"{SAME.text} [seen]", finish_reason="stop"))
        await writer.flush()
        await stream.text("[seen]")
        talks.llm.script("scripted", [SAME])
        async with in_own_task(open_worker("agents", talk.context)):
            await expire(agent_worker)
            await stream.rest()
    shown = f"{SAME.text} [seen]"
    assert text_of(stream.seen) == text_of(await talk.replay(stream.channel)) == shown
    assert await last(talk) == shown
