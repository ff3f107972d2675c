"""An endpoint for traces, and a context that sends to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.client import listening
from tests.fixtures.configuration import changed, free_port
from tests.fixtures.state import in_own_task
from tests.support.otlp_receiver import OtlpReceiver

if TYPE_CHECKING:
    from sinas.context import AppContext
    from sinas.worker import Kind, RunningWorker


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Tracing:
    """`async with tracing(capture_content=True) as context:`; all has arrived afterwards."""

    context: AppContext
    receiver: OtlpReceiver

    @asynccontextmanager
    async def __call__(self, **telemetry: Any) -> AsyncIterator[AppContext]:
        from sinas.llm.client import LlmClient
        from sinas.tracing.opening import open_tracer

        values = {"enabled": True, "exporter_endpoint": self.receiver.url, **telemetry}
        core = {"port": free_port()}
        settings = changed(self.context.settings, telemetry=values, core=core)
        tracer = open_tracer(settings.telemetry)
        llm = LlmClient(tracer)
        try:
            yield replace(self.context, settings=settings, tracer=tracer, llm=llm)
        finally:
            await llm.aclose()
            await tracer.aclose()

    @asynccontextmanager
    async def platform(self, *kinds: Kind, **telemetry: Any) -> AsyncIterator[Platform]:
        """The API behind a real server, and a worker of each kind."""
        from sinas.app import create_app
        from sinas.worker import open_worker

        async with self(**telemetry) as context, AsyncExitStack() as stack:
            app = create_app(context.settings, context)
            await stack.enter_async_context(in_own_task(app.router.lifespan_context(app)))
            serving = listening(app, context.settings.core.port)
            url = await stack.enter_async_context(in_own_task(serving))
            workers = [
                await stack.enter_async_context(in_own_task(open_worker(kind, context)))
                for kind in kinds
            ]
            yield Platform(context, url, workers)


@dataclass(frozen=True, slots=True)
class Platform:
    """What is traced."""

    context: AppContext
    url: str
    workers: Sequence[RunningWorker]


@pytest.fixture
def tracing(context: AppContext, receiver: OtlpReceiver) -> Tracing:
    return Tracing(context, receiver)
