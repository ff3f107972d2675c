"""Request ids, body limits and CORS, through the whole application."""

from collections.abc import AsyncIterator

import httpx
import pytest

from sinas.app import EXPOSED_HEADERS
from sinas.web.middleware import MAX_BODY_BYTES
from tests.web.test_problems import assert_problem

JSON = {"content-type": "application/json"}


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body whose length nobody announces."""
    piece = b" " * 1_048_576
    for _ in range(size // len(piece)):
        yield piece
    yield b" " * (size % len(piece))


@pytest.mark.parametrize("path", ["/echo", "/json", "/shape", "/api/v1/json"])
async def test_an_announced_body_above_the_limit(http: httpx.AsyncClient, path: str) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    answer = await http.post(path, content=body, headers=JSON)
    assert_problem(answer, 413, "payload_too_large")
    assert "32 MiB" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/echo", "/json", "/api/v1/json"])
async def test_a_streamed_body_above_the_limit(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.post(path, content=chunks(MAX_BODY_BYTES + 1), headers=JSON)
    assert_problem(answer, 413, "payload_too_large")


async def test_a_body_of_exactly_the_limit(http: httpx.AsyncClient) -> None:
    answer = await http.post("/echo", content=chunks(MAX_BODY_BYTES))
    assert answer.json() == MAX_BODY_BYTES


async def test_a_lying_content_length_does_not_help(http: httpx.AsyncClient) -> None:
    headers = {"content-length": "5"}
    answer = await http.post("/echo", content=chunks(MAX_BODY_BYTES + 1), headers=headers)
    assert_problem(answer, 413)


async def test_a_request_id_is_made(http: httpx.AsyncClient) -> None:
    first, second = await http.get("/health"), await http.get("/health")
    assert len(first.headers["x-request-id"]) >= 16
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_a_sane_request_id_is_kept(http: httpx.AsyncClient) -> None:
    answer = await http.get("/nowhere", headers={"X-Request-ID": "client-42"})
    assert answer.headers["x-request-id"] == "client-42"
    assert answer.json()["request_id"] == "client-42"


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"caf\xe9", b"a\tb"])
async def test_an_odd_request_id_is_replaced(http: httpx.AsyncClient, given: bytes) -> None:
    answer = await http.get("/health", headers={b"X-Request-ID": given})
    assert answer.headers["x-request-id"].isalnum()
    assert answer.headers["x-request-id"].encode() != given


async def test_a_browser_elsewhere_may_call_and_read(http: httpx.AsyncClient) -> None:
    preflight = {
        "Origin": "http://console.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,x-api-key",
    }
    answer = await http.options("/api/v1/agents/a/b", headers=preflight)
    assert answer.status_code == 200
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "x-api-key" in answer.headers["access-control-allow-headers"]
    answer = await http.get("/health", headers={"Origin": "http://console.example"})
    exposed = {h.strip() for h in answer.headers["access-control-expose-headers"].split(",")}
    assert set(EXPOSED_HEADERS) <= exposed
    # Any origin and cookies together would let every page act for its visitor.
    assert "access-control-allow-credentials" not in answer.headers
