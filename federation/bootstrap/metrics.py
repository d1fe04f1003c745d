"""The metrics endpoints of a manager and of a worker: what they read, and where they may listen."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from federation.bootstrap.installation import version
from federation.bootstrap.managers import RunningManager
from federation.bootstrap.workers import RunningWorker
from federation.bus.active_consumers import ActiveConsumers
from federation.observe.manager_metrics import ManagerCollector, ManagerMeter
from federation.observe.serving import Endpoint, EndpointSettings
from federation.observe.worker_metrics import WorkerCollector, WorkerIdentity, WorkerMeter
from federation.protocol.figures import ClusterFigures
from federation.worker.worker import Worker


class MetricsError(Exception):
    """Metrics cannot be served; the message says what has to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where metrics are served; ``plain`` allows no TLS beyond this machine."""

    listen: str
    certificate: str | None = None
    private_key: str | None = None
    client_ca: str | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """The broker's management API, for what only it tells."""

    broker_url: str
    url: str
    ca_file: str | None = None


def read_settings(settings: MetricsSettings) -> EndpointSettings:
    """Refuse half a certificate, and clear text beyond this machine that nobody asked for; raises MetricsError."""
    host, colon, port = settings.listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        message = f"metrics cannot be served on {settings.listen!r}, expected HOST:PORT such as 127.0.0.1:9180"
        raise MetricsError(message)
    if (settings.certificate is None) != (settings.private_key is None):
        raise MetricsError("certificate and private_key of the group metrics belong together: give both or neither")
    if settings.client_ca is not None and settings.certificate is None:
        raise MetricsError("client_ca of the group metrics needs certificate and private_key")
    if settings.certificate is None and not settings.plain and not _is_loopback(host):
        message = (
            f"{host} can be reached from elsewhere and metrics tell the names of clusters and workers: give certificate and "
            f"private_key, or set plain of the group metrics where the network is trusted"
        )
        raise MetricsError(message)
    return EndpointSettings(
        host=host,
        port=int(port),
        certificate=_file(settings.certificate),
        private_key=_file(settings.private_key),
        client_ca=_file(settings.client_ca),
    )


def serve_manager_metrics(
    running: RunningManager, settings: EndpointSettings, management: ManagementSettings | None = None
) -> Endpoint:
    """Serve a manager's metrics; raises MetricsError, or AddressError for a management URL that cannot be meant."""
    registry = CollectorRegistry()
    consumers = None
    if management is not None:
        consumers = ActiveConsumers(management.broker_url, management.url, management.ca_file)
    running.manager.results.measured_by(ManagerMeter(registry))
    registry.register(ManagerCollector(_OfManager(running, consumers)))
    return _serve(registry, settings)


def serve_worker_metrics(running: RunningWorker, settings: EndpointSettings) -> Endpoint:
    """Serve a worker's metrics; raises MetricsError."""
    worker, registry = running.worker, CollectorRegistry()
    identity = WorkerIdentity(
        version=version(),
        worker=worker.settings.worker,
        cluster=worker.settings.cluster,
        driver=worker.description.driver,
        driver_version=worker.description.driver_version,
    )
    worker.counters.meter = WorkerMeter(registry, identity)
    registry.register(WorkerCollector(_OfWorker(running, worker), identity))
    return _serve(registry, settings)


def _serve(registry: CollectorRegistry, settings: EndpointSettings) -> Endpoint:
    try:
        return Endpoint(registry, settings)
    except (OSError, ssl.SSLError) as error:
        message = f"metrics cannot be served on {settings.host} port {settings.port}: {error}"
        raise MetricsError(message) from error


def _file(path: str | None) -> Path | None:
    return Path(path) if path else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _OfManager:
    """The port ``ManagerFigures`` on a running manager."""

    def __init__(self, running: RunningManager, consumers: ActiveConsumers | None) -> None:
        self._running = running
        self._manager = running.manager
        self._consumers = consumers

    @property
    def version(self) -> str:
        """The distribution's."""
        return version()

    def counted(self) -> Mapping[str, Mapping[str, int]]:
        """Since the start."""
        failed = 0 if self._consumers is None else self._consumers.failed
        return {**self._manager.figures(), "queue_reads": {"failed": failed}}

    def gauges(self) -> Mapping[str, float]:
        """What needs no store."""
        return {
            "federation_broker_connected": self._running.link.connected,
            "federation_outbox_shards": len(self._manager.publisher.shards),
            "federation_results_waiting": self._manager.results.waiting,
        }

    def clusters(self) -> list[ClusterFigures]:
        """The load of every cluster."""
        return self._manager.measuring.figures()

    def outbox(self) -> tuple[int, float]:
        """What waits to be given to the broker."""
        return self._manager.measuring.outbox(self._manager.publisher.shards)

    def active_workers(self, clusters: Collection[str]) -> Mapping[tuple[str, int], str] | None:
        """By the broker's management API."""
        return None if self._consumers is None else self._consumers.workers(clusters)


class _OfWorker:
    """The port ``WorkerFigures`` on a running worker."""

    def __init__(self, running: RunningWorker, worker: Worker) -> None:
        self._running = running
        self._worker = worker

    def counted(self) -> Mapping[str, Any]:
        """Since the start."""
        return self._worker.counters.snapshot()

    def load(self) -> Mapping[str, float]:
        """Now."""
        return self._worker.load()

    @property
    def admitted(self) -> bool:
        """Whether a manager has admitted it."""
        return self._worker.admission is not None

    @property
    def consuming(self) -> bool:
        """Whether it consumes its partitions."""
        return self._worker.consuming

    @property
    def broker_connected(self) -> bool:
        """Whether it is connected."""
        return self._running.link.connected
