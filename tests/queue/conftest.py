"""A Redis of one test's own, which it may stop and start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sinas.context import open_redis
from sinas.embedded.redis import EmbeddedRedis
from tests.fixtures.keeper import running
from tests.fixtures.servers import RUN


class OwnRedis:
    """A server that comes back with its data, as a restarted one does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._server = EmbeddedRedis(folder / "data", folder, folder / "log")
        self._server.prepare()
        self._running = ExitStack()
        self.url = self._server.url
        self.client: Redis = open_redis(self.url)

    async def start(self) -> None:
        self._running.enter_context(running(self._server.spec()))
        await asyncio.wait_for(self._server.wait_ready(), 10)

    async def stop(self) -> None:
        await asyncio.to_thread(self._running.close)


@pytest.fixture
async def own_redis(request: pytest.FixtureRequest) -> AsyncIterator[OwnRedis]:
    # A short path: it becomes a socket's.
    run = request.config.stash[RUN].root
    redis = OwnRedis(run / f"redis-{abs(hash(request.node.nodeid)) % 10**8}")
    await redis.start()
    yield redis
    await redis.client.aclose()
    await redis.stop()
