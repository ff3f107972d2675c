"""The platform's end of the way to the internet: what it lets through, and what it says no to."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sinas.egress.policy import Address, EgressPolicy, look_up
from sinas.kit.addresses import parse_networks
from sinas.sandbox import egress
from sinas.sandbox.egress import EgressProxy
from sinas.sandbox.runner.relay import Stream
from tests.support.outside import Outside

HERE = parse_networks("127.0.0.1")
# As `CONNECT` is asked for them; tests/egress/test_policy.py has the full table of addresses.
REFUSED = [
    "127.0.0.2:80",
    "127.2:80",
    "2130706434:80",
    "0x7f000002:80",
    "0177.0.0.2:80",
    "[::1]:80",
    "[::ffff:127.0.0.2]:80",
    "[::ffff:7f00:2]:80",
    "[::]:80",
    "0.0.0.0:80",
    "10.0.0.1:443",
    "192.168.0.1:22",
    "169.254.169.254:80",
    "0xA9FEA9FE:80",
    "[fd00:ec2::254]:80",
    "[64:ff9b::a9fe:a9fe]:80",
    "[2002:7f00:2::]:80",
    "private.test:80",
    "PRIVATE.test:80",
    "both.test:80",
]
NONSENSE = [
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:+80",
    "127.0.0.1:\uff18\uff10",
    "127.0.0.1:80:90",
    "user@127.0.0.1:80",
    "93.184.215.14@127.0.0.1:80",
    "93.184.215.14#@127.0.0.1:80",
    "::1:80",
    "[::1%lo]:80",
    "[127.0.0.1:80",
    "http://127.0.0.1:80",
    "127.0.0.1/:80",
    "m\xfcnchen.test:80",
    "a b:80",
    ":80",
    "127.0.0.1\x00.test:80",
]


class Resolver:
    """Names of this test; answers change from one lookup to the next."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {
            "private.test": [["10.0.0.1"]],
            "both.test": [["127.0.0.1", "10.0.0.1"]],
            "rebind.test": [["127.0.0.1"], ["10.0.0.1"]],
            "here.test": [["127.0.0.1"]],
            "nowhere.test": [[]],
        }

    async def __call__(self, host: str) -> list[Address]:
        name = host.lower()
        if name in self.answers:
            known = self.answers[name]
            return [ip_address(one) for one in (known.pop(0) if len(known) > 1 else known[0])]
        return await look_up(host)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[EgressProxy]:
    """Lets through to 127.0.0.1, which is no public address, and nowhere else on this machine."""
    opened = EgressProxy(tmp_path / "proxy.sock", EgressPolicy(HERE, lookup=Resolver()))
    await opened.start()
    yield opened
    await opened.aclose()


@pytest.fixture
async def server() -> AsyncIterator[Outside]:
    async with Outside(tls=False) as server:
        yield server


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_unix_connection(path / "proxy.sock")
    try:
        yield reader, writer
    finally:
        writer.close()


async def head_of(path: Path, request: str) -> str:
    """The status line that answers a request head."""
    async with connected(path) as (reader, writer):
        writer.write(f"{request}\r\n\r\n".encode())
        return (await reader.readline()).decode().strip()


async def tunnel(stream: Stream, authority: str) -> None:
    stream[1].write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    assert await stream[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.usefixtures("proxy")
class TestRefusing:
    @pytest.mark.parametrize("authority", REFUSED)
    async def test_addresses_that_are_not_public(self, authority: str, tmp_path: Path) -> None:
        assert " 403 '" in await head_of(tmp_path, f"CONNECT {authority} HTTP/1.1")
        if not authority.startswith("["):  # as a URL it is the same
            assert " 403 '" in await head_of(tmp_path, f"GET http://{authority}/x HTTP/1.1")

    @pytest.mark.parametrize("authority", NONSENSE)
    async def test_what_is_no_address(self, authority: str, tmp_path: Path) -> None:
        assert " 400 " in await head_of(tmp_path, f"CONNECT {authority} HTTP/1.1")

    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "https://127.0.0.1/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "http://user@127.0.0.1/",
            "http://[::1/",
            "http:///",
        ],
    )
    async def test_what_is_no_url_for_a_proxy(self, target: str, tmp_path: Path) -> None:
        assert " 400 " in await head_of(tmp_path, f"GET {target} HTTP/1.1")

    async def test_the_answer_is_one_sentence_in_the_reason_and_in_the_body(
        self, tmp_path: Path
    ) -> None:
        async with connected(tmp_path) as (reader, writer):
            writer.write(b"CONNECT private.test:443 HTTP/1.1\r\n\r\n")
            answer = (await reader.read()).decode()
        sentence = (
            "'private.test' may not be reached: it has no public address, and "
            "EGRESS_ALLOW_HOSTS does not name it."
        )
        assert answer.startswith(f"HTTP/1.1 403 {sentence}\r\n")
        assert answer.endswith(f"\r\n\r\n{sentence}\n")

    async def test_what_cannot_be_reached(self, tmp_path: Path) -> None:
        async with listening(lambda *_: None) as port:
            pass  # closed by now
        line = await head_of(tmp_path, f"CONNECT here.test:{port} HTTP/1.1")
        assert line == f"HTTP/1.1 502 'here.test:{port}' cannot be reached: Connection refused."
        line = await head_of(tmp_path, "CONNECT nowhere.test:80 HTTP/1.1")
        assert line == "HTTP/1.1 502 The host 'nowhere.test' cannot be found."

    async def test_endless_heads(self, tmp_path: Path) -> None:
        async with connected(tmp_path) as (reader, writer):
            writer.write(b"GET http://here.test/ HTTP/1.1\r\n" + b"X: y\r\n" * 50_000)
            assert b" 400 " in await reader.readline()

    async def test_refusals_are_logged_once_without_what_was_said(self, tmp_path: Path) -> None:
        with capture_logs() as logs:
            for _ in range(3):
                await head_of(tmp_path, "GET http://private.test:81/?token=secret HTTP/1.1")
        refused = [entry for entry in logs if entry["event"] == "egress.refused"]
        told = [(entry["host"], entry["port"], entry["address"]) for entry in refused]
        assert told == [("private.test", 81, "10.0.0.1")]
        assert "secret" not in str(logs)


