"""Agents as models, by the official SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import openai
import pytest
from pydantic import BaseModel
from sqlalchemy import select

from sinas.models import Chat, Message, Turn, TurnStatus
from tests.adapters.openai.support import COMPLETIONS, HELLO, Clients, events_of
from tests.chat.support import until
from tests.factories.functions import make_function
from tests.support.llm_client import TOOL
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from tests.fixtures.client import SignIn

pytestmark = pytest.mark.usefixtures("agent_worker", "function_worker")
BOT = "agent:shop/bot"
IMAGE = "data:image/png;base64,AA=="


async def chats(clients: Clients) -> list[Chat]:
    async with clients.context.sessions() as session:
        return list((await session.scalars(select(Chat).order_by(Chat.created_at))).all())


async def messages(clients: Clients, chat_id: UUID) -> list[tuple[str, str | None]]:
    async with clients.context.sessions() as session:
        statement = select(Message).where(Message.chat_id == chat_id).order_by(Message.seq)
        return [(m.role, m.content) for m in (await session.scalars(statement)).all()]


@pytest.mark.parametrize("name", [BOT, "shop/bot"])
async def test_plain(clients: Clients, name: str) -> None:
    await clients.agent(system_prompt="You sell.")
    clients.llm.script("echo", [Answer(chunks=("good ", "day"), usage=(11, 5))])
    client = await clients("user")

    raw = await client.chat.completions.with_raw_response.create(model=name, messages=HELLO)
    completion = raw.parse()

    assert completion.model == name
    assert completion.id.startswith("chatcmpl-")
    assert completion.choices[0].message.content == "good day"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    [chat] = await chats(clients)
    assert raw.headers["x-chat-id"] == str(chat.id)
    assert completion.model_extra is not None
    assert completion.model_extra["sinas"] == {
        "status": "completed",
        "chat_id": str(chat.id),
        "channel_id": None,
        "pending_approvals": [],
        "pending_inputs": [],
    }


async def test_streamed(clients: Clients, as_: SignIn, live: str) -> None:
    await clients.agent()
    clients.llm.script("echo", [Answer(chunks=("a", "b", "c"), delay=0.02, usage=(3, 2))])
    user = await as_("user", live=live)
    body = {
        "model": BOT,
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    async with user.stream("POST", COMPLETIONS, json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert UUID(response.headers["x-chat-id"]).version == 7
        chunks = [chunk async for chunk in events_of(response)]

    *pieces, last, usage = chunks
    assert pieces[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"]["content"] for c in pieces) == "abc"
    assert {c["choices"][0]["finish_reason"] for c in pieces} == {None}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert last["sinas"]["status"] == "completed"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 5)
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    assert {c["usage"] for c in chunks[:-1]} == {None}


async def test_streamed_without_usage(clients: Clients) -> None:
    await clients.agent()
    client = await clients("user")

    stream = await client.chat.completions.create(model=BOT, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "hello"
    assert all(chunk.usage is None for chunk in chunks)


async def test_the_default_agent(clients: Clients) -> None:
    agent = await clients.agent()
    async with clients.context.unit() as unit:
        for row in (await unit.session.scalars(select(type(agent)))).all():
            row.is_default = row.id == agent.id
    user = await clients.as_("user")

    response = await user.post(COMPLETIONS, json={"messages": HELLO})

    assert response.json()["model"] == BOT
    async with clients.context.unit() as unit:
        (await unit.session.get_one(type(agent), agent.id)).is_default = False
    response = await user.post(COMPLETIONS, json={"messages": HELLO})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "No model specified and no default agent configured"
    )


async def test_the_whole_list_is_honoured(clients: Clients) -> None:
    await clients.agent(system_prompt="You sell.")
    client = await clients("user")

    await client.chat.completions.create(
        model=BOT,
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ],
    )

    assert clients.llm.requests[0].body["messages"] == [
        {"role": "system", "content": "You sell.\n\nBe short.\n\nBe kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    [chat] = await chats(clients)
    assert await messages(clients, chat.id) == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "three"),
    ]


async def test_earlier_tool_calls_stay_pairs(clients: Clients) -> None:
    """Ids of calls that a client brings along never meet those of the agent's own."""
    await make_function(clients.context, await clients.as_.user(), namespace="shop", name="echo")
    await clients.agent(enabled_functions=["shop/echo"], model="m")
    clients.llm.script(
        "m",
        [Answer(calls=(Call("shop__echo", '{"n":2}', id="call_0"),)), Answer(chunks=("end",))],
        by="call",
    )
    client = await clients("user")
    call: Any = {
        "id": "call_0",
        "type": "function",
        "function": {"name": "look", "arguments": '{"n":1}'},
    }

    await client.chat.completions.create(
        model=BOT,
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": "found it"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
    )

    sent = clients.llm.requests[-1].body["messages"]
    results = {m["tool_call_id"]: m["content"] for m in sent if m["role"] == "tool"}
    made = [c["id"] for m in sent for c in m.get("tool_calls", ())]
    assert len(set(made)) == 2
    assert set(results) == set(made)
    assert results["sent_call_0"] == "found it"
    assert '"n": 2' in results["call_0"]


