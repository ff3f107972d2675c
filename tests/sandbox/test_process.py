"""What only the process back end has: levels of isolation, and leave to be used."""

import os
import tempfile
from pathlib import Path

import psutil
import pytest

from sinas.errors import ConfigurationError, UnavailableError
from sinas.sandbox.opening import open_sandbox
from tests.sandbox.conftest import invocation, settings_for, value_of


def own_directories() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"sinas-run-{os.getpid()}.*"))


async def test_production_refuses_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, core={"env": "production"}, backend="process")
    with pytest.raises(ConfigurationError, match="SANDBOX_ALLOW_PROCESS_IN_PRODUCTION"):
        await open_sandbox(settings, worker_id="tests", progress=print)


async def test_production_may_be_told_to_accept_it(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path,
        core={"env": "production"},
        backend="process",
        allow_process_in_production=True,
    )
    sandbox = await open_sandbox(settings, worker_id="tests", progress=print)
    await sandbox.aclose()


async def test_it_says_what_it_does_not_isolate(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, backend="process", egress="network")
    sandbox = await open_sandbox(settings, worker_id="tests", progress=print)
    status = sandbox.status()
    await sandbox.aclose()
    assert status.backend == "process"
    assert any("loopback services" in warning for warning in status.warnings)
    assert "this machine's network" in status.boundary
    assert any("no CPU limit" in warning for warning in status.warnings)


async def test_auto_falls_back_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    sandbox = await open_sandbox(settings_for(tmp_path), worker_id="tests", progress=print)
    try:
        assert sandbox.status().backend == "process"
        assert any("No Docker engine answers" in one for one in sandbox.status().warnings)
        assert value_of(await sandbox.run(invocation("def handler(i, c):\n    return 1"))) == 1
    finally:
        await sandbox.aclose()


async def test_docker_that_was_asked_for_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    settings = settings_for(tmp_path, backend="docker")
    with pytest.raises(UnavailableError, match="No Docker engine answers"):
        await open_sandbox(settings, worker_id="tests", progress=print)


async def test_closing_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    sandbox = await open_sandbox(
        settings_for(tmp_path, backend="process", min_size=2), worker_id="tests", progress=print
    )
    runners = [
        one for one in psutil.Process().children(recursive=True) if "runner" in str(one.cmdline())
    ]
    directories = own_directories()
    assert len(directories) == 2
    assert runners
    await sandbox.aclose()
    assert not [one for one in runners if one.is_running()]
    assert not own_directories()
