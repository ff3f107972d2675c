"""The supervisor's end of the nursery: processes it did not fork itself, but owns."""

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping

from sinas.embedded.nursery import LARGEST_MESSAGE, PADDING, Order
from sinas.embedded.processes import ChildSpec, Process, after_fork, kill_group


class ForkedProcess:
    """A child of the nursery."""

    def __init__(self, pid: int, stdin: int, stdout: asyncio.StreamReader) -> None:
        """Take over the writing end of its input and the reading end of its output."""
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = stdout
        self._stdin = stdin
        self._ended = asyncio.Event()

    def tell(self, line: bytes) -> None:
        """Write to its standard input; nothing happens when it no longer reads."""
        try:
            os.write(self._stdin, line)
        except OSError:
            return  # it has ended; whoever waits for it learns that from `wait`

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, code: int) -> None:
        """Note that it has ended."""
        if self.returncode is None:
            self.returncode = code
            os.close(self._stdin)
            self._ended.set()


class Nursery:
    """Starts the nursery process when it is first needed, and again after it died."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """The nursery itself runs with `env`; each child has its own."""
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._children: dict[int, ForkedProcess] = {}
        # Ends of children that came before the answer that names them was worked on.
        self._early: dict[int, int] = {}
        self._births: dict[int, asyncio.Future[int]] = {}
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()

    async def launch(self, spec: ChildSpec) -> Process:
        """Fork a child that runs `sinas` with the arguments of `spec` (after `-m sinas`).

        Raises:
            OSError: The nursery died over it.
        """
        orders = await self.start()
        number = next(self._numbers)
        birth: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._births[number] = birth
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        order: Order = {
            "id": number,
            "argv": list(spec.argv[3:]),
            "env": dict(spec.env),
            "stop_signal": int(spec.stop_signal),
        }
        try:
            descriptors = [stdin_read, stdout_write, stdout_write]
            socket.send_fds(orders, [json.dumps(order).encode()], descriptors)
            pid = await birth
        except BaseException:
            os.close(stdin_write)
            os.close(stdout_read)
            raise
        finally:
            os.close(stdin_read)
            os.close(stdout_write)
        child = ForkedProcess(pid, stdin_write, await _reader(stdout_read))
        self._children[pid] = child
        if pid in self._early:
            child.end(self._early.pop(pid))
        return child

    async def start(self) -> socket.socket:
        """Start it where it does not run; returns before it has imported anything."""
        async with self._starting:
            if self._socket is None:
                self._socket = await self._start()
            return self._socket

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sinas", "nursery", str(theirs.fileno()), PADDING),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env=dict(self._env),
                process_group=0,
                preexec_fn=after_fork(signal.SIGKILL, os.getpid()),
            )
        asyncio.get_running_loop().add_reader(ours, self._on_message, ours)
        return ours

    async def stop(self) -> None:
        """End it. Its children should have ended before."""
        if self._socket is not None:
            self._forget(self._socket)
        if self._process is not None:
            if self._process.returncode is None:
                kill_group(self._process.pid)
            await self._process.wait()

    def _on_message(self, orders: socket.socket) -> None:
        try:
            message = orders.recv(LARGEST_MESSAGE)
        except OSError:
            message = b""
        if not message:
            self._forget(orders)
            return
        said = json.loads(message)
        pid = int(said["pid"])
        if "id" in said:
            birth = self._births.pop(int(said["id"]))
            if birth.done():  # nobody waits for it any more
                kill_group(pid)
            else:
                birth.set_result(pid)
        elif pid in self._children:
            self._children.pop(pid).end(int(said["code"]))
        else:
            self._early[pid] = int(said["code"])

    def _forget(self, orders: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(orders)
        orders.close()
        if self._socket is orders:
            self._socket = None
        # The kernel has told its children to end; nobody would learn whether they did.
        for pid, child in self._children.items():
            kill_group(pid)
            child.end(-signal.SIGKILL)
        self._children.clear()
        for birth in self._births.values():
            if not birth.done():
                birth.set_exception(BrokenPipeError("the process that forks the others died"))
        self._births.clear()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader
