"""Sandboxes for the tests of this folder: real containers and real processes."""

import asyncio
import textwrap
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sinas.sandbox.base import Invocation, Outcome, Returned, Sandbox
from sinas.sandbox.opening import open_sandbox
from sinas.settings import GROUPS, CoreSettings, FunctionSettings, SandboxSettings, Settings

INSTANCE = f"test-{uuid.uuid4().hex[:12]}"
MEMORY_MB = 256

MakeSettings = Callable[..., Settings]
OpenSandbox = Callable[..., Awaitable[Sandbox]]
Run = Callable[..., Awaitable[Outcome]]


def settings_for(data_dir: Path, *, core: dict[str, Any] | None = None, **sandbox: Any) -> Settings:
    """Settings with a small sandbox pool; `sandbox` overrides its fields."""
    small = {"min_size": 1, "min_idle": 0, "max_size": 4, "memory_mb": MEMORY_MB, "pids": 64}
    small["shared_workers"] = 0
    groups: dict[str, Any] = {name: group() for name, group in GROUPS.items()}
    groups["core"] = CoreSettings(data_dir=data_dir, instance_id=INSTANCE, **(core or {}))
    groups["function"] = FunctionSettings(max_result_bytes=100_000, max_output_bytes=10_000)
    groups["sandbox"] = SandboxSettings(**{**small, "network": INSTANCE, **sandbox})
    return Settings(**groups)


def invocation(code: str, *, timeout: float = 20.0, **fields: Any) -> Invocation:
    """A call of `code`, dedented, as function tests/example."""
    defaults: dict[str, Any] = {
        "execution_id": uuid.uuid4().hex,
        "namespace": "tests",
        "name": "example",
        "input": None,
        "context": {},
    }
    return Invocation(code=textwrap.dedent(code), timeout_seconds=timeout, **{**defaults, **fields})


def value_of(outcome: Outcome) -> Any:
    """What the call returned; any other end fails the test."""
    assert isinstance(outcome, Returned), outcome
    return outcome.value


def require_containment(sandbox: Sandbox) -> None:
    """Fail before an attack runs where it could reach processes of this machine."""
    status = sandbox.status()
    if status.backend == "process":
        assert "mount, process and IPC namespaces" in status.boundary, status.boundary


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background, 30 s at most."""
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not happen")


def pytest_sessionfinish() -> None:
    """Remove the network that this run's containers used."""
    from sinas.errors import UnavailableError
    from sinas.sandbox.image import connect

    try:
        client = connect(5)
    except UnavailableError:
        return
    for network in client.networks.list(names=[INSTANCE]):
        network.remove()
    client.close()


@pytest.fixture(
    scope="module", params=[pytest.param("docker", marks=pytest.mark.docker), "process"]
)
def backend(request: pytest.FixtureRequest) -> str:
    """Both back ends, one after the other."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module")
async def sandbox(backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A pool that the tests of a module share."""
    settings = settings_for(tmp_path_factory.mktemp(backend), backend=backend)
    opened = await open_sandbox(settings, worker_id="tests", progress=print)
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture
async def open_pool(backend: str, tmp_path: Path) -> AsyncIterator[OpenSandbox]:
    """Opens pools of one's own; all are closed after the test."""
    opened: list[Sandbox] = []

    async def open_one(*, core: dict[str, Any] | None = None, **sandbox: Any) -> Sandbox:
        settings = settings_for(tmp_path, core=core, backend=backend, **sandbox)
        opened.append(await open_sandbox(settings, worker_id="tests", progress=print))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.aclose()


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    """Runs code in the shared pool."""

    async def run_code(code: str, **fields: Any) -> Outcome:
        return await sandbox.run(invocation(code, **fields))

    return run_code
