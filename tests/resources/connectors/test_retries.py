"""When a call is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sinas.resources.connectors.retries import wait_seconds
from tests.resources.connectors.conftest import Make
from tests.support.outside import OK, Outside, reply

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
async def test_until_it_is_answered(make: Make, service: Outside, status: int) -> None:
    made = await make(retry={"max_attempts": 3})
    service.answers = [reply(None, status), reply(None, status, "Retry-After: 0")]
    assert (await made.result())["status_code"] == 200
    assert len(service.received) == 3


async def test_the_last_answer_is_the_result(make: Make, service: Outside) -> None:
    made = await make(retry={"max_attempts": 2})
    service.says({"busy": True}, 503)
    result = await made.result()
    assert (result["status_code"], result["body"]) == (503, {"busy": True})
    assert len(service.received) == 2


@pytest.mark.parametrize("status", [200, 302, 400, 404, 409])
async def test_other_answers_are_final(make: Make, service: Outside, status: int) -> None:
    made = await make(retry={"max_attempts": 5})
    service.answer = reply(None, status)
    assert (await made.result())["status_code"] == status
    assert len(service.received) == 1


async def test_one_attempt_is_the_default(make: Make, service: Outside) -> None:
    service.answer = reply(None, 503)
    assert (await (await make()).result())["status_code"] == 503
    assert len(service.received) == 1


async def test_after_a_timeout(make: Make, service: Outside) -> None:
    # More attempts than are needed: on a busy machine an answered one may be late, too.
    made = await make(retry={"max_attempts": 5}, timeout_seconds=1)
    service.answers = [None]
    assert (await made.result())["status_code"] == 200
    assert len(service.received) >= 2


async def test_after_a_broken_connection(make: Make, service: Outside) -> None:
    made = await make(retry={"max_attempts": 2})
    service.answers = [b"nonsense\r\n\r\n"]
    assert (await made.result())["status_code"] == 200
    assert len(service.received) == 2


@pytest.mark.parametrize(
    ("operation", "sent"),
    [
        ({"method": "GET"}, 2),
        ({"method": "PUT"}, 2),
        ({"method": "DELETE"}, 2),
        ({"method": "POST"}, 1),
        ({"method": "PATCH"}, 1),
        ({"method": "POST", "idempotent": True}, 2),
        ({"method": "GET", "idempotent": False}, 1),
    ],
)
@pytest.mark.parametrize("first", [reply(None, 503), reply(None, 429), b"nonsense\r\n\r\n"])
async def test_what_may_have_been_done_is_not_done_again(
    make: Make, service: Outside, operation: dict[str, Any], sent: int, first: bytes
) -> None:
    made = await make(operation, retry={"max_attempts": 2})
    service.answers = [first]
    answer = await made.test()
    assert len(service.received) == sent
    assert (answer.status_code == 200 and answer.json()["status_code"] == 200) is (sent == 2)


async def test_what_was_not_sent_may_always_be_tried_again(make: Make, service: Outside) -> None:
    made = await make({"method": "POST"}, retry={"max_attempts": 2, "backoff": "linear"})
    port = service.port
    await service.__aexit__()
    import asyncio

    async with asyncio.TaskGroup() as group:
        call = group.create_task(made.test())
        await asyncio.sleep(0.3)
        async with Outside(tls=False, host="127.0.0.2", port=port) as again:
            again.answer = OK
            answer = await call
    assert answer.json()["status_code"] == 200
    assert len(again.received) == 1


async def test_a_wait_that_is_too_long_is_not_waited_for(make: Make, service: Outside) -> None:
    made = await make(retry={"max_attempts": 2})
    service.answer = reply(None, 429, "Retry-After: 86400")
    result = await made.result()
    assert (result["status_code"], result["headers"]["retry-after"]) == (429, "86400")
    assert len(service.received) == 1


@pytest.mark.parametrize(
    ("backoff", "attempt", "retry_after", "seconds"),
    [
        ("none", 1, None, 0),
        ("none", 1, "7", 7),
        ("linear", 1, None, 1),
        ("linear", 3, None, 3),
        ("exponential", 1, None, 0.5),
        ("exponential", 4, None, 4),
        ("exponential", 10, None, 30),
        ("exponential", 2, "1", 1),
        ("exponential", 2, "9", 9),
        ("none", 1, "Thu, 01 Jan 2026 00:00:10 GMT", 10),
        ("none", 1, "Wed, 31 Dec 2025 00:00:10 GMT", 0),
        ("none", 1, "soon", 0),
        ("none", 1, "-5", 0),
        ("none", 1, "1.5", 0),
        ("none", 1, "٣", 0),
        ("none", 1, "", 0),
        ("none", 1, "Thu, 01 Jan 99999999999 00:00:10 GMT", 0),
    ],
)
def test_waits(backoff: str, attempt: int, retry_after: str | None, seconds: float) -> None:
    assert wait_seconds(backoff, attempt, retry_after, NOW) == seconds
