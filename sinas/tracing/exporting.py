"""Where recorded spans go: OTLP over HTTP, and a log that says so when they do not get there."""

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import override

from sinas.settings import TelemetrySettings

log = structlog.get_logger(__name__)

_PATH: Final = "/v1/traces"


def exporter_to(settings: TelemetrySettings) -> SpanExporter:
    """What sends a batch, trying again for ten seconds at most. OTEL_EXPORTER_OTLP_* tune it."""
    # A line for every dropped span would be the flood that a full queue needs least.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_reason)
    exporter = OTLPSpanExporter(
        endpoint=traces_url(settings.exporter_endpoint),
        headers=settings.headers,
        meter_provider=NoOpMeterProvider(),
    )
    return _Told(exporter, urlsplit(settings.exporter_endpoint).hostname or "")


def traces_url(endpoint: str) -> str:
    """The URL for traces: the endpoint's own, or its base with `/v1/traces`."""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_PATH) else path + _PATH))


class _Reason(logging.Filter):
    """Keeps what the exporter says about a failure, which it says for every batch."""

    last = ""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record.getMessage()
        return False


_reason = _Reason()


class _Told(SpanExporter):
    """Logs once when spans cannot be delivered, and once when they can be again."""

    def __init__(self, exporter: SpanExporter, host: str) -> None:
        self._exporter = exporter
        self._host = host
        self._lost = 0

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("tracing.not_delivered", host=self._host, reason=_reason.last)
            self._lost += len(spans)
        elif self._lost:
            log.warning("tracing.delivered_again", host=self._host, lost_spans=self._lost)
            self._lost = 0
        return result

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()

    @override
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
