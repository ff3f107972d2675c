"""An endpoint for traces, and a context that sends to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.configuration import changed
from tests.support.otlp_receiver import OtlpReceiver

if TYPE_CHECKING:
    from sinas.context import AppContext


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
        settings = changed(self.context.settings, telemetry=values)
        tracer = open_tracer(settings.telemetry)
        llm = LlmClient(tracer)
        try:
            yield replace(self.context, settings=settings, tracer=tracer, llm=llm)
        finally:
            await llm.aclose()
            await tracer.aclose()


@pytest.fixture
def tracing(context: AppContext, receiver: OtlpReceiver) -> Tracing:
    return Tracing(context, receiver)
