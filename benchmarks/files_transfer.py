"""F1: 100 MB up and down, and what the API process needs for it."""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import psutil

from benchmarks.harness.row import Goal, Round, Row, main
from benchmarks.harness.stack import Stack

BYTES = 100 * 1024 * 1024
CLIENTS = 8
FILES = "/files/bench/transfer"
_PIECE = hashlib.shake_256(b"files").digest(256 * 1024)
_MIB = 1024 * 1024


async def form() -> AsyncIterator[bytes]:
    head = 'Content-Disposition: form-data; name="file"; filename="large.bin"'
    yield f"--B\r\n{head}\r\n\r\n".encode()
    for _ in range(BYTES // len(_PIECE)):
        yield _PIECE
    yield b'\r\n--B\r\nContent-Disposition: form-data; name="update_existing"\r\n\r\ntrue'
    yield b"\r\n--B--\r\n"


async def as_json() -> AsyncIterator[bytes]:
    yield b'{"name":"large.bin","content_type":"a/b","update_existing":true,"content_base64":"'
    # Of whole groups, so that the pieces join to one text.
    third = _PIECE[: len(_PIECE) // 3 * 3]
    text = base64.b64encode(third)
    for _ in range(BYTES // len(third)):
        yield text
    yield b'"}'


async def upload(client: httpx.AsyncClient, body: AsyncIterator[bytes], kind: str) -> None:
    answer = await client.post(FILES, content=body, headers={"content-type": kind})
    answer.raise_for_status()


async def download(client: httpx.AsyncClient, path: str) -> None:
    async with client.stream("GET", f"{FILES}/large.bin{path}") as answer:
        answer.raise_for_status()
        got = 0
        async for piece in answer.aiter_raw():
            got += len(piece)
    if got < BYTES * 0.99:
        raise RuntimeError(f"{got} bytes came")


class Memory:
    """The most a process has had, beyond what it had at first."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = process.memory_info().rss
        self.most = 0.0

    async def watch(self) -> None:
        while True:
            now = self._process.memory_info().rss
            self.most = max(self.most, (now - self._before) / _MIB)
            await asyncio.sleep(0.02)


async def timed(
    figures: dict[str, float], name: str, memory: Memory, work: Callable[[], Awaitable[None]]
) -> None:
    watching = asyncio.ensure_future(memory.watch())
    began = time.perf_counter()
    try:
        await work()
    finally:
        watching.cancel()
    figures[name] = BYTES / _MIB / (time.perf_counter() - began)


async def measure(stack: Stack) -> Round:
    server = stack.server
    found = await server.call("GET", "/api/v1/collections?namespace=bench")
    if any(one["name"] == "transfer" for one in found):
        await server.call("DELETE", "/api/v1/collections/bench/transfer")
    place = {"namespace": "bench", "name": "transfer", "max_total_size_gb": 100}
    await server.call("POST", "/api/v1/collections", place)
    process = stack.processes.part("api")
    figures = {"api RSS MB": process.memory_info().rss / _MIB}
    memory = Memory(process)
    async with httpx.AsyncClient(
        base_url=f"http://{server.host}:{server.port}",
        headers={"X-API-Key": server.key},
        timeout=120,
        trust_env=False,
    ) as client:
        boundary = "multipart/form-data; boundary=B"
        await timed(figures, "form up MB/s", memory, lambda: upload(client, form(), boundary))
        await timed(
            figures, "json up MB/s", memory, lambda: upload(client, as_json(), "application/json")
        )
        await timed(figures, "raw down MB/s", memory, lambda: download(client, "/content"))
        await timed(figures, "json down MB/s", memory, lambda: download(client, ""))
        figures["more RSS MB"] = memory.most

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS // 2):
                    group.create_task(upload(client, form(), boundary))
                    group.create_task(download(client, "/content"))

        await timed(figures, "each of 8 MB/s", memory, together)
        figures["more RSS MB, 8 at once"] = memory.most
    return Round(figures)


ROW = Row(
    id="F1",
    what="upload and download of 100 MB",
    how="One client over HTTP, httpx, then four uploads and four downloads at once; local "
    "storage, with fsync. `more RSS` is the most that the API process had beyond what it began with.",
    goals=(
        Goal("more RSS MB", "<=", 40, "MB"),
        Goal("more RSS MB, 8 at once", "<=", 80, "MB"),
    ),
    measure=measure,
)

if __name__ == "__main__":
    main(ROW)
