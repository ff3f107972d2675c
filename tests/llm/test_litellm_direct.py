"""Completions of other wires: OpenAI's shape, whatever litellm makes of them."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from sinas.errors import UpstreamError
from sinas.llm.base import Provider, ProviderType
from sinas.llm.direct import DirectAnswer, DirectRequest
from sinas.llm.failures import RefusedError
from sinas.llm.litellm_client import LitellmClient
from sinas.llm.litellm_direct import LitellmDirect, arguments_of
from tests.support.llm_client import KEY, TOOL
from tests.support.llm_script import Answer, Call
from tests.support.llm_upstream import LlmUpstream

WIRES: tuple[ProviderType, ...] = ("anthropic", "mistral", "ollama")
HELLO = Answer(chunks=("hel", "lo"), usage=(3, 2))
# litellm reads deprecated pydantic attributes when tools are offered.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
every_wire = pytest.mark.parametrize("wire", WIRES)


@pytest.fixture
def direct(through_litellm: LitellmClient) -> LitellmDirect:
    return LitellmDirect(through_litellm)


def request(upstream: LlmUpstream, wire: ProviderType, **body: Any) -> DirectRequest:
    endpoint = upstream.openai_url if wire == "mistral" else upstream.url
    given = {"model": "p/m", "messages": [{"role": "user", "content": "hi"}], **body}
    provider = Provider(name="p", type=wire, endpoint=endpoint, api_key=KEY)
    return DirectRequest(provider=provider, model="m", body=given, timeout_seconds=5.0)


async def chunks_of(answer: DirectAnswer) -> list[dict[str, Any]]:
    assert answer.pieces is not None
    events = [piece async for piece in answer.pieces]
    assert events[-1] == b"data: [DONE]\n\n"
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-1]]


def content_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["delta"].get("content") or "" for x in chunks for c in x["choices"])


@every_wire
async def test_a_whole_answer(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType
) -> None:
    upstream.script("m", [HELLO])

    answer = await direct.ask(request(upstream, wire, temperature=0.25, max_tokens=77))

    assert answer.whole is not None
    completion = orjson.loads(answer.whole)
    assert completion["object"] == "chat.completion"
    [choice] = completion["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello"}
    assert (choice["finish_reason"], choice["logprobs"]) == ("stop", None)
    assert completion["usage"]["prompt_tokens"] == 3
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    (sent,) = (r for r in upstream.requests if r.body.get("messages"))
    options = sent.body["options"] if wire == "ollama" else sent.body
    assert options["temperature"] == 0.25
    assert options["num_predict" if wire == "ollama" else "max_tokens"] == 77


@every_wire
@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_stream(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType, wants_usage: bool
) -> None:
    upstream.script("m", [HELLO])
    options = {"include_usage": True} if wants_usage else None

    answer = await direct.ask(request(upstream, wire, stream=True, stream_options=options))
    chunks = await chunks_of(answer)

    assert content_of(chunks) == "hello"
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert all("finish_reason" in c for x in chunks for c in x["choices"])
    counted = [c["usage"] for c in chunks if c.get("usage")]
    assert len(counted) == wants_usage
    if wants_usage:
        assert chunks[-1]["choices"] == []
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@every_wire
@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType, stream: bool
) -> None:
    upstream.script("m", [Answer(calls=(Call("shop__find", '{"x":"1"}', id="abcdefghi"),))])

    answer = await direct.ask(request(upstream, wire, stream=stream, tools=[TOOL]))

    if answer.whole is not None:
        [choice] = orjson.loads(answer.whole)["choices"]
        [call] = choice["message"]["tool_calls"]
        assert not choice["message"]["content"]
        assert "index" not in call
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    else:
        chunks = await chunks_of(answer)
        calls = [d for x in chunks for c in x["choices"] for d in c["delta"].get("tool_calls", ())]
        assert {call["index"] for call in calls} == {0}
        name = "".join(call["function"].get("name") or "" for call in calls)
        arguments = "".join(call["function"].get("arguments") or "" for call in calls)
    assert name == "shop__find"
    assert orjson.loads(arguments) == {"x": "1"}
    (sent,) = (r for r in upstream.requests if r.body.get("messages"))
    assert "shop__find" in str(sent.body["tools"])


@every_wire
async def test_a_schema_for_the_answer(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType
) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    upstream.script("m", [Answer(chunks=('{"x":1}',))])

    await direct.ask(request(upstream, wire, response_format=wanted))

    (sent,) = (r for r in upstream.requests if r.body.get("messages"))
    assert "integer" in orjson.dumps(sent.body).decode()


@pytest.mark.parametrize(
    ("body", "param"),
    [({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"top_logprobs": 1}, "top_logprobs")],
)
async def test_what_a_client_would_miss_is_refused(
    direct: LitellmDirect, upstream: LlmUpstream, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        await direct.ask(request(upstream, "anthropic", **body))

    assert caught.value.status == 400
    assert caught.value.details == {"param": param, "code": "unsupported_parameter"}


async def test_what_only_tunes_is_left_out(direct: LitellmDirect, upstream: LlmUpstream) -> None:
    upstream.script("m", [HELLO])

    await direct.ask(
        request(upstream, "anthropic", seed=1, presence_penalty=0.5, n=1, logprobs=False)
    )

    assert "seed" not in upstream.requests[0].body


def test_nothing_steers_litellm(upstream: LlmUpstream) -> None:
    """A caller must not send the key to a host of theirs, or get an invented answer."""
    poison = {
        "api_base": "http://evil/",
        "base_url": "http://evil/",
        "api_key": "x",
        "extra_headers": {"x": "y"},
        "mock_response": "hi",
        "metadata": {"a": "b"},
        "fallbacks": ["x"],
        "custom_llm_provider": "openai",
        "num_retries": 9,
        "timeout": 0.001,
    }

    arguments = arguments_of(request(upstream, "anthropic", **poison))

    assert arguments["api_base"] == upstream.url
    assert arguments["api_key"] == KEY
    assert arguments["num_retries"] == 0
    assert arguments["timeout"] == 35.0
    assert not {"base_url", "extra_headers", "mock_response", "metadata", "fallbacks"} & set(
        arguments
    )


@every_wire
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 429, 500])
async def test_a_refusal_keeps_its_status(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType, stream: bool, status: int
) -> None:
    upstream.script("m", [Answer(status=status, headers=(("retry-after", "7"),))])

    with pytest.raises(RefusedError, match="scripted failure") as caught:
        await direct.ask(request(upstream, wire, stream=stream))

    assert caught.value.status == status
    assert KEY not in str(caught.value)
    assert len([r for r in upstream.requests if r.body.get("messages")]) == 1


@every_wire
async def test_a_cut_stream_is_an_error(
    direct: LitellmDirect, upstream: LlmUpstream, wire: ProviderType
) -> None:
    script = Answer(chunks=("a", "b", "c"), cut_after=2)
    upstream.script("m", [script if wire != "ollama" else replace(script, finish_reason="")])

    with pytest.raises(UpstreamError):
        await chunks_of(await direct.ask(request(upstream, wire, stream=True)))
