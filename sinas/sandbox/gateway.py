"""The platform's end of a sandbox's way back to the API: a Unix socket carried to it."""

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import urlsplit

from typing_extensions import override

from sinas.sandbox.runner.relay import Stream, splice


class SandboxSocket(ABC):
    """A Unix socket that every user of one sandbox may connect to.

    Args:
        path: Where it listens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accepted, self._path)
        self._path.chmod(0o666)

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._path.unlink(missing_ok=True)

    @abstractmethod
    async def serve(self, caller: Stream) -> None:
        """Serve one connection to its end, which an OSError or EOFError is, too."""

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError):
                await self.serve((reader, writer))
        except asyncio.CancelledError:
            # Python 3.11 reports a cancelled task of a server as an error of the loop.
            if not self._closing:
                raise
        finally:
            self._tasks.discard(task)
            writer.close()


class ApiGateway(SandboxSocket):
    """Forwards each connection to the API, as bytes.

    It leads nowhere but to the API, where the caller's own token decides.
    """

    def __init__(self, path: Path, api_url: str) -> None:
        super().__init__(path)
        parts = urlsplit(api_url)
        self._host = parts.hostname or "127.0.0.1"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)

    @override
    async def serve(self, caller: Stream) -> None:
        # If the API is down, the call sees its connection closed and may try again.
        await splice(caller, await asyncio.open_connection(self._host, self._port, ssl=self._tls))
