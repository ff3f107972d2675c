"""Sandboxes that are plain processes of this machine, for where there is no Docker."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from sinas.errors import UnavailableError
from sinas.sandbox.base import Invocation, Profile, Returned
from sinas.sandbox.doors import Doors, open_egress
from sinas.sandbox.link import LinkLostError, RunnerLink
from sinas.sandbox.owner import Owner
from sinas.sandbox.runner.seccomp import is_known
from sinas.sandbox.usage import Sample, process_tree
from sinas.sandbox.wire import Limits
from sinas.settings import Settings

_log = structlog.get_logger(__name__)

_READY_SECONDS = 30.0
_EXIT_SECONDS = 5.0
_PREFIX = "sinas-run-"
_ENVIRONMENTS = "/opt/sinas/environments"
_DOORS = "/run/sinas"
# The folder goes to the end: modules of the standard library must win.
_BOOT = "import sys; sys.path.append({!r}); from runner.__main__ import main; main()"
_FIRST_UID = 1_000_000_000  # above what distributions and user-namespace ranges hand out
_UIDS_PER_RUNNER = 256  # times pid_max stays below 2**31

_NETWORK = (
    "Functions use this machine's network: they reach its loopback services (databases "
    "included), its local network, metadata services and the internet."
)
_KERNEL = (
    "Functions share this machine's kernel, and read what their user may of its /usr and /etc."
)
_NO_FILTER = "System calls are not filtered on this kind of processor."
_ONE_USER = (
    "Calls in the shared pool that run at the same time have one user: each can read and stop "
    "the others."
)
_MEMORY = (
    "The memory limit is one of address space and holds for each process of a call; there is no "
    "CPU limit."
)

# Imports what the warm parent has not: an unprivileged user must be able to read the library.
_PROBE = Invocation(
    execution_id="probe",
    namespace="sinas",
    name="probe",
    code="import wave\n\ndef handler(input_data, context):\n    open('probe', 'w').close()\n",
    input=None,
    context={},
    timeout_seconds=_READY_SECONDS,
)


@dataclass(frozen=True, slots=True)
class _Level:
    """One degree of isolation, strongest first in `_levels`."""

    namespaces: bool
    users: bool
    egress: str

    @property
    def own_network(self) -> bool:
        """Whether calls have no network but a loopback, and doors."""
        return self.namespaces and self.egress != "network"

    @property
    def boundary(self) -> str:
        user = "an unprivileged user" if self.users else "the platform's own user"
        if self.namespaces:
            ways_out = "no network, but the API" if self.own_network else "this machine's network"
            if self.own_network and self.egress == "proxy":
                ways_out += " and a proxy to public addresses"
            return (
                f"One process per call as {user}, in its own mount, process and IPC namespaces "
                f"with a read-only root, a private /tmp and resource limits; {ways_out}; no "
                "container."
            )
        return f"One process per call as {user}, with resource limits; no namespaces."

    @property
    def warnings(self) -> tuple[str, ...]:
        found = [_KERNEL, _MEMORY]
        if not self.own_network:
            found.append(_NETWORK)
        if not is_known():
            found.append(_NO_FILTER)
        if not self.namespaces:
            found.append(
                "Functions see this machine's files and processes as far as their user may, can "
                "fill its disk, and files they leave in shared places such as /dev/shm stay."
            )
        if not self.users and not self.namespaces:
            found.append(
                "Functions run as the platform's own user: they can read its keys and data, "
                "signal its processes, and start processes without limit."
            )
        if not self.users:
            found.append(_ONE_USER)
        return tuple(found)


class ProcessMember:
    """One runner process."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        link: RunnerLink,
        directory: Path,
        doors: Doors | None,
        memory_mb: int,
    ) -> None:
        self.name = name
        self._doors = doors
        self._memory_mb = memory_mb
        self.link = link
        self._process = process
        self._directory = directory

    @property
    def last_line(self) -> str:
        """What the runner wrote last, if anything; it writes only when it fails."""
        return _last_line(self._directory)

    def sample(self) -> Sample | None:
        """What the runner and its calls take now; None when it is gone."""
        return process_tree(self._process.pid, self._memory_mb)

    async def destroy(self) -> None:
        """End the runner, which ends its call, and remove its directory."""
        self.link.break_off("destroyed")
        await asyncio.to_thread(_end, self._process)
        await _remove(self._directory, self._doors)


