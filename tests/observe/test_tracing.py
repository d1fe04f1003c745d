"""Without a tracer provider nothing is traced; with one, what is open is bounded.  Whole traces: tests/acceptance/test_traces.py."""

import sys

import pytest
from manager.world import World
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan

from federation.bootstrap.tracing import TracingError, start_tracing
from federation.observe import tracing
from federation.store import open_store


class Span(NonRecordingSpan):
    ended = 0

    def __init__(self):
        super().__init__(INVALID_SPAN.get_span_context())

    def end(self, end_time=None):
        self.ended += 1


def test_a_process_without_a_provider_traces_nothing(tmp_path):
    assert not tracing.is_on()
    assert tracing.current() is None
    store = open_store(f"sqlite:///{tmp_path / 'manager.sqlite'}")
    assert World(store).manager.submitting.tracing is None
    store.close()


def test_spans_that_nobody_ends_are_ended_above_a_bound(monkeypatch):
    monkeypatch.setattr(tracing, "_MOST_OPEN", 2)
    spans = [Span() for _ in range(4)]
    open_spans = tracing._Open()
    for number, span in enumerate(spans[:3]):
        open_spans.put(str(number), span)
    assert [span.ended for span in spans] == [1, 0, 0, 0], "the oldest"
    open_spans.put("2", spans[3])
    assert [span.ended for span in spans] == [1, 0, 1, 0], "one that is replaced"
    assert open_spans.take("0") is None
    assert open_spans.take("1") is spans[1]
    assert "2" in open_spans


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://"])
def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(TracingError, match="expected http"):
        start_tracing("federation-manager", "m1", endpoint, 1.0)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingError, match=r"driver-federation\[tracing\]"):
        start_tracing("federation-manager", "m1", "http://127.0.0.1:4318", 1.0)
    assert not tracing.is_on()
