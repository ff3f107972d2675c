"""The adapter's event stream: pauses, departures, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from sinas.adapters.openai.streaming import EventStream
from tests.adapters.openai.support import COMPLETIONS, HELLO, Clients
from tests.fixtures.client import listening
from tests.fixtures.configuration import free_port
from tests.support.llm_script import Answer

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.worker import RunningWorker


async def slow() -> AsyncGenerator[bytes, None]:
    yield b"data: 1\n\n"
    await asyncio.sleep(0.25)
    yield b"data: 2\n\n"


async def endless() -> AsyncGenerator[bytes, None]:
    while True:
        yield b"data: 1\n\n"
        await asyncio.sleep(0.01)


async def stuck() -> AsyncGenerator[bytes, None]:
    await asyncio.sleep(60)
    yield b""


class Serving:
    """A server with nothing but one stream."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.left = asyncio.Event()
        self.closed = asyncio.Event()
        self.app.add_api_route("/", self.stream)
        self.pieces: AsyncGenerator[bytes, None] = slow()

    async def stream(self) -> EventStream:
        return EventStream(self._watched(), keep_alive_seconds=0.1, on_leave=self._leave)

    async def _watched(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self.pieces:
                yield piece
        finally:
            self.closed.set()

    async def _leave(self) -> None:
        self.left.set()


async def test_pauses_are_filled_with_comments() -> None:
    serving = Serving()
    async with listening(serving.app, free_port()) as url, httpx.AsyncClient() as client:
        response = await client.get(url)

    assert response.text == ("data: 1\n\n: keep-alive\n\n: keep-alive\n\ndata: 2\n\n")
    assert "content-length" not in response.headers
    assert response.headers["content-type"].startswith("text/event-stream")
    assert not serving.left.is_set()


@pytest.mark.parametrize("pieces", [endless, stuck])
async def test_leaving_ends_the_pieces(pieces: Any) -> None:
    serving = Serving()
    serving.pieces = pieces()
    async with listening(serving.app, free_port()) as url, httpx.AsyncClient() as client:
        async with client.stream("GET", url) as response:
            async for _ in response.aiter_bytes():
                break
        async with asyncio.timeout(5):
            await serving.left.wait()
            await serving.closed.wait()


async def test_clients_read_over_the_comments(
    clients: Clients,
    admin: httpx.AsyncClient,
    context: AppContext,
    agent_worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(vars(context.settings.chat), "ping_seconds", 0.05)
    await clients.provider(default_model="m")
    await clients.agent(model="m")
    clients.llm.script("m", [Answer(chunks=("a", "b"), delay=0.3)])
    client = await clients()

    for model in ("mine/m", "agent:shop/bot"):
        body = {"model": model, "messages": HELLO, "stream": True}
        response = await admin.post(COMPLETIONS, json=body)
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)

        assert ": keep-alive\n\n" in response.text
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "ab"
