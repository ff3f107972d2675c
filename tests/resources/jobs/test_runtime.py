"""The state and the result of queued work, over HTTP."""

import pytest

from sinas.context import AppContext
from sinas.models import ExecutionStatus, TurnStatus
from tests.factories.chats import make_agent, make_chat, make_message, make_turn
from tests.factories.functions import make_execution, make_function
from tests.fixtures.client import SignIn


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (ExecutionStatus.PENDING, "queued"),
        (ExecutionStatus.RUNNING, "running"),
        (ExecutionStatus.AWAITING_INPUT, "running"),
        (ExecutionStatus.COMPLETED, "completed"),
        (ExecutionStatus.FAILED, "failed"),
        (ExecutionStatus.CANCELLED, "cancelled"),
    ],
)
async def test_a_function_call_is_a_job(
    context: AppContext, as_: SignIn, stored: ExecutionStatus, shown: str
) -> None:
    function = await make_function(context, await as_.user("user"), name="f")
    row = await make_execution(context, function, status=stored, output_data=[1], error="why")
    client = await as_("user")
    job = (await client.get(f"/jobs/{row.id}")).json()
    assert job == {
        "job_id": str(row.id),
        "status": shown,
        "queue": "functions",
        "execution_id": str(row.id),
        "function": "default/f",
        "trigger_type": "API",
        "chat_id": None,
        "channel_id": None,
        "agent": None,
        "error": "why",
        "enqueued_at": row.created_at.timestamp(),
    }
    result = await client.get(f"/jobs/{row.id}/result")
    if shown in ("queued", "running"):
        assert result.status_code == 409
        assert shown in result.json()["detail"]
    else:
        assert result.json() == {
            "job_id": str(row.id),
            "status": shown,
            "result": [1] if shown == "completed" else None,
            "error": "why",
        }


async def test_a_turn_is_a_job(context: AppContext, as_: SignIn) -> None:
    user = await as_.user("user")
    agent = await make_agent(context, user, name="bot")
    chat = await make_chat(context, user, agent)
    reply = await make_message(context, chat, "assistant", "Hello")
    turn = await make_turn(
        context, chat, TurnStatus.COMPLETED, channel_id="c1", reply_message_id=reply.id
    )
    waiting = await make_turn(context, chat, TurnStatus.WAITING)
    client = await as_("user")
    job = (await client.get(f"/jobs/{turn.id}")).json()
    shown = {key: job[key] for key in ("status", "queue", "chat_id", "channel_id", "agent")}
    assert shown == {
        "status": "completed",
        "queue": "agents",
        "chat_id": str(chat.id),
        "channel_id": "c1",
        "agent": "default/bot",
    }
    assert (await client.get(f"/jobs/{turn.id}/result")).json()["result"] == "Hello"
    assert (await client.get(f"/jobs/{waiting.id}")).json()["status"] == "running"
    assert (await (await as_("other")).get(f"/jobs/{turn.id}")).status_code == 404
