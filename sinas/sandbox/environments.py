"""Environments of Python packages on a worker's disk: built once, never changed, shared by calls.

An environment is a directory named by the hash of its lock: every package pinned, with the hash of
the one wheel that is installed. pip makes it beside and renames it into place, so that it is there
whole or not at all, in containers that run already too.
"""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from packaging.utils import canonicalize_name

from sinas.errors import InvalidInputError, UnavailableError, UpstreamError
from sinas.sandbox.base import Sandbox
from sinas.sandbox.interpreter import Interpreter, interpreter_of
from sinas.settings import environment

_log = structlog.get_logger(__name__)

_RUN_PIP = Path(__file__).with_name("run_pip.py")
_ID = re.compile(r"[0-9a-f]{32}")
_SCRATCH = ".scratch-"
_KEPT_SECONDS = 86_400.0
# Every waiting call would try again, each as slow as the one before.
_FAILURE_SECONDS = 30.0
_MAX_WORDS = 4_000
_UNREACHABLE = ("Retrying (Retry(", "Could not fetch URL", "ConnectionError")
# What pip may see of this process's environment: its own configuration, and the way out.
_PASSED_ON = re.compile(
    r"PATH|HOME|TMPDIR|LANG|LC_ALL|NETRC|XDG_\w+|PIP_\w+|SSL_CERT_(FILE|DIR)"
    r"|(REQUESTS|CURL)_CA_BUNDLE|(http|https|all|no)_proxy",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedEnvironment:
    """What an environment is made of, enough to make it anew elsewhere.

    Attributes:
        id: Hash of the rest.
        python: Name of the interpreter it is for.
        lock: pip's requirements format: each package as `name==version --hash=sha256:…`.
    """

    id: str
    python: str
    lock: str

    @classmethod
    def of(cls, python: str, lock: str) -> "LockedEnvironment":
        """The environment of a lock."""
        digest = hashlib.sha256(f"{python}\n{lock}".encode()).hexdigest()
        return cls(id=digest[:32], python=python, lock=lock)


@dataclass(slots=True)
class _Hold:
    """A lock on an environment that calls of this process use."""

    descriptor: int
    users: int = 0


class Environments:
    """The environments of one worker. Workers may share a disk.

    Args:
        directory: Where they are; sandboxes see it read-only.
        sandbox: Runs the Python they are for.
        build_seconds: How long pip may take.
    """

    def __init__(self, directory: Path, sandbox: Sandbox, *, build_seconds: float) -> None:
        self._directory = directory
        self._sandbox = sandbox
        self._build_seconds = build_seconds
        self._interpreter: Interpreter | None = None
        self._installing = asyncio.Lock()
        self._holds: dict[str, _Hold] = {}
        self._failures: dict[str, tuple[float, UnavailableError]] = {}

    async def build(self, requirements: Sequence[str]) -> LockedEnvironment:
        """Resolve `name` or `name==version` requirements together, and install the outcome.

        Raises:
            InvalidInputError: They cannot be had together; with pip's own words.
            UpstreamError: The package index was not reached, or pip took too long.
            UnavailableError: The sandbox's Python is not known, or this disk is not writable.
        """
        interpreter = await self._python()
        try:
            locked = await self._resolve(interpreter, requirements)
            await self._install(locked)
        except OSError as error:
            raise UnavailableError(f"The packages cannot be stored: {error}") from error
        return locked

    @asynccontextmanager
    async def held(
        self, environment_id: str, load: Callable[[], Awaitable[LockedEnvironment]]
    ) -> AsyncIterator[None]:
        """Have the environment on disk, and keep it there, for as long as the block runs.

        One that is missing is installed from its lock, which `load` fetches.

        Raises:
            UnavailableError: It cannot be installed here; one sentence says why.
        """
        while (hold := self._holds.get(environment_id) or self._hold(environment_id)) is None:
            await self._ensure(environment_id, load)
        hold.users += 1
        try:
            yield
        finally:
            hold.users -= 1
            if not hold.users:
                del self._holds[environment_id]
                os.close(hold.descriptor)

    def _hold(self, environment_id: str) -> _Hold | None:
        """Lock the directory against removal; None when it is not there."""
        path = self._directory / environment_id
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not _is_same(descriptor, path):  # removed before the lock was had
            os.close(descriptor)
            return None
        hold = self._holds[environment_id] = _Hold(descriptor)
        return hold

    async def _ensure(
        self, environment_id: str, load: Callable[[], Awaitable[LockedEnvironment]]
    ) -> None:
        async with self._installing:
            if (self._directory / environment_id).exists():
                return
            until, failure = self._failures.get(environment_id, (0.0, None))
            if failure is not None and time.monotonic() < until:
                raise UnavailableError(failure.message)
            try:
                await self._install_locked(await load())
            except (InvalidInputError, UpstreamError, UnavailableError, OSError) as error:
                failure = UnavailableError(f"The approved packages cannot be installed: {error}")
                until = time.monotonic() + _FAILURE_SECONDS
                self._failures = {environment_id: (until, failure)}
                raise failure from error

    async def _install(self, locked: LockedEnvironment) -> None:
        async with self._installing:
            await self._install_locked(locked)

    async def _install_locked(self, locked: LockedEnvironment) -> None:
        """Install what is not there; the lock `_installing` is held."""
        final = self._directory / locked.id
        if final.exists():
            return
        interpreter = await self._python()
        if interpreter.name != locked.python:
            raise UnavailableError(
                f"They were built for {locked.python}, but sandboxes of this worker run "
                f"{interpreter.name}; approving or removing a package builds them anew."
            )
        with _scratch(self._directory) as scratch:
            packages, lock = scratch / "packages", scratch / "lock.txt"
            lock.write_text(locked.lock)
            mine = interpreter.version == f"{sys.version_info[0]}.{sys.version_info[1]}"
            await self._pip(
                interpreter,
                scratch,
                ["install", "--no-deps", "--require-hashes", "--requirement", str(lock)],
                ["--target", str(packages), "--compile" if mine else "--no-compile"],
            )
            await asyncio.to_thread(_put, packages, final)
        _log.info("environments.installed", id=locked.id, packages=locked.lock.count("\n"))
        await asyncio.to_thread(_sweep, self._directory, keep=locked.id)

    async def _resolve(
        self, interpreter: Interpreter, requirements: Sequence[str]
    ) -> LockedEnvironment:
        with _scratch(self._directory) as scratch:
            report = scratch / "report.json"
            await self._pip(
                interpreter,
                scratch,
                ["install", "--dry-run", "--ignore-installed", "--report", str(report)],
                list(requirements),
            )
            return LockedEnvironment.of(interpreter.name, _lock(json.loads(report.read_text())))

    async def _pip(
        self, interpreter: Interpreter, directory: Path, *arguments: Sequence[str]
    ) -> None:
        """Run pip in `directory` for the sandbox's interpreter, wheels only."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", str(_RUN_PIP), json.dumps(interpreter.markers)),
            *(each for some in arguments for each in some),
            *_selection(interpreter),
            *("--no-input", "--no-color", "--progress-bar", "off", "--disable-pip-version-check"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=directory,
            env=_pip_environment(environment()),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._build_seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            raise UpstreamError(
                f"pip was not ready after {self._build_seconds:g} s (DEPENDENCY_BUILD_TIMEOUT)."
            ) from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            text = output.decode(errors="replace")
            kind = UpstreamError if any(m in text for m in _UNREACHABLE) else InvalidInputError
            raise kind(f"pip failed: {_words(text)}")

    async def _python(self) -> Interpreter:
        if self._interpreter is None:
            self._interpreter = await interpreter_of(self._sandbox)
        return self._interpreter


def _selection(interpreter: Interpreter) -> list[str]:
    """Options that make pip choose wheels for another interpreter than its own."""
    chosen = ["--only-binary", ":all:", "--implementation", "cp"]
    chosen += ["--python-version", interpreter.version, "--abi", interpreter.abi]
    for platform in interpreter.platforms:
        chosen += ["--platform", platform]
    return chosen


def _pip_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The operator's settings for pip, less those that say where it installs to."""
    kept = {name: value for name, value in variables.items() if _PASSED_ON.fullmatch(name)}
    return {**kept, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONUNBUFFERED": "1"}


def _lock(report: dict[str, Any]) -> str:
    """The report of pip (format version 1) as pinned and hashed requirements, in a stable order.

    Raises:
        InvalidInputError: A package comes from a URL of its own, which no lock can pin.
    """
    lines = []
    for each in report["install"]:
        name = canonicalize_name(each["metadata"]["name"])
        if each["is_direct"]:
            raise InvalidInputError(f"{name} comes from a URL, not from a package index.")
        digest = each["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={each['metadata']['version']} --hash=sha256:{digest}\n")
    return "".join(sorted(lines))


def _words(output: str) -> str:
    """What pip says about its failure."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("WARNING:", "Looking in", "[notice]"))]
    first = next((n for n, line in enumerate(lines) if line.startswith("ERROR:")), -5)
    return "\n".join(lines[first:])[-_MAX_WORDS:] or "it gave no reason"


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory that is gone after the block."""
    directory.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _put(packages: Path, final: Path) -> None:
    """Make what pip installed unchangeable and readable for every call, then let it appear."""
    for folder, _, files in os.walk(packages):
        Path(folder).chmod(0o755 if folder == str(packages) else 0o555)
        for name in files:
            path = Path(folder) / name
            path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
    final.parent.chmod(0o755)
    try:
        packages.rename(final)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
        _remove(packages)  # another worker on this disk was first
    else:
        final.chmod(0o555)  # not before: a directory that changes its parent must be writable


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sweep(directory: Path, keep: str) -> None:
    """Remove what is older than a day, not `keep`, and used by no call of any worker here."""
    end = time.time() - _KEPT_SECONDS
    for path in directory.iterdir():
        # Workers that share the disk may be at it too.
        with suppress(FileNotFoundError, BlockingIOError):
            if path.name == keep or path.lstat().st_mtime > end:
                continue
            if path.name.startswith(_SCRATCH):
                _remove(path)
            elif _ID.fullmatch(path.name):
                _remove(_taken_away(path))


def _taken_away(path: Path) -> Path:
    """Move an environment where nobody finds it; BlockingIOError while a call uses it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.chmod(0o755)
        return path.rename(path.with_name(f"{_SCRATCH}{path.name}"))
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)
