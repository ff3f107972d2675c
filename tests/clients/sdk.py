"""The SDK as tests use it: calls that are made in the driver's process."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.clients.installing import install

_DRIVER = Path(__file__).with_name("driver.py")
# Of one answer line; a chat with all its messages is one.
_MOST_BYTES = 2**24


class SdkError(Exception):
    """What the SDK raised: the name of its class, and what it holds."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["message"])
        self.type: str = told["type"]
        self.status: int | None = told["status"]
        self.response: Any = told["response"]


class DriverProcess:
    """The driver, and what it is doing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(answer)
        for waiting in self._waiting.values():
            waiting.set_exception(RuntimeError("the driver has ended"))

    async def do(self, what: str, **arguments: Any) -> Any:
        """Let it do one thing.

        Raises:
            SdkError: The SDK raised an error of its own.
        """
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "do": what, "with": arguments}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        found = await answer
        if "error" in found:
            raise SdkError(found["error"])
        assert "fault" not in found, found.get("fault")
        return found["result"]


@asynccontextmanager
async def driver_process() -> AsyncIterator[DriverProcess]:
    """A driver that ends with the block."""
    folder = await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # No packages but those of the folder, not even ours.
        *("-S", "-P", str(_DRIVER)),
        env={**os.environ, "PYTHONPATH": str(folder)},  # noqa: TID251 - of a foreign program
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MOST_BYTES,
    )
    driver = DriverProcess(process)
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(driver.listen())
        try:
            yield driver
        finally:
            listening.cancel()
            process.kill()
            await process.wait()


class Sdk:
    """One `SinasClient`."""

    def __init__(self, driver: DriverProcess, number: int) -> None:
        self._driver = driver
        self.number = number

    async def __call__(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """`await sdk("chats.get", chat_id)`; the answer is checked against the declared type."""
        return await self._driver.do(
            "call", client=self.number, method=method, args=args, kwargs=kwargs
        )

    async def each(self, method: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """What a method that iterates yields, each when it comes."""
        iterator = await self(method, *args, **kwargs)
        while item := await self._driver.do("next", iterator=iterator):
            yield item[0]

    async def all(self, method: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        return [item async for item in self.each(method, *args, **kwargs)]

    async def close(self) -> None:
        await self._driver.do("close", client=self.number)
