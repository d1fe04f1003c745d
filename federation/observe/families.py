"""Samples of catalogued metrics, gathered for one scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from federation.observe.catalogue import ALL, Kind


class Families:
    """Takes samples by name; a name or label that the catalogue does not have raises KeyError or ValueError."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}

    def add(self, name: str, value: float, **labels: str) -> None:
        """One sample of a gauge or a counter."""
        metric = ALL[name]
        if set(labels) != set(metric.labels):
            message = f"{name} has the labels {', '.join(metric.labels)}, not {', '.join(labels)}"
            raise ValueError(message)
        family = self._families.get(name)
        if family is None:
            kind = GaugeMetricFamily if metric.kind is Kind.GAUGE else CounterMetricFamily
            family = self._families[name] = kind(name.removesuffix("_total"), metric.meaning, labels=metric.labels)
        family.add_metric([labels[label] for label in metric.labels], value)

    def add_all(self, name: str, label: str, values: Iterable[tuple[str, float]], **labels: str) -> None:
        """Samples that differ in one label."""
        for each, value in values:
            self.add(name, value, **labels, **{label: each})

    def collect(self) -> Iterator[Metric]:
        """What was added, in order."""
        yield from self._families.values()


def histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """A catalogued histogram, registered."""
    metric = ALL[name]
    return Histogram(name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets)
