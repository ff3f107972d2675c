"""The platform's end of one sandbox: its control socket and the call that runs in it."""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict
from typing import Any

from sinas.kit.json_types import JsonObject
from sinas.sandbox.base import Ask, Crashed, Invocation, Outcome, Raised, Returned, TimedOut
from sinas.sandbox.runner import protocol
from sinas.sandbox.wire import (
    Ended,
    Limits,
    Output,
    decode_output,
    encode_request,
    outcome_of_answer,
    outcome_of_end,
)

# How long after its deadline a call may stay unreported before its sandbox counts as lost.
_GRACE_SECONDS = 5.0
# A shared one may first have to clean up after many others.
_SHARED_GRACE_SECONDS = 30.0
_READ_BYTES = 65_536
_FLOOD_PIPE_BYTES = 1 << 20
_FLOOD_PAUSE_SECONDS = 0.01


class LinkLostError(Exception):
    """The sandbox went away or broke the protocol."""


class _Capture:
    """Reads one output pipe, keeps the first bytes and throws the rest away cheaply."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, limit: int) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._limit = limit
        self._kept = bytearray()
        self._flood: asyncio.TimerHandle | None = None
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        self._keep(data)
        if not data:
            self._loop.remove_reader(self._descriptor)
        elif len(self._kept) > self._limit:
            # A function that prints without end must not keep this loop busy: from here on its
            # output is dropped inside the kernel, a pipe's fill at a time.
            self._loop.remove_reader(self._descriptor)
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _FLOOD_PIPE_BYTES)
            self._drop()

    def _keep(self, data: bytes) -> None:
        room = self._limit + 1 - len(self._kept)
        self._kept += data[: max(0, room)]

    def _drop(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            with contextlib.suppress(BlockingIOError):
                os.splice(self._descriptor, null, _FLOOD_PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
        finally:
            os.close(null)
        self._flood = self._loop.call_later(_FLOOD_PAUSE_SECONDS, self._drop)

    def finish(self) -> str:
        """Take what is still in the pipe, close it and return the text."""
        if self._flood is not None:
            self._flood.cancel()
        else:
            self._loop.remove_reader(self._descriptor)
            while len(self._kept) <= self._limit:
                try:
                    data = os.read(self._descriptor, _READ_BYTES)
                except BlockingIOError:
                    break
                if not data:
                    break
                self._keep(data)
        os.close(self._descriptor)
        return decode_output(bytes(self._kept), self._limit)


class _Exchange:
    """The data socket of one call: sends the request, collects questions and the answer.

    Attributes:
        done: The answer; empty when what came makes no sense, None when none came.
        questions: Prompts of `input()`; one at a time, until the reply is sent.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, data: socket.socket, request: bytes, limit: int
    ) -> None:
        self._loop = loop
        self._socket = data
        self._unsent = memoryview(request)
        self._received = bytearray()
        self._limit = limit
        self._asked = False
        self.questions: asyncio.Queue[str] = asyncio.Queue()
        self.done: asyncio.Future[bytes | None] = loop.create_future()
        data.setblocking(False)
        loop.add_reader(data.fileno(), self._read)
        self._send()

    def reply(self, message: bytes) -> None:
        """Answer the question that was asked."""
        self._asked = False
        if not self.done.done():
            self._unsent = memoryview(bytes(self._unsent) + message)
            self._send()

    def _send(self) -> None:
        self._write()
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)  # the call is gone; its end is reported elsewhere
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        while not self.done.done() and len(self._received) >= protocol.HEADER.size:
            kind, size = protocol.HEADER.unpack_from(self._received)
            end = protocol.HEADER.size + size
            if size > (protocol.MAX_PROMPT_BYTES if kind == protocol.ASK else self._limit):
                self._settle(b"")  # parses as nonsense, which it is
            elif len(self._received) < end:
                break
            else:
                self._take(kind, bytes(self._received[protocol.HEADER.size : end]))
                del self._received[:end]
        if not data:
            self._settle(None)

    def _take(self, kind: int, content: bytes) -> None:
        if kind != protocol.ASK:
            self._settle(content)
        elif self._asked:
            self._settle(b"")
        else:
            self._asked = True
            self.questions.put_nowait(content.decode("utf-8", "replace"))

    def _settle(self, answer: bytes | None) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if not self.done.done():
            self.done.set_result(answer)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._settle_closed()

    def _settle_closed(self) -> None:
        if not self.done.done():
            self.done.cancel()


