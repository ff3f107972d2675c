"""The official SDK against a real server, as somebody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from sinas.llm.litellm_client import LitellmClient
from tests.adapters.openai.support import Clients

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.support.llm_upstream import LlmUpstream


@pytest.fixture
async def clients(
    context: AppContext, as_: SignIn, llm: LlmUpstream, live: str
) -> AsyncIterator[Clients]:
    """`client = await clients("admin")`; see `Clients`."""
    async with AsyncExitStack() as stack:
        yield Clients(context, as_, llm, live, stack)


@pytest.fixture
async def admin(as_: SignIn, live: str) -> httpx.AsyncClient:
    """Plain HTTP as an administrator, who may use every model."""
    return await as_("admin", live=live)


@pytest.fixture(scope="session")
async def through_litellm() -> AsyncIterator[LitellmClient]:
    """litellm on its thread: importing it takes seconds."""
    client = LitellmClient()
    yield client
    await client.aclose()
