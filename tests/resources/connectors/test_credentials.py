"""How requests are let in: which secret goes where, for whom, and that nobody sees it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from sinas.models import SecretVisibility, User, UserRole
from tests.factories.identity import make_role
from tests.factories.secrets import make_secret
from tests.resources.connectors.conftest import PATH, Make, schema
from tests.support.outside import Outside, redirect, reply

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

VALUE = "s3cr&t/va lue"
SHARED = SecretVisibility.SHARED


async def test_each_type(context: AppContext, make: Make, service: Outside, as_: SignIn) -> None:
    await make_secret(context, await as_.user(), "user:p w", name="PAIR")
    await make_secret(context, await as_.user(), VALUE, name="KEY")
    seen = []
    for number, auth in enumerate(
        [
            {"type": "none"},
            {"type": "bearer", "secret": "KEY"},
            {"type": "basic", "secret": "PAIR"},
            {"type": "api_key", "secret": "KEY"},
            {"type": "api_key", "secret": "KEY", "header": "X-Mine"},
            {"type": "api_key", "secret": "KEY", "position": "query"},
            {"type": "api_key", "secret": "KEY", "position": "query", "param_name": "k"},
        ]
    ):
        await (await make(name=f"n{number}", auth=auth)).result()
        got = service.received[-1]
        seen.append((got.target, {k: v for k, v in got.headers.items() if k in MARKS}))
    written = "s3cr%26t%2Fva%20lue"
    assert seen == [
        ("/do", {}),
        ("/do", {"authorization": f"Bearer {VALUE}"}),
        ("/do", {"authorization": f"Basic {base64.b64encode(b'user:p w').decode()}"}),
        ("/do", {"x-api-key": VALUE}),
        ("/do", {"x-mine": VALUE}),
        (f"/do?api_key={written}", {}),
        (f"/do?k={written}", {}),
    ]


MARKS = {"authorization", "x-api-key", "x-mine"}


async def test_credentials_win_over_everything(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), VALUE, name="KEY")
    operation = {
        "request_body_mapping": "query",
        "parameters": schema(auth={}, key={}, more={}),
        "bindings": {
            "auth": {"in": "header", "name": "Authorization"},
            "key": {"in": "query", "name": "key"},
            "more": {"in": "query"},
        },
    }
    given = {"auth": "Bearer mine", "key": "mine", "more": {"key": "mine, too", "x": 1}}
    made = await make(
        operation,
        auth={"type": "api_key", "secret": "KEY", "position": "query", "param_name": "key"},
    )
    await made.result(given)
    assert service.received[-1].target == "/do?x=1&key=s3cr%26t%2Fva%20lue"
    made = await make(
        operation,
        name="two",
        auth={"type": "bearer", "secret": "KEY"},
        headers={"authorization": "x"},
    )
    await made.result(given)
    assert service.received[-1].headers["authorization"] == f"Bearer {VALUE}"


async def test_a_private_value_wins_over_the_shared_one(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    admin, user = await as_.user("admin"), await as_.user("user")
    await make_secret(context, admin, "everybodys", name="KEY", visibility=SHARED)
    await make_secret(context, user, "the-users", name="KEY")
    made = await make(who="admin", auth={"type": "bearer", "secret": "KEY"})
    reader = await as_.key("reader")
    await grant(context, as_, "user", "reader")
    for client in (made.client, await as_("user"), reader):
        assert (await made.test(client=client)).status_code == 200
    assert [seen.headers["authorization"] for seen in service.received] == [
        "Bearer everybodys",
        "Bearer the-users",
        "Bearer everybodys",
    ]


async def grant(context: AppContext, as_: SignIn, *names: str) -> None:
    """Let users read everybody's connectors."""
    role = await make_role(context, ["sinas.connectors/*/*.read:all"])
    async with context.unit() as unit:
        for name in names:
            user = await as_.user(name)
            unit.session.add(UserRole(user_id=user.id, role_id=role.id, active=True))


async def test_without_its_secret_nothing_is_sent(make: Make, service: Outside) -> None:
    made = await make(auth={"type": "bearer", "secret": "NOWHERE"})
    assert "no secret 'NOWHERE'" in await made.problem()
    assert service.received == []


