"""The platform's end of a sandbox's way to the internet: an HTTP proxy on a Unix socket.

Speaks CONNECT and absolute-form requests (RFC 9112), resolves names itself, connects to the
checked address, and says no in one sentence. It never sees more of a connection than its bytes.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from typing_extensions import override

from sinas.egress.policy import Address, EgressError, EgressPolicy, HostNotFoundError, look_up
from sinas.sandbox.gateway import SandboxSocket
from sinas.sandbox.runner.relay import Stream, is_gone, splice
from sinas.settings import Settings

_log = structlog.get_logger(__name__)

# Twice the relay's: it has let go of a call's connections before they have ended here.
_MAX_CONNECTIONS = 128
# Of one sandbox at once, so that slow names of one leave threads for the others.
_MAX_LOOKUPS = 4
_LOOKUP_THREADS = 16
_HEAD_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 300.0
_WATCH_SECONDS = 5.0
_MAX_LOGGED = 1000
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})")
_HOP_BY_HOP = (b"connection:", b"keep-alive:", b"proxy-", b"host:")
_ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"


class _RefusedError(Exception):
    """What is answered instead of a connection: a status and one sentence of ASCII."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Request:
    """Where a caller wants to, and what is to be sent there first."""

    host: str
    port: int
    head: bytes

    @classmethod
    def parse(cls, head: bytes) -> "_Request":
        line, *fields = head[:-4].split(b"\r\n")
        try:
            method, target, version = line.decode("ascii").split(" ")
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "This is no HTTP request.") from None
        if method == "CONNECT":
            return cls(*_authority(target, None), head=b"")
        try:
            parts = urlsplit(target)
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "The URL makes no sense.") from None
        if parts.scheme != "http":
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST,
                "This is a proxy: ask it with CONNECT or for an http:// URL.",
            )
        # One request for each connection: the next one may be meant for another server.
        kept = [field for field in fields if not field.lower().startswith(_HOP_BY_HOP)]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        first = f"{method} {path} {version}\r\nHost: {parts.netloc}\r\nConnection: close".encode()
        return cls(*_authority(parts.netloc, 80), head=b"\r\n".join([first, *kept, b"", b""]))


def _authority(text: str, default_port: int | None) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if default_port is not None and (not separator or text.endswith("]")):
        host, port = text, str(default_port)
    match = _HOST.fullmatch(host)
    if match is None or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "The address must be a host and a port.")
    return match[1] or match[2], int(port)


class Egress:
    """The way to the internet of all sandboxes of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="egress")
        lookup = partial(look_up, executor=self._threads)
        self._policy = EgressPolicy.of_functions(settings, lookup=lookup)

    def proxy(self, path: Path) -> "EgressProxy":
        """One sandbox's proxy, listening at `path` once started."""
        return EgressProxy(path, self._policy)

    def close(self) -> None:
        """Give up on names still looked up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class EgressProxy(SandboxSocket):
    """The proxy of one sandbox.

    Args:
        path: Of its socket.
        policy: Decides where it leads.
    """

    def __init__(self, path: Path, policy: EgressPolicy) -> None:
        super().__init__(path)
        self._policy = policy
        self._open = 0
        self._lookups = asyncio.Semaphore(_MAX_LOOKUPS)
        self._logged: set[tuple[str, int]] = set()
        self._checks: set[Callable[[], bool]] = set()

    @override
    async def serve(self, caller: Stream) -> None:
        self._open += 1
        try:
            server = await self._connected(caller)
        except _RefusedError as refused:
            await _refuse(caller[1], refused)
        else:
            await self._exchange(caller, server)
        finally:
            self._open -= 1

    async def _connected(self, caller: Stream) -> Stream:
        """A connection to where the caller wants, which has been told that it has it."""
        reader, writer = caller
        if self._open > _MAX_CONNECTIONS + self._end_those_over():
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"This sandbox has {_MAX_CONNECTIONS} connections open already.",
            )
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.LimitOverrunError, TimeoutError):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "This is no HTTP request.") from None
        request = _Request.parse(head)
        server = await self._connect(request.host, request.port)
        if request.head:
            server[1].write(request.head)
        else:
            writer.write(_ESTABLISHED)
        return server

    async def _connect(self, host: str, port: int) -> Stream:
        try:
            async with self._lookups:
                addresses = await self._policy.resolve(host, port)
        except HostNotFoundError as error:
            raise _RefusedError(HTTPStatus.BAD_GATEWAY, error.message) from error
        except EgressError as error:
            self._log_refusal(host, port, error.address)
            raise _RefusedError(HTTPStatus.FORBIDDEN, error.message) from error
        failure = "it does not answer"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                for address in addresses:
                    try:
                        # The address that was checked, not the name, which may change its mind.
                        return await asyncio.open_connection(str(address), port)
                    except OSError as error:
                        # asyncio puts a tuple of its own in strerror.
                        failure = os.strerror(error.errno) if error.errno else str(error)
                raise _RefusedError(
                    HTTPStatus.BAD_GATEWAY, f"'{host}:{port}' cannot be reached: {failure}."
                )
        raise _RefusedError(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"'{host}:{port}' did not answer within {_CONNECT_SECONDS:g} s.",
        )

    async def _exchange(self, caller: Stream, server: Stream) -> None:
        """Carry bytes until both sides ended, nothing has moved for long, or the caller is gone."""
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        timer: asyncio.TimerHandle

        def moved() -> None:
            nonlocal moved_at
            moved_at = loop.time()

        def is_over() -> bool:
            # A Unix socket tells a caller that is gone from one that has nothing more to say.
            over = is_gone(caller[1], 0) or loop.time() - moved_at > _IDLE_SECONDS
            for _, writer in (caller, server) if over else ():
                writer.transport.abort()
            return over

        def watch() -> None:
            nonlocal timer
            if not is_over():
                timer = loop.call_later(_WATCH_SECONDS, watch)

        timer = loop.call_later(_WATCH_SECONDS, watch)
        self._checks.add(is_over)
        try:
            await splice(caller, server, moved)
        finally:
            self._checks.discard(is_over)
            timer.cancel()

    def _end_those_over(self) -> int:
        """End connections of callers that are gone, without waiting for their next check."""
        return sum(is_over() for is_over in self._checks)

    def _log_refusal(self, host: str, port: int, address: Address | None) -> None:
        # Once for each: a function may try without end.
        if (host, port) not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add((host, port))
            # Callers are not told where a name leads; operators have to know what to allow.
            _log.info("egress.refused", host=host, port=port, address=str(address))


async def _refuse(writer: asyncio.StreamWriter, refused: _RefusedError) -> None:
    # In the reason, too: clients show it where they do not show the body.
    sentence = " ".join(str(refused).encode("ascii", "replace").decode().split())
    writer.write(
        f"HTTP/1.1 {refused.status} {sentence}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(sentence) + 1}\r\nConnection: close\r\n\r\n{sentence}\n".encode()
    )
    await writer.drain()
