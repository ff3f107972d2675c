"""Processes that die in the middle of an operation on files: `python -m tests.resources.files.dying`.

One process imports everything and forks another for each line it reads. That one counts how often
the operation is resumed after an await, and before the step it is to die at it ends as `kill -9`
would end it. A line is the JSON of an `Order`; the answer is its exit code.
"""

import asyncio
import gc
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import uvloop

from sinas.context import AppContext, open_context
from sinas.models import FileVisibility
from sinas.resources.files.blobs import drafting, sweep
from sinas.resources.files.service import FileService
from sinas.resources.files.uploads import FileUploads, NewContent
from tests.fixtures.configuration import make_settings

DIED = 9
PIECE = b"0123456789abcdef" * 20_000
PIECES = 3


@dataclass(frozen=True, slots=True)
class Order:
    """What to do as whom, and the step before which to die; 0 for none."""

    database_url: str
    redis_url: str
    data_dir: str
    user_id: str
    what: Literal["create", "update", "refused", "delete", "sweep"]
    die_at: int


class Steps:
    """Awaits an operation, step by step."""

    def __init__(self, operation: Awaitable[None], die_at: int) -> None:
        self._operation = operation
        self._die_at = die_at
        self._count = 0

    def __await__(self) -> Generator[Any, Any, None]:
        inner = self._operation.__await__()
        result: Any = None
        error: BaseException | None = None
        while True:
            self._count += 1
            if self._count == self._die_at:
                os._exit(DIED)
            try:
                waited_for = inner.send(result) if error is None else inner.throw(error)
            except StopIteration:
                return
            result, error = None, None
            try:
                result = yield waited_for
            except BaseException as raised:  # noqa: BLE001 - goes on inside
                error = raised


async def _work(order: Order) -> None:
    settings = make_settings(
        database_url=order.database_url,
        redis_url=order.redis_url,
        data_dir=Path(order.data_dir),
    )
    async with open_context(settings) as context:
        principal = await context.authenticator.by_user(UUID(order.user_id))
        match order.what:
            case "sweep":
                operation = sweep(context)
            case "delete":
                operation = FileService(context, principal).delete("docs", "notes", "old.bin")
            case _:
                operation = _upload(context, FileUploads(context, principal), order.what)
        await Steps(operation, order.die_at)
        os._exit(0)


async def _upload(context: AppContext, uploads: FileUploads, what: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            await asyncio.sleep(0)
            yield PIECE

    place = await uploads.open("docs", "notes")
    async with drafting(context) as draft:
        written = await uploads.write(draft, place, pieces())
        if what == "refused":
            return  # as when fields that came after it are wrong
        name = "new.bin" if what == "create" else "old.bin"
        new = NewContent(
            name=name,
            content_type="a/b",
            visibility=FileVisibility.SHARED,
            update_existing=True,
        )
        await uploads.store(draft, place, written, new)


def _fork(order: Order) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            uvloop.run(_work(order))
        except BaseException:  # noqa: BLE001 - the fork goes no further
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.freeze()
    for line in sys.stdin:
        answers.write(f"{_fork(Order(**json.loads(line)))}\n")
        answers.flush()


if __name__ == "__main__":
    main()
