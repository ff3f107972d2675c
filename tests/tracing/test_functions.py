"""Executions as spans: across processes, attempts and lost pushes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from sinas.kit.time import utcnow
from sinas.models import Execution, ExecutionStatus
from sinas.resources.executions.jobs import SWEEPS
from tests.factories.functions import make_execution, make_function
from tests.resources.executions.support import until

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter
    from tests.support.otlp_receiver import OtlpReceiver
    from tests.tracing.conftest import Tracing

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = {"traceparent": CALLER}
# Calls `inner` through the API, as somebody who passes the trace on.
OUTER = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + "/functions/default/inner/execute",
        data=json.dumps({"input": input_data}).encode(),
        headers={"Authorization": "Bearer " + context["access_token"],
                 "Content-Type": "application/json",
                 "traceparent": context["traceparent"]},
    )
    return json.load(urllib.request.urlopen(request))["result"]
"""
REQUEST = "POST /functions/{namespace}/{name}/execute"


async def test_one_trace_from_request_to_the_call_of_a_call(
    tracing: Tracing, receiver: OtlpReceiver, as_: SignIn, context: AppContext
) -> None:
    user = await as_.user("user")
    await make_function(context, user, OUTER, name="outer")
    await make_function(context, user, name="inner")
    async with tracing.platform("functions") as platform:
        client = await as_("user", live=platform.url)
        answer = await client.post(
            "/functions/default/outer/execute", json={"input": {"secret": "x1"}}, headers=TRACED
        )
        assert answer.json()["result"] == {"secret": "x1"}, answer.text
    outer_request = receiver.named(REQUEST)[0]
    assert receiver.tree(outer_request) == (
        REQUEST,
        [("function.job", [(REQUEST, [("function.job", [])])])],
    )
    assert {span.trace_id for span in receiver.spans} == {CALLER[3:35]}
    assert outer_request.parent_id == CALLER[36:52]
    outer, inner = receiver.named("function.job")
    assert outer.kind == "consumer"
    assert outer.attributes == {
        "faas.name": "default/outer",
        "faas.invocation_id": answer.json()["execution_id"],
        "sinas.execution.attempt": 1,
        "sinas.execution.trigger": "API",
        "user.id": str(user.id),
    }
    assert inner.attributes["faas.name"] == "default/inner"
    assert b"x1" not in receiver.raw


async def test_content_where_it_is_asked_for(
    tracing: Tracing, receiver: OtlpReceiver, as_: SignIn, context: AppContext
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    async with tracing.platform("functions", capture_content=True) as platform:
        client = await as_("user", live=platform.url)
        await client.post("/functions/default/f/execute", json={"input": {"a": 1}})
    job = receiver.one("function.job")
    assert job.attributes["input.value"] == job.attributes["output.value"] == '{"a":1}'


@pytest.mark.parametrize(
    ("code", "columns", "error_type"),
    [
        ("def handler(i, c):\n    raise LookupError('ada')", {}, "LookupError"),
        ("import os\ndef handler(i, c):\n    os._exit(3)", {}, "crashed"),
        ("import time\ndef handler(i, c):\n    time.sleep(9)", {"timeout": 1}, "timeout"),
        ("def handler(i, c):\n    return 1", {"output_schema": {"type": "null"}}, "invalid_result"),
    ],
)
async def test_failures_say_their_type(
    tracing: Tracing,
    receiver: OtlpReceiver,
    as_: SignIn,
    context: AppContext,
    code: str,
    columns: dict[str, object],
    error_type: str,
) -> None:
    await make_function(context, await as_.user("user"), code, name="f", **columns)  # type: ignore[arg-type]
    async with tracing.platform("functions") as platform:
        client = await as_("user", live=platform.url)
        await client.post("/functions/default/f/execute", json={})
    job = receiver.one("function.job")
    assert job.is_error
    assert job.attributes["error.type"] == error_type
    assert job.status_message == ""
    assert b"ada" not in receiver.raw


async def test_every_attempt_is_below_what_caused_the_call(
    tracing: Tracing, receiver: OtlpReceiver, as_: SignIn, context: AppContext
) -> None:
    await make_function(
        context,
        await as_.user("user"),
        "def handler(i, c):\n    raise LookupError",
        name="f",
        idempotent=True,
        retry={"max_attempts": 2, "delay_seconds": 0},
    )
    async with tracing.platform("functions") as platform:
        client = await as_("user", live=platform.url)
        await client.post("/functions/default/f/execute", json={})
    request = receiver.one(REQUEST)
    first, second = receiver.named("function.job")
    assert (first.parent_id, second.parent_id) == (request.id, request.id)
    assert [span.attributes["sinas.execution.attempt"] for span in (first, second)] == [1, 2]


async def test_a_call_whose_push_was_lost_is_found_with_its_trace(
    tracing: Tracing, receiver: OtlpReceiver, as_: SignIn, context: AppContext
) -> None:
    function = await make_function(context, await as_.user("user"), name="f")
    long_ago = utcnow() - timedelta(minutes=1)
    row = await make_execution(context, function, traceparent=CALLER, queued_at=long_ago)
    async with tracing.platform("functions"):
        await next(sweep for sweep in SWEEPS if sweep.name == "executions.requeue").run(context)
        await until(context, row, ExecutionStatus.COMPLETED)
    assert receiver.one("function.job").parent_id == CALLER[36:52]


async def test_without_tracing_nothing_is_stored_and_code_gets_nothing(
    as_: SignIn, context: AppContext, function_worker: object
) -> None:
    code = "def handler(i, c):\n    return 'traceparent' in c"
    await make_function(context, await as_.user("user"), code, name="f")
    client = await as_("user")
    answer = await client.post("/functions/default/f/execute", json={}, headers=TRACED)
    assert answer.json()["result"] is False
    async with context.sessions() as session:
        assert (await session.scalars(select(Execution.traceparent))).all() == [None]


async def test_an_endpoint_that_is_gone_disturbs_nothing(
    tracing: Tracing,
    receiver: OtlpReceiver,
    as_: SignIn,
    context: AppContext,
    query_counter: QueryCounter,
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    receiver.status = 500
    counts = []
    for telemetry in ({"enabled": False}, {}, {"exporter_endpoint": "http://127.0.0.1:9"}):
        async with tracing.platform("functions", **telemetry) as platform:
            client = await as_("user", live=platform.url)
            await client.post("/functions/default/f/execute", json={})
            # OpenTelemetry's exporter would try for ten seconds to deliver.
            async with asyncio.timeout(8):
                with query_counter() as queries:
                    answer = await client.post("/functions/default/f/execute", json={})
            assert answer.json()["status"] == "success"
            # What workers do besides is counted too where it falls into the call.
            counts.append([s for s in queries.statements if "workers" not in s])
    assert len(counts[0]) == len(counts[1]) == len(counts[2])
