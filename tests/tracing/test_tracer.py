"""The tracer itself, against a real endpoint."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sinas.errors import NotFoundError
from sinas.settings import TelemetrySettings, environment
from sinas.tracing import names
from sinas.tracing.exporting import traces_url
from sinas.tracing.opening import open_tracer
from sinas.tracing.spans import (
    NO_SPAN,
    NO_TRACER,
    About,
    Kind,
    Tracer,
    current_span,
)
from tests.support.otlp_receiver import OtlpReceiver

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# Seconds. By itself OpenTelemetry's exporter tries for ten to deliver.
_LESS_THAN_RETRIES = 8


@asynccontextmanager
async def tracing(receiver: OtlpReceiver, **settings: Any) -> AsyncIterator[Tracer]:
    tracer = open_tracer(
        TelemetrySettings(enabled=True, exporter_endpoint=receiver.url, **settings)
    )
    try:
        yield tracer
    finally:
        await tracer.aclose()


async def test_without_tracing_there_is_nothing() -> None:
    tracer = open_tracer(TelemetrySettings())
    assert tracer is NO_TRACER
    with tracer.span(Kind.TURN, "conversation.turn", parent=CALLER) as span:
        assert span is NO_SPAN
        assert current_span() is NO_SPAN
        assert span.traceparent is None
    await tracer.aclose()


def test_without_tracing_the_sdk_is_not_imported() -> None:
    code = (
        "import sys, sinas.tracing.opening, sinas.app, sinas.worker, sinas.scheduler\n"
        "from sinas.settings import TelemetrySettings\n"
        "sinas.tracing.opening.open_tracer(TelemetrySettings())\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.exporter', 'google.protobuf'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


async def test_a_span_arrives_with_what_it_is_about(receiver: OtlpReceiver) -> None:
    headers = SecretStr("Authorization=Basic%20YTpi==,x-kind=v=1")
    async with tracing(receiver, exporter_headers=headers, service_name="shop") as tracer:
        about = About(thread="t1", user="u1", agent="a/b")
        with tracer.span(Kind.TURN, "conversation.turn", parent=CALLER, about=about) as turn:
            turn.set({"sinas.turn.run": 1, "left.out": None})
            with tracer.span(Kind.TOOL, "execute_tool x"):
                assert current_span() is not turn
            assert current_span() is turn
        assert current_span() is NO_SPAN
    turn_span, tool = receiver.one("conversation.turn"), receiver.one("execute_tool x")
    assert turn_span.trace_id == tool.trace_id == CALLER[3:35]
    assert (turn_span.parent_id, tool.parent_id) == (CALLER[36:52], turn_span.id)
    assert turn_span.id == str(turn.traceparent)[36:52]
    assert (turn_span.kind, tool.kind) == ("consumer", "internal")
    assert not turn_span.is_error
    assert turn_span.attributes == {
        "gen_ai.conversation.id": "t1",
        "user.id": "u1",
        "gen_ai.agent.name": "a/b",
        "session.id": "t1",
        "sinas.labels": ["agent:a/b"],
        "sinas.turn.run": 1,
    }
    assert tool.attributes["gen_ai.conversation.id"] == "t1"
    assert turn_span.resource["service.name"] == "shop"
    path, sent = receiver.requests[0]
    assert path == "/v1/traces"
    assert (sent["authorization"], sent["x-kind"]) == ("Basic YTpi==", "v=1")


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        (
            "langfuse",
            {
                "langfuse.session.id": "t1",
                "langfuse.user.id": "u1",
                "langfuse.trace.tags": ["agent:a/b"],
                "langfuse.observation.type": "generation",
                "langfuse.observation.input": "question",
                "langfuse.observation.output": "answer",
            },
        ),
        (
            "langwatch",
            {
                "langwatch.thread.id": "t1",
                "langwatch.user.id": "u1",
                "langwatch.labels": '["agent:a/b"]',
                "langwatch.span.type": "llm",
                "langwatch.input": "question",
                "langwatch.output": "answer",
            },
        ),
        (
            "generic_otel",
            {
                "session.id": "t1",
                "sinas.labels": ["agent:a/b"],
                "gen_ai.input.messages": "question",
                "gen_ai.output.messages": "answer",
            },
        ),
    ],
)
async def test_vendors_names(receiver: OtlpReceiver, vendor: str, expected: dict[str, Any]) -> None:
    async with tracing(receiver, vendor=vendor, capture_content=True) as tracer:
        with tracer.span(Kind.MODEL, "llm.call") as span:
            span.belongs_to(About(thread="t1", user="u1", agent="a/b"))
            assert span.keeps_content
            span.content(given="question", answered="answer")
    shared = {
        "gen_ai.conversation.id": "t1",
        "user.id": "u1",
        "gen_ai.agent.name": "a/b",
    }
    received = receiver.one("llm.call")
    assert received.attributes == shared | expected
    assert received.kind == "client"


@pytest.mark.parametrize("keeps", [True, False])
async def test_errors_say_their_type_and_nothing_else(receiver: OtlpReceiver, keeps: bool) -> None:
    async with tracing(receiver, capture_content=keeps) as tracer:
        with pytest.raises(KeyError), tracer.span(Kind.TURN, "unforeseen"):
            raise KeyError("SELECT secret FROM people")
        with pytest.raises(NotFoundError), tracer.span(Kind.TURN, "foreseen"):
            raise NotFoundError("Order 17 of Ada not found")
        with tracer.span(Kind.TURN, "said") as span:
            span.fail("timeout", "It took too long for Ada")
        span = tracer.span(Kind.TURN, "cancelled")
        with pytest.raises(asyncio.CancelledError), span:
            raise asyncio.CancelledError("Ada")
    for name, error_type in (
        ("unforeseen", "KeyError"),
        ("foreseen", "not_found"),
        ("said", "timeout"),
    ):
        found = receiver.one(name)
        assert found.is_error
        assert found.attributes[names.ERROR_TYPE] == error_type
        assert found.events == 0
    cancelled = receiver.one("cancelled")
    assert not cancelled.is_error
    assert cancelled.attributes["sinas.cancelled"] is True
    assert b"SELECT" not in receiver.raw
    assert (b"Ada" in receiver.raw) is keeps


async def test_no_content_unless_asked(receiver: OtlpReceiver) -> None:
    async with tracing(receiver) as tracer:
        with tracer.span(Kind.TOOL, "execute_tool x") as span:
            span.content(given="private", answered="private")
    assert b"private" not in receiver.raw
    assert receiver.one("execute_tool x").attributes == {}


async def test_content_is_cut(receiver: OtlpReceiver) -> None:
    async with tracing(receiver, capture_content=True) as tracer:
        with tracer.span(Kind.FUNCTION, "function.job") as span:
            span.content(given="x" * 20_000, answered="y\ud800")
    assert receiver.one("function.job").attributes == {
        "input.value": "x" * 10_000,
        "output.value": "y\\ud800",
    }


async def test_tasks_are_children_of_the_span_they_were_started_in(receiver: OtlpReceiver) -> None:
    async with tracing(receiver) as tracer:

        async def work(name: str) -> None:
            with tracer.span(Kind.TOOL, name):
                await asyncio.sleep(0.01)

        with tracer.span(Kind.TURN, "turn"):
            async with asyncio.TaskGroup() as group:
                group.create_task(work("a"))
                group.create_task(work("b"))
    name, below = receiver.tree(receiver.one("turn"))
    assert (name, sorted(below)) == ("turn", [("a", []), ("b", [])])


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-01", "ff" + CALLER[2:], "é" * 60])
async def test_a_malformed_parent_is_none(receiver: OtlpReceiver, parent: str) -> None:
    async with tracing(receiver) as tracer:
        with tracer.span(Kind.TURN, "turn", parent=parent):
            pass
    assert receiver.one("turn").parent_id == ""


async def test_a_caller_that_does_not_sample_is_obeyed(receiver: OtlpReceiver) -> None:
    async with tracing(receiver) as tracer:
        with tracer.span(Kind.TURN, "turn", parent=CALLER[:-2] + "00") as span:
            assert not span.is_recording
            assert str(span.traceparent).startswith(CALLER[:35])
            assert str(span.traceparent).endswith("-00")
            with tracer.span(Kind.TOOL, "tool"):
                pass
    assert receiver.spans == []


@pytest.mark.parametrize("status", [503, 401])
async def test_an_endpoint_that_fails_is_told_once_and_costs_nothing(
    receiver: OtlpReceiver,
    status: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.status = status
    async with asyncio.timeout(_LESS_THAN_RETRIES), tracing(receiver) as tracer:
        for _ in range(3000):  # more than the queue holds
            with tracer.span(Kind.TURN, "turn"):
                pass
    printed = capfd.readouterr()
    # Where it goes depends on whether a test before this one has set up logging.
    said = caplog.text or printed.out + printed.err
    assert said.count("tracing.not_delivered") == 1
    assert "Queue full" not in said


async def test_an_endpoint_that_is_not_there_does_not_hold_the_end_up() -> None:
    with OtlpReceiver() as gone:
        url = gone.url
    tracer = open_tracer(TelemetrySettings(enabled=True, exporter_endpoint=url))
    with tracer.span(Kind.TURN, "turn"):
        pass
    async with asyncio.timeout(_LESS_THAN_RETRIES):
        await tracer.aclose()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://v/api/otel/", "https://v/api/otel/v1/traces"),
        ("https://v/api/otel/v1/traces", "https://v/api/otel/v1/traces"),
        ("https://v/x?key=1", "https://v/x/v1/traces?key=1"),
    ],
)
def test_the_url_for_traces(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"OTEL_ENABLED": "true"}, "OTEL_EXPORTER_ENDPOINT"),
        ({"OTEL_EXPORTER_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_ENDPOINT"),
        ({"OTEL_EXPORTER_HEADERS": "no-value"}, "OTEL_EXPORTER_HEADERS"),
        ({"OTEL_EXPORTER_HEADERS": "=v"}, "OTEL_EXPORTER_HEADERS"),
        ({"OTEL_VENDOR": "other"}, "OTEL_VENDOR"),
    ],
)
def test_settings_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], word: str
) -> None:
    from sinas.errors import ConfigurationError
    from sinas.settings import read_settings

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=word) as caught:
        read_settings()
    assert "no-value" not in str(caught.value)


def test_headers_are_not_shown() -> None:
    settings = TelemetrySettings(exporter_headers=SecretStr("Authorization=Bearer abc"))
    assert settings.headers == {"Authorization": "Bearer abc"}
    assert "abc" not in repr(settings)
    with pytest.raises(ValidationError):
        TelemetrySettings(enabled=True)


_FORKED = """
import asyncio, json, os, sys
sys.argv = ["x"]
from sinas.settings import TelemetrySettings
from sinas.tracing.opening import open_tracer
from sinas.tracing.spans import Kind

async def main():
    tracer = open_tracer(TelemetrySettings(enabled=True, exporter_endpoint=os.environ["URL"]))
    with tracer.span(Kind.TURN, "in a fork"):
        pass
    await tracer.aclose()

import sinas.app, sinas.worker  # as the nursery does, before it forks
pid = os.fork()
if pid == 0:
    asyncio.run(main())
    os._exit(0)  # no exit handlers, as there
print(json.dumps(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_process_delivers_before_it_ends(receiver: OtlpReceiver) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _FORKED],
        env={**environment(), "URL": receiver.url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == 0
    assert len(receiver.named("in a fork")) == 1
