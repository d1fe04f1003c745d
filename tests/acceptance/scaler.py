"""Adds and removes the workers of one cluster by the scaling signal, as an operator's autoscaler would.

Rules: above ``high`` seconds of backlog one worker more, unless one is still coming; below ``low`` for some looks in a row, with
so few operations running that the others have slots for all of them, one less.  It reads nothing but `federation_cluster_…` of
one manager's metrics.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

CALM_LOOKS = 3


@dataclass(frozen=True)
class Look:
    """What the metrics told; `wanted` is how many workers there should be after it."""

    at: float
    backlog_seconds: float
    running: float
    slots: float
    admitted: int
    wanted: int


def read(url: str, cluster: str) -> dict[str, float]:
    """The cluster's samples by the rest of their names; `admitted` counts workers."""
    with urllib.request.urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    found = {"admitted": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("cluster") != cluster:
                continue
            if sample.name == "federation_cluster_workers" and sample.labels["state"] == "admitted":
                found["admitted"] = sample.value
            found[sample.name.removeprefix("federation_cluster_")] = sample.value
    return found


@dataclass
class Scaler:
    """`add` starts a worker, `remove` asks one to finish and leave; the caller calls `look` again and again."""

    url: str
    cluster: str
    add: Callable[[], None]
    remove: Callable[[], None]
    high: float = 2.0
    low: float = 0.5
    least: int = 1
    most: int = 4
    wanted: int = 1
    looks: list[Look] = field(default_factory=list)
    calm: int = 0

    def look(self) -> Look:
        """Read the signal once, and act on it."""
        told = read(self.url, self.cluster)
        backlog, running, slots = told["backlog_seconds"], told["running_operations"], told["slots"]
        admitted = int(told["admitted"])
        spare = admitted > 0 and running <= slots - slots / admitted
        self.calm = self.calm + 1 if backlog < self.low and spare else 0
        if admitted == self.wanted:
            if backlog > self.high and self.wanted < self.most:
                self.wanted += 1
                self.add()
            elif self.calm >= CALM_LOOKS and self.wanted > self.least:
                self.wanted -= 1
                self.calm = 0
                self.remove()
        self.looks.append(Look(time.monotonic(), backlog, running, slots, admitted, self.wanted))
        return self.looks[-1]
