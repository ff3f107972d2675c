"""Collections: what test_crud does not see of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tests.factories.files import make_collection, make_file

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

WHERE = "/api/v1/collections"


async def test_defaults(as_: SignIn) -> None:
    answer = await (await as_("user")).post(WHERE, json={"name": "notes"})
    found = answer.json()
    del found["id"], found["user_id"], found["created_at"], found["updated_at"]
    assert found == {
        "namespace": "default",
        "name": "notes",
        "metadata_schema": {},
        "content_filter_function": None,
        "post_upload_function": None,
        "allowed_content_types": [],
        "max_file_size_mb": 100,
        "max_total_size_gb": 10,
        "is_public": False,
        "allow_shared_files": True,
        "allow_private_files": True,
        "stored_bytes": 0,
    }


async def test_lists(context: AppContext, as_: SignIn) -> None:
    user, other = await as_.user("user"), await as_.user("other")
    for namespace, name in (("b", "two"), ("a", "three"), ("a", "one")):
        await make_collection(context, user, namespace=namespace, name=name)
    await make_collection(context, other, namespace="a", name="theirs")
    client = await as_("user")

    async def names(path: str) -> list[str]:
        return [one["name"] for one in (await client.get(path)).json()]

    assert await names(WHERE) == ["one", "three", "two"]
    assert await names(f"{WHERE}?namespace=b") == ["two"]
    for path in ("/collections", "/discovery/collections"):
        assert await names(path) == ["one", "three", "two"]
        assert await names(f"{path}?skip=1&limit=1") == ["three"]
        assert (await client.get(f"{path}?app=none/such")).status_code == 404


async def test_a_name_is_kept(as_: SignIn) -> None:
    client = await as_("user")
    await client.post(WHERE, json={"namespace": "docs", "name": "notes"})
    for field in ("namespace", "name"):
        answer = await client.put(f"{WHERE}/docs/notes", json={field: "other"})
        assert answer.status_code == 422


async def test_deleting_one_removes_everybodys_files(context: AppContext, as_: SignIn) -> None:
    from sinas.models import Blob, File, FileVersion
    from sinas.resources.files.blobs import sweep
    from sinas.storage.base import ContentMissingError

    user, other = await as_.user("user"), await as_.user("other")
    row = await make_collection(context, user, namespace="docs", name="notes")
    kept = await make_collection(context, user, namespace="docs", name="kept")
    for collection, owner in ((row, user), (row, other), (kept, user)):
        await make_file(context, collection, owner)
    async with context.statement_unit() as unit:
        blobs = (await unit.session.scalars(select(Blob.id).order_by(Blob.id))).all()
    assert (await (await as_("user")).delete(f"{WHERE}/docs/notes")).status_code == 204
    await sweep(context)
    async with context.statement_unit() as unit:
        assert (await unit.session.scalars(select(Blob.id))).all() == [blobs[-1]]
        assert len((await unit.session.scalars(select(File.id))).all()) == 1
        assert len((await unit.session.scalars(select(FileVersion.id))).all()) == 1
    for blob_id in blobs[:2]:
        try:
            await context.storage.open(blob_id.hex)
        except ContentMissingError:
            continue
        raise AssertionError("the bytes are still there")
