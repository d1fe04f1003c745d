"""Traces from an API call to the hypervisor: spans of OpenTelemetry, joined across processes by W3C ``traceparent``.

Rules:

1. Nothing is traced, and nothing of it costs anything, unless a tracer provider was set before the process was put together:
   by ``federation.bootstrap.tracing``, or by whoever embeds us.
2. What joins the spans of an operation is one text that is stored with it and travels in the header ``federation-trace``
   of its messages.  Nothing decides by it; one that cannot be read begins a trace of its own.
3. Attributes are ids and declared names, never arguments, results or messages, which may hold secrets.
4. What waits to be ended is bounded; what falls out of the bound is ended as it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Command, Question

_W3C = TraceContextTextMapPropagator()
_HEADER = "traceparent"
_MOST_OPEN = 10_000


def is_on() -> bool:
    """Whether somebody has set a tracer provider."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _tracer() -> trace.Tracer:
    return trace.get_tracer("federation")


def _context_of(traceparent: str | None) -> Context | None:
    """The context that a span is a child of; None leaves that to the thread's own."""
    return _W3C.extract({_HEADER: traceparent}, Context()) if traceparent else None


def current() -> str | None:
    """The ``traceparent`` of this thread's span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_HEADER)


def _told(command: Command) -> dict[str, str | int]:
    return {
        "federation.operation": command.operation,
        "federation.name": command.name,
        "federation.cluster": command.cluster,
        "federation.partition": command.partition,
        "federation.round": command.round,
    }


@contextmanager
def request_span(method: str, route: str, traceparent: str | None) -> Iterator[Span]:
    """One request of the REST API; the caller sets ``http.response.status_code``."""
    told = {"http.request.method": method, "http.route": route}
    with _tracer().start_as_current_span(
        f"{method} {route}", _context_of(traceparent), SpanKind.SERVER, told, record_exception=False
    ) as span:
        yield span


class _Open:
    """Spans that end in another call, maybe on another thread, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: OrderedDict[str, Span] = OrderedDict()

    def put(self, key: str, span: Span) -> None:
        """Keep until it is taken; the oldest are ended above the bound, and so is one of the same key."""
        with self._lock:
            ended = [self._spans.pop(key)] if key in self._spans else []
            self._spans[key] = span
            if len(self._spans) > _MOST_OPEN:
                ended.append(self._spans.popitem(last=False)[1])
        for each in ended:
            each.end()

    def take(self, key: str) -> Span | None:
        """The span of a key, to be ended by the caller."""
        with self._lock:
            return self._spans.pop(key, None)

    def __contains__(self, key: str) -> bool:
        """Whether it is open."""
        return key in self._spans


class ManagerTracing:
    """The spans of a manager: ``submit`` and ``publish`` (until the broker's confirm)."""

    @contextmanager
    def submitting(self, name: str, traceparent: str | None) -> Iterator[str | None]:
        """Accept an operation; what is yielded is stored with it."""
        with _tracer().start_as_current_span(
            f"submit {name}", _context_of(traceparent), attributes={"federation.name": name}, record_exception=False
        ):
            yield current()

    def publishing(self, command: Command) -> Span:
        """A copy is handed to the broker; the caller ends it by ``published``."""
        context = _context_of(command.trace) or Context()
        return _tracer().start_span(f"publish {command.name}", context, SpanKind.PRODUCER, _told(command))

    def published(self, span: Span, *, certain: bool) -> None:
        """The broker has answered, or has not in time."""
        if not certain:
            span.set_status(Status(StatusCode.ERROR, "not confirmed"))
        span.end()


class CallTrace:
    """The span of one driver call, and of the change on the hypervisor that is under way in it.

    A change begins when a guard lets it through and ends with the driver's next word (guard, progress, sleep) or its end:
    the worker does not see the hypervisor's client, and needs nothing of a driver for this.
    """

    def __init__(self, command: Command) -> None:
        self._name = command.name
        self._change: Span | None = None

    def changing(self) -> None:
        """A guard has let a change through."""
        self.told()
        self._change = _tracer().start_span(f"hypervisor {self._name}", kind=SpanKind.CLIENT)

    def told(self) -> None:
        """The driver speaks again."""
        if self._change is not None:
            self._change.end()
            self._change = None


class WorkerTracing:
    """The spans of a worker: ``receive`` and ``question`` (until its answer), ``driver`` and ``hypervisor``."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._parents: OrderedDict[str, str] = OrderedDict()
        self._questions = _Open()

    def delivered(self, command: Command) -> None:
        """A copy arrived; called by the thread that decides, as the next two."""
        if command.trace is None:
            return
        self._parents[command.operation] = command.trace
        self._parents.move_to_end(command.operation)
        if len(self._parents) > _MOST_OPEN:
            self._parents.popitem(last=False)

    def asked(self, question: Question) -> None:
        """A question was sent; the same one again is the same span."""
        if question.id in self._questions:
            return
        kind = "question" if question.renews is None else "renewal"
        told: dict[str, str | int] = {
            "federation.operation": question.operation,
            "federation.worker": self._worker,
            "federation.cluster": question.cluster,
            "federation.partition": question.partition,
            "federation.delivery_count": question.delivery_count,
        }
        context = _context_of(self._parents.get(question.operation)) or Context()
        self._questions.put(question.id, _tracer().start_span(kind, context, SpanKind.CLIENT, told))

    def answered(self, answer: Answer) -> None:
        """The manager has answered."""
        span = self._questions.take(answer.question)
        if span is not None:
            span.set_attribute("federation.verdict", answer.verdict)
            span.end()

    @contextmanager
    def calling(self, command: Command, attempt: int) -> Iterator[CallTrace]:
        """A driver runs, in this thread; spans that it makes itself are children."""
        told = {**_told(command), "federation.worker": self._worker, "federation.attempt": attempt}
        context = _context_of(command.trace) or Context()
        with _tracer().start_as_current_span(
            f"driver {command.name}", context, SpanKind.CONSUMER, told, record_exception=False
        ):
            call = CallTrace(command)
            try:
                yield call
            finally:
                call.told()

    def ended(self, outcome: Outcome | None) -> None:
        """What came of it, within ``calling``; None: revoked."""
        span = trace.get_current_span()
        span.set_attribute("federation.end", "revoked" if outcome is None else outcome.kind.value)
        if outcome is not None and outcome.kind is not OutcomeKind.SUCCEEDED:
            span.set_status(Status(StatusCode.ERROR, outcome.code or ""))
