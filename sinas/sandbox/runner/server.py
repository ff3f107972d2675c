"""The warm parent: keeps one process forked ahead and turns it into a call when told to."""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import cleanup, relay
from .child import Limits, become_call
from .isolate import Isolation
from .protocol import (
    CALL_DESCRIPTORS,
    EXITED,
    KILLED,
    MAX_LINE_BYTES,
    SIGNALLED,
    TIMED_OUT,
    VERSION,
    Lines,
    line,
)

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Config:
    """What the platform decides about one sandbox; the one command-line argument, as JSON.

    Attributes:
        control: Path of the platform's listening socket, or "" for descriptor `control_fd`.
        api_socket: Unix socket the relay carries calls back to; "" for no relay.
        api_url: Base URL for calls back where there is no relay, else its path part.
        api_port: Loopback port of the relay.
        uid_base: First of `uid_count` users that calls cycle through; the relay has the one
            before it. 0 leaves every process the user it started as.
        home: HOME, TMPDIR and working directory of calls.
        wipe: Directories emptied after each call.
        environments: Directory of built environments, one folder for each id.
        isolation: Namespaces to enter first; None where a container is around this already.
    """

    control: str = ""
    control_fd: int = -1
    api_socket: str = ""
    api_url: str = ""
    api_port: int = 0
    uid_base: int = 0
    uid_count: int = 1
    home: str = "/tmp"
    wipe: tuple[str, ...] = ()
    environments: str = ""
    limits: Limits = field(default_factory=Limits)
    isolation: Isolation | None = None


@dataclass
class _Process:
    """A process forked for a call, waiting or running."""

    pid: int
    uid: int
    gate: socket.socket


@dataclass
class _Call:
    """The running call."""

    id: int
    process: _Process
    deadline: float


