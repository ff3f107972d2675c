"""The warm parent: keeps one process forked ahead and turns it into a call when told to."""

import contextlib
import ctypes
import gc
import json
import math
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import cleanup, tunnel
from .child import Limits, become_call
from .isolate import Isolation
from .protocol import (
    CALL_DESCRIPTORS,
    EXITED,
    KILLED,
    MAX_LINE_BYTES,
    NO_PROCESS,
    SIGNALLED,
    TIMED_OUT,
    VERSION,
    Lines,
    line,
)
from .relay import Relay, Route

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Config:
    """What the platform decides about one sandbox; the one command-line argument, as JSON.

    Attributes:
        control: Path of the platform's listening socket, or "" for descriptor `control_fd`.
        api_socket: Unix socket the relay carries calls back to; "" for no relay.
        api_url: Base URL for calls back where there is no relay, else its path part.
        api_ports: Loopback ports that lead there; the first is the one calls are told.
        proxy_socket: Unix socket of the way to the internet; "" for none.
        proxy_port: Loopback port that leads there.
        uid_base: First of `uid_count` users that calls cycle through; the relay has the one
            before it. 0 leaves every process the user it started as.
        home: HOME, TMPDIR and working directory of calls.
        wipe: Directories emptied after each call.
        environments: Directory of built environments, one folder for each id.
        shared: Whether many calls run at once, each in a home of its own below `home`.
        isolation: Namespaces to enter first; None where a container is around this already.
    """

    control: str = ""
    control_fd: int = -1
    api_socket: str = ""
    api_url: str = ""
    api_ports: tuple[int, ...] = ()
    proxy_socket: str = ""
    proxy_port: int = 0
    uid_base: int = 0
    uid_count: int = 1
    home: str = "/tmp"
    wipe: tuple[str, ...] = ()
    environments: str = ""
    shared: bool = False
    limits: Limits = field(default_factory=Limits)
    isolation: Isolation | None = None


@dataclass
class _Process:
    """A process forked for a call, waiting or running."""

    pid: int
    uid: int
    home: str
    gate: socket.socket


@dataclass
class _Call:
    """A running call. `left` is what remains of its time while it is paused."""

    id: int
    process: _Process
    deadline: float
    left: float = 0.0


