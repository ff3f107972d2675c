"""Approving packages over HTTP: who may, what is installed, and that failures change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import func, select

from sinas.models import Dependency, Environment
from tests.factories.functions import make_function
from tests.fixtures.configuration import changed
from tests.support.wheels import Index

if TYPE_CHECKING:
    from pathlib import Path

    from sinas.context import AppContext
    from sinas.worker import RunningWorker
    from tests.fixtures.client import SignIn

PATH = "/api/v1/dependencies"
ONCE = {"max_attempts": 1, "delay_seconds": 0, "backoff": "none"}
IMPORT = "def handler(i, c):\n    import {0}\n    return {0}.VERSION\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    return Index(tmp_path / "index", monkeypatch)


@pytest.fixture
async def admin(as_: SignIn) -> httpx.AsyncClient:
    return await as_("admin")


@pytest.fixture
def configure(context: AppContext) -> Iterator[Callable[..., None]]:
    """Other settings of packages, for one test."""
    before = context.settings

    def change(**values: Any) -> None:
        object.__setattr__(context, "settings", changed(before, dependency=values))

    yield change
    object.__setattr__(context, "settings", before)


async def approve(client: httpx.AsyncClient, name: str, **body: Any) -> httpx.Response:
    return await client.post(PATH, json={"package_name": name, **body}, timeout=120)


async def listed(client: httpx.AsyncClient) -> list[tuple[str, str | None]]:
    rows = (await client.get(PATH)).json()
    return [(row["package_name"], row["version"]) for row in rows]


async def current(context: AppContext) -> Environment | None:
    async with context.sessions() as session:
        found: Environment | None = await session.scalar(
            select(Environment).where(Environment.is_current)
        )
        return found


async def test_an_approved_package_is_installed_and_listed(
    context: AppContext,
    as_: SignIn,
    admin: httpx.AsyncClient,
    function_worker: RunningWorker,
    index: Index,
) -> None:
    index.wheel("some_thing", "1.0")
    index.wheel("some_thing", "2.0")
    answer = await approve(admin, "Some.Thing", version="1.0")
    assert answer.status_code == 200, answer.text
    row = answer.json()
    assert set(row) == {"id", "package_name", "version", "installed_at", "installed_by"}
    assert (row["package_name"], row["version"]) == ("some-thing", "1.0")
    assert row["installed_by"] == str((await as_.user("admin")).id)
    assert (await admin.get(PATH)).json() == [row]
    environment = await current(context)
    assert environment is not None
    assert environment.requirements == ["some-thing==1.0"]
    assert environment.lock.startswith("some-thing==1.0 --hash=sha256:")
    assert (context.settings.core.environments_dir / environment.id / "some_thing.py").exists()


async def test_a_version_may_stand_behind_the_name(
    admin: httpx.AsyncClient, function_worker: RunningWorker, index: Index
) -> None:
    index.wheel("thing", "1.5")
    assert (await approve(admin, "thing==1.5")).json()["version"] == "1.5"
    index.wheel("other")
    assert (await approve(admin, "other")).json()["version"] is None
    assert await listed(admin) == [("other", None), ("thing", "1.5")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"package_name": ""},
        {"package_name": "two words"},
        {"package_name": "-r /etc/passwd"},
        {"package_name": "thing>=1"},
        {"package_name": "thing[extra]"},
        {"package_name": "thing @ https://example.com/thing.whl"},
        {"package_name": "./thing"},
        {"package_name": "thing; python_version > '3'"},
        {"package_name": "thing==newest"},
        {"package_name": "thing==1.0", "version": "1.0"},
        {"package_name": "thing", "version": "newest"},
        {"package_name": "thing", "version": ""},
        {"package_name": "thing", "index": "https://example.com"},
    ],
)
async def test_what_is_no_package_is_refused(
    admin: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await admin.post(PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]
    if len(body) == 1:
        assert answer.json()["errors"][0]["field"] == "package_name"


async def test_a_failed_build_is_told_in_the_words_of_pip_and_changes_nothing(
    context: AppContext, admin: httpx.AsyncClient, function_worker: RunningWorker, index: Index
) -> None:
    index.wheel("thing", "1.0")
    index.wheel("thing", "2.0")
    index.wheel("old", requires=["thing<2"])
    assert (await approve(admin, "thing", version="2.0")).status_code == 200
    before = await current(context)
    assert before is not None
    answer = await approve(admin, "absent-thing")
    assert answer.status_code == 422
    assert "No matching distribution found for absent-thing" in answer.json()["detail"]
    answer = await approve(admin, "old")
    assert answer.status_code == 422
    assert "old 1.0 depends on thing<2" in answer.json()["detail"]
    assert await listed(admin) == [("thing", "2.0")]
    after = await current(context)
    assert after is not None
    assert after.id == before.id


async def test_only_listed_packages_when_there_is_a_list(
    admin: httpx.AsyncClient,
    function_worker: RunningWorker,
    index: Index,
    configure: Callable[..., None],
) -> None:
    configure(allowed_packages="Some_Thing, other")
    index.wheel("some_thing")
    index.wheel("more")
    answer = await approve(admin, "more")
    assert answer.status_code == 400
    assert "ALLOWED_PACKAGES" in answer.json()["detail"]
    assert (await approve(admin, "some.thing")).status_code == 200


async def test_none_when_installing_is_switched_off(
    admin: httpx.AsyncClient, configure: Callable[..., None]
) -> None:
    configure(allow_installation=False)
    answer = await approve(admin, "thing")
    assert answer.status_code == 403
    assert "ALLOW_PACKAGE_INSTALLATION" in answer.json()["detail"]


async def test_a_second_approval_is_refused(
    admin: httpx.AsyncClient, function_worker: RunningWorker, index: Index
) -> None:
    index.wheel("thing")
    assert (await approve(admin, "thing")).status_code == 200
    answer = await approve(admin, "Thing", version="1.0")
    assert answer.status_code == 400
    assert "already approved" in answer.json()["detail"]


async def test_only_admins_change_packages(as_: SignIn) -> None:
    user = await as_("user")
    assert (await approve(user, "thing")).status_code == 403
    assert (await user.get(PATH)).status_code == 403
    assert (await user.delete(f"{PATH}/00000000-0000-7000-8000-000000000000")).status_code == 403
    reader = await as_.key("admin", ["sinas.dependencies.read:own"])
    assert (await reader.get(PATH)).status_code == 200
    assert (await approve(reader, "thing")).status_code == 403


async def test_without_a_worker_there_is_a_clear_answer(admin: httpx.AsyncClient) -> None:
    answer = await approve(admin, "thing")
    assert answer.status_code == 503
    assert "No function worker" in answer.json()["detail"]


async def test_two_approvals_at_once_do_not_lose_one_another(
    context: AppContext, admin: httpx.AsyncClient, function_worker: RunningWorker, index: Index
) -> None:
    for name in ("first", "second"):
        index.wheel(name)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(approve(admin, name)) for name in ("first", "second")]
    assert [task.result().status_code for task in tasks] == [200, 200]
    environment = await current(context)
    assert environment is not None
    assert environment.requirements == ["first", "second"]
    assert environment.lock.count("--hash") == 2


async def test_a_removed_package_is_gone_for_later_calls(
    context: AppContext, admin: httpx.AsyncClient, function_worker: RunningWorker, index: Index
) -> None:
    ids = []
    for name in ("first", "second"):
        index.wheel(name)
        ids.append((await approve(admin, name)).json()["id"])
    assert (await admin.delete(f"{PATH}/{ids[0]}")).status_code == 204
    environment = await current(context)
    assert environment is not None
    assert environment.requirements == ["second"]
    assert (await admin.delete(f"{PATH}/{ids[0]}")).status_code == 404
    assert (await admin.delete(f"{PATH}/{ids[1]}")).status_code == 204
    assert await current(context) is None
    assert await listed(admin) == []
    async with context.sessions() as session:
        assert await session.scalar(select(func.count(Dependency.id))) == 0
    assert (await approve(admin, "first")).status_code == 200  # as before: known, current again
    assert (await current(context)) is not None


async def test_functions_import_what_is_approved(
    context: AppContext,
    as_: SignIn,
    admin: httpx.AsyncClient,
    function_worker: RunningWorker,
    index: Index,
) -> None:
    index.wheel("thing", "1.0")
    owner = await as_.user("user")
    await make_function(context, owner, IMPORT.format("thing"), name="imports")
    user = await as_("user")

    async def call() -> Any:
        return (await user.post("/functions/default/imports/execute", json={"input": {}})).json()

    before = await call()
    assert before["status"] == "error"
    assert 'POST /api/v1/dependencies {"package_name": "thing"}' in before["error"]
    row = (await approve(admin, "thing")).json()
    assert (await call())["result"] == "1.0"
    await admin.delete(f"{PATH}/{row['id']}")
    assert (await call())["status"] == "error"


async def test_a_worker_that_cannot_install_them_says_why(
    context: AppContext,
    as_: SignIn,
    admin: httpx.AsyncClient,
    function_worker: RunningWorker,
    index: Index,
) -> None:
    wheel = index.wheel("thing", "1.0")
    await approve(admin, "thing")
    environment = await current(context)
    assert environment is not None
    # As on another host, and the package is not to be had any more.
    installed = context.settings.core.environments_dir / environment.id
    installed.chmod(0o755)
    installed.rename(installed.with_name("elsewhere"))
    wheel.unlink()
    await make_function(context, await as_.user("user"), name="f", retry=ONCE)
    user = await as_("user")
    answer = (await user.post("/functions/default/f/execute", json={"input": {}})).json()
    assert answer["status"] == "error"
    assert "The approved packages cannot be installed" in answer["error"]