async def test_every_kind_of_part(clients: Clients) -> None:
    await clients.agent(model="m")
    clients.llm.script("m", [Answer(chunks=("I see",))])
    client = await clients("user")

    completion = await client.chat.completions.create(
        model=BOT,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this"},
                    {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                    {
                        "type": "file",
                        "file": {
                            "filename": "a.pdf",
                            "file_data": "data:application/pdf;base64,AA==",
                        },
                    },
                ],
            }
        ],
    )

    assert completion.choices[0].message.content == "I see"
    assert clients.llm.requests[0].body["messages"][-1]["content"] == [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        },
    ]


async def test_each_request_is_on_its_own(clients: Clients) -> None:
    await clients.agent()
    client = await clients("user")

    for text in ("one", "two"):
        await client.chat.completions.create(
            model=BOT, messages=[{"role": "user", "content": text}]
        )

    assert [m["content"] for m in clients.llm.requests[1].body["messages"]] == ["two"]
    first, second = await chats(clients)
    assert first.archived
    assert second.archived
    assert first.expires_at is not None
    assert 86_000 < (first.expires_at - first.created_at).total_seconds() < 86_800
    assert first.title == "OpenAI adapter: shop/bot"
    user = await clients.as_("user")
    assert (await user.get("/chats")).json() == []
    assert len((await user.get("/chats?include_archived=true")).json()) == 2


@pytest.mark.parametrize(
    "session", [{"user": "alice"}, {"metadata": {"session": "s1", "other": "x"}}]
)
async def test_a_session_remembers(clients: Clients, session: dict[str, Any]) -> None:
    await clients.agent()
    client = await clients("user")
    said = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "one"}]

    for text in ("two", "three"):
        said.append({"role": "user", "content": text})
        given: Any = said
        await client.chat.completions.create(model=BOT, messages=given, **session)

    [chat] = await chats(clients)
    assert (chat.archived, chat.expires_at) == (False, None)
    assert await messages(clients, chat.id) == [
        ("user", "one"),
        ("user", "two"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "three"),
    ]
    assert clients.llm.requests[-1].body["messages"][0] == {
        "role": "system",
        "content": "Be short.",
    }
    assert [m["content"] for m in clients.llm.requests[-1].body["messages"][1:]] == [
        "one",
        "two",
        "two",
        "three",
    ]


async def test_the_same_word_of_two_callers_is_two_sessions(clients: Clients) -> None:
    await clients.agent()
    for who in ("user", "other"):
        client = await clients(who)
        await client.chat.completions.create(model=BOT, messages=HELLO, user="alice")

    assert len({(chat.user_id, chat.session_key) for chat in await chats(clients)}) == 2


async def test_a_named_session_is_that_of_invoke(clients: Clients) -> None:
    await clients.agent()
    user = await clients.as_("user")
    invoked = await user.post(
        "/agents/shop/bot/invoke", json={"message": "one", "session_key": "s1"}
    )
    client = await clients("user")

    completion = await client.chat.completions.create(
        model=BOT, messages=HELLO, metadata={"session": "s1"}
    )

    assert completion.model_extra is not None
    assert completion.model_extra["sinas"]["chat_id"] == invoked.json()["chat_id"]
    other = await clients("other")
    with pytest.raises(openai.PermissionDeniedError):
        await other.chat.completions.create(model=BOT, messages=HELLO, metadata={"session": "s1"})


