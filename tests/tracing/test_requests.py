"""Requests as spans, through the whole application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.client import BASE_URL
from tests.web.conftest import add_failures

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.otlp_receiver import OtlpReceiver
    from tests.tracing.conftest import Tracing

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = {"traceparent": CALLER}


@asynccontextmanager
async def serving(
    context: AppContext, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    from sinas.app import create_app

    app = create_app(context.settings, context)
    add_failures(app)

    @app.get("/broken")
    async def broken() -> None:
        raise LookupError("ada")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as client,
    ):
        yield client


async def test_a_write_is_a_span_of_its_route_and_user(
    tracing: Tracing, receiver: OtlpReceiver, as_: SignIn
) -> None:
    signed_in = await as_("user")
    user = await as_.user("user")
    async with tracing() as context, serving(context) as client:
        headers = {"authorization": signed_in.headers["authorization"], "x-request-id": "r1"}
        answer = await client.put(
            "/api/v1/functions/shop/absent?secret=abc", json={}, headers=headers
        )
        assert answer.status_code == 404
    span = receiver.one("PUT /api/v1/functions/{namespace}/{name}")
    assert span.kind == "server"
    assert span.parent_id == ""
    assert not span.is_error
    assert span.attributes == {
        "http.request.method": "PUT",
        "http.route": "/api/v1/functions/{namespace}/{name}",
        "http.response.status_code": 404,
        "sinas.request.id": "r1",
        "user.id": str(user.id),
    }
    for private in (b"absent", b"abc", headers["authorization"].encode()):
        assert private not in receiver.raw


async def test_reads_are_spans_only_of_callers_that_trace(
    tracing: Tracing, receiver: OtlpReceiver
) -> None:
    async with tracing() as context, serving(context) as client:
        await client.get("/health")
        await client.get("/agents")
        await client.get("/agents", headers=TRACED)
        await client.post("/nowhere/at/all", headers=TRACED)
    assert len(receiver.spans) == 2
    read, lost = receiver.one("GET /agents"), receiver.one("POST")
    for span in (read, lost):
        assert (span.trace_id, span.parent_id) == (CALLER[3:35], CALLER[36:52])
    assert read.attributes["http.response.status_code"] == 401
    assert "http.route" not in lost.attributes


async def test_what_nobody_foresaw_says_its_type(tracing: Tracing, receiver: OtlpReceiver) -> None:
    async with tracing() as context, serving(context, TRACED) as client:
        answer = await client.get("/sql", params={"statement": "SELECT 'ada' FROM nowhere"})
        assert answer.status_code == 500
        assert (await client.get("/broken")).status_code == 500
    database, bug = receiver.one("GET /sql"), receiver.one("GET /broken")
    assert database.is_error
    assert bug.is_error
    assert database.attributes["error.type"] == "500"
    assert bug.attributes["error.type"] == "LookupError"
    assert b"ada" not in receiver.raw


@pytest.mark.parametrize("given", ["00-zz", "é" * 20, CALLER[:-1], CALLER.upper()])
async def test_a_malformed_traceparent_is_none(
    tracing: Tracing, receiver: OtlpReceiver, given: str
) -> None:
    async with tracing() as context, serving(context) as client:
        headers = [(b"traceparent", given.encode())]
        await client.get("/agents", headers=headers)
        await client.post("/auth/logout", headers=headers)
    assert receiver.one("POST /auth/logout").parent_id == ""
    assert len(receiver.spans) == 1
