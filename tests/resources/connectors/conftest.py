"""A service of the outside world, and connectors to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.chat.conftest import talks
from tests.support.outside import Outside

if TYPE_CHECKING:
    import httpx

    from tests.fixtures.client import SignIn

__all__ = ["talks"]

PATH = "/api/v1/connectors"


@pytest.fixture
async def service() -> AsyncIterator[Outside]:
    """Where connectors may go in tests."""
    async with Outside(tls=False, host="127.0.0.2") as server:
        server.says({"ok": True})
        yield server


class Made:
    """A connector with one operation, and its owner."""

    def __init__(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        self.client = client
        self.body = body
        self.path = f"{PATH}/{body['namespace']}/{body['name']}"

    async def test(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        operation: str = "do",
        client: httpx.AsyncClient | None = None,
    ) -> httpx.Response:
        return await (client or self.client).post(
            f"{self.path}/test/{operation}", json={"parameters": parameters or {}}
        )

    async def result(self, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.test(parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def problem(self, parameters: Mapping[str, Any] | None = None, status: int = 400) -> str:
        answer = await self.test(parameters)
        assert answer.status_code == status, answer.text
        return str(answer.json()["detail"])


Make = Callable[..., Awaitable[Made]]


@pytest.fixture
def make(as_: SignIn, service: Outside) -> Make:
    """`made = await make(auth={...}, operation={"path": "/x"}, who="user")`."""

    async def made(
        operation: Mapping[str, Any] | None = None, *, who: str = "user", **body: Any
    ) -> Made:
        one = {"name": "do", "method": "GET", "path": "/do", **(operation or {})}
        client = await as_(who)
        whole = {"name": "svc", "base_url": service.url, "operations": [one], **body}
        answer = await client.post(PATH, json=whole)
        assert answer.status_code == 201, answer.text
        return Made(client, answer.json())

    return made


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}
