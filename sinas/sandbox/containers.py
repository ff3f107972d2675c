"""What a sandbox container may do, and how containers are removed."""

import json
import time
from pathlib import Path
from typing import Any

import docker
from docker.api import APIClient
from docker.errors import APIError, NotFound
from docker.types import LogConfig, Ulimit

from sinas.sandbox.base import Profile
from sinas.sandbox.owner import Owner
from sinas.settings import Settings

INSIDE = "/run/sinas"
_ENVIRONMENTS = "/opt/sinas/environments"
_BOOT = "import sys; sys.path.append('/opt/sinas'); from runner.__main__ import main; main()"
# A million empty files would cost no space but seconds of wiping.
_TMP_INODES = 32_768
_UID_BASE = 20_001
_UID_COUNT = 10_000
_REMOVAL_SECONDS = 20.0
# A shared container has room for this many calls that each use all a sandbox may.
_SHARED_PIDS = 8
LABEL_TYPES = {"sandbox": "sandbox-executor", "shared": "shared-worker"}
# Shared memory and message queues of System V and POSIX would outlive a call.
_SYSCTLS = {
    "kernel.shmmni": "0",
    "kernel.msgmni": "0",
    "kernel.sem": "0 0 0 0",
    "fs.mqueue.queues_max": "0",
}


def container_options(
    api: APIClient,
    settings: Settings,
    profile: Profile,
    *,
    directory: Path,
    network: str,
    doors: dict[str, Any],
) -> dict[str, Any]:
    """Arguments of `create_container` besides image, name and labels.

    Args:
        api: The client, which assembles the host part.
        settings: For the limits.
        profile: What the container is made for.
        directory: Host directory with the control and API sockets.
        network: Id of the network, or a mode of the engine such as `none`.
        doors: The runner's configuration of its ways out.
    """
    sandbox = settings.sandbox
    memory = profile.memory_mb * 1024 * 1024
    is_shared = profile.kind == "shared"
    host = api.create_host_config(
        auto_remove=True,
        binds={
            str(directory): {"bind": INSIDE, "mode": "ro"},
            str(settings.core.environments_dir): {"bind": _ENVIRONMENTS, "mode": "ro"},
        },
        cap_drop=["ALL"],
        cap_add=["SETUID", "SETGID"],  # all the runner needs: one unprivileged user per call
        security_opt=["no-new-privileges"],
        read_only=True,
        tmpfs={
            "/tmp": f"size={sandbox.tmp_mb}m,mode=1777,nr_inodes={_TMP_INODES},exec,nosuid,nodev"  # noqa: S108 - the sandbox's own
        },
        shm_size="16m",
        ipc_mode="private",
        sysctls=_SYSCTLS,
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=round(sandbox.cpus * 1_000_000_000),
        pids_limit=sandbox.pids * (_SHARED_PIDS if is_shared else 1),
        ulimits=[Ulimit(name="nofile", soft=1024, hard=4096), Ulimit(name="core", soft=0, hard=0)],
        network_mode=network,
        extra_hosts={"host.docker.internal": "127.0.0.1"},
        runtime=sandbox.runtime or None,
        restart_policy={"Name": "no"},
        log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m"}),
    )
    config = {
        **doors,
        "control": f"{INSIDE}/control.sock",
        "environments": _ENVIRONMENTS,
        "shared": is_shared,
        "limits": {"processes": sandbox.pids if is_shared else 0},
        "uid_base": _UID_BASE,
        "uid_count": _UID_COUNT,
        "home": "/tmp",  # noqa: S108 - the sandbox's own
        "wipe": ["/tmp", "/dev/shm", "/dev/mqueue"],  # noqa: S108 - likewise
    }
    return {
        "command": ["python3", "-I", "-X", "utf8", "-c", _BOOT, json.dumps(config)],
        "hostname": "sandbox",
        "host_config": host,
        "user": "0:0",
        "working_dir": "/",
    }


def remove_container(client: "docker.DockerClient", container_id: str) -> None:
    """Kill and remove it; returns when it is gone, also if the engine is at it already. Blocks.

    Raises:
        APIError: The engine cannot remove it.
    """
    end = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            client.api.remove_container(container_id, force=True)
        except NotFound:
            return
        except APIError as error:
            # 409 while auto-removal is under way; older engines say 500 if both meet in the middle.
            if error.status_code not in {409, 500} or time.monotonic() > end:
                raise
        else:
            return
        time.sleep(0.05)


def remove_leftovers(
    client: "docker.DockerClient", instance_id: str, *, only_dead: bool = True
) -> int:
    """Remove sandbox containers of the installation; returns how many. Blocks.

    Args:
        client: The engine.
        instance_id: CoreSettings.instance_id.
        only_dead: Spare those whose worker may still live.

    Raises:
        APIError: The engine refuses.
    """
    found = client.api.containers(
        all=True,
        filters={"label": ["sinas.type", f"sinas.instance={instance_id}"]},
    )
    removed = 0
    for container in found:
        if container["Labels"]["sinas.type"] not in LABEL_TYPES.values():
            continue
        owner = Owner.of_labels(container.get("Labels") or {})
        if only_dead and (owner is None or not owner.is_known_dead):
            continue
        remove_container(client, container["Id"])
        removed += 1
    return removed
