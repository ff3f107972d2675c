"""The published SDK against a real server, as somebody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.chat.conftest import talks
from tests.clients.sdk import DriverProcess, Sdk, driver_process
from tests.fixtures.state import in_own_task

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

__all__ = ["talks"]
OpenSdk = Callable[..., Awaitable[Sdk]]


@pytest.fixture(scope="session")
async def driver() -> AsyncIterator[DriverProcess]:
    async with in_own_task(driver_process()) as driver:
        yield driver


@pytest.fixture
async def open_sdk(driver: DriverProcess, live: str) -> AsyncIterator[OpenSdk]:
    """`sdk = await open_sdk(token=…)`: a client of the server under test, or of another one."""
    opened: list[Sdk] = []

    async def open_one(*, at: str = live, **arguments: Any) -> Sdk:
        sdk = Sdk(driver, await driver.do("open", base_url=at, **arguments))
        opened.append(sdk)
        return sdk

    yield open_one
    for sdk in opened:
        await sdk.close()


@pytest.fixture
async def sdk(open_sdk: OpenSdk, context: AppContext, as_: SignIn) -> Sdk:
    """The SDK with an API key of the user."""
    from tests.factories.identity import make_api_key

    _, key = await make_api_key(context, await as_.user("user"))
    return await open_sdk(api_key=key)
