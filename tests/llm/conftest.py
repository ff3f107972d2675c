"""A scripted upstream per test; one litellm per run, since importing it takes seconds."""

from collections.abc import AsyncIterator

import pytest

from sinas.llm.litellm_client import LitellmClient
from sinas.llm.openai_wire import OpenAiWire
from tests.support.llm_upstream import LlmUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[LlmUpstream]:
    async with LlmUpstream() as server:
        yield server


@pytest.fixture
async def lean() -> AsyncIterator[OpenAiWire]:
    client = OpenAiWire()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
async def through_litellm() -> AsyncIterator[LitellmClient]:
    client = LitellmClient()
    yield client
    await client.aclose()
