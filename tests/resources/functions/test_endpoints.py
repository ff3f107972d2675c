"""Functions through the management API."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from sinas.context import AppContext
from sinas.models import ExecutionStatus
from tests.factories.functions import make_execution, make_function
from tests.factories.identity import make_user
from tests.fixtures.client import SignIn

URL = "/api/v1/functions"
OBJECT = {"type": "object"}


def body(**fields: Any) -> dict[str, Any]:
    return {
        "namespace": "tests",
        "name": "echo",
        "code": "def handler(input_data, context):\n    return input_data\n",
        "input_schema": OBJECT,
        "output_schema": OBJECT,
    } | fields


async def created(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=body(**fields))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_create_answers_the_function_and_makes_version_1(as_: SignIn) -> None:
    client = await as_("user")
    made = await created(client, description="Echo", icon="url:https://example.com/i.png")
    expected = body(description="Echo", icon="url:https://example.com/i.png") | {
        "icon_url": "https://example.com/i.png",
        "shared_pool": False,
        "requires_approval": False,
        "timeout": None,
        "idempotent": False,
        "retry": None,
        "enabled_secrets": None,
        "is_active": True,
    }
    assert {key: made[key] for key in expected} == expected
    assert made.keys() == expected.keys() | {"id", "created_at", "updated_at"}
    assert (await client.get(f"{URL}/tests/echo")).json() == made
    [version] = (await client.get(f"{URL}/tests/echo/versions")).json()
    assert (version["version"], version["code"]) == (1, made["code"])
    assert version["function_id"] == made["id"]
    assert version["created_by"] == str((await as_.user("user")).id)


async def test_a_taken_name_answers_400(as_: SignIn) -> None:
    client = await as_("user")
    await created(client)
    answer = await client.post(URL, json=body())
    assert answer.status_code == 400
    assert "already exists" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"code": "def handler(:\n  pass"}, "code", "line 1"),
        ({"code": "x = 1\nreturn 2"}, "code", "line 2"),
        ({"code": "a = 1\x00"}, "code", "null bytes"),
        ({"code": "-" * 100_000 + "1"}, "code", "nested too deeply"),
        ({"code": "1+" * 100_000 + "1"}, "code", "nested too deeply"),
        ({"code": "# \ud800"}, "code", "parse"),
        ({"code": "#" * 300_000}, "code", "limit"),
        ({"input_schema": {}}, "input_schema", "type"),
        ({"input_schema": {"type": "objekt"}}, "input_schema.type", "objekt"),
        ({"output_schema": {"type": "object", "required": "x"}}, "output_schema.required", "array"),
        (
            {"input_schema": {"type": "object", "$ref": "https://example.com/s.json"}},
            "input_schema.$ref",
            "nothing is fetched",
        ),
        ({"input_schema": {"type": "object", "$ref": "#"}}, "input_schema", "without end"),
        ({"input_schema": {"type": "object", "title": "\x00"}}, "input_schema", "NUL"),
        ({"timeout": 10_000_000}, "timeout", "at most"),
        ({"timeout": 0}, "timeout", "greater"),
        ({"name": "has-hyphen"}, "name", "pattern"),
        ({"name": "1st"}, "name", "pattern"),
        ({"unknown": 1}, "unknown", "no such field"),
    ],
)
async def test_what_cannot_work_answers_422_and_saves_nothing(
    as_: SignIn, fields: dict[str, Any], field: str, words: str
) -> None:
    client = await as_("user")
    # Escaped: half a surrogate pair has no UTF-8.
    answer = await client.post(
        URL, content=json.dumps(body(**fields)), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["errors"][0]["field"] == field
    assert words in problem["detail"]
    assert (await client.get(URL)).json() == []


async def test_invalid_escapes_are_warnings_of_python_not_errors(as_: SignIn) -> None:
    client = await as_("user")
    await created(client, code="def handler(i, c):\n    return '\\d'\n")


async def test_put_changes_what_is_given_and_code_makes_a_version(as_: SignIn) -> None:
    client = await as_("user")
    made = await created(client, description="Old", timeout=5)
    first = (await client.put(f"{URL}/tests/echo", json={"description": "New"})).json()
    assert (first["description"], first["timeout"], first["code"]) == ("New", 5, made["code"])
    assert first["updated_at"] > made["updated_at"]
    await client.put(f"{URL}/tests/echo", json={"code": made["code"]})
    changed = {"code": "handler = print", "output_schema": {"type": "null"}}
    await client.put(f"{URL}/tests/echo", json=changed)
    versions = (await client.get(f"{URL}/tests/echo/versions")).json()
    assert [v["version"] for v in versions] == [3, 2, 1]
    assert versions[0]["output_schema"] == {"type": "null"}
    assert versions[1]["output_schema"] == OBJECT
    cleared = (await client.put(f"{URL}/tests/echo", json={"timeout": None, "code": None})).json()
    assert (cleared["timeout"], cleared["code"]) == (None, "handler = print")


async def test_versions_count_on_when_many_write_at_once(as_: SignIn) -> None:
    client = await as_("user")
    await created(client)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(client.put(f"{URL}/tests/echo", json={"code": f"x = {number}"}))
    versions = (await client.get(f"{URL}/tests/echo/versions")).json()
    assert [v["version"] for v in versions] == list(range(9, 0, -1))


async def test_a_bad_put_changes_nothing(as_: SignIn) -> None:
    client = await as_("user")
    made = await created(client)
    answer = await client.put(f"{URL}/tests/echo", json={"description": "x", "code": "def"})
    assert answer.status_code == 422
    assert (await client.get(f"{URL}/tests/echo")).json() == made


async def test_renaming(as_: SignIn) -> None:
    client = await as_("user")
    await created(client)
    await created(client, name="other")
    clash = await client.put(f"{URL}/tests/echo", json={"name": "other"})
    assert clash.status_code == 400
    moved = await client.put(f"{URL}/tests/echo", json={"namespace": "elsewhere"})
    assert moved.status_code == 200
    assert (await client.get(f"{URL}/tests/echo")).status_code == 404


async def test_renaming_needs_the_create_grant_for_the_new_name(
    as_: SignIn, context: AppContext
) -> None:
    rights = ["sinas.functions/mine/*.create:own"]
    rights += [f"sinas.functions/*/*.{action}:own" for action in ("read", "update")]
    client = await as_(await make_user(context, roles=(), permissions=rights))
    await created(client, namespace="mine")
    answer = await client.put(f"{URL}/mine/echo", json={"namespace": "yours"})
    assert answer.status_code == 403
    assert "sinas.functions/yours/echo.create:own" in answer.json()["detail"]


async def test_the_shared_pool_is_for_those_who_hold_its_permission(as_: SignIn) -> None:
    user, admin = await as_("user"), await as_("admin")
    assert (await user.post(URL, json=body(shared_pool=True))).status_code == 403
    await created(user)
    assert (await user.put(f"{URL}/tests/echo", json={"shared_pool": True})).status_code == 403
    shared = await admin.put(f"{URL}/tests/echo", json={"shared_pool": True})
    assert shared.json()["shared_pool"] is True
    # Its owner may go on describing what somebody else made shared, but not change what it does
    # there, nor which secrets it gets.
    again = await user.put(f"{URL}/tests/echo", json={**shared.json(), "description": "x"})
    assert again.status_code == 200, again.text
    code = "def handler(input_data, context):\n    return context['secrets']"
    for change in ({"code": code}, {"enabled_secrets": ["KEY"]}):
        assert (await user.put(f"{URL}/tests/echo", json=change)).status_code == 403
        assert (await admin.put(f"{URL}/tests/echo", json=change)).status_code == 200
    out = await user.put(f"{URL}/tests/echo", json={"shared_pool": False, "code": code + "['a']"})
    assert out.status_code == 200


async def test_other_peoples_functions_do_not_exist(as_: SignIn) -> None:
    mine, other, admin = await as_("user"), await as_("other"), await as_("admin")
    await created(mine)
    for path in ("", "/versions"):
        assert (await other.get(f"{URL}/tests/echo{path}")).status_code == 404
        assert (await admin.get(f"{URL}/tests/echo{path}")).status_code == 200
    assert (await other.put(f"{URL}/tests/echo", json={"description": "x"})).status_code == 404
    assert (await other.delete(f"{URL}/tests/echo")).status_code == 404
    assert (await other.get(URL)).json() == []
    assert len((await admin.get(URL)).json()) == 1


async def test_delete_takes_the_versions_and_leaves_the_executions(
    as_: SignIn, context: AppContext
) -> None:
    client = await as_("user")
    function = await make_function(context, await as_.user("user"), name="gone")
    run = await make_execution(context, function, status=ExecutionStatus.COMPLETED)
    assert (await client.delete(f"{URL}/default/gone")).status_code == 204
    assert (await client.get(f"{URL}/default/gone")).status_code == 404
    assert (await client.get(f"/executions/{run.id}")).json()["function_name"] == "gone"


@pytest.mark.parametrize("path", ["/functions", "/discovery/functions"])
async def test_discovery_lists_active_functions_by_name(
    as_: SignIn, context: AppContext, path: str
) -> None:
    client, owner = await as_("user"), await as_.user("user")
    await make_function(context, owner, name="b")
    await make_function(context, owner, name="a")
    await make_function(context, owner, name="off", is_active=False)
    await make_function(context, await as_.user("other"), name="theirs")
    listed = (await client.get(path)).json()
    assert [each["name"] for each in listed] == ["a", "b"]
    assert listed[0].keys() == (await client.get(f"{URL}/default/a")).json().keys()
    assert (await client.get(path, params={"app": "noslash"})).status_code == 400
    assert (await client.get(path, headers={"X-Application": "noslash"})).status_code == 400
    assert (await client.get(path, params={"app": "no/such"})).status_code == 404


async def test_lists_are_paged(as_: SignIn, context: AppContext) -> None:
    client, owner = await as_("user"), await as_.user("user")
    for number in range(3):
        await make_function(context, owner, name=f"f{number}")
    names = [
        (await client.get(URL, params={"skip": skip, "limit": 1})).json()[0]["name"]
        for skip in range(3)
    ]
    assert names == ["f2", "f1", "f0"]
    assert (await client.get(URL, params={"limit": 1001})).status_code == 422
