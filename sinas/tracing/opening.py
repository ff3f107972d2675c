"""The tracer the settings ask for."""

from sinas.settings import TelemetrySettings
from sinas.tracing.spans import NO_TRACER, Tracer


def open_tracer(settings: TelemetrySettings) -> Tracer:
    """A tracer for this process; `aclose` it. Starts a thread where tracing is on."""
    if not settings.enabled:
        return NO_TRACER
    # The SDK takes a fifth of a second and 8 MB, which only who traces shall pay.
    from sinas.tracing.otel import OtelTracer  # noqa: PLC0415

    return OtelTracer(settings)