async def _remove(directory: Path, doors: Doors | None) -> None:
    if doors is not None:
        await doors.aclose()
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        # The end of its control socket makes it clean up and leave.
        process.wait(_EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class ProcessSource:
    """Makes runner processes for one worker, as isolated as this machine allows."""

    backend = "process"

    def __init__(self, settings: Settings, limits: Limits, *, reason: str) -> None:
        self._settings = settings
        self._limits = limits
        self._reason = reason
        self._numbers = count(1)
        self._egress = open_egress(settings)
        self._level = _Level(namespaces=False, users=False, egress=settings.sandbox.egress)
        self._why_not_more = ""
        self._owner = Owner.current()
        # Process ids repeat where function workers run in containers of their own.
        self._names = f"{self._owner.pid}-{secrets.token_hex(3)}"
        self._python = ""

    @property
    def boundary(self) -> str:
        """What separates a call from the host."""
        return self._level.boundary

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not isolated, and why this back end was chosen."""
        chosen = (self._reason, *self._level.warnings, self._why_not_more)
        return tuple(filter(None, chosen))

    async def open(self) -> None:
        """Find the strongest isolation that works here by starting one runner at each level.

        Raises:
            UnavailableError: Not even the weakest works.
        """
        self._python = await asyncio.to_thread(base_python)
        await asyncio.to_thread(_remove_leftovers, self._owner)
        environments = self._settings.core.environments_dir
        await asyncio.to_thread(environments.mkdir, parents=True, exist_ok=True)
        failures = []
        for level in _levels(is_root=os.geteuid() == 0, egress=self._settings.sandbox.egress):
            self._level = level
            try:
                await self._probe()
            except UnavailableError as error:
                failures.append(error.message)
                continue
            self._why_not_more = " ".join(f"Stronger isolation failed: {one}" for one in failures)
            for warning in self.warnings:
                _log.warning("sandbox.not_isolated", detail=warning)
            return
        raise UnavailableError(f"Functions cannot run as processes here: {'; '.join(failures)}")

    async def _probe(self) -> None:
        """Run one call that needs what a call may need, and see it return.

        Raises:
            UnavailableError: It did not.
        """
        memory = self._settings.sandbox.memory_mb
        member = await self.create(Profile(kind="sandbox", memory_mb=memory))
        try:
            outcome = await member.link.call(_PROBE).outcome()
            if not isinstance(outcome, Returned):
                ended = getattr(outcome, "error", None) or getattr(outcome, "reason", "")
                detail = outcome.stderr.strip() or member.last_line or ended
                raise UnavailableError(f"a trial call failed: {detail}")
        finally:
            await member.destroy()

    async def create(self, profile: Profile) -> ProcessMember:
        """Start a runner and wait until it takes calls.

        Raises:
            UnavailableError: It did not start at the chosen level.
        """
        kind = "process" if profile.kind == "sandbox" else profile.kind
        name = f"sinas-{kind}-{self._names}-{next(self._numbers)}"
        directory = await asyncio.to_thread(self._make_directory)
        doors = None
        if self._level.own_network:
            doors = Doors(directory / "doors", self._settings, self._egress)
        try:
            if doors is not None:
                await doors.open()
            process, control = await asyncio.to_thread(self._spawn, directory, doors, profile)
            link = await self._ready_link(process, control, profile)
        except BaseException as error:
            detail = await asyncio.to_thread(_last_line, directory)
            await asyncio.shield(_remove(directory, doors))
            if isinstance(error, LinkLostError | OSError):
                raise UnavailableError(f"{name} did not start: {detail or error}") from error
            raise
        return ProcessMember(name, process, link, directory, doors, profile.memory_mb)

    async def _ready_link(
        self, process: subprocess.Popen[bytes], control: socket.socket, profile: Profile
    ) -> RunnerLink:
        link = RunnerLink(control, self._limits.of(profile))
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await link.ready()
        except BaseException:
            link.break_off("not ready")
            await asyncio.shield(asyncio.to_thread(_kill, process))
            raise
        return link

    async def aclose(self) -> None:
        """Each member removed its own."""
        if self._egress is not None:
            self._egress.close()

    def _make_directory(self) -> Path:
        prefix = f"{_PREFIX}{self._owner.pid}.{self._owner.start}-"
        directory = Path(tempfile.mkdtemp(prefix=prefix))
        for part in ("home", "root", "doors"):
            (directory / part).mkdir(mode=0o711)
        if self._level.users:
            directory.chmod(0o711)
            (directory / "home").chmod(0o1777)
        return directory

    def _spawn(
        self, directory: Path, doors: Doors | None, profile: Profile
    ) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs, (directory / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own runner
                [
                    self._python,
                    *("-I", "-S", "-X", "utf8", "-c", _BOOT.format(str(Path(__file__).parent))),
                    json.dumps(self._config(directory, theirs.fileno(), doors, profile)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": "/usr/local/bin:/usr/bin:/bin",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    # Each further arena of glibc reserves 64 MiB of the address space of a call.
                    "MALLOC_ARENA_MAX": "2",
                },
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return process, ours

    def _config(
        self, directory: Path, control: int, doors: Doors | None, profile: Profile
    ) -> dict[str, Any]:
        sandbox = self._settings.sandbox
        mib = 1024 * 1024
        level = self._level
        environments = self._settings.core.environments_dir
        countable = level.users or level.namespaces
        config: dict[str, Any] = {
            "control_fd": control,
            "shared": profile.kind == "shared",
            "api_url": self._settings.core.api_url,
            "home": str(directory / "home"),
            "wipe": [str(directory / "home")],
            "environments": str(environments),
            "uid_span": [_FIRST_UID, _UIDS_PER_RUNNER] if level.users else None,
            "limits": {
                "address_space": profile.memory_mb * mib,
                "processes": sandbox.pids if countable else 0,
                "file_size": sandbox.tmp_mb * mib,
            },
        }
        if level.namespaces:
            config |= {
                "home": "/tmp",  # noqa: S108 - a mount of its own
                "wipe": ["/tmp", "/dev/shm"],  # noqa: S108 - likewise
                "environments": _ENVIRONMENTS,
                "isolation": {
                    "root": str(directory / "root"),
                    "tmp_mb": sandbox.tmp_mb,
                    "read_only": {
                        str(environments): _ENVIRONMENTS,
                        str(directory / "doors"): _DOORS,
                    },
                    "own_network": level.own_network,
                },
            }
        if doors is not None:
            config |= doors.config(_DOORS)
        return config


def _levels(*, is_root: bool, egress: str) -> tuple[_Level, ...]:
    """What to try, strongest first. Root never runs calls as itself."""
    return tuple(
        _Level(namespaces=namespaces, users=is_root, egress=egress) for namespaces in (True, False)
    )


def base_python() -> str:
    """The interpreter below this virtual environment, which cannot import the platform.

    Raises:
        UnavailableError: There is none to be found.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (
        getattr(sys, "_base_executable", ""),
        Path(sys.base_exec_prefix) / "bin" / name,
        Path(sys.base_exec_prefix) / "bin" / "python3",
    ):
        if path and os.access(path, os.X_OK):
            return os.path.realpath(path)
    raise UnavailableError(f"No base interpreter was found below {sys.base_exec_prefix}.")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(directory: Path) -> str:
    log = directory / "log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""


def _remove_leftovers(owner: Owner) -> None:
    """Remove directories of workers that are gone; their runners ended with them."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid, _, rest = path.name.removeprefix(_PREFIX).partition(".")
        start = rest.partition("-")[0]
        if pid.isdecimal() and Owner(owner.host, int(pid), start).is_known_dead:
            shutil.rmtree(path, ignore_errors=True)
