"""Rules of LLM providers: keys only go in, one is the default, admins manage them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from sinas.models import LlmProvider

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

PATH = "/api/v1/llm-providers"
KEY = "sk-very-secret-0123456789"


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    given = {"name": "acme", "provider_type": "openai", **body}
    response = await client.post(PATH, json=given)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def row(context: AppContext, name: str = "acme") -> LlmProvider:
    async with context.sessions() as session:
        found = await session.scalar(select(LlmProvider).where(LlmProvider.name == name))
    assert found is not None
    return found


async def test_what_an_answer_has(as_: SignIn) -> None:
    body = await create(
        await as_("admin"),
        api_endpoint="http://llm.example/v1/",
        default_model="m",
        config={"models": ["m"]},
    )
    assert set(body) == {
        "id", "name", "provider_type", "api_endpoint", "default_model", "config", "is_default",
        "is_active", "created_at", "updated_at",
    }  # fmt: skip
    assert body["api_endpoint"] == "http://llm.example/v1"
    assert (body["is_default"], body["is_active"], body["config"]) == (
        False,
        True,
        {"models": ["m"]},
    )


async def test_the_key_only_goes_in(
    context: AppContext, as_: SignIn, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level("DEBUG")
    admin = await as_("admin")
    made = await create(admin, api_key=KEY)
    answers = [
        await admin.get(PATH),
        await admin.get(f"{PATH}/acme"),
        await admin.patch(f"{PATH}/{made['id']}", json={"api_key": KEY, "default_model": "m"}),
        await admin.patch(f"{PATH}/{made['id']}", json={"api_key": KEY, "wrong": 1}),
        await admin.post(PATH, json={"name": "x", "provider_type": "none", "api_key": KEY}),
        await admin.post(PATH, json={"name": "x", "provider_type": "openai", "api_key": [KEY]}),
        await admin.post(PATH, json={"name": "acme", "provider_type": "openai", "api_key": KEY}),
    ]
    assert [a.status_code for a in answers] == [200, 200, 200, 422, 422, 422, 400]
    stored = (await row(context)).api_key_encrypted
    assert stored is not None
    assert context.cipher.decrypt(stored) == KEY
    said = "".join(a.text for a in answers) + str(made) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in said
    assert KEY not in stored


async def test_the_key_is_kept_replaced_and_removed(context: AppContext, as_: SignIn) -> None:
    admin = await as_("admin")
    path = f"{PATH}/{(await create(admin, api_key='one'))['id']}"

    async def change(**body: Any) -> str | None:
        assert (await admin.patch(path, json=body)).status_code == 200
        stored = (await row(context)).api_key_encrypted
        return None if stored is None else context.cipher.decrypt(stored)

    assert await change(default_model="m") == "one"
    assert await change(api_key=None) == "one"
    assert await change(api_key="two") == "two"
    assert await change(api_key="") is None


async def test_deleting_forgets_the_key_and_frees_the_name(
    context: AppContext, as_: SignIn
) -> None:
    admin = await as_("admin")
    made = await create(admin, api_key=KEY, is_default=True)
    assert (await admin.delete(f"{PATH}/{made['id']}")).status_code == 204
    gone = await row(context)
    assert (gone.api_key_encrypted, gone.is_default, gone.is_active) == (None, False, False)
    assert (await admin.get(f"{PATH}/acme")).status_code == 404
    assert (await admin.get(PATH)).json() == []
    assert (await admin.delete(f"{PATH}/{made['id']}")).status_code == 404
    assert (await admin.patch(f"{PATH}/{made['id']}", json={})).status_code == 404
    assert (await create(admin))["id"] != made["id"]


async def test_only_one_is_the_default(as_: SignIn) -> None:
    admin = await as_("admin")
    first = await create(admin, name="a", is_default=True)
    second = await create(admin, name="b", is_default=True)

    async def defaults() -> list[str]:
        return [p["name"] for p in (await admin.get(PATH)).json() if p["is_default"]]

    assert await defaults() == ["b"]
    await admin.patch(f"{PATH}/{first['id']}", json={"is_default": True})
    assert await defaults() == ["a"]
    await admin.patch(f"{PATH}/{second['id']}", json={"default_model": "x"})
    assert await defaults() == ["a"]


async def test_admins_only(as_: SignIn) -> None:
    made = await create(await as_("admin"))
    for who in ("user", "guest", "nobody"):
        client = await as_(who)
        for method, path in [
            ("GET", PATH),
            ("POST", PATH),
            ("GET", f"{PATH}/acme"),
            ("PATCH", f"{PATH}/{made['id']}"),
            ("DELETE", f"{PATH}/{made['id']}"),
        ]:
            body = {"name": "x", "provider_type": "openai"} if method == "POST" else {}
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, who, method) == (403, who, method)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider_type": "openia"}, "provider_type"),
        ({"api_endpoint": "llm.example"}, "api_endpoint"),
        ({"api_endpoint": "file:///etc/passwd"}, "api_endpoint"),
        ({"name": ""}, "name"),
        ({"config": []}, "config"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_bad_values(as_: SignIn, body: Any, field: str) -> None:
    admin = await as_("admin")
    answer = await admin.post(PATH, json={"name": "a", "provider_type": "openai", **body})
    assert answer.status_code == 422
    assert field in answer.json()["detail"]
    assert (await admin.get(PATH)).json() == []
