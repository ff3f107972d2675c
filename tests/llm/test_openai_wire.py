import asyncio
import socket
from contextlib import aclosing
from dataclasses import replace

import pytest

from sinas.errors import UpstreamError
from sinas.llm.base import Provider, Usage
from sinas.llm.openai_wire import OpenAiWire
from tests.support.llm_client import KEY, TOOL, ask, question
from tests.support.llm_script import Answer, Call, words
from tests.support.llm_upstream import LlmUpstream

FIFTY = "".join(f"w{number:02d} " for number in range(50))
HELLO = Answer(chunks=("hel", "lo"))


class TestAnswer:
    async def test_text_reason_and_usage(self, lean: OpenAiWire, upstream: LlmUpstream) -> None:
        answer = await ask(lean, question(upstream, "words-50"))

        assert answer.content == FIFTY
        assert answer.finish_reason == "stop"
        assert answer.usage == Usage(prompt_tokens=2, completion_tokens=50, total_tokens=52)

    async def test_thinking_stays_apart(self, lean: OpenAiWire, upstream: LlmUpstream) -> None:
        upstream.script("m", [Answer(thinking=("hm ", "hm"), chunks=("yes",))])

        answer = await ask(lean, question(upstream, "m"))

        assert (answer.thinking, answer.content) == ("hm hm", "yes")

    async def test_tool_call_over_several_deltas(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        answer = await ask(lean, question(upstream, "tool-echo", tools=[TOOL]))

        (call,) = answer.tool_calls()
        assert (call.id, call.name) == ("call_shop__find", "shop__find")
        assert call.arguments == '{"x":"hello","n":3}'
        assert answer.finish_reason == "tool_calls"

    @pytest.mark.parametrize("reason", ["length", "content_filter"])
    async def test_finish_reason_is_passed_on(
        self, lean: OpenAiWire, upstream: LlmUpstream, reason: str
    ) -> None:
        upstream.script("m", [replace(HELLO, finish_reason=reason)])

        assert (await ask(lean, question(upstream, "m"))).finish_reason == reason

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(replace(HELLO, finish_reason=""), id="no finish_reason"),
            pytest.param(replace(HELLO, done=False), id="no [DONE]"),
            pytest.param(replace(HELLO, usage=()), id="no usage"),
            pytest.param(replace(HELLO, plain=True), id="not streamed"),
            pytest.param(replace(HELLO, refuse_stream_options=True), id="no stream_options"),
            pytest.param(
                Answer(
                    garbage='\ufeff: ping\r\n\r\ndata:{"choices":[{"delta":{"content":"hello"}}]}'
                    "\r\nretry: 5\r\n\r\ndata: [DONE]"
                ),
                id="odd but legal events",
            ),
        ],
    )
    async def test_sloppy_servers_are_understood(
        self, lean: OpenAiWire, upstream: LlmUpstream, answer: Answer
    ) -> None:
        upstream.script("m", [answer])

        assert (await ask(lean, question(upstream, "m"))).content == "hello"

    async def test_refused_stream_options_are_remembered(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [replace(HELLO, refuse_stream_options=True)])

        await ask(lean, question(upstream, "m"))
        await ask(lean, question(upstream, "m"))

        asked = ["stream_options" in request.body for request in upstream.requests]
        assert asked == [True, False, False]

    async def test_empty_answer_is_visible_not_an_error(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [Answer()])

        assert (await ask(lean, question(upstream, "m"))).is_empty


