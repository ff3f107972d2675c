"""Schedules over HTTP: what may be saved, whose it is, and when it is due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sinas.kit.cron import Cron, time_zone
from sinas.kit.time import utcnow
from sinas.models import Schedule
from tests.factories.chats import make_agent
from tests.factories.functions import make_function
from tests.factories.identity import make_user
from tests.factories.schedules import make_schedule

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/schedules"
FIELDS = {
    "id", "user_id", "name", "schedule_type", "target_namespace", "target_name", "description",
    "cron_expression", "timezone", "input_data", "content", "is_active", "allow_overlap",
    "last_run", "next_run", "last_execution_id", "last_chat_id", "last_error", "created_at",
}  # fmt: skip


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    given = {"name": "nightly", "target_name": "f", "cron_expression": "0 3 * * *", **body}
    answer = await client.post(PATH, json=given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def stored(context: AppContext, schedule_id: str) -> Schedule:
    async with context.unit() as unit:
        return await unit.session.get_one(Schedule, schedule_id)


@pytest.fixture
async def user(context: AppContext, as_: SignIn) -> httpx.AsyncClient:
    """A user with function `default/f` and agent `default/a`."""
    await make_function(context, await as_.user("user"), name="f")
    await make_agent(context, await as_.user("user"), name="a")
    return await as_("user")


def due(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(row["next_run"])


async def test_what_an_answer_has(user: httpx.AsyncClient) -> None:
    row = await create(user, description="Cleans up", input_data={"days": 30})
    assert set(row) == FIELDS
    assert (row["schedule_type"], row["target_namespace"], row["target_name"]) == (
        "function",
        "default",
        "f",
    )
    assert (row["timezone"], row["is_active"], row["allow_overlap"]) == ("UTC", True, False)
    assert row["input_data"] == {"days": 30}
    assert [row[key] for key in FIELDS if key.startswith("last_")] == [None] * 4
    assert (await user.get(f"{PATH}/nightly")).json() == row
    assert (await user.get(PATH)).json() == [row]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
async def test_the_next_run_is_in_the_schedules_own_zone(
    user: httpx.AsyncClient, zone: str
) -> None:
    before = utcnow()
    row = await create(user, cron_expression="30 7 * * MON", timezone=zone)
    local = due(row).astimezone(time_zone(zone))
    assert (local.hour, local.minute, local.isoweekday()) == (7, 30, 1)
    assert before < due(row) <= before + timedelta(days=7, hours=1)


async def test_the_next_run_follows_a_change_of_time_and_of_nothing_else(
    user: httpx.AsyncClient,
) -> None:
    path = f"{PATH}/nightly"
    row = await create(user)

    async def change(**body: Any) -> dict[str, Any]:
        answer = await user.patch(path, json=body)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    assert (await change(description="x"))["next_run"] == row["next_run"]
    later = await change(cron_expression="0 4 * * *")
    assert due(later).hour == 4
    moved = await change(timezone="Asia/Kolkata")
    assert (due(moved).hour, due(moved).minute) == (22, 30)
    assert (await change(is_active=False))["next_run"] is None
    assert (await change(cron_expression="0 5 * * *"))["next_run"] is None
    active = await change(is_active=True)
    assert due(active) == Cron("0 5 * * *").next_after(utcnow(), time_zone("Asia/Kolkata"))


async def test_a_time_that_has_come_is_not_lost_by_a_change_that_changes_nothing(
    context: AppContext, user: httpx.AsyncClient, as_: SignIn
) -> None:
    function = await make_function(context, await as_.user("user"))
    past = utcnow() - timedelta(minutes=1)
    made = await make_schedule(context, await as_.user("user"), function, next_run=past)
    body = {"is_active": True, "cron_expression": made.cron_expression, "timezone": "UTC"}
    answer = await user.patch(f"{PATH}/{made.name}", json=body)
    assert datetime.fromisoformat(answer.json()["next_run"]) == past


async def test_an_agent_needs_a_message(user: httpx.AsyncClient) -> None:
    body = {
        "name": "x",
        "target_name": "a",
        "schedule_type": "agent",
        "cron_expression": "* * * * *",
    }
    refused = await user.post(PATH, json=body)
    assert refused.status_code == 422
    assert [entry["field"] for entry in refused.json()["errors"]] == ["content"]
    row = await create(user, **{**body, "content": "Good morning"})
    assert (row["schedule_type"], row["content"]) == ("agent", "Good morning")
    refused = await user.patch(f"{PATH}/x", json={"content": None})
    assert refused.status_code == 422
    await create(user)
    change = {"schedule_type": "agent", "target_name": "a"}
    assert (await user.patch(f"{PATH}/nightly", json=change)).status_code == 422
    changed = await user.patch(f"{PATH}/nightly", json={**change, "content": "Hello"})
    assert (changed.status_code, changed.json()["schedule_type"]) == (200, "agent")
    back = {"schedule_type": "function", "target_name": "f", "content": None}
    assert (await user.patch(f"{PATH}/x", json=back)).json()["content"] is None


async def test_the_target_must_be_there(context: AppContext, user: httpx.AsyncClient) -> None:
    owner = await make_user(context)
    await make_function(context, owner, name="off", is_active=False)
    await make_agent(context, owner, name="quiet", is_active=False)
    base = {"name": "x", "cron_expression": "* * * * *", "content": "hi"}
    for body in (
        {"target_name": "nowhere"},
        {"target_name": "off"},
        {"target_name": "f", "target_namespace": "elsewhere"},
        {"target_name": "nowhere", "schedule_type": "agent"},
        {"target_name": "quiet", "schedule_type": "agent"},
        {"target_name": "f", "schedule_type": "agent"},
    ):
        answer = await user.post(PATH, json={**base, **body})
        assert (answer.status_code, body) == (404, body)
        assert body["target_name"] in answer.json()["detail"]
    await create(user)
    for body in ({"target_name": "nowhere"}, {"schedule_type": "agent", "content": "hi"}):
        assert (await user.patch(f"{PATH}/nightly", json=body)).status_code == 404
    assert (await user.get(f"{PATH}/nightly")).json()["target_name"] == "f"


async def test_the_target_must_be_the_callers_to_start(
    context: AppContext, user: httpx.AsyncClient, as_: SignIn
) -> None:
    only = ["sinas.schedules.create:own", "sinas.schedules.update:own", "sinas.schedules.read:own"]
    key = await as_.key("user", [*only, "sinas.functions/default/f.execute:own"])
    body = {"name": "x", "cron_expression": "* * * * *", "content": "hi"}
    for target in (
        {"target_name": "other"},
        {"target_name": "a", "schedule_type": "agent"},
    ):
        answer = await key.post(PATH, json={**body, **target})
        assert (answer.status_code, target) == (403, target)
    row = await create(key)
    assert (await key.patch(f"{PATH}/nightly", json={"target_name": "other"})).status_code == 403
    # What a limited key saves is as limited later, and what it does not touch is not.
    assert (await stored(context, row["id"])).access == dict.fromkeys(
        [*sorted(["sinas.functions/default/f.execute:own", *only])], True
    )
    await user.patch(f"{PATH}/nightly", json={"description": "x"})
    assert (await stored(context, row["id"])).access is not None
    await user.patch(f"{PATH}/nightly", json={"input_data": {"x": 1}})
    assert (await stored(context, row["id"])).access is None
    await key.patch(f"{PATH}/nightly", json={"cron_expression": "1 1 * * *"})
    assert (await stored(context, row["id"])).access is None
    await key.patch(f"{PATH}/nightly", json={"input_data": {"x": 2}})
    assert (await stored(context, row["id"])).access is not None


async def test_names_are_each_users_own(
    context: AppContext, user: httpx.AsyncClient, as_: SignIn
) -> None:
    mine = await create(user)
    duplicate = await user.post(
        PATH, json={"name": "nightly", "target_name": "f", "cron_expression": "* * * * *"}
    )
    assert duplicate.status_code == 400
    assert "already exists" in duplicate.json()["detail"]
    second = await create(user, name="second")
    renamed = await user.patch(f"{PATH}/second", json={"name": "nightly"})
    assert renamed.status_code == 400
    other = await as_("other")
    theirs = await create(other)
    assert theirs["id"] != mine["id"]
    assert (await other.get(f"{PATH}/nightly")).json() == theirs
    assert (await other.get(PATH)).json() == [theirs]
    assert (await other.get(f"{PATH}/second")).status_code == 404
    assert (await other.get(f"{PATH}/{second['id']}")).status_code == 404
    assert (await other.delete(f"{PATH}/second")).status_code == 404
    # Admins: their own, else the only one of that name, else by id.
    admin = await as_("admin")
    assert (await admin.get(f"{PATH}/second")).json() == second
    assert (await admin.get(f"{PATH}/nightly")).status_code == 409
    assert (await admin.get(f"{PATH}/{mine['id']}")).json() == mine
    own = await create(admin)
    assert (await admin.get(f"{PATH}/nightly")).json() == own
    assert {row["id"] for row in (await admin.get(PATH)).json()} == {
        row["id"] for row in (mine, second, theirs, own)
    }
    changed = await admin.patch(f"{PATH}/{theirs['id']}", json={"is_active": False})
    assert (changed.json()["user_id"], changed.json()["next_run"]) == (theirs["user_id"], None)
    assert (await admin.delete(f"{PATH}/{theirs['id']}")).status_code == 204
    assert (await other.get(f"{PATH}/nightly")).status_code == 404


async def test_seen_but_not_to_be_changed(user: httpx.AsyncClient, as_: SignIn) -> None:
    await create(user)
    key = await as_.key("user", ["sinas.schedules.read:own", "sinas.schedules.update:all"])
    assert (await key.delete(f"{PATH}/nightly")).status_code == 403
    reader = await as_.key("admin", ["sinas.schedules.read:all", "sinas.schedules.update:own"])
    assert (await reader.get(f"{PATH}/nightly")).status_code == 200
    for answer in (
        await reader.patch(f"{PATH}/nightly", json={"is_active": False}),
        await reader.post(f"{PATH}/nightly/run"),
    ):
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"cron_expression": "@daily"}, "cron_expression", "five fields"),
        ({"cron_expression": "0 0 3 * * *"}, "cron_expression", "has 6"),
        ({"cron_expression": "0 24 * * *"}, "cron_expression", "bad hour, '24'"),
        ({"cron_expression": "0 0 31 2 *"}, "cron_expression", "never fires"),
        ({"cron_expression": "1," * 200 + "1 * * * *"}, "cron_expression", "255"),
        ({"timezone": "Mars/Base"}, "timezone", "IANA"),
        ({"timezone": "europe/berlin"}, "timezone", "IANA"),
        ({"timezone": "../UTC"}, "timezone", "IANA"),
        ({"name": "a/b"}, "name", "slash"),
        ({"name": " a"}, "name", "space"),
        ({"name": "x" * 256}, "name", "255"),
        ({"target_namespace": "a-b"}, "target_namespace", "pattern"),
        ({"input_data": []}, "input_data", "dictionary"),
    ],
)
async def test_bad_input_names_the_field(
    user: httpx.AsyncClient, body: dict[str, Any], field: str, said: str
) -> None:
    given = {"name": "x", "target_name": "f", "cron_expression": "* * * * *", **body}
    answer = await user.post(PATH, json=given)
    assert answer.status_code == 422
    assert [entry["field"] for entry in answer.json()["errors"]] == [field]
    assert said in answer.json()["detail"]
