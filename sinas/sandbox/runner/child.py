"""The process of one call: gives up its rights, waits for the call, runs it, answers, ends."""

import ctypes
import io
import json
import os
import resource
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

from . import tunnel
from .execute import execute, rehearse
from .protocol import ASK, CALL_DESCRIPTORS, EXIT_NO_MEMORY, HEADER, MAX_PROMPT_BYTES, frame

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
_DATA = 3  # descriptor of the data socket after tidying
_PACKAGES = 4  # descriptor of the directory of environments, likewise


@dataclass(frozen=True)
class Limits:
    """What the parent imposes on each call's process; 0 leaves a limit as it is.

    Attributes:
        address_space: Bytes of virtual memory of one process (RLIMIT_AS).
        processes: Processes and threads of the call's user (RLIMIT_NPROC).
        file_size: Bytes of one file (RLIMIT_FSIZE).
    """

    address_space: int = 0
    processes: int = 0
    file_size: int = 0


def become_call(
    gate: socket.socket,
    *,
    uid: int,
    home: str,
    api_url: str,
    environments: str,
    limits: Limits,
    shared: bool,
) -> NoReturn:
    """Turn this fresh fork into the process of the next call.

    Args:
        gate: Brings the call's descriptors.
        uid: Its user; 0 keeps the one this process has.
        home: Its HOME, TMPDIR and working directory; made here for a shared call.
        api_url: Base URL for calls back.
        environments: Directory of built environments.
        limits: Imposed on it.
        shared: Whether other calls run beside it, and `input()` may ask.
    """
    try:
        packages = os.open(environments or "/", os.O_PATH)
        _give_up_rights(uid, limits)
        if shared:
            os.mkdir(home, 0o700)
            # What loses its parent below this call shall stay below it.
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0 if uid else 1, 0, 0, 0)
        os.chdir(home)
        rehearse()
        # Waiting here, forked and unprivileged, takes the fork out of the call's latency.
        _, descriptors, _, _ = socket.recv_fds(gate, 1, CALL_DESCRIPTORS)
        if len(descriptors) == CALL_DESCRIPTORS:
            _serve([*descriptors, packages], home, api_url, environments, shared)
    except MemoryError:
        os._exit(EXIT_NO_MEMORY)
    except BaseException as error:  # noqa: BLE001 - must not return into the parent's loop
        os.write(2, f"call process failed: {error!r}\n".encode())
        os._exit(70)
    os._exit(0)


def _give_up_rights(uid: int, limits: Limits) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self is not ours to write
    os.umask(0o022)
    # The kernel shall take the call, never the warm parent. Raising needs no right.
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, value in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ):
        if value:
            resource.setrlimit(kind, (value, value))
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    prctl = _libc.prctl
    if not uid:
        _drop_capabilities()
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    # The change of user (or the parent's own caution) hid /proc/self from ourselves. Nothing in
    # this process is secret from this call.
    prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _drop_capabilities() -> None:
    """Lose the rights that the first user of a user namespace has; there are none elsewhere."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # past the last one, or not ours to drop
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _serve(
    descriptors: list[int], home: str, api_url: str, environments: str, shared: bool
) -> None:
    own_pid = os.getpid()
    _tidy(descriptors)
    _set_environment(home, api_url)
    request = json.loads(_read_frame())
    request["context"]["api_url"] = api_url
    if request["environment"]:
        # Last, so that no package can stand in for a module of the standard library.
        sys.path.append(os.path.join(_packages(environments), request["environment"]))
    else:
        os.close(_PACKAGES)
    ask = Questions(request["context"]).ask if shared else None
    answer = execute(request, ask)
    if os.getpid() != own_pid:
        return  # user code forked and its child ran on into here: one call, one answer
    for stream in {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}:
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # closed or replaced by user code: nothing of ours is lost
    _write(frame(answer))


def _packages(environments: str) -> str:
    """The directory of environments, as this user can get there."""
    if os.access(environments, os.X_OK):
        os.close(_PACKAGES)
        return environments
    # Its path leads through directories that this user may not enter.
    return f"/proc/self/fd/{_PACKAGES}"


class Questions:
    """What `input()` is in a shared call: asks the platform and waits for as long as it takes."""

    def __init__(self, context: dict[str, Any]) -> None:
        self._context = context
        self._own_pid = os.getpid()
        self._turn = threading.Lock()

    def ask(self, prompt: object = "", /) -> str:
        """Ask and wait for the answer, from any thread.

        Raises:
            TimeoutError: Nobody answered in time.
            RuntimeError: This is not the call's process but one that it forked.
        """
        if os.getpid() != self._own_pid:
            raise RuntimeError("input() works only in the process the call started in")
        text = str(prompt).encode("utf-8", "replace")[:MAX_PROMPT_BYTES]
        with self._turn:
            _write(frame(text, ASK))
            reply = json.loads(_read_frame())
        if "late" in reply:
            raise TimeoutError(reply["late"])
        if reply["access_token"]:
            self._context["access_token"] = reply["access_token"]
        return str(reply["value"])


def _tidy(descriptors: list[int]) -> None:
    """Keep stdin (null), stdout, stderr, data socket and packages; close what else there was."""
    high = [os.dup(one) for one in descriptors]
    os.dup2(high[1], 1)
    os.dup2(high[2], 2)
    os.dup2(high[0], _DATA, inheritable=False)
    os.dup2(high[3], _PACKAGES, inheritable=False)
    os.closerange(_PACKAGES + 1, 1 << 20)
    # New objects, not the parent's: those may be of another kind of file. What was printed
    # before a time-out shall be kept, so they buffer lines, not blocks.
    sys.stdout = sys.__stdout__ = _text_stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2)  # type: ignore[misc]


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _set_environment(home: str, api_url: str) -> None:
    os.environ.clear()
    os.environ.update(
        PATH="/usr/local/bin:/usr/bin:/bin",
        HOME=home,
        TMPDIR=home,
        LANG="C.UTF-8",
        PYTHONUTF8="1",
        PYTHONUNBUFFERED="1",
        PYTHONDONTWRITEBYTECODE="1",
        SINAS_API_URL=api_url,
        **tunnel.variables(),
    )


def _read_frame() -> bytes:
    _, size = HEADER.unpack(_read_exactly(HEADER.size))
    return _read_exactly(size)


def _read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(_DATA, min(size, 1 << 20))
        if not part:
            raise EOFError("the platform closed the call")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# A question from a thread must not come in the middle of the answer.
_writing = threading.Lock()


def _write(data: bytes) -> None:
    view = memoryview(data)
    with _writing:
        while view:
            view = view[os.write(_DATA, view) :]
