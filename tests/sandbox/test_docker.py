"""What only containers have: labels, limits, a network, and leftovers on the engine."""

import asyncio
import multiprocessing
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from sinas.sandbox.base import Sandbox
from sinas.sandbox.docker import remove_all
from sinas.sandbox.image import connect, engine_available, ensure_image, image_names
from sinas.sandbox.network import ensure_network
from sinas.sandbox.opening import open_sandbox
from sinas.sandbox.owner import Owner
from tests.sandbox.conftest import INSTANCE, settings_for, until

pytestmark = pytest.mark.docker


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    opened = connect()
    yield opened
    opened.close()


def containers(client: docker.DockerClient, instance: str = INSTANCE) -> list[Any]:
    found: list[Any] = client.api.containers(
        all=True, filters={"label": f"sinas.instance={instance}"}
    )
    return found


async def open_docker(tmp_path: Path) -> Sandbox:
    settings = settings_for(tmp_path, backend="docker", min_size=2)
    return await open_sandbox(settings, worker_id="worker-abc", progress=print)


async def test_containers_are_labelled_and_limited(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    pool = await open_docker(tmp_path)
    try:
        found = client.api.inspect_container(pool.status().idle[0].name)
    finally:
        await pool.aclose()
    labels, host = found["Config"]["Labels"], found["HostConfig"]
    assert found["Name"].startswith("/sinas-sandbox-")
    assert labels["sinas.type"] == "sandbox-executor"
    assert labels["sinas.pool"] == "true"
    assert labels["sinas.worker"] == "worker-abc"
    assert host["CapDrop"] == ["ALL"]
    assert sorted(cap.removeprefix("CAP_") for cap in host["CapAdd"]) == ["SETGID", "SETUID"]
    assert host["ReadonlyRootfs"] is True
    assert host["Memory"] == host["MemorySwap"] == 256 * 1024 * 1024
    assert host["PidsLimit"] == 64
    assert host["AutoRemove"] is True
    assert host["RestartPolicy"]["Name"] == "no"
    assert not any("docker.sock" in bind for bind in host["Binds"])


async def test_shared_containers_are_labelled_and_limited(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, backend="docker", shared_memory="512m")
    pool = await open_sandbox(settings, worker_id="worker-abc", progress=print)
    try:
        await pool.scale_shared(1)
        (member,) = pool.status().shared
        found = client.api.inspect_container(member.name)
    finally:
        await pool.aclose()
    labels, host = found["Config"]["Labels"], found["HostConfig"]
    assert member.name.startswith("sinas-shared-")
    assert labels["sinas.type"] == "shared-worker"
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert host["Memory"] == host["MemorySwap"] == 512 * 1024 * 1024
    assert host["PidsLimit"] == 8 * 64
    assert member.name not in {name[1:] for one in containers(client) for name in one["Names"]}


async def test_closing_leaves_nothing(client: docker.DockerClient, tmp_path: Path) -> None:
    pool = await open_docker(tmp_path)
    names = {member.name for member in pool.status().idle}
    await pool.aclose()
    left = {name.lstrip("/") for one in containers(client) for name in one["Names"]}
    assert not names & left
    assert [path.name for path in (tmp_path / "run" / "sandbox").iterdir()] == []


async def test_a_dead_workers_containers_are_removed_at_start(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    dead = Owner(Owner.current().host, gone.pid, "1")
    alive = Owner.current()
    image = await asyncio.to_thread(
        ensure_image, settings_for(tmp_path, backend="docker").sandbox, print
    )

    def leave(owner: Owner, kind: str = "sandbox-executor") -> str:
        labels = {
            "sinas.type": kind,
            "sinas.instance": INSTANCE,
            **owner.labels(),
        }
        created = client.api.create_container(
            image, command=["sleep", "600"], labels=labels, network_disabled=True
        )
        client.api.start(created["Id"])
        return str(created["Id"])

    left_by_dead, left_by_living = leave(dead), leave(alive)
    shared_left_by_dead = leave(dead, "shared-worker")
    pool = await open_docker(tmp_path)
    try:
        ids = {one["Id"] for one in containers(client)}
        assert not {left_by_dead, shared_left_by_dead} & ids
        assert left_by_living in ids
    finally:
        await pool.aclose()
        assert await asyncio.to_thread(remove_all, INSTANCE) == 1
    assert containers(client) == []


async def test_a_lost_container_is_replaced(client: docker.DockerClient, tmp_path: Path) -> None:
    pool = await open_docker(tmp_path)
    try:
        victim = pool.status().idle[0].name
        client.api.kill(victim)

        def replaced() -> bool:
            names = {one.name for one in pool.status().idle}
            return victim not in names and len(names) == 2

        await until(replaced)
    finally:
        await pool.aclose()


def _race(name: str, lock_file: Path) -> None:
    opened = connect()
    ensure_network(opened, name, INSTANCE, lock_file)
    opened.close()


@pytest.mark.parametrize("shared_lock", [True, False])
def test_racing_processes_make_one_network(
    client: docker.DockerClient, tmp_path: Path, shared_lock: bool
) -> None:
    name = f"sinas-race-{uuid.uuid4().hex[:8]}"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_race, args=(name, tmp_path / ("lock" if shared_lock else str(n))))
        for n in range(4)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(40)
        assert [process.exitcode for process in processes] == [0] * 4
        ensure_network(client, name, INSTANCE, tmp_path / "lock")
        found = [one for one in client.api.networks(names=[name]) if one["Name"] == name]
        assert len(found) == 1
        assert found[0]["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    finally:
        for network in client.networks.list(names=[name]):
            network.remove()


def test_a_network_made_between_look_and_creation_is_used(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"sinas-race-{uuid.uuid4().hex[:8]}"
    first = ensure_network(client, name, INSTANCE, tmp_path / "first")
    look = client.api.networks
    asked: list[object] = []

    def blind_once(names: list[str] | None = None) -> Any:
        asked.append(names)
        return [] if len(asked) == 1 else look(names=names)

    monkeypatch.setattr(client.api, "networks", blind_once)
    try:
        assert ensure_network(client, name, INSTANCE, tmp_path / "second") == first
    finally:
        monkeypatch.undo()
        client.networks.get(first).remove()


def test_the_image_is_named_after_its_content() -> None:
    base, tag = image_names("sinas-executor")
    assert base == "python:3.11-slim"
    assert tag.startswith("sinas-executor:")
    other_base, other_tag = image_names("team/python:1")
    assert other_base == "team/python:1"
    assert other_tag.startswith("sinas-executor:")
    assert other_tag != tag
    assert engine_available()
