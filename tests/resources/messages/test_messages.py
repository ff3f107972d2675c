"""Messages of all chats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.chats import make_agent, make_chat, make_message

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/messages"


@pytest.fixture
async def said(context: AppContext, as_: SignIn) -> None:
    user, other = await as_.user("user"), await as_.user("other")
    agent = await make_agent(context, user, namespace="shop", name="helper")
    mine = await make_chat(context, user, agent, title="Mine")
    theirs = await make_chat(context, other, None, title="Theirs")
    await make_message(context, mine, content="where is 100% of it?")
    await make_message(context, mine, "assistant", "here")
    old = datetime.now(UTC) - timedelta(days=10)
    await make_message(context, theirs, content="a secret", created_at=old)


async def listed(client: Any, **query: Any) -> Any:
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("said")
async def test_everybodys_for_admins_and_ones_own_for_others(as_: SignIn) -> None:
    admin, user = await as_("admin"), await as_("user")
    everything = await listed(admin)
    assert [m["content"] for m in everything["messages"]] == [
        "a secret",
        "here",
        "where is 100% of it?",
    ]
    assert everything["total"] == 3
    assert everything["messages"][1]["user_email"] == "user@example.com"
    assert [m["content"] for m in (await listed(user))["messages"]] == [
        "here",
        "where is 100% of it?",
    ]
    guest = await as_("guest")
    assert (await guest.get(PATH)).status_code == 403
    assert (await guest.get(f"{PATH}/stats")).status_code == 403


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"agent": "shop/helper"}, 2),
        ({"agent": "shop/other"}, 0),
        ({"role": "assistant"}, 1),
        ({"search": "WHERE"}, 1),
        ({"search": "0% o"}, 1),
        ({"search": "%"}, 1),
        ({"limit": 1}, 3),
        ({"offset": 2}, 3),
    ],
)
async def test_filters(as_: SignIn, query: dict[str, Any], found: int) -> None:
    page = await listed(await as_("admin"), **query)
    assert page["total"] == found
    assert len(page["messages"]) == min(found, query.get("limit", 50), 3 - query.get("offset", 0))


@pytest.mark.usefixtures("said")
async def test_stats(as_: SignIn) -> None:
    admin, user = await as_("admin"), await as_("user")
    week = (await admin.get(f"{PATH}/stats")).json()
    assert (week["days"], week["total_messages"], week["total_chats"]) == (7, 2, 1)
    assert week["by_role"] == {"user": 1, "assistant": 1}
    assert week["by_agent"] == [{"agent": "shop/helper", "count": 2}]
    month = (await admin.get(f"{PATH}/stats", params={"days": 30})).json()
    assert (month["total_messages"], len(month["by_day"])) == (3, 2)
    own = (await user.get(f"{PATH}/stats", params={"days": 30})).json()
    assert own["total_messages"] == 2
    assert (await admin.get(f"{PATH}/stats", params={"days": 91})).status_code == 422
