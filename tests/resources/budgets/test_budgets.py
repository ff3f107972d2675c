"""Limits of what models may cost: kept by turns and direct calls, set by admins."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.chat.support import Talks, names
from tests.factories.usage import make_budget, make_model_call
from tests.support.llm_script import Answer

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.llm_upstream import LlmUpstream

PATH = "/api/v1/budgets"
FINAL = Answer(chunks=("the ", "end"), usage=(60, 30))
workers = pytest.mark.usefixtures("agent_worker")


@pytest.fixture
def talks(context: AppContext, as_: SignIn, llm: LlmUpstream) -> Talks:
    return Talks(context, as_, llm)


@workers
async def test_a_spent_budget_stops_before_the_call(talks: Talks) -> None:
    talk = await talks([FINAL], namespace="shop", name="helper")
    await make_budget(
        talks.context, name="the shop", agent_namespace="shop", agent_name="*", limit_tokens=100
    )
    first = await talk.stream()
    assert "budget_warning" not in names(first)
    second = await talk.stream()
    (warning,) = [e.data for e in second if e.name == "budget_warning"]
    assert (warning["spent"], warning["limit"], warning["unit"]) == (90, 100, "tokens")
    assert warning["budget"] == "the shop"
    asked = len(talks.llm.requests)
    answer = await talk.send()
    assert (answer.status_code, answer.json()["code"]) == (429, "budget_exceeded")
    assert "'the shop'" in answer.json()["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 86_401
    assert (await talk.stream())[-1].name == "error"
    assert len(talks.llm.requests) == asked


@workers
@pytest.mark.parametrize(
    ("budget", "is_spent"),
    [
        ({"limit_usd": Decimal("0.5")}, True),
        ({"limit_usd": Decimal("0.6")}, False),
        ({"agent_namespace": "shop", "agent_name": "helper", "limit_tokens": 15}, True),
        ({"agent_namespace": "*", "agent_name": "*", "limit_tokens": 15}, True),
        ({"agent_namespace": "shop", "agent_name": "other", "limit_tokens": 1}, False),
        ({"limit_tokens": 1, "is_active": False}, False),
    ],
)
async def test_what_counts(talks: Talks, budget: dict[str, Any], is_spent: bool) -> None:
    await make_model_call(talks.context, await talks.as_.user("other"))
    await make_budget(talks.context, **budget)
    talk = await talks([FINAL], namespace="shop", name="helper")
    assert ((await talk.send()).status_code == 429) is is_spent


@workers
async def test_a_users_budget_is_for_that_user(talks: Talks) -> None:
    user, other = await talks.as_.user("user"), await talks.as_.user("other")
    await make_model_call(talks.context, user)
    await make_model_call(talks.context, other)
    await make_budget(talks.context, for_user_id=other.id, limit_tokens=10)
    talk = await talks([FINAL], who="user")
    assert (await talk.send()).status_code == 200
    talk = await talks([FINAL], who="other", provider={"name": "second"})
    assert (await talk.send()).status_code == 429


async def test_managing(as_: SignIn) -> None:
    admin = await as_("admin")
    user = await as_.user("user")
    body = {
        "name": "b",
        "agent": "shop/*",
        "user_id": str(user.id),
        "limit_usd": 5.5,
        "limit_tokens": 1000,
    }
    made = (await admin.post(PATH, json=body)).json()
    assert {k: made[k] for k in body} == body
    assert (made["warn_at"], made["is_active"]) == (0.8, True)
    one = f"{PATH}/{made['id']}"
    assert (await admin.get(PATH)).json() == [made]
    assert (await admin.get(one)).json() == made
    changed = (await admin.patch(one, json={"limit_usd": None, "warn_at": 0.5})).json()
    assert (changed["limit_usd"], changed["limit_tokens"], changed["warn_at"]) == (None, 1000, 0.5)
    refused = await admin.patch(one, json={"limit_tokens": None})
    assert refused.status_code == 422
    assert (await admin.get(one)).json()["limit_tokens"] == 1000
    assert (await admin.delete(one)).status_code == 204
    assert (await admin.get(one)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"limit_tokens": 10},
        {"name": "b"},
        {"name": "b", "limit_usd": 0},
        {"name": "b", "limit_tokens": 10, "agent": "no-slash"},
        {"name": "b", "limit_tokens": 10, "user_id": "01a21489-99ea-7272-bba2-1991e71ad3c1"},
        {"name": "b", "limit_tokens": 10, "warn_at": 2},
        {"name": "b", "limit_tokens": 10, "unknown": 1},
    ],
)
async def test_bad_bodies(as_: SignIn, body: dict[str, Any]) -> None:
    admin = await as_("admin")
    assert (await admin.post(PATH, json=body)).status_code == 422
    assert (await admin.get(PATH)).json() == []


async def test_only_admins(as_: SignIn) -> None:
    user = await as_("user")
    assert (await user.get(PATH)).status_code == 403
    assert (await user.post(PATH, json={"name": "b", "limit_tokens": 1})).status_code == 403
