"""Signing in with tokens of an identity provider."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from jose import jwt

from sinas.app import create_app
from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.kit.addresses import parse_networks
from tests.fixtures.client import BASE_URL, SignIn
from tests.fixtures.configuration import changed
from tests.fixtures.state import in_own_task
from tests.support.identity_provider import AUDIENCE, IdentityProvider, SigningKey
from tests.support.outside import Outside, reply

if TYPE_CHECKING:
    from sinas.context import AppContext

KEY = SigningKey("one")
OTHER = SigningKey("two")
CURVED = SigningKey("three", "ES256")
PATH = "/auth/external-auth"


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with Outside() as outside:
        yield IdentityProvider(outside)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Front:
    """The platform, set up to believe a provider."""

    def __init__(self, context: AppContext, provider: IdentityProvider, stack: AsyncExitStack):
        self._context = context
        self._provider = provider
        self._stack = stack

    async def __call__(self, *, tries: int = 1000, **oidc: Any) -> httpx.AsyncClient:
        known = {"issuer": self._provider.issuer, "audience": AUDIENCE} | oidc
        limits = {"rate_limit_login_ip_max": tries}
        settings = changed(self._context.settings, oidc=known, auth=limits)
        http = GuardedClient(
            EgressPolicy(parse_networks("127.0.0.1")), self._provider.outside.trust
        )
        self._stack.push_async_callback(http.aclose)
        app = create_app(settings, dataclasses.replace(self._context, settings=settings, http=http))
        await self._stack.enter_async_context(in_own_task(app.router.lifespan_context(app)))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=BASE_URL)
        return await self._stack.enter_async_context(client)


@pytest.fixture
def front(context: AppContext, provider: IdentityProvider, stack: AsyncExitStack) -> Front:
    return Front(context, provider, stack)


async def exchanged(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post(PATH, json={"token": token})


@pytest.mark.parametrize("key", [KEY, CURVED], ids=["RS256", "ES256"])
async def test_a_token_becomes_ours(
    front: Front, provider: IdentityProvider, as_: SignIn, key: SigningKey
) -> None:
    user = await as_.user("user")
    client = await front()
    provider.publishes(OTHER, key)
    answer = await exchanged(client, provider.token(key, user.email.upper()))
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"]["email"] == user.email
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/auth/me", headers=bearer)).json()["id"] == str(user.id)
    renewed = await client.post(
        "/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]}
    )
    assert renewed.status_code == 200
    # The keys are kept: the provider is not asked again.
    again = await exchanged(client, provider.token(key, user.email))
    assert again.status_code == 200
    assert [each.target for each in provider.outside.received] == [
        "/.well-known/openid-configuration",
        "/keys",
    ]


async def test_only_tries_that_fail_are_limited(
    front: Front, provider: IdentityProvider, as_: SignIn
) -> None:
    """The server of an application signs all of its users in, from one address."""
    user = await as_.user("user")
    client = await front(tries=2)
    provider.publishes(KEY)
    good = provider.token(KEY, user.email)
    bad = provider.token(KEY, "nobody@example.com")
    statuses = [(await exchanged(client, token)).status_code for token in [good] * 5]
    statuses += [(await exchanged(client, token)).status_code for token in [bad, bad, bad, good]]
    assert statuses == [200] * 5 + [403, 403, 429, 429]


async def test_a_new_key_is_asked_for_once(
    front: Front, provider: IdentityProvider, as_: SignIn
) -> None:
    user = await as_.user("user")
    client = await front()
    provider.publishes(KEY)
    assert (await exchanged(client, provider.token(KEY, user.email))).status_code == 200
    provider.publishes(KEY, OTHER)
    assert (await exchanged(client, provider.token(OTHER, user.email))).status_code == 200
    # Whoever makes up key ids has nobody asked for them.
    assert (await exchanged(client, provider.token(CURVED, user.email))).status_code == 401
    assert len(provider.outside.received) == 4


async def test_a_token_that_another_signed(
    front: Front, provider: IdentityProvider, as_: SignIn
) -> None:
    user = await as_.user("user")
    client = await front()
    provider.publishes(KEY)
    forged = SigningKey("one")
    refused = await exchanged(client, provider.token(forged, user.email))
    assert refused.status_code == 401
    # Signed with the public key as if it were a shared secret (RFC 8725 §2.1), or not at all.
    claims = jwt.get_unverified_claims(provider.token(KEY, user.email))
    head, body, _ = provider.token(KEY, user.email).split(".")
    shared = jwt.encode(claims, "secret", algorithm="HS256", headers={"kid": "one"})
    nothing = f"eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.{body}."
    for token in (shared, nothing, f"{head}.{body}.", "no.token", "x", f"{head}.{body}.AAAA"):
        answer = await exchanged(client, token)
        assert answer.status_code == 401, (token, answer.text)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": [AUDIENCE, "another"], "azp": "another"},
        {"aud": [AUDIENCE, "another"]},
        {"azp": "another"},
        {"exp": -120},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"nbf": 3600},
        {"email": None},
        {"email": "not an address"},
        {"email": ["user@example.com"]},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
    ],
    ids=str,
)
async def test_a_token_for_others_or_without_an_address(
    front: Front, provider: IdentityProvider, as_: SignIn, claims: dict[str, Any]
) -> None:
    user = await as_.user("user")
    client = await front()
    provider.publishes(KEY)
    # Times are seconds from now: of a moment, workers of the run would name it differently.
    now = int(time.time())
    told: dict[str, Any] = {"email": user.email} | {
        name: now + each if type(each) is int else each for name, each in claims.items()
    }
    refused = await exchanged(client, provider.token(KEY, **told))
    assert refused.status_code == 401, refused.text
    assert "www-authenticate" in refused.headers
    assert "not valid here" in refused.json()["detail"]


async def test_who_has_no_user(front: Front, provider: IdentityProvider, as_: SignIn) -> None:
    client = await front()
    provider.publishes(KEY)
    refused = await exchanged(client, provider.token(KEY, "new@example.com"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    ready = await front(auto_provision=True)
    async with asyncio.TaskGroup() as group:
        token = provider.token(KEY, "new@example.com")
        tasks = [group.create_task(exchanged(ready, token)) for _ in range(2)]
    both = [task.result() for task in tasks]
    assert [each.status_code for each in both] == [200, 200]
    assert both[0].json()["user"]["id"] == both[1].json()["user"]["id"]
    assert both[0].json()["user"]["roles"] == ["GuestUsers"]
    # Whom an administrator deactivated does not come back by themselves.
    user_id = both[0].json()["user"]["id"]
    admin = await as_("admin")
    assert (await admin.delete(f"/api/v1/users/{user_id}")).status_code in (200, 204)
    again = await exchanged(ready, provider.token(KEY, "new@example.com"))
    assert again.status_code == 403


async def test_addresses_that_are_believed_anyhow(
    front: Front, provider: IdentityProvider, as_: SignIn
) -> None:
    user = await as_.user("user")
    client = await front(trust_email=True)
    provider.publishes(KEY)
    token = provider.token(KEY, user.email, email_verified=None)
    assert (await exchanged(client, token)).status_code == 200


@pytest.mark.parametrize(
    "answers",
    [
        [reply("gone", 500)],
        [reply(b"no json")],
        [reply(["a list"])],
        [reply({"issuer": "https://other.example.com", "jwks_uri": "https://a.example/keys"})],
        [reply({"issuer": "ISSUER", "jwks_uri": "http://127.0.0.1/keys"})],
        [reply({"issuer": "ISSUER"})],
        [reply({"issuer": "ISSUER", "jwks_uri": "https://10.0.0.1/keys"})],
        [reply({"issuer": "ISSUER", "jwks_uri": "ISSUER/keys"}), reply({})],
    ],
    ids=range(8),
)
async def test_a_provider_that_is_away_or_odd(
    front: Front, provider: IdentityProvider, answers: list[bytes]
) -> None:
    client = await front()
    for answer in answers:
        head, _, body = answer.partition(b"\r\n\r\n")
        body = body.replace(b"ISSUER", provider.issuer.encode())
        start = head[: head.rindex(b"Content-Length")]
        provider.outside.answers.append(
            start + f"Content-Length: {len(body)}".encode() + b"\r\n\r\n" + body
        )
    refused = await exchanged(client, provider.token(KEY, "user@example.com"))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable"), refused.text
    assert provider.issuer in refused.json()["detail"]


@pytest.mark.parametrize(
    "keys", [["text"], [{}], [{"kty": "RSA", "kid": "one", "n": "!", "e": 7}], [{"kty": 5}]]
)
async def test_keys_that_are_none(
    front: Front, provider: IdentityProvider, keys: list[Any]
) -> None:
    client = await front()
    about = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys"}
    provider.outside.answers += [reply(about), reply({"keys": keys})] * 2
    refused = await exchanged(client, provider.token(KEY, "user@example.com"))
    assert refused.status_code == 401, refused.text


async def test_without_a_provider(client: httpx.AsyncClient) -> None:
    refused = await exchanged(client, "any")
    assert refused.status_code == 404
    assert "OIDC_ISSUER" in refused.json()["detail"]
