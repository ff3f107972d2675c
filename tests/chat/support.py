"""Talking to an agent in tests: one conversation over HTTP, its streams as lists of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from sqlalchemy import select

from tests.factories.chats import make_agent
from tests.factories.llm import make_provider
from tests.support.llm_upstream import LlmUpstream

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Agent, Turn
    from tests.fixtures.client import SignIn
    from tests.support.llm_script import Answer

MODEL = "scripted"


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as a client gets it."""

    id: str
    name: str
    data: Any

    @property
    def content(self) -> str:
        return (self.data or {}).get("content") or ""


def parse(block: str) -> Seen:
    fields = dict(line.partition(": ")[::2] for line in block.split("\r\n"))
    data = fields.get("data", "")
    return Seen(fields["id"], fields["event"], orjson.loads(data) if data else None)


def parse_all(body: str) -> list[Seen]:
    return [parse(block) for block in body.split("\r\n\r\n") if block.strip()]


def text_of(seen: Sequence[Seen]) -> str:
    """What a client shows, with `reset` obeyed: it takes back the newest model call's text."""
    shown: list[str] = []
    begun, is_over = 0, False
    for event in seen:
        if event.name == "reset":
            del shown[begun:]
        elif event.name in ("tool_start", "tool_end"):
            begun, is_over = len(shown), False
        elif event.name == "message":
            if is_over:
                begun = len(shown)
            is_over = event.data.get("finish_reason") is not None
            shown.append(event.content)
    return "".join(shown)


def names(seen: Sequence[Seen]) -> list[str]:
    """Event names, runs of `message` as one."""
    found: list[str] = []
    for event in seen:
        if not (event.name == "message" and found and found[-1] == "message"):
            found.append(event.name)
    return found


async def live_events(response: httpx.Response) -> AsyncIterator[Seen]:
    buffer = ""
    async for piece in response.aiter_text():
        buffer += piece
        while "\r\n\r\n" in buffer:
            block, _, buffer = buffer.partition("\r\n\r\n")
            yield parse(block)


class Talk:
    """One chat of one user."""

    def __init__(
        self, context: AppContext, client: httpx.AsyncClient, chat: dict[str, Any], agent: Agent
    ) -> None:
        self.context = context
        self.client = client
        self.chat_id: str = chat["id"]
        self.chat = chat
        self.agent = agent

    async def stream(self, content: Any = "hello", **body: Any) -> list[Seen]:
        """Send and read to the end."""
        response = await self.client.post(
            f"/chats/{self.chat_id}/messages/stream", json={"content": content, **body}
        )
        assert response.status_code == 200, response.text
        return parse_all(response.text)

    @asynccontextmanager
    async def streaming(self, content: Any = "hello", **body: Any) -> AsyncIterator[Live]:
        """Send and read live; leaving the block closes the connection."""
        path = f"/chats/{self.chat_id}/messages/stream"
        async with self.client.stream("POST", path, json={"content": content, **body}) as response:
            assert response.status_code == 200
            yield Live(response)

    @asynccontextmanager
    async def following(self, channel: str, last_id: str = "0") -> AsyncIterator[Live]:
        path = f"/chats/{self.chat_id}/stream/{channel}?last_id={last_id}"
        async with self.client.stream("GET", path) as response:
            assert response.status_code == 200
            yield Live(response)

    async def replay(self, channel: str | None = None, last_id: str = "0") -> list[Seen]:
        channel = channel or (await self.detail())["active_channel_id"]
        response = await self.client.get(
            f"/chats/{self.chat_id}/stream/{channel}", params={"last_id": last_id}
        )
        assert response.status_code == 200, response.text
        return parse_all(response.text)

    async def send(self, content: Any = "hello") -> httpx.Response:
        return await self.client.post(f"/chats/{self.chat_id}/messages", json={"content": content})

    async def decide(self, call_id: str, *, approved: bool, **body: Any) -> httpx.Response:
        return await self.client.post(
            f"/chats/{self.chat_id}/approve-tool/{call_id}", json={"approved": approved, **body}
        )

    async def detail(self) -> dict[str, Any]:
        response = await self.client.get(f"/chats/{self.chat_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def messages(self) -> list[tuple[str, str | None]]:
        return [(m["role"], m["content"]) for m in (await self.detail())["messages"]]

    async def turns(self) -> list[Turn]:
        from sinas.models import Turn

        async with self.context.sessions() as session:
            statement = select(Turn).where(Turn.chat_id == self.chat_id).order_by(Turn.seq)
            return list((await session.scalars(statement)).all())

    async def idle(self) -> Turn:
        """Wait until no turn is queued or running; the newest one."""

        async def settled() -> bool:
            return all(turn.status not in ("queued", "running") for turn in await self.turns())

        await until(settled)
        return (await self.turns())[-1]


class Live:
    """A stream being read."""

    def __init__(self, response: httpx.Response) -> None:
        self.channel = response.headers["x-stream-channel"]
        self.headers = response.headers
        self.seen: list[Seen] = []
        self._events = live_events(response)

    async def read_until(self, wanted: Callable[[Seen], bool]) -> Seen:
        async for event in self._events:
            self.seen.append(event)
            if wanted(event):
                return event
        raise AssertionError(f"the stream ended before that: {self.seen}")

    async def text(self, wanted: str) -> None:
        """Read until all of `wanted` has come."""
        while wanted not in text_of(self.seen):
            await self.read_until(lambda _: True)

    async def rest(self) -> list[Seen]:
        async for event in self._events:
            self.seen.append(event)
        return self.seen


async def until(condition: Callable[[], Coroutine[Any, Any, bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


class Talks:
    """Makes conversations with agents whose model answers by script."""

    def __init__(self, context: AppContext, as_: SignIn, llm: LlmUpstream) -> None:
        self.context = context
        self.as_ = as_
        self.llm = llm

    async def __call__(
        self,
        answers: Sequence[Answer] = (),
        *,
        who: str = "user",
        live: str | None = None,
        model: str = MODEL,
        chat: dict[str, Any] | None = None,
        provider: dict[str, Any] | None = None,
        by: Any = "round",
        **agent: Any,
    ) -> Talk:
        if answers:
            self.llm.script(model, answers, by=by)
        client = await self.as_(who, live=live)
        row = await make_agent(
            self.context,
            await self.as_.user(who),
            provider=await make_provider(self.context, self.llm.openai_url, **(provider or {})),
            model=model,
            **agent,
        )
        return await self.open(client, row, chat)

    async def open(
        self, client: httpx.AsyncClient, agent: Agent, chat: dict[str, Any] | None = None
    ) -> Talk:
        path = f"/agents/{agent.namespace}/{agent.name}/chats"
        response = await client.post(path, json=chat or {})
        assert response.status_code == 200, response.text
        return Talk(self.context, client, response.json(), agent)
