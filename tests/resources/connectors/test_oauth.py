"""OAuth 2.0: users' permissions and the client's own tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from sinas.kit.time import utcnow
from sinas.models import ConnectorToken
from tests.factories.secrets import make_secret
from tests.resources.connectors.conftest import PATH, Made, Make
from tests.support.outside import Outside, reply

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

CALLBACK = "/connectors/oauth/callback"
CLIENT_SECRET = "the:clients&secret"


def code_auth(service: Outside, **more: Any) -> dict[str, Any]:
    return {
        "type": "oauth2_authorization_code",
        "client_id": "my client",
        "authorize_url": "https://id.example/authorize?tenant=1",
        "token_url": f"{service.url}/token",
        "scopes": ["a", "b"],
        "authorize_params": {"access_type": "offline"},
        **more,
    }


def client_auth(service: Outside, **more: Any) -> dict[str, Any]:
    return {
        "type": "oauth2_client_credentials",
        "client_id": "id",
        "secret": "CLIENT",
        "token_url": f"{service.url}/token",
        **more,
    }


def token(access: str = "access-1", **more: Any) -> bytes:
    return reply({"access_token": access, "token_type": "Bearer", "expires_in": 3600, **more})


async def begin(made: Made, client: httpx.AsyncClient | None = None) -> dict[str, list[str]]:
    answer = await (client or made.client).post(f"{made.path}/oauth/authorize")
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in_seconds"] == 600
    url = urlsplit(answer.json()["authorize_url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://id.example/authorize"
    return parse_qs(url.query)


async def come_back(client: httpx.AsyncClient, **parameters: str) -> httpx.Response:
    # As a browser does: with its cookies, and no credentials.
    headers = {"Authorization": "", "X-API-Key": ""}
    return await client.get(CALLBACK, params=parameters, headers=headers)


async def connect(made: Made, service: Outside, answer: bytes | None = None) -> None:
    asked = await begin(made)
    service.answers = [answer or token(refresh_token="refresh-1", scope="a b")]
    back = await come_back(made.client, state=asked["state"][0], code="the-code")
    assert back.status_code == 200, back.text
    service.received.clear()


async def only_row(context: AppContext) -> ConnectorToken | None:
    async with context.sessions() as session:
        return await session.scalar(select(ConnectorToken))


async def test_a_user_allows_it(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), CLIENT_SECRET, name="CLIENT")
    made = await make(auth=code_auth(service, secret="CLIENT"))
    assert "not there yet" in await made.problem()
    none = (await made.client.get(f"{made.path}/oauth")).json()
    assert none == {"connected": False, "scope": None, "expires_at": None, "renews": False}
    asked = await begin(made)
    state, challenge = asked.pop("state")[0], asked.pop("code_challenge")[0]
    assert asked == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["my client"],
        "redirect_uri": [f"http://test{CALLBACK}"],
        "scope": ["a b"],
        "code_challenge_method": ["S256"],
        "access_type": ["offline"],
    }
    service.answers = [token(refresh_token="refresh-1", scope="a")]
    back = await come_back(made.client, state=state, code="c/1")
    assert back.status_code == 200
    assert "default/svc" in back.text
    assert "default-src 'none'" in back.headers["content-security-policy"]
    [seen] = service.received
    form = parse_qs(seen.body.decode())
    verifier = form.pop("code_verifier")[0]
    assert form == {
        "grant_type": ["authorization_code"],
        "code": ["c/1"],
        "redirect_uri": [f"http://test{CALLBACK}"],
    }
    digest = hashlib.sha256(verifier.encode()).digest()
    assert challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    pair = base64.b64decode(seen.headers["authorization"].removeprefix("Basic "))
    assert pair == b"my%20client:the%3Aclients%26secret"
    assert (await made.result())["status_code"] == 200
    assert service.received[1].headers["authorization"] == "Bearer access-1"
    shown = (await made.client.get(f"{made.path}/oauth")).json()
    assert (shown["connected"], shown["scope"], shown["renews"]) == (True, "a", True)
    row = await only_row(context)
    assert row is not None
    assert "access-1" not in row.access_token_encrypted
    again = await come_back(made.client, state=state, code="c/1")
    assert (again.status_code, len(service.received)) == (400, 2)


async def test_tokens_are_ones_own(make: Make, service: Outside, as_: SignIn) -> None:
    made = await make(auth=code_auth(service))
    await connect(made, service)
    admin = await as_("admin")
    assert (await made.test(client=admin)).status_code == 400
    assert (await admin.get(f"{made.path}/oauth")).json()["connected"] is False
    assert (await admin.delete(f"{made.path}/oauth")).status_code == 404
    assert (await (await as_("other")).get(f"{made.path}/oauth")).status_code == 404
    assert (await (await as_("other")).post(f"{made.path}/oauth/authorize")).status_code == 404
    assert (await made.client.delete(f"{made.path}/oauth")).status_code == 204
    assert "not there yet" in await made.problem()
    assert service.received == []


async def test_another_browser_cannot_end_it(
    context: AppContext, make: Make, service: Outside, client: httpx.AsyncClient
) -> None:
    """Somebody begins, and has another person allow it: the tokens would be the beginner's."""
    made = await make(auth=code_auth(service))
    asked = await begin(made)
    back = await come_back(client, state=asked["state"][0], code="c")
    assert back.status_code == 400
    assert "Another browser" in back.text
    # The state is used up: nobody tries cookies.
    assert (await come_back(made.client, state=asked["state"][0], code="c")).status_code == 400
    assert service.received == []
    assert await only_row(context) is None