async def test_shared_secrets_go_only_where_somebody_in_charge_says(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    """Or whoever may make a connector would read every shared secret, by a server of theirs."""
    await make_secret(context, await as_.user("admin"), VALUE, name="KEY", visibility=SHARED)
    made = await make(auth={"type": "bearer", "secret": "KEY"})
    assert "may not be sent to '127.0.0.2'" in await made.problem(status=403)
    assert service.received == []
    admin = await as_("admin")
    for hosts, status in (
        (["api.example.com"], 403),
        ([".0.0.2"], 200),
        (["127.0.0.2"], 200),
        ([], 403),
        (None, 403),
    ):
        changed = await admin.put("/api/v1/secrets/KEY", json={"allowed_hosts": hosts})
        assert changed.json()["allowed_hosts"] == hosts
        assert (await made.test()).status_code == status, hosts
    assert len(service.received) == 2


async def test_ones_private_secrets_do_not_go_to_other_peoples_servers(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user("user"), VALUE, name="KEY")
    made = await make(who="stranger", auth={"type": "bearer", "secret": "KEY"})
    await grant(context, as_, "user")
    user = await as_("user")
    assert (await made.test(client=user)).status_code == 403
    token = await make(who="stranger", name="token", auth={"type": "sinas_token"})
    refused = await token.test(client=user)
    assert refused.status_code == 403
    assert "could act as you" in refused.json()["detail"]
    assert service.received == []
    hosts = {"allowed_hosts": ["127.0.0.2"]}
    assert (await user.put("/api/v1/secrets/KEY", json=hosts)).status_code == 200
    assert (await made.test(client=user)).status_code == 200


async def test_whoever_sets_the_address_answers_for_it(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    """An editor of everybody's connectors is not in charge of everybody's secrets."""
    await make_secret(context, await as_.user("admin"), VALUE, name="KEY", visibility=SHARED)
    made = await make(who="admin", auth={"type": "bearer", "secret": "KEY"})
    role = await make_role(context, [f"sinas.connectors/*/*.{a}:all" for a in ("read", "update")])
    async with context.unit() as unit:
        editor = await as_.user("editor")
        unit.session.add(UserRole(user_id=editor.id, role_id=role.id, active=True))
    client = await as_("editor")
    whole = {**made.body, "description": "Better"}
    for key in ("id", "user_id", "created_at", "updated_at"):
        del whole[key]
    assert (await client.put(made.path, json=whole)).status_code == 200
    assert (await made.test()).status_code == 200
    for change in ({"base_url": f"{service.url}/mine"}, {"base_url": service.url}):
        assert (await client.put(made.path, json=change)).status_code == 200
        assert (await made.test()).status_code == 403
        assert (await made.test(client=client)).status_code == 403
    back = {"base_url": f"{service.url}/v2"}
    assert (await made.client.put(made.path, json=back)).status_code == 200
    assert (await made.test(client=client)).status_code == 200
    async with context.unit() as unit:
        admin = await unit.session.get(User, (await as_.user("admin")).id)
        assert admin is not None
        admin.is_active = False
    assert (await made.test(client=client)).status_code == 403


async def test_a_key_that_may_only_make_connectors_is_no_way_to_secrets(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user("admin"), VALUE, name="KEY")
    key = await as_.key("admin", ["sinas.connectors.*:all", "sinas.connectors/*/*.*:all"])
    operation = {"name": "do", "method": "GET", "path": "/do"}
    body = {"base_url": service.url, "operations": [operation]}
    for name, auth in (
        ("secret", {"type": "bearer", "secret": "KEY"}),
        ("token", {"type": "sinas_token"}),
    ):
        made = await key.post(PATH, json={**body, "name": name, "auth": auth})
        assert made.status_code == 201, made.text
        for client in (key, await as_("admin")):
            answer = await client.post(f"{PATH}/default/{name}/test/do", json={})
            assert answer.status_code == 403, answer.text
    assert service.received == []


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ({"type": "none"}, 200),
        ({"type": "bearer", "secret": "KEY"}, 403),
        ({"type": "api_key", "secret": "KEY"}, 403),
        ({"type": "sinas_token"}, 403),
    ],
)
async def test_an_operation_elsewhere_gets_no_credentials(
    context: AppContext,
    make: Make,
    service: Outside,
    as_: SignIn,
    auth: dict[str, Any],
    status: int,
) -> None:
    """A document that was imported may say where its operations are."""
    await make_secret(context, await as_.user("admin"), VALUE, name="KEY")
    async with Outside(tls=False, host="127.0.0.2") as other:
        made = await make(
            {"base_url": other.url}, who="admin", auth=auth, headers={"X-Tenant": "mine"}
        )
        assert (await made.test()).status_code == status
        assert all("x-tenant" not in seen.headers for seen in other.received)
        assert len(other.received) == (1 if status == 200 else 0)
        await made.client.put("/api/v1/secrets/KEY", json={"allowed_hosts": ["127.0.0.2"]})
        is_by_secret = "secret" in auth or status == 200
        assert ((await made.test()).status_code == 200) is is_by_secret
        same = {"name": "do", "method": "GET", "path": "/x", "base_url": f"{service.url}/v9"}
        await made.client.put(made.path, json={"operations": [same]})
        assert (await made.test()).status_code == 200
    assert service.received[0].target == "/v9/x"
    assert service.received[0].headers["x-tenant"] == "mine"


