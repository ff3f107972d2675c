"""Functions that see messages before the model and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from sinas.chat.hooks import Verdict, verdict_of
from sinas.models import Execution, ExecutionStatus, HookRewrite, TriggerType
from tests.chat.support import Talk, Talks, names, text_of, until
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.models import User

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
FINAL = Answer(chunks=("the ", "end"))
CHANGE = "return {'content': input_data['message']['content'] + ' [seen]'}"
BLOCK = "return {'block': True, 'reply': 'Not that.'}"
BREAK = "raise ValueError('broken')"


async def hook(
    talks: Talks, name: str, body: str, owner: User | None = None, **columns: Any
) -> str:
    await make_function(
        talks.context,
        owner or await talks.as_.user("author"),
        namespace="hooks",
        name=name,
        code=f"def handler(input_data, context):\n    {body}\n",
        output_schema={},
        **columns,
    )
    return f"hooks/{name}"


async def hooked(talks: Talks, role: str, *hooks: dict[str, Any], **agent: Any) -> Talk:
    return await talks([FINAL], hooks={f"on_{role}_message": list(hooks)}, **agent)


async def executions(talks: Talks) -> list[Execution]:
    async with talks.context.sessions() as session:
        return list((await session.scalars(select(Execution).order_by(Execution.id))).all())


async def rewritten(talks: Talks) -> None:
    """Let asynchronous hooks have their effect."""
    from sinas.resources.chats.jobs import rewrite

    async def none_left() -> bool:
        await rewrite(talks.context)
        async with talks.context.sessions() as session:
            return await session.scalar(select(HookRewrite.execution_id)) is None

    await until(none_left)


async def test_a_user_hook_changes_what_is_stored_and_sent(talks: Talks) -> None:
    function = await hook(talks, "change", CHANGE)
    talk = await hooked(talks, "user", {"function": function}, {"function": function})
    assert text_of(await talk.stream("hi")) == "the end"
    assert (await talk.messages())[0] == ("user", "hi [seen] [seen]")
    assert talks.llm.requests[0].body["messages"][-1]["content"] == "hi [seen] [seen]"
    first, _ = await executions(talks)
    assert (first.trigger_type, first.trigger_id) == (TriggerType.HOOK, "hook:hooks/change")
    assert str(first.chat_id) == talk.chat_id
    assert first.user_id == (await talks.as_.user()).id  # its user, who holds no grant on it
    assert first.input_data == {
        "message": {"role": "user", "content": "hi"},
        "chat_id": talk.chat_id,
        "agent": {"namespace": talk.agent.namespace, "name": talk.agent.name},
        "session_key": None,
        "user_id": str(first.user_id),
    }


async def test_a_user_hook_stops_a_message(talks: Talks) -> None:
    function = await hook(talks, "block", BLOCK)
    talk = await hooked(talks, "user", {"function": function})
    seen = await talk.stream("bad")
    assert names(seen) == ["message", "done"]
    assert seen[0].data == {"type": "message", "content": "Not that."}
    assert seen[-1].data == {"status": "blocked"}
    assert await talk.messages() == [("user", "bad"), ("assistant", "Not that.")]
    assert not talks.llm.requests
    answer = await talk.send("bad again")
    assert (answer.status_code, answer.json()["content"]) == (200, "Not that.")


async def test_an_assistant_hook_changes_what_is_stored(talks: Talks) -> None:
    function = await hook(talks, "change", CHANGE)
    talk = await hooked(talks, "assistant", {"function": function})
    assert text_of(await talk.stream()) == "the end"  # it was out already
    assert (await talk.messages())[-1] == ("assistant", "the end [seen]")


@pytest.mark.parametrize(
    ("body", "text"), [(CHANGE, "the end [seen]"), (BLOCK, "Not that."), ("return 1", "the end")]
)
async def test_text_is_held_back_until_it_passed(talks: Talks, body: str, text: str) -> None:
    function = await hook(talks, "filter", body)
    talk = await hooked(talks, "assistant", {"function": function, "hold_back": True})
    seen = await talk.stream()
    assert text_of(seen) == text
    assert [e.content for e in seen if e.name == "message"] == [text]
    assert (await talk.messages())[-1] == ("assistant", text)
    assert text_of(await talk.replay()) == text


async def test_nothing_held_back_gets_out_when_the_turn_fails(talks: Talks) -> None:
    function = await hook(talks, "filter", CHANGE)
    talk = await talks(
        [Answer(chunks=("secret ", "text"), cut_after=1)],
        hooks={"on_assistant_message": [{"function": function, "hold_back": True}]},
    )
    seen = await talk.stream()
    assert names(seen) == ["error"]
    assert [role for role, _ in await talk.messages()] == ["user"]


@pytest.mark.parametrize("function", ["broken", "missing"])
async def test_a_failing_hook_passes_or_blocks(talks: Talks, function: str) -> None:
    await hook(talks, "broken", BREAK)
    talk = await hooked(talks, "user", {"function": f"hooks/{function}"})
    assert text_of(await talk.stream()) == "the end"
    talk = await hooked(
        talks,
        "user",
        {"function": f"hooks/{function}", "on_timeout": "block"},
        provider={"name": "other"},
    )
    seen = await talk.stream()
    assert seen[0].data["content"] == f"Message blocked: hook 'hooks/{function}' failed."
    assert seen[-1].data == {"status": "blocked"}


async def test_an_asynchronous_hook_rewrites_the_answer_afterwards(talks: Talks) -> None:
    change = await hook(talks, "change", CHANGE)
    quiet = await hook(talks, "quiet", "return None")
    talk = await hooked(
        talks, "assistant", {"function": change, "async": True}, {"function": quiet, "async": True}
    )
    assert text_of(await talk.stream()) == "the end"
    await rewritten(talks)
    assert (await talk.messages())[-1] == ("assistant", "the end [seen]")


async def test_an_asynchronous_user_hook_changes_nothing(talks: Talks) -> None:
    function = await hook(talks, "block", BLOCK)
    talk = await hooked(talks, "user", {"function": function, "async": True})
    assert text_of(await talk.stream("hi")) == "the end"

    async def has_run() -> bool:
        return all(e.status is ExecutionStatus.COMPLETED for e in await executions(talks))

    await until(has_run)
    await rewritten(talks)
    assert await talk.messages() == [("user", "hi"), ("assistant", "the end")]


async def test_each_message_is_seen_once_also_after_an_answer(talks: Talks) -> None:
    function = await hook(talks, "change", CHANGE)
    question = Answer(calls=(Call("ask_user", '{"question": "Which?"}', id="call_0"),))
    talk = await talks(
        [question, FINAL],
        hooks={"on_user_message": [{"function": function}]},
        system_tools=["askUser"],
    )
    await talk.stream("hi")
    await talk.client.post(
        f"/chats/{talk.chat_id}/pending-input/call_0", json={"answer": "x", "wait": True}
    )
    assert len(await executions(talks)) == 1
    assert (await talk.messages())[0] == ("user", "hi [seen]")


async def test_hooks_are_read_in_both_spellings(talks: Talks) -> None:
    client = await talks.as_()
    body = {
        "name": "spelled",
        "hooks": {
            "onUserMessage": [{"function": "a/b", "onTimeout": "block"}],
            "on_assistant_message": [{"function": "a/c", "holdBack": True}],
        },
    }
    answer = await client.post("/api/v1/agents", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["hooks"] == {
        "on_user_message": [
            {"function": "a/b", "async": False, "on_timeout": "block", "hold_back": False}
        ],
        "on_assistant_message": [
            {"function": "a/c", "async": False, "on_timeout": "passthrough", "hold_back": True}
        ],
    }


BLOCK_BAD = (
    "if 'bad' in input_data['message']['content']:\n"
    "        return {'block': True, 'reply': 'Not that.'}"
)


async def test_no_model_ever_sees_a_blocked_message(talks: Talks) -> None:
    function = await hook(talks, "block", BLOCK_BAD)
    talk = await hooked(talks, "user", {"function": function})
    await talk.stream("bad")
    assert text_of(await talk.stream("fine")) == "the end"
    assert [m["content"] for m in talks.llm.requests[-1].body["messages"]] == [
        "[This message was withheld.]",
        "Not that.",
        "fine",
    ]
    assert (await talk.messages())[0] == ("user", "bad")  # its author does


async def test_messages_into_a_running_turn_are_shown_too(talks: Talks, live: str) -> None:
    function = await hook(talks, "change", CHANGE)
    talk = await talks(
        [Answer(chunks=("to: ", "ready"), hold_after=1)],
        live=live,
        hooks={"on_user_message": [{"function": function}]},
    )
    async with talk.streaming("first") as first:
        await first.text("to: ")
        async with talk.streaming("second") as second:
            talks.llm.script("scripted", [FINAL])
            talks.llm.release()
            await first.rest()
            await second.rest()
    sent = talks.llm.requests[-1].body["messages"]
    assert [m["content"] for m in sent] == ["first [seen]", "to: ready", "second [seen]"]
    assert len(await executions(talks)) == 2


async def test_a_blocked_message_ends_the_turn_it_came_into(talks: Talks, live: str) -> None:
    function = await hook(talks, "block", BLOCK_BAD)
    talk = await talks(
        [Answer(chunks=("to: ", "ready"), hold_after=1)],
        live=live,
        hooks={"on_user_message": [{"function": function}]},
    )
    async with talk.streaming("first") as first:
        await first.text("to: ")
        async with talk.streaming("bad") as second:
            talks.llm.release()
            await first.rest()
            await second.rest()
    assert text_of(first.seen) == "to: readyNot that."
    assert first.seen[-1].data == second.seen[-1].data == {"status": "blocked"}
    assert len(talks.llm.requests) == 1
    assert [content for _, content in await talk.messages()] == [
        "first",
        "bad",
        "to: ready",
        "Not that.",
    ]


async def test_a_hook_beside_a_filter_does_not_undo_it(talks: Talks) -> None:
    echo = await hook(talks, "echo", CHANGE)
    block = await hook(talks, "block", BLOCK)
    talk = await hooked(talks, "assistant", {"function": echo, "async": True}, {"function": block})
    await talk.stream()

    async def both_ran() -> bool:
        return [e.status for e in await executions(talks)] == [ExecutionStatus.COMPLETED] * 2

    await until(both_ran)
    await rewritten(talks)
    assert (await talk.messages())[-1] == ("assistant", "Not that.")


async def test_stopping_leaves_nothing_of_what_was_held_back(talks: Talks, live: str) -> None:
    function = await hook(talks, "slow", "import time\n    time.sleep(5)")
    talk = await talks(
        [FINAL],
        live=live,
        hooks={"on_assistant_message": [{"function": function, "hold_back": True}]},
    )
    async with talk.streaming() as stream:

        async def is_shown() -> bool:
            return bool(await executions(talks))

        await until(is_shown)
        assert (await talk.client.post(f"/chats/{talk.chat_id}/stop")).status_code < 300
        await stream.rest()
    assert names(stream.seen) == ["done"]
    assert stream.seen[-1].data == {"status": "cancelled"}
    assert await talk.messages() == [("user", "hello")]


async def test_tools_are_seen_while_text_is_held_back(talks: Talks) -> None:
    function = await hook(talks, "filter", CHANGE)
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    look = Answer(chunks=("Let me ", "look."), calls=(Call("shop__echo", id="call_0"),))
    talk = await talks(
        [look, FINAL],
        enabled_functions=["shop/echo"],
        hooks={"on_assistant_message": [{"function": function, "hold_back": True}]},
    )
    seen = await talk.stream()
    assert names(seen) == ["message", "tool_start", "tool_end", "message", "done"]
    assert text_of(seen) == "Let me look.the end [seen]"


async def test_a_sub_agents_answer_passes_its_own_hooks(talks: Talks) -> None:
    function = await hook(talks, "filter", CHANGE)
    talks.llm.script("helper", [FINAL])
    await make_agent(
        talks.context,
        await talks.as_.user(),
        provider=await make_provider(talks.context, talks.llm.openai_url, name="helping"),
        namespace="team",
        name="helper",
        model="helper",
        hooks={"on_assistant_message": [{"function": function, "hold_back": True}]},
    )
    ask = Call("call_agent_team__helper", '{"prompt": "help me"}', id="call_0")
    talk = await talks([Answer(calls=(ask,)), FINAL], enabled_agents=["team/helper"])
    seen = await talk.stream()
    (result,) = [e.data["result"] for e in seen if e.name == "tool_end"]
    assert "the end [seen]" in result
    inner = [e.data["data"] for e in seen if e.name == "sub_agent" and e.data["event"] == "message"]
    assert [data["content"] for data in inner] == ["the end [seen]"]


async def test_a_failing_hook_is_logged_by_name(talks: Talks) -> None:
    talk = await hooked(talks, "assistant", {"function": "hooks/missing", "async": True})
    with capture_logs() as logs:
        assert text_of(await talk.stream()) == "the end"
    (line,) = [line for line in logs if line["event"] == "hooks.failed"]
    assert line["function"] == "hooks/missing"


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (None, Verdict("text")),
        ("text of its own", Verdict("text")),
        ({}, Verdict("text")),
        ({"content": None}, Verdict("text")),
        ({"content": ""}, Verdict("")),
        ({"content": "new"}, Verdict("new")),
        ({"content": [{"type": "text", "text": "x"}]}, Verdict('[{"type":"text","text":"x"}]')),
        ({"content": {"city": "Bern"}}, Verdict('{"city":"Bern"}')),
        ({"block": False, "reply": "no"}, Verdict("text")),
        ({"block": True}, Verdict("Message blocked by hook", is_blocked=True)),
        ({"block": 1, "reply": ""}, Verdict("Message blocked by hook", is_blocked=True)),
        ({"block": True, "reply": "No.", "content": "x"}, Verdict("No.", is_blocked=True)),
    ],
)
def test_what_a_hooks_value_means(value: Any, verdict: Verdict) -> None:
    assert verdict_of(value, "text") == verdict
