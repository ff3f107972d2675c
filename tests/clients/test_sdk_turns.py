"""Turns that ask, wait, or are spoken to while they run: each status the SDK knows."""

import asyncio
from typing import Any

import pytest

from tests.chat.support import Talk, Talks, until
from tests.clients.sdk import Sdk, SdkError
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.llm import make_provider
from tests.support.llm_script import Answer, Call, words

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
ASKS = Call("ask_user", '{"question": "Which one?", "options": ["red", "blue"]}', id="call_ask")
FINAL = Answer(chunks=("So be ", "it."))


async def asking(talks: Talks, *rounds: Answer) -> Talk:
    answers = rounds or (Answer(chunks=("Well. ",), calls=(ASKS,)), FINAL)
    return await talks(answers, by="call", system_tools=["askUser"])


async def paying(talks: Talks, calls: int = 1) -> Talk:
    """An agent that wants to make payments, each of which needs an approval."""
    await make_function(
        talks.context,
        await talks.as_.user("user"),
        namespace="shop",
        name="pay",
        requires_approval=True,
    )
    made = tuple(Call("shop__pay", f'{{"n": {n}}}', id=f"call_{n}") for n in range(calls))
    return await talks(
        [Answer(chunks=("I pay. ",), calls=made), FINAL], enabled_functions=["shop/pay"]
    )


def said(events: list[dict[str, Any]]) -> str:
    return "".join(e["data"].get("content") or "" for e in events if e["event"] == "message")


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [e["event"] for e in events if e["event"] != "message"]


@pytest.mark.parametrize("form", ["chats.invoke", "chats.send"])
async def test_input_required_then_answered_with_wait(sdk: Sdk, talks: Talks, form: str) -> None:
    talk = await asking(
        talks, Answer(chunks=("Well. ",), calls=(ASKS,)), Answer(calls=(ASKS,)), FINAL
    )
    if form == "chats.send":
        result = await sdk("chats.send", talk.chat_id, "go")
        assert (result["role"], result["content"]) == ("assistant", "Well. ")
    else:
        result = await sdk("chats.invoke", talk.agent.namespace, talk.agent.name, "go")
        assert result["reply"] == "Well. "
    chat_id = result["chat_id"]
    assert result["status"] == "input_required"
    [question] = result["pending_inputs"]
    assert (question["question"], question["options"]) == ("Which one?", ["red", "blue"])
    assert question["expires_at"] > question["created_at"]
    assert result["usage"]["calls"] == 1
    answered = await sdk("chats.answer", chat_id, question["tool_call_id"], "red", wait=True)
    assert (answered["status"], answered["chat_id"]) == ("input_required", chat_id)
    assert answered["usage"]["calls"] == 1
    [second] = answered["pending_inputs"]
    assert second["tool_call_id"] != question["tool_call_id"]
    done = await sdk("chats.answer", chat_id, second["tool_call_id"], "blue", wait=True)
    assert (done["status"], done["reply"], done["pending_inputs"]) == (
        "completed",
        "So be it.",
        [],
    )
    assert done["message"]["content"] == "So be it."
    results = [m["content"] for m in talks.llm.requests[-1].body["messages"] if m["role"] == "tool"]
    assert ["red" in results[0], "blue" in results[1]] == [True, True]


async def test_a_question_in_a_stream_answered_without_wait(sdk: Sdk, talks: Talks) -> None:
    talk = await asking(talks)
    events = await sdk.all("chats.stream_events", talk.chat_id, "go")
    assert kinds(events) == ["tool_start", "input_required", "round_suspended", "done"]
    asked, suspended, last = events[-3:]
    assert (asked["data"]["question"], asked["data"]["options"]) == (
        "Which one?",
        ["red", "blue"],
    )
    assert suspended["data"]["tool_call_ids"] == [asked["data"]["tool_call_id"]]
    assert last["data"] == {"status": "suspended"}
    [question] = await sdk("chats.list_pending_inputs", talk.chat_id)
    assert question["tool_call_id"] == asked["data"]["tool_call_id"]
    assert (await sdk("chats.get", talk.chat_id))["pending_inputs"] == [question]
    accepted = await sdk("chats.answer", talk.chat_id, question["tool_call_id"], "red")
    assert (accepted["status"], accepted["resumed"]) == ("answered", True)
    rest = await sdk.all("chats.follow_channel", talk.chat_id, accepted["channel_id"])
    assert (said(rest), kinds(rest)) == ("So be it.", ["tool_start", "tool_end", "done"])
    assert rest[-1]["data"] == {"status": "completed"}
    assert await sdk("chats.list_pending_inputs", talk.chat_id) == []
    with pytest.raises(SdkError) as refused:
        await sdk("chats.answer", talk.chat_id, question["tool_call_id"], "blue")
    assert refused.value.status == 409
    with pytest.raises(SdkError) as refused:
        await sdk("chats.answer", talk.chat_id, "call_unknown", "blue")
    assert refused.value.type == "SinasNotFoundError"


async def test_of_two_questions_the_last_answer_resumes(sdk: Sdk, talks: Talks) -> None:
    both = (
        Call("ask_user", '{"question": "One?"}', id="call_1"),
        Call("ask_user", '{"question": "Two?"}', id="call_2"),
    )
    talk = await asking(talks, Answer(calls=both), FINAL)
    result = await sdk("chats.send", talk.chat_id, "go")
    assert [each["question"] for each in result["pending_inputs"]] == ["One?", "Two?"]
    first = await sdk("chats.answer", talk.chat_id, "call_1", "yes", wait=True)
    assert (first["status"], len(first["pending_inputs"])) == ("input_required", 1)
    second = await sdk("chats.answer", talk.chat_id, "call_2", "yes", wait=True)
    assert (second["status"], second["reply"]) == ("completed", "So be it.")


