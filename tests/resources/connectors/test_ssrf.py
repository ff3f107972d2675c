"""Server-side request forgery by connectors: by their address, documents, tokens, redirects.

The same tricks as for the client itself; callbacks are in tests/egress.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from sinas.egress.client import GuardedClient
from sinas.egress.policy import EgressPolicy
from sinas.kit.addresses import parse_networks
from tests.egress.tricks import HOSTS, URLS, tricks
from tests.resources.connectors.conftest import PATH, Make, schema
from tests.resources.connectors.test_oauth import begin, code_auth, come_back
from tests.support.outside import OK, Outside, redirect

if TYPE_CHECKING:
    import httpx

    from sinas.context import AppContext
    from sinas.egress.policy import Address
    from tests.fixtures.client import SignIn


@pytest.fixture
async def inside() -> AsyncIterator[Outside]:
    """A server that must not be reached."""
    async with Outside(tls=False) as server:
        yield server


@pytest.fixture
async def client(as_: SignIn) -> httpx.AsyncClient:
    return await as_("user")


def both(port: int) -> list[str]:
    return [*tricks(port), *tricks(port, "https")]


def test_there_are_enough_of_them() -> None:
    assert len({*HOSTS, *URLS}) >= 60


async def test_base_urls(inside: Outside, client: httpx.AsyncClient) -> None:
    operation = {"name": "do", "method": "GET", "path": "/x"}
    for number, url in enumerate(both(inside.port)):
        body = {"name": f"n{number}", "base_url": url, "operations": [operation]}
        made = await client.post(PATH, json=body)
        if made.status_code == 201:
            answer = await client.post(f"{PATH}/default/n{number}/test/do", json={})
            assert answer.status_code in (400, 502), (url, answer.text)
            assert str(inside.port) not in answer.json()["detail"] or "port" in answer.text
        else:
            assert made.status_code == 422, (url, made.text)
    assert inside.received == []


async def test_addresses_of_operations(
    make: Make, inside: Outside, client: httpx.AsyncClient
) -> None:
    made = await make()
    for url in tricks(inside.port):
        operation = {"name": "do", "method": "GET", "path": "/x", "base_url": url}
        changed = await client.put(made.path, json={"operations": [operation]})
        assert changed.status_code in (200, 422), (url, changed.text)
        if changed.status_code == 200:
            assert (await made.test()).status_code in (400, 502), url
    assert inside.received == []


async def test_spec_urls(inside: Outside, client: httpx.AsyncClient) -> None:
    for url in tricks(inside.port):
        answer = await client.post(f"{PATH}/parse-openapi", json={"spec_url": url})
        assert answer.status_code == 400, (url, answer.text)
    assert inside.received == []


async def test_token_urls(make: Make, inside: Outside, service: Outside) -> None:
    made = await make(auth=code_auth(service))
    for url in tricks(inside.port):
        auth = code_auth(service, token_url=url)
        changed = await made.client.put(made.path, json={"auth": auth})
        if changed.status_code == 200:
            asked = await begin(made)
            back = await come_back(made.client, state=asked["state"][0], code="c")
            assert back.status_code == 400, url
        else:
            assert changed.status_code == 422, (url, changed.text)
    assert inside.received == service.received == []


async def test_redirects(make: Make, inside: Outside, service: Outside) -> None:
    made = await make()
    for url in tricks(inside.port):
        # Where there is no host it means the server itself, which then answers.
        away = redirect("").replace(b"Location: ", b"Location: " + url.encode())
        service.answers = [away.replace(b"\r\nHost: ", b"%0d%0aHost: ")]
        answer = await made.test()
        assert answer.status_code in (200, 400, 502), (url, answer.text)
        service.answers = [away]
        body = {"spec_url": service.url}
        assert (await made.client.post(f"{PATH}/parse-openapi", json=body)).status_code == 400
    assert inside.received == []


@pytest.mark.parametrize(
    "value", ["@127.0.0.1", "//127.0.0.1/", ".127.0.0.1", ":80@127.0.0.1", "\\\\127.0.0.1\\"]
)
async def test_arguments_do_not_name_the_host(make: Make, service: Outside, value: str) -> None:
    for path in ("{{x}}", "/{{x}}", "//{{x}}", "?u={{x}}"):
        made = await make({"path": path, "parameters": schema(x={})}, name=f"n{len(path)}")
        answer = await made.test({"x": value})
        assert answer.json()["status_code"] == 200, answer.text
        assert service.received[-1].headers["host"] == f"127.0.0.2:{service.port}"
        await made.client.delete(made.path)


async def test_a_name_that_changes_its_mind(
    context: AppContext, make: Make, inside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it is looked at first, private when it is connected to."""
    from ipaddress import ip_address

    answers: list[str] = []

    async def lookup(host: str) -> list[Address]:
        assert host == "rebind.example"
        return [ip_address(answers.pop(0))]

    policy = EgressPolicy(parse_networks("127.0.0.2"), lookup=lookup)
    client = GuardedClient(policy)
    monkeypatch.setattr(context.http, "_policy", policy)
    monkeypatch.setattr(context.http, "_transport", None)
    good = Outside(tls=False, host="127.0.0.2", port=inside.port)
    async with good:
        good.answer = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        url = f"http://rebind.example:{inside.port}"
        made = await make(base_url=url, retry={"max_attempts": 3})
        answers[:] = ["127.0.0.2", "127.0.0.1"]
        assert (await made.result())["status_code"] == 200
        detail = await made.problem()
        assert "'rebind.example' may not be reached: it has no public address" in detail
        assert "EGRESS_ALLOW_HOSTS" in detail
        assert "127.0.0.1" not in detail
        answers[:] = ["127.0.0.1"]
        body: dict[str, Any] = {"spec_url": url}
        assert (await made.client.post(f"{PATH}/parse-openapi", json=body)).status_code == 400
        assert (len(good.received), inside.received) == (1, [])
    await context.http.aclose()
    await client.aclose()
