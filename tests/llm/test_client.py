from collections.abc import AsyncIterator

import pytest

from sinas.llm.base import Provider
from sinas.llm.client import LlmClient
from tests.support.llm_client import KEY, TOOL, ask, question
from tests.support.llm_script import Answer
from tests.support.llm_upstream import LlmUpstream


@pytest.fixture
async def client() -> AsyncIterator[LlmClient]:
    llm = LlmClient()
    yield llm
    await llm.aclose()


async def test_compatible_endpoint_goes_through_the_lean_client(
    client: LlmClient, upstream: LlmUpstream
) -> None:
    answer = await ask(client, question(upstream, "echo"))

    assert answer.content == "good morning"
    assert upstream.requests[0].headers["user-agent"] == "sinas"


async def test_mistral_gets_ids_it_accepts(client: LlmClient, upstream: LlmUpstream) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    upstream.script("m", [Answer(chunks=("ok",), usage=(1, 1))])
    request = question(
        upstream,
        "m",
        wire="mistral",
        temperature=0.5,
        max_tokens=9,
        tools=[TOOL],
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [{"id": "call_1", **call}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
            {"role": "assistant", "tool_calls": [{"id": "abcdEF123", **call}]},
            {"role": "tool", "tool_call_id": "abcdEF123", "content": "2"},
        ],
    )

    await ask(client, request)

    (sent,) = upstream.requests
    assert (sent.body["temperature"], sent.body["max_tokens"]) == (0.5, 9)
    assert "stream_options" not in sent.body
    _, first, first_result, second, second_result = sent.body["messages"]
    made = first["tool_calls"][0]["id"]
    assert made.isalnum()
    assert len(made) == 9
    assert first_result["tool_call_id"] == made
    assert second["tool_calls"][0]["id"] == second_result["tool_call_id"] == "abcdEF123"
    assert request.messages[2]["tool_call_id"] == "call_1"


async def test_other_providers_go_through_litellm(upstream: LlmUpstream) -> None:
    client = LlmClient()

    answer = await ask(client, question(upstream, "echo", wire="anthropic"))
    await client.aclose()

    assert answer.content == "good morning"
    assert upstream.requests[0].wire == "anthropic"
    assert not upstream.open


def test_key_is_not_in_the_repr() -> None:
    assert KEY not in repr(Provider(name="p", type="openai", api_key=KEY))