async def test_injected_into_a_turn_that_asks(sdk: Sdk, talks: Talks) -> None:
    talk = await asking(talks)
    await sdk("chats.send", talk.chat_id, "go")
    result = await sdk("chats.send", talk.chat_id, "and hurry")
    assert (result["status"], result["role"], result["content"]) == (
        "injected",
        "user",
        "and hurry",
    )
    [question] = result["pending_inputs"]
    assert result["channel_id"] is not None
    done = await sdk("chats.answer", talk.chat_id, question["tool_call_id"], "red", wait=True)
    assert done["reply"] == "So be it."
    assert "and hurry" in str(talks.llm.requests[-1].body["messages"])


async def test_injected_into_a_turn_that_works(sdk: Sdk, talks: Talks) -> None:
    answers = [Answer(chunks=("one ", "two"), hold_after=1), words(2)]
    talk = await talks(answers, by="call")  # the message in between begins the rounds anew
    name = (talk.agent.namespace, talk.agent.name)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(sdk("chats.invoke", *name, "go", session_key="s"))
        await until(lambda: _asked(talks))
        second = await sdk("chats.invoke", *name, "more", session_key="s")
        assert (second["status"], second["reply"], second["pending_inputs"]) == ("injected", "", [])
        talks.llm.release()
    assert first.result()["status"] == "completed"
    assert first.result()["chat_id"] == second["chat_id"]
    followed = await sdk.all("chats.follow_channel", second["chat_id"], second["channel_id"])
    assert followed[-1]["data"] == {"status": "completed"}


async def _asked(talks: Talks) -> bool:
    return bool(talks.llm.requests)


async def test_in_progress_while_a_sub_agent_works(
    sdk: Sdk, talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than the request may: here, one second."""
    monkeypatch.setattr("sinas.resources.chats.waiting.QUEUE_SECONDS", 0)
    provider = await make_provider(talks.context, talks.llm.openai_url)
    talks.llm.script("helper", [Answer(chunks=("ready", "!"), hold_after=1)])
    owner = await talks.as_.user("user")
    await make_agent(talks.context, owner, provider=provider, model="helper", name="helper")
    talk = await talks(
        [Answer(calls=(Call("call_agent_default__helper", '{"prompt": "help"}'),)), FINAL],
        enabled_agents=["default/helper"],
        default_job_timeout=1,
    )
    result = await sdk("chats.invoke", talk.agent.namespace, talk.agent.name, "go")
    assert (result["status"], result["reply"]) == ("in_progress", "")
    talks.llm.release()
    events = await sdk.all("chats.follow_channel", result["chat_id"], result["channel_id"])
    assert said(events).endswith("So be it.")
    assert events[-1]["data"] == {"status": "completed"}


@pytest.mark.parametrize("form", ["chats.invoke", "chats.send"])
async def test_in_progress_while_approvals_are_missing(sdk: Sdk, talks: Talks, form: str) -> None:
    talk = await paying(talks)
    if form == "chats.send":
        result = await sdk("chats.send", talk.chat_id, "pay")
    else:
        result = await sdk("chats.invoke", talk.agent.namespace, talk.agent.name, "pay")
    assert (result["status"], result["pending_inputs"]) == ("in_progress", [])
    chat_id = result["chat_id"]
    [waiting] = (await sdk("chats.get", chat_id))["pending_approvals"]
    assert (waiting["function_namespace"], waiting["function_name"]) == ("shop", "pay")
    decided = await sdk("chats.approve_tool", chat_id, waiting["tool_call_id"], True)
    assert (decided["status"], decided["resume"]) == ("approved", "queued")
    events = await sdk.all("chats.follow_channel", chat_id, decided["channel_id"])
    assert said(events) == "So be it."
    assert kinds(events) == ["tool_start", "tool_end", "done"]


async def test_approvals_of_a_stream_one_by_one(sdk: Sdk, talks: Talks) -> None:
    talk = await paying(talks, calls=3)
    decisions = []
    async for event in sdk.each("chats.stream_events", talk.chat_id, "pay"):
        if event["event"] == "approval_required":
            call_id = event["data"]["tool_call_id"]
            decisions.append(
                await sdk("chats.approve_tool", talk.chat_id, call_id, call_id != "call_1")
            )
        elif event["event"] == "done":
            assert event["data"] == {"status": "suspended"}
    assert [each["status"] for each in decisions] == ["approved", "rejected", "approved"]
    assert [each["resume"] for each in decisions] == ["waiting", "waiting", "queued"]
    events = await sdk.all("chats.follow_channel", talk.chat_id, decisions[-1]["channel_id"])
    assert said(events) == "So be it."
    rejected = [e for e in events if e["data"].get("type") == "tool_rejected"]
    assert [e["data"]["tool_call_id"] for e in rejected] == ["call_1"]
    with pytest.raises(SdkError) as refused:
        await sdk("chats.approve_tool", talk.chat_id, "call_0", True)
    assert refused.value.type == "SinasNotFoundError"


async def test_always_allow_asks_no_more_in_this_chat(sdk: Sdk, talks: Talks) -> None:
    talk = await paying(talks)
    await sdk("chats.send", talk.chat_id, "pay")
    decided = await sdk("chats.approve_tool", talk.chat_id, "call_0", True, always_allow=True)
    await sdk.all("chats.follow_channel", talk.chat_id, decided["channel_id"])
    again = await sdk("chats.send", talk.chat_id, "pay again")
    assert (again["status"], again["content"]) == ("completed", "So be it.")
