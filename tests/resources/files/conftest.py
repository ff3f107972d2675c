"""Collections that tests fill, and clients of them."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.factories.files import make_collection

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.models import Collection
    from sinas.storage.local import LocalStorage
    from tests.fixtures.client import SignIn

FILES = "/files/docs/notes"
MakeCollection = Callable[..., Awaitable["Collection"]]


@pytest.fixture
def collection(context: AppContext, as_: SignIn) -> MakeCollection:
    """`await collection(is_public=True)` makes `docs/notes`, an administrator's."""

    async def make(**columns: Any) -> Collection:
        admin = await as_.user("admin")
        return await make_collection(context, admin, namespace="docs", name="notes", **columns)

    return make


@pytest.fixture
def on_disk(context: AppContext) -> Callable[[], list[str]]:
    """Names of what the storage has, of other tests' files nothing."""
    storage: LocalStorage = context.storage  # type: ignore[assignment]
    root: Path = storage._root
    before = {path.name for path in root.rglob("*") if path.is_file()}

    def found() -> list[str]:
        return sorted({p.name for p in root.rglob("*") if p.is_file()} - before)

    return found


async def upload(
    client: httpx.AsyncClient, name: str = "a.txt", content: bytes | str = "hello", **more: Any
) -> httpx.Response:
    """Upload in JSON to `docs/notes`."""
    data = content.encode() if isinstance(content, str) else content
    body = {"name": name, "content_type": "text/plain", **more}
    body["content_base64"] = base64.b64encode(data).decode()
    return await client.post(FILES, json=body)


async def uploaded(client: httpx.AsyncClient, *args: Any, **more: Any) -> dict[str, Any]:
    answer = await upload(client, *args, **more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def content(client: httpx.AsyncClient, name: str = "a.txt", **query: Any) -> bytes:
    answer = await client.get(f"{FILES}/{name}", params=query)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["content_base64"], validate=True)
