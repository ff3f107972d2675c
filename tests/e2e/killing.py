"""The platform as real processes, whose workers are killed in the middle of their work."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import httpx

from sinas.settings import environment
from tests.chat.support import Seen, live_events, parse_all, text_of
from tests.fixtures.configuration import ADMIN_EMAIL, make_settings, variables
from tests.support.effects import CODE, effects
from tests.support.llm_script import Answer, Call, words
from tests.support.llm_upstream import LlmUpstream

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.servers import Servers

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
PARTS = {
    "api": ("serve",),
    "agents": ("worker", "agents"),
    "functions": ("worker", "functions"),
    "scheduler": ("scheduler",),
}
WORDS = words(40, delay=0.02)
ASKED = '{"prompt": "go"}'
Kind = Literal["words", "tools", "asks"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One turn whose worker was killed.

    Attributes:
        faults: What was wrong with it; empty when nothing was.
        takeovers: How many workers it lost: 0 when the kill came too late or too early.
    """

    kind: Kind
    after_seconds: float
    faults: tuple[str, ...]
    takeovers: int


class Platform:
    """API, workers and scheduler as child processes, and a client of them."""

    def __init__(
        self, context: AppContext, llm: LlmUpstream, folder: Path, environ: dict[str, str]
    ) -> None:
        self.context = context
        self.llm = llm
        self.client = httpx.AsyncClient()
        self._folder = folder
        self._environ = environ
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, part: str) -> None:
        with (self._folder / f"{part}.log").open("ab") as log:
            self._parts[part] = subprocess.Popen(
                [sys.executable, "-m", "sinas", *PARTS[part]],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, part: str) -> None:
        process = self._parts.pop(part)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, part: str) -> str:
        return (self._folder / f"{part}.log").read_text()

    async def stop(self) -> None:
        await self.client.aclose()
        for process in self._parts.values():
            process.terminate()
        for process in self._parts.values():
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def ready(self) -> None:
        """Wait until the API answers that every part of it is well."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    if (await self.client.get("/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    for part, process in self._parts.items():
                        assert process.poll() is None, self.log(part)
                await asyncio.sleep(0.1)

    async def chat(self, agent: str) -> str:
        answer = await self.client.post(f"/agents/default/{agent}/chats", json={})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def killed_turns(self, kinds: Sequence[Kind], after_seconds: float) -> list[Outcome]:
        """Turns side by side; the agent worker is killed `after_seconds`, and another started."""
        chats = [await self.chat(kind) for kind in kinds]
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(self._kill_and_start(after_seconds))
            turns = [
                group.create_task(self._killed_turn(kind, chat_id, after_seconds))
                for kind, chat_id in zip(kinds, chats, strict=True)
            ]
        return [turn.result() for turn in turns]

    async def _killed_turn(self, kind: Kind, chat_id: str, after_seconds: float) -> Outcome:
        path = f"/chats/{chat_id}/messages/stream"
        async with self.client.stream("POST", path, json={"content": "go"}) as response:
            channel = response.headers["x-stream-channel"]
            seen = [event async for event in live_events(response)]
        faults = await self._faults(chat_id, channel, seen, kind)
        return Outcome(kind, after_seconds, tuple(faults), await self._takeovers(chat_id))

    async def _kill_and_start(self, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        self.kill("agents")
        self.start("agents")

    async def _executions(self, chat_id: str) -> list[UUID]:
        from sqlalchemy import select

        from sinas.models import Execution

        async with self.context.sessions() as session:
            statement = select(Execution.id).where(Execution.chat_id == UUID(chat_id))
            return list(await session.scalars(statement))

    async def _faults(self, chat_id: str, channel: str, seen: list[Seen], kind: Kind) -> list[str]:
        faults = []
        stored = (await self.client.get(f"/chats/{chat_id}")).json()["messages"]
        replies = [m["content"] or "" for m in stored if m["role"] == "assistant"]
        whole = "".join(replies)
        replay = await self._replay(chat_id, channel)
        # Not its last event: whoever comes back after that is told the end once more.
        middle = random.Random(channel).choice(seen[:-1])
        rest = await self._replay(chat_id, channel, middle.id)
        if not seen or (seen[-1].name, seen[-1].data) != ("done", {"status": "completed"}):
            faults.append(f"ended with {seen[-1:]}")
        if text_of(seen) != whole or replies[-1:] != [WORDS.text]:
            faults.append(f"live text {text_of(seen)!r}, stored {replies!r}")
        if text_of(replay) != whole:
            faults.append(f"replayed text {text_of(replay)!r}, stored {whole!r}")
        if [e.id for e in replay if _after(e, middle)] != [e.id for e in rest]:
            faults.append("the rest of the replay differs from the whole of it")
        if kind == "tools":
            faults += self._call_faults(stored, replay) + await self._effect_faults(chat_id, stored)
        if kind == "asks":
            faults += self._call_faults(stored, replay)
            asked, stored, replay = await self._of_sub_agent(replay)
            faults += self._call_faults(stored, replay) + await self._effect_faults(asked, stored)
        following = await self.client.post(
            f"/chats/{chat_id}/messages", json={"content": "next"}, timeout=60
        )
        if following.status_code != 200 or following.json()["content"] != WORDS.text:
            faults.append(f"the next message: {following.text}")
        return faults

    async def _of_sub_agent(
        self, replay: list[Seen]
    ) -> tuple[str, list[dict[str, Any]], list[Seen]]:
        """The sub-agent's chat, what is stored of it, and what the stream tells of its turn."""
        told = [e for e in replay if e.name == "sub_agent"]
        (chat_id,) = {e.data["chat_id"] for e in told}
        answer = await self.client.get(f"/chats/{chat_id}")
        stored: list[dict[str, Any]] = answer.json()["messages"]
        return chat_id, stored, [Seen(e.id, e.data["event"], e.data["data"]) for e in told]

    def _call_faults(self, stored: list[dict[str, Any]], replay: list[Seen]) -> list[str]:
        results = [m["tool_call_id"] for m in stored if m["role"] == "tool"]
        calls = _calls(stored)
        told = Counter(e.name for e in replay)
        faults = []
        if not calls or results != calls:
            faults.append(f"calls {calls}, results {results}")
        if (told["tool_start"], told["tool_end"]) != (len(calls), len(calls)):
            faults.append(f"events {dict(told)}")
        return faults

    async def _effect_faults(self, chat_id: str, stored: list[dict[str, Any]]) -> list[str]:
        had = await effects(self.context)
        times = [had[each] for each in await self._executions(chat_id)]
        if times == [1] * len(_calls(stored)):
            return []
        return [f"calls {_calls(stored)}, effects {times}"]

    async def _replay(self, chat_id: str, channel: str, last_id: str = "0") -> list[Seen]:
        response = await self.client.get(
            f"/chats/{chat_id}/stream/{channel}", params={"last_id": last_id}
        )
        return parse_all(response.text)

    async def _takeovers(self, chat_id: str) -> int:
        """Of the chat's turns and of those of the agents it asked."""
        from sqlalchemy import func, select

        from sinas.models import Chat, Turn

        async with self.context.sessions() as session:
            asked = select(Chat.id).where(Chat.parent_chat_id == UUID(chat_id))
            statement = select(func.sum(Turn.takeovers)).where(
                (Turn.chat_id == UUID(chat_id)) | Turn.chat_id.in_(asked)
            )
            return await session.scalar(statement) or 0


