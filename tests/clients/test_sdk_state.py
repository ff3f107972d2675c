"""States through the SDK, by namespace."""

import pytest

from tests.clients.conftest import OpenSdk
from tests.clients.sdk import Sdk, SdkError
from tests.fixtures.client import SignIn

THEME = {"mode": "dark", "accent": "blue"}


async def test_a_state_from_its_beginning_to_its_end(sdk: Sdk) -> None:
    state = await sdk(
        "state.set",
        "user_prefs",
        "theme",
        THEME,
        description="Theme of the pages",
        tags=["settings", "ui"],
        relevance_score=0.5,
        expires_at="2099-01-01T00:00:00Z",
        assistant_id="pages",
    )
    assert (state["namespace"], state["key"], state["value"]) == ("user_prefs", "theme", THEME)
    assert (state["visibility"], state["tags"]) == ("private", ["settings", "ui"])
    assert await sdk("state.get", state["id"]) == state
    with pytest.raises(SdkError) as refused:
        await sdk("state.set", "user_prefs", "theme", 1)
    assert refused.value.status in (400, 409)
    changed = await sdk(
        "state.update", state["id"], value={"mode": "light"}, tags=["ui"], relevance_score=1.0
    )
    assert (changed["value"], changed["description"]) == ({"mode": "light"}, "Theme of the pages")
    assert await sdk("state.delete", state["id"])
    with pytest.raises(SdkError) as refused:
        await sdk("state.get", state["id"])
    assert refused.value.type == "SinasNotFoundError"


async def test_finding_states(sdk: Sdk) -> None:
    for number in range(4):
        await sdk(
            "state.set",
            "notes" if number else "other",
            f"note-{number}",
            number,
            tags=["even"] if number % 2 == 0 else ["odd"],
            relevance_score=number / 10,
            assistant_id="one" if number == 3 else None,
        )

    async def found(**wanted: object) -> list[str]:
        return [state["key"] for state in await sdk("state.list", **wanted)]

    assert await found() == ["note-3", "note-2", "note-1", "note-0"]
    assert await found(namespace="notes") == ["note-3", "note-2", "note-1"]
    assert await found(tags="even") == ["note-2", "note-0"]
    assert await found(search="NOTE-2") == ["note-2"]
    assert await found(assistant_id="one") == ["note-3"]
    assert await found(visibility="private", skip=1, limit=2) == ["note-2", "note-1"]


async def test_who_reads_what(sdk: Sdk, open_sdk: OpenSdk, as_: SignIn) -> None:
    token = (await as_("other")).headers["authorization"].removeprefix("Bearer ")
    other = await open_sdk(token=token)
    private = await sdk("state.set", "shared", "mine", 1)
    public = await sdk("state.set", "shared", "ours", 2, visibility="public")
    assert [s["id"] for s in await other("state.list", namespace="shared")] == [public["id"]]
    assert (await other("state.get", public["id"]))["value"] == 2
    with pytest.raises(SdkError) as refused:
        await other("state.get", private["id"])
    assert refused.value.type == "SinasNotFoundError"
