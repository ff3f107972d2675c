"""Files through the SDK."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.sdk import Sdk, SdkError
from tests.factories.files import make_collection

if TYPE_CHECKING:
    from sinas.context import AppContext
    from tests.fixtures.client import SignIn

WHERE = ("docs", "notes")


@pytest.fixture(autouse=True)
async def collection(context: AppContext, as_: SignIn) -> None:
    user = await as_.user("user")
    await make_collection(context, user, namespace="docs", name="notes")


async def test_a_file_from_its_beginning_to_its_end(sdk: Sdk) -> None:
    first = await sdk("files.upload", *WHERE, "a.txt", "aGVsbG8=", "text/plain")
    assert (first["name"], first["current_version"], first["visibility"]) == ("a.txt", 1, "private")
    second = await sdk(
        "files.upload",
        *WHERE,
        "a.txt",
        base64.b64encode(b"again").decode(),
        "text/plain",
        file_metadata={"year": 2026},
        update_existing=True,
    )
    assert (second["id"], second["current_version"]) == (first["id"], 2)
    found = await sdk("files.download", *WHERE, "a.txt")
    assert base64.b64decode(found["content_base64"]) == b"again"
    assert (found["version"], found["file_metadata"]) == (2, {"year": 2026})
    old = await sdk("files.download", *WHERE, "a.txt", version=1)
    assert base64.b64decode(old["content_base64"]) == b"hello"
    changed = await sdk("files.update_metadata", *WHERE, "a.txt", {"year": 2027})
    assert changed["file_metadata"] == {"year": 2027}
    (entry,) = await sdk("files.list", *WHERE)
    assert [version["version_number"] for version in entry["versions"]] == [1, 2]
    assert await sdk("files.delete", *WHERE, "a.txt") is None
    assert await sdk("files.list", *WHERE) == []
    with pytest.raises(SdkError) as refused:
        await sdk("files.download", *WHERE, "a.txt")
    assert refused.value.type == "SinasNotFoundError"


async def test_bytes_and_paths(sdk: Sdk, tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_bytes(b"# Title\n" * 1000)
    file = await sdk("files.upload_from_path", *WHERE, str(path), visibility="shared")
    assert (file["name"], file["visibility"]) == ("note.md", "shared")
    found = await sdk("files.download_bytes", *WHERE, "note.md")
    assert found == path.read_text()
    await sdk("files.upload_bytes", *WHERE, "b.bin", {"bytes": "\x00ÿ"}, "a/b")
    assert await sdk("files.download_bytes", *WHERE, "b.bin") == "\x00ÿ"


async def test_an_address(sdk: Sdk) -> None:
    await sdk("files.upload", *WHERE, "a.txt", "aGVsbG8=", "text/plain")
    made = await sdk("files.generate_temp_url", *WHERE, "a.txt", version=1, expires_in=120)
    assert (made["filename"], made["version"], made["expires_in"]) == ("a.txt", 1, 120)
    served = await sdk("files.serve", made["url"].rpartition("/")[2])
    assert served["filename"] == "a.txt"
    assert served["content_type"].startswith("text/plain")
    assert served["content"] == "hello"
    with pytest.raises(SdkError) as refused:
        await sdk("files.serve", "nonsense")
    assert refused.value.type == "SinasAuthError"
