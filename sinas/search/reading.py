"""Reads documents in child processes, one each."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from sinas.search.documents import Document, DocumentError
from sinas.search.formats import Format

_MODULE = "sinas.search.child"
# A character is six bytes of JSON at most, a block some thirty.
_BYTES_A_CHARACTER = 12
# Of the wall, for a process that may have to wait for its processor.
_PATIENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingLimits:
    """What reading one document may take.

    Attributes:
        seconds: Of processor time; four times as many may pass.
    """

    max_chars: int
    seconds: int
    memory_bytes: int


async def read(kind: Format, data: AsyncIterator[bytes], limits: ReadingLimits) -> Document:
    """The document in `data`.

    Raises:
        DocumentError: It cannot be read, or not within the limits.
        OSError: The process cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", _MODULE, kind.value,
        str(limits.max_chars), str(limits.seconds), str(limits.memory_bytes),
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={"LC_ALL": "C.UTF-8"}, cwd="/",
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(limits.seconds * _PATIENCE):
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(process, data))
                answer = group.create_task(
                    _answer(process, limits.max_chars * _BYTES_A_CHARACTER + 4096)
                )
            status = await process.wait()
    except TimeoutError as error:
        raise DocumentError("Reading it takes too long.") from error
    except ExceptionGroup as group:
        raise group.exceptions[0] from group  # what the source of the bytes raised
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())  # no zombie stays, whatever ends this
    return _document(answer.result(), status)


async def _feed(process: Process, data: AsyncIterator[bytes]) -> None:
    stdin = process.stdin
    assert stdin is not None
    # A process that has ended, or does not want more, says why on its own way out.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for piece in data:
            stdin.write(piece)
            await stdin.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.close()
        await stdin.wait_closed()


async def _answer(process: Process, most: int) -> bytes:
    stdout = process.stdout
    assert stdout is not None
    answer = bytearray()
    while piece := await stdout.read(65_536):
        answer += piece
        if len(answer) > most:
            process.kill()
            return b""
    return bytes(answer)


def _document(answer: bytes, status: int) -> Document:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise DocumentError("Reading it takes too long.")
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise DocumentError("Reading it takes more memory than is allowed.") from error
    if "error" in value:
        raise DocumentError(value["error"])
    return Document.from_json(value)
