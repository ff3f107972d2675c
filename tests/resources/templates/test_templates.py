"""Rules of templates beyond what every resource has in common: parts, names, rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.factories.identity import make_role, make_user
from tests.factories.templates import make_template

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/templates"
BODY: dict[str, Any] = {"name": "welcome", "html_content": "<p>Hello {{ name }}</p>"}


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={**BODY, **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_a_template_is(as_: SignIn) -> None:
    user_id = str((await as_.user("user")).id)
    made = await create(await as_("user"))
    assert made.pop("id")
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        **BODY,
        "namespace": "default",
        "description": None,
        "title": None,
        "text_content": None,
        "variable_schema": {},
        "is_active": True,
        "user_id": user_id,
        "created_by": user_id,
        "updated_by": user_id,
        "managed_by": None,
        "config_name": None,
        "config_checksum": None,
    }


async def test_null_empties_what_may_be_empty(as_: SignIn) -> None:
    user = await as_("user")
    made = await create(user, title="T", text_content="X", description="D", variable_schema={})
    body = dict.fromkeys(("title", "text_content", "description", "html_content", "name"))
    changed = (await user.patch(f"{PATH}/{made['id']}", json=body)).json()
    assert changed == made | {
        "title": None,
        "text_content": None,
        "description": None,
        "updated_at": changed["updated_at"],
    }


async def test_who_changed_it_last(context: AppContext, as_: SignIn) -> None:
    made = await create(await as_("user"))
    changed = await (await as_("admin")).patch(f"{PATH}/{made['id']}", json={"title": "New"})
    admin_id = str((await as_.user("admin")).id)
    assert (changed.json()["created_by"], changed.json()["updated_by"]) == (
        made["user_id"],
        admin_id,
    )


async def test_an_edit_by_hand_takes_it_from_what_managed_it(
    context: AppContext, as_: SignIn
) -> None:
    owner = await as_.user("user")
    row = await make_template(
        context, owner, managed_by="config", config_name="main", config_checksum="1"
    )
    user = await as_("user")
    kept = (await user.patch(f"{PATH}/{row.id}", json={})).json()
    assert kept["managed_by"] == "config"
    changed = (await user.patch(f"{PATH}/{row.id}", json={"title": "Mine"})).json()
    assert (changed["managed_by"], changed["config_name"], changed["config_checksum"]) == (
        (None,) * 3
    )


async def test_by_name(as_: SignIn) -> None:
    user = await as_("user")
    made = await create(user, namespace="sales")
    assert (await user.get(f"{PATH}/by-name/sales/welcome")).json() == made
    assert (await user.get(f"{PATH}/by-name/sales/other")).status_code == 404
    other = await (await as_("other")).get(f"{PATH}/by-name/sales/welcome")
    assert other.status_code == 404


async def test_a_name_is_taken_or_not_permitted(context: AppContext, as_: SignIn) -> None:
    user = await as_("user")
    first, second = await create(user, name="first"), await create(user, name="second")
    taken = await user.patch(f"{PATH}/{second['id']}", json={"name": "first"})
    assert (taken.status_code, taken.json()["code"]) == (400, "duplicate")
    key = await as_.key("user", ["sinas.templates/*/*.update:own", "sinas.templates/*/*.read:own"])
    refused = await key.patch(f"{PATH}/{first['id']}", json={"namespace": "other"})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("html_content", "a\nb\n{% if %}", "line 3"),
        ("html_content", "{{ x|nonsense }}", "nonsense"),
        ("html_content", "{% include 'x' %}{% endif %}", "endif"),
        ("title", "{{ name", "line 1"),
        ("text_content", "{% for x in y %}", "line 1"),
        ("html_content", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply"),
    ],
)
async def test_a_broken_part_is_found_when_it_is_saved(
    as_: SignIn, field: str, text: str, words: str
) -> None:
    user = await as_("user")
    answer = await user.post(PATH, json={**BODY, field: text})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert words in answer.json()["detail"]
    made = await create(user)
    answer = await user.patch(f"{PATH}/{made['id']}", json={field: text})
    assert answer.status_code == 422
    assert (await user.get(f"{PATH}/{made['id']}")).json() == made


async def test_discovery_lists_active_ones_by_name(as_: SignIn) -> None:
    user = await as_("user")
    made = {name: await create(user, namespace=name) for name in ("c", "b", "a")}
    await user.patch(f"{PATH}/{made['b']['id']}", json={"is_active": False})
    for path in ("/templates", "/discovery/templates"):
        found = (await user.get(path)).json()
        assert [each["namespace"] for each in found] == ["a", "c"]
        assert found[0] == made["a"]
        assert (await (await as_("other")).get(path)).json() == []
        assert (await user.get(path, params={"app": "no/such"})).status_code == 404
        assert (await user.get(path, headers={"X-Application": "x"})).status_code == 400
    listed = (await user.get(PATH, params={"namespace": "b"})).json()
    assert [each["is_active"] for each in listed] == [False]


async def test_grants_on_paths(context: AppContext, as_: SignIn) -> None:
    owner = await as_.user("owner")
    sales = await make_template(context, owner, namespace="sales", name="a")
    await make_template(context, owner, namespace="hr", name="a")
    await make_role(
        context,
        ["sinas.templates/sales/*.read:all", "sinas.templates/sales/*.render:all"],
        name="sellers",
    )
    seller = await as_(await make_user(context, email="s@example.com", roles=["sellers"]))
    assert [each["id"] for each in (await seller.get(PATH)).json()] == [str(sales.id)]
    assert (await seller.post("/templates/sales/a/render", json={})).status_code == 200
    assert (await seller.post("/templates/hr/a/render", json={})).status_code == 404
    # Seen, but not to change.
    assert (await seller.delete(f"{PATH}/{sales.id}")).status_code == 403
    body = {"to": "a@example.com", "variables": {}}
    refused = await seller.post("/templates/sales/a/email", json=body)
    assert refused.status_code == 403
    assert "send" in refused.json()["detail"]


async def test_the_login_mail_is_the_admins(context: AppContext, as_: SignIn) -> None:
    from sinas.seed import seed

    await seed(context)
    admin, user = await as_("admin"), await as_("user")
    row = (await admin.get(f"{PATH}/by-name/default/otp_email")).json()
    assert (row["user_id"], row["title"]) == (None, "Your Sinas login code")
    assert (await user.get(f"{PATH}/{row['id']}")).status_code == 404
    assert (await user.patch(f"{PATH}/{row['id']}", json={"title": "x"})).status_code == 404
    assert (await admin.patch(f"{PATH}/{row['id']}", json={"title": "Code"})).status_code == 200
    await seed(context)
    assert (await admin.get(f"{PATH}/{row['id']}")).json()["title"] == "Code"
    variables = {"otp_code": "123456", "user_email": "a@example.com", "expiry_minutes": 10}
    shown = await admin.post("/templates/default/otp_email/render", json={"variables": variables})
    assert "<strong>123456</strong>" in shown.json()["html_content"]
