"""The tracer that records. Imported only where tracing is on: it brings the SDK along."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from sinas import __version__
from sinas.errors import SinasError
from sinas.kit.json_text import storable
from sinas.settings import TelemetrySettings
from sinas.tracing import names
from sinas.tracing.content import MAX_CHARS
from sinas.tracing.exporting import exporter_to
from sinas.tracing.spans import NOBODY, About, Kind, Span, Tracer, Value, current_span, enter, leave
from sinas.tracing.vendors import Vendor, about_attributes, content_names, kind_attributes

# A process that stops has few seconds before `sinas up` kills it, the API two and a half.
_FLUSH_SECONDS: Final = 1.25
_ABORT_SECONDS: Final = 0.25
_SPAN_KINDS: Final = {
    Kind.REQUEST: SpanKind.SERVER,
    Kind.TURN: SpanKind.CONSUMER,
    Kind.FUNCTION: SpanKind.CONSUMER,
    Kind.MODEL: SpanKind.CLIENT,
}
_TRACEPARENT: Final = TraceContextTextMapPropagator()


class OtelSpan(Span):
    """A span that is recorded, or at least passes its caller's decision not to record on."""

    def __init__(
        self, kind: Kind, span: trace.Span, about: About, vendor: Vendor, *, keeps_content: bool
    ) -> None:
        self._kind = kind
        self._span = span
        self._vendor = vendor
        self._tokens: list[Token[Span]] = []
        self.about = about
        self.is_recording = span.is_recording()
        self.keeps_content = keeps_content and self.is_recording
        context = span.get_span_context()
        if context.is_valid:
            self.traceparent = (
                f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
            )

    @property
    def context(self) -> Context:
        """What makes another span its child."""
        return trace.set_span_in_context(self._span, Context())

    @override
    def name(self, name: str) -> None:
        self._span.update_name(name)

    @override
    def set(self, attributes: Mapping[str, Value | None]) -> None:
        if self.is_recording:
            self._span.set_attributes({k: v for k, v in attributes.items() if v is not None})

    @override
    def belongs_to(self, about: About) -> None:
        self.about = about.under(self.about)
        self.set(about_attributes(self._vendor, self.about))

    @override
    def content(self, *, given: str | None = None, answered: str | None = None) -> None:
        if self.keeps_content:
            where = content_names(self._vendor, self._kind)
            self.set({where.given: _kept(given), where.answered: _kept(answered)})

    @override
    def fail(self, error_type: str, message: str | None = None) -> None:
        self.set({names.ERROR_TYPE: error_type})
        self._span.set_status(
            Status(StatusCode.ERROR, _kept(message) if self.keeps_content else None)
        )

    @override
    def end(self) -> None:
        self._span.end()

    @override
    def __enter__(self) -> Self:
        self._tokens.append(enter(self))
        return self

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self._tokens.pop())
        match error:
            case None:
                pass
            case asyncio.CancelledError() | GeneratorExit():
                self.set({names.CANCELLED: True})
            case SinasError():
                self.fail(error.code, error.message)
            case _:
                # Its text may hold anything: rows, prompts, keys.
                self.fail(type(error).__qualname__)
        self.end()


def _kept(text: str | None) -> str | None:
    """As much as is kept; one text that is not valid Unicode would cost a whole batch."""
    return None if text is None else storable(text[:MAX_CHARS])


class OtelTracer(Tracer):
    """Sends spans to `settings.exporter_endpoint`, in batches, from a thread of its own.

    A full queue drops spans: work never waits for it. OTEL_BSP_* tune the queue.
    """

    is_on = True

    def __init__(self, settings: TelemetrySettings) -> None:
        """Start the exporting thread; not before a fork, which would lose it."""
        self._vendor = settings.vendor
        self._keeps_content = settings.capture_content
        # Not the global one, which would switch on whatever else looks for it.
        self._provider = TracerProvider(
            resource=Resource.create(
                {SERVICE_NAME: settings.service_name, SERVICE_VERSION: __version__}
            ),
            shutdown_on_exit=False,
        )
        self._exporter = exporter_to(settings)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, meter_provider=NoOpMeterProvider())
        )
        self._tracer = self._provider.get_tracer("sinas", __version__)

    @override
    def span(
        self, kind: Kind, name: str, *, parent: str | None = None, about: About = NOBODY
    ) -> Span:
        above = current_span()
        if parent is not None:
            context = _TRACEPARENT.extract({"traceparent": parent}, Context())
        elif isinstance(above, OtelSpan):
            context = above.context
        else:
            context = Context()
        about = about.under(above.about)
        attributes = kind_attributes(self._vendor, kind) | about_attributes(self._vendor, about)
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_SPAN_KINDS.get(kind, SpanKind.INTERNAL),
            attributes={key: value for key, value in attributes.items() if value is not None},
            record_exception=False,
            set_status_on_exception=False,
        )
        return OtelSpan(kind, span, about, self._vendor, keeps_content=self._keeps_content)

    @override
    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waited so long, the loop is closed
                loop.call_soon_threadsafe(done.set)

        # A daemon, so that an endpoint that does not answer cannot keep the process.
        threading.Thread(target=close, name="tracing.close", daemon=True).start()
        if not await _within(_FLUSH_SECONDS, done):
            self._exporter.shutdown()  # it gives the batch up it is trying to send
            await _within(_ABORT_SECONDS, done)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
