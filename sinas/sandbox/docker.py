"""Sandboxes in Docker containers."""

import asyncio
import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import docker
import structlog
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from sinas.errors import UnavailableError
from sinas.sandbox.base import Profile
from sinas.sandbox.containers import (
    INSIDE,
    LABEL_TYPES,
    container_options,
    remove_container,
    remove_leftovers,
)
from sinas.sandbox.doors import Doors, open_egress
from sinas.sandbox.image import connect, ensure_image
from sinas.sandbox.link import LinkLostError, RunnerLink
from sinas.sandbox.network import ensure_network
from sinas.sandbox.owner import Owner
from sinas.sandbox.rundir import RunDirectory
from sinas.sandbox.usage import Sample
from sinas.sandbox.wire import Limits
from sinas.settings import Settings

_log = structlog.get_logger(__name__)

_READY_SECONDS = 30.0
_LOOK_SECONDS = 2.0
# Parts of the names of runtimes that do not share the kernel of the machine.
_OWN_KERNEL = ("runsc", "gvisor", "kata")


class DockerMember:
    """One container."""

    def __init__(self, name: str, link: RunnerLink, remains: "_Remains") -> None:
        self.name = name
        self.link = link
        self._remains = remains

    def sample(self) -> Sample | None:
        """What the engine says it takes now; None when it is gone."""
        try:
            found = self._remains.client.api.stats(
                self._remains.container_id, stream=False, one_shot=True
            )
        except (DockerException, RequestException):
            return None
        return _sample(found)

    async def destroy(self) -> None:
        """Remove the container, its sockets and their directory."""
        self.link.break_off("destroyed")
        await self._remains.remove()


def _sample(stats: dict[str, Any]) -> Sample | None:
    memory = stats.get("memory_stats", {})
    if "usage" not in memory:  # it has just ended
        return None
    # Page cache that can be dropped at once is nobody's.
    used = memory["usage"] - memory.get("stats", {}).get("inactive_file", 0)
    cpu = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    return Sample(cpu, used / 2**20, memory["limit"] / 2**20)


@dataclass
class _Remains:
    """What has to go when a container goes, or did not come up."""

    client: docker.DockerClient
    directory: Path
    doors: Doors
    container_id: str = ""

    async def remove(self) -> None:
        await self.doors.aclose()
        try:
            if self.container_id:
                await asyncio.to_thread(remove_container, self.client, self.container_id)
        except (DockerException, RequestException) as error:
            # Its runner ends with its control socket, and the next start sweeps up the rest.
            _log.warning("sandbox.remove_failed", id=self.container_id[:12], error=str(error))
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


