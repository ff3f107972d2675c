"""The guarded client: what it sends, where it goes, and what it makes of answers."""

import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from sinas.egress.client import GuardedClient
from sinas.egress.policy import Address, EgressError, EgressPolicy
from sinas.errors import UpstreamError
from sinas.kit.addresses import parse_networks
from tests.support.outside import Outside

HERE = EgressPolicy(parse_networks("127.0.0.1"))


@pytest.fixture
async def server() -> AsyncIterator[Outside]:
    async with Outside() as server:
        yield server


@pytest.fixture
async def client(server: Outside) -> AsyncIterator[GuardedClient]:
    client = GuardedClient(HERE, server.trust)
    yield client
    await client.aclose()


async def test_a_request_and_its_answer(server: Outside, client: GuardedClient) -> None:
    server.answer = b"HTTP/1.1 418 Teapot\r\nX-Kind: pot\r\nContent-Length: 5\r\n\r\nshort"
    answer = await client.request(
        "PUT", f"{server.url}/a%20b?c=d&e", headers={"X-Mine": "1"}, content=b"hello"
    )
    assert (answer.status, answer.body, answer.is_whole) == (418, b"short", True)
    assert answer.headers["x-kind"] == "pot"
    [seen] = server.received
    assert (seen.method, seen.target, seen.body) == ("PUT", "/a%20b?c=d&e", b"hello")
    assert seen.headers["x-mine"] == "1"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"


async def test_a_redirect_is_an_answer_and_not_followed(
    server: Outside, client: GuardedClient
) -> None:
    server.answer = (
        f"HTTP/1.1 302 Found\r\nLocation: {server.url}/next\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert (await client.request("GET", server.url)).status == 302
    assert [seen.target for seen in server.received] == ["/"]


async def test_the_address_of_a_refused_name_is_in_the_log_alone() -> None:
    async def lookup(host: str) -> list[Address]:
        return [ip_address("10.1.2.3")]

    client = GuardedClient(EgressPolicy(lookup=lookup))
    with capture_logs() as logs, pytest.raises(EgressError) as refused:
        await client.request("GET", "http://db.corp:81/")
    await client.aclose()
    assert "10.1.2.3" not in refused.value.message
    told = {"event": "egress.refused", "host": "db.corp", "port": 81, "address": "10.1.2.3"}
    assert [told.items() <= line.items() for line in logs] == [True]


async def test_the_environments_proxy_is_not_used(
    server: Outside, client: GuardedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await client.request("GET", server.url)).status == 200


async def test_a_large_answer_is_cut(server: Outside, client: GuardedClient) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    answer = await client.request("GET", server.url, max_bytes=1000)
    assert (len(answer.body), answer.is_whole) == (1000, False)
    # The rest of it is not read on, as part of another answer.
    server.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert (await client.request("GET", server.url)).status == 204


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::1]:{port}/",
        "http://localhost:{port}/",
        "http://0.0.0.0:{port}/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://224.0.0.1/",
    ],
)
async def test_addresses_that_are_not_public_are_refused(server: Outside, url: str) -> None:
    client = GuardedClient(EgressPolicy(), server.trust)
    with pytest.raises(EgressError):
        await client.request("GET", url.format(port=server.port), timeout_seconds=5)
    assert server.received == []
    await client.aclose()


class Rebinding(EgressPolicy):
    """A name that is a public address when it is checked; what it is later does not matter."""

    @override
    async def resolve(self, host: str, port: int) -> list[Address]:
        assert host == "rebinding.example"
        return [ip_address("127.0.0.1")]


async def test_the_connection_goes_to_the_checked_address_and_nowhere_else() -> None:
    async with Outside(tls=False) as server:
        client = GuardedClient(Rebinding())
        answer = await client.request("GET", f"http://rebinding.example:{server.port}/")
        assert answer.status == 200
        assert server.received[0].headers["host"] == f"rebinding.example:{server.port}"
        await client.aclose()


async def test_certificates_are_verified_against_the_name(server: Outside) -> None:
    """The certificate is for 127.0.0.1, which is where the connection goes, but not the name."""
    client = GuardedClient(Rebinding(), server.trust)
    with pytest.raises(UpstreamError, match="certificate"):
        await client.request("GET", f"https://rebinding.example:{server.port}/")
    await client.aclose()
    stranger = GuardedClient(HERE, ssl.create_default_context())
    with pytest.raises(UpstreamError, match="certificate"):
        await stranger.request("GET", server.url)
    await stranger.aclose()


async def test_what_goes_wrong_is_one_sentence(server: Outside, client: GuardedClient) -> None:
    server.answer = b"nonsense\r\n\r\n"
    with pytest.raises(UpstreamError, match="did not answer in HTTP"):
        await client.request("GET", server.url)
    server.answer = None
    with pytest.raises(UpstreamError, match=r"within 0\.2 seconds"):
        await client.request("GET", server.url, timeout_seconds=0.2)
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await client.request("GET", "https://127.0.0.1:1/")
    for url in ("ftp://127.0.0.1/", "nonsense", "https://", "http://127.0.0.1:99999/", "h\n://x"):
        with pytest.raises(UpstreamError, match="URL cannot be used"):
            await client.request("GET", url)
