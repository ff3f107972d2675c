"""Functions that see messages before the model and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from sinas.models import Execution, ExecutionStatus, HookRewrite, TriggerType
from tests.chat.support import Talk, Talks, names, text_of, until
from tests.factories.functions import make_function
from tests.support.llm_script import Answer

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
    from tests.support.llm_script import Call

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
