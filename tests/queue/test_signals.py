"""Signals: one connection for every listener, and nobody waits for what was missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from sinas.context import AppContext
from sinas.queue.signals import RESYNC, Listener, Signals
from tests.fixtures.state import in_own_task
from tests.queue.conftest import OwnRedis

PREFIX = "tests:done:"
# Longer than anything here takes; a test that needs it has failed.
PATIENCE = 10


@asynccontextmanager
async def reading(redis: Redis) -> AsyncIterator[Signals]:
    signals = Signals(redis, prefixes=(PREFIX, "tests:other:"))
    task = asyncio.get_running_loop().create_task(signals.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await signals.ready()
        yield signals
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def signals(context: AppContext) -> AsyncIterator[Signals]:
    async with in_own_task(reading(context.redis)) as found:
        yield found


async def take(listener: Listener, count: int = 1) -> list[bytes]:
    async with asyncio.timeout(PATIENCE):
        return [await listener.get() for _ in range(count)]


async def until_resync(listener: Listener) -> None:
    async with asyncio.timeout(PATIENCE):
        while await listener.get() != RESYNC:
            pass


async def test_messages_of_a_channel_arrive_in_order(context: AppContext, signals: Signals) -> None:
    async with signals.listen("tests:a") as ours, signals.listen("tests:b") as theirs:
        for number in range(20):
            await context.redis.publish("tests:a", str(number))
        await context.redis.publish("tests:b", "end")
        assert await take(ours, 20) == [str(number).encode() for number in range(20)]
        assert await take(theirs) == [b"end"]
        assert ours.drain() == []


async def test_prefixed_channels_share_one_subscription(
    context: AppContext, signals: Signals
) -> None:
    async with signals.listen(f"{PREFIX}1") as one, signals.listen(f"{PREFIX}2") as two:
        await context.redis.publish(f"{PREFIX}2", "two")
        await context.redis.publish(f"{PREFIX}1", "one")
        assert await take(one) == [b"one"]
        assert await take(two) == [b"two"]


async def test_many_listeners_need_one_connection(context: AppContext, signals: Signals) -> None:
    before = len(await context.redis.client_list())
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(signals.listen(f"tests:many:{number // 2}"))
            for number in range(200)
        ]
        assert len(await context.redis.client_list()) == before
        for number in range(100):
            await context.redis.publish(f"tests:many:{number}", str(number))
        for number, listener in enumerate(listeners):
            assert await take(listener) == [str(number // 2).encode()]


async def test_a_left_channel_is_unsubscribed(context: AppContext, signals: Signals) -> None:
    async with signals.listen("tests:left"):
        assert await context.redis.publish("tests:left", "x") == 1
    async with asyncio.timeout(PATIENCE):
        while await context.redis.publish("tests:left", "x"):
            await asyncio.sleep(0)
    # Nothing is remembered of channels that come and go all day.
    assert "tests:left" not in signals._confirmed
    assert "tests:left" not in signals._listeners


async def test_a_channel_left_and_joined_again_at_once(
    context: AppContext, signals: Signals
) -> None:
    for number in range(50):
        async with signals.listen("tests:again") as listener:
            await context.redis.publish("tests:again", str(number))
            assert await take(listener) == [str(number).encode()]


async def test_a_cancelled_wait_leaves_the_others(context: AppContext, signals: Signals) -> None:
    async def wait() -> None:
        async with signals.listen("tests:shared") as listener:
            await listener.get()

    async with signals.listen("tests:shared") as stays:
        leaves = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(0.01)
        leaves.cancel()
        with suppress(asyncio.CancelledError):
            await leaves
        await context.redis.publish("tests:shared", "still here")
        assert await take(stays) == [b"still here"]


async def test_listeners_are_told_after_a_restart(own_redis: OwnRedis) -> None:
    async with (
        reading(own_redis.client) as signals,
        signals.listen("tests:plain") as plain,
        signals.listen(f"{PREFIX}1") as prefixed,
    ):
        await own_redis.stop()
        await own_redis.start()
        await until_resync(plain)
        await until_resync(prefixed)
        # Once told, a listener misses nothing any more: look, then wait, is safe.
        assert await own_redis.client.publish("tests:plain", "a") == 1
        await own_redis.client.publish(f"{PREFIX}1", "b")
        assert await take(plain) == [b"a"]
        assert await take(prefixed) == [b"b"]


async def test_a_dropped_connection_is_told_too(own_redis: OwnRedis) -> None:
    """A reconnect that succeeds at once has missed messages all the same."""
    async with reading(own_redis.client) as signals, signals.listen("tests:plain") as plain:
        for _ in range(3):
            await own_redis.client.client_kill_filter(_type="pubsub")
            await until_resync(plain)
            await own_redis.client.publish("tests:plain", "a")
            assert await take(plain) == [b"a"]


async def test_who_starts_to_listen_while_redis_is_down_is_served_later(
    own_redis: OwnRedis,
) -> None:
    async with reading(own_redis.client) as signals:
        await own_redis.stop()

        async def wait() -> list[bytes]:
            async with signals.listen("tests:early") as listener:
                while (message := await listener.get()) == RESYNC:
                    pass
                return [message, *listener.drain()]

        waiting = [asyncio.get_running_loop().create_task(wait()) for _ in range(2)]
        await asyncio.sleep(0.05)
        await own_redis.start()
        async with asyncio.timeout(PATIENCE):
            while not await own_redis.client.publish("tests:early", "now"):
                await asyncio.sleep(0.01)
            for task in waiting:
                assert (await task)[0] == b"now"