def _calls(stored: list[dict[str, Any]]) -> list[str]:
    return [call["id"] for message in stored for call in message["tool_calls"] or ()]


def _after(event: Seen, other: Seen) -> bool:
    return tuple(map(int, event.id.split("-"))) > tuple(map(int, other.id.split("-")))


@asynccontextmanager
async def platform(
    servers: Servers, folder: Path, *, number: int = 15, **environ: str
) -> AsyncIterator[Platform]:
    """Everything running, with an agent `words`, one `tools` that calls a function, and one `asks`.

    The last one asks `tools`, as its sub-agent.

    Args:
        servers: Where a database is made for it.
        folder: For its files and logs.
        number: Of its Redis database; platforms that may run at the same time have different ones.
        environ: Variables of its processes.
    """
    from sinas.auth.tokens import AccessClaims
    from sinas.context import open_context
    from sinas.seed import seed

    name = f"{servers.run.root.name}-killing-{number}"
    redis = _redis(servers, number)
    async with AsyncExitStack() as stack:
        database = await servers.clone(name)
        stack.push_async_callback(servers.drop, name)
        settings = make_settings(database_url=database, redis_url=redis, data_dir=folder / "data")
        context = await stack.enter_async_context(open_context(settings))
        await seed(context)
        llm = await stack.enter_async_context(LlmUpstream())
        made = Platform(context, llm, folder, environ_of(settings) | environ)
        stack.push_async_callback(made.stop)
        user = await _furnish(made)
        token = context.signer.mint(
            AccessClaims(user_id=user.id, email=user.email), timedelta(hours=1)
        )
        made.client = httpx.AsyncClient(
            base_url=settings.core.api_url,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        )
        for part in PARTS:
            made.start(part)
        await made.ready()
        yield made


async def _furnish(made: Platform) -> Any:
    from tests.factories.chats import make_agent
    from tests.factories.functions import make_function
    from tests.factories.identity import make_user
    from tests.factories.llm import make_provider

    context, llm = made.context, made.llm
    user = await make_user(context, email=ADMIN_EMAIL, roles=("Admins",))
    provider = await make_provider(context, llm.openai_url)
    await make_function(context, user, CODE, namespace="shop", name="find")
    calls = Answer(chunks=("Let me look. ",), calls=(Call("shop__find", id="call_0"),))
    asks = Answer(
        chunks=("Let me ask. ",), calls=(Call("call_agent_default__tools", ASKED, id="call_9"),)
    )
    llm.script("words", [WORDS])
    llm.script("asks", [asks, WORDS], by="round")
    llm.script("tools", [calls, WORDS], by="round")
    await make_agent(context, user, provider=provider, model="words", name="words")
    await make_agent(
        context, user, provider=provider, model="tools", name="tools",
        enabled_functions=["shop/find"],
    )  # fmt: skip
    await make_agent(
        context, user, provider=provider, model="asks", name="asks",
        enabled_agents=["default/tools"],
    )  # fmt: skip
    return user


def _redis(servers: Servers, number: int) -> str:
    """A database number that no xdist worker of the run uses."""
    base = servers.redis.split("?")[0]
    return f"{base}?db={number}" if base.startswith("unix") else f"{base.rstrip('/')}/{number}"


def environ_of(settings: Any) -> dict[str, str]:
    """Variables for processes that are to have these settings."""
    known = {name for name, _ in variables()}
    kept = {k: v for k, v in environment().items() if k.upper() not in known}
    return kept | {
        "DATABASE_URL": settings.database.url,
        "REDIS_URL": settings.redis.url,
        "SECRET_KEY": settings.auth.secret_key.get_secret_value(),
        "ENCRYPTION_KEY": settings.auth.encryption_key.get_secret_value(),
        "SINAS_PORT": str(settings.core.port),
        "SINAS_DATA_DIR": str(settings.core.data_dir),
        "SINAS_INSTANCE_ID": settings.core.instance_id,
        "SANDBOX": "process",
        "SUPERADMIN_EMAIL": ADMIN_EMAIL,
    }
