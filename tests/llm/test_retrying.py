"""When a provider is asked again."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sinas.errors import UpstreamError
from sinas.kit.time import utcnow
from sinas.llm.base import Delta, ModelRequest, Provider, ToolCallDelta, Usage
from sinas.llm.failures import LostError, failure, refused
from sinas.llm.retrying import pause_before_retry, retried

PROVIDER = Provider(name="Acme", type="openai", endpoint="http://acme/v1", api_key="sk-secret-1")


def request(**fields: Any) -> ModelRequest:
    fields.setdefault("messages", [{"role": "user", "content": "hi"}])
    fields.setdefault("max_retries", 2)
    return ModelRequest(provider=PROVIDER, model="m", **fields)


def answered(status: int, retry_after: str | None = None, body: str = "") -> UpstreamError:
    return refused(request(), status, body, retry_after=retry_after)


def pause(error: UpstreamError, attempt: int = 0, elapsed: float = 0.0, **fields: Any) -> Any:
    return pause_before_retry(request(**fields), error, attempt, elapsed)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 529])
def test_statuses_that_may_pass(status: int) -> None:
    assert 0.4 <= pause(answered(status)) <= 0.6
    assert 0.8 <= pause(answered(status), attempt=1) <= 1.2
    assert pause(answered(status), attempt=2) is None


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 501, 505])
def test_statuses_that_do_not_pass(status: int) -> None:
    assert pause(answered(status)) is None
    assert pause(answered(status, "1")) is None


def test_connections_that_broke() -> None:
    assert pause(LostError("gone")) is not None
    assert pause(failure(request(), "was silent for 120 seconds before its answer")) is None


def test_errors_in_place_of_an_answer() -> None:
    assert pause(failure(request(), "reported an error", status=503)) is not None
    assert pause(failure(request(), "reported an error", status=400)) is None
    assert pause(failure(request(), "reported an error")) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("0.25", 0.25), ("0", 0.0), ("-3", 0.0), (" 7 ", 7.0), ("20", 20.0)],
)
def test_retry_after_is_honoured(header: str, expected: float) -> None:
    assert pause(answered(429, header)) == expected
    assert pause(answered(503, header)) == expected


def test_retry_after_as_a_moment() -> None:
    moment = format_datetime(utcnow() + timedelta(seconds=9), usegmt=True)
    assert 7.0 <= pause(answered(429, moment)) <= 9.0
    past = format_datetime(utcnow() - timedelta(days=1), usegmt=True)
    assert pause(answered(429, past)) == 0.0


@pytest.mark.parametrize("header", ["soon", "", "nan", "inf", "Fri, 99 Foo 2026"])
def test_retry_after_that_says_nothing(header: str) -> None:
    found = pause(answered(429, header))
    assert found is None or 0.4 <= found <= 0.6
    assert (found is None) == (header == "inf")


def test_no_attempt_begins_after_the_time_for_them() -> None:
    assert pause(answered(429, "21")) is None
    assert pause(answered(429, "7"), attempt=1, elapsed=14.0) is None
    assert pause(answered(429, "7"), attempt=1, elapsed=12.0) == 7.0
    assert pause(LostError("gone"), elapsed=30.0) is None
    assert pause(answered(500), max_retries=0) is None
    assert pause(answered(429, "21"), retry_seconds=60.0) == 21.0


def test_an_account_without_money_is_not_asked_again() -> None:
    body = '{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    assert pause(answered(429, None, body)) is None


def test_models_that_may_not_see_are_not_asked_again_with_the_picture() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    seeing = [{"role": "user", "content": [{"type": "text", "text": "look"}, picture]}]
    assert pause(answered(500), messages=seeing) is None
    assert pause(answered(503), messages=seeing) is not None


class Upstream:
    """Attempts, each some deltas and maybe an error."""

    def __init__(self, *attempts: Sequence[Delta | Exception]) -> None:
        self.attempts = list(attempts)
        self.closed = 0

    async def ask(self, _: ModelRequest) -> AsyncGenerator[Delta, None]:
        try:
            for item in self.attempts.pop(0):
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1


HELLO = (Delta(content="hello"), Delta(finish_reason="stop"))
NOW = answered(503, "0")


async def deltas(upstream: Upstream, **fields: Any) -> list[Delta]:
    return [delta async for delta in retried(upstream.ask, request(**fields))]


async def test_an_answer_after_failures_is_an_answer() -> None:
    upstream = Upstream([NOW], [Delta(), NOW], HELLO)
    assert await deltas(upstream) == [Delta(), *HELLO]
    assert upstream.closed == 3


async def test_the_last_failure_is_the_one_that_is_told() -> None:
    upstream = Upstream([NOW], [NOW], [answered(429, "0")], HELLO)
    with pytest.raises(UpstreamError, match="too many requests"):
        await deltas(upstream)
    assert len(upstream.attempts) == 1


@pytest.mark.parametrize(
    "said",
    [
        Delta(content="a"),
        Delta(thinking="a"),
        Delta(tool_calls=(ToolCallDelta(index=0, id="1", name="f", arguments=""),)),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)),
    ],
)
async def test_nothing_is_said_twice(said: Delta) -> None:
    upstream = Upstream([said, NOW], HELLO)
    stream = retried(upstream.ask, request())
    assert await anext(stream) == said
    with pytest.raises(UpstreamError):
        await anext(stream)
    assert upstream.attempts == [HELLO]


async def test_other_faults_are_passed_on() -> None:
    upstream = Upstream([ValueError("ours")], HELLO)
    with pytest.raises(ValueError, match="ours"):
        await deltas(upstream)


async def test_leaving_and_cancelling_close_the_attempt() -> None:
    upstream = Upstream(HELLO)
    async with aclosing(retried(upstream.ask, request())) as stream:
        async for _ in stream:
            break
    assert upstream.closed == 1
    waiting = Upstream([answered(503, "15")], HELLO)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await deltas(waiting)
    assert time.monotonic() - began < 5
    assert waiting.attempts == [HELLO]
