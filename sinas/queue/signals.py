"""Signals: one pub/sub connection per process, shared by everyone who waits for something.

A connection per waiting request is what cuts streams when many wait; here a wait is an entry
in a dictionary. Messages can be missed while the connection is down, so a listener that gets
`RESYNC` must look at the durable state (a row, a Redis stream) and go on from there.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

RESYNC: Final = b""
_RETRY_SECONDS = 0.2


class Listener:
    """Messages of one channel, in order. `RESYNC` stands for "you may have missed some"."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    def put(self, data: bytes) -> None:
        """Called by `Signals`."""
        self._messages.put_nowait(data)

    async def get(self) -> bytes:
        """The next message."""
        return await self._messages.get()

    def drain(self) -> list[bytes]:
        """What has arrived and was not taken yet, without waiting."""
        found = []
        while not self._messages.empty():
            found.append(self._messages.get_nowait())
        return found


class Signals:
    """The process's pub/sub connection. `run` reads it for as long as the process lives.

    Channels with one of `prefixes` are subscribed once as patterns, so that waiting for one of
    them costs no round trip; other channels are subscribed while somebody listens.

    Not on redis-py's `PubSub`: that reconnects by itself, so that nobody learns of messages
    missed meanwhile, and without `handle_message` it never forgets a channel.
    """

    def __init__(self, redis: Redis, *, prefixes: tuple[str, ...]) -> None:
        self._redis = redis
        self._prefixes = prefixes
        self._patterns = [f"{prefix}*" for prefix in prefixes]
        self._connection: AbstractConnection | None = None
        self._listeners: dict[str, set[Listener]] = {}
        self._watchers: dict[str, set[Listener]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        # SUBSCRIBEs on their way: one that a quick listener left behind must not confirm the
        # next one's, as an UNSUBSCRIBE is between them.
        self._unconfirmed: Counter[str] = Counter()
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Read messages until cancelled; reconnects by itself."""
        while True:
            connection = self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
                await self._subscribe_all(connection)
                while True:
                    self._dispatch(await connection.read_response())
            except (RedisError, OSError) as error:
                log.warning("signals.disconnected", error=str(error))
            finally:
                self._ready.clear()
                self._connection = None
                await connection.disconnect(nowait=True)
            await asyncio.sleep(_RETRY_SECONDS)

    async def ready(self) -> None:
        """Wait until the pattern subscriptions are in force."""
        await self._ready.wait()

    @asynccontextmanager
    async def watch(self, prefix: str) -> AsyncIterator[Listener]:
        """Receive what comes after `prefix` in the name of each channel published on.

        `prefix` is one of those the object was made with.
        """
        listener = Listener()
        self._watchers.setdefault(prefix, set()).add(listener)
        try:
            yield listener
        finally:
            self._watchers[prefix].discard(listener)

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Listener]:
        """Receive what is published on `channel` from now on, until the block ends."""
        listener = Listener()
        waiting = self._listeners.setdefault(channel, set())
        waiting.add(listener)
        try:
            if not channel.startswith(self._prefixes):
                await self._subscribed(channel)
            yield listener
        finally:
            waiting.discard(listener)
            if not waiting:
                self._listeners.pop(channel, None)
                if self._confirmed.pop(channel, None) is not None:
                    await self._send("UNSUBSCRIBE", channel)

    async def _subscribed(self, channel: str) -> None:
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.Event()
            self._unconfirmed[channel] += 1
            await self._send("SUBSCRIBE", channel)
        await confirmed.wait()

    async def _subscribe_all(self, connection: AbstractConnection) -> None:
        """Ask for every channel somebody waits on, and last for the patterns.

        Redis confirms in order, so the last pattern's confirmation stands for all of them.
        """
        self._unconfirmed = Counter(self._confirmed.keys())
        self._connection = connection
        if self._confirmed:
            await connection.send_command("SUBSCRIBE", *self._confirmed)
        await connection.send_command("PSUBSCRIBE", *self._patterns)

    async def _send(self, command: str, channel: str) -> None:
        """Send now if there is a connection; the next one starts from what is wanted then."""
        connection = self._connection
        if connection is None or not connection.is_connected:
            return
        try:
            await connection.send_command(command, channel, check_health=False)
        except (RedisError, OSError) as error:
            log.debug("signals.not_sent", command=command, error=str(error))

    def _dispatch(self, response: object) -> None:
        match response:
            case [b"message", bytes(channel), bytes(data)]:
                self._deliver(channel.decode(), data)
            case [b"pmessage", _, bytes(channel), bytes(data)]:
                self._deliver(channel.decode(), data)
            case [b"psubscribe", bytes(pattern), _] if pattern.decode() == self._patterns[-1]:
                # Only now: a listener that looked earlier could miss what came in between.
                self._resync()
                self._ready.set()
            case [b"subscribe", bytes(channel), _]:
                self._confirm(channel.decode())

    def _confirm(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] <= 0:
            del self._unconfirmed[channel]
            if (confirmed := self._confirmed.get(channel)) is not None:
                confirmed.set()

    def _deliver(self, channel: str, data: bytes) -> None:
        for listener in self._listeners.get(channel, ()):
            listener.put(data)
        for prefix, watchers in self._watchers.items():
            if watchers and channel.startswith(prefix):
                for listener in watchers:
                    listener.put(channel.removeprefix(prefix).encode())

    def _resync(self) -> None:
        for listeners in (*self._listeners.values(), *self._watchers.values()):
            for listener in listeners:
                listener.put(RESYNC)