class TestRequest:
    async def test_everything_asked_for_is_sent(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        request = question(
            upstream,
            "echo",
            temperature=0.0,
            max_tokens=77,
            tools=[TOOL],
            response_format={"type": "json_object"},
            extra={"top_p": 0.5, "model": "other", "stream": False, "temperature": 1.5},
        )

        await ask(lean, request)

        (sent,) = upstream.requests
        assert sent.path == "/v1/chat/completions"
        assert sent.headers["authorization"] == f"Bearer {KEY}"
        assert sent.body == {
            "model": "echo",
            "messages": [{"role": "user", "content": "good morning"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.0,
            "max_tokens": 77,
            "tools": [TOOL],
            "tool_choice": "auto",
            "response_format": {"type": "json_object"},
            "top_p": 0.5,
        }

    async def test_what_is_not_set_is_not_sent(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        provider = Provider(name="p", type="openai", endpoint=f"{upstream.openai_url}/")
        await ask(lean, question(upstream, "echo", provider=provider))

        (sent,) = upstream.requests
        assert sent.body.keys() == {"model", "messages", "stream", "stream_options"}
        assert "authorization" not in sent.headers

    async def test_large_request_arrives_whole(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        text = "x" * 3_000_000
        request = question(upstream, "echo", messages=[{"role": "user", "content": text}])

        assert (await ask(lean, request)).content == text


class TestConnections:
    async def test_one_connection_serves_requests_in_a_row(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        for _ in range(4):
            await ask(lean, question(upstream, "words-5"))

        assert [request.connection for request in upstream.requests] == [1, 1, 1, 1]

    async def test_side_by_side_requests_do_not_mix(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        async def one(count: int) -> tuple[int, str]:
            return count, (await ask(lean, question(upstream, f"words-{count}"))).content

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(count)) for count in range(1, 20)]

        for task in tasks:
            count, content = task.result()
            assert content == "".join(f"w{number:02d} " for number in range(count))

    async def test_connection_the_server_closed_while_idle(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        await ask(lean, question(upstream, "words-5"))
        for connection in tuple(upstream.open):
            connection.abort()

        assert (await ask(lean, question(upstream, "words-2"))).content == "w00 w01 "

    async def test_cancelling_closes_the_connection(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [replace(HELLO, hold_after=1)])
        arrived = asyncio.Event()

        async def read() -> None:
            async for delta in lean.stream(question(upstream, "m")):
                if delta.content:
                    arrived.set()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(read())
            await arrived.wait()
            task.cancel()

        await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)
        assert not upstream.open

    async def test_cancelling_before_the_answer_closes_the_connection(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [replace(HELLO, header_delay=60.0)])

        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(lean, question(upstream, "m")))
            await upstream.arrived.wait()
            task.cancel()

        await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)

    async def test_closing_the_generator_closes_the_connection(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [words(50, delay=0.05)])

        async with aclosing(lean.stream(question(upstream, "m"))) as deltas:
            async for delta in deltas:
                if delta.content:
                    break

        await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)


class TestSilence:
    async def test_slow_but_steady_answer_may_take_longer_than_the_limit(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [words(6, delay=0.2)])

        answer = await ask(lean, question(upstream, "m", timeout_seconds=0.8))

        assert answer.content == "w00 w01 w02 w03 w04 w05 "

    @pytest.mark.parametrize(
        ("answer", "when"),
        [
            (replace(HELLO, header_delay=60.0), "before its answer"),
            (replace(HELLO, hold_after=1), "in the middle of its answer"),
        ],
    )
    async def test_silence_ends_the_request(
        self, lean: OpenAiWire, upstream: LlmUpstream, answer: Answer, when: str
    ) -> None:
        upstream.script("m", [answer])

        with pytest.raises(UpstreamError) as caught:
            await ask(lean, question(upstream, "m", timeout_seconds=1))

        assert caught.value.message == (
            f"LLM provider 'scripted' (model 'm') was silent for 1 seconds {when}."
        )
        await asyncio.wait_for(upstream.requests[0].disconnected.wait(), 5)


FAILURES = {
    "401": (
        Answer(status=401),
        401,
        "answered HTTP 401 (the API key was not accepted): scripted failure",
    ),
    "unknown model": (None, 404, "HTTP 404 (no such model or path): The model `m` does not exist"),
    "429": (
        Answer(
            status=429, body='{"error":{"message":"slow down"}}', headers=(("retry-after", "7"),)
        ),
        429,
        "HTTP 429 (too many requests): slow down; it asks to wait 7 (Retry-After)",
    ),
    "key in message": (
        Answer(status=400, body='{"detail":"bad key ' + KEY + '"}'),
        400,
        "HTTP 400: bad key [api key]",
    ),
    "long message": (Answer(status=500, body="x" * 9000), 500, "x" * 499 + "…"),
    "html": (
        Answer(status=503, body="<html>no</html>", content_type="text/html"),
        503,
        "HTTP 503.",
    ),
    "redirect": (
        Answer(status=302, body="", headers=(("location", "/elsewhere"),)),
        302,
        "a redirect, which is not followed",
    ),
    "cut": (Answer(chunks=("a", "b", "c"), cut_after=2), None, "cut its answer off"),
    "cut before headers": (
        Answer(chunks=("a",), cut_after=0),
        None,
        "cut its answer off before the end",
    ),
    "ends without end": (
        Answer(chunks=("a",), finish_reason="", done=False),
        None,
        "cut its answer off",
    ),
    "not events": (
        Answer(garbage="hello there\n\n"),
        None,
        "is not a chat completion: 'hello there'",
    ),
    "not JSON": (Answer(garbage="data: {nope\n\n"), None, "not a chat completion: '{nope'"),
    "not an object": (Answer(garbage="data: [1]\n\n"), None, "not a chat completion: '[1]'"),
    "wrong shape": (Answer(garbage='data: {"choices":[7]}\n\n'), None, "not a chat completion"),
    "nothing": (Answer(body="", content_type="text/event-stream"), None, "sent an empty response"),
    "HTML page": (
        Answer(body="<html>hi</html>", content_type="text/html"),
        None,
        "'<html>hi</html>'",
    ),
    "JSON without choices": (Answer(body='{"ok":true}'), None, "completion: '{\"ok\":true}'"),
    "error in place": (Answer(error="overloaded"), None, "reported an error in the middle"),
    "error in the stream": (
        Answer(chunks=("a",), error="overloaded"),
        None,
        "reported an error in the middle of its answer: overloaded",
    ),
    "llama.cpp error line": (
        Answer(garbage='error: {"code":503,"message":"loading"}\n\n'),
        503,
        "reported an error in place of an answer: loading",
    ),
}


class TestFailure:
    @pytest.mark.parametrize("name", FAILURES)
    async def test_one_sentence_says_what_happened(
        self, lean: OpenAiWire, upstream: LlmUpstream, name: str
    ) -> None:
        answer, status, part = FAILURES[name]
        if answer is not None:
            upstream.script("m", [answer])

        with pytest.raises(UpstreamError) as caught:
            await ask(lean, question(upstream, "m"))

        error = caught.value
        assert error.message.startswith("LLM provider 'scripted' (model 'm') ")
        assert error.message.endswith(".")
        assert part in error.message
        assert error.status == status
        assert KEY not in error.message
        assert len(error.message) < 700

    async def test_the_next_request_works(self, lean: OpenAiWire, upstream: LlmUpstream) -> None:
        upstream.script("m", [answer for answer, _, _ in FAILURES.values() if answer] + [HELLO])
        for name in FAILURES:
            if name != "unknown model":
                with pytest.raises(UpstreamError):
                    await ask(lean, question(upstream, "m"))

        assert (await ask(lean, question(upstream, "m"))).content == "hello"

    @pytest.mark.parametrize(
        ("endpoint", "part"),
        [
            ("http://127.0.0.1:{free}/v1", "could not be reached at 127.0.0.1:{free}: connection"),
            ("http://nowhere.invalid/v1", "reached at nowhere.invalid: the host name is not known"),
            (
                "https://127.0.0.1:{upstream}/v1",
                "could not be reached at 127.0.0.1:{upstream}: the connection was closed",
            ),
            ("ftp://127.0.0.1/v1", "has an endpoint that is not an http or https URL"),
            ("nonsense", "has an endpoint that is not an http or https URL"),
        ],
    )
    async def test_unreachable(
        self, lean: OpenAiWire, upstream: LlmUpstream, endpoint: str, part: str
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports = {"free": probe.getsockname()[1], "upstream": upstream.url.rpartition(":")[2]}
            provider = Provider(name="p", type="openai", endpoint=endpoint.format(**ports))
            with pytest.raises(UpstreamError) as caught:
                await ask(lean, question(upstream, "echo", provider=provider))

        assert part.format(**ports) in caught.value.message

    async def test_key_with_a_line_break_is_not_sent(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        request = question(upstream, "echo")
        provider = replace(request.provider, api_key="abcdefgh\r\nx-evil: 1")

        with pytest.raises(UpstreamError, match="characters HTTP forbids"):
            await ask(lean, replace(request, provider=provider))

        assert not upstream.requests

    async def test_broken_arguments_reach_the_caller(
        self, lean: OpenAiWire, upstream: LlmUpstream
    ) -> None:
        upstream.script("m", [Answer(calls=(Call("f", '{"x": '),))])

        (call,) = (await ask(lean, question(upstream, "m"))).tool_calls()

        assert call.arguments == '{"x": '
