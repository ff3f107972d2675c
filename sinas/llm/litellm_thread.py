"""litellm on a thread with an event loop of its own.

It costs seconds and 190 MB to import and makes blocking HTTP calls on its event loop (Ollama's
/api/show, after every answer), so it gets a thread, started by the first request; what it
answers crosses over item by item.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from sinas.settings import prefer_local_model_prices

T = TypeVar("T")


class LitellmThread:
    """A daemon thread that imports litellm and then runs an event loop; one per process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._litellm: Any = None
        self._failure: ImportError | None = None
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="litellm", daemon=True)
        self._thread.start()

    async def carry(
        self, make: Callable[[Any], AsyncGenerator[T, None]], silence: float
    ) -> AsyncGenerator[T, None]:
        """What the generator that `make` makes of litellm yields, over there; and raises.

        Closing this one cancels that one, which closes the connection to the provider.

        Raises:
            TimeoutError: Nothing came for `silence` seconds.
            ImportError: litellm is not installed or broken.
        """
        await self.ready()
        queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue()
        here = asyncio.get_running_loop()

        def put(item: tuple[T] | Exception | None) -> None:
            here.call_soon_threadsafe(queue.put_nowait, item)

        work = _pump(make, self._litellm, put)
        task = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while True:
                async with asyncio.timeout(silence):
                    item = await queue.get()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item[0]
        finally:
            task.cancel()

    async def ready(self) -> None:
        """Wait until litellm is imported, without holding the caller's loop up.

        Raises:
            ImportError: litellm is not installed or broken.
        """
        if not self._is_ready.is_set():
            await asyncio.to_thread(self._is_ready.wait)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End what runs, close litellm's connections and the thread. Blocks."""
        self._is_ready.wait()
        if self._failure is None:
            asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._litellm = _import_litellm()
        except ImportError as error:
            self._failure = error
            self._loop.close()
            return
        finally:
            self._is_ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _wind_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others) if others else None
        await self._litellm.close_litellm_async_clients()


def _import_litellm() -> Any:
    prefer_local_model_prices()
    # Seconds of import that only some installations need.
    import litellm  # noqa: PLC0415

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"litellm\b")
    # Said when its models are built, which it leaves to their first use.
    warnings.filterwarnings("ignore", "Item '.*' on TypedDict", category=UserWarning)
    litellm.types.utils.Delta()
    litellm.types.utils.Message()
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        # It prints requests and tracebacks to stderr; what matters reaches us as exceptions.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


async def _pump(
    make: Callable[[Any], AsyncGenerator[T, None]],
    litellm: Any,
    put: Callable[[tuple[T] | Exception | None], None],
) -> None:
    """Run a generator on litellm's loop and put everything that comes of it."""
    try:
        async with aclosing(make(litellm)) as items:
            async for item in items:
                put((item,))
        put(None)
    except Exception as error:  # noqa: BLE001 - litellm raises anything; it is raised over there
        put(error)