class Server:
    """One sandbox. `run` returns when the platform closes the control socket."""

    def __init__(self, config: Config, control: socket.socket) -> None:
        self._config = config
        self._control = control
        self._lines = Lines()
        self._descriptors: list[int] = []
        self._turn = 0
        self._spare: _Process | None = None
        self._call: _Call | None = None
        self._listener: socket.socket | None = None
        self._relay_pid = 0
        self._oom_kills = cleanup.oom_kills()
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Serve calls, one at a time."""
        api_url = self._open_relay()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        gc.collect()
        gc.freeze()  # keeps the collector of a call from copying the parent's pages
        self._api_url = api_url
        self._fork_spare()
        self._send("ready", v=VERSION, api=api_url)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._milliseconds_left())}
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._receive():
                break
            if self._call and time.monotonic() >= self._call.deadline:
                self._finish(TIMED_OUT, 0)
        # Forgotten first, so that reaping it does not count as the end of a call to report.
        call, self._call = self._call, None
        if call:
            self._clear(call.process)

    def _milliseconds_left(self) -> float | None:
        if self._call is None:
            return None
        return max(0.0, self._call.deadline - time.monotonic()) * 1000 + 1

    def _open_relay(self) -> str:
        if not self._config.api_socket:
            return self._config.api_url
        self._listener = relay.listen(self._config.api_port)
        self._fork_relay()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}{self._config.api_url}"

    def _fork_relay(self) -> None:
        assert self._listener is not None
        pid = os.fork()
        if pid == 0:
            self._control.close()
            uid = self._config.uid_base - 1 if self._config.uid_base else 0
            relay.run(self._listener, self._config.api_socket, uid)
        self._relay_pid = pid

    def _fork_spare(self) -> None:
        uid = 0
        if self._config.uid_base:
            uid = self._config.uid_base + self._turn % self._config.uid_count
            self._turn += 1
        gate, inner = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            # The parent's end must not live on in the child: its closing is the child's end.
            gate.close()
            become_call(
                inner,
                uid=uid,
                home=self._config.home,
                api_url=self._api_url,
                environments=self._config.environments,
                limits=self._config.limits,
            )
        inner.close()
        self._spare = _Process(pid, uid, gate)

    def _receive(self) -> bool:
        """Handle what the platform sent; False when it has closed the socket."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, MAX_LINE_BYTES, CALL_DESCRIPTORS
            )
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._descriptors += descriptors
        for message in self._lines.feed(data):
            self._handle(message)
        return True

    def _handle(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "call":
                self._start(message["id"], message["timeout"])
            case "kill":
                if self._call and self._call.id == message["id"]:
                    self._finish(KILLED, 0)
            case "ping":
                self._send("pong")

    def _start(self, call_id: int, timeout: float) -> None:
        if self._spare is None:
            self._fork_spare()
        process, self._spare = self._spare, None
        assert process is not None
        descriptors, self._descriptors = self._descriptors, []
        self._call = _Call(call_id, process, time.monotonic() + timeout)
        # A process that died waiting shows up as ended without an answer.
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(process.gate, [b"!"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        if self._call and pid == self._call.process.pid:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                self._finish(SIGNALLED, -code)
            else:
                self._finish(EXITED, code)
        elif self._spare and pid == self._spare.pid:
            self._spare.gate.close()
            self._spare = None  # the next call forks its own
        elif pid == self._relay_pid:
            self._fork_relay()

    def _finish(self, cause: str, code: int) -> None:
        call = self._call
        assert call is not None
        self._call = None
        clean = self._clear(call.process)
        kills = cleanup.oom_kills()
        oom, self._oom_kills = kills > self._oom_kills, kills
        self._send("ended", id=call.id, cause=cause, code=code, oom=oom, clean=clean)
        if self._spare is None:
            self._fork_spare()

    def _clear(self, process: _Process) -> bool:
        """Kill and wipe what the call left; False if something resists."""
        process.gate.close()
        keep = {os.getpid(), self._relay_pid}
        if self._spare:
            keep.add(self._spare.pid)
        own_namespace = os.getpid() == 1

        def left() -> set[int]:
            seen = cleanup.processes() if own_namespace else cleanup.descendants()
            return seen - keep

        def kill() -> None:
            if not own_namespace:
                cleanup.kill_descendants(keep)
            elif process.uid:
                cleanup.kill_user(process.uid)
            else:
                cleanup.kill_namespace()

        gone = cleanup.kill_until_gone(kill, left, self._reap)
        return cleanup.wipe(self._config.wipe, process.uid) and gone

    def _send(self, op: str, **fields: Any) -> None:
        # If the platform is gone, the next receive says so and ends the loop.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(line(op, **fields))


def _connect(config: Config) -> socket.socket:
    if not config.control:
        return socket.socket(fileno=config.control_fd)
    control = socket.socket(socket.AF_UNIX)
    # Without the right to override permissions only the socket's owner may connect.
    owner = os.stat(config.control).st_uid
    os.seteuid(owner)
    try:
        control.connect(config.control)
    finally:
        os.seteuid(0)
    return control


def serve(config: Config) -> NoReturn:
    """Run one sandbox until the platform lets go of it."""
    control = _connect(config)
    if config.uid_base == 0:
        # Calls run as this process's own user: keep its memory and environment out of reach.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getpid() != 1:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Server(config, control).run()
    os._exit(0)


def parse(argument: str) -> Config:
    """Read the command-line argument. `uid_span` [first, size] in it becomes uid_base."""
    fields = json.loads(argument)
    fields["limits"] = Limits(**fields.get("limits", {}))
    span = fields.pop("uid_span", None)
    if span:
        # Users no other runner of this machine has: its own process id makes the difference.
        first, size = span
        fields["uid_base"] = first + os.getpid() * size + 1
        fields["uid_count"] = size - 1
    fields["wipe"] = tuple(fields.get("wipe", ()))
    if fields.get("isolation"):
        fields["isolation"] = Isolation(**fields["isolation"])
    return Config(**fields)


def forget_path() -> None:
    """Hide the runner's folder from user code's imports; what is loaded stays loaded."""
    sys.path[:] = [entry for entry in sys.path if not os.path.isdir(os.path.join(entry, "runner"))]