@pytest.mark.parametrize("hosts", [["a b"], ["https://x"], [""], "x", ["*"], [7]])
async def test_what_is_no_host(as_: SignIn, hosts: Any) -> None:
    body = {"name": "K", "value": "v", "visibility": "private", "allowed_hosts": hosts}
    assert (await (await as_("user")).post("/api/v1/secrets", json=body)).status_code == 422


async def test_the_callers_own_token(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    """Also for who signed in with an API key, and with its limit."""
    made = await make(auth={"type": "sinas_token"})
    assert (await made.test()).status_code == 200
    key = await as_.key("user", ["sinas.connectors/*/*.read:own"])
    assert (await made.test(client=key)).status_code == 200
    tokens = [s.headers["authorization"].removeprefix("Bearer ") for s in service.received]
    user = await as_.user()
    for token, can_create in zip(tokens, (True, False), strict=True):
        principal = await context.authenticator.by_token(token)
        assert principal.user_id == user.id
        assert principal.can("sinas.skills.create:own") is can_create
        assert principal.can("sinas.connectors/a/b.read:own")


async def test_another_origin_does_not_get_them(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), VALUE, name="KEY")
    made = await make(auth={"type": "bearer", "secret": "KEY"}, headers={"X-Tenant": "secret-7"})
    async with Outside(tls=False, host="127.0.0.2") as other:
        service.answer = redirect(f"{other.url}/next")
        assert (await made.result())["status_code"] == 200
        [seen] = other.received
        assert VALUE not in str(seen.headers)
        assert "secret-7" not in str(seen.headers)
    assert service.received[0].headers["authorization"] == f"Bearer {VALUE}"


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer", "secret": "KEY"},
        {"type": "basic", "secret": "KEY"},
        {"type": "api_key", "secret": "KEY"},
        {"type": "api_key", "secret": "KEY", "position": "query"},
    ],
)
@pytest.mark.parametrize("mapping", ["json", "text"])
async def test_what_a_service_echoes_is_hidden(
    context: AppContext,
    make: Make,
    service: Outside,
    as_: SignIn,
    auth: dict[str, Any],
    mapping: str,
) -> None:
    secret = 'us"er:hunter2&co/x'
    await make_secret(context, await as_.user(), secret, name="KEY")
    encoded = base64.b64encode(secret.encode()).decode()
    echo = {"you": secret, "sent": f"Basic {encoded}", "at": "?k=us%22er%3Ahunter2%26co%2Fx"}
    service.answer = reply(echo, 200, f"X-Echo: {secret}")
    made = await make({"response_mapping": mapping}, auth=auth)
    with capture_logs() as logs:
        answer = await made.test()
    assert answer.status_code == 200
    kinds = [encoded, "hunter2"] if auth["type"] == "basic" else ["hunter2"]
    for text in kinds:
        assert text not in answer.text
        assert text not in str(logs)
    assert "[secret]" in answer.text
    service.answer = b"nonsense\r\n\r\n"
    assert "hunter2" not in await made.problem(status=502)


async def test_a_secret_that_cannot_be_sent_is_not_shown(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), "hunter2\r\nX-Evil: 1", name="KEY")
    detail = await (await make(auth={"type": "bearer", "secret": "KEY"})).problem()
    assert "line break" in detail
    assert "hunter2" not in detail
    assert service.received == []
