"""Finding files through the SDK."""

import base64

import pytest

from sinas.context import AppContext
from tests.clients.sdk import Sdk, SdkError
from tests.factories.files import make_collection
from tests.fixtures.client import SignIn

PLACE = ("docs", "manuals")


async def test_finding_files(sdk: Sdk, context: AppContext, as_: SignIn) -> None:
    await make_collection(context, await as_.user("admin"), namespace="docs", name="manuals")
    for name, text, year in (("a.md", "# A\n\nzebra", 2025), ("b.md", "# B\n\nZebras", 2026)):
        content = base64.b64encode(text.encode()).decode()
        await sdk("files.upload", *PLACE, name, content, "text/plain", file_metadata={"y": year})

    async def found(**wanted: object) -> list[str]:
        return [file["filename"] for file in await sdk("files.search", *PLACE, **wanted)]

    assert await found() == ["a.md", "b.md"]
    assert await found(limit=1) == ["a.md"]
    assert await found(query="zebras") == ["b.md"]
    assert await found(query="zebra", metadata_filter={"y": 2025}) == ["a.md"]
    (file,) = await sdk("files.search", *PLACE, query="^zebra$")
    (match,) = file["matches"]
    assert (match["line"], match["text"], match["context"]) == (3, "zebra", ["# A", "", "zebra"])
    with pytest.raises(SdkError) as refused:
        await sdk("files.search", *PLACE, query="(")
    assert refused.value.status == 400
