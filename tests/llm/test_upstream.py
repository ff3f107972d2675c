"""The scripted upstream keeps its promises: other tests and the benchmarks lean on them."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx

from sinas.llm.openai_wire import OpenAiWire
from tests.support.llm_client import TOOL, ask, question
from tests.support.llm_script import Answer, Call
from tests.support.llm_upstream import LlmUpstream

ROOT = Path(__file__).parents[2]


async def test_the_same_request_gets_the_same_text(lean: OpenAiWire, upstream: LlmUpstream) -> None:
    for model in ("echo", "words-50", "tool-echo"):
        request = question(upstream, model, tools=[TOOL])
        first, second = await ask(lean, request), await ask(lean, request)
        assert (first.content, first.tool_calls()) == (second.content, second.tool_calls())


async def test_tool_echo_streams_words_after_the_result(
    lean: OpenAiWire, upstream: LlmUpstream
) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "tool_call_id": "x", "content": "1"},
    ]
    answer = await ask(lean, question(upstream, "tool-echo", tools=[TOOL], messages=messages))

    assert answer.content.startswith("w00 w01 ")
    assert not answer.tool_calls()


async def test_scripts_by_call_and_by_round(lean: OpenAiWire, upstream: LlmUpstream) -> None:
    answers = [Answer(chunks=("one",)), Answer(chunks=("two",))]
    upstream.script("a", answers)
    upstream.script("b", answers, by="round")

    async def texts(model: str) -> list[str]:
        return [(await ask(lean, question(upstream, model))).content for _ in range(3)]

    assert await texts("a") == ["one", "two", "two"]
    assert await texts("b") == ["one", "one", "one"]


async def test_a_held_stream_goes_on_when_released(lean: OpenAiWire, upstream: LlmUpstream) -> None:
    upstream.script("m", [Answer(chunks=("a", "b"), hold_after=1)])
    content = ""

    async for delta in lean.stream(question(upstream, "m")):
        content += delta.content or ""
        if delta.content == "a":
            upstream.release()

    assert content == "ab"
    await asyncio.wait_for(upstream.requests[0].finished.wait(), 5)


async def test_out_of_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.llm_upstream", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        answer = Answer(calls=(Call("f", '{"x":1}'),), delay=0.01)
        async with httpx.AsyncClient(base_url=url) as http:
            script = {"model": "m", "answers": [answer.to_json()]}
            assert (await http.post("/_script", json=script)).status_code == 200
            refused = await http.post("/_script", json={"model": "m", "answers": [{"tpyo": 1}]})
            asked = await http.post("/v1/chat/completions", json={"model": "m", "messages": []})
            recorded = (await http.get("/_requests")).json()
    finally:
        process.terminate()
        await process.wait()

    assert refused.status_code == 400
    assert asked.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert [request["body"]["model"] for request in recorded] == ["m"]
    assert process.returncode == 0