@pytest.mark.parametrize("state", ["", "x", "a.b", "ü", "a" * 300, "\x00"])
async def test_states_that_are_none(client: httpx.AsyncClient, state: str) -> None:
    answer = await come_back(client, state=state, code="c")
    assert answer.status_code in (400, 422)


async def test_what_a_service_says_is_not_html(make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    for parameters, told in (
        ({"error": "access_denied"}, "was refused"),
        ({"error": "<script>"}, "failed at the service"),
        ({}, "failed at the service"),
    ):
        asked = await begin(made)
        back = await come_back(made.client, state=asked["state"][0], **parameters)
        assert (back.status_code, told in back.text, "<script" in back.text) == (400, True, False)
    assert service.received == []


@pytest.mark.parametrize(
    "answer",
    [
        reply({"error": "invalid_grant", "error_description": "code the-code"}, 400),
        reply({"error": "<b>the-code</b>"}, 400),
        reply({"access_token": "x"}, 500),
        reply({"access_token": 5}),
        reply({"access_token": ""}),
        reply({"access_token": "a\r\nb"}),
        reply({"access_token": "x", "token_type": "mac"}),
        reply({"access_token": "x", "expires_in": "soon"}),
        reply({"access_token": "x", "expires_in": 10**18}),
        reply({"access_token": "x", "refresh_token": 7}),
        reply([]),
        reply(b"nonsense"),
        reply(None, 302, "Location: http://127.0.0.2/"),
        b"nonsense\r\n\r\n",
    ],
)
async def test_answers_without_a_token(
    context: AppContext, make: Make, service: Outside, answer: bytes
) -> None:
    made = await make(auth=code_auth(service))
    asked = await begin(made)
    service.answers = [answer]
    with capture_logs() as logs:
        back = await come_back(made.client, state=asked["state"][0], code="the-code")
    assert back.status_code == 400
    assert "the-code" not in back.text + str(logs)
    assert await only_row(context) is None


async def test_forms_as_answers_and_tokens_without_end(make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    await connect(made, service, reply(b"access_token=form-token&token_type=bearer&scope=a"))
    await made.result()
    assert service.received[0].headers["authorization"] == "Bearer form-token"
    assert (await made.client.get(f"{made.path}/oauth")).json()["expires_at"] is None


async def test_other_addresses_are_not_allowed_by_that(make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    await connect(made, service)
    for change in (
        {"base_url": "http://127.0.0.2:1/v1"},
        {"auth": code_auth(service, token_url=f"{service.url}/other")},
        {"auth": code_auth(service, client_id="other")},
    ):
        assert (await made.client.put(made.path, json=change)).status_code == 200
        assert "other addresses" in await made.problem()
        assert not (await made.client.get(f"{made.path}/oauth")).json()["connected"]
        back = {"base_url": f"{service.url}/v2", "auth": code_auth(service)}
        await made.client.put(made.path, json=back)
    assert (await made.result())["status_code"] == 200
    elsewhere = {"name": "do", "method": "GET", "path": "/x", "base_url": "http://127.0.0.2:1"}
    await made.client.put(made.path, json={"operations": [elsewhere]})
    assert "do not go there" in await made.problem(status=403)


async def test_an_old_authorization_of_a_changed_connector(make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    asked = await begin(made)
    await made.client.put(made.path, json={"base_url": "http://127.0.0.2:1"})
    back = await come_back(made.client, state=asked["state"][0], code="c")
    assert "changed meanwhile" in back.text
    asked = await begin(made)
    assert (await made.client.delete(made.path)).status_code == 204
    assert "is gone" in (await come_back(made.client, state=asked["state"][0], code="c")).text
    assert service.received == []


async def age(context: AppContext) -> None:
    async with context.unit() as unit:
        past = utcnow() - timedelta(seconds=1)
        await unit.session.execute(update(ConnectorToken).values(expires_at=past))


async def test_it_is_renewed_once(context: AppContext, make: Make, service: Outside) -> None:
    """Many calls at once use one refresh token, which many services take once only."""
    made = await make(auth=code_auth(service))
    await connect(made, service)
    await age(context)
    service.answers = [token("access-2", refresh_token="refresh-2")]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(made.test()) for _ in range(5)]
    assert {call.result().json()["status_code"] for call in calls} == {200}
    form, *others = service.received
    assert parse_qs(form.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh-1"],
        "client_id": ["my client"],
    }
    assert [seen.headers["authorization"] for seen in others] == ["Bearer access-2"] * 5
    await age(context)
    service.received.clear()
    service.answers = [token("access-3")]
    await made.result()
    assert b"refresh_token=refresh-2" in service.received[0].body
    # Not told a new one, the old one goes on.
    assert (await made.client.get(f"{made.path}/oauth")).json()["renews"] is True


async def test_a_withdrawn_permission(context: AppContext, make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    await connect(made, service)
    await age(context)
    service.answers = [reply({"error": "temporarily_unavailable"}, 503)]
    assert "temporarily_unavailable" in await made.problem(status=502)
    assert await only_row(context) is not None
    service.answers = [reply({"error": "invalid_grant"}, 400)]
    assert "was withdrawn" in await made.problem()
    assert await only_row(context) is None
    await connect(made, service, token())
    await age(context)
    assert "has ended" in await made.problem()


async def test_a_token_the_service_does_not_take(make: Make, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    await connect(made, service)
    service.answers = [reply(None, 401), token("access-2", refresh_token="r"), reply(None, 200)]
    assert (await made.result())["status_code"] == 200
    assert [seen.method for seen in service.received] == ["GET", "POST", "GET"]
    post = {"name": "do", "method": "POST", "path": "/do"}
    await made.client.put(made.path, json={"operations": [post]})
    service.received.clear()
    service.answers = [reply(None, 401), token("access-3", refresh_token="r")]
    assert (await made.result())["status_code"] == 401
    assert [seen.target for seen in service.received] == ["/do", "/token"]


async def test_client_credentials(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), CLIENT_SECRET, name="CLIENT")
    made = await make(auth=client_auth(service, scopes=["x"]))
    service.answers = [token("own-1")]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(made.test()) for _ in range(5)]
    assert {call.result().json()["status_code"] for call in calls} == {200}
    form, *others = service.received
    assert form.body == b"grant_type=client_credentials&scope=x"
    assert [seen.headers["authorization"] for seen in others] == ["Bearer own-1"] * 5
    keys = [key async for key in context.redis.scan_iter("*connectors:token:*")]
    assert len(keys) == 1
    kept = await context.redis.get(keys[0])
    assert b"own-1" not in kept
    assert 0 < await context.redis.ttl(keys[0]) <= 3570
    service.received.clear()
    service.answers = [reply(None, 401), token("own-2")]
    assert (await made.result())["status_code"] == 200
    assert [s.headers["authorization"] for s in service.received[::2]] == [
        "Bearer own-1",
        "Bearer own-2",
    ]


async def test_a_client_that_signs_in_by_the_body(
    context: AppContext, make: Make, service: Outside, as_: SignIn
) -> None:
    await make_secret(context, await as_.user(), CLIENT_SECRET, name="CLIENT")
    made = await make(auth=client_auth(service, client_auth="body"))
    service.answers = [token("own-token", expires_in=5), reply({"echo": "own-token"})]
    assert (await made.result())["body"] == {"echo": "[secret]"}
    form = parse_qs(service.received[0].body.decode())
    assert (form["client_id"], form["client_secret"]) == (["id"], [CLIENT_SECRET])
    assert "authorization" not in service.received[0].headers
    # It ends too soon to be kept.
    service.answers = [reply({"error": "invalid_client"}, 401)]
    assert "invalid_client" in await made.problem(status=502)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": None},
        {"token_url": None},
        {"authorize_url": None},
        {"authorize_url": "http://id.example/authorize"},
        {"authorize_url": "javascript:alert(1)"},
        {"token_url": "file:///etc/passwd"},
        {"token_url": "https://a:b@id.example/"},
        {"authorize_params": {"state": "mine"}},
        {"authorize_params": {"uri": "x"}},
        {"authorize_params": {"a b": "x"}},
        {"client_auth": "jwt"},
        {"scopes": "a b"},
    ],
)
async def test_what_cannot_be_configured(
    as_: SignIn, service: Outside, wrong: dict[str, Any]
) -> None:
    body = {"name": "svc", "base_url": service.url, "auth": {**code_auth(service), **wrong}}
    assert (await (await as_("user")).post(PATH, json=body)).status_code == 422


async def test_other_connectors_do_not_ask(make: Make) -> None:
    made = await make()
    answer = await made.client.post(f"{made.path}/oauth/authorize")
    assert answer.status_code == 400
    assert "auth.type is none" in answer.json()["detail"]
