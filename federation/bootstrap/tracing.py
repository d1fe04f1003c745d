"""Sending traces: OpenTelemetry's SDK and its OTLP exporter, which only the extra ``tracing`` installs."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from federation.bootstrap.installation import version
from federation.observe.tracing import is_on

_EXPORT_SECONDS = 5
_LAST_MILLISECONDS = 3000


class TracingError(Exception):
    """Traces cannot be sent; the message says what has to change."""


def start_tracing(service: str, instance: str, endpoint: str, ratio: float) -> Callable[[], None]:
    """Send the spans of this process to an OTLP/HTTP receiver, ``ratio`` of the traces that begin here.

    What is returned sends what is left, for three seconds at most, and ends it.  Spans wait in a bounded queue and are
    dropped above it: nothing waits for the receiver.  Raises TracingError.
    """
    if urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).hostname:
        message = f"the endpoint of the group tracing is {endpoint!r}, expected http(s)://HOST:PORT"
        raise TracingError(message)
    try:
        from opentelemetry import trace  # noqa: PLC0415 (only where traces are wanted)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError as error:
        message = f"traces need what the extra `tracing` installs: pip install 'driver-federation[tracing]' ({error})"
        raise TracingError(message) from error
    if is_on():
        raise TracingError("this process has a tracer provider already; leave the endpoint of the group tracing out")
    resource = Resource.create({"service.name": service, "service.instance.id": instance, "service.version": version()})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        provider.force_flush(_LAST_MILLISECONDS)
        provider.shutdown()

    return stop
