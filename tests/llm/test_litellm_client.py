import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from sinas.errors import UpstreamError
from sinas.llm.base import Provider, ProviderType
from sinas.llm.convert import convert_messages
from sinas.llm.litellm_client import LitellmClient
from tests.support.llm_client import KEY, TOOL, ask, question
from tests.support.llm_script import Answer, Call, words
from tests.support.llm_upstream import LlmUpstream

WIRES: tuple[ProviderType, ...] = ("openai", "anthropic", "mistral", "ollama")
HELLO = Answer(chunks=("hel", "lo"))
# litellm reads deprecated pydantic attributes when tools are offered.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
every_wire = pytest.mark.parametrize("wire", WIRES)


@every_wire
async def test_text_reason_and_usage(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    upstream.script("m", [replace(words(5), usage=(11, 5))])

    answer = await ask(through_litellm, question(upstream, "m", wire=wire))

    assert answer.content == "w00 w01 w02 w03 w04 "
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    if wire != "mistral":  # litellm does not ask it and estimates
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 5)


@every_wire
async def test_parameters_and_tools_are_really_sent(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    request = question(
        upstream, "tool-echo", wire=wire, temperature=0.25, max_tokens=77, tools=[TOOL]
    )

    answer = await ask(through_litellm, request)

    (call,) = answer.tool_calls()
    assert call.name == "shop__find"
    assert call.arguments.replace(" ", "") == '{"x":"hello","n":3}'
    assert answer.finish_reason == "tool_calls"
    (sent,) = (recorded for recorded in upstream.requests if recorded.body.get("messages"))
    options = sent.body["options"] if wire == "ollama" else sent.body
    assert options["temperature"] == 0.25
    assert options["num_predict" if wire == "ollama" else "max_tokens"] == 77
    assert "shop__find" in str(sent.body["tools"])
    chosen = {"anthropic": {"type": "auto"}, "ollama": None}  # Ollama knows no choice
    assert sent.body.get("tool_choice") == chosen.get(wire, "auto")
    assert request.tools == [TOOL]


@pytest.mark.parametrize("wire", ["openai", "mistral", "ollama"])
async def test_the_form_of_the_answer_is_really_sent(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}

    await ask(through_litellm, question(upstream, "echo", wire=wire, response_format=form))

    (sent,) = (recorded for recorded in upstream.requests if recorded.body.get("messages"))
    if wire == "ollama":
        assert sent.body["format"] == schema
    else:
        assert sent.body["response_format"]["json_schema"]["schema"] == schema


async def test_anthropic_always_gets_max_tokens(
    through_litellm: LitellmClient, upstream: LlmUpstream
) -> None:
    await ask(through_litellm, question(upstream, "echo", wire="anthropic"))

    assert upstream.requests[0].body["max_tokens"] == 16_384
    assert upstream.requests[0].headers["x-api-key"] == KEY


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_parallel_calls_with_one_id_stay_apart(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    upstream.script("m", [Answer(calls=(Call("f", '{"x":1}'), Call("f", '{"x":2}')))])

    answer = await ask(through_litellm, question(upstream, "m", wire=wire, tools=[TOOL]))

    calls = answer.tool_calls()
    assert [call.arguments for call in calls] == ['{"x":1}', '{"x":2}']
    assert len({call.id for call in calls}) == 2


async def test_extra_cannot_redirect_the_key(
    through_litellm: LitellmClient, upstream: LlmUpstream
) -> None:
    extra: dict[str, Any] = {
        "api_base": "http://127.0.0.1:1",
        "base_url": "http://127.0.0.1:1",
        "mock_response": "made up",
        "extra_headers": {"x": "y"},
        "top_p": 0.5,
    }
    answer = await ask(through_litellm, question(upstream, "echo", wire="anthropic", extra=extra))

    assert answer.content == "good morning"
    assert upstream.requests[0].body["top_p"] == 0.5
    assert "x" not in upstream.requests[0].headers


PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
PARTS: list[Any] = [
    {"type": "text", "text": "look"},
    {"type": "image", "image": PNG},
    {"type": "file", "file_data": "QUJD", "filename": "a.pdf", "mime_type": "application/pdf"},
]


async def test_parts_reach_anthropic_in_its_own_form(
    through_litellm: LitellmClient, upstream: LlmUpstream
) -> None:
    messages = convert_messages([{"role": "user", "content": PARTS}], "anthropic")
    await ask(through_litellm, question(upstream, "echo", wire="anthropic", messages=messages))

    text, image, document = upstream.requests[0].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "look"}
    assert image["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgoAAAANSUhEUg==",
    }
    assert document["type"] == "document"
    assert document["source"]["data"] == "QUJD"


async def test_parts_reach_ollama_in_its_own_form(
    through_litellm: LitellmClient, upstream: LlmUpstream
) -> None:
    messages = convert_messages([{"role": "user", "content": PARTS}], "ollama")
    await ask(through_litellm, question(upstream, "echo", wire="ollama", messages=messages))

    sent = upstream.requests[0].body["messages"][0]
    assert sent["content"] == "look"
    assert sent["images"] == ["iVBORw0KGgoAAAANSUhEUg=="]


FAILURES = {
    "429": (Answer(status=429, headers=(("retry-after", "7"),)), 429, "scripted failure"),
    "500": (Answer(status=500), 500, "answered HTTP 500: scripted failure"),
    "401": (Answer(status=401), 401, "the API key was not accepted): scripted failure"),
    "unknown model": (None, 404, "The model `m` does not exist"),
    "key in message": (
        Answer(status=400, body='{"error":"no ' + KEY + '"}'),
        400,
        "answered HTTP 400: no ",
    ),
    "cut": (Answer(chunks=("a", "b", "c"), cut_after=2), None, "cut its answer off"),
    "error in the stream": (Answer(chunks=("a",), error="overloaded"), ..., "overloaded"),
    "not events": (Answer(garbage="<html>hello</html>\n\n"), None, "not a chat completion"),
}


@pytest.mark.parametrize("name", FAILURES)
@every_wire
async def test_one_sentence_says_what_happened(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType, name: str
) -> None:
    answer, status, part = FAILURES[name]
    if answer is not None:
        upstream.script("m", [answer])

    with pytest.raises(UpstreamError) as caught:
        await ask(through_litellm, question(upstream, "m", wire=wire))

    message = caught.value.message
    assert message.startswith("LLM provider 'scripted' (model 'm') ")
    assert part in message
    assert KEY not in message
    assert "litellm" not in message.lower()
    assert status is ... or caught.value.status == status
    assert sum(bool(recorded.body.get("messages")) for recorded in upstream.requests) == 1


@every_wire
async def test_unreachable(through_litellm: LitellmClient, wire: ProviderType) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        provider = Provider(name="p", type=wire, endpoint=endpoint, api_key=KEY)
        async with LlmUpstream() as upstream:
            request = question(upstream, "echo", provider=provider)
        with pytest.raises(UpstreamError, match=r"could not be reached at 127\.0\.0\.1:"):
            await ask(through_litellm, request)


@every_wire
async def test_silence_ends_the_request(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    upstream.script("m", [replace(HELLO, hold_after=1)])

    with pytest.raises(UpstreamError, match=r"was silent for 1 seconds in the middle"):
        await ask(through_litellm, question(upstream, "m", wire=wire, timeout_seconds=1))

    await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)


@every_wire
async def test_cancelling_closes_the_connection(
    through_litellm: LitellmClient, upstream: LlmUpstream, wire: ProviderType
) -> None:
    upstream.script("m", [replace(HELLO, hold_after=1)])
    arrived = asyncio.Event()

    async def read() -> None:
        async for delta in through_litellm.stream(question(upstream, "m", wire=wire)):
            if delta.content:
                arrived.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        await arrived.wait()
        task.cancel()

    await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)


async def test_the_callers_loop_runs_on_while_litellm_works(
    through_litellm: LitellmClient, upstream: LlmUpstream
) -> None:
    """The upstream lives on this loop; litellm asks it /api/show with a blocking client."""
    for _ in range(2):
        answer = await ask(through_litellm, question(upstream, "echo", wire="ollama"))
        assert answer.content == "good morning"
