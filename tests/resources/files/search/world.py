"""A collection with files, for the tests of search."""

import base64
from typing import Any
from uuid import UUID

import httpx

from sinas.context import AppContext
from sinas.models import User
from sinas.resources.files.indexing import Indexer
from sinas.resources.files.storage import content_of
from tests.fixtures.client import SignIn

FILES = "/files/docs/handbook"


class SearchWorld:
    """The collection `docs/handbook`, filled over HTTP and indexed without a worker."""

    def __init__(self, context: AppContext, as_: SignIn, collection_id: UUID) -> None:
        self.context = context
        self.collection_id = collection_id
        self._as = as_
        self._files: dict[UUID, tuple[User, dict[str, Any]]] = {}

    async def upload(
        self,
        user: User,
        name: str,
        data: bytes | str,
        *,
        content_type: str = "text/plain",
        visibility: str = "shared",
        metadata: dict[str, Any] | None = None,
        indexed: bool = True,
    ) -> UUID:
        body = {
            "name": name,
            "content_type": content_type,
            "visibility": visibility,
            "file_metadata": metadata or {},
        }
        file_id = await self._put(user, body, data)
        self._files[file_id] = (user, body)
        if indexed:
            await self.index(file_id)
        return file_id

    async def replace(self, file_id: UUID, data: str, *, indexed: bool = True) -> None:
        """A new version."""
        user, body = self._files[file_id]
        assert await self._put(user, body | {"update_existing": True}, data) == file_id
        if indexed:
            await self.index(file_id)

    async def delete(self, file_id: UUID) -> None:
        user, body = self._files[file_id]
        answer = await (await self._as(user)).delete(f"{FILES}/{body['name']}")
        assert answer.status_code in (200, 204), answer.text

    async def index(self, file_id: UUID) -> None:
        await Indexer(self.context, content_of(self.context)).run(file_id)

    async def _put(self, user: User, body: dict[str, Any], data: bytes | str) -> UUID:
        content = data.encode() if isinstance(data, str) else data
        body = body | {"content_base64": base64.b64encode(content).decode()}
        answer = await (await self._as(user)).post(FILES, json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])


async def search(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await client.post(f"{FILES}/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def names(client: httpx.AsyncClient, **body: Any) -> list[str]:
    return [one["filename"] for one in await search(client, **body)]
