"""The one place where concrete classes meet: bus, store, manager and worker become processes here."""

from federation.bootstrap.examining import (
    BrokerFacts,
    ForeignDistribution,
    check_distribution,
    examine_broker,
    examine_store,
    installed_drivers,
)
from federation.bootstrap.managers import ManagerClient, RunningManager, run_manager, value_of
from federation.bootstrap.workers import RunningWorker, default_worker_id, make_worker, prepare_worker

__all__ = [
    "BrokerFacts",
    "ForeignDistribution",
    "ManagerClient",
    "RunningManager",
    "RunningWorker",
    "check_distribution",
    "default_worker_id",
    "examine_broker",
    "examine_store",
    "installed_drivers",
    "make_worker",
    "prepare_worker",
    "run_manager",
    "value_of",
]