class Server:
    """One sandbox. `run` returns when the platform closes the control socket.

    A sandbox that takes one call at a time leaves nothing but itself after it. A shared one
    tells what belongs to a call by its user, or where calls have none, by descent.
    """

    def __init__(self, config: Config, control: socket.socket) -> None:
        self._config = config
        self._control = control
        self._lines = Lines()
        self._descriptors: list[int] = []
        # Not the same order in all sandboxes: limits count a user's processes over all of them.
        self._turn = int.from_bytes(os.urandom(4), "big") if config.shared else 0
        self._spare: _Process | None = None
        self._calls: dict[int, _Call] = {}
        self._dead: list[tuple[_Call, int]] = []
        self._relay: Relay | None = None
        self._oom_kills = cleanup.oom_kills()
        self._wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Serve calls."""
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
            self._end_dead()
            if self._control.fileno() in ready and not self._receive():
                break
            now = time.monotonic()
            for call in [one for one in self._calls.values() if one.deadline <= now]:
                if call.id in self._calls:  # else it ended while another was cleared away
                    self._finish(call, TIMED_OUT, 0)
        # Forgotten first, so that reaping one does not count as the end of a call to report.
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._clear(call.process)

    def _milliseconds_left(self) -> float | None:
        deadline = min((call.deadline for call in self._calls.values()), default=math.inf)
        if deadline == math.inf:
            return None
        return max(0.0, deadline - time.monotonic()) * 1000 + 1

    def _open_relay(self) -> str:
        if not self._config.api_socket:
            return self._config.api_url
        routes = [Route(self._config.api_ports, self._config.api_socket)]
        if self._config.proxy_socket:
            routes.append(Route((self._config.proxy_port,), self._config.proxy_socket))
            tunnel.install(self._config.proxy_port)
        uid = self._config.uid_base - 1 if self._config.uid_base else 0
        self._relay = Relay(routes, uid)
        self._relay.start()
        return f"http://127.0.0.1:{self._config.api_ports[0]}{self._config.api_url}"

    def _fork_spare(self) -> None:
        uid, home = self._next_user(), self._config.home
        if self._config.shared:
            home = f"{home}/call-{os.urandom(8).hex()}"
        gate, inner = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            # The parent's end must not live on in the child: its closing is the child's end.
            gate.close()
            become_call(
                inner,
                uid=uid,
                home=home,
                api_url=self._api_url,
                environments=self._config.environments,
                limits=self._config.limits,
                shared=self._config.shared,
            )
        inner.close()
        self._spare = _Process(pid, uid, home, gate)

    def _next_user(self) -> int:
        if not self._config.uid_base:
            return 0
        taken = {call.process.uid for call in self._calls.values()}
        while True:
            uid = self._config.uid_base + self._turn % self._config.uid_count
            self._turn += 1
            if uid not in taken:
                return uid

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
            case "ping":
                self._send("pong")
            case op if call := self._calls.get(message["id"]):
                self._steer(call, op)

    def _steer(self, call: _Call, op: str) -> None:
        now = time.monotonic()
        match op:
            case "kill":
                self._finish(call, KILLED, 0)
            case "pause":
                call.left, call.deadline = call.deadline - now, math.inf
            case "resume":
                call.deadline = now + call.left

    def _start(self, call_id: int, timeout: float) -> None:
        descriptors, self._descriptors = self._descriptors, []
        try:
            if self._spare is None:
                self._fork_spare()
        except OSError:
            self._send("ended", id=call_id, cause=NO_PROCESS, code=0, oom=False, clean=True)
        else:
            process, self._spare = self._spare, None
            assert process is not None
            self._calls[call_id] = _Call(call_id, process, time.monotonic() + timeout)
            # A process that died waiting shows up as ended without an answer.
            with contextlib.suppress(BrokenPipeError):
                socket.send_fds(process.gate, [b"!"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if self._config.shared:
            self._prepare()

    def _prepare(self) -> None:
        """Fork ahead for the next call."""
        if self._spare is None:
            # Without room for it now, the next call tries again.
            with contextlib.suppress(OSError):
                self._fork_spare()

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
        call = next((one for one in self._calls.values() if one.process.pid == pid), None)
        if call:
            # Later: this may be in the middle of clearing another one away.
            self._dead.append((call, status))
        elif self._spare and pid == self._spare.pid:
            self._spare.gate.close()
            self._spare = None  # the next call forks its own
        elif self._relay and pid == self._relay.pid:
            self._relay.start()

    def _end_dead(self) -> None:
        while self._dead:
            call, status = self._dead.pop()
            code = os.waitstatus_to_exitcode(status)
            if call.id not in self._calls:
                continue  # ended in another way meanwhile
            if code < 0:
                self._finish(call, SIGNALLED, -code)
            else:
                self._finish(call, EXITED, code)

    def _finish(self, call: _Call, cause: str, code: int) -> None:
        del self._calls[call.id]
        clean = self._clear(call.process)
        oom = self._ran_out_of_memory(cause, code)
        self._send("ended", id=call.id, cause=cause, code=code, oom=oom, clean=clean)
        self._prepare()

    def _ran_out_of_memory(self, cause: str, code: int) -> bool:
        """Whether the kernel killed for memory in the call that ended so."""
        kills = cleanup.oom_kills()
        oom = kills > self._oom_kills
        if self._config.shared:
            # Not the fault of one that ended otherwise.
            oom = oom and (cause, code) == (SIGNALLED, signal.SIGKILL)
        if self._calls:
            self._oom_kills += oom  # each of them may have its own
        else:
            self._oom_kills = kills
        return oom

    def _clear(self, process: _Process) -> bool:
        """Kill and wipe what the call left; False if something resists."""
        process.gate.close()
        if self._config.shared:
            return self._clear_beside_others(process)
        own_namespace = os.getpid() == 1

        def left() -> set[int]:
            seen = cleanup.processes() if own_namespace else cleanup.descendants()
            return seen - self._own()

        def kill() -> None:
            if not own_namespace:
                cleanup.kill_descendants(self._own())
            elif process.uid:
                cleanup.kill_user(process.uid)
            else:
                cleanup.kill_namespace()

        gone = cleanup.kill_until_gone(kill, left, self._reap)
        if self._relay:
            self._relay.forget_callers()
        return cleanup.wipe(self._config.wipe, process.uid) and gone

    def _own(self) -> set[int]:
        """What stays when a call goes. Killing all of a namespace starts some of it anew."""
        others = (self._relay, self._spare)
        return {os.getpid(), *(one.pid for one in others if one)}

    def _clear_beside_others(self, process: _Process) -> bool:
        uid = process.uid

        def left() -> set[int]:
            if uid:
                return cleanup.of_user(uid)
            return cleanup.descendants(
                self._own() | {call.process.pid for call in self._calls.values()}
            )

        def kill() -> None:
            if uid and os.getpid() == 1:
                cleanup.kill_user(uid)
            else:
                cleanup.kill_each(left())

        gone = cleanup.kill_until_gone(kill, left, self._reap)
        if uid:
            return cleanup.wipe_user(self._config.wipe, uid) and gone
        return cleanup.remove(process.home) and gone

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
    for name in ("wipe", "api_ports"):
        fields[name] = tuple(fields.get(name, ()))
    if fields.get("isolation"):
        fields["isolation"] = Isolation(**fields["isolation"])
    return Config(**fields)


def forget_path() -> None:
    """Hide the runner's folder from user code's imports; what is loaded stays loaded."""
    sys.path[:] = [entry for entry in sys.path if not os.path.isdir(os.path.join(entry, "runner"))]