@pytest.mark.usefixtures("proxy")
class TestCarrying:
    async def test_a_request_for_a_url(self, tmp_path: Path, server: Outside) -> None:
        async with connected(tmp_path) as (reader, writer):
            writer.write(
                f"POST http://here.test:{server.port}/a?b=c HTTP/1.1\r\nHost: other.test\r\n"
                "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
                "Connection: keep-alive\r\nX-Mine: 1\r\nContent-Length: 4\r\n\r\nbody".encode()
            )
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        [seen] = await server.wait_for(1)
        assert (seen.method, seen.target, seen.body) == ("POST", "/a?b=c", b"body")
        assert seen.headers == {
            "host": f"here.test:{server.port}",
            "connection": "close",
            "x-mine": "1",
            "content-length": "4",
        }

    async def test_the_connection_goes_to_the_address_that_was_checked(
        self, tmp_path: Path, server: Outside
    ) -> None:
        request = f"GET http://rebind.test:{server.port}/ HTTP/1.1"
        assert await head_of(tmp_path, request) == "HTTP/1.1 200 OK"
        assert " 403 '" in await head_of(tmp_path, request)
        assert len(server.received) == 1

    async def test_servers_that_speak_first(self, tmp_path: Path) -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hello\r\n")
            writer.close()

        async with listening(greet) as port, connected(tmp_path) as stream:
            await tunnel(stream, f"127.0.0.1:{port}")
            assert await stream[0].read() == b"220 hello\r\n"

    async def test_much_in_both_directions_and_half_a_connection(self, tmp_path: Path) -> None:
        async def echo_at_the_end(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(await reader.read())  # until the other side has said all it has to
            writer.close()

        data = os.urandom(8_000_000)
        async with listening(echo_at_the_end) as port, connected(tmp_path) as (reader, writer):
            await tunnel((reader, writer), f"127.0.0.1:{port}")
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data

    async def test_who_is_not_read_from_is_not_read_from_either(self, tmp_path: Path) -> None:
        held = asyncio.Event()

        async def never_read(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await held.wait()
            writer.close()

        async with listening(never_read) as port, connected(tmp_path) as (reader, writer):
            await tunnel((reader, writer), f"127.0.0.1:{port}")
            writer.write(b"x" * 200_000_000)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
            held.set()


@pytest.mark.usefixtures("proxy")
class TestLimits:
    async def test_connections_of_one_sandbox(
        self, tmp_path: Path, server: Outside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(egress, "_MAX_CONNECTIONS", 1)
        async with connected(tmp_path) as first:
            await tunnel(first, f"127.0.0.1:{server.port}")
            line = await head_of(tmp_path, f"CONNECT 127.0.0.1:{server.port} HTTP/1.1")
            assert line == "HTTP/1.1 503 This sandbox has 1 connections open already."

    async def test_silence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(egress, "_WATCH_SECONDS", 0.01)
        monkeypatch.setattr(egress, "_IDLE_SECONDS", 0.05)
        ended = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.read() == b""
            ended.set()
            writer.close()

        async with listening(wait) as port, connected(tmp_path) as stream:
            await tunnel(stream, f"127.0.0.1:{port}")
            assert await stream[0].read() == b""
            await ended.wait()

    async def test_a_caller_that_is_gone_leaves_room_whatever_its_server_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(egress, "_WATCH_SECONDS", 0.01)
        monkeypatch.setattr(egress, "_MAX_CONNECTIONS", 1)
        over = asyncio.Event()

        async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        async with listening(hold) as port:
            request = f"CONNECT 127.0.0.1:{port} HTTP/1.1"
            async with connected(tmp_path) as stream:
                await tunnel(stream, f"127.0.0.1:{port}")
                assert " 503 " in await head_of(tmp_path, request)
            while await head_of(tmp_path, request) != "HTTP/1.1 200 OK":
                await asyncio.sleep(0.01)
            over.set()

    async def test_closing_ends_every_connection(
        self,
        tmp_path: Path,
        proxy: EgressProxy,
        server: Outside,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        server.answer = None
        async with connected(tmp_path) as stream:
            await tunnel(stream, f"127.0.0.1:{server.port}")
            await proxy.aclose()
            assert await stream[0].read() == b""
        assert [record for record in caplog.records if record.name == "asyncio"] == []
        assert not (tmp_path / "proxy.sock").exists()
