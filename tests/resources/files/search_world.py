"""Collections with files, for the tests of search."""

from typing import Any
from uuid import UUID

import httpx

from sinas.context import AppContext
from sinas.models import Collection, File, User
from sinas.resources.files.index_jobs import index_soon
from sinas.resources.files.indexing import Indexer
from sinas.resources.files.storage import DATA, content_of

TEXT = "text/plain"


class SearchWorld:
    """One collection, `docs/handbook`, and whoever uses it."""

    def __init__(self, context: AppContext, collection: Collection) -> None:
        self.context = context
        self.collection = collection

    async def upload(
        self, user: User, name: str, data: bytes | str, *, content_type: str = TEXT,
        visibility: str = "shared", metadata: dict[str, Any] | None = None, indexed: bool = True,
    ) -> UUID:  # fmt: skip
        data = data.encode() if isinstance(data, str) else data
        async with self.context.unit() as unit:
            file = File(
                collection_id=self.collection.id, user_id=user.id, name=name,
                content_type=content_type, current_version=1, file_metadata=metadata or {},
                visibility=visibility,
            )  # fmt: skip
            unit.session.add(file)
            await unit.session.flush()
            DATA[file.id, 1] = data
            await index_soon(unit, file.id)
        if indexed:
            await self.index(file.id)
        return file.id

    async def replace(self, file_id: UUID, data: str, *, indexed: bool = True) -> None:
        async with self.context.unit() as unit:
            file = await unit.session.get_one(File, file_id)
            file.current_version += 1
            await unit.session.flush()
            DATA[file_id, file.current_version] = data.encode()
            await index_soon(unit, file_id)
        if indexed:
            await self.index(file_id)

    async def delete(self, file_id: UUID) -> None:
        async with self.context.unit() as unit:
            await unit.session.delete(await unit.session.get_one(File, file_id))

    async def index(self, file_id: UUID) -> None:
        await Indexer(self.context, content_of(self.context)).run(file_id)


async def search(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await client.post("/files/docs/handbook/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def names(client: httpx.AsyncClient, **body: Any) -> list[str]:
    return [one["filename"] for one in await search(client, **body)]
