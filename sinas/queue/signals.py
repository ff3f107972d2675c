"""Signals: one pub/sub connection per process, shared by everyone who waits for something.

A connection per waiting request is what cuts streams when many wait; here a wait is an entry
in a dictionary. Messages can be missed while the connection is down, so a listener that gets
`RESYNC` must look at the durable state (a row, a Redis stream) and go on from there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
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
    """

    def __init__(self, redis: Redis, *, prefixes: tuple[str, ...]) -> None:
        self._redis = redis
        self._prefixes = prefixes
        self._pubsub: PubSub = redis.pubsub(ignore_subscribe_messages=False)
        self._listeners: dict[str, set[Listener]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Read messages until cancelled; reconnects by itself."""
        try:
            while True:
                try:
                    await self._pubsub.psubscribe(*(f"{prefix}*" for prefix in self._prefixes))
                    while True:
                        self._dispatch(await self._pubsub.parse_response(block=True))
                except (RedisError, OSError) as error:
                    self._ready.clear()
                    log.warning("signals.disconnected", error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._resync()
        finally:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def ready(self) -> None:
        """Wait until the pattern subscription is in force."""
        await self._ready.wait()

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
                    await self._unsubscribe(channel)

    async def _subscribed(self, channel: str) -> None:
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.Event()
            await self._ready.wait()
            await self._pubsub.subscribe(channel)
        await confirmed.wait()

    async def _unsubscribe(self, channel: str) -> None:
        try:
            await self._pubsub.unsubscribe(channel)
        except (RedisError, OSError):
            # The connection is gone and with it the subscription; redis-py forgets it on
            # reconnect because it is no longer in its list.
            log.debug("signals.unsubscribe_skipped", channel=channel)

    def _dispatch(self, response: object) -> None:
        if not isinstance(response, list):
            return
        match response:
            case [b"message", channel, data]:
                self._deliver(channel.decode(), data)
            case [b"pmessage", _, channel, data]:
                self._deliver(channel.decode(), data)
            case [b"psubscribe", *_]:
                self._ready.set()
            case [b"subscribe", channel, _]:
                if (confirmed := self._confirmed.get(channel.decode())) is not None:
                    confirmed.set()

    def _deliver(self, channel: str, data: bytes) -> None:
        for listener in self._listeners.get(channel, ()):
            listener.put(data)

    def _resync(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.put(RESYNC)
