"""A server of the outside world, on this machine: it records requests and answers as told."""

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sinas.kit.time import utcnow

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Received:
    """One request, names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return orjson.loads(self.body)


class Outside:
    """`async with Outside() as server`: HTTP, or HTTPS with a certificate for 127.0.0.1.

    Attributes:
        answer: Bytes sent for every request; None leaves the client waiting.
        answers: Sent before that, one for each request.
        received: Requests in the order they came.
    """

    def __init__(self, *, tls: bool = True, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answer: bytes | None = OK
        self.answers: list[bytes | None] = []
        self._host = host
        self._port = port
        self.received: list[Received] = []
        self.trust: ssl.SSLContext | None = None
        self._serving: ssl.SSLContext | None = None
        self._arrived = asyncio.Condition()
        self._waiting: set[asyncio.StreamWriter] = set()
        if tls:
            self._serving, self.trust = _certificates()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, ssl=self._serving, limit=16 * 1024 * 1024
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in tuple(self._waiting):
            writer.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def says(self, value: Any, status: int = 200, *lines: str) -> None:
        """Answer every request with a JSON value, and more header lines."""
        self.answer = reply(value, status, *lines)

    @property
    def url(self) -> str:
        return f"{'https' if self._serving else 'http'}://{self._host}:{self.port}"

    async def wait_for(self, count: int) -> list[Received]:
        """The requests, once there are `count` of them."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._waiting.add(writer)
        try:
            while True:
                received = await _read(reader)
                async with self._arrived:
                    self.received.append(received)
                    self._arrived.notify_all()
                answer = self.answers.pop(0) if self.answers else self.answer
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._waiting.discard(writer)
            writer.close()


def reply(value: Any = None, status: int = 200, *lines: str) -> bytes:
    """An answer with a JSON body; bytes are sent as they are, None is no body."""
    body = value if isinstance(value, bytes) else b"" if value is None else orjson.dumps(value)
    kind = () if isinstance(value, bytes) else ("Content-Type: application/json",)
    head = (f"HTTP/1.1 {status} Said", *kind, *lines, f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    """An answer that sends the client on."""
    return reply(None, status, f"Location: {location}")


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)


def _certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What the server shows, and what a client that trusts it verifies with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outside")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utcnow() - timedelta(days=1))
        .not_valid_after(utcnow() + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + pem
        )
        serving.load_cert_chain(path)
    return serving, ssl.create_default_context(cadata=pem.decode())
