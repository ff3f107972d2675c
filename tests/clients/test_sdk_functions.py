"""Functions, executions, batches and webhooks through the SDK."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chat.support import Talks, until
from tests.clients.sdk import Sdk, SdkError
from tests.factories.functions import make_function
from tests.factories.webhooks import make_webhook

pytestmark = pytest.mark.usefixtures("function_worker")
DOUBLE = """
def handler(input_data, context):
    return input_data["n"] * 2
"""
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ASKS = """
def handler(input_data, context):
    first = input("Name? ")
    return first + " " + input("Surname? ")
"""
CALLS = """
import json
import urllib.request

def handler(input_data, context):
    request = urllib.request.Request(
        f"{context['api_url']}/functions/default/double/execute",
        json.dumps({"input": {"n": 4}}).encode(),
        {"Authorization": f"Bearer {context['access_token']}", "Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request))["result"]
"""


async def when(sdk: Sdk, method: str, key: str, is_so: Callable[[dict[str, Any]], bool]) -> Any:
    """What it answers once that is so."""
    found: dict[str, Any] = {}

    async def looked() -> bool:
        found.clear()
        found.update(await sdk(method, key))
        return is_so(found)

    await until(looked)
    return found


async def ended(sdk: Sdk, execution_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await when(
        sdk, "executions.get", execution_id, lambda row: row["completed_at"] is not None
    )
    return found


async def double(talks: Talks) -> Any:
    owner = await talks.as_.user("user")
    return await make_function(talks.context, owner, DOUBLE, name="double", input_schema=SCHEMA)


async def test_a_queued_call(sdk: Sdk, talks: Talks) -> None:
    await double(talks)
    queued = await sdk("functions.enqueue", "default", "double", {"n": 4}, trigger_id="order-7")
    assert queued["status"] == "queued"
    row = await ended(sdk, queued["execution_id"])
    assert (row["status"], row["output_data"], row["trigger_id"]) == ("COMPLETED", 8, "order-7")
    later = await sdk("functions.enqueue", "default", "double", {"n": 1}, delay_seconds=3600)
    listed = await sdk("executions.list", function_name="double")
    assert [each["id"] for each in listed] == [later["execution_id"], queued["execution_id"]]
    done = await sdk("executions.list", status="completed", skip=0, limit=10)
    assert [each["id"] for each in done] == [queued["execution_id"]]
    with pytest.raises(SdkError) as refused:
        await sdk("functions.enqueue", "default", "double", {"n": "x"})
    assert refused.value.type == "SinasValidationError"


async def test_what_a_call_has_called(sdk: Sdk, talks: Talks) -> None:
    await double(talks)
    owner = await talks.as_.user("user")
    await make_function(talks.context, owner, CALLS, name="calls")
    queued = await sdk("functions.enqueue", "default", "calls")
    row = await ended(sdk, queued["execution_id"])
    assert row["output_data"] == 8, row["traceback"]
    [step] = await sdk("executions.get_steps", queued["execution_id"])
    assert (step["function_name"], step["status"]) == ("double", "COMPLETED")


async def test_a_call_that_asks(sdk: Sdk, talks: Talks) -> None:
    owner = await talks.as_.user("user")
    await make_function(talks.context, owner, ASKS, name="asks", shared_pool=True)
    queued = await sdk("functions.enqueue", "default", "asks")
    key = queued["execution_id"]
    row = await when(sdk, "executions.get", key, lambda row: row["status"] == "AWAITING_INPUT")
    assert row["prompt"] == "Name? "
    once = await sdk("executions.continue_execution", key, {"value": "Ada"})
    assert (once["status"], once["prompt"]) == ("AWAITING_INPUT", "Surname? ")
    twice = await sdk("executions.continue_execution", key, {"value": "Lovelace"})
    assert (twice["status"], twice["output_data"]) == ("COMPLETED", "Ada Lovelace")


async def test_a_batch_of_calls(sdk: Sdk, talks: Talks) -> None:
    await double(talks)
    submitted = await sdk(
        "functions.submit_batch",
        "default",
        "double",
        [{"n": 1}, {"n": "x"}, {"n": 3}],
        trigger_id_prefix="run-7",
    )
    batch_id = submitted["batch_id"]
    done = await when(sdk, "batches.get", batch_id, lambda b: b["finished_at"] is not None)
    assert (done["completed"], done["failed"], done["status"]) == (2, 1, "partial")
    rows = await sdk("batches.list_executions", batch_id)
    assert [row["execution_id"] for row in rows] == submitted["execution_ids"]
    assert [row["trigger_id"] for row in rows] == ["run-7:0", "run-7:1", "run-7:2"]
    failed = await sdk("batches.list_executions", batch_id, status="failed", limit=5, offset=0)
    assert [row["execution_id"] for row in failed] == [submitted["execution_ids"][1]]
    late = await sdk(
        "functions.submit_batch", "default", "double", [{"n": 1}] * 2, delay_seconds=3600
    )
    cancelled = await sdk("batches.cancel", late["batch_id"])
    assert (cancelled["status"], cancelled["cancelled_children"]) == ("cancelled", 2)


@pytest.mark.usefixtures("agent_worker")
async def test_a_batch_of_chats(sdk: Sdk, talks: Talks) -> None:
    talk = await talks(model="echo", input_schema=SCHEMA)
    submitted = await sdk(
        "agents.submit_batch",
        talk.agent.namespace,
        talk.agent.name,
        [
            {"input_variables": {"n": 1}, "message": "one"},
            {"input_variables": {"n": 2}, "message": "two"},
        ],
        trigger_id_prefix="letters",
    )
    assert submitted.keys() >= {"batch_id", "execution_ids", "chat_ids", "total", "status"}
    batch_id = submitted["batch_id"]
    done = await when(sdk, "batches.get", batch_id, lambda b: b["finished_at"] is not None)
    assert (done["kind"], done["completed"], done["status"]) == ("agent", 2, "completed")
    rows = await sdk("batches.list_executions", batch_id, status="completed")
    assert [row["chat_id"] for row in rows] == submitted["chat_ids"]
    for chat_id, said in zip(submitted["chat_ids"], ("one", "two"), strict=True):
        chat = await sdk("chats.get", chat_id)
        assert chat["messages"][-1]["content"] == said
    ended_already = await sdk("batches.cancel", batch_id)
    assert (ended_already["status"], ended_already["cancelled_children"]) == ("completed", 0)


async def test_callbacks_need_an_allowed_host(sdk: Sdk, talks: Talks) -> None:
    await double(talks)
    url = "https://hooks.example.com/"
    for method, given in (
        ("functions.enqueue", {"n": 1}),
        ("functions.submit_batch", [{"n": 1}]),
    ):
        with pytest.raises(SdkError) as refused:
            await sdk(method, "default", "double", given, callback_url=url)
        assert refused.value.status == 400
        assert "CALLBACK_URL_HOSTS" in str(refused.value)


async def test_webhooks(sdk: Sdk, talks: Talks) -> None:
    owner = await talks.as_.user("user")
    function = await double(talks)
    await make_webhook(talks.context, owner, function, path="double", requires_auth=True)
    await make_webhook(
        talks.context, owner, function, path="later", http_method="PUT", response_mode="async"
    )
    answer = await sdk("webhooks.run", "double", body={"n": 4}, headers={"X-Custom": "value"})
    assert (answer["success"], answer["result"]) == (True, 8)
    assert (await sdk("executions.get", answer["execution_id"]))["trigger_type"] == "WEBHOOK"
    queued = await sdk("webhooks.run", "later", method="PUT", body={"n": 5}, query={"a": "b"})
    assert (await ended(sdk, queued["execution_id"]))["output_data"] == 10
    with pytest.raises(SdkError) as refused:
        await sdk("webhooks.run", "nowhere")
    assert refused.value.type == "SinasNotFoundError"
