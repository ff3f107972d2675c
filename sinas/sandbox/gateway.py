"""The platform's end of a sandbox's way back to the API: a Unix socket carried to it."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK_BYTES = 65_536


class ApiGateway:
    """Forwards each connection on one Unix socket to the API, as bytes.

    The socket may be reached by every user of the sandbox it is mounted into and leads nowhere
    but to the API, where the caller's own token decides.
    """

    def __init__(self, path: Path, api_url: str) -> None:
        self._path = path
        parts = urlsplit(api_url)
        self._host = parts.hostname or "127.0.0.1"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o666)

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls
            )
        except OSError:
            # The API is down; the call sees its connection closed and may try again.
            self._writers.discard(writer)
            writer.close()
            return
        self._writers.add(up_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, up_writer))
                both.create_task(_pump(up_reader, writer))
        finally:
            self._writers -= {writer, up_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the source ends, then end the target."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
