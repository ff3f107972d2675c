"""What tests of signing in need besides the usual fixtures."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from typing_extensions import override

from sinas.app import create_app
from sinas.context import AppContext
from sinas.resources.auth.delivery import LOGIN_CODE
from tests.fixtures.client import BASE_URL
from tests.fixtures.configuration import changed
from tests.fixtures.state import in_own_task

ClientWith = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def client_with(context: AppContext) -> AsyncIterator[ClientWith]:
    """`client = await client_with(auth={"otp_max_attempts": 1})`: the app with other settings."""
    async with AsyncExitStack() as stack:

        async def build(**groups: dict[str, Any]) -> httpx.AsyncClient:
            settings = changed(context.settings, **groups)
            app = create_app(settings, dataclasses.replace(context, settings=settings))
            await stack.enter_async_context(in_own_task(app.router.lifespan_context(app)))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url=BASE_URL)
            return await stack.enter_async_context(client)

        yield build


class Codes(logging.Handler):
    """Reads login codes where a developer does: from the log."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[str, str]] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        event = record.msg
        if isinstance(event, dict) and event["event"] == LOGIN_CODE:
            self._seen.append((event["email"], event["code"]))

    def seen(self, email: str) -> list[str]:
        return [code for address, code in self._seen if address == email]

    async def next(self, email: str) -> str:
        """The newest code; waits for the first."""
        async with asyncio.timeout(5):
            while not self.seen(email):
                await asyncio.sleep(0.005)
        return self.seen(email)[-1]

    async def log_in(self, client: httpx.AsyncClient, email: str) -> tuple[str, str]:
        """Ask for a code; returns session and code."""
        before = len(self.seen(email))
        answer = await client.post("/auth/login", json={"email": email})
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(5):
            while len(self.seen(email)) == before:
                await asyncio.sleep(0.005)
        return answer.json()["session_id"], self.seen(email)[-1]

    async def tokens(self, client: httpx.AsyncClient, email: str) -> dict[str, Any]:
        """Sign in; returns the token pair."""
        session_id, code = await self.log_in(client, email)
        answer = await verify(client, session_id, code)
        assert answer.status_code == 200, answer.text
        pair: dict[str, Any] = answer.json()
        return pair


@pytest.fixture
def codes() -> Iterator[Codes]:
    # Not caplog: it sits on the root logger, whose handlers `create_app` replaces.
    handler = Codes()
    logging.getLogger("sinas").addHandler(handler)
    yield handler
    logging.getLogger("sinas").removeHandler(handler)


async def verify(client: httpx.AsyncClient, session_id: str, code: str) -> httpx.Response:
    body = {"session_id": session_id, "otp_code": code}
    return await client.post("/auth/verify-otp", json=body)


def wrong(code: str) -> str:
    """Another code."""
    return f"{(int(code) + 1) % 10**6:06d}"
