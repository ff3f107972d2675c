"""Rules of skills beyond what every resource has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from sinas.models import Skill
from tests.factories.identity import make_user

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/skills"
BODY = {"name": "returns", "description": "How returns work", "content": "# Returns"}


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={**BODY, **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_a_skill_is(as_: SignIn) -> None:
    made = await create(await as_("user"))
    assert made.pop("id")
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        **BODY,
        "namespace": "default",
        "user_id": str((await as_.user("user")).id),
        "is_active": True,
    }


async def test_null_is_as_if_left_out(as_: SignIn) -> None:
    user = await as_("user")
    made = await create(user)
    changed = (await user.put(f"{PATH}/default/returns", json=dict.fromkeys(BODY))).json()
    assert changed == made | {"updated_at": changed["updated_at"]}


async def test_a_list_can_be_of_one_namespace(as_: SignIn) -> None:
    user = await as_("user")
    await create(user, namespace="a")
    await create(user, namespace="b")
    found = (await user.get(PATH, params={"namespace": "b"})).json()
    assert [each["namespace"] for each in found] == ["b"]


async def test_discovery_lists_active_ones_by_name(as_: SignIn) -> None:
    user = await as_("user")
    for namespace in ("c", "b", "a"):
        await create(user, namespace=namespace)
    await user.put(f"{PATH}/c/returns", json={"is_active": False})
    await create(await as_("other"), namespace="d")
    for path in ("/skills", "/discovery/skills"):
        found = (await user.get(path)).json()
        assert [each["namespace"] for each in found] == ["a", "b"]
        assert found[0]["content"] == "# Returns"
        assert len((await user.get(path, params={"limit": 1})).json()) == 1
        assert (await user.get(path, params={"app": "no-slash"})).status_code == 400
        assert (await user.get(path, params={"app": "no/where"})).status_code == 404
    assert len((await (await as_("admin")).get("/skills")).json()) == 3
    assert (await (await as_("guest")).get("/skills")).status_code == 403
    # Whoever manages it still sees it.
    assert len((await user.get(PATH)).json()) == 3


async def test_deleting_is_soft_and_frees_the_name(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    await create(user)
    assert (await user.delete(f"{PATH}/default/returns")).status_code == 204
    await create(user, content="Second")
    async with context.sessions() as session:
        rows = (await session.scalars(select(Skill).order_by(Skill.id))).all()
    assert [(row.content, row.deleted_at is None) for row in rows] == [
        ("# Returns", False),
        ("Second", True),
    ]
    assert len((await user.get("/skills")).json()) == 1


async def test_renaming_takes_the_right_to_create_the_new_name(
    context: AppContext, as_: SignIn
) -> None:
    rights = [f"sinas.skills/a/*.{each}:own" for each in ("create", "read", "update")]
    client = await as_(
        await make_user(context, roles=(), permissions=[*rights, "sinas.skills/b/*.read:own"])
    )
    await create(client, namespace="a")
    refused = await client.put(f"{PATH}/a/returns", json={"namespace": "b"})
    assert refused.status_code == 403
    assert "'b/returns'" in refused.json()["detail"]
    assert (await client.put(f"{PATH}/a/returns", json={"name": "refunds"})).status_code == 200
    await create(client, namespace="a")
    taken = await client.put(f"{PATH}/a/refunds", json={"name": "returns"})
    assert taken.status_code == 400