async def test_a_chat_is_continued(clients: Clients) -> None:
    await clients.agent()
    await clients.agent("other")
    client = await clients("user")
    raw = await client.chat.completions.with_raw_response.create(model=BOT, messages=HELLO)
    chat_id = raw.headers["x-chat-id"]

    again = await client.chat.completions.with_raw_response.create(
        model=BOT,
        messages=[*HELLO, {"role": "assistant", "content": "no"}, {"role": "user", "content": "b"}],
        extra_headers={"X-Chat-ID": chat_id},
        user="alice",
    )

    assert again.headers["x-chat-id"] == chat_id
    assert await messages(clients, UUID(chat_id)) == [
        ("user", "hello"),
        ("assistant", "hello"),
        ("user", "b"),
        ("assistant", "b"),
    ]
    stranger = await clients("other")
    for someone, model in ((stranger, BOT), (client, "agent:shop/other")):
        with pytest.raises(openai.NotFoundError, match="Chat not found"):
            await someone.chat.completions.create(
                model=model, messages=HELLO, extra_headers={"X-Chat-ID": chat_id}
            )
    with pytest.raises(openai.BadRequestError, match="X-Chat-ID"):
        await client.chat.completions.create(
            model=BOT, messages=HELLO, extra_headers={"X-Chat-ID": "no-id"}
        )
    fresh = await client.chat.completions.with_raw_response.create(
        model=BOT, messages=HELLO, user="alice", extra_headers={"X-Chat-ID": "new"}
    )
    assert fresh.headers["x-chat-id"] != chat_id
    assert not [chat for chat in await chats(clients) if chat.session_key]


async def test_parameters_reach_the_agents_model(clients: Clients) -> None:
    await clients.agent(temperature=0.5, max_tokens=100)
    client = await clients("user")

    await client.chat.completions.create(
        model=BOT,
        messages=HELLO,
        temperature=0.0,
        top_p=0.9,
        max_completion_tokens=7,
        stop=["x"],
        seed=4,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        reasoning_effort="low",
        logit_bias={"1": 2},
    )
    await client.chat.completions.create(model=BOT, messages=HELLO, max_tokens=1000)
    await client.chat.completions.create(model=BOT, messages=HELLO)

    sent = [request.body for request in clients.llm.requests]
    assert {name: sent[0][name] for name in ("temperature", "max_tokens", "top_p", "stop")} == {
        "temperature": 0.0,
        "max_tokens": 7,
        "top_p": 0.9,
        "stop": ["x"],
    }
    assert (sent[0]["seed"], sent[0]["reasoning_effort"]) == (4, "low")
    assert (sent[0]["presence_penalty"], sent[0]["logit_bias"]) == (0.1, {"1": 2})
    # The agent's limit is its author's.
    assert sent[1]["max_tokens"] == 100
    assert (sent[2]["temperature"], sent[2]["max_tokens"]) == (0.5, 100)
    assert "seed" not in sent[2]


class Order(BaseModel):
    number: int


async def test_structured_output(clients: Clients) -> None:
    await clients.agent(model="m")
    clients.llm.script("m", [Answer(chunks=('{"number"', ": 7}"))])
    client = await clients("user")

    found = await client.chat.completions.parse(model=BOT, messages=HELLO, response_format=Order)

    assert found.choices[0].message.parsed == Order(number=7)
    sent = clients.llm.requests[0].body
    assert '"number"' in sent["messages"][0]["content"]
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert "number" in sent["response_format"]["json_schema"]["schema"]["properties"]
    await client.chat.completions.create(
        model=BOT, messages=HELLO, response_format={"type": "json_object"}
    )
    assert clients.llm.requests[1].body["response_format"] == {"type": "json_object"}


async def test_input_fills_the_prompt(clients: Clients) -> None:
    await clients.agent(
        system_prompt="You sell {{ what }}.",
        input_schema={"type": "object", "properties": {"what": {"type": "string"}}},
    )
    client = await clients("user")

    await client.chat.completions.create(
        model=BOT, messages=HELLO, extra_body={"sinas": {"input": {"what": "cars"}}}
    )

    assert clients.llm.requests[0].body["messages"][0]["content"] == "You sell cars."
    with pytest.raises(openai.BadRequestError, match="Input validation failed") as caught:
        await client.chat.completions.create(
            model=BOT, messages=HELLO, extra_body={"sinas": {"input": {"what": 1.5e300}}}
        )
    assert caught.value.param == "input.what"


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [TOOL["function"]]}, "functions"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
async def test_what_agents_cannot_do(
    clients: Clients, parameters: dict[str, Any], param: str
) -> None:
    await clients.agent()
    client = await clients("user")

    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=BOT, messages=HELLO, **parameters)

    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert not clients.llm.requests
    assert await chats(clients) == []


async def test_what_means_nothing_is_no_obstacle(clients: Clients) -> None:
    await clients.agent()
    client = await clients("user")

    completion = await client.chat.completions.create(
        model=BOT,
        messages=HELLO,
        tools=[],
        n=1,
        logprobs=False,
        modalities=["text"],
        parallel_tool_calls=True,
        store=False,
        service_tier="auto",
        response_format={"type": "text"},
        extra_body={"unheard_of": 1, "tool_choice": "auto"},
    )

    assert completion.choices[0].message.content == "hello"


