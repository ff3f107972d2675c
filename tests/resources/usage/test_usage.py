"""What models used and cost: recorded by turns and by direct calls, reported to those it concerns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from sinas.models import ModelCall
from tests.chat.support import Talk, Talks
from tests.factories.functions import make_function
from tests.factories.usage import make_model_call
from tests.support.llm_script import Answer, Call

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.llm_upstream import LlmUpstream

PRICES = {"prices": {"scripted": {"input": 1, "output": 10}}}
FINAL = Answer(chunks=("the ", "end"), usage=(100, 50))
workers = pytest.mark.usefixtures("agent_worker", "function_worker")


@pytest.fixture
def talks(context: AppContext, as_: SignIn, llm: LlmUpstream) -> Talks:
    return Talks(context, as_, llm)


async def calls(talks: Talks) -> list[ModelCall]:
    async with talks.context.sessions() as session:
        return list((await session.scalars(select(ModelCall).order_by(ModelCall.id))).all())


async def tool_talk(talks: Talks, **more: Any) -> Talk:
    await make_function(talks.context, await talks.as_.user(), namespace="shop", name="echo")
    round_ = Answer(calls=(Call("shop__echo"),), usage=(1000, 10))
    return await talks(
        [round_, FINAL],
        namespace="shop",
        name="helper",
        enabled_functions=["shop/*"],
        provider={"name": "mine", "config": PRICES},
        **more,
    )


@workers
async def test_each_call_of_a_turn_is_recorded_once(talks: Talks) -> None:
    talk = await tool_talk(talks)
    body = (await talk.send()).json()
    assert body["usage"] == {
        "calls": 2,
        "prompt_tokens": 1100,
        "completion_tokens": 60,
        "total_tokens": 1160,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "unpriced_calls": 0,
        "errors": 0,
        "cost_usd": pytest.approx(0.0017),
    }
    first, second = await calls(talks)
    assert (first.cost_usd, second.cost_usd) == (Decimal("0.0011"), Decimal("0.0006"))
    (turn,) = await talk.turns()
    assert {(c.turn_id, str(c.chat_id), c.agent_name) for c in (first, second)} == {
        (turn.id, talk.chat_id, "helper")
    }
    (read,) = (await talk.client.get(f"/chats/{talk.chat_id}/usage")).json()
    assert (read["turn_id"], read["usage"]) == (str(turn.id), body["usage"])
    stranger = await talks.as_("stranger")
    assert (await stranger.get(f"/chats/{talk.chat_id}/usage")).status_code == 404


@workers
async def test_calls_without_a_price_cost_nobody_knows_what(talks: Talks) -> None:
    talk = await talks([FINAL])
    usage = (await talk.send()).json()["usage"]
    assert (usage["cost_usd"], usage["unpriced_calls"]) == (None, 1)
    (call,) = await calls(talks)
    assert (call.cost_usd, call.total_tokens) == (None, 150)


@workers
async def test_failed_calls_are_recorded_with_their_reason(talks: Talks) -> None:
    talk = await talks([Answer(status=400)])
    assert (await talk.send()).status_code == 502
    (call,) = await calls(talks)
    assert (call.error_code, call.total_tokens) == ("upstream_error", 0)
    assert (await talk.turns())[0].usage["errors"] == 1


async def test_it_is_reported_by_group(context: AppContext, as_: SignIn) -> None:
    user, other = await as_.user("user"), await as_.user("other")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await make_model_call(context, user, created_at=yesterday)
    await make_model_call(context, user, agent_name="second", cost_usd=None)
    await make_model_call(context, user, error_code="upstream_error", total_tokens=0, cost_usd=None)
    await make_model_call(context, other, cost_usd=Decimal(2))
    admin, mine = await as_("admin"), await as_("user")

    async def report(client: Any = admin, **query: Any) -> Any:
        answer = await client.get("/api/v1/usage", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    whole = await report()
    assert [item["key"] for item in whole["items"]] == [
        f"{yesterday:%Y-%m-%d}",
        f"{datetime.now(UTC):%Y-%m-%d}",
    ]
    totals = whole["totals"]
    assert (totals["calls"], totals["errors"], totals["unpriced_calls"]) == (3, 1, 1)
    assert (totals["cost_usd"], totals["total_tokens"]) == (2.5, 45)
    by_user = await report(group_by="user")
    assert [item["key"] for item in by_user["items"]] == [str(other.id), str(user.id)]
    by_agent = await report(group_by="agent")
    assert [i["key"] for i in by_agent["items"]] == ["shop/helper", "shop/second"]
    assert (await report(agent="shop/second"))["totals"]["calls"] == 1
    assert (await report(group_by="model", limit=1))["items"][0]["key"] == "m"
    own = await report(mine, group_by="user")
    assert [item["key"] for item in own["items"]] == [str(user.id)]
    assert (await report(mine, user_id=str(other.id)))["totals"]["calls"] == 0
    until = f"{yesterday + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"
    assert (await report(to=until))["totals"]["calls"] == 1
    wrong = await admin.get("/api/v1/usage", params={"from": until, "to": until})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "from")
    guest = await as_("guest")
    assert (await guest.get("/api/v1/usage")).status_code == 403


async def test_prices_of_a_provider_are_checked(as_: SignIn) -> None:
    admin = await as_("admin")
    body = {"name": "p", "provider_type": "openai", "config": {"prices": {"m": {"input": -1}}}}
    answer = await admin.post("/api/v1/llm-providers", json=body)
    assert answer.status_code == 422
    assert "prices.m" in answer.json()["detail"]
