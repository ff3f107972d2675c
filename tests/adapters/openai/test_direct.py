"""A provider's own models through the adapter, by the official SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import openai
import orjson
import pytest
from pydantic import BaseModel

from tests.adapters.openai.support import COMPLETIONS, HELLO, Clients
from tests.chat.support import until
from tests.support.llm_client import TOOL
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from tests.fixtures.database import QueryCounter
    from tests.support.llm_upstream import LlmUpstream


async def test_plain(clients: Clients) -> None:
    await clients.provider()
    client = await clients()

    completion = await client.chat.completions.create(model="mine/echo", messages=HELLO)

    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == "hello"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0


async def test_streamed(clients: Clients) -> None:
    await clients.provider()
    client = await clients()

    stream = await client.chat.completions.create(
        model="mine/echo",
        messages=[{"role": "user", "content": "good morning to you"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "good morning to you"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_by_the_sync_sdk(clients: Clients) -> None:
    await clients.provider()
    key = await clients.key()

    def ask() -> tuple[str | None, str]:
        with (
            httpx.Client(trust_env=False) as http,
            openai.OpenAI(base_url=clients.url, api_key=key, http_client=http) as client,
        ):
            whole = client.chat.completions.create(model="mine/echo", messages=HELLO)
            stream = client.chat.completions.create(model="mine/echo", messages=HELLO, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return whole.choices[0].message.content, text

    assert await asyncio.to_thread(ask) == ("hello", "hello")


async def test_the_raw_response(clients: Clients) -> None:
    await clients.provider()
    client = await clients()

    raw = await client.chat.completions.with_raw_response.create(model="mine/echo", messages=HELLO)

    assert raw.status_code == 200
    assert raw.headers["x-request-id"]
    assert raw.headers["content-type"] == "application/json"
    completion = raw.parse()
    assert completion.choices[0].message.content == "hello"
    assert completion._request_id == raw.headers["x-request-id"]


async def test_tools(clients: Clients) -> None:
    await clients.provider(default_model="m")
    clients.llm.script("m", [Answer(calls=(Call("shop__find", '{"x":"1"}'),))])
    client = await clients()
    tools: list[Any] = [TOOL]

    whole = await client.chat.completions.create(
        model="mine/m",
        messages=HELLO,
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
    )
    stream = await client.chat.completions.create(
        model="mine/m", messages=HELLO, tools=tools, stream=True
    )

    assert whole.choices[0].finish_reason == "tool_calls"
    [call] = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("shop__find", '{"x":"1"}')
    pieces = [
        part.function.arguments or ""
        async for chunk in stream
        for part in (chunk.choices[0].delta.tool_calls or [])
        if part.function
    ]
    assert "".join(pieces) == '{"x":"1"}'
    sent = clients.llm.requests[0].body
    assert sent["tools"] == [TOOL]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)


class Order(BaseModel):
    number: int
    paid: bool


async def test_structured_output(clients: Clients) -> None:
    await clients.provider(default_model="m")
    clients.llm.script("m", [Answer(chunks=('{"number": 7, ', '"paid": true}'))])
    client = await clients()

    found = await client.chat.completions.parse(
        model="mine/m", messages=HELLO, response_format=Order
    )

    assert found.choices[0].message.parsed == Order(number=7, paid=True)
    wanted = clients.llm.requests[0].body["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["strict"] is True
    async with client.chat.completions.stream(
        model="mine/m", messages=HELLO, response_format=Order
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == Order(number=7, paid=True)


async def test_everything_is_passed_on(clients: Clients) -> None:
    await clients.provider()
    client = await clients()
    parts: list[Any] = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}},
    ]
    parameters: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["x", "y"],
        "n": 1,
        "seed": 42,
        "logprobs": True,
        "top_logprobs": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"50256": -100},
        "user": "alice",
        "metadata": {"a": "b"},
        "max_completion_tokens": 5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
    }

    await client.chat.completions.create(
        model="mine/echo",
        messages=[{"role": "system", "content": "be"}, {"role": "user", "content": parts}],
        extra_body={"unheard_of": [1, {"x": None}], "top_k": 4},
        **parameters,
    )

    assert clients.llm.requests[0].body == {
        "model": "echo",
        "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": parts}],
        "unheard_of": [1, {"x": None}],
        "top_k": 4,
        **parameters,
    }
    headers = clients.llm.requests[0].headers
    assert headers["authorization"] == "Bearer sk-upstream"


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_provider_adds_comes_through(
    clients: Clients, admin: httpx.AsyncClient, stream: bool
) -> None:
    await clients.provider(default_model="m")
    body = '{"id":"x","choices":[{"index":0,"message":{"content":"a","new":[1]}}],"odd":{"y":2}}'
    event = ""
    if stream:
        event = (
            '{"id":"x","choices":[{"index":0,"delta":{"new":1},"finish_reason":"stop"}],"odd":2}'
        )
        clients.llm.script(
            "m",
            [Answer(body=f"data: {event}\n\ndata: [DONE]\n\n", content_type="text/event-stream")],
        )
    else:
        clients.llm.script("m", [Answer(body=body)])

    response = await admin.post(
        COMPLETIONS, json={"model": "mine/m", "messages": HELLO, "stream": stream}
    )

    if stream:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        assert response.text == f"data: {event}\n\ndata: [DONE]\n\n"
    else:
        assert response.text == body


async def test_a_model_without_its_provider(clients: Clients) -> None:
    await clients.provider(config={"models": ["words-50", 7, None]})
    await clients.provider("off", default_model="words-50", is_active=False)
    client = await clients()

    await client.chat.completions.create(model="words-50", messages=HELLO)

    await clients.provider("other", default_model="words-50")
    with pytest.raises(openai.BadRequestError, match=r"mine/words-50.*other/words-50") as caught:
        await client.chat.completions.create(model="words-50", messages=HELLO)
    assert caught.value.param == "model"
    limited = await clients(permissions=["sinas.llm_providers/other/*.use:all"])
    await limited.chat.completions.create(model="words-50", messages=HELLO)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("a.b", "gpt-4.1"),
        ("a b", "llama3:8b"),
        ("a/b", "meta-llama/Llama-3-8B"),
        ("ä", "modèle"),
        ("a*", "*"),
    ],
)
async def test_names_of_every_kind(clients: Clients, provider: str, model: str) -> None:
    await clients.provider(provider, default_model=model)
    clients.llm.script(model, [Answer(chunks=("hi",))])
    client = await clients()

    listed = [each.id for each in (await client.models.list()).data]
    found = await client.models.retrieve(f"{provider}/{model}")
    completion = await client.chat.completions.create(model=f"{provider}/{model}", messages=HELLO)

    assert f"{provider}/{model}" in listed
    assert found.id == f"{provider}/{model}"
    assert completion.choices[0].message.content == "hi"


async def test_the_longest_provider_name_is_meant(clients: Clients) -> None:
    await clients.provider("a", default_model="b/c", endpoint="http://127.0.0.1:1/v1")
    await clients.provider("a/b", default_model="c")
    clients.llm.script("c", [Answer(chunks=("hi",))])
    client = await clients()

    completion = await client.chat.completions.create(model="a/b/c", messages=HELLO)

    assert completion.choices[0].message.content == "hi"


async def test_a_provider_with_a_wire_of_its_own(clients: Clients, llm: LlmUpstream) -> None:
    await clients.provider("claude", provider_type="anthropic", endpoint=llm.url)
    client = await clients()

    whole = await client.chat.completions.create(model="claude/echo", messages=HELLO)
    stream = await client.chat.completions.create(
        model="claude/echo",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    assert whole.choices[0].message.content == "hello"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "hello"
    assert chunks[-1].usage is not None
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="claude/echo", messages=HELLO, n=2)
    assert (caught.value.param, caught.value.code) == ("n", "unsupported_parameter")


async def test_a_stream_that_breaks(clients: Clients) -> None:
    await clients.provider(default_model="m")
    clients.llm.script("m", [Answer(chunks=("a", "b", "c"), cut_after=2)])
    client = await clients()
    seen: list[str] = []

    async def read() -> None:
        stream = await client.chat.completions.create(model="mine/m", messages=HELLO, stream=True)
        async for chunk in stream:
            seen.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - kept on errors

    with pytest.raises(openai.APIError, match="cut its answer off") as caught:
        await read()

    assert "".join(seen) == "ab"
    assert not isinstance(caught.value, openai.APIStatusError)
    assert (caught.value.type, caught.value.code) == ("api_error", "upstream_error")


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_closes_the_providers_connection(
    clients: Clients, admin: httpx.AsyncClient, stream: bool
) -> None:
    await clients.provider(default_model="m")
    script = Answer(chunks=("a", "b"), hold_after=1) if stream else Answer(header_delay=60)
    clients.llm.script("m", [script])
    body = {"model": "mine/m", "messages": HELLO, "stream": stream}

    async def ask() -> None:
        async with admin.stream("POST", COMPLETIONS, json=body) as response:
            async for _ in response.aiter_bytes():
                return

    if stream:
        await ask()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await ask()

    async with asyncio.timeout(5):
        await clients.llm.requests[0].disconnected.wait()


async def test_it_costs_three_queries_and_one_that_nobody_waits_for(
    clients: Clients, admin: httpx.AsyncClient, query_counter: QueryCounter
) -> None:
    await clients.provider()
    body = {"model": "mine/echo", "messages": HELLO}

    async def are_counted() -> bool:
        return queries.count == 4

    with query_counter() as queries:
        response = await admin.post(COMPLETIONS, json=body)
        # What it used is stored when the answer is out.
        await until(are_counted)

    assert response.status_code == 200
    assert queries.count == 4, queries.statements


async def test_odd_bytes(clients: Clients, admin: httpx.AsyncClient) -> None:
    """What a provider gets is what was meant, whatever the text."""
    await clients.provider()
    text = 'a "quote" \\ \n \u2028 🙂 data: [DONE]'

    response = await admin.post(
        COMPLETIONS,
        content=orjson.dumps(
            {"model": "mine/echo", "messages": [{"role": "user", "content": text}]}
        ),
    )

    assert response.json()["choices"][0]["message"]["content"] == text