async def test_its_own_tools_are_not_seen(clients: Clients) -> None:
    await make_function(clients.context, await clients.as_.user(), namespace="shop", name="echo")
    await clients.agent(enabled_functions=["shop/echo"], model="m")
    rounds = [
        Answer(chunks=("let me ", "look"), calls=(Call("shop__echo", "{}"),), usage=(10, 1)),
        Answer(chunks=("it is ", "sent"), usage=(20, 2)),
    ]
    clients.llm.script("m", rounds, by="round")
    client = await clients("user")

    whole = await client.chat.completions.create(model=BOT, messages=HELLO)
    stream = await client.chat.completions.create(
        model=BOT, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert whole.choices[0].message.content == "it is sent"
    assert whole.choices[0].message.tool_calls is None
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (30, 3)
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(d.content or "" for d in deltas) == "let me look\n\nit is sent"
    assert all(delta.tool_calls is None for delta in deltas)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 33


async def test_an_answer_that_was_too_long(clients: Clients) -> None:
    await clients.agent(model="m")
    clients.llm.script("m", [Answer(chunks=("and so",), finish_reason="length")])
    client = await clients("user")

    completion = await client.chat.completions.create(model=BOT, messages=HELLO)

    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_stops_the_turn(
    clients: Clients, as_: SignIn, live: str, stream: bool
) -> None:
    await clients.agent(model="m")
    clients.llm.script("m", [Answer(chunks=("a", "b"), hold_after=1)])
    user = await as_("user", live=live)
    body = {"model": BOT, "messages": HELLO, "stream": stream}

    async def ask() -> None:
        async with user.stream("POST", COMPLETIONS, json=body) as response:
            async for text in response.aiter_text():
                if '"a"' in text:
                    return

    if stream:
        await ask()
    else:
        asking = asyncio.ensure_future(ask())
        async with asyncio.timeout(5):
            await clients.llm.arrived.wait()
        asking.cancel()

    async with asyncio.timeout(5):
        await clients.llm.requests[0].disconnected.wait()

    async def stopped() -> bool:
        async with clients.context.sessions() as session:
            [turn] = (await session.scalars(select(Turn))).all()
            return turn.status == TurnStatus.CANCELLED

    await until(stopped)


async def test_leaving_does_not_stop_a_turn_that_is_kept_alive(
    clients: Clients, as_: SignIn, live: str
) -> None:
    await clients.agent(model="m", default_keep_alive=True)
    clients.llm.script("m", [Answer(chunks=("a", "b"), hold_after=1)])
    user = await as_("user", live=live)
    body = {"model": BOT, "messages": HELLO, "stream": True}

    async with user.stream("POST", COMPLETIONS, json=body) as response:
        async for text in response.aiter_text():
            if '"a"' in text:
                break
    await asyncio.sleep(0.3)
    clients.llm.release()

    async def completed() -> bool:
        [chat] = await chats(clients)
        return ("assistant", "ab") in await messages(clients, chat.id)

    await until(completed)


@pytest.mark.parametrize(
    ("answer", "raised", "status"),
    [
        (Answer(status=500), openai.InternalServerError, 502),
        (Answer(status=400), openai.InternalServerError, 502),
        (Answer(chunks=("a", "b"), cut_after=1), openai.InternalServerError, 502),
    ],
)
async def test_a_turn_that_fails(
    clients: Clients, answer: Answer, raised: type[openai.APIStatusError], status: int
) -> None:
    await clients.agent(model="m")
    clients.llm.script("m", [answer])
    client = await clients("user")

    with pytest.raises(raised, match="LLM provider") as caught:
        await client.chat.completions.create(model=BOT, messages=HELLO)
    assert caught.value.status_code == status

    async def read() -> None:
        stream = await client.chat.completions.create(model=BOT, messages=HELLO, stream=True)
        async for _ in stream:
            pass

    with pytest.raises(openai.APIError, match="LLM provider") as streamed:
        await read()
    assert (streamed.value.type, streamed.value.code) == ("api_error", "upstream_error")


async def test_an_agent_without_a_provider(clients: Clients) -> None:
    await clients.agent(model="")
    client = await clients("user")

    with pytest.raises(openai.BadRequestError, match="has no model"):
        await client.chat.completions.create(model=BOT, messages=HELLO)
