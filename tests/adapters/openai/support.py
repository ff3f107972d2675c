"""Callers of the adapter, and what they ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from tests.factories.chats import make_agent
from tests.factories.identity import make_api_key
from tests.factories.llm import make_provider

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from sinas.context import AppContext
    from sinas.models import Agent, LlmProvider, User
    from tests.fixtures.client import SignIn
    from tests.support.llm_upstream import LlmUpstream

BASE = "/adapters/openai/v1"
COMPLETIONS = f"{BASE}/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


class Clients:
    """Makes SDK clients, and the provider and agents they talk to."""

    def __init__(
        self,
        context: AppContext,
        as_: SignIn,
        llm: LlmUpstream,
        url: str,
        stack: AsyncExitStack,
    ) -> None:
        self.context = context
        self.as_ = as_
        self.llm = llm
        self.url = f"{url}{BASE}"
        self._stack = stack

    async def key(self, who: str | User = "admin", permissions: Sequence[str] | None = None) -> str:
        """A new API key."""
        user = await self.as_.user(who) if isinstance(who, str) else who
        limit = None if permissions is None else dict.fromkeys(permissions, True)
        _, key = await make_api_key(self.context, user, permissions=limit)
        return key

    async def __call__(
        self,
        who: str | User = "admin",
        permissions: Sequence[str] | None = None,
        **options: Any,
    ) -> AsyncOpenAI:
        """The async SDK with a key of that user."""
        from openai import AsyncOpenAI

        options = {"max_retries": 0, "timeout": 20.0, **options}
        options.setdefault("api_key", await self.key(who, permissions))
        # Without the machine's proxies, and closed with the test.
        http = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        return AsyncOpenAI(base_url=self.url, http_client=http, **options)

    async def provider(self, name: str = "mine", **columns: Any) -> LlmProvider:
        """The scripted upstream as a provider; offers `echo` and, in `config.models`, more."""
        endpoint = columns.pop("endpoint", self.llm.openai_url)
        return await make_provider(self.context, endpoint, name=name, **columns)

    async def agent(self, name: str = "bot", *, who: str = "user", **columns: Any) -> Agent:
        """An agent `shop/{name}` on the scripted upstream."""
        columns.setdefault("model", "echo")
        # Offers no model of its own: lists are of what a test has made.
        provider = await make_provider(self.context, self.llm.openai_url, default_model=None)
        return await make_agent(
            self.context,
            await self.as_.user(who),
            provider=provider,
            namespace=columns.pop("namespace", "shop"),
            name=name,
            **columns,
        )


async def events_of(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of a stream's events, without `[DONE]`, which must be the last."""
    seen: list[str] = []
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            seen.append(line)
            if line != "data: [DONE]":
                yield orjson.loads(line.removeprefix("data: "))
    assert seen[-1] == "data: [DONE]"