class Call:
    """One call in progress.

    `outcome()` answers as soon as the call's process does; `ended` completes later, when the
    sandbox has killed and wiped what the call left and may take the next one.
    """

    def __init__(self, link: "RunnerLink", call_id: int, invocation: Invocation) -> None:
        loop = asyncio.get_running_loop()
        self._link = link
        self._id = call_id
        self._timeout = invocation.timeout_seconds
        self._grace = _SHARED_GRACE_SECONDS if invocation.shared else _GRACE_SECONDS
        self._limits = link.limits
        self._started = time.monotonic()
        self._paused = 0.0
        self.ended: asyncio.Future[Ended] = loop.create_future()
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        try:
            link.send_call(
                call_id, invocation.timeout_seconds, [theirs.fileno(), out_write, err_write]
            )
        except LinkLostError:
            for descriptor in (out_read, err_read):
                os.close(descriptor)
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        self._out = _Capture(loop, out_read, self._limits.output_bytes)
        self._err = _Capture(loop, err_read, self._limits.output_bytes)
        self._exchange = _Exchange(
            loop,
            ours,
            encode_request(invocation, self._limits),
            self._limits.answer_bytes(invocation),
        )

    async def outcome(self, ask: Ask | None = None) -> Outcome:
        """Wait for the call. Cancelling this kills it, as does an error that `ask` raises."""
        answer: bytes | None = None
        lost = ""
        try:
            async with asyncio.timeout(self._timeout + self._grace) as patience:
                answer = await (self._conversation(ask, patience) if ask else self._exchange.done)
                if answer is None:
                    await asyncio.shield(self.ended)
        except TimeoutError:
            self._link.break_off("silent past the deadline of a call")
        except LinkLostError as error:
            lost = str(error)
        except BaseException:
            self._link.kill(self._id)
            self._close()
            raise
        output = self._close()
        if answer is not None:
            return outcome_of_answer(answer, output, self._limits)
        if self.ended.done() and not self.ended.cancelled() and self.ended.exception() is None:
            return outcome_of_end(self.ended.result(), self._timeout, output, self._limits)
        return _lost(lost, self._timeout, output)

    async def _conversation(self, ask: Ask, patience: asyncio.Timeout) -> bytes | None:
        """The call's answer, after replies to all it asks before."""
        try:
            async with asyncio.TaskGroup() as tasks:
                replying = tasks.create_task(self._reply(ask, patience))
                try:
                    return await self._exchange.done
                finally:
                    replying.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the only task's

    async def _reply(self, ask: Ask, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            prompt = await self._exchange.questions.get()
            asked = loop.time()
            left = (patience.when() or asked) - asked
            patience.reschedule(None)
            self._link.pause(self._id)
            try:
                reply: JsonObject = asdict(await ask(prompt))
            except TimeoutError as error:
                reply = {"late": str(error)}
            self._paused += loop.time() - asked
            self._link.resume(self._id)
            patience.reschedule(loop.time() + left)
            self._exchange.reply(protocol.frame(json.dumps(reply).encode()))

    def _close(self) -> Output:
        duration = round((time.monotonic() - self._started - self._paused) * 1000)
        self._exchange.close()
        return Output(stdout=self._out.finish(), stderr=self._err.finish(), duration_ms=duration)


def _lost(reason: str, timeout: float, output: Output) -> Outcome:
    if not reason:
        return TimedOut(
            timeout_seconds=timeout,
            stdout=output.stdout,
            stderr=output.stderr,
            duration_ms=output.duration_ms,
        )
    return Crashed(
        reason=f"The sandbox was lost during the call: {reason}.",
        stdout=output.stdout,
        stderr=output.stderr,
        duration_ms=output.duration_ms,
    )


def is_tainting(outcome: Outcome) -> bool:
    """Whether a sandbox is not used again after a call that ended this way."""
    return not isinstance(outcome, Returned | Raised)


class RunnerLink:
    """The control socket of one sandbox, from `ready` to its end.

    Attributes:
        limits: What is applied to each call.
        lost: Completes, with the reason, when the sandbox is gone.
        api_url: Base URL for calls back, as calls see it; known once ready.
    """

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._lines = protocol.Lines()
        self._count = 0
        self._calls: dict[int, Call] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._pong: asyncio.Future[None] | None = None
        self.limits = limits
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.api_url = ""
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._read)

    async def ready(self) -> None:
        """Wait until the runner takes calls.

        Raises:
            LinkLostError: It ended, or speaks another version of the protocol.
        """
        await self._ready

    def call(self, invocation: Invocation) -> Call:
        """Start a call; in a sandbox that is not shared the one before must have ended.

        Raises:
            LinkLostError: The sandbox is gone.
        """
        self._count += 1
        call = Call(self, self._count, invocation)
        self._calls[self._count] = call
        return call

    def send_call(self, call_id: int, timeout: float, descriptors: list[int]) -> None:
        """Send a `call` line with its descriptors."""
        message = protocol.line("call", id=call_id, timeout=timeout)
        self._send(message, descriptors)

    def kill(self, call_id: int) -> None:
        """Ask the warm parent to kill the call."""
        self._steer("kill", call_id)

    def pause(self, call_id: int) -> None:
        """Let the call's time limit stand still."""
        self._steer("pause", call_id)

    def resume(self, call_id: int) -> None:
        """Let the call's time limit go on."""
        self._steer("resume", call_id)

    def _steer(self, op: str, call_id: int) -> None:
        with contextlib.suppress(LinkLostError):
            self._send(protocol.line(op, id=call_id))

    async def ping(self) -> None:
        """Ask for a sign of life.

        Raises:
            LinkLostError: The sandbox is gone.
        """
        self._pong = self._loop.create_future()
        self._send(protocol.line("ping"))
        await self._pong

    def break_off(self, reason: str) -> None:
        """Close the link: the runner kills its call and ends. Repeating it does nothing."""
        if self.lost.done():
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self.lost.set_result(reason)
        waiting = [self._ready, self._pong, *(call.ended for call in self._calls.values())]
        for future in waiting:
            if future is not None and not future.done():
                future.set_exception(LinkLostError(reason))
                future.exception()  # nobody may be waiting, and that is not an error

    def _send(self, message: bytes, descriptors: list[int] | None = None) -> None:
        if self.lost.done():
            raise LinkLostError(self.lost.result())
        try:
            # All lines of all calls at once are below the socket's buffer: this never blocks.
            socket.send_fds(self._control, [message], descriptors or [])
        except OSError as error:
            self.break_off(f"its control socket failed ({error.strerror})")
            raise LinkLostError(self.lost.result()) from error

    def _read(self) -> None:
        try:
            data = self._control.recv(protocol.MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.break_off("its runner ended")
            return
        try:
            for message in self._lines.feed(data):
                self._handle(message)
        except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
            self.break_off(f"its runner broke the protocol ({error})")

    def _handle(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "ready":
                if message["v"] != protocol.VERSION:
                    raise ValueError(f"version {message['v']}, not {protocol.VERSION}")
                self.api_url = str(message["api"])
                self._ready.set_result(None)
            case "ended":
                call = self._calls.pop(int(message["id"]), None)
                if call is not None and not call.ended.done():
                    call.ended.set_result(Ended.parse(message))
            case "pong":
                if self._pong is not None and not self._pong.done():
                    self._pong.set_result(None)