class DockerSource:
    """Makes containers for one worker. SDK calls block, so all of them run in threads."""

    backend = "docker"

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        *,
        worker_id: str,
        progress: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._worker_id = worker_id
        # The random part keeps apart what may be given one id: a worker and its next start.
        kept = "".join(one for one in worker_id if one.isalnum())[-8:]
        self._short_id = f"{kept or 'worker'}-{secrets.token_hex(3)}"
        self._progress = progress
        self._owner = Owner.current()
        self._run = RunDirectory(settings.core.data_dir, self._owner)
        self._numbers = count(1)
        self._egress = open_egress(settings)
        self._client: docker.DockerClient | None = None
        self._image = ""
        self._network = "none"

    @property
    def boundary(self) -> str:
        """What separates a call from the host."""
        sandbox = self._settings.sandbox
        runtime = f" of the runtime {sandbox.runtime}" if sandbox.runtime else ""
        ways_out = {
            "proxy": "no network, but the API and a proxy to public addresses",
            "none": "no network, but the API",
            "network": f"the Docker network {sandbox.network}",
        }[sandbox.egress]
        return (
            f"One Docker container{runtime} per running call, shared-pool calls side by side in "
            "theirs: no capabilities but to change user, read-only root, memory, CPU and process "
            f"limits, a fresh process and user for every call; {ways_out}."
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What containers do not isolate."""
        sandbox = self._settings.sandbox
        found = []
        if not any(name in sandbox.runtime for name in _OWN_KERNEL):
            found.append(
                "Functions share this machine's kernel; SANDBOX_RUNTIME=runsc puts another one "
                "between."
            )
        if sandbox.egress == "network":
            found.append(
                f"Functions reach whatever the Docker network {sandbox.network} reaches; for a "
                "bridge that includes the internet, metadata services and services that listen on "
                "this machine's outer addresses."
            )
        return tuple(found)

    async def open(self) -> None:
        """Make image, network and run directory ready; remove what dead workers left.

        Raises:
            UnavailableError: No engine, no image, or the engine refuses the network.
        """
        try:
            await asyncio.to_thread(self._open)
        except (DockerException, RequestException) as error:
            raise UnavailableError(f"The Docker engine failed: {error}") from error
        except OSError as error:
            raise UnavailableError(
                f"The directory for sandbox sockets cannot be made: {error}"
            ) from error

    def _open(self) -> None:
        self._image = ensure_image(self._settings.sandbox, self._progress)
        self._client = connect()
        self._run.open()
        self._settings.core.environments_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._client, self._settings.core.instance_id)
        self._check_runtime()
        if self._settings.sandbox.egress == "network":
            self._network = ensure_network(
                self._client,
                self._settings.sandbox.network,
                self._settings.core.instance_id,
                self._run.lock_file,
            )

    def _check_runtime(self) -> None:
        """Refuse a runtime the engine does not know before the first container needs it.

        Raises:
            UnavailableError: It is not registered.
        """
        assert self._client is not None
        runtime = self._settings.sandbox.runtime
        known = sorted(self._client.info().get("Runtimes", {}))
        # Names of containerd shims need not be registered.
        if runtime and runtime not in known and not runtime.startswith("io.containerd."):
            raise UnavailableError(
                f"SANDBOX_RUNTIME is {runtime}, which this Docker engine does not know; it has "
                f"{', '.join(known)}. Register it in the engine's daemon.json."
            )

    async def create(self, profile: Profile) -> DockerMember:
        """Start a container and wait for its runner.

        Raises:
            UnavailableError: The engine refuses it, or its runner does not come up.
        """
        assert self._client is not None
        number = next(self._numbers)
        name = f"sinas-{profile.kind}-{self._short_id}-{number}"
        directory = self._run.member(number)
        doors = Doors(directory, self._settings, self._egress)
        remains = _Remains(self._client, directory, doors)
        try:
            await doors.open()
            with socket.socket(socket.AF_UNIX) as listener:
                _listen(listener, directory / "control.sock")
                remains.container_id = await asyncio.to_thread(
                    self._start_container, name, directory, profile, doors
                )
                link = await self._ready_link(listener, remains.container_id, profile)
        except BaseException as error:
            # Shielded: a cancelled start must not leave its container behind.
            await asyncio.shield(remains.remove())
            if isinstance(error, DockerException | RequestException | OSError | LinkLostError):
                raise UnavailableError(f"Container {name} did not start: {error}") from error
            raise
        return DockerMember(name, link, remains)

    def _start_container(self, name: str, directory: Path, profile: Profile, doors: Doors) -> str:
        assert self._client is not None
        api = self._client.api
        options = container_options(
            api,
            self._settings,
            profile,
            directory=directory,
            network=self._network,
            doors=doors.config(INSIDE),
        )
        labels = {
            "sinas.type": LABEL_TYPES[profile.kind],
            "sinas.pool": "true",
            "sinas.instance": self._settings.core.instance_id,
            "sinas.worker": self._worker_id,
            **self._owner.labels(),
        }
        created = api.create_container(self._image, name=name, labels=labels, **options)
        container_id = str(created["Id"])
        try:
            api.start(container_id)
        except (DockerException, RequestException):
            with contextlib.suppress(DockerException, RequestException):
                remove_container(self._client, container_id)
            raise
        return container_id

    async def _ready_link(
        self, listener: socket.socket, container_id: str, profile: Profile
    ) -> RunnerLink:
        control = await self._accept(listener, container_id)
        link = RunnerLink(control, self._limits.of(profile))
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await link.ready()
        except BaseException as error:
            link.break_off("not ready")
            if isinstance(error, TimeoutError):
                raise OSError("its runner did not get ready") from error
            raise
        return link

    async def _accept(self, listener: socket.socket, container_id: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return (await loop.sock_accept(listener))[0]
            except TimeoutError:
                await asyncio.to_thread(self._check_running, container_id)
        raise OSError("its runner did not connect")

    def _check_running(self, container_id: str) -> None:
        assert self._client is not None
        try:
            self._client.api.inspect_container(container_id)
        except NotFound:
            raise OSError("its runner ended at once") from None

    async def aclose(self) -> None:
        """Remove the run directory; the containers are gone by now."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._egress is not None:
            self._egress.close()
        await asyncio.to_thread(self._run.close)


def _listen(listener: socket.socket, path: Path) -> None:
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(1)
    listener.setblocking(False)


def remove_all(instance_id: str) -> int:
    """Remove every sandbox container of the installation; returns how many. Blocks.

    Raises:
        UnavailableError: No engine answers.
    """
    client = connect()
    try:
        return remove_leftovers(client, instance_id, only_dead=False)
    except (APIError, RequestException) as error:
        raise UnavailableError(f"The Docker engine failed: {error}") from error
    finally:
        client.close()
