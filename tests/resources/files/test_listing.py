"""Lists: by name, in pages, in as many statements for ten thousand files as for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.resources.files.conftest import FILES, MakeCollection, uploaded

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn
    from tests.fixtures.database import QueryCounter

FILL = """
WITH b AS (INSERT INTO blobs (id) SELECT gen_random_uuid() FROM generate_series(1, :many)
           RETURNING id),
     f AS (INSERT INTO files (id, user_id, collection_id, name, content_type, visibility)
           SELECT id, :user, :collection, 'f-' || id, 'text/plain', 'private' FROM b RETURNING id)
INSERT INTO file_versions (id, file_id, version_number, blob_id, content_type, size_bytes,
                           hash_sha256, uploaded_by)
SELECT gen_random_uuid(), id, 1, id, 'text/plain', 1, repeat('0', 64), :user FROM f
"""


async def test_ten_thousand_files(
    context: AppContext, as_: SignIn, collection: MakeCollection, query_counter: QueryCounter
) -> None:
    row = await collection()
    user = await as_("user")
    await uploaded(user)
    with query_counter() as few:
        assert len((await user.get(FILES)).json()) == 1
    async with context.unit() as unit:
        values = {"many": 10_000, "user": (await as_.user("user")).id, "collection": row.id}
        await unit.session.execute(text(FILL), values)
    with query_counter() as many:
        answer = await user.get(FILES)
    files = answer.json()
    assert len(files) == 10_000
    assert answer.headers["x-truncated"] == "true"
    assert [file["name"] for file in files] == sorted(file["name"] for file in files)
    assert all(len(file["versions"]) == 1 for file in files)
    assert many.count == few.count <= 3, many.statements
    last = await user.get(FILES, params={"skip": 10_000})
    assert [len(last.json()), "x-truncated" in last.headers] == [1, False]
    assert last.json()[0]["name"] not in {file["name"] for file in files}


async def test_pages(as_: SignIn, collection: MakeCollection) -> None:
    await collection()
    user = await as_("user")
    for name in ("c", "a", "b"):
        await uploaded(user, name)
    found = []
    for skip in range(3):
        answer = await user.get(FILES, params={"skip": skip, "limit": 1})
        found += [file["name"] for file in answer.json()]
        assert ("x-truncated" in answer.headers) is (skip < 2)
    assert found == ["a", "b", "c"]
    for query in ({"limit": 0}, {"limit": 10_001}, {"skip": -1}, {"skip": 2**70}):
        assert (await user.get(FILES, params=query)).status_code == 422


async def test_an_empty_one_and_one_that_is_not_there(
    as_: SignIn, collection: MakeCollection
) -> None:
    await collection()
    user = await as_("user")
    assert (await user.get(FILES)).json() == []
    assert (await user.get("/files/docs/none")).status_code == 404
