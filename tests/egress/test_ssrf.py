"""Server-side request forgery: nothing that may not be reached gets a request, by any trick."""

from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest

from sinas.auth.tokens import TokenSigner
from sinas.egress.callbacks import Callback, CallbackSender
from sinas.egress.client import GuardedClient, TooManyRedirectsError
from sinas.egress.policy import Address, EgressError, EgressPolicy
from sinas.errors import UpstreamError
from sinas.kit.addresses import parse_networks
from sinas.settings.egress import parse_hosts
from tests.egress.tricks import HOSTS, URLS, tricks
from tests.fixtures.configuration import changed, make_settings
from tests.support.outside import OK, Outside, redirect

NUMBERS = range(len(HOSTS) + len(URLS))


@pytest.fixture
async def inside() -> AsyncIterator[Outside]:
    """A server that must not be reached."""
    async with Outside(tls=False) as server:
        yield server


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    """A server that may."""
    async with Outside(tls=False, host="127.0.0.2") as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    client = GuardedClient(EgressPolicy(parse_networks("127.0.0.2")))
    yield client
    await client.aclose()


def test_there_are_enough_of_them() -> None:
    assert len({*HOSTS}) == len(HOSTS) >= 30
    assert len(tricks(1)) == len(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
async def test_the_client_refuses(number: int, inside: Outside, client: GuardedClient) -> None:
    with pytest.raises((EgressError, UpstreamError)):
        await client.request("GET", tricks(inside.port)[number], timeout_seconds=5)
    assert inside.received == []


@pytest.mark.parametrize("number", NUMBERS)
async def test_redirects_do_not_lead_there(
    number: int, inside: Outside, outside: Outside, client: GuardedClient
) -> None:
    target = tricks(inside.port)[number].replace("\r\n", "%0d%0a")
    outside.answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
    outside.answer += target.encode() + b"\r\n\r\n"
    try:
        answer = await client.request("GET", outside.url, timeout_seconds=5, max_redirects=3)
    except (EgressError, UpstreamError):
        pass
    else:
        assert answer.status == 302
    assert inside.received == []


@pytest.mark.parametrize("number", NUMBERS)
async def test_callbacks_do_not_go_there(number: int, tmp_path: Path) -> None:
    settings = make_settings(database_url="", redis_url="", data_dir=tmp_path)
    settings = changed(settings, function={"callback_url_hosts": "*"})
    async with Outside() as inside:
        http = GuardedClient(EgressPolicy.of(settings), inside.trust)
        sender = CallbackSender(http, TokenSigner("k"), settings)
        for scheme in ("http", "https"):
            url = tricks(inside.port, scheme)[number]
            callback = Callback(url=url, user_id=uuid4(), email="", access=None, body={})
            assert await sender.send(callback) is None
        assert inside.received == []
        await http.aclose()


def closing(answer: bytes) -> bytes:
    """An answer after which the client has to connect, and look the name up, again."""
    return answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_a_name_that_changes_its_mind_is_asked_once_and_then_checked_again() -> None:
    answers = ["127.0.0.2", "127.0.0.1"]

    async def lookup(host: str) -> list[Address]:
        assert host == "rebind.example"
        return [ip_address(answers.pop(0))]

    policy = EgressPolicy(parse_networks("127.0.0.2"), lookup=lookup)
    good = Outside(tls=False, host="127.0.0.2")
    async with good, Outside(tls=False, port=good.port) as bad:
        client = GuardedClient(policy)
        url = f"http://rebind.example:{good.port}/"
        good.answer = closing(OK)
        assert (await client.request("GET", url)).status == 200
        assert answers == ["127.0.0.1"]
        with pytest.raises(EgressError, match=r"rebind\.example"):
            await client.request("GET", url)
        assert (len(good.received), bad.received) == (1, [])
        await client.aclose()


async def test_a_redirect_to_the_same_name_is_resolved_and_checked_again() -> None:
    answers = ["127.0.0.2", "127.0.0.1"]

    async def lookup(host: str) -> list[Address]:
        return [ip_address(answers.pop(0))]

    policy = EgressPolicy(parse_networks("127.0.0.2"), lookup=lookup)
    good = Outside(tls=False, host="127.0.0.2")
    async with good, Outside(tls=False, port=good.port) as bad:
        good.answer = closing(redirect("/again"))
        client = GuardedClient(policy)
        url = f"http://rebind.example:{good.port}/"
        with pytest.raises(EgressError):
            await client.request("GET", url, max_redirects=3)
        assert (len(good.received), bad.received) == (1, [])
        await client.aclose()


SECRETS = {
    "Authorization": "Bearer s3cret",
    "Cookie": "session=s3cret",
    "X-Api-Key": "s3cret",
    "Accept": "application/json",
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_origin_gets_no_credentials(
    status: int, outside: Outside, client: GuardedClient
) -> None:
    async with Outside(tls=False, host="127.0.0.2") as other:
        outside.answer = redirect(f"{other.url}/next", status)
        answer = await client.request("GET", outside.url, headers=SECRETS, max_redirects=1)
        assert answer.status == 200
        assert outside.received[0].headers["x-api-key"] == "s3cret"
        [seen] = other.received
        assert (seen.target, seen.headers["accept"]) == ("/next", "application/json")
        assert "s3cret" not in str(seen.headers)


async def test_the_same_origin_gets_what_the_first_request_had(
    outside: Outside, client: GuardedClient
) -> None:
    outside.answers = [redirect("/b", 307), redirect("c", 303)]
    answer = await client.request(
        "POST", f"{outside.url}/a", headers=SECRETS, content=b"body", max_redirects=2
    )
    assert answer.status == 200
    assert [(s.method, s.target, s.body) for s in outside.received] == [
        ("POST", "/a", b"body"),
        ("POST", "/b", b"body"),
        ("GET", "/c", b""),
    ]
    assert {s.headers["authorization"] for s in outside.received} == {"Bearer s3cret"}
    assert {s.headers["x-api-key"] for s in outside.received} == {"s3cret"}


async def test_a_body_does_not_go_to_another_origin(
    outside: Outside, client: GuardedClient
) -> None:
    async with Outside(tls=False, host="127.0.0.2") as other:
        outside.answer = redirect(other.url, 307)
        answer = await client.request("POST", outside.url, content=b"private", max_redirects=1)
        assert (answer.status, other.received) == (307, [])


async def test_nothing_goes_from_https_to_http(inside: Outside) -> None:
    async with Outside() as server:
        client = GuardedClient(EgressPolicy(parse_networks("127.0.0.1")), server.trust)
        server.answer = redirect(inside.url)
        answer = await client.request("GET", server.url, headers=SECRETS, max_redirects=1)
        assert (answer.status, inside.received) == (302, [])
        await client.aclose()


async def test_redirects_end(outside: Outside, client: GuardedClient) -> None:
    outside.answer = redirect("/again")
    with pytest.raises(TooManyRedirectsError, match="more than 3 times"):
        await client.request("GET", outside.url, max_redirects=3)
    assert len(outside.received) == 4


async def test_cookies_of_one_request_are_not_in_the_next(
    outside: Outside, client: GuardedClient
) -> None:
    outside.answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=mine; Path=/\r\n\r\n")
    for _ in range(2):
        await client.request("GET", outside.url)
    assert all("cookie" not in seen.headers for seen in outside.received)


async def test_headers_may_be_any_text(outside: Outside, client: GuardedClient) -> None:
    await client.request("GET", outside.url, headers={"X-Name": "Zoë ☃", "accept": "text/html"})
    [seen] = outside.received
    assert seen.headers["x-name"].encode("latin-1").decode() == "Zoë ☃"
    assert seen.headers["accept"] == "text/html"
    with pytest.raises(UpstreamError):
        await client.request("GET", outside.url, headers={"X-Bad": "a\r\nX-Other: b"})
    assert len(outside.received) == 1


@pytest.mark.parametrize(
    ("allowed", "reached", "refused"),
    [
        ("127.0.0.2", ["127.0.0.2:80", "127.0.0.2:81"], ["127.0.0.3:80"]),
        ("127.0.0.2:81", ["127.0.0.2:81"], ["127.0.0.2:80"]),
        ("10.0.0.0/8, [::1]:81", ["10.1.2.3:1", "::1:81"], ["::1:80", "127.0.0.1:81"]),
        ("LocalHost", ["localhost:80", "LOCALHOST:9"], ["127.0.0.1:80", "0.0.0.0:80"]),
        ("localhost.:81", ["localhost:81"], ["localhost:80"]),
        ("", [], ["localhost:80", "127.0.0.2:80"]),
    ],
)
async def test_what_the_operator_allowed(
    allowed: str, reached: list[str], refused: list[str]
) -> None:
    policy = EgressPolicy(hosts=parse_hosts(allowed))
    for text in reached:
        host, _, port = text.rpartition(":")
        assert await policy.resolve(host, int(port))
    for text in refused:
        host, _, port = text.rpartition(":")
        with pytest.raises(EgressError):
            await policy.resolve(host, int(port))


@pytest.mark.parametrize(
    "wrong", ["http://host", "host:0", "host:99999", "10.0.0.0/33", "1.2.3.4.5", "a b", "*", "-"]
)
def test_what_an_operator_cannot_allow(wrong: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_hosts(f"good.example, {wrong}")
