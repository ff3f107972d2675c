"""Raw answers: what a function may say over HTTP, and what stays the platform's."""

import json
from typing import Any

import httpx
import pytest

from sinas.context import AppContext
from sinas.worker import RunningWorker
from tests.factories.functions import make_function
from tests.factories.webhooks import make_webhook
from tests.fixtures.client import SignIn

# Returns what it is told to.
GIVEN = "def handler(input_data, context):\n    return input_data['input']"


@pytest.fixture
async def hook(context: AppContext, as_: SignIn, function_worker: RunningWorker) -> None:
    owner = await as_.user("owner")
    function = await make_function(context, owner, GIVEN)
    await make_webhook(context, owner, function, path="raw", response_mode="raw")


async def call(client: httpx.AsyncClient, result: Any) -> httpx.Response:
    return await client.post("/webhooks/raw", json={"input": result})


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize(
    ("result", "status", "kind", "body"),
    [
        ({"a": [1]}, 200, "application/json", '{"a":[1]}'),
        ([1, "x"], 200, "application/json", '[1,"x"]'),
        ("héllo", 200, "text/plain; charset=utf-8", "héllo"),
        (7, 200, "application/json", "7"),
        (None, 200, "application/json", "null"),
        ({"_status": 201, "_body": {"id": 1}}, 201, "application/json", '{"id":1}'),
        ({"_body": "x"}, 200, "text/plain; charset=utf-8", "x"),
        ({"_status": 204}, 204, None, ""),
        ({"_status": 204, "_body": "none"}, 204, None, ""),
        ({"_status": 418, "_body": ""}, 418, "text/plain; charset=utf-8", ""),
        (
            {"_headers": {"Content-Type": "text/html"}, "_body": "<b>x</b>"},
            200,
            "text/html",
            "<b>x</b>",
        ),
        (
            {"_headers": {"content-type": "application/xml"}, "_body": "<a/>"},
            200,
            "application/xml",
            "<a/>",
        ),
    ],
)
async def test_raw_results(
    client: httpx.AsyncClient, result: Any, status: int, kind: str | None, body: str
) -> None:
    answer = await call(client, result)
    assert (answer.status_code, answer.text) == (status, body)
    assert answer.headers.get("content-type") == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert "allow-same-origin" not in answer.headers["content-security-policy"]
    assert answer.headers["x-execution-id"]


@pytest.mark.usefixtures("hook")
async def test_headers_that_are_the_functions_and_those_that_are_not(
    client: httpx.AsyncClient,
) -> None:
    mine = {"X-Mine": "1", "Location": "/next", "Cache-Control": "no-store", "X-Count": 3}
    not_mine = {
        "Set-Cookie": "session=evil",
        "Transfer-Encoding": "chunked",
        "Content-Length": "1",
        "Connection": "close",
        "Access-Control-Allow-Origin": "https://evil.example",
        "Content-Security-Policy": "none",
        "X-Content-Type-Options": "sniff",
        "X-Request-ID": "forged",
        "Clear-Site-Data": "*",
    }
    result = {"_status": 302, "_headers": {**mine, **not_mine}, "_body": "body"}
    answer = await call(client, result)
    assert (answer.status_code, answer.text) == (302, "body")
    assert {name: answer.headers[name] for name in mine} == {
        name: str(value) for name, value in mine.items()
    }
    for name, value in not_mine.items():
        assert answer.headers.get(name) != value, name
    assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"_status": 99}, "_status"),
        ({"_status": 101}, "_status"),
        ({"_status": 600}, "_status"),
        ({"_status": "200"}, "_status"),
        ({"_status": True}, "_status"),
        ({"_headers": ["a"]}, "_headers"),
        ({"_headers": {"X-A": "a\r\nSet-Cookie: s=1"}}, "_headers"),
        ({"_headers": {"X-A\r\nX-B": "a"}}, "_headers"),
        ({"_headers": {"X A": "a"}}, "_headers"),
        ({"_headers": {"": "a"}}, "_headers"),
        ({"_headers": {"X-A": "日"}}, "_headers"),
        ({"_headers": {"X-A": {"b": 1}}}, "_headers"),
        ({"_headers": {"X-A": None}}, "_headers"),
    ],
)
async def test_what_cannot_be_sent_is_a_failure(
    client: httpx.AsyncClient, said: dict[str, Any], reason: str
) -> None:
    answer = await call(client, {**said, "_body": "x"})
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith(f"Function execution failed: {reason}")
    assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("hook")
async def test_the_keys_are_a_plain_result_in_sync_mode(
    context: AppContext, as_: SignIn, client: httpx.AsyncClient
) -> None:
    owner = await as_.user("owner")
    function = await make_function(context, owner, GIVEN)
    await make_webhook(context, owner, function, path="sync")
    result = {"_status": 500, "_body": "x"}
    answer = await client.post("/webhooks/sync", json={"input": result})
    assert (answer.status_code, json.loads(answer.text)["result"]) == (200, result)
