"""Turns that wait for people: what a client learns that only knows text, and how it goes on."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import openai
import pytest

from tests.adapters.openai.support import HELLO, Clients
from tests.factories.functions import make_function
from tests.support.llm_script import Answer, Call

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
BOT = "agent:shop/bot"
QUESTION = Call("ask_user", '{"question": "Which one?", "options": ["red", "blue"]}', id="call_0")
ASKED = "Which one? (red / blue)"
FINAL = Answer(chunks=("the ", "end"), usage=(5, 2))


async def asking(clients: Clients, *calls: Call, said: tuple[str, ...] = ()) -> None:
    await clients.agent(model="m", system_tools=["askUser"])
    first = Answer(chunks=said, calls=calls or (QUESTION,), usage=(3, 1))
    clients.llm.script("m", [first, FINAL], by="round")


def state_of(found: Any) -> dict[str, Any]:
    state: dict[str, Any] = found.model_extra["sinas"]
    return state


async def test_a_question_is_the_answer(clients: Clients) -> None:
    await asking(clients, said=("Well.",))
    client = await clients("user")

    completion = await client.chat.completions.create(model=BOT, messages=HELLO)

    assert completion.choices[0].message.content == f"Well.\n\n{ASKED}"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 4
    state = state_of(completion)
    assert state["status"] == "input_required"
    [question] = state["pending_inputs"]
    assert (question["tool_call_id"], question["question"]) == ("call_0", "Which one?")
    assert state["channel_id"]


async def test_a_streamed_question(clients: Clients) -> None:
    await asking(clients, said=("Well.",))
    client = await clients("user")

    stream = await client.chat.completions.create(model=BOT, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == f"Well.\n\n{ASKED}"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert state_of(chunks[-1])["status"] == "input_required"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("session", [True, False])
async def test_the_next_message_is_the_answer_to_it(
    clients: Clients, stream: bool, session: bool
) -> None:
    await asking(clients)
    client = await clients("user")
    more: dict[str, Any] = {"user": "alice"} if session else {}
    first = await client.chat.completions.create(model=BOT, messages=HELLO, **more)
    chat_id = state_of(first)["chat_id"]
    if not session:
        more = {"extra_headers": {"X-Chat-ID": chat_id}}
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "red"},
    ]

    if stream:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model=BOT,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                **more,
            )
        ]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        usage = chunks[-1].usage
    else:
        whole = await client.chat.completions.create(model=BOT, messages=messages, **more)
        text, usage = whole.choices[0].message.content or "", whole.usage

    assert text == "the end"
    # Of this request alone.
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 2)
    results = [m for m in clients.llm.requests[-1].body["messages"] if m["role"] == "tool"]
    assert [(r["tool_call_id"], r["content"]) for r in results] == [("call_0", '{"answer": "red"}')]
    user = await clients.as_("user")
    assert (await user.get(f"/chats/{UUID(chat_id)}/pending-input")).json() == []


async def test_of_several_questions_none_is_guessed(clients: Clients) -> None:
    other = Call("ask_user", '{"question": "How many?"}', id="call_1")
    await asking(clients, QUESTION, other)
    client = await clients("user")

    completion = await client.chat.completions.create(model=BOT, messages=HELLO)

    assert completion.choices[0].message.content == f"{ASKED}\n\nHow many?"
    assert len(state_of(completion)["pending_inputs"]) == 2


async def test_an_approval(clients: Clients) -> None:
    user = await clients.as_.user()
    await make_function(
        clients.context, user, namespace="shop", name="danger", requires_approval=True
    )
    await clients.agent(model="m", enabled_functions=["shop/danger"])
    calls = (Call("shop__danger", '{"x": 1}', id="call_0"),)
    clients.llm.script("m", [Answer(chunks=("Well.",), calls=calls), FINAL], by="round")
    client = await clients("user")

    raw = await client.chat.completions.with_raw_response.create(model=BOT, messages=HELLO)
    completion = raw.parse()
    stream = await client.chat.completions.create(model=BOT, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    said = "Well.\n\n[Waiting for approval of: shop/danger]"
    assert completion.choices[0].message.content == said
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == said
    state = state_of(completion)
    assert state["status"] == "in_progress"
    [approval] = state["pending_approvals"]
    assert (approval["function_name"], approval["arguments"]) == ("danger", {"x": 1})
    people = await clients.as_("user")
    path = f"/chats/{raw.headers['x-chat-id']}"
    decided = await people.post(f"{path}/approve-tool/call_0", json={"approved": True})
    assert decided.status_code == 202
    followed = await people.get(f"{path}/stream/{decided.json()['channel_id']}")
    assert "the " in followed.text


async def test_nobody_elses_question_is_answered(clients: Clients) -> None:
    await asking(clients)
    client = await clients("user")
    first = await client.chat.completions.create(model=BOT, messages=HELLO)
    other = await clients("other")

    with pytest.raises(openai.NotFoundError):
        await other.chat.completions.create(
            model=BOT, messages=HELLO, extra_headers={"X-Chat-ID": state_of(first)["chat_id"]}
        )
