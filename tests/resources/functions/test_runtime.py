"""Calling functions over HTTP, with a real worker and a real sandbox."""

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from sinas.context import AppContext
from sinas.errors import PayloadTooLargeError
from sinas.kit.time import utcnow
from sinas.models import TriggerType
from sinas.resources.executions.jobs import SWEEPS
from sinas.resources.executions.service import Trigger
from sinas.resources.functions.calls import FunctionCalls
from sinas.worker import RunningWorker
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.fixtures.client import SignIn
from tests.fixtures.configuration import changed
from tests.fixtures.database import QueryCounter
from tests.support.lanes import jobs_in

ADD = """
def handler(input_data, context):
    print("adding")
    return {"sum": input_data["a"] + input_data["b"]}
"""
NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}


async def execute(client: httpx.AsyncClient, name: str, **body: Any) -> httpx.Response:
    return await client.post(f"/functions/default/{name}/execute", json=body)


async def execution(client: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    found = await client.get(f"/executions/{answer.json()['execution_id']}")
    assert found.status_code == 200, found.text
    row: dict[str, Any] = found.json()
    return row


async def code_run(
    context: AppContext, as_: SignIn, code: str, given: dict[str, Any] | None = None, **columns: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Execute `code` once; the answer's body and the execution's record."""
    await make_function(context, await as_.user("user"), code, name="f", **columns)
    client = await as_("user")
    answer = await execute(client, "f", input=given or {})
    assert answer.status_code == 200, answer.text
    return answer.json(), await execution(client, answer)


async def test_a_call_answers_the_result_and_is_recorded(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    body, row = await code_run(
        context,
        as_,
        ADD,
        {"a": "2", "b": 3},
        input_schema=NUMBERS,
        output_schema={"type": "object", "required": ["sum"]},
    )
    assert body == {
        "status": "success",
        "execution_id": row["id"],
        "result": {"sum": 5},
        "error": None,
    }
    assert row["started_at"] <= row["completed_at"]
    assert row["duration_ms"] >= 0
    expected = {
        "execution_id": row["id"],
        "function_namespace": "default",
        "function_name": "f",
        "trigger_type": "API",
        "trigger_id": "runtime-api",
        "chat_id": None,
        "tool_call_id": None,
        "parent_execution_id": None,
        "status": "COMPLETED",
        "input_data": {"a": 2, "b": 3},
        "output_data": {"sum": 5},
        "error": None,
        "traceback": None,
        "stdout": "adding\n",
        "stderr": None,
    }
    assert {key: row[key] for key in expected} == expected


async def test_the_context_holds_what_the_contract_names(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "def handler(input_data, context):\n    return context"
    body, row = await code_run(context, as_, code)
    seen, user = body["result"], await as_.user("user")
    assert seen["user_id"] == str(user.id)
    assert seen["user_email"] == user.email
    assert seen["execution_id"] == row["id"]
    assert (seen["trigger_type"], seen["chat_id"]) == ("API", None)
    assert "secrets" not in seen
    claims = context.signer.read(seen["access_token"])
    assert (claims.user_id, claims.execution_id) == (user.id, UUID(row["id"]))
    assert claims.limit is None


async def test_the_token_carries_the_callers_limit(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "def handler(input_data, context):\n    return context['access_token']"
    await make_function(context, await as_.user("user"), code, name="f")
    rights = ["sinas.functions/default/f.execute:own"]
    answer = await execute(await as_.key("user", rights), "f")
    assert context.signer.read(answer.json()["result"]).limit == tuple(rights)


async def test_calls_back_are_children_of_the_call(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, live: str
) -> None:
    await make_function(
        context, await as_.user("user"), "def handler(i, c): return 1", name="inner"
    )
    code = """
import json, urllib.request
def handler(input_data, context):
    request = urllib.request.Request(
        context["api_url"] + "/functions/default/inner/execute",
        data=b"{}", method="POST",
        headers={"Authorization": "Bearer " + context["access_token"],
                 "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(request))["result"]
"""
    body, row = await code_run(context, as_, code)
    assert (body["status"], body["result"]) == ("success", 1), body
    client = await as_("user")
    [step] = (await client.get(f"/executions/{row['id']}/steps")).json()
    assert (step["function_name"], step["parent_execution_id"]) == ("inner", row["id"])


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("def handler(i, c):\n    return i['missing']", "KeyError: 'missing'", "line 2"),
        ("x = 1", "No 'handler' function found", ""),
        ("import os\ndef handler(i, c):\n    os._exit(3)", "", ""),
        ("def handler(i, c):\n    return {'a': float('nan')}", "nan", ""),
        ("def handler(i, c):\n    return 'a\\x00b'", "NUL", ""),
        ("def handler(i, c):\n    return 2**70", "64 bits", ""),
        ("def handler(i, c):\n    return 'text'", "'text' is not of type 'object'", ""),
        (
            "def handler(i, c):\n    v = {}\n    for _ in range(300):\n        v = {'v': v}\n    return v",
            "nested deeper",
            "",
        ),
    ],
)
async def test_every_failure_is_an_answer_and_a_record(
    context: AppContext,
    as_: SignIn,
    function_worker: RunningWorker,
    code: str,
    error: str,
    traceback: str,
) -> None:
    body, row = await code_run(context, as_, code, output_schema={"type": "object"})
    assert (body["status"], body["result"]) == ("error", None)
    assert body["error"] == f"Function execution failed: {row['error']}"
    assert error in row["error"]
    assert (row["status"], row["output_data"]) == ("FAILED", None)
    assert traceback in (row["traceback"] or "")


async def test_nul_in_output_and_messages_does_not_lose_the_end(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "def handler(i, c):\n    print('a\\x00b')\n    raise ValueError('c\\x00d')"
    _, row = await code_run(context, as_, code)
    assert row["status"] == "FAILED"
    assert row["stdout"] == "a\N{REPLACEMENT CHARACTER}b\n"
    assert "c\N{REPLACEMENT CHARACTER}d" in row["error"]


async def test_a_call_is_killed_at_its_limit(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(30)"
    body, row = await code_run(context, as_, code, timeout=1)
    assert row["error"] == "Execution timeout after 1s"
    assert body["status"] == "error"


async def test_a_large_result_is_read_from_the_row(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    body, _ = await code_run(context, as_, "def handler(i, c):\n    return 'x' * 1_000_000")
    assert body["result"] == "x" * 1_000_000


async def test_the_named_entry_point_still_works(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    body, _ = await code_run(context, as_, "def f(input_data, context):\n    return 'old'")
    assert body["result"] == "old"


async def test_timeout_limits_only_the_wait(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    code = "import time\ndef handler(i, c):\n    time.sleep(1.5)\n    return 'late'"
    await make_function(context, await as_.user("user"), code, name="f")
    client = await as_("user")
    answer = await execute(client, "f", timeout=1)
    assert (answer.status_code, answer.json()["status"]) == (200, "timeout")
    async with asyncio.timeout(10):
        while (row := await execution(client, answer))["completed_at"] is None:
            await asyncio.sleep(0.05)
    assert (row["status"], row["output_data"]) == ("COMPLETED", "late")


@pytest.mark.parametrize("path", ["execute", "execute/async"])
async def test_bad_input_answers_422_and_leaves_a_record(
    context: AppContext, as_: SignIn, path: str
) -> None:
    await make_function(context, await as_.user("user"), ADD, name="f", input_schema=NUMBERS)
    client = await as_("user")
    answer = await client.post(f"/functions/default/f/{path}", json={"input": {"a": "zzz", "b": 1}})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["detail"] == "Schema validation failed: 'zzz' is not of type 'integer'"
    assert problem["errors"] == [{"field": "input.a", "message": "'zzz' is not of type 'integer'"}]
    row = (await client.get(f"/executions/{answer.headers['X-Execution-ID']}")).json()
    assert (row["status"], row["error"]) == ("FAILED", problem["detail"])
    assert row["input_data"] == {"a": "zzz", "b": 1}
    assert row["completed_at"] is not None
    assert await jobs_in(context, "sinas:queue:functions") == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"x": "\\u0000"}', "NUL"),
        ('{"x": "\\ud800"}', "Unicode"),
        ('{"x": 123456789012345678901234567890}', "64 bits"),
        ('{"x": NaN}', "finite"),
        ('{"x": ' + "[" * 220 + "]" * 220 + "}", "nested"),
        ("[]", "dictionary"),
    ],
)
async def test_input_that_cannot_be_kept_is_refused_without_a_record(
    context: AppContext, as_: SignIn, given: str, words: str
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    answer = await client.post(
        "/functions/default/f/execute",
        content='{"input": ' + given + "}",
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
    assert (await client.get("/executions")).json() == []


async def test_input_above_the_limit_is_refused_without_a_record(
    context: AppContext, as_: SignIn
) -> None:
    user = await as_.user("user")
    await make_function(context, user, name="f")
    small = changed(context.settings, function={"max_input_bytes": 1_000})
    calls = FunctionCalls(
        dataclasses.replace(context, settings=small), await context.authenticator.by_user(user.id)
    )
    trigger = Trigger(type=TriggerType.API, id="test")
    with pytest.raises(PayloadTooLargeError, match="1000"):
        await calls.start("default", "f", {"x": "y" * 2_000}, trigger)
    assert (await (await as_("user")).get("/executions")).json() == []


async def test_async_answers_at_once_and_the_call_runs(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    answer = await client.post(
        "/functions/default/f/execute/async", json={"input": {"x": 1}, "trigger_id": "mine"}
    )
    assert answer.status_code == 202
    assert answer.json().keys() == {"execution_id", "status"}
    assert answer.json()["status"] == "queued"
    async with asyncio.timeout(10):
        while (row := await execution(client, answer))["completed_at"] is None:
            await asyncio.sleep(0.02)
    assert (row["output_data"], row["trigger_id"]) == ({"x": 1}, "mine")


async def test_who_may_execute(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    await make_function(context, await as_.user("user"), name="off", is_active=False)
    # Who owns the function does not matter over HTTP, only the grant on its path.
    assert (await execute(await as_("other"), "f")).status_code == 200
    assert (await execute(await as_("other"), "off")).status_code == 404
    assert (await execute(await as_("other"), "absent")).status_code == 404
    guest = await as_("guest")
    assert (await execute(guest, "f")).status_code == 403
    assert (await execute(guest, "absent")).status_code == 403
    one = await as_(
        await make_user(context, roles=(), permissions=["sinas.functions/default/g.execute:own"])
    )
    assert (await execute(one, "f")).status_code == 403


async def test_a_call_costs_five_statements(
    context: AppContext, as_: SignIn, function_worker: RunningWorker, query_counter: QueryCounter
) -> None:
    await make_function(context, await as_.user("user"), name="f")
    client = await as_("user")
    await execute(client, "f")
    with query_counter() as queries:
        answer = await execute(client, "f")
    assert answer.json()["status"] == "success"
    own = [s for s in queries.statements if "workers" not in s]
    # Caller, function, insert; in the worker: claim, finish.
    assert len(own) == 5, own


async def test_a_lost_push_is_made_up_for(
    context: AppContext, as_: SignIn, function_worker: RunningWorker
) -> None:
    function = await make_function(context, await as_.user("user"), name="f")
    fresh = await make_execution(context, function)
    stale = await make_execution(context, function, queued_at=utcnow() - timedelta(seconds=6))
    await SWEEPS[0].run(context)
    client = await as_("user")
    async with asyncio.timeout(10):
        while (await client.get(f"/jobs/{stale.id}")).json()["status"] != "completed":
            await asyncio.sleep(0.02)
    assert (await client.get(f"/jobs/{fresh.id}")).json()["status"] == "queued"
