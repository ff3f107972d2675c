"""The transport against raw bytes: what servers may send, and what they should not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sinas.errors import UpstreamError
from sinas.llm.base import Provider
from sinas.llm.http1 import StreamTransport
from sinas.llm.openai_wire import OpenAiWire
from tests.support.certificates import certificate
from tests.support.llm_client import ask, question
from tests.support.llm_upstream import LlmUpstream

OK = b"HTTP/1.1 200 OK\r\n"
Reply = Callable[[int, asyncio.StreamWriter], None]


@asynccontextmanager
async def serve(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that calls `reply` with the number of each request, over all connections."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.readline():
            length = 0
            while line := (await reader.readline()).strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
            count += 1
            reply(count, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=StreamTransport(), timeout=3) as client:
        yield client


ANSWERS = {
    "length": OK + b"content-length: 5\r\n\r\nhello",
    "chunks": OK
    + b"transfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nt: 1\r\n\r\n",
    "until the connection ends": OK + b"\r\nhello",
    "1xx first": b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "asks to close": OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_body(http: httpx.AsyncClient, name: str, pieces: int) -> None:
    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        data = ANSWERS[name]
        for start in range(0, len(data), pieces):
            writer.write(data[start : start + pieces])
        if name in ("until the connection ends", "HTTP/1.0", "asks to close"):
            writer.close()

    async with serve(reply) as port:
        for _ in range(2):
            answer = await http.get(f"http://127.0.0.1:{port}/")
            assert (answer.status_code, answer.content) == (200, b"hello")
            assert "link" not in answer.headers


@pytest.mark.parametrize("later_seconds", [0.0, 0.02])
async def test_goodbye_on_an_idle_connection_is_not_the_next_answer(
    http: httpx.AsyncClient, later_seconds: float
) -> None:
    gone: list[asyncio.StreamWriter] = []

    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        if writer in gone:
            return
        writer.write(OK + b"content-length: 1\r\n\r\n%d" % number)
        if number == 1:
            gone.append(writer)
            goodbye = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"
            if later_seconds:
                asyncio.get_running_loop().call_later(later_seconds, writer.write, goodbye)
            else:
                writer.write(goodbye)

    async with serve(reply) as port:
        assert (await http.get(f"http://127.0.0.1:{port}/")).text == "1"
        await asyncio.sleep(0.05)
        answer = await http.get(f"http://127.0.0.1:{port}/")

    assert (answer.status_code, answer.text) == (200, "2")


async def test_request_lost_on_a_kept_connection_is_asked_again(http: httpx.AsyncClient) -> None:
    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            writer.close()
        else:
            writer.write(OK + b"content-length: 1\r\n\r\n%d" % number)

    async with serve(reply) as port:
        texts = [(await http.get(f"http://127.0.0.1:{port}/")).text for _ in range(2)]

    assert texts == ["1", "3"]


@pytest.mark.parametrize(
    "data",
    [b"", b"SSH-2.0-OpenSSH\r\n", OK, OK + b"content-length: 9\r\n\r\nhello"],
)
async def test_answer_that_is_none(http: httpx.AsyncClient, data: bytes) -> None:
    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    async with serve(reply) as port:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(f"http://127.0.0.1:{port}/")


async def test_reader_that_stands_still_stops_the_sender(http: httpx.AsyncClient) -> None:
    size = 64 * 1024 * 1024
    writers: list[asyncio.StreamWriter] = []

    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK + b"content-length: %d\r\n\r\n" % size + b"x" * size)

    async with serve(reply) as port, http.stream("GET", f"http://127.0.0.1:{port}/") as answer:
        await asyncio.sleep(0.2)
        assert writers[0].transport.get_write_buffer_size() > size // 2
        received = sum([len(piece) async for piece in answer.aiter_raw()])

    assert received == size


class TestTls:
    async def test_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, context = certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))

        def reply(number: int, writer: asyncio.StreamWriter) -> None:
            writer.write(OK + b"content-length: 1\r\n\r\n%d" % number)

        async with (
            serve(reply, context) as port,
            httpx.AsyncClient(transport=StreamTransport(), timeout=3) as http,
        ):
            texts = [(await http.get(f"https://127.0.0.1:{port}/")).text for _ in range(2)]

        assert texts == ["1", "2"]

    async def test_not_trusted(
        self, lean: OpenAiWire, upstream: LlmUpstream, tmp_path: Path
    ) -> None:
        _, context = certificate(tmp_path)
        async with serve(lambda number, writer: None, context) as port:
            endpoint = f"https://127.0.0.1:{port}/v1"
            provider = Provider(name="p", type="openai", endpoint=endpoint)
            with pytest.raises(UpstreamError, match=r"TLS failed \(CERTIFICATE_VERIFY_FAILED\)"):
                await ask(lean, question(upstream, "echo", provider=provider))


async def test_end_mark_that_comes_after_done_keeps_the_connection(
    lean: OpenAiWire, upstream: LlmUpstream
) -> None:
    writers: set[asyncio.StreamWriter] = set()

    def reply(number: int, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(OK + head + b"e\r\ndata: [DONE]\n\n\r\n")
        asyncio.get_running_loop().call_later(0.02, writer.write, b"0\r\n\r\n")

    async with serve(reply) as port:
        provider = Provider(name="p", type="openai", endpoint=f"http://127.0.0.1:{port}/v1")
        for _ in range(3):
            request = question(upstream, "echo", provider=provider, messages=[])
            assert (await ask(lean, request)).is_empty

    assert len(writers) == 1


async def test_proxy_of_the_environment_is_used(
    lean: OpenAiWire, upstream: LlmUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    monkeypatch.setenv("NO_PROXY", "")
    provider = Provider(name="p", type="openai", endpoint="http://model.invalid/v1")

    answer = await ask(lean, question(upstream, "echo", provider=provider))

    assert answer.content == "good morning"
    assert upstream.requests[0].headers["host"] == "model.invalid"
